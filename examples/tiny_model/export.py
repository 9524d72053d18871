"""The trained checkpoint to the two files that ship: Q4_K_M for the text, Q8_0 for the vision tower.

    python examples/tiny_model/export.py build/tiny_model --to qwen_ref/shipped

llama.cpp's converter and its llama-quantize do it, as for every other test model.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "fixtures"))
from make import convert, run_llama, write_preprocessor

from qwen_ref.files import write_whole


def add_license(checkpoint: Path) -> None:
    """What the converter reads for general.name and general.license."""
    card = "---\nlicense: apache-2.0\n---\nThe small model of qwen_ref, trained by examples/tiny_model.\n"
    (checkpoint / "README.md").write_text(card)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, help="what train.py wrote; tiny-bf16.gguf and the rest go there too"
    )
    parser.add_argument("--to", type=Path, help="copy the two files that ship here")
    args = parser.parse_args(arguments)
    checkpoint, full = args.folder / "hf", args.folder / "tiny-bf16.gguf"
    if not (checkpoint / "model.safetensors").exists():
        parser.error(f"{checkpoint}: there is no model.safetensors in it, which train.py writes")
    add_license(checkpoint)
    write_preprocessor(checkpoint)
    convert(checkpoint, "--model-name", "qwen_ref tiny", "--outfile", full, "--outtype", "bf16")
    mmproj = args.folder / "mmproj-tiny-bf16.gguf"
    convert(checkpoint, "--mmproj", "--outfile", mmproj, "--outtype", "bf16")
    small, small_mmproj = args.folder / "tiny-Q4_K_M.gguf", args.folder / "mmproj-tiny-Q8_0.gguf"
    convert(checkpoint, "--mmproj", "--outfile", small_mmproj, "--outtype", "q8_0")
    run_llama("llama-quantize", full, small, "Q4_K_M")
    for file in (full, mmproj, small, small_mmproj):
        print(f"{file}  {file.stat().st_size / 1e6:.1f} MB")
    if args.to:
        for file in (small, small_mmproj):
            with write_whole(args.to / file.name) as copy:
                copy.write(file.read_bytes())


if __name__ == "__main__":
    main()
