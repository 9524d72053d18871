"""Mistakes that engines make, each planted in the model alone: named right, or not at all."""

from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
import test_conformance
import test_oracle
from test_oracle import FILE, PROMPT, dump, open_model

from qwen_ref.config import Config, Yarn
from qwen_ref.model import attention, deltanet, mlp
from qwen_ref.model.activation import gelu, gelu_tanh, sigmoid, silu, softmax
from qwen_ref.model.norm import rms_norm
from qwen_ref.model.rope import apply_rope
from qwen_ref.model.text import TextModel
from qwen_ref.model.trace import tap
from qwen_ref.oracle import golden
from qwen_ref.oracle.arithmetic import to_bfloat16, to_float16, to_int8_inputs
from qwen_ref.oracle.compare import compare
from qwen_ref.oracle.find_cause import EQUAL, TOO_LITTLE, find_cause
from qwen_ref.oracle.record import provenance, record

ROUNDING = {
    "float32": lambda name, x: x,
    "bfloat16": to_bfloat16,
    "float16": to_float16,
    "int8": lambda name, x: x if (rounded := to_int8_inputs(name, x)) is None else rounded.astype(x.dtype),
}


@pytest.fixture(scope="module")
def truth():
    return record(open_model, PROMPT, provenance(FILE.path, PROMPT))


def instead(module, name, function):
    """The model has another function in the place of one."""
    return lambda monkeypatch, model: monkeypatch.setattr(module, name, function)


def weights(change, layer=0):
    """The mixer of a layer has other weights."""
    return lambda monkeypatch, model: change(model.text.weights.layers[layer].mixer)


def other_eps(monkeypatch, model):
    config = model.text.config
    monkeypatch.setattr(TextModel, "config", replace(config, rms_norm_eps=1e-4), raising=False)
    model.text.config = TextModel.config


def l2_norm(x, of=lambda squares, N: np.sqrt(squares + 1e-6)):
    return x / of(np.sum(x * x, -1, keepdims=True), x.shape[-1]).astype(x.dtype)


def convolved(x, weight, past, later=0, taps=1, real=deltanet.causal_conv):
    window = np.concatenate([x, np.zeros_like(x[:later])])
    y, _ = real(window, weight[::taps], past)
    return y[later:], past


def delta_rule(q, k, v, g, beta, state, erases=True, decays="first", reads="new"):
    """Token by token, as the paper has it, but for the mistake."""
    o, S = np.empty_like(v), state
    for t in range(len(q)):
        decay = np.exp(g[t])[:, None, None] if decays else np.ones((1, 1, 1), v.dtype)
        S, old = (S * decay, S)
        held = np.einsum("hkv,hk->hv", old if decays == "last" else S, k[t]) * erases
        before, S = S, S + k[t][:, :, None] * (beta[t][:, None] * (v[t] - held))[:, None]
        o[t] = np.einsum("hkv,hk->hv", S if reads == "new" else before, q[t])
    return o, S


def lost(q, k, v, g, beta, state):
    parts = [delta_rule(*(x[i : i + 64] for x in (q, k, v, g, beta)), state) for i in (0, 64)]
    return np.concatenate([o for o, _ in parts]), parts[-1][1]


def attend(q, k, v, modulo=False, power=-0.5, until=0):
    (T, H, D), H_kv = q.shape, k.shape[1]
    heads = np.arange(H) % H_kv if modulo else np.arange(H) // (H // H_kv)
    scores = np.einsum("thd,shd->ths", q, k[:, heads]) * q.dtype.type(D**power)
    sees = np.tri(T, k=until, dtype=bool)
    sees[0, 0] = True
    w = softmax(np.where(sees[:, None], scores, -np.inf)).transpose(1, 0, 2)  # [T, H, S] -> [H, T, S]
    w = np.concatenate([tap(f"weights.{i}", part) for i, part in enumerate(np.split(w, H_kv))])
    return np.einsum("hts,shd->thd", w, v[:, heads])


def other_order(monkeypatch, model):
    """out_proj reads heads where they do not stand."""

    def linear(x, weight, real=deltanet.linear):
        if weight is model.text.weights.layers[0].mixer.out_proj:
            x = x.reshape(len(x), 4, -1)[:, [0, 2, 1, 3]].reshape(x.shape)
        return real(x, weight)

    monkeypatch.setattr(deltanet, "linear", linear)


delta = partial(instead, deltanet)
attends = partial(instead, attention)
rule = partial(partial, delta_rule)
GDN, ATTN = "layers.0.linear_attn.", "layers.3.self_attn."

# What is planted, the tensor where it is first seen, the name it has, and whether bfloat16 lets it be seen.
MISTAKES = {
    "eps of norms": (
        other_eps,
        "layers.0.input_layernorm", "the RMS norm has another eps, about 1e-04", False,
    ),
    "l2 missing": (delta("l2_norm", lambda x: x), GDN + "q_norm", "the l2-norm is missing", True),
    "l2 by the mean": (
        delta("l2_norm", partial(l2_norm, of=lambda s, N: np.sqrt(s / N + 1e-6))),
        GDN + "q_norm", "the l2-norm divides by the root of the mean", True,
    ),
    "l2 with a sum of eps": (
        delta("l2_norm", partial(l2_norm, of=lambda s, N: np.sqrt(s) + 1e-6)),
        GDN + "k_norm", "the l2-norm has its eps in another place", True,
    ),
    "l2 with another eps": (
        delta("l2_norm", partial(l2_norm, of=lambda s, N: np.sqrt(s + 1e-8))),
        GDN + "k_norm", "the l2-norm has another eps, about 1e-08", True,
    ),
    "beta": (delta("sigmoid", lambda x: x), GDN + "beta", "beta is in_proj_b without its sigmoid", True),
    "beta doubled": (
        delta("sigmoid", lambda x: 2 * sigmoid(x)),
        GDN + "beta", "all is off by one constant factor, 2:", True,
    ),
    "conv without SiLU": (
        delta("silu", lambda x: x),
        GDN + "conv1d", "SiLU is missing behind the convolution", True,
    ),
    "conv not causal": (
        delta("causal_conv", partial(convolved, later=2)),
        GDN + "conv1d", "the convolution is not causal", True,
    ),
    "conv reversed": (delta("causal_conv", partial(convolved, taps=-1)), GDN + "conv1d", None, True),
    "decay's sign": (
        weights(lambda w: np.negative(w.A, out=w.A)),
        GDN + "g", "the decay has the wrong sign", True,
    ),
    "no softplus": (delta("softplus", lambda x: x), GDN + "g", "softplus is missing", True),
    "no dt_bias": (weights(lambda w: w.dt_bias.fill(0)), GDN + "g", "dt_bias is missing", True),
    "A twice": (
        weights(lambda w: np.negative(np.exp(w.A), out=w.A)),
        GDN + "g", "A is exponentiated again", True,
    ),
    "A_log": (
        weights(lambda w: np.negative(np.log(-w.A), out=w.A)),
        GDN + "g", "A_log is not exponentiated", True,
    ),
    "dt_bias negated": (
        weights(lambda w: np.negative(w.dt_bias, out=w.dt_bias)),
        GDN + "g", "dt_bias is subtracted", True,
    ),
    "A is -1": (weights(lambda w: w.A.fill(-1)), GDN + "g", "A is missing in the decay", True),
    "A_log for A": (
        weights(lambda w: np.log(-w.A, out=w.A)),
        GDN + "g", "A_log stands where A = -exp(A_log) should", True,
    ),
    "no erase": (
        delta("gated_delta_chunked", rule(erases=False)),
        GDN + "o", "the delta rule does not subtract", False,
    ),
    "no decay": (
        delta("gated_delta_chunked", rule(decays="")),
        GDN + "o", "the delta rule has no decay", True,
    ),
    "late decay": (
        delta("gated_delta_chunked", rule(decays="last")),
        GDN + "o", "the delta rule reads what", False,
    ),
    "early output": (
        delta("gated_delta_chunked", rule(reads="old")),
        GDN + "o", "the delta rule gives what", True,
    ),
    "no scale": (
        delta("gated_delta_chunked", lambda q, *rest: delta_rule(q * np.float32(32**0.5), *rest)),
        GDN + "o", "all is off by one constant factor, 5.6", True,
    ),
    "state lost": (delta("gated_delta_chunked", lost), GDN + "o", "wrong from a chunk's boundary on", True),
    "z without SiLU": (
        delta("rms_norm_gated", lambda x, z, w, eps: rms_norm(x, w, eps) * z),
        GDN + "norm", "the norm is multiplied by z", True,
    ),
    "sigmoid of z": (
        delta("rms_norm_gated", lambda x, z, w, eps: rms_norm(x, w, eps) * sigmoid(z)),
        GDN + "norm", "the norm is multiplied by sigmoid(z)", True,
    ),
    "no z": (
        delta("rms_norm_gated", lambda x, z, w, eps: rms_norm(x, w, eps)),
        GDN + "norm", "the norm is not multiplied by SiLU(z)", True,
    ),
    "z first": (
        delta("rms_norm_gated", lambda x, z, w, eps: rms_norm(x * silu(z), w, eps)),
        GDN + "norm", "SiLU(z) is multiplied before the norm", True,
    ),
    "1 + in the gated norm": (
        weights(lambda w: np.add(w.norm, 1, out=w.norm)),
        GDN + "norm", "the norm has another weight: it is the checkpoint's, without 1 +", True,
    ),
    "out_proj's order": (other_order, GDN + "out_proj", None, True),
    "GELU": (instead(mlp, "silu", gelu_tanh), "layers.0.mlp.gated", "the MLP has GELU", True),
    "no SiLU": (instead(mlp, "silu", lambda x: x), "layers.0.mlp.gated", "the MLP's SiLU is missing", True),
    "no norm of queries": (
        attends("rms_norm", lambda x, w, eps: x),
        ATTN + "q_norm", "the norm is missing", True,
    ),
    "no RoPE": (attends("apply_rope", lambda x, cos, sin: x), ATTN + "q_rope", "RoPE is missing", False),
    "RoPE backwards": (
        attends("apply_rope", lambda x, cos, sin: apply_rope(x, cos, -sin)),
        ATTN + "q_rope", "RoPE turns the wrong way", False,
    ),
    "no gate": (attends("sigmoid", np.ones_like), ATTN + "gated", "the output gate is missing", True),
    "SiLU's gate": (attends("sigmoid", silu), ATTN + "gated", "the output gate is SiLU(gate)", True),
    "scores unscaled": (
        attends("causal_attention", partial(attend, power=0)),
        ATTN + "weights.0", "attention's scores are off by one constant factor, 5.6", True,
    ),
    "scores scaled twice": (
        attends("causal_attention", partial(attend, power=-1)),
        ATTN + "weights.0", "attention's scores are off by one constant factor, 0.177", True,
    ),
    "mask + 1": (
        attends("causal_attention", partial(attend, until=1)),
        ATTN + "weights.0", "the causal mask is off by one: a token sees the next", True,
    ),
    "mask - 1": (
        attends("causal_attention", partial(attend, until=-1)),
        ATTN + "weights.0", "the causal mask is off by one: a token does not see", True,
    ),
    "no mask": (
        attends("causal_attention", partial(attend, until=99)),
        ATTN + "weights.0", "the causal mask is missing", True,
    ),
    "KV heads": (
        attends("causal_attention", partial(attend, modulo=True)),
        ATTN + "weights.0", "query heads read the wrong KV heads", False,
    ),
}  # fmt: skip


