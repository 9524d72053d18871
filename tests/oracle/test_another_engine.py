"""The example project tests itself with the plugin: its engine passes, and its mistakes are named."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2] / "examples" / "another_engine"
MISTAKES = {
    "norm": ("layers.0.input_layernorm", "the norm has another weight"),
    "heads": ("layers.0.linear_attn.o", "V heads read the wrong K heads"),
    "rope": ("layers.3.self_attn.q_rope", "RoPE turns neighbours"),
}


def run(**environment):
    """Its tests as its author runs them, without this project's settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "BREAK"))}
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(line, cwd=PROJECT, env=clean | environment, capture_output=True, text=True)


def test_a_faultless_engine_passes():
    done = run()
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_it_is_right_on_the_kit():
    line = [sys.executable, "-m", "qwen_ref", "conformance", "--engine", "kit.py"]
    done = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    verdicts = [row.split(" | ")[1] for row in done.stdout.splitlines()[2:]]
    assert sorted(verdicts) == ["not supported"] * 8 + ["right"] * 17


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found_and_named(mistake):
    done = run(BREAK=mistake)
    assert done.returncode == 1
    tensor, cause = MISTAKES[mistake]
    for arithmetic in "float32", "bfloat16":
        assert re.search(
            rf"AssertionError: {tensor} is the first tensor that {arithmetic} does not explain: .*\n"
            rf"E +likely cause: {cause}",
            done.stdout,
        ), done.stdout
