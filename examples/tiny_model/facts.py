"""Facts about people and things: told in sentences, asked for, remembered, and written as JSON.

They stand in the files of the folder facts, one for each kind of subject, with an empty line between them.
A block's first line has the keys that JSON may call it by, the first of them a noun, by which answers call it
too; the second the kind of its value; then come
sentences about {who}, questions with ? before them, and of people what they say of themselves (>), what they
ask (>?) and the answer to that (=).
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

from sample import AN
from words import (
    ANIMALS,
    COLOURS,
    COUNTRIES,
    FOODS,
    HOBBIES,
    JOBS,
    MONTHS,
    SPORTS,
    TONGUES,
    WEEKDAYS,
    any_word,
    city,
    made_up,
    name,
)

MARKS = {">? ": "asked_by_user", "> ": "told_by_user", "? ": "questions", "= ": "recalled"}


@dataclass
class Fact:
    keys: list[str]
    kind: str  # of its value: a word of `value`'s, "number 1 99", or the values with / between them
    sentences: list[str]
    questions: list[str]
    told_by_user: list[str]
    asked_by_user: list[str]
    recalled: list[str]


def fact(block: str) -> Fact:
    keys, kind, *lines = block.split("\n")
    made = Fact(keys.split("|"), kind.removeprefix(": "), [], [], [], [], [])
    for line in lines:
        mark = next((mark for mark in MARKS if line.startswith(mark)), "")
        getattr(made, MARKS.get(mark, "sentences")).append(line.removeprefix(mark))
    return made


FACTS = {
    file.stem: [fact(block) for block in file.read_text().strip().split("\n\n")]
    for file in sorted((Path(__file__).parent / "facts").glob("*.txt"))
}
SUBJECTS = {
    "event": "meeting|party|concert|course|match|trip|lesson|festival|lecture|picnic|workshop|wedding|race",
    "place": "museum|shop|cafe|hotel|library|bakery|restaurant|school|zoo|theatre|market|pool|cinema",
    "animal": "dog|cat|horse|parrot|goat|donkey|pony|rabbit|turtle|sheep|cow|goose|llama|monkey|pig|camel",
    "journey": "train|ferry|bus|night train|coach|steamer|tram|boat|express|cargo ship|airship|minibus",
    "writing": "novel|poem|story|comic|diary|thriller|tale|bestseller|legend|storybook",
    "show": "film|play|opera|musical|sitcom|cartoon|comedy|ballet|puppet show|documentary",
    "dish": "stew|pie|casserole|pudding|omelette|sauce|dumpling soup|fish soup|goulash|tart|stuffing|dessert",
    "machine": "machine|device|mixer|robot|engine|printer|washing machine|dryer|drill|crane|press|gadget",
    "company": "company|firm|factory|brewery|business|farm shop|bookshop|workshop on the hill|printing house",
    "item": "lamp|book|bike|parcel|clock|box|chair|camera|table|bag|radio|picture|mirror|kettle|ladder",
}


def value(rng: random.Random, kind: str, test: bool) -> str | int:
    if kind.startswith("number "):
        low, high = map(int, kind.split()[1:])
        return rng.randint(low, high)
    if "/" in kind:
        return rng.choice(kind.split("/"))
    hour, minute, half = rng.randint(1, 12), rng.choice([0, 15, 30, 45]), rng.choice(["am", "pm"])
    number, day = rng.randrange(10 ** rng.randint(3, 5)), rng.randint(1, 28)
    one, other = any_word(rng, test).lower(), any_word(rng, test).lower()
    if kind == "year":
        return rng.randint(1700, 2031)
    return {
        "name": lambda: name(rng, test),
        "full_name": lambda: f"{name(rng, test)} {made_up(rng, 2).capitalize()}",
        "city": lambda: city(rng, test),
        "country": lambda: rng.choice(COUNTRIES),
        "day": lambda: rng.choice(WEEKDAYS),
        "month": lambda: rng.choice(MONTHS),
        "date": lambda: rng.choice(["{0} {1}", "{1} {0}"]).format(day, rng.choice(MONTHS)),
        "clock": lambda: rng.choice([f"{hour}:{minute:02}", f"{hour} {half}", str(hour)]),
        "colour": lambda: rng.choice(list(COLOURS)),
        "food": lambda: rng.choice(FOODS),
        "animal": lambda: rng.choice(ANIMALS),
        "job": lambda: rng.choice(JOBS),
        "word": lambda: one,
        "thing": lambda: rng.choice([one, f"{one} {other}"]),
        "code": lambda: f"{rng.choice(['', *'ABCDEFGHKLMNPRSTUVWXYZ'])}{number}",
        "price": lambda: f"{rng.randrange(200)}.{rng.randrange(100):02}" if rng.random() < 0.5 else str(day),
        "phone": lambda: f"{number}{rng.choice('- ')}{rng.randint(100, 9999)}",
        "email": lambda: f"{name(rng, test).lower()}@{one}.{rng.choice(['com', 'org', 'net'])}",
        "language": lambda: rng.choice(TONGUES),
        "sport": lambda: rng.choice(SPORTS),
        "hobby": lambda: rng.choice(HOBBIES),
        "street": lambda: f"{other.capitalize()} {rng.choice(['Street', 'Road', 'Lane', 'Avenue'])}",
    }[kind]()  # fmt: skip


def put(form: str, **words: str) -> str:
    """A form with its subject and value, the articles before them mended, a capital letter at its start."""
    for slot, said in words.items():
        if re.match(AN, said.lower()) and not said.isupper():
            form = re.sub(rf"\b([Aa]) {{{slot}}}", rf"\1n {{{slot}}}", form)
        form = form.replace(f"{{{slot}}}", said)
    return form[0].upper() + form[1:]


@dataclass
class Told:
    """A short text about one subject."""

    kind: str  # of its subject, which FACTS has
    who: str
    text: list[str]  # its sentences
    facts: list[tuple[Fact, str | int]]  # what they say, in the same order

    def same_kind(self) -> list[Fact]:
        return FACTS[self.kind]


def told(rng: random.Random, test: bool, most: int = 4, but: str = "") -> Told:
    """Not about the one that is called `but`."""
    kind = rng.choice([kind for kind, known in FACTS.items() for _ in known])
    if kind == "person":
        who, later = name(rng, test), rng.choice(["he", "she"])
    else:
        noun = rng.choice(SUBJECTS[kind].split("|"))
        who, later = f"the {noun}", "it"
    if who == but:
        return told(rng, test, most, but)
    facts = rng.sample(FACTS[kind], rng.randint(1, most))
    said: list[tuple[Fact, str | int]] = []
    for one in facts:
        made = value(rng, one.kind, test)
        if str(made) not in [str(v) for _, v in said]:
            said.append((one, made))
    text = []
    for n, (one, made) in enumerate(said):
        form = rng.choice(one.sentences)
        named = n == 0 or rng.random() < 0.4 or not form.startswith("{who}")
        text.append(put(form, who=who if named else later, value=str(made)))
    return Told(kind, who, text, said)


def label(one: Fact, who: str) -> str:
    """What is asked for, as an answer names it before the value: Ida's home city."""
    return put("{who}'s ", who=who) + one.keys[0].replace("_", " ")


