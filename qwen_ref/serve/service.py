"""What both APIs are made of: a model with its names, and answers to requests."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from qwen_ref.engine import Generation, Model
from qwen_ref.engine.ahead import read_ahead
from qwen_ref.errors import QwenRefError, of_type
from qwen_ref.media import parts, uri
from qwen_ref.messages import Message
from qwen_ref.prompt import Prompt
from qwen_ref.serve.errors import Problem
from qwen_ref.serve.fields import fits
from qwen_ref.serve.remote import fetch
from qwen_ref.serve.scheduler import Reply, Run, Scheduler

DETAILS = {"auto": None, "low": 256, "high": None}  # tokens of a picture, by what OpenAI's clients ask for
TOGETHER = 2  # requests whose pictures are opened at the same time

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What the server allows, and how much."""

    draft: str = "auto"  # where guesses of the next tokens come from
    parallel: int = 4  # answers that are computed together
    queue: int = 64  # answers that may wait for that
    seconds: float = 600  # an answer may take, waiting included
    max_tokens: int = 32_768  # of an answer
    max_answers: int = 8  # n
    max_body: int = 32 << 20  # bytes of a request
    max_media: int = 16 << 20  # bytes of a remote picture or clip
    remote_media: bool = False
    media_folder: str | None = None  # of this machine, whose pictures and clips requests may name
    api_key: str | None = None
    hosts: tuple[str, ...] = ()  # names of this server beside localhost and addresses
    origins: tuple[str, ...] = ()  # other sites whose pages may ask


def named(error: QwenRefError, names: dict[str, str]) -> Problem:
    """What the engine says of an option, of the request's field that it came from."""
    option, colon, rest = str(error).partition(":")
    if not colon or not option.isidentifier():
        return Problem(400, str(error))
    name = names.get(option, option)
    return Problem(400, f"{name}:{rest}", name)


def problem_of(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, QwenRefError):
        return named(error, {})
    if isinstance(error, MemoryError):
        return Problem(503, "not enough memory for this answer")
    log.error("a request failed", exc_info=error)
    return Problem(500, "the server failed; its log says how")


@dataclass
class Ask:
    """A request, in the terms of Model.generate."""

    model: str  # as the request calls it
    prompts: list[str | list[Message] | list[int]]  # an answer each, or `n`
    options: dict[str, Any]
    n: int = 1
    stream: bool = False
    client: str | None = None
    names: dict[str, str] = field(default_factory=dict)  # of options, where the API has others
    extra: dict[str, Any] = field(default_factory=dict)  # what its own API needs for the reply


