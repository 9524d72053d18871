"""Compile the kernels that a model needs, and try with how many threads it is fastest, once.

Both are kept: no first start waits for the kernels, and every start has these threads, unless --threads says
otherwise. Those of answers are fewer than those of prompts where few cores keep the memory busy. All is kept
in ~/.cache/qwen_ref, or below XDG_CACHE_HOME, and can be moved, with the same versions of qwen_ref, Python
and Numba, to any machine with the same processor: to an image, say, for many of a kind.

examples:
  python -m qwen_ref warmup                                 # for the small model that ships with qwen_ref
  python -m qwen_ref warmup --model model.gguf
  python -m qwen_ref warmup --model a.gguf --model b.gguf
  python -m qwen_ref warmup --model model.gguf --no-pictures
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping

from qwen_ref.cli.options import add_cache_types, add_models, cache_types_of, shipped_model, show_line
from qwen_ref.errors import QwenRefError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models(parser)
    parser.add_argument("--mmproj", metavar="FILE", help="the vision file, if it is not found by itself")
    add_cache_types(parser)
    parser.add_argument("--no-pictures", action="store_true", help="leave out what only pictures need")
    parser.add_argument(
        "--share", nargs=2, type=int, metavar="N", help="only the share of process N among N (it starts some)"
    )


def show_compiling(done: int, total: int) -> None:
    """A line on the terminal while kernels are compiled; it is erased at the end."""
    show_line("" if done == total else f"compiling kernels for this processor, once: {done} of {total}")


def run(args: argparse.Namespace) -> int:
    for path in args.model or [shipped_model()]:
        warm_up(path, args)
    return 0


def warm_up(path: str, args: argparse.Namespace) -> None:
    from qwen_ref.engine import best_threads, load

    only = 1 if args.share else None
    model = load(path, backend="numba", threads=only, mmproj=args.mmproj, **cache_types_of(args))
    pictures = not args.no_pictures and model.sees
    if args.share:
        k, n = args.share
        if not 0 <= k < n:
            raise QwenRefError(f"--share {k} {n}: the first is not in 0 to {n - 1}")
        model.warm_up(lambda done, total: print(done, flush=True), pictures=pictures, share=(k, n))
        return
    from qwen_ref.kernels import compile

    def kept() -> int:
        return len(list(compile.CACHE_DIRECTORY.glob("qwen_ref.*"))) if compile.CACHE_DIRECTORY else 0

    before, started = kept(), time.perf_counter()
    model.warm_up(show_compiling, pictures=pictures)
    new, seconds = kept() - before, time.perf_counter() - started
    if compile.CACHE_DIRECTORY is None:
        raise QwenRefError("warmup: the kernels could not be kept")
    what = f"{new} kernels compiled in {seconds:.1f} s" if new else "all kernels were there"
    print(f"{path}: {what}, in {compile.CACHE_DIRECTORY}")
    found = best_threads.find(model.text)
    if found is None:
        print(
            "which number of threads is the fastest was not tried, since other programs keep the cores busy"
        )
        return
    fastest, tokens, blocks = found
    best_threads.keep(model.text.file, fastest)
    print(f"fastest: answers with {threads(fastest.decode)} ({of_each(tokens)} a token), ", end="")
    print(f"prompts with {threads(fastest.prefill)} ({of_each(blocks)} for a piece)")


def threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def of_each(seconds: Mapping[int, float]) -> str:
    """ "1: 30.2, 2: 17.5 ms" """
    return ", ".join(f"{n}: {1000 * s:.1f}" for n, s in seconds.items()) + " ms"
