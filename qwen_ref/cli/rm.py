"""Delete models that are here under a name, from the folder that `list` says.

examples:
  python -m qwen_ref rm qwen3.5:0.8b
  python -m qwen_ref rm hf:unsloth/Qwen3.5-0.8B-GGUF:Q8_0    # what an interrupted pull left, too
"""

from __future__ import annotations

import argparse

from qwen_ref import hub


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="as `list` says it; its files are deleted")


def run(args: argparse.Namespace) -> int:
    for name in args.names:
        hub.remove(name)
        print(f"{name}: deleted")
    return 0
