"""Every kernel against its NumPy twin."""

import itertools
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite.binding import get_host_cpu_features
from threadpoolctl import threadpool_info

from gguf_io import open_gguf
from gguf_io.quants import TYPES
from gguf_io.reader import Tensor
from qwen_ref import load
from qwen_ref.kernels import KERNELS, attention, deltanet, layers, matmul_float, simd, vision
from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.simd import (
    dot_columns,
    exp,
    load_f16x16,
    load_f32x16,
    load_i8x64,
    no_sums,
    store,
    times_offset,
    to_f16,
    to_f32,
)
from qwen_ref.model.activation import sigmoid, softplus
from qwen_ref.model.deltanet import gated_delta_chunked, gated_delta_recurrent
from qwen_ref.model.layers import NUMPY
from qwen_ref.model.matrix import Budget, Matrix
from qwen_ref.model.norm import l2_norm
from qwen_ref.model.rope import rope_tables
from qwen_ref.model.text import TextModel

BY_NAME = {t.name: t for t in TYPES.values()}
SCALES = {"Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}  # bytes where a block has float16 scales; others: 0
KINDS = [*layers.INTEGER, *layers.FLOAT]
seeds = st.integers(0, 2**32 - 1)


def matrix(kind: str, rows: int, columns: int, rng, scale=None) -> Matrix:
    """Random bytes, all patterns of integers; scales of ordinary size, or all of them the one given."""
    type_ = BY_NAME[kind]
    data = rng.integers(0, 256, (rows, type_.row_bytes(columns)), np.uint8)
    if kind in layers.FLOAT:
        values = rng.standard_normal((rows, columns)).astype(np.float32)
        data = {
            "F32": values,
            "F16": values.astype(np.float16),
            "BF16": (values.view(np.uint32) >> 16).astype("u2"),
        }[kind].view(np.uint8)
    else:
        blocks = data.reshape(-1, type_.block_bytes)
        for at in SCALES.get(kind, [0]):
            size = rng.uniform(1e-3, 1e-2, len(blocks)) if scale is None else np.full(len(blocks), scale)
            blocks[:, at : at + 2] = size.astype(np.float16).view(np.uint8).reshape(-1, 2)
    return Matrix(Tensor("w", (rows, columns), type_, 0, memoryview(data.tobytes())), Budget(0))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(
    seed=seeds,
    tokens=st.sampled_from([1, 2, 3, 4, 5, 8, 33]),
    rows=st.sampled_from([1, 15, 16, 17, 40]),
    blocks=st.integers(1, 3),
    scale=st.sampled_from([None, 0.0, 6e-8, 1.0, 60_000.0]),
)
def test_products_are_those_of_the_dequantized_weights(kind, seed, tokens, rows, blocks, scale):
    """With the activations that the kernel sees, so that only the order of additions differs."""
    rng = np.random.default_rng(seed)
    weight = matrix(kind, rows, 256 * blocks, rng, scale)
    x = rng.standard_normal((tokens, 256 * blocks)).astype(np.float32) * np.float32(
        rng.choice([1e-3, 1, 100])
    )
    x[rng.integers(tokens)] *= rng.integers(0, 2)  # sometimes a row of zeros
    given_ = layers.quantize(x)
    seen = x
    if kind in layers.INTEGER:
        q, d = given_.quantized.q, given_.quantized.d
        seen = q.reshape(tokens, -1, 32) * d[:, :, None].astype(np.float64)
        assert np.abs(seen.reshape(x.shape) - x).max() <= d.max() * 0.5001 + 1e-30
    dense = weight.tensor.dequantize().astype(np.float64)
    want = seen.reshape(x.shape).astype(np.float64) @ dense.T
    size = np.abs(seen.reshape(x.shape)) @ np.abs(dense.T) + 1e-30
    got = layers.product(given_, weight)
    assert got.shape == (tokens, rows) and got.dtype == np.float32
    assert got.flags.c_contiguous  # or the kernels that take it are compiled once more
    # Q4_K's and Q5_K's two sums cancel: their own size is what rounding is relative to
    assert (
        np.abs(got - want) <= 3e-6 * size + 3e-6 * np.abs(dense).max() * np.abs(x).sum(1, keepdims=True)
    ).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [5, 16, 37])
