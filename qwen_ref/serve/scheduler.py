"""One thread computes all answers: each step of the engine brings every running one a token further."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from qwen_ref.answer import Delta
from qwen_ref.engine import Generation, advance
from qwen_ref.engine.generation import TokenLogprob
from qwen_ref.engine.sequence import PREFILL_BLOCK
from qwen_ref.errors import QwenRefError
from qwen_ref.messages import Message
from qwen_ref.serve.errors import Problem

BESIDE = 128  # tokens of a prompt that a step reads where others wait for their next one

log = logging.getLogger(__name__)


@dataclass
class News:
    """What one step has brought to an answer."""

    text: str
    deltas: list[Delta]
    logprobs: list[TokenLogprob]
    over: bool


class Reply:
    """The answers to one request. Iterate for (number of the answer, its News) as they come; of what is no
    `stream` only the last news of each."""

    def __init__(
        self,
        generations: list[Generation],
        client: str,
        deadline: float,
        messages: list[Message] | None,
        stream: bool = True,
    ):
        self.generations, self.client, self.deadline = generations, client, deadline
        self.messages = messages  # that it answers
        self.stream, self.cancelled = stream, False
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Queue[tuple[int, News] | Exception]()

    async def __aiter__(self) -> AsyncIterator[tuple[int, News]]:
        left = len(self.generations)
        try:
            while left:
                news = await self._news.get()
                if isinstance(news, Exception):
                    raise news
                left -= news[1].over
                yield news
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Its answers stop with the step that is running, or never begin."""
        self.cancelled = True

    def tell(self, news: tuple[int, News] | Exception) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._news.put_nowait, news)


@dataclass(eq=False)
class Run:
    """One answer of a reply, waiting or running."""

    reply: Reply
    number: int
    told: int = 0  # log probabilities that were passed on, ...
    shown: int = 0  # ... and characters

    @property
    def generation(self) -> Generation:
        return self.reply.generations[self.number]


@dataclass
class FairQueue:
    """Clients take turns, whoever has many requests waiting; those of one client keep their order."""

    _waiting: OrderedDict[str, deque[Run]] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, runs: list[Run]) -> None:
        self._waiting.setdefault(runs[0].reply.client, deque()).extend(runs)

    def take(self) -> Run:
        client, runs = self._waiting.popitem(last=False)
        run = runs.popleft()
        if runs:
            self._waiting[client] = runs  # behind the others
        return run

    def drop(self, unwanted: Callable[[Run], bool]) -> None:
        for client, runs in list(self._waiting.items()):
            left = deque(run for run in runs if not unwanted(run))
            if left:
                self._waiting[client] = left
            else:
                del self._waiting[client]


def read_together(reading: list[Run]) -> list[Run]:
    """Of the prompts that are to be read, those that a step reads of: the first, and with it others as far as
    all of them are short. One that begins as one of these waits, to find what that keeps."""
    chosen, room = list[Run](), BESIDE
    for run in reading:
        room -= run.generation.to_read
        if chosen and room < 0:
            break
        if not any(run.generation.finds(one.generation) for one in chosen):
            chosen.append(run)
    return chosen


