"""docs/golden.md suffices for who never reads the code, so its tables say what the code does, all of it."""

import json
import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import safe_open

from qwen_ref import load
from qwen_ref.config import Config, Yarn
from qwen_ref.model.trace import watching
from qwen_ref.oracle.budget import SLACK, UNIT
from qwen_ref.oracle.check import check
from qwen_ref.oracle.conformance import KIT, cases
from qwen_ref.oracle.export import export, transformers_config
from qwen_ref.oracle.golden import FORMAT, Entry
from qwen_ref.oracle.record import canonical

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "golden.md").read_text(encoding="utf-8")


def table(section, header):
    """Rows of the first table with this header in a section: lists of cells, without backquotes."""
    text = PAGE[PAGE.index(f"\n## {section}\n") :]
    rows = text[text.index(f"\n| {header}") + 1 :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture(scope="module")
def stored():
    """The metadata of a golden of a clip, and names, types and sizes of its tensors."""
    with safe_open(KIT / "video.safetensors", "numpy") as file:
        tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        kinds = {name: (x.get_dtype(), len(x.get_shape())) for name, x in tensors.items()}
        return json.loads(file.metadata()["golden"]), kinds


def test_what_the_metadata_hold(stored):
    head, _ = stored
    told = table("The file", "key | |")
    assert [names(key)[0] for key, _ in told] == list(head)
    assert told[0][1] == str(FORMAT) == str(head["format"])
    about = PAGE[PAGE.index("\n`about`:") :]
    assert set(re.findall(r"^\| (`.+?`) \|", about.split("\n\n")[1], re.M)) >= {"`qwen_ref`", "`text`"}
    listed = [name for row in about.split("\n\n")[1].splitlines()[2:] for name in names(row.split("|")[1])]
    assert sorted([*listed, "tests", "allow"]) == sorted(head["about"])
    entry = PAGE[PAGE.index("\n`entries` names") :].split("\n\n")[1]
    listed = [name for row in entry.splitlines()[2:] for name in names(row.split("|")[1])]
    assert listed == [field.name for field in fields(Entry)] == list(next(iter(head["entries"].values())))


def test_what_stands_in_config(stored):
    head, _ = stored
    rows = table("The file", "config | transformers | |")
    told = {names(ours)[0]: names(theirs)[0] for ours, theirs, _ in rows}
    ours = [field.name for field in fields(Config)]
    assert list(told) == [
        *ours[: ours.index("yarn") + 1],
        *(f"yarn.{field.name}" for field in fields(Yarn)),
        *ours[ours.index("yarn") + 1 :],
    ]
    assert ours == list(head["config"])
    exported = transformers_config(cases(["yarn"])[0].golden.config)
    rope = exported.pop("rope_parameters")
    theirs = {*exported, *(f"rope_parameters.{name}" for name in rope)}
    assert theirs - {"layer_types", "rope_parameters.mrope_interleaved"} == {*told.values()}


def test_which_tensors_there_are(stored):
    head, kinds = stored
    told = {}
    for cell, kind, _ in table("The file", "tensor | type | |"):
        *types, shape = re.fullmatch(r"(\w+)(?:, (\w+))? \[(.+)\]", kind).groups()
        for name, one in zip(names(cell), [types[0], types[1] or types[0]]):
            told[name] = one.upper(), len(shape.split(", "))
    del told["input/image_grid_thw"]  # there are none
    for name in head["entries"]:
        assert (kinds.pop(name), kinds.pop(f"rms/{name}")) == (told["NAME"], told["rms/NAME"])
    inputs = {name: kind for name, kind in told.items() if name.startswith("input/")}
    assert kinds == {
        name: kind for name, kind in inputs.items() if "mtp." not in name and "draft" not in name
    }


def test_one_rounding_and_the_slack():
    rows = table("The rules", "arithmetic | u")
    said = {names(kind)[0]: (unit, slack) for kind, unit, slack, _ in rows}
    assert list(said) == list(UNIT)
    for kind, (unit, slack) in said.items():
        base, _, power = unit.partition("^")
        assert float(base) ** float(power or 1) == UNIT[kind] and int(slack) == SLACK[kind]


def test_what_is_exported(tmp_path):
    export(cases(["video"])[0].golden, tmp_path / "out")
    listed = [name for row in table("In any language", "file | |") for name in names(row[0])]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        {name.split("/")[0] for name in listed}
    )
    head = json.loads((tmp_path / "out" / "golden.json").read_text())
    text = PAGE[PAGE.index("\n`golden.json` is") :]
    said = [name for name in names(text.split("\n\n")[0]) if name not in ("golden.json", "Qwen3_5TextConfig")]
    rows = {names(key)[0]: names(value) for key, value in table("In any language", "key | |")}
    assert {*said, *rows} - {"image_grid_thw"} == {*head}
    assert rows["tensors"][:-2] == [*head["tensors"]["norm"]]
    assert {*rows["logprobs"]} == {*head["logprobs"], *head["logprobs"]["budgets"]["int8"]}


def test_the_formulas_of_heads():
    """Those that the page has, beside what converts a dump."""
    config = cases(["grouped"])[0].golden.config
    H_k, H_v = config.linear_num_key_heads, config.linear_num_value_heads
    G = H_v // H_k
    formulas = re.search(r"head t goes to\s+(.+?); back,\s+head g goes to (.+?)\. ", PAGE, re.S).groups()
    there, back = (formula.replace("mod", "%").replace("div", "//") for formula in formulas)
    tiled = np.arange(H_v)
    grouped = [eval(there, {"t": t, "G": G, "H_k": H_k}) for t in tiled]
    assert G > 1 and grouped != tiled.tolist()
    assert canonical("layers.0.linear_attn.g", tiled[None], config)[0, grouped].tolist() == tiled.tolist()
    assert [eval(back, {"g": g, "G": G, "H_k": H_k}) for g in grouped] == tiled.tolist()


def test_the_example_of_a_ggufs_layout():
    """As it stands on the page, with this project's model as the engine."""
    page = (ROOT / "docs" / "golden-in-tests.md").read_text(encoding="utf-8")
    case = cases(["grouped"])[0]
    judged = []

    class Opened(SimpleNamespace):
        def check(self, found):
            judged.append(check(case.golden, found))

    def run_engine(token_ids, note):
        model = load(case.model, dtype=np.float32, backend="numpy")
        with watching(note):
            model.text.logits(model.text.forward(token_ids.tolist(), model.text.new_state()))

    (code,) = re.findall(r"```python\n(from qwen_ref.oracle.record import canonical\n.+?)```", page, re.S)
    opened = Opened(inputs=case.golden.inputs, config=case.golden.config)
    exec(code, {"qwen_golden": lambda: opened, "engine": SimpleNamespace(run=run_engine)})
    assert (judged[0].verdict, judged[0].missing) == ("right", [])
