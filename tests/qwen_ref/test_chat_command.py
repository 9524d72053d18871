"""`chat`: what is typed on a terminal or comes through a pipe, and what is shown."""

import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from fcntl import ioctl
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from qwen_ref import QwenRefError, cli, load
from qwen_ref.cli import terminal
from qwen_ref.cli.chat import Chat
from qwen_ref.conversation import Conversation
from qwen_ref.engine import generation
from qwen_ref.model.text import TextModel

SHAPES = Path(__file__).parents[2] / "examples/media/shapes.png"
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {}}}
STORY = "Tell me a story about a fox."


@pytest.fixture(scope="module")
def model():
    return load()


@pytest.fixture
def conversation(model):
    return Conversation(model, temperature=0, max_tokens=60)


def said(deltas):
    return "".join(delta.text for delta in deltas)


# ---- a conversation


def test_it_goes_on_and_back(conversation, model):
    assert said(conversation.ask("What is 27 + 58?")) == "27 + 58 = 85."
    conversation.system = "Be brief."
    conversation.system = "Be kind."
    question = {"role": "user", "content": "Hello"}
    first, second = conversation.messages[1:], [question]
    answer = said(conversation.ask("Hello"))
    messages = [{"role": "system", "content": "Be kind."}, *first, *second]
    alone = model.generate(messages, temperature=0, max_tokens=60)
    assert "".join(alone).strip() == answer and conversation.messages == [*messages, alone.message]

    assert said(conversation.edit("What is 12 + 7?")) == conversation.messages[-1]["content"]
    assert [m["content"] for m in conversation.messages[-2:-1]] == ["What is 12 + 7?"]
    assert conversation.undo()["content"] == "What is 12 + 7?"
    assert conversation.messages == messages[:3]
    before = list(conversation.messages)
    with pytest.raises(QwenRefError, match=r"^the prompt: \d+ tokens leave no room"):
        conversation.edit("x" * 100_000)
    assert conversation.messages == before
    conversation.undo()
    with pytest.raises(QwenRefError, match=r"^nothing was asked that could be taken back$"):
        conversation.undo()


def test_what_is_interrupted_is_kept_as_far_as_it_came(conversation):
    coming = conversation.ask(STORY)
    coming.close()  # before it began
    assert conversation.messages == []
    coming = conversation.ask(STORY)
    begun = said(next(coming) for _ in range(5))
    coming.close()
    assert conversation.messages[-1]["content"].startswith(begun.strip()) and len(conversation.messages) == 2
    assert conversation.generation.finish_reason == "interrupted"
    conversation.generation = None
    assert said(conversation.ask("Go on.")) and len(conversation.messages) == 4


@pytest.mark.parametrize("steps", [0, 12])
def test_what_is_interrupted_within_a_step(conversation, monkeypatch, steps):
    """With what was held back because a stop string might have come; before the first token it is nothing."""
    whole = said(conversation.ask(STORY))
    conversation.undo()
    conversation.options["stop"] = whole[:40] + "\0"

    advance, left = generation.advance, [*range(steps)]

    def some(generations):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return advance(generations)

    monkeypatch.setattr(generation, "advance", some)
    with pytest.raises(KeyboardInterrupt):
        said(conversation.ask(STORY))
    monkeypatch.undo()
    text = conversation.generation.text
    assert text == conversation.model.tokenizer.decode(conversation.generation.token_ids)
    contents = [message["content"] for message in conversation.messages]
    assert contents == ([STORY, text.strip()] if steps else []) and bool(text) == bool(steps)


def test_the_end_of_an_answer_comes_though_it_has_no_text_of_its_own(conversation, monkeypatch):
    """A call that was begun, and is none, is known to be text only then."""
    model = conversation.model
    token_ids = model.tokenizer.encode("Hm <tool_call>\n<function=f>", special=True)
    steps = iter([*token_ids, model.tokenizer.ids["<|im_end|>"]])
    rows = np.eye(model.text.config.vocab_size, dtype=np.float32)
    monkeypatch.setattr(TextModel, "logits", lambda self, hidden: rows[[next(steps) for _ in hidden]])
    conversation.options["draft"] = "off"
    assert said(conversation.ask("Hello")) == conversation.messages[-1]["content"]
    assert conversation.messages[-1]["content"] == "Hm <tool_call>\n<function=f>"


