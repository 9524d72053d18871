"""A batch: requests that have no result yet are answered, and their results appended as they come."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from qwen_ref.batch.answers import Answering, Passing
from qwen_ref.batch.requests import Request
from qwen_ref.batch.results import Results
from qwen_ref.interrupts import Runner


class Batch:
    """`requests()` is called several times, each time for all of them, and `name` is where they are.

    total             how many they are
    found             so many had a result before
    answered, errors  so many have one since
    first_error       the result that is the first of the errors
    passing           why the others have none, by the requests' ids
    tokens, seconds   of the answers, and since it began

    Raises QwenRefError if the results are of other requests.
    """

    def __init__(self, requests: Callable[[], Iterator[Request]], name: str, results: Results):
        self.requests, self.results = requests, results
        self.total, self.found = results.check(requests(), name)
        self.answered = self.errors = self.tokens = 0
        self.first_error: dict[str, Any] | None = None
        self.passing = dict[str, Passing]()
        self.seconds = 0.0

    @property
    def done(self) -> int:
        return self.found + self.answered + self.errors

    @property
    def seconds_left(self) -> float:
        """If the others take as long as those so far."""
        return self.seconds / max(1, self.done - self.found) * (self.total - self.done)

    def run(
        self,
        answering: AbstractAsyncContextManager[Answering],
        progress: Callable[[Batch], object] = lambda batch: None,
    ) -> None:
        """Raises QwenRefError if results cannot be written. Ctrl-C ends it: what has a result keeps it."""
        self._started = time.perf_counter()
        progress(self)
        with Runner() as runner:
            runner.run(lambda: self._run(answering, progress))

    async def _run(
        self, answering: AbstractAsyncContextManager[Answering], progress: Callable[[Batch], object]
    ) -> None:
        async with answering as answers:
            pending = (r for r in self.requests() if self.results.done.get(r.key) != r.id)
            await self._answer(answers(pending, self.total - self.done, False), progress)
            if self.passing:  # with all of the memory, or without the one that brought others down
                again = set(self.passing)
                pending = (r for r in self.requests() if r.id in again)
                self.passing.clear()
                await self._answer(answers(pending, len(again), True), progress)

    async def _answer(
        self, results: AsyncIterator[dict[str, Any] | Passing], progress: Callable[[Batch], object]
    ) -> None:
        async for result in results:
            if isinstance(result, Passing):
                self.passing[result.request.id] = replace(result, request=replace(result.request, body=None))
                continue
            self.results.append(result)
            if result["error"] is None:
                self.answered += 1
                self.tokens += result["response"]["body"]["usage"]["completion_tokens"]
            else:
                self.errors += 1
                self.first_error = self.first_error or result
            self.seconds = time.perf_counter() - self._started
            progress(self)
