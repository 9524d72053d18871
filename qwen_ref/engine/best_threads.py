"""With how many threads decoding is fastest, and reading a prompt: found by trying, and kept.

Decoding waits for memory, which few cores may keep busy, and more are then in each other's way; a prompt has
work for all. MNN has 2 and 4 on a Raspberry Pi 5. What `warmup` finds is kept beside the kernels, in a file
that goes with them to other machines: an entry for each processor, number of cores, and model.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from gguf_io import GGUFFile
from qwen_ref.config import read_config
from qwen_ref.engine.backend import usable_threads
from qwen_ref.files import write_whole
from qwen_ref.machine import Threads
from qwen_ref.model.rope import rope_tables
from qwen_ref.model.text import TextModel

BLOCK = 64  # tokens of a prompt
ROUNDS = 3  # of which the fastest counts
FEW = 4  # answers at once: with more, a step has work for all cores, as a prompt has
CLEARLY = 0.97  # of the time that fewer threads take: more that gain less only make heat

Seconds = Mapping[int, float]  # of each number of threads


def key(file: GGUFFile) -> str:
    """What the best numbers depend on."""
    import llvmlite.binding as llvm

    size = sum(tensor.nbytes for tensor in file.tensors.values())
    of_model = f"{read_config(file).num_layers} layers of {size} bytes"
    return f"{llvm.get_host_cpu_name()}, {usable_threads()} cores, {of_model}"


def path() -> Path | None:
    """Of the file that they are kept in; None where nothing can be kept."""
    from qwen_ref.kernels import compile

    return compile.CACHE_DIRECTORY and compile.CACHE_DIRECTORY / "threads.json"


def all_kept() -> dict[str, object]:
    """A file that is broken says nothing: it is not asked for, and written anew by the next `warmup`."""
    file = path()
    try:
        found = json.loads(file.read_bytes()) if file else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def kept(file: GGUFFile) -> Threads | None:
    """What `warmup` found for this model on such a machine, or None."""
    found = all_kept().get(key(file))
    if not isinstance(found, list) or len(found) != 2:
        return None
    if not all(type(n) is int and 1 <= n <= usable_threads() for n in found):
        return None
    return Threads(*found)


def keep(file: GGUFFile, threads: Threads) -> None:
    """Raises QwenRefError if it cannot be written."""
    if (kept_in := path()) is not None:
        found = all_kept() | {key(file): list(threads)}
        with write_whole(kept_in) as opened:
            opened.write(json.dumps(found, indent=1).encode())


def find(network: TextModel) -> tuple[Threads, Seconds, Seconds] | None:
    """The best numbers, and how long a token and a block took with each; None where other programs want the
    cores, too: it would show what they leave. Needs the kernels."""
    import numba

    from qwen_ref.kernels.threads import crowded

    most, before = usable_threads(), numba.get_num_threads()
    counts = sorted({max(1, most * eighth // 8) for eighth in range(1, 9)})
    state = network.new_state()
    works = (
        lambda: network.logits(network.forward([0], state)),
        first_layers(network, BLOCK),
    )
    times = [dict.fromkeys(counts, float("inf")) for _ in works]
    try:
        for n in [most, *counts * ROUNDS]:  # in turn, so that a disturbance meets all of them
            numba.set_num_threads(n)
            for work, seconds in zip(works, times):
                started = time.perf_counter()
                work()
                seconds[n] = min(seconds[n], time.perf_counter() - started)
                if crowded():
                    return None
    finally:
        numba.set_num_threads(before)
    tokens, blocks = times
    return Threads(best(tokens), best(blocks)), tokens, blocks


def best(seconds: Seconds) -> int:
    """The fewest that are as fast as any, or nearly."""
    return next(n for n in sorted(seconds) if seconds[n] * CLEARLY <= min(seconds.values()))


def first_layers(network: TextModel, tokens: int) -> Callable[[], None]:
    """A function that reads a block of a prompt with the first layers, one of attention among them."""
    c = network.config
    rope = rope_tables(network.new_state().text_positions(tokens), c, np.float32)
    x: np.ndarray = np.zeros((tokens, c.hidden_size), np.float32)

    def read() -> None:
        layers = zip(network.weights.layers, network.new_state().layers)
        for _, (weights, state) in zip(range(c.full_attention_interval), layers):
            network.block(x, weights, state, rope)

    return read
