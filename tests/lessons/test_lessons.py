"""Every lesson runs on the shipped model, as a notebook and as a script; its page needs nothing from outside;
its exercise knows its right answer, and has a hint for wrong ones.
"""

import re
import runpy
import time
from pathlib import Path

import build
import jupytext
import pytest
from lesson import RIGHT, lines_of
from wrong_answers import WRONG

from qwen_ref.model import deltanet, norm

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "build" / "lessons"
LESSONS = build.lessons()
SECONDS = 60


@pytest.fixture(scope="module", autouse=True)
def pages():
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / "index.html").write_text(build.index(), encoding="utf-8")


def outside(page):
    """What a browser would fetch for a page that is no part of it. Links have to be clicked, and are none."""
    page = re.sub(r"<a\s[^>]*>", "", page)
    name = r"\s(?:href|src|srcset|data)=[\"']?(?!data:|#)([^\"'>\s]+)"
    loads = re.findall(r"<(?:link|script|iframe|img|image|use|source|object)\b[^>]*?" + name, page)
    return loads + re.findall(r"@import[^;]+|url\(\s*[\"']?(?!data:|#)[^)]+\)|\b(?:import|fetch)\s*\(", page)


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_it_runs_as_a_notebook(lesson):
    started = time.perf_counter()
    page = build.write(lesson, PAGES).read_text(encoding="utf-8")
    assert time.perf_counter() - started < SECONDS
    assert outside(page) == []
    assert RIGHT in page
    words = re.sub(r"<(pre|style|code)\b.*?</\1>|<[^>]*>", "", page, flags=re.S)
    assert not re.search(r"\$|EQUATION|\\(frac|text|begin)", words)
    assert page.count('<figure class="plot"><img alt=') >= 1


def test_what_comes_from_outside_is_seen():
    """What nbconvert's own template would ask for, and other ways."""
    for asked in (
        '<script src="https://cdnjs.cloudflare.com/ajax/libs/require.js/2.1.10/require.min.js"></script>',
        "<link rel='stylesheet' href='https://example.com/a.css'>",
        '<img alt="x" src="picture.png">',
        "<style>@import 'a.css';</style>",
        "<style>a { background: url(http://example.com/a.png) }</style>",
    ):
        assert outside(asked), asked
    assert (
        outside('<a href="https://example.com">x</a><img src="data:image/png;base64,AA"><link href="data:,">')
        == []
    )


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_its_exercise(lesson, capsys):
    """As a script, too."""
    names = runpy.run_path(str(lesson))
    assert RIGHT in capsys.readouterr().out

    def said(answer):
        names["check"](answer)
        return capsys.readouterr().out.strip()

    assert said(names["solution"]()) == RIGHT
    assert said(...).startswith("Your turn")
    wrong = WRONG[lesson.stem]
    hints = [said(answer(names)) for answer, _ in wrong]
    for hint, (_, words) in zip(hints, wrong, strict=True):
        assert hint.startswith("Not yet. ")
        assert words in hint
    assert len(set(hints)) == len(hints) > 2


EXPERIMENTS = {  # a lesson's variable, as `CHANGE ME` invites to change it
    "01_file": ("PATH", 'shipped.MODEL.with_name("mmproj-tiny-Q8_0.gguf")'),
    "02_four_bits": ("BLOCK", "256"),
    "03_tokens": ("TEXT", '"Who\'s there?  A fox!"'),
    "04_residual_stream": ("PROMPT", '"What is 2 + 3?"'),
    "05_rotary": ("THETA", "100.0"),
    "06_attention": ("PROMPT", '"What is 2 + 3?"'),
    "07_delta_rule": ("PAIRS", "8"),
    "08_three_ways": ("K = V", "128"),
    "09_conv_and_mlp": ("TEXT", '"What is 2 + 3?"'),
    "10_pictures": ("PICTURE", 'MEDIA / "word.png"'),
    "11_sampling": ("DRAFT_LAYERS", "8"),
    "12_training": ("START", "4.0"),
    "13_roofline": ("ROWS, COLUMNS", "64, 4096"),
}


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_its_experiment(lesson, capsys):
    """A lesson that was changed as it invites to goes through."""
    name, value = EXPERIMENTS[lesson.stem]
    source = lesson.read_text(encoding="utf-8")
    assert len(re.findall(rf"^{name} = .*# CHANGE ME", source, re.M)) == 1
    changed = re.sub(rf"^{name} = .*", f"{name} = {value}", source, flags=re.M)
    exec(compile(changed, str(lesson), "exec"), {})
    assert RIGHT in capsys.readouterr().out


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_it_has_all_that_a_lesson_has(lesson):
    cells = jupytext.read(lesson).cells
    prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    code = "\n\n".join(cell.source for cell in cells if cell.cell_type == "code")
    number = int(lesson.stem[:2])
    assert re.match(rf"# {number}\. \S.+\n\n\w", prose)
    assert "$$" in prose
    assert prose.count("\n## Exercise\n") == 1
    assert cells[-1].source.startswith("**To go on:**")
    assert len(re.findall(r"^show\(", code, re.M)) >= 1
    assert len(re.findall(r"# CHANGE ME", code)) >= 1
    assert len(re.findall(r"^plot\(", code, re.M)) >= 1
    assert [cell.metadata["tags"] for cell in cells if "tags" in cell.metadata] == [["fold"], ["solution"]]
    taught = prose.split("\n## Exercise\n")[0]  # an exercise may give numbers
    plain = re.sub(r"Qwen3\.5|`[^`]+`|\$\$.+?\$\$|\$[^$\n]+\$|\]\([^)]+\)", "", taught, flags=re.S)
    assert re.findall(r"\d+[.,]\d+", plain) == []  # numbers that a lesson quotes are computed
    for path in re.findall(r"`((?:qwen_ref|gguf_io|examples|docs)/[\w/]+\.\w+)`", prose):
        assert (ROOT / path).is_file(), path


def test_the_course_lists_every_lesson():
    listed = re.findall(
        r"^\d+\. \[(.+?)\]\((\w+\.py)\)", (build.FOLDER / "README.md").read_text("utf-8"), re.M
    )
    assert listed == [(build.title(path).split(". ", 1)[1], path.name) for path in LESSONS]
    assert [int(path.stem[:2]) for path in LESSONS] == list(range(1, len(LESSONS) + 1))


def test_lines_that_have_moved_or_gone_are_missed():
    path, number, lines = lines_of(deltanet.deltanet, "beta = tap", "g = w.A")
    stands = (ROOT / path).read_text(encoding="utf-8").splitlines()[number - 1 : number - 1 + len(lines)]
    assert [line.strip() for line in stands] == [line.strip() for line in lines]
    for first, last in [("no such line", None), ("beta = tap", "no such line"), ("g = w.A", "beta = tap")]:
        with pytest.raises(LookupError, match=r"deltanet\.py: deltanet: "):
            lines_of(deltanet.deltanet, first, last)
    with pytest.raises(LookupError, match=r"\d lines begin with 'return', not one"):
        lines_of(norm, "return")
