"""A rack: what a request costs beside its answer, what becomes of it where workers die; and 1,000 simulated.

    python -m tests.benchmarks.cluster rack [--requests N] [--limit SIZE]    four workers on this machine
    python -m tests.benchmarks.cluster messages      what a portion costs, by its bytes
    python -m tests.benchmarks.cluster batch         the small model's answers, the same as here
    python -m tests.benchmarks.cluster simulate      1,000 workers with failures (two minutes)

`rack`: scheduler and workers are processes; a request takes 100 ms and computes nothing. One worker is five
times as slow, one is killed by signal 9 in the middle, one comes late. The small model lies where only the
client sees it. --limit puts each worker into a memory cgroup of its own (this needs root). The simulation has
no processes: it drives the code that gives out portions, and machines are numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil  # dask's

from qwen_ref import children, shipped
from qwen_ref.cli.options import bytes_of
from qwen_ref.cluster import model_files
from qwen_ref.cluster.model_files import Found
from qwen_ref.cluster.portions import Portions
from qwen_ref.cluster.scheduler import Cluster, Where, connected
from qwen_ref.cluster.worker import Job
from tests.benchmarks.limits import limited, peak
from tests.fixtures.rack import Machine, Rack, Told, pretend

ROOT = Path(__file__).parents[2]
SECONDS = 0.1  # of a request
SLOW = 5
DASK = [sys.executable, "-m"]


class Processes:
    """A scheduler and its workers, which end with the block."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path, limit: int | None = None):
        self.stack, self.folder, self.limit = stack, folder, limit
        self.groups = dict[str, Path]()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        self.scheduler = self._start(
            "scheduler", ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
        )

    def _start(self, name: str, command: list[str], **variables: str) -> subprocess.Popen[Any]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "NAME": name} | variables
        environment["XDG_CACHE_HOME"] = str(self.folder / name)
        log = self.stack.enter_context(open(self.folder / f"{name}.log", "wb"))  # noqa: SIM115
        command = [*DASK, *command, "--no-dashboard"]
        if self.limit is not None and name != "scheduler":
            group = self.groups[name] = self.stack.enter_context(limited(self.limit, f"-{name}"))
            command = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *command]
        return self.stack.enter_context(
            children.started(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        )

    def worker(self, name: str, **variables: str) -> subprocess.Popen[Any]:
        """Without dask's nanny, which would start it again."""
        options = ["--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--name", name]
        command = ["distributed.cli.dask_worker", self.address, *options]
        return self._start(name, [*command, "--local-directory", str(self.folder)], **variables)


@contextlib.contextmanager
def processes(limit: int | None = None) -> Iterator[Processes]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        yield Processes(stack, Path(folder), limit)


@contextlib.contextmanager
def unseen() -> Iterator[str]:
    """The small model's path, which is that of no file in other processes."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for path in shipped.MODEL, shipped.MODEL.with_name("mmproj-tiny-Q8_0.gguf"):
            Path(folder, path.name).write_bytes(path.read_bytes())
        yield f"/proc/self/cwd/{shipped.MODEL.name}"


class Outcome(NamedTuple):
    """Of a rack: how often each item had a result, who had how many, seconds beside the work
    of a request, how often a model was sent to each, seconds in all, and the most that each may have held."""

    results: Counter[int]
    by: Counter[str]
    beside: float
    sent: Counter[str]
    seconds: float
    peaks: dict[str, int]


async def gathered(cluster: Cluster, count: int, after: dict[int, Any]) -> list[Told]:
    """`after` so many results something is done."""
    found = list[Told]()
    items = ((number, b"") for number in range(count))
    async for number, told in cluster.results(items, count):
        assert told.item == number
        found.append(told)
        for when in [when for when in after if when <= len(found)]:
            after.pop(when)()
    return found


def rack(count: int, limit: int | None = None) -> Outcome:
    with processes(limit) as all_, unseen() as path:
        job = Job(pretend, SECONDS, (model_files.files_of(path),))
        doomed = all_.worker("doomed")
        all_.worker("slow", TIMES=str(SLOW))
        all_.worker("plain")
        sent, real = Counter[str](), Cluster._send

        async def counted(self: Cluster, name: str, model: Any) -> Found:
            sent[name] += 1
            return await real(self, name, model)

        Cluster._send = counted  # type: ignore[method-assign]

        async def run() -> list[Told]:
            async with connected(Where(all_.address), job) as cluster:
                kill = lambda: doomed.send_signal(signal.SIGKILL)  # noqa: E731
                return await gathered(
                    cluster, count, {count // 4: kill, count // 3: lambda: all_.worker("late")}
                )

        began = time.perf_counter()
        try:
            found = asyncio.run(run())
        finally:
            Cluster._send = real  # type: ignore[method-assign]
        seconds = time.perf_counter() - began
        return Outcome(
            Counter(told.item for told in found),
            Counter(told.worker for told in found),
            beside(found),
            sent,
            seconds,
            {name: peak(group) for name, group in all_.groups.items()},
        )


def beside(found: list[Told]) -> float:
    """Seconds of a worker's time beside its requests, a request, from the first portion's begin to the last's
    end; of those that worked to the end."""
    portions = defaultdict[str, Counter[tuple[float, float]]](Counter)
    for told in found:
        portions[told.worker][told.portion] += 1
    spent, requests = 0.0, 0
    for name, some in portions.items():
        if name == "doomed":
            continue
        each = SECONDS * (SLOW if name == "slow" else 1)
        first, last = min(begin for begin, _ in some), max(end for _, end in some)
        spent += last - first - each * sum(some.values())
        requests += sum(some.values())
    return spent / requests


def show_rack(count: int, limit: int | None) -> None:
    found = rack(count, limit)
    print(f"{len(found.results):,} of {count:,} requests have a result, {set(found.results.values())} each")
    print(f"by worker: {dict(found.by)}; {found.seconds:.1f} s in all, with the start of the workers")
    print(f"beside a request of {SECONDS * 1000:.0f} ms: {found.beside * 1000:.2f} ms of a worker's time")
    print(f"the model was sent {sorted(found.sent.values())} times to each of {len(found.sent)} workers")
    for name, most in found.peaks.items():
        print(f"{name} held {most / 2**20:.0f} MiB at most")


def messages() -> None:
    """One item a portion, of so many bytes, and answered at once: what each costs client and scheduler."""
    with processes() as all_:
        for name in "abcd":
            all_.worker(name)
        print("| bytes of an item | portions/s of four workers | client's processor, ms | scheduler's, ms |")
        print("|---:|---:|---:|---:|")

        def processor() -> tuple[float, float]:
            scheduler = psutil.Process(all_.scheduler.pid).cpu_times()
            return time.process_time(), scheduler.user + scheduler.system

        async def run() -> None:
            async with connected(Where(all_.address), Job(pretend, 0.0)) as cluster:
                async for _ in cluster.results(((n, b"") for n in range(400)), 400, alone=True):
                    pass  # all are ready
                for size, count in (100, 2000), (200_000, 400), (2_000_000, 60):
                    began, before = time.perf_counter(), processor()
                    items = ((n, os.urandom(size)) for n in range(count))
                    async for _ in cluster.results(items, count, alone=True):
                        pass
                    took = time.perf_counter() - began
                    client, scheduler = (
                        1000 * (now - then) / count for now, then in zip(processor(), before, strict=True)
                    )
                    print(f"| {size:,} | {count / took:.0f} | {client:.2f} | {scheduler:.2f} |", flush=True)

        asyncio.run(run())


def batch() -> None:
    """200 requests to the small model, answered here and by three workers: the same."""
    with tempfile.TemporaryDirectory() as folder, processes() as all_:
        source = Path(folder, "in.jsonl")
        with open(source, "w") as file:
            for n in range(200):
                body = {
                    "model": "m",
                    "messages": [{"role": "user", "content": f"What is {n % 90} + {n // 90}?"}],
                }
                body |= {"temperature": 0, "presence_penalty": 0, "max_tokens": 40}
                line = {"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": body}
                file.write(json.dumps(line) + "\n")
        for name in "abc":
            all_.worker(name)
        found = []
        for more in [], ["--scheduler", all_.address, "--threads", "1"]:
            out = Path(folder, f"out-{len(more)}.jsonl")
            command = [
                sys.executable,
                "-m",
                "qwen_ref",
                "batch",
                str(source),
                "-o",
                str(out),
                "--name",
                "m",
                *more,
            ]
            began = time.perf_counter()
            subprocess.run(command, check=True, cwd=ROOT)
            print(f"{' '.join(more) or 'here'}: {time.perf_counter() - began:.1f} s")
            results = map(json.loads, out.read_text().splitlines())
            found.append({r["custom_id"]: r["response"]["body"]["choices"][0]["message"] for r in results})
        assert len(found[0]) == 200
        print(f"{sum(found[0][n] != found[1].get(n) for n in found[0])} of 200 differ")


def simulate() -> None:
    """100,000 pictures on 1,000 small machines, with and without failures, beside servers, and with pictures
    that end a machine."""
    count = 100_000

    draws = random.Random(0)

    def dying(hours: float) -> list[Machine]:
        """On the average after so long, at any time alike; they are back after two minutes."""
        return [Machine(60.0, lives=lambda: draws.expovariate(1 / hours / 3600), away=120.0)] * 1000

    pis, server = [Machine(60.0, away=120.0)] * 1000, Machine(2.0, 16)
    cases = {
        "1,000 small machines, 60 s a picture": (pis, set[int]()),
        "each dies once a day": (dying(24.0), set()),
        "each dies once an hour": (dying(1.0), set()),
        "20 servers beside them, 2 s a picture": ([*pis, *[server] * 20], set()),
        "10 deadly pictures": (pis, set(range(5, count, count // 10))),
    }
    print(
        "| rack | hours | of what is possible | portions | computed twice | deaths | lost | s of the client |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, (some, deadly) in cases.items():
        began = time.process_time()
        done = Rack(Portions((bytes(100) for _ in range(count)), count), 0.02, deadly.__contains__).run(some)
        cpu = time.process_time() - began
        assert len(done.results) + len(done.lost) == count and set(done.results.values()) == {1}
        ideal = count / sum(1 / machine.seconds for machine in some)
        cells = [name, f"{done.now / 3600:.2f}", f"{100 * ideal / done.now:.1f} %", f"{done.messages:,}"]
        cells += [
            f"{done.computed - len(done.results):,}",
            f"{done.deaths:,}",
            str(len(done.lost)),
            f"{cpu:.0f}",
        ]
        print("|", " | ".join(cells), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["rack", "messages", "batch", "simulate"])
    parser.add_argument("--requests", type=int, default=600, metavar="N", help="of the rack (600)")
    parser.add_argument("--limit", type=bytes_of, metavar="SIZE", help="of each worker's memory")
    args = parser.parse_args()
    if args.what == "rack":
        show_rack(args.requests, args.limit)
    else:
        {"messages": messages, "batch": batch, "simulate": simulate}[args.what]()


if __name__ == "__main__":
    main()
