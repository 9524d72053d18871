"""Golden outputs: record what the model computes, exactly, and compare other engines with it

examples:
  python -m qwen_ref golden record --model Qwen3.5-0.8B-BF16.gguf --prompt "Why?" --out why.safetensors
  python -m qwen_ref golden check why.safetensors dump.safetensors --allow bfloat16
  python -m qwen_ref golden check why.safetensors dump.npz --json
  python -m qwen_ref golden compare why.safetensors other.safetensors

`record` runs the model in float64 with NumPy and writes inputs, intermediate tensors, logits, and how far
correct float32, bfloat16, float16 and 8-bit arithmetic lands from them. A dump has tensors under the
golden's names; `record --list` lists them. `check` ends with status 1 if the dump is further away than the
arithmetic it may use explains.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from gguf_io import open_gguf
from qwen_ref.cli.options import MODEL_HELP, shipped_model
from qwen_ref.errors import QwenRefError
from qwen_ref.model.text import TextModel
from qwen_ref.prompt import PromptEncoder

SMALL = 1 << 20  # numbers of all tensors together up to which all of them are kept
ROWS, COLUMNS = 3, 256  # kept of each tensor of a larger model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="golden", required=True, metavar="ACTION")
    record = commands.add_parser("record", help="write a golden")
    record.add_argument("--model", metavar="FILE", help=MODEL_HELP)
    record.add_argument("--prompt", required=True, help="the question")
    record.add_argument("--raw", action="store_true", help="send the prompt without a chat template")
    record.add_argument("--thinking", action=argparse.BooleanOptionalAction, help="as for generate")
    record.add_argument(
        "--names", nargs="+", metavar="PATTERN", help="what to keep: layers.0.*, logits (all)"
    )
    record.add_argument(
        "--rows", type=int, help="tokens to keep of each tensor (all of a small model, else 3)"
    )
    record.add_argument(
        "--columns", type=int, help="columns to keep, at most (all of a small model, else 256)"
    )
    record.add_argument("--memory", type=float, default=4, metavar="GIB", help="for weights as floats (4)")
    record.add_argument("--out", type=Path, required=True, metavar="FILE", help="the golden, .safetensors")
    for name, other, text in (
        ("check", "dump", "a dump (.safetensors or .npz) of another engine"),
        ("compare", "other", "another golden"),
    ):
        command = commands.add_parser(name, help=f"compare a golden with {text}")
        command.add_argument("golden_file", metavar="GOLDEN", type=Path)
        command.add_argument("other", metavar=other.upper(), type=Path, help=text)
        command.add_argument(
            "--allow", default="float32", help="what may explain a difference: float64, float32 …"
        )
        command.add_argument("--json", action="store_true", help="for programs")


def run(args: argparse.Namespace) -> int:
    return record_golden(args) if args.golden == "record" else check(args)


def record_golden(args: argparse.Namespace) -> int:
    from qwen_ref.oracle import golden, record

    for option in ("rows", "columns"):
        if (value := getattr(args, option)) is not None and value < 1:
            raise QwenRefError(f"{option}: {value} is less than 1")
    if args.out.suffix != ".safetensors":
        raise QwenRefError(f"{args.out}: a golden's name ends in .safetensors")
    file = open_gguf(args.model or shipped_model())
    prompt = PromptEncoder(file).encode(args.prompt, thinking=args.thinking, raw=args.raw)

    def open_text(dtype: type) -> TextModel:
        return TextModel(file, dtype, int(args.memory * 2**30))

    config = open_text(np.float64).config
    small = len(prompt.token_ids) * config.hidden_size * config.num_layers <= SMALL
    rows, columns = args.rows or (None if small else ROWS), args.columns or (None if small else COLUMNS)

    def progress(what: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[Kcomputing in {what} …", end="", file=sys.stderr, flush=True)

    made = record.record(
        open_text,
        prompt.token_ids,
        record.provenance(
            file.path, prompt.token_ids, prompt=args.prompt, raw=args.raw, thinking=args.thinking
        ),
        names=args.names,
        rows=rows,
        columns=columns,
        progress=progress,
    )
    golden.save(made, args.out)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(f"{args.out}: {len(made.entries)} tensors, {args.out.stat().st_size / 1e6:.1f} MB")
    return 0


def check(args: argparse.Namespace) -> int:
    from qwen_ref.oracle import compare, golden

    truth = golden.load(args.golden_file)
    if args.golden == "compare":
        found = golden.load(args.other)
        for name in truth.entries.keys() & found.entries.keys():
            if (a := truth.entries[name]).kept() != (b := found.entries[name]).kept():
                raise QwenRefError(f"{args.other}: {name}: keeps {b.kept()} and not {a.kept()}")
        report = compare.compare_samples(truth, found.values, args.allow)
    else:
        report = compare.compare(truth, golden.read_tensors(args.other)[0], args.allow)
    if args.json:
        print(json.dumps(dataclasses.asdict(report), indent=1))
    else:
        print_report(report)
    return 1 if report.first else 0


def print_report(report) -> None:  # type: ignore[no-untyped-def]
    print(f"{'tensor':40} {'error/rms':>9} {'max':>9} {'cosine':>11}  explained by")
    for d in report.differences:
        mark = "  <- first" if d is report.first else ""
        print(f"{d.name:40} {d.relative:9.1e} {d.max:9.1e} {d.cosine:11.8f}  {d.explained or '-'}{mark}")
    for name, value in report.logits.items():
        print(f"logits: {name} {value:.3g}")
    if report.missing:
        print(f"not in the dump: {len(report.missing)} tensors, the first {report.missing[0]}")
    if report.first is None:
        print(f"all within what {report.allowed} explains")
    else:
        print(f"{report.first.name}: the first that {report.allowed} does not explain")
        print(f"likely cause: {report.cause}" if report.cause else "no known mistake does this")
