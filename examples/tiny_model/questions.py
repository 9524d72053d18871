"""What is asked of a picture of coloured shapes in one line, and its answer, where that is clear.

Each kind of question is a function, which answers None if what is there would leave the answer in doubt.

What follows from several things (a number, a place in a row, what is nearest, yes or no) is said behind them:
"Hearts: red 1, blue 2. There are 2 hearts." A verdict before them would be all of that in one token. The last
sentence is the answer to the question. Lists have no "and": whether another follows is asked behind each.
They are counted as they are told, and end with what is asked about: told in full, and counted or cut
afterwards, a third of the numbers was wrong and a quarter of what lies beside a thing.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

from draw import IS_FARTHER, Thing
from sample import View, a, listed, places, plural, sentence, sign_between, times, yes_or_no
from wordings import worded
from words import COLOURS, NUMBERS, SHAPES

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
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
CORNERS = {  # the sides that meet there: 0 or 1 across, 0 or 1 down
    "top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1),
}  # fmt: skip
ORDINALS = ["second", "third", "fourth", "fifth"]
IS_LARGER = 1.35  # times the radius, or the distance: less is not asked about
IS_CLOSER = 1.15  # times as near to a corner
APART = 3  # hundredths, of sizes and distances: of those that differ by less neither is said to be more

Asked = tuple[str, str] | None  # the question and its answer


def names(things: list[Thing]) -> list[str]:
    return [t.name for t in things]


def with_a(things: list[Thing]) -> list[str]:
    return [a(t.name) for t in things]


def others(view: View, thing: Thing) -> list[Thing]:
    return [t for t in view.things if t is not thing]


def alone(view: View, thing: Thing) -> bool:
    return thing.name not in names(others(view, thing))


def called(rng: random.Random, view: View, thing: Thing) -> str:
    """By its name, or by its shape where no other has it."""
    short = thing.shape not in [t.shape for t in others(view, thing)] and rng.random() < 0.4
    return thing.shape if short else thing.name


def single(view: View, look: str) -> list[Thing]:
    """Those whose colour, or whose shape, no other has."""
    found = [getattr(t, look) for t in view.things]
    return [t for t in view.things if found.count(getattr(t, look)) == 1]


def options(rng: random.Random, right: str, all_of_them: list[str]) -> list[str]:
    """The right one among one or two others, in any order."""
    wrong = rng.sample([one for one in all_of_them if one != right], rng.choice([1, 1, 2]))
    return rng.sample([right, *wrong], 1 + len(wrong))


def either(parts: list[str]) -> str:
    return " or ".join([", ".join(parts[:-1]), parts[-1]])


def looks(view: View, what: str) -> list[str]:
    """The colour, or the shape, of each from left to right."""
    return [getattr(t, what) for t in view.things]


def thing_of(look: str) -> str:
    """What has this colour or this shape."""
    return f"{look} object" if look in COLOURS else look


def those_of(look: str) -> str:
    """All that have it, as one says which are not: red, circles."""
    return look if look in COLOURS else f"{look}s"


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


def row_told(end: str, told: list[str]) -> str:
    """The evidence of what is said about their order."""
    return sentence(f"{ORDERS[end]}: {', '.join(told)}")


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


def away_from(thing: Thing, where: str | Thing, view: View) -> tuple[float, float]:
    """How far its middle is from a corner, the middle or a thing, as shares of the width and the height."""
    x, y = place(view, thing)
    right, down = CORNERS.get(where, (0.5, 0.5)) if isinstance(where, str) else place(view, where)
    return abs(x - right), abs(y - down)


def hundredths(shares: tuple[float, float]) -> tuple[int, int]:
    across, down = shares
    return round(100 * across), round(100 * down)


def both_ways(across: int, down: int) -> str:
    return f"{across:02}% and {down:02}%"


def away_told(view: View, one: Thing, called_one: str, rest: list[tuple[str, Thing]]) -> str:
    """Where a thing and others are, and how far each is from it: the difference of the figures before.

    Without the places a quarter was wrong, most at 15%, 25% or 35%, the most usual ones.
    """
    x, y = hundredths(place(view, one))
    found = []
    for name, thing in rest:
        across, down = hundredths(place(view, thing))
        found.append(f"{name} at {both_ways(across, down)}: {both_ways(abs(across - x), abs(down - y))}")
    return f"From the left and the top, the {called_one} is at {both_ways(x, y)}. {those('away', found)}"


def nearest_told(near: Thing, where: str, view: View) -> str:
    return f"Nearest: {a(near.name)}, away {both_ways(*hundredths(away_from(near, where, view)))}."


def is_near(thing: Thing, where: str, view: View, reach: float) -> bool:
    return max(away_from(thing, where, view)) < reach


def nearest_to(view: View, where: str | Thing, things: list[Thing], farthest: bool = False) -> Thing | None:
    """Of these, to a corner, the middle or a thing, by either way to measure; None if that is unclear."""
    found = []
    for measure in (max, math.hypot):
        away = {id(t): measure(*away_from(t, where, view)) for t in things}
        row = sorted(things, key=lambda t: away[id(t)], reverse=farthest)
        near, *more = sorted(away[id(t)] for t in row[:2])
        if more and more[0] < max(IS_CLOSER * near, near + APART / 100):
            return None
        found.append(row[0])
    return found[0] if found[0] is found[1] else None


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


def are_apart(view: View, small: Thing, large: Thing) -> bool:
    """Is one clearly larger, in figures too?"""
    return is_larger(large, small) and extent(view, large) - extent(view, small) >= APART


def extent(view: View, thing: Thing) -> int:
    """Its width or height, the larger, in hundredths of the picture's shorter side."""
    assert view.picture
    left, top, right, bottom = thing.box()
    return round(100 * max(right - left, bottom - top) / min(view.picture.size))


