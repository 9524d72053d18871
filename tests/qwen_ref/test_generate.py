"""The engine and the command line, as a user meets them."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numba
import numpy as np
import pytest

from qwen_ref import QwenRefError, engine, load
from qwen_ref.cli import main
from qwen_ref.cli.generate import statistics
from qwen_ref.kernels import KERNELS
from qwen_ref.media.media import Limits
from qwen_ref.model.layers import NUMPY
from qwen_ref.model.text import TextModel
from qwen_ref.prompt import Prompt, Span
from qwen_ref.sampling import Sampling
from qwen_ref.tokenizer import StreamDecoder


@pytest.fixture(scope="module")
def model(fixtures):
    return load(fixtures / "tiny.gguf")


COMMAND = [sys.executable, "-m", "qwen_ref"]
ENDLESS = ["--raw", "--greedy", "--prompt", "Once upon a time"]  # runs to its 32,768 tokens


def test_greedy_is_the_likeliest_token_each_time(model, fixtures):
    """Token by token in the engine, all at once here."""
    generation = model.generate(
        "Once upon a time", raw=True, max_tokens=12, temperature=0, presence_penalty=0
    )
    text = "".join(generation)
    ids = generation.prompt_ids + generation.token_ids
    logits = model.text.logits(model.text.forward(ids, model.text.new_state()))[:, : len(model.tokenizer)]
    assert generation.token_ids == logits[len(generation.prompt_ids) - 1 : -1].argmax(axis=1).tolist()
    assert text == generation.text == model.tokenizer.decode(generation.token_ids)
    assert generation.finish_reason == "length"


def test_speeds_that_are_told(model):
    """Decoding is timed from the first token on, which is the prompt's."""
    generation = model.generate("Once upon a time", raw=True, max_tokens=5, temperature=0)
    "".join(generation)
    assert len(generation.token_ids) == 5
    generation.prompt_seconds, generation.decode_seconds = 0.5, 2.0
    told = statistics(generation, 0)
    assert told["prompt_tokens_per_second"] == 2 * len(generation.prompt_ids)
    assert told["decode_tokens_per_second"] == 2.0
    generation.decode_seconds = 0.0  # of one token, which is no speed
    assert statistics(generation, 0)["decode_tokens_per_second"] is None


def test_a_seed_repeats_and_another_differs(model):
    first, again, other = ("".join(model.generate("Hi", max_tokens=20, seed=s)) for s in (1, 1, 2))
    assert first == again != other


def test_what_is_held_back_is_shown_once(model):
    """Here each piece's last character is, as it may begin a stop string."""
    full = "".join(model.generate("Hi", max_tokens=20, seed=3))
    stop = [character + "\0" for character in sorted({*full})]
    generation, shown, held = model.generate("Hi", max_tokens=20, seed=3, stop=stop), "", ""
    for piece in generation:
        last = generation.flush()
        shown, held = shown + piece + last, held + last
    assert held and shown == generation.text == full and generation.flush() == ""


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


def says(monkeypatch, model, answer):
    """The model answers so, whatever it is asked: added tokens that are spelled are meant."""
    token_ids = model.tokenizer.encode(answer + "<|im_end|>", special=True)
    rows = iter(np.eye(model.config.vocab_size)[token_ids])
    monkeypatch.setattr(TextModel, "logits", lambda self, hidden: 99 * next(rows)[None])


THOUGHT = "<think>\nHm.\n</think>\n\nSo <b>."


@pytest.mark.parametrize(
    "options, answer, limit, reason",
    [
        (dict(thinking=True), THOUGHT.removeprefix("<think>\n"), 3, "length_in_thought"),
        (dict(thinking=True), THOUGHT.removeprefix("<think>\n"), 6, "length"),
        (dict(thinking=True), THOUGHT.removeprefix("<think>\n"), 40, "stop"),
        (dict(), THOUGHT, 1, "length_in_thought"),
        (dict(), "<think>\nHm.", 40, "stop"),
        (dict(), "x", 1, "length"),
        (dict(raw=True), "x", 1, "length"),
    ],
)
def test_a_length_in_a_thought_is_told_apart(model, monkeypatch, options, answer, limit, reason):
    says(monkeypatch, model, answer)
    generation = model.generate("Hi", max_tokens=limit, **options)
    list(generation)
    assert generation.finish_reason == reason
    assert ("</think>" in generation.text) == ("</think>" in answer and reason != "length_in_thought")


