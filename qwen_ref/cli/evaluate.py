"""How often a model is right on a task of yours, and whether another model or quantization is better.

A task is a JSONL file, a sample a line: what is asked, and how its answer is judged (docs/evaluate.md).

  {"input": "What colour is the sky?", "target": "blue", "score": "includes"}
  {"input": "The sky is", "choices": ["blue", "green"], "target": "blue"}

examples:
  python -m qwen_ref evaluate task.jsonl                        # the small model that ships with qwen_ref
  python -m qwen_ref evaluate task.jsonl BF16.gguf Q4_K_M.gguf  # two, on the same samples
  python -m qwen_ref evaluate task.jsonl model.gguf --output answers.jsonl --json
  python -m qwen_ref evaluate task.jsonl model.gguf --raw --limit 100  # texts as they are, as base models

Intervals are of 95 %: Wilson's for shares, bootstrap for means. Of several models each is compared with the
first: McNemar's exact test for right and wrong, sign flips for means. Ctrl-C ends with what was answered so
far, and status 130.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gguf_io import GGUFError
from qwen_ref.cli.options import (
    MODEL_HELP,
    add_cluster,
    add_media,
    add_memory_limit,
    add_resources,
    add_sampling,
    add_thinking,
    add_thinking_budget,
    greedy_or_sampling_of,
    limits_of,
    model_file,
    resources_of,
    shipped_model,
    show_line,
    to_json,
    where_of,
)
from qwen_ref.cli.warmup import show_compiling
from qwen_ref.errors import QwenRefError
from qwen_ref.files import check_not_printed_to, is_one_file, json_line, write_whole

if TYPE_CHECKING:
    from qwen_ref.cluster.scheduler import Where
    from qwen_ref.evaluate import report
    from qwen_ref.evaluate.answers import Answer, Options
    from qwen_ref.evaluate.task import Sample

MAX_TOKENS = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="a JSONL file of samples")
    # with a default argparse does not say that one is required
    parser.add_argument("model", nargs="*", default=[], type=model_file, metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "--score",
        choices=["exact", "includes", "regex", "json", "boxes"],
        default="exact",
        help="how answers are judged whose line does not say it (exact; with choices: the likeliest)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N samples only")
    parser.add_argument(
        "--raw", action="store_true", help="no chat template: texts are continued as they are"
    )
    add_thinking(parser, "reason before answering (unless one of both is given, the chat template decides)")
    add_thinking_budget(parser)
    parser.add_argument(
        "-n",
        "--max-tokens",
        type=int,
        default=MAX_TOKENS,
        metavar="N",
        help=f"of an answer, at most ({MAX_TOKENS})",
    )
    parser.add_argument(
        "--context", type=int, metavar="N", help="longest prompt and answer, in tokens (the model's own)"
    )
    parser.add_argument(
        "--parallel", type=int, metavar="N", help="answers at once (8, or as memory has room for)"
    )
    media = parser.add_argument_group("pictures and clips")
    add_media(media)
    add_sampling(parser, "greedy, unless one of these is given")
    other = parser.add_argument_group("output and resources")
    other.add_argument(
        "--output", metavar="FILE", help="write each answer and its scores, a JSON object a line"
    )
    other.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    add_resources(other)
    add_memory_limit(other)
    add_cluster(parser)


def options_of(args: argparse.Namespace) -> Options:
    """Raises QwenRefError for what makes no sense."""
    for name in "limit", "max_tokens", "parallel":
        if (value := getattr(args, name)) is not None and value < 1:
            raise QwenRefError(f"--{name.replace('_', '-')}: {value} is less than 1")
    if args.raw and (args.thinking is not None or args.thinking_budget is not None):
        raise QwenRefError("--raw: without a chat template nobody is asked to think")
    if args.thinking_budget is not None and args.thinking is False:
        raise QwenRefError("--thinking-budget: --no-thinking leaves nothing to end")
    from qwen_ref.evaluate.answers import PARALLEL, Options

    return Options(
        raw=args.raw,
        thinking=args.thinking,
        thinking_budget=args.thinking_budget,
        max_tokens=args.max_tokens,
        limits=limits_of(args),
        parallel=args.parallel or PARALLEL,
        fewer=args.parallel is None,
        sampling=greedy_or_sampling_of(args),
    )


def names_of(paths: list[str]) -> list[str]:
    """Files' names, or their paths where two have the same. Raises QwenRefError for one given twice."""
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise QwenRefError(f"{path}: is there twice")
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else paths


def run(args: argparse.Namespace) -> int:
    from qwen_ref.evaluate.task import files_of_media, read_task

    options = options_of(args)
    where = where_of(args)
    samples = read_task(args.task, args.score)[: args.limit]
    paths = args.model or [shipped_model()]
    names = names_of(paths)
    for path in paths:
        if not os.path.exists(path):  # before another one is computed with
            raise QwenRefError(f"{path}: does not exist")
    for path in files_of_media(samples) if args.output else ():
        if is_one_file(Path(args.output), Path(path)):
            raise QwenRefError(f"--output: {args.output} is read, too")
    results: report.Results = {}
    status = 0
    problem: Exception | None = None
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(lines_to(args.output)) if args.output else None
        try:
            for path, name in zip(paths, names, strict=True):
                results[name] = {}
                answer_all(args, where, path, name, samples, options, results[name], write)
        except KeyboardInterrupt:
            status = 130
        except (QwenRefError, GGUFError, OSError, MemoryError) as error:  # what was answered is shown
            status, problem = 2, error
        show_line("")
        tell(args, samples, results, status)
    if problem is not None:
        raise problem
    return status


