"""What computes: kernels or NumPy, and on how many threads."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np

from qwen_ref.config import Config
from qwen_ref.errors import QwenRefError
from qwen_ref.machine import cores, default_threads
from qwen_ref.model.layers import NUMPY, Layers

BACKENDS = ("numba", "numpy")


def is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= least)


def most_threads() -> int:
    try:
        import numba
    except ImportError:
        return cores()
    return numba.config.NUMBA_NUM_THREADS


def usable_threads() -> int:
    """As many as a model has that nobody told how many."""
    return min(default_threads(), most_threads())


def check_threads(threads: int) -> None:
    """Raises QwenRefError where there are not so many cores."""
    most = most_threads()
    if not is_count(threads) or threads > most:
        raise QwenRefError(
            f"threads: {threads!r:.80} is not a whole number in 1 to {most}, as many as there are cores"
        )


def use_threads(threads: int) -> None:
    """So many for NumPy's products (the vision tower); the kernels' are set where they are called."""
    from threadpoolctl import threadpool_limits

    check_threads(threads)
    threadpool_limits(threads, user_api="blas")


def choose_layers(config: Config, backend: str | None, dtype: type) -> Layers:
    """The one place where kernels or NumPy are chosen. None: kernels, if Numba is here and they fit."""
    if not isinstance(backend, str | None) or backend not in (None, *BACKENDS):
        raise QwenRefError(f"backend: {reprlib.repr(backend)} is not one of {', '.join(BACKENDS)}")
    if backend == "numpy" or (backend is None and dtype != np.float32):
        return NUMPY
    if dtype != np.float32:
        raise QwenRefError(f"backend: numba computes in float32 only, not in {dtype.__name__}")
    try:
        import numba  # noqa: F401
    except ImportError:
        if backend == "numba":
            raise QwenRefError("backend: numba is not installed; `pip install numba`, or use numpy") from None
        return NUMPY
    from qwen_ref import kernels

    if kernels.supports(config):
        return kernels.KERNELS
    if backend == "numba":
        raise QwenRefError("backend: numba: the kernels do not fit this model's sizes; use numpy")
    return NUMPY
