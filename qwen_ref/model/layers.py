"""The functions that a model computes with, so that kernels, or one's own, can take the place of NumPy's.

The engine chooses between `NUMPY` here and `KERNELS` in qwen_ref/kernels; nobody else knows of both.
"""

import copy
from typing import Any, Protocol

import numpy as np

from qwen_ref.config import Config
from qwen_ref.errors import QwenRefError
from qwen_ref.model import attention, deltanet, matrix, mlp, norm, state, vision_block, weights

Array = np.ndarray


class Layers(Protocol):
    """What a model calls; mypy holds NumPy's functions and the kernels against it. NumPy's have the shapes.

    `cache` and `state` are entries of what `new_state` of the same set made.
    """

    name: str
    batches: bool  # may `cache` and `state` be a LayerBatch, and `x` its sequences' tokens one after another?

    def new_state(self, config: Config, dtype: type, cache_types: tuple[str, str] = ...) -> state.State: ...
    def rms_norm(self, x: Array, weight: Array, eps: float) -> Array: ...  # of the residual stream
    def attention(
        self, x: Array, w: weights.AttentionWeights, cache: Any, cos: Array, sin: Array, config: Config
    ) -> Array: ...
    def deltanet(self, x: Array, w: weights.DeltaNetWeights, state: Any, config: Config) -> Array: ...
    def mlp(self, x: Array, w: weights.MlpWeights) -> Array: ...
    def lm_head(self, x: Array, weight: matrix.Matrix) -> Array: ...
    def patch_embed(self, patches: Array, weight: Array, bias: Array) -> Array: ...
    def layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> Array: ...
    def vision_attention(
        self, x: Array, w: weights.VisionAttentionWeights, cos: Array, sin: Array, num_heads: int
    ) -> Array: ...
    def vision_mlp(self, x: Array, w: weights.GeluMlpWeights) -> Array: ...
    def merger(self, x: Array, w: weights.GeluMlpWeights) -> Array: ...


class Numpy:
    name = "numpy"
    batches = False
    new_state = staticmethod(state.new_state)
    rms_norm = staticmethod(norm.rms_norm)
    attention = staticmethod(attention.attention)
    deltanet = staticmethod(deltanet.deltanet)
    mlp = staticmethod(mlp.mlp)
    lm_head = staticmethod(matrix.linear)
    patch_embed = staticmethod(vision_block.patch_embed)
    layer_norm = staticmethod(norm.layer_norm)
    vision_attention = staticmethod(vision_block.vision_attention)
    vision_mlp = staticmethod(vision_block.vision_mlp)
    merger = staticmethod(vision_block.merger)


NUMPY: Layers = Numpy()


def replaced(layers: Layers, **functions: Any) -> Layers:
    """`layers` with other functions: model.text.layers = replaced(model.text.layers, mlp=my_mlp).

    Raises QwenRefError for a name that no model calls, since the function would change nothing.
    """
    called = [name for name in vars(Layers) if not name.startswith("_")]
    for name in functions:
        if name not in called:
            raise QwenRefError(f"layers: {name}: no model calls it, but {', '.join(called)}")
        if not callable(functions[name]):
            raise QwenRefError(f"layers: {name}: {functions[name]!r:.80} cannot be called")
    changed = copy.copy(layers)
    vars(changed).update(functions)
    if functions.keys() & {"new_state", "attention", "deltanet"}:
        changed.batches = False  # others know nothing of it
    return changed
