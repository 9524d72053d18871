"""A comparison as a page: the verdict, the error of every tensor against the budgets, and the table.

One HTML file without scripts or anything to load, in the reader's light or dark colours.
"""

from __future__ import annotations

import math
import os
import re
from html import escape
from itertools import groupby

from qwen_ref.files import write_whole
from qwen_ref.oracle.budget import SLACK, UNIT
from qwen_ref.oracle.check import some, unknown_of, verdict
from qwen_ref.oracle.compare import Difference, Report, times
from qwen_ref.oracle.golden import Entry, Golden

WIDTH, HEIGHT = 1120, 420  # of the chart
LEFT, RIGHT, TOP, BOTTOM = 64, 78, 34, 28  # of which the margins are so much
LABEL = 15  # from one line's name to the next, at least

STYLE = """
:root { color-scheme: light dark;
  --ink: #1d2430; --dim: #667080; --faint: #e3e6ea; --paper: #fff; --stripe: #f5f6f8;
  --good: #1f6fd1; --bad: #c62828; --bad-paper: #fdecea;
  --float64: #7a8594; --float32: #0f8a7e; --float16: #8a5cc4; --bfloat16: #b26a00; --int8: #a03a6b; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e3e7ed; --dim: #97a1af; --faint: #333a44; --paper: #161a20; --stripe: #1c2128;
  --good: #6cb0ff; --bad: #ff7b72; --bad-paper: #3a1f20;
  --float64: #8b96a5; --float32: #3fc1b0; --float16: #b491ea; --bfloat16: #e0a040; --int8: #e07aa8; } }
body { margin: 0 auto; max-width: 1120px; padding: 28px 20px 60px;
  background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 15px; font-weight: 500; color: var(--dim); margin: 0 0 10px; }
h2 { font-size: 17px; margin: 34px 0 4px; }
.verdict { font-size: 21px; line-height: 1.35; font-weight: 600; margin: 0; text-wrap: pretty;
  border-left: 5px solid var(--good); padding-left: 14px; }
.verdict.bad { border-color: var(--bad); }
.cause { font-size: 17px; margin: 6px 0 0; padding-left: 19px; }
.note { color: var(--dim); margin: 12px 0 0; padding-left: 19px; }
figure { margin: 0; }
figcaption, details p { color: var(--dim); font-size: 13.5px; }
svg { display: block; width: 100%; height: auto; margin-top: 8px; font: 12px system-ui, sans-serif; }
svg text { fill: var(--dim); }
.stripe { fill: var(--stripe); }
.grid { stroke: var(--faint); }
.within { fill: var(--good); opacity: .07; }
.line { fill: none; stroke-width: 1.2; stroke-linejoin: round; opacity: .6; }
.line.allowed { stroke-width: 2.4; opacity: 1; }
svg text.allowed { font-weight: 700; }
.dot { fill: var(--good); }
.dot.bad { fill: var(--bad); }
.ring { fill: none; stroke: var(--bad); stroke-width: 2; }
.drop { stroke: var(--bad); stroke-dasharray: 3 4; }
svg text.first { fill: var(--bad); font-weight: 600; font-size: 13px; }
table { border-collapse: collapse; width: 100%; margin-top: 8px;
  font-variant-numeric: tabular-nums; font-size: 13.5px; }
th, td { padding: 3px 10px; white-space: nowrap; text-align: right; }
th { color: var(--dim); font-weight: 500; position: sticky; top: 0; background: var(--paper); }
td { border-top: 1px solid var(--faint); }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left; }
td:first-child, code { font-family: ui-monospace, monospace; font-size: 13px; }
tr.bad td:nth-child(n+5) { color: var(--bad); }
tr.first td { background: var(--bad-paper); }
tr.first td:first-child { font-weight: 700; }
tr:target td { background: var(--stripe); }
@media (max-width: 820px) { table { display: block; overflow-x: auto; } }
details { margin-top: 12px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; margin: 8px 0 0;
  font-size: 13.5px; }
dt { color: var(--dim); }
dd { margin: 0; overflow-wrap: anywhere; }
"""
STYLE += "".join(
    f".line.{kind} {{ stroke: var(--{kind}); }} svg text.{kind} {{ fill: var(--{kind}); }}\n" for kind in UNIT
)


