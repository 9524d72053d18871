"""What messages and tools may hold: each field is known and makes sense, or is refused by name."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Collection
from typing import Any

from qwen_ref.errors import QwenRefError, of_type
from qwen_ref.tokenizer import check_unicode

Message = dict[str, Any]  # {"role": "user", "content": "…"}, as in the OpenAI and transformers APIs

ROLES = {role: role for role in ("system", "user", "assistant", "tool")} | {"developer": "system"}
FIELDS = {
    "assistant": ("role", "content", "reasoning_content", "tool_calls"),
    "tool": ("role", "content", "tool_call_id", "name"),
}
MEDIA = ("image", "image_url", "video", "video_url")  # parts that qwen_ref.media reads


def check_messages(messages: Any, system: Any = None) -> list[Message]:
    """Messages as templates take them, in copies: `system` before them, developer as system, arguments of
    tool calls as dicts, and without fields that say nothing (the openai package gives back many).

    Raises QwenRefError, with the message's number and the field, for what is wrong or unknown.
    """
    if not isinstance(messages, list | tuple):
        raise QwenRefError(f"the prompt: {of_type(messages)} is no text or list of messages")
    if not messages:
        raise QwenRefError("the messages: there are none")
    checked = [_message(message, f"message {number}") for number, message in enumerate(messages, 1)]
    for number, message in enumerate(checked, 1):
        if message["role"] == "system" and number > 1:
            raise QwenRefError(f"message {number}: role: a system message must be the first")
    check_order_of_results(checked)
    if "tool_calls" in checked[-1]:
        raise QwenRefError(
            f"message {len(checked)}: tool_calls: it is the last; the tools' results must follow"
        )
    if system is not None:
        if not isinstance(system, str):
            raise QwenRefError(f"system: {of_type(system)} is no text")
        if checked[0]["role"] == "system":
            raise QwenRefError("system: the messages have a system message already; give one of them")
        check_unicode("system", system)
        checked.insert(0, {"role": "system", "content": system})
    return checked


def check_order_of_results(messages: list[Message]) -> None:
    """Templates show tools' results in the order in which they stand, and not whose they are.

    Raises QwenRefError where the ids of calls and results tell of another order.
    """
    calls: list[str | None] = []  # ids of the last message's calls
    result = 0  # of so many results before this one
    for number, message in enumerate(messages, 1):
        if message["role"] != "tool":
            calls, result = [call.get("id") for call in message.get("tool_calls", ())], 0
            continue
        found = message.get("tool_call_id")
        if found is not None and any(calls) and found not in calls[result : result + 1]:
            told = f"message {number}: tool_call_id: {reprlib.repr(found)}"
            if found not in calls:
                raise QwenRefError(f"{told} is no call before it")
            place, turn = calls.index(found) + 1, result + 1
            raise QwenRefError(
                f"{told} is call {place}, but this is result {turn}: they stand in the order of their calls"
            )
        result += 1


def check_tools(tools: Any) -> list[dict[str, Any]] | None:
    """The tools as a list, None if there are none. Raises QwenRefError, with the number, for what is none."""
    if tools is None:
        return None
    if not isinstance(tools, list | tuple):
        raise QwenRefError(f"tools: {of_type(tools)} is no list of tools")
    names = list[str]()
    for number, tool in enumerate(tools, 1):
        where = f"tools: number {number}"
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type", "function") != "function":
            raise QwenRefError(f'{where}: is not {{"type": "function", "function": {{"name": …}}}}')
        name = _name(function, where)
        if any(c.isspace() or c in "<>" for c in name):  # it would not come back from a call
            raise QwenRefError(f"{where}: name: {reprlib.repr(name)} has a blank or an angle bracket in it")
        if name in names:
            raise QwenRefError(
                f"{where}: name: {reprlib.repr(name)} is that of number {names.index(name) + 1}"
            )
        names.append(name)
        if not isinstance(parameters := function.get("parameters"), dict | None):
            raise QwenRefError(f"{where}: parameters: {of_type(parameters)} is no JSON schema, an object")
        _check_json(tool, where)
    return list(tools) or None


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, dict):
        raise QwenRefError(f"{where}: is {of_type(message)}, not a dict with role and content")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        told = "is missing" if role is None else f"{reprlib.repr(role)} is not one of {', '.join(ROLES)}"
        raise QwenRefError(f"{where}: role: {told}")
    of = "an assistant's" if role == "assistant" else f"a {role}'s"
    checked = _fields(message, FIELDS.get(role, ("role", "content")), where, f"{of} message")
    checked["role"] = ROLES[role]
    for name in checked.keys() - {"content", "tool_calls"}:
        _text(checked[name], f"{where}: {name}")
    calls = checked.pop("tool_calls", ())
    if not isinstance(calls, list | tuple):
        raise QwenRefError(f"{where}: tool_calls: {of_type(calls)} is no list of calls")
    if calls:
        checked["tool_calls"] = [_call(c, f"{where}: tool_calls: number {n}") for n, c in enumerate(calls, 1)]
    checked["content"] = _content(checked.get("content"), f"{where}: content", optional=bool(calls))
    return checked


def _content(content: Any, where: str, optional: bool) -> Any:
    if isinstance(content, str):
        return _text(content, where)
    if _says_nothing(content):
        if optional:
            return ""
        raise QwenRefError(f'{where}: there is none; an empty text is ""')
    if not isinstance(content, list | tuple):
        raise QwenRefError(f"{where}: {of_type(content)} is neither text nor a list of parts")
    return [_part(part, f"{where}: part {number}") for number, part in enumerate(content, 1)]


def _part(part: Any, where: str) -> Any:
    if not isinstance(part, dict):
        raise QwenRefError(f'{where}: is {of_type(part)}, not a dict like {{"type": "text", "text": …}}')
    kind = part.get("type")
    if kind in MEDIA or (kind is None and any(name in part for name in MEDIA)):
        return part
    if kind != "text" and not (kind is None and "text" in part):
        raise QwenRefError(f"{where}: type: {reprlib.repr(kind)} is not one of text, image, video")
    checked = {"type": "text"} | _fields(part, ("type", "text"), where, "a text part")
    _text(checked.get("text"), f"{where}: text")
    return checked


def _call(call: Any, where: str) -> dict[str, Any]:
    """A tool call, in OpenAI's form or its function alone -> OpenAI's form, the arguments a dict."""
    if not isinstance(call, dict):
        raise QwenRefError(f"{where}: is {of_type(call)}, not a dict")
    outer, inner = ("id", "type", "index"), ("name", "arguments")
    if "function" in call:
        checked = _fields(call, (*outer, "function"), where, "a tool call")
        function = checked.get("function")
        if not isinstance(function, dict):
            raise QwenRefError(f"{where}: function: is {of_type(function)}, not a dict")
        function = _fields(function, inner, f"{where}: function", "a call's function")
    else:
        checked = _fields(call, (*outer, *inner), where, "a tool call")
        function = {name: checked.pop(name) for name in inner if name in checked}
    if checked.setdefault("type", "function") != "function":
        raise QwenRefError(f"{where}: type: {reprlib.repr(checked['type'])} is not 'function'")
    name, given = _name(function, where), function.get("arguments")
    of = f"{where}: arguments of {reprlib.repr(name)}"
    arguments = {} if _says_nothing(given) else given
    if isinstance(given, str) and given.strip():
        try:
            arguments = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise QwenRefError(f"{of}: are no JSON: {error}") from None
        arguments = {} if arguments is None else arguments
    elif isinstance(given, str):
        arguments = {}
    if not isinstance(arguments, dict):
        raise QwenRefError(f"{of}: are {of_type(arguments)}, not an object by name")
    checked["function"] = {"name": name, "arguments": arguments}
    _check_json(checked, where)
    return checked


def _name(function: dict[str, Any], where: str) -> str:
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise QwenRefError(f"{where}: name: {'is missing' if name is None else 'is no text'}")
    return name


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise QwenRefError(f"{where}: {'is missing' if value is None else f'{of_type(value)} is no text'}")
    check_unicode(where, value)
    return value


def _says_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)


def _fields(value: dict[str, Any], known: Collection[str], where: str, of: str) -> dict[str, Any]:
    """A copy without null fields. Raises QwenRefError for an unknown field that says something."""
    for name, field in value.items():
        if name not in known and not _says_nothing(field):
            raise QwenRefError(
                f"{where}: {reprlib.repr(name)} is no field of {of}, which may have {', '.join(known)}"
            )
    return {name: value[name] for name in known if value.get(name) is not None}


def _check_json(value: Any, where: str) -> None:
    """Raises QwenRefError unless the value could be written as JSON and read again."""
    try:
        if isinstance(value, str):
            check_unicode(where, value)
        elif isinstance(value, list | tuple):
            for item in value:
                _check_json(item, where)
        elif isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str):
                    raise QwenRefError(f"{where}: the key {reprlib.repr(key)} is no text")
                check_unicode(where, key)
                _check_json(item, where)
        elif value is not None and not isinstance(value, int | float):
            raise QwenRefError(f"{where}: {of_type(value)} cannot be written as JSON")
        elif isinstance(value, float) and not math.isfinite(value):
            raise QwenRefError(f"{where}: {value} cannot be written as JSON")
    except RecursionError:
        raise QwenRefError(f"{where}: is nested too deeply") from None
