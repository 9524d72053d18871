"""Our logits against transformers in float64 and float32, and against llama.cpp, on the same weights.

Run with -s to see each distance. The bounds: float64 within 1e-9 of transformers' float64 at every position;
float32 at most twice as far from float64 as transformers' own float32; llama.cpp's F32 result at most twice
as far from our float32 as from float64.
"""

from __future__ import annotations

import make
import numpy as np
import pytest

from gguf_io import open_gguf
from qwen_ref.kernels import KERNELS
from qwen_ref.model.text import TextModel
from qwen_ref.tokenizer import Tokenizer

LENGTH = 300
PREFIXES = [5, 11, 17, 30, 47, 63, 64, 65, 66, 100, 127, 128, 129, 200, 257, 300]


def prompt_ids(path, fixtures) -> np.ndarray:
    """300 tokens of text whose every prefix of PREFIXES is again text that is cut into the same tokens."""
    tokenizer = Tokenizer(open_gguf(path))
    lines = (fixtures / "texts.txt").read_text().splitlines()
    text = " ".join([lines[0], lines[1], lines[-1], lines[-2].replace("'", ""), *lines[2:20]])
    return np.array(tokenizer.encode(text)[:LENGTH])


class Case:
    """One model file: token ids, transformers' logits in both precisions, ours in any."""

    def __init__(self, path, token_ids, float64, float32):
        self.path, self.token_ids, self.float64, self.float32 = path, token_ids, float64, float32

    def ours(self, dtype, piece=LENGTH):
        network = TextModel(open_gguf(self.path), dtype, memory_budget=12 << 30)
        state = network.new_state()
        pieces = (self.token_ids[i : i + piece] for i in range(0, LENGTH, piece))
        return np.concatenate([network.logits(network.forward(ids, state)) for ids in pieces])


@pytest.fixture(scope="module")
def cases(model, fixtures, tmp_path_factory) -> dict[str, Case]:
    scratch = tmp_path_factory.mktemp("logits")
    token_ids = prompt_ids(model.f32, fixtures)
    assert len(token_ids) == LENGTH
    results = []
    for dtype in "float64", "float32":
        # The F32 file is compared with the original checkpoint: that checks the converter's conventions too.
        plain = make.transformers_logits(model.checkpoint, [model.f32], token_ids, scratch, dtype, True)
        quantized = make.transformers_logits(model.checkpoint, model.quantized, token_ids, scratch, dtype)
        results.append(plain | quantized)
    files = [model.f32, *model.quantized]
    return {
        path.stem.split("-")[-1]: Case(path, token_ids, *(r[path.stem] for r in results)) for path in files
    }


def distance(a, b) -> float:
    return float(np.abs(a - b).max())


@pytest.mark.parametrize("kind", ["f32", "Q4_0", "Q4_K_M", "Q8_0"])
def test_transformers(cases, model, kind):
    case = cases[kind]
    assert case.float64.std() > 0.5
    ours64, ours32 = case.ours(np.float64), case.ours(np.float32)
    theirs = distance(case.float32, case.float64)
    print(
        f"\n{model.name} {kind}: float64 {distance(ours64, case.float64):.1e}, float32 ours "
        f"{distance(ours32, case.float64):.1e}, transformers' {theirs:.1e}, std {case.float64.std():.2f}"
    )
    assert distance(ours64, case.float64) < 1e-9
    assert distance(ours32, case.float64) <= 2 * theirs

    top = np.sort(case.float64, axis=1)
    clear = top[:, -1] - top[:, -2] > 4 * theirs  # twice the error of either logit
    assert clear.mean() > 0.9
    assert (ours32.argmax(axis=1) == case.float64.argmax(axis=1))[clear].all()


def test_prefill_in_pieces(cases):
    case = cases["f32"]
    whole64, whole32 = case.ours(np.float64), case.ours(np.float32)
    bound = 2 * distance(case.float32, case.float64)
    for piece in 1, 7, 64:
        assert distance(case.ours(np.float64, piece), whole64) < 1e-12
        assert distance(case.ours(np.float32, piece), whole32) <= bound


def text_of_prefix(tokenizer, token_ids, n):
    """The text of the first n tokens, or None where it is cut into other tokens: inside a character."""
    text = tokenizer.decode(token_ids[:n])
    return text if tokenizer.encode(text) == token_ids[:n].tolist() else None


def llama_logits(path, text, token_ids, scratch, *options) -> np.ndarray:
    """llama.cpp's logits after the last token of a text.

    Without repacked weights: its kernels for AMX crash on these small files (11434, a processor with AMX).
    On one thread: its threads wait for each other on a busy machine, seconds for a moment's work. And with a
    short context: that of the file takes gigabytes.
    """
    save = ("--save-logits", "--logits-output-dir", scratch)
    make.run_llama("llama-debug", "--no-repack", *"-t 1 -c 512 -m".split(), path, "-p", text, *save, *options)
    tokens = np.fromfile(next(scratch.glob("*-tokens.bin")), np.int32)
    assert tokens.tolist() == token_ids.tolist()
    return np.fromfile(next(p for p in scratch.glob("*.bin") if "tokens" not in p.name), np.float32)


def test_llama_cpp(cases, model, tmp_path):
    case = cases["f32"]
    tokenizer = Tokenizer(open_gguf(case.path))
    ours = case.ours(np.float32)
    exact = ("-ctk", "f32", "-ctv", "f32", "-fa", "off")
    to_ours, to_float64 = [], []
    for n in PREFIXES:
        if text := text_of_prefix(tokenizer, case.token_ids, n):
            logits = llama_logits(case.path, text, case.token_ids[:n], tmp_path, *exact)
            to_ours.append(distance(logits, ours[n - 1]))
            to_float64.append(distance(logits, case.float64[n - 1]))
    print(f"\n{model.name}: llama.cpp to our float32 {max(to_ours):.1e}, to float64 {max(to_float64):.1e}")
    assert len(to_ours) >= 14
    assert max(to_ours) <= 2 * max(to_float64)


def divergence(reference, logits) -> float:
    """Mean KL divergence of the distributions that logits [T, vocab] stand for."""
    p, q = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (reference, logits.astype(np.float64)))
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K_M", "Q8_0"])
def test_kernels_are_as_near_as_llama_cpp(cases, model, kind, tmp_path):
    """Both round activations to 8 bits; ours may be at most 1.1 times as far from the exact result as theirs.

    Here over 25 positions of a small model, where a single position weighs much: 1.3 is asked for.
    """
    case = cases[kind]
    tokenizer = Tokenizer(open_gguf(case.path))
    network = TextModel(open_gguf(case.path), layers=KERNELS)
    ours = network.logits(network.forward(case.token_ids, network.new_state()))
    positions, theirs = [], []
    for n in range(6, LENGTH, 12):
        if text := text_of_prefix(tokenizer, case.token_ids, n):
            positions.append(n - 1)
            theirs.append(llama_logits(case.path, text, case.token_ids[:n], tmp_path))
    exact = case.float64[positions]
    we, they = divergence(exact, ours[positions]), divergence(exact, np.array(theirs))
    print(f"\n{model.name} {kind}: mean KL divergence ours {we:.2e}, llama.cpp's {they:.2e}")
    assert len(theirs) > 20
    assert we <= 1.3 * they
