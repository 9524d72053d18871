"""Pictures and clips of coloured shapes, in many manners of drawing."""

from __future__ import annotations

import functools
import importlib
import io
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from words import COLOURS, SHAPES, WORDS

Colour = tuple[int, ...]
Size = tuple[int, int]  # width and height
Letters = list[tuple[str, float, float]]  # of a line: each letter, spaces too, and its middle
MOST_THINGS = 8
FRAMES = 8  # of a clip of four seconds
FONTS = {  # package of PyPI -> its files; Pillow's own font is one more
    "font_source_sans_pro": ["SourceSansPro-Regular.ttf", "SourceSansPro-BlackIt.ttf"],
    "font_source_serif_pro": ["SourceSerifPro-Regular.ttf", "SourceSerifPro-Semibold.ttf"],
    "font_caladea": ["Caladea-Regular.ttf", "Caladea-BoldItalic.ttf"],
    "font_manrope": ["Manrope-Regular.ttf", "Manrope-ExtraBold.ttf"],
    "font_fredoka_one": ["FredokaOne-Regular.ttf"],
    "font_lato": ["Lato-Regular.ttf", "Lato-Italic.ttf", "Lato-Bold.ttf"],
    "font_hanken_grotesk": ["HankenGrotesk-Regular.otf", "HankenGrotesk-Bold.otf"],
    "font_fjallaone": ["FjallaOne-Regular.ttf"],
    "font_intuitive": ["Intuitive.ttf"],
    "matplotlib": [
        "DejaVuSans.ttf",
        "DejaVuSans-Bold.ttf",
        "DejaVuSans-Oblique.ttf",
        "DejaVuSerif.ttf",
        "DejaVuSansMono.ttf",
        "STIXGeneral.ttf",
    ],
    "": ["Pillow"],
}
INSIDE = {"matplotlib": "mpl-data/fonts/ttf"}  # where a package has them, if not in files
COMMON = ["matplotlib", "", "font_lato", "font_source_sans_pro"]  # like what is on most machines


@functools.cache
def font(package: str, file: str, points: int) -> ImageFont.FreeTypeFont:
    if not package:
        return ImageFont.load_default(points)
    folder = Path(importlib.import_module(package).__file__).parent / INSIDE.get(package, "files")
    return ImageFont.truetype(folder / file, points, layout_engine=ImageFont.Layout.BASIC)


