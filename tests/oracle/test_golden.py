"""Goldens against transformers in float64, float32 and bfloat16, name by name, on the same weights.

Run with -s to see the worst of each.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_logits import prompt_ids

from gguf_io import open_gguf
from qwen_ref.model.text import TextModel
from qwen_ref.oracle.compare import compare
from qwen_ref.oracle.record import record

LENGTH = 130  # three chunks of the delta rule, the last of two tokens


@pytest.fixture(scope="module")
def golden(model, fixtures):
    token_ids = prompt_ids(model.f32, fixtures)[:LENGTH]
    file = open_gguf(model.f32)
    return record(lambda dtype: TextModel(file, dtype), token_ids, {}, rows=8)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_transformers(golden, model, tmp_path, dtype):
    np.save(tmp_path / "ids.npy", golden.inputs["token_ids"])
    script = Path(__file__).with_name("transformers_trace.py")
    out = tmp_path / "found.npz"
    line = [sys.executable, script, model.checkpoint, model.f32, tmp_path / "ids.npy", out, "--dtype", dtype]
    subprocess.run(line, check=True)
    report = compare(golden, np.load(out), dtype)
    worst = max(report.differences, key=lambda d: d.share[dtype])
    print(
        f"\n{model.name} {dtype}: {worst.name} {worst.relative:.1e}, {worst.share[dtype]:.2f} of the budget"
    )
    assert not {name.rpartition(".")[2] for name in report.missing} - {"attended"}  # inside their attention
    assert report.first is None
    if dtype == "float64":
        assert max(d.relative for d in report.differences) < 1e-9
        assert max(d.max for d in report.differences) < 1e-9
