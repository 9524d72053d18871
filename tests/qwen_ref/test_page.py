"""The page of a comparison: its chart says what the table says, and nothing of a file gets in as HTML."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from gguf_io import open_gguf
from qwen_ref.cli import main
from qwen_ref.config import read_config
from qwen_ref.oracle.compare import Difference, Report, compare
from qwen_ref.oracle.golden import Entry, Golden, save
from qwen_ref.oracle.logits import best_of
from qwen_ref.oracle.page import Axes, bands, budget, first_mark, grid, layer_of, lines, page, table

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


def places(parts, tag):
    """Of each element with this name its attributes, and its text."""
    elements = ElementTree.fromstring(f"<svg>{''.join(parts)}</svg>").iter(tag)
    return [(element.attrib, "".join(element.itertext())) for element in elements]


def test_where_things_stand_in_the_chart():
    """It is 1120 x 420, of which 64, 78, 34 and 28 are margins: 978 x 358 are left, here for 10 tensors and
    the decades from 1e-4, where 0 stands, to 1."""
    at = Axes(10, [1e-3, 0.5, 0.0, np.inf])
    assert (at.low, at.high, at.step, at.decade) == (-4, 0, 97.8, 89.5)
    assert [at.x(i) for i in (0, 1, 10)] == pytest.approx([64, 161.8, 1042])
    assert [at.y(v) for v in (1, 0.1, 1e-4, 0, np.inf, np.nan)] == pytest.approx(
        [34, 123.5, 392, 392, 34, 34]
    )
    assert Axes(1, [1e-3, 20.0]).high == 2
    drawn = grid(at)
    heights = ["392.0", "302.5", "213.0", "123.5", "34.0"]
    assert (
        [a["y1"] for a, _ in places(drawn, "line")] == [a["y2"] for a, _ in places(drawn, "line")] == heights
    )
    assert {(a["x1"], a["x2"], a["class"]) for a, _ in places(drawn, "line")} == {("64", "1042", "grid")}
    assert [(a["x"], a["y"], text) for a, text in places(drawn, "text")] == [
        ("56", "396.0", "0"),
        ("56", "306.5", "1e-3"),
        ("56", "217.0", "1e-2"),
        ("56", "127.5", "1e-1"),
        ("56", "38.0", "1"),
        ("56", "18", "error"),
    ]
    many = [text for _, text in places(grid(Axes(1, [1e-58, 1.0])), "text")]  # 60 decades of 6 pixels
    assert many == ["0", *(f"1e-{n}" for n in range(57, 0, -3)), "1", "error"]


def test_layers_budgets_and_the_first_tensor_in_the_chart():
    names = ["embed_tokens", "layers.0.a", "layers.0.mlp.b", "layers.1.a", "images.0.blocks.2.norm1", "norm"]
    assert [layer_of(name) for name in names] == [
        "",
        "layers.0",
        "layers.0",
        "layers.1",
        "images.0.blocks.2",
        "",
    ]
    assert layer_of("mtp.enorm") == layer_of("mtp.draft.norm") == "mtp"
    of_mtp = bands(["layers.3.a", "mtp.enorm", "mtp.draft.norm"], Axes(3, [1.0]))
    assert [text for _, text in places(of_mtp, "text")] == ["layer 3", "mtp"]
    at = Axes(6, [1e-3, 0.5])  # 163 a tensor
    drawn = bands(names, at)
    stripes = [(a["x"], a["width"], a["y"], a["height"], text) for a, text in places(drawn, "rect")]
    assert stripes == [
        ("227.0", "326.0", "34", "358", "layers.0"),
        ("716.0", "163.0", "34", "358", "images.0.blocks.2"),
    ]
    labels = [(a["x"], a["y"], text) for a, text in places(drawn, "text")]
    assert labels == [("390.0", "410", "layer 0"), ("634.5", "410", "1"), ("797.5", "410", "block 2")]
    entry = Entry((4, 50), [0], 1, 2.0, 3.0, {"float32": (1e-3, 9.0), "bfloat16": (0.0, 9.0)})
    assert budget(entry, "float32") == 8 * 1e-3 / 2 and budget(entry, "bfloat16") == 2.0**-8
    drawn = lines({"float32": [0.1, 0.01], "int8": [1.0, 0.01]}, "float32", Axes(2, [1e-3, 0.5]))
    assert [(a["class"], a["d"]) for a, _ in places(drawn, "path")] == [
        ("line int8", "M64.0 34.0H553.0 L553.0 213.0H1042.0"),
        ("within", "M64.0 123.5H553.0 L553.0 213.0H1042.0 V392 H64 Z"),
        ("line float32 allowed", "M64.0 123.5H553.0 L553.0 213.0H1042.0"),
    ]
    ends = [
        (a["class"], a["x"], a["y"], text) for a, text in places(drawn, "text")
    ]  # at one height: 15 apart
    assert ends == [("float32 allowed", "1050", "217.0", "float32"), ("int8", "1050", "232.0", "int8")]
    for x, side, anchor in (560.0, 566.0, "start"), (561.0, 555.0, "end"):
        drawn = first_mark(Difference("n<m", 1, 1, 1, 0.1, 1, None, {}), x, at)
        (line,), (ring,), (text,) = (places(drawn, tag) for tag in ("line", "circle", "text"))
        assert line[0] == {"class": "drop", "x1": f"{x}", "x2": f"{x}", "y1": "26", "y2": "392"}
        assert ring[0] == {"class": "ring", "cx": f"{x}", "cy": "123.5", "r": "7.5"}
        assert text == ({"class": "first", "x": f"{side}", "y": "22", "text-anchor": anchor}, "n<m")


def test_rows_of_the_table():
    good = Difference("a", 9, 0.5, 0.25, 0.125, 0.999, "float32", {"float32": 0.5})
    first = Difference("b<", 9, 0.5, 0.25, 1.0, 0.5, None, {"float32": 2.0})
    other = replace(first, name="c")
    shown = table(Report("float32", [good, first, other], first, None, [], {}))
    rows = ElementTree.fromstring(shown).iter("tr")
    heads = ["tensor", "error / rms", "largest error", "cosine", "of the budget", "explained by"]
    wrong = ["1.0e+00", "2.5e-01", "0.50000000", "2.0 ×", "nothing"]
    assert [(row.get("id"), row.get("class"), [cell.text for cell in row]) for row in rows] == [
        (None, None, heads),
        ("a", "", ["a", "1.2e-01", "2.5e-01", "0.99900000", "50 %", "float32"]),
        ("b<", "bad first", ["b<", *wrong]),
        ("c", "bad", ["c", *wrong]),
    ]


def test_command(tmp_path, monkeypatch, capsys):
    golden = truth(*NAMES)
    save(golden, tmp_path / "a.safetensors")
    np.savez(tmp_path / "dump.npz", **engine(golden, logits=1.0))
    monkeypatch.chdir(tmp_path)
    line = ["golden", "check", "a.safetensors", "dump.npz", "--html"]
    assert main([*line, "page.html"]) == 1
    assert "<title>dump.npz beside a.safetensors</title>" in Path("page.html").read_text(encoding="utf-8")
    assert main([*line, "no/page.html"]) == 2
    assert "page.html: cannot be written" in capsys.readouterr().err
