"""Nothing that the command line starts outlives it, however it ends, and nothing waits for ever."""

import fcntl
import os
import signal
import subprocess
import sys
import termios

import pytest

from qwen_ref import children, shipped

ENCODES = f"""
import sys, time
from qwen_ref.cli import generate
from qwen_ref.prompt import PromptEncoder
PromptEncoder.encode = lambda *args, **options: (print("begun", file=sys.stderr, flush=True), time.sleep(600))
with generate.encoding_beside({str(shipped.MODEL)!r}, "Hi", {{}}) as encoded:
    encoded()
"""
# Of the two that the shell starts one is left behind by it, as a server would be.
RUNS = """
from qwen_ref import children
children.run(["sh", "-c", "(sleep 600 &); echo begun >&2; sleep 600; true"])
"""


@pytest.mark.parametrize("ends", ["SIGKILL", "SIGABRT", "SIGTERM", "SIGINT", "a closed terminal"])
@pytest.mark.parametrize("program", [ENCODES, RUNS], ids=["encodes", "runs"])
def test_what_it_started_ends_with_it(program, ends):
    """All hold its standard error, whose end comes when all have ended."""
    leader, follower = os.openpty()

    def in_a_terminal():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, or a shell, may have it ignored
        os.setsid()
        fcntl.ioctl(follower, termios.TIOCSCTTY, 0)

    quiet = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
    command = [sys.executable, "-c", quiet + program]
    pipes = {"stdin": follower, "stdout": follower, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, preexec_fn=in_a_terminal, text=True, **pipes) as process:
        os.close(follower)
        try:
            assert process.stderr.readline() == "begun\n"
            if ends == "a closed terminal":
                os.close(leader)
            else:
                process.send_signal(signal.Signals[ends])
            process.communicate(timeout=60)
            assert process.returncode == -(signal.SIGHUP if "closed" in ends else signal.Signals[ends])
        finally:
            process.kill()
            if "closed" not in ends:
                os.close(leader)


def test_a_program_is_run_as_by_subprocess(tmp_path):
    def run(script, **options):
        return children.run(["sh", "-c", script], **options)

    done = run("echo out; echo err >&2; exit 7", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert run("kill -9 $$").returncode == -9
    assert run("read line", cwd=tmp_path).returncode == 1  # there is nothing to read
    with pytest.raises(subprocess.TimeoutExpired):
        run("sleep 600", timeout=0.1)
    done = children.run([tmp_path / "none"], stderr=subprocess.PIPE)
    assert done.returncode == 1 and done.stderr.endswith(b"none: No such file or directory\n")


def test_what_cannot_be_started_leaves_no_pipe_open(tmp_path):
    def next_files():
        files = os.pipe()  # it takes the lowest numbers that are free
        for file in files:
            os.close(file)
        return files

    before = next_files()
    with pytest.raises(FileNotFoundError):
        children.run(["true"], cwd=tmp_path / "none")
    assert next_files() == before


def test_a_pipe_ends_though_something_was_left_behind(tmp_path):
    with open(tmp_path / "output", "wb") as file:
        assert children.run(["sh", "-c", "sleep 600 & exit 0"], stdout=file).returncode == 0
