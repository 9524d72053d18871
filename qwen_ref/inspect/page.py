"""Runs as one HTML file, which loads nothing: the template beside this file, and the numbers in it.

Arrays are small integers, deflated together, in base64: the template's script takes them apart again.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from qwen_ref.inspect.numbers import DeltaNumbers, Run
from qwen_ref.model.layers import Array

LANES = ("decay", "beta", "writes", "erases", "fades", "norm", "rank", "wrote")
LEVELS = 15  # of what is read, to either side of 0
KINDS = ("DeltaNet", "attention")
PICTURE = 480  # pixels of a picture's longer side, at most


def page(runs: list[Run]) -> str:
    """The HTML of one run, or of two side by side. What comes from prompts and files is text in it."""
    arrays = Arrays()
    head = {"runs": [head_of(run, arrays) for run in runs], "arrays": arrays.places}
    title = "A look inside: " + ", ".join(run.label for run in runs)
    template = files("qwen_ref.inspect").joinpath("page.html").read_text("utf-8")
    data = {"TITLE": escape(title), "HEAD": in_script(head), "ARRAYS": arrays.text()}
    before, *parts = template.split("@@")  # names and what stands between them, in turns
    return before + "".join(data[name] + text for name, text in zip(parts[::2], parts[1::2], strict=True))


def in_script(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


class Arrays:
    """Arrays one after another: places has the type, the first byte and the number of values of each."""

    def __init__(self) -> None:
        self.places: list[tuple[str, int, int]] = []
        self._parts, self._bytes = list[bytes](), 0

    def add(self, x: Array, dtype: str) -> int:
        """Its number. dtype is one that JavaScript has: u1, u2, u4, f4."""
        data = np.ascontiguousarray(x, np.dtype(dtype).newbyteorder("<")).tobytes()
        data += bytes(-len(data) % 4)
        self.places.append((dtype, self._bytes, x.size))
        self._parts.append(data)
        self._bytes += len(data)
        return len(self.places) - 1

    def text(self) -> str:
        return base64.b64encode(zlib.compress(b"".join(self._parts), 9)).decode()


def head_of(run: Run, arrays: Arrays) -> dict[str, Any]:
    """What the template's script reads of a run; numbers of arrays stand for them."""
    config, numbers = run.trace.config, dict[int, int]()

    def words(ids: Array) -> Array:
        """Token ids -> their numbers among the words that the page shows."""
        return np.array([numbers.setdefault(int(i), len(numbers)) for i in ids.ravel()], np.uint32)

    lens = list(run.lens.values())  # [2 * layers]
    best = arrays.add(words(run.best.token_ids), "u4"), arrays.add(run.best.logprobs, "f4")
    in_lens = words(np.stack([place.token_ids for place in lens]))  # [2 * layers, T, top]
    chances = np.exp(np.stack([place.logprobs for place in lens]))
    return {
        "label": run.label,
        "model": run.model,
        "backend": run.backend,
        "promptTokens": run.prompt_tokens,
        "tokens": run.trace.tokens,
        "ids": run.token_ids,
        "best": {"words": best[0], "logprobs": best[1], "top": run.best.token_ids.shape[1]},
        "came": {"logprobs": arrays.add(run.logprobs, "f4"), "ranks": arrays.add(run.ranks, "u4")},
        "drafts": [[d.at, [run.spelled(i) for i in d.token_ids], d.accepted] for d in run.drafts],
        "lens": {
            "words": arrays.add(in_lens, "u4"),
            "chances": arrays.add(np.round(65535 * chances), "u2"),
            "top": chances.shape[2],
        },
        "kinds": [KINDS[config.is_full_attention(i)] for i in range(config.num_layers)],
        "attention": {
            layer: {"heads": len(x), "map": arrays.add(np.round(255 * np.sqrt(lower(x))), "u1")}
            for layer, x in run.attention.items()
        },
        "delta": {layer: delta_of(x, arrays) for layer, x in run.delta.items()},
        "pictures": pictures(run),
        "costs": [list(cost) for cost in run.costs],
        "words": [run.spelled(token_id) for token_id in numbers],
    }


def lower(x: Array) -> Array:
    """[H, T, T] -> [H, T * (T + 1) / 2]: row t up to its own column, one after another."""
    return x[:, *np.tril_indices(x.shape[1])]


def delta_of(x: DeltaNumbers, arrays: Arrays) -> dict[str, Any]:
    """Lanes [T, H] as multiples of a step that each head has its own of; `left` by columns, as differences
    from one to the next, which are mostly 0; `reads` by rows."""
    lanes = {}
    for name in LANES:
        lane = getattr(x, name)
        most = np.maximum(np.abs(lane).max(axis=0), 1e-30)  # [H]
        finest = 65535 if name == "decay" else 1023  # what is left after hundreds of tokens is 1 - decay
        values = arrays.add(np.round(finest * lane / most), "u2")
        lanes[name] = {"step": (most / finest).tolist(), "values": values}
    T, H = x.decay.shape
    columns = [np.round(255 * np.clip(x.left[:, s:, s], 0, 1)) for s in range(T)]  # [H, T - s] of each
    steps = np.concatenate([np.diff(c, axis=1, prepend=0) for c in columns], axis=1)
    reads = lower(x.reads)
    return {
        "heads": H,
        "lanes": lanes,
        "left": arrays.add(steps.astype(np.int16).astype(np.uint8), "u1"),
        "reads": arrays.add(np.round(LEVELS * np.sign(reads) * np.sqrt(np.abs(reads))) + LEVELS, "u1"),
    }


def pictures(run: Run) -> list[dict[str, Any]]:
    """Of each picture where its tokens begin, in how many rows and columns they are, and itself."""
    prompt, found = run.trace.prompt, []
    for span, media in zip(prompt.spans, prompt.media, strict=True):
        small, file = media.image.convert("RGB"), io.BytesIO()
        small.thumbnail((PICTURE, PICTURE))
        small.save(file, "JPEG", quality=85)
        source = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
        found.append({"start": span.start, "rows": span.rows, "columns": span.columns, "source": source})
    return found