def test_a_conversation_by_hand(model, monkeypatch):
    messages = [{"role": "user", "content": "Hi"}]
    says(monkeypatch, model, THOUGHT.removeprefix("<think>\n"))
    generation = model.generate(messages, thinking=True)
    list(generation)
    assert generation.message == {"role": "assistant", "content": "So <b>.", "reasoning_content": "Hm."}
    messages += [generation.message, {"role": "user", "content": "And?"}]
    prompt = model.encode_prompt(messages)
    assert prompt.text.startswith(
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nSo <b>.<|im_end|>\n"
    )
    says(monkeypatch, model, " it </think> is.")
    messages[-1:] = []
    messages[1] = {"role": "assistant", "content": "So "}
    generation = model.generate(messages, stop=" is")
    list(generation)
    assert generation.text == " it </think>" and generation.finish_reason == "stop"
    assert generation.message == {"role": "assistant", "content": "So it </think>"}
    assert messages == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "So "}]


def test_defaults_are_the_cards_then_the_files_then_the_users(fixtures, monkeypatch):
    def used(model, **options):
        return model.generate("Hi", **options)._sampler.sampling

    small, large = load(fixtures / "tiny.gguf"), load(fixtures / "tiny-grouped.gguf")  # 0.8B's, 4B's template
    assert used(small) == used(small, thinking=False) == Sampling(1.0, 20, 1.0, presence_penalty=2.0)
    assert used(large, thinking=False) == Sampling(0.7, 20, 0.8, presence_penalty=1.5)
    assert used(large) == used(small, thinking=True) == Sampling(1.0, 20, 0.95, presence_penalty=1.5)
    begun = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "So"}]
    assert large.generate(begun)._sampler.sampling == Sampling(0.7, 20, 0.8, presence_penalty=1.5)

    own = {"general.sampling.temp": 0.5, "general.sampling.top_k": 7}
    monkeypatch.setattr(small.text.file, "metadata", dict(small.text.file.metadata) | own)
    assert used(small, top_k=9, seed=1) == Sampling(0.5, 9, 1.0, presence_penalty=2.0, seed=1)
    small.text.file.metadata["general.sampling.mirostat"] = 1
    with pytest.raises(QwenRefError, match=r"tiny.gguf: general.sampling.mirostat: 1 asks for a way"):
        used(small)


def test_penalties_do_not_count_the_prompt(model, monkeypatch):
    """Two tokens level: the prompt's own <|im_end|> takes nothing from the end of the answer."""
    end = model.tokenizer.ids["<|im_end|>"]
    level = 50 * (np.eye(1, model.config.vocab_size, end) + np.eye(1, model.config.vocab_size, 70))
    monkeypatch.setattr(TextModel, "logits", lambda self, hidden: level)
    drawn = [bool(list(model.generate("Hi", max_tokens=1, seed=seed))) for seed in range(200)]
    assert 80 < sum(drawn) < 120  # 0.12 of the ends would be left: 176
    drawn = [
        bool(list(model.generate("Hi", max_tokens=1, seed=seed, penalty_last_n=64))) for seed in range(200)
    ]
    assert sum(drawn) > 150
    greedy = model.generate("Hi", max_tokens=9, temperature=0, presence_penalty=2)
    list(greedy)
    assert greedy.token_ids == [70]  # then 70 was seen, and the end is likelier


