"""Draws the small pictures and the video that the examples ask about: `python examples/media/make.py`.

shapes.png   a red circle, a blue square, a green triangle and a yellow star, which the small model can tell
word.png     a word in letters that the small model was not trained on, and reads
receipt.png  a document whose lines can become structured data
screen.png   a window with two fields and two buttons, to be clicked at coordinates
ball.mp4     an orange ball that goes from left to right, 4 seconds at 8 frames a second
"""

from __future__ import annotations

import math
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent


def canvas(width: int, height: int, colour: str = "white") -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), colour)
    return image, ImageDraw.Draw(image)


def shapes() -> Image.Image:
    image, draw = canvas(256, 256, "#f8f6f0")
    draw.ellipse((26, 32, 90, 96), fill="#dc2828")
    draw.rectangle((150, 46, 206, 102), fill="#2850dc")
    draw.polygon(((88, 142), (124, 208), (52, 208)), fill="#28a03c")
    star = [(190 + r * math.sin(a), 170 - r * math.cos(a)) for r, a in STAR]
    draw.polygon(star, fill="#f0d228")
    return image


STAR = [((20, 8)[i % 2], i * math.pi / 5) for i in range(10)]  # radius and angle of its corners


def word() -> Image.Image:
    image, draw = canvas(256, 256, "#f8f6f0")
    draw.text((128, 120), "Hello", fill="#28507a", font=ImageFont.load_default(56), anchor="mm")
    return image


RECEIPT = [
    ("2 x Espresso", "5.00"),
    ("1 x Apple cake", "3.80"),
    ("1 x Sparkling water", "2.20"),
    ("Total EUR", "11.00"),
]


def receipt() -> Image.Image:
    image, draw = canvas(480, 640)
    title, text = ImageFont.load_default(34), ImageFont.load_default(24)
    draw.text((240, 60), "Cafe Lindgren", fill="black", font=title, anchor="mm")
    draw.text((240, 110), "Receipt 0417   2026-03-14   10:42", fill="black", font=text, anchor="mm")
    y = 190
    for item, price in RECEIPT:
        if item.startswith("Total"):
            draw.line((40, y - 10, 440, y - 10), fill="black", width=2)
            y += 30
        draw.text((40, y), item, fill="black", font=text, anchor="lm")
        draw.text((440, y), price, fill="black", font=text, anchor="rm")
        y += 60
    draw.text((240, 560), "Thank you!", fill="black", font=text, anchor="mm")
    return image


def screen() -> Image.Image:
    image, draw = canvas(800, 600, "#dde3ea")
    title, text = ImageFont.load_default(26), ImageFont.load_default(22)
    draw.rounded_rectangle((180, 100, 620, 500), 12, fill="white", outline="#9aa5b1", width=2)
    draw.text((400, 150), "Sign in", fill="black", font=title, anchor="mm")
    for y, label in ((200, "E-mail"), (290, "Password")):
        draw.text((220, y), label, fill="#444444", font=text, anchor="lm")
        draw.rectangle((220, y + 18, 580, y + 58), fill="#f6f8fa", outline="#9aa5b1")
    for box, fill, ink, label in (
        ((220, 410, 390, 460), "#e1e4e8", "black", "Cancel"),
        ((410, 410, 580, 460), "#1a7f37", "white", "Continue"),
    ):
        draw.rounded_rectangle(box, 8, fill=fill)
        draw.text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), label, fill=ink, font=text, anchor="mm")
    return image


def ball(path: Path) -> None:
    frames = []
    for n in range(32):
        image, draw = canvas(128, 128, "#f8f6f0")
        x = 36 + 56 * n / 31
        draw.ellipse((x - 16, 60, x + 16, 92), fill="#f58c1e")
        frames.append(np.asarray(image))
    iio.imwrite(path, frames, plugin="pyav", codec="libx264", fps=8, out_pixel_format="yuv420p")


def main() -> None:
    for draw in (shapes, word, receipt, screen):
        draw().save(HERE / f"{draw.__name__}.png", optimize=True)
    ball(HERE / "ball.mp4")


if __name__ == "__main__":
    main()
