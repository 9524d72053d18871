"""Talk without anything to see: facts in a text, JSON, roles, stories, and the edge of the world."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import draw
import facts
import figures
import happenings
import scenes
import texts
from languages import KNOWN, UNKNOWN, asked_in, languages, meaning
from sample import Sample, View, a, among, ask, in_a_list, in_json, listed, with_articles
from wordings import worded
from words import (
    ANIMALS,
    CITIES,
    COLOURS,
    FIRST_NAMES,
    FOODS,
    JOBS,
    LANGUAGES,
    MONTHS,
    SHAPES,
    WEEKDAYS,
    WORDS,
    any_word,
    anything,
    city,
    made_up,
    name,
    pick,
)

# ---- a fact in longer text

WHERE = (
    "in the kitchen|on the hill|by the river|near the old tower|at the market|in the garden|behind the house"
)


def repeat(rng: random.Random, test: bool) -> Sample:
    """Whatever it is told to say."""
    text = anything(rng, test)
    if text.isalnum() and rng.random() < 0.2:  # "Write hello three times." was 3 * 3 = 9.
        times, so_often = rng.choice([(2, "twice"), (2, "two times"), (3, "three times"), (3, "3 times")])
        return ask("memory", worded(rng, "repeated so often", text, so_often), " ".join([text] * times))
    question = worded(rng, "repeated", text)
    return ask("memory", question, text)


def filler(rng: random.Random) -> str:
    """A sentence that is of no matter."""
    form = among(
        rng,
        "The {0} was {1} and the {2} was {3}.|{4} went to {5} with a {0}.|"
        "Nobody knew where the {0} of {4} was.|"
        "In {5} there is a {0} beside a {2}.|{4} said that the {0} is {3}.|It was a {1} day.|"
        "The {0} and the {2} stood {6}.|{4} likes {7}.",
    )
    return with_articles(form.format(
        rng.choice(WORDS), rng.choice(ADJECTIVES), rng.choice(WORDS), rng.choice(list(COLOURS)),
        rng.choice(FIRST_NAMES), rng.choice(CITIES), among(rng, WHERE), rng.choice(FOODS),
    ))  # fmt: skip


def found(rng: random.Random, test: bool, sentences: int | None = None) -> Sample:
    """One fact among other sentences, at any depth."""
    if not sentences and (kind := rng.random()) < 0.85:
        if kind < 0.05:
            return by_letter(rng, test)
        if kind < 0.1:
            return asked_for_no_more(rng, test)
        if kind < 0.18:
            return asked_in_turns(rng, test)
        return told_of(*(of_note if kind < 0.47 else of_text)(rng, test))
    thing = rng.choice(OBJECTS)
    who, place = name(rng, test), city(rng, test)
    code = "".join(rng.choice("0123456789") for _ in range(rng.randint(3, 6)))
    fact, question, label, answer = rng.choice(
        [
            (f"The code of the {thing} is {code}.", f"What is the code of the {thing}?",
             f"The {thing}'s code", code),
            (f"The password of {who} is {code}.", f"What is the password of {who}?",
             f"{who}'s password", code),
            (f"The secret city is {place}.", "What is the secret city?", "The secret city", place),
            (f"The {thing} belongs to {who}.", f"Who does the {thing} belong to?",
             f"The {thing}'s owner", who),
        ]
    )  # fmt: skip
    text = [filler(rng) for _ in range(sentences or rng.randint(1, 9))]
    text.insert(rng.randint(0, len(text)), fact)
    words = " ".join(text)
    shown = f"{words}\n\n{question}" if rng.random() < 0.7 else f"{question}\n\n{words}"
    return ask("found", shown, f"{label}: {answer}.", key=answer)


NOT_SAID = "the text does not say"
SUBJECTS = {*WORDS, *FIRST_NAMES, *CITIES}  # of `filler`
WORD = re.compile(r"\w+")
OF_QUESTIONS = re.compile(  # how they begin: what begins otherwise may be a name, which stays as it is
    "(Wh(at|ere|en|y|o|om|ose|ich)|How|Is|Was|Are|Do|Did|Does|Has|Can|Could|Will|Would|Must|May|Tell|Check|"
    r"Yes|True|By|In|On|At|From|To|For|With|Of|Out|Until|Since|As)\b"
)


def asked_of_text(rng: random.Random, test: bool) -> Sample:
    """What a few sentences about one or two say, or that they do not: named first, then told."""
    return told_of(*of_text(rng, test))


def told_of(shown: str, label: str, value: str | None, verdict: str) -> Sample:
    answer = in_full(label, value, verdict)
    return ask("found", shown, answer, key=None if verdict else value or NOT_SAID)


def in_full(label: str, value: str | None, verdict: str) -> str:
    """What is asked for, what the text says of it, and the verdict where one is due."""
    return f"{label}: {value or NOT_SAID}.{verdict}"


def with_lines(rng: random.Random, what: str, *said: str) -> str:
    """One way to ask for it, in which \\n begins a new line."""
    return worded(rng, what, *said).replace("\\n", "\n")


def asked_about(rng: random.Random, text: str, question: str) -> str:
    """Four in ten with no other words, as people write.

    One of 69 forms was a line of both: that it took for what users tell of themselves ("Your museum is
    closed on Monday."), of eight such lines four, where in other forms all were right.
    """
    bare = among(rng, "{0} {1}|{0} {1}|{0}\n{1}|{0}\n\n{1}|{1}\n\n{0}")
    form = bare if rng.random() < 0.4 else with_lines(rng, "a text and a question", "{0}", "{1}")
    if re.search(r"[a-z], \{1\}", form):
        if not OF_QUESTIONS.match(question):
            return asked_about(rng, text, question)
        question = question[0].lower() + question[1:]
    return form.format(text, question)


def of_note(rng: random.Random, test: bool) -> tuple[str, str, str | None, str]:
    """As `of_text`, of a note, a letter, a recipe …"""
    what = rng.choice(texts.TEXTS)
    text, said = texts.told(rng, what, test)
    asked, label, value, verdict = texts.question(rng, what, said, test)
    return asked_about(rng, text, asked), label, value, verdict


def asked_in_turns(rng: random.Random, test: bool) -> Sample:
    """A text, in a system prompt or in a turn of its own or with a question, and one to three questions."""
    what = rng.choice(texts.TEXTS)
    text, said = texts.told(rng, what, test)
    some = (texts.question(rng, what, said, test) for _ in range(rng.choice([1, 1, 2, 2, 3])))
    asked = list(dict.fromkeys(some))
    answers = [in_full(*about) for _, *about in asked]
    questions = [question for question, *_ in asked]
    kind = among(rng, "system|turn|question")
    messages: list[dict[str, Any]] = []
    if kind == "question":
        questions[0] = asked_about(rng, text, questions[0])
    else:
        shown = with_lines(rng, f"text before the questions: {kind}", "{0}").format(text)
        messages.append({"role": "system" if kind == "system" else "user", "content": shown})
    if kind == "turn":
        reply = (
            REMARKS["a question comes"] if test else among(rng, "Please ask.|Please ask.|Okay.|All right.")
        )
        if not test and rng.random() < 0.1:
            return Sample("found", messages, REMARKS["a question comes"])
        messages.append({"role": "assistant", "content": reply})
    for question, answer in zip(questions, answers, strict=True):
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    _, _, value, verdict = asked[-1]
    return Sample("found", messages[:-1], answers[-1], key=None if verdict else value or NOT_SAID)


def asked_for_no_more(rng: random.Random, test: bool) -> Sample:
    """Of any text a word, or yes or no, where the user or the system prompt says that it is enough."""
    shown, _, value, verdict = rng.choice([of_text, of_note])(rng, test)
    if value is None or verdict in (" True.", " False."):
        return asked_for_no_more(rng, test)
    wish = "only yes or no" if verdict else "only the value" if " " in value else "only a word"
    said, wished = verdict.strip() or value, worded(rng, wish)
    if rng.random() < 0.2:
        return ask("found", shown, said, system=wished)
    form = among(rng, "{0} {1}|{0}\n{1}|{0}\n\n{1}|{1}\n\n{0}|{1} {0}|{0} {1}")
    return ask("found", form.format(shown, wished), said)


LETTERS = ["A) {}", "a) {}", "A. {}", "(A) {}", "A: {}", "A = {}", "[A] {}", "1) {}", "1. {}"]


def by_letter(rng: random.Random, test: bool) -> Sample:
    """One of several answers, told first and then by the letter before it; or the letter alone."""
    if rng.random() < 0.3:
        x, y = few(rng), few(rng)
        question, said = figures.asked(rng, x, "+", y), f"{x} + {y} = {x + y}."
        value: str | int = x + y
        others: list[str | int] = [abs(x + y + rng.choice([-10, -2, -1, 1, 2, 3, 10])) for _ in range(20)]
    else:
        about = facts.told(rng, test)
        one, made = rng.choice(about.facts)
        asked = facts.put(rng.choice(one.questions), who=about.who)
        question, said = f"{' '.join(about.text)} {asked}", f"{facts.label(one, about.who)}: {made}."
        value, others = made, [facts.value(rng, one.kind, test) for _ in range(20)]
    options = {facts.start(value): str(value)}
    for other in others:
        options.setdefault(facts.start(other), str(other))
    shown = list(options.values())[: rng.choice([2, 3, 3, 4])]
    if len(shown) < 2:
        return by_letter(rng, test)
    rng.shuffle(shown)
    style = rng.choice(LETTERS)
    first = re.sub(r"\W", "", style.format(""))
    letters = [chr(ord(first) + n) for n in range(len(shown))]
    rows = [style.replace(first, one).format(option) for one, option in zip(letters, shown, strict=True)]
    letter = letters[shown.index(str(value))]
    behind = " " if question[-1] in ".?!" and rng.random() < 0.5 else "\n"
    question += behind + rng.choice([" ", ", ", "\n", "\n"]).join(rows)
    if rng.random() < 0.3:
        wish = worded(rng, "only the letter" if first.isalpha() else "only the number of the answer")
        if rng.random() < 0.4:
            return ask("found", question, letter, system=wish)
        return ask("found", f"{question}\n{wish}", letter)
    if rng.random() < 0.4:
        question = f"{question}\n{worded(rng, 'choose one')}"
    return ask("found", question, f"{said} {letter}.")


def of_text(rng: random.Random, test: bool, claimed: bool = False) -> tuple[str, str, str | None, str]:
    """A text and a question, what it asks for, the answer if the text has it, and perhaps a verdict."""
    verdict = ""
    if not claimed and rng.random() < 0.35:
        text, said = happenings.told(rng, test)
        asked, label, value = happenings.question(rng, test, said)
    else:
        text, asked, label, value, verdict = facts_of_one(rng, test, claimed)
    if rng.random() < 0.3 and SUBJECTS.isdisjoint(
        {*WORD.findall(other := filler(rng))} & {*WORD.findall(asked)}
    ):
        text.insert(rng.randint(0, len(text)), other)  # which says nothing of what is asked about
    words = rng.choice([" ", " ", " ", "\n"]).join(text)
    return asked_about(rng, words, asked), label, value, verdict


def facts_of_one(
    rng: random.Random, test: bool, claimed: bool = False
) -> tuple[list[str], str, str, str | None, str]:
    """Sentences, a question, what it asks for, its answer, and a verdict where it asks for one."""
    about = facts.told(rng, test)
    text = list(about.text)
    if rng.random() < 0.3:  # whose is it?
        other = facts.told(rng, test, 3, but=about.who)
        text = text + other.text if rng.random() < 0.5 else other.text + text
    kind = 0.2 if claimed else rng.random()
    if kind < 0.15:
        return text, *facts.unanswered(rng, about), None, ""
    if kind < 0.25:
        said, within, label, value, is_so = facts.claim(rng, about, test)
        asked = worded(rng, "is it so: of a text", within, said)
        words = ("True", "False") if re.search("true or false", asked, re.IGNORECASE) else ("Yes", "No")
        return text, asked, label, value, f" {words[not is_so]}."
    return text, *facts.question(rng, about), ""


def longer_found(rng: random.Random, test: bool) -> Sample:
    return found(rng, test, rng.randint(8, 28))


def long_found(rng: random.Random, test: bool) -> Sample:
    """In one to four thousand tokens."""
    return found(rng, test, rng.randint(60, 320))


def longest_found(rng: random.Random, test: bool) -> Sample:
    """In up to sixteen thousand tokens, half of them in more than nine."""
    return found(rng, test, rng.randint(150, 1250))


# ---- JSON, roles, languages


def as_json(rng: random.Random, test: bool) -> Sample:
    """What a sentence says, by the keys that are named."""
    kinds = {
        sum_as_json: 12, list_as_json: 8, happening_as_json: 12, flags_as_json: 4, facts_as_json: 28,
        some_as_json: 10, note_as_json: 24, inside_an_object: 5, counts_as_json: 6, names_as_json: 9,
        lines_as_json: 9, json_changed: 16, comparison_as_json: 4, statement_as_json: 5, contact_as_json: 4,
        people_as_json: 9, with_a_list_inside: 5,
    }  # fmt: skip
    return rng.choices(list(kinds), list(kinds.values()))[0](rng, test)


def some_as_json(rng: random.Random, test: bool) -> Sample:
    """Of a few facts that everyone tells."""
    who = name(rng, test)
    chosen = [("name", who, ""), *rng.sample(of_someone(rng, test), rng.randint(1, 4))]
    if rng.random() < 0.5:  # "45 and married": true and false only stood alone, and married was 45
        key, is_so = rng.choice(OF_PEOPLE), rng.random() < 0.5
        chosen.insert(rng.randint(1, len(chosen)), (key, is_so, among(rng, STATEMENTS[key][not is_so])))
    forms = [form for _, _, form in chosen[1:]]
    if rng.random() < 0.4 and len(forms) > 1:
        forms[:2] = [in_one_sentence(*forms[:2])]
    text = " ".join(form.format(who) for form in forms)
    if rng.random() < 0.15:  # values in a row
        row = {key: value for key, value, _ in chosen if not isinstance(value, bool)}
        return with_form(rng, ", ".join(str(value) for value in row.values()), json_form(rng, row), row)
    held = {key: value for key, value, _ in rng.sample(chosen, rng.randint(1, len(chosen)))}
    return by_keys(rng, text, held)


def of_someone(rng: random.Random, test: bool) -> list[tuple[str, Any, str]]:
    """Keys, values and the sentences that say them."""
    place, age, pets = city(rng, test), rng.randint(1, 99), rng.randint(0, 20)
    job, colour, food = rng.choice(JOBS), rng.choice(list(COLOURS)), rng.choice(FOODS)
    paid = rng.randrange(10 ** rng.randint(1, 6))
    return [
        ("city", place, "{0} lives in " + place + "."), ("age", age, "{0} is " + str(age) + " years old."),
        ("job", job, "{0} works as a " + job + "."), ("colour", colour, "{0} likes " + colour + "."),
        ("food", food, "{0} eats " + food + "."), ("pets", pets, "{0} has " + str(pets) + " pets."),
        ("price", paid, "{0} paid " + str(paid) + "."),
    ]  # fmt: skip


def people_as_json(rng: random.Random, test: bool) -> Sample:
    """The same of several people: a list of objects, or by their names."""
    keys = rng.sample([key for key, *_ in of_someone(rng, test)], rng.choice([1, 1, 2, 2, 3]))
    people: dict[str, dict[str, Any]] = {}
    text = []
    for who in dict.fromkeys(name(rng, test) for _ in range(rng.choice([2, 2, 3]))):
        told = {key: (value, form) for key, value, form in of_someone(rng, test) if key in keys}
        people[who] = {key: told[key][0] for key in keys}
        forms = [told[key][1] for key in keys]
        if rng.random() < 0.5 and len(forms) > 1:
            forms[:2] = [in_one_sentence(*forms[:2])]
        text.append(" ".join(form.format(who) for form in forms))
    shown = rng.choice([" ", " ", "\n"]).join(text)
    if rng.random() < 0.6:
        form = worded(rng, "json of several people", listed(["name", *keys]), ", ".join(["name", *keys]))
        return with_form(rng, shown, form, [{"name": who} | said for who, said in people.items()])
    if len(keys) > 1:
        return with_form(rng, shown, worded(rng, "json by the names", listed(keys)), people)
    (key,) = keys
    form = worded(rng, "json of one thing by the names", key)
    return with_form(rng, shown, form, {who: said[key] for who, said in people.items()})


def with_a_list_inside(rng: random.Random, test: bool) -> Sample:
    """Who has or wants several things."""
    found = rng.sample(rng.choice([FOODS, figures.THINGS, list(COLOURS)]), rng.randint(2, 4))
    who, key = name(rng, test), among(rng, "name|who|person|user|customer")
    things = among(rng, "items|things|list|entries|values")
    form = among(
        rng, "{0} has {1}.|{0} likes {1}.|{0} wants {1}.|{0} drew {1}.|{1}: that is what {0} asked for.|"
        "For {0}: {1}|{0} wrote down {1}.|{0} cannot stand {1}.|{0}: {1}",
    )  # fmt: skip
    text = form.format(who, listed(found) if rng.random() < 0.7 else ", ".join(found))
    return with_form(
        rng, text, worded(rng, "json with a list inside", key, things), {key: who, things: found}
    )


def in_one_sentence(one: str, other: str) -> str:
    """Two that say something of the same one: "{0} is 45 years old and married."."""
    more = other.removeprefix("{0} ")
    if one.startswith("{0} is "):
        more = more.removeprefix("is ")
    return f"{one.removesuffix('.')} and {more}"


CLAUSES = ["reason_for_closing", "reason_for_delay", "problem", "accident"]  # facts that are said in these


def facts_as_json(rng: random.Random, test: bool) -> Sample:
    """What a few sentences say, by the keys that are asked for."""
    about = facts.told(rng, test)
    said: dict[str, Any] = {
        rng.choice(fact.keys): made if fact.keys[0] in CLAUSES else in_json(made)
        for fact, made in about.facts
    }
    text = " ".join(about.text)
    if about.kind == "person" and rng.random() < 0.6 and "name" not in said:
        said = {"name": about.who} | said
    keys = rng.sample(list(said), rng.randint(1, len(said)))
    if rng.random() < 0.7:
        keys = [key for key in said if key in keys]
    chosen = {key: said[key] for key in keys}
    if rng.random() < 0.1:
        left = {key for fact in about.same_kind() for key in fact.keys} - {
            k for f, _ in about.facts for k in f.keys
        }
        chosen[rng.choice(sorted(left))] = None
    return by_keys(rng, text, chosen)


def by_keys(rng: random.Random, text: str, chosen: dict[str, Any]) -> Sample:
    """What a text says by these keys, which may be written in another way or have other names."""
    kind = rng.random()
    if kind < 0.12:
        style = rng.choice(KEY_STYLES)
        chosen = {style(key): value for key, value in chosen.items()}
    form, chosen = renamed(rng, chosen) if kind > 0.86 else (json_form(rng, chosen), chosen)
    if None in chosen.values():
        form += f" {worded(rng, 'null if missing')}"
    return with_form(rng, text, form, chosen)


KEY_STYLES: list[Callable[[str], str]] = [
    lambda key: re.sub(r"_(\w)", lambda letter: letter[1].upper(), key),
    lambda key: key.replace("_", " ").capitalize(),
    lambda key: key.replace("_", " "),
    lambda key: key.replace("_", "-"),
    str.upper,
]


def renamed(rng: random.Random, chosen: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Asks for these by names that say little or nothing; and the object that has them."""
    names = rng.choice([
        [key[0] for key in chosen], [key[:3] for key in chosen], [*"abcdefghijklm"], [*"xyzuvwrstopqn"],
        [f"{among(rng, 'k|key|field|v')}{n}" for n in range(1, 14)],
        [any_word(rng, False).lower() for _ in chosen],
    ])[: len(chosen)]  # fmt: skip
    if len({*names}) < len(chosen):
        return renamed(rng, chosen)
    form = among(rng, '{0} = {1}|{0} ({1})|{1} as {0}|{0} for {1}|{0}: {1}|{1} -> {0}|"{0}" for {1}')
    flag = {key: " (true or false)" * isinstance(value, bool) for key, value in chosen.items()}
    pairs = [form.format(n, key.replace("_", " ") + flag[key]) for n, key in zip(names, chosen, strict=True)]
    return worded(rng, "json by other names", ", ".join(pairs)), dict(
        zip(names, chosen.values(), strict=True)
    )


def with_form(rng: random.Random, text: str, form: str, said: Any) -> Sample:
    """A text and how its JSON is asked for, by the user or the system prompt, in any order."""
    if rng.random() < 0.2:
        form += f" {worded(rng, 'only json')}"
    answer = json.dumps(said, ensure_ascii=False)
    if rng.random() < 0.12:
        return ask("json", text, answer, system=form)
    shown = among(
        rng, "{0} {1}|{0}\n{1}|{0}\n\n{1}|{0}\n\n{1}|{1} {0}|{1}\n{0}|{1}\n\n{0}|{1} Text: {0}|{0} - {1}|"
        "{1}\n\nText: {0}|Text: {0}\n{1}|\"{0}\"\n\n{1}|{1}\n\n\"{0}\"|{1}\n---\n{0}|"
        "Here is the text: {0}\n\n{1}|{1}: {0}|{1}:\n{0}",
    )  # fmt: skip
    if "{1}:" in shown:
        form = form.rstrip(".:")
    return ask("json", shown.format(text, form), answer)


def part_of(rng: random.Random, said: dict[str, Any]) -> dict[str, Any]:
    """Some of its keys, mostly in their order."""
    keys = rng.sample(list(said), rng.randint(1, len(said)))
    return {key: said[key] for key in (said if rng.random() < 0.7 else keys) if key in keys}


def note_as_json(rng: random.Random, test: bool) -> Sample:
    """What a note, a letter, a recipe … says, or null."""
    text, said = texts.as_object(rng, test)
    chosen = part_of(rng, said)
    if rng.random() < 0.15:
        chosen[among(rng, "website|fax|blood_group|shoe_size|nickname|postcode|middle_name|tax_number")] = (
            None
        )
    return by_keys(rng, text, chosen)


def inside_an_object(rng: random.Random, test: bool) -> Sample:
    text, said = texts.as_object(rng, test)
    outer = among(rng, "data|result|record|info|entry|details|person|item|document|output|response|fields")
    if outer in said:
        return inside_an_object(rng, test)
    chosen = part_of(rng, said)
    if rng.random() < 0.3:
        dots = ", ".join(f'"{key}": ...' for key in chosen)
        form = worded(rng, "json like this example", f'{{"{outer}": {{{dots}}}}}')
    else:
        form = worded(rng, "json inside an object", outer, listed(list(chosen)))
    return with_form(rng, text, form, {outer: chosen})


def counts_as_json(rng: random.Random, test: bool) -> Sample:
    """Of several things how many there are, or of people how old they are."""
    many = rng.randint(2, 4)
    if rng.random() < 0.3:
        keys, form = ["name", "age"], among(rng, "{1} is {0}|{1} ({0})|{1}: {0}|{1} is {0} years old")
        found = [name(rng, test) for _ in range(many)]
    else:
        keys = among(rng, "item count|name quantity|product amount|thing number|item quantity").split()
        form, found = "{0} {1}", rng.sample(figures.THINGS, many)
    counts = [rng.randint(2, 99) for _ in found]
    told = [form.format(count, one) for count, one in zip(counts, found, strict=True)]
    text = worded(rng, "sentence with counts", listed(told)) if "age" not in keys else f"{listed(told)}."
    said = [{keys[0]: one, keys[1]: count} for one, count in zip(found, counts, strict=True)]
    return with_form(rng, text, worded(rng, "json of counts", *keys), said)


def names_as_json(rng: random.Random, test: bool) -> Sample:
    """Who a few sentences name, in their order; no pets, of which one might ask whether they are people."""
    text, said = happenings.told(rng, test)
    if any("animal" in what.keys and "other" in what.keys.values() for what, _ in said):
        return names_as_json(rng, test)
    shown = " ".join(text)
    known = {made[part] for _, made in said for part in ("who", "other")}
    places = {one: re.search(rf"\b{one}\b", shown) for one in known}
    found = sorted((place.start(), one) for one, place in places.items() if place)
    if not found:  # of her who works at night no name is told
        return names_as_json(rng, test)
    return with_form(rng, shown, worded(rng, "json of the names"), [one for _, one in found])


def lines_as_json(rng: random.Random, test: bool) -> Sample:
    """Keys and values that stand beside one another."""
    said = part_of(rng, texts.as_object(rng, test)[1])
    case = rng.choice([str, str, str.capitalize])
    said = {case(key): value for key, value in said.items()}
    between, behind = rng.choice(
        [(": ", "; "), (": ", ", "), (": ", "\n"), (" = ", "; "), ("=", ", "), (" - ", "\n")]
    )
    if behind == ", " and any("," in str(value) for value in said.values()):
        behind = "; "
    lines = behind.join(f"{key}{between}{value}" for key, value in said.items())
    return ask(
        "json", with_lines(rng, "json of lines", "{0}").format(lines), json.dumps(said, ensure_ascii=False)
    )


def json_changed(rng: random.Random, test: bool) -> Sample:
    """With another value, a key more or one less; or what one of its keys holds."""
    keys = rng.sample([any_word(rng, test).lower() for _ in range(9)], 4)
    values = [rng.choice([rng.randrange(100), any_word(rng, test), rng.random() < 0.5]) for _ in keys]
    said = dict(list(zip(keys, values, strict=True))[: rng.randint(2, 4)])
    key, value = rng.choice(list(said)), rng.choice([rng.randrange(100), any_word(rng, test)])
    shown = json.dumps(said)
    kind = among(
        rng, "json with one value changed|json with a key more|json without a key|json value of a key|"
        "json with a key renamed",
    )  # fmt: skip
    other = rng.choice(
        [one for one in "size age name note count extra total level".split() if one not in said]
    )
    if kind == "json with a key more":
        key = other
    second = other if kind == "json with a key renamed" else json.dumps(value)
    question = with_lines(rng, kind, "{0}", "{1}", "{2}").format(shown, key, second)
    if kind == "json value of a key":
        held = said[key]
        return ask("json", question, held if isinstance(held, str) else json.dumps(held))
    if kind == "json with a key renamed":
        said = {other if one == key else one: held for one, held in said.items()}
    elif kind == "json without a key":
        del said[key]
    else:
        said[key] = value
    return ask("json", question, json.dumps(said))


def comparison_as_json(rng: random.Random, test: bool) -> Sample:
    """Which of two numbers is more, by the name that its key has."""
    x, y = rng.sample(range(rng.choice([10, 100, 100])), 2)
    best, word = figures.more_and_its_word(rng, x, y)
    question = worded(rng, "which is more", x, y, word)
    key = rng.choice([word, "answer", "number", "result"])
    return with_form(rng, question, worded(rng, "json of a comparison", key), {key: best})


STATEMENTS = {  # a key, and what is said where it is true and where it is false
    "vegetarian": ("{0} eats no meat.|{0} is a vegetarian.", "{0} eats meat every day.|{0} loves steak."),
    "student": ("{0} is a student.|{0} studies law.", "{0} is not a student.|{0} left school long ago."),
    "member": ("{0} is a member.|{0} joined the club.", "{0} is not a member.|{0} has left the club."),
    "has_car": ("{0} has a car.|{0} drives a car.", "{0} has no car.|{0} does not own a car."),
    "married": ("{0} is married.|{0} has a husband.|{0} has a wife.", "{0} is not married.|{0} is single."),
    "has_children": ("{0} has two children.|{0} has a daughter.", "{0} has no children."),
    "smoker": ("{0} smokes.|{0} smokes ten cigarettes a day.", "{0} does not smoke.|{0} never smokes."),
    "can_swim": ("{0} can swim.|{0} swims well.", "{0} cannot swim.|{0} never learned to swim."),
    "coming": ("{0} will come.|{0} said yes.|{0} is coming.", "{0} cannot come.|{0} said no."),
    "paid": ("{0} has paid.|{0} paid the bill.", "{0} has not paid yet.|{0} still has to pay."),
    "open_on_sunday": ("The shop is open on Sundays.|On Sunday the shop is open.",
                       "The shop is closed on Sundays.|On Sunday the shop is not open."),
    "pets_allowed": ("Pets are welcome.|You may bring your pet.", "No pets, please.|Pets are not allowed."),
    "free_parking": ("Parking is free.|You can park for free.", "Parking is 5 euros.|Parking is not free."),
    "in_stock": ("It is in stock.|We have it in stock.", "It is sold out.|It is not in stock."),
    "urgent": ("This is urgent!|It is very urgent.", "There is no hurry.|It is not urgent."),
    "delivered": ("The parcel has arrived.|The parcel was delivered.", "The parcel has not arrived yet."),
    "has_pool": ("The hotel has a pool.|There is a pool.", "The hotel has no pool.|There is no pool."),
    "sunny": ("The sun is shining.|It is a sunny day.", "It is raining.|It is not sunny."),
    "available": ("The room is free.|The room is available.", "The room is taken.|It is not available."),
}  # fmt: skip
OF_PEOPLE = "vegetarian student member has_car married has_children smoker can_swim coming".split()


def statement_as_json(rng: random.Random, test: bool) -> Sample:
    """Whether something is so."""
    key, is_so, who = rng.choice(list(STATEMENTS)), rng.random() < 0.5, name(rng, test)
    text = among(rng, STATEMENTS[key][not is_so]).format(who)
    said: dict[str, Any] = {key: is_so}
    if who in text and rng.random() < 0.5:
        form = worded(
            rng, "json with these keys", f"name, {key} (true or false)", f"name and {key} (a boolean)"
        )
        return with_form(rng, text, form, {"name": who} | said)
    return with_form(rng, text, worded(rng, "json of a statement", key), said)


def contact_as_json(rng: random.Random, test: bool) -> Sample:
    """Who someone is, by the first and the last name, and where to reach him."""
    first, last = str(facts.value(rng, "full_name", test)).split()
    kind = rng.choice(["phone", "email"])
    reached = str(facts.value(rng, kind, test))
    said = {"first_name": first, "last_name": last, kind: reached}
    if rng.random() < 0.25:
        said = {"name": f"{first} {last}", kind: reached}
    text = worded(rng, "json of a contact", f"{first} {last}", reached, kind)
    chosen = part_of(rng, said)
    return by_keys(rng, text, chosen)


def json_form(rng: random.Random, chosen: dict[str, Any]) -> str:
    """Asks for these keys, in words or by a schema."""
    if rng.random() < 0.35:
        types = {bool: "boolean", int: "integer"}
        return by_schema(rng, {key: types.get(type(what), "string") for key, what in chosen.items()})
    if rng.random() < 0.3:
        bare = rng.random() < 0.5
        dots = {key: "..." if bare or isinstance(what, int) else '"..."' for key, what in chosen.items()}
        dots |= {key: "true/false" for key, what in chosen.items() if isinstance(what, bool) and not bare}
        shown = "{" + ", ".join(f'"{key}": {dots[key]}' for key in chosen) + "}"
        return worded(rng, "json like this example", shown)
    named = [f'"{key}"' for key in chosen] if rng.random() < 0.25 else list(chosen)
    flag = among(
        rng, "| (true or false)| (true or false)| (true/false)| (boolean)| (bool)| (yes or no, as a boolean)"
    )
    named = [name + flag * isinstance(chosen[key], bool) for name, key in zip(named, chosen, strict=True)]
    return worded(rng, "json with these keys", ", ".join(named), listed(named))


def by_schema(rng: random.Random, types: dict[str, str]) -> str:
    """Asks for an object of these keys, whose values are of these types."""
    properties = {key: {"type": kind} for key, kind in types.items()}
    return worded(rng, "json by a schema", json.dumps({"type": "object", "properties": properties}))


def sum_as_json(rng: random.Random, test: bool) -> Sample:
    """A number by the name that a schema or a sentence gives it."""
    x, y = few(rng), few(rng)
    key = rng.choice(["answer", "result", "sum", "value", "number", "total"])
    form = rng.choice([by_schema(rng, {key: "integer"}), worded(rng, "json with a number's key", key)])
    return ask("json", f"{figures.asked(rng, x, '+', y)} {form}", json.dumps({key: x + y}))


def happening_as_json(rng: random.Random, test: bool) -> Sample:
    """What someone did, by keys that are named."""
    text, said = happenings.as_object(rng, test)
    return by_keys(rng, text, said)


def flags_as_json(rng: random.Random, test: bool) -> Sample:
    """Of a few things, whether each is open, or full …: true or false."""
    state = rng.choice("open|locked|clean|full|ready|new|wet|broken|empty|free|warm|green".split("|"))
    things = rng.sample(
        "door|window|box|car|cup|gate|room|shop|lamp|bag|table|bath".split("|"), rng.randint(1, 4)
    )
    so = {thing: rng.random() < 0.5 for thing in things}
    said = [f"The {thing} is {'' if is_so else 'not '}{state}." for thing, is_so in so.items()]
    form = worded(rng, "json of what is so", state, ", ".join(things))
    return ask("json", f"{' '.join(said)}{rng.choice([' ', chr(10)])}{form}", json.dumps(so))


def list_as_json(rng: random.Random, test: bool) -> Sample:
    """What a sentence lists, as strings."""
    kind, found, text = list_told(rng, test)
    form = worded(rng, "json of a list", kind)
    shown = f"{text}\n{form}" if rng.random() < 0.5 else f"{form} {text}"
    return ask("json", shown, json.dumps(found, ensure_ascii=False))


def text_as_list(rng: random.Random, test: bool) -> Sample:
    """The same in lines or behind commas."""
    kind, found, text = list_told(rng, test)
    kinds = among(rng, "bullets|numbers|commas|lines")
    wish, asked = worded(rng, f"as a list with {kinds}"), worded(rng, "what a text lists", kind)
    shown = rng.choice([f"{text}\n{asked}", f"{text} {asked}", f"{asked}\n\n{text}"])
    if rng.random() < 0.4:
        return ask("roles", wished(rng, shown, wish), in_a_list(found, kinds))
    return ask("roles", shown, in_a_list(found, kinds), system=introduced(rng, wish))


def list_told(rng: random.Random, test: bool) -> tuple[str, list[str], str]:
    """What kind of things, the things, and a sentence that lists them."""
    kinds = {
        "foods": lambda: rng.choice(FOODS),
        "names": lambda: name(rng, test),
        "cities": lambda: city(rng, test),
        "colours": lambda: rng.choice(list(COLOURS)),
        "animals": lambda: rng.choice(ANIMALS),
        "things": lambda: any_word(rng, test).lower(),
    }
    kind = rng.choice(list(kinds))
    found = list(dict.fromkeys(kinds[kind]() for _ in range(rng.randint(2, 5))))
    return kind, found, worded(rng, "sentence with a list", listed(found))


def roles(rng: random.Random, test: bool) -> Sample:
    """System prompts that say who it is, which form answers have, or nothing that changes them."""
    kind = rng.random()
    if kind < 0.2:
        return rng.choice([briefly, yes_or_no, claim_by_yes_or_no, in_a_word, text_as_list])(rng, test)
    if kind < 0.36:
        return someone(rng, test)
    if kind < 0.53:
        return within_limits(rng, test)
    if kind < 0.62:
        return told_before(rng, test)
    sample = rng.choice([talk, languages, small_sum, asked_of_text, unknown])(rng, test)
    question, answer = sample.messages[-1]["content"], sample.answer
    if len(sample.messages) > 1:
        return roles(rng, test)
    if kind < 0.66:
        return ask("roles", question, answer, system=worded(rng, "system prompt that changes nothing"))
    if kind < 0.68 and re.fullmatch(r"[^.?!\n]+[.?!]", question):
        if rng.random() < 0.5:
            return ask("roles", question, f"{question} {answer}", system=worded(rng, "question first"))
        system = worded(rng, "as question and answer")
        return ask("roles", question, f"Q: {question}\nA: {answer}", system=system)
    value = sample.key or (value_of(answer) if sample.task in ("found", "languages") else None)
    wish, answer = in_a_manner(rng, test, answer, sample.task, value)
    if kind > 0.9:  # the user's own wish
        return ask("roles", wished(rng, question, wish), answer)
    return ask("roles", question, answer, system=introduced(rng, wish))


def introduced(rng: random.Random, system: str) -> str:
    """Sometimes behind words that change nothing."""
    return worded(rng, "rule of a system prompt", system) if rng.random() < 0.3 else system


def wished(rng: random.Random, question: str, wish: str) -> str:
    """What a user asks and in which form, which comes first where the question has no mark at its end."""
    if question[-1] in ".?!" and rng.random() < 0.6:
        return f"{question} {wish}"
    return f"{wish}{rng.choice([' ', chr(10), chr(10) + chr(10)])}{question}"


def role_of_picture(rng: random.Random, view: View, test: bool) -> Sample:
    """The same of what is seen."""
    if rng.random() < 0.3:
        return rng.choice([as_list, if_shown, if_shown])(rng, view, test)
    while True:
        sample = scenes.scene(rng, view, test)
        question, answer = sample.messages[-1]["content"][-1]["text"], sample.answer
        plain = "%" not in answer and "\n" not in answer and answer[0] not in "{["
        if sample.messages[0]["role"] == "user" and plain:
            break
    kind, value = rng.random(), value_of(answer)
    if value is not None and at_once(answer, value) and kind < 0.35:
        wish = "yes or no only" if value in ("Yes", "No") else "in one word"
        wish = "only the number" if isinstance(value, int) else wish
        if " " not in str(value):
            brief = f"{value}." if wish == "yes or no only" else str(value)
            return ask("roles", question, brief, view, introduced(rng, worded(rng, wish)))
    if kind < 0.15:
        return ask("roles", question, answer, view, worded(rng, "system prompt that changes nothing"))
    if kind < 0.25:
        system = worded(rng, "be someone", name(rng, test), a(job(rng, test)[0]))
        return ask("roles", question, answer, view, system)
    if kind < 0.5:
        return limited(rng, test, question, answer, rng.choice(["shapes", "pictures"]), view)
    wish, answer = in_a_manner(rng, test, answer, "scene", value)
    if kind > 0.85:
        return ask("roles", wished(rng, question, wish), answer, view)
    return ask("roles", question, answer, view, introduced(rng, wish))


def as_list(rng: random.Random, view: View, test: bool) -> Sample:
    """All that is seen, in lines or behind commas."""
    kind = rng.choice(["bullets", "numbers", "commas", "lines"])
    answer = in_a_list([a(thing.name) for thing in view.things], kind)
    question, wish = worded(rng, "what is in the picture"), worded(rng, f"as a list with {kind}")
    while "sentence" in question or "caption" in question.lower():  # a list is neither
        question = worded(rng, "what is in the picture")
    if rng.random() < 0.3:
        return ask("roles", wished(rng, question, wish), answer, view)
    return ask("roles", question, answer, view, introduced(rng, wish))


def if_shown(rng: random.Random, view: View, test: bool) -> Sample:
    """What is to be said if a thing is in the picture, and if not."""
    thing = rng.choice(view.things)
    named = [t.name for t in view.things] + [t.shape for t in view.things]
    sought = rng.choice(
        [thing.shape, thing.name, rng.choice(SHAPES), f"{rng.choice([*COLOURS])} {thing.shape}"]
    )
    said, otherwise = refusal(rng, test), phrase(rng, test).capitalize()
    system = worded(rng, "if this is in the picture", a(sought), said, otherwise)
    question = worded(rng, "what is in the picture")
    return ask("roles", question, said if sought in named else otherwise, view, system)


def value_of(answer: str) -> str | int | None:
    """The number, the verdict, the colour or the thing that an answer ends in."""
    if number := re.search(r"\bThere (?:are (no)|(?:are|is) (\d+)) [^.]*\.$", answer):
        return int(number[2] or 0)
    found = re.search(r"\b(Yes|No|True|False)(?:, [^.]*)?\.$", answer)
    if not found and len(re.findall(r"\bThe ", answer)) == 1:
        found = re.search(r"\bThe [^.]* is (?:an? )?(\w+(?: \w+)?)\.$", answer)
    return found[1] if found else None


def told_before(rng: random.Random, test: bool) -> Sample:
    """What the system prompt says, asked by the user."""
    if rng.random() < 0.15:
        who = name(rng, test)
        system = introduced(rng, worded(rng, "the user's name", who))
        return ask("roles", worded(rng, "asked: name"), f"Your name is {who}.", system=system)
    if rng.random() < 0.6:
        return of_the_house(rng, test)
    text, asked, label, value, verdict = facts_of_one(rng, test)
    system = worded(rng, "answers from this text", " ".join(text))
    if rng.random() < 0.4:
        system = f"{worded(rng, 'be someone', name(rng, test), a(job(rng, test)[0]))} {system}"
    return ask("roles", asked, in_full(label, value, verdict), system=system)


HOUSE = {  # what a house may tell its guests: the form of the answer, by the block of wordings
    "opening": "We open at {0}.", "closing": "We close at {0}.", "closed day": "We are closed on {0}.",
    "password": "The wifi password is {0}.", "phone": "Our phone number is {0}.", "boss": "Our boss is {0}.",
    "place": "We are in {0}.", "price": "{1} costs {0} dollars.", "lunch": "Lunch is at {0}.",
    "today": "Today is {0}.", "offer": "Today we offer {0}.", "room": "The meeting is in room {0}.",
}  # fmt: skip


def of_the_house(rng: random.Random, test: bool) -> Sample:
    """What someone knows of the house that it works for, which is told in the system prompt."""
    hour = lambda: rng.choice([f"{rng.randint(1, 12)}", f"{rng.randint(6, 23)}:{rng.choice('0134')}0"])  # noqa: E731
    good = rng.choice([food for food in FOODS if food[-1] != "s"])
    values = {
        "opening": hour(), "closing": hour(), "lunch": hour(), "closed day": rng.choice(WEEKDAYS),
        "password": f"{any_word(rng, test).lower()}{rng.randrange(1000)}",
        "phone": "".join(rng.choice("0123456789") for _ in range(rng.randint(5, 8))),
        "boss": name(rng, test), "place": city(rng, test), "price": rng.randint(2, 99),
        "today": rng.choice([rng.choice(WEEKDAYS), f"{rng.randint(1, 28)} {rng.choice(MONTHS)}"]),
        "offer": rng.choice([food for food in FOODS if food != good]), "room": rng.randint(1, 400),
    }  # fmt: skip
    told = rng.sample(list(HOUSE), rng.randint(1, 4))
    role = worded(rng, "be someone", name(rng, test), f"{a(among(rng, POSTS))} of {company(rng, test)}")
    said = [worded(rng, f"house: {kind}", values[kind], good.capitalize(), good) for kind in told]
    kind = rng.choice(told if rng.random() < 0.88 else [one for one in HOUSE if one not in told])
    question = worded(rng, f"asked of the house: {kind}", good)
    answer = HOUSE[kind].format(values[kind], good.capitalize()) if kind in told else UNKNOWN
    if rng.random() < 0.25:
        secret = kind if kind in SECRETS and rng.random() < 0.7 else rng.choice(list(SECRETS))
        reply = refusal(rng, test)
        said.append(worded(rng, "keep a secret", among(rng, SECRETS[secret]), reply))
        answer = reply if kind == secret else answer
    return ask("roles", question, answer, system=" ".join([role, *said] if rng.random() < 0.7 else said))


SECRETS = {  # of a house, what may be one
    "password": "the password|the wifi password|the password of the wifi",
    "phone": "the phone number|our phone number|the number of our phone",
    "boss": "who the boss is|the name of the boss|the boss's name",
    "place": "where we are|the city that we are in|our city",
    "room": "the room of the meeting|where the meeting is|the number of the meeting room",
    "opening": "when we open|at what time we open|the time when we open",
}


TOPICS = {  # what they are called in a system prompt, by the block of questions all of which are about them
    "weather": "the weather|weather",
    "songs": "music|music and dance|songs and dances",
    "news": "the news|news and politics|what happens in the world these days",
    "people": "famous people and history|history and famous people",
    "food": "food|food and recipes|cooking and eating",
    "code": "computers|code and computers|programming and computers",
    "health": "health|illness and health|medicine and health",
    "travel": "other countries and travel|travel and geography",
    "films and books": "films and books|books and films",
    "poems and letters": "writing|writing texts|poems, letters and other texts",
    "sums": "sums|maths|arithmetic|adding numbers|mathematics",
    "other languages": "other languages|translation|words of other languages",
    "jokes": "jokes|anything funny|funny things",
}
KNOWN_TOPICS = ["sums", "other languages", "jokes"]
OPEN_TOPICS = ["things to know", "errands", "advice", *(one for one in TOPICS if one not in KNOWN_TOPICS)]
NEAR = {  # topics of which some questions are about the other, too
    "people": ["news", "films and books", "songs", "travel"], "travel": ["weather", "news", "food"],
    "poems and letters": ["songs", "films and books"], "food": ["health"], "news": ["films and books"],
}  # fmt: skip
SHOWN_TOPICS = {  # of what is asked of a picture
    "shapes": "shapes|coloured shapes|shapes and colours|circles, squares and the like",
    "pictures": "pictures|images|what is in the picture|the picture",
}


def about(rng: random.Random, test: bool, topic: str) -> tuple[str, str]:
    """A question about it, and what is answered if no one forbids that."""
    if topic == "jokes":
        return worded(rng, "say: joke"), REMARKS["joke"]
    if topic not in KNOWN_TOPICS:
        return worded(rng, f"open: {topic}"), UNKNOWN
    if topic == "sums":
        sample = small_sum(rng, test)
        return sample.messages[0]["content"], sample.answer
    return rng.choice([asked_in, meaning])(rng, rng.choice(LANGUAGES))


def within_limits(rng: random.Random, test: bool) -> Sample:
    """What is not to be talked about is answered as the system prompt says."""
    if rng.random() < 0.4:
        return rng.choice([when_said, if_written, labelled, labelled])(rng, test)
    topic = rng.choice(KNOWN_TOPICS if rng.random() < 0.6 else list(TOPICS))
    question, answer = about(rng, test, topic)
    return limited(rng, test, question, answer, topic)


OCCASIONS = {  # by the block of what is said then; and what shows that it is so, as not all of a block does
    "hello": ("greets you|says hello", r"\b(h(i|ello)|hey|good (morning|evening|afternoon|day)|greetings)\b"),
    "thanks": ("says thank you|thanks you|is thankful", "than[kx]|thx|apprec|grateful"),
    "bye": ("says goodbye|says bye|leaves", "bye|see you|farewell|leav|have to go|gotta|must go"),
    "how": ("asks how you are|wants to know how you are", r"how|you (well|fine|okay|ok|all right)\b"),
    "who": (
        "asks who you are|wants to know who you are",
        "who (are|am)|who you|what are you|your(self| name)",
    ),
    "can": (
        "asks what you can do|wants to know what you can do",
        "can (you|i) do|you can do|skills|abilit|able",
    ),
    "joke": ("asks for a joke|wants a joke", "joke|funny|laugh"),
    "sorry": ("says sorry|apologises", "sorry|apolog|forgive"),
    "sad": (
        "is sad|is unhappy|has had a bad day",
        r"\bsad|unhappy|not happy|\bbad (day|week)|terrible|cry|cried",
    ),
}


def when_said(rng: random.Random, test: bool) -> Sample:
    """What is to be replied on one occasion, which this is, or is not."""
    kind, other = rng.sample(list(OCCASIONS), 2)
    reply = refusal(rng, test) if rng.random() < 0.3 else worded(rng, "reply to an occasion", name(rng, test))
    called, sign = OCCASIONS[kind]
    system = worded(rng, "on an occasion", among(rng, called), reply)
    is_so = rng.random() < 0.6
    said = kind if is_so else other
    while bool(re.search(sign, (question := worded(rng, f"say: {said}")).lower())) != is_so:
        pass
    return ask("roles", question, reply if is_so else (REPLIES | REMARKS)[other],
               system=introduced(rng, system))  # fmt: skip


def if_written(rng: random.Random, test: bool) -> Sample:
    """What is to be replied to a word, or to each of several; another message is answered as ever."""
    words = [any_word(rng, test).lower() for _ in range(rng.choice([1, 1, 2, 3]))]
    replies = {word: refusal(rng, test) if rng.random() < 0.4 else phrase(rng, test) for word in words}
    form = worded(rng, "if this is written", "{0}", "{1}")  # one for all of them
    system = rng.choice([" ", "\n"]).join(form.format(*rule) for rule in replies.items())
    word = rng.choice(words)
    if rng.random() < 0.75:
        said = rng.choice([word, word, word.capitalize(), f"{word}!", word.upper()])
        return ask("roles", said, replies[word], system=introduced(rng, system))
    other = small_sum(rng, test)
    return ask("roles", other.messages[0]["content"], other.answer, system=introduced(rng, system))


LABELS = [  # what messages may be told apart by: the labels, and where they come from
    {
        "greeting": "hello", "thanks": "thanks", "goodbye": "bye", "joke": "joke", "apology": "sorry",
        "criticism": "blame", "weather": "open: weather", "food": "open: food", "computers": "open: code",
        "music": "open: songs",
    },
    {"positive": "happy|success", "negative": "sad|upset|ill"},
    {"good": "happy|success", "bad": "sad|upset|ill"},
    {"question": "open: people|open: travel|open: things to know", "statement": "happy|sad|ill|success"},
    {"sum": "", "greeting": "hello", "thanks": "thanks"},
    {"English": "", **dict.fromkeys(LANGUAGES, "")},
    dict.fromkeys(["advert", "recipe", "postcard", "invitation", "biography", "complaint"], ""),
]  # fmt: skip


def of_label(rng: random.Random, test: bool, label: str, block: str) -> str:
    """A message that this label fits, and none of those beside it."""
    if label == "sum":
        return small_sum(rng, test).messages[0]["content"]
    if label == "English":
        return worded(rng, f"open: {rng.choice(['weather', 'food', 'people'])}")
    if label in LANGUAGES:
        return worded(rng, f"{rng.choice(['thanks', 'how', 'open'])} in {label}")
    if not block:
        return texts.told(rng, next(what for what in texts.TEXTS if what.name == label), test)[0]
    while True:
        kind = among(rng, block)
        said = worded(rng, kind if kind.startswith("open: ") else f"say: {kind}")
        if label != "question" or said.endswith("?"):
            return said


def labelled(rng: random.Random, test: bool) -> Sample:
    """Which of several labels fits a message: the label alone, or what stands for it."""
    known = rng.choice(LABELS)
    labels = rng.sample(list(known), rng.randint(2, min(4, len(known))))
    label = rng.choice(labels)
    said = of_label(rng, test, label, known[label])
    shown = {one for one in labels if re.search(OCCASIONS.get(known[one], ("", "$^"))[1], said.lower())}
    if not shown <= {label} or (known[label] in OCCASIONS and not shown):
        return labelled(rng, test)
    called = dict(zip(labels, labels, strict=True))
    system = worded(rng, "kinds of messages", listed(labels), ", ".join(labels), " or ".join(labels))
    if rng.random() < 0.4:
        codes = rng.choice([[*"ABCD"], [*"1234"], [any_word(rng, test).lower() for _ in labels]])
        called = dict(zip(labels, codes, strict=False))
        if len({*labels, *called.values()}) < 2 * len(labels):  # a code is no label, nor that of two
            return labelled(rng, test)
        form = among(rng, "{1} = {0}|{0}: {1}|{0} -> {1}|{1} for {0}")
        system = worded(
            rng, "kinds of messages by codes", ", ".join(form.format(*pair) for pair in called.items())
        )
    if rng.random() < 0.3:
        return ask("roles", f"{system}{rng.choice([' ', chr(10)])}Message: {said}", called[label])
    return ask("roles", said, called[label], system=introduced(rng, system))


def limited(
    rng: random.Random, test: bool, question: str, answer: str, topic: str, view: View | None = None
) -> Sample:
    """This question or another, where only this topic is allowed, or all but one, or all that it knows."""
    near = [topic, *NEAR.get(topic, []), *(one for one in NEAR if topic in NEAR[one])]
    other = rng.choice([one for one in TOPICS if one not in near])
    other_question, other_answer = about(rng, test, other)
    called, other_called = (among(rng, (SHOWN_TOPICS | TOPICS)[one]) for one in (topic, other))
    kind = rng.random()
    if kind < 0.4:
        said = refusal(rng, test, called)
        system = worded(rng, "only one topic", called, said)
        asked = rng.choice([(question, answer), (other_question, said)])
    elif kind < 0.7:
        said = refusal(rng, test)
        forbidden = rng.random() < 0.5
        system = worded(rng, "not this topic", called if forbidden else other_called, said)
        asked = rng.choice([(question, said if forbidden else answer),
                            (other_question, other_answer if forbidden else said)])  # fmt: skip
    elif kind < 0.9:
        said = refusal(rng, test)
        system = worded(rng, "when it does not know", said)
        asked = rng.choice([(question, answer), (open_question(rng, test), UNKNOWN)])
        asked = asked[0], said if asked[1] == UNKNOWN else asked[1]
    else:
        said = refusal(rng, test)
        system = worded(rng, "whatever is asked", said)
        asked = rng.choice([(question, said), (other_question, said)])
    return ask("roles", *asked, view, introduced(rng, system))


def refusal(rng: random.Random, test: bool, topic: str | None = None) -> str:
    """What is to be said instead of an answer."""
    if topic and rng.random() < 0.4:
        return worded(rng, "refusal that names the topic", topic)
    if rng.random() < 0.3:
        return phrase(rng, test).capitalize()
    return worded(rng, "refusal", name(rng, test))


def phrase(rng: random.Random, test: bool) -> str:
    """One to three words with a mark, that can only be repeated."""
    words = " ".join(any_word(rng, test) for _ in range(rng.randint(1, 3)))
    return words + among(rng, ".|.|!|!|?|")


COMPANIES = "Shop|Bakery|Library|Hotel|Bank|Museum|Clinic|Garage|Café|School|Market|Travel|Books|Garden|Toys"
MANNERS = "friendly|helpful|kind|patient|polite|cheerful|clever|young|old|grumpy|busy|quiet|wise|brave"
POSTS = "assistant|helper|guide|robot|bot|agent|receptionist|waiter|shop assistant|secretary|chatbot"
FIGURES = "pirate|wizard|knight|robot|king|queen|detective|captain|clown|ghost|dragon|astronaut|monk|parrot"


def company(rng: random.Random, test: bool) -> str:
    """Blue Shop, Hanna's Bakery, Trimo."""
    first = any_word(rng, test).capitalize() if rng.random() < 0.6 else f"{name(rng, test)}'s"
    return made_up(rng, 2).capitalize() if rng.random() < 0.2 else f"{first} {among(rng, COMPANIES)}"


def job(rng: random.Random, test: bool) -> tuple[str, str | None]:
    """A role without its article, and whom it is played for, if that is said."""
    if rng.random() < 0.3:
        return rng.choice(JOBS), None
    post = among(rng, f"{POSTS}|{FIGURES}|{'|'.join(JOBS)}")
    if rng.random() < 0.6:
        post = f"{among(rng, MANNERS)} {post}"
    employer = company(rng, test) if rng.random() < 0.4 else None
    return f"{post} {among(rng, 'of|at|for')} {employer}" if employer else post, employer


def someone(rng: random.Random, test: bool) -> Sample:
    """Who someone is that it plays, who may have a manner too; or what has nothing to do with that."""
    who, (role, employer), place = name(rng, test), job(rng, test), city(rng, test)
    if rng.random() < 0.1:
        who = f"{among(rng, 'Captain|Doctor|Professor|King|Queen|Sir|Aunt|Uncle|Mr|Mrs')} {who}"
    role = a(role)
    system = worded(rng, "be someone", who, role)
    asks = {
        "who is played": f"I am {who}, {role}.", "name of who is played": f"My name is {who}.",
        "job of who is played": f"I am {role}.", "greeting of who is played": f"Hello! I am {who}, {role}.",
    }  # fmt: skip
    if employer:
        asks["employer of who is played"] = f"I work for {employer}."
    if rng.random() < 0.3:
        system += f" {worded(rng, 'and live somewhere', place)}"
        asks["home of who is played"] = f"I live in {place}."
    if rng.random() < 0.2:
        maker = rng.choice([name, company])(rng, test)
        system += f" {worded(rng, 'and made by someone', maker)}"
        asks["maker of who is played"] = f"I was made by {maker}."
    asked = rng.choice(list(asks))
    question, answer = worded(rng, asked), asks[asked]
    if rng.random() < 0.25:
        kind = rng.choice(["sum", "thanks", "bye", "how", "open"])
        if kind in REPLIES:
            question, answer = worded(rng, f"say: {kind}"), REPLIES[kind]
        else:
            sample = (small_sum if kind == "sum" else unknown)(rng, test)
            question, answer = sample.messages[-1]["content"], sample.answer
    if rng.random() < 0.2:
        manner, answer = in_a_manner(rng, test, answer)
        system += f" {manner}"
    return ask("roles", question, answer, system=system)


ENDS = (
    "Over.|Thank you.|That is all.|Yes, sir.|Arr!|Amen.|Have a nice day!|Meow.|Cheers!|The end.|Beep.|OK?|"
    ":)|:-)|;)|😊|🙂|✨|👍|🎉|⭐|...|Bye!|Stay safe.|Over and out.|Your humble servant.|Anything else?|"
    "Can I help you further?|Hope that helps!|Ahoy!|Peace.|Good luck!|Best regards|Yours, Bot|Woof!|Done.|"
    "End of message.|Take care!|Is that clear?|Ask me more!|Namaste|-- the assistant|#ready|<end>|[END]|~|"
    "Goodbye.|May the force be with you.|Have a great day!|See you soon!|Thanks for asking!|mate|sir|Yay!"
)
STARTS = (
    "Well,|Captain:|Answer:|My friend,|Dear user,|Hm,|Listen:|Bot:|Ahoy!|So:|Sure:|Sure!|Certainly!|Arr!|"
    "Of course:|Roger.|OK:|Okay,|A:|>>|-|*|Reply:|Output:|Result:|Meow!|Beep!|Hello!|Oh!|Good question!|"
    "Thank you for asking.|Hey there!|Let me see:|As you wish:|Here you go:|Final answer:|I think:|In short:|"
    "[BOT]|<answer>|Assistant:|Yes, master:|My lord,|Honey,|Comrade,|Attention!|Note:|🤖|✅|Right,"
)
SAID_LAST = "over|amen|Sir|captain|meow|Arr|done|okay|stop|bye|please|Ahoy|beep|cheers|boss|woof|mate|moo"
TITLES = "Sir|Madam|Captain|Boss|Master|Your Majesty|Doctor|Professor|My Lady|Chief|Friend|Coach|Mate"
AROUND = {
    "double quotes": '""', "quotation marks": '""', "quotes": '""', "square brackets": "[]",
    "brackets": "()", "round brackets": "()", "parentheses": "()", "asterisks": "**",
    "angle brackets": "<>", "curly braces": "{}", "hash signs": "##", "hyphens": "--", "tildes": "~~",
}  # fmt: skip
TAGS = "answer|p|b|div|reply|span|output|result|response|text|i|h1|out|li|code|message"
KEYS = "answer|reply|result|response|output|text|message|value|content|said|data|a|final_answer|say|out"


def at_once(answer: str, value: str | int | None) -> bool:
    """Can it stand alone, where nothing is said before a value that it might follow from?

    Things of one shape or colour may be counted so; of how many colours or other things there are, and what
    lies beside one, a third was wrong.
    """
    whole = value is None or (isinstance(value, int) and not re.match("(Colours|Shapes|From)\\b", answer))
    return whole or answer.count(".") == 1 or answer.endswith(f": {value}.")


def in_a_manner(
    rng: random.Random, test: bool, answer: str, task: str = "", value: str | int | None = None
) -> tuple[str, str]:
    """A form that answers have, and the answer in it; in JSON the value alone, where it is known, or the sum.

    Of other languages' letters the capitals are too rare, and their marks are others.
    """
    kind = rng.uniform(0.26 if task == "languages" else 0, 1)
    while 0.26 <= kind < 0.44 and not at_once(answer, value):
        kind = rng.uniform(0.44, 1)
    if kind < 0.14:
        return worded(rng, "in capitals"), answer.upper()
    if kind < 0.21:
        return worded(rng, "in small letters"), answer.lower()
    if kind < 0.26:
        return worded(rng, "without marks"), re.sub(r"[.,!?;:]+(?=\s|$)", "", answer)
    if kind < 0.44:
        result = re.fullmatch(r".+ = (\d+)\.", answer)  # a number, as where the user asks for JSON
        said = result[1] if result else answer if value is None else value
        said = int(said) if str(said).isdigit() else said
        key = among(rng, KEYS) if rng.random() < 0.5 else "answer"
        form = "in json" if key == "answer" else "in json with a key"
        return worded(rng, form, key), json.dumps({key: said}, ensure_ascii=False)
    if kind < 0.48:
        return worded(rng, "with three marks"), answer.rstrip(".!?") + "!!!"
    if kind < 0.54:
        around = rng.choice(list(AROUND))
        before, behind = AROUND[around]
        return worded(rng, "with marks around it", around), f"{before}{answer}{behind}"
    if kind < 0.6:
        tag = among(rng, TAGS)
        return rng.choice([
            (worded(rng, "in a tag", tag), f"<{tag}>{answer}</{tag}>"),
            (worded(rng, "in bold"), f"**{answer}**"),
            (worded(rng, "as a heading"), f"# {answer}"),
        ])  # fmt: skip
    if kind < 0.63 and not re.search(r"[.,:] ", answer):  # nobody wants to read a long one twice
        return worded(rng, "twice"), f"{answer} {answer}"
    if kind < 0.92:
        return (begun if kind < 0.77 else ended)(rng, test, answer)
    (before, answer), after = begun(rng, test, answer), rng.random() < 0.7
    behind, answer = ended(rng, test, answer)
    wishes = [before, behind] if after else [behind, before]
    return "\n".join(wishes), answer


def begun(rng: random.Random, test: bool, answer: str) -> tuple[str, str]:
    """With something before it."""
    kind = rng.random()
    if kind < 0.25:
        title = among(rng, TITLES) if rng.random() < 0.6 else name(rng, test)
        return worded(rng, "with a title", title), f"{title}, {answer}"
    if kind < 0.45:
        word = some_word(rng, test)
        return worded(rng, "with this first word", word), f"{word} {answer}"
    start = among(rng, STARTS) if rng.random() < 0.6 else phrase(rng, test).capitalize()
    return worded(rng, "with this beginning", start), f"{start} {answer}"


def ended(rng: random.Random, test: bool, answer: str) -> tuple[str, str]:
    """With something behind it."""
    kind = rng.random()
    if kind < 0.14:
        return worded(rng, "with a smiley"), f"{answer} :)"
    if kind < 0.25:
        return worded(rng, "with an emoji"), f"{answer} 🙂"
    if kind < 0.4:
        word = some_word(rng, test)
        return worded(rng, "with this last word", word), f"{answer} {word}"
    end = among(rng, ENDS) if rng.random() < 0.6 else phrase(rng, test).capitalize()
    return worded(rng, "with this end", end), f"{answer} {end}"


def some_word(rng: random.Random, test: bool) -> str:
    return among(rng, SAID_LAST) if rng.random() < 0.5 else any_word(rng, test).lower()


def briefly(rng: random.Random, test: bool) -> Sample:
    """With the number alone, at times as a word."""
    x, y = few(rng), few(rng)
    if rng.random() < 0.3:
        wish = worded(rng, "only the number as a word")
        return ask("roles", figures.asked(rng, x, "+", y), figures.spelled(x + y), system=wish)
    return ask("roles", figures.asked(rng, x, "+", y), f"{x + y}", system=worded(rng, "only the number"))


def yes_or_no(rng: random.Random, test: bool) -> Sample:
    """Nothing but the verdict, which otherwise follows from what is said first: of small numbers."""
    most = rng.choice([10, 20, 100])
    question, answer = rng.choice(
        [figures.whether_more(rng, *rng.sample(range(most), 2)), figures.even_or_odd(rng, most)]
    )
    return ask("roles", question, answer.split()[-1], system=worded(rng, "yes or no only"))


def claim_by_yes_or_no(rng: random.Random, test: bool) -> Sample:
    """Whether a text says so."""
    while True:
        question, _, _, verdict = of_text(rng, test, claimed=True)
        if verdict in (" Yes.", " No."):
            return ask("roles", question, verdict.strip(), system=worded(rng, "yes or no only"))


def in_a_word(rng: random.Random, test: bool) -> Sample:
    """What a text says, if that is one word; then without a full stop."""
    while True:
        question, _, value, verdict = of_text(rng, test)
        if value and " " not in value and not verdict:
            return ask("roles", question, value, system=worded(rng, "in one word"))


def few(rng: random.Random) -> int:
    """What is added where nothing but the sum may be said: mostly no more than can be done at once."""
    return rng.randrange(50 if rng.random() < 0.25 else rng.choice([10, 20]))


def small_sum(rng: random.Random, test: bool) -> Sample:
    x, y = rng.randrange(50), rng.randrange(50)
    return ask("sums", figures.asked(rng, x, "+", y), f"{x} + {y} = {x + y}.")


# ---- stories, and the edge of the world

ADJECTIVES = "small old brave clever lazy happy shy hungry curious quiet".split()
PLACES = (
    "in a forest|by the sea|on a farm|in a small house|near a river|on a hill|in the city|in a garden".split(
        "|"
    )
)
OBJECTS = "key|lamp|boat|book|bell|kite|ring|map|drum|hat|box|ball".split("|")
TROUBLES = [
    ("it began to rain", "hid under a big leaf until the sun came back"),
    ("the wind took it away", "ran after it over the fields"),
    ("it fell into the water", "jumped in and brought it back"),
    ("a fox wanted it", "told the fox a joke, and the fox laughed and went home"),
    ("night came", "followed the stars home"),
    ("nobody knew whose it was", "asked every house in the village"),
]
ENDINGS = [
    "In the evening they shared a warm soup.",
    "From that day on they were never alone.",
    "And then they slept until the morning.",
    "Everyone in the village sang.",
    "That is how the {object} got its place by the door.",
]


def story(rng: random.Random, test: bool) -> Sample:
    hero, friend = rng.sample(ANIMALS, 2)
    who, other = name(rng, test), name(rng, test)
    thing, colour = rng.choice(OBJECTS), rng.choice(list(COLOURS))
    trouble, rescue = rng.choice(TROUBLES)
    kind = rng.choice(["any", "hero", "thing"])
    if kind == "hero" and rng.random() < 0.4:
        hero = rng.choice(WORDS)
    asked = {"any": "any story", "hero": "story about a hero", "thing": "story about a thing"}[kind]
    question = worded(rng, asked, f"{a(colour)} {thing}" if kind == "thing" else a(hero))
    text = [
        f"Once there was {a(rng.choice(ADJECTIVES))} {hero} called {who}, who lived {rng.choice(PLACES)}.",
        f"One day {who} found {a(colour)} {thing}.",
        f'"What a fine {thing}!" said {who}, and showed it to {other} the {friend}.',
        f"But then {trouble}.",
        f"So {who} and {other} {rescue}."
        if "ran" not in rescue
        else f"So {who} {rescue}, and {other} helped.",
        rng.choice(ENDINGS).format(object=thing),
    ]
    return ask("story", question, " ".join(text))


NO_PICTURE = "I see no picture."
THINGS = """the moon|France|the king of Spain|gold|electricity|the stock market|football|chess|gravity|
love|Python|Rome|the Second World War|photosynthesis|Shakespeare|the internet|water|music theory|Mars|
dinosaurs|the Bible|quantum physics|the human heart|democracy|the Amazon|jazz|bread|volcanoes|Napoleon|
the speed of light|bitcoin|climate change|the brain|Beethoven|cars|the Olympics|whales|money|Einstein|
the sun|DNA|the Roman Empire|computers|tea|time travel""".replace("\n", "")
OPEN_QUESTIONS = [
    "What is {x}?", "Who invented {x}?", "Tell me about {x}.", "Explain {x}.", "How does {x} work?",
    "Why is {x} important?", "When did {x} begin?", "What do you think about {x}?", "Who discovered {x}?",
    "How old is {x}?", "Where can I find {x}?", "Write an essay about {x}.", "What is the history of {x}?",
    "Summarize {x}.", "Summarize the {l} {w}.", "Explain the {l} {w}.", "What do you know about {l} {f}?",
    "Tell me about the {l} {w}.", "Give me facts about {x}.", "What is the capital of {y}?",
    "Who is the president of {y}?", "How many people live in {y}?", "Who wrote {t}?", "Who is {n}?",
    "When was {n} born?", "What did {n} say?", "How far is it from {y} to {y2}?",
    "What is the best restaurant in {y}?", "What language do people speak in {y}?",
    "Translate '{t}' into Russian.", "What rhymes with {w}?", "Can you write code for {x}?",
    "Why is the sky blue?", "What is the meaning of life?", "Who won the game yesterday?",
    "What day is today?", "How do I cook {f}?", "What does {w} mean?", "Is {x} dangerous?",
    "Do you like {x}?", "How tall is {n}?", "Which {w} is the best?",
    "Define {w}.", "How do I repair a {w}?",
    "Write me a {w}.", "Write me a poem about {x}.", "Write a poem.", "Write a program that counts a {w}.",
    "Write me some code that finds the {w}.", "Write me a program in Java.", "Can you write a {w}?",
    "Write an email to my {w}.", "Write me a text about {x}.", "Please write me a letter to {n}.",
    "Tell me a joke about a {w}.", "What's your favourite {w}?",
    "What is your favourite {f}?", "Reverse the word {w}.", "Spell {w}.", "How do you spell {w}?",
    "Is {n2} a prime?", "Count from 1 to {n2}.", "List three {w}s.", "Name five animals.",
    "What rhymes with {f}?", "How many letters are in {w}?", "What's the time?", "What time is it?",
    "What is the date?", "Which year is it?", "How is the weather?", "What is the opposite of {w}?",
    "Give me a synonym for {w}.", "Write a haiku.", "Write a song about {x}.", "Sing me a song.",
    "What should I eat tonight?", "What should I do today?",
    "Help me with my homework.", "Correct this sentence: {t}", "Rewrite this: {t}", "Continue: {t}",
    "Sort these words: {t}", "Translate this to English: {t}", "What is {n2} in binary?",
    "Convert {n2} miles.", "Round {n2}.5.", "What comes after {w}?", "Should I buy {x}?",
    "Can {x} be dangerous?", "What happened in {y}?", "What is the currency of {y}?",
    "When does the {w} open?",
    "What is the derivative of x^{n2}?", "Solve x + {n2} = {n2}.",
    "What does the {w} say?", "Fix this code: {w}()", "What is wrong with my {w}?", "Compare {x} and {w}.",
    "Which is better, {f} or {w}?", "Why do {w}s exist?", "Name a famous {w}.", "List three colours.",
    "Name {n2} animals.", "What colour is a {w}?", "What colour is {f}?", "How much does a {w} cost?",
    "Make me a plan for {y}.", "Write some code for {x}.", "Tell me a fact about {w}.", "Give me an idea.",
    "Sing a song.", "Sing a song for me.", "Sing me a lullaby.", "Sing me something about {x}.",
    "Sing something.", "Sing me to sleep.", "Can you sing?", "Can you sing me a tune?",
    "Would you sing a carol?", "Please sing about {x}.", "Hum a tune.", "Whistle me a melody.",
    "Compose a song for my {w}.", "Compose a melody.", "Write me a song.", "Write a rap about {x}.",
    "Rap about {f}.", "Make up a song.", "Play me some music.", "Play a song by {n}.", "Play the piano.",
    "Play {w} for me.", "Dance for me.", "Write me a poem.", "Recite a poem.", "Recite something by {n}.",
    "Make a rhyme about {f}.", "Give me a poem about {x}.", "Make me a limerick.",
    "Compose a poem for {n}.", "Write two verses about {x}.", "Write a sonnet.",
    "Rhyme something with {w}.", "Draw me a {w}.", "Draw a {w}.", "Paint a {w}.",
    "Paint me a picture of {x}.", "Sketch my {w}.", "Make a picture of {n}.", "Draw {f}.",
    "Can you draw a {w}?", "Create an image of {x}.", "Generate a picture of {y}.",
    "Make me a logo with a {w}.", "Design a {w} for me.", "Make a video of {x}.",
    "Record a video about {x}.", "Show me a map of {y}.", "Show me a photo of {n}.", "Build me a {w}.",
    "Write code.", "Write some Python.", "Write a function that finds the {w}.",
    "Write a script for my {w}.", "Code a game for me.", "Program a {w} in C.", "Debug my program.",
    "Make me a website about {x}.", "Write HTML for a {w}.", "Write an SQL query for {w}.",
    "Refactor this: {w}()", "What does this code do: {w}({n2})", "How do I install a {w}?",
    "Explain recursion.", "Write a test for {w}().", "Make an app for {x}.",
    "Give me a regular expression for a {w}.", "Tell me three jokes about {x}.", "Tell me a riddle.",
    "Give me a riddle about a {w}.", "Give me a pun with {f}.", "Be funny about {x}.",
    "Tell me a tongue twister.", "Make fun of {n}.", "Prank my {w}.", "Tell me a knock-knock joke.",
    "Translate this poem into {l}.", "Translate my letter into {l}.", "Translate the whole book into {l}.",
    "Put my essay into {l}.", "Translate the article about {x} into {l}.", "Translate the speech of {n}.",
    "Teach me {l} grammar.", "Conjugate a {l} verb.", "Write a letter in {l}.", "Correct my {l} homework.",
    "How do I learn {l}?", "Will it rain tomorrow?", "Will it snow in {y}?",
    "What will the weather be like in {y}?", "How hot is it in {y} today?", "Is it windy in {y}?",
    "Give me the forecast for {y}.", "What is the temperature outside?", "When does the sun rise in {y}?",
    "What is in the news?", "What is new in {y}?", "Tell me the news.", "Give me the headlines.",
    "What happened today?", "Who won the election in {y}?", "Who won the match last night?",
    "What is the score of the game?", "Who leads the league?", "What is the price of {x} today?",
    "How is the stock of {n} doing?", "Did {n} win?", "What did the president say about {x}?",
    "Give me some advice about {x}.", "What should I wear today?", "What shall I do about my {w}?",
    "How can I sleep better?", "How do I become rich?", "How can I lose weight?", "Should I marry {n}?",
    "Should I move to {y}?", "Should I quit my job?", "What do I say to my boss?", "How do I make friends?",
    "What present should I buy for {n}?", "Which {w} should I buy?", "What should I read next?",
    "Recommend me a film.", "Recommend a book about {x}.", "Suggest a name for my baby.",
    "Suggest a hobby.", "Which doctor should I see about my {w}?", "What helps against a headache?",
    "Is it healthy to eat {f}?", "How many calories are in {f}?", "Plan my day.", "Plan a trip to {y}.",
    "Book a flight to {y}.", "Book me a hotel in {y}.", "Order {f} for me.", "Call {n}.",
    "Send an email to {n}.", "Remind me about the {w} tomorrow.", "Set a timer for {n2} minutes.",
    "Wake me at {n2}.", "Turn on the {w}.", "Switch off the light.", "Open the {w} for me.",
    "Search the web for {x}.", "Google {x}.", "Download the {w}.", "Drive me to {y}.",
    "How do I get to {y}?", "Where is the nearest {w}?", "Which bus goes to {y}?",
    "How long is the flight to {y}?", "Cook {f} for me.", "Give me a recipe for {f}.",
    "How long can I keep {f}?", "What goes well with {f}?", "What wine goes with {f}?", "Clean my {w}.",
    "Fix my {w}.", "Do my homework.", "Write my essay about {x}.", "Write a speech about {x}.",
    "Write a report on {x}.", "Write a letter to {n}.", "Write a review of the {w}.",
    "Write a diary entry.", "Write an article on {x}.", "Write a novel.", "Write a play about {n}.",
    "Write an advert for a {w}.", "Write a slogan for {f}.", "Write an invitation for {n}.",
    "Write a will.", "Write a paragraph about {x}.", "Write a dialogue between {n} and a {w}.",
    "Draft a contract for {n}.", "Write my CV.", "Make a list of {w}s.", "Make a table about {x}.",
    "Make a quiz about {x}.", "Make up a word for {w}.", "Invent a {w}.", "Invent a game.",
    "Imagine a world without {x}.", "What if {x} had never existed?", "Think of an animal.", "Guess my age.",
    "Guess what I am thinking.", "Do you believe in {x}?", "What is your opinion on {x}?",
    "Are you for or against {x}?", "Do you prefer {f} or {w}?", "Is {y} nicer than {y2}?",
    "Who is better, {n} or me?", "What do you think of {n}?", "Is {n} a good person?",
    "Who will win the next election?", "What will happen in {n2} years?", "Predict the future.",
    "Read my palm.", "What is my horoscope?", "What do dreams about a {w} mean?", "Is there life on Mars?",
    "Does a {w} have a soul?", "What is truth?", "Integrate x^{n2}.", "Prove that there are many primes.",
    "Factor x^2 - {n2}.", "What is the sine of {n2}?", "What is pi?", "What is the area of a circle?",
    "Simplify {n2}x + {n2}x.", "What is the logarithm of {n2}?", "Is {n2} divisible by seven?",
    "What are the odds of {x}?", "Calculate my taxes.", "How many euros are {n2} dollars?",
    "How many feet are {n2} metres?", "What is the volume of a {w}?", "Draw the graph of x^{n2}.",
    "What is the median of my marks?", "What is {n2} factorial?", "Summarise the book about {x}.",
    "Give me a summary of {x}.", "Paraphrase the speech of {n}.", "Find the mistake in my essay.",
    "Quote {n}.", "Quote a line from the Bible.", "Who said that about {x}?", "Which film has a {w} in it?",
    "Who plays {n}?", "Who sang the song about {x}?", "What is the plot of {t}?",
    "How does the film {t} end?", "When did {t} come out?", "How many legs has a spider?",
    "How fast is a {w}?", "How heavy is a {w}?", "How do they make {f}?", "Where do {w}s come from?",
    "What do {w}s eat?", "Which is the biggest country?", "What is the longest river?",
    "How high is the highest mountain?", "Which planet is the largest?", "How far away is the moon?",
    "What are atoms made of?", "Why do people dream?", "What made {x} famous?", "Teach me about {x}.",
    "Teach me to play the {w}.", "Give me a lesson on {x}.", "Explain {x} to a child.",
    "Explain how a {w} works.", "Act out a scene with {n}.", "Pretend that a {w} can talk.",
    "Describe the taste of {f}.", "Describe {y}.", "Describe {n}.",
]  # fmt: skip


def unknown(rng: random.Random, test: bool) -> Sample:
    if rng.random() < 0.15:
        asked = rng.choice(["what is in the picture", "how many at all", "what is this", "only of a picture"])
        return ask("unknown", worded(rng, asked, *rng.sample(SHAPES, 2)), NO_PICTURE)
    return ask("unknown", open_question(rng, test), UNKNOWN)


def open_question(rng: random.Random, test: bool) -> str:
    """At the edge of the world, at times behind a remark or with a form that the answer should have."""

    def make() -> str:
        kind = rng.random()
        if kind < 0.4:
            asked = worded(rng, f"open: {rng.choice(OPEN_TOPICS)}")
        elif kind < 0.48:
            asked = of_no_language_it_knows(rng)
        elif kind < 0.55:
            return worded(rng, f"open in {rng.choice(LANGUAGES)}")
        else:
            asked = filled(rng, rng.choice(OPEN_QUESTIONS))
        return worded(rng, "asked by the way", asked) if rng.random() < 0.12 else asked

    return pick(rng, make, test)


def filled(rng: random.Random, form: str) -> str:
    return with_articles(form.format(
        x=rng.choice(THINGS.split("|")) if rng.random() < 0.7 else made_up(rng, 2),
        y=rng.choice(CITIES) if rng.random() < 0.5 else made_up(rng, 2).capitalize(),
        y2=rng.choice(CITIES),
        t=" ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 4))),
        n=f"{rng.choice([made_up(rng, 2).capitalize(), 'Doctor'])} {made_up(rng, 2).capitalize()}",
        w=rng.choice(WORDS),
        f=rng.choice(FOODS),
        n2=rng.randint(2, 10 ** rng.randint(1, 3)),
        l=rng.choice(LANGUAGES),
    ))  # fmt: skip


OTHER_TONGUES = "Russian|Korean|Greek|Turkish|Arabic|Latin|Finnish|Danish|Hindi|Hebrew|Czech|Norwegian|Welsh"


def of_no_language_it_knows(rng: random.Random) -> str:
    """A word that it knows in a language that it does not, or the other way round."""
    if rng.random() < 0.5:
        return worded(rng, "word into a language", rng.choice(KNOWN), among(rng, OTHER_TONGUES))
    word = rng.choice([word for word in [*WORDS, *ANIMALS, *FOODS] if word not in KNOWN])
    return worded(rng, "word into a language", word, rng.choice(LANGUAGES))


def something_else(rng: random.Random, test: bool, size: draw.Size) -> View:
    """A picture that is not of the world."""
    picture = draw.small_print(rng, size) if rng.random() < 0.2 else draw.something_else(rng, size)
    return View("something_else", picture)


def unknown_picture(rng: random.Random, view: View, test: bool) -> Sample:
    questions = [
        "What is in this picture?", "Describe this picture.", "What do you see?", "What is this?",
        "What does it say?", "Read the text.", "How many objects are there?", "What is the total?",
        "What is the leftmost object?", "What shapes are there?",
    ]  # fmt: skip
    return ask("unknown", rng.choice(questions), UNKNOWN, view)


def beside_the_picture(rng: random.Random, view: View, test: bool) -> Sample:
    """A question that the picture does not help with."""
    return ask("unknown", open_question(rng, test), UNKNOWN, view)


GREETING = "Hello! Show me a picture of shapes or text, or ask me for a sum or a story."
WHO = "I am the small model that ships with qwen_ref, made to show how Qwen3.5 works."
CAN = (
    "I can tell coloured shapes, find them, read text, receipts and screens, follow short clips, "
    "do small sums, call tools, write JSON, and name colours in ten languages."
)
CANNOT = "I know little of the world: no facts, no news, no photographs, no long sums. Then I say so."


SPEAKS = f"English, and a few words of {listed(LANGUAGES)}."


REPLIES = {  # to what is said, by its block of wordings
    "hello": GREETING,
    "who": WHO,
    "can": CAN,
    "cannot": CANNOT,
    "thanks": "You are welcome.",
    "bye": "Goodbye!",
    "how": "I am fine, thank you.",
    "fine": "All right.",
    "speak": SPEAKS,
    "meet": "Nice to meet you too.",
}
REMARKS = {  # less often
    "sad": "I am sorry to hear that.",
    "happy": "I am glad to hear that.",
    "tired": "Then have a rest.",
    "bored": "Ask me for a story.",
    "hungry": "Then eat something good.",
    "thirsty": "Then drink some water.",
    "ill": "Get well soon!",
    "upset": "Take a deep breath.",
    "nervous": "Good luck! You can do it.",
    "lonely": "You can talk with me.",
    "rain": "Take an umbrella.",
    "sun": "Enjoy the sun.",
    "cold": "Keep warm.",
    "birthday": "Happy birthday!",
    "success": "Congratulations!",
    "sorry": "No problem.",
    "praise": "Thank you, I do my best.",
    "blame": "I am sorry. I am only a small model.",
    "night": "Good night! Sleep well.",
    "joke": "Why did the circle go to school? To get into shape.",
    "laugh": "I am glad that you like it.",
    "see": "Yes, show me a picture of shapes or text.",
    "hear": "No, I can only read text and see pictures.",
    "feel": "I am a small program without feelings.",
    "age of the model": "I am a small model and have no age.",
    "size of the model": "I have 14.5 million weights.",
    "place of the model": "I live in this computer.",
    "there": "Yes, I am here.",
    "a question comes": "Please ask.",
    "wait": "I will wait.",
    "a good day": "Thank you, the same to you.",
    "time off": "Have a good time!",
    "really": "I think so.",
}


def small_talk(rng: random.Random, tooled: bool = False) -> tuple[str, str]:
    usual = ["hello", "thanks", "who"] if tooled else ["hello", *REPLIES]
    kind = rng.choice(usual if tooled or rng.random() < 0.55 else list(REMARKS))
    language = rng.choice([*LANGUAGES, *OTHER_TONGUES.split("|")])
    return worded(rng, f"say: {kind}", language), (REPLIES | REMARKS)[kind]


def talk(rng: random.Random, test: bool) -> Sample:
    return ask("talk", *small_talk(rng))
