"""How kernels are compiled: by Numba when first called, kept on disk, spread over threads by OpenMP."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba


def _cache_directory() -> str:
    """One directory for each state of these sources: Numba itself looks only at one file."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(root) / "qwen_ref" / f"kernels-{digest.hexdigest()[:12]}")


def _threading_layer() -> str:
    """OpenMP starts a parallel loop in 1 µs, Numba's own layer in 37 to 70, but it needs libgomp."""
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return "workqueue"
    return "omp"


def compiled_before() -> bool:
    """Were kernels of this version compiled on this machine? The first time takes some 20 seconds."""
    return Path(numba.config.CACHE_DIR).exists()


if "NUMBA_CACHE_DIR" not in os.environ:
    numba.config.CACHE_DIR = _cache_directory()
if "NUMBA_THREADING_LAYER" not in os.environ:
    numba.config.THREADING_LAYER = _threading_layer()


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """@kernel(): numba.njit with what all kernels share. Sums may be reordered, but NaN and infinity stay."""
    fastmath = {"contract", "reassoc", "nsz", "arcp"}
    return numba.njit(
        cache=True, nogil=True, error_model="numpy", fastmath=fastmath, boundscheck=False, **options
    )
