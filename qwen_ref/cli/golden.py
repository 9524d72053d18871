"""Golden outputs: record what the model computes, exactly, and compare other engines with it

examples:
  python -m qwen_ref golden record --model Qwen3.5-0.8B-BF16.gguf --prompt "Why?" --out why.safetensors
  python -m qwen_ref golden record --image cat.jpg --prompt "What is this?" --out cat.safetensors
  python -m qwen_ref golden record --messages chat.json --generate 32 --out chat.safetensors
  python -m qwen_ref golden record --prompts prompts.jsonl --out goldens    # one for each line, in a folder
  python -m qwen_ref golden show why.safetensors
  python -m qwen_ref golden check why.safetensors dump.safetensors --allow bfloat16
  python -m qwen_ref golden check why.safetensors dump.npz --json
  python -m qwen_ref golden check why.safetensors dump.npz --plot layers.svg    # or .png
  python -m qwen_ref golden compare why.safetensors other.safetensors
  python -m qwen_ref golden export why.safetensors --out why

`record` runs the model in float64 with NumPy and writes inputs, intermediate tensors, logits, a greedy
continuation, and how far correct float32, bfloat16, float16 and 8-bit arithmetic lands from them. A dump has
tensors under the golden's names; `show` lists them. `export` writes a folder of JSON and raw numbers, for
engines in any language; a dump may be a folder of such numbers. Exit status of `check` and `compare`: 0 right
(logits and all else that was given are within what the arithmetic explains), 1 wrong, 2 cannot be used, 3
partly judged: what was given is right, and no logits are among it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen_ref import plot
from qwen_ref.cli.options import (
    MODEL_HELP,
    TILED_HELP,
    add_cluster,
    add_plot,
    add_thinking,
    gib_of,
    memory_of,
    model_file,
    shipped_model,
    show_line,
    to_json,
    typed_text,
    where_of,
)
from qwen_ref.conversation import saved
from qwen_ref.errors import QwenRefError
from qwen_ref.files import read_lines
from qwen_ref.machine import available_memory
from qwen_ref.media import parts
from qwen_ref.messages import Message
from qwen_ref.oracle.logits import TOP

if TYPE_CHECKING:
    from qwen_ref.cluster.model_files import Found
    from qwen_ref.cluster.scheduler import Where
    from qwen_ref.cluster.worker import Ready
    from qwen_ref.engine import Model
    from qwen_ref.oracle.compare import Report
    from qwen_ref.oracle.golden import Golden

SMALL = 1 << 15  # tokens x hidden_size x layers up to which everything is kept: about 10 MB
ROWS, COLUMNS = 3, 256  # kept of each tensor of a larger model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="golden", required=True, metavar="ACTION")
    record = commands.add_parser("record", help="write a golden")
    record.add_argument("--model", type=model_file, metavar="FILE", help=MODEL_HELP)
    record.add_argument("--mmproj", metavar="FILE", help="the model's vision file, as for generate")
    asked = record.add_mutually_exclusive_group(required=True)
    asked.add_argument("--prompt", type=typed_text, metavar="TEXT", help="the question")
    asked.add_argument(
        "--messages",
        type=Path,
        metavar="FILE",
        help="a conversation: JSON as for chat APIs, or with tools too",
    )
    asked.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help='many: JSONL, in each line {"prompt": …} or {"messages": […]}, and "id", its golden\'s name',
    )
    for kind in "image", "video":
        record.add_argument(
            f"--{kind}", action="append", default=[], metavar="FILE", help="before the question; repeatable"
        )
    record.add_argument("--raw", action="store_true", help="send the prompt without a chat template")
    add_thinking(record, "as for generate")
    record.add_argument(
        "--generate", type=int, default=8, metavar="N", help="greedy tokens after the prompt (8)"
    )
    record.add_argument(
        "--first-position",
        type=int,
        default=0,
        metavar="N",
        help="where RoPE begins to count: as far into a text, without the text (0)",
    )
    record.add_argument(
        "--names", nargs="+", metavar="PATTERN", help="what to keep: layers.0.*, logits (all)"
    )
    record.add_argument(
        "--rows",
        type=rows_of,
        metavar="N[,N…]",
        help="tokens to keep of each tensor: how many, which, or all (all of a small model, else 3)",
    )
    record.add_argument(
        "--columns",
        type=count_of,
        metavar="N",
        help="columns to keep, at most, or all (all of a small model, else 256)",
    )
    record.add_argument(
        "--top", type=int, default=TOP, metavar="N", help=f"best tokens to keep of each position ({TOP})"
    )
    record.add_argument(
        "--memory", type=gib_of, metavar="SIZE", help="for weights as floats (2G, 512M; half of what is free)"
    )
    record.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="the golden, .safetensors; of --prompts the folder for all of them",
    )
    add_cluster(record)
    show = commands.add_parser("show", help="say what is in a golden")
    show.add_argument("golden_file", metavar="GOLDEN", type=Path)
    for name, other, text in (
        (
            "check",
            "dump",
            "a dump (.safetensors, .npz, a folder, or .txt of llama-eval-callback) of another engine",
        ),
        ("compare", "other", "another golden"),
    ):
        command = commands.add_parser(name, help=f"compare a golden with {text}")
        command.add_argument("golden_file", metavar="GOLDEN", type=Path)
        command.add_argument("other", metavar=other.upper(), type=Path, help=text)
        command.add_argument(
            "--allow", default="float32", help="what may explain a difference: float64, float32 …"
        )
        command.add_argument("--json", action="store_true", help="for programs")
        command.add_argument("--html", type=Path, metavar="FILE", help="write a page, with a chart, as well")
        add_plot(command, "the error by layer")
        if name == "check":
            command.add_argument("--tiled", action="store_true", help=TILED_HELP)
    export = commands.add_parser("export", help="write a golden as JSON and raw numbers")
    export.add_argument("golden_file", metavar="GOLDEN", type=Path)
    export.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="a new one, or an empty one"
    )


def run(args: argparse.Namespace) -> int:
    return {"record": record_golden, "show": show, "export": export_golden}.get(args.golden, check)(args)


def count_of(text: str) -> int:
    """ "3" -> 3, "all" -> more than there can be."""
    return sys.maxsize if text == "all" else int(text)


def rows_of(text: str) -> int | list[int]:
    """ "3" -> 3, "0,1,-1" -> [0, 1, -1]."""
    return [int(n) for n in text.split(",")] if "," in text else count_of(text)


def record_golden(args: argparse.Namespace) -> int:
    for option in "messages", "image", "video":
        if args.raw and getattr(args, option):
            raise QwenRefError(f"{option}: a raw prompt is one text, without messages, pictures and clips")
    given = "prompts" if args.prompts else "messages"
    if (args.messages or args.prompts) and (args.image or args.video):
        raise QwenRefError(f"{given}: pictures and clips are parts of them; give no --image or --video")
    for option, least in ("columns", 1), ("generate", 0), ("first_position", 0), ("top", 2):
        if (value := getattr(args, option)) is not None and value < least:
            raise QwenRefError(f"{option.replace('_', '-')}: {value} is less than {least}")
    if args.rows in (0, []) or (isinstance(args.rows, int) and args.rows < 1):
        raise QwenRefError(f"rows: {args.rows} is less than 1")
    memory_of(args.memory)
    where = where_of(args)
    if where and args.prompts is None:
        raise QwenRefError(f"{where}: is for many goldens; give --prompts")
    if args.prompts is None:
        check_name(args.out)
        args.model = args.model or shipped_model()
        record_one(
            args, args.out, args.prompt, *(saved.read(args.messages) if args.messages else (None, None))
        )
        return 0
    lines = read_prompts(args.prompts)
    args.model = args.model or shipped_model()
    try:
        args.out.mkdir(exist_ok=True)
    except OSError as error:
        raise QwenRefError(f"{args.out}: cannot be made: {error.strerror}") from None
    if where:
        record_on(where, args, lines)
    else:
        for place, name, prompt, conversation, tools in lines:
            try:
                record_one(args, args.out / f"{name}.safetensors", prompt, conversation, tools)
            except QwenRefError as error:
                raise QwenRefError(f"{place}: {error}") from None
    print(f"{args.out}: {len(lines)} goldens")
    return 0


def check_name(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise QwenRefError(f"{path}: a golden's name ends in .safetensors")


Line = tuple[str, str, str | None, list[Message] | None, saved.Tools | None]


def read_prompts(path: Path) -> list[Line]:
    """Of each line where it is, its golden's name, its prompt, or messages and tools. Raises QwenRefError."""
    found, names = list[Line](), dict[str, str]()
    for where, value in read_lines(path):
        if not isinstance(value, dict) or (
            isinstance(value.get("prompt"), str) == isinstance(value.get("messages"), list)
        ):
            raise QwenRefError(f'{where}: is no object with a text, "prompt", or a list, "messages"')
        for field in value:
            if field not in ("id", "prompt", "messages", "tools"):
                raise QwenRefError(f"{where}: {field!r:.80} is no field: id, prompt, messages, tools")
        name = str(value.get("id", where.rpartition(" ")[2]))
        half = any("\ud800" <= letter <= "\udfff" for letter in name)  # of a character, as JSON may spell it
        if not name or name[0] == "." or "/" in name or "\0" in name or half or len(name) > 200:
            raise QwenRefError(f"{where}: id: {name!r:.80} is no name of a file")
        if name in names:
            raise QwenRefError(f"{where}: id: {name!r:.80} is that of {names[name].rpartition(': ')[2]}")
        names[name] = where
        messages, tools = value.get("messages"), value.get("tools")
        if messages is not None:
            if not all(isinstance(message, dict) for message in messages):
                raise QwenRefError(f"{where}: messages: is no list of objects")
            parts.beside(path.parent, messages)
        found.append((where, name, value.get("prompt"), messages, tools))
    if not found:
        raise QwenRefError(f"{path}: holds no prompt")
    return found


