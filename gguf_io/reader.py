"""Open a GGUF file without reading it: check the header once, decode a value when it is asked for.

The format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), all little-endian:

    "GGUF" | version u32 | tensor count u64 | metadata count u64
    metadata:    key string | value type u32 | value            (string = length u64 + bytes,
                                                                 array  = type u32 + count u64 + values)
    tensor info: name string | n_dims u32 | dims u64 ... | type u32 | offset u64
    padding to `general.alignment`, then the tensors

Nothing in the file is trusted: every size is compared with what is left of the file before it is used, and
nothing is allocated in proportion to a number that the file merely claims.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gguf_io.quants import TYPES, QuantType

MAX_ENTRIES = 1 << 16  # metadata keys, and tensors: real files have about 50 and 1,000
MAX_NAMES_BYTES = 1 << 23  # all keys and tensor names together
MAX_KEY_BYTES = (1 << 16) - 1  # the format's own limit
MAX_NAME_BYTES = 63  # llama.cpp's GGML_MAX_NAME less the final zero
MAX_DIMS = 4  # llama.cpp's GGML_MAX_DIMS
MAX_WALKED = 1 << 24  # strings and arrays inside arrays: each must be stepped over one by one
MAX_DEPTH = 4  # arrays inside arrays

U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
SCALARS: dict[int, np.dtype[Any]] = {  # metadata value type -> NumPy type of it
    0: np.dtype("u1"),
    1: np.dtype("i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    7: np.dtype("?"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}
BOOL, STRING, ARRAY = 7, 8, 9


class GGUFError(Exception):
    """The file is not a GGUF file that can be read. The message names the file, the field and the value."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the file. `shape` is in NumPy order (the last dimension is contiguous)."""

    name: str
    shape: tuple[int, ...]
    type: QuantType
    offset: int  # bytes from the file's start
    buffer: mmap.mmap

    @property
    def columns(self) -> int:
        return self.shape[-1]

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:-1])

    @property
    def nbytes(self) -> int:
        return self.rows * self.type.row_bytes(self.columns)

    @property
    def data(self) -> np.ndarray:
        """The bytes as they lie in the file, not copied: uint8 [rows, bytes per row]."""
        flat = np.frombuffer(self.buffer, np.uint8, self.nbytes, self.offset)
        return flat.reshape(self.rows, self.type.row_bytes(self.columns))

    def dequantize(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows start to stop as float32 [stop - start, columns]."""
        return self.type.dequantize(self.data[start:stop])

    def part(self, start: int, stop: int) -> Tensor:
        """Rows start to stop of a matrix, as a tensor of their own."""
        offset = self.offset + start * self.type.row_bytes(self.columns)
        return Tensor(self.name, (stop - start, self.columns), self.type, offset, self.buffer)


class Metadata(Mapping[str, Any]):
    """Keys and values of the file; a value is decoded each time it is asked for.

    A string is str, a number int or float, a bool bool; an array of numbers is a read-only NumPy view of
    the file, an array of strings a list, an array of arrays a list of those.
    """

    def __init__(self, header: _Header, places: dict[str, tuple[int, int]]):
        self._header, self._places = header, places

    def __getitem__(self, key: str) -> Any:
        kind, position = self._places[key]
        return self._header.value(kind, position, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class GGUFFile:
    """An opened file, or all parts of a split one.

    `path` is the first part, `metadata` its metadata, `tensors` the tensors of all parts by name.
    """

    def __init__(self, path: Path, version: int, metadata: Mapping[str, Any], tensors: dict[str, Tensor]):
        self.path, self.version, self.metadata, self.tensors = path, version, metadata, tensors


class _Header:
    """The mapped file while its header is read; `position` moves forward only."""

    def __init__(self, path: Path):
        self.path = path
        self.buffer = _map(path)
        self.end = len(self.buffer)
        self.position = 0
        self.walked = 0
        self.names_bytes = 0

    def error(self, field: str, problem: str) -> GGUFError:
        return GGUFError(f"{self.path}: {field}: {problem}")

    def take(self, size: int, field: str) -> int:
        """Step over `size` bytes; return where they start."""
        start = self.position
        if size > self.end - start:
            raise self.error(field, f"needs {size} bytes at {start}, but the file ends at {self.end}")
        self.position = start + size
        return start

    def u32(self, field: str) -> int:
        return U32.unpack_from(self.buffer, self.take(4, field))[0]

    def u64(self, field: str) -> int:
        return U64.unpack_from(self.buffer, self.take(8, field))[0]

    def name(self, field: str, limit: int) -> str:
        length = self.u64(f"length of {field}")
        self.names_bytes += length
        if not 0 < length <= limit:
            raise self.error(f"length of {field}", f"{length} is not in 1 to {limit}")
        if self.names_bytes > MAX_NAMES_BYTES:
            raise self.error(f"length of {field}", f"all names together exceed {MAX_NAMES_BYTES} bytes")
        text = self.text(self.take(length, field), length, field)
        if not text.isprintable():
            raise self.error(field, f"{text!r} has characters that cannot be printed")
        return text

    def text(self, start: int, length: int, field: str) -> str:
        raw = self.buffer[start : start + length]
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.error(field, f"{raw[:40]!r} is not UTF-8") from None

    def skip_value(self, kind: int, field: str, depth: int = 0) -> None:
        """Step over a metadata value and check its sizes, decoding nothing."""
        if kind in SCALARS:
            self.take(SCALARS[kind].itemsize, field)
        elif kind == STRING:
            self.take(self.u64(f"length of {field}"), field)
        elif kind == ARRAY:
            inner, count = self.u32(f"element type of {field}"), self.u64(f"count of {field}")
            if inner in SCALARS:
                self.take(count * SCALARS[inner].itemsize, field)
            elif inner in (STRING, ARRAY):
                self.walked += count
                if self.walked > MAX_WALKED or depth >= MAX_DEPTH:
                    raise self.error(
                        f"count of {field}", f"{count} nested values are more than a header can hold"
                    )
                if inner == STRING:
                    self.skip_strings(count, field)
                else:
                    for _ in range(count):
                        self.skip_value(ARRAY, field, depth + 1)
            else:
                raise self.error(f"element type of {field}", f"{inner} is not a GGUF value type")
        else:
            raise self.error(f"type of {field}", f"{kind} is not a GGUF value type")

    def skip_strings(self, count: int, field: str) -> None:
        """The hot loop of opening a file: a vocabulary has 248,320 strings, its merges 247,587."""
        position, buffer, length_at = self.position, self.buffer, U64.unpack_from
        try:
            for _ in range(count):
                position += 8 + length_at(buffer, position)[0]
        except (struct.error, OverflowError, IndexError):
            position = self.end + 1
        if position > self.end:
            raise self.error(field, f"its {count} strings run past the file's end at {self.end}")
        self.position = position

    def value(self, kind: int, position: int, field: str) -> Any:
        """Decode the value at `position`, whose sizes skip_value has checked."""
        if kind == STRING:
            return self.text(position + 8, U64.unpack_from(self.buffer, position)[0], field)
        if kind == ARRAY:
            return self.array(position, field)[0]
        return self.numbers(kind, 1, position, field)[0].item()

    def array(self, position: int, field: str) -> tuple[Any, int]:
        """Decode an array; also return where it ends."""
        inner, count = (
            U32.unpack_from(self.buffer, position)[0],
            U64.unpack_from(self.buffer, position + 4)[0],
        )
        position += 12
        if inner in SCALARS:
            return self.numbers(inner, count, position, field), position + count * SCALARS[inner].itemsize
        if inner == STRING:
            return self.strings(count, position, field)
        values = []
        for _ in range(count):
            element, position = self.array(position, field)
            values.append(element)
        return values, position

    def numbers(self, kind: int, count: int, position: int, field: str) -> np.ndarray:
        if kind == BOOL:
            raw = np.frombuffer(self.buffer, np.uint8, count, position)
            if raw.max(initial=0) > 1:
                raise self.error(field, f"{raw.max()} is not a bool (0 or 1)")
        return np.frombuffer(self.buffer, SCALARS[kind], count, position)

    def strings(self, count: int, position: int, field: str) -> tuple[list[str], int]:
        values, buffer, length_at = [], self.buffer, U64.unpack_from
        try:
            for _ in range(count):
                start = position + 8
                position = start + length_at(buffer, position)[0]
                values.append(buffer[start:position].decode())
        except UnicodeDecodeError:
            raise self.error(field, f"string {len(values)} is not UTF-8") from None
        return values, position


def _map(path: Path) -> mmap.mmap:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise GGUFError(f"{path}: is a directory, not a GGUF file")
        if not stat.S_ISREG(status.st_mode):
            raise GGUFError(f"{path}: is not a regular file")
        if status.st_size < 24:
            raise GGUFError(f"{path}: is not a GGUF file ({status.st_size} bytes; a header has at least 24)")
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise GGUFError(f"{path}: cannot be opened: {reason}") from None


def _read_part(path: Path) -> GGUFFile:
    header = _Header(path)
    magic = header.buffer[header.take(4, "magic") : 4]
    if magic != b"GGUF":
        raise header.error("magic", f"is not a GGUF file (it starts with {magic!r}, not b'GGUF')")
    version = header.u32("version")
    if version not in (2, 3):
        if version and version & 0xFFFF == 0:
            raise header.error("version", "the file is big-endian, which is not supported")
        raise header.error("version", f"{version} is not supported (2 and 3 are)")
    tensor_count, key_count = header.u64("tensor count"), header.u64("metadata count")
    for field, count in ("tensor count", tensor_count), ("metadata count", key_count):
        if count > MAX_ENTRIES:
            raise header.error(field, f"{count} is more than {MAX_ENTRIES}")

    places: dict[str, tuple[int, int]] = {}
    for i in range(key_count):
        key = header.name(f"metadata key {i}", MAX_KEY_BYTES)
        if key in places:
            raise header.error(key, "the metadata key occurs twice")
        kind = header.u32(f"type of {key}")
        places[key] = kind, header.position
        header.skip_value(kind, key)
    metadata = Metadata(header, places)
    tensors = _read_tensor_infos(header, tensor_count, _alignment(header, places, metadata))
    return GGUFFile(path, version, metadata, tensors)


def _alignment(header: _Header, places: dict[str, tuple[int, int]], metadata: Metadata) -> int:
    key = "general.alignment"
    if key not in places:
        return 32
    if places[key][0] != 4:
        raise header.error(key, f"has value type {places[key][0]}, not 4 (uint32)")
    alignment = metadata[key]
    if alignment == 0 or alignment & (alignment - 1):
        raise header.error(key, f"{alignment} is not a power of two")
    return alignment


def _read_tensor_infos(header: _Header, count: int, alignment: int) -> dict[str, Tensor]:
    infos = []
    for i in range(count):
        name = header.name(f"tensor name {i}", MAX_NAME_BYTES)
        n_dims = header.u32(f"dimension count of {name}")
        if not 1 <= n_dims <= MAX_DIMS:
            raise header.error(f"dimension count of {name}", f"{n_dims} is not in 1 to {MAX_DIMS}")
        shape = tuple(header.u64(f"dimensions of {name}") for _ in range(n_dims))[::-1]
        type_id = header.u32(f"type of {name}")
        offset = header.u64(f"offset of {name}")
        infos.append((name, shape, type_id, offset))
    data_start = -(-header.position // alignment) * alignment

    tensors: dict[str, Tensor] = {}
    for name, shape, type_id, offset in infos:
        if name in tensors:
            raise header.error(name, "the tensor name occurs twice")
        if type_id not in TYPES:
            raise header.error(f"type of {name}", f"{type_id} is not a known tensor type")
        type_ = TYPES[type_id]
        if shape[-1] % type_.block_size:
            raise header.error(
                name, f"{shape[-1]} columns are not a multiple of {type_.name}'s {type_.block_size}"
            )
        nbytes = math.prod(shape[:-1]) * type_.row_bytes(shape[-1])  # Python integers: no overflow here,
        elements = math.prod(
            max(n, 1) for n in shape
        )  # and none where 64 bits must do, in an empty one either
        if elements * type_.block_bytes >= 1 << 63:
            raise header.error(name, f"shape {shape} is more than 63 bits can count")
        if offset % alignment:
            raise header.error(
                f"offset of {name}", f"{offset} is not a multiple of the alignment {alignment}"
            )
        if data_start + offset + nbytes > header.end:
            raise header.error(
                name,
                f"shape {shape} of {type_.name} needs {nbytes} bytes at {data_start + offset}, "
                f"but the file ends at {header.end}",
            )
        tensors[name] = Tensor(name, shape, type_, data_start + offset, header.buffer)

    previous_end, previous_name = 0, ""
    for tensor in sorted(tensors.values(), key=lambda t: (t.offset, t.nbytes)):
        if tensor.offset < previous_end:
            raise header.error(f"offset of {tensor.name}", f"{tensor.offset} lies inside {previous_name}")
        previous_end, previous_name = tensor.offset + tensor.nbytes, tensor.name
    _check_end(header, max(previous_end, data_start), alignment)
    return tensors


def _check_end(header: _Header, end: int, alignment: int) -> None:
    """Refuse parts of a split file that were joined like plain ones: the first alone would be read."""
    for place in end, -(-end // alignment) * alignment:
        if header.buffer[place : place + 4] == b"GGUF":
            raise header.error(
                "the end",
                f"another GGUF file begins at byte {place}, so parts of a split file were joined end to end; "
                "give the first of the parts as they were, or join them with llama-gguf-split --merge",
            )


def open_gguf(path: str | os.PathLike[str]) -> GGUFFile:
    """Open a GGUF file (version 2 or 3), or all parts of a split one when given any `-00001-of-00003` part.

    Raises GGUFError, with one sentence, if the file cannot be opened or its header is not valid.
    """
    if not os.fspath(path):
        raise GGUFError("'': cannot be opened: the path is empty")
    path = Path(path)
    file = _read_part(path)
    count = file.metadata.get("split.count", 1)
    if not isinstance(count, int):
        raise GGUFError(f"{path}: split.count: {count!r} is not a number")
    if count <= 1:
        return file
    match = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.gguf", path.name)
    if not match or int(match[3]) != count:
        raise GGUFError(
            f"{path}: is one of {count} parts, but its name does not end in -00001-of-{count:05}.gguf"
        )
    first = None
    tensors: dict[str, Tensor] = {}
    for number in range(count):
        part_path = path.with_name(f"{match[1]}-{number + 1:05}-of-{count:05}.gguf")
        part = _read_part(part_path)
        for key, want in ("split.no", number), ("split.count", count):
            if part.metadata.get(key) != want:
                raise GGUFError(f"{part_path}: {key}: {part.metadata.get(key)!r} should be {want}")
        if twice := tensors.keys() & part.tensors.keys():
            raise GGUFError(f"{part_path}: {min(twice)}: the tensor is in an earlier part too")
        tensors |= part.tensors
        first = first or part
    assert first is not None
    want = first.metadata.get("split.tensors.count", len(tensors))
    if want != len(tensors):
        raise GGUFError(
            f"{first.path}: split.tensors.count: {want} should be {len(tensors)}, as the parts hold"
        )
    return GGUFFile(first.path, first.version, first.metadata, tensors)
