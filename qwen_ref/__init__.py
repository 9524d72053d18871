"""Qwen3.5 on a CPU, from GGUF files, in Python.

import qwen_ref
model = qwen_ref.load("Qwen3.5-0.8B-Q4_K_M.gguf")
for piece in model.generate("Why is the sky blue?"):
    print(piece, end="", flush=True)

Without a file, load() takes the small model that ships with the package.
"""

from qwen_ref.engine import Generation, Model, load
from qwen_ref.errors import QwenRefError

__all__ = ["Generation", "Model", "QwenRefError", "load"]
