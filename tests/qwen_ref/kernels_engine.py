"""Our own kernels as an engine of the conformance kit: its parts one after another, and greedy tokens.

python -m qwen_ref conformance --engine tests/qwen_ref/kernels_engine.py --allow float16
"""

from collections.abc import Iterator
from typing import Any

from qwen_ref import load
from qwen_ref.kernels import KERNELS
from qwen_ref.oracle.conformance import Case, encode
from qwen_ref.oracle.record import embed


def run(case: Case) -> Iterator[dict[str, Any]]:
    model = load(case.model)
    assert model.text.layers is KERNELS
    prompt = encode(model, case)
    count = len(case.token_ids) - case.prompt_tokens
    answer = model.generate(prompt, max_tokens=count, temperature=0, presence_penalty=0)
    list(answer)
    state = model.text.new_state()
    hidden = model.text.forward(embed(model, prompt), state, prompt.positions)
    logits = model.text.logits(hidden)
    yield {"token_ids": prompt.token_ids, "generated": answer.token_ids, "logits": logits}
    for part in case.parts[1:]:
        drafted = state.copy()
        logits = model.text.logits(model.text.forward(part.token_ids + part.rejected, drafted))
        if part.rejected:
            model.text.forward(part.token_ids, state)
        else:
            state = drafted
        yield {"token_ids": part.token_ids, "logits": logits}
