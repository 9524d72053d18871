"""A model and a prompt to a golden: run in float64, and once in each arithmetic for the error budgets.

V heads stand in transformers' order in a golden, in which the heads that share a K head lie together; a GGUF
file, and so the model here, has them tiled.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from qwen_ref.config import Config
from qwen_ref.errors import QwenRefError
from qwen_ref.model.text import TextModel
from qwen_ref.model.trace import watching
from qwen_ref.oracle.arithmetic import ARITHMETICS, Rounding
from qwen_ref.oracle.golden import Entry, Golden, as_rows

TOP = 20  # logits of each position that are kept beside the sample

V_HEADS = ("in_proj_b", "in_proj_a", "beta", "g", "o", "state", "in_proj_z", "norm")
WITH_V_HEADS = ("in_proj_qkv", "conv1d")  # at their end

Progress = Callable[[str], None]


def canonical(name: str, x: np.ndarray, config: Config) -> np.ndarray:
    """As a golden has it: rows are tokens (of a state V heads), and V heads stand in transformers' order."""
    if ".self_attn.weights." in name:
        return x.transpose(1, 0, 2)  # [G, T, S] -> [T, G, S]
    place, _, last = name.rpartition(".")
    if not place.endswith("linear_attn"):
        return x
    if last in V_HEADS:
        return untiled(x, 0 if last == "state" else 1, config)
    if last in WITH_V_HEADS:
        qk, v = np.split(x, [2 * config.key_dim], axis=1)
        v = v.reshape(len(x), config.linear_num_value_heads, -1)  # [T, H_v*V] -> [T, H_v, V]
        return np.concatenate([qk, untiled(v, 1, config).reshape(len(x), -1)], axis=1)
    return x


def untiled(x: np.ndarray, axis: int, config: Config) -> np.ndarray:
    """V head v * H_k + k, as GGUF has it, goes to k * (H_v / H_k) + v."""
    H_k, H_v = config.linear_num_key_heads, config.linear_num_value_heads
    return np.take(x, np.arange(H_v).reshape(-1, H_k).T.ravel(), axis)


def run(
    model: TextModel,
    token_ids: Sequence[int],
    positions: np.ndarray,
    watch: Callable[[str, np.ndarray], Any],
) -> np.ndarray:
    """Logits [T, vocab] of the tokens; `watch` sees and may change all that has a name."""
    with watching(watch):
        return model.logits(model.hidden(token_ids, model.new_state(), positions))


def chosen(names: Sequence[str] | None, name: str) -> bool:
    return names is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in names)


def new_entry(x: np.ndarray, rows: int | None, columns: int | None) -> Entry:
    """None keeps all; else so many rows, the first and the last among them, and at most so many columns."""
    T, C = as_rows(x).shape
    kept = range(T) if rows is None or rows >= T else np.linspace(0, T - 1, rows).round().astype(int).tolist()
    stride = 1 if columns is None else max(1, -(-C // columns))
    return Entry(x.shape, sorted(set(kept)), stride, rms(x), float(np.abs(x).max(initial=0)))


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) if x.size else 0.0


def record(
    open_text: Callable[[type], TextModel],
    token_ids: Sequence[int],
    about: dict[str, Any],
    positions: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    rows: int | None = None,
    columns: int | None = None,
    progress: Progress = lambda what: None,
) -> Golden:
    """What the model computes for token_ids [T], exactly.

    open_text    opens the model in a dtype
    positions    [3, T] in time, row and column; None: text, which counts on in all three
    names        patterns (fnmatch) of what is kept; None keeps all that has a name
    rows, columns  how much of each tensor is kept; None keeps all

    Raises QwenRefError if nothing fits the names.
    """

    def keep(name: str, x: np.ndarray) -> None:
        if not chosen(names, name):
            return
        x = canonical(name, x, model.config)
        entry = golden.entries[name] = new_entry(x, rows, columns)
        golden.values[name] = entry.sample(x).copy()
        golden.row_rms[name] = np.sqrt(np.mean(as_rows(x) ** 2, axis=1))

    progress("float64")
    model = open_text(np.float64)
    golden = Golden(about, model.config, {}, {"token_ids": np.asarray(token_ids, np.int64)}, {}, {})
    if positions is None:
        positions = np.tile(np.arange(len(token_ids)), (3, 1))  # [T] -> [3, T]
    golden.inputs["positions"] = positions
    logits = run(model, token_ids, positions, keep)
    if not golden.entries:
        raise QwenRefError(f"names: nothing that the model computes fits {', '.join(names or ())}")
    order = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    golden.inputs["top_ids"] = order
    golden.inputs["top_logits"] = np.take_along_axis(logits, order, 1)

    for kind, (dtype, rounding) in ARITHMETICS.items():
        progress(kind)
        if dtype is not model.dtype:
            model = open_text(dtype)

        run(model, token_ids, positions, functools.partial(measure, golden, kind, rounding))
    return golden


def measure(golden: Golden, kind: str, rounding: Rounding, name: str, x: np.ndarray) -> np.ndarray | None:
    """Watches one arithmetic: rounds, and notes how far that is from the exact values."""
    instead = rounding(name, x)
    if entry := golden.entries.get(name):
        found = canonical(name, x if instead is None else instead, golden.config)
        error = entry.sample(found) - golden.values[name]
        entry.errors[kind] = (rms(error), float(np.abs(error).max(initial=0)))
    return instead


def provenance(path: Path, token_ids: Sequence[int], **options: Any) -> dict[str, Any]:
    """Where a golden comes from. Nothing of the machine: the same input makes the same bytes."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "qwen_ref": version("qwen_ref"),
        "file": path.name,
        "sha256": digest,
        "tokens": len(token_ids),
    } | options