@dataclass
class Thing:
    colour: str
    shape: str
    x: float  # of its centre, in pixels
    y: float
    radius: float
    turn: float = 0.0  # radians

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    def outline(self) -> list[tuple[float, float]]:
        """Corners [(x, y)]; a circle has 48."""
        c, s, r = math.cos(self.turn), math.sin(self.turn), self.radius
        return [(self.x + r * (c * u - s * v), self.y + r * (s * u + c * v)) for u, v in unit(self.shape)]

    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom, in pixels."""
        xs, ys = zip(*self.outline(), strict=True)
        return min(xs), min(ys), max(xs), max(ys)


@functools.cache
def unit(shape: str) -> list[tuple[float, float]]:
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


TILT = dict(circle=0.0, square=0.15, triangle=0.3, star=0.6, diamond=0.12, heart=0.3)  # radians, at most


def random_things(
    rng: random.Random,
    count: int,
    size: Size,
    radii: tuple[float, float],
    close: bool = False,
    shapes: Sequence[str] = SHAPES,
    paints: Sequence[str] = tuple(COLOURS),
    apart: float = 0.035,
) -> list[Thing]:
    """Things of which no two are in the same column or row: left, right, above are clear.

    `radii` are shares of the shorter side, and so is how far `apart` they are both ways. If `close`, they may
    overlap a little.
    """
    width, height = size
    side = min(size)
    gap, away = (0.85, 0.0) if close else (1.15, 0.015 * side)
    apart_by = 1 + apart * side
    low, high = radii
    while True:
        things: list[Thing] = []
        for _ in range(30 * count):
            radius = side * low * (high / low) ** rng.random()
            edge = 1.15 * radius + 2
            x, y = rng.uniform(edge, width - edge), rng.uniform(edge, height - edge)
            if all(
                math.hypot(x - o.x, y - o.y) > gap * (radius + o.radius) + away
                and abs(x - o.x) > apart_by
                and abs(y - o.y) > apart_by
                for o in things
            ):
                shape = rng.choice(shapes)
                turn = rng.uniform(-1, 1) * TILT[shape] if rng.random() < 0.3 else 0.0
                things.append(Thing(rng.choice(paints), shape, x, y, radius, turn))
            if len(things) == count:
                return things
        high, apart_by = max(low, 0.8 * high), 0.9 * apart_by  # it is full: make room
        if high == low:
            low *= 0.9


def arranged_things(
    rng: random.Random, count: int, size: Size, low: float, shapes: Sequence[str], paints: Sequence[str]
) -> list[Thing] | None:
    """In a row, a column or a grid, evenly and mostly of one size, as people draw them; None if too small.

    Without any in its training a model told 12 of 192 rows of three to six shapes rightly.
    """
    width, height = size
    across = rng.choice([n for n in range(1, count + 1) if count % n == 0])
    down, spread = count // across, rng.uniform(0.7, 1)
    step_x, step_y = spread * width / across, spread * height / down
    left, top = rng.uniform(0, width * (1 - spread)), rng.uniform(0, height * (1 - spread))
    most, least = min(min(step_x, step_y) / 2.4 - 1, 0.24 * min(size)), low * min(size)
    if most < least:
        return None
    radius, alike, things = rng.uniform(least, most), rng.random() < 0.7, []
    for i, j in product(range(across), range(down)):
        shape = rng.choice(shapes)
        x, y = left + (i + 0.5) * step_x, top + (j + 0.5) * step_y
        things.append(Thing(rng.choice(paints), shape, x, y, radius if alike else rng.uniform(least, most)))
    return things


def all_but_one_alike(rng: random.Random, things: list[Thing]) -> None:
    """One of another colour, of another shape, or of both."""
    one, kind, colour, shape = rng.choice(things), rng.random(), things[0].colour, things[0].shape
    for thing in things:
        thing.colour, thing.shape = colour, shape
    if kind < 0.6:
        one.colour = rng.choice([other for other in COLOURS if other != colour])
    if kind > 0.4:
        one.shape = rng.choice([other for other in SHAPES if other != shape])


IS_FARTHER = 0.03  # of the width or height: of two things that lie nearer nobody sees which comes first


def columns(things: list[Thing], width: int) -> list[list[Thing]]:
    """From left to right, in each from top to bottom: by their middles alone the order of two that stand
    nearly in one column could not be seen."""
    found: list[list[Thing]] = []
    for thing in sorted(things, key=lambda t: t.x):
        if found and thing.x - found[-1][-1].x < IS_FARTHER * width:
            found[-1].append(thing)
        else:
            found.append([thing])
    return [sorted(column, key=lambda t: t.y) for column in found]


def shade(rng: random.Random, colour: str, by: int = 12) -> Colour:
    return tuple(min(255, max(0, c + rng.randint(-by, by))) for c in rng.choice(COLOURS[colour]))


def light(rng: random.Random) -> Colour:
    return tuple(rng.randint(228, 255) for _ in range(3))


def any_colour(rng: random.Random) -> Colour:
    return tuple(rng.randrange(256) for _ in range(3))


def distance(one: Colour, other: Colour) -> float:
    return math.dist(one, other)


def paper(rng: random.Random) -> Colour:
    """A background's colour: mostly light."""
    kind = rng.random()
    if kind < 0.25:
        return (255, 255, 255)
    if kind < 0.65:
        return light(rng)
    if kind < 0.75:
        return tuple([rng.choice([0, 0, 20, 30, 40])] * 3)
    return any_colour(rng)


def visible(rng: random.Random, colour: str, background: Colour) -> Colour | None:
    """A shade of it that stands out, if there is one."""
    for _ in range(4):
        if distance(found := shade(rng, colour), background) > 90:
            return found
    return None


def gradient(size: Size, one: Colour, other: Colour, across: bool) -> Image.Image:
    ends = Image.new("RGB", (2, 1) if across else (1, 2), one)
    ends.putpixel((1, 0) if across else (0, 1), other)
    return ends.resize(size, Image.Resampling.BILINEAR)


def background(rng: random.Random, size: Size) -> tuple[Image.Image, Colour]:
    """Plain, a gradient, or stripes; and about which colour it has."""
    colour = paper(rng)
    kind = rng.random()
    if kind < 0.7:
        return Image.new("RGB", size, colour), colour
    other = tuple(min(255, max(0, c + rng.randint(-35, 35))) for c in colour)
    if kind < 0.85:
        return gradient(size, colour, other, rng.random() < 0.5), colour
    picture = Image.new("RGB", size, colour)
    pen = ImageDraw.Draw(picture)
    step, wide = rng.randint(8, 60), rng.randint(1, 8)
    for at in range(0, max(size), step):
        if kind < 0.95:
            pen.line([(at, 0), (at, size[1])], other, wide)
        if kind > 0.9:
            pen.line([(0, at), (size[0], at)], other, wide)
    return picture, colour


