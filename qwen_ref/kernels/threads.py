"""The threads that share the iterations of a kernel's `prange` loops, in the place of Numba's own.

OpenMP, which Numba would use, gives each thread its share of a loop at the start and waits for them all. On a
core that another program keeps busy a thread comes late by milliseconds, in each of the two hundred loops of
a token. Here a loop is cut into pieces, a thread that has finished one takes the next, and nobody waits for
a thread that has taken none. What is left is the wait for a thread that loses its core within a piece.

A thread without work looks out for some before it sleeps: waking it takes 50 µs, as long as a loop. Where
other programs wait for the cores, looking out uses up this process's share of them, so it is kept short
there, and loops of microseconds, as a small model has, are not shared at all. How often the system takes a
core away from this process tells which of the two it is. A thread that no loop wants, because fewer are asked
for (decoding may be fastest so: engine/best_threads.py), sleeps until more are.

Threads are the C library's, and what they run is compiled as kernels are, so nothing else need be installed.
Numba calls all this by the names that its own threading layers have (numba/np/ufunc/parallel.py).
"""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import resource
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.ccallback import CFunc
from numba.core.typing.templates import Signature
from numba.extending import intrinsic
from numba.np.ufunc import parallel, workqueue

from qwen_ref.kernels.compile import OPTIONS, KernelCache, compiling, kernel

# On a quiet machine and on a crowded one, where other programs want the cores:
PIECES = 2, 8  # of a loop for each thread: more of them share it better, but each costs 0.1 µs
LOOK_OUT = 1_000_000, 10_000  # ns that a thread looks out for work before it sleeps
CHECKED = 20_000_000  # ns between two looks at how often cores were taken away
TAKEN_AWAY = 300  # times in a second make a crowd: alone it is 30 to 60 times, beside a busy program over 600
CROWDED_FOR = 1_000_000_000  # ns after the last such look
WORTH_SHARING = 5_000  # ns for a piece, in a crowd: to wake a thread takes as long
SHORT = 20_000  # ns from one loop to the next, on average: in a crowd one thread does such loops alone
ALL, MOST_THREADS = 1 << 62, 256

# The memory that the threads share, in bytes from its beginning. What several of them write has a cache line.
LINE = 64
JOBS, OPEN, INSIDE, ASLEEP, AWAITED, IN_USE, STARTED, ENDING = (LINE * i for i in range(8))
FUNCTION, ARGUMENTS, SIZES, STEPS, DATA, INNER, ARRAYS, SHARERS = (LINE * 8 + 8 * i for i in range(8))
CROWDED, CHECK_TIME, CHECK_COUNT, CROWD_TIME, LOOPS, ALONE = (LINE * 9 + 8 * i for i in range(6))
ID_KEY, NUMBER_KEY, MOST, WORKER = (LINE * 11 + 8 * i for i in range(4))
MUTEX, WORK_CAME, WORK_ENDED, USAGE, MORE_WANTED = (LINE * i for i in (12, 14, 16, 18, 22))
PREEMPTED = USAGE + 136  # ru_nivcsw in struct rusage, on 64-bit systems
THREAD = LINE * 24  # a line for each thread:
NEXT, END, HANDLE, SECONDS, NANOSECONDS = (8 * i for i in range(5))  # of its pieces; its pthread_t; a clock
MEMORY = THREAD + LINE * MOST_THREADS

WORD = ir.IntType(64)
Word = types.intp


# ---- words of memory, by address


@intrinsic
def shared(typingctx):
    """Where the shared memory begins."""

    def emit(ctx, b, sig, args):
        name = "qwen_ref_threads"
        return b.ptrtoint(b.module.globals.get(name) or ir.GlobalVariable(b.module, WORD, name), WORD)

    return Word(), emit


def pointer(b: Any, address: Any) -> Any:
    return b.inttoptr(address, WORD.as_pointer())


@intrinsic
def load(typingctx, address):
    def emit(ctx, b, sig, args):
        return b.load_atomic(pointer(b, args[0]), "seq_cst", 8)

    return Word(Word), emit


@intrinsic
def store(typingctx, address, value):
    def emit(ctx, b, sig, args):
        b.store_atomic(args[1], pointer(b, args[0]), "seq_cst", 8)
        return ctx.get_dummy_value()

    return types.void(Word, Word), emit


