"""Texts that the model reads on in: a sequence is one of them, and `step` reads on in several at once."""

from __future__ import annotations

import copy
import reprlib
from collections.abc import Callable, Iterable

import numpy as np

from qwen_ref.engine.backend import is_count
from qwen_ref.errors import QwenRefError
from qwen_ref.model.layers import Array
from qwen_ref.model.state import Batch, State
from qwen_ref.model.text import TextModel
from qwen_ref.prompt import Prompt

PREFILL_BLOCK = 512  # tokens of a sequence that a step reads: bounds the memory for attention scores


class Sequence:
    """A text, and the state after those of its tokens that were read.

    token_ids  all of it, the prompt's tokens first
    state      after the first `state.num_tokens` of them

    pauses     numbers of tokens at which a step ends, if it comes to one

    It can be copied to go on in two ways, and cut. Its memory is `nbytes`: the state, which for DeltaNet
    layers has one size and for those of full attention grows with what is read.
    """

    def __init__(
        self, text: TextModel, prompt: Prompt, visible: Array | None = None, state: State | None = None
    ):
        """`visible` is what the vision tower makes of the prompt's pictures: [len(prompt.places), hidden].

        With a `state` after some of the prompt's tokens it goes on from there, and `visible` may leave out
        what lies before.
        """
        self.text, self.prompt, self.visible = text, prompt, visible
        self.token_ids = list(prompt.token_ids)
        self.state, self.pauses = state or text.new_state(), list[int]()
        self._positions, self._places = prompt.positions, prompt.places
        if state is not None:
            state.next_position = int(self._positions[:, : state.num_tokens].max(initial=-1)) + 1
            self._places = self._places[self._places >= state.num_tokens]
            if visible is not None:
                self.visible = visible[len(visible) - len(self._places) :]
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
        """Raises QwenRefError for what is no token id."""
        token_ids, vocab = list(token_ids), self.text.config.vocab_size
        for token_id in token_ids:
            if not is_count(token_id, least=0) or token_id >= vocab:
                raise QwenRefError(f"extend: {reprlib.repr(token_id)} is no token id from 0 to {vocab - 1}")
        self.token_ids.extend(token_ids)

    def copy(self) -> Sequence:
        other = copy.copy(self)
        other.token_ids, other.state = list(self.token_ids), self.state.copy()
        other.pauses = list(self.pauses)
        return other

    def cut(self, length: int) -> None:
        """Forget all tokens but the first `length`. A marked step's tokens are taken back; for others that
        were read, the text is read again from its beginning, with the next steps. Raises QwenRefError."""
        if not is_count(length, least=0) or length > len(self):
            raise QwenRefError(f"cut: {reprlib.repr(length)} is not in 0 to {len(self)}, its tokens")
        del self.token_ids[length:]
        if self.unread >= 0:
            return
        if not self.state.cut(length):
            if len(self._places) < len(self.prompt.places):
                raise QwenRefError("cut: pictures before the state that this text began with are not known")
            self.state = self.text.new_state()
        elif self.unread:
            step(self.text, [self])  # the tokens of a draft that stay, where a state takes back all or none

    def inputs(self, start: int, stop: int, embed: Callable[[list[int]], Array]) -> tuple[Array, Array]:
        """Of tokens `start` to `stop`: the embeddings, pictures in their places, [T, hidden], and the
        positions [3, T]."""
        x = embed(self.token_ids[start:stop])  # [T] -> [T, hidden]
        self.show(x, start)
        return x, self.positions(start, stop)

    def show(self, x: Array, start: int) -> None:
        """Pictures take their places among the embeddings x [T, hidden] of the tokens from `start` on."""
        here = (start <= self._places) & (self._places < start + len(x))
        if here.any():
            assert self.visible is not None
            x[self._places[here] - start] = self.visible[here]

    def positions(self, start: int, stop: int) -> Array:
        """[3, T] of tokens `start` to `stop`."""
        own = self._positions[:, start:stop]
        behind = np.arange(start + own.shape[1], stop) + self._behind
        return np.concatenate([own, np.broadcast_to(behind, (3, len(behind)))], axis=1)


def step(text: TextModel, sequences: list[Sequence], block: int = PREFILL_BLOCK) -> list[Array]:
    """Each sequence reads up to `block` of its unread tokens, or up to its next pause, all in one pass over
    the weights.

    Returns the final hidden states [T, hidden] of each one's new tokens. They do not depend on what else is
    in the step: with kernels they are the same bit by bit, with NumPy one sequence goes after the other.
    Raises QwenRefError unless there are sequences, all different.
    """
    if not sequences or len({*map(id, sequences)}) < len(sequences):
        raise QwenRefError(f"step: {'a sequence is there twice' if sequences else 'there is no sequence'}")
    starts = [s.state.num_tokens for s in sequences]
    stops = [
        min(start + block, len(s), *(pause for pause in s.pauses if pause > start))
        for s, start in zip(sequences, starts, strict=True)
    ]
    parts = [*zip(sequences, starts, stops, strict=True)]
    x = text.embed([token for s, start, stop in parts for token in s.token_ids[start:stop]])  # [T, hidden]
    positions = [s.positions(start, stop) for s, start, stop in parts]
    lengths = [stop - start for _, start, stop in parts]
    ends = np.cumsum(lengths)[:-1]
    inputs = np.split(x, ends)
    for sequence, start, own in zip(sequences, starts, inputs, strict=True):
        sequence.show(own, start)
    if len(sequences) == 1 or not text.layers.batches:
        return [text.forward(x, s.state, p) for s, x, p in zip(sequences, inputs, positions, strict=True)]
    batch = Batch([s.state for s in sequences], lengths)
    return np.split(text.forward(x, batch, np.concatenate(positions, axis=1)), ends)
