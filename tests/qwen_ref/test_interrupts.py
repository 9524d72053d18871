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
