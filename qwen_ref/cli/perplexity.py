"""Perplexity of a text, and KL divergence from another file or engine, as llama-perplexity measures them.

examples:
  python -m qwen_ref perplexity --model model.gguf --text wiki.test.raw --chunks 20
  python -m qwen_ref perplexity --model Q4_K_M.gguf --base BF16.gguf --text wiki.test.raw
  python -m qwen_ref perplexity --model model.gguf --text wiki.test.raw --save-logits logits.bin
  python -m qwen_ref perplexity --model model.gguf --base logits.bin
  python -m qwen_ref perplexity --model a.gguf --base a.gguf --text wiki.test.raw --cache-type-k q8_0
  python -m qwen_ref perplexity --model model.gguf --text wiki.test.raw --plot positions.svg    # or .png
  python -m qwen_ref perplexity --model model.gguf --text a.txt texts.jsonl FOLDER    # each, and all together

The third and `llama-perplexity --save-all-logits` write the same format, which the fourth and
`llama-perplexity --kl-divergence --kl-divergence-base` read. A base's keys and values are kept as f16
always. Ctrl-C ends with what the chunks so far say.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import unicodedata
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen_ref import engine, files, machine, plot
from qwen_ref.cli.options import (
    MODEL_HELP,
    add_cluster,
    add_plot,
    add_resources,
    cache_types_of,
    memory_of,
    model_file,
    shipped_model,
    show_line,
    threads_here,
    to_json,
    where_of,
)
from qwen_ref.cli.warmup import show_compiling
from qwen_ref.errors import QwenRefError
from qwen_ref.files import regular_file, write_whole
from qwen_ref.perplexity import (
    CONTEXT,
    SMALLEST,
    Base,
    LogitsFile,
    ModelBase,
    cut,
    evaluate,
    file_head,
    scored,
    statistics,
)

if TYPE_CHECKING:
    from qwen_ref.cluster.scheduler import Where

BINS = 32  # of positions, in the picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-m", "--model", type=model_file, metavar="FILE", help=MODEL_HELP)
    parser.add_argument(
        "-f",
        "--text",
        nargs="+",
        metavar="FILE",
        help="the text, in UTF-8; or several: files, folders of them, .jsonl files with a text in each line",
    )
    parser.add_argument(
        "--base", type=model_file, metavar="FILE", help="compare with this: another model, or saved logits"
    )
    parser.add_argument(
        "--save-logits", metavar="FILE", help="write logits; 127 MB a chunk of 512 with Qwen's vocabulary"
    )
    parser.add_argument("-c", "--context", type=int, metavar="N", help="tokens of a chunk (512)")
    parser.add_argument("--chunks", type=int, metavar="N", help="of a text, at most this many chunks (all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object; [value, standard error]")
    add_plot(parser, "the perplexity by position in a chunk")
    add_resources(parser)
    add_cluster(parser)


def is_logits_file(path: str) -> bool:
    """Whether it is one, and not a model. Raises QwenRefError if it cannot be read."""
    if Path(path).is_dir():
        return False
    try:
        with open(regular_file(path), "rb") as file:
            return file.read(len(LogitsFile.MAGIC)) == LogitsFile.MAGIC
    except OSError as error:
        raise QwenRefError(f"{path}: cannot be read: {error.strerror}") from None


def read_text(path: str) -> str:
    """Without the line end at its end, which llama.cpp leaves out too."""
    text = files.read_text(path)
    if not unicodedata.is_normalized("NFC", text):
        print(f"{path}: is normalized (NFC) first, which llama.cpp does not do", file=sys.stderr)
    return text.removesuffix("\n")


def texts_of(path: str) -> list[tuple[str, str]]:
    """Name and text of a file, a folder's files or the lines of a .jsonl file. Raises QwenRefError."""
    if Path(path).is_dir():
        inside = sorted(entry for entry in Path(path).iterdir() if entry.is_file() and entry.name[0] != ".")
        if not inside:
            raise QwenRefError(f"{path}: the folder holds no file")
        return [text for entry in inside for text in texts_of(str(entry))]
    if not path.endswith(".jsonl"):
        return [(path, read_text(path))]
    found = []
    for where, value in files.read_lines(path):
        text = value.get("text") if isinstance(value, dict) else value
        if not isinstance(text, str):
            raise QwenRefError(f"{where}: text: is missing, or no text")
        found.append((where, text))
    if not found:
        raise QwenRefError(f"{path}: holds no text")
    return found


def cut_all(
    args: argparse.Namespace, texts: list[tuple[str, str]], encode: Callable[[str], list[int]], context: int
) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """Chunks [N, context] of all texts, and how many each has; of several the short ones are left out."""
    chunks, parts, short = list[np.ndarray](), list[tuple[str, int]](), list[str]()
    for name, text in texts:
        token_ids = encode(text)
        if len(texts) > 1 and len(token_ids) < 2 * context:
            short.append(name)
            continue
        chunks.append(cut(token_ids, context, args.chunks, name))
        parts.append((name, len(chunks[-1])))
    if not chunks:
        raise QwenRefError(
            f"--text: none of the {len(texts)} texts has two chunks of {context} tokens; give --context"
        )
    if short:
        told = f"{short[0]} and {len(short) - 1} more are" if len(short) > 1 else f"{short[0]} is"
        print(f"{told} left out: shorter than two chunks of {context} tokens", file=sys.stderr)
    return np.concatenate(chunks), parts


