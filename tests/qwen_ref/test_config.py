"""Files that are GGUF but not the model that is wanted: refused with the field and the value."""

import re
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from rewrite import rewrite

from gguf_io import open_gguf
from qwen_ref import QwenRefError, load
from qwen_ref.config import contradiction, read_config, wrong_type

FILE = open_gguf(Path(__file__).parents[1] / "fixtures" / "tiny.gguf")
MERGES, TOKENS = FILE.metadata["tokenizer.ggml.merges"], FILE.metadata["tokenizer.ggml.tokens"]
REFUSED = {
    "another architecture": (dict(change={"general.architecture": "llama"}), "architecture 'llama'"),
    "a vision file": (dict(change={"general.architecture": "clip"}), "a vision file (mmproj)"),
    "a missing key": (
        dict(drop_keys=["qwen35.ssm.state_size"]),
        "qwen35.ssm.state_size: the metadata key is missing",
    ),
    "no layers": (dict(change={"qwen35.block_count": 0}), "qwen35.block_count: 0"),
    "layers of all kinds": (
        dict(change={"qwen35.block_count": 5}),
        "blk.4.attn_norm.weight: the tensor is missing",
    ),
    "heads": (
        dict(change={"qwen35.attention.head_count": 3}),
        "blk.3.attn_q.weight: shape (128, 64) should be (192",
    ),
    "kv heads": (dict(change={"qwen35.attention.head_count_kv": 3}), "3 does not divide 2 heads"),
    "rotary": (dict(change={"qwen35.rope.dimension_count": 10}), "[2, 1, 1] do not add up to 5"),
    "epsilon": (
        dict(change={"qwen35.attention.layer_norm_rms_epsilon": float("nan")}),
        "nan is not a positive",
    ),
    "scaling": (dict(change={"qwen35.rope.scaling.type": "linear"}), "'linear' is not supported"),
    "V heads": (dict(change={"qwen35.ssm.time_step_rank": 3}), "qwen35.ssm.time_step_rank: 3 value heads"),
    "a missing tensor": (dict(drop_tensors=["blk.2.ssm_a"]), "blk.2.ssm_a: the tensor is missing"),
    "no embedding": (dict(drop_tensors=["token_embd.weight"]), "token_embd.weight: the tensor is missing"),
    "a wrong shape": (
        dict(shapes={"blk.0.ssm_norm.weight": 33}),
        "blk.0.ssm_norm.weight: shape (33,) should be (32,)",
    ),
    "no tokenizer": (
        dict(drop_keys=["tokenizer.ggml.model"]),
        "tokenizer.ggml.model: the metadata key is missing",
    ),
    "sentencepiece": (dict(change={"tokenizer.ggml.model": "llama"}), "'llama' is not byte-level BPE"),
    "pre-tokenizer": (
        dict(change={"tokenizer.ggml.pre": "gpt-2"}),
        "tokenizer.ggml.pre: 'gpt-2' is not Qwen3.5's",
    ),
    "no pre-tokenizer": (
        dict(drop_keys=["tokenizer.ggml.pre"]),
        "tokenizer.ggml.pre: the metadata key is missing",
    ),
    "a begin token": (
        dict(change={"tokenizer.ggml.add_bos_token": True}),
        "tokenizer.ggml.add_bos_token: is set",
    ),
    "pre-tokenizers": (
        dict(change={"tokenizer.ggml.pre": ["qwen35"]}),
        "tokenizer.ggml.pre: ['qwen35'] is not",
    ),
    "tokens that may not come": (
        dict(change={"tokenizer.ggml.suppress_tokens": [3]}),
        "tokenizer.ggml.suppress_tokens: is set",
    ),
    "an end that is no token": (
        dict(change={"tokenizer.ggml.eos_token_id": 1024}),
        "tokenizer.ggml.eos_token_id: [1024] is no token's number",
    ),
    "types of no kind": (
        dict(change={"tokenizer.ggml.token_type": [0] * 1024}),
        "token_type: are not numbers from 1",
    ),
    "merges of numbers": (
        dict(change={"tokenizer.ggml.merges": [1, 2]}),
        "tokenizer.ggml.merges: is no list of texts",
    ),
    "merges of nothing": (
        dict(change={"tokenizer.ggml.merges": ["no such"]}),
        "1 are too few for 984 tokens",
    ),
    "ten merges less": (
        dict(change={"tokenizer.ggml.merges": MERGES[10:]}),
        "718 are too few for 984 tokens",
    ),
    "half of the merges": (
        dict(change={"tokenizer.ggml.merges": MERGES[::2]}),
        f"364 are too few for 984 tokens ({TOKENS[257]!r} is made by none)",
    ),
    "a merge without a blank": (
        dict(change={"tokenizer.ggml.merges": [*MERGES[:-1], MERGES[-1].replace(" ", "")]}),
        f"merges: number {len(MERGES) - 1}, {MERGES[-1].replace(' ', '')!r}, is not two tokens",
    ),
    "an unknown tensor": (
        dict(add={"blk.1.attn_sinks.weight": np.ones(4, np.float32)}),
        "blk.1.attn_sinks.weight: a tensor that nothing in Qwen3.5 uses",
    ),
    "a bias": (
        dict(add={"blk.3.attn_q.bias": np.ones(128, np.float32)}),
        "blk.3.attn_q.bias: a tensor that nothing",
    ),
    "a scale for each row": (
        dict(add={"blk.0.ffn_gate.scale": np.ones(128, np.float32)}),
        "blk.0.ffn_gate.scale: shape (128,) should be (1,)",
    ),
    "a scale that is no number": (
        dict(add={"blk.0.ffn_gate.scale": np.full(1, np.nan, np.float32)}),
        "blk.0.ffn_gate.scale: nan is not a finite number",
    ),
    "an adapter": (dict(change={"general.type": "adapter"}), "general.type: this is no model but 'adapter'"),
    "tokens without rows": (dict(change={"qwen35.vocab_size": 1025}), "qwen35.vocab_size: 1025 tokens, but"),
    "sections twice": (
        dict(change={"qwen35.mrope_sections": [1, 2, 1]}),
        "qwen35.mrope_sections: contradicts rope.dimension_sections, [2, 1, 1, 0]",
    ),
    "a scale of a tied output": (
        dict(add={"output.scale": np.ones(1, np.float32)}),
        "output.scale: a tensor that nothing",
    ),
    "a scale of an embedding": (
        dict(add={"token_embd.scale": np.ones(1, np.float32)}),
        "token_embd.scale: a tensor that nothing",
    ),
    "an ordinary block too many": (
        dict(add={"blk.4.attn_norm.weight": np.ones(64, np.float32)}),
        "blk.4.attn_norm.weight: a tensor that nothing",
    ),
    "an unknown key": (
        dict(change={"qwen35.attention.scale": 0.5}),
        "qwen35.attention.scale: 0.5: this key is not",
    ),
    "a key with another value": (
        dict(change={"qwen35.rope.mrope_interleaved": False}),
        "qwen35.rope.mrope_interleaved: False is not supported, only True",
    ),
    "windows of layers": (
        dict(change={"qwen35.attention.sliding_window": [0, 64]}),
        "qwen35.attention.sliding_window: array([ 0, 64]",
    ),
    "a factor without a type": (
        dict(change={"qwen35.rope.scaling.factor": 4.0}),
        "qwen35.rope.scaling.factor: 4.0: this key is not known",
    ),
    "KV heads of no use": (
        dict(change={"qwen35.attention.head_count_kv": [1, 1, 1, 0]}),
        "head_count_kv: 0 is not a whole number from 1",
    ),
    "KV heads of too few layers": (
        dict(change={"qwen35.attention.head_count_kv": [0, 0, 0]}),
        "3 values are not one for each block",
    ),
    "layers of two widths": (
        dict(change={"qwen35.feed_forward_length": [128, 128, 128, 256]}),
        "qwen35.feed_forward_length: layers of different sizes",
    ),
    "irregular layers": (
        dict(change={"qwen35.attention.recurrent_layers": [True, False, False, True]}),
        "recurrent_layers: layers of full attention that do not come every so many",
    ),
    "an interval that contradicts": (
        dict(change={"qwen35.attention.recurrent_layers": [True, False, True, False]}),
        "qwen35.full_attention_interval: 4 contradicts attention.recurrent_layers, where it is 2",
    ),
    "types": (dict(change={"tokenizer.ggml.token_type": [1, 1]}), "2 types for 1024 tokens"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_field_and_value(fixtures, tmp_path, name):
    changes, words = REFUSED[name]
    path = rewrite(fixtures / "tiny.gguf", tmp_path / "changed.gguf", **changes)
    with pytest.raises(QwenRefError, match=re.escape(words)) as error:
        load(path).tokenizer.encode("x")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("qwen35.rope.dimension_sections", 3, "3 is no list of whole numbers"),
        ("qwen35.rope.dimension_sections", [2.5, 1.0, 1.0], "is no list of whole numbers"),
        ("qwen35.rope.dimension_sections", [2, 1, 1, 1], "[2, 1, 1, 1] are not three numbers"),
        ("qwen35.embedding_length", [64] * 99, "is not a whole number from 1"),
        ("qwen35.ssm.conv_kernel", 1, "1 is not a whole number from 2 to 64"),
        ("tokenizer.ggml.pre", ["qwen35"], "['qwen35'] is not Qwen3.5's"),
        ("tokenizer.ggml.tokens", 5, "is no list of texts"),
        ("tokenizer.ggml.tokens", [5] * 1024, "is no list of texts"),
        ("tokenizer.ggml.token_type", 1, "is no list of whole numbers"),
        ("tokenizer.ggml.token_type", ["1"] * 1024, "is no list of whole numbers"),
        ("tokenizer.ggml.merges", [1, 2], "is no list of texts"),
        ("tokenizer.ggml.add_eos_token", True, "is set, which is not Qwen3.5's way"),
        ("tokenizer.ggml.eos_token_id", "a", "['a'] is no token's number"),
        ("tokenizer.ggml.eom_token_id", 1024, "[1024] is no token's number"),
        ("tokenizer.ggml.eos_token_ids", [0, -1], "[0, -1] is no token's number"),
    ],
)
def test_values_of_another_kind(fixtures, tmp_path, key, value, words):
    path = rewrite(fixtures / "tiny.gguf", tmp_path / "x.gguf", drop_keys=[key], change={key: value})
    with pytest.raises(QwenRefError) as error:
        load(path).tokenizer.encode("x")
    assert (
        f"x.gguf: {key}: " in str(error.value) and words in str(error.value) and "\n" not in str(error.value)
    )


