"""A job on the workers of a dask cluster. All that speaks with dask is in this file.

Each worker computes one portion at a time. dask is told which worker a task is for, and to try nothing
again: portions.py gives out anew what a worker that is gone has left.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gguf_io import GGUFError
from qwen_ref.cluster import model_files, worker
from qwen_ref.cluster.model_files import Found, ModelFiles
from qwen_ref.cluster.portions import DEATHS, Portion, Portions
from qwen_ref.cluster.worker import Job
from qwen_ref.errors import QwenRefError, tell
from qwen_ref.interrupts import Runner, deaf_processes

if TYPE_CHECKING:
    from distributed import Client

CONNECT = 8.0  # seconds without an answer
WAIT = 120.0  # for workers, where there are none
LOOK = 0.5  # between two looks at which workers there are
SENDING = 8  # machines that a model is sent to at the same time
# Else port 8787 of all addresses is taken for it, and a warning is printed where another cluster has it.
NO_PAGE = {"dashboard_address": "127.0.0.1:0"}
# Run in each process as it starts, also in one that takes another's place: Ctrl-C is this one's affair.
DEAF = """
import multiprocessing, signal
if multiprocessing.parent_process():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
"""

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Where:
    """A scheduler's address, or how many processes of this machine."""

    address: str | None = None
    processes: int = 0

    @property
    def share(self) -> int:
        """How many processes share a machine."""
        return max(1, self.processes)

    def __str__(self) -> str:
        return self.address or f"--local-cluster {self.processes}"


@dataclass(frozen=True)
class Lost:
    """In the place of an item's result: these workers ended while they had it."""

    workers: list[str]

    def __str__(self) -> str:
        return f"{len(self.workers)} workers ended while they computed it: {', '.join(self.workers)}"


