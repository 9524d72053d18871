from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The directory of the committed test models."""
    return Path(__file__).parent / "fixtures"
