"""The engine and the command line, as a user meets them."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

from qwen_ref import QwenRefError, load
from qwen_ref.kernels.compile import THREADING_LAYER
from qwen_ref.model.text import TextModel
from qwen_ref.prompt import Prompt


@pytest.fixture(scope="module")
def model(fixtures):
    return load(fixtures / "tiny.gguf")


COMMAND = [sys.executable, "-m", "qwen_ref", "generate"]
ENDLESS = ["--raw", "--greedy", "--prompt", "Once upon a time"]  # runs to its 32,768 tokens


def run(*args, **options):
    command = [sys.executable, "-m", "qwen_ref", "generate", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=150, **options)


def test_greedy_is_the_likeliest_token_each_time(model, fixtures):
    """Token by token in the engine, all at once here."""
    generation = model.generate(
        "Once upon a time", raw=True, max_tokens=12, temperature=0, presence_penalty=0
    )
    text = "".join(generation)
    ids = generation.prompt_ids + generation.token_ids
    logits = model.text.forward(ids, model.text.new_state())[:, : len(model.tokenizer)]
    assert generation.token_ids == logits[len(generation.prompt_ids) - 1 : -1].argmax(axis=1).tolist()
    assert text == generation.text == model.tokenizer.decode(generation.token_ids)
    assert generation.finish_reason == "length"


def test_a_seed_repeats_and_another_differs(model):
    first, again, other = ("".join(model.generate("Hi", max_tokens=20, seed=s)) for s in (1, 1, 2))
    assert first == again != other


def test_a_stop_string_ends_the_text_before_it(model):
    full = "".join(model.generate("Hi", max_tokens=40, seed=3))
    for start in 3, 10:
        stop = full[start : start + 4]
        generation = model.generate("Hi", max_tokens=40, seed=3, stop=["never", stop])
        assert "".join(generation) == full[: full.index(stop)] == generation.text
        assert generation.finish_reason == "stop"
    assert "".join(model.generate("Hi", max_tokens=40, seed=3, stop=stop)) == full[: full.index(stop)]
    unfinished = full[-3:] + "more"  # its beginning ends the text: held back, then given after all
    assert "".join(model.generate("Hi", max_tokens=40, seed=3, stop=[unfinished])) == full


def test_the_end_token_ends_the_answer(model, monkeypatch):
    end = model.tokenizer.ids["<|im_end|>"]
    monkeypatch.setattr(TextModel, "logits", lambda self, hidden: 99 * np.eye(1, self.config.vocab_size, end))
    generation = model.generate("Hi", max_tokens=40)
    assert list(generation) == [] and generation.token_ids == [] and generation.finish_reason == "stop"


def test_generation_stops_when_the_context_is_full(fixtures):
    model = load(fixtures / "tiny.gguf", context=40)
    generation = model.generate("Hi", raw=True, temperature=0, presence_penalty=0)
    list(generation)
    assert (
        len(generation.prompt_ids) + len(generation.token_ids) == 40 and generation.finish_reason == "length"
    )


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(prompt="", raw=True), "the prompt: is empty"),
        (dict(prompt={"role": "user", "content": "x"}), "the prompt: a dict is no text or list of messages"),
        (dict(prompt="x" * 400, raw=True), "leave no room"),
        (dict(prompt="x", max_tokens=0), "max_tokens: 0"),
        (dict(prompt="x", max_tokens=5.0), "max_tokens: 5.0"),
        (dict(prompt="x", stop=[""]), "stop"),
        (dict(prompt="x", stop=[7]), "stop: .*7"),
        (dict(prompt="x", stop=7), "stop: 7 is no text"),
        (dict(prompt="x", images="a.png"), "images: give a list"),
        (dict(prompt=Prompt([1]), thinking=False), "thinking: the prompt is encoded"),
        (dict(prompt="x", top_k=20.0), "top_k: 20.0 is not a whole number"),
        (dict(prompt="x", min_p="0"), "min_p: '0' is not a number"),
        (dict(prompt="x", raw=True, system="y"), "raw"),
        (dict(prompt="x", temperature=-1), "temperature: -1"),
        (dict(prompt="x", colour=1), "colour"),
    ],
)
def test_requests_that_make_no_sense(fixtures, options, words):
    with pytest.raises(QwenRefError, match=words):
        load(fixtures / "tiny.gguf", context=100).generate(**options)


def test_a_dtype_that_is_none(fixtures):
    with pytest.raises(QwenRefError, match="dtype: 'float32' is not numpy"):
        load(fixtures / "tiny.gguf", dtype="float32")


@pytest.mark.parametrize("threads", [0, -1, 1.0, "2", 100_000])
def test_threads_that_there_are_not(fixtures, threads):
    with pytest.raises(QwenRefError, match=f"threads: {threads!r} is not a whole number in 1 to"):
        load(fixtures / "tiny.gguf", threads=threads)


def test_threads_are_those_of_the_model_whoever_asks(fixtures):
    def used():
        list(model.generate("Hi", max_tokens=2))
        return numba.get_num_threads()

    most = numba.config.NUMBA_NUM_THREADS
    model = load(fixtures / "tiny.gguf", threads=1)
    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(numba.get_num_threads).result() == most
            assert pool.submit(used).result() == 1
    finally:
        load(threads=most)


ANSWERS_AT_ONCE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from qwen_ref import load
model = load(sys.argv[1])
answer = lambda _: "".join(model.generate("Hi", max_tokens=20, temperature=0))
with ThreadPoolExecutor(2) as pool:
    answers = list(pool.map(answer, range(8)))
sys.exit(set(answers) != {answer(0)})
"""
ANSWER_IN_A_CHILD = """
import os, sys
from qwen_ref import load
model = load(sys.argv[1], threads=int(sys.argv[2]) or None)
if not model._threads:
    list(model.generate("Hi", max_tokens=2))
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
list(model.generate("Hi", max_tokens=2))
"""


