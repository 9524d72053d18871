"""Where things are: boxes and points in an answer, and a picture with them drawn on it.

Qwen3.5 gives coordinates from 0 to 1000, across and down, whatever the size of the picture, in JSON:

    [{"bbox_2d": [112, 80, 430, 512], "label": "cat"}]         left, top, right, bottom
    [{"point_2d": [270, 300], "label": "the cat's nose"}]
    {"action": "left_click", "coordinate": [619, 725]}
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageDraw, ImageFont

from qwen_ref.errors import QwenRefError
from qwen_ref.files import write_whole

GRID = 1000  # coordinates of the right and the bottom edge
END_OF_THOUGHT = "</think>"
KEYS = {"bbox_2d": 4, "point_2d": 2, "coordinate": 2}  # name -> how many numbers
COLOURS = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000"]


@dataclass(frozen=True)
class Mark:
    """A box (left, top, right, bottom) or a point (x, y), in 0 to 1000."""

    label: str
    coordinates: tuple[float, ...]

    def pixels(self, width: int, height: int) -> tuple[int, ...]:
        """The same on a picture of this size; what lies outside is moved to its edge."""
        sizes = (width, height) * (len(self.coordinates) // 2)
        return tuple(
            min(max(round(c * n / GRID), 0), n - 1) for c, n in zip(self.coordinates, sizes, strict=True)
        )


def find_json(text: str) -> list[Any]:
    """Every JSON object and array in an answer, outermost ones, in order; thinking before it is not read.

    Thinking ends at the first </think> that stands in no JSON: in a string of the answer it is a string.
    Of a list that was cut off, the complete elements are found.
    """
    decoder, found, i, thought = json.JSONDecoder(), list[Any](), 0, False
    while i < len(text):
        if not thought and text.startswith(END_OF_THOUGHT, i):
            found, thought = [], True
            i += len(END_OF_THOUGHT)
        elif text[i] in "[{":
            try:
                value, i = decoder.raw_decode(text, i)
            except RecursionError:  # nested deeper than any answer
                if thought or (i := text.find(END_OF_THOUGHT, i)) < 0:
                    break
            except ValueError:
                i += 1
            else:
                found.append(value)
        else:
            i += 1
    return found


def find_marks(text: str) -> list[Mark]:
    """The boxes and points of an answer. What is named like one but holds no finite numbers is left out."""
    return [mark for value in find_json(text) for mark in marks_of(value)]


def marks_of(value: Any) -> Iterator[Mark]:
    left = [value]
    while left:  # an answer may be nested deeper than functions may call one another
        value = left.pop()
        if isinstance(value, Mark):
            yield value
        elif isinstance(value, list):
            left += reversed(value)
        elif isinstance(value, dict):
            label = next((value[k] for k in ("label", "action") if value.get(k) is not None), "")
            left += reversed(
                [
                    Mark(str(label), tuple(map(float, item)))
                    if key in KEYS and is_numbers(item, KEYS[key])
                    else item
                    for key, item in value.items()
                ]
            )


def is_numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(n, int | float) and abs(n) < 1e9 and math.isfinite(n) for n in value)
    )


def draw_marks(image: Image.Image, marks: list[Mark]) -> Image.Image:
    """A copy of the picture with each box and point on it, one colour a label, and the label beside it."""
    image = image.convert("RGB")
    draw = ImageDraw.Draw(image)
    thick = max(2, min(image.size) // 200)
    font = ImageFont.load_default(max(10, min(image.size) // 30))
    labels = list(dict.fromkeys(mark.label for mark in marks))
    for mark in marks:
        colour = COLOURS[labels.index(mark.label) % len(COLOURS)]
        places = mark.pixels(*image.size)
        if len(places) == 2:
            x, y = places
            left, top, right, bottom = x - 3 * thick, y - 3 * thick, x + 3 * thick, y + 3 * thick
            draw.ellipse((left, top, right, bottom), fill=colour, outline="white", width=thick)
        else:
            left, right = sorted(places[::2])
            top, bottom = sorted(places[1::2])
            draw.rectangle((left, top, right, bottom), outline=colour, width=thick)
        if mark.label:
            _, _, wide, high = draw.textbbox((0, 0), mark.label, font=font)
            x = max(0, min(left, int(image.width - wide - 2 * thick)))
            y = int(top - high - thick if top > high + thick else min(bottom, image.height - high))
            draw.rectangle((x, y, x + wide + 2 * thick, y + high + thick), fill=colour)
            draw.text((x + thick, y), mark.label, fill="white", font=font)
    return image


def check_drawing(path: str | os.PathLike[str]) -> None:
    """Raises QwenRefError if no picture can be saved there; better known before the answer than after it."""
    path = Path(path)
    try:
        save(Image.new("RGB", (1, 1)), path, io.BytesIO())
    except Exception:  # Pillow's plugins raise nearly anything
        raise QwenRefError(
            f"{path}: the ending {path.suffix!r} is no picture format to save in; .png is one"
        ) from None
    if not path.parent.is_dir():
        raise QwenRefError(f"{path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise QwenRefError(f"{path}: is a folder")


def save_drawing(image: Image.Image, marks: list[Mark], path: str | os.PathLike[str]) -> None:
    """Save the picture with its marks, whole or not at all. Raises QwenRefError if that fails."""
    check_drawing(path)
    with write_whole(path) as file:
        try:
            save(draw_marks(image, marks), Path(path), file)
        except OSError:  # told by write_whole
            raise
        except Exception as error:  # some formats have a largest size
            raise QwenRefError(f"{path}: cannot be written: {error}; .png takes any size") from None


def save(image: Image.Image, path: Path, file: IO[bytes]) -> None:
    """In the format that the path's ending names."""
    image.save(file, Image.registered_extensions()[path.suffix.lower()])
