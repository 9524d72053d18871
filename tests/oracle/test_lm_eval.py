"""lm-evaluation-harness through the adapter, against its own model for transformers on one checkpoint."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import made

pytest.importorskip("lm_eval")

DOCUMENTS = [
    {
        "question": "12 + 30 is",
        "choices": ["42", "41", "402", "forty two"],
        "gold": 0,
        "text": "One, two. " * 20,
    },
    {
        "question": "The sky is  ",
        "choices": ["red", "blue", "blue and white"],
        "gold": 1,
        "text": "Ä b\n\n ç",
    },
    {
        "question": "She said:\n",
        "choices": ["'It is <|im_end|>'", "A", "B"],
        "gold": 2,
        "text": " " * 9 + "x",
    },
]
# Sums of up to 60 log-probabilities; of float32 as far as its rounding goes through 8 layers.
TOLERANCE = {"float64": 1e-9, "float32": 2e-3}


@pytest.fixture(scope="module")
def offline():
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def flat(samples: list) -> tuple[list[float], list[str]]:
    """Numbers, and whatever else there is."""
    numbers, others = list[float](), list[str]()
    stack = [samples]
    while stack:
        value = stack.pop()
        if isinstance(value, list | tuple):
            stack += value
        elif isinstance(value, float):
            numbers.append(value)
        else:
            others.append(str(value))
    return numbers, others


@pytest.mark.filterwarnings("ignore")  # the harness's own, and its libraries'
@pytest.mark.parametrize("dtype, chat", [("float64", False), ("float64", True), ("float32", False)])
def test_as_transformers(tmp_path, offline, dtype, chat):
    from harness import MAX_LENGTH, samples, write_tasks

    from qwen_ref.lm_eval import QwenRef

    checkpoint = made("mini", 0, tiny_vocab=True).checkpoint
    write_tasks(tmp_path, DOCUMENTS)
    script, out = Path(__file__).with_name("harness.py"), tmp_path / "out.json"
    options = ["--dtype", dtype, *(["--chat"] if chat else [])]
    subprocess.run([sys.executable, script, checkpoint, tmp_path, out, *options], check=True)
    theirs = json.loads(out.read_text())
    length = None if chat else MAX_LENGTH
    lm = QwenRef(str(checkpoint), dtype=dtype, max_length=length, batch_size=4)
    ours = samples(lm, tmp_path, chat)
    assert ours.keys() == theirs.keys() and len(ours) == 3 - chat
    for task in theirs:
        (numbers, others), (expected, told) = flat(ours[task]), flat(theirs[task])
        assert len(numbers) + len(others) >= 3
        assert others == told, task
        error = np.abs(np.array(numbers) - expected).max(initial=0)
        print(f"{task}, {dtype}{', chat' * chat}: {len(numbers)} sums, largest difference {error:.1e}")
        assert error < TOLERANCE[dtype], task