def record_on(where: Where, args: argparse.Namespace, lines: list[Line]) -> None:
    """On a cluster."""
    from qwen_ref.cluster import scheduler
    from qwen_ref.cluster.carried import carried
    from qwen_ref.cluster.model_files import files_of
    from qwen_ref.cluster.worker import Job

    def items() -> Iterator[Any]:
        for place, _, prompt, conversation, tools in lines:
            try:
                yield place, prompt, carried(conversation), tools
            except QwenRefError as error:
                raise QwenRefError(f"{place}: {error}") from None

    job = Job(prepare, args, (files_of(args.model, args.mmproj, show_line),), where.share)
    found = scheduler.results(where, job, items(), len(lines), lambda number: lines[number][0], show_line)
    with contextlib.closing(found):
        for done, (number, made) in enumerate(found, 1):
            show_line("")
            write(made, args.out / f"{lines[number][1]}.safetensors")
            show_line(f"{done} of {len(lines)} goldens")
    show_line("")


def prepare(models: list[Found], args: argparse.Namespace, share: int) -> Ready:
    """What a worker of a cluster records with."""
    from qwen_ref.cluster.worker import Ready

    memory = available_memory() / 2 / share / 2**30 if args.memory is None else args.memory
    own = {"model": models[0].path, "mmproj": models[0].vision, "memory": memory}
    args = argparse.Namespace(**vars(args) | own)

    def record(
        place: str, prompt: str | None, conversation: list[Message] | None, tools: saved.Tools | None
    ) -> Golden:
        try:
            return recorded(args, prompt, conversation, tools)
        except QwenRefError as error:
            raise QwenRefError(f"{place}: {error}") from None

    return Ready(lambda items: [record(*item) for item in items])


