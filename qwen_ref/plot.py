"""Charts of lines and of bars, by hand: an SVG in the reader's light or dark colours, or a PNG in light ones.

A chart becomes a list of marks (lines, boxes, dots, texts, each with the name of a colour), which two short
functions draw, as SVG and with Pillow. In an SVG every dot and every bar has its value as a tooltip.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import NamedTuple

from qwen_ref.errors import QwenRefError
from qwen_ref.files import check_place, write_whole

ENDINGS = (".svg", ".png")
WIDTH, HEIGHT = 800, 460
TOP, BOTTOM, RIGHT = 88, 56, 30
ROW = 26  # from one bar to the next
LETTER = 6.6  # width of one, about
SIZE = 12
LONGEST = 44  # letters of a bar's name
SCALE = 2  # pixels of a PNG for one unit

COLOURS = {  # light, dark
    "paper": ("#ffffff", "#161a20"),
    "ink": ("#1d2430", "#e3e7ed"),
    "dim": ("#5b6573", "#97a1af"),
    "grid": ("#e3e6ea", "#333a44"),
    "bad": ("#c62828", "#ff7b72"),
    "series0": ("#1f6fd1", "#6cb0ff"),
    "series1": ("#b26a00", "#e0a040"),
    "series2": ("#0f8a7e", "#3fc1b0"),
    "series3": ("#8a5cc4", "#b491ea"),
    "series4": ("#a03a6b", "#e07aa8"),
    "series5": ("#7a8594", "#8b96a5"),
}
SERIES = [name for name in COLOURS if name.startswith("series")]


class Point(NamedTuple):
    """`name` goes before the values in its tooltip; a `bad` one is red."""

    x: float
    y: float
    name: str = ""
    bad: bool = False


@dataclass
class Lines:
    """Series of points by name, with x and y axes; those named in `unjoined` are dots without a line.

    `log` makes y logarithmic: what is 0 stands at the bottom, what is not finite at the top. `x_ticks` takes
    the place of numbers below.
    """

    title: str
    x: str
    y: str
    series: dict[str, list[Point]]
    unjoined: Sequence[str] = ()
    log: bool = False
    x_ticks: dict[float, str] | None = None


@dataclass
class Bars:
    """A bar for each name, all from the left; `log` as of Lines. `limit` is a line across them."""

    title: str
    x: str
    bars: dict[str, float]
    bad: set[str] = field(default_factory=set)
    log: bool = False
    limit: float | None = None


class Mark(NamedTuple):
    """kind: "line" (points), "box" (two corners), "dot" (a point), "start", "middle" or "end" (of a text)."""

    kind: str
    points: list[tuple[float, float]]
    colour: str
    text: str = ""  # of a box or a dot its tooltip


class Scale:
    """Values to places between `start` and `end`, and the ticks there. From 0 on, unless it is `tight`."""

    def __init__(self, values: Sequence[float], start: float, end: float, log: bool, tight: bool = False):
        finite = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
        low, high = (min(finite), max(finite)) if finite else (1.0, 1.0)
        self.log, self.start, self.end = log, start, end
        if log:
            self.low, self.high = float(math.floor(math.log10(low))), float(math.ceil(math.log10(high)))
            self.low -= any(v == 0 for v in values) or self.low == self.high
            every = max(1, math.ceil((self.high - self.low) / 9))
            self.ticks = [10.0**n for n in range(int(self.low), int(self.high) + 1, every)]
        else:
            low, high = (low, high) if tight else (min(low, 0.0), max(high, 0.0))
            high = high if high > low else low + (abs(low) or 1.0)
            step = nice((high - low) / 6)
            first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
            self.low, self.high = (low, high) if tight else (first * step, last * step)
            self.ticks = [n * step for n in range(first, last + 1) if self.low <= n * step <= self.high]

    def __call__(self, value: float) -> float:
        if self.log:
            value = math.log10(value) if 0 < value < math.inf else self.low if value == 0 else self.high
        if not math.isfinite(value):
            value = self.high
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def nice(step: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is as much."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= step * (1 - 1e-9))


def number(value: float) -> str:
    """Four digits of it: 1,234, 12.34, 1.2e-07."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if not 1e-3 <= abs(value) < 1e7:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def checked(path: str) -> Path:
    """Where a chart can be written; better known before measuring. Raises QwenRefError."""
    if (ending := Path(path).suffix.lower()) not in ENDINGS:
        raise QwenRefError(f"--plot {path}: the ending {ending!r} is not .svg or .png")
    check_place("--plot", path)
    return Path(path)


def write(path: str | os.PathLike[str], chart: Lines | Bars) -> None:
    """The chart as a file, whole or not at all. Raises QwenRefError if it is empty, or cannot be written."""
    count = len(chart.bars) if isinstance(chart, Bars) else sum(map(len, chart.series.values()))
    if not count:
        raise QwenRefError(f"--plot {path}: there are no figures to draw")
    height, marks = of_bars(chart) if isinstance(chart, Bars) else of_lines(chart)
    drawn = png(height, marks) if Path(path).suffix.lower() == ".png" else svg(height, marks, chart.title)
    with write_whole(path) as file:
        file.write(drawn)


