"""Where the time of a decoded token goes, next to what the memory could do.

Decoding reads every weight once a token, so each part is shown with the bytes it must read and the rate at
which it reads them; the limit is measured on the spot, by summing a large array on all threads.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import numpy as np

from gguf_io import Tensor
from qwen_ref.model.layers import replaced
from qwen_ref.model.matrix import Matrix
from qwen_ref.model.text import TextModel
from qwen_ref.model.weights import AttentionWeights, MixerWeights, MlpWeights, matrices

READ_BYTES = 1 << 28
GAP = 1 << 16  # bytes between two matrices of a file that may be read with them
BAR = 30
ORDER = ("lm_head", "mlp", "deltanet", "attention", "rms_norm", "the rest", "total")
LABELS = {"lm_head": "output matrix", "rms_norm": "norms", "total": "a token"}


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


def reading(network: TextModel) -> Callable[[], float] | None:
    """A function that reads all the matrices that a token reads, as they lie in the file's pages or in a
    cache, by all threads: bytes a second. None where they are no parts of a GGUF file."""
    from qwen_ref.kernels.bandwidth import PART, sum_all

    tensors = {m.tensor.offset: m.tensor for m in matrices_of(network) if isinstance(m.tensor, Tensor)}
    runs: list[tuple[Any, int, int]] = []  # file, from byte, to byte: neighbours are one piece
    for offset, tensor in sorted(tensors.items(), key=lambda item: (id(item[1].buffer), item[0])):
        if runs and runs[-1][0] is tensor.buffer and offset - runs[-1][2] < GAP:
            runs[-1] = (tensor.buffer, runs[-1][1], offset + tensor.nbytes)
        else:
            runs.append((tensor.buffer, offset, offset + tensor.nbytes))
    whole = [(buffer, start, (stop - start) // 4 // PART * PART) for buffer, start, stop in runs]
    pieces = [np.frombuffer(buffer, np.float32, count, start) for buffer, start, count in whole if count]
    if not pieces:
        return None

    def read() -> float:
        started = time.perf_counter()
        for piece in pieces:
            sum_all(piece)
        return sum(piece.nbytes for piece in pieces) / (time.perf_counter() - started)

    return read


def matrices_of(network: TextModel) -> list[Matrix]:
    """Those that a token is multiplied with."""
    groups = [group for layer in network.weights.layers for group in (layer.mixer, layer.mlp)]
    return [network.weights.output, *(m for g in groups for m in matrices(g))]


def part_bytes(network: TextModel, sequences: int = 1) -> dict[str, int]:
    """Bytes that one token of each sequence reads, and for DeltaNet's state also writes, by part."""
    weights = network.weights
    parts = {"attention": 0, "deltanet": 0, "mlp": 0, "lm_head": weights.output.tensor.nbytes}
    for layer in weights.layers:
        parts["mlp"] += group_bytes(layer.mlp)
        kind = "attention" if isinstance(layer.mixer, AttentionWeights) else "deltanet"
        parts[kind] += mixer_bytes(network, layer.mixer, sequences)
    return parts


def group_bytes(group: MixerWeights | MlpWeights) -> int:
    return sum(m.tensor.nbytes for m in matrices(group))


def mixer_bytes(network: TextModel, mixer: MixerWeights, sequences: int = 1) -> int:
    if isinstance(mixer, AttentionWeights):
        return group_bytes(mixer)
    state = 4 * network.config.linear_key_head_dim * network.config.value_dim
    return group_bytes(mixer) + 2 * state * sequences


class LayerCost(NamedTuple):
    """Of one layer and one token: seconds; bytes of weights that are read, and of state, written too."""

    mixer_seconds: float
    mlp_seconds: float
    mixer_bytes: int
    mlp_bytes: int


