"""What the commands have in common."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen_ref import hub, plot, shipped
from qwen_ref.errors import QwenRefError
from qwen_ref.files import is_one_file
from qwen_ref.media.uri import path_of

if TYPE_CHECKING:
    from qwen_ref.cluster.scheduler import Where
    from qwen_ref.media.media import Limits

MODEL_HELP = (
    "a Qwen3.5 GGUF file, any part of a split one, the folder of a Hugging Face checkpoint, or the name of a "
    "model that was pulled (the small model that ships with qwen_ref)"
)
TILED_HELP = "the engine has V heads in GGUF's order; a golden has those together that share a K head"


THREADS_HELP = (
    "threads (unless given, those that warmup found to be the fastest with this model, for answers and for "
    "prompts; else as many as there are cores for this process, by taskset and the share of its container, "
    "or OMP_NUM_THREADS if that is less)"
)


UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
SAMPLING = {  # option -> (type, help)
    "temperature": (float, "divides the logits; 0 takes the likeliest token"),
    "top-k": (int, "keep this many tokens; 0: all"),
    "top-p": (float, "keep the likeliest tokens that together reach this probability"),
    "min-p": (float, "keep tokens at least this likely relative to the likeliest"),
    "repetition-penalty": (float, "divide the logits of tokens seen; 1: off"),
    "presence-penalty": (float, "subtract from the logits of tokens seen; 0: off"),
    "frequency-penalty": (float, "subtract as often as a token was seen; 0: off"),
    "penalty-last-n": (
        int,
        "so many of the last tokens count as seen, prompt included; -1: all (those generated)",
    ),
    "seed": (int, "makes the draws repeatable"),
}


def show_line(line: str) -> None:
    """Progress, in the place of the line before, on a terminal only; "" erases it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def add_sampling(
    parser: argparse.ArgumentParser, otherwise: str = "unless given, as the file says or else the model card"
) -> None:
    group = parser.add_argument_group(f"sampling (in this order; {otherwise})")
    group.add_argument("--greedy", action="store_true", help="the likeliest token always, no penalties")
    for name, (kind, explanation) in SAMPLING.items():
        group.add_argument(f"--{name}", type=kind, metavar="X" if kind is float else "N", help=explanation)


