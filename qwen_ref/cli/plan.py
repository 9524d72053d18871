"""Say how much memory an answer takes, what would fit, and about how long it takes: nothing is loaded.

Memory is that of `generate` with the kernels, at its peak: part by part, with the pages of the model's file,
which the system can drop and read again, slowly, where memory is short. A chat and a server hold more, shown
below the sum. docs/memory.md says where the numbers come from.

examples:
  python -m qwen_ref plan --context 4096                    # the small model that ships with qwen_ref
  python -m qwen_ref plan model.gguf --memory 2G --context 32768
  python -m qwen_ref plan model.gguf --memory 2G --context 65536 --cache-type-k q8_0 --cache-type-v q8_0
  python -m qwen_ref plan model.gguf --image 1024x768 --json
  python -m qwen_ref plan model.gguf --memory 2G --plot parts.svg    # or .png
  python -m qwen_ref plan qwen3.5:0.8b --memory 1G --context 4096 --image 448x448 --board pi5
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from typing import Any

from qwen_ref import plot
from qwen_ref.cli.options import (
    MODEL_HELP,
    THREADS_HELP,
    add_cache_types,
    add_plot,
    bytes_of,
    check_counts,
    shipped_model,
)
from qwen_ref.errors import QwenRefError

MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--memory", type=bytes_of, metavar="SIZE", help="2G, 512M … (what is free now)")
    parser.add_argument(
        "--context", type=int, metavar="N", help="tokens of prompt and answer, pictures' included (4,096)"
    )
    add_cache_types(parser)
    parser.add_argument("--image", type=size_of_image, metavar="WxH", help="with a picture of so many pixels")
    parser.add_argument(
        "--parallel", type=int, default=1, metavar="N", help="answers computed together, as serve does (1)"
    )
    parser.add_argument("--max-image-tokens", type=int, metavar="N", help="of the picture (16,384)")
    parser.add_argument("--mmproj", metavar="FILE", help="the vision file, if it is not found by itself")
    parser.add_argument("-t", "--threads", type=int, metavar="N", help=THREADS_HELP)
    parser.add_argument(
        "--board",
        choices=["this", "pi5", "pi4"],
        default="this",
        help="times on this machine, measured, or on a Raspberry Pi, by a model of it",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, sizes in bytes")
    add_plot(parser, "the parts of the memory")


def size_of_image(text: str) -> tuple[int, int]:
    """ "448x448" -> (width, height). Raises QwenRefError."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})[x×]([1-9][0-9]{0,5})", text.strip(), re.IGNORECASE)
    if not found:
        raise QwenRefError(f"--image: {text!r:.80} is no width and height like 448x448")
    return int(found[1]), int(found[2])


