"""A golden as JSON and raw numbers: the folder suffices to judge an engine as `golden check` does."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gguf_io import open_gguf
from qwen_ref import QwenRefError, load
from qwen_ref.checkpoint.fields import Fields
from qwen_ref.checkpoint.metadata import text_metadata
from qwen_ref.cli import main
from qwen_ref.config import read_config
from qwen_ref.model.trace import watching
from qwen_ref.oracle.budget import UNIT, budgets
from qwen_ref.oracle.compare import kl_budget
from qwen_ref.oracle.conformance import KIT, cases
from qwen_ref.oracle.export import export, read_raw, transformers_config
from qwen_ref.oracle.golden import load as load_golden
from qwen_ref.oracle.record import canonical, run

EXAMPLE = Path(__file__).parents[2] / "examples" / "read_golden.cpp"
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def case(name):
    (found,) = cases([name])
    return found


def files_of(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_folder_has_all_that_a_golden_has(tmp_path, capsys):
    golden = case("video").golden
    assert main(["golden", "export", str(case("video").path), "--out", str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'a'}: 79 tensors, 0.")
    (tmp_path / "b").mkdir()  # an empty folder is as good as none
    export(golden, tmp_path / "b")
    files = files_of(tmp_path / "a")
    assert files == files_of(tmp_path / "b")
    assert (tmp_path / "a").stat().st_mode == tmp_path.joinpath("a", "tensors").stat().st_mode

    head = json.loads(files["golden.json"])
    assert head["about"] == golden.about and head["about"]["media"][0]["timestamps"] == [0.3, 1.5, 2.4]
    P, T = head["prompt_tokens"], len(head["token_ids"])
    for name in "token_ids", "positions":
        assert head[name] == golden.inputs[name].tolist()
        assert np.frombuffer(files[f"{name}.i32"], "<i4").tolist() == golden.inputs[name].ravel().tolist()
    assert head["video_grid_thw"] == golden.inputs["video_grid_thw"].tolist()

    exact = golden.inputs["top_logits"] - golden.inputs["log_total"][:, None]
    best = head["logprobs"]
    assert best["first"] == P - 1 and best["ids"] == golden.inputs["top_ids"][P - 1 :].tolist()
    assert np.array_equal(best["values"], exact[P - 1 :]) and len(best["values"]) == T - P + 1
    assert (
        best["budgets"]["int8"]["max"] == 4 * kl_budget(golden, "int8") == 4 * best["budgets"]["int8"]["mean"]
    )

    assert list(head["tensors"]) == list(golden.entries)
    for kind in UNIT:
        lines = [line.split() for line in files[f"{kind}.txt"].decode().splitlines()]
        for (name, rows, columns, stride, *pair), told in zip(lines, head["tensors"].items(), strict=True):
            entry = golden.entries[name]
            assert told[0] == name and told[1]["shape"] == list(entry.shape) and told[1]["dtype"] == "float64"
            assert (int(rows), int(columns), int(stride)) == (
                entry.shape[0],
                np.prod(entry.shape[1:]),
                entry.stride,
            )
            assert (
                tuple(map(float, pair[:2]))
                == budgets(entry, kind)
                == tuple(told[1]["budgets"][kind].values())
            )
            assert list(map(int, pair[2:])) == entry.rows == told[1]["rows"]
            assert np.array_equal(np.frombuffer(files[told[1]["file"]], "<f8"), golden.values[name].ravel())


def test_a_folder_that_is_not_empty_stays_as_it_is(tmp_path, capsys):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    golden = str(case("length-1").path)
    for name, problem in (
        ("there", "the folder is not empty"),
        ("file", "it is not a folder"),
        ("no/such", "No such"),
    ):
        assert main(["golden", "export", golden, "--out", str(tmp_path / name)]) == 2
        assert f"{tmp_path / name}: cannot be written: {problem}" in capsys.readouterr().err
    odd = case("length-1").golden
    odd.entries["../x"] = next(iter(odd.entries.values()))
    with pytest.raises(QwenRefError, match=r"^'\.\./x': no file can be named after this tensor$"):
        export(odd, tmp_path / "out")
    assert sorted(files_of(tmp_path)) == ["file", "there/mine"]


@pytest.mark.parametrize("model", ["plain", "grouped", "yarn", "mtp"])
def test_the_configuration_is_one_of_transformers(model):
    """Read as a config.json it is the same again."""
    file = open_gguf(KIT / f"{model}.gguf")
    config = read_config(file)
    text = Fields(Path("config.json"), transformers_config(config))
    metadata, _ = text_metadata(text, Path("folder"))
    again = read_config(SimpleNamespace(path=Path("folder"), metadata=metadata, tensors=file.tensors))
    assert replace(again, name=config.name) == config
    text.check_rest({}, {"mtp_num_hidden_layers", "vocab_size"})


# ---- an engine's dump as raw numbers


GROUPED = case("grouped")  # two V heads to a K head
EMPTY = "layers.0.linear_attn.g"  # of which the golden in the reader's test keeps nothing
STATE = "layers.0.linear_attn.state"


@pytest.fixture(scope="module")
def taps():
    """What our model computes in float32, of all tokens, as it has it: V heads in GGUF's order."""
    network = load(GROUPED.model, dtype=np.float32, backend="numpy")
    prompt = network.encode_prompt(GROUPED.text, raw=True)
    prompt.token_ids.extend(GROUPED.steps)
    found = {}
    _, hidden = run(network, prompt, found.__setitem__)
    with watching(found.__setitem__):
        network.text.logits(hidden)
    return found


@pytest.fixture(scope="module")
def found(taps):
    return {name: canonical(name, x, GROUPED.golden.config) for name, x in taps.items()}


