"""What is written: lines of words, and screens to click on."""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Iterator
from itertools import pairwise

import draw
from PIL import Image, ImageDraw
from sample import Sample, View, among, ask, thousandths, times
from wordings import WORDINGS, worded
from words import (
    LITTLE_WORDS,
    MONTHS,
    MORE_WORDS,
    NUMBERS,
    WEEKDAYS,
    WORDS,
    blended,
    made_up,
    pick,
)

MOST_LINES = 10
MOST_WORDS = 9  # that are counted, each said with its number


def word(rng: random.Random, test: bool) -> str:
    """Known, made up or, in training, letters in no order: what stands there counts, not what fits."""

    def make() -> str:
        kind = rng.random()
        if kind < 0.25:
            return rng.choice(WORDS)
        if kind < 0.5:
            return rng.choice(MORE_WORDS)
        if kind < 0.65 or test:
            return made_up(rng, rng.randint(1, 2))
        if kind < 0.75:
            return made_up(rng, rng.randint(3, 4))
        if kind < 0.87:
            return blended(rng)
        first = rng.choice(string.ascii_lowercase.replace("l", ""))  # many fonts draw it as they draw I
        return first + "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(1, 6)))

    return pick(rng, make, test)


def price(rng: random.Random) -> str:
    return f"{rng.randrange(10 ** rng.randint(1, 3))}.{rng.randrange(100):02}"


def date(rng: random.Random) -> str:
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1990, 2040)
    return rng.choice(
        [f"{year}-{month:02}-{day:02}", f"{day}.{month}.{year}", f"{day} {MONTHS[month - 1]} {year}"]
    )


def span(rng: random.Random) -> str:
    """From here to there, or so many of so many: in many fonts o looks as 0 does, l as 1."""
    one, other = rng.randint(0, 31), rng.randint(0, 60)
    form = among(
        rng, "{0} to {1}|{0} to {1}|{0} - {1}|{0}-{1}|{0} of {1}|{0} or {1}|{0} x {1}|{2} to {3}|{2} - {3}"
    )
    return form.format(one, other, *(rng.choice([day, day[:3]]) for day in rng.sample(WEEKDAYS, 2)))


def notice(rng: random.Random, test: bool) -> str:
    """What a sign may say: words and figures of all kinds in one line, as 'Gate 12', 'Dinner: 7.50'."""

    def part() -> str:
        kind = rng.random()
        if kind < 0.1:
            return span(rng)
        if kind < 0.55:
            return word(rng, test)
        if kind < 0.7:
            return rng.choice(LITTLE_WORDS)
        if kind < 0.85:
            return str(rng.randrange(10 ** rng.randint(1, 4)))
        if kind < 0.92:
            # not I and O, which many fonts draw as they draw l and 0
            return rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") + str(rng.randrange(10 ** rng.randint(0, 3)))
        return price(rng)

    parts = [word(rng, test), *(part() for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4])))]
    if rng.random() < 0.2:
        parts.reverse()
    if rng.random() < 0.2:
        parts[0] += ":"
    if rng.random() < 0.15:
        parts = [p.title() if rng.random() < 0.6 else p for p in parts]
    return rng.choice([str, str.capitalize, str.capitalize, str.capitalize, str.title, str.upper])(
        " ".join(parts)
    )


def line(rng: random.Random, test: bool) -> str:
    """A word, a few, a notice, a number, a price, a time or a date."""
    if rng.random() < 0.35:
        return notice(rng, test)
    kind = rng.random()
    if kind < 0.45:
        return rng.choice([str.lower, str.lower, str.title, str.upper])(word(rng, test))
    if kind < 0.7:
        words = " ".join(word(rng, test) for _ in range(rng.randint(2, 4)))
        return rng.choice([str, str.capitalize, str.title, str.upper])(words) + rng.choice(
            ["", "", ".", "!", "?"]
        )
    if kind < 0.82:
        return str(rng.randrange(10 ** rng.randint(1, 7)))
    if kind < 0.92:
        return rng.choice(["${}", "{} EUR", "€{}", "{}", "£{}"]).format(price(rng))
    if kind < 0.96:
        return f"{rng.randint(0, 23)}:{rng.randrange(60):02}"
    return date(rng)


