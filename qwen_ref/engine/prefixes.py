"""Kept prefixes: what a model has read once, and need not read again where another prompt begins the same.

A DeltaNet state cannot be cut to fewer tokens, so it is copied at the places where another prompt may well
go on otherwise (`Prompt.pauses`): a snapshot, of 19 MiB for 0.8B and 2B and of 50 MiB for 4B and 9B. Keys and
values can be cut; those of a text that several snapshots share are kept once.

Both lie in a radix tree over prompts' keys, which are token ids and numbers made of pictures. An edge has
some tokens and their keys and values, a node may have the snapshot after all the edges that lead to it:

    system prompt [*] ── user: Hello ── assistant: [*] ── Hi. user: And you? [*]
                      └─ user: Tell me a story ── assistant: [*]

(The idea of such a tree is RadixAttention's, https://arxiv.org/abs/2312.07104.) All of it are copies, bit by
bit, so that logits are those of a run that reads the whole prompt.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qwen_ref.machine import available_memory
from qwen_ref.model.layers import Array
from qwen_ref.model.state import State
from qwen_ref.prompt import Rank

if TYPE_CHECKING:
    from qwen_ref.engine.prefix_files import PrefixFiles

# Least recently used goes first, and each rank as if it had been used so much later: an answer's end before
# the turns of the last few answers, a turn before the system prompts of many. (Were all system prompts to
# outlast all turns, those with the time of day in them would soon fill the budget.) Counted are keeps and
# takes, of which an answer makes about four.
LATER = {Rank.PART: 0, Rank.ANSWER: 0, Rank.TURN: 20, Rank.SYSTEM: 400}


def default_budget(free: int | None = None) -> int:
    """Bytes: a quarter of what is free (now, unless it is given), 1 GiB at most. On a Raspberry Pi with 4 GB
    that is some twenty places of the 0.8B and a conversation of 20,000 tokens, and leaves what the model and
    other programs need."""
    return min(1 << 30, (available_memory() if free is None else free) // 4)


class Node:
    """An edge of the tree, and the node that it leads to."""

    def __init__(self, parent: Node | None, key: Array, growing: list[Array]):
        self.parent, self.key = parent, key  # [T]: of its own tokens
        self.growing = growing  # keys and values of these, [H_kv, T, D] each
        self.fixed: list[Array] = []  # the snapshot's arrays, if there is one
        self.children = dict[int, Node]()  # by the first number of their keys

    def edges(self) -> list[Node]:
        """From the root, which has none, to here."""
        node, edges = self, list[Node]()
        while node.parent:
            edges.append(node)
            node = node.parent
        return edges[::-1]

    def joined(self) -> list[Array]:
        """Keys and values of all tokens up to here, [H_kv, T, D] each."""
        of_each = zip(*(edge.growing for edge in self.edges()), strict=True)
        return [np.concatenate(arrays, axis=1) for arrays in of_each]

    @property
    def nbytes(self) -> int:
        """Of the edge; the snapshot's are besides."""
        return self.key.nbytes + size(self.growing)


def behind(growing: list[Array], start: int) -> list[Array]:
    return [array[:, start:].copy() for array in growing]


def size(arrays: list[Array]) -> int:
    return sum(array.nbytes for array in arrays)


@dataclass
class Use:
    rank: Rank
    last: int  # when it was last used, on a clock that counts uses


