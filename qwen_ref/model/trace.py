"""Names for what is computed on the way, so that someone may watch, or round as other arithmetic would.

    with watching(lambda name, x: print(name, x.shape)):
        model.forward(token_ids, state)

`tap` gives a value a name where it comes about and costs nothing while nobody watches. Names are paths like
transformers' modules: layers.3.self_attn.k_proj. docs/golden.md lists them all. Inside a kernel nothing has
a name: whoever watches one is told so.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from qwen_ref.errors import QwenRefError

Watch = Callable[[str, np.ndarray], np.ndarray | None]

_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)
_path: ContextVar[str] = ContextVar("path", default="")


def tap(name: str, x: np.ndarray) -> np.ndarray:
    """x, or what the watcher puts in its place. Raises QwenRefError for another shape or dtype."""
    watch = _watch.get()
    if watch is None:
        return x
    path = _path.get() + name
    return in_place_of(x, watch(path, x), path)


def in_place_of(x: np.ndarray, instead: np.ndarray | None, path: str) -> np.ndarray:
    """`instead`, or x if it is None. Raises QwenRefError for another shape or dtype."""
    if instead is None:
        return x
    if not isinstance(instead, np.ndarray) or (instead.shape, instead.dtype) != (x.shape, x.dtype):
        given = f"{instead.dtype} {instead.shape}" if isinstance(instead, np.ndarray) else f"{instead!r:.40}"
        raise QwenRefError(f"{path}: {given} cannot stand in for {x.dtype} {x.shape}")
    return instead


@contextmanager
def part(name: str) -> Iterator[None]:
    """Taps in this block, or in the function that has this as a decorator, stand under `name`."""
    before = _path.set(f"{_path.get()}{name}.")
    try:
        yield
    finally:
        _path.reset(before)


def watcher() -> Watch | None:
    """Who watches here, if anybody does."""
    return _watch.get()


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """In this block (and thread) `watch` is called with each name and value; what it returns is used instead.

    None keeps the value. A value that is returned must have the same shape and dtype.
    """
    before = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(before)