# ---- what is typed, done


class Lines:
    """A face without a terminal."""

    shows_thoughts = scripted = False

    def skip(self):
        self.skipped = True

    def __init__(self, *lines):
        self.lines, self.given, self.told, self.shown = [*lines], [], [], []

    def read(self, prompt, given=""):
        self.given.append(given)
        return self.lines.pop(0) if self.lines else None

    def tell(self, text):
        self.told.append(text)

    def show(self, deltas, thoughts):
        self.shown.append(said(deltas))


class Said:
    """A conversation without a model: its answers are given, errors among them."""

    def __init__(self, *answers):
        self.answers, self.asked, self.messages, self.calls, self.options = answers, [], [], [], {}
        self.generation = SimpleNamespace(finish_reason="stop", token_ids=[5])
        self.read, self.closed, self.saved = 0, 0, []

    def ask(self, content):
        answer, *self.answers = self.answers
        self.asked.append(content)
        if isinstance(answer, BaseException):
            raise answer
        self.messages += [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
        yield SimpleNamespace(text=answer)

    def undo(self):
        question, _ = self.messages[-2:]
        del self.messages[-2:]
        return question

    def read_ahead(self):
        try:
            while self.read < 400:
                self.read += 1
                time.sleep(0.002)
                yield
        finally:
            time.sleep(0.01)
            self.closed += 1

    def save_read(self, stop=lambda: False):
        self.saved.append(stop())


def test_what_goes_wrong_is_told_and_the_chat_goes_on():
    face = Lines("a", "b", "c", "d", "", "/undo", "")
    errors = MemoryError("of 3 GB"), KeyboardInterrupt(), QwenRefError("no")
    conversation, part = Said(*errors, ""), {"type": "image", "image": "a.png"}
    chat = Chat(conversation, face)
    chat.media = [part]
    chat.run()
    assert face.told == [
        *("not enough memory: of 3 GB", "stopped", "no", "it answers nothing"),
        "taken back: d; what it showed is shown with the next question (/image: not)",
    ]
    assert face.given == ["", "", "", "c", "", "", "", ""]  # what was refused is there to be changed
    assert conversation.asked[-1] == [part, {"type": "text", "text": "d"}]
    assert chat.media == [part]  # taken back, too


def test_pictures_are_shown_once():
    chat = Chat(Said("x", "y"), Lines("a", "b"))
    chat.media = [{"type": "image", "image": "a.png"}]
    chat.run()
    assert len(chat.conversation.asked[0]) == 2 and chat.conversation.asked[1] == "b"


def test_reading_ahead_ends_when_something_is_typed():
    chat = Chat(Said(), Lines())
    with chat.reading_ahead():
        while not chat.conversation.read:
            time.sleep(0.001)
    assert chat.conversation.closed == 1 and chat.conversation.read < 400
    assert chat.conversation.saved == [True]  # what is typed does not wait for it


def test_ctrl_c_before_reading_ahead_has_ended():
    """It stops what was asked, which no two threads may answer, and not the chat."""

    class Slow(Said):
        def read_ahead(self):
            if not self.read:
                self.read, me = 1, threading.main_thread().ident
                while not face.given or sys._current_frames()[me].f_code.co_name != "wait":
                    time.sleep(0.001)
                signal.pthread_kill(me, signal.SIGINT)
                time.sleep(0.05)
                self.over = True
            yield

    class Hurried(Lines):
        def read(self, prompt, given=""):
            while not conversation.read:
                time.sleep(0.001)
            return super().read(prompt, given)

    face, conversation = Hurried("a", "b"), Slow("x")
    Chat(conversation, face).run()
    assert face.told == ["stopped"] and conversation.asked == ["b"] and conversation.over


def test_what_was_read_is_saved_while_nobody_types_and_at_the_end(tmp_path):
    conversation = Conversation(load(cache=tmp_path), temperature=0)
    chat = Chat(conversation, face := Lines("What is 2 + 3?"))
    chat.turn()

    def wait(prompt, given=""):
        end = time.monotonic() + 30
        while not list(tmp_path.glob("*/*.safetensors")):
            assert time.monotonic() < end
            time.sleep(0.01)

    face.read = wait
    assert chat.turn()
    for file in tmp_path.glob("*/*.safetensors"):
        file.unlink()
    Chat(Conversation(load(cache=tmp_path), temperature=0), Lines("What is 2 + 4?")).run()
    again = load(cache=tmp_path).generate("What is 2 + 4?")
    again.start()
    assert again.cached_tokens > 0


@pytest.mark.parametrize("thinking", [True, False])
def test_an_answer_without_room_for_its_end(model, thinking):
    face = Lines(STORY)
    Chat(Conversation(model, temperature=0, max_tokens=3, thinking=thinking), face).run()
    assert face.told == ["ends here, after 3 tokens: -n allows no more"]


def test_an_answer_that_fills_the_context():
    face = Lines(STORY)
    Chat(Conversation(load(context=40), temperature=0), face).run()
    assert re.fullmatch(r"ends here, after \d+ tokens: the context of 40 is full \(/undo, /new\)", *face.told)


def test_pictures_are_saved_and_loaded_with_it(conversation, tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "pictures").mkdir(parents=True)
    (here / "pictures" / "shapes.png").write_bytes(SHAPES.read_bytes())
    monkeypatch.chdir(here)
    picture = {"type": "image", "image": "pictures/shapes.png"}
    far = {"type": "image", "image": str(SHAPES)}
    conversation.tools = [WEATHER]
    said(conversation.ask([picture, far, {"type": "text", "text": "Describe this picture."}]))
    conversation.save(here / "a.json")
    conversation.save(tmp_path / "b.json")  # only the file has other paths
    assert conversation.messages[0]["content"][0]["image"] == "pictures/shapes.png"
    here.rename(there)
    monkeypatch.chdir(tmp_path)
    again = Conversation(conversation.model, **conversation.options)
    again.load(there / "a.json")
    parts = again.messages[0]["content"]
    assert [parts[i]["image"] for i in (0, 1)] == [str(there / "pictures/shapes.png"), str(SHAPES)]
    assert again.tools == [WEATHER] and again.messages[1:] == conversation.messages[1:]
    assert said(again.edit("Describe this picture.")) == conversation.messages[1]["content"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"a": 1}', "'a' is no field of a conversation"),
        ('{"tools": []}', "messages: is no list of objects"),
        ('[{"role": "wizard", "content": ""}]', "message 1: role: 'wizard' is not one of"),
        ('[{"role": "user", "content": "", "colour": "red"}]', "message 1: 'colour' is no field of a user's"),
        (
            '[{"role": "user", "content": [{"type": "image", "image": "no.png"}]}]',
            r"message 1: part 1: .*no.png: ",
        ),
        ('[{"role": "user", "content": [{"type": "image", "image": "/dev/zero"}]}]', "not a regular file"),
        ('{"messages": [{"role": "user", "content": ""}], "tools": [3]}', "tools: .* is no list of objects"),
        (
            '{"messages": [{"role": "user", "content": ""}], "tools": [{}]}',
            "tools: number 1: name: is missing",
        ),
    ],
)
def test_files_of_strangers(conversation, tmp_path, text, words):
    file = tmp_path / "a.json"
    file.write_text(text)
    conversation.messages = before = [{"role": "user", "content": "x"}]
    with pytest.raises(QwenRefError, match=rf"^{file}: .*{words}") as told:
        conversation.load(file)
    assert conversation.messages is before and "\n" not in str(told.value)


