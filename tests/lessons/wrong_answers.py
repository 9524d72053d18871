"""Wrong answers that a student may well give to each lesson's exercise, and words of the hint to each.

An answer is made of `n`, the lesson's variables by name.
"""

import numpy as np

from qwen_ref.model.activation import softmax
from qwen_ref.prompt import Span, mrope_positions


def bytes_of(block):
    return block[2:].view(np.int8).astype(np.float32)


def scale_of(block):
    return block[:2].view(np.float16).astype(np.float32)


def decoded_one_by_one(n):
    return lambda ids: "".join(n["tokenizer"].decode([i]) for i in ids)


def positions(rows=2, columns=4):
    """Those of lesson 5's exercise, to be made wrong."""
    return mrope_positions(13, [Span(3, rows, columns)])


def placed_from_zero():
    wrong = positions()
    wrong[1:, 3:11] -= 3
    return wrong


def after_all_tokens():
    wrong = positions()
    wrong[:, 11:] = [11, 12]
    return wrong


def masked(q, k, v, mask, scale):
    with np.errstate(invalid="ignore"):
        return softmax(np.where(mask, q @ k.T / scale, -np.inf)) @ v


def past(q):
    return np.tri(len(q), dtype=bool)


def token(v=0.0, g=0.0, beta=1.0):
    return dict(v=np.full(8, v), g=g, beta=beta)


def system(k, beta, log_gamma, share=None, diagonal=1.0):
    """Lesson 8's, in which `share` and the decay may be others."""
    decay = np.exp(log_gamma[:, None] - log_gamma)
    share = beta[:, None] if share is None else share
    return diagonal * np.eye(len(k)) + np.tril(share * decay * (k @ k.T), -1)


def step(x, kernel, past, moved=lambda window: window[1:]):
    window = np.concatenate([past, x[None]])
    return (kernel * window).sum(axis=0), moved(window)


def over(p, q):
    missing = np.maximum(q - p, 0)
    return missing / missing.sum()


def tangent(x, bar_k):
    return bar_k - x * (x @ bar_k) / (x @ x)


READING, COMPUTING = 0.8e9 * 4.5 / 8 / 17e9, 2 * 0.8e9 / 600e9  # seconds of a step, and of it for each token

