"""Pictures of figures: those that the commands print, at the places where the axes have them."""

import json
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from qwen_ref import plot
from qwen_ref.cli import main
from qwen_ref.oracle import golden
from qwen_ref.oracle.conformance import KIT

SVG = "{http://www.w3.org/2000/svg}"


def tips(path, kind):
    """What the tooltips of dots ("circle") or bars ("rect") say: name -> value, and the elements."""
    root = ET.parse(path).getroot()
    marked = [(e, e.find(f"{SVG}title")) for e in root.iter(f"{SVG}{kind}")]
    found = {}
    for element, title in marked:
        if title is not None:
            name, _, value = title.text.rpartition(": ")
            found[name] = (float(value.replace(",", "")), element)
    return found


def values(path, kind):
    return {name: value for name, (value, _) in tips(path, kind).items()}


def axis(path, anchor):
    """Of the numbers on an axis, texts of that anchor: (value, place) of the first two."""
    texts = [e for e in ET.parse(path).getroot().iter(f"{SVG}text") if e.get("text-anchor") == anchor]
    numbers = [(float(e.text.replace(",", "")), e) for e in texts if re.fullmatch(r"[\d.,e+-]+", e.text)]
    place = "y" if anchor == "end" else "x"
    return [(value, float(e.get(place)) - (4 if place == "y" else 0)) for value, e in numbers]


def test_lines_stand_where_the_axes_say(tmp_path):
    points = {"a": [plot.Point(0, 10), plot.Point(50, 1234)], "b": [plot.Point(20, 700.5)]}
    plot.write(tmp_path / "x.svg", plot.Lines('A <title> & "more"', "x", "y", points))
    (x0, at0), (x1, at1), *_ = axis(tmp_path / "x.svg", "middle")
    (y0, up0), (y1, up1), *_ = axis(tmp_path / "x.svg", "end")
    found = tips(tmp_path / "x.svg", "circle")
    assert {name: value for name, (value, _) in found.items()} == {"a, 0": 10, "a, 50": 1234, "b, 20": 700.5}
    for name, (value, dot) in found.items():
        x = float(name.split(", ")[1])
        assert float(dot.get("cx")) == pytest.approx(at0 + (x - x0) / (x1 - x0) * (at1 - at0), abs=0.2)
        assert float(dot.get("cy")) == pytest.approx(up0 + (value - y0) / (y1 - y0) * (up1 - up0), abs=0.2)
    assert ET.parse(tmp_path / "x.svg").getroot().get("aria-label") == 'A <title> & "more"'


def test_a_logarithmic_axis_has_a_place_for_all(tmp_path):
    points = [plot.Point(i, y) for i, y in enumerate([1e-6, 1e-3, 1.0, 0.0, math.inf, math.nan])]
    plot.write(tmp_path / "x.svg", plot.Lines("t", "x", "y", {"a": points}, log=True))
    heights = [float(dot.get("cy")) for _, dot in tips(tmp_path / "x.svg", "circle").values()]
    small, middle, one, zero, infinite, nan = heights
    assert middle == pytest.approx((small + one) / 2, abs=0.1)
    assert zero > small and infinite == nan == one == min(heights)


def test_bars_are_as_long_as_their_values(tmp_path):
    plot.write(tmp_path / "x.svg", plot.Bars("t", "x", {"one": 100.0, "two": 250.0, "x" * 99: 0.0}, {"two"}))
    found = tips(tmp_path / "x.svg", "rect")
    one, two = (float(found[name][1].get("width")) for name in ("one", "two"))
    assert two / one == pytest.approx(2.5, rel=0.01)
    assert "--bad" in found["two"][1].get("style") and "--bad" not in found["one"][1].get("style")


def test_a_png_has_the_same_picture(tmp_path):
    chart = plot.Lines("t", "x", "y", {"a": [plot.Point(0, 1), plot.Point(1, 2)], "b": [plot.Point(0.5, 1)]})
    plot.write(tmp_path / "x.PNG", chart)
    plot.write(tmp_path / "x.svg", chart)
    with Image.open(tmp_path / "x.PNG") as image:
        for name, colour in ("a, 1", "series0"), ("b, 0.5", "series1"):
            dot = tips(tmp_path / "x.svg", "circle")[name][1]
            place = [round(float(dot.get(c)) * plot.SCALE) for c in ("cx", "cy")]
            assert "#{:02x}{:02x}{:02x}".format(*image.getpixel(place)) == plot.COLOURS[colour][0]


