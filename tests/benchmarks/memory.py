"""What `plan` says of the memory of an answer, beside what processes of `generate` take.

    python tests/benchmarks/memory.py MODEL [MODEL …] [--tokens N …] [--image WxH …] [--threads N …]

Each line is a process of its own, run once before it is measured, so that no kernel is compiled. Its
resident memory is read from /proc every few milliseconds: the most in private pages and in those of files,
and the most of both at one time, as the system keeps it (VmHWM). `plan` is compared with the sum of the first
two: a first picture is looked at before most of the text's weights are touched, a later one with all there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MIB = 1 << 20
ANSWER = 16  # tokens


def peaks(command: list[str]) -> tuple[dict[str, int], Any]:
    """The most of each kind of memory of a process, in bytes, and the JSON that it prints."""
    most = dict.fromkeys(("VmHWM", "RssAnon", "RssShmem", "RssFile"), 0)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            for line in status.read_text().splitlines():
                name, _, value = line.partition(":")
                if name in most:
                    most[name] = max(most[name], 1024 * int(value.split()[0]))
            time.sleep(0.002)
        out, err = process.communicate()
    if process.returncode:
        sys.exit(err)
    return most, json.loads(out)


def measure(model: str, tokens: int, size: str | None, threads: int) -> tuple[dict[str, int], Any]:
    with tempfile.TemporaryDirectory() as folder:
        prompt, picture = Path(folder, "prompt.txt"), Path(folder, "picture.png")
        prompt.write_text(" the" * tokens)
        command = [sys.executable, "-m", "qwen_ref", "generate", "--model", model, "--greedy", "--json"]
        command += ["--prompt-file", str(prompt), "-n", str(ANSWER), "--threads", str(threads)]
        if size is None:
            return peaks([*command, "--raw"])
        width, height = map(int, size.split("x"))
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(picture)
        return peaks([*command, "--no-thinking", "--image", str(picture)])


def planned(model: str, context: int, size: str | None, threads: int) -> Any:
    command = [sys.executable, "-m", "qwen_ref", "plan", model, "--context", str(context), "--json"]
    command += ["--threads", str(threads), *(["--image", size] if size else [])]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 512, 2048, 8192])
    parser.add_argument("--image", nargs="+", default=["none"])
    parser.add_argument("--threads", type=int, nargs="+", default=[len(os.sched_getaffinity(0))])
    args = parser.parse_args()
    heads = "model", "tokens", "picture", "threads", "private", "files", "both at once", "planned", "off by"
    print("|", " | ".join([*heads, "seconds, planned"]), "|")
    print("|---|---:|---|---:|---:|---:|---:|---:|---:|---|")
    for model, tokens, size, threads in itertools.product(args.models, args.tokens, args.image, args.threads):
        image = None if size == "none" else size
        measure(model, tokens, image, threads)
        most, answer = measure(model, tokens, image, threads)
        context = len(answer["prompt_token_ids"]) + len(answer["token_ids"])
        plan = planned(model, context, image, threads)
        both = most["RssAnon"] + most["RssShmem"] + most["RssFile"]
        seconds = plan["times"]["whole_prompt"] + (plan["times"]["picture"] or 0)
        values = [Path(model).stem, f"{context:,}", image or "", threads]
        sizes = both - most["RssFile"], most["RssFile"], most["VmHWM"], plan["total"]
        values += [f"{nbytes / MIB:.1f}" for nbytes in sizes]
        values += [f"{plan['total'] / both - 1:+.1%}", f"{answer['prompt_seconds']:.1f}, {seconds:.1f}"]
        print("|", " | ".join(map(str, values)), "|", flush=True)


if __name__ == "__main__":
    main()
