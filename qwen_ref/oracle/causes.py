"""Known mistakes in engines, by what they do to a tensor; find_cause.py tries them.

Each function takes a golden, the name of a tensor and what the engine has there, and yields what mistakes
would have made of the exact values: a sentence and an array, NaN where it cannot be told. It yields nothing
for tensors that it knows nothing of, and raises TooLittle where the golden keeps too little to tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from qwen_ref.config import Config
from qwen_ref.model.activation import gelu, gelu_tanh, sigmoid, silu, softmax, softplus
from qwen_ref.model.deltanet import CHUNK
from qwen_ref.model.rope import apply_rope, cos_sin, frequencies
from qwen_ref.oracle.golden import Golden

FIRST = 64  # tokens, at most, for which outputs of the delta rule and of attention are computed anew

Array = np.ndarray


class TooLittle(Exception):
    """The golden does not keep what it takes to compute what a mistake does."""


# ---- what a golden keeps


def kind(name: str) -> str:
    """layers.3.self_attn.gate, mtp.self_attn.gate -> self_attn.gate"""
    return re.sub(r"^(layers\.\d+|mtp)\.", "", name)


def beside(name: str, other: str) -> str:
    """layers.3.self_attn.gate, q_proj -> layers.3.self_attn.q_proj; of weights.0 too"""
    return re.sub(r"(weights\.)?\w+$", other, name)


def whole_rows(golden: Golden, name: str) -> Array:
    """[rows, ...] as in the tensor's own shape. Raises TooLittle if only some columns are kept."""
    entry = golden.entries.get(name)
    if entry is None or entry.stride != 1:
        raise TooLittle
    return golden.values[name].reshape(len(entry.rows), *entry.shape[1:])


def same_places(golden: Golden, name: str, *others: str) -> list[Array]:
    """Of other tensors of this one's shape the same values. Raises TooLittle if others are kept."""
    entry, entries = golden.entries[name], [golden.entries.get(other) for other in others]
    for e in entries:
        if e is None or (e.shape, e.rows, e.stride) != (entry.shape, entry.rows, entry.stride):
            raise TooLittle
    return [golden.values[other] for other in others]


def first_tokens(golden: Golden, most: int, *names: str) -> list[Array]:
    """Of each tensor so many tokens from the first on, or as many as are kept of all without a gap."""
    tensors = [whole_rows(golden, name) for name in names]
    rows = [np.array(golden.entries[name].rows) for name in names]
    count = min(most, *(int(np.sum(np.cumsum(r != np.arange(len(r))) == 0)) for r in rows))
    return [x[:count] for x in tensors]


def at_first_tokens(golden: Golden, name: str, x: Array) -> Array:
    """x of the first tokens -> of all that the golden keeps; NaN where it cannot be told."""
    entry = golden.entries[name]
    rows = np.full((len(entry.rows), *entry.shape[1:]), np.nan)
    rows[: len(x)] = x
    return rows


# ---- norms


L2_NORMS = "linear_attn.q_norm", "linear_attn.k_norm"
L2_EPS = 1e-6
EPS_ELSEWHERE = "the l2-norm has its eps in another place: it belongs inside the root, beside the sum"
OF_MTP = {"mtp.enorm": "mtp.embed_tokens", "mtp.input_layernorm": "mtp.eh_proj", "mtp.norm": "mtp.output"}
LARGEST_EPS = 1e-3  # that anyone would give to a norm


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
    return beside(name, before[kind(name)]) if kind(name) in before else None


def vectors(golden: Golden, name: str, x: Array) -> Array:
    """[rows, columns] -> [vectors that are normalized, columns]; of one that is a whole row, those kept."""
    shape = golden.entries[name].shape
    if len(shape) == 2:
        return x
    whole_rows(golden, name)
    return x.reshape(-1, shape[-1])  # [rows, H*D] -> [rows*H, D]


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


