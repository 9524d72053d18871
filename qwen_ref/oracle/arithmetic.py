"""What is rounded where: the arithmetics that engines compute with, each run in place of the exact one.

All compute in float64 and round every tensor that has a name (qwen_ref/model/trace.py) as an engine that
stores it in that type would; float32 alone is really computed in float32. In each, RoPE's angles are float32,
which is what engines compute them in. 8-bit activations are what
llama.cpp multiplies quantized weights with: blocks of 256 inputs (of 32 where a row is not a multiple) share
one scale.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Rounding = Callable[[str, np.ndarray], np.ndarray | None]

ANGLE = "rope.angle"
# What goes into a matrix product with weights, and nowhere else.
MATRIX_INPUTS = (
    "input_layernorm",
    "self_attn.gated",
    "linear_attn.norm",
    "post_attention_layernorm",
    "mlp.gated",
    "mtp.enorm",
    "mtp.hnorm",
    # in the vision tower
    ".norm1",
    ".attn.attended",
    ".norm2",
    ".act",
    ".merger.norm",
)


def to_bfloat16(name: str, x: np.ndarray) -> np.ndarray:
    """To the nearest of 8 significant bits, ties to even."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32).astype(x.dtype)


def to_float16(name: str, x: np.ndarray) -> np.ndarray:
    most = float(np.finfo(np.float16).max)
    return np.clip(x, -most, most).astype(np.float16).astype(x.dtype)


def to_int8_inputs(name: str, x: np.ndarray) -> np.ndarray | None:
    """Only what weights are multiplied with, to 255 levels a block."""
    if not (name.endswith(MATRIX_INPUTS) or name in ("norm", "mtp.norm")):
        return None
    rows = x.reshape(len(x), -1)  # [T, ...] -> [T, C]
    blocks = rows.reshape(len(x), -1, 256 if rows.shape[1] % 256 == 0 else 32)
    scale = np.abs(blocks).max(-1, keepdims=True) / 127
    scale[scale == 0] = 1
    return (np.round(blocks / scale) * scale).reshape(x.shape)


def unrounded(name: str, x: np.ndarray) -> None:
    return None


def with_float32_angles(rounding: Rounding) -> Rounding:
    return lambda name, x: x.astype(np.float32).astype(x.dtype) if name.endswith(ANGLE) else rounding(name, x)


# name -> the dtype that is computed in, and how names are rounded
ARITHMETICS: dict[str, tuple[type, Rounding]] = {
    "bfloat16": (np.float64, with_float32_angles(to_bfloat16)),
    "float16": (np.float64, with_float32_angles(to_float16)),
    "int8": (np.float64, with_float32_angles(to_int8_inputs)),
    "float32": (np.float32, with_float32_angles(unrounded)),
}
