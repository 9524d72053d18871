"""An answer in the making."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as List
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from qwen_ref.answer import Answer, Delta
from qwen_ref.engine.draft import Drafts
from qwen_ref.engine.guide import Guides
from qwen_ref.engine.repeats import Repeats
from qwen_ref.engine.sequence import Sequence, step
from qwen_ref.errors import QwenRefError, of_type
from qwen_ref.messages import Message
from qwen_ref.model.layers import Array
from qwen_ref.prompt import Prompt, Rank
from qwen_ref.sampling import Sampler
from qwen_ref.tokenizer import StreamDecoder

if TYPE_CHECKING:
    from qwen_ref.engine.model import Model
    from qwen_ref.engine.prefixes import Prefixes
    from qwen_ref.media.media import Media

PATCHES = 1024  # of a video's time steps are encoded together: at least so many, to use each weight often
NEAR = 8  # tokens behind a kept state another is not worth a step of its own

Progress = Callable[[str, int, int], None]  # called with (what is being read, how much is done, of how much)


def batched(items: Iterator[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    """Lists of `size` items, the last perhaps shorter: itertools.batched, which Python 3.11 has not."""
    while batch := list(itertools.islice(items, size)):
        yield batch


class TokenLogprob(NamedTuple):
    """How likely a token was to the model itself, before penalties, guides and sampling; of the likeliest
    tokens in `top`, too."""

    token_id: int
    logprob: float
    top: list[tuple[int, float]]  # (token id, logprob), the likeliest first


def token_logprob(logits: Array, token_id: int, top: int) -> TokenLogprob:
    """logits [vocab] -> the log-probability of a token, in float64, and those of the `top` likeliest."""
    scores = logits.astype(np.float64)
    scores -= scores.max()
    scores -= np.log(np.exp(scores).sum())
    ids = np.argpartition(-scores, top)[:top] if top < len(scores) else np.arange(len(scores))
    ids = ids[np.lexsort((ids, -scores[ids]))]
    return TokenLogprob(
        token_id, float(scores[token_id]), list(zip(ids.tolist(), scores[ids].tolist(), strict=True))
    )


def prefixes_of(model: Model, prompt: Prompt) -> Prefixes | None:
    """What is kept of prompts before, which all began at position 0."""
    return None if prompt.first_position else model.prefixes


def begin(model: Model, prompt: Prompt, progress: Progress, most: int | None = None) -> tuple[Sequence, int]:
    """What reads the prompt, and how many of its tokens it need not read: their state was kept, of `most`
    tokens at most. Pictures behind them are looked at."""
    prefixes = prefixes_of(model, prompt)
    if prefixes is None:
        return Sequence(model.text, prompt, look(model, prompt, 0, progress)), 0
    state = model.text.new_state()
    key = prompt.key if most is None else prompt.key[: most + 1]
    known = prefixes.take(key, state)
    sequence = Sequence(model.text, prompt, look(model, prompt, known, progress), state)
    sequence.pauses = [place for place in prompt.pauses if place >= known + NEAR]
    return sequence, known


def look(model: Model, prompt: Prompt, known: int, progress: Progress) -> np.ndarray | None:
    """What the vision tower makes of all pictures and clips but those that lie whole within the first
    `known` tokens, one after another: [tokens, hidden]."""
    spans, tokens = iter(prompt.spans), list[np.ndarray]()
    for media in prompt.media:
        *_, last = itertools.islice(spans, media.grid_thw[0])  # one each time step
        if last.start + last.rows * last.columns > known:
            tokens.append(look_at(model, media, prefixes_of(model, prompt), progress))
    return np.concatenate(tokens) if tokens else None


def look_at(model: Model, media: Media, prefixes: Prefixes | None, progress: Progress) -> np.ndarray:
    """[tokens, hidden] of one picture or clip, as it was kept or as the tower sees it now."""
    if prefixes is not None and (kept := prefixes.picture(media.digest)) is not None:
        return kept
    vision, (steps, h, w) = model.vision, media.grid_thw
    depth, tokens, done = vision.config.depth, list[np.ndarray](), 0

    def show(before: int, n: int, block: int) -> None:
        progress(f"looking at {media.name}", before * depth + n * block, steps * depth)

    for batch in batched(media.patches(None), max(1, PATCHES // (h * w))):
        encoded = vision.encode(
            np.concatenate(batch), (len(batch), h, w), functools.partial(show, done, len(batch))
        )
        tokens.append(encoded)
        done += len(batch)
    seen = np.concatenate(tokens)
    if prefixes is not None:
        prefixes.keep_picture(media.digest, seen)
    return seen


class Generation(Iterator[str]):
    """An answer in the making. Iterate for its pieces; what is known so far stands in the attributes.

    prompt_ids      token ids of the prompt
    cached_tokens   of the prompt's tokens the first ones, which were not read: their state was kept
    token_ids       token ids generated so far, without the end token
    text            all pieces so far
    thought_tokens  so many of the tokens belong to its thought
    finish_reason   None while it runs, then "stop" (end token or stop string), "length", or
                    "length_in_thought" where a thought was still open
    error           what ended it before its time, None if nothing did
    message         the assistant's message for the next turn, thought and tool calls apart
    deltas()        the same as it comes
    prompt_seconds  from the start to the first token, or until it was stopped before
    decode_seconds  from the first token to the last one so far
    logprobs        if asked for: of each of `token_ids`, how likely it was
    repeats         so many times in a row its thought has said the same; 0 if it does not
    forced_tokens   of those generated, how many took no step of their own: nothing else could come
    guess           the tokens that the last step had as a draft, of which the first ones may have been right
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
        guides: Guides,
        logprobs: int | None = None,
    ):
        self.prompt_ids, self.token_ids = prompt.token_ids, list[int]()
        self.text, self.thought_tokens = "", 0
        self.finish_reason: str | None = None
        self.error: BaseException | None = None
        self.cached_tokens = 0
        self.prompt_seconds = self.decode_seconds = 0.0
        self.forced_tokens = 0
        self.logprobs = list[TokenLogprob]()
        self._top, self._rated = logprobs, list[TokenLogprob]()  # of the tokens of this step
        self._thought_repeats = Repeats()
        self._model, self._prompt, self._sampler, self._stop = model, prompt, sampler, stop
        self._progress = progress or (lambda what, done, total: None)
        self._drafts, self._guides = drafts, guides
        self._prefixes = prefixes_of(model, prompt)
        self.guess = list[int]()
        self._decoder = StreamDecoder(model.tokenizer)
        self._answer = Answer(model.tokenizer, prompt.token_ids, prompt.begun, prompt.tools)
        self._held = ""  # text that may be the beginning of a stop string
        self._tokens = np.concatenate([self.prompt_ids, np.empty(limit, int)])  # what was chosen, and room
        self._started, self._over = 0.0, False

    @functools.cached_property
    def _sequence(self) -> Sequence:
        """Made with the first step: pictures may take long to look at, and more may be kept by then."""
        self._started = time.perf_counter()
        sequence, self.cached_tokens = begin(self._model, self._prompt, self._progress)
        return sequence

    @property
    def _begun(self) -> bool:
        return "_sequence" in self.__dict__

    def keep(self, rank: Rank) -> None:
        """The sequence's state, for other prompts that begin as what is read of it."""
        if self._prefixes is not None:
            sequence, prompt = self._sequence, len(self.prompt_ids)
            key = np.concatenate([self._prompt.key, np.array(sequence.token_ids[prompt:], np.int64)])
            self._prefixes.keep(key[: sequence.state.num_tokens], rank, sequence.state)

    def start(self) -> None:
        """Begin: pictures are looked at, whose files may be broken. Else the first step does it."""
        self._model.enter_thread()
        _ = self._sequence

    @property
    def tools(self) -> list[dict[str, Any]] | None:
        """Those that the prompt offers."""
        return self._prompt.tools

    @property
    def num_read(self) -> int:
        """So many tokens, the prompt's first, are in its state."""
        return self._sequence.state.num_tokens

    @property
    def over(self) -> bool:
        """Whether it has ended, well or with an error."""
        return self._over

    @property
    def reading(self) -> bool:
        """Whether its prompt is still to be read: no token has come."""
        return not self._begun or len(self._sequence) == len(self.prompt_ids)

    @property
    def to_read(self) -> int:
        """So many of the prompt's tokens are not read yet; all of them until it has begun."""
        return max(0, len(self.prompt_ids) - (self.num_read if self._begun else 0))

    @property
    def newly_read(self) -> int:
        """So many of the prompt's tokens it has read itself; the others were kept, or are not read yet."""
        return len(self.prompt_ids) - self.to_read - self.cached_tokens

    def finds(self, other: Generation) -> bool:
        """Whether it has not begun, and had better wait for what the other one is about to keep: its prompt
        begins with all that the other reads until then."""
        if self._prefixes is None or self._begun:
            return False
        read, key = other.num_read if other._begun else 0, self._prompt.key
        kept = min((place for place in other._prompt.pauses if place > read), default=len(key))
        return kept < len(key) and np.array_equal(key[:kept], other._prompt.key[:kept])

    def __next__(self) -> str:
        while not self._over:
            ((_, piece),) = advance([self])
            if piece:
                return piece
        raise StopIteration

    @property
    def message(self) -> Message:
        """What the conversation goes on with: {"role": "assistant", "content": …} of the text so far, with
        "reasoning_content" if there is a thought, and "tool_calls" if tools are called: their arguments
        are dicts, typed by the tools' schemas. If the prompt's last message was continued, this is the whole
        of it and takes its place.
        """
        return self._answer.message

    def deltas(self) -> list[Delta]:
        """What has come since the last call, in order: text of the thought, text of the content, and calls,
        each when it is whole. Joined they are the `message`, or what it adds to the one that it continues.
        """
        return self._answer.take()

    @property
    def repeats(self) -> int:
        return self._thought_repeats.times

    @property
    def drafted(self) -> dict[str, dict[str, list[int]]]:
        return self._drafts.counts()

    def flush(self) -> str:
        """After an interruption: the text that was held back because a stop string might have followed."""
        held, self._held = self._held, ""
        self._answer.show(len(held))
        self.text += held
        return held

    def _before_step(self) -> Sequence:
        """The sequence, with what it reads next: of the prompt, or the last token and a draft behind it, or
        the last one and those that had to follow."""
        sequence, prompt = self._sequence, len(self.prompt_ids)
        self.guess = []
        if len(sequence) == prompt:
            self._progress(f"reading the prompt of {prompt} tokens", sequence.state.num_tokens, prompt)
        elif sequence.unread == 1:
            self.guess = self._drafts.draft(sequence, len(self._tokens) - len(sequence) - 1)
            if self.guess:
                sequence.state.mark()
                sequence.extend(self.guess)
        return sequence

    def _deciding(self, hidden: Array) -> Array:
        """Of hidden [T, hidden], the states of what was read, those that tokens are chosen from."""
        return hidden[:0] if self._sequence.unread else hidden[-1 - len(self.guess) :]

    def _after_step(self, hidden: Array, logits: Array) -> str:
        """The text that comes of hidden [T, hidden]; logits [1 + len(guess), vocab] are of the deciding ones,
        after the token before the guess and after its own."""
        sequence, guess, prompt = self._sequence, self.guess, len(self.prompt_ids)
        if sequence.unread:
            self.prompt_seconds = time.perf_counter() - self._started
            self._drafts.read(sequence, hidden, sequence.state.num_tokens)
            if (rank := self._prompt.pauses.get(sequence.state.num_tokens)) is not None:
                self.keep(rank)
            elif self._prefixes is not None and self._prefixes.files is not None:
                self.keep(Rank.PART)
            return ""
        if len(sequence) == prompt:
            self._progress("reading the prompt", prompt, prompt)
        sure = len(sequence) - len(guess)
        chosen = self._choose(logits, sure)
        self._drafts.judge(len(guess), chosen)
        right = len(chosen) - 1
        self._drafts.read(sequence, hidden[: len(hidden) - len(guess) + right], sure + right)
        sequence.cut(sure + right)
        chosen += self._take_forced(sure + len(chosen))
        sequence.extend(chosen[right:])
        self._note_time()
        text = self._show(chosen)
        if self._over:
            self.keep(Rank.ANSWER)
        return text

    def _note_time(self) -> None:
        now = time.perf_counter()
        if not self.token_ids:
            self.prompt_seconds, self._started = now - self._started, now
        self.decode_seconds = now - self._started

    def _choose(self, logits: Array, sure: int) -> list[int]:
        """The tokens that come next, of which all but the last were guessed; they are put into `_tokens`, of
        which the first `sure` are known."""
        ends, self._rated = self._model.tokenizer.eos_ids, []
        for n, (row, guess) in enumerate(zip(logits, [*self.guess, None], strict=True), sure):
            self._check_logits(row, n)
            if forced := self._guides.forced():
                token_id = forced[0]
            else:
                allowed = self._guides.allow(row)
                token_id = self._sampler.choose(allowed, self._tokens[:n], len(self.prompt_ids))
            self._tokens[n] = token_id
            if self._top is not None:
                self._rated.append(token_logprob(row, token_id, self._top))
            self._guides.accept(token_id)
            if token_id != guess or token_id in ends:
                break
        return self._tokens[sure : n + 1].tolist()

    def _take_forced(self, sure: int) -> list[int]:
        """The tokens that must follow the first `sure`, up to an end and as far as there is room. (None where
        the model is asked how likely each is: then each has a step.)"""
        if self._top is not None:
            return []
        at = sure
        while at < len(self._tokens) and self._tokens[at - 1] not in self._model.tokenizer.eos_ids:
            if not (forced := self._guides.forced()):
                break
            self._tokens[at] = forced[0]
            self._guides.accept(forced[0])
            at += 1
        forced = self._tokens[sure:at].tolist()
        self.forced_tokens += sum(token_id not in self._model.tokenizer.eos_ids for token_id in forced)
        return forced

    def _show(self, chosen: list[int]) -> str:
        """The text of these tokens, up to an end; what may be the beginning of a stop string is held back."""
        text = ""
        for n, token_id in enumerate(chosen):
            if token_id in self._model.tokenizer.eos_ids:
                return text + self._end("stop")
            self.token_ids.append(token_id)
            self.logprobs += self._rated[n : n + 1]
            if self._answer.in_thought:
                self._thought_repeats.read(token_id)
            decoded = self._decoder.push(token_id)
            self._answer.push(token_id, decoded)
            piece, stopped = self._until_stop(decoded)
            self._answer.show(len(piece))
            self.thought_tokens += self._answer.in_thought
            text += piece
            if stopped:
                self._answer.finish()
                self.finish_reason, self._over = "stop", True
                return text
        if len(self._sequence) == len(self._tokens):
            return text + self._end("length")
        return text

    def _end(self, reason: str) -> str:
        decoded = self._decoder.flush()
        self._answer.push(-1, decoded)
        piece, stopped = self._until_stop(decoded)
        held, self._held = self._held, ""
        self._answer.show(len(piece + held))
        self._answer.finish()
        if stopped:
            reason = "stop"
        elif reason == "length" and self._answer.in_thought:
            reason = "length_in_thought"
        self.finish_reason, self._over = reason, True
        return piece + held

    def _check_logits(self, logits: np.ndarray, token: int) -> None:
        """Raises QwenRefError for what can come from a broken file only, and would be nonsense in silence."""
        low, high = logits.min(), logits.max()  # NaN if one is
        if not np.isfinite(low) or not np.isfinite(high):
            raise QwenRefError(f"{self._model.path}: the logits of token {token} are not finite numbers")
        if low == high:
            raise QwenRefError(f"{self._model.path}: the logits of token {token} are all equal")

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


