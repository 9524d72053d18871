"""The small model that comes with the package, so that everything runs before a real one is fetched.

Its vision file lies beside it, where `load` looks for one.
"""

from pathlib import Path

MODEL = Path(__file__).with_name("tiny-Q4_K_M.gguf")
