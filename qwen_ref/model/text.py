"""The Qwen3.5 text model: embedding, blocks of (mixer, MLP) around a residual stream, final norm, logits.

transformers' `Qwen3_5TextModel` with its language-model head.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gguf_io import GGUFFile
from qwen_ref.config import read_config
from qwen_ref.errors import QwenRefError
from qwen_ref.model.cache_types import PLAIN
from qwen_ref.model.layers import NUMPY, Array, Layers
from qwen_ref.model.rope import rope_tables
from qwen_ref.model.state import State
from qwen_ref.model.trace import part, tap
from qwen_ref.model.weights import AttentionWeights, LayerWeights, MixerWeights, load_weights


class TextModel:
    """A Qwen3.5 text model from an opened GGUF file.

    `dtype` (numpy.float32 or numpy.float64) is the type of every number that is computed. `memory_budget` is
    how many bytes of weights may be kept as floats; the rest is converted anew whenever it is needed.
    `layers` are the functions that compute: NumPy's, which take any dtype, or the kernels', in float32 only.
    Raises QwenRefError if the file is not such a model.
    """

    def __init__(
        self, file: GGUFFile, dtype: type = np.float32, memory_budget: int = 4 << 30, layers: Layers = NUMPY
    ):
        self.file = file
        self.config = read_config(file)
        self.dtype = dtype
        self.layers = layers
        self.cache_types = PLAIN  # of keys and values, for states to come
        self.weights = load_weights(file, self.config, dtype, memory_budget)

    def new_state(self) -> State:
        """The state before the first token."""
        return self.layers.new_state(self.config, self.dtype, self.cache_types)

    def embed(self, token_ids: Sequence[int] | Array) -> Array:
        """token_ids [T] -> their embeddings [T, hidden]."""
        return self.weights.embedding.rows(np.asarray(token_ids), self.dtype)

    def forward(self, inputs: Sequence[int] | Array, state: State, positions: Array | None = None) -> Array:
        """Token ids [T], or embeddings [T, hidden] -> final hidden states [T, hidden], after the last norm.

        `state` moves on by T tokens. positions [3, T] are M-RoPE's time, row and column; text counts on from
        the state in all three.
        """
        x = self.embed(inputs) if np.ndim(inputs) == 1 else np.asarray(inputs)
        if x.shape[1:] != (self.config.hidden_size,) or x.dtype != self.dtype:
            raise QwenRefError(
                f"inputs: {x.dtype} {x.shape}: neither token ids [T] nor embeddings [T, hidden]"
            )
        if positions is None:
            positions = state.text_positions(len(x))
        rope = rope_tables(positions, self.config, self.dtype)  # cos and sin, [T, R/2] both
        x = tap("embed_tokens", x)
        for i, (w, layer_state) in enumerate(zip(self.weights.layers, state.layers, strict=True)):
            with part(f"layers.{i}"):
                x = self.block(x, w, layer_state, rope)
        state.advance(len(x), positions)
        return self.norm(x, self.weights.final_norm, "norm")

    def block(self, x: Array, w: LayerWeights, layer_state: Any, rope: tuple[Array, Array]) -> Array:
        """x [T, hidden] -> [T, hidden]: the residual stream, to which the mixer and then the MLP add."""
        x = x + self.mixer(self.norm(x, w.input_norm, "input_layernorm"), w.mixer, layer_state, rope)
        x = tap("mixed", x)
        x = x + self.layers.mlp(self.norm(x, w.post_attention_norm, "post_attention_layernorm"), w.mlp)
        return tap("output", x)

    def mixer(self, x: Array, w: MixerWeights, layer_state: Any, rope: tuple[Array, Array]) -> Array:
        """x [T, hidden] -> [T, hidden]: where tokens see earlier ones; attention in every fourth layer."""
        if isinstance(w, AttentionWeights):
            return self.layers.attention(x, w, layer_state, *rope, self.config)
        return self.layers.deltanet(x, w, layer_state, self.config)

    def norm(self, x: Array, weight: Array, name: str) -> Array:
        return tap(name, self.layers.rms_norm(x, weight, self.config.rms_norm_eps))

    def logits(self, hidden: Array) -> Array:
        """hidden [T, hidden] -> logits [T, vocab] of the token after each."""
        return tap("logits", self.layers.lm_head(hidden, self.weights.output))
