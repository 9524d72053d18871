"""How much of its world the small model knows: a table, on samples that training never saw.

    python examples/tiny_model/evaluate.py build/tiny_model/tiny-bf16.gguf build/tiny_model/tiny-Q4_K_M.gguf

An answer counts if it is the one right answer to the last character; of boxes it is the mean overlap (IoU)
with the right ones; a tool call is valid if it is well formed, its tool is offered, and has these parameters.
The vision file lies beside the model, its name being mmproj- and the model's.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import re
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import world
from options import whole
from PIL import Image
from world import Sample

from gguf_io import GGUFError
from qwen_ref import Model, QwenRefError, load
from qwen_ref.grounding import find_marks
from qwen_ref.prompt import Prompt

WITHOUT_THINKING, VALID_CALLS = "sums without thinking", "valid tool calls"
AIMS = dict(scene=0.95, caption=0.9, boxes=0.8, read=0.9, motion=0.9, sums=0.95, memory=0.95) | {
    VALID_CALLS: 0.98
}
TASK_OF = {WITHOUT_THINKING: "sums", VALID_CALLS: "tools"}  # of rows that are not a task themselves
ROWS = [*(task for task in world.TASKS if task != "story"), *TASK_OF]  # a story has many right ends
FIRST, MOST = 10**9, 10**6  # seeds of test samples begin here; so many samples a row, at most
ANSWER = 320  # tokens of an answer, at most

CALL = re.compile(
    r"<tool_call>\n<function=(.*?)>\n((?:<parameter=\w+>\n.+?\n</parameter>\n)*)</function>\n</tool_call>"
)


def is_valid(sample: Sample, given: str) -> bool:
    """Is it a call of a tool that is offered, with this tool's parameters, whatever they are?"""
    if not (call := CALL.fullmatch(given)):
        return False
    offered = {t["function"]["name"]: t["function"]["parameters"]["required"] for t in sample.tools or []}
    return offered.get(call[1]) == re.findall(r"<parameter=(\w+)>", call[2])


def held_out(row: str, number: int) -> Sample:
    task, seed = TASK_OF.get(row, row), FIRST + number
    sample = world.sample(task, seed, test=True)
    while row == VALID_CALLS and not CALL.fullmatch(sample.answer):
        seed += MOST
        sample = world.sample(task, seed, test=True)
    if row == WITHOUT_THINKING:
        sample.thoughts = None
    return sample


def as_gif(frames: np.ndarray) -> bytes:
    """Two frames a second, as the model learned."""
    first, *others = map(Image.fromarray, frames)
    file = io.BytesIO()
    first.save(file, "gif", save_all=True, append_images=others, duration=500)
    return file.getvalue()


def read(model: Model, sample: Sample) -> Prompt:
    thinking = sample.thoughts is not None
    if sample.picture is None and sample.clip is None:
        return model.encode_prompt(sample.messages, tools=sample.tools, thinking=thinking)
    ((_, question),) = (message["content"] for message in sample.messages)
    images = [] if sample.picture is None else [sample.picture]
    videos = [] if sample.clip is None else [as_gif(sample.clip)]
    return model.encode_prompt(question["text"], images, videos, thinking=thinking)


def answer(model: Model, sample: Sample) -> str:
    pieces = model.generate(read(model, sample), temperature=0, presence_penalty=0, max_tokens=ANSWER)
    return "".join(pieces).rpartition("</think>")[2].strip()


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes: left, top, right, bottom."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    either = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - both
    return both / either if either > 0 else 0.0


def score(row: str, sample: Sample, given: str) -> float:
    """0 to 1. Boxes too many and boxes missing count as boxes that overlap nothing."""
    if row == VALID_CALLS:
        return float(is_valid(sample, given))
    if not sample.boxes:
        return float(given == sample.answer.strip())
    found = [mark.coordinates for mark in find_marks(given) if len(mark.coordinates) == 4]
    pairs = zip(found, sample.boxes, strict=False)
    return sum(overlap(*pair) for pair in pairs) / max(len(found), len(sample.boxes))


def vision_of(path: Path) -> Path:
    """The vision file beside a model; of a quantized model the one in 8 bits, which ships."""
    own = path.with_name(f"mmproj-{path.name}")
    return own if own.exists() else path.with_name(f"mmproj-{path.stem.partition('-')[0]}-Q8_0.gguf")


def open_model(path: Path) -> None:
    """In each process, once."""
    global model
    model = load(path, mmproj=vision_of(path), threads=1)  # more would wait for each other


def judge(row: str, numbers: range) -> tuple[float, list[tuple[str, str]]]:
    """The sum of the scores, and what was said instead of the right answer."""
    total, wrong = 0.0, []
    for number in numbers:
        sample = held_out(row, number)
        given = answer(model, sample)
        value = score(row, sample, given)
        total += value
        if not value:
            wrong.append((sample.answer, given))
    return total, wrong


def scores(path: Path, rows: list[str], count: int, workers: int, show: int) -> Iterator[tuple[str, float]]:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, open_model, (path,)) as pool:
        for row in rows:
            parts = [range(i, min(i + 25, count)) for i in range(0, count, 25)]
            judged = list(pool.map(judge, [row] * len(parts), parts))
            for right, given in [pair for _, wrong in judged for pair in wrong][:show]:
                print(f"  {row}: {given!r} instead of {right!r}")
            yield row, sum(total for total, _ in judged) / count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", help="GGUF files")
    parser.add_argument("--count", type=whole(1, MOST), default=2000, help="samples of each task")
    parser.add_argument("--tasks", nargs="+", default=ROWS, choices=ROWS, metavar="TASK")
    parser.add_argument("--workers", type=whole(1, 1000), default=multiprocessing.cpu_count())
    parser.add_argument(
        "--show", type=whole(0, MOST), default=0, help="print so many wrong answers of each task"
    )
    args = parser.parse_args()
    for path in args.models:
        if not path.is_file():
            parser.error(f"{path}: no such file")
        try:
            load(path, mmproj=vision_of(path))
        except (GGUFError, QwenRefError) as error:
            parser.error(str(error))
    table = {row: [f"{AIMS[row]:.0%}" if row in AIMS else ""] for row in args.tasks}
    for path in args.models:
        began = time.time()
        for row, value in scores(path, args.tasks, args.count, args.workers, args.show):
            print(f"{path.name}  {row}  {value:.1%}  {time.time() - began:.0f} s", flush=True)
            table[row].append(f"{value:.1%}")
    print(f"\n| {args.count} samples each | aim | {' | '.join(path.stem for path in args.models)} |")
    print("|---|" + "---:|" * (1 + len(args.models)))
    for row, cells in table.items():
        print(f"| {row} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
