"""What one or two people do: told in a sentence each, asked for, and written as JSON.

They stand in happenings.txt with an empty line between them. A block's first line has its name and what JSON
may call its parts, in brackets a noun by which answers call it; then come ways to tell it, and questions
with ? before them, = before the answer, and once more before what the answer calls it where a noun is stiff.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from figures import THINGS, spelled
from sample import a, bare, in_json
from texts import slots
from words import ANIMALS, CITIES, COLOURS, FOODS, JOBS, MONTHS, WEEKDAYS, city, name

Values = dict[str, str]


@dataclass
class Happening:
    keys: dict[str, str]  # of JSON, and which part each has
    nouns: dict[str, str]  # what answers call a part
    sentences: list[str]
    questions: list[tuple[str, str]]
    labels: dict[str, str]  # of questions whose answers begin with no noun


def happening(block: str) -> Happening:
    head, *lines = block.split("\n")
    asked = [tuple(line.removeprefix("? ").split(" = ")) for line in lines if line.startswith("? ")]
    said = [line for line in lines if not line.startswith("? ")]
    named = re.findall(r"(\w+)(?: \(([\w ]+)\))? {(\w+)}", head)
    return Happening(
        {key: part for key, _, part in named},
        {part: noun or key.replace("_", " ") for key, noun, part in named},
        said,
        [(q, answer) for q, answer, *_ in asked],
        {q: said for q, _, *own in asked for said in own},
    )


NOUNS = {  # of parts that JSON does not have
    **dict.fromkeys(["reason", "trouble", "hurry", "sorrow"], "reason"),
    **dict.fromkeys(["hospital", "where", "city", "town"], "place"),
    "hour": "time", "height_m": "height", "things": "goods", "other": "friend", "who": "name",
}  # fmt: skip
OWNERS = "thing vehicle building house room who other animal".split()  # the red hat's owner, Ida's pet
GOODS = OWNERS[:5]  # which come first: the red hat's giver, not Ida's
FILE = Path(__file__).parent / "happenings.txt"
HAPPENINGS = [happening(block) for block in FILE.read_text().strip().split("\n\n")]
# Those with any verb or thing are half of what is told: "When does Anna work?" had no noun of its
# own to answer with, and of two cats that Laura has it was said "2 * 2 = 4.".
GENERAL = {"verb", "act", "do", "few", "number", "item", "more"}
OFTEN = [1 if GENERAL.isdisjoint(slots(" ".join(what.sentences))) else 7 for what in HAPPENINGS]
OBJECTS = "key|lamp|boat|book|bell|kite|ring|map|drum|hat|box|ball|coat|cup|chair|clock|umbrella|bag".split(
    "|"
)
POSSIBLE = {
    "place": "market|harbour|station|school|church|bakery|library|museum|bank|zoo|theatre|hotel|mill|barn",
    "vehicle": "bus|van|taxi|truck|tram|tractor|train|car|motorbike|lorry",
    "subject": "music|maths|history|art|biology|geography|chemistry|physics|dancing|cooking",
    "house": "door|fence|wall|gate|roof|shed|table|bench|boat|kitchen",
    "hospital": "in the hospital|at the farm|at the castle|in the garden|at the office|on the island",
    "where": "under the bridge|in the forest|near the tower|near the lake|by the church wall|in the yard|"
    "beside the road|on the beach|behind the shed|behind the inn|between two rocks|in the tall grass",
    "task": "wash the car|move the piano|clean the windows|write a letter|feed the hens|carry the sacks|"
    "put up the tent|dig a hole|pack the bags|find the cat|cut the hedge|bake the bread",
    "skill": "swim|ride a horse|play chess|sew a shirt|bake a pie|drive a tractor|catch a fish|tie a knot|"
    "sing in tune|milk a cow|light a fire|speak in public|fly a kite|paint flowers",
    "game": "chess|tennis|cards|golf|darts|football|dominoes|billiards|table tennis|checkers|hockey|skittles",
    "building": "a small hut|a long wall|a stone bridge|a tower|a tree house|a dog house|a windmill|"
    "a hen house|an oven|a staircase|a swing|a raft",
    "material": "old bricks|oak planks|clay|sandstone|iron pipes|logs|bamboo|glass bottles|tin|driftwood",
    "plant": "an apple tree|a rose bush|three tulips|some onions|a young oak|a row of beans|a fig tree|"
    "two lemon trees|a pumpkin|some carrots|a willow|sunflowers",
    "month": "|".join(MONTHS),
    "hurry": "the taxi was waiting|the phone was ringing|it was very late|a child was crying|"
    "the doors were closing|there was an alarm|everybody was shouting|the light went out",
    "drink": "green tea|cold milk|apple juice|black coffee|hot cocoa|lemonade|ginger beer|red wine|water",
    "text": "a long poem|a novel|a short play|a song|a speech|an article|a fairy tale|a letter to the king|"
    "a cookbook|a guide|an essay|a report",
    "topic": "the moon|winter|childhood|love|bees|the war|old trains|a shipwreck|good manners|the sea|"
    "wild horses|hunger|ghosts",
    "race": "the boat race|the marathon|the ski race|the swimming race|the bicycle race|the egg race|"
    "the sack race|the hill run|the sledge race|the relay",
    "instrument": "the violin|the drums|the flute|the harp|the trumpet|the guitar|the cello|the banjo|"
    "the piano|the accordion|the tuba",
    "horse": "a donkey|a pony|a mule|a camel|a horse|an elephant|an ox|a llama",
    "height": "a ladder|the roof|a cart|a balcony|a swing bridge|a high wall|a stool|the stage|a camel",
    "injury": "a broken arm|a sore knee|a bump on the head|a twisted ankle|a deep cut|a black eye|"
    "two broken ribs|a stiff neck|a bloody nose",
    "room": "cellar|bathroom|attic|hall|classroom|stable|bedroom|garage|pantry|office|balcony|workshop",
    "secret": "the cake is poisoned|the treasure is false|the shop will close|the teacher is a spy|"
    "the king is ill|the picture is a copy|the ring is stolen|the war is over|the map is wrong",
    "sorrow": "the dog had died|the team had lost|the holiday was over|a friend had moved away|"
    "the doll was broken|nobody had written|the film ended badly|the garden was flooded",
    "clothing": "a scarf|a pair of gloves|a cap|a sweater|a shawl|a blanket|long socks|a waistcoat|mittens",
    "tool": "a net|a long rope|a trap|a bucket|both hands|a piece of cheese|a basket|a fishing rod|a sack",
    "verb": "work|rest|wait|walk|paint|cook|jump|train|knock|help|listen|play|pray|camp|golf|whisper|wander|"
    "garden|talk|laugh|shout|perform|row|sail|sweat|shiver|hammer|daydream|limp|yawn",
    "act": "collect|sort|mend|count|clean|load|unpack|pack|check|film|print|record|order|deliver|inspect|"
    "burn|boil|peel|roast|water|pick|weigh|test|colour|borrow|return|mark|lift|open",
    "do": "love|hate|need|want|know|bring|use|make|take|keep|wear|grow|cut|bake|see|hear|hide|throw|choose",
    "more": "taller|older|younger|faster|stronger|richer|smaller|heavier|louder|kinder|shorter|slower",
    "object": "letters|carpets|old clocks|tomatoes|empty bottles|roses|maps|wet towels|chairs|wooden spoons|"
    "potatoes|posters|umbrellas|small parcels|candles|mushrooms|suitcases|chestnuts|lamps|blankets",
    "when": "at night|in the evening|every Sunday|on Fridays|after lunch|before breakfast|in summer|at noon|"
    "every morning|at weekends|once a week|on rainy days|in the holidays|after school|twice a year|in winter",
    "past": "yesterday|last night|last Monday|two days ago|this morning|last summer|on 3 May|one evening|"
    "after the concert|in the afternoon|last weekend|before the storm|a week ago|on New Year's Eve",
    "spot": "in a small office|at the harbour|on the balcony|behind the church|in the forest|by the lake|"
    "at home|in an old hall|under a tree|near the bridge|in the kitchen|on the roof|at the airport|"
    "in a tent|on a ship",
    "reason": "the bus broke down|the clock was wrong|the road was closed|the train was full|"
    "the alarm did not ring|there was too much snow|the bike had no air|the bridge was closed",
    "trouble": "the baby was ill|the weather was bad|the car did not start|a guest was coming|"
    "the roof had a hole|there was too much work|the shoes were wet|the key was lost",
}


def values(rng: random.Random, test: bool, but: frozenset[str] = frozenset()) -> Values:
    """For each part that a happening may have, another, and none of these."""
    make: dict[str, Callable[[], str]] = {
        part: partial(rng.choice, said.split("|")) for part, said in POSSIBLE.items()
    }
    vehicles = POSSIBLE["vehicle"].split("|")
    make |= {
        "who": lambda: name(rng, test),
        "other": lambda: name(rng, test),
        "city": lambda: city(rng, test),
        "town": lambda: rng.choice(CITIES),
        "thing": lambda: a(f"{rng.choice(list(COLOURS))} {rng.choice(OBJECTS)}"),
        "vehicle": lambda: a(f"{rng.choice(list(COLOURS))} {rng.choice(vehicles)}"),
        "things": lambda: rng.choice(THINGS),
        "day": lambda: rng.choice(WEEKDAYS),
        "count": lambda: str(rng.randint(2, 99)),
        "number": lambda: str(rng.randint(2, 99)),
        "item": lambda: f"{rng.choice(list(COLOURS))} {rng.choice(OBJECTS)}",
        "few": lambda: rng.choice([str, spelled])(rng.randint(2, 12)),
        "year": lambda: str(rng.randint(1700, 2031)),
        "height_m": lambda: str(rng.randint(100, 1699)),
        "hour": lambda: str(rng.randint(1, 12)),
        "job": lambda: a(rng.choice(JOBS)),
        "animal": lambda: a(rng.choice(ANIMALS)),
        "food": lambda: rng.choice(FOODS),
        "colour": lambda: rng.choice(list(COLOURS)),
    }
    made: Values = {}
    said = {*but}
    for part, one in make.items():
        while (value := one()) in said:
            pass
        made[part] = value
        said.add(value)
    return made


def others(rng: random.Random, test: bool, before: list[Values]) -> Values:
    """None of which was said before."""
    return values(rng, test, frozenset(value for one in before for value in one.values()))


def put(form: str, made: Values) -> str:
    return re.sub(r"(^|[.?!] )([a-z])", lambda start: start[1] + start[2].upper(), form.format(**made))


def told(rng: random.Random, test: bool) -> tuple[list[str], list[tuple[Happening, Values]]]:
    """Of one, or of two who do the same or something else; each part of it is said once."""
    one, other = rng.choices(HAPPENINGS, OFTEN, k=2)
    chosen = rng.choice([[one], [one, one], [one, one], [one, one], [one, other]])
    made: list[Values] = []
    for _ in chosen:
        made.append(others(rng, test, made))
    said = list(zip(chosen, made, strict=True))
    return [put(rng.choice(what.sentences), parts) for what, parts in said], said


def label(what: Happening, asked: str, answer: str, parts: Values) -> str:
    """What an answer names before the value: whose it is and a noun, or all that is asked of who it was."""
    if asked in what.labels:
        return put(what.labels[asked], parts)
    asked_of = slots(asked)
    named = [part for part in asked_of if part in OWNERS]
    of = min(named, key=lambda part: part not in GOODS, default=None)
    if not of:  # Who sells eggs
        alike = [q for q, said in what.questions if said == answer and slots(q) == asked_of]
        told = next(form for form in [asked, *alike] if re.match("Wh(o|at was) ", form))
        return put(told.removesuffix("?"), parts)
    (*_, part) = slots(answer)
    noun = what.nouns.get(part, NOUNS.get(part, part))
    owner = parts[of] if of in ("who", "other") else f"the {bare(parts[of])}"
    return put("{owner}'s {noun}", {"owner": owner, "noun": noun})


def question(
    rng: random.Random, test: bool, said: list[tuple[Happening, Values]]
) -> tuple[str, str, str | None]:
    """What it asks for, and its answer; None if it asks for what nobody said."""
    what, parts = rng.choice(said)
    asked, answer = rng.choice(what.questions)
    if rng.random() < 0.15:
        made = others(rng, test, [made for _, made in said])
        return put(asked, made), label(what, asked, answer, made), None
    answer = answer if answer[0] == "{" else answer[0].lower() + answer[1:]
    return put(asked, parts), label(what, asked, answer, parts), answer.format(**parts)


def as_object(rng: random.Random, test: bool) -> tuple[str, dict[str, str | int]]:
    """A sentence, and some of what it says by its keys, in any order."""
    what, parts = rng.choice(HAPPENINGS), values(rng, test)
    keys = rng.sample(list(what.keys), rng.randint(1, len(what.keys)))
    if rng.random() < 0.7:
        keys = [key for key in what.keys if key in keys]
    said = {key: parts[what.keys[key]] for key in keys}
    called = {key: key_of(rng, what, key) for key in keys}
    text = put(
        rng.choice([s for s in what.sentences if all(f"{{{what.keys[key]}}}" in s for key in keys)]), parts
    )
    return text, {
        called[key]: value if what.keys[key] == "secret" else in_json(value) for key, value in said.items()
    }


def key_of(rng: random.Random, what: Happening, key: str) -> str:
    """Itself, or the noun that answers call this part by: who "from" is, another calls "sender"."""
    nouns = [what.nouns[part].replace(" ", "_") for part in what.keys.values()]
    noun = what.nouns[what.keys[key]].replace(" ", "_")
    clear = noun not in what.keys and nouns.count(noun) == 1 and noun.count("_") < 3
    return noun if clear and rng.random() < 0.4 else key