def sampling_of(args: argparse.Namespace) -> dict[str, Any]:
    """What `Model.generate` takes of them. Raises QwenRefError for what --greedy leaves without effect."""
    options = {name.replace("-", "_"): getattr(args, name.replace("-", "_")) for name in SAMPLING}
    if args.greedy:
        for name in SAMPLING:
            if name != "seed" and options[name.replace("-", "_")] is not None:
                raise QwenRefError(f"--{name}: --greedy takes the likeliest token, whatever this is")
        options |= {"temperature": 0, "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0}
    return options


def greedy_or_sampling_of(args: argparse.Namespace) -> dict[str, Any]:
    """The same where answers are greedy unless one of the options is given."""
    given = (getattr(args, name.replace("-", "_")) for name in SAMPLING)
    args.greedy = args.greedy or all(value is None for value in given)
    return sampling_of(args)


def add_media(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--mmproj", metavar="FILE", help="the model's vision file (found by itself when it lies beside it)"
    )
    group.add_argument("--max-image-tokens", type=int, metavar="N", help="of each image (16,384)")
    group.add_argument("--max-video-tokens", type=int, metavar="N", help="of each video (12,288)")


def add_models(parser: argparse.ArgumentParser) -> None:
    """--model of a command that takes several."""
    parser.add_argument(
        "-m",
        "--model",
        type=model_file,
        action="append",
        metavar="FILE",
        help=f"{MODEL_HELP}; repeatable",
    )


DRAFT_HELP = (
    "guess the next tokens and only check them, which changes the speed and not the text: by the file's MTP "
    "layer, from the text so far, or whatever helps (auto)"
)


def add_draft(group: argparse._ArgumentGroup, default: str = "auto", explanation: str = DRAFT_HELP) -> None:
    choices = ["auto", "mtp", "lookup", "off"]
    group.add_argument("--draft", choices=choices, default=default, help=explanation)


def add_resources(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--dtype", choices=["float32", "float64"], default="float32", help="what is computed in"
    )
    group.add_argument("--backend", choices=["numba", "numpy"], help="compiled kernels or plain NumPy")
    group.add_argument("-t", "--threads", type=int, metavar="N", help=THREADS_HELP)
    group.add_argument(
        "--memory",
        type=gib_of,
        metavar="SIZE",
        help="2G, 512M: keep at most this much of the weights as floats (half of what is free)",
    )
    add_cache_types(group)


def add_cache_types(parser: argparse._ActionsContainer) -> None:
    for name, what in ("k", "keys"), ("v", "values"):
        parser.add_argument(
            f"--cache-type-{name}",
            choices=["f16", "q8_0", "q4_0"],
            help=f"how {what} of what was read are kept: q8_0 takes about half of f16's memory, q4_0 about "
            "a quarter, at a cost (f16)",
        )


def cache_types_of(args: argparse.Namespace) -> dict[str, Any]:
    """What `qwen_ref.load` takes, of these."""
    return {"cache_type_k": args.cache_type_k, "cache_type_v": args.cache_type_v}


def add_memory_limit(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--memory-limit",
        type=bytes_of,
        metavar="SIZE",
        help="2G, 512M: choose context, block of a prompt, what is kept and pictures' size so that an answer "
        "is planned to take no more, and say what was chosen (nothing enforces it; `plan` says what fits; "
        "without it, so is what is free, where that is little)",
    )


def add_keeping(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--keep",
        type=gib_of,
        metavar="SIZE",
        help="2G, 512M: memory for what was read (a quarter of what is free, 1 GiB at most; 0: every turn is "
        "read anew)",
    )
    group.add_argument("--cache", metavar="FOLDER", help="keep it in a folder too, for the next start")


def keeping_of(args: argparse.Namespace) -> dict[str, Any]:
    """What `qwen_ref.load` takes, of these. Raises QwenRefError."""
    from qwen_ref.engine.prefixes import default_budget

    if args.keep is None:
        return {"keep": default_budget(), "cache": args.cache}
    keep = memory_of(args.keep, "--keep")
    if args.cache is not None and not args.keep:
        raise QwenRefError("--keep: 0 leaves nothing to keep in --cache")
    return {"keep": keep, "cache": args.cache}


def add_cluster(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("on several machines (docs/cluster.md)")
    group.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="the workers of a dask cluster compute, whose scheduler is there: tcp://host:8786",
    )
    group.add_argument(
        "--local-cluster",
        type=int,
        metavar="N",
        help="so many processes of this machine compute, as a cluster does",
    )


def where_of(args: argparse.Namespace, *here: str) -> Where | None:
    """The cluster that --scheduler or --local-cluster names, or None. The options named `here` make no sense
    beside them. Raises QwenRefError."""
    address, processes = args.scheduler, args.local_cluster
    if address is None and processes is None:
        return None
    if address is not None and processes is not None:
        raise QwenRefError("--scheduler and --local-cluster: give one of both")
    if processes is not None and not 1 <= processes <= 1024:
        raise QwenRefError(f"--local-cluster: {processes} is not in 1 to 1024")
    if address is not None and not re.fullmatch(r"(tcp|tls)://[^/\s]+:\d{1,5}", address):
        raise QwenRefError(f"--scheduler: {address!r:.80} is no address like tcp://host:8786")
    given = "--scheduler" if processes is None else "--local-cluster"
    for name in here:
        if getattr(args, name.replace("-", "_")):
            raise QwenRefError(f"--{name}: {given} computes elsewhere, where this has no part")
    from qwen_ref.cluster.scheduler import Where

    return Where(address, processes or 0)


def threads_here(args: argparse.Namespace) -> int | None:
    """--threads of a model that is opened here. With --scheduler they are those of other machines, which
    judge them by their own cores."""
    return None if args.scheduler else args.threads


def add_names(parser: argparse.ArgumentParser, *other_names: str) -> None:
    parser.add_argument(
        "--name",
        *other_names,
        action="append",
        default=[],
        metavar="NAME",
        help="what requests call the model; repeatable (as it was given, or its file's name)",
    )
    parser.add_argument("--mmproj", metavar="FILE", help="its vision file (found when it lies beside it)")


def add_request_media(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--allow-remote-media",
        action="store_true",
        help="fetch pictures from public http addresses in requests",
    )
    group.add_argument(
        "--allowed-local-media-path",
        metavar="FOLDER",
        help="requests may name pictures and clips in this folder, as file:///… URLs",
    )


def media_folder_of(args: argparse.Namespace) -> str | None:
    """What --allowed-local-media-path says. Raises QwenRefError if it is no folder."""
    folder: str | None = args.allowed_local_media_path
    if folder is not None and not os.path.isdir(folder):
        raise QwenRefError(f"--allowed-local-media-path: {folder!r:.200} is no folder")
    return folder


def limits_of(args: argparse.Namespace) -> Limits | None:
    """What --max-image-tokens and --max-video-tokens say, if one of them is given."""
    names = "max_image_tokens", "max_video_tokens"
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    if not given:
        return None
    from qwen_ref.media.media import Limits

    return Limits(**given)


def names_of(args: argparse.Namespace, path: str | os.PathLike[str]) -> list[str]:
    """What requests call the model: --name, or what it was pulled as, or its file's name."""
    return args.name or [args.model if args.model and hub.is_name(args.model) else Path(path).stem]


def add_plot(parser: argparse.ArgumentParser, what: str) -> None:
    """`what` the picture shows."""
    parser.add_argument("--plot", type=plot.checked, metavar="FILE", help=f"draw {what}, as .svg or .png")


def add_thinking_budget(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--thinking-budget",
        type=int,
        metavar="N",
        help="end a thought at so many tokens, with a sentence that Qwen models know",
    )


def resources_of(args: argparse.Namespace) -> dict[str, Any]:
    """What `qwen_ref.load` takes, of these, --context and --mmproj. Raises QwenRefError."""
    import numpy as np

    return dict(
        dtype=getattr(np, args.dtype),
        memory_budget=memory_of(args.memory),
        context=args.context,
        backend=args.backend,
        threads=args.threads,
        mmproj=args.mmproj,
        memory_limit=args.memory_limit,
        **cache_types_of(args),
    )


def add_thinking(parser: argparse._ActionsContainer, explanation: str) -> None:
    """--thinking, --no-thinking, not both; `thinking` is true, false or None."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--thinking", action="store_const", const=True, help=explanation)
    either.add_argument(
        "--no-thinking", dest="thinking", action="store_const", const=False, help="or answer directly"
    )


def check_counts(args: argparse.Namespace, *names: str) -> None:
    """Raises QwenRefError where one of these options is less than 1."""
    for name in names:
        if (value := getattr(args, name)) is not None and value < 1:
            raise QwenRefError(f"--{name.replace('_', '-')}: {value} is not a whole number from 1 on")


def check_budget(args: argparse.Namespace, thinks: bool) -> None:
    """Raises QwenRefError for --thinking-budget where nothing is thought."""
    if args.thinking_budget is not None and not thinks:
        raise QwenRefError("--thinking-budget: there is no thought to end; --thinking asks for one")


# Options of all commands that name what is written, and what is read; files of a checkpoint.
WRITTEN = "output output_file out html save_logits profile report plot draw".split()
READ = "model compare_model mmproj base requests input_file task text prompts messages".split()
READ += "prompt_file tools image video golden_file other".split()
OF_CHECKPOINTS = "model*.safetensors* *config.json tokenizer.json vocab.json merges.txt *.jinja".split()


def check_written(args: argparse.Namespace) -> None:
    """Nothing that a command reads is written by it, and no file twice. Raises QwenRefError."""
    given = {
        name: [os.fspath(v) for v in (value if isinstance(value, list) else [value]) if v]
        for name in (*READ, *WRITTEN)
        if isinstance(value := getattr(args, name, None), str | Path | list)
    }
    for name in WRITTEN:
        for path in map(Path, given.get(name, ())):
            option = f"--{name.replace('_', '-')}: {path}"
            if is_model(path):
                raise QwenRefError(f"{option} is a model's, and stays")
            if any(is_one_file(path, Path(path_of(other))) for one in READ for other in given.get(one, ())):
                raise QwenRefError(f"{option} is read, too")
    outputs = [(name, Path(path)) for name in WRITTEN if name != "output" for path in given.get(name, ())]
    for (name, path), (other, same) in itertools.combinations(outputs, 2):  # (bench's output is a format)
        if os.path.realpath(path) == os.path.realpath(same):
            raise QwenRefError(f"--{other} {same}: --{name.replace('_', '-')} is written there, too")


def is_model(path: Path) -> bool:
    """Whether a GGUF file is there, or one of a checkpoint."""
    try:
        if not path.is_file():  # to open a pipe would be to wait
            return False
        with open(path, "rb") as file:
            if file.read(4) == b"GGUF":
                return True
        return path.with_name("config.json").exists() and any(map(path.match, OF_CHECKPOINTS))
    except (OSError, ValueError):
        return False


def typed_text(typed: str) -> str:
    """An argument that is text. In the locale "C" it may come as bytes, which are UTF-8 nearly always."""
    try:
        typed.encode()
    except UnicodeEncodeError:
        typed = os.fsencode(typed).decode(errors="surrogateescape")
    return typed


def model_file(model: str) -> str:
    """What --model says: a path as it is, and a name as that of its file. Raises QwenRefError."""
    return os.fspath(hub.resolve(model)[0])


def shipped_model() -> str:
    """The model of a command that was given none. Says so: nobody should take its answers for Qwen's."""
    name = shipped.MODEL.name
    print(f"no --model given: using the small model that ships with qwen_ref ({name})", file=sys.stderr)
    return str(shipped.MODEL)


def bytes_of(text: str) -> int:
    """ "2G", "1.5 GiB", "512M" -> bytes; units are powers of 1,024. For argparse, which names the option."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([kmgt])(?:i?b)?", text.strip(), re.IGNORECASE)
    if not found or not (size := int(float(found[1]) * UNITS[found[2].lower()])):
        raise argparse.ArgumentTypeError(f"{text!r:.80} is no size like 2G or 512M")
    return size


def gib_of(text: str) -> float:
    """A size in GiB; a number alone is one, too. For argparse."""
    try:
        return float(text)
    except ValueError:
        return bytes_of(text) / 2**30


def memory_of(gib: float | None, option: str = "--memory") -> int | None:
    """In bytes; None where it was not given. Raises QwenRefError."""
    if gib is None:
        return None
    if not 0 <= gib < 1 << 20:
        raise QwenRefError(f"{option}: {gib} is not in 0 to 1048576 GiB")
    return int(gib * 2**30)


def to_json(value: Any, indent: int | None = None) -> str:
    """Numbers that are not finite, which JSON cannot say, become null."""
    text = json.dumps(value)
    plain = json.loads(text, parse_constant=lambda name: None)
    return json.dumps(plain, indent=indent)
