"""Jobs on a dask cluster: every item has one result, whatever becomes of the workers.

Workers are threads of this process where nothing is to be killed; tests with processes are slow ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import distributed
import numpy as np
import psutil  # dask's
import pytest
from PIL import Image

import qwen_ref
from gguf_io import open_gguf
from qwen_ref.batch import cluster as batch_cluster
from qwen_ref.batch import requests
from qwen_ref.cli import main
from qwen_ref.cluster import model_files, scheduler, worker
from qwen_ref.cluster.carried import carried
from qwen_ref.cluster.model_files import Found
from qwen_ref.cluster.scheduler import Cluster, Lost, Where, connected
from qwen_ref.cluster.worker import Job, Ready
from qwen_ref.config import read_vision_config
from qwen_ref.errors import QwenRefError
from qwen_ref.evaluate import cluster as evaluate_cluster
from qwen_ref.media.media import open_all
from qwen_ref.serve.errors import Problem
from tests.benchmarks.cluster import ROOT, pretend, processes, rack

# Without a network dask says that it finds no address of this machine, and needs none.
pytestmark = pytest.mark.filterwarnings("ignore:Couldn't detect a suitable IP address")
MIND: dict[str, Any] = {}  # what a test tells its workers, and they it


@pytest.fixture(autouse=True)
def mind(monkeypatch: pytest.MonkeyPatch, threads_as_before: None) -> Iterator[dict[str, Any]]:
    """Workers forget their job with the test."""
    MIND.clear()
    MIND["seen"] = Counter()
    monkeypatch.setattr(worker, "_kept", None)
    monkeypatch.setattr(scheduler, "LOOK", 0.05)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # so that it is afterwards what it was
    yield MIND


def squares(models: list[Found], options: Any, share: int) -> Ready:
    """Squares, 1 ms each; `MIND["on"]` is called with the worker's name and each item first."""
    name = distributed.get_worker().name
    if bad := MIND.get("unfit", {}).get(name):
        MIND["refused"].set()
        raise bad
    if "unfit" in MIND:  # workers that are threads are ready when one of them is
        MIND["refused"].wait(10)
    MIND["seen"][f"ready {name}"] += 1

    def answer(items: list[int]) -> list[int]:
        for item in items:
            MIND.get("on", lambda *_: None)(distributed.get_worker().name, item)
            MIND["seen"][item] += 1
            time.sleep(0.001)
        return [item * item for item in items]

    return Ready(answer, 4)


JOB = Job(squares, None)


async def gathered(cluster: Cluster, items: range, alone: bool = False) -> dict[int, Any]:
    found = dict[int, Any]()
    async for number, result in cluster.results(iter(items), len(items), alone):
        assert number not in found
        found[number] = result
    return found


def on(workers: int, what: Any, job: Job = JOB, **options: Any) -> Any:
    """`what(dask's cluster, ours)` with so many workers, threads named 0, 1 …"""

    async def run() -> Any:
        async with (
            distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=False,
                asynchronous=True,
                dashboard_address=None,
                scheduler_kwargs=scheduler.NO_PAGE,
                **options,
            ) as dask,
            connected(Where(dask.scheduler_address), job, MIND.setdefault("told", []).append) as ours,
        ):
            return await what(dask, ours)

    return asyncio.run(run())


def test_a_worker_goes_and_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    """Of 400 items one worker holds some until it is closed, and another one comes in between."""
    held, free = threading.Event(), threading.Event()

    def hold(name: Any, item: int) -> None:
        if name == 0 and not held.is_set():
            held.set()
            free.wait(10)

    MIND["on"] = hold

    async def what(dask: Any, ours: Cluster) -> dict[int, Any]:
        found = asyncio.ensure_future(gathered(ours, range(400)))
        await asyncio.to_thread(held.wait, 10)
        dask.scale(3)
        await dask.scheduler.remove_worker(dask.workers[0].address, stimulus_id="test", close=False)
        result = await found
        free.set()
        return result

    assert on(2, what) == {n: n * n for n in range(400)}


def test_a_worker_that_was_away_gets_ready_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the same name there may be another program now, and the model may be gone."""
    away, free, asked = threading.Event(), threading.Event(), Counter[str]()
    real_on, real_workers = Cluster._on, Cluster._workers

    def hold(name: Any, item: int) -> None:
        if item == 7:
            away.set()
            free.wait(10)

    async def counted(self: Cluster, where: str, function: Any, *arguments: Any) -> Any:
        asked[function.__name__] += 1
        return await real_on(self, where, function, *arguments)

    async def looked(self: Cluster, wait: float) -> dict[str, int]:
        found = await real_workers(self, wait)
        if away.is_set() and not free.is_set():
            free.set()
            return {}
        return found

    MIND["on"] = hold
    monkeypatch.setattr(Cluster, "_on", counted)
    monkeypatch.setattr(Cluster, "_workers", looked)

    async def what(dask: Any, ours: Cluster) -> dict[int, Any]:
        return await gathered(ours, range(20))

    assert on(1, what) == {n: n * n for n in range(20)}
    assert asked["versions"] == asked["ready"] == 2


def test_results_come_twice_over_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a batch needs them: what failed is tried again, each by itself, and nobody gets ready again."""
    real, asked = Cluster._on, Counter[str]()

    async def counted(self: Cluster, where: str, function: Any, *arguments: Any) -> Any:
        asked[function.__name__] += 1
        return await real(self, where, function, *arguments)

    monkeypatch.setattr(Cluster, "_on", counted)

    async def what(dask: Any, ours: Cluster) -> list[dict[int, Any]]:
        return [await gathered(ours, range(20)), await gathered(ours, range(3), alone=True)]

    assert on(1, what) == [{n: n * n for n in range(20)}, {0: 0, 1: 1, 2: 4}]
    assert MIND["seen"]["ready 0"] == asked["ready"] == asked["versions"] == 1


