"""The closed world that the small model knows: questions, and the one right answer to each.

`sample(task, seed, test)` is a function of its arguments alone. Test samples come from other seeds, and their
words, names, cities and sums are among the tenth that training never sees (`words.held_out`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import draw
import numpy as np
from draw import Thing
from PIL import Image
from words import (
    ANIMALS,
    CITIES,
    COLOURS,
    FOODS,
    JOBS,
    LANGUAGES,
    SHAPES,
    WORDS,
    city,
    made_up,
    name,
    pick,
    translate,
)

MOST_THINGS, MOST_LETTERS, MOST_LINES = 6, 7, 4  # in a picture, in a word to read, in a picture


@dataclass
class Sample:
    task: str
    messages: list[dict[str, Any]]  # the last is the user's or a tool's; {"type": "image"} where a picture is
    answer: str
    thoughts: str | None = None  # what is thought before answering; None: the model is told not to think
    tools: list[dict[str, Any]] | None = None
    picture: Image.Image | None = None
    clip: np.ndarray | None = None  # [8, 128, 128, 3]
    boxes: list[tuple[float, ...]] = field(default_factory=list)  # of the answer, 0 to 1000
    things: list[Thing] = field(default_factory=list)  # what is in the picture
    letters: list[list[tuple[str, float, float]]] = field(default_factory=list)  # of each line; their middles


def ask(task: str, question: str, answer: str, **more: Any) -> Sample:
    kind = "image" if "picture" in more else "video" if "clip" in more else None
    content: Any = [{"type": kind}, {"type": "text", "text": question}] if kind else question
    return Sample(task, [{"role": "user", "content": content}], answer, **more)


def a(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."


def listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def times(count: int, words: str) -> str:
    return f"There {'is' if count == 1 else 'are'} {count or 'no'} {words}{'' if count == 1 else 's'}."


# ---- pictures


def question_of_scene(rng: random.Random, things: list[Thing]) -> tuple[str, str] | None:
    """A question about the things, from left to right, and its answer; None if it would be unclear."""
    kind = rng.choice("count total exists more colour shape end between size".split())
    one, other = rng.choice(things), rng.choice(things)
    colours, shapes = [t.colour for t in things], [t.shape for t in things]
    if kind == "count":
        if rng.random() < 0.6:
            shape = rng.choice(shapes) if rng.random() < 0.75 else rng.choice(SHAPES)
            return rng.choice(
                [f"How many {shape}s are there?", f"Count the {shape}s.", f"How many {shape}s do you see?"]
            ), times(shapes.count(shape), shape)
        colour = rng.choice(colours) if rng.random() < 0.75 else rng.choice(list(COLOURS))
        return rng.choice([f"How many {colour} objects are there?", f"Count the {colour} objects."]), times(
            colours.count(colour), f"{colour} object"
        )
    if kind == "total":
        return rng.choice(
            ["How many objects are there?", "How many shapes do you see?", "Count all objects."]
        ), times(len(things), "object")
    if kind == "exists":
        wanted = one.name if rng.random() < 0.5 else f"{rng.choice(list(COLOURS))} {rng.choice(SHAPES)}"
        if rng.random() < 0.4:
            wanted = f"{one.colour} {other.shape}"
        found = wanted in [t.name for t in things]
        return (
            rng.choice([f"Is there {a(wanted)}?", f"Do you see {a(wanted)}?"]),
            f"{'Yes' if found else 'No'}, there is {a(wanted) if found else f'no {wanted}'}.",
        )
    if kind == "more":
        first, second = rng.sample(SHAPES, 2) if rng.random() < 0.3 else (one.shape, other.shape)
        if first == second:
            return None
        m, n = shapes.count(first), shapes.count(second)
        verdict = "No, as many" if m == n else "Yes" if m > n else "No"
        # the counts first: a verdict before them would be both counts and their comparison in one token
        return (
            f"Are there more {first}s than {second}s?",
            f"{first.capitalize()}s: {m}. {second.capitalize()}s: {n}. {verdict}.",
        )
    if kind == "colour":
        if shapes.count(one.shape) > 1:
            return None
        return rng.choice(
            [f"What colour is the {one.shape}?", f"Which colour does the {one.shape} have?"]
        ), f"The {one.shape} is {one.colour}."
    if kind == "shape":
        if colours.count(one.colour) > 1:
            return None
        return rng.choice(
            [f"What shape is the {one.colour} object?", f"What is the {one.colour} object?"]
        ), f"The {one.colour} object is {a(one.shape)}."
    if kind == "end":
        by_height = sorted(things, key=lambda t: t.y)
        end, thing = rng.choice(
            [("left", things[0]), ("right", things[-1]), ("top", by_height[0]), ("bottom", by_height[-1])]
        )
        return rng.choice(
            [
                f"What is the {end}most object?",
                f"Which object is {'on' if end in ('left', 'right') else 'at'} the far {end}?",
            ]
        ), sentence(a(thing.full_name))
    if one.name == other.name or [t.name for t in things].count(one.name) > 1:
        return None
    if kind == "size":
        return f"Is the {one.name} small or large?", f"The {one.name} is {one.size}."
    if [t.name for t in things].count(other.name) > 1:
        return None
    way = rng.choice(["left of", "right of", "above", "below"])
    holds = {"left of": one.x < other.x, "right of": one.x > other.x, "above": one.y < other.y}
    true = holds.get(way, one.y > other.y)
    if rng.random() < 0.5:
        return f"Is the {one.name} {way} the {other.name}?", "Yes." if true else "No."
    across = rng.random() < 0.5
    answer = (
        ("left of" if one.x < other.x else "right of")
        if across
        else ("above" if one.y < other.y else "below")
    )
    return (
        f"Is the {one.name} {'left or right of' if across else 'above or below'} the {other.name}?",
        f"The {one.name} is {answer} the {other.name}.",
    )


def scene(rng: random.Random, test: bool) -> Sample:
    picture, things = draw.scene(rng, rng.randint(1, MOST_THINGS), rng.choice(draw.SIZES))
    while not (found := question_of_scene(rng, things)):
        pass
    return ask("scene", *found, picture=picture, things=things)


def caption(rng: random.Random, test: bool) -> Sample:
    picture, things = draw.scene(rng, rng.randint(1, 5), rng.choice(draw.SIZES))
    question = rng.choice(
        [
            "Describe this picture.",
            "Describe the picture.",
            "What is in this picture?",
            "What do you see?",
            "Describe this picture in one sentence.",
            "What does the picture show?",
            "Describe the image.",
            "What is this?",
            "What is shown here?",
        ]
    )
    seen = listed([a(t.full_name) for t in things])
    return ask(
        "caption",
        question,
        sentence(seen if len(things) == 1 else f"from left to right: {seen}"),
        picture=picture,
        things=things,
    )


def boxes(rng: random.Random, test: bool) -> Sample:
    size = rng.choice(draw.SIZES)
    picture, things = draw.scene(rng, rng.randint(1, 5), size)
    one = rng.choice(things)
    what, wanted = rng.choice(
        [
            (f"the {one.name}", [t for t in things if t.name == one.name]),
            (f"every {one.name}", [t for t in things if t.name == one.name]),
            (f"every {one.shape}", [t for t in things if t.shape == one.shape]),
            (f"every {one.colour} object", [t for t in things if t.colour == one.colour]),
            ("all objects", things),
        ]
    )
    if len(wanted) > 3 or (what.startswith("the ") and len(wanted) > 1):
        return boxes(rng, test)
    scales = [1000 / size[0], 1000 / size[1]] * 2
    edges = [tuple(round(e * s) for e, s in zip(t.box(), scales, strict=True)) for t in wanted]
    found = [{"bbox_2d": list(e), "label": t.name} for e, t in zip(edges, wanted, strict=True)]
    verb, form = (
        rng.choice(["Locate", "Find", "Detect"]),
        rng.choice(
            [
                "Answer with bbox_2d and label in JSON.",
                "Report bbox_2d and label as JSON.",
                "Output JSON with bbox_2d and label.",
            ]
        ),
    )
    lines = ",\n".join("\t" + json.dumps(f) for f in found)
    answer = f"```json\n[\n{lines}\n]\n```"
    return ask("boxes", f"{verb} {what}. {form}", answer, picture=picture, boxes=edges, things=things)


def read(rng: random.Random, test: bool) -> Sample:
    def word() -> str:
        most = MOST_LETTERS if test else rng.randint(1, MOST_LETTERS)  # short ones are learned first
        if rng.random() < 0.25:
            return str(rng.randrange(10 ** rng.randint(1, 5)))
        return (rng.choice(WORDS) if rng.random() < 0.4 else made_up(rng, rng.randint(1, 2)))[:most]

    def line() -> str:
        return rng.choice([str.lower, str.lower, str.title, str.upper])(pick(rng, word, test))

    # more than one says more about letters
    lines = [line() for _ in range(rng.choice([1, 1, 1, 1, 2] if test else [1, 1, 2, 3, MOST_LINES]))]
    question = rng.choice(
        [
            "What does it say?",
            "Read the text.",
            "What is written here?",
            "Which text do you see?",
            "What is the text in this picture?",
            "Transcribe the text.",
            "Read this.",
        ]
    )
    picture, letters = draw.lettering(rng, lines, rng.choice(draw.SIZES))
    return ask("read", question, "\n".join(lines), picture=picture, letters=letters)


def motion(rng: random.Random, test: bool) -> Sample:
    movers = rng.choice([1, 1, 2, 2, 2])
    frames, moves = draw.clip(rng, movers, rng.randint(0, 3 - movers))
    (first, way), (last, last_way) = moves[0], moves[-1]
    kind = rng.choice(["all", "all", "way"] + ["order"] * (movers - 1) * 2)
    if kind == "all":
        question = rng.choice(
            ["What happens in this clip?", "What happens?", "What moves, and where?", "Describe this video."]
        )
        answer = f"The {first.name} moves {way}."
        if movers == 2:
            answer += f" Then the {last.name} moves {last_way}."
    elif kind == "order":
        question, thing = rng.choice([("What moves first?", first), ("What moves last?", last)])
        answer = f"The {thing.name}."
    else:
        thing, its_way = rng.choice(moves)
        question = rng.choice(
            [f"Where does the {thing.name} move?", f"In which direction does the {thing.name} move?"]
        )
        answer = f"The {thing.name} moves {its_way}."
    return ask("motion", question, answer, clip=frames)


def languages(rng: random.Random, test: bool) -> Sample:
    language = rng.choice(list(LANGUAGES))
    questions = LANGUAGES[language][0]
    if rng.random() < 0.3:
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        words = f"{a(colour)} {shape}"
        question = rng.choice(
            [f"What is '{words}' in {language}?", f"How do you say '{words}' in {language}?"]
        )
        return ask("languages", question, translate(language, colour, shape))
    alone = rng.random() < 0.6
    picture, things = draw.scene(rng, 1 if alone else rng.randint(2, 4), rng.choice(draw.SIZES))
    if alone:
        question, thing = rng.choice(questions), things[0]
    else:
        end, thing = rng.choice([("left", things[0]), ("right", things[-1])])
        question = f"Name the {end}most object in {language}."
    answer = translate(language, thing.colour, thing.shape)
    return ask("languages", question, answer, picture=picture, things=things)


# ---- sums, with thoughts and without


def add_aloud(x: int, y: int) -> str:
    """Column by column, from the right, as at school."""
    thoughts, carry = [], 0
    while x or y or carry:
        parts = [x % 10, y % 10] + [1] * carry
        if x < 10 and y < 10 and carry and not (x or y):
            thoughts.append("1 is left.")
            break
        total = sum(parts)
        line = f"{' + '.join(map(str, parts))} = {total}"
        carry = total // 10
        thoughts.append(f"{line}: write {total % 10}{', carry 1' if carry else ''}.")
        x, y = x // 10, y // 10
    return "\n".join(thoughts)


def subtract_aloud(x: int, y: int) -> str:
    thoughts, borrow = [], 0
    while x:
        top, bottom = x % 10 - borrow, y % 10
        borrow = int(top < bottom)
        thoughts.append(
            f"{top + 10 * borrow} - {bottom} = {top + 10 * borrow - bottom}{', borrow 1' if borrow else ''}."
        )
        x, y = x // 10, y // 10
    return "\n".join(thoughts)


def sums(rng: random.Random, test: bool) -> Sample:
    digits = 2 if test else rng.choice([1, 2, 2, 2])
    plus = test or rng.random() < 0.75

    def make() -> tuple[int, int]:
        low = 0 if digits == 1 else 10
        return rng.randrange(low, 10**digits), rng.randrange(low, 10**digits)

    x, y = pick(rng, make, test)
    if not plus and x < y:
        x, y = y, x
    sign, result = ("+", x + y) if plus else ("-", x - y)
    forms = [f"What is {x} {sign} {y}?", f"{x}{sign}{y}", f"{x} {sign} {y} = ?", f"Calculate {x} {sign} {y}."]
    forms.append(f"Add {x} and {y}." if plus else f"Subtract {y} from {x}.")
    forms.append(f"How much is {x} {'plus' if plus else 'minus'} {y}?")
    thoughts = (add_aloud if plus else subtract_aloud)(x, y) if test or rng.random() < 0.7 else None
    return ask("sums", rng.choice(forms), f"{x} {sign} {y} = {result}.", thoughts=thoughts)


# ---- tools


def function(name: str, purpose: str, **parameters: str) -> dict[str, Any]:
    properties = {p: {"type": "string", "description": text} for p, text in parameters.items()}
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": purpose,
            "parameters": {"type": "object", "properties": properties, "required": list(parameters)},
        },
    }


CALCULATOR = function("calculator", "Calculate an expression", expression="for example 12 * 34")
WEATHER = function("get_weather", "The weather in a city", city="the city's name")
OTHER_TOOLS = [
    function("get_time", "The time in a city", city="the city's name"),
    function("set_timer", "Set a timer", minutes="how many"),
    function("play_music", "Play a song", title="the song's title"),
    function("search", "Search the web", query="what to search"),
]
SKY = ["sunny", "cloudy", "rainy", "windy", "snowy", "foggy"]
NO_TOOL = "I have no tool for that."


def call(tool: str, **arguments: str) -> str:
    lines = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
    return f"<tool_call>\n<function={tool}>\n{lines}</function>\n</tool_call>"


def tools(rng: random.Random, test: bool) -> Sample:
    """Which tool, with which arguments; then what its answer means."""
    place = city(rng, test)
    if rng.random() < 0.5:
        number = lambda: rng.randrange(10 ** rng.randint(2, 5))  # noqa: E731
        x, y = pick(rng, lambda: (number(), number()), test)
        sign = rng.choice("+-*/")
        word = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}[sign]
        question = rng.choice(
            [
                f"What is {x} {sign} {y}?",
                f"Calculate {x} {sign} {y}.",
                f"How much is {x} {word} {y}?",
                f"What is {x} {word} {y}?",
            ]
        )
        needed, arguments = CALCULATOR, {"expression": f"{x} {sign} {y}"}
        told = str(rng.randrange(10 ** rng.randint(1, 7)))
        answer = f"{x} {sign} {y} = {told}."
    else:
        question = rng.choice(
            [
                f"What is the weather in {place}?",
                f"How is the weather in {place}?",
                f"Weather in {place}?",
                f"What is the weather like in {place} today?",
                f"Tell me the weather in {place}.",
            ]
        )
        needed, arguments = WEATHER, {"city": place}
        degrees, sky = rng.randint(-9, 39), rng.choice(SKY)
        told = json.dumps({"temperature": degrees, "sky": sky})
        answer = f"It is {sky} in {place}, at {degrees} degrees."
    offered = rng.sample(OTHER_TOOLS, rng.randint(0, 1))
    here = test or rng.random() < 0.9
    offered += [needed] if here else [t for t in (CALCULATOR, WEATHER) if t is not needed]
    if len(offered) < 2 and rng.random() < 0.6:
        offered += [t for t in (CALCULATOR, WEATHER) if t not in offered and (here or t is not needed)]
    rng.shuffle(offered)
    tool = needed["function"]["name"]
    if not here:
        return ask("tools", question, NO_TOOL, tools=offered)
    if not test and rng.random() < 0.1:  # a tool is there, and none is needed
        thing, its_answer = small_talk(rng)
        return ask("tools", thing, its_answer, tools=offered)
    if rng.random() < 0.3:
        messages = [
            {"role": "user", "content": question},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": tool, "arguments": arguments}}],
            },
            {"role": "tool", "content": told},
        ]
        return Sample("tools", messages, answer, tools=offered)
    return ask("tools", question, call(tool, **arguments), tools=offered)


# ---- memory across turns


def memory(rng: random.Random, test: bool) -> Sample:
    """Facts told one turn at a time, and a question about one of them."""
    who, place, number = name(rng, test), city(rng, test), str(rng.randrange(1000))
    colour, food, job = rng.choice(list(COLOURS)), rng.choice(FOODS), rng.choice(JOBS)
    animal, pet = rng.choice(ANIMALS), name(rng, test)
    facts = [  # told, answered, asked, recalled
        (f"My name is {who}.", f"Nice to meet you, {who}.", "What is my name?", f"Your name is {who}."),
        (f"I live in {place}.", f"{place} is a good place.", "Where do I live?", f"You live in {place}."),
        (
            f"My favourite colour is {colour}.",
            f"I like {colour} too.",
            "What is my favourite colour?",
            f"Your favourite colour is {colour}.",
        ),
        (
            f"I like {food}.",
            f"{food.capitalize()}: good choice.",
            "What do I like to eat?",
            f"You like {food}.",
        ),
        (f"I work as a {job}.", "That is a fine job.", "What is my job?", f"You work as a {job}."),
        (
            f"I have a {animal}. It is called {pet}.",
            f"{pet} is a nice name.",
            f"What is my {animal} called?",
            f"Your {animal} is called {pet}.",
        ),
        (
            f"My lucky number is {number}.",
            "I will remember it.",
            "What is my lucky number?",
            f"Your lucky number is {number}.",
        ),
    ]
    told = rng.sample(facts, rng.randint(1, 4))
    if not test and rng.random() < 0.1:  # all in one turn
        _, _, question, answer = rng.choice(told)
        return ask("memory", " ".join([*(said for said, _, _, _ in told), question]), answer)
    messages: list[dict[str, Any]] = []
    for said, reply, _, _ in told:
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]
    if not test and rng.random() < 0.25:  # the replies are learned too
        return Sample("memory", messages[:-1], messages[-1]["content"])
    _, _, question, answer = rng.choice(told)
    if not test and rng.random() < 0.1:
        _, _, question, answer = rng.choice([f for f in facts if f not in told])
        answer = "You have not told me."
    return Sample("memory", [*messages, {"role": "user", "content": question}], answer)


# ---- stories, and the edge of the world

ADJECTIVES = "small old brave clever lazy happy shy hungry curious quiet".split()
PLACES = (
    "in a forest|by the sea|on a farm|in a small house|near a river|on a hill|in the city|in a garden".split(
        "|"
    )
)
OBJECTS = "key|lamp|boat|book|bell|kite|ring|map|drum|hat|box|ball".split("|")
TROUBLES = [
    ("it began to rain", "hid under a big leaf until the sun came back"),
    ("the wind took it away", "ran after it over the fields"),
    ("it fell into the water", "jumped in and brought it back"),
    ("a fox wanted it", "told the fox a joke, and the fox laughed and went home"),
    ("night came", "followed the stars home"),
    ("nobody knew whose it was", "asked every house in the village"),
]
ENDINGS = [
    "In the evening they shared a warm soup.",
    "From that day on they were never alone.",
    "And then they slept until the morning.",
    "Everyone in the village sang.",
    "That is how the {object} got its place by the door.",
]


def story(rng: random.Random, test: bool) -> Sample:
    hero, friend = rng.sample(ANIMALS, 2)
    who, other = name(rng, test), name(rng, test)
    thing, colour = rng.choice(OBJECTS), rng.choice(list(COLOURS))
    trouble, rescue = rng.choice(TROUBLES)
    kind = rng.choice(["any", "hero", "thing"])
    question = {
        "any": rng.choice(["Tell me a story.", "Tell me a short story.", "Write a story."]),
        "hero": f"Tell me a story about a {hero}.".replace("a owl", "an owl"),
        "thing": f"Tell me a story about a {colour} {thing}.".replace("a orange", "an orange"),
    }[kind]
    text = [
        f"Once there was {a(rng.choice(ADJECTIVES))} {hero} called {who}, who lived {rng.choice(PLACES)}.",
        f"One day {who} found {a(colour)} {thing}.",
        f'"What a fine {thing}!" said {who}, and showed it to {other} the {friend}.',
        f"But then {trouble}.",
        f"So {who} and {other} {rescue}."
        if "ran" not in rescue
        else f"So {who} {rescue}, and {other} helped.",
        rng.choice(ENDINGS).format(object=thing),
    ]
    return ask("story", question, " ".join(text))


UNKNOWN = "I don't know. I only know coloured shapes, short words, small sums and a few stories."
NO_PICTURE = "I see no picture."
THINGS = """the moon|France|the king of Spain|gold|electricity|the stock market|football|chess|gravity|
love|Python|Rome|the Second World War|photosynthesis|Shakespeare|the internet|water|music theory|Mars|
dinosaurs|the Bible|quantum physics|the human heart|democracy|the Amazon|jazz|bread|volcanoes|Napoleon|
the speed of light|bitcoin|climate change|the brain|Beethoven|cars|the Olympics|whales|money|Einstein|
the sun|DNA|the Roman Empire|computers|tea|time travel""".replace("\n", "")
OPEN_QUESTIONS = [
    "What is {x}?", "Who invented {x}?", "Tell me about {x}.", "Explain {x}.", "How does {x} work?",
    "Why is {x} important?", "When did {x} begin?", "What do you think about {x}?", "Who discovered {x}?",
    "How old is {x}?", "Where can I find {x}?", "Write an essay about {x}.", "What is the history of {x}?",
    "Summarize {x}.", "Give me facts about {x}.", "What is the capital of {y}?",
    "Who is the president of {y}?", "How many people live in {y}?", "Who wrote {t}?", "Who is {n}?",
    "When was {n} born?", "What did {n} say?", "How far is it from {y} to {y2}?",
    "What is the best restaurant in {y}?", "What language do people speak in {y}?",
    "Translate '{t}' into Russian.", "What rhymes with {w}?", "Can you write code for {x}?",
    "Why is the sky blue?", "What is the meaning of life?", "Who won the game yesterday?",
    "What day is today?", "How do I cook {f}?", "What does {w} mean?", "Is {x} dangerous?",
    "Do you like {x}?", "What is the square root of {k}?", "How tall is {n}?", "Which {w} is the best?",
    "Define {w}.", "How do I repair a {w}?",
]  # fmt: skip


def unknown(rng: random.Random, test: bool) -> Sample:
    if rng.random() < 0.12:
        questions = ["What is in this picture?", "What colour is the circle?", "How many objects are there?"]
        questions += ["Describe this picture.", "What does it say?", "What moves first?", "Read the text."]
        return ask("unknown", rng.choice(questions), NO_PICTURE)
    if rng.random() < 0.3:  # a picture of something else
        questions = [
            "What is in this picture?",
            "Describe this picture.",
            "What do you see?",
            "What is this?",
            "What does it say?",
            "Read the text.",
            "How many objects are there?",
        ]
        picture = draw.something_else(rng, rng.choice(draw.SIZES))
        return ask("unknown", rng.choice(questions), UNKNOWN, picture=picture)
    make = lambda: rng.choice(OPEN_QUESTIONS).format(  # noqa: E731
        x=rng.choice(THINGS.split("|")) if rng.random() < 0.7 else made_up(rng, 2),
        y=rng.choice(CITIES) if rng.random() < 0.5 else made_up(rng, 2).capitalize(),
        y2=rng.choice(CITIES),
        t=" ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 4))),
        n=f"{rng.choice([made_up(rng, 2).capitalize(), 'Doctor'])} {made_up(rng, 2).capitalize()}",
        w=rng.choice(WORDS),
        f=rng.choice(FOODS),
        k=rng.randrange(1000),
    )
    question = pick(rng, make, test)
    if rng.random() < 0.2:  # beside a picture that does not help
        picture, things = draw.scene(rng, rng.randint(1, MOST_THINGS), rng.choice(draw.SIZES))
        return ask("unknown", question, UNKNOWN, picture=picture, things=things)
    return ask("unknown", question, UNKNOWN)


GREETING = "Hello! Show me a picture of coloured shapes, or ask for a story."
WHO = (
    "I am the small model that ships with qwen_ref. "
    "I know coloured shapes, short words, clips, small sums and a few stories."
)


def small_talk(rng: random.Random) -> tuple[str, str]:
    return rng.choice(
        [(q, GREETING) for q in ("Hello!", "Hi!", "Hello", "Good morning!", "Hey")]
        + [
            (q, WHO)
            for q in ("Who are you?", "What can you do?", "What are you?", "What is your name?", "Help")
        ]
        + [(q, "You are welcome.") for q in ("Thank you!", "Thanks!")]
        + [(q, "Goodbye!") for q in ("Bye!", "Goodbye!")]
    )


def talk(rng: random.Random, test: bool) -> Sample:
    return ask("talk", *small_talk(rng))


PICTURES: dict[Callable[[random.Random, bool], Sample], float] = {
    scene: 56,
    caption: 8,
    boxes: 20,
    read: 26,
    languages: 4,
    unknown: 6,
}
CLIPS = {motion: 1.0}
TEXTS = {sums: 20, tools: 26, memory: 16, story: 8, unknown: 10, talk: 2, languages: 8}
TASKS = {f.__name__: f for f in [*PICTURES, *CLIPS, *TEXTS]}


NO_THOUGHTS = "Nothing has to be worked out here."  # when told to think where there is nothing to think


def sample(task: str, seed: int, test: bool = False) -> Sample:
    """One sample of a task. Training and test never share a seed."""
    rng = random.Random(f"{task} {seed} {test}")
    made = TASKS[task](rng, test)
    if not test and made.thoughts is None and task != "sums" and rng.random() < 0.04:
        made.thoughts = NO_THOUGHTS
    return made
