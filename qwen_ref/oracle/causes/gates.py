"""Activations, gates, the convolution and the decay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qwen_ref.engine.look import grouped_heads
from qwen_ref.model.activation import gelu_tanh, sigmoid, silu, softplus
from qwen_ref.oracle.arithmetic import to_bfloat16
from qwen_ref.oracle.causes.cause import Array, Cause, Place, TooLittle, later, tiled_order

CONV, GATED, MLP = "linear_attn.conv1d", "self_attn.gated", "mlp.gated"
BETA, DECAY = "linear_attn.beta", "linear_attn.g"


# ---- the convolution


def reversed_taps(p: Place) -> Array:
    """Of the tokens whose inputs are all kept."""
    weight = p.weights(p.name.replace("layers", "blk").replace("linear_attn.conv1d", "ssm_conv1d.weight")).T
    weight = grouped_heads(p.name, weight, p.config)[:, :: p.entry.stride]  # [kernel, columns]
    x, kernel = p.same("in_proj_qkv"), len(weight)
    place = {row: i for i, row in enumerate(p.entry.rows)}
    would_be = np.full(p.exact.shape, np.nan)
    for row, i in place.items():
        inputs = [row - back for back in range(kernel)]  # the newest first, which the last tap is for
        if all(n in place or n < 0 for n in inputs):
            would_be[i] = silu(sum(x[place[n]] * weight[j] for j, n in enumerate(inputs) if n >= 0))
    return would_be


# ---- the decay: g = A softplus(a + dt_bias), A = -exp(A_log)


def decay(change: Callable[[Array, Array, Array], Array]) -> Callable[[Place], Array]:
    """`change` of A [H_v], a [rows, H_v] and dt_bias [H_v]."""

    def makes(p: Place) -> Array:
        a, g = p.same("in_proj_a"), p.exact
        A, dt_bias = decay_weights(a, g)
        if not np.allclose(A * softplus(a + dt_bias), g, rtol=1e-6):
            raise TooLittle
        return change(A, a, dt_bias)

    return makes


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


def tiled_decay(p: Place) -> Array | None:
    if p.config.linear_num_key_heads == p.config.linear_num_value_heads:
        return None
    p.whole()
    tiled = tiled_order(p.config)
    return decay(lambda A, a, dt_bias: A[tiled] * softplus(a + dt_bias[tiled]))(p)


CAUSES = [
    # Two values have the same SiLU, so it is what was found that SiLU is taken of.
    Cause("SiLU is missing behind the convolution", CONV, lambda p: p.found + p.exact - silu(p.found)),
    # But for its ends, a convolution that is not causal gives what a later token has, of a kernel of 4.
    *[Cause("the convolution is not causal: it sees later tokens", CONV, later(n)) for n in (1, 2, 3)],
    Cause("the convolution's taps are reversed: its last one is for the token itself", CONV, reversed_taps),
    Cause("beta is in_proj_b without its sigmoid", BETA, lambda p: p.same("in_proj_b")),
    Cause("beta is rounded to bfloat16", BETA, lambda p: to_bfloat16(p.name, p.exact)),
    Cause("the decay has the wrong sign: g is at most 0", DECAY, lambda p: -p.exact),
    Cause("softplus is missing in the decay", DECAY, decay(lambda A, a, dt_bias: A * (a + dt_bias))),
    Cause("dt_bias is missing in the decay", DECAY, decay(lambda A, a, dt_bias: A * softplus(a))),
    Cause("dt_bias is subtracted in the decay", DECAY, decay(lambda A, a, b: A * softplus(a - b))),
    Cause(
        "A is missing in the decay: g = A softplus(…), and not -softplus(…)",
        DECAY,
        decay(lambda A, a, dt_bias: -softplus(a + dt_bias)),
    ),
    Cause(
        "A_log stands where A = -exp(A_log) should",
        DECAY,
        decay(lambda A, a, dt_bias: np.log(-A) * softplus(a + dt_bias)),
    ),
    Cause(
        "A is exponentiated again: in GGUF it is -exp(A_log) already",
        DECAY,
        decay(lambda A, a, dt_bias: -np.exp(A) * softplus(a + dt_bias)),
    ),
    Cause(
        "A_log is not exponentiated: g = -exp(A_log) softplus(…)",
        DECAY,
        decay(lambda A, a, dt_bias: -np.log(-A) * softplus(a + dt_bias)),
    ),
    Cause("A and dt_bias stand in another order of V heads than a", DECAY, tiled_decay),
    Cause("the output gate is missing: attended * sigmoid(gate)", GATED, lambda p: p.same("attended")),
    Cause(
        "the output gate is SiLU(gate), and not sigmoid(gate)",
        GATED,
        lambda p: p.same("attended") * silu(p.same("gate")),
    ),
    Cause("the output gate has no sigmoid", GATED, lambda p: p.same("attended") * p.same("gate")),
    Cause(
        "SiLU is taken of up_proj, and not of gate_proj",
        MLP,
        lambda p: p.same("gate_proj") * silu(p.same("up_proj")),
    ),
    Cause(
        "the MLP has GELU in place of SiLU",
        MLP,
        lambda p: gelu_tanh(p.same("gate_proj")) * p.same("up_proj"),
    ),
    Cause(
        "the MLP has sigmoid in place of SiLU",
        MLP,
        lambda p: sigmoid(p.same("gate_proj")) * p.same("up_proj"),
    ),
    Cause("the MLP's SiLU is missing", MLP, lambda p: p.same("gate_proj") * p.same("up_proj")),
]