class Scheduler:
    """Runs at most `parallel` answers together, while at most `queue` wait. `seconds` is the time that an
    answer may take, waiting included.

    Beside the answers that are running one long prompt is read, in small pieces, or a few short ones: others'
    tokens wait for one such piece only, and a prompt that begins as one before it finds what that has kept.
    """

    def __init__(self, parallel: int, queue: int, seconds: float):
        self.parallel, self.queue, self.seconds = parallel, queue, seconds
        self._waiting = FairQueue()
        self._running: list[Run] = []
        self._changed = threading.Condition()
        self._stop_at: float | None = None  # when what still runs then is ended
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
        self.steps = 0
        self.on_end: Callable[[Run], Any] = lambda run: None
        self.idle: Callable[[], bool] = lambda: False  # something small to do; whether there is more of it
        self.busy: Callable[[], Any] = lambda: None  # called before each step: nothing is left for later
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    def submit(
        self,
        generations: list[Generation],
        client: str,
        messages: list[Message] | None = None,
        stream: bool = True,
    ) -> Reply:
        """Raises Problem if too many are waiting, or the server is stopping."""
        reply = Reply(generations, client, time.monotonic() + self.seconds, messages, stream)
        with self._changed:
            if self._stop_at is not None:
                raise Problem(503, "the server is stopping")
            most = self.parallel + self.queue
            if len(generations) > most:
                raise Problem(400, f"this server has room for {most} answers, those that wait included")
            room = most - len(self._running) - len(self._waiting)
            if len(generations) > room:
                told = f"{self.running} answers are running and {self.waiting} are waiting"
                raise Problem(503, f"{told}: there is room for {room} more; try again later", retry=5)
            self._waiting.put([Run(reply, number) for number in range(len(generations))])
            self._changed.notify()
        return reply

    def stop(self, grace: float) -> None:
        """No more answers are begun; those that run have so many seconds left."""
        with self._changed:
            self._stop_at = time.monotonic() + grace
            self._changed.notify()

    def join(self) -> None:
        self._thread.join()

    def _work(self) -> None:
        while self._next_runs():
            reading = [run for run in self._running if run.generation.reading]
            deciding = [run for run in self._running if not run.generation.reading]
            runs = deciding + read_together(reading)
            try:
                self.busy()
                self._step(list(runs))
            except Exception as error:  # a fault of ours: those answers are lost, not the server
                log.exception("a step failed")
                for run in runs:
                    if run in self._running:
                        self._end(run, error)

    def _next_runs(self) -> bool:
        """Wait until there are answers to go on with; false when there never will be."""
        while not self._take_up():
            if self._work_in_peace():
                continue
            with self._changed:
                if self._stop_at is not None:
                    return False
                if not len(self._waiting):
                    self._changed.wait()
        return True

    def _work_in_peace(self) -> bool:
        try:
            return self.idle()
        except Exception:  # that is nobody's answer: the server goes on
            log.exception("what was done while nobody asked has failed")
            return False

    def _take_up(self) -> bool:
        """Begin what there is room for. Whether there is anything to go on with."""
        with self._changed:
            self._give_up()
            while len(self._running) < self.parallel and len(self._waiting):
                self._running.append(self._waiting.take())
            return bool(self._running)

    def _give_up(self) -> None:
        """What nobody wants any more, and what takes too long."""
        now, stopping = time.monotonic(), self._stop_at is not None
        late = Problem(504, f"the answer was not ready within {self.seconds:g} seconds")
        end = Problem(503, "the server is stopping")

        def unwanted(run: Run, stop: bool) -> bool:
            problem = end if stop else late if now > run.reply.deadline else None
            if problem is not None:
                run.reply.tell(problem)
            return run.reply.cancelled or problem is not None

        self._waiting.drop(lambda run: unwanted(run, stopping))
        over = self._stop_at is not None and now > self._stop_at
        left = [run for run in self._running if unwanted(run, over)]
        self._running = [run for run in self._running if run not in left]
        for run in left:
            self.on_end(run)

    def _step(self, runs: list[Run]) -> None:
        for run in runs[:]:
            try:
                run.generation.start()  # looks at pictures, whose files may be broken
            except Exception as error:
                self._end(run, error)
                runs.remove(run)
        reading = sum(run.generation.reading for run in runs)
        block = BESIDE if reading < len(runs) else PREFILL_BLOCK
        with contextlib.suppress(QwenRefError):  # it is the error of one of them, seen to below
            advance([run.generation for run in runs], block)
        self.steps += 1
        for run in runs:
            self._tell(run)

    def _tell(self, run: Run) -> None:
        """What the step has brought."""
        generation = run.generation
        if isinstance(generation.error, Exception):
            self._end(run, generation.error)
            return
        if not run.reply.stream and generation.finish_reason is None:
            return  # to wake who waits would take time from the steps
        text, logprobs = generation.text[run.shown :], generation.logprobs[run.told :]
        run.shown += len(text)
        run.told += len(logprobs)
        news = News(text, generation.deltas(), logprobs, generation.finish_reason is not None)
        if news.over:
            self._end(run)
        if text or news.deltas or logprobs or news.over:
            run.reply.tell((run.number, news))

    def _end(self, run: Run, error: Exception | None = None) -> None:
        with self._changed:
            self._running.remove(run)
        if error is not None:
            run.reply.tell(error)
        self.on_end(run)
