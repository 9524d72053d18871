"""A report card of an engine over the conformance kit: tiny models, and what they compute

examples:
  python -m qwen_ref conformance --list
  python -m qwen_ref conformance --engine my_engine.py                        # its function run(case)
  python -m qwen_ref conformance --engine my_package.oracle:run grouped 'length-*'
  python -m qwen_ref conformance --engine "./engine {model} --ids {ids} --dump {dump}" --allow bfloat16
  python -m qwen_ref conformance --engine "llama-eval-callback -m {model} -f {text}" plain
  python -m qwen_ref conformance --engine my_engine.py --plot card.svg        # or .png
  python -m qwen_ref conformance --self-test

A Python function gets a case (qwen_ref.oracle.conformance.Case) and returns tensors under a golden's names.
One that yields them, of the prompt and then of each token after it, is judged in decoding too. A command is
run once a case, with files in these places: {model} and {mmproj} (GGUF), {ids} (token ids, one a line:
{prompt_tokens} of the prompt, then the greedy continuation), {text} (the prompt as the chat template renders
it), {messages} (JSON), {media} (pictures and clips), {inputs} (.safetensors with pixel_values and the like),
and {dump}, the .safetensors file that it writes (with the number `steps` in it decoding is judged); without
{dump} what it prints is read as llama-eval-callback's output. docs/conformance.md says more.

--self-test judges the kit's dumps, of engines that make one mistake each, and of one that makes none.

Exit status: 0 some cases are right and the others not supported; 1 some are wrong, failed or were not judged,
or none is right; 2 the engine cannot be run at all; 3 some are partly judged (what was given is right, and no
logits are among it) and none is wrong. Of --self-test: 0, or 1 if a dump with a mistake passes, or the other
does not.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from qwen_ref import plot
from qwen_ref.cli.options import TILED_HELP, add_plot, to_json
from qwen_ref.errors import QwenRefError

if TYPE_CHECKING:
    from qwen_ref.oracle.conformance import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cases", nargs="*", default=["*"], metavar="CASE", help="names or patterns (all)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--engine", metavar="ENGINE", help="module:function, FILE.py[:function] or a command")
    what.add_argument("--list", action="store_true", help="say what the cases are")
    what.add_argument("--self-test", action="store_true", help="judge the kit's dumps with known mistakes")
    parser.add_argument(
        "--allow", metavar="ARITHMETIC", help="what the engine may err by: float64, float32, … (the case's)"
    )
    parser.add_argument("--tiled", action="store_true", help=TILED_HELP)
    parser.add_argument("--json", action="store_true", help="for programs: all differences of all cases")
    add_plot(parser, "how near each case comes to its budget")


def run(args: argparse.Namespace) -> int:
    from qwen_ref.oracle import conformance

    if args.plot and not args.engine:
        raise QwenRefError(f"--plot {args.plot}: without --engine there are no figures to draw")
    if args.self_test:
        return self_test(args)
    cases = conformance.cases(args.cases)
    if args.list:
        for case in cases:
            print(f"{case.name:12} {case.model.name:16} {case.golden.about['tests']}")
        return 0
    engine = conformance.find_engine(args.engine)
    if args.tiled:
        engine = conformance.with_tiled_heads(engine)
    results = conformance.run(engine, cases, args.allow)
    done = list(results) if args.json else print_card(results)
    if args.json:
        print(to_json([as_json(result) for result in done], 1))
    if args.plot:
        plot.write(args.plot, chart(done, args.engine))
    verdicts = {result.verdict for result in done} - {"not supported"}
    if "partly judged" in verdicts and verdicts <= {"right", "partly judged"}:
        return 3
    return 0 if verdicts == {"right"} else 1


def chart(results: list[Result], engine: str) -> plot.Bars:
    """Of each case the share of its budget that the tensor nearest to it takes."""
    reports = {result.case.name: result.report for result in results if result.report}
    shares = {
        name: max(d.share[report.allowed] for d in report.differences)
        for name, report in reports.items()
        if report.differences
    }
    bad = {result.case.name for result in results if result.verdict == "wrong"}
    return plot.Bars(f"{engine}: the largest error", "of the budget", shares, bad, log=True, limit=1)


def self_test(args: argparse.Namespace) -> int:
    from qwen_ref.oracle import conformance

    if args.cases != ["*"] or args.tiled:
        raise QwenRefError("--self-test: judges all dumps, as they are; it takes neither cases nor --tiled")
    done: list[dict[str, Any]] = []
    for dump, result, expected in conformance.self_test(args.allow):
        done.append({"dump": dump.name, "wrong": dump.wrong, "expected": expected} | as_json(result))
        if not args.json:
            line = f"{'' if expected else 'NOT AS EXPECTED: '}{result.verdict}"
            line += f": {note_of(result)}" if note_of(result) else ""
            print(f"{dump.name:24} {dump.case.name:14} {line}", flush=True)
    if args.json:
        print(to_json(done, 1))
    right = sum(entry["expected"] for entry in done)
    print(f"{right} of {len(done)} dumps judged as expected", file=sys.stderr)
    return int(right < len(done))


def as_json(result: Result) -> dict[str, Any]:
    report = result.report and dataclasses.asdict(result.report)
    return {
        "case": result.case.name,
        "verdict": result.verdict,
        "note": result.note,
        "traceback": result.traceback,
        "seconds": result.seconds,
        "report": report,
    }


def note_of(result: Result) -> str:
    """With the likely cause, where the first wrong tensor is what is told."""
    report = result.report
    if report and report.cause and report.first and result.note.startswith(report.first.name):
        return f"{result.note}. Likely cause: {report.cause}"
    return result.note


def print_card(results: Iterable[Result]) -> list[Result]:
    """A Markdown table, a line as soon as its case is through."""
    from qwen_ref.oracle.compare import times

    print("| case | verdict | tensors | nearest to its budget | logits: KL | decoding | greedy tokens | |")
    print("|---|---|---:|---|---|---|---|---|")
    done = []
    for result in results:
        done.append(result)
        tensors = worst = kl = decoding = greedy = ""
        if report := result.report:
            tensors = report.part.removesuffix(" tensors")
            if report.differences:
                most = max(report.differences, key=lambda d: d.share[report.allowed])
                worst = f"{most.name}: {times(most.share[report.allowed])} of {report.allowed}"
            kl = f"{report.logits['kl']:.1e}, of " if report.logits else "of " if report.scope else ""
            kl += report.scope or "not judged"
            decoding = report.decoding or ""
            greedy = report.greedy or ""
        note = note_of(result).replace("|", "\\|")
        print(
            f"| {result.case.name} | {result.verdict} | {tensors} | {worst} | {kl} | {decoding} | {greedy} "
            f"| {note} |",
            flush=True,
        )
        if result.traceback:
            print(f"\n{result.case.name}: {result.traceback}", file=sys.stderr)
    right = sum(result.verdict == "right" for result in done)
    print(f"{right} of {len(done)} cases right", file=sys.stderr)
    return done
