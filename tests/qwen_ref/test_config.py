"""Files that are GGUF but not the model that is wanted: refused with the field and the value."""

import re

import gguf
import numpy as np
import pytest

from gguf_io import open_gguf
from qwen_ref import QwenRefError, load
from qwen_ref.config import read_config


def rewrite(source, target, *, change=None, drop_keys=(), drop_tensors=(), shapes=None, add=None):
    """A copy of a GGUF file by the gguf package, with some metadata or tensors changed."""
    reader = gguf.GGUFReader(source)
    fields = {n: f for n, f in reader.fields.items() if not n.startswith("GGUF.") and n not in drop_keys}
    values = {n: f.contents() for n, f in fields.items()} | (change or {})
    writer = gguf.GGUFWriter(target, values.pop("general.architecture"))
    for name, value in values.items():
        types = fields[name].types if name in fields else [gguf.GGUFValueType.get_type(value)]
        if types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(name, value)
        else:
            writer.add_key_value(name, value, types[0])
    for tensor in reader.tensors:
        if tensor.name in drop_tensors:
            continue
        data = tensor.data
        if shapes and tensor.name in shapes:
            data = np.zeros(shapes[tensor.name], np.float32)
            writer.add_tensor(tensor.name, data)
        else:
            writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    for name, data in (add or {}).items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


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
        "tokenizer.ggml.pre: 'gpt-2' is not one of",
    ),
    "merges": (dict(change={"tokenizer.ggml.merges": ["no such"]}), "tokenizer.ggml.merges"),
    "types": (dict(change={"tokenizer.ggml.token_type": [1, 1]}), "2 types for 1024 tokens"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_field_and_value(fixtures, tmp_path, name):
    changes, words = REFUSED[name]
    path = rewrite(fixtures / "tiny.gguf", tmp_path / "changed.gguf", **changes)
    with pytest.raises(QwenRefError, match=re.escape(words)) as error:
        load(path).tokenizer.encode("x")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_text_and_vision_in_one_file_loads(fixtures, tmp_path):
    path = rewrite(
        fixtures / "tiny.gguf", tmp_path / "both.gguf", add={"v.blk.0.x.weight": np.ones(3, np.float32)}
    )
    assert load(path).config.num_layers == 4


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
