"""Pictures and clips of coloured shapes, and what is asked about them."""

from __future__ import annotations

import json
import random
import re

import draw
from draw import MOST_THINGS, Thing
from sample import Sample, View, a, among, ask, listed, places, sentence, thousandths, times
from wordings import worded
from words import COLOURS, LANGUAGES, SHAPES, translate, what_is_this

WAYS = {  # which of two coordinates, and whether the first is less
    "left of": lambda one, other: one.x < other.x,
    "right of": lambda one, other: one.x > other.x,
    "above": lambda one, other: one.y < other.y,
    "below": lambda one, other: one.y > other.y,
}
IS_LARGER = 1.35  # times the radius: less is not asked about
IS_FARTHER = 0.03  # of the width or height: of two things that lie nearer it is not asked which comes first


def shapes(rng: random.Random, test: bool, size: draw.Size) -> View:
    count = rng.choices(range(1, MOST_THINGS + 1), [14, 16, 16, 15, 13, 10, 8, 8])[0]
    picture, things = draw.scene(rng, count, size)
    return View("shapes", picture, things=things)


def names(things: list[Thing]) -> list[str]:
    return [t.name for t in things]


def question_of_scene(rng: random.Random, view: View) -> tuple[str, str] | None:
    """A question about what is there, and its answer; None if it would be unclear."""
    things = view.things  # from left to right
    kind = rng.choice(
        "count count total exists more colour colour shape end end end size corner".split()
        + 2 * ["which", "colours"]
        + 6 * ["between"]
    )
    one, other = rng.choice(things), rng.choice(things)
    all_colours, all_shapes = [t.colour for t in things], [t.shape for t in things]
    alone = lambda t: names(things).count(t.name) == 1  # noqa: E731

    def called(thing: Thing) -> str:
        """By its name, or by its shape where no other has it."""
        short = all_shapes.count(thing.shape) == 1 and rng.random() < 0.25
        return thing.shape if short else thing.name

    def in_doubt(thing: Thing, across: bool, others: list[Thing]) -> bool:
        """Does one of the others lie at about the same place, along the width or the height?"""
        assert view.picture
        width, height = view.picture.size
        apart = [abs(t.x - thing.x) / width if across else abs(t.y - thing.y) / height for t in others]
        return min(apart, default=1) < IS_FARTHER

    if kind == "count":
        if rng.random() < 0.6:
            shape = rng.choice(all_shapes) if rng.random() < 0.75 else rng.choice(SHAPES)
            question = worded(rng, "how many of a shape", f"{shape}s")
            return question, times(all_shapes.count(shape), shape)
        colour = rng.choice(all_colours) if rng.random() < 0.75 else rng.choice(list(COLOURS))
        return (
            among(
                rng,
                "How many {0} objects are there?|Count the {0} objects.|How many {0} shapes are there?|"
                "How many things are {0}?",
            ).format(colour),
            times(all_colours.count(colour), f"{colour} object"),
        )
    if kind == "total":
        return among(
            rng,
            "How many objects are there?|How many shapes do you see?|Count all objects.|How many shapes are "
            "there?|How many things are in this picture?",
        ), times(len(things), "object")
    if kind == "exists":
        wanted = one.name if rng.random() < 0.5 else f"{rng.choice(list(COLOURS))} {rng.choice(SHAPES)}"
        if rng.random() < 0.4:
            wanted = f"{one.colour} {other.shape}"
        found = wanted in names(things)
        return (
            among(rng, "Is there {0}?|Do you see {0}?|Can you see {0}?|Is there {0} in the picture?").format(
                a(wanted)
            ),
            f"{'Yes' if found else 'No'}, there is {a(wanted) if found else f'no {wanted}'}.",
        )
    if kind == "more":
        first, second = rng.sample(SHAPES, 2) if rng.random() < 0.3 else (one.shape, other.shape)
        if first == second:
            return None
        m, n = all_shapes.count(first), all_shapes.count(second)
        verdict = "No, as many" if m == n else "Yes" if m > n else "No"
        # the counts first: a verdict before them would be both counts and their comparison in one token
        return (
            f"Are there more {first}s than {second}s?",
            f"{first.capitalize()}s: {m}. {second.capitalize()}s: {n}. {verdict}.",
        )
    if kind == "colour":
        if all_shapes.count(one.shape) > 1:
            return None
        if rng.random() < 0.3:
            colour = one.colour if rng.random() < 0.5 else rng.choice(list(COLOURS))
            verdict = "Yes" if colour == one.colour else "No"
            question = among(rng, "Is the {0} {1}?|Is the {0} {1} in colour?|Is the colour of the {0} {1}?")
            return question.format(one.shape, colour), f"{verdict}, the {one.shape} is {one.colour}."
        return among(
            rng, "What colour is the {0}?|Which colour does the {0} have?|What color is the {0}?"
        ).format(one.shape), f"The {one.shape} is {one.colour}."
    if kind == "shape":
        if all_colours.count(one.colour) > 1:
            return None
        return among(rng, "What shape is the {0} object?|What is the {0} object?|Which shape is {0}?").format(
            one.colour
        ), f"The {one.colour} object is {a(one.shape)}."
    if kind == "end":
        by_height = sorted(things, key=lambda t: t.y)
        end, thing = rng.choice(
            [("left", things[0]), ("right", things[-1]), ("top", by_height[0]), ("bottom", by_height[-1])]
        )
        if in_doubt(thing, end in ("left", "right"), [t for t in things if t is not thing]):
            return None
        return among(
            rng, f"What is the {end}most object?|Which object is "
            f"{'on' if end in ('left', 'right') else 'at'} the far {end}?|What is on the {end}?|"
            f"Which shape is at the {end}?|What is at the very {end}?|Name the {end}most shape.|"
            f"What lies at the {end}?|Which object is closest to the {end} edge?",
        ), sentence(a(thing.name))  # fmt: skip
    if kind == "corner":
        where = rng.choice([*CORNERS, "middle"])
        near = [t for t in things if is_near(t, where, view, 0.42 if where in CORNERS else 0.12)]
        around = [t for t in things if is_near(t, where, view, 0.58 if where in CORNERS else 0.25)]
        if len(around) > 1 or len(near) < len(around):
            return None
        spot = where if where == "middle" else f"{where} corner"
        return among(
            rng, "What is in the {0}?|Which object is in the {0}?|What lies in the {0}?|"
            "What do you see in the {0}?",
        ).format(spot), sentence(a(near[0].name)) if near else "Nothing."  # fmt: skip
    if kind == "colours":
        return among(
            rng, "What colours do you see?|Which colours are there?|What colours are in this picture?|"
            "List the colours.|Which colors are in the picture?",
        ), sentence(listed(list(dict.fromkeys(all_colours))))  # fmt: skip
    if kind == "size":
        by_size = sorted(things, key=lambda t: t.radius)
        if len(things) > 1 and rng.random() < 0.6:
            if rng.random() < 0.5 and by_size[-1].radius > IS_LARGER * by_size[-2].radius:
                return among(
                    rng, "What is the largest object?|Which shape is the biggest?|What is the biggest object?"
                ), sentence(a(by_size[-1].name))
            if by_size[1].radius > IS_LARGER * by_size[0].radius:
                return among(
                    rng, "What is the smallest object?|Which shape is the smallest?"
                ), sentence(a(by_size[0].name))  # fmt: skip
            return None
        if not (alone(one) and alone(other)) or max(one.radius, other.radius) < IS_LARGER * min(
            one.radius, other.radius
        ):
            return None
        larger, smaller = (one, other) if one.radius > other.radius else (other, one)
        more, found = rng.choice([("larger", larger), ("bigger", larger), ("smaller", smaller)])
        told = {id(t): called(t) for t in (one, other)}
        return (
            f"Which is {more}, the {told[id(one)]} or the {told[id(other)]}?",
            f"The {told[id(found)]} is {more}.",
        )
    if not alone(one):
        return None
    way = rng.choice(list(WAYS))
    across = way in ("left of", "right of")
    if in_doubt(one, across, [other] if kind == "between" else [t for t in things if t is not one]):
        return None  # of between also where both are one
    if kind == "which":  # of all that lie there
        found = [t for t in things if t is not one and WAYS[way](t, one)]
        if len(found) > 3:
            return None
        return among(
            rng, "What is {0} the {1}?|Which objects are {0} the {1}?|Which shapes are {0} the {1}?"
        ).format(way, one.name), sentence(listed([a(t.name) for t in found])) if found else "Nothing."
    if not alone(other):
        return None
    its_name, other_name = called(one), called(other)
    # where they are first, for the reason that counts come first: from the figures the verdict follows
    assert view.picture
    size, edge = (view.picture.width, "left") if across else (view.picture.height, "top")
    here, there = (round(100 * (t.x if across else t.y) / size) for t in (one, other))
    where = places(edge, its_name, here, other_name, there)
    if rng.random() < 0.5:
        question = among(rng, "Is the {0} {2} the {1}?|Is the {0} {3} the {1}?")
        to_the_way = re.sub("(left|right)", r"to the \1", way)
        verdict = "Yes" if WAYS[way](one, other) else "No"
        return question.format(its_name, other_name, way, to_the_way), f"{where} {verdict}."
    answer = next(w for w in list(WAYS)[0 if across else 2 :] if WAYS[w](one, other))
    return (
        f"Is the {its_name} {'left or right of' if across else 'above or below'} the {other_name}?",
        f"{where} So the {its_name} is {answer} the {other_name}.",
    )


