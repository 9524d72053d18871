"""Sums: small ones at once, larger ones column by column, and those that are too large."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from sample import Sample, among, ask, listed, places, plural, sign_between, yes_or_no
from wordings import worded
from words import ALL_WORDS, COLOURS, FIRST_NAMES, SHAPES, pick

TOO_MUCH = (
    "I don't know. I can add and subtract whole numbers of up to four digits and multiply those of up to two."
)
ADD, SUBTRACT, MULTIPLY, DIVIDE = "+", "-", "*", "/"


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
    """Of x, which is not less: each figure with ten more, so that the result shows whether 1 is borrowed."""
    thoughts, borrow = [], 0
    while x:
        parts = [10 + x % 10, y % 10] + [1] * borrow
        left = parts[0] - sum(parts[1:])
        borrow = int(left < 10)
        thoughts.append(
            f"{' - '.join(map(str, parts))} = {left}: write {left % 10}{', borrow 1' if borrow else ''}."
        )
        x, y = x // 10, y // 10
    return "\n".join(thoughts)


def beside_each_other(one: str, other: str) -> str:
    """How many figures they have, or these up to the first that differ: from that follows which is more."""
    if len(one) != len(other):
        return f"{len(one)} and {len(other)} figures."
    pairs = list(zip(one, other, strict=True))
    first = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
    return f"From the left: {', '.join(f'{a} and {b}' for a, b in pairs[: first + 1])}."


def stand(x: int, y: int, as_told: Callable[[int], str] = str) -> str:
    """How they stand to each other, as they were told, behind what shows it.

    Said at once, of two numbers a quarter was wrong, of several a third; in differences, where the figures
    were looked at first, nearly none.
    """
    one, other = as_told(x), as_told(y)
    shown = beside_each_other(digits(one), digits(other))
    return f"{shown} {one} {sign_between(x, y)} {other}."


def one_by_one(
    numbers: list[int], extreme: Callable[[int, int], int], as_told: Callable[[int], str] = str
) -> list[str]:
    """The first beside the second, the one of them that it is beside the next, and so on."""
    best, *rest = numbers
    told = []
    for x in rest:
        told.append(stand(best, x, as_told))
        best = extreme(best, x)
    return told


def which_is_more_aloud(x: int, y: int) -> str:
    """Before a difference: which is more, and whether it comes to less than nothing."""
    shown = beside_each_other(str(x), str(y))
    if x == y:
        return f"{shown}\nBoth are equal."
    return f"{shown}\n{max(x, y)} is more{', so it is below 0' if x < y else ''}."


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
    lines = [which_is_more_aloud(x, y)]
    if x < y:
        lines.append(f"{y} - {x}:")
    if x != y:
        lines.append(subtract_aloud(max(x, y), min(x, y)))
    return "\n".join(lines)


RESULT = {ADD: int.__add__, SUBTRACT: int.__sub__, MULTIPLY: int.__mul__, DIVIDE: int.__floordiv__}
WORD = {ADD: "plus", SUBTRACT: "minus", MULTIPLY: "times"}


def is_small(x: int, sign: str, y: int) -> bool:
    """Said at once, without thinking."""
    return max(x, y) < (10 if sign == MULTIPLY else 100)


def asked(rng: random.Random, x: int, sign: str, y: int) -> str:
    """One way to ask for it: as it is written, by what is done, or as it is spoken."""
    kind = rng.random()
    if kind < 0.6:
        return worded(rng, "sum by its sign", x, rng.choice("*×x") if sign == MULTIPLY else sign, y)
    if kind < 0.8:
        return worded(rng, f"sum {sign}", x, y)
    return worded(rng, "sum with a spoken sign", x, WORD[sign], y)


def sums(rng: random.Random, test: bool) -> Sample:
    sign = rng.choices([ADD, SUBTRACT, MULTIPLY], [40, 30, 30])[0]
    if not test and rng.random() < 0.2:
        return ask("sums", *rng.choices([in_words, divided], [4, 1])[0](rng))
    if not test and rng.random() < 0.3:
        return other_sums(rng)
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
    if sign == SUBTRACT and x < y and rng.random() < 0.3:
        x, y = y, x
    result = f"{x} {sign} {y} = {RESULT[sign](x, y)}."
    question, steps = asked(rng, x, sign, y), aloud(x, sign, y)
    if not test and rng.random() < 0.3:  # whatever is said around it
        before = " ".join(rng.choice(ALL_WORDS) for _ in range(rng.randint(1, 4)))
        behind = rng.choice([".", "?", "", f" {rng.choice(ALL_WORDS)}.", f", {rng.choice(ALL_WORDS)}!"])
        question = (
            f"{rng.choice([before, before.capitalize()])} {x} {rng.choice([sign, WORD[sign]])} {y}{behind}"
        )
    if steps and rng.random() < (0.45 if is_small(x, sign, y) else 0.65):
        return ask("sums", question, result, thoughts=steps)
    if is_small(x, sign, y) and x < y and sign == SUBTRACT:  # the difference, then that it is below 0
        return ask("sums", question, f"{y} - {x} = {y - x}.\n{result}")
    if is_small(x, sign, y) or not steps:
        return ask("sums", question, result)
    return ask("sums", question, f"{steps}\n{result}")


TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
TO_TWENTY = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen""".split()
THINGS = """apples pens books balls stamps cards eggs coins marbles shells cookies flowers stickers oranges
pencils sweets buttons stones toys plums""".split()


