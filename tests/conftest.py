import os
import pty
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A shell that runs the tests in the background has them, and the programs that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, so that no test fails by chance; `make fuzz` looks for others.
settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None, database=None)
settings.load_profile("same")


def pytest_sessionstart() -> None:
    """`make mutants` first notes what each test calls; the programs that tests start know nothing of that."""
    if os.environ.get("MUTANT_UNDER_TEST") == "stats":
        del os.environ["MUTANT_UNDER_TEST"]


@pytest.fixture
def terminal() -> Iterator[tuple[int, Callable[[], bytes]]]:
    """A terminal that a program may write to, and what was written to it once the program has ended."""
    leader, follower = pty.openpty()

    def written() -> bytes:
        os.close(follower)
        shown = b""
        try:
            while more := os.read(leader, 10_000):
                shown += more
        except OSError:  # Linux says so that nobody writes any more
            pass
        return shown

    yield follower, written
    os.close(leader)


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The directory of the committed test models."""
    return Path(__file__).parent / "fixtures"
