"""Our sampling chain against llama.cpp's: the probabilities that llama-server would draw from."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request

import make
import numpy as np
import pytest

from qwen_ref import load
from qwen_ref.sampling import Sampling, candidates

CHAINS = [
    dict(),
    dict(top_k=20),
    dict(top_k=20, top_p=0.8),
    dict(top_p=0.3, temperature=2.0),
    dict(min_p=0.4, temperature=0.5),
    dict(top_k=20, top_p=0.95, min_p=0.05, temperature=0.7),
    dict(top_k=20, presence_penalty=1.5),
    dict(top_k=30, repetition_penalty=1.3, frequency_penalty=0.4, presence_penalty=-0.5),
    dict(top_k=20, repetition_penalty=1.8, penalty_last_n=5),
]


@pytest.fixture(scope="module")
def server(small):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = os.environ | {"LD_LIBRARY_PATH": str(make.llama_bin())}
    options = f"--port {port} -c 512 -ctk f32 -ctv f32 -fa off --no-warmup".split()
    command = [make.llama_bin() / "llama-server", "-m", small, *options]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        for _ in range(100):
            try:
                urllib.request.urlopen(url + "/health", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        yield url
        process.terminate()


def first_probabilities(server: str, request: dict) -> list[dict]:
    """What the first token was drawn from; the server leaves out tokens that end inside a character."""
    for seed in range(50):
        content = json.dumps(request | {"seed": seed, "return_tokens": True}).encode()
        answer = json.loads(urllib.request.urlopen(server + "/completion", content, timeout=30).read())
        reported = answer.get("completion_probabilities", [])
        if [p["id"] for p in reported] == answer["tokens"]:
            return reported[0]["top_probs"]
    raise AssertionError("no answer with all its tokens")


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_the_same_candidates_with_the_same_probabilities(server, small, chain):
    model = load(small)
    seen = model.tokenizer.encode("the cat and the dog and the cat")
    logits = model.text.forward(seen, model.text.new_state())[-1, : len(model.tokenizer)]
    ids, probabilities = candidates(logits, seen, Sampling(**chain))

    neutral = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "repeat_penalty": 1}
    request = neutral | {"prompt": seen, "n_predict": 4, "n_probs": 40, "post_sampling_probs": True} | chain
    request["repeat_penalty"] = request.pop("repetition_penalty", 1)
    request["repeat_last_n"] = request.pop("penalty_last_n", 64)
    top = first_probabilities(server, request)
    theirs = {t["id"]: t["prob"] for t in top if t["prob"] > 0}
    ours = dict(zip(ids[: len(theirs)].tolist(), probabilities[: len(theirs)].tolist(), strict=True))
    assert ours.keys() == theirs.keys()
    assert len(theirs) == min(len(ids), 40)
    np.testing.assert_allclose([ours[i] for i in theirs], list(theirs.values()), rtol=1e-3, atol=1e-5)
