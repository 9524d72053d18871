"""Drafts: guesses of the next tokens, which the model checks in one step instead of one step each.

A step reads all weights whether it has one token or a few, so that some tokens more cost little. Each token
is chosen from the model's own logits, with the sampler's own random numbers, and a drafted one stays if it is
the one that was chosen: so the text is the same as without drafts, whatever the sampling (with one draft a
place this is the rejection rule of https://arxiv.org/abs/2211.17192), and only the time is another.
"""

from __future__ import annotations

import reprlib
import time
from collections import deque
from statistics import median
from typing import Protocol

import numpy as np

from qwen_ref.engine.sequence import Sequence
from qwen_ref.errors import QwenRefError
from qwen_ref.model.layers import Array
from qwen_ref.model.matrix import Matrix
from qwen_ref.model.mtp import MTPLayer
from qwen_ref.model.text import TextModel

KINDS = ("auto", "mtp", "lookup", "off")
MOST = 15  # tokens of a draft: with the one before them, 16 rows of a matrix product
FORGET = 0.98  # of what is known of a source's luck is left after each step


class Source(Protocol):
    """Where drafts come from. `guess` is what it last guessed, as far as that is known."""

    name: str
    guess: list[int]

    def read(self, sequence: Sequence, hidden: Array, stop: int) -> None:
        """The model has read `stop` tokens of the sequence; the last ones' states are hidden [T, hidden]."""

    def offers(self, sequence: Sequence) -> int:
        """So many tokens could be guessed now. The sequence's last token is not read yet."""

    def draft(self, sequence: Sequence, tokens: int) -> list[int]:
        """Guess so many of them."""


class Lookup:
    """The last tokens are looked for in the text so far; what followed them there is the draft.

    (Prompt look-up decoding, https://github.com/apoorvumang/prompt-lookup-decoding.)
    """

    name = "lookup"
    WIDTH = 3  # tokens that have to be the same

    def __init__(self) -> None:
        self.guess: list[int] = []
        self._behind: dict[tuple[int, ...], int] = {}  # the last place behind each run of WIDTH tokens ...
        self._known = self.WIDTH  # ... that ends before this one

    def read(self, sequence: Sequence, hidden: Array, stop: int) -> None:
        pass

    def offers(self, sequence: Sequence) -> int:
        ids, width = sequence.token_ids, self.WIDTH
        for at in range(self._known, len(ids)):
            self._behind[tuple(ids[at - width : at])] = at
        self._known = max(self._known, len(ids))
        found = self._behind.get(tuple(ids[-width:]), len(ids))
        self.guess = ids[found : found + MOST]
        return len(self.guess)

    def draft(self, sequence: Sequence, tokens: int) -> list[int]:
        return self.guess[:tokens]


class MTP:
    """The file's layer for multi-token prediction (qwen_ref/model/mtp.py), greedily.

    Its head reads only the first HEAD rows of the output matrix: a tokenizer numbers the frequent tokens
    first, and a draft that reads all 248,320 rows costs more than it saves.

    Where the state of a prompt's beginning was kept, the layer has no rows of that: it begins behind it, as
    if the text did, and drafts are right a little less often at first.
    """

    name = "mtp"
    HEAD = 32_768
    TOGETHER = 32  # rows that may wait to go through the layer with the next draft

    def __init__(self, text: TextModel):
        self.guess: list[int] = []
        self.layer = MTPLayer(text)
        self.state = self.layer.new_state()
        output = self.layer.weights.output
        self._head = Matrix(
            output.tensor.part(0, min(self.HEAD, output.shape[0])), output.budget, output.scale
        )
        self._first: int | None = None  # the token that its first row is of
        # The model's hidden states since that of the last token with a row here: of none, zeros.
        self._hidden: Array = np.zeros((1, text.config.hidden_size), text.dtype)

    def read(self, sequence: Sequence, hidden: Array, stop: int) -> None:
        if self._first is None:
            self._first = stop - len(hidden)
        new = stop - (self._first + self.state.num_tokens - 1 + len(self._hidden))
        self._hidden = np.concatenate([self._hidden, hidden[len(hidden) - new :]])
        if len(self._hidden) > self.TOGETHER:
            self._fill(sequence, stop)

    def _fill(self, sequence: Sequence, stop: int) -> Array:
        """Rows of all tokens up to `stop`, each with the model's hidden state of the token before: H' of
        the last one, [1, hidden]."""
        start = (self._first or 0) + self.state.num_tokens
        x, positions = sequence.inputs(start, stop, self.layer.embed)
        before, self._hidden = np.split(self._hidden, [stop - start])
        return self.layer.forward(x, before, self.state, positions)[-1:]

    def offers(self, sequence: Sequence) -> int:
        self.guess = []
        return MOST

    def draft(self, sequence: Sequence, tokens: int) -> list[int]:
        hidden = self._fill(sequence, len(sequence))
        rows, cache = self.state.num_tokens, self.state.layers[0]
        cache.mark()
        while True:
            logits = self.layer.text.layers.lm_head(hidden, self._head)[0]
            self.guess.append(int(logits.argmax()))
            if len(self.guess) == tokens:
                break
            # A drafted token's row has H' of the row before: it goes again, when the model's own is known.
            hidden = self.layer.forward(self.layer.embed(self.guess[-1:]), hidden, self.state)
        cache.keep(0)
        self.state.num_tokens = rows
        return self.guess


