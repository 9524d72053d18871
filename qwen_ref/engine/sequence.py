"""Texts that the model reads on in: a sequence is one of them, and `step` reads on in several at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import numpy as np

from qwen_ref.model.layers import Array
from qwen_ref.model.state import Batch
from qwen_ref.model.text import TextModel
from qwen_ref.prompt import Prompt

PREFILL_BLOCK = 512  # tokens of a sequence that a step reads at most: bounds the memory for attention scores


class Sequence:
    """A text, and the state after those of its tokens that were read.

    token_ids  all of it, the prompt's tokens first
    state      after the first `state.num_tokens` of them

    It can be copied to go on in two ways, and cut. Its memory is `nbytes`: the state, which for DeltaNet
    layers has one size and for those of full attention grows with what is read.
    """

    def __init__(self, text: TextModel, prompt: Prompt, visible: Array | None = None):
        """`visible` is what the vision tower makes of the prompt's pictures: [len(prompt.places), hidden]."""
        self.text, self.prompt, self.visible = text, prompt, visible
        self.token_ids = list(prompt.token_ids)
        self.state = text.new_state()
        self._positions, self._places = prompt.positions, prompt.places
        # Positions of the text behind the prompt count on from its last one.
        self._behind = int(self._positions.max(initial=-1)) + 1 - len(prompt.token_ids)

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def unread(self) -> int:
        return len(self.token_ids) - self.state.num_tokens

    @property
    def nbytes(self) -> int:
        return self.state.nbytes + (0 if self.visible is None else self.visible.nbytes)

    def extend(self, token_ids: Iterable[int]) -> None:
        self.token_ids.extend(token_ids)

    def copy(self) -> Sequence:
        other = copy.copy(self)
        other.token_ids, other.state = list(self.token_ids), self.state.copy()
        return other

    def cut(self, length: int) -> None:
        """Forget all tokens but the first `length`. A marked step's tokens are taken back; for others that
        were read, the text is read again from its beginning, with the next steps."""
        del self.token_ids[length:]
        if self.unread >= 0:
            return
        if not self.state.cut(length):
            self.state = self.text.new_state()
        elif self.unread:
            step(self.text, [self])  # the tokens of a draft that stay, where a state takes back all or none

    def inputs(self, start: int, stop: int, embed: Callable[[list[int]], Array]) -> tuple[Array, Array]:
        """Of tokens `start` to `stop`: the embeddings, pictures in their places, [T, hidden], and the
        positions [3, T]."""
        x = embed(self.token_ids[start:stop])  # [T] -> [T, hidden]
        here = (start <= self._places) & (self._places < stop)
        if here.any():
            assert self.visible is not None
            x[self._places[here] - start] = self.visible[here]
        own = self._positions[:, start:stop]
        behind = np.arange(start + own.shape[1], stop) + self._behind
        return x, np.concatenate([own, np.tile(behind, (3, 1))], axis=1)


def step(text: TextModel, sequences: list[Sequence]) -> list[Array]:
    """Each sequence reads up to PREFILL_BLOCK of its unread tokens, all in one pass over the weights.

    Returns the final hidden states [T, hidden] of each one's new tokens. They do not depend on what else is
    in the step: with kernels they are the same bit by bit, with NumPy one sequence goes after the other.
    """
    starts = [s.state.num_tokens for s in sequences]
    stops = [min(start + PREFILL_BLOCK, len(s)) for s, start in zip(sequences, starts, strict=True)]
    of_each = map(Sequence.inputs, sequences, starts, stops, [text.embed] * len(sequences))
    inputs, positions = zip(*of_each, strict=True)
    if len(sequences) == 1 or not text.layers.batches:
        return [text.forward(x, s.state, p) for s, x, p in zip(sequences, inputs, positions, strict=True)]
    lengths = [len(x) for x in inputs]
    batch = Batch([s.state for s in sequences], lengths)
    hidden = text.forward(np.concatenate(inputs), batch, np.concatenate(positions, axis=1))
    return np.split(hidden, np.cumsum(lengths)[:-1])
