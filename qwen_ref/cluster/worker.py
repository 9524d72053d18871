"""What a worker does: says what it runs, gets ready once for a job, and answers portions of it."""

from __future__ import annotations

import functools
import hashlib
import pickle
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import gguf_io
import qwen_ref
from qwen_ref.cluster.model_files import Found, ModelFiles

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
    """`prepare(models, options)` is a function of a module, called once in each worker process.

    It and what it makes may raise QwenRefError; of an item that ends the job.
    """

    prepare: Callable[[list[Found], Any], Ready]
    options: Any
    models: tuple[ModelFiles, ...] = ()


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


_kept: tuple[bytes, Ready] | None = None  # of the last job: a model is loaded once


def ready(job: bytes, models: list[Found]) -> int:
    """Get ready for it, unless this process is; how many items go together."""
    global _kept
    if _kept is None or _kept[0] != job:
        if _kept is not None:  # two models may be too much
            _kept[1].close()
            _kept = None
        read: Job = pickle.loads(job)
        _kept = job, read.prepare(models, read.options)
    return _kept[1].together


def answer(job: bytes, models: list[Found], items: list[bytes]) -> list[Any]:
    ready(job, models)
    assert _kept
    return _kept[1].answer([pickle.loads(item) for item in items])
