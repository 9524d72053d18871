"""How far from a golden an engine may be that computes in some arithmetic, and adds in another order."""

from __future__ import annotations

import numpy as np

from qwen_ref.oracle.golden import Entry

# The strictest first: what one rounding of each does to a value, as a share of the rms of its tensor.
UNIT = {"float64": 1e-11, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8, "int8": 2.0**-7}
# An engine of the same arithmetic that adds in another order lands about as far from the exact values: so
# many times as far at most in rms, and twice that in its worst value. In float32 more: the delta rule is
# solved in float64 here, and transformers' state in float32 was seen 6.7 times as far.
SLACK = {"float64": 1, "float32": 8, "float16": 4, "bfloat16": 4, "int8": 4}
# And of the budget of a mean divergence that of one position: its logits may be twice as far off as well.
OF_ONE = 4


def budgets(entry: Entry, kind: str) -> tuple[float, float]:
    """What an error may be in rms and in its worst value, over all that the golden keeps."""
    rms, most = entry.errors.get(kind, (0.0, 0.0))
    unit, tiny = UNIT[kind], np.finfo(float).tiny
    return max(SLACK[kind] * rms, unit * entry.rms, tiny), max(2 * SLACK[kind] * most, unit * entry.max, tiny)
