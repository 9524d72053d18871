"""What a sample is: a question, perhaps something to see, and the one right answer."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from draw import Letters, Thing
from PIL import Image


@dataclass
class View:
    """Something to see, and what is known of it; several questions are asked about each."""

    kind: str  # which questions: a key of world.VIEWS
    picture: Image.Image | None = None
    clip: np.ndarray | None = None  # uint8 [T, H, W, 3], two frames a second
    things: list[Thing] = field(default_factory=list)
    letters: list[Letters] = field(default_factory=list)  # of each line
    parts: list[tuple[float, ...]] = field(
        default_factory=list
    )  # boxes of other things than shapes, in pixels
    truth: Any = None  # what else the questions of this kind need
    colours: dict[str, str] = field(default_factory=dict)  # of buttons by their labels, where that is clear
    labels: dict[str, str] = field(default_factory=dict)  # of a document's keys, as they stand before values


@dataclass
class Sample:
    task: str
    messages: list[dict[str, Any]]  # the last is the user's or a tool's; {"type": "image"} where a picture is
    answer: str
    thoughts: str | None = None  # what is thought before answering; None: the model is told not to think
    tools: list[dict[str, Any]] | None = None
    view: View | None = None
    boxes: list[tuple[float, ...]] = field(default_factory=list)  # of the answer, 0 to 1000
    target: tuple[float, ...] | None = None  # where a click may land: left, top, right, bottom, 0 to 1000
    key: str | None = None  # what an answer must contain, if other words would do too
    spelled: tuple[str, ...] = ()  # parts of the answer that are said letter by letter: what was read

    @property
    def picture(self) -> Image.Image | None:
        return self.view.picture if self.view else None

    @property
    def clip(self) -> np.ndarray | None:
        return self.view.clip if self.view else None


def ask(
    task: str, question: str, answer: str, view: View | None = None, system: str | None = None, **more: Any
) -> Sample:
    content: Any = question
    if view:
        content = [{"type": "image" if view.picture else "video"}, {"type": "text", "text": question}]
    messages = [{"role": "system", "content": system}] if system else []
    return Sample(task, [*messages, {"role": "user", "content": content}], answer, view=view, **more)


AN = r"(?!one|eu|uni|us[eu]|ut|uk|u\b)[aeiou]"  # how words begin that have "an" before them


def a(words: str) -> str:
    return f"an {words}" if re.match(AN, words) else f"a {words}"


def with_articles(text: str) -> str:
    """As `a` has them: an ice, an old day."""
    return re.sub(rf"\b([Aa]) (?={AN})", r"\1n ", text)


def sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."


def listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def bare(words: str) -> str:
    """As it stands in JSON: without an article or a preposition that only says that it is a place."""
    return re.sub("^((in|at|on) )?(the|an?) ", "", words)


def in_json(said: str | int) -> str | int:
    """A number as one, whichever kind of value it is: that 5 is a time is not to be seen."""
    return int(said) if str(said).isdigit() else bare(str(said))


def plural(count: int, words: str) -> str:
    return words if count == 1 else f"{words}s"


def times(count: int, words: str) -> str:
    return f"There {'is' if count == 1 else 'are'} {count or 'no'} {plural(count, words)}."


def yes_or_no(is_so: bool) -> str:
    return "Yes" if is_so else "No"


def sign_between(x: int, y: int) -> str:
    return ">" if x > y else "<" if x < y else "="


def places(edge: str, one: str, here: int, other: str, there: int) -> str:
    """Where two things are, in hundredths of two digits: said before what follows from it.

    With 8% for 08% the model took 8 and 51 for 8 and 5.
    """
    return f"From the {edge}, the {one} is at {here:02}% and the {other} at {there:02}%."


def thousandths(box: tuple[float, ...], size: tuple[int, int]) -> tuple[int, ...]:
    """Pixels, across and down in turn -> whole numbers from 0 to 1000."""
    return tuple(round(1000 * edge / size[i % 2]) for i, edge in enumerate(box))


def marks(found: list[dict[str, Any]]) -> str:
    """Boxes or points as the answer gives them."""
    lines = ",\n".join("\t" + json.dumps(one, ensure_ascii=False) for one in found)
    return f"```json\n[\n{lines}\n]\n```"


def in_a_list(parts: list[str], kind: str) -> str:
    """Behind commas, or each on a line with a bullet, its number or nothing before it."""
    if kind == "commas":
        return ", ".join(parts)
    before = {"lines": "", "bullets": "- ", "numbers": "{}. "}[kind]
    return "\n".join(before.format(i) + part for i, part in enumerate(parts, 1))


def among(rng: random.Random, forms: str) -> str:
    """One of several forms, written with | between them."""
    return rng.choice(forms.split("|"))
