"""Qwen3.5 on a CPU, from GGUF files, in Python.

import qwen_ref
model = qwen_ref.load("Qwen3.5-0.8B-Q4_K_M.gguf")
for piece in model.generate("Why is the sky blue?"):
    print(piece, end="", flush=True)

Without a file, load() takes the small model that ships with the package.
"""

from typing import TYPE_CHECKING, Any

from qwen_ref.errors import QwenRefError

if TYPE_CHECKING:
    from qwen_ref.engine import Generation, Model, load

__all__ = ["Generation", "Model", "QwenRefError", "load"]


def __getattr__(name: str) -> Any:
    """The engine, when it is first asked for: the pytest plugin loads this package in every run of pytest."""
    if name not in __all__:
        raise AttributeError(f"module 'qwen_ref' has no attribute {name!r}")
    from qwen_ref import engine

    return getattr(engine, name)
