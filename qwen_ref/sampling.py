"""From logits to the next token.

The steps and their order are llama.cpp's default sampler chain (`common_sampler_init`): penalties, top-k,
top-p, min-p, temperature, then a draw. Temperature comes last, so the filters see the model's own
probabilities; transformers and vLLM apply it first.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

import numpy as np

from qwen_ref.errors import QwenRefError

LIMITS = {  # field -> lowest and highest value that makes sense
    "temperature": (0.0, 100.0),
    "top_k": (0, 1 << 30),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 100.0),
    "presence_penalty": (-100.0, 100.0),
    "frequency_penalty": (-100.0, 100.0),
    "penalty_last_n": (-1, 1 << 30),
    "seed": (0, (1 << 64) - 1),
}

STORED = "general.sampling."  # begins the keys of a model file's own settings
STORED_AS = {"temp": "temperature", "penalty_repeat": "repetition_penalty"} | {
    name: name
    for name in ("top_k", "top_p", "min_p", "penalty_last_n", "presence_penalty", "frequency_penalty")
}
CHAIN = ["penalties", "top_k", "top_p", "min_p", "temperature"]
OFF = {"dry", "top_n_sigma", "typ_p", "xtc"}  # llama.cpp's others, which no key switches on but xtc's
NEUTRAL: dict[str, Callable[[Any], bool]] = {  # key -> whether this value leaves the chain as it is
    "sequence": lambda names: (
        isinstance(names, str) and [n for n in names.split(";") if n not in OFF] == CHAIN
    ),
    "xtc_probability": lambda x: x == 0,
    "mirostat": lambda x: x == 0,
    "xtc_threshold": lambda _: True,  # these three say how, the two above whether
    "mirostat_tau": lambda _: True,
    "mirostat_eta": lambda _: True,
}


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen. Raises QwenRefError if a value is outside its limits."""

    temperature: float = 1.0  # 0: greedy, the most likely token after penalties
    top_k: int = 0  # keep this many tokens; 0: all
    top_p: float = 1.0  # keep the likeliest tokens that together reach this probability; 1: all
    min_p: float = 0.0  # keep tokens at least this likely relative to the likeliest; 0: all
    repetition_penalty: float = 1.0  # divides positive logits of tokens seen, multiplies others; 1: none
    presence_penalty: float = 0.0  # subtracted once from the logit of a token seen
    frequency_penalty: float = 0.0  # subtracted as often as the token was seen
    penalty_last_n: int | None = None  # so many of the last tokens count as seen; None: those of the answer
    seed: int | None = None  # of the random draws; None: different each time

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if value is None and name in ("seed", "penalty_last_n"):
                continue
            kind: Any
            kind, told = (Integral, "a whole number") if isinstance(low, int) else (Real, "a number")
            if not isinstance(value, kind) or isinstance(value, bool | Fraction):
                raise QwenRefError(f"{name}: {value!r} is not {told}")
            if not low <= value <= high:  # NaN compares false
                raise QwenRefError(f"{name}: {value!s:.80} is not in {low} to {high}")


def defaults(thinking: bool, thinks_by_default: bool) -> Sampling:
    """The model cards' settings for text.

    Qwen gives one set for thinking; without it, one for the models that answer directly unless asked
    (0.8B, 2B) and one for those that think unless told not to (4B, 9B).
    """
    if thinking:
        return Sampling(temperature=1.0, top_k=20, top_p=0.95, presence_penalty=1.5)
    if thinks_by_default:
        return Sampling(temperature=0.7, top_k=20, top_p=0.8, presence_penalty=1.5)
    return Sampling(temperature=1.0, top_k=20, top_p=1.0, presence_penalty=2.0)


def override(sampling: Sampling, **changes: float | None) -> Sampling:
    """The same sampling with the changes that are not None. Raises QwenRefError for an unknown name."""
    known = {field.name for field in fields(Sampling)}
    for name in changes:
        if name not in known:
            raise QwenRefError(f"{name}: no such sampling option; there are {', '.join(sorted(known))}")
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    return replace(sampling, **given)


