"""The set of functions that a model computes with, so that kernels can take the place of the NumPy ones.

The engine chooses between `NUMPY` here and `KERNELS` in qwen_ref/kernels; nobody else knows of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qwen_ref.model.attention import attention
from qwen_ref.model.deltanet import deltanet
from qwen_ref.model.linear import linear
from qwen_ref.model.mlp import mlp
from qwen_ref.model.norm import layer_norm, rms_norm
from qwen_ref.model.state import State, new_state
from qwen_ref.model.vision_block import gelu_mlp, vision_attention


@dataclass(frozen=True)
class Layers:
    """Functions with the signatures of those of the same name in this package."""

    name: str
    rms_norm: Callable[..., np.ndarray]
    linear: Callable[..., np.ndarray]
    attention: Callable[..., np.ndarray]
    deltanet: Callable[..., np.ndarray]
    mlp: Callable[..., np.ndarray]
    layer_norm: Callable[..., np.ndarray]
    vision_attention: Callable[..., np.ndarray]
    gelu_mlp: Callable[..., np.ndarray]
    new_state: Callable[[Any, type], State]


NUMPY = Layers(
    "numpy",
    rms_norm,
    linear,
    attention,
    deltanet,
    mlp,
    layer_norm,
    vision_attention,
    gelu_mlp,
    new_state,
)