def figures(what: str, of: list[tuple[str, int]]) -> str:
    """Of two digits, as in `sample.places`."""
    return f"{what}: {', '.join(f'{name} {figure:02}%' for name, figure in of)}."


def those(what: str, found: list[str]) -> str:
    """The evidence of what is said behind it, from left to right."""
    return f"{what.capitalize()}: {', '.join(found) or 'none'}."


def numbered(found: list[str], counts: Callable[[int], bool] = lambda i: True) -> list[str]:
    """Behind each that counts, how many do up to it: red 1, blue, red 2."""
    return [f"{one} {sum(map(counts, range(i + 1)))}" if counts(i) else one for i, one in enumerate(found)]


def kinds(view: View, what: str) -> list[str]:
    """Each colour or shape once."""
    return list(dict.fromkeys(looks(view, what)))


def kinds_told(view: View, what: str) -> str:
    """The colours or shapes of all, with a number behind each that is new."""
    found = looks(view, what)
    return those(f"{what}s", numbered(found, lambda i: found[i] not in found[:i]))


def tally(view: View, what: str, to: int | None = None) -> tuple[str, dict[str, int]]:
    """Colours or shapes of all, or of the first so many, behind each how many of it there are up to it; and
    how many of each."""
    found = looks(view, what)[:to]
    seen = [f"{one} {found[: i + 1].count(one)}" for i, one in enumerate(found)]
    return those(f"{what}s", seen), {one: found.count(one) for one in found}


def up_to(are_so: list[bool]) -> int | None:
    """How many there are up to the first that is so, if any is: the last that is told decides."""
    return are_so.index(True) + 1 if True in are_so else None


def counted(what: str, counts: dict[str, int]) -> str:
    told = [f"{n} {one if what == 'colour' else plural(n, one)}" for one, n in counts.items()]
    return those("counted", told)


# ---- how many, and whether there are any


def count(rng: random.Random, view: View) -> Asked:
    """Of a shape, of a colour, or of both."""
    one = rng.choice(view.things)
    kind, shape, colour = rng.random(), one.shape, one.colour
    if rng.random() < 0.25:  # perhaps there is none
        shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    its_colours = [t.colour for t in view.things if t.shape == shape]
    if kind < 0.5:
        question = worded(rng, "how many of a kind", f"{shape}s")
        return question, f"{those(f'{shape}s', numbered(its_colours))} {times(len(its_colours), shape)}"
    if kind < 0.8:
        question = worded(rng, "how many of a kind", of_kind(rng, colour))
        if rng.random() < 0.5:
            question = worded(rng, "how many of a colour", colour)
        its_shapes = [t.shape for t in view.things if t.colour == colour]
        seen = those(f"{colour} objects", numbered(its_shapes))
        return question, f"{seen} {times(len(its_shapes), f'{colour} object')}"
    name = f"{colour} {shape}"
    question = worded(rng, "how many of a kind", f"{name}s")
    if rng.random() < 0.3:
        question = worded(rng, "how many of a shape have a colour", f"{shape}s", colour)
    seen = those(f"{shape}s", numbered(its_colours, lambda i: its_colours[i] == colour))
    return question, f"{seen} {times(its_colours.count(colour), name)}"


def total(rng: random.Random, view: View) -> Asked:
    return worded(rng, "how many at all"), times(len(view.things), "object")


def variety(rng: random.Random, view: View) -> Asked:
    """How many colours, or how many shapes, of which each counts once."""
    what = rng.choice(["colour", "shape"])
    question = worded(rng, "how many colours" if what == "colour" else "how many different shapes")
    n = len(kinds(view, what))
    number = times(n, "different shape" if what == "shape" and n > 1 else what)
    return question, f"{kinds_told(view, what)} {number}"


def of_each(rng: random.Random, view: View) -> Asked:
    """How many of each colour or shape, which is the most common, or which come once."""
    what, kind = rng.choice(["colour", "shape"]), rng.random()
    seen, counts = tally(view, what)
    if kind < 0.35:
        return worded(rng, f"how many of each {what}"), f"{seen} {counted(what, counts)}"
    if kind < 0.7:
        most = [one for one, n in counts.items() if n == max(counts.values())]
        if len(most) > 1 or len(counts) == 1:
            return None
        article = "the " if what == "shape" else ""
        return worded(rng, f"the most common {what}"), f"{seen} The most common {what} is {article}{most[0]}."
    once = [one for one, n in counts.items() if n == 1]
    if not once or len(once) == len(view.things):
        return None
    return worded(rng, f"which {what} comes once"), f"{seen} {counted(what, counts)} {those('once', once)}"


def unlike(rng: random.Random, view: View) -> Asked:
    """How many, or which, are not of a colour or of a shape."""
    what = rng.choice(["colour", "shape"])
    found = looks(view, what)
    look = rng.choice(found)
    if rng.random() < 0.4:
        rest = names([t for t in view.things if getattr(t, what) != look])
        return worded(rng, "which are not so", those_of(look)), those(f"not {those_of(look)}", rest)
    seen = those(f"{what}s", numbered(found, lambda i: found[i] != look))
    question = worded(rng, "how many are not so", those_of(look))
    return question, f"{seen} {times(len(found) - found.count(look), 'other object')}"


