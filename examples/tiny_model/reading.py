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
from sample import Sample, View, among, ask, marks, thousandths, times
from wordings import WORDINGS, worded
from words import (
    COLOURS,
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


BEGINNINGS = """re un dis inter over under trans micro thermo hydro photo counter super sub pre con de ex
per auto electro mis non multi tele""".split()
STEMS = """frig know gram scrip port form struct press duct pend vent grat mand flect fract rupt mit spect
tract dict graph logic meter nation culm labor margin valid critic signal person medic organ tempor vocal
lumin""".split()
ENDINGS = """ation ment ing ness ology able ible ically ive ist ism ity ator eration edgement ization ance
ence ional ished ly ous ular""".split()


LONG_WORDS = """appointment registration information restaurant international development environment
government transportation construction maintenance laboratory congratulations understanding championship
photography temperature thunderstorm refrigerator professional responsible communication administration
architecture neighbourhood independent conversation imagination anniversary celebration breakfast
headquarters workshop playground basketball volleyball toothbrush wheelchair newspaper supermarket pharmacy
department entrance escalator elevator reception passenger departure arrival destination luggage customs
immigration currency exchange membership subscription newsletter discount clearance guarantee warranty
electricity equipment instruction regulation prohibited restricted authorised personnel emergency
assistance ambulance firefighter police hospital vaccination prescription medicine allergy vegetarian
gluten organic recycling pollution volunteer charity orchestra exhibition performance rehearsal director
university scholarship certificate examination mathematics chemistry psychology philosophy literature
geography biology engineering technology algorithm keyboard microphone headphones password""".split()


def long_word(rng: random.Random) -> str:
    """A long one, or one that is built as they are: 'interpressation'."""
    if rng.random() < 0.5:
        return rng.choice(LONG_WORDS)
    inner = rng.choice(BEGINNINGS) if rng.random() < 0.15 else ""
    return rng.choice(["", *BEGINNINGS]) + rng.choice(STEMS) + inner + rng.choice(ENDINGS)


def word(rng: random.Random, test: bool) -> str:
    """Known, made up or, in training, letters in no order: what stands there counts, not what fits."""

    def make() -> str:
        kind = rng.random()
        if kind < 0.25:
            return rng.choice(WORDS)
        if kind < 0.5:
            return rng.choice(MORE_WORDS)
        if kind < 0.6 or test:
            return made_up(rng, rng.randint(1, 2))
        if kind < 0.7:
            return long_word(rng)
        if kind < 0.76:
            return made_up(rng, rng.randint(3, 4))
        if kind < 0.87:
            return blended(rng)
        first = rng.choice(string.ascii_lowercase.replace("l", ""))  # many fonts draw it as they draw I
        return first + "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(1, 6)))

    while len(found := pick(rng, make, test)) == 1:  # a lone o looks as 0 does
        pass
    return found


SIGNED = ["${}", "${}", "{} EUR", "€{}", "{}", "£{}"]
ENDS = "||||.|.|!|?|...|:|,|;| -| -|!!|)"  # of a line of words


def price(rng: random.Random) -> str:
    return f"{rng.randrange(10 ** rng.randint(1, 3))}.{rng.randrange(100):02}"


def date(rng: random.Random) -> str:
    """In one of the ways that people write it, the year perhaps left out."""
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1960, 2040)
    form = among(
        rng,
        "{y}-{m:02}-{d:02}|{y}-{m:02}-{d:02}|{d}.{m}.{y}|{d:02}.{m:02}.{y}|{d:02}/{m:02}/{y}|{d:02}/{m:02}/{y}|"
        "{m}/{d}/{y}|{y}/{m:02}/{d:02}|{d:02}-{m:02}-{y}|{d} {M} {y}|{d} {M} {y}|{M} {d}, {y}|{d} {N} {y}|"
        "{N} {d}, {y}|{d} {M}|{M} {d}|{d} {N}|{d}-{N}-{y}",
    )
    called = MONTHS[month - 1]
    return form.format(d=day, m=month, y=year, M=called, N=called[:3])


def clock(rng: random.Random, first: int = 0, last: int = 23) -> str:
    """A time of day, its hour with a zero before it or not."""
    hour, minute = rng.randint(first, last), rng.choice([0, 15, 30, 45, rng.randrange(60)])
    return f"{hour:02}:{minute:02}" if rng.random() < 0.5 else f"{hour}:{minute:02}"


def phone(rng: random.Random) -> str:
    """In one of the ways that people write it."""
    pattern = among(
        rng, "### ###|### ### ###|### ####|###-####|###-####|(###) ###-####|+## ## #### ####|+# ### ### ####|"
        "+## ### #######|0### ######|0## ### ## ##|0###/######",
    )  # fmt: skip
    return "".join(rng.choice("123456789") if sign == "#" else sign for sign in pattern)


def email(rng: random.Random, test: bool) -> str:
    return f"{word(rng, test)}{rng.choice(['', '', f'.{word(rng, test)}'])}@{site(rng, test)}"


def site(rng: random.Random, test: bool) -> str:
    name = word(rng, test) + rng.choice(["", "", f"-{word(rng, test)}"])
    return f"{name}.{among(rng, 'com|com|org|net|io|co.uk|de')}"


