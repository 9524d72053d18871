"""Rotary position embedding: partial, with interleaved multi-axis sections (M-RoPE).

A position has three coordinates: time, row and column. Text has the same number in all three. Each of
the rotary_dim / 2 frequencies takes one coordinate: frequency i takes the row where i % 3 == 1 (up to
3 * section[1]), the column where i % 3 == 2 (up to 3 * section[2]), the time everywhere else.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from qwen_ref.config import Config, Yarn
from qwen_ref.model.trace import tap


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


def stretched(radians: np.ndarray, theta: float, yarn: Yarn) -> np.ndarray:
    """radians [R/2] -> [R/2]: slow frequencies divided by yarn.factor, fast ones kept, a ramp between them.

    What is fast and slow is told by the turns that a frequency makes in the trained context (transformers'
    `_compute_yarn_parameters`). llama.cpp's `ggml_rope_yarn_corr_dims` rounds the ramp's ends to the same
    whole numbers; it differs only where the start lies behind the end: a trained context of a few tokens.
    """
    R, trained = 2 * len(radians), yarn.original_max_position_embeddings

    def place(turns: float) -> float:
        """Which frequency makes so many turns; a fraction where it lies between two."""
        return R / 2 * math.log(trained / (2 * math.pi * turns), theta)

    start = max(math.floor(place(yarn.beta_fast)), 0)
    end: float = min(math.ceil(place(yarn.beta_slow)), R - 1)
    if start == end:
        end += 0.001  # a step
    slow = np.clip((np.arange(R // 2) - start) / (end - start), 0, 1)
    return radians * (1 - slow + slow / yarn.factor)


def mrope_positions(length: int, spans: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Positions [3, length] of tokens among which images stand; spans are (start, rows, columns) of each.

    Text counts on in all three coordinates. The tokens of an image share one time and have their own row and
    column, counted from there; the text after it goes on behind the longer side. A video is one span for each
    time step. transformers' `Qwen3_5Model.get_rope_index`.
    """
    positions = np.empty((3, length), int)
    at = position = 0
    for start, rows, columns in spans:
        positions[:, at:start] = np.arange(position, position + start - at)
        position += start - at
        at = start + rows * columns
        row, column = np.indices((rows, columns)).reshape(2, -1)  # [rows * columns] each
        positions[:, start:at] = position + np.stack([np.zeros_like(row), row, column])
        position += max(rows, columns)
    positions[:, at:] = np.arange(position, position + length - at)
    return positions


def rope_tables(positions: np.ndarray, config: Config, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """positions [3, T] integers -> cos, sin [T, R/2], R = rotary_dim.

    transformers' `Qwen3_5TextRotaryEmbedding`. Angles are computed in float64 whatever the dtype: at
    position 262,143 a float32 angle would be wrong in its third decimal.
    """
    axis, _ = frequencies(config)
    cos, sin = cos_sin(positions[axis].T, config)  # [3, T] -> [R/2, T] -> [T, R/2]
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
