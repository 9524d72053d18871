"""The short causal convolution in front of DeltaNet: each channel sees its own last few inputs."""

from __future__ import annotations

import numpy as np


def causal_conv(x: np.ndarray, weight: np.ndarray, past: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [T, C], weight [k, C], past [k-1, C] -> y [T, C], the new past [k-1, C].

    y[t] = sum over j of weight[j] * input[t - (k-1) + j], where `past` comes before x. Depthwise, no bias;
    torch's `conv1d` with groups = C.
    """
    T, k = len(x), len(weight)
    window = np.concatenate([past, x])  # [k-1 + T, C]
    y = sum(window[j : j + T] * weight[j] for j in range(k))
    return y, window[T:].copy()