class Call:
    """Computed by whoever unpickles it: so the scheduler, which looks at tasks, needs no qwen_ref."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


@asynccontextmanager
async def connected(where: Where, job: Job, progress: Tell = lambda line: None) -> AsyncIterator[Cluster]:
    """Raises QwenRefError if there is no scheduler."""
    try:
        import dask
        from distributed import Client, LocalCluster
    except ModuleNotFoundError:
        raise QwenRefError("a cluster needs dask: pip install 'qwen_ref[cluster]'") from None
    for name in [*logging.root.manager.loggerDict]:  # what goes wrong is told here, in a sentence
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GB"})
    async with AsyncExitStack() as stack:
        address: Any = where.address
        if where.processes:
            progress(f"starting {where.processes} processes")
            try:
                with deaf_processes():
                    address = await stack.enter_async_context(
                        LocalCluster(
                            n_workers=where.processes,
                            threads_per_worker=1,
                            asynchronous=True,
                            dashboard_address=None,
                            scheduler_kwargs=NO_PAGE,
                            memory_limit=0,
                            silence_logs=logging.CRITICAL,
                            preload=DEAF,
                        )
                    )
            except RuntimeError as error:  # no room on the disk, say
                raise QwenRefError(f"{where}: {error}") from None
        progress(f"looking for {where}")
        client = Client(address, asynchronous=True, timeout=CONNECT, set_as_default=False)
        stack.push_async_callback(client.close)
        try:
            async with asyncio.timeout(CONNECT):
                await client
        except OSError:
            raise QwenRefError(f"--scheduler: {where}: no dask scheduler answers there") from None
        except (TypeError, ValueError) as error:  # certificates that are missing
            raise QwenRefError(f"--scheduler: {where}: {error}") from None
        yield Cluster(client, where, job, progress)


def machine_of(worker: str) -> str:
    return worker.rpartition(":")[0]


class Cluster:
    """Its workers, for one job. A worker that cannot do it is left out, and a warning says why."""

    def __init__(self, client: Client, where: Where, job: Job, progress: Tell):
        self.client, self.where, self.progress = client, where, progress
        self.models, self.job = job.models, pickle.dumps(job)
        self.prepared = dict[str, tuple[list[Found], int]]()  # worker -> its models, items together
        self.refused = dict[str, str]()
        self._begun = False  # whether any worker could do it
        self._since: float | None = None  # when nobody was there
        self._ended = Counter[str]()  # machine -> workers of it that ended before they were ready
        self._hosts = defaultdict[str, asyncio.Lock](asyncio.Lock)
        self._sending = asyncio.Semaphore(SENDING)

    async def results(
        self, items: Iterator[Any], total: int, alone: bool = False
    ) -> AsyncGenerator[tuple[int, Any]]:
        """The number of each item, from 0 on, and its result, as they come; or `Lost` for one that no worker
        lives through. `total` is about how many there are, and `alone` gives each by itself.

        Raises QwenRefError if there are no workers, the scheduler is gone, or an item's answer raises it.
        """
        from distributed.client import FutureCancelledError

        portions = Portions(map(pickle.dumps, items), total, alone)
        events = asyncio.Queue[tuple[str, Portion | None, asyncio.Task[Any]]]()
        tasks = dict[str, asyncio.Task[Any]]()
        self._since = None

        def start(name: str, portion: Portion | None, work: Any) -> None:
            task = tasks[name] = asyncio.ensure_future(work)
            task.add_done_callback(lambda task: events.put_nowait((name, portion, task)))

        def leave(name: str) -> None:
            if task := tasks.pop(name, None):
                task.cancel()
            portions.leave(name)
            self.prepared.pop(name, None)

        start("", None, self._workers(0))
        try:
            while not portions.over:
                while portion := portions.take(time.monotonic()):
                    start(portion.worker, portion, self._answer(portion))
                name, given, task = await events.get()
                if tasks.get(name) is not task:  # of a worker that is gone
                    continue
                del tasks[name]
                error = None if task.cancelled() else task.exception()
                if not name:
                    here = self._looked(task)
                    for gone in {*portions.workers, *tasks} - {*here}:
                        self._ended[machine_of(gone)] += gone not in portions.workers
                        leave(gone)
                    for new in {*here} - {*portions.workers, *tasks, *self.refused}:
                        if new in self.prepared:
                            portions.join(new, self.prepared[new][1])
                        elif unfit := self._unfit(new, here[new]):
                            self._refuse(new, QwenRefError(unfit))
                        else:
                            start(new, None, self._prepare(new))
                    self._check({*here}, bool({*portions.workers, *tasks}))
                    start("", None, self._workers(LOOK))
                elif given is not None and isinstance(error, QwenRefError):
                    raise error
                elif task.cancelled() or isinstance(error, FutureCancelledError):  # by dask
                    self._ended[machine_of(name)] += given is None
                    leave(name)  # and if it is there, it comes again
                elif error is not None:
                    leave(name)
                    self._refuse(name, error)
                elif given is None:
                    self.prepared[name], self._begun = task.result(), True
                    portions.join(name, self.prepared[name][1])
                else:
                    found = dict(zip(given.items, task.result(), strict=True))
                    for number in portions.answered(given, time.monotonic()):
                        yield number, found[number]
                while portions.lost:
                    number, workers = portions.lost.popitem()
                    yield number, Lost(workers)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _workers(self, wait: float) -> dict[str, int]:
        """Their names, and how many tasks dask gives each at a time."""
        await asyncio.sleep(wait)
        assert self.client.scheduler
        return dict(await asyncio.wait_for(self.client.scheduler.ncores(), CONNECT))

    def _looked(self, task: asyncio.Task[dict[str, int]]) -> dict[str, int]:
        try:
            return task.result()
        except (Exception, asyncio.CancelledError):
            raise QwenRefError(f"{self.where}: the scheduler does not answer any more") from None

    def _unfit(self, name: str, threads: int) -> str | None:
        """Why a worker that is there is not asked, if it is not."""
        if threads != 1:
            return f"has {threads} threads of dask's; dask worker --nthreads 1 starts one"
        if self._ended[machine_of(name)] >= DEATHS:
            return f"ended {DEATHS} times before it was ready, perhaps for want of memory"
        return None

    def _check(self, here: set[str], busy: bool) -> None:
        """Raises QwenRefError if there is nobody to wait for."""
        if busy:
            self._since = None
            return
        if here and not self._begun:
            name = next(iter(here & {*self.refused}))
            others = f" ({len(here) - 1} more are left out)" if len(here) > 1 else ""
            raise QwenRefError(f"{self.where}: worker {name} {self.refused[name]}{others}")
        if self._since is None:
            self._since = time.monotonic()
            tell(f"{self.where}: no worker is there; waiting up to {WAIT:.0f} s for one")
        waited = time.monotonic() - self._since
        if waited > WAIT:
            told = "; the last one " + self.refused[min(here & {*self.refused})] if here else ""
            raise QwenRefError(
                f"{self.where}: no worker was there for {WAIT:.0f} s{told or '; docs/cluster.md starts some'}"
            )
        self.progress(f"{self.where}: no worker is there; waiting for {waited:.0f} of {WAIT:.0f} s")

    def _refuse(self, name: str, error: BaseException) -> None:
        reason = (
            str(error)
            if isinstance(error, QwenRefError | GGUFError | worker.NotReady)
            else f"{type(error).__name__}: {error}"
        )
        if isinstance(error, ModuleNotFoundError):
            reason = f"has no qwen_ref, or another one: {error}"
        self.refused[name] = reason
        tell(f"worker {name} is left out: {reason}")

    async def _on(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call it on a worker. Raises what it raises; of a worker that is gone it waits for ever."""
        call = pickle.dumps(Call(function, *arguments))
        key = f"qwen_ref-{function.__name__}-{uuid.uuid4().hex}"
        future = self.client.submit(pickle.loads, call, key=key, workers=[name], pure=False)
        try:
            return await future
        finally:
            future.release()

    async def _answer(self, portion: Portion) -> list[Any]:
        models, _ = self.prepared[portion.worker]
        return await self._on(portion.worker, worker.answer, self.job, models, [*portion.items.values()])

    async def _prepare(self, name: str) -> tuple[list[Found], int]:
        self.progress(f"waiting for {name}")  # which may compute something else
        theirs = await self._on(name, worker.versions)
        for what, ours in worker.versions().items():
            if theirs.get(what) != ours:
                raise QwenRefError(f"has {what} {theirs.get(what)}, and here is {ours}")
        async with self._hosts[machine_of(name)]:  # its processes share what one of them is sent
            models = [
                await self._on(name, model_files.find, model) or await self._send(name, model)
                for model in self.models
            ]
        self.progress(f"{name} loads the model")
        return models, await self._on(name, worker.ready, self.job, models)

    async def _send(self, name: str, model: ModelFiles) -> Found:
        async with self._sending:
            folder, sent = await self._on(name, model_files.begin, model), 0
            for part in model.parts:
                for offset, piece in model_files.pieces(part.path):
                    await self._on(name, model_files.receive, folder, part.place, offset, piece)
                    sent += len(piece)
                    done = f"{sent / 1e6:,.0f} of {model.nbytes / 1e6:,.0f} MB"
                    self.progress(f"sending the model to {name}: {done}")
            return await self._on(name, model_files.finish, folder, model)


def results(
    where: Where,
    job: Job,
    items: Iterator[Any],
    total: int,
    name: Callable[[int], str],
    progress: Tell = lambda line: None,
) -> Generator[tuple[int, Any]]:
    """`Cluster.results`, for code that is not asynchronous. An item that no worker lives through ends it,
    too: QwenRefError says its `name`. Whoever stops before the end closes it: while Python itself ends,
    dask's processes could not be ended any more."""

    async def found() -> AsyncGenerator[tuple[int, Any]]:
        async with connected(where, job, progress) as cluster:
            async for number, result in cluster.results(items, total):
                if isinstance(result, Lost):
                    raise QwenRefError(f"{name(number)}: {result}")
                yield number, result

    given = found()

    async def another() -> tuple[int, Any] | None:
        return await anext(given, None)

    with Runner() as runner:
        try:
            while result := runner.run(another):
                yield result
        finally:
            runner.run(given.aclose)
