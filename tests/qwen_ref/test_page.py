"""The page of a comparison: its chart says what the table says, and nothing of a file gets in as HTML."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from gguf_io import open_gguf
from qwen_ref.config import read_config
from qwen_ref.oracle.compare import compare
from qwen_ref.oracle.golden import Entry, Golden, save
from qwen_ref.oracle.logits import best_of
from qwen_ref.oracle.page import page

FILE = open_gguf(Path(__file__).parents[1] / "fixtures" / "tiny-grouped.gguf")
CONFIG = replace(read_config(FILE), num_layers=12, hidden_size=50, vocab_size=50)
EVIL = "<script>alert('\"&')</script>"
# As a golden has them: a float32 engine is off by 1e-7 of the rms, a bfloat16 engine by 1e-3.
NAMES = ["embed_tokens", *(f"layers.{i}.{name}" for i in range(12) for name in ("mixed", "output")), "logits"]
ERRORS = {"bfloat16": (1e-3, 3e-3), "float16": (1e-4, 3e-4), "int8": (1e-3, 3e-3), "float32": (1e-7, 3e-7)}


def truth(*names):
    exact = np.random.default_rng(0).normal(size=(len(names), 4, 50))
    exact /= np.sqrt(np.mean(exact**2, axis=(1, 2), keepdims=True))  # an rms of 1
    entries = {name: Entry((4, 50), [0, 1, 2, 3], 1, 1.0, 3.0, dict(ERRORS)) for name in names}
    values = dict(zip(names, exact))
    rms = {name: np.ones(4) for name in names}
    inputs = {"token_ids": np.arange(4), "positions": np.tile(np.arange(4), (3, 1))}
    inputs |= dict(zip(("top_ids", "top_logits", "log_total"), best_of(exact[-1])))
    about = {"file": "model.gguf", "prompt": EVIL, "prompt_tokens": 4}
    return Golden(about, CONFIG, entries, inputs, values, rms)


def engine(golden, **errors):
    """All within float32, but for some that are off by so much."""
    return {name: x + errors.get(name, 1e-8) for name, x in golden.values.items()}


def svg_of(text):
    return ElementTree.fromstring(re.search("<svg.*</svg>", text, re.S)[0])


def dots(svg):
    """Of each tensor in the chart: how high it stands, and its class."""
    links = [link for link in svg.iter("a") if link.find("circle") is not None]
    return {
        link.get("href")[1:]: (-float((dot := link.find("circle")).get("cy")), dot.get("class"))
        for link in links
    }


def test_the_chart_shows_each_error_and_where_it_begins():
    golden = truth(*NAMES)
    wrong = {"embed_tokens": 0.0, "layers.3.mixed": 7e-7, "layers.5.output": 9e-7, "layers.6.mixed": 0.1}
    wrong["logits"] = np.nan
    report = compare(golden, engine(golden, **wrong), "float32")
    svg = svg_of(page(golden, report, ("golden", "dump")))
    drawn = dots(svg)
    assert list(drawn) == NAMES
    bad = {name for name, (_, kind) in drawn.items() if kind == "dot bad"}
    assert bad == {"layers.5.output", "layers.6.mixed", "logits"}
    height = {name: height for name, (height, _) in drawn.items()}
    assert (
        height["embed_tokens"]
        < height["layers.0.mixed"]
        < height["layers.5.output"]
        < height["layers.6.mixed"]
        < height["logits"]
    )
    ring = next(c for c in svg.iter("circle") if c.get("class") == "ring")
    assert -float(ring.get("cy")) == pytest.approx(height["layers.5.output"], abs=0.1)
    assert [t.text for t in svg.iter("text") if t.get("class") == "first"] == ["layers.5.output"]
    # The budget of float32, 8 times its error, lies between what is within it and what is not.
    budget = next(p for p in svg.iter("path") if p.get("class") == "line float32 allowed").get("d")
    (level,) = set(re.findall(r"M\S+ (\S+)H", budget))
    assert height["layers.3.mixed"] < -float(level) < height["layers.5.output"]


def test_verdict_and_table():
    golden = truth(*NAMES)
    good = page(golden, compare(golden, engine(golden), "float32"), ("golden", "dump"))
    assert "All 26 tensors that were compared are within what float32 explains." in good
    assert "Likely cause" not in good and 'class="dot bad"' not in good
    found = engine(golden, **{"layers.5.output": np.inf})
    del found["layers.1.mixed"]
    bad = page(golden, compare(golden, found, "bfloat16"), ("golden", "dump"))
    assert "layers.5.output is the first tensor that bfloat16 does not explain" in bad
    assert "Likely cause: some values are not finite." in bad
    assert "25 of 26 tensors were given." in bad and "<code>layers.1.mixed</code>" in bad
    assert re.findall(r'<tr id="(\S+)" class="(.+)">', bad) == [("layers.5.output", "bad first")]


def test_it_needs_nothing_and_lets_nothing_in():
    golden = truth(EVIL, "logits")
    report = compare(golden, engine(golden, **{EVIL: 1.0}), "float32")
    text = page(golden, report, (EVIL, EVIL))
    assert report.first.name == EVIL and "<script" not in text
    assert not re.search(r"https?:|url\(|@import|src=", text)
    assert EVIL in [t.text for t in svg_of(text).iter("text")]  # as text


@pytest.mark.parametrize("names", [["logits"], [f"layers.{i}.mixed" for i in range(400)]])
def test_small_and_large(names):
    golden = truth(*names)
    exactly = compare(golden, golden.values, "float64")
    svg = svg_of(page(golden, exactly, ("golden", "dump")))
    assert len(dots(svg)) == len(names)
    assert len(list(svg.iter("text"))) < 80  # layers' numbers stand where there is room


def test_command(tmp_path):
    golden = truth(*NAMES)
    save(golden, tmp_path / "a.safetensors")
    np.savez(tmp_path / "dump.npz", **engine(golden, logits=1.0))
    line = [sys.executable, "-m", "qwen_ref", "golden", "check", "a.safetensors", "dump.npz", "--html"]
    done = subprocess.run([*line, "page.html"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "<title>dump.npz beside a.safetensors</title>" in (tmp_path / "page.html").read_text(
        encoding="utf-8"
    )
    done = subprocess.run([*line, "no/page.html"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "page.html: cannot be written" in done.stderr
