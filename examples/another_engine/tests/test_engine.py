"""All that these tests know of qwen_ref is the fixture and its marker."""

from pathlib import Path

import pytest
import torch
from engine import Engine

MODEL = Path(__file__).parents[3] / "tests/fixtures/tiny-grouped.gguf"
# All that the engine noted is compared; these have to be among it, or a name that has changed goes unseen.
WANTED = ["layers.*.linear_attn.o", "layers.*.self_attn.?_rope", "layers.*.output", "logits"]

pytestmark = pytest.mark.qwen_golden("hello.safetensors", prompt="Hello there, hello", raw=True, generate=4)


def noted(golden, dtype=torch.float32):
    found = {}
    Engine(MODEL, dtype).logits(golden.inputs["token_ids"].tolist(), note=found.__setitem__)
    return found


def test_float32(qwen_golden):
    golden = qwen_golden()
    golden.check(noted(golden), names=WANTED)


def test_bfloat16(qwen_golden):
    golden = qwen_golden(allow="bfloat16")
    golden.check(noted(golden, torch.bfloat16), names=WANTED)


def test_greedy(qwen_golden):
    """A golden's tokens are the prompt's and those that the model says after it."""
    golden = qwen_golden()
    start, ids = golden.about["prompt_tokens"], golden.inputs["token_ids"].tolist()
    engine = Engine(MODEL)
    for t in range(start, len(ids)):
        assert engine.logits(ids[:t])[-1].argmax() == ids[t]
