"""Normalizations. Those of the text model subtract no mean; the vision tower has the classic LayerNorm."""

import numpy as np

from qwen_ref.model.activation import silu


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """x [..., N], weight [N] -> [..., N]: x / sqrt(mean(x²) + eps) * weight.

    transformers' `Qwen3_5RMSNorm` multiplies by 1 + its weight; a GGUF file stores that sum.
    """
    mean_square = np.mean(x * x, axis=-1, keepdims=True)  # [..., N] -> [..., 1]
    return x / np.sqrt(mean_square + eps) * weight


def rms_norm_gated(x: np.ndarray, gate: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """x, gate [..., N], weight [N] -> [..., N]: rms_norm(x) * silu(gate).

    transformers' `Qwen3_5RMSNormGated`, the one norm whose weight is stored as it is (no 1 +).
    """
    return rms_norm(x, weight, eps) * silu(gate)


def l2_norm(x: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    """x [..., N] -> [..., N]: x / sqrt(sum(x²) + eps).

    The eps is inside the root, as in transformers' `l2norm` and the fla package; llama.cpp uses
    x / max(|x|, eps) and mlx-lm a mean: they differ where x is nearly zero.
    """
    return x / np.sqrt(np.sum(x * x, axis=-1, keepdims=True) + eps)


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    """x [..., N], weight and bias [N] -> [..., N]: (x - mean) / sqrt(variance + eps) * weight + bias."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)  # [..., N] -> [..., 1]
    return centred / np.sqrt(variance + eps) * weight + bias
