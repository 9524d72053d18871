"""The mean of two trainings' weights, where the second went on from the first.

    python examples/tiny_model/mean.py build/third/hf build/fourth/hf --share 0.6 build/mean/hf
    python examples/tiny_model/mean.py build/fifth/hf build/sixth/hf --share 0.7 --vision 0.2 build/mean/hf

A training for some tasks forgets a little of others; between both ends lie models that have most of both
(Wortsman et al. 2022, arXiv 2109.01903). What lies beside the second's weights is copied.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def between(first: torch.Tensor, second: torch.Tensor, share: float) -> torch.Tensor:
    """(1 - share) * first + share * second, computed in float32."""
    return ((1 - share) * first.float() + share * second.float()).to(second.dtype)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", type=Path, help="a checkpoint")
    parser.add_argument("second", type=Path, help="one that was trained from it")
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second, 0 to 1 (0.5)")
    parser.add_argument("--vision", type=float, help="of its vision tower (as --share)")
    args = parser.parse_args(arguments)
    of_vision = args.share if args.vision is None else args.vision
    for name, share in ("share", args.share), ("vision", of_vision):
        if not 0 <= share <= 1:
            parser.error(f"--{name} {share:g} is not from 0 to 1")
    for folder in (args.first, args.second):
        if not (folder / "model.safetensors").is_file():
            parser.error(f"{folder}: there is no model.safetensors in it")
    if args.out.exists():
        parser.error(f"{args.out} is there already")
    first, second = (load_file(folder / "model.safetensors") for folder in (args.first, args.second))
    if {k: x.shape for k, x in first.items()} != {k: x.shape for k, x in second.items()}:
        parser.error(f"{args.first} and {args.second} have other weights, by their names or shapes")
    mean = {
        name: between(first[name], second[name], of_vision if ".visual." in name else args.share)
        for name in second
    }
    beside = args.out.with_name(f"{args.out.name}.new")
    shutil.copytree(
        args.second, beside, ignore=shutil.ignore_patterns("model.safetensors"), dirs_exist_ok=True
    )
    save_file(mean, beside / "model.safetensors", metadata={"format": "pt"})
    beside.rename(args.out)


if __name__ == "__main__":
    main()
