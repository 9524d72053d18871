"""A golden beside what another engine computed: where they part first, by how much, and what explains it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np

from qwen_ref.engine.look import grouped_heads
from qwen_ref.errors import QwenRefError
from qwen_ref.oracle.budget import OF_ONE, SLACK, UNIT, budgets
from qwen_ref.oracle.causes import find_cause
from qwen_ref.oracle.golden import Entry, Golden, Part, as_numpy
from qwen_ref.oracle.logits import agreement, divergence
from qwen_ref.oracle.names import ATTENTION, DELTANET, ENDS, LAYER, MERGER, MTP, PATH, VISION, VISION_BLOCK

BESIDE = ("token_ids", "positions", "generated", "steps", "acceptance")  # what may be found beside tensors
OTHER_ROWS = ("images.", "videos.", "mtp.draft.")  # rows are none of the T tokens
ALL_TOKENS = re.compile(r"\.state$|\.weights\.|^mtp\.draft\.")  # other after all tokens than after the prompt

BETWEEN_STEPS = (
    "the prompt's rows are right: what is kept from step to step (state, convolution, cache, position) is not"
)
ONLY_THE_SUM = "the values that were given are right, and the sum of all is not: the others are wrong"


class Sum(NamedTuple):
    """The sum of all values of a tensor, as an engine added them up.

    error     how far it is from the sum of the golden's values
    rounding  how far the additions alone may bring it
    terms     how many were added
    """

    error: float
    rounding: float
    terms: int


@dataclass
class Partial:
    """A tensor of which an engine showed some values, in decimals.

    values     float64 [rows, columns], as the golden keeps them; NaN: not known, inf: not finite
    precision  how far a value may be from what it is the decimal of
    sum        None where it, or what the golden keeps, is not of the whole tensor
    """

    values: np.ndarray
    precision: float
    sum: Sum | None = None

    def known(self) -> np.ndarray:
        return ~np.isnan(self.values)

    def count(self) -> int:
        return int(self.known().sum())


@dataclass
class Difference:
    """How one tensor of an engine differs from the exact one.

    count      of the values that were compared: what the golden keeps, and of that what the engine showed
    rms, max   of the error, over these
    relative   rms of the error / rms of the tensor
    cosine     between the two
    explained  the strictest arithmetic that explains the error, None if none does
    share      of each arithmetic's budget: above 1 it does not explain the error. That of the decoded rows by
               themselves, if it is more
    """

    name: str
    count: int
    rms: float
    max: float
    relative: float
    cosine: float
    explained: str | None
    share: dict[str, float]


@dataclass
class Report:
    """Of all tensors that both have, in the order in which the model computes them.

    allowed    the arithmetic that the engine may err by
    first      the first tensor beyond that, None if there is none
    cause      what is known to do this to a tensor, None if nothing is
    missing    tensors of the golden that the engine did not give
    logits     of the logits, if they were given: mean KL divergence (nats, of the golden's best and all
               others together), how often the best token is the same, and how many of the best five are
    greedy     the engine's greedy tokens beside the golden's: a sentence; None if it gave none
    complaint  what is wrong, in one sentence (other tokens or positions come before `first`), or None
    unknown    names that the golden does not have: they were not compared. See `misspelt`
    shapes     of tensors of a wrong shape: name -> a sentence
    scope      of which tokens logits were compared, in words; empty if of none
    decoding   "8 steps", or "not judged"; None if the golden has no tokens after its prompt
    acceptance  of the MTP layer's drafts, beside the golden's: a sentence; None if the engine gave none
    """

    allowed: str
    differences: list[Difference]
    first: Difference | None
    cause: str | None
    missing: list[str]
    logits: dict[str, float]
    greedy: str | None = None
    complaint: str | None = None
    unknown: list[str] = field(default_factory=list)
    shapes: dict[str, str] = field(default_factory=dict)
    scope: str = ""
    decoding: str | None = None
    acceptance: str | None = None

    @property
    def verdict(self) -> str:
        """ "wrong", "right" if logits are, or "partly judged"."""
        return "wrong" if self.complaint else "right" if self.scope else "partly judged"

    @property
    def part(self) -> str:
        """3 of 47 tensors"""
        count = len(self.differences)
        return f"{count} of {count + len(self.missing) + len(self.shapes)} tensors"


def misspelt(names: Iterable[str]) -> list[str]:
    """Those that no golden has: others may only not have been kept."""
    text, vision = (*ENDS, *LAYER, *ATTENTION, *DELTANET, *MTP), (*VISION, *VISION_BLOCK, *MERGER)
    known = {name.ours for name in (*text, *vision)}
    media = re.compile(r"^(images|videos)\.\d+\.(blocks\.\d+\.)?")
    local = {name: media.sub("", PATH.sub("", name)) for name in names}
    return [
        name for name, inside in local.items() if re.sub(r"weights\.\d+$", "weights.N", inside) not in known
    ]


Found = Mapping[str, Any] | Iterable[Mapping[str, Any]]


def compare(golden: Golden, found: Found, allowed: str = "float32") -> Report:
    """`found` has tensors under the golden's names, of all tokens or of the prompt's alone.

    They are NumPy arrays, or whatever NumPy or DLPack can read, or Partial. Beside them may be the engine's
    own `token_ids`, `positions` [3, T], `generated`: its greedy tokens after the prompt, `acceptance`: how
    often the MTP layer's best token is the model's best one, of all T tokens, and `steps`: in how many pieces
    the tokens after the prompt went in (one each, or the golden's parts; 0: with the prompt). Then logits may
    be of the last token of the prompt and of each piece. Or `found` is one such mapping of the prompt and one
    of each piece (see `join`).
    Raises QwenRefError if none has a name of the golden's, or one is no number.
    """
    check_allowed(allowed)
    if not isinstance(found, Mapping):
        found = join(golden, found)
    unknown = unknown_layer(golden, found)
    if not unknown and not any(name in golden.entries or name in BESIDE for name in found):
        some = ", ".join(list(found)[:3]) or "nothing"
        raise QwenRefError(
            f"no tensor has a name of the golden's ({', '.join(list(golden.entries)[:3])}, …), but: {some}"
        )
    beside = {name: as_numpy(name, found[name]) for name in BESIDE if name in found}
    steps = steps_of(golden, beside)
    tensors, shapes = shaped(golden, found, steps)
    unlikely = greedy = drafts = None
    with np.errstate(all="ignore"):  # what an engine gives may be anything
        samples = {name: sample_of(golden, name, x, steps) for name, x in tensors.items()}
        report = compare_samples(golden, samples, allowed, steps or 0)
        if isinstance(logits := tensors.get("logits"), np.ndarray):
            tokens = tokens_of(golden, len(logits), steps)
            report.scope = scope_of(golden, tokens)
            report.logits = agreement(golden.inputs, logits, tokens)
            kl = divergence(golden.inputs, logits, tokens)
            unlikely = too_far(golden, kl, tokens, allowed)
            if steps and tokens[-1] == len(golden.inputs["token_ids"]) - 1:
                report.decoding = decoding_of(golden, steps)
                decoded = tokens >= golden.about["prompt_tokens"]
                report.logits["kl of steps"] = float(kl[decoded].mean())
                unlikely = too_far(golden, kl[decoded], tokens[decoded], allowed, True) or unlikely
    if "generated" in beside and beside["generated"].size:
        report.greedy, greedy = of_greedy(golden, beside["generated"].ravel().tolist(), allowed)
    if "acceptance" in beside and "draft_ids" in golden.inputs:
        report.acceptance, drafts = of_acceptance(golden, beside["acceptance"], allowed)
    report.unknown = [name for name in found if name not in golden.entries and name not in BESIDE]
    report.shapes = shapes
    report.missing = [name for name in report.missing if name not in shapes]
    report.complaint = (
        wrong_inputs(golden, beside)
        or unknown
        or next(iter(shapes.values()), None)
        or report.complaint
        or unlikely
        or greedy
        or drafts
    )
    return report


def join(golden: Golden, parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What an engine gave of the golden's parts, the prompt and what follows it, as one mapping; or of the
    prompt and of each token after it.

    Each part is read when it comes, so an engine may fill the same arrays again. Of tensors the rows are put
    together, without those of rejected tokens; of a state the last is taken. Of logits the last row of each
    part is enough. With the prompt's part alone `steps` is 0. Raises QwenRefError if there are too many or
    too few, or one is no mapping of names to tensors.
    """
    T, P = len(golden.inputs["token_ids"]), golden.about["prompt_tokens"]
    if not isinstance(parts, Iterable) or isinstance(parts, str | bytes):
        raise QwenRefError(
            f"{type(parts).__name__}: is neither a mapping of names to tensors nor some of them"
        )
    pieces: list[dict[str, np.ndarray]] = []
    others: dict[str, Any] = {}  # what is not put together
    for part in islice(parts, T - P + 2):
        if not isinstance(part, Mapping):
            what = f"step {len(pieces) - 1}" if pieces else "the prompt"
            raise QwenRefError(f"{what}: {type(part).__name__} is no mapping of names to tensors")
        known = {name for name in part if name in golden.entries or name in BESIDE}
        others |= {name: x for name, x in part.items() if name not in known}
        pieces.append({name: np.array(as_numpy(name, part[name])) for name in part if name in known})
    expected = golden.parts
    if len(pieces) not in (1, len(expected), 1 + T - P):
        many = "more" if len(pieces) > 1 + T - P else str(len(pieces))
        of_parts = f", or {len(expected)} as the golden has them" if "parts" in golden.about else ""
        raise QwenRefError(
            f"{many} parts were given; the prompt and {T - P} tokens after it are {1 + T - P}{of_parts}, and "
            f"the prompt alone is 1"
        )
    if len(pieces) != len(expected):
        ids = golden.inputs["token_ids"].tolist()
        expected = [Part(ids[:P], []), *(Part([token_id], []) for token_id in ids[P:])]
    if len(pieces) == 1 and P < T:  # the state and attention weights after the prompt are others
        pieces = [{name: x for name, x in pieces[0].items() if not ALL_TOKENS.search(name)}]
    joined: dict[str, Any] = {}
    for name in dict.fromkeys(chain.from_iterable(pieces)):
        given = [(piece[name], part) for piece, part in zip(pieces, expected) if name in piece]
        rows = [fitting for x, part in given if (fitting := rows_of(golden, name, x, part)) is not None]
        if len(rows) < len(given):  # what does not fit is told from
            joined[name] = next(x for x, part in given if rows_of(golden, name, x, part) is None)
        elif name.startswith(OTHER_ROWS) or name.endswith(".state"):
            joined[name] = rows[-1]
        else:
            if name == "logits" and any(len(x) < len(part.token_ids) for x, (_, part) in zip(rows, given)):
                rows = [x[-1:] for x in rows]
            joined[name] = np.concatenate(rows, axis=-1 if name in BESIDE else 0)
    return joined | others | {"steps": len(pieces) - 1}


def rows_of(golden: Golden, name: str, x: np.ndarray, part: Part) -> np.ndarray | None:
    """Of a part's tensor the rows of its tokens, or of logits the last; None if the shape is another.

    Attention weights get columns of 0 for tokens that are still to come.
    """
    kept = len(part.token_ids)
    if name in BESIDE:
        if name != "positions":
            return x.ravel()[:kept] if name == "token_ids" else x.ravel()
        return x.reshape(3, -1)[:, :kept] if x.size % 3 == 0 else None
    shape = golden.entries[name].shape
    if name.startswith(OTHER_ROWS) or name.endswith(".state"):
        return x
    size = math.prod(shape[1:])
    if name == "logits" and x.size == size:
        return x.reshape(1, size)
    for count in kept, kept + len(part.rejected):
        if ".self_attn.weights." in name:
            G, S = shape[1:]
            columns = x.shape[-1] if x.ndim > 1 else 0
            if columns and columns <= S + len(part.rejected) and x.size == count * G * columns:
                x = x.reshape(count, G, columns)[:kept, :, :S]
                return np.pad(x, ((0, 0), (0, 0), (0, S - x.shape[2])))
        elif x.size == count * size:
            return x.reshape(count, *shape[1:])[:kept]
    return None


def steps_of(golden: Golden, beside: Mapping[str, np.ndarray]) -> int | None:
    """In how many pieces the tokens after the prompt went in; None if that is not said.

    Raises QwenRefError.
    """
    if "steps" not in beside:
        return None
    after = len(golden.inputs["token_ids"]) - golden.about["prompt_tokens"]
    parts = len(golden.parts) - 1
    steps = beside["steps"].ravel().tolist()
    if steps not in ([0], [after], [parts]):
        or_parts = f", {parts}, the golden's parts after it" if parts != after else ""
        raise QwenRefError(f"steps: {steps} should be {after}, all tokens after the prompt{or_parts}, or 0")
    return int(steps[0])


def tokens_of(golden: Golden, rows: int, steps: int | None) -> np.ndarray:
    """Of which tokens so many rows of logits are: the first, or the last of the prompt and of each piece."""
    T, P = len(golden.inputs["token_ids"]), golden.about["prompt_tokens"]
    if steps is None or rows != 1 + steps or rows == T:
        return np.arange(rows)
    if steps == len(golden.parts) - 1:
        return np.cumsum([len(part.token_ids) for part in golden.parts]) - 1
    return np.arange(P - 1, P + steps)


def scope_of(golden: Golden, tokens: np.ndarray) -> str:
    T, P = len(golden.inputs["token_ids"]), golden.about["prompt_tokens"]
    count = len(tokens)
    if tokens[0]:
        return "the prompt's last token" + (f" and {count - 1} steps" if count > 1 else " alone")
    return f"all {T} tokens" if count == T else f"the prompt's {P} tokens alone"


def decoding_of(golden: Golden, steps: int) -> str:
    """In words, with what of the golden's parts was left out."""
    drafts = "rejected" in golden.about and steps != len(golden.parts) - 1
    return f"{steps} steps" + (", without the rejected drafts" if drafts else "")


def from_tiled(golden: Golden, found: Found) -> dict[str, Any]:
    """The same with V heads in a golden's order, of an engine that has GGUF's. Raises QwenRefError."""
    if not isinstance(found, Mapping):
        found = join(golden, found)
    heads = {name: x for name, x in found.items() if name in golden.entries and ".linear_attn." in name}
    steps = {name: as_numpy(name, x) for name, x in found.items() if name == "steps"}
    tensors, _ = shaped(golden, heads, steps_of(golden, steps))
    return dict(found) | {
        name: x if isinstance(x, Partial) else grouped_heads(name, x, golden.config)
        for name, x in tensors.items()
    }


def shaped(
    golden: Golden, found: Mapping[str, Any], steps: int | None = None
) -> tuple[dict[str, np.ndarray | Partial], dict[str, str]]:
    """Arrays in the golden's shapes, of all T tokens or of the P of the prompt, if the engine ran it alone;
    and a sentence on each whose shape is another.

    A batch of one, or heads that are not split, are the same tensor: the shape [1, T, H*D] for [T, H, D].
    Of a prompt alone the state, which is another one, and attention weights, which have fewer columns, are
    left out. Where `steps` are known, logits may be of the prompt's last token and these. Raises QwenRefError
    if something is no tensor of numbers.
    """
    T, P = len(golden.inputs["token_ids"]), golden.about["prompt_tokens"]
    tensors: dict[str, np.ndarray | Partial] = {}
    shapes = {}
    for name, entry in golden.entries.items():
        if name not in found:
            continue
        x, shape = found[name], entry.shape
        if isinstance(x, Partial):
            tensors[name] = x
            continue
        x = as_numpy(name, x)
        counts = [shape[0]]
        if not name.startswith(OTHER_ROWS):
            counts += [P, 1 + steps] if name == "logits" and steps is not None else [P]
        for rows in (x, x[0]) if x.ndim > 1 and len(x) == 1 else (x,):
            count = len(rows) if rows.ndim else 0
            if count in counts and rows.size == count * math.prod(shape[1:]):
                tensors[name] = rows.reshape(count, *shape[1:])
                break
        else:
            shapes[name] = f"{name}: shape {x.shape} should be {shape}"
            if steps:
                shapes[name] += f", of one step {(1, *shape[1:])}"
    alone = P < T and any(
        isinstance(x, np.ndarray) and len(x) == P
        for name, x in tensors.items()
        if not name.startswith(OTHER_ROWS) and not ALL_TOKENS.search(name)
    )
    if alone and not steps:
        tensors = {name: x for name, x in tensors.items() if not ALL_TOKENS.search(name)}
        shapes = {name: sentence for name, sentence in shapes.items() if not ALL_TOKENS.search(name)}
    return tensors, shapes


def sample_of(
    golden: Golden, name: str, x: np.ndarray | Partial, steps: int | None = None
) -> np.ndarray | Partial:
    """What the golden keeps of a tensor, float64 [rows, columns]; of some tokens only that is known."""
    entry = golden.entries[name]
    if isinstance(x, Partial):
        return x
    if len(x) == entry.shape[0]:
        return entry.sample(x).astype(np.float64)
    values = np.full(entry.shape, np.nan)
    tokens = tokens_of(golden, len(x), steps) if name == "logits" else np.arange(len(x))
    values[tokens] = np.where(np.isnan(x), np.inf, x)  # NaN says here: not known
    return Partial(entry.sample(values), 0.0)


def check_allowed(allowed: str) -> None:
    if allowed not in UNIT:
        raise QwenRefError(f"allowed: {allowed!r} is not one of {', '.join(UNIT)}")


def compare_samples(
    golden: Golden, samples: Mapping[str, np.ndarray | Partial], allowed: str = "float32", steps: int = 0
) -> Report:
    """The same for what the golden keeps of each tensor, float64 [rows, columns]: another golden's values.

    With `steps` the rows after the prompt are judged by themselves too: among all others their error is
    diluted.
    """
    check_allowed(allowed)
    T, P = len(golden.inputs["token_ids"]), golden.about.get("prompt_tokens", 0)
    unknown = [name for name in samples if name not in golden.entries]
    samples = {name: samples[name] for name in golden.entries if known_of(samples.get(name))}
    decoded = {name: kept_from(golden.entries[name], name, P) for name in samples} if steps else {}
    differences = [
        difference(name, golden.entries[name], golden.values[name], x, decoded.get(name))
        for name, x in samples.items()
    ]
    first = next((d for d in differences if d.share[allowed] > 1), None)
    cause = complaint = None
    if first:
        # A state has no rows of the prompt: what comes after it tells where it went wrong.
        telling = next((d for d in differences if d.share[allowed] > 1 and decoded.get(d.name)), first)
        entry, exact, x = golden.entries[telling.name], golden.values[telling.name], samples[telling.name]
        at = decoded.get(telling.name, [])
        prompt = [i for i in range(len(exact)) if i not in at]
        in_decoding = bool(at and prompt) and shares_of_rows(entry, exact, x, prompt)[allowed] <= 1
        cause = BETWEEN_STEPS if in_decoding else cause_of(golden, first, samples[first.name], allowed)
        complaint = (
            f"{first.name} is the first tensor that {allowed} does not explain: "
            f"{'in decoding ' if in_decoding else ''}its error is {times(first.share[allowed])} the budget"
        )
    missing = [name for name in golden.entries if name not in samples]
    report = Report(allowed, differences, first, cause, missing, {}, complaint=complaint, unknown=unknown)
    if "logits" in samples:
        count = next(d.count for d in differences if d.name == "logits")
        report.scope = f"{count} of {golden.values['logits'].size} values"
    if T > P:
        shown = any(known_of(x, decoded.get(name, [])) for name, x in samples.items())
        report.decoding = decoding_of(golden, steps) if shown else "not judged"
    return report


def kept_from(entry: Entry, name: str, start: int) -> list[int]:
    """Which of the rows that are kept are of tokens from `start` on."""
    if name.startswith(OTHER_ROWS) or name.endswith(".state"):
        return []
    return [i for i, row in enumerate(entry.rows) if row >= start]


def times(share: float) -> str:
    """0.25 -> 25 %, 3.14 -> 3.1 ×, 31415 -> 31,415 ×"""
    if share <= 1:
        return f"{share * 100:.0f} %"
    return f"{share:.1f} ×" if share < 10 else f"{share:,.0f} ×" if share < 1e6 else f"{share:.0e} ×"


def known_of(x: np.ndarray | Partial | None, rows: Sequence[int] | slice = slice(None)) -> bool:
    """Is there anything to compare?"""
    return x is not None and bool(x.known()[rows].any() if isinstance(x, Partial) else x[rows].size)


def known_values(
    found: np.ndarray | Partial, exact: np.ndarray, rows: Sequence[int] | slice = slice(None)
) -> tuple[np.ndarray, np.ndarray, float]:
    """Of these rows what an engine showed, the golden's values there, and the precision of what was shown."""
    if isinstance(found, Partial):
        known = found.known()[rows]
        return found.values[rows][known], exact[rows][known], found.precision
    return found[rows], exact[rows], 0.0


def size_of_error(x: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """rms and the worst; infinite where a value is not finite."""
    if not np.isfinite(x).all():
        return np.inf, np.inf
    error = x - exact
    return float(np.sqrt(np.mean(error**2))), float(np.abs(error).max(initial=0))


def shares_of_rows(
    entry: Entry, exact: np.ndarray, found: np.ndarray | Partial, at: list[int]
) -> dict[str, float]:
    """Of each arithmetic's budget what the error of some rows is, judged without the others.

    The golden knows errors over all rows only. Those of a row that is larger are larger; and the rms of a few
    values scatters: of n it is above 1 + 2.7 / sqrt(n) times what is expected once in 10,000.
    """
    x, some, precision = known_values(found, exact, at)
    if not x.size:
        return dict.fromkeys(UNIT, 0.0)
    rms, most = size_of_error(x, some)
    everywhere = float(np.mean(exact**2))
    larger = max(1.0, math.sqrt(float(np.mean(some**2)) / everywhere)) if everywhere else 1.0
    scatter = 1 + 2.7 / math.sqrt(x.size)
    share = {}
    for kind in UNIT:
        rms_budget, max_budget = (larger * budget for budget in budgets(entry, kind))
        share[kind] = max(rms / (scatter * rms_budget + precision), most / (max_budget + precision))
    return share


def difference(
    name: str, entry: Entry, exact: np.ndarray, found: np.ndarray | Partial, decoded: list[int] | None = None
) -> Difference:
    """Of a Partial: its values' error beside the budget and the precision, and its sum's.

    The budgets are of all that the golden keeps, N values. If rms is their error's, that of n among them can
    be sqrt(N / n) * rms, and the sum of n errors can be sqrt(N * n) * rms (both by Cauchy and Schwarz).
    """
    N = exact.size
    of_decoded = shares_of_rows(entry, exact, found, decoded) if decoded else {}
    total = found.sum if isinstance(found, Partial) else None
    x, exact, precision = known_values(found, exact)
    rms, most = size_of_error(x, exact)
    lengths = float(np.linalg.norm(x) * np.linalg.norm(exact)) if np.isfinite(x).all() else 0.0
    share = {}
    for kind in UNIT:
        rms_budget, max_budget = budgets(entry, kind)
        spread = math.sqrt(N / x.size)  # 1 for a whole tensor
        share[kind] = max(rms / (spread * rms_budget + precision), most / (max_budget + precision))
        if total:
            sum_budget = math.sqrt(N * total.terms) * rms_budget + total.rounding
            share[kind] = max(share[kind], total.error / sum_budget)
        share[kind] = max(share[kind], of_decoded.get(kind, 0.0))
    return Difference(
        name,
        x.size,
        rms,
        most,
        rms / entry.rms if entry.rms else rms,
        float(np.sum(x * exact)) / lengths if lengths else 0.0,
        next((kind for kind, s in share.items() if s <= 1), None),
        share,
    )


def cause_of(golden: Golden, first: Difference, x: np.ndarray | Partial, allowed: str) -> str | None:
    """A sentence on the first tensor that is wrong, or None."""
    if not isinstance(x, Partial):
        return find_cause(golden, first.name, x, allowed=allowed)
    entry, exact = golden.entries[first.name], golden.values[first.name]
    if x.sum and difference(first.name, entry, exact, replace(x, sum=None)).share[allowed] <= 1:
        return ONLY_THE_SUM
    return find_cause(golden, first.name, x.values, x.known(), allowed, x.precision)


# ---- tokens and logits


def kl_budget(golden: Golden, allowed: str) -> float:
    """Of the mean KL divergence of the logits, which goes with the square of their error."""
    rounding = 1e-14  # of the divergence's own sums, in float64
    return SLACK[allowed] ** 2 * golden.kl.get(allowed, 0.0) + rounding


def too_far(
    golden: Golden, kl: np.ndarray, tokens: np.ndarray, allowed: str, decoding: bool = False
) -> str | None:
    """A complaint about the KL divergence of logits [tokens], whose mean has a budget, and each token OF_ONE
    times it."""
    budget, where = kl_budget(golden, allowed), "in decoding " if decoding else ""
    if not kl.mean() <= budget:
        share = times(kl.mean() / budget)
        return f"{where}the logits' KL divergence of {kl.mean():.1e} is {share} what {allowed} explains"
    if (kl <= OF_ONE * budget).all():
        return None
    at = int((kl > OF_ONE * budget).argmax())
    which = f"step {at}" if decoding else f"token {tokens[at]}"
    share = times(kl[at] / budget / OF_ONE)
    return f"{where}the logits' KL divergence of {which}, {kl[at]:.1e}, is {share} what {allowed} explains"


def of_greedy(golden: Golden, found: list[int], allowed: str) -> tuple[str, str | None]:
    """A sentence on the greedy tokens, and the same as a complaint if no near-tie explains a difference.

    Expected are the golden's tokens after the prompt, up to one that is not its own best.
    """
    start = golden.about["prompt_tokens"]
    expected = golden.inputs["token_ids"][start:].tolist()
    best = golden.inputs["top_ids"][start - 1 : -1, 0].tolist()
    forced = next((i for i, token_id in enumerate(expected) if token_id != best[i]), len(expected))
    expected = expected[:forced] + best[forced : forced + 1]
    count = min(len(found), len(expected))
    at = next((i for i in range(count) if found[i] != expected[i]), None)
    if at is None:
        return f"{count} of {len(expected)} tokens, all the same", None
    best_ids, best = golden.inputs["top_ids"][start - 1 + at], golden.inputs["top_logits"][start - 1 + at]
    theirs = best[best_ids == found[at]]  # none: it is below the last of the best
    gap = best[0] - (theirs[0] if theirs.size else best[-1])
    least = "" if theirs.size else "at least "
    sentence = f"token {at} is {found[at]} and not {expected[at]}, whose logit is {least}{gap:.1e} higher"
    entry = golden.entries.get("logits")
    error = 2 * SLACK[allowed] * entry.errors.get(allowed, (0, 0))[1] if entry else 0.0
    if gap <= 2 * error:  # both logits may be that far off
        after = len(found) - at - 1
        rest = f"; {after} tokens after it are not judged" if after > 0 else ""
        return f"{at} of {len(expected)} tokens, then a near-tie: {sentence}{rest}", None
    return sentence, f"generated: {sentence}"


def of_acceptance(golden: Golden, found: np.ndarray, allowed: str) -> tuple[str, str | None]:
    """A sentence on the share of drafts that are the model's choice, and the same as a complaint if near-ties
    do not explain it: tokens of which the second best may be the best one, in either logits.
    """
    if found.size != 1 or not np.isfinite(found).all():
        raise QwenRefError(f"acceptance: {found.tolist()!r:.80} should be one number")
    T, exact, theirs = len(golden.inputs["token_ids"]), golden.about["acceptance"], float(found.ravel()[0])
    tie = np.zeros(T, bool)
    for path in "", "mtp.":
        best, entry = golden.inputs[path + "top_logits"], golden.entries.get(path + "logits")
        error = 2 * SLACK[allowed] * entry.errors.get(allowed, (0, 0))[1] if entry else 0.0
        tie |= best[:, 0] - best[:, 1] <= 2 * error
    most = (int(tie.sum()) + 0.5) / T  # half a token: the number may be rounded
    if abs(theirs - exact) <= most:
        return f"{theirs:.3g} of drafts, and {exact:.3g} exactly", None
    sentence = (
        f"{theirs:.3g} of drafts are the model's choice, and {exact:.3g} should be; near-ties are {most:.2g}"
    )
    return sentence, f"acceptance: {sentence}"


def unknown_layer(golden: Golden, found: Mapping[str, Any]) -> str | None:
    """A complaint about a layer that the model does not have: in a file an MTP layer stands behind them."""
    layers = golden.config.num_layers
    for name in found:
        if (layer := re.match(r"layers\.(\d{1,9})\.", name)) and int(layer[1]) >= layers:
            return f"{name}: the model has {layers} layers; an MTP layer is none of them, but mtp.…"
    return None


def wrong_inputs(golden: Golden, found: Mapping[str, np.ndarray]) -> str | None:
    """A sentence on the first of the token ids and positions that is not the golden's."""
    P = golden.about["prompt_tokens"]
    for name in "token_ids", "positions":
        if name not in found:
            continue
        x, expected = found[name], golden.inputs[name]
        rows = 1 if name == "token_ids" else 3
        if x.size % rows or (rows == 3 and 3 not in x.shape[:-1]):
            return f"{name}: shape {list(x.shape)} should be {list(expected.shape)}"
        x, expected = (y.reshape(rows, -1) for y in (x, expected))  # without a batch of one
        length = min(x.shape[1], expected.shape[1])
        wrong = np.flatnonzero((x[:, :length] != expected[:, :length]).any(0))
        if wrong.size:
            at = int(wrong[0])
            ours, theirs = (y[:, at].squeeze().tolist() for y in (expected, x))
            return f"{name}: of token {at}: {theirs} should be {ours}"
        if x.shape[1] not in (P, expected.shape[1]):
            return f"{name}: of {x.shape[1]} tokens; the prompt has {P} and all are {expected.shape[1]}"
    return None
