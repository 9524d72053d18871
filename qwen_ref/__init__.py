"""Qwen3.5 on a CPU, from GGUF files, in Python.

import qwen_ref
model = qwen_ref.load("Qwen3.5-0.8B-Q4_K_M.gguf")
for piece in model.generate("Why is the sky blue?"):
    print(piece, end="", flush=True)

Without a file, load() takes the small model that ships with the package.
"""

from __future__ import annotations

TYPE_CHECKING = False  # without typing: until nothing more than this is imported, Ctrl-C ends in a traceback
if TYPE_CHECKING:
    from typing import Any

    from qwen_ref.engine import Generation, Model, load
    from qwen_ref.errors import QwenRefError

__all__ = ["Generation", "Model", "QwenRefError", "load"]


def __getattr__(name: str) -> Any:
    """What is first asked for now: the pytest plugin loads this package in every run of pytest."""
    if name not in __all__:
        raise AttributeError(f"module 'qwen_ref' has no attribute {name!r}")
    if name == "QwenRefError":
        from qwen_ref.errors import QwenRefError

        return QwenRefError
    from qwen_ref import engine

    return getattr(engine, name)
