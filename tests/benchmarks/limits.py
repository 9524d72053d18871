"""Answers under a hard limit of memory without swap, here and in llama.cpp: peaks and seconds.

    python -m tests.benchmarks.limits MODEL=2G [MODEL=4G …] [--tokens N] [--image WxH] [--without-llama]

Each line is a process in a memory cgroup of its own (version 1 or 2, made by hand: this needs root). The
most that the group held counts pages of files, too: where they are all of it, the peak is the limit, and
the rest is read again. Files of the official shapes are made by
`tests/fixtures/make.py model --size 4B --zeros --outtype q8_0 --quants Q4_K_M --mmproj`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from qwen_ref.cli.options import bytes_of
from tests.fixtures.make import llama_bin

MIB = 1 << 20
ANSWER = 16  # tokens
CGROUPS = Path("/sys/fs/cgroup")
FILES = {  # of version 1 and of version 2: the limit, the most that was held, without swap
    "memory": ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.swappiness"),
    "": ("memory.max", "memory.peak", "memory.swap.max"),
}


@contextlib.contextmanager
def limited(nbytes: int, name: object = "") -> Iterator[Path]:
    """A group of processes that may hold so much; of several each has a name."""
    version = "memory" if (CGROUPS / "memory").is_dir() else ""
    limit, _, swap = FILES[version]
    group = CGROUPS / version / f"qwen_ref-{os.getpid()}{name}"
    group.mkdir()
    try:
        (group / limit).write_text(str(nbytes))
        (group / swap).write_text("0")
        yield group
    finally:
        group.rmdir()


def peak(group: Path) -> int:
    return int(next((group / most).read_text() for _, most, _ in FILES.values() if (group / most).exists()))


def forget(path: str) -> None:
    """Its pages leave the cache: they count for the group that reads them first."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(command: list[str], nbytes: int, environment: dict[str, str]) -> tuple[str, str, float, int]:
    """How it ended, its standard output, seconds, and the most that it held."""
    with limited(nbytes) as group, tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=err,
            env=environment,
            preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())) and None,
        )
        code = process.wait()
        seconds, most = time.perf_counter() - began, peak(group)
        err.seek(0)
        said = err.read().strip().splitlines()
        out.seek(0)
        ended = "answered" if code == 0 else "killed" if code == -9 else f"status {code}: {said[-1:]}"
        for line in said if code == 0 and command[1:3] == ["-m", "qwen_ref"] else []:
            if "memory" in line:
                print("  ", line, flush=True)
        return ended, out.read(), seconds, most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL=SIZE")
    parser.add_argument("--tokens", type=int, default=4096, help="prompt, picture and answer together (4096)")
    parser.add_argument("--image", default="448x448", metavar="WxH", help="(448x448)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--without-llama", action="store_true", help="only this project")
    args = parser.parse_args()
    width, height = map(int, args.image.split("x"))
    words = args.tokens - ANSWER - width * height // 1024 - 64  # of the template, too
    with tempfile.TemporaryDirectory() as folder:
        picture, prompt = Path(folder, "picture.png"), Path(folder, "prompt.txt")
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(picture)
        prompt.write_text(" the" * words)
        print("| model | limit | engine | ended | seconds | peak, MiB |", flush=True)
        print("|---|---:|---|---|---:|---:|")
        for given in args.models:
            model, _, size = given.partition("=")
            tower = next(Path(model).parent.glob(f"mmproj-{Path(model).name.partition('-')[0]}-*.gguf"))
            ours = [sys.executable, "-m", "qwen_ref", "generate", "--model", model, "--mmproj", str(tower)]
            ours += ["--prompt-file", str(prompt), "--image", str(picture), "-n", str(ANSWER), "--greedy"]
            ours += ["--no-thinking", "--json", "--threads", str(args.threads)]
            theirs = [str(llama_bin() / "llama-mtmd-cli"), "-m", model, "--mmproj", str(tower), "--image"]
            theirs += [str(picture), "-p", prompt.read_text(), "-n", str(ANSWER), "--temp", "0", "-t"]
            # repacked weights crash it where the processor has AMX
            theirs += [str(args.threads), "-c", str(args.tokens), "--no-warmup", "--jinja", "--no-repack"]
            of_llama = os.environ | {"LD_LIBRARY_PATH": str(llama_bin())}
            engines = [("qwen_ref", ours, dict(os.environ)), ("llama.cpp", theirs, of_llama)]
            for name, command, environment in engines[: 1 if args.without_llama else 2]:
                for path in model, str(tower):
                    forget(path)
                ended, said, seconds, most = run(command, bytes_of(size), environment)
                if name == "qwen_ref" and ended == "answered":
                    found = json.loads(said)
                    tokens = len(found["prompt_token_ids"]) + len(found["token_ids"])
                    ended = f"answered, {tokens:,} tokens"
                cells = [Path(model).stem, size, name, ended, f"{seconds:.1f}", f"{most / MIB:,.0f}"]
                print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
