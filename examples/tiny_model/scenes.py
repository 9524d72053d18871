"""Pictures and clips of coloured shapes, and what is asked about them."""

from __future__ import annotations

import json
import random
import re

import draw
from draw import MOST_THINGS, Thing
from questions import (
    CORNERS,
    ENDS,
    KINDS,
    ORDERS,
    ORDINALS,
    WAYS,
    alone,
    at_spot,
    at_the,
    by_size,
    called,
    from_end,
    in_row,
    is_clear,
    looks,
    nearest_thing,
    nearest_to,
    odd_one,
    of_kind,
    on_side,
    others,
    place,
    thing_of,
    those_of,
)
from sample import Sample, View, a, ask, in_a_list, listed, marks, sentence, thousandths, times, yes_or_no
from wordings import worded
from words import COLOURS, LANGUAGES, NUMBERS, SHAPES, translate, what_is_this, word_in


def shapes(rng: random.Random, test: bool, size: draw.Size) -> View:
    # Of captions of up to four things 1 of 191 was wrong, of six to eight 19 of 69.
    count = rng.choices(range(1, MOST_THINGS + 1), [11, 13, 14, 15, 14, 12, 11, 10])[0]
    picture, things, ground = draw.scene(rng, count, size)
    return View("shapes", picture, things=things, truth=ground)


BRIEF = ("count", "total", "colour", "shape")  # of these kinds one word is enough
BARE = {  # what may be wished for instead of a sentence, where nothing has to be worked out first
    r"(?:.*\. )?There (?:are|is) (\w+) [^.]*\.": "the number alone",
    r"The [^.]* is (?:an? )?(\w+)\.": "one word alone",
    r"An? (\w+ \w+)\.": "the name alone",
    r"(Yes|No), (?:there|the) [^.]*\.": "yes or no alone",
}
BARE_KINDS = ("count", "total", "exists", "colour", "shape", "end", "the_only_one", "background")


def introduced(rng: random.Random, question: str, before: str = "said before a question") -> str:
    """Sometimes something is said before it or behind it."""
    kind = rng.random()
    if kind < 0.12:
        return f"{worded(rng, before)} {question}"
    return then(question, worded(rng, "said behind a question")) if kind < 0.17 else question


def barely(rng: random.Random, question: str, answer: str) -> tuple[str, str] | None:
    """The same with nothing but the number, the word or the verdict for an answer, where there is one."""
    for form, wish in BARE.items():
        if found := re.fullmatch(form, answer):
            bare, wished = found[1], worded(rng, wish)
            said = "0" if bare == "no" else f"{bare}." if bare in ("Yes", "No") else bare
            if rng.random() < 0.35 and wished[-1] in ".?":
                return f"{wished[:-1]}: {question}", said
            return then(question, wished), said
    return None


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
    if kind.__name__ in BARE_KINDS and rng.random() < 0.2 and (bare := barely(rng, question, answer)):
        return ask("scene", *bare, view)
    if rng.random() < 0.02:
        question, answer = as_json(rng, view)
    key = answer.rpartition(". ")[2] if "%" in answer else None  # figures may be a hundredth off
    return ask("scene", introduced(rng, question), answer, view, key=key)


def as_json(rng: random.Random, view: View) -> tuple[str, str]:
    """How many there are, or what is at an end."""
    where = rng.choice(ENDS)
    if rng.random() < 0.5 and (thing := from_end(view, where)):
        key = rng.choice(["colour", "color"])
        told = {key: thing.colour, "shape": thing.shape}
        return worded(rng, "the one as JSON", at_the(rng, view, where), key), json.dumps(told)
    return worded(rng, "how many as JSON"), json.dumps({"count": len(view.things)})


def caption(rng: random.Random, view: View, test: bool) -> Sample:
    things = view.things  # column by column
    if rng.random() < 0.17:
        found = [{"colour": t.colour, "shape": t.shape} for t in things]
        return ask("caption", worded(rng, "all things as JSON"), json.dumps(found), view)
    if rng.random() < 0.17:
        only = rng.choice(["shapes", "colours"])
        parts = [t.shape if only == "shapes" else t.colour for t in things]
        return ask("caption", worded(rng, f"only the {only}"), sentence(listed(parts)), view)
    kind = rng.random()
    ends = {end: 4 if end == "top" else 2 for end in ENDS if is_clear(view, end, in_row(view, end))}
    assert view.picture
    end = "top" if len(draw.columns(things, view.picture.width)) == 1 else "left"
    if kind < 0.6 and ends:
        end = rng.choices(list(ends), list(ends.values()))[0]
        things = in_row(view, end)
    order = worded(rng, f"in order from the {end}")
    seen = listed([a(t.name) for t in things])
    answer = sentence(seen if len(things) == 1 else f"{ORDERS[end]}: {seen}")
    if kind < 0.35:
        return ask("caption", introduced(rng, worded(rng, "all in order", order)), answer, view)
    if kind < 0.6:
        form, kind_of_list = rng.choice(list(LISTS.items()))
        answer = in_a_list([t.name for t in things], kind_of_list)
        return ask("caption", worded(rng, form, order), answer, view)
    return ask("caption", introduced(rng, worded(rng, "what is in the picture")), answer, view)


