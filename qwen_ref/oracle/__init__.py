"""Golden outputs: what the model computes, recorded exactly, for the tests of other engines.

- golden.py      the file: what is in it, reading and writing
- names.py       the names of what is observed, here, in transformers and in llama.cpp
- arithmetic.py  what float32, bfloat16, float16 and 8-bit activations do to a computation that is else exact
- record.py      a model and a prompt -> a golden
- compare.py     a golden and what another engine computed -> where they part, and by how much
- logits.py      divergence and agreement of logits
- budget.py      how far off an engine of some arithmetic may be
- causes/        known mistakes, recognised by what they do to a tensor
- hooks.py       watches a transformers model
- callback.py    reads what llama.cpp's llama-eval-callback prints
- check.py       a comparison as an assertion, for tests
- page.py        a comparison as an HTML page
- export.py      a golden as JSON and raw numbers, for engines in any language; raw dumps of theirs
- conformance.py the kit (kit/), and engines that are run over it
"""
