import signal
from pathlib import Path

import pytest

# A shell that runs the tests in the background has them, and the programs that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The directory of the committed test models."""
    return Path(__file__).parent / "fixtures"
