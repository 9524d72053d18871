"""An engine's tensors against a golden, as a test does it: an assertion, with what to look at first.

compare.py has the comparison itself, which returns its findings. The pytest plugin is built on this; unittest
and scripts call it as it is.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from qwen_ref.errors import QwenRefError
from qwen_ref.oracle.compare import Found, Report, compare, from_tiled, join, misspelt, times
from qwen_ref.oracle.golden import Golden, load

BEFORE, AFTER = 3, 3  # rows of the table around the first tensor that is wrong
SOME = 6  # names, or sentences, of a list: a failure is to fit on a screen
LONG = 60  # of a name


def check(
    golden: Golden | str | os.PathLike[str],
    found: Found,
    allow: str = "float32",
    names: Sequence[str] = (),
    tiled: bool = False,
) -> Report:
    """What compare returns, if `allow` explains all that the engine found, be it one tensor: the report's
    verdict is "right", or "partly judged" where no logits were given.

    golden   or the path of one
    found    tensors of NumPy, PyTorch, JAX or DLPack under the golden's names (docs/golden.md); or such a
             mapping of the prompt, and one of each of the golden's tokens after it (compare.join)
    allow    float64, float32, float16, bfloat16 or int8: the arithmetic that the engine may err by
    names    patterns (fnmatch) of tensors that have to be among them; all that was found is compared
    tiled    the engine has V heads in GGUF's order

    Warns (UserWarning) of names that no golden has. Raises AssertionError with the first tensor
    that is beyond the budget, its likely cause and its neighbours, with a tensor of another shape, with token
    ids, positions or greedy tokens that are others, or with the tensors that had to be found and were not.
    Raises QwenRefError if the golden, or what was found, cannot be used.
    """
    __tracebackhide__ = True  # pytest then shows the line that called this
    if not isinstance(golden, Golden):
        golden = load(golden)
    if tiled:
        found = from_tiled(golden, found)
    elif not isinstance(found, Mapping):
        found = join(golden, found)
    wanted = [n for n in golden.entries if any(fnmatchcase(n, pattern) for pattern in names)]
    if names and not wanted:
        raise QwenRefError(f"names: no tensor of the golden fits {', '.join(names)}")
    if absent := [name for name in wanted if name not in found]:
        raise AssertionError(f"{len(absent)} of {len(wanted)} tensors were not given: {some(absent)}")
    report = compare(golden, found, allow)
    if report.complaint:
        raise AssertionError(message(golden, report))
    if never := misspelt(report.unknown):
        warnings.warn(f"not compared, since no golden has such names: {some(never)}", stacklevel=2)
    return report


def message(golden: Golden, report: Report) -> str:
    """Of a report with a complaint: that, what is around the tensor that is wrong, and what is unknown."""
    first = report.first
    if first is None:
        return "\n".join([verdict(report), *scope(report)])
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
    lines += ["", *scope(report)]
    if "file" in golden.about:
        lines.append(f"the golden is of {golden.about['file']}")
    return "\n".join(lines)


def verdict(report: Report) -> str:
    """One line."""
    if report.complaint:
        return report.complaint
    if report.verdict == "right":
        count = len(report.differences)
        return f"All {count} tensors that were compared are within what {report.allowed} explains"
    return f"Partly judged: {report.part}, no logits; these are within what {report.allowed} explains"


def scope(report: Report) -> list[str]:
    """What was judged and what was not, a line for each."""
    lines = [f"{report.part} were compared"]
    if report.missing:
        lines[0] += f"; not given: {some(report.missing)}"
    lines.append(f"logits: {f'of {report.scope}' if report.scope else 'not judged'}")
    if report.decoding:
        lines.append(f"decoding: {report.decoding}")
    if report.greedy:
        lines.append(f"greedy tokens: {report.greedy}")
    if report.acceptance:
        lines.append(f"acceptance: {report.acceptance}")
    lines += list(report.shapes.values())[:SOME]
    if len(report.shapes) > SOME:
        lines.append(f"{len(report.shapes) - SOME} more are of a wrong shape")
    if report.unknown:
        lines.append(f"not compared, since the golden does not have them: {some(unknown_of(report))}")
    return lines


def unknown_of(report: Report) -> list[str]:
    """Names that the golden does not have; those that none has come first."""
    first = misspelt(report.unknown)
    return first + [name for name in report.unknown if name not in first]


def some(names: Sequence[str]) -> str:
    shown = (name if len(name) <= LONG else f"{name[:LONG]}…" for name in names[:SOME])
    return ", ".join(shown) + (f" and {len(names) - SOME} more" if len(names) > SOME else "")
