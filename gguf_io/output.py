"""Standard output and standard error, in whatever encoding they have."""

from __future__ import annotations

import codecs
import io
import sys

BYTES, LETTERS = codecs.lookup_error("surrogateescape"), codecs.lookup_error("backslashreplace")


def as_typed(error: UnicodeError) -> tuple[str | bytes, int]:
    """An error handler: of a file's name the bytes that are no text come out as they went in, and a letter
    that the encoding has not is spelled out.
    """
    assert isinstance(error, UnicodeEncodeError)
    error.end = error.start + 1
    try:
        return BYTES(error)
    except UnicodeEncodeError:
        return LETTERS(error)


def prepare() -> None:
    """To be called before anything is printed."""
    codecs.register_error("as_typed", as_typed)
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="as_typed")
