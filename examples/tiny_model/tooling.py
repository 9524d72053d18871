"""Tools by their schema alone: most are made up anew for each sample, some are as many people have them."""

from __future__ import annotations

import functools
import json
import random
import re
import string
from typing import Any

from everyday import EVERYDAY, SAY_NOTHING, Usual, given, is_clear, without_implied
from figures import sums
from sample import Sample, a, among, ask, listed
from wordings import worded
from words import (
    ALL_WORDS,
    ANIMALS,
    COLOURS,
    FOODS,
    JOBS,
    LITTLE_WORDS,
    MONTHS,
    NUMBERS,
    TONGUES,
    WEEKDAYS,
    WORDS,
    any_word,
    anything,
    city,
    doubled,
    made_up,
    name,
    pick,
)

NO_TOOL = "I have no tool for that."
ASKS = (
    "get fetch find look_up check show read get_current search search_for query retrieve".split()
)  # what they answer with is a thing
ACTS = """send set start stop book create delete add open close order play move update cancel save share print
write call turn pay turn_on turn_off switch_on switch_off put_on add_to rent hire reserve clean lock
unlock post schedule remind convert translate print_out activate water wash cook heat fill charge clean_up
ship deliver record report repair cut test""".split()
NOUNS = """weather time price stock news mail message timer alarm song light door room table flight train
ticket taxi invoice order file folder note event meeting task list report photo map route score result balance
account payment contact recipe book film game sensor camera printer heater fan robot pump job user customer
product parcel menu bill offer poem sign number status level distance temperature speed forecast exchange_rate
calendar reminder reservation playlist volume password setting backup server page article
translation garage radio tv fire_alarm window curtain oven washing_machine taxi_ride hotel
hotel_room seat weather_report stock_price share_price currency holiday parking bike car bus tram flights
trains restaurants shops hotels""".split()

# kind of a parameter -> its JSON type, names that it may have
KINDS: dict[str, tuple[str, str]] = {
    "place": ("string", "city place location town destination origin region station country airport state"
              " address venue capital stop city_name"),
    "room": ("string", "room area zone floor part space room_name"),
    "person": ("string", "name person recipient user guest owner author to contact friend customer artist"
               " username receiver sender employee member from_user full_name"),
    "count": ("integer", "count number amount quantity limit guests copies pages people persons seats tickets"
              " size total items party_size max_results how_many rooms"),
    "duration": ("integer", "minutes seconds hours days duration length hour minute nights weeks time"),
    "figure": ("number", "price value temperature weight rate budget level percent height speed volume"),
    "flag": ("boolean", "urgent private loud express repeat quiet public all_day enabled return_trip"),
    "day": ("string", "day date when weekday start deadline due_date start_date end_date on check_in"),
    "clock": ("string", "time at start_time end_time hour from_time until clock_time"),
    "file": ("string", "path file filename file_name file_path filepath document source_file folder"
             " directory"),
    "script": ("string", "code script command cmd program source source_code sql statement shell_command"),
    "list": ("array", "items names tags people attendees guests ingredients cities recipients participants"
             " keywords things members places products"),
    "title": ("string", "title subject topic query label product song track movie book term item thing dish"),
    "text": ("string", "text message content body note description comment reply"),
    "email": ("string", "email to recipient address mail from cc sender"),
    "url": ("string", "url link website page uri address"),
    "word": ("string", "title text message subject topic query label key color id code content body note"
             " description keyword item product song song_title track movie book term"
             " word phrase question reason caption category genre email url search_term q input"),
    "id": ("integer", "id number code order_id ticket_id account_number room_number order_number page case"
           " invoice_number position channel"),
    "code": ("string", "id code key reference booking_id order_id booking_code account card serial_number"),
    "symbol": ("string", "symbol ticker code company stock stock_symbol share id"),
    "unit": ("string", "unit format mode size kind type units"),
    "money": ("string", "currency source target base from_currency to_currency from to"),
    "measure": ("string", "unit from_unit to_unit measure dimension"),
    "language": ("string", "language target_language lang to_language into"),
    "sql": ("string", "sql query statement sql_query"),
    "expression": ("string", "expression formula math calculation"),
    "record": ("object", "user customer details data profile person client entry account member"),
}  # fmt: skip
PARTS = {"name": "person", "email": "email", "city": "place", "age": "count", "phone": "id"}  # of a record
BEFORE = """new max main user first last home event order item start end my target source preferred default
other next current""".split()
BEHIND = "name id value text code info".split()
UNITS = [
    one.split()
    for one in "celsius fahrenheit|small large|short long|pdf text|fast slow|metric imperial|low medium high|"
    "asc desc|small medium large|economy business first|daily weekly monthly|red green blue|mp3 wav|C F|"
    "open closed|json csv xml|on off|walking driving cycling|celsius fahrenheit kelvin".split("|")
]
SUFFIXES = "txt pdf py md csv json png jpg docx xlsx html log zip mp3 yaml js sh toml css xml mp4 gif".split()
ROOMS = "kitchen|bedroom|bathroom|living room|garden|garage|office|hall|cellar|attic|dining room".split("|")
ENDS = "com org net de io co.uk edu".split()
DAYS = ["today", "tomorrow", *WEEKDAYS]
MONEY = "dollars euros pounds yen francs crowns rupees pesos USD EUR GBP JPY CHF".split()
MEASURES = "miles kilometers feet meters inches pounds kilograms grams cups liters gallons celsius".split()
SKY = ["sunny", "cloudy", "rainy", "windy", "snowy", "foggy"]


NUMERIC = ("count", "duration", "figure", "id")
TEXTUAL = ("word", "title", "text", "symbol", "code")


def alike(kind: str) -> str:
    """Kinds whose values look the same have one name."""
    return "number" if kind in NUMERIC else "text" if kind in TEXTUAL else kind


def schema_of(rng: random.Random, kind: str) -> dict[str, Any]:
    """Of a kind, or of one of several words: small/large."""
    schema: dict[str, Any] = {"type": "string" if "/" in kind else KINDS[kind][0]}
    if schema["type"] == "integer" and rng.random() < 0.25:
        schema["type"] = "number"
    if kind == "unit":
        schema["enum"] = rng.choice(UNITS)
    if "/" in kind:
        schema["enum"] = kind.split("/")
    if kind == "list":
        schema["items"] = {"type": "string"}
    if kind == "record":
        parts = [part for part in PARTS if part == "name" or rng.random() < 0.4]
        schema["properties"] = {part: {"type": KINDS[PARTS[part]][0]} for part in parts}
    return schema


TOLD = {  # how parameters of a kind are described besides; {0}: their name
    "place": "Name of the {0}|City and country|The city name|a place on the map|Where it is",
    "room": "The room of the house|Name of the room|which part of the house",
    "person": "Full name|Name of the person|first name or full name|Who it is",
    "count": "How many|A whole number|number from 0 to 100|at least 1|maximum {0}|defaults to 10",
    "duration": "How long|How long, as a whole number|a number of {0}|defaults to 5",
    "figure": "A number|decimal number|The amount|a positive number",
    "flag": "true or false|Whether to do so|false by default|Set to true to switch it on|on or off",
    "day": "YYYY-MM-DD|Date in ISO format|Date, for example 2025-01-31|The day, as today or a date|a date",
    "clock": "HH:MM|24-hour time|Time of day|time in the form HH:MM|When, e.g. 14:30",
    "file": "Path of the file|Absolute or relative path|A path|The full path, with its suffix",
    "script": "The code to run|what to execute|one line|The full {0}",
    "list": "A list of {0}|One or more {0}|{0}, in any order|array of strings",
    "title": "What to look for|Free text|A few words|the name, as said by the user",
    "text": "What it says|The full text|Free text, as said by the user|Plain text",
    "email": "Email address|A valid e-mail address|address of the form name@example.com",
    "url": "Full URL|Web address|The address, with https://|a link",
    "word": "A few words|Free text|text, as said by the user",
    "id": "Number of the {0}|An integer|The numeric id",
    "code": "The code, letters and digits|Reference as on the receipt|Unique identifier",
    "symbol": "Ticker symbol|Short name in capitals|symbol as on the stock exchange",
    "unit": "One of the values|optional choice|Which of these; may be left out|what kind of {0}",
    "money": "ISO code or name of a currency|Three-letter code|A currency",
    "measure": "Unit of measurement|The {0}, such as m or ft|name of the {0}",
    "language": "Name of the language|Language name or code|which language",
    "sql": "The SQL to run|A SELECT statement|one statement",
    "expression": "Arithmetic expression|The formula, with + - * /|what to calculate",
    "record": "The details|an object|all that is known",
}