def record_one(
    args: argparse.Namespace,
    out: Path,
    asked: str | None,
    conversation: list[Message] | None,
    tools: saved.Tools | None,
) -> None:
    made = recorded(args, asked, conversation, tools, lambda what: show_line(f"computing in {what} …"))
    show_line("")
    write(made, out)


def write(made: Golden, out: Path) -> None:
    from qwen_ref.oracle import golden

    golden.save(made, out)
    print(f"{out}: {len(made.entries)} tensors, {out.stat().st_size / 1e6:.1f} MB")


def recorded(
    args: argparse.Namespace,
    asked: str | None,
    conversation: list[Message] | None,
    tools: saved.Tools | None,
    progress: Callable[[str], None] = lambda what: None,
) -> Golden:
    """A golden of a prompt, or else of a conversation."""
    from qwen_ref.engine import load
    from qwen_ref.oracle import record

    memory, path = memory_of(args.memory), args.model

    def open_model(dtype: type) -> Model:
        return load(path, dtype=dtype, backend="numpy", memory_budget=memory, mmproj=args.mmproj)

    model = open_model(np.float64)
    if conversation is None:
        assert asked is not None
        conversation = [parts.user_message(asked, args.image, args.video)]
    elif args.raw:
        raise QwenRefError("messages: a raw prompt is one text, without messages, pictures and clips")
    if args.raw:
        assert asked is not None
        prompt = model.encode_prompt(asked, raw=True)
    else:
        prompt = model.encode_prompt(conversation, tools=tools, thinking=args.thinking)
    if not prompt.token_ids:
        raise QwenRefError("the prompt: is empty")
    total = len(prompt.token_ids) + args.generate
    if args.first_position + total > model.context:
        raise QwenRefError(
            f"generate: {args.generate} tokens and the prompt's {len(prompt.token_ids)}"
            + f", from position {args.first_position} on," * bool(args.first_position)
            + f" are more than the {model.context} that the model was made for"
        )
    prompt = dataclasses.replace(prompt, first_position=args.first_position)
    numbers = total * model.config.hidden_size * model.config.num_layers
    small = not prompt.media and numbers <= SMALL
    rows, columns = args.rows or (None if small else ROWS), args.columns or (None if small else COLUMNS)
    about = record.provenance(
        model.path,
        prompt,
        messages=None if args.raw else parts.without_sources(conversation),
        tools=tools,
        thinking=args.thinking,
    )

    eos_ids = model.tokenizer.eos_ids
    del model
    return record.record(
        open_model,
        prompt,
        about,
        generate=args.generate,
        eos_ids=eos_ids,
        names=args.names,
        rows=rows,
        columns=columns,
        top=args.top,
        progress=progress,
    )


