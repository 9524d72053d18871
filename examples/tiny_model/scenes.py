"""Pictures and clips of coloured shapes, and what is asked about them."""

from __future__ import annotations

import json
import random
import re

import draw
from draw import MOST_THINGS, Thing
from questions import ENDS, KINDS, ORDERS, at_the, from_end, in_row, of_kind, on_side
from sample import Sample, View, a, ask, listed, sentence, thousandths, times, yes_or_no
from wordings import worded
from words import COLOURS, LANGUAGES, NUMBERS, SHAPES, translate, what_is_this, word_in


def shapes(rng: random.Random, test: bool, size: draw.Size) -> View:
    count = rng.choices(range(1, MOST_THINGS + 1), [14, 16, 16, 15, 13, 10, 8, 8])[0]
    picture, things = draw.scene(rng, count, size)
    return View("shapes", picture, things=things)


BRIEF = ("count", "total", "colour", "shape")  # of these kinds one word is enough


def scene(rng: random.Random, view: View, test: bool) -> Sample:
    found = None
    while not found:  # it would be unclear
        (kind,) = rng.choices(list(KINDS), list(KINDS.values()))
        found = kind(rng, view)
    question, answer = found
    short = re.search(r"\bThere (?:are|is) (\w+) [^.]*\.$|^The [^.]* is (?:an? )?(\w+)\.$", answer)
    if short and kind.__name__ in BRIEF and not test and rng.random() < 0.08:
        brief = short[1] or short[2]
        return ask("scene", question, "0" if brief == "no" else brief, view, worded(rng, "in one word"))
    verdict = answer.rpartition("%. ")[2]  # of figures, which may be a hundredth off
    return ask("scene", question, answer, view, key=None if verdict == answer else verdict)


def caption(rng: random.Random, view: View, test: bool) -> Sample:
    things = view.things  # from left to right
    if rng.random() < 0.2:
        found = [{"colour": t.colour, "shape": t.shape} for t in things]
        return ask("caption", worded(rng, "all things as JSON"), json.dumps(found), view)
    if rng.random() < 0.2:
        only = rng.choice(["shapes", "colours"])
        parts = [t.shape if only == "shapes" else t.colour for t in things]
        return ask("caption", worded(rng, f"only the {only}"), sentence(listed(parts)), view)
    question, end = worded(rng, "what is in the picture"), "left"
    if rng.random() < 0.5:
        end = rng.choices(ENDS, [2, 2, 4, 2])[0]
        things = in_row(view, end)
        question = worded(rng, "all in order", ORDERS[end])
    seen = listed([a(t.name) for t in things])
    return ask("caption", question, sentence(seen if len(things) == 1 else f"{ORDERS[end]}: {seen}"), view)


MOST_BOXES = 3


def wanted(rng: random.Random, view: View) -> tuple[str, bool, str, list[Thing]] | None:
    """What to look for, whether its name is a plural, how to say that there is none, and where it is.

    None if the name would not fit.
    """
    one, kind = rng.choice(view.things), rng.random()
    if kind < 0.12:
        where = rng.choice(ENDS)
        thing = from_end(view, where)
        return (at_the(rng, view, where), False, "", [thing]) if thing else None
    if kind < 0.25:
        shape = rng.choice(SHAPES)
        name = rng.choice([f"{rng.choice(list(COLOURS))} {shape}", shape])
    else:
        name = rng.choice([one.name, one.shape, one.colour])
    found = view.things if kind > 0.93 else [t for t in view.things if name in (t.name, t.shape, t.colour)]
    if len(found) > MOST_BOXES:
        return None
    if len(found) == 1 and name != one.name and rng.random() < 0.3:  # several are missed more often
        return None
    none = f"{name} object" if name in COLOURS else name
    if kind > 0.93:
        return worded(rng, "all there is"), True, none, found
    if len(found) > 1 and rng.random() < 0.6:
        before = rng.choice(["the", "all", "all the", "both" if len(found) == 2 else "all three"])
        return f"{before} {of_kind(rng, name)}", True, none, found
    thing = f"{name} {worded(rng, 'thing')}" if name in COLOURS else name
    if len(found) > 1 or (found and rng.random() < 0.25):
        return f"{rng.choice(['every', 'each'])} {thing}", False, none, found
    return f"the {thing}", False, none, found


def then(question: str, wish: str) -> str:
    """One behind the other, where the question may have no mark at its end."""
    return f"{question}{'' if question[-1] in '.?' else '.'} {wish}"