SMALLEST = 512  # hidden size from which a layer's drafts may pay: below, a step is mostly Python around it


class Luck:
    """How often a source guesses right, by the place in its guess."""

    def __init__(self) -> None:
        self.drafted, self.accepted = np.zeros(MOST, int), np.zeros(MOST, int)  # of all that was drafted
        self._tries, self._hits = np.zeros(MOST), np.zeros(MOST)  # lately, drafted or not
        self.seconds = 0.0  # what a token of a draft takes

    def judge(self, guess: list[int], tokens: list[int]) -> None:
        """These tokens have come, where that was guessed."""
        right = common(guess, tokens)
        self._tries *= FORGET
        self._hits *= FORGET
        self._tries[: min(len(guess), len(tokens), right + 1)] += 1
        self._hits[:right] += 1

    def expected(self) -> Array:
        """[MOST + 1]: tokens that a step brings, with 0, 1, … of them drafted. What is not known is even."""
        right = (self._hits + 0.5) / (self._tries + 1)
        return np.concatenate([[1], 1 + np.cumsum(np.cumprod(right))])


def common(a: list[int], b: list[int]) -> int:
    """So many tokens at their beginnings are the same."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class Clock:
    """What a step with so many drafted tokens takes: the median of the last ones."""

    def __init__(self) -> None:
        self.steps = 0
        self._seconds = [deque[float](maxlen=9) for _ in range(MOST + 1)]

    def measured(self, drafted: int, seconds: float) -> None:
        self.steps += 1
        self._seconds[drafted].append(seconds)

    def seconds(self) -> Array:
        """[MOST + 1], for 0, 1, … drafted tokens. Between those that were measured, a straight line; behind
        them, a fifth of a step for each token more, until that is known better."""
        known = [n for n, some in enumerate(self._seconds) if some]
        took = [median(self._seconds[n]) for n in known]
        n = np.arange(MOST + 1)
        return np.interp(n, known, took) + 0.2 * min(took) * np.maximum(0, n - known[-1])


class Drafts:
    """Drafts for one sequence: from the source, and of the length, that bring the most tokens a second."""

    FIRST = 3  # steps at the beginning that are not drafted, ...
    EACH = 64  # ... and one of so many later: to compare

    def __init__(self, sources: list[Source]):
        self.sources = sources
        self.luck = {source.name: Luck() for source in sources}
        self._clock = Clock()
        self._from: str | None = None  # the source of the last draft
        self._started: float | None = None

    def read(self, sequence: Sequence, hidden: Array, stop: int) -> None:
        for source in self.sources:
            source.read(sequence, hidden, stop)

    def draft(self, sequence: Sequence, most: int) -> list[int]:
        """What may follow the sequence, whose last token is not read yet: at most `most` tokens."""
        self._from, self._started = None, time.perf_counter()
        offers = {source: offered for source in self.sources if (offered := source.offers(sequence))}
        if not offers or self._clock.steps < self.FIRST or self._clock.steps % self.EACH == 0:
            return []
        seconds = self._clock.seconds()
        best, tokens, chosen = 1 / seconds[0], 0, None
        for source, offered in offers.items():
            luck, n = self.luck[source.name], np.arange(min(offered, most, MOST) + 1)
            rates = luck.expected()[n] / (seconds[n] + luck.seconds * n)
            if rates.max() > best:
                best, tokens, chosen = rates.max(), int(rates.argmax()), source
        if chosen is None:
            return []
        draft = chosen.draft(sequence, tokens)
        self._from, luck = chosen.name, self.luck[chosen.name]
        now = time.perf_counter()
        luck.seconds += 0.1 * ((now - self._started) / tokens - luck.seconds)
        self._started = now
        return draft

    def judge(self, drafted: int, tokens: list[int]) -> None:
        """These tokens have come of the step after a draft of so many, as far as there was one."""
        if self._started is None:
            return
        self._clock.measured(drafted, time.perf_counter() - self._started)
        for source in self.sources:
            self.luck[source.name].judge(source.guess, tokens)
        if self._from:
            luck = self.luck[self._from]
            luck.drafted[:drafted] += 1
            luck.accepted[: len(tokens) - 1] += 1
        self._started = None  # the next step may be without a draft

    def counts(self) -> dict[str, dict[str, list[int]]]:
        """Of each source that was used, by place in the draft: how many tokens were drafted, and accepted."""
        return {
            name: {
                "drafted": [n for n in luck.drafted.tolist() if n],
                "accepted": luck.accepted[: np.count_nonzero(luck.drafted)].tolist(),
            }
            for name, luck in self.luck.items()
            if luck.drafted.any()
        }


def new_drafts(text: TextModel, kind: str) -> Drafts:
    """`kind` is one of KINDS; "auto" is all that may pay, and nothing with NumPy, whose steps take as
    much longer as they have tokens. Raises QwenRefError if it is no such kind, or the file has no layer."""
    if kind not in KINDS:
        raise QwenRefError(f"draft: {reprlib.repr(kind)} is not one of {', '.join(KINDS)}")
    if kind == "auto" and not text.layers.batches:
        kind = "off"
    sources: list[Source] = []
    pays = text.config.num_mtp_layers and text.config.hidden_size >= SMALLEST
    if kind == "mtp" or (kind == "auto" and pays):
        sources.append(MTP(text))
    if kind in ("lookup", "auto"):
        sources.append(Lookup())
    return Drafts(sources)
