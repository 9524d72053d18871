"""How kernels are compiled: by Numba when first called, kept on disk."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pickle
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
from numba.core import cgutils, sigutils, types
from numba.core.caching import FunctionCache
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher, cpu_target
from numba.core.runtime.nrt import rtsys
from numba.core.serialize import dumps
from numba.extending import intrinsic

from qwen_ref.errors import QwenRefError, tell
from qwen_ref.files import cache_folder, write_whole


def _cache_directory() -> Path | None:
    """One directory for each state of these sources. None, and a warning, where it cannot be made."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    try:
        root = cache_folder()
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
announce: Callable[[], None] | None = None  # called, once, before a kernel is compiled
_compiling: str | None = None  # the kernel for whose sake others are compiled, too


def read(path: Path | None) -> bytes | None:
    """What is kept in a file, if all of it is there."""
    try:
        data = path.read_bytes() if path else b""
    except OSError:
        return None
    return data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else None


def lock(path: Path) -> int | None:
    """Wait until no other process compiles what belongs there; closing what is returned ends the wait of the
    next. The lock is a byte of a file that all share."""
    try:
        file = os.open(path.parent / "lock", os.O_RDWR | os.O_CREAT)
    except OSError:
        return None
    with contextlib.suppress(OSError):  # a file system without locks: then both compile
        fcntl.lockf(file, fcntl.LOCK_EX, 1, int(path.name[-15:], 16))
    return file


class KernelCache(FunctionCache):
    """The machine code of a kernel, a file for each signature, named after all that it depends on.

    Numba's own keeps an index beside these files, which two processes that compile at once mix up, trusts
    what a full disk has left of them, and ends the program on a full disk.
    """

    def __init__(self, function: Callable[..., Any]):
        self._py_func, self._cache_path = function, str(CACHE_DIRECTORY)
        self._lock: int | None = None

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
        """None for one that is wanted for another's sake, too: that needs more than is kept."""
        global announce
        if _compiling not in (None, self._py_func.__qualname__):
            return None
        # What kept code calls of Numba's. What Numba compiles with it loads when it compiles: 20 MB.
        rtsys.initialize(target_context)
        path = self.path(sig, target_context.codegen())
        data = read(path)
        if data is None and announce:
            call, announce = announce, None
            call()
            data = read(path)
        if data is None and path and self._lock is None:
            self._lock = lock(path)
            data = read(path)  # another process may just have been at it
        return None if data is None else CompileResult._rebuild(target_context, *pickle.loads(data))

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def save_overload(self, sig: Any, data: Any) -> None:
        global CACHE_DIRECTORY
        if data.library.is_part:
            return
        if (path := self.path(sig, data.codegen)) and not data.library.has_dynamic_globals:
            code = dumps(data._reduce())
            try:
                with write_whole(path) as file:
                    file.write(hashlib.sha256(code).digest() + code)
            except QwenRefError as error:
                CACHE_DIRECTORY = None
                _not_kept(str(error))


@contextlib.contextmanager
def compiling(cache: KernelCache) -> Iterator[None]:
    """All else that is compiled meanwhile is a part of it."""
    global _compiling
    with global_compiler_lock:
        _compiling = cache._py_func.__qualname__
        try:
            yield
        finally:
            _compiling = None
            cache.unlock()


class Library(JITCodeLibrary):
    """The code of a function. Numba optimizes each and makes machine code of it, and then again within each
    that calls it: of a matrix's row seven times. Here this is done once, with all that is in it, for what is
    called from outside."""

    _shared_module: Any  # what LLVM made of the bitcode

    def __init__(self, codegen: Any, name: str):
        super().__init__(codegen, name)
        self.is_part = _compiling not in (None, name)
        self._bitcode = b""

    @classmethod
    def _unserialize(cls, codegen: Any, state: Any) -> Library:
        """What was kept. The module made of its bitcode is large, and seldom needed: it is made again."""
        library: Library = super()._unserialize(codegen, state)
        _, _, (_, library._bitcode) = state
        library._shared_module = None
        return library

    def _get_module_for_linking(self) -> Any:
        """For another kernel, compiled now, that calls this one."""
        if self._shared_module is None and self._bitcode:
            self._shared_module = llvmlite.binding.parse_bitcode(self._bitcode)
        return super()._get_module_for_linking()

    def _optimize_functions(self, module: Any) -> None:
        if self.is_part:
            module.data_layout = self._codegen._data_layout
        else:
            super()._optimize_functions(module)

    def _optimize_final_module(self) -> None:
        if not self.is_part:
            super()._optimize_final_module()

    def _finalize_final_module(self) -> None:
        if self.is_part:
            self._finalized = True
        else:
            super()._finalize_final_module()

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0 if self.is_part else super().get_pointer_to_function(name)

    def make_whole(self) -> None:
        self.is_part = False
        self._optimize_final_module()
        self._finalize_final_module()


class Codegen(JITCPUCodegen):
    _library_class = Library

    def set_env(self, env_name: str, env: Any) -> None:
        if self._engine.is_symbol_defined(env_name):
            super().set_env(env_name, env)


cpu_target.target_context.codegen().__class__ = Codegen


class Kernel(CPUDispatcher):
    """Python learns only of what has machine code of its own."""

    def add_overload(self, cres: Any) -> None:
        if cres.library.is_part:
            self.overloads[tuple(cres.signature.args)] = cres
        else:
            super().add_overload(cres)

    def compile(self, sig: Any) -> Any:
        with global_compiler_lock:
            if _compiling is not None:
                return super().compile(sig)
            known = self.overloads.get(tuple(sigutils.normalize_signature(sig)[0]))
            if known is not None and known.library.is_part:
                return self._make_whole(sig, known)
            with compiling(self._cache):
                return super().compile(sig)

    def _make_whole(self, sig: Any, known: Any) -> Any:
        """What was a part of others until now."""
        known.library.make_whole()
        context, description = known.target_context, known.fndesc
        entry = context.get_executable(known.library, description, known.environment)
        context.insert_user_function(entry, description, [known.library])
        self.add_overload(known._replace(entry_point=entry))
        self._cache.save_overload(sig, known._replace(entry_point=entry))
        return entry


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """@kernel(): numba.njit with what all kernels share."""

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = Kernel(function, targetoptions={"nopython": True} | OPTIONS | options)
        dispatcher._cache = KernelCache(function)
        return dispatcher

    return compiled


def address(kernel: Kernel, *arguments: Any) -> int:
    """Of its machine code for such arguments, which `call` may be given in another kernel."""
    given = tuple(map(numba.typeof, arguments))
    kernel.compile(given)
    code = kernel.overloads[given]
    return int(code.library.get_pointer_to_function(code.fndesc.llvm_func_name))


@intrinsic
def call(typing: Any, address: Any, arguments: Any) -> Any:
    """A kernel that returns nothing, by its address: it is not made a part of the one that calls it. The
    arguments, a tuple, must have the very types that the address is for."""

    def emit(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        convention, kinds = ctx.call_conv, tuple(arguments)
        function = convention.get_function_type(types.none, kinds)
        pointer = b.inttoptr(args[0], function.as_pointer())
        convention.call_function(b, pointer, types.none, kinds, cgutils.unpack_tuple(b, args[1]))
        return ctx.get_dummy_value()

    return types.void(types.intp, arguments), emit