def test_two_answers_at_once_without_openmp(fixtures):
    """Numba's own layer would end the process where two threads of Python enter it."""
    command = [sys.executable, "-c", ANSWERS_AT_ONCE, fixtures / "tiny.gguf"]
    subprocess.run(command, check=True, env=os.environ | {"NUMBA_THREADING_LAYER": "workqueue"}, timeout=150)


@pytest.mark.skipif(THREADING_LAYER != "omp", reason="there is no OpenMP here")
@pytest.mark.parametrize("threads", [0, 1])  # 0: the parent has answered; 1: it only has set a number
def test_a_forked_process_is_told(fixtures, threads):
    command = [sys.executable, "-c", ANSWER_IN_A_CHILD, fixtures / "tiny.gguf", str(threads)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=150)
    assert done.returncode == 1 and "fork: this process was forked" in done.stderr.splitlines()[-1]


def test_command_line_streams_and_reports(fixtures, tmp_path):
    path = fixtures / "tiny-wide.gguf"
    told = run("--model", path, "--prompt", "Hi", "--seed", 1, "-n", 8, "--json")
    assert told.returncode == 0 and told.stderr == ""
    answer = json.loads(told.stdout)
    assert len(answer["token_ids"]) == answer["generated_tokens"] == 8 and answer["peak_memory_mb"] > 10
    assert run("--model", path, "--prompt", "Hi", "--seed", 1, "-n", 8).stdout == answer["text"] + "\n"
    (tmp_path / "prompt.txt").write_text("Hi")
    assert (
        run("--model", path, "--prompt-file", tmp_path / "prompt.txt", "--seed", 1, "-n", 8).stdout
        == answer["text"] + "\n"
    )
    assert run("--model", path, "--seed", 1, "-n", 8, input="Hi").stdout == answer["text"] + "\n"


def test_bad_input_is_one_sentence_and_status_2(fixtures, tmp_path):
    text, cut, locked = tmp_path / "text.gguf", tmp_path / "cut.gguf", tmp_path / "locked.gguf"
    text.write_text("This is not a model.\n" * 10)
    cut.write_bytes((fixtures / "tiny.gguf").read_bytes()[:300_000])
    cases = [
        (["--model", tmp_path / "none.gguf", "--prompt", "x"], "none.gguf: cannot be opened: No such file"),
        (["--model", tmp_path, "--prompt", "x"], "is a directory"),
        (["--model", text, "--prompt", "x"], "magic"),
        (["--model", cut, "--prompt", "x"], "the file ends at 300000"),
        (["--model", fixtures / "tiny.gguf", "--prompt", "x", "--context", 5], "leave no room for an answer"),
        (
            ["--model", fixtures / "tiny.gguf", "--prompt-file", tmp_path / "none.txt"],
            "none.txt: cannot be read",
        ),
        (["--model", fixtures / "tiny.gguf", "--prompt-file", fixtures / "tiny.gguf"], "is not UTF-8 text"),
        (["--model", fixtures / "tiny.gguf", "--prompt", "x", "--top-p", 7], "top_p: 7.0"),
        (
            ["--model", fixtures / "tiny.gguf", "--prompt", b"\xff".decode(errors="surrogateescape")],
            "not valid Unicode",
        ),
    ]
    if os.geteuid() != 0:  # root may read everything
        locked.write_bytes(b"")
        locked.chmod(0)
        cases.append((["--model", locked, "--prompt", "x"], "Permission denied"))
    for arguments, words in cases:
        result = run(*arguments)
        assert result.returncode == 2 and result.stdout == "", arguments
        assert words in result.stderr and result.stderr.count("\n") == 1, result.stderr


def test_ctrl_c_keeps_the_text_so_far(fixtures):
    command = [*COMMAND, "--model", fixtures / "tiny.gguf", *ENDLESS]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        begun = process.stdout.read(5)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=150)
    assert process.returncode == 130 and begun and rest.endswith(b"\n") and errors == b""


def test_a_reader_that_goes_away_is_no_error(fixtures):
    command = [*COMMAND, "--model", fixtures / "tiny.gguf", *ENDLESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(5)
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(timeout=150) == 0


def test_progress_goes_to_a_terminal_only(fixtures, terminal):
    stderr, written = terminal
    command = [*COMMAND, "--model", fixtures / "tiny.gguf", "--prompt", "Hi", "-n", "3"]
    subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, timeout=150)
    shown = written().decode()
    assert "reading the prompt of" in shown and "generated at" in shown


def test_runs_where_numba_cannot_be_imported(fixtures):
    program = (
        "import sys; sys.modules['numba'] = None; from qwen_ref.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["generate", "--model", fixtures / "tiny.gguf", "--prompt", "Hi", "-n", "3"]
    assert subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True).returncode == 0