def stored(metadata: Mapping[str, Any], path: object) -> dict[str, float]:
    """The sampling options that a model file holds (`general.sampling.*`), as changes for `override`.

    Raises QwenRefError, with the file and the key, for a value that makes no sense, and for one that asks for
    another way to draw than the one here. (llama.cpp's keys; `common_init_sampler_from_model` reads them.)
    """
    found = {}
    for key in metadata:
        if not key.startswith(STORED):
            continue
        name, value = key.removeprefix(STORED), metadata[key]
        try:
            if name == "penalty_last_n" and value == -1:
                raise QwenRefError("-1 means all tokens to some versions of llama.cpp and none to others")
            if name in STORED_AS:
                override(Sampling(), **{STORED_AS[name]: value})
                found[STORED_AS[name]] = value
            elif name not in NEUTRAL or not NEUTRAL[name](value):
                raise QwenRefError(f"{reprlib.repr(value)} asks for a way to draw that is not known here")
        except QwenRefError as error:
            places = getattr(metadata, "places", {})  # a checkpoint's say where its values come from
            raise QwenRefError(f"{places.get(key, f'{path}: {key}')}: {error}") from None
    return found


def counted(tokens: np.ndarray, prompt: int, s: Sampling) -> np.ndarray:
    """Of all tokens so far, the first `prompt` of them the prompt's, those that penalties count.

    Those of the answer, as OpenAI's and vLLM's presence and frequency penalties do; or the last ones, prompt
    included, as all of llama.cpp's (-1: all tokens).
    """
    if s.penalty_last_n is None:
        return tokens[prompt:]
    return tokens if s.penalty_last_n < 0 else tokens[max(len(tokens) - s.penalty_last_n, 0) :]


def penalize(logits: np.ndarray, seen: Sequence[int] | np.ndarray, s: Sampling) -> np.ndarray:
    """logits [vocab] -> the same with tokens seen made less likely (llama.cpp's penalties sampler)."""
    if not len(seen) or (s.repetition_penalty, s.presence_penalty, s.frequency_penalty) == (1, 0, 0):
        return logits
    logits = logits.copy()
    ids, counts = np.unique(np.asarray(seen, int), return_counts=True)
    at = logits[ids]
    at = np.where(at > 0, at / s.repetition_penalty, at * s.repetition_penalty)
    logits[ids] = at - counts * s.frequency_penalty - s.presence_penalty
    return logits


def candidates(
    logits: np.ndarray, seen: Sequence[int] | np.ndarray, s: Sampling
) -> tuple[np.ndarray, np.ndarray]:
    """logits [vocab], tokens that penalties count -> ids [n] and probabilities [n] of what may come next.

    Likeliest first; equal logits keep the order of their ids.
    """
    logits = penalize(logits, seen, s)
    if s.temperature == 0:
        return np.array([int(np.argmax(logits))]), np.ones(1)
    ids = _likely(logits, s.top_k) if 0 < s.top_k < len(logits) else np.arange(len(logits))
    ids = ids[logits[ids] > -np.inf]  # a guide may leave a few only
    ids = ids[np.argsort(-logits[ids], kind="stable")]
    if s.top_k:
        ids = ids[: s.top_k]
    scores = logits[ids].astype(np.float64)

    if s.top_p < 1:
        cumulative = np.cumsum(_softmax(scores))
        keep = int(np.searchsorted(cumulative, s.top_p)) + 1  # up to and with the one that reaches top_p
        ids, scores = ids[:keep], scores[:keep]
    if s.min_p > 0:
        likely = scores >= scores[0] + np.log(s.min_p)
        ids, scores = ids[likely], scores[likely]
    with np.errstate(over="ignore"):  # -inf is right for what lies behind at 1e-320
        return ids, _softmax((scores - scores[0]) / s.temperature)


def _likely(logits: np.ndarray, k: int) -> np.ndarray:
    """Ids that hold the k largest logits and few others, without sorting 248,320 numbers.

    Of the maxima of many groups, k are at least as large as the k-th of them, so the k-th logit is too.
    """
    groups = max(4 * k, 256)
    whole = len(logits) // groups * groups
    if whole < 4 * groups:
        threshold = np.partition(logits, len(logits) - k)[-k]
    else:
        maxima = logits[:whole].reshape(-1, groups).max(axis=0)  # [whole] -> [n, groups] -> [groups]
        threshold = np.partition(maxima, groups - k)[-k]
    return np.flatnonzero(logits >= threshold)


class Sampler:
    """Draws one token after another."""

    def __init__(self, sampling: Sampling):
        self.sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def choose(self, logits: np.ndarray, tokens: np.ndarray, prompt: int = 0) -> int:
        """logits [vocab], all tokens so far [T], how many of them are the prompt's -> the next token's id."""
        ids, probabilities = candidates(logits, counted(tokens, prompt, self.sampling), self.sampling)
        if len(ids) == 1:
            return int(ids[0])
        return int(self._random.choice(ids, p=probabilities))


def _softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max())
    return e / e.sum()
