"""Talk without anything to see: memory, stories, languages, JSON, roles, and the edge of the world."""

from __future__ import annotations

import json
import random
from typing import Any

import draw
import facts
import figures
from sample import Sample, View, a, among, ask, listed
from words import (
    ANIMALS,
    CITIES,
    COLOURS,
    FIRST_NAMES,
    FOODS,
    GREETINGS,
    JOBS,
    LANGUAGES,
    NUMBERS,
    SHAPES,
    WORDS,
    any_word,
    anything,
    city,
    made_up,
    name,
    pick,
    translate,
    word_in,
)

Turn = tuple[str, str, str, str]  # told, answered, asked, recalled
MOST_TURNS = 8  # told before it is asked


def of_memory(rng: random.Random, test: bool) -> list[Turn]:
    who, place, number = name(rng, test), city(rng, test), str(rng.randrange(1000))
    colour, food, job = rng.choice(list(COLOURS)), rng.choice(FOODS), rng.choice(JOBS)
    animal, pet, friend, born = rng.choice(ANIMALS), name(rng, test), name(rng, test), city(rng, test)
    thing, code = rng.choice(OBJECTS), rng.randrange(10**4)
    own = [
        (among(rng, f"My name is {who}.|I am {who}.|Hi, I'm {who}.|You can call me {who}.|Hello, I am {who}.|"
               f"Hey! My name is {who}.|This is {who}.|It's {who} here.|{who} is my name."),
         f"Nice to meet you, {who}.",
         among(rng, "What is my name?|Who am I?|Do you remember my name?|What's my name?|Say my name.|"
               "What am I called?|Do you know who I am?|What was my name again?|How am I called?"),
         f"Your name is {who}."),
        (among(rng, f"I live in {place}.|My home is {place}.|I moved to {place}.|I come from {place}.|"
               f"I'm from {place}.|I live in {place} now.|I live with my {animal} in {place}.|"
               f"We live in {place}, my {animal} and I.|I live in {place} with {friend}."),
         f"{place} is a good place.",
         among(rng, "Where do I live?|In which city do I live?|What is my city?|Where is my home?|"
               "Which place do I come from?|Tell me where I live.|What town do I live in?"),
         f"You live in {place}."),
        (among(rng, f"My favourite colour is {colour}.|I love the colour {colour}."), f"I like {colour} too.",
         among(rng, "What is my favourite colour?|Which colour do I like?|What's my favourite color?"),
         f"Your favourite colour is {colour}."),
        (among(rng, f"I like {food}.|I love to eat {food}."), f"{food.capitalize()}: good choice.",
         among(rng, "What do I like to eat?|What food do I like?"), f"You like {food}."),
        (among(rng, f"I work as a {job}.|I am a {job}.|My job is {job}."), "That is a fine job.",
         among(rng, "What is my job?|What do I work as?"), f"You work as a {job}."),
        (among(rng, f"I have a {animal}. It is called {pet}.|My {animal} is called {pet}."),
         f"{pet} is a nice name.", f"What is my {animal} called?", f"Your {animal} is called {pet}."),
        (f"My lucky number is {number}.", "I will remember it.", "What is my lucky number?",
         f"Your lucky number is {number}."),
        (among(rng, f"My friend is called {friend}.|{friend} is my best friend."), f"Say hello to {friend}.",
         among(rng, "What is my friend called?|Who is my friend?"), f"Your friend is called {friend}."),
        (f"I was born in {born}.", "I see.", "Where was I born?", f"You were born in {born}."),
        (f"The code of the {thing} is {code}.", "I will remember it.", f"What is the code of the {thing}?",
         f"The code of the {thing} is {code}."),
        asked_to_remember(rng, test),
    ]  # fmt: skip
    others = [one for one in facts.FACTS["person"] if not {*one.keys} & ABOVE or rng.random() < 0.3]
    chosen = rng.sample(others, 8)
    kept = own if {key for one in chosen for key in one.keys}.isdisjoint(ABOVE) else own[:1] + own[-2:]
    return kept + [of_user(rng, one, test) for one in chosen]


ABOVE = {  # keys of what is told above in words of its own
    *"home_city birthplace job favourite_colour favourite_food pet pet_name lucky_number best_friend".split()
}


