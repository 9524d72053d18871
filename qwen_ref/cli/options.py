"""What the commands have in common."""

from __future__ import annotations

import sys

from qwen_ref import shipped

MODEL_HELP = (
    "a Qwen3.5 GGUF file, any part of a split one, or the folder of a Hugging Face checkpoint "
    "(the small model that ships with qwen_ref)"
)


def shipped_model() -> str:
    """The model of a command that was given none. Says so: nobody should take its answers for Qwen's."""
    name = shipped.MODEL.name
    print(f"no --model given: using the small model that ships with qwen_ref ({name})", file=sys.stderr)
    return str(shipped.MODEL)
