"""Where the time of a decoded token goes, next to what the memory could do.

Decoding reads every weight once a token, so each part is shown with the bytes it must read and the rate at
which it reads them; the limit is measured on the spot, by summing a large array on all threads.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qwen_ref.model.text import TextModel
from qwen_ref.model.weights import AttentionWeights, Matrix

READ_BYTES = 1 << 28
BAR = 30


def read_bandwidth() -> float:
    """Bytes a second that all threads together can read from memory. Needs Numba."""
    from qwen_ref.kernels.bandwidth import sum_all

    data = np.ones(READ_BYTES // 4, np.float32)
    sum_all(data)
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        sum_all(data)
        seconds.append(time.perf_counter() - started)
    return READ_BYTES / min(seconds)


def part_bytes(network: TextModel) -> dict[str, int]:
    """Bytes that one token reads, and for DeltaNet's state also writes, by part."""
    config, weights = network.config, network.weights

    def matrices(group: Any) -> int:
        values = (getattr(group, field.name) for field in dataclasses.fields(group))
        return sum(m.tensor.nbytes for m in values if isinstance(m, Matrix))

    state = 4 * config.linear_key_head_dim * config.value_dim
    parts = {"attention": 0, "deltanet": 0, "mlp": 0, "linear": weights.output.tensor.nbytes}
    for layer in weights.layers:
        parts["mlp"] += matrices(layer.mlp)
        if isinstance(layer.mixer, AttentionWeights):
            parts["attention"] += matrices(layer.mixer)
        else:
            parts["deltanet"] += matrices(layer.mixer) + 2 * state
    return parts


def profile_decode(network: TextModel, token_ids: Sequence[int]) -> dict[str, Any]:
    """Decode the tokens one by one, each kind of layer timed: {"table": text, "parts": …, "bandwidth": …}."""
    spent: dict[str, float] = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            started = time.perf_counter()
            result = function(*args)
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - started
            return result

        return call

    plain = network.layers
    names = ("rms_norm", "attention", "deltanet", "mlp", "linear")
    timers: dict[str, Any] = {name: timed(name, getattr(plain, name)) for name in names}
    state, rows = network.new_state(), []
    network.layers = dataclasses.replace(plain, **timers)
    try:
        for token_id in token_ids:
            spent.clear()
            started = time.perf_counter()
            network.logits(network.hidden([token_id], state))
            rows.append(spent | {"total": time.perf_counter() - started})
    finally:
        network.layers = plain
    median = {name: statistics.median(row[name] for row in rows[3:]) for name in rows[0]}
    median["the rest"] = median["total"] - sum(median[name] for name in names)
    sizes = part_bytes(network)
    limit = read_bandwidth() if plain.name == "numba" else None
    lines = [f"{'part':16}{'ms':>8}{'share':>8}{'MiB':>8}{'GB/s':>8}"]
    labels = {"linear": "output matrix", "rms_norm": "norms", "total": "a token"}
    for name in ("linear", "mlp", "deltanet", "attention", "rms_norm", "the rest", "total"):
        seconds, nbytes = median[name], sum(sizes.values()) if name == "total" else sizes.get(name, 0)
        share = seconds / median["total"]
        rate = f"{nbytes / seconds / 1e9:8.1f}{nbytes / 2**20:8.1f}"[:8] if nbytes else " " * 8
        lines.append(
            f"{labels.get(name, name):16}{seconds * 1e3:8.2f}{share:8.1%}{nbytes / 2**20:8.1f}{rate}"
            f"  {'█' * round(BAR * share) if name != 'total' else ''}"
        )
    if limit:
        total = sum(sizes.values())
        lines.append(
            f"the memory reads at {limit / 1e9:.1f} GB/s: a token could take {total / limit * 1e3:.2f} ms "
            f"({limit / total:.1f} t/s), and {total / limit / median['total']:.0%} of that speed is reached"
        )
    parts = {name: {"seconds": median[name], "bytes": sizes.get(name, 0)} for name in median}
    return {"table": "\n".join(lines), "parts": parts, "bandwidth": limit}
