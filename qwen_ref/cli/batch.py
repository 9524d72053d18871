"""Answer a file of requests, in OpenAI's Batch format, or a folder of pictures.

examples:
  python -m qwen_ref batch requests.jsonl -o results.jsonl --model model.gguf
  python -m qwen_ref batch --images photos -o captions.jsonl --prompt "Describe it." --max-tokens 200
  python -m qwen_ref batch --images receipts -o totals.csv --prompt "What did this cost?" --greedy \\
      --json-schema '{"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}'
  python -m qwen_ref batch questions.csv -o answers.csv --max-tokens 300      # columns custom_id and prompt
  python -m qwen_ref batch requests.parquet -o results.parquet                # pip install 'qwen_ref[tables]'

A line of requests is {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {…}}, and a
result has its custom_id, and a response or an error; they come in the order in which they are ready. Stopped
or killed, the same command goes on where it was.

Exit status: 0 if every request has a result, be it an error; 1 if some could not be answered now; 2 if an
option makes no sense, or the results cannot be written, or belong to other requests or another model; 130
after Ctrl-C.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen_ref.cli.generate import read_schema
from qwen_ref.cli.options import (
    DRAFT_HELP,
    MODEL_HELP,
    SAMPLING,
    add_cluster,
    add_draft,
    add_keeping,
    add_memory_limit,
    add_names,
    add_request_media,
    add_resources,
    add_sampling,
    add_thinking,
    add_thinking_budget,
    check_budget,
    check_counts,
    keeping_of,
    media_folder_of,
    names_of,
    resources_of,
    sampling_of,
    shipped_model,
    show_line,
    threads_here,
    typed_text,
    where_of,
)
from qwen_ref.cli.warmup import show_compiling
from qwen_ref.errors import QwenRefError
from qwen_ref.files import is_one_file, regular_file

if TYPE_CHECKING:
    from qwen_ref.batch.batch import Batch
    from qwen_ref.batch.requests import Make, Request
    from qwen_ref.cluster.scheduler import Where
    from qwen_ref.engine import Model

REFRESH = 0.2  # seconds
OPTIONS = {"response_format.json_schema.schema": "json_schema"}  # field of a request -> what it comes from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("requests", nargs="?", metavar="FILE", help="requests: .jsonl, .csv or .parquet")
    parser.add_argument("-i", "--input-file", metavar="FILE", help="the same, as `vllm run-batch` has it")
    parser.add_argument(
        "-o",
        "--output-file",
        required=True,
        metavar="FILE",
        help="results, as .jsonl; or .csv or .parquet, written at the end from lines in FILE.jsonl",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="begin anew, whatever results there are in the file"
    )
    parser.add_argument(
        "--retry-errors",
        action="store_true",
        help="take the errors out of the results, and try these requests again",
    )
    parser.add_argument("-m", "--model", metavar="FILE", help=MODEL_HELP)
    add_names(parser, "--served-model-name")
    add_request_media(parser.add_argument_group("pictures that requests name"))
    made = parser.add_argument_group("requests that are made here, of pictures or of a table's prompts")
    made.add_argument(
        "--images",
        metavar="FOLDER",
        help="one request for each picture in it, and in folders in it; custom_id is its path there",
    )
    made.add_argument("--prompt", type=typed_text, metavar="TEXT", help="what is asked about each picture")
    made.add_argument("--system", type=typed_text, metavar="TEXT", help="system prompt")
    made.add_argument("-n", "--max-tokens", type=int, metavar="N", help="at most this many tokens (32,768)")
    made.add_argument("--max-image-tokens", type=int, metavar="N", help="of each picture (16,384)")
    made.add_argument(
        "--json-schema",
        type=typed_text,
        metavar="TEXT",
        help="answer in JSON that fits this JSON schema, given as text or as a file; true for any object",
    )
    add_thinking(made, "reason before answering (unless one of both is given, the chat template decides)")
    add_thinking_budget(made)
    add_sampling(parser)
    resources = parser.add_argument_group("resources")
    resources.add_argument(
        "--parallel", type=int, metavar="N", help="answers computed together (16, or as memory has room for)"
    )
    resources.add_argument(
        "--context", type=int, metavar="N", help="longest prompt and answer, in tokens (the model's own)"
    )
    add_keeping(resources)
    add_draft(resources, "off", f"{DRAFT_HELP}; off: beside other answers they seldom pay")
    add_resources(resources)
    add_memory_limit(resources)
    add_cluster(parser)


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of requests that are made here. Raises QwenRefError."""
    if args.penalty_last_n is not None:
        raise QwenRefError("--penalty-last-n: there is no such field in a request")
    schema = read_schema(args.json_schema)
    if isinstance(schema, str):
        from qwen_ref.serve.errors import Problem
        from qwen_ref.serve.fields import parse

        try:
            schema = parse("--json-schema", schema)
        except Problem as problem:
            raise QwenRefError(problem.message) from None
    form = None
    if schema is not None:
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    options = sampling_of(args) | {
        "max_tokens": args.max_tokens,
        "response_format": form,
        "enable_thinking": args.thinking,
        "thinking_budget": args.thinking_budget,
    }
    return {name: value for name, value in options.items() if value is not None}