def advance(generations: List[Generation], block: int | None = None) -> list[tuple[Generation, str]]:
    """One step of several answers of one model, in one pass over its weights: each of those that are not
    over, and the piece of text that it has come to, often empty. Of a prompt up to `block` tokens are read,
    and no more than the model's own `block`.

    What goes wrong with one of them alone, its `error`, is raised when the step is done for all: the others
    can go on. After an error, or Ctrl-C, in the middle of a step none of them can. Raises QwenRefError if
    they are no list of different answers of one model.
    """
    if not isinstance(generations, list | tuple):
        raise QwenRefError(f"advance: give a list of answers, of one too, not {of_type(generations)}")
    for generation in generations:
        if not isinstance(generation, Generation):
            raise QwenRefError(f"advance: {of_type(generation)} is no answer that generate gave")
    if len({*map(id, generations)}) < len(generations):
        raise QwenRefError("advance: an answer is in the list twice")
    if len({id(generation._model) for generation in generations}) > 1:
        raise QwenRefError("advance: the answers are of several models")
    running = [g for g in generations if not g._over]
    if not running:
        return []
    model = running[0]._model
    model.enter_thread(0 if any(g.reading for g in running) else len(running))
    pieces = []
    try:
        block = model.block if block is None else min(block, model.block)
        hidden = step(model.text, [g._before_step() for g in running], block)
        deciding = [g._deciding(states) for g, states in zip(running, hidden, strict=True)]
        rows, vocab = np.concatenate(deciding), len(model.tokenizer)
        logits = model.text.logits(rows)[:, :vocab] if len(rows) else rows  # [T, hidden] -> [T, vocab]
        of_each = np.split(logits, np.cumsum([len(some) for some in deciding])[:-1])
        for generation, states, some in zip(running, hidden, of_each, strict=True):
            try:
                piece = generation._after_step(states, some)
            except QwenRefError as error:
                generation.error, generation._over = error, True
                continue
            generation.text += piece
            pieces.append((generation, piece))
    except BaseException as error:
        for generation in running:
            generation.error, generation._over = error, True
        raise
    if failed := [generation.error for generation in running if generation.error]:
        raise failed[0]
    return pieces
