"""Perplexity and KL divergence against llama-perplexity, and against transformers in float64.

Run with -s to see the figures. On F32 files both engines compute in float32, so what they print is to be the
same; on quantized files llama.cpp rounds activations to 8 bits.
"""

from __future__ import annotations

import contextlib
import io
import json
import re

import make
import numpy as np
import pytest
import torch
from conftest import made
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from gguf_io import open_gguf
from qwen_ref.cli import main
from qwen_ref.model.text import TextModel
from qwen_ref.perplexity import LogitsFile, ModelBase, cut, evaluate
from qwen_ref.tokenizer import Tokenizer

CONTEXT = 256
# One chunk in a batch, and one thread, as threads that share a core wait for each other. Without repacked
# weights: the kernels for AMX crash on these small files.
OPTIONS = f"-t 1 -c {CONTEXT} -b {CONTEXT} -ub {CONTEXT} -ctk f32 -ctv f32 -fa off --no-repack".split()
FIGURE = re.compile(
    r"^(?:\S+ I )?\s*([^:\n]+?)\s*: +(-?[\d.]+)(%?)(?: +± +(-?[\d.]+) *(%?))?\s*$", re.MULTILINE
)


@pytest.fixture(scope="module")
def model():
    return made("mini", 0, tiny_vocab=True)


@pytest.fixture(scope="module")
def q4(model):
    return next(path for path in model.quantized if "Q4_K_M" in path.name)


@pytest.fixture(scope="module")
def text(fixtures, tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text((fixtures / "texts.txt").read_text() * 3)
    return path


@pytest.fixture(scope="module")
def q4_logits(q4, text):
    """What llama.cpp predicts with the Q4_K_M file."""
    path = text.with_name("q4.bin")
    llama("-m", q4, "-f", text, "--save-all-logits", path)
    return path


def llama(*arguments) -> str:
    """What llama-perplexity prints. It runs again where its logger lost the last lines (common/log.cpp)."""
    for _ in range(10):
        output = make.run_llama("llama-perplexity", *arguments, *OPTIONS).stdout.decode()
        if "Final estimate" in output or "Same top p:" in output:
            return output
    raise AssertionError(output)


def ours(*arguments) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main(["perplexity", *map(str, arguments)]) == 0
    return output.getvalue()


def figures(output: str) -> dict[str, list[float]]:
    """The lines `name: value ± error` of either program."""
    return {name: [float(value), float(error or 0)] for name, value, _, error, _ in FIGURE.findall(output)}


@pytest.mark.parametrize("how", [["--backend", "numpy"], ["--backend", "numba"], ["--dtype", "float64"]])
def test_perplexity(model, text, how):
    theirs = re.search(r"PPL = (\S+) \+/- (\S+)", llama("-m", model.f32, "-f", text)).groups()
    found = ours("-m", model.f32, "-f", text, "-c", CONTEXT, *how)
    print(f"\n{' '.join(how)}: llama.cpp's {' '.join(theirs)}, {found}")
    assert "46 chunks of 256 tokens" in found
    numbers = re.search(r"PPL = (\S+) \+/- (\S+)", found).groups()
    assert list(map(float, numbers)) == pytest.approx(list(map(float, theirs)), rel=1e-6)


def test_tokens(model, text, q4_logits):
    """The same chunks of the same tokens are read."""
    chunks = cut(
        Tokenizer(open_gguf(model.f32)).encode(text.read_text().removesuffix("\n")), CONTEXT, None, ""
    )
    assert np.array_equal(LogitsFile(q4_logits).chunks, chunks)


def test_every_figure_of_the_divergence(model, q4_logits):
    """Both engines on the F32 file, with the base that llama.cpp saved: up to the last digit or two."""
    theirs = figures(llama("-m", model.f32, "--kl-divergence", "--kl-divergence-base", q4_logits))
    found = figures(ours("-m", model.f32, "--base", q4_logits, "--backend", "numpy"))
    assert len(theirs) > 30 and theirs.keys() <= found.keys()
    assert theirs["Mean    KLD"][0] > 0.05
    worst = max(theirs, key=lambda name: abs(found[name][0] - theirs[name][0]))
    print(f"\n{len(theirs)} figures, the furthest: {worst}: {found[worst]} and {theirs[worst]}")
    for name, values in theirs.items():
        near = 3e-6 if "KLD" in name else 0.05 if "top" in name else 2e-3  # 0.05 %: three of 5,842 tokens
        assert found[name] == pytest.approx(values, rel=2e-6, abs=near), name


def test_divergence_of_a_quantized_file(model, q4, text):
    """With the F32 file's logits as the base: their 8-bit activations are the only difference."""
    base = text.with_name("f32.bin")
    llama("-m", model.f32, "-f", text, "--save-all-logits", base)
    theirs = figures(llama("-m", q4, "--kl-divergence", "--kl-divergence-base", base))["Mean    KLD"]
    for how in ["--dtype", "float64"], ["--backend", "numba"]:
        found = json.loads(ours("-m", q4, "--base", base, "--json", *how))["kld"]
        print(f"\n{' '.join(how)}: KLD {found}, llama.cpp's {theirs}")
        assert found == pytest.approx(theirs, rel=0.05)


def test_llama_cpp_reads_what_is_saved(model, text, tmp_path):
    saved = tmp_path / "logits.bin"
    said = ours("-m", model.f32, "-f", text, "-c", CONTEXT, "--save-logits", saved, "--dtype", "float64")
    theirs = figures(llama("-m", model.f32, "--kl-divergence", "--kl-divergence-base", saved))
    print(
        "\n", {name: theirs[name] for name in ("Mean PPL(Q)", "Mean PPL(base)", "Maximum KLD", "Same top p")}
    )
    assert theirs["Mean PPL(base)"][0] == pytest.approx(
        float(said.split("PPL = ")[1].split(" ")[0]), rel=1e-6
    )
    assert max(theirs["Maximum KLD"][0], -theirs["Minimum KLD"][0]) < 2e-5
    assert theirs["Same top p"][0] > 99.8


def test_scores_are_exact(model, q4, text, tmp_path):
    """nll and divergence of a chunk, from transformers' logits in float64 and torch's own losses."""
    network, base = (TextModel(open_gguf(path), np.float64) for path in (q4, model.f32))
    chunks = cut(Tokenizer(network.file).encode(text.read_text()), CONTEXT, 1, "")
    (scores,) = evaluate(network, chunks, ModelBase(base, chunks))
    logits = make.transformers_logits(model.checkpoint, [q4, model.f32], chunks[0], tmp_path)
    q, p = (torch.from_numpy(logits[path.stem][CONTEXT // 2 : -1]) for path in (q4, model.f32))
    targets = torch.from_numpy(chunks[0, CONTEXT // 2 + 1 :].astype(np.int64))
    nll = cross_entropy(q, targets, reduction="none").numpy()
    kld = kl_div(log_softmax(q, 1), log_softmax(p, 1), reduction="none", log_target=True).sum(1).numpy()
    far = abs(scores["nll"] - nll).max(), abs(scores["kld"] - kld).max()
    print(f"\nfurthest from transformers: nll {far[0]:.1e}, divergence {far[1]:.1e} of {kld.mean():.3f}")
    assert max(far) < 1e-9
    assert np.array_equal(scores["same_top"], (q.argmax(1) == p.argmax(1)).numpy())