def draw_things(
    things: list[Thing],
    colours: list[Colour],
    picture: Image.Image,
    smooth: bool = True,
    manner: str = "plain",
    line: Colour = (0, 0, 0),
) -> Image.Image:
    """On the picture. Smooth edges are drawn at twice the size and halved."""
    scale = 2 if smooth else 1
    if smooth:
        picture = picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    for thing, colour in zip(things, colours, strict=True):
        corners = [(scale * x, scale * y) for x, y in thing.outline()]
        wide = max(2, round(scale * thing.radius * (0.08 if manner == "edged" else 0.16)))
        if manner == "hollow":
            pen.line([*corners, *corners[:2]], colour, wide, joint="curve")
        elif manner == "gradient":
            left, top, right, bottom = (round(scale * e) for e in thing.box())
            size = (right - left + 1, bottom - top + 1)
            mask = Image.new("L", size)
            ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in corners], fill=255)
            darker = tuple(c * 3 // 4 for c in colour)
            picture.paste(gradient(size, colour, darker, thing.x > thing.y), (left, top), mask)
        else:
            pen.polygon(corners, fill=colour)
            if manner == "edged":
                pen.line([*corners, *corners[:2]], line, wide, joint="curve")
    return picture.reduce(2) if smooth else picture


def worn(rng: random.Random, picture: Image.Image) -> Image.Image:
    """Sometimes with noise, or as JPEG keeps it."""
    kind = rng.random()
    if kind < 0.1:
        strength = rng.randint(4, 24)
        numbers = np.random.default_rng(rng.getrandbits(32))
        noise = numbers.integers(-strength, strength, (picture.height, picture.width, 1), np.int16)
        return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))
    if kind < 0.22:
        file = io.BytesIO()
        picture.save(file, "jpeg", quality=rng.randint(35, 92))
        return Image.open(file).convert("RGB")
    return picture


def colour_name(colour: Colour) -> str | None:
    """If it is clearly one of the world's colours, which."""
    near = [name for name, anchors in COLOURS.items() if min(distance(colour, at) for at in anchors) < 45]
    return near[0] if len(near) == 1 and (near[0] != "white" or min(colour) > 247) else None


def scene(rng: random.Random, count: int, size: Size) -> tuple[Image.Image, list[Thing], str | None]:
    """A picture of `count` things, they from left to right, and the colour behind them, where that is clear.

    In a third there are few shapes and colours, so that many are alike.
    In half two may stand nearly in one column or row, as where people scatter shapes: of ten pictures with
    two things to be located less than 3 % of the width apart eight were told wrongly, of 191 others 20.
    A third is drawn smaller and enlarged, as the engine does with small pictures; large ones mostly are.
    """
    width, height = size
    small = rng.random() < (0.3 if width * height < 300_000 else 0.8)
    scale = rng.uniform(0.3, 0.9) if small else 1.0
    drawn = (max(48, round(width * scale)), max(48, round(height * scale))) if small else size
    low = 0.055 if min(drawn) > 150 else 0.09
    shapes, paints, close = SHAPES, list(COLOURS), rng.random() < 0.15
    if rng.random() < 0.33:
        shapes, paints = rng.sample(shapes, rng.choice([1, 2, 2, 3])), rng.sample(paints, rng.randint(1, 4))
    arranged = rng.random() < 0.3 and arranged_things(rng, count, drawn, low, shapes, paints)
    apart = rng.choice([0.035, 0.004])
    things = arranged or random_things(rng, count, drawn, (low, 0.24), close, shapes, paints, apart)
    if count > 2 and rng.random() < 0.06:
        all_but_one_alike(rng, things)
    picture, colour = background(rng, drawn)
    ground = colour_name(colour) if picture.getcolors(1) else None
    manner = rng.choices(["plain", "edged", "hollow", "gradient"], [60, 16, 10, 14])[0]
    line = any_colour(rng) if rng.random() < 0.3 else (0, 0, 0)
    colours = []
    for thing in things:
        while not (found := visible(rng, thing.colour, colour)):
            thing.colour = rng.choice(list(COLOURS))  # any: of the few perhaps none stands out
        colours.append(found)
    smooth = rng.random() < 0.65 and drawn[0] * drawn[1] < 400_000
    picture = worn(rng, draw_things(things, colours, picture, smooth, manner, line))
    if small:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
        across, down = width / drawn[0], height / drawn[1]
        for thing in things:
            thing.x, thing.y, thing.radius = thing.x * across, thing.y * down, thing.radius * across
    return picture, [thing for column in columns(things, width) for thing in column], ground


