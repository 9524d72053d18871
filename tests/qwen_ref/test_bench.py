"""`bench`: its JSON, its picture, and files written whole or not at all."""

import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rewrite import rewrite

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


def test_a_folder_that_cannot_be_written_is_told_before_measuring(fixtures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "measure_model", None)
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    for option in "--profile", "--report", "--plot":
        assert main([*ONCE, option, str(tmp_path / "x.svg")]) == 2
        assert f"{option} {tmp_path}/x.svg: nothing can be written in this folder" in capsys.readouterr().err


@pytest.mark.parametrize("depth, fits", [(251, True), (252, False)])
def test_no_more_tokens_than_each_model_was_made_for(fixtures, tmp_path, monkeypatch, capsys, depth, fits):
    """Known before the first is measured."""
    path = rewrite(fixtures / "tiny.gguf", tmp_path / "short.gguf", change={"qwen35.context_length": 256})
    measured = []
    monkeypatch.setattr(bench, "measure_model", lambda path, args: measured.append(path) or [])
    models = ["-m", str(fixtures / "tiny.gguf"), "-m", str(path)]
    assert main([*ONCE, *models, "-d", "9", "-d", str(depth)]) == (0 if fits else 2)
    told = "257 tokens, the most that -p, -n and -d make together, are more than the 256 that the model was"
    assert (f"short.gguf: {told} made for" in capsys.readouterr().err) != fits
    assert len(measured) == 2 * fits


def test_beside_busy_processes(fixtures, monkeypatch, capsys):
    """They compute as long as is measured, and then are gone."""
    pids = []

    class Watched(bench.Popen):
        def __init__(self, *given):
            super().__init__(*given)
            pids.append(self.pid)

    def measure(path, args):
        assert len(pids) == 2
        while not all(process_time(pid) > 0.05 for pid in pids):
            time.sleep(0.01)
        return []

    monkeypatch.setattr(bench, "Popen", Watched)
    monkeypatch.setattr(bench, "measure_model", measure)
    assert main([*ONCE, "-m", str(fixtures / "tiny.gguf"), "--busy", "2"]) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert main([*ONCE, "--busy", "-1"]) == 2 and "--busy not negative" in capsys.readouterr().err


def test_a_busy_process_ends_when_its_parent_has():
    """Here that is the shell."""
    subprocess.run(["sh", "-c", '"$0" -c "$1"; true', sys.executable, bench.BUSY], check=True, timeout=60)


def process_time(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK")


def test_types_of_keys_and_values_are_told(capsys):
    assert main([*ONCE, "--cache-type-v", "q8_0"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results[0]["cache_types"] == ["f16", "q8_0"]
    assert "| tg5, keys and values in f16 and q8_0 |" in "\n".join(bench.table(results))


@pytest.mark.parametrize(
    "outputs, told",
    [
        ("--profile a.svg --plot ./a.svg", "--plot a.svg: --profile is written there, too"),
        ("--report a.svg --plot a.svg", "--plot a.svg: --report is written there, too"),
        ("--profile a.png", "--profile a.png: the ending '.png' is not .svg"),
    ],
)
def test_each_output_has_a_file_of_its_own(tmp_path, monkeypatch, capsys, outputs, told):
    """Known before anything is measured."""
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *outputs.split()]) == 2 and told in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []
