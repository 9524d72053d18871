"""Draw what the small model answers, one card for each use: python examples/answers.py docs/answers.png

The answers are asked for when this runs, and kept in the file's text, where a test compares them.
"""

from __future__ import annotations

import argparse
import io
import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

import qwen_ref
from qwen_ref.grounding import draw_marks, find_marks

HERE = Path(__file__).parent
WIDTH, PICTURE, EDGE, COLUMNS = 380, 190, 14, 3  # of a card; the height of what it shows; between cards
TEXT, QUESTION, PAPER, CARD = "#1d2733", "#52606d", "#eef1f4", "#ffffff"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@dataclass
class Use:
    question: str
    picture: str | None = None  # a file of examples/media, or what `drawn` draws
    clip: str | None = None
    options: dict[str, Any] | None = None


USES = [
    Use("What do you see?", "scene"),
    Use("How many stars are there?", "scene"),
    Use("Is the red circle left or right of the blue square?", "scene"),
    Use("Locate every star. Answer with bbox_2d and label in JSON.", "scene"),
    Use("What does it say?", "sign"),
    Use("Give the receipt as JSON with the keys shop, items (name, price each), total.", "bill"),
    Use("Press Continue. Answer with action and coordinate in JSON.", "screen.png"),
    Use("What happens in this clip?", clip="ball.mp4"),
    Use("What is 4718 + 356?", options={"thinking": True}),
    Use("What is the weather in Oslo?", options={"tools": [WEATHER]}),
    Use("How do you say 'a red star' in Spanish?"),
    Use("Why is the sky blue?"),
]


def drawn(name: str) -> Image.Image:
    """Pictures as anyone would draw them with Pillow."""
    size = {"scene": (640, 480), "sign": (480, 240), "bill": (360, 360)}[name]
    picture = Image.new("RGB", size, {"scene": "white", "sign": "navy", "bill": "white"}[name])
    pen = ImageDraw.Draw(picture)
    if name == "scene":
        pen.ellipse((60, 80, 180, 200), "red")
        pen.rectangle((420, 60, 540, 180), "blue")
        pen.polygon([(330, 260), (410, 400), (250, 400)], "green")
        for x, y in (110, 360), (520, 330):
            points = [(0, -60), (14, -19), (57, -19), (23, 8), (35, 49), (0, 24)]
            points += [(-35, 49), (-23, 8), (-57, -19), (-14, -19)]
            pen.polygon([(x + u, y + v) for u, v in points], "gold")
        pen.polygon([(280, 190), (220, 125), (280, 125), (340, 125)], "hotpink")
        pen.ellipse((216, 80, 284, 150), "hotpink")
        pen.ellipse((276, 80, 344, 150), "hotpink")
    elif name == "sign":
        pen.text((240, 120), "Back in 10 minutes", "white", ImageFont.load_default(44), "mm")
    else:
        rows = [("Green Market", ""), ("Bread", "2.40"), ("Apples", "3.15"), ("Total", "5.55")]
        for i, (left, right) in enumerate(rows):
            pen.text((40, 60 + 60 * i), left, "black", ImageFont.load_default(26))
            pen.text((320, 60 + 60 * i), right, "black", ImageFont.load_default(26), "ra")
    return picture


def opened(use: Use) -> Image.Image | Path | None:
    if use.picture is None:
        return None
    return HERE / "media" / use.picture if "." in use.picture else drawn(use.picture)


def ask(model: qwen_ref.Model, use: Use) -> tuple[str, float]:
    """The answer, and how many logits its tokens were above the next best ones at least: where that is
    little, another processor's rounding may choose otherwise."""
    shown = opened(use)
    images = [] if shown is None else [shown]
    videos = [HERE / "media" / use.clip] if use.clip else []
    options = dict(images=images, videos=videos, temperature=0, max_tokens=300) | (use.options or {})
    given = model.generate(use.question, logprobs=2, **options)
    text = "".join(given).strip()
    return text, min(best - next_best for (_, best), (_, next_best) in (step.top for step in given.logprobs))


def seen(use: Use, answer: str) -> Image.Image | None:
    """The picture, with what the answer points at, or three frames of the clip."""
    if use.clip:
        import imageio.v3 as imageio

        frames = [Image.fromarray(frame) for frame in imageio.imiter(HERE / "media" / use.clip)]
        strip = Image.new("RGB", (3 * 110 + 20, 110), CARD)
        for i, frame in enumerate((frames[0], frames[len(frames) // 2], frames[-1])):
            strip.paste(frame.resize((110, 110)), (120 * i, 0))
        return strip
    shown = opened(use)
    if shown is None:
        return None
    picture = (shown if isinstance(shown, Image.Image) else Image.open(shown)).convert("RGB")
    return draw_marks(picture, marks) if (marks := find_marks(answer)) else picture


def card(use: Use, answer: str) -> Image.Image:
    face, small = ImageFont.load_default(15), ImageFont.load_default(14)
    picture = seen(use, answer)
    if picture:
        picture.thumbnail((WIDTH - 2 * EDGE, PICTURE))
    lines = [(line, QUESTION, small) for line in textwrap.wrap(use.question, 50)]
    for part in answer.replace("\t", "  ").splitlines():
        lines += [(line, TEXT, face) for line in textwrap.wrap(part, 46, replace_whitespace=False) or [""]]
    height = 2 * EDGE + (picture.height + 10 if picture else 0) + 20 * len(lines)
    made = Image.new("RGB", (WIDTH, height), CARD)
    pen, y = ImageDraw.Draw(made), EDGE
    if picture:
        left, right = (WIDTH - picture.width) // 2, (WIDTH + picture.width) // 2
        made.paste(picture, (left, y))
        pen.rectangle((left - 1, y - 1, right, y + picture.height), outline="#d5dbe1")
        y += picture.height + 10
    for line, colour, font in lines:
        pen.text((EDGE, y), line, colour, font)
        y += 20
    return made


def sheet(cards: list[Image.Image]) -> Image.Image:
    """In columns, each card under the shortest so far."""
    ends, places = [EDGE] * COLUMNS, []
    for made in cards:
        column = ends.index(min(ends))
        places.append((EDGE + column * (WIDTH + EDGE), ends[column]))
        ends[column] += made.height + EDGE
    page = Image.new("RGB", (COLUMNS * (WIDTH + EDGE) + EDGE, max(ends)), PAPER)
    for made, place in zip(cards, places, strict=True):
        page.paste(made, place)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="a PNG file")
    args = parser.parse_args()
    model = qwen_ref.load()
    asked = [ask(model, use) for use in USES]
    answers = [answer for answer, _ in asked]
    about = PngImagePlugin.PngInfo()
    about.add_itxt("answers", json.dumps(answers, ensure_ascii=False))
    page = sheet([card(use, answer) for use, answer in zip(USES, answers, strict=True)])
    file = io.BytesIO()
    page.quantize(128).save(file, "png", pnginfo=about, optimize=True)
    args.out.write_bytes(file.getvalue())
    for use, (answer, margin) in zip(USES, asked, strict=True):
        print(f"{use.question}\n{answer}\n(no closer than {margin:.1f})\n")


if __name__ == "__main__":
    main()