@intrinsic
def add(typingctx, address, value):
    """Add, in one step; returns what was there before."""

    def emit(ctx, b, sig, args):
        return b.atomic_rmw("add", pointer(b, args[0]), args[1], "seq_cst")

    return Word(Word, Word), emit


@intrinsic
def call(typingctx, function, arguments, sizes, steps, data):
    """What Numba made of the body of a loop."""

    def emit(ctx, b, sig, args):
        words = [pointer(b, a) for a in args[1:]]
        function_type = ir.FunctionType(ir.VoidType(), [word.type for word in words])
        b.call(b.inttoptr(args[0], function_type.as_pointer()), words)
        return ctx.get_dummy_value()

    return types.void(Word, Word, Word, Word, Word), emit


@intrinsic
def pause(typingctx):
    """10 to 50 ns in which the processor rests."""

    def emit(ctx, b, sig, args):
        name, values = {
            "x86_64": ("llvm.x86.sse2.pause", []),
            "aarch64": ("llvm.aarch64.isb", [ir.Constant(ir.IntType(32), 15)]),
        }.get(platform.machine().replace("arm64", "aarch64"), ("llvm.donothing", []))
        function_type = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        b.call(cgutils.get_or_insert_function(b.module, function_type, name), values)
        return ctx.get_dummy_value()

    return types.void(), emit


def of_c(name: str, *arguments: Any, result: Any = types.int32) -> Any:
    return types.ExternalFunction(name, result(*arguments))


lock, unlock = of_c("pthread_mutex_lock", Word), of_c("pthread_mutex_unlock", Word)
sleep, wake = of_c("pthread_cond_wait", Word, Word), of_c("pthread_cond_broadcast", Word)
create_thread = of_c("pthread_create", Word, Word, Word, Word)
set_own, own = of_c("pthread_setspecific", Word, Word), of_c("pthread_getspecific", Word, result=Word)
clock_gettime, getrusage = of_c("clock_gettime", types.int32, Word), of_c("getrusage", types.int32, Word)
CLOCK, ALL_THREADS = np.int32(time.CLOCK_MONOTONIC), np.int32(resource.RUSAGE_SELF)


@kernel()
def now(thread):
    """ns; `thread` is the line of the one that asks."""
    clock_gettime(CLOCK, thread + SECONDS)
    return load(thread + SECONDS) * 1_000_000_000 + load(thread + NANOSECONDS)


# ---- work


@kernel()
def run_pieces(me, most, sharers, function, arguments, sizes, steps, data, inner, arrays):
    """At most so many pieces: of one's own share, then of what others left. Without sharers: of all."""
    p = shared()
    room = np.empty(arrays + 1 + inner, np.intp)  # for the arguments of one piece, and its sizes
    room[arrays] = 1
    for i in range(1, inner + 1):
        room[arrays + i] = load(sizes + 8 * i)
    for k in range(max(sharers, 1)):
        share = p + THREAD + LINE * ((me + k) % max(sharers, 1))
        piece, end = -1, load(share + END) if sharers else load(sizes)
        while most:
            piece = add(share + NEXT, 1) if sharers else piece + 1
            if piece >= end:
                break
            most -= 1
            for i in range(arrays):
                room[i] = load(arguments + 8 * i) + piece * load(steps + 8 * i)
            call(function, room.ctypes.data, room[arrays:].ctypes.data, steps, data)
    room[0] = 0  # Numba frees an array after its last use by name, which is to be here


@kernel()
def wake_up(condition):
    """All that sleep until then."""
    p = shared()
    lock(p + MUTEX)
    wake(condition)
    unlock(p + MUTEX)


@kernel()
def share_in(me, most):
    p = shared()
    whose, function, arguments = load(p + SHARERS), load(p + FUNCTION), load(p + ARGUMENTS)
    sizes, steps, data = load(p + SIZES), load(p + STEPS), load(p + DATA)
    run_pieces(me, most, whose, function, arguments, sizes, steps, data, load(p + INNER), load(p + ARRAYS))


@kernel()
def changes_within(nanoseconds, me, address, value):
    """Does the value at `address` become another before so much time has passed?"""
    thread = shared() + THREAD + LINE * me
    end = now(thread) + nanoseconds
    while now(thread) < end:
        for _ in range(8):
            if load(address) != value:
                return True
            pause()
    return load(address) != value


