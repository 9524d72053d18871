"""Pictures and clips of the world: coloured shapes, and words in several fonts."""

from __future__ import annotations

import functools
import importlib
import math
import random
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from words import COLOURS, SHAPES, WORDS

FRAMES, FRAME_SIZE = 8, 128  # of a clip: four time steps of 16 tokens
SIZES = [(256, 256), (320, 224), (224, 320)]  # of pictures, width and height: 64 or 70 tokens
FONTS = {  # package of PyPI -> its files
    "font_source_sans_pro": ["SourceSansPro-Regular.ttf", "SourceSansPro-BlackIt.ttf"],
    "font_source_serif_pro": ["SourceSerifPro-Regular.ttf", "SourceSerifPro-Semibold.ttf"],
    "font_caladea": ["Caladea-Regular.ttf", "Caladea-BoldItalic.ttf"],
    "font_manrope": ["Manrope-Regular.ttf", "Manrope-ExtraBold.ttf"],
    "font_fredoka_one": ["FredokaOne-Regular.ttf"],
}


@dataclass
class Thing:
    colour: str
    shape: str
    size: str  # "small" or "large"
    x: float  # of its centre, in pixels
    y: float
    radius: float

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def full_name(self) -> str:
        return f"{self.size} {self.colour} {self.shape}"

    def outline(self) -> list[tuple[float, float]]:
        """Corners [(x, y)]; a circle has 48."""
        return [(self.x + self.radius * u, self.y + self.radius * v) for u, v in unit_outline(self.shape)]

    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom, in pixels."""
        xs, ys = zip(*self.outline(), strict=True)
        return min(xs), min(ys), max(xs), max(ys)


@functools.cache
def unit_outline(shape: str) -> list[tuple[float, float]]:
    """Corners of a shape around 0, about 1 in radius; v points down."""

    def around(count: int, radii=(1.0,), turn=-math.pi / 2):
        angles = [turn + 2 * math.pi * i / count for i in range(count)]
        return [
            (radii[i % len(radii)] * math.cos(a), radii[i % len(radii)] * math.sin(a))
            for i, a in enumerate(angles)
        ]

    if shape == "circle":
        return around(48)
    if shape == "square":
        return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    if shape == "triangle":
        return [(0, -0.95), (1, 0.8), (-1, 0.8)]
    if shape == "star":
        return around(10, (1.1, 0.45))
    if shape == "diamond":
        return [(0, -1.1), (0.7, 0), (0, 1.1), (-0.7, 0)]
    turns = [2 * math.pi * i / 40 for i in range(40)]  # the heart
    wave = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in turns]
    return [(math.sin(t) ** 3, -w / 16) for t, w in zip(turns, wave, strict=True)]


def random_things(
    rng: random.Random, count: int, width: int, height: int, *, radii: dict[str, tuple[float, float]]
) -> list[Thing]:
    """Things apart from each other, no two in the same column or row: left, right, above are clear."""
    while True:
        things: list[Thing] = []
        for _ in range(40 * count):
            size = rng.choice(list(radii))
            radius = rng.uniform(*radii[size])
            edge = 1.15 * radius + 2
            x, y = rng.uniform(edge, width - edge), rng.uniform(edge, height - edge)
            apart = all(
                math.hypot(x - o.x, y - o.y) > 1.15 * (radius + o.radius) + 4
                and abs(x - o.x) > 12
                and abs(y - o.y) > 12
                for o in things
            )
            if apart:
                things.append(Thing(rng.choice(list(COLOURS)), rng.choice(SHAPES), size, x, y, radius))
            if len(things) == count:
                return things


def shade(rng: random.Random, colour: str, by: int = 14) -> tuple[int, ...]:
    return tuple(min(255, max(0, c + rng.randint(-by, by))) for c in COLOURS[colour])


def light(rng: random.Random) -> tuple[int, ...]:
    return tuple(rng.randint(228, 255) for _ in range(3))


def draw_things(things: list[Thing], colours, background, width: int, height: int) -> Image.Image:
    """Drawn at twice the size and halved: smooth edges."""
    picture = Image.new("RGB", (2 * width, 2 * height), background)
    pen = ImageDraw.Draw(picture)
    for thing, colour in zip(things, colours, strict=True):
        pen.polygon([(2 * x, 2 * y) for x, y in thing.outline()], fill=colour)
    return picture.reduce(2)


def scene(
    rng: random.Random, count: int, size: tuple[int, int] = (256, 256)
) -> tuple[Image.Image, list[Thing]]:
    """A picture of `count` things, and they from left to right."""
    things = random_things(rng, count, *size, radii={"small": (14, 19), "large": (29, 40)})
    picture = draw_things(things, [shade(rng, t.colour) for t in things], light(rng), *size)
    return picture, sorted(things, key=lambda t: t.x)


def something_else(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    """What is not of the world: a blur like a photograph's, a tangle, a page of small print, a screen."""
    width, height = size
    any_colour = lambda: tuple(rng.randrange(256) for _ in range(3))  # noqa: E731
    kind = rng.choice(["blur", "tangle", "page", "screen"])
    if kind == "blur":
        picture = Image.new("RGB", size)
        for cells in rng.sample([2, 3, 5, 8, 13, 21, 34, 89], rng.randint(1, 4)):  # coarse and fine
            noise = Image.frombytes("RGB", (cells, cells), rng.randbytes(3 * cells * cells))
            smooth = rng.choice([Image.Resampling.BICUBIC, Image.Resampling.NEAREST])
            picture = Image.blend(picture, noise.resize(size, smooth), rng.uniform(0.4, 1))
        return picture
    picture = Image.new("RGB", size, any_colour() if kind == "tangle" else light(rng))
    pen = ImageDraw.Draw(picture)
    if kind == "tangle":
        for _ in range(rng.randint(12, 120)):
            ends = [(rng.uniform(-20, width + 20), rng.uniform(-20, height + 20)) for _ in range(3)]
            if rng.random() < 0.5:
                pen.line(ends, any_colour(), rng.randint(1, 8))
            else:
                pen.polygon(ends, any_colour())
        return picture
    if kind == "screen":
        for _ in range(rng.randint(3, 12)):
            x, y = rng.uniform(0, width - 20), rng.uniform(0, height - 20)
            pen.rectangle((x, y, x + rng.uniform(20, width), y + rng.uniform(10, 60)), any_colour())
    package = rng.choice(list(FONTS))
    points = rng.randint(8, 12)
    for y in range(rng.randint(2, 20), height - points, rng.randint(points, 2 * points)):
        words = " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 9)))
        pen.text(
            (rng.randint(4, 40), y), words, shade(rng, "black"), font(package, FONTS[package][0], points)
        )
    return picture


