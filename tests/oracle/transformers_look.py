"""What transformers itself returns of a text: attention weights, hidden states, and the states of its linear
layers after each token. A program of its own, like transformers_logits.py:

python transformers_look.py CHECKPOINT_DIR MODEL.gguf ids.npy OUT.npz
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from transformers import Qwen3_5ForConditionalGeneration
from transformers.utils import logging
from transformers_logits import make_float64, take_weights

from qwen_ref.oracle.hooks import observe


def main() -> None:
    checkpoint, gguf, ids, out = sys.argv[1:]
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    model = Qwen3_5ForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    model.set_attn_implementation("eager")  # the others do not return attention weights
    make_float64(model)
    take_weights(model, gguf, only_rounded=False)
    input_ids = torch.from_numpy(np.load(ids).astype(np.int64))[None]
    found, states = dict[str, np.ndarray](), dict[str, list[np.ndarray]]()
    with torch.inference_mode():
        given = model(input_ids=input_ids, output_attentions=True, output_hidden_states=True)
        kinds = model.config.text_config.layer_types
        layers = [i for i, kind in enumerate(kinds) if kind == "full_attention"]
        weights = [x for x in given.attentions if x is not None]
        for layer, x in zip(layers, weights, strict=True):
            found[f"attention.{layer}"] = x[0].numpy()  # [H, T, T]
        for layer, x in enumerate(given.hidden_states):
            found[f"hidden.{layer}"] = x[0].numpy()  # [T, hidden]; the first are the embeddings
        for length in range(1, input_ids.shape[1] + 1):  # a token's state is where a text ends with it
            with observe(model) as seen:
                model(input_ids=input_ids[:, :length])
            for name, x in seen.items():
                if name.endswith("linear_attn.state"):
                    states.setdefault(f"states.{name.split('.')[1]}", []).append(x.double().numpy())
    np.savez(out, **found, **{name: np.stack(each) for name, each in states.items()})


if __name__ == "__main__":
    main()
