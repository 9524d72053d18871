"""Before the first token: the kernels that a file needs are loaded or, the first time, compiled.

Which those are shows when they are used: by a little work of each kind, on the file's own weights. The first
kernel that is not there yet lets several processes at once do such work, each a share of it; what all of them
need is compiled by one while the others wait (compile.lock). This process then finds all of it, and compiles
what is missing because one of them has failed.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from subprocess import DEVNULL, PIPE
from typing import Any

import numpy as np

from qwen_ref import children
from qwen_ref.kernels import compile, layers
from qwen_ref.machine import available_memory, cores
from qwen_ref.model.rope import rope_tables
from qwen_ref.model.text import TextModel
from qwen_ref.model.weights import MixerWeights, MlpWeights, matrices

MEMORY = 400 << 20  # of a process that compiles
SEVERAL = 8  # tokens, in the place of a prompt

Work = Callable[[], object]
Progress = Callable[[int, int], None]  # called with how much is done, of how much


def works_of(network: TextModel) -> list[Work]:
    """The large kernels, which wait for no other; each kind of layer, by the types of its matrices, for one
    token and for several; and the logits."""
    found: dict[Any, Work] = {}
    for layer in network.weights.layers:
        for given in reversed(layers.between_products(layer.mixer, network.cache_types)):
            found.setdefault(given[0], functools.partial(compile.address, *given))
    for group in (g for layer in network.weights.layers for g in (layer.mixer, layer.mlp)):
        for matrix in matrices(group):
            row: np.ndarray = np.zeros((1, matrix.shape[1]), network.dtype)
            found.setdefault(matrix.tensor.type.name, functools.partial(network.layers.lm_head, row, matrix))

    def add(i: int, tokens: int) -> None:
        w = network.weights.layers[i]
        x: np.ndarray = np.zeros((tokens, network.config.hidden_size), network.dtype)

        def mix() -> object:
            rope = rope_tables(np.zeros((3, tokens), int), network.config, network.dtype)
            normed = network.layers.rms_norm(x, w.input_norm, network.config.rms_norm_eps)
            return network.mixer(normed, w.mixer, network.new_state().layers[i], rope)

        found.setdefault((tokens, type(w.mixer), kinds(w.mixer)), mix)
        found.setdefault((tokens, type(w.mlp), kinds(w.mlp)), lambda: network.layers.mlp(x, w.mlp))

    for tokens in 1, SEVERAL:
        for i in range(len(network.weights.layers)):
            add(i, tokens)
    last: np.ndarray = np.zeros((1, network.config.hidden_size), network.dtype)
    return [*found.values(), lambda: network.logits(last)]


def kinds(weights: MixerWeights | MlpWeights) -> tuple[str, ...]:
    return tuple(m.tensor.type.name for m in matrices(weights))


def do(works: Sequence[Work], command: Sequence[str], progress: Progress | None) -> None:
    """All of it. `command` is a program that does a share of the same work: the arguments `--share k n` say
    which, and it prints a line for each piece."""

    compiles = False

    def ahead() -> None:
        nonlocal compiles
        compiles = True
        show(0)
        most = min(cores(), len(works), available_memory() // MEMORY)
        if most > 1 and compile.CACHE_DIRECTORY is not None:
            do_shares(most, command, show)

    def show(done: int) -> None:
        if progress and compiles:
            progress(done, len(works))

    compile.announce, before = ahead, compile.announce
    try:
        for done, work in enumerate(works, 1):
            work()
            show(done)
    finally:
        compile.announce = before
        show(len(works))


def do_share(works: Sequence[Work], share: tuple[int, int], progress: Progress | None) -> None:
    k, n = share
    for done, work in enumerate(works[k::n], 1):
        work()
        if progress:
            progress(done, len(works[k::n]))


def do_shares(count: int, command: Sequence[str], done: Callable[[int], object]) -> None:
    lines: SimpleQueue[bytes | None] = SimpleQueue()

    def read(output: Any) -> None:
        for line in output:
            lines.put(line)
        lines.put(None)

    with contextlib.ExitStack() as stack:
        running = finished = 0
        for k in range(count):
            share = [sys.executable, "-m", "qwen_ref", *command, "--share", str(k), str(count)]
            try:
                process = stack.enter_context(children.started(share, stdout=PIPE, stderr=DEVNULL))
            except OSError:  # too many processes: the others do it, or this one
                break
            threading.Thread(target=read, args=(process.stdout,), daemon=True).start()
            running += 1
        while running:
            if lines.get() is None:
                running -= 1
            else:
                finished += 1
                done(finished)