def something_else(rng: random.Random, size: Size) -> Image.Image:
    """What is not of the world: a blur like a photograph's, or a tangle."""
    width, height = size
    if rng.random() < 0.6:
        picture = Image.new("RGB", size)
        for cells in rng.sample([2, 3, 5, 8, 13, 21, 34, 89], rng.randint(1, 4)):  # coarse and fine
            noise = Image.frombytes("RGB", (cells, cells), rng.randbytes(3 * cells * cells))
            smooth = rng.choice([Image.Resampling.BICUBIC, Image.Resampling.NEAREST])
            picture = Image.blend(picture, noise.resize(size, smooth), rng.uniform(0.4, 1))
        return picture
    picture = Image.new("RGB", size, any_colour(rng))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.randint(12, 120)):
        ends = [(rng.uniform(-20, width + 20), rng.uniform(-20, height + 20)) for _ in range(3)]
        if rng.random() < 0.5:
            pen.line(ends, any_colour(rng), rng.randint(1, 8))
        else:
            pen.polygon(ends, any_colour(rng))
    return picture


STEPS = {"to the left": (-1, 0), "to the right": (1, 0), "up": (0, -1), "down": (0, 1)}


def clip(
    rng: random.Random, movers: int, still: int, size: Size, frames: int
) -> tuple[np.ndarray, list[tuple[Thing, str]], list[Thing]]:
    """Frames uint8 [T, H, W, 3], who moves where, one after the other, and all things."""
    side = min(size)
    while True:
        things = random_things(rng, movers + still, size, (0.08, 0.15))
        if len({t.name for t in things}) < len(things):
            continue
        ways = [rng.choice(list(STEPS)) for _ in range(movers)]
        ends = []
        for thing, way in zip(things, ways, strict=False):
            far = rng.uniform(0.26, 0.48) * side
            ends.append((thing.x + far * STEPS[way][0], thing.y + far * STEPS[way][1]))
        if all(
            1.15 * t.radius < x < size[0] - 1.15 * t.radius
            and 1.15 * t.radius < y < size[1] - 1.15 * t.radius
            for t, (x, y) in zip(things, ends, strict=False)
        ):
            break
    ground, colour = background(rng, size)
    colours = []
    for thing in things:
        while (
            not (found := visible(rng, thing.colour, colour))
            or [t.name for t in things].count(thing.name) > 1
        ):
            thing.colour = rng.choice(list(COLOURS))
        colours.append(found)
    manner = rng.choice(["plain", "plain", "plain", "edged", "hollow"])
    starts = [(t.x, t.y) for t in things]
    smooth = rng.random() < 0.7
    shown = []
    for frame in range(frames):
        for i, (x, y) in enumerate(ends):
            share = frame / (frames - 1) if movers == 1 else frame * movers / (frames - 1) - i
            share = min(1.0, max(0.0, share))
            things[i].x = starts[i][0] + share * (x - starts[i][0])
            things[i].y = starts[i][1] + share * (y - starts[i][1])
        shown.append(np.asarray(draw_things(things, colours, ground.copy(), smooth, manner)))
    return np.stack(shown), list(zip(things, ways, strict=False)), things


def random_font(rng: random.Random, points: int, text: str = "") -> ImageFont.FreeTypeFont:
    """One that has the letters of this text: Pillow's own has no €."""
    package = rng.choice(COMMON if rng.random() < 0.4 else list(FONTS))
    if not package and not text.isascii():
        return random_font(rng, points, text)
    return font(package, rng.choice(FONTS[package]), points)


def ink_on(rng: random.Random, ground: Colour) -> Colour:
    """A colour of letters that can be read on it."""
    if rng.random() < 0.4:
        return (0, 0, 0) if sum(ground) > 380 else (255, 255, 255)
    for _ in range(9):
        found = any_colour(rng)
        if abs(sum(found) - sum(ground)) > 280:
            return found
    return (0, 0, 0) if sum(ground) > 380 else (255, 255, 255)


def write(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, ink: Colour, face: ImageFont.FreeTypeFont
) -> Letters:
    """Writes one line; its letters with the middle of each."""
    pen.text(at, text, ink, face)
    x, y = at
    ends = [face.getlength(text[:n]) for n in range(len(text) + 1)]
    box = face.getbbox(text)
    middle = y + (box[1] + box[3]) / 2
    return [(letter, x + (ends[i] + ends[i + 1]) / 2, middle) for i, letter in enumerate(text)]


def small_print(rng: random.Random, size: Size) -> Image.Image:
    """A page too small to be read."""
    picture = Image.new("RGB", size, light(rng))
    pen = ImageDraw.Draw(picture)
    points = rng.randint(5, 8)
    face = random_font(rng, points)
    for y in range(rng.randint(2, 20), size[1] - points, rng.randint(points, 2 * points)):
        pen.text(
            (rng.randint(4, 40), y), " ".join(rng.choice(WORDS) for _ in range(rng.randint(4, 14))), 0, face
        )
    return picture