def test_text_and_vision_in_one_file_loads(fixtures, tmp_path):
    path = rewrite(
        fixtures / "tiny.gguf", tmp_path / "both.gguf", add={"v.blk.0.x.weight": np.ones(3, np.float32)}
    )
    assert load(path).config.num_layers == 4


def logits(path, backend="numpy", dtype=np.float64):
    """[3, vocab] of three tokens."""
    model = load(path, backend=backend, dtype=dtype)
    return model.text.logits(model.text.forward([5, 700, 30], model.text.new_state()))


@pytest.mark.parametrize("backend, dtype, error", [("numpy", np.float64, 0), ("numba", np.float32, 2e-5)])
def test_products_are_multiplied_by_the_scale_beside_a_weight(fixtures, tmp_path, backend, dtype, error):
    """0.5 and 2 change only the exponents of BF16, so the products come out the same to the bit."""
    scaled = (
        "blk.0.ffn_gate blk.1.ffn_down blk.2.attn_qkv blk.1.ssm_out blk.3.attn_q blk.3.attn_output".split()
    )
    reader = gguf.GGUFReader(fixtures / "tiny.gguf")
    weights = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    halves = {f"{name}.weight": weights[f"{name}.weight"] / 2 for name in scaled}
    output = {"output.weight": weights["token_embd.weight"] / 2}
    plain = rewrite(fixtures / "tiny.gguf", tmp_path / "a.gguf", drop_tensors=halves, add=halves | output)
    scales = {f"{name}.scale": np.full(1, 0.5, np.float32) for name in scaled}
    scales |= {f"{name}.input_scale": np.full(1, 7, np.float32) for name in scaled}  # of activations only
    scales |= {"output.weight": weights["token_embd.weight"], "output.scale": np.full(1, 0.5, np.float32)}
    beside = rewrite(fixtures / "tiny.gguf", tmp_path / "b.gguf", add=scales)
    np.testing.assert_allclose(
        logits(beside, backend, dtype), logits(plain, backend, dtype), rtol=0, atol=error
    )
    assert abs(logits(beside) - logits(fixtures / "tiny.gguf")).max() > 0.01


