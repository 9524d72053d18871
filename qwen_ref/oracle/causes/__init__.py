"""Known mistakes in engines, recognised by what they do to the first tensor that is wrong.

- cause.py       what a cause is: a sentence, the tensors it shows in, and what it makes of the exact values
- norms.py       gates.py  heads.py  delta_rule.py  attention.py  positions.py  vision.py  mtp.py: the causes

A mistake is named if it explains the tensor: if what is left of the error is what the arithmetic leaves, a
small share of it, and less than what others leave.
"""

from __future__ import annotations

import math

import numpy as np

from qwen_ref.oracle.budget import SLACK, budgets
from qwen_ref.oracle.causes import attention, delta_rule, gates, heads, mtp, norms, positions, vision
from qwen_ref.oracle.causes.cause import Array, Cause, Place, TooLittle, kind
from qwen_ref.oracle.golden import Golden

CAUSES: list[Cause] = [
    cause
    for subject in (norms, gates, heads, delta_rule, attention, positions, vision, mtp)
    for cause in subject.CAUSES
]

# Measured with tests/fixtures/mistakes.py: nearly all that are right leave less than 0.03, and of what is
# wrong nothing but constant factors left less than 0.08.
LEFT = 0.05  # of the error, at most, is left beyond what rounding leaves, if a mistake explains it; ...
OWN = 1.2  # times what emulated rounding leaves, that of an engine leaves; 1.3 gave three wrong names
ROUNDING = 0.4  # ... and this with it: with more it is rounding that is explained
FITTED = 4  # times less has to be left by what fits a number to the error: so it explains it, right or wrong
CLOSE = 1.5  # times what one mistake leaves: what leaves no more explains it about as well
SEEN = 1e-3  # of the error, at least, lies where it can be told what the mistake does
FEW = 8  # values, with fewer of which something explains any error
NOT_FINITE = "some values are not finite"
EQUAL = "all values of a row are equal"
TOO_LITTLE = (
    "unknown; the golden keeps too little of the tensors here to tell (record --columns all --rows all)"
)


def find_cause(
    golden: Golden,
    name: str,
    found: Array,
    known: Array | None = None,
    allowed: str = "float32",
    precision: float = 0.0,
) -> str | None:
    """A sentence, or None. `found` is the engine's sample of the tensor, as the golden keeps it.

    `known` says which values of it are known, where not all are; the others are NaN. `allowed` is the
    arithmetic that the engine may err by, and `precision` how far off a value may be beside that.
    TOO_LITTLE: there are mistakes that could not be tried, and nothing explains it, or only what fits numbers
    to it. Of two mistakes that explain it about equally well both are told, and of more none.
    """
    exact = golden.values[name]
    known = np.ones(exact.shape, bool) if known is None else known
    if not np.isfinite(found[known]).all():
        return NOT_FINITE
    if exact[known].any() and not found[known].any():
        return "all values are zero"
    rows = found[known.all(1)]
    if (
        len(rows)
        and rows.shape[1] > 1
        and np.ptp(rows, axis=1).max(initial=0) == 0 < np.ptp(exact, axis=1).min()
    ):
        return EQUAL
    if not consistent(golden):
        return None
    place = Place(golden, name, found)
    slack = SLACK[allowed]
    rounding = (budgets(golden.entries[name], allowed)[0] + precision) / slack
    too_little = False
    explained: dict[int, dict[str, float]] = {}  # numbers that were fitted -> sentence -> share that is left
    for cause in CAUSES:
        if place.kind not in cause.shows_in.split():
            continue
        try:
            with np.errstate(all="ignore"):
                if (made := cause.makes(place)) is None:
                    continue
                would_be, *numbers = made if isinstance(made, tuple) else (made,)
                share = unexplained(exact, found, would_be.reshape(exact.shape), known, rounding, slack)
        except TooLittle:
            too_little = True
            continue
        except (ArithmeticError, LookupError, TypeError, ValueError):
            continue  # no weights at hand; or the golden is damaged, and contradicts itself
        if share is not None:
            sentence, shares = cause.sentence.format(*numbers), explained.setdefault(cause.fits, {})
            shares[sentence] = min(share * FITTED**cause.fits, shares.get(sentence, np.inf))
    if too_little:
        explained = {0: explained[0]} if 0 in explained else {}
    left = {sentence: share for shares in explained.values() for sentence, share in shares.items()}
    if not left:
        return TOO_LITTLE if too_little else None
    best = [sentence for sentence, share in left.items() if share <= CLOSE * min(left.values())]
    return best[0] if len(best) == 1 else f"either {best[0]}; or {best[1]}" if len(best) == 2 else None


def unexplained(
    exact: Array, found: Array, would_be: Array, known: Array, rounding: float, slack: float
) -> float | None:
    """The part of the error that is left if the engine made this mistake; None if that explains too little,
    or nothing can be told.

    `rounding` is the rms of what is left by the arithmetic, in values as large as the exact ones, and up to
    `slack` times that is left by others of the same. If what was found is nearly nothing, any other small
    values would explain the error: so the part is of that as well.
    """
    here = known & np.isfinite(would_be)
    error, total = (float(np.linalg.norm((found - exact)[where])) for where in (here, known))
    size = min(error, float(np.linalg.norm(found[here])))
    if error <= SEEN * total or np.sum(here) < FEW or size == 0:
        return None
    left = float(np.linalg.norm((found - would_be)[here]))
    larger = max(1.0, float(np.linalg.norm(would_be[here]) / np.linalg.norm(exact[here])))
    count = int(np.sum(here))
    scatter = 1 + 2.7 / math.sqrt(count)  # of the rms of so many values, once in 10,000
    expected = scatter * larger * rounding * math.sqrt(count)
    beyond = math.sqrt(max(0.0, left**2 - (OWN * expected) ** 2))
    explains = left <= min(slack * expected, ROUNDING * size) and beyond <= LEFT * size
    return left / size if explains else None


def consistent(golden: Golden) -> bool:
    """Do the shapes follow from the configuration? Then no count in it is beyond what the golden has."""
    c = golden.config
    H, H_kv, D, R = c.num_attention_heads, c.num_key_value_heads, c.head_dim, c.rotary_dim
    H_k, H_v = c.linear_num_key_heads, c.linear_num_value_heads
    K, V = c.linear_key_head_dim, c.linear_value_head_dim
    if not all(isinstance(n, int) and n > 0 for n in (H, H_kv, D, R, H_k, H_v, K, V)):
        return False
    if H % H_kv or H_v % H_k or R > D or R % 2:
        return False
    shapes: dict[tuple[int, ...], str] = {
        (R // 2,): "rope.angle rope.cos rope.sin",
        (H, D): "self_attn.q_proj self_attn.gate self_attn.q_norm self_attn.q_rope self_attn.attended "
        "self_attn.gated",
        (H_kv, D): "self_attn.k_proj self_attn.v_proj self_attn.k_norm self_attn.k_rope",
        (c.conv_channels,): "linear_attn.in_proj_qkv linear_attn.conv1d",
        (H_k, K): "linear_attn.q_norm linear_attn.k_norm",
        (H_v,): "linear_attn.in_proj_b linear_attn.beta linear_attn.in_proj_a linear_attn.g",
        (H_v, V): "linear_attn.o linear_attn.in_proj_z linear_attn.norm",
        (K, V): "linear_attn.state",
    }
    return all(
        entry.shape[1:] == shape
        for shape, kinds in shapes.items()
        for name, entry in golden.entries.items()
        if kind(name) in kinds.split()
    )
