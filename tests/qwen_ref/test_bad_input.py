"""Input that cannot be used, as a user meets it: one sentence on stderr that names it, and status 2."""

import errno
import json
import logging
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from qwen_ref import load, shipped
from qwen_ref.cli import generate, main
from qwen_ref.errors import tell
from qwen_ref.oracle import golden

COMMAND = [sys.executable, "-m", "qwen_ref"]
MODEL = Path(__file__).parents[1] / "fixtures" / "tiny-grouped.gguf"
RECORD = ["record", "--model", MODEL, "--out", "out.safetensors"]
HELLO = [*RECORD, "--raw", "--prompt", "Hello"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / "golden.safetensors"
    arguments = ["golden", *HELLO, "--generate", 0, "--out", path]
    assert main(list(map(str, arguments))) == 0
    return path


@pytest.fixture
def folder(recorded, tmp_path, monkeypatch):
    """The current one, with a golden and all that is refused."""
    monkeypatch.chdir(tmp_path)
    Path("golden.safetensors").write_bytes(recorded.read_bytes())
    os.mkfifo("pipe")
    os.mkfifo("pipe.txt")
    Path("deep.json").write_text("[" * 100_000)
    Path("tools.json").write_text('{"messages": [{"role": "user", "content": "x"}], "tools": 5}')
    nested = "[" * 900 + "]" * 900
    Path("nested.json").write_text(f'[{{"role": "user", "content": {nested}}}]')
    Path("null.json").write_text('[{"role": "user", "content": [{"type": "image", "image": "a\\u0000"}]}]')
    return tmp_path


CASES = [
    *(([*HELLO, "--memory", gib], f"--memory: {float(gib)} is not in 0 to") for gib in ("nan", "inf", "-1")),
    ([*HELLO, "--generate", 99_999_999_999], "generate: 99999999999 tokens and the prompt's"),
    ([*HELLO, "--generate", -1], "generate: -1 is less than 0"),
    ([*HELLO, "--generate", 0, "--rows", "99,98"], "rows: there are"),
    ([*HELLO, "--columns", -1], "columns: -1 is less than 1"),
    ([*HELLO, "--top", 1], "top: 1 is less than 2"),
    ([*RECORD, "--messages", "tools.json"], "tools.json: tools: 5 is no list of objects"),
    ([*RECORD, "--messages", "deep.json"], "deep.json: is not JSON (maximum recursion depth"),
    ([*RECORD, "--messages", "nested.json"], "message 1: content: part 1: is a list"),
    ([*RECORD, "--messages", "null.json"], "cannot be read: embedded null"),
    ([*RECORD, "--messages", "pipe"], "pipe: is not a regular file"),
    (["check", "golden.safetensors", "pipe"], "pipe: is not a regular file"),
    (["check", "golden.safetensors", "pipe.txt"], "pipe.txt: is not a regular file"),
    (["check", "golden.safetensors", "."], ".: has no file like rope.angle.f32, a tensor of"),
    (["check", "golden.safetensors", "none.npz"], "none.npz: cannot be read: No such file"),
    (["compare", "golden.safetensors", "/dev/zero"], "/dev/zero: is not a regular file"),
    (["show", "pipe"], "pipe: is not a regular file"),
    (
        ["check", "golden.safetensors", "golden.safetensors", "--html", "pipe"],
        "pipe: cannot be written: it is not a regular file",
    ),
]
SHIPPED = ["--prompt", "x", "--model", shipped.MODEL]
OTHERS = [
    (["perplexity", "--text", "pipe"], "pipe: is not a regular file"),
    (["perplexity", "--base", "pipe"], "pipe: is not a regular file"),
    (["generate", "--prompt-file", "pipe"], "pipe: is not a regular file"),
    (["generate", *SHIPPED, "--image", ""], "is empty"),
    (["generate", *SHIPPED, "--video", ""], "is empty"),
    (["generate", "--prompt", "x", "--model", ""], "argument --model: is empty"),
    (["generate", *SHIPPED, "--image", "https://a/b.png"], "https://a/b.png: a picture is not fetched"),
    (["generate", *SHIPPED, "--image", "data:image/png;base64,!!!!"], "the data URI: its base64 is damaged"),
    (["generate", "--prompt", "x", "--model", MODEL, "--memory", "nan"], "--memory: nan is not in 0 to"),
    (
        ["generate", "--prompt", "x", "--model", MODEL, "--backend", "numpy", "--threads", -5],
        "threads: -5 is not a whole number in 1 to",
    ),
]


@pytest.mark.parametrize(
    "arguments, words", [(["golden", *line], words) for line, words in CASES] + OTHERS, ids=str
)
def test_one_sentence_and_status_2(folder, capsys, arguments, words):
    assert main(list(map(str, arguments))) == 2
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and out == "" and not Path("out.safetensors").exists()


def typed(data, **types):
    """A safetensors file whose header gives a tensor another type of as many bytes."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    for name, kind in types.items():
        header[name]["dtype"] = kind
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def test_tensors_of_other_types_do_not_matter_unless_they_are_needed(folder, capsys):
    values = golden.load("golden.safetensors").values
    tensors = {"norm": values["norm"], "mask": np.zeros(3, np.uint8), "logits": np.zeros(3, np.uint8)}
    others = {name: x for name, x in tensors.items() if name != "logits"}
    for kind in "BOOL", "F8_E4M3":
        Path("dump.safetensors").write_bytes(typed(save(others), mask=kind))
        assert main(["golden", "check", "golden.safetensors", "dump.safetensors"]) == 3
        Path("dump.safetensors").write_bytes(typed(save(tensors), mask=kind, logits=kind))
        assert main(["golden", "check", "golden.safetensors", "dump.safetensors"]) == 2
        assert f"dump.safetensors: logits: type {kind} cannot be read" in capsys.readouterr().err
    np.savez("dump.npz", norm=values["norm"], mask=np.array([None]))
    assert main(["golden", "check", "golden.safetensors", "dump.npz"]) == 3
    save_file({"norm": values["norm"], "layers.9.output": np.zeros(3)}, "dump.safetensors")
    assert main(["golden", "check", "golden.safetensors", "dump.safetensors"]) == 1
    assert "layers.9.output: the model has 4 layers" in capsys.readouterr().out


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e300])
def test_a_report_is_json_whatever_was_dumped(folder, capsys, value):
    """Warnings are errors here."""
    found = golden.load("golden.safetensors")
    save_file({name: np.full_like(x, value) for name, x in found.values.items()}, "dump.safetensors")
    assert main(["golden", "check", "golden.safetensors", "dump.safetensors", "--json"]) == 1

    def refuse(constant):
        raise AssertionError(constant)

    report = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert report["first"]["name"] == "embed_tokens" or report["first"]["name"].startswith("rope.")
    assert main(["golden", "check", "golden.safetensors", "dump.safetensors", "--html", "page.html"]) == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("generate --seed 1.5 --prompt x", "argument --seed: invalid int value: '1.5'; "),
        (
            "generate --prompt x --prompt-file y",
            "argument --prompt-file: not allowed with argument --prompt; ",
        ),
        ("generate --prompt x --fps 1 --image y", "--fps: there is no --video"),
        ("generate --prompt x --draw z.png --video y", "--draw: there is no --image"),
        ("generate --prompt x --transparency drop", "--transparency: there is no --image or --video"),
        ("generate --prompt x --frame-times 1 --image y", "--frame-times: there is no --video"),
        ("generate --prompt x --frame-times 1,y --video z", "argument --frame-times: '1,y' is not seconds"),
        (
            "generate --prompt x --frame-times 1,2 --fps 1 --video z",
            "--fps: does nothing beside --frame-times",
        ),
        ("generate --prompt x --frame-times 1 --video y --video z", "--frame-times: they are those of one"),
        ("generate --prompt x --greedy --top-k 0", "--top-k: --greedy takes the likeliest token"),
        ("generate --prompt x --thinking --no-thinking", "argument --no-thinking: not allowed with argument"),
        ("golden record --no-thinking --thinking", "argument --thinking: not allowed with argument"),
        ("generate --prompt x --special", "--special: it says how to read a --raw prompt"),
        ("generate --bogus", "unrecognized arguments: --bogus; "),
        ("golden check golden.safetensors golden.safetensors --allow int4", "allowed: 'int4' is not one of "),
    ],
)
def test_options_that_cannot_be_used(folder, capsys, arguments, words):
    assert main(arguments.split()) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith(f"qwen_ref: {words}")


@pytest.mark.parametrize(
    "redirected, command, words",
    [
        (">/dev/full", "qwen_ref golden show golden.safetensors", "standard output: No space left on device"),
        (">&-", "qwen_ref golden show golden.safetensors", "standard output is closed"),
        ("<&-", "qwen_ref generate --prompt -", "standard input is closed"),
        ("<&-", "qwen_ref generate", "no prompt: give --prompt, --prompt-file, or text on standard input"),
        (">/dev/full", f"gguf_io {MODEL}", "standard output: No space left on device"),
        (">&-", f"gguf_io {MODEL}", "standard output is closed"),
    ],
)
def test_streams_that_lead_nowhere(folder, redirected, command, words):
    # An emulator's own file may take the place of a closed one: QEMU's does.
    if "&-" in redirected and platform.machine() != "x86_64":
        number = 0 if redirected[0] == "<" else 1
        probe = f'exec "$0" -c "import os; os.fstat({number})" {redirected} 2> /dev/null'
        if subprocess.run(["sh", "-c", probe, sys.executable], timeout=150).returncode == 0:
            pytest.skip("this system gives a program something else in place of a closed file")
    line = f'exec "$0" -m {command} {redirected}'
    done = subprocess.run(["sh", "-c", line, sys.executable], stderr=subprocess.PIPE, text=True, timeout=150)
    assert (done.returncode, done.stderr) == (2, f"{command.split()[0]}: {words}\n")


def test_a_warning_is_given_once_as_it_stands(caplog):
    for _ in range(2):
        tell("x: 100 %d of it")
    assert caplog.record_tuples == [("qwen_ref", logging.WARNING, "x: 100 %d of it")]


def test_an_answer_without_standard_error(folder):
    line = f'exec "$0" -m qwen_ref generate --model {MODEL} --raw --greedy --prompt x -n 5 2>&-'
    done = subprocess.run(["sh", "-c", line, sys.executable], stdout=subprocess.PIPE, timeout=150)
    assert done.returncode == 0 and done.stdout.endswith(b"\n")


def test_output_in_an_encoding_without_the_letters():
    def run(*arguments):
        environment = os.environ | {"PYTHONIOENCODING": "ascii"}
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)
        assert done.returncode == 0
        return done.stdout

    tokens = json.loads(run("gguf_io", MODEL, "--key", "tokenizer.ggml.tokens"))
    assert not "".join(tokens).isascii()
    assert "1,024 \\xd7 64" in run("gguf_io", MODEL)
    text = "".join(load(MODEL).generate("Größe", raw=True, temperature=0, presence_penalty=0, max_tokens=60))
    assert not text.isascii()  # or nothing was tried
    generate = "qwen_ref", "generate", "--model", MODEL, "--raw", "--greedy", "-n", "60", "--prompt", "Größe"
    assert run(*generate) == text.encode("ascii", "backslashreplace").decode() + "\n"


def test_ctrl_c_while_modules_load(tmp_path):
    """One of them takes its time, and is interrupted. (What `import qwen_ref` loads is loaded too early.)"""
    early = "import sys, __future__; before = {*sys.modules}; import qwen_ref; print({*sys.modules} - before)"
    assert subprocess.check_output([*COMMAND[:1], "-c", early]) == b"{'qwen_ref'}\n"
    (tmp_path / "argparse.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*COMMAND, "--help"], env=environment, text=True, **pipes) as process:
        assert process.stdout.readline() == "here\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
    assert process.returncode == 130


def test_the_locale_c(tmp_path):
    """Python has arguments as bytes there: a prompt is UTF-8 all the same, a path is printed as typed."""
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"}
    model = tmp_path / "größe.gguf"
    model.write_bytes(MODEL.read_bytes())
    generate = [*COMMAND, *"generate --raw --greedy -n 3 --json --prompt Größe --model".split()]

    def run(path, environment):
        return subprocess.run([*generate, path], env=environment, capture_output=True, timeout=150)

    told = json.loads(run(model, environment).stdout)
    assert told["prompt_token_ids"] == load(model).encode_prompt("Größe", raw=True).token_ids
    nowhere = os.fsencode(tmp_path) + b"/\xff.gguf"  # UTF-8 in no locale
    for name, variables in (tmp_path / "größer.gguf", environment), (nowhere, environment), (nowhere, None):
        assert os.fsencode(name) + b": cannot be opened: No such file" in run(name, variables).stderr


@pytest.mark.parametrize(
    "error, words",
    [
        (MemoryError(), "not enough memory: an allocation failed; "),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory: an allocation failed; "),
        (OSError("libx.so.1: cannot map"), "libx.so.1: cannot map\n"),
        (OSError(errno.EMFILE, "Too many open files", "a.png"), "a.png: Too many open files\n"),
    ],
)
def test_what_the_system_refuses(monkeypatch, capsys, error, words):
    def refuse(args):
        raise error

    monkeypatch.setattr(generate, "run", refuse)
    assert main(["generate", "--prompt", "x"]) == 2
    assert capsys.readouterr().err.startswith(f"qwen_ref: {words}")
