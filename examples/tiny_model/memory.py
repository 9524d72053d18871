"""What was told and is asked for later; the newest holds."""

from __future__ import annotations

import random
import re
from typing import Any, NamedTuple

import facts
import figures
import texts
from languages import UNKNOWN
from sample import Sample, a, among, ask, yes_or_no
from talk import OBJECTS, open_question, small_sum, small_talk
from wordings import WORDINGS, worded
from words import ANIMALS, COLOURS, FOODS, JOBS, any_word, city, made_up, name

NOTED = "I will remember it."  # one reply, so that it can be learned
MOST_TURNS = 8  # told before it is asked
Value = tuple[str, ...]  # what a wording of it is filled with


class Turn(NamedTuple):
    told: str
    answered: str
    asked: str
    recalled: str
    about: str = ""  # of OWN
    value: Value = ()


OWN = {  # what is answered when it is told, and when it is asked for
    "name": ("Nice to meet you, {0}.", "Your name is {0}."),
    "home": ("{0} is a good place.", "You live in {0}."),
    "colour": ("I like {0} too.", "Your favourite colour is {0}."),
    "food": ("{0}: good choice.", "Your favourite food is {0}."),
    "job": ("That is a fine job.", "You work as {0}."),
    "pet": ("{1} is a nice name.", "Your {2} is called {1}."),
    "lucky number": (NOTED, "Your lucky number is {0}."),
    "friend": ("Say hello to {0}.", "Your friend is called {0}."),
    "birth": ("I see.", "You were born in {0}."),
    "code": (NOTED, "The code of the {1} is {0}."),
}


def value_of(rng: random.Random, about: str, test: bool) -> Value:
    animal = rng.choice(ANIMALS)
    return {
        "name": lambda: (name(rng, test),),
        "home": lambda: (city(rng, test),),
        "colour": lambda: (rng.choice(list(COLOURS)),),
        "food": lambda: (rng.choice(FOODS),),
        "job": lambda: (a(rng.choice(JOBS)),),
        "pet": lambda: (a(animal), name(rng, test), animal),
        "lucky number": lambda: (str(rng.randrange(1000)),),
        "friend": lambda: (name(rng, test),),
        "birth": lambda: (city(rng, test),),
        "code": lambda: (str(rng.randrange(10**4)), rng.choice(OBJECTS)),
    }[about]()


def other_value(rng: random.Random, turn: Turn, test: bool) -> Value:
    """Of the same thing."""
    while (value := value_of(rng, turn.about, test))[0] == turn.value[0]:
        pass
    return (value[0], *turn.value[1:])


def of_oneself(rng: random.Random, about: str, value: Value, told: str = "told") -> Turn:
    answered, recalled = (form.format(*value) for form in OWN[about])
    said, asked = worded(rng, f"{told}: {about}", *value), worded(rng, f"asked: {about}", *value)
    return Turn(said, answered[0].upper() + answered[1:], asked, recalled, about, value)


def of_memory(rng: random.Random, test: bool) -> list[Turn]:
    """What may be told; where a number is to be remembered, none that is called a number too."""
    kind = rng.choice(["number", "word", "password"])
    numbers = {"lucky number", "lucky_number", "phone_number"} if kind == "number" else set()
    own = [of_oneself(rng, about, value_of(rng, about, test)) for about in OWN if about not in numbers]
    own.append(asked_to_remember(rng, kind, test))
    others = [
        one
        for one in facts.FACTS["person"]
        if numbers.isdisjoint(one.keys) and (ABOVE.isdisjoint(one.keys) or rng.random() < 0.3)
    ]
    chosen = rng.sample(others, 8)
    kept = own if {key for one in chosen for key in one.keys}.isdisjoint(ABOVE) else own[:1] + own[-2:]
    return kept + [of_user(rng, one, test) for one in chosen]


ABOVE = {  # keys of what is told above in words of its own
    *"home_city birthplace job favourite_colour favourite_food pet pet_name lucky_number best_friend".split()
}


def of_user(rng: random.Random, one: facts.Fact, test: bool) -> Turn:
    """What someone says of himself."""
    made = str(facts.value(rng, one.kind, test))
    said = facts.put(rng.choice(one.told_by_user), value=made)
    return Turn(said, NOTED, rng.choice(one.asked_by_user), facts.put(one.recalled[0], value=made))


def asked_to_remember(rng: random.Random, kind: str, test: bool) -> Turn:
    """What is told for no other reason; none of it is told otherwise, as a code or a name is."""
    number, word = str(rng.randrange(10 ** rng.randint(1, 5))), any_word(rng, test).lower()
    password = f"{made_up(rng, 2)}{rng.choice(['', number])}"
    made = {"number": number, "word": word, "password": password}[kind]
    said = worded(rng, "told to remember", kind, made)
    asked = worded(rng, "asked for what was to remember", kind)
    return Turn(said, NOTED, asked, f"The {kind} is {made}.")