def test_a_token_s_products_are_the_same_whatever_stands_beside_it(kind, rows):
    rng = np.random.default_rng(0)
    weight = matrix(kind, rows, 768, rng)
    x = rng.standard_normal((33, 768)).astype(np.float32)
    alone = np.concatenate([layers.linear(x[t : t + 1], weight) for t in range(len(x))])
    for tokens in 2, 3, 4, 5, 8, 16, 17, 33:
        assert (layers.linear(x[:tokens], weight) == alone[:tokens]).all(), tokens


@pytest.mark.parametrize("kind", layers.INTEGER)
@pytest.mark.parametrize("tokens", [1, 5])
def test_infinite_scales_give_no_finite_number(kind, tokens):
    weight = matrix(kind, 17, 256, np.random.default_rng(0), np.inf)
    x = np.ones((tokens, 256), np.float32)
    assert not np.isfinite(layers.product(layers.quantize(x), weight)).any()


@pytest.mark.parametrize("tokens", [1, 37])
def test_threads_change_nothing(tokens):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((tokens, 512)).astype(np.float32)
    weight = matrix("Q4_K", 200, 512, rng)
    results = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS, 1):
        numba.set_num_threads(threads)
        results.append(layers.linear(x, weight))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert (results[0] == results[1]).all() and (results[0] == results[2]).all()


def test_threads_are_numpy_s_too(threads_as_before):
    def used() -> set[int]:
        return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"} | {
            numba.get_num_threads()
        }

    most = numba.config.NUMBA_NUM_THREADS
    for threads in (1, min(most, 8)):  # a BLAS has fewer than a large machine has cores
        load(threads=threads)
        assert used() == {threads}


@kernel()
def exp_of(x, out):
    for i in range(0, x.shape[0], 16):
        store(out, i, exp(load_f32x16(x, i)))


def test_exp_is_right_to_the_last_digits():
    x = np.concatenate([np.linspace(-87, 88, 1 << 16), [-np.inf, -1e4, -100, 0] * 4]).astype(np.float32)
    out = np.empty_like(x)
    exp_of(x, out)
    with np.errstate(under="ignore"):
        want = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(out, want, rtol=3e-7, atol=1e-37)


@pytest.fixture(scope="module", params=["tiny", "tiny-grouped"])
def network(request, fixtures):
    """A BF16 file: the kernels compute with its very weights, and activations stay floats."""
    return TextModel(open_gguf(fixtures / f"{request.param}.gguf"))


@pytest.mark.parametrize("pieces", [[1], [7], [80], [1, 1, 5, 1, 66, 3]], ids=str)
def test_layers_equal_their_twins_over_a_sequence(network, pieces):
    config, rng = network.config, np.random.default_rng(0)
    for i, w in enumerate(network.weights.layers[2:4], start=2):  # a DeltaNet layer, a full-attention layer
        ours, theirs = (use.new_state(config, np.float32).layers[i] for use in (KERNELS, NUMPY))
        start = 0
        for T in pieces:
            x = rng.standard_normal((T, config.hidden_size)).astype(np.float32)
            np.testing.assert_allclose(KERNELS.mlp(x, w.mlp), NUMPY.mlp(x, w.mlp), atol=5e-6)
            normed = NUMPY.rms_norm(x, w.input_norm, 1e-6)
            np.testing.assert_allclose(KERNELS.rms_norm(x, w.input_norm, 1e-6), normed, atol=2e-6)
            if config.is_full_attention(i):
                cos, sin = rope_tables(np.tile(np.arange(start, start + T), (3, 1)), config, np.float32)
                got = KERNELS.attention(normed, w.mixer, ours, cos, sin, config)
                want = NUMPY.attention(normed, w.mixer, theirs, cos, sin, config)
                np.testing.assert_allclose(got, want, atol=2e-3)  # keys and values are float16
            else:
                got = KERNELS.deltanet(normed, w.mixer, ours, config)
                np.testing.assert_allclose(got, NUMPY.deltanet(normed, w.mixer, theirs, config), atol=1e-5)
            start += T
            ours, theirs = ours.copy(), theirs.copy()


