"""How kernels are compiled: by Numba when first called, kept on disk."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import sys
import warnings
from collections.abc import Callable
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


CACHE_DIRECTORY = _cache_directory()
# Numba takes a lock while its threading layer starts, which is not one of its own here (threads.py).
warnings.filterwarnings("ignore", "Could not obtain multiprocessing lock")
# Sums may be reordered, but NaN and infinity stay.
OPTIONS: dict[str, Any] = dict(
    nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"}, boundscheck=False
)
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
    """@kernel(): numba.njit with what all kernels share."""

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**OPTIONS, **options)(function)
        dispatcher._cache = KernelCache(function)
        return dispatcher

    return compiled