def page(rng: random.Random, test: bool, size: draw.Size) -> View:
    """Lines, one under the other, in one font; a large picture has more."""
    width, height = size
    most = min(MOST_LINES, height // 55)
    count = rng.choice([1, 1, 1, 2, 3]) if rng.random() < 0.5 else rng.randint(1, most)
    lines = [line(rng, test) for _ in range(count)]
    largest = min(height // (count + 1), rng.randint(22, 64))
    for points in range(max(largest, 14), 12, -2):
        face = draw.random_font(rng, points, "".join(lines))
        if max(face.getlength(text) for text in lines) < width - 16 and 1.3 * points * count < height - 8:
            break
    else:
        return page(rng, test, size)
    picture, ground = draw.background(rng, size)
    ink = draw.ink_on(rng, ground)
    pen = ImageDraw.Draw(picture)
    pitch = min(rng.uniform(1.25, 2) * points, (height - 8) / count)
    y = rng.uniform(4, max(5, height - 4 - pitch * count))
    align = rng.choice(["left", "any", "middle"])
    left = rng.uniform(6, max(7, width - 10 - max(face.getlength(text) for text in lines)))
    letters, boxes = [], []
    for text in lines:
        spare = width - 8 - face.getlength(text)
        x = (
            left
            if align == "left"
            else rng.uniform(6, max(7, spare))
            if align == "any"
            else max(4, spare / 2)
        )
        letters.append(draw.write(pen, (x, y), text, ink, face))
        left_of_it, above, right, below = face.getbbox(text)
        boxes.append((x + left_of_it, y + above, x + right, y + below))
        y += pitch
    return View("page", draw.worn(rng, picture), letters=letters, parts=boxes, truth=lines)


ONLY_WORDS = re.compile(r"[A-Za-z]+( [A-Za-z]+)*")
MORE_NUMBERS = "zero eleven twelve twenty hundred thousand million".split()
PLACES = ["first", "second", "third", "fourth", "fifth"]


def place_in(rng: random.Random, number: int, count: int) -> str | None:
    """The second, the last; None of those that people count to no more."""
    if number == count - 1 and (number >= len(PLACES) or rng.random() < 0.5):
        return "last"
    return PLACES[number] if number < len(PLACES) else None


def asked_of_lines(rng: random.Random, lines: list[str], test: bool) -> tuple[str, str]:
    """What is less than all that stands there, or is true of it."""
    found: list[tuple[str, tuple[str, ...], str]] = [("how many lines", (), str(len(lines)))]
    bare = [text.rstrip(".!?") for text in lines]
    counted = " ".join(bare).split()
    if all(ONLY_WORDS.fullmatch(text) for text in bare) and len(counted) <= MOST_WORDS:
        told = ", ".join(f"{number} {one}" for number, one in enumerate(counted, 1))
        found.append(("how many words", (), f"{told}. {times(len(counted), 'word')}"))
    for number, text in enumerate(bare):
        place = place_in(rng, number, len(lines))
        if place and ONLY_WORDS.fullmatch(text) and " " in text:
            end = "" if len(lines) == 1 else " of a line"
            found.append((f"first word{end}", (place,), text.split()[0]))
            found.append((f"last word{end}", (place,), text.split()[-1]))
    for above, below in pairwise(lines):
        if sum(above in text for text in lines) == 1:
            found.append(("line below", (above,), below))
        if sum(below in text for text in lines) == 1:
            found.append(("line above", (below,), above))
    if len(lines) % 2 and len(lines) > 1:
        found.append(("middle line", (), lines[len(lines) // 2]))
    all_words = " ".join(lines).lower().split()
    numbers = re.findall(r"\d+", " ".join(lines))
    letters = {*re.findall("[a-z]+", " ".join(all_words))}
    if len(numbers) == 1 and numbers[0] in all_words and not {*NUMBERS, *MORE_NUMBERS} & letters:
        found.append(("number on it", (), numbers[0]))
    words = [one for text in bare if ONLY_WORDS.fullmatch(text) for one in text.split()]
    found.append(("does it say", (rng.choice([*lines, *words]),), "Yes."))
    other = line(rng, test)
    if other.lower() not in "\n".join(lines).lower():
        found.append(("does it say", (other,), "No."))
    asked_by = rng.choice(list(dict.fromkeys(asked_by for asked_by, _, _ in found)))
    _, named, answer = rng.choice([one for one in found if one[0] == asked_by])
    return worded(rng, asked_by, *named), answer


def read(rng: random.Random, view: View, test: bool) -> Sample:
    lines = view.truth
    share = rng.random()
    if share < 0.25:
        question, answer = asked_of_lines(rng, lines, test)
        spelled = () if answer in ("Yes.", "No.") else (answer,)
        number_of_words = re.search(r"There (is|are) \d words?\.$", answer)  # counts if one is misread, too
        key = number_of_words[0] if number_of_words else None
        return ask("read", question, answer, view, spelled=spelled, key=key)
    number = rng.randrange(len(lines))
    place = place_in(rng, number, len(lines))
    if len(lines) > 1 and place and share < 0.5:
        return ask("read", worded(rng, "one line", place), lines[number], view, spelled=(lines[number],))
    surface = among(rng, "sign|label|note|card|board|page|poster|picture|image|plate|door|ticket")
    answer = "\n".join(lines)
    return ask("read", worded(rng, "all lines", surface), answer, view, spelled=(answer,))


def place_of_line(rng: random.Random, view: View, test: bool) -> Sample:
    """Where a line stands: its box."""
    assert view.picture
    lines = view.truth
    number = rng.randrange(len(lines))
    text = lines[number]
    if lines.count(text) > 1:
        return read(rng, view, test)
    question = worded(rng, "box of a line", text)
    edges = thousandths(view.parts[number], view.picture.size)
    line = json.dumps({"bbox_2d": list(edges), "label": text}, ensure_ascii=False)
    return ask("boxes", question, f"```json\n[\n\t{line}\n]\n```", view, boxes=[edges], spelled=(text,))


# ---- screens

BUTTONS = """OK|Cancel|Save|Send|Delete|Open|Close|Next|Back|Help|Search|Login|Sign up|Submit|Edit|Copy|Paste|
Print|Settings|Home|Menu|Start|Stop|Play|Pause|Upload|Download|Yes|No|Add|Remove|Buy|Share|Reply|Apply|Undo|
Redo|Refresh|Continue|Exit|New file|Log out|Check out|Add to cart|Sign in|Register|Accept|Decline|Details|
Filter|Sort|Export|Import|Preview|Finish|Retry|Options|Account|Messages|Photos|Music|Maps|View|Tools|Clear|
Zoom in|Select all|Try again|Not now|Learn more|Contact us|My orders|Sign out""".replace("\n", "").split("|")


def label(rng: random.Random, test: bool) -> str:
    def make() -> str:
        kind = rng.random()
        if kind < 0.45:
            return rng.choice(BUTTONS)
        if kind < 0.6:
            return rng.choice([str.title, str.title, str.upper])(rng.choice(MORE_WORDS))
        if kind < 0.68:
            return f"{word(rng, test)} {word(rng, test)}".capitalize()
        return rng.choice([str.title, str.upper, str])(word(rng, test))

    return pick(rng, make, test)


def places(rng: random.Random, size: draw.Size, top: float, points: int) -> Iterator[tuple[float, ...]]:
    """Left and top of parts, and the width to fill, 0 for their own; in rows and columns, or anywhere."""
    width, height = size
    if rng.random() < 0.5:
        for _ in range(60):
            yield rng.uniform(4, width - 40), rng.uniform(top, height - 30), 0
        return
    columns = rng.randint(1, max(1, width // (8 * points)))
    rows = rng.randint(2, max(2, min(9, int((height - top) / (2.8 * points)))))
    column, row = width / columns, (height - top) / rows
    fill = rng.choice([0, rng.uniform(0.6, 0.92) * column])
    indent = rng.uniform(0, column - fill) if fill else rng.uniform(0, 0.15) * column
    cells = [(x, y) for x in range(columns) for y in range(rows)]
    if rng.random() < 0.7:
        rng.shuffle(cells)
    drop = rng.uniform(0, max(0, row - 2 * points))  # where in its row a part stands
    for x, y in cells:
        yield 4 + x * column + indent, top + y * row + drop, fill


def screen(rng: random.Random, test: bool, size: draw.Size) -> View:
    """A window with buttons, links, fields and boxes to tick, apart from each other."""
    width, height = size
    ground = rng.choice([(255, 255, 255), (240, 240, 240), draw.light(rng), draw.light(rng), (40, 40, 45)])
    picture = Image.new("RGB", size, ground)
    pen = ImageDraw.Draw(picture)
    points = rng.randint(14, 24)
    face = draw.random_font(rng, points)
    ink = draw.ink_on(rng, ground)
    fills = [draw.any_colour(rng) for _ in range(rng.choice([1, 1, 2, 4]))]
    fills += [tuple([rng.randint(190, 230)] * 3), draw.light(rng)][: rng.randint(0, 2)]
    edge, thick = rng.choice([None, ink, (0, 0, 0), draw.any_colour(rng)]), rng.choice([1, 1, 2, 3])
    roundness = rng.choice([0, rng.randint(1, 6), rng.randint(2, 14)])
    letters: list[draw.Letters] = []
    parts: list[tuple[str, str, tuple[float, ...]]] = []  # kind, label, box
    taken: list[tuple[float, ...]] = []
    top = 6.0
    if rng.random() < 0.4:
        bar = draw.any_colour(rng)
        pen.rectangle((0, 0, width, points + 12), bar)
        letters.append(draw.write(pen, (8, 4), word(rng, test).title(), draw.ink_on(rng, bar), face))
        top += points + 14
    kinds = rng.choice([["button"], ["button"] * 3 + ["field", "tick", "link"], ["button", "link", "tick"]])
    padding = rng.uniform(16, 60), rng.uniform(1.5, 2.4)
    most = rng.randint(2, 10)
    for x, y, fill in places(rng, size, top, points):
        if len(parts) >= most:
            break
        kind = rng.choice(kinds)
        text = label(rng, test)
        long = face.getlength(text)
        spare = {"button": padding[0], "field": rng.uniform(70, 160), "tick": points + 10.0, "link": 0.0}
        w = max(long + spare[kind], fill if kind in ("button", "field") else 0)
        h = points * (padding[1] if kind in ("button", "field") else 1.3)
        if x + w > width - 4 or y + h > height - 4:
            continue
        box = (x, y, x + w, y + h)
        if text.lower() in [t.lower() for _, t, _ in parts] or any(
            x < right + 8 and left < x + w + 8 and y < bottom + 8 and above < y + h + 8
            for left, above, right, bottom in taken
        ):
            continue
        taken.append(box)
        middle = y + h / 2 - 0.6 * points
        if kind == "button":
            colour = rng.choice(fills)
            pen.rounded_rectangle(box, min(roundness, h / 2), colour, edge, thick)
            at = (x + (w - long) / 2, middle)
            letters.append(draw.write(pen, at, text, draw.ink_on(rng, colour), face))
        elif kind == "field":
            letters.append(draw.write(pen, (x, middle), text, ink, face))
            box = (x + long + 8, y, x + w, y + h)
            pen.rectangle(box, (255, 255, 255), (120, 120, 120))
        elif kind == "tick":
            side = 0.9 * points
            pen.rectangle((x, y + 3, x + side, y + 3 + side), (255, 255, 255), (90, 90, 90), 2)
            letters.append(draw.write(pen, (x + side + 6, middle), text, ink, face))
        else:
            letters.append(draw.write(pen, (x, middle), text, ink, face))
            if rng.random() < 0.5:
                pen.line((x, y + h, x + w, y + h), ink)
        parts.append((kind, text, box))
    if not parts:
        return screen(rng, test, size)
    return View(
        "screen", draw.worn(rng, picture), letters=letters, parts=[box for _, _, box in parts], truth=parts
    )


# Labels that serve one end, and what is said by those who have it.
MEANT = {name.removeprefix("meant "): said for name, said in WORDINGS.items() if name.startswith("meant ")}
NEAR = [  # of these labels another might be what is meant, too
    "Send|Submit|Share|Upload|Reply|Finish|Apply|OK|Save|Export|Yes|Accept|Next|Continue|Sign up|Register",
    "Send|Submit|Share|Reply|Post|Deliver|Show|Answer|Write|Forward|Agree|Join|Turn|Page",
    "Cancel|Not now|Close|Exit|Stop|Back|No|Decline|Undo|Clear|Log out|Sign out|Pause|Finish",
    "Cancel|Close|Exit|Stop|Back|Pause|Log out|Sign out|Leave|End|Forget|Wait|Hold|Break",
    "Cancel|Delete|Remove|Clear|Undo|Home|Close",
    "Buy|Check out|Add to cart|Add|My orders|Accept|OK|Yes|Continue|Next|Pay|Order|Basket|Shop",
    "Login|Sign in|Sign up|Register|Account|Join|Enter|Member",
    "Help|Learn more|Details|Contact us|Info|Guide|Learn|Explain|Support|Question|Contact|Phone",
    "Refresh|Retry|Try again|Redo|Undo|Back|Repeat|Again|Update|Return|Reverse",
    "Play|Start|Music|View|Preview|Open|Continue|Listen|Hear|Watch|Movie|Film|Song",
    "Search|Filter|Maps|Find|Look",
    "Settings|Options|Tools|Account|Menu|Edit|Change|Control",
    "Photos|View|Open|Preview|Photo|Picture|Gallery|Image|Camera|Album",
    "Edit|Undo|Clear|Delete|Options|Change|Correct|Write",
    "Messages|Contact us|Reply|Message|Post|Letter|Read",
    "Save|Download|Export|Print|Copy|Share|Keep|Store|Paper|Double",
    "Download|Upload|Import|Open|Add",
    "Copy|Add|Paste",
    "Back|Home|Menu|Undo|Start|Return",
]


def wish(rng: random.Random, text: str, labels: list[str]) -> str | None:
    """What someone says who wants what a button does; None if another serves it too, or it is not known."""
    for serve, said in MEANT.items():
        near = [serve, *(group for group in NEAR if text in group.split("|"))]
        near_it = {one.lower() for group in near for one in group.split("|")}
        if text in serve.split("|") and near_it & {one.lower() for one in labels} == {text.lower()}:
            return rng.choice(said)
    return None


CALLED = {"button": "button", "field": "field", "tick": "checkbox", "link": "link"}


def place_of_part(rng: random.Random, view: View, test: bool) -> Sample:
    """The box of a button, a link, a field or a box to tick."""
    assert view.picture
    kind, text, box = rng.choice(view.truth)
    question = worded(rng, "box of a part", CALLED[kind], text)
    edges = thousandths(box, view.picture.size)
    line = json.dumps({"bbox_2d": list(edges), "label": text}, ensure_ascii=False)
    return ask("boxes", question, f"```json\n[\n\t{line}\n]\n```", view, boxes=[edges], spelled=(text,))


def in_turn(*said: str) -> str:
    """Sentences one after the other, the empty ones left out, with a mark at the end of each but the last."""
    *before, last = filter(None, said)
    return " ".join([*(one if one[-1] in ".?!" else one + "." for one in before), last])


def click(rng: random.Random, view: View, test: bool) -> Sample:
    """The next action for what is asked, in JSON; or that there is no such thing."""
    assert view.picture
    kind, text, box = rng.choice(view.truth)
    edges = thousandths(box, view.picture.size)
    place = [round((edges[0] + edges[2]) / 2), round((edges[1] + edges[3]) / 2)]
    form = worded(rng, "as JSON") if rng.random() < 0.6 else ""
    if rng.random() < 0.12:
        text = label(rng, test)
        if text.lower() not in [t.lower() for _, t, _ in view.truth]:
            question = in_turn(worded(rng, "click a button", text), form)
            return ask("click", question, f"There is no {text}.", view)
        kind, text, box = next(part for part in view.truth if part[1].lower() == text.lower())
        edges = thousandths(box, view.picture.size)
        place = [round((edges[0] + edges[2]) / 2), round((edges[1] + edges[3]) / 2)]
    answer = json.dumps({"action": "left_click", "coordinate": place})
    wanted = wish(rng, text, [label for _, label, _ in view.truth]) if kind in ("button", "link") else None
    if wanted and rng.random() < 0.5:
        where = worded(rng, "where to click") if rng.random() < 0.5 else ""
        return ask("click", in_turn(wanted, where, form), answer, view, target=edges)
    if kind == "field" and rng.random() < 0.25:  # it was clicked; now comes the text
        typed = line(rng, test)
        question = worded(rng, "type into a field", text, typed)
        return ask("click", question, json.dumps({"action": "type", "text": typed}, ensure_ascii=False), view)
    return ask("click", in_turn(worded(rng, f"click a {kind}", text), form), answer, view, target=edges)