def test_a_worker_that_cannot_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    MIND["unfit"], MIND["refused"] = {0: QwenRefError("model.gguf: is too large")}, threading.Event()

    async def what(dask: Any, ours: Cluster) -> dict[int, Any]:
        return await gathered(ours, range(50))

    with pytest.raises(QwenRefError, match=r"^inproc://.*: worker inproc://.* model.gguf: is too large$"):
        on(1, what)
    MIND["unfit"], MIND["refused"] = {0: MemoryError("none left")}, threading.Event()
    caplog.clear()
    assert on(2, what) == {n: n * n for n in range(50)}
    assert "is left out: MemoryError: none left" in caplog.text and caplog.text.count("left out") == 1


def test_a_worker_whose_portion_fails_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """By what is not the item's, and another one computes that. A QwenRefError is, and ends the job."""

    def fail(name: Any, item: int) -> None:
        if name == 0:
            raise MemoryError("of this one")

    MIND["on"] = fail

    async def what(dask: Any, ours: Cluster) -> dict[int, Any]:
        return await gathered(ours, range(50))

    assert on(2, what) == {n: n * n for n in range(50)}
    assert "is left out: MemoryError: of this one" in caplog.text

    def refuse(name: Any, item: int) -> None:
        if item == 7:
            raise QwenRefError("line 7: makes no sense")

    MIND["on"] = refuse
    with pytest.raises(QwenRefError, match=r"^line 7: makes no sense$"):
        on(2, what)


@pytest.mark.parametrize("name", ["qwen_ref", "Python", "numba"])
def test_another_version_is_refused_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = worker.versions() | {name: "0.0.7"}
    monkeypatch.setattr(scheduler.worker, "versions", functools.partial(dict, worker.versions()))
    real = Cluster._on

    async def other(self: Cluster, where: str, function: Any, *arguments: Any) -> Any:
        return ours if function is worker.versions else await real(self, where, function, *arguments)

    monkeypatch.setattr(Cluster, "_on", other)

    async def what(dask: Any, cluster: Cluster) -> Any:
        return await gathered(cluster, range(2))

    with pytest.raises(QwenRefError, match=f"has {name} 0.0.7, and here is "):
        on(1, what)


