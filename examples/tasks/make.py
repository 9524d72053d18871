"""A task for `python -m qwen_ref evaluate`, of the small model's world: samples that its training never saw.

    python examples/tasks/make.py                                 # makes small.jsonl here, and its pictures
    python examples/tasks/make.py --times 20 --out build/task     # 20 times as many

A sample's answer is the one right answer; a choice's wrong ones have another number.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tiny_model"))

import world  # noqa: E402
from sample import Sample  # noqa: E402

from qwen_ref.grounding import find_json  # noqa: E402

# group -> how many samples of it; the world's task, where its name is another; the score, if not exact
COUNTS = {
    "sums": 10, "choice": 8, "memory": 8, "found": 6, "unknown": 4, "json": 6, "scene": 8,
    "boxes": 6, "read": 4,
}  # fmt: skip
TASK_OF = {"choice": "sums"}
SCORE = {
    "sums": "regex", "json": "json", "boxes": "boxes", "memory": "includes", "found": "includes",
    "scene": "regex",
}  # fmt: skip
FIRST = 2 * 10**9  # seeds: neither those of training nor those of examples/tiny_model/scores.py
LARGEST = 320 * 224  # pixels of a picture, so that the files are small


def is_fit(group: str, sample: Sample) -> bool:
    """A sum that is said at once, a picture that is small, an answer of JSON."""
    if sample.picture and sample.picture.width * sample.picture.height > LARGEST:
        return False
    if TASK_OF.get(group, group) == "sums":
        return re.fullmatch(r"[^\n]{1,20} \d+\.", sample.answer.strip()) is not None
    if group == "json":
        return bool(find_json(sample.answer))
    return group != "boxes" or "bbox_2d" in sample.answer


def samples(group: str, count: int) -> list[Sample]:
    found: list[Sample] = []
    seed = FIRST
    while len(found) < count:
        sample = world.sample(TASK_OF.get(group, group), seed, test=True)
        seed += 1
        if is_fit(group, sample):
            found.append(sample)
    return found


def line(group: str, number: int, sample: Sample, out: Path) -> dict[str, Any]:
    told: dict[str, Any] = {"id": f"{group}-{number}", "group": group, "score": SCORE.get(group, "exact")}
    last = sample.messages[-1]["content"]
    told["input"] = (
        sample.messages if len(sample.messages) > 1 else last if isinstance(last, str) else last[-1]["text"]
    )
    if sample.picture:
        picture = f"pictures/{group}-{number}.png"
        (out / "pictures").mkdir(exist_ok=True)
        sample.picture.convert("RGB").quantize(128).save(out / picture, optimize=True)
        told["images"] = [picture]
    told["target"] = sample.answer.strip()
    if group in ("json", "boxes"):
        told["target"] = find_json(sample.answer)[-1]
    elif group in ("memory", "found"):
        verdict = re.search(r" (Yes|No|True|False)\.$", sample.answer)  # alone it would say little
        value = sample.answer if verdict else sample.answer.rstrip(".").split()[-1]
        told["target"] = (sample.key or value).strip()
    elif group == "sums":  # which may be worked out first
        told["target"] = r"(?<![\d-])" + re.escape(sample.answer.rpartition("= ")[2]) + r"\Z"
    elif group == "read" and sample.key:  # a number of words, of which one may be misread
        told |= {"score": "includes", "target": sample.key}
    elif group == "scene":
        # the verdict behind figures, which may be a hundredth off
        told["target"] = (r"\. " if sample.key else r"\A") + re.escape(sample.key or sample.answer) + r"\Z"
    elif group == "choice":
        del told["score"]
        head, _, right = sample.answer.rstrip(".").rpartition(" ")
        rng = random.Random(number)
        wrong = rng.sample(
            [n for n in range(int(right) - 10, int(right) + 11) if n != int(right) and n >= 0], 3
        )
        told["choices"] = [f"{head} {n}." for n in sorted([int(right), *wrong])]
    return told


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=HERE, metavar="FOLDER", help="where the task goes (here)")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="so many times the samples (1)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    lines = [
        line(group, number, sample, args.out)
        for group, count in COUNTS.items()
        for number, sample in enumerate(samples(group, count * args.times), 1)
    ]
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines)
    (args.out / "small.jsonl").write_text(text, encoding="utf-8")
    print(f"{args.out / 'small.jsonl'}: {len(lines)} samples")


if __name__ == "__main__":
    main()
