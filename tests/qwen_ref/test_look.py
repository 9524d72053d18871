"""A look inside: beside `watching`, formulas written out here, and the model run one token at a time."""

from dataclasses import replace

import numpy as np
import pytest

import qwen_ref
from qwen_ref import QwenRefError
from qwen_ref.engine import look
from qwen_ref.kernels import KERNELS
from qwen_ref.model import deltanet
from qwen_ref.model.layers import replaced
from qwen_ref.model.trace import tap, watching
from qwen_ref.prompt import Prompt

TEXT = "What is 2 + 3? Say it – twice."


@pytest.fixture(scope="module")
def model():
    """The small model, exactly: two V heads read each of its K heads."""
    return qwen_ref.load(dtype=np.float64)


@pytest.fixture(scope="module")
def trace(model):
    return model.trace(TEXT)


@pytest.fixture
def kernels():
    return qwen_ref.load(backend="numba")


def close(a, b, bound=1e-12):
    return abs(a - b).max() <= bound * max(1.0, abs(b).max())


def grouped(config):
    """Where the heads of transformers' order lie in the model's: head v * H_k + k goes to k * G + v."""
    H_k, H_v = config.linear_num_key_heads, config.linear_num_value_heads
    G = H_v // H_k
    order = [(h % G) * H_k + h // G for h in range(H_v)]
    assert G > 1 and order != sorted(order)
    return order


def test_a_trace_is_all_that_watching_sees(model, trace):
    """Each name once, in the order in which they come; V heads in transformers' order."""
    seen, text, c = {}, model.text, model.config
    with watching(lambda name, x: seen.update({name: x.copy()})):
        text.logits(text.forward(trace.prompt.token_ids, text.new_state()))
    assert list(trace) == list(seen) and len(trace) > 150
    assert "".join(trace.tokens).replace("<0xE2><0x80><0x93>", "–") == trace.prompt.text
    order = grouped(c)
    for name, x in seen.items():
        last = name.rpartition(".")[2]
        if ".linear_attn." in name and last in ("state",):
            x = x[order]
        elif ".linear_attn." in name and last in (
            "in_proj_a",
            "in_proj_b",
            "beta",
            "g",
            "o",
            "in_proj_z",
            "norm",
        ):
            x = x[:, order]
        elif ".linear_attn." in name and last in ("in_proj_qkv", "conv1d"):
            v = x[:, 2 * c.key_dim :].reshape(len(x), c.linear_num_value_heads, -1)[:, order]
            x = np.concatenate([x[:, : 2 * c.key_dim], v.reshape(len(x), -1)], axis=1)
        elif ".weights." in name:
            x = x.transpose(1, 0, 2)
        assert (trace[name] == x).all(), name


def test_it_is_numpys_with_kernels_too(kernels):
    numpy = qwen_ref.load(backend="numpy")
    assert kernels.text.layers is KERNELS
    mine, theirs = kernels.trace(TEXT), numpy.trace(TEXT)
    assert list(mine) == list(theirs)
    assert all((mine[name] == theirs[name]).all() for name in mine)
    assert kernels.text.layers is KERNELS  # as it was


def test_attention_weights_by_head(model, trace):
    c = model.config
    H, H_kv, D, T = c.num_attention_heads, c.num_key_value_heads, c.head_dim, len(trace.tokens)
    for layer in (i for i in range(c.num_layers) if c.is_full_attention(i)):
        weights = trace.attention(layer)
        assert weights.shape == (H, T, T)
        q, k = (trace[f"layers.{layer}.self_attn.{x}_rope"] for x in "qk")
        for h in range(H):
            for t in 0, 5, T - 1:
                scores = [q[t, h] @ k[s, h // (H // H_kv)] / D**0.5 for s in range(t + 1)]
                shares = np.exp(scores) / np.exp(scores).sum()
                assert close(weights[h, t], np.concatenate([shares, np.zeros(T - t - 1)]))


def test_states_are_the_models_after_each_token(model, trace):
    """Those of a model that reads one token at a time, and of the paper's formula for one head."""
    after, text, c = {}, model.text, model.config

    def note(name, x):
        if name.endswith("linear_attn.state"):
            after.setdefault(int(name.split(".")[1]), []).append(x[grouped(c)])

    state = text.new_state()
    with watching(note):
        for token_id in trace.prompt.token_ids:
            text.forward([token_id], state)
    states = model.states(TEXT)
    assert list(states) == list(after) == [i for i in range(c.num_layers) if i % 4 != 3]
    for layer, expected in after.items():
        assert close(states[layer], np.stack(expected), 1e-9)
        assert close(states[layer][-1], trace[f"layers.{layer}.linear_attn.state"], 1e-9)
    layer, head = 4, 2
    at = f"layers.{layer}.linear_attn."
    K, V, H_k = c.linear_key_head_dim, c.linear_value_head_dim, c.linear_num_key_heads
    S = np.zeros((K, V))
    for t, found in enumerate(states.each(layer)):
        k = trace[at + "k_norm"][t, head // (c.linear_num_value_heads // H_k)]
        v = trace[at + "conv1d"][t, 2 * H_k * K + head * V :][:V]
        decay, beta = np.exp(trace[at + "g"][t, head]), trace[at + "beta"][t, head]
        S = decay * (np.eye(K) - beta * np.outer(k, k)) @ S + beta * np.outer(k, v)  # equation 10
        assert close(found[head], S, 1e-9)


def test_the_lens(model, trace):
    """Behind the last layer it is what the model says, elsewhere norm and head on the residual stream."""
    lens, c, w = trace.lens(top=4), model.config, model.text.weights
    assert list(lens) == [f"layers.{i}.{half}" for i in range(c.num_layers) for half in ("mixed", "output")]
    head = np.concatenate([panel for _, panel in w.output.panels(np.dtype(np.float64))])
    for name, best in lens.items():
        x = trace[name]
        logits = x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + c.rms_norm_eps) * w.final_norm @ head.T
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        ids = np.argsort(-p, axis=1)[:, :4]
        assert (best.token_ids == ids).all()
        assert close(np.exp(best.logprobs), np.take_along_axis(p, ids, 1), 1e-9)
    assert (lens[f"layers.{c.num_layers - 1}.output"].token_ids[:, 0] == trace["logits"].argmax(1)).all()
    told = []
    few = look.Trace(trace._text, trace.prompt, trace.tokens, dict(trace)).lens(1, lambda *n: told.append(n))
    assert told[0] == (0, 2 * c.num_layers * len(trace.tokens))
    assert (few["layers.2.mixed"].token_ids[:, 0] == lens["layers.2.mixed"].token_ids[:, 0]).all()


def test_pictures(kernels):
    """The tower's tensors are there, and what it sees stands in the places of the picture."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, 40:] = 200
    trace = kernels.trace("What is it?", images=[picture], thinking=False)
    names = list(trace)
    assert names[0] == "images.0.pixel_values" and names.index("images.0.merger.linear_fc2") < names.index(
        "embed_tokens"
    )
    seen, (span,) = trace["images.0.merger.linear_fc2"], trace.prompt.spans
    assert len(seen) == span.rows * span.columns
    assert (trace["embed_tokens"][span.start :][: len(seen)] == seen).all()
    assert trace.tokens[span.start] == "<|image_pad|>"
    assert trace.prompt.positions[0].max() < len(trace.tokens) - 1  # a picture's tokens share one time
    angle = trace["rope.angle"]
    assert (angle[span.start, 0], angle[-1, 0]) == (span.start, trace.prompt.positions[0, -1])


def test_what_was_changed_counts(kernels):
    """Replaced functions, a configuration, and an outer watch, whose values stand in the trace."""
    plain = kernels.trace(TEXT)

    def changed(trace):
        return abs(trace["logits"] - plain["logits"]).max() > 1e-3

    kernels.text.layers = replaced(KERNELS, mlp=lambda x, w: np.zeros_like(x))
    assert changed(found := kernels.trace(TEXT)) and "layers.0.mlp.gated" not in found
    assert (found["layers.0.output"] == found["layers.0.mixed"]).all()
    kernels.text.layers = KERNELS
    config = kernels.text.config
    kernels.text.config = replace(config, rope_theta=5.0)
    assert changed(kernels.trace(TEXT))
    kernels.text.config = config
    with watching(lambda name, x: np.full_like(x, np.inf) if name.endswith("self_attn.gate") else None):
        found = kernels.trace(TEXT)
    assert changed(found) and (found["layers.3.self_attn.gate"] == np.inf).all()
    assert not changed(kernels.trace(TEXT))


def test_what_cannot_be_shown_is_refused(kernels, monkeypatch):
    for name in "attention", "deltanet":
        kernels.text.layers = replaced(KERNELS, **{name: getattr(KERNELS, name)})
        with pytest.raises(QwenRefError, match=rf"^layers: {name}: stands in for a kernel, and .* NumPy's"):
            kernels.trace(TEXT)
    kernels.text.layers = KERNELS
    trace = kernels.trace(TEXT, names=["layers.0.*"])
    assert all(name.startswith("layers.0.") for name in trace) and len(trace) > 15
    for call, sentence in [
        (lambda: trace.attention(3), r"^layers\.3\.self_attn\.weights\.0: is not in this trace"),
        (lambda: trace.attention(2), r"^layer 2: has no attention weights; those are layers 3, 7$"),
        (lambda: trace.states[3], r"^layer 3: has no DeltaNet; those are layers 0, 1, 2, 4, 5, 6$"),
        (lambda: trace.lens(), r"^layers\.1\.mixed: is not in this trace"),
        (lambda: kernels.trace(TEXT, names=["nothing"]), r"^names: nothing that .* computes fits nothing$"),
        (lambda: kernels.trace(TEXT, names="logits"), r"^names: give a list of patterns, .* not a str$"),
        (lambda: kernels.trace("", raw=True), r"^the prompt: is empty$"),
        (lambda: kernels.trace(Prompt([1, 2]), raw=True), r"^raw: the prompt is encoded"),
        (lambda: kernels.trace(TEXT, special=True), r"^special: it says how to read a raw prompt$"),
        (lambda: kernels.trace(Prompt([1] * (kernels.context + 1))), r"tokens are more than a context of"),
    ]:
        with pytest.raises(QwenRefError, match=sentence):
            call()
    with pytest.raises(KeyError):
        trace["logits"]
    whole = trace.states[0].nbytes
    monkeypatch.setattr(look, "available_memory", lambda: 2 * whole - 2)
    with pytest.raises(QwenRefError, match=r"^layer 0: its states after each of \d+ tokens take .* GiB"):
        trace.states[0]
    assert sum(1 for _ in trace.states.each(0)) == len(trace.tokens)
    monkeypatch.setattr(look, "available_memory", lambda: 1 << 20)
    with pytest.raises(QwenRefError, match=r"^the prompt: what is computed on the way of \d+ tokens takes"):
        kernels.trace(TEXT)
    assert len(kernels.trace(TEXT, names=["layers.3.mixed"])) == 1


def test_states_of_another_rule_are_refused(monkeypatch):
    """Those of the delta rule would be wrong ones."""
    model = qwen_ref.load(backend="numpy")
    rule = deltanet.gated_delta_chunked
    monkeypatch.setattr(deltanet, "gated_delta_chunked", lambda *x: rule(*x[:4], x[4] / 2, x[5]))
    states = model.states(TEXT)
    with pytest.raises(QwenRefError, match=r"^layer 0: gated_delta_recurrent ends in another state"):
        states[0]


def test_a_tap_of_ones_own_has_the_order_of_the_others(model, monkeypatch):
    own = deltanet.sigmoid  # beta is the sigmoid of a tap: its double is one more
    monkeypatch.setattr(deltanet, "sigmoid", lambda x: tap("double", 2 * own(x)) / 2)
    trace = model.trace("Tell me a story.", names=["layers.0.linear_attn.*"])
    np.testing.assert_allclose(
        trace["layers.0.linear_attn.double"], 2 * trace["layers.0.linear_attn.beta"], rtol=1e-6
    )


def test_what_is_put_back_later_is_still_in_the_trace():
    model = qwen_ref.load(backend="numpy")
    plain = model.text.layers
    model.text.layers = replaced(plain, lm_head=lambda x, weight: -plain.lm_head(x, weight))
    trace = model.trace("Hi")
    model.text.layers = plain
    assert (trace.lens(1)["layers.7.output"].token_ids[:, 0] == trace["logits"].argmax(axis=1)).all()


def test_one_rule_for_prompts_and_tokens(model, monkeypatch):
    monkeypatch.setattr(
        look, "gated_delta_recurrent", lambda q, k, v, g, beta, state: (v, state + k[0, :, :, None])
    )
    with pytest.raises(QwenRefError, match="layer 0: gated_delta_recurrent ends in another state"):
        model.states("Hi")[0]


def test_values_that_make_no_sense(model):
    trace, states = model.trace("Hi"), model.states("Hi")
    assert 3 not in states and 0 in states and False not in states and 0.0 not in states
    for call, words in [
        (lambda: trace.lens(top=-1), "top: -1 is not"),
        (lambda: trace.lens(top=1.5), "top: 1.5 is not"),
        (lambda: trace.attention(3.0), "layer 3.0: has no attention"),
        (lambda: trace.attention(np.array([3, 7])), "has no attention"),
        (lambda: states[True], "layer True: has no DeltaNet"),
        (lambda: model.trace("Hi", names=[3]), r"names: \[3\] is no list of patterns"),
        (lambda: model.trace("Hi", names=[]), r"names: \[\] is no list of patterns"),
        (lambda: replaced(model.text.layers, mlp=1), "layers: mlp: 1 cannot be called"),
    ]:
        with pytest.raises(QwenRefError, match=words):
            call()
    for instead, words in [
        (lambda x: x[:1, :3], r"layers.0.input_layernorm: float64 \(1, 3\) cannot stand in"),
        (lambda x: x.astype(np.float32), "float32 .* cannot stand in for float64"),
        (lambda x: 0.5, "0.5 cannot stand in"),
    ]:

        def put(name, x, instead=instead):
            return instead(x) if name == "layers.0.input_layernorm" else None

        with watching(put), pytest.raises(QwenRefError, match=words):
            model.trace("Hi")
