"""Each example runs on the smallest model, and names a missing file in one line."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
FIXTURES = Path(__file__).parent / "fixtures"


def run(name: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXAMPLES / f"{name}.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)


# A model of random weights writes no JSON; the two examples that need some have to say so.
@pytest.mark.parametrize(
    "name, status, complaint",
    [
        ("picture", 0, ""),
        ("video", 0, ""),
        ("document", 1, "The answer holds no JSON object"),
        ("screenshot", 1, "The answer names no place"),
    ],
)
def test_example(tmp_path, name, status, complaint):
    for file in ("tiny.gguf", "mmproj-tiny.gguf"):
        shutil.copy(FIXTURES / file, tmp_path)
    ran = run(name, tmp_path, "--model", "tiny.gguf")
    assert (ran.returncode, ran.stderr.startswith(complaint)) == (status, True), ran.stderr
    assert bool(ran.stdout) == (status == 0)  # however little it says: tokens are drawn
    missing = run(name, tmp_path, "--model", "missing.gguf")
    assert missing.returncode == 2
    assert missing.stderr.endswith("missing.gguf: cannot be opened: No such file or directory\n")