def test_four_bits_with_two_scales(fixtures, tmp_path):
    """NVFP4 has a scale for 16 numbers in the tensor, and one for all beside it."""
    rng, kind = np.random.default_rng(0), gguf.GGMLQuantizationType.NVFP4
    data = rng.integers(0, 256, (128, 36), np.uint8)  # per row: 4 scales, 64 numbers of 4 bits
    data[:, :4] = rng.integers(0x20, 0x30, (128, 4))
    two = {"blk.0.ffn_gate.weight": (data, kind), "blk.0.ffn_gate.scale": np.full(1, 0.37, np.float32)}
    one = {"blk.0.ffn_gate.weight": gguf.dequantize(data, kind) * np.float32(0.37)}
    dropped = ["blk.0.ffn_gate.weight"]
    paths = [
        rewrite(fixtures / "tiny.gguf", tmp_path / f"{len(add)}.gguf", drop_tensors=dropped, add=add)
        for add in (one, two)
    ]
    for options in {}, dict(backend="numba", dtype=np.float32):
        np.testing.assert_allclose(*(logits(path, **options) for path in paths), rtol=0, atol=1e-5)


def test_blocks_are_what_their_tensors_say(fixtures, tmp_path, caplog):
    """Counts of MTP layers that no tensor shows, or that do not say what the tensors show."""
    tiny, grouped = fixtures / "tiny.gguf", fixtures / "tiny-grouped.gguf"  # without and with an MTP layer
    said = rewrite(tiny, tmp_path / "said.gguf", change={"qwen35.nextn_predict_layers": 1})
    np.testing.assert_array_equal(logits(said), logits(tiny))
    assert "said.gguf: qwen35.nextn_predict_layers: 1, but 0 blocks of the file hold nextn.*" in caplog.text
    caplog.clear()
    left_out = {"qwen35.nextn_predict_layers": 1, "qwen35.block_count": 5}
    np.testing.assert_array_equal(
        logits(rewrite(tiny, tmp_path / "left.gguf", change=left_out)), logits(tiny)
    )
    assert "left.gguf: qwen35.nextn_predict_layers: 1, but 0 blocks" in caplog.text
    caplog.clear()
    unsaid = rewrite(grouped, tmp_path / "unsaid.gguf", drop_keys=["qwen35.nextn_predict_layers"])
    np.testing.assert_array_equal(logits(unsaid), logits(grouped))
    assert read_config(open_gguf(unsaid)).num_mtp_layers == 1 and not caplog.text
    ordinary = [name for name in open_gguf(grouped).tensors if re.match(r"blk\.[0-3]\.", name)]
    with pytest.raises(QwenRefError, match=r"only\.gguf: blk\.4: the file holds only the MTP layer"):
        load(rewrite(grouped, tmp_path / "only.gguf", drop_tensors=ordinary))
    with pytest.raises(QwenRefError, match=r"blk\.4: an ordinary layer behind the MTP layer blk\.1"):
        load(rewrite(grouped, tmp_path / "b.gguf", rename=lambda n: n.replace("blk.4.nextn", "blk.1.nextn")))


