"""A user's files: read only if they are files, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from qwen_ref.errors import QwenRefError


def regular_file(path: str | os.PathLike[str]) -> Path:
    """The path, if a file is there. Opening a pipe would wait for whoever writes to it.

    Raises QwenRefError if none is, or if it is a folder or a device.
    """
    given = os.fspath(path) or "''"  # as given: a Path makes a folder of nothing, and one slash of two
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise QwenRefError(f"{given}: cannot be read: {error.strerror or error}") from None
    except ValueError:  # in words that differ between versions of Python
        raise QwenRefError(f"{given}: cannot be read: embedded null character") from None
    if not stat.S_ISREG(mode):
        raise QwenRefError(f"{given}: is {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}")
    return Path(path)


def cache_folder() -> Path:
    """Where there may be what can be made again. Raises RuntimeError where there is no home folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qwen_ref"


def is_one_file(path: Path, other: Path) -> bool:
    """Whether two names are of one file that is there."""
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Raises QwenRefError if it is no file that can be read."""
    path = regular_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise QwenRefError(f"{path}: cannot be read: {error.strerror or error}") from None


def read_text(path: str | os.PathLike[str]) -> str:
    """UTF-8, with its line ends as they are. Raises QwenRefError if it is something else."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise QwenRefError(f"{path}: byte {error.start} is not UTF-8 text") from None


def read_json(path: str | os.PathLike[str]) -> Any:
    """Raises QwenRefError if it is no JSON, or is nested too deeply."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise QwenRefError(f"{path}: is not JSON ({error})") from None


def read_lines(path: str | os.PathLike[str]) -> list[tuple[str, Any]]:
    """What the lines of a JSONL file hold, each with where that is, "FILE: line 3"; empty lines are left out.

    Raises QwenRefError.
    """
    found = []
    try:
        with open(regular_file(path), "rb") as file:
            for number, line in enumerate(file, 1):
                where = f"{path}: line {number}"
                if not line.strip():
                    continue
                try:
                    value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except UnicodeDecodeError as error:
                    raise QwenRefError(f"{where}: byte {error.start} is not UTF-8 text") from None
                except (ValueError, RecursionError) as error:
                    raise QwenRefError(f"{where}: is not JSON ({error})") from None
                found.append((where, value))
    except OSError as error:
        raise QwenRefError(f"{path}: cannot be read: {error.strerror or error}") from None
    return found


def json_line(value: Any) -> bytes:
    """Of a JSONL file."""
    try:
        return (json.dumps(value, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # half a character, as JSON may spell it
        return (json.dumps(value) + "\n").encode()


def check_not_printed_to(path: str | os.PathLike[str]) -> None:
    """Raises QwenRefError for a file where standard output or error goes: both would be mixed."""
    try:
        file, outputs = os.stat(path), map(os.fstat, (1, 2))
        printed_to = stat.S_ISREG(file.st_mode) and any(os.path.samestat(file, one) for one in outputs)
    except OSError:  # there is no such file, or no such output
        return
    if printed_to:
        raise QwenRefError(f"{path}: cannot be written: what is printed goes there")


def check_place(option: str, path: str | os.PathLike[str]) -> None:
    """Whether a file can be written there: better known before it is computed. Raises QwenRefError."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise QwenRefError(f"{option} {path}: the folder does not exist")
    if Path(path).is_dir():
        raise QwenRefError(f"{option} {path}: is a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise QwenRefError(f"{option} {path}: nothing can be written in this folder")


@contextmanager
def write_whole(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write to, which takes `path`'s place and mode when the block ends well, and else is gone. A
    link stays: what it points to is replaced.

    Raises QwenRefError if it cannot be written.
    """
    given = Path(path)
    if given.exists() and not given.is_file():  # a device would be replaced by a file
        what = "a folder" if given.is_dir() else "not a regular file"
        raise QwenRefError(f"{given}: cannot be written: it is {what}")
    check_not_printed_to(given)
    path = Path(os.path.realpath(given))
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=path.suffix, delete=False) as file:
            try:
                yield file
                file.flush()
                os.chmod(file.name, stat.S_IMODE(path.stat().st_mode) if path.exists() else usual(0o666))
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise QwenRefError(f"{given}: cannot be written: {error.strerror or error}") from None


@contextmanager
def write_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to fill, which takes the place of `path` when the block ends well, and else is gone.

    Raises QwenRefError if anything is there but an empty folder, or if it cannot be written.
    """
    path = Path(path)
    try:
        if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
            what = "the folder is not empty" if path.is_dir() else "it is not a folder"
            raise QwenRefError(f"{path}: cannot be written: {what}")
        folder = Path(tempfile.mkdtemp(dir=path.parent))
        try:
            yield folder
            os.chmod(folder, usual(0o777))
            os.replace(folder, path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as error:
        raise QwenRefError(f"{path}: cannot be written: {error.strerror or error}") from None


def usual(mode: int) -> int:
    """What temporary files, which are private, are to have in the end: the mode of any other file."""
    mask = os.umask(0)
    os.umask(mask)
    return mode & ~mask
