"""What the commands are asked: their options, defaults, help, and the examples in it."""

import argparse
import gc
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from qwen_ref import QwenRefError, load, shipped
from qwen_ref.checkpoint import open_model
from qwen_ref.cli import COMMANDS, generate, main, options
from qwen_ref.media.media import Limits
from qwen_ref.media.show import half_blocks
from qwen_ref.prompt import PromptEncoder

RECORD, CHECK = "golden record --prompt x --out a.safetensors", "golden check a.safetensors b.npz"


def test_32_bits_are_refused_before_anything_else_is_imported():
    """By a Python without packages, which says that it has them."""
    program = "import sys, runpy; sys.maxsize = 2**31 - 1; runpy.run_module('qwen_ref', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("qwen_ref: this Python has 32 bits") and done.stderr.count("\n") == 1


@pytest.fixture
def asked(monkeypatch):
    """What a command line asks for, but for what is None, false or an empty list."""
    found = []
    for module in COMMANDS.values():
        monkeypatch.setattr(module, "run", lambda args: found.append(vars(args)) or 0)

    def ask(line):
        assert main(shlex.split(line)) == 0
        args = found.pop()
        return {n: x for n, x in args.items() if x is not None and x is not False and x != []}

    return ask


@pytest.mark.parametrize(
    "line, defaults",
    [
        ("generate", dict(dtype="float32", draft="auto")),
        ("bench", dict(r=5, output="md", busy=0)),
        ("perplexity", dict(dtype="float32")),
        ("evaluate a", dict(task="a", score="exact", max_tokens=1024, dtype="float32")),
        ("conformance --list", dict(cases=["*"], list=True)),
        (
            RECORD,
            dict(golden="record", prompt="x", out=Path("a.safetensors"), generate=8, top=64)
            | dict(first_position=0),
        ),
        ("golden show a.b", dict(golden="show", golden_file=Path("a.b"))),
        *(
            (
                CHECK.replace("check", action),
                dict(golden=action, golden_file=Path("a.safetensors"), other=Path("b.npz"), allow="float32"),
            )
            for action in ("check", "compare")
        ),
    ],
)
def test_what_is_asked_with_nothing_said(asked, line, defaults):
    assert asked(line) == {"command": line.split()[0]} | defaults