def question(rng: random.Random, told: Told) -> tuple[str, str, str]:
    """One that the text answers, what it asks for, and the answer."""
    one, made = rng.choice(told.facts)
    return put(rng.choice(one.questions), who=told.who), label(one, told.who), str(made)


def unanswered(rng: random.Random, told: Told) -> tuple[str, str]:
    """One that the text does not answer, and what it asks for."""
    one = rng.choice([one for one in told.same_kind() if one not in [fact for fact, _ in told.facts]])
    return put(rng.choice(one.questions), who=told.who), label(one, told.who)


def start(value: str | int) -> str:
    """Its first number, as 9 and 9:00 are the same; otherwise all of it."""
    return re.sub(r"^(\d+).*", r"\1", str(value))


def claim(rng: random.Random, told: Told, test: bool) -> tuple[str, str, str, str, bool]:
    """What is so or not, as a sentence and within one; what it is about, what holds, whether it is so."""
    one, made = rng.choice(told.facts)
    said, is_so = made, rng.random() < 0.5
    while not is_so and start(said) == start(made):
        said = value(rng, one.kind, test)
    whole = put(one.sentences[0], who=told.who, value=str(said)).removesuffix(".")
    name_first = one.sentences[0].startswith("{value}") or whole.startswith(told.who)
    within = whole if name_first else whole[0].lower() + whole[1:]
    return whole, within, label(one, told.who), str(made), is_so