WRONG = {
    "01_file": [
        (lambda n: 1024 * 2048 * 6 // 8, "only the six bits"),
        (lambda n: 8 * n["solution"](), "Right, in bits"),
        (lambda n: 1024 * 2048 * 6, "These are bits"),
        (lambda n: n["solution"]() // 1024, "one row"),
        (lambda n: 1024 * 2048, "8.000 bits"),
    ],
    "02_four_bits": [
        (lambda n: bytes_of, "scale is missing"),
        (lambda n: lambda block: scale_of(block) * block[2:].astype(np.float32), "signed"),
        (lambda n: lambda block: scale_of(block) * bytes_of(block) / 8, "0.125 times"),
        (lambda n: lambda block: block.view(np.float16), "shape [17]"),
        (lambda n: lambda block: scale_of(block) * block[:32].view(np.int8), "Neither"),
        (lambda n: 5, "cannot be used"),
    ],
    "03_tokens": [
        (decoded_one_by_one, "half characters"),
        (lambda n: lambda ids: "".join(n["tokenizer"].tokens[i] for i in ids), "names of the tokens"),
        (lambda n: lambda ids: b"".join(map(n["tokenizer"].token_bytes, ids)), "decode them"),
        (
            lambda n: lambda ids: b"".join(map(n["tokenizer"].token_bytes, ids)).decode("latin-1"),
            "each byte became a character",
        ),
        (
            lambda n: lambda ids: " ".join(n["tokenizer"].decode([i]) for i in ids),
            "spaces are wrong",
        ),
    ],
    "04_residual_stream": [
        (lambda n: lambda x, w: n["rms_norm"](x - x.mean(axis=1, keepdims=True), w, 0.0), "LayerNorm"),
        (lambda n: lambda x, w: x / np.linalg.norm(x, axis=1, keepdims=True) * w, "length of the vector"),
        (lambda n: lambda x, w: n["rms_norm"](x, np.ones(8), 0.0), "weights w are missing"),
        (lambda n: lambda x, w: x / np.sqrt(np.mean(x * x)) * w, "share one size"),
        (lambda n: lambda x, w: x / np.mean(x * x, axis=1, keepdims=True) * w, "root is missing"),
        (lambda n: lambda x, w: x / np.sqrt(np.mean(x * x, axis=1)) * w, "cannot be used"),
        (lambda n: lambda x, w: x.mean(axis=1), "keepdims"),
        (lambda n: lambda x, w: x + w, "For the first row"),
    ],
    "05_rotary": [
        (lambda n: np.tile(np.arange(13), (3, 1)), "text only"),
        (lambda n: np.arange(13), "The shape"),
        (lambda n: positions()[[0, 2, 1]], "exchanged"),
        (lambda n: positions() + 1, "first three tokens"),
        (lambda n: placed_from_zero(), "not from zero"),
        (lambda n: after_all_tokens(), "not at 11"),
    ],
    "06_attention": [
        (lambda n: lambda q, k, v: masked(q, k, v, True, 4), "sees the whole text"),
        (lambda n: lambda q, k, v: masked(q, k, v, past(q), 1), "not divided"),
        (lambda n: lambda q, k, v: masked(q, k, v, past(q), 16), "by D, not by its root"),
        (lambda n: lambda q, k, v: (softmax(q @ k.T / 4) * past(q)) @ v, "after the softmax"),
        (lambda n: lambda q, k, v: masked(q, k, v, np.tri(6, k=-1, dtype=bool), 4), "not even itself"),
        (lambda n: lambda q, k, v: masked(q, k, v, past(q).T, 4), "wrong way round"),
        (lambda n: lambda q, k, v: v, "the farthest"),
    ],
    "07_delta_rule": [
        (lambda n: token(g=-50.0), "faded too"),
        (lambda n: token(g=1.0), "cannot be positive"),
        (lambda n: dict(v=-n["held"][1], g=0.0, beta=1.0), "negative"),
        (lambda n: token(beta=0.0), "Nothing has changed"),
        (lambda n: token(beta=0.5), "0.50 times"),
        (lambda n: 3, "type and shape"),
    ],
    "08_three_ways": [
        (lambda n: lambda k, g, beta: system(k, beta, np.cumsum(g), diagonal=0), "diagonal is missing"),
        (lambda n: lambda k, g, beta: system(k, beta, np.cumsum(g), diagonal=2), "must be ones"),
        (lambda n: lambda k, g, beta: system(k, beta, 0 * g), "decay from s to t is missing"),
        (lambda n: lambda k, g, beta: system(k, beta, np.cumsum(g), share=1), "share beta is missing"),
        (lambda n: lambda k, g, beta: system(k, beta, np.cumsum(g), share=beta), "that of the column"),
        (lambda n: lambda k, g, beta: system(k, beta, -np.cumsum(g)), "grows with the distance"),
        (lambda n: lambda k, g, beta: system(k, beta, np.cumsum(g)) + k @ k.T, "above the diagonal"),
        (lambda n: lambda k, g, beta: system(k, beta, g), "Row 1, column 0"),
        (lambda n: lambda k, g, beta: beta, "The shape"),
    ],
    "09_conv_and_mlp": [
        (lambda n: lambda x, kernel, past: step(x, kernel[::-1], past), "wrong way round"),
        (lambda n: lambda x, kernel, past: ((kernel[:-1] * past).sum(axis=0), past), "itself is missing"),
        (lambda n: lambda x, kernel, past: (kernel[-1] * x, past), "The past is missing"),
        (lambda n: lambda *a: step(*a, moved=lambda window: window[:-1]), "has not moved on"),
        (lambda n: lambda *a: step(*a, moved=lambda window: window), "should keep [3, 5]"),
        (lambda n: lambda *a: step(*a, moved=lambda window: window[:0:-1]), "newest first"),
        (lambda n: lambda *a: step(*a)[0], "Two things"),
    ],
    "10_pictures": [
        (lambda n: n["images"].image_tokens(3000, 4000), "without the limit"),
        (lambda n: 4 * n["solution"](), "patches of 16"),
        (lambda n: 488, "a bound"),
        (lambda n: 26 * 19, "not to the nearest"),
        (lambda n: 1000, "Too many"),
        (lambda n: 400, "Too few"),
    ],
    "11_sampling": [
        (lambda n: lambda p, q: p, "With p itself"),
        (lambda n: lambda p, q: np.maximum(p - q, 0), "should be 1"),
        (lambda n: lambda p, q: p - q, "negative"),
        (lambda n: over, "wrong way round"),
        (lambda n: lambda p, q: np.abs(p - q) / np.abs(p - q).sum(), "size of the difference"),
        (lambda n: lambda p, q: q, "it gives"),
    ],
    "12_training": [
        (lambda n: lambda x, bar_k: bar_k / np.linalg.norm(x), "length fixed"),
        (lambda n: tangent, "divide by the length"),
        (lambda n: lambda x, bar_k: tangent(x, bar_k) / (x @ x), "once"),
        (lambda n: lambda x, bar_k: (bar_k - x * (x @ bar_k)) / np.linalg.norm(x), "along k"),
        (lambda n: lambda x, bar_k: x, "must be 0"),
        (lambda n: lambda x, bar_k: 3 * tangent(x, bar_k), "orthogonal"),
    ],
    "13_roofline": [
        (lambda n: lambda T: T / (READING + COMPUTING * T), "add both times"),
        (lambda n: lambda T: T / max(8 * READING, COMPUTING * T), "not 4.5 bytes"),
        (lambda n: lambda T: T / max(READING, COMPUTING * T / 2), "two operations"),
        (lambda n: lambda T: 1 / max(READING, COMPUTING * T), "how many steps"),
        (lambda n: lambda T: T / READING, "Right for one token"),
        (lambda n: lambda T: 1 / COMPUTING, "Right for many tokens"),
        (lambda n: lambda T: max(READING, COMPUTING * T), "in seconds"),
        (lambda n: lambda T: 17e9, "For one token it gives"),
    ],
}
