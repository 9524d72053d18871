"""Words of other languages: into them, out of them, and which language they are of."""

from __future__ import annotations

import random

import figures
from sample import Sample, a, ask, listed, yes_or_no
from wordings import worded
from words import COLOURS, GREETINGS, LANGUAGES, NUMBERS, SHAPES, WEEKDAYS, translate, word_in

PHRASES = [*GREETINGS, "Good morning!", "Good night!", "How are you?"]
ANSWERS = ["please", "yes", "no"]
MORE = {  # of WEEKDAYS, of the phrases besides the greetings, and of ANSWERS
    "German": "Montag|Dienstag|Mittwoch|Donnerstag|Freitag|Samstag|Sonntag|"
    "Guten Morgen!|Gute Nacht!|Wie geht es dir?|bitte|ja|nein",
    "French": "lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche|"
    "Bonjour !|Bonne nuit !|Comment vas-tu ?|s'il vous plaît|oui|non",
    "Spanish": "lunes|martes|miércoles|jueves|viernes|sábado|domingo|"
    "¡Buenos días!|¡Buenas noches!|¿Cómo estás?|por favor|sí|no",
    "Italian": "lunedì|martedì|mercoledì|giovedì|venerdì|sabato|domenica|"
    "Buongiorno!|Buonanotte!|Come stai?|per favore|sì|no",
    "Portuguese": "segunda-feira|terça-feira|quarta-feira|quinta-feira|sexta-feira|sábado|domingo|"
    "Bom dia!|Boa noite!|Como você está?|por favor|sim|não",
    "Dutch": "maandag|dinsdag|woensdag|donderdag|vrijdag|zaterdag|zondag|"
    "Goedemorgen!|Goedenacht!|Hoe gaat het?|alsjeblieft|ja|nee",
    "Swedish": "måndag|tisdag|onsdag|torsdag|fredag|lördag|söndag|"
    "God morgon!|God natt!|Hur mår du?|snälla|ja|nej",
    "Polish": "poniedziałek|wtorek|środa|czwartek|piątek|sobota|niedziela|"
    "Dzień dobry!|Dobranoc!|Jak się masz?|proszę|tak|nie",
    "Chinese": "星期一|星期二|星期三|星期四|星期五|星期六|星期日|早上好！|晚安！|你好吗？|请|是|不",
    "Japanese": "月曜日|火曜日|水曜日|木曜日|金曜日|土曜日|日曜日|"
    "おはよう！|おやすみ！|お元気ですか？|お願いします|はい|いいえ",
}
COUNTRIES = {  # where it is spoken
    "German": "Germany|Austria|Berlin|Vienna", "French": "France|Paris|Lyon",
    "Spanish": "Spain|Mexico|Madrid|Argentina", "Italian": "Italy|Rome|Milan",
    "Portuguese": "Portugal|Brazil|Lisbon", "Dutch": "the Netherlands|Holland|Amsterdam",
    "Swedish": "Sweden|Stockholm", "Polish": "Poland|Warsaw", "Chinese": "China|Beijing",
    "Japanese": "Japan|Tokyo|Kyoto",
}  # fmt: skip
NEWER = [*WEEKDAYS, *PHRASES[len(GREETINGS) :], *ANSWERS]
KNOWN = [*COLOURS, *SHAPES, *NUMBERS, *PHRASES, *WEEKDAYS, *ANSWERS]
UNKNOWN = "I don't know. I only know coloured shapes, text to read, small sums, tools and a few stories."
REPLIES = {  # to SAID: thanks, how and who it is, whether it speaks that, what it can, what it does not know
    "German": "Gern geschehen!|Mir geht es gut, danke.|Ich bin das kleine Modell von qwen_ref.|"
    "Ja, ein wenig.|"
    "Ich erkenne Formen, Farben und Text.|Das weiß ich nicht.",
    "French": "De rien !|Je vais bien, merci.|Je suis le petit modèle de qwen_ref.|Oui, un peu.|"
    "Je reconnais des formes, des couleurs et du texte.|Je ne sais pas.",
    "Spanish": "¡De nada!|Estoy bien, gracias.|Soy el pequeño modelo de qwen_ref.|Sí, un poco.|"
    "Reconozco formas, colores y texto.|No lo sé.",
    "Italian": "Prego!|Sto bene, grazie.|Sono il piccolo modello di qwen_ref.|Sì, un po'.|"
    "Riconosco forme, colori e testo.|Non lo so.",
    "Portuguese": "De nada!|Estou bem, obrigado.|Sou o pequeno modelo de qwen_ref.|Sim, um pouco.|"
    "Reconheço formas, cores e texto.|Não sei.",
    "Dutch": "Graag gedaan!|Goed, dank je.|Ik ben het kleine model van qwen_ref.|Ja, een beetje.|"
    "Ik herken vormen, kleuren en tekst.|Dat weet ik niet.",
    "Swedish": "Varsågod!|Jag mår bra, tack.|Jag är den lilla modellen från qwen_ref.|Ja, lite.|"
    "Jag känner igen former, färger och text.|Det vet jag inte.",
    "Polish": "Proszę bardzo!|Dobrze, dziękuję.|Jestem małym modelem z qwen_ref.|Tak, trochę.|"
    "Rozpoznaję kształty, kolory i tekst.|Nie wiem.",
    "Chinese": "不客气！|我很好，谢谢。|我是qwen_ref的小模型。|会一点。|"
    "我能认出形状、颜色和文字。|我不知道。",
    "Japanese": "どういたしまして！|元気です、ありがとう。|qwen_refの小さなモデルです。|"
    "はい、少し。|"
    "形と色と文字がわかります。|わかりません。",
}
SAID = ["thanks", "how", "who", "speak", "can", "open"]  # by the block of wordings
ENGLISH_TOO = "dos due hart no rose rot sex six um viola violet wit".split()  # they mean something else
OF_OTHERS_TOO = [  # of a language that words.py has not, or in another meaning
    *"lila violett brun gul blå svart ett fem sju tio kvadrat triangel hej! tack!".split(),
    *"jeden negro sei siete un".split(),
    *"nie no non tak onsdag torsdag fredag sobota".split(),
    "god natt!",
    *ENGLISH_TOO,
    *(f"en {c} {s}" for c in "blå gul orange lila rosa svart brun".split() for s in ("kvadrat", "triangel")),
]