def test_calls_wait_for_their_results(conversation, tmp_path):
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    conversation.tools = [WEATHER]
    conversation.messages = [
        {"role": "user", "content": "What is the weather in Oslo?"},
        {"role": "assistant", "content": "", "tool_calls": [call | {"id": "a"}]},
    ]
    conversation.save(tmp_path / "a.json")
    conversation.load(tmp_path / "a.json")
    assert conversation.calls == [call | {"id": "a"}]
    with pytest.raises(QwenRefError, match=r"^2 results are given for 1 calls$"):
        conversation.give(["1", "2"])
    assert said(conversation.give(["It is sunny."]))
    assert conversation.messages[2] == {"role": "tool", "content": "It is sunny.", "tool_call_id": "a"}
    assert conversation.calls == [] and len(conversation.messages) == 4


# ---- through a pipe


@pytest.fixture
def chat(monkeypatch, capsys, tmp_path):
    """What comes of such lines, in a folder of the test: exit status, answers, and lines told beside them."""
    monkeypatch.chdir(tmp_path)

    def of(lines, *args):
        data = lines if isinstance(lines, bytes) else "\n".join(lines).encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        status = cli.main(["chat", "--greedy", *args])
        out, err = capsys.readouterr()
        return status, out, err.splitlines()[1:]

    return of