class Prefixes:
    """States after beginnings of prompts, and what the vision tower made of pictures, in at most `budget`
    bytes (`nbytes` are in use, keys included).

    `files` may hold more of them, on disk. Not for several threads at once.
    """

    def __init__(self, budget: int, files: PrefixFiles | None = None):
        self.budget, self.files = budget, files
        self.least = Rank.PART  # what is worth less is not kept
        self.clear()

    def clear(self) -> None:
        """Forget all but the files."""
        self.nbytes = self._clock = 0
        self._root = Node(None, np.empty(0, np.int64), [])
        self._pictures = dict[bytes, Array]()
        self._uses = dict[Node | bytes, Use]()  # of nodes with a snapshot, and of pictures by their digest
        self._changing = False

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Around all that is done here: what Ctrl-C, or a lack of memory, left half done is cleared."""
        if self._changing:
            self.clear()
        self._changing = True
        yield
        self._changing = False

    def take(self, key: Array, state: State) -> int:
        """Put the longest kept state that is shorter than the key [T] into `state`, a new one; so many tokens
        need not be read. 0 if none is kept."""
        with self._change():
            *_, (node, tokens) = [(self._root, 0), *self._kept_along(key[:-1])]
            if self.files:
                for longer in self.files.lengths(key, tokens):
                    if found := self.files.read(key[:longer]):
                        rank, growing, fixed = found
                        state.put(longer, growing, fixed)
                        self._add(key[:longer], rank, functools.partial(behind, growing), fixed)
                        return longer
            if tokens:
                self._touch(node)
                state.put(tokens, node.joined(), node.fixed)
            return tokens

    def keep(self, key: Array, rank: Rank, state: State) -> None:
        """The state after the key's tokens [T], all that it has read. It is copied, and may go on."""
        if rank < self.least:
            return
        with self._change():
            for node, tokens in self._kept_along(key):
                if tokens == len(key):
                    self._uses[node].rank = max(rank, self._uses[node].rank)
                    self._touch(node)
                    return
            self._add(key, rank, lambda start: state.arrays(True, start), state.arrays(False))

    def picture(self, digest: bytes) -> Array | None:
        """What the vision tower made of it, [tokens, hidden], if that is kept."""
        with self._change():
            if digest in self._pictures:
                self._touch(digest)
            return self._pictures.get(digest)

    def keep_picture(self, digest: bytes, seen: Array) -> None:
        with self._change():
            if seen.nbytes > self.budget or digest in self._pictures:
                return
            self._pictures[digest] = seen
            self.nbytes += seen.nbytes
            self._uses[digest] = Use(Rank.TURN, 0)
            self._touch(digest)
            self._evict()

    def save(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Write to the files what is not there yet, until `stop` says that somebody waits."""
        with self._change():
            nodes = [node for node in self._uses if isinstance(node, Node)] if self.files else []
            kept = [(np.concatenate([edge.key for edge in node.edges()]), node) for node in nodes]
            for key, node in sorted(kept, key=lambda one: len(one[0])):  # beginnings before what goes on
                assert self.files
                if stop():
                    break
                self.files.write(key, self._uses[node].rank, node.joined, node.fixed)

    # ---- the tree

    def _down(self, key: Array) -> Iterator[tuple[Node, int, int]]:
        """Nodes along the key, each with the number of tokens before its edge, and of those of its edge that
        are the same."""
        node, at = self._root, 0
        while at < len(key) and (child := node.children.get(int(key[at]))):
            n = min(len(child.key), len(key) - at)
            other = np.flatnonzero(child.key[:n] != key[at : at + n])
            n = int(other[0]) if len(other) else n
            yield child, at, n
            if n < len(child.key):
                return
            node, at = child, at + n

    def _kept_along(self, key: Array) -> Iterator[tuple[Node, int]]:
        """Snapshots after beginnings of the key, or all of it, the shortest first, with their lengths."""
        for node, at, n in self._down(key):
            if n == len(node.key) and node in self._uses:
                yield node, at + n

    def _add(self, key: Array, rank: Rank, growing: Callable[[int], list[Array]], fixed: list[Array]) -> None:
        """growing(start) are keys and values of the key's tokens from `start` on."""
        node, at = self._root, 0
        for child, start, n in list(self._down(key)):
            node, at = child if n == len(child.key) else self._split(child, n), start + n
        if at < len(key):
            node.children[int(key[at])] = child = Node(node, key[at:].copy(), growing(at))
            node, self.nbytes = child, self.nbytes + child.nbytes
        if node not in self._uses:
            node.fixed = fixed
            self.nbytes += size(fixed)
            self._uses[node] = Use(rank, 0)
        self._touch(node)
        for part, _ in [*self._kept_along(key[:-1])]:  # this one goes on from it
            if self._uses[part].rank == Rank.PART:
                self._drop(part)
        if sum(edge.nbytes for edge in node.edges()) + size(fixed) > self.budget:
            self._drop(node)  # it would not fit alone
        self._evict()

    def _split(self, node: Node, n: int) -> Node:
        """A node after the first n tokens of the edge. Both parts are copies: a view would hold the whole."""
        assert node.parent
        upper = Node(node.parent, node.key[:n].copy(), [a[:, :n].copy() for a in node.growing])
        node.parent.children[int(node.key[0])] = upper
        node.parent, node.key = upper, node.key[n:].copy()
        node.growing = [a[:, n:].copy() for a in node.growing]
        upper.children[int(node.key[0])] = node
        return upper

    # ---- the budget

    def _touch(self, used: Node | bytes) -> None:
        """The system prompt that it begins with is used with it."""
        self._clock += 1
        for one in used.edges() if isinstance(used, Node) else [used]:
            if one is used or (one in self._uses and self._uses[one].rank == Rank.SYSTEM):
                self._uses[one].last = self._clock

    def _evict(self) -> None:
        while self.nbytes > self.budget:
            self._drop(min(self._uses, key=lambda one: self._uses[one].last + LATER[self._uses[one].rank]))

    def _drop(self, one: Node | bytes) -> None:
        """Forget a picture, or a snapshot and the edges that then lead nowhere."""
        del self._uses[one]
        if isinstance(one, bytes):
            self.nbytes -= self._pictures.pop(one).nbytes
            return
        self.nbytes -= size(one.fixed)
        one.fixed = []
        while one.parent and not one.children and one not in self._uses:
            self.nbytes -= one.nbytes
            del one.parent.children[int(one.key[0])]
            one = one.parent
