"""A loaded model: which layers compute it, and what can be asked of it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import reprlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gguf_io import GGUFError, GGUFFile
from qwen_ref import hub, shipped
from qwen_ref.checkpoint import open_model
from qwen_ref.config import TEMPORAL_PATCH_SIZE, read_config
from qwen_ref.engine import best_threads, look, plan
from qwen_ref.engine.backend import choose_layers, is_count, usable_threads, use_threads
from qwen_ref.engine.draft import new_drafts
from qwen_ref.engine.generation import Generation, Progress
from qwen_ref.engine.guide import new_guides
from qwen_ref.engine.prefixes import Prefixes, default_budget
from qwen_ref.engine.sequence import PREFILL_BLOCK
from qwen_ref.errors import QwenRefError, of_type, tell
from qwen_ref.machine import Threads, available_memory, cores
from qwen_ref.media import parts
from qwen_ref.messages import Message, check_messages, check_tools
from qwen_ref.model import cache_types
from qwen_ref.model.layers import Layers
from qwen_ref.model.text import TextModel
from qwen_ref.model.vision import VisionModel, vision_work
from qwen_ref.prompt import Prompt, PromptEncoder
from qwen_ref.sampling import Sampler, defaults, override, stored
from qwen_ref.vision_file import find_vision_file

if TYPE_CHECKING:  # qwen_ref.media takes 0.2 s to import, and most prompts are text
    from qwen_ref.engine.schema import Grammars
    from qwen_ref.media.media import Limits, Media

MOST_LOGPROBS = 20  # as in OpenAI's API
MAX_TOKENS = 32_768  # the answer length that the model cards advise for most questions

DTYPES = (np.float32, np.float64)


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
        keep: int | None,
        cache: str | os.PathLike[str] | None,
        memory_limit: int | None = None,
        cache_type_k: str | None = None,
        cache_type_v: str | None = None,
        parallel: int = 1,
        fewer: bool = False,
    ):
        if not isinstance(dtype, type) or dtype not in DTYPES:
            raise QwenRefError(f"dtype: {reprlib.repr(dtype)} is not numpy.float32 or numpy.float64")
        for name, given in ("model", path), ("mmproj", mmproj), ("cache", cache):
            if not isinstance(given, str | os.PathLike | None):
                raise QwenRefError(f"{name}: {of_type(given)} is no path")
        if cache is not None and not os.fspath(cache):
            raise QwenRefError("cache: its name is empty; . is the folder that this runs in")
        if cache is not None and keep == 0:
            raise QwenRefError("keep: 0 leaves nothing to keep in cache")
        for name, size in ("memory_budget", memory_budget), ("keep", keep), ("memory_limit", memory_limit):
            if size is not None and not is_count(size, least=0):
                raise QwenRefError(f"{name}: {size!r:.80} is not a whole number of bytes from 0 on")
        for name, kind in ("cache_type_k", cache_type_k), ("cache_type_v", cache_type_v):
            if kind is not None and kind not in cache_types.TYPES:
                raise QwenRefError(
                    f"{name}: {reprlib.repr(kind)} is not one of {', '.join(cache_types.TYPES)}"
                )
        if not is_count(parallel):
            raise QwenRefError(f"parallel: {parallel!r:.80} is not a whole number from 1 on")
        file = open_model(path)
        self.path = file.path
        self._mmproj = mmproj
        if mmproj is not None:
            find_vision_file(self.path, read_config(file), mmproj)
        if memory_budget is None:
            memory_budget = available_memory() // 2
        layers = choose_layers(read_config(file), backend, dtype)
        self.threads = self._threads(file, threads, layers)
        self.text = TextModel(file, dtype, memory_budget, layers)
        self.enter_thread()
        self.config = self.text.config
        if types := cache_types.chosen_types(cache_type_k, cache_type_v):
            cache_types.check_types(types, self.config.head_dim, self.path)
            self.text.cache_types = types
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
        self.context, self.block = context or limit, PREFILL_BLOCK
        self.parallel = parallel
        self._limits, self._choice = (context, memory_limit), None
        if layers.name != "numpy":
            job = plan.Job(file, limit, parallel=parallel)
            self._choice = plan.chosen(job, self._vision_file, memory_limit, context, types, fewer)
        elif memory_limit is not None:
            raise QwenRefError("memory_limit: is for the kernels; of NumPy memory_budget limits the floats")
        if (choice := self._choice) is not None:
            tell(choice.sentence)
            self.context, self.block, self.parallel = choice.context, choice.block, choice.parallel
            self.text.cache_types = choice.cache_types
            if keep is not None or cache is not None:
                keep = choice.keep if keep is None else min(keep, choice.keep)
            if cache is not None and keep == 0:
                tell("cache: not used, since the memory has no room to keep what was read")
        self.prefixes = self._prefixes(keep, cache)

    def _threads(self, file: GGUFFile, given: int | None, layers: Layers) -> Threads:
        """Those given; else of kernels those that `warmup` found; else as many as there may be."""
        number = usable_threads() if given is None else given
        if given is not None or number < cores():
            use_threads(number)
        found = best_threads.kept(file) if given is None and layers.name != "numpy" else None
        return found or Threads(number, number)

    def _prefixes(self, keep: int | None, cache: str | os.PathLike[str] | None) -> Prefixes | None:
        """Where states are kept, or None if none are to be: that is so unless one of both was given."""
        if keep is None:
            keep = 0 if cache is None else default_budget()
        if keep == 0:
            return None
        if cache is None:
            return Prefixes(keep)
        from qwen_ref.engine.prefix_files import PrefixFiles, fingerprint

        vision = self._vision_file()  # without one no state has seen a picture
        of_both = fingerprint(self.text, None if vision is None else vision.path)
        return Prefixes(keep, PrefixFiles(cache, of_both, self.text.new_state()))

    def _vision_file(self) -> GGUFFile | None:
        try:
            return find_vision_file(self.path, self.config, self._mmproj)
        except (QwenRefError, GGUFError):
            return None

    @functools.cached_property
    def fingerprint(self) -> str:
        """A name for what its answers depend on beside the request: the files, wherever they lie, of which
        sizes and some of the bytes count, and how they are computed. Raises QwenRefError."""
        from qwen_ref.engine.prefix_files import parts_of, sampled

        how = (self.text.layers.name, np.dtype(self.text.dtype).name, self.text.cache_types, self._limits)
        digest, vision = hashlib.blake2b(repr(how).encode(), digest_size=8), self._vision_file()
        for path in [*parts_of(self.path), *([] if vision is None else parts_of(vision.path))]:
            status, some = sampled(path)
            digest.update(f"{status.st_size} ".encode() + some)
        return f"fp_{digest.hexdigest()}"

    @property
    def max_image_tokens(self) -> int | None:
        """Of each picture, as many as memory has room for now; None if that is no limit."""
        if self._choice is not None:
            return self._choice.max_image_tokens
        try:
            tower = self.vision.file if self.text.layers.name != "numpy" else None
        except (QwenRefError, GGUFError):  # told where the picture is opened
            tower = None
        if tower is None:
            return None
        job = plan.Job(self.text.file, self.context, tower, cache_types=self.text.cache_types)
        return plan.picture_limit(job)

    def _within_memory(self, given: Limits) -> Limits:
        """With no larger pictures than a memory limit has room for; without one a size that is asked for
        stays, and else what is free counts."""
        asked, (_, memory_limit) = given.max_image_tokens, self._limits
        if asked is not None and memory_limit is None:
            return given
        most = self.max_image_tokens
        if most is None or (asked is not None and asked <= most):
            return given
        if asked is not None:
            tell(f"pictures of at most {most:,} tokens, not {asked:,}: more do not fit the memory limit")
        return dataclasses.replace(given, max_image_tokens=most)

    @functools.cached_property
    def vision(self) -> VisionModel:
        """The vision tower, opened when the first picture comes. Raises QwenRefError without its file."""
        file = find_vision_file(self.path, self.config, self._mmproj)
        memory = min(1 << 30, available_memory() // 2)
        return VisionModel(file, self.text.dtype, memory, self.text.layers)

    @functools.cached_property
    def sees(self) -> bool:
        """Whether it has a vision file."""
        try:
            return bool(self.vision)
        except QwenRefError:
            return False

    @functools.cached_property
    def grammars(self) -> Grammars:
        """What makes JSON schemas into guides. Raises QwenRefError without the extra `schema`."""
        from qwen_ref.engine.schema import Grammars

        return Grammars(self.tokenizer)

    def threads_for(self, answers: int) -> int:
        """With how many so many `answers` go on by a token; none: with how many a prompt is read."""
        return self.threads.decode if 0 < answers <= best_threads.FEW else self.threads.prefill

    def enter_thread(self, answers: int = 0) -> None:
        """Before a thread computes what has so many answers in it (`threads_for`): Numba keeps its number of
        threads for each thread that calls it."""
        if self.text.layers.name == "numpy":
            return
        import numba

        numba.set_num_threads(self.threads_for(answers))

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
        for name, kind in zip(("--cache-type-k", "--cache-type-v"), self.text.cache_types, strict=True):
            command += [name, kind]
        command += [] if self._mmproj is None else ["--mmproj", os.fspath(self._mmproj)]
        command += [] if pictures else ["--no-pictures"]
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
        kernels = self.vision.layers.name != "numpy"
        attention = 3 if kernels and plan.sees_by_integers(self.vision.file) else 1  # floats take so long

        def work(grid_thw: tuple[int, int, int]) -> float:
            products, pairs = vision_work(c, grid_thw)
            return products + attention * pairs

        rate = seconds(lambda: self.vision.encode(blank, grid)) / work(grid)
        return reading + rate * sum(work(m.grid_thw) for m in prompt.media)

    def open_media(
        self,
        prompt: str | list[Message],
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        limits: Limits | None = None,
    ) -> tuple[str | list[Message], list[Media]]:
        """Open all pictures and clips of a prompt; the messages come back without them. A picture without a
        limit has at most the tokens that memory has room for. Raises QwenRefError.
        """
        if not isinstance(prompt, str):
            check_messages(prompt)
        images, videos = listed("images", images), listed("videos", videos)
        if limits is None and isinstance(prompt, str) and not images and not videos:
            return prompt, []
        from qwen_ref.media import media

        if not isinstance(prompt, str) and (images or videos):
            raise QwenRefError("images: with chat messages, give pictures as parts of a message's content")
        given = media.Limits() if limits is None else limits
        if isinstance(given, media.Limits) and (images or parts.any_media(prompt)):
            limits = self._within_memory(given)
        messages = [parts.user_message(prompt, images, videos)] if isinstance(prompt, str) else prompt
        opened = media.open_all(messages, limits, lambda: self.vision.config, numbered=messages is prompt)
        return parts.without_sources(messages) if opened or messages is prompt else prompt, opened

    def encode_prompt(
        self,
        prompt: str | list[Message],
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        limits: Limits | None = None,
        **options: Any,
    ) -> Prompt:
        """Token ids and opened pictures of a prompt; the arguments are those of `generate`."""
        messages, media = self.open_media(prompt, images, videos, limits)
        encoded = self.prompts.encode(messages, shapes=[m.shape for m in media], **options)
        return dataclasses.replace(encoded, media=media)

    def encoded(
        self,
        prompt: str | list[Message] | Prompt,
        *,
        system: str | None = None,
        tools: list[dict[str, Any]] | None = None,
        thinking: bool | None = None,
        raw: bool = False,
        special: bool = False,
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        limits: Limits | None = None,
    ) -> Prompt:
        """The prompt, encoded with these options unless it is already; they are those of `generate`.

        Raises QwenRefError if an option makes no sense, is given for what is encoded, or the prompt is empty.
        """
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
        if not prompt.token_ids:
            raise QwenRefError("the prompt: is empty")
        return prompt

    def trace(
        self,
        prompt: str | list[Message] | Prompt,
        *,
        names: Sequence[str] | None = None,
        **options: Any,
    ) -> look.Trace:
        """Read a prompt, in one step, and keep every tensor that comes about: a mapping of names to arrays.

        trace["layers.0.linear_attn.q_norm"] has transformers' name and order of heads. Beside the tensors
        there are trace.attention(3), a layer's attention weights [H, T, T]; trace.states, DeltaNet's after
        each token; and trace.lens(), what each half layer would say next (`qwen_ref.engine.look.Trace`).

        It is always computed with NumPy's layers, whatever the model was loaded with, since inside the
        kernels nothing has a name: what kernels answer is the same but for their rounding. What you changed
        counts: text.config, text.layers (`replaced`), an outer `watching`.

        `prompt` and `options` (system, tools, thinking, raw, special, images, videos, limits) are those of
        `generate`; for an answer's tokens too, `dataclasses.replace` the token_ids of an encoded prompt.
        `names` are patterns (fnmatch) of what is kept, ["layers.3.*", "logits"]; None keeps all. Raises
        QwenRefError if the prompt does not fit the context, or what is kept half of the free memory.
        """
        prompt = self.encoded(prompt, **options)
        if len(prompt.token_ids) > self.context:
            raise QwenRefError(
                f"the prompt: {len(prompt.token_ids)} tokens are more than a context of {self.context}"
            )
        return look.trace(self, prompt, names)

    def states(self, prompt: str | list[Message] | Prompt, **options: Any) -> look.States:
        """DeltaNet's states after each token of a prompt: a mapping of layers to [T, H_v, K, V].

        states[0][:, 3] are those of head 3 in layer 0. A layer's are computed when they are asked for, since
        they are large (1 MiB a token for the 0.8B); states.each(0) gives one token's after another. In all
        else as `trace`, of which this is `trace(prompt).states`.
        """
        return self.trace(prompt, names=look.FOR_STATES, **options).states

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
        draft: str = "auto",
        thinking_budget: int | None = None,
        tool_choice: str = "auto",
        parallel_tool_calls: bool = True,
        logit_bias: Mapping[int, float] | None = None,
        schema: dict[str, Any] | str | bool | None = None,
        logprobs: int | None = None,
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
        card's for the mode in use (with a `schema` without its presence penalty). `draft` says where guesses
        of the next tokens come from, which make it faster and change nothing else: "lookup" (the text so
        far), "mtp" (the file's layer for it), "auto" (both, as far as they help) or "off".

        `thinking_budget` ends a thought at so many tokens, with a sentence that Qwen models know.
        `tool_choice` "auto" leaves it to the model whether it calls a tool; "required" makes the answer
        begin, behind a thought, with a call; a tool's name with a call of that one; "none" keeps it from
        calls. A call that has begun is one of a tool, with that tool's parameters, all that are required;
        their values are the model's own. Without `parallel_tool_calls` the answer ends behind the first.
        `logit_bias` is added to the logits of these tokens, -100 to 100.
        `schema` makes the answer, behind a thought, JSON that fits a JSON schema (a dict, its text, True: any
        object), or a call if there are tools; it is whole unless `finish_reason` is a length. `logprobs` asks
        how likely each token was, and so many of the likeliest ones in its place, 0 to 20.

        Raises QwenRefError if the prompt is empty or does not fit, or an option makes no sense.
        """
        if max_tokens is not None and not is_count(max_tokens):
            raise QwenRefError(f"max_tokens: {max_tokens!r:.80} is not a whole number from 1 on")
        if logprobs is not None and not (is_count(logprobs, least=0) and logprobs <= MOST_LOGPROBS):
            raise QwenRefError(f"logprobs: {logprobs!r:.80} is not a whole number in 0 to {MOST_LOGPROBS}")
        if progress is not None and not callable(progress):
            raise QwenRefError(f"progress: {of_type(progress)} cannot be called")
        stops = (stop,) if isinstance(stop, str) else () if stop is None else stop
        if not (isinstance(stops, list | tuple) and all(isinstance(s, str) and s for s in stops)):
            raise QwenRefError(f"stop: {reprlib.repr(stop)} is no text or list of texts, none of them empty")
        if thinking is False and thinking_budget is not None:
            raise QwenRefError("thinking_budget: without thinking there is no thought to end")
        prompt = self.encoded(
            prompt,
            system=system,
            tools=tools,
            thinking=thinking,
            raw=raw,
            special=special,
            images=images,
            videos=videos,
            limits=limits,
        )
        token_ids = prompt.token_ids
        if len(token_ids) >= self.context:
            raise QwenRefError(
                f"the prompt: {len(token_ids)} tokens leave no room for an answer in a context of "
                f"{self.context}"
            )
        limit = min(max_tokens or MAX_TOKENS, self.context - len(token_ids))
        settings = defaults(prompt.thinks, prompt.thinks_unasked)
        if schema is not None:  # a penalty on what was said hits the quotation mark that ends a text
            settings = dataclasses.replace(settings, presence_penalty=0.0)
        settings = override(settings, **stored(self.text.file.metadata, self.path))
        sampler, drafts = Sampler(override(settings, **sampling)), new_drafts(self.text, draft)
        guides = new_guides(
            self.tokenizer,
            prompt,
            thinking_budget=thinking_budget,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            logit_bias=logit_bias,
            schema=schema,
            grammars=lambda: self.grammars,
        )
        return Generation(self, prompt, sampler, limit, tuple(stops), progress, drafts, guides, logprobs)


