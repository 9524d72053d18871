"""An answer as it comes, taken apart: its thought, its text, and its calls of tools.

Structure are the tokens `<think>`, `</think>`, `<tool_call>` and `</tool_call>` alone; the same letters in
other tokens are text. What stands in a call is what the templates ask for (qwen3_coder, in other engines):

    <tool_call>
    <function=weather>
    <parameter=city>
    Oslo
    </parameter>
    </function>
    </tool_call>
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qwen_ref.messages import Message
from qwen_ref.tokenizer import Tokenizer

THINK, END_THINK, CALL, END_CALL = "<think>", "</think>", "<tool_call>", "</tool_call>"
FUNCTION = re.compile(r"\s*<function=([^>\n]+)>(.*)</function>\s*", re.DOTALL)
# A value ends at a </parameter> behind which there is another parameter or nothing: it may hold others.
PARAMETER = re.compile(
    r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>(?=\s*(?:<parameter=[^>\n]+>|\Z))", re.DOTALL
)

Kind = Literal["reasoning", "content", "tool_call"]


@dataclass(frozen=True)
class Delta:
    """What has come of an answer: text of its thought or of its content, or a call, which comes whole."""

    kind: Kind
    text: str = ""
    call: dict[str, Any] | None = None  # {"id": …, "type": "function", "function": {"name", "arguments"}},
    # the arguments written as JSON


class Thought:
    """Whether a thought is open: the prompt may have opened it, or the answer begins with one. There is one
    at most."""

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int], begun: Message | None = None):
        opens, closes = tokenizer.ids.get(THINK), tokenizer.ids.get(END_THINK)
        self.open = next((i == opens for i in reversed(prompt_ids) if i in (opens, closes)), False)
        said = begun is not None and (begun["content"].strip() or "reasoning_content" in begun)
        self._may_open = not self.open and not said

    def read(self, name: str, text: str) -> bool:
        """Read on: a token of structure with this name, or "". Returns whether it opened or closed it."""
        if name == (END_THINK if self.open else THINK) and (self.open or self._may_open):
            self.open, self._may_open = not self.open, False
            return True
        if text.strip():
            self._may_open = False
        return False


class Answer:
    """Reads an answer token by token. `take` gives what has come since, `message` the whole so far.

    Text comes without white space at its two ends. A call whose end has come and that cannot be read is
    content, and so is text behind calls. (A message has no place for where it stood.)
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int],
        begun: Message | None = None,
        tools: list[dict[str, Any]] | None = None,
    ):
        """`begun` is the message that the answer continues, `tools` are those that it may call."""
        names = (THINK, END_THINK, CALL, END_CALL)
        self._names = {tokenizer.ids[name]: name for name in names if name in tokenizer.ids}
        self._types = {name: _types_of_parameters(function) for name, function in _functions(tools)}
        self._thought = Thought(tokenizer, prompt_ids, begun)
        self._begun = begun or {"role": "assistant", "content": ""}
        self._said = {"reasoning": "", "content": ""}  # of the answer, without white space at the ends
        self._spaces = {"reasoning": "", "content": ""}  # comes only if text follows
        self._call: str | None = None  # what stands since an open <tool_call>
        self._calls: list[tuple[str, str, dict[str, Any]]] = []  # id, name, arguments
        self._coming = deque[tuple[str, str]]()  # tokens (name of structure or "", text) not shown yet ...
        self._shown = 0  # ... but for so many characters
        self._deltas: list[Delta] = []

    @property
    def in_thought(self) -> bool:
        return self._thought.open

    @property
    def open_call(self) -> str | None:
        """What stands so far in a call that is not over."""
        return self._call

    @property
    def calls(self) -> int:
        """So many calls are whole."""
        return len(self._calls)

    def push(self, token_id: int, text: str) -> None:
        """A token has come, which completes this text."""
        name = self._names.get(token_id, "")
        if name and text != name:  # before it comes a character that never became whole
            self._coming.append(("", text[: -len(name)]))
        self._coming.append((name, name or text))

    def show(self, characters: int) -> None:
        """So many characters more are part of the answer: a stop string may begin behind them, or end it."""
        self._shown += characters
        while self._coming:
            name, text = self._coming[0]
            if len(text) <= self._shown:
                self._coming.popleft()
            elif not name and self._shown:
                text = text[: self._shown]
                self._coming[0] = "", self._coming[0][1][self._shown :]
            else:
                break
            self._shown -= len(text)
            self._read(name, text)

    def finish(self) -> None:
        """No more comes: a call that is open is text, and so is a beginning of a token of structure."""
        if self._shown:
            self._read("", self._coming[0][1][: self._shown])
        self._coming.clear()
        self._shown = 0
        if self._call is not None:
            call, self._call = self._call, None
            self._say("content", CALL + call)

    def take(self) -> list[Delta]:
        """What has come since the last call; text of one kind in one piece."""
        deltas, self._deltas = self._deltas, []
        return deltas

    @property
    def message(self) -> Message:
        """The assistant's message so far; the arguments of calls are dicts, typed by the tools' schemas."""
        end = copy.copy(self)
        end._coming, end._deltas, end._thought = self._coming.copy(), [], copy.copy(self._thought)
        end._said, end._spaces = self._said.copy(), self._spaces.copy()
        end.finish()
        message = self._begun | {"content": (self._begun["content"] + end._said["content"]).strip()}
        if end._said["reasoning"]:
            message["reasoning_content"] = end._said["reasoning"]
        if self._calls:
            message["tool_calls"] = [_as_message(*call) for call in self._calls]
        return message

    def _read(self, name: str, text: str) -> None:
        if self._call is None and self._thought.read(name, text):
            return
        if self._thought.open:
            self._say("reasoning", text)
        elif self._call is not None and (name not in (CALL, END_CALL) or _may_hold(self._call)):
            self._call += text
        elif name == CALL:
            if self._call is not None:
                self._say("content", CALL + self._call)
            self._call = ""
        elif self._call is not None:
            call, self._call = self._call, None
            if (read := read_call(call, self._types)) is None:
                self._say("content", CALL + call + text)
            else:
                self._calls.append((f"call_{os.urandom(12).hex()}", *read))
                self._deltas.append(Delta("tool_call", call=_as_json(*self._calls[-1])))
        else:
            self._say("content", text)

    def _say(self, kind: Literal["reasoning", "content"], text: str) -> None:
        text = self._spaces[kind] + text
        if not self._said[kind] and not (kind == "content" and self._begun["content"].strip()):
            text = text.lstrip()
        self._spaces[kind] = text[len(text.rstrip()) :]
        if text := text.rstrip():
            self._said[kind] += text
            if self._deltas and self._deltas[-1].kind == kind:
                text = self._deltas.pop().text + text
            self._deltas.append(Delta(kind, text))


