"""`bench`: its JSON, its picture, and files written whole or not at all."""

import json
import xml.etree.ElementTree as ET

import pytest

from qwen_ref.cli import main

ONCE = ["bench", "-p", "5", "-n", "5", "-r", "1", "--no-start", "--output", "json"]


def test_profile_is_a_table_and_a_picture(fixtures, tmp_path, capsys):
    picture = tmp_path / "profile.svg"
    assert main([*ONCE, "-m", str(fixtures / "tiny.gguf"), "--profile", str(picture)]) == 0
    prefill, decode, profile = json.loads(capsys.readouterr().out)
    assert (prefill["test"], decode["test"]) == ("pp5", "tg5")
    parts = profile["profile"]["parts"]
    assert sum(part["seconds"] for name, part in parts.items() if name != "total") == pytest.approx(
        parts["total"]["seconds"]
    )
    assert parts["total"]["bytes"] == sum(part["bytes"] for name, part in parts.items() if name != "total")
    text = "".join(ET.parse(picture).getroot().itertext())
    assert "A token of tiny.gguf" in text and "output matrix" in text


@pytest.mark.parametrize("name", ["missing/profile.svg", "."])
def test_picture_that_cannot_be_written(fixtures, tmp_path, capsys, name):
    assert main([*ONCE, "-m", str(fixtures / "tiny.gguf"), "--profile", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
