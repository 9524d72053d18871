"""YaRN (https://arxiv.org/abs/2309.00071): RoPE for texts longer than those of the training."""

import math

import numpy as np

from qwen_ref.config import Yarn


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