def check(args: argparse.Namespace) -> None:
    if args.parallel is not None and args.parallel < 1:
        raise QwenRefError(f"--parallel: {args.parallel} is not 1 or more")
    given = [path for path in (args.requests, args.input_file, args.images) if path is not None]
    if len(given) != 1:
        told = "give one of both" if given else "give FILE, or --images FOLDER"
        raise QwenRefError(f"{'several sources of requests' if given else 'no requests'}: {told}")
    args.requests = args.requests or args.input_file
    if args.prompt == "":
        raise QwenRefError("--prompt: is empty")
    if (args.images is None) != (args.prompt is None):
        raise QwenRefError("--images and --prompt: one needs the other")
    from qwen_ref.batch import tables

    out = Path(args.output_file)
    if args.output_file == "-":
        raise QwenRefError("--output-file: -: results go into a file, from which the same command can go on")
    lines = lines_of(out)
    if args.requests and is_one_file(lines, Path(args.requests)):
        raise QwenRefError(f"--output-file: {lines} are the requests")
    if lines != out and out.exists():  # lines are looked at where they are opened
        regular_file(out)
        if out.stat().st_size and not lines.exists() and not args.overwrite:
            told = f"{out}: is no table of this batch: there is no {lines}"
            raise QwenRefError(f"{told}; --overwrite begins anew")

    if not made_here(args):
        about = ["system", "max-tokens", "json-schema", "thinking", "thinking-budget", *SAMPLING]
        for name in about if not args.greedy else ["greedy"]:
            if getattr(args, name.replace("-", "_")) is not None:
                raise QwenRefError(f"--{name}: {args.requests} says that itself, in each request")
    if args.images is not None and args.allowed_local_media_path is not None:
        raise QwenRefError("--allowed-local-media-path: --images names what is looked at")
    if args.images is None and args.max_image_tokens is not None:
        raise QwenRefError("--max-image-tokens: there is no --images")
    check_counts(args, "max_image_tokens")
    media_folder_of(args)
    if out.suffix.lower() == ".parquet":
        tables.parquet(out)


def made_here(args: argparse.Namespace) -> bool:
    """Whether the requests are made of pictures, or of prompts in a table. Raises QwenRefError."""
    from qwen_ref.batch import tables

    if args.images is not None:
        return True
    path = Path(args.requests)
    return tables.is_table(path) and "body" not in next(tables.rows(path), {})


def check_asked(args: argparse.Namespace, make: Make, model: Model, names: list[str]) -> None:
    """What each of the requests asks for alike, before the first is answered. Raises QwenRefError."""
    from qwen_ref.batch.answers import check_body
    from qwen_ref.serve.errors import Problem

    url, body = "/v1/completions", {"model": names[0], "prompt": "Hello"}
    if made_here(args):
        url, body = "/v1/chat/completions", make("Hello", None)
    try:
        check_body(url, body, model, names, args.draft)
    except Problem as problem:
        option = OPTIONS.get(problem.param or "", problem.param)
        if option is None or not hasattr(args, option):
            raise QwenRefError(problem.message) from None
        told = problem.message.removeprefix(f"{problem.param}:")
        raise QwenRefError(f"--{option.replace('_', '-')}:{told}") from None
    if args.thinking_budget is not None:
        check_budget(args, model.encode_prompt("Hello", thinking=args.thinking).thinks)


def lines_of(out: Path) -> Path:
    """Where results are while they come: of a table in a file beside it."""
    from qwen_ref.batch import tables

    return out.with_name(f"{out.name}.jsonl") if tables.is_table(out) else out


def source(args: argparse.Namespace, make: Make) -> Callable[[], Iterator[Request]]:
    from qwen_ref.batch import requests, tables

    if args.images is not None:
        return lambda: requests.each_once(requests.from_pictures(Path(args.images), args.prompt, make))
    path = Path(args.requests)
    if tables.is_table(path):
        return lambda: requests.each_once(requests.from_table(path, make))
    return lambda: requests.each_once(requests.from_lines(path))


