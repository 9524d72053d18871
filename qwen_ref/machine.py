"""What this process may use of the machine: cores and memory, as cgroups, ulimit and taskset leave them."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/")  # /proc and /sys/fs/cgroup are below it; tests have files of their own


def available_memory(root: Path = ROOT) -> int:
    """Bytes that can be used without swapping, at least 0; 4 GiB where nothing says how many there are.

    Pages of files count as free: the system drops them when memory is short, as it does in MemAvailable.
    """
    left = [fields(root / "proc/meminfo").get("MemAvailable", 4 << 30)]
    for group in groups(root, "memory"):
        stat = fields(group / "memory.stat")
        # Version 2, and version 1, where the keys with total_ count the groups below too.
        for limit, used, kind in (
            ("memory.max", "memory.current", ""),
            ("memory.high", "memory.current", ""),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
        ):
            most, now = numbers(group / limit), numbers(group / used)
            if most and now:
                files = stat.get(f"{kind}inactive_file", 0) + stat.get(f"{kind}active_file", 0)
                left.append(most[0] - max(0, now[0] - files))
    status = fields(root / "proc/self/status")
    for which, used in (resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData"):  # ulimit -v and -d
        soft, _ = resource.getrlimit(which)
        if soft != resource.RLIM_INFINITY:
            left.append(soft - status.get(used, 0))
    return max(0, min(left))


def cores() -> int:
    """How many this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Threads(NamedTuple):
    """How many compute."""

    decode: int  # where each step reads a token of an answer, and waits for memory
    prefill: int  # where it reads a block of a prompt, or a picture, and all cores have something to do


def default_threads(root: Path = ROOT) -> int:
    """As many as there are cores for this process, or as its cgroup's share or OMP_NUM_THREADS says."""
    threads = cores()
    for group in groups(root, "cpu"):
        share = numbers(group / "cpu.max")  # µs of each period
        share = share or [*numbers(group / "cpu.cfs_quota_us"), *numbers(group / "cpu.cfs_period_us")]
        if len(share) == 2 and min(share) > 0:
            threads = min(threads, -(-share[0] // share[1]))
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a number for each level
    return min(threads, int(given)) if given.isdecimal() and len(given) < 10 and int(given) else threads


def groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the cgroup that this process is in and of those above it, of both versions.

    A container may see only its own part of the tree, and yet have the whole path: what is not there is
    looked for further up.
    """
    tree = root / "sys/fs/cgroup"
    for line in read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts = [tree, tree / "unified"]
        elif controller in controllers.split(","):
            mounts = [tree / controller]
        else:
            continue
        for mount in mounts:
            below = Path(path.lstrip("/"))
            yield from (mount / part for part in (below, *below.parents))


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def numbers(path: Path) -> list[int]:
    """Those of a line, or none: "max" says that there is no limit."""
    words = read(path).split()
    return [int(word) for word in words] if all(word.lstrip("-").isdecimal() for word in words) else []


def fields(path: Path) -> dict[str, int]:
    """Of lines like "MemAvailable:  1024 kB" or "active_file 4096", in bytes."""
    found = {}
    for line in read(path).splitlines():
        name, *words = line.replace(":", " ").split() or [""]
        if words and words[0].isdecimal():
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found