def run(args: argparse.Namespace) -> int:
    from qwen_ref import hub
    from qwen_ref.checkpoint import open_model
    from qwen_ref.config import read_config
    from qwen_ref.engine import best_threads, plan
    from qwen_ref.engine.backend import check_threads
    from qwen_ref.machine import available_memory, default_threads
    from qwen_ref.model.cache_types import PLAIN, check_types, chosen_types
    from qwen_ref.vision_file import find_vision_file

    for name in "max_image_tokens", "mmproj":
        if getattr(args, name) is not None and args.image is None:
            raise QwenRefError(f"--{name.replace('_', '-')}: there is no --image")
    check_counts(args, "parallel", "max_image_tokens", "threads")
    path, vision = hub.resolve(args.model if args.model is not None else shipped_model())
    file = open_model(path)
    config = read_config(file)
    context = min(4096, config.context_length) if args.context is None else args.context
    if not 1 <= context <= config.context_length:
        raise QwenRefError(
            f"{file.path}: context: {context} is not in 1 to {config.context_length}, which the model was "
            "made for"
        )
    tower = None
    if args.image is not None:
        tower = find_vision_file(file.path, config, args.mmproj if args.mmproj is not None else vision)
    free = available_memory()
    memory = free if args.memory is None else args.memory
    threads = args.threads
    if threads is None:
        kept = best_threads.kept(file)
        threads = kept.prefill if kept else default_threads()
    elif args.board == "this":
        check_threads(threads)
    types = chosen_types(args.cache_type_k, args.cache_type_v) or PLAIN
    check_types(types, config.head_dim, file.path)
    job = plan.Job(
        file,
        context,
        tower,
        args.image,
        args.max_image_tokens,
        threads,
        cache_types=types,
        parallel=args.parallel,
    )
    if args.image is not None and (tokens := plan.image_tokens(*plan.seen(job))) >= context:
        raise QwenRefError(f"--image: the picture takes {tokens:,} tokens, of a context of {context:,}")
    need, besides = plan.needs(job), plan.kept_bytes(job, memory)
    verdict = plan.verdict(job, memory)
    speed = plan.measure(file, threads) if args.board == "this" else plan.BOARDS[args.board]
    times = plan.times(job, speed)
    if args.plot:
        bars = {part.name: part.nbytes / MIB for part in need.always}
        bars |= {f"looking: {part.name}": part.nbytes / MIB for part in need.looking}
        bars |= {f"reading: {part.name}": part.nbytes / MIB for part in need.reading}
        bars["at the peak"] = need.total / MIB
        limit = None if args.memory is None else args.memory / MIB
        over = {"at the peak"} if need.total > memory else set()
        of_picture = picture_of(job).replace("×", "x")  # which Pillow's font has
        title = f"{file.path.name}, {context:,} tokens{of_picture}"
        plot.write(args.plot, plot.Bars(title, "MiB", bars, over, limit=limit))
    if args.json:
        lists = {"always": need.always, "looking": need.looking, "reading": need.reading}
        lists["chat_and_serve"] = besides
        found: dict[str, Any] = {name: {p.name: p.nbytes for p in parts} for name, parts in lists.items()}
        found |= {"total": need.total, "private": need.private, "memory": memory}
        found |= {"fits": need.total <= memory, "verdict": verdict}
        found["times"] = {"on": speed.name} | dataclasses.asdict(times)
        print(json.dumps(found))
        return 0
    print(f"{file.path.name}, {context:,} tokens{picture_of(job)}\n")
    for part in need.always:
        print(line(part.name, part.nbytes))
    for name, parts in ("while it looks", need.looking), ("while it reads", need.reading):
        for part in parts:
            print(line(f"{name}: {part.name}" if need.looking else part.name, part.nbytes))
    print(line("at the peak", need.total))
    print(line("of it without the model's files", need.private))
    for part in besides:
        print(line(f"chat and serve besides: {part.name}", part.nbytes))
    here = "" if args.board == "this" else " on this machine; --memory says what the board has"
    print(f"\n{verdict}" + ("" if args.memory is not None else f", which are free now{here}"))
    print(f"\non {speed.name}, about:")
    if times.picture is not None:
        print(f"  {seconds_of(times.picture)} for the picture")
    print(f"  {seconds_of(times.short_prompt)} for a prompt of {min(plan.SHORT, context):,} tokens")
    if context > plan.SHORT:
        print(f"  {seconds_of(times.whole_prompt)} for one of {context:,}")
    rates = f"{times.first_rate:.1f} tokens a second of an answer, {times.last_rate:.1f}"
    print(f"  {rates} at the end of {context:,}")
    return 0


def picture_of(job: object) -> str:
    from qwen_ref.engine import plan

    assert isinstance(job, plan.Job)
    if job.image is None:
        return ""
    v, grid = plan.seen(job)
    return f", a picture of {job.image[0]} × {job.image[1]}: {plan.image_tokens(v, grid):,} of them"


def line(name: str, nbytes: int) -> str:
    return f"{name:56}{nbytes / MIB:>10,.1f} MiB"


def seconds_of(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
