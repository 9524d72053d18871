"""The feed-forward layer: SwiGLU (Shazeer, https://arxiv.org/abs/2002.05202), transformers' `Qwen3_5MLP`."""

from __future__ import annotations

import numpy as np

from qwen_ref.model.activation import silu
from qwen_ref.model.linear import linear
from qwen_ref.model.trace import tap
from qwen_ref.model.weights import MlpWeights


def mlp(x: np.ndarray, w: MlpWeights) -> np.ndarray:
    """x [T, hidden] -> [T, intermediate] -> [T, hidden]."""
    gate, up = tap("gate_proj", linear(x, w.gate_proj)), tap("up_proj", linear(x, w.up_proj))
    return tap("down_proj", linear(tap("gated", silu(gate) * up), w.down_proj))
