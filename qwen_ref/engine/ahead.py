"""What the next turn begins with, read before it comes: while somebody types, or nobody asks for anything.

A template shows an answer otherwise than it was generated, without its thought, so it has to be read. Then
only the next question is left to be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from qwen_ref.engine.generation import NEAR, advance
from qwen_ref.messages import Message
from qwen_ref.prompt import Rank, last_question

if TYPE_CHECKING:
    from qwen_ref.engine.model import Model

PIECE = 32  # tokens at a time: a question that comes meanwhile waits for that


def read_ahead(
    model: Model, messages: list[Message], tools: list[dict[str, Any]] | None = None
) -> Generator[None]:
    """Read these messages as they will stand before the next question, a piece at each step of the iterator.

    What was read is kept, also if the iterator is closed before its end. Raises QwenRefError if there is no
    room for another turn.
    """
    if model.prefixes is None:
        return
    prompt = model.encode_prompt([*messages, {"role": "user", "content": "?"}], tools=tools)
    stop = last_question(prompt.token_ids, model.tokenizer)
    prompt = dataclasses.replace(prompt, pauses={stop: Rank.TURN})
    generation = model.generate(prompt, max_tokens=1, draft="off")
    generation.start()
    if generation.num_read > stop - NEAR:
        return
    try:
        while generation.num_read < stop:
            advance([generation], PIECE)
            yield
    finally:
        generation.keep(Rank.TURN)
