"""The parts of a message that are pictures or clips: what their fields may be, and what stands in them.

    {"type": "image", "image": path, bytes, Pillow image, array, data URI or file:// URL}
    {"type": "video", "video": path, bytes, folder, list of pictures, array …, "times": [0.0, 1.8, …]}
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,…"}}     OpenAI's, and so for a video
    {"type": "image", "url": "data:…"}, {…, "path": …}, {…, "base64": …}        transformers'

Beside its source a part may hold the fields in OPTIONS, which count for it alone. A field that is None counts
as absent. Any other is refused by name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_ref.errors import QwenRefError, of_type
from qwen_ref.media import uri

Source = Any  # what read_image or read_video takes

KINDS = ("image", "video")
OPTIONS = {  # fields of qwen_ref.media.media.Limits, and how a clip's frames lie in time
    "image": ("max_image_tokens", "transparency"),
    "video": (
        "max_video_tokens",
        "fps",
        "min_frames",
        "max_frames",
        "transparency",
        "frame_rate",
        "times",
    ),
}
CHOOSING = ("fps", "min_frames", "max_frames", "frame_rate")  # frames, so not where all are kept


@dataclass(frozen=True)
class Part:
    """A picture or clip of a conversation, before it is opened."""

    where: str  # "message 2: part 1"
    kind: str  # "image" or "video"
    source: Source
    options: dict[str, Any]


def sources_of(kind: str) -> tuple[str, ...]:
    return kind, f"{kind}_url", "url", "path", "base64"


def media_kind(part: Any) -> str | None:
    """ "image" or "video" if this part of a message's content is one, or holds one."""
    if not isinstance(part, dict):
        return None
    for kind in KINDS:
        names = sources_of(kind)[:2]
        if part.get("type") in names or any(part.get(name) is not None for name in names):
            return kind
    return None


def sources(part: dict[str, Any], kind: str) -> Iterator[tuple[Any, Any]]:
    """Where the texts are that say what a part shows: (what holds it, its name or place there).
    Lists of frames are copied."""
    for name in (kind, f"{kind}_url", "url"):
        value = part.get(name)
        if isinstance(value, dict):
            if "url" in value:
                yield value, "url"
        elif isinstance(value, list):
            part[name] = list(value)
            yield from ((part[name], i) for i in range(len(value)))
        elif value is not None:
            yield part, name


def read_part(where: str, part: dict[str, Any]) -> Part:
    """Raises QwenRefError if it is no picture or clip, or something beside that."""
    kind = media_kind(part)
    if kind is None:
        raise QwenRefError(f"{where}: is no picture or clip")
    fields = {name: value for name, value in part.items() if value is not None}
    names = sources_of(kind)
    if (given := fields.pop("type", kind)) not in names[:2]:
        raise QwenRefError(f"{where}: {kind}: a part of type {given!r:.80} may not hold one")
    sources = [name for name in names if name in fields]
    if not sources:
        raise QwenRefError(f"{where}: {kind}: a content part of this type holds no {kind!r}")
    if len(sources) > 1:
        raise QwenRefError(f"{where}: {sources[0]} and {sources[1]}: a part is one picture or clip")
    value = fields.pop(sources[0])
    for name in fields:
        if name not in OPTIONS[kind]:
            raise QwenRefError(f"{where}: {name!s:.80}: a part of type {kind} has no such field")
    for name in CHOOSING if "times" in fields else ():
        if name in fields:
            raise QwenRefError(f"{where}: {name}: does nothing beside times, which keep all frames")
    return Part(where, kind, _source(f"{where}: {sources[0]}", kind, sources[0], value), fields)


def _source(where: str, kind: str, name: str, value: Any) -> Source:
    if name == kind:
        return value
    if name == f"{kind}_url" and isinstance(value, dict):
        for field in value:
            if field not in ("url", "detail"):
                raise QwenRefError(f"{where}: {field!s:.80}: there is no such field")
        if value.get("detail") not in (None, "auto"):
            raise QwenRefError(
                f"{where}: detail: {value['detail']!r:.80} is not 'auto'; max_{kind}_tokens says how much is "
                "looked at"
            )
        value = value.get("url")
    if isinstance(value, uri.File):
        return value
    text = os.fspath(value) if name == "path" and isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise QwenRefError(f"{where}: {of_type(value)} is no text")
    if name == "base64":
        return text if text[:5].lower() == "data:" else uri.from_base64(where, text)
    if name != "path" and not uri.is_address(text):
        raise QwenRefError(f"{where}: {uri.name_of(text)}: is no URL; a file goes into {kind!r}")
    return text


def read_parts(messages: Sequence[dict[str, Any]]) -> list[Part]:
    """The pictures and clips in the order in which the conversation shows them. Raises QwenRefError."""
    return [read_part(where, part) for where, part in content_parts(messages) if media_kind(part)]


def any_media(prompt: Any) -> bool:
    """Whether there is a picture or clip in messages; they need not make sense otherwise."""
    return any(media_kind(part) for _, part in content_parts(prompt))


def content_parts(messages: Any) -> Iterator[tuple[str, Any]]:
    """Where each part stands, and the part; what is no message has none."""
    for number, message in enumerate(messages if isinstance(messages, list | tuple) else (), 1):
        content = message.get("content") if isinstance(message, dict) else None
        for i, part in enumerate(content if isinstance(content, list | tuple) else (), 1):
            yield f"message {number}: part {i}", part


def user_message(prompt: str, images: Sequence[Source] = (), videos: Sequence[Source] = ()) -> dict[str, Any]:
    """A question as a chat message, its pictures and clips before it; each a source or a part that holds one.

    Raises QwenRefError for a part of another kind.
    """
    if not images and not videos:
        return {"role": "user", "content": prompt}
    parts = []
    for kind, given in zip(KINDS, (images, videos)):
        for number, source in enumerate(given, 1):
            part = {"type": kind} | (source if isinstance(source, dict) else {kind: source})
            if media_kind(part) != kind:
                raise QwenRefError(f"{kind}s: number {number} is a part of type {part['type']!r:.80}")
            parts.append(part)
    return {"role": "user", "content": [*parts, {"type": "text", "text": prompt}]}


def without_sources(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same conversation for the chat template, which needs to know only where a picture stands, and takes
    a field that is None for one.
    """
    named = {name for kind in KINDS for name in sources_of(kind)}

    def plain(part: Any) -> Any:
        if kind := media_kind(part):
            return {"type": kind}
        if isinstance(part, dict):
            return {name: value for name, value in part.items() if value is not None or name not in named}
        return part

    def changed(message: dict[str, Any]) -> dict[str, Any]:
        content = message.get("content")
        return message | {"content": [*map(plain, content)]} if isinstance(content, list | tuple) else message

    return [changed(message) for message in messages]


def beside(folder: Path, messages: Sequence[dict[str, Any]]) -> None:
    """Make relative paths in the parts of a file's messages those of files in its folder."""
    change_paths(messages, lambda given: str(folder / given))


def change_paths(messages: Sequence[dict[str, Any]], change: Callable[[str], str]) -> None:
    """Of pictures and clips that are given by path, change the path. An empty one stays."""

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [moved(item) for item in value]
        return change(value) if value and isinstance(value, str) and not uri.is_address(value) else value

    for _, part in content_parts(messages):
        for name in (*KINDS, "path") if media_kind(part) else ():
            if name in part:
                part[name] = moved(part[name])
