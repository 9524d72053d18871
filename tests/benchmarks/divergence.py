"""How far the kernels and llama.cpp each are from the float32 reference, on one file and the same tokens.

    python tests/benchmarks/divergence.py models/0.8B-Q4_0.gguf models/0.8B-Q4_K_M.gguf --chunks 9

Both engines round activations to 8 bits. llama-perplexity cuts a text into chunks of 512 tokens and saves the
probabilities of the second half of each (as 16-bit logarithms, which adds about 1e-9 to a divergence); its
tokens then go through `--backend numpy` and through the kernels. Each row gives the mean KL divergence from
NumPy's distribution over all those positions, ours and llama.cpp's, and how often the likeliest token agrees.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "fixtures"))

import make  # noqa: E402

import qwen_ref.model.matrix  # noqa: E402
from gguf_io import open_gguf  # noqa: E402
from qwen_ref.kernels import KERNELS  # noqa: E402
from qwen_ref.model.text import TextModel  # noqa: E402

CONTEXT = 512
TEXTS = [
    ROOT / "tests" / "fixtures" / "texts.txt",
    ROOT / "README.md",
    ROOT / "qwen_ref" / "engine" / "model.py",
]


def llama_cpp(model: Path, text: Path, chunks: int, threads: int, saved: Path) -> None:
    make.run_llama("llama-perplexity", "-m", model, "-f", text, "-c", CONTEXT, "-b", CONTEXT,
                   "--chunks", chunks, "-t", threads, "--save-all-logits", saved)  # fmt: skip


def read_saved(saved: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each chunk: tokens [512] and log probabilities [255, vocab] after tokens 256 to 510."""
    header = np.fromfile(saved, np.int32, 5)  # 8 bytes "_logits_", context, vocabulary, chunks
    context, vocab, chunks = map(int, header[2:])
    tokens = np.fromfile(saved, np.int32, chunks * context, offset=20).reshape(chunks, context)
    width = 2 * ((vocab + 1) // 2) + 4
    shape = chunks, context - 1 - context // 2, width
    rows = np.memmap(saved, np.uint16, "r", 20 + tokens.nbytes, shape)
    for chunk in range(chunks):
        scale_and_least = np.ascontiguousarray(rows[chunk, :, :4]).view(np.float32)  # [255, 2]
        levels = rows[chunk, :, 4 : 4 + vocab]
        yield tokens[chunk], levels * scale_and_least[:, :1] + scale_and_least[:, 1:]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def log_probabilities(network: TextModel, tokens: np.ndarray) -> np.ndarray:
    hidden = network.forward(tokens, network.new_state())
    return log_softmax(network.logits(hidden[CONTEXT // 2 : CONTEXT - 1]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument(
        "--text", type=Path, nargs="+", default=TEXTS, help="files to read, at least 4,608 tokens"
    )
    parser.add_argument("--chunks", type=int, default=9, help="of 512 tokens, 255 positions each (9)")
    parser.add_argument("-t", "--threads", type=int, default=2)
    args = parser.parse_args()
    qwen_ref.model.matrix.SUMMED = 1 << 30  # whole products: faster, and exact enough beside 8-bit rounding
    print("| file | positions | ours, mean KL | llama.cpp's | ratio | same token, ours | llama.cpp's |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for path in args.models:
        with tempfile.TemporaryDirectory() as scratch:
            saved, text = Path(scratch) / "logits", Path(scratch) / "text"
            text.write_bytes(b"\n\n".join(part.read_bytes() for part in args.text))
            llama_cpp(path, text, args.chunks, args.threads, saved)
            exact = TextModel(open_gguf(path), memory_budget=8 << 30)
            fast = TextModel(open_gguf(path), layers=KERNELS)
            rows: list[np.ndarray] = []  # of each position: both divergences, both agreements
            for tokens, theirs in read_saved(saved):
                reference, ours = log_probabilities(exact, tokens), log_probabilities(fast, tokens)
                p, best = np.exp(reference), reference.argmax(axis=1)
                columns = [(p * (reference - q)).sum(axis=1, dtype=np.float64) for q in (ours, theirs)]
                columns += [q.argmax(axis=1) == best for q in (ours, theirs)]
                rows.append(np.stack(columns, axis=1))
        we, they, we_agree, they_agree = np.concatenate(rows).mean(axis=0)
        print(f"| {path.name} | {sum(map(len, rows))} | {we:.3e} | {they:.3e} | {we / they:.2f} "
              f"| {we_agree:.2%} | {they_agree:.2%} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