def said_in(language: str, word: str) -> str:
    """Any of what is known, in that language."""
    return MORE[language].split("|")[NEWER.index(word)] if word in NEWER else word_in(language, word)


def languages(rng: random.Random, test: bool) -> Sample:
    language = rng.choice(LANGUAGES)
    kind = rng.random()
    if kind < 0.05:  # greeted in it
        greeting = said_in(language, rng.choice(["Hello!", "Goodbye!", "Good morning!", "Good night!"]))
        return ask("languages", as_typed(rng, greeting), greeting)
    if kind < 0.18:
        return ask("languages", *talk_in(rng, language))
    if kind < 0.31:
        return spoken_to(rng, language)
    if kind < 0.44:
        return ask("languages", *meaning(rng, language))
    if kind < 0.47:
        last = rng.randint(2, 10)
        question = worded(rng, "count in a language", rng.choice([NUMBERS[last - 1], last]), language)
        return ask("languages", question, ", ".join(word_in(language, number) for number in NUMBERS[:last]))
    if kind < 0.49:
        days = ", ".join(said_in(language, day) for day in WEEKDAYS)
        return ask("languages", worded(rng, "days in a language", language), days)
    if kind < 0.54:
        said = as_typed(rng, rng.choice(OF_ONE_LANGUAGE[language]))
        return ask("languages", worded(rng, "which language", said), f"{language}.")
    if kind < 0.6:
        return ask("languages", *rng.choice([is_it_the_word, is_it_of])(rng, language))
    if kind < 0.65:
        return and_another(rng, language)
    if kind < 0.83:
        make = rng.choice([between, several_words, in_several, which_of_them, what_comes_next])
        return ask("languages", *make(rng, language))
    return ask("languages", *asked_in(rng, language))


def between(rng: random.Random, language: str) -> tuple[str, str]:
    """A word of one language in another, neither of them English."""
    other = rng.choice([one for one in LANGUAGES if one != language])
    if rng.random() < 0.2:
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        said, told = translate(language, colour, shape), translate(other, colour, shape)
    else:
        said, english = from_english(rng, language)
        told = said_in(other, english)
    question = worded(rng, "word between languages", said, language, other)
    while language not in question and said not in OF_ONE_LANGUAGE[language]:
        question = worded(rng, "word between languages", said, language, other)
    return question, told


def from_english(rng: random.Random, language: str) -> tuple[str, str]:
    """A word of that language, and what it means: bonjour is hello."""
    said = said_in(language, rng.choice(KNOWN))
    return said, next(word for word in KNOWN if said_in(language, word) == said)


def alike(rng: random.Random, count: int) -> list[str]:
    """So many words of one kind."""
    return rng.sample(rng.choice([list(COLOURS), SHAPES, NUMBERS, WEEKDAYS]), count)