def answer_all(
    args: argparse.Namespace,
    where: Where | None,
    path: str,
    name: str,
    samples: list[Sample],
    options: Options,
    answered: dict[str | int, Answer],
    write: Callable[[dict[str, Any]], None] | None,
) -> None:
    """Fill `answered`, by the samples' ids."""
    started = time.perf_counter()
    with contextlib.closing(answers_of(args, where, path, name, samples, options)) as given:
        for answer in given:
            answered[answer.sample.id] = answer
            if write:
                write(line_of(name, answer))
            done, seconds = len(answered), time.perf_counter() - started
            right = 100 * sum(a.main for a in answered.values()) / done
            left = seconds / done * (len(samples) - done)
            show_line(f"{name}: {done} of {len(samples)} samples, {right:.1f} %, about {left:.0f} s left")


def answers_of(
    args: argparse.Namespace,
    where: Where | None,
    path: str,
    name: str,
    samples: list[Sample],
    options: Options,
) -> Generator[Answer]:
    """As they come: of this machine, or of a cluster."""
    if where is not None:
        from qwen_ref.cluster.model_files import files_of
        from qwen_ref.evaluate.cluster import answers_on

        model_files, given = files_of(path, args.mmproj, show_line), resources_of(args)
        return answers_on(where, model_files, given, samples, options, show_line)
    from qwen_ref.engine import load
    from qwen_ref.engine.prefixes import default_budget
    from qwen_ref.evaluate.answers import answers

    show_line(f"loading {name}")
    together, fewer = options.parallel, options.fewer
    model = load(path, **resources_of(args), keep=default_budget(), parallel=together, fewer=fewer)
    model.warm_up(
        show_compiling,
        pictures=any(not isinstance(sample.prompt, str) for sample in samples) and model.sees,
    )
    show_line(f"{name}: {len(samples)} samples")
    return answers(model, samples, replace(options, parallel=model.parallel))


def line_of(name: str, answer: Answer) -> dict[str, Any]:
    """What --output tells of an answer."""
    sample = answer.sample
    told: dict[str, Any] = {"model": name, "id": sample.id, "group": sample.group, "answer": answer.text}
    told["scores"] = answer.scores
    if answer.choices:
        told["choices"] = [
            {"text": text, "logprob": found.logprob, "greedy": found.greedy}
            for text, found in zip(sample.choices, answer.choices, strict=True)
        ]
    else:
        told["finish_reason"] = answer.finish_reason
    return told if sample.metadata is None else told | {"metadata": sample.metadata}


@contextlib.contextmanager
def lines_to(path: str) -> Any:
    """What writes a line into a file, which has each as soon as it is known. What was there stays until the
    first, and a file that was made for none goes again. Raises QwenRefError."""

    def failed(error: OSError) -> QwenRefError:
        return QwenRefError(f"{path}: cannot be written: {error.strerror or error}")

    check_not_printed_to(path)
    made_here, begun = not os.path.exists(path), False
    try:
        file: IO[bytes] = open(path, "ab")  # noqa: SIM115
    except OSError as error:
        raise failed(error) from None

    def write(value: dict[str, Any]) -> None:
        nonlocal begun, file
        try:
            if not begun and os.path.getsize(path):  # a device has no size
                with write_whole(path) as whole:
                    whole.write(json_line(value))
                file.close()
                file = open(path, "ab")  # noqa: SIM115
            else:
                file.write(json_line(value))
                file.flush()
        except OSError as error:
            raise failed(error) from None
        begun = True

    try:
        yield write
    finally:
        with contextlib.suppress(OSError):  # told when it was written
            file.close()
        if made_here and not begun:
            with contextlib.suppress(OSError):
                os.unlink(os.path.realpath(path))  # of a link what it points to


def tell(args: argparse.Namespace, samples: list[Sample], results: report.Results, status: int) -> None:
    """The table, or JSON, of what was answered."""
    from qwen_ref.evaluate import report

    results = {name: given for name, given in results.items() if given}
    cut = {
        name: sum(str(a.finish_reason).startswith("length") for a in given.values())
        for name, given in results.items()
    }
    found = report.rows(results) if results else []
    if args.json:
        print(
            to_json(
                {
                    "task": args.task,
                    "samples": len(samples),
                    "answered": {name: len(given) for name, given in results.items()},
                    "cut_off": cut,
                    "complete": status == 0,
                    "results": report.as_json(found),
                }
            )
        )
        return
    if not found:
        return
    models = list(results)
    print(f"{args.task}: {len(samples)} samples\n")
    print(report.table(found, models))
    for model in models[1:]:
        last = found[-1] if found[-1].group == report.ALL else found[0]
        if (cell := last.cells.get(model)) and cell.beside:
            print("\n" + report.verdict(models[0], model, cell.beside))
    for model in models:
        if len(results[model]) < len(samples):
            print(f"{model}: {len(results[model])} of {len(samples)} samples were answered", file=sys.stderr)
        if cut[model]:
            why = f"by -n {args.max_tokens} or the context"
            print(f"{model}: {cut[model]} answers were cut off, {why}", file=sys.stderr)
