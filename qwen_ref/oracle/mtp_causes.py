"""Mistakes that engines made in the MTP layer. Each function is a cause as causes.py describes them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qwen_ref.oracle.causes import Array, TooLittle, normalized
from qwen_ref.oracle.golden import Golden

BEFORE_THE_NORM = "the MTP layer has the hidden state from before the model's last norm; it belongs behind it"
SAME_TOKEN = "the MTP layer has the hidden state of the same token; it is that of the token before"
SWAPPED = "eh_proj has the hidden state first; the embedding comes first, and then the hidden state"
CHAIN_WITHOUT_NORM = "the draft goes on with the hidden state from before the MTP layer's norm"
PLUS_TWO = "1 + is added to the norm's weight twice: a GGUF file stores the sum"


def divisor(golden: Golden, name: str, rows: Array) -> Array:
    """What an RMS norm of these rows of a tensor divides them by, [rows, 1]. All rows have an rms."""
    if name not in golden.row_rms:
        raise TooLittle
    return np.sqrt(golden.row_rms[name][rows, None] ** 2 + golden.config.rms_norm_eps)


def weight(golden: Golden, norm: str, before: str, shift: int = 0) -> Array:
    """The weight [columns] of a norm, from a row of its output and that of its input, `shift` rows on."""
    entry, other = golden.entries.get(norm), golden.entries.get(before)
    if entry is None or other is None or entry.stride != other.stride:
        raise TooLittle
    for at, row in enumerate(entry.rows):
        if row + shift in other.rows and golden.row_rms[norm][row] > 0:
            x = golden.values[before][other.rows.index(row + shift)]
            return golden.values[norm][at] * divisor(golden, before, np.array([row + shift]))[0] / x
    raise TooLittle


def before_the_norm(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """Where a norm's output should be, an engine has its input: of that hnorm is taken all the same.

    Both norms are linear but for a number a row: without the first its weight w is not multiplied in, and the
    second divides by another rms.
    """
    exact, last = golden.values[name], len(golden.inputs["token_ids"]) - 1
    if name == "mtp.hnorm":
        rows = np.array(golden.entries[name].rows)
        w = weight(golden, "norm", f"layers.{golden.config.num_layers - 1}.output")
        would_be = exact * divisor(golden, "norm", rows - 1) / w
        yield BEFORE_THE_NORM, np.where(rows[:, None] == 0, exact, would_be)
    if name == "mtp.draft.hnorm":  # in later rows the hidden state is a wrong one by then
        would_be = np.full(exact.shape, np.nan)
        w = weight(golden, "mtp.norm", "mtp.output")
        would_be[0] = exact[0] * divisor(golden, "mtp.norm", np.array([last]))[0] / w
        yield CHAIN_WITHOUT_NORM, would_be


def same_token(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    if name != "mtp.hnorm":
        return
    entry, other = golden.entries[name], golden.entries.get("norm")
    w = weight(golden, name, "norm", -1)
    would_be = np.full(golden.values[name].shape, np.nan)
    for at, row in enumerate(entry.rows):
        if other is not None and row in other.rows:
            would_be[at] = golden.values["norm"][other.rows.index(row)] * w
    yield SAME_TOKEN, would_be / divisor(golden, "norm", np.array(entry.rows))


def swapped_halves(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    if name == "mtp.eh_proj" and "mtp.swapped" in golden.inputs:
        yield SWAPPED, golden.inputs["mtp.swapped"]


def plus_two(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """A checkpoint's w is 1 + w in a GGUF file; an engine that adds 1 again has x (1 + w) + x."""
    before, shift = ("norm", -1) if name == "mtp.hnorm" else (normalized(golden, name), 0)
    if before and name.startswith("mtp.") and len(golden.entries[name].shape) == 2:
        yield PLUS_TWO, golden.values[name] * (1 + 1 / weight(golden, name, before, shift))
