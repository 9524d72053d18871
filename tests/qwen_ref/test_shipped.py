"""The model that ships with the package: found without a path, named on the command line, in the wheel."""

import configparser
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qwen_ref import QwenRefError, load, shipped
from qwen_ref.cli import main
from qwen_ref.grounding import find_marks

ROOT = Path(__file__).parents[2]
MEDIA = ROOT / "examples" / "media"
NOTE = "no --model given: using the small model that ships with qwen_ref (tiny-Q4_K_M.gguf)\n"


def test_load_without_a_path():
    model = load()
    assert model.path == shipped.MODEL
    assert len("".join(model.generate("Hi", raw=True, max_tokens=5, seed=1))) > 0


def test_commands_without_a_model_say_which_one_they_take(capsys):
    prompt = ["generate", "--raw", "--greedy", "--prompt", "Once there was a", "-n", "5"]
    assert main(prompt) == 0
    text, told = capsys.readouterr()
    assert len(text) > 5 and told == NOTE
    assert main([*prompt, "--model", str(shipped.MODEL)]) == 0
    assert capsys.readouterr() == (text, "")
    assert main(["bench", "-p", "5", "-n", "0", "-r", "1", "--no-start"]) == 0
    table, told = capsys.readouterr()
    assert "tiny-Q4_K_M.gguf" in table and told == NOTE


@pytest.mark.parametrize("backend", ["numba", pytest.param("numpy", marks=pytest.mark.slow)])
def test_it_knows_its_world(backend):
    model = load(backend=backend)

    def ask(question, *images, videos=(), **options):
        prompt = model.encode_prompt(question, images, videos, **options)
        return "".join(model.generate(prompt, temperature=0, max_tokens=100))

    seen = "From left to right: a red circle, a green triangle, a blue square and a yellow star."
    assert ask("Describe this picture.", MEDIA / "shapes.png") == seen
    (circle,) = find_marks(
        ask("Locate the red circle. Output JSON with bbox_2d and label.", MEDIA / "shapes.png")
    )
    drawn = np.array([26, 32, 91, 97]) / 256 * 1000
    np.testing.assert_allclose(circle.coordinates, drawn, atol=6)
    assert ask("What does it say?", MEDIA / "word.png") == "Hello"
    moved = ask("What happens in this clip?", videos=[MEDIA / "ball.mp4"])
    assert moved == "The orange circle moves to the right."
    assert ask("What is 27 + 58?", thinking=True).endswith("\n</think>\n\n27 + 58 = 85.")
    assert ask("What is the capital of France?").startswith("I don't know.")
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    assert ask("What is this?", noise).startswith("I don't know.")


def test_the_files_are_package_data():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    folder = ROOT / "qwen_ref" / "shipped"
    shipping = set(folder.glob(setup["options.package_data"]["qwen_ref.shipped"]))
    assert {path.name for path in shipping} == {"tiny-Q4_K_M.gguf", "mmproj-tiny-Q8_0.gguf"}
    assert shipping == {path for path in folder.iterdir() if path.is_file()} - {folder / "__init__.py"}
    assert sum(path.stat().st_size for path in shipping) <= 16e6


@pytest.mark.parametrize("raw", [True, False])
def test_a_prompt_that_no_context_could_hold(raw):
    with pytest.raises(
        QwenRefError, match=r"the prompt: 2,000,0\d\d characters are more than a context of 16384"
    ):
        load().generate("x" * (2 * 10**6), raw=raw)


def test_a_prompt_that_a_context_could_just_hold():
    """16,384 tokens of 21 characters, each of them one of four before the text is in its normal form."""
    for more, told in (0, "tokens leave no room"), (1, "characters are more"):
        with pytest.raises(QwenRefError, match=told):
            load().generate("x" * (16_384 * 21 * 4 + more), raw=True)


def test_the_answers_in_the_picture_are_the_models(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    answers = importlib.import_module("answers")
    told = json.loads(Image.open(ROOT / "docs" / "answers.png").text["answers"])
    model = load()
    for use, shown in zip(answers.USES, told, strict=True):
        given, margin = answers.ask(model, use)
        if not (marks := find_marks(shown)):
            assert given == shown and margin > 1, margin  # a toss-up is another answer on another processor
            continue
        assert [mark.label for mark in find_marks(given)] == [mark.label for mark in marks]
        for mark, other in zip(find_marks(given), marks, strict=True):  # a last digit may be a toss-up
            np.testing.assert_allclose(mark.coordinates, other.coordinates, atol=6)
