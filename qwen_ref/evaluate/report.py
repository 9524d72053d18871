"""Answers of several models as the rows of a table, and what they say in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qwen_ref.evaluate.answers import Answer
from qwen_ref.evaluate.judge import SHARES
from qwen_ref.evaluate.statistics import Comparison, Interval, compare, interval

ALL = "all"  # the row of all groups, if there are several
Results = dict[str, dict[str | int, Answer]]  # of each model, by the sample's id


@dataclass(frozen=True)
class Cell:
    """One model's mean; `beside` the first model's on those samples that both have answered, None if it is
    the first or there are none."""

    samples: int
    value: float
    interval: Interval
    beside: Comparison | None


@dataclass(frozen=True)
class Row:
    group: str
    score: str  # exact, includes, regex, acc, acc_norm, fields, iou; "score", of several of them together
    cells: dict[str, Cell]  # by model; those are missing that have answered none


def rows(results: Results) -> list[Row]:
    """One for each group and score, in the order of the samples; behind them one for all samples, if there
    are several groups. In which order the answers came does not count: draws are of them as samples stand."""

    def place(answer: Answer) -> int:
        return answer.sample.line

    results = {name: {a.sample.id: a for a in sorted(r.values(), key=place)} for name, r in results.items()}
    every = sorted((answer for given in results.values() for answer in given.values()), key=place)
    kinds = dict.fromkeys((answer.sample.group, score) for answer in every for score in answer.scores)

    def values(group: str, score: str) -> dict[str, dict[str | int, float]]:
        return {
            model: {
                i: a.scores[score] for i, a in given.items() if a.sample.group == group and score in a.scores
            }
            for model, given in results.items()
        }

    found = [row(group, score, values(group, score), score in SHARES) for group, score in kinds]
    if len({group for group, _ in kinds}) > 1:
        main = {model: {i: a.main for i, a in given.items()} for model, given in results.items()}
        names = {next(iter(answer.scores)) for answer in every}
        name = names.pop() if len(names) == 1 else "score"
        found.append(row(ALL, name, main, all(next(iter(a.scores)) in SHARES for a in every)))
    return found


def row(group: str, score: str, values: dict[str, dict[str | int, float]], shares: bool) -> Row:
    """values: of each model, those of its samples."""
    cells, base = dict[str, Cell](), next(iter(values.values()))
    for number, (model, given) in enumerate(values.items()):
        if not given:
            continue
        own = np.array(list(given.values()))
        both = [i for i in given if i in base] if number else []
        beside = None
        if both:
            beside = compare(np.array([base[i] for i in both]), np.array([given[i] for i in both]), shares)
        cells[model] = Cell(len(own), float(own.mean()), interval(own, shares), beside)
    return Row(group, score, cells)


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def said(cell: Cell) -> str:
    low, high = cell.interval
    return f"{percent(cell.value)} % [{percent(low)}, {percent(high)}]"


def compared(found: Comparison) -> str:
    low, high = found.interval
    return f"{100 * found.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}], p = {found.p:.2g}"


def table(found: Sequence[Row], models: Sequence[str]) -> str:
    """In columns; each model beside the first has one of its difference."""
    head = ["group", "score", "samples", models[0]]
    for model in models[1:]:
        head += [model, "difference"]
    lines = [head]
    for each in found:
        most = max(cell.samples for cell in each.cells.values())
        line = [each.group, each.score, str(most)]
        for number, model in enumerate(models):
            cell = each.cells.get(model)
            few = f" ({cell.samples})" if cell and cell.samples < most else ""
            line.append(said(cell) + few if cell else "-")
            if number:
                line.append(compared(cell.beside) if cell and cell.beside else "-")
        lines.append(line)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def verdict(first: str, second: str, found: Comparison) -> str:
    """What the comparison says, and what it cannot say."""
    seen = f"{second} beside {first}: {found.better} better, {found.worse} worse of {found.n} samples"
    test = f"p = {found.p:.2g}, {found.test}"
    size = 100 * abs(found.difference)
    points = f"{size:.1f} points" if size >= 0.05 else f"{size:.1g} points"
    if found.known:
        which = "better" if found.difference > 0 else "worse"
        return f"{seen}: it is {which}, by {points} on these ({test})"
    if not found.better + found.worse:
        most = 1 - 0.05 ** (1 / found.n)
        return (
            f"{seen}: no difference was seen, so there is none on {100 * (1 - most):.0f} % of such samples, "
            "or more (95 % sure)"
        )
    if found.needed is None:
        if found.visible is None:
            return f"{seen}: this sample cannot tell ({test}); it is too small to show any difference"
        return (
            f"{seen}: this sample cannot tell ({test}); it would show a difference of "
            f"{100 * found.visible:.1f} points, four times of five"
        )
    return (
        f"{seen}: this sample cannot tell ({test}); if it is {points}, about {round_up(found.needed):,} "
        "samples would show it, four times of five"
    )


def round_up(n: int) -> int:
    """To two digits."""
    unit = 10 ** max(0, int(math.log10(n)) - 1)
    return -(-n // unit) * unit


def as_json(found: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "group": each.group,
            "score": each.score,
            "model": model,
            "samples": cell.samples,
            "value": cell.value,
            "interval": cell.interval,
            "difference": None
            if cell.beside is None
            else {
                "samples": cell.beside.n,
                "value": cell.beside.difference,
                "interval": cell.beside.interval,
                "better": cell.beside.better,
                "worse": cell.beside.worse,
                "p": cell.beside.p,
                "test": cell.beside.test,
                "known": cell.beside.known,
                "samples_needed": cell.beside.needed,
                "visible": cell.beside.visible,
            },
        }
        for each in found
        for model, cell in each.cells.items()
    ]
