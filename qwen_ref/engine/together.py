"""Many texts, read or answered several at once, so that what they begin with in common is read once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np

from qwen_ref.model.layers import Array

PARALLEL = 8  # at once, unless another number is given
WORTH = 16  # tokens in common: of fewer, keeping the state takes as long as reading them again


class Job(Protocol):
    """A text that is read, or an answer in the making."""

    @property
    def num_read(self) -> int: ...

    @property
    def over(self) -> bool: ...

    def start(self) -> None: ...


J = TypeVar("J", bound=Job)


def alike(keys: Sequence[Array]) -> tuple[list[int], list[int]]:
    """keys [T] of prompts (`Prompt.key`) -> an order in which those that begin alike stand together, and how
    many tokens each has in common with the one before it, 0 where it is not worth a step that ends there."""
    order = sorted(range(len(keys)), key=lambda i: keys[i].tolist())
    shared = [0] * min(1, len(order))
    for before, after in itertools.pairwise(order):
        n = min(len(keys[before]), len(keys[after])) - 1  # the last token is always read
        other = np.flatnonzero(keys[before][:n] != keys[after][:n])
        n = int(other[0]) if len(other) else n
        shared.append(n if n >= WORTH else 0)
    return order, shared


def together(
    jobs: Sequence[J], shared: Sequence[int], parallel: int, step: Callable[[list[J]], object]
) -> Iterator[int]:
    """Take all jobs to their ends, at most `parallel` at once; the number of each when it is over.

    One that has `shared` tokens in common with the one before it begins when these are read. `step` takes
    those that are running one step further.
    """
    running, begun = list[int](), 0
    while running or begun < len(jobs):
        while begun < len(jobs) and len(running) < parallel:
            before = jobs[begun - 1] if begun else None
            if before is not None and not before.over and before.num_read < shared[begun]:
                break
            jobs[begun].start()
            running.append(begun)
            begun += 1
        step([jobs[i] for i in running])
        yield from (i for i in running if jobs[i].over)
        running = [i for i in running if not jobs[i].over]
