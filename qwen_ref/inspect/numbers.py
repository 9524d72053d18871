"""What the page shows of one run: the answer, and numbers out of a trace of prompt and answer together."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from qwen_ref.engine import Generation, Model, advance
from qwen_ref.engine.look import FOR_STATES, Best, States, Trace, likeliest, spelled
from qwen_ref.errors import QwenRefError
from qwen_ref.model.layers import Array
from qwen_ref.profile import LayerCost, profile_layers
from qwen_ref.prompt import Prompt

MOST = 1024  # tokens: the maps grow with their square
RUNNERS_UP = 6  # likeliest tokens of each place, with the one that came if it is among them
IN_LENS = 3
WANTED = [*FOR_STATES, "*.self_attn.weights.*", "layers.*.mixed", "layers.*.output", "logits"]

Progress = Callable[[str, int, int], None]  # called with (what, how much is done, of how much)


class Draft(NamedTuple):
    """Tokens that were guessed, the first of them for place `at` of the text, and how many were right."""

    at: int
    token_ids: list[int]
    accepted: int


@dataclass
class DeltaNumbers:
    """One DeltaNet layer's, of each V head; H is H_v, in transformers' order. S is the state, [K, V].

    Written out, S after token t is a sum over the tokens so far, of w[t, s] v[s]^T: what token s wrote, beta
    k[s] v[s]^T at first, as each later token leaves it: it fades, and loses what lies in the direction of the
    later key, w[t, s] = exp(g[t]) (I - beta[t] k[t] k[t]^T) w[t - 1, s]. So what is left of each token's
    writing is known exactly, and so is what a query reads of it.
    """

    decay: Array  # [T, H], exp(g)
    beta: Array  # [T, H]
    writes: Array  # [T, H], |u|: what is added to the state, beta times the error
    erases: Array  # [T, H], beta |S^T k| of the S that decayed: what the delta rule takes out for the key
    fades: Array  # [T, H], (1 - decay) |S|: what decay takes
    norm: Array  # [T, H], |S| behind the token
    rank: Array  # [T, H], effective: (sum of σ²)² / (sum of σ⁴), as many equal directions as would do
    wrote: Array  # [T, H], beta |k| |v|: the size of w[s, s] v[s]^T
    left: Array  # [H, T, T], |w[t, s]| / |w[s, s]|: the share of it that is left behind token t; 0 for s > t
    reads: Array  # [H, T, T], q[t] . w[t, s] |v[s]|, as a share of the sum of the sizes over s


@dataclass
class Run:
    """One run; T tokens are the prompt's and the answer's."""

    label: str
    model: str  # its file's name
    trace: Trace
    prompt_tokens: int
    token_ids: list[int]
    best: Best  # [T, RUNNERS_UP]: of the token behind each
    logprobs: Array  # [T - 1]: of the token that came behind each
    ranks: Array  # [T - 1]: how many tokens were likelier
    drafts: list[Draft]
    lens: dict[str, Best]
    attention: dict[int, Array]  # layer -> [H, T, T]
    delta: dict[int, DeltaNumbers]
    costs: list[LayerCost]
    backend: str
    spelled: Callable[[int], str]


def look(model: Model, prompt: Prompt, label: str, *, max_tokens: int, draft: str, progress: Progress) -> Run:
    """Answer greedily, with at most `max_tokens` (0: not at all), then trace both. Raises QwenRefError."""
    if len(prompt.token_ids) > MOST:
        raise QwenRefError(
            f"the prompt: {len(prompt.token_ids):,} tokens are more than the {MOST:,} of which a page shows "
            f"all{'; --max-image-tokens makes pictures smaller' if prompt.media else ''}"
        )
    prompt_tokens = len(prompt.token_ids)
    answer, drafts = list[int](), list[Draft]()
    room = min(max_tokens, MOST - prompt_tokens)
    if room > 0:
        generation = model.generate(prompt, max_tokens=room, draft=draft, progress=progress, **GREEDY)
        answer, drafts = answered(generation)
    prompt = dataclasses.replace(prompt, token_ids=prompt.token_ids + answer)
    progress("reading it all once more", 0, 1)
    trace = model.trace(prompt, names=WANTED)
    for name, x in trace.items():
        if not np.isfinite(x).all():
            raise QwenRefError(f"{model.path}: {name}: what the model computes there is not finite")
    best, logprobs, ranks = said(trace["logits"], prompt.token_ids)
    lens = trace.lens(IN_LENS, lambda done, total: progress("the logit lens", done, total))
    with_attention, with_delta = trace.layers(attention=True), trace.layers(attention=False)
    delta = {}
    for n, layer in enumerate(with_delta):
        progress("the states of DeltaNet", n, len(with_delta))
        delta[layer] = delta_numbers(trace.states, layer)
    progress("the time of each layer", 0, 1)
    costs = profile_layers(model.text, prompt.token_ids[:8])
    progress("", 1, 1)
    return Run(
        label,
        os.path.basename(os.fspath(model.path)),
        trace,
        prompt_tokens,
        prompt.token_ids,
        best,
        logprobs,
        ranks,
        drafts,
        lens,
        {layer: trace.attention(layer) for layer in with_attention},
        delta,
        costs,
        model.text.layers.name,
        lambda token_id: spelled(token_id, model.tokenizer),
    )


GREEDY: dict[str, Any] = {
    "temperature": 0,
    "repetition_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}


def answered(generation: Generation) -> tuple[list[int], list[Draft]]:
    """The tokens of an answer, and each draft on the way."""
    drafts, before = [], len(generation.prompt_ids)
    while generation.finish_reason is None:
        advance([generation])
        known = generation.prompt_ids + generation.token_ids
        if guess := generation.guess:
            came = known[before : before + len(guess)]
            wrong = (n for n, pair in enumerate(zip(guess, came)) if pair[0] != pair[1])
            drafts.append(Draft(before, guess, next(wrong, len(came))))
        before = len(known)
    return generation.token_ids, drafts


def said(logits: Array, token_ids: list[int]) -> tuple[Best, Array, Array]:
    """logits [T, vocab] -> the likeliest tokens behind each; and of the one that came, [T - 1], the logarithm
    of its probability and how many were likelier."""
    parts, logprobs, ranks = [], [], []
    for t, row in enumerate(logits):
        parts.append(likeliest(row[None], RUNNERS_UP))
        if t + 1 < len(token_ids):
            came = row[token_ids[t + 1]]
            highest = row.max()
            logprobs.append(came - highest - np.log(np.exp(row - highest).sum()))
            ranks.append(int((row > came).sum()))
    best = Best(*(np.concatenate(x) for x in zip(*parts)))
    return best, np.array(logprobs, np.float64), np.array(ranks, np.int64)


@threadpool_limits.wrap(limits=1)  # of products as small as these, threads only wait for each other
def delta_numbers(states: States, layer: int) -> DeltaNumbers:
    q, k, v, g, beta = states.inputs(layer)
    T, H, _ = k.shape
    decay = np.exp(g)
    writes, erases, fades, norm, rank = (np.zeros((T, H)) for _ in range(5))
    before = np.zeros((H, k.shape[2], v.shape[2]), v.dtype)  # S before the token
    for t, state in enumerate(states.each(layer)):
        held = np.einsum("hkv,hk->hv", before, k[t]) * decay[t, :, None]  # S^T k of the S that decayed
        writes[t] = beta[t] * size(v[t] - held)
        erases[t] = beta[t] * size(held)
        fades[t] = (1 - decay[t]) * norm[t - 1]  # (norm[-1], before the first token, is 0 still)
        norm[t] = np.sqrt(np.einsum("hkv,hkv->h", state, state, dtype=np.float64))
        gram = state @ state.swapaxes(1, 2)  # [H, K, K]: the sum of its squares is the sum of σ⁴
        fourth = np.einsum("hij,hij->h", gram, gram, dtype=np.float64)
        rank[t] = norm[t] ** 4 / np.where(fourth > 0, fourth, 1)
        before = state
    wrote = beta * size(k) * size(v)
    left, reads = left_and_read(q, k, v, decay, beta)
    return DeltaNumbers(decay, beta, writes, erases, fades, norm, rank, wrote, left, reads)


def size(x: Array) -> Array:
    """[..., N] -> [...]: the length of each vector."""
    return np.sqrt(np.sum(x * x, axis=-1))


def left_and_read(q: Array, k: Array, v: Array, decay: Array, beta: Array) -> tuple[Array, Array]:
    """q, k [T, H, K], v [T, H, V], decay and beta [T, H] -> what is left of each token's writing, and what is
    read of it, [H, T, T] both (see DeltaNumbers)."""
    T, H, _ = k.shape
    w = np.zeros_like(k)  # [S, H, K]
    left, reads = np.zeros((H, T, T), np.float32), np.zeros((H, T, T), np.float32)
    first = np.maximum(beta * size(k), np.finfo(k.dtype).tiny)  # [S, H], |w[s, s]|
    for t in range(T):
        along = np.einsum("shk,hk->sh", w[:t], k[t])  # of what is there, in the direction of this key
        w[:t] = decay[t, :, None] * (w[:t] - beta[t, :, None] * along[..., None] * k[t])
        w[t] = beta[t, :, None] * k[t]
        left[:, t, : t + 1] = (size(w[: t + 1]) / first[: t + 1]).T
        read = np.einsum("shk,hk->hs", w[: t + 1], q[t]) * size(v[: t + 1]).T
        total = np.abs(read).sum(axis=1, keepdims=True)
        reads[:, t, : t + 1] = read / np.where(total > 0, total, 1)
    return left, reads
