"""What is asked of a picture of coloured shapes in one line, and its answer, where that is clear.

Each kind of question is a function, which answers None if what is there would leave the answer in doubt.

What follows from several things (a number, a place in a row, what is nearest, yes or no) is said behind them:
"Hearts: red, blue. There are 2 hearts." A verdict before them would be all of that in one token. The last
sentence is the answer to the question. Lists have no "and": whether another follows is asked behind each.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise

from draw import Thing
from sample import View, a, listed, places, plural, sentence, times, yes_or_no
from wordings import worded
from words import COLOURS, SHAPES

WAYS = {  # which of two coordinates, and whether the first is less
    "left of": lambda one, other: one.x < other.x,
    "right of": lambda one, other: one.x > other.x,
    "above": lambda one, other: one.y < other.y,
    "below": lambda one, other: one.y > other.y,
}
ORDERS = {  # by the end where they begin
    "left": "from left to right", "right": "from right to left",
    "top": "from top to bottom", "bottom": "from bottom to top",
}  # fmt: skip
ENDS = list(ORDERS)
CORNERS = {  # the sides that meet there: 0 or 1 across, 0 or 1 down
    "top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1),
}  # fmt: skip
ORDINALS = ["second", "third", "fourth"]
IS_LARGER = 1.35  # times the radius, or the distance: less is not asked about
IS_CLOSER = 1.15  # times as near to a corner
APART = 2  # hundredths, of sizes and distances: of those that differ by less neither is said to be more
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


def along(end: str) -> tuple[bool, bool]:
    """Is it an end of the width, not of the height; and is it the one where that is greatest?"""
    return end in ("left", "right"), end in ("right", "bottom")


def in_row(view: View, end: str) -> list[Thing]:
    """All, the first from that end first."""
    across, last = along(end)
    return sorted(view.things, key=lambda t: t.x if across else t.y, reverse=last)


def is_clear(view: View, end: str, things: list[Thing]) -> bool:
    """Is none of a row at about the place of the next?"""
    across, _ = along(end)
    return not any(in_doubt(view, one, across, [other]) for one, other in pairwise(things))


def row_told(end: str, things: list[Thing], known: Thing | None = None) -> str:
    """The evidence of what is said about their order; one of them the question has named."""
    named = [f"the {t.name}" if t is known else a(t.name) for t in things]
    return sentence(f"{ORDERS[end]}: {', '.join(named)}")


def from_end(view: View, end: str, number: int = 0) -> Thing | None:
    """The first thing from there, or one that comes later; None if there is none or that is unclear."""
    across, last = along(end)
    thing = in_row(view, end)[number] if number < len(view.things) else None
    if not thing or in_doubt(view, thing, across, others(view, thing)):
        return None
    outer = {id(t): t.box()[("left", "top", "right", "bottom").index(end)] for t in view.things}
    if number == 0 and outer[id(thing)] != (max if last else min)(outer.values()):
        return None  # a larger one lies nearer to the edge
    return thing


def on_side(view: View, end: str) -> list[Thing]:
    """All that lies in that half."""
    across, last = along(end)
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


def away_from(thing: Thing, where: str, view: View) -> tuple[float, float]:
    """How far from a corner, or from the middle, its middle is, as shares of the width and the height."""
    x, y = place(view, thing)
    right, down = CORNERS.get(where, (0.5, 0.5))
    return abs(x - right), abs(y - down)


def is_near(thing: Thing, where: str, view: View, reach: float) -> bool:
    return max(away_from(thing, where, view)) < reach


def nearest_to(view: View, where: str) -> Thing | None:
    """To a corner or to the middle, by either way to measure; None if that is unclear."""
    nearest = []
    for measure in (max, math.hypot):
        away = {id(t): measure(*away_from(t, where, view)) for t in view.things}
        first, *rest = sorted(view.things, key=lambda t: away[id(t)])
        if rest and away[id(rest[0])] < IS_CLOSER * away[id(first)]:
            return None
        nearest.append(first)
    return nearest[0] if nearest[0] is nearest[1] else None


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


def extent(view: View, thing: Thing) -> int:
    """Its width or height, the larger, in hundredths of the picture's shorter side."""
    assert view.picture
    left, top, right, bottom = thing.box()
    return round(100 * max(right - left, bottom - top) / min(view.picture.size))


def distance(view: View, one: Thing, other: Thing) -> int:
    """Between their middles, in hundredths of the diagonal."""
    assert view.picture
    return round(100 * math.hypot(one.x - other.x, one.y - other.y) / math.hypot(*view.picture.size))


def figures(what: str, of: list[tuple[str, int]]) -> str:
    """Of two digits, as in `sample.places`."""
    return f"{what}: {', '.join(f'{name} {figure:02}%' for name, figure in of)}."


