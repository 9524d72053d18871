"""Where to click: python examples/screenshot.py [--model FILE] [screen.png] ["the save button"]"""

import argparse
import sys
from pathlib import Path

from PIL import Image

import qwen_ref
from gguf_io import GGUFError
from qwen_ref.grounding import find_marks, save_drawing

MEDIA = Path(__file__).parent / "media"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", help="its mmproj-….gguf lies beside it (the small one of the package)")
parser.add_argument("--draw", default="found.png", help="the picture with what was found (found.png)")
parser.add_argument("picture", nargs="?", default=MEDIA / "screen.png")
parser.add_argument("target", nargs="?", default="the Save button")
options = parser.parse_args()

question = f'Locate {options.target} and report its point as JSON: [{{"point_2d": [x, y], "label": "…"}}]'
try:
    model = qwen_ref.load(options.model)
    answer = "".join(model.generate(question, images=[options.picture], thinking=False, max_tokens=200))
    marks = find_marks(answer)
    if not marks:
        sys.exit(f"The answer names no place: {answer!r}")
    picture = Image.open(options.picture)
    for mark in marks:
        print(mark.label, *mark.pixels(*picture.size))
    save_drawing(picture, marks, options.draw)
except (qwen_ref.QwenRefError, GGUFError) as error:
    parser.exit(2, f"{error}\n")