CORNERS = {  # the sides that meet there: 0 or 1 across, 0 or 1 down
    "top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1),
}  # fmt: skip


def is_near(thing: Thing, where: str, view: View, reach: float) -> bool:
    """Is its middle no farther from a corner, or from the middle, than this share of the width and height?"""
    assert view.picture
    x, y = thing.x / view.picture.width, thing.y / view.picture.height
    right, down = CORNERS.get(where, (0.5, 0.5))
    return abs(x - right) < reach and abs(y - down) < reach


def scene(rng: random.Random, view: View, test: bool) -> Sample:
    while not (found := question_of_scene(rng, view)):
        pass
    question, answer = found
    short = re.fullmatch(r"There (?:are|is) (\w+) \w+.*|The \w+ (?:object )?is (?:an? )?(\w+)\.", answer)
    plain = question.startswith(("How many", "What colour", "Which colour", "What shape", "Which shape is"))
    if short and plain and not test and rng.random() < 0.08:
        brief = short[1] or short[2]
        system = "Answer with one word only.|One word, please.|Answer as briefly as you can.|No sentences."
        return ask("scene", question, "0" if brief == "no" else brief, view, among(rng, system))
    verdict = answer.rpartition("%. ")[2]  # of a comparison, whose figures may be a hundredth off
    return ask("scene", question, answer, view, key=None if verdict == answer else verdict)


