"""Multi-token prediction (MTP): a layer behind the model that says one token more, cheaply, as a draft.

It is one more block of full attention with a KV cache of its own. The model has read x[0] … x[t] and chosen
x[t+1]; from that token, and the hidden state that it was chosen from, the layer says what x[t+2] may be, and
the model only has to check. In rows, of which row t has token x[t] at x[t]'s position:

    z = eh_proj [rms_norm(embedding of x[t]); rms_norm(H[t-1])]
    z = z + attention(rms_norm(z));  z = z + mlp(rms_norm(z))
    H' = rms_norm(z);  output H' predicts x[t+1]

H are the model's hidden states after its last norm; H[-1] is zeros. A draft of several tokens goes on with
the drafted token and with H' of the row before, since H is not known there yet.

transformers leaves these tensors out; this is what vLLM, SGLang and llama.cpp compute. DeepSeek-V3's report
(https://arxiv.org/abs/2412.19437, section 2.2) describes such layers.
"""

from dataclasses import replace

import numpy as np

from qwen_ref.model.layers import Array
from qwen_ref.model.rope import rope_tables
from qwen_ref.model.state import State
from qwen_ref.model.text import TextModel
from qwen_ref.model.trace import part, tap
from qwen_ref.model.weights import load_mtp_weights


def of_the_token_before(hidden: Array) -> Array:
    """H [T, hidden] of a text from its first token on -> H[t-1] in row t, zeros in the first."""
    return np.concatenate([np.zeros_like(hidden[:1]), hidden[:-1]])


class MTPLayer:
    """The MTP layer in a text model's file, whose weights are looked for here: without drafts none is read.

    Raises QwenRefError if the file has no such layer, several, or one that is not whole.
    """

    def __init__(self, text: TextModel):
        self.text, self.config = text, text.config
        self.weights = load_mtp_weights(text.file, text.config, text.dtype, text.weights)

    def new_state(self) -> State:
        """The state before the first token: of one layer, which is of full attention."""
        one_layer = replace(self.config, num_layers=1, full_attention_interval=1)
        return self.text.layers.new_state(one_layer, self.text.dtype, self.text.cache_types)

    def embed(self, token_ids: list[int] | Array) -> Array:
        """token_ids [T] -> their embeddings [T, hidden]."""
        return self.weights.embedding.rows(np.asarray(token_ids), self.text.dtype)

    @part("mtp")
    def forward(self, x: Array, before: Array, state: State, positions: Array | None = None) -> Array:
        """Embeddings [T, hidden] of tokens (in places of pictures what the vision tower sees), and the hidden
        state of the token before each, [T, hidden] -> H' [T, hidden].

        `state` moves on by T tokens. positions [3, T] are the tokens' own; text counts on from the state.
        """
        w, norm = self.weights, self.text.norm
        x = tap("embed_tokens", x)
        if positions is None:
            positions = state.text_positions(len(x))
        rope = rope_tables(positions, self.config, self.text.dtype)  # cos and sin, [T, R/2] both
        both = np.concatenate([norm(x, w.enorm, "enorm"), norm(before, w.hnorm, "hnorm")], axis=1)
        linear = self.text.layers.lm_head  # like a head: a product that is no part of another layer
        z = tap("eh_proj", linear(both, w.eh_proj))  # [T, 2 * hidden] -> [T, hidden]
        z = self.text.block(z, w.layer, state.layers[0], rope)
        state.advance(len(x), positions)
        return norm(z, w.norm, "norm")

    @part("mtp")
    def logits(self, hidden: Array) -> Array:
        """H' [T, hidden] -> logits [T, vocab] of the token after each."""
        return tap("logits", self.text.layers.lm_head(hidden, self.weights.output))
