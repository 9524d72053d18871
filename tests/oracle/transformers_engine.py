"""transformers as an engine of the conformance kit, in the precision that the function is named after:

    python -m qwen_ref conformance --engine tests/oracle/transformers_engine.py:float32

The kit has GGUF files only: the configuration is the golden's, the weights are dequantized by the gguf
package and put into transformers' layout (transformers_logits.py). Pictures and clips go through
transformers' own processors. What makes it compute in float64 cannot be taken back: one precision a process.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2VLImageProcessorPil, Qwen3_5Config, Qwen3_5ForConditionalGeneration
from transformers.utils import logging
from transformers.video_utils import VideoMetadata
from transformers_logits import make_bfloat16, make_float64, take_vision_weights, take_weights
from transformers_vision import VideoProcessor

from gguf_io import open_gguf
from qwen_ref.config import read_vision_config
from qwen_ref.media import images, video
from qwen_ref.oracle.conformance import Case
from qwen_ref.oracle.hooks import observe

UNCHANGED = dict(do_resize=False, do_convert_rgb=False, cap_pixels_per_frame=False)  # the clip's size fits
SIZES = dict(patch_size=16, temporal_patch_size=2, merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def make_config(case: Case):
    c, v = case.golden.config, read_vision_config(open_gguf(case.mmproj))
    rope = dict(
        rope_type="default",
        rope_theta=c.rope_theta,
        partial_rotary_factor=c.rotary_dim / c.head_dim,
        mrope_section=list(c.mrope_section),
        mrope_interleaved=True,
    )
    if c.yarn:
        rope |= dict(
            rope_type="yarn",
            factor=c.yarn.factor,
            original_max_position_embeddings=c.yarn.original_max_position_embeddings,
        )
    same = (
        "vocab_size hidden_size intermediate_size num_attention_heads num_key_value_heads head_dim "
        "rms_norm_eps linear_num_key_heads linear_num_value_heads linear_key_head_dim linear_value_head_dim"
    )
    text = {name: getattr(c, name) for name in same.split()} | dict(
        num_hidden_layers=c.num_layers,
        full_attention_interval=c.full_attention_interval,
        linear_conv_kernel_dim=c.conv_kernel,
        max_position_embeddings=c.context_length,
        rope_parameters=rope,
        tie_word_embeddings="output.weight" not in open_gguf(case.model).tensors,
    )
    same = "depth hidden_size intermediate_size num_heads out_hidden_size patch_size spatial_merge_size"
    places = open_gguf(case.mmproj).tensors["v.position_embd.weight"].shape[0]
    vision = {name: getattr(v, name) for name in same.split()} | dict(num_position_embeddings=places)
    return Qwen3_5Config(
        text_config=text, vision_config=vision, tie_word_embeddings=text["tie_word_embeddings"]
    )


def make_inputs(case: Case) -> dict:
    """Token ids are the golden's; transformers' tokenizer is compared elsewhere (test_tokenizer.py)."""
    import torch

    inputs = {"input_ids": torch.tensor(case.token_ids)[None]}
    pictures = [path for path in case.media if path.suffix == ".png"]
    clips = [path for path in case.media if path.suffix == ".gif"]
    if pictures:
        limits = {"shortest_edge": images.MIN_PIXELS, "longest_edge": images.MAX_PIXELS}
        processor = Qwen2VLImageProcessorPil(size=limits, **SIZES)
        inputs |= processor([Image.open(path) for path in pictures], return_tensors="pt")
    for path in clips:
        clip = Image.open(path)
        rate = 1000 / clip.info["duration"]
        frames = []
        for n in range(clip.n_frames):
            clip.seek(n)
            frames.append(np.asarray(clip.convert("RGB")))
        limits = {"shortest_edge": video.MIN_PIXELS, "longest_edge": video.MAX_PIXELS}
        processor = VideoProcessor(size=limits, **UNCHANGED, **SIZES)
        about = [VideoMetadata(total_num_frames=len(frames), fps=rate)]
        inputs |= processor([np.stack(frames)], video_metadata=about, return_tensors="pt")
    if case.media:
        ids = inputs["input_ids"]
        inputs["mm_token_type_ids"] = torch.zeros_like(ids)
        for kind, number in ("image", 1), ("video", 2):
            inputs["mm_token_type_ids"][ids == pad_id(case, kind)] = number
    return inputs


def pad_id(case: Case, kind: str) -> int:
    return list(open_gguf(case.model).metadata["tokenizer.ggml.tokens"]).index(f"<|{kind}_pad|>")


def run(dtype: str, case: Case) -> Iterator[dict[str, torch.Tensor]]:
    """Of the prompt, and then of each part after it."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    config = make_config(case)
    config.image_token_id, config.video_token_id = pad_id(case, "image"), pad_id(case, "video")
    model = Qwen3_5ForConditionalGeneration(config).eval()
    model.set_attn_implementation("eager")  # the others do not return attention weights
    if dtype == "float64":
        make_float64(model)
    take_weights(model, str(case.model), only_rounded=False)
    take_vision_weights(model, str(case.mmproj))
    if dtype == "bfloat16":
        make_bfloat16(model)
    inputs = make_inputs(case)
    P = case.prompt_tokens
    tokens = inputs.keys() & {"input_ids", "mm_token_type_ids"}
    prompt = inputs | {name: inputs[name][:, :P] for name in tokens}
    elsewhere = case.positions[0, 0] > 0  # it has no way to begin there but positions that are given
    first: dict[str, torch.Tensor] = {}  # what it says of the prompt beside tensors
    with torch.inference_mode():
        if not elsewhere:
            count = len(case.token_ids) - P
            answer = model.generate(**prompt, max_new_tokens=count, do_sample=False, eos_token_id=None)
            first["generated"] = answer[0, P:]
        if case.media:
            grids = {name: x for name, x in inputs.items() if name.endswith("grid_thw")}
            kinds = prompt["mm_token_type_ids"]
            first["positions"], _ = model.model.get_rope_index(prompt["input_ids"], kinds, **grids)
        cache, start = None, 0
        with observe(model) as found:
            for part in case.parts:
                given = {"input_ids": torch.tensor(part.token_ids)[None]} if start else prompt
                if elsewhere:
                    positions = case.positions[:, start : start + len(part.token_ids)]
                    given = given | {"position_ids": torch.tensor(positions)[:, None]}
                cache = model(**given, past_key_values=cache, use_cache=True).past_key_values
                yield found if start else found | first
                start += len(part.token_ids)
                if part.rejected:  # it cannot take tokens back: a copy goes on
                    drafted = {"input_ids": torch.tensor(part.rejected)[None]}
                    model(**drafted, past_key_values=copy.deepcopy(cache))


float32, float64, bfloat16 = (partial(run, dtype) for dtype in ("float32", "float64", "bfloat16"))
