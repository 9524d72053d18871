"""A look inside, beside what transformers returns: by layer, head and token."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import made
from test_logits import prompt_ids

from qwen_ref import load
from qwen_ref.prompt import Prompt

LENGTH = 67  # more than a chunk of the delta rule


@pytest.mark.parametrize("size", ["mini", "mini-grouped"])
def test_transformers(size, fixtures, tmp_path):
    small = made(size, 0, tiny_vocab=True)
    ids = prompt_ids(small.f32, fixtures)[:LENGTH]
    np.save(tmp_path / "ids.npy", ids)
    script, out = Path(__file__).with_name("transformers_look.py"), tmp_path / "found.npz"
    line = [sys.executable, script, small.checkpoint, small.f32, tmp_path / "ids.npy", out]
    subprocess.run(line, check=True)
    found = np.load(out)
    model = load(small.f32, dtype=np.float64)
    trace, config = model.trace(Prompt(ids.tolist())), model.config
    for layer in range(config.num_layers):
        if config.is_full_attention(layer):
            pairs = [(trace.attention(layer), found[f"attention.{layer}"])]
        else:
            pairs = [(trace.states[layer], found[f"states.{layer}"])]
        before = "embed_tokens" if layer == 0 else f"layers.{layer - 1}.output"
        pairs.append((trace[before], found[f"hidden.{layer}"]))
        for mine, theirs in pairs:
            assert mine.shape == theirs.shape
            assert abs(mine - theirs).max() < 1e-9 * max(1, abs(theirs).max())
    assert abs(trace["norm"] - found[f"hidden.{config.num_layers}"]).max() < 1e-9