def in_one(told: list[Turn]) -> str:
    """A line ends where no mark ends what is told: two numbers would be read as one."""
    return "".join(turn.told + (" " if turn.told[-1] in ".!?" else "\n") for turn in told)


def longer_memory(rng: random.Random, test: bool) -> Sample:
    return memory(rng, test, rng.randint(5, MOST_TURNS))


def in_passing(rng: random.Random, test: bool) -> Sample:
    """Of what someone tells of his day, perhaps corrects, and asks for again, perhaps after other talk."""
    many, chosen = rng.choice([1, 1, 1, 2, 2, 3, 4]), []
    while not chosen or any(alike(one, other) for one in chosen for other in chosen):
        chosen = rng.sample(texts.PASSING, many)
    asked_of, known = rng.choice(chosen), {}
    before: list[str | int] = []
    said: list[str] = []
    for what in chosen:
        told, made = texts.told(rng, what, test, before)
        before += made.values()
        said.append(told)
        known[what.name] = made
        corrections = [form for form in what.corrections if texts.named(made, form)]
        if corrections and rng.random() < 0.3:
            form = rng.choice(corrections)
            (slot,) = texts.slots(form)
            made[slot] = texts.other_value(rng, what, slot, before, test)
            before.append(made[slot])
            corrected = texts.put(form, made)
            said = [*said, corrected] if rng.random() < 0.6 else [*said[:-1], f"{told} {corrected}"]
    question, answer = recalled(rng, asked_of, known[asked_of.name])
    if rng.random() < 0.12:
        question, answer = not_told(rng, chosen, known, before, test)
    if rng.random() < 0.1:  # all in one turn
        told = " ".join(said)
        return ask("memory", rng.choice([f"{told} {question}", f"{told}\n\n{question}"]), answer)
    short = among(rng, "|||Okay.|All right.|I see.|Noted.|Thanks for telling me.|Got it!|Sure.")
    messages: list[dict[str, Any]] = []
    for one in said:
        reply = NOTED if test else short or NOTED
        messages += [{"role": "user", "content": one}, {"role": "assistant", "content": reply}]
    if not test and not short and rng.random() < 0.2:  # the replies are learned too
        return Sample("memory", messages[:-1], messages[-1]["content"])
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        other, its_reply = small_talk(rng)
        messages += [{"role": "user", "content": other}, {"role": "assistant", "content": its_reply}]
    return Sample("memory", [*messages, {"role": "user", "content": question}], answer)


ALIKE = [  # what one tells may answer what is asked of the other: "Next week I visit my aunt in Rome"
    {"travel", "relatives' homes"}, {"meeting place", "plan"}, {"purchase", "present for someone"},
    {"purchase", "shopping list"}, {"allergy", "dislike"}, {"breakage", "reason"}, {"new pet", "two pets"},
    {"work people", "call me"},
]  # fmt: skip


def alike(one: texts.Text, other: texts.Text) -> bool:
    return {one.name, other.name} in ALIKE


def recalled(rng: random.Random, what: texts.Text, made: texts.Values) -> tuple[str, str]:
    """A question and its answer; that is its value alone, as it was told, where the question says so."""
    asked, answer, *_ = rng.choice(texts.answered(what, made))
    question = texts.put(asked, made)
    slots = [slot for slot in texts.slots(answer) if slot not in texts.slots(asked)]
    sought = [str(made[slot]) for slot in slots]
    if len(sought) == 1 and answer.endswith("}.") and rng.random() < 0.15:
        wish = worded(rng, "only the value" if " " in sought[0] else "only a word")
        return f"{question} {wish}", sought[0]
    return question, texts.put(answer, made)


def not_told(
    rng: random.Random,
    chosen: list[texts.Text],
    known: dict[str, texts.Values],
    before: list[str | int],
    test: bool,
) -> tuple[str, str]:
    """A question about what was left out, or about something else."""
    left = [asked for what in chosen for asked, _ in texts.unanswered(what, known[what.name])]
    if not left or rng.random() < 0.5:
        others = [what for what in texts.PASSING if what not in chosen]
        what = rng.choice([what for what in others if not any(alike(what, one) for one in chosen)])
        made = texts.values(rng, what, test, before)
        left = [texts.put(asked, made) for asked, *_ in what.questions]
    return rng.choice(left), "You have not told me."


