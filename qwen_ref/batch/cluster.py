"""Requests to results on a cluster: portions of them are answered as a batch on one machine is."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any

from qwen_ref.batch.answers import (
    AHEAD,
    MOST,
    Answering,
    Passing,
    answers,
    default_parallel,
    new_service,
    refusal,
)
from qwen_ref.batch.requests import Request
from qwen_ref.cluster.model_files import Found
from qwen_ref.cluster.scheduler import Lost, Tell, Where, connected
from qwen_ref.cluster.worker import Job, Ready, on_worker
from qwen_ref.engine import load
from qwen_ref.engine.prefixes import default_budget
from qwen_ref.errors import QwenRefError
from qwen_ref.files import read_bytes
from qwen_ref.media import parts
from qwen_ref.serve.errors import Problem
from qwen_ref.serve.service import own_file


@dataclass(frozen=True)
class Options:
    """`load` and `settings` are those of a batch on one machine. Unless given, memory and `parallel` follow
    from what is free on the worker's machine, which so many processes `share`."""

    fingerprint: str
    names: list[str]
    load: dict[str, Any]
    settings: dict[str, Any]
    keep: int | None
    parallel: int | None


def prepare(models: list[Found], options: Options, share: int) -> Ready:
    """Raises QwenRefError or GGUFError if the model cannot be loaded, or would answer otherwise."""
    given = on_worker(options.load, models[0], share)
    given["keep"] = default_budget() // share if options.keep is None else options.keep
    model = load(models[0].path, **given, parallel=options.parallel or MOST)
    if model.fingerprint != options.fingerprint:
        raise QwenRefError(
            f"would answer otherwise than here, with less memory, or more ({model.fingerprint}, and not "
            f"{options.fingerprint})"
        )
    model.warm_up(pictures=model.sees)
    parallel = options.parallel or max(1, default_parallel(model) // share)
    service, loop = new_service(model, options.names, parallel, options.settings), asyncio.new_event_loop()

    async def found(requests: list[Request]) -> list[dict[str, Any] | Passing]:
        """In the order of the requests."""
        by_id = dict[str, dict[str, Any] | Passing]()
        async for result in answers(iter(requests), service, parallel + AHEAD):
            if isinstance(result, Passing):
                by_id[result.request.id] = replace(result, request=replace(result.request, body=None))
            else:
                by_id[result["id"]] = result
        return [by_id[request.id] for request in requests]

    def close() -> None:
        service.scheduler.stop(0)
        service.scheduler.join()
        loop.close()

    return Ready(lambda requests: loop.run_until_complete(found(requests)), parallel, close)


@contextlib.asynccontextmanager
async def on_workers(
    where: Where, job: Job, media_folder: str | None, progress: Tell
) -> AsyncIterator[Answering]:
    """What answers on a cluster. Pictures and clips in `media_folder` of this machine are sent with the
    requests that name them. Raises QwenRefError."""
    async with connected(where, job, progress) as cluster:
        deadly = dict[str, Passing]()  # by the requests' ids: no other worker is to end with one now

        async def found(
            requests: Iterator[Request], count: int, alone: bool
        ) -> AsyncIterator[dict[str, Any] | Passing]:
            sent, known = dict[int, Request](), list[dict[str, Any] | Passing]()

            def sending() -> Iterator[Request]:
                number = 0
                for request in requests:
                    if request.id in deadly:
                        known.append(deadly[request.id])
                        continue
                    try:
                        whole = with_files(request, media_folder)
                    except (Problem, RecursionError) as problem:
                        if isinstance(problem, RecursionError):
                            problem = Problem(400, "is nested too deeply")
                        known.append(refusal(request, problem))
                        continue
                    sent[number] = replace(request, body=None)
                    number += 1
                    yield whole

            results = cluster.results(sending(), count, alone)
            try:
                async for number, result in results:
                    request = sent.pop(number)
                    if isinstance(result, Lost):
                        result = deadly[request.id] = Passing(request, Problem(503, str(result)))
                    yield result
                    while known:
                        yield known.pop()
            finally:
                await results.aclose()
            for result in known:
                yield result

        yield found


def with_files(request: Request, media_folder: str | None) -> Request:
    """The pictures and clips of this machine that it names become data: URIs. Raises Problem."""
    if request.problem is not None:
        raise request.problem
    messages = request.body.get("messages")
    if media_folder is None or not isinstance(messages, list):
        return request
    changed = copy.deepcopy(messages)
    for number, message in enumerate(changed, 1):
        content = message.get("content") if isinstance(message, dict) else None
        for place, part in enumerate(content if isinstance(content, list) else (), 1):
            if kind := parts.media_kind(part):
                for holder, name in parts.sources(part, kind):
                    where = f"message {number}: part {place}: {kind}"
                    if isinstance(value := holder[name], str) and value[:7].lower() == "file://":
                        shown = "image" if isinstance(holder, list) else kind  # frames of a clip
                        holder[name] = data_uri(where, value, shown, media_folder)
    return replace(request, body=request.body | {"messages": changed})


def data_uri(where: str, value: str, kind: str, media_folder: str) -> str:
    """What a file:// URL names, as a data: URI. Raises Problem."""
    path = own_file(where, value, kind, media_folder)
    try:
        held = base64.b64encode(read_bytes(path)).decode()
    except QwenRefError as error:
        raise Problem(400, f"{where}: {error}") from None
    return f"data:{kind}/*;base64,{held}"  # of which type, the bytes say
