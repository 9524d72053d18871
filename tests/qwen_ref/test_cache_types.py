"""Keys and values in 8 and 4 bits: the rotation, kernels beside their NumPy twins, what handles them."""

import itertools
import json
import re
from dataclasses import replace

import numba
import numpy as np
import pytest

from gguf_io import open_gguf
from qwen_ref import QwenRefError, load
from qwen_ref.cli import main
from qwen_ref.engine import Sequence, plan, step
from qwen_ref.engine.prefix_files import PrefixFiles, fingerprint, is_finite
from qwen_ref.engine.prefixes import Prefixes
from qwen_ref.errors import tell
from qwen_ref.kernels import KERNELS, attention
from qwen_ref.kernels.cache import KVCache
from qwen_ref.model import cache_types
from qwen_ref.model.cache_types import COST, PLAIN, packed, rotate, row_bytes, unpacked
from qwen_ref.model.layers import NUMPY
from qwen_ref.model.mtp import MTPLayer
from qwen_ref.model.rope import rope_tables
from qwen_ref.model.state import KVCache as NumpyCache
from qwen_ref.model.text import TextModel
from qwen_ref.oracle import record
from qwen_ref.prompt import Prompt, Rank

# Keys and values have each type once: what one does to the other would show.
PAIRS = [("q4_0", "q8_0"), ("q8_0", "f16"), ("f16", "q4_0")]
SOME = [PAIRS[0], *(pytest.param(pair, marks=pytest.mark.slow) for pair in PAIRS[1:])]  # each is compiled
GREEDY = dict(temperature=0, presence_penalty=0, raw=True)
MIB = 1 << 20


@pytest.fixture(scope="module")
def network(fixtures):
    return TextModel(open_gguf(fixtures / "tiny-grouped.gguf"), layers=KERNELS)


def read(sequence):
    out = []
    while sequence.unread:
        out += step(sequence.text, [sequence])
    return np.concatenate(out)


# ---- the rotation


@pytest.mark.parametrize("size, block", [(32, 32), (64, 64), (96, 32), (128, 128), (256, 256)])
def test_the_rotation_is_a_hadamard_matrix_that_changes_no_score(size, block):
    matrix = rotate(np.eye(size))
    assert np.allclose(abs(matrix[matrix != 0]), block**-0.5) and (matrix != 0).sum() == size * block
    assert np.allclose(matrix, matrix.T) and np.allclose(matrix @ matrix, np.eye(size))
    q, k = np.random.default_rng(0).standard_normal((2, 3, 5, size))
    assert np.allclose((rotate(q) * rotate(k)).sum(-1), (q * k).sum(-1)) and np.allclose(
        rotate(q), q @ matrix
    )
    assert rotate(q.astype(np.float32)).dtype == np.float32


def test_one_large_dimension_no_longer_costs_the_others():
    """What the rotation is for: 4 bits of a vector whose block has an outlier."""
    x = np.random.default_rng(0).standard_normal((1000, 256)).astype(np.float32)
    x[:, 5] = 60
    rest = np.arange(256) != 5
    error = abs(unpacked(packed(x, "q4_0"), "q4_0", np.float32) - x)[:, rest].mean()
    blocks = cache_types.quants.quantize_q4_0(x.reshape(-1, 32))
    plain = abs(cache_types.quants.dequantize_q4_0(blocks).reshape(x.shape) - x)[:, :32][:, rest[:32]].mean()
    assert error < 0.5 < 0.7 < plain
    assert packed(x, "q8_0").shape == (1000, row_bytes("q8_0", 256)) == (1000, 272)
    assert packed(x, "q4_0").shape == (1000, row_bytes("q4_0", 256)) == (1000, 144)
    assert row_bytes("f16", 256) == 512


# ---- kernels beside NumPy