STEPS = {"to the left": (-1, 0), "to the right": (1, 0), "up": (0, -1), "down": (0, 1)}


def clip(rng: random.Random, movers: int, still: int) -> tuple[np.ndarray, list[tuple[Thing, str]]]:
    """Frames uint8 [8, 128, 128, 3] and who moves where: the first all the time, or two in turn."""
    size = FRAME_SIZE
    while True:
        things = random_things(rng, movers + still, size, size, radii={"small": (11, 19)})
        if len({t.name for t in things}) < len(things):
            continue
        ways = [rng.choice(list(STEPS)) for _ in range(movers)]
        ends = []
        for thing, way in zip(things, ways, strict=False):
            far = rng.uniform(34, 60)
            ends.append((thing.x + far * STEPS[way][0], thing.y + far * STEPS[way][1]))
        inside = all(
            1.15 * t.radius < x < size - 1.15 * t.radius and 1.15 * t.radius < y < size - 1.15 * t.radius
            for t, (x, y) in zip(things, ends, strict=False)
        )
        if inside:
            break
    colours, background = [shade(rng, t.colour) for t in things], light(rng)
    starts = [(t.x, t.y) for t in things]
    frames = []
    for frame in range(FRAMES):
        for i, (x, y) in enumerate(ends):
            share = frame / (FRAMES - 1) if movers == 1 else min(1, max(0, frame / 3.5 - i))
            things[i].x = starts[i][0] + share * (x - starts[i][0])
            things[i].y = starts[i][1] + share * (y - starts[i][1])
        frames.append(np.asarray(draw_things(things, colours, background, size, size)))
    return np.stack(frames), list(zip(things, ways, strict=False))


@functools.cache
def font(package: str, file: str, points: int) -> ImageFont.FreeTypeFont:
    folder = Path(importlib.import_module(package).__file__).parent / "files"
    return ImageFont.truetype(folder / file, points, layout_engine=ImageFont.Layout.BASIC)


def lettering(
    rng: random.Random, lines: list[str], size: tuple[int, int] = (256, 256)
) -> tuple[Image.Image, list[list[tuple[str, float, float]]]]:
    """The lines, one under the other, in one font, dark on light or light on dark.

    And of each line its letters, with the middle of each, x and y.
    """
    width, height = size
    package = rng.choice(list(FONTS))
    file = rng.choice(FONTS[package])
    ink, paper = shade(rng, rng.choice([c for c in COLOURS if c not in ("yellow", "pink")]), 20), light(rng)
    if rng.random() < 0.25:
        ink, paper = paper, ink
    for points in range(rng.randrange(32, 57, 4), 15, -4):
        face = font(package, file, points)
        boxes = [face.getbbox(line) for line in lines]
        if max(b[2] for b in boxes) < width - 16 and 1.25 * points * len(lines) < height - 16:
            break
    picture = Image.new("RGB", size, paper)
    pen = ImageDraw.Draw(picture)
    pitch = min(rng.uniform(1.2, 1.5) * points, (height - 16) / len(lines))
    top = rng.uniform(8, max(9, height - 8 - pitch * len(lines)))
    letters = []
    for i, (line, box) in enumerate(zip(lines, boxes, strict=True)):
        x, y = rng.uniform(8, max(9, width - 8 - box[2])), top + i * pitch
        pen.text((x, y), line, ink, face)
        ends = [face.getlength(line[:n]) for n in range(len(line) + 1)]
        middle = y + (box[1] + box[3]) / 2
        letters.append(
            [(letter, x + (a + b) / 2, middle) for letter, (a, b) in zip(line, pairwise(ends), strict=True)]
        )
    return picture, letters
