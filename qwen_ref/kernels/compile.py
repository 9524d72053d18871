"""How kernels are compiled: by Numba when first called, kept on disk, spread over threads by OpenMP."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from qwen_ref.errors import QwenRefError


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


def thread_safe(function: Callable[..., Any]) -> Callable[..., Any]:
    """Numba's own layer ends the process when two threads enter it: where it may be, they take turns."""
    if THREADING_LAYER in ("omp", "tbb", "safe", "threadsafe"):
        return function

    @functools.wraps(function)
    def in_turn(*args: Any) -> Any:
        with _turn:
            return function(*args)

    return in_turn


def check_process() -> None:
    """To be called before kernels run, and before Numba's number of threads is set: both start OpenMP. Raises
    QwenRefError in a process forked from one where it was started: without its threads, OpenMP would end it.
    """
    global _runs_in
    if THREADING_LAYER == "omp" and _runs_in not in (None, os.getpid()):
        raise QwenRefError(
            "fork: this process was forked from one that had run kernels; start it with multiprocessing's "
            "'spawn' or 'forkserver'"
        )
    _runs_in = os.getpid()


_turn = threading.Lock()
_runs_in: int | None = None  # the process that has OpenMP's threads
CACHE_DIRECTORY = _cache_directory()
if CACHE_DIRECTORY is not None:
    numba.config.CACHE_DIR = str(CACHE_DIRECTORY)
THREADING_LAYER = os.environ.get("NUMBA_THREADING_LAYER", "").lower() or _threading_layer()
numba.config.THREADING_LAYER = THREADING_LAYER


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
