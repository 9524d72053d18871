"""From a prompt to text.

backend.py     what computes: kernels or NumPy, and on how many threads
best_threads.py how many are the fastest, found by trying and kept
model.py       a loaded model: its layers, and what can be asked of it
sequence.py    texts that the model reads on in, several at once
prefixes.py    what was read once and is kept, for texts that begin the same; prefix_files.py has it on disk
draft.py       guesses of what comes next, which the model has only to check
guide.py       what may come next: budgets of thoughts, calls that must come
schema.py      the same for answers in JSON, by a schema
generation.py  an answer in the making: sampling, drafts, guides, stop strings
together.py    many texts, of which what is common is read once
likelihood.py  how likely given texts are behind others
look.py        a look inside a run: tensors by name, attention weights, states, a logit lens
repeats.py     whether it says the same over and over
"""

from qwen_ref.engine.generation import Generation, advance
from qwen_ref.engine.model import Model, load
from qwen_ref.engine.sequence import Sequence, step

__all__ = ["Generation", "Model", "Sequence", "advance", "load", "step"]