def boxes(rng: random.Random, view: View, test: bool) -> Sample:
    while not (looked_for := wanted(rng, view)):
        pass
    what, is_plural, none, found = looked_for
    name = "bbox_2d" if rng.random() < 0.75 else "point_2d"
    it, is_it = ("them", "are they") if is_plural else ("it", "is it")
    ways = [f"box {it}", f"where {is_it}"] if name == "bbox_2d" else [f"point to {it}"]
    way = rng.choice(["find it", rng.choice(ways)])
    question = worded(rng, way, what)
    if way == "find it" or rng.random() < 0.7:  # else it goes without saying
        question = then(question, worded(rng, "as JSON with a label", name))
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
    """Asked in that language, or in English for an answer in that language."""
    language, things = rng.choice(LANGUAGES), view.things
    ends = [(end, thing) for end in ("left", "right") if (thing := from_end(view, end))]
    if len(things) > 1:  # "ganz links" is left of the middle
        ends = [(end, thing) for end, thing in ends if thing in on_side(view, end)]
    if len(things) > 1 and (not ends or rng.random() < 0.4):
        told = ", ".join(translate(language, thing.colour, thing.shape) for thing in things)
        return ask("languages", worded(rng, "picture told in a language", language), told, view)
    end, thing = rng.choice(ends)
    there, kind = worded(rng, f"at the {end} in {language}"), rng.random()
    if len(things) > 1 and kind < 0.25:
        english, own = worded(rng, "how many at all"), worded(rng, f"how many at all in {language}")
        answer = word_in(language, NUMBERS[len(things) - 1])
    elif kind < 0.5:
        asked = "the object" if len(things) == 1 else at_the(rng, view, end)
        english = worded(rng, "what colour is it", asked)
        own = worded(rng, f"what colour it has there in {language}", there)
        if len(things) == 1:
            own = worded(rng, f"what colour it is in {language}")
        answer = word_in(language, thing.colour)
    else:
        english = worded(rng, "what is the one", at_the(rng, view, end))
        own = worded(rng, f"what is there in {language}", there)
        if len(things) == 1:
            english, own = worded(rng, "what is this"), rng.choice(what_is_this(language))
        answer = translate(language, thing.colour, thing.shape)
    manner = rng.random()
    if manner < 0.4:
        return ask("languages", own, answer, view)
    if manner < 0.75:
        return ask("languages", then(english, worded(rng, "in this language", language)), answer, view)
    return ask("languages", english, answer, view, worded(rng, "speak this language", language))


# ---- clips


def moving(rng: random.Random, test: bool, size: draw.Size, frames: int) -> View:
    movers = rng.choice([1, 1, 2, 2, 2] if frames <= 8 else [1, 2, 2, 3, 3])
    shown, moves, things = draw.clip(rng, movers, rng.randint(0, 3 - min(movers, 3)), size, frames)
    return View("moving", clip=shown, things=things, truth=moves)


def motion(rng: random.Random, view: View, test: bool) -> Sample:
    moves = view.truth
    one_of_several = len(moves) > 1  # that moves first, or last
    kinds = 4 * ["all"] + 3 * ["way"] + 2 * ["many", "which"] + ["does"] + one_of_several * 5 * ["order"]
    kind, first = rng.choice(kinds), rng.choice(["first", "last"])
    thing, its_way = moves[0 if first == "first" else -1]
    if kind == "all":
        question = worded(rng, "what happens")
        answer = " Then ".join(
            f"{'the' if i else 'The'} {thing.name} moves {way}." for i, (thing, way) in enumerate(moves)
        )
    elif kind == "order":
        question, answer = worded(rng, f"what moves {first}"), f"The {thing.name}."
    elif kind == "way":
        what = f"the {thing.name}"
        if one_of_several and rng.random() < 0.4:
            what = worded(rng, f"the {first} to move")
        question, answer = worded(rng, "which way it moves", what), f"The {thing.name} moves {its_way}."
    elif kind == "many":
        asked, count = rng.choice([("move", len(moves)), ("stand still", len(view.things) - len(moves))])
        question, answer = worded(rng, f"how many {asked}"), f"{count} of {len(view.things)}."
        if rng.random() < 0.4:
            question, answer = worded(rng, "how many in the clip"), times(len(view.things), "object")
    elif kind == "which":
        movers = [thing for thing, _ in moves]
        still = sorted((t for t in view.things if t not in movers), key=lambda t: t.x)
        asked, found = rng.choice([("what moves", movers), ("what stands still", still)])
        answer = sentence(listed([f"the {t.name}" for t in found])) if found else "Nothing."
        question = worded(rng, asked)
    else:
        thing = rng.choice(view.things)
        moves_too = any(thing is mover for mover, _ in moves)
        question = worded(rng, "does it move", f"the {thing.name}")
        answer = f"{yes_or_no(moves_too)}, the {thing.name} {'moves' if moves_too else 'stands still'}."
    return ask("motion", question, answer, view)
