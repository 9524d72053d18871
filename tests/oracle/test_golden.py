"""Goldens against transformers in float64, float32 and bfloat16, name by name, on the same weights.

Run with -s to see the worst of each.
"""

import json
import subprocess
import sys
from pathlib import Path

import make
import numpy as np
import pytest
from conftest import without_mtp
from PIL import Image
from test_logits import prompt_ids

from qwen_ref import load
from qwen_ref.oracle.compare import compare
from qwen_ref.oracle.record import record
from qwen_ref.prompt import Prompt

LENGTH = 130  # three chunks of the delta rule, the last of two tokens


@pytest.fixture(scope="module")
def text(model, fixtures, tmp_path_factory):
    """A golden of text, and the token ids for transformers."""
    ids = prompt_ids(model.f32, fixtures)[:LENGTH]
    path = tmp_path_factory.mktemp("text") / "ids.npy"
    np.save(path, ids)
    return record(
        lambda dtype: load(model.f32, dtype=dtype, backend="numpy"), Prompt(ids.tolist()), {}, rows=8
    ), path


@pytest.fixture(scope="module")
def pictures(model, mmproj, tmp_path_factory):
    """A golden of two pictures and a clip among text, and the content of the message for transformers."""
    out = tmp_path_factory.mktemp("pictures")
    for name, *size in ("a.png", 256, 320), ("b.png", 288, 256):
        Image.fromarray(make.blocks(*size, seed=size[0])).save(out / name)
    np.save(out / "clip.npy", make.blocks(40, 64, 96, seed=3))
    content = [
        {"type": "image", "image": str(out / "a.png")},
        {"type": "text", "text": "and"},
        {"type": "video", "video": str(out / "clip.npy")},
        {"type": "image", "image": str(out / "b.png")},
        {"type": "text", "text": "What differs?"},
    ]
    (out / "content.json").write_text(json.dumps(content))

    def open_model(dtype):
        return load(model.f32, dtype=dtype, backend="numpy", mmproj=mmproj)

    content[2] = {"type": "video", "video": np.load(out / "clip.npy")}
    prompt = open_model(np.float64).encode_prompt([{"role": "user", "content": content}])
    return record(open_model, prompt, {}, rows=8), out / "content.json"


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("case", ["text", "pictures"])
def test_transformers(case, model, request, tmp_path, dtype):
    if case == "pictures" and (model.name.endswith("seed1") or "mtp" in model.name):
        pytest.skip("pictures are the same to these")
    golden, prompt = request.getfixturevalue(case)
    script, out = Path(__file__).with_name("transformers_trace.py"), tmp_path / "found.npz"
    line = [sys.executable, script, model.checkpoint, model.f32, prompt, out, "--dtype", dtype]
    subprocess.run(line, check=True)
    found = np.load(out)
    assert (found["token_ids"] == golden.inputs["token_ids"]).all()
    report = compare(golden, found, dtype)
    worst = max(report.differences, key=lambda d: d.share[dtype])
    print(
        f"\n{model.name} {dtype}: {worst.name} {worst.relative:.1e}, {worst.share[dtype]:.2f} of the budget"
    )
    missing = without_mtp(report.missing)
    inside = {"rope.angle"} | {name for name in missing if name.endswith("self_attn.attended")}
    assert missing == inside  # of functions of theirs
    assert report.first is None
    if dtype == "float64":
        assert max(d.relative for d in report.differences) < 1e-9
        assert max(d.max for d in report.differences) < 1e-9