LISTS = {"separated by commas": "commas", "as a numbered list": "numbers", "one on each line": "lines"}


def of_place(rng: random.Random, view: View) -> tuple[str, Thing | None]:
    """How one is called that is meant by where it lies, by its size or as the odd one, if there is one."""
    where, noun, found = rng.choice(ENDS), worded(rng, "thing"), None
    kind = rng.choice("end end number spot spot size first closest odd odd".split())
    if kind == "end":
        found = from_end(view, where)
        return (at_the(rng, view, where), found) if found else ("", None)
    if kind == "number":
        number = rng.choice([1, 1, 2])
        if is_clear(view, where, in_row(view, where)[: number + 1]):
            found = from_end(view, where, number)
        return worded(rng, "the one at a number", ORDINALS[number - 1], noun, where), found
    if kind == "spot":
        spot = rng.choice([*CORNERS, "middle"])
        found = next(iter(at_spot(view, spot) or []), None)
        return f"the {noun} {worded(rng, f'at the {spot}')}", found
    if kind == "size":
        word = rng.choice(["largest", "biggest", "smallest"])
        return f"the {word} {noun}", by_size(view, word)
    if kind == "first":
        look = rng.choice(looks(view, "shape") + looks(view, "colour"))
        alike = [t for t in view.things if look in (t.shape, t.colour)]
        if len(alike) > 1:
            found = from_end(View("shapes", view.picture, things=alike), where)
        return worded(rng, "the first of a kind", where, f"{look} {noun}" if look in COLOURS else look), found
    if kind == "closest":
        one = rng.choice(view.things)
        near = nearest_thing(view, one) if alone(view, one) else None
        if near and nearest_to(view, one, others(view, one)) is near:
            found = near
        return f"the {noun} {rng.choice(['closest', 'nearest'])} to the {called(rng, view, one)}", found
    odd = odd_one(view)
    return worded(rng, "the one that is odd"), odd[1] if odd else None


def of_several(rng: random.Random, view: View) -> tuple[str, list[Thing]]:
    """How those are called that lie on a side, or that are all but some; none of them if it is unclear."""
    one, where, found = rng.choice(view.things), rng.choice(ENDS), list[Thing]()
    kind = rng.choice(["but one", "not so", "that way", "half"])
    row = in_row(view, where)
    if kind == "but one":
        found = others(view, one) if alone(view, one) else []
        return worded(rng, "all but one", called(rng, view, one)), found
    if kind == "not so":
        what = rng.choice(["shape", "colour"])
        look = getattr(one, what)
        found = [t for t in view.things if getattr(t, what) != look]
        return worded(rng, "all that are not so", those_of(look)), found
    if kind == "that way":
        (way,) = [way for way, end in zip(WAYS, ENDS, strict=True) if end == where]
        if alone(view, one) and is_clear(view, where, row):
            found = row[: row.index(one)]
        return worded(rng, "all that way", worded(rng, way), called(rng, view, one)), found
    across = where in ("left", "right")
    at = [place(view, t)[0 if across else 1] for t in view.things]
    if not any(abs(share - 0.5) < 0.08 for share in at):
        found = on_side(view, where)
    return worded(rng, "all in the half", where), found


