"""Models of the sizes that the live comparisons need; made once and kept in models/."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "fixtures"))

import make  # noqa: E402

FULL = bool(os.environ.get("QWEN_REF_FULL"))
QUANTS = ["Q4_0", "Q4_K_M", "Q8_0"]


@dataclass(frozen=True)
class Made:
    """One made model: its checkpoint, its F32 file and its quantized files."""

    name: str
    checkpoint: Path
    f32: Path
    quantized: list[Path]


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Of the processes that make something in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def made(size: str, seed: int, *, mtp: bool = False, tiny_vocab: bool | None = None) -> Made:
    name = f"{size}{'-mtp' if mtp else ''}{'-tiny-vocab' if tiny_vocab else ''}-seed{seed}"
    out = Path(os.environ.get("QWEN_REF_MODELS", ROOT / "models")) / name
    with one_at_a_time(out.parent):
        if not (out / "complete").exists():
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            make.make_model(
                size, out, outtype="f32", quants=QUANTS, seed=seed, mtp=mtp, tiny_vocab=tiny_vocab
            )
            (out / "complete").touch()
    return Made(
        name, out / f"{size}-hf", out / f"{size}-f32.gguf", [out / f"{size}-{q}.gguf" for q in QUANTS]
    )


def without_mtp(names: Iterable[str]) -> set[str]:
    """Of tensors that were not shown those of the model itself: nobody runs the MTP layer here."""
    return {name for name in names if not name.startswith("mtp.")}


# Without QWEN_REF_FULL the same layers with a vocabulary of 1,024: a large output matrix takes most of the
# time and tests nothing but itself.
MODELS = [
    dict(size=size, seed=seed, mtp=mtp, tiny_vocab=None if FULL else True)
    for size, mtp in (("mini", False), ("mini-grouped", False), ("mini-grouped", True))
    for seed in (0, 1)
]
if FULL:
    MODELS += [dict(size="0.8B", seed=seed) for seed in (0, 1)]


@pytest.fixture(
    scope="module", params=MODELS, ids=lambda m: f"{m['size']}{'-mtp' * m.get('mtp', 0)}-{m['seed']}"
)
def model(request) -> Made:
    return made(**request.param)


@pytest.fixture(scope="module")
def mmproj(model) -> Path:
    """The model's vision file, in F32."""
    path = model.f32.with_name("mmproj-" + model.f32.name)
    with one_at_a_time(path.parent.parent):
        if not path.exists():
            make.convert(model.checkpoint, "--mmproj", "--outfile", path, "--outtype", "f32")
    return path


@pytest.fixture(scope="session")
def small() -> Path:
    """A small F32 file: llama.cpp computes with its very weights, while with BF16 it rounds activations."""
    return made("mini", 0, tiny_vocab=True).f32


@pytest.fixture(scope="session")
def real_vocabulary() -> Made:
    """A small network with Qwen's own 248,320 tokens."""
    return made("mini", 0)