def spelled(x: int) -> str:
    """Up to one hundred."""
    if x < 20:
        return TO_TWENTY[x]
    if x == 100:
        return "one hundred"
    return TENS[x // 10 - 2] + (f"-{TO_TWENTY[x % 10]}" if x % 10 else "")


def in_words(rng: random.Random) -> tuple[str, str]:
    """A small sum whose numbers are words, or that a story tells."""
    sign = rng.choice([ADD, ADD, SUBTRACT, SUBTRACT, MULTIPLY])
    most = 10 if sign == MULTIPLY else rng.choice([10, 20, 100])
    x, y = rng.randrange(most), rng.randrange(most)
    if sign == SUBTRACT:
        x, y = max(x, y), min(x, y)
    if rng.random() < 0.25:
        question = worded(rng, "sum with a spoken sign", spelled(x), WORD[sign], spelled(y))
        question = question[0].upper() + question[1:] if rng.random() < 0.7 else question
        return question, f"{x} {sign} {y} = {RESULT[sign](x, y)}."
    story = rng.choice([sign, sign, f"{SUBTRACT} of what differs", DIVIDE])
    sign, (x, y) = story[0], (max(x, 2), max(y, 2))  # of which there are several
    if sign == SUBTRACT:
        x, y = max(x, y) + (x == y), min(x, y)
    if sign == DIVIDE:
        x, y = in_the_table(rng)
    said = [str(x), str(y)] if rng.random() < 0.75 else [spelled(x), spelled(y)]
    who, other = rng.sample(FIRST_NAMES, 2)
    question = worded(rng, f"told sum {story}", who, *said, rng.choice(THINGS), other)
    return question[0].upper() + question[1:], f"{x} {sign} {y} = {RESULT[sign](x, y)}."


def in_the_table(rng: random.Random) -> tuple[int, int]:
    """What can be divided, and by what."""
    x, y = rng.randint(2, 9), rng.randint(2, 9)
    return x * y, y


def divided(rng: random.Random) -> tuple[str, str]:
    """The table backwards; half, and double."""
    kind = rng.choice(["divided", "half", "double"])
    x, y = in_the_table(rng)
    if kind == "divided":
        return worded(rng, kind, x, y), f"{x} / {y} = {x // y}."
    x = rng.randint(1, 50)
    if kind == "half":
        return worded(rng, kind, 2 * x), f"{2 * x} / 2 = {x}."
    return worded(rng, kind, x), f"{x} * 2 = {2 * x}."


def too_large(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.35:
        x, y = rng.randrange(10**4, 10 ** rng.randint(5, 9)), rng.randrange(10 ** rng.randint(1, 9))
        if rng.random() < 0.5:
            x, y = y, x
        return asked(rng, x, rng.choice([ADD, SUBTRACT, MULTIPLY]), y)
    if kind < 0.6:
        x, y = rng.randrange(100, 10 ** rng.randint(3, 6)), rng.randrange(2, 10 ** rng.randint(1, 4))
        return asked(rng, x, MULTIPLY, y)
    x, y = rng.randrange(10 ** rng.randint(1, 4)), rng.randrange(1, 10 ** rng.randint(1, 3))
    if rng.random() < 0.4:  # what the table has is no more than `divided` answers, nor is half of a small one
        return worded(rng, "divided", x + 100, y) if y > 2 else too_large(rng)
    return rng.choice(
        [
            f"What is {x}.{y} + {y}.5?", f"What is {x + 1000} + {y} + {x}?",
            f"What is {x} to the power of {y}?", f"What is the square root of {x}?",
            f"How much is {y} percent of {x}?", f"{x}^{y}",
        ]
    )  # fmt: skip


def compared(rng: random.Random, test: bool) -> Sample:
    return (told_and_compared if rng.random() < 0.4 else numbers_compared)(rng, test)


def numbers_compared(rng: random.Random, test: bool) -> Sample:
    """Which of two numbers is more; or of two things, whose places are told, on which side one is."""
    digits = rng.choice([1, 2, 2, 2, 2, 3, 4])
    near = rng.random() < 0.5  # of two that begin alike, or not

    def numbers() -> tuple[int, int]:
        x = rng.randrange(10**digits)
        if rng.random() < 0.2:  # on the two sides of 10, 100 or 1000
            x = 10 ** rng.randint(1, 3) + rng.randint(-9, 9)
        y = x + rng.randint(-15, 15) if near else rng.randrange(10 ** rng.randint(1, digits))
        return (x, y) if y >= 0 and x != y else numbers()

    kind = rng.random()
    if kind < 0.4:
        return ask("sums", *of_several(rng))
    if kind < 0.55:
        return ask("sums", *of_one(rng))
    x, y = pick(rng, numbers, test)
    if digits > 2 or max(x, y) > 99 or rng.random() < 0.4:
        return ask("sums", *more_or_less(rng, x, y))
    return ask("sums", *sides(rng, x, y))


def enumerated(rng: random.Random, found: list[int]) -> str:
    return ", ".join(map(str, found)) if rng.random() < 0.5 else listed([str(x) for x in found])


EXTREMES = {  # which it is, and what it is called
    "largest": (max, ["largest", "biggest", "highest", "greatest"]),
    "smallest": (min, ["smallest", "lowest", "least"]),
}


def of_several(rng: random.Random) -> tuple[str, str]:
    """The largest, the smallest, or all in order."""
    found = several(rng)
    shown = enumerated(rng, found)
    if rng.random() < 0.5:
        extreme, words = EXTREMES[rng.choice(list(EXTREMES))]
        word = rng.choice(words)
        question = worded(rng, "largest or smallest of several", word, shown)
        return question, f"{seek(found, extreme)} {extreme(found)} is the {word}."
    down = rng.random() < 0.4
    question = worded(rng, f"in order, {'down' if down else 'up'}wards", shown)
    *rows, in_order = in_order_so_far(found, down)
    return question, " ".join([lengths(found), *(f"{row}." for row in rows), f"In order: {in_order}."])


def in_order_so_far(found: list[int], down: bool) -> list[str]:
    """The first, the first two in order, and so on: each row takes one number in.

    When those of so many figures were put together and ordered at once, 9 of 15 lists were wrong.
    """
    rows = [sorted(found[: n + 1], reverse=down) for n in range(len(found))]
    return [", ".join(map(str, row)) for row in rows]


def digits(told: str) -> str:
    return re.sub(r"\D", "", told)


def lengths(found: list[int], as_told: Callable[[int], str] = str) -> str:
    """How many figures each has.

    Not said, one of three was put among those of two, or looked at by its first figure: of 250 comparisons 48
    were wrong, 37 of them among the 60 of several numbers.
    """
    first, *rest = [(one, len(digits(one))) for one in map(as_told, found)]
    told = [f"{first[0]} has {first[1]} {plural(first[1], 'figure')}", *(f"{one} has {n}" for one, n in rest)]
    return f"{', '.join(told)}."


def seek(found: list[int], extreme: Callable[..., int], as_told: Callable[[int], str] = str) -> str:
    """The largest or smallest: among those that have the most or the fewest figures."""
    count = {x: len(digits(as_told(x))) for x in found}
    n = extreme(count.values())
    alike = [x for x in found if count[x] == n]
    told = f"{n} {plural(n, 'figure')}: {', '.join(map(as_told, alike))}."
    return " ".join([lengths(found, as_told), told, *one_by_one(alike, extreme, as_told)])


def even_or_odd(rng: random.Random, most: int) -> tuple[str, str]:
    x, word = rng.randrange(most), rng.choice(["even", "odd"])
    so = "odd" if x % 2 else "even"
    return worded(rng, "even or odd", x, word), f"{x} is {so}. {yes_or_no(so == word)}."


def more_and_its_word(rng: random.Random, x: int, y: int) -> tuple[int, str]:
    """The one of them that is larger, smaller …"""
    more, less = rng.choice(MORE_AND_LESS)
    word = rng.choice([more, less])
    return (max if word == more else min)(x, y), word


def which_is_more(rng: random.Random, x: int, y: int) -> tuple[str, str]:
    best, word = more_and_its_word(rng, x, y)
    return worded(rng, "which is more", x, y, word), f"{stand(x, y)} {best} is {word}."


def whether_more(rng: random.Random, x: int, y: int, asked_by: str = "is it more") -> tuple[str, str]:
    """Behind how they stand: from that and the word follows the verdict."""
    best, word = more_and_its_word(rng, x, y)
    verdict = best == x if asked_by.startswith("true") else yes_or_no(best == x)
    return worded(rng, asked_by, x, y, word), f"{stand(x, y)} {verdict}."


def of_one(rng: random.Random) -> tuple[str, str]:
    """Even or odd, what comes before or after it, or whether another is equal."""
    x = rng.randrange(1, 10 ** rng.choice([1, 2, 3]))
    kind = rng.random()
    if kind < 0.35:
        return even_or_odd(rng, 10 ** rng.choice([1, 2, 3]))
    if kind < 0.5:
        return worded(rng, "which of even and odd", x), f"{x} is {'odd' if x % 2 else 'even'}."
    if kind < 0.65:
        return worded(rng, "the number after", x), f"{x} + 1 = {x + 1}."
    if kind < 0.8:
        return worded(rng, "the number before", x), f"{x} - 1 = {x - 1}."
    y = x if rng.random() < 0.5 else rng.randrange(10 ** rng.choice([1, 2, 3]))
    return worded(rng, "equal", x, y), f"{x} and {y} are {'equal. Yes' if x == y else 'not equal. No'}."


MORE_AND_LESS = [
    ("more", "less"), ("larger", "smaller"), ("greater", "less"), ("bigger", "smaller"), ("higher", "lower"),
]  # fmt: skip


def more_or_less(rng: random.Random, x: int, y: int) -> tuple[str, str]:
    kind = rng.random()
    if kind > 0.5:
        return whether_more(rng, x, y, "is it more" if kind < 0.9 else "true or false that it is more")
    return which_is_more(rng, x, y)


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
    found = before if x < y else behind
    seen = f"{places(edge, one, x, other, y)} So the {one} is {found} the {other}."
    if rng.random() < 0.5:
        way = rng.choice([before, behind])
        return f"{told} Is the {one} {way} the {other}?", f"{seen} {yes_or_no(way == found)}."
    ways = f"{before.removesuffix(' of')} or {behind}"
    return f"{told} Is the {one} {ways} the {other}?", seen


def wishing(rng: random.Random, question: str, wish: str) -> str:
    """With the wish for no more than that, before or behind the question."""
    form = among(rng, "{0} {1}|{0} {1}|{0}\n{1}|{1} {0}|{0}\n\n{1}")
    return form.format(question, worded(rng, wish))


def worked(rng: random.Random, question: str, x: int, sign: str, y: int) -> Sample:
    """The sum that a question comes to: at once, column by column, or thought; or its number alone."""
    result, steps, small = RESULT[sign](x, y), aloud(x, sign, y), is_small(x, sign, y)
    answer = f"{x} {sign} {y} = {result}."
    thought = bool(steps) and rng.random() < 0.35
    if (small or thought) and rng.random() < 0.12:
        question, answer = wishing(rng, question, "only a number"), str(result)
    if thought:
        return ask("sums", question, answer, thoughts=steps)
    return ask("sums", question, answer if small or not steps else f"{steps}\n{answer}")


def small_numbers(rng: random.Random, sign: str) -> tuple[int, int]:
    if sign == MULTIPLY:
        return rng.randint(2, 9), rng.randint(2, 9)
    most = rng.choice([10, 20, 50, 100, 100, 1000])
    x, y = rng.randint(1, most), rng.randint(1, most)
    return (max(x, y) + 1, min(x, y)) if sign == SUBTRACT else (x, y)


def other_sums(rng: random.Random) -> Sample:
    """What a story, a missing number, three numbers, or a claim comes to."""
    sign = rng.choice([ADD, SUBTRACT, MULTIPLY])
    x, y = small_numbers(rng, sign)
    kind = rng.random()
    if kind < 0.4:
        who, other = rng.sample(FIRST_NAMES, 2)
        return worked(rng, worded(rng, f"story {sign}", x, y, who, rng.choice(THINGS), other), x, sign, y)
    if kind < 0.58:
        return missing(rng, sign, x, y)
    if kind < 0.68:
        sign = rng.choice([ADD, SUBTRACT])
        x, y = small_numbers(rng, sign)
        return worked(
            rng, worded(rng, f"{'more' if sign == ADD else 'less'} than a number", x, y), x, sign, y
        )
    if kind < 0.8:
        return ask("sums", *is_the_sum_so(rng, sign))
    if kind < 0.9:
        x, y = sorted([rng.randrange(100), rng.randrange(100)], reverse=rng.random() < 0.6)
        sign = rng.choice([ADD, SUBTRACT]) if x > y else ADD
        return worked(rng, asked(rng, x, sign, y), x, sign, y)
    most = rng.choice([10, 10, 30])
    x, y, z = (rng.randint(1, most) for _ in range(3))
    return ask(
        "sums", worded(rng, "of three", x, y, z), f"{x} + {y} = {x + y}.\n{x + y} + {z} = {x + y + z}."
    )


def missing(rng: random.Random, sign: str, x: int, y: int) -> Sample:
    """The number that makes the sum right, by the sum that tells it."""
    x, y = max(x % 100, 1), max(y % 100, 1)
    question = worded(rng, f"missing in {sign}", x, RESULT[sign](y, x) if sign != SUBTRACT else y)
    if sign == ADD:
        return worked(rng, question, x + y, SUBTRACT, x)
    if sign == SUBTRACT:
        return worked(rng, question, x, ADD, y)
    return ask("sums", question, f"{x * y} / {x} = {y}.")


def is_the_sum_so(rng: random.Random, sign: str) -> tuple[str, str]:
    x, y = (min(n, 99) for n in small_numbers(rng, sign))
    result = RESULT[sign](x, y)
    said = result if rng.random() < 0.5 else result + rng.choice([-10, -2, -1, 1, 2, 10])
    question = worded(rng, "is the sum so", x, sign, y, max(said, 0))
    return question, f"{x} {sign} {y} = {result}. {yes_or_no(max(said, 0) == result)}."


DEARER = [("cheaper", "more expensive"), ("cheaper", "dearer")]
MEASURED = [  # less, more, in what
    ("shorter", "longer", "cm"), ("lower", "higher", "metres"), ("lighter", "heavier", "kg"),
    ("smaller", "larger", "square metres"), ("slower", "faster", "km an hour"),
]  # fmt: skip
GOODS = "car|bike|lamp|table|tent|sofa|chair|phone|bed|coat|hat|clock|boat|ladder|shelf|rug|desk|kettle|drum"


def told_and_compared(rng: random.Random, test: bool) -> Sample:
    """Of people or things whose numbers are told, who or which has more; or of numbers, which is nearest …"""
    kind = rng.random()
    if kind < 0.45:
        return ask("sums", *who_has_more(rng))
    if kind < 0.58:
        return ask("sums", *first_of_people(rng))
    if kind < 0.7:
        return ask("sums", *closest(rng))
    if kind < 0.8:
        return ask("sums", *is_between(rng))
    x, y = two_numbers(rng)
    if kind < 0.86:
        less, more = rng.choice(DEARER)
        word = rng.choice([less, more])
        best = (min, max)[word == more](x, y)
        return ask("sums", worded(rng, "cheaper of two", x, y, word), f"{stand(x, y)} {best} is {word}.")
    if kind < 0.92:
        found = several(rng)
        kind = rng.choice(list(EXTREMES))
        extreme, words = EXTREMES[kind]
        question = worded(rng, f"{kind} of several by a function", ", ".join(map(str, found)))
        word = next((word for word in words if word in question), kind)  # as it is asked
        return ask("sums", question, f"{seek(found, extreme)} {extreme(found)} is the {word}.")
    return only_the_verdict(rng)


def two_numbers(rng: random.Random) -> tuple[int, int]:
    """Alike or not; often on the two sides of 10, 100 or 1000."""
    edge = 10 ** rng.choice([1, 2, 2, 3])
    if rng.random() < 0.3:
        x, y = edge + rng.randint(-9, 9), edge + rng.randint(-9, 9)
    else:
        x, y = rng.randint(1, edge), rng.randint(1, 10 ** rng.randint(1, 3))
    return (x, y) if x != y else two_numbers(rng)


def several(rng: random.Random) -> list[int]:
    """Of any number of digits each."""
    count, alike = rng.choice([3, 3, 3, 4, 5]), rng.choice([1, 2, 2, 3])
    found: list[int] = []
    while len(found) < count:
        x = rng.randrange(10 ** rng.choice([alike, alike, 1, 2, 3]))
        if x not in found:
            found.append(x)
    return found


def who_has_more(rng: random.Random) -> tuple[str, str]:
    x, y = two_numbers(rng)
    kind = rng.choice(["which of two has more", "who did more", "which costs more", "which thing is more"])
    one, other = rng.sample(GOODS.split("|") if kind.startswith("which") else FIRST_NAMES, 2)
    unit = ""
    if kind == "which of two has more":
        one, other = rng.sample(FIRST_NAMES, 2)
        more, less = "older", "younger"
    elif kind == "who did more":
        more, less = "more", "fewer"
    elif kind == "which costs more":
        less, more = rng.choice(DEARER)
    else:
        less, more, unit = rng.choice(MEASURED)
    word = rng.choice([more, less])
    question = worded(rng, kind, one, other, x, y, word, unit)
    shown = [who if who in FIRST_NAMES else f"The {who}" for who in (one, other)]
    best = shown[(x > y) != (word == more)]
    verdict = f"It is {best}." if kind == "who did more" else f"{best} is {word}."
    return question[0].upper() + question[1:], f"{shown[0]}: {x}. {shown[1]}: {y}. {stand(x, y)} {verdict}"


def first_of_people(rng: random.Random) -> tuple[str, str]:
    people = rng.sample(FIRST_NAMES, rng.choice([3, 3, 4]))
    ages = rng.sample(range(2, 99), len(people))
    word = rng.choice(["oldest", "youngest"])
    form = among(rng, "{0} is {1}|{0}: {1}|{0} ({1})|{0} is {1} years old")
    told = [form.format(who, age) for who, age in zip(people, ages, strict=True)]
    extreme = max if word == "oldest" else min
    best = people[ages.index(extreme(ages))]
    question = worded(
        rng, "who is first of several", among(rng, "{0}|{1}").format(", ".join(told), listed(told)), word
    )
    again = " ".join(f"{who}: {age}." for who, age in zip(people, ages, strict=True))
    return question, f"{again} {seek(ages, extreme)} {extreme(ages)}: {best} is the {word}."


def closest(rng: random.Random) -> tuple[str, str]:
    """By how far each is away."""
    aim, found = rng.randint(5, 99), rng.sample(range(1, 100), 3)
    away = [abs(x - aim) for x in found]
    if sorted(away)[0] == sorted(away)[1]:
        return closest(rng)
    again = " ".join(f"{max(x, aim)} - {min(x, aim)} = {d}." for x, d in zip(found, away, strict=True))
    question = worded(rng, "closest to a number", aim, enumerated(rng, found))
    return question, f"{again} {' '.join(one_by_one(away, min))} {found[away.index(min(away))]} is closest."


def is_between(rng: random.Random) -> tuple[str, str]:
    low, high = sorted(two_numbers(rng))
    x = rng.randint(low, high) if rng.random() < 0.5 else rng.randint(0, 2 * high)
    if x in (low, high):
        return is_between(rng)
    beside = [low] if x < low else [low, high]  # the second says nothing new below the first
    told = " ".join(stand(x, y) for y in beside)
    return worded(rng, "between two numbers", x, low, high), f"{told} {yes_or_no(low < x < high)}."


def only_the_verdict(rng: random.Random) -> Sample:
    """Of small numbers, where the question says that it is enough."""
    most = rng.choice([10, 20, 100])
    x, y = rng.sample(range(most), 2)
    question, answer = rng.choice([whether_more(rng, x, y), which_is_more(rng, x, y), even_or_odd(rng, most)])
    verdict = answer.split()[-1]
    if verdict in ("Yes.", "No."):
        return ask("sums", wishing(rng, question, "only yes or no"), verdict)
    *_, best, _, _ = answer.split()  # "… 61 is larger."
    return ask("sums", wishing(rng, question, "only a number"), best)