AMOUNTS: dict[str, Callable[[int, int], bool]] = {  # how many there are, and how many are said to be
    "so many": lambda n, said: n == said,
    "exactly so many": lambda n, said: n == said,
    "at least so many": lambda n, said: n >= said,
    "more than so many": lambda n, said: n > said,
    "fewer than so many": lambda n, said: n < said,
}
NOT_OF_ONE = ("so many", "fewer than so many")


def that_many(rng: random.Random, view: View) -> Asked:
    """Whether there are so many of a shape, of a colour or at all.

    Without the two numbers beside one another it said "There are 7 objects. Yes." where six was asked.
    """
    look = rng.choice([*looks(view, "colour"), *looks(view, "shape")])
    name, found = thing_of(look), [t for t in view.things if look in (t.colour, t.shape)]
    seen = those(f"{name}s", numbered([t.shape if look in COLOURS else t.colour for t in found])) + " "
    if rng.random() < 0.3:
        name, found, seen = "object", view.things, ""
    amount, n = rng.choice(list(AMOUNTS)), len(found)
    said = n if rng.random() < 0.5 else max(1, n + rng.choice([-2, -1, 1, 2]))
    if (said == 1 and amount in NOT_OF_ONE) or (said < n and amount == "so many"):  # three are two, too
        return None
    number = NUMBERS[said - 1] if rng.random() < 0.6 else str(said)
    asked = [f"{amount}: one", name] if said == 1 else [amount, number, f"{name}s"]
    compared = f"{times(n, name)[:-1]}: {n} {sign_between(n, said)} {said}."
    return worded(rng, *asked), f"{seen}{compared} {yes_or_no(AMOUNTS[amount](n, said))}."


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
    what = thing_of(wanted)
    if wanted in COLOURS and wanted != view.truth and rng.random() < 0.5:  # else what is behind has it
        question = worded(rng, "is anything of a colour", wanted)
    elif rng.random() < 0.35:
        question = worded(rng, "are there any", of_kind(rng, wanted))
    else:
        question = worded(rng, "is there one", a(what))
    return question, f"{yes_or_no(found)}, there is {a(what) if found else f'no {what}'}."


def which_of_these(rng: random.Random, view: View) -> Asked:
    """Which one of several is there, or which one is not."""
    kind = rng.choice(["colour", "shape", "name"])
    there = list(dict.fromkeys(getattr(t, kind) for t in view.things))
    every = {"colour": list(COLOURS), "shape": SHAPES, "name": [f"{c} {s}" for c in COLOURS for s in SHAPES]}
    missing = [one for one in every[kind] if one not in there]
    is_there = rng.random() < 0.5
    some, rest = (there, missing) if is_there else (missing, there)
    if not some or not rest:
        return None
    one = rng.choice(some)
    number = rng.choice([1, 1, 2, 3] if is_there else [2, 2, 3])
    if number > len(rest):
        return None
    all_of_them = [one, *rng.sample(rest, number)]
    told = either([a(thing_of(each)) for each in rng.sample(all_of_them, len(all_of_them))])
    if is_there:
        return worded(rng, "which of these is there", told), f"There is {a(thing_of(one))}."
    return worded(rng, "which of these is missing", told), f"There is no {thing_of(one)}."


def what_else(rng: random.Random, view: View) -> Asked:
    """What there is beside one, and whether there is anything."""
    one = rng.choice(view.things)
    if not alone(view, one) or (len(view.things) == 1 and rng.random() < 0.6):
        return None
    seen, name = those("others", names(others(view, one))), called(rng, view, one)
    if rng.random() < 0.6:
        return worded(rng, "what else", name), seen
    return worded(rng, "is there anything else", name), f"{seen} {yes_or_no(len(view.things) > 1)}."


def more(rng: random.Random, view: View) -> Asked:
    """Whether there are more of one shape or colour than of another, of which, by how many; or how many of
    each."""
    what = "shape" if rng.random() < 0.65 else "colour"
    first, second = rng.choice(looks(view, what)), rng.choice(looks(view, what))
    if rng.random() < 0.3:
        first, second = rng.sample(SHAPES if what == "shape" else list(COLOURS), 2)
    if first == second:
        return None
    both, other = (first, second), "colour" if what == "shape" else "shape"
    told, asked = [thing_of(look) for look in both], [of_kind(rng, look) for look in both]
    found = [[getattr(t, other) for t in view.things if getattr(t, what) == look] for look in both]
    m, n = map(len, found)
    seen = [those(f"{name}s", numbered(of_it)) for name, of_it in zip(told, found, strict=True)]
    counts, kind = f"{' '.join(seen)} {m} {plural(m, told[0])} and {n} {plural(n, told[1])}", rng.random()
    if kind < 0.25:
        return worded(rng, "how many of each", *asked), f"{counts}."
    if kind < 0.5 and m > n and rng.random() < 0.4:
        return worded(rng, "how many more", *asked), f"{counts}. {times(m - n, f'more {told[0]}')}"
    counts = f"{counts}: {m} {sign_between(m, n)} {n}."
    if kind < 0.5 and m != n:
        return worded(rng, "which are more", *asked), f"{counts} There are more {told[m < n]}s."
    if kind < 0.7:
        return worded(rng, "are there as many", *asked), f"{counts} {yes_or_no(m == n)}."
    return worded(rng, "are there more", *asked), f"{counts} {yes_or_no(m > n)}."


# ---- colour and shape


