"""How much of its world the small model knows: a table, on samples that training never saw.

    python examples/tiny_model/scores.py build/tiny_model/tiny-bf16.gguf build/tiny_model/tiny-Q4_K_M.gguf

Beside most tasks stand samples by other code and in other words (elsewhere.py, which needs matplotlib). An
answer counts if it is the one right answer to the last character (or has in it what it must, where other
words would do); of boxes it is the mean overlap (IoU) with the right ones, of documents the share of fields,
and a click counts inside its target; a tool call is valid if it is well formed, its tool is offered, and has
these parameters, to which `generate` keeps it.
The vision file lies beside the model, its name being mmproj- and the model's.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import re
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import elsewhere
import figures
import numpy as np
import world
from options import whole
from PIL import Image
from sample import Sample

from gguf_io import GGUFError
from qwen_ref import Model, QwenRefError, load
from qwen_ref.evaluate.judge import Box, mean_overlap
from qwen_ref.grounding import find_json, find_marks
from qwen_ref.prompt import Prompt

WITHOUT_THINKING, VALID_CALLS = "sums without thinking", "valid tool calls"
OTHER = ", other code"
AIMS = {
    "scene": 0.97, "boxes": 0.85, "read": 0.95, "extract": 0.9, "click": 0.95, "motion": 0.95, "sums": 0.99,
    "tools": 0.95, "memory": 0.97, "found": 0.95, "unknown": 0.99, VALID_CALLS: 0.95, f"scene{OTHER}": 0.93,
}  # fmt: skip
TASK_OF = {WITHOUT_THINKING: "sums", VALID_CALLS: "tools"}  # of rows that are not a task themselves
ROWS = [  # a story has many right ends
    *(task for task in world.TASKS if task != "story"),
    *TASK_OF,
    *(f"{task}{OTHER}" for task in elsewhere.TASKS),
]
FIRST, MOST = 10**9, 10**6  # seeds of test samples begin here; so many samples a row, at most
ANSWER = 320  # tokens of an answer, at most

CALL = re.compile(
    r"<tool_call>\n<function=(.*?)>\n((?:<parameter=\w+>\n.+?\n</parameter>\n)*)</function>\n</tool_call>"
)


def is_valid(sample: Sample, given: str) -> bool:
    """Are they calls of tools that are offered, with these tools' parameters, whatever they are?"""
    offered = {t["function"]["name"]: t["function"]["parameters"] for t in sample.tools or []}

    def fits(name: str, inside: str) -> bool:
        names, takes = re.findall(r"<parameter=(\w+)>", inside), offered.get(name)
        if takes is None or len(names) > len({*names}):
            return False
        return {*takes.get("required", [])} <= {*names} <= {*takes["properties"]}

    calls = list(CALL.finditer(given))
    return bool(calls) and not CALL.sub("", given).strip() and all(fits(*call.groups()) for call in calls)


def held_out(row: str, number: int) -> Sample:
    task, seed = TASK_OF.get(row, row), FIRST + number
    if row.endswith(OTHER):
        return elsewhere.sample(row.removesuffix(OTHER), number)
    sample = world.sample(task, seed, test=True)
    while row == VALID_CALLS and not CALL.match(sample.answer):
        seed += MOST
        sample = world.sample(task, seed, test=True)
    if row == WITHOUT_THINKING and sample.thoughts:
        if not said_at_once(sample):
            sample.key = sample.answer  # worked out in the answer
        sample.thoughts = None
    elif task == "sums" and sample.thoughts is None:
        sample.thoughts, sample.key = "", sample.answer.splitlines()[-1]
    return sample


def said_at_once(sample: Sample) -> bool:
    """Is it a sum of which nothing is said before, so that nothing else is right?"""
    sum_of = re.fullmatch(r"(\d+) ([-+*]) (\d+) = \d+\.", sample.answer)
    return sum_of is not None and figures.is_small(int(sum_of[1]), sum_of[2], int(sum_of[3]))


def as_gif(frames: np.ndarray) -> bytes:
    """Two frames a second, as the model learned."""
    first, *others = map(Image.fromarray, frames)
    file = io.BytesIO()
    first.save(file, "gif", save_all=True, append_images=others, duration=500)
    return file.getvalue()


def read(model: Model, sample: Sample) -> Prompt:
    messages = [dict(message) for message in sample.messages]
    for message in messages:
        if isinstance(message["content"], list):
            picture = {"type": "image", "image": sample.picture}
            clip = {"type": "video", "video": None if sample.clip is None else as_gif(sample.clip)}
            message["content"] = [picture if sample.picture else clip, *message["content"][1:]]
    return model.encode_prompt(messages, tools=sample.tools, thinking=sample.thoughts is not None)


def answer(model: Model, sample: Sample) -> str:
    pieces = model.generate(read(model, sample), temperature=0, presence_penalty=0, max_tokens=ANSWER)
    return "".join(pieces).rpartition("</think>")[2].strip()


def fields(value: object, path: tuple = ()) -> dict[tuple, object]:
    """Every string and number in what JSON holds, by where it is."""
    inside = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    )
    if inside is None:
        return {path: value}
    return {place: leaf for key, part in inside for place, leaf in fields(part, (*path, key)).items()}


def score(row: str, sample: Sample, given: str) -> float:
    """0 to 1. Boxes too many and boxes missing count as boxes that overlap nothing."""
    if row == VALID_CALLS:
        return float(is_valid(sample, given))
    if sample.key is not None:
        return float(re.search(rf"(?<!\w){re.escape(sample.key)}(?!\w)", given) is not None)
    if sample.target:
        left, top, right, bottom = sample.target
        places = [mark.coordinates for mark in find_marks(given) if len(mark.coordinates) == 2]
        return float(len(places) == 1 and left <= places[0][0] <= right and top <= places[0][1] <= bottom)
    if sample.task == "extract" and sample.answer.startswith("{"):
        right_ones, found = fields(json.loads(sample.answer)), find_json(given)
        told = fields(found[0]) if found else {}
        return sum(told.get(place) == leaf for place, leaf in right_ones.items()) / max(
            len(right_ones), len(told)
        )
    if not sample.boxes:
        return float(given == sample.answer.strip())
    if "point_2d" not in sample.answer:
        return mean_overlap([Box(box) for box in sample.boxes], given)
    found = [mark.coordinates[:2] for mark in find_marks(given)]
    missing = list(sample.boxes)
    for x, y in found:  # each within another box, in any order
        hit = next((b for b in missing if b[0] <= x <= b[2] and b[1] <= y <= b[3]), None)
        if hit:
            missing.remove(hit)
    return (len(sample.boxes) - len(missing)) / max(len(found), len(sample.boxes))


def vision_of(path: Path) -> Path:
    """The vision file beside a model; of a quantized model the one in 8 bits, which ships."""
    own = path.with_name(f"mmproj-{path.name}")
    return own if own.exists() else path.with_name(f"mmproj-{path.stem.partition('-')[0]}-Q8_0.gguf")


def opened(path: Path, parser: argparse.ArgumentParser) -> Model:
    """With the vision file beside it; what is wrong with a file ends the command in one sentence."""
    if not path.is_file():
        parser.error(f"{path}: no such file")
    try:
        return load(path, mmproj=vision_of(path))
    except (GGUFError, QwenRefError) as error:
        parser.error(str(error))


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
        opened(path, parser)
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