def of_user(rng: random.Random, one: facts.Fact, test: bool) -> Turn:
    """What someone says of himself."""
    made = str(facts.value(rng, one.kind, test))
    reply = among(rng, "I will remember it.|I will keep that in mind.|Good to know.")
    said = facts.put(rng.choice(one.told_by_user), value=made)
    return said, reply, rng.choice(one.asked_by_user), facts.put(one.recalled[0], value=made)


def asked_to_remember(rng: random.Random, test: bool) -> Turn:
    """What is told for no other reason; none of it is told otherwise, as a code or a name is."""
    number, word = str(rng.randrange(10 ** rng.randint(1, 5))), any_word(rng, test).lower()
    password = f"{made_up(rng, 2)}{rng.choice(['', number])}"
    kind, made = rng.choice([("number", number), ("word", word), ("password", password)])
    said = among(
        rng, "Remember the {0} {1}.|Please remember the {0} {1}.|Keep the {0} {1} in mind.|The {0} is {1}.|"
        "Don't forget the {0} {1}.|My {0} is {1}, remember that.|Remember: {1}. That is the {0}.|"
        "Note the {0} {1}.",
    ).format(kind, made)  # fmt: skip
    asked = among(
        rng, "What is the {0}?|Which {0} did I tell you?|What {0} did I give you?|Tell me the {0}.|"
        "What was the {0}?|Do you still know the {0}?|Say the {0} again.|Which {0} should you remember?",
    ).format(kind)  # fmt: skip
    return said, "I will remember it.", asked, f"The {kind} is {made}."


def longer_memory(rng: random.Random, test: bool) -> Sample:
    return memory(rng, test, rng.randint(5, MOST_TURNS))


def memory(rng: random.Random, test: bool, turns: int | None = None) -> Sample:
    """Facts told one turn at a time, and a question about one of them."""
    known = of_memory(rng, test)
    told = rng.sample(known, turns or rng.choice([1, 2, 3, 4, 6, MOST_TURNS]))
    if not test and rng.random() < 0.1:  # all in one turn
        _, _, question, answer = rng.choice(told)
        return ask("memory", " ".join([*(said for said, _, _, _ in told), question]), answer)
    messages: list[dict[str, Any]] = []
    short = among(rng, "|||Okay.|All right.|I see.|Good to know.|Noted.|Thanks for telling me.|Ok!|Fine.")
    for said, reply, _, _ in told:  # whatever it said to that
        reply = reply if test else short or reply
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]
        if rng.random() < 0.1:
            other, its_reply = small_talk(rng)
            its_reply = its_reply if test else short or its_reply
            messages += [{"role": "user", "content": other}, {"role": "assistant", "content": its_reply}]
    if not test and not short and rng.random() < 0.2:  # the replies are learned too
        return Sample("memory", messages[:-1], messages[-1]["content"])
    _, _, question, answer = rng.choice(told)
    if not test and rng.random() < 0.1:
        _, _, question, answer = rng.choice([f for f in known if f not in told])
        answer = "You have not told me."
    return Sample("memory", [*messages, {"role": "user", "content": question}], answer)


# ---- a fact in longer text

WHERE = (
    "in the kitchen|on the hill|by the river|near the old tower|at the market|in the garden|behind the house"
)


def repeat(rng: random.Random, test: bool) -> Sample:
    """Whatever it is told to say."""
    text = anything(rng, test)
    question = among(
        rng, "Repeat after me: {0}|Say: {0}|Say '{0}'.|Repeat: {0}|Write '{0}'.|Repeat this: {0}|Echo {0}|"
        "Answer with '{0}' and nothing else.|Copy this text: {0}|Just say {0}",
    ).format(text)  # fmt: skip
    return ask("memory", question, text)


def filler(rng: random.Random) -> str:
    """A sentence that is of no matter."""
    return among(
        rng,
        "The {0} was {1} and the {2} was {3}.|{4} went to {5} with a {0}.|"
        "Nobody knew where the {0} of {4} was.|"
        "In {5} there is a {0} beside a {2}.|{4} said that the {0} is {3}.|It was a {1} day.|"
        "The {0} and the {2} stood {6}.|{4} likes {7}.",
    ).format(
        rng.choice(WORDS), rng.choice(ADJECTIVES), rng.choice(WORDS), rng.choice(list(COLOURS)),
        rng.choice(FIRST_NAMES), rng.choice(CITIES), among(rng, WHERE), rng.choice(FOODS),
    )  # fmt: skip


