"""Documents, what they say as it would stand in JSON, and what people ask of them."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from itertools import pairwise, permutations

import draw
from PIL import Image, ImageDraw
from reading import PLACES, date, price, word
from sample import Sample, View, among, ask, listed, yes_or_no
from wordings import WORDINGS, worded
from words import CITIES, COLOURS, FIRST_NAMES, FOODS, JOBS, WEEKDAYS

Rows = list[tuple[str, ...]]  # as they are written, of one column or more
ORDER = [*PLACES, "sixth", "seventh"]  # of a list, which people count further than lines
NOT_THERE = "It does not say."


def goods(rng: random.Random, test: bool) -> str:
    return rng.choice(FOODS).capitalize() if rng.random() < 0.5 else word(rng, test).capitalize()


def person(rng: random.Random, test: bool) -> str:
    return f"{rng.choice(FIRST_NAMES)} {word(rng, test).title()}"


def house(rng: random.Random, test: bool) -> str:
    return f"{word(rng, test).title()} Street {rng.randint(1, 99)}"


def phone(rng: random.Random) -> str:
    return " ".join(str(rng.randint(100, 999)) for _ in range(rng.randint(2, 3)))


def email(rng: random.Random, test: bool) -> str:
    return f"{word(rng, test)}@{word(rng, test)}.com"


def clock(rng: random.Random, first: int = 0, last: int = 23) -> str:
    return f"{rng.randint(first, last)}:{rng.choice([0, 15, 30, 45, rng.randrange(60)]):02}"


def place(rng: random.Random, test: bool) -> str:
    return rng.choice(CITIES) if rng.random() < 0.6 else word(rng, test).title()


def shop_name(rng: random.Random, test: bool, kinds: str = "Shop|Market|Store|Cafe") -> str:
    return rng.choice(
        [f"{word(rng, test).title()} {among(rng, kinds)}"] * 2 + [f"{rng.choice(FIRST_NAMES)}'s"]
    )


BESIDES = ["street", "thanks", "Tax", "Cash", "Card", "Change", "VAT"]


def besides(rng: random.Random, what: str, test: bool, sign: str) -> tuple[str, ...]:
    """A row of a receipt that no one asks for."""
    if what == "street":
        return (house(rng, test),)
    if what == "thanks":
        said = "Thank you!|THANK YOU|Thanks for your visit|See you soon|Good bye|Have a nice day"
        return (among(rng, said),)
    return what, sign + price(rng)


def receipt(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    """Rows as they are written, one or two columns, and what they say."""
    items = [(goods(rng, test), price(rng)) for _ in range(rng.randint(1, max(1, min(5, room - 4))))]
    total = f"{sum(round(100 * float(p)) for _, p in items) / 100:.2f}"
    shop = shop_name(rng, test)
    when = date(rng)
    sign = rng.choice(["", "", "$", "€"])
    rows: Rows = [(shop,)]
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


def form(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    fields = {
        "name": person(rng, test),
        "city": rng.choice(CITIES),
        "date": date(rng),
        "phone": phone(rng),
        "age": str(rng.randint(1, 99)),
        "email": email(rng, test),
        "number": str(rng.randrange(10**6)),
        "street": house(rng, test),
        word(rng, test): word(rng, test),
    }
    keys = rng.sample(list(fields), rng.randint(2, max(2, min(6, room - 1))))
    said = {key: fields[key] for key in keys}
    colon = rng.choice([":", ""])
    rows: Rows = [(key.title() + colon, value) for key, value in said.items()]
    if rng.random() < 0.4:
        rows.insert(0, (f"{word(rng, test).title()} {rng.choice(['Form', 'Card', 'Ticket'])}",))
    return rows, said


def table(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    usual = "Name Price Count City Code Age".split()
    rarer = "Item Person Qty Colour Points Year Time".split() if rng.random() < 0.5 else []
    heads = rng.sample([*usual, *rarer, word(rng, test).title()], rng.randint(2, 3))
    value = {
        "Name": lambda: goods(rng, test),
        "Item": lambda: goods(rng, test),
        "Person": lambda: person(rng, test),
        "Price": lambda: price(rng),
        "City": lambda: rng.choice(CITIES),
        "Colour": lambda: rng.choice(list(COLOURS)),
        "Year": lambda: str(rng.randint(1900, 2030)),
        "Time": lambda: clock(rng),
    }
    lines = [
        [value.get(head, lambda: str(rng.randrange(10 ** rng.randint(1, 3))))() for head in heads]
        for _ in range(rng.randint(2, max(2, min(4, room - 1))))
    ]
    rows: Rows = [tuple(heads), *map(tuple, lines)]
    return rows, {"rows": [dict(zip([h.lower() for h in heads], cells, strict=True)) for cells in lines]}


def headed(rng: random.Random, rows: Rows, titles: str, room: int) -> Rows:
    """Perhaps with a title that no one asks for."""
    return [(among(rng, titles),), *rows] if rng.random() < 0.6 and len(rows) < room else rows


def labelled(
    rng: random.Random, fields: dict[str, str], labels: dict[str, str], most: int
) -> tuple[Rows, dict]:
    """Some of the fields, each behind one of the labels of its key."""
    chosen = rng.sample(list(fields), min(most, len(fields)))
    keys = [key for key in fields if key in chosen]
    colon = rng.choice([":", ""])
    return [(among(rng, labels[k]) + colon, fields[k]) for k in keys], {k: plain(fields[k]) for k in keys}


def plain(text: str) -> str:
    """A price without its sign, as all documents have it in JSON."""
    return text.lstrip("$€£")


def invoice(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    fields = {
        "number": among(rng, "{0}|{0}|INV-{0}|{1}-{0}").format(rng.randrange(10**5), rng.randint(2015, 2035)),
        "date": date(rng),
        "due": date(rng),
        "customer": person(rng, test),
        "total": rng.choice(["", "$", "€", "£"]) + price(rng),
    }
    labels = {
        "number": "Invoice no.|Invoice number|Invoice|Invoice #",
        "date": "Date|Invoice date|Issued",
        "due": "Due|Due date|Pay by|Payment due",
        "customer": "Customer|Bill to|Client|Billed to",
        "total": "Total|Amount due|TOTAL|Total due|To pay",
    }
    rows, said = labelled(rng, fields, labels, rng.randint(2, min(5, room)))
    return headed(rng, rows, "INVOICE|Invoice|Bill", room), said


def ticket(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    """Of a train or a bus, which has a platform, or of a flight, which has a gate."""
    gate = rng.random() < 0.5
    fields = {
        "name": person(rng, test),
        "from": place(rng, test),
        "to": place(rng, test),
        "date": date(rng),
        "time": clock(rng),
        "gate" if gate else "platform": str(rng.randint(1, 40)),
        "seat": f"{rng.randint(1, 60)}{rng.choice('ABCDEF')}",
    }
    labels = {
        "name": "Name|Passenger|Traveller",
        "from": "From|FROM",
        "to": "To|TO",
        "date": "Date|DATE",
        "time": "Departure|Departs|Leaves|Time",
        "gate": "Gate|GATE",
        "platform": "Platform|Track",
        "seat": "Seat|SEAT",
    }
    if gate:
        fields["gate"] = rng.choice("ABCD") + fields["gate"]
    rows, said = labelled(rng, fields, labels, rng.randint(3, min(7, max(3, room))))
    titles = "Boarding pass|BOARDING PASS|Flight ticket" if gate else "Train ticket|TICKET|Bus ticket|Ticket"
    return headed(rng, rows, titles, room), said


def product(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    """The label on what is sold."""
    weight = among(rng, "{0} g|{0}g|{1} kg|{1}kg").format(rng.randint(1, 40) * 25, rng.randint(1, 9))
    fields = {
        "weight": weight,
        "price": rng.choice(["", "$", "€", "£"]) + price(rng),
        "best_before": date(rng),
        "origin": place(rng, test),
    }
    labels = {
        "weight": "Net weight|Weight|Net wt.|Contents",
        "price": "Price|Only|PRICE",
        "best_before": "Best before|Use by|Best by|BEST BEFORE",
        "origin": "Origin|Made in|Product of",
    }
    name = goods(rng, test)
    rows, said = labelled(rng, fields, labels, rng.randint(2, min(4, max(2, room - 1))))
    return [(name,), *rows], {"product": name, **said}


def card(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    """A business card: no labels, for each line shows what it is."""
    said = {
        "name": person(rng, test),
        "job": rng.choice(JOBS).capitalize(),
        "company": f"{word(rng, test).title()} {among(rng, 'Ltd|Inc.|GmbH|Group|& Co.|Works')}",
        "phone": phone(rng),
        "email": email(rng, test),
        "street": house(rng, test),
        "city": rng.choice(CITIES),
    }
    keys = rng.sample(list(said)[1:], rng.randint(1, max(1, min(5, room - 1))))
    said = {key: text for key, text in said.items() if key == "name" or key in keys}
    before = {"phone": among(rng, "|Tel. |Phone: "), "email": among(rng, "||Email: ")}
    return [(before.get(key, "") + text,) for key, text in said.items()], said


def shopping(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    """A list of things to buy or to do."""
    doing = rng.random() < 0.4
    verbs = "Call {0}|Write to {0}|Meet {0}|Buy {1}|Clean the {1}|Find the {1}|Sell the {1}|Fetch the {1}"
    said: dict = {"items": []}
    for _ in range(rng.randint(2, max(2, min(7, room - 1)))):
        todo = among(rng, verbs).format(rng.choice(FIRST_NAMES), word(rng, test))
        said["items"].append(todo if doing else goods(rng, test))
    said["items"] = list(dict.fromkeys(said["items"]))
    bullet = among(rng, "||- |* |{}. |{}) ")
    rows: Rows = [(bullet.format(n) + text,) for n, text in enumerate(said["items"], 1)]
    titles = (
        "To do|TO DO|Today|Tasks|To-do list" if doing else "Shopping list|Shopping|Groceries|To buy|SHOPPING"
    )
    if rng.random() < 0.7:
        said = {"title": among(rng, titles), **said}
        rows.insert(0, (said["title"],))
    return rows, said


def hours(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    """When a shop is open on which day, the days in their order."""
    days = sorted(rng.sample(range(7), rng.randint(2, max(2, min(7, room - 1)))))
    short, dash = rng.random() < 0.3, among(rng, " - |-| to ")
    said: dict = {"days": []}
    for day in days:
        times = f"{clock(rng, 6, 11)}{dash}{clock(rng, 13, 22)}"
        called = WEEKDAYS[day][:3] if short else WEEKDAYS[day]
        said["days"].append({"day": called, "hours": "closed" if rng.random() < 0.2 else times})
    rows: Rows = [(one["day"], one["hours"]) for one in said["days"]]
    return headed(rng, rows, "Opening hours|OPENING HOURS|Opening times|We are open|Hours", room), said


def timetable(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    where = among(rng, "platform|platform|gate|stop|track")
    lines = [
        {"time": f"{rng.randint(0, 23):02}:{rng.randrange(60):02}", "to": place(rng, test),
         where: str(rng.randint(1, 24))}
        for _ in range(rng.randint(2, max(2, min(5, room - 2))))
    ]  # fmt: skip
    keys = ["time", "to", where] if rng.random() < 0.7 else ["time", "to"]
    lines = [{key: one[key] for key in keys} for one in sorted(lines, key=lambda one: one["time"])]
    heads = {"time": among(rng, "Time|Departs"), "to": among(rng, "To|Destination"), where: where.title()}
    rows: Rows = [tuple(heads[key] for key in keys), *(tuple(one.values()) for one in lines)]
    return headed(rng, rows, "Departures|DEPARTURES|Timetable", room), {"departures": lines}


def menu(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    dishes = []
    for _ in range(rng.randint(2, max(2, min(6, room - 1)))):
        dish = f"{word(rng, test)} {rng.choice(FOODS)}" if rng.random() < 0.3 else goods(rng, test)
        dishes.append({"name": dish.capitalize(), "price": price(rng)})
    sign = rng.choice(["", "", "$", "€", "£"])
    rows: Rows = [(dish["name"], sign + dish["price"]) for dish in dishes]
    said: dict = {"dishes": dishes}
    if rng.random() < 0.6:
        said = {"restaurant": shop_name(rng, test, "Cafe|Grill|Diner|Bistro|Kitchen"), **said}
        return [(said["restaurant"],), *rows], said
    return headed(rng, rows, "Menu|MENU|Lunch|Today|Dinner", room), said


EVENTS = """Lunch|Meeting|Dinner|Haircut|Yoga class|Tennis match|Eye test|Interview|Piano lesson|
Football game|Breakfast|Party|Concert|Exam|Training|Check-up|Phone call|Dance class""".replace(
    "\n", ""
).split("|")


def calendar(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    """What is to be done at which time of one day, or on which day of a week, perhaps with whom."""
    count = rng.randint(2, max(2, min(5, room - 2)))
    key = rng.choice(["time", "day"])
    times = [f"{hour}:{among(rng, '00|15|30|45')}" for hour in range(7, 22)]
    whens = WEEKDAYS if key == "day" else times
    chosen = sorted(rng.sample(range(len(whens)), count))
    keys = [key, "what", "with"] if rng.random() < 0.5 else [key, "what"]
    lines = [
        {key: whens[n], "what": event, "with": who}
        for n, event, who in zip(
            chosen, rng.sample(EVENTS, count), rng.sample(FIRST_NAMES, count), strict=True
        )
    ]
    lines = [{k: one[k] for k in keys} for one in lines]
    rows: Rows = [tuple(one.values()) for one in lines]
    if len(keys) == 3 or rng.random() < 0.3:
        rows.insert(0, tuple(k.title() for k in keys))
    titles = (
        "This week|Week plan|Calendar|My week" if key == "day" else "Today|Appointments|Calendar|Tomorrow"
    )
    return headed(rng, rows, titles, room), {"appointments": lines}


DOCUMENTS = dict(
    receipt=receipt, form=form, table=table, invoice=invoice, ticket=ticket, label=product, card=card,
    list=shopping, hours=hours, timetable=timetable, menu=menu, calendar=calendar,
)  # fmt: skip
HOW_OFTEN = [20, 20, 20, *[4.5] * 9]
MAY_LACK = {  # keys for which one asks in vain where they are missing
    "receipt": "date", "form": "city age phone email", "invoice": "due customer total",
    "ticket": "seat date time name", "label": "weight price best_before origin", "card": "phone email job",
}  # fmt: skip
SMALL = ["receipt price by name", "receipt has", "menu price by name", "menu has", "list has",
         "calendar time by what", "calendar day by what", "calendar with by what"]  # fmt: skip
CALLED = {"card": "business card", "hours": "sign"}  # others as their kind


def document(rng: random.Random, test: bool, size: draw.Size) -> View:
    width, height = size
    (kind,) = rng.choices(list(DOCUMENTS), HOW_OFTEN)
    rows, said = DOCUMENTS[kind](rng, test, max(3, height // 44))
    if rng.random() < 0.35:  # a label and its value in one run
        rows = [(" ".join(row),) if len(row) == 2 and row[0].endswith(":") else row for row in rows]
    for points in range(min(30, int(height / 1.4 / len(rows))), 12, -2):
        if rng.random() < 0.3:
            continue
        face = draw.random_font(rng, points, "".join(cell for row in rows for cell in row))
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
    for before in columns[:-1]:
        lefts.append(lefts[-1] + before + spread)
    to_the_right = kind != "form" and rng.random() < 0.5
    ruled = {n for n in range(len(rows)) if rng.random() < 0.2} if airy else set(range(len(rows)))
    ruled = ruled if rng.random() < 0.4 else set()
    boxed = len(columns) > 1 and len(set(map(len, rows))) == 1 and rng.random() < 0.4
    if boxed:
        y = max(y, pitch / 2 - 0.6 * points + 2)  # within the picture
    titled = rng.random() < 0.3 and rows[1:] and len(rows[0]) == 1 and ":" not in rows[0][0]
    title = draw.random_font(rng, points + 4, rows[0][0]) if titled else face
    margin = max(1, min(spread / 2, lefts[0], width - lefts[-1] - columns[-1]) - 1)
    letters = []
    middle = airy and rng.random() < 0.6  # of what stands alone in its row
    for n, row in enumerate(rows):
        own = title if n == 0 and lefts[0] + title.getlength(row[0]) < width - 4 else face
        for i, text in enumerate(row):
            x = lefts[i]
            if len(row) == 1 and middle:
                x = max(4, (width - own.getlength(text)) / 2)
            if i and to_the_right:
                x += columns[i] - face.getlength(text)
            above = 4 if own is not face else 0  # not into the next line
            letters.append(draw.write(pen, (x, y - above), text, ink, own))
        if boxed:
            draw_cells(pen, lefts, columns, y + 0.6 * points, pitch, margin)
        elif n in ruled:
            below = y + 1.2 * points
            pen.line([(lefts[0], below), (width - 8, below)], (170, 170, 170))
        y += pitch
    return View("document", draw.worn(rng, picture), letters=letters, truth=(kind, said))


def draw_cells(
    pen: ImageDraw.ImageDraw,
    lefts: list[float],
    columns: list[float],
    middle: float,
    pitch: float,
    margin: float,
) -> None:
    """A frame around each cell of a row, as tables have them."""
    edges = [*(left - margin for left in lefts), lefts[-1] + columns[-1] + margin]
    for left, right in pairwise(edges):
        pen.rectangle((left, middle - pitch / 2, right, middle + pitch / 2), outline=(60, 60, 60))


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


def one_of_them(name: str, names: list[str]) -> bool:
    """Whether who says this name can mean only one of these: soup not, where there is tomato soup too."""
    return sum(name.lower() in other.lower() for other in names) == 1


def other_thing(rng: random.Random, test: bool, names: list[str]) -> str:
    """What none of these can be meant by."""
    while True:
        name = goods(rng, test)
        if not any(name.lower() in other.lower() or other.lower() in name.lower() for other in names):
            return name


def written_beside(said: dict) -> list[str]:
    """What a receipt, a menu or a list may have beside its items: it is on it, though none of them."""
    return [*BESIDES, "Total", "Sum", "Date", *(text for text in said.values() if isinstance(text, str))]


Answers = dict[str, list[tuple[tuple[str, ...], str]]]  # by which wordings: what is named in them, the answer


def answers(rng: random.Random, kind: str, said: dict, test: bool) -> Answers:
    """All that has one answer in this document."""
    found: Answers = defaultdict(list)
    for key, value in said.items():
        if isinstance(value, str):
            asked_by = f"{kind} {key}"
            found[asked_by if asked_by in WORDINGS else "a value by its key"].append(((key,), value))
            continue
        found[f"{kind} how many"].append(((), str(len(value))))
        if f"{kind} has" in WORDINGS:
            names = [one if kind == "list" else one["name"] for one in value]
            other = other_thing(rng, test, [*names, *written_beside(said)])
            on_it = f"On it: {', '.join(names)}."  # read first: whether it is there follows from that
            found[f"{kind} has"] = [((rng.choice(names),), f"{on_it} Yes."), ((other,), f"{on_it} No.")]
        if kind == "list":
            found["list all"].append(((), ", ".join(value)))
            found["list one"] = [((place,), one) for place, one in zip(ORDER, value, strict=False)]
            found["list one"].append((("last",), value[-1]))
        elif kind == "hours":
            answers_of_hours(value, found)
        else:
            answers_of_rows(kind, value, found)
    return found


def answers_of_rows(kind: str, rows: list[dict], found: Answers) -> None:
    """One column's cell by that of another; of a table, by its first."""
    cells = [cell for row in rows for cell in row.values()]
    for by, asked in permutations(rows[0], 2):
        names = [row[by] for row in rows]
        asked_by = f"{kind} {asked} by {by}"
        if kind == "table" and asked_by not in WORDINGS and by == next(iter(rows[0])):
            asked_by = "table cell"
        if kind == "timetable":  # a platform, a gate, a stop or a track
            asked_by = "timetable where by to" if asked not in ("time", "to") and by == "to" else asked_by
        if asked_by in WORDINGS:
            found[asked_by] += [
                ((row[by], asked), row[asked])
                for row in rows
                if one_of_them(row[by], names) and cells.count(row[by]) == 1
            ]


