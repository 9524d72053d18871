"""The engine as it stands, but its kernels are another processor's machine code, in an emulator that counts.

    NUMBA_CPU_NAME    cortex-a76 (a Pi 5's; if nothing is said) or cortex-a72 (a Pi 4's)

Importing this comes before anything else of this project. Numba then compiles for that processor, its own
passes and LLVM's included, and each call of a kernel goes to Unicorn, which runs the code in this process's
own memory. There is one thread; what a loop would share with others is counted apart. What the C library and
Numba's do for a kernel (memory, exp of single numbers) is done by Python, and costs nothing here.
"""

# Numba and the kernels look, when they are imported, at what is set before them.
# ruff: noqa: E402

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from cycles import Core

CPU = os.environ.setdefault("NUMBA_CPU_NAME", "cortex-a76")
# Features, and what llvm-mca is asked about: the Neoverse N1, the A76's twin for servers, since of the A76,
# as of the A72, LLVM has an A57's numbers.
FEATURES, MODEL = {
    "cortex-a76": ("+neon,+dotprod", "neoverse-n1"),
    "cortex-a72": ("+neon", "cortex-a72"),
}[CPU]
TRIPLE = "aarch64-unknown-linux-gnu"
core = Core(TRIPLE, FEATURES, MODEL, bytes.fromhex("000020d4"), "brk")
os.environ["NUMBA_CPU_FEATURES"] = FEATURES
os.environ["NUMBA_NUM_THREADS"] = "1"

import llvmlite.binding as llvm

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
llvm.get_process_triple = llvm.get_default_triple = lambda: TRIPLE

import numba
import numpy as np
import unicorn
from numba import types
from numba.np.numpy_support import as_dtype
from numba.np.ufunc import parallel
from unicorn import arm64_const

WHOLE = [getattr(arm64_const, f"UC_ARM64_REG_X{i}") for i in range(8)]
FLOAT = [getattr(arm64_const, f"UC_ARM64_REG_D{i}") for i in range(8)]
RESULT, STACK, NEXT = WHOLE[0], arm64_const.UC_ARM64_REG_SP, arm64_const.UC_ARM64_REG_PC
# Code that stands for a function: it traps and returns. A loop's comes with the address of its body, and then
# what that takes: push fp, lr; mov x16, x0; x0 to x3 = x1 to x4; trap; blr x16; trap; pop fp, lr; ret
TRAP, RETURN = "010000d4", "c0035fd6"
LOOP = f"fd7bbfa9 f00300aa e00301aa e10302aa e20303aa e30304aa {TRAP} 00023fd6 {TRAP} fd7bc1a8 {RETURN}"
LOOP_NAME, ROOM, STACK_BYTES, PAGE = "numba_parallel_for", 64, 1 << 23, 1 << 16

Span = tuple[int, int]  # where code begins, and its bytes


def word(address: int) -> int:
    return ctypes.c_int64.from_address(address).value


def put(address: int, value: int) -> None:
    ctypes.c_uint64.from_address(address).value = value & (1 << 64) - 1


_lent: list[np.ndarray] = []  # what the machine code was given, until its call is over


def new(size: int, align: int = 64) -> int:
    """The address of so many zeros."""
    _lent.append(np.zeros(size + align, np.uint8))
    address = _lent[-1].ctypes.data
    return address + -address % align


def new_array(size: int, align: int = 64, *_: int) -> int:
    """As Numba's NRT_MemInfo: a count of those who hold it, and, as its fourth word, the address."""
    info = new(64)
    put(info, 1)
    put(info + 24, new(size, 64))
    return info


def schedule(dimensions: int, starts: int, ends: int, pieces: int, into: int, _: int) -> None:
    """All of a loop as its one piece, or as many of its turns as are wanted."""
    for i in range(dimensions):
        first, turns = word(starts + 8 * i), word(ends + 8 * i) - word(starts + 8 * i) + 1
        run = min(turns, machine.turns or turns)
        put(into + 8 * i, first)
        put(into + 8 * (dimensions + i), first + run - 1)
        machine.times = turns / run if run else 1.0  # there is one dimension


def reshape(old: int, _: int, strides: int, count: int, __: int, into: int) -> int:
    """Of an array whose elements lie one after another, to one dimension."""
    put(into, word(strides + 8 * (old - 1)))
    return int(count == 1)


def nothing(*_: int) -> int:
    return 0


def one(*_: int) -> int:
    return 1


