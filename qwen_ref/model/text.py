"""The Qwen3.5 text model: embedding, layers of (mixer, MLP) around a residual stream, logits.

transformers' `Qwen3_5TextModel` with its language-model head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gguf_io import GGUFFile
from qwen_ref.config import read_config
from qwen_ref.model.attention import attention
from qwen_ref.model.deltanet import deltanet
from qwen_ref.model.linear import linear
from qwen_ref.model.mlp import mlp
from qwen_ref.model.norm import rms_norm
from qwen_ref.model.rope import rope_tables
from qwen_ref.model.state import KVCache, State, new_state
from qwen_ref.model.weights import AttentionWeights, load_weights


class TextModel:
    """A Qwen3.5 text model from an opened GGUF file.

    `dtype` (numpy.float32 or numpy.float64) is the type of every number that is computed. `memory_budget` is
    how many bytes of weights may be kept as floats; the rest is converted anew whenever it is needed.
    Raises QwenRefError if the file is not such a model.
    """

    def __init__(self, file: GGUFFile, dtype: type = np.float32, memory_budget: int = 4 << 30):
        self.config = read_config(file)
        self.dtype = dtype
        self.weights = load_weights(file, self.config, dtype, memory_budget)

    def new_state(self) -> State:
        """The state before the first token."""
        return new_state(self.config, self.dtype)

    def hidden(
        self, token_ids: Sequence[int], state: State, positions: np.ndarray | None = None
    ) -> np.ndarray:
        """token_ids [T] -> final hidden states [T, hidden], after the last norm; `state` moves on.

        positions [3, T] are M-RoPE's time, row and column; text counts on from the state in all three.
        """
        config, w = self.config, self.weights
        T = len(token_ids)
        if positions is None:
            positions = np.tile(
                np.arange(state.next_position, state.next_position + T), (3, 1)
            )  # [T] -> [3, T]
        cos, sin = rope_tables(positions, config, self.dtype)  # [T, R/2]

        x = w.embedding.rows(np.asarray(token_ids), self.dtype)  # [T] -> [T, hidden]
        for layer, layer_state in zip(w.layers, state.layers, strict=True):
            normed = rms_norm(x, layer.input_norm, config.rms_norm_eps)
            if isinstance(layer.mixer, AttentionWeights):
                assert isinstance(layer_state, KVCache)
                x = x + attention(normed, layer.mixer, layer_state, cos, sin, config)
            else:
                assert not isinstance(layer_state, KVCache)
                x = x + deltanet(normed, layer.mixer, layer_state, config)
            x = x + mlp(rms_norm(x, layer.post_attention_norm, config.rms_norm_eps), layer.mlp)

        state.num_tokens += T
        state.next_position = int(positions.max(initial=state.next_position - 1)) + 1
        return rms_norm(x, w.final_norm, config.rms_norm_eps)

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        """hidden [T, hidden] -> logits [T, vocab]."""
        return linear(hidden, self.weights.output)

    def forward(self, token_ids: Sequence[int], state: State) -> np.ndarray:
        """token_ids [T] -> logits [T, vocab] of the token after each; `state` moves on by T tokens."""
        return self.logits(self.hidden(token_ids, state))