def write_page(path: str | os.PathLike[str], golden: Golden, report: Report, names: tuple[str, str]) -> None:
    """`names` are those of the golden and of what was compared with it. Raises QwenRefError if it cannot."""
    with write_whole(path) as file:
        file.write(page(golden, report, names).encode())


def page(golden: Golden, report: Report, names: tuple[str, str]) -> str:
    """The HTML of it. All that comes from files is escaped."""
    title = f"{names[1]} beside {names[0]}"
    bad = report.complaint is not None
    cause = ""
    if report.first:
        sentence = (
            f"Likely cause: {report.cause}." if report.cause else "No known mistake does this to a tensor."
        )
        cause = f'<p class="cause">{escape(sentence)}</p>'
    notes = [f"{len(report.differences)} of {len(golden.entries)} tensors were given."]
    if report.logits:
        logits = ", ".join(f"{name} {value:.3g}" for name, value in report.logits.items())
        notes.append(f"Logits, of {report.scope}: {logits}.")
    else:
        notes.append("No logits were given." if not report.scope else f"Logits: {report.scope}.")
    if report.decoding:
        notes.append(f"Decoding: {report.decoding}.")
    if report.unknown:
        notes.append(f"Not compared, since the golden does not have them: {some(unknown_of(report))}.")
    about = {key: value for key, value in golden.about.items() if value is not None}
    missing = ""
    if report.missing:
        absent = ", ".join(f"<code>{escape(name)}</code>" for name in report.missing)
        missing = f"<details><summary>{len(report.missing)} were not given</summary><p>{absent}</p></details>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p class="verdict{" bad" * bad}">{escape(verdict(report)).replace(" ×", "&nbsp;×")}.</p>{cause}