class Progress:
    """A line on the terminal, and none elsewhere."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, batch: Batch) -> None:
        if (now := time.monotonic()) < self._next:
            return
        self._next = now + REFRESH
        line = f"{batch.done:,} of {batch.total:,}"
        if batch.done > batch.found:
            speed = batch.tokens / batch.seconds
            line += f", {speed:.1f} tokens/s, about {lasting(batch.seconds_left)} left"
        show_line(line)


def lasting(seconds: float) -> str:
    """ "42 s", "7 min", "3 h 20 min" """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def run(args: argparse.Namespace) -> int:
    check(args)
    options = options_of(args)
    where = where_of(args, "cache")
    resources, keeping = resources_of(args) | {"threads": threads_here(args)}, keeping_of(args)
    from qwen_ref.batch import tables
    from qwen_ref.batch.answers import MOST
    from qwen_ref.batch.batch import Batch
    from qwen_ref.batch.requests import maker
    from qwen_ref.batch.results import Results
    from qwen_ref.engine import load

    path = shipped_model() if args.model is None else args.model
    most, fewer, own = args.parallel or MOST, args.parallel is None, keeping if where is None else {}
    model = load(path, **resources, **own, parallel=most, fewer=fewer)
    names = names_of(args, model.path)
    out = Path(args.output_file)
    lines = lines_of(out)
    make = maker(names[0], args.system, options, args.max_image_tokens)
    if args.images is not None:
        _ = model.vision  # without it no picture could be answered
    check_asked(args, make, model, names)
    all_requests = source(args, make)
    results = Results(lines, model.fingerprint, overwrite=args.overwrite, retry_errors=args.retry_errors)
    try:
        batch = Batch(all_requests, args.requests or args.images, results)
        try:
            if batch.done == batch.total:
                pass
            elif where is None:
                answer_here(args, batch, model, names)
            else:
                fingerprint = model.fingerprint
                del model  # here nothing is computed
                gc.collect()  # what looked at a request knows it, and itself
                answer_on(where, args, batch, path, names, fingerprint)
        except KeyboardInterrupt:
            told = f"{lines}: {batch.done:,} of {batch.total:,} have a result; the same command goes on"
            print(told, file=sys.stderr)
            return 130
        finally:
            show_line("")
        if batch.total and batch.done == batch.total:
            results.leave_errors()
        results.begin()  # where there was nothing to answer, too
        if lines != out and not results.stale:
            tables.write(lines, out)
    finally:
        results.close()
    summarize(batch, str(out))
    return 1 if batch.passing else 0


def media_folder(args: argparse.Namespace) -> str | None:
    """Of which requests may name files. The pictures of a folder that was given may be links to anywhere: no
    request names others."""
    return media_folder_of(args) if args.images is None else "/"


def answer_here(args: argparse.Namespace, batch: Batch, model: Model, names: list[str]) -> None:
    from qwen_ref.batch.answers import default_parallel, here, new_service

    settings = dict(draft=args.draft, remote_media=args.allow_remote_media, media_folder=media_folder(args))
    parallel = args.parallel or min(model.parallel, default_parallel(model))
    service = new_service(model, names, parallel, settings)
    model.warm_up(show_compiling, pictures=model.sees)
    batch.run(here(service), Progress())
    if model.prefixes is not None:
        model.prefixes.save()


def answer_on(
    where: Where, args: argparse.Namespace, batch: Batch, path: str, names: list[str], fingerprint: str
) -> None:
    from qwen_ref.batch.cluster import Options, on_workers, prepare
    from qwen_ref.cluster.model_files import files_of
    from qwen_ref.cluster.worker import Job

    options = Options(
        fingerprint,
        names,
        load=resources_of(args),
        settings=dict(draft=args.draft, remote_media=args.allow_remote_media),
        keep=None if args.keep is None else keeping_of(args)["keep"],
        parallel=args.parallel,
    )
    job = Job(prepare, options, (files_of(path, args.mmproj, show_line),), where.share)
    batch.run(on_workers(where, job, media_folder(args), show_line), Progress())


def summarize(batch: Batch, path: str) -> None:
    had = f"{batch.found:,} had a result, " if batch.found else ""
    answered = f"{batch.answered:,} answered, {batch.errors:,} errors"
    line = f"{path}: {batch.total:,} requests: {had}{answered}"
    if batch.seconds:
        speed = batch.tokens / batch.seconds
        line += f"; {batch.tokens:,} tokens in {batch.seconds:.1f} s, {speed:.1f} tokens/s"
    print(line, file=sys.stderr)
    if (wrong := batch.first_error) is not None:
        of = "" if wrong["custom_id"] is None else f", of {wrong['custom_id']!r:.100}"
        print(f"the first error{of}: {wrong['error']['message']:.300}", file=sys.stderr)
    if batch.passing:
        first = next(iter(batch.passing.values()))
        print(
            f"{len(batch.passing):,} could not be answered now, as {first.request.custom_id!r:.100} "
            f"({first.problem.message}); the same command tries them again",
            file=sys.stderr,
        )