def test_nobody_is_there(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A line of progress, and a sentence; or somebody comes."""
    monkeypatch.setattr(scheduler, "WAIT", 0.3)

    async def what(dask: Any, ours: Cluster) -> Any:
        return await gathered(ours, range(5))

    with pytest.raises(QwenRefError, match=r"^inproc://.*: no worker was there for 0 s"):
        on(0, what)
    assert any("no worker is there; waiting" in line for line in MIND["told"])
    assert "no worker is there; waiting up to 0 s for one" in caplog.text
    monkeypatch.setattr(scheduler, "WAIT", 60)

    async def late(dask: Any, ours: Cluster) -> Any:
        found = asyncio.ensure_future(gathered(ours, range(5)))
        await asyncio.sleep(0.15)
        dask.scale(1)
        return await found

    assert len(on(0, late)) == 5


def test_a_machine_whose_workers_end_before_they_are_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """dask's nanny starts them again and again."""
    real = Cluster._on

    async def what(dask: Any, ours: Cluster) -> Any:
        async def die(self: Cluster, name: str, function: Any, *arguments: Any) -> Any:
            if function is worker.ready:
                await dask.scheduler.remove_worker(name, stimulus_id="test", close=False)
                dask.scale(len(dask.workers) + 1)
                await asyncio.sleep(60)
            return await real(self, name, function, *arguments)

        monkeypatch.setattr(Cluster, "_on", die)
        return await asyncio.wait_for(gathered(ours, range(5)), 30)

    monkeypatch.setattr(scheduler, "machine_of", lambda name: "one")
    with pytest.raises(QwenRefError, match=r"worker inproc://.* ended 3 times before it was ready"):
        on(1, what)


def test_a_worker_with_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two portions at a time would be two of one model."""

    async def what(dask: Any, ours: Cluster) -> Any:
        async def two(self: Cluster, wait: float) -> dict[str, int]:
            return dict.fromkeys(await real(self, wait), 2)

        monkeypatch.setattr(Cluster, "_workers", two)
        return await gathered(ours, range(5))

    real = Cluster._workers
    with pytest.raises(QwenRefError, match="has 2 threads of dask's; dask worker --nthreads 1 starts one"):
        on(1, what)


def test_an_item_that_no_worker_lives_through() -> None:
    """It is named with the workers that ended, and all others have their results."""
    loop: Any = None

    async def what(dask: Any, ours: Cluster) -> dict[int, Any]:
        names = {w.name: w.address for w in dask.workers.values()}

        def die(name: Any, item: int) -> None:
            if item == 13:
                gone = dask.scheduler.remove_worker(names[name], stimulus_id="test", close=False)
                asyncio.run_coroutine_threadsafe(gone, loop).result(5)
                time.sleep(0.5)

        nonlocal loop
        loop = asyncio.get_running_loop()
        MIND["on"] = die
        return await gathered(ours, range(40))

    found = on(5, what)
    assert isinstance(found[13], Lost) and len(set(found[13].workers)) == 3
    assert str(found[13]).startswith("3 workers ended while they computed it: inproc://")
    assert {n: r for n, r in found.items() if n != 13} == {n: n * n for n in range(40) if n != 13}


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """--local-cluster starts no processes."""
    monkeypatch.setattr(
        distributed, "LocalCluster", functools.partial(distributed.LocalCluster, processes=False)
    )


def test_for_code_that_is_not_asynchronous(threads: None) -> None:
    found = dict(scheduler.results(Where(processes=1), JOB, iter(range(9)), 9, str))
    assert found == {n: n * n for n in range(9)}


# ---- the model


@pytest.fixture
def model(fixtures: Path, tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    for name in "tiny.gguf", "mmproj-tiny.gguf":
        shutil.copy(fixtures / name, tmp_path / "here")
    return tmp_path / "here/tiny.gguf"


@pytest.mark.parametrize("kind", ["file", "split"])
def test_what_a_model_consists_of(kind: str, fixtures: Path, model: Path) -> None:
    if kind == "split":
        for number in 1, 2:
            shutil.copy(fixtures / f"split-0000{number}-of-00002.gguf", model.parent)
        files = model_files.files_of(model.with_name("split-00001-of-00002.gguf"))
        names = ["split-00001-of-00002.gguf", "split-00002-of-00002.gguf", "vision/mmproj-tiny.gguf"]
    else:
        files = model_files.files_of(model)
        names = ["tiny.gguf", "vision/mmproj-tiny.gguf"]
    assert [part.place for part in files.parts] == names
    assert files.nbytes == sum(part.nbytes for part in files.parts)
    assert files.vision == str(model.with_name("mmproj-tiny.gguf"))
    assert model_files.find(files) == Found(files.path, files.vision)


def test_a_model_that_lies_there_is_used_if_it_is_the_same(model: Path, tmp_path: Path) -> None:
    files = model_files.files_of(model)
    data = bytearray(model.read_bytes())
    data[-1] ^= 1  # a weight
    model.write_bytes(data)
    assert model_files.find(files) is None
    data[-1] ^= 1
    model.write_bytes(data)
    assert model_files.find(files)
    model.with_name("mmproj-tiny.gguf").unlink()
    assert model_files.find(files) is None


def loads(models: list[Found], options: Any, share: int) -> Ready:
    """A job that says where its model is, and how many tensors both files have."""
    [found] = models
    assert found.vision
    told = found.path, found.vision, len(open_gguf(found.path).tensors), len(open_gguf(found.vision).tensors)
    return Ready(lambda items: [told for _ in items])


def test_a_model_is_sent_once_to_a_machine(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces, and kept under its hash for the next job; what came otherwise than it went is deleted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(model_files, "PIECE", 1 << 17)
    files = model_files.files_of(model)
    job, calls, damage = Job(loads, None, (files,)), Counter[str](), [True]
    real, of_other_machines = Cluster._on, model_files.as_given

    async def counted(self: Cluster, where: str, function: Any, *arguments: Any) -> Any:
        calls[function.__name__] += 1
        if function is model_files.receive and damage[0]:
            arguments = (*arguments[:3], bytes(len(arguments[3])))
        return await real(self, where, function, *arguments)

    monkeypatch.setattr(Cluster, "_on", counted)
    monkeypatch.setattr(model_files, "as_given", lambda wanted: None)

    async def what(dask: Any, ours: Cluster) -> set[Any]:
        return {*(await gathered(ours, range(30))).values()}

    kept = tmp_path / "cache/qwen_ref/models"
    with pytest.raises(QwenRefError, match=r"tiny.gguf: what came has another hash, and is deleted"):
        on(1, what, job)
    assert [*kept.iterdir()] == []
    damage[0] = False
    calls.clear()
    [told] = on(3, what, job)
    assert told == (
        str(kept / files.digest / "tiny.gguf"),
        str(kept / files.digest / "vision/mmproj-tiny.gguf"),
        *(len(open_gguf(path).tensors) for path in (model, model.with_name("mmproj-tiny.gguf"))),
    )
    assert calls["begin"] == calls["finish"] == 1
    assert calls["receive"] == sum(-(-part.nbytes // (1 << 17)) for part in files.parts)
    assert "sending the model to inproc://" in str(MIND["told"])
    calls.clear()
    assert on(1, what, job) == {told} and not calls["receive"]
    Path(told[0]).write_bytes(b"GGUF, once")  # as a card may lose it
    assert on(1, what, job) == {told} and calls["receive"]
    assert Path(told[0]).read_bytes() == model.read_bytes()
    assert of_other_machines(files) == Found(files.path, files.vision)


def test_what_came_in_part_is_deleted_later(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = model_files.files_of(model)
    first = Path(model_files.begin(files))
    second = Path(model_files.begin(files))
    assert first.exists() and second.exists() and first != second
    for folder in first, second:
        model_files.receive(str(folder), "vision/a", 0, b"")  # an empty file is one, too
        assert (folder / "vision/a").is_file()
        for path in folder, folder / "vision", folder / "vision/a":
            os.utime(path, (0, 0) if (folder, path.name) != (second, "a") else None)
    model_files.begin(files)
    assert not first.exists() and second.exists()  # which somebody writes
    (tmp_path / "empty").write_bytes(b"")
    assert list(model_files.pieces(str(tmp_path / "empty"))) == [(0, b"")]
    full = shutil._ntuple_diskusage(10**9, 10**9, 10)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(QwenRefError, match="the disk has 0 MB free"):
        model_files.begin(files)


# ---- a worker


def times(models: list[Found], factor: int, share: int) -> Ready:
    MIND["share"] = share
    return Ready(
        lambda items: [factor * item for item in items],
        3,
        lambda: MIND.setdefault("closed", []).append(factor),
    )


def unfit(models: list[Found], options: None, share: int) -> Ready:
    raise QwenRefError("no memory")


def test_a_worker_has_one_job_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one makes it close what it had; and each job is told with how many it shares the machine."""
    monkeypatch.setattr(worker, "use_cores", lambda share: None)
    jobs = [pickle.dumps(Job(times, factor, share=factor)) for factor in (2, 3)]
    items = [pickle.dumps(7)]
    assert worker.ready(jobs[0], []) == 3
    assert [worker.answer(job, [], items) for job in (jobs[0], jobs[1], jobs[0])] == [[14], [21], [14]]
    assert MIND["closed"] == [2, 3] and MIND["share"] == 2
    with pytest.raises(worker.NotReady, match="no memory"):  # of this worker, and no item's fault
        worker.answer(pickle.dumps(Job(unfit, None)), [], items)


def test_cores_and_memory_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """What dask's nanny says of threads does not count, but what anybody else says does."""
    said = list[int]()
    monkeypatch.setattr(worker, "use_threads", said.append)
    monkeypatch.setattr("qwen_ref.engine.backend.most_threads", lambda: 8)
    monkeypatch.setattr("qwen_ref.machine.cores", lambda: 8)
    monkeypatch.setattr("qwen_ref.machine.groups", lambda root, controller: iter(()))
    for told, share, expected in ("1", 1, 8), ("1", 3, 2), ("1", 9, 1), ("4", 2, 2):
        monkeypatch.setenv("OMP_NUM_THREADS", told)
        worker.use_cores(share)
        assert said[-1] == expected and os.environ["OMP_NUM_THREADS"] == str(expected)
    monkeypatch.setattr(worker, "available_memory", lambda: 1200)
    found, given = Found("m", "v"), {"memory_budget": None, "threads": None, "context": 7}
    alone = {"memory_budget": 600, "threads": None, "context": 7, "mmproj": "v"}
    assert worker.on_worker(given, found, 1) == alone
    assert worker.on_worker(given, found, 3) == alone | {"memory_budget": 200, "threads": 2}
    chosen = {"memory_budget": 5, "threads": 1}
    assert worker.on_worker(chosen, found, 3) == chosen | {"mmproj": "v"}


def test_messages_carry_their_files(tmp_path: Path) -> None:
    """Two of one name, a file:// URL, frames; what is no file stays, and so do the messages given."""
    for place in "a", "b":
        (tmp_path / place).mkdir()
        (tmp_path / place / "x y.png").write_bytes(place.encode())
    one, two = tmp_path / "a/x y.png", tmp_path / "b/x y.png"
    content: list[Any] = [
        {"type": "image", "image": str(one)},
        {"type": "image_url", "image_url": {"url": two.as_uri()}},
        {"type": "image", "path": str(two)},
        {"type": "video", "video": [str(one), str(two)]},
        {"type": "image", "image": "data:image/png;base64,AAAA"},
        {"type": "text", "text": str(one)},
    ]
    messages = [{"role": "user", "content": content}]
    before = json.dumps(messages)
    given = pickle.loads(pickle.dumps(carried(messages)))
    assert json.dumps(messages) == before and carried("a text") == "a text"
    parts = given[0]["content"]
    files = [parts[0]["image"], parts[1]["image_url"]["url"], parts[2]["path"], *parts[3]["video"]]
    assert [(file, file.path) for file in files] == [
        (b"a" if path is one else b"b", str(path)) for path in (one, two, two, one, two)
    ]
    assert parts[4:] == content[4:]
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(QwenRefError, match=r"^message 1: part 2: .*/b/x y.png: cannot be read"):
        carried(messages)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "{}"}},
        {"type": "image_url", "image_url": "{}"},
        {"type": "image", "url": "{}"},
        {"type": "image", "image": {"url": "{}.gone"}},
        {"type": "video", "video_url": ["{}.gone"]},
        {"type": "image", "image": "A" * 200_000},
        {"type": "image", "path": "A" * 200_000},
        {"type": "image", "image": "file://there/x.png"},
    ],
)
def test_what_one_machine_refuses_is_refused(part: dict[str, Any], fixtures: Path, tmp_path: Path) -> None:
    """In the same words: no file stands where one machine reads none, and base64 is no path."""
    Image.new("RGB", (64, 64)).save(tmp_path / "x.png")
    part = json.loads(json.dumps(part).replace("{}", str(tmp_path / "x.png")))
    vision = read_vision_config(open_gguf(fixtures / "mmproj-tiny.gguf"))

    def refusal_of(sent: Callable[[Any], Any]) -> str:
        with pytest.raises(QwenRefError) as told:
            open_all(sent([{"role": "user", "content": [part]}]), None, lambda: vision)
        return str(told.value)

    told = refusal_of(carried)
    assert told == refusal_of(lambda messages: messages) and len(told) < 300