@pytest.mark.parametrize("types", SOME, ids="-".join)
def test_attention_equals_its_twin(network, types):
    """Over a growing cache, one token and several at a time. Where both are in blocks only rounding in
    float32 is left between kernels and NumPy, and what is kept has the same bits."""
    config, w = network.config, network.weights.layers[3].mixer
    ours, theirs = (use.new_state(config, np.float32, types).layers[3] for use in (KERNELS, NUMPY))
    exact = NUMPY.new_state(config, np.float32).layers[3]
    rng, start = np.random.default_rng(0), 0
    for T in 1, 1, 5, 66, 1, 250, 1, 3:
        x = rng.standard_normal((T, config.hidden_size)).astype(np.float32)
        about = *rope_tables(np.tile(np.arange(start, start + T), (3, 1)), config, np.float32), config
        got = KERNELS.attention(x, w, ours, *about)
        want = NUMPY.attention(x, w, theirs, *about)
        np.testing.assert_allclose(got, want, atol=1e-3 if "f16" in types else 2e-6)
        plain = NUMPY.attention(x, w, exact, *about)
        start += T
        ours, theirs, exact = ours.copy(), theirs.copy(), exact.copy()
    assert 1e-4 < np.sqrt(np.mean((want - plain) ** 2)) < (0.03 if "q4_0" in types else 3e-3)
    for kind, a, b in zip(types, ours.arrays(3), theirs.arrays(3), strict=True):
        assert a.shape == b.shape and a.shape[1] == start - 3
        assert kind == "f16" or (a.dtype == np.uint8 and (a != b).mean() < 1e-4)


