"""What a user is meant to read: the one exception of this package, and what must be told but is no error."""

import functools
import logging

logger = logging.getLogger("qwen_ref")  # its warnings go to standard error, unless the program says otherwise


class QwenRefError(Exception):
    """Something the user gave cannot be used. The message is one sentence: what, where, and which value."""


@functools.lru_cache(1024)
def tell(sentence: str) -> None:
    """A warning, once in a process: a model's file is opened several times."""
    logger.warning("%s", sentence)


def of_type(value: object) -> str:
    """ "a list", "an int": of a value that is not what was expected."""
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
