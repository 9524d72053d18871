"""Layers against plain statements of what they compute, over many shapes and values."""

import math
from statistics import fmean, pvariance

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_ref.model.activation import gelu, gelu_tanh, sigmoid, silu, softmax, softplus
from qwen_ref.model.attention import causal_attention
from qwen_ref.model.conv import causal_conv
from qwen_ref.model.deltanet import CHUNK, gated_delta_chunked, gated_delta_recurrent
from qwen_ref.model.norm import l2_norm, layer_norm, rms_norm, rms_norm_gated
from qwen_ref.model.trace import part, tap, watching

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=40)
@given(
    seed=seeds,
    T=st.sampled_from([1, 2, 7, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5]),
    decay=st.floats(1e-4, 40),
)
def test_chunked_delta_rule_equals_the_recurrence(seed, T, decay):
    rng = np.random.default_rng(seed)
    H, K, V = 3, 8, 5
    q, k = (l2_norm(rng.standard_normal((T, H, K))) for _ in range(2))
    v, state = rng.standard_normal((T, H, V)), rng.standard_normal((H, K, V))
    g, beta = -decay * rng.random((T, H)), rng.random((T, H))
    want, want_state = gated_delta_recurrent(q, k, v, g, beta, state)
    got, got_state = gated_delta_chunked(q, k, v, g, beta, state)
    np.testing.assert_allclose(got, want, atol=1e-12)
    np.testing.assert_allclose(got_state, want_state, atol=1e-12)


def test_a_chunk_is_computed_in_float64_and_kept_in_the_state_s_type():
    q, k, v = np.random.default_rng(0).standard_normal((3, 70, 2, 8)).astype(np.float32)
    g, beta = np.full((70, 2), -0.1, np.float32), np.full((70, 2), 0.5, np.float32)
    o, state = gated_delta_chunked(q, k, v, g, beta, np.zeros((2, 8, 8), np.float32))
    assert o.dtype == state.dtype == np.float32


def test_the_delta_rule_stores_a_value_under_its_key():
    """With beta 1 and no decay, reading with the key just written gives its value: what DeltaNet is for."""
    rng = np.random.default_rng(0)
    k = l2_norm(rng.standard_normal((5, 1, 8)), eps=0)
    v = rng.standard_normal((5, 1, 3))
    ones, zeros = np.ones((5, 1)), np.zeros((5, 1))
    o, _ = gated_delta_recurrent(k, k, v, zeros, ones, rng.standard_normal((1, 8, 3)))
    np.testing.assert_allclose(o, v, atol=1e-12)