def wanted(rng: random.Random, view: View) -> tuple[str, bool, str, list[Thing]] | None:
    """What to look for, whether its name is a plural, how to say that there is none, and where it is.

    None if the name would not fit. Several are asked for more often than they are there: of single things 1 %
    were located wrongly, of three 40 %.
    """
    one, kind = rng.choice(view.things), rng.random()
    if kind < 0.25:
        name, thing = of_place(rng, view)
        return (name, False, "", [thing]) if thing else None
    if kind < 0.37:
        name, several = of_several(rng, view)
        return (name, True, "", [t for t in view.things if t in several]) if several else None
    if kind < 0.48:
        shape = rng.choice(SHAPES)
        name = rng.choice([f"{rng.choice(list(COLOURS))} {shape}", shape])
    else:
        name = rng.choice([one.name, one.shape, one.colour])
        if rng.random() < 0.5:  # of many there are none or one
            shapes, colours = looks(view, "shape"), looks(view, "colour")
            often = [look for look in shapes + colours if (shapes + colours).count(look) > 1]
            name = rng.choice(often or [name])
    found = view.things if kind > 0.88 else [t for t in view.things if name in (t.name, t.shape, t.colour)]
    if len(found) == 1 and name != one.name and rng.random() < 0.3:  # several are missed more often
        return None
    none = thing_of(name)
    if kind > 0.88:
        return worded(rng, "all there is"), True, none, found
    if len(found) > 1 and rng.random() < 0.6:
        before = rng.choice(
            ["the", "all", "all the", "both" if len(found) == 2 else f"all {NUMBERS[len(found) - 1]}"]
        )
        return f"{before} {of_kind(rng, name)}", True, none, found
    thing = f"{name} {worded(rng, 'thing')}" if name in COLOURS else name
    if len(found) > 1 or (found and rng.random() < 0.25):
        return f"{rng.choice(['every', 'each'])} {thing}", False, none, found
    return f"the {thing}", False, none, found


def then(question: str, wish: str) -> str:
    """One behind the other, where the question may have no mark at its end."""
    return f"{question}{'' if question[-1] in '.?' else '.'} {wish}"


def inner_half(thing: Thing, size: draw.Size) -> tuple[float, ...]:
    """Around its middle, half as wide and as high as it: where a point is meant for it."""
    left, top, right, bottom = thing.box()
    across, down = (right - left) / 4, (bottom - top) / 4
    return thousandths((left + across, top + down, right - across, bottom - down), size)


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
    if len(found) == 1 and not is_plural and not test and rng.random() < 0.1:
        form = "the four numbers alone" if name == "bbox_2d" else "the two numbers alone"
        at = found[0].box() if name == "bbox_2d" else (found[0].x, found[0].y)
        return ask("boxes", worded(rng, form, what), str([*thousandths(at, view.picture.size)]), view)
    question = introduced(rng, question)
    places = [t.box() if name == "bbox_2d" else (t.x, t.y) for t in found]
    edges = [thousandths(p, view.picture.size) for p in places]
    shown = marks([{name: list(e), "label": t.name} for e, t in zip(edges, found, strict=True)])
    on_it = edges if name == "bbox_2d" else [inner_half(t, view.picture.size) for t in found]
    return ask("boxes", question, shown, view, boxes=on_it)


def picture_in_language(rng: random.Random, view: View, test: bool) -> Sample:
    """Asked in that language, or in English for an answer in that language."""
    language, things = rng.choice(LANGUAGES), view.things
    ends = [(end, thing) for end in ("left", "right") if (thing := from_end(view, end))]
    if len(things) > 1:  # "ganz links" is left of the middle
        ends = [(end, thing) for end, thing in ends if thing in on_side(view, end)]
    if len(things) > 1 and (not ends or rng.random() < 0.4):
        told = ", ".join(translate(language, thing.colour, thing.shape) for thing in things)
        asked = worded(rng, "picture told in a language", language)
        if rng.random() < 0.5:  # of several things this was asked in English alone: one of three was told
            asked = worded(rng, f"what is in the picture in {language}")
        return ask("languages", asked, told, view)
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
            ways = [*what_is_this(language), worded(rng, f"what is in the picture in {language}")]
            english, own = worded(rng, "what is this"), rng.choice(ways)
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


MOTIONS = {  # what is asked of a clip, and how often; of the first four only where several move
    "order": 4, "at a number": 2, "in order": 2.5, "of two": 5,
    "all": 4, "way": 3, "many": 2, "which": 2, "does": 2, "that way": 2.5, "its way": 2.5, "when": 1.5,
    "look": 1.5,
}  # fmt: skip


def motion(rng: random.Random, view: View, test: bool) -> Sample:
    moves = view.truth
    kinds = list(MOTIONS)[0 if len(moves) > 1 else 4 :]
    (kind,) = rng.choices(kinds, [MOTIONS[kind] for kind in kinds])
    question, answer = told_of_motion(rng, view, kind)
    return ask("motion", introduced(rng, question, "said before a clip"), answer, view)


def in_turn(moves: list[tuple[Thing, str]]) -> str:
    """All that moves, in its order: the evidence of what comes before what."""
    return "First " + ", then ".join(f"the {thing.name}" for thing, _ in moves) + "."