<p class="note">{escape(" ".join(notes))}</p>
<figure><h2>Error by layer</h2>
<figcaption>Each dot is a tensor, in the order in which the model computes them: the rms of its error as a
share of its own rms. A line is the budget of an arithmetic: how far an engine that computes in it may be from
the exact values. In the tinted part {escape(report.allowed)} explains the error; a red dot in there has
single values that are too far off.</figcaption>
{chart(golden, report)}</figure>
<h2>Every tensor</h2>
{table(report)}
{missing}
<h2>The golden</h2>
<dl>{"".join(f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in about.items())}</dl>
</body></html>
"""


def table(report: Report) -> str:
    heads = "tensor", "error / rms", "largest error", "cosine", "of the budget", "explained by"
    rows = []
    for d in report.differences:
        share = d.share[report.allowed]
        kind = "bad first" if d is report.first else "bad" if share > 1 else ""
        cells = (
            d.name,
            f"{d.relative:.1e}",
            f"{d.max:.1e}",
            f"{d.cosine:.8f}",
            times(share),
            d.explained or "nothing",
        )
        row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr id="{escape(d.name)}" class="{kind}">{row}</tr>')
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n" + "\n".join(rows) + "\n</tbody></table>"


def layer_of(name: str) -> str:
    """layers.3.mlp.gated -> layers.3, mtp.norm -> mtp; of what belongs to no layer nothing."""
    match = re.match(r"(?:.*\.)?(?:layers|blocks)\.\d+(?=\.)|mtp(?=\.)", name)
    return match.group() if match else ""


class Axes:
    """Where a tensor and an error stand in the chart: 0 at the bottom, and what is not finite at the top."""

    def __init__(self, count: int, values: list[float]):
        exponents = [math.log10(v) for v in values if 0 < v < math.inf]
        self.low, self.high = math.floor(min(exponents)) - 1, max(0, math.ceil(max(exponents)))
        self.step = (WIDTH - LEFT - RIGHT) / count
        self.decade = (HEIGHT - TOP - BOTTOM) / (self.high - self.low)

    def x(self, index: float) -> float:
        return LEFT + index * self.step

    def y(self, value: float) -> float:
        exponent = self.low if value == 0 else math.log10(value) if math.isfinite(value) else self.high
        return TOP + (self.high - exponent) * self.decade


def chart(golden: Golden, report: Report) -> str:
    """An SVG: dots are the errors, lines the budgets, both as shares of the tensor's rms, on a log scale."""
    names = list(golden.entries)
    kinds = {kind for entry in golden.entries.values() for kind in entry.errors} | {report.allowed}
    budgets = {
        kind: [budget(entry, kind) for entry in golden.entries.values()] for kind in UNIT if kind in kinds
    }
    errors = [d.relative for d in report.differences]
    at = Axes(len(names), [*errors, *(value for line in budgets.values() for value in line)])
    parts = [*bands(names, at), *grid(at), *lines(budgets, report.allowed, at)]
    index = {name: i for i, name in enumerate(names)}
    if report.first:
        parts += first_mark(report.first, at.x(index[report.first.name] + 0.5), at)
    radius = min(3.6, max(1.5, at.step / 2.4))
    for d in report.differences:
        share = d.share[report.allowed]
        says = f"{d.name}: error {d.relative:.1e}, {times(share)} of what {report.allowed} may be off by"
        parts.append(
            f'<a href="#{escape(d.name)}"><circle class="dot{" bad" if share > 1 else ""}" '
            f'cx="{at.x(index[d.name] + 0.5):.1f}" cy="{at.y(d.relative):.1f}" r="{radius:.1f}">'
            f"<title>{escape(says)}</title></circle></a>"
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Error by layer">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def budget(entry: Entry, kind: str) -> float:
    """What a whole tensor's error may be in rms, as compare.difference has it, by the tensor's rms."""
    rms = entry.errors.get(kind, (0.0, 0.0))[0]
    return max(SLACK[kind] * rms / (entry.rms or 1.0), UNIT[kind])


def bands(names: list[str], at: Axes) -> list[str]:
    """A stripe for every other layer, and numbers below them as long as there is room."""
    parts, start, room, kind = [], 0, -math.inf, ""
    for number, (layer, inside) in enumerate(groupby(names, layer_of)):
        end = start + len(list(inside))
        left, right = at.x(start), at.x(end)
        if number % 2:
            parts.append(
                f'<rect class="stripe" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" '
                f'height="{HEIGHT - TOP - BOTTOM}"><title>{escape(layer)}</title></rect>'
            )
        before, (path, _, n) = kind, layer.rpartition(".")
        kind = path.rpartition(".")[2].removesuffix("s") or kind
        label = n if kind == before else f"{kind} {n}"
        middle, half = (left + right) / 2, 3.5 * len(label) + 3
        if label and layer and middle - half > room:
            parts.append(
                f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{label}</text>'
            )
            room = middle + half
        start = end
    return parts


def grid(at: Axes) -> list[str]:
    parts = []
    every = max(1, math.ceil(18 / at.decade))
    for exponent in range(at.low, at.high + 1):
        if exponent % every == 0 or exponent == at.low:
            y = TOP + (at.high - exponent) * at.decade
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            label = "0" if exponent == at.low else "1" if exponent == 0 else f"1e{exponent}"
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    parts.append(f'<text x="{LEFT - 8}" y="{TOP - 16}" text-anchor="end">error</text>')
    return parts


def lines(budgets: dict[str, list[float]], allowed: str, at: Axes) -> list[str]:
    """The budgets as steps, the allowed one last and with a tint below; their names at their ends."""
    parts = []
    for kind in sorted(budgets, key=lambda kind: kind == allowed):
        steps = " ".join(
            f"{'L' if i else 'M'}{at.x(i):.1f} {at.y(v):.1f}H{at.x(i + 1):.1f}"
            for i, v in enumerate(budgets[kind])
        )
        if kind == allowed:
            parts.append(f'<path class="within" d="{steps} V{HEIGHT - BOTTOM} H{LEFT} Z"/>')
        parts.append(f'<path class="line {kind}{" allowed" * (kind == allowed)}" d="{steps}"/>')
    free = -math.inf  # labels from the top down, none over another
    for kind in sorted(budgets, key=lambda kind: at.y(budgets[kind][-1])):
        free = max(free + LABEL, at.y(budgets[kind][-1]))
        parts.append(
            f'<text class="{kind}{" allowed" * (kind == allowed)}" '
            f'x="{WIDTH - RIGHT + 8}" y="{free + 4:.1f}">{kind}</text>'
        )
    return parts


def first_mark(first: Difference, x: float, at: Axes) -> list[str]:
    y = at.y(first.relative)
    on_the_left = x > WIDTH / 2
    return [
        f'<line class="drop" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{HEIGHT - BOTTOM}"/>',
        f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="7.5"/>',
        f'<text class="first" x="{x + (-6 if on_the_left else 6):.1f}" y="{TOP - 12}" '
        f'text-anchor="{"end" if on_the_left else "start"}">{escape(first.name)}</text>',
    ]
