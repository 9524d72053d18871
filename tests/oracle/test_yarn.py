"""YaRN: our logits against transformers in float64, and against llama.cpp on the same F32 file.

Run with -s to see each distance. llama.cpp (11434) reads factor and original_context_length of a qwen35 file,
and none of yarn_beta_fast, yarn_beta_slow and yarn_attn_factor, which the converter writes where a checkpoint
gives them; transformers obeys them, and so does this project. Where they are given, the two engines therefore
disagree by far more than rounding, and llama.cpp is expected to agree with a model that has their defaults.
"""

from __future__ import annotations

import math
from dataclasses import replace

import make
import numpy as np
import pytest
from test_logits import LENGTH, PREFIXES, distance, llama_logits, prompt_ids, text_of_prefix

from gguf_io import open_gguf
from qwen_ref.config import Yarn
from qwen_ref.model.text import TextModel
from qwen_ref.tokenizer import Tokenizer

SCALINGS = {
    "the defaults": dict(factor=4.0, original_max_position_embeddings=64),
    "everything given": dict(
        factor=3.7,
        original_max_position_embeddings=200,
        beta_fast=8.0,
        beta_slow=0.5,
        attention_factor=1.25,
    ),
}


@pytest.fixture(scope="module", params=SCALINGS)
def case(request, fixtures, tmp_path_factory):
    """A model's file, its scaling, 300 token ids and transformers' logits in float64."""
    out, scaling = tmp_path_factory.mktemp("yarn"), SCALINGS[request.param]
    path = make.make_model("mini", out, outtype="f32", tiny_vocab=True, yarn=scaling)
    ids = prompt_ids(path, fixtures)
    logits = make.transformers_logits(out / "mini-hf", [path], ids, out, checkpoint_weights=True)
    return path, scaling, ids, logits[path.stem]


def ours(path, ids, dtype=np.float64, **yarn) -> np.ndarray:
    """Logits [T, vocab] with the file's scaling, or another one."""
    network = TextModel(open_gguf(path), dtype)
    if yarn:
        network.config = replace(network.config, **yarn)
    return network.logits(network.forward(ids, network.new_state()))


def test_transformers(case):
    path, _, ids, theirs = case
    unscaled = distance(ours(path, ids, yarn=None), theirs)
    print(f"\nfloat64 {distance(ours(path, ids), theirs):.1e}; without YaRN {unscaled:.1e}")
    assert len(ids) == LENGTH and unscaled > 0.1
    assert distance(ours(path, ids), theirs) < 1e-9


def test_llama_cpp(case, tmp_path):
    path, scaling, ids, exact = case
    factor, trained = scaling["factor"], scaling["original_max_position_embeddings"]
    known = Yarn(factor, trained, 32, 1, 0.1 * math.log(factor) + 1)  # what llama.cpp takes of it
    as_llama, as_llama32 = (ours(path, ids, dtype, yarn=known) for dtype in (np.float64, np.float32))
    tokenizer, flags = Tokenizer(open_gguf(path)), ("-ctk", "f32", "-ctv", "f32", "-fa", "off")
    found = {
        n - 1: llama_logits(path, text, ids[:n], tmp_path, *flags)
        for n in PREFIXES
        if (text := text_of_prefix(tokenizer, ids, n))
    }
    positions, theirs = list(found), np.array(list(found.values()))
    to_known, to_float32, to_exact = (distance(theirs, x[positions]) for x in (as_llama, as_llama32, exact))
    print(
        f"\nllama.cpp to what it knows {to_known:.1e} (float32 {to_float32:.1e}), to the file {to_exact:.1e}"
    )
    assert len(found) >= 14
    assert to_float32 <= 2 * to_known < 1e-4
    assert (to_exact > 0.1) == ("beta_fast" in scaling)