@pytest.mark.parametrize(
    "line, said",
    [
        (
            "generate --model m --prompt x --system y --raw --special --thinking --image a --image b"
            " --video c --mmproj d --max-image-tokens 1 --max-video-tokens 2 --fps 0.5 --max-frames 3"
            " --frame-rate 2.5 --frame-times 0.9,4.5 --transparency drop --show --draw e -n 4 --stop f"
            " --stop g --context 5 --json --dtype float64 --backend numpy -t 6 --memory 0.25"
            " --draft lookup",
            dict(model="m", prompt="x", system="y", raw=True, special=True, thinking=True, image=["a", "b"])
            | dict(video=["c"], mmproj="d", max_image_tokens=1, max_video_tokens=2, fps=0.5, max_frames=3)
            | dict(frame_rate=2.5, frame_times=[0.9, 4.5], transparency="drop", show=True, draw="e")
            | dict(max_tokens=4, stop=["f", "g"], context=5, json=True, dtype="float64", backend="numpy")
            | dict(threads=6, memory=0.25, draft="lookup"),
        ),
        (
            "generate --prompt-file p --greedy --temperature 0.5 --top-k 1 --top-p 0.25 --min-p 0.125"
            " --repetition-penalty 1.5 --presence-penalty 2.5 --frequency-penalty 3.5 --penalty-last-n -1"
            " --seed 2 --max-tokens 3 --threads 4",
            dict(prompt_file="p", greedy=True, temperature=0.5, top_k=1, top_p=0.25, min_p=0.125)
            | dict(repetition_penalty=1.5, presence_penalty=2.5, frequency_penalty=3.5, penalty_last_n=-1)
            | dict(seed=2, max_tokens=3, threads=4, dtype="float32", draft="auto"),
        ),
        (
            "bench -m a --model b -p 1 -p 2 -n 3 -d 4 -t 5 -r 6 -o json --backend numba --no-start --busy 7"
            " --profile --parallel 1 --parallel 8",
            dict(model=["a", "b"], p=[1, 2], n=[3], d=[4], threads=5, r=6, output="json", backend="numba")
            | dict(no_start=True, busy=7, profile="", parallel=[1, 8]),
        ),
        ("bench --profile a.svg", dict(profile="a.svg", r=5, output="md", busy=0)),
        (
            "perplexity -m a -f b --base c --save-logits d -c 1 --chunks 2 --json --dtype float64"
            " --backend numpy -t 3 --memory 0.5",
            dict(model="a", text=["b"], base="c", save_logits="d", context=1, chunks=2, json=True)
            | dict(dtype="float64", backend="numpy", threads=3, memory=0.5),
        ),
        (
            "evaluate a b c --score regex --limit 1 --raw --no-thinking -n 2 --parallel 3 --output d --json"
            " --seed 4",
            dict(task="a", model=["b", "c"], score="regex", limit=1, raw=True, max_tokens=2, parallel=3)
            | dict(output="d", json=True, seed=4, dtype="float32"),
        ),
        (
            "conformance a b* --engine c --allow int8 --tiled --json",
            dict(cases=["a", "b*"], engine="c", allow="int8", tiled=True, json=True),
        ),
        (
            "golden record --model a --mmproj b --messages c --image d --video e --raw --no-thinking"
            " --generate 1 --first-position 9 --names f g* --rows 0,-1 --columns 2 --top 7 --memory 0.5"
            " --out h",
            dict(golden="record", model="a", mmproj="b", messages=Path("c"), image=["d"], video=["e"])
            | dict(raw=True, generate=1, names=["f", "g*"], rows=[0, -1], columns=2, top=7, memory=0.5)
            | dict(out=Path("h"), first_position=9),
        ),
        (
            f"{RECORD} --rows 3 --columns all",
            dict(golden="record", prompt="x", out=Path("a.safetensors"), generate=8, rows=3)
            | dict(columns=2**63 - 1, top=64, first_position=0),
        ),
        (
            f"{CHECK} --allow int8 --json --html c --tiled",
            dict(golden="check", golden_file=Path("a.safetensors"), other=Path("b.npz"), allow="int8")
            | dict(json=True, html=Path("c"), tiled=True),
        ),
        (
            "golden export a --out b",
            dict(golden="export", golden_file=Path("a"), out=Path("b")),
        ),
    ],
)
def test_what_is_asked_with_everything_said(asked, line, said):
    assert asked(line) == {"command": line.split()[0]} | said


def test_thinking_or_not(asked, monkeypatch):
    found = []
    monkeypatch.setattr(generate, "run", lambda args: found.append(args.thinking) or 0)
    for more in [], ["--thinking"], ["--no-thinking"]:
        assert main(["generate", *more]) == 0
    assert found == [None, True, False]


@pytest.mark.parametrize(
    "line, words",
    [
        ("generate --prompt x --prompt-file y", "argument --prompt-file: not allowed with argument --prompt"),
        ("generate --thinking --no-thinking", "argument --no-thinking: not allowed with argument --thinking"),
        (
            "generate --frame-times 0.9,x",
            "argument --frame-times: '0.9,x' is not seconds with commas between",
        ),
        ("generate --dtype int8", "argument --dtype: invalid choice: 'int8'"),
        ("generate --transparency black", "argument --transparency: invalid choice: 'black'"),
        ("bench --output xml", "argument -o/--output: invalid choice: 'xml'"),
        ("golden record --prompt x", "the following arguments are required: --out"),
        ("golden record --out x", "one of the arguments --prompt --messages --prompts is required"),
        (
            "golden record --prompt x --messages y --out z",
            "argument --messages: not allowed with argument --p",
        ),
        ("golden", "the following arguments are required: ACTION"),
        ("golden compare a b --tiled", "unrecognized arguments: --tiled"),
        ("conformance", "one of the arguments --engine --list --self-test is required"),
        ("conformance --list --engine x", "argument --engine: not allowed with argument --list"),
        ("", "the following arguments are required: COMMAND"),
    ],
)
def test_what_cannot_be_asked(asked, capsys, line, words):
    assert main(shlex.split(line)) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"qwen_ref: {words}") and re.search(r"; \S.* --help lists what there is\n$", told)