def show(args: argparse.Namespace) -> int:
    from qwen_ref.oracle import golden

    found = golden.load(args.golden_file)
    for key, value in found.about.items():
        print(f"{key:14} {value!r}" if key == "text" else f"{key:14} {value}")
    print(f"{'token_ids':14} {found.inputs['token_ids'].tolist()}")
    print(f"\n{'tensor':40} {'rms':>9} {'float32':>9} {'bfloat16':>9} {'int8':>9}  shape (rows kept)")
    for name, entry in found.entries.items():
        errors = " ".join(f"{entry.errors[kind][0]:9.1e}" for kind in ("float32", "bfloat16", "int8"))
        print(f"{name:40} {entry.rms:9.1e} {errors}  {list(entry.shape)} ({len(entry.rows)})")
    return 0


def export_golden(args: argparse.Namespace) -> int:
    from qwen_ref.oracle import export, golden

    made = golden.load(args.golden_file)
    export.export(made, args.out)
    size = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file())
    print(f"{args.out}: {len(made.entries)} tensors, {size / 1e6:.1f} MB")
    return 0


def check(args: argparse.Namespace) -> int:
    from qwen_ref.oracle import callback, compare, golden, page

    truth = golden.load(args.golden_file)
    if args.golden == "compare":
        found = golden.load(args.other)
        for name in filter(found.entries.get, truth.entries):
            if (a := truth.entries[name]).kept() != (b := found.entries[name]).kept():
                raise QwenRefError(f"{args.other}: {name}: keeps {b.kept()} and not {a.kept()}")
        report = compare.compare_samples(truth, found.values, args.allow)
    elif args.other.suffix in (".txt", ".log"):
        report = compare.compare(truth, callback.read(args.other, truth), args.allow)
    else:
        dump = read_dump(args.other, truth)
        report = compare.compare(truth, compare.from_tiled(truth, dump) if args.tiled else dump, args.allow)
    if args.html:
        page.write_page(args.html, truth, report, (args.golden_file.name, args.other.name))
    if args.json:
        print(to_json({"verdict": report.verdict, **dataclasses.asdict(report)}, indent=1))
    else:
        print_report(report)
    if args.plot:
        plot.write(args.plot, chart(truth, report, f"{args.other.name} beside {args.golden_file.name}"))
    return {"right": 0, "wrong": 1}.get(report.verdict, 3)


def chart(truth: Golden, report: Report, title: str) -> plot.Lines:
    """Each tensor's error, by its rms, in the order in which the model computes them, and the budget."""
    from qwen_ref.oracle import page

    places = {name: float(i) for i, name in enumerate(truth.entries)}
    errors = [
        plot.Point(places[d.name], d.relative, d.name, d.share[report.allowed] > 1)
        for d in report.differences
    ]
    budget = f"budget of {report.allowed}"
    budgets = [
        plot.Point(i, page.budget(truth.entries[name], report.allowed), f"{name}, {budget}")
        for name, i in places.items()
    ]
    layers: dict[str, float] = {}
    for name, i in places.items():
        layers.setdefault(page.layer_of(name), i)
    ticks = {i: layer.rpartition(".")[2] for layer, i in layers.items() if layer}
    series = {"error": errors, budget: budgets} if errors else {}
    return plot.Lines(title, "layer", "rms of the error / rms of the tensor", series, ["error"], True, ticks)


def read_dump(path: Path, truth: Golden) -> dict[str, np.ndarray]:
    """What an engine dumped; of what cannot be compared the names alone. Raises QwenRefError."""
    from qwen_ref.oracle import compare, export, golden

    if path.is_dir():
        return export.read_raw(path, truth)
    return golden.read_tensors(path, [*truth.entries, *compare.BESIDE])[0]


def print_report(report: Report) -> None:
    from qwen_ref.oracle.check import scope, verdict

    print(f"{'tensor':40} {'error/rms':>9} {'max':>9} {'cosine':>11}  explained by")
    for d in report.differences:
        mark = "  <- first" if d is report.first else ""
        print(f"{d.name:40} {d.relative:9.1e} {d.max:9.1e} {d.cosine:11.8f}  {d.explained or '-'}{mark}")
    print(f"{sum(d.count for d in report.differences)} values were compared")
    for name, value in report.logits.items():
        print(f"logits: {name} {value:.3g}")
    print(*scope(report), sep="\n")
    print(verdict(report))
    if report.first:
        print(f"likely cause: {report.cause}" if report.cause else "no known mistake does this")
