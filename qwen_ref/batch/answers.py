"""Requests to results: on this machine, several together. It knows of no files of requests or results, so
that a portion of a batch can be answered elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from qwen_ref.batch.requests import Request
from qwen_ref.engine import Model, plan
from qwen_ref.machine import available_memory
from qwen_ref.model.cache_types import PLAIN
from qwen_ref.prompt import Rank
from qwen_ref.serve.errors import Problem
from qwen_ref.serve.openai import ANSWERED, error_body
from qwen_ref.serve.service import Service, Settings, problem_of

MOST = 16
AHEAD = 4  # requests that are made ready while others are answered


@dataclass(frozen=True)
class Passing:
    """Why a request has no result now: it may have one later."""

    request: Request
    problem: Problem


def default_parallel(model: Model, share: int = 1) -> int:
    """How many answers are computed together: more than MOST are hardly faster (tests/benchmarks/RESULTS.md),
    and each has a state and keys and values, which together, and with those of processes that `share` the
    machine, should leave most of the memory."""
    context = min(plan.LEAST_CONTEXT, model.context)
    each = 2 * model.text.new_state().nbytes
    each += plan.cache_bytes(model.config, context, model.text.cache_types or PLAIN)
    return max(1, min(MOST, available_memory() // 4 // share // each))


def new_service(model: Model, names: list[str], parallel: int, settings: dict[str, Any]) -> Service:
    """What answers, for a batch: nobody waits for a single answer, and no conversation goes on."""
    most = Settings().max_answers * (parallel + AHEAD)
    service = Service(model, names, Settings(parallel=parallel, queue=most, seconds=float("inf"), **settings))
    service.scheduler.idle = lambda: False
    if model.prefixes is not None:
        model.prefixes.least = Rank.TURN
    return service


def check_body(url: str, body: dict[str, Any], model: Model, names: list[str], draft: str) -> None:
    """A request is looked at as it will be, up to where something would be computed. Raises Problem."""
    service = new_service(model, names, 1, {"draft": draft})
    try:
        service.generations(ANSWERED[url][0](body, service))
    finally:
        service.scheduler.stop(0)
        service.scheduler.join()


def result_of(request: Request, status: int, body: Any, error: Any = None) -> dict[str, Any]:
    response = {"status_code": status, "request_id": request.id.replace("batch_req_", "req_"), "body": body}
    return {"id": request.id, "custom_id": request.custom_id, "response": response, "error": error}


def refusal(request: Request, problem: Problem) -> dict[str, Any]:
    """OpenAI's clients look at the response, vLLM's at the error."""
    body = error_body(problem)
    error = {"code": body["error"]["code"] or body["error"]["type"], "message": problem.message}
    return result_of(request, problem.status, body, error)


async def answer(request: Request, service: Service) -> dict[str, Any] | Passing:
    """A result, an error too where another try would come to the same."""
    try:
        if request.problem is not None:
            raise request.problem
        read, whole = ANSWERED[request.url]
        ask = read(request.body, service)
        reply = await service.reply(ask, "batch")
        try:
            body = await whole(ask, reply, service)
        finally:
            reply.cancel()
    except Exception as error:
        problem = problem_of(error)
        return Passing(request, problem) if problem.status >= 500 else refusal(request, problem)
    return result_of(request, 200, body | {"system_fingerprint": service.model.fingerprint})


async def answers(
    requests: Iterator[Request], service: Service, together: int
) -> AsyncIterator[dict[str, Any] | Passing]:
    """Results as they come. No more requests are taken than are answered `together`, and a few that wait."""
    running = set[asyncio.Task[dict[str, Any] | Passing]]()
    try:
        while True:
            while len(running) < together and (request := next(requests, None)):
                running.add(asyncio.create_task(answer(request, service)))
            if not running:
                return
            ready, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in ready:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


# (requests, how many they are, whether each by itself) -> their results, as they come
Answering = Callable[[Iterator[Request], int, bool], AsyncIterator[dict[str, Any] | Passing]]


@contextlib.asynccontextmanager
async def here(service: Service) -> AsyncIterator[Answering]:
    """What answers on this machine. In the end nothing of it runs any more."""
    try:
        together = service.settings.parallel + AHEAD
        yield lambda requests, _, alone: answers(requests, service, 1 if alone else together)
    finally:
        service.scheduler.stop(0)
        service.scheduler.join()
