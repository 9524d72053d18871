"""Keys and values in 8 or 4 bits, in blocks of 32 as in a GGUF file (`q8_0`, `q4_0`).

A head's vector has a few large dimensions, which would leave all others of their block to the same coarse
steps. So it is turned first, by a Hadamard matrix H: each dimension then has a share of all. H is orthogonal,
and of ±1 / sqrt(D), so that no score changes but by the rounding:

    (H q) . (H k) = q . k        sum of p (H v) = H (sum of p v)

(QuaRot, https://arxiv.org/abs/2404.00456; llama.cpp does it, too.) Here keys and values are turned back when
they are read; kernels turn queries and outputs instead, of which there are fewer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gguf_io import quants
from qwen_ref.errors import QwenRefError, tell

BLOCK = 32
BYTES = {"q8_0": 34, "q4_0": 18}  # of a block
TYPES = ("f16", *BYTES)  # f16: what the kernels keep; NumPy keeps what it computes in
PLAIN = ("f16", "f16")  # of keys and of values
COST = (  # what is told where it is chosen; tests/benchmarks/RESULTS.md
    "cache type q4_0: in 2 to 4 of 100 places another token becomes the likeliest (the small model's; with "
    "q8_0 in 1 of 700), for half of q8_0's memory"
)


def chosen_types(k: str | None, v: str | None) -> tuple[str, str] | None:
    """Of keys and values, where one at least was given; the other is float16."""
    return None if k is None and v is None else (k or "f16", v or "f16")


def check_types(types: tuple[str, str], head_dim: int, path: Path) -> None:
    """Raises QwenRefError if blocks do not divide the heads of the model in the file; warns of 4 bits."""
    for name, kind in zip("kv", types, strict=True):
        if kind != "f16" and head_dim % BLOCK:
            raise QwenRefError(
                f"{path}: cache_type_{name}: {kind} has blocks of {BLOCK}, which do not divide the "
                f"{head_dim} dimensions of this model's heads; take f16"
            )
    if "q4_0" in types:
        tell(COST)


def rotate(x: np.ndarray) -> np.ndarray:
    """x [..., D] -> [..., D]: times a normalized Hadamard matrix, which is its own inverse. A D that is no
    power of two has blocks of the largest that divides it."""
    size = x.shape[-1] & -x.shape[-1]
    for half in (1 << n for n in range(size.bit_length() - 1)):
        pairs = x.reshape(*x.shape[:-1], -1, 2, half)  # [..., D/2h, 2, h]
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack([a + b, a - b], axis=-2).reshape(x.shape)
    return x * x.dtype.type(1 / np.sqrt(size))


def packed(x: np.ndarray, kind: str) -> np.ndarray:
    """x [..., D] -> uint8 [..., D / 32 * bytes of a block], rotated."""
    quantize = quants.quantize_q8_0 if kind == "q8_0" else quants.quantize_q4_0
    blocks = quantize(rotate(x).astype(np.float32, copy=False).reshape(-1, BLOCK))
    return blocks.reshape(*x.shape[:-1], -1)


def unpacked(rows: np.ndarray, kind: str, dtype: type) -> np.ndarray:
    """What `packed` made of x [..., D], about x."""
    dequantize = quants.dequantize_q8_0 if kind == "q8_0" else quants.dequantize_q4_0
    x = dequantize(rows.reshape(-1, BYTES[kind])).reshape(*rows.shape[:-1], -1)
    return rotate(x.astype(dtype, copy=False))


def row_bytes(kind: str, head_dim: int) -> int:
    """Of one head's key or value, as the kernels keep it."""
    return 2 * head_dim if kind == "f16" else head_dim // BLOCK * BYTES[kind]
