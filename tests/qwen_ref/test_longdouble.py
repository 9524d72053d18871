"""The float64 path against a plain statement of the model in long double, for one layer of each kind.

The statement goes token by token and head by head, and takes nothing from the package. Long double has 11
bits more than float64 on x86 and 60 on Arm, so what is seen is the error of float64: under 1e-13 of each
tensor's rms.
"""

import gguf
import numpy as np
import pytest

from gguf_io import open_gguf
from qwen_ref.model.text import TextModel
from qwen_ref.model.trace import watching

L = np.longdouble
pytestmark = pytest.mark.skipif(np.finfo(L).eps > 1e-18, reason="long double is no wider than float64 here")

HIDDEN, FFN, VOCAB, KERNEL = 48, 80, 60, 4
HEADS, KV_HEADS, D, R, SECTIONS = 4, 2, 24, 16, (3, 3, 2)
K_HEADS, V_HEADS, K, V = 2, 4, 16, 12
QKV = 2 * K_HEADS * K + V_HEADS * V
EPS, THETA, PI = L("1e-6"), L(10) ** 4, 4 * np.arctan(L(1))
FACTOR, TRAINED = 4, 256  # YaRN's
T = 70
# Text, a picture of 3 x 5 tokens, text: time, row and column of each token.
POSITIONS = np.array(
    [(t, t, t) for t in range(10)]
    + [(10, 10 + row, 10 + column) for row in range(3) for column in range(5)]
    + [(t, t, t) for t in range(15, 15 + T - 25)]
).T  # [3, T]

SHAPES = {
    "token_embd": (VOCAB, HIDDEN),
    "output": (VOCAB, HIDDEN),
    "output_norm": (HIDDEN,),
    "blk.0.attn_norm": (HIDDEN,),
    "blk.0.post_attention_norm": (HIDDEN,),
    "blk.0.ffn_gate": (FFN, HIDDEN),
    "blk.0.ffn_up": (FFN, HIDDEN),
    "blk.0.ffn_down": (HIDDEN, FFN),
}
ATTENTION = {
    "blk.0.attn_q": (HEADS * 2 * D, HIDDEN),
    "blk.0.attn_k": (KV_HEADS * D, HIDDEN),
    "blk.0.attn_v": (KV_HEADS * D, HIDDEN),
    "blk.0.attn_output": (HIDDEN, HEADS * D),
    "blk.0.attn_q_norm": (D,),
    "blk.0.attn_k_norm": (D,),
}
DELTANET = {
    "blk.0.attn_qkv": (QKV, HIDDEN),
    "blk.0.attn_gate": (V_HEADS * V, HIDDEN),
    "blk.0.ssm_beta": (V_HEADS, HIDDEN),
    "blk.0.ssm_alpha": (V_HEADS, HIDDEN),
    "blk.0.ssm_conv1d": (QKV, KERNEL),
    "blk.0.ssm_norm": (V,),
    "blk.0.ssm_out": (HIDDEN, V_HEADS * V),
    "blk.0.ssm_a": (V_HEADS,),
    "blk.0.ssm_dt": (V_HEADS,),
}


def random_weights(mixer):
    rng = np.random.default_rng(0)
    w = {name: rng.standard_normal(shape) / shape[-1] ** 0.5 for name, shape in (SHAPES | mixer).items()}
    w |= {name: 1 + x for name, x in w.items() if name.endswith("norm")}
    w["token_embd"] *= HIDDEN**0.5
    if "blk.0.ssm_a" in w:
        w["blk.0.ssm_a"] = -np.exp(w["blk.0.ssm_a"])
    return {name: x.astype(np.float32) for name, x in w.items()}