def caption(rng: random.Random, view: View, test: bool) -> Sample:
    question = among(
        rng,
        "Describe this picture.|Describe the picture.|What is in this picture?|What do you see?|"
        "Describe this picture in one sentence.|What does the picture show?|Describe the image.|"
        "What is this?|What is shown here?|Caption this image.|Give me a caption.|Describe what you see.|"
        "Write a caption for this picture.|What is there?|What shapes are in this picture?|"
        "Which shapes do you see?|List the objects from left to right.",
    )
    if rng.random() < 0.2:
        question = among(
            rng, "List the objects as JSON.|Which shapes are there? Answer in JSON.|Describe it as JSON."
        )  # fmt: skip
        found = [{"colour": t.colour, "shape": t.shape} for t in view.things]
        return ask("caption", question, json.dumps(found), view)
    things, order = view.things, "from left to right"
    if rng.random() < 0.3:
        things, order = sorted(things, key=lambda t: t.y), "from top to bottom"
        question = f"List the objects {order}."
    seen = listed([a(t.name) for t in things])
    return ask("caption", question, sentence(seen if len(things) == 1 else f"{order}: {seen}"), view)


def wanted(rng: random.Random, things: list[Thing]) -> tuple[str, str, list[Thing]]:
    """What to look for, how to say that there is none, and where it is."""
    one = rng.choice(things)
    if rng.random() < 0.15:
        shape = rng.choice(SHAPES)
        other = rng.choice([f"{rng.choice(list(COLOURS))} {shape}", shape])
        return f"the {other}", other, [t for t in things if other in (t.name, t.shape)]
    what, none, found = rng.choice(
        [
            (f"the {one.name}", one.name, [t for t in things if t.name == one.name]),
            (f"the {one.shape}", one.shape, [t for t in things if t.shape == one.shape]),
            (f"the {one.colour} object", one.colour, [t for t in things if t.colour == one.colour]),
            (f"every {one.name}", one.name, [t for t in things if t.name == one.name]),
            (f"every {one.shape}", one.shape, [t for t in things if t.shape == one.shape]),
            (f"every {one.colour} object", one.colour, [t for t in things if t.colour == one.colour]),
            ("all objects", "object", things),
        ]
    )
    return what, none, found


MOST_BOXES = 3


