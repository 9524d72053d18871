"""Measure prefill and decoding speed, cold start and peak memory.

A test is named as llama-bench names it: pp512 is a prompt of 512 tokens, tg128 the generation of 128, and
@ d4096 means that 4,096 tokens came before. Each is run once to warm up and then -r times, of which the
median is shown. Tokens of all sequences together count. Beside generation stands what it reads of weights
and states a second, and how much that is of what all threads reach that only read the same weights, in turn
with it.
"start" is a process of its own, from its beginning to the first token of a short prompt.
--report writes all of it to a file that says what machine this is, too: what an owner of one that nobody here
has, a Raspberry Pi say, can send.

examples:
  python -m qwen_ref bench                                  # the small model that ships with qwen_ref
  python -m qwen_ref bench --model model.gguf
  python -m qwen_ref bench --model a.gguf --model b.gguf -p 512 -n 128 -d 0 -d 8192 -r 3 --output json
  python -m qwen_ref bench --model model.gguf -p 0 --parallel 1 --parallel 4    # four answers at once
  python -m qwen_ref bench --model model.gguf --no-start --profile profile.svg
  python -m qwen_ref bench --model model.gguf -d 0 -d 4096 -d 16384 --plot speed.svg    # or .png
  python -m qwen_ref bench --model model.gguf --report    # in qwen_ref-report.md
  python -m qwen_ref bench --model model.gguf --busy 1    # how fast is it while another program computes?
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from qwen_ref import board, children, plot
from qwen_ref.cli.options import (
    THREADS_HELP,
    add_cache_types,
    add_models,
    add_plot,
    cache_types_of,
    shipped_model,
    show_line,
)
from qwen_ref.errors import QwenRefError
from qwen_ref.files import check_place, write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models(parser)
    parser.add_argument(
        "-p", type=int, action="append", metavar="N", help="prompt tokens (512; 0: none); repeatable"
    )
    parser.add_argument(
        "-n", type=int, action="append", metavar="N", help="tokens to generate (128; 0: none)"
    )
    parser.add_argument("-d", type=int, action="append", metavar="N", help="tokens that came before (0)")
    parser.add_argument(
        "--parallel",
        type=int,
        action="append",
        metavar="N",
        help="sequences that generate at once (1); repeatable",
    )
    parser.add_argument("-t", "--threads", type=int, metavar="N", help=THREADS_HELP)
    parser.add_argument("-r", type=int, default=5, metavar="N", help="repetitions (5)")
    parser.add_argument("-o", "--output", choices=["md", "json"], default="md")
    parser.add_argument("--backend", choices=["numba", "numpy"], help="kernels or plain NumPy")
    add_cache_types(parser)
    parser.add_argument("--no-start", action="store_true", help="leave out cold start and peak memory")
    parser.add_argument(
        "--busy", type=int, default=0, metavar="N", help="beside N processes that keep a core busy each (0)"
    )
    parser.add_argument(
        "--profile",
        nargs="?",
        const="",
        metavar="FILE.svg",
        help="say where the time of a token goes, as a table and, into FILE.svg, as a picture",
    )
    parser.add_argument(
        "--report",
        nargs="?",
        const="qwen_ref-report.md",
        metavar="FILE",
        help="write a page (Markdown) of the figures, the machine, its temperature before and after, and "
        "what it was held back for (qwen_ref-report.md)",
    )
    add_plot(parser, "the speed of each test, by the tokens that came before if there are several -d")


def run(args: argparse.Namespace) -> int:
    if (
        args.r < 1
        or any(n < 1 for n in args.parallel or [])
        or any(n < 0 for n in [*(args.p or []), *(args.n or []), *(args.d or []), args.busy])
    ):
        raise QwenRefError("-r and --parallel must be at least 1, and -p, -n, -d and --busy not negative")
    if args.profile and len(args.model or []) > 1:
        raise QwenRefError(f"--profile {args.profile}: one picture shows one model, not {len(args.model)}")
    for name in "profile", "report":
        if path := getattr(args, name):
            check_place(f"--{name}", path)
    if args.profile and Path(args.profile).suffix.lower() != ".svg":
        raise QwenRefError(f"--profile {args.profile}: the ending {Path(args.profile).suffix!r} is not .svg")
    models = args.model or [shipped_model()]
    check_contexts(models, max(args.d or [0]) + max([*(args.p or [512]), *(args.n or [128])]))
    results, before = [], board.moment()
    for path in models:
        with busy_processes(args.busy):
            results += measure_model(path, args)
    after = board.moment()
    if args.output == "json":
        print(json.dumps(results, indent=1))
    else:
        print("\n".join([*table(results), *environment()]))
    if args.plot:
        plot.write(args.plot, chart(results))
    if args.report:
        with write_whole(args.report) as file:
            file.write(report(results, before, after).encode())
        print(f"{args.report}: the report", file=sys.stderr)
    return 0


def check_contexts(models: list[str], tokens: int) -> None:
    """Raises QwenRefError if so many are more than one of them was made for."""
    from qwen_ref.checkpoint import open_model
    from qwen_ref.config import read_config

    for path in models:
        if tokens > (most := read_config(open_model(path)).context_length):
            raise QwenRefError(
                f"{path}: {tokens:,} tokens, the most that -p, -n and -d make together, are more than the "
                f"{most:,} that the model was made for"
            )


def report(results: list[dict[str, Any]], before: dict[str, str], after: dict[str, str]) -> str:
    """All that was measured and what it was measured on: a page to read, with the figures for programs."""
    from qwen_ref.profile import read_bandwidth

    machine = board.facts()
    speeds = {}
    if any(r["backend"] == "numba" for r in results):
        speeds["reading memory"] = f"{read_bandwidth() / 1e9:.1f} GB/s"
    rows = [f"| {name} | {value.replace('|', '/')} |" for name, value in (machine | speeds).items()]
    moments = [f"| {name} | {before.get(name, '')} | {value} |" for name, value in after.items()]
    figures = {"machine": machine | speeds, "before": before, "after": after, "results": results}
    return "\n".join(
        [
            "# qwen_ref on " + machine.get("board", "a machine without a name"),
            "",
            f"By `bench --report` on {time.strftime('%Y-%m-%d')}. It names no user, host or folder.",
            "",
            "| | |",
            "|---|---|",
            *rows,
            "",
            *(["| | before | after |", "|---|---|---|", *moments, ""] if moments else []),
            *table(results),
            *environment(),
            "",
            "```json",
            json.dumps(figures, indent=1, ensure_ascii=False),
            "```",
            "",
        ]
    )


def chart(results: list[dict[str, Any]]) -> plot.Lines | plot.Bars:
    """Tokens a second of each test: a line over depths, or a bar if there is one depth only."""
    tests = [r for r in results if "tokens_per_second" in r]
    models = {r["model"] for r in tests}
    lines: dict[str, list[plot.Point]] = {}
    for r in tests:
        name, _, depth = r["test"].partition(" @ d")
        name += f", {r['parallel']} at once" if r["parallel"] > 1 else ""
        name = f"{r['model']} {name}" if len(models) > 1 else name
        lines.setdefault(name, []).append(plot.Point(int(depth or 0), r["tokens_per_second"]))
    title = "Tokens a second" + (f", {tests[0]['model']}" if len(models) == 1 else "")
    if all(len(points) == 1 for points in lines.values()):
        return plot.Bars(title, "tokens a second", {name: points[0].y for name, points in lines.items()})
    return plot.Lines(
        title, "tokens that came before", "tokens a second", {n: sorted(p) for n, p in lines.items()}
    )


# It ends with the process that started it.
BUSY = f"""
import os
while os.getppid() == {os.getpid()}:
    for _ in range(100_000):
        pass