def description(rng: random.Random, made: dict[str, Any]) -> str:
    """Of a parameter: its name, what it is, or an example, which no question means."""
    called = made["name"].replace("_", " ")
    if rng.random() < 0.4:
        return among(rng, "the {0}|{0}|which {0}|the {0} to use").format(called)
    if rng.random() < 0.7:
        return among(rng, TOLD[made["kind"]]).format(called)
    forms = "The {0}, e.g. {1}|{0}, for example {1}|the {0} (such as '{1}')|{1}, for instance|e.g. {1}"
    return among(rng, forms).format(called, said(value(rng, made, False)))


def parameter(rng: random.Random, test: bool, noun: str) -> dict[str, Any]:
    """A name, a kind, a schema. A test's name is made up or put together, as none is in training."""
    kind = rng.choice(list(KINDS))
    names = KINDS[kind][1]

    def put_together() -> str:
        one = rng.choice(names.split())
        return rng.choice([f"{rng.choice(BEFORE)}_{one}", f"{one}_{rng.choice(BEHIND)}", f"{noun}_{one}"])

    share = rng.random()
    telling = share >= 0.3  # of what it is for
    if share < 0.15:
        called = pick(rng, lambda: made_up(rng, 2), test)
    elif not telling:
        called = pick(rng, lambda: rng.choice(ALL_WORDS).lower(), test)
    else:
        called = pick(rng, put_together, test) if share < 0.5 or test else rng.choice(names.split())
    schema = schema_of(rng, kind)
    made = dict(name=called, kind=kind, schema=schema, telling=telling, needed=rng.random() < 0.8)
    if rng.random() < 0.5:
        schema["description"] = description(rng, made)
    return made


def saying(rng: random.Random, test: bool) -> str:
    """What a message may say."""
    one, other = any_word(rng, test), any_word(rng, test)
    return among(
        rng, "the {0} is {1}|{0} is late|I am at the {0}|see you at {2}|where is the {0}?|{0} and {1}|"
        "come to the {0} at {2}|bring {3}|no {0} today|the {0} comes {1}|call me at {2}|all is {0}|"
        "I'm late|I'll be there at {2}|don't forget the {0}|I can't find the {0}|it's {1}|we've got {3}|"
        "you're {0}|let's meet at {2}|what's {0}?|I'd like {0}|they're at the {0}|I don't like {0}|"
        "I'm at the {0}, where are you?|that's my {0}|she's {0} today|it won't be {0}|thanks for the {0}|"
        "happy {0}, my friend|sorry, I forgot the {0}|we haven't {0} yet|dinner is at {2}|I love {0}",
    ).format(one, other, rng.randint(1, 12), a(one))  # fmt: skip


def errand(rng: random.Random, test: bool) -> str:
    """What one may plan, or want to be reminded of."""
    what = any_word(rng, test)
    return among(
        rng, "{2} with {1}|breakfast with {1}|call {1}|buy {2}|visit {1} in {3}|meet {1}|pick up the {0}|"
        "meeting on {0}|get {2}|the {0} of {1}|{4} for {1}|{0} with {1}|write to {1}|bring {1} the {0}|"
        "fetch {2}|trip to {3}|talk to {1} about {0}|the new {0}|{0} in {3}|pay the {0}",
    ).format(what, name(rng, test), rng.choice(FOODS), city(rng, test), a(what))  # fmt: skip


def place(rng: random.Random, test: bool) -> str:
    """A city, or what else may be on a map, perhaps with a number, which was left out while none had one."""
    if rng.random() < 0.75:
        return city(rng, test)
    one = rng.choice([any_word(rng, test), name(rng, test)]).capitalize()
    return among(
        rng, "{0} Park|{0} Square|{0} Street|{0} Station|New {0}|San {0}|{0} City|Port {0}|{0} Airport|"
        "Hotel {0}|Terminal {1}|Gate {1}|{0} Street {1}|{1} {0} Road|{0} {1}|Platform {1}",
    ).format(one, rng.randrange(1, 10 ** rng.randint(1, 3)))  # fmt: skip


def site(rng: random.Random, test: bool) -> str:
    """Its end is a usual one or any two letters: "no" was written "n", as no address had ended so."""
    end = "".join(rng.choice(string.ascii_lowercase) for _ in range(2))
    return f"{handle(rng, test)}.{rng.choice(ENDS) if rng.random() < 0.7 else end}"


def handle(rng: random.Random, test: bool) -> str:
    """A part of an address."""
    one, other = any_word(rng, test).lower(), name(rng, test).lower()
    return among(rng, "{0}|{1}|{1}|{1}.{0}|{0}{2}|{0}-{1}|{1}_{2}").format(one, other, rng.randrange(100))


def title(rng: random.Random, test: bool) -> str:
    """One to three words: what something is called, or about."""
    if rng.random() < 0.15:
        return rng.choice([*FOODS, *ANIMALS, *COLOURS])
    words = [any_word(rng, test) for _ in range(rng.choice([1, 1, 2, 2, 3]))]
    if rng.random() < 0.03:  # as a channel's
        return f"#{'-'.join(words).lower()}"
    return rng.choice([str.lower, str.lower, str.title, str.capitalize])(" ".join(words))


def phrase_of_words(rng: random.Random, test: bool) -> str:
    """What someone may write: words in any order, and little ones between."""
    words = [any_word(rng, test) for _ in range(rng.randint(2, 6))]
    words = [rng.choice(LITTLE_WORDS) if i and rng.random() < 0.35 else w for i, w in enumerate(words)]
    return " ".join([*words[:-1], any_word(rng, test)])


def file_name(rng: random.Random, test: bool) -> str:
    def any_name() -> str:
        words = [any_word(rng, test).lower() for _ in range(rng.choice([1, 1, 2]))]
        return rng.choice(["_", "-", ""]).join(words) + rng.choice(["", "", "", str(rng.randrange(3000))])

    folders = [any_name() for _ in range(rng.choice([0, 0, 0, 1, 2]))]
    start = rng.choice(["/", "~/", "./", ""]) if folders else ""
    suffix = f".{rng.choice(SUFFIXES)}" if rng.random() < 0.85 else ""
    return start + "/".join([*folders, any_name()]) + suffix