def write(path, weights, interval, yarn):
    writer = gguf.GGUFWriter(path, "qwen35")
    counts = {
        **{"block_count": 1, "context_length": 1024, "embedding_length": HIDDEN, "feed_forward_length": FFN},
        **{"attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS},
        **{"attention.key_length": D, "attention.value_length": D, "rope.dimension_count": R},
        **{"full_attention_interval": interval, "ssm.conv_kernel": KERNEL, "ssm.state_size": K},
        **{"ssm.group_count": K_HEADS, "ssm.time_step_rank": V_HEADS, "ssm.inner_size": V_HEADS * V},
    }
    for key, value in counts.items():
        writer.add_uint32(f"qwen35.{key}", value)
    writer.add_float32("qwen35.attention.layer_norm_rms_epsilon", float(EPS))
    writer.add_float32("qwen35.rope.freq_base", float(THETA))
    writer.add_array("qwen35.rope.dimension_sections", [*SECTIONS, 0])
    if yarn:
        writer.add_string("qwen35.rope.scaling.type", "yarn")
        writer.add_float32("qwen35.rope.scaling.factor", FACTOR)
        writer.add_uint32("qwen35.rope.scaling.original_context_length", TRAINED)
    for name, x in weights.items():
        suffix = {"blk.0.ssm_a": "", "blk.0.ssm_dt": ".bias"}.get(name, ".weight")
        writer.add_tensor(name + suffix, x)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return open_gguf(path)


# ---- the statement; every x is of one token, unless it says [T, …]


def norm(x, weight):
    return x / np.sqrt(np.mean(x * x) + EPS) * weight


def length_one(x):
    return x / np.sqrt(np.sum(x * x) + EPS)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def frequency(i, yarn):
    """Radians a position of frequency i, and what cos and sin are multiplied by."""
    f = THETA ** (-L(2 * i) / R)
    if not yarn:
        return f, L(1)
    fast, slow = (R * np.log(TRAINED / (turns * 2 * PI)) / (2 * np.log(THETA)) for turns in (L(32), L(1)))
    low, high = np.floor(fast), np.ceil(slow)
    kept = 1 - min(max((i - low) / (high - low), L(0)), L(1))
    return f / FACTOR * (1 - kept) + f * kept, np.log(L(FACTOR)) / 10 + 1


def turned(x, position, yarn):
    """x [D] by RoPE: dimension i with i + R/2, i being of the time, the row or the column in turn."""
    y = x.copy()
    for i in range(R // 2):
        axis = i % 3 if i < 3 * SECTIONS[i % 3] else 0
        f, factor = frequency(i, yarn)
        c, s = factor * np.cos(position[axis] * f), factor * np.sin(position[axis] * f)
        a, b = x[i], x[i + R // 2]
        y[i], y[i + R // 2] = a * c - b * s, b * c + a * s
    return y


def attention(x, w, positions, yarn):
    """x [T, HIDDEN] -> what is added to it, and the steps."""
    q_and_gate = (x @ w["attn_q"].T).reshape(len(x), HEADS, 2, D)
    k = (x @ w["attn_k"].T).reshape(len(x), KV_HEADS, D)
    v = (x @ w["attn_v"].T).reshape(len(x), KV_HEADS, D)
    q_rope, k_rope, attended = q_and_gate[:, :, 0].copy(), k.copy(), q_and_gate[:, :, 0].copy()
    for t in range(len(x)):
        for h in range(HEADS):
            q_rope[t, h] = turned(norm(q_and_gate[t, h, 0], w["attn_q_norm"]), positions[:, t], yarn)
        for h in range(KV_HEADS):
            k_rope[t, h] = turned(norm(k[t, h], w["attn_k_norm"]), positions[:, t], yarn)
        for h in range(HEADS):
            of = h // (HEADS // KV_HEADS)
            weights = np.exp(k_rope[: t + 1, of] @ q_rope[t, h] / np.sqrt(L(D)))  # [t + 1]
            attended[t, h] = weights @ v[: t + 1, of] / weights.sum()
    out = (attended * sigmoid(q_and_gate[:, :, 1])).reshape(len(x), -1) @ w["attn_output"].T
    return out, {"q_rope": q_rope, "k_rope": k_rope, "attended": attended, "o_proj": out}


def deltanet(x, w, positions, yarn):
    """x [T, HIDDEN] -> what is added to it, and the steps. V head h reads K head h % K_HEADS, as in GGUF."""
    raw, z = x @ w["attn_qkv"].T, (x @ w["attn_gate"].T).reshape(len(x), V_HEADS, V)
    beta = sigmoid(x @ w["ssm_beta"].T)
    g = w["ssm_a"] * np.log(1 + np.exp(x @ w["ssm_alpha"].T + w["ssm_dt"]))
    o, normed, state = np.zeros_like(z), np.zeros_like(z), np.zeros((V_HEADS, K, V), L)
    for t in range(len(x)):
        past = [(j, t - KERNEL + 1 + j) for j in range(KERNEL)]
        qkv = silu(sum(raw[s] * w["ssm_conv1d"][:, j] for j, s in past if s >= 0))
        for h in range(V_HEADS):
            at = h % K_HEADS * K
            q = length_one(qkv[at : at + K]) / np.sqrt(L(K))
            k = length_one(qkv[K_HEADS * K + at :][:K])
            v = qkv[2 * K_HEADS * K + h * V :][:V]
            S = np.exp(g[t, h]) * state[h]  # [K, V]
            S = S + np.outer(k, beta[t, h] * (v - k @ S))
            o[t, h], state[h] = q @ S, S
            normed[t, h] = norm(o[t, h], w["ssm_norm"]) * silu(z[t, h])
    out = normed.reshape(len(x), -1) @ w["ssm_out"].T
    return out, {"g": g, "o": o, "norm": normed, "state": state, "out_proj": out}


def statement(ids, weights, mixer, positions, yarn):
    """Named tensors of a model with one layer, in long double."""
    w = {name.removeprefix("blk.0."): x.astype(L) for name, x in weights.items()}
    x = w["token_embd"][ids]  # [T, HIDDEN]
    mixed, steps = mixer(np.array([norm(row, w["attn_norm"]) for row in x]), w, positions, yarn)
    place = "linear_attn" if mixer is deltanet else "self_attn"
    found = {f"layers.0.{place}.{name}": value for name, value in steps.items()}
    x = x + mixed
    normed = np.array([norm(row, w["post_attention_norm"]) for row in x])
    x = x + (silu(normed @ w["ffn_gate"].T) * (normed @ w["ffn_up"].T)) @ w["ffn_down"].T
    last = np.array([norm(row, w["output_norm"]) for row in x])
    return found | {"layers.0.output": x, "norm": last, "logits": last @ w["output"].T}


LAYERS = {
    "deltanet": (DELTANET, deltanet, 2, False),
    "attention": (ATTENTION, attention, 1, False),
    "attention with YaRN": (ATTENTION, attention, 1, True),
}


@pytest.mark.parametrize("pieces", [[5], [1] * 5, [T], [40, 1, 1, T - 42]], ids=str)
@pytest.mark.parametrize("layer", LAYERS)
def test_float64_is_exact(tmp_path, layer, pieces):
    shapes, mixer, interval, yarn = LAYERS[layer]
    weights = random_weights(shapes)
    model = TextModel(write(tmp_path / "one.gguf", weights, interval, yarn), np.float64)
    ids = np.random.default_rng(1).integers(0, VOCAB, sum(pieces))
    steps: dict[str, list] = {}
    state, start = model.new_state(), 0
    with watching(lambda name, x: steps.setdefault(name, []).append(x)):
        for piece in pieces:
            part = slice(start, start + piece)
            model.logits(model.forward(ids[part], state, POSITIONS[:, part]))
            start += piece

    errors = {}
    for name, want in statement(ids, weights, mixer, POSITIONS, yarn).items():
        got = steps[name][-1] if name.endswith("state") else np.concatenate(steps[name])
        errors[name] = float(np.abs(got - want).max() / np.sqrt(np.mean(want * want)))
    assert len(errors) == 3 + (5 if mixer is deltanet else 4)
    assert max(errors.values()) < 1e-13, errors
