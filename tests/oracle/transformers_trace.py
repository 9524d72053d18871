"""What transformers computes on the way, under a golden's names. A program of its own, like
transformers_logits.py:

python transformers_trace.py CHECKPOINT_DIR MODEL.gguf ids.npy OUT.npz --dtype float64
python transformers_trace.py CHECKPOINT_DIR MODEL.gguf content.json OUT.npz --dtype float64

content.json is the content of a user's message, with pictures and clips.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3_5ForConditionalGeneration
from transformers.utils import logging
from transformers_logits import make_bfloat16, make_float64, take_weights
from transformers_vision import make_inputs, make_processor

from qwen_ref.oracle.hooks import observe


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("checkpoint", "model", "prompt", "out"):
        parser.add_argument(name)
    parser.add_argument("--dtype", choices=["float32", "float64", "bfloat16"], default="float64")
    args = parser.parse_args()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    model = Qwen3_5ForConditionalGeneration.from_pretrained(args.checkpoint, dtype=torch.float32).eval()
    model.set_attn_implementation("eager")  # the others do not return attention weights
    if args.dtype == "float64":
        make_float64(model)
    take_weights(model, args.model, only_rounded=False)
    if args.dtype == "bfloat16":
        make_bfloat16(model)
    if args.prompt.endswith(".npy"):
        inputs = {"input_ids": torch.from_numpy(np.load(args.prompt).astype(np.int64))[None]}
    else:
        processor = make_processor(args.checkpoint)
        model.config.image_token_id = processor.image_token_id
        model.config.video_token_id = processor.video_token_id
        inputs = make_inputs(processor, json.loads(Path(args.prompt).read_text()))
    with torch.inference_mode(), observe(model) as found:
        model(**inputs)
    found["token_ids"] = inputs["input_ids"][0]
    np.savez(args.out, **{name: x.double().numpy() for name, x in found.items()})


if __name__ == "__main__":
    main()
