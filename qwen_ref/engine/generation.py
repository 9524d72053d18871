"""An answer in the making."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as List
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

    Several go on together with `advance`.
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
        self._model, self._prompt, self._sampler, self._stop = model, prompt, sampler, stop
        self._progress = progress or (lambda what, done, total: None)
        self._drafts = drafts
        self._guess = list[int]()  # the sequence's last tokens: drafted, not chosen yet
        self._decoder = StreamDecoder(model.tokenizer)
        self._held = ""  # text that may be the beginning of a stop string
        self._tokens = np.concatenate([self.prompt_ids, np.empty(limit, int)])  # what was chosen, and room
        self._started, self._over = 0.0, False

    @functools.cached_property
    def _sequence(self) -> Sequence:
        """Made with the first step: pictures may take long to look at."""
        self._started = time.perf_counter()
        return Sequence(self._model.text, self._prompt, self._look() if self._prompt.spans else None)

    def __next__(self) -> str:
        while not self._over:
            ((_, piece),) = advance([self])
            if piece:
                return piece
        raise StopIteration

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

    def _before_step(self) -> Sequence:
        """The sequence, with what it reads next: of the prompt, or the last token and a draft behind it."""
        sequence, prompt = self._sequence, len(self.prompt_ids)
        if len(sequence) == prompt:
            self._progress(f"reading the prompt of {prompt} tokens", sequence.state.num_tokens, prompt)
        else:
            self._guess = self._drafts.draft(sequence, len(self._tokens) - len(sequence) - 1)
            if self._guess:
                sequence.state.mark()
                sequence.extend(self._guess)
        return sequence

    def _deciding(self, hidden: Array) -> Array:
        """Of hidden [T, hidden], the states of what was read, those that tokens are chosen from."""
        return hidden[:0] if self._sequence.unread else hidden[-1 - len(self._guess) :]

    def _after_step(self, hidden: Array, logits: Array) -> str:
        """The text that comes of hidden [T, hidden]; logits [1 + len(guess), vocab] are of the deciding ones,
        after the token before the guess and after its own."""
        sequence, guess, prompt = self._sequence, self._guess, len(self.prompt_ids)
        if sequence.unread:
            self._drafts.read(sequence, hidden, sequence.state.num_tokens)
            return ""
        if len(sequence) == prompt:
            self._progress("reading the prompt", prompt, prompt)
        sure = len(sequence) - len(guess)
        chosen = self._choose(logits, sure)
        self._drafts.judge(len(guess), chosen)
        right = len(chosen) - 1
        self._drafts.read(sequence, hidden[: len(hidden) - len(guess) + right], sure + right)
        sequence.cut(sure + right)
        sequence.extend(chosen[-1:])
        self._note_time()
        return self._show(chosen)

    def _note_time(self) -> None:
        now = time.perf_counter()
        if not self.token_ids:
            self.prompt_seconds, self._started = now - self._started, now
        self.decode_seconds = now - self._started

    def _choose(self, logits: Array, sure: int) -> list[int]:
        """The tokens that come next, of which all but the last were guessed; they are put into `_tokens`, of
        which the first `sure` are known."""
        ends = self._model.tokenizer.eos_ids
        for n, (row, guess) in enumerate(zip(logits, [*self._guess, None], strict=True), sure):
            self._check_logits(row, n)
            token_id = self._tokens[n] = self._sampler.choose(row, self._tokens[:n], len(self.prompt_ids))
            if token_id != guess or token_id in ends:
                break
        return self._tokens[sure : n + 1].tolist()

    def _show(self, chosen: list[int]) -> str:
        """The text of these tokens, up to an end; what may be the beginning of a stop string is held back."""
        text = ""
        for token_id in chosen:
            if token_id in self._model.tokenizer.eos_ids:
                return text + self._end("stop")
            self.token_ids.append(token_id)
            piece, stopped = self._until_stop(self._decoder.push(token_id))
            text += piece
            if stopped:
                self.finish_reason, self._over = "stop", True
                return text
        if len(self._sequence) == len(self._tokens):
            thinking = in_thought(self._model.tokenizer, [*self.prompt_ids, *self.token_ids])
            return text + self._end("length_in_thought" if thinking else "length")
        return text

    def _end(self, reason: str) -> str:
        piece, stopped = self._until_stop(self._decoder.flush())
        held, self._held = self._held, ""
        self.finish_reason, self._over = "stop" if stopped else reason, True
        return piece + held

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


def advance(generations: List[Generation]) -> list[tuple[Generation, str]]:
    """One step of several answers of one model, in one pass over its weights: each of those that are not
    over, and the piece of text that it has come to, often empty.

    After an error, or Ctrl-C, in the middle of a step none of them can go on.
    """
    running = [g for g in generations if not g._over]
    if not running:
        return []
    model = running[0]._model
    model.enter_thread()
    pieces = []
    try:
        hidden = step(model.text, [g._before_step() for g in running])
        deciding = [g._deciding(states) for g, states in zip(running, hidden, strict=True)]
        rows, vocab = np.concatenate(deciding), len(model.tokenizer)
        logits = model.text.logits(rows)[:, :vocab] if len(rows) else rows  # [T, hidden] -> [T, vocab]
        of_each = np.split(logits, np.cumsum([len(some) for some in deciding])[:-1])
        for generation, states, some in zip(running, hidden, of_each, strict=True):
            piece = generation._after_step(states, some)
            generation.text += piece
            pieces.append((generation, piece))
    except BaseException:
        for generation in running:
            generation._over = True
        raise
    return pieces
