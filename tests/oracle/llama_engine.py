"""llama.cpp as an engine of the conformance kit:

    python -m qwen_ref conformance --engine tests/oracle/llama_engine.py

Tensors are those that llama-eval-callback prints for the prompt's text. Logits of the prompt's last token and
of those behind it are llama-server's answer: logarithms of probabilities, to which the exact logarithm of the
sum is added. Its chat template and its tokenizer are asked where there is a conversation.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "fixtures"))

import make
from llama_server import Ask, serve

from gguf_io import open_gguf
from qwen_ref.errors import QwenRefError
from qwen_ref.oracle import callback
from qwen_ref.oracle.compare import Partial
from qwen_ref.oracle.conformance import Case, NotSupported

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
GREEDY = dict(temperature=0, top_k=1, repeat_penalty=1, cache_prompt=False, return_tokens=True)


def run(case: Case) -> Mapping[str, Any]:
    if any(path.suffix == ".gif" for path in case.media):
        raise NotSupported("llama-server takes no clips")
    if case.positions[0, 0]:
        raise NotSupported("llama-server counts positions from 0")
    found: dict[str, Any] = {} if case.media else tensors(case)
    options = ["--mmproj", case.mmproj] if case.media else []
    with serve(case.model, "-c", 4096, *options) as ask:
        if case.messages and not case.media:
            asked = {"messages": case.messages, "tools": case.tools or []}
            if case.thinking is not None:
                asked["chat_template_kwargs"] = {"enable_thinking": case.thinking}
            rendered = ask("/apply-template", asked)["prompt"]
            tokenized = {"content": rendered, "add_special": True, "parse_special": True}
            found["token_ids"] = np.array(ask("/tokenize", tokenized)["tokens"])
        answer = ask("/completion", {**GREEDY, **prompt_of(case, ask), **counts(case)})
        logits = logits_of(case, answer) if case.media else forced(case, ask)
    found["generated"] = np.array(answer["tokens"])
    if not case.media:
        found["steps"] = np.array(len(case.steps))
    entry = case.golden.entries["logits"]
    found["logits"] = Partial(entry.sample(logits), 0.0)
    return found


def forced(case: Case, ask: Ask) -> np.ndarray:
    """[T, vocab] of the prompt's last token and of each after it, each read in a request of its own, which
    goes on from the state of the one before. Raises QwenRefError if it did not go on.

    It tells no logits where the token that it chooses ends inside a character: a bias, which logits do not
    have in them, makes it choose an "a" each time.
    """
    logits = np.full(case.golden.entries["logits"].shape, np.nan)
    a = list(open_gguf(case.model).metadata["tokenizer.ggml.tokens"]).index("a")
    asked = {**GREEDY, "cache_prompt": True, "n_predict": 1, "n_probs": case.golden.config.vocab_size}
    asked["logit_bias"] = [[a, 1e6]]
    for row in range(case.prompt_tokens - 1, len(case.token_ids)):
        answer = ask("/completion", {**asked, "prompt": case.token_ids[: row + 1]})
        if row >= case.prompt_tokens and answer["timings"]["prompt_n"] != 1:
            raise QwenRefError("llama-server read more than one token in a step")
        (step,) = answer["completion_probabilities"]
        keep(logits, row, step, case)
    return logits


def keep(logits: np.ndarray, row: int, step: dict[str, Any], case: Case) -> None:
    """What the server tells of one step."""
    for token in step["top_logprobs"]:
        logits[row, token["id"]] = token["logprob"] + case.golden.inputs["log_total"][row]


def tensors(case: Case) -> dict[str, Any]:
    """Of the prompt alone; none if a conversation's text is cut into other tokens than the conversation."""
    with tempfile.TemporaryDirectory() as scratch:
        dump = Path(scratch) / "dump.txt"
        dump.write_bytes(make.eval_callback(case.model, case.text))
        try:
            return dict(callback.read(dump, case.golden))
        except QwenRefError:
            if case.messages:
                return {}
            raise


def prompt_of(case: Case, ask: Ask) -> dict[str, Any]:
    if not case.media:
        return {"prompt": case.prompt_ids}
    marker = ask("/props", None)["media_marker"]
    pictures = [base64.b64encode(path.read_bytes()).decode() for path in case.media]
    return {"prompt": {"prompt_string": case.text.replace(IMAGE, marker), "multimodal_data": pictures}}


def counts(case: Case) -> dict[str, int]:
    """Probabilities only where they are read from the whole answer."""
    return {"n_predict": len(case.steps)} | ({"n_probs": case.golden.config.vocab_size} if case.media else {})


def logits_of(case: Case, answer: dict[str, Any]) -> np.ndarray:
    """[T, vocab], NaN where they are not known: as long as its tokens are the golden's.

    The server leaves out tokens that end inside a character. So what is shown is a part of all its tokens, in
    order; a step is known if it can stand in one place only.
    """
    logits = np.full(case.golden.entries["logits"].shape, np.nan)
    tokens, steps = answer["tokens"], answer["completion_probabilities"]
    shown = [step["id"] for step in steps]
    first = leftmost(tokens, shown)
    last = [len(tokens) - 1 - at for at in reversed(leftmost(tokens[::-1], shown[::-1]))]
    for step, at, also in zip(steps, first, last):
        row = case.prompt_tokens - 1 + at  # these logits chose token number `at` of the answer
        if at == also and tokens[:at] == case.token_ids[case.prompt_tokens : row + 1]:
            keep(logits, row, step, case)
    return logits


def leftmost(tokens: list[int], shown: list[int]) -> list[int]:
    """Where each of `shown`, which are some of the tokens in order, can stand at the earliest."""
    places, at = [], -1
    for token in shown:
        at = tokens.index(token, at + 1)
        places.append(at)
    return places
