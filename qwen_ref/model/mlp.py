"""The feed-forward layer: SwiGLU (Shazeer, https://arxiv.org/abs/2002.05202), transformers' `Qwen3_5MLP`."""

import numpy as np

from qwen_ref.model.activation import silu
from qwen_ref.model.matrix import linear
from qwen_ref.model.trace import part, tap
from qwen_ref.model.weights import MlpWeights


@part("mlp")
def mlp(x: np.ndarray, w: MlpWeights) -> np.ndarray:
    """x [T, hidden] -> [T, intermediate] -> [T, hidden]."""
    gate, up = tap("gate_proj", linear(x, w.gate_proj)), tap("up_proj", linear(x, w.up_proj))
    return tap("down_proj", linear(tap("gated", silu(gate) * up), w.down_proj))