def test_layers_and_matrices_said_in_other_ways(fixtures, tmp_path):
    """A number for each layer, a list of recurrent layers, q, k and v in one matrix, ssm_dt without .bias."""
    reader = gguf.GGUFReader(fixtures / "tiny.gguf")
    weights = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    fused = {
        "blk.3.attn_qkv.weight": np.concatenate([weights[f"blk.3.attn_{part}.weight"] for part in "qkv"])
    }
    path = rewrite(
        fixtures / "tiny.gguf",
        tmp_path / "other.gguf",
        change={
            "qwen35.attention.head_count_kv": [0, 0, 0, 1],
            "qwen35.attention.head_count": [9, 9, 9, 2],
            "qwen35.feed_forward_length": [128] * 4,
            "qwen35.attention.recurrent_layers": [True, True, True, False],
        },
        drop_keys=["qwen35.full_attention_interval"],
        drop_tensors=[f"blk.3.attn_{part}.weight" for part in "qkv"],
        add=fused,
        rename=lambda name: name.replace("ssm_dt.bias", "ssm_dt"),
    )
    np.testing.assert_array_equal(logits(path), logits(fixtures / "tiny.gguf"))
    float32 = dict(backend="numba", dtype=np.float32)
    np.testing.assert_allclose(logits(path, **float32), logits(path), atol=2e-2)
    scaled = rewrite(
        path, tmp_path / "scaled.gguf", add={"blk.3.attn_qkv.scale": np.full(1, 0.5, np.float32)}
    )
    halves = {name: x / 2 for name, x in weights.items() if name in [f"blk.3.attn_{p}.weight" for p in "qkv"]}
    plain = rewrite(fixtures / "tiny.gguf", tmp_path / "plain.gguf", drop_tensors=halves, add=halves)
    np.testing.assert_array_equal(logits(scaled), logits(plain))


