"""Cores and memory as Linux tells them to a process; the files are of its documentation's form."""

import os
import resource

import pytest

from qwen_ref import machine

GIB = 1 << 30


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    monkeypatch.setattr(machine, "cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    write(tmp_path, "proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\nHugePages_Total: 0\n")
    return tmp_path


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(f"{text}\n")


def test_a_system_that_says_nothing(root):
    (root / "proc/meminfo").unlink()
    assert machine.available_memory(root) == 4 * GIB and machine.default_threads(root) == 4


def test_a_machine_without_limits(root):
    write(root, "proc/self/cgroup", "0::/user.slice")
    for name, value in {"memory.max": "max", "memory.current": 5 * GIB, "cpu.max": "max 100000"}.items():
        write(root, f"sys/fs/cgroup/user.slice/{name}", value)
    assert machine.available_memory(root) == 8 * GIB and machine.default_threads(root) == 4


@pytest.mark.parametrize("limit", ["memory.max", "memory.high"])
def test_version_2_counts_the_groups_above_and_not_the_pages_of_files(root, limit):
    write(root, "proc/self/cgroup", "0::/a/b")
    write(root, "sys/fs/cgroup/a/b/memory.max", "max")
    write(root, "sys/fs/cgroup/a/b/memory.current", 7)
    write(root, f"sys/fs/cgroup/a/{limit}", GIB)
    write(root, "sys/fs/cgroup/a/memory.current", 700)
    write(root, "sys/fs/cgroup/a/memory.stat", "anon 100\nactive_file 250\ninactive_file 350\nshmem 0")
    assert machine.available_memory(root) == GIB - 100
    write(root, "sys/fs/cgroup/a/cpu.max", "150000 100000")
    write(root, "sys/fs/cgroup/a/b/cpu.max", "max 100000")
    assert machine.default_threads(root) == 2


def test_version_1_in_a_container_that_sees_only_its_own_part(root):
    write(root, "proc/self/cgroup", "5:memory:/docker/f2ec\n4:cpu,cpuacct:/docker/f2ec\n0::/")
    write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", GIB)
    write(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", 700)
    write(
        root, "sys/fs/cgroup/memory/memory.stat", "cache 600\ntotal_active_file 250\ntotal_inactive_file 350"
    )
    assert machine.available_memory(root) == GIB - 100
    write(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", 50000)
    write(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us", 100000)
    assert machine.default_threads(root) == 1
    write(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", -1)
    assert machine.default_threads(root) == 4


@pytest.mark.parametrize("which, used", [("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")])
def test_ulimit(root, monkeypatch, which, used):
    limits = {getattr(resource, which): (2 * GIB, resource.RLIM_INFINITY)}
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits.get(which, (resource.RLIM_INFINITY,) * 2))
    write(root, "proc/self/status", f"Name:\tpython\n{used}:\t  1048576 kB")
    assert machine.available_memory(root) == GIB
    write(root, "proc/self/status", f"{used}:\t  4194304 kB")
    assert machine.available_memory(root) == 0


@pytest.mark.parametrize(
    "given, threads",
    [("1", 1), ("3,2", 3), ("64", 4), ("0", 4), ("many", 4), ("", 4), pytest.param("9" * 5000, 4, id="huge")],
)
def test_omp_num_threads(root, monkeypatch, given, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert machine.default_threads(root) == threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes are not pinned here")
def test_a_pinned_process():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.cores() == 1
    finally:
        os.sched_setaffinity(0, before)