def of_lines(chart: Lines) -> tuple[float, list[Mark]]:
    """Its height, and what is drawn."""
    points = [point for series in chart.series.values() for point in series]
    legend, at, top = list[tuple[float, float]](), 12.0, TOP
    for name in chart.series:
        if at > 12 and at + 15 + LETTER * len(name) > WIDTH:
            at, top = 12.0, top + 18
        legend.append((at, top - 36))
        at += 34 + LETTER * len(name)
    y = Scale([point.y for point in points], HEIGHT - BOTTOM, top, chart.log)
    left = 24 + LETTER * max(len(number(tick)) for tick in y.ticks)
    x = Scale([*(p.x for p in points), *(chart.x_ticks or {})], left, WIDTH - RIGHT, False, tight=True)
    marks = [Mark("start", [(12, 26)], "ink", chart.title), Mark("start", [(12, top - 16)], "dim", chart.y)]
    for tick in y.ticks:
        marks.append(Mark("line", [(left, y(tick)), (WIDTH - RIGHT, y(tick))], "grid"))
        marks.append(Mark("end", [(left - 8, y(tick) + 4)], "dim", number(tick)))
    free = 0.0
    for tick, label in (chart.x_ticks or {tick: number(tick) for tick in x.ticks}).items():
        marks.append(Mark("line", [(x(tick), HEIGHT - BOTTOM), (x(tick), HEIGHT - BOTTOM + 4)], "dim"))
        if x(tick) - LETTER * len(label) / 2 > free:  # none over another
            marks.append(Mark("middle", [(x(tick), HEIGHT - BOTTOM + 18)], "dim", label))
            free = x(tick) + LETTER * (len(label) / 2 + 1)
    marks.append(Mark("end", [(WIDTH - RIGHT, HEIGHT - 12)], "dim", chart.x))
    for i, ((name, series), (at, above)) in enumerate(zip(chart.series.items(), legend, strict=True)):
        colour = SERIES[i % len(SERIES)]
        places = [(x(point.x), y(point.y)) for point in series]
        if name not in chart.unjoined:
            marks.append(Mark("line", places, colour))
        for place, p in zip(places, series, strict=True):
            says = f"{p.name or f'{name}, {number(p.x)}'}: {number(p.y)}"
            marks.append(Mark("dot", [place], "bad" if p.bad else colour, says))
        marks.append(Mark("box", [(at, above - 10), (at + 10, above)], colour))
        marks.append(Mark("start", [(at + 15, above)], "ink", name))
    return HEIGHT, marks


def of_bars(chart: Bars) -> tuple[float, list[Mark]]:
    names = {name: name if len(name) <= LONGEST else name[: LONGEST - 1] + "…" for name in chart.bars}
    left = 24 + LETTER * max(map(len, names.values()))
    top, bottom = 44, 44 + ROW * len(names)
    limits = [] if chart.limit is None else [chart.limit]
    x = Scale([*chart.bars.values(), *limits], left, WIDTH - RIGHT - 50, chart.log)
    marks = [Mark("start", [(12, 26)], "ink", chart.title)]
    for tick in x.ticks:
        marks.append(Mark("line", [(x(tick), top), (x(tick), bottom)], "grid"))
        marks.append(Mark("middle", [(x(tick), bottom + 16)], "dim", number(tick)))
    for i, (name, value) in enumerate(chart.bars.items()):
        y, colour = top + ROW * i, "bad" if name in chart.bad else SERIES[0]
        says = f"{name}: {number(value)}"
        marks.append(Mark("end", [(left - 8, y + 17)], "ink", names[name]))
        marks.append(Mark("box", [(left, y + 4), (max(x(value), left + 1), y + ROW - 4)], colour, says))
        marks.append(Mark("start", [(x(value) + 6, y + 17)], "dim", number(value)))
    for limit in limits:
        marks.append(Mark("line", [(x(limit), top), (x(limit), bottom)], "bad"))
    marks.append(Mark("end", [(WIDTH - RIGHT, bottom + 34)], "dim", chart.x))
    return bottom + 46, marks


def svg(height: float, marks: list[Mark], title: str) -> bytes:
    def style(which: int) -> str:
        return "".join(f"--{name}: {pair[which]}; " for name, pair in COLOURS.items())

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" '
        f'font-size="{SIZE}">',
        f"<style>svg {{ {style(0)}}}",
        f"@media (prefers-color-scheme: dark) {{ svg {{ {style(1)}}} }}</style>",
        '<rect width="100%" height="100%" style="fill: var(--paper)"/>',
    ]
    for kind, points, colour, text in marks:
        (x, y), fill = points[0], f'style="fill: var(--{colour})"'
        tip = f"<title>{escape(text)}</title>" if text else ""
        if kind == "line":
            along = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
            lines.append(f'<polyline points="{along}" style="fill: none; stroke: var(--{colour})"/>')
        elif kind == "box":
            (right, bottom) = points[1]
            size = f'width="{right - x:.1f}" height="{bottom - y:.1f}"'
            lines.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} {fill}>{tip}</rect>')
        elif kind == "dot":
            lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" {fill}>{tip}</circle>')
        else:
            lines.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{kind}" {fill}>{escape(text)}</text>')
    return "\n".join([*lines, "</svg>", ""]).encode()


def png(height: float, marks: list[Mark]) -> bytes:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDTH * SCALE, int(height) * SCALE), COLOURS["paper"][0])
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(SIZE * SCALE)
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}  # left, middle or right, on the baseline
    for kind, points, name, text in marks:
        places, colour = [(a * SCALE, b * SCALE) for a, b in points], COLOURS[name][0]
        (x, y), r = places[0], 3 * SCALE
        if kind == "line":
            draw.line(places, colour, SCALE)
        elif kind == "box":
            draw.rectangle([*places[0], *places[1]], colour)
        elif kind == "dot":
            draw.ellipse([x - r, y - r, x + r, y + r], colour)
        else:
            draw.text((x, y), text, colour, font, anchors[kind])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