def value_is_open(call: str) -> bool:
    """Whether the last parameter of what stands so far in a call has no end yet."""
    return call.rfind("<parameter=") > call.rfind("</parameter>")


def _may_hold(call: str) -> bool:
    """Whether it ends in a value, which may hold tokens of structure."""
    return value_is_open(call) and not call.rstrip().endswith("</function>")


def read_call(
    written: str, types: dict[str, dict[str, set[str]]] | None = None
) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments of what stands between `<tool_call>` and `</tool_call>`; None if it is no call.

    `types` are those of the parameters of each tool; of others, the arguments are text.
    """
    function = FUNCTION.fullmatch(written)
    if function is None:
        return None
    name, body = function.groups()
    known = (types or {}).get(name, {})
    arguments, at = dict[str, Any](), 0
    while found := PARAMETER.match(body, at):
        parameter, text = found.groups()
        if parameter in arguments:  # one of two values would be lost
            return None
        arguments[parameter], at = _typed(text, known.get(parameter, {"string"})), found.end()
    return (name, arguments) if not body[at:].strip() else None


def _as_message(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "arguments": copy.deepcopy(arguments)}
    return {"id": call_id, "type": "function", "function": function}


def _as_json(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": call_id, "type": "function", "function": function}


# ---- types of arguments

JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def _functions(tools: list[dict[str, Any]] | None) -> list[tuple[str, dict[str, Any]]]:
    functions = [tool.get("function", tool) for tool in tools or ()]
    return [(function["name"], function) for function in functions]


def _types_of_parameters(function: dict[str, Any]) -> dict[str, set[str]]:
    schema = function.get("parameters")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return {}
    return {name: _types(of, schema, set()) or {"string"} for name, of in properties.items()}


def _types(schema: Any, root: Any, seen: set[str]) -> set[str]:
    """The JSON types that a schema names, itself or in its alternatives; references that were seen are not
    followed again."""
    if not isinstance(schema, dict):
        return set()
    given = schema.get("type", [])
    types = {t for t in (given if isinstance(given, list) else [given]) if isinstance(t, str)}
    values = [*_listed(schema.get("enum")), *([schema["const"]] if "const" in schema else [])]
    types |= {JSON_TYPES.get(type(value), "null") for value in values}
    for name in "anyOf", "oneOf", "allOf":
        types = types.union(*(_types(s, root, seen) for s in _listed(schema.get(name))))
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/") and reference not in seen:
        seen.add(reference)
        at = root
        for step in reference[2:].split("/"):
            at = at.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(at, dict) else None
        types |= _types(at, root, seen)
    return types


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _no_number(text: str) -> None:
    raise ValueError(text)


def _typed(text: str, types: set[str]) -> Any:
    """The value that a text is meant to be; the text itself if it is none of these types."""
    written = text.strip()
    if written in ("True", "False", "None"):  # as Qwen's templates write them in earlier calls
        written = {"True": "true", "False": "false", "None": "null"}[written]
    try:
        value = json.loads(written, parse_constant=_no_number)
        json.dumps(value, ensure_ascii=False).encode()  # no half of a surrogate pair
    except (ValueError, RecursionError):
        return text
    kind = JSON_TYPES.get(type(value), "null")
    if kind in types and kind != "string":
        return value
    if kind == "integer" and "number" in types:
        return value
    if kind == "number" and "integer" in types and value.is_integer():
        return int(value)
    return text