@pytest.mark.parametrize(
    "heads, kv_heads, size", [(2, 2, 16), (2, 1, 32), (8, 2, 48), (6, 1, 16), (8, 1, 64)]
)
def test_a_token_attends_with_the_same_bits_whatever_stands_beside_it(heads, kv_heads, size):
    """In one prompt, in parts of it, alone; whatever lies behind what it sees; with any number of threads."""
    rng, T = np.random.default_rng(0), 1088  # all the room there is
    q = (2 * rng.standard_normal((T, heads * size)) / np.sqrt(size)).astype(np.float32)
    k, v = rng.standard_normal((2, kv_heads, T, size)).astype(np.float16)
    keys = np.ascontiguousarray(k.reshape(kv_heads, T // 16, 16, size).swapaxes(2, 3)).view(np.uint16)

    def attend(start, stop):
        values = v.copy()
        values[:, stop:] = 60_000  # as drafts leave it that were not accepted
        out = np.empty((stop - start, q.shape[1]), np.float32)
        tiled = values.view(np.uint16).reshape(kv_heads, T // 16, 16, size)
        attention.attend(q[start:stop], keys, tiled, start, out)
        return out

    whole = attend(0, T)
    for cuts in [0, 1, 3, 7, 64, 65, 511, 514, 1024, T], [0, 255, 258, 290, 354, 513, 929, 1085, T]:
        parts = [attend(start, stop) for start, stop in itertools.pairwise(cuts)]
        assert np.array_equal(np.concatenate(parts), whole)
    numba.set_num_threads(1)
    for t in 0, 1, 15, 16, 31, 32, 63, 64, 255, 256, 257, 511, 512, 767, 768, 1023, 1024, T - 1:
        assert np.array_equal(attend(t, t + 1)[0], whole[t])
    assert np.array_equal(attend(0, T), whole)
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)

    queries = q.reshape(T, kv_heads, -1, size).transpose(1, 2, 0, 3).astype(np.float64)
    scores = queries @ k[:, None].swapaxes(2, 3).astype(np.float64)
    scores += np.where(np.tri(T, dtype=bool), 0, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    want = p / p.sum(-1, keepdims=True) @ v[:, None].astype(np.float64)
    np.testing.assert_allclose(whole, want.transpose(2, 0, 1, 3).reshape(T, -1), atol=5e-6)


@pytest.mark.parametrize("before", [255, 256, 512])
def test_a_token_where_a_piece_begins_or_ends(network, before):
    """A piece too few, or a key that none has, is 2.5e-3 away."""
    config, rng = network.config, np.random.default_rng(2)
    w = network.weights.layers[3].mixer
    ours, theirs = (use.new_state(config, np.float32).layers[3] for use in (KERNELS, NUMPY))
    x = rng.standard_normal((before + 1, config.hidden_size)).astype(np.float32)
    cos, sin = rope_tables(np.tile(np.arange(before + 1), (3, 1)), config, np.float32)
    for part in slice(0, before), slice(before, before + 1):
        got = KERNELS.attention(x[part], w, ours, cos[part], sin[part], config)
        want = NUMPY.attention(x[part], w, theirs, cos[part], sin[part], config)
    np.testing.assert_allclose(got, want, atol=3e-4)


@pytest.mark.slow
def test_the_delta_rule_over_all_tokens_that_fit_a_context():
    """262,144 of them, with a memory of some ten thousand tokens and with one of twenty: nothing drifts."""
    rng, (n, H, K) = np.random.default_rng(0), (4096, 2, 64)
    A, dt_bias = np.array([-1e-4, -0.05], np.float32), np.zeros(H, np.float32)
    sliced = np.zeros((H, K // 32, K, 32), np.float32)
    one_by_one, chunked = np.zeros((2, H, K, K))
    for _ in range(262_144 // n):
        q, k, v = rng.standard_normal((3, n, H, K))
        q, k, v = (x.astype(np.float32) for x in (l2_norm(q) / np.sqrt(K), l2_norm(k), v))
        a, b = rng.standard_normal((2, n, H)).astype(np.float32)
        g, beta = A.astype(np.float64) * softplus(a.astype(np.float64)), sigmoid(b.astype(np.float64))
        exact = *(x.astype(np.float64) for x in (q, k, v)), g, beta
        want, one_by_one = gated_delta_recurrent(*exact, one_by_one)
        also, chunked = gated_delta_chunked(*exact, chunked)
        assert abs(also - want).max() < 1e-13 and abs(chunked - one_by_one).max() < 1e-12
        out, qkv = (
            np.empty((n, H * K), np.float32),
            np.concatenate([x.reshape(n, -1) for x in (q, k, v)], axis=1),
        )
        deltanet.recurrence(qkv, a, b, A, dt_bias, H, sliced, n, out)
        error = np.sqrt(np.mean((out.reshape(want.shape) - want) ** 2, axis=(0, 2)))
        assert (
            error < 1.5e-6 * np.sqrt(np.mean(want**2, axis=(0, 2)))
        ).all()  # 6e-7, from the first tokens on


def test_the_whole_model_is_near_the_reference(fixtures):
    """Q4_K and Q6_K weights, 8-bit activations: near, and as near token by token."""
    golden = np.load(fixtures / "tiny-wide.npz")
    network = TextModel(open_gguf(fixtures / "tiny-wide.gguf"), layers=KERNELS)
    state = network.new_state()
    whole = network.logits(network.forward(golden["token_ids"], network.new_state()))
    single = np.concatenate([network.logits(network.forward([t], state)) for t in golden["token_ids"]])
    for logits in whole, single:
        assert np.sqrt(np.mean((logits[3::4] - golden["logits"]) ** 2)) < 0.1


@kernel()
def dot_of(w, q, out):
    """out int32 [16], from what it holds on: one number in all places."""
    (sums,) = dot_columns(q, 0, 0, (load_i8x64(w, 0),), times_offset(out, 0, None, 0, 1, no_sums(1)))
    store(out, 0, sums)


def check_dot_product():
    """At the ends of what bytes may be, where 16 bits might not do."""
    for weight, x in itertools.product((-128, -127, -1, 0, 1, 63, 127), (-127, -1, 0, 127)):
        out = np.full(16, 5, np.int32)
        dot_of(np.full(64, (weight + simd.BIAS) % 256, np.uint8), np.full(4, x, np.int8), out)
        assert (out == 5 + 4 * (weight + simd.BIAS) * x).all(), (weight, x)


AVX2 = "+avx,+avx2,+fma,+f16c"


@pytest.mark.slow  # it compiles for each
@pytest.mark.parametrize(
    "cpu, features, dot",
    [("x86-64", "", "generic"), ("x86-64-v3", "", "generic"), ("haswell", AVX2, "avx2")],
    ids=["x86-64", "x86-64-v3", "haswell"],
)
def test_other_processors_have_dot_products_of_their_own(cpu, features, dot):
    if os.uname().machine != "x86_64" or (features and not get_host_cpu_features().get("avx2")):
        pytest.skip("asks for such a processor")
    program = (
        f"from test_kernels import *; assert simd.DOT == {dot!r} and simd.HAS_F16 == {bool(features)}\n"
        "check_float16(); check_dot_product()\n"
        "for kind in ('Q4_K', 'Q6_K', 'Q8_0', 'IQ4_NL'):\n"
        "    for tokens in (1, 9):\n"
        "        rng = np.random.default_rng(0); weight = matrix(kind, 20, 256, rng)\n"
        "        x = rng.standard_normal((tokens, 256)).astype(np.float32)\n"
        "        got, want = layers.linear(x, weight), NUMPY.lm_head(x, weight)\n"
        "        assert np.abs(got - want).max() < 0.02 * np.abs(want).max(), kind\n"
    )
    env = os.environ | {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    env["PYTHONPATH"] = os.path.dirname(__file__)
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_this_processor_uses_its_own_dot_product():
    features = simd.cpu_features()
    expected = "avx512vnni" if "avx512vnni" in features else "sdot" if "dotprod" in features else None
    assert expected in (None, simd.DOT)


@kernel()
def through_f16(x, bits, out):
    for i in range(0, x.shape[0], 16):
        store(bits, i, to_f16(load_f32x16(x, i)))
        store(out, i, to_f32(load_f16x16(bits, i)))


def check_float16():
    """Every float16, and float32 values between them, as NumPy converts them."""
    with np.errstate(invalid="ignore"):  # Arm processors report signalling NaNs
        every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    finite = every[np.isfinite(every)]
    middle = ((finite[:-1] + finite[1:]) / 2)[: len(finite) // 16 * 16 - 16]
    for x in every, middle, np.nextafter(middle, np.float32(9e9)), np.nextafter(middle, np.float32(-9e9)):
        bits, out = np.empty(len(x), np.uint16), np.empty(len(x), np.float32)
        through_f16(x, bits, out)
        with np.errstate(over="ignore"):
            want = x.astype(np.float16)
        nan = np.isnan(want)
        assert (bits == want.view(np.uint16))[~nan].all()
        assert (out == want.astype(np.float32))[~nan].all() and np.isnan(out[nan]).all()


def test_float16_conversion():
    check_float16()


def test_the_dot_product_of_this_processor():
    check_dot_product()


def laid_out(rng, arrays):
    """Copies of these in one stretch of memory, in any order and with any gaps between them."""
    gaps = rng.integers(0, 40, len(arrays))
    memory, at, copies = np.zeros(sum(a.size for a in arrays) + gaps.sum(), np.float32), 0, list(arrays)
    for n in rng.permutation(len(arrays)):
        at += gaps[n]
        copies[n] = memory[at : at + arrays[n].size].reshape(arrays[n].shape)
        copies[n][:] = arrays[n]
        at += arrays[n].size
    return copies


def test_results_do_not_depend_on_where_arrays_lie():
    """LLVM makes two loops of one where arrays might overlap: both must round in the same way."""
    rng, size, half = np.random.default_rng(0), 32, 4
    normal = lambda *shape: rng.standard_normal(shape, dtype=np.float32)  # noqa: E731
    angles, turns = rng.standard_normal((1, half)), rng.standard_normal((3, size // 2))
    mixed = [normal(1, 4 * size), normal(1, size), normal(1, size), normal(size), normal(size)]
    mixed += [np.cos(angles), np.sin(angles), np.zeros((1, 2 * size))]
    patches = [normal(3, 6 * size), np.cos(turns), np.sin(turns), np.zeros((2, 1, size * matmul_float.ROWS))]
    packs = size * matmul_float.TOKENS
    patches += [np.zeros((2, 1, packs)), np.zeros((2, size // matmul_float.TOKENS, matmul_float.TOKENS**2))]
    found = {"text": set(), "pictures": set()}
    for _ in range(300):
        q, k, v, q_norm, k_norm, cos, sin, out = laid_out(rng, mixed)
        keys, values = np.zeros((1, 1, size, 16), np.uint16), np.zeros((1, 1, 16, size), np.uint16)
        attention.append(q, k, v, q_norm, k_norm, 1e-6, cos, sin, keys, values, 0, out)
        found["text"].add(out.tobytes() + keys.tobytes())
        qkv, cos, sin, *heads = laid_out(rng, patches)
        vision.cut_heads(qkv, 0, cos, sin, *heads)
        found["pictures"].add(b"".join(part.tobytes() for part in heads))
    assert {name: len(results) for name, results in found.items()} == {"text": 1, "pictures": 1}