def judged(found: bool, told: str, of_place: bool) -> str:
    """Yes or no, and what is so: that first if it has to be found by its place, not by its name."""
    return f"The {told}. {yes_or_no(found)}." if of_place else f"{yes_or_no(found)}, the {told}."


def its_colour(rng: random.Random, asked: str, told: str, colour: str, of_place: bool = False) -> Asked:
    """Of what is called so in the question and in the answer; or whether it is of one."""
    seen, kind = f"{told} is {colour}", rng.random()
    if kind < 0.55:
        return worded(rng, "what colour is it", asked), f"The {seen}."
    if kind < 0.7:
        parts = either(options(rng, colour, list(COLOURS)))
        return worded(rng, "which of these colours is it", asked, parts), f"The {seen}."
    perhaps = colour if rng.random() < 0.5 else rng.choice(list(COLOURS))
    if kind < 0.8:
        return worded(rng, "true or false", f"{asked} is {perhaps}"), f"The {seen}. {perhaps == colour}."
    question = worded(rng, "is it of this colour", asked, perhaps)
    return question, judged(perhaps == colour, seen, of_place)


def its_shape(rng: random.Random, asked: str, told: str, shape: str, name: str = "") -> Asked:
    """Of what has to be found by its place the whole name is told: "Which shape is the one at the top?" may
    want both."""
    seen, kind = f"{told} is {a(name or shape)}", rng.random()
    if kind < 0.55:
        return worded(rng, "what shape is it", asked), f"The {seen}."
    if kind < 0.7:
        parts = either([a(one) for one in options(rng, shape, SHAPES)])
        return worded(rng, "which of these shapes is it", asked, parts), f"The {seen}."
    perhaps = shape if rng.random() < 0.5 else rng.choice(SHAPES)
    if kind < 0.8:
        return worded(rng, "true or false", f"{asked} is {a(perhaps)}"), f"The {seen}. {perhaps == shape}."
    question = worded(rng, "is it of this shape", asked, a(perhaps))
    return question, judged(perhaps == shape, seen, bool(name))


def its_look(rng: random.Random, asked: str, told: str, thing: Thing) -> tuple[str, str]:
    """Colour or shape of what is called so in the question and in the answer."""
    if rng.random() < 0.6:
        return worded(rng, "what colour is it", asked), f"The {told} is {thing.colour}."
    return worded(rng, "what shape is it", asked), f"The {told} is {a(thing.name)}."


def colour(rng: random.Random, view: View) -> Asked:
    """Of a shape that is there once."""
    if not (found := single(view, "shape")):
        return None
    one = rng.choice(found)
    return its_colour(rng, f"the {one.shape}", one.shape, one.colour)


def shape(rng: random.Random, view: View) -> Asked:
    """Of what has a colour that is there once."""
    if not (found := single(view, "colour")):
        return None
    one = rng.choice(found)
    told = f"{one.colour} object"
    if rng.random() < 0.45:
        return worded(rng, "which one has a colour", one.colour), f"The {told} is {a(one.shape)}."
    return its_shape(rng, f"the {one.colour} {worded(rng, 'thing')}", told, one.shape)


def the_only_one(rng: random.Random, view: View) -> Asked:
    """Colour or shape of what is there alone: "it" says enough."""
    if len(view.things) > 1:
        return None
    (one,) = view.things
    asked = worded(rng, "what is alone")
    if rng.random() < 0.5:
        return its_colour(rng, asked, one.shape, one.colour)
    return its_shape(rng, asked, f"{one.colour} object", one.shape)


CORNERS_OF = {"triangle": 3, "square": 4, "diamond": 4}


def corners_of(rng: random.Random, view: View) -> Asked:
    """How many corners, or sides, what has a colour has."""
    found = [t for t in single(view, "colour") if t.shape in CORNERS_OF]
    if not found:
        return None
    one, what = rng.choice(found), rng.choice(["corners", "sides"])
    asked = f"the {one.colour} {worded(rng, 'thing')}"
    if len(view.things) == 1 and rng.random() < 0.5:
        asked = worded(rng, "what is alone")
    told = f"The {one.colour} object is {a(one.shape)}. It has {CORNERS_OF[one.shape]} {what}."
    return worded(rng, "how many corners", asked, what), told


def background(rng: random.Random, view: View) -> Asked:
    if not view.truth or (view.truth == "white" and rng.random() < 0.6):  # most are white
        return None
    if rng.random() < 0.5:
        return worded(rng, "what colour is the background"), f"The background is {view.truth}."
    return its_colour(rng, "the background", "background", view.truth)


def two_colours(rng: random.Random, view: View) -> Asked:
    """Of two shapes that are there once, and whether they are the same."""
    once = single(view, "shape")
    if len(once) < 2:
        return None
    one, other = rng.sample(once, 2)
    told, asked = f"The {one.shape} is {one.colour}. The {other.shape} is {other.colour}.", rng.random()
    if asked < 0.5:
        return worded(rng, "colours of two", f"the {one.shape}", f"the {other.shape}"), told
    question = worded(rng, "two of one colour", f"the {one.shape}", f"the {other.shape}")
    return question, f"{told} {yes_or_no(one.colour == other.colour)}."


