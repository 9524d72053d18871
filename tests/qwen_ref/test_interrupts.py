"""Ctrl-C comes at any line, and leaves nothing half done."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from qwen_ref.batch.batch import Batch
from qwen_ref.cluster import scheduler
from qwen_ref.interrupts import Runner

OURS = ("interrupts.py", "scheduler.py", "batch.py")
PYTHONS = ("runners.py", "base_events.py", "unix_events.py", "selector_events.py", "events.py", "signal.py")


def pressed_at(number: int, work: Callable[[], Any]) -> tuple[bool, bool]:
    """Whether Ctrl-C at its line of this number ends work, and whether it has so many."""
    left = number

    def trace(frame: Any, event: str, about: Any) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if not left:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        named = {frame.f_code.co_name, frame.f_back.f_code.co_name}  # in __del__ Python itself loses it
        return trace if frame.f_code.co_filename.endswith(OURS + PYTHONS) and "__del__" not in named else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
        return False, left <= 0
    except KeyboardInterrupt:
        return True, left <= 0
    finally:
        sys.settrace(before)


class Something:
    """It is opened, gives something, and is closed."""

    opened = 0

    async def results(self, *arguments: Any) -> AsyncIterator[tuple[int, int]]:
        for n in range(2):
            await asyncio.sleep(0)
            yield n, n


@contextlib.asynccontextmanager
async def something(*arguments: Any) -> AsyncIterator[Something]:
    Something.opened += 1
    try:
        yield Something()
    finally:
        Something.opened -= 1
        await asyncio.sleep(0)


def of_a_cluster() -> None:
    for _ in scheduler.results(scheduler.Where(), None, iter(()), 2, str):  # type: ignore[arg-type]
        pass


def of_a_batch() -> None:
    async def run(*arguments: Any) -> None:
        async with something() as given:
            async for _ in given.results():
                pass

    batch = Batch.__new__(Batch)
    batch._run = run  # type: ignore[method-assign, assignment]
    batch.run(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("work", [of_a_cluster, of_a_batch])
def test_ctrl_c_at_any_line(
    work: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is ended with all that it began, and nothing is said of coroutines or tasks."""
    monkeypatch.setattr(scheduler, "connected", something)
    said = list[Any]()
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # of a loop that was not closed just before the end
        for number in itertools.count(1, 3):
            ended, there = pressed_at(number, work)
            assert ended == there and not Something.opened
            assert not warned and not said and not caplog.records, [*warned, *said, *caplog.records]
            if not there:
                break
        gc.collect()
    assert not warned and not said and not caplog.records and number > 300


@pytest.mark.parametrize("when", ["before it begins", "meanwhile"])
def test_what_runs_is_cancelled(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = asyncio.events.new_event_loop

    me = threading.get_ident()

    def made() -> Any:
        signal.raise_signal(signal.SIGINT)
        return real()

    async def work() -> None:
        if when == "meanwhile":
            threading.Timer(0.1, signal.pthread_kill, (me, signal.SIGINT)).start()
        await asyncio.sleep(60)

    if when == "before it begins":
        monkeypatch.setattr(asyncio.events, "new_event_loop", made)
    began = time.monotonic()
    with Runner() as runner, pytest.raises(KeyboardInterrupt):
        runner.run(work)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("where", ["its end", "what it leaves"])
def test_a_second_one_ends_an_end_that_takes_long(where: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whether it is the work's own, or of a task that ends with the runner."""
    me, cancelled = threading.get_ident(), list[bool]()

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.append(True)
            time.sleep(3)

    async def work() -> None:
        if where == "its end":
            await slow()
        task = asyncio.create_task(slow())
        await asyncio.sleep(60)
        await task

    for seconds in 0.2, 0.5:
        threading.Timer(seconds, signal.pthread_kill, (me, signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Runner() as runner:
        runner.run(work)
    assert cancelled == [True] and 0.4 < time.monotonic() - began < 2
    gc.collect()
    assert not caplog.records and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_after_one_there_is_time_to_clean_up() -> None:
    """It ends only the work that it comes in."""

    async def pressed() -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    with Runner() as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(pressed)
        assert runner.run(lambda: asyncio.sleep(0.01, "clean")) == "clean"
        with pytest.raises(KeyboardInterrupt):
            runner.run(pressed)


def test_where_it_is_ignored_it_stays_so() -> None:
    async def work() -> str:
        signal.raise_signal(signal.SIGINT)
        return await asyncio.sleep(0.01, "done")

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Runner() as runner:
            assert runner.run(work) == "done"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_is_started_does_not_hear_of_it() -> None:
    """From its first moment on, as the first process that a program starts, too."""
    program = (
        "import multiprocessing, signal\n"
        "from qwen_ref.interrupts import deaf_processes\n"
        "child = multiprocessing.get_context('spawn').Process(target=signal.raise_signal, args=(2,))\n"
        "with deaf_processes():\n"
        "    child.start()\n"
        "child.join()\n"
        "try: signal.raise_signal(2)\n"
        "except KeyboardInterrupt: print('heard here, and there', child.exitcode)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("heard here, and there 0\n", "")