def test_a_deadly_request_is_not_tried_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[int]()

    class Deadly:
        async def results(self, items: Iterator[Any], total: int, alone: bool) -> Any:
            for number, _ in enumerate(items):
                seen.append(number)
                yield number, Lost(["a", "b", "c"])

    @contextlib.asynccontextmanager
    async def connect(*arguments: Any) -> Any:
        yield Deadly()

    monkeypatch.setattr(batch_cluster, "connected", connect)

    async def run() -> list[Any]:
        asked, found = requests.made("x", requests.CHAT, {"messages": []}), []
        async with batch_cluster.on_workers(Where("a"), JOB, None, print) as answers:
            for alone in False, True:
                found += [result async for result in answers(iter([asked]), 1, alone)]
        return found

    found = asyncio.run(run())
    assert seen == [0] and found[0] is found[1] and found[0].problem.status == 503
    assert found[0].problem.message == "3 workers ended while they computed it: a, b, c"


def test_portions_of_a_batch(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are in the requests' order, whichever was the first; another fingerprint is refused; and what a
    request says is not changed by what is sent."""
    monkeypatch.setattr(batch_cluster, "default_parallel", lambda model, share: 10 - share)
    load = {"memory_budget": None, "threads": None, "backend": "numpy"}
    found = [Found(str(model), None)]
    ours = qwen_ref.load(model, backend="numpy").fingerprint
    ready = batch_cluster.prepare(found, batch_cluster.Options(ours, ["m"], load, {}, 0, 2), 1)
    on = {str(token): -100 for token in qwen_ref.load(model).tokenizer.eos_ids}
    body = {"model": "m", "prompt": "a", "logit_bias": on}
    some = [requests.made(str(n), "/v1/completions", body | {"max_tokens": n}) for n in (20, 1, 10)]
    assert [result["custom_id"] for result in ready.answer(some)] == ["20", "1", "10"]
    ready.close()
    of_three = batch_cluster.prepare(found, batch_cluster.Options(ours, ["m"], load, {}, 0, None), 3)
    assert (ready.together, of_three.together) == (2, 7)
    of_three.close()
    with pytest.raises(QwenRefError, match="would answer otherwise than here"):
        batch_cluster.prepare(found, batch_cluster.Options("fp_0", ["m"], load, {}, 0, 2), 1)
    parts = [{"type": "image_url", "image_url": {"url": model.as_uri()}}]
    asked = requests.made("a", requests.CHAT, {"messages": [{"role": "user", "content": parts}]})
    before = json.dumps(asked.body)
    sent = batch_cluster.with_files(asked, str(model.parent))
    [part] = sent.body["messages"][0]["content"]
    assert part["image_url"]["url"] == model.read_bytes() and json.dumps(asked.body) == before
    problem = pickle.loads(pickle.dumps(Problem(429, "told", "n", 7)))
    assert (problem.status, problem.message, problem.param, problem.retry) == (429, "told", "n", 7)


def test_a_worker_computes_as_many_answers_at_once_as_its_memory_has_room_for() -> None:
    load = {"memory_budget": None, "threads": None, "memory_limit": 200 << 20}
    given = evaluate_cluster.Given(load, evaluate_cluster.Options(parallel=8, fewer=True))
    ready = evaluate_cluster.prepare([Found(str(qwen_ref.shipped.MODEL), None)], given, 1)
    assert ready.together < 8


# ---- commands


@pytest.fixture
def run(
    threads: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Any:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: Any) -> tuple[int, str, str]:
        status = main([*map(str, arguments)])
        said = capfd.readouterr()
        return status, said.out, said.err

    return call


ON = ("--local-cluster", "1")


def test_batch_answers_the_same_on_a_cluster(run: Any, tmp_path: Path) -> None:
    """Pictures are sent with the requests that may name them; what is wrong with a line is found here."""
    media = Path(__file__).parents[2] / "examples/media"
    (tmp_path / "shown").mkdir()
    shutil.copy(media / "word.png", tmp_path / "shown/a b.png")
    shutil.copy(media / "word.png", tmp_path / "hidden.png")
    deep = 700 * "[" + 700 * "]"  # it can be read, and by some versions of Python not be sent
    asked = {
        "text": "What is 2 + 3?",
        "shown": (tmp_path / "shown/a b.png").as_uri(),
        "hidden": (tmp_path / "hidden.png").as_uri(),
        "gone": (tmp_path / "shown/gone.png").as_uri(),
        "broken": (tmp_path / "shown/broken.png").as_uri(),
        "latin": (tmp_path / "shown").as_uri() + "/%FF.png",
        "latin broken": (tmp_path / "shown").as_uri() + "/%FE.png",
        "path": "shown/a b.png",
    }
    for name in "broken.png", "\udcfe.png":
        (tmp_path / "shown" / name).write_bytes(b"no picture")
    shutil.copy(tmp_path / "shown/a b.png", tmp_path / "shown/\udcff.png")  # a name that is not UTF-8
    lines = []
    for name, said in asked.items():
        content: Any = said
        if name != "text":
            content = [{"type": "image_url", "image_url": {"url": said}}, {"type": "text", "text": "What?"}]
        body = {"model": "m", "messages": [{"role": "user", "content": content}], "max_tokens": 8}
        body |= {"temperature": 0, "presence_penalty": 0}
        line = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
        lines.append(json.dumps(line))
    lines.append(f'{{"custom_id": "deep", "url": "/v1/completions", "body": {{"a": {deep}}}}}')
    (tmp_path / "in.jsonl").write_text("\n".join([*lines, "no JSON"]))
    found = []
    for out, more in ("here.jsonl", ()), ("there.jsonl", ON):
        options = ["--name", "m", "--allowed-local-media-path", "shown", *more]
        status, _, told = run("batch", "in.jsonl", "-o", out, *options)
        assert status == 0 and "10 requests: 3 answered, 7 errors" in told
        results = map(json.loads, (tmp_path / out).read_text().splitlines())
        found.append({result["custom_id"]: result for result in results})
    here, there = found
    assert {*here} == {*there} == {*asked, "deep", None}
    for name in "text", "shown", "latin":
        bodies = [results[name]["response"]["body"] for results in found]
        assert len({json.dumps(body["choices"]) for body in bodies}) == 1
        assert len({body["system_fingerprint"] for body in bodies}) == 1
    for refused in "hidden", "gone", "broken", "latin broken", "path", None:
        assert here[refused] == there[refused]
    told = f"message 1: part 1: {tmp_path}/shown/broken.png: is not an image"
    assert there["broken"]["error"]["message"].startswith(told)
    assert "10 had a result, 0 answered" in run("batch", "in.jsonl", "-o", "here.jsonl", *options)[2]


def test_evaluate_answers_the_same_on_a_cluster(run: Any, tmp_path: Path) -> None:
    task = Path(__file__).parents[2] / "examples/tasks/small.jsonl"
    lines = {line for line in task.read_text().splitlines() if '"boxes-' in line or "choices" in line}
    for name in task.parent.joinpath("pictures").glob("boxes-*"):
        shutil.copy(name, tmp_path)
    some = sorted(lines)[:4] + [line for line in sorted(lines) if "boxes-" in line][:2]
    (tmp_path / "task.jsonl").write_text("\n".join(dict.fromkeys(some)).replace("pictures/", ""))
    command = ["evaluate", "task.jsonl", "--json", "-n", 40, "--output"]
    reports = [run(*command, *more) for more in (["here.jsonl"], ["there.jsonl", *ON])]
    assert reports[0][0] == 0 and reports[0][:2] == reports[1][:2]
    here, there = (sorted((tmp_path / f"{p}.jsonl").read_text().splitlines()) for p in ("here", "there"))
    assert here == there and len(here) == len(dict.fromkeys(some))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    for sample, more, sentence in (
        ({"input": ""}, ["--raw"], "is empty"),
        ({"input": "a", "images": ["bad.png"]}, [], "message 1: part 1: bad.png: is not an image, or a"),
    ):
        (tmp_path / "bad.jsonl").write_text(json.dumps(sample | {"target": "a"}))
        told = [run("evaluate", "bad.jsonl", *more, *on)[2].splitlines()[-1] for on in ((), ON)]
        assert told[0] == told[1] and told[0].startswith(f"qwen_ref: bad.jsonl: line 1: input: {sentence}")


def test_perplexity_is_the_same_on_a_cluster(run: Any, tmp_path: Path, model: Path) -> None:
    for name, count in ("a.txt", 40), ("b.txt", 60):
        (tmp_path / name).write_text("one two three four " * count)
    options = ["--model", model, "--text", "a.txt", "b.txt", "--context", "32", "--backend", "numpy"]
    options += ["--json"]
    types = ["--cache-type-k", "q4_0", "--cache-type-v", "q8_0"]  # which the base has not
    for base in [], ["--base", model, *types]:
        found = [run("perplexity", *options, *base, *more) for more in ((), ON)]
        assert found[0][0] == 0 and found[0][:2] == found[1][:2]
    assert json.loads(found[0][1])["kld"][0] > 0 and len(json.loads(found[0][1])["texts"]) == 2


def test_goldens_are_the_same_on_a_cluster(run: Any, tmp_path: Path, model: Path) -> None:
    image = {"type": "image", "image": "word.png"}
    shutil.copy(Path(__file__).parents[2] / "examples/media/word.png", tmp_path)
    asked = [{"role": "user", "content": [image, {"type": "text", "text": "What?"}]}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, [{"prompt": "a"}, {"messages": asked}])))
    options = ["--model", model, "--prompts", "p.jsonl", "--generate", "1", "--rows", "1"]
    for out, more in ("here", ()), ("there", ON):
        assert run("golden", "record", *options, "--out", out, *more)[0] == 0
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == ["1.safetensors", "2.safetensors"]
    for name in "1.safetensors", "2.safetensors":
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    (tmp_path / "word.png").unlink()
    status, _, told = run("golden", "record", *options, "--out", "there", *ON)
    assert status == 2 and "p.jsonl: line 2: " in told and "word.png: cannot be read" in told


def test_where_nothing_is_computed_no_model_stays(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_of(tmp_path, 1)
    loaded, real = list[Any](), qwen_ref.engine.load

    def load(*path: Any, **options: Any) -> Any:
        loaded.append(weakref.ref(model := real(*path, **options)))
        return model

    def begun(*about: Any) -> None:
        loaded.append(loaded.pop()())

    monkeypatch.setattr("qwen_ref.engine.load", load)
    monkeypatch.setattr("qwen_ref.cli.batch.answer_on", begun)
    gc.disable()
    try:
        run("batch", "in.jsonl", "-o", "out.jsonl", "--name", "m", *ON)
    finally:
        gc.enable()
    assert loaded == [None]


@pytest.mark.parametrize("command", ["evaluate", "perplexity", "golden"])
def test_what_fails_here_ends_the_cluster(
    command: str, run: Any, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, although what failed is still known: Python's own end waits for dask's for ever."""
    (tmp_path / "text").write_text("one two three four " * 40)
    (tmp_path / "prompts").write_text('{"prompt": "a"}')
    (tmp_path / "task").write_text('{"input": "a", "target": "b"}')
    asked, of_result = {
        "evaluate": (["task", model, "-n", 2, "--backend", "numpy"], "line_of"),
        "perplexity": (["--model", model, "-f", "text", "-c", 16, "--backend", "numpy"], "np"),
        "golden": (["record", "--model", model, "--prompts", "prompts", "--out", "out"], "write"),
    }[command]

    def fail(*about: Any, **more: Any) -> None:
        raise ZeroDivisionError

    what = SimpleNamespace(**vars(np) | {"errstate": fail}) if of_result == "np" else fail
    monkeypatch.setattr(f"qwen_ref.cli.{command}.{of_result}", what)
    made, local_cluster = list[Any](), distributed.LocalCluster
    monkeypatch.setattr(
        distributed, "LocalCluster", lambda **given: made.append(local_cluster(**given)) or made[-1]
    )
    out = ["--output", "lines"] if command == "evaluate" else []
    with pytest.raises(ZeroDivisionError) as failed:
        run(command, *asked, *out, *ON)
    assert [cluster.status.name for cluster in made] == ["closed"] and failed.value


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["batch", "x", "-o", "y", "--local-cluster", "0"], "--local-cluster: 0 is not in 1 to 1024"),
        (
            ["batch", "x", "-o", "y", *ON, "--scheduler", "tcp://a:1"],
            "--scheduler and --local-cluster: give one of both",
        ),
        (
            ["batch", "x", "-o", "y", "--scheduler", "a:1"],
            "--scheduler: 'a:1' is no address like tcp://host:8786",
        ),
        (["batch", "x", "-o", "y", *ON, "--cache", "c"], "--cache: --local-cluster computes elsewhere"),
        (
            ["perplexity", "--text", "x", "--scheduler", "tcp://a:1", "--save-logits", "l"],
            "--save-logits: --scheduler computes elsewhere",
        ),
        (["perplexity", "--base", "l.bin", *ON], "--base: l.bin are saved logits, which are not sent to"),
        (["evaluate", "t.jsonl", "--local-cluster", "-1"], "--local-cluster: -1 is not in 1 to 1024"),
        (
            ["golden", "record", "--prompt", "a", "--out", "a.safetensors", *ON],
            "--local-cluster 1: is for many goldens; give --prompts",
        ),
    ],
)
def test_options_that_make_no_sense(run: Any, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "x").write_text("")
    (tmp_path / "l.bin").write_bytes(b"_logits_")
    status, _, told = run(*arguments)
    assert status == 2 and told.startswith(f"qwen_ref: {sentence}") and told.count("\n") == 1