def script(rng: random.Random, test: bool) -> str:
    """A line of a program, or a command."""
    one, other = any_word(rng, test).lower(), any_word(rng, test).lower()
    return among(
        rng, "print({2} {4} {3})|print({0})|{0} = {2} {4} {3}|print('{0}')|{0}({1})|{0}.{1}()|ls -{5}|"
        "cat {6}|git {0}|select {0} from {1}|SELECT * FROM {0}|SELECT {0} FROM {1} WHERE {0} = {2}|cd {6}|"
        "import {0}|return {0} {4} {2}|len({0})|max({2}, {3})|{0} --{1} {2}|python {6}|sum([{2}, {3}])|"
        "for i in range({2}): print(i)|{0}[{2}]|echo {0}|x{4}{2}|{2}{4}{3}",
    ).format(
        one, other, rng.randrange(10 ** rng.randint(1, 3)), rng.randrange(10 ** rng.randint(1, 3)),
        rng.choice("+-*/"), rng.choice(["l", "la", "a", "lh"]), file_name(rng, test),
    )  # fmt: skip


def query(rng: random.Random, test: bool) -> str:
    """A line of SQL."""
    table, column, other = (any_word(rng, test).lower() for _ in range(3))
    return among(
        rng, "SELECT * FROM {0}|SELECT * FROM {0};|SELECT {1} FROM {0} WHERE {2} = {3}|DROP TABLE {0}|"
        "select {1} from {0}|SELECT {1}, {2} FROM {0}|SELECT * FROM {0} LIMIT {3}|UPDATE {0} SET {1} = {3}|"
        "SELECT {1} FROM {0} ORDER BY {2}|DELETE FROM {0} WHERE {1} = {3}|SELECT MAX({1}) FROM {0}|"
        "select * from {0} where {1} > {3}|SELECT {1} FROM {0} WHERE {2} = '{4}'|SELECT COUNT(*) FROM {0}",
    ).format(table, column, other, rng.randrange(10 ** rng.randint(1, 3)), name(rng, test))  # fmt: skip


def expression(rng: random.Random) -> str:
    """Numbers with signs between them."""
    figures = [rng.randrange(10 ** rng.randint(1, 3)) for _ in range(4)]
    signs = [rng.choice("+-*/") for _ in range(3)]
    return among(
        rng, "{0} {4} {1}|{0} {4} {1}|{0}{4}{1}|{0} {4} {1} {5} {2}|({0} {4} {1}) {5} {2}|{0}^2|sqrt({0})|"
        "{0} {4} ({1} {5} {2})|{0} {4} {1} {5} {2} {6} {3}|{0} ** 2|{0}.5 {4} {1}|{0}{4}{1}{5}{2}|{0} % {1}",
    ).format(*figures, *signs)  # fmt: skip


def value(rng: random.Random, made: dict[str, Any], test: bool) -> Any:
    kind = made["kind"]
    if kind == "place":
        return place(rng, test)
    if kind == "room":
        return rng.choice(ROOMS)
    if kind == "person":
        address = among(rng, "Dr. |Mr. |Mrs. |Ms. |Aunt |Uncle ") if rng.random() < 0.08 else ""
        return address + (f"{name(rng, test)} {name(rng, test)}" if rng.random() < 0.2 else name(rng, test))
    if kind == "email":
        return f"{handle(rng, test)}@{site(rng, test)}"
    if kind == "url":
        return f"{rng.choice(['https://', 'www.', ''])}{site(rng, test)}" + (
            f"/{handle(rng, test)}" if rng.random() < 0.4 else ""
        )
    if kind == "text":
        return rng.choice([saying, errand, phrase_of_words, phrase_of_words])(rng, test)
    if kind == "title":
        return title(rng, test)
    if kind in ("count", "duration"):
        return rng.randint(1, 10 ** rng.randint(1, 3))
    if kind == "id":
        return rng.randint(1, 10 ** rng.randint(1, 6))
    if kind == "code" and rng.random() < 0.4:  # as a parcel's
        signs = string.digits * 2 + string.ascii_uppercase
        return rng.choice(string.digits) + "".join(rng.choice(signs) for _ in range(rng.randint(3, 9)))
    if kind == "code":
        letters = "".join(rng.choice(string.ascii_uppercase) for _ in range(rng.randint(1, 3)))
        return f"{letters}{rng.choice(['', '', '-'])}{rng.randrange(10 ** rng.randint(1, 5))}"
    if kind == "figure":
        return rng.choice([rng.randint(1, 100), rng.randint(1, 999) / 10])
    if kind == "flag":
        return rng.random() < 0.5
    if kind == "day":
        month, day = rng.randint(1, 12), rng.randint(1, 28)
        dated = [f"{rng.randint(2020, 2039)}-{month:02}-{day:02}", f"{day}.{month}.", f"{day}/{month}"]
        dated += [f"{MONTHS[month - 1]} {day}", f"{day} {MONTHS[month - 1]}", f"next {rng.choice(DAYS[2:])}"]
        dated += [f"{MONTHS[month - 1]} {day}th", f"{day}th of {MONTHS[month - 1]}"] if 3 < day < 21 else []
        dated += [f"{day} {MONTHS[month - 1]} {rng.randint(2020, 2039)}", f"this {rng.choice(DAYS[2:])}"]
        dated += dated[:1]
        return rng.choice(dated if rng.random() < 0.35 else DAYS)
    if kind == "clock":
        hour, minute = rng.randint(0, 23), rng.choice([0, 15, 30, 45, rng.randrange(60)])
        half, of_twelve = rng.choice(["am", "pm"]), hour % 12 + 1
        spoken = [f"{of_twelve} {half}", f"{of_twelve}{half}", f"{of_twelve} o'clock", "noon", str(hour)]
        spoken += [f"{of_twelve}:{minute:02} {half}", f"half past {rng.choice(NUMBERS)}", "midnight"]
        figures = rng.choice([f"{hour}:{minute:02}", f"{hour:02}:{minute:02}"])
        return figures if rng.random() < 0.6 else rng.choice(spoken)
    if kind == "file":
        return file_name(rng, test)
    if kind == "script":
        return script(rng, test)
    if kind == "sql":
        return query(rng, test)
    if kind == "expression":
        return expression(rng)
    if kind == "list":
        make = rng.choice([name, city, any_word, any_word, lambda rng, test: rng.choice(FOODS)])
        found = [make(rng, test) for _ in range(rng.choice([1, 1, 2, 2, 3, 4]))]
        return list(dict.fromkeys(found))
    if kind == "record":
        parts = made["schema"]["properties"]
        return {part: value(rng, {"kind": PARTS[part]}, test) for part in parts}
    if "enum" in made["schema"]:
        return rng.choice(made["schema"]["enum"])
    if kind == "money":
        return rng.choice(MONEY)
    if kind == "measure":
        return rng.choice(MEASURES)
    if kind == "language":
        return rng.choice(TONGUES)
    if kind == "symbol" or rng.random() < 0.1:  # a name in capitals, as of a stock or a country
        return pick(
            rng, lambda: "".join(rng.choice(string.ascii_uppercase) for _ in range(rng.randint(2, 5))), test
        )
    if rng.random() < 0.15:
        return pick(rng, lambda: f"{made_up(rng, rng.randint(1, 3))}".title(), test)
    if rng.random() < 0.4:
        return rng.choice([saying, errand, errand, anything])(rng, test)
    words = " ".join(any_word(rng, test) for _ in range(rng.randint(1, 3)))
    words = rng.choice([str, str, str.capitalize, str.title])(words)
    street = f"{any_word(rng, test).title()} {rng.choice(['Road', 'Street', 'Lane', 'Square', 'Avenue'])}"
    return rng.choice(
        [
            words,
            words,
            words,
            street,
            rng.choice(FOODS),
            f"{rng.choice('ABCDEXYZ')}{rng.randrange(1000)}",
            str(rng.choice(list(COLOURS))),
        ]
    )


