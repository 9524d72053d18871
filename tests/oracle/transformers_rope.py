"""cos and sin of transformers' Qwen3.5 in float64, for positions [3, T]. A program of its own:

python transformers_rope.py CHECKPOINT_DIR positions.npy out.npz
"""

from __future__ import annotations

import sys

import numpy as np
import torch
import transformers.models.qwen3_5.modeling_qwen3_5 as modeling
from transformers import AutoConfig
from transformers_logits import make_float64


def main() -> None:
    checkpoint, positions, out = sys.argv[1:]
    config = AutoConfig.from_pretrained(checkpoint).text_config
    model = torch.nn.Module()
    model.rotary = modeling.Qwen3_5TextRotaryEmbedding(config)
    make_float64(model)
    ids = torch.from_numpy(np.load(positions))[:, None]  # [3, T] -> [3, 1, T]
    cos, sin = model.rotary(torch.zeros(1, dtype=torch.float64), ids)  # [1, T, R]
    np.savez(out, cos=cos[0].numpy(), sin=sin[0].numpy())


if __name__ == "__main__":
    main()