def load(args: argparse.Namespace, path: str, context: int, models: int, **types: Any) -> engine.Model:
    free = machine.available_memory() // 2 // models
    return engine.load(
        path,
        dtype=getattr(np, args.dtype),
        memory_budget=free if (given := memory_of(args.memory)) is None else given,
        context=context,
        backend=args.backend,
        threads=threads_here(args),
        **types,
    )


def prepare(
    args: argparse.Namespace,
) -> tuple[engine.Model, np.ndarray, list[tuple[str, int]], Base | None]:
    """The model, the chunks [N, context] that it is to read, the texts that they are of with how many each
    has, and what it is compared with, or None."""
    memory_of(args.memory)  # before anything long begins
    if args.chunks is not None and args.chunks < 1:
        raise QwenRefError(f"--chunks: {args.chunks} is less than 1")
    if args.context is not None and args.context < SMALLEST:
        raise QwenRefError(f"--context: {args.context} is less than {SMALLEST}")
    types = cache_types_of(args)  # the base has float16
    if args.base and is_logits_file(args.base):
        saved = LogitsFile(args.base)
        context = saved.chunks.shape[1]
        if args.text:
            raise QwenRefError(f"--text: {args.text[0]} is not needed: the tokens are those of {args.base}")
        if args.context not in (None, context):
            raise QwenRefError(f"--context: {args.context} is not that of {args.base}, {context}")
        model = load(args, args.model or shipped_model(), context, 1, **types)
        if saved.vocab_size != model.config.vocab_size:
            raise QwenRefError(
                f"{args.base}: has {saved.vocab_size} logits a token, and {model.path} "
                f"{model.config.vocab_size}"
            )
        return model, saved.chunks[: args.chunks], [], saved
    if not args.text:
        raise QwenRefError("no text: give --text FILE, or saved logits with --base")
    context, texts = args.context or CONTEXT, [text for path in args.text for text in texts_of(path)]
    model = load(args, args.model or shipped_model(), context, 2 if args.base else 1, **types)
    chunks, parts = cut_all(args, texts, model.tokenizer.encode, context)
    if not args.base:
        return model, chunks, parts, None
    base = load(args, args.base, context, 1)
    if (base.tokenizer.tokens, base.config.vocab_size) != (model.tokenizer.tokens, model.config.vocab_size):
        raise QwenRefError(f"{args.base}: tokenizer.ggml.tokens: are not those of {model.path}")
    return model, chunks, parts, ModelBase(base.text, chunks)


def scores_of(
    args: argparse.Namespace,
    where: Where | None,
    model: engine.Model,
    chunks: np.ndarray,
    base: Base | None,
    save: Callable[[bytes], Any] | None,
) -> Generator[tuple[int, np.ndarray]]:
    """Of each chunk its number and scores, in the order of the chunks, or on a cluster as they come."""
    if where is None:
        model.warm_up(show_compiling)
        show_line(f"reading the first of {len(chunks)} chunks")
        yield from enumerate(evaluate(model.text, chunks, base, save))
        return
    from qwen_ref.cluster import scheduler
    from qwen_ref.cluster.model_files import files_of
    from qwen_ref.cluster.worker import Job
    from qwen_ref.perplexity import prepare

    options = dict(
        dtype=getattr(np, args.dtype),
        memory_budget=memory_of(args.memory),
        context=chunks.shape[1],
        backend=args.backend,
        threads=args.threads,
    )
    paths = [str(model.path), *([args.base] if args.base else [])]
    files = tuple(files_of(path, progress=show_line) for path in paths)
    each = [options | cache_types_of(args), options][: len(files)]
    job = Job(prepare, each, files, where.share)
    yield from scheduler.results(
        where, job, iter(chunks), len(chunks), lambda number: f"chunk {number + 1}", show_line
    )


def run(args: argparse.Namespace) -> int:
    where = where_of(args, "save-logits")
    if where and args.base and is_logits_file(args.base):
        raise QwenRefError(f"--base: {args.base} are saved logits, which are not sent to {where}")
    model, chunks, parts, base = prepare(args)
    done: dict[int, np.ndarray] = {}
    status, started = 0, time.perf_counter()
    try:
        with contextlib.ExitStack() as stack:
            save = None
            if args.save_logits:
                save = stack.enter_context(write_whole(args.save_logits)).write
                save(file_head(chunks, model.config.vocab_size))
            given = stack.enter_context(contextlib.closing(scores_of(args, where, model, chunks, base, save)))
            for number, scores in given:
                done[number] = scores
                left = (time.perf_counter() - started) / len(done) * (len(chunks) - len(done))
                with np.errstate(over="ignore"):
                    ppl = np.exp(np.concatenate([*done.values()])["nll"].mean())
                show_line(f"[{len(done)}]{ppl:.4f}, of {len(chunks)} chunks, about {left:.0f} s left")
    except KeyboardInterrupt:
        status = 130
    show_line("")
    if status and args.save_logits:
        print(f"{args.save_logits}: not written, as chunks are missing", file=sys.stderr)
    if done:
        read = [done[number] for number in sorted(done)]
        found = statistics(np.concatenate(read))
        about = {
            "model": str(model.path),
            "base": args.base,
            "context": chunks.shape[1],
            "chunks": len(done),
            "chunks_wanted": len(chunks),
            "scored": sum(map(len, read)),
        }
        each = each_text(parts, done) if len(parts) > 1 else []
        if args.json:
            about |= {"texts": each} if each else {}
            print(to_json(about | found))  # a correlation without variance is no number
        else:
            print_texts(each)
            print_statistics(about, found)
        if args.plot:
            names = Path(about["model"]).name, Path(args.base or "").name
            plot.write(args.plot, chart(np.stack(read), chunks.shape[1], names))
    return status


def each_text(parts: list[tuple[str, int]], done: dict[int, np.ndarray]) -> list[dict[str, Any]]:
    """The figures of each text of which all chunks were read."""
    found, start = [], 0
    for name, count in parts:
        numbers = range(start, start := start + count)
        if all(number in done for number in numbers):
            scores = np.concatenate([done[number] for number in numbers])
            found.append({"text": name, "chunks": count} | statistics(scores))
    return found


def print_texts(each: list[dict[str, Any]]) -> None:
    width = max((len(one["text"]) for one in each), default=0)
    for one in each:
        value, error = one["ppl"]
        beside = f", mean KLD {one['kld'][0]:.6f} ± {one['kld'][1]:.6f}" if "kld" in one else ""
        print(f"{one['text']:{width}}  {one['chunks']:5} chunks  PPL = {value:.4f} +/- {error:.5f}{beside}")
    if each:
        print()


def chart(scores: np.ndarray, context: int, names: tuple[str, str]) -> plot.Lines:
    """scores SCORE [N, places] -> perplexity by position, of the model and of its base."""
    positions = np.array(scored(context))
    series = {}
    for kind, name in ("nll", names[0]), ("nll_base", f"{names[1]} (base)"):
        if np.isnan(scores[kind]).any():
            continue
        with np.errstate(over="ignore"):
            series[name] = [
                plot.Point(float(positions[part].mean()), float(np.exp(scores[kind][:, part].mean())))
                for part in np.array_split(np.arange(len(positions)), min(BINS, len(positions)))
            ]
    title = f"Perplexity, {len(scores)} chunks of {context} tokens"
    return plot.Lines(title, "tokens before the one that is predicted", "perplexity", series)


def print_statistics(about: dict[str, Any], found: dict[str, Any]) -> None:
    """With llama-perplexity's names and digits."""
    wanted = f" of {about['chunks_wanted']}" if about["chunks"] < about["chunks_wanted"] else ""
    print(
        f"{about['chunks']}{wanted} chunks of {about['context']} tokens, {about['scored']} predictions scored"
    )
    if "kld" not in found:
        value, error = found["ppl"]
        print(f"Final estimate: PPL = {value:.4f} +/- {error:.5f}")
        return

    def pair(name: str, key: str) -> None:
        value, error = found[key]
        print(f"{name:30}: {value:10.6f} ± {error:10.6f}")

    def percentiles(name: str, key: str, line: str) -> None:
        words = {"0": "Minimum", "50": "Median", "100": "Maximum"}
        for percent, value in reversed(found[key].items()):
            word = words.get(percent) or f"{float(percent):4.1f}%"
            print(f"{word:7} {name}: {line.format(value)}")

    print("\n====== Perplexity statistics ======")
    pair("Mean PPL(Q)", "ppl")
    pair("Mean PPL(base)", "ppl_base")
    print(f"Cor(ln(PPL(Q)), ln(PPL(base))): {100 * found['correlation']:6.2f}%")
    pair("Mean ln(PPL(Q)/PPL(base))", "ln_ratio")
    pair("Mean PPL(Q)/PPL(base)", "ratio")
    pair("Mean PPL(Q)-PPL(base)", "difference")

    print("\n====== KL divergence statistics ======")
    value, error = found["kld"]
    print(f"Mean    KLD: {value:10.6f} ± {error:10.6f}")
    percentiles("KLD", "kld_percentiles", "{:10.6f}")

    print("\n====== Token probability statistics ======")
    for name, key in ("Mean    Δp", "delta_p"), ("RMS Δp    ", "delta_p_rms"), ("Same top p", "same_top"):
        value, error = found[key]
        print(f"{name}: {100 * value:6.3f} ± {100 * error:5.3f} %")
        if key == "delta_p":
            percentiles("Δp", "delta_p_percentiles", "{:7.3%}")
