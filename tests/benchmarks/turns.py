"""How long a turn waits for its first token, where the turns before it are kept: at full size, and without
trained weights, since the answers of the conversation are given.

    python tests/benchmarks/turns.py MODEL.gguf [--rounds N] [--turns N]

An edit: the last message of a conversation of 4,000 tokens is another one. It is read with nothing kept, with
what an earlier run has kept in memory, and by a new process that finds it in files. Turns: each has as many
new tokens as the one before.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from qwen_ref import load
from qwen_ref.engine.prefixes import default_budget

WORDS = (Path(__file__).parents[2] / "docs" / "vision.md").read_text(encoding="utf-8").split()
SYSTEM = "You answer questions about pictures. " + " ".join(WORDS[:60])


def conversation(turns: int, words: int, last: str) -> list[dict]:
    """So many turns with answers, each of so many words both ways, and a last message."""
    messages = []
    for turn in range(turns):
        for part, role in enumerate(("user", "assistant")):
            at = (2 * turn + part) * words % (len(WORDS) - words)
            messages.append({"role": role, "content": f"{turn}. " + " ".join(WORDS[at : at + words])})
    return [*messages, {"role": "user", "content": last}]


def first_token(model, messages: list[dict]) -> tuple[float, int, int]:
    """Seconds until it comes, tokens of the prompt, and how many of them were kept."""
    answer = model.generate(messages, system=SYSTEM, max_tokens=1, temperature=0)
    list(answer)
    return answer.prompt_seconds, len(answer.prompt_ids), answer.cached_tokens


def edits(path: str, rounds: int) -> None:
    long = [conversation(12, 85, f"What is shown in picture number {n}, and why?") for n in range(rounds + 1)]
    fresh = load(path)
    fresh.warm_up()
    with tempfile.TemporaryDirectory() as cache:
        model = load(path, cache=cache)
        before = first_token(model, long[-1])
        print(f"nothing kept yet: {before[1]} tokens in {before[0]:.2f} s", flush=True)
        model.prefixes.save()
        size = sum(file.stat().st_size for file in Path(cache).glob("*/*"))
        print(f"kept: {model.prefixes.nbytes >> 20} MiB in memory, {size >> 20} MiB in files", flush=True)
        ratios = []
        for messages in long[:rounds]:
            full, _, _ = first_token(fresh, messages)
            edited, tokens, kept = first_token(model, messages)
            command = [sys.executable, __file__, path, "--edit-of", cache, "--last", messages[-1]["content"]]
            ended = subprocess.run(command, capture_output=True, text=True, check=True)
            from_disk, _, kept_there = ended.stdout.split()
            ratios.append((edited / full, float(from_disk) / full))
            print(
                f"  {tokens} tokens in {full:.2f} s; {kept} kept: {edited:.3f} s, {edited / full:.1%}; ",
                end="",
            )
            print(
                f"in a new process, {kept_there} kept: {float(from_disk):.3f} s, {ratios[-1][1]:.1%}",
                flush=True,
            )
        memory, disk = (statistics.median(column) for column in zip(*ratios, strict=True))
        print(f"an edited last message: {memory:.1%} of a full prefill; from files {disk:.1%}", flush=True)


def turns(path: str, count: int, rounds: int) -> None:
    seconds = []
    for _ in range(rounds):
        model = load(path, keep=default_budget())
        waits = [first_token(model, conversation(turn, 70, "And what is next?")) for turn in range(count)]
        seconds.append([wait for wait, _, _ in waits])
        new = [tokens - kept for _, tokens, kept in waits]
        print(f"  turn 2: {new[1]} new of {waits[1][1]} tokens; last: {new[-1]} new of {waits[-1][1]}")
    waits = [min(column) for column in zip(*seconds, strict=True)]
    print("first token, turn by turn: " + " ".join(f"{wait:.2f}" for wait in waits) + " s")
    print(f"turn {count}: {waits[-1] / waits[1]:.2f} x turn 2; {model.prefixes.nbytes >> 20} MiB kept")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--edit-of", help=argparse.SUPPRESS)
    parser.add_argument("--last", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.edit_of:
        model = load(args.model, cache=args.edit_of)
        model.warm_up()
        print(*first_token(model, conversation(12, 85, args.last)))
        return
    edits(args.model, args.rounds)
    turns(args.model, args.turns, args.rounds)


if __name__ == "__main__":
    main()
