"""Whether a text says the same over and over, which small models do in long thoughts."""

from __future__ import annotations

import numpy as np

LONGEST = 256  # tokens of what is said again
LEAST_TIMES = 4  # in a row, ...
LEAST_TOKENS = 64  # ... and so many in all: a line of dashes, or a row of a table, is no loop


class Repeats:
    """times: how often in a row the same was said, at most so far; 0 where nothing was said often."""

    def __init__(self) -> None:
        self.times = 0
        self._last = np.full(LONGEST, -1)  # the last tokens, the newest first
        self._same = np.zeros(LONGEST, int)  # [n - 1]: so many tokens up to here are those n before them
        self._lengths = np.arange(1, LONGEST + 1)

    def read(self, token_id: int) -> None:
        self._same = np.where(self._last == token_id, self._same + 1, 0)
        self._last[1:] = self._last[:-1]
        self._last[0] = token_id
        said = self._same + self._lengths  # [LONGEST]: tokens that are the same text, again and again
        times = np.where(said >= LEAST_TOKENS, said // self._lengths, 0).max()
        if times >= LEAST_TIMES:
            self.times = max(self.times, int(times))
