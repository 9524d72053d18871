"""Kept prefixes on disk: a safetensors file for each snapshot, in a folder for each model.

    FOLDER/states-<fingerprint of the model>/<tokens>-<hash of the key>.safetensors

A file has the snapshot's arrays, and the keys and values of the tokens since the snapshot before it, which
has a file of its own. It is written whole or not at all, never changed, and read like one from a stranger:
where it is not what it should be, a warning says so, and the prompt is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

import qwen_ref
from qwen_ref.checkpoint.safetensors import Stored, read_part
from qwen_ref.errors import QwenRefError, tell
from qwen_ref.files import write_whole
from qwen_ref.model.cache_types import BYTES, PLAIN
from qwen_ref.model.layers import Array
from qwen_ref.model.state import State
from qwen_ref.model.text import TextModel
from qwen_ref.prompt import Rank

VERSION = 1
BUDGET = 4 << 30  # bytes in the folder, of all models, or half of what the disk has left if that is less
TYPES = {"F64": np.float64, "F32": np.float32, "U16": np.uint16, "I64": np.int64, "U8": np.uint8}
NAME = re.compile(r"(\d+)-[0-9a-f]{32}\.safetensors")
Kept = tuple[Rank, list[Array], list[Array]]  # keys and values, [H_kv, T, D] each, and the snapshot's arrays


def fingerprint(text: TextModel, vision: Path | None) -> str:
    """A name for all that a state depends on: the model's and the vision file, the code, the processor.

    Of the files it takes sizes, times and some of the bytes: reading all takes a minute from an SD card. A
    file that was changed in place has another time; of another model with the same time, size and header, as
    images of systems may hold, the samples differ.
    """
    digest = hashlib.blake2b(digest_size=8)
    package = Path(qwen_ref.__file__).parent
    for source in sorted(p for room in ("model", "kernels", "media") for p in (package / room).glob("*.py")):
        digest.update(source.read_bytes())
    about = [str(VERSION), text.layers.name, np.dtype(text.dtype).name]
    about += [importlib.metadata.version("pillow")]  # which makes a picture's patches of its pixels
    about += text.cache_types if text.cache_types != PLAIN else ()
    if text.layers.name != "numpy":
        from numba.core.registry import cpu_target

        about += map(str, cpu_target.target_context.codegen().magic_tuple())  # the processor and its features
    digest.update(repr(about).encode())
    for path in [*parts_of(text.file.path), *([] if vision is None else parts_of(vision))]:
        status, some = sampled(path)
        digest.update(f"{status.st_size} {status.st_mtime_ns} ".encode() + some)
    return digest.hexdigest()


def sampled(path: Path) -> tuple[os.stat_result, bytes]:
    """What a file is, and some of its bytes. Raises QwenRefError."""
    try:
        with open(path, "rb") as file:
            status, some = os.fstat(file.fileno()), file.read(1 << 16)
            for n in range(64):
                file.seek(status.st_size * n // 64)
                some += file.read(1 << 12)
    except OSError as error:
        raise QwenRefError(f"{path}: cannot be read: {error.strerror or error}") from None
    return status, some


def parts_of(path: Path) -> list[Path]:
    """The files of a model: one, the parts of a split one, or a checkpoint's."""
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".json"))
    if split := re.fullmatch(r"(.*-)\d{5}(-of-\d{5}\.gguf)", path.name):
        number = re.compile(re.escape(split[1]) + r"\d{5}" + re.escape(split[2]))
        return sorted(p for p in path.parent.iterdir() if number.fullmatch(p.name))
    return [path]