def test_text_is_utf8_in_the_locale_c_too(asked):
    said = asked("generate --prompt \udcc3\udcb6 --system \udcc3\udcbc --stop \udcc3\udca4")
    assert (said["prompt"], said["system"], said["stop"]) == ("ö", "ü", ["ä"])
    assert asked(RECORD.replace("x", "\udcc3\udcb6"))["prompt"] == "ö"


@pytest.mark.parametrize(
    "line, words",
    [
        *((f"--{name} 1", f"--{name}: there is no --video") for name in generate.OF_VIDEOS),
        ("--image a --fps 1", "--fps: there is no --video"),
        ("--draw a --video b", "--draw: there is no --image"),
        ("--max-image-tokens 1", "--max-image-tokens: there is no --image"),
        ("--show", "--show: there is no --image or --video"),
        ("--transparency drop", "--transparency: there is no --image or --video"),
        *(
            (
                f"--video a --frame-times 1 --{name} 1",
                f"--{name}: does nothing beside --frame-times, which keep",
            )
            for name in ("fps", "max-frames", "frame-rate")
        ),
        ("--video a --video b --frame-times 1", "--frame-times: they are those of one --video"),
        *(
            (f"--greedy --{name} 1", f"--{name}: --greedy takes the likeliest token, whatever this is")
            for name in options.SAMPLING
            if name != "seed"
        ),
        ("--special", "--special: it says how to read a --raw prompt"),
        ("--greedy --seed 1 --special", "--special: it says"),
    ],
)
def test_options_that_would_do_nothing(capsys, line, words):
    assert main(["generate", *line.split()]) == 2
    assert capsys.readouterr().err.startswith(f"qwen_ref: {words}")


