"""Goldens in the tests of other engines. docs/golden-in-tests.md shows how.

pytest loads this in every run wherever qwen_ref is installed, so nothing here imports NumPy, or the rest of
qwen_ref, before a test asks for a golden.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import numpy as np

    from qwen_ref.config import Config
    from qwen_ref.oracle.compare import Found, Report
    from qwen_ref.oracle.golden import Golden

MARKER = (
    "qwen_golden(file, allow='float32', tiled=False, **options): the golden that the fixture qwen_golden "
    "opens, the arithmetic that may explain a difference, whether V heads stand in GGUF's order, and the "
    "options of `golden record` with which --golden-update records it: model='model.gguf', prompt='Why?' …"
)
RECORDED = pytest.StashKey[dict[Path, dict[str, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("qwen_golden", "golden outputs of Qwen3.5")
    group.addoption(
        "--golden-update",
        action="store_true",
        help="record each golden that a test opens anew, by qwen_ref's exact computation",
    )
    parser.addini("qwen_golden_dir", "the folder of the goldens (goldens/ beside each test file)")
    parser.addini(
        "qwen_golden_model",
        "the model file that --golden-update records from, if a test names none (the small one that ships)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    config.stash[RECORDED] = {}


class OpenGolden:
    """A golden in a test.

    about   where it comes from: model file, prompt, options
    inputs  token_ids [T], positions [3, T], …
    config  the model's hyper-parameters, under transformers' names
    """

    def __init__(self, golden: Golden, allow: str, tiled: bool, node: pytest.Item):
        self.golden, self.allow, self.tiled, self.node = golden, allow, tiled, node
        self.about: dict[str, Any] = golden.about
        self.inputs: dict[str, np.ndarray] = golden.inputs
        self.config: Config = golden.config

    def check(
        self, found: Found, allow: str | None = None, names: Sequence[str] = (), tiled: bool | None = None
    ) -> Report:
        """qwen_ref.oracle.check.check with this golden; `allow` and `tiled` are the marker's, if not given.

        pytest -rP says of a test that passes what was judged.
        """
        __tracebackhide__ = True
        from qwen_ref.errors import QwenRefError
        from qwen_ref.oracle.check import check, scope

        try:
            tiled = self.tiled if tiled is None else tiled
            report = check(self.golden, found, allow or self.allow, names, tiled)
        except QwenRefError as error:
            pytest.fail(str(error))
        self.node.add_report_section("call", "qwen_golden", "\n".join([report.verdict, *scope(report)]))
        return report


class Opener:
    """What the fixture is: qwen_golden("why.safetensors"), or qwen_golden() where a marker names the file."""

    def __init__(self, request: pytest.FixtureRequest):
        self.config, self.folder, self.node = request.config, request.path.parent, request.node
        self.marker = request.node.get_closest_marker("qwen_golden") or pytest.mark.qwen_golden().mark

    def __call__(self, file: str | None = None, **options: Any) -> OpenGolden:
        """Options are the marker's, and go before it. The test fails if the golden cannot be opened."""
        __tracebackhide__ = True
        from qwen_ref.errors import QwenRefError
        from qwen_ref.oracle.golden import load

        if file is None and not self.marker.args:
            pytest.fail("qwen_golden: neither the call nor a marker names a file")
        path = self.find(file or self.marker.args[0])
        options = {**self.marker.kwargs, **options}
        allow, tiled = options.pop("allow", "float32"), options.pop("tiled", False)
        if self.config.getoption("golden_update"):
            self.record(path, options)
        elif not path.exists():
            pytest.fail(f"{path}: there is no such file; record it with: pytest --golden-update")
        try:
            return OpenGolden(load(path), allow, tiled, self.node)
        except QwenRefError as error:
            pytest.fail(str(error))

    def find(self, file: str) -> Path:
        folder = self.config.getini("qwen_golden_dir")
        return (self.config.rootpath / folder if folder else self.folder / "goldens") / file

    def record(self, path: Path, options: dict[str, Any]) -> None:
        """Once in a run, by the command itself: so it knows every option, and frees its memory again."""
        __tracebackhide__ = True
        if "model" not in options and (model := self.config.getini("qwen_golden_model")):
            options = {**options, "model": str(self.config.rootpath / model)}
        recorded = self.config.stash[RECORDED]
        if path in recorded:
            if recorded[path] != options:
                pytest.fail(f"{path}: cannot be recorded both with {recorded[path]} and with {options}")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-m", "qwen_ref", "golden", "record", "--out", str(path)]
        line = [*command, *arguments(options)]
        from qwen_ref import children

        done = children.run(line, cwd=self.folder, stdout=PIPE, stderr=PIPE, text=True)
        if done.returncode:
            why = done.stderr.strip().splitlines() or [f"the command ended with {done.returncode}"]
            pytest.fail(f"{path}: cannot be recorded: {why[-1]}")
        recorded[path] = options


def arguments(options: Mapping[str, Any]) -> list[str]:
    """raw=True, thinking=False, image=["a.png", "b.png"] -> --raw --no-thinking --image=a.png …"""
    line = []
    for name, value in options.items():
        if isinstance(value, bool):
            line.append(f"--{name}" if value else f"--no-{name}")
        elif name == "names":  # the one that takes its values together
            line += ["--names", *value]
        else:
            line += [f"--{name}={one}" for one in (value if isinstance(value, list | tuple) else [value])]
    return line


@pytest.fixture
def qwen_golden(request: pytest.FixtureRequest) -> Opener:
    """Opens a golden: qwen_golden("why.safetensors") has .inputs, .config, .about and .check(found)."""
    return Opener(request)