def work(me):
    """What each thread does but the one that calls: the body of thread number `me`."""
    p = shared()
    set_own(load(p + ID_KEY), me)
    jobs = 0
    while not load(p + ENDING):
        if me >= load(p + SHARERS):
            lock(p + MUTEX)
            while me >= load(p + SHARERS) and not load(p + ENDING):
                sleep(p + MORE_WANTED, p + MUTEX)
            unlock(p + MUTEX)
        elif not changes_within(LOOK_OUT[load(p + CROWDED)], me, p + JOBS, jobs):
            lock(p + MUTEX)
            add(p + ASLEEP, 1)
            while load(p + JOBS) == jobs:
                sleep(p + WORK_CAME, p + MUTEX)
            add(p + ASLEEP, -1)
            unlock(p + MUTEX)
        jobs = load(p + JOBS)
        # Whoever comes late finds the job closed; its caller waits for those alone that are inside.
        add(p + INSIDE, 1)
        if load(p + OPEN) and me < load(p + SHARERS):
            share_in(me, ALL)
        if add(p + INSIDE, -1) == 1 and load(p + AWAITED):
            wake_up(p + WORK_ENDED)
    return 0


@kernel()
def check_machine():
    """Do other programs want the cores, or did they a moment ago?"""
    p = shared()
    loops = load(p + LOOPS) + 1
    store(p + LOOPS, loops)
    moment = now(p + THREAD)
    passed = moment - load(p + CHECK_TIME)
    if passed < CHECKED:
        return
    getrusage(ALL_THREADS, p + USAGE)
    count = load(p + PREEMPTED)
    if (count - load(p + CHECK_COUNT)) * 1_000_000_000 > TAKEN_AWAY * passed:
        store(p + CROWDED, 1)
        store(p + CROWD_TIME, moment)
    elif moment - load(p + CROWD_TIME) > CROWDED_FOR:
        store(p + CROWDED, 0)
    store(p + ALONE, load(p + CROWDED) and passed < SHORT * loops)
    store(p + CHECK_TIME, moment)
    store(p + CHECK_COUNT, count)
    store(p + LOOPS, 0)


@kernel()
def start_threads(number):
    """As many as there can be, the caller's own counted. Returns how many there are."""
    p = shared()
    number = min(number, MOST_THREADS)
    started = load(p + STARTED)
    while started + 1 < number and not load(p + ENDING):
        me = started + 1
        if create_thread(p + THREAD + LINE * me + HANDLE, 0, load(p + WORKER), me):
            break  # a limit of the system's
        started = add(p + STARTED, 1) + 1
    return min(started + 1, number)


