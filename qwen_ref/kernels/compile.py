"""How kernels are compiled: by Numba when first called, kept on disk, spread over threads by OpenMP."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba


def _cache_directory() -> Path | None:
    """One directory for each state of these sources: Numba looks only at one file. None: not writable."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qwen_ref"
        root.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    if not os.access(root, os.W_OK):
        return None
    directory = root / f"kernels-{digest.hexdigest()[:12]}"
    if not directory.exists():
        _keep_newest(root, 2)
    return directory


def _keep_newest(root: Path, count: int) -> None:
    """Remove what other versions compiled, but for the newest: they may be in use in another environment."""
    directories = [directory for directory in root.glob("kernels-*") if directory.is_dir()]
    directories.sort(key=lambda directory: directory.stat().st_mtime, reverse=True)
    for directory in directories[count:]:
        shutil.rmtree(directory, ignore_errors=True)


def _threading_layer() -> str:
    """OpenMP starts a parallel loop in 1 µs, Numba's own layer in 37 to 70, but it needs libgomp."""
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return "workqueue"
    return "omp"


CACHE_DIRECTORY = _cache_directory()
if CACHE_DIRECTORY is not None:
    numba.config.CACHE_DIR = str(CACHE_DIRECTORY)
if "NUMBA_THREADING_LAYER" not in os.environ:
    numba.config.THREADING_LAYER = _threading_layer()


def compiled_before() -> bool:
    """Were kernels of this version compiled on this machine? The first time takes some 20 seconds."""
    return CACHE_DIRECTORY is not None and CACHE_DIRECTORY.exists()


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """@kernel(): numba.njit with what all kernels share. Sums may be reordered, but NaN and infinity stay."""
    fastmath = {"contract", "reassoc", "nsz", "arcp"}
    return numba.njit(
        cache=CACHE_DIRECTORY is not None,
        nogil=True,
        error_model="numpy",
        fastmath=fastmath,
        boundscheck=False,
        **options,
    )
