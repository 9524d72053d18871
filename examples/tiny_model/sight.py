"""What lies where in a picture: a lesson for the vision tower alone, beside the questions.

Each visual token is asked which thing has its centre there, where that ends, the how-manieth it is from the
left and from the top, how large it is, what is nearest to it, and how many of each shape and of each colour
the picture has; which letters have their centre there, and the how-manieth of its line the first is; and how
the word begins whose centre is there, so that it can be found by its name.
Questions teach the tower slowly, their answers being a few words; this asks each of 64 tokens or more. One
linear map answers, which is thrown away after training.
"""

from __future__ import annotations

import string
from itertools import groupby

import numpy as np
import torch.nn.functional as F
from draw import MOST_THINGS, Letters
from questions import extent, nearest_thing
from sample import View
from tokens import FACTOR, IGNORED
from torch import Tensor, nn
from words import COLOURS, SHAPES

NOTHING = 0  # the colour and the letter where none is
LETTERS = string.ascii_letters + string.digits + ".,:;-@$€£!?'/_+%&#()*"
HERE = 5  # letters in a token
MOST_LINES, MOST_LETTERS = 12, 40  # that are counted
OF_A_WORD = 8  # letters, and nothing behind its end
EDGES = 4  # left, top, right and bottom of a thing, from the middle of the token and in its sides
# How many answers each question has. The colour is asked everywhere, the rest only where a thing is; likewise
# the first letter. The last of a thing are the first two digits of its edges, of 0 to 1000, how many things
# there are of each shape and of each colour, the two digits of its size, and colour and shape of the nearest.
OF_A_THING = [
    1 + len(COLOURS),
    len(SHAPES),
    MOST_THINGS,
    MOST_THINGS,
    *[10] * 2 * EDGES,
    *[1 + MOST_THINGS] * (len(SHAPES) + len(COLOURS)),
    *[10] * 2,
    len(COLOURS),
    len(SHAPES),
]
BEFORE_EDGES = 4
OF_LETTERS = [*[1 + len(LETTERS)] * HERE, MOST_LINES, MOST_LETTERS]
OF_WORDS = [1 + len(LETTERS)] * OF_A_WORD
QUESTIONS = [*OF_A_THING, *OF_LETTERS, *OF_WORDS]


def lesson(view: View) -> tuple[np.ndarray, np.ndarray]:
    """int64 [V, len(QUESTIONS)], IGNORED where there is nothing to ask, and float32 [V, EDGES]."""
    assert view.picture is not None
    width, height = view.picture.size
    labels = np.full((height // FACTOR, width // FACTOR, len(QUESTIONS)), IGNORED)
    of_things, of_letters, of_words = np.split(
        labels, [len(OF_A_THING), len(OF_A_THING) + len(OF_LETTERS)], axis=-1
    )
    of_things[..., 0] = of_letters[..., 0] = NOTHING
    edges = np.zeros((*labels.shape[:2], EDGES), np.float32)
    numbers: dict[tuple[int, int], int] = {}  # of the first letter in a token

    def mark(box: tuple[float, ...], before: list[int], after: list[int]) -> None:
        """Of a thing with this box, in the token of its middle."""
        here = int((box[1] + box[3]) / 2 // FACTOR), int((box[0] + box[2]) / 2 // FACTOR)
        ends = np.array(box)
        thousandths = np.round(1000 * ends / ([width, height] * 2)).astype(int).clip(0, 999)
        hundredths = thousandths // 10  # as answers round them
        of_things[here] = [*before, *hundredths // 10, *hundredths % 10, *after]
        edges[here] = ends / FACTOR - np.array([here[1], here[0]] * 2) - 0.5

    things = view.things
    from_left, from_top = (sorted(things, key=way) for way in (lambda t: t.x, lambda t: t.y))
    shapes, colours = [t.shape for t in things], [t.colour for t in things]
    counts = [*map(shapes.count, SHAPES), *map(colours.count, COLOURS)]
    for thing in things:
        what = [1 + list(COLOURS).index(thing.colour), SHAPES.index(thing.shape)]
        near = nearest_thing(view, thing)
        of_near = [list(COLOURS).index(near.colour), SHAPES.index(near.shape)] if near else [IGNORED] * 2
        after = [*counts, *divmod(min(99, extent(view, thing)), 10), *of_near]
        mark(thing.box(), [*what, from_left.index(thing), from_top.index(thing)], after)
    for box in view.parts:
        mark(box, [IGNORED] * BEFORE_EDGES, [IGNORED] * (len(OF_A_THING) - BEFORE_EDGES - 2 * EDGES))
    for line, written in enumerate(view.letters):
        for word in words(written):
            (row, column), text = place([word[0], word[-1]]), "".join(letter for letter, *_ in word)
            if row < len(labels) and column < labels.shape[1]:
                told = [1 + LETTERS.find(letter) for letter in text[:OF_A_WORD]]
                of_words[row, column] = told + [NOTHING] * (OF_A_WORD - len(told))
        for number, letter in enumerate(at for at in written if at[0] != " "):
            row, column = place([letter])
            if not (line < MOST_LINES and row < len(labels) and column < labels.shape[1]):
                continue
            places = of_letters[row, column]
            if not places[0]:
                first = number if number < MOST_LETTERS else IGNORED
                places[:] = [NOTHING] * HERE + [line, first]
                numbers[row, column] = number
            behind = number - numbers.get((row, column), 0)
            if line == places[-2] and behind < HERE:
                places[behind] = 1 + LETTERS.find(letter[0])
    return labels.reshape(-1, len(QUESTIONS)), edges.reshape(-1, EDGES)


def place(letters: Letters) -> tuple[int, int]:
    """The row and the column of the token that has their middle."""
    x, y = (sum(at[i] for at in letters) / len(letters) for i in (1, 2))
    return int(y // FACTOR), int(x // FACTOR)


def words(line: Letters) -> list[Letters]:
    return [list(word) for is_space, word in groupby(line, lambda at: at[0] == " ") if not is_space]


def new_sight(hidden_size: int) -> nn.Linear:
    return nn.Linear(hidden_size, sum(QUESTIONS) + EDGES)


def sight_loss(sight: nn.Linear, visual: Tensor, labels: Tensor, edges: Tensor) -> Tensor:
    """visual [N, hidden_size], labels [N, columns], edges [N, EDGES] -> of things, letters and words."""
    *guesses, ends = sight(visual).float().split([*QUESTIONS, EDGES], -1)
    costs = [
        F.cross_entropy(guess, answers, ignore_index=IGNORED, reduction="sum")
        for guess, answers in zip(guesses, labels.unbind(-1), strict=True)
    ]
    things = labels[:, 0] != NOTHING
    letters = labels[:, len(OF_A_THING) : len(OF_A_THING) + HERE] > NOTHING
    words = labels[:, -OF_A_WORD:] > NOTHING
    of_things = sum(costs[: len(OF_A_THING)]) + ((ends - edges).abs().sum(-1) * things).sum()
    of_letters = sum(costs[len(OF_A_THING) : -OF_A_WORD])
    of_words = sum(costs[-OF_A_WORD:])
    return (
        of_things / things.sum().clamp(min=1)
        + of_letters / letters.sum().clamp(min=1)
        + of_words / words.sum().clamp(min=1)
    )