def write_raw(folder, tensors):
    folder.mkdir()
    for name, x in tensors.items():
        x.astype("<f4").tofile(folder / f"{name}.f32")
    return folder


def test_a_folder_of_raw_numbers_is_a_dump(taps, found, tmp_path, capsys):
    def check(dump, *options):
        return main(["golden", "check", str(GROUPED.path), str(dump), *options])

    dump = write_raw(tmp_path / "all", found)
    assert check(dump) == 0
    assert "All 47 tensors that were compared" in capsys.readouterr().out
    assert (
        check(write_raw(tmp_path / "tiled", {"layers.0.linear_attn.o": taps["layers.0.linear_attn.o"]})) == 1
    )
    assert check(tmp_path / "tiled", "--tiled") == 3

    # what an engine says beside, and its logits of the prompt's last token and of the steps alone
    ends = write_raw(tmp_path / "ends", {"logits": found["logits"][GROUPED.prompt_tokens - 1 :]})
    np.array(GROUPED.token_ids, "<i4").tofile(ends / "token_ids.i32")
    GROUPED.golden.inputs["positions"].astype("<i8").tofile(ends / "positions.i64")
    np.array([8], "<i4").tofile(ends / "steps.i32")
    (ends / "log.txt").write_text("nothing of use")
    (ends / "nrom.f32").write_text("abcd")
    capsys.readouterr()
    assert check(ends) == 0
    printed = capsys.readouterr().out
    assert "decoding: 8 steps" in printed and "does not have them: log.txt, nrom" in printed

    (ends / "norm.f32").symlink_to("nowhere")
    assert check(ends) == 2
    assert "norm.f32: cannot be read: No such file" in capsys.readouterr().err
    (ends / "norm.f32").unlink()
    (ends / "norm.f32").write_bytes(b"abcde")
    assert check(ends) == 2
    assert f"{ends / 'norm.f32'}: 5 bytes are not those of float32 numbers" in capsys.readouterr().err
    found["norm"][1:, 1:].astype("<f4").tofile(ends / "norm.f32")
    assert read_raw(ends, GROUPED.golden)["norm"].ndim == 1
    assert check(ends) == 1
    assert "norm: shape (2387,) should be (78, 32)" in capsys.readouterr().out


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """The example in C++, compiled; and the golden that it reads."""
    if COMPILER is None:
        pytest.skip("there is no C++ compiler")
    folder = tmp_path_factory.mktemp("reader")
    program, exported = folder / "read_golden", folder / "grouped"
    strict = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run([COMPILER, *strict, "-o", program, EXAMPLE], check=True)
    golden = load_golden(GROUPED.path)
    golden.entries[EMPTY].rows, golden.values[EMPTY] = [], np.empty((0, 4))  # as some --rows leave it
    export(golden, exported)
    return lambda *arguments: subprocess.run([program, exported, *arguments], capture_output=True, text=True)


def with_nan(x):
    return np.where(np.arange(x.size).reshape(x.shape) == 0, np.nan, x)


# name -> the arithmetic that is allowed, and how tensors are changed
DUMPS = {
    "honest": ("float32", {}),
    "bfloat16": ("bfloat16", {"norm": lambda x: x * (1 + 2.0**-9)}),
    "the same in float32": ("float32", {"norm": lambda x: x * (1 + 2.0**-9)}),
    "heads read in the other order": ("bfloat16", {"layers.0.linear_attn.o": lambda x: x[:, [0, 2, 1, 3]]}),
    "state transposed": ("int8", {STATE: lambda x: x.swapaxes(1, 2)}),
    "not a number": ("int8", {"layers.1.output": with_nan}),
    "another size": ("int8", {"layers.1.output": lambda x: x[:, 1:]}),
    "no logits": ("float32", {"logits": lambda x: x[:0]}),
}


@pytest.mark.parametrize("dump", DUMPS)
def test_the_example_in_cpp_says_what_check_says(reader, found, tmp_path, capsys, dump):
    allowed, changed = DUMPS[dump]
    folder = write_raw(
        tmp_path / "dump", found | {name: change(found[name]) for name, change in changed.items()}
    )
    for file in folder.glob("*"):
        if file.stat().st_size == 0:
            file.unlink()
    status = main(["golden", "check", str(GROUPED.path), str(folder), "--allow", allowed, "--json"])
    report = json.loads(capsys.readouterr().out)
    said = reader(folder, allowed)
    assert (said.returncode, said.stderr) == (status, "")
    assert said.stdout.startswith(report["verdict"])
    if status == 1:
        assert said.stdout.startswith(f"wrong: {report['complaint'].split()[0].removesuffix(':')}, ")


def test_the_example_in_cpp_takes_the_last_rows_alone(reader, found, tmp_path):
    right = write_raw(tmp_path / "right", {"logits": found["logits"][-3:]})
    assert (reader(right, "float32").returncode, reader(right, "float64").returncode) == (0, 1)
    wrong = write_raw(tmp_path / "wrong", {"logits": found["logits"][-4:-1]})
    assert reader(wrong, "int8").stdout.startswith("wrong: logits, ")
    more = write_raw(tmp_path / "more", {"logits": np.tile(found["logits"], (2, 1))})
    assert reader(more, "int8").stdout.startswith("wrong: logits, inf times")


def test_the_example_in_cpp_says_what_cannot_be_used(reader, tmp_path):
    for arguments, said in ([], "usage: "), ([tmp_path, "float8"], "float8.txt: cannot be read"):
        ran = reader(*arguments)
        assert ran.returncode == 2 and said in ran.stderr
    assert reader(tmp_path, "float32").returncode == 2  # no tensor was given
