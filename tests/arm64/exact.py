"""The conformance kit computed anew in float64, with NumPy: is it what another processor recorded?

    python tests/arm64/exact.py [CASE ...]

Prints how far each case is from its golden, with more digits than `python -m qwen_ref conformance`, of which
`run` is an engine: what share of float64's budget the worst tensor takes, and the largest error of any tensor
(rms, relative to the tensor's). Exit status 1 unless float64 explains all and the tokens are the same.
"""

from __future__ import annotations

import itertools
import operator
import sys
from dataclasses import replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from qwen_ref.engine import load, look
from qwen_ref.model.mtp import MTPLayer
from qwen_ref.oracle import conformance, record
from qwen_ref.oracle.arithmetic import unrounded
from qwen_ref.oracle.conformance import Case, encode


@threadpool_limits.wrap(limits=1)  # as goldens are recorded
def run(case: Case) -> dict[str, Any]:
    """The golden's tensors, whole and in float64, and the token_ids, positions [3, T] and greedy tokens."""
    model = load(case.model, dtype=np.float64, backend="numpy", mmproj=case.mmproj if case.media else None)
    network, prompt = model.text, encode(model, case)
    best = case.golden.inputs["top_ids"][case.prompt_tokens - 1 :, 0].tolist()
    greedy = sum(itertools.accumulate((a == b for a, b in zip(case.steps, best)), operator.mul))
    said = record.continued(model, prompt, greedy, model.tokenizer.eos_ids)
    prompt = replace(prompt, token_ids=prompt.token_ids + case.steps)  # forced ones, a second turn
    found: dict[str, Any] = {
        "token_ids": np.array(prompt.token_ids),
        "positions": prompt.positions,
        "generated": np.array(said.token_ids[case.prompt_tokens :], np.int64),
    }

    def keep(name: str, x: np.ndarray) -> None:
        if name in case.golden.entries:
            found[name] = record.canonical(name, x, network.config).copy()

    x, hidden = look.run(model, prompt, keep)
    found["logits"] = network.logits(hidden)
    if case.golden.config.num_mtp_layers:
        layer = MTPLayer(network)
        own, state = record.run_mtp(layer, prompt, x, hidden, keep)
        found["mtp.logits"] = layer.logits(own)
        draft_ids = case.golden.inputs["draft_ids"].tolist()
        _, draft = record.run_draft(layer, own[-1:], state, draft_ids, unrounded)
        found |= {name: rows for name, rows in draft.items() if name in case.golden.entries}
    return found


def main(patterns: list[str]) -> int:
    wrong = 0
    blas = [f"{lib['internal_api']} {lib['version']} for {lib['architecture']}" for lib in threadpool_info()]
    print("NumPy", np.__version__, "with", *blas)
    print("\n| case | tensors | share of the budget | relative error | where | greedy tokens |")
    print("|---|---:|---:|---:|---|---|")
    for result in conformance.run(run, conformance.cases(patterns or ["*"]), "float64"):
        name, report = result.case.name, result.report
        wrong += result.verdict != "right" or not report or bool(report.missing)
        if not report or result.note:
            print(f"| {name} | {result.verdict}: {result.note} | | | | |", flush=True)
            continue
        worst = max(report.differences, key=lambda d: d.share["float64"])
        relative = max(d.relative for d in report.differences)
        print(
            f"| {name} | {len(report.differences)} | {worst.share['float64']:.1e} | {relative:.1e} "
            f"| {worst.name} | {report.greedy} |",
            flush=True,
        )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
