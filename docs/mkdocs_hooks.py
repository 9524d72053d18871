"""What mkdocs.yml cannot say: the site holds pages from the whole repository, each at its own path.

So a link that works between files of the repository works in the site. A page is in it if docs/ has it or
a page links to it; source files that pages link to are copied as plain text.
"""

import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)#\s]+)")  # [text](path#anchor) -> path
LESSONS = "build/lessons"
COLUMN = re.compile(r"^\S+(, \S+)* {2,}\S", re.MULTILINE)  # name   meaning


def linked(page: str) -> list[str]:
    """The files of the repository that a page links to, by their paths in it."""
    links = LINK.findall((ROOT / page).read_text(encoding="utf-8"))
    paths = [(ROOT / page).parent.joinpath(link).resolve() for link in links if "://" not in link]
    paths = [path / "README.md" if path.is_dir() else path for path in paths]
    return [
        path.relative_to(ROOT).as_posix() for path in paths if path.is_file() and path.is_relative_to(ROOT)
    ]


def repository_files() -> list[str]:
    """All pages of docs/, the README, and what can be reached from them."""
    found = ["README.md", *(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/*.md")))]
    for path in found:  # grows
        if path.endswith(".md"):
            found += [link for link in dict.fromkeys(linked(path)) if link not in found]
    return found


def on_config(config: Any) -> None:
    config.theme.static_templates.clear()  # 404.html and sitemap.xml are for a site with an address
    config.nav = existing(config.nav)


def existing(nav: list[Any]) -> list[Any]:
    """The entries of the menu whose files there are."""
    kept: list[Any] = []
    for entry in nav:
        title, target = next(iter(entry.items())) if isinstance(entry, dict) else (None, entry)
        if isinstance(target, list):
            if target := existing(target):
                kept.append({title: target})
        elif (ROOT / target).is_file():
            kept.append(entry)
    return kept


def on_files(files: Files, config: Any) -> Files:
    own = [
        file for file in files if not Path(file.abs_src_path or "").is_relative_to(ROOT / "docs")
    ]  # the theme's
    for path in repository_files():
        file = File.generated(config, path, abs_src_path=str(ROOT / path))
        if path == "docs/index.md":
            file.dest_uri = file.url = "index.html"
        elif path == "README.md":
            file.dest_uri = file.url = "README.html"
        elif not path.endswith((".md", ".png", ".svg")):
            file.dest_uri = file.url = f"{path}.txt"  # which every browser shows
        own.append(file)
    for lesson in sorted((ROOT / LESSONS).rglob("*")):  # if they were made
        if lesson.is_file():
            path = lesson.relative_to(ROOT).as_posix()
            own.append(File.generated(config, path, abs_src_path=str(lesson)))
    return Files(own)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """A link to a folder shows its README."""
    folder = (ROOT / page.file.src_uri).parent

    def whole(link: re.Match[str]) -> str:
        is_folder = (folder / link[1] / "README.md").is_file()
        return link[0].rstrip("/") + "/README.md" if is_folder else link[0]

    return LINK.sub(whole, markdown)


class Docstrings(griffe.Extension):
    """Docstrings are not Markdown: columns of names and meanings stay as written, x[0][1] is no link."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            paragraphs = obj.docstring.value.split("\n\n")
            shown = [f"```text\n{p}\n```" if COLUMN.search(p) else literal(p) for p in paragraphs]
            obj.docstring.value = "\n\n".join(shown)


def literal(paragraph: str) -> str:
    """Outside of code, brackets that are only brackets."""
    if paragraph.startswith("    "):  # all of it is code
        return paragraph
    parts = paragraph.split("`")
    return "`".join(part if i % 2 else part.replace("[", "\\[") for i, part in enumerate(parts))
