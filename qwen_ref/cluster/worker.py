"""What a worker does: says what it runs, gets ready once for a job, and answers portions of it."""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import gguf_io
import qwen_ref
from gguf_io import GGUFError
from qwen_ref.cluster.model_files import Found, ModelFiles
from qwen_ref.engine.backend import usable_threads, use_threads
from qwen_ref.errors import QwenRefError
from qwen_ref.machine import available_memory

# What answers depend on, or what speaks; dask itself wants the same Python on both sides.
PACKAGES = ("distributed", "numpy", "numba", "tokenizers", "pillow", "llguidance", "av")


class Ready(NamedTuple):
    """What `prepare` makes: `answer` takes items and gives their results, `together` is how many at once, and
    `close` makes room for the next job."""

    answer: Callable[[list[Any]], list[Any]]
    together: int = 1
    close: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Job:
    """`prepare(models, options, share)` is a function of a module, called once in each worker process, and so
    many of these `share` a machine. Where what it makes raises QwenRefError, the job ends.
    """

    prepare: Callable[[list[Found], Any, int], Ready]
    options: Any
    models: tuple[ModelFiles, ...] = ()
    share: int = 1


@functools.cache
def versions() -> dict[str, str]:
    """What has to be the same everywhere."""
    code = hashlib.blake2b(digest_size=6)
    for package in qwen_ref, gguf_io:
        folder = Path(str(package.__file__)).parent
        for source in sorted(folder.rglob("*.py")):
            code.update(source.relative_to(folder).as_posix().encode() + source.read_bytes())
    found = {"qwen_ref": f"{known('qwen_ref')} with the code {code.hexdigest()}"}
    found["Python"] = ".".join(platform.python_version_tuple()[:2])
    return found | {name: known(name) for name in PACKAGES}


def known(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "nothing"


def on_worker(options: dict[str, Any], model: Found, share: int) -> dict[str, Any]:
    """What `qwen_ref.load` takes beside the path: unless given, a part of the machine's memory and cores."""
    own = options | {"mmproj": model.vision}
    if own["memory_budget"] is None:
        own["memory_budget"] = available_memory() // 2 // share
    if own["threads"] is None and share > 1:  # else those that `warmup` found count
        own["threads"] = usable_threads()
    return own


def use_cores(share: int) -> None:
    """All of the machine's, or a part. dask's nanny, which starts a worker again, has told libraries to use
    one thread each, as is right for workers that do many tasks at a time."""
    import dask

    told = dask.config.get("distributed.nanny.pre-spawn-environ", {}).get("OMP_NUM_THREADS")
    if os.environ.get("OMP_NUM_THREADS") == str(told):
        del os.environ["OMP_NUM_THREADS"]
    threads = max(1, usable_threads() // share)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    use_threads(threads)


class NotReady(Exception):
    """This worker cannot do the job, whatever the items are."""


_kept: tuple[bytes, Ready] | None = None  # of the last job: a model is loaded once


def ready(job: bytes, models: list[Found]) -> int:
    """Get ready for it, unless this process is; how many items go together."""
    global _kept
    if _kept is None or _kept[0] != job:
        if _kept is not None:  # two models may be too much
            _kept[1].close()
            _kept = None
        read: Job = pickle.loads(job)
        use_cores(read.share)
        _kept = job, read.prepare(models, read.options, read.share)
    return _kept[1].together


def answer(job: bytes, models: list[Found], items: list[bytes]) -> list[Any]:
    try:
        ready(job, models)
    except (QwenRefError, GGUFError) as error:  # again, since another job came between
        raise NotReady(str(error)) from None
    assert _kept
    return _kept[1].answer([pickle.loads(item) for item in items])
