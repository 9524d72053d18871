"""A conversation: messages, asked and answered, taken back, asked anew."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen_ref.answer import Delta
from qwen_ref.conversation import saved
from qwen_ref.engine.ahead import read_ahead
from qwen_ref.errors import QwenRefError, of_type
from qwen_ref.media import parts
from qwen_ref.messages import Message, check_messages, check_tools

if TYPE_CHECKING:
    from qwen_ref.engine import Generation, Model


def path_of(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise QwenRefError(f"path: {of_type(path)} is no path")
    return Path(path)


class Conversation:
    """What was said so far; `messages` are those of chat APIs, a system message the first of them.

    `thinking`, `tools` and `options` are those of `Model.generate`. `generation` is the last answer, also
    while it comes.
    """

    def __init__(
        self,
        model: Model,
        *,
        system: str | None = None,
        tools: list[dict[str, Any]] | None = None,
        thinking: bool | None = None,
        **options: Any,
    ):
        from qwen_ref.engine import Model

        if not isinstance(model, Model):
            raise QwenRefError(f"model: {of_type(model)} is none that qwen_ref.load gave")
        if thinking is False and options.get("thinking_budget") is not None:
            raise QwenRefError("thinking_budget: without thinking there is no thought to end")
        self.model, self.tools, self.thinking, self.options = model, check_tools(tools), thinking, options
        self.messages: list[Message] = []
        self.generation: Generation | None = None
        self.system = system

    @property
    def system(self) -> str | None:
        """The system message's text."""
        first = self.messages[0] if self.messages else {}
        return first["content"] if first.get("role") == "system" else None

    @system.setter
    def system(self, text: str | None) -> None:
        if not isinstance(text, str | None):
            raise QwenRefError(f"system: {of_type(text)} is no text")
        rest = self.messages if self.system is None else self.messages[1:]
        self.messages = [*([] if text is None else [{"role": "system", "content": text}]), *rest]

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The tool calls that the last message ends in, whose results are to be given."""
        return self.messages[-1].get("tool_calls", []) if self.messages else []

    def check(self) -> None:
        """Raises QwenRefError if no question could be asked with these options, tools and system message."""
        self._generation([{"role": "user", "content": "?"}])

    def ask(self, content: str | list[dict[str, Any]]) -> Generator[Delta]:
        """A question (a text, or parts: pictures, clips and texts) -> its answer as it comes.

        Question and answer are kept once it is over. If it is interrupted, or the iterator closed, what was
        said so far is; both are not kept if that is nothing, or after an error.
        Raises QwenRefError, at once, if the question cannot be asked.
        """
        return self._answer([{"role": "user", "content": content}])

    def give(self, results: list[str]) -> Generator[Delta]:
        """The results of `calls`, in their order -> the answer that goes on with them, as that of `ask`."""
        if len(results) != len(self.calls):
            raise QwenRefError(f"{len(results)} results are given for {len(self.calls)} calls")
        messages = [{"role": "tool", "content": result} for result in results]
        for message, call in zip(messages, self.calls):
            if "id" in call:
                message["tool_call_id"] = call["id"]
        return self._answer(messages)

    def read_ahead(self) -> Iterator[None]:
        """Read what was said, as far as the next question can begin with it, a piece at each step; to be
        closed when that comes. Nothing is read where the model keeps nothing."""
        with contextlib.suppress(QwenRefError):  # no room for another turn: that is said when it comes
            if self.messages and not self.calls:
                yield from read_ahead(self.model, self.messages, self.tools)

    def save_read(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Write what was read to the model's `cache` folder, if it has one, until `stop` says so."""
        if self.model.prefixes is not None:
            self.model.prefixes.save(stop)

    def undo(self) -> Message:
        """Take back the last question with all that followed it, and return it. Raises QwenRefError."""
        asked = [number for number, message in enumerate(self.messages) if message["role"] == "user"]
        if not asked:
            raise QwenRefError("nothing was asked that could be taken back")
        question = self.messages[asked[-1]]
        del self.messages[asked[-1] :]
        return question

    def edit(self, text: str) -> Generator[Delta]:
        """Ask the last question anew with another text, and with its pictures and clips, as `ask`."""
        before = list(self.messages)
        content = self.undo()["content"]
        media = [] if isinstance(content, str) else [part for part in content if parts.media_kind(part)]
        try:
            return self.ask([*media, {"type": "text", "text": text}] if media else text)
        except BaseException:
            self.messages = before
            raise

    def save(self, path: str | os.PathLike[str]) -> None:
        """Raises QwenRefError."""
        saved.write(path_of(path), self.messages, self.tools)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on with a conversation that was saved, and its tools. Raises QwenRefError if it is none."""
        from qwen_ref.media import media

        messages, tools = saved.read(path_of(path))
        try:
            check_messages([*messages, {"role": "user", "content": ""}])  # which may follow calls, too
            media.open_all(messages, self.options.get("limits"), lambda: self.model.vision.config)
            tools = check_tools(tools)
        except QwenRefError as error:
            raise QwenRefError(f"{path}: {error}") from None
        self.messages, self.tools = messages, tools

    def _answer(self, new: list[Message]) -> Generator[Delta]:
        return self._stream(self._generation(new), new)

    def _generation(self, new: list[Message]) -> Generation:
        options = dict(self.options)
        if self.thinking is False:
            options.pop("thinking_budget", None)  # is for when there are thoughts again
        return self.model.generate(
            [*self.messages, *new], tools=self.tools, thinking=self.thinking, **options
        )

    def _stream(self, generation: Generation, new: list[Message]) -> Generator[Delta]:
        self.generation = generation
        try:
            for _ in generation:
                yield from generation.deltas()
        except (KeyboardInterrupt, GeneratorExit):
            generation.flush()
            generation.finish_reason = "interrupted"
            if generation.text:
                self.messages += [*new, generation.message]
            raise
        self.messages += [*new, generation.message]
        yield from generation.deltas()
