"""An answer in the making."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from qwen_ref.chat import in_thought, read_answer
from qwen_ref.engine.draft import Drafts
from qwen_ref.engine.sequence import Sequence, step
from qwen_ref.errors import QwenRefError
from qwen_ref.messages import Message
from qwen_ref.model.layers import Array
from qwen_ref.prompt import Prompt
from qwen_ref.sampling import Sampler
from qwen_ref.tokenizer import StreamDecoder

if TYPE_CHECKING:
    from qwen_ref.engine.model import Model

PATCHES = 1024  # of a video's time steps are encoded together: at least so many, to use each weight often

Progress = Callable[[str, int, int], None]  # called with (what is being read, how much is done, of how much)


def batched(items: Iterator[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    """Lists of `size` items, the last perhaps shorter: itertools.batched, which Python 3.11 has not."""
    while batch := list(itertools.islice(items, size)):
        yield batch


class Generation(Iterator[str]):
    """An answer in the making. Iterate for its pieces; what is known so far stands in the attributes.

    prompt_ids      token ids of the prompt
    token_ids       token ids generated so far, without the end token
    text            all pieces so far
    finish_reason   None while it runs, then "stop" (end token or stop string), "length", or
                    "length_in_thought" where a thought was still open
    message         the assistant's message for the next turn, thought and tool calls apart
    prompt_seconds  from the start to the first token
    decode_seconds  from the first token to the last one so far
    drafted         of each source of drafts, by place in the draft: tokens "drafted" and "accepted"
    """

    def __init__(
        self,
        model: Model,
        prompt: Prompt,
        sampler: Sampler,
        limit: int,
        stop: tuple[str, ...],
        progress: Progress | None,
        drafts: Drafts,
    ):
        self.prompt_ids, self.token_ids = prompt.token_ids, list[int]()
        self.text = ""
        self.finish_reason: str | None = None
        self.prompt_seconds = self.decode_seconds = 0.0
        self._model, self._prompt, self._sampler, self._limit, self._stop = (
            model,
            prompt,
            sampler,
            limit,
            stop,
        )
        self._progress = progress or (lambda what, done, total: None)
        self._drafts = drafts
        self._held = ""  # text that may be the beginning of a stop string
        self._pieces = self._run()

    def __next__(self) -> str:
        self._model.enter_thread()
        piece = next(self._pieces)
        self.text += piece
        return piece

    @property
    def message(self) -> Message:
        """What the conversation goes on with: {"role": "assistant", "content": …} of the text so far, with
        "reasoning_content" if there is a thought, and "tool_calls" if tools are called. If the prompt's last
        message was continued, this is the whole of it and takes its place.
        """
        tokenizer, prompt = self._model.tokenizer, self._prompt
        thinks = in_thought(tokenizer, prompt.token_ids)
        return read_answer(tokenizer, thinks, self.token_ids, self.text, prompt.begun)

    @property
    def drafted(self) -> dict[str, dict[str, list[int]]]:
        return self._drafts.counts()

    def flush(self) -> str:
        """After an interruption: the text that was held back because a stop string might have followed."""
        held, self._held = self._held, ""
        self.text += held
        return held

    def _run(self) -> Iterator[str]:
        decoder = StreamDecoder(self._model.tokenizer)
        started = time.perf_counter()
        for token_id in self._tokens():
            now = time.perf_counter()
            if not self.token_ids:
                self.prompt_seconds, started = now - started, now
            self.decode_seconds = now - started
            self.token_ids.append(token_id)
            piece, stopped = self._until_stop(decoder.push(token_id))
            if piece:
                yield piece
            if stopped:
                self.finish_reason = "stop"
                return
        piece, stopped = self._until_stop(decoder.flush())
        self.finish_reason = "stop" if stopped else self.finish_reason
        if piece or self._held:
            held, self._held = self._held, ""
            yield piece + held

    def _tokens(self) -> Iterator[int]:
        """The model's tokens up to its end token or the limit."""
        network, ends = self._model.text, self._model.tokenizer.eos_ids
        sequence = Sequence(network, self._prompt, self._look() if self._prompt.spans else None)
        total = len(sequence)
        hidden = np.empty(0)
        while sequence.unread:
            self._progress(f"reading the prompt of {total} tokens", sequence.state.num_tokens, total)
            (hidden,) = step(network, [sequence])
            self._drafts.read(sequence, hidden, sequence.state.num_tokens)
        self._progress("reading the prompt", total, total)
        guess = list[int]()  # the sequence's last tokens: read, but not chosen yet
        tokens = np.concatenate([self.prompt_ids, np.empty(self._limit, int)])  # what was chosen
        while True:
            sure = len(sequence) - len(guess)
            chosen = self._choose(hidden[-1 - len(guess) :], tokens, sure, guess)
            self._drafts.judge(len(guess), chosen)
            right = len(chosen) - 1
            self._drafts.read(sequence, hidden[: len(hidden) - len(guess) + right], sure + right)
            sequence.cut(sure + right)
            sequence.extend(chosen[-1:])
            for token_id in chosen:
                if token_id in ends:
                    self.finish_reason = "stop"
                    return
                yield token_id
            if len(sequence) == len(tokens):
                break
            guess = self._drafts.draft(sequence, len(tokens) - len(sequence) - 1)
            if guess:
                sequence.state.mark()
                sequence.extend(guess)
            (hidden,) = step(network, [sequence])
        thinking = in_thought(self._model.tokenizer, [*self.prompt_ids, *self.token_ids])
        self.finish_reason = "length_in_thought" if thinking else "length"

    def _choose(self, hidden: Array, tokens: Array, sure: int, guess: list[int]) -> list[int]:
        """The tokens that come next, of which all but the last were guessed; they are put into `tokens`, of
        which the first `sure` are known. hidden [1 + len(guess), hidden]: after these, and after the guess's.
        """
        vocab, ends = len(self._model.tokenizer), self._model.tokenizer.eos_ids
        logits = self._model.text.logits(hidden)[:, :vocab]  # [T, hidden] -> [T, vocab]
        for n, row in enumerate(logits, sure):
            self._check_logits(row, n)
            tokens[n] = self._sampler.choose(row, tokens[:n], len(self.prompt_ids))
            if tokens[n] in ends or n - sure == len(guess) or tokens[n] != guess[n - sure]:
                break
        return tokens[sure : n + 1].tolist()

    def _check_logits(self, logits: np.ndarray, token: int) -> None:
        """Raises QwenRefError for what can come from a broken file only, and would be nonsense in silence."""
        low, high = logits.min(), logits.max()  # NaN if one is
        if not np.isfinite(low) or not np.isfinite(high):
            raise QwenRefError(f"{self._model.path}: the logits of token {token} are not finite numbers")
        if low == high:
            raise QwenRefError(f"{self._model.path}: the logits of token {token} are all equal")

    def _look(self) -> np.ndarray:
        """What the vision tower makes of all pictures and clips, one after another: [tokens, hidden]."""
        vision, tokens = self._model.vision, []
        depth = vision.config.depth

        def show(name: str, before: int, n: int, steps: int, block: int) -> None:
            self._progress(f"looking at {name}", before * depth + n * block, steps * depth)

        for media in self._prompt.media:
            steps, h, w = media.grid_thw
            done = 0
            for batch in batched(media.patches(None), max(1, PATCHES // (h * w))):
                progress = functools.partial(show, media.name, done, len(batch), steps)
                tokens.append(vision.encode(np.concatenate(batch), (len(batch), h, w), progress))
                done += len(batch)
        return np.concatenate(tokens)

    def _until_stop(self, piece: str) -> tuple[str, bool]:
        """The text to show now, and whether a stop string ended it; a possible beginning of one is held."""
        text = self._held + piece
        found = [text.index(s) for s in self._stop if s in text]
        if found:
            self._held = ""
            return text[: min(found)], True
        longest = max(map(len, self._stop), default=1)
        keep = next(
            (
                n
                for n in range(min(longest - 1, len(text)), 0, -1)
                if any(s.startswith(text[-n:]) for s in self._stop)
            ),
            0,
        )
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False