def factors(exact: Array, found: Array, axis: int | None) -> Array:
    """By which found is nearest to exact (least squares), along an axis. NaN is not known."""
    squares = np.where(np.isnan(found), 0, exact * exact).sum(axis, keepdims=True)
    return np.nansum(found * exact, axis, keepdims=True) / np.maximum(squares, np.finfo(float).tiny)


def other_l2_norm(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    if kind(name) not in L2_NORMS:
        return
    squares = square_sums(golden, name)
    x = vectors(golden, name, golden.values[name]) * np.sqrt(squares + L2_EPS)
    length, K = np.sqrt(squares), x.shape[1]
    yield "the l2-norm is missing", x
    yield "the l2-norm divides by the root of the mean, and not of the sum", x / np.sqrt(squares / K + L2_EPS)
    for divisor in np.maximum(length, L2_EPS), length + L2_EPS, np.sqrt(squares + K * L2_EPS):
        yield EPS_ELSEWHERE, x / divisor


def not_normalized(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    before = normalized(golden, name)
    if before and kind(name) != "linear_attn.norm":  # that one is gated as well
        (x,) = same_places(golden, name, before)
        yield "the norm is missing", x


def other_gated_norm(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    if kind(name) != "linear_attn.norm":
        return
    exact, (z,) = golden.values[name], same_places(golden, name, beside(name, "in_proj_z"))
    yield "the norm is multiplied by z, and not by SiLU(z)", exact / sigmoid(z)
    yield "the norm is multiplied by sigmoid(z), and not by SiLU(z)", exact / z
    yield "the norm is not multiplied by SiLU(z)", exact / silu(z)
    o, z = (whole_rows(golden, beside(name, part)) for part in ("o", "in_proj_z"))
    eps = golden.config.rms_norm_eps
    of_o, of_both = (np.mean(x * x, axis=2, keepdims=True) + eps for x in (o, o * silu(z)))  # [rows, H_v, 1]
    yield (
        "SiLU(z) is multiplied before the norm; it belongs behind it",
        exact.reshape(o.shape) * np.sqrt(of_o / of_both),
    )


def other_eps(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """Each vector is off by a factor of its own, as one other eps makes it: long ones hardly."""
    before = normalized(golden, name)
    if before is None and kind(name) not in L2_NORMS:
        return
    eps = golden.config.rms_norm_eps if before else L2_EPS
    squares = mean_squares(golden, name, before) if before else square_sums(golden, name)
    exact, found = (vectors(golden, name, x) for x in (golden.values[name], found))
    known = ~np.isnan(found).all(1)
    # factor² = (squares + eps) / (squares + other), so 1 / factor² - 1 = (other - eps) / (squares + eps)
    change = (1 / factors(exact, found, 1) ** 2 - 1)[known]
    per_eps = 1 / (squares + eps)[known]
    other = max(eps + float(np.sum(change * per_eps) / np.sum(per_eps**2)), 0.0)
    if other <= LARGEST_EPS:
        which = "RMS norm" if before else "l2-norm"
        yield (
            f"the {which} has another eps, about {other:.0e} instead of {eps:.0e}",
            exact * np.sqrt((squares + eps) / (squares + other)),
        )


def other_weight(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """Each column is off by a factor of its own, the same in every row and head."""
    if normalized(golden, name) is None and name != "mtp.hnorm":
        return
    exact, found = (vectors(golden, name, x) for x in (golden.values[name], found))
    if (~np.isnan(found)).sum(0).max() < 4:  # too few to tell a factor from any error
        return
    right = (
        "the checkpoint's, without 1 +"
        if kind(name) == "linear_attn.norm"
        else "1 + the checkpoint's, as in GGUF"
    )
    yield f"the norm has another weight: it is {right}", exact * factors(exact, found, 0)


def one_factor(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """All is off by the same factor, where the model has a scale, or engines put one."""
    if not (kind(name) in SCALED or normalized(golden, name)):
        return
    exact = golden.values[name]
    factor = factors(exact, found, None)
    if factor > 0 and max(factor, 1 / factor) > 1.2:  # nearer to 1 it is no scale
        yield (
            f"all is off by one constant factor, {factor.item():.3g}: a scale is missing, or there twice",
            exact * factor,
        )


SCALED = (
    *("embed_tokens", "rope.angle", "rope.cos", "rope.sin", "self_attn.q_rope", "self_attn.k_rope", "logits"),
    *("linear_attn.beta", "linear_attn.g", "linear_attn.o", "linear_attn.state", *L2_NORMS),
)


# ---- activations and gates


def other_activation(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    here, exact = kind(name), golden.values[name]
    if here == "linear_attn.beta":
        (b,) = same_places(golden, name, beside(name, "in_proj_b"))
        yield "beta is in_proj_b without its sigmoid", b
    if here == "linear_attn.conv1d":
        # Two values have the same SiLU, so it is what was found that SiLU is taken of.
        yield "SiLU is missing behind the convolution", found + exact - silu(found)
    if here == "self_attn.gated":
        attended, gate = same_places(golden, name, beside(name, "attended"), beside(name, "gate"))
        yield "the output gate is missing: attended * sigmoid(gate)", attended
        yield "the output gate is SiLU(gate), and not sigmoid(gate)", attended * silu(gate)
        yield "the output gate has no sigmoid", attended * gate
    if here == "mlp.gated":
        gate, up = same_places(golden, name, beside(name, "gate_proj"), beside(name, "up_proj"))
        yield "SiLU is taken of up_proj, and not of gate_proj", gate * silu(up)
        yield "the MLP has GELU in place of SiLU", gelu_tanh(gate) * up
        yield "the MLP has sigmoid in place of SiLU", sigmoid(gate) * up
        yield "the MLP's SiLU is missing", gate * up


def other_decay(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """g = A softplus(a + dt_bias), A = -exp(A_log)."""
    if kind(name) != "linear_attn.g":
        return
    exact = golden.values[name]
    yield "the decay has the wrong sign: g is at most 0", -exact
    (a,) = same_places(golden, name, beside(name, "in_proj_a"))
    A, dt_bias = decay_weights(a, exact)
    if not np.allclose(A * softplus(a + dt_bias), exact, rtol=1e-6):
        raise TooLittle
    yield "softplus is missing in the decay", A * (a + dt_bias)
    yield "dt_bias is missing in the decay", A * softplus(a)
    yield "dt_bias is subtracted in the decay", A * softplus(a - dt_bias)
    yield "A is missing in the decay: g = A softplus(…), and not -softplus(…)", -softplus(a + dt_bias)
    yield "A_log stands where A = -exp(A_log) should", np.log(-A) * softplus(a + dt_bias)
    yield "A is exponentiated again: in GGUF it is -exp(A_log) already", -np.exp(A) * softplus(a + dt_bias)
    yield "A_log is not exponentiated: g = -exp(A_log) softplus(…)", -np.log(-A) * softplus(a + dt_bias)


def decay_weights(a: Array, g: Array) -> tuple[Array, Array]:
    """a, g [rows, H_v] exact -> A, dt_bias [H_v], by bisection.

    softplus(most + dt_bias) / softplus(least + dt_bias) becomes less as dt_bias becomes more.
    """
    heads = np.arange(a.shape[1])
    least, most = (a.argmin(0), heads), (a.argmax(0), heads)
    low, high = np.full(len(heads), -100.0), np.full(len(heads), 100.0)
    for _ in range(100):
        middle = (low + high) / 2
        more = softplus(a[most] + middle) / softplus(a[least] + middle) > g[most] / g[least]
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return g[most] / softplus(a[most] + low), low


def seen_later(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """A convolution that is not causal gives, but for its ends, what a later token has."""
    if kind(name) != "linear_attn.conv1d":
        return
    exact, rows = golden.values[name], golden.entries[name].rows
    place = {row: i for i, row in enumerate(rows)}
    for later in 1, 2, 3:  # of a kernel of 4
        would_be = np.full(exact.shape, np.nan)
        for row, i in place.items():
            if row + later in place:
                would_be[i] = exact[place[row + later]]
        yield "the convolution is not causal: it sees later tokens", would_be


# ---- heads


def swapped(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    other = {"self_attn.q_proj": "gate", "self_attn.gate": "q_proj"}.get(kind(name))
    if other:
        (x,) = same_places(golden, name, beside(name, other))
        yield "query and gate are swapped", x


def halves(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """All queries first and then all gates, instead of head by head."""
    if kind(name) not in ("self_attn.q_proj", "self_attn.gate"):
        return
    q, gate = (whole_rows(golden, beside(name, part)) for part in ("q_proj", "gate"))
    together = np.concatenate([q, gate], axis=2).reshape(len(q), -1)  # [T, H, 2D] -> [T, H*2D]
    yield (
        "q_proj is split into halves; queries and gates alternate, head by head",
        np.split(together, 2, axis=1)[kind(name) == "self_attn.gate"],
    )


V_HEADS = [
    f"linear_attn.{part}" for part in ("in_proj_b", "beta", "in_proj_a", "g", "o", "in_proj_z", "norm")
]


def tiled_heads(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """V heads in GGUF's order: the values are right, but stand at other heads."""
    config, here = golden.config, kind(name)
    H_k, H_v = config.linear_num_key_heads, config.linear_num_value_heads
    with_keys = here in ("linear_attn.in_proj_qkv", "linear_attn.conv1d")
    if H_k == H_v or not (with_keys or here in V_HEADS or here == "linear_attn.state"):
        return
    exact = whole_rows(golden, name)
    tiled = np.arange(H_v).reshape(H_k, -1).T.ravel()
    if with_keys:
        qk, v = np.split(exact, [2 * config.key_dim], axis=1)
        v = v.reshape(len(v), H_v, -1)[:, tiled].reshape(v.shape)
        would_be = np.concatenate([qk, v], axis=1)
    elif here == "linear_attn.state":
        if golden.entries[name].rows != list(range(H_v)):
            raise TooLittle
        would_be = exact[tiled]
    else:
        would_be = exact[:, tiled]
    yield "V heads stand in GGUF's tiled order; in a golden those lie together that share a K head", would_be


def transposed(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    config = golden.config
    if kind(name) == "linear_attn.state" and config.linear_key_head_dim == config.linear_value_head_dim:
        yield "the state is transposed: a golden has [H, K, V]", whole_rows(golden, name).swapaxes(1, 2)


# ---- the delta rule


def other_delta_rule(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """Computed anew for as many tokens from the first on as the golden keeps without a gap."""
    here = kind(name)
    if here not in ("linear_attn.o", "linear_attn.state"):
        return
    T = len(golden.inputs["token_ids"])
    parts = (beside(name, part) for part in ("q_norm", "k_norm", "conv1d", "g", "beta"))
    q, k, conv, g, beta = first_tokens(golden, FIRST if here == "linear_attn.o" else T, *parts)
    if here == "linear_attn.state" and len(q) < T:
        raise TooLittle
    config = golden.config
    H_k, H_v = config.linear_num_key_heads, config.linear_num_value_heads
    v = conv[:, 2 * config.key_dim :].reshape(len(q), H_v, -1)  # [T, H_v*V] -> [T, H_v, V]
    q = q / np.sqrt(q.shape[-1])
    right, wrong = np.arange(H_v) // (H_v // H_k), np.arange(H_v) % H_k  # the K head of each V head

    def would_be(heads: Array, mistake: str = "") -> Array:
        o, state = delta_rule(q[:, heads], k[:, heads], v, g, beta, mistake)
        return (
            at_first_tokens(golden, name, o) if here == "linear_attn.o" else state[golden.entries[name].rows]
        )

    if H_k != H_v:
        yield (
            "V heads read the wrong K heads: repeated where they are tiled, or the other way round",
            would_be(wrong),
        )
    for mistake, sentence in DELTA_RULES.items():
        yield f"the delta rule {sentence}", would_be(right, mistake)


DELTA_RULES = {
    "no erase": "does not subtract what the state holds for the key: u = beta (v - S^T k)",
    "no decay": "has no decay: S = exp(g) S",
    "late decay": "reads what the state holds for the key before the decay, which comes first",
    "early output": "gives what the state holds before the token is written into it",
}


def delta_rule(q: Array, k: Array, v: Array, g: Array, beta: Array, mistake: str = "") -> tuple[Array, Array]:
    """q, k [T, H, K], v [T, H, V], g and beta [T, H] -> o [T, H, V], state [H, K, V], from a state of zeros.

    What qwen_ref.model.deltanet.gated_delta_recurrent does, with one of DELTA_RULES' mistakes.
    """
    o = np.empty(v.shape)
    S = np.zeros((v.shape[1], k.shape[2], v.shape[2]))
    for t in range(len(q)):
        decayed = S if mistake == "no decay" else S * np.exp(g[t])[:, None, None]
        read = S if mistake == "late decay" else decayed
        held = 0 if mistake == "no erase" else np.einsum("hkv,hk->hv", read, k[t])  # [H, V]
        u = beta[t][:, None] * (v[t] - held)  # [H, V]
        S = decayed + k[t][:, :, None] * u[:, None, :]  # [H, K, 1] * [H, 1, V]
        o[t] = np.einsum("hkv,hk->hv", decayed if mistake == "early output" else S, q[t])
    return o, S


def chunk_boundary(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """Right up to a multiple of 16 tokens, and wrong from there on: what is left then is nothing."""
    if kind(name) not in ("linear_attn.o", "linear_attn.conv1d"):
        return
    exact, rows = golden.values[name], golden.entries[name].rows
    error = np.sqrt(np.nansum((found - exact) ** 2, 1) / np.maximum(np.nansum(exact**2, 1), 1e-300))  # [rows]
    for i in range(1, len(rows)):
        at_boundary = rows[i] % (CHUNK // 4) == 0 and rows[i - 1] == rows[i] - 1
        before = max(np.sqrt(np.mean(error[:i] ** 2)), error[i - 1], 2e-7)
        if at_boundary and error[i] > 5 * before:  # it does not grow, but leaps
            yield (
                "wrong from a chunk's boundary on: the state, or the convolution's past, is lost there",
                np.concatenate([exact[:i], found[i:]]),
            )


# ---- attention


OTHER_KV_HEADS = "query heads read the wrong KV heads: h % H_kv, and not h // (H / H_kv)"
SEES_NEXT = "the causal mask is off by one: a token sees the next one"
NOT_ITSELF = "the causal mask is off by one: a token does not see itself"


def other_mask(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """Seen in attention's weights themselves: each row is right but for one place."""
    if not kind(name).startswith("self_attn.weights."):
        return
    exact = whole_rows(golden, name)  # [rows, G, S]
    token = np.array(golden.entries[name].rows)[:, None, None]
    column = np.arange(exact.shape[2])
    seen = np.where(column <= token, found.reshape(exact.shape), 0)
    right = seen / seen.sum(2, keepdims=True)  # what the engine has without the later tokens
    future = np.where(column > token + 1, np.abs(found.reshape(exact.shape)), 0).max(initial=0)
    yield (
        SEES_NEXT if future == 0 else "the causal mask is missing: tokens see later ones",
        found.reshape(exact.shape) + exact - right,
    )
    others = np.where(column == token, 0, exact)
    yield NOT_ITSELF, others / others.sum(2, keepdims=True)


def other_scale(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """Scores that are c times as large make each weight w to w**c, and all together still 1."""
    if not kind(name).startswith("self_attn.weights."):
        return
    exact = whole_rows(golden, name)  # [rows, G, S]
    found = found.reshape(exact.shape)
    share = np.where((exact > 0) & (found > 0), exact, 0)
    x, y = (np.where(share > 0, np.log(w), 0) for w in (exact, found))
    x, y = (z - np.sum(share * z, 2, keepdims=True) / share.sum(2, keepdims=True) for z in (x, y))
    factor = np.nansum(share * x * y) / np.nansum(share * x * x)
    would_be = exact**factor
    yield (
        f"attention's scores are off by one constant factor, {factor:.3g}: their scale is 1 / sqrt(head_dim)",
        would_be / would_be.sum(2, keepdims=True),
    )


def other_attention(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """Computed anew for as many tokens from the first on as the golden keeps without a gap."""
    config, here = golden.config, kind(name)
    H, H_kv, D = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    share = H // H_kv
    right, wrong = np.arange(H) // share, np.arange(H) % H_kv  # the KV head of each query head
    scale = 1 / np.sqrt(D)
    if here.startswith("self_attn.weights.") and 1 < H_kv < H:
        q, k = first_tokens(golden, FIRST, beside(name, "q_rope"), beside(name, "k_rope"))
        whole_rows(golden, name)
        weights = attention_weights(q, k[:, wrong], scale)  # [T, H, T]
        KV = int(here.rpartition(".")[2])
        # An engine may give, as a KV head's queries, those that there should be, or those that read it.
        for heads in np.flatnonzero(right == KV), np.flatnonzero(wrong == KV):
            of_all = np.zeros((len(q), share, golden.entries[name].shape[2]))
            of_all[:, :, : len(q)] = weights[:, heads]
            yield OTHER_KV_HEADS, at_first_tokens(golden, name, of_all)
    if here == "self_attn.attended":
        q, k, v = first_tokens(
            golden, FIRST, *(beside(name, part) for part in ("q_rope", "k_rope", "v_proj"))
        )

        def would_be(heads: Array, scale: float, until: int = 0) -> Array:
            weights = attention_weights(q, k[:, heads], scale, until)
            x = np.einsum("ths,shd->thd", weights, v[:, heads])
            return at_first_tokens(golden, name, x[:-1] if until > 0 else x)  # the last has no next one here

        if 1 < H_kv < H:
            yield OTHER_KV_HEADS, would_be(wrong, scale)
        yield "attention's scores are not scaled by 1 / sqrt(head_dim)", would_be(right, 1.0)
        yield "attention's scores are scaled by 1 / sqrt(head_dim) twice", would_be(right, 1 / D)
        yield SEES_NEXT, would_be(right, scale, 1)
        yield NOT_ITSELF, would_be(right, scale, -1)


def attention_weights(q: Array, k: Array, scale: float, until: int = 0) -> Array:
    """q, k [T, H, D] -> [T, H, T]; token t sees those up to t + until."""
    scores = np.einsum("thd,shd->ths", q, k) * scale
    return softmax(np.where(np.tri(len(q), k=until, dtype=bool)[:, None], scores, -np.inf))


# ---- positions


def other_rope(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """RoPE by other coordinates, or another configuration: seen in its tables, or in queries and keys."""
    here, entry, config = kind(name), golden.entries[name], golden.config
    in_tables = here in ("rope.angle", "rope.cos", "rope.sin")
    if not in_tables and here not in ("self_attn.q_rope", "self_attn.k_rope"):
        return
    kept = whole_rows(golden, name)
    positions = golden.inputs["positions"][:, entry.rows]  # [3, T] -> [3, rows]
    right = positions[frequencies(config)[0]].T  # [3, rows] -> [R/2, rows] -> [rows, R/2]

    def turned(coordinate: Array, config: Config = config) -> Array:
        cos, sin = cos_sin(coordinate, config)  # [rows, R/2]
        if in_tables:
            tables = {"rope.angle": coordinate * frequencies(config)[1], "rope.cos": cos, "rope.sin": sin}
            return np.broadcast_to(tables[name], kept.shape)
        return apply_rope(before, cos, sin)

    if not in_tables:
        before = whole_rows(golden, beside(name, here[10] + "_norm"))
        yield "RoPE is missing", before
        yield (
            "RoPE turns neighbours; dimension i turns with i + R/2",
            neighbours(before, *cos_sin(right, config)),
        )
    yield (
        "RoPE's sections are contiguous; Qwen3.5 interleaves time, row and column",
        turned(positions[contiguous(config)].T),
    )
    yield "RoPE knows only one coordinate; pictures have time, row and column", turned(positions[0][:, None])
    yield "RoPE counts from 1; the first token has position 0", turned(right + 1)
    yield "RoPE's positions are one behind", turned(np.maximum(right - 1, 0))
    if (positions[1] != positions[2]).any():
        exchanged = positions[[0, 2, 1]][frequencies(config)[0]].T
        yield "RoPE has rows and columns of pictures exchanged", turned(exchanged)
    if (first := golden.inputs["positions"].min()) > 0:
        yield f"RoPE counts from 0; the first token has position {first}", turned(right - first)
    yield "RoPE turns the wrong way: a cos - b sin, b cos + a sin", turned(-right)
    if config.yarn:
        yield "RoPE is not scaled; the file asks for YaRN", turned(right, replace(config, yarn=None))
        no_factor = replace(config, yarn=replace(config.yarn, attention_factor=1.0))
        yield "YaRN's attention factor is missing", turned(right, no_factor)
    for base in BASES:
        if config.rope_theta != base:
            yield (
                f"RoPE's base is {base:.0f}; the file says {config.rope_theta:.0f}",
                turned(right, replace(config, rope_theta=base)),
            )


BASES = 1e4, 1e5, 5e5, 1e6, 1e7  # of models that engines know


def contiguous(config: Config) -> Array:
    """Each frequency's coordinate [R/2] if those of one lie together."""
    return np.repeat(np.arange(3), [*config.mrope_section])[: config.rotary_dim // 2]


def neighbours(x: Array, cos: Array, sin: Array) -> Array:
    """x [rows, H, D] with dimension 2i turned with 2i + 1, instead of i with i + R/2."""
    R = 2 * cos.shape[1]
    order = np.concatenate([np.arange(0, R, 2), np.arange(1, R, 2), np.arange(R, x.shape[-1])])
    return apply_rope(x[..., order], cos, sin)[..., np.argsort(order)]


# ---- the vision tower


def other_pixels(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    if not name.endswith(".pixel_values"):
        return
    x = whole_rows(golden, name)
    x = x.reshape(len(x), 3, -1)  # [rows, C*2*16*16] -> [rows, C, 2*16*16]
    yield "the colour channels stand in reverse: blue, green, red", x[:, ::-1]
    yield "pixels are scaled from 0 to 1, and not from -1 to 1", (x + 1) / 2


def other_gelu(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """tanh's approximation in the blocks, the exact one in the merger."""
    if not name.endswith((".mlp.act", ".merger.act")):
        return
    (x,) = same_places(golden, name, beside(name, "linear_fc1"))
    if name.endswith(".mlp.act"):
        yield "GELU is exact; in the tower's blocks it is approximated with tanh", gelu(x)
    else:
        yield "GELU is approximated with tanh; in the merger it is exact", gelu_tanh(x)
    yield "GELU is missing", x
    yield "SiLU stands where GELU should", silu(x)


def no_patch_bias(golden: Golden, name: str, found: Array) -> Iterator[tuple[str, Array]]:
    """Each column is off by a number of its own, the same in every row."""
    if name.endswith(".patch_embed") and (~np.isnan(found)).sum(0).max() >= 4:
        exact = golden.values[name]
        yield (
            "each row is off by the same vector: the patch embedding's bias is missing, or there twice",
            exact + np.nanmean(found - exact, 0, keepdims=True),
        )
