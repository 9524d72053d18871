"""How kernels are compiled: by Numba when first called, kept on disk, spread over threads by OpenMP."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import pickle
import shutil
import sys
import threading
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import FunctionCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from qwen_ref.errors import QwenRefError, tell
from qwen_ref.files import write_whole


def _cache_directory() -> Path | None:
    """One directory for each state of these sources. None, and a warning, where it cannot be made."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qwen_ref"
        directory = root / f"kernels-{digest.hexdigest()[:12]}"
        if not directory.exists():
            directory.mkdir(parents=True)
            _keep_newest(root, 3)
    except FileExistsError:  # made by another process, at the same time
        return directory
    except OSError as error:
        _not_kept(f"{error.filename}: cannot be written: {error.strerror}")
        return None
    except RuntimeError:
        _not_kept("there is no home folder")
        return None
    return directory


def _not_kept(reason: str) -> None:
    tell(f"{reason}, so kernels are compiled at each start; XDG_CACHE_HOME names another folder for them")


def _keep_newest(root: Path, count: int) -> None:
    """Remove what other versions compiled, but for the newest: they may be in use in another environment."""
    directories = [directory for directory in root.glob("kernels-*") if directory.is_dir()]
    directories.sort(key=lambda directory: directory.stat().st_mtime, reverse=True)
    for directory in directories[count:]:
        shutil.rmtree(directory, ignore_errors=True)


def _threading_layer() -> str:
    """OpenMP starts a parallel loop in 1 µs, Numba's own layer in 37 to 70, but it needs libgomp. Between
    them is TBB, which has a wheel for x86-64.
    """
    try:
        ctypes.CDLL("libgomp.so.1")
        return "omp"
    except OSError:
        pass
    try:  # the wheel puts it where no loader looks; Numba then finds it loaded
        files = metadata.files("tbb") or []
        ctypes.CDLL(str(next(file for file in files if file.name == "libtbb.so.12").locate()))
        return "tbb"
    except (metadata.PackageNotFoundError, StopIteration, OSError):
        pass
    if sys.platform == "linux":
        tell("without libgomp.so.1 the kernels' threads start slowly: apt install libgomp1")
    return "workqueue"


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
# Without /dev/shm: it is a lock against a fork while its threads start, of which check_process tells enough.
warnings.filterwarnings("ignore", "Could not obtain multiprocessing lock")
THREADING_LAYER = os.environ.get("NUMBA_THREADING_LAYER", "").lower() or _threading_layer()
numba.config.THREADING_LAYER = THREADING_LAYER
announce: Callable[[], None] | None = None  # called, once, when a kernel is to be compiled


class KernelCache(FunctionCache):
    """The machine code of a kernel, a file for each signature, named after all that it depends on.

    Numba's own keeps an index beside these files, which two processes that compile at once mix up, trusts
    what a full disk has left of them, and ends the program on a full disk.
    """

    def __init__(self, function: Callable[..., Any]):
        self._py_func, self._cache_path = function, str(CACHE_DIRECTORY)

    def path(self, signature: Any, codegen: Any) -> Path | None:
        if CACHE_DIRECTORY is None:
            return None
        versions = numba.__version__, llvmlite.__version__, sys.implementation.cache_tag
        key = repr((versions, self._index_key(signature, codegen)))  # with the processor's features
        function = self._py_func
        name = (
            f"{function.__module__}.{function.__qualname__}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        )
        return CACHE_DIRECTORY / name

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        global announce
        target_context.refresh()
        if path := self.path(sig, target_context.codegen()):
            try:
                data = path.read_bytes()
            except OSError:
                data = b""
            if hashlib.sha256(data[32:]).digest() == data[:32]:
                return CompileResult._rebuild(target_context, *pickle.loads(data[32:]))
        if announce:
            announce()
            announce = None
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        global CACHE_DIRECTORY
        if (path := self.path(sig, data.codegen)) and not data.library.has_dynamic_globals:
            code = dumps(data._reduce())
            try:
                with write_whole(path) as file:
                    file.write(hashlib.sha256(code).digest() + code)
            except QwenRefError as error:
                CACHE_DIRECTORY = None
                _not_kept(str(error))


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """@kernel(): numba.njit with what all kernels share. Sums may be reordered, but NaN and infinity stay."""

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(
            nogil=True,
            error_model="numpy",
            fastmath={"contract", "reassoc", "nsz", "arcp"},
            boundscheck=False,
            **options,
        )(function)
        dispatcher._cache = KernelCache(function)
        return dispatcher

    return compiled
