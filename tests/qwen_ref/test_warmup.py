"""Kernels that are compiled before they are needed."""

import os
import subprocess
import sys

import pytest

from qwen_ref.cli import main
from qwen_ref.kernels import compile, warmup


def warm_up(model, cache):
    command = [sys.executable, "-m", "qwen_ref", "warmup", "--no-pictures", "--model", str(model)]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


@pytest.mark.slow
def test_all_is_compiled_once_and_can_be_moved(fixtures, tmp_path):
    told = warm_up(fixtures / "tiny-wide.gguf", tmp_path / "here")
    compiled, threads = told.splitlines()
    assert "kernels compiled in" in compiled and "thread" in threads
    (tmp_path / "here").rename(tmp_path / "there")
    for path in (tmp_path / "there/qwen_ref").glob("*/*"):
        os.utime(path, (0, 0))
    assert "all kernels were there" in warm_up(fixtures / "tiny-wide.gguf", tmp_path / "there")


@pytest.mark.parametrize("command", [["warmup", "--model", "missing.gguf"], ["nothing"]])
def test_processes_that_fail_leave_the_work_to_this_one(command, tmp_path, monkeypatch):
    @compile.kernel()
    def three(x):
        return 3 * x

    monkeypatch.setattr(compile, "CACHE_DIRECTORY", tmp_path)
    monkeypatch.setattr(warmup, "cores", lambda: 2)
    done, seen = [], []
    works = [lambda: done.append(three(2)), lambda: done.append(three(3))]
    warmup.do(works, command, lambda n, total: seen.append((n, total)))
    assert done == [6, 9] and seen == [(0, 2), (1, 2), (2, 2), (2, 2)] and compile.announce is None


def test_nothing_is_started_where_nothing_can_be_kept(monkeypatch):
    @compile.kernel()
    def five(x):
        return 5 * x

    monkeypatch.setattr(compile, "CACHE_DIRECTORY", None)
    monkeypatch.setattr(warmup, "do_shares", None)
    warmup.do([lambda: five(1), lambda: five(2)], [], None)


def test_a_model_that_is_none_is_told_in_one_sentence(tmp_path, capsys):
    assert main(["warmup", "--model", str(tmp_path / "none.gguf")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
