"""An answer beside the right one: a number from 0 to 1."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qwen_ref.grounding import GRID, find_json, find_marks, is_numbers

SHARES = ("exact", "includes", "regex", "acc", "acc_norm")  # scores that are 0 or 1


@dataclass(frozen=True)
class Box:
    """left, top, right, bottom, in 0 to 1000."""

    coordinates: tuple[float, ...]
    label: str | None = None


def box_of(given: Any) -> Box | None:
    """What a target says of a box; None if it is none."""
    label = given.get("label") if isinstance(given, dict) else None
    at = given.get("bbox_2d") if isinstance(given, dict) else given
    if not isinstance(at, list) or not is_numbers(at, 4) or not isinstance(label, str | None):
        return None
    left, top, right, bottom = at
    return (
        Box(tuple(map(float, at)), label) if 0 <= left < right <= GRID and 0 <= top < bottom <= GRID else None
    )


def leaves(value: Any) -> dict[tuple[str | int, ...], Any]:
    """Texts, numbers, true, false, null and what is empty, in what JSON holds, by where they are."""
    found, left = dict[tuple[str | int, ...], Any](), list[tuple[tuple[str | int, ...], Any]]([((), value)])
    while left:  # an answer may be nested deeper than functions may call one another
        path, part = left.pop()
        if part and isinstance(part, dict | list):
            inside = part.items() if isinstance(part, dict) else enumerate(part)
            left += [((*path, key), each) for key, each in inside]
        else:
            found[path] = part
    return found


def same(a: Any, b: Any) -> bool:
    """1 is 1.0, but neither is true; white space at the ends of texts does not count."""
    if isinstance(a, str) and isinstance(b, str):
        return a.strip() == b.strip()
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def share_of_fields(target: dict[tuple[str | int, ...], Any], answer: str) -> float:
    """Those that are right among those that the target or the answer has. Of several objects in the answer
    the last counts."""
    found = find_json(answer)
    told = leaves(found[-1]) if found else {}
    right = sum(place in told and same(leaf, told[place]) for place, leaf in target.items())
    return right / len(target.keys() | told.keys())


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes: left, top, right, bottom."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    either = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - both
    return both / either if both else 0.0


def mean_overlap(target: Sequence[Box], answer: str) -> float:
    """The mean IoU of pairs of boxes with the same label (any, where the target has none), those that overlap
    most first; one that is missing, or too many, counts 0. No boxes where there are none are right."""
    found = [mark for mark in find_marks(answer) if len(mark.coordinates) == 4]
    if not target and not found:
        return 1.0
    pairs = sorted(
        (
            (overlap(box.coordinates, mark.coordinates), i, j)
            for i, box in enumerate(target)
            for j, mark in enumerate(found)
            if box.label is None or box.label.strip() == mark.label.strip()
        ),
        reverse=True,
    )
    total, used_i, used_j = 0.0, set[int](), set[int]()
    for iou, i, j in pairs:
        if i not in used_i and j not in used_j:
            total += iou
            used_i.add(i)
            used_j.add(j)
    return total / max(len(target), len(found))


def matches(patterns: list[re.Pattern[str]], answer: str) -> float:
    return float(any(pattern.search(answer) for pattern in patterns))


JUDGES: dict[str, tuple[str, Callable[[Any, str], float]]] = {  # score -> its name in tables, its function
    "exact": ("exact", lambda texts, answer: float(answer.strip() in [text.strip() for text in texts])),
    "includes": ("includes", lambda texts, answer: float(any(text in answer for text in texts))),
    "regex": ("regex", matches),
    "json": ("fields", share_of_fields),
    "boxes": ("iou", mean_overlap),
}


def judge(score: str, target: Any, answer: str) -> dict[str, float]:
    """Name of the score -> 0 to 1, of an answer that was said."""
    name, function = JUDGES[score]
    return {name: function(target, answer)}


def judge_choice(target: int, choices: Sequence[str], logprobs: Sequence[float]) -> dict[str, float]:
    """As lm-evaluation-harness: `acc`, by the sum of the log-probabilities of a choice's tokens; `acc_norm`,
    by that a character. Of equal ones the first is taken."""
    per_character = np.array(logprobs) / [len(choice) for choice in choices]
    return {
        "acc": float(int(np.argmax(logprobs)) == target),
        "acc_norm": float(int(np.argmax(per_character)) == target),
    }