def actions(parser):
    """Of a parser, and of those of its subcommands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action._choices_actions
            for choice in action.choices.values():
                yield from actions(choice)
        elif action.dest != "help":
            yield action


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_phrases(name):
    """They begin small and have no full stop; a default in brackets is the one that there is."""
    parser = argparse.ArgumentParser()
    COMMANDS[name].add_arguments(parser)
    for action in actions(parser):
        if action.help is None:
            assert action.dest in ("output", "golden_file")
            continue
        assert re.fullmatch(r"[a-z0-9-].*[^.X]", action.help), action.help
        if action.option_strings and isinstance(action.default, int) and action.default is not False:
            assert f"({action.default})" in action.help
        if action.option_strings and action.nargs != 0 and not action.choices and action.dest != "allow":
            assert action.metavar in (
                *("FILE", "TEXT", "N", "X", "GIB", "X,X…", "N[,N…]", "FILE.svg", "FOLDER"),
                *("PATTERN", "ENGINE", "NAME", "ADDRESS", "KEY", "URL", "MIB", "SIZE", "WxH"),
            )


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_its_examples(asked, capsys, name):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0 and COMMANDS[name].__doc__.partition("\n")[0] in shown
    lines = shown.replace("\\\n", "").splitlines()
    examples = [line for line in lines if re.match(r"  (cat .* \| |[A-Z_]+=\S+ )?python -m qwen_ref ", line)]
    assert len(examples) >= (1 if name in ("list", "rm") else 4)
    for example in examples:
        words = shlex.split(example.partition("qwen_ref ")[2], comments=True)
        assert words[0] == name and asked(shlex.join(words))["command"] == name


# ---- what they have in common


def test_memory_and_json_and_text_of_the_locale_c(capsys):
    assert [options.memory_of(gib) for gib in (None, 0, 0.5, 1)] == [None, 0, 1 << 29, 1 << 30]
    for gib in -1, 1 << 20, float("nan"):
        with pytest.raises(QwenRefError, match=rf"^--memory: {gib} is not in 0 to 1048576 GiB"):
            options.memory_of(gib)
    for keep, count in (0, 0), (0.5, 1 << 29):
        told = options.keeping_of(argparse.Namespace(keep=keep, cache=None))
        assert told == {"keep": count, "cache": None}
    for keep, words in (-1, "-1 is not in 0 to"), (float("nan"), "nan is"), (0, "0 leaves nothing to keep"):
        with pytest.raises(QwenRefError, match=f"^--keep: {words}"):
            options.keeping_of(argparse.Namespace(keep=keep, cache="x"))
    infinite = {"a": [float("nan"), float("-inf"), 1.5], "b": None}
    assert options.to_json(infinite) == '{"a": [null, null, 1.5], "b": null}'
    assert options.to_json([1], 1) == "[\n 1\n]"
    assert options.typed_text("\udcc3\udcb6") == options.typed_text("ö") == "ö"
    assert options.typed_text("\udcff") == "\udcff"  # is refused later, with its place
    assert options.shipped_model() == str(shipped.MODEL)
    told = f"no --model given: using the small model that ships with qwen_ref ({shipped.MODEL.name})\n"
    assert capsys.readouterr() == ("", told)


# ---- generate


def test_where_the_prompt_comes_from(tmp_path, monkeypatch):
    def read(typed=None, file=None):
        return generate.read_prompt(SimpleNamespace(prompt=typed, prompt_file=file))

    def given(data):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), "ascii"))

    (tmp_path / "p.txt").write_text("Größe", encoding="utf-8")
    assert read("x") == "x" and read("x", tmp_path / "p.txt") == "Größe"
    for typed in None, "-":
        given("Größe\n".encode())
        assert read(typed) == "Größe\n"
        given(b"Gr\xf6")
        with pytest.raises(QwenRefError, match=r"^standard input: byte 2 is not UTF-8 text$"):
            read(typed)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(
        QwenRefError, match=r"^no prompt: give --prompt, --prompt-file, or text on standard in"
    ):
        read()
    monkeypatch.setattr("sys.stdin", None)
    for typed, words in (None, "^no prompt: give"), ("-", "^standard input is closed$"):
        with pytest.raises(QwenRefError, match=words):
            read(typed)


def test_what_is_told_on_a_terminal(monkeypatch, capsys):
    generate.show_progress("reading", 1, 3)
    generate.show_progress("reading", 3, 3)
    assert capsys.readouterr() == ("", "\r\033[Kreading: 33 %\r\033[K")
    shape = SimpleNamespace(num_tokens=1234)
    model = SimpleNamespace(seconds_until_answer=lambda prompt: 12.4)
    for tokens, told in (500, ""), (501, "about 12 s to read all; --max-image-tokens and --max-video-tokens"):
        prompt = SimpleNamespace(media=[SimpleNamespace(name="a.png", shape=shape)], token_ids=[0] * tokens)
        generate.announce_media(model, prompt)
        first, rest = capsys.readouterr().err.split("\n", 1)
        assert first == "a.png: 1,234 tokens" and rest.startswith(told) and bool(rest) == bool(told)
    for terminal, no_color, term, colours in (
        (True, "", "xterm", True),
        (False, "", "xterm", False),
        (True, "1", "xterm", False),
        (True, "", "dumb", False),
    ):
        monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda terminal=terminal: terminal))
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setenv("TERM", term)
        assert generate.is_colour_terminal() == colours
        monkeypatch.undo()


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("perplexity --text a.txt --save-logits a.txt", "--save-logits: a.txt is read, too"),
        ("perplexity --text a.txt --plot link.svg", "--plot: link.svg is read, too"),
        ("perplexity --text a.txt --save-logits b.bin", "--save-logits: b.bin is a model's, and stays"),
        (
            "perplexity --text a.txt --save-logits d.svg --plot ./d.svg",
            "--plot d.svg: --save-logits is written",
        ),
        ("evaluate a.txt --output ./a.txt", "--output: a.txt is read, too"),
        ("batch a.txt -o b.bin --overwrite", "--output-file: b.bin is a model's, and stays"),
        ("golden record --prompt x --out c/model.safetensors", "is a model's, and stays"),
        ("evaluate a.txt c --output c/config.json", "is a model's, and stays"),
        ("inspect --prompt x --image file://localhost{}/a.txt -o a.txt", "--output: a.txt is read, too"),
        ("golden record --prompts a.txt --model c --out c", "--out: c is read, too"),
        ("generate --prompt x --image a.txt --draw a.txt", "--draw: a.txt is read, too"),
        ("inspect --model a.txt --prompt x -o a.txt", "--output: a.txt is read, too"),
        ("golden record --prompts a.txt --out ''", "argument --out: is empty"),
        ("perplexity --text ''", "argument -f/--text: is empty"),
        ("batch '' -o b.jsonl", "argument FILE: is empty"),
        ("batch --images '' --prompt x -o b.jsonl", "argument --images: is empty"),
        ("batch a.txt -o b.jsonl --name ''", "argument --name/--served-model-name: is empty"),
    ],
)
def test_what_is_read_is_not_written_and_has_a_name(tmp_path, monkeypatch, capsys, line, sentence):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("one two three four")
    Path("link.svg").symlink_to("a.txt")
    Path("b.bin").write_bytes(b"GGUF as it was")
    Path("c").mkdir()
    for name in "config.json", "model.safetensors":
        Path("c", name).write_text("as it was")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(shlex.split(line.replace("{}", str(tmp_path)))) == 2
    assert sentence in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "line",
    [
        "batch in -o batch --name batch",
        "golden record --prompts in --out golden",
        "evaluate in --output exact",
        "inspect --prompt x -o x",
        "bench -m . --profile",
        "generate --prompt . --image . --draw a.png",
    ],
)
def test_a_word_that_is_no_file_is_none(asked, tmp_path, monkeypatch, line):
    """Although a file has its name."""
    monkeypatch.chdir(tmp_path)
    for name in "batch", "exact", "x", "config.json", "a.png":
        Path(name).touch()
    Path("golden").mkdir()
    assert asked(line)


@pytest.fixture
def same_process(monkeypatch):
    """The prompt is encoded here: a test that has threads should not fork."""

    @contextmanager
    def encoding(path, messages, options):
        yield lambda: PromptEncoder(open_model(path)).encode(messages, **options)

    monkeypatch.setattr(generate, "encoding_beside", encoding)


def test_the_process_beside_frees_nothing_of_this_one(fixtures, capsys, monkeypatch):
    """Freeing a clip's decoder there would wait for ever, for its threads, which are here."""

    class Decoder:
        def __init__(self):
            self.itself, self.process = self, os.getpid()

        def __del__(self):
            if os.getpid() != self.process:
                os.kill(os.getpid(), signal.SIGKILL)

    def encoder(file):
        gc.collect()
        return PromptEncoder(file)

    monkeypatch.setattr("qwen_ref.prompt.PromptEncoder", encoder)
    gc.disable()
    try:
        Decoder()
        assert main(["generate", "--model", str(fixtures / "tiny.gguf"), "--prompt", "Hi", "-n", "2"]) == 0
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "line, prompt",
    [
        ("--raw --greedy -n 4", dict(raw=True, max_tokens=4, temperature=0, presence_penalty=0)),
        ("--seed 3 -n 9 --top-k 5 --temperature 0.5", dict(seed=3, max_tokens=9, top_k=5, temperature=0.5)),
        ("--system Sie --thinking --seed 1 -n 5", dict(system="Sie", thinking=True, seed=1, max_tokens=5)),
        ("--raw --special --seed 1 -n 5", dict(raw=True, special=True, seed=1, max_tokens=5)),
        ("--raw --greedy --context 20", dict(raw=True, temperature=0, presence_penalty=0, max_tokens=18)),
    ],
)
def test_an_answer_is_the_models(fixtures, capsys, same_process, line, prompt):
    answer = load(fixtures / "tiny.gguf").generate("Hi", **prompt)
    text = "".join(answer)
    arguments = ["generate", "--model", str(fixtures / "tiny.gguf"), "--prompt", "Hi", *line.split()]
    assert main(arguments) == 0 and capsys.readouterr() == (text + "\n", "")
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told)[:4] == ["text", "finish_reason", "prompt_token_ids", "token_ids"]
    assert (told["text"], told["finish_reason"]) == (text, answer.finish_reason)
    assert (told["prompt_token_ids"], told["token_ids"]) == (answer.prompt_ids, answer.token_ids)
    assert told["prompt_tokens"] == len(answer.prompt_ids) and told["load_seconds"] > 0