def boxes(rng: random.Random, view: View, test: bool) -> Sample:
    what, none, found = wanted(rng, view.things)
    while len(found) > MOST_BOXES or (what.startswith("the ") and len(found) > 1):
        what, none, found = wanted(rng, view.things)
    if rng.random() < 0.75:
        name, verb = "bbox_2d", among(rng, "Locate|Find|Detect|Where is")
    else:
        name, verb = "point_2d", among(rng, "Point to|Locate|Point at|Find")
    form = among(
        rng,
        "Answer with {0} and label in JSON.|Report {0} and label as JSON.|Output JSON with {0} and label.|"
        "Give {0} and label as JSON.",
    ).format(name)
    mark = "?" if verb == "Where is" else "."
    if verb not in ("Find", "Locate") and rng.random() < 0.3:
        form = ""  # it goes without saying
    question = f"{verb} {what}{mark} {form}".rstrip()
    if not found:
        return ask("boxes", question, f"There is no {none}.", view)
    assert view.picture
    places = [t.box() if name == "bbox_2d" else (t.x, t.y) for t in found]
    edges = [thousandths(p, view.picture.size) for p in places]
    lines = ",\n".join(
        "\t" + json.dumps({name: list(e), "label": t.name}) for e, t in zip(edges, found, strict=True)
    )
    near = edges if name == "bbox_2d" else [(x - 25, y - 25, x + 25, y + 25) for x, y in edges]
    return ask("boxes", question, f"```json\n[\n{lines}\n]\n```", view, boxes=near)


def picture_in_language(rng: random.Random, view: View, test: bool) -> Sample:
    language = rng.choice(LANGUAGES)
    system = None
    if len(view.things) == 1:
        question, thing = rng.choice(what_is_this(language)), view.things[0]
        if rng.random() < 0.3:
            question, system = among(rng, "What is this?|What do you see?"), f"Answer in {language}."
    elif rng.random() < 0.4:
        question = among(
            rng, "Describe the picture in {0}.|What do you see? Answer in {0}.|Describe this image in {0}.|"
            "What is in this picture, in {0}?",
        ).format(language)  # fmt: skip
        told = [translate(language, thing.colour, thing.shape) for thing in view.things]
        return ask("languages", question, ", ".join(told), view)
    else:
        end, thing = rng.choice([("left", view.things[0]), ("right", view.things[-1])])
        question = among(
            rng, f"Name the {end}most object in {language}.|What is on the {end}, in {language}?"
        )
        if rng.random() < 0.3:
            question, system = (
                f"What is the {end}most object?",
                among(rng, f"Answer in {language}.|You always answer in {language}.|Speak {language}."),
            )
    return ask("languages", question, translate(language, thing.colour, thing.shape), view, system)


# ---- clips


def moving(rng: random.Random, test: bool, size: draw.Size, frames: int) -> View:
    movers = rng.choice([1, 1, 2, 2, 2] if frames <= 8 else [1, 2, 2, 3, 3])
    shown, moves, things = draw.clip(rng, movers, rng.randint(0, 3 - min(movers, 3)), size, frames)
    return View("moving", clip=shown, things=things, truth=moves)


def motion(rng: random.Random, view: View, test: bool) -> Sample:
    moves = view.truth
    kind = rng.choice(["all", "all", "way", "many"] + ["order"] * min(len(moves) - 1, 1) * 3)
    if kind == "all":
        question = among(
            rng,
            "What happens in this clip?|What happens?|What moves, and where?|Describe this video.|"
            "What happens in this video?|Describe the clip.",
        )
        answer = " Then ".join(
            f"{'the' if i else 'The'} {thing.name} moves {way}." for i, (thing, way) in enumerate(moves)
        )
    elif kind == "order":
        question, (thing, _) = rng.choice(
            [
                (among(rng, "What moves first?|Which object moves first?"), moves[0]),
                (among(rng, "What moves last?|Which object moves last?"), moves[-1]),
            ]
        )
        answer = f"The {thing.name}."
    elif kind == "many":
        if rng.random() < 0.5:
            question, answer = "How many objects move?", f"{len(moves)} of {len(view.things)}."
        else:
            question = among(rng, "How many objects are there?|How many shapes are in this clip?")
            answer = times(len(view.things), "object")
    else:
        thing, its_way = rng.choice(moves)
        question = among(
            rng,
            "Where does the {0} move?|In which direction does the {0} move?|Which way does the {0} go?",
        ).format(thing.name)
        answer = f"The {thing.name} moves {its_way}."
    return ask("motion", question, answer, view)