def listed(name: str, given: Sequence[Any] | None) -> list[Any]:
    """Pictures or clips as a list. Raises QwenRefError for one that is in none: a path is a sequence, too."""
    if not isinstance(given, list | tuple | None):
        raise QwenRefError(f"{name}: give a list, of one too, not {of_type(given)}")
    return list(given or ())


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    dtype: type = np.float32,
    memory_budget: int | None = None,
    context: int | None = None,
    backend: str | None = None,
    threads: int | None = None,
    mmproj: str | os.PathLike[str] | None = None,
    keep: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    memory_limit: int | None = None,
    cache_type_k: str | None = None,
    cache_type_v: str | None = None,
    parallel: int = 1,
    fewer: bool = False,
) -> Model:
    """Open a Qwen3.5 GGUF file, or the folder of a Hugging Face checkpoint, for text generation, about
    pictures too.

    `path` may be the name of a model that was pulled, "qwen3.5:0.8b" (`qwen_ref.hub`); without one it is the
    small model that ships with the package.
    `dtype` (numpy.float32 or numpy.float64) is what is computed in. `backend` is "numba" (kernels, which read
    the weights as they lie quantized in the file; the default where Numba is installed and dtype is float32)
    or "numpy", which converts weights to floats as they are needed and keeps at most `memory_budget` bytes of
    them (half of the available memory unless given). `threads` are those of the answers' kernels, and of
    NumPy's products in this process; unless given they are those that `warmup` found to be the fastest for
    answers and for prompts (qwen_ref/engine/best_threads.py), else as many as cores for this process, by its
    affinity and its cgroup's share, or as OMP_NUM_THREADS says. `context` is the longest text, prompt and
    answer, in tokens (unless given, what the model was made for). `mmproj` is the vision file; unless given
    it is looked for beside the model when the first picture comes.
    `keep` is how many bytes may hold what was read, for prompts that begin as earlier ones did
    (qwen_ref/engine/prefixes.py; its `default_budget()` is a good number): nothing is kept unless it is
    given, or `cache`, a folder from which more is taken and to which `model.prefixes.save()` writes: with it
    alone `keep` is `default_budget()`.
    `memory_limit` is how many bytes an answer may take with the kernels, as qwen_ref/engine/plan.py counts
    them: context, block of a prompt, what is kept and the size of pictures follow from it, unless they are
    given and less, and keys and values become q8_0 if a `context` that is given does not fit otherwise; a
    warning says what was chosen, and QwenRefError what would fit. Without it the same follows from what is
    free, where that is too little for ordinary answers. `parallel` is how many answers at once are counted,
    or with `fewer` as many of them as memory has room for: `model.parallel` says.
    `cache_type_k` and `cache_type_v` say how keys and values are kept: "f16" (with NumPy: as what is computed
    in), "q8_0" or "q4_0", of which the last costs quality, as a warning says (docs/memory.md).

    Raises gguf_io.GGUFError if the file is not valid GGUF, QwenRefError if it is no Qwen3.5 model.
    """
    path, vision = hub.resolve(shipped.MODEL if path is None else path)
    mmproj = vision if mmproj is None else mmproj
    given = dtype, memory_budget, context, backend, threads, mmproj, keep, cache, memory_limit
    return Model(path, *given, cache_type_k, cache_type_v, parallel, fewer)
