"""From a prompt to text: load a file, prefill, decode, stop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from gguf_io import open_gguf
from qwen_ref.chat import Message
from qwen_ref.config import Config, read_config
from qwen_ref.errors import QwenRefError
from qwen_ref.model.layers import NUMPY, Layers
from qwen_ref.model.text import TextModel
from qwen_ref.prompt import Prompt, PromptEncoder
from qwen_ref.sampling import Sampler, defaults, override
from qwen_ref.tokenizer import StreamDecoder

PREFILL_BLOCK = (
    512  # prompt tokens that go through the model together: bounds the memory for attention scores
)
MAX_TOKENS = 32_768  # the answer length that the model cards advise for most questions

Progress = Callable[[int, int], None]  # called with (prompt tokens done, prompt tokens in all)


BACKENDS = ("numba", "numpy")


def choose_layers(config: Config, backend: str | None, dtype: type, threads: int | None) -> Layers:
    """The one place where kernels or NumPy are chosen. None: kernels, if Numba is here and they fit."""
    if backend not in (None, *BACKENDS):
        raise QwenRefError(f"backend: {backend!r} is not one of {', '.join(BACKENDS)}")
    if backend == "numpy" or (backend is None and dtype != np.float32):
        return NUMPY
    if dtype != np.float32:
        raise QwenRefError(f"backend: numba computes in float32 only, not in {dtype.__name__}")
    try:
        import numba
    except ImportError:
        if backend == "numba":
            raise QwenRefError("backend: numba is not installed; `pip install numba`, or use numpy") from None
        return NUMPY
    if threads is not None:
        if not 1 <= threads <= (most := numba.get_num_threads()):
            raise QwenRefError(f"threads: {threads} is not in 1 to {most}")
        numba.set_num_threads(threads)
    from qwen_ref import kernels

    if kernels.supports(config):
        return kernels.KERNELS
    if backend == "numba":
        raise QwenRefError("backend: numba: the kernels do not fit this model's sizes; use numpy")
    return NUMPY


class Model:
    """A loaded model: `config`, `tokenizer`, `text` (the network) and `generate`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        dtype: type,
        memory_budget: int,
        context: int | None,
        backend: str | None,
        threads: int | None,
    ):
        file = open_gguf(path)
        self.path = file.path
        layers = choose_layers(read_config(file), backend, dtype, threads)
        self.text = TextModel(file, dtype, memory_budget, layers)
        self.config = self.text.config
        self.prompts = PromptEncoder(file)
        self.tokenizer = self.prompts.tokenizer
        if len(self.tokenizer) > self.config.vocab_size:
            raise QwenRefError(
                f"{file.path}: token_embd.weight: has {self.config.vocab_size} rows, "
                f"but the vocabulary {len(self.tokenizer)} tokens"
            )
        limit = self.config.context_length
        if context is not None and not 1 <= context <= limit:
            raise QwenRefError(
                f"{file.path}: context: {context} is not in 1 to {limit}, which the model was made for"
            )
        self.context = context or limit

    def warm_up(self) -> None:
        """Load, or compile, the kernels that the first tokens would wait for, on one thread only."""
        if self.text.layers is NUMPY:
            return
        import numba

        threads = numba.get_num_threads()
        numba.set_num_threads(1)
        state = self.text.new_state()
        self.text.logits(self.text.hidden([0], state))  # the way of a generated token
        self.text.hidden([0] * 8, state)  # the way of a prompt
        numba.set_num_threads(threads)

    def generate(
        self,
        prompt: str | list[Message] | Prompt,
        *,
        system: str | None = None,
        thinking: bool | None = None,
        raw: bool = False,
        special: bool = False,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        progress: Progress | None = None,
        **sampling: float | None,
    ) -> Generation:
        """Answer a prompt: an iterator over pieces of text as they are produced.

        `prompt` is a question, or chat messages ({"role": …, "content": …}); `system` goes before them. (Or
        what `prompts.encode` made of these and of the other options about the prompt.)
        `thinking` asks for reasoning or for none; None leaves it to the model's template. `raw` sends the
        prompt without a template, and then `special` makes control tokens spelled in it count. Generation
        ends at the model's end token, at a `stop` string (which is not part of the text), after `max_tokens`
        (32,768 unless given), or when the context is full. Sampling options are the fields of
        `qwen_ref.sampling.Sampling`; those not given are the model card's for the mode in use.

        Raises QwenRefError if the prompt is empty or does not fit, or an option makes no sense.
        """
        if max_tokens is not None and max_tokens < 1:
            raise QwenRefError(f"max_tokens: {max_tokens} is less than 1")
        if "" in stop:
            raise QwenRefError("stop: an empty string would end every text before it begins")
        if not isinstance(prompt, Prompt):
            prompt = self.prompts.encode(prompt, system=system, thinking=thinking, raw=raw, special=special)
        token_ids, settings = prompt.token_ids, defaults(prompt.thinks, prompt.thinks_unasked)
        if not token_ids:
            raise QwenRefError("the prompt: is empty")
        if len(token_ids) >= self.context:
            raise QwenRefError(
                f"the prompt: {len(token_ids)} tokens leave no room for an answer in a context of "
                f"{self.context}"
            )
        limit = min(max_tokens or MAX_TOKENS, self.context - len(token_ids))
        return Generation(
            self, token_ids, Sampler(override(settings, **sampling)), limit, tuple(stop), progress
        )


