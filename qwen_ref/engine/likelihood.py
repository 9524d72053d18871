"""How likely given texts are behind others: what multiple choice is judged by."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from collections.abc import Sequence as List
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qwen_ref.engine.generation import begin
from qwen_ref.engine.sequence import step
from qwen_ref.engine.together import PARALLEL, alike, places, together
from qwen_ref.errors import QwenRefError
from qwen_ref.model.layers import Array
from qwen_ref.prompt import Prompt, Rank

if TYPE_CHECKING:
    from qwen_ref.engine.model import Model
    from qwen_ref.engine.sequence import Sequence

ROWS = 64  # of logits in memory at a time; with Qwen's vocabulary of 248,320 they take 64 MB in float32


class Likelihood(NamedTuple):
    """Of a continuation: ln p, the sum over its tokens, and whether each of them is the likeliest there."""

    logprob: float
    greedy: bool


class Reading:
    """Reads a prompt, and rates the last tokens of it: those from `first` on, and the one behind it.

    `ends` are the tokens that may come behind it: there is a `Likelihood` for each in `found`.
    """

    def __init__(self, model: Model, prompt: Prompt, first: int, ends: list[int]):
        self.model, self.prompt, self.first, self.ends = model, prompt, first, ends
        self.found = [Likelihood(0.0, True)] * len(ends)
        self._sequence: Sequence | None = None

    @property
    def num_read(self) -> int:
        return self._sequence.state.num_tokens if self._sequence else 0

    @property
    def over(self) -> bool:
        return self.num_read == len(self.prompt.token_ids)

    @property
    def sequence(self) -> Sequence:
        assert self._sequence is not None
        return self._sequence

    def start(self) -> None:
        self.model.enter_thread()
        self._sequence, _ = begin(self.model, self.prompt, lambda *_: None, self.first - 1)

    def deciding(self, hidden: Array) -> tuple[range, Array]:
        """Of hidden [T, hidden], what the last step read: places whose next token is rated, their states."""
        before = self.num_read - len(hidden)
        places = range(max(before, self.first - 1), self.num_read)
        return places, hidden[places.start - before :]

    def rate(self, place: int, logits: Array) -> None:
        """logits [vocab] after the token at `place`."""
        scores = logits.astype(np.float64)
        best = int(scores.argmax())
        total = scores[best] + np.log(np.exp(scores - scores[best]).sum())
        if not np.isfinite(total):
            raise QwenRefError(f"{self.model.path}: the logits of token {place + 1} are not finite numbers")
        last = place + 1 == len(self.prompt.token_ids)
        tokens = self.ends if last else [self.prompt.token_ids[place + 1]] * len(self.ends)
        self.found = [
            Likelihood(logprob + float(scores[token] - total), greedy and token == best)
            for (logprob, greedy), token in zip(self.found, tokens, strict=True)
        ]


def loglikelihoods(
    model: Model, requests: List[tuple[Prompt, list[int]]], parallel: int = PARALLEL
) -> Iterator[tuple[int, Likelihood]]:
    """Of requests (a prompt, token ids of what may follow it) the number of each and its `Likelihood`, in the
    order in which they are found.

    Texts are read several at once, and what they begin with in common once, if the model keeps what it reads
    (`load(keep=…)`). Raises QwenRefError if a prompt is empty, or both are longer than the context.
    """
    groups = dict[tuple[bytes, int], list[int]]()  # of those that read the same
    prompts = list[Prompt]()
    for i, (prompt, continuation) in enumerate(requests):
        if not prompt.token_ids:
            raise QwenRefError("the prompt: is empty")
        if (length := len(prompt.token_ids) + len(continuation) - 1) > model.context:
            raise QwenRefError(
                f"the prompt: {length} tokens, with those that follow it, are more than a context of "
                f"{model.context}"
            )
        if not continuation:
            yield i, Likelihood(0.0, True)
            continue
        read = dataclasses.replace(prompt, token_ids=[*prompt.token_ids, *continuation[:-1]], pauses={})
        same = groups.setdefault((read.key.tobytes(), len(prompt.token_ids)), [])
        if not same:
            prompts.append(read)
        same.append(i)
    members = list(groups.values())
    firsts = [first for _, first in groups]
    order, shared = alike([prompt.key for prompt in prompts])
    # A state is of use to another text up to where its first rated token is predicted.
    shared = [min(n, firsts[i] - 1) for n, i in zip(shared, order, strict=True)]
    pauses = places(shared)

    def reading(n: int) -> Reading:
        i = order[n]
        prompt = dataclasses.replace(prompts[i], pauses=pauses[n])
        return Reading(model, prompt, firsts[i], [requests[m][1][-1] for m in members[i]])

    readings = map(reading, range(len(order)))
    for n, done in together(readings, shared, parallel, lambda running: advance(model, running)):
        yield from zip(members[order[n]], done.found, strict=True)


def advance(model: Model, readings: list[Reading]) -> None:
    """One step of several texts."""
    block = max(1, model.block // len(readings))
    hidden = step(model.text, [reading.sequence for reading in readings], block)
    rows, states = list[tuple[Reading, int]](), list[Array]()
    for reading, read in zip(readings, hidden, strict=True):
        places, deciding = reading.deciding(read)
        rows += [(reading, place) for place in places]
        states.append(deciding)
        if model.prefixes is not None and reading.num_read in reading.prompt.pauses:
            model.prefixes.keep(reading.prompt.key[: reading.num_read], Rank.TURN, reading.sequence.state)
    deciding = np.concatenate(states)
    for start in range(0, len(rows), ROWS):
        logits = model.text.logits(deciding[start : start + ROWS])  # [T, hidden] -> [T, vocab]
        for (reading, place), row in zip(rows[start : start + ROWS], logits, strict=True):
            reading.rate(place, row)