def alike(rng: random.Random, view: View) -> Asked:
    """All of one shape, or of one colour: what they are, and whether they all are of the other."""
    what, other = rng.choice([("shape", "colour"), ("colour", "shape")])
    look = rng.choice(looks(view, what))
    found = [getattr(t, other) for t in view.things if getattr(t, what) == look]
    name, seen = of_kind(rng, look), those(f"{thing_of(look)}s", found)
    if rng.random() < 0.5:
        if what == "colour":
            return worded(rng, "which have a colour", look), seen
        return (worded(rng, "what colours they have", name), seen) if len(found) > 1 else None
    if len(found) == 1:
        return None
    perhaps = rng.choice(found)
    question = worded(rng, "are all of them so", name, perhaps if other == "colour" else f"{perhaps}s")
    to = up_to([one != perhaps for one in found])
    return question, f"{those(f'{thing_of(look)}s', found[:to])} {yes_or_no(not to)}."


def colours(rng: random.Random, view: View) -> Asked:
    told = sentence(listed(kinds(view, "colour")))
    return worded(rng, "which colours"), f"{kinds_told(view, 'colour')} {told}"


def odd_one(view: View) -> tuple[str, Thing] | None:
    """What it differs in, and the one thing that differs from all others, which are alike in that."""
    found = []
    for what in ("colour", "shape"):
        counts = Counter(looks(view, what))
        if len(counts) == 2 and len(view.things) > 2 and min(counts.values()) == 1:
            found += [(what, t) for t in view.things if counts[getattr(t, what)] == 1]
        elif len(counts) > 1:
            return None
    return found[0] if found and found[0][1] is found[-1][1] else None


def odd_one_out(rng: random.Random, view: View) -> Asked:
    if not (found := odd_one(view)):
        return None
    what, one = found
    return worded(rng, "the odd one out"), f"{tally(view, what)[0]} The odd one out is {a(one.name)}."


def in_common(rng: random.Random, view: View) -> Asked:
    """What all are: both looks are told to the first that is another."""
    if len(view.things) < 2:
        return None
    seen, shared = [], []
    for what in ("colour", "shape"):
        found = looks(view, what)
        other = up_to([one != found[0] for one in found])
        seen.append(tally(view, what, other)[0])
        shared += [found[0]] if other is None else []
    if not shared and rng.random() < 0.7:  # most have nothing
        return None
    return worded(rng, "what all have in common"), f"{' '.join(seen)} {those('in common', shared)}"


def same(rng: random.Random, view: View) -> Asked:
    """Whether all are of one colour, or of one shape, or each of its own: told to the first that decides."""
    what = rng.choice(["colour", "shape"])
    found = looks(view, what)
    if len(found) == 1 or (len({*found}) > 1 and rng.random() < 0.6):  # mostly they are not
        return None
    kind = rng.random()
    if kind < 0.3:
        again = up_to([one in found[:i] for i, one in enumerate(found)])
        seen, asked = tally(view, what, again)[0], "any two of one" if kind < 0.15 else "each of its own"
        return worded(rng, f"{asked} {what}"), f"{seen} {yes_or_no((kind < 0.15) == bool(again))}."
    perhaps = found[0] if kind < 0.7 else rng.choice(found)
    other = up_to([one != perhaps for one in found])
    question = worded(rng, f"all of one {what}")
    if kind > 0.7:
        question = worded(rng, f"all of this {what}", perhaps if what == "colour" else f"{perhaps}s")
    return question, f"{tally(view, what, other)[0]} {yes_or_no(not other)}."


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
    where, number = rng.choice(ENDS), rng.choices([1, 2, 3, 4], [5, 3, 2, 1])[0]
    row = in_row(view, where)[: number + 1]
    if not (thing := from_end(view, where, number)) or not is_clear(view, where, row):
        return None
    ordinal = ORDINALS[number - 1]
    what = worded(rng, "the one at a number", ordinal, worded(rng, "thing"), where)
    kind = rng.random()
    if kind < 0.2:
        question, told = its_look(rng, what, ordinal, thing)
        return question, f"{row_told(where, with_a(row))} {told}"
    if kind < 0.5:
        question = worded(rng, "what is the one", what)
    elif number == 1 and rng.random() < 0.2:
        order, row = OPPOSITE[where], in_row(view, OPPOSITE[where])
        if not is_clear(view, order, row):
            return None
        question = worded(rng, "the last but one", ORDERS[order])
        return question, f"{row_told(order, with_a(row))} The last but one is {a(thing.name)}."
    else:
        asked = rng.choice([("what is at a number", where), ("what is at a number of a row", ORDERS[where])])
        question = worded(rng, asked[0], ordinal, asked[1])
    return question, f"{row_told(where, with_a(row))} The {ordinal} is {a(thing.name)}."


def end_of_kind(rng: random.Random, view: View) -> Asked:
    """The first from an end of those of one shape, or of one colour."""
    what, other = rng.choice([("shape", "colour"), ("colour", "shape")])
    look, where = rng.choice(looks(view, what)), rng.choice(ENDS)
    kind = [t for t in view.things if getattr(t, what) == look]
    first = from_end(View("shapes", view.picture, things=kind), where)
    if len(kind) < 2 or not first:
        return None
    name, found = thing_of(look), getattr(first, other)
    noun = f"{look} {worded(rng, 'thing')}" if look in COLOURS else look
    asked = worded(rng, "the first of a kind", where, noun)
    question = worded(rng, "what colour is it" if what == "shape" else "what shape is it", asked)
    return question, f"The {where}most {name} is {found if other == 'colour' else a(found)}."


def corner(rng: random.Random, view: View) -> Asked:
    where = rng.choice([*CORNERS, "middle"])
    if (found := at_spot(view, where)) is None or (not found and rng.random() < 0.4):  # most have none
        return None
    if not (near := nearest_to(view, where, view.things)):
        return None
    seen, there = nearest_told(near, where, view), worded(rng, f"at the {where}")
    if rng.random() < 0.25:
        return worded(rng, "is anything there", there), f"{seen} {yes_or_no(bool(found))}."
    question = worded(rng, "what is there", there)
    return question, f"{seen} {sentence(a(found[0].name)) if found else 'Nothing.'}"