def test_a_long_prompt_goes_through_in_blocks(model):
    """Of 512 tokens: what is told of them, and the answer is that of all at once."""
    told, ids = [], (np.arange(1030) % 1000).tolist()
    options = dict(max_tokens=2, temperature=0, presence_penalty=0)
    generation = model.generate(Prompt(ids), progress=lambda *done: told.append(done), **options)
    list(generation)
    assert told == [
        *(("reading the prompt of 1030 tokens", done, 1030) for done in (0, 512, 1024)),
        ("reading the prompt", 1030, 1030),
    ]
    hidden = model.text.forward(ids + generation.token_ids, model.text.new_state())
    logits = model.text.logits(hidden)
    assert generation.token_ids == logits[1029:-1, : len(model.tokenizer)].argmax(1).tolist()


def test_seconds_of_an_answer_in_the_making(model, monkeypatch):
    """It starts at 100 s; the first token is there at 103 s, the last one at 109 s."""
    times = iter([100.0, 103.0, 104.0, 109.0])
    monkeypatch.setattr(engine.generation, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    says(monkeypatch, model, "abc")
    generation = model.generate("Hi", raw=True, stop="bcd", max_tokens=3)
    assert (generation.text, generation.token_ids, generation.finish_reason) == ("", [], None)
    assert next(generation) == "a" and generation.prompt_seconds == 3 and generation.decode_seconds == 0
    assert list(generation) == ["bc"] and (generation.prompt_seconds, generation.decode_seconds) == (3, 6)


def test_seconds_of_a_prompt_that_was_not_read_to_its_end(model, monkeypatch):
    times = iter([100.0, 102.0])
    monkeypatch.setattr(engine.generation, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    monkeypatch.setattr(model, "block", 2)
    generation = model.generate("Hello", raw=True)
    ((_, piece),) = engine.advance([generation])
    assert (piece, generation.to_read, generation.prompt_seconds) == ("", 3, 2)


def test_an_interrupted_answer_gives_what_was_held_back(model, monkeypatch):
    rows = iter(np.eye(model.config.vocab_size)[model.tokenizer.encode("ab")])

    def logits(self, hidden):
        for row in rows:
            return 99 * row[None]
        raise KeyboardInterrupt

    monkeypatch.setattr(TextModel, "logits", logits)
    generation = model.generate("Hi", raw=True, stop="bc")
    assert next(generation) == "a"
    with pytest.raises(KeyboardInterrupt):
        next(generation)
    assert [generation.flush(), generation.flush(), generation.text] == ["b", "", "ab"]


def test_kernels_where_they_fit(model):
    choose, config = engine.backend.choose_layers, model.config
    for backend, dtype, layers in (
        (None, np.float32, KERNELS),
        ("numba", np.float32, KERNELS),
        ("numpy", np.float32, NUMPY),
        (None, np.float64, NUMPY),
        ("numpy", np.float64, NUMPY),
    ):
        assert choose(config, backend, dtype) is layers
    other = replace(config, hidden_size=48)
    assert choose(other, None, np.float32) is NUMPY
    for c, backend, dtype, words in (
        (other, "numba", np.float32, "backend: numba: the kernels do not fit this model's sizes; use numpy"),
        (config, "numba", np.float64, "backend: numba computes in float32 only, not in float64"),
        (config, "cuda", np.float32, "backend: 'cuda' is not one of numba, numpy"),
    ):
        with pytest.raises(QwenRefError, match=f"^{words}$"):
            choose(c, backend, dtype)


def test_kernels_where_there_is_no_numba(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert engine.backend.choose_layers(model.config, None, np.float32) is NUMPY
    words = r"^backend: numba is not installed; `pip install numba`, or use numpy$"
    with pytest.raises(QwenRefError, match=words):
        engine.backend.choose_layers(model.config, "numba", np.float32)
    monkeypatch.setattr(engine.backend, "cores", lambda: 7)
    assert engine.backend.most_threads() == 7


def test_a_clip_is_looked_at_some_steps_at_a_time(model, monkeypatch):
    """Five steps of 32 x 16 patches, two of which are 1024; each has 128 tokens, behind one of text."""
    told, looked, hidden_size = [], [], model.config.hidden_size

    def encode(patches, grid, progress):
        looked.append((grid, patches[:, 0].tolist()))
        progress(1)
        progress(3)
        return np.full((len(patches) // 4, hidden_size), 0.1, np.float32) * patches[::4, :1]

    steps = [np.full((512, 6), step, np.float32) for step in range(5)]
    clip = SimpleNamespace(name="a.mp4", grid_thw=(5, 32, 16), patches=lambda rows: iter(steps))
    monkeypatch.setitem(
        vars(model), "vision", SimpleNamespace(config=SimpleNamespace(depth=3), encode=encode)
    )
    prompt = Prompt([5] * 642, spans=[Span(1 + 128 * i, 16, 8) for i in range(5)], media=[clip])
    answer = model.generate(prompt, max_tokens=1, temperature=0, progress=lambda *done: told.append(done))
    list(answer)
    halves = [[float(step)] * 512 for step in range(5)]
    assert looked == [
        ((2, 32, 16), halves[0] + halves[1]),
        ((2, 32, 16), halves[2] + halves[3]),
        ((1, 32, 16), halves[4]),
    ]
    assert told[:6] == [("looking at a.mp4", done, 15) for done in (2, 6, 8, 12, 13, 15)]
    x = model.text.embed(prompt.token_ids)
    x[1:641] = 0.1 * np.repeat(np.arange(5), 128)[:, None]
    hidden = model.text.forward(x, model.text.new_state(), prompt.positions)
    assert answer.token_ids == [model.text.logits(hidden[-1:])[0, : len(model.tokenizer)].argmax()]


def test_pictures_beside_a_conversation(model):
    conversation = [{"role": "user", "content": "x"}]
    for options in dict(images=["a.png"]), dict(videos=["a.mp4"]):
        with pytest.raises(QwenRefError, match="images: with chat messages, give pictures as parts of a"):
            model.generate(conversation, **options)
    with pytest.raises(QwenRefError, match="videos: give a list, of one too, not a str"):
        model.generate("x", videos="a.mp4")


@pytest.mark.parametrize("value, words", [(0, "all equal"), (np.nan, "not finite"), (np.inf, "not finite")])
def test_logits_of_a_broken_file(model, monkeypatch, value, words):
    def logits(self, hidden):
        row = np.zeros((1, self.config.vocab_size), np.float32)
        row[0, 5] = value
        return row

    monkeypatch.setattr(TextModel, "logits", logits)
    prompt = model.encode_prompt("Hi")
    with pytest.raises(
        QwenRefError, match=rf"tiny.gguf: the logits of token {len(prompt.token_ids)} are {words}"
    ):
        list(model.generate(prompt))


@pytest.mark.parametrize(
    "stop, text, reason",
    [
        ("abc", "", "stop"),  # all of it
        ("c", "ab", "stop"),  # the end
        ("a", "", "stop"),
        (["c", "bc", "b"], "a", "stop"),  # the earliest counts
        (["ab", "abc"], "", "stop"),
        (["aac", "x"], "", "stop"),  # begun twice over
        (["cd", "abd"], "abc", "length"),  # begun, never whole
        ((), "abc", "length"),
        ("d", "abc", "length"),
    ],
)
def test_stop_strings_at_the_edges(model, monkeypatch, stop, text, reason):
    assert model.generate("Hi", stop=["c", "b"])._until_stop("abc") == ("a", True)  # in one piece
    says(monkeypatch, model, "aac" if "aac" in stop else "abc")
    generation = model.generate("Hi", raw=True, stop=stop, max_tokens=3)
    pieces = list(generation)
    assert "".join(pieces) == generation.text == text and generation.finish_reason == reason


def test_a_character_that_never_became_whole(model, monkeypatch):
    half, stream = model.tokenizer.encode("🙂")[:1], StreamDecoder(model.tokenizer)
    assert model.tokenizer.decode(half) == "\ufffd"
    assert (stream.push(half[0]), stream.flush(), stream.flush()) == ("", "\ufffd", "")
    monkeypatch.setattr(TextModel, "logits", lambda self, hidden: np.eye(1, self.config.vocab_size, half[0]))
    for stop, text, reason in ("x", "\ufffd", "length"), ("\ufffd", "", "stop"):
        generation = model.generate("Hi", max_tokens=1, stop=stop, temperature=0)
        assert "".join(generation) == text and generation.finish_reason == reason


def test_an_answer_is_as_long_as_the_cards_advise_unless_said(model):
    prompt = len(model.encode_prompt("Hi").token_ids)
    assert len(model.generate("Hi")._tokens) == min(32_768 + prompt, model.context)
    assert len(model.generate("Hi", max_tokens=5)._tokens) == 5 + prompt


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
        (dict(prompt=Prompt([1] * 100)), "100 tokens leave no room"),
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


def test_limits_do_not_matter_where_there_is_no_picture(model):
    for raw in True, False:
        assert model.encode_prompt("x", raw=raw, limits=Limits()) == model.encode_prompt("x", raw=raw)


def test_the_longest_context_and_no_memory_at_all(fixtures):
    most = load(fixtures / "tiny.gguf").context
    assert load(fixtures / "tiny.gguf", context=most, memory_budget=0).context == most
    assert load(fixtures / "tiny.gguf", context=1).context == 1
    for context in 0, most + 1:
        with pytest.raises(
            QwenRefError, match=rf"tiny.gguf: context: {context} is not in 1 to {most}, which"
        ):
            load(fixtures / "tiny.gguf", context=context)


def test_a_dtype_that_is_none(fixtures):
    with pytest.raises(QwenRefError, match="dtype: 'float32' is not numpy"):
        load(fixtures / "tiny.gguf", dtype="float32")


@pytest.mark.parametrize("threads", [0, -1, 1.0, "2", 100_000])
def test_threads_that_there_are_not(fixtures, threads):
    with pytest.raises(QwenRefError, match=f"threads: {threads!r} is not a whole number in 1 to"):
        load(fixtures / "tiny.gguf", threads=threads)


def test_threads_are_those_of_the_model_whoever_asks(fixtures, threads_as_before):
    def used():
        list(model.generate("Hi", max_tokens=2))
        return numba.get_num_threads()

    model = load(fixtures / "tiny.gguf", threads=1)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(numba.get_num_threads).result() == numba.config.NUMBA_NUM_THREADS
        assert pool.submit(used).result() == 1


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
if sys.argv[2] == "0":
    list(model.generate("Hi", max_tokens=2))
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
list(model.generate("Hi", max_tokens=2))
"""


def test_two_answers_at_once(fixtures):
    command = [sys.executable, "-c", ANSWERS_AT_ONCE, fixtures / "tiny.gguf"]
    subprocess.run(command, check=True, timeout=150)


@pytest.mark.parametrize("threads", [0, 1])  # 0: the parent has answered; 1: it only has set a number
def test_a_forked_process_answers_too(fixtures, threads):
    command = [sys.executable, "-c", ANSWER_IN_A_CHILD, fixtures / "tiny.gguf", str(threads)]
    subprocess.run(command, check=True, timeout=150)


def test_command_line_streams_and_reports(fixtures, tmp_path, capsys):
    (tmp_path / "prompt.txt").write_text("Hi")
    command = ["generate", "--model", str(fixtures / "tiny-wide.gguf"), "--seed", "1", "-n", "8"]
    told = subprocess.run([*COMMAND, *command, "--json"], input="Hi", capture_output=True, text=True)
    assert told.returncode == 0 and told.stderr == ""
    answer = json.loads(told.stdout)
    assert len(answer["token_ids"]) == answer["generated_tokens"] == 8 and answer["peak_memory_mb"] > 10
    for prompt in ["--prompt", "Hi"], ["--prompt-file", str(tmp_path / "prompt.txt")]:
        assert main([*command, *prompt]) == 0
        assert capsys.readouterr() == (answer["text"] + "\n", "")


def test_bad_input_is_one_sentence_and_status_2(fixtures, tmp_path, capsys):
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
        (["--model", fixtures / "tiny.gguf", "--prompt", "x", "--top-p", 7], "--top-p: 7.0"),
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
        assert main(["generate", *map(str, arguments)]) == 2, arguments
        out, err = capsys.readouterr()
        assert words in err and err.count("\n") == 1 and out == "", arguments


def test_ctrl_c_keeps_the_text_so_far(fixtures):
    command = [*COMMAND, "generate", "--model", fixtures / "tiny.gguf", *ENDLESS]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        begun = process.stdout.read(5)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=150)
    assert process.returncode == 130 and begun and rest.endswith(b"\n") and errors == b""


def test_a_reader_that_goes_away_is_no_error(fixtures):
    command = [*COMMAND, "generate", "--model", fixtures / "tiny.gguf", *ENDLESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(5)
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(timeout=150) == 0


def test_progress_goes_to_a_terminal_only(fixtures, terminal):
    stderr, written = terminal
    command = [*COMMAND, "generate", "--model", fixtures / "tiny.gguf", "--prompt", "Hi", "-n", "3"]
    subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, timeout=150)
    shown = written().decode()
    assert "reading the prompt of" in shown and "generated at" in shown


def test_runs_where_numba_cannot_be_imported(fixtures):
    program = (
        "import sys; sys.modules['numba'] = None; from qwen_ref.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["generate", "--model", fixtures / "tiny.gguf", "--prompt", "Hi", "-n", "3"]
    assert subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(special=True), "special: it says how to read a raw prompt"),
        (dict(raw="yes"), "raw: 'yes' is not true or false"),
        (dict(limits=5), "limits: an int is no"),
        (dict(tools=np.array([1, 2])), "tools: a ndarray is no list of tools"),
        (dict(max_tokens=True), "max_tokens: True is not a whole number"),
        (dict(progress=5), "progress: an int cannot be called"),
        (dict(stop=np.zeros((9, 9))), "stop: .* is no text or list"),
        (dict(temperature=Fraction(1, 2)), "temperature: Fraction"),
    ],
)
def test_options_of_a_wrong_kind(fixtures, options, words):
    with pytest.raises(QwenRefError, match=words) as error:
        load(fixtures / "tiny.gguf").generate("hi", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(path=5), "model: an int is no path"),
        (dict(path=b"/"), "model: a bytes is no path"),
        (dict(mmproj=5), "mmproj: an int is no path"),
        (dict(cache=""), "cache: its name is empty"),
        (dict(cache="x", keep=0), "keep: 0 leaves nothing to keep in cache"),
        (dict(context="x"), "context: 'x' is not in 1 to"),
        (dict(context=True), "context: True is not in 1 to"),
        (dict(context=5.0), "context: 5.0 is not in 1 to"),
        (dict(threads=True), "threads: True is not a whole number"),
        (dict(memory_budget=np.zeros(2)), "memory_budget: array.* is not a whole number of bytes"),
        (dict(dtype=np.zeros(2)), "dtype: array.* is not numpy.float32 or"),
        (dict(dtype=np.dtype("float64"), backend="numba"), "dtype: dtype.'float64'. is not numpy.float32 or"),
        (dict(backend=np.array(["numba"] * 2)), "backend: array.* is not one of numba, numpy"),
        (dict(memory_budget=-1), "memory_budget: -1 is not a whole number of bytes"),
        (dict(memory_budget="x"), "memory_budget: 'x' is not a whole number of bytes"),
    ],
)
def test_options_of_load_of_a_wrong_kind(fixtures, options, words):
    with pytest.raises(QwenRefError, match=words):
        load(**{"path": fixtures / "tiny.gguf"} | options)