def found(rng: random.Random, test: bool, sentences: int | None = None) -> Sample:
    """One fact among other sentences, at any depth."""
    if not sentences and rng.random() < 0.7:
        return asked_of_text(rng, test)
    thing = rng.choice(OBJECTS)
    who, place = name(rng, test), city(rng, test)
    code = "".join(rng.choice("0123456789") for _ in range(rng.randint(3, 6)))
    fact, question, answer = rng.choice(
        [
            (f"The code of the {thing} is {code}.", f"What is the code of the {thing}?", code),
            (f"The password of {who} is {code}.", f"What is the password of {who}?", code),
            (f"The secret city is {place}.", "What is the secret city?", place),
            (f"The {thing} belongs to {who}.", f"Who does the {thing} belong to?", who),
        ]
    )
    text = [filler(rng) for _ in range(sentences or rng.randint(1, 9))]
    text.insert(rng.randint(0, len(text)), fact)
    words = " ".join(text)
    shown = f"{words}\n\n{question}" if rng.random() < 0.7 else f"{question}\n\n{words}"
    return ask("found", shown, f"{answer}.")


NOT_SAID = "The text does not say."


def asked_of_text(rng: random.Random, test: bool) -> Sample:
    """What a few sentences about one or two say, or that they do not."""
    about = facts.told(rng, test)
    text = list(about.text)
    if rng.random() < 0.3:  # whose is it?
        other = facts.told(rng, test, 3, but=about.who)
        text = text + other.text if rng.random() < 0.5 else other.text + text
    if rng.random() < 0.3:
        text.insert(rng.randint(0, len(text)), filler(rng))
    asked, answer = facts.question(rng, about)
    if rng.random() < 0.1:
        left = [one for one in about.same_kind() if one not in [fact for fact, _ in about.facts]]
        asked, answer = (
            facts.put(rng.choice(rng.choice(left).questions), who=about.who),
            NOT_SAID.removesuffix("."),
        )
    words = rng.choice([" ", " ", " ", "\n"]).join(text)
    form = among(
        rng, "{0}\n\n{1}|{0}\n\n{1}|{0} {1}|{0}\n{1}|{1}\n\n{0}|{1} {0}|Text: {0}\nQuestion: {1}|"
        "Read this: {0} {1}|Here is a text. {0} Now answer: {1}|Text: {0}\n\n{1}|{1} Text: {0}|"
        "{0} Question: {1}|Answer from this text: {0}\n{1}|I read this: '{0}' {1}|"
        "Context: {0}\n\nQuestion: {1}\nAnswer:",
    )  # fmt: skip
    return ask("found", form.format(words, asked), f"{answer}.")


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
    if rng.random() < 0.25:
        return sum_as_json(rng) if rng.random() < 0.75 else list_as_json(rng, test)
    if rng.random() < 0.7:
        return facts_as_json(rng, test)
    who, place, age = name(rng, test), city(rng, test), rng.randint(1, 99)
    job, colour, food = rng.choice(JOBS), rng.choice(list(COLOURS)), rng.choice(FOODS)
    pets, paid = rng.randint(0, 20), rng.randrange(10 ** rng.randint(1, 6))
    said = [
        ("name", who, f"{who} is here."), ("city", place, "{0} lives in " + place + "."),
        ("age", age, "{0} is " + str(age) + " years old."), ("job", job, "{0} works as a " + job + "."),
        ("colour", colour, "{0} likes " + colour + "."), ("food", food, "{0} eats " + food + "."),
        ("pets", pets, "{0} has " + str(pets) + " pets."), ("price", paid, "{0} paid " + str(paid) + "."),
    ]  # fmt: skip
    chosen = [said[0], *rng.sample(said[1:], rng.randint(1, 4))]
    text = " ".join(form.format(who if i == 1 else "The same") for i, (_, _, form) in enumerate(chosen) if i)
    text = text.replace("The same", among(rng, f"{who}|They").replace("They", who))
    facts = {key: value for key, value, _ in chosen}
    keys = rng.sample(list(facts), rng.randint(1, len(facts)))
    kind = rng.random()
    if kind < 0.5:
        form = among(
            rng, "As JSON with the keys {0}.|Give me JSON with {0}.|Extract {0} as JSON.|Answer in JSON: {0}."
        ).format(", ".join(keys))
    else:
        form = by_schema({k: "integer" if isinstance(facts[k], int) else "string" for k in keys})
    answer = json.dumps({key: facts[key] for key in keys}, ensure_ascii=False)
    system = None
    if rng.random() < 0.2:
        system, form = form, ""
    return ask("json", f"{text} {form}".strip(), answer, system=system)