def memory(rng: random.Random, test: bool, turns: int | None = None) -> Sample:
    """Facts told one turn at a time, or several in one, and a question about one of them."""
    if not turns and rng.random() < 0.54:
        return rng.choices([in_passing, said_before, carried_on], [7, 1, 1])[0](rng, test)
    known = of_memory(rng, test)
    told = rng.sample(known, turns or rng.choice([1, 2, 3, 4, 6, MOST_TURNS]))
    not_told = [turn for turn in known if turn not in told]
    holds, asked_about, before = list(told), rng.choice(told), ()
    can_change = [turn for turn in told if f"told anew: {turn.about}" in WORDINGS]
    if can_change and rng.random() < 0.25:
        old = rng.choice(can_change)
        new = of_oneself(rng, old.about, other_value(rng, old, test), "told anew")
        new = new._replace(answered="All right.")
        told.insert(rng.randint(told.index(old) + 1, len(told)), new)
        holds[holds.index(old)] = new
        asked_about = new if rng.random() < 0.7 else rng.choice(holds)
        before = old.value if asked_about is new else ()
    question, answer = asked_about.asked, asked_about.recalled
    if f"is it so: {asked_about.about}" in WORDINGS and rng.random() < 0.2:
        question, answer = whether(rng, asked_about, test, before)
    if not test and rng.random() < 0.1:  # all in one turn
        return ask("memory", f"{in_one(told)}{question}", answer)
    messages: list[dict[str, Any]] = []
    short = among(rng, "|||Okay.|All right.|I see.|Good to know.|Noted.|Thanks for telling me.|Ok!|Fine.")
    most = rng.choice([1, 1, 1, 1, 2, 3])  # in one turn
    while told:  # whatever it said to that
        turns_of_one = rng.randint(1, most)
        now, told = told[:turns_of_one], told[turns_of_one:]
        reply = now[0].answered if len(now) == 1 else "I will remember all of that."
        reply = reply if test else short or reply
        said = in_one(now).strip()
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]
        if rng.random() < 0.1:
            other, its_reply = small_talk(rng)
            its_reply = its_reply if test else short or its_reply
            messages += [{"role": "user", "content": other}, {"role": "assistant", "content": its_reply}]
    if not test and not short and rng.random() < 0.2:  # the replies are learned too
        return Sample("memory", messages[:-1], messages[-1]["content"])
    if not test and rng.random() < 0.1:
        question = rng.choice(not_told).asked
        answer = "You have not told me."
    return Sample("memory", [*messages, {"role": "user", "content": question}], answer)


def said_before(rng: random.Random, test: bool) -> Sample:
    """What was just said, asked or answered, or at first, word for word: no sample of training had that."""
    messages: list[dict[str, Any]] = []
    many = rng.choice([1, 1, 2, 3])
    while len(messages) < 2 * many:
        made = (small_sum if rng.random() < 0.5 else asked_to_remember_it)(rng, test)
        said, reply = made.messages[0]["content"], made.answer
        if rng.random() < 0.6:
            said, reply = small_talk(rng) if rng.random() < 0.7 else (open_question(rng, test), UNKNOWN)
        if re.search(r"[.!?]\s.*\?$", said):  # what was asked: all of it, or the last sentence?
            continue
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]
    what = among(rng, "said just now|said just now|answered just now|said first")
    if what == "answered just now":
        answer = messages[-1]["content"]
    else:
        said = messages[0 if what == "said first" else -2]["content"]
        answer = f'You {"asked" if said.endswith("?") else "said"}: "{said}"'
    return Sample("memory", [*messages, {"role": "user", "content": worded(rng, what)}], answer)


def asked_to_remember_it(rng: random.Random, test: bool) -> Sample:
    turn = asked_to_remember(rng, among(rng, "number|word|password"), test)
    return ask("memory", turn.told, turn.answered)


def carried_on(rng: random.Random, test: bool) -> Sample:
    """A sum, and what is added to its result, or taken away: that is said before it ("And plus 3?")."""
    x, y = rng.randint(1, 20), rng.randint(1, 20)
    said, told, result = figures.asked(rng, x, "+", y), f"{x} + {y} = {x + y}.", x + y
    messages: list[dict[str, Any]] = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": told}]
        kind = among(rng, "+|+|+|-|-|*|double|result|another sum")
        if kind == "another sum":
            x, y = rng.randint(1, 20), rng.randint(1, 20)
            said, told, result = worded(rng, kind, f"{x} + {y}"), f"{x} + {y} = {x + y}.", x + y
        elif kind == "result":
            said = worded(rng, "the result of before")
        else:
            sign = "*" if kind == "double" else "+" if kind == "*" and result > 10 else kind
            sign = "+" if sign == "-" and not result else sign  # of nothing nothing is taken
            number = 2 if kind == "double" else rng.randint(1, min(result, 20) if sign == "-" else 9)
            said = worded(rng, f"carried on {kind if kind == 'double' else sign}", number)
            before, result = result, figures.RESULT[sign](result, number)
            told = f"{before} {sign} {number} = {result}."
    return Sample("memory", [*messages, {"role": "user", "content": said}], told)


def whether(rng: random.Random, turn: Turn, test: bool, before: Value) -> tuple[str, str]:
    """What was told, and whether it is what is asked of: or something else, or what held before."""
    asked = turn.value
    if is_other := rng.random() < 0.5:
        asked = before if before and rng.random() < 0.7 else other_value(rng, turn, test)
    return worded(rng, f"is it so: {turn.about}", *asked), f"{turn.recalled} {yes_or_no(not is_other)}."
