"""What one or two people do: told in a sentence each, asked for, and written as JSON.

They stand in happenings.txt with an empty line between them. A block's first line has its name and what JSON
may call its parts; then come ways to tell it, and questions with ? before them and = before the answer.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

from figures import THINGS
from sample import a
from words import ANIMALS, CITIES, COLOURS, FOODS, JOBS, WEEKDAYS, city, name

Values = dict[str, str]


@dataclass
class Happening:
    keys: dict[str, str]  # of JSON, and which part each has
    sentences: list[str]
    questions: list[tuple[str, str]]


def happening(block: str) -> Happening:
    head, *lines = block.split("\n")
    asked = [tuple(line.removeprefix("? ").split(" = ")) for line in lines if line.startswith("? ")]
    said = [line for line in lines if not line.startswith("? ")]
    return Happening(dict(re.findall(r"(\w+) {(\w+)}", head)), said, [(q, answer) for q, answer in asked])


FILE = Path(__file__).parent / "happenings.txt"
HAPPENINGS = [happening(block) for block in FILE.read_text().strip().split("\n\n")]
OBJECTS = "key|lamp|boat|book|bell|kite|ring|map|drum|hat|box|ball|coat|cup|chair|clock|umbrella|bag".split(
    "|"
)
POSSIBLE = {
    "place": "market|harbour|station|school|church|bakery|library|museum|bank|zoo|theatre|hotel|mill|barn",
    "vehicle": "bus|van|taxi|truck|tram|tractor|train|car|motorbike|lorry",
    "subject": "music|maths|history|art|biology|geography|chemistry|physics|dancing|cooking",
    "house": "door|fence|wall|gate|roof|shed|table|bench|boat|kitchen",
    "reason": "the bus broke down|the clock was wrong|the road was closed|the train was full|"
    "the alarm did not ring|there was too much snow|the bike had no air|the bridge was closed",
    "trouble": "the baby was ill|the weather was bad|the car did not start|a guest was coming|"
    "the roof had a hole|there was too much work|the shoes were wet|the key was lost",
}


def values(rng: random.Random, test: bool) -> Values:
    """For each part that a happening may have, another."""
    made = {part: rng.choice(said.split("|")) for part, said in POSSIBLE.items()}
    made |= {
        "who": name(rng, test),
        "other": name(rng, test),
        "city": city(rng, test),
        "town": rng.choice(CITIES),
        "thing": a(f"{rng.choice(list(COLOURS))} {rng.choice(OBJECTS)}"),
        "vehicle": a(f"{rng.choice(list(COLOURS))} {made['vehicle']}"),
        "things": rng.choice(THINGS),
        "day": rng.choice(WEEKDAYS),
        "count": str(rng.randint(2, 99)),
        "year": str(rng.randint(1700, 2031)),
        "hour": str(rng.randint(1, 12)),
        "job": a(rng.choice(JOBS)),
        "animal": a(rng.choice(ANIMALS)),
        "food": rng.choice(FOODS),
        "colour": rng.choice(list(COLOURS)),
    }
    return made if len({*made.values()}) == len(made) else values(rng, test)


def others(rng: random.Random, test: bool, before: list[Values]) -> Values:
    """None of which was said before."""
    said = {value for one in before for value in one.values()}
    while not said.isdisjoint((made := values(rng, test)).values()):
        pass
    return made


def put(form: str, made: Values) -> str:
    said = form.format(**made)
    return said[0].upper() + said[1:]


def told(rng: random.Random, test: bool) -> tuple[list[str], list[tuple[Happening, Values]]]:
    """Of one, or of two who do the same or something else; each part of it is said once."""
    one, other = rng.sample(HAPPENINGS, 2)
    chosen = rng.choice([[one], [one, one], [one, one], [one, other]])
    made: list[Values] = []
    for _ in chosen:
        made.append(others(rng, test, made))
    said = list(zip(chosen, made, strict=True))
    return [put(rng.choice(what.sentences), parts) for what, parts in said], said


def question(rng: random.Random, test: bool, said: list[tuple[Happening, Values]]) -> tuple[str, str | None]:
    """And its answer; None if it asks for what nobody said."""
    what, parts = rng.choice(said)
    asked, answer = rng.choice(what.questions)
    if rng.random() < 0.1:
        return put(asked, others(rng, test, [made for _, made in said])), None
    return put(asked, parts), answer.format(**parts)


def as_object(rng: random.Random, test: bool) -> tuple[str, dict[str, str | int]]:
    """A sentence, and some of what it says by its keys, in any order."""
    what, parts = rng.choice(HAPPENINGS), values(rng, test)
    keys = rng.sample(list(what.keys), rng.randint(1, len(what.keys)))
    if rng.random() < 0.7:
        keys = [key for key in what.keys if key in keys]
    said = {key: parts[what.keys[key]] for key in keys}
    text = put(
        rng.choice([s for s in what.sentences if all(f"{{{what.keys[key]}}}" in s for key in keys)]), parts
    )
    bare = {key: re.sub("^an? ", "", value) for key, value in said.items()}  # as facts and lists have it
    return text, {key: int(value) if value.isdigit() else value for key, value in bare.items()}
