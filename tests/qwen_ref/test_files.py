"""Files that users name: what is read, what is refused, and what is left when writing fails."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from qwen_ref import QwenRefError, files
from qwen_ref.cli.options import memory_of, to_json


def test_what_is_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes("a\r\nGröße\n\n".encode())
    assert files.read_text(path) == files.read_text(str(path)) == "a\r\nGröße\n\n"
    assert files.read_bytes(path) == path.read_bytes() and files.regular_file(str(path)) == path
    path.write_bytes('{"ü": [1.5, null]}'.encode())
    assert files.read_json(path) == {"ü": [1.5, None]}


@pytest.mark.parametrize(
    "read, data, sentence",
    [
        (files.read_text, b"ab\xffcd", "file: byte 2 is not UTF-8 text"),
        (files.read_json, b"[1, 2", r"file: is not JSON \(Expecting"),
        (files.read_json, b"[" * 100_000, r"file: is not JSON \(maximum recursion"),
        (files.read_bytes, None, "file: cannot be read: No such file or directory"),
        (files.read_bytes, os.mkdir, "file: is a folder"),
        (files.read_bytes, os.mkfifo, "file: is not a regular file"),
    ],
)
def test_what_cannot_be_read(tmp_path, read, data, sentence):
    path = tmp_path / "file"
    if callable(data):
        data(path)
    elif data is not None:
        path.write_bytes(data)
    with pytest.raises(QwenRefError, match=sentence):
        read(path)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    """Which root may, so that it is made to fail."""
    (tmp_path / "file").touch()

    def refused(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(QwenRefError, match=r"file: cannot be read: Permission denied$"):
        files.read_bytes(tmp_path / "file")


def test_paths_are_told_as_they_were_given():
    for path, sentence in (
        ("", "'': "),
        ("http://a/b", "http://a/b: "),
        ("a\0b", "a\0b: cannot be read: embedded"),
    ):
        with pytest.raises(QwenRefError, match=f"^{sentence}"):
            files.regular_file(path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """In its own folder, since it cannot be moved from another disk; whatever ends the writing."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    path = tmp_path / "file.png"
    path.write_bytes(b"old")
    for error in RuntimeError, KeyboardInterrupt, OSError(28, "No space left"):
        with pytest.raises((RuntimeError, KeyboardInterrupt, QwenRefError)), files.write_whole(path) as file:
            file.write(b"half")
            assert file.name.endswith(".png")
            raise error
        assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])
    with files.write_whole(str(path)) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder"
    for error in RuntimeError, KeyboardInterrupt, OSError(28, "No space left"):
        with (
            pytest.raises((RuntimeError, KeyboardInterrupt, QwenRefError)),
            files.write_folder(path) as folder,
        ):
            (folder / "half").mkdir()
            raise error
        assert list(tmp_path.iterdir()) == []
    with files.write_folder(path) as folder:
        (folder / "file").write_bytes(b"new")
        assert not path.exists()
    assert (path / "file").read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_what_a_link_points_to_is_replaced(tmp_path):
    link, there = tmp_path / "link", tmp_path / "there"
    link.symlink_to(there.name)
    for _ in range(2):  # first a dangling one
        with files.write_whole(link) as file:
            file.write(b"new")
        assert link.is_symlink() and there.read_bytes() == b"new"
        there.write_bytes(b"old")


@pytest.mark.parametrize("number", [1, 2])
def test_where_output_goes_nothing_is_replaced(tmp_path, number):
    """By that name or by another; and it has what it had."""
    log = tmp_path / "log"
    program = (
        "import sys; from qwen_ref.files import write_whole; from qwen_ref.cli.evaluate import lines_to\n"
        "for way in write_whole, lines_to:\n"
        "    try: way(sys.argv[1]).__enter__()\n"
        "    except Exception as error: print(error, file=(sys.stdout, sys.stderr)[int(sys.argv[2]) - 1])\n"
    )
    for name in f"/dev/fd/{number}", str(log):
        log.write_text("before\n")
        with open(log, "a") as file:
            output = {("stdout", "stderr")[number - 1]: file}
            subprocess.run([sys.executable, "-c", program, name, str(number)], **output, check=True)
        said = f"{name}: cannot be written: what is printed goes there\n"
        assert log.read_text() == "before\n" + 2 * said


@pytest.mark.parametrize("mask", [0o022, 0o077, 0])
def test_a_file_is_readable_as_any_other(tmp_path, mask):
    path = tmp_path / "file"
    before = os.umask(mask)
    try:
        with files.write_whole(path), files.write_folder(tmp_path / "folder"):
            pass
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
        assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~mask
        assert os.umask(mask) == mask  # it is as it was
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    "make, sentence",
    [
        (os.mkdir, "file: cannot be written: it is a folder"),
        (os.mkfifo, "file: cannot be written: it is not a regular file"),
        (lambda path: os.symlink("/dev/null", path), "file: cannot be written: it is not a regular file"),
        (lambda path: os.symlink(f"/dev/fd/{os.pipe()[1]}", path), "it is not a regular file"),
    ],
)
def test_what_is_no_file_is_not_replaced(tmp_path, make, sentence):
    make(path := tmp_path / "file")
    kind = os.stat(path).st_mode
    with pytest.raises(QwenRefError, match=sentence), files.write_whole(path):
        pass
    assert os.stat(path).st_mode == kind
    with (
        pytest.raises(QwenRefError, match="none/file: cannot be written: No such"),
        files.write_whole(tmp_path / "none" / "file"),
    ):
        pass


# ---- what commands have in common


def test_gib_are_1024_mib():
    assert (memory_of(0.5), memory_of(0), memory_of(None)) == (512 << 20, 0, None)
    for gib in -0.1, 2.0**20, np.nan, np.inf:
        with pytest.raises(QwenRefError, match=r"--memory: .* is not in 0 to 1048576 GiB"):
            memory_of(gib)


def test_json_has_no_nan():
    assert to_json({"a": [np.nan, -np.inf, 1.5], "b": "NaN"}) == '{"a": [null, null, 1.5], "b": "NaN"}'
    assert to_json([1], 1) == "[\n 1\n]"
