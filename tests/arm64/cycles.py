"""How many cycles machine code takes on a processor, by llvm-mca (Debian's llvm-19).

It knows a processor's units and how long instructions take, and nothing of caches, memory, or branches that
were foretold wrongly.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping

TIMES = 100  # that a stretch follows itself


class Core:
    """triple and features as LLVM has them; model: whom llvm-mca is asked about; mark: the bytes of an
    instruction, named `name`, that no kernel has."""

    def __init__(self, triple: str, features: str, model: str, mark: bytes, name: str):
        self.triple, self.features, self.model, self.mark, self.name = triple, features, model, mark, name
        self.known: dict[bytes, float] = {}

    def instructions(self, codes: list[bytes]) -> list[list[str]]:
        """Each in words, without branches, which llvm-mca cannot follow."""
        command = [tool("llvm-mc"), "--disassemble", f"-triple={self.triple}", "-mattr=" + self.features]
        given = " ".join(f"{byte:#x}" for code in codes for byte in code + self.mark)
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
        found: list[list[str]] = [[]]
        for line in map(str.strip, done.stdout.splitlines()):
            if line.startswith(self.name):
                found.append([])
            elif line and not re.match(r"\.|b\b|b\.|bl|br|cb|tb|ret|j|call", line):
                found[-1].append(line)
        return found[:-1]

    def cycles(self, counts: Mapping[bytes, int]) -> float:
        """Of all that was run: each stretch of code as often as it was, as if it followed itself."""
        self.ask([code for code in counts if code not in self.known])
        return sum(self.known[code] * times for code, times in counts.items())

    def ask(self, codes: list[bytes]) -> None:
        self.known.update(dict.fromkeys(codes, 1.0))  # nothing but a branch
        words = [(code, lines) for code, lines in zip(codes, self.instructions(codes), strict=True) if lines]
        if not words:
            return
        text = ""
        for i, (_, lines) in enumerate(words):
            text += "\n".join([f"# LLVM-MCA-BEGIN {i}", *lines, f"# LLVM-MCA-END {i}", ""])
        command = [tool("llvm-mca"), f"-mtriple={self.triple}", f"-mcpu={self.model}", f"-iterations={TIMES}"]
        command += ["-all-views=false", "-summary-view"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        for i, total in re.findall(r"Code Region - (\d+).*?Total Cycles:\s+(\d+)", done.stdout, re.DOTALL):
            self.known[words[int(i)][0]] = int(total) / TIMES


def tool(name: str) -> str:
    found = shutil.which(f"{name}-19") or shutil.which(name)
    if found is None:
        sys.exit(f"{name} is needed: Debian's package llvm-19")
    return found
