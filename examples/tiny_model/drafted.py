"""How often the MTP layer foresees the next token, and what its drafts are worth: a table by task.

    python examples/tiny_model/drafted.py build/tiny_model/tiny-Q4_K_M.gguf --count 50

Held-out samples of scores.py are answered greedily, each once without drafts and once with them, in turn;
"foreseen" are first drafted tokens that the model then chose, and the ratio is of the seconds from the first
token to the last.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import world
from options import whole
from scores import ANSWER, held_out, opened, read


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--count", type=whole(1, 10**6), default=50, help="samples of each task")
    parser.add_argument("--draft", choices=["auto", "mtp"], default="auto", help="as of generate")
    args = parser.parse_args()
    model = opened(args.model, parser)
    print("| task | tokens | foreseen | times as fast |\n|---|---:|---:|---:|")
    in_all = {"tokens": 0, "drafted": 0, "accepted": 0, "off": 0.0, "on": 0.0}
    for task in world.TASKS:
        found = dict.fromkeys(in_all, 0) | {"off": 0.0, "on": 0.0}
        for number in range(-1, args.count):  # the first, which warms up, does not count
            prompt = read(model, held_out(task, max(number, 0)))
            texts, answers = [], {}
            for draft in ("off", args.draft) if number % 2 else (args.draft, "off"):
                answer = model.generate(
                    prompt, draft=draft, temperature=0, presence_penalty=0, max_tokens=ANSWER
                )
                answers["off" if draft == "off" else "on"] = answer
                pieces = iter(answer)
                texts.append(next(pieces, ""))
                started = time.perf_counter()
                texts[-1] += "".join(pieces)
                if number >= 0:
                    found["off" if draft == "off" else "on"] += time.perf_counter() - started
            assert texts[0] == texts[1], (task, number)
            if number >= 0:
                found["tokens"] += len(answer.token_ids)
                told = answers["on"].drafted.get("mtp")
                found["drafted"] += told["drafted"][0] if told else 0
                found["accepted"] += told["accepted"][0] if told else 0
        for key, value in found.items():
            in_all[key] += value
        print(row(task, found), flush=True)
    print(row("all", in_all))


def row(task: str, found: dict[str, float]) -> str:
    foreseen = f"{found['accepted'] / found['drafted']:.1%}" if found["drafted"] else "–"
    return f"| {task} | {found['tokens']} | {foreseen} | {found['off'] / found['on']:.2f} |"


if __name__ == "__main__":
    main()