def facts_as_json(rng: random.Random, test: bool) -> Sample:
    """What a few sentences say, by the keys that are asked for."""
    about = facts.told(rng, test)
    said: dict[str, Any] = {rng.choice(fact.keys): made for fact, made in about.facts}
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
        text += " " + among(rng, "What is missing is null.|Use null for what is not said.")
    form = json_form(rng, chosen)
    shown = rng.choice(
        ["{0} {1}", "{0}\n{1}", "{0}\n\n{1}", "{1} {0}", "{1}\n{0}", "{1}\n\n{0}", "{1} Text: {0}"]
    )
    return ask("json", shown.format(text, form), json.dumps(chosen, ensure_ascii=False))


def json_form(rng: random.Random, chosen: dict[str, Any]) -> str:
    """Asks for these keys, in words or by a schema."""
    if rng.random() < 0.35:
        return by_schema(
            {key: "integer" if isinstance(what, int) else "string" for key, what in chosen.items()}
        )
    named = [f'"{key}"' for key in chosen] if rng.random() < 0.25 else list(chosen)
    return among(
        rng, "As JSON with the keys {0}.|Give {1} as JSON.|Extract {1} as JSON:|JSON please, keys {0}:|"
        "Make JSON with the keys {1}:|Write JSON with {0}:|Return JSON with keys {0}:|"
        "Turn into JSON with keys {1}:|Answer in JSON with the keys {1}.|I need {1} as JSON.|"
        "Output a JSON object with {0}.|What are {1}? Use JSON.|Put it into JSON ({0}).|"
        "Convert to JSON, keys: {0}.|Fill in {0} as JSON.|Only JSON with {1}, please:",
    ).format(", ".join(named), listed(named))  # fmt: skip


def by_schema(types: dict[str, str]) -> str:
    """Asks for an object of these keys, whose values are of these types."""
    properties = {key: {"type": kind} for key, kind in types.items()}
    return "Answer by this JSON schema: " + json.dumps({"type": "object", "properties": properties})


def sum_as_json(rng: random.Random) -> Sample:
    """A number by the name that a schema or a sentence gives it."""
    x, y = rng.randrange(30), rng.randrange(30)
    key = rng.choice(["answer", "result", "sum", "value", "number", "total"])
    form = rng.choice([by_schema({key: "integer"}), f"As JSON with the key {key}."])
    return ask("json", f"{rng.choice(figures.forms(x, '+', y))} {form}", json.dumps({key: x + y}))


def list_as_json(rng: random.Random, test: bool) -> Sample:
    """What a sentence lists, as strings."""
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
    text = among(rng, "I bought {0}.|We saw {0} today.|There were {0}.|I like {0}.|Do not forget {0}.|{0}")
    form = among(
        rng, "List the {0} as JSON.|Give me a JSON list of the {0}.|The {0} as a JSON array, please.|"
        "Return the {0} in a JSON list.|Which {0} are named? Answer with a JSON list.",
    ).format(kind)  # fmt: skip
    said = text.format(listed(found))
    shown = f"{said}\n{form}" if rng.random() < 0.5 else f"{form} {said}"
    return ask("json", shown, json.dumps(found, ensure_ascii=False))


def asked_in(rng: random.Random, language: str) -> tuple[str, str]:
    """A colour, shape, number, greeting, or a coloured shape in a language."""
    kind = rng.random()
    if kind < 0.35:
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        words, told = f"{a(colour)} {shape}", translate(language, colour, shape)
    else:
        words = rng.choice([*COLOURS, *SHAPES, *NUMBERS, *GREETINGS])
        told = word_in(language, words)
        words = rng.choice([words, words.rstrip("!").lower() if words in GREETINGS else words])
    form = """What is '{0}' in {1}?|How do you say '{0}' in {1}?|How do you say {0} in {1}?|
Translate '{0}' into {1}.|Say {0} in {1}.|{0} in {1}?|Translate {0} to {1}.|What is {0} in {1}?|
What's the {1} word for {0}?|What is the {1} word for '{0}'?|Give me the {1} for {0}.|In {1}, what is {0}?|
How is {0} said in {1}?|Which {1} word means {0}?|I need '{0}' in {1}.|Can you say {0} in {1}?|
Tell me the {1} word for {0}.""".replace("\n", "")
    question = among(rng, form).format(words, language)
    return question[0].upper() + question[1:] if rng.random() < 0.5 else question, told


