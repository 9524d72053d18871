"""What is asked of a picture of coloured shapes in one line, and its answer, where that is clear.

Each kind of question is a function, which answers None if what is there would leave the answer in doubt.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise

from draw import Thing
from sample import View, a, listed, places, sentence, times
from wordings import worded
from words import COLOURS, SHAPES

WAYS = {  # which of two coordinates, and whether the first is less
    "left of": lambda one, other: one.x < other.x,
    "right of": lambda one, other: one.x > other.x,
    "above": lambda one, other: one.y < other.y,
    "below": lambda one, other: one.y > other.y,
}
ENDS = ["left", "right", "top", "bottom"]
CORNERS = {  # the sides that meet there: 0 or 1 across, 0 or 1 down
    "top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1),
}  # fmt: skip
ORDINALS = ["second", "third", "fourth"]
IS_LARGER = 1.35  # times the radius, or the distance: less is not asked about
IS_FARTHER = 0.03  # of the width or height: of two things that lie nearer it is not asked which comes first

Asked = tuple[str, str] | None  # the question and its answer


def names(things: list[Thing]) -> list[str]:
    return [t.name for t in things]


def others(view: View, thing: Thing) -> list[Thing]:
    return [t for t in view.things if t is not thing]


def alone(view: View, thing: Thing) -> bool:
    return thing.name not in names(others(view, thing))


def called(rng: random.Random, view: View, thing: Thing) -> str:
    """By its name, or by its shape where no other has it."""
    short = thing.shape not in [t.shape for t in others(view, thing)] and rng.random() < 0.25
    return thing.shape if short else thing.name


def place(view: View, thing: Thing) -> tuple[float, float]:
    """Of its middle, as shares of the width and the height."""
    assert view.picture
    return thing.x / view.picture.width, thing.y / view.picture.height


def in_doubt(view: View, thing: Thing, across: bool, things: list[Thing]) -> bool:
    """Does one of these things lie at about the same place, along the width or the height?"""
    here, *there = (place(view, t)[0 if across else 1] for t in [thing, *things])
    return min((abs(x - here) for x in there), default=1) < IS_FARTHER


def from_end(view: View, end: str, number: int = 0) -> Thing | None:
    """The first thing from there, or one that comes later; None if there is none or that is unclear."""
    across, last = end in ("left", "right"), end in ("right", "bottom")
    ordered = sorted(view.things, key=lambda t: t.x if across else t.y, reverse=last)
    thing = ordered[number] if number < len(ordered) else None
    if not thing or in_doubt(view, thing, across, others(view, thing)):
        return None
    outer = {id(t): t.box()[("left", "top", "right", "bottom").index(end)] for t in view.things}
    if number == 0 and outer[id(thing)] != (max if last else min)(outer.values()):
        return None  # a larger one lies nearer to the edge
    return thing


def on_side(view: View, end: str) -> list[Thing]:
    """All that lies in that half."""
    across, last = end in ("left", "right"), end in ("right", "bottom")
    return [t for t in view.things if (place(view, t)[0 if across else 1] > 0.5) == last]


def at_end(rng: random.Random, view: View, end: str) -> str:
    """Where the first thing from there is: on the left only if it alone is there, far left only if it is left
    of the middle, furthest left wherever it is."""
    beside = len(on_side(view, end))
    while True:
        form = worded(rng, f"at the {end}")
        plain = form in (f"on the {end}", f"at the {end}")
        if "est " in form or beside == 1 or (beside and not plain):
            return form


def at_the(rng: random.Random, view: View, end: str) -> str:
    """What the thing there may be called."""
    thing = worded(rng, "thing")
    return f"the {end}most {thing}" if rng.random() < 0.5 else f"the {thing} {at_end(rng, view, end)}"


def of_kind(rng: random.Random, thing: str) -> str:
    """Several of a name, a shape or a colour: red circles, circles or red things."""
    return f"{thing} {worded(rng, 'things')}" if thing in COLOURS else f"{thing}s"


def is_near(thing: Thing, where: str, view: View, reach: float) -> bool:
    """Is its middle no farther from a corner, or from the middle, than this share of the width and height?"""
    x, y = place(view, thing)
    right, down = CORNERS.get(where, (0.5, 0.5))
    return abs(x - right) < reach and abs(y - down) < reach


def at_spot(view: View, where: str) -> list[Thing] | None:
    """The thing in a corner or in the middle, or none; None if there are several or it is unclear.

    Of three in a row one is the middle one, wherever it lies.
    """
    near = [t for t in view.things if is_near(t, where, view, 0.36 if where in CORNERS else 0.12)]
    around = [t for t in view.things if is_near(t, where, view, 0.58 if where in CORNERS else 0.25)]
    if len(around) > 1 or len(near) < len(around):
        return None
    return None if where == "middle" and not near and len(view.things) in (3, 5, 7) else near


def area(thing: Thing) -> float:
    corners = thing.outline()
    return abs(sum(x * v - u * y for (x, y), (u, v) in pairwise([*corners, corners[0]]))) / 2


def is_larger(one: Thing, other: Thing) -> bool:
    """Clearly, by what it covers, too: a star is wide, but covers less than a circle."""
    return one.radius > IS_LARGER * other.radius and area(one) > IS_LARGER * area(other)


def by_size(view: View, word: str) -> Thing | None:
    """The one that is clearly the largest, or the smallest."""
    if len(view.things) < 2:
        return None
    for one in view.things:
        pairs = [(one, t) if word in ("largest", "biggest") else (t, one) for t in others(view, one)]
        if all(is_larger(large, small) for large, small in pairs):
            return one
    return None


def yes_or_no(found: bool) -> str:
    return "Yes" if found else "No"


# ---- how many, and whether there are any


def count(rng: random.Random, view: View) -> Asked:
    """Of a shape, of a colour, or of both."""
    one = rng.choice(view.things)
    kind, shape, colour = rng.random(), one.shape, one.colour
    if rng.random() < 0.25:  # perhaps there is none
        shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    if kind < 0.5:
        question = worded(rng, "how many of a kind", f"{shape}s")
        return question, times([t.shape for t in view.things].count(shape), shape)
    if kind < 0.8:
        question = worded(rng, "how many of a kind", of_kind(rng, colour))
        if rng.random() < 0.5:
            question = worded(rng, "how many of a colour", colour)
        return question, times([t.colour for t in view.things].count(colour), f"{colour} object")
    name = f"{colour} {shape}"
    return worded(rng, "how many of a kind", f"{name}s"), times(names(view.things).count(name), name)


def total(rng: random.Random, view: View) -> Asked:
    return worded(rng, "how many at all"), times(len(view.things), "object")


def variety(rng: random.Random, view: View) -> Asked:
    """How many colours, or how many shapes, of which each counts once."""
    if rng.random() < 0.5:
        return worded(rng, "how many colours"), times(len({t.colour for t in view.things}), "colour")
    different = len({t.shape for t in view.things})
    return worded(rng, "how many different shapes"), times(
        different, "shape" if different == 1 else "different shape"
    )


def exists(rng: random.Random, view: View) -> Asked:
    one, other = rng.choice(view.things), rng.choice(view.things)
    kind = rng.random()
    if kind < 0.35:
        wanted = one.name if rng.random() < 0.5 else f"{rng.choice(list(COLOURS))} {rng.choice(SHAPES)}"
    elif kind < 0.65:
        wanted = f"{one.colour} {other.shape}"
    else:
        wanted = rng.choice([one.shape, rng.choice(SHAPES), one.colour, rng.choice(list(COLOURS))])
    found = any(wanted in (t.name, t.shape, t.colour) for t in view.things)
    what = f"{wanted} object" if wanted in COLOURS else wanted
    if rng.random() < 0.35:
        question = worded(rng, "are there any", of_kind(rng, wanted))
    else:
        question = worded(rng, "is there one", a(what))
    return question, f"{yes_or_no(found)}, there is {a(what) if found else f'no {what}'}."


def more(rng: random.Random, view: View) -> Asked:
    """Whether there are more of one shape than of another; or how many of each."""
    one, other = rng.choice(view.things), rng.choice(view.things)
    first, second = rng.sample(SHAPES, 2) if rng.random() < 0.3 else (one.shape, other.shape)
    if first == second:
        return None
    m, n = ([t.shape for t in view.things].count(shape) for shape in (first, second))
    # the counts first: a verdict before them would be both counts and their comparison in one token
    counts = f"{first.capitalize()}s: {m}. {second.capitalize()}s: {n}."
    if rng.random() < 0.35:
        return worded(rng, "how many of each", f"{first}s", f"{second}s"), counts
    verdict = "No, as many" if m == n else yes_or_no(m > n)
    return worded(rng, "are there more", f"{first}s", f"{second}s"), f"{counts} {verdict}."


# ---- colour and shape


def its_colour(rng: random.Random, asked: str, told: str, colour: str) -> Asked:
    """Of what is called so in the question and in the answer; or whether it is of one."""
    if rng.random() < 0.7:
        return worded(rng, "what colour is it", asked), f"The {told} is {colour}."
    perhaps = colour if rng.random() < 0.5 else rng.choice(list(COLOURS))
    question = worded(rng, "is it of this colour", asked, perhaps)
    return question, f"{yes_or_no(perhaps == colour)}, the {told} is {colour}."


def its_shape(rng: random.Random, asked: str, told: str, shape: str) -> Asked:
    if rng.random() < 0.7:
        return worded(rng, "what shape is it", asked), f"The {told} is {a(shape)}."
    perhaps = shape if rng.random() < 0.5 else rng.choice(SHAPES)
    question = worded(rng, "is it of this shape", asked, a(perhaps))
    return question, f"{yes_or_no(perhaps == shape)}, the {told} is {a(shape)}."


def colour(rng: random.Random, view: View) -> Asked:
    """Of a shape that is there once."""
    one = rng.choice(view.things)
    if one.shape in [t.shape for t in others(view, one)]:
        return None
    return its_colour(rng, f"the {one.shape}", one.shape, one.colour)


def shape(rng: random.Random, view: View) -> Asked:
    """Of what has a colour that is there once."""
    one = rng.choice(view.things)
    if one.colour in [t.colour for t in others(view, one)]:
        return None
    told = f"{one.colour} object"
    if rng.random() < 0.5:
        return worded(rng, "which one has a colour", one.colour), f"The {told} is {a(one.shape)}."
    return its_shape(rng, f"the {one.colour} {worded(rng, 'thing')}", told, one.shape)


def two_colours(rng: random.Random, view: View) -> Asked:
    """Of two shapes that are there once."""
    once = [t for t in view.things if t.shape not in [o.shape for o in others(view, t)]]
    if len(once) < 2:
        return None
    one, other = rng.sample(once, 2)
    question = worded(rng, "colours of two", f"the {one.shape}", f"the {other.shape}")
    return question, f"The {one.shape} is {one.colour}. The {other.shape} is {other.colour}."


def colours(rng: random.Random, view: View) -> Asked:
    found = list(dict.fromkeys(t.colour for t in view.things))
    return worded(rng, "which colours"), sentence(listed(found))


def same(rng: random.Random, view: View) -> Asked:
    """Whether all are of one colour, or of one shape; what there is is said first, as of numbers."""
    what = rng.choice(["colour", "shape"])
    found = list(dict.fromkeys(getattr(t, what) for t in view.things))
    if len(view.things) == 1 or (len(found) > 1 and rng.random() < 0.7):  # mostly they are not
        return None
    if rng.random() < 0.6:
        question = worded(rng, f"all of one {what}")
        return question, f"{what.capitalize()}s: {listed(found)}. {yes_or_no(len(found) == 1)}."
    perhaps = rng.choice(found)
    question = worded(rng, f"all of this {what}", perhaps if what == "colour" else f"{perhaps}s")
    return question, f"{what.capitalize()}s: {listed(found)}. {yes_or_no(found == [perhaps])}."


# ---- where they are


def end(rng: random.Random, view: View) -> Asked:
    where = rng.choice(ENDS)
    if not (thing := from_end(view, where)):
        return None
    if rng.random() < 0.5:
        question = worded(rng, "what is the one", at_the(rng, view, where))
    else:
        question = worded(rng, "what is there", at_end(rng, view, where))
    return question, sentence(a(thing.name))


def both_ends(rng: random.Random, view: View) -> Asked:
    one, other = rng.choice([("left", "right"), ("right", "left"), ("top", "bottom"), ("bottom", "top")])
    first, last = from_end(view, one), from_end(view, other)
    if not first or not last or first is last:
        return None
    question = worded(rng, "what is at both ends", at_end(rng, view, one), at_end(rng, view, other))
    return question, sentence(listed([a(first.name), a(last.name)]))


def in_order(rng: random.Random, view: View) -> Asked:
    """The second from an end, the third or the fourth."""
    where, number = rng.choice(ENDS), rng.choices([1, 2, 3], [3, 2, 1])[0]
    if not (thing := from_end(view, where, number)):
        return None
    what = worded(rng, "the one at a number", ORDINALS[number - 1], worded(rng, "thing"), where)
    return worded(rng, "what is the one", what), sentence(a(thing.name))


def corner(rng: random.Random, view: View) -> Asked:
    where = rng.choice([*CORNERS, "middle"])
    if (found := at_spot(view, where)) is None or (not found and rng.random() < 0.4):  # most have none
        return None
    question = worded(rng, "what is there", worded(rng, f"at the {where}"))
    return question, sentence(a(found[0].name)) if found else "Nothing."


def look_of_place(rng: random.Random, view: View) -> Asked:
    """Colour or shape of what lies at an end or in a corner."""
    where = rng.choice([*ENDS, *CORNERS])
    if where in ENDS:
        thing, asked, told = from_end(view, where), at_the(rng, view, where), f"{where}most object"
    else:
        thing = next(iter(at_spot(view, where) or []), None)
        asked = f"the {worded(rng, 'thing')} {worded(rng, f'at the {where}')}"
        told = f"object in the {where} corner"
    if not thing:
        return None
    if rng.random() < 0.7:
        return its_colour(rng, asked, told, thing.colour)
    return its_shape(rng, asked, told, thing.shape)


def in_which(rng: random.Random, view: View) -> Asked:
    """In which corner, or in which half, one lies."""
    one = rng.choice(view.things)
    if not alone(view, one):
        return None
    name = f"the {called(rng, view, one)}"
    if rng.random() < 0.5:
        found = [where for where in CORNERS if is_near(one, where, view, 0.35)]
        if not found:
            return None
        return worded(rng, "in which corner", name), sentence(f"{name} is in the {found[0]} corner")
    sides = rng.choice([("left", "right"), ("top", "bottom")])
    share = place(view, one)[sides[0] == "top"]
    if abs(share - 0.5) < 0.1:
        return None
    question = worded(rng, f"in the {sides[0]} or the {sides[1]} half", name)
    return question, sentence(f"{name} is in the {sides[share > 0.5]} half")


def size(rng: random.Random, view: View) -> Asked:
    """What is the largest or the smallest, or the larger of two."""
    if rng.random() < 0.6:
        word = rng.choice(["largest", "biggest", "smallest"])
        thing = by_size(view, word)
        return (worded(rng, "the largest", word), sentence(a(thing.name))) if thing else None
    one, other = rng.choice(view.things), rng.choice(view.things)
    small, large = sorted((one, other), key=lambda t: t.radius)
    if not (alone(view, one) and alone(view, other)) or not is_larger(large, small):
        return None
    word = rng.choice(["larger", "bigger", "smaller"])
    told = {id(t): called(rng, view, t) for t in (one, other)}
    question = worded(rng, "larger of two", word, told[id(one)], told[id(other)])
    return question, f"The {told[id(small if word == 'smaller' else large)]} is {word}."


def which(rng: random.Random, view: View) -> Asked:
    """All that lies on one side of a thing."""
    one, way = rng.choice(view.things), rng.choice(list(WAYS))
    found = [t for t in others(view, one) if WAYS[way](t, one)]
    across = way in ("left of", "right of")
    if len(found) > 3 or not alone(view, one) or in_doubt(view, one, across, others(view, one)):
        return None
    question = worded(rng, "what lies that way", worded(rng, way), one.name)
    return question, sentence(listed([a(t.name) for t in found])) if found else "Nothing."


def next_one(rng: random.Random, view: View) -> Asked:
    """The neighbour to the left or to the right, which is the nearest there, too, and more beside it than
    above or below."""
    one, way = rng.choice(view.things), rng.choice(["left", "right"])
    found = [t for t in others(view, one) if WAYS[f"{way} of"](t, one)]
    found.sort(key=lambda t: abs(t.x - one.x))
    if not alone(view, one) or in_doubt(view, one, True, others(view, one)):
        return None
    question = worded(rng, "the next that way", way, one.name)
    if not found:
        return (question, "Nothing.") if rng.random() < 0.27 else None  # else most would have none
    is_nearest = found[0] is min(found, key=lambda t: math.hypot(t.x - one.x, t.y - one.y))
    is_beside = abs(found[0].y - one.y) < abs(found[0].x - one.x)
    if not is_nearest or not is_beside or in_doubt(view, found[0], True, found[1:]):
        return None
    return question, sentence(a(found[0].name))


def closest(rng: random.Random, view: View) -> Asked:
    """By the way between the middles, and by that between the edges."""
    one = rng.choice(view.things)
    if not alone(view, one) or len(view.things) < 3:
        return None
    away = {id(t): math.hypot(t.x - one.x, t.y - one.y) for t in others(view, one)}
    first, second, *_ = sorted(others(view, one), key=lambda t: away[id(t)])
    by_edges = min(others(view, one), key=lambda t: away[id(t)] - t.radius)
    if away[id(second)] < IS_LARGER * away[id(first)] or by_edges is not first:
        return None
    return worded(rng, "the closest", one.name), sentence(a(first.name))


def between(rng: random.Random, view: View) -> Asked:
    """On which side of another one lies."""
    one, other, way = rng.choice(view.things), rng.choice(view.things), rng.choice(list(WAYS))
    across = way in ("left of", "right of")
    if not (alone(view, one) and alone(view, other)) or in_doubt(view, one, across, [other]):
        return None  # also where both are one
    its_name, other_name = called(rng, view, one), called(rng, view, other)
    # where they are first, for the reason that counts come first: from the figures the verdict follows
    here, there = (round(100 * place(view, t)[0 if across else 1]) for t in (one, other))
    where = places("left" if across else "top", its_name, here, other_name, there)
    if rng.random() < 0.5:
        question = worded(rng, "does it lie that way", its_name, other_name, worded(rng, way))
        return question, f"{where} {yes_or_no(WAYS[way](one, other))}."
    answer = next(w for w in list(WAYS)[0 if across else 2 :] if WAYS[w](one, other))
    question = worded(rng, "left or right of" if across else "above or below", its_name, other_name)
    return question, f"{where} So the {its_name} is {answer} the {other_name}."


KINDS: dict[Callable[[random.Random, View], Asked], float] = {  # and how often each is asked
    count: 3, total: 1, exists: 1.5, more: 1.5, colour: 3, shape: 1.5, colours: 2, end: 3, corner: 2, size: 2,
    which: 2, between: 10,
    variety: 1, two_colours: 1, same: 2, both_ends: 1, in_order: 2, look_of_place: 2, in_which: 2,
    next_one: 1, closest: 2,
}  # fmt: skip
