"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from qwen_ref.errors import QwenRefError


@contextmanager
def write_whole(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of `path` when the block ends well, and else is gone.

    Raises QwenRefError if it cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise QwenRefError(f"{path}: cannot be written: it is a folder")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=path.suffix, delete=False) as file:
            try:
                yield file
                file.flush()
                mask = os.umask(0)  # temporary files are private; this one is to be like any other
                os.umask(mask)
                os.chmod(file.name, 0o666 & ~mask)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise QwenRefError(f"{path}: cannot be written: {error.strerror or error}") from None
