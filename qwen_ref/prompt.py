"""From a question or a conversation to the token ids that the model reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gguf_io import GGUFFile
from qwen_ref.chat import ChatTemplate
from qwen_ref.config import read_config
from qwen_ref.errors import QwenRefError
from qwen_ref.messages import Message
from qwen_ref.tokenizer import Tokenizer, check_unicode

if TYPE_CHECKING:
    from qwen_ref.media.media import Media, Shape

IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
COMPOSED = 4  # characters that the tokenizer's normal form (NFC) may make one, at most
START, END = "<|vision_start|>", "<|vision_end|>"
TURN_START = "<|im_start|>"


class Rank(IntEnum):
    """What a kept state is worth: those of few conversations go before those of many."""

    PART = -1  # in the midst of a prompt, until more of it is kept: it may be interrupted
    ANSWER = 0  # the end of an answer
    TURN = 1  # before a message, or before the answer to it
    SYSTEM = 2  # the end of the system prompt and the tools


class Span(NamedTuple):
    """Tokens of one image, or of one time step of a video: `rows` x `columns` of them from `start` on."""

    start: int
    rows: int
    columns: int


def mrope_positions(length: int, spans: Sequence[Span]) -> np.ndarray:
    """Positions [3, length] of tokens among which pictures stand, for M-RoPE (qwen_ref/model/rope.py).

    Text counts on in all three coordinates. The tokens of a picture share one time and have their own row and
    column, counted from there; the text after it goes on behind the longer side. A video is one span for each
    time step. transformers' `Qwen3_5Model.get_rope_index`.
    """
    positions = np.empty((3, length), int)
    at = position = 0
    for start, rows, columns in spans:
        positions[:, at:start] = np.arange(position, position + start - at)
        position += start - at
        at = start + rows * columns
        row, column = np.indices((rows, columns)).reshape(2, -1)  # [rows * columns] each
        positions[:, start:at] = position + np.stack([np.zeros_like(row), row, column])
        position += max(rows, columns)
    positions[:, at:] = np.arange(position, position + length - at)
    return positions


@dataclass(frozen=True)
class Prompt:
    token_ids: list[int]
    text: str = ""  # as the chat template renders it, one placeholder for each image or time step
    thinks: bool = False  # the answer begins with reasoning
    thinks_unasked: bool = False  # it would, had nobody said whether it should
    spans: list[Span] = field(default_factory=list)
    media: list[Media] = field(default_factory=list)  # what the spans show, in order
    begun: Message | None = None  # the assistant's message that the answer continues
    tools: list[dict[str, Any]] | None = None  # that the answer may call
    first_position: int = 0
    pauses: dict[int, Rank] = field(default_factory=dict)  # after so many tokens a state is worth keeping

    @cached_property
    def key(self) -> np.ndarray:
        """[T] int64: prompts that begin with the same numbers begin with the same states.

        They are the token ids, and in the places of pictures negative numbers made of what the vision tower
        would see there: other pictures, or other sizes of one, have other numbers.
        """
        key = np.array(self.token_ids, np.int64)
        seen = [(media, step) for media in self.media for step in range(media.grid_thw[0])]
        for (start, rows, columns), (media, step) in zip(self.spans, seen, strict=True):
            about = media.digest + repr((step, rows, columns)).encode()
            numbers = hashlib.shake_128(about).digest(8 * rows * columns)
            key[start : start + rows * columns] = np.frombuffer(numbers, np.int64) | np.int64(-(1 << 63))
        return key

    @property
    def positions(self) -> np.ndarray:
        """[3, T]: time, row and column of each token."""
        return mrope_positions(len(self.token_ids), self.spans) + self.first_position

    @property
    def places(self) -> np.ndarray:
        """Numbers of the tokens in whose place the vision tower's output goes, in its order."""
        spans = [np.arange(s.start, s.start + s.rows * s.columns) for s in self.spans]
        return np.concatenate(spans) if spans else np.empty(0, int)


def turns(token_ids: Sequence[int], tokenizer: Tokenizer) -> list[tuple[int, str]]:
    """Where each message begins, and how: "user\\nHello, …"."""
    start = tokenizer.ids.get(TURN_START)
    marks = [i for i, token_id in enumerate(token_ids) if token_id == start]
    return [(i, tokenizer.decode(token_ids[i + 1 : i + 16])) for i in marks]


def last_question(token_ids: Sequence[int], tokenizer: Tokenizer) -> int:
    """Where the last of the user's messages begins; 0 if there is none."""
    return max((i for i, turn in turns(token_ids, tokenizer) if turn.startswith("user")), default=0)