def answers_of_hours(days: list[dict], found: Answers) -> None:
    for one in days:
        (day,) = [day for day in WEEKDAYS if day.startswith(one["day"])]
        found["hours on a day"].append(((day,), one["hours"]))
        is_open = yes_or_no(one["hours"] != "closed")
        found["hours whether open"].append(((day,), f"{one['day']}: {one['hours']}. {is_open}."))
        if one["hours"] != "closed":
            opens, closes = re.findall(r"\d+:\d+", one["hours"])
            found["hours opens"].append(((day,), opens))
            found["hours closes"].append(((day,), closes))
    closed = [one["day"] for one in days if one["hours"] == "closed"]
    if len(closed) == 1:
        found["hours closed day"].append(((), closed[0]))


def unanswered(rng: random.Random, kind: str, said: dict, test: bool) -> dict[str, tuple[str, ...]]:
    """What is asked of such documents that this one does not say: a key it lacks, of what is not on it."""
    found: dict[str, tuple[str, ...]] = {
        f"{kind} {key}": () for key in MAY_LACK.get(kind, "").split() if key not in said
    }
    if kind == "form" and "number" in said:  # it may be that of a phone
        found.pop("form phone", None)
    if kind in ("receipt", "menu"):
        names = [one["name"] for one in said["items" if kind == "receipt" else "dishes"]]
        found[f"{kind} price by name"] = (other_thing(rng, test, [*names, *written_beside(said)]),)
    elif kind == "timetable":
        town = place(rng, test)
        if not any(town in one["to"] or one["to"] in town for one in said["departures"]):
            found["timetable time by to"] = (town,)
    elif kind == "hours":
        days = [one["day"][:3] for one in said["days"]]
        if lacking := [day for day in WEEKDAYS if day[:3] not in days]:
            found["hours on a day"] = (rng.choice(lacking),)
    return found


