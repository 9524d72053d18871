"""What a chat is read from and shown on: a terminal, with rich and prompt_toolkit, or plain lines."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from qwen_ref.errors import QwenRefError
from qwen_ref.interrupts import undisturbed

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what a terminal would obey; a model may write it
FENCE = re.compile(r" {0,3}(```|~~~)")
REFRESH = 0.1  # seconds
PROMPT = "> "  # of questions and commands


class Face(Protocol):
    shows_thoughts: bool  # unless it is told otherwise
    scripted: bool  # nobody sits there: answers are to pair with questions, and the end tells what failed

    def skip(self) -> None:
        """A question has no answer."""

    def read(self, prompt: str, given: str = "") -> str | None:
        """A line, or several; `given` is there to be changed. None at the end. Raises QwenRefError for what
        is no text."""

    def tell(self, text: str) -> None:
        """What is no answer."""

    def show(self, deltas: Iterable[Any], thoughts: bool) -> None:
        """An answer as it comes."""


def open_face(commands: Mapping[str, tuple[str, str]]) -> Face:
    """`commands` are completed: name -> (argument, help)."""
    if sys.stdin is None:
        raise QwenRefError("standard input is closed")
    if not sys.stdin.isatty() or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return Plain()
    try:
        return Terminal(commands)
    except ImportError:
        print("without colours and editing, which pip install 'qwen_ref[chat]' brings", file=sys.stderr)
        return Plain()


def written(call: dict[str, Any]) -> str:
    """A tool call as programmers write it: weather(city="Oslo")."""
    function = call["function"]
    arguments = function["arguments"]
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    values = ", ".join(f"{name}={json.dumps(v, ensure_ascii=False)}" for name, v in arguments.items())
    return f"{function['name']}({values})"


class Plain:
    """Lines in, answers out; all else goes to standard error."""

    shows_thoughts = False

    def __init__(self) -> None:
        self._line, self.scripted = 0, not sys.stdin.isatty()

    def skip(self) -> None:
        if self.scripted:
            print(flush=True)

    def read(self, prompt: str, given: str = "") -> str | None:
        if sys.stdin.isatty():
            print(prompt, end="", file=sys.stderr, flush=True)
        self._line += 1
        line = sys.stdin.buffer.readline()
        try:
            return line.decode().rstrip("\r\n") if line else None
        except UnicodeDecodeError as error:
            if prompt == PROMPT and not line.startswith(b"/"):
                self.skip()
            raise QwenRefError(
                f"standard input: line {self._line}: byte {error.start} is not UTF-8 text"
            ) from None

    def tell(self, text: str) -> None:
        sys.stdout.flush()
        print(text, file=sys.stderr, flush=True)

    def show(self, deltas: Iterable[Any], thoughts: bool) -> None:
        streams, last = {"reasoning": sys.stderr, "content": sys.stdout}, None
        try:
            for delta in deltas:
                if delta.kind == "tool_call":
                    ends_line = last in (None, "tool_call")
                    print(f"{'' if ends_line else chr(10)}{written(delta.call)}", flush=True)
                elif delta.kind == "content" or thoughts:
                    if last == "reasoning" and delta.kind == "content":
                        print(file=sys.stderr, flush=True)
                    streams[delta.kind].write(delta.text)
                    streams[delta.kind].flush()
                else:
                    continue
                last = delta.kind
        finally:
            if last != "tool_call":
                print(file=streams.get(last or "content"), flush=True)


class Terminal:
    """Raises ImportError without rich and prompt_toolkit."""

    shows_thoughts, scripted = True, False

    def __init__(self, commands: Mapping[str, tuple[str, str]]):
        from prompt_toolkit import PromptSession
        from prompt_toolkit.key_binding import KeyBindings
        from rich.console import Console

        keys = KeyBindings()
        keys.add("enter")(lambda event: event.current_buffer.validate_and_handle())
        keys.add("escape", "enter")(lambda event: event.current_buffer.insert_text("\n"))
        self._console = Console(highlight=False)
        self._session: PromptSession[str] = PromptSession(
            multiline=True,
            key_bindings=keys,
            prompt_continuation="  ",
            history=history(),
            completer=completer(commands),
            complete_while_typing=True,
            reserve_space_for_menu=4,
        )

    def skip(self) -> None:
        pass

    def read(self, prompt: str, given: str = "") -> str | None:
        while True:
            try:
                return self._session.prompt(prompt, default=given)
            except KeyboardInterrupt:
                self.tell("Ctrl-D leaves")
                given = ""
            except EOFError:
                return None

    def tell(self, text: str) -> None:
        self._print(text, "yellow")

    def show(self, deltas: Iterable[Any], thoughts: bool) -> None:
        markdown, thinking, began, told = Markdown(self._console), False, 0.0, 0.0
        try:
            for delta in deltas:
                with undisturbed():  # rich could not go on, or end, in the middle of what it draws
                    if thinking and delta.kind != "reasoning":
                        self._end_thought(thoughts, began)
                        thinking = False
                    if delta.kind == "content":
                        markdown.push(CONTROL.sub("", delta.text))
                    elif delta.kind == "tool_call":
                        markdown.end()
                        markdown = Markdown(self._console)
                        self._print(f"→ {written(delta.call)}", "cyan")
                    elif delta.text:
                        if not thinking:
                            thinking, began = True, time.monotonic()
                        if thoughts:
                            self._print(delta.text, "dim", end="")
                        elif (now := time.monotonic()) - told > 1:
                            told = now
                            line = f"\rthinking for {now - began:.0f} s (/thoughts show)"
                            self._print(line, "dim", end="")
        finally:
            with undisturbed():
                if thinking:
                    self._end_thought(thoughts, began)
                markdown.end()

    def _end_thought(self, shown: bool, began: float) -> None:
        if shown:
            self._console.print("\n")
        else:
            print("\r\033[K", end="")
            self._print(f"thought for {time.monotonic() - began:.0f} s", "dim")

    def _print(self, text: str, style: str, end: str = "\n") -> None:
        from rich.text import Text

        plain = ("\r" if text.startswith("\r") else "") + CONTROL.sub("", text)
        self._console.print(Text(plain, style), end=end, soft_wrap=True)


class Markdown:
    """Markdown as it comes. Blocks that are over are printed for good; the last one is drawn again and again,
    as much of its end as the screen has room for.
    """

    def __init__(self, console: Any):
        self._console, self._live = console, cast(Any, None)
        self._text, self._next, self._printed = "", 0.0, False

    def push(self, text: str) -> None:
        from rich.live import Live

        self._text += text
        if (end := end_of_blocks(self._text)) > 0:
            self._print(self._text[:end])
            self._text = self._text[end:]
        elif time.monotonic() < self._next:
            return
        began = time.monotonic()
        if self._live is None:
            self._live = Live(console=self._console, transient=True, auto_refresh=False)
            self._live.start()
        self._live.update(self._tail(), refresh=True)
        now = time.monotonic()
        self._next = now + max(REFRESH, 10 * (now - began))  # most of the processor is for the model

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()  # what it drew is gone
            self._live = None
        if self._text.strip():
            self._print(self._text)
        self._text = ""

    def _print(self, text: str) -> None:
        if self._printed:
            self._console.print()
        self._console.print(self._rendered(text))
        self._printed = True

    def _rendered(self, text: str) -> Any:
        from markdown_it import MarkdownIt
        from rich import markdown

        rendered = markdown.Markdown("", hyperlinks=False)
        # With HTML, as rich reads it, <this> would not be shown at all.
        parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
        rendered.parsed = parser.parse(text)
        return rendered

    def _tail(self) -> Any:
        from rich.segment import Segment, Segments

        lines = self._console.render_lines(self._rendered(self._text), pad=False)
        lines = [[], *lines] if self._printed else lines
        room = max(1, self._console.height - 2)
        return Segments([segment for line in lines[-room:] for segment in (*line, Segment.line())])


def end_of_blocks(text: str) -> int:
    """So many characters are blocks of Markdown that what follows cannot change: up to an empty line outside
    of code, behind which a new block has begun."""
    end, at, fence, empty = 0, 0, "", False
    for line in text.splitlines(keepends=True):
        if not fence and empty and not line[0].isspace():
            end = at
        if found := FENCE.match(line):
            fence = "" if found[1] == fence else fence or found[1]
        at, empty = at + len(line), not line.strip()
    return end


def history() -> Any:
    """What was typed, kept for its user alone; for this chat only if that cannot be."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "qwen_ref"
        state.mkdir(parents=True, exist_ok=True)
        file = state / "chat_history"
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    except (OSError, RuntimeError):
        return InMemoryHistory()
    return FileHistory(str(file))


def completer(commands: Mapping[str, tuple[str, str]]) -> Any:
    """Of commands, of what they may be told, and of the files that they are given."""
    from prompt_toolkit.completion import Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document

    paths = PathCompleter(expanduser=True)

    class Commands(Completer):
        def get_completions(self, document: Any, event: Any) -> Iterator[Any]:
            name, space, rest = document.text.partition(" ")
            if not name.startswith("/") or not document.is_cursor_at_the_end:
                return
            argument = commands.get(name, ("", ""))[0]
            if not space:
                for command, (_, explanation) in commands.items():
                    if command.startswith(name):
                        yield Completion(command, -len(name), display_meta=explanation)
            elif argument in ("FILE", "PATH"):
                yield from paths.get_completions(Document(rest), event)
            elif "|" in argument:
                for choice in argument.split("|"):
                    if choice.startswith(rest):
                        yield Completion(choice, -len(rest))

    return Commands()
