"""What the kernels' machine code says of the speed on a Raspberry Pi, where none is at hand.

    python tests/arm64/assembly.py [MODEL.gguf ...]                            # a Pi 5
    NUMBA_CPU_NAME=cortex-a72 python tests/arm64/assembly.py [MODEL.gguf ...]  # a Pi 4
    python tests/arm64/assembly.py --show q4_k    # what of this product is run most, and its cycles

The engine runs parts of an answer with the kernels in an emulator (emulator.py says what is counted;
packages unicorn and llvm-19): the first layers of a file, for one token, 4 and 8, the output matrix,
attention at a prompt's end, and the vision file beside it, mmproj-SIZE-Q8_0.gguf, with one block and with
none. Further layers cost what these do, and further tokens what those from 4 to 8 do. A board takes the
longer of two times: its four cores' for the cycles, and its memory's for the bytes that `plan` counts.
Nothing of caches, of threads that wait for each other, or of Python is in that, so what is measured is
slower.

How much slower here.py says, which counts what this machine runs, and times it.

Files of the official shapes:
`tests/fixtures/make.py model --size 4B --zeros --outtype q8_0 --quants Q4_K_M --mmproj`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np

PROMPT, PICTURE = 512, 448  # tokens; pixels in each direction
TURNS = 8  # of a loop that are run, all tiles of a matrix being the same work
TYPES = "q4_0", "q8_0", "iq4_nl", "iq4_xs", "q4_k", "q5_k", "q6_k"
FLOATS = "F16, by floats"


class Board(NamedTuple):
    name: str
    clock: float  # cycles a second
    reads: tuple[float, ...]  # bytes a second
    cores: int = 4


# Others measured what memory gives: 4.8 to 12 GB/s on a Pi 5, with different programs; on a Pi 4 llama.cpp
# read 3 for 2.4 tokens a second of a 2B, and Stream copies with 5.5 (sci-pi.org.uk).
BOARDS = {
    "cortex-a76": Board("Raspberry Pi 5", 2.4e9, (4.8e9, 10e9, 12e9)),
    "cortex-a72": Board("Raspberry Pi 4", 1.8e9, (3.0e9, 5.5e9)),
}


class Work:
    """Parts of an answer, each a function, and what they say of the whole."""

    def __init__(self, path: Path):
        import qwen_ref
        from qwen_ref.engine import best_threads
        from qwen_ref.kernels import attention
        from qwen_ref.kernels.cache import KVCache

        self.tower = next(path.parent.glob(f"mmproj-{path.name.partition('-')[0]}-Q8_0.gguf"), None)
        self.model = qwen_ref.load(path, mmproj=self.tower)
        text, c = self.model.text, self.model.config
        hidden: np.ndarray = np.zeros((1, c.hidden_size), np.float32)
        q: np.ndarray = np.zeros((32, c.num_attention_heads * c.head_dim), np.float32)
        cache, out = KVCache(c.num_key_value_heads, c.head_dim), np.empty_like(q)
        cache.reserve(PROMPT)
        self.parts: dict[str, Callable[[], object]] = {
            "1 token": best_threads.first_layers(text, 1),
            "4 tokens": best_threads.first_layers(text, 4),
            "8 tokens": best_threads.first_layers(text, 8),
            "output": lambda: text.logits(hidden),
            "attention": lambda: attention.attend(q, cache.keys, cache.values, PROMPT - 32, out),
        }
        if self.tower:
            vision, side = self.model.vision, PICTURE // self.model.vision.config.patch_size
            size = vision.weights.patch_embed[0].size
            patches: np.ndarray = np.zeros((side * side, size), np.float32)
            blocks = list(vision.weights.blocks)

            def see(count: int) -> Callable[[], object]:
                def encode() -> None:
                    vision.weights.blocks[:] = blocks[:count]
                    vision.encode(patches, (1, side, side))

                return encode

            self.parts |= {"no block": see(0), "1 block": see(1)}
            self.depth = len(blocks)

    def whole(self, of: dict[str, Any]) -> dict[str, Any]:
        """What each part costs, in whatever -> what a token does, a prompt, and a picture."""
        c = self.model.config
        times = c.num_layers / c.full_attention_interval
        several = of["8 tokens"] + (of["8 tokens"] - of["4 tokens"]) / 4 * (PROMPT - 8)
        pairs = PROMPT * (PROMPT + 1) / 2 / (32 * (PROMPT - 32) + 32 * 33 / 2)
        found = {
            "token": times * of["1 token"] + of["output"],
            "prompt": times * (several + pairs * of["attention"]),
        }
        if self.tower:
            found["picture"] = of["no block"] + self.depth * (of["1 block"] - of["no block"])
        return found

    def moved(self) -> tuple[int, int]:
        """Bytes of a token of an answer, and of a prompt."""
        from qwen_ref.engine import plan

        job = plan.Job(self.model.text.file, PROMPT)
        rate = plan.times(job, plan.Speed("", 1 / plan.OF_READING, 1, 1)).first_rate
        return round(1 / rate), plan.text_pages(job)


def row_bytes(name: str) -> int:
    """Of 1024 columns."""
    if name == FLOATS:
        return 2048
    columns, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name.upper()]]
    return 1024 // columns * size


def product(name: str, tokens: int, count: int = 64) -> Callable[[], None]:
    """So many rows of 1024 columns times so many tokens."""
    from qwen_ref.kernels import layers
    from qwen_ref.kernels.quantize import new_quantized

    weights: np.ndarray = np.zeros((count, row_bytes(name)), np.uint8)
    weights.flags.writeable = False  # as a file's
    rows, y = new_quantized(tokens, 1024), np.empty((tokens, count), np.float32)
    for array in rows:
        array[:] = 0
    return lambda: layers.INTEGER[name.upper()][0](weights, *rows, y)


def floats(tokens: int) -> Callable[[], None]:
    from qwen_ref.kernels import layers

    weights, rows = np.zeros((64, 2048), np.uint8), np.zeros((tokens, 1024), np.float32)
    return lambda: layers.product_of_floats(rows, weights, None, layers.FLOAT["F16"])


def show(name: str) -> None:
    """The code that most cycles go into, for one token and for 64."""
    import emulator

    for tokens in 1, 64:
        call = product(name, tokens)
        _, shared = emulator.counted(call)
        cost = {span: emulator.cycles({span: n}) for span, n in shared.items()}
        for (start, size), spent in sorted(cost.items(), key=lambda item: -item[1])[:3]:
            part, n = spent / sum(cost.values()), shared[start, size]
            print(f"\n{name}, {tokens} tokens: {part:.0%} of the cycles, {spent / n:.0f} each of {n} times")
            print(*emulator.core.instructions([emulator.code((start, size))])[0], sep="\n")


def rates() -> None:
    """Each type's product."""
    import emulator

    print("| product | one token: products a cycle | bytes a cycle | 64 tokens: products a cycle |")
    print("|---|---:|---:|---:|")
    for name in (*TYPES, FLOATS):
        cells = []
        for tokens in 1, 64:
            call = floats(tokens) if name == FLOATS else product(name, tokens)
            spent = emulator.cycles(emulator.counted(call)[1])
            cells.append(f"{64 * 1024 * tokens / spent:.1f}")
            if tokens == 1:
                cells.append(f"{64 * row_bytes(name) / spent:.2f}")
        print("|", " | ".join([name, *cells]), "|", flush=True)