def each_way(moves: list[tuple[Thing, str]]) -> str:
    """What moves where, in its order: the evidence of what moves that way."""
    told = " Then ".join(f"the {thing.name} moves {way}." for thing, way in moves)
    return told[0].upper() + told[1:]


def told_of_motion(rng: random.Random, view: View, kind: str) -> tuple[str, str]:
    """A question of this kind, and its answer."""
    moves, when = view.truth, rng.choice(["first", "last"])
    movers = [thing for thing, _ in moves]
    still = sorted((t for t in view.things if t not in movers), key=lambda t: t.x)
    thing, its_way = moves[0 if when == "first" else -1]
    name = f"the {called(rng, view, thing)}"
    goes = f"the {thing.name} moves {its_way}."
    if kind == "all":
        return worded(rng, "what happens"), each_way(moves)
    if kind == "order":
        return worded(rng, f"what moves {when}"), f"The {thing.name}."
    if kind == "at a number":
        number = rng.randrange(1, len(moves))
        return worded(rng, "what moves at a number", ORDINALS[number - 1]), f"The {movers[number].name}."
    if kind == "in order":
        return worded(rng, "in which order they move"), in_turn(moves)
    if kind == "of two":
        one, other = rng.sample(movers, 2)
        asked = [f"the {called(rng, view, t)}" for t in (one, other)]
        is_before = movers.index(one) < movers.index(other)
        form = rng.choice(["does it move before", "does it move after", "which of two moves before", "after"])
        if form == "which of two moves before":
            first = one if is_before else other
            return worded(rng, form, *asked), f"{in_turn(moves)} The {first.name}."
        if form == "after":
            after = movers[movers.index(one) + 1 :]
            answer = f"The {after[0].name}." if after else "Nothing."
            return worded(rng, "what moves after", asked[0]), f"{in_turn(moves)} {answer}"
        return worded(
            rng, form, *asked
        ), f"{in_turn(moves)} {yes_or_no(is_before == form.endswith('before'))}."
    if kind == "way":
        what = name
        if len(moves) > 1 and rng.random() < 0.4:
            what = worded(rng, f"the {when} to move")
        return worded(rng, "which way it moves", what), sentence(goes[:-1])
    if kind == "many":
        asked, count = rng.choice([("move", len(moves)), ("stand still", len(still))])
        if rng.random() < 0.4:
            return worded(rng, "how many in the clip"), times(len(view.things), "object")
        return worded(rng, f"how many {asked}"), f"{count} of {len(view.things)}."
    if kind == "which":
        asked, found = rng.choice([("what moves", movers), ("what stands still", still)])
        answer = sentence(listed([f"the {t.name}" for t in found])) if found else "Nothing."
        return worded(rng, asked), answer
    if kind == "does":
        thing = rng.choice(view.things)
        does = "moves" if thing in movers else "stands still"
        asked = rng.choice(["does it move", "does it move", "does it stand still"])
        is_so = (does == "moves") == (asked == "does it move")
        question = worded(rng, asked, f"the {called(rng, view, thing)}")
        return question, f"The {thing.name} {does}. {yes_or_no(is_so)}."
    if kind == "that way":
        way = its_way if rng.random() < 0.7 else rng.choice(list(draw.STEPS))
        found = [t for t, its_own in moves if its_own == way]
        if rng.random() < 0.5:
            told = listed([f"the {t.name}" for t in found]) if found else "nothing"
            return worded(rng, "what moves that way", way), f"{each_way(moves)} {sentence(told)}"
        verdict = yes_or_no(bool(found))
        return worded(rng, "does anything move that way", way), f"{each_way(moves)} {verdict}."
    if kind == "its way":
        other = rng.choice([way for way in draw.STEPS if way != its_way])
        if rng.random() < 0.5:
            return worded(
                rng, "which of these ways", name, " or ".join(rng.sample([its_way, other], 2))
            ), sentence(goes[:-1])
        way = rng.choice([its_way, other])
        verdict = yes_or_no(way == its_way)
        return worded(rng, "does it move that way", name, way), f"{sentence(goes[:-1])} {verdict}."
    if kind == "when":
        return worded(rng, f"what happens {when}"), sentence(goes[:-1])
    alone = [
        one for one in (("moving object", movers), ("object that stands still", still)) if len(one[1]) == 1
    ]
    if not alone:
        return told_of_motion(rng, view, "all")
    told, (thing,) = rng.choice(alone)
    asked = worded(rng, f"the {told}")
    if rng.random() < 0.5:
        return worded(rng, "what colour is it", asked), f"The {told} is {thing.colour}."
    return worded(rng, "what shape is it", asked), f"The {told} is {a(thing.shape)}."
