"""Ctrl-C where KeyboardInterrupt would come in the middle of something."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from multiprocessing import resource_tracker
from typing import Any, TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def undisturbed(told: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Ctrl-C waits for the end of the block; `told` is called when it comes, and may end the block.
    Where Ctrl-C is ignored, as in what sh starts with &, it stays so."""
    pressed = list[bool]()

    def press(*about: Any) -> None:
        pressed.append(True)
        told()

    elsewhere = threading.current_thread() is not threading.main_thread()  # which alone hears of it
    if elsewhere or signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):  # None: it is not Python's
        yield
        return
    handler = signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if pressed:
        raise KeyboardInterrupt


@contextlib.contextmanager
def deaf_processes() -> Iterator[None]:
    """What is started in the block never hears of Ctrl-C, which a terminal sends to all processes, not even
    while Python starts there. Here it comes at once if another thread hears of it, or else with the end of
    the block."""
    resource_tracker.ensure_running()  # with the first process it starts, and then it takes signals up again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as new threads and processes have it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Runner:
    """asyncio.Runner, whose work Ctrl-C cancels whenever it comes; a second one raises KeyboardInterrupt at
    once, also from an end that takes long. asyncio's own handler is there while a task runs; just before,
    KeyboardInterrupt leaves half an event loop, a coroutine that nobody awaits, or a task that goes on beside
    the next."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pressed = False

    def _press(self) -> None:
        if self._pressed:
            if self._loop is not None:  # which has nothing to say of what is left half done
                self._loop.set_exception_handler(lambda *about: None)
            raise KeyboardInterrupt
        self._pressed = True

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *about: object) -> None:
        with undisturbed(self._press):
            self._runner.close()

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `work` comes to. Raises what it raises, or KeyboardInterrupt."""
        pressed, task = False, None

        def cancel() -> None:
            nonlocal pressed
            self._press()
            pressed = True
            if task is not None:
                task.get_loop().call_soon_threadsafe(task.cancel)

        with undisturbed(cancel):
            loop = self._loop = self._runner.get_loop()
            task = loop.create_task(work())
            if pressed:  # meanwhile
                task.cancel()
            try:
                return loop.run_until_complete(task)
            except asyncio.CancelledError:
                if not pressed:
                    raise
        raise KeyboardInterrupt