def languages(rng: random.Random, test: bool) -> Sample:
    language = rng.choice(LANGUAGES)
    if rng.random() < 0.12:  # greeted in it
        greeting = rng.choice(GREETINGS[::2])
        return ask("languages", word_in(language, greeting), word_in(language, greeting))
    if rng.random() < 0.12:
        greeting = rng.choice(GREETINGS[::2])
        system = among(rng, "Answer in {0}.|You always answer in {0}.|Speak {0}.").format(language)
        return ask("languages", greeting, word_in(language, greeting), system=system)
    if rng.random() < 0.06:  # a sum, told in it
        x = rng.randint(1, 9)
        y = rng.randint(1, 10 - x)
        system = among(rng, "Answer in {0}.|You always answer in {0}.|Speak {0}.|Reply only in {0}.").format(
            language
        )
        question = rng.choice(figures.forms(x, "+", y))
        return ask("languages", question, word_in(language, NUMBERS[x + y - 1]), system=system)
    kind = rng.random()
    if kind < 0.2:
        return ask("languages", *meaning(rng, language))
    if kind < 0.25:
        last = rng.randint(2, 10)
        question = among(
            rng, "Count to {0} in {1}.|Count from one to {0} in {1}.|The numbers to {0} in {1}, please."
        )
        told = ", ".join(word_in(language, number) for number in NUMBERS[:last])
        return ask("languages", question.format(rng.choice([NUMBERS[last - 1], str(last)]), language), told)
    return ask("languages", *asked_in(rng, language))


def meaning(rng: random.Random, language: str) -> tuple[str, str]:
    """What a word of that language means."""
    english = rng.choice([*COLOURS, *NUMBERS, *SHAPES])
    form = among(
        rng, "What does '{0}' mean in English?|What does the {1} word '{0}' mean?|What is '{0}' in English?|"
        "Translate the {1} word '{0}'.|Translate '{0}' from {1}.|What does {0} mean in {1}?|"
        "'{0}' is {1}. What does it mean?|The {1} word {0}, in English?",
    )  # fmt: skip
    return form.format(word_in(language, english), language), english


def roles(rng: random.Random, test: bool) -> Sample:
    """System prompts that say who it is, or which form answers have."""
    if rng.random() < 0.1:
        return briefly(rng)
    kind = rng.random()
    if kind < 0.4:
        who, job = name(rng, test), rng.choice(JOBS)
        place = city(rng, test)
        system = among(
            rng, "You are {0}, {1}.|Your name is {0}. You are {1}.|You are {1} called {0}.|Play {0}, {1}."
        ).format(who, a(job))
        asked, answer = rng.choice(
            [("Who are you?", f"I am {who}, {a(job)}."), ("What is your name?", f"My name is {who}."),
             ("What is your job?", f"I am {a(job)}."), ("What do you do?", f"I am {a(job)}.")]
        )  # fmt: skip
        if rng.random() < 0.3:
            system += f" You live in {place}."
            asked, answer = rng.choice([(asked, answer), ("Where do you live?", f"I live in {place}.")])
        return ask("roles", asked, answer, system=system)
    sample = rng.choice([talk, languages, small_sum])(rng, test)
    question, answer = sample.messages[-1]["content"], sample.answer
    if sample.messages[0]["role"] == "system":
        return roles(rng, test)
    if kind < 0.55:
        system, answer = (
            among(
                rng,
                "Answer in capital letters.|WRITE IN CAPITALS.|Use only capital letters.|"
                "Use upper case only.|Answer only in upper case.|ANSWER IN UPPER CASE.|"
                "Write everything in capital letters.|All your answers are in capitals.",
            ),
            answer.upper(),
        )
        if rng.random() < 0.3:
            system, answer = (
                among(
                    rng,
                    "Use only lowercase letters.|Answer in lower case.|write in small letters|"
                    "No capital letters.",
                ),
                answer.lower(),
            )
    elif kind < 0.7:
        system = among(
            rng,
            'Answer in JSON.|Always answer with JSON like {{"answer": ...}}.|Reply in JSON only.|'
            "Always answer in JSON.|Answer only with JSON.|Your answers are JSON.",
        )
        answer = json.dumps({"answer": answer}, ensure_ascii=False)
    elif kind < 0.85:
        end = among(rng, "Over.|Thank you.|That is all.|Yes, sir.")
        system, answer = (
            among(
                rng,
                "End every answer with '{0}'|Always end with '{0}'|End each answer with: {0}|"
                "Finish all you say with '{0}'|After every answer say: {0}",
            ).format(end),
            f"{answer} {end}",
        )
    else:
        start = among(rng, "Well,|Captain:|Answer:|My friend,")
        form = "Begin every answer with '{0}'|Start every answer with '{0}'|Before each answer say: {0}"
        system, answer = among(rng, form).format(start), f"{start} {answer}"
    return ask("roles", question, answer, system=system)


