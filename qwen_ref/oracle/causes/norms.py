"""RMS norms, the l2-norm of DeltaNet's queries and keys, and numbers that all is multiplied by."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from qwen_ref.model.activation import sigmoid, silu
from qwen_ref.oracle.causes.cause import MANY, Array, Cause, Place, TooLittle, factors, kind, same_places
from qwen_ref.oracle.golden import Golden

L2 = "linear_attn.q_norm linear_attn.k_norm"
L2_EPS = 1e-6
OF_HEADS = "self_attn.q_norm self_attn.k_norm"
RMS = f"norm input_layernorm post_attention_layernorm enorm {OF_HEADS}"
GATED = "linear_attn.norm"
SCALED = (
    f"{RMS} {L2} embed_tokens rope.angle rope.cos rope.sin self_attn.q_rope self_attn.k_rope "
    "linear_attn.beta linear_attn.g linear_attn.o linear_attn.state logits"
)
LARGEST_EPS = 1e-3  # that anyone would give to a norm
OF_MTP = {"mtp.enorm": "mtp.embed_tokens", "mtp.input_layernorm": "mtp.eh_proj", "mtp.norm": "mtp.output"}


def normalized(golden: Golden, name: str) -> str | None:
    """The tensor that an RMS norm is of; None if it is no RMS norm."""
    if name == "norm":
        return f"layers.{golden.config.num_layers - 1}.output"
    if found := re.fullmatch(r"layers\.(\d+)\.input_layernorm", name):
        return f"layers.{int(found[1]) - 1}.output" if int(found[1]) else "embed_tokens"
    if name in OF_MTP:
        return OF_MTP[name]
    before = {
        "post_attention_layernorm": "mixed",
        "self_attn.q_norm": "q_proj",
        "self_attn.k_norm": "k_proj",
        "linear_attn.norm": "o",
    }
    return re.sub(r"\w+$", before[kind(name)], name) if kind(name) in before else None


def vectors(golden: Golden, name: str, x: Array) -> Array:
    """[rows, columns] -> [vectors that are normalized, columns]; of one that is a whole row, those kept."""
    entry = golden.entries[name]
    if len(entry.shape) == 2:
        return x
    if entry.stride != 1:
        raise TooLittle
    return x.reshape(-1, entry.shape[-1])  # [rows, H*D] -> [rows*H, D]


def square_sums(golden: Golden, name: str) -> Array:
    """[vectors, 1]: what the l2-norm of these was divided by, which is still seen in exact values.

    y = x / sqrt(sum(x²) + eps), so sum(y²) = sum(x²) / (sum(x²) + eps).
    """
    y = np.sum(vectors(golden, name, golden.values[name]) ** 2, axis=1, keepdims=True)
    return L2_EPS * y / np.maximum(1 - y, 1e-16)


def mean_squares(golden: Golden, name: str, before: str) -> Array:
    """[vectors, 1]: of what an RMS norm is of. Of whole rows a golden has them all."""
    if len(golden.entries[name].shape) > 2:
        return np.mean(vectors(golden, before, golden.values[before]) ** 2, axis=1, keepdims=True)
    if before not in golden.row_rms:
        raise TooLittle
    return golden.row_rms[before][golden.entries[name].rows, None] ** 2


def l2(change: Callable[[Array, Array], Array]) -> Callable[[Place], Array]:
    """`change` of what is normalized [vectors, K] and its sums of squares [vectors, 1]."""

    def makes(p: Place) -> Array:
        squares = square_sums(p.golden, p.name)
        return change(vectors(p.golden, p.name, p.exact) * np.sqrt(squares + L2_EPS), squares)

    return makes


def exchanged(p: Place) -> Array | None:
    """Keys where queries should be, or the other way round."""
    other = "k_norm" if p.kind.endswith("q_norm") else "q_norm"
    there = p.golden.entries.get(p.beside(other))
    return p.same(other) if there is None or there.shape == p.entry.shape else None


def of_heads(p: Place, q_or_k: str) -> tuple[Array, Array]:
    """What the norm of queries or keys multiplies by its weight [vectors, D], and that weight [D]."""
    before, after = p.whole(f"{q_or_k}_proj"), p.whole(f"{q_or_k}_norm")
    n = before / np.sqrt(np.mean(before**2, axis=2, keepdims=True) + p.config.rms_norm_eps)  # [rows, H, D]
    return n, (n * after).sum((0, 1)) / np.maximum((n * n).sum((0, 1)), np.finfo(float).tiny)


def others_weight(p: Place) -> Array:
    own, its = ("q", "k") if p.kind.endswith("q_norm") else ("k", "q")
    return of_heads(p, own)[0] * of_heads(p, its)[1]


def gate_first(p: Place) -> Array:
    """The norm is of o SiLU(z): it divides by another root."""
    o, z = p.whole("o"), p.whole("in_proj_z")
    eps = p.config.rms_norm_eps
    of_o, of_both = (np.mean(x * x, axis=2, keepdims=True) + eps for x in (o, o * silu(z)))  # [rows, H_v, 1]
    return p.exact.reshape(o.shape) * np.sqrt(of_o / of_both)


def not_normalized(p: Place) -> Array | None:
    before = normalized(p.golden, p.name)
    return same_places(p.golden, p.name, before) if before else None


def other_eps(p: Place) -> tuple[Array, float, float] | None:
    """Each vector is off by a factor of its own, as one other eps makes it: long ones hardly."""
    before = normalized(p.golden, p.name)
    eps = p.config.rms_norm_eps if before else L2_EPS
    squares = mean_squares(p.golden, p.name, before) if before else square_sums(p.golden, p.name)
    exact, found = (vectors(p.golden, p.name, x) for x in (p.exact, p.found))
    known = ~np.isnan(found).all(1)
    # factor² = (squares + eps) / (squares + other), so 1 / factor² - 1 = (other - eps) / (squares + eps)
    change = (1 / factors(exact, found, 1) ** 2 - 1)[known]
    per_eps = 1 / (squares + eps)[known]
    other = max(eps + float(np.sum(change * per_eps) / np.sum(per_eps**2)), 0.0)
    if other > LARGEST_EPS:
        return None
    return exact * np.sqrt((squares + eps) / (squares + other)), other, eps


def other_weight(p: Place) -> Array | None:
    """Each column is off by a factor of its own, the same in every row and head."""
    exact, found = (vectors(p.golden, p.name, x) for x in (p.exact, p.found))
    if (~np.isnan(found)).sum(0).max() < 4:  # too few to tell a factor from any error
        return None
    return exact * factors(exact, found, 0)


def one_factor(p: Place) -> tuple[Array, float] | None:
    factor = factors(p.exact, p.found, None)
    if factor > 0 and max(factor, 1 / factor) > 1.2:  # nearer to 1 it is no scale
        return p.exact * factor, factor.item()
    return None


EPS_ELSEWHERE = "the l2-norm has its eps in another place: it belongs inside the root, beside the sum"
OTHER_EPS = "has another eps, about {:.0e} instead of {:.0e}"
OTHER_WEIGHT = "the norm has another weight: it is "

CAUSES = [
    Cause("the l2-norm is missing", L2, l2(lambda x, squares: x)),
    Cause(
        "the l2-norm divides by the root of the mean, and not of the sum",
        L2,
        l2(lambda x, squares: x / np.sqrt(squares / x.shape[1] + L2_EPS)),
    ),
    Cause(EPS_ELSEWHERE, L2, l2(lambda x, squares: x / np.maximum(np.sqrt(squares), L2_EPS))),
    Cause(EPS_ELSEWHERE, L2, l2(lambda x, squares: x / (np.sqrt(squares) + L2_EPS))),
    Cause(EPS_ELSEWHERE, L2, l2(lambda x, squares: x / np.sqrt(squares + x.shape[1] * L2_EPS))),
    Cause("queries and keys are exchanged", f"{L2} {OF_HEADS}", exchanged),
    Cause("the norms of queries and of keys have each other's weight", OF_HEADS, others_weight),
    Cause("the norm is missing", RMS, not_normalized),
    Cause(
        "the norm is multiplied by z, and not by SiLU(z)",
        GATED,
        lambda p: p.exact / sigmoid(p.same("in_proj_z")),
    ),
    Cause(
        "the norm is multiplied by sigmoid(z), and not by SiLU(z)",
        GATED,
        lambda p: p.exact / p.same("in_proj_z"),
    ),
    Cause("the norm is not multiplied by SiLU(z)", GATED, lambda p: p.exact / silu(p.same("in_proj_z"))),
    Cause("SiLU(z) is multiplied before the norm; it belongs behind it", GATED, gate_first),
    Cause(f"the RMS norm {OTHER_EPS}", f"{RMS} {GATED}", other_eps, 1),
    Cause(f"the l2-norm {OTHER_EPS}", L2, other_eps, 1),
    Cause(
        "all is off by one constant factor, {:.3g}: a scale is missing, or there twice", SCALED, one_factor, 1
    ),
    Cause(f"{OTHER_WEIGHT}1 + the checkpoint's, as in GGUF", f"{RMS} hnorm", other_weight, MANY),
    Cause(f"{OTHER_WEIGHT}the checkpoint's, without 1 +", GATED, other_weight, MANY),
]
