"""Logits of transformers' Qwen3.5 for given token ids, in float32 or in true float64. A program of its own:

    python transformers_logits.py CHECKPOINT_DIR ids.npy OUT_DIR MODEL.gguf … --dtype float64

writes OUT_DIR/MODEL.npy for each model. The checkpoint gives the configuration; the weights are those of the
GGUF file, dequantized by the gguf package and put back into transformers' layout here, so that both engines
compute with the same numbers. With --checkpoint-weights they are the checkpoint's own, but for A_log and the
zero-centred norm weights, which the converter rounds to float32 as -exp(A_log) and 1 + w. Where MODEL is the
checkpoint's own folder they are the checkpoint's, all of them.

transformers casts to float32 inside (norms, the delta rule, RoPE, the interpolation of the vision tower's
positions, the logits of generated tokens), so `model.double()` alone is not float64: for --dtype float64 its
modeling code is made to do those casts in float64 instead.
"""

from __future__ import annotations

import argparse
import types
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers.models.qwen3_5.modeling_qwen3_5 as modeling
from gguf.tensor_mapping import get_tensor_name_map
from transformers import Qwen3_5ForConditionalGeneration, modeling_rope_utils, vision_utils
from transformers.generation import utils as generation_utils
from transformers.utils import logging

from gguf_io import open_gguf

PREFIX = "model.language_model."
MERGER = {"merger.norm": "v.post_ln", "merger.linear_fc1": "mm.0", "merger.linear_fc2": "mm.2"}


class _Float64(types.ModuleType):
    """torch, except that float32 is float64."""

    def __getattr__(self, name):
        return torch.float64 if name in ("float32", "float") else getattr(torch, name)


def make_float64(model) -> None:
    model.double()
    modeling.torch = vision_utils.torch = generation_utils.torch = _Float64("torch")
    modeling_rope_utils.torch = modeling.torch
    torch.Tensor.float = torch.Tensor.double
    for module in model.modules():  # frequencies of RoPE were made in float32
        if isinstance(module, modeling.Qwen3_5TextRotaryEmbedding):
            init = modeling.ROPE_INIT_FUNCTIONS.get(module.rope_type, module.compute_default_rope_parameters)
            module.inv_freq, module.attention_scaling = init(module.config)
        if isinstance(module, modeling.Qwen3_5VisionRotaryEmbedding):
            module.inv_freq, _ = module.compute_axial_rope_parameters(module.config)


def make_bfloat16(model) -> None:
    """As from_pretrained(dtype=torch.bfloat16) leaves it; model.bfloat16() rounds RoPE's frequencies too."""
    kept = {module: module.inv_freq for module in model.modules() if hasattr(module, "inv_freq")}
    model.bfloat16()
    for module, inv_freq in kept.items():
        module.inv_freq = inv_freq


def untile(x: np.ndarray, axis: int, k_heads: int, v_heads: int, head_dim: int) -> np.ndarray:
    """V heads as GGUF orders them (tiled) -> as transformers orders them (grouped by K head)."""
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    x = x.reshape(*before, v_heads // k_heads, k_heads, head_dim, *after)
    return x.swapaxes(axis, axis + 1).reshape(*before, v_heads * head_dim, *after)


def to_transformers(name: str, x: np.ndarray, text_config) -> np.ndarray:
    """A GGUF tensor's values as transformers' parameter `name` holds them; x is float64."""
    k_heads, v_heads = text_config.linear_num_key_heads, text_config.linear_num_value_heads
    v_dim, qk = text_config.linear_value_head_dim, 2 * k_heads * text_config.linear_key_head_dim
    heads = (k_heads, v_heads)
    if name.endswith("norm.weight") and not name.endswith("linear_attn.norm.weight"):
        return x - 1
    if name.endswith("A_log"):
        return np.log(-untile(x, 0, *heads, 1))
    if name.endswith(("dt_bias", "in_proj_a.weight", "in_proj_b.weight")):
        return untile(x, 0, *heads, 1)
    if name.endswith("in_proj_z.weight"):
        return untile(x, 0, *heads, v_dim)
    if name.endswith("out_proj.weight"):
        return untile(x, 1, *heads, v_dim)
    if name.endswith(("in_proj_qkv.weight", "conv1d.weight")):
        x = np.concatenate([x[:qk], untile(x[qk:], 0, *heads, v_dim)])
        return x[:, None] if "conv1d" in name else x
    return x


def take_weights(model, path: str, only_rounded: bool) -> None:
    if Path(path).is_dir():
        return
    config = model.config.text_config
    names = get_tensor_name_map(gguf.MODEL_ARCH.QWEN35, config.num_hidden_layers)
    file = open_gguf(path)
    for name, parameter in model.named_parameters():
        rounded = name.endswith(("A_log", "norm.weight")) and not name.endswith("linear_attn.norm.weight")
        if "visual" in name or (only_rounded and not rounded):
            continue
        source = name.replace("dt_bias", "dt_proj.bias").replace(PREFIX, "model.")
        tensor = file.tensors[names.get_name(source, try_suffixes=(".weight", ".bias"))]
        values = gguf.quants.dequantize(tensor.data, gguf.GGMLQuantizationType(tensor.type.id)).reshape(
            tensor.shape
        )
        with torch.no_grad():
            parameter.copy_(torch.tensor(to_transformers(name, values.astype(np.float64), config)))


def take_vision_weights(model, path: str) -> None:
    """Of a vision file. The kernel of the 3-D convolution is there as two, one for each frame of a pair."""
    names = get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, model.config.vision_config.depth)
    tensors = open_gguf(path).tensors

    def values(name: str) -> torch.Tensor:
        tensor = tensors[name]
        kind = gguf.GGMLQuantizationType(tensor.type.id)
        return torch.tensor(gguf.quants.dequantize(tensor.data, kind).reshape(tensor.shape))

    for name, parameter in model.model.visual.named_parameters():
        module, _, kind = name.rpartition(".")
        place = MERGER.get(module) or names.get_name(f"visual.{module}")
        place = f"{place}.{kind}"
        if name == "patch_embed.proj.weight":
            taken = torch.stack([values(place), values(f"{place}.1")], dim=2)
        else:
            taken = values(place).reshape(parameter.shape)
        with torch.no_grad():
            parameter.copy_(taken)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("checkpoint", "ids", "out"):
        parser.add_argument(name)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float64")
    parser.add_argument("--checkpoint-weights", action="store_true")
    args = parser.parse_args()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    model = Qwen3_5ForConditionalGeneration.from_pretrained(args.checkpoint, dtype=torch.float32).eval()
    if args.dtype == "float64":
        make_float64(model)
    ids = torch.from_numpy(np.load(args.ids).astype(np.int64))[None]
    for path in args.models:
        take_weights(model, path, args.checkpoint_weights)
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0]
        assert logits.dtype == getattr(torch, args.dtype)
        np.save(Path(args.out) / f"{Path(path).stem}.npy", logits.numpy())


if __name__ == "__main__":
    main()