def test_no_layer_need_be_of_full_attention(fixtures, tmp_path):
    said, dropped = {"qwen35.attention.recurrent_layers": [True] * 4}, ["qwen35.full_attention_interval"]
    path = rewrite(fixtures / "tiny.gguf", tmp_path / "x.gguf", change=said, drop_keys=dropped)
    config = read_config(open_gguf(path))
    assert not any(map(config.is_full_attention, range(4)))


def test_sizes_that_a_golden_may_tell(fixtures):
    """The largest of each, and one more; a count of MTP layers may be 0, no other one."""
    config = read_config(open_gguf(fixtures / "tiny.gguf"))
    for name, most in ("context_length", 1 << 30), ("vocab_size", 1 << 24), ("num_mtp_layers", 1 << 24):
        assert wrong_type(replace(config, **{name: most})) is None
        assert wrong_type(replace(config, **{name: most + 1}))[0] == name
    assert wrong_type(replace(config, num_mtp_layers=0)) is None
    assert wrong_type(replace(config, num_layers=0))[0] == "num_layers"
    for dims, wrong in (config.head_dim, None), (config.head_dim + 2, "rotary_dim"):
        found = contradiction(replace(config, rotary_dim=dims, mrope_section=(dims // 2, 0, 0)))
        assert (found and found[0]) == wrong


def test_a_name_without_its_ending_shows_that_ollama_stored_a_file(fixtures, tmp_path):
    rename = lambda name: name.replace("ssm_dt.bias", "ssm_dt")  # noqa: E731
    path = rewrite(fixtures / "tiny-grouped.gguf", tmp_path / "x.gguf", rename=rename)
    with pytest.raises(QwenRefError, match=r"ssm\.v_head_reordered: stored by Ollama"):
        load(path)


@pytest.mark.parametrize("said", [{}, {"qwen35.ssm.v_head_reordered": False}])
def test_heads_of_unknown_order_are_refused(fixtures, tmp_path, said):
    """Of one V head for each K head there is but one order."""
    by_ollama = said | {"qwen35.rope.mrope_interleaved": True, "qwen35.mrope_sections": [2, 1, 1]}
    path = rewrite(fixtures / "tiny-grouped.gguf", tmp_path / "grouped.gguf", change=by_ollama)
    with pytest.raises(QwenRefError, match=r"ssm\.v_head_reordered: stored by Ollama"):
        load(path)
    known = by_ollama | {"qwen35.ssm.v_head_reordered": True}
    load(rewrite(fixtures / "tiny-grouped.gguf", tmp_path / "known.gguf", change=known))
    load(rewrite(fixtures / "tiny.gguf", tmp_path / "one.gguf", change=by_ollama))


def test_no_chat_template_leaves_raw_prompts(fixtures, tmp_path):
    model = load(
        rewrite(fixtures / "tiny.gguf", tmp_path / "bare.gguf", drop_keys=["tokenizer.chat_template"])
    )
    assert "".join(model.generate("a", raw=True, max_tokens=3, seed=0))
    with pytest.raises(QwenRefError, match="has no chat template"):
        model.generate("a")


def test_values_of_a_real_file(fixtures):
    config = read_config(open_gguf(fixtures / "tiny-grouped.gguf"))
    assert (config.num_layers, config.num_mtp_layers) == (4, 1)
    assert (config.linear_num_key_heads, config.linear_num_value_heads, config.linear_value_head_dim) == (
        2,
        4,
        32,
    )
    assert config.rms_norm_eps == 1e-6 and config.rope_theta == 1e7
    assert [config.is_full_attention(i) for i in range(4)] == [False, False, False, True]