@settings(max_examples=30)
@given(seed=seeds, T=st.integers(1, 6), past=st.integers(0, 5), group=st.integers(1, 3))
def test_attention_is_a_weighted_mean_of_what_was_before(seed, T, past, group):
    rng = np.random.default_rng(seed)
    H_kv, D, S = 2, 4, past + T
    q, k, v = rng.standard_normal((T, H_kv * group, D)), *rng.standard_normal((2, S, H_kv, D))
    out = causal_attention(q, k, v)
    for t in range(T):
        for h in range(H_kv * group):
            seen = past + t + 1
            weight = np.exp(k[:seen, h // group] @ q[t, h] / np.sqrt(D))
            np.testing.assert_allclose(out[t, h], weight @ v[:seen, h // group] / weight.sum(), atol=1e-12)


def test_causal_conv_is_numpys_convolution():
    rng = np.random.default_rng(0)
    x, weight, past = rng.standard_normal((9, 3)), rng.standard_normal((4, 3)), rng.standard_normal((3, 3))
    y, new_past = causal_conv(x, weight, past)
    for c in range(3):
        joined = np.concatenate([past[:, c], x[:, c]])
        np.testing.assert_allclose(y[:, c], np.convolve(joined, weight[::-1, c], "valid"), atol=1e-12)
    assert (new_past == x[-3:]).all()
    assert new_past.base is None  # a state that is a part of the input would keep all of it in memory


def test_who_watches_and_under_which_names():
    """Until the block ends, whatever ends it; the inner one of two; what it returns is used."""
    x, seen = np.zeros(2), []

    def watch(name, value):
        seen.append(name)
        return value + 1 if name == "a.b.here" else None

    with pytest.raises(ZeroDivisionError), watching(watch), part("a"), part("b"):
        assert (tap("here", x) == 1).all() and tap("there", x) is x
        with watching(lambda name, value: None):
            assert tap("inside", x) is x
        raise ZeroDivisionError
    assert tap("after", x) is x and seen == ["a.b.here", "a.b.there"]
    with watching(watch):
        tap("here", x)
        with part("c"):
            tap("again", x)
    assert seen[2:] == ["here", "c.again"]


@pytest.mark.parametrize("dtype, bound", [(np.float32, 1e-6), (np.float64, 1e-15)])
def test_functions_of_one_number(dtype, bound):
    """As they are written down, with Python's own functions."""
    plain = {
        sigmoid: lambda x: 1 / (1 + math.exp(-x)),
        silu: lambda x: x / (1 + math.exp(-x)),
        softplus: lambda x: math.log1p(math.exp(x)),
        gelu: lambda x: x / 2 * (1 + math.erf(x / math.sqrt(2))),
        gelu_tanh: lambda x: x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    }
    x = np.array([[-5, -1.3, -0.2, 0], [0.4, 1, 2.7, 6]], dtype)
    for function, exact in plain.items():
        got = function(x)
        assert got.dtype == dtype
        np.testing.assert_allclose(got, np.vectorize(exact)(x.astype(float)), rtol=10 * bound, atol=bound)


def test_softmax_of_rows_that_lie_far_apart():
    x = np.array([[1000, 1001, -np.inf], [-1000, -1001, -1003], [0, 0, 0]], np.float32)
    for row, got in zip(x.astype(float).tolist(), softmax(x)):
        weights = [math.exp(v - max(row)) for v in row]
        np.testing.assert_allclose(got, np.array(weights) / sum(weights), rtol=1e-6)


@pytest.mark.parametrize("dtype, bound", [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_norms_of_rows(dtype, bound):
    rng = np.random.default_rng(0)
    x, gate = rng.standard_normal((2, 2, 3, 5)).astype(dtype) + dtype(0.5)
    weight, bias = rng.standard_normal((2, 5)).astype(dtype)
    results = layer_norm(x, weight, bias, 0.1), rms_norm(x, weight, 0.1), rms_norm_gated(x, gate, weight, 0.1)
    assert all(result.dtype == dtype for result in (*results, l2_norm(x, 0.1)))
    for at in np.ndindex(2, 3):
        row = x[at].astype(float).tolist()
        classic = [(v - fmean(row)) / math.sqrt(pvariance(row) + 0.1) for v in row]
        plain = [v / math.sqrt(fmean(w * w for w in row) + 0.1) for v in row]
        np.testing.assert_allclose(results[0][at], classic * weight + bias, atol=10 * bound)
        np.testing.assert_allclose(results[1][at], plain * weight, atol=10 * bound)
        np.testing.assert_allclose(results[2][at], plain * weight * silu(gate[at]), atol=10 * bound)
        length = math.sqrt(sum(w * w for w in row) + 0.1)
        np.testing.assert_allclose(l2_norm(x, 0.1)[at], np.array(row) / length, atol=10 * bound)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_inputs_stay_finite(dtype):
    x = np.array([-1e4, -100, -1, 0, 1, 100, 1e4], dtype)
    for f in sigmoid, silu, softplus:
        assert f(x).dtype == dtype and np.isfinite(f(x)).all()
    zeros = np.zeros((2, 4), dtype)
    assert (rms_norm(zeros, np.ones(4, dtype), 1e-6) == 0).all() and (l2_norm(zeros) == 0).all()
