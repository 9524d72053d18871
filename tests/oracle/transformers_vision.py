"""What transformers' Qwen3.5 makes of pictures and clips among text, in float32 or true float64. A program:

    python transformers_vision.py CHECKPOINT_DIR cases.json OUT_DIR MODEL.gguf --dtype float64

cases.json holds {name: content}: the parts of a user's message; an image is a file, a video an array in an
.npy file. For each the program writes OUT_DIR/NAME.npz:

    token_ids [n]             the prompt, by Qwen3VLProcessor
    pixel_values, pixel_values_videos, image_grid_thw, video_grid_thw     what it makes of the media
    positions [3, n], delta   get_rope_index, and what is added to n, n + 1, … for the tokens that follow
    images, videos            the vision tower's tokens [tokens, hidden], merged
    logits                    [n / 4, vocab], of every fourth position up to the last
    generated, then           [8] likeliest tokens, one after another, and the logits [8, vocab] behind them

Weights of the vision tower are the checkpoint's, those of the text as transformers_logits.py says.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, Qwen3_5ForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.utils import logging
from transformers.video_utils import VideoMetadata
from transformers_logits import make_float64, take_weights

from qwen_ref.media import video

GENERATED = 8


class VideoProcessor(Qwen3VLVideoProcessor):
    """Without torchvision: it cannot resize then, and its normalization is this."""

    def normalize(self, image, mean, std, **options):
        return (image - mean[:, None, None]) / std[:, None, None]


class Processor(Qwen3VLProcessor):
    def check_argument_for_proper_class(self, name, argument):
        """Knows no video processor without torchvision."""


def make_processor(checkpoint: str) -> Qwen3VLProcessor:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    images = Qwen2VLImageProcessorPil.from_pretrained(checkpoint)
    videos = VideoProcessor(
        size={"shortest_edge": video.MIN_PIXELS, "longest_edge": video.MAX_PIXELS},
        image_mean=images.image_mean,
        image_std=images.image_std,
        do_resize=False,
        do_convert_rgb=False,
        cap_pixels_per_frame=False,
    )
    return Processor(images, tokenizer, videos, chat_template=tokenizer.chat_template)


def bare_videos(text: str) -> str:
    """A prompt without the two tokens that the template puts around a video.

    They give way to those around its time steps. So it was when Qwen3.5 came out, and up to transformers 5.9.
    Later versions keep them as well.
    """
    return text.replace("<|vision_start|><|video_pad|><|vision_end|>", "<|video_pad|>")


def make_inputs(processor: Qwen3VLProcessor, content: list[dict]) -> dict[str, torch.Tensor]:
    messages = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    images = [part["image"] for part in content if part["type"] == "image"]
    clips = [np.load(part["video"]) for part in content if part["type"] == "video"]
    rate = [VideoMetadata(total_num_frames=len(clip), fps=video.FRAME_RATE) for clip in clips]
    options = dict(images=images or None, videos=clips or None, return_tensors="pt")
    return dict(processor(text=[bare_videos(text)], video_metadata=rate or None, **options))


def run(model: Qwen3_5ForConditionalGeneration, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    network, found = model.model, {"token_ids": inputs["input_ids"][0]}
    media = {name: x for name, x in inputs.items() if name.startswith(("pixel_values", "image_", "video_"))}
    grids = {name: x for name, x in media.items() if name.endswith("grid_thw")}
    positions, delta = network.get_rope_index(inputs["input_ids"], inputs["mm_token_type_ids"], **grids)
    found |= media | {"positions": positions[:, 0], "delta": delta[0, 0]}
    if "pixel_values" in media:
        seen = network.get_image_features(media["pixel_values"], media["image_grid_thw"])
        found["images"] = torch.cat(seen.pooler_output)
    if "pixel_values_videos" in media:
        seen = network.get_video_features(media["pixel_values_videos"], media["video_grid_thw"])
        found["videos"] = torch.cat(seen.pooler_output)
    kept = torch.arange(len(found["token_ids"])).flip(0)[::4].flip(0)
    found["logits"] = model(**inputs, logits_to_keep=kept).logits[0]
    answer = model.generate(
        **inputs,
        max_new_tokens=GENERATED,
        do_sample=False,
        eos_token_id=None,
        output_logits=True,
        return_dict_in_generate=True,
    )
    found["generated"] = answer.sequences[0, -GENERATED:]
    found["then"] = torch.cat(answer.logits)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("checkpoint", "cases", "out", "model"):
        parser.add_argument(name)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float64")
    parser.add_argument("--checkpoint-weights", action="store_true")
    args = parser.parse_args()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    processor = make_processor(args.checkpoint)
    cases = json.loads(Path(args.cases).read_text())
    inputs = {name: make_inputs(processor, content) for name, content in cases.items()}  # always in float32
    model = Qwen3_5ForConditionalGeneration.from_pretrained(args.checkpoint, dtype=torch.float32).eval()
    model.config.image_token_id = processor.image_token_id
    model.config.video_token_id = processor.video_token_id
    if args.dtype == "float64":
        make_float64(model)
    take_weights(model, args.model, args.checkpoint_weights)
    for name in cases:
        with torch.inference_mode():
            found = run(model, inputs[name])
        for result in {"images", "videos", "logits", "then"} & set(found):
            assert found[result].dtype == getattr(torch, args.dtype)
        np.savez(Path(args.out) / f"{name}.npz", **{name: x.numpy() for name, x in found.items()})


if __name__ == "__main__":
    main()