def as_named(rng: random.Random, called: str) -> str:
    """Perhaps as a class, or with the name of what it belongs to, as servers of tools have them."""
    share = rng.random()
    if share < 0.05:
        return "".join(part[:1].upper() + part[1:] for part in called.split("_"))
    if share < 0.1:
        return (
            among(rng, "home|app|api|my|mcp__server_|user|agent|default_api|mcp__home_|system") + f"_{called}"
        )
    return called + among(rng, "_tool|_now|_v2|_api|_action|_function") if share < 0.14 else called


def tool(rng: random.Random, test: bool, beside: dict[str, Any] | None = None) -> dict[str, Any]:
    """A tool made up; beside another, one that does something else with the same thing."""

    def any_noun() -> str:
        """One word or two, perhaps of several, or of one thing and another: tea, paint_brush, cup_of_tea."""
        words = [rng.choice(ALL_WORDS).lower() for _ in range(rng.choice([1, 1, 2]))]
        if rng.random() < 0.3:
            words[-1] = rng.choice([*FOODS, *ANIMALS, *JOBS, doubled(rng)])
        if rng.random() < 0.3 and words[-1][-1] != "s":
            words[-1] += "s"
        return (rng.choice(["_of_", "_on_", "_for_"]) if rng.random() < 0.15 else "_").join(words)

    def verb_and_noun() -> tuple[str, str]:
        """Mostly usual ones; else any words, or made-up ones."""
        if beside:
            return rng.choice(ACTS), beside["noun"]
        verb, noun = rng.choice(ASKS if rng.random() < 0.5 else ACTS), rng.choice(NOUNS)
        if rng.random() < 0.4:
            noun = any_noun()
        if rng.random() < 0.15:
            verb = rng.choice(ALL_WORDS).lower()
        return (
            made_up(rng, 2) if rng.random() < 0.1 else verb,
            made_up(rng, 2) if rng.random() < 0.15 else noun,
        )

    verb, noun = pick(rng, verb_and_noun, test)
    parameters: dict[str, dict[str, Any]] = {}
    for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3])):
        made = parameter(rng, test, noun)
        parameters[made["name"]] = made
    words = f"{verb} {noun}".replace("_", " ")
    style = rng.random()
    called = f"{verb}_{noun}" if style < 0.7 else f"{noun}_{verb}" if style < 0.8 else (
        verb + "".join(part.title() for part in noun.split("_")) if style < 0.9 else noun
    )  # fmt: skip
    return {
        "verb": verb, "noun": noun, "words": words, "name": as_named(rng, called), "parameters": parameters,
        "about": about(rng, verb.replace("_", " "), noun.replace("_", " "), list(parameters)),
    }  # fmt: skip


SYNONYMS = {  # other words for what a tool is about
    "currency": "money|an amount of money|dollars, euros and others", "stock": "shares|the stock market",
    "stock price": "price of a stock|price of a share|quote of a company", "weather": "forecast|sky and rain",
    "share price": "price of a stock|price of a share", "light": "lamp|lamps", "song": "music|track",
    "message": "text message|note to someone", "mail": "email|e-mail", "flight": "plane", "flights": "planes",
    "table": "table in a restaurant", "taxi": "cab|ride", "time": "clock|current time", "bike": "bicycle",
    "film": "movie", "photo": "picture", "alarm": "wake-up call", "calendar": "dates|appointments",
    "meeting": "appointment", "restaurants": "places to eat", "shops": "stores", "car": "vehicle",
    "translation": "text in another language", "radio": "music|station", "heater": "heating", "map": "way",
    "hotel": "place to sleep|room", "seat": "place", "invoice": "bill", "contact": "address book entry",
}  # fmt: skip


def about(rng: random.Random, verb: str, noun: str, parameters: list[str]) -> str:
    """What a tool is for, as people describe theirs: by what it does, or by what it is about alone."""
    more = ""
    if parameters and rng.random() < 0.5:
        which = rng.choice(parameters).replace("_", " ")
        more = among(rng, " of {1}| in {1}| for {1}| by {0}| with {0}| of the given {0}| for the {0}").format(
            which, a(which)
        )
    if noun in SYNONYMS and rng.random() < 0.3:
        noun = rng.choice(SYNONYMS[noun].split("|"))
    one, many = (noun, noun) if noun.endswith("s") else (a(noun), f"{noun}s")
    first, *rest = verb.split()  # turn off: turns off
    verbs = " ".join([first + ("es" if first.endswith(("s", "x", "ch", "sh")) else "s"), *rest])
    does = among(
        rng, "{0} {1}{2}|{0} the {1}{2}|{0} {3}{2}|{0} {1} now|Use this to {0} {1}|{0} {1} for the user|"
        "{0} the current {1}{2}|{0} the {1}{2} that is asked for|{4} the {1}{2}|Call it to {0} the {1}{2}",
    ).format(verb, noun, more, one, verbs)  # fmt: skip
    is_about = among(
        rng, "the {0}{1}|{0}{1}|current {0}{1}|the current {0}{1}|returns the {0}{1}|tells the {0}{1}|"
        "information about the {0}{1}|everything about {3}{1}|for the {0}{1}|a tool for the {0}{1}|"
        "when someone asks for the {0}{1}|where to find the {0}|which {0} there is{1}|how many {2} there are|"
        "{2}{1}",
    ).format(noun, more, many, one)  # fmt: skip
    told = does if verb not in ASKS or rng.random() < 0.5 else is_about
    return among(rng, "{0}|{0}|{0}.").format(told[0].upper() + told[1:]) if rng.random() < 0.97 else ""


STYLES = ["usual", "required first", "sorted", "closed"]
DRAFTS = ["http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema"]


def described(rng: random.Random, made: dict[str, Any]) -> dict[str, Any]:
    """As a client or a library writes it: people's own have types first, others sort the keys or add some."""
    properties, needed = {}, [n for n, p in made["parameters"].items() if p["needed"]]
    for n, p in made["parameters"].items():
        schema = p["schema"]
        if not p["needed"] and rng.random() < 0.2:  # it is left out all the same where nothing is said of it
            schema = schema | {"default": value(rng, p, False)}
        shuffled = rng.random() < 0.3
        properties[n] = dict(rng.sample([*schema.items()], len(schema))) if shuffled else schema
    style = rng.choices(STYLES, [45, 17, 25, 13])[0]
    if style == "sorted":  # as classes of Python are described: titles, null for what may be left out
        properties = {n: titled(n, schema, n in needed) for n, schema in properties.items()}
        told: dict[str, Any] = {"properties": properties, "required": needed}
        told |= {"title": rng.choice([made["name"], f"{made['name']}Arguments"]), "type": "object"}
    elif style == "required first":
        told = {"type": "object", "required": needed, "properties": properties}
    else:
        told = {"type": "object", "properties": properties, "required": needed}
    if style == "closed":
        told["additionalProperties"] = False
        if rng.random() < 0.5:
            told["$schema"] = rng.choice(DRAFTS)
    if not needed and rng.random() < 0.7:
        del told["required"]
    function = {"name": made["name"], "description": made["about"], "parameters": told}
    if style == "closed" and rng.random() < 0.3:
        function["strict"] = True
    return {"type": "function", "function": function}


def titled(name: str, schema: dict[str, Any], needed: bool) -> dict[str, Any]:
    """The schema of a parameter with its keys sorted and a title; of one that may be left out, with null."""
    if not needed:
        kind = {key: told for key, told in sorted(schema.items()) if key not in ("description", "default")}
        about = {key: told for key, told in schema.items() if key == "description"}
        schema = about | {"anyOf": [kind, {"type": "null"}], "default": None}
    return dict(sorted((schema | {"title": name.replace("_", " ").title()}).items()))


def written(what: Any) -> str:
    """As an argument of a call."""
    return what if isinstance(what, str) else json.dumps(what, ensure_ascii=False)


