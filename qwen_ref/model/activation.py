"""Elementwise functions, and softmax. Any shape, any float dtype. NumPy 2 keeps it beside Python's numbers,
but not beside its own (numpy.sqrt(2) is a float64): so roots of numbers are math.sqrt's."""

import math

import numpy as np


def sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the right 0
        return 1 / (1 + np.exp(-x))


def silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x), also called swish."""
    return x * sigmoid(x)


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x)), without overflow."""
    return np.logaddexp(0, x)


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis; -inf gets weight 0."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """x * Phi(x), the normal distribution's function approximated with tanh (https://arxiv.org/abs/1606.08415)."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + np.tanh(inner))


_erf = np.frompyfunc(math.erf, 1, 1)  # NumPy has none


def gelu(x: np.ndarray) -> np.ndarray:
    """x * Phi(x), exactly."""
    phi = _erf(x.astype(np.float64) / np.sqrt(2)).astype(x.dtype)
    return 0.5 * x * (1 + phi)