def those(what: str, found: list[str]) -> str:
    """The evidence of a number: each that counts, from left to right."""
    return f"{what.capitalize()}: {', '.join(found) or 'none'}."


# ---- how many, and whether there are any


def count(rng: random.Random, view: View) -> Asked:
    """Of a shape, of a colour, or of both."""
    one = rng.choice(view.things)
    kind, shape, colour = rng.random(), one.shape, one.colour
    if rng.random() < 0.25:  # perhaps there is none
        shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    its_colours = [t.colour for t in view.things if t.shape == shape]
    seen = those(f"{shape}s", its_colours)
    if kind < 0.5:
        question = worded(rng, "how many of a kind", f"{shape}s")
        return question, f"{seen} {times(len(its_colours), shape)}"
    if kind < 0.8:
        question = worded(rng, "how many of a kind", of_kind(rng, colour))
        if rng.random() < 0.5:
            question = worded(rng, "how many of a colour", colour)
        its_shapes = [t.shape for t in view.things if t.colour == colour]
        seen = those(f"{colour} objects", its_shapes)
        return question, f"{seen} {times(len(its_shapes), f'{colour} object')}"
    name = f"{colour} {shape}"
    question = worded(rng, "how many of a kind", f"{name}s")
    return question, f"{seen} {times(its_colours.count(colour), name)}"


def total(rng: random.Random, view: View) -> Asked:
    return worded(rng, "how many at all"), times(len(view.things), "object")


def variety(rng: random.Random, view: View) -> Asked:
    """How many colours, or how many shapes, of which each counts once: all, then each once, then how many."""
    what = rng.choice(["colour", "shape"])
    question = worded(rng, "how many colours" if what == "colour" else "how many different shapes")
    found = [getattr(t, what) for t in view.things]
    once = list(dict.fromkeys(found))
    number = times(len(once), "different shape" if what == "shape" and len(once) > 1 else what)
    return question, f"{those(f'{what}s', found)} {those('each once', once)} {number}"


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
    found = [[t.colour for t in view.things if t.shape == shape] for shape in (first, second)]
    m, n = map(len, found)
    seen = f"{those(f'{first}s', found[0])} {those(f'{second}s', found[1])}"
    counts = f"{seen} {m} {plural(m, first)} and {n} {plural(n, second)}."
    if rng.random() < 0.35:
        return worded(rng, "how many of each", f"{first}s", f"{second}s"), counts
    verdict = "No, as many" if m == n else yes_or_no(m > n)
    return worded(rng, "are there more", f"{first}s", f"{second}s"), f"{counts} {verdict}."


# ---- colour and shape


def judged(found: bool, told: str, of_place: bool) -> str:
    """Yes or no, and what is so: that first if it has to be found by its place, not by its name."""
    return f"The {told}. {yes_or_no(found)}." if of_place else f"{yes_or_no(found)}, the {told}."


def its_colour(rng: random.Random, asked: str, told: str, colour: str, of_place: bool = False) -> Asked:
    """Of what is called so in the question and in the answer; or whether it is of one."""
    seen = f"{told} is {colour}"
    if rng.random() < 0.7:
        return worded(rng, "what colour is it", asked), f"The {seen}."
    perhaps = colour if rng.random() < 0.5 else rng.choice(list(COLOURS))
    question = worded(rng, "is it of this colour", asked, perhaps)
    return question, judged(perhaps == colour, seen, of_place)


def its_shape(rng: random.Random, asked: str, told: str, shape: str, name: str = "") -> Asked:
    """Of what has to be found by its place the whole name is told: "Which shape is the one at the top?" may
    want both."""
    seen = f"{told} is {a(name or shape)}"
    if rng.random() < 0.7:
        return worded(rng, "what shape is it", asked), f"The {seen}."
    perhaps = shape if rng.random() < 0.5 else rng.choice(SHAPES)
    question = worded(rng, "is it of this shape", asked, a(perhaps))
    return question, judged(perhaps == shape, seen, bool(name))


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
    """Whether all are of one colour, or of one shape."""
    what = rng.choice(["colour", "shape"])
    found = [getattr(t, what) for t in view.things]
    alike = len({*found}) == 1
    if len(found) == 1 or (not alike and rng.random() < 0.75):  # mostly they are not
        return None
    seen = those(f"{what}s", found)
    if rng.random() < 0.6:
        return worded(rng, f"all of one {what}"), f"{seen} {yes_or_no(alike)}."
    perhaps = rng.choice(found)
    question = worded(rng, f"all of this {what}", perhaps if what == "colour" else f"{perhaps}s")
    return question, f"{seen} {yes_or_no(alike)}."


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
    row = in_row(view, where)[: number + 1]
    if not (thing := from_end(view, where, number)) or not is_clear(view, where, row):
        return None
    ordinal = ORDINALS[number - 1]
    what = worded(rng, "the one at a number", ordinal, worded(rng, "thing"), where)
    return worded(rng, "what is the one", what), f"{row_told(where, row)} The {ordinal} is {a(thing.name)}."


