"""Perplexity of a text, and KL divergence from another file or engine, as llama-perplexity measures them.

examples:
  python -m qwen_ref perplexity --model model.gguf --text wiki.test.raw --chunks 20
  python -m qwen_ref perplexity --model Q4_K_M.gguf --base BF16.gguf --text wiki.test.raw
  python -m qwen_ref perplexity --model model.gguf --text wiki.test.raw --save-logits logits.bin
  python -m qwen_ref perplexity --model model.gguf --base logits.bin
  python -m qwen_ref perplexity --model a.gguf --base a.gguf --text wiki.test.raw --cache-type-k q8_0
  python -m qwen_ref perplexity --model model.gguf --text wiki.test.raw --plot positions.svg    # or .png

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
from pathlib import Path
from typing import Any

import numpy as np

from qwen_ref import engine, files, machine, plot
from qwen_ref.cli.options import (
    MODEL_HELP,
    add_plot,
    add_resources,
    memory_of,
    model_file,
    shipped_model,
    to_json,
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

BINS = 32  # of positions, in the picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-m", "--model", type=model_file, metavar="FILE", help=MODEL_HELP)
    parser.add_argument("-f", "--text", metavar="FILE", help="the text, in UTF-8")
    parser.add_argument(
        "--base", type=model_file, metavar="FILE", help="compare with this: another model, or saved logits"
    )
    parser.add_argument(
        "--save-logits", metavar="FILE", help="write logits; 127 MB a chunk of 512 with Qwen's vocabulary"
    )
    parser.add_argument("-c", "--context", type=int, metavar="N", help="tokens of a chunk (512)")
    parser.add_argument("--chunks", type=int, metavar="N", help="at most this many chunks (all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object; [value, standard error]")
    add_plot(parser, "the perplexity by position in a chunk")
    add_resources(parser)


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


def load(args: argparse.Namespace, path: str, context: int, models: int, **types: Any) -> engine.Model:
    free = machine.available_memory() // 2 // models
    return engine.load(
        path,
        dtype=getattr(np, args.dtype),
        memory_budget=free if (given := memory_of(args.memory)) is None else given,
        context=context,
        backend=args.backend,
        threads=args.threads,
        **types,
    )


def prepare(args: argparse.Namespace) -> tuple[engine.Model, np.ndarray, Base | None]:
    """The model, the chunks [N, context] that it is to read, and what it is compared with, or None."""
    memory_of(args.memory)  # before anything long begins
    if args.chunks is not None and args.chunks < 1:
        raise QwenRefError(f"--chunks: {args.chunks} is less than 1")
    if args.context is not None and args.context < SMALLEST:
        raise QwenRefError(f"--context: {args.context} is less than {SMALLEST}")
    types: dict[str, Any] = dict(
        cache_type_k=args.cache_type_k, cache_type_v=args.cache_type_v
    )  # the base has float16
    if args.base and is_logits_file(args.base):
        saved = LogitsFile(args.base)
        context = saved.chunks.shape[1]
        if args.text:
            raise QwenRefError(f"--text: {args.text} is not needed: the tokens are those of {args.base}")
        if args.context not in (None, context):
            raise QwenRefError(f"--context: {args.context} is not that of {args.base}, {context}")
        model = load(args, args.model or shipped_model(), context, 1, **types)
        if saved.vocab_size != model.config.vocab_size:
            raise QwenRefError(
                f"{args.base}: has {saved.vocab_size} logits a token, and {model.path} "
                f"{model.config.vocab_size}"
            )
        return model, saved.chunks[: args.chunks], saved
    if not args.text:
        raise QwenRefError("no text: give --text FILE, or saved logits with --base")
    text, context = read_text(args.text), args.context or CONTEXT
    model = load(args, args.model or shipped_model(), context, 2 if args.base else 1, **types)
    chunks = cut(model.tokenizer.encode(text), context, args.chunks, args.text)
    if not args.base:
        return model, chunks, None
    base = load(args, args.base, context, 1)
    if (base.tokenizer.tokens, base.config.vocab_size) != (model.tokenizer.tokens, model.config.vocab_size):
        raise QwenRefError(f"{args.base}: tokenizer.ggml.tokens: are not those of {model.path}")
    return model, chunks, ModelBase(base.text, chunks)


def show(line: str) -> None:
    """Progress, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def run(args: argparse.Namespace) -> int:
    model, chunks, base = prepare(args)
    model.warm_up(show_compiling)
    done: list[np.ndarray] = []
    status, started = 0, time.perf_counter()
    try:
        with contextlib.ExitStack() as stack:
            save = None
            if args.save_logits:
                save = stack.enter_context(write_whole(args.save_logits)).write
                save(file_head(chunks, model.config.vocab_size))
            show(f"reading the first of {len(chunks)} chunks")
            for scores in evaluate(model.text, chunks, base, save):
                done.append(scores)
                left = (time.perf_counter() - started) / len(done) * (len(chunks) - len(done))
                with np.errstate(over="ignore"):
                    ppl = np.exp(np.concatenate(done)["nll"].mean())
                show(f"[{len(done)}]{ppl:.4f}, of {len(chunks)} chunks, about {left:.0f} s left")
    except KeyboardInterrupt:
        status = 130
    show("")
    if status and args.save_logits:
        print(f"{args.save_logits}: not written, as chunks are missing", file=sys.stderr)
    if done:
        found = statistics(np.concatenate(done))
        about = {
            "model": str(model.path),
            "base": args.base,
            "context": chunks.shape[1],
            "chunks": len(done),
            "chunks_wanted": len(chunks),
            "scored": sum(map(len, done)),
        }
        if args.json:
            print(to_json(about | found))  # a correlation without variance is no number
        else:
            print_statistics(about, found)
        if args.plot:
            names = Path(about["model"]).name, Path(args.base or "").name
            plot.write(args.plot, chart(np.stack(done), chunks.shape[1], names))
    return status


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
