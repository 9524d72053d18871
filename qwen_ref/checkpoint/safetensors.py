"""The tensors of .safetensors files, mapped; nothing that a header says is trusted.

The format is https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from gguf_io.quants import TYPES
from qwen_ref.checkpoint.fields import read_fields
from qwen_ref.checkpoint.known import ELSEWHERE
from qwen_ref.errors import QwenRefError
from qwen_ref.files import regular_file

FLOATS = {"F32": TYPES[0], "F16": TYPES[1], "BF16": TYPES[30]}  # safetensors' name -> GGUF's type
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000  # the safetensors library's own limit
MAX_NAME, MAX_DIMS = 255, 8


@dataclass(frozen=True)
class Stored:
    """A tensor as it lies in a .safetensors file."""

    path: Path
    buffer: mmap.mmap
    type: str
    shape: tuple[int, ...]
    offset: int  # bytes from the file's start
    nbytes: int


def read_weights(folder: Path) -> dict[str, Stored]:
    """All tensors of a checkpoint, from one file or from the parts that its index names.

    Raises QwenRefError if a file cannot be read, or is not what the index says.
    """
    # transformers prefers the single file too
    if os.path.isfile(folder / WEIGHTS) or not os.path.isfile(folder / INDEX):
        return read_part(folder / WEIGHTS)
    index = read_fields(folder / INDEX)
    places, parts = index.get("weight_map", dict), {}
    for name, part in places.items():
        if not isinstance(part, str) or Path(part).name != part or not part.isprintable():
            raise index.error("weight_map", f"{part!r:.80} is no name of a file in this folder")
        if part not in parts:
            parts[part] = read_part(folder / part)
        if name not in parts[part]:
            raise QwenRefError(f"{folder / part}: {name!r:.80}: the tensor is not here, as {INDEX} says")
    return {name: parts[part][name] for name, part in places.items()}


def read_part(path: Path) -> dict[str, Stored]:
    """The tensors of one .safetensors file: the length of a JSON header as u64, the header, the numbers.

    The format is https://huggingface.co/docs/safetensors. Nothing in it is trusted. Raises QwenRefError.
    """

    def error(field: str, problem: str) -> QwenRefError:
        return QwenRefError(f"{path}: {field}: {problem}")

    try:
        with open(regular_file(path), "rb") as file:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as problem:  # ValueError: an empty file
        reason = getattr(problem, "strerror", None) or problem
        raise QwenRefError(f"{path}: cannot be opened: {reason}") from None

    end = len(buffer)
    size = struct.unpack_from("<Q", buffer)[0] if end >= 8 else 0
    if not 2 <= size <= min(end - 8, MAX_HEADER_BYTES):
        raise error("header", f"{size} bytes do not fit in a file of {end}, so this is no safetensors file")
    try:
        header = json.loads(buffer[8 : 8 + size])
    except (ValueError, RecursionError) as problem:
        raise error("header", f"is not JSON ({problem})") from None
    if not isinstance(header, dict):
        raise error("header", "is not a JSON object")
    start = 8 + size
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            if isinstance(entry, dict) and entry.get("format") == "mlx":
                raise QwenRefError(f"{path}: was written for MLX, {ELSEWHERE}")
            continue
        if not name.isprintable() or len(name) > MAX_NAME:
            raise error("header", f"{name!r:.80} is no name of a tensor")
        try:
            kind, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            whole = all(type(n) is int and 0 <= n < 1 << 63 for n in (*shape, first, last))
        except (TypeError, KeyError, ValueError):
            whole = False
        if not whole or not isinstance(kind, str) or len(shape) > MAX_DIMS:
            raise error(name, f"{entry!r:.80} has no valid dtype, shape and data_offsets")
        if first > last or start + last > end:
            raise error(name, f"ends at {start + last}, but the file at {end}")
        if kind in FLOATS and last - first != math.prod(shape) * FLOATS[kind].block_bytes:
            raise error(name, f"{last - first} bytes do not hold shape {shape} of {kind}")
        tensors[name] = Stored(path, buffer, kind, shape, start + first, last - first)
    return tensors