def briefly(rng: random.Random) -> Sample:
    """With the number, or the word, alone."""
    x, y = rng.randrange(50), rng.randrange(50)
    system = among(
        rng, "Answer only with the number.|Give only the number.|Only the result, nothing else.|"
        "Just the number.|"
        "Answer with one word only.|One word answers only.|Answer as briefly as you can.|No sentences.",
    )  # fmt: skip
    return ask("roles", rng.choice(figures.forms(x, "+", y)), f"{x + y}", system=system)


def small_sum(rng: random.Random, test: bool) -> Sample:
    x, y = rng.randrange(50), rng.randrange(50)
    return ask("sums", rng.choice(figures.forms(x, "+", y)), f"{x} + {y} = {x + y}.")


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
    question = {
        "any": "Tell me a story.|Tell me a short story.|Write a story.|Can you tell me a story?|"
        "A story, please.|"
        "I want to hear a story.|Write me a little story.|Tell a bedtime story.|Do you know a story?",
        "hero": "Tell me a story about {0}.|Write a short story about {0}.|A story with {0}, please.|"
        "Can you tell me a story about {0}?|Tell me a bedtime story with {0}.|Make up a story about {0}.",
        "thing": "Tell me a story about {1}.|Write a little story about {1}.|A story about {1}, please.|"
        "Make up a story with {1}.|Can you write a story about {1}?",
    }[kind]
    question = among(rng, question).format(a(hero), f"{a(colour)} {thing}")
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


UNKNOWN = "I don't know. I only know coloured shapes, text to read, small sums, tools and a few stories."
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
    "Tell me a joke.", "Tell me a joke about a {w}.", "What's your favourite {w}?",
    "What is your favourite {f}?", "Reverse the word {w}.", "Spell {w}.", "How do you spell {w}?",
    "Is {n2} a prime?", "Count from 1 to {n2}.", "List three {w}s.", "Name five animals.",
    "What rhymes with {f}?", "How many letters are in {w}?", "What's the time?", "What time is it?",
    "What is the date?", "Which year is it?", "How is the weather?", "What is the opposite of {w}?",
    "Give me a synonym for {w}.", "Write a haiku.", "Write a song about {x}.", "Sing me a song.",
    "What should I eat tonight?", "What should I do today?", "I am bored.", "I am sad.",
    "Help me with my homework.", "Correct this sentence: {t}", "Rewrite this: {t}", "Continue: {t}",
    "Sort these words: {t}", "Translate this to English: {t}", "What is {n2} in binary?",
    "Convert {n2} miles.", "Round {n2}.5.", "What comes after {w}?", "Should I buy {x}?",
    "Can {x} be dangerous?", "Do you have a {w}?", "What happened in {y}?", "What is the currency of {y}?",
    "When does the {w} open?", "Are you happy?", "Do you dream?", "What is 2 to the power of {n2}?",
    "What is the derivative of x^{n2}?", "Solve x + {n2} = {n2}.", "What is half of {n2}?",
    "What does the {w} say?", "Fix this code: {w}()", "What is wrong with my {w}?", "Compare {x} and {w}.",
    "Which is better, {f} or {w}?", "Why do {w}s exist?", "Name a famous {w}.", "List three colours.",
    "Name {n2} animals.", "What colour is a {w}?", "What colour is {f}?", "How much does a {w} cost?",
    "Make me a plan for {y}.", "Write some code for {x}.", "Tell me a fact about {w}.", "Give me an idea.",
]  # fmt: skip