def test_figures_of_an_answer(fixtures):
    answer = load(fixtures / "tiny.gguf").generate("Hi", raw=True)
    answer.prompt_ids, answer.prompt_seconds, answer.decode_seconds = [1] * 10, 0.3004, 1.5
    cases = (4, 2.0, 0, 10, 33.29), (2, 0.67, 4, 10, 19.97), (1, None, 0, 10, 33.29), (0, None, 2, 6, 13.32)
    for generated, rate, cached, read, speed in cases:  # the last was stopped before the prompt's end
        answer.token_ids, answer.cached_tokens = [1] * generated, cached
        vars(answer)["_sequence"] = SimpleNamespace(state=SimpleNamespace(num_tokens=read + generated))
        told = generate.statistics(answer, 1.23456)
        assert 10 < told.pop("private_memory_mb") < told.pop("peak_memory_mb") + 1 < 100_000
        assert told == {
            "prompt_tokens": 10,
            "cached_tokens": cached,
            "generated_tokens": generated,
            "load_seconds": 1.235,
            "prompt_seconds": 0.3,
            "decode_seconds": 1.5,
            "prompt_tokens_per_second": speed,
            "decode_tokens_per_second": rate,
        }


def test_what_is_looked_at():
    limits = dict(fps=0.5, max_frames=3, max_image_tokens=1, max_video_tokens=2, transparency="drop")
    model = SimpleNamespace(open_media=lambda *given: given)
    args = dict(image=["a"], video=["b", "c"], frame_rate=2.5, frame_times=[1.0, 2.0])
    clips = [{"video": name, "frame_rate": 2.5, "times": [1.0, 2.0]} for name in "bc"]
    asked = generate.open_media(SimpleNamespace(**limits, **args), "x", model)
    assert asked == ("x", ["a"], clips, Limits(**limits))
    nothing = SimpleNamespace(**dict.fromkeys(limits), **args | {"video": []})
    assert generate.open_media(nothing, "y", model) == ("y", ["a"], [], Limits())


