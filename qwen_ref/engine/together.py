"""Many texts, read or answered several at once, so that what they begin with in common is read once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np

from qwen_ref.engine.generation import Generation, advance
from qwen_ref.model.layers import Array
from qwen_ref.prompt import Prompt, Rank

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


def answers_together(
    prompts: Sequence[Prompt], generate: Callable[[int, Prompt], Generation], block: int, parallel: int
) -> Iterator[tuple[int, Generation]]:
    """The answers to prompts, at most `parallel` at once, each with its prompt's number when it is over.

    `generate` begins the one of this number. A step reads `block` tokens of prompts in all.
    """
    order, shared = alike([prompt.key for prompt in prompts])
    pauses = places(shared)

    def begin(n: int) -> Generation:
        return generate(order[n], dataclasses.replace(prompts[order[n]], pauses=pauses[n]))

    def step(running: list[Generation]) -> None:
        reading = sum(one.reading for one in running)
        advance(running, max(1, block // max(1, reading)))

    for n, done in together(map(begin, range(len(order))), shared, parallel, step):
        yield order[n], done


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


def places(shared: Sequence[int]) -> list[dict[int, Rank]]:
    """The tokens that each has in common with the one before it -> after which of its tokens each one's state
    is of use to others: `Prompt.pauses`.

    One keeps it that reads past that place, so the last one before that does not begin behind it.
    """
    kept: list[dict[int, Rank]] = [{} for _ in shared]
    readers = list[int]()  # each begins behind where the one before it here does
    for n, place in enumerate(shared):
        while readers and shared[readers[-1]] >= place > 0:
            readers.pop()
        if place:
            kept[readers[-1]][place] = Rank.TURN
        else:
            readers.clear()
        readers.append(n)
    return kept


def together(
    jobs: Iterator[J], shared: Sequence[int], parallel: int, step: Callable[[list[J]], object]
) -> Iterator[tuple[int, J]]:
    """Take jobs to their ends, at most `parallel` at once; each with its number, when it is over.

    There are as many as `shared` is long. One that has `shared` tokens in common with the one before it
    begins when these are read. `step` takes those that are running one step further.
    """
    running, begun, last = list[tuple[int, J]](), 0, None  # the last one that has begun
    while running or begun < len(shared):
        while begun < len(shared) and len(running) < parallel:
            if last is not None and not last.over and last.num_read < shared[begun]:
                break
            last = next(jobs)
            last.start()
            running.append((begun, last))
            begun += 1
        step([job for _, job in running])
        over = [(n, job) for n, job in running if job.over]
        running = [(n, job) for n, job in running if not job.over]
        while over:
            yield over.pop(0)  # nothing here holds it any longer: a state takes 20 MB and more