def engine(monkeypatch, plant=None, arithmetic="float32"):
    monkeypatch.setattr(test_oracle, "ROUND", ROUNDING[arithmetic])
    model = open_model(np.float32)
    if plant:
        plant(monkeypatch, model)
    with np.errstate(all="ignore"):
        return dump(model)


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
def test_a_mistake_has_its_own_name(truth, monkeypatch, mistake, arithmetic):
    plant, tensor, cause, seen_in_bfloat16 = MISTAKES[mistake]
    report = compare(truth, engine(monkeypatch, plant, arithmetic), arithmetic)
    if cause is None or (report.cause is None and arithmetic == "bfloat16" and not seen_in_bfloat16):
        assert report.cause is None
    else:
        assert report.cause.startswith(cause)
        assert report.first.name == tensor or not seen_in_bfloat16


@pytest.mark.parametrize("arithmetic", ROUNDING)
def test_what_rounding_does_to_a_tensor_has_no_name(truth, monkeypatch, arithmetic):
    found = engine(monkeypatch, arithmetic=arithmetic)
    causes = {name: find_cause(truth, name, golden.as_rows(x).astype(float)) for name, x in found.items()}
    assert set(causes.values()) == {None}


@pytest.mark.parametrize(
    "mistake", ["mask + 1", "mask - 1", "KV heads", "scores unscaled", "scores scaled twice"]
)
def test_mistakes_of_attention_are_seen_behind_it(truth, monkeypatch, mistake):
    """By an engine that has no weights to show."""
    found = engine(monkeypatch, MISTAKES[mistake][0])
    report = compare(truth, {name: x for name, x in found.items() if ".weights." not in name})
    expected = {
        "scores unscaled": "attention's scores are not scaled",
        "scores scaled twice": "attention's scores are scaled by 1 / sqrt(head_dim) twice",
    }.get(mistake, MISTAKES[mistake][2])
    assert report.first.name == ATTN + "attended" and report.cause.startswith(expected)


