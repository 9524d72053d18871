"""Mistakes that engines made in the MTP layer."""

from __future__ import annotations

import numpy as np

from qwen_ref.oracle.causes.cause import Array, Cause, Place, TooLittle
from qwen_ref.oracle.causes.norms import normalized
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


# Where a norm's output should be, an engine has its input: of that hnorm is taken all the same. Both norms
# are linear but for a number a row: without the first its weight w is not multiplied in, and the second
# divides by another rms.


def before_the_norm(p: Place) -> Array:
    w = weight(p.golden, "norm", f"layers.{p.config.num_layers - 1}.output")
    would_be = p.exact * divisor(p.golden, "norm", p.rows - 1) / w
    return np.where(p.rows[:, None] == 0, p.exact, would_be)


def chain_without_norm(p: Place) -> Array | None:
    if p.name != "mtp.draft.hnorm":
        return None
    last = len(p.golden.inputs["token_ids"]) - 1
    would_be = np.full(p.exact.shape, np.nan)  # in later rows the hidden state is a wrong one by then
    w = weight(p.golden, "mtp.norm", "mtp.output")
    would_be[0] = p.exact[0] * divisor(p.golden, "mtp.norm", np.array([last]))[0] / w
    return would_be


def same_token(p: Place) -> Array:
    other = p.golden.entries.get("norm")
    w = weight(p.golden, p.name, "norm", -1)
    would_be = np.full(p.exact.shape, np.nan)
    for at, row in enumerate(p.entry.rows):
        if other is not None and row in other.rows:
            would_be[at] = p.golden.values["norm"][other.rows.index(row)] * w
    return would_be / divisor(p.golden, "norm", p.rows)


def plus_two(p: Place) -> Array | None:
    """A checkpoint's w is 1 + w in a GGUF file; an engine that adds 1 again has x (1 + w) + x."""
    before, shift = ("norm", -1) if p.kind == "hnorm" else (normalized(p.golden, p.name), 0)
    if not before or not p.name.startswith("mtp.") or len(p.entry.shape) > 2:
        return None
    return p.exact * (1 + 1 / weight(p.golden, p.name, before, shift))


CAUSES = [
    Cause(BEFORE_THE_NORM, "hnorm", before_the_norm),
    Cause(SAME_TOKEN, "hnorm", same_token),
    Cause(SWAPPED, "eh_proj", lambda p: p.golden.inputs["mtp.swapped"]),
    Cause(CHAIN_WITHOUT_NORM, "draft.hnorm", chain_without_norm),
    Cause(PLUS_TWO, "enorm hnorm norm input_layernorm post_attention_layernorm", plus_two),
]
