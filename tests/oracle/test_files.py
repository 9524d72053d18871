"""Files that say the same in other ways, or carry scales beside their weights: logits as llama.cpp's.

And of checkpoint folders: that every field of a configuration that transformers' code reads is known here,
and that an output which is stored beside a tied embedding counts as there.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
from pathlib import Path

import conftest
import gguf
import numpy as np
import pytest
from rewrite import rewrite
from safetensors.torch import load_file, save_file
from test_logits import PREFIXES, llama_logits, prompt_ids

from gguf_io import open_gguf
from qwen_ref import checkpoint
from qwen_ref.kernels import KERNELS
from qwen_ref.model.text import TextModel
from qwen_ref.tokenizer import Tokenizer

EXACT = ("-ctk", "f32", "-ctv", "f32", "-fa", "off")
SCALED = """blk.0.ffn_gate blk.0.ffn_up blk.1.ffn_down blk.0.attn_qkv blk.1.attn_gate blk.2.ssm_out
    blk.1.ssm_beta blk.1.ssm_alpha blk.3.attn_q blk.3.attn_k blk.3.attn_v blk.3.attn_output""".split()


def weights(path):
    return {t.name: gguf.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}


def scaled(path, target):
    rng = np.random.default_rng(0)
    scales = {f"{name}.scale": rng.uniform(0.3, 1.5, 1).astype(np.float32) for name in SCALED}
    return rewrite(path, target, add=scales | {"blk.0.ffn_gate.input_scale": np.full(1, 0.1, np.float32)})


def listed(path, target):
    """A number for each layer, the recurrent layers by a list, and q, k and v in one matrix."""
    parts = [f"blk.3.attn_{part}.weight" for part in "qkv"]
    given = weights(path)
    return rewrite(
        path,
        target,
        change={"qwen35.attention.recurrent_layers": [True, True, True, False]},
        drop_keys=["qwen35.full_attention_interval"],
        drop_tensors=parts,
        add={"blk.3.attn_qkv.weight": np.concatenate([given[name] for name in parts])},
    )


def every_second(path, target):
    """Attention in every second layer: layer 1 becomes one, of layer 3's weights."""
    given = weights(path)
    mixer = [name for name in given if name.startswith("blk.1.") and ("ssm" in name or "attn_" in name)]
    mixer = [name for name in mixer if not name.endswith("attn_norm.weight")]
    mixer.remove("blk.1.post_attention_norm.weight") if "blk.1.post_attention_norm.weight" in mixer else None
    more = {n.replace("blk.3", "blk.1"): x for n, x in given.items() if re.match(r"blk\.3\.attn_(?!norm)", n)}
    said = {"qwen35.attention.recurrent_layers": [True, False, True, False]}
    dropped = ["qwen35.full_attention_interval"]
    return rewrite(path, target, change=said, drop_keys=dropped, drop_tensors=mixer, add=more)


@pytest.mark.parametrize("change", [scaled, listed, every_second])
def test_logits_are_llama_cpps(small, fixtures, tmp_path, change):
    path = change(small, tmp_path / "changed.gguf")
    token_ids, tokenizer = prompt_ids(small, fixtures), Tokenizer(open_gguf(small))
    ours = {}
    for layers in None, KERNELS:
        network = TextModel(open_gguf(path), np.float32, 1 << 30, *([layers] if layers else []))
        ours[layers] = network.logits(network.forward(token_ids, network.new_state()))
    network = TextModel(open_gguf(small))
    before = network.logits(network.forward(token_ids, network.new_state()))
    assert change is listed or abs(before - ours[None]).max() > 0.1
    far = []
    for n in PREFIXES[:6]:
        theirs = llama_logits(path, tokenizer.decode(token_ids[:n]), token_ids[:n], tmp_path, *EXACT)
        far.append([abs(theirs - logits[n - 1]).max() for logits in ours.values()])
    print(f"\n{change.__name__}: llama.cpp to NumPy and kernels {np.max(far, axis=0)}")
    assert np.max(far, axis=0)[0] < 1e-4 and np.max(far) < 2e-3  # the kernels keep keys and values in float16


def test_every_field_that_transformers_reads_is_known():
    """Of a text model's and a tower's configuration: used in checkpoint/, of one value, or of no weight."""
    import transformers.models.qwen3_5.modeling_qwen3_5 as theirs

    ours = "".join(path.read_text() for path in Path(checkpoint.__file__).parent.glob("*.py"))
    known = checkpoint.TEXT_ONLY.keys() | checkpoint.VISION_ONLY.keys() | set(checkpoint.TEXT_PASSED)
    known |= set(re.findall(r'"(\w+)"', ours))
    read = set(re.findall(r"\bconfig\.(\w+)", inspect.getsource(theirs))) - {"_attn_implementation"}
    assert len(read) > 25 and not read - known


def test_an_output_beside_a_tied_embedding(tmp_path):
    """Where the two differ they are not tied, as transformers 5 says in a warning."""
    made = conftest.made("mini", 0, tiny_vocab=True)
    folder = shutil.copytree(made.checkpoint, tmp_path / "hf")
    config = json.loads((folder / "config.json").read_text())
    assert config["tie_word_embeddings"]
    tensors = load_file(folder / "model.safetensors")
    embedding = tensors["model.language_model.embed_tokens.weight"]
    tensors["lm_head.weight"] = embedding.flip(0).contiguous()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    token_ids = np.arange(5, 25)
    from transformers import Qwen3_5ForConditionalGeneration

    model = Qwen3_5ForConditionalGeneration.from_pretrained(folder, dtype="float32")
    import torch

    with torch.no_grad():
        theirs = model(torch.tensor(token_ids)[None]).logits[0].numpy()
    network = TextModel(checkpoint.open_model(folder))
    ours = network.logits(network.forward(token_ids, network.new_state()))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