def said(what: Any) -> str:
    """In a question."""
    if isinstance(what, dict):
        return ", ".join(f"{part} {written(one)}" for part, one in what.items())
    return listed(what) if isinstance(what, list) else written(what)


NATURAL = {
    "place": "in {0}|at {0}|for {0}|in {0} right now|in {0}",
    "room": "in the {0}|of the {0}|in the {0}|for the {0}",
    "person": "for {0}|to {0}|with {0}",
    "count": "for {0} {1}|{0} {1}|{0}",
    "duration": "for {0} {1}",
    "clock": "at {0}|at {0}|{0}|from {0}",
    "file": "{0}|{0}|in {0}|called {0}|from {0}|to {0}|of {0}",
    "script": "{0}|: {0}|`{0}`",
    "sql": "{0}|: {0}|`{0}`",
    "expression": "{0}|of {0}|: {0}",
    "title": "'{0}'|{0}|of {0}|called {0}|: {0}|for {0}|on {0}|named {0}|titled {0}|about {0}|by {0}|, {0}",
    "text": "'{0}'|: {0}|\"{0}\"|that says '{0}'|saying '{0}'|with the words '{0}'|which reads \"{0}\"",
    "email": "to {0}|for {0}|from {0}|at {0}|{0}|of {0}|with {0}",
    "url": "from {0}|at {0}|{0}|of {0}|on {0}|: {0}",
    "list": "for {0}|with {0}|{0}|{0}|: {0}",
    "unit": "in {0}|as {0}",
    "money": "in {0}|to {0}|{0}|from {0}",
    "word": "'{0}'|{0}|of {0}|called {0}|: {0}|for {0}|{0}|in {0}|to {0}|on {0}",
    "id": "{0}|{0}|number {0}|no. {0}|with number {0}",
    "code": "{0}|{0}|{0}|number {0}|with code {0}|of {0}",
    "symbol": "of {0}|for {0}|{0}",
    "language": "in {0}|into {0}|to {0}",
    "measure": "in {0}|into {0}|to {0}|from {0}",
    "figure": "at {0}|of {0}|to {0}|{0} {1}|to {0} {1}",
}
FROM_AND_TO = {
    "origin": "from {0}", "destination": "to {0}", "to": "to {0}", "owner": "of {0}", "target": "to {0}",
    "source": "from {0}|{0}", "base": "from {0}|{0}", "from_currency": "from {0}|{0}",
    "to_currency": "to {0}", "from": "from {0}|{0}", "into": "into {0}",
}  # fmt: skip


def phrase(rng: random.Random, made: dict[str, Any], what: Any, alone: bool) -> str:
    """A parameter's value in a request; without its name only if no other is of its kind."""
    text, called = said(what), made["name"].replace("_", " ")
    if made["kind"] == "flag":
        return f"{'' if what else 'not '}{called}"
    if made["kind"] == "record":
        return among(rng, "with {1} {0}|{1}: {0}|the {1}: {0}|with the {1} {0}").format(text, called)
    natural = NATURAL.get(made["kind"], "on {0}|{0}" if text in DAYS[2:] else "{0}|for {0}")
    if made["name"] in FROM_AND_TO and rng.random() < 0.7:
        return among(rng, FROM_AND_TO[made["name"]]).format(text)
    if alone and rng.random() < 0.6:
        return among(rng, natural).format(text, called)
    if made["kind"] == "text" or text.count(" ") > 3:  # where it ends must be plain
        return among(rng, "with {1} '{0}'|{1}: '{0}'|the {1} is \"{0}\"|with the {1} \"{0}\"").format(
            text, called
        )
    return among(
        rng,
        "with {1} {0}|{1} {0}|with the {1} {0}|{1}: {0}|{1} is {0}|the {1} is {0}|{1} = {0}|using {1} {0}|"
        "whose {1} is {0}|and {1} {0}|{0} as {1}|{1}, {0}",
    ).format(text, called)


def request(
    rng: random.Random, made: dict[str, Any], arguments: dict[str, Any], others: list[dict[str, Any]]
) -> str:
    """In words that only this tool fits, not the others that are offered."""
    noun = made["noun"].replace("_", " ")
    verb = made["verb"].replace("_", " ")
    kinds = kinds_of(made)
    types = [p["schema"]["type"] for p in made["parameters"].values()]
    parts, before = [], ""  # what stands before the noun: "the front door", "2 tickets"
    for key in arguments:
        p = made["parameters"][key]
        alone = kinds.count(alike(p["kind"])) == 1 and (p["telling"] or types.count(p["schema"]["type"]) == 1)
        if alone and not before and p["kind"] in ("word", "room", "count") and rng.random() < 0.15:
            before = f"{said(arguments[key])} "
        else:
            parts.append(phrase(rng, p, arguments[key], alone))
    if rng.random() < 0.3:
        rng.shuffle(parts)
    details = " ".join(parts) if rng.random() < 0.5 else ", ".join(parts)
    details = f" {details}" if details else ""
    if made["verb"] in ASKS and rng.random() < 0.6:
        return among(
            rng,
            "What is the {0}{1}?|Tell me the {0}{1}.|How is the {0}{1}?|I need the {0}{1}.|"
            "The {0}{1}, please.|What's the {0}{1}?|Do you know the {0}{1}?|What is the {0} like{1}?|"
            "Show me the {0}{1}.|Any {0}{1}?|I'd like to know the {0}{1}.|Give me the {0}{1}.|"
            "How many {0} are{1}?|How much {0} is{1}?|How many {0}{1}?|Who is the {0}{1}?|"
            "Where is the {0}{1}?|When is the {0}{1}?|Which {0}{1}?|Is there {2}{1}?|"
            "What are the {0}{1}?|{0}{1}|{0}{1}, please",
        ).format(before + noun, details, a(before + noun))
    if (
        details
        and not before
        and made["verb"] in ACTS
        and rng.random() < 0.25
        and all(verb not in f"{t['about']} {t['words']}".lower() for t in others if t is not made)
    ):  # "Convert 20 dollars to euros."
        return among(rng, "{1}{0}.|Please {2}{0}.|Can you {2}{0}?|{1}{0}").format(
            details, verb.capitalize(), verb
        )
    what = before + noun
    words = f"{verb} {rng.choice([what, f'the {what}', f'the {what}', a(what), f'my {what}'])}"
    return among(
        rng,
        "{2}{1}.|Please {0}{1}.|Can you {0}{1}?|I want to {0}{1}.|Could you {0}{1}, please?|{2}{1}.|"
        "{2}{1}|I would like to {0}{1}.|Would you {0}{1}?|We need to {0}{1}.",
    ).format(words, details, words[0].upper() + words[1:])


MORE = {  # what a usual tool may take besides, of which questions mostly say nothing: name: kind
    "unit": "unit", "units": "unit", "format": "unit", "mode": "unit", "language": "language",
    "lang": "language", "limit": "count", "max_results": "count", "count": "count", "note": "word",
    "label": "word", "tag": "word", "comment": "word", "urgent": "flag", "silent": "flag", "repeat": "flag",
    "verbose": "flag", "date": "day", "time": "clock", "country": "place", "user": "person",
    "tags": "list", "page": "id",
}  # fmt: skip


@functools.cache
def beside_which(number: int) -> list[Usual]:
    """Tools for things of the same name that do something else with them, and what is next to it in the
    files: that is like it, too."""
    usual = EVERYDAY[number]
    near = EVERYDAY[max(0, number - 3) : number + 4]
    like = [one for one in EVERYDAY if parts_of(one) & parts_of(usual) and not does_as_much(one, usual)]
    return like + [one for one in near if one is not usual and not same(one, usual)]


