"""Perplexity of a text, and how far a model's predictions of it are from another's (KL divergence).

Both as llama-perplexity defines them (`perplexity` and `kl_divergence` of llama.cpp's perplexity.cpp): a text
is cut into chunks, each is read by itself, and what is scored are the predictions of the tokens in its second
half, so that each has at least half a chunk before it. Here all of that is summed in float64.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from qwen_ref.cluster.model_files import Found
from qwen_ref.cluster.worker import Ready, on_worker
from qwen_ref.engine import load
from qwen_ref.engine.sequence import PREFILL_BLOCK
from qwen_ref.errors import QwenRefError
from qwen_ref.files import regular_file
from qwen_ref.model.text import TextModel

CONTEXT = 512  # tokens of a chunk, unless another number is given
SMALLEST = 8  # tokens of a chunk: of fewer, too few are scored to say how sure their mean is
BLOCK = 64  # tokens whose logits are in memory at a time; of Qwen's 248,320 they take 64 MB in float32
ROUNDED = 1e-3  # over 0, at most, is the logarithm of a probability that was rounded to 16 bits
PERCENTILES = (0, 0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9, 100)

SCORE = np.dtype(
    [
        ("nll", "f8"),  # -ln p of the token that follows in the text
        ("nll_base", "f8"),  # the same of the base, and NaN where there is none
        ("kld", "f8"),  # KL(base || model) of the whole distribution
        ("delta_p", "f8"),  # p - p of the base, of the token that follows
        ("same_top", "?"),  # whether both find the same token likeliest
    ]
)


def scored(context: int) -> range:
    """Places in a chunk that are scored: the second half, less the last, which no token follows."""
    return range(context // 2, context - 1)


def cut(token_ids: Sequence[int], context: int, count: int | None, name: str) -> np.ndarray:
    """token_ids [T] of the text `name` -> chunks int32 [N, context], at most `count`; the rest is left out.

    Raises QwenRefError if there are not two chunks, however many are wanted.
    """
    if len(token_ids) < 2 * context:
        raise QwenRefError(f"{name}: {len(token_ids)} tokens are fewer than two chunks of {context}")
    N = len(token_ids) // context if count is None else min(len(token_ids) // context, count)
    return np.array(token_ids[: N * context], np.int32).reshape(N, context)  # [T] -> [N, context]


def log_softmax(x: np.ndarray) -> np.ndarray:
    """Logits float64 [vocab] -> ln of the probabilities."""
    x = x - x.max()
    return x - np.log(np.exp(x).sum())


def predictions(model: TextModel, ids: np.ndarray) -> Iterator[np.ndarray]:
    """ids [context] of a chunk -> log-probabilities, float64 [vocab], at each place that is scored.

    Raises QwenRefError if they are not finite.
    """
    state, places = model.new_state(), scored(len(ids))
    blocks = [ids[i : i + PREFILL_BLOCK].tolist() for i in range(0, len(ids), PREFILL_BLOCK)]
    hidden = np.concatenate([model.forward(block, state) for block in blocks])  # [context, hidden]
    for start in places[::BLOCK]:
        logits = model.logits(hidden[start : min(start + BLOCK, places.stop)])  # [T, hidden] -> [T, vocab]
        if not np.isfinite(logits).all():
            raise QwenRefError(
                f"{model.file.path}: logits after {start} tokens of a chunk are not finite numbers"
            )
        for row in logits:
            yield log_softmax(row.astype(np.float64))


class Base(Protocol):
    """What a model is compared with.

    `least` is the log-probability up to which tokens do not count in the divergence.
    """

    least: float

    def predictions(self, chunk: int) -> Iterator[np.ndarray]: ...


class ModelBase:
    """Another model, run on the same chunks [N, context]. All tokens count."""

    least = -np.inf

    def __init__(self, model: TextModel, chunks: np.ndarray):
        self.model, self.chunks = model, chunks

    def predictions(self, chunk: int) -> Iterator[np.ndarray]:
        return predictions(self.model, self.chunks[chunk])


class LogitsFile:
    """Predictions that llama-perplexity --save-all-logits wrote, or `--save-logits` here.

    In little endian: `_logits_`, the sizes context, vocabulary and N in 32 bits each, token ids int32
    [N, context], and for each place that is scored a record of 16-bit words (`pack`).

    Raises QwenRefError if it is no such file, or not whole.
    """

    MAGIC = b"_logits_"
    RANGE = 16.0  # what is further below the largest logit is not told apart
    least = -RANGE

    def __init__(self, path: str | os.PathLike[str]):
        self.path = regular_file(path)
        try:
            with open(path, "rb") as file:
                head, size = file.read(20), os.fstat(file.fileno()).st_size
        except OSError as error:
            raise QwenRefError(f"{path}: cannot be read: {error.strerror}") from None
        if len(head) < 20 or not head.startswith(self.MAGIC):
            raise QwenRefError(f"{path}: is no file of logits that llama-perplexity saved")
        context, self.vocab_size, count = struct.unpack("<Iii", head[8:])
        if context < SMALLEST or self.vocab_size < 1 or count < 1:
            raise QwenRefError(
                f"{path}: {count} chunks of {context} tokens with {self.vocab_size} logits cannot be scored"
            )
        shape = count, len(scored(context)), record_words(self.vocab_size)
        start = 20 + 4 * count * context
        if size != (expected := start + 2 * shape[0] * shape[1] * shape[2]):
            raise QwenRefError(
                f"{path}: has {size} bytes, but {count} chunks of {context} tokens with {self.vocab_size} "
                f"logits take {expected}"
            )
        self.chunks = np.fromfile(path, "<i4", count * context, offset=20).reshape(count, context)
        if self.chunks.min() < 0 or self.chunks.max() >= self.vocab_size:
            raise QwenRefError(f"{path}: a token id is not in 0 to {self.vocab_size - 1}")
        self.records = np.memmap(path, "<u2", "r", start, shape)

    def predictions(self, chunk: int) -> Iterator[np.ndarray]:
        for record in self.records[chunk]:
            step, lowest = record[:4].view("<f4").astype(np.float64)
            highest = lowest + step * int(record[4 : 4 + self.vocab_size].max())
            if not (0 <= step <= np.finfo(np.float32).max and -np.inf < lowest and highest <= ROUNDED):
                raise QwenRefError(
                    f"{self.path}: the logits of chunk {chunk + 1} are no logarithms of probabilities: from "
                    f"{lowest:.6g} on in steps of {step:.6g}"
                )
            yield unpack(record, self.vocab_size)


def record_words(vocab_size: int) -> int:
    """16-bit words of a record: two float32, and a word for each token, in an even number."""
    return 4 + vocab_size + vocab_size % 2


def file_head(chunks: np.ndarray, vocab_size: int) -> bytes:
    """The beginning of a LogitsFile, for chunks [N, context]; the records of all follow it."""
    count, context = chunks.shape
    return LogitsFile.MAGIC + struct.pack("<Iii", context, vocab_size, count) + chunks.astype("<i4").tobytes()


def pack(log_p: np.ndarray) -> bytes:
    """Log-probabilities [vocab] -> record: float32 step and lowest, then words: lowest + step * word.

    llama.cpp's `log_softmax` with `log_prob`.
    """
    lowest = max(log_p.min(), log_p.max() - LogitsFile.RANGE)
    step = np.float32((log_p.max() - lowest) / 65535)
    record = np.zeros(record_words(len(log_p)), "<u2")
    record[:4].view("<f4")[:] = step, lowest
    if step:
        record[4 : 4 + len(log_p)] = np.rint((np.maximum(log_p, lowest) - lowest) / step)
    return record.tobytes()


def unpack(record: np.ndarray, vocab_size: int) -> np.ndarray:
    """Record of words -> log-probabilities float64 [vocab]."""
    step, lowest = record[:4].view("<f4").astype(np.float64)
    return lowest + step * record[4 : 4 + vocab_size]


def score(log_p: np.ndarray, token: int, base: np.ndarray | None, least: float) -> tuple[float, ...]:
    """A SCORE, from log-probabilities [vocab] of model and base, and the token that follows."""
    if base is None:
        return -log_p[token], np.nan, np.nan, np.nan, False
    p_base = np.where(base > least, np.exp(base), 0)
    kld = p_base @ (base - log_p)
    delta_p = np.exp(log_p[token]) - np.exp(base[token])
    return -log_p[token], -base[token], kld, delta_p, log_p.argmax() == base.argmax()


def evaluate(
    model: TextModel,
    chunks: np.ndarray,
    base: Base | None = None,
    save: Callable[[bytes], Any] | None = None,
) -> Iterator[np.ndarray]:
    """chunks [N, context] -> the scores of each, SCORE [places]; `save` gets each prediction packed.

    Never are more than BLOCK tokens' logits of each model in memory. Raises QwenRefError if logits are not
    finite.
    """
    places = scored(chunks.shape[1])
    for i, ids in enumerate(chunks):
        others = base.predictions(i) if base else [None] * len(places)
        scores = np.empty(len(places), SCORE)
        for n, (log_p, other) in enumerate(zip(predictions(model, ids), others, strict=True)):
            scores[n] = score(log_p, ids[places[n] + 1], other, base.least if base else 0.0)
            if save:
                save(pack(log_p))
        yield scores


def mean(x: np.ndarray) -> list[float]:
    """[n] -> mean and its standard error."""
    return [float(x.mean()), float(np.sqrt(x.var() / (len(x) - 1)))]


def statistics(scores: np.ndarray) -> dict[str, Any]:
    """What llama-perplexity tells of scores [n]: pairs are a value and its standard error.

    ppl               perplexity: e to the mean nll. With a base also:
    ppl_base, correlation (of both ln ppl), ln_ratio (ln ppl / ppl_base), ratio, difference
    kld, delta_p      means; kld_percentiles and delta_p_percentiles have percentile -> value, 0 the least
    delta_p_rms       root of the mean square
    same_top          share of the tokens
    """
    nll, base, kld, delta_p = (scores[name] for name in ("nll", "nll_base", "kld", "delta_p"))

    def exponential(value: float, error: float) -> list[float]:
        return [float(np.exp(value)), float(np.exp(value)) * error]

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        ppl = exponential(*mean(nll))
        if np.isnan(base).any():
            return {"ppl": ppl}
        ppl_base, ln_ratio = exponential(*mean(base)), mean(nll - base)
        square, square_error = mean(delta_p**2)
        top = float(scores["same_top"].mean())

        def percentiles(x: np.ndarray) -> dict[str, float]:
            return {f"{p:g}": float(v) for p, v in zip(PERCENTILES, np.percentile(x, PERCENTILES))}

        return {
            "ppl": ppl,
            "ppl_base": ppl_base,
            "correlation": float(np.corrcoef(nll, base)[0, 1]),
            "ln_ratio": ln_ratio,
            "ratio": exponential(*ln_ratio),
            # The error of a difference of exponentials, to first order, with what the two have in common.
            "difference": [ppl[0] - ppl_base[0], mean(ppl[0] * nll - ppl_base[0] * base)[1]],
            "kld": mean(kld),
            "kld_percentiles": percentiles(kld),
            "delta_p": mean(delta_p),
            "delta_p_percentiles": percentiles(delta_p),
            "delta_p_rms": [square**0.5, 0.5 * square_error / square**0.5 if square else 0.0],
            "same_top": [top, (top * (1 - top) / (len(scores) - 1)) ** 0.5],
        }


def prepare(models: list[Found], options: list[dict[str, Any]], share: int) -> Ready:
    """What a worker of a cluster reads chunks with: a model, and its base if there is one, each loaded with
    its `options`."""
    loaded = [
        load(model.path, **on_worker(own, model, share * len(models)))
        for model, own in zip(models, options, strict=True)
    ]
    for model in loaded:
        model.warm_up()

    def answer(items: list[np.ndarray]) -> list[np.ndarray]:
        chunks = np.stack(items)  # [N, context]
        base = ModelBase(loaded[1].text, chunks) if len(loaded) > 1 else None
        return [*evaluate(loaded[0].text, chunks, base)]

    return Ready(answer)
