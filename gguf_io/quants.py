"""Block layouts of GGUF tensor types and how each becomes float32.

A quantized tensor is a sequence of blocks: a few scales, then small integers. Every function here takes
`blocks`, uint8 [n, bytes per block], and returns float32 [n, weights per block]. Integers are little-endian.
The formulas are those of ggml's `dequantize_row_*` (ggml/src/ggml-quants.c); results equal
`gguf.quants.dequantize` bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Blocks = np.ndarray  # uint8 [n, bytes per block]

# IQ4_NL and IQ4_XS: a nibble is an index into these 16 levels, denser around zero than a straight line.
IQ4_LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)


def _f16(blocks: Blocks, offset: int) -> np.ndarray:
    """The float16 at a byte offset of every block -> float32 [n, 1]."""
    return np.ascontiguousarray(blocks[:, offset : offset + 2]).view(np.float16).astype(np.float32)


def _nibbles(bytes_: np.ndarray) -> np.ndarray:
    """uint8 [..., b] -> uint8 [..., 2*b]: all low nibbles, then all high nibbles."""
    return np.concatenate([bytes_ & 0x0F, bytes_ >> 4], axis=-1)


def _bits(bytes_: np.ndarray) -> np.ndarray:
    """uint8 [n, b] -> uint8 [n, 8*b]: bit 0 of byte 0 first."""
    return np.unpackbits(bytes_, axis=-1, bitorder="little")


def dequantize_f32(blocks: Blocks) -> np.ndarray:
    return blocks.view(np.float32)


def dequantize_f16(blocks: Blocks) -> np.ndarray:
    return blocks.view(np.float16).astype(np.float32)


def dequantize_bf16(blocks: Blocks) -> np.ndarray:
    """bfloat16 is the upper half of a float32."""
    return (blocks.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def dequantize_q8_0(blocks: Blocks) -> np.ndarray:
    """
    | d: f16 | q: 32 x int8 |        w[i] = d * q[i]
    """
    return _f16(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def dequantize_q4_0(blocks: Blocks) -> np.ndarray:
    """
    | d: f16 | 16 bytes |            byte i: q[i] low, q[i + 16] high
                                     w[i] = d * (q[i] - 8)
    """
    q = _nibbles(blocks[:, 2:]).astype(np.int8) - np.int8(8)
    return _f16(blocks, 0) * q.astype(np.float32)


def quantize_q8_0(x: np.ndarray) -> Blocks:
    """float32 [n, 32] -> blocks uint8 [n, 34]. Rounded to even, where ggml's `quantize_row_q8_0_ref` rounds a
    half away from zero."""
    d = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    return _with_scale(d, np.rint(x * _inverse(d)).astype(np.int8).view(np.uint8))


def quantize_q4_0(x: np.ndarray) -> Blocks:
    """float32 [n, 32] -> blocks uint8 [n, 18]. The weight that is furthest from zero becomes -8, whatever its
    sign. Rounded to even, where ggml's `quantize_row_q4_0_ref` rounds a half up."""
    furthest = np.take_along_axis(x, np.abs(x).argmax(axis=1, keepdims=True), axis=1)
    d = furthest / np.float32(-8)
    q = np.minimum(np.rint(x * _inverse(d)) + 8, 15).astype(np.uint8)
    return _with_scale(d, q[:, :16] | q[:, 16:] << 4)


def _inverse(d: np.ndarray) -> np.ndarray:
    return np.divide(1, d, out=np.zeros_like(d), where=d != 0)


def _with_scale(d: np.ndarray, codes: np.ndarray) -> Blocks:
    """d float32 [n, 1], codes uint8 [n, b] -> blocks uint8 [n, 2 + b]."""
    return np.concatenate([d.astype(np.float16).view(np.uint8), codes], axis=1)


def dequantize_q4_1(blocks: Blocks) -> np.ndarray:
    """
    | d: f16 | m: f16 | 16 bytes |   byte i: q[i] low, q[i + 16] high
                                     w[i] = d * q[i] + m
    """
    return _f16(blocks, 0) * _nibbles(blocks[:, 4:]).astype(np.float32) + _f16(blocks, 2)


def dequantize_q5_0(blocks: Blocks) -> np.ndarray:
    """
    | d: f16 | 4 bytes of fifth bits | 16 bytes |    q[i] = nibble i + 16 * bit i
                                                     w[i] = d * (q[i] - 16)
    """
    q = (_nibbles(blocks[:, 6:]) | (_bits(blocks[:, 2:6]) << 4)).astype(np.int8) - np.int8(16)
    return _f16(blocks, 0) * q.astype(np.float32)