def counted(work: Work) -> dict[str, np.ndarray]:
    """Cycles of each part: of one thread alone, and of those that threads share."""
    import emulator

    return {
        name: np.array([emulator.cycles(counts) for counts in emulator.counted(part, TURNS)])
        for name, part in work.parts.items()
    }


def speeds(path: Path, board: Board) -> list[str]:
    """A line of a table for each speed that memory may have."""
    work = Work(path)
    cycles, (of_token, of_prompt) = work.whole(counted(work)), work.moved()
    time = {name: (alone + shared / board.cores) / board.clock for name, (alone, shared) in cycles.items()}
    lines = []
    for reads in board.reads:
        cells = [path.stem, f"{reads / 1e9:.1f} GB/s"]
        cells += [f"{1e3 * time['token']:.0f}", f"{1e3 * of_token / reads:.0f}"]
        cells += [f"{1 / max(time['token'], of_token / reads):.1f}"]
        cells += [f"{PROMPT / max(time['prompt'], of_prompt / reads):.0f}"]
        cells += [f"{time['picture']:.1f}" if work.tower else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--show", choices=TYPES, help="the instructions of a product")
    args = parser.parse_args()
    import emulator

    if args.show:
        show(args.show)
        return
    rates()
    board = BOARDS[emulator.CPU]
    print(f"\n{board.name}: a token of an answer, in ms by cycles and by bytes; the longer one counts\n")
    print("| model | memory | cycles | bytes | tokens/s | prompt, tokens/s | picture, s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for path in args.models:
        print(*speeds(path, board), sep="\n", flush=True)


if __name__ == "__main__":
    main()
