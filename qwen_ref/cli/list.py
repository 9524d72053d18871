"""Say which models are here under a name, how large each is with its vision file, and where they lie.

examples:
  python -m qwen_ref list
"""

from __future__ import annotations

import argparse
import sys

from qwen_ref import hub
from qwen_ref.cli.pull import size_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> int:
    models = hub.stored()
    rows = [
        (
            model.name,
            size_of(model.nbytes),
            files_of(model) if model.whole else "fetched in part: pull goes on",
        )
        for model in models
    ]
    widths = [max(map(len, column)) for column in zip(*rows)][:2]
    for name, size, files in rows:
        print(f"{name:{widths[0]}}  {size:>{widths[1]}}  {files}")
    print(f"{'none' if not rows else 'they'} lie in {hub.folder()}", file=sys.stderr)
    return 0


def files_of(model: hub.Stored) -> str:
    return ", ".join(path.name for path in [*model.files, *([model.vision] if model.vision else [])])