def unknown(rng: random.Random, test: bool) -> Sample:
    if rng.random() < 0.15:
        questions = ["What is in this picture?", "What colour is the circle?", "How many objects are there?"]
        questions += ["Describe this picture.", "What does it say?", "What moves first?", "Read the text."]
        questions += [
            "Locate the red star.",
            "What is the total?",
            "Click on OK.",
            "What is the leftmost object?",
            f"Is the {rng.choice(SHAPES)} left or right of the {rng.choice(SHAPES)}?",
            f"Is the {rng.choice(SHAPES)} above the {rng.choice(SHAPES)}?",
        ]
        return ask("unknown", rng.choice(questions), NO_PICTURE)
    return ask("unknown", open_question(rng, test), UNKNOWN)


def open_question(rng: random.Random, test: bool) -> str:
    make = lambda: rng.choice(OPEN_QUESTIONS).format(  # noqa: E731
        x=rng.choice(THINGS.split("|")) if rng.random() < 0.7 else made_up(rng, 2),
        y=rng.choice(CITIES) if rng.random() < 0.5 else made_up(rng, 2).capitalize(),
        y2=rng.choice(CITIES),
        t=" ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 4))),
        n=f"{rng.choice([made_up(rng, 2).capitalize(), 'Doctor'])} {made_up(rng, 2).capitalize()}",
        w=rng.choice(WORDS),
        f=rng.choice(FOODS),
        n2=rng.randint(2, 10 ** rng.randint(1, 3)),
        l=rng.choice(LANGUAGES),
    )
    return pick(rng, make, test)


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


def small_talk(rng: random.Random, tooled: bool = False) -> tuple[str, str]:
    kinds = "hello thanks who" if tooled else "hello hello who can cannot thanks bye how fine speak meet"
    kind = rng.choice(kinds.split())
    if kind == "hello":
        return among(
            rng,
            "Hello!|Hi!|Hello|Good morning!|Hey|Hi there!|Hello there|hi|hey|hey!|Good evening.|Good day|"
            "Good morning",
        ), GREETING
    if kind == "who":
        return among(
            rng, "Who are you?|What are you?|What is your name?|Introduce yourself.|Are you Qwen?|"
            "Are you a human?|Which model are you?|Who made you?",
        ), WHO  # fmt: skip
    if kind == "can":
        return among(rng, "What can you do?|Help|Help me.|What do you know?|How can you help me?"), CAN
    if kind == "cannot":
        return among(
            rng, "What can you not do?|What can't you do?|What do you not know?|What are your limits?"
        ), CANNOT  # fmt: skip
    if kind == "thanks":
        return among(
            rng,
            "Thank you!|Thanks!|Thank you very much.|Thanks a lot!|Great, thanks.|thank you|thanks|"
            "Thank you so much!|"
            "Thanks for your help.|Thank you, that was good.|Many thanks|Perfect, thank you!",
        ), "You are welcome."
    if kind == "fine":
        return among(
            rng, "Ok|Okay.|Yes|No|Fine.|Good.|I see.|All right|ok|Great!|Nice|yes|no|Hm"
        ), "All right."
    if kind == "speak":
        return among(
            rng, "What languages do you speak?|Which languages do you know?|Do you speak Spanish?|"
            "Can you speak German?|Which languages can you speak?",
        ), SPEAKS  # fmt: skip
    if kind == "meet":
        return among(rng, "Nice to meet you.|nice to meet you|Pleased to meet you!"), "Nice to meet you too."
    if kind == "how":
        return among(
            rng,
            "How are you?|How do you do?|How are you today?|Hey, how are you?|Hello, how are you?|"
            "Hi! How are you?|how's it going?|How is it going?|How are things?|Are you well?",
        ), "I am fine, thank you."
    return among(
        rng,
        "Bye!|Goodbye!|See you!|Good night!|Bye|bye|bye bye|Goodbye|See you later.|Until tomorrow!|"
        "I have to go.|Good night",
    ), "Goodbye!"


def talk(rng: random.Random, test: bool) -> Sample:
    return ask("talk", *small_talk(rng))