@pytest.mark.parametrize("types", SOME, ids="-".join)
@pytest.mark.parametrize("heads, kv_heads, size", [(2, 1, 32), (8, 2, 96)])
def test_a_token_attends_with_the_same_bits_whatever_stands_beside_it(types, heads, kv_heads, size):
    rng, T = np.random.default_rng(0), 576  # all the room there is
    q = (2 * rng.standard_normal((T, heads * size)) / np.sqrt(size)).astype(np.float32)
    x = rng.standard_normal((2, kv_heads, T, size)).astype(np.float32)
    rows = [
        some.astype(np.float16).view(np.uint16) if kind == "f16" else packed(some, kind)
        for kind, some in zip(types, x, strict=True)
    ]

    def attend(start, stop):
        cache = KVCache(kv_heads, size, types)
        cache.put(*rows)
        for room in cache.keys, cache.values:  # as drafts leave it that were not accepted
            room[:, -(-stop // 16) :] = 0x55
        assert cache.keys.shape[1] == T // 16
        out = np.empty((stop - start, q.shape[1]), np.float32)
        attention.attend(q[start:stop], cache.keys, cache.values, start, out)
        return out

    whole = attend(0, T)
    cuts = [0, 1, 3, 64, 65, 258, 511, 514, T]
    parts = [attend(start, stop) for start, stop in itertools.pairwise(cuts)]
    assert np.array_equal(np.concatenate(parts), whole)
    numba.set_num_threads(1)
    for t in 0, 15, 16, 31, 255, 256, 511, 512, T - 1:
        assert np.array_equal(attend(t, t + 1)[0], whole[t])
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)

    k, v = (
        some.astype(np.float16).astype(np.float64) if kind == "f16" else unpacked(row, kind, np.float64)
        for kind, some, row in zip(types, x, rows, strict=True)
    )
    turned = q.reshape(T, kv_heads, -1, size).transpose(1, 2, 0, 3).astype(np.float64)
    queries = turned if types[0] == "f16" else rotate(turned)  # which `append` hands over as keys are
    scores = queries @ k[:, None].swapaxes(2, 3) + np.where(np.tri(T, dtype=bool), 0, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    want = p / p.sum(-1, keepdims=True) @ v[:, None]
    np.testing.assert_allclose(whole, want.transpose(2, 0, 1, 3).reshape(T, -1), atol=1e-5)


@pytest.mark.parametrize("types", PAIRS, ids="-".join)
def test_rooms_grow_and_give_back_what_they_were_given(types):
    """Rows of GGUF's blocks, which both kinds of cache hold: the same bytes there and back."""
    rng, (heads, size) = np.random.default_rng(0), (2, 64)
    ours, theirs = KVCache(heads, size, types), NumpyCache(heads, size, np.float32, types)
    k, v = rng.standard_normal((2, 300, heads, size)).astype(np.float16).astype(np.float32)
    theirs.append(k[:250], v[:250])
    theirs.append(k[250:], v[250:])
    rows = [
        row.astype(np.float16).view(np.uint16) if kind == "f16" else row
        for kind, row in zip(types, theirs.arrays(0), strict=True)
    ]
    ours.put(*rows)
    grown = ours.copy()
    grown.reserve(500)
    grown.length = 300
    for cache in ours, grown:
        for start in 0, 1, 16, 299:
            for given, found in zip(rows, cache.arrays(start), strict=True):
                assert np.array_equal(given[:, start:], found)
    assert grown.nbytes > ours.nbytes == 320 * heads * sum(row_bytes(kind, size) for kind in types)
    ours.mark()
    ours.reserve(7)
    ours.keep(2)
    assert ours.length == 302


# ---- what handles states


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_steps_cuts_kept_prefixes_and_files(fixtures, tmp_path, caplog, backend):
    """Several texts in one step, drafts that are taken back, a kept beginning, one from a file: a fresh run,
    with the kernels bit by bit."""
    layers = KERNELS if backend == "numba" else NUMPY
    text = TextModel(open_gguf(fixtures / "tiny-grouped.gguf"), layers=layers)
    text.cache_types = PAIRS[0]
    bound = 0 if backend == "numba" else 1e-3
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 1000, (2, 90)).tolist()
    fresh = [read(Sequence(text, Prompt(one))) for one in ids]
    together = step(text, [Sequence(text, Prompt(one)) for one in ids])
    assert all(abs(a - b).max() <= bound for a, b in zip(fresh, together, strict=True))

    one = Sequence(text, Prompt(ids[0][:40]))
    read(one)
    prefixes = Prefixes(1 << 30, PrefixFiles(tmp_path, fingerprint(text, None), text.new_state()))
    prefixes.keep(np.array(ids[0][:40]), Rank.TURN, one.state)
    prefixes.save()
    one.state.mark()
    one.extend([5, 6, 7])
    step(text, [one])
    one.cut(40)
    one.extend(ids[0][40:])
    assert abs(read(one) - fresh[0][40:]).max() <= bound

    def from_file():
        files = PrefixFiles(tmp_path, fingerprint(text, None), text.new_state())
        state = text.new_state()
        return Prefixes(1 << 30, files).take(np.array(ids[0]), state), state

    for taken, state in (prefixes.take(np.array(ids[0]), new := text.new_state()), new), from_file():
        assert taken == 40
        on = Sequence(text, Prompt(ids[0]), state=state)
        assert abs(read(on) - fresh[0][40:]).max() <= bound

    text.cache_types = PLAIN  # its states are others, and lie elsewhere
    assert from_file()[0] == 0 and not caplog.messages
    text.cache_types = PAIRS[0]
    (path,) = tmp_path.glob("*/*.safetensors")
    spoil(path)
    tell.cache_clear()
    assert from_file()[0] == 0 and "growing: holds numbers that are not finite" in caplog.text


def spoil(path):
    """An infinite scale, with the checksum that belongs to it."""
    from safetensors.numpy import load_file, save_file

    from qwen_ref.engine.prefix_files import checksum

    tensors = load_file(path)
    tensors["growing.0"] = tensors["growing.0"].copy()
    tensors["growing.0"][0, 0, :2] = 0, 0x7C
    growing = [
        tensors[f"growing.{n}"] for n in range(sum(name.startswith("growing.") for name in tensors) - 1)
    ]
    found = np.frombuffer(checksum(tensors["key"], growing), np.uint8)
    save_file(tensors | {"growing.checksum": found}, path)


def test_only_scales_can_be_infinite():
    rows = np.full((1, 1, 36), 0xFF, np.uint8)  # two blocks of q4_0
    rows[..., [0, 1, 18, 19]] = 0
    assert is_finite(rows, "q4_0")
    rows[..., 19] = 0x7C
    assert not is_finite(rows, "q4_0") and is_finite(rows[..., :34], "q8_0")


def test_answers_with_drafts_are_those_without(fixtures):
    model = load(fixtures / "tiny-grouped.gguf", cache_type_k="q4_0", cache_type_v="q8_0")
    told = {
        draft: "".join(model.generate("One and one and one and", max_tokens=12, draft=draft, **GREEDY))
        for draft in ("off", "mtp", "lookup")
    }
    assert len({*told.values()}) == 1
    (layer,) = MTPLayer(model.text).new_state().layers
    assert layer.types == ("q4_0", "q8_0")


def test_a_look_inside_sees_what_the_types_do(fixtures):
    plain, few = (load(fixtures / "tiny-grouped.gguf", cache_type_k=kind) for kind in (None, "q4_0"))
    (a, b) = (model.trace("Once upon", raw=True)["layers.3.self_attn.weights.0"] for model in (plain, few))
    assert 0 < abs(a - b).max() < 0.1

    def opened(dtype):
        return load(fixtures / "tiny-grouped.gguf", dtype=dtype, backend="numpy", cache_type_v="q8_0")

    with pytest.raises(QwenRefError, match=r"^golden: is exact, and a cache of f16 and q8_0 is not"):
        record.record(opened, Prompt([1, 2, 3]), {})


# ---- what is said and chosen


def test_types_that_cannot_be(fixtures, caplog):
    tell.cache_clear()
    for bad in "q5_0", "", 8, ["q8_0"]:
        with pytest.raises(QwenRefError, match=r"^cache_type_v: .* is not one of f16, q8_0, q4_0$"):
            load(fixtures / "tiny.gguf", cache_type_v=bad)
    with pytest.raises(QwenRefError, match=r"a\.gguf: cache_type_k: q4_0 has blocks of 32, .* the 48 dim"):
        cache_types.check_types(("q4_0", "f16"), 48, "a.gguf")
    cache_types.check_types(PLAIN, 48, "a.gguf")
    load(fixtures / "tiny.gguf", cache_type_k="q8_0")
    assert not caplog.messages
    load(fixtures / "tiny.gguf", cache_type_v="q4_0")
    assert caplog.messages == [COST]


def test_the_plan_knows_their_sizes(fixtures):
    file = open_gguf(fixtures / "tiny-grouped.gguf")
    text = TextModel(file, layers=KERNELS)
    job = plan.Job(file, 131)
    for types in PLAIN, PAIRS[0]:
        text.cache_types = types
        sequence = Sequence(text, Prompt([5] * 131))
        read(sequence)
        grown = sum(array.nbytes for array in sequence.state.arrays(True))
        config = replace(text.config, num_mtp_layers=0)
        assert plan.cache_bytes(config, 131, types) == grown
        assert plan.snapshot_bytes(config, 131, types) - plan.snapshot_bytes(config, 0) == grown
        part = plan.needs(replace(job, cache_types=types)).reading[0]
        assert part.nbytes == plan.cache_bytes(text.config, 131, types)
    assert part.name == "KV cache, q4_0 keys and q8_0 values"


def test_a_limit_takes_8_bits_only_for_a_context_that_was_asked_for():
    model = load()
    job = plan.Job(model.text.file, 4096, block=64)
    memory = plan.needs(job).total + plan.MEASURED.TOKENIZER * model.config.vocab_size
    assert plan.choose(job, memory, 4096).cache_types == PLAIN
    chosen = plan.choose(job, memory - MIB, 4096)
    assert (chosen.context, chosen.cache_types) == (4096, ("q8_0", "q8_0"))
    assert "keys and values in q8_0, since they do not fit in float16" in chosen.sentence
    assert plan.choose(job, memory - MIB, None).cache_types == PLAIN
    assert plan.choose(job, memory - MIB, 4096, PLAIN).cache_types == PLAIN
    given = plan.choose(job, memory - MIB, 4096, ("q4_0", "q4_0"))
    assert given.cache_types == ("q4_0", "q4_0") and "since" not in given.sentence
    assert "--cache-type-k q8_0 --cache-type-v q8_0" in plan.advice(job, memory - 4 * MIB)
    assert not any("q8_0" in one for one in plan.advice(job, 10 * MIB))
    limited = load(context=4096, memory_limit=memory - MIB)
    assert limited.text.cache_types == ("q8_0", "q8_0") and "q8_0" in str(
        limited.text.new_state().layers[3].types
    )


def test_commands_take_them(capsys, caplog):
    types = ["--cache-type-k", "q4_0", "--cache-type-v", "q8_0"]
    assert main(["generate", "--prompt", "Hello", "-n", "4", "--greedy", "--json", *types]) == 0
    told = json.loads(capsys.readouterr().out)
    model = load(cache_type_k="q4_0", cache_type_v="q8_0")
    assert told["text"] == "".join(model.generate("Hello", max_tokens=4, temperature=0, presence_penalty=0))
    assert main(["plan", "--board", "pi5", "--context", "4096", *types]) == 0
    shown = re.search(r"KV cache, q4_0 keys and q8_0 values +([\d.]+) MiB", capsys.readouterr().out)
    assert float(shown[1]) == pytest.approx(13.5 * (18 + 34) / 128, abs=0.05)
