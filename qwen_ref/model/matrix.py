"""A weight matrix as it lies in the file, and `linear(x, w.q_proj)`, which is all that a layer says of it.

How it becomes floats: in panels of rows, when it is needed, so that a quantized one need never exist whole in
float. What has become float is kept as long as `memory_budget` bytes allow, so a small model is converted
once and a large one each time. Nothing is multiplied in its quantized form, and no activation is rounded.

In which order is added: in float32 a BLAS adds I products one after another for many tokens. Adding sums of
SUMMED products instead halves the error, which is then that of a product for one token.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from gguf_io import Tensor

SUMMED = 32
PANEL_BYTES = 1 << 24  # of a matrix that is converted but not kept


class Budget:
    """Bytes that may still be spent on keeping matrices as floats."""

    def __init__(self, left: int):
        self.left = left

    def take(self, nbytes: int) -> bool:
        if nbytes > self.left:
            return False
        self.left -= nbytes
        return True


class Matrix:
    """A weight matrix [O, I] of the file: its tensor times `scale`."""

    def __init__(self, tensor: Tensor, budget: Budget, scale: float = 1.0):
        self.tensor, self.shape, self.scale = tensor, tensor.shape, scale
        self.budget = budget
        self._kept: np.ndarray | None = None

    @cached_property
    def data(self) -> np.ndarray:
        """uint8 [O, row bytes], quantized, as it lies in a GGUF file; of a checkpoint it may be a copy."""
        return self.tensor.data

    def _floats(self, start: int, stop: int, dtype: np.dtype) -> np.ndarray:
        panel = self.tensor.dequantize(start, stop).astype(dtype, copy=False)
        return panel if self.scale == 1 else panel * self.scale

    def rows(self, index: np.ndarray, dtype: type) -> np.ndarray:
        """Rows by number (an embedding look-up): [T] -> [T, I]."""
        return self.tensor.type.dequantize(self.data[index]).astype(dtype)

    def panels(self, dtype: np.dtype) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, float panel [P, I]) over all rows; in one piece if the budget lets it be kept."""
        out, columns = self.shape
        row_bytes = columns * dtype.itemsize
        if self._kept is None or self._kept.dtype != dtype:
            step = max(1, PANEL_BYTES // row_bytes)
            if not self.budget.take(out * row_bytes):
                for start in range(0, out, step):
                    yield start, self._floats(start, start + step, dtype)
                return
            kept = np.empty(self.shape, dtype)
            for start in range(0, out, step):
                kept[start : start + step] = self._floats(start, start + step, dtype)
            self._kept = kept
        yield 0, self._kept


def linear(x: np.ndarray, weight: Matrix) -> np.ndarray:
    """x [T, I], weight [O, I] -> x @ weight.T [T, O], in x's dtype."""
    tokens, inputs = x.shape
    step = SUMMED if tokens > 1 and x.dtype == np.float32 else inputs
    y = np.empty((tokens, weight.shape[0]), x.dtype)
    for start, panel in weight.panels(x.dtype):
        out = y[:, start : start + len(panel)]
        np.matmul(x[:, :step], panel[:, :step].T, out=out)  # [T, step] @ [step, P] -> [T, P]
        for i in range(step, inputs, step):
            out += x[:, i : i + step] @ panel[:, i : i + step].T
    return y