def parts_of(usual: Usual) -> set[str]:
    return {part for noun in usual.nouns for part in noun.split("_")} - SAY_NOTHING


def everyday(rng: random.Random, beside: dict[str, Any] | None = None) -> dict[str, Any]:
    """A tool as many people have it, in its usual words; beside another, one for about the same things.

    Half have their parameters in another order than their questions number them (`asked`): while none had,
    64 of 80 questions by others were called rightly, and 32 when their tools' parameters were turned around.
    """
    here = rng.choice(beside_which(EVERYDAY.index(beside["like"])) if beside else EVERYDAY)
    mine = beside["noun"].rstrip("s") if beside else None
    verb = rng.choice(here.verbs)
    noun = rng.choice([noun for noun in here.nouns if noun.rstrip("s") == mine] or here.nouns)
    parameters: dict[str, dict[str, Any]] = {}

    def add(called: str, kind: str, needed: bool) -> None:
        schema = schema_of(rng, kind)
        kind = "unit" if "/" in kind else kind
        parameters[called] = dict(name=called, kind=kind, schema=schema, telling=True, needed=needed)
        if rng.random() < 0.5:
            schema["description"] = description(rng, parameters[called])

    for one in here.parameters:
        names = [called.replace("{noun}", noun) for called in one.names]
        new = [called for called in names if called not in parameters]
        add(rng.choice(new), one.kind, one.needed and rng.random() < 0.95)
    asked = list(parameters)
    for called in rng.sample(list(MORE), rng.choice([0, 0, 0, 1, 1, 2])):
        if called not in parameters:
            add(called, MORE[called], False)
    if rng.random() < 0.5:
        parameters = dict(rng.sample([*parameters.items()], len(parameters)))
    style = rng.random()
    bare = verb if noun.endswith("numbers") else noun  # add, multiply
    called = (
        f"{verb}_{noun}" if style < 0.75 else verb + noun.title().replace("_", "") if style < 0.85 else bare
    )
    return {
        "verb": verb, "noun": noun, "words": f"{verb} {noun}".replace("_", " "), "like": here,
        "asked": asked, "name": as_named(rng, called), "parameters": parameters,
        "about": "" if rng.random() < 0.03 else rng.choice(here.abouts).format(noun=noun.replace("_", " ")),
    }  # fmt: skip


def call(name: str, arguments: dict[str, Any]) -> str:
    lines = "".join(f"<parameter={k}>\n{written(v)}\n</parameter>\n" for k, v in arguments.items())
    return f"<tool_call>\n<function={name}>\n{lines}</function>\n</tool_call>"


DONE = ["ok", "success", "done", "OK", "Success", "completed"]


def fact(rng: random.Random, test: bool) -> tuple[str, Any]:
    """A key and a value, as results have them."""
    if rng.random() < 0.4:
        key = among(
            rng, "temperature|sky|price|count|status|name|value|time|id|condition|currency|balance|eta"
        )
        return key, rng.choice(
            [rng.randint(0, 999), rng.randint(0, 999) / 10, rng.choice(SKY), rng.choice(FOODS),
             city(rng, test), name(rng, test),
             among(rng, "open|closed|full|empty|in transit|confirmed|low|high|running|partly cloudy|pending")]
        )  # fmt: skip
    kind = rng.choice(
        [kind for kind in KINDS if kind not in ("record", "list", "text", "script", "sql", "unit")]
    )
    key = rng.choice(KINDS[kind][1].split())
    if rng.random() < 0.4:
        key = rng.choice([f"{any_word(rng, test).lower()}_{key}", f"{key}_{any_word(rng, test).lower()}"])
    return key, value(rng, {"kind": kind, "schema": {}}, test)


def as_told(facts: dict[str, Any]) -> str:
    return ", ".join(f"{key} {written(what)}" for key, what in facts.items())


def several(rng: random.Random, test: bool) -> tuple[str, str]:
    """A list of strings, of objects with the same keys, or of nothing."""
    kind, count = rng.random(), rng.randint(1, 4)
    if kind < 0.15:
        return "[]", "none"
    if kind < 0.6:
        make = rng.choice([name, city, any_word, title, file_name])
        parts = [make(rng, test) for _ in range(count)]
        return json.dumps(parts) if rng.random() < 0.7 else "\n".join(parts), ", ".join(parts)
    keys = [rng.choice(["name", "title", "id", "city"]), rng.choice(["time", "price", "date", "count"])]
    rows = [
        dict(zip(keys, (name(rng, test), rng.choice([rng.randint(1, 99), "10:00", "full"])), strict=True))
        for _ in range(min(count, 3))
    ]
    return json.dumps(rows), "; ".join(as_told(row) for row in rows)


def result(rng: random.Random, test: bool, made: dict[str, Any]) -> tuple[str, str]:
    """What a tool says, in prose or JSON of any form, and how that is told."""
    noun = made["noun"].replace("_", " ")
    if rng.random() < 0.12:
        why = worded(rng, "tools: why not", noun, any_word(rng, test), city(rng, test))
        said = [{"error": why}, {"status": "error", "message": why}, {"ok": False, "error": why}]
        said += [
            {"success": False, "reason": why},
            {"error": {"code": rng.choice([400, 404, 500]), "message": why}},
        ]
        return rng.choice([json.dumps(rng.choice(said)), f"Error: {why}"]), f"That did not work: {why}."
    if rng.random() < 0.1:
        word, key = rng.choice(DONE), among(rng, "status|result|state|message")
        said_so = [word, json.dumps({key: word}), json.dumps({rng.choice(["ok", "success", "done"]): True})]
        return rng.choice(said_so), "Done."
    if rng.random() < 0.12:
        listed_so, plain = several(rng, test)
        return listed_so, f"The {noun}: {plain}."
    facts = dict(fact(rng, test) for _ in range(rng.choice([1, 1, 2, 2, 3, 4])))
    kind = rng.random()
    if kind < 0.45:
        return json.dumps(facts, ensure_ascii=False), f"The {noun}: {as_told(facts)}."
    if kind < 0.55:
        one = written(rng.choice(list(facts.values())))
        return one, f"The {noun}: {one}."
    if kind < 0.65:
        inside = {among(rng, "result|data|output|response"): facts}
        return json.dumps(inside, ensure_ascii=False), f"The {noun}: {as_told(facts)}."
    if kind < 0.8:
        prose = among(rng, "{0}, {1} degrees|{0} and {1} degrees|it is {0}|{1}|{1} {2}|{3}|{3}").format(
            rng.choice(SKY), rng.randint(-9, 39), rng.choice(WORDS), phrase_of_words(rng, test)
        )
        return prose, f"The {noun}: {prose}."
    lines = "\n".join(f"{key}: {written(what)}" for key, what in facts.items())
    return lines, f"The {noun}: {as_told(facts)}."


CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Calculate an expression",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string", "description": "for example 12 * 34"}},
            "required": ["expression"],
        },
    },
}


COUNTING = {"numbers", "math", "calculate", "compute"}  # words of tools whose work a calculator could do


def calculation(rng: random.Random) -> tuple[str, str]:
    x, y = (rng.randrange(10 ** rng.randint(1, 5)) for _ in range(2))
    sign = rng.choice("+-*/")
    word = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}[sign]
    question = among(rng, "What is {0} {1} {2}?|Calculate {0} {1} {2}.|How much is {0} {3} {2}?|{0} {1} {2}")
    return question.format(x, sign, y, word), f"{x} {sign} {y}"


ALSO = {  # what is about the same as a noun of everyday.py
    "weather_report": "weather", "translation": "text", "exchange_rate": "currency", "radio": "song",
    "heater": "temperature", "fan": "temperature", "folder": "file",
    "taxi_ride": "taxi", "playlist": "song",
}  # fmt: skip


