"""How people ask: the files of the folder wordings, where blocks stand with an empty line between them.

A block's first line says what is asked for; the others are ways to ask for it, of which each is as likely as
the next, with {0}, {1} … where what the sample is about is put.
"""

from __future__ import annotations

import random
from pathlib import Path

FILES = sorted((Path(__file__).parent / "wordings").glob("*.txt"))
BLOCKS = [block.split("\n") for file in FILES for block in file.read_text().strip().split("\n\n")]
WORDINGS = {name: forms for name, *forms in BLOCKS}


def worded(rng: random.Random, what: str, *said: object) -> str:
    """One way to ask for it; KeyError if no file has that."""
    return rng.choice(WORDINGS[what]).format(*said)