def parallel_for(function, arguments, sizes, steps, data, inner, arrays, number):
    """One loop: `sizes[0]` pieces, for so many threads. A second caller at the same time works alone."""
    p = shared()
    pieces = load(sizes)
    alone = number <= 1
    if not alone:
        alone = add(p + IN_USE, 1) > 0
        if not alone:
            check_machine()
        if alone or pieces <= 1:
            add(p + IN_USE, -1)
            alone = True
    if alone:
        run_pieces(0, ALL, 0, function, arguments, sizes, steps, data, inner, arrays)
        return
    number = start_threads(number)
    store(p + FUNCTION, function)
    store(p + ARGUMENTS, arguments)
    store(p + SIZES, sizes)
    store(p + STEPS, steps)
    store(p + DATA, data)
    store(p + INNER, inner)
    store(p + ARRAYS, arrays)
    more_wanted = number > load(p + SHARERS)
    store(p + SHARERS, number)
    if more_wanted:
        wake_up(p + MORE_WANTED)
    for i in range(number):
        store(p + THREAD + LINE * i + NEXT, pieces * i // number)
        store(p + THREAD + LINE * i + END, pieces * (i + 1) // number)
    worth_sharing = True
    if load(p + CROWDED):
        begun = now(p + THREAD)
        share_in(0, 1)
        worth_sharing = now(p + THREAD) - begun > WORTH_SHARING
    if worth_sharing:
        store(p + OPEN, 1)
        add(p + JOBS, 1)
        if load(p + ASLEEP):
            wake_up(p + WORK_CAME)
    share_in(0, ALL)
    store(p + OPEN, 0)
    inside = load(p + INSIDE)
    while inside:
        if not changes_within(LOOK_OUT[0], 0, p + INSIDE, inside):
            lock(p + MUTEX)
            store(p + AWAITED, 1)
            while load(p + INSIDE):
                sleep(p + WORK_ENDED, p + MUTEX)
            store(p + AWAITED, 0)
            unlock(p + MUTEX)
        inside = load(p + INSIDE)
    add(p + IN_USE, -1)


def get_sched_size(number, dimensions, starts, ends):
    """Into how many pieces a loop over starts[i] to ends[i] is cut, as gufunc_scheduler.cpp is told."""
    iterations = 1
    for i in range(dimensions):
        iterations *= load(ends + 8 * i) - load(starts + 8 * i) + 1
    if number <= 1 or load(shared() + ALONE):
        return 1
    return max(1, min(iterations, number * PIECES[load(shared() + CROWDED)]))


def get_thread_id():
    return own(load(shared() + ID_KEY))


def get_num_threads():
    return own(load(shared() + NUMBER_KEY)) or load(shared() + MOST)


def set_num_threads(number):
    """For the loops that the calling thread begins."""
    set_own(load(shared() + NUMBER_KEY), number)


# ---- from Python


def crowded() -> bool:
    """Did other programs want the cores a moment ago?"""
    return bool(_words[CROWDED // 8])


def compiled(function: Callable[..., Any], signature: Signature) -> int:
    """The address of a C function, which is kept on disk as kernels are."""
    c_function = CFunc(function, (signature.args, signature.return_type), {}, OPTIONS)
    c_function._cache = cache = KernelCache(function)
    with compiling(cache):
        c_function.compile()
    _compiled.append(c_function)
    return c_function.address


_compiled: list[CFunc] = []
_libc = ctypes.CDLL(None)
_libc.calloc.restype = ctypes.c_void_p
# Never freed: threads may outlive what Python frees at its end.
_memory = -(-_libc.calloc(1, MEMORY + LINE) // LINE) * LINE
_words = (ctypes.c_int64 * (MEMORY // 8)).from_address(_memory)


def reset() -> None:
    """As before the first thread is started; in a forked process, too, which has none of its parent's."""
    kept = [(at, _words[at // 8]) for at in (ID_KEY, NUMBER_KEY, WORKER)]
    ctypes.memset(_memory, 0, MEMORY)
    _libc.pthread_mutex_init(ctypes.c_void_p(_memory + MUTEX), None)
    for condition in WORK_CAME, WORK_ENDED, MORE_WANTED:
        _libc.pthread_cond_init(ctypes.c_void_p(_memory + condition), None)
    for at, value in (*kept, (MOST, numba.config.NUMBA_NUM_THREADS)):
        _words[at // 8] = value


def end() -> None:
    """Before Python frees the code that threads run."""
    _words[ENDING // 8] = 1
    _libc.pthread_mutex_lock(ctypes.c_void_p(_memory + MUTEX))
    _words[JOBS // 8] += 1
    for condition in WORK_CAME, MORE_WANTED:
        _libc.pthread_cond_broadcast(ctypes.c_void_p(_memory + condition))
    _libc.pthread_mutex_unlock(ctypes.c_void_p(_memory + MUTEX))
    for me in range(1, _words[STARTED // 8] + 1):
        handle = ctypes.c_void_p(_words[(THREAD + LINE * me + HANDLE) // 8])
        _libc.pthread_join(handle, None)


def install() -> None:
    llvm.add_symbol("qwen_ref_threads", _memory)
    for key in ID_KEY, NUMBER_KEY:
        _libc.pthread_key_create(ctypes.c_void_p(_memory + key), None)
    _words[WORKER // 8] = compiled(work, Word(Word))
    reset()
    layer = SimpleNamespace(
        set_parallel_chunksize=workqueue.set_parallel_chunksize,
        get_parallel_chunksize=workqueue.get_parallel_chunksize,
        get_sched_size=compiled(get_sched_size, Word(Word, Word, Word, Word)),
        get_thread_id=compiled(get_thread_id, Word()),
        get_num_threads=compiled(get_num_threads, Word()),
        set_num_threads=compiled(set_num_threads, types.void(types.int32)),
    )
    llvm.add_symbol("numba_parallel_for", compiled(parallel_for, types.void(*[Word] * 8)))
    for name in "do_scheduling_signed", "do_scheduling_unsigned", "allocate_sched", "deallocate_sched":
        llvm.add_symbol(name, getattr(workqueue, name))
    parallel._load_threading_functions(layer)
    parallel._is_initialized, parallel._threading_layer = True, "qwen_ref"
    os.register_at_fork(after_in_child=reset)
    atexit.register(end)


install()