"""


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Others that compute without end as long as this block lasts.

    In the session of this process: Linux shares cores among sessions first, so that one with a session of its
    own would count as much as all of this one.
    """
    processes: list[Popen[bytes]] = []
    try:
        for _ in range(count):
            processes.append(Popen([sys.executable, "-S", "-c", BUSY]))
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure_model(path: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    import numpy as np

    from qwen_ref.engine import Sequence, load, step
    from qwen_ref.profile import part_bytes, reading
    from qwen_ref.prompt import Prompt

    model = load(path, backend=args.backend, threads=args.threads, **cache_types_of(args))
    network = model.text
    size = sum(t.nbytes for t in network.file.tensors.values())
    weights = sum(int(np.prod(t.shape)) for t in network.file.tensors.values())
    token_ids = np.random.default_rng(0).integers(0, len(model.tokenizer), 1 << 18).tolist()
    base: dict[str, Any] = {
        "model": Path(path).name,
        "size": size,
        "params": weights,
        "backend": network.layers.name,
        "cache_types": [*network.cache_types],
    }

    read = reading(network) if network.layers.name == "numba" else None

    def prefill(sequences: list[Sequence], count: int) -> None:
        model.enter_thread()
        for sequence in sequences:
            sequence.extend(token_ids[:count])
        while any(sequence.unread for sequence in sequences):
            hidden = step(network, sequences)
        network.logits(np.concatenate([h[-1:] for h in hidden]))

    def decode(sequences: list[Sequence], count: int) -> None:
        model.enter_thread(len(sequences))
        for i in range(count):
            for sequence in sequences:
                sequence.extend(token_ids[i : i + 1])
            network.logits(np.concatenate(step(network, sequences)))

    results = []
    for depth in args.d or [0]:
        before = Sequence(network, Prompt(token_ids[:depth]))
        if depth:
            show_line(f"{base['model']}: reading {depth} tokens")
            while before.unread:
                step(network, [before])
        tests = [("pp", prefill, count, 1) for count in args.p or [512]]
        tests += [("tg", decode, count, n) for count in args.n or [128] for n in args.parallel or [1]]
        for name, work, count, parallel in tests:
            if not count:
                continue
            result = base | {
                "test": f"{name}{count}" + (f" @ d{depth}" if depth else ""),
                "parallel": parallel,
                "threads": model.threads_for(parallel if name == "tg" else 0),
            }
            seconds, bandwidths = list[float](), list[float]()
            for repetition in range(args.r + 1):  # the first one warms up (and compiles)
                show_line(f"{base['model']}: {result['test']}, {repetition} of {args.r}")
                sequences = [before.copy() for _ in range(parallel)]
                started = time.perf_counter()
                work(sequences, count)
                seconds.append(time.perf_counter() - started)
                if read and name == "tg":
                    model.enter_thread()  # which has all that are of use
                    bandwidths.append(read())
            rates = [parallel * count / s for s in seconds[1:]]
            result |= {"tokens_per_second": statistics.median(rates), "rates": rates}
            if bandwidths:
                step_bytes = sum(part_bytes(network, parallel).values())
                result["bytes_per_second"] = step_bytes * result["tokens_per_second"] / parallel
                result["reading_bytes_per_second"] = statistics.median(bandwidths[1:])
            results.append(result)
    show_line("")
    if not args.no_start:
        results.append(base | measure_start(path, args))
    if args.profile is not None:
        from qwen_ref.profile import draw_profile, profile_decode

        profile = profile_decode(network, token_ids[:64])
        results.append(base | {"test": "profile", "profile": profile})
        if args.profile:
            with write_whole(args.profile) as file:
                file.write(draw_profile(profile, f"A token of {base['model']}").encode())
    return results


def measure_start(path: str, args: argparse.Namespace) -> dict[str, Any]:
    """A fresh process that answers a short prompt with one token: seconds to its end, and its peak memory."""
    command = [sys.executable, "-m", "qwen_ref", "generate", "--model", path, "--prompt", "Hello", "--raw"]
    command += ["-n", "1", "--json", *(["--backend", args.backend] if args.backend else [])]
    command += ["--threads", str(args.threads)] if args.threads else []
    for name, kind in cache_types_of(args).items():
        command += [f"--{name.replace('_', '-')}", kind] if kind else []
    seconds, answers = [], []
    for _ in range(min(args.r, 3) + 1):
        show_line("starting a process of its own")
        started = time.perf_counter()
        done = children.run(command, stdout=PIPE, stderr=PIPE, text=True)
        if done.returncode:
            raise QwenRefError(f"the measured process failed: {done.stderr.strip()}")
        seconds.append(time.perf_counter() - started)
        answers.append(json.loads(done.stdout))
    show_line("")
    return {
        "test": "start",
        "seconds_to_first_token": statistics.median(seconds[1:]),
        "peak_memory_mb": statistics.median(a["peak_memory_mb"] for a in answers[1:]),
        "private_memory_mb": statistics.median(a["private_memory_mb"] or 0 for a in answers[1:]),
    }


def table(results: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown."""
    from qwen_ref.model.cache_types import PLAIN

    lines = [
        "| model | size | params | backend | threads | test | t/s |",
        "|---|---:|---:|---|---:|---|---:|",
    ]
    for r in results:
        if r["test"] == "start":
            value = (
                f"{r['seconds_to_first_token']:.2f} s, peak {r['peak_memory_mb']} MB "
                f"({r['private_memory_mb']} MB private)"
            )
        elif r["test"] == "profile":
            continue
        else:
            spread = statistics.pstdev(r["rates"])
            value = f"{r['tokens_per_second']:.2f} ± {spread:.2f}"
            if "bytes_per_second" in r:
                share = r["bytes_per_second"] / r["reading_bytes_per_second"]
                value += f" ({r['bytes_per_second'] / 1e9:.1f} GB/s, {share:.0%} of plain reading)"
        size, params = f"{r['size'] / 2**20:.2f} MiB", f"{r['params'] / 1e6:.2f} M"
        test = r["test"] + (f", {r['parallel']} at once" if r.get("parallel", 1) > 1 else "")
        if (types := tuple(r["cache_types"])) != PLAIN:
            test += f", keys and values in {' and '.join(types)}"
        cells = r["model"], size, params, r["backend"], r.get("threads", ""), test, value
        lines.append(f"| {' | '.join(map(str, cells))} |")
    for r in results:
        if r["test"] == "profile":
            profile = r["profile"]["table"]
            lines += ["", f"where the time of a token goes, {r['model']}:", "", "```text", profile, "```"]
    return lines


def environment() -> list[str]:
    """What the figures were measured with, once kernels are loaded."""
    if "numba" not in sys.modules:
        return []
    from qwen_ref.kernels import simd

    return ["", f"int8 dot product: {simd.DOT}"]
