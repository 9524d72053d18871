"""What drafts are worth, at full size and without trained weights: answers that are given, in turn with and
without drafts.

    python tests/benchmarks/drafts.py MODEL.gguf [--rounds N]

The model computes each step as always, and its sampler then takes the token of the given text. Look-up drafts
meet a document and the same document with one word of 25 changed, and a table and the JSON made of it. Drafts
of an MTP layer, if the file has one, are computed by it and then replaced by the given text's tokens, of
which 85 % stay right: one token deep, and as deep as pays.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from pathlib import Path

from qwen_ref import load
from qwen_ref.engine import Generation
from qwen_ref.engine.draft import MTP, Drafts, Lookup
from qwen_ref.engine.guide import new_guides
from qwen_ref.prompt import Prompt
from qwen_ref.sampling import Sampler, Sampling

TEXT = Path(__file__).parents[2] / "docs" / "vision.md"
RIGHT = 0.85


class Given(Sampler):
    """Draws as always, and then takes the next token of a text."""

    def __init__(self, token_ids):
        super().__init__(Sampling(temperature=1.0, top_k=20, top_p=0.95, seed=0))
        self.token_ids = token_ids

    def choose(self, logits, tokens, prompt=0):
        super().choose(logits, tokens, prompt)
        return self.token_ids[len(tokens) - prompt]


class StandIn(MTP):
    """The layer's drafts, each replaced by the right token or a wrong one."""

    def __init__(self, text, token_ids, deep):
        super().__init__(text)
        self.token_ids, self.deep, self.random = token_ids, deep, random.Random(0)

    def offers(self, sequence):
        return min(self.deep, super().offers(sequence))

    def draft(self, sequence, tokens):
        super().draft(sequence, tokens)
        at = len(sequence) - len(sequence.prompt.token_ids)
        right = self.token_ids[at : at + tokens]
        self.guess = [t if self.random.random() < RIGHT else t + 1 for t in right]
        return self.guess


def edited(text: str) -> str:
    words = text.split(" ")
    for n in range(12, len(words), 25):
        words[n] = words[n][::-1]
    return " ".join(words)


def table() -> tuple[str, str]:
    rng = random.Random(1)
    names = ["Ana", "Ben", "Chloé", "Dmitri", "Eva", "Farid", "Grace", "Hugo", "Ines", "Jun", "Kofi", "Lea"]
    rows = [
        (n, rng.randrange(18, 90), f"{rng.randrange(10**6):06}", rng.choice(["Rome", "Oslo"])) for n in names
    ]
    keys = "name", "age", "number", "city"
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (keys, *rows)]
    return "\n".join(lines), json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=1)


def rate(model, prompt: str, token_ids: list[int], drafts: Drafts) -> tuple[float, dict]:
    ids = model.tokenizer.encode(prompt)
    asked = Prompt(ids)
    guides = new_guides(model.tokenizer, asked)
    generation = Generation(model, asked, Given(token_ids), len(token_ids), (), None, drafts, guides)
    list(generation)
    assert generation.token_ids == token_ids
    return (len(token_ids) - 1) / generation.decode_seconds, generation.drafted


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    model = load(args.model)
    model.warm_up()
    document, (rows, objects) = TEXT.read_text(encoding="utf-8")[:2000], table()
    cases = [
        ("look-up, an edited document", document, edited(document), lambda ids: [Lookup()]),
        ("look-up, JSON from a table", rows, objects, lambda ids: [Lookup()]),
        ("look-up, a text that does not repeat", rows, document, lambda ids: [Lookup()]),
    ]
    if model.config.num_mtp_layers:
        cases += [
            ("MTP, one token deep", rows, document, lambda ids: [StandIn(model.text, ids, 1)]),
            ("MTP, as deep as pays", rows, document, lambda ids: [StandIn(model.text, ids, 15)]),
        ]
    for name, prompt, text, sources in cases:
        ids = model.tokenizer.encode(text)[:300]
        plain, drafted = [], []
        for _ in range(args.rounds):
            plain.append(rate(model, prompt, ids, Drafts([]))[0])
            faster, counts = rate(model, prompt, ids, Drafts(sources(ids)))
            drafted.append(faster)
        ratios = [d / p for d, p in zip(drafted, plain, strict=True)]
        print(
            f"{name}: {statistics.median(ratios):.2f} x ({', '.join(f'{r:.2f}' for r in ratios)});", end=" "
        )
        print(f"{statistics.median(plain):.1f} -> {statistics.median(drafted):.1f} t/s; {counts}", flush=True)


if __name__ == "__main__":
    main()
