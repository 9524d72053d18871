"""The site of `make docs`, built into build/site: its links lead somewhere; it loads nothing from outside."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

ROOT = Path(__file__).parents[2]
OUTSIDE = re.compile(r"(https?:)?//")
LOADS = {
    ("script", "src"),
    ("link", "href"),
    ("img", "src"),
    ("source", "src"),
    ("iframe", "src"),
    ("video", "src"),
}


class Page(HTMLParser):
    """What a page loads, what it links to, and the anchors it has."""

    def __init__(self, path: Path):
        super().__init__()
        self.loads, self.links, self.anchors = list[str](), list[str](), set[str]()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("id", "name"):
                self.anchors.add(value or "")
            elif (tag, name) in LOADS:
                self.loads.append(value or "")
            elif (tag, name) == ("a", "href"):
                self.links.append(value or "")


@pytest.fixture(scope="module")
def site() -> Path:
    shutil.rmtree(ROOT / "build/site", ignore_errors=True)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]  # quiet, it would count no warnings
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    ran = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ROOT / "build/site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_page_of_the_folder_is_there(site):
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / ("index.html" if page.stem == "index" else f"docs/{page.stem}.html")).is_file()


def test_nothing_comes_from_outside(site, pages):
    assert not [
        (path.name, load) for path, page in pages.items() for load in page.loads if OUTSIDE.match(load)
    ]
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not [url for url in re.findall(r"url\(['\"]?([^)'\"]+)", text) if OUTSIDE.match(url)], style
        assert "@import" not in text, style


def test_what_is_linked_or_loaded_is_there(pages):
    broken = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            target, anchor = urldefrag(unquote(link))
            if OUTSIDE.match(target) or target.startswith(("data:", "mailto:")):
                continue
            file = path.parent.joinpath(target).resolve() if target not in ("", ".") else path
            if file.is_dir():
                file /= "index.html"
            if not file.is_file() or (anchor and file in pages and anchor not in pages[file].anchors):
                broken.append((path.name, link))
    assert not broken


def test_the_reference_has_docstrings(site):
    text = (site / "docs/reference.html").read_text(encoding="utf-8")
    for words in ("Answer a prompt: an iterator over pieces of text", "Raises GGUFError, with one sentence"):
        assert words in text


@pytest.mark.parametrize(
    "heading, source", [("How fast", "tests/benchmarks/RESULTS.md"), ("How exact", "tests/oracle/RESULTS.md")]
)
def test_figures_of_the_front_page_are_those_measured(heading, source):
    """A row's figures stand in one row of the page that they are quoted from, whose date is there as well."""
    section = (
        (ROOT / "docs/index.md")
        .read_text(encoding="utf-8")
        .partition(f"## {heading}")[2]
        .partition("\n## ")[0]
    )
    measured = (ROOT / source).read_text(encoding="utf-8")
    (date,) = set(re.findall(r"20\d\d-\d\d-\d\d", section))
    assert date in measured
    rows = [
        [cell.strip() for cell in line.split("|")] for line in section.splitlines() if line.startswith("|")
    ]
    of_source = [
        [cell.strip() for cell in line.split("|")] for line in measured.splitlines() if line.startswith("|")
    ]
    figures = [[cell for cell in row if re.fullmatch(r"[\d.]+(e-\d+)?", cell)] for row in rows]
    assert sum(map(bool, figures)) >= 4
    for quoted in filter(None, figures):
        assert any(set(quoted) <= set(row) for row in of_source), quoted
