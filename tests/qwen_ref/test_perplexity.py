"""Perplexity and KL divergence: what is scored, the figures made of it, the file of logits, the command."""

import json
import math
import statistics as by_python
import struct
import sys

import numpy as np
import pytest

from gguf_io import open_gguf
from qwen_ref.cli import main
from qwen_ref.cli import perplexity as cli
from qwen_ref.model.text import TextModel
from qwen_ref.perplexity import (
    BLOCK,
    SCORE,
    LogitsFile,
    ModelBase,
    evaluate,
    log_softmax,
    pack,
    score,
    statistics,
    unpack,
)


@pytest.fixture
def text(fixtures, tmp_path):
    """A text of 1,000 tokens, and so of 10 chunks of 100."""
    path = tmp_path / "text.txt"
    path.write_text("12345 78.0" * 100)  # each digit and mark is a token
    return path


def perplexity(*arguments):
    return main(["perplexity", *map(str, arguments)])


def test_scores_are_those_of_transformers_logits(fixtures):
    """80 tokens are one chunk; the fixtures have the logits of every fourth, of two models."""
    names = "tiny", "tiny-grouped"
    model, other = (TextModel(open_gguf(fixtures / f"{name}.gguf"), np.float64) for name in names)
    stored = [np.load(fixtures / f"{name}.npz") for name in names]
    ids = stored[0]["token_ids"]
    (scores,) = evaluate(model, ids[None], ModelBase(other, ids[None]))
    assert len(scores) == 80 - 40 - 1  # the last token is followed by none
    for place in range(43, 79, 4):
        log_p, log_q = (
            np.log(np.exp(s["logits"][place // 4]) / np.exp(s["logits"][place // 4]).sum()) for s in stored
        )
        token = ids[place + 1]
        expected = (
            -log_p[token],
            -log_q[token],
            (np.exp(log_q) * (log_q - log_p)).sum(),
            np.exp(log_p[token]) - np.exp(log_q[token]),
            log_p.argmax() == log_q.argmax(),
        )
        assert list(scores[place - 40]) == pytest.approx(expected, abs=1e-9), place


def test_statistics():
    """Against Python's own module, and errors of functions of two means against what a simulation spreads."""
    rng = np.random.default_rng(0)
    draw = rng.multivariate_normal([2.0, 1.9], [[1.0, 0.8], [0.8, 1.2]], (400, 500))  # [runs, n, 2]
    scores = np.zeros((400, 500), SCORE)
    scores["nll"], scores["nll_base"] = draw[..., 0], draw[..., 1]
    scores["kld"], scores["delta_p"] = rng.exponential(size=(400, 500)), rng.normal(size=(400, 500))
    scores["same_top"] = rng.random((400, 500)) < 0.9
    runs = [statistics(s) for s in scores]
    one, nll, kld = runs[0], draw[0, :, 0].tolist(), scores[0]["kld"].tolist()
    assert one["ppl"][0] == pytest.approx(math.exp(by_python.fmean(nll)))
    assert one["kld"] == pytest.approx([by_python.fmean(kld), by_python.stdev(kld) / 500**0.5])
    assert one["kld_percentiles"]["95"] == pytest.approx(
        by_python.quantiles(kld, n=20, method="inclusive")[-1]
    )
    assert one["correlation"] == pytest.approx(by_python.correlation(nll, draw[0, :, 1].tolist()))
    for name in (
        "ppl",
        "ppl_base",
        "ln_ratio",
        "ratio",
        "difference",
        "kld",
        "delta_p",
        "delta_p_rms",
        "same_top",
    ):
        values, errors = np.transpose([run[name] for run in runs])
        assert errors.mean() == pytest.approx(values.std(), rel=0.12), name
    scores["nll_base"] = np.nan
    assert statistics(scores[0]) == {"ppl": one["ppl"]}


def handmade(vocab: int, context: int = 8, count: int = 2) -> tuple[bytes, np.ndarray]:
    """A file as llama.cpp's perplexity.cpp writes it, and its log-probabilities [count, places, vocab]."""
    rng = np.random.default_rng(vocab)
    places = context - 1 - context // 2
    data = b"_logits_" + struct.pack("<Iii", context, vocab, count)
    data += struct.pack(f"<{count * context}i", *rng.integers(0, vocab, count * context))
    expected = []
    for _ in range(count * places):
        words = rng.integers(0, 65536, vocab).tolist()
        data += struct.pack(f"<ff{vocab}H{vocab % 2 * 2}x", 1 / 4096, -16.5, *words)
        expected.append([word / 4096 - 16.5 for word in words])
    return data, np.reshape(expected, (count, places, vocab))


@pytest.mark.parametrize("vocab", [6, 7])  # records of an odd vocabulary are padded
def test_a_file_of_llama_cpp(tmp_path, vocab):
    path = tmp_path / "logits.bin"
    data, expected = handmade(vocab)
    path.write_bytes(data)
    file = LogitsFile(path)
    assert file.chunks.shape == (2, 8) and file.vocab_size == vocab
    assert np.array_equal([list(file.predictions(i)) for i in range(2)], expected)


def test_16_bits_hold_what_is_up_to_16_below_the_largest():
    for x in np.linspace(-30, 5, 1001), np.zeros(7):
        log_p = log_softmax(x)
        words = np.frombuffer(pack(log_p), "<u2")
        nearest = np.maximum(log_p, log_p.max() - 16)
        assert unpack(words, len(x)) == pytest.approx(nearest, abs=0.51 * 16 / 65535)


def test_what_a_file_does_not_hold_does_not_count():
    """As in llama.cpp; with a model as the base all counts."""
    p_base, p = np.array([0.75, 0.25 - 5e-8, 5e-8]), np.array([0.7, 0.3 - 1e-30, 1e-30])
    terms = p_base * np.log(p_base / p)
    for least, count in (LogitsFile.least, 2), (ModelBase.least, 3):
        found = score(np.log(p), 0, np.log(p_base), least)
        assert found[2] == pytest.approx(terms[:count].sum(), rel=1e-9)


def test_a_text_is_read_as_llama_cpp_does(tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_bytes(b"a\r\nb\n\n")
    assert cli.read_text(str(path)) == "a\r\nb\n" and capsys.readouterr().err == ""
    path.write_bytes("e\u0301".encode())
    assert cli.read_text(str(path)) == "e\u0301" and "normalized" in capsys.readouterr().err


def test_what_is_saved_is_read_again(fixtures, text, tmp_path, capsys):
    saved = tmp_path / "logits.bin"
    model = "--model", fixtures / "tiny-wide.gguf", "--backend", "numpy", "--json"
    assert perplexity(*model, "--text", text, "-c", 100, "--chunks", 3, "--save-logits", saved) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["chunks"], first["scored"], first["ppl"][0] > 1) == (3, 3 * 49, True)
    assert perplexity(*model, "--base", saved) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["ppl"] == first["ppl"] == pytest.approx(again["ppl_base"], rel=1e-5)
    assert max(map(abs, again["kld_percentiles"].values())) < 1e-5 and again["same_top"][0] > 0.97

    # Another model differs from the file as it does from the model that wrote it.
    other = "--model", fixtures / "tiny-grouped.gguf", "--backend", "numpy", "--json"
    assert perplexity(*other, "--base", saved, "--chunks", 2) == 0
    from_file = json.loads(capsys.readouterr().out)
    assert (from_file["chunks"], from_file["chunks_wanted"], from_file["context"]) == (2, 2, 100)
    assert perplexity(*other, "--base", model[1], "--text", text, "-c", 100, "--chunks", 2) == 0
    live = json.loads(capsys.readouterr().out)
    for name in "ppl", "ppl_base", "ln_ratio", "kld", "delta_p", "delta_p_rms":
        assert from_file[name] == pytest.approx(live[name], rel=1e-4, abs=1e-7), name


def test_a_chunk_is_read_in_pieces_and_has_512_tokens(fixtures, tmp_path, monkeypatch, capsys):
    """Half of the memory that is free is for weights; the first of two models takes half of that."""
    asked, real = [], cli.engine.load
    monkeypatch.setattr(cli.machine, "available_memory", lambda: 8 << 20)
    monkeypatch.setattr(cli.engine, "load", lambda *a, **o: asked.append(o["memory_budget"]) or real(*a, **o))
    model, path = ("--model", fixtures / "tiny.gguf", "--backend", "numpy", "--json"), tmp_path / "text"
    path.write_text("12345 78.0" * 103)
    figures = []
    for block in 512, 300:
        monkeypatch.setattr("qwen_ref.perplexity.PREFILL_BLOCK", block)
        assert perplexity(*model, "--text", path, "--base", model[1]) == 0
        figures.append(json.loads(capsys.readouterr().out))
        assert (figures[-1]["chunks"], figures[-1]["context"]) == (2, 512)
    assert figures[0]["ppl"] == pytest.approx(figures[1]["ppl"], rel=1e-4) and asked == [2 << 20, 4 << 20] * 2
    path.write_text("1234567890" * 2)  # two chunks of ten tokens are enough, and no more is needed
    assert perplexity(*model, "--text", path, "-c", 8, "--memory", 1) == 0
    assert json.loads(capsys.readouterr().out)["scored"] == 2 * 3 and asked[-1] == 1 << 30
    assert perplexity(*model, "--text", path, "-c", 10) == 0
    assert perplexity(*model, "--text", path, "-c", 7) == 2 and asked[-1] == 4 << 20


def test_the_order_in_which_chunks_come_does_not_count(fixtures, text, capsys, monkeypatch):
    """As on a cluster: all sums are of the chunks in their order, to the last digit."""
    draws, found = np.random.default_rng(0), []
    scores = np.zeros((10, 49), SCORE)
    for name in "nll", "nll_base", "kld", "delta_p":
        scores[name] = draws.random(scores.shape)
    for order in range(10), (3, 1, 4, 0, 5, 9, 2, 6, 8, 7):
        monkeypatch.setattr(cli, "scores_of", lambda *_, order=order: ((n, scores[n]) for n in order))
        assert perplexity("--model", fixtures / "tiny.gguf", "--text", text, "-c", 100, "--json") == 0
        found.append(capsys.readouterr().out)
    assert found[0] == found[1]


def test_few_logits_are_in_memory_at_a_time(fixtures, monkeypatch):
    asked, logits = [], TextModel.logits
    monkeypatch.setattr(
        TextModel, "logits", lambda self, hidden: asked.append(len(hidden)) or logits(self, hidden)
    )
    model = TextModel(open_gguf(fixtures / "tiny.gguf"))
    (scores,) = evaluate(model, np.ones((1, 400), int))
    assert sum(asked) == len(scores) == 199 and max(asked) == BLOCK


def test_ctrl_c_tells_what_is_known(fixtures, text, tmp_path, capsys, monkeypatch):
    def interrupted(*arguments):
        scores = evaluate(*arguments)
        yield next(scores)
        yield next(scores)
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "evaluate", interrupted)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    saved = tmp_path / "logits.bin"
    model = "--model", fixtures / "tiny.gguf", "--backend", "numpy"
    assert perplexity(*model, "--text", text, "-c", 100, "--save-logits", saved) == 130
    out, err = capsys.readouterr()
    assert out.startswith("2 of 10 chunks of 100 tokens, 98 predictions scored\nFinal estimate: PPL = ")
    assert "[2]" + out.split("= ")[1].split(" ")[0] + ", of 10 chunks, about" in err
    assert err.endswith(f"{saved}: not written, as chunks are missing\n") and list(tmp_path.iterdir()) == [
        text
    ]


def test_what_cannot_be_used_is_one_sentence_and_status_2(fixtures, text, tmp_path, capsys):
    model = "--model", fixtures / "tiny.gguf"
    whole = handmade(1024)[0]
    files = {
        "empty.txt": b"",
        "latin.txt": b"caf\xe9 " * 1000,
        "cut.bin": whole[:-1],
        "long.bin": whole + b"x",
        "other.bin": handmade(7)[0],
        "token.bin": whole[:20] + struct.pack("<i", 1024) + whole[24:],
        "huge.bin": b"_logits_" + struct.pack("<Iii", 2**32 - 1, 2**31 - 1, 2**31 - 1) + bytes(1000),
        "negative.bin": b"_logits_" + struct.pack("<Iii", 512, 1024, -1),
        "head.bin": b"_logits_",
        "whole.bin": whole,
    }
    wrong = {"nan": (math.nan, -1), "inf": (math.inf, -1), "large": (3e38, -1), "rising": (-0.1, -1)}
    wrong |= {"certain": (1e-3, 0.5), "lowest": (0.1, -math.inf)}
    for name, (step, lowest) in wrong.items():
        files[f"{name}.bin"] = whole[:84] + struct.pack("<ff", step, lowest) + whole[92:]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    cases = [
        ([], "no text"),
        (["-f", "none.txt"], "none.txt: cannot be read"),
        (["-f", "empty.txt"], "empty.txt: 0 tokens are fewer than two chunks of 512"),
        (["-f", text, "-c", 501], "1000 tokens are fewer than two chunks of 501"),
        (["-f", "latin.txt"], "latin.txt: byte 3 is not UTF-8"),
        (["-f", text, "-c", 0], "context: 0 is less than 8"),
        (["-f", text, "-c", 1 << 20], "context: 1048576 is not in 1 to 262144"),
        (["-f", text, "--chunks", 0], "chunks: 0 is less than 1"),
        (["-f", text, "--base", text], "text.txt: "),
        (["-f", text, "--base", tmp_path], ""),
        (["-f", text, "-c", 100, "--save-logits", "none/x.bin"], "none/x.bin: cannot be written"),
        (["--base", "whole.bin", "-f", text], "is not needed"),
        (["--base", "whole.bin", "-c", 100], "--context: 100 is not that of"),
        (["--base", "cut.bin"], "cut.bin: has 12419 bytes, but 2 chunks of 8 tokens"),
        (["--base", "long.bin"], "long.bin: has 12421 bytes, but 2 chunks of 8 tokens"),
        (["--base", "other.bin"], "other.bin: has 7 logits a token"),
        (["--base", "token.bin"], "token.bin: a token id is not in 0 to 1023"),
        *(
            (["--base", f"{name}.bin"], f"{name}.bin: the logits of chunk 1 are no logarithms of probabil")
            for name in wrong
        ),
        (["--base", "huge.bin"], "huge.bin: has 1020 bytes"),
        (["--base", "negative.bin"], "negative.bin: -1 chunks"),
        (["--base", "head.bin"], "head.bin: is no file of logits"),
    ]
    for arguments, words in cases:
        arguments = [tmp_path / a if a in files or a in ("none.txt", "none/x.bin") else a for a in arguments]
        assert perplexity(*model, *arguments) == 2, words
        out, err = capsys.readouterr()
        assert words in err and err.count("\n") == 1 and out == "", err


def test_models_of_other_vocabularies(fixtures, text, capsys):
    base = "--base", fixtures.parents[1] / "qwen_ref" / "shipped" / "tiny-Q4_K_M.gguf"
    assert perplexity("-m", fixtures / "tiny.gguf", "-f", text, "-c", 100, *base) == 2
    assert "tokenizer.ggml.tokens: are not those of" in capsys.readouterr().err


def test_statistics_as_llama_perplexity_shows_them(capsys):
    about = dict(chunks=2, chunks_wanted=3, context=512, scored=510)
    cli.print_statistics(about, {"ppl": (9.107952, 0.06785)})
    first = "2 of 3 chunks of 512 tokens, 510 predictions scored"
    assert capsys.readouterr().out == f"{first}\nFinal estimate: PPL = 9.1080 +/- 0.06785\n"
    found = dict(ppl=(9.1, 0.07), ppl_base=(8.2, 0.06), correlation=0.99904, ln_ratio=(0.03, 0.002))
    found |= dict(
        ratio=(1.04, 0.003), difference=(0.9, 0.004), kld=(0.031, 0.0001), delta_p=(-0.00596, 0.00014)
    )
    found |= dict(kld_percentiles={"0": 0.0, "50": 0.02, "99.9": 0.5, "100": 1.25}, same_top=(0.92, 0.0012))
    found |= dict(delta_p_percentiles={"0": -0.5, "5": -0.25, "100": 0.29859}, delta_p_rms=(0.04, 0.0005))
    cli.print_statistics(about | {"chunks_wanted": 2}, found)
    assert capsys.readouterr().out.splitlines() == [
        "2 chunks of 512 tokens, 510 predictions scored",
        "",
        "====== Perplexity statistics ======",
        "Mean PPL(Q)                   :   9.100000 ±   0.070000",
        "Mean PPL(base)                :   8.200000 ±   0.060000",
        "Cor(ln(PPL(Q)), ln(PPL(base))):  99.90%",
        "Mean ln(PPL(Q)/PPL(base))     :   0.030000 ±   0.002000",
        "Mean PPL(Q)/PPL(base)         :   1.040000 ±   0.003000",
        "Mean PPL(Q)-PPL(base)         :   0.900000 ±   0.004000",
        "",
        "====== KL divergence statistics ======",
        "Mean    KLD:   0.031000 ±   0.000100",
        "Maximum KLD:   1.250000",
        "99.9%   KLD:   0.500000",
        "Median  KLD:   0.020000",
        "Minimum KLD:   0.000000",
        "",
        "====== Token probability statistics ======",
        "Mean    Δp: -0.596 ± 0.014 %",
        "Maximum Δp: 29.859%",
        " 5.0%   Δp: -25.000%",
        "Minimum Δp: -50.000%",
        "RMS Δp    :  4.000 ± 0.050 %",
        "Same top p: 92.000 ± 0.120 %",
    ]


def test_several_texts(fixtures, text, tmp_path, capsys):
    """Each as if it were alone, and all of them together; those that are too short are left out."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "b.txt").write_text("9 8 7" * 60)
    (folder / "a.txt").write_text("1" * 150)
    (folder / ".hidden").write_text("x")
    lines = tmp_path / "texts.jsonl"
    lines.write_text(json.dumps({"text": "5 6.7" * 80}) + "\n\n" + json.dumps("0 1" * 90))
    model = ["--model", fixtures / "tiny.gguf", "--context", 100, "--json"]
    assert perplexity(*model, "--text", text, folder, lines, "--chunks", 2) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert f"{folder / 'a.txt'} is left out: shorter than two chunks of 100 tokens" in told.err
    names = [str(text), str(folder / "b.txt"), f"{lines}: line 1", f"{lines}: line 3"]
    assert [one["text"] for one in found["texts"]] == names and found["chunks"] == 8
    assert perplexity(*model, "--text", folder / "b.txt", "--chunks", 2) == 0
    assert json.loads(capsys.readouterr().out)["ppl"] == pytest.approx(found["texts"][1]["ppl"])
    mean = sum(math.log(one["ppl"][0]) for one in found["texts"]) / 4  # each has two chunks
    assert math.log(found["ppl"][0]) == pytest.approx(mean)
    assert perplexity(*model[:-1], "--text", text, lines, "--chunks", 2) == 0
    assert f"{lines}: line 1      2 chunks  PPL = " in capsys.readouterr().out
    lines.write_text('{"txt": "a"}')
    (tmp_path / "none").mkdir()
    for given, said in (lines, "line 1: text: is missing"), (tmp_path / "none", "the folder holds no file"):
        assert perplexity(*model, "--text", text, given) == 2
        assert f"{given}: {said}" in capsys.readouterr().err