def test_threads_of_other_machines_are_not_judged_here(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command comes as far as looking for them."""
    monkeypatch.setattr(scheduler, "CONNECT", 0.1)
    batch_of(tmp_path, 1)
    (tmp_path / "task.jsonl").write_text('{"input": "a", "target": "b"}')
    (tmp_path / "text").write_text("one two three four " * 40)
    for command in ["batch", "in.jsonl", "-o", "o"], ["evaluate", "task.jsonl"], ["perplexity", "-f", "text"]:
        context = ["-c", "16"] if command[0] == "perplexity" else []
        for where, sentence in (
            (["--scheduler", "tcp://127.0.0.1:1"], "tcp://127.0.0.1:1: no dask scheduler answers there"),
            (["--local-cluster", "1"], "threads: 999 is not a whole number in 1 to "),
        ):
            status, _, told = run(*command, *context, "--threads", "999", *where)
            assert status == 2 and sentence in told
    assert not (tmp_path / "o").exists()


def test_an_address_that_is_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """One where nobody listens, and one that says nothing."""
    monkeypatch.setattr(scheduler, "CONNECT", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for port in 1, silent.getsockname()[1]:
            where = Where(f"tcp://127.0.0.1:{port}")
            with pytest.raises(
                QwenRefError, match=f"^--scheduler: {where}: no dask scheduler answers there$"
            ):
                dict(scheduler.results(where, JOB, iter([1]), 1, str))


# ---- processes


@pytest.mark.slow
def test_a_rack_of_processes() -> None:
    """One slow, one killed, one late: each item once, and the model sent once to each."""
    found = rack(200)
    assert found.results == Counter(range(200))
    assert {*found.by} == {"doomed", "slow", "plain", "late"}
    assert [*found.sent.values()] == [1, 1, 1, 1]
    assert found.beside < 0.015  # of 100 ms; on an idle machine less than 5


@pytest.mark.slow
def test_a_worker_with_another_version_or_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each is named; the third one does the work."""
    (tmp_path / "old/numba-0.1.dist-info").mkdir(parents=True)
    (tmp_path / "old/numba-0.1.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: numba\nVersion: 0.1\n"
    )
    (tmp_path / "none/qwen_ref").mkdir(parents=True)
    absent = "raise ModuleNotFoundError(\"No module named 'qwen_ref'\")"  # it is installed for others
    (tmp_path / "none/qwen_ref/__init__.py").write_text(absent)
    with processes() as all_:
        here = os.environ.get("PYTHONPATH", "")
        all_.worker("old", PYTHONPATH=f"{tmp_path}/old:{ROOT}:{here}")
        all_.worker("none", PYTHONPATH=f"{tmp_path}/none")
        time.sleep(3)
        job = Job(pretend, 0.0)
        with pytest.raises(QwenRefError, match=r"worker tcp://.* \(1 more are left out\)$"):
            dict(scheduler.results(Where(all_.address), job, iter([(1, b"")]), 1, str))
        assert "has numba 0.1, and here is" in caplog.text
        assert "has no qwen_ref, or another one: No module named 'qwen_ref'" in caplog.text
        all_.worker("right")
        time.sleep(3)
        assert len(dict(scheduler.results(Where(all_.address), job, iter([(0, b"")]), 1, str))) == 1


@pytest.mark.slow
def test_the_scheduler_is_killed() -> None:
    with processes() as all_:
        all_.worker("a")
        found = scheduler.results(
            Where(all_.address), Job(pretend, 0.1), ((n, b"") for n in range(100)), 100, str
        )
        next(found)
        all_.scheduler.kill()
        with pytest.raises(QwenRefError, match="the scheduler does not answer any more"):
            list(found)


def batch_of(folder: Path, count: int) -> list[str]:
    """Requests, and the command that answers them."""
    with open(folder / "in.jsonl", "w") as file:
        for n in range(count):
            body = {"model": "m", "prompt": f"{n} + 3 =", "max_tokens": 16, "temperature": 0}
            line = {"custom_id": str(n), "method": "POST", "url": "/v1/completions", "body": body}
            file.write(json.dumps(line) + "\n")
    return [sys.executable, "-m", "qwen_ref", "batch", "in.jsonl", "-o", "out.jsonl", "--name", "m"]


def results_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def begun(process: subprocess.Popen[str], out: Path) -> None:
    """Wait for another result."""
    before, until = results_in(out), time.monotonic() + 60
    while results_in(out) == before and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_it_goes_on_however_it_ended(tmp_path: Path, how: signal.Signals) -> None:
    """With a cluster and without; of a terminal, Ctrl-C reaches all processes."""
    command, out = batch_of(tmp_path, 60), tmp_path / "out.jsonl"
    options = dict(cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    process: Any = subprocess.Popen([*command, "--local-cluster", "2"], **options)  # type: ignore[call-overload]
    begun(process, out)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
    else:
        process.kill()
    told = process.communicate(timeout=60)[1]
    assert 0 < results_in(out) < 60
    if how == signal.SIGINT:
        assert process.returncode == 130 and "of 60 have a result; the same command goes on" in told
        assert "Traceback" not in told
    had = results_in(out)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"60 requests: {had} had a result, {60 - had} answered, 0 errors" in done.stderr
    ids = [json.loads(line)["custom_id"] for line in out.read_text().splitlines()]
    assert sorted(ids, key=int) == [*map(str, range(60))]


@pytest.mark.slow
def test_a_process_of_this_machine_is_killed(tmp_path: Path) -> None:
    """Another one takes its place."""
    command, out = batch_of(tmp_path, 60), tmp_path / "out.jsonl"
    with subprocess.Popen(
        [*command, "--local-cluster", "2", "--parallel", "1"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        begun(process, out)
        workers = [
            child for child in psutil.Process(process.pid).children() if "spawn_main" in str(child.cmdline())
        ]
        assert len(workers) == 2
        workers[0].kill()
        assert process.stderr and "60 answered, 0 errors" in process.stderr.read()
    assert results_in(out) == 60