def asked_of_document(rng: random.Random, kind: str, said: dict, test: bool) -> tuple[str, str]:
    """One thing that it says, or does not, in words."""
    lacking = unanswered(rng, kind, said, test)
    if lacking and rng.random() < 0.08:
        asked_by = rng.choice(list(lacking))
        return worded(rng, asked_by, *lacking[asked_by]), NOT_THERE
    found = answers(rng, kind, said, test)
    asked_by = rng.choice([name for name, known in found.items() if known])
    named, answer = rng.choice(found[asked_by])
    if asked_by in SMALL and rng.random() < 0.6:  # nobody writes the soup with a capital letter
        named = (named[0][0].lower() + named[0][1:], *named[1:])
    return worded(rng, asked_by, *named), answer


def extract(rng: random.Random, view: View, test: bool) -> Sample:
    """All of it as JSON, some of its keys, or one value."""
    kind, said = view.truth
    share = rng.random()
    if share < (0.25 if kind == "table" else 0.5):
        question, answer = asked_of_document(rng, kind, said, test)
        told = re.fullmatch(r"(?:On it|\w+): (.+)\. (Yes|No)\.", answer)
        read = () if answer == NOT_THERE else tuple(told[1].split(", ")) if told else (answer,)
        return ask("extract", question, answer, view, spelled=read, key=told[2] if told else None)
    called = rng.choice([CALLED.get(kind, kind), "document", "picture"])
    if share > 0.88:  # by no keys: by those that it has
        chosen = said
        question = worded(rng, "all as JSON", called)
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
        return worded(rng, "JSON by a schema", called, json.dumps(schema(chosen)))
    parts = [
        f"{key} ({', '.join(value[0])} each)" if isinstance(value[0], dict) and rng.random() < 0.8 else key
        for key, value in chosen.items()
    ]
    if rng.random() < 0.15:
        parts = [listed([f"the {part}" for part in parts])]
    return worded(rng, "JSON by keys", called, ", ".join(parts))
