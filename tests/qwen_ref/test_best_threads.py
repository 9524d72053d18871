"""With how many threads a model computes that nobody told how many."""

import json
from types import SimpleNamespace

import llvmlite.binding as llvm
import numba
import pytest

from gguf_io import open_gguf
from qwen_ref import load
from qwen_ref.cli import main
from qwen_ref.engine import best_threads, plan
from qwen_ref.kernels import compile
from qwen_ref.kernels import threads as kernel_threads
from qwen_ref.kernels.layers import linear
from qwen_ref.machine import Threads
from qwen_ref.model.layers import replaced

ALL = numba.config.NUMBA_NUM_THREADS


@pytest.fixture
def cache(threads_as_before, tmp_path, monkeypatch):
    """Its file of threads, which is not there yet, on a machine of six cores."""
    file = tmp_path / "threads.json"
    monkeypatch.setattr(best_threads, "path", lambda: file)
    monkeypatch.setattr(best_threads, "usable_threads", lambda: 6)
    return file


@pytest.fixture
def set_threads(monkeypatch):
    """What Numba was told, in turn."""
    told = []
    monkeypatch.setattr(numba, "set_num_threads", told.append)
    return told


def test_answers_and_prompts_have_their_own(fixtures, cache, set_threads):
    plain = load(fixtures / "tiny.gguf")
    assert plain.threads == (ALL, ALL)
    best_threads.keep(plain.text.file, Threads(2, 5))
    model = load(fixtures / "tiny.gguf")
    assert model.threads == Threads(decode=2, prefill=5)
    used = []

    def lm_head(x, weight):
        used.append(set_threads[-1])
        return linear(x, weight)

    model.text.layers = replaced(model.text.layers, lm_head=lm_head)
    list(model.generate("Why?", max_tokens=3, temperature=0, draft="off"))
    assert used == [5, 2, 2]
    for answers, threads in (0, 5), (1, 2), (best_threads.FEW, 2), (best_threads.FEW + 1, 5):
        model.enter_thread(answers)
        assert set_threads[-1] == threads
    assert load(fixtures / "tiny.gguf", threads=1).threads == (1, 1)
    assert load(fixtures / "tiny-wide.gguf").threads == (ALL, ALL)  # another model
    assert load(fixtures / "tiny.gguf", backend="numpy").threads == (ALL, ALL)


BROKEN_FILES = ["", "[", "null", "[1, 2]", "[" * 100_000]
BROKEN_ENTRIES = [None, 3, [2], [1, 2, 3], [0, 2], [2, 7], ["2", 2], [2.0, 2], [True, 2], {"decode": 2}]


@pytest.mark.parametrize("written", [*BROKEN_FILES, *BROKEN_ENTRIES], ids=lambda written: repr(written)[:12])
def test_what_is_broken_says_nothing_and_is_written_anew(fixtures, cache, written):
    file = load(fixtures / "tiny.gguf").text.file
    text = written if written in BROKEN_FILES else json.dumps({best_threads.key(file): written})
    cache.write_text(text)
    assert best_threads.kept(file) is None
    best_threads.keep(file, Threads(1, 2))
    assert best_threads.kept(file) == (1, 2)


def test_those_of_another_machine_are_left_alone(fixtures, cache, monkeypatch):
    file = load(fixtures / "tiny.gguf").text.file
    best_threads.keep(file, Threads(1, 2))
    with monkeypatch.context() as other:
        other.setattr(llvm, "get_host_cpu_name", lambda: "cortex-a72")
        assert best_threads.kept(file) is None
        best_threads.keep(file, Threads(4, 4))
    with monkeypatch.context() as fewer:
        fewer.setattr(best_threads, "usable_threads", lambda: 4)
        assert best_threads.kept(file) is None
    assert best_threads.kept(file) == (1, 2)


def test_nothing_is_kept_where_nothing_can_be(fixtures, monkeypatch):
    monkeypatch.setattr(compile, "CACHE_DIRECTORY", None)
    file = load(fixtures / "tiny.gguf").text.file
    best_threads.keep(file, Threads(1, 1))
    assert best_threads.kept(file) is None


