"""Talk with a model: on a terminal, or line by line through pipes.

On a terminal Enter sends, Alt-Enter begins a new line, Ctrl-C stops the answer and Ctrl-D leaves; /help lists
the commands. Without one each line is a question or a command; answers alone go to standard output, an empty
line for a question that is refused, and then the exit status is 2 in the end.

examples:
  python -m qwen_ref chat                                   # the small model that ships with qwen_ref
  python -m qwen_ref chat qwen3.5:0.8b                      # is fetched, if you say so
  python -m qwen_ref chat model.gguf --thinking --thinking-budget 500 --system "Be brief."
  python -m qwen_ref chat model.gguf --tools tools.json
  cat questions.txt | python -m qwen_ref chat model.gguf
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from gguf_io import GGUFError
from qwen_ref import hub
from qwen_ref.cli.generate import show_progress, statistics
from qwen_ref.cli.options import (
    MODEL_HELP,
    add_draft,
    add_keeping,
    add_media,
    add_memory_limit,
    add_resources,
    add_sampling,
    add_thinking,
    add_thinking_budget,
    keeping_of,
    limits_of,
    resources_of,
    sampling_of,
    shipped_model,
    typed_text,
)
from qwen_ref.cli.terminal import PROMPT, Face, open_face
from qwen_ref.cli.warmup import show_compiling
from qwen_ref.errors import QwenRefError
from qwen_ref.files import read_json

COMMANDS = {  # name -> (argument, help)
    "/image": ("PATH", "a picture, shown with the next question; without a path: none of those given"),
    "/video": ("PATH", "a clip, likewise"),
    "/think": ("on|off", "reason before answering"),
    "/thoughts": ("show|hide", "whether thoughts are shown"),
    "/system": ("TEXT", "the system prompt from now on; none: without; no text: what it is"),
    "/tools": ("FILE", "definitions of tools, JSON, whose answers you type; none, or no file: likewise"),
    "/new": ("", "a new conversation, with the same system prompt and tools"),
    "/undo": ("", "take back the last question and its answer"),
    "/edit": ("TEXT", "ask the last question anew, in these words"),
    "/save": ("FILE", "the conversation, as JSON"),
    "/load": ("FILE", "go on with one that was saved"),
    "/stats": ("", "tokens and times of the last answer"),
    "/help": ("", "this list"),
    "/quit": ("", "leave, as Ctrl-D does"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--system", type=typed_text, metavar="TEXT", help="system prompt")
    add_thinking(parser, "reason before answering (unless one of both is given, the chat template decides)")
    add_thinking_budget(parser)
    parser.add_argument("--tools", metavar="FILE", help="definitions of tools, JSON, as for chat APIs")
    add_media(parser)
    parser.add_argument(
        "-n", "--max-tokens", type=int, metavar="N", help="of an answer, at most this many (32,768)"
    )
    parser.add_argument(
        "--context", type=int, metavar="N", help="longest conversation, in tokens (the model's own)"
    )
    add_sampling(parser)
    resources = parser.add_argument_group("resources")
    add_draft(resources)
    add_resources(resources)
    add_memory_limit(resources)
    add_keeping(resources)


def run(args: argparse.Namespace) -> int:
    if args.thinking_budget is not None and args.thinking is False:
        raise QwenRefError("--thinking-budget: --no-thinking leaves nothing to end")
    options = sampling_of(args) | {"max_tokens": args.max_tokens, "draft": args.draft}
    if args.thinking_budget is not None:
        options["thinking_budget"] = args.thinking_budget
    if limits := limits_of(args):
        options["limits"] = limits
    if sys.stderr.isatty():
        options["progress"] = show_progress
    tools = read_tools(args.tools) if args.tools is not None else None
    resources = resources_of(args) | keeping_of(args)
    face = open_face(COMMANDS)
    path = model_file(args.model)
    from qwen_ref.conversation import Conversation
    from qwen_ref.engine import load

    model = load(path, **resources)
    conversation = Conversation(model, system=args.system, tools=tools, thinking=args.thinking, **options)
    conversation.check()
    model.warm_up(show_compiling)
    chat = Chat(conversation, face)
    chat.run()
    return 2 if chat.failed and face.scripted else 0


def model_file(name: str | None) -> str:
    """The model's path; one that is to be fetched is, if who sits at the terminal says so."""
    if name is None:
        return shipped_model()
    if hub.is_name(name) and sys.stdin.isatty() and sys.stderr.isatty():
        found = hub.find(name)
        if found is None or not found.whole:
            print(f"{name} is not on this machine. Fetch it? [Y/n] ", end="", file=sys.stderr, flush=True)
            if sys.stdin.readline().strip().lower() in ("", "y", "yes"):
                from qwen_ref.cli.pull import pull

                pull(name)
    return str(hub.resolve(name)[0])


def read_tools(path: str) -> list[dict[str, Any]] | None:
    """A list of tools, or {"tools": […]}. Raises QwenRefError."""
    from qwen_ref.messages import check_tools

    found = read_json(path)
    try:
        return check_tools(found.get("tools") if isinstance(found, dict) else found)
    except QwenRefError as error:
        raise QwenRefError(f"{path}: {error}") from None


class Chat:
    """What is typed, done."""

    def __init__(self, conversation: Any, face: Face):
        self.conversation, self.face = conversation, face
        self.thoughts = face.shows_thoughts
        self.media: list[dict[str, Any]] = []  # parts, for the next question
        self.given = ""  # what the next question may be made of
        self.failed = False  # a line at least

    def run(self) -> None:
        try:
            while not self.turn():
                pass
        finally:
            self.conversation.save_read()

    def turn(self) -> bool:
        """Whether the chat is over."""
        try:
            with contextlib.ExitStack() as ahead:
                ahead.enter_context(self.reading_ahead())
                line, self.given = self.face.read(PROMPT, self.given), ""
                with self.stoppable():
                    ahead.close()  # a step may take a while
                    return line is None or self.take(line)
            return False
        except (QwenRefError, GGUFError) as error:
            self.face.tell(str(error))
        except MemoryError as error:
            self.face.tell(f"not enough memory: {error}")
        self.failed = True
        return False

    @contextlib.contextmanager
    def reading_ahead(self) -> Iterator[None]:
        """Beside what is done here the last answer is read, as the next prompt will have it, and saved."""
        typed, over, interrupted = threading.Event(), threading.Event(), False

        def read() -> None:
            try:
                with contextlib.closing(self.conversation.read_ahead()) as pieces:
                    while not typed.is_set() and next(pieces, self) is not self:
                        pass
                self.conversation.save_read(typed.is_set)
            finally:
                over.set()

        threading.Thread(target=read).start()
        try:
            yield
        finally:
            typed.set()
            while not over.is_set():  # joining would be over at the first Ctrl-C
                try:
                    over.wait()
                except KeyboardInterrupt:
                    interrupted = True
        if interrupted:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def stoppable(self) -> Iterator[None]:
        """Ctrl-C ends what is being done, and not the chat."""
        before = len(self.conversation.messages)
        try:
            yield
        except KeyboardInterrupt:
            if "progress" in self.conversation.options:
                show_progress("", 1, 1)  # off the screen
            kept = len(self.conversation.messages) > before
            self.face.tell("stopped; what was said is kept" if kept else "stopped")

    def take(self, line: str) -> bool:
        """Whether the chat is over."""
        if not line.startswith("/"):
            if line.strip():
                self.ask(line)
            return False
        name, _, argument = line.partition(" ")
        if name not in COMMANDS:
            raise QwenRefError(f"{name}: is no command; /help lists them (begin with a space to say it)")
        argument = argument.strip()
        if argument and not COMMANDS[name][0]:
            raise QwenRefError(f"{name}: takes nothing, not {argument!r:.80}")
        if name == "/quit":
            return True
        getattr(self, f"do_{name[1:]}")(argument)
        return False

    def ask(self, text: str) -> None:
        content = [*self.media, {"type": "text", "text": text}] if self.media else text
        try:
            self.answer(lambda: self.conversation.ask(content))
        except QwenRefError:
            self.given = text
            raise
        self.media = []

    def answer(self, begin: Callable[[], Generator[Any]]) -> None:
        """Show an answer, and have its tools' results typed, until there are no more calls."""
        try:
            deltas = begin()
        except BaseException:
            self.face.skip()
            raise
        with contextlib.closing(deltas):
            self.face.show(deltas, self.thoughts)
        generation = self.conversation.generation
        if generation.finish_reason.startswith("length"):
            self.face.tell(f"ends here, after {len(generation.token_ids):,} tokens: {self.why_no_more()}")
        elif not self.conversation.messages[-1]["content"] and not self.conversation.calls:
            self.face.tell("it answers nothing")
        results = []
        for call in self.conversation.calls:
            result = self.face.read(f"{call['function']['name']} answers: ")
            if not result:
                self.face.tell("no answer of the tool; go on with a question")
                return
            results.append(result)
        if results:
            self.answer(lambda: self.conversation.give(results))

    def why_no_more(self) -> str:
        generation, context = self.conversation.generation, self.conversation.model.context
        if len(generation.prompt_ids) + len(generation.token_ids) < context:
            return "-n allows no more"
        return f"the context of {context:,} is full (/undo, /new)"

    # ---- commands

    def do_image(self, path: str) -> None:
        self.show_next("image", path)

    def do_video(self, path: str) -> None:
        self.show_next("video", path)

    def show_next(self, kind: str, path: str) -> None:
        from qwen_ref.media.uri import is_address

        if not path:
            self.media = []
            self.face.tell("no pictures or clips with the next question")
            return
        if not is_address(path):
            path = str(file_of(f"/{kind}", path))
        part = {"type": kind, kind: path}
        images, videos = ([part], []) if kind == "image" else ([], [part])
        limits = self.conversation.options.get("limits")
        _, (media,) = self.conversation.model.open_media("", images, videos, limits)
        self.media.append(part)
        self.face.tell(f"{media.name}: {media.shape.num_tokens:,} tokens, with the next question")

    def do_think(self, choice: str) -> None:
        self.conversation.thinking = choice_of("/think", choice, {"on": True, "off": False})
        self.face.tell(f"reasoning before answers: {choice}")

    def do_thoughts(self, choice: str) -> None:
        self.thoughts = choice_of("/thoughts", choice, {"show": True, "hide": False})
        self.face.tell(f"thoughts: {'shown' if self.thoughts else 'hidden'}")

    def do_system(self, text: str) -> None:
        if text:
            self.conversation.system = None if text == "none" else text
        self.face.tell(f"system prompt: {self.conversation.system or 'none'}")

    def do_tools(self, path: str) -> None:
        if path:
            self.conversation.tools = None if path == "none" else read_tools(str(file_of("/tools", path)))
        names = [tool.get("function", tool)["name"] for tool in self.conversation.tools or []]
        self.face.tell(f"tools: {', '.join(names) or 'none'}")

    def do_new(self, nothing: str) -> None:
        system = self.conversation.system
        self.conversation.messages, self.media = [], []
        self.conversation.system = system
        self.face.tell("a new conversation")

    def do_undo(self, nothing: str) -> None:
        from qwen_ref.media.parts import media_kind

        content = self.conversation.undo()["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        self.media = [part for part in parts if media_kind(part)]
        text = "".join(part["text"] for part in parts if not media_kind(part))
        shown = "; what it showed is shown with the next question (/image: not)" if self.media else ""
        self.face.tell(f"taken back: {text}{shown}")

    def do_edit(self, text: str) -> None:
        if not text:
            raise QwenRefError("/edit: in which words?")
        self.answer(lambda: self.conversation.edit(text))

    def do_save(self, path: str) -> None:
        self.conversation.save(file := file_of("/save", path))
        self.tell_length(file)

    def do_load(self, path: str) -> None:
        self.conversation.load(file := file_of("/load", path))
        self.tell_length(file)

    def tell_length(self, file: Path) -> None:
        count = len(self.conversation.messages)
        self.face.tell(f"{file}: {count} message{'s' * (count != 1)}")

    def do_stats(self, nothing: str) -> None:
        if (generation := self.conversation.generation) is None:
            raise QwenRefError("nothing was answered yet")
        numbers = statistics(generation, 0)
        cached = generation.cached_tokens
        total = len(generation.prompt_ids) + len(generation.token_ids)
        self.face.tell(
            f"{numbers['prompt_tokens']} prompt tokens, {cached} of them cached, in "
            f"{numbers['prompt_seconds']} s; {numbers['generated_tokens']} generated at "
            f"{numbers['decode_tokens_per_second'] or '-'} t/s; {total:,} of "
            f"{self.conversation.model.context:,} tokens of context are used"
        )

    def do_help(self, nothing: str) -> None:
        for name, (argument, explanation) in COMMANDS.items():
            self.face.tell(f"{f'{name} {argument}':20} {explanation}")


def choice_of(command: str, said: str, choices: dict[str, bool]) -> bool:
    if said not in choices:
        raise QwenRefError(f"{command}: {said!r:.80} is not {' or '.join(choices)}")
    return choices[said]


def file_of(command: str, path: str) -> Path:
    if not path:
        raise QwenRefError(f"{command}: which file?")
    if len(path) > 1 and path[0] == path[-1] and path[0] in "'\"":  # as a terminal drops it
        path = path[1:-1]
    return Path(path).expanduser()