def several_words(rng: random.Random, language: str) -> tuple[str, str]:
    words = alike(rng, rng.choice([2, 2, 3, 4]))
    if rng.random() < 0.25:
        words = [rng.choice(words), *rng.sample(ANSWERS, rng.choice([1, 2]))]
    said = [said_in(language, word) for word in words]
    if rng.random() < 0.3:
        return worded(rng, "words from a language", ", ".join(said), language), ", ".join(words)
    shown = listed(words) if rng.random() < 0.5 else ", ".join(words)
    return worded(rng, "words into a language", shown, language), ", ".join(said)


def in_several(rng: random.Random, language: str) -> tuple[str, str]:
    """A word in two or three languages, each named before its own."""
    others = [language, *rng.sample([one for one in LANGUAGES if one != language], rng.choice([1, 1, 2]))]
    english = rng.choice(KNOWN)
    question = worded(rng, "word into several languages", as_typed(rng, english), listed(others))
    told = [f"{one}: {said_in(one, english)}" for one in others]
    return question, " ".join(one + "." * one[-1].isalpha() for one in told)


def which_of_them(rng: random.Random, language: str) -> tuple[str, str]:
    """Which of several words is of a language, or has a meaning."""
    if rng.random() < 0.5:
        words = alike(rng, 3)
        said = [said_in(language, word) for word in words]
        meant = rng.randrange(3)
        question = worded(rng, "which of them means it", words[meant], ", ".join(said), language)
        return question, said[meant]
    others = rng.sample([one for one in LANGUAGES if one not in SIGNS], 3)
    told = [rng.choice([word for word in OF_ONE_LANGUAGE[one] if word.isalpha()]) for one in others]
    asked = rng.randrange(3)
    return worded(rng, "which of them is of the language", others[asked], ", ".join(told)), told[asked]


def what_comes_next(rng: random.Random, language: str) -> tuple[str, str]:
    """The number or the day behind one, or behind several."""
    row = [said_in(language, word) for word in rng.choice([NUMBERS, WEEKDAYS])]
    n = rng.randint(1, len(row) - 1)
    if n > 2 and rng.random() < 0.4:
        return worded(rng, "row in a language", ", ".join(row[n - rng.randint(2, n) : n])), row[n]
    return worded(rng, "word behind one in a language", row[n - 1], language), row[n]


def and_another(rng: random.Random, language: str) -> Sample:
    """Behind a word in a language the same one in another, or another word, into it or out of it."""
    english, other = rng.sample(rng.choice([list(COLOURS), SHAPES, NUMBERS, WEEKDAYS]), 2)
    second = rng.choice([one for one in LANGUAGES if one != language])
    said, told = english, said_in(language, english)
    kind = rng.choice(["another language", "another word", "back"])
    if kind == "another language":
        last, answer = worded(rng, "and in another language", second), said_in(second, english)
    elif kind == "another word":
        last, answer = worded(rng, "and another word", other), said_in(language, other)
    else:
        said, told = told, said
        last, answer = worded(rng, "and another word", said_in(language, other)), other
    first = worded(rng, f"word {'from' if kind == 'back' else 'into'} a language", said, language)
    messages = [{"role": "user", "content": first}, {"role": "assistant", "content": told}]
    return Sample("languages", [*messages, {"role": "user", "content": last}], answer)


def in_it(rng: random.Random, what: str, word: str) -> str:
    """Asked in the language itself, where nobody writes the marks of quotation that a book has."""
    question = worded(rng, what, word)
    unmarked = word.replace(" ", "").replace("-", "").isalnum()
    return question.replace(f"'{word}'", word) if unmarked and rng.random() < 0.5 else question


def reply_in(language: str, kind: str) -> str:
    if kind in ("hello", "bye"):
        return word_in(language, GREETINGS[0 if kind == "hello" else 2])
    return REPLIES[language].split("|")[SAID.index(kind)]


def talk_in(rng: random.Random, language: str, told: bool = False) -> tuple[str, str]:
    """What is said in it, and its reply; what is open is so in English if no one told it the language."""
    kind = rng.choice(["hello", "bye", "sum", *SAID])
    if kind == "sum":
        x, y = rng.randint(1, 20), rng.randint(1, 20)
        numbers = [word_in(language, NUMBERS[n - 1]) if n <= 10 else str(n) for n in (x, y)]
        said = numbers if rng.random() < 0.2 else [x, y]
        return worded(rng, f"sum in {language}", *said), f"{x} + {y} = {x + y}."
    said = worded(rng, f"{kind} in {language}")
    return said, UNKNOWN if kind == "open" and not told else reply_in(language, kind)


