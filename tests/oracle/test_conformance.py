"""transformers and llama.cpp over the conformance kit: right, but for what is known and explained here.

docs/conformance.md has their report cards.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import without_mtp

from qwen_ref.oracle.conformance import cases

HERE = Path(__file__).parent


def card(engine, *options):
    """Of a process of its own: what makes transformers compute in float64 cannot be taken back."""
    line = [sys.executable, "-m", "qwen_ref", "conformance", "--engine", HERE / engine, "--json", *options]
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True)
    assert done.returncode in (0, 1, 3), done.stderr
    return {result["case"]: result for result in json.loads(done.stdout)}


def explained(results):
    """{case: (verdict, note)} of those that are not right."""
    return {n: (r["verdict"], r["note"]) for n, r in results.items() if r["verdict"] != "right"}


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_transformers(dtype):
    results = card(f"transformers_engine.py:{dtype}", "--allow", dtype)
    wrong = explained(results)
    if dtype == "bfloat16":
        # Its weights of 1 to 6 bits are rounded to bfloat16 once they are floats; a budget is of exact ones.
        wrong.pop("quants-256", None)
    if dtype == "float32" and wrong.get("image", ("", ""))[1].endswith("its error is 1.1 × the budget"):
        wrong.pop("image")  # torch 2.13 on an Intel Xeon with AMX; within it on Zen 4 and 5
    assert not wrong and len(results) == len(cases())
    differences = {name: result["report"]["differences"] for name, result in results.items()}
    if dtype == "float64":
        assert max(d["max"] for found in differences.values() for d in found) < 1e-9
        greedy = [r["report"]["greedy"] for n, r in results.items() if not n.startswith("position-")]
        assert all(sentence.endswith("all the same") for sentence in greedy)
    # What a golden has and transformers does not show: angles, and the inside of its attention.
    missing = {
        name.rpartition(".")[2]
        for result in results.values()
        for name in without_mtp(result["report"]["missing"])
    }
    assert missing == {"angle", "attended"}


def test_llama_cpp():
    results = card("llama_engine.py")
    assert explained(results) == {
        # It takes the <|im_end|> that a user spelled for the control token.
        "chat": ("wrong", "token_ids: of token 1034: 474 should be 27"),
        # Its convolution of patches rounds pixels to float16 (ggml_conv_2d, unless the kernel is bfloat16).
        "image": ("wrong", results["image"]["note"]),
        # And it scales pictures in another way (mtmd.py).
        "images": ("wrong", results["images"]["note"]),
        "adjacent": ("wrong", results["adjacent"]["note"]),
        "video": ("not supported", "llama-server takes no clips"),
        **dict.fromkeys(
            ("position-4096", "position-32768"), ("not supported", "llama-server counts positions from 0")
        ),
        # The server shows no token that ends inside a character: behind a picture no step is surely known.
        "mtp-image": ("partly judged", "0 of 64 tensors, no logits"),
    }
    decoded = {name: result["report"]["decoding"] for name, result in results.items() if result["report"]}
    assert decoded["forced"] == "2000 steps" and decoded["turn"] == "44 steps"
    assert results["image"]["note"].startswith("logits is the first tensor that float32 does not explain")
    assert results["images"]["note"].startswith(("generated: ", "logits is the first"))
    halves = card("llama_engine.py", "--allow", "float16", "image")
    assert not explained(halves)
    compared = {name: len(r["report"]["differences"]) for name, r in results.items() if r["report"]}
    assert compared["plain"] >= 41 and compared["grouped"] >= 41 and compared["yarn"] >= 15
