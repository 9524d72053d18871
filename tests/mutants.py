"""Plants small mistakes in modules, one at a time, and tables in MUTANTS.md what the core tests catch.

python tests/mutants.py qwen_ref/model/rope.py ...     (all modules unless some are named)
python tests/mutants.py --sample 40                     (40 of each module's, the same in each run)

mutmut (its settings stand in setup.cfg) changes an operator, a number, a string or an argument of a function,
and runs the tests that call this function. It leaves alone what is decorated or stands in no function. What
survived is listed below the table; a reason that is written behind it is kept, and one that begins with
"same" says that the mistake is none: that it changes nothing that anyone could see.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name

ROOT = Path(__file__).resolve().parents[1]
COPY = ROOT / "build" / "mutants"  # in which mutmut works, and plants mistakes in these modules alone
PAGE = ROOT / "tests" / "MUTANTS.md"
KILLED = {1, 3, 24, -24, 36, 152, 255, -11, -9}  # by a test, by its time, or by the system
NO_TEST = {5, 33}
ROW = re.compile(r"^\| (\S+\.py) \|.*\|$", re.M)
SECTION = re.compile(r"^## (\S+\.py)\n\n((?:- .*\n)+)", re.M)
SURVIVOR = re.compile(r"^(- .* → `[^`]*`)(?:: (.*))?$", re.M)
HEAD = """# Planted mistakes

What `make mutants MODULES="FILE ..." TESTS="FILE ..." SAMPLE=N` found (mutmut; see tests/mutants.py): of all
mistakes that a module can hold, so many, drawn at random, were planted one at a time, and so many of these
were caught by these tests; others may catch more. Those that change nothing do not count in the share.

| module | mistakes | planted | caught | change nothing | share | on | by these tests |
|---|---:|---:|---:|---:|---:|---|---|
"""


def modules() -> list[str]:
    """All that there are but the kernels, whose functions Numba compiles."""
    found = [*ROOT.glob("gguf_io/**/*.py"), *ROOT.glob("qwen_ref/**/*.py")]
    names = sorted(str(path.relative_to(ROOT)) for path in found)
    return [name for name in names if not fnmatch.fnmatch(name, "qwen_ref/kernels/*")]


def mutmut(*arguments: str, **options: Any) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    options = dict(cwd=COPY, check=True, text=True, encoding="utf-8") | options
    # Programs that tests start hold the mistake too.
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": str(COPY / "mutants")}, **options).stdout


def mistakes(module: str, sample: int | None) -> tuple[list[str], int]:
    """mutmut's names of those to plant, and how many there are."""
    source = (ROOT / module).read_text(encoding="utf-8")
    names = [
        get_mutant_name(Path(module), name) for name in mutate_file_contents(module, source).mutant_names
    ]
    if sample is None or sample >= len(names):
        return names, len(names)
    return random.Random(module).sample(names, sample), len(names)


def copy_project(modules: list[str], tests: list[str]) -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    (COPY / "mutants").mkdir(parents=True)  # or Python notes that PYTHONPATH is nowhere, and leaves it out
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in filter(None, subprocess.check_output(listed, cwd=ROOT, text=True).split("\0")):
        if (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name)
    settings = (COPY / "setup.cfg").read_text(encoding="utf-8")
    only = "".join(f"\n    {module}" for module in modules)
    changed = settings.replace("[mutmut]\n", f"[mutmut]\nonly_mutate ={only}\n")
    if tests:
        changed = changed.replace(
            "\n    tests/gguf_io\n    tests/qwen_ref\n", "\n    ".join(["", *tests]) + "\n"
        )
    (COPY / "setup.cfg").write_text(changed, encoding="utf-8")


def survivor(name: str) -> str:
    """function: what stood there → what stands there instead."""
    lines = mutmut("show", name, stdout=subprocess.PIPE).splitlines()
    old, new = (
        " ".join(line[1:].strip() for line in lines if re.match(rf"[{sign}](?![{sign}])", line))
        for sign in "-+"
    )
    function = (
        name.rpartition(".")[2].partition("__mutmut")[0].removeprefix("x").strip("_ǁ").replace("ǁ", ".")
    )
    return f"- {function}: `{old}` → `{new}`".replace("``", "")


def report(
    module: str, planted: list[str], total: int, tests: list[str], reasons: dict[str, str]
) -> tuple[str, str]:
    """The row of the table, and the list of what survived."""
    found = json.loads((COPY / "mutants" / f"{module}.meta").read_text(encoding="utf-8"))["exit_code_by_key"]
    codes = {name: found[name] for name in planted}
    killed = sum(code in KILLED for code in codes.values())
    assert None not in codes.values(), f"{module}: mutmut has not come to its end"
    left = sorted({survivor(name) for name, code in codes.items() if code == 0})
    untested = sum(code in NO_TEST for code in codes.values())
    same = sum(reasons.get(line, "").startswith("same") for line in left)
    share = killed / (len(codes) - same) if len(codes) > same else 1.0
    today = datetime.date.today()
    by = ", ".join(Path(test).stem.removeprefix("test_") for test in tests) or "all"
    row = f"| {module} | {total} | {len(codes)} | {killed} | {same} | {share:.0%} | {today} | {by} |"
    lines = [line + (f": {reasons[line]}" if reasons.get(line) else "") for line in left]
    if untested:
        lines.append(f"- {untested} are in functions that no test calls in its own process")
    return row, "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", metavar="FILE", default=modules())
    parser.add_argument("--tests", nargs="+", metavar="FILE", default=[], help="these alone (the core tests)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--sample", type=int, metavar="N", help="plant N in each module (all)")
    parser.add_argument("--table", action="store_true", help="only write the table anew, after the last run")
    args = parser.parse_args()
    if not args.table:
        copy_project(args.modules, args.tests)
    for module in args.modules:
        planted, total = mistakes(module, args.sample)
        if not planted:  # there is no function in it
            continue
        if not args.table:
            mutmut("run", "--max-children", str(args.processes), *planted)
        write(module, planted, total, args.tests)


def write(module: str, planted: list[str], total: int, tests: list[str]) -> None:
    """The page anew, after each module, so that a run that is cut off keeps what it found."""
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    rows = {row[1]: row[0] for row in ROW.finditer(before)}
    lists = {section[1]: section[2].rstrip() for section in SECTION.finditer(before)}
    reasons = {line[1]: line[2] or "" for line in SURVIVOR.finditer(lists.get(module, ""))}
    rows[module], lists[module] = report(module, planted, total, tests, reasons)
    there = [name for name in modules() if name in rows]
    text = HEAD + "".join(rows[name] + "\n" for name in there)
    text += "".join(f"\n## {name}\n\n{lists[name]}\n" for name in there if lists.get(name))
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
