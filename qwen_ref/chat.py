"""Messages to token ids, by the chat template that the model file carries.

The template is Jinja, rendered in a sandbox with the settings and helpers of transformers'
`render_jinja_template`, so that what works there works here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cached_property
from typing import Any

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gguf_io import GGUFFile
from qwen_ref.errors import QwenRefError
from qwen_ref.tokenizer import Tokenizer

Message = dict[str, Any]  # {"role": "user", "content": "…"}, as in the OpenAI and transformers APIs
MARKS = [chr(c) for c in range(0xFDD0, 0xFDF0)]  # Unicode's noncharacters: no text is meant to hold them


def check_messages(messages: Any) -> None:
    """Raises QwenRefError if they are no list of dicts."""
    if not isinstance(messages, list | tuple):
        raise QwenRefError(f"the prompt: a {type(messages).__name__} is no text or list of messages")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            raise QwenRefError(f"the messages: number {number} is a {type(message).__name__}, not a dict")


def _tojson(value: Any, **options: Any) -> str:
    return json.dumps(value, **({"ensure_ascii": False} | options))


class ChatTemplate:
    """The chat template of an opened model file. Raises QwenRefError if there is none or it is not valid."""

    def __init__(self, file: GGUFFile, tokenizer: Tokenizer):
        source = file.metadata.get("tokenizer.chat_template")
        if not isinstance(source, str):
            raise QwenRefError(
                f"{file.path}: tokenizer.chat_template: the file has no chat template; use a raw prompt"
            )
        self._path, self._tokenizer = file.path, tokenizer
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = self._fail
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise self._error(error) from None

    @cached_property
    def _control(self) -> str:
        return _any_of(self._tokenizer.control_tokens)

    @cached_property
    def _guarded(self) -> re.Pattern[str]:
        """A control token, or the beginning of one where a text ends (or will, once it is trimmed),
        because the next text may hold the rest.
        """
        beginnings = {token[:n] for token in self._tokenizer.control_tokens for n in range(1, len(token))}
        return re.compile(rf"{self._control}|(?:{_any_of(beginnings)})(?=\s*\Z)")

    def _error(self, problem: object) -> QwenRefError:
        return QwenRefError(f"{self._path}: tokenizer.chat_template: {problem}")

    def _fail(self, message: str) -> None:
        raise self._error(message)

    def render(
        self, messages: list[Message], tools: list[dict[str, Any]] | None = None, thinking: bool | None = None
    ) -> str:
        """The prompt text, ending where the assistant's answer begins.

        `thinking` true or false asks for reasoning before the answer or not; None leaves it to the template.
        """
        options = {} if thinking is None else {"enable_thinking": thinking}
        try:
            return self._template.render(
                messages=messages, tools=tools, add_generation_prompt=True, **options
            )
        except (jinja2.TemplateError, TypeError, ValueError, AttributeError) as error:
            raise self._error(error) from None

    def encode(
        self,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        thinking: bool | None = None,
        show: Callable[[str], str] = str,
    ) -> tuple[list[int], str]:
        """Token ids of `render`, and the text that they stand for.

        `show` is given the rendered text and returns it with more in the places of pictures.

        Control tokens come from the template alone: if a message spells `<|im_end|>`, in one part or in
        several, that is text, marked before rendering and encoded as text after.
        """
        check_messages(messages)
        try:
            text = json.dumps([messages, tools], ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise QwenRefError(f"the messages or tools: they cannot be written as JSON: {error}") from None
        mark = next((m for m in MARKS if m not in text), None)
        if mark is None:
            raise QwenRefError(
                "the messages: they hold all 32 Unicode noncharacters, so none is left to mark with"
            )

        def guard(text: str) -> str:
            return self._guarded.sub(lambda found: found[0][0] + mark + found[0][1:], text)

        rendered = show(self.render(_map_strings(messages, guard), _map_strings(tools, guard), thinking))
        token_ids = []
        for i, piece in enumerate(re.split(f"({self._control})", rendered)):  # text, control token, text, …
            if i % 2:
                token_ids.append(self._tokenizer.ids[piece])
            elif piece:
                token_ids += self._tokenizer.encode(piece.replace(mark, ""))
        return token_ids, rendered.replace(mark, "")


def _any_of(texts: Iterable[str]) -> str:
    """A pattern for the longest of them that fits."""
    return "|".join(map(re.escape, sorted(texts, key=len, reverse=True)))


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of a JSON-like value with every string in it changed, keys too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return [_map_strings(v, change) for v in value]
    if isinstance(value, dict):
        return {_map_strings(key, change): _map_strings(v, change) for key, v in value.items()}
    return value
