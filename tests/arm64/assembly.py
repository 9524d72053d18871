"""What the kernels become on a Cortex-A76 or A72: a table of their inner loops, made on any machine.

    python tests/arm64/assembly.py [--show KERNEL]
    NUMBA_CPU_NAME=cortex-a72 python tests/arm64/assembly.py

Numba is told that it runs on Arm, so it compiles for Arm, its own passes and LLVM's included; nothing that it
compiles is run. Where llvm-mca is installed, it estimates how many cycles one block takes. For the A76 it is
asked about the Neoverse N1, the same core for servers: for the A76 itself LLVM has only an A57's numbers.
"""

# Numba and the kernels look, when they are imported, at what is set before them.
# ruff: noqa: E402

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from types import ModuleType

CPU = os.environ.setdefault("NUMBA_CPU_NAME", "cortex-a76")
os.environ["NUMBA_CPU_FEATURES"] = "+neon,+dotprod" if CPU == "cortex-a76" else "+neon"
PRODUCTS = ("sdot", 16) if CPU == "cortex-a76" else ("smull", 8)  # an instruction, and how many it computes

import llvmlite.binding as llvm

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
llvm.get_process_triple = llvm.get_default_triple = lambda: "aarch64-unknown-linux-gnu"

from numba import types
from numba.core.caching import NullCache

sys.modules["qwen_ref.kernels.threads"] = ModuleType("threads")  # it would run what it compiles

from qwen_ref.kernels import matmul, simd


def _array(kind, dimensions=1):
    return types.Array(kind, dimensions, "C")


F32 = _array(types.float32)
W = types.Array(types.uint8, 2, "C", readonly=True)
FLOATS = _array(types.float32, 2)
TOKENS = (_array(types.int8, 2), FLOATS, _array(types.int32, 2), FLOATS, FLOATS, F32)
TYPES = "q4_0", "q8_0", "iq4_nl", "iq4_xs", "q4_k", "q5_k", "q6_k"
KERNELS = {  # the types of the arguments; how often the innermost loop turns for one block, if there are two
    f"tile_{name}": (getattr(matmul, f"tile_{name}"), (W, types.int64, *TOKENS), 1) for name in TYPES
}


def compile_for_arm(kernel, arguments) -> list[str]:
    """The instructions and labels of the kernel itself, without Python's wrapper around it."""
    kernel._cache = NullCache()
    kernel.compile(arguments)
    (text,) = kernel.inspect_asm().values()
    body = text.split("@function\n", 1)[1].split(".Lfunc_end0:", 1)[0]
    lines = (line.split("//")[0].strip() for line in body.splitlines())
    return [line for line in lines if line and (not line.startswith(".") or line.endswith(":"))]


def loops(code: list[str]) -> list[tuple[int, int]]:
    """Stretches from a label to a branch back to it that hold products, the shortest first."""
    labels = {line[:-1]: i for i, line in enumerate(code) if line.endswith(":")}
    found = []
    for end, line in enumerate(code):
        branch = re.match(r"(?:b|cb|tb)\S*\s.*?(\.LBB\w+)$", line)
        start = labels[branch[1]] if branch else end
        if start < end and any(PRODUCTS[0] in x for x in code[start:end]):
            found.append((start, end + 1))
    return sorted(found, key=lambda loop: loop[1] - loop[0])


def block(code: list[str], turns: int) -> list[str]:
    """The instructions that take one block: a loop, in which a loop inside is written out."""
    inside, outside = (loops(code) * 2)[:2]
    parts = code[slice(*inside)]
    if turns > 1:
        parts = code[outside[0] : inside[0]] + parts * turns + code[inside[1] : outside[1]]
    return [x for x in parts if not x.endswith(":")]


def cycles(instructions: list[str]) -> int | None:
    """Estimated cycles, block after block."""
    tool = shutil.which("llvm-mca-19") or shutil.which("llvm-mca")
    if tool is None:
        return None
    straight = [x for x in instructions if not re.match(r"(b\.|cb|tb)", x)]
    core = "neoverse-n1" if CPU == "cortex-a76" else CPU
    command = [tool, "-mtriple=aarch64", f"-mcpu={core}", "-iterations=100"]
    done = subprocess.run(command, input="\n".join(straight), capture_output=True, text=True, check=True)
    return round(int(re.search(r"Total Cycles:\s+(\d+)", done.stdout)[1]) / 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--show", choices=KERNELS, help="print the instructions of one block instead")
    show = parser.parse_args().show
    assert (simd.DOT == "sdot") == (CPU == "cortex-a76")
    bad = []
    if not show:
        print("| kernel | products | instructions | on the stack | calls | cycles | products a cycle |")
        print("|---|---|---|---|---|---|---|")
    for name, (kernel, arguments, turns) in KERNELS.items():
        if show in (None, name):
            code = block(compile_for_arm(kernel, arguments), turns)
            if show:
                print("\n".join(code))
                continue
            products = PRODUCTS[1] * sum(PRODUCTS[0] in x for x in code)
            stack = sum("[sp" in x for x in code)
            calls = sum(x.split()[0] in ("bl", "blr") for x in code)
            time = cycles(code)
            rate = f"{products / time:.1f}" if time else None
            print(f"| {name} | {products} | {len(code)} | {stack} | {calls} | {time} | {rate} |")
            if calls or not products:
                bad.append(name)
    if bad:
        sys.exit(f"a call in the loop, or no {PRODUCTS[0]}: {', '.join(bad)}")


if __name__ == "__main__":
    main()
