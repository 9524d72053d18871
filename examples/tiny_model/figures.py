"""Sums: small ones at once, larger ones column by column, and those that are too large."""

from __future__ import annotations

import random

from sample import Sample, among, ask, listed, places
from words import ALL_WORDS, COLOURS, FIRST_NAMES, SHAPES, pick

TOO_MUCH = (
    "I don't know. I can add and subtract whole numbers of up to four digits and multiply those of up to two."
)
ADD, SUBTRACT, MULTIPLY = "+", "-", "*"


def add_aloud(x: int, y: int) -> str:
    """Column by column, from the right, as at school."""
    thoughts, carry = [], 0
    while x or y or carry:
        parts = [x % 10, y % 10] + [1] * carry
        if not (x or y):
            thoughts.append("1 is left.")
            break
        total = sum(parts)
        carry = total // 10
        thoughts.append(
            f"{' + '.join(map(str, parts))} = {total}: write {total % 10}{', carry 1' if carry else ''}."
        )
        x, y = x // 10, y // 10
    return "\n".join(thoughts)


def subtract_aloud(x: int, y: int) -> str:
    thoughts, borrow = [], 0
    while x:
        top, bottom = x % 10 - borrow, y % 10
        borrow = int(top < bottom)
        top += 10 * borrow
        thoughts.append(f"{top} - {bottom} = {top - bottom}{', borrow 1' if borrow else ''}.")
        x, y = x // 10, y // 10
    return "\n".join(thoughts)


def multiply_aloud(x: int, y: int) -> str:
    """By each digit of y, each product digit by digit, and the two added."""
    if not x or not y:
        return "Nothing times something is 0."
    lines, parts = [], []
    for place, digit in enumerate(reversed(str(y))):
        of_x = [10**n * int(d) for n, d in enumerate(reversed(str(x))) if d != "0"]
        by = int(digit) * 10**place
        if not by:
            continue
        products = [part * by for part in of_x]
        lines += [f"{part} * {by} = {product}." for part, product in zip(of_x, products, strict=True)]
        if len(products) > 1:
            lines.append(f"{products[0]} + {products[1]} = {sum(products)}.")
        parts.append(sum(products))
    if len(parts) > 1:
        lines += [f"{parts[0]} + {parts[1]}:", add_aloud(*parts)]
    return "\n".join(lines)


def aloud(x: int, sign: str, y: int) -> str:
    if sign == ADD:
        return add_aloud(x, y)
    if sign == MULTIPLY:
        return multiply_aloud(x, y)
    if x < y:
        return f"{y} is more, so it is below 0.\n{subtract_aloud(y, x)}"
    return subtract_aloud(x, y)


RESULT = {ADD: int.__add__, SUBTRACT: int.__sub__, MULTIPLY: int.__mul__}
WORD = {ADD: "plus", SUBTRACT: "minus", MULTIPLY: "times"}
OPENINGS = [  # of a question, and its end
    ("Evaluate", "."), ("Could you compute", " for me?"), ("What do you get for", "?"), ("Give me", "."),
    ("Find", "."), ("Do the sum", "."), ("Find out how much", " is."), ("Next one:", ""),
    ("Quick question:", "?"), ("My homework is", "."), ("Let us try", "."), ("Say what", " makes."),
]  # fmt: skip


def is_small(x: int, sign: str, y: int) -> bool:
    """Said at once, without thinking."""
    return max(x, y) < (10 if sign == MULTIPLY else 100)


