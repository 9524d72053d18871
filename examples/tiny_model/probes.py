"""What README.md tells beside the tasks of scores.py: a table of how many were right.

    python examples/tiny_model/probes.py build/tiny_model/tiny-Q4_K_M.gguf --count 60

Left and right, a fact in long texts, how seldom it says that it does not know what it should; and pictures
drawn with Pillow alone: shapes in a straight row, nearly in one, and several to be located in a grid.
"""

from __future__ import annotations

import argparse
import math
import random
import re
from collections.abc import Callable, Iterator
from itertools import count as from_0
from pathlib import Path

import elsewhere
import scores
import talk
import world
from options import whole
from PIL import Image, ImageDraw
from sample import Sample, View, ask

from qwen_ref.grounding import find_marks

COLOURS = {
    "red": "red", "blue": "blue", "green": "green", "yellow": "gold", "orange": "darkorange",
    "purple": "purple", "black": "black", "pink": "hotpink",
}  # fmt: skip
SHAPES = ["circle", "square", "triangle", "star"]
SIZES = [(320, 224), (384, 288), (480, 320), (640, 320), (640, 480), (256, 256)]
THING = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b")
SENTENCES = [150, 320, 600, 1200]  # around the fact: up to 1,936, 4,006, 7,260 and 14,575 tokens
REFUSALS = ("I don't know", "I have no tool")


def left_or_right(makes: Callable[[int], Sample], count: int) -> Iterator[bool]:
    """Of these samples the first that ask on which side one thing is of another; the verdict counts."""
    asked = 0
    for number in from_0():
        if asked == count:
            return
        made = makes(number)
        verdict = re.search(r"(left|right) of the [^.]*\.$", made.answer)
        if verdict and re.search("left or right|right or left", made.messages[-1]["content"][-1]["text"]):
            asked += 1
            yield f"{verdict[1]} of" in scores.answer(scores.model, made)


def facts(sentences: int, count: int) -> Iterator[bool]:
    """To the last letter, wherever it stands."""
    for number in range(count):
        made = talk.found(random.Random(f"long {sentences} {number}"), True, sentences)
        yield scores.answer(scores.model, made) == made.answer.strip()


def does_know(count: int) -> Iterator[bool]:
    """So many samples of each task that have another answer: which it does not refuse."""
    for task in world.TASKS:
        for number in range(5000, 5000 + count):
            made = scores.held_out(task, number)
            if not any(refusal in made.answer for refusal in REFUSALS):
                given = scores.answer(scores.model, made)
                yield not any(refusal in given for refusal in REFUSALS)


def said_of(picture: Image.Image, question: str) -> str:
    return scores.answer(scores.model, ask("scene", question, "", View("shapes", picture)))


def draw(pen: ImageDraw.ImageDraw, colour: str, shape: str, x: float, y: float, radius: float) -> None:
    paint = COLOURS[colour]
    if shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), paint)
    elif shape == "square":
        pen.rectangle((x - radius, y - radius, x + radius, y + radius), paint)
    elif shape == "triangle":
        pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], paint)
    else:
        turns = [(i * math.pi / 5, radius if i % 2 == 0 else 0.4 * radius) for i in range(10)]
        pen.polygon([(x + far * math.sin(turn), y - far * math.cos(turn)) for turn, far in turns], paint)


def rows(off: float, count: int) -> Iterator[bool]:
    """Three to six things in a row, each as much as `off` of the height above or below it: told in order."""
    for number in range(count):
        rng = random.Random(f"row {off} {number}")
        width, height = SIZES[number // 4 % len(SIZES)]
        things = 3 + number % 4
        picture = Image.new("RGB", (width, height), rng.choice(["white", "white", "lightgray", "ivory"]))
        radius = min(0.31 * width / things, height / 4) * rng.uniform(0.75, 1)
        told = []
        for i in range(things):
            told.append((rng.choice(list(COLOURS)), rng.choice(SHAPES)))
            y = height * (0.5 + rng.choice([-1, 1]) * rng.uniform(0.4, 1) * off)
            draw(ImageDraw.Draw(picture), *told[-1], (i + 0.5) * width / things, y, radius)
        yield THING.findall(said_of(picture, "What do you see?")) == told


def grids(count: int) -> Iterator[bool]:
    """Two or three of a shape among four to six things in a grid: each has one box around its middle."""
    for number in range(count):
        rng = random.Random(f"grid {number}")
        width, height = rng.choice(SIZES)
        picture = Image.new("RGB", (width, height), "white")
        shape, many, middles = rng.choice(SHAPES), rng.choice([2, 3]), []
        cells = [((i + 0.5) / 4, (j + 0.5) / 2) for i in range(4) for j in range(2)]
        for i, (x, y) in enumerate(rng.sample(cells, rng.choice([4, 5, 6]))):
            here = shape if i < many else rng.choice([other for other in SHAPES if other != shape])
            radius = min(width / 4, height / 2) * rng.uniform(0.25, 0.38)
            draw(ImageDraw.Draw(picture), rng.choice(list(COLOURS)), here, x * width, y * height, radius)
            middles += [(1000 * x, 1000 * y)] if here == shape else []
        question = f"Locate every {shape}. Answer with bbox_2d and label in JSON."
        boxes = [mark.coordinates for mark in find_marks(said_of(picture, question))]
        around = [
            [box for box in boxes if len(box) == 4 and box[0] < x < box[2] and box[1] < y < box[3]]
            for x, y in middles
        ]
        yield len(boxes) == len(middles) and all(len(found) == 1 for found in around)


PROBES: dict[str, Callable[[int], Iterator[bool]]] = {
    "left or right": lambda n: left_or_right(lambda i: world.sample("scene", scores.FIRST + i, test=True), n),
    "left or right, other code": lambda n: left_or_right(lambda i: elsewhere.sample("scene", i), n),
    **{f"a fact among {many} sentences": lambda n, many=many: facts(many, n) for many in SENTENCES},
    "not refused, of each task": does_know,
    "shapes in a row": lambda n: rows(0, n),
    "shapes nearly in a row": lambda n: rows(0.12, n),
    "several boxes in a grid": grids,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--count", type=whole(1, 10**4), default=60, help="samples of each row (60)")
    parser.add_argument("--rows", nargs="+", default=list(PROBES), choices=list(PROBES), metavar="ROW")
    args = parser.parse_args(arguments)
    scores.opened(args.model, parser)
    scores.open_model(args.model)
    print("| | right | of |\n|---|---:|---:|")
    for name in args.rows:
        right = list(PROBES[name](args.count))
        print(f"| {name} | {sum(right)} | {len(right)} |", flush=True)


if __name__ == "__main__":
    main()