class PrefixFiles:
    """The states of one model in a folder, which may hold those of others, too.

    `like` is a new state of that model, whose arrays say what those in files have to look like. Raises
    QwenRefError if the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], model: str, like: State, budget: int = BUDGET):
        self.folder, self.budget = Path(folder) / f"states-{model}", budget
        self._growing, self._fixed = like.arrays(True), like.arrays(False)
        self._kinds = [kind for layer in like.layers if layer.grows for kind in layer.types]
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # conversations are private
            names = [entry.name for entry in self.folder.iterdir()]
        except OSError as error:
            raise QwenRefError(f"{folder}: cannot be used: {error.strerror or error}") from None
        self._names = {name: int(found[1]) for name in names if (found := NAME.fullmatch(name))}

    def lengths(self, key: Array, least: int) -> list[int]:
        """The states of beginnings of the key, with more than `least` tokens and less than all: their
        numbers of tokens, the longest first."""
        return [n for n, _ in self._beginnings(key) if least < n < len(key)][::-1]

    def _beginnings(self, key: Array) -> Iterator[tuple[int, str]]:
        """Those of the key, and itself, that there are files of: lengths and names."""
        digest, at = hashlib.blake2b(digest_size=16), 0
        for tokens in sorted({*self._names.values()}):
            if tokens > len(key):
                return
            digest.update(key[at:tokens].tobytes())
            at, name = tokens, f"{tokens}-{digest.hexdigest()}.safetensors"
            if name in self._names:
                yield tokens, name

    def read(self, key: Array) -> Kept | None:
        """What is kept of the state after the key; None, and a warning, if a file that it needs is not what
        it should be."""
        names, parts, stop = dict(self._beginnings(key)), list[Kept](), len(key)
        while stop:
            if stop not in names:  # removed, by another process perhaps
                return None
            try:
                start, part = self._read_file(self.folder / names[stop], key[:stop], last=stop == len(key))
            except QwenRefError as error:
                tell(f"{error}; so these tokens are read again")
                for length in names:
                    if length >= stop:  # they will be written again
                        self._names.pop(names[length], None)
                return None
            parts.append(part)
            stop = start
        self._touch(names.values())
        of_each = zip(*(growing for _, growing, _ in reversed(parts)), strict=True)
        rank, _, fixed = parts[0]
        return rank, [np.concatenate(arrays, axis=1) for arrays in of_each], fixed

    def _read_file(self, path: Path, key: Array, last: bool) -> tuple[int, Kept]:
        """Where its tokens start, and what is kept of them, the snapshot only if it is the `last` file.
        Raises QwenRefError."""
        stored = read_part(path)

        def array(name: str, shape: tuple[int, ...], dtype: type) -> Array:
            if name not in stored:
                raise QwenRefError(f"{path}: {name}: is not there")
            s = stored[name]
            if s.shape != shape or TYPES.get(s.type) != dtype:
                raise QwenRefError(f"{path}: {name}: {s.type} {s.shape} is not what the model has there")
            if s.nbytes != math.prod(shape) * np.dtype(dtype).itemsize:
                raise QwenRefError(f"{path}: {name}: {s.nbytes} bytes do not hold {s.type} {s.shape}")
            return values(s, dtype)

        start, rank = array("about", (2,), np.int64).tolist()
        if not 0 <= start < len(key) or rank not in [*Rank]:
            raise QwenRefError(f"{path}: about: {start}, {rank} cannot be")
        if not np.array_equal(array("key", key.shape, np.int64), key):
            raise QwenRefError(f"{path}: key: is that of another prompt")
        growing = [
            array(f"growing.{n}", (like.shape[0], len(key) - start, like.shape[2]), like.dtype.type)
            for n, like in enumerate(self._growing)
        ]
        likes = enumerate(self._fixed if last else [])
        fixed = [array(f"fixed.{n}", like.shape, like.dtype.type) for n, like in likes]
        for name, arrays in ("growing", growing), ("fixed", fixed):
            if arrays and array(f"{name}.checksum", (16,), np.uint8).tobytes() != checksum(key, arrays):
                raise QwenRefError(f"{path}: {name}.checksum: is not that of what the file holds")
            kinds = self._kinds if name == "growing" else ["f16"] * len(arrays)
            if not all(map(is_finite, arrays, kinds)):
                raise QwenRefError(f"{path}: {name}: holds numbers that are not finite")
        return start, (Rank(rank), growing, fixed)

    def write(self, key: Array, rank: Rank, growing: Callable[[], list[Array]], fixed: list[Array]) -> None:
        """The state after the key, unless it is there: growing() are keys and values of all its tokens. What
        cannot be written is told, and left out."""
        before = dict(self._beginnings(key))
        if len(key) in before:
            return
        start = max(before, default=0)
        since = [np.ascontiguousarray(array[:, start:]) for array in growing()]
        tensors = {f"growing.{n}": array for n, array in enumerate(since)}
        tensors |= {f"fixed.{n}": np.ascontiguousarray(array) for n, array in enumerate(fixed)}
        tensors |= {"key": key, "about": np.array([start, rank], np.int64)}
        for part, arrays in ("growing", since), ("fixed", fixed):
            tensors[f"{part}.checksum"] = np.frombuffer(checksum(key, arrays), np.uint8)
        from safetensors.numpy import save as serialize

        name = f"{len(key)}-{hashlib.blake2b(key.tobytes(), digest_size=16).hexdigest()}.safetensors"
        try:
            with write_whole(self.folder / name) as file:
                file.write(serialize(tensors))
        except QwenRefError as error:
            tell(f"{error}; so the state after {len(key)} tokens is not kept there")
            return
        self._names[name] = len(key)
        self._touch([*before.values(), name])
        self._trim()

    def _touch(self, names: Iterable[str]) -> None:
        """They are used now, and a beginning not before what goes on with it."""
        now = time.time_ns()
        for name in names:
            with contextlib.suppress(OSError):  # removed by another process, or another user's
                os.utime(self.folder / name, ns=(now, now))

    def _trim(self) -> None:
        """Remove what was not used for longest, of all models, until the rest is within the budget."""
        files = list[tuple[int, int, int, Path]]()
        for path in self.folder.parent.glob("states-*/*.safetensors"):
            found = NAME.fullmatch(path.name)
            with contextlib.suppress(OSError):  # removed by another process
                status = path.lstat()  # what was used at one time is one text: its end goes first
                files.append((status.st_mtime_ns, -int(found[1] if found else 0), status.st_size, path))
        used = sum(size for _, _, size, _ in files)
        budget = min(self.budget, (used + shutil.disk_usage(self.folder).free) // 2)
        for _, _, size, path in sorted(files):
            if used <= budget:
                return
            with contextlib.suppress(OSError):
                path.unlink()
                used -= size
                if path.parent == self.folder:
                    self._names.pop(path.name, None)


def values(stored: Stored, dtype: type) -> Array:
    flat: Array = np.frombuffer(stored.buffer, dtype, math.prod(stored.shape), stored.offset)
    return flat.reshape(stored.shape).copy()


def checksum(key: Array, arrays: list[Array]) -> bytes:
    """Against what disks and copies do to files."""
    digest = hashlib.blake2b(key.tobytes(), digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def is_finite(array: Array, kind: str = "f16") -> bool:
    """`kind` is one of qwen_ref/model/cache_types.py: of blocks the scales count."""
    if kind != "f16":
        array = np.ascontiguousarray(array.reshape(-1, BYTES[kind])[:, :2]).view(np.uint16)
    if array.dtype == np.uint16:  # float16, as its bits
        return not ((array & 0x7C00) == 0x7C00).any()
    return bool(np.isfinite(array).all())
