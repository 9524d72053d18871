"""Matrix products with weights that lie quantized in the file."""

from __future__ import annotations

import numpy as np

from qwen_ref.model.weights import Matrix

SUMMED = 32


def linear(x: np.ndarray, weight: Matrix) -> np.ndarray:
    """x [T, I], weight [O, I] -> x @ weight.T [T, O], in x's dtype.

    Goes over `weight` in panels of rows, so that a quantized matrix need never exist whole in float.
    In float32 a BLAS adds I products one after another for many tokens; adding sums of SUMMED products
    instead halves the error, which is then that of a product for one token.
    """
    tokens, inputs = x.shape
    step = SUMMED if tokens > 1 and x.dtype == np.float32 else inputs
    y = np.empty((tokens, weight.shape[0]), x.dtype)
    for start, panel in weight.panels(x.dtype):
        out = y[:, start : start + len(panel)]
        np.matmul(x[:, :step], panel[:, :step].T, out=out)  # [T, step] @ [step, P] -> [T, P]
        for i in range(step, inputs, step):
            out += x[:, i : i + step] @ panel[:, i : i + step].T
    return y
