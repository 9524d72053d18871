"""Messages to token ids, by the chat template that the model file carries. (Back: qwen_ref/answer.py.)

The template is Jinja, rendered in a sandbox with the settings and helpers of transformers'
`render_jinja_template`, so that what works there works here.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from jinja2 import Template, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gguf_io import GGUFFile
from qwen_ref.answer import END_THINK, THINK
from qwen_ref.errors import QwenRefError
from qwen_ref.messages import Message, check_messages, check_tools
from qwen_ref.tokenizer import Tokenizer, any_of

KEY = "tokenizer.chat_template"
FOR_TOOLS = f"{KEY}.tool_use"  # the template for conversations with tools, in files that have two
MARKS = [chr(c) for c in range(0xFDD0, 0xFDF0)]  # Unicode's noncharacters: no text is meant to hold them
THINKS = THINK + "\n"  # ends a rendered prompt whose answer begins with reasoning
THOUGHT = re.compile(rf"(\s*{THINK})(.*?)({END_THINK})(.*)", re.DOTALL)  # then an answer


@dataclass(frozen=True)
class Encoded:
    """A rendered conversation."""

    token_ids: list[int]
    text: str  # what they stand for
    thinks: bool  # the answer begins with reasoning
    thinks_unasked: bool  # it would, had nobody said whether it should
    begun: Message | None  # the last message, if it is the assistant's and is continued


class Refusal(Exception):
    """What a template says of messages that it cannot show."""


def _refuse(message: str) -> None:
    raise Refusal(message)


def _tojson(value: Any, **options: Any) -> str:
    return json.dumps(value, **({"ensure_ascii": False} | options))


class Generation(Extension):
    """{% generation %}…{% endgeneration %}: what the assistant said, for training; shown as it is."""

    tags = {"generation"}  # noqa: RUF012  (as jinja2 declares it)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class ChatTemplate:
    """The chat template of an opened model file, and the one for conversations with tools if there is one.

    Raises QwenRefError if there is none or it is not valid.
    """

    def __init__(self, file: GGUFFile, tokenizer: Tokenizer):
        if not isinstance(file.metadata.get(KEY), str):
            raise QwenRefError(f"{file.path}: {KEY}: the file has no chat template; use a raw prompt")
        self._path, self._tokenizer = file.path, tokenizer
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
        )
        for name, key in ("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown"):
            token_id = file.metadata.get(f"tokenizer.ggml.{key}_token_id")
            if isinstance(token_id, int) and 0 <= token_id < len(tokenizer):
                environment.globals[f"{name}_token"] = tokenizer.tokens[token_id]
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        self._templates = dict[str, Template]()
        for key in KEY, FOR_TOOLS:
            if (source := file.metadata.get(key)) is not None:
                with self._told(key):
                    self._templates[key] = environment.from_string(source)

    @cached_property
    def _structure(self) -> re.Pattern[str]:
        """An added token, or the beginning of one where a text ends (or will, once it is trimmed),
        because the next text may hold the rest.
        """
        tokens = self._tokenizer.ids
        beginnings = {token[:n] for token in tokens for n in range(1, len(token))}
        return re.compile(rf"{any_of(tokens)}|(?:{any_of(beginnings)})(?=\s*\Z)")

    def _key(self, tools: list[dict[str, Any]] | None) -> str:
        """The metadata key of the template in use."""
        return FOR_TOOLS if tools and FOR_TOOLS in self._templates else KEY

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Whatever a template raises, which is a program of its own, is one sentence."""
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            said = str(error) if isinstance(error, Refusal) else f"{type(error).__name__}: {error}"
            raise QwenRefError(f"{self._path}: {key}: {' '.join(said.split()).rstrip(':')}") from None

    def render(
        self,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        thinking: bool | None = None,
        answer: bool = True,
    ) -> str:
        """What the template makes of messages as they are, ending where the assistant's `answer` begins."""
        options = {} if thinking is None else {"enable_thinking": thinking}
        key = self._key(tools)
        with self._told(key):
            return self._templates[key].render(
                messages=messages, tools=tools, add_generation_prompt=answer, **options
            )
        raise AssertionError  # what is raised is told

    def encode(
        self,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        thinking: bool | None = None,
        system: str | None = None,
        show: Callable[[str], str] = str,
    ) -> Encoded:
        """Token ids of a conversation, up to where the assistant's answer begins or a last message of the
        assistant's is to go on (transformers' `continue_final_message`).

        `thinking` true or false asks for reasoning before the answer or not; None leaves it to the template.
        `show` is given the rendered text and returns it with more in the places of pictures.

        Added tokens come from the template alone: a message that spells `<|im_end|>` or `</think>`, in one
        part or in several, holds text, which is marked before rendering and encoded as text after. One is
        let through: the thought that an assistant's content begins with, if it has no reasoning_content.

        Raises QwenRefError for what `check_messages`, `check_tools` or the template refuse.
        """
        messages, tools = check_messages(messages, system), check_tools(tools)
        if not isinstance(thinking, bool | None):
            raise QwenRefError(f"thinking: {reprlib.repr(thinking)} is not true, false or none")
        mark, end = self._marks(messages, tools)

        def guard(text: str) -> str:
            return self._structure.sub(lambda found: found[0][0] + mark + found[0][1:], text)

        guarded = [_guard_message(message, guard) for message in messages]
        guarded_tools = _map_strings(tools, guard)
        begun = messages[-1] if messages[-1]["role"] == "assistant" else None
        if begun is not None:
            _mark_end(guarded[-1], len(messages) - (system is not None), end + " ")

        def rendered(thinking: bool | None) -> str:
            text = self.render(guarded, guarded_tools, thinking, answer=begun is None)
            if begun is None:
                return text
            before, found, after = text.rpartition(end)
            if not found:
                raise QwenRefError(
                    f"{self._path}: {self._key(tools)}: it does not show the end of the last message, which "
                    "is to be continued"
                )
            before = before.replace(end + " ", "").replace(end, "")  # where it shows the message earlier too
            return before if after.startswith(" ") else before.rstrip()  # as transformers: it was trimmed

        text = rendered(thinking)
        thinks = text.endswith(THINKS)
        if thinking is not None and text == rendered(not thinking) and (begun or thinks != thinking):
            raise QwenRefError(
                "thinking: it changes nothing where the assistant's last message is continued"
                if begun
                else f"thinking: the chat template of {self._path} knows no such choice"
            )
        unasked = self.render(guarded, guarded_tools).endswith(THINKS)
        text, token_ids = show(text), list[int]()
        for i, piece in enumerate(self._tokenizer.cut(text)):  # text, token, text, …
            if i % 2:
                token_ids.append(self._tokenizer.ids[piece])
            else:
                token_ids += self._tokenizer.encode_text(piece.replace(mark, ""))
        text = text.replace(mark, "")
        if begun is not None:
            said = _joined(begun["content"]) or ""
            begun = begun | {"content": said if text.endswith(said[len(said.rstrip()) :]) else said.rstrip()}
        return Encoded(token_ids, text, thinks, unasked, begun)

    def _marks(self, *values: Any) -> list[str]:
        """Two characters that are nowhere in the values."""
        used: set[str] = set()

        def look(text: str) -> str:
            used.update(mark for mark in MARKS if mark in text)
            return text

        _map_strings(values, look)
        free = [mark for mark in MARKS if mark not in used]
        if len(free) < 2:
            raise QwenRefError(
                "the messages: they hold nearly all 32 noncharacters of Unicode; two are needed to mark with"
            )
        return free[:2]


def _guard_message(message: Message, guard: Callable[[str], str]) -> Message:
    """A copy in which the first thought alone is left as it is, if the content begins with one."""
    guarded = _map_strings(message, guard)
    if message["role"] != "assistant" or "reasoning_content" in message:
        return guarded
    if found := THOUGHT.fullmatch(_joined(message["content"]) or ""):
        opened, thought, closed, answer = found.groups()
        guarded["content"] = opened + guard(thought) + closed + guard(answer)
    return guarded


def _joined(content: Any) -> str | None:
    """The text of a content that is text; None if there are pictures in it."""
    if isinstance(content, str):
        return content
    if any(part.get("type") != "text" for part in content):
        return None
    return "".join(part["text"] for part in content)


def _mark_end(message: Message, number: int, mark: str) -> None:
    if _joined(message["content"]) is None:
        raise QwenRefError(f"message {number}: content: it is continued, and must be text alone")
    if isinstance(message["content"], str):
        message["content"] += mark
    else:
        message["content"][-1]["text"] += mark


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of a JSON-like value with every string in it changed, keys too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return [_map_strings(v, change) for v in value]
    if isinstance(value, dict):
        return {_map_strings(key, change): _map_strings(v, change) for key, v in value.items()}
    return value
