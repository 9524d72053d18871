"""From a question or a conversation to the token ids that the model reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gguf_io import GGUFFile
from qwen_ref.chat import ChatTemplate, Message
from qwen_ref.errors import QwenRefError
from qwen_ref.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    token_ids: list[int]
    thinks: bool = False  # the answer begins with reasoning
    thinks_unasked: bool = False  # it would, had nobody said whether it should


class PromptEncoder:
    """The tokenizer and the chat template of an opened model file."""

    def __init__(self, file: GGUFFile):
        self.tokenizer = Tokenizer(file)
        self._file = file

    @cached_property
    def chat(self) -> ChatTemplate:
        """Raises QwenRefError if the file has none."""
        return ChatTemplate(self._file, self.tokenizer)

    def encode(
        self,
        prompt: str | list[Message],
        *,
        system: str | None = None,
        thinking: bool | None = None,
        raw: bool = False,
        special: bool = False,
    ) -> Prompt:
        """The options are explained at `qwen_ref.engine.Model.generate`. Raises QwenRefError."""
        if raw:
            if not isinstance(prompt, str) or system is not None or thinking is not None:
                raise QwenRefError(
                    "raw: a raw prompt is one text, without messages, system prompt or thinking"
                )
            return Prompt(self.tokenizer.encode(prompt, special=special))
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        token_ids, thinks = self.chat.encode(messages, thinking=thinking)
        unasked = thinks if thinking is None else self.chat.encode(messages)[1]
        return Prompt(token_ids, thinks, unasked)
