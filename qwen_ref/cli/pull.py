"""Fetch a model by its name, with its vision file, from the Hugging Face hub.

What has come stays when it is interrupted: the same command goes on with it. Each file is compared with the
hash that the hub gives. `--model`, and `qwen_ref.load`, take the same names.

examples:
  python -m qwen_ref pull qwen3.5:0.8b                          # or :2b, :4b, :9b
  python -m qwen_ref pull hf:unsloth/Qwen3.5-0.8B-GGUF:Q8_0     # another quantization, or repository
  QWEN_REF_MODELS=/media/usb python -m qwen_ref pull qwen3.5:4b
  HF_TOKEN=hf_... python -m qwen_ref pull hf:owner/private-GGUF
"""

from __future__ import annotations

import argparse
import sys
import time

from qwen_ref import hub


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="a model's name, hf:OWNER/REPO[:QUANT] too")


def run(args: argparse.Namespace) -> int:
    for name in args.names:
        pull(name)
    return 0


def pull(name: str) -> hub.Stored:
    """Fetch it, with a bar on a terminal, and say what is where. Raises QwenRefError."""
    bar = Bar() if sys.stderr.isatty() else None
    try:
        model = hub.pull(name, *([bar.show] if bar else []))
    except KeyboardInterrupt:
        erase = "\r\033[K" if bar else ""
        print(f"{erase}{name}: what has come is kept, and the same command goes on", file=sys.stderr)
        raise
    finally:
        if bar:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    print(f"{name}: {size_of(model.nbytes)}, in {model.files[0].parent}")
    if model.vision is None:
        print(
            f"{name}: comes without a vision file (mmproj), so it answers about text alone", file=sys.stderr
        )
    return model


class Bar:
    """Progress of files, one after another, as a line on standard error."""

    def __init__(self) -> None:
        self._what, self._begun, self._before, self._shown = "", 0.0, 0, 0.0

    def show(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._begun, self._before, self._shown = what, now, done, 0.0
        if now - self._shown < 0.1 and done < total:
            return
        self._shown = now
        filled = 20 * done // total
        line = f"{what} [{'#' * filled}{'.' * (20 - filled)}] {size_of(done)} of {size_of(total)}"
        if (seconds := now - self._begun) > 1 and done > self._before:
            rate = (done - self._before) / seconds
            line += f", {size_of(rate)}/s, {(total - done) / rate:.0f} s left"
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def size_of(count: float) -> str:
    """Bytes as people say them."""
    for unit, name in (10**9, "GB"), (10**6, "MB"), (10**3, "kB"):
        if count >= unit:
            return f"{count / unit:.{1 if count < 10 * unit else 0}f} {name}"
    return f"{count:.0f} bytes"