def profile_layers(network: TextModel, token_ids: Sequence[int], rounds: int = 8) -> list[LayerCost]:
    """Decode some tokens one by one, each layer timed: medians, without the first two, which may compile."""
    spent: list[float] = []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            started = time.perf_counter()
            result = function(*args)
            spent.append(time.perf_counter() - started)
            return result

        return call

    plain, state, rows = network.layers, network.new_state(), []
    names = ("attention", "deltanet", "mlp")
    network.layers = replaced(plain, **{name: timed(getattr(plain, name)) for name in names})
    try:
        for n in range(rounds + 2):
            spent.clear()
            network.forward([token_ids[n % len(token_ids)]], state)
            rows.append(list(spent))
    finally:
        network.layers = plain
    median = [statistics.median(times) for times in zip(*rows[2:])]  # of mixer, MLP, mixer, MLP, ...
    return [
        LayerCost(*seconds, mixer_bytes(network, layer.mixer), group_bytes(layer.mlp))
        for seconds, layer in zip(zip(median[::2], median[1::2]), network.weights.layers, strict=True)
    ]


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
    names = ("rms_norm", "attention", "deltanet", "mlp", "lm_head")
    state, rows = network.new_state(), []
    network.layers = replaced(plain, **{name: timed(name, getattr(plain, name)) for name in names})
    try:
        for token_id in token_ids:
            spent.clear()
            started = time.perf_counter()
            network.logits(network.forward([token_id], state))
            rows.append(spent | {"total": time.perf_counter() - started})
    finally:
        network.layers = plain
    median = {name: statistics.median(row[name] for row in rows[3:]) for name in rows[0]}
    median["the rest"] = median["total"] - sum(median[name] for name in names)
    sizes = part_bytes(network)
    limit = read_bandwidth() if plain.name == "numba" else None
    lines = [f"{'part':16}{'ms':>8}{'share':>8}{'MiB':>8}{'GB/s':>8}"]
    sizes["total"] = sum(sizes.values())
    for name in ORDER:
        seconds, nbytes = median[name], sizes.get(name, 0)
        share = seconds / median["total"]
        rate = f"{nbytes / seconds / 1e9:8.1f}" if nbytes else " " * 8
        lines.append(
            f"{LABELS.get(name, name):16}{seconds * 1e3:8.2f}{share:8.1%}{nbytes / 2**20:8.1f}{rate}"
            f"  {'█' * round(BAR * share) if name != 'total' else ''}"
        )
    if limit:
        total = sizes["total"]
        lines.append(
            f"the memory reads at {limit / 1e9:.1f} GB/s: a token could take {total / limit * 1e3:.2f} ms "
            f"({limit / total:.1f} t/s), and {total / limit / median['total']:.0%} of that speed is reached"
        )
    parts = {name: {"seconds": median[name], "bytes": sizes.get(name, 0)} for name in median}
    return {"table": "\n".join(lines), "parts": parts, "bandwidth": limit}


def draw_profile(profile: dict[str, Any], title: str) -> str:
    """The picture of a profile, as SVG: a bar for each part, dark as far as reading its bytes must take."""
    parts, limit = profile["parts"], profile["bandwidth"]
    rows = [(LABELS.get(name, name), parts[name]) for name in ORDER]
    whole = parts["total"]["seconds"]
    left, width, height = 130, 460, 30
    size = f"{left + width + 170} {height * len(rows) + 90}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" '
        'font-size="14">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="26" font-size="17">{escape(title)}</text>',
    ]
    for i, (label, part) in enumerate(rows):
        y, seconds = 45 + height * i, part["seconds"]
        must = min(part["bytes"] / limit, seconds) if limit else 0.0
        text = f"{seconds * 1e3:.2f} ms" + (f", {part['bytes'] / 2**20:.0f} MiB" if part["bytes"] else "")
        lines += [
            f'<text x="{left - 10}" y="{y + 15}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{left}" y="{y}" width="{width * seconds / whole:.1f}" height="20" fill="#f2b88b"/>',
            f'<rect x="{left}" y="{y}" width="{width * must / whole:.1f}" height="20" fill="#31688e"/>',
            f'<text x="{left + width * seconds / whole + 8:.1f}" y="{y + 15}">{text}</text>',
        ]
    if limit:
        y = 70 + height * len(rows)
        note = f"dark: reading the bytes at the {limit / 1e9:.1f} GB/s that this memory was measured to give"
        lines.append(f'<text x="10" y="{y}">{note}</text>')
    return "\n".join([*lines, "</svg>", ""])
