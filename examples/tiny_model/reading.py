"""What is written: lines of words, documents to JSON, and screens to click on."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterator
from itertools import pairwise

import draw
from PIL import Image, ImageDraw
from sample import Sample, View, among, ask, listed, thousandths
from words import (
    CITIES,
    FIRST_NAMES,
    FOODS,
    LITTLE_WORDS,
    MONTHS,
    MORE_WORDS,
    WEEKDAYS,
    WORDS,
    blended,
    made_up,
    pick,
)

MOST_LINES = 10


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
        face = draw.random_font(rng, points)
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


def read(rng: random.Random, view: View, test: bool) -> Sample:
    lines = view.truth
    if len(lines) > 1 and rng.random() < 0.4:
        number = rng.randrange(len(lines))
        place = ["first", "second", "third", "fourth", "fifth"][number] if number < 5 else "last"
        if place == "last" or (number == len(lines) - 1 and rng.random() < 0.5):
            place, number = "last", len(lines) - 1
        question = among(rng, "Read the {0} line.|What does the {0} line say?").format(place)
        return ask("read", question, lines[number], view, spelled=(lines[number],))
    question = among(
        rng,
        "What does it say?|Read the text.|What is written here?|Which text do you see?|What is the text in "
        "this picture?|Transcribe the text.|Read this.|What does this say?|What is written in this picture?|"
        "What does the {0} say?|Read the {0}.|What is on the {0}?|What is written on the {0}?|"
        "Can you read this {0}?|Read this {0} to me.|Which words are on the {0}?|Tell me what the {0} says.",
    ).format(among(rng, "sign|label|note|card|board|page|poster|picture|image|plate|door|ticket"))
    answer = "\n".join(lines)
    return ask("read", question, answer, view, spelled=(answer,))


def place_of_line(rng: random.Random, view: View, test: bool) -> Sample:
    """Where a line stands: its box."""
    assert view.picture
    lines = view.truth
    number = rng.randrange(len(lines))
    text = lines[number]
    if lines.count(text) > 1:
        return read(rng, view, test)
    question = among(
        rng, "Locate the text {0}. Answer with bbox_2d and label in JSON.|Where does it say {0}? Report "
        "bbox_2d and label as JSON.|Find the words {0}. Output JSON with bbox_2d and label.",
    ).format(text)  # fmt: skip
    edges = thousandths(view.parts[number], view.picture.size)
    line = json.dumps({"bbox_2d": list(edges), "label": text}, ensure_ascii=False)
    return ask("boxes", question, f"```json\n[\n\t{line}\n]\n```", view, boxes=[edges], spelled=(text,))


# ---- documents


def goods(rng: random.Random, test: bool) -> str:
    return rng.choice(FOODS).capitalize() if rng.random() < 0.5 else word(rng, test).capitalize()


BESIDES = ["street", "thanks", "Tax", "Cash", "Card", "Change", "VAT"]


def besides(rng: random.Random, what: str, test: bool, sign: str) -> tuple[str, ...]:
    """A row of a receipt that no one asks for."""
    if what == "street":
        return (f"{word(rng, test).title()} Street {rng.randint(1, 99)}",)
    if what == "thanks":
        said = "Thank you!|THANK YOU|Thanks for your visit|See you soon|Good bye|Have a nice day"
        return (among(rng, said),)
    return what, sign + price(rng)


def receipt(rng: random.Random, test: bool, room: int) -> tuple[list[tuple[str, ...]], dict]:
    """Rows as they are written, one or two columns, and what they say."""
    items = [(goods(rng, test), price(rng)) for _ in range(rng.randint(1, max(1, min(5, room - 4))))]
    total = f"{sum(round(100 * float(p)) for _, p in items) / 100:.2f}"
    shop = rng.choice([f"{word(rng, test).title()} {rng.choice(['Shop', 'Market', 'Store', 'Cafe'])}"] * 2 +
                      [f"{rng.choice(FIRST_NAMES)}'s"])  # fmt: skip
    when = date(rng)
    sign = rng.choice(["", "", "$", "€"])
    rows: list[tuple[str, ...]] = [(shop,)]
    said: dict = {"shop": shop}
    if rng.random() < 0.7:
        rows.append((when,) if rng.random() < 0.5 else ("Date", when))
        said["date"] = when
    rows += [(what, sign + cost) for what, cost in items]
    rows.append((rng.choice(["TOTAL", "Total", "Sum"]), sign + total))
    total_at = len(rows) - 1
    for what in rng.sample(BESIDES, rng.choice([0, 0, 1, 2])):
        if len(rows) < room:
            before = what in ("Tax", "VAT") and rng.random() < 0.5  # the sum
            at = 1 if what == "street" else total_at if before else len(rows)
            rows.insert(at, besides(rng, what, test, sign))
    said |= {"items": [{"name": n, "price": p} for n, p in items], "total": total}
    return rows, said


def form(rng: random.Random, test: bool, room: int) -> tuple[list[tuple[str, ...]], dict]:
    fields = {
        "name": f"{rng.choice(FIRST_NAMES)} {word(rng, test).title()}",
        "city": rng.choice(CITIES),
        "date": date(rng),
        "phone": " ".join(str(rng.randint(100, 999)) for _ in range(rng.randint(2, 3))),
        "age": str(rng.randint(1, 99)),
        "email": f"{word(rng, test)}@{word(rng, test)}.com",
        "number": str(rng.randrange(10**6)),
        "street": f"{word(rng, test).title()} Street {rng.randint(1, 99)}",
        word(rng, test): word(rng, test),
    }
    keys = rng.sample(list(fields), rng.randint(2, max(2, min(6, room - 1))))
    said = {key: fields[key] for key in keys}
    colon = rng.choice([":", ""])
    rows: list[tuple[str, ...]] = [(key.title() + colon, value) for key, value in said.items()]
    if rng.random() < 0.4:
        rows.insert(0, (f"{word(rng, test).title()} {rng.choice(['Form', 'Card', 'Ticket'])}",))
    return rows, said


def table(rng: random.Random, test: bool, room: int) -> tuple[list[tuple[str, ...]], dict]:
    heads = rng.sample(
        ["Name", "Price", "Count", "City", "Code", "Age", word(rng, test).title()], rng.randint(2, 3)
    )
    value = {
        "Name": lambda: goods(rng, test),
        "Price": lambda: price(rng),
        "City": lambda: rng.choice(CITIES),
    }
    lines = [
        [value.get(head, lambda: str(rng.randrange(10 ** rng.randint(1, 3))))() for head in heads]
        for _ in range(rng.randint(2, max(2, min(4, room - 1))))
    ]
    rows: list[tuple[str, ...]] = [tuple(heads), *map(tuple, lines)]
    return rows, {"rows": [dict(zip([h.lower() for h in heads], cells, strict=True)) for cells in lines]}


DOCUMENTS = dict(receipt=receipt, form=form, table=table)


def document(rng: random.Random, test: bool, size: draw.Size) -> View:
    width, height = size
    kind = rng.choice(list(DOCUMENTS))
    rows, said = DOCUMENTS[kind](rng, test, max(3, height // 44))
    for points in range(min(30, int(height / 1.4 / len(rows))), 12, -2):
        if rng.random() < 0.3:
            continue
        face = draw.random_font(rng, points)
        columns = [
            max(face.getlength(row[i]) for row in rows if len(row) > max(i, 1) or i == 0)
            for i in range(max(map(len, rows)))
        ]
        if sum(columns) + 20 * len(columns) < width and 1.4 * points * len(rows) < height - 8:
            break
    else:
        return document(rng, test, size)
    ground = draw.light(rng) if rng.random() < 0.8 else (255, 255, 255)
    picture = Image.new("RGB", size, ground)
    pen = ImageDraw.Draw(picture)
    ink = (0, 0, 0) if rng.random() < 0.6 else tuple(rng.randrange(90) for _ in range(3))
    airy = rng.random() < 0.35  # across the whole picture
    pitch = min(rng.uniform(*((1.8, 3.6) if airy else (1.4, 2.0))) * points, (height - 8) / len(rows))
    y = rng.uniform(4, max(5, height - 4 - pitch * len(rows)))
    room = (width - sum(columns)) / len(columns)
    spread = rng.uniform(14, max(15, room if airy else min(120, room)))
    if airy and len(columns) > 1:
        spread = rng.uniform(spread, (width - 24 - sum(columns)) / (len(columns) - 1))
    lefts = [rng.uniform(6, max(7, width - 8 - sum(columns) - spread * (len(columns) - 1)))]
    for before, _ in pairwise([*columns, 0]):
        lefts.append(lefts[-1] + before + spread)
    to_the_right = kind != "form" and rng.random() < 0.5
    ruled = {n for n in range(len(rows)) if rng.random() < 0.2} if airy else set(range(len(rows)))
    ruled = ruled if rng.random() < 0.4 else set()
    letters = []
    middle = airy and rng.random() < 0.6  # of what stands alone in its row
    for n, row in enumerate(rows):
        for i, text in enumerate(row):
            x = lefts[i]
            if len(row) == 1 and middle:
                x = max(4, (width - face.getlength(text)) / 2)
            if i and to_the_right:
                x += columns[i] - face.getlength(text)
            letters.append(draw.write(pen, (x, y), text, ink, face))
        if n in ruled:
            below = y + 1.2 * points
            pen.line([(lefts[0], below), (width - 8, below)], (170, 170, 170))
        y += pitch
    return View("document", draw.worn(rng, picture), letters=letters, truth=(kind, said))


def values(said: object) -> list[str]:
    """All strings in it."""
    if isinstance(said, str):
        return [said]
    inside = said.values() if isinstance(said, dict) else said if isinstance(said, list) else []
    return [text for part in inside for text in values(part)]


def schema(said: object) -> dict:
    if isinstance(said, dict):
        inside = {key: schema(value) for key, value in said.items()}
        return {"type": "object", "properties": inside}
    if isinstance(said, list):
        return {"type": "array", "items": schema(said[0])}
    return {"type": "string"}


QUESTIONS = {  # of what a document says by this key
    "total": "How much did I pay?|What do I have to pay?|How much was it in all?|What is the sum?|"
    "What is the total?|How much is it together?|What did it all cost?|How much money was spent?",
    "shop": "Which shop is it from?|Where did I buy this?|What is the shop called?|Whose receipt is it?|"
    "What is the name of the store?|In which shop was this?",
    "date": "When was it?|What is the date?|Which day does it say?|What date is on it?|From when is it?",
    "name": "Who is it?|What is the name?|Whose form is this?|Which name is on it?|"
    "What is this person called?|Who filled this in?",
    "city": "Which city is it?|What city is on the form?|Where does this person live?|In which city is it?|"
    "What town?",
    "age": "How old is this person?|What is the age?|How old?|What age does it say?",
    "phone": "What is the phone number?|Which number do I call?|How can I call them?|"
    "The phone number, please.",
    "email": "What is the email address?|Where do I send mail?|Which email is on it?|The email, please.",
    "street": "Which street is it?|What is the address?|In which street is it?|The street, please.",
    "number": "What is the number?|Which number is on it?|The number, please.",
}
OF_COLUMN = {  # of a table: what is asked of a line, which its first cell names
    "name": "What is the name of {0}?|Which name belongs to {0}?",
    "price": "How much is {0}?|What does {0} cost?|What is the price of {0}?|The price of {0}?",
    "count": "How many {0}?|What is the count of {0}?|How many are there of {0}?|The count of {0}?",
    "city": "Which city belongs to {0}?|What is the city of {0}?|In which city is {0}?",
    "code": "What is the code of {0}?|Which code has {0}?|The code of {0}?",
    "age": "How old is {0}?|What is the age of {0}?|The age of {0}?",
}


def asked_of_document(rng: random.Random, kind: str, said: dict) -> tuple[str, str]:
    """One thing that it says, in words."""
    if kind == "table":
        first, *others = said["rows"][0]
        one, key = rng.choice(said["rows"]), rng.choice(others)
        if rng.random() < 0.15 or [row[first] for row in said["rows"]].count(one[first]) > 1:
            return among(rng, "How many rows are there?|How many lines has the table?"), str(
                len(said["rows"])
            )
        form = OF_COLUMN.get(key, f"What is the {key} of {{0}}?|The {key} of {{0}}?")
        return among(rng, form).format(one[first]), one[key]
    if kind == "receipt" and rng.random() < 0.4:
        names = [item["name"] for item in said["items"]]
        item = rng.choice(said["items"])
        if rng.random() < 0.3 or names.count(item["name"]) > 1:
            form = "How many items are on it?|How many things did I buy?|How many items?|Count the items."
            return among(rng, form), str(len(names))
        form = "How much is the {0}?|What did the {0} cost?|How much did I pay for {0}?|"
        form += "The price of the {0}?|What does the {0} cost?|What is the price of {0}?"
        return among(rng, form).format(item["name"]), item["price"]
    key = rng.choice([key for key, value in said.items() if isinstance(value, str)])
    plainly = f"What is the {key}?|Which {key} does it say?|Read the {key}.|Give me the {key}."
    return among(rng, QUESTIONS[key] if key in QUESTIONS and rng.random() < 0.6 else plainly), said[key]


def extract(rng: random.Random, view: View, test: bool) -> Sample:
    """All of it as JSON, some of its keys, or one value."""
    kind, said = view.truth
    share = rng.random()
    if share < (0.18 if kind == "table" else 0.46):
        question, answer = asked_of_document(rng, kind, said)
        return ask("extract", question, answer, view, spelled=(answer,))
    called = among(rng, f"{kind}|document|picture")
    if share > 0.88:  # by no keys: by those that it has
        chosen = said
        question = among(
            rng, "Turn this {0} into JSON.|Convert the {0} to JSON.|Give me this {0} as JSON.|"
            "Read the {0} as JSON.|Give the {0} as JSON.|Make JSON of this {0}.|The {0} as JSON, please.|"
            "What does it say? Answer in JSON.|Extract everything as JSON.|Return all of this {0} in JSON.",
        ).format(called)  # fmt: skip
    else:
        keys = [key for key in said if rng.random() < 0.75] or list(said)
        if rng.random() < 0.3:
            rng.shuffle(keys)
        chosen = {key: said[key] for key in keys}
        question = by_keys(rng, called, chosen)
    answer = json.dumps(chosen, ensure_ascii=False)
    return ask("extract", question, answer, view, spelled=tuple(values(chosen)))


def by_keys(rng: random.Random, called: str, chosen: dict) -> str:
    """Asks for these keys, by a schema or by their names."""
    if rng.random() < 0.35:
        return among(
            rng, "Fill in this JSON schema from the {0}: {1}|Read the {0} as JSON by this schema: {1}"
        ).format(called, json.dumps(schema(chosen)))
    parts = [
        f"{key} ({', '.join(value[0])} each)" if isinstance(value, list) and rng.random() < 0.8 else key
        for key, value in chosen.items()
    ]
    if rng.random() < 0.15:
        parts = [listed([f"the {part}" for part in parts])]
    return among(
        rng,
        "Give the {0} as JSON with the keys {1}.|Read the {0} as JSON: {1}.|Extract {1} as JSON.|"
        "Output JSON with {1}.|Convert the {0} to JSON, keys: {1}.|Make JSON of the {0}: {1}.|"
        "I need {1} of this {0} as JSON.|JSON with the keys {1}, please.|"
        "Write this {0} as JSON. Its keys are {1}.",
    ).format(called, ", ".join(parts))


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
        if text in [t for _, t, _ in parts] or any(
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


MEANT = {  # labels that serve one end, and what is said by those who have it
    "Login|Sign in": "I want to log in.|Let me into my account.|Log me in.|How do I get into my account?",
    "Sign up|Register": "I want to create an account.|I am new here.|How do I become a member?",
    "Log out|Sign out": "I want to leave my account.|Log me off.|End my session.",
    "Save": "Keep my changes.|Store what I wrote.|Don't lose my work.",
    "Send|Submit": "Get it on its way.|I am done, hand it in.|Mail it.|It is ready, off with it.",
    "Delete|Remove|Clear": "I don't need this any more.|Get rid of it.|Throw it away.|Erase it.",
    "Cancel|Not now": "I changed my mind.|I don't want to do this.|Stop this.",
    "Close|Exit": "Shut this window.|I am finished here.|Leave this program.",
    "Next|Continue": "Go on.|Take me to the following page.|What comes after this?",
    "Back": "Return to the page before.|Go to the previous page.|I want to see the last page again.",
    "Help": "I don't understand this.|I need some assistance.|How does this work?",
    "Search": "I am looking for something.|Where can I look for things?|Let me find something.",
    "Settings|Options": "I want to change the preferences.|Where can I configure this?",
    "Print": "I want this on paper.|Give me a paper copy.",
    "Download": "Get this file onto my computer.|I want to have the file here.",
    "Upload": "Put my file on the server.|I have a file to hand in.",
    "Buy": "I want to purchase this.|I'd like to have it, what does one do?",
    "Check out": "I want to pay for what is in my cart.|Let me pay.",
    "Add to cart": "Put this into my basket.|I want one of these in my basket.",
    "Share": "Show this to my friends.|Let others see it.",
    "Reply": "Answer this mail.|Write back.",
    "Undo": "Take back my last step.|That was a mistake, reverse it.",
    "Refresh": "Load the page again.|I want the newest version of this page.",
    "Retry|Try again": "Do it once more.|Attempt it again.",
    "Contact us": "I want to write to the company.|How do I reach you?",
    "My orders": "What have I bought here so far?|Show me my purchases.",
    "Play": "I want to hear it.|Let the film begin.",
    "Pause": "Hold it for a moment.|Interrupt the film.",
    "Copy": "Make a duplicate of it.|Take this to the clipboard.",
    "Edit": "I want to change this text.|Let me correct it.",
    "Home": "Take me to the start page.|Go to the main page.",
    "Accept": "I agree.|I take these conditions.",
    "Decline": "I do not agree.|I refuse.",
    "Learn more|Details": "I want to know more about this.|Give me further information.",
    "Select all": "Mark everything.|Choose every one of them.",
    "Zoom in": "Make it larger.|It is too small for me.",
    "Photos": "Show me my pictures.|Where are my pictures?",
    "Messages": "Did anyone write to me?|Where is my mail?",
}


def wish(rng: random.Random, text: str, labels: list[str]) -> str | None:
    """What someone says who wants what a button does; None if another serves it too, or it is not known."""
    for serve, said in MEANT.items():
        if text in serve.split("|") and len({*serve.split("|")} & {*labels}) == 1:
            return among(rng, said)
    return None


def place_of_part(rng: random.Random, view: View, test: bool) -> Sample:
    """The box of a button, a link, a field or a box to tick."""
    assert view.picture
    kind, text, box = rng.choice(view.truth)
    called = {"button": "button", "field": "field", "tick": "checkbox", "link": "link"}[kind]
    question = among(
        rng, "Locate the {0} {1}. Output its bbox_2d and label in JSON.|Where is the {1} {0}? Report bbox_2d "
        "and label as JSON.|Find {1} and give its bbox_2d and label in JSON.",
    ).format(called, text)  # fmt: skip
    edges = thousandths(box, view.picture.size)
    line = json.dumps({"bbox_2d": list(edges), "label": text}, ensure_ascii=False)
    return ask("boxes", question, f"```json\n[\n\t{line}\n]\n```", view, boxes=[edges], spelled=(text,))


def click(rng: random.Random, view: View, test: bool) -> Sample:
    """The next action for what is asked, in JSON; or that there is no such thing."""
    assert view.picture
    kind, text, box = rng.choice(view.truth)
    edges = thousandths(box, view.picture.size)
    place = [round((edges[0] + edges[2]) / 2), round((edges[1] + edges[3]) / 2)]
    form = among(
        rng,
        "|| Answer with action and coordinate in JSON.| Give the action as JSON.|"
        " Reply in JSON with action and coordinate.",
    )
    if rng.random() < 0.12:
        text = label(rng, test)
        if text not in [t for _, t, _ in view.truth]:
            return ask("click", f"Click on {text}.{form}", f"There is no {text}.", view)
        kind, text, box = next(part for part in view.truth if part[1] == text)
        edges = thousandths(box, view.picture.size)
        place = [round((edges[0] + edges[2]) / 2), round((edges[1] + edges[3]) / 2)]
    answer = json.dumps({"action": "left_click", "coordinate": place})
    wanted = wish(rng, text, [label for _, label, _ in view.truth]) if kind in ("button", "link") else None
    if wanted and rng.random() < 0.5:
        asked = among(rng, "{0}|{0}|{0} Where do I click?|{0} What do I press?").format(wanted)
        return ask("click", asked + form, answer, view, target=edges)
    if kind == "button":
        verbs = (
            "Click on {0}.|Click {0}.|Press {0}.|Click the {0} button.|Press the {0} button.|Where is {0}?|"
            "Click on the button {0}.|Push the button with {0} on it.|Tap {0}.|I want to press {0}.|"
            "Choose {0}.|Hit the {0} button.|Use the button labelled {0}.|"
            "Click the button with the text {0}.|Which button reads {0}?|Press the one marked {0}.|"
            "Click on {0} please.|Click {0}, please.|Please click {0}.|Can you press {0} please?"
        )
    elif kind == "link":
        verbs = "Click on {0}.|Click {0}.|Open {0}.|Follow the link {0}.|Click the {0} link.|Where is {0}?"
    elif kind == "field":
        verbs = "Click into the {0} field.|Select the field {0}.|Go to the {0} field.|Click on {0}."
    else:
        verbs = "Tick {0}.|Check the box {0}.|Click on {0}.|Turn on {0}."
    if kind == "field" and rng.random() < 0.25:  # it was clicked; now comes the text
        typed = line(rng, test)
        question = f"The {text} field is selected. Type {typed} into it."
        return ask("click", question, json.dumps({"action": "type", "text": typed}, ensure_ascii=False), view)
    return ask("click", among(rng, verbs).format(text) + form, answer, view, target=edges)