def test_lines_in_answers_out(tmp_path):
    (tmp_path / "tools.json").write_text(json.dumps([WEATHER]))
    (tmp_path / "broken.json").write_text("[{")
    lines = [
        *("What is 27 + 58?", "", "/nope", "/undo now", "/think maybe", "/thoughts", "/save", "/load"),
        *(
            "/image none.png",
            "/image /dev/null",
            "/load broken.json",
            "/tools broken.json",
            "/tools",
            "/edit",
        ),
        *(
            "/tools tools.json",
            "/tools",
            "/tools none",
            f"/image {SHAPES}",
            "Describe this picture.",
            '/save "a.json"',
            "/undo",
        ),
        *("/image", "/load 'a.json'", "/stats", "/system Be kind.", "/system", "/new", "/system"),
        *("/think off", "/help", "/quit", "never read"),
    ]
    command = [sys.executable, "-m", "qwen_ref", "chat", "--greedy"]
    pipes = dict(input="\n".join(lines), capture_output=True, text=True, timeout=100)
    done = subprocess.run(command, cwd=tmp_path, **pipes)
    told = done.stderr.splitlines()[1:]
    answer, picture = done.stdout.splitlines()
    assert (done.returncode, answer) == (2, "27 + 58 = 85.") and picture
    expected = [
        r"/nope: is no command; /help lists them \(begin with a space to say it\)",
        r"/undo: takes nothing, not 'now'",
        r"/think: 'maybe' is not on or off",
        r"/thoughts: '' is not show or hide",
        r"/save: which file\?",
        r"/load: which file\?",
        r"none.png: cannot be read: No such file or directory",
        r"/dev/null: is not a regular file",
        *2 * [r"broken.json: is not JSON \(.*\)"],
        r"tools: none",
        r"/edit: in which words\?",
        r"tools: weather",
        r"tools: weather",
        r"tools: none",
        rf"{SHAPES}: 64 tokens, with the next question",
        r"a.json: 4 messages",
        r"taken back: Describe this picture.; what it showed .*",
        r"no pictures or clips with the next question",
        r"a.json: 4 messages",
        r"\d+ prompt tokens, \d+ of them cached, in [\d.]+ s; \d+ generated at [\d.]+ t/s; \d+ of 16,384 .*",
        *2 * [r"system prompt: Be kind\."],
        r"a new conversation",
        r"system prompt: Be kind\.",
        r"reasoning before answers: off",
    ]
    for line, pattern in zip(told, expected):
        assert re.fullmatch(pattern, line), (pattern, line)
    assert len(told) == len(expected) + len(terminal_commands())
    saved = json.loads((tmp_path / "a.json").read_text())
    assert [m["role"] for m in saved["messages"]] == ["user", "assistant"] * 2


def terminal_commands():
    from qwen_ref.cli.chat import COMMANDS

    return COMMANDS


def test_what_a_tool_answers_is_the_next_line(chat, tmp_path):
    city = {"type": "string", "description": "the city's name"}
    parameters = {"type": "object", "properties": {"city": city}, "required": ["city"]}
    about = {"name": "get_weather", "description": "The weather in a city", "parameters": parameters}
    (tmp_path / "tools.json").write_text(json.dumps({"tools": [{"type": "function", "function": about}]}))
    question = "What is the weather in Oslo?"
    lines = [question, '{"temperature": 5, "sky": "sunny"}', "/save a.json", "/new", question, "", "Hello"]
    status, out, told = chat(lines, "--tools", "tools.json")
    assert status == 0 and "\nThe weather: temperature 5, sky sunny.\n" in out
    assert told == [
        "a.json: 4 messages",
        "a new conversation",
        "no answer of the tool; go on with a question",
    ]
    assert out.startswith('get_weather(city="Oslo")\n')