def does_as_much(one: Usual, other: Usual) -> bool:
    """Have they a verb in common, do both ask something, or does one do anything?"""
    here, there = [{"get" if verb in ASKS else verb for verb in tool.verbs} for tool in (one, other)]
    if {"control", "operate", "manage"} & (here | there):  # they do anything
        return True
    begin = [{verb.split("_")[0] for verb in verbs} for verbs in (here, there)]  # turn is turn_on or turn_off
    return bool(here & there or begin[0] & there or here & begin[1])


def same(one: Usual, other: Usual) -> bool:
    """Could both be meant? They are for one thing, and do the same with it, or ask something of it."""
    return bool({*one.nouns} & {*other.nouns}) and does_as_much(one, other)


def alike_tools(made: dict[str, Any], other: dict[str, Any]) -> bool:
    """Could both be meant?"""
    if made["name"] == other["name"]:
        return True
    if "like" in made and "like" in other:
        return same(made["like"], other["like"])
    if "like" not in made and made["noun"] == other["noun"] and {made["verb"], other["verb"]} <= {*ACTS}:
        names = [f"{t['name']} {t['about'].lower()}".replace("_", " ") for t in (made, other)]
        one, two = (t["verb"].replace("_", " ") for t in (made, other))  # which are said
        return one not in names[0] or two not in names[1] or one in two or two in one
    nouns = [{*t["like"].nouns} if "like" in t else {ALSO.get(t["noun"], t["noun"])} for t in (made, other)]
    return bool(nouns[0] & nouns[1])


ORDERS = """Open Read Show Save Put Create Write Store Keep Delete Remove Erase Run Execute Plan Schedule Set
Invite Remind Find Search Look Translate Add Send Text Mail Email Convert Exchange Play Start Book
Reserve Turn Switch Make Heat Sort Bring Order Call Phone Dial Ring Buy Log Pay Transfer Settle Draw Generate
Clean Vacuum Brew Roll Throw Pick Choose Give Tell Define Explain List Get Check Let Close Lock Unlock
Pause Stop Resume Skip Take Post Share Track Cancel Refund Restart Resize Rename Copy Move Compute Calculate
Change Raise Lower Record Mute Preheat Water Dim Commit Deploy Download Fetch Load Summarize Compare Merge
Rotate Assign Block Report Reply Forward Multiply Subtract Divide Prepare Mark Print Feed Charge
Rent""".split()


Asked = tuple[str, dict[str, Any]]  # a question, and the arguments that it gives


def ends_in_text(question: str, made: dict[str, Any], arguments: dict[str, Any]) -> bool:
    """Would whatever came behind be taken for a part of it?"""
    kinds = (*TEXTUAL, "script", "sql", "expression")
    texts = [said(what) for n, what in arguments.items() if made["parameters"][n]["kind"] in kinds]
    return any(question.rstrip(".?!").endswith(text.rstrip(".?!")) for text in texts)


def unmarked(question: str, arguments: dict[str, Any]) -> str:
    """Without the mark at its end, unless that is a value's, as in 3.11."""
    ends = any(question.endswith(said(what)) for what in arguments.values())
    return question if ends or question[-1] not in ".?" else question[:-1]


def is_order(question: str) -> bool:
    """One sentence that tells what to do."""
    return question.split()[0] in ORDERS and question[-1] != "?" and not re.search("[.!?;] ", question)


def lowered(question: str, arguments: dict[str, Any]) -> str:
    """As it goes on behind other words."""
    word = re.split(r"[ ']", question)[0]
    begins = any(question.startswith(said(what)) for what in arguments.values())
    return question if begins or word == "I" or word[1:2].isupper() else question[0].lower() + question[1:]


def in_manners(rng: random.Random, question: str, arguments: dict[str, Any], open_end: bool) -> str:
    """Politely, in passing, in a hurry; nothing behind what ends in a text."""
    manner, order = rng.random(), lowered(question, arguments)
    if is_order(question) and manner < 0.3:
        kind = "order: politely" if open_end or rng.random() < 0.7 else "order: politely, to its end"
        return worded(rng, kind, unmarked(order, arguments), order, unmarked(question, arguments))
    if 0.3 < manner < 0.4:
        return f"{worded(rng, 'tools: what is said before')} {rng.choice([question, order])}"
    if 0.4 < manner < 0.52:
        remark = worded(rng, "tools: a remark")
        if question[-1] in ".?" and not open_end and rng.random() < 0.3:
            return f"{question} {remark}"
        return f"{remark} {question}"
    if 0.52 < manner < 0.6 and not open_end:
        behind = worded(rng, "tools: what is said behind")
        if behind[0].isupper():
            return f"{as_sentence(question)} {behind}"
        return unmarked(question, arguments) + " " * behind[0].isalpha() + behind
    if 0.6 < manner < 0.7:
        return unmarked(order, arguments)
    return question


def ask_for(
    rng: random.Random, made: dict[str, Any], others: list[dict[str, Any]], test: bool, plain: bool = False
) -> Asked:
    """For this tool, and none of the others."""
    parameters, usual = made["parameters"], made.get("like")
    if not usual:
        arguments = {
            n: value(rng, p, test) for n, p in parameters.items() if p["needed"] or rng.random() < 0.3
        }
        question = request(rng, made, arguments, others)
        return question if plain else in_manners(rng, question, arguments, True), arguments
    like = [t["like"] for t in others if "like" in t and t is not made]
    clear = [form for form in usual.questions if is_clear(form, like)]
    form, asked = rng.choice(clear or usual.questions), made["asked"]
    if rng.random() < 0.08:
        form = form.lower()
    last = re.search(r"{(\d)}[.?!]?$", without_implied(form)[0])
    # a text at the end would have in it whatever came behind
    open_end = last is not None and usual.parameters[int(last[1])].kind in TEXTUAL
    named = [asked[i] for i in given(form)]
    arguments = {
        n: value(rng, p, test)
        for n, p in parameters.items()
        if n in named or (n not in asked and not open_end and rng.random() < 0.3)
    }
    form, implied = without_implied(form)
    arguments |= {asked[i]: what for i, what in implied.items()}
    values = {
        str(i): as_said(rng, parameters[asked[i]], arguments[asked[i]], f"{{{i}}}" in form.split())
        for i in sorted(given(form))
    }
    question = re.sub(r"{(\w+)}", lambda m: values.get(m[1], made["noun"].replace("_", " ")), form)
    alone = len(kinds_of(made)) == len({*kinds_of(made)})
    for n in [n for n in arguments if n not in asked]:
        bare = unmarked(question, arguments)
        more = phrase(rng, made["parameters"][n], arguments[n], alone)
        question = f"{bare}{rng.choice([' ', ', '])}{more}{question[len(bare) :]}"
    if plain:
        return question, arguments
    return in_manners(rng, question, arguments, ends_in_text(question, made, arguments)), arguments


def as_said(rng: random.Random, made: dict[str, Any], what: Any, is_word: bool) -> str:
    """A flag is on or off, a small number now and then a word."""
    if made["kind"] == "flag":
        return "on" if what else "off"
    if is_word and made["kind"] in ("count", "duration") and 2 <= what <= 10 and rng.random() < 0.4:
        return NUMBERS[what - 1]
    return said(what)


def kinds_of(made: dict[str, Any]) -> list[str]:
    return [alike(p["kind"]) for p in made["parameters"].values()]


def as_sentence(question: str) -> str:
    return question if question[-1] in ".?!" else f"{question}."


