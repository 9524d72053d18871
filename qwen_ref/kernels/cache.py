"""Where a full-attention layer keeps keys and values, in the order in which attention.py reads them."""

from __future__ import annotations

import copy
import math
import mmap
from typing import Any

import numpy as np

from qwen_ref.errors import QwenRefError
from qwen_ref.model.cache_types import BLOCK, BYTES, PLAIN

# Numba has float16 on GPUs only, so they are their bits in uint16. attention.py tells types by these.
DTYPES = {"f16": np.uint16, "q8_0": np.int8, "q4_0": np.uint8}
TOGETHER = 16  # tokens of a group
SCALES = 2 * TOGETHER  # bytes


def other_state(name: str) -> QwenRefError:
    """What a mixer made of NumPy's functions is told, when it has taken the place of a kernel."""
    return QwenRefError(
        f"layers: {name}: the kernels' state has another form than NumPy's; use replaced(NUMPY, {name}=...)"
    )


def zero_pages(dtype: Any, *shape: int) -> np.ndarray:
    """Zeros that take memory once they are written, and give it back at their end: among malloc's blocks what
    caches have outgrown stays, at 8,192 tokens of 0.8B 68 MiB beside the 96 in use."""
    size = math.prod(shape)
    pages = mmap.mmap(-1, max(1, size * np.dtype(dtype).itemsize), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, dtype, size).reshape(shape)


def new_room(kind: str, heads: int, tokens: int, head_dim: int, is_key: bool) -> np.ndarray:
    """For keys or values of so many tokens, a multiple of 16; attention.py has the shapes."""
    if kind == "f16":
        group = (head_dim, TOGETHER) if is_key else (TOGETHER, head_dim)
    else:
        group = (head_dim // BLOCK, TOGETHER * BYTES[kind])
    return zero_pages(DTYPES[kind], heads, tokens // TOGETHER, *group)


def rows_of(groups: np.ndarray, is_key: bool) -> np.ndarray:
    """Groups [H_kv, G, …] of a room -> a row for each token, [H_kv, 16 G, D] float16 in uint16, or uint8 with
    a GGUF file's blocks in the place of D."""
    H, G, B, size = groups.shape  # in blocks
    if groups.dtype == np.uint16:
        tokens = groups.swapaxes(2, 3) if is_key else groups
        return tokens.reshape(H, TOGETHER * G, tokens.shape[3])
    scales, codes = np.split(groups.view(np.uint8), [SCALES], axis=3)
    if is_key:
        codes = codes.reshape(H, G, B, codes.shape[3] // TOGETHER, TOGETHER).swapaxes(3, 4)
    parts = scales.reshape(H, G, B, TOGETHER, 2), codes.reshape(H, G, B, TOGETHER, size // TOGETHER - 2)
    blocks = np.concatenate(parts, axis=4)  # [H, G, B, 16, bytes of a block]
    return blocks.swapaxes(2, 3).reshape(H, TOGETHER * G, B * size // TOGETHER)


def put_rows(rows: np.ndarray, groups: np.ndarray, is_key: bool) -> None:
    """The other way: so many rows as the groups have."""
    if groups.dtype == np.uint16:
        tokens = groups.swapaxes(2, 3) if is_key else groups
        tokens[:] = rows.reshape(tokens.shape)
        return
    H, G, B, size = groups.shape
    blocks = rows.reshape(H, G, TOGETHER, B, size // TOGETHER).swapaxes(2, 3)  # [H, G, B, 16, bytes]
    codes = blocks[..., 2:].swapaxes(3, 4) if is_key else blocks[..., 2:]
    groups.view(np.uint8)[..., :SCALES] = blocks[..., :2].reshape(H, G, B, SCALES)
    groups.view(np.uint8)[..., SCALES:] = codes.reshape(H, G, B, size - SCALES)


class KVCache:
    """Keys and values of a full-attention layer; room grows by half."""

    grows = True

    def __init__(self, heads: int, head_dim: int, types: tuple[str, str] = PLAIN):
        self.length = self.marked = 0
        self.heads, self.head_dim, self.types = heads, head_dim, types
        self.keys, self.values = self._new_rooms(0)

    def _new_rooms(self, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        k, v = self.types
        return (
            new_room(k, self.heads, tokens, self.head_dim, True),
            new_room(v, self.heads, tokens, self.head_dim, False),
        )

    def reserve(self, tokens: int) -> int:
        """Make room for so many more tokens; returns where they begin."""
        start, room = self.length, TOGETHER * self.keys.shape[1]
        self.length += tokens
        if self.length > room:
            before = self.keys, self.values
            self.keys, self.values = self._new_rooms(-(-max(self.length, room + room // 2, 256) // 64) * 64)
            for old, new in zip(before, (self.keys, self.values), strict=True):
                new[:, : old.shape[1]] = old
        return start

    def append(self, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise other_state("attention")

    def copy(self) -> KVCache:
        other = copy.copy(self)
        other.keys, other.values = self.keys.copy(), self.values.copy()
        return other

    def mark(self) -> None:
        self.marked = self.length

    def keep(self, tokens: int) -> None:
        self.length = self.marked + tokens

    def arrays(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Copies of keys and values from token `start` on, [H_kv, T, D] both, or blocks in the place of D."""
        first, stop = start // TOGETHER, -(-self.length // TOGETHER)
        some = slice(start - TOGETHER * first, self.length - TOGETHER * first)
        keys = rows_of(self.keys[:, first:stop], True)[:, some]
        values = rows_of(self.values[:, first:stop], False)[:, some]
        return keys.copy(), values.copy()

    def put(self, k: np.ndarray, v: np.ndarray) -> None:
        """What `arrays(0)` gave, into one that is empty."""
        self.reserve(k.shape[1])
        whole = k.shape[1] // TOGETHER
        for rows, room, is_key in (k, self.keys, True), (v, self.values, False):
            put_rows(rows[:, : TOGETHER * whole], room[:, :whole], is_key)
            rest = rows[:, TOGETHER * whole :]
            if rest.shape[1]:
                filled = np.pad(rest, ((0, 0), (0, TOGETHER - rest.shape[1]), (0, 0)))
                put_rows(filled, room[:, whole : whole + 1], is_key)

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes
