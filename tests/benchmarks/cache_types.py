"""What keys and values in 8 or 4 bits do to the next token: KL divergence from the same run with float16.

    python tests/benchmarks/cache_types.py models/0.8B-Q4_K_M.gguf --context 1024 --chunks 4
    python tests/benchmarks/cache_types.py models/0.8B-Q4_K_M.gguf --context 16896 --last 512 [--unrotated]
    python tests/benchmarks/cache_types.py --context 1024 --chunks 4 --llama-cpp [--unrotated]
    python tests/benchmarks/cache_types.py models/0.8B-Q4_K_M.gguf --speed 4096 16384

Each chunk of a text is read from an empty cache, in blocks of 512 tokens; what is compared are predictions at
its last places (unless told otherwise the second half). Without a model it is the small one. --unrotated is
an experiment: keys and values go into their blocks as they are, as nothing in qwen_ref does it (of llama.cpp:
LLAMA_ATTN_ROT_DISABLE). --llama-cpp lets llama-perplexity read the same chunks, and compares its own runs
with each other. --backend numpy shows the types alone: the kernels round activations to 8 bits, so that the
least change of a key moves some of them by a whole step.

--speed: a token behind so many others, whose keys and values are random numbers; and attention alone, of one
token and of 512. The types take turns; ratios are medians of float16's time to the other's in each round.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "fixtures"))

import make  # noqa: E402

from qwen_ref import load, shipped  # noqa: E402
from qwen_ref.engine.model import Model  # noqa: E402
from qwen_ref.kernels import attention, compile  # noqa: E402
from qwen_ref.model import cache_types  # noqa: E402
from qwen_ref.model.state import State  # noqa: E402
from qwen_ref.perplexity import cut, log_softmax  # noqa: E402

TYPES = "q8_0/q8_0", "q8_0/q4_0", "q4_0/q8_0", "q4_0/q4_0"
BLOCK, SOME = 512, 32
FOUND = r"Mean +KLD: +(\S+)", r"Mean +KLD:.*± +(\S+)", r"99\.0% +KLD: +(\S+)", r"top p: +(\S+)"
TEXTS = [ROOT / "tests" / "fixtures" / "texts.txt", ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def without_rotation() -> None:
    """Before any kernel of attention is compiled; such kernels are not kept."""

    @compile.kernel()
    def nothing(x, at, size):
        pass

    compile.CACHE_DIRECTORY, attention.rotate = None, nothing
    cache_types.rotate = lambda x: x


def ends(model: Model, pair: str, chunks: np.ndarray, last: int) -> np.ndarray:
    """Hidden states of each chunk's last places, [N, last, hidden]."""
    text, found = model.text, []
    text.cache_types = tuple(pair.split("/"))
    for chunk in chunks:
        state, hidden = text.new_state(), np.empty((0, text.config.hidden_size), text.dtype)
        for start in range(0, len(chunk), BLOCK):
            new = text.forward(chunk[start : start + BLOCK].tolist(), state)
            hidden = np.concatenate([hidden, new])[-last:]
        found.append(hidden)
    return np.stack(found)


def divergence(model: Model, exact: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hidden states [N, hidden] both -> KL of each place's predictions, and whether the likeliest agrees."""
    kl, same = [], []
    for start in range(0, len(exact), SOME):
        for a, b in zip(*(model.text.logits(x[start : start + SOME]) for x in (exact, other)), strict=True):
            p, q = log_softmax(a.astype(np.float64)), log_softmax(b.astype(np.float64))
            kl.append(np.exp(p) @ (p - q))
            same.append(p.argmax() == q.argmax())
    return np.array(kl), np.array(same)


def print_row(engine: str, types: list[str], kl: float, error: float, most: float, same: float) -> None:
    row = engine, *types, f"{kl:.2e} ± {error:.0e}", f"{most:.2e}", f"{same:.2%}"
    print("|", " | ".join(row), "|", flush=True)


def ours(model: Model, pairs: list[str], chunks: np.ndarray, last: int) -> None:
    exact = ends(model, "f16/f16", chunks, last).reshape(-1, model.config.hidden_size)
    for pair in pairs:
        other = ends(model, pair, chunks, last).reshape(exact.shape)
        kl, same = divergence(model, exact, other)
        print_row(
            "qwen_ref",
            pair.split("/"),
            kl.mean(),
            kl.std() / len(kl) ** 0.5,
            np.quantile(kl, 0.99),
            same.mean(),
        )


def llama_cpp(path: Path, pairs: list[str], text: bytes, context: int, chunks: int, threads: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        saved, read = Path(scratch) / "logits", Path(scratch) / "text"
        read.write_bytes(text)
        asked = [
            "-m",
            path,
            "-c",
            context,
            "-b",
            BLOCK,
            "--chunks",
            chunks,
            "-t",
            threads,
            "-fa",
            "on",
            "--no-repack",
        ]
        make.run_llama("llama-perplexity", *asked, "-f", read, "--save-all-logits", saved)
        for pair in pairs:
            k, v = pair.split("/")
            compared = ["--kl-divergence", "--kl-divergence-base", saved, "-ctk", k, "-ctv", v]
            numbers: list[str] = []
            while len(numbers) < len(FOUND):  # its logger may lose the last lines
                said = make.run_llama("llama-perplexity", *asked, *compared).stdout.decode(errors="replace")
                numbers = [number for one in FOUND for number in re.findall(one, said)]
            kl, error, most, same = map(float, numbers)
            print_row("llama.cpp", [k, v], kl, error, most, same / 100)


def filled(model: Model, types: tuple[str, str], depth: int) -> State:
    """A state behind `depth` tokens that nobody read."""
    rng, state = np.random.default_rng(0), model.text.layers.new_state(model.config, np.float32, types)
    for layer in (one for one in state.layers if one.grows):
        layer.reserve(depth)
        for room in layer.keys, layer.values:
            if room.dtype == np.uint16:
                normal = rng.standard_normal(room.shape, dtype=np.float32)
                room[:] = normal.astype(np.float16).view(np.uint16)
            else:
                room.view(np.uint8)[:] = rng.integers(0, 256, room.shape, np.uint8)
                room.view(np.uint8)[..., :32] = np.full(16, 0.02, np.float16).view(np.uint8)
    state.num_tokens = state.next_position = depth
    return state


def in_turn(works: list[Callable[[], Any]], rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """The least seconds of each, and the first's time to each one's, medians over the rounds."""
    for work in works:
        work()
    seconds = np.empty((rounds, len(works)))
    for r in range(rounds):
        for i, work in enumerate(works):
            started = time.perf_counter()
            work()
            seconds[r, i] = time.perf_counter() - started
    return seconds.min(axis=0), np.median(seconds[:, :1] / seconds, axis=0)


def token(model: Model, state: State, depth: int) -> None:
    state.mark()
    model.text.logits(model.text.forward([1], state))
    state.cut(depth)


def attend(model: Model, state: State, start: int, tokens: int) -> None:
    q = np.ones((tokens, model.config.num_attention_heads * model.config.head_dim), np.float32)
    for layer in (one for one in state.layers if one.grows):
        attention.attend(q, layer.keys, layer.values, start, np.empty_like(q))


def speed(model: Model, depths: list[int]) -> None:
    print("| depth | | f16, ms | q8_0, ms | q4_0, ms | q8_0, ratio | q4_0, ratio |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    for depth in depths:
        states = [filled(model, (kind, kind), depth) for kind in ("f16", "q8_0", "q4_0")]
        for what, rounds, works in (
            ("a token", 60, [functools.partial(token, model, s, depth) for s in states]),
            ("its attention", 60, [functools.partial(attend, model, s, depth - 1, 1) for s in states]),
            ("of 512 tokens", 6, [functools.partial(attend, model, s, depth - 512, 512) for s in states]),
        ):
            least, ratio = in_turn(works, rounds)
            numbers = *(f"{1000 * t:.1f}" for t in least), *(f"{r:.2f}" for r in ratio[1:])
            print("|", " | ".join([f"{depth:,}", what, *numbers]), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", type=Path, default=shipped.MODEL)
    parser.add_argument("--text", type=Path, nargs="+", default=TEXTS)
    parser.add_argument("-c", "--context", type=int, default=1024, help="tokens of a chunk (1,024)")
    parser.add_argument("--chunks", type=int, default=1, help="(1)")
    parser.add_argument("--types", nargs="+", default=TYPES, choices=TYPES, help="keys/values (these four)")
    parser.add_argument("--last", type=int, help="places of a chunk that count (half)")
    parser.add_argument("--unrotated", action="store_true")
    parser.add_argument("--backend", choices=["numba", "numpy"])
    parser.add_argument("--llama-cpp", action="store_true")
    parser.add_argument("--speed", type=int, nargs="+", metavar="DEPTH")
    parser.add_argument("-t", "--threads", type=int, default=2)
    args = parser.parse_args()
    if args.unrotated:
        without_rotation()
        os.environ["LLAMA_ATTN_ROT_DISABLE"] = "1"
    model = load(args.model, threads=args.threads, backend=args.backend)
    if args.speed:
        return speed(model, args.speed)
    text = b"\n\n".join(part.read_bytes() for part in args.text)
    chunks = cut(model.tokenizer.encode(text.decode()), args.context, args.chunks, "the text")
    last = args.last or args.context // 2
    how = f"{args.backend or 'numba'}{', not rotated' if args.unrotated else ''}"
    print(
        f"{args.model.name}, {len(chunks)} chunks of {args.context:,} tokens, {last} places of each, {how}\n"
    )
    print("| | keys | values | mean KL | 99 % below | same token |\n|---|---|---|---:|---:|---:|")
    ours(model, args.types, chunks, last)
    if args.llama_cpp:
        llama_cpp(args.model, args.types, text, args.context, args.chunks, args.threads)


if __name__ == "__main__":
    main()
