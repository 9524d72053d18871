"""What the model remembers between calls: one entry per layer, and the position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qwen_ref.config import Config


class KVCache:
    """Keys and values of a full-attention layer, [S, H_kv, D] each; S grows, room doubles."""

    def __init__(self, heads: int, head_dim: int, dtype: type):
        self.length = 0
        # Keys and values: [2, capacity, H_kv, D]
        self._room: np.ndarray = np.empty((2, 0, heads, head_dim), dtype)

    def append(self, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """k, v [T, H_kv, D] are added; all keys and all values, [S, H_kv, D], are returned as views."""
        start, stop = self.length, self.length + len(k)
        capacity = self._room.shape[1]
        if stop > capacity:
            room = np.empty((2, max(stop, 2 * capacity, 64), *self._room.shape[2:]), self._room.dtype)
            room[:, :start] = self._room[:, :start]
            self._room = room
        self._room[0, start:stop], self._room[1, start:stop] = k, v
        self.length = stop
        return self._room[0, :stop], self._room[1, :stop]

    def copy(self) -> KVCache:
        other = KVCache(self._room.shape[2], self._room.shape[3], self._room.dtype.type)
        other.length, other._room = self.length, self._room[:, : self.length].copy()
        return other


@dataclass
class DeltaNetState:
    """A DeltaNet layer's memory: it does not grow with the text."""

    conv: np.ndarray  # [kernel - 1, channels]: the last inputs of the causal convolution
    recurrent: np.ndarray  # [H_v, K, V]: S, which maps keys to values

    def copy(self) -> DeltaNetState:
        return DeltaNetState(self.conv.copy(), self.recurrent.copy())


@dataclass
class State:
    """Everything after some tokens. `copy()` it to try two continuations of one beginning."""

    layers: list[Any]  # one a layer, each with copy(); the kernels keep theirs in another form
    num_tokens: int = 0
    next_position: int = 0  # of the next text token; images advance it by less than their tokens

    def text_positions(self, tokens: int) -> np.ndarray:
        """[3, T] of so many tokens of text that go on here: one count in all three coordinates."""
        return np.tile(np.arange(tokens) + self.next_position, (3, 1))  # [T] -> [3, T]

    def advance(self, tokens: int, positions: np.ndarray) -> None:
        """By T tokens, which stand at these positions [3, T]."""
        self.num_tokens += tokens
        self.next_position = int(positions.max()) + 1

    def copy(self) -> State:
        return State([layer.copy() for layer in self.layers], self.num_tokens, self.next_position)


def new_state(config: Config, dtype: type) -> State:
    """The state before the first token."""

    def layer(i: int) -> KVCache | DeltaNetState:
        if config.is_full_attention(i):
            return KVCache(config.num_key_value_heads, config.head_dim, dtype)
        recurrent = (config.linear_num_value_heads, config.linear_key_head_dim, config.linear_value_head_dim)
        return DeltaNetState(
            conv=np.zeros((config.conv_kernel - 1, config.conv_channels), dtype),
            recurrent=np.zeros(recurrent, dtype),
        )

    return State([layer(i) for i in range(config.num_layers)])