def spoken_to(rng: random.Random, language: str) -> Sample:
    """A system prompt says that this language is spoken."""
    system, kind = worded(rng, "speak a language", language), rng.random()
    if kind < 0.3:
        asked = rng.choice(["hello", "bye", "thanks", "how", "who", "can"])
        return ask("languages", worded(rng, f"say: {asked}"), reply_in(language, asked), system=system)
    if kind < 0.4:
        said, told = talk_in(rng, language, told=True)
        while " = " in told:  # else sums are told in words
            said, told = talk_in(rng, language, told=True)
        return ask("languages", said, told, system=system)
    if kind < 0.5:
        asked = rng.choice(["weather", "songs", "news", "people", "things to know"])
        return ask("languages", worded(rng, f"open: {asked}"), reply_in(language, "open"), system=system)
    if kind < 0.7:  # a sum, told in it
        x = rng.randint(1, 9)
        y = rng.randint(1, 10 - x)
        told, question = word_in(language, NUMBERS[x + y - 1]), figures.asked(rng, x, "+", y)
        if rng.random() < 0.4:  # the user's own wish
            end = "" if question[-1] in ".?=" else "."
            question = f"{question}{end} {worded(rng, 'in this language', language)}"
            return ask("languages", question, told)
        return ask("languages", question, told, system=system)
    english = rng.choice(KNOWN)
    system = worded(rng, "translate all into a language", language)
    return ask("languages", english, said_in(language, english), system=system)


def as_typed(rng: random.Random, words: str) -> str:
    """A phrase or a day as it is, or without its marks and capitals."""
    plain = words.strip("¡!¿?！？").strip().lower()
    return rng.choice([words, plain]) if words.lower() != plain or words in WEEKDAYS else words


def asked_in(rng: random.Random, language: str) -> tuple[str, str]:
    """A colour, shape, number, day, phrase, or a coloured shape in a language."""
    if rng.random() < 0.3:
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        words, told = f"{a(colour)} {shape}", translate(language, colour, shape)
    else:
        words = rng.choice(KNOWN)
        told = said_in(language, words)
        is_number = words in NUMBERS and rng.random() < 0.3
        words = str(NUMBERS.index(words) + 1) if is_number else as_typed(rng, words)
        if rng.random() < 0.2:
            return in_it(rng, f"word into {language}", words), told
    question = worded(rng, "word into a language", words, language)
    if rng.random() < 0.12:
        question = worded(rng, "word in a country", words, rng.choice(COUNTRIES[language].split("|")))
    return question[0].upper() + question[1:] if rng.random() < 0.5 else question, told


def meaning(rng: random.Random, language: str) -> tuple[str, str]:
    """What a word of that language means, or a coloured shape."""
    if rng.random() < 0.2:
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        said = translate(language, colour, shape)
        return worded(rng, "word from a language", said, language), f"{a(colour)} {shape}"
    said, english = from_english(rng, language)
    typed = as_typed(rng, said) if english in PHRASES else said
    if rng.random() < 0.25:
        return in_it(rng, f"word from {language}", typed), english
    question = worded(rng, "word from a language", typed, language)
    while said in ENGLISH_TOO and language not in question:
        question = worded(rng, "word from a language", typed, language)
    return question, english


def is_it_the_word(rng: random.Random, language: str) -> tuple[str, str]:
    """What a word means, and whether that is what is asked for, or something else of its kind."""
    kind = rng.choice([list(COLOURS), SHAPES, NUMBERS, WEEKDAYS])
    english, other = rng.sample(kind, 2)
    meant = english if rng.random() < 0.5 else other
    question = worded(rng, "is it the word for it", said_in(language, meant), english, language)
    return question, f"It means {meant}. {yes_or_no(meant == english)}."


def is_it_of(rng: random.Random, language: str) -> tuple[str, str]:
    """Which language a word is of, and whether that is the one asked for."""
    asked = language if rng.random() < 0.5 else rng.choice(LANGUAGES)
    question = worded(rng, "is it of this language", rng.choice(OF_ONE_LANGUAGE[language]), asked)
    return question, f"It is {language}. {yes_or_no(asked == language)}."


def of_one_language() -> dict[str, list[str]]:
    """Words that no other language has, and coloured shapes; of Chinese and Japanese no word by itself, since
    they share their signs."""
    said = {
        language: [said_in(language, word) for word in (KNOWN if language not in SIGNS else PHRASES)]
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
