"""Our sampling chain against llama.cpp's: the probabilities that llama-server would draw from."""

from __future__ import annotations

import numpy as np
import pytest
from llama_server import Ask, serve

from qwen_ref import load
from qwen_ref.sampling import Sampling, candidates, counted

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
    dict(top_k=20, repetition_penalty=1.8, presence_penalty=1.5, penalty_last_n=-1),
    dict(top_k=20, repetition_penalty=1.8, penalty_last_n=0),
]


@pytest.fixture(scope="module")
def server(small):
    with serve(small, "-c", 512) as ask:
        yield ask


def first_probabilities(ask: Ask, request: dict) -> list[dict]:
    """What the first token was drawn from; the server leaves out tokens that end inside a character."""
    for seed in range(50):
        answer = ask("/completion", request | {"seed": seed, "return_tokens": True})
        reported = answer.get("completion_probabilities", [])
        if [p["id"] for p in reported] == answer["tokens"]:
            return reported[0]["top_probs"]
    raise AssertionError("no answer with all its tokens")


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_the_same_candidates_with_the_same_probabilities(server, small, chain):
    model = load(small)
    seen = model.tokenizer.encode("the cat and the dog and the cat")
    logits = model.text.logits(model.text.forward(seen, model.text.new_state()))[-1, : len(model.tokenizer)]
    chain = {"penalty_last_n": 64} | chain  # llama.cpp's default
    s = Sampling(**chain)
    ids, probabilities = candidates(logits, counted(np.array(seen), len(seen), s), s)

    neutral = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "repeat_penalty": 1}
    request = neutral | {"prompt": seen, "n_predict": 4, "n_probs": 40, "post_sampling_probs": True} | chain
    request["repeat_penalty"] = request.pop("repetition_penalty", 1)
    last_n = request.pop("penalty_last_n")
    request["repeat_last_n"] = 512 if last_n == -1 else last_n  # the server's context; it knows no "all"
    top = first_probabilities(server, request)
    theirs = {t["id"]: t["prob"] for t in top if t["prob"] > 0}
    ours = dict(zip(ids[: len(theirs)].tolist(), probabilities[: len(theirs)].tolist(), strict=True))
    assert ours.keys() == theirs.keys()
    assert len(theirs) == min(len(ids), 40)
    np.testing.assert_allclose([ours[i] for i in theirs], list(theirs.values()), rtol=1e-3, atol=1e-5)
