"""A picture as text for a colour terminal."""

from __future__ import annotations

import numpy as np
from PIL import Image


def half_blocks(image: Image.Image, size: int = 64) -> str:
    """Lines of ▀, each two pixels: one above in the text colour, one below in the background's.

    A character cell is about twice as high as wide, so these pixels are square. A larger picture is scaled to
    fit `size` columns and as many pixels down, half as many lines: a screen's height is less than its width.
    """
    small = image.convert("RGB")
    small.thumbnail((size, size))
    pixels = np.asarray(small).tolist()  # rows of [red, green, blue]
    lines = []
    for y in range(0, len(pixels), 2):
        line = ""
        for x, (r, g, b) in enumerate(pixels[y]):
            line += f"\033[38;2;{r};{g};{b}m"
            if y + 1 < len(pixels):
                r, g, b = pixels[y + 1][x]
                line += f"\033[48;2;{r};{g};{b}m"
            line += "▀"
        lines.append(line + "\033[0m\n")
    return "".join(lines)