def code(rng: random.Random, test: bool) -> str:
    """Letters, figures and marks in one run: passwords, numbers of orders, names of files and networks."""
    number = rng.randrange(2, 10 ** rng.randint(1, 5))  # beside letters 0 and 1 look as O and l do
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    form = among(
        rng,
        "{a}-{b}|{a}_{b}|{a}{n}|{a}{n}{b}|{n}{a}|{A}{B}|{a}{B}|{c}-{n}|{c}{n}|{c} {n}|{n}-{c}|#{n}|{a}.pdf|"
        "{a}_{n}.txt|No. {n}|{s}|www.{s}|{s}/{a}|{n}%|{a}#{n}|{a}&{b}|{A}/{B}|{a}@{s}",
    )  # fmt: skip
    one, other = word(rng, test), word(rng, test)
    return form.format(a=one, b=other, A=one.title(), B=other.title(), n=number, c=letters, s=site(rng, test))


NUMBERED = """Room|Platform|Gate|Bus|Line|Exit|Floor|Track|Seat|Bay|Level|Table|Locker|Route|Zone|Hall|
Desk|Unit|Door|Tram|Page|Chapter|Lane|Stop|Terminal|Section|Box|Ticket|Step|Lesson|Building|Error|Channel|
Class|Team|Group""".replace("\n", "").split("|")
NAMED = """Password|Network|WiFi|Code|PIN|Name|Owner|Topic|Teacher|Contact|Address|Status|Model|Size|Type|
Subject|Author|Location|Driver|Captain|Winner|Speaker|Guest|Host|Key|Colour|Dish|Special|Username|Website|
Version|Order|Department|Phone|Price|Time|Date|Score|Speed|Limit|Weight|Height|Age|Deadline|Start|Fee|
Entry|Distance|Temperature""".replace("\n", "").split("|")
FIGURES = {
    "Phone": lambda rng: phone(rng), "Price": lambda rng: rng.choice(SIGNED).format(price(rng)),
    "Fee": lambda rng: rng.choice(SIGNED).format(price(rng)), "Time": clock, "Start": clock, "Date": date,
    "Deadline": date, "Score": lambda rng: f"{rng.randrange(20)}:{rng.randrange(20)}",
    "Speed": lambda rng: f"{rng.randrange(10, 300)} km/h", "Limit": lambda rng: str(rng.randrange(5, 200)),
    "Weight": lambda rng: f"{rng.randrange(1, 99)} kg", "Height": lambda rng: f"{rng.randrange(50, 230)} cm",
    "Age": lambda rng: str(rng.randrange(1, 99)), "Distance": lambda rng: f"{rng.randrange(1, 900)} km",
    "Temperature": lambda rng: f"{rng.randrange(-20, 40)} C", "PIN": lambda rng: f"{rng.randrange(10**4):04}",
}  # fmt: skip


def numbered(rng: random.Random) -> str:
    """'Room 214', 'GATE B7'."""
    letter = rng.choice(["", "", "", rng.choice("ABCDEFGH")])
    number = f"{letter}{rng.randrange(1, 10 ** rng.randint(1, 3))}"
    return rng.choice([str, str, str.upper])(f"{rng.choice(NUMBERED)} {number}")


def named(rng: random.Random, test: bool) -> str:
    """'Password: blue42sky'."""
    label = rng.choice(NAMED)
    if label in FIGURES:
        value = FIGURES[label](rng)
    elif rng.random() < 0.4:
        value = code(rng, test)
    else:
        words = [word(rng, test) for _ in range(rng.choice([1, 1, 2]))]
        value = rng.choice([str.title, str])(" ".join(words))
    return f"{label}: {value}"


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
            # not I and O, which many fonts draw as they draw l and 0, and no N0, which looks as NO does
            return rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") + str(rng.randrange(2, 10 ** rng.randint(1, 3)))
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
    """A word, a few, a notice, what has a label, a code, a number, a price, a time or a date."""
    share = rng.random()
    if share < 0.27:
        return notice(rng, test)
    if share < 0.34:
        return numbered(rng)
    if share < 0.43:
        return named(rng, test)
    if share < 0.48:
        return code(rng, test)
    kind = rng.random()
    if kind < 0.45:
        return rng.choice([str.lower, str.lower, str.title, str.upper])(word(rng, test))
    if kind < 0.7:
        words = " ".join(word(rng, test) for _ in range(rng.randint(2, 4)))
        return rng.choice([str, str.capitalize, str.title, str.upper])(words) + among(rng, ENDS)
    if kind < 0.82:
        return str(rng.randrange(10 ** rng.randint(1, 7)))
    if kind < 0.92:
        return rng.choice(SIGNED).format(price(rng))
    return clock(rng) if kind < 0.96 else date(rng)