def each_corner(rng: random.Random, view: View) -> Asked:
    """What lies in each of the four, and which of them are empty."""
    found = {where: at_spot(view, where) for where in CORNERS}
    if None in found.values() or (not any(found.values()) and rng.random() < 0.7):  # else most are empty
        return None
    things = {where: a(there[0].name) if there else "nothing" for where, there in found.items()}
    told = [sentence(f"{where}: {thing}") for where, thing in things.items()]
    if rng.random() < 0.5:
        return worded(rng, "what is in each corner"), " ".join(told)
    empty = [where for where, thing in things.items() if thing == "nothing"]
    return worded(rng, "which corners are empty"), f"{' '.join(told)} {those('empty', empty)}"


def nearest_corner(rng: random.Random, view: View) -> Asked:
    """Which lies nearest to a corner, however far that is."""
    where = rng.choice(list(CORNERS))
    if len(view.things) < 2 or not (near := nearest_to(view, where, view.things)):
        return None
    seen = nearest_told(near, where, view)
    return worded(rng, "the closest to a corner", where), f"{seen} {sentence(a(near.name))}"


def look_of_place(rng: random.Random, view: View) -> Asked:
    """Colour or shape of what lies at an end or in a corner."""
    where = rng.choice([*ENDS, *CORNERS, "middle"])
    if where in ENDS:
        thing, asked, told = from_end(view, where), at_the(rng, view, where), f"{where}most object"
    else:
        thing = next(iter(at_spot(view, where) or []), None)
        asked = f"the {worded(rng, 'thing')} {worded(rng, f'at the {where}')}"
        told = f"object in the {where} corner" if where in CORNERS else "object in the middle"
    if not thing:
        return None
    if rng.random() < 0.7:
        return its_colour(rng, asked, told, thing.colour, of_place=True)
    return its_shape(rng, asked, told, thing.shape, thing.name)


def in_which(rng: random.Random, view: View) -> Asked:
    """In which corner, quarter or half one lies, or whether in this one."""
    one, part = rng.choice(view.things), rng.choice(["corner", "quarter", "half"])
    if not alone(view, one):
        return None
    name, (x, y) = f"the {called(rng, view, one)}", place(view, one)
    if part == "half":
        ends = rng.choice([["left", "right"], ["top", "bottom"]])
        share = x if ends[0] == "left" else y
        if abs(share - 0.5) < 0.1:
            return None
        found, question = ends[share > 0.5], worded(rng, f"in the {ends[0]} or the {ends[1]} half", name)
        told, at = f"{name} is in the {found} half", "in the {} half"
    else:
        ends = list(CORNERS)
        near = [where for where in ends if is_near(one, where, view, 0.35 if part == "corner" else 0.4)]
        if not near:
            return None
        found, question = near[0], worded(rng, f"in which {part}", name)
        told, at = f"{name} is at the {found}", "at the {}"  # not every question says corner or quarter
    if rng.random() < 0.6:
        return question, sentence(told)
    perhaps = found if rng.random() < 0.5 else rng.choice(ends)
    question = worded(rng, "is it in this part", name, f"{perhaps} {part}")
    if perhaps != found:
        told = f"{told}, not {at.format(perhaps)}"
    return question, f"{sentence(told)} {yes_or_no(perhaps == found)}."


def in_half(rng: random.Random, view: View) -> Asked:
    """What, and how much, is in one half, where nothing is in the middle: all from that end to the first that
    is in the other half."""
    where = rng.choice(ENDS)
    across, _ = along(where)
    row = in_row(view, where)
    found = row[: len(on_side(view, where))]
    at = [place(view, t)[0 if across else 1] for t in row]
    if any(abs(share - 0.5) < 0.08 for share in at) or not is_clear(view, where, row):
        return None
    if len(row) < 2 or (not found and rng.random() < 0.5):
        return None
    of = [(t.name, round(100 * share)) for t, share in zip(row, at, strict=True)]
    seen = figures("From the left" if across else "From the top", of[: len(found) + 1])
    there = with_a(found)
    if rng.random() < 0.65:
        told = listed(there) if found else "nothing"
        return worded(rng, "what is in the half", where), f"{seen} In the {where} half: {told}."
    seen = f"{seen} {those(f'in the {where} half', numbered(there))}"
    return worded(rng, "how many are in the half", where), f"{seen} {times(len(found), 'object')}"


def sizes(view: View, things: list[Thing], told: list[str]) -> str:
    return figures("Sizes", [(name, extent(view, t)) for name, t in zip(told, things, strict=True)])


