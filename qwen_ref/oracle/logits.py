"""Logits beside a golden's, which keeps of each position the best tokens and the sum of all exponentials."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

TOP = 64  # tokens of each position, unless told otherwise
ROUNDING = 1e-15  # what is left of 1 where nothing should be: below it two shares of the others are the same


def best_of(logits: np.ndarray, top: int = TOP) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """logits [T, vocab] -> the `top` best tokens, their logits [T, top], log of the exponentials' sum [T]."""
    order = np.argsort(-logits, axis=1, kind="stable")[:, :top]
    highest = logits.max(1, keepdims=True)
    total = highest[:, 0] + np.log(np.exp(logits - highest).sum(1))
    return order, np.take_along_axis(logits, order, 1), total


def divergence(
    exact: Mapping[str, np.ndarray], logits: np.ndarray, tokens: np.ndarray | slice = slice(None)
) -> np.ndarray:
    """logits [n, vocab] behind these of the golden's tokens -> KL(exact || theirs) [n], in nats.

    Of the best that the golden keeps, and all others together: a lower bound of the divergence of all.
    `exact` are a golden's inputs.
    """
    order, total = exact["top_ids"][tokens], exact["log_total"][tokens, None]
    p = exact["top_logits"][tokens] - total  # [n, top]
    _, _, their_total = best_of(logits.astype(np.float64))
    q = np.take_along_axis(logits, order, 1) - their_total[:, None]
    rest_p, rest_q = (np.log(np.maximum(1 - np.exp(x).sum(1), ROUNDING)) for x in (p, q))
    return np.sum(np.exp(p) * (p - q), axis=1) + np.exp(rest_p) * (rest_p - rest_q)


def agreement(
    exact: Mapping[str, np.ndarray], logits: np.ndarray, tokens: np.ndarray | slice = slice(None)
) -> dict[str, float]:
    """logits [n, vocab] behind these of the golden's tokens: mean KL divergence, how often the best tokens
    are the same.

    The best five: how many of the exact ones are among the others, on average.
    """
    best, theirs = exact["top_ids"][tokens, :5], best_of(logits)[0][:, :5]
    same = (best[:, :, None] == theirs[:, None, :]).any(2)  # [n, 5]
    return {
        "kl": float(divergence(exact, logits, tokens).mean()),
        "same best token": float(np.mean(best[:, 0] == theirs[:, 0])),
        "same best five": float(same.mean()),
    }
