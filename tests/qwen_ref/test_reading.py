"""docs/reading.md: what it quotes is there, what it shows comes out, and a layer is changed as it says."""

import ast
import doctest
import importlib.util
import inspect
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gguf_io import open_gguf
from qwen_ref import QwenRefError, load, shipped
from qwen_ref.config import read_config
from qwen_ref.errors import tell
from qwen_ref.kernels import KERNELS
from qwen_ref.model import layers
from qwen_ref.model.layers import NUMPY, replaced
from qwen_ref.model.text import TextModel
from qwen_ref.model.trace import watching

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "qwen_ref" / "model"
PAGE = (ROOT / "docs" / "reading.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")


def defined(path):
    """Functions, classes, their methods and constants: f, C, C.f, X."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
            yield from (
                f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)
            )


def test_what_the_page_names_exists():
    names = re.findall(r"`(\w+\.py): ([\w.]+)`", re.sub(r"\s+", " ", PAGE + GLOSSARY))
    assert len(names) > 15
    assert [(file, name) for file, name in names if name not in set(defined(MODEL / file))] == []
    for path in re.findall(r"(?:qwen_ref|examples)/[\w/]+\.py", PAGE + GLOSSARY):
        assert (ROOT / path).is_file(), path


def test_what_the_page_quotes_stands_there():
    quotes = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.S)
    assert len(quotes) == 2
    for path, code in quotes:
        lines = [line.strip() for line in (ROOT / path).read_text(encoding="utf-8").splitlines()]
        quoted = code.splitlines()
        assert any(lines[i : i + len(quoted)] == quoted for i in range(len(lines))), code


@pytest.mark.parametrize("name, examples", [("reading.md", 20), ("inspect.md", 15)])
def test_what_a_page_shows_comes_out(name, examples):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    test = doctest.DocTestParser().get_doctest(page.replace("```\n", "\n"), {}, name, None, 0)
    assert len(test.examples) > examples
    failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert failed == 0


def test_the_picture_is_what_the_script_draws():
    spec = importlib.util.spec_from_file_location("blocks", ROOT / "examples" / "blocks.py")
    blocks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(blocks)
    drawn = blocks.picture(read_config(open_gguf(shipped.MODEL)))
    assert drawn == (ROOT / "docs" / "blocks.svg").read_text(encoding="utf-8")
    taps = []
    text = load(backend="numpy").text
    with watching(lambda name, x: taps.append(name)):
        text.forward([1], text.new_state())
    known = {re.sub(r"layers\.\d\.(\w+_attn\.)?", "", name) for name in taps} | {"x", "KV cache"}
    config = text.config
    for mixer in blocks.deltanet(config), blocks.attention(config):
        boxes, edges = blocks.block(config, mixer)
        assert {
            part for box in boxes for part in (box[2].split() if "_norm " in box[2] else [box[2]])
        } <= known
        assert {name for edge in edges for name in edge} == {box[2] for box in boxes}


def test_the_reading_order_is_complete():
    listed = re.findall(r"^    (\w+\.py) ", (MODEL / "__init__.py").read_text(encoding="utf-8"), re.M)
    assert sorted(listed) == sorted(path.name for path in MODEL.glob("*.py") if path.name != "__init__.py")


# ---- the functions that a model calls


def test_kernels_have_the_signatures_of_their_twins():
    """The names of the parameters, too; mypy sees to their types."""
    for name in vars(layers.Numpy):
        if not name.startswith("_") and callable(getattr(NUMPY, name)):
            ours, theirs = (inspect.signature(getattr(use, name)).parameters for use in (NUMPY, KERNELS))
            assert list(ours) == list(theirs), name


@pytest.mark.parametrize("use", [NUMPY, KERNELS], ids=["numpy", "numba"])
@pytest.mark.parametrize("name", ["rms_norm", "attention", "deltanet", "mlp", "lm_head"])
def test_a_replaced_layer_takes_effect(fixtures, use, name):
    """For prompts and single tokens; the model that it was taken from stays as it was."""
    model = TextModel(open_gguf(fixtures / "tiny-wide.gguf"), layers=use)

    def logits():
        state = model.new_state()
        return np.concatenate([model.logits(model.forward(ids, state)) for ids in ([5, 6, 7], [8])])

    plain = logits()
    model.layers = replaced(use, **{name: lambda x, *rest: 0.5 * getattr(use, name)(x, *rest)})
    changed = logits()
    assert (abs(changed - plain).max(axis=1) > 1e-3).all()
    model.layers = use
    assert (logits() == plain).all()


@pytest.mark.parametrize("use", [NUMPY, KERNELS], ids=["numpy", "numba"])
def test_a_replaced_configuration_takes_effect(fixtures, use):
    model = TextModel(open_gguf(fixtures / "tiny-wide.gguf"), layers=use)
    before = model.forward([5, 6, 7], model.new_state())
    model.config = replace(model.config, rope_theta=2.0)
    assert abs(model.forward([5, 6, 7], model.new_state()) - before).max() > 1e-3


@pytest.mark.parametrize("name", ["attention", "deltanet"])
def test_a_mixer_of_numpys_functions_does_not_go_with_the_kernels_state(fixtures, name):
    model = TextModel(open_gguf(fixtures / "tiny-wide.gguf"), layers=KERNELS)
    model.layers = replaced(KERNELS, **{name: getattr(NUMPY, name)})
    with pytest.raises(QwenRefError, match=rf"^layers: {name}: .* use replaced\(NUMPY, {name}=...\)$"):
        model.forward([5, 6, 7], model.new_state())


@pytest.mark.parametrize("use", [NUMPY, KERNELS], ids=["numpy", "numba"])
def test_what_would_change_nothing_is_refused(use):
    for name in "sigmoid", "linear", "gated_delta_recurrent":
        with pytest.raises(
            QwenRefError, match=f"^layers: {name}: no model calls it, but new_state, rms_norm, "
        ):
            replaced(use, **{name: np.tanh})


def test_who_watches_kernels_is_told_what_is_not_seen(fixtures, caplog):
    """Once for each kind of layer, and nothing with NumPy's; what stands between layers is seen."""
    tell.cache_clear()
    seen = {}
    for use in NUMPY, KERNELS:
        model = TextModel(open_gguf(fixtures / "tiny-wide.gguf"), layers=use)
        state, seen[use] = model.new_state(), []
        with caplog.at_level(logging.WARNING, "qwen_ref"), watching(lambda name, x: seen[use].append(name)):  # noqa: B023
            for ids in [5, 6, 7], [8]:
                model.logits(model.forward(ids, state))
        kinds = [record.getMessage().split(": ")[1] for record in caplog.records]
        assert kinds == ([] if use is NUMPY else ["linear_attn", "mlp", "self_attn"])
    assert "watching: mlp: the kernels show nothing of what is inside it; model.trace does" in caplog.text
    inside = re.compile(r"layers\.\d+\.(linear_attn|self_attn|mlp)\.")
    assert seen[KERNELS] == [name for name in seen[NUMPY] if not inside.match(name)]