@pytest.mark.parametrize(
    "mistake, cause",
    [
        ("l2 missing", TOO_LITTLE),
        ("late decay", TOO_LITTLE),
        ("conv reversed", TOO_LITTLE),  # for V heads in another order would be as wrong
        ("no gate", "the output gate is missing"),
        ("eps of norms", "the RMS norm has another eps"),
        ("conv without SiLU", "SiLU is missing"),
    ],
)
def test_of_some_columns_not_all_can_be_told(monkeypatch, mistake, cause):
    few = record(open_model, PROMPT, provenance(FILE.path, PROMPT), columns=20)
    assert compare(few, engine(monkeypatch, MISTAKES[mistake][0])).cause.startswith(cause)


def test_values_that_stand_elsewhere(truth):
    """Of 4 query heads, and of 4 V heads, each two of which share a K head."""
    c, values = truth.config, truth.values
    q, gate = (values[ATTN + part].reshape(-1, 4, c.head_dim) for part in ("q_proj", "gate"))
    z = values[GDN + "in_proj_z"].reshape(-1, 4, c.linear_value_head_dim)
    state = values[GDN + "state"].reshape(4, c.linear_key_head_dim, c.linear_value_head_dim)
    qk, v = np.split(values[GDN + "in_proj_qkv"], [2 * 2 * c.linear_key_head_dim], axis=1)
    v = v.reshape(z.shape)[:, [0, 2, 1, 3]].reshape(v.shape)
    radians = c.rope_theta ** (-2 * np.arange(c.rotary_dim // 2) / c.rotary_dim)
    time = PROMPT.positions[0][:, None] * radians
    halves, tiled = "q_proj is split into halves", "V heads stand in GGUF's tiled order"
    for name, found, cause in (
        (ATTN + "q_proj", gate, "query and gate are swapped"),
        (ATTN + "gate", q, "query and gate are swapped"),
        (ATTN + "q_proj", np.stack([q[:, 0], gate[:, 0], q[:, 1], gate[:, 1]], 1), halves),
        (ATTN + "gate", np.stack([q[:, 2], gate[:, 2], q[:, 3], gate[:, 3]], 1), halves),
        (GDN + "in_proj_z", z[:, [0, 2, 1, 3]], tiled),
        (GDN + "in_proj_qkv", np.concatenate([qk, v], 1), tiled),
        (GDN + "state", state[[0, 2, 1, 3]], tiled),
        (GDN + "state", state.transpose(0, 2, 1), "the state is transposed"),
        ("rope.angle", time, "RoPE knows only one coordinate"),
        ("rope.cos", np.cos(time), "RoPE knows only one coordinate"),
        ("rope.sin", np.sin(time), "RoPE knows only one coordinate"),
    ):
        told = find_cause(truth, name, found.reshape(values[name].shape))
        assert told and told.startswith(cause), (name, told)


@pytest.mark.parametrize("allow, known", [("float32", True), ("bfloat16", False)])
def test_mistakes_of_the_tower(monkeypatch, allow, known):
    """With bfloat16's noise the two GELUs are one."""
    case = test_conformance.by_name("images")
    found = test_conformance.engine(case)
    act, fc1 = "images.0.blocks.0.mlp.act", "images.0.blocks.0.mlp.linear_fc1"
    merger, patches = "images.1.merger.act", "images.0.pixel_values"
    pixels = found[patches].reshape(len(found[patches]), 3, -1)
    bias = np.random.default_rng(0).normal(size=found["images.1.patch_embed"].shape[1])
    for name, x, cause in (
        (act, gelu(found[fc1]), "GELU is exact; in the tower's blocks" if known else None),
        (act, found[fc1], "GELU is missing"),
        (merger, silu(found["images.1.merger.linear_fc1"]), "SiLU stands where GELU should"),
        (patches, pixels[:, ::-1].reshape(found[patches].shape), "the colour channels stand in reverse"),
        (patches, (found[patches] + 1) / 2, "pixels are scaled from 0 to 1"),
        ("images.1.patch_embed", found["images.1.patch_embed"] - bias, "each row is off by the same vector"),
    ):
        report = compare(case.golden, found | {name: x}, allow)
        assert (report.cause or "").startswith(cause or "") and bool(report.cause) == bool(cause), name


def test_what_is_no_cause(truth):
    """A mistake that leaves more of the error than the arithmetic does; a negative scale."""
    name = GDN + "q_norm"
    exact = truth.values[name]
    scaled = 0.5 * exact
    blurred = scaled + 0.01 * np.random.default_rng(0).normal(size=exact.shape) * np.abs(exact).mean()
    for x, cause in (scaled, "all is off by one constant factor, 0.5"), (blurred, None), (-scaled, None):
        told = compare(truth, {name: x}).cause
        assert told is None if cause is None else told.startswith(cause)
    assert compare(truth, {"logits": np.ones(truth.entries["logits"].shape)}).cause == EQUAL


def test_nothing_is_told_from_next_to_nothing(truth):
    """Any factor explains one value, and a factor of 0 explains values that are small."""
    name = GDN + "g"
    exact = truth.values[name]
    assert find_cause(truth, name, np.zeros(exact.shape)) == "all values are zero"
    small = 1e-9 * np.random.default_rng(0).normal(size=exact.shape)
    assert find_cause(truth, name, small) is None
    assert find_cause(truth, name, 1.05 * exact) is None  # that is no scale
    few = np.where(np.arange(exact.size).reshape(exact.shape) < 3, 2 * exact, np.nan)
    assert find_cause(truth, name, few, ~np.isnan(few)) is None


def test_an_error_that_grows_is_no_boundary(monkeypatch):
    """The state without its erasing: the error of token 64 is no other than that of 63."""
    monkeypatch.setattr(deltanet, "gated_delta_chunked", rule(erases=False))
    case = test_conformance.by_name("yarn")
    found = {
        name: to_bfloat16(name, x) if x.dtype.kind == "f" else x
        for name, x in test_conformance.engine(case).items()
    }
    report = compare(case.golden, found, "bfloat16")
    assert report.first.name == GDN + "o" and report.cause.startswith("the delta rule does not subtract")
    # nor is it where the rows do not let the rule be computed anew
    o = truncated(case.golden, GDN + "q_norm")
    assert find_cause(o, GDN + "o", golden.as_rows(found[GDN + "o"][o.entries[GDN + "o"].rows])) == TOO_LITTLE


def truncated(whole, name):
    """The golden without one of its tensors."""
    return replace(whole, entries={other: entry for other, entry in whole.entries.items() if other != name})


@pytest.mark.parametrize("value", [0, -1, 3, 10**12, 1.5, "x", None])
def test_a_golden_that_contradicts_itself(truth, value):
    """No mistake can be told, or the wrong one; but it is no error, and takes no memory."""
    foreign = {name: np.resize(x[:, ::-1], x.shape) for name, x in truth.values.items()}
    names = [name for name in truth.entries if name.startswith(("layers.0", "layers.3", "rope", "norm"))]
    configs = [replace(truth.config, **{f.name: value}) for f in fields(Config) if f.name != "yarn"]
    yarn = Yarn(4.0, 16, 32.0, 1.0, 1.1)
    configs += [replace(truth.config, yarn=replace(yarn, **{f.name: value})) for f in fields(Yarn)]
    for n, config in enumerate(configs):
        damaged = replace(truth, config=config)
        for name in names[n % 3 :: 3]:  # each one with a third of the fields
            find_cause(damaged, name, foreign[name])


def test_tensors_that_contradict_each_other(truth):
    """Of other rows, or of another shape: heads that are not split."""
    rng = np.random.default_rng(0)
    for name, entry in truth.entries.items():
        flat = replace(entry, shape=(entry.shape[0], int(np.prod(entry.shape[1:]))))
        short = replace(entry, rows=entry.rows[:3])
        values = truth.values | {name: truth.values[name][:3]}
        for damaged in (
            replace(truth, entries=truth.entries | {name: flat}),
            replace(truth, entries=truth.entries | {name: short}, values=values),
        ):
            part = name.rpartition(".")[0]
            for other in damaged.entries:
                if other.startswith(part) and part.startswith(("layers.0.linear", "layers.3.self")):
                    find_cause(damaged, other, rng.normal(size=damaged.values[other].shape))
