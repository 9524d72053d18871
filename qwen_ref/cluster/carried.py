"""Messages on their way to another machine, with what the files hold that their pictures and clips are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

from qwen_ref.errors import QwenRefError
from qwen_ref.media import parts, uri

Messages = TypeVar("Messages")


def file_of(where: str, source: Any, kind: str) -> str | None:
    """The path of a source that names a file, be it as a file:// URL. Raises QwenRefError if none can."""
    if isinstance(source, str) and (not uri.is_address(source) or uri.is_file_url(source)):
        path = str(uri.read_text(source, kind))
        uri.check_path(path)
        return path
    return None


def may_stand(part: dict[str, Any], kind: str, holder: Any, name: Any) -> bool:
    """Whether one machine reads a file that is named there. Other text is refused where it arrives."""
    if isinstance(source := holder[name], str) and uri.is_file_url(source):
        return True
    return name in (kind, "path") if holder is part else holder is part.get(kind) and name != "url"


def carried(messages: Messages, path_of: Callable[[str, Any, str], str | None] = file_of) -> Messages:
    """A copy of messages, in which files take the place of their names; a text is what it was. `path_of` gets
    where a part stands, what its source is and of which kind, and says which file that is.

    Raises QwenRefError if a file cannot be read, which a folder of frames is, and what `path_of` raises.
    """
    found = copy.deepcopy(messages)
    for where, part in parts.content_parts(found):
        if kind := parts.media_kind(part):
            places = [*parts.sources(part, kind), *([(part, "path")] if part.get("path") else [])]
            for holder, name in places:
                if not may_stand(part, kind, holder, name):
                    continue
                try:
                    if (path := path_of(where, holder[name], kind)) is not None:
                        holder[name] = uri.File.read(path)
                except QwenRefError as error:
                    raise QwenRefError(f"{where}: {error}") from None
    return found
