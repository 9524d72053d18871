"""From a prompt to text.

backend.py     what computes: kernels or NumPy, and on how many threads
model.py       a loaded model: its layers, and what can be asked of it
sequence.py    texts that the model reads on in, several at once
draft.py       guesses of what comes next, which the model has only to check
generation.py  an answer in the making: sampling, drafts, stop strings
"""

from qwen_ref.engine.generation import Generation, advance
from qwen_ref.engine.model import Model, load, open_media
from qwen_ref.engine.sequence import Sequence, step

__all__ = ["Generation", "Model", "Sequence", "advance", "load", "open_media", "step"]
