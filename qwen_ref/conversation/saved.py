"""Conversations as JSON files: a list of messages, or {"messages": […], "tools": […]}.

Pictures and clips are files beside it, below it, or anywhere, or data: URIs.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from qwen_ref.errors import QwenRefError
from qwen_ref.files import read_json, write_whole
from qwen_ref.media import parts
from qwen_ref.messages import Message

Tools = list[dict[str, Any]]


def read(path: Path) -> tuple[list[Message], Tools | None]:
    """Messages and tools; relative paths in them become those of files in the folder of this one.

    Raises QwenRefError. What messages and tools hold is not checked.
    """
    found = read_json(path)
    for name in found if isinstance(found, dict) else ():
        if name not in ("messages", "tools"):
            raise QwenRefError(f"{path}: {name!r:.80} is no field of a conversation: messages, tools")
    messages, tools = (
        (found.get("messages"), found.get("tools")) if isinstance(found, dict) else (found, None)
    )
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise QwenRefError(f"{path}: messages: is no list of objects")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise QwenRefError(f"{path}: tools: {tools!r:.80} is no list of objects")
    parts.beside(path.parent, messages)
    return messages, tools


def write(path: Path, messages: list[Message], tools: Tools | None) -> None:
    """Paths of files in the folder of this one, or below, are written from there, so that all can be moved.

    Raises QwenRefError if it cannot be written, or if pictures are no files or text.
    """
    folder, messages = path.parent.resolve(), copy.deepcopy(messages)
    parts.change_paths(messages, lambda given: _from(folder, given))
    try:
        text = json.dumps({"messages": messages, "tools": tools}, indent=1, ensure_ascii=False)
    except TypeError:
        raise QwenRefError(f"{path}: cannot be written: a picture or clip in it is no file") from None
    with write_whole(path) as file:
        file.write(text.encode())


def _from(folder: Path, given: str) -> str:
    path = Path(given).resolve()
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)
