"""Words of other languages: into them, out of them, and which language they are of."""

from __future__ import annotations

import random

import figures
from sample import Sample, a, ask, yes_or_no
from wordings import worded
from words import COLOURS, GREETINGS, LANGUAGES, NUMBERS, SHAPES, translate, word_in

KNOWN = [*COLOURS, *SHAPES, *NUMBERS, *GREETINGS]
ENGLISH_TOO = "dos due hart rose rot sex six um viola violet wit".split()  # where they mean something else
OF_OTHERS_TOO = [  # of a language that words.py has not, or in another meaning
    *"lila violett brun gul blå svart ett fem sju tio kvadrat triangel hej! tack!".split(),
    *"jeden negro sei siete un".split(),
    *ENGLISH_TOO,
    *(f"en {c} {s}" for c in "blå gul orange lila rosa svart brun".split() for s in ("kvadrat", "triangel")),
]


def languages(rng: random.Random, test: bool) -> Sample:
    language = rng.choice(LANGUAGES)
    kind = rng.random()
    if kind < 0.1:  # greeted in it
        greeting = rng.choice(GREETINGS[::2])
        return ask("languages", word_in(language, greeting), word_in(language, greeting))
    if kind < 0.25:
        return spoken_to(rng, language)
    if kind < 0.4:
        return ask("languages", *meaning(rng, language))
    if kind < 0.45:
        last = rng.randint(2, 10)
        question = worded(rng, "count in a language", rng.choice([NUMBERS[last - 1], last]), language)
        return ask("languages", question, ", ".join(word_in(language, number) for number in NUMBERS[:last]))
    if kind < 0.53:
        said = rng.choice(OF_ONE_LANGUAGE[language])
        return ask("languages", worded(rng, "which language", said), f"{language}.")
    if kind < 0.6:
        return ask("languages", *is_it_the_word(rng, language))
    return ask("languages", *asked_in(rng, language))


def spoken_to(rng: random.Random, language: str) -> Sample:
    """A system prompt says that this language is spoken."""
    system, kind = worded(rng, "speak a language", language), rng.random()
    if kind < 0.45:
        greeting = rng.choice(GREETINGS[::2])
        return ask("languages", greeting, word_in(language, greeting), system=system)
    if kind < 0.65:  # a sum, told in it
        x = rng.randint(1, 9)
        y = rng.randint(1, 10 - x)
        told = word_in(language, NUMBERS[x + y - 1])
        return ask("languages", figures.asked(rng, x, "+", y), told, system=system)
    english = rng.choice(KNOWN)
    system = worded(rng, "translate all into a language", language)
    return ask("languages", english, word_in(language, english), system=system)


def asked_in(rng: random.Random, language: str) -> tuple[str, str]:
    """A colour, shape, number, greeting, or a coloured shape in a language."""
    kind = rng.random()
    if kind < 0.35:
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        words, told = f"{a(colour)} {shape}", translate(language, colour, shape)
    else:
        words = rng.choice(KNOWN)
        told = word_in(language, words)
        words = rng.choice([words, words.rstrip("!").lower() if words in GREETINGS else words])
    question = worded(rng, "word into a language", words, language)
    return question[0].upper() + question[1:] if rng.random() < 0.5 else question, told


def meaning(rng: random.Random, language: str) -> tuple[str, str]:
    """What a word of that language means."""
    english = rng.choice(KNOWN)
    said = word_in(language, english)
    question = worded(rng, "word from a language", said, language)
    while said in ENGLISH_TOO and language not in question:
        question = worded(rng, "word from a language", said, language)
    return question, english


def is_it_the_word(rng: random.Random, language: str) -> tuple[str, str]:
    """What a word means, and whether that is what is asked for, or something else of its kind."""
    kind = rng.choice([list(COLOURS), SHAPES, NUMBERS])
    english, other = rng.sample(kind, 2)
    meant = english if rng.random() < 0.5 else other
    question = worded(rng, "is it the word for it", word_in(language, meant), english, language)
    return question, f"It means {meant}. {yes_or_no(meant == english)}."


def of_one_language() -> dict[str, list[str]]:
    """Words that no other language has, and coloured shapes; of Chinese and Japanese no word by itself, since
    they share their signs."""
    said = {
        language: [word_in(language, word) for word in (KNOWN if language not in SIGNS else GREETINGS)]
        + [translate(language, colour, shape) for colour in COLOURS for shape in SHAPES]
        for language in LANGUAGES
    }
    of_all = [word.lower() for words in said.values() for word in {*words}] + OF_OTHERS_TOO
    return {
        language: [word for word in words if of_all.count(word.lower()) == 1 and word not in KNOWN]
        for language, words in said.items()
    }


SIGNS = ["Chinese", "Japanese"]
OF_ONE_LANGUAGE = of_one_language()
