"""This engine over the conformance kit of qwen_ref:

python -m qwen_ref conformance --engine kit.py
"""

from engine import Engine
from torch import Tensor

from qwen_ref.oracle.conformance import Case, NotSupported


def run(case: Case) -> dict[str, Tensor]:
    if case.media:
        raise NotSupported("it sees no pictures")
    if case.golden.config.yarn:
        raise NotSupported("it scales no RoPE")
    if case.positions[0, 0]:
        raise NotSupported("it counts positions from 0")
    found: dict[str, Tensor] = {}
    Engine(case.model).logits(case.token_ids, note=found.__setitem__)
    return found