SHAPES = Path(__file__).parents[2] / "examples" / "media" / "shapes.png"


def test_a_picture_of_the_command_line(fixtures, tmp_path, capsys, same_process):
    """It is shown by name where there is no terminal, limited, looked at, and drawn on."""
    model, drawn = fixtures / "tiny.gguf", tmp_path / "drawn.png"
    line = ["generate", "--model", str(model), "--image", str(SHAPES), "--prompt", "x", "--greedy", "-n", "3"]
    assert main([*line, "--max-image-tokens", "16", "--show", "--draw", str(drawn)]) == 0
    told = capsys.readouterr()
    assert told.err == f"{SHAPES}\n{drawn}: boxes and points of the answer that are drawn: 0\n"
    looked = dict(images=[SHAPES], limits=Limits(max_image_tokens=16))
    answer = load(model).generate("x", max_tokens=3, temperature=0, presence_penalty=0, **looked)
    assert told.out == "".join(answer) + "\n"
    with Image.open(SHAPES) as shown, Image.open(drawn) as marked:
        assert marked.size == shown.size
    assert main([*line, "--raw"]) == 2
    assert capsys.readouterr().err == "qwen_ref: --raw: pictures need the chat template\n"
    assert main([*line, "--draw", str(tmp_path / "none" / "a.png")]) == 2  # before anything long begins
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_pictures_in_a_terminal(monkeypatch, capsys):
    image = Image.new("RGB", (200, 100), "red")
    media = [SimpleNamespace(image=image, name="a.png"), SimpleNamespace(image=None, name="b.mp4")]
    for columns, width in (10, 10), (500, 64):
        monkeypatch.setenv("COLUMNS", str(columns))
        generate.show_pictures(media, colour=True)
        assert capsys.readouterr() == (half_blocks(image, width) + "\n", "b.mp4\n")
    generate.show_pictures(media, colour=False)
    assert capsys.readouterr() == ("", "a.png\nb.mp4\n")


def test_the_boxes_of_an_answer_are_drawn(tmp_path, capsys):
    """On the first picture: of 1000 x 1000 units, here 100 x 50 pixels."""
    blank = Image.new("RGB", (100, 50), "white")
    media = [SimpleNamespace(image=None), SimpleNamespace(image=blank), SimpleNamespace(image=None)]
    box = '[{"bbox_2d": [100, 200, 500, 800], "label": "x"}, {"point_2d": [900, 500], "label": "y"}]'
    generate.draw(media, box, str(tmp_path / "a.png"))
    assert capsys.readouterr().err == f"{tmp_path}/a.png: boxes and points of the answer that are drawn: 2\n"
    with Image.open(tmp_path / "a.png") as drawn:
        assert drawn.size == (100, 50) and drawn.convert("RGB").tobytes() != blank.tobytes()