FUNCTIONS: dict[str, Callable[..., int | None]] = {
    **dict.fromkeys(["NRT_MemInfo_alloc_aligned", "NRT_MemInfo_alloc_safe_aligned"], new_array),
    **dict.fromkeys(["get_num_threads", "get_sched_size"], one),
    **dict.fromkeys(["do_scheduling_signed", "do_scheduling_unsigned"], schedule),
    **dict.fromkeys(["get_parallel_chunksize", "set_parallel_chunksize", "deallocate_sched"], nothing),
    **dict.fromkeys(["PyEval_SaveThread", "PyEval_RestoreThread"], nothing),
    **dict.fromkeys(["numba_gil_ensure", "numba_gil_release", "NRT_MemInfo_call_dtor"], nothing),
    "numba_attempt_nocopy_reshape": reshape,
    "allocate_sched": lambda count, *_: new(8 * count),
    "memset": lambda at, value, size, *_: ctypes.memset(at, value & 255, size),
    "memcpy": lambda at, source, size, *_: ctypes.memmove(at, source, size),
    "memmove": lambda at, source, size, *_: ctypes.memmove(at, source, size),
}
OF_FLOATS: dict[str, Callable[[Any], Any]] = {"exp": np.exp, "log1p": np.log1p, "erf": math.erf}
OF_FLOATS |= {f"{name}f": function for name, function in OF_FLOATS.items()}
NAMES = [*FUNCTIONS, *OF_FLOATS, LOOP_NAME, "the end"]

_stubs = mmap.mmap(-1, PAGE)
STUBS = ctypes.addressof(ctypes.c_char.from_buffer(_stubs))
STACK_AT = np.zeros(STACK_BYTES, np.uint8)


