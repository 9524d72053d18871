"""Checkpoint folders against GGUF files that llama.cpp's converter made of the same weights.

The folder is written here: the converter's changes undone by hand, GGUF's names from the gguf package, the
file by the safetensors library. tests/oracle/test_checkpoint.py reads folders that transformers wrote.
"""

import json
import os
import re
import shutil
from copy import deepcopy
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save

from gguf_io import open_gguf
from qwen_ref import QwenRefError, load
from qwen_ref.checkpoint import INDEX, open_model, open_vision
from qwen_ref.checkpoint.fields import Fields, fields_if_there, read_fields
from qwen_ref.checkpoint.safetensors import read_part
from qwen_ref.cli import main
from qwen_ref.config import read_config, read_vision_config
from qwen_ref.model.mtp import MTPLayer
from qwen_ref.model.text import TextModel

LAYERS, H_k, H_v, D = 4, 2, 4, 32  # of tiny-grouped.gguf; D is the width of K and V heads
LAYER = """input_layernorm post_attention_layernorm mlp.gate_proj mlp.up_proj mlp.down_proj
    self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj self_attn.q_norm self_attn.k_norm
    linear_attn.in_proj_qkv linear_attn.in_proj_z linear_attn.in_proj_b linear_attn.in_proj_a
    linear_attn.conv1d linear_attn.A_log linear_attn.dt_bias linear_attn.norm linear_attn.out_proj""".split()
MTP = {
    "eh_proj": "fc",
    "enorm": "pre_fc_norm_embedding",
    "hnorm": "pre_fc_norm_hidden",
    "shared_head_norm": "norm",
}
BLOCK = "norm1 norm2 attn.qkv attn.proj mlp.linear_fc1 mlp.linear_fc2".split()
MERGER = {"norm": "v.post_ln", "linear_fc1": "mm.0", "linear_fc2": "mm.2"}

CONFIG = {
    "model_type": "qwen3_5",
    "tie_word_embeddings": False,
    "text_config": {
        "vocab_size": 1024,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "linear_num_key_heads": H_k,
        "linear_num_value_heads": H_v,
        "linear_key_head_dim": D,
        "linear_value_head_dim": D,
        "linear_conv_kernel_dim": 4,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
        "max_position_embeddings": 262_144,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_theta": 1e7, "partial_rotary_factor": 0.25, "mrope_section": [2, 1, 1]},
        "eos_token_id": 986,
    },
    "vision_config": {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 64,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 64,
    },
}


def grouped(x, before, size):
    """Rows of tiled V heads, after `before` others -> in transformers' order: those of a K head together."""
    heads = [x[before + size * h : before + size * (h + 1)] for h in range(H_v)]
    together = [heads[h] for k in range(H_k) for h in range(k, H_v, H_k)]
    return np.concatenate([x[:before], *together])


def undone(name, x):
    """A GGUF tensor as transformers has it under this name."""
    part = name.split(".linear_attn.")[-1].removesuffix(".weight")
    norm = name.endswith("norm.weight") or "pre_fc_norm" in name
    if norm and "linear_attn" not in name and "visual" not in name:
        return x - 1
    if part == "A_log":
        return np.log(-grouped(x, 0, 1))
    if part in ("dt_bias", "in_proj_a", "in_proj_b"):
        return grouped(x, 0, 1)
    if part == "in_proj_z":
        return grouped(x, 0, D)
    if part == "out_proj":
        return grouped(x.T, 0, D).T
    if part in ("in_proj_qkv", "conv1d"):
        x = grouped(x, 2 * H_k * D, D)
    return x[:, None] if part == "conv1d" else x  # [C, 4] -> [C, 1, 4]


def tensors_of(text, vision):
    """transformers' names and values, float64, of two GGUF files."""
    found = {}

    def take(file, gguf_name, name):
        """Weight and bias, or a tensor with neither in its name."""
        for kind in ".weight", ".bias":
            if tensor := file.tensors.get(gguf_name + kind):
                found[name.removesuffix("_bias") + ("_bias" if "dt_bias" in name else kind)] = tensor
        if tensor := file.tensors.get(gguf_name):
            found[name] = tensor

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN35, LAYERS + 1)
    for name in "embed_tokens", "norm":
        take(text, names.get_name("model." + name), "model.language_model." + name)
    take(text, "output", "lm_head")
    for i in range(LAYERS):
        for name in LAYER:
            known = names.get_name(f"model.layers.{i}.{name.replace('dt_bias', 'dt_proj')}")
            take(text, known, f"model.language_model.layers.{i}.{name}")
    for name in LAYER[:11]:  # of the MTP layer
        take(text, names.get_name(f"model.layers.{LAYERS}.{name}"), f"mtp.layers.0.{name}")
    for known, name in MTP.items():
        take(text, f"blk.{LAYERS}.nextn.{known}", f"mtp.{name}")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, 2)
    for i in range(2):
        for name in BLOCK:
            take(vision, names.get_name(f"visual.blocks.{i}.{name}"), f"model.visual.blocks.{i}.{name}")
    for name, known in MERGER.items():
        take(vision, known, f"model.visual.merger.{name}")
    take(vision, "v.position_embd", "model.visual.pos_embed")
    values = {n: undone(n, t.dequantize().reshape(t.shape).astype(np.float64)) for n, t in found.items()}
    frames = [vision.tensors["v.patch_embd.weight" + last].dequantize() for last in ("", ".1")]
    kernel = np.stack([frame.reshape(32, 3, 16, 16) for frame in frames], axis=2)
    bias = vision.tensors["v.patch_embd.bias"].dequantize()[0]
    proj = "model.visual.patch_embed.proj."
    return values | {proj + "weight": kernel, proj + "bias": bias}


