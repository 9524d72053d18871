"""How far what assembly.py does is from what is measured: the same for this machine, an x86-64 processor.

    python tests/arm64/here.py --core znver4

Products of a matrix in the cache, attention and the delta rule are run on one thread: in a child that is
stopped behind each instruction (ptrace), which tells how often each was run, and by themselves, and
timed. `--core` is this processor's name in llvm-mca. A cycle is the time of one of two instructions that
wait for each other; the ratio is that of the measured time to the counted cycles'. What Python takes to
call a kernel is in it, 1 to 3 µs.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ["NUMBA_NUM_THREADS"] = "1"  # before Numba is imported

import numba
import numpy as np
from assembly import product
from cycles import Core

TRACEME, PEEKUSER, SINGLESTEP, RIP = 0, 3, 9, 128
LONGEST = 15  # bytes of an instruction
ROUNDS = 15

libc = ctypes.CDLL(None)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def steps(call: Callable[[], object]) -> Counter[int]:
    """Where the instructions lie that it runs, and how often each; only of code that was compiled here."""
    maps = (line.split() for line in Path("/proc/self/maps").read_text().splitlines())
    inside = [[int(x, 16) for x in m[0].split("-")] for m in maps if "x" in m[1] and len(m) == 5]
    if (child := os.fork()) == 0:
        libc.ptrace(TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        call()
        os._exit(0)
    found: Counter[int] = Counter()
    os.waitpid(child, 0)
    while libc.ptrace(SINGLESTEP, child, None, None) == 0 and os.WIFSTOPPED(os.waitpid(child, 0)[1]):
        found[libc.ptrace(PEEKUSER, child, RIP, None)] += 1
    return Counter({at: n for at, n in found.items() if any(start <= at < stop for start, stop in inside)})


def stretches(counts: Counter[int]) -> Counter[tuple[int, int]]:
    """Instructions that lie one behind another and were run equally often, from the first to the last."""
    found: Counter[tuple[int, int]] = Counter()
    first = last = None
    for at in sorted(counts):
        if last is None or at - last > LONGEST or counts[at] != counts[last]:
            first = at
        else:
            del found[first, last]
        found[first, at] = counts[at]
        last = at
    return found


def counted(call: Callable[[], object], core: Core) -> float:
    """Cycles. Of a stretch's last instruction, mostly a branch, the length is not known: it is left out."""
    found: Counter[bytes] = Counter()
    for (first, last), n in stretches(steps(call)).items():
        if last > first:
            found[ctypes.string_at(first, last - first)] += n
    return core.cycles(found)


def seconds(call: Callable[[], object]) -> float:
    """The least of many times, of this process alone, for one call."""
    call()
    times = []
    for _ in range(ROUNDS):
        started, n = time.process_time(), 0
        while (passed := time.process_time() - started) < 0.02:
            call()
            n += 1
        times.append(passed / n)
    return min(times)


def cycle() -> float:
    """Seconds."""

    @numba.njit
    def chain(x: int, n: int) -> int:
        for _ in range(n):
            x ^= x >> 1
        return x

    n = 1_000_000
    return seconds(lambda: chain(12345, n)) / (2 * n)


def attention(tokens: int) -> Callable[[], None]:
    """Two KV heads of 0.8B's size, the last of 256 keys."""
    from qwen_ref.kernels import attention
    from qwen_ref.kernels.cache import KVCache

    cache, q = KVCache(2, 256), np.zeros((tokens, 8 * 256), np.float32)
    cache.reserve(256)
    out = np.empty_like(q)
    return lambda: attention.attend(q, cache.keys, cache.values, 256 - tokens, out)


def delta_rule(tokens: int) -> Callable[[], None]:
    """Two heads of 128 x 128."""
    from qwen_ref.kernels import deltanet

    qkv, S = np.zeros((tokens, 6 * 128), np.float32), np.zeros((2, 4, 128, 32), np.float32)
    a, o = np.zeros((tokens, 2), np.float32), np.zeros((tokens, 256), np.float32)
    return lambda: deltanet.recurrence(qkv, a, a, a[0], a[0], 2, S, tokens, o)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--core", required=True, help="this processor, as llvm-mca calls it: znver4")
    core = Core("x86_64-unknown-linux-gnu", "+all", parser.parse_args().core, b"\xcc", "int3")
    one = cycle()
    print(f"one thread, {1e-9 / one:.2f} GHz\n\n| | tokens | counted, µs | measured, µs | ratio |")
    print("|---|---:|---:|---:|---:|")
    works = [(kind, n, product(kind, n, 512)) for kind in ("q4_k", "q6_k", "q8_0") for n in (1, 8)]
    works += [("attention", n, attention(n)) for n in (1, 8)]
    works += [("delta rule", n, delta_rule(n)) for n in (1, 4)]
    for name, tokens, call in works:
        real, found = seconds(call), counted(call, core) * one
        print(
            f"| {name} | {tokens} | {1e6 * found:.1f} | {1e6 * real:.1f} | {real / found:.2f} |", flush=True
        )


if __name__ == "__main__":
    main()