def test_lines_that_are_no_text_and_none_at_all(chat, capsys, monkeypatch):
    status, out, told = chat(b"Gr\xfc\xdfe\nWhat is 27 + 58?", "--system", "")
    assert (status, out) == (2, "\n27 + 58 = 85.\n")  # a line for each question
    assert told == ["standard input: line 1: byte 2 is not UTF-8 text"]
    assert chat(b"") == (0, "", [])
    monkeypatch.setenv("QWEN_REF_MODELS", "/nowhere")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"y\n")))
    assert cli.main(["chat", "qwen3.5:2b"]) == 2
    assert "`python -m qwen_ref pull qwen3.5:2b` fetches it" in capsys.readouterr().err


def test_questions_that_are_refused_have_an_empty_line(chat):
    status, out, told = chat(["x" * 9999, "What is 27 + 58?"], "--context", "99")
    assert (status, out) == (2, "\n27 + 58 = 85.\n") and told[0].startswith("the prompt: ")


@pytest.mark.parametrize(
    "options, words",
    [
        (["--top-p", "7"], "--top-p: 7.0 is not in 0.0 to 1.0"),
        (["-n", "0"], "--max-tokens: 0 is not"),
        (["--thinking-budget", "-3"], "--thinking-budget: -3 is not"),
        (["--thinking-budget", "3", "--no-thinking"], "--thinking-budget: --no-thinking leaves nothing"),
        (["--system", 16_000 * "x y "], "the prompt: "),
    ],
)
def test_options_are_judged_before_anything_is_asked(options, words, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert cli.main(["chat", *options]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"qwen_ref: {words}")


def test_values_that_are_no_conversation(model):
    for make, words in [
        (lambda: Conversation(5), "model: an int is none that qwen_ref.load gave"),
        (lambda: Conversation(model, system=5), "system: an int is no text"),
        (lambda: Conversation(model).save(5), "path: an int is no path"),
        (lambda: Conversation(model).load(5), "path: an int is no path"),
    ]:
        with pytest.raises(QwenRefError, match=words):
            make()


# ---- on a terminal


class Typist:
    """A chat in a terminal of its own. `until` reads on, `type` answers."""

    def __init__(self, *args, home, rows=24):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:  # pragma: no cover
            os.environ.update(TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1", XDG_STATE_HOME=str(home))
            os.environ.pop("NO_COLOR", None)
            os.execv(sys.executable, [sys.executable, "-m", "qwen_ref", "chat", *args])
        ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
        self.seen = ""

    def until(self, text):
        end = time.monotonic() + 60
        while text not in self.seen:
            assert time.monotonic() < end, (text, self.seen)
            if select.select([self.terminal], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.terminal, 65536).decode(errors="replace")
                except OSError:  # nobody writes any more
                    raise AssertionError((text, self.seen)) from None
        before, _, self.seen = self.seen.partition(text)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", before)

    def ready(self):
        return self.until("\x1b[?2004h")  # from now on it can be pasted into

    def type(self, text):
        os.write(self.terminal, text.encode())

    def end(self):
        with pytest.raises(OSError):  # nobody writes any more
            while True:
                os.read(self.terminal, 65536)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_typed(tmp_path):
    chat = Typist("--greedy", home=tmp_path)
    chat.ready()
    chat.type("What is\x1b\r27 + 58?\r")  # in two lines
    assert "27 + 58 = 85." in chat.ready()
    chat.type("/st")
    chat.until("tokens and times")  # in a menu
    chat.type("\t")
    chat.until("ats")
    chat.type("\r")
    chat.until("prompt tokens")
    chat.ready()
    chat.type("/undo\r")
    chat.until("taken back: ")
    chat.until("27 + 58?")
    chat.ready()
    chat.type("/undo\r")  # typed behind nothing
    chat.until("nothing was asked")
    chat.ready()
    chat.type("\x03")
    chat.until("Ctrl-D leaves")
    chat.ready()
    chat.type("\x04")
    assert chat.end() == 0
    history = tmp_path / "qwen_ref/chat_history"
    assert "+27 + 58?" in history.read_text() and history.stat().st_mode & 0o77 == 0


def test_what_is_stopped_is_kept_and_the_chat_goes_on(tmp_path):
    endless = "--temperature", "100", "--top-k", "0", "--top-p", "1", "--seed", "29"  # 3,652 tokens
    chat = Typist(*endless, home=tmp_path)
    chat.ready()
    chat.type(f"{STORY}\r")
    chat.until("0 %")
    chat.until("\x1b[?25l")  # something is shown
    chat.type("\x03")
    chat.until("stopped; what was said is kept")
    chat.ready()
    chat.type(f"/save {tmp_path / 'a.json'}\r")
    chat.until("2 messages")
    chat.type("/quit\r")
    assert chat.end() == 0


def test_a_model_that_is_not_here_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("QWEN_REF_MODELS", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for answer, words in (
        ("n\r", "is not on this machine; `python"),
        ("\r", "http://127.0.0.1:9 does not answer"),
    ):
        chat = Typist("qwen3.5:0.8b", home=tmp_path)
        chat.until("Fetch it? [Y/n] ")
        chat.type(answer)
        chat.until(words)
        assert chat.end() == 2


def shown(deltas, thoughts):
    """What is shown of an answer in the end."""
    face = terminal.Terminal({})
    face._console = Console(file=io.StringIO(), width=40)
    face.show(deltas, thoughts)
    return "\n".join(line.rstrip() for line in face._console.file.getvalue().split("\n"))


def test_thoughts_calls_and_what_would_steer_the_terminal(capsys):
    call = {"function": {"name": "weather", "arguments": '{"city": "\\u001b[31mOslo"}'}}
    deltas = [
        SimpleNamespace(kind="reasoning", text="Hm \x1b[2J", call=None),
        SimpleNamespace(kind="content", text="The <b>\x1b]0;x\x07\x9b is `a<b`", call=None),
        SimpleNamespace(kind="tool_call", text="", call=call),
    ]
    text = shown(deltas, True)
    assert text == 'Hm [2J\n\nThe <b>]0;x is a<b\n→ weather(city="\\u001b[31mOslo")\n'
    assert "Hm" not in (hidden := shown(deltas, False)) and "thought for 0 s\n" in hidden
    terminal.Plain().show(deltas, False)
    assert capsys.readouterr().out.endswith('\nweather(city="\\u001b[31mOslo")\n')


def test_markdown_that_comes_in_pieces_is_shown_once():
    text = (
        "# A\n\nb *c*\n\n```\n"
        + "".join(f"line {n}\n\n" for n in range(30))
        + "```\n\n1. x\n\n2. y\n\n   z\n\nend"
    )
    assert terminal.end_of_blocks("```\n~~~\n\nx\n```\n\nb") == 16
    ends = [terminal.end_of_blocks(text[:n]) for n in range(len(text) + 1)]
    assert ends == sorted(ends) and [text[end:][:3] for end in sorted(set(ends))] == [
        *("# A", "b *", "```", "1. ", "2. ", "end")
    ]

    def printed(pieces):
        console = Console(file=io.StringIO(), width=40, height=8)
        markdown = terminal.Markdown(console)
        for piece in pieces:
            markdown.push(piece)
        markdown.end()
        return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]

    assert printed(text) == printed([text]) and sum("line 7" in line for line in printed(text)) == 1


def test_thoughts_of_the_model(tmp_path):
    chat = Typist("--greedy", "--thinking", home=tmp_path)
    chat.ready()
    chat.type("What is 27 + 58?\r")
    assert "27 + 58 = 85." in chat.ready()
    chat.type("/thoughts hide\r")
    chat.ready()
    chat.type("What is 12 + 13?\r")
    chat.until("thought for ")
    chat.ready()
    chat.type("/quit\r")
    assert chat.end() == 0
