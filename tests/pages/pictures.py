"""Take the pictures of docs/inspect.md anew: python tests/pages/pictures.py docs (in Debian's Chromium)."""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

SHAPES = Path(__file__).parents[2] / "examples" / "media" / "shapes.png"
PICTURES = {  # name -> section, layer, prompt, and how many tokens before the last is the one that is shown
    "inspect-attention.png": ("Attention", "7", ["--image", SHAPES, "--prompt", "Describe this picture."], 3),
    "inspect-state.png": ("DeltaNet", "6", ["--thinking", "--prompt", "What is 27 + 58?"], 4),
}


def main() -> None:
    out = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (title, layer, prompt, back) in PICTURES.items():
            file = Path(folder) / "page.html"
            subprocess.run([sys.executable, "-m", "qwen_ref", "inspect", *prompt, "-o", file], check=True)
            page = browser.new_page(viewport={"width": 960, "height": 1200})
            page.goto(file.as_uri())
            page.locator("#at").press("End")
            for _ in range(back):
                page.locator("#at").press("ArrowLeft")
            section = page.locator("main > section", has=page.get_by_role("heading", name=title))
            section.get_by_label("Layer").select_option(layer)
            shown = section.screenshot()
            file = io.BytesIO()
            Image.open(io.BytesIO(shown)).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
                file, "png", optimize=True
            )
            (out / name).write_bytes(file.getvalue())
            print(f"{out / name}: {len(file.getvalue()):,} bytes")


if __name__ == "__main__":
    main()
