"""An engine's tensors against a golden, as a test does it: an assertion, with what to look at first.

compare.py has the comparison itself, which returns its findings. The pytest plugin is built on this; unittest
and scripts call it as it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from qwen_ref.errors import QwenRefError
from qwen_ref.oracle.compare import Report, compare, times
from qwen_ref.oracle.golden import Golden, load

BEFORE, AFTER = 3, 3  # rows of the table around the first tensor that is wrong
SOME = 6  # names of tensors that were not given


def check(
    golden: Golden | str | os.PathLike[str],
    found: Mapping[str, Any],
    allow: str = "float32",
    names: Sequence[str] = (),
) -> Report:
    """What compare returns, if `allow` explains all that the engine found.

    golden   or the path of one
    found    tensors of NumPy, PyTorch, JAX or DLPack under the golden's names (docs/golden.md)
    allow    float64, float32, float16, bfloat16 or int8: the arithmetic that the engine may err by
    names    patterns (fnmatch) of tensors that have to be among them; all that was found is compared

    Raises AssertionError with the first tensor that is beyond the budget, its likely cause and its
    neighbours, with token ids, positions or greedy tokens that are others, or with the tensors that had to be
    found and were not. Raises QwenRefError if the golden, or
    what was found, cannot be used.
    """
    __tracebackhide__ = True  # pytest then shows the line that called this
    if not isinstance(golden, Golden):
        golden = load(golden)
    wanted = [n for n in golden.entries if any(fnmatchcase(n, pattern) for pattern in names)]
    if names and not wanted:
        raise QwenRefError(f"names: no tensor of the golden fits {', '.join(names)}")
    if absent := [name for name in wanted if name not in found]:
        raise AssertionError(f"{len(absent)} of {len(wanted)} tensors were not given: {some(absent)}")
    report = compare(golden, found, allow)
    if report.complaint:
        raise AssertionError(message(golden, report))
    return report


def message(golden: Golden, report: Report) -> str:
    """Of a report with a complaint: that, what is around the tensor that is wrong, and what is unknown."""
    first = report.first
    if first is None:
        return verdict(report)
    at = report.differences.index(first)
    lines = [
        verdict(report),
        f"likely cause: {report.cause}" if report.cause else "no known mistake does this to a tensor",
        "",
        f"  {'tensor':38} {'error/rms':>9} {'of budget':>11}  explained by",
    ]
    for d in report.differences[max(0, at - BEFORE) : at + 1 + AFTER]:
        mark = ">" if d is first else " "
        share = times(d.share[report.allowed])
        lines.append(f"{mark} {d.name:38} {d.relative:9.1e} {share:>11}  {d.explained or '-'}")
    order = list(golden.entries)
    before = order.index(report.differences[at - 1].name) if at else -1
    if unseen := order[before + 1 : order.index(first.name)]:
        lines += ["", f"not given, and computed right before {first.name}: {some(unseen)}"]
    lines += ["", f"{len(report.differences)} of {len(order)} tensors were compared"]
    if report.missing:
        lines[-1] += f"; not given: {some(report.missing)}"
    if "file" in golden.about:
        lines.append(f"the golden is of {golden.about['file']}")
    return "\n".join(lines)


def verdict(report: Report) -> str:
    """One line."""
    all_right = (
        f"All {len(report.differences)} tensors that were compared are within what {report.allowed} explains"
    )
    return report.complaint or all_right


def some(names: Sequence[str]) -> str:
    return ", ".join(names[:SOME]) + (f" and {len(names) - SOME} more" if len(names) > SOME else "")