def size(rng: random.Random, view: View) -> Asked:
    """The largest or the smallest, all by their sizes, the larger of two, or whether one is larger."""
    kind = rng.random()
    if kind < 0.5:
        word = rng.choice(["largest", "biggest", "smallest"])
        if not (thing := by_size(view, word)):
            return None
        seen = sizes(view, view.things, names(view.things))
        best, next_best, *_ = sorted((extent(view, t) for t in view.things), reverse=word != "smallest")
        if extent(view, thing) != best or abs(best - next_best) < APART:
            return None
        if rng.random() < 0.25:
            question, told = its_look(rng, f"the {word} {worded(rng, 'thing')}", word, thing)
            return question, f"{seen} {told}"
        return worded(rng, "the largest", word), f"{seen} The {word} is {a(thing.name)}."
    if kind < 0.6:
        row = sorted(view.things, key=lambda t: t.radius)
        if not 2 <= len(row) <= 4 or not all(are_apart(view, one, other) for one, other in pairwise(row)):
            return None
        order = rng.choice(["smallest to largest", "largest to smallest"])
        told = listed([a(t.name) for t in (row if order[0] == "s" else row[::-1])])
        seen = sizes(view, view.things, names(view.things))
        return worded(rng, f"from {order}"), f"{seen} From {order}: {told}."
    one, other = rng.choice(view.things), rng.choice(view.things)
    small, large = sorted((one, other), key=lambda t: t.radius)
    if not (alone(view, one) and alone(view, other)) or not are_apart(view, small, large):
        return None
    word = rng.choice(["larger", "bigger", "smaller"])
    found = small if word == "smaller" else large
    if kind < 0.7 and len(view.things) == 2:
        seen = sizes(view, view.things, names(view.things))
        return worded(rng, "the larger one", word), f"{seen} The {found.name} is {word}."
    told = [called(rng, view, t) for t in (one, other)]
    seen = sizes(view, [one, other], told)
    if kind < 0.8:
        return worded(rng, "is it larger", word, *told), f"{seen} {yes_or_no(found is one)}."
    question = worded(rng, "larger of two", word, *told)
    return question, f"{seen} The {told[found is other]} is {word}."


def which(rng: random.Random, view: View) -> Asked:
    """What lies on one side of a thing, from the end of the picture to it: all, how many, or whether any."""
    one, (way, end) = rng.choice(view.things), rng.choice(list(zip(WAYS, ENDS, strict=True)))
    row, kind = in_row(view, end), rng.random()
    found = row[: row.index(one)]
    if not alone(view, one) or not is_clear(view, end, row):
        return None
    if (kind < 0.7 and len(found) > 3) or (not found and rng.random() < 0.5):  # else half would have none
        return None
    name, there = called(rng, view, one), with_a(found)
    seen = row_told(end, [*there, f"the {one.name}"])
    if kind < 0.6:
        told = listed(there) if found else "nothing"
        question = worded(rng, "what lies that way", worded(rng, way), name)
        return question, f"{seen} {way.capitalize()} it: {told}."
    if kind < 0.7:
        question = worded(rng, "does anything lie that way", worded(rng, way), name)
        return question, f"{seen} {yes_or_no(bool(found))}."
    seen = row_told(end, [*numbered(there), f"the {one.name}"])
    question = worded(rng, "how many lie that way", worded(rng, way), name)
    return question, f"{seen} {times(len(found), 'object')[:-1]} {way} it."


NEXT = {"left": "right", "right": "left", "above": "bottom", "below": "top"}  # and where to begin


def next_one(rng: random.Random, view: View) -> Asked:
    """The neighbour on a side, which is the nearest there, too, and lies more that way than across it."""
    one, (way, end) = rng.choice(view.things), rng.choice(list(NEXT.items()))
    row, (across, _) = in_row(view, end), along(end)
    before, found = row[: row.index(one)], row[row.index(one) + 1 :]
    if not alone(view, one) or not is_clear(view, end, row):
        return None
    name = called(rng, view, one)
    if rng.random() < 0.25:
        question = worded(rng, "the next in order", ORDERS[end], name)
    else:
        question = worded(rng, "the next that way" if across else "the next above or below", way, name)
    seen = row_told(end, [*with_a(before), f"the {one.name}", *with_a(found[:1])])
    if not found:
        return (question, f"{seen} Nothing.") if rng.random() < 0.27 else None  # else most would have none
    is_nearest = found[0] is min(found, key=lambda t: math.hypot(t.x - one.x, t.y - one.y))
    is_beside = (abs(found[0].y - one.y) < abs(found[0].x - one.x)) == across
    if not is_nearest or not is_beside:
        return None
    return question, f"{seen} The next is {a(found[0].name)}."


def by_distance(view: View, one: Thing) -> list[Thing]:
    """The others, the nearest first."""
    return sorted(others(view, one), key=lambda t: math.hypot(t.x - one.x, t.y - one.y))


def is_nearer(one: Thing, near: Thing, other: Thing, ratio: float) -> bool:
    """Is the other at least so many times as far from one?"""
    there, here = (math.hypot(t.x - one.x, t.y - one.y) for t in (other, near))
    return there >= ratio * here


def nearest_thing(view: View, one: Thing) -> Thing | None:
    """By the way between the middles, and by that between the edges; None if that is unclear."""
    rest = by_distance(view, one)
    if not rest:
        return None
    away = [math.hypot(t.x - one.x, t.y - one.y) for t in rest]
    by_edges = min(range(len(rest)), key=lambda i: away[i] - rest[i].radius)
    return None if by_edges or (len(rest) > 1 and away[1] < IS_LARGER * away[0]) else rest[0]


