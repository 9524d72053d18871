"""The short causal convolution in front of DeltaNet: each channel sees its own last few inputs."""

import numpy as np


def causal_conv(x: np.ndarray, weight: np.ndarray, past: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [T, channels], weight [kernel, channels], past [kernel-1, channels] -> y like x, the new past.

    y[t] = sum over j of weight[j] * input[t - (kernel-1) + j], where `past` comes before x. Depthwise, no
    bias; torch's `conv1d` with groups = channels.
    """
    T, kernel = len(x), len(weight)
    window = np.concatenate([past, x])  # [kernel-1 + T, channels]
    y = sum(window[j : j + T] * weight[j] for j in range(kernel))
    return y, window[T:].copy()
