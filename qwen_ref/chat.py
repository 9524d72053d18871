"""Messages to token ids, by the chat template that the model file carries.

The template is Jinja, rendered in a sandbox with the settings and helpers of transformers'
`render_jinja_template`, so that what works there works here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gguf_io import GGUFFile
from qwen_ref.errors import QwenRefError
from qwen_ref.tokenizer import Tokenizer

Message = dict[str, Any]  # {"role": "user", "content": "…"}, as in the OpenAI and transformers APIs
MARKS = [chr(c) for c in range(0xFDD0, 0xFDF0)]  # Unicode's noncharacters: no text is meant to hold them


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

        Control tokens come from the template alone: if a message spells `<|im_end|>`, that is text, marked
        before rendering and encoded as text after.
        """
        text = json.dumps([messages, tools], ensure_ascii=False)
        mark = next((m for m in MARKS if m not in text), None)
        if mark is None:
            raise QwenRefError(
                "the messages: they hold all 32 Unicode noncharacters, so none is left to mark with"
            )
        control = "|".join(map(re.escape, sorted(self._tokenizer.control_tokens, key=len, reverse=True)))

        def guard(text: str) -> str:
            return re.sub(control, lambda found: found[0][0] + mark + found[0][1:], text)

        rendered = show(self.render(_map_strings(messages, guard), _map_strings(tools, guard), thinking))
        token_ids = []
        for i, piece in enumerate(re.split(f"({control})", rendered)):  # text, control token, text, …
            if i % 2:
                token_ids.append(self._tokenizer.ids[piece])
            elif piece:
                token_ids += self._tokenizer.encode(piece.replace(mark, ""))
        return token_ids, rendered.replace(mark, "")


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of a JSON-like value with every string in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_map_strings(v, change) for v in value]
    if isinstance(value, dict):
        return {key: _map_strings(v, change) for key, v in value.items()}
    return value