def closest(rng: random.Random, view: View) -> Asked:
    """What is nearest to a thing, farthest from it, or nearer to it of two."""
    one, kind = rng.choice(view.things), rng.random()
    if not alone(view, one) or len(view.things) < 3:
        return None
    rest, name = by_distance(view, one), called(rng, view, one)
    seen = away_told(view, one, name, [(t.name, t) for t in others(view, one)])
    if kind < 0.6:
        if not (first := nearest_thing(view, one)) or nearest_to(view, one, rest) is not first:
            return None
        if rng.random() < 0.2:
            what = f"the {worded(rng, 'thing')} closest to the {name}"
            question, its = its_look(rng, what, "closest", first)
            return question, f"{seen} {its}"
        return worded(rng, "the closest", name), f"{seen} The closest is {a(first.name)}."
    if kind < 0.8:
        last = rest[-1]
        if not is_nearer(one, rest[-2], last, IS_CLOSER) or nearest_to(view, one, rest, True) is not last:
            return None
        return worded(rng, "the farthest", name), f"{seen} The farthest is {a(last.name)}."
    two = rng.sample(rest, 2)
    near, other = sorted(two, key=rest.index)
    if not (alone(view, near) and alone(view, other)) or not is_nearer(one, near, other, IS_LARGER):
        return None
    if nearest_to(view, one, two) is not near:
        return None
    asked = [called(rng, view, t) for t in two]
    seen = away_told(view, one, name, list(zip(asked, two, strict=True)))
    return worded(rng, "closer of two", name, *asked), f"{seen} The {asked[two[1] is near]} is closer."


def lies_between(view: View, middle: Thing, one: Thing, other: Thing) -> bool:
    """Does it lie about on the line from one to the other?"""
    way = math.hypot(other.x - one.x, other.y - one.y)
    off = (other.x - one.x) * (middle.y - one.y) - (other.y - one.y) * (middle.x - one.x)
    return abs(off) / way < max(middle.radius, 0.2 * way)


def where_told(view: View, across: bool, one: Thing, other: Thing, told: list[str]) -> str:
    """The evidence of which comes first: from the figures the verdict follows."""
    here, there = (round(100 * place(view, t)[0 if across else 1]) for t in (one, other))
    return places("left" if across else "top", told[0], here, told[1], there)


def both_told(view: View, one: Thing, other: Thing, told: list[str]) -> str:
    """Along the width and along the height."""
    return " ".join(where_told(view, across, one, other, told) for across in (True, False))


def in_between(rng: random.Random, view: View) -> Asked:
    """The one thing between two others in the row, along the width or the height, where they are farther
    apart: the row is told behind where the two are, which says along which."""
    end = rng.choice(["left", "top"])
    row = in_row(view, end)
    threes = [three for three in zip(row, row[1:], row[2:], strict=False) if is_clear(view, end, [*three])]
    for first, middle, last in rng.sample(threes, len(threes)):
        across, down = away_from(first, last, view)
        is_farther = (across - down if end == "left" else down - across) > 0.1
        if not is_farther or not (alone(view, first) and alone(view, last)):
            continue
        if lies_between(view, middle, first, last):
            two = rng.sample([first, last], 2)
            asked = [called(rng, view, t) for t in two]
            seen = f"{both_told(view, *two, asked)} {row_told(end, with_a([first, middle, last]))}"
            return worded(rng, "what is between", *asked), f"{seen} Between them: {a(middle.name)}."
    return None


FURTHER = {"further left": "left of", "further right": "right of", "higher": "above", "lower": "below"}


def between(rng: random.Random, view: View) -> Asked:
    """On which side of another one lies, or which of the two lies further to a side."""
    one, other, way = rng.choice(view.things), rng.choice(view.things), rng.choice(list(WAYS))
    across, kind = way in ("left of", "right of"), rng.random()
    if not (alone(view, one) and alone(view, other)) or in_doubt(view, one, across, [other]):
        return None  # also where both are one
    told = [called(rng, view, one), called(rng, view, other)]
    found = next(w for w in list(WAYS)[0 if across else 2 :] if WAYS[w](one, other))
    seen = f"{where_told(view, across, one, other, told)} So the {told[0]} is {found} the {told[1]}."
    if kind < 0.4:
        question = worded(rng, "does it lie that way", *told, worded(rng, way))
        return question, f"{seen} {yes_or_no(found == way)}."
    if kind < 0.65:
        word = rng.choice([word for word, w in FURTHER.items() if (w in ("left of", "right of")) == across])
        further = WAYS[FURTHER[word]](one, other)
        question = worded(rng, "which of two is further", worded(rng, word), *told)
        return question, f"{seen} The {told[not further]} is {word}."
    if kind < 0.9:
        return worded(rng, "left or right of" if across else "above or below", *told), seen
    if in_doubt(view, one, not across, [other]):
        return None
    across_way = next(w for w in ("left of", "right of") if WAYS[w](one, other))
    down_way = next(w for w in ("above", "below") if WAYS[w](one, other))
    verdict = f"So the {told[0]} is {down_way} and {across_way} the {told[1]}."
    question = worded(rng, "where is it from the other", *told)
    return question, f"{both_told(view, one, other, told)} {verdict}"


KINDS: dict[Callable[[random.Random, View], Asked], float] = {  # and how often each is asked
    count: 3.5, total: 0.7, exists: 1.2, more: 3, colour: 2.5, shape: 1.8, colours: 1.5, end: 3.2, corner: 11,
    size: 9, which: 4.5, between: 20, variety: 2, two_colours: 1.5, same: 3, both_ends: 1, in_order: 4.5,
    look_of_place: 2.5, in_which: 4, in_half: 5, next_one: 9, closest: 15, of_each: 3, unlike: 2.5,
    that_many: 1.2, which_of_these: 1.5, what_else: 1.5, the_only_one: 4, corners_of: 0.5, background: 3,
    alike: 2.2, end_of_kind: 2, nearest_corner: 1.2, in_between: 20,
    each_corner: 8, odd_one_out: 20, in_common: 1.5,
}  # fmt: skip
