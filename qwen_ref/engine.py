"""From a prompt to text: load a file, prefill, decode, stop."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import reprlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen_ref import shipped
from qwen_ref.chat import in_thought, read_answer
from qwen_ref.checkpoint import open_model
from qwen_ref.config import TEMPORAL_PATCH_SIZE, Config, VisionConfig, read_config
from qwen_ref.errors import QwenRefError
from qwen_ref.machine import available_memory, cores, default_threads
from qwen_ref.messages import Message, check_messages, check_tools
from qwen_ref.model.layers import NUMPY, Layers
from qwen_ref.model.text import TextModel
from qwen_ref.model.vision import VisionModel
from qwen_ref.prompt import Prompt, PromptEncoder
from qwen_ref.sampling import Sampler, defaults, override, stored
from qwen_ref.tokenizer import StreamDecoder
from qwen_ref.vision_file import find_vision_file

if TYPE_CHECKING:  # qwen_ref.media takes 0.2 s to import, and most prompts are text
    from qwen_ref.media.media import Limits, Media

PREFILL_BLOCK = (
    512  # prompt tokens that go through the model together: bounds the memory for attention scores
)
MAX_TOKENS = 32_768  # the answer length that the model cards advise for most questions

PATCHES = 1024  # of a video's time steps are encoded together: at least so many, to use each weight often

Progress = Callable[[str, int, int], None]  # called with (what is being read, how much is done, of how much)


BACKENDS = ("numba", "numpy")
DTYPES = (np.float32, np.float64)


def most_threads() -> int:
    try:
        import numba
    except ImportError:
        return cores()
    return numba.config.NUMBA_NUM_THREADS


def is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= least)


def use_threads(threads: int) -> None:
    """So many for NumPy's products (the vision tower); the kernels' are set where they are called."""
    from threadpoolctl import threadpool_limits

    most = most_threads()
    if not is_count(threads) or threads > most:
        raise QwenRefError(f"threads: {threads!r:.80} is not a whole number in 1 to {most}")
    threadpool_limits(threads, user_api="blas")


def choose_layers(config: Config, backend: str | None, dtype: type) -> Layers:
    """The one place where kernels or NumPy are chosen. None: kernels, if Numba is here and they fit."""
    if not isinstance(backend, str | None) or backend not in (None, *BACKENDS):
        raise QwenRefError(f"backend: {reprlib.repr(backend)} is not one of {', '.join(BACKENDS)}")
    if backend == "numpy" or (backend is None and dtype != np.float32):
        return NUMPY
    if dtype != np.float32:
        raise QwenRefError(f"backend: numba computes in float32 only, not in {dtype.__name__}")
    try:
        import numba  # noqa: F401
    except ImportError:
        if backend == "numba":
            raise QwenRefError("backend: numba is not installed; `pip install numba`, or use numpy") from None
        return NUMPY
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
        memory_budget: int | None,
        context: int | None,
        backend: str | None,
        threads: int | None,
        mmproj: str | os.PathLike[str] | None,
    ):
        if not isinstance(dtype, type) or dtype not in DTYPES:
            raise QwenRefError(f"dtype: {reprlib.repr(dtype)} is not numpy.float32 or numpy.float64")
        for name, given in ("model", path), ("mmproj", mmproj):
            if not isinstance(given, str | os.PathLike | None):
                raise QwenRefError(f"{name}: a {type(given).__name__} is no path")
        if memory_budget is not None and not is_count(memory_budget, least=0):
            raise QwenRefError(
                f"memory_budget: {memory_budget!r:.80} is not a whole number of bytes from 0 on"
            )
        file = open_model(path)
        self.path = file.path
        self._mmproj = mmproj
        if mmproj is not None:
            find_vision_file(self.path, read_config(file), mmproj)
        if memory_budget is None:
            memory_budget = available_memory() // 2
        if threads is None and (default := default_threads()) < cores():
            threads = min(default, most_threads())
        self._threads = threads
        if threads is not None:
            use_threads(threads)
        layers = choose_layers(read_config(file), backend, dtype)
        self.text = TextModel(file, dtype, memory_budget, layers)
        self.enter_thread()
        self.config = self.text.config
        self.prompts = PromptEncoder(file)
        self.tokenizer = self.prompts.tokenizer
        if len(self.tokenizer) > self.config.vocab_size:
            raise QwenRefError(
                f"{file.path}: token_embd.weight: has {self.config.vocab_size} rows, "
                f"but the vocabulary {len(self.tokenizer)} tokens"
            )
        limit = self.config.context_length
        if context is not None and not (is_count(context) and context <= limit):
            raise QwenRefError(
                f"{file.path}: context: {context!r:.80} is not in 1 to {limit}, which the model was made for"
            )
        self.context = context or limit

    @functools.cached_property
    def vision(self) -> VisionModel:
        """The vision tower, opened when the first picture comes. Raises QwenRefError without its file."""
        file = find_vision_file(self.path, self.config, self._mmproj)
        memory = min(1 << 30, available_memory() // 2)
        return VisionModel(file, self.text.dtype, memory, self.text.layers)

    def enter_thread(self) -> None:
        """Before a thread computes: Numba keeps its number of threads for each thread that calls it."""
        if self._threads is None or self.text.layers.name == "numpy":
            return
        import numba

        numba.set_num_threads(self._threads)

    def warm_up(
        self,
        progress: Callable[[int, int], None] | None = None,
        *,
        pictures: bool = False,
        share: tuple[int, int] | None = None,
    ) -> None:
        """Load, or compile, the kernels that the first tokens, or `pictures`, would wait for.

        `progress` is called with how much is done, of how much, if any must be compiled. Of a `share` (k, n),
        for a process beside others, it is called after each piece.
        """
        if self.text.layers.name == "numpy":
            return
        import numba

        from qwen_ref.kernels import warmup

        works = warmup.works_of(self.text)
        if pictures:
            size = 3 * TEMPORAL_PATCH_SIZE * self.vision.config.patch_size**2
            blank = np.zeros((4 * 4, size), np.float32)
            works.insert(0, lambda: self.vision.encode(blank, (1, 4, 4)))
        command = ["warmup", "--model", os.fspath(self.path)]
        command += [] if self._mmproj is None else ["--mmproj", os.fspath(self._mmproj)]
        command += [] if pictures else ["--no-pictures"]
        self.enter_thread()
        threads = numba.get_num_threads()
        numba.set_num_threads(1)
        try:
            if share is None:
                warmup.do(works, command, progress)
            else:
                warmup.do_share(works, share, progress)
        finally:
            numba.set_num_threads(threads)

    def seconds_until_answer(self, prompt: Prompt) -> float:
        """About how long pictures and prompt will take to read, judged by a small piece of each work."""

        def seconds(call: Callable[[], object]) -> float:
            call()
            started = time.perf_counter()
            call()
            return time.perf_counter() - started

        tokens = min(64, len(prompt.token_ids))
        state = self.text.new_state()
        reading = seconds(lambda: self.text.forward([0] * tokens, state)) / tokens * len(prompt.token_ids)
        if not prompt.media:
            return reading
        c, grid = self.vision.config, (1, 16, 16)
        blank = np.zeros((16 * 16, 3 * TEMPORAL_PATCH_SIZE * c.patch_size**2), np.float32)
        rate = seconds(lambda: self.vision.encode(blank, grid)) / self.vision.work(grid)
        return reading + rate * sum(self.vision.work(m.grid_thw) for m in prompt.media)

    def encode_prompt(
        self,
        prompt: str | list[Message],
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        limits: Limits | None = None,
        **options: Any,
    ) -> Prompt:
        """Token ids and opened pictures of a prompt; the arguments are those of `generate`."""
        messages, media = open_media(prompt, images, videos, limits, lambda: self.vision.config)
        encoded = self.prompts.encode(messages, shapes=[m.shape for m in media], **options)
        return dataclasses.replace(encoded, media=media)

    def generate(
        self,
        prompt: str | list[Message] | Prompt,
        *,
        system: str | None = None,
        tools: list[dict[str, Any]] | None = None,
        thinking: bool | None = None,
        raw: bool = False,
        special: bool = False,
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        limits: Limits | None = None,
        progress: Progress | None = None,
        **sampling: float | None,
    ) -> Generation:
        """Answer a prompt: an iterator over pieces of text as they are produced.

        `prompt` is a question, with `images` and `videos` before it, or chat messages ({"role": …, "content":
        …}) whose content may hold parts ({"type": "image", "image": …}, {"type": "video", "video": …},
        {"type": "text", "text": …}; `qwen_ref.media.parts` has all that they may hold, which `images` and
        `videos` may hold too). A picture is a path, bytes, a data URI, a Pillow image or an array; a video is
        a path, bytes, a data URI, a folder of frames, a list of pictures or an array; `limits` says how much
        is looked at. `system` goes before all that. (Or `prompt` is what `encode_prompt` made of all these.)
        A last message of the assistant's is continued.
        `tools` are functions that may be called, as in the OpenAI and transformers APIs. `thinking` asks for
        reasoning or for none; None leaves it to the model's template. `raw` sends the prompt without a
        template, and then `special` makes control tokens spelled in it count. Generation ends at the model's
        end token, at a `stop` string or one of several (which is not part of the text), after `max_tokens`
        (32,768 unless given), or when the context is full. Sampling options are the fields of
        `qwen_ref.sampling.Sampling`; those not given are the file's (`general.sampling.*`), or else the model
        card's for the mode in use.

        Raises QwenRefError if the prompt is empty or does not fit, or an option makes no sense.
        """
        if max_tokens is not None and not is_count(max_tokens):
            raise QwenRefError(f"max_tokens: {max_tokens!r:.80} is not a whole number from 1 on")
        if progress is not None and not callable(progress):
            raise QwenRefError(f"progress: a {type(progress).__name__} cannot be called")
        stops = (stop,) if isinstance(stop, str) else () if stop is None else stop
        if not (isinstance(stops, list | tuple) and all(isinstance(s, str) and s for s in stops)):
            raise QwenRefError(f"stop: {reprlib.repr(stop)} is no text or list of texts, none of them empty")
        for name, choice in ("raw", raw), ("special", special):
            if not isinstance(choice, bool):
                raise QwenRefError(f"{name}: {choice!r:.80} is not true or false")
        if special and not raw:
            raise QwenRefError("special: it says how to read a raw prompt")
        about: dict[str, Any] = dict(system=system, tools=check_tools(tools), thinking=thinking)
        about |= dict(raw=raw or None, special=special or None, limits=limits)
        about |= dict(images=listed("images", images) or None, videos=listed("videos", videos) or None)
        about = {name: value for name, value in about.items() if value is not None}
        if not isinstance(prompt, Prompt):
            prompt = self.encode_prompt(prompt, **about)
        elif about:
            raise QwenRefError(f"{', '.join(about)}: the prompt is encoded; give this to encode_prompt")
        token_ids = prompt.token_ids
        if not token_ids:
            raise QwenRefError("the prompt: is empty")
        if len(token_ids) >= self.context:
            raise QwenRefError(
                f"the prompt: {len(token_ids)} tokens leave no room for an answer in a context of "
                f"{self.context}"
            )
        limit = min(max_tokens or MAX_TOKENS, self.context - len(token_ids))
        settings = defaults(prompt.thinks, prompt.thinks_unasked)
        settings = override(settings, **stored(self.text.file.metadata, self.path))
        return Generation(
            self, prompt, Sampler(override(settings, **sampling)), limit, tuple(stops), progress
        )


def listed(name: str, given: Sequence[Any] | None) -> list[Any]:
    """Pictures or clips as a list. Raises QwenRefError for one that is in none: a path is a sequence, too."""
    if not isinstance(given, list | tuple | None):
        raise QwenRefError(f"{name}: give a list, of one too, not a {type(given).__name__}")
    return list(given or ())


def open_media(
    prompt: str | list[Message],
    images: Sequence[Any],
    videos: Sequence[Any],
    limits: Limits | None,
    vision: Callable[[], VisionConfig],
) -> tuple[str | list[Message], list[Media]]:
    """Open all pictures and clips of a prompt; the messages come back without them.

    `vision` is asked for the vision file's configuration if there are any. Raises QwenRefError.
    """
    if not isinstance(prompt, str):
        check_messages(prompt)
    images, videos = listed("images", images), listed("videos", videos)
    if limits is None and isinstance(prompt, str) and not images and not videos:
        return prompt, []
    from qwen_ref.media import media, parts

    if not isinstance(prompt, str) and (images or videos):
        raise QwenRefError("images: with chat messages, give pictures as parts of a message's content")
    messages = [parts.user_message(prompt, images, videos)] if isinstance(prompt, str) else prompt
    opened = media.open_all(messages, limits, vision, numbered=messages is prompt)
    return parts.without_sources(messages) if opened or messages is prompt else prompt, opened


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
    """

    def __init__(
        self,
        model: Model,
        prompt: Prompt,
        sampler: Sampler,
        limit: int,
        stop: tuple[str, ...],
        progress: Progress | None,
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
        total, positions, places = len(self.prompt_ids), self._prompt.positions, self._prompt.places
        visible = self._look() if len(places) else np.empty((0, self._model.config.hidden_size))
        hidden = visible
        for start in range(0, total, PREFILL_BLOCK):
            self._progress(f"reading the prompt of {total} tokens", start, total)
            stop = min(start + PREFILL_BLOCK, total)
            x = network.embed(self.prompt_ids[start:stop])  # [T, hidden]
            here = (start <= places) & (places < stop)
            x[places[here] - start] = visible[here]
            hidden = network.forward(x, state, positions[:, start:stop])
        self._progress("reading the prompt", total, total)
        del visible
        tokens = np.concatenate([self.prompt_ids, np.empty(self._limit, int)])
        for n in range(total, len(tokens)):
            logits = network.logits(hidden[-1:])[0, :vocab]  # [1, hidden] -> [vocab]
            self._check_logits(logits, n)
            tokens[n] = token_id = self._sampler.choose(logits, tokens[:n], total)
            if token_id in self._model.tokenizer.eos_ids:
                self.finish_reason = "stop"
                return
            yield token_id
            if n + 1 < len(tokens):
                hidden = network.forward([token_id], state)
        thinking = in_thought(self._model.tokenizer, [*self.prompt_ids, *self.token_ids])
        self.finish_reason = "length_in_thought" if thinking else "length"

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


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    dtype: type = np.float32,
    memory_budget: int | None = None,
    context: int | None = None,
    backend: str | None = None,
    threads: int | None = None,
    mmproj: str | os.PathLike[str] | None = None,
) -> Model:
    """Open a Qwen3.5 GGUF file, or the folder of a Hugging Face checkpoint, for text generation, about
    pictures too.

    Without a `path` it is the small model that ships with the package.
    `dtype` (numpy.float32 or numpy.float64) is what is computed in. `backend` is "numba" (kernels, which read
    the weights as they lie quantized in the file; the default where Numba is installed and dtype is float32)
    or "numpy", which converts weights to floats as they are needed and keeps at most `memory_budget` bytes of
    them (half of the available memory unless given). `threads` are those of the answers' kernels, and of
    NumPy's products in this process; unless given there are as many as cores for this process, by its
    affinity and its cgroup's share, or as OMP_NUM_THREADS says. `context` is the longest text, prompt and
    answer, in tokens (unless given, what the model was made for). `mmproj` is the vision file; unless given
    it is looked for beside the model when the first picture comes.

    Raises gguf_io.GGUFError if the file is not valid GGUF, QwenRefError if it is no Qwen3.5 model.
    """
    path = shipped.MODEL if path is None else path
    return Model(path, dtype, memory_budget, context, backend, threads, mmproj)