class PromptEncoder:
    """The tokenizer and the chat template of an opened model file."""

    def __init__(self, file: GGUFFile):
        self.tokenizer = Tokenizer(file)
        self._file = file

    @cached_property
    def chat(self) -> ChatTemplate:
        """Raises QwenRefError if the file has none."""
        return ChatTemplate(self._file, self.tokenizer)

    @cached_property
    def _context(self) -> int:
        return read_config(self._file).context_length

    def encode(
        self,
        prompt: str | list[Message],
        *,
        system: str | None = None,
        tools: list[dict[str, Any]] | None = None,
        thinking: bool | None = None,
        raw: bool = False,
        special: bool = False,
        shapes: Sequence[Shape] = (),
    ) -> Prompt:
        """The options are those of `qwen_ref.engine.Model.generate`; `tools` are functions that may be
        called, as in the OpenAI and transformers APIs; `shapes` those of the pictures and clips in the
        messages, in order. Raises QwenRefError.
        """
        if raw:
            if not isinstance(prompt, str) or system is not None or thinking is not None or tools:
                raise QwenRefError(
                    "raw: a raw prompt is one text, without messages, system prompt, tools or thinking"
                )
            token_ids = self.tokenizer.encode(self._checked(prompt), special=special)
            return Prompt(token_ids, prompt, pauses=self._pauses(token_ids, [], begun=True))
        if isinstance(prompt, str):
            check_unicode("the prompt", prompt)
            prompt = [{"role": "user", "content": prompt}]
        chat = self.chat.encode(
            prompt,
            tools,
            thinking,
            system,
            show=lambda text: show_media(self._checked(text), shapes),
        )
        token_ids, spans = self._widen(chat.token_ids, shapes)
        about = dict[str, Any](begun=chat.begun, tools=list(tools) if tools else None)
        about["pauses"] = self._pauses(token_ids, spans, chat.begun is not None)
        return Prompt(token_ids, chat.text, chat.thinks, chat.thinks_unasked, spans, **about)

    def _pauses(self, token_ids: list[int], spans: list[Span], begun: bool) -> dict[int, Rank]:
        """Where another prompt may well go on otherwise: behind the system prompt and the tools; before each
        of the user's messages, and behind the pictures of the last one; before the answer, where the thought
        begins, which the template drops in the next turn. The last token of a text that was `begun` by
        somebody is always read, so the place before it is as good as its end.
        """
        pauses = {len(token_ids) - 1: Rank.TURN} if begun else {}
        messages = turns(token_ids, self.tokenizer)
        marks = [i for i, _ in messages]
        if marks:
            if spans and (seen := spans[-1].start + spans[-1].rows * spans[-1].columns) > marks[-2:][0]:
                pauses[seen] = Rank.TURN
            pauses |= {i: Rank.TURN for i, turn in messages if turn.startswith("user")}
            if messages[0][1].startswith("system"):
                pauses |= dict.fromkeys(marks[1:2], Rank.SYSTEM)
            line = (b"\n" in self.tokenizer.token_bytes(token_id) for token_id in token_ids[marks[-1] :])
            pauses[marks[-1] + next((n for n, ends in enumerate(line, 1) if ends), 0)] = Rank.TURN
        return {at: pauses[at] for at in sorted(pauses) if 0 < at < len(token_ids)}

    def _checked(self, text: str) -> str:
        """The text, unless no context could hold it: its token ids would take 200 times its memory."""
        context = self._context
        most = COMPOSED * context  # were each token one character
        if len(text) > most and len(text) > most * max(map(len, self.tokenizer.tokens)):
            raise QwenRefError(
                f"the prompt: {len(text):,} characters are more than a context of {context} tokens can hold"
            )
        return text

    def _widen(self, token_ids: list[int], shapes: Sequence[Shape]) -> tuple[list[int], list[Span]]:
        """One placeholder token for each span -> as many as the span has tokens."""
        if not shapes:
            return token_ids, []
        pads = {self.tokenizer.ids.get(name) for name in (IMAGE, VIDEO)}
        grids = iter([shape.grid[1:] for shape in shapes for _ in range(shape.grid[0])])
        wide: list[int] = []
        spans = []
        for token_id in token_ids:
            if token_id in pads:
                spans.append(Span(len(wide), *next(grids)))
                wide += [token_id] * (spans[-1].rows * spans[-1].columns)
            else:
                wide.append(token_id)
        return wide, spans


def show_media(text: str, shapes: Sequence[Shape]) -> str:
    """A rendered conversation with each video as its time steps, `<0.5 seconds>` before each.

    As transformers up to 5.9: the template's own start and end of a video go. (From 5.10 on they stay, around
    all time steps.) Raises QwenRefError if the template shows something else than the messages hold.
    """
    left = list(shapes)

    def place(found: re.Match[str]) -> str:
        kind = "image" if IMAGE in found[0] else "video"
        if not left or left[0].kind != kind:
            raise QwenRefError(
                f"the messages: {kind}: the chat template shows one where the messages hold none"
            )
        shape = left.pop(0)
        if kind == "image":
            return found[0]
        return "".join(f"<{time:.1f} seconds>{START}{VIDEO}{END}" for time in shape.timestamps)

    video = re.escape(START + VIDEO + END)
    text = re.sub(f"{re.escape(IMAGE)}|{video}", place, text)
    if left:
        raise QwenRefError(f"the messages: {left[0].kind}: the chat template does not show it")
    return text
