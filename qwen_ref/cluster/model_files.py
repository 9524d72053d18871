"""The files of a model, known by their hashes wherever they lie, and sent to where they do not.

A worker takes them from the path that they have where the job was started, if that holds the same there; by
the name that they were pulled by; or from ~/.cache/qwen_ref/models, to where they are sent in pieces.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gguf_io import GGUFError
from qwen_ref import hub
from qwen_ref.checkpoint import open_model
from qwen_ref.config import read_config
from qwen_ref.engine.prefix_files import parts_of
from qwen_ref.errors import QwenRefError
from qwen_ref.files import cache_folder
from qwen_ref.vision_file import find_vision_file

PIECE = 4 << 20  # bytes
OLD = 600  # seconds: what came in part and was not gone on with is deleted
BESIDE = (".json", ".jinja", ".txt", ".safetensors")  # of a checkpoint's folder


class Part(NamedTuple):
    """A file: where it is, and where it is to be in a folder of all."""

    path: str
    place: str
    nbytes: int
    sha256: str


@dataclass(frozen=True)
class ModelFiles:
    """`path` and `vision` are absolute, `name` is what it was pulled by, `parts` are the files of both."""

    path: str
    vision: str | None
    name: str | None
    parts: tuple[Part, ...]

    @property
    def digest(self) -> str:
        told = [part[1:] for part in self.parts]
        return hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)


@dataclass(frozen=True)
class Found:
    """The same model on this machine."""

    path: str
    vision: str | None


def files_of(
    model: str | os.PathLike[str],
    mmproj: str | None = None,
    progress: Callable[[str], object] = lambda line: None,
) -> ModelFiles:
    """Of a model by path or name. Raises QwenRefError or GGUFError if it is none."""
    given, vision = hub.resolve(model)
    file = open_model(given)
    path = file.path.absolute()
    try:
        tower: Path | None = find_vision_file(path, read_config(file), mmproj or vision).path.absolute()
    except (QwenRefError, GGUFError):
        if mmproj is not None:
            raise
        tower = None
    name = next((stored.name for stored in hub.stored() if path in stored.files), None)
    progress(f"reading {path.name}, for its hash")
    beside = None if tower is None or tower == path else str(tower)
    return described(str(path), beside, name)


def described(path: str, vision: str | None, name: str | None) -> ModelFiles:
    """Raises QwenRefError or OSError if a file cannot be read."""
    if Path(path).is_dir():
        files = [(p, f"{Path(path).name}/{p.name}") for p in Path(path).iterdir() if p.suffix in BESIDE]
    else:
        files = [(p, p.name) for p in parts_of(Path(path))]
    files += [(p, f"vision/{p.name}") for p in parts_of(Path(vision))] if vision else []
    parts = list[Part]()
    for file, place in sorted(files):
        digest = sha256(str(file))
        parts.append(Part(str(file), place, file.stat().st_size, digest))
    return ModelFiles(path, vision, name, tuple(sorted(parts, key=lambda part: part.place)))


def sha256(path: str) -> str:
    """Raises QwenRefError."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise QwenRefError(f"{path}: cannot be read: {error.strerror or error}") from None


def pieces(path: str) -> Iterator[tuple[int, bytes]]:
    """A file's offsets, and what is there. Raises QwenRefError."""
    try:
        with open(path, "rb") as file:
            if not os.path.getsize(path):
                yield 0, b""
            while piece := file.read(PIECE):
                yield file.tell() - len(piece), piece
    except OSError as error:
        raise QwenRefError(f"{path}: cannot be read: {error.strerror or error}") from None


# ---- on a worker


def find(wanted: ModelFiles) -> Found | None:
    """Where the same files are here; a model with a name is pulled. None if they must be sent."""
    for place in (as_given, received, by_name):
        try:
            found = place(wanted)
        except (OSError, QwenRefError):
            continue
        if found and is_whole(found, wanted):
            return found
    return None


def is_whole(found: Found, wanted: ModelFiles) -> bool:
    try:
        return described(found.path, found.vision, None).digest == wanted.digest
    except (OSError, QwenRefError):
        return False


def as_given(wanted: ModelFiles) -> Found:
    return Found(wanted.path, wanted.vision)


def by_name(wanted: ModelFiles) -> Found | None:
    """Raises QwenRefError if it cannot be pulled."""
    if wanted.name is None:
        return None
    stored = hub.find(wanted.name)
    if stored is None or not stored.whole:
        stored = hub.pull(wanted.name)
    return Found(str(stored.files[0]), wanted.vision and str(stored.vision))


def received(wanted: ModelFiles) -> Found:
    """Raises QwenRefError where there is no home folder."""
    folder = models_folder() / wanted.digest
    vision = wanted.vision and str(folder / "vision" / os.path.basename(wanted.vision))
    return Found(str(folder / os.path.basename(wanted.path)), vision)


def models_folder() -> Path:
    try:
        return cache_folder() / "models"
    except RuntimeError:
        raise QwenRefError("there is no home folder for models; XDG_CACHE_HOME can name another") from None


def begin(wanted: ModelFiles) -> str:
    """An empty folder for what is to come. Raises QwenRefError or OSError, where the disk is too full too."""
    root = models_folder()
    root.mkdir(parents=True, exist_ok=True)
    for old in root.glob("*.part"):
        if max(path.stat().st_mtime for path in (old, *old.rglob("*"))) < time.time() - OLD:
            shutil.rmtree(old, ignore_errors=True)
    if wanted.nbytes > (free := shutil.disk_usage(root).free):
        raise QwenRefError(
            f"{root}: the disk has {free / 1e6:,.0f} MB free, and {wanted.nbytes / 1e6:,.0f} MB are to come"
        )
    return tempfile.mkdtemp(prefix=f"{wanted.digest}-", suffix=".part", dir=root)


def receive(folder: str, place: str, offset: int, piece: bytes) -> None:
    """Raises OSError."""
    path = Path(folder, place)
    path.parent.mkdir(exist_ok=True)
    with open(path, "r+b" if offset else "wb") as file:
        file.seek(offset)
        file.write(piece)


def finish(folder: str, wanted: ModelFiles) -> Found:
    """All has come. Raises QwenRefError if it is something else."""
    for part in wanted.parts:
        if sha256(os.path.join(folder, part.place)) != part.sha256:
            shutil.rmtree(folder)
            raise QwenRefError(f"{part.path}: what came has another hash, and is deleted")
    found = received(wanted)
    if not is_whole(found, wanted):  # else another process was faster
        shutil.rmtree(models_folder() / wanted.digest, ignore_errors=True)
        os.rename(folder, models_folder() / wanted.digest)
    shutil.rmtree(folder, ignore_errors=True)
    return found