def dequantize_q5_1(blocks: Blocks) -> np.ndarray:
    """
    | d: f16 | m: f16 | 4 bytes of fifth bits | 16 bytes |    q[i] = nibble i + 16 * bit i
                                                              w[i] = d * q[i] + m
    """
    q = _nibbles(blocks[:, 8:]) | (_bits(blocks[:, 4:8]) << 4)
    return _f16(blocks, 0) * q.astype(np.float32) + _f16(blocks, 2)


def _k_scales(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 12 bytes of Q4_K and Q5_K -> eight 6-bit scales and eight 6-bit minimums, uint8 [n, 8] each.

    bytes 0-3   scale 0-3 in the low six bits; the top two are the top two of scale 4-7
    bytes 4-7   min 0-3 in the low six bits; the top two are the top two of min 4-7
    bytes 8-11  low nibble: low four bits of scale 4-7; high nibble: low four bits of min 4-7
    """
    a, b, c = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([a & 63, (c & 15) | ((a >> 2) & 48)], axis=1)
    mins = np.concatenate([b & 63, (c >> 4) | ((b >> 2) & 48)], axis=1)
    return scales, mins


def _k_affine(blocks: Blocks, q: np.ndarray) -> np.ndarray:
    """q uint8 [n, 8, 32] -> float32 [n, 256]: w = d * scale * q - dmin * min, one of each per 32 weights."""
    scales, mins = _k_scales(blocks[:, 4:16])
    d = (_f16(blocks, 0) * scales.astype(np.float32))[:, :, None]  # [n, 8, 1]
    dmin = (_f16(blocks, 2) * mins.astype(np.float32))[:, :, None]  # [n, 8, 1]
    return (d * q.astype(np.float32) - dmin).reshape(-1, 256)


def dequantize_q4_k(blocks: Blocks) -> np.ndarray:
    """
    | d: f16 | dmin: f16 | 12 bytes: 8 scales, 8 mins of 6 bits | 4 x 32 bytes |
    Run j of 32 bytes holds sub-block 2j in its low nibbles, 2j + 1 in its high ones.
    """
    return _k_affine(blocks, _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32))


def dequantize_q5_k(blocks: Blocks) -> np.ndarray:
    """
    | d: f16 | dmin: f16 | 12 bytes: 8 scales, 8 mins of 6 bits | 32 bytes of fifth bits | 4 x 32 bytes |
    Bit s of fifth-bit byte i belongs to weight i of sub-block s; nibbles as in Q4_K.
    """
    fifth = _bits(blocks[:, 16:48]).reshape(-1, 32, 8).transpose(0, 2, 1)  # [n, 32*8] -> [n, 8, 32]
    q = _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    return _k_affine(blocks, q | (fifth << 4))


def dequantize_q6_k(blocks: Blocks) -> np.ndarray:
    """
    | 2 x 64 bytes of low nibbles | 2 x 32 bytes of high pairs | 16 x int8 scale | d: f16 |
    Half h of 128 weights: weight 32*s + i has low nibble of byte 32*(s % 2) + i (high nibble for s >= 2)
    and bits 2s, 2s + 1 of high-pair byte i.    w = d * scale[per 16] * (q - 32)
    """
    low = _nibbles(blocks[:, 0:128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    pairs = blocks[:, 128:192].reshape(-1, 2, 1, 32)
    high = (pairs >> np.array([0, 2, 4, 6], np.uint8)[:, None]) & 3  # [n, 2, 1, 32] -> [n, 2, 4, 32]
    q = ((low | (high << 4)).astype(np.int8) - np.int8(32)).reshape(-1, 16, 16)
    scales = blocks[:, 192:208].view(np.int8).astype(np.float32)
    d = (_f16(blocks, 208) * scales)[:, :, None]  # [n, 16, 1]
    return (d * q.astype(np.float32)).reshape(-1, 256)


def dequantize_iq4_nl(blocks: Blocks) -> np.ndarray:
    """
    | d: f16 | 16 bytes |            nibbles as in Q4_0, w[i] = d * IQ4_LEVELS[q[i]]
    """
    return _f16(blocks, 0) * IQ4_LEVELS[_nibbles(blocks[:, 2:])].astype(np.float32)


def dequantize_iq4_xs(blocks: Blocks) -> np.ndarray:
    """
    | d: f16 | 2 bytes: top 2 bits of 8 scales | 4 bytes: low 4 bits of 8 scales | 8 x 16 bytes |
    w = d * (scale - 32) * IQ4_LEVELS[q], one scale per 32 weights, nibbles as in Q4_0 per 32 weights
    """
    top = np.ascontiguousarray(blocks[:, 2:4]).view(np.uint16) >> np.arange(
        0, 16, 2, dtype=np.uint16
    )  # [n, 8]
    low = (blocks[:, 4:8, None] >> np.array([0, 4], np.uint8)).reshape(-1, 8) & 15  # [n, 4, 2] -> [n, 8]
    scales = (low | ((top & 3).astype(np.uint8) << 4)).astype(np.int8) - np.int8(32)
    d = (_f16(blocks, 0) * scales.astype(np.float32))[:, :, None]  # [n, 8, 1]
    levels = IQ4_LEVELS[_nibbles(blocks[:, 8:].reshape(-1, 8, 16))]  # [n, 8, 32]
    return (d * levels.astype(np.float32)).reshape(-1, 256)


@dataclass(frozen=True)
class QuantType:
    """One GGUF tensor type: `block_size` weights are stored in `block_bytes` bytes."""

    id: int
    name: str
    block_size: int
    block_bytes: int
    dequantize_blocks: Callable[[Blocks], np.ndarray] | None = None

    @property
    def can_dequantize(self) -> bool:
        """Integers, ggml's scratch types (Q8_1, Q8_K) and what the gguf package cannot read either do not."""
        return self.name not in ("I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K", "Q1_0", "Q2_0")

    def row_bytes(self, columns: int) -> int:
        return columns // self.block_size * self.block_bytes

    def dequantize(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [n, row bytes] -> float32 [n, columns].

        Types without a function of their own here go through the gguf package.
        Raises NotImplementedError if not `can_dequantize`.
        """
        rows = np.ascontiguousarray(rows)
        if self.dequantize_blocks is not None:
            columns = rows.shape[1] // self.block_bytes * self.block_size
            with np.errstate(
                invalid="ignore", over="ignore"
            ):  # a NaN or infinite scale is data, not a mistake
                weights = self.dequantize_blocks(rows.reshape(-1, self.block_bytes))
            return weights.reshape(len(rows), columns)  # [n*blocks, block_size] -> [n, columns]
        import gguf  # slow to import, and needed for rare types only

        return gguf.quants.dequantize(rows, gguf.GGMLQuantizationType(self.id))


TYPES = {
    t.id: t
    for t in (
        QuantType(0, "F32", 1, 4, dequantize_f32),
        QuantType(1, "F16", 1, 2, dequantize_f16),
        QuantType(2, "Q4_0", 32, 18, dequantize_q4_0),
        QuantType(3, "Q4_1", 32, 20, dequantize_q4_1),
        QuantType(6, "Q5_0", 32, 22, dequantize_q5_0),
        QuantType(7, "Q5_1", 32, 24, dequantize_q5_1),
        QuantType(8, "Q8_0", 32, 34, dequantize_q8_0),
        QuantType(9, "Q8_1", 32, 40),
        QuantType(10, "Q2_K", 256, 84),
        QuantType(11, "Q3_K", 256, 110),
        QuantType(12, "Q4_K", 256, 144, dequantize_q4_k),
        QuantType(13, "Q5_K", 256, 176, dequantize_q5_k),
        QuantType(14, "Q6_K", 256, 210, dequantize_q6_k),
        QuantType(15, "Q8_K", 256, 292),
        QuantType(16, "IQ2_XXS", 256, 66),
        QuantType(17, "IQ2_XS", 256, 74),
        QuantType(18, "IQ3_XXS", 256, 98),
        QuantType(19, "IQ1_S", 256, 50),
        QuantType(20, "IQ4_NL", 32, 18, dequantize_iq4_nl),
        QuantType(21, "IQ3_S", 256, 110),
        QuantType(22, "IQ2_S", 256, 82),
        QuantType(23, "IQ4_XS", 256, 136, dequantize_iq4_xs),
        QuantType(24, "I8", 1, 1),
        QuantType(25, "I16", 1, 2),
        QuantType(26, "I32", 1, 4),
        QuantType(27, "I64", 1, 8),
        QuantType(28, "F64", 1, 8),
        QuantType(29, "IQ1_M", 256, 56),
        QuantType(30, "BF16", 1, 2, dequantize_bf16),
        QuantType(34, "TQ1_0", 256, 54),
        QuantType(35, "TQ2_0", 256, 66),
        QuantType(39, "MXFP4", 32, 17),
        QuantType(40, "NVFP4", 64, 36),
        QuantType(41, "Q1_0", 128, 18),
        QuantType(42, "Q2_0", 64, 18),
    )
}