class Service:
    def __init__(self, model: Model, names: list[str], settings: Settings):
        self.model, self.names, self.settings = model, names, settings
        self.started = int(time.time())
        self.scheduler = Scheduler(settings.parallel, settings.queue, settings.seconds)
        self.on_answer: Callable[[Generation], Any] = lambda generation: None  # called when one is over
        self.scheduler.on_end = self._ended
        self.scheduler.idle, self.scheduler.busy = self._read_ahead, self._leave_off
        self._said = list[tuple[list[Message], Any]]()  # the last conversation, and the tools in it
        self._ahead: Generator[None] | None = None
        self._opening = asyncio.Semaphore(TOGETHER)

    def check_name(self, name: str) -> None:
        """Raises Problem unless the model is called so here. Ollama's clients add a tag, `:latest`."""
        known = [own.lower() for own in self.names]
        if name.lower() not in known and name.lower().removesuffix(":latest") not in known:
            raise Problem(404, f"model: {name!r:.200} is not here; there is {', '.join(self.names)}", "model")

    def _ended(self, run: Run) -> None:
        """An answer is over."""
        self.on_answer(run.generation)
        if run.reply.messages is not None and len(run.reply.generations) == 1:
            message, continued = run.generation.message, run.reply.messages[-1]["role"] == "assistant"
            if run.generation.finish_reason == "stop" and not continued and "tool_calls" not in message:
                self._said = [([*run.reply.messages, message], run.generation.tools)]

    def _read_ahead(self) -> bool:
        """While nobody asks: a piece of what the next turn of the last conversation begins with, or what is
        kept is written to files. False if there is nothing to do."""
        if self.model.prefixes is None:
            return False
        try:
            if self._said:
                self._ahead = read_ahead(self.model, *self._said.pop())
            if self._ahead is not None:
                next(self._ahead)
                return True
        except (StopIteration, QwenRefError):  # it is read, or there is no room for another turn
            self._ahead = None
        self.model.prefixes.save()
        return False

    def _leave_off(self) -> None:
        """Somebody asks: what was read ahead so far is kept, since it may be for that."""
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            ahead.close()

    async def reply(self, ask: Ask, client: str) -> Reply:
        """Raises Problem or QwenRefError for what cannot be answered."""
        if ask.n * len(ask.prompts) > self.settings.max_answers:
            name = "n" if ask.n > 1 else "prompt"
            told = f"{name}: more than {self.settings.max_answers} answers to one request"
            raise Problem(400, told, name)
        asked, most = ask.options.get("max_tokens"), self.settings.max_tokens
        ask.options["max_tokens"] = most if asked is None else min(asked, most)
        async with self._opening:
            generations = await asyncio.to_thread(self.generations, ask)
        messages = self._conversation(ask)
        return self.scheduler.submit(generations, ask.client or client, messages, ask.stream)

    def _conversation(self, ask: Ask) -> list[Message] | None:
        """Messages that may be followed by others; None for what is no conversation."""
        (prompt, *others), n = ask.prompts, ask.n
        is_one = isinstance(prompt, list) and prompt and isinstance(prompt[0], dict) and not others and n == 1
        return prompt if is_one and ask.options.get("system") is None else None  # type: ignore[return-value]

    def generations(self, ask: Ask) -> list[Generation]:
        """Encoded, their pictures fetched and opened; nothing is computed. Raises Problem."""
        try:
            return self._generations(ask)
        except QwenRefError as error:
            raise named(error, ask.names) from None

    def _generations(self, ask: Ask) -> list[Generation]:
        ask.prompts = [self.readable(prompt) for prompt in ask.prompts]
        generations = list[Generation]()
        for prompt in ask.prompts:
            options = {name: value for name, value in ask.options.items() if value is not None}
            seeds = self._seeds(options.pop("seed", None), ask.n)
            encoded = self.encode(prompt, options)
            options["draft"] = self.settings.draft
            generations += [self.model.generate(encoded, **options, seed=seed) for seed in seeds]
        return generations

    def _seeds(self, seed: int | None, n: int) -> list[int | None]:
        """Answers to one request differ, and are the same again."""
        return [None] * n if seed is None else [seed + number for number in range(n)]

    def readable(self, prompt: Any) -> Any:
        """A prompt from a request, in which no picture is a file of this machine. Raises Problem."""
        if not isinstance(prompt, list):
            return prompt
        return [self._with_media(number, message) for number, message in enumerate(prompt, 1)]

    def encode(self, prompt: Any, options: dict[str, Any]) -> Prompt:
        """Of messages, once for all their answers; what is about the prompt leaves the options."""
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], int):
            return self._of_tokens(prompt)
        names = ("system", "thinking", "raw", "special", "tools")
        about = {name: options.pop(name) for name in names if options.get(name) is not None}
        return self.model.encode_prompt(prompt, **about)

    def _of_tokens(self, token_ids: list[int]) -> Prompt:
        self.check_tokens("prompt", token_ids)
        return Prompt(token_ids)

    def check_tokens(self, name: str, token_ids: list[Any]) -> None:
        """Raises Problem."""
        size = len(self.model.tokenizer)
        for number, token_id in enumerate(token_ids, 1):
            if not (fits(token_id, "a whole number") and 0 <= token_id < size):
                told = f"{name}: number {number}: {token_id!r:.80} is not in 0 to {size - 1}"
                raise Problem(400, told, name)

    def _with_media(self, number: int, message: Any) -> Any:
        """Pictures and clips come with the request, or from where a request may have them fetched: never
        from this machine's files."""
        if not isinstance(message, dict) or not isinstance(message.get("content"), list):
            return message
        content = []
        for place, part in enumerate(message["content"], 1):
            where = f"message {number}: part {place}"
            content.append(self._part(where, part) if parts.media_kind(part) else part)
        return message | {"content": content}

    def _part(self, where: str, part: dict[str, Any]) -> dict[str, Any]:
        part = dict(part)
        kind = parts.media_kind(part)
        assert kind
        if isinstance(inner := part.get(f"{kind}_url"), dict):
            inner = dict(inner)
            if kind == "image" and (detail := inner.pop("detail", None)) is not None:
                if detail not in DETAILS:
                    told = f"{where}: image_url.detail: {detail!r:.80} is not one of {', '.join(DETAILS)}"
                    raise Problem(400, told)
                if DETAILS[detail]:
                    part.setdefault("max_image_tokens", DETAILS[detail])
            part[f"{kind}_url"] = inner
        if "path" in part:
            raise Problem(400, f"{where}: path: files of this machine are not read for requests")
        for holder, name in parts.sources(part, kind):
            holder[name] = self._source(where, kind, holder[name])
        return part

    def _source(self, where: str, kind: str, value: Any) -> Any:
        if isinstance(value, uri.File):  # no request can say that: it was read where the batch was started
            return value
        if not isinstance(value, str):
            raise Problem(400, f"{where}: {kind}: {of_type(value)} is no data: URI")
        if value[:5].lower() == "data:":
            return value
        if uri.is_file_url(value) and self.settings.media_folder is not None:
            file = own_file(f"{where}: {kind}", value, kind, self.settings.media_folder)
            return f"file://{quote(os.fsencode(file))}"
        if not value.lower().startswith(("http://", "https://")):
            told = f"{where}: {kind}: {value!r:.80} is no data: URI, and no file:///… URL in a folder that"
            raise Problem(400, f"{told} --allowed-local-media-path names")
        if not self.settings.remote_media:
            raise Problem(400, f"{where}: {kind}: {value!r:.80} is not fetched; send it as a data: URI")
        try:
            return fetch(value, self.settings.max_media)
        except QwenRefError as error:
            raise Problem(400, f"{where}: {kind}: {error}") from None


def own_file(where: str, value: str, kind: str, media_folder: str) -> str:
    """The path that a file:// URL names, links followed: it must lie in the one folder that may be read.
    Raises Problem."""
    try:
        file = os.path.realpath(str(uri.read_text(value, kind)))
        folder = os.path.realpath(media_folder)
        inside = os.path.commonpath([file, folder]) == folder
    except (QwenRefError, ValueError) as error:  # ValueError: a null character
        raise Problem(400, f"{where}: {error}") from None
    if not inside:
        raise Problem(400, f"{where}: {value!r:.200} is not in {media_folder}")
    return file