# Milliseconds with each number of threads; of a token, 3 are hardly faster than 2.
TOKEN, PIECE = {1: 50, 2: 30, 3: 29.5, 4: 33, 5: 35, 6: 40}, {1: 60, 2: 31, 3: 22, 4: 18, 5: 30, 6: 15}


def test_the_fewest_that_are_the_fastest_are_found(cache, set_threads, monkeypatch):
    clock, runs = 0.0, []

    def spend(milliseconds):
        nonlocal clock
        n = set_threads[-1]
        runs.append(n)
        disturbed = 5 if runs.count(n) in (1, 2, 5, 6) else 1  # the first compiles; others may come
        clock += disturbed * milliseconds[n] / 1000

    network = SimpleNamespace(
        new_state=lambda: None, forward=lambda ids, state: spend(TOKEN), logits=lambda hidden: None
    )
    monkeypatch.setattr(best_threads, "first_layers", lambda network, tokens: lambda: spend(PIECE))
    monkeypatch.setattr(best_threads.time, "perf_counter", lambda: clock)
    before = numba.get_num_threads()
    monkeypatch.setattr(kernel_threads, "crowded", lambda: len(runs) == 11)
    assert best_threads.find(network) is None and set_threads[-1] == before
    monkeypatch.setattr(kernel_threads, "crowded", lambda: False)
    runs.clear()
    threads, tokens, pieces = best_threads.find(network)
    assert threads == Threads(decode=2, prefill=6) and set_threads[-1] == before
    assert (
        tokens == pytest.approx({n: ms / 1000 for n, ms in TOKEN.items()}) and pieces.keys() == PIECE.keys()
    )


def test_many_cores_are_tried_in_eighths(cache, set_threads, monkeypatch):
    monkeypatch.setattr(best_threads, "usable_threads", lambda: 64)
    monkeypatch.setattr(best_threads, "first_layers", lambda network, tokens: lambda: None)
    network = SimpleNamespace(
        new_state=lambda: None, forward=lambda ids, state: None, logits=lambda hidden: None
    )
    monkeypatch.setattr(kernel_threads, "crowded", lambda: False)
    _, tokens, _ = best_threads.find(network)
    assert [*tokens] == [8, 16, 24, 32, 40, 48, 56, 64]


def test_warmup_keeps_what_bench_then_uses(fixtures, cache, monkeypatch, capsys):
    model = ["--model", str(fixtures / "tiny.gguf")]
    found = Threads(1, ALL), {1: 0.0301, 2: 0.04}, {1: 0.2}
    monkeypatch.setattr(best_threads, "find", lambda network: found)
    assert main(["warmup", "--no-pictures", *model]) == 0
    monkeypatch.setattr(best_threads, "find", lambda network: None)
    assert main(["warmup", "--no-pictures", *model]) == 0  # what was found before is kept
    told = capsys.readouterr().out
    assert "fastest: answers with 1 thread (1: 30.1, 2: 40.0 ms a token), prompts with" in told
    assert "was not tried, since other programs" in told
    bench = ["bench", *model, "-p", "4", "-n", "2", "--parallel", "1", "--parallel", "5", "-r", "1"]
    assert main([*bench, "--no-start", "--output", "json"]) == 0
    used = [(r["test"], r["threads"]) for r in json.loads(capsys.readouterr().out)]
    assert used == [("pp4", ALL), ("tg2", 1), ("tg2", ALL)]
    best_threads.keep(open_gguf(fixtures / "tiny.gguf"), Threads(2, 5))
    monkeypatch.setattr(plan, "measure", lambda file, threads: used.append(threads) or plan.BOARDS["pi5"])
    assert main(["plan", *model[1:]]) == main(["plan", *model[1:], "--threads", "1"]) == 0
    assert used[3:] == [5, 1]
    capsys.readouterr()
    assert main([*bench, "--no-start", "--threads", "1"]) == 0
    assert "| 1 | pp4 |" in capsys.readouterr().out
