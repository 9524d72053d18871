"""What the model remembers between calls: one entry per layer, and the position."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qwen_ref.config import Config
from qwen_ref.model.cache_types import PLAIN, packed, row_bytes, unpacked


class KVCache:
    """Keys and values of a full-attention layer, [S, H_kv, D] each; S grows, room doubles. Types of
    qwen_ref/model/cache_types.py say how they are kept."""

    grows = True  # its arrays are of tokens, and can be cut and joined

    def __init__(self, heads: int, head_dim: int, dtype: type, types: tuple[str, str] = PLAIN):
        self.length = self.marked = 0
        self.dtype, self.types = dtype, types
        # Keys and values: [capacity, H_kv, D], or bytes of blocks in the place of D
        self._rooms = [
            np.empty((0, heads, head_dim), dtype)
            if kind == "f16"
            else np.empty((0, heads, row_bytes(kind, head_dim)), np.uint8)
            for kind in types
        ]

    def append(self, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """k, v [T, H_kv, D] are added; all keys and all values, [S, H_kv, D], are returned."""
        self._keep([x if kind == "f16" else packed(x, kind) for x, kind in zip((k, v), self.types)])
        keys, values = (
            room[: self.length] if kind == "f16" else unpacked(room[: self.length], kind, self.dtype)
            for room, kind in zip(self._rooms, self.types)
        )
        return keys, values

    def _keep(self, rows: list[np.ndarray]) -> None:
        """Keys and values [T, H_kv, D], or bytes of blocks."""
        start, stop = self.length, self.length + len(rows[0])
        for i, room in enumerate(self._rooms):
            if stop > len(room):
                self._rooms[i] = np.empty((max(stop, 2 * len(room), 64), *room.shape[1:]), room.dtype)
                self._rooms[i][:start] = room[:start]
            self._rooms[i][start:stop] = rows[i]
        self.length = stop

    def copy(self) -> KVCache:
        other = copy.copy(self)
        other._rooms = [room[: self.length].copy() for room in self._rooms]
        return other

    def mark(self) -> None:
        self.marked = self.length

    def keep(self, tokens: int) -> None:
        self.length = self.marked + tokens

    def arrays(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Copies of keys and values from token `start` on, [H_kv, T, D] both, or bytes in the place of D."""
        k, v = (room[start : self.length].swapaxes(0, 1).copy() for room in self._rooms)
        return k, v

    def put(self, k: np.ndarray, v: np.ndarray) -> None:
        """What `arrays(0)` gave, into one that is empty."""
        self._keep([k.swapaxes(0, 1), v.swapaxes(0, 1)])

    @property
    def nbytes(self) -> int:
        return sum(room.nbytes for room in self._rooms)


@dataclass
class DeltaNetState:
    """A DeltaNet layer's memory: it does not grow with the text."""

    conv: np.ndarray  # [kernel - 1, channels]: the last inputs of the causal convolution
    recurrent: np.ndarray  # [H_v, K, V]: S, which maps keys to values
    marked: tuple[np.ndarray, np.ndarray] | None = None  # both, as they were

    grows: ClassVar = False

    def copy(self) -> DeltaNetState:
        return DeltaNetState(self.conv.copy(), self.recurrent.copy(), self.marked)

    def mark(self) -> None:
        self.marked = self.conv, self.recurrent  # a step replaces them and changes neither

    def keep(self, tokens: int) -> None:
        """None of the tokens since the mark: what S was between them is not known."""
        assert self.marked and tokens == 0
        self.conv, self.recurrent = self.marked

    def arrays(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Copies of what it remembers, which has no parts of single tokens."""
        return self.conv.copy(), self.recurrent.copy()

    def put(self, conv: np.ndarray, recurrent: np.ndarray) -> None:
        self.conv, self.recurrent = conv.copy(), recurrent.copy()

    @property
    def nbytes(self) -> int:
        return self.conv.nbytes + self.recurrent.nbytes


@dataclass
class State:
    """Everything after some tokens. `copy()` it to try two continuations of one beginning; `mark()` it before
    tokens that may have to be taken back, and `cut` it then."""

    layers: list[
        Any
    ]  # one a layer, with copy, mark, keep, arrays, put and nbytes; the kernels' look otherwise
    num_tokens: int = 0
    next_position: int = 0  # of the next text token; images advance it by less than their tokens
    whole: bool = True  # of the tokens since a mark all can be taken back or none; else any number
    marked: tuple[int, int] | None = None  # num_tokens and next_position, as they were

    def text_positions(self, tokens: int) -> np.ndarray:
        """[3, T] of so many tokens of text that go on here: one count in all three coordinates."""
        return np.tile(np.arange(tokens) + self.next_position, (3, 1))  # [T] -> [3, T]

    def advance(self, tokens: int, positions: np.ndarray) -> None:
        """By T tokens, which stand at these positions [3, T]."""
        if self.marked and self.num_tokens > self.marked[0]:
            self.marked = None
        self.num_tokens += tokens
        self.next_position = int(positions.max()) + 1

    def copy(self) -> State:
        layers = [layer.copy() for layer in self.layers]
        return State(layers, self.num_tokens, self.next_position, self.whole, self.marked)

    def mark(self) -> None:
        """The next step's tokens, of text, can be taken back by `cut`, until the step after it."""
        self.marked = self.num_tokens, self.next_position
        for layer in self.layers:
            layer.mark()

    def cut(self, num_tokens: int) -> bool:
        """Back to so many tokens, or, where the layers cannot tell between them, to fewer: to those at the
        mark. False, and nothing is changed, if that lies before the mark."""
        if num_tokens == self.num_tokens:
            return True
        if self.marked is None or not self.marked[0] <= num_tokens < self.num_tokens:
            return False
        kept = 0 if self.whole else num_tokens - self.marked[0]
        for layer in self.layers:
            layer.keep(kept)
        self.num_tokens, self.next_position = (before + kept for before in self.marked)
        self.marked = None
        return True

    def arrays(self, grow: bool, start: int = 0) -> list[np.ndarray]:
        """Copies of what the layers hold that grow, from token `start` on, or of those that do not, two of
        each layer: `put` makes a state of them again. What is marked can no longer be taken back."""
        self.marked = None
        return [array for layer in self.layers if layer.grows == grow for array in layer.arrays(start)]

    def put(self, num_tokens: int, growing: list[np.ndarray], fixed: list[np.ndarray]) -> None:
        """Into a new state: copies of the `arrays` of one after so many tokens."""
        parts = {True: iter(growing), False: iter(fixed)}
        for layer in self.layers:
            layer.put(next(parts[layer.grows]), next(parts[layer.grows]))
        self.num_tokens = num_tokens

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)


class Batch(State):
    """The states of several sequences, whose tokens go through the layers in one step, one sequence after
    another: it stands where one State does, for layers that take it (`Layers.batches`)."""

    def __init__(self, states: list[State], lengths: list[int]):
        layers = zip(*(s.layers for s in states), strict=True)
        super().__init__([LayerBatch(list(of_each), lengths) for of_each in layers])
        self.states, self.lengths = states, lengths

    def advance(self, tokens: int, positions: np.ndarray) -> None:
        """Each by its own tokens; all together stand at these positions [3, T]."""
        of_each = np.split(positions, np.cumsum(self.lengths)[:-1], axis=1)
        for state, length, some in zip(self.states, self.lengths, of_each, strict=True):
            state.advance(length, some)


@dataclass
class LayerBatch:
    """One layer's states of several sequences, and how many tokens of each are in a step."""

    states: list[Any]
    lengths: list[int]


def new_state(config: Config, dtype: type, cache_types: tuple[str, str] = PLAIN) -> State:
    """The state before the first token; `cache_types` are those of keys and of values."""

    def layer(i: int) -> KVCache | DeltaNetState:
        if config.is_full_attention(i):
            return KVCache(config.num_key_value_heads, config.head_dim, dtype, cache_types)
        recurrent = (config.linear_num_value_heads, config.linear_key_head_dim, config.linear_value_head_dim)
        return DeltaNetState(
            conv=np.zeros((config.conv_kernel - 1, config.conv_channels), dtype),
            recurrent=np.zeros(recurrent, dtype),
        )

    return State([layer(i) for i in range(config.num_layers)])
