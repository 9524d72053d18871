"""Ask about a picture: python examples/picture.py [--model FILE] [photo.jpg] [question]"""

import argparse
from pathlib import Path

import qwen_ref
from gguf_io import GGUFError

MEDIA = Path(__file__).parent / "media"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", help="its mmproj-….gguf lies beside it (the small one of the package)")
parser.add_argument("picture", nargs="?", default=MEDIA / "shapes.png")
parser.add_argument("question", nargs="?", default="Describe this picture in one sentence.")
options = parser.parse_args()

try:
    model = qwen_ref.load(options.model)
    for piece in model.generate(options.question, images=[options.picture], max_tokens=200):
        print(piece, end="", flush=True)
    print()
except (qwen_ref.QwenRefError, GGUFError) as error:
    parser.exit(2, f"{error}\n")
