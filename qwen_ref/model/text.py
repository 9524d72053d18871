"""The Qwen3.5 text model: embedding, layers of (mixer, MLP) around a residual stream, logits.

transformers' `Qwen3_5TextModel` with its language-model head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gguf_io import GGUFFile
from qwen_ref.config import read_config
from qwen_ref.model.layers import NUMPY, Layers
from qwen_ref.model.rope import rope_tables
from qwen_ref.model.state import State
from qwen_ref.model.trace import part, tap
from qwen_ref.model.weights import AttentionWeights, load_weights


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
        self.weights = load_weights(file, self.config, dtype, memory_budget)

    def new_state(self) -> State:
        """The state before the first token."""
        return self.layers.new_state(self.config, self.dtype)

    def embed(self, token_ids: Sequence[int]) -> np.ndarray:
        """token_ids [T] -> their embeddings [T, hidden]."""
        return self.weights.embedding.rows(np.asarray(token_ids), self.dtype)

    def hidden(
        self, token_ids: Sequence[int], state: State, positions: np.ndarray | None = None
    ) -> np.ndarray:
        """token_ids [T] -> final hidden states [T, hidden], after the last norm; `state` moves on.

        positions [3, T] are M-RoPE's time, row and column; text counts on from the state in all three.
        """
        return self.hidden_of(self.embed(token_ids), state, positions)

    def hidden_of(self, x: np.ndarray, state: State, positions: np.ndarray | None = None) -> np.ndarray:
        """The same from x [T, hidden]: embeddings of tokens, or what the vision tower put in their place."""
        config, w, use = self.config, self.weights, self.layers
        T = len(x)
        if positions is None:
            positions = np.tile(
                np.arange(state.next_position, state.next_position + T), (3, 1)
            )  # [T] -> [3, T]
        cos, sin = rope_tables(positions, config, self.dtype)  # [T, R/2]

        x = tap("embed_tokens", x)
        for i, (layer, layer_state) in enumerate(zip(w.layers, state.layers, strict=True)):
            with part(f"layers.{i}"):
                normed = tap("input_layernorm", use.rms_norm(x, layer.input_norm, config.rms_norm_eps))
                if isinstance(layer.mixer, AttentionWeights):
                    with part("self_attn"):
                        mixed = use.attention(normed, layer.mixer, layer_state, cos, sin, config)
                else:
                    with part("linear_attn"):
                        mixed = use.deltanet(normed, layer.mixer, layer_state, config)
                x = tap("mixed", x + mixed)
                normed = use.rms_norm(x, layer.post_attention_norm, config.rms_norm_eps)
                normed = tap("post_attention_layernorm", normed)
                with part("mlp"):
                    mlp = use.mlp(normed, layer.mlp)
                x = tap("output", x + mlp)

        state.num_tokens += T
        state.next_position = int(positions.max()) + 1
        return tap("norm", use.rms_norm(x, w.final_norm, config.rms_norm_eps))

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        """hidden [T, hidden] -> logits [T, vocab]."""
        return tap("logits", self.layers.linear(hidden, self.weights.output))

    def forward(self, token_ids: Sequence[int], state: State) -> np.ndarray:
        """token_ids [T] -> logits [T, vocab] of the token after each; `state` moves on by T tokens."""
        return self.logits(self.hidden(token_ids, state))
