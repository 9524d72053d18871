"""Ask about a clip: python examples/video.py [--model FILE] [clip.mp4] [question] [--fps 1]"""

import argparse
from pathlib import Path

import qwen_ref
from gguf_io import GGUFError
from qwen_ref.media.media import Limits

MEDIA = Path(__file__).parent / "media"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", help="its mmproj-….gguf lies beside it (the small one of the package)")
parser.add_argument("--fps", type=float, default=2, help="frames to look at, a second of the clip")
parser.add_argument("clip", nargs="?", default=MEDIA / "ball.mp4")
parser.add_argument("question", nargs="?", default="What happens in this clip?")
options = parser.parse_args()

try:
    model = qwen_ref.load(options.model)
    limits = Limits(fps=options.fps)
    for piece in model.generate(options.question, videos=[options.clip], limits=limits, max_tokens=200):
        print(piece, end="", flush=True)
    print()
except (qwen_ref.QwenRefError, GGUFError) as error:
    parser.exit(2, f"{error}\n")
