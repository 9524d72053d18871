"""Messages on their way to another machine, with the files that their pictures and clips are."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from qwen_ref.files import read_bytes
from qwen_ref.media import parts, uri
from qwen_ref.messages import Message


@dataclass(frozen=True)
class Carried:
    """`files` are names and bytes, in the order in which the messages name them."""

    messages: str | list[Message]
    files: list[tuple[str, bytes]]


def carried(messages: str | list[Message]) -> Carried:
    """A text carries nothing. Raises QwenRefError if a file cannot be read; a folder of frames is none."""
    files = list[tuple[str, bytes]]()
    for holder, name, kind in named(messages):
        path = str(uri.read_text(holder[name], kind))
        files.append((Path(path).name, read_bytes(path)))
    return Carried(messages, files)


@contextlib.contextmanager
def unpacked(given: Carried) -> Iterator[str | list[Message]]:
    """The messages, with the files in a folder for them, under their own names."""
    messages = copy.deepcopy(given.messages)
    with tempfile.TemporaryDirectory() as folder:
        for number, ((holder, name, _), (file, held)) in enumerate(
            zip(named(messages), given.files, strict=True)
        ):
            path = Path(folder, str(number), file)
            path.parent.mkdir()
            path.write_bytes(held)
            is_url = holder[name][:7].lower() == "file://"
            holder[name] = f"file://{quote(str(path))}" if is_url else str(path)
        yield messages


def named(messages: str | list[Message]) -> Iterator[tuple[Any, Any, str]]:
    """Where messages name files: what holds the name, its field or place there, and of which kind it is."""
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if kind := parts.media_kind(part):
                places = [*parts.sources(part, kind), *([(part, "path")] if part.get("path") else [])]
                for holder, name in places:
                    value = holder[name]
                    if isinstance(value, str) and (
                        not parts.is_address(value) or value[:7].lower() == "file://"
                    ):
                        yield holder, name, kind
