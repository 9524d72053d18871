"""What the lessons share: lines of source shown, sentences with computed numbers, plots, exercises.

In a notebook each of them displays; a lesson that runs as a plain script prints the same.
"""

from __future__ import annotations

import base64
import functools
import html
import importlib.util
import inspect
import io
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import qwen_ref

ROOT = Path(__file__).resolve().parents[2]
MEDIA = ROOT / "examples" / "media"

BLUE, ORANGE, GREEN, PURPLE, GREY = "#2f6fa7", "#d9772b", "#3f8f5b", "#8463a8", "#8a8f98"
STYLE = {
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, PURPLE, GREY]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.grid": True,
    "grid.color": "#eeeeee",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "font.size": 10,
    "image.cmap": "Blues",
}
plt.rcParams.update(STYLE)


def in_notebook() -> bool:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")


def display(text: str, **kinds: str) -> None:
    """Of what is displayed, all kinds for a notebook (html=, markdown=); the text for everyone else."""
    if in_notebook():
        from IPython.display import display

        display({"text/plain": text, **{f"text/{kind}": value for kind, value in kinds.items()}}, raw=True)
    else:
        print(text)


def say(markdown: str) -> None:
    """A paragraph whose numbers were computed."""
    markdown = textwrap.dedent(markdown).strip()
    display(markdown, markdown=markdown)


# ---- source


def lines_of(function: Any, first: str, last: str | None = None) -> tuple[str, int, list[str]]:
    """(path, number of the first line, lines) of a function, class or module, from the line that begins with
    `first` to the next one that begins with `last`. Raises LookupError if there are none, or if the first is
    not the only one.
    """
    function = inspect.unwrap(function)  # `@part` wraps a layer's function
    source, number = inspect.getsourcelines(function)
    file = Path(inspect.getsourcefile(function) or "").resolve()
    path = file.relative_to(Path(qwen_ref.__file__).resolve().parents[1]).as_posix()
    name = getattr(function, "__name__", path)
    at = [i for i, line in enumerate(source) if line.strip().startswith(first)]
    if len(at) != 1:
        raise LookupError(f"{path}: {name}: {len(at)} lines begin with {first!r}, not one")
    start = end = at[0]
    if last is not None:
        end = next((i for i in range(start, len(source)) if source[i].strip().startswith(last)), -1)
        if end < 0:
            raise LookupError(f"{path}: {name}: no line behind {first!r} begins with {last!r}")
    lines = textwrap.dedent("".join(source[start : end + 1])).splitlines()
    return path, max(number, 1) + start, lines


def show(function: Any, first: str, last: str | None = None) -> None:
    """Lines of the very source that computes, as they stand in the file today; see `lines_of`."""
    path, number, lines = lines_of(function, first, last)
    place = f"{path}, line {number}" + (f" to {number + len(lines) - 1}" if len(lines) > 1 else "")
    code = "\n".join(lines)
    display(
        f"# {place}\n{code}",
        html=f'<figure class="source"><figcaption>{place}</figcaption>{coloured(code)}</figure>',
    )


def coloured(code: str) -> str:
    """The code as HTML; its colours are those of the page's other code."""
    try:
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer
    except ImportError:
        return f"<pre>{html.escape(code)}</pre>"
    return highlight(code, PythonLexer(), HtmlFormatter(cssclass="highlight"))


# ---- plots


def figure(columns: int = 1, rows: int = 1, height: float = 3.2, width: float = 8.0, **options: Any) -> Any:
    """A figure and its axes, as plt.subplots gives them."""
    return plt.subplots(rows, columns, figsize=(width, height), **options)


def plot(fig: Any, caption: str) -> None:
    """Show a figure, with a caption that also says in words what is to be seen."""
    caption = " ".join(caption.split())
    if in_notebook():
        picture = io.BytesIO()
        fig.savefig(picture, format="png", dpi=160)
        source = base64.b64encode(picture.getvalue()).decode()
        image = f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{source}">'
        text = f"<figcaption>{html.escape(caption)}</figcaption>"
        display(caption, html=f'<figure class="plot">{image}{text}</figure>')
    else:
        print(f"[figure] {caption}")
        if plt.get_backend().lower() not in ("agg", "pdf", "svg"):
            plt.show()
    plt.close(fig)


def picture(svg: str, caption: str) -> None:
    """Show a drawing."""
    drawing = svg[svg.index("<svg") :].replace(
        "<svg", f'<svg role="img" aria-label="{html.escape(caption)}"', 1
    )
    text = f"<figcaption>{html.escape(caption)}</figcaption>"
    display(f"[figure] {caption}", html=f'<figure class="plot">{drawing}{text}</figure>')


# ---- exercises

RIGHT = "Right."


def exercise(judge: Callable[[Any], str | None]) -> Callable[[Any], None]:
    """Makes `check` of a function that gives None for a right answer and a hint for a wrong one.

    Where no answer is given yet (`...`) it says so; where judging one raises, that is the hint.
    """

    @functools.wraps(judge)
    def check(answer: Any, whose: str = "") -> None:
        if answer is ...:
            display("Your turn: put your answer where the three dots are, and run this again.")
            return
        try:
            hint = judge(answer) if finite(answer) else "There are numbers in it that are not finite."
        except Exception as error:
            hint = (
                f"Your answer cannot be used ({type(error).__name__}: {error}); look at its type and shape."
            )
        text = RIGHT if hint is None else f"Not yet. {hint}"
        text = f"{whose}: {text}" if whose else text
        kind = "right" if hint is None else "hint"
        display(text, html=f'<p class="{kind}">{html.escape(text)}</p>')

    return check


def finite(answer: Any) -> bool:
    """Whether all numbers in it are; NaN passes any comparison that asks for what is too large."""
    if isinstance(answer, dict):
        return all(map(finite, answer.values()))
    if isinstance(answer, list | tuple):
        return all(map(finite, answer))
    numbers = isinstance(answer, float | np.floating | np.ndarray)
    return not numbers or np.asarray(answer).dtype.kind not in "fc" or bool(np.isfinite(answer).all())


def close(a: Any, b: Any, tolerance: float = 1e-4) -> bool:
    """Whether numbers or arrays have the same shape and, relative to the largest, nearly the same values."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    return a.shape == b.shape and bool(np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-12))


# ---- examples beside the lessons


def example(name: str) -> ModuleType:
    """examples/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
