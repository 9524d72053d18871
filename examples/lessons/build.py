"""Make pages of the lessons: each is run as a notebook, and written with its outputs into one HTML file that
needs nothing from outside, beside an index page. Equations become MathML, which browsers draw by themselves.

    python examples/lessons/build.py build/lessons          # all, in order
    python examples/lessons/build.py build/lessons 07 12    # these
"""

from __future__ import annotations

import argparse
import html
import re
import time
from pathlib import Path
from typing import Any

import jupytext
import mistune
import nbformat
from jinja2 import DictLoader
from latex2mathml.converter import convert
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

FOLDER = Path(__file__).resolve().parent
SECONDS = 120  # a cell may take: a lesson should take less than half of it

STYLE = (FOLDER / "page.css").read_text(encoding="utf-8")
# tag of a cell -> what stands before it
FOLDED = {"fold": "How an answer is checked", "solution": "A solution"}
TEMPLATE = """
{%- extends 'basic/index.html.j2' -%}
{% block codecell %}
{%- set tags = cell.metadata.get('tags', []) -%}
{%- for tag, summary in resources.folded.items() if tag in tags -%}
<details><summary>{{ summary }}</summary>{{ super() }}</details>
{%- else -%}{{ super() }}{%- endfor -%}
{% endblock codecell %}
"""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,"><style>{style}</style></head>
<body><nav>{links}</nav><main>{body}</main><footer>{links}</footer></body></html>
"""
MATH = re.compile(
    r"(`+)[^`].*?\1|\$\$(?P<block>.+?)\$\$|(?<![\w$\\])\$(?=\S)(?P<inline>[^$\n]+?)(?<=\S)\$(?![\w$])", re.S
)


def lessons() -> list[Path]:
    """In order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def title(lesson: Path) -> str:
    """As it stands in the first line."""
    return jupytext.read(lesson).cells[0].source.splitlines()[0].removeprefix("# ")


def run(lesson: Path) -> Any:
    """The lesson as a notebook with its outputs. Raises nbclient's CellExecutionError where a cell raises."""
    notebook = jupytext.read(lesson)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    place, quiet = {"metadata": {"path": str(FOLDER)}}, ["--log-level=ERROR"]
    NotebookClient(notebook, timeout=SECONDS, resources=place, extra_arguments=quiet).execute()
    return notebook


class Equations:
    """Takes equations out of Markdown before it becomes HTML, and puts them back as MathML."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def take(self, markdown: str) -> str:
        def one(match: re.Match[str]) -> str:
            if match[1]:  # code
                return match[0]
            kind, latex = ("block", match["block"]) if match["block"] else ("inline", match["inline"])
            latex = re.sub(r"\b(begin|end)\{aligned\}", r"\1{align*}", latex)  # which the library calls so
            self.found.append(convert(" ".join(latex.split()), display=kind))
            return f"EQUATION{len(self.found) - 1}X"

        return MATH.sub(one, markdown)

    def put(self, page: str) -> str:
        return re.sub(r"EQUATION(\d+)X", lambda match: self.found[int(match[1])], page)


def shown(code: str) -> str:
    """Code without what it says in words right below: a paragraph, lines of source, a plot's caption."""
    code = re.sub(r"^say\(.*?^\"\"\"\)\n?", "", code, flags=re.S | re.M)
    code = re.sub(r"^show\(.*\)$", "", code, flags=re.M)
    return re.sub(r"^plot\(\n.*?^\)", "plot(fig, ...)", code, flags=re.S | re.M).strip()


def page(lesson: Path, notebook: Any) -> str:
    """The notebook's page."""
    equations = Equations()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = equations.take(cell.source)
        else:
            cell.source = shown(cell.source)
            cell.metadata["transient"] = {"remove_source": not cell.source}
        for output in cell.get("outputs", ()):
            if "text/markdown" in output.get("data", {}):
                output.data["text/markdown"] = equations.take(output.data["text/markdown"])
    exporter = HTMLExporter(
        extra_loaders=[DictLoader({"lesson.html.j2": TEMPLATE})],
        template_file="lesson.html.j2",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    body, _ = exporter.from_notebook_node(notebook, resources={"folded": FOLDED})
    return dressed(title(lesson), equations.put(body), links(lesson))


def links(lesson: Path) -> str:
    """To the lessons before and behind, and to the index."""
    every = lessons()
    at = every.index(lesson)
    before = "".join(f'<a href="{x.stem}.html">← {title(x)}</a>' for x in every[max(at - 1, 0) : at])
    behind = "".join(f'<a href="{x.stem}.html">{title(x)} →</a>' for x in every[at + 1 : at + 2])
    return f'<span>{before}</span><a href="index.html">All lessons</a><span>{behind}</span>'


def dressed(name: str, body: str, links: str = "") -> str:
    for wide in "<pre", '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"':
        body = body.replace(f"{wide}>", f'{wide} tabindex="0">')  # so that the keyboard can scroll it
    return PAGE.format(title=html.escape(name), style=STYLE, links=links, body=body)


def index() -> str:
    """The page that lists the lessons: the course's README."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\((\d\d_\w+)\.py\)", r"(\1.html)", text)
    text = re.sub(r"\[([^\]]+)\]\((?!\w+\.html)[^)]+\)", r"`\1`", text)  # what lies in the project only
    equations = Equations()
    body = mistune.html(equations.take(text))
    return dressed("Lessons", equations.put(str(body)))


def write(lesson: Path, folder: Path) -> Path:
    """Run a lesson and write its notebook and its page."""
    notebook = run(lesson)
    nbformat.write(notebook, folder / f"{lesson.stem}.ipynb")
    target = folder / f"{lesson.stem}.html"
    target.write_text(page(lesson, notebook), encoding="utf-8")
    return target


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the pages go")
    parser.add_argument("numbers", nargs="*", help="of lessons; all unless given")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for lesson in lessons():
        if options.numbers and lesson.name[:2] not in options.numbers:
            continue
        started = time.perf_counter()
        try:
            write(lesson, options.folder)
        except CellExecutionError as error:
            parser.exit(1, f"{lesson.name}: {error}\n")
        print(f"{lesson.stem:24}{time.perf_counter() - started:6.1f} s", flush=True)
    (options.folder / "index.html").write_text(index(), encoding="utf-8")


if __name__ == "__main__":
    main()