class Machine:
    """Unicorn, with this process's memory."""

    def __init__(self) -> None:
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(arm64_const.UC_CPU_ARM64_MAX)
        self.alone: Counter[Span] = Counter()  # how often a stretch of code was run
        self.shared: Counter[Span] = Counter()  # the same of what threads share
        self.now, self.mapped = self.alone, list[tuple[int, int]]()
        self.turns: int | None = None  # of a loop that are run; the others count as these do
        self.times = 1.0
        self.uc.hook_add(unicorn.UC_HOOK_MEM_UNMAPPED, self.map)
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self.trap)
        self.uc.hook_add(unicorn.UC_HOOK_BLOCK, self.count)

    def count(self, _uc: Any, address: int, size: int, _: Any) -> None:
        self.now[address, size] += 1

    def map(self, uc: Any, _access: int, address: int, *_: Any) -> bool:
        """What this process has there, at the same address."""
        for line in Path("/proc/self/maps").read_text().splitlines():
            start, stop = (int(number, 16) for number in line.split()[0].split("-"))
            if not start <= address < stop:
                continue
            ends = sorted(at for span in self.mapped for at in span if start < at < stop)
            for part in pairwise([start, *ends, stop]):  # some of it may be there
                if not any(first <= part[0] < last for first, last in self.mapped):
                    uc.mem_map_ptr(part[0], part[1] - part[0], unicorn.UC_PROT_ALL, part[0])
                    self.mapped.append(part)
            return True
        return False

    def trap(self, uc: Any, number: int, _: Any) -> None:
        at = uc.reg_read(NEXT)
        if not 0 <= at - STUBS < ROOM * len(NAMES):
            raise RuntimeError(f"{CPU}: interrupt {number} at {at:#x}: a function that has no stand-in?")
        name = NAMES[(at - STUBS) // ROOM]
        if name == LOOP_NAME:
            if self.now is self.alone:
                self.now = Counter()
            else:
                for span, times in self.now.items():
                    self.shared[span] += round(times * self.times)
                self.now = self.alone
        elif name in OF_FLOATS:
            kind = np.float32 if name.endswith("ff") or name in ("expf", "log1pf") else np.float64
            bits = np.array([uc.reg_read(FLOAT[0]) & (1 << 64) - 1], np.uint64).view(kind)[0]
            with np.errstate(all="ignore"):
                value = np.array([OF_FLOATS[name](np.float64(bits)), 0], kind).view(np.uint64)[0]
            uc.reg_write(FLOAT[0], int(value))
        else:
            uc.reg_write(RESULT, FUNCTIONS[name](*map(uc.reg_read, WHOLE[:6])) or 0)

    def call(self, code: int, whole: list[int], floats: list[int]) -> int:
        """C's convention -> what is returned, 32 bits."""
        top = (STACK_AT.ctypes.data + STACK_BYTES - PAGE) // PAGE * PAGE
        for register, value in [*zip(WHOLE, whole), *zip(FLOAT, floats)]:
            self.uc.reg_write(register, value & (1 << 64) - 1)
        end = STUBS + ROOM * NAMES.index("the end")
        self.uc.reg_write(arm64_const.UC_ARM64_REG_LR, end)
        for i, value in enumerate(whole[len(WHOLE) :]):
            put(top + 8 * i, value)
        self.uc.reg_write(STACK, top)
        self.uc.emu_start(code, end)
        return int(self.uc.reg_read(RESULT)) & 0xFFFFFFFF


def flat(kind: Any, value: Any, whole: list[int], floats: list[int]) -> None:
    """An argument as Numba passes it: to the words and floats that there are already."""
    if isinstance(kind, types.Array):
        whole += [0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides]
    elif isinstance(kind, types.Float):
        dtype = np.float32 if kind.bitwidth == 32 else np.float64
        floats.append(int(np.array([value, 0], dtype).view(np.uint64)[0]))
    elif isinstance(kind, types.Integer | types.Boolean):
        whole.append(int(value))
    else:
        raise TypeError(f"an argument of type {kind}")


def run(kernel: Any, *arguments: Any) -> np.ndarray | None:
    """In the place of Kernel.__call__."""
    given = tuple(map(numba.typeof, arguments))
    kernel.compile(given)
    code = kernel.overloads[given]
    whole, floats = [result := new(256), new(64)], list[int]()
    for kind, value in zip(given, arguments, strict=True):
        flat(kind, value, whole, floats)
    compiled, named = attrgetter("library", "fndesc")(code)  # as Numba calls them
    address = compiled.get_pointer_to_function(named.llvm_func_name)
    if status := machine.call(address, whole, floats):
        raise RuntimeError(f"{kernel.__name__}: status {status}")
    found, n = None, getattr(code.signature.return_type, "ndim", 0)
    if n:
        numbers = [word(result + 8 * i) for i in range(5 + 2 * n)]
        dtype = as_dtype(code.signature.return_type.dtype)
        shape, strides = numbers[5 : 5 + n], numbers[5 + n :]
        size = dtype.itemsize + sum((s - 1) * stride for s, stride in zip(shape, strides, strict=True))
        memory = (ctypes.c_char * size).from_address(numbers[4])
        found = np.ndarray(shape, dtype, memory, 0, strides).copy()
    _lent.clear()
    return found


def install() -> None:
    """Stand-ins for functions, and Numba's threads, and then this machine's place in the project."""
    for i, name in enumerate(NAMES):
        code = bytes.fromhex(LOOP if name == LOOP_NAME else TRAP + RETURN)
        _stubs[ROOM * i : ROOM * i + len(code)] = code
        llvm.add_symbol(name, STUBS + ROOM * i)
    add = llvm.add_symbol  # Numba adds its own of these names later
    llvm.add_symbol = lambda name, address: None if name in NAMES else add(name, address)
    parallel._is_initialized = True
    parallel._set_num_threads = nothing
    parallel._get_num_threads = one
    threads = sys.modules["qwen_ref.kernels.threads"] = ModuleType("threads")  # it would run what it compiles
    threads.crowded = lambda: False  # type: ignore[attr-defined]
    from qwen_ref.kernels import compile

    compile.CACHE_DIRECTORY = None
    compile.Kernel.__call__ = run


machine = Machine()
install()


# ---- what was counted, as cycles


def counted(call: Callable[[], object], turns: int | None = None) -> tuple[Counter[Span], Counter[Span]]:
    """The stretches of code that one thread runs alone, and those of loops that threads share.

    turns   of each such loop only the first so many are run, and the others counted as they are: all tiles of
            a matrix are the same work. What is computed is then nonsense.
    """
    machine.alone.clear()
    machine.shared.clear()
    machine.turns = turns
    with np.errstate(all="ignore"):
        call()
    machine.turns = None
    return stretches(machine.alone), stretches(machine.shared)


def stretches(blocks: Counter[Span]) -> Counter[Span]:
    """Unicorn cuts code at its own ends. Here it is cut where the number of times changes."""
    changes: Counter[int] = Counter()
    for (start, size), times in blocks.items():
        changes[start] += times
        changes[start + size] -= times
    found: Counter[Span] = Counter()
    times = 0
    for at, end in pairwise(sorted(at for at in changes if changes[at])):
        times += changes[at]
        if times:
            found[at, end - at] = times
    return found


def code(span: Span) -> bytes:
    return ctypes.string_at(*span)


def cycles(counts: Mapping[Span, int]) -> float:
    found: Counter[bytes] = Counter()
    for span, times in counts.items():
        found[code(span)] += times
    return core.cycles(found)
