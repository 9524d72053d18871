"""Programs that this process starts, none of which outlives it: whatever ends it, they end too."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# Run before the program, in the process that becomes it: another one stays behind, which waits until nobody
# holds the other end of a pipe any more, as is the case however this process ends, and then kills its group.
# Both are in a session of their own, which nothing else is in, and which a closing terminal leaves alone.
GUARD = """
import os, signal, sys
if child := os.fork():
    os.waitpid(child, 0)
elif os.fork():  # so that the program has no child that it does not know of
    os._exit(0)
else:
    os.closerange(1, 3)
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
try:
    os.execvp(sys.argv[1], sys.argv[1:])
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error.strerror}")
"""


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program that reads nothing, and that ends, with all that it started, when this process does, or the
    block; `options` are Popen's. Raises OSError."""
    theirs, ours = os.pipe()
    try:
        guarded = [sys.executable, "-I", "-S", "-c", GUARD, *command]
        process = subprocess.Popen(guarded, stdin=theirs, start_new_session=True, **options)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    with process:
        try:
            yield process
        finally:
            os.close(ours)  # whatever is left of it ends


def run(
    command: Sequence[str], *, timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """subprocess.run of a command as `started` starts it.

    Raises subprocess.TimeoutExpired, OSError, and what interrupts it.
    """
    with started(command, **options) as process:
        out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(command, process.returncode, out, err)
