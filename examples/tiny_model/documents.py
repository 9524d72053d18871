"""Documents, what they say as it would stand in JSON, and what people ask of them."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise, permutations
from typing import Any

import draw
from figures import add_aloud, digits, seek, subtract_aloud
from PIL import Image, ImageDraw
from reading import PLACES, clock, code, counted, date, email, in_context, in_turn, phone, price, site, word
from sample import Sample, View, among, ask, listed, yes_or_no
from wordings import WORDINGS, worded
from words import CITIES, COLOURS, COUNTRIES, FIRST_NAMES, FOODS, JOBS, TONGUES, WEEKDAYS, pick

Rows = list[tuple[str, ...]]  # as they are written, of one column or more
ORDER = [*PLACES, "sixth", "seventh"]  # of a list, which people count further than lines
NOT_THERE = "It does not say."


GOODS = """butter eggs cream yoghurt ham bacon sausage chicken beef fish tuna shrimp tofu potatoes onions
garlic tomatoes carrots spinach lettuce mushrooms pears bananas grapes lemons oranges berries cherries melon
sugar salt flour pepper oil vinegar mustard jam chocolate biscuits crisps nuts cereal oats juice lemonade
water cola beer wine cocoa espresso latte cappuccino croissant bagel muffin toast sandwich burger fries
steak lasagne risotto omelette stew dumplings sushi burrito tart pudding waffles brownie soap shampoo
toothpaste towels batteries candles envelopes pens notebook stamps magazine newspaper socks gloves scarf
T-shirt jeans umbrella lamp hammer nails paint screws cable charger headphones keyboard mouse vase basket
pillow blanket mug plates tray seeds tea coffee milk""".split()
KINDS = """green black red white fresh fried grilled baked roast hot iced sweet sour small large dried
smoked organic mixed spicy frozen plain double house""".split()
SURNAMES = """Smith Jones Taylor Wilson Evans Thomas Roberts Walker Wright Robinson Thompson Hughes Edwards
Green Lewis Wood Harris Martin Jackson Clarke Turner Hill Scott Cooper Morris Ward Moore King Watson Baker
Harrison Morgan Young Allen Mitchell Anderson Phillips Lee Bell Parker Davis Bennett Miller Cook Shaw
Simpson Price Marshall Collins Carter Murphy Gray Adams Foster Ellis Butler Russell Fisher Reynolds Palmer
Holmes Rogers Stevens Hunter Schmidt Weber Meyer Fischer Wagner Becker Garcia Lopez Martinez Gonzalez Silva
Santos Costa Rossi Ricci Moreau Laurent Dubois Novak Kowalski Nowak Jensen Hansen Larsen Nilsson Virtanen
Tanaka Suzuki Sato Kim Park Chen Wang Singh Patel Khan Haddad Okafor""".split()
POSTS = """manager engineer designer accountant assistant consultant analyst developer director technician
secretary architect editor officer scientist mechanic librarian dentist lawyer translator""".split()
RANKS = "Senior Junior Chief Head Sales Project Marketing Software Office Graphic Data Deputy".split()


BESIDES = ["Card", "Visa", "Subtotal", "Discount"]  # rows of receipts that no one asks for
LABELS = "Total Sum Date Tax VAT Cash Change Paid Due Order Receipt Time Server Amount".split()  # and others
NO_GOODS = {label.upper() for label in [*BESIDES, *LABELS]}


def goods(rng: random.Random, test: bool) -> str:
    """What may be sold: nothing that a row of a receipt is called."""
    while True:
        name = any_goods(rng, test)
        if name.upper() not in NO_GOODS:
            return name


def any_goods(rng: random.Random, test: bool) -> str:
    kind = rng.random()
    if kind < 0.25:
        return rng.choice(FOODS).capitalize()
    if kind < 0.7:
        thing = pick(rng, lambda: rng.choice(GOODS), test)
        if rng.random() < 0.35:
            thing = f"{rng.choice(KINDS)} {thing}"
        return thing.title() if rng.random() < 0.2 else thing[0].upper() + thing[1:]
    return word(rng, test).capitalize()


def surname(rng: random.Random, test: bool) -> str:
    return pick(rng, lambda: rng.choice(SURNAMES), test) if rng.random() < 0.5 else word(rng, test).title()


def person(rng: random.Random, test: bool) -> str:
    return f"{rng.choice(FIRST_NAMES)} {surname(rng, test)}"


def job(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return rng.choice(JOBS).capitalize()
    post = rng.choice(POSTS)
    return f"{rng.choice(RANKS)} {post.title()}" if rng.random() < 0.6 else post.capitalize()


def company(rng: random.Random, test: bool) -> str:
    ending = among(rng, "Ltd|Inc.|GmbH|Group|& Co.|Works|Labs|Systems|Bank|Media|Foods|Solutions|Partners")
    return f"{word(rng, test).title()} {ending}"


def reference(rng: random.Random) -> str:
    """The number of an order, a member, a booking."""
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    form = among(rng, "{0}-{1}|{0}{1}|{0} {1}|{1}-{0}|#{1}|{1}|{1}|{0}{1}-{2}|{1}-{2}|{1}/{2}")
    return form.format(letters, rng.randrange(10 ** rng.randint(2, 6)), rng.randrange(10, 10**4))


def title(rng: random.Random, test: bool) -> str:
    """Of a film, a book or an evening."""
    form = among(rng, "The {0}|The {0} {1}|{0} {1}|{0} of {1}|{0} and {1}|The Last {0}|{0} Night|{0} Day")
    return form.format(word(rng, test).title(), word(rng, test).title())


def house(rng: random.Random, test: bool) -> str:
    street = f"{word(rng, test).title()} {among(rng, 'Street|Street|Road|Lane|Avenue')}"
    return f"{street} {rng.randint(1, 99)}" if rng.random() < 0.7 else f"{rng.randint(1, 99)} {street}"


def place(rng: random.Random, test: bool) -> str:
    return rng.choice(CITIES) if rng.random() < 0.6 else word(rng, test).title()


def shop_name(rng: random.Random, test: bool, kinds: str = "Shop|Market|Store|Cafe") -> str:
    return rng.choice(
        [f"{word(rng, test).title()} {among(rng, kinds)}"] * 2 + [f"{rng.choice(FIRST_NAMES)}'s"]
    )


def shop_of(rng: random.Random, test: bool) -> tuple[Rows, dict]:
    """How a receipt begins, three of ten without a shop: while all had one, what was bought first was taken
    for it, in four of five requests for such a receipt as JSON."""
    if rng.random() < 0.7:
        shop = shop_name(rng, test)
        return [(shop,)], {"shop": shop}
    head = among(rng, "RECEIPT|Receipt|||")
    return [(head,)] if head else [], {}


def receipt(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    """Rows as they are written, one or two columns, and what they say."""
    sign = rng.choice(["", "", "$", "€", "£"])
    items = [(goods(rng, test), sign + price(rng)) for _ in range(rng.randint(1, max(1, min(6, room - 4))))]
    total = f"{sign}{sum(round(100 * float(plain(p))) for _, p in items) / 100:.2f}"
    rows, said = shop_of(rng, test)
    spare = room - len(items) - 2

    def told(key: str, share: float, value: str, labels: str) -> None:
        """Perhaps one more row; without a label where that is empty."""
        nonlocal spare
        if spare and rng.random() < share:
            label = among(rng, labels)
            rows.append((label, value) if label else (value,))
            said[key] = value
            spare -= 1

    if "shop" in said and spare > 1 and rng.random() < 0.2:
        rows.append((house(rng, test),))
        spare -= 1
    told("date", 0.7 if rows else 0.2, date(rng), "||Date")
    told("time", 0.12, clock(rng), "|Time")
    told("number", 0.12, str(rng.randrange(10**5)), "Receipt no.|Receipt|Order|Order no.|Bill no.")
    told("cashier", 0.1, rng.choice(FIRST_NAMES), "Cashier|Served by|Server")
    rows += items
    said["items"] = [{"name": name, "price": cost} for name, cost in items]
    for _ in range(rng.choice([0, 0, 1])):
        if spare:
            rows.append((rng.choice(BESIDES[2:]), sign + price(rng)))
            spare -= 1
    taxed = rng.random()
    told("tax", 0.2 * (taxed < 0.5), sign + price(rng), "Tax|VAT|Sales tax")
    rows.append((rng.choice(["TOTAL", "Total", "Total", "Sum", "Amount due"]), total))
    said["total"] = total
    told("tax", 0.2 * (taxed >= 0.5), sign + price(rng), "Tax|VAT|incl. VAT")
    told("cash", 0.2, sign + price(rng), "Cash|Cash|Paid|Given")
    told("change", 0.7 * ("cash" in said), sign + price(rng), "Change|Change due")
    if spare and rng.random() < 0.3:
        thanks = "Thank you!|THANK YOU|Thanks for your visit|See you soon|Good bye|Have a nice day"
        rows.append((among(rng, thanks),) if rng.random() < 0.7 else (rng.choice(BESIDES[:2]), total))
    return rows, said


FORM: dict[str, tuple[str, Callable[[random.Random, bool], str]]] = {  # labels, and what stands beside
    "name": ("Name|Name|Full name|Holder", person),
    "first_name": ("First name|Given name", lambda rng, test: rng.choice(FIRST_NAMES)),
    "last_name": ("Last name|Surname|Family name", surname),
    "birth": ("Date of birth|Born|Birthday|DOB|Birth date", lambda rng, test: date(rng)),
    "age": ("Age", lambda rng, test: str(rng.randint(1, 99))),
    "city": ("City|City|Town", lambda rng, test: rng.choice(CITIES)),
    "country": ("Country", lambda rng, test: rng.choice(COUNTRIES)),
    "street": ("Street|Address", house),
    "postcode": ("Postcode|ZIP|Zip code|Postal code", lambda rng, test: f"{rng.randrange(10**5):05}"),
    "phone": ("Phone|Phone|Tel|Telephone|Mobile|Phone number", lambda rng, test: phone(rng)),
    "email": ("Email|Email|E-mail|Email address", email),
    "website": ("Website|Web", site),
    "job": ("Job|Job title|Occupation|Profession|Position", lambda rng, test: job(rng)),
    "company": ("Company|Employer|Firm", company),
    "department": ("Department|Dept.", lambda rng, test: word(rng, test).title()),
    "date": ("Date", lambda rng, test: date(rng)),
    "valid": ("Valid until|Expires|Expiry date|Valid to", lambda rng, test: date(rng)),
    "number": ("Number", lambda rng, test: str(rng.randrange(10**6))),
    "id": ("ID|ID no.|ID number|Member no.|Member ID", lambda rng, test: reference(rng)),
    "order": ("Order number|Order no.|Order ID", lambda rng, test: reference(rng)),
    "booking": ("Booking number|Booking no.|Reservation no.|Booking ref", lambda rng, test: reference(rng)),
    "status": ("Status", lambda rng, test: among(rng, "paid|open|shipped|active|delivered|pending|sent")),
    "quantity": ("Quantity|Qty|Amount", lambda rng, test: str(rng.randint(1, 200))),
    "colour": ("Colour|Color", lambda rng, test: rng.choice(list(COLOURS))),
    "size": ("Size", lambda rng, test: among(rng, "S|M|L|XL|38|42|44|small|large|medium")),
    "model": ("Model", lambda rng, test: code(rng, test)),
    "serial": ("Serial number|Serial no.|S/N", lambda rng, test: reference(rng)),
    "doctor": ("Doctor|Physician", lambda rng, test: f"Dr. {surname(rng, test)}"),
    "hotel": ("Hotel", lambda rng, test: f"Hotel {word(rng, test).title()}"),
    "check_in": ("Check-in|Arrival", lambda rng, test: date(rng)),
    "check_out": ("Check-out|Departure", lambda rng, test: date(rng)),
    "guests": ("Guests|Persons|Number of guests", lambda rng, test: str(rng.randint(1, 9))),
    "room": ("Room|Room no.", lambda rng, test: str(rng.randint(1, 900))),
    "language": ("Language", lambda rng, test: rng.choice(TONGUES)),
    "nationality": ("Nationality|Citizenship", lambda rng, test: word(rng, test).title()),
    "weight": ("Weight", lambda rng, test: f"{rng.randint(1, 120)} kg"),
    "height": ("Height", lambda rng, test: f"{rng.randint(50, 220)} cm"),
    "teacher": ("Teacher|Tutor", person),
    "subject": ("Subject|Course|Topic", lambda rng, test: word(rng, test).title()),
    "grade": ("Grade|Mark|Score", lambda rng, test: among(rng, "A|B|C|D|1|2|3|17|88|95")),
    "price": ("Price|Fee|Cost", lambda rng, test: rng.choice(["", "$", "€"]) + price(rng)),
}  # fmt: skip
USUAL = "name city date phone age email number street".split()  # what stands on most forms
RIVALS = {  # of a form with one of these it would be in doubt which is asked for
    "name": "first_name last_name teacher doctor hotel company", "date": "birth valid check_in check_out",
    "number": "phone id order booking serial room postcode guests quantity", "id": "order booking serial",
    "price": "quantity", "company": "job",
    "weight": "height size quantity", "room": "hotel",
}  # fmt: skip


HEADS = "Name Price Count City Code Age".split()  # of tables
FEW_FIGURES = "Count Code Age Qty Points".split()  # under a head of its own there may be an income
RARER_HEADS = "Item Person Qty Colour Points Year Time".split()
TAKEN = {label.lower() for labels, _ in FORM.values() for label in labels.split("|")}
TAKEN |= {*FORM, *map(str.lower, HEADS), *map(str.lower, RARER_HEADS)}


def own_label(rng: random.Random, test: bool) -> str:
    """A word that no form or table has as a label already: two values of one name have no right answer."""
    while (own := word(rng, test)).lower() in TAKEN:
        pass
    return own


def form(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    own = own_label(rng, test)
    among_these = [*FORM, own] if rng.random() < 0.6 else [*USUAL, own]
    keys = rng.sample(among_these, rng.randint(2, max(2, min(7, room - 1))))
    keys = [key for key in keys if not {*RIVALS.get(key, "").split()} & {*keys}]
    if not keys:
        return form(rng, test, room)
    colon = rng.choice([":", ""])
    case = rng.choice([str, str, str, str.upper])
    rows: Rows = []
    said = {}
    for key in keys:
        labels, value = FORM.get(key, (own.title(), word))
        said[key] = value(rng, test)
        rows.append((case(among(rng, labels)) + colon, said[key]))
    if rng.random() < 0.5 and len(rows) < room:
        usual = "Registration|Application|Booking|Order|Reservation|Membership|VISITOR|Badge"
        head = (
            among(rng, usual)
            if rng.random() < 0.5
            else f"{word(rng, test).title()} {among(rng, 'Form|Card|Ticket')}"
        )
        rows.insert(0, (head,))
    return rows, said


def figure(rng: random.Random, most: int) -> str:
    return str(rng.randrange(10 ** rng.randint(1, most)))


def table(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    rarer = RARER_HEADS if rng.random() < 0.5 else []
    heads = rng.sample([*HEADS, *rarer, own_label(rng, test).title()], rng.choice([2, 2, 3, 3, 4]))
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
        [value[head]() if head in value else figure(rng, 3 if head in FEW_FIGURES else 6) for head in heads]
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
    return [(among(rng, labels[k]) + colon, fields[k]) for k in keys], {k: fields[k] for k in keys}


def plain(said: Any) -> Any:
    """Prices without their signs, as all documents have them in JSON."""
    if isinstance(said, dict):
        return {key: plain(value) for key, value in said.items()}
    if isinstance(said, list):
        return [plain(one) for one in said]
    return said.lstrip("$€£") if isinstance(said, str) else said


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
        "seat": f"{rng.randint(1, 60)}{rng.choice('ABCDEF')}"
        if rng.random() < 0.7
        else str(rng.randint(1, 99)),
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
        "flight": "Flight|Flight no.|FLIGHT",
        "boarding": "Boarding|Boarding time|Boards",
    }
    if gate:
        fields["gate"] = rng.choice("ABCD") + fields["gate"]
        fields["flight"] = (
            f"{rng.choice('ABEKLTU')}{rng.choice('ABFHKSZ')}{rng.choice(['', ' '])}{rng.randrange(9999)}"
        )
        fields["boarding"] = clock(rng)
    rows, said = labelled(rng, fields, labels, rng.randint(3, min(7, max(3, room))))
    titles = "Boarding pass|BOARDING PASS|Flight ticket" if gate else "Train ticket|TICKET|Bus ticket|Ticket"
    return headed(rng, rows, titles, room), said


def show(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    """A ticket of a cinema, a theatre or a museum."""
    fields = {
        "title": title(rng, test), "date": date(rng), "time": clock(rng), "hall": str(rng.randint(1, 12)),
        "row": str(rng.randint(1, 40)), "seat": rng.choice(["", *"ABCDEFGHJK"]) + str(rng.randint(1, 60)),
        "price": rng.choice(["", "$", "€", "£"]) + price(rng),
    }  # fmt: skip
    labels = {
        "title": "Film|Movie|Show|Title|Event", "date": "Date|DATE|Day", "time": "Time|Starts|Start|TIME",
        "hall": "Hall|Screen|Room", "row": "Row|ROW", "seat": "Seat|SEAT",
        "price": "Price|Admission|Paid|PRICE",
    }  # fmt: skip
    rows, said = labelled(rng, fields, labels, rng.randint(3, min(7, max(3, room))))
    return headed(
        rng, rows, "CINEMA|Cinema ticket|ADMIT ONE|Theatre|Ticket|CINEMA TICKET|Admission", room
    ), said


def poster(rng: random.Random, test: bool, room: int) -> tuple[Rows, dict]:
    """What takes place where and when, in lines that show by themselves what they are."""
    said = {
        "title": title(rng, test), "date": date(rng), "time": clock(rng),
        "place": f"{place(rng, test)} {among(rng, 'Hall|Park|Theatre|Club|Museum|Arena')}",
        "price": rng.choice(["", "$", "€", "£"]) + price(rng), "phone": phone(rng),
        "website": f"www.{site(rng, test)}",
    }  # fmt: skip
    keys = rng.sample(list(said)[1:], rng.randint(2, max(2, min(5, room - 1))))
    said = {key: text for key, text in said.items() if key == "title" or key in keys}
    before = {
        "time": among(rng, "|Starts at |Doors open at |Begins "), "place": among(rng, "||at the "),
        "price": among(rng, "Tickets |Tickets: |Admission |Entry |Entrance fee "),
        "phone": among(rng, "|Tel. |Call "),
    }  # fmt: skip
    return [(before.get(key, "") + text,) for key, text in said.items()], said


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
    """A business card: no labels, for each line shows what it is; above the name there may be the company."""
    said = {
        "name": person(rng, test),
        "job": job(rng),
        "company": company(rng, test),
        "phone": phone(rng),
        "email": email(rng, test),
        "street": house(rng, test),
        "city": rng.choice(CITIES),
    }
    keys = rng.sample(list(said)[1:], rng.randint(1, max(1, min(5, room - 1))))
    first = ["company", "name"] if rng.random() < 0.4 else ["name"]
    said = {key: said[key] for key in dict.fromkeys([*first, *said]) if key == "name" or key in keys}
    before = {"phone": among(rng, "||Tel. |Phone: "), "email": among(rng, "|||Email: ")}
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
    form = among(rng, "{0}:{1:02}|{0}:{1:02}|{0:02}:{1:02}|{0}|{2} am|{2}am")

    def hour(first: int, last: int) -> str:
        at = rng.randint(first, last)
        said = form.format(at, rng.choice([0, 15, 30, 45]), (at - 1) % 12 + 1)
        return said.replace("am", "pm") if at >= 12 else said

    said: dict = {"days": []}
    for day in days:
        times = f"{hour(6, 11)}{dash}{hour(13, 22)}"
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
    dishes, sign = [], rng.choice(["", "", "$", "€", "£"])
    for _ in range(rng.randint(2, max(2, min(6, room - 1)))):
        dish = f"{word(rng, test)} {rng.choice(FOODS)}" if rng.random() < 0.3 else goods(rng, test)
        dishes.append({"name": dish[0].upper() + dish[1:], "price": sign + price(rng)})
    rows: Rows = [(dish["name"], dish["price"]) for dish in dishes]
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
    list=shopping, hours=hours, timetable=timetable, menu=menu, calendar=calendar, show=show, poster=poster,
)  # fmt: skip
HOW_OFTEN = [20, 24, 20, *[5] * 11]
MAY_LACK = {  # keys for which one asks in vain where they are missing
    "receipt": "shop date time cashier change", "form": "city age phone email",
    "invoice": "due customer total", "ticket": "seat date name", "card": "phone email job",
    "label": "weight price best_before origin", "show": "date seat price", "poster": "date price phone",
}  # fmt: skip
IN_DOUBT = {"phone": "number", "age": "birth", "city": "country hotel check_in"}  # of forms with one of these
SMALL = ["receipt price by name", "receipt has", "menu price by name", "menu has", "list has",
         "receipt together", "menu together", "receipt dearer", "menu dearer", "list after",
         "calendar time by what", "calendar day by what", "calendar with by what"]  # fmt: skip
CALLED = {"card": "business card", "hours": "sign", "show": "ticket"}  # others as their kind


def document(rng: random.Random, test: bool, size: draw.Size) -> View:
    width, height = size
    (kind,) = rng.choices(list(DOCUMENTS), HOW_OFTEN)
    rows, said = DOCUMENTS[kind](rng, test, max(3, height // 44))
    labels = written_labels(rows, said)
    first_key = {"list": "title", "receipt": "shop"}.get(kind)
    has_title = len(rows[0]) == 1 and (first_key is None or first_key in said)
    if rng.random() < 0.55:  # a label and its value in one run
        rows = [(" ".join(row),) if len(row) == 2 and row[0].endswith(":") else row for row in rows]
    elif kind in ("form", "ticket", "show", "invoice") and rng.random() < 0.25:  # the value below its label
        rows = [(cell,) for row in rows for cell in row]
    largest = 30 if rng.random() < 0.7 else 44
    for points in range(max(14, min(largest, int(height / 1.4 / len(rows)))), 12, -2):
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
    ground = draw.light(rng) if rng.random() < 0.6 else (255, 255, 255)
    ink = (0, 0, 0) if rng.random() < 0.6 else tuple(rng.randrange(90) for _ in range(3))
    if rng.random() < 0.15:  # as a board, or coloured
        ground = draw.any_colour(rng)
        ink = draw.ink_on(rng, ground)
    picture = Image.new("RGB", size, ground)
    pen = ImageDraw.Draw(picture)
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
    titled = rng.random() < 0.45 and rows[1:] and has_title
    more = int(min(rng.choice([4, 4, 8, 14]), y))  # of its height, which reaches up, not into the next line
    head = draw.random_font(rng, points + more, rows[0][0]) if titled else face
    margin = max(1, min(spread / 2, lefts[0], width - lefts[-1] - columns[-1]) - 1)
    letters = []
    middle = airy and rng.random() < 0.6  # of what stands alone in its row
    for n, row in enumerate(rows):
        own = head if n == 0 and lefts[0] + head.getlength(row[0]) < width - 4 else face
        for i, text in enumerate(row):
            x = lefts[i]
            if len(row) == 1 and middle:
                x = max(4, (width - own.getlength(text)) / 2)
            if i and to_the_right:
                x += columns[i] - face.getlength(text)
            above = more if own is not face else 0
            letters.append(draw.write(pen, (x, y - above), text, ink, own))
        if boxed:
            draw_cells(pen, lefts, columns, y + 0.6 * points, pitch, margin)
        elif n in ruled:
            below = y + 1.2 * points
            pen.line([(lefts[0], below), (width - 8, below)], (170, 170, 170))
        y += pitch
    return View("document", draw.worn(rng, picture), letters=letters, truth=(kind, said), labels=labels)


def written_labels(rows: Rows, said: dict) -> dict[str, str]:
    """By the key of a value what stands before it, as a key of JSON: expiry_date."""
    found: dict[str, str] = {}
    for label, value in (row for row in rows if len(row) == 2):
        key = next((key for key, one in said.items() if one == value and key not in found), None)
        if key and label.rstrip(":") != "Only":  # a price, which nobody calls so
            found[key] = re.sub(r"\W+", "_", label.lower()).strip("_")
    return found


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


def is_number(text: str) -> bool:
    """Could it stand in JSON as a number that says the same?"""
    return re.fullmatch(r"(0|[1-9]\d{0,6})(\.\d\d)?", text) is not None


def schema(rng: random.Random, said: object, key: str) -> dict:
    """As people write it, or as libraries do, which add a title and what is required."""
    by_library = rng.random() < 0.3
    required = by_library or rng.random() < 0.4

    def of(part: object, key: str) -> dict:
        if isinstance(part, dict):
            inside = {inner: of(value, inner) for inner, value in part.items()}
            more = {"required": list(part)} if required else {}
            made = {"type": "object", "properties": inside, **more}
        elif isinstance(part, list):
            made = {"type": "array", "items": of(part[0], key)}
        else:
            made = {"type": "string" if isinstance(part, str) else "number"}
        return {"title": key.replace("_", " ").title(), **made} if by_library else made

    return of(said, key)


def template(rng: random.Random, said: Any, empty: str) -> Any:
    """The same with nothing in it."""
    if isinstance(said, dict):
        return {key: template(rng, value, empty) for key, value in said.items()}
    if isinstance(said, list):
        return [template(rng, said[0], empty)]
    return empty


COUNTS = "price total tax cash change age count quantity guests".split()  # keys of what may be a number


def in_numbers(said: Any) -> Any:
    """Prices and counts as numbers."""
    if isinstance(said, list):
        return [in_numbers(one) for one in said]
    if not isinstance(said, dict):
        return said
    made = {key: in_numbers(value) for key, value in said.items()}
    for key in made:
        if key in COUNTS and isinstance(said[key], str) and is_number(said[key]):
            number = float(said[key])
            made[key] = int(number) if number.is_integer() else number
    return made


OTHER_KEYS = {  # what people call a key, too: anywhere, or in one kind of document
    "shop": "store|store|merchant|vendor|seller|store_name|shop_name|merchant_name|business",
    "items": "products|articles|purchases|line_items|goods|positions|entries",
    "dishes": "items|menu|meals|food|menu_items|courses",
    "total": "total_amount|sum|amount|grand_total|total_price|total_sum",
    "price": "cost|amount|price_paid|item_price",
    "cash": "cash_paid|paid|cash_given|amount_paid",
    "change": "change_given|change_due|money_back",
    "tax": "vat|sales_tax|tax_amount",
    "cashier": "server|served_by|employee",
    "receipt date": "purchase_date|day|date_of_purchase|receipt_date",
    "receipt number": "receipt_number|receipt_no|order_number|id",
    "items name": "item|product|description|article|title",
    "dishes name": "dish|item|title|meal",
    "invoice number": "invoice_number|invoice_no|invoice_id|id",
    "invoice date": "invoice_date|issue_date|issued|date_of_issue",
    "due": "due_date|payment_due|pay_by|deadline",
    "customer": "client|bill_to|customer_name|client_name|recipient",
    "invoice total": "amount_due|amount|total_due|sum",
    "ticket name": "passenger|passenger_name|traveller",
    "from": "origin|departure_city|start|departure|from_city",
    "to": "destination|arrival_city|to_city",
    "ticket time": "departure_time|departs|time_of_departure",
    "boarding": "boarding_time",
    "flight": "flight_number|flight_no",
    "gate": "gate_number", "platform": "platform_number|track", "seat": "seat_number",
    "product": "name|product_name|item|article|title",
    "label weight": "net_weight|contents",
    "best_before": "expiry_date|expires|use_by|best_by|expiration_date",
    "origin": "made_in|country|place_of_origin|produced_in",
    "card name": "full_name|person|contact|contact_name",
    "job": "title|position|job_title|role|occupation|profession",
    "company": "employer|firm|organisation|company_name|business|organization",
    "phone": "phone_number|telephone|tel|mobile",
    "email": "e_mail|mail|email_address",
    "street": "address|street_address",
    "city": "town|place",
    "form name": "full_name|person",
    "first_name": "firstname|given_name|forename",
    "last_name": "surname|lastname|family_name",
    "birth": "date_of_birth|birthday|birth_date|dob|born",
    "postcode": "zip|zip_code|postal_code",
    "valid": "valid_until|expiry_date|expires",
    "id": "id_number|member_id", "order": "order_number|order_id", "booking": "booking_number|reservation",
    "serial": "serial_number", "doctor": "physician", "check_in": "arrival", "check_out": "departure",
    "room": "room_number", "subject": "course|topic", "grade": "mark|score",
    "hours": "time|times|opening_hours|open", "days": "opening_hours|hours|week|schedule",
    "departures": "trains|connections|timetable|rows", "appointments": "events|entries|schedule|calendar",
    "what": "event|appointment|title|name", "with": "person|who|whom",
    "rows": "data|table|entries|records|lines", "restaurant": "name|place|restaurant_name|cafe",
    "show title": "film|movie|show|name|event", "poster title": "event|name|event_name|what",
    "place": "venue|location|where", "poster time": "start|starts_at|begin", "hall": "screen|room",
    "website": "url|web|site|homepage", "list title": "name|heading",
}  # fmt: skip
STYLES = [str.capitalize, str.upper, lambda key: re.sub("_(.)", lambda one: one[1].upper(), key)]  # firstName


def renamed(rng: random.Random, kind: str, said: dict) -> dict:
    """With other keys, as people call what they want."""
    style = rng.choice(STYLES) if rng.random() < 0.2 else str
    share = rng.choice([0, 0, 0.5, 1])
    chosen: dict[str, str] = {}

    def called(where: str, key: str) -> str:
        others = OTHER_KEYS.get(f"{where} {key}") or OTHER_KEYS.get(key)
        if key not in chosen:
            chosen[key] = among(rng, others) if others and rng.random() < share else key
        return style(chosen[key])

    def inside(where: str, part: Any) -> Any:
        if isinstance(part, list):
            return [inside(where, one) for one in part]
        if not isinstance(part, dict):
            return part
        return {called(where, key): inside(key, value) for key, value in part.items()}

    made = inside(kind, said)
    return made if len(made) == len(said) else said  # else two are called the same


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
    return [*BESIDES, *LABELS, *(text for text in said.values() if isinstance(text, str))]


Answers = dict[str, list[tuple[tuple[str, ...], str]]]  # by which wordings: what is named in them, the answer


def answers(rng: random.Random, kind: str, said: dict, test: bool) -> Answers:
    """All that has one answer in this document."""
    found: Answers = defaultdict(list)
    texts = {called_in_words(key): value for key, value in said.items() if isinstance(value, str)}
    if kind != "receipt" and len(texts) == len(said):
        found["any two values"] = [
            ((one, other), "\n".join(f"{key[0].upper()}{key[1:]}: {texts[key]}" for key in (one, other)))
            for one, other in permutations(texts, 2)
        ]
    if kind in ("ticket", "show", "poster") and {"date", "time"} <= {*said}:
        found["any day and time"] = [((), f"{said['date']}, {said['time']}")]
    if {"from", "to"} <= {*said}:
        found["ticket way"] = [((), f"From {said['from']} to {said['to']}.")]
    for key, value in said.items():
        if isinstance(value, str):
            ways = [name for name in (f"{kind} {key}", f"any {key}") if name in WORDINGS]
            asked_by = ways[0] if ways else "a value by its key"
            found[asked_by].append(((key.replace("_", " "),), value))
            continue
        firsts = [by_words(one) for one in value]
        found[f"{kind} how many"].append(((), counted(firsts, "item" if key == "dishes" else key[:-1])))
        if kind in ("receipt", "menu"):
            answers_of_prices(kind, value, found)
        if kind in ("timetable", "calendar"):
            asked = ("time", "to") if kind == "timetable" else ("what",)
            for key in asked:
                found[f"{kind} {key} at an end"] = [(("first",), value[0][key]), (("last",), value[-1][key])]
        if f"{kind} has" in WORDINGS:
            names = [one if kind == "list" else one["name"] for one in value]
            other = other_thing(rng, test, [*names, *written_beside(said)])
            on_it = f"On it: {', '.join(names)}."  # read first: whether it is there follows from that
            one = rng.choice(names)
            if kind != "list" and rng.random() < 0.5:  # soup, where there is tomato soup
                one = one.split()[-1]
            found[f"{kind} has"] = [((one,), f"{on_it} Yes."), ((other,), f"{on_it} No.")]
        if kind == "list":
            found["list all"].append(((), ", ".join(value)))
            found["list one"] = [((place,), one) for place, one in zip(ORDER, value, strict=False)]
            found["list one"].append((("last",), value[-1]))
            found["list after"] = [
                ((one,), after) for one, after in pairwise(value) if one_of_them(one, value)
            ]
        elif kind == "hours":
            answers_of_hours(value, found)
        else:
            answers_of_rows(kind, value, found)
            if kind == "table":
                answers_of_columns(value, found)
    return found


IN_WORDS = {  # what people call a key, where that is not how it is written
    "birth": "date of birth", "valid": "expiry date", "due": "due date", "check_in": "check-in date",
    "check_out": "check-out date", "from": "place of departure", "to": "destination", "id": "ID",
    "best_before": "best before date", "order": "order number", "booking": "booking number",
    "serial": "serial number", "phone": "phone number", "flight": "flight number",
    "guests": "number of guests", "boarding": "boarding time",
}  # fmt: skip


def called_in_words(key: str) -> str:
    return IN_WORDS.get(key, key.replace("_", " "))


def by_words(entry: Any) -> str:
    """What it is called when it is counted: the first that is no figure."""
    told = [entry] if isinstance(entry, str) else list(entry.values())
    return next((one for one in told if one[0].isalpha()), told[0])


def answers_of_prices(kind: str, goods: list[dict], found: Answers) -> None:
    """What there is, and what clearly costs most and least."""
    names = [one["name"] for one in goods]
    found[f"{kind} all"].append(((), ", ".join(names)))
    found[f"{kind} one"] = [((place,), name) for place, name in zip(ORDER, names, strict=False)]
    found[f"{kind} one"].append((("last",), names[-1]))
    prices = [one["price"] for one in goods]
    told_apart = [(one["name"], one["price"]) for one in goods if one_of_them(one["name"], names)]
    for two in permutations(told_apart, 2):
        x, y = (figures_of(price) for _, price in two)
        if max(x, y) < 10**4:  # sums of more figures are not worked out
            asked = tuple(name for name, _ in two)
            found[f"{kind} together"].append((asked, worked_out(two, "+", add_aloud(x, y), x + y)))
            if x > y:
                found[f"{kind} dearer"].append((asked, worked_out(two, "-", subtract_aloud(x, y), x - y)))
    costs = sorted(zip(map(figures_of, prices), names, strict=True))
    if len(costs) > 1 and costs[-1][0] > 1.1 * costs[-2][0] + 50:
        highest = f"{one_beside_another(names, prices, max)} The most expensive is {costs[-1][1]}."
        found[f"{kind} most expensive"].append(((), highest))
    if len(costs) > 1 and 1.1 * costs[0][0] + 50 < costs[1][0]:
        lowest = f"{one_beside_another(names, prices, min)} The cheapest is {costs[0][1]}."
        found[f"{kind} cheapest"].append(((), lowest))


def worked_out(two: tuple[tuple[str, str], ...], sign: str, steps: str, cents: int) -> str:
    """What two things cost, then column by column, as all sums of so many figures, what that comes to."""
    (_, price), (_, other) = two
    currency = re.sub(r"[\d.]", "", price)
    read = ", ".join(f"{name} {cost}" for name, cost in two)
    return f"{read}.\n{steps}\n{price} {sign} {other} = {currency}{cents // 100}.{cents % 100:02}."


def figures_of(told: str) -> int:
    """Of a whole number; of a price its cents."""
    return int(digits(told))


def one_beside_another(names: list[str], told: list[str], extreme: Callable[..., int]) -> str:
    """All of them, and how they stand to each other."""
    numbers = [*map(figures_of, told)]
    as_told = dict(zip(numbers, told, strict=True)).__getitem__
    each = ", ".join(f"{name} {one}" for name, one in zip(names, told, strict=True))
    return f"{each}. {seek(numbers, extreme, as_told)}"


def answers_of_columns(rows: list[dict], found: Answers) -> None:
    """What columns a table has, what is in one, and what has the highest or the lowest figure in one."""
    heads = [*rows[0]]
    found["table heads"].append(((), ", ".join(map(str.title, heads))))
    found["table column"] = [((head,), ", ".join(row[head] for row in rows)) for head in heads]
    names = [row[heads[0]] for row in rows]
    if heads[0] not in ("name", "item", "person", "city") or len({*names}) < len(names):
        return
    for head in heads[1:]:
        told = [row[head] for row in rows]
        if head in ("code", "year") or not all(re.fullmatch(r"\d+(\.\d\d)?", one) for one in told):
            continue
        numbers = [*map(figures_of, told)]
        for called, extreme in ("highest", max), ("lowest", min):
            if numbers.count(extreme(numbers)) == 1:
                name = names[numbers.index(extreme(numbers))]
                answer = f"{one_beside_another(names, told, extreme)} The {called} {head}: {name}."
                found[f"table {called}"].append(((head, heads[0]), answer))


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
        if kind == "table" and asked == next(iter(rows[0])):
            found["table row by cell"] += [
                ((row[by], by, asked), row[asked])
                for row in rows
                if one_of_them(row[by], names) and cells.count(row[by]) == 1
            ]
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
            opens, closes = re.split(" - |-| to ", one["hours"])
            found["hours opens"].append(((day,), opens))
            found["hours closes"].append(((day,), closes))
    closed = [one["day"] for one in days if one["hours"] == "closed"]
    if len(closed) == 1:
        found["hours closed day"].append(((), closed[0]))
    elif closed:
        found["hours closed days"].append(((), ", ".join(closed)))
    if len(days) - len(closed) > 1:
        found["hours open days"].append(
            ((), ", ".join(one["day"] for one in days if one["day"] not in closed))
        )


def lacking_keys(kind: str, said: dict) -> list[str]:
    """What such documents say, and this one does not: nothing that another value of it might be."""
    lacking = [key for key in MAY_LACK.get(kind, "").split() if key not in said]
    return [key for key in lacking if kind != "form" or not {*IN_DOUBT.get(key, "").split()} & {*said}]


def unanswered(rng: random.Random, kind: str, said: dict, test: bool) -> dict[str, tuple[str, ...]]:
    """What is asked of such documents that this one does not say: a key it lacks, of what is not on it."""
    found: dict[str, tuple[str, ...]] = {f"{kind} {key}": () for key in lacking_keys(kind, said)}
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
        named = tuple(name[0].lower() + name[1:] for name in named)
    return worded(rng, asked_by, *named), answer


EVIDENCE = re.compile(  # between what is read and what follows there may be how figures compare, or a sum
    r"(?P<read>.+?)\.(?: (?:\S+ has \d figure.+\. )?|(?s:\n.+\n))"
    r"(?P<last>Yes|No|There (?:is|are) \d+ \w+|The (?:most expensive|cheapest) is .+|"
    r"The (?:highest|lowest) \w+: .+|\S+ [-+] \S+ = \S+)\."
)


def extract(rng: random.Random, view: View, test: bool) -> Sample:
    """All of it as JSON, some of its keys, a list, or one value."""
    kind, said = view.truth
    share = rng.random()
    called = rng.choice([CALLED.get(kind, kind), "document", "picture"])
    (entries,) = [part for part in said.values() if isinstance(part, list)] or [[]]
    if share < (0.3 if kind == "table" else 0.5):
        return value_asked(rng, view, test)
    if entries and share < (0.42 if kind == "table" else 0.58):
        return listed_entries(rng, view, called, entries)
    said = plain(said)
    if share > 0.88:  # by no keys: by its labels, or by those that such documents have
        chosen = said if entries else {view.labels.get(key, key): value for key, value in said.items()}
        question = worded(rng, "all as JSON", called)
    else:
        keys = [key for key in said if rng.random() < 0.7] or list(said)
        if rng.random() < 0.3:
            rng.shuffle(keys)
        chosen = {key: said[key] for key in keys}
        question, chosen = by_keys(rng, kind, called, chosen, said)
    answer = json.dumps(chosen, ensure_ascii=False)
    return ask("extract", question, answer, view, spelled=tuple(values(chosen)))


def value_asked(rng: random.Random, view: View, test: bool) -> Sample:
    """What it says to one question, perhaps as JSON of one key."""
    kind, said = view.truth
    question, answer = asked_of_document(rng, kind, said, test)
    told = EVIDENCE.fullmatch(answer)
    if answer == NOT_THERE or told:
        key = told["last"] if told else None
        read = tuple(told["read"].removeprefix("On it: ").split(", ")) if told else ()
        if told and (name := re.match(r"The [^:]+?(?: is |: )(.+)", told["last"])):
            read = (*read, name[1])
        return ask("extract", in_context(rng, question, answer), answer, view, spelled=read, key=key)
    is_alone = values(said).count(answer) == 1  # else another key may be the one that was asked for
    key = next((key for key, value in said.items() if is_alone and value == answer), None)
    if key and rng.random() < 0.08:
        question = in_turn(question, worded(rng, "as JSON of one key", key))
        answer = json.dumps({key: plain(answer)}, ensure_ascii=False)
        return ask("extract", question, answer, view, spelled=(plain(answer),))
    if answer != plain(answer) and rng.random() < 0.25:
        answer = plain(answer)
        return ask(
            "extract", in_turn(question, worded(rng, "just the number")), answer, view, spelled=(answer,)
        )
    read = (answer,)
    if "\n" in answer or answer.startswith("From "):  # of several values, between other words
        read = tuple(text for text in values(said) if text in answer)
    return ask("extract", in_context(rng, question, answer), answer, view, spelled=read)


def listed_entries(rng: random.Random, view: View, called: str, entries: list) -> Sample:
    """The items, rows or days alone: an array of JSON, of all their keys or of the first; or a table."""
    kind, _ = view.truth
    if isinstance(entries[0], str):
        question, chosen = worded(rng, "entries as an array of texts", called), entries
    elif kind == "table" and rng.random() < 0.4:
        lines = [
            [*map(str.title, entries[0])],
            ["---"] * len(entries[0]),
            *(list(row.values()) for row in entries),
        ]
        if rng.random() < 0.4:
            question = worded(rng, "rows as CSV")
            answer = "\n".join(",".join(line) for line in lines if line[0] != "---")
        else:
            question = worded(rng, "rows as markdown")
            answer = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return ask("extract", question, answer, view, spelled=tuple(values(entries)))
    elif kind in ("receipt", "menu") and rng.random() < 0.35:
        question, chosen = worded(rng, "names as an array", called), [one["name"] for one in entries]
    else:
        chosen = plain(entries)
        question = worded(rng, "entries as an array", called, listed(list(entries[0])))
    answer = json.dumps(chosen, ensure_ascii=False)
    return ask("extract", question, answer, view, spelled=tuple(values(chosen)))


def by_keys(rng: random.Random, kind: str, called: str, chosen: dict, said: dict) -> tuple[str, dict]:
    """Asks for these keys by a schema, a form or their names; and what is right under these names."""
    share = rng.random()
    if share < 0.3:
        numbers = rng.random() < 0.4
        chosen = renamed(rng, kind, in_numbers(chosen) if numbers else chosen)
        return worded(rng, "JSON by a schema", called, json.dumps(schema(rng, chosen, kind))), chosen
    lacking = lacking_keys(kind, said)
    if lacking and rng.random() < 0.2:
        at = rng.randint(0, len(chosen))
        known = list(chosen.items())
        chosen = dict([*known[:at], (rng.choice(lacking), None), *known[at:]])
    own, chosen = chosen, renamed(rng, kind, chosen)
    wished = rng.random() < (0.5 if None in chosen.values() else 0.1)  # also where nothing is missing
    null = worded(rng, "null for what is missing") if wished else ""
    if share < 0.5:
        empty = json.dumps(template(rng, chosen, rng.choice(["", "", "...", "string", "?"])))
        if rng.random() < 0.2:
            empty = empty.replace('"?"', "...").replace('""', "null")
        return in_turn(worded(rng, "JSON by a form", called, empty), null), chosen
    parts = []
    for (key, value), before in zip(chosen.items(), own.values(), strict=True):
        if isinstance(value, list) and isinstance(value[0], dict):
            if rng.random() < 0.8:
                key = f"{key} ({', '.join(value[0])} each)"
            else:  # what no one names is called as in the document
                chosen[key] = before
        parts.append(key)
    if rng.random() < 0.2:
        parts = [listed([f"the {part}" for part in parts] if rng.random() < 0.5 else parts)]
    return in_turn(worded(rng, "JSON by keys", called, ", ".join(parts)), null), chosen