def forms(x: int, sign: str, y: int) -> list[str]:
    by = {
        ADD: [f"Add {x} and {y}.", f"What is the sum of {x} and {y}?", f"Add {y} to {x}."],
        SUBTRACT: [
            f"Subtract {y} from {x}.",
            f"Take {y} from {x}.",
            f"What is the difference of {x} and {y}?",
            f"{x} take away {y}",
            f"How much is left of {x} without {y}?",
        ],
        MULTIPLY: [f"Multiply {x} by {y}.", f"What is the product of {x} and {y}?", f"Multiply {x} and {y}."],
    }
    signs = [sign, "×", "x"] if sign == MULTIPLY else [sign]
    written = [
        form.format(x, s, y)
        for s in signs
        for form in (
            "What is {} {} {}?", "{}{}{}", "{} {} {} = ?", "Calculate {} {} {}.", "{} {} {}", "{} {} {} =",
            "{}{}{}=", "{} {} {}?", "Compute {} {} {}.", "Can you calculate {} {} {}?", "Solve {} {} {}.",
            "Tell me what {} {} {} is.", "How much is {} {} {}?", "I need the result of {} {} {}.",
        )
    ]  # fmt: skip
    spoken = [f"How much is {x} {WORD[sign]} {y}?", f"What is {x} {WORD[sign]} {y}?", f"{x} {WORD[sign]} {y}"]
    asked = [f"{opening} {x} {sign} {y}{end}" for opening, end in OPENINGS]
    return [*written, *by[sign], *by[sign], *spoken, *asked]


def sums(rng: random.Random, test: bool) -> Sample:
    sign = rng.choices([ADD, SUBTRACT, MULTIPLY], [40, 30, 30])[0]
    if not test and rng.random() < 0.08:
        return ask("sums", *in_words(rng))
    if not test and rng.random() < 0.12:
        return ask(
            "sums",
            too_large(rng),
            TOO_MUCH,
            thoughts="That is too much for me." if rng.random() < 0.5 else None,
        )
    most = 2 if sign == MULTIPLY else 4

    def make() -> tuple[int, int]:
        one, other = rng.randint(1, most), rng.randint(1, most)
        if rng.random() < 0.5:
            other = one
        return rng.randrange(10 ** (one - 1) if one > 1 else 0, 10**one), rng.randrange(
            10 ** (other - 1) if other > 1 else 0, 10**other
        )

    x, y = make() if sign == MULTIPLY and not test and rng.random() < 0.2 else pick(rng, make, test)
    if sign == MULTIPLY and max(x, y) < 10:  # the table is learned by heart: nothing of it is held out
        test = False
    if sign == SUBTRACT and x < y and rng.random() < 0.75:
        x, y = y, x
    result = f"{x} {sign} {y} = {RESULT[sign](x, y)}."
    question, steps = rng.choice(forms(x, sign, y)), aloud(x, sign, y)
    if not test and rng.random() < 0.3:  # whatever is said around it
        before = " ".join(rng.choice(ALL_WORDS) for _ in range(rng.randint(1, 4)))
        behind = rng.choice([".", "?", "", f" {rng.choice(ALL_WORDS)}.", f", {rng.choice(ALL_WORDS)}!"])
        question = (
            f"{rng.choice([before, before.capitalize()])} {x} {rng.choice([sign, WORD[sign]])} {y}{behind}"
        )
    if steps and rng.random() < (0.45 if is_small(x, sign, y) else 0.65):
        return ask("sums", question, result, thoughts=steps)
    if is_small(x, sign, y) or not steps:
        return ask("sums", question, result)
    return ask("sums", question, f"{steps}\n{result}")


TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
TO_TWENTY = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen""".split()
STORIES = {  # what happens, and what is asked
    ADD: "{0} has {1} {3} and gets {2} more. How many {3} does {0} have?|"
    "I have {1} {3} and buy {2} more. How many {3} do I have now?|"
    "There are {1} {3} on the table and {2} in the box. How many are there in all?|"
    "{0} finds {1} {3}, then {2} more. How many is that?|{1} {3} and {2} {3}: how many together?|"
    "{0} had {1} {3}. Then a friend gave {0} {2} more. How many now?",
    SUBTRACT: "{0} has {1} {3} and gives {2} away. How many are left?|"
        "I had {1} {3} and lost {2}. How many are left?|"
    "There were {1} {3}, and {0} ate {2}. How many remain?|"
    "{0} has {1} {3} and sells {2} of them. How many are left?|"
    "Of {1} {3} {2} broke. How many {3} are still good?",
    MULTIPLY: "{0} has {1} boxes with {2} {3} each. How many {3} is that?|"
    "One box holds {2} {3}. How many are in {1} boxes?|{1} friends have {2} {3} each. How many together?",
}  # fmt: skip
THINGS = "apples|pens|books|balls|stamps|cards|eggs|coins|marbles|shells|cookies|flowers|stickers".split("|")


def spelled(x: int) -> str:
    if x < 20:
        return TO_TWENTY[x]
    return TENS[x // 10 - 2] + (f"-{TO_TWENTY[x % 10]}" if x % 10 else "")


def in_words(rng: random.Random) -> tuple[str, str]:
    """A small sum whose numbers are words, or that a story tells."""
    sign = rng.choice([ADD, ADD, SUBTRACT, SUBTRACT, MULTIPLY])
    most = 10 if sign == MULTIPLY else rng.choice([10, 20, 100])
    x, y = rng.randrange(most), rng.randrange(most)
    if sign == SUBTRACT:
        x, y = max(x, y), min(x, y)
    result = f"{x} {sign} {y} = {RESULT[sign](x, y)}."
    if rng.random() < 0.4:
        form = "What is {0} {1} {2}?|How much is {0} {1} {2}?|{0} {1} {2}|{0} {1} {2}?|Calculate {0} {1} {2}."
        question = among(rng, form).format(spelled(x), WORD[sign], spelled(y))
        return question[0].upper() + question[1:] if rng.random() < 0.7 else question, result
    said = [str(x), str(y)] if rng.random() < 0.75 else [spelled(x), spelled(y)]
    question = among(rng, STORIES[sign]).format(rng.choice(FIRST_NAMES), *said, rng.choice(THINGS))
    return question[0].upper() + question[1:], result


def too_large(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.35:
        x, y = rng.randrange(10**4, 10 ** rng.randint(5, 9)), rng.randrange(10 ** rng.randint(1, 9))
        if rng.random() < 0.5:
            x, y = y, x
        return rng.choice(forms(x, rng.choice([ADD, SUBTRACT, MULTIPLY]), y))
    if kind < 0.6:
        x, y = rng.randrange(100, 10 ** rng.randint(3, 6)), rng.randrange(2, 10 ** rng.randint(1, 4))
        return rng.choice(forms(x, MULTIPLY, y))
    x, y = rng.randrange(10 ** rng.randint(1, 4)), rng.randrange(1, 10 ** rng.randint(1, 3))
    return rng.choice(
        [
            f"What is {x} / {y}?", f"Divide {x} by {y}.", f"What is {x} divided by {y}?", f"{x}/{y}",
            f"What is {x}.{y} + {y}.5?", f"What is {x} + {y} + {x}?", f"What is {x} to the power of {y}?",
            f"What is the square root of {x}?", f"How much is {y} percent of {x}?", f"{x}^{y}",
        ]
    )  # fmt: skip


def compared(rng: random.Random, test: bool) -> Sample:
    """Which of two numbers is more; or of two things, whose places are told, on which side one is."""
    digits = rng.choice([1, 2, 2, 2, 2, 3, 4])
    near = rng.random() < 0.5  # of two that begin alike, or not

    def numbers() -> tuple[int, int]:
        x = rng.randrange(10**digits)
        y = x + rng.randint(-15, 15) if near else rng.randrange(10 ** rng.randint(1, digits))
        return (x, y) if y >= 0 and x != y else numbers()

    kind = rng.random()
    if kind < 0.15:
        return ask("sums", *of_several(rng))
    if kind < 0.25:
        return ask("sums", *of_one(rng))
    x, y = pick(rng, numbers, test)
    if digits > 2 or max(x, y) > 100 or rng.random() < 0.4:
        return ask("sums", *more_or_less(rng, x, y))
    return ask("sums", *sides(rng, x, y))


def of_several(rng: random.Random) -> tuple[str, str]:
    """The largest, the smallest, or all in order."""
    found = rng.sample(range(10 ** rng.choice([1, 2, 2, 3])), rng.choice([3, 3, 3, 4]))
    shown = ", ".join(map(str, found)) if rng.random() < 0.5 else listed([str(x) for x in found])
    if rng.random() < 0.6:
        most = rng.random() < 0.5
        word = rng.choice(["largest", "biggest", "highest"] if most else ["smallest", "lowest", "least"])
        form = "Which is the {0}: {1}?|Which is the {0} of {1}?|What is the {0} of {1}?|Find the {0}: {1}|"
        form += "Which number is the {0}, {1}?|Tell me the {0} of these: {1}"
        return among(rng, form).format(word, shown), f"{max(found) if most else min(found)} is the {word}."
    down = rng.random() < 0.4
    way = among(
        rng, " from large to small| from the largest to the smallest|, largest first| from big to small"
        if down else "| from small to large| from the smallest to the largest|, smallest first",
    )  # fmt: skip
    form = "Sort these numbers{0}: {1}|Put {1} in order{0}.|Order these{0}: {1}|Sort {1}{0}."
    return among(rng, form).format(way, shown), f"{', '.join(map(str, sorted(found, reverse=down)))}."


def of_one(rng: random.Random) -> tuple[str, str]:
    """Even or odd; or equal to another."""
    x = rng.randrange(10 ** rng.choice([1, 2, 3]))
    if rng.random() < 0.7:
        word = rng.choice(["even", "odd"])
        form = among(rng, "Is {0} {1}?|Is {0} an {1} number?|Is the number {0} {1}?|{0}: is it {1}?")
        return form.format(x, word), "Yes." if (x % 2 == 0) == (word == "even") else "No."
    y = x if rng.random() < 0.5 else rng.randrange(10 ** rng.choice([1, 2, 3]))
    form = among(rng, "Is {0} equal to {1}?|Are {0} and {1} the same?|Is {0} the same as {1}?|Is {0} = {1}?")
    return form.format(x, y), "Yes." if x == y else "No."


def more_or_less(rng: random.Random, x: int, y: int) -> tuple[str, str]:
    if rng.random() < 0.5:
        more, less = rng.choice(
            [
                ("more", "less"),
                ("larger", "smaller"),
                ("greater", "less"),
                ("bigger", "smaller"),
                ("higher", "lower"),
            ]
        )
        word = rng.choice([more, less])
        question = rng.choice(["Is {0} {2} than {1}?", "Is {0} {2} than {1}, yes or no?"])
        return question.format(x, y, word), "Yes." if (x > y) == (word == more) else "No."
    word = rng.choice(["more", "larger", "greater", "bigger", "higher", "less", "smaller", "lower"])
    found = max(x, y) if word in ("more", "larger", "greater", "bigger", "higher") else min(x, y)
    question = rng.choice(
        ["Which is {2}, {0} or {1}?", "What is {2}: {0} or {1}?", "Which number is {2}, {0} or {1}?"]
    )
    return question.format(x, y, word), f"{found} is {word}."


def sides(rng: random.Random, x: int, y: int) -> tuple[str, str]:
    """Of two things at these hundredths of a width or height; answered as of a picture (scenes.py)."""
    one, other = rng.sample([f"{colour} {shape}" for colour in COLOURS for shape in SHAPES], 2)
    if rng.random() < 0.3 and one.split()[1] != other.split()[1]:
        one, other = one.split()[1], other.split()[1]
    edge, before, behind = rng.choice([("left", "left of", "right of"), ("top", "above", "below")])
    told = among(
        rng,
        "From the {0}, the {1} is at {3}% and the {2} at {4}%.|The {1} is {3}% from the {0}, the {2} {4}%.|"
        "The {2} is at {4}% from the {0}, the {1} at {3}%.",
    ).format(edge, one, other, x, y)
    again = places(edge, one, x, other, y)
    if rng.random() < 0.5:
        way = rng.choice([before, behind])
        verdict = "Yes." if (x < y) == (way == before) else "No."
        return f"{told} Is the {one} {way} the {other}?", f"{again} {verdict}"
    ways = f"{before.removesuffix(' of')} or {behind}"
    verdict = f"So the {one} is {before if x < y else behind} the {other}."
    return f"{told} Is the {one} {ways} the {other}?", f"{again} {verdict}"
