"""The threads that share a kernel's loops."""

import gc
import os
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from numba import prange

from qwen_ref.kernels import threads
from qwen_ref.kernels.compile import kernel


@kernel(parallel=True)
def count_up(counts, rounds):
    for i in prange(counts.shape[0]):
        for _ in range(rounds):
            counts[i] += 1


@numba.njit(parallel=True)
def sum_of(x):
    total = 0.0
    for i in prange(x.shape[0]):
        total += x[i]
    return total


@numba.njit(parallel=True)
def twice_nested(x):
    for i in prange(x.shape[0]):
        count_up(x[i], 1)


def word(at):
    return threads._words[at // 8]


@pytest.fixture(autouse=True)
def more_threads_than_cores(monkeypatch):
    """And on a machine that is quiet, as far as is looked, unless a test says otherwise."""
    monkeypatch.setattr(numba.np.ufunc.parallel, "snt_check", lambda n: None)
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    threads._words[threads.CHECK_TIME // 8] = now + 3600 * 1_000_000_000
    threads._words[threads.CROWDED // 8] = threads._words[threads.ALONE // 8] = 0
    yield
    threads._words[threads.CHECK_TIME // 8] = now


@pytest.fixture(params=[1, 2, 3, 7])
def number(request):
    """So many threads, and later as before."""
    before = numba.get_num_threads()
    numba.set_num_threads(request.param)
    yield request.param
    numba.set_num_threads(before)


@pytest.mark.parametrize("crowded", [0, 1])
@pytest.mark.parametrize("size", [0, 1, 2, 5, 64, 1001])
def test_each_iteration_is_done_once(number, size, crowded):
    threads._words[threads.CROWDED // 8] = crowded
    for _ in range(50):
        counts = np.zeros(size, np.int64)
        count_up(counts, 3)
        assert np.array_equal(counts, np.full(size, 3))
    assert size < 2 or word(threads.STARTED) >= number - 1
    assert word(threads.INSIDE) == word(threads.IN_USE) == word(threads.OPEN) == 0


def test_sums_and_loops_within_loops(number):
    """Numba keeps a part of a sum for each thread, by its number; a loop in a loop is its thread's alone."""
    x = np.random.default_rng(0).standard_normal(10_001)
    assert sum_of(x) == pytest.approx(x.sum(), abs=1e-9)
    counts = np.zeros((23, 41), np.int64)
    twice_nested(counts)
    assert (counts == 1).all()
    assert word(threads.IN_USE) == 0  # or no later loop would be shared


def test_callers_at_once():
    def many(_):
        counts = np.zeros(64, np.int64)
        for _ in range(200):
            count_up(counts, 1)
        return counts

    with ThreadPoolExecutor(4) as pool:
        assert (np.array(list(pool.map(many, range(8)))) == 200).all()


def test_nobody_waits_for_a_thread_that_does_not_come(number):
    started = word(threads.STARTED)
    threads._words[threads.STARTED // 8] = max(started, number) + 1  # of which some are not there
    try:
        numba.set_num_threads(max(started, number) + 2)
        counts = np.zeros(100, np.int64)
        count_up(counts, 1)
        assert (counts == 1).all()
    finally:
        threads._words[threads.STARTED // 8] = started


def test_threads_without_work_sleep_and_are_woken(number):
    for _ in range(3):
        counts = np.zeros(64, np.int64)
        count_up(counts, 1)
        assert (counts == 1).all()
        end = time.monotonic() + 30
        while used_within(0.1) > 0.05:
            assert time.monotonic() < end


def test_threads_that_are_not_wanted_sleep_while_others_work():
    """They would look out for work in vain, and make heat; and are there again when they are wanted."""
    before = numba.get_num_threads()
    try:
        for _ in range(2):
            numba.set_num_threads(7)
            some_come = time.monotonic() + 30
            while len(workers()) < 7:
                assert time.monotonic() < some_come
                ran(0.05)
            numba.set_num_threads(2)
            ran(0.05)
            before_it = workers()
            ran(0.5)
            used = sorted(ticks - before_it.get(task, 0) for task, ticks in workers().items())
            assert sum(used[:-2]) <= sum(used) / 5
    finally:
        numba.set_num_threads(before)


def ran(seconds):
    """Short loops for so long, as while a text is decoded."""
    counts, end = np.zeros(64, np.int64), time.monotonic() + seconds
    while time.monotonic() < end:
        count_up(counts, 20)


def workers():
    """CPU time of each of this process's threads that has run, in clock ticks."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        if ticks := int(fields[11]) + int(fields[12]):
            found[task.name] = ticks
    return found


def used_within(seconds):
    """CPU time of this process."""
    before = time.process_time()
    time.sleep(seconds)
    return time.process_time() - before


def test_a_crowd_is_seen_and_forgotten():
    def check(ago, taken_away, crowd_ago):
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        count = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        threads._words[threads.CHECK_TIME // 8] = now - ago
        threads._words[threads.CHECK_COUNT // 8] = count - taken_away
        threads._words[threads.CROWD_TIME // 8] = now - crowd_ago
        threads.check_machine()
        return word(threads.CROWDED)

    second = 1_000_000_000
    check(second, 0, second)  # compiled: so long others may take the cores away
    threads._words[threads.CROWDED // 8] = 0
    assert check(second, threads.TAKEN_AWAY // 2, second) == 0
    assert check(-second, 10_000, second) == 0  # too early to look, even if this process has to wait here
    assert check(second, 2 * threads.TAKEN_AWAY, second) == 1
    assert check(second, threads.TAKEN_AWAY // 2, threads.CROWDED_FOR // 2) == 1
    assert check(second, threads.TAKEN_AWAY // 2, 2 * threads.CROWDED_FOR) == 0


def test_in_a_crowd_one_thread_does_short_loops_alone():
    """And looks on whether it is to share them again."""

    def alone(loops, taken_away):
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        count = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        threads._words[threads.CHECK_TIME // 8] = now - 1_000_000_000
        threads._words[threads.CHECK_COUNT // 8] = count - taken_away
        threads._words[threads.LOOPS // 8] = loops
        numba.set_num_threads(2)
        count_up(np.zeros(64, np.int64), 1)
        return word(threads.ALONE)

    most = 1_000_000_000 // threads.SHORT
    assert alone(most * 2, 2 * threads.TAKEN_AWAY) == 1
    jobs = word(threads.JOBS)
    threads._words[threads.CHECK_TIME // 8] += 1_000_000_000  # or it may look again meanwhile
    for _ in range(10):
        count_up(np.zeros(64, np.int64), 1)
    assert (word(threads.JOBS), word(threads.LOOPS)) == (jobs, 10)
    assert alone(most // 2, 2 * threads.TAKEN_AWAY) == 0
    threads._words[threads.CROWD_TIME // 8] = threads._words[threads.CROWDED // 8] = 0
    assert alone(most * 2, 0) == 0
    count_up(np.zeros(64, np.int64), 1)
    assert word(threads.JOBS) > jobs


def test_loops_are_cut_finer_in_a_crowd():
    starts, ends = np.zeros(2, np.int64), np.array([9, 99])  # the last one counts
    sched_size = numba.njit(threads.get_sched_size)

    def pieces(number, dimensions, crowded):
        threads._words[threads.CROWDED // 8] = crowded
        return sched_size(number, dimensions, starts.ctypes.data, ends.ctypes.data)

    assert [pieces(2, 2, 0), pieces(2, 2, 1), pieces(1, 2, 1)] == [4, 16, 1]
    assert [pieces(3, 1, 0), pieces(2, 1, 1)] == [6, 10]  # not more than there are iterations
    threads._words[threads.CROWDED // 8] = 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # since Python 3.12
def test_a_forked_process_has_threads_of_its_own():
    count_up(np.zeros(64, np.int64), 1)
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        return
    gc.disable()  # what other tests let go of may wait for threads that are not here
    right = False
    try:
        none = word(threads.STARTED)
        numba.set_num_threads(2)
        counts = np.zeros(64, np.int64)
        count_up(counts, 1)
        right = none == 0 and word(threads.STARTED) == 1 and (counts == 1).all()
    finally:
        os._exit(7 if right else 1)