def page(rng: random.Random, test: bool, size: draw.Size) -> View:
    """Lines, one under the other, in one font, the first perhaps larger; a large picture has more."""
    width, height = size
    most = min(MOST_LINES, height // 55)
    count = rng.choice([1, 1, 1, 2, 3]) if rng.random() < 0.5 else rng.randint(1, most)
    lines = [line(rng, test) for _ in range(count)]
    largest = min(height // (count + 1), rng.randint(22, 64) if rng.random() < 0.8 else rng.randint(64, 130))
    for points in range(max(largest, 14), 12, -2):
        face = draw.random_font(rng, points, "".join(lines))
        faces = [face] * count
        if count > 1 and rng.random() < 0.25:  # a heading
            faces[0] = draw.random_font(rng, round(1.3 * points), lines[0])
        longs = [own.getlength(text) for own, text in zip(faces, lines, strict=True)]
        if max(longs) < width - 16 and 1.3 * points * (count + 0.5) < height - 8:
            break
    else:
        return page(rng, test, size)
    picture, ground = draw.background(rng, size)
    ink = draw.ink_on(rng, ground)
    pen = ImageDraw.Draw(picture)
    high = count + (0.3 if faces[0] is not faces[-1] else 0)  # in lines
    pitch = min(rng.uniform(1.25, 2) * points, (height - 8) / high)
    y = rng.uniform(4, max(5, height - 4 - pitch * high))
    align = rng.choice(["left", "any", "middle"])
    left = rng.uniform(6, max(7, width - 10 - max(longs)))
    letters, boxes = [], []
    for text, face, long in zip(lines, faces, longs, strict=True):
        spare = width - 8 - long
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
        y += pitch * (1.3 if face is not faces[-1] else 1)
    return View("page", draw.worn(rng, picture), letters=letters, parts=boxes, truth=lines)


ONLY_WORDS = re.compile(r"[A-Za-z]+( [A-Za-z]+)*")
MORE_NUMBERS = "zero eleven twelve twenty hundred thousand million".split()
PLACES = ["first", "second", "third", "fourth", "fifth"]
IN_FIGURES = ["1st", "2nd", "3rd", "4th", "5th"]


def place_in(rng: random.Random, number: int, count: int) -> str | None:
    """The second, the 2nd, the last; None of those that people count to no more."""
    if number == count - 1 and (number >= len(PLACES) or rng.random() < 0.5):
        return "last"
    return rng.choice([*[PLACES] * 4, IN_FIGURES])[number] if number < len(PLACES) else None


A_NUMBERED = re.compile(rf"({'|'.join(NUMBERED)}) ([A-H]?\d+)", re.IGNORECASE)
A_NAMED = re.compile(r"([A-Z][A-Za-z]+): (.+)")
A_PRICE = re.compile(r"[$€£]?(?<![\d.])\d+\.\d\d(?![\d.])( EUR)?")
A_TIME = re.compile(r"(?<![\d:])\d{1,2}:\d\d(?![\d:])")
_MONTH = rf"(?:{'|'.join(f'{month}|{month[:3]}' for month in MONTHS)})"
A_DATE = re.compile(
    rf"\b(\d+([-./])\d+\2\d+|\d+[ -]{_MONTH}([ -]\d{{4}}|\b)|{_MONTH} \d{{1,2}}(, \d{{4}}|\b))", re.IGNORECASE
)
Found = list[tuple[str, tuple[str, ...], str]]  # by which wordings, what is named in them, the answer


def in_numbers(parts: list[str]) -> str:
    """Each behind its number."""
    return ", ".join(f"{number} {one}" for number, one in enumerate(parts, 1))


def counted(parts: list[str], what: str) -> str:
    """Each with its number, then how many there are."""
    return f"{in_numbers(parts)}. {times(len(parts), what)}"


def of_words(rng: random.Random, lines: list[str]) -> Found:
    """Which word comes first or last, how many there are, and their letters."""
    found: Found = []
    bare = [text.rstrip(".!?") for text in lines]
    words = " ".join(bare).split()
    if all(ONLY_WORDS.fullmatch(text) for text in bare) and len(words) <= MOST_WORDS:
        found.append(("how many words", (), counted(words, "word")))
    for number, text in enumerate(bare):
        place = place_in(rng, number, len(lines))
        if place and ONLY_WORDS.fullmatch(text) and " " in text:
            end = "" if len(lines) == 1 else " of a line"
            found.append((f"first word{end}", (place,), text.split()[0]))
            found.append((f"last word{end}", (place,), text.split()[-1]))
            if end:
                found.append(("how many words of a line", (place,), counted(text.split(), "word")))
    if len(words) == 1 and ONLY_WORDS.fullmatch(words[0]) and 1 < len(words[0]) <= MOST_WORDS:
        found.append(("spell the word", (), "-".join(words[0])))
        found.append(("how many letters", (), counted([*words[0]], "letter")))
    return found


def of_places(lines: list[str]) -> Found:
    """Which line stands where, and where a line stands."""
    found: Found = []
    alone = [sum(one in text for text in lines) == 1 for one in lines]
    for number, (above, below) in enumerate(pairwise(lines)):
        if alone[number]:
            found.append(("line below", (above,), below))
        if alone[number + 1]:
            found.append(("line above", (below,), above))
        if number and alone[number - 1] and alone[number + 1]:
            found.append(("line between", (lines[number - 1], below), above))
    if len(lines) > 1:
        found += [("top line", (), lines[0]), ("bottom line", (), lines[-1])]
        for number, text in enumerate(lines, 1):  # counted as they are told, down to this one
            told = in_numbers(lines[:number])
            if alone[number - 1]:
                found.append(("number of a line", (text,), f"{told}. Line {number}."))
    if len(lines) > 2:
        found.append(("line before the last", (), lines[-2]))
        if len(lines) % 2:
            found.append(("middle line", (), lines[len(lines) // 2]))
    for text in lines:
        for one in re.findall("[A-Za-z]{3,}", text):
            if " " in text and sum(one.lower() in other.lower() for other in lines) == 1:
                found.append(("line with a word", (one,), text))
    return found


def of_several(lines: list[str]) -> Found:
    """More than one line, and one by its number. "Read both lines." was answered with the first one, "Read
    all four lines." with the last, as each question with "line" in it had asked for one."""
    count = len(lines)
    word, everything = NUMBERS[count - 1], "\n".join(lines)
    every = ["both", "the two"] if count == 2 else [f"all {word}", f"all {count}", f"the {word}"]
    found: Found = [("so many lines", (one,), everything) for one in every]
    for some in range(2, min(count, 4)):
        for said in NUMBERS[some - 1], str(some):
            found.append(("lines at an end", (f"first {said}",), "\n".join(lines[:some])))
            found.append(("lines at an end", (f"last {said}",), "\n".join(lines[-some:])))
    for at in range(count):
        found += [("line by its number", (said,), lines[at]) for said in (NUMBERS[at], str(at + 1))]
    for at, (above, below) in enumerate(pairwise(lines), 1):
        found.append(("two lines by number", (str(at), str(at + 1)), f"{above}\n{below}"))
    if count > 2:
        found.append(("all lines but one", ("first",), "\n".join(lines[1:])))
        found.append(("all lines but one", ("last",), "\n".join(lines[:-1])))
    return found


def of_values(lines: list[str]) -> Found:
    """The one number, price, time or date, and what has a label."""
    found: Found = []
    text = "\n".join(lines)
    numbers, letters = re.findall(r"\d+", text), {*re.findall("[a-z]+", text.lower())}
    if len(numbers) == 1 and numbers[0] in text.split() and not {*NUMBERS, *MORE_NUMBERS} & letters:
        found.append(("number on it", (), numbers[0]))
    for asked_by, pattern in ("price on it", A_PRICE), ("time on it", A_TIME), ("date on it", A_DATE):
        values = [one[0] for one in pattern.finditer(text)]
        if len(values) == 1 and "score" not in letters:
            found.append((asked_by, (), values[0]))
    for asked_by, pattern in ("which number of a thing", A_NUMBERED), ("a labelled value", A_NAMED):
        for one in filter(None, map(pattern.fullmatch, lines)):
            if text.lower().count(one[1].lower()) == 1:
                found.append((asked_by, (one[1].lower(),), one[2]))
    return found


def of_truth(rng: random.Random, lines: list[str], test: bool) -> Found:
    """Whether it says so, or which of two."""
    text = "\n".join(lines).lower()
    words = [one for part in lines for one in part.rstrip(".!?").split() if ONLY_WORDS.fullmatch(one)]
    found: Found = [("does it say", (rng.choice([*lines, *words]),), "Yes.")]
    other = line(rng, test)
    if words and rng.random() < 0.6:  # not much else than what stands there
        one, near = rng.choice(words), word(rng, test)
        here = {*re.findall(rf"\b{one}\b", "\n".join(lines), re.IGNORECASE)}  # not Flower and flower
        if near.lower() not in text and len(here) == 1:
            found.append(("which of two words", tuple(rng.sample([one.lower(), near.lower()], 2)), one))
            other = rng.choice(lines).replace(one, near.title() if one.istitle() else near)
    if other.lower() not in text:
        found.append(("does it say", (other,), "No."))
    return found


def asked_of_lines(rng: random.Random, lines: list[str], test: bool) -> tuple[str, str]:
    """What is less than all that stands there, or is true of it."""
    found: Found = [
        ("how many lines", (), str(len(lines))),
        *of_words(rng, lines), *of_places(lines), *of_values(lines), *of_truth(rng, lines, test),
    ]  # fmt: skip
    if len(lines) > 1:
        found.append(("lines as a list", (), json.dumps(lines, ensure_ascii=False)))
    return one_of(rng, found)


def one_of(rng: random.Random, found: Found) -> tuple[str, str]:
    """A question and its answer, each of the wordings as likely as the next."""
    asked_by = rng.choice(list(dict.fromkeys(asked_by for asked_by, _, _ in found)))
    _, named, answer = rng.choice([one for one in found if one[0] == asked_by])
    return worded(rng, asked_by, *named), answer


def in_turn(*said: str) -> str:
    """Sentences one after the other, the empty ones left out, with a mark at the end of each but the last."""
    *before, last = filter(None, said)
    return " ".join([*(one if one[-1] in ".?!" else one + "." for one in before), last])


def in_context(rng: random.Random, question: str, answer: str) -> str:
    """Perhaps with a remark before it, and with how to answer behind it, which the answer does anyway."""
    before = worded(rng, "before reading") if rng.random() < 0.12 else ""
    behind = worded(rng, "yes or no" if answer in ("Yes.", "No.") else "nothing else")
    return in_turn(before, question, behind if rng.random() < 0.12 else "")


COUNTED = re.compile(r"(There (is|are) \d+ \w+|(?<=\. )Line \d+)\.$")


def asked_to_read(rng: random.Random, view: View, question: str, answer: str) -> Sample:
    spelled = () if answer in ("Yes.", "No.") else (answer,)
    number_told = COUNTED.search(answer)  # counts if a word is misread, too
    key = number_told[0] if number_told else None
    return ask("read", in_context(rng, question, answer), answer, view, spelled=spelled, key=key)


def read(rng: random.Random, view: View, test: bool) -> Sample:
    lines = view.truth
    share = rng.random()
    number = rng.randrange(len(lines))
    place = place_in(rng, number, len(lines))
    if share < 0.42:
        question, answer = asked_of_lines(rng, lines, test)
    elif len(lines) > 1 and place and share < 0.55:
        question, answer = worded(rng, "one line", place), lines[number]
    elif len(lines) > 1 and share < 0.65:
        question, answer = one_of(rng, of_several(lines))
    else:
        surface = among(rng, "sign|label|note|card|board|page|poster|picture|image|plate|door|ticket|screen")
        question, answer = worded(rng, "all lines", surface), "\n".join(lines)
    return asked_to_read(rng, view, question, answer)


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
    found = marks([{"bbox_2d": list(edges), "label": text}])
    return ask("boxes", question, found, view, boxes=[edges], spelled=(text,))


# ---- screens

BUTTONS = """OK|Cancel|Save|Send|Delete|Open|Close|Next|Back|Help|Search|Login|Sign up|Submit|Edit|Copy|
Paste|Print|Settings|Home|Menu|Start|Stop|Play|Pause|Upload|Download|Yes|No|Add|Remove|Buy|Share|Reply|
Apply|Undo|Redo|Refresh|Continue|Exit|New file|Log out|Check out|Add to cart|Sign in|Register|Accept|
Decline|Details|Filter|Sort|Export|Import|Preview|Finish|Retry|Options|Account|Messages|Photos|Music|Maps|
View|Tools|Clear|Zoom in|Select all|Try again|Not now|Learn more|Contact us|My orders|Sign out|Log in|
Forgot password?|Reset password|Mute|Full screen|Zoom out|Record|Skip|Notifications|Profile|Language|
Dark mode|Install|Restart|Shut down|Cut|Subscribe|Unsubscribe|Like|Follow|Attach file|Book now|
Track order|Move up|Rename|Archive|Report|Block|Insert|Format|Calendar|Keep editing|Discard|Don't save|
Update now|Later|Email|Password|Username|Name|Phone|Address|Remember me""".replace("\n", "").split("|")


Part = tuple[str, str, tuple[float, ...]]  # kind, label, box


def label(rng: random.Random, test: bool) -> str:
    """Of usual ones none is held out: what they serve for can't be told from their letters."""
    if rng.random() < 0.45:
        return rng.choice(BUTTONS)

    def make() -> str:
        kind = rng.random()
        if kind < 0.27:
            return rng.choice([str.title, str.title, str.upper])(rng.choice(MORE_WORDS))
        if kind < 0.42:
            return f"{word(rng, test)} {word(rng, test)}".capitalize()
        return rng.choice([str.title, str.upper, str])(word(rng, test))

    return pick(rng, make, test)


def dialog(rng: random.Random, test: bool) -> str:
    """What a window says or asks above its buttons."""
    form = among(
        rng,
        "{0}|{0} {1}|Delete {0}?|Save {0}?|Close {0}?|{0} is not saved|Your {0} is ready|Welcome to {0}|"
        "{0} failed|Do you want to keep {0}?|Open {0} now?|New {0}|Are you sure?|{0} was sent|Choose a {0}|"
        "{0} settings|Leave {0}?",
    )  # fmt: skip
    said = form.format(word(rng, test), word(rng, test))
    return said[0].upper() + said[1:]


def places(rng: random.Random, size: draw.Size, top: float, points: int) -> Iterator[tuple[float, ...]]:
    """Left and top of parts, and the width to fill, 0 for their own; in rows and columns, or anywhere."""
    width, height = size
    kind = rng.random()
    if kind < 0.12:  # in one row, as dialogs have them
        columns, y = rng.randint(2, 3), rng.uniform(0.45, 0.85) * height
        for x in range(columns):
            yield 4 + x * width / columns + rng.uniform(0, 0.1) * width / columns, max(y, top), 0
        return
    if kind < 0.5:
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
    paints = [draw.any_colour(rng) for _ in range(2)]
    paints += [draw.shade(rng, one) for one in rng.sample(list(COLOURS), 4)]
    fills = rng.sample(paints, rng.choice([1, 1, 2, 4]))
    fills += [tuple([rng.randint(190, 230)] * 3), draw.light(rng)][: rng.randint(0, 2)]
    edge, thick = rng.choice([None, ink, (0, 0, 0), draw.any_colour(rng)]), rng.choice([1, 1, 2, 3])
    roundness = rng.choice([0, rng.randint(1, 6), rng.randint(2, 14)])
    if edge is None or draw.distance(edge, ground) < 60:  # else a button looks as a link does
        fills = [fill for fill in fills if draw.distance(fill, ground) > 40] or [ink]
    letters: list[draw.Letters] = []
    parts: list[Part] = []
    colours: dict[str, str] = {}
    taken: list[tuple[float, ...]] = []
    top = 6.0
    does: list[str] = []
    if rng.random() < 0.4:
        bar = draw.any_colour(rng)
        pen.rectangle((0, 0, width, points + 12), bar)
        letters.append(draw.write(pen, (8, 4), word(rng, test).title(), draw.ink_on(rng, bar), face))
        top += points + 14
    if rng.random() < 0.3:  # what it asks or is about
        said = dialog(rng, test)
        large = draw.random_font(rng, points + rng.choice([0, 4, 8]), said)
        long = large.getlength(said)
        if long < width - 12:
            x = rng.choice([6.0, (width - long) / 2])
            letters.append(draw.write(pen, (x, top + 4), said, ink, large))
            left, above, right, below = large.getbbox(said)
            parts.append(("text", said, (x + left, top + 4 + above, x + right, top + 4 + below)))
            does = [verb for verb in said.split()[:1] if verb in BUTTONS]  # and a button that does so
            top += 2.2 * points
    kinds = rng.choice([["button"], ["button"] * 3 + ["field", "tick", "link"], ["button", "link", "tick"],
                        ["button", "field", "field", "link"]])  # fmt: skip
    label_at = rng.choice(["beside", "beside", "above", "inside"])  # of a field
    gap = rng.choice([8.0, rng.uniform(8, 60)])  # between a field and the label beside it
    padding = rng.uniform(16, 60), rng.uniform(1.5, 2.4)
    most = rng.randint(2, 10)
    for x, y, fill in places(rng, size, top, points):
        if len(parts) >= most:
            break
        kind = rng.choice(kinds)
        text = does.pop() if does and kind == "button" else label(rng, test)
        long = face.getlength(text)
        spare = {"button": padding[0], "field": gap + rng.uniform(60, 150)}
        spare |= {"tick": points + 10.0, "link": 0.0}
        w = max(long + spare[kind], fill if kind in ("button", "field") else 0)
        h = points * (padding[1] if kind in ("button", "field") else 1.3)
        over = 1.5 * points if kind == "field" and label_at == "above" else 0
        h += over
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
            if name := draw.colour_name(colour):
                colours[text] = name
            pen.rounded_rectangle(box, min(roundness, h / 2), colour, edge, thick)
            at = (x + (w - long) / 2, middle)
            letters.append(draw.write(pen, at, text, draw.ink_on(rng, colour), face))
        elif kind == "field":
            beside = long + gap if label_at == "beside" else 0
            box = (x + beside, y + over, x + w, y + h)
            pen.rectangle(box, (255, 255, 255), (120, 120, 120))
            inner, grey = (x + 8, middle), (rng.randrange(160),) * 3
            if label_at == "inside":
                letters.append(draw.write(pen, inner, text, grey, face))
            else:
                letters.append(draw.write(pen, (x, y if over else middle), text, ink, face))
        elif kind == "tick":
            side = 0.9 * points
            pen.rectangle((x, y + 3, x + side, y + 3 + side), (255, 255, 255), (90, 90, 90), 2)
            letters.append(draw.write(pen, (x + side + 6, middle), text, ink, face))
        else:
            letters.append(draw.write(pen, (x, middle), text, ink, face))
            if rng.random() < 0.5:
                pen.line((x, y + h, x + w, y + h), ink)
        parts.append((kind, text, box))
    if all(kind == "text" for kind, _, _ in parts):
        return screen(rng, test, size)
    boxes = [box for _, _, box in parts]
    return View("screen", draw.worn(rng, picture), letters=letters, parts=boxes, truth=parts, colours=colours)


# Labels that serve one end, and what is said by those who have it.
MEANT = {name.removeprefix("meant "): said for name, said in WORDINGS.items() if name.startswith("meant ")}
AIMS = {name.removeprefix("aim "): said for name, said in WORDINGS.items() if name.startswith("aim ")}
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
    "Login|Log in|Sign in|Forgot password?|Reset password|Password|Account",
    "Help|Forgot password?|Reset password|Settings|Profile|Account|Edit",
    "Zoom in|Zoom out|Full screen|View",
    "Refresh|Restart|Update now|Retry|Try again|Install",
    "Shut down|Close|Exit|Stop|Log out|Sign out|Restart",
    "Delete|Remove|Clear|Discard|Don't save|Cut|Archive|Undo",
    "Save|Keep editing|Archive|Copy|Cut|Paste|Insert",
    "Cancel|Not now|Later|Skip|Keep editing|Decline|No|Don't save|Discard",
    "Next|Continue|Skip|Later|Play",
    "Subscribe|Follow|Like|Sign up|Register|Notifications|Share|Messages",
    "Unsubscribe|Decline|Delete|Remove|Block|Cancel",
    "Messages|Notifications|Email|Reply|Mail",
    "Attach file|Upload|Insert|Add|Import|New file",
    "Buy|Book now|Check out|Add to cart|My orders|Track order|Calendar",
    "Mute|Stop|Pause|Record|Play|Music",
    "Language|Settings|Options|Dark mode|Profile|Format",
    "Profile|Account|Settings|Photos|Name",
    "Edit|Rename|Format|Insert",
    "Contact us|Report|Help|Email|Phone|Address|Messages",
    "Download|Install|Update now|Save",
]


def wish(rng: random.Random, text: str, labels: list[str]) -> str | None:
    """What someone says who wants what a button does; None if another serves it too, or it is not known."""
    for serve, said in MEANT.items():
        near = [serve, *(group for group in NEAR if text in group.split("|"))]
        near_it = {one.lower() for group in near for one in group.split("|")}
        if text in serve.split("|") and near_it & {one.lower() for one in labels} == {text.lower()}:
            if serve in AIMS and rng.random() < 0.5:
                return worded(rng, "press for an aim", rng.choice(AIMS[serve]))
            return in_turn(rng.choice(said), worded(rng, "where to click") if rng.random() < 0.4 else "")
    return None


def wished(rng: random.Random, parts: list[Part]) -> tuple[str, tuple[float, ...]] | None:
    """What someone says who wants what one of them does, and its box; None if no such wish is known."""
    labels = [text for _, text, _ in parts]
    for kind, text, box in rng.sample(parts, len(parts)):
        if kind in ("button", "link") and (wanted := wish(rng, text, labels)):
            return wanted, box
    return None


ENDS_OF_ALL = {  # by how people say it, along which axis, and whether towards the greater
    "left|leftmost": (0, False), "right|rightmost": (0, True),
    "top|topmost|upper": (1, False), "bottom|lowest|lower": (1, True),
}  # fmt: skip
TOLD_APART = {*PLACES, *IN_FIGURES, "last", *"|".join(ENDS_OF_ALL).split("|"), *COLOURS}


def told_apart(rng: random.Random, view: View) -> tuple[str, tuple[float, ...]] | None:
    """Asks for a button by its number, its place or its colour; with its box.

    While each had been called by its label, "Click the second button." was answered "There is no second."
    """
    buttons = [part for part in view.truth if part[0] == "button"]
    if len(buttons) < 2:
        return None
    boxes = {text: box for _, text, box in buttons}
    order = in_reading_order(buttons) or []
    by_number = {
        said: text for words in (PLACES, IN_FIGURES) for said, text in zip(words, order, strict=False)
    } | dict(zip(["last"], order[::-1], strict=False))
    by_place: dict[str, str] = {}
    for ways, (axis, greater) in ENDS_OF_ALL.items():
        (first, box), *others = sorted(boxes.items(), key=lambda one: one[1][axis], reverse=greater)
        edges = [edge for _, other in others for edge in (other[axis], other[axis + 2])]
        if box[axis] > max(edges) if greater else box[axis + 2] < min(edges):
            by_place |= dict.fromkeys(ways.split("|"), first)
    by_colour: dict[str, str] = {}
    if {*boxes} == {*view.colours}:
        paints = [*view.colours.values()]
        by_colour = {paint: text for text, paint in view.colours.items() if paints.count(paint) == 1}
    labels = [text.lower() for _, text, _ in view.truth]
    ways_to_say = [
        clear
        for way in (by_number, by_place, by_colour)
        if (clear := [(said, text) for said, text in way.items() if said not in labels])
    ]
    if not ways_to_say:
        return None
    said, text = rng.choice(rng.choice(ways_to_say))
    return worded(rng, "click a button there", said), boxes[text]


CALLED = {"button": "button", "field": "field", "tick": "checkbox", "link": "link", "text": "text"}


def place_of_part(rng: random.Random, view: View, test: bool) -> Sample:
    """The box of a button, a link, a field or a box to tick."""
    assert view.picture
    kind, text, box = rng.choice(view.truth)
    question = worded(rng, "box of a part", CALLED[kind], text)
    edges = thousandths(box, view.picture.size)
    found = marks([{"bbox_2d": list(edges), "label": text}])
    return ask("boxes", question, found, view, boxes=[edges], spelled=(text,))


def middle(edges: tuple[int, ...]) -> list[int]:
    return [round((edges[0] + edges[2]) / 2), round((edges[1] + edges[3]) / 2)]


def in_reading_order(parts: list[Part]) -> list[str] | None:
    """Their labels, row by row; None if it is unclear what is a row."""
    parts = sorted(parts, key=lambda part: (round(part[2][1]), part[2][0]))
    for (_, _, one), (_, _, other) in pairwise(parts):
        if round(one[1]) != round(other[1]) and other[1] < one[3]:
            return None
    return [text for _, text, _ in parts]


BESIDE = {  # by how people say it, whether it runs across, and towards the greater
    "to the right of|right of": (True, True), "to the left of|left of": (True, False),
    "below|under|beneath|underneath": (False, True), "above|over|on top of": (False, False),
}  # fmt: skip


def neighbours(rng: random.Random, parts: list[Part]) -> Found:
    """What stands beside what in a row or a column."""
    found: Found = []
    for ways, (across, greater) in BESIDE.items():
        along, level = (0, 1) if across else (1, 0)
        for _, text, box in parts:
            row = sorted(p[2] for p in parts if abs(p[2][level] - box[level]) < 2)
            row.sort(key=lambda one: one[along], reverse=not greater)
            after = row[row.index(box) + 1 :]
            if after:
                (answer,) = [label for _, label, other in parts if other == after[0]]
                found.append(("which part that way", (among(rng, ways), text), answer))
    return found


def asked_of_screen(rng: random.Random, view: View, test: bool) -> tuple[str, str] | None:
    """What there is on it; None if that is unclear."""
    parts = [part for part in view.truth if part[0] != "text"]
    buttons = in_reading_order([part for part in parts if part[0] == "button"])
    found = neighbours(rng, parts)
    if buttons:
        found += [
            ("how many buttons", (), counted(buttons, "button")),
            ("all buttons", (), ", ".join(buttons)),
        ]
        one, other = rng.choice(buttons), label(rng, test)
        found.append(("is there a button", (one,), f"Yes, there is a button that says {one}."))
        if other.lower() not in [text.lower() for _, text, _ in view.truth]:
            found.append(("is there a button", (other,), f"No, there is no button that says {other}."))
    found += [("what a window says", (), text) for kind, text, _ in view.truth if kind == "text"]
    return one_of(rng, found) if found else None


KEYS = {"enter": "enter|return", "esc": "escape|Esc", "tab": "tab", "backspace": "backspace", "f5": "F5"}
SCROLLED = {"down": -500, "up": 500}  # pixels


def without_a_place(rng: random.Random, form: str) -> tuple[str, dict[str, object]]:
    """A key, or to scroll: while each action had a place, "Scroll down." got a click on a button."""
    if rng.random() < 0.5:
        key = rng.choice(list(KEYS))
        asked, action = worded(rng, "press a key", among(rng, KEYS[key])), {"action": "key", "keys": [key]}
    else:
        way = rng.choice(list(SCROLLED))
        asked, action = worded(rng, f"scroll {way}"), {"action": "scroll", "pixels": SCROLLED[way]}
    return in_turn(asked, form), action


def acted(view: View, question: str, box: tuple[float, ...], action: str = "left_click") -> Sample:
    """In the middle of this box."""
    assert view.picture
    edges = thousandths(box, view.picture.size)
    answer = json.dumps({"action": action, "coordinate": middle(edges)})
    return ask("click", question, answer, view, target=edges)


def click(rng: random.Random, view: View, test: bool) -> Sample:
    """The next action for what is asked, in JSON; that there is no such thing; or what is on the screen."""
    assert view.picture
    if rng.random() < 0.15 and (asked := asked_of_screen(rng, view, test)):
        return asked_to_read(rng, view, *asked)
    form = worded(rng, "as JSON") if rng.random() < 0.5 else ""
    if rng.random() < 0.04:
        question, action = without_a_place(rng, form)
        return ask("click", question, json.dumps(action), view)
    found = wished(rng, view.truth) if rng.random() < 0.4 else None
    if not found and rng.random() < 0.2:
        found = told_apart(rng, view)
    if found:
        wanted, box = found
        return acted(view, in_turn(wanted, form), box)
    kind, text, box = rng.choice([part for part in view.truth if part[0] != "text"])
    called = text.lower() if rng.random() < 0.35 else text
    if rng.random() < 0.12:
        text = label(rng, test)
        if text.lower() in TOLD_APART:
            return click(rng, view, test)
        if text.lower() not in [t.lower() for _, t, _ in view.truth]:
            question = in_turn(worded(rng, "click a button", text), form)
            return ask("click", question, f"There is no {text}.", view)
        called = text
        kind, text, box = next(part for part in view.truth if part[1].lower() == text.lower())
        if kind == "text":
            return click(rng, view, test)
    if kind == "field" and rng.random() < 0.25:  # it was clicked; now comes the text
        typed = line(rng, test)
        question = worded(rng, "type into a field", text, typed)
        return ask("click", question, json.dumps({"action": "type", "text": typed}, ensure_ascii=False), view)
    share = rng.random()
    if kind == "field" and share < 0.15:
        return acted(view, in_turn(worded(rng, "a text for a field", called, line(rng, test)), form), box)
    edges = thousandths(box, view.picture.size)
    if share < 0.06:
        question = worded(rng, "point at a part", CALLED[kind], called)
        return ask("click", question, marks([{"point_2d": middle(edges), "label": text}]), view, target=edges)
    if share < 0.12 and not test:  # the scores know marks only
        answer = json.dumps(dict(zip("xy", middle(edges), strict=True)))
        question = in_turn(worded(rng, f"click a {kind}", called), worded(rng, "as x and y"))
        return ask("click", question, answer, view, target=edges)
    action = rng.choice(["right_click", "double_click", "mouse_move"]) if share > 0.9 else "left_click"
    asked_by = f"click a {kind}" if action == "left_click" else action.replace("_", " ")
    return acted(view, in_turn(worded(rng, asked_by, called), form), box, action)
