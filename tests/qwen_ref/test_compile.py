"""Where compiled kernels are kept, and what is told where they cannot be."""

import os
import subprocess
import sys

import numpy as np
import pytest

from qwen_ref import QwenRefError, load
from qwen_ref.kernels import compile


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A directory of its own, empty."""
    monkeypatch.setattr(compile, "CACHE_DIRECTORY", tmp_path)
    return tmp_path


def double_of(x, monkeypatch):
    """x twice, by a kernel as a new process has it, and whether it was compiled."""

    @compile.kernel()
    def double(x):
        return x + x

    told = []
    monkeypatch.setattr(compile, "announce", lambda: told.append("compiling"))
    return double(x), bool(told)


def test_a_kernel_is_compiled_once_for_each_signature(cache, monkeypatch):
    assert double_of(2, monkeypatch) == (4, True)
    assert double_of(3, monkeypatch) == (6, False)
    assert double_of(0.5, monkeypatch) == (1.0, True)
    assert len(list(cache.glob("*.double-*"))) == 2


def test_what_a_full_disk_or_a_power_cut_left_is_compiled_anew(cache, monkeypatch):
    double_of(2, monkeypatch)
    (file,) = cache.glob("*.double-*")
    whole = file.read_bytes()
    for left in whole[:-100], b"", bytes(len(whole)):
        file.write_bytes(left)
        assert double_of(2, monkeypatch) == (4, True) and double_of(2, monkeypatch) == (4, False)


def test_a_kernel_within_another_is_compiled_for_python_when_it_is_called_from_there(cache):
    @compile.kernel()
    def inner(x, out):
        out[0] = x + 1

    @compile.kernel()
    def outer(x, out):
        inner(x, out)
        out[0] *= 2

    def kept():
        return sorted(path.name.split(".")[-1].split("-")[0] for path in cache.glob("*test_compile*"))

    out = np.zeros(1, int)
    outer(1, out)
    assert out[0] == 4 and kept() == ["outer"]
    inner(1, out)
    assert out[0] == 2 and kept() == ["inner", "outer"]

    @compile.kernel()
    def by_address(address, x, out):
        compile.call(address, (x, out))

    by_address(compile.address(inner, 5, out), 5, out)
    assert out[0] == 6


def test_what_was_kept_can_become_a_part_of_another(cache):
    """Then what LLVM needs of it for that, too, comes from the file."""

    def one_more(x):
        return x + 1

    compile.kernel()(one_more)(1)
    kept = compile.kernel()(one_more)
    compile.announce = fail = lambda: pytest.fail("it was compiled")
    try:
        assert kept(1) == 2 and fail
    finally:
        compile.announce = None

    @compile.kernel()
    def twice(x):
        return 2 * kept(x)

    assert twice(1) == 4


# What only compiling, encoding, pictures, clips, goldens or serving need: tens of MB together.
SELDOM = "numba.np.linalg numba.typed.dictobject tokenizers PIL imageio av safetensors qwen_ref.serve"
SELDOM += (
    " qwen_ref.media.media qwen_ref.oracle.conformance qwen_ref.oracle.golden qwen_ref.inspect.page gguf"
)
ANSWER = """
import sys
from qwen_ref.cli import main
main(["generate", "--model", sys.argv[1], "--prompt", "Hi", "-n", "2"])
print(*sys.modules, sep="\\n", file=sys.stderr)
"""


def test_what_an_answer_does_not_need_is_not_in_memory(fixtures):
    list(load(fixtures / "tiny.gguf").generate("Hi", max_tokens=2))  # kernels may be compiled
    done = subprocess.run(
        [sys.executable, "-c", ANSWER, fixtures / "tiny.gguf"], capture_output=True, text=True, check=True
    )
    assert not {*SELDOM.split()} & {*done.stderr.split()}


def test_a_full_disk_is_told_once(cache, monkeypatch, caplog):
    def full(path):
        raise QwenRefError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(compile, "write_whole", full)
    assert double_of(2, monkeypatch) == (4, True) and double_of(0.5, monkeypatch) == (1.0, True)
    (record,) = caplog.records
    assert record.message.startswith(f"{cache}/test_compile.double_of.<locals>.double-")
    assert "No space left on device, so kernels are compiled at each start" in record.message


def test_a_cache_that_cannot_be_made_is_told(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compile._cache_directory() is None
    assert f"{tmp_path}/file/qwen_ref" in caplog.text and "Not a directory, so kernels are" in caplog.text
    monkeypatch.delenv("XDG_CACHE_HOME")

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(compile.Path, "home", nobody)
    assert compile._cache_directory() is None and "there is no home folder, so kernels" in caplog.text


def test_of_other_versions_the_two_newest_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = tmp_path / "qwen_ref"
    for age, name in enumerate(["kernels-b", "kernels-d", "kernels-a", "kernels-c"]):
        (root / name).mkdir(parents=True)
        os.utime(root / name, (1e9 - age, 1e9 - age))
    ours = compile._cache_directory()
    assert {*root.iterdir()} == {ours, root / "kernels-b", root / "kernels-d"}
