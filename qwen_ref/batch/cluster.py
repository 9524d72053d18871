"""Requests to results on a cluster: portions of them are answered as a batch on one machine is."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
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
from qwen_ref.cluster.carried import carried
from qwen_ref.cluster.model_files import Found
from qwen_ref.cluster.scheduler import Lost, Tell, Where, connected
from qwen_ref.cluster.worker import Job, Ready, on_worker
from qwen_ref.engine import load
from qwen_ref.engine.prefixes import default_budget
from qwen_ref.errors import QwenRefError
from qwen_ref.media import uri
from qwen_ref.serve.errors import Problem
from qwen_ref.serve.service import own_file, problem_of


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
    most, fewer = options.parallel or MOST, options.parallel is None
    model = load(models[0].path, **given, parallel=most, fewer=fewer)
    if model.fingerprint != options.fingerprint:
        raise QwenRefError(
            f"would answer otherwise than here, with less memory, or more ({model.fingerprint}, and not "
            f"{options.fingerprint})"
        )
    model.warm_up(pictures=model.sees)
    parallel = options.parallel or min(model.parallel, default_parallel(model, share))
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
                        pickle.dumps(whole)  # as it will be sent
                    except RecursionError:
                        known.append(refusal(request, Problem(400, "is nested too deeply")))
                        continue
                    except (Problem, QwenRefError) as error:
                        known.append(refusal(request, problem_of(error)))
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
    """With the pictures and clips of this machine that it names. Raises Problem or QwenRefError."""
    if request.problem is not None:
        raise request.problem
    if media_folder is None or "messages" not in request.body:
        return request

    def path_of(where: str, source: Any, kind: str) -> str | None:
        if isinstance(source, str) and uri.is_file_url(source):
            return own_file(f"{where}: {kind}", source, kind, media_folder)
        return None  # the worker refuses others, as it would here

    return replace(request, body=request.body | {"messages": carried(request.body["messages"], path_of)})