class Generation(Iterator[str]):
    """An answer in the making. Iterate for its pieces; what is known so far stands in the attributes.

    prompt_ids      token ids of the prompt
    token_ids       token ids generated so far, without the end token
    text            all pieces so far
    finish_reason   None while it runs, then "stop" (end token or stop string) or "length"
    prompt_seconds  from the start to the first token
    decode_seconds  from the first token to the last one so far
    """

    def __init__(
        self,
        model: Model,
        prompt_ids: list[int],
        sampler: Sampler,
        limit: int,
        stop: tuple[str, ...],
        progress: Progress | None,
    ):
        self.prompt_ids, self.token_ids = prompt_ids, list[int]()
        self.text = ""
        self.finish_reason: str | None = None
        self.prompt_seconds = self.decode_seconds = 0.0
        self._model, self._sampler, self._limit, self._stop, self._progress = (
            model,
            sampler,
            limit,
            stop,
            progress,
        )
        self._held = ""  # text that may be the beginning of a stop string
        self._pieces = self._run()

    def __next__(self) -> str:
        piece = next(self._pieces)
        self.text += piece
        return piece

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
        network, vocab = self._model.text, len(self._model.tokenizer)
        state = network.new_state()
        total = len(self.prompt_ids)
        hidden = np.empty((0, self._model.config.hidden_size))
        for start in range(0, total, PREFILL_BLOCK):
            if self._progress:
                self._progress(start, total)
            hidden = network.hidden(self.prompt_ids[start : start + PREFILL_BLOCK], state)
        if self._progress:
            self._progress(total, total)
        seen = list(self.prompt_ids)
        for n in range(self._limit):
            logits = network.logits(hidden[-1:])[0, :vocab]  # [1, hidden] -> [vocab]
            if not np.isfinite(logits).all():
                raise QwenRefError(
                    f"{self._model.path}: the logits of token {state.num_tokens} are not finite numbers"
                )
            token_id = self._sampler.choose(logits, seen)
            if token_id in self._model.tokenizer.eos_ids:
                self.finish_reason = "stop"
                return
            seen.append(token_id)
            yield token_id
            if n + 1 < self._limit:
                hidden = network.hidden([token_id], state)
        self.finish_reason = "length"

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


def available_memory() -> int:
    """Bytes of memory that can be used without swapping; 4 GiB where the system does not say."""
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 4 << 30


def load(
    path: str | os.PathLike[str],
    *,
    dtype: type = np.float32,
    memory_budget: int | None = None,
    context: int | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Model:
    """Open a Qwen3.5 GGUF file for text generation.

    `dtype` (numpy.float32 or numpy.float64) is what is computed in. `backend` is "numba" (kernels, which read
    the weights as they lie quantized in the file; the default where Numba is installed and dtype is float32)
    or "numpy"; `threads` is for the kernels. NumPy converts weights to floats as they are needed and keeps at
    most `memory_budget` bytes of them (half of the available memory unless given). `context` is the longest
    text, prompt and answer, in tokens (unless given, what the model was made for).

    Raises gguf_io.GGUFError if the file is not valid GGUF, QwenRefError if it is no Qwen3.5 model.
    """
    budget = available_memory() // 2 if memory_budget is None else memory_budget
    return Model(path, dtype, budget, context, backend, threads)