def file_of(tensors, kind):
    """The bytes of a .safetensors file; bfloat16 is written as uint16, and the header says so after."""
    if kind == "BF16":  # to the nearest of the upper halves of float32
        bits = {n: x.astype(np.float32).view(np.uint32) for n, x in tensors.items()}
        tensors = {n: ((x + 0x7FFF + (x >> 16 & 1)) >> 16).astype(np.uint16) for n, x in bits.items()}
    elif kind != "F64":
        tensors = {n: x.astype(np.float16 if kind == "F16" else np.float32) for n, x in tensors.items()}
    data = save({n: np.ascontiguousarray(x) for n, x in tensors.items()})
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size].replace(b'"U16"', b'"BF16"')
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def write(folder, tensors, config=CONFIG, kind="BF16", parts=1, drop=()):
    """A checkpoint of GGUF's vocabulary in tiny-grouped.gguf."""
    folder.mkdir(exist_ok=True)
    names = [name for name in tensors if name not in drop]
    files = [
        f"model-{i + 1:05}-of-{parts:05}.safetensors" if parts > 1 else "model.safetensors"
        for i in range(parts)
    ]
    for i, file in enumerate(files):
        (folder / file).write_bytes(file_of({n: tensors[n] for n in names[i::parts]}, kind))
    if parts > 1:
        weight_map = {name: files[i % parts] for i, name in enumerate(names)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5,0.5,0.5], "image_std": [0.5,0.5,0.5]}'
    )
    return folder


