"""What text may stand for a picture or a clip: a path, a file:// URL, or a data: URI, which holds it; and a
file that has come from where it has its name."""

from __future__ import annotations

import base64
import os
import re
from urllib.parse import unquote, unquote_to_bytes

from qwen_ref.errors import QwenRefError
from qwen_ref.files import read_bytes

LONG = 255  # characters that a sentence repeats; base64 given as a path has more
KINDS = {"image": ("image/",), "video": ("video/", "image/gif")}  # how a data URI's media type begins
WHAT = {"image": "a picture", "video": "a clip"}


class File(bytes):
    """What a file holds. A sentence names it by the `path` that it has where it was read."""

    path: str

    @classmethod
    def read(cls, path: str) -> File:
        """Raises QwenRefError."""
        file = cls(read_bytes(path))
        file.path = path
        return file


def name_of(text: str) -> str:
    """What the text is called in a sentence. What a data URI holds is never repeated."""
    if text[:5].lower() == "data:":
        return "the data URI"
    return _shortened(path_of(text))


def is_address(text: str) -> bool:
    """Whether a source that is text is a URL or a data: URI, and no path."""
    return text[:5].lower() == "data:" or re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text) is not None


def is_file_url(text: str) -> bool:
    return text[:7].lower() == "file://"


def path_of(text: str) -> str:
    """The path that a source may be: a file:// URL's, or the text itself, which may be none. Bytes that are
    no UTF-8 are what Python makes of them in names of files."""
    return unquote(_of_file_url(text), errors="surrogateescape") if is_file_url(text) else text


def read_text(text: str, kind: str) -> str | bytes:
    """A path, or the bytes that a data URI holds. `kind` is "image" or "video".

    Nothing is fetched. Of a data URI only base64 is read, and no parameter but that; its media type must be
    the kind's, the bytes say which picture or clip it is. In a file:// URL, %20 and the like are decoded.
    Raises QwenRefError.
    """
    name = name_of(text)
    if text[:5].lower() == "data:":
        return _from_data_uri(text[5:], kind)
    if is_file_url(text):
        if not _of_file_url(text).startswith("/"):
            raise QwenRefError(f"file://{name}: names a computer; give file:///folder/file, or a path")
        return path_of(text)
    if is_address(text):
        raise QwenRefError(f"{name}: {WHAT[kind]} is not fetched; save it and give the file")
    return text


def check_path(path: str | os.PathLike[str]) -> None:
    """Raises QwenRefError for what is too long for a path and is none; its sentence is short."""
    text = str(path)
    if len(text) > LONG and not os.path.exists(path):
        raise QwenRefError(f"{_shortened(text)}: is no file; base64 belongs in a data:TYPE;base64,… URI")


def _of_file_url(text: str) -> str:
    """The path, still quoted; before it the name of a computer, unless it is this one."""
    return re.sub(r"^localhost(?=/)", "", text[7:])


def _shortened(text: str) -> str:
    return text if len(text) <= LONG else f"{text[:40]}… ({len(text):,} characters)"


def from_base64(name: str, text: str | bytes) -> bytes:
    """White space in it does not matter. Raises QwenRefError, which does not repeat it."""
    data = text.encode(errors="replace") if isinstance(text, str) else text
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except ValueError as error:
        raise QwenRefError(f"{name}: its base64 is damaged or cut off: {error}") from None


def _from_data_uri(rest: str, kind: str) -> bytes:
    head, comma, data = rest.partition(",")
    if not comma or len(head) > LONG:
        raise QwenRefError("the data URI: is not data:TYPE;base64,… with a comma before the data")
    media_type, *parameters = (field.strip().lower() for field in head.split(";"))
    if not media_type.startswith(KINDS[kind]):
        raise QwenRefError(f"the data URI: its type {media_type!r:.40} is not that of {WHAT[kind]}, {kind}/…")
    if parameters[-1:] != ["base64"]:
        raise QwenRefError("the data URI: is not in base64")
    if len(parameters) > 1:
        raise QwenRefError(f"the data URI: {parameters[0]:.40}: {WHAT[kind]} has no such parameter")
    return from_base64("the data URI", unquote_to_bytes(data.encode(errors="replace")))
