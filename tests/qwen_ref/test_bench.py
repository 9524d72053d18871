"""`bench`: its JSON, its picture, and files written whole or not at all."""

import json
import os
import time
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import gguf
import pytest

from qwen_ref import QwenRefError
from qwen_ref.cli import bench, main

ONCE = ["bench", "-p", "5", "-n", "5", "-r", "1", "--no-start", "--output", "json"]


def test_profile_is_a_table_and_a_picture(fixtures, tmp_path, capsys):
    picture = tmp_path / "profile.svg"
    assert main([*ONCE, "-m", str(fixtures / "tiny.gguf"), "--profile", str(picture)]) == 0
    prefill, decode, profile = json.loads(capsys.readouterr().out)
    assert (prefill["test"], decode["test"]) == ("pp5", "tg5")
    assert len(prefill["rates"]) == len(decode["rates"]) == 1  # the run that warms up does not count
    parts = profile["profile"]["parts"]
    assert sum(part["seconds"] for name, part in parts.items() if name != "total") == pytest.approx(
        parts["total"]["seconds"]
    )
    assert parts["total"]["bytes"] == sum(part["bytes"] for name, part in parts.items() if name != "total")
    text = "".join(ET.parse(picture).getroot().itertext())
    assert "A token of tiny.gguf" in text and "output matrix" in text


@pytest.mark.parametrize("name", ["missing/profile.svg", "."])
def test_picture_that_cannot_be_written(fixtures, tmp_path, capsys, name):
    assert main([*ONCE, "-m", str(fixtures / "tiny.gguf"), "--profile", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_beside_busy_processes(fixtures, monkeypatch, capsys):
    """They compute as long as is measured, and then are gone."""
    started, pids = bench.children.started, []

    @contextmanager
    def watched(command):
        with started(command) as process:
            pids.append(process.pid)
            yield process

    def measure(path, args):
        assert len(pids) == 2
        while not all(process_time(pid) > 0.05 for pid in pids):
            time.sleep(0.01)
        return []

    monkeypatch.setattr(bench.children, "started", watched)
    monkeypatch.setattr(bench, "measure_model", measure)
    assert main([*ONCE, "-m", str(fixtures / "tiny.gguf"), "--busy", "2"]) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert main([*ONCE, "--busy", "-1"]) == 2 and "--busy not negative" in capsys.readouterr().err


def clock(monkeypatch, *durations):
    """Of what is measured, one after another."""
    ticks = iter([tick for seconds in durations for tick in (0.0, seconds)])
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))


def test_rates_are_medians_without_the_first_one(fixtures, monkeypatch, capsys):
    path = fixtures / "tiny.gguf"
    clock(monkeypatch, 100.0, 1.0, 2.0, 100.0, 1.0, 4.0)
    arguments = f"-m {path} -p 5 -p 0 -n 3 -d 2 -r 2 --no-start -o json --backend numpy".split()
    assert main(["bench", *arguments]) == 0
    tensors = gguf.GGUFReader(path).tensors
    base = {"model": "tiny.gguf", "size": sum(int(t.n_bytes) for t in tensors)}
    base |= {"params": sum(int(t.n_elements) for t in tensors), "backend": "numpy"}
    assert json.loads(capsys.readouterr().out) == [
        base | {"test": "pp5 @ d2", "tokens_per_second": 3.75, "rates": [5.0, 2.5]},
        base | {"test": "tg3 @ d2", "tokens_per_second": 1.875, "rates": [3.0, 0.75]},
    ]


def test_starts_are_those_of_a_process_each(monkeypatch):
    commands, peaks = [], iter([90, 10, 30, 20])

    def run(command, **options):
        commands.append(command[command.index("qwen_ref") :])
        told = {"peak_memory_mb": next(peaks), "private_memory_mb": None if len(commands) < 4 else 8}
        return SimpleNamespace(returncode=0, stdout=json.dumps(told), stderr="")

    monkeypatch.setattr(bench.children, "run", run)
    clock(monkeypatch, 9.0, 1.0, 6.0, 2.0)
    found = bench.measure_start("a.gguf", SimpleNamespace(r=5, backend="numpy", threads=2))
    assert found == {
        "test": "start",
        "seconds_to_first_token": 2.0,
        "peak_memory_mb": 20,
        "private_memory_mb": 0,
    }
    line = "qwen_ref generate --model a.gguf --prompt Hello --raw -n 1 --json"
    assert commands == [f"{line} --backend numpy --threads 2".split()] * 4
    failed = SimpleNamespace(returncode=2, stdout="", stderr=" qwen_ref: x\n")
    monkeypatch.setattr(bench.children, "run", lambda command, **options: commands.append(command) or failed)
    clock(monkeypatch, 1.0)
    with pytest.raises(QwenRefError, match=r"^the measured process failed: qwen_ref: x$"):
        bench.measure_start("a.gguf", SimpleNamespace(r=1, backend=None, threads=None))
    assert commands[-1][1:] == f"-m {line}".split()


def test_the_table(capsys):
    base = {"model": "a.gguf", "size": 3 << 19, "params": 1_234_567, "backend": "numba"}
    bench.print_table(
        [
            base | {"test": "pp512", "tokens_per_second": 12.345, "rates": [12.0, 16.0]},
            base | {"test": "profile", "profile": {"table": "norms 1 ms"}},
            base
            | {
                "test": "start",
                "seconds_to_first_token": 1.234,
                "peak_memory_mb": 50,
                "private_memory_mb": 7,
            },
        ]
    )
    assert capsys.readouterr().out.splitlines() == [
        "| model | size | params | backend | test | t/s |",
        "|---|---:|---:|---|---|---:|",
        "| a.gguf | 1.50 MiB | 1.23 M | numba | pp512 | 12.35 ± 2.00 |",
        "| a.gguf | 1.50 MiB | 1.23 M | numba | start | 1.23 s, peak 50 MB (7 MB private) |",
        "",
        "where the time of a token goes, a.gguf:",
        "",
        "norms 1 ms",
    ]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["-r", "0"], "-r must be at least 1, and -p, -n, -d and --busy not negative"),
        *((name.split(), "-r must be at least 1") for name in ("-p -1", "-n -1", "-d -1", "-p 5 -p -1")),
        (["--profile", "a.svg", "-m", "a", "-m", "b"], "--profile a.svg: one picture shows one model, not 2"),
        (["--profile", "none/a.svg"], "--profile none/a.svg: the folder does not exist"),
        (["--profile", "/tmp"], "--profile /tmp: is a folder"),
    ],
)
def test_what_cannot_be_measured(monkeypatch, capsys, arguments, words):
    monkeypatch.setattr(bench, "measure_model", lambda path, args: [])
    assert main(["bench", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"qwen_ref: {words}")


def process_time(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK")
