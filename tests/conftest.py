import os
import signal
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
    """`make mutants` first notes what each test calls, and the programs that tests start know nothing of that."""
    if os.environ.get("MUTANT_UNDER_TEST") == "stats":
        del os.environ["MUTANT_UNDER_TEST"]


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The directory of the committed test models."""
    return Path(__file__).parent / "fixtures"
