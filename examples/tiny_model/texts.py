"""Notes, letters, news, recipes …, and what someone tells in passing: each with what may be asked about it.

They stand in texts.txt and passing.txt with an empty line between them. Below a block's name come its slots
(: and the keys that JSON may call it by, then the kind of its value, as facts.py has them), ways to tell it,
not all of which have every slot, and questions: with ? and the answer behind =, and what that answer calls it
where it is not the slot's own name; with ! what no telling says; with y whether it is so, which asks of the
last slot it names, or of the one behind = if its value is one of these. With c someone corrects himself.
Where ~ stands before the values, any other words may be there too.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import facts
from sample import a, in_json, with_articles, yes_or_no

Values = dict[str, str | int]
SLOT = re.compile(r"{(\w+)}")
OF_ONE_OF_SEVERAL = re.compile("first|second|third|[abc]$|[abc]_")  # keys that say nothing without the text
CLAUSES = {"reason", "because", "problem", "b_reason"}


@dataclass
class Text:
    name: str
    keys: dict[str, list[str]] = field(default_factory=dict)  # of each slot in JSON
    kinds: dict[str, str] = field(default_factory=dict)  # of each slot's value
    tellings: list[str] = field(default_factory=list)
    questions: list[tuple[str, ...]] = field(default_factory=list)  # what is asked, the answer, its label
    never_said: list[tuple[str, ...]] = field(default_factory=list)  # what is asked, its label
    whether: list[tuple[str, ...]] = field(default_factory=list)  # what is asked, its label, slot, if yes
    corrections: list[str] = field(default_factory=list)


def text(block: str) -> Text:
    name, *lines = block.split("\n")
    made = Text(name)
    marks = {"? ": made.questions, "! ": made.never_said, "y ": made.whether}
    for line in lines:
        mark, rest = line[:2], line[2:]
        if mark == ": ":
            keys, kind = rest.split(" ", 1)
            slot, *others = keys.split("|")
            made.keys[slot] = [key for key in [slot, *others] if not OF_ONE_OF_SEVERAL.match(key)]
            made.kinds[slot] = kind
        elif mark == "c ":
            made.corrections.append(rest)
        elif mark in marks:
            marks[mark].append(tuple(rest.split(" = ")))
        else:
            made.tellings.append(line.replace("\\n", "\n"))
    return made


def texts(file: str) -> list[Text]:
    return [text(block) for block in (Path(__file__).parent / file).read_text().strip().split("\n\n")]


TEXTS, PASSING = texts("texts.txt"), texts("passing.txt")


def slots(form: str) -> list[str]:
    return SLOT.findall(form)


def put(form: str, made: Values) -> str:
    """A form with its values, a capital letter where a sentence begins."""

    def said(match: re.Match) -> str:
        value, before = str(made[match[1]]), form[: match.start()]
        starts = not before or before.endswith("\n") or re.search("[.!?] $", before)
        return value[0].upper() + value[1:] if starts else value

    return with_articles(SLOT.sub(said, form))


def values(rng: random.Random, what: Text, test: bool, before: Sequence[str | int] = ()) -> Values:
    """Of each slot another, and none of these."""
    made: Values = {}
    for slot in what.kinds:
        made[slot] = other_value(rng, what, slot, [*before, *made.values()], test)
    return made


def other_value(
    rng: random.Random, what: Text, slot: str, before: Sequence[str | int], test: bool
) -> str | int:
    """None of these, nor one that begins with the same number."""
    taken = {facts.start(value) for value in before}
    while facts.start(value := value_of(rng, what.kinds[slot], test)) in taken:
        pass
    return value


def value_of(rng: random.Random, kind: str, test: bool) -> str | int:
    value = facts.value(rng, kind.removeprefix("~"), test)
    if not kind.startswith("~") or rng.random() < 0.6:
        return value
    usual, other = str(value), str(facts.value(rng, "thing", test))
    if usual[0].isupper():
        return other.title()
    places = "under|in|inside|behind|on|at|by|to|from|with|near"
    place, article = re.findall(f"^((?:{places}) )?(an? |the |its )?", usual)[0]
    return place + (a(other) if article in ("a ", "an ") else article + other)


def told(rng: random.Random, what: Text, test: bool, before: Sequence[str | int] = ()) -> tuple[str, Values]:
    """A text, and the values that it has: none of these."""
    form, made = rng.choice(what.tellings), values(rng, what, test, before)
    return put(form, made), {slot: value for slot, value in made.items() if slot in slots(form)}


def named(said: Values, form: str) -> bool:
    """Has the text all that the form needs?"""
    return all(slot in said for slot in slots(form))


def label(what: tuple[str, ...], said: Values) -> str:
    """What is asked for, as an answer names it before the value."""
    shown = what[2] if len(what) > 2 else slots(what[1])[0].replace("_", " ")
    shown = put(shown, said)
    return shown[0].upper() + shown[1:]


def answered(what: Text, said: Values) -> list[tuple[str, ...]]:
    """Of answers to one question the fullest that can be given: on Monday at 10."""
    fit = [one for one in what.questions if named(said, one[0]) and named(said, one[1])]
    most = {one[0]: max(len(slots(other[1])) for other in fit if other[0] == one[0]) for one in fit}
    return [one for one in fit if len(slots(one[1])) == most[one[0]]]


def unanswered(what: Text, said: Values) -> list[tuple[str, str]]:
    """Questions that this text does not answer, and what they ask for."""
    left = [
        one for one in what.questions if named(said, one[0]) and not {*slots(one[1])} & said.keys()
        and slots(one[1]) and named(said, one[2] if len(one) > 2 else "")
    ]  # fmt: skip
    never = [one for one in what.never_said if named(said, one[0]) and named(said, one[1])]
    return [(put(one[0], said), label(one, said)) for one in left] + [
        (put(asked, said), label(("", "", called), said)) for asked, called in never
    ]


def is_it_so(rng: random.Random, what: Text, said: Values, test: bool) -> tuple[str, str, str, str] | None:
    """A question, what it is about, what holds, and whether it is so; None if there is none to ask."""
    forms = [one for one in what.whether if named(said, "".join(one[:3]))]
    if not forms:
        return None
    asked, called, *more = rng.choice(forms)
    slot = slots(more[0] if more else asked)[-1]
    asked_of, is_so = said[slot], rng.random() < 0.5
    if more:
        is_so = said[slot] in more[1].split("/")
    elif not is_so:
        alike = [
            said[other]
            for other, kind in what.kinds.items()
            if kind == what.kinds[slot] and other in said and other != slot
        ]
        near = alike and rng.random() < 0.6
        asked_of = rng.choice(alike) if near else other_value(rng, what, slot, [*said.values()], test)
    question = put(asked, said | {slot: asked_of})
    return question, label(("", "", called), said), str(said[slot]), yes_or_no(is_so)


def question(rng: random.Random, what: Text, said: Values, test: bool) -> tuple[str, str, str | None, str]:
    """One about such a text, what it asks for, the answer if the text has it, a verdict where one is due."""
    kind = rng.random()
    if kind < 0.18 and (so := is_it_so(rng, what, said, test)):
        asked, called, value, verdict = so
        return asked, called, value, f" {verdict}."
    if kind < 0.36:
        return *rng.choice(unanswered(what, said)), None, ""
    one = rng.choice(answered(what, said))
    return put(one[0], said), label(one, said), put_within(one[1], said), ""


def put_within(form: str, made: Values) -> str:
    """As within a sentence: without a capital letter that only its beginning would have."""
    return SLOT.sub(lambda match: str(made[match[1]]), form)


def as_object(rng: random.Random, test: bool) -> tuple[str, Values]:
    """A text, and what it says by the keys that JSON may have."""
    while True:
        what = rng.choice(TEXTS)
        shown, said = told(rng, what, test)
        made = {
            rng.choice(what.keys[slot][1:] or what.keys[slot]): in_json(value)
            for slot, value in said.items()
            if what.keys[slot] and slot not in CLAUSES
        }
        if made:
            return shown, made