@pytest.mark.parametrize("depths, kind", [([], "rect"), (["-d", "0", "-d", "8"], "circle")])
def test_bench(fixtures, tmp_path, capsys, depths, kind):
    command = ["bench", "-m", str(fixtures / "tiny.gguf"), "-p", "4", "-n", "2", "-r", "1", "--no-start"]
    command += ["--backend", "numpy", "-o", "json", "--plot", str(tmp_path / "x.svg"), *depths]
    assert main(command) == 0
    measured = {}
    for test in json.loads(capsys.readouterr().out):
        name, _, depth = test["test"].partition(" @ d")
        measured[f"{name}, {depth or 0}" if depths else name] = test["tokens_per_second"]
    assert values(tmp_path / "x.svg", kind) == pytest.approx(measured, rel=1e-3)


def test_golden_check(tmp_path, capsys):
    path, dump = KIT / "length-3.safetensors", KIT / "dumps" / "no-erase.safetensors"
    command = ["golden", "check", str(path), str(dump), "--json", "--plot", str(tmp_path / "x.svg")]
    assert main(command) == 1
    report = json.loads(capsys.readouterr().out)
    found = tips(tmp_path / "x.svg", "circle")
    errors = {d["name"]: d["relative"] for d in report["differences"]}
    assert {name: found[name][0] for name in errors} == pytest.approx(errors, rel=1e-2)
    bad = {name for name, (_, dot) in found.items() if "--bad" in dot.get("style")}
    assert bad == {d["name"] for d in report["differences"] if d["share"]["float32"] > 1} != set()
    assert len(found) - len(errors) == len(golden.load(path).entries)  # the budget, of every tensor


def test_perplexity(fixtures, tmp_path, capsys):
    (tmp_path / "text").write_text("one two three four five six seven eight nine ten " * 10)
    command = ["perplexity", "-m", str(fixtures / "tiny.gguf"), "-f", str(tmp_path / "text"), "-c", "16"]
    command += ["--backend", "numpy", "--json", "--plot", str(tmp_path / "x.svg")]
    assert main([*command, "--base", str(fixtures / "tiny.gguf")]) == 0
    told = json.loads(capsys.readouterr().out)
    found = values(tmp_path / "x.svg", "circle")
    model = [value for name, value in found.items() if "(base)" not in name]
    assert [name.rpartition(", ")[2] for name in found][:7] == [str(n) for n in range(8, 15)]
    assert len(found) == 2 * len(model) == 14
    assert np.exp(np.log(model).mean()) == pytest.approx(told["ppl"][0], rel=1e-3)


# Right on one case, wrong on the other.
ENGINE = """
from qwen_ref.oracle.conformance import dumps, read_dump

def run(case):
    name = {"length-3": "good", "position-4096": "no-gate"}[case.name]
    return read_dump(next(dump.path for dump in dumps() if dump.name == name), case)
"""


def test_conformance(tmp_path, capsys):
    engine = tmp_path / "engine.py"
    engine.write_text(ENGINE)
    command = ["conformance", "--engine", str(engine), "length-3", "position-4096", "--json"]
    assert main([*command, "--plot", str(tmp_path / "x.svg")]) == 1
    results = json.loads(capsys.readouterr().out)
    shares = {
        r["case"]: max(d["share"][r["report"]["allowed"]] for d in r["report"]["differences"])
        for r in results
    }
    assert values(tmp_path / "x.svg", "rect") == pytest.approx(shares, rel=1e-3)
    bars = {name: bar.get("style") for name, (_, bar) in tips(tmp_path / "x.svg", "rect").items()}
    assert ["--bad" in bars[name] for name in ("length-3", "position-4096")] == [False, True]


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("x.pdf", "the ending '.pdf' is not .svg or .png"),
        ("x", "the ending '' is not .svg or .png"),
        ("missing/x.svg", "the folder does not exist"),
        ("folder.svg", "is a folder"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ["bench"],
        ["golden", "check", "a", "b"],
        ["perplexity", "--text", "a"],
        ["conformance", "--engine", "a"],
    ],
    ids=lambda command: command[0],
)
def test_where_no_picture_can_be_is_said_first(tmp_path, capsys, command, name, sentence):
    (tmp_path / "folder.svg").mkdir()
    assert main([*command, "--plot", str(tmp_path / name)]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"qwen_ref: --plot {tmp_path / name}: {sentence}\n")
    assert main([*command, "--plot", ""]) == 2


def test_without_figures_there_is_no_picture(fixtures, tmp_path, capsys):
    path = tmp_path / "x.svg"
    assert main(["conformance", "--list", "--plot", str(path)]) == 2
    assert (
        capsys.readouterr().err == f"qwen_ref: --plot {path}: without --engine there are no figures to draw\n"
    )
    model = str(fixtures / "tiny.gguf")
    assert main(["bench", "-m", model, "-p", "0", "-n", "0", "--no-start", "--plot", str(path)]) == 2
    assert capsys.readouterr().err == f"qwen_ref: --plot {path}: there are no figures to draw\n"
    assert not path.exists()