def both(rng: random.Random, first: Asked, second: Asked, open_end: bool) -> str:
    """One question behind another, or the two in one sentence."""
    (one, earlier), (other, later) = first, second
    kinds = ["two tools", "two tools", "two tools, to their ends", "two tools, to their ends", "two orders"]
    orders = is_order(one) and is_order(other)
    kind = "two tools" if open_end else rng.choice(kinds[2 * orders : 4 + orders])
    order, bare = lowered(other, later), unmarked(one, earlier)
    return worded(
        rng, kind, as_sentence(one), other, order, bare, lowered(bare, earlier), unmarked(order, later)
    )


AGAIN = ("place", "person", "word", "day", "room", "symbol", "code", "id", "language", "clock")
BEFORE_IT = "in the|of the|for the|in|at|for|of|to|from|on|with|the"


def twice(
    rng: random.Random, question: str, made: dict[str, Any], wants: dict[str, Any], test: bool
) -> Asked | None:
    """A question with one value more, and the arguments of the second call; None if it has no such value."""
    kinds = [made["parameters"][n]["kind"] for n in wants]
    keys = [n for n, kind in zip(wants, kinds, strict=True) if kind in AGAIN]
    if kinds in (["count"], ["duration"]):
        keys = [*wants]
    if not keys or " and " in question or "," in question:  # "Add 2 and 3."
        return None
    key = rng.choice(keys)
    new = value(rng, made["parameters"][key], test)
    now, again = written(wants[key]), written(new)
    found = re.search(rf"(?:\b({BEFORE_IT}) )?(['\"`]?)(?<!\w){re.escape(now)}(?!\w)\2", question)
    if again == now or " and " in f"{again} {now}" or not found:
        return None
    before, more = found[1] or "", found[2] + again + found[2]
    parts = more, f"{before} {more}".strip()
    types = [made["parameters"][n]["schema"]["type"] for n in wants]
    if types.count(made["parameters"][key]["schema"]["type"]) == 1 and rng.random() < 0.35:
        asked = worded(rng, "one tool twice, at the end", as_sentence(question), *parts)
    else:
        asked = question.replace(found[0], worded(rng, "one tool twice", found[0], *parts), 1)
    return asked, wants | {key: new}


def told_before(
    rng: random.Random, question: str, made: dict[str, Any], wants: dict[str, Any]
) -> tuple[str, str] | None:
    """What is said before a question that has "here" or "there", and this; None if it names no place so."""
    for n, what in wants.items():
        kind = made["parameters"][n]["kind"]
        where = f" in the {what}" if kind == "room" else f" in {what}"
        if kind in ("place", "room") and question.count(where) == question.count(str(what)) == 1:
            word, whose = rng.choice([("here", "one"), ("there", "another")])
            return worded(rng, f"where {whose} is: {kind}", what), question.replace(where, f" {word}")
    return None


REPLIES = "I see.|Okay.|All right.|Good to know.|Noted.|I will keep that in mind."


def tools(rng: random.Random, test: bool) -> Sample:
    """Mostly as one asks without more; now and then the system says who the model is, and where it runs."""
    made = use_of_tools(rng, test)
    if rng.random() < 0.15:
        day = f"{rng.randint(1, 28)} {rng.choice(MONTHS)} {rng.randint(2020, 2039)}"
        system = worded(rng, "tools: the system", day, name(rng, test), city(rng, test))
        made.messages.insert(0, {"role": "system", "content": system})
    return made


def use_of_tools(rng: random.Random, test: bool) -> Sample:
    """Which tool, with which arguments, once or more; then what its answer means."""
    from talk import small_talk

    usual = 0.0 if test else rng.choice([0, 0.5, 0.5, 1])  # the share of tools that many people have
    made = [
        everyday(rng) if rng.random() < usual else tool(rng, test)
        for _ in range(rng.choice([1, 1, 2, 2, 3, 4]))
    ]
    here = made[0]
    like = [
        everyday(rng, here) if "like" in here else tool(rng, test, here)
        for _ in range(rng.choice([0, 1, 1, 2, 3] if "like" in here else [0, 0, 0, 1]))
        if "like" in here or here["verb"] in ACTS
    ]
    made[1:1] = like
    made = [t for i, t in enumerate(made) if not any(alike_tools(t, before) for before in made[:i])]
    offered = [described(rng, t) for t in made]
    kind = rng.random()
    two = 0.18 <= kind < 0.32 and len(made) > 1
    question, arguments = ask_for(rng, here, made, test, two and rng.random() < 0.7)
    wants, calls = arguments, [call(here["name"], arguments)]
    rng.shuffle(offered)
    counting = any(COUNTING & t["like"].words for t in made if "like" in t)
    if kind < 0.07 and not counting:  # none fits
        near = {here["name"], *(t["name"] for t in like)}
        offered = [t for t in offered if t["function"]["name"] not in near] or [CALCULATOR]
        return ask("tools", question, NO_TOOL, tools=offered)
    if kind < 0.13:  # none is needed
        if counting or rng.random() < 0.6:
            return ask("tools", *small_talk(rng, tooled=True), tools=offered)
        while (told := sums(rng, test)).thoughts is not None:
            pass
        return ask("tools", told.messages[-1]["content"], told.answer, tools=offered)
    if kind < 0.18 and not counting:
        offered.insert(rng.randrange(len(offered) + 1), CALCULATOR)
        question, expression = calculation(rng)
        wants, calls = {"expression": expression}, [call("calculator", {"expression": expression})]
        here = {"name": "calculator", "noun": "result", "parameters": {"expression": {"kind": "expression"}}}
    elif two:
        other = rng.choice(made[1:])
        second = ask_for(rng, other, made, test, plain=True)
        question = both(rng, (question, arguments), second, ends_in_text(question, here, arguments))
        return ask("tools", question, "\n".join([*calls, call(other["name"], second[1])]), tools=offered)
    elif kind < 0.42:  # one tool twice: at once, or when it has answered
        more = twice(rng, question, here, wants, test)
        if more:
            answer = "\n".join([*calls, call(here["name"], more[1])])
            return ask("tools", more[0], answer, tools=offered)
    elif kind < 0.6 and (more := told_before(rng, question, here, wants)):
        told, question = more
        if rng.random() < 0.5:
            return ask("tools", f"{told} {question}", "\n".join(calls), tools=offered)
        messages = [
            {"role": "user", "content": told},
            {"role": "assistant", "content": among(rng, REPLIES)},
            {"role": "user", "content": question},
        ]
        return Sample("tools", messages, "\n".join(calls), tools=offered)
    if rng.random() < 0.3:
        told, answer = result(rng, test, here)
        asked = [{"function": {"name": here["name"], "arguments": wants}}]
        messages = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": "", "tool_calls": asked},
            {"role": "tool", "content": told},
        ]
        if rng.random() < 0.4 and (next_one := asked_next(rng, here, wants, test)):
            question, arguments = next_one
            messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": question}]
            answer = call(here["name"], arguments)
        return Sample("tools", messages, answer, tools=offered)
    return ask("tools", question, "\n".join(calls), tools=offered)


WHERE = {"place": "in ", "room": "in the ", "clock": "at ", "person": "for ", "language": "in "}


def asked_next(rng: random.Random, made: dict[str, Any], wants: dict[str, Any], test: bool) -> Asked | None:
    """The same with another value, where it is plain which: "And in Paris?" """
    kinds = {n: made["parameters"][n]["kind"] for n in wants}
    keys = [n for n, kind in kinds.items() if kind in AGAIN and kinds_of(made).count(alike(kind)) == 1]
    if not keys:
        return None
    key = rng.choice(keys)
    again = value(rng, made["parameters"][key], test)
    question = worded(rng, "one tool once more", written(again), WHERE.get(kinds[key], ""))
    return question, wants | {key: again}