def write_tokenizer(folder, metadata, pairs):
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    merges = metadata["tokenizer.ggml.merges"]
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
        r"\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    added = [
        {"id": i, "content": tokens[i], "special": bool(types[i] == 3)}
        for i in np.flatnonzero(np.isin(types, (3, 4))).tolist()
    ]
    steps = [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}, {"type": "ByteLevel"}]
    tokenizer = {
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "model": {
            "type": "BPE",
            "vocab": {tokens[i]: i for i in np.flatnonzero(types == 1).tolist()},
            "merges": [m.split(" ") for m in merges] if pairs else merges,
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    (folder / "chat_template.jinja").write_text(metadata["tokenizer.chat_template"], encoding="utf-8")


@pytest.fixture(scope="module")
def text(fixtures):
    return open_gguf(fixtures / "tiny-grouped.gguf")


@pytest.fixture(scope="module")
def vision(fixtures):
    return open_gguf(fixtures / "mmproj-tiny.gguf")


@pytest.fixture(scope="module")
def tensors(text, vision):
    return tensors_of(text, vision)


@pytest.fixture(scope="module")
def folder(tensors, text, tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("hf") / "Qwen3.5-0.1B", tensors)
    write_tokenizer(folder, text.metadata, pairs=True)
    return folder


def test_every_tensor_is_the_converters(folder, text, vision):
    """Bytes too, which kernels read; but A is the exact one, and the file's its neighbour in float32."""
    for ours, theirs in (open_model(folder), text.tensors), (open_vision(folder), vision.tensors):
        assert ours.tensors.keys() == theirs.keys()
        for name, expected in theirs.items():
            tensor = ours.tensors[name]
            assert (tensor.shape, tensor.rows) == (expected.shape, expected.rows)
            assert not tensor.data.flags.writeable  # kernels are compiled for that
            values, exact = tensor.dequantize(), expected.dequantize()
            np.testing.assert_array_equal(tensor.dequantize(1, 5), values[1:5])
            np.testing.assert_array_equal(tensor.type.dequantize(tensor.data), values.astype(np.float32))
            if name.endswith("ssm_a"):
                assert np.abs(values / exact - 1).max() < 1e-7
                continue
            np.testing.assert_array_equal(values.astype(np.float32), exact, name)
            if tensor.type == expected.type:
                np.testing.assert_array_equal(tensor.data, expected.data)


def test_configuration_and_vocabulary_are_the_files(folder, text, vision):
    ours, theirs = read_config(open_model(folder)), read_config(text)
    assert vars(ours) | {"name": ""} == vars(theirs) | {"name": ""}
    assert ours.name == "Qwen3.5-0.1B"
    assert read_vision_config(open_vision(folder)) == read_vision_config(vision)
    ours = open_model(folder).metadata
    for key in "model", "pre", "tokens", "token_type", "merges", "eos_token_id":
        np.testing.assert_array_equal(ours["tokenizer.ggml." + key], text.metadata["tokenizer.ggml." + key])
    assert ours["tokenizer.chat_template"] == text.metadata["tokenizer.chat_template"]


def test_parts_names_and_types(tensors, text, tmp_path):
    """A text model alone, in float32, in parts, its configuration as older transformers wrote it; exact."""
    prefix = "model.language_model."
    only = {n.replace(prefix, "model."): x for n, x in tensors.items() if "visual" not in n}
    only["model.norm.weight"] = np.full(64, 2.0**-40)
    config = dict(
        deepcopy(CONFIG["text_config"]), model_type="qwen3_5_text", full_attention_interval=4, rope_theta=1e7
    )
    del config["layer_types"], config["rope_parameters"]["rope_theta"]
    rope = dict(config.pop("rope_parameters"), type="default")
    config["rope_scaling"] = rope
    folder = write(tmp_path / "text", only, config, "F32", parts=3)
    write_tokenizer(folder, text.metadata, pairs=False)
    file = open_model(folder / "model-00002-of-00003.safetensors")
    assert vars(read_config(file)) | {"name": ""} == vars(read_config(text)) | {"name": ""}
    assert file.metadata["tokenizer.ggml.merges"] == text.metadata["tokenizer.ggml.merges"]
    np.testing.assert_array_equal(
        file.tensors["blk.1.ssm_out.weight"].dequantize(), text.tensors["blk.1.ssm_out.weight"].dequantize()
    )
    norm = file.tensors["output_norm.weight"].dequantize()
    assert norm.dtype == np.float64 and (norm == 1 + 2.0**-40).all()
    with pytest.raises(QwenRefError, match="vision_config: is missing"):
        open_vision(folder)


def test_commands_take_a_folder(folder, fixtures, tmp_path, capsys):
    """With kernels and with a picture, whose tower is in the folder: the answer of the GGUF files."""
    picture = str(fixtures.parents[1] / "examples" / "media" / "shapes.png")
    options = ["--greedy", "-n", "6", "--prompt", "What is it?", "--image", picture, "--json"]
    answers = []
    mmproj = ["--mmproj", str(fixtures / "mmproj-tiny.gguf")]
    for model, more in (folder, []), (fixtures / "tiny-grouped.gguf", mmproj):
        assert main(["generate", "--model", str(model), *more, *options]) == 0
        answer = json.loads(capsys.readouterr().out)
        answers.append((answer["prompt_token_ids"], answer["token_ids"]))
    assert answers[0] == answers[1]
    out = str(tmp_path / "why.safetensors")
    assert main(["golden", "record", "--model", str(folder), "--prompt", "Why?", "--out", out]) == 0


def changed(name, **changes):
    """A change of config.json, or of text_config and the like in it."""

    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (config[name] if name else config).update(changes)
        (folder / "config.json").write_text(json.dumps(config))

    return change


def rewritten(file, old, new):
    def change(folder):
        data = (folder / file).read_bytes()
        assert old in data
        (folder / file).write_bytes(data.replace(old, new, 1))

    return change


def written(name, values):
    """A file, or what more is in it."""

    def change(folder):
        path = folder / name
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(before | values))
        if "chat_template" in values:
            (folder / "chat_template.jinja").unlink(missing_ok=True)

    return change


def stored_too(name, entry):
    """Another entry in the header of the weights."""

    def change(folder):
        data = (folder / WEIGHTS).read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.dumps(json.loads(data[8:end]) | {name: entry}).encode()
        (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + data[end:])

    return change


def cut(size):
    return lambda folder: os.truncate(folder / "model.safetensors", size)


def piped(file):
    def change(folder):
        (folder / file).unlink()
        os.mkfifo(folder / file)

    return change


def indexed(weight_map):
    """The weights under another name, and an index."""

    def change(folder):
        (folder / "model.safetensors").rename(folder / "a.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return change


WEIGHTS = "model.safetensors"
EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
REFUSED = {  # what is wrong: how, and words of the one sentence
    "no config": (lambda folder: (folder / "config.json").unlink(), "is a directory without config.json"),
    "no JSON": (rewritten("config.json", b"{", b"("), "config.json: is not JSON"),
    "another model": (changed(None, model_type="qwen3_5_moe"), "model_type: 'qwen3_5_moe' is not Qwen3.5's"),
    "a truth value": (
        changed("text_config", num_hidden_layers=True),
        "num_hidden_layers: True is not a whole",
    ),
    "a missing size": (changed("text_config", head_dim=None), "text_config.head_dim: is missing"),
    "no number": (changed("text_config", hidden_size="64"), "text_config.hidden_size: '64' is not a whole"),
    "too many tokens": (changed("text_config", vocab_size=1 << 29), "shape (1024, 64) should be (536870912"),
    "heads": (
        changed("text_config", num_key_value_heads=3),
        "config.json: text_config.num_key_value_heads: 3 does not",
    ),
    "sections": (
        changed("text_config", rope_parameters={"rope_theta": 1e7, "mrope_section": [2, 1, 2]}),
        "config.json: text_config.rope_parameters.mrope_section: [2, 1, 2] do not add up to 4",
    ),
    "V heads": (
        changed("text_config", linear_num_value_heads=3),
        "config.json: text_config.linear_num_value_heads: 3 value heads do not fit 2 key heads",
    ),
    "rotary": (
        changed("text_config", rope_parameters={"rope_theta": 1e7, "partial_rotary_factor": 0.3}),
        "config.json: text_config.rope_parameters.partial_rotary_factor: 9 is odd or more than 32",
    ),
    "order of layers": (
        changed("text_config", layer_types=["full_attention"] + ["linear_attention"] * 3),
        "text_config.layer_types: are not 4 layers",
    ),
    "scaling": (
        changed("text_config", rope_parameters={"rope_type": "linear", "rope_theta": 1}),
        "text_config.rope_parameters.rope_type: RoPE scaling 'linear' is not supported",
    ),
    "huge patches": (changed("vision_config", hidden_size=1 << 20, patch_size=1024), "should be (1048576,)"),
    "GELU": (changed("text_config", hidden_act="gelu"), "text_config.hidden_act: 'gelu' is not supported"),
    "no gate": (changed("text_config", attn_output_gate=False), "text_config.attn_output_gate: False is not"),
    "a bias": (
        changed("text_config", attention_bias=True),
        "text_config.attention_bias: True is not supported",
    ),
    "contiguous sections": (
        changed("text_config", rope_parameters={"rope_theta": 1e7, "mrope_interleaved": False}),
        "rope_parameters.mrope_interleaved: False is not supported, only True",
    ),
    "a field of rope": (
        changed(
            "text_config",
            rope_parameters={"rope_theta": 1e7, "mrope_section": [2, 1, 1], "short_factor": [1]},
        ),
        "rope_parameters.short_factor: [1]: this field is not known",
    ),
    "a new field": (
        changed("text_config", logit_softcap=30.0),
        "text_config.logit_softcap: 30.0: this field is",
    ),
    "a field outside": (changed(None, num_experts=8), "config.json: num_experts: 8 is not supported, only 0"),
    "an interval": (
        changed("text_config", full_attention_interval=2),
        "text_config.full_attention_interval: 2 contradicts layer_types, where it is 4",
    ),
    "sliding layers": (
        changed("text_config", layer_types=["sliding_attention"] * 3 + ["full_attention"]),
        "text_config.layer_types: are not 4 layers",
    ),
    "a size of two sides": (
        rewritten("preprocessor_config.json", b"{", b'{"size": {"height": 448, "width": 448}, '),
        "preprocessor_config.json: size: {'height': 448, 'width': 448} is not a shortest_edge and",
    ),
    "another family's processor": (
        rewritten("preprocessor_config.json", b"{", b'{"image_processor_type": "SiglipImageProcessor", '),
        "preprocessor_config.json: image_processor_type: 'SiglipImageProcessor' is not Qwen3.5's",
    ),
    "other colours of clips": (
        written("video_preprocessor_config.json", {"image_mean": [0.48, 0.46, 0.41]}),
        "video_preprocessor_config.json: image_mean: [0.48, 0.46, 0.41] is not that of pictures",
    ),
    "frames of a clip": (
        written("video_preprocessor_config.json", {"num_frames": 16}),
        "video_preprocessor_config.json: num_frames: 16 is not supported",
    ),
    "beams": (
        written("generation_config.json", {"num_beams": 4}),
        "generation_config.json: num_beams: 4 is not supported, only 1",
    ),
    "words that may not come": (
        written("generation_config.json", {"bad_words_ids": [[5]]}),
        "generation_config.json: bad_words_ids: [[5]] is not supported",
    ),
    "an end that is no token": (
        written("generation_config.json", {"eos_token_id": [986, 1024]}),
        "tokenizer.ggml.eos_token_ids: [986, 1024] is no token's number",
    ),
    "a text that begins with a token": (
        written("tokenizer_config.json", {"add_bos_token": True}),
        "tokenizer.ggml.add_bos_token: is set",
    ),
    "tokens that eat blanks": (
        rewritten("tokenizer.json", b'"special": true', b'"special": true, "lstrip": true'),
        "tokenizer.json: added_tokens[0].lstrip: True is not supported",
    ),
    "words with ends": (
        rewritten("tokenizer.json", b'"type": "BPE"', b'"type": "BPE", "end_of_word_suffix": "</w>"'),
        "tokenizer.json: model.end_of_word_suffix: '</w>' is not supported",
    ),
    "cuts that are lost": (
        rewritten("tokenizer.json", b'"behavior": "Isolated"', b'"behavior": "Removed"'),
        "tokenizer.json: pre_tokenizer.0.behavior: 'Removed' is not supported, only 'Isolated'",
    ),
    "a blank in front": (
        rewritten(
            "tokenizer.json", b'{"type": "ByteLevel"}', b'{"type": "ByteLevel", "add_prefix_space": true}'
        ),
        "tokenizer.json: pre_tokenizer.1.add_prefix_space: True is not supported",
    ),
    "a step too many": (
        rewritten("tokenizer.json", b'{"type": "ByteLevel"}', b'{"type": "ByteLevel"}, {"type": "Digits"}'),
        "tokenizer.json: pre_tokenizer: it cuts text by",
    ),
    "a token in front": (
        rewritten(
            "tokenizer.json",
            b'"normalizer"',
            b'"post_processor": {"type": "TemplateProcessing"}, "normalizer"',
        ),
        "tokenizer.json: post_processor: {'type': 'TemplateProcessing'} is not Qwen3.5's",
    ),
    "no template": (
        written("tokenizer_config.json", {"chat_template": 5}),
        "tokenizer_config.json: chat_template: 5 is neither a template nor a list",
    ),
    "the tower's GELU": (
        changed("vision_config", hidden_act="gelu"),
        "vision_config.hidden_act: 'gelu' is not",
    ),
    "grey pictures": (
        changed("vision_config", in_channels=1),
        "vision_config.in_channels: 1 is not supported",
    ),
    "the tower's RoPE": (
        changed("vision_config", rope_parameters={"rope_theta": 5e5}),
        "vision_config.rope_parameters.rope_theta: 500000.0 is not supported",
    ),
    "another processor": (
        rewritten("preprocessor_config.json", b"{", b'{"rescale_factor": 1.0, '),
        "preprocessor_config.json: rescale_factor: 1.0 is not supported",
    ),
    "larger windows": (
        rewritten("preprocessor_config.json", b"{", b'{"merge_size": 3, '),
        "preprocessor_config.json: merge_size: 3 is not 2, the tower's spatial_merge_size",
    ),
    "larger patches of clips": (
        written("video_preprocessor_config.json", {"patch_size": 14}),
        "video_preprocessor_config.json: patch_size: 14 is not 16",
    ),
    "longer patches": (
        changed("vision_config", temporal_patch_size=3),
        "vision_config.temporal_patch_size: 3 is not 2",
    ),
    "larger patches": (
        rewritten("preprocessor_config.json", b"{", b'{"patch_size": 14, '),
        "preprocessor_config.json: patch_size: 14 is not 16",
    ),
    "an unknown tensor": (
        stored_too("model.language_model.gate.weight", EMPTY),
        "model.language_model.gate.weight: a tensor that nothing in Qwen3.5 uses",
    ),
    "an unknown tensor of the tower": (
        stored_too("model.visual.deepstack.0", EMPTY),
        "model.visual.deepstack.0: a tensor that nothing in Qwen3.5 uses",
    ),
    "MLX, quantized": (
        changed(None, quantization={"bits": 4, "group_size": 64}),
        "quantization: the weights are quantized by MLX",
    ),
    "MLX": (
        stored_too("__metadata__", {"format": "mlx"}),
        "was written for MLX, which is not read: take the checkpoint",
    ),
    **{
        kind: (
            changed(*place, quantization_config={"quant_method": kind}),
            f"the weights are quantized by {name}, which",
        )
        for kind, name, place in [
            ("gptq", "GPTQ", [None]),
            ("awq", "AWQ", ["text_config"]),
            ("fp8", "FP8", [None]),
            ("bitsandbytes", "bitsandbytes", [None]),
            ("quark", "quark", [None]),
        ]
    },
    "deepstack": (changed("vision_config", deepstack_visual_indexes=[1]), "Qwen3-VL, not Qwen3.5"),
    "no colours": (
        rewritten("preprocessor_config.json", b"image_mean", b"image_meal"),
        "preprocessor_config.json: image_mean: is missing",
    ),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), WEIGHTS + ": cannot be read: No such file"),
    "empty": (cut(0), WEIGHTS + ": cannot be opened"),
    "cut in the header": (cut(1000), "do not fit in a file of 1000, so this is no safetensors file"),
    "cut in the numbers": (cut(300_000), "but the file at 300000"),
    "absurd header": (rewritten(WEIGHTS, b"\0\0\0\0", b"\0\0\0\x7f"), "do not fit in a file of"),
    "header no JSON": (rewritten(WEIGHTS, b'{"', b'["'), "header: is not JSON"),
    "a wrong size": (rewritten(WEIGHTS, b"[1024,64]", b"[1024,63]"), "do not hold shape (1024, 63) of BF16"),
    "negative": (rewritten(WEIGHTS, b"[1024,64]", b"[-102,64]"), "no valid dtype, shape and data_offsets"),
    "a wrong shape": (rewritten(WEIGHTS, b"[1024,64]", b"[64,1024]"), "shape (64, 1024) should be"),
    "a missing tensor": (
        rewritten(WEIGHTS, b"1.linear_attn.A_log", b"1.linear_attn.A_lag"),
        "layers.1.linear_attn.A_log: the tensor is missing",
    ),
    "no output": (rewritten(WEIGHTS, b"lm_head", b"lm_tail"), "lm_head.weight: the tensor is missing"),
    "8 bits": (rewritten(WEIGHTS, b'"BF16"', b'"F8E5"'), "type 'F8E5' cannot be read"),
    "no such part": (indexed({"x": "b.safetensors"}), "b.safetensors: cannot be read: No such file"),
    "another folder": (indexed({"x": "../b.safetensors"}), "weight_map: '../b.safetensors' is no name"),
    "another part": (indexed({"x": "a.safetensors"}), "a.safetensors: 'x': the tensor is not here"),
    "a name in two lines": (rewritten(WEIGHTS, b"lm_head", rb"lm\nead"), r"'lm\nead.weight' is no name"),
    "a pipe": (piped("config.json"), "config.json: is not a regular file"),
    "a pipe of weights": (piped(WEIGHTS), WEIGHTS + ": is not a regular file"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json: cannot be read"),
    "unigram": (rewritten("tokenizer.json", b'"BPE"', b'"XYZ"'), "model.type: 'XYZ' is not 'BPE'"),
    "pattern": (rewritten("tokenizer.json", rb"|\\p{N}|", rb"|\\p{N}{1,3}|"), "it cuts text by"),
    "normalizer": (
        rewritten("tokenizer.json", b'"NFC"', b'"NFD"'),
        "normalizer.type: 'NFD' is not Qwen3.5's",
    ),
    "an id below 0": (rewritten("tokenizer.json", b'"!": 0', b'"!": -1'), "id -1 of '!' is not in 0 to 1023"),
    "half a pair": (
        rewritten("tokenizer.json", b'"merges": [[', b'"merges": [["\\ud800", "a"], ['),
        "model.vocab: holds half",
    ),
    "an id": (rewritten("tokenizer.json", b'"!": 0', b'"!": 1024'), "id 1024 of '!' is not in 0 to 1023"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_sentence(folder, tmp_path, name):
    change, words = REFUSED[name]
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    change(copy)
    with pytest.raises(QwenRefError, match=re.escape(words)) as error:
        load(copy).vision.encode(np.zeros((4, 1536)), (1, 2, 2))
    assert str(copy) in str(error.value) and "\n" not in str(error.value)


def test_no_header_makes_more_than_one_sentence(folder, tmp_path):
    """Bytes of the header changed at random: the model opens or is refused."""
    copy, rng = Path(shutil.copytree(folder, tmp_path / "copy")), np.random.default_rng(0)
    whole = (copy / WEIGHTS).read_bytes()
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, 8 + int.from_bytes(whole[:8], "little"), 2):
            data[place] = rng.choice(list(b'0189-"[]{},:ex\0\xff'))
        (copy / WEIGHTS).write_bytes(data)
        try:
            for file in open_model(copy), open_vision(copy):
                for tensor in file.tensors.values():
                    tensor.dequantize()
        except QwenRefError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 250


def test_a_file_beside_the_weights(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    shutil.copy(copy / WEIGHTS, copy / "other.safetensors")
    with pytest.raises(QwenRefError, match=r"other.safetensors: is not among the weights"):
        open_model(copy / "other.safetensors")


def test_a_file_that_is_in_no_checkpoint(folder, tmp_path):
    """It is named itself, and not the file that a checkpoint would have."""
    for name in "golden.safetensors", "none.safetensors":
        (tmp_path / "golden.safetensors").touch()
        with pytest.raises(QwenRefError, match=rf"/{name}: (is no Hugging|cannot be read: No such file)"):
            open_model(tmp_path / name)
    shutil.copy(folder / "config.json", tmp_path)
    with pytest.raises(QwenRefError, match=r"/golden.safetensors: is not among the weights"):
        open_model(tmp_path / "golden.safetensors")


def test_mtp_layers(folder, tensors, text, tmp_path):
    """One is the GGUF file's; with a tensor that is not known there is none, of several none is chosen."""

    def layer(file):
        return MTPLayer(TextModel(file, np.float64))

    ours, theirs = layer(open_model(folder)), layer(text)
    x, before = np.random.default_rng(0).normal(size=(2, 5, 64))
    hidden = [each.forward(x, before, each.new_state()) for each in (ours, theirs)]
    np.testing.assert_allclose(*hidden, atol=1e-6)
    table = {"mtp.embed_tokens.weight": tensors["lm_head.weight"]}
    own = layer(open_model(write(tmp_path / "own", tensors | table)))
    np.testing.assert_array_equal(own.embed([7])[0], tensors["lm_head.weight"][7])
    again = {n.replace("layers.0", "layers.1"): x for n, x in tensors.items() if n.startswith("mtp.layers.0")}
    for name, more, sentence in (
        ("two", again, "the file has 2 MTP layers, not one"),
        ("unknown", {"mtp.gate.weight": np.ones(3)}, "the file has no MTP layers, not one"),
    ):
        with pytest.raises(QwenRefError, match=rf"{name}: nextn\.\*: {sentence}"):
            layer(open_model(write(tmp_path / name, tensors | more)))


def test_an_output_stored_beside_a_tied_embedding_counts(folder, tmp_path):
    """transformers 5 does not tie what differs (tests/oracle shows it)."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    changed(None, tie_word_embeddings=True)(copy)
    output = open_model(folder).tensors["output.weight"].dequantize()
    np.testing.assert_array_equal(open_model(copy).tensors["output.weight"].dequantize(), output)
    rewritten(WEIGHTS, b"lm_head.weight", b"mtp.nor.weight")(copy)
    assert "output.weight" not in open_model(copy).tensors


def test_what_changes_nothing_is_passed(folder, tmp_path):
    """null is as good as absent, and what is unknown may be empty; rotations are said by config.json."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    rope = CONFIG["text_config"]["rope_parameters"] | {"type": "mrope"}
    empty = dict(experts=[], note="", router={}, attention_bias=None, layer_scale=None)
    changed("text_config", rope_parameters=rope, full_attention_interval=None, **empty)(copy)
    stored_too("model.language_model.rotary_emb.inv_freq", EMPTY)(copy)
    indexed({"lm_head.weight": "missing.safetensors"})(copy)
    (copy / "a.safetensors").rename(copy / WEIGHTS)  # read alone beside an index, as in transformers
    ours, theirs = (vars(read_config(open_model(place))) | {"name": ""} for place in (copy, folder))
    assert ours == theirs
    changed(None, tie_word_embeddings=None)(copy)  # said in text_config in some files
    changed("text_config", tie_word_embeddings=True)(copy)
    rewritten(WEIGHTS, b"lm_head.weight", b"mtp.nor.weight")(copy)
    assert "output.weight" not in open_model(copy / INDEX).tensors


def test_where_older_and_newer_folders_say_the_same(folder, tmp_path):
    """Of rotations: beside rope_parameters. Of processors: in processor_config.json."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    rope = {"rope_theta": 1e7, "mrope_section": [4, 2, 2], "rope_type": "yarn", "factor": 2.0}
    changed(
        "text_config", rope_parameters=rope, partial_rotary_factor=0.5, original_max_position_embeddings=512
    )(copy)
    config = read_config(open_model(copy))
    assert config.rotary_dim == 16 and config.yarn.original_max_position_embeddings == 512
    (copy / "preprocessor_config.json").unlink()
    image, video = ({"size": {"shortest_edge": n, "longest_edge": 4 * n}} for n in (1024, 2048))
    image |= {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 1]}
    (copy / "processor_config.json").write_text(
        json.dumps({"image_processor": image, "video_processor": video})
    )
    config = read_vision_config(open_vision(copy))
    assert (config.image_pixels, config.video_pixels) == ((1024, 4096), (2048, 8192))
    assert (config.image_mean, config.image_std) == ((0.5, 0.4, 0.3), (0.5, 0.25, 1))


def test_where_the_end_token_and_the_template_are_found(folder, tmp_path):
    """In the converter's and transformers' order; of several end tokens it is the first."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    named = [{"name": "tools", "template": "T"}, {"name": "default", "template": "D"}]
    (copy / "tokenizer_config.json").write_text(json.dumps({"eos_token": None, "chat_template": named}))
    (copy / "chat_template.jinja").unlink()
    (copy / "generation_config.json").write_text('{"eos_token_id": [985, 984]}')
    changed(None, eos_token_id=[7, 8])(copy)

    def found():
        metadata = open_model(copy).metadata
        return metadata["tokenizer.ggml.eos_token_id"], metadata["tokenizer.chat_template"]

    assert found() == (7, "D")
    changed(None, eos_token_id=None)(copy)
    (copy / "chat_template.json").write_text('{"chat_template": "J"}')
    assert found() == (986, "J")
    changed("text_config", eos_token_id=None)(copy)
    assert found() == (985, "J")


def test_a_folder_of_gguf_files(fixtures, tmp_path):
    shutil.copy(
        fixtures / "mmproj-tiny.gguf", tmp_path / "MTP-drafts.gguf"
    )  # so do some call an MTP layer's file
    for name in "split-00001-of-00002.gguf", "split-00002-of-00002.gguf", "mmproj-tiny.gguf":
        shutil.copy(fixtures / name, tmp_path)
    assert open_model(tmp_path).path == tmp_path / "split-00001-of-00002.gguf"
    shutil.copy(fixtures / "tiny.gguf", tmp_path / "Other.GGUF")
    with pytest.raises(
        QwenRefError, match=r"holds several models \(Other.GGUF, split-00001-of-00002.gguf\); give one"
    ):
        open_model(tmp_path)


def test_what_the_processors_and_generation_config_say_is_used(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    size = b'{"size": {"shortest_edge": 1024, "longest_edge": 4096}, '
    rewritten("preprocessor_config.json", b"{", size)(copy)
    (copy / "video_preprocessor_config.json").write_text('{"min_pixels": 2048, "max_pixels": 8192}')
    advice = {
        "temperature": 0.6,
        "top_k": 7,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "eos_token_id": [986, 5],
        "max_length": 9,
    }
    written("generation_config.json", advice)(copy)
    config = read_vision_config(open_vision(copy))
    assert (config.image_pixels, config.video_pixels) == ((1024, 4096), (2048, 8192))
    metadata = open_model(copy).metadata
    said = {key: metadata[key] for key in metadata if key.startswith("general.sampling.")}
    assert metadata["tokenizer.ggml.eos_token_ids"] == [986, 5]
    assert said == {
        f"general.sampling.{k}": v
        for k, v in [("top_k", 7), ("top_p", 0.9), ("min_p", 0.1), ("temp", 0.6), ("penalty_repeat", 1.1)]
    }


def test_newer_files_go_before_older_ones(folder, tmp_path):
    """As in transformers 5: a nested processor, pixels beside a size; a greedy file; fields of no weight."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    nested = json.loads((copy / "preprocessor_config.json").read_text()) | {
        "size": {"shortest_edge": 1024, "longest_edge": 4096},
        "max_pixels": 2048,
    }
    written("processor_config.json", {"image_processor": nested})(copy)
    assert read_vision_config(open_vision(copy)).image_pixels == (1024, 2048)
    written("generation_config.json", {"do_sample": False, "presence_penalty": 1.5})(copy)
    changed(
        None, model_name="unsloth/Qwen3.5-9B", unsloth_fixed=True, quantization_config={}, is_decoder=False
    )(copy)
    templates = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    written("tokenizer_config.json", {"chat_template": templates, "pad_token": "<|endoftext|>"})(copy)
    metadata = open_model(copy).metadata
    assert (metadata["general.sampling.temp"], metadata["general.sampling.presence_penalty"]) == (0, 1.5)
    assert metadata["tokenizer.chat_template"] == "a" and metadata["tokenizer.chat_template.tool_use"] == "b"
    assert metadata["tokenizer.ggml.tokens"][metadata["tokenizer.ggml.padding_token_id"]] == "<|endoftext|>"


def test_yarn_under_the_converters_keys(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    rope = CONFIG["text_config"]["rope_parameters"]
    exact = 1.3862943611198906  # is no float32
    yarn = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=4096, attention_factor=exact)
    changed("text_config", rope_parameters=rope | yarn | {"beta_fast": 16})(copy)
    file = open_model(copy)
    found = file.metadata
    assert {k.removeprefix("qwen35.rope.scaling."): v for k, v in found.items() if "scaling" in k} == {
        "type": "yarn",
        "factor": 4,
        "original_context_length": 4096,
        "yarn_attn_factor": exact,
        "yarn_beta_fast": 16,
    }
    assert read_config(file).yarn.attention_factor == exact
    changed("text_config", rope_parameters=rope | yarn | {"truncate": False})(copy)
    with pytest.raises(QwenRefError, match="truncate: False is not supported"):
        open_model(copy)


def by_hand(path, header, data=b"", size=None):
    """A .safetensors file: the size of its header, the header, and the numbers behind it."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(header) if size is None else size).to_bytes(8, "little") + header + data)
    return 8 + len(header)


def entry(kind, shape, first, last):
    return {"dtype": kind, "shape": shape, "data_offsets": [first, last]}


def test_tensors_of_a_file_by_hand(tmp_path):
    path = tmp_path / "a.safetensors"
    by_hand(path, b"{}")
    assert read_part(path) == {}
    longest = "n" * 255
    header = {
        "__metadata__": {"format": "pt"},
        longest: entry("BF16", [2, 1], 3, 7),
        "none": entry("F32", [0, 9], 7, 7),
        "one": entry("F32", [], 0, 4),
        "eight": entry("I64", [1] * 8, 0, 8),
        "other": entry("I8", [2**63 - 1], 0, 1),
    }
    start = by_hand(path, header, bytes(8))
    found = {n: (t.type, t.shape, t.offset - start, t.nbytes) for n, t in read_part(path).items()}
    assert found == {
        longest: ("BF16", (2, 1), 3, 4),
        "none": ("F32", (0, 9), 7, 0),
        "one": ("F32", (), 0, 4),
        "eight": ("I64", (1,) * 8, 0, 8),
        "other": ("I8", (2**63 - 1,), 0, 1),
    }


INVALID = "a: {.* has no valid dtype, shape and data_offsets"


@pytest.mark.parametrize(
    "header, size, words",
    [
        (b"", None, "header: 0 bytes do not fit in a file of 16, so this is no safetensors file"),
        (b"{}", 1, "header: 1 bytes do not fit in a file of 18"),
        (b"{}", 11, "header: 11 bytes do not fit in a file of 18"),
        (b"{}", 2**64 - 1, f"header: {2**64 - 1} bytes do not fit in a file of 18"),
        (b"[]", None, "header: is not a JSON object$"),
        (b"{]", None, "header: is not JSON .Expecting"),
        ({"a\n": entry("F32", [], 0, 4)}, None, r"header: 'a\\n' is no name of a tensor"),
        ({"n" * 256: entry("F32", [], 0, 4)}, None, "header: 'n{79} is no name of a tensor"),
        ({"a": entry("F32", [2], 4, 8)}, None, r"a: 4 bytes do not hold shape \(2,\) of F32$"),
        ({"a": entry("BF16", [2], 0, 8)}, None, r"a: 8 bytes do not hold shape \(2,\) of BF16$"),
        ({"a": entry("F32", [2], 1, 9)}, None, r"a: ends at 78, but the file at 77$"),
        ({"a": entry("F32", [0], 4, 3)}, None, "a: ends at"),
        ({"a": entry("I8", [2**63], 0, 1)}, None, INVALID),
        ({"a": entry("I8", [-1], 0, 1)}, None, INVALID),
        ({"a": entry("I8", [True], 0, 1)}, None, INVALID),
        ({"a": entry("I8", [1], 0.0, 1)}, None, INVALID),
        ({"a": entry("I8", [1] * 9, 0, 1)}, None, INVALID),
        ({"a": entry(5, [1], 0, 1)}, None, INVALID),
        ({"a": entry("I8", 5, 0, 1)}, None, INVALID),
        ({"a": {"dtype": "I8", "shape": []}}, None, INVALID),
    ],
)
def test_files_of_tensors_that_are_refused(tmp_path, header, size, words):
    by_hand(tmp_path / "a.safetensors", header, bytes(8), size)
    with pytest.raises(QwenRefError, match=rf"/a\.safetensors: {words}"):
        read_part(tmp_path / "a.safetensors")


def test_files_of_tensors_that_are_cut_short(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(bytes(7))
    with pytest.raises(QwenRefError, match=r"/a\.safetensors: header: 0 bytes do not fit in a file of 7,"):
        read_part(path)
    path.write_bytes(b"")
    with pytest.raises(QwenRefError, match=r"/a\.safetensors: cannot be opened: cannot mmap an empty file"):
        read_part(path)


@pytest.mark.parametrize(
    "ask, values, found",
    [
        ("count", [1, 1 << 30], [1, 1 << 30]),
        ("count", [0, (1 << 30) + 1, True, 1.0, "1"], "is not a whole number from 1 to 1073741824"),
        ("number", [1, 0.5, 1e-30, 9e29], [1.0, 0.5, 1e-30, 9e29]),
        ("number", [0, -1, 1e30, np.nan, np.inf, True, "1"], "is not a positive number"),
        ("text", ["", "a"], ["", "a"]),
        ("text", [5, ["a"]], "is not text"),
        ("list", [[], [1]], [[], [1]]),
        ("list", ["a", {}], "is not a list"),
        ("dict", [{}, {"a": 1}], [{}, {"a": 1}]),
        ("dict", ["a", []], "is not an object"),
    ],
)
def test_fields_of_each_kind(ask, values, found):
    def asked(**values):
        fields = Fields(Path("a.json"), {"in": values}).inner("in")
        kinds = {"text": str, "list": list, "dict": dict}
        return fields.get("x", kinds[ask]) if ask in kinds else getattr(fields, ask)("x")

    for values_of in {}, {"x": None}:
        with pytest.raises(QwenRefError, match=r"^a\.json: in\.x: is missing$"):
            asked(**values_of)
    for i, value in enumerate(values):
        if isinstance(found, list):
            assert (got := asked(x=value)) == found[i] and type(got) is type(found[i])
            continue
        with pytest.raises(QwenRefError) as error:
            asked(x=value)
        assert str(error.value) == f"a.json: in.x: {value!r} {found}"


def test_fields_that_are_left(tmp_path):
    def rest(only=(), passed=None, **values):
        fields = Fields(Path("a.json"), values)
        assert fields.count("used", 7) == values.get("used", 7) and fields.number("size", 2) == 2.0
        fields.check_rest(dict(only), passed)

    rest()
    rest(x=5)
    rest({"x": 5}, x=5)
    rest({"x": 5}, (), used=8, a="", b=[], c={}, d=None, _e=5)
    rest({}, ("x",), x=5)
    for only, passed, values, problem in (
        ({"x": 5}, None, dict(x=6), "x: 6 is not supported, only 5"),
        ({"used": 8}, (), dict(used=9), "used: 9 is not supported, only 8"),
        ({"x": 5}, (), dict(x=5, y=0), "y: 0: this field is not known, and may change the network"),
        ({}, ("x",), dict(x=5, y=False), "y: False: this field is not known, and may change the network"),
    ):
        with pytest.raises(QwenRefError, match=rf"^a\.json: {problem}$"):
            rest(only, passed, **values)
    path = tmp_path / "b.json"
    assert fields_if_there(path).values == {}
    with pytest.raises(
        QwenRefError, match=r"^f: is a directory without b\.json, so no Hugging Face checkpoint$"
    ):
        read_fields(path, Path("f"))
    for text, values in ('{"a": 1, "b": null}', {"a": 1}), ("[]", None):
        path.write_text(text)
        for read in read_fields, fields_if_there:
            if values is not None:
                assert read(path).values == values and read(path).name("a") == f"{path}: a"
                continue
            with pytest.raises(QwenRefError, match=r"/b\.json: is not a JSON object$"):
                read(path)
