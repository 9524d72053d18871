"""Answer a prompt, streaming the text as it is produced.

examples:
  python -m qwen_ref generate --prompt "Tell me a story."        # the small model that ships with qwen_ref
  python -m qwen_ref generate --model model.gguf --prompt "Why is the sky blue?"
  python -m qwen_ref generate --model model.gguf --thinking --prompt "What is 17 * 23?"
  python -m qwen_ref generate --model model.gguf --image receipt.jpg --show --prompt "What did this cost?"
  python -m qwen_ref generate --model model.gguf --image street.jpg --draw marked.png \\
      --prompt "Locate every car. Answer with bbox_2d and label in JSON."
  cat notes.txt | python -m qwen_ref generate --model model.gguf --system "Summarize in one line." --prompt -
  python -m qwen_ref generate --model model.gguf --raw --greedy --max-tokens 20 --prompt "Once upon a time"
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from qwen_ref.cli.options import (
    MODEL_HELP,
    add_draft,
    add_media,
    add_memory_limit,
    add_resources,
    add_sampling,
    add_thinking,
    add_thinking_budget,
    check_budget,
    model_file,
    resources_of,
    sampling_of,
    shipped_model,
    typed_text,
)
from qwen_ref.cli.warmup import show_compiling
from qwen_ref.errors import QwenRefError
from qwen_ref.files import read_json, read_text

OF_VIDEOS = ("fps", "max-frames", "max-video-tokens", "frame-rate", "frame-times")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=model_file, metavar="FILE", help=MODEL_HELP)
    text = parser.add_argument_group("prompt")
    source = text.add_mutually_exclusive_group()
    source.add_argument(
        "--prompt",
        type=typed_text,
        metavar="TEXT",
        help="the prompt; - or nothing at all reads standard input",
    )
    source.add_argument("--prompt-file", metavar="FILE", help="read the prompt from a file")
    text.add_argument("--system", type=typed_text, metavar="TEXT", help="system prompt")
    add_thinking(text, "reason before answering (unless one of both is given, the chat template decides)")
    add_thinking_budget(text)
    text.add_argument("--raw", action="store_true", help="no chat template: continue the prompt as it is")
    text.add_argument(
        "--special", action="store_true", help="with --raw: control tokens spelled in the prompt count"
    )
    media = parser.add_argument_group("pictures and clips, shown before the prompt")
    media.add_argument(
        "--image", action="append", default=[], metavar="FILE", help="a file or a data: URI; repeatable"
    )
    media.add_argument(
        "--video",
        action="append",
        default=[],
        metavar="FILE",
        help="mp4, webm, gif, a data: URI of one, or a folder of frames; repeatable",
    )
    add_media(media)
    media.add_argument("--fps", type=float, metavar="X", help="frames of a video to look at, a second (2)")
    media.add_argument("--max-frames", type=int, metavar="N", help="of a video to look at (768)")
    media.add_argument(
        "--frame-rate", type=float, metavar="X", help="frames a second that lie in a folder of frames (24)"
    )
    media.add_argument(
        "--frame-times",
        type=seconds_of,
        metavar="X,X…",
        help="when each frame of the one folder was taken, in seconds: all are looked at",
    )
    media.add_argument(
        "--transparency",
        choices=["white", "drop"],
        help="what lies under it: white, or the colours that a file has there, as in transformers (white)",
    )
    media.add_argument(
        "--show", action="store_true", help="show the pictures in the terminal before the answer"
    )
    media.add_argument(
        "--draw", metavar="FILE", help="save the first image with the boxes and points of the answer on it"
    )
    ends = parser.add_argument_group("form and length")
    ends.add_argument("-n", "--max-tokens", type=int, metavar="N", help="at most this many tokens (32,768)")
    ends.add_argument(
        "--stop",
        type=typed_text,
        action="append",
        default=[],
        metavar="TEXT",
        help="end before this text; repeatable",
    )
    ends.add_argument(
        "--json-schema",
        type=typed_text,
        metavar="TEXT",
        help="answer in JSON that fits this JSON schema, given as text or as a file; true for any object",
    )
    ends.add_argument(
        "--context", type=int, metavar="N", help="longest prompt and answer, in tokens (the model's own)"
    )
    add_sampling(parser)
    other = parser.add_argument_group("output and resources")
    other.add_argument(
        "--json", action="store_true", help="print one JSON object at the end instead of streaming"
    )
    add_draft(other)
    add_resources(other)
    add_memory_limit(other)
    other.add_argument(
        "--cache",
        metavar="FOLDER",
        help="a folder for what was read: a prompt that begins as an earlier one did is read on from there",
    )


def seconds_of(text: str) -> list[float]:
    """ "0.9,4.5" -> [0.9, 4.5]"""
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r:.80} is not seconds with commas between: 0.9,4.5"
        ) from None


def check_options(args: argparse.Namespace) -> None:
    """Of an option that would do nothing, or undo another, the user is told."""

    def given(*names: str) -> list[str]:
        return [name for name in names if getattr(args, name.replace("-", "_")) is not None]

    for name in given(*OF_VIDEOS) if not args.video else ():
        raise QwenRefError(f"--{name}: there is no --video")
    for name in given("draw", "max-image-tokens") if not args.image else ():
        raise QwenRefError(f"--{name}: there is no --image")
    for name in ("show", *given("transparency")) if not args.image and not args.video else ():
        if getattr(args, name):
            raise QwenRefError(f"--{name}: there is no --image or --video")
    if args.raw and (args.image or args.video):
        raise QwenRefError("--raw: pictures need the chat template")
    if args.draw is not None:
        from qwen_ref.grounding import check_drawing

        check_drawing(args.draw)
    if args.frame_times is not None:
        for name in given("fps", "max-frames", "frame-rate"):
            raise QwenRefError(f"--{name}: does nothing beside --frame-times, which keep all frames")
        if len(args.video) > 1:
            raise QwenRefError("--frame-times: they are those of one --video")
    if args.thinking_budget is not None and args.thinking is False:
        raise QwenRefError("--thinking-budget: --no-thinking leaves nothing to end")
    if args.special and not args.raw:
        raise QwenRefError("--special: it says how to read a --raw prompt")


def read_schema(given: str | None) -> Any:
    """What --json-schema says: text, or what its file holds. Raises QwenRefError."""
    if given is None or given.lstrip().startswith("{") or given.strip() == "true":
        return given
    schema = read_json(given)
    if schema is not True and not isinstance(schema, dict):
        raise QwenRefError(f"{given}: holds no JSON schema, which is an object")
    return schema


def read_prompt(args: argparse.Namespace) -> str:
    if args.prompt_file is not None:
        return read_text(args.prompt_file)
    if args.prompt not in (None, "-"):
        return args.prompt
    if args.prompt is None and (sys.stdin is None or sys.stdin.isatty()):
        raise QwenRefError("no prompt: give --prompt, --prompt-file, or text on standard input")
    if sys.stdin is None:
        raise QwenRefError("standard input is closed")
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise QwenRefError(f"standard input: byte {error.start} is not UTF-8 text") from None


def is_colour_terminal() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def show_progress(what: str, done: int, total: int) -> None:
    """A line on the terminal while the prompt is read; it is erased at the end."""
    line = "" if done == total else f"{what}: {100 * done // total} %"
    print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()  # waits for the end of a pipe, which comes whatever ends it
    os._exit(1)


def encode_prompt(
    answer: Connection, path: str, messages: Any, options: dict[str, Any]
) -> None:  # pragma: no cover (in a process of its own)
    """Sends the prompt, or what was raised. Ends when the other process does, and prints nothing."""
    gc.freeze()  # what the other process let go of stays: a clip's decoder would wait for its threads, there
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    threading.Thread(target=end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other one to handle
    try:
        from qwen_ref.checkpoint import open_model
        from qwen_ref.prompt import PromptEncoder

        answer.send(PromptEncoder(open_model(path)).encode(messages, **options))
    except Exception as error:
        answer.send(error)


@contextlib.contextmanager
def encoding_beside(path: str, messages: Any, options: dict[str, Any]) -> Iterator[Callable[[], Any]]:
    """What gives the prompt's token ids, made in a process beside this one while this one opens the model.

    The library's tokenizer takes 0.7 s to build and 100 MB, and is needed just once: to read the prompt.
    The process ends with this one, whatever ends that.
    """
    if sys.platform == "linux":  # elsewhere a fork is not safe
        context: Any = multiprocessing.get_context("fork")
    else:
        context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = sender, path, messages, options
    beside = context.Process(target=encode_prompt, args=arguments, daemon=True)
    try:
        beside.start()
    except OSError as error:
        raise QwenRefError(f"no process can be started to encode the prompt: {error.strerror}") from None
    sender.close()  # now only the other process holds it: if that is killed, the wait is over

    def result() -> Any:
        try:
            found = receiver.recv()
        except EOFError:
            raise QwenRefError(
                "the process that encodes the prompt was killed; memory may be short"
            ) from None
        if isinstance(found, Exception):
            raise found
        return found

    try:
        yield result
    finally:
        beside.kill()
        beside.join()


def open_media(args: argparse.Namespace, prompt: str, model: Any) -> Any:
    """The prompt with places for pictures and clips, and these, opened."""
    from qwen_ref.media.media import Limits

    limits = "fps", "max_frames", "max_image_tokens", "max_video_tokens", "transparency"
    given = {name: getattr(args, name) for name in limits if getattr(args, name) is not None}
    frames = {"frame_rate": args.frame_rate, "times": args.frame_times}
    videos = [{"video": path} | frames for path in args.video]
    return model.open_media(prompt, args.image, videos, Limits(**given))


def show_pictures(media: list[Any], colour: bool) -> None:
    """Each picture on standard output; where it cannot be seen there, its name beside the output."""
    from qwen_ref.media.show import half_blocks

    for m in media:
        if colour and m.image is not None:
            print(half_blocks(m.image, min(64, shutil.get_terminal_size().columns)), flush=True)
        else:
            print(m.name, file=sys.stderr)


def announce_media(model: Any, prompt: Any) -> None:
    """What pictures and clips cost, before they are looked at."""
    for m in prompt.media:
        print(f"{m.name}: {m.shape.num_tokens:,} tokens", file=sys.stderr)
    if len(prompt.token_ids) > 500:
        seconds = model.seconds_until_answer(prompt)
        print(
            f"about {seconds:.0f} s to read all; --max-image-tokens and --max-video-tokens lower that",
            file=sys.stderr,
        )


def draw(media: list[Any], text: str, path: str) -> None:
    from qwen_ref.grounding import find_marks, save_drawing

    image = next(m.image for m in media if m.image is not None)
    marks = find_marks(text)
    save_drawing(image, marks, path)
    print(f"{path}: boxes and points of the answer that are drawn: {len(marks)}", file=sys.stderr)


def run(args: argparse.Namespace) -> int:
    check_options(args)
    schema = read_schema(args.json_schema)
    sampling = sampling_of(args)
    prompt = read_prompt(args)
    started = time.perf_counter()
    from qwen_ref.engine import load

    resources = resources_of(args)
    if args.model is None:
        args.model = shipped_model()

    def loaded() -> Any:
        return load(args.model, **resources, cache=args.cache)

    messages, media, model = prompt, list[Any](), None
    if args.image or args.video:
        model = loaded()  # which knows how large a picture may be
        messages, media = open_media(args, prompt, model)
        if args.show:
            show_pictures(media, colour=is_colour_terminal() and not args.json)
    about_prompt = dict(system=args.system, thinking=args.thinking, raw=args.raw, special=args.special)
    about_prompt["shapes"] = [m.shape for m in media]
    with encoding_beside(args.model, messages, about_prompt) as encoded:
        model = model or loaded()
        model.warm_up(show_compiling, pictures=bool(media))
        encoded_prompt = dataclasses.replace(encoded(), media=media)
    check_budget(args, encoded_prompt.thinks)
    generation = model.generate(
        encoded_prompt,
        max_tokens=args.max_tokens,
        stop=args.stop,
        progress=show_progress if sys.stderr.isatty() else None,
        draft=args.draft,
        thinking_budget=args.thinking_budget,
        schema=schema,
        **sampling,
    )
    load_seconds = time.perf_counter() - started
    if media and sys.stderr.isatty():
        announce_media(model, encoded_prompt)

    def show(piece: str) -> None:
        if not args.json:
            sys.stdout.write(piece)
            sys.stdout.flush()

    status = 0
    try:
        for piece in generation:
            show(piece)
    except KeyboardInterrupt:
        show(generation.flush())
        generation.finish_reason = "interrupted"
        status = 130
    show("\n")
    if schema is not None and generation.finish_reason != "stop":
        print(f"the answer is cut off ({generation.finish_reason}): its JSON is not whole", file=sys.stderr)
    if model.prefixes is not None:
        model.prefixes.save()
    if args.draw is not None:
        draw(media, generation.text, args.draw)
    if args.json:
        report(generation, load_seconds)
    elif sys.stderr.isatty():
        numbers = statistics(generation, load_seconds)
        drafted, accepted = (
            sum(sum(counts[what]) for counts in generation.drafted.values())
            for what in ("drafted", "accepted")
        )
        kept = f" ({generation.cached_tokens} more were kept)" if generation.cached_tokens else ""
        drafts = f" ({accepted} of {drafted} drafted ones were right)" if drafted else ""
        said = (
            f"the thought says the same {generation.repeats} times in a row, " if generation.repeats else ""
        )
        print(
            f"[{generation.newly_read} prompt tokens at {numbers['prompt_tokens_per_second']} t/s{kept}, "
            f"{numbers['generated_tokens']} generated at {numbers['decode_tokens_per_second']} t/s{drafts}, "
            f"loaded in {numbers['load_seconds']} s, peak memory {numbers['peak_memory_mb']} MB, "
            f"{said}{generation.finish_reason}]",
            file=sys.stderr,
        )
    return status


def statistics(generation: object, load_seconds: float) -> dict[str, float | None]:
    from qwen_ref.engine import Generation

    assert isinstance(generation, Generation)
    prompt, generated = len(generation.prompt_ids), len(generation.token_ids)

    def rate(count: int, seconds: float) -> float | None:
        return round(count / seconds, 2) if count > 0 and seconds > 0 else None

    return {
        "prompt_tokens": prompt,
        "cached_tokens": generation.cached_tokens,
        "generated_tokens": generated,
        "load_seconds": round(load_seconds, 3),
        "prompt_seconds": round(generation.prompt_seconds, 3),
        "decode_seconds": round(generation.decode_seconds, 3),
        "prompt_tokens_per_second": rate(generation.newly_read, generation.prompt_seconds),
        "decode_tokens_per_second": rate(generated - 1, generation.decode_seconds),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "private_memory_mb": private_memory_mb(),
    }


def private_memory_mb() -> int | None:
    """Resident memory that is not file pages, now; the weights are file pages, which the system can drop."""
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(fields["RssAnon"].split()[0]) // 1024
    except (OSError, KeyError, ValueError):
        return None


def report(generation: object, load_seconds: float) -> None:
    from qwen_ref.engine import Generation

    assert isinstance(generation, Generation)
    print(
        json.dumps(
            {
                "text": generation.text,
                "finish_reason": generation.finish_reason,
                "prompt_token_ids": generation.prompt_ids,
                "token_ids": generation.token_ids,
                "drafts": generation.drafted,
                "forced_tokens": generation.forced_tokens,
                "repeats": generation.repeats,
            }
            | statistics(generation, load_seconds)
        )
    )