def corner(rng: random.Random, view: View) -> Asked:
    where = rng.choice([*CORNERS, "middle"])
    if (found := at_spot(view, where)) is None or (not found and rng.random() < 0.4):  # most have none
        return None
    if not (near := nearest_to(view, where)):
        return None
    across, down = (round(100 * share) for share in away_from(near, where, view))
    seen = f"Nearest: {a(near.name)}, away {across:02}% and {down:02}%."
    question = worded(rng, "what is there", worded(rng, f"at the {where}"))
    return question, f"{seen} {sentence(a(found[0].name)) if found else 'Nothing.'}"


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
        return its_colour(rng, asked, told, thing.colour, of_place=True)
    return its_shape(rng, asked, told, thing.shape, thing.name)


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
        if not (thing := by_size(view, word)):
            return None
        seen = [(t.name, extent(view, t)) for t in view.things]
        best, next_best, *_ = sorted((figure for _, figure in seen), reverse=word != "smallest")
        if extent(view, thing) != best or abs(best - next_best) < APART:
            return None
        return worded(rng, "the largest", word), f"{figures('Sizes', seen)} The {word} is {a(thing.name)}."
    one, other = rng.choice(view.things), rng.choice(view.things)
    small, large = sorted((one, other), key=lambda t: t.radius)
    if not (alone(view, one) and alone(view, other)) or not is_larger(large, small):
        return None
    word = rng.choice(["larger", "bigger", "smaller"])
    told = {id(t): called(rng, view, t) for t in (one, other)}
    if extent(view, large) - extent(view, small) < APART:
        return None
    question = worded(rng, "larger of two", word, told[id(one)], told[id(other)])
    seen = figures("Sizes", [(told[id(t)], extent(view, t)) for t in (one, other)])
    return question, f"{seen} The {told[id(small if word == 'smaller' else large)]} is {word}."


def which(rng: random.Random, view: View) -> Asked:
    """All that lies on one side of a thing, from the end of the picture to it."""
    one, (way, end) = rng.choice(view.things), rng.choice(list(zip(WAYS, ENDS, strict=True)))
    row = in_row(view, end)
    found = row[: row.index(one)]
    if len(found) > 3 or not alone(view, one) or not is_clear(view, end, row[: len(found) + 2]):
        return None
    if not found and rng.random() < 0.5:  # else half would have none
        return None
    question = worded(rng, "what lies that way", worded(rng, way), one.name)
    there = listed([a(t.name) for t in found]) if found else "nothing"
    return question, f"{row_told(end, [*found, one], one)} {way.capitalize()} it: {there}."


def next_one(rng: random.Random, view: View) -> Asked:
    """The neighbour to the left or to the right, which is the nearest there, too, and more beside it than
    above or below. All from the other end to it is said first."""
    one, (way, end) = rng.choice(view.things), rng.choice([("left", "right"), ("right", "left")])
    row = in_row(view, end)
    number = row.index(one)
    found = row[number + 1 :]
    if not alone(view, one) or not is_clear(view, end, row[: number + 3]):
        return None
    question = worded(rng, "the next that way", way, one.name)
    seen = row_told(end, row[: number + 2], one)
    if not found:
        return (question, f"{seen} Nothing.") if rng.random() < 0.27 else None  # else most would have none
    is_nearest = found[0] is min(found, key=lambda t: math.hypot(t.x - one.x, t.y - one.y))
    is_beside = abs(found[0].y - one.y) < abs(found[0].x - one.x)
    if not is_nearest or not is_beside:
        return None
    return question, f"{seen} The next is {a(found[0].name)}."


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
    if distance(view, one, second) - distance(view, one, first) < APART:
        return None
    seen = figures("Distances", [(t.name, distance(view, one, t)) for t in others(view, one)])
    return worded(rng, "the closest", one.name), f"{seen} The closest is {a(first.name)}."


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
    count: 3, total: 0.7, exists: 1.2, more: 2.5, colour: 2.5, shape: 1.5, colours: 1.5, end: 3, corner: 8,
    size: 4.5, which: 4, between: 8,
    variety: 2, two_colours: 1, same: 7, both_ends: 1, in_order: 3, look_of_place: 2.5, in_which: 1.5,
    next_one: 4.5, closest: 5,
}  # fmt: skip
