"""What the commands have in common."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from qwen_ref import shipped
from qwen_ref.errors import QwenRefError

MODEL_HELP = (
    "a Qwen3.5 GGUF file, any part of a split one, or the folder of a Hugging Face checkpoint "
    "(the small model that ships with qwen_ref)"
)
TILED_HELP = "the engine has V heads in GGUF's order; a golden has those together that share a K head"


THREADS_HELP = (
    "threads (unless given, as many as there are cores for this process, by taskset and the share of its "
    "container, or OMP_NUM_THREADS if that is less)"
)


def add_thinking(parser: argparse._ActionsContainer, explanation: str) -> None:
    """--thinking, --no-thinking, not both; `thinking` is true, false or None."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--thinking", action="store_const", const=True, help=explanation)
    either.add_argument(
        "--no-thinking", dest="thinking", action="store_const", const=False, help="or answer directly"
    )


def typed_text(typed: str) -> str:
    """An argument that is text. In the locale "C" it may come as bytes, which are UTF-8 nearly always."""
    try:
        typed.encode()
    except UnicodeEncodeError:
        typed = os.fsencode(typed).decode(errors="surrogateescape")
    return typed


def shipped_model() -> str:
    """The model of a command that was given none. Says so: nobody should take its answers for Qwen's."""
    name = shipped.MODEL.name
    print(f"no --model given: using the small model that ships with qwen_ref ({name})", file=sys.stderr)
    return str(shipped.MODEL)


def memory_of(gib: float | None) -> int | None:
    """--memory in bytes; None where it was not given. Raises QwenRefError."""
    if gib is None:
        return None
    if not 0 <= gib < 1 << 20:
        raise QwenRefError(f"--memory: {gib} is not in 0 to 1048576 GiB")
    return int(gib * 2**30)


def to_json(value: Any, indent: int | None = None) -> str:
    """Numbers that are not finite, which JSON cannot say, become null."""
    text = json.dumps(value)
    plain = json.loads(text, parse_constant=lambda name: None)
    return json.dumps(plain, indent=indent)
