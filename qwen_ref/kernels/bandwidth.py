"""How fast all threads together read memory: the limit that decoding is measured against."""

from __future__ import annotations

import numpy as np
from numba import prange

from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.simd import add, load_f32x16, splat, sum_lanes

PART = 1 << 16  # numbers that one task reads


@kernel(parallel=True)
def sum_all(data):
    """data float32 [N], N a multiple of 65,536 -> its sum."""
    total = np.float32(0)
    for part in prange(data.shape[0] // PART):
        a = b = c = d = splat(np.float32(0))
        for i in range(part * PART, (part + 1) * PART, 64):
            a, b = add(a, load_f32x16(data, i)), add(b, load_f32x16(data, i + 16))
            c, d = add(c, load_f32x16(data, i + 32)), add(d, load_f32x16(data, i + 48))
        total += sum_lanes(add(add(a, b), add(c, d)))
    return total
