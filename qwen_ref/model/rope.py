"""Rotary position embedding: partial, with interleaved multi-axis sections (M-RoPE).

A position has three coordinates: time, row and column. Text has the same number in all three. Each of
the rotary_dim / 2 frequencies takes one coordinate: frequency i takes the row where i % 3 == 1 (up to
3 * section[1]), the column where i % 3 == 2 (up to 3 * section[2]), the time everywhere else.
"""

import functools

import numpy as np

from qwen_ref.config import Config
from qwen_ref.model.trace import tap
from qwen_ref.model.yarn import stretched


@functools.lru_cache
def frequencies(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Each frequency's coordinate (0 time, 1 row, 2 column) and its radians a position, [R/2] both."""
    _, rows, columns = config.mrope_section
    frequency = np.arange(config.rotary_dim // 2)
    axis = np.zeros(len(frequency), int)
    axis[(frequency % 3 == 1) & (frequency < 3 * rows)] = 1
    axis[(frequency % 3 == 2) & (frequency < 3 * columns)] = 2
    radians = config.rope_theta ** -(2 * frequency / config.rotary_dim)
    return axis, radians if config.yarn is None else stretched(radians, config.rope_theta, config.yarn)


def rope_tables(positions: np.ndarray, config: Config, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """positions [3, T] integers -> cos, sin [T, R/2], R = rotary_dim.

    transformers' `Qwen3_5TextRotaryEmbedding`. Angles are computed in float64 whatever the dtype: at
    position 262,143 a float32 angle would be wrong in its third decimal.
    """
    axis, _ = frequencies(config)
    cos, sin = cos_sin(np.take(positions.T, axis, axis=1), config)  # [3, T] -> [T, 3] -> [T, R/2]
    return tap("rope.cos", cos.astype(dtype)), tap("rope.sin", sin.astype(dtype))


def cos_sin(coordinate: np.ndarray, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """coordinate [T, R/2] of each token for each frequency, or [T, 1] -> cos, sin float64 [T, R/2]."""
    _, radians = frequencies(config)
    angle = tap("rope.angle", coordinate * radians)
    factor = config.yarn.attention_factor if config.yarn else 1
    return factor * np.cos(angle), factor * np.sin(angle)


def apply_rope(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """x [T, H, D], cos and sin [T, R/2] -> [T, H, D], the first R dimensions turned, the others kept.

    Dimension i turns together with dimension i + R/2 (transformers' `apply_rotary_pos_emb`).
    """
    half = cos.shape[-1]
    cos, sin = cos[:, None], sin[:, None]  # [T, R/2] -> [T, 1, R/2]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)
