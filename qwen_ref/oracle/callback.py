"""What llama.cpp's llama-eval-callback prints, read as tensors under a golden's names.

    llama-eval-callback -m model.gguf -p "Why?" ... > dump.txt 2>&1

It prints every node of the graph (common/debug.cpp, common_debug_cb_eval): name, operation and shape, then
values with four decimals, of each dimension the first three and the last three, and the sum of all. So a
tensor is known in part, and compare.Partial holds it. V heads are put into a golden's order.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qwen_ref.errors import QwenRefError
from qwen_ref.files import regular_file
from qwen_ref.oracle.compare import Partial, Sum
from qwen_ref.oracle.golden import Golden
from qwen_ref.oracle.names import ATTENTION, DELTANET, ENDS, LAYER
from qwen_ref.oracle.record import canonical

AT_EDGES = 3  # values that are printed at either end of a dimension
PRECISION = 0.5e-4  # %12.4f
SUM_PRECISION = 0.5e-6  # %f
CACHE_STEP = 256  # the keys that attention sees are padded to a multiple of it
LONGEST_LINE = 1 << 16

TOKENS = re.compile(r"number of input tokens = (\d{1,9})\s*$")
TOKEN = re.compile(r"\s(\d{1,9})\s*$")  # alone on its line, but for a time and a level
# function: NAME = (f32) OPERATION(sources) = {fastest dimension, …, slowest}; older versions: ggml_debug
HEADER = re.compile(
    r"(?:common_debug_cb_eval|ggml_debug): +(.+?) = \(\w+\) +(\w+)\(.*\) = \{"
    + ", ".join([r"(\d{1,18})"] * 4)
    + r"\}\s*$"
)
ROW = re.compile(r"^\s*\[ *([-\d.naif]+\b.*?)\s*\],\s*$")
SUM = re.compile(r"^\s*sum = (\S+)\s*$")


@dataclass
class Printed:
    """One tensor as it is printed.

    shape   NumPy's: ggml's backwards, of four dimensions
    values  those that are printed, in order
    sum     of all, in float32
    """

    name: str
    operation: str
    shape: tuple[int, ...]
    values: list[float] = field(default_factory=list)
    sum: float = np.nan

    def known(self) -> np.ndarray:
        """Where the printed values stand in the flattened tensor."""
        seen = [np.r_[: min(n, AT_EDGES), max(n - AT_EDGES, AT_EDGES) : n] for n in self.shape]
        return positions(self.shape, *seen).ravel()

    def count(self) -> int:
        """Of the values that are printed of this shape."""
        return math.prod(min(n, 2 * AT_EDGES) for n in self.shape)


def read(path: str | os.PathLike[str], golden: Golden) -> dict[str, Partial]:
    """The tensors of a dump that the golden has too; of several with one name the one that is known best.

    The dump is of all the golden's tokens, or of its prompt without the continuation: then without the state
    and attention weights, which are others.
    Raises QwenRefError if the file cannot be read, is no such dump or is damaged, or if it is of other tokens
    than the golden. The ids are printed to stderr: a dump without them is only asked for their number.
    """
    path = Path(path)
    wanted = ggml_names(golden)
    found: dict[str, Partial] = {}
    tokens = len(golden.inputs["token_ids"])  # of the dump, which says it before its tensors
    empty = True
    for what in parts(path, {name for name, _ in wanted} | {"model.input_embed"}):
        if isinstance(what, list):
            check_tokens(path, what, golden)
            tokens = len(what)
            continue
        empty = False
        if what.name == "model.input_embed":
            tokens = what.shape[2]
            if tokens not in lengths(golden):
                raise QwenRefError(
                    f"{path}: the dump is of {tokens} tokens and the golden of {in_words(golden)}: it has "
                    f"another prompt, or was run in pieces (llama.cpp's option -ub)"
                )
        for key in ((what.name, what.operation), (what.name, "")):
            for name in wanted.get(key, ()):
                part = as_partial(golden, name, what, tokens)
                if part and (name not in found or part.count() > found[name].count()):
                    found[name] = part
    if empty:
        raise QwenRefError(f"{path}: has no tensors as llama-eval-callback prints them")
    if not found:
        raise QwenRefError(f"{path}: no tensor has a name and a shape of the golden's")
    return found


def lengths(golden: Golden) -> set[int]:
    """How many tokens a dump may be of: the golden's, or its prompt's."""
    T = len(golden.inputs["token_ids"])
    return {T, golden.about.get("prompt_tokens", T)}


def in_words(golden: Golden) -> str:
    return " or ".join(str(n) for n in sorted(lengths(golden)))


def check_tokens(path: Path, found: list[int], golden: Golden) -> None:
    expected = golden.inputs["token_ids"][: len(found)].tolist()
    if found == expected and len(found) in lengths(golden):
        return
    if len(found) not in lengths(golden):
        what = f"{len(found)} input tokens are not the golden's {in_words(golden)}"
    else:
        at = next(i for i, (a, b) in enumerate(zip(found, expected)) if a != b)
        what = f"input token {at} is {found[at]} and in the golden {expected[at]}"
    raise QwenRefError(f"{path}: {what}: both need the same prompt (golden record --raw: no chat template)")


def ggml_names(golden: Golden) -> dict[tuple[str, str], list[str]]:
    """(name in llama.cpp's graph, operation or "" for any) -> the golden's tensors that it is or holds."""
    table = {name.ours: name.ggml for name in [*ENDS, *LAYER, *ATTENTION, *DELTANET]}
    names: dict[tuple[str, str], list[str]] = {}
    for ours in golden.entries:
        layer = re.match(r"layers\.(\d+)\.", ours)
        local = ours[layer.end() :] if layer else ours
        if local.startswith("self_attn.weights."):
            local = "self_attn.weights.N"
        for ggml in filter(None, table.get(local, "").split(", ")):
            name, _, operation = ggml.partition(" ")
            key = f"{name}-{layer[1]}" if layer else name, operation.strip("()")
            names.setdefault(key, []).append(ours)
    return names


# ---- text


def parts(path: Path, wanted: set[str]) -> Iterator[list[int] | Printed]:
    """Token ids, and the tensors of these names; a tensor of another name comes without its values.

    Lines that are neither are passed over: the log, where it is mixed in. Raises QwenRefError if the file
    cannot be read, or a tensor does not have the values that its shape asks for.
    """
    tensor: Printed | None = None  # that is being read
    tokens: list[int] = []
    missing = 0  # tokens that are still to come

    for number, line in enumerate(lines(path), 1):
        if header := HEADER.search(line):
            if tensor:
                raise cut(path, tensor)
            name, operation, *ne = header.groups()
            if operation == "RESHAPE":  # the same values, often with heads apart, so that more are printed
                name = name.removesuffix(" (reshaped)")
            tensor = Printed(name, operation, tuple(int(n) for n in reversed(ne)))
            if name not in wanted or tensor.shape[0] != 1:
                yield tensor
                tensor = None
        elif tensor and (row := ROW.match(line)):
            try:
                tensor.values += [float(x) for x in row[1].split(",") if x.strip() != "..."]
            except ValueError:
                raise QwenRefError(
                    f"{path}: line {number}: {tensor.name}: {row[1]!r} are no numbers"
                ) from None
            if len(tensor.values) > tensor.count():
                raise cut(path, tensor)
        elif tensor and (total := SUM.match(line)):
            try:
                tensor.sum = float(total[1])
            except ValueError:
                raise QwenRefError(f"{path}: line {number}: {tensor.name}: {total[1]!r} is no sum") from None
            if len(tensor.values) != tensor.count():
                raise cut(path, tensor)
            yield tensor
            tensor = None
        elif count := TOKENS.search(line):
            missing, tokens = int(count[1]), []
        elif missing and (token := TOKEN.search(line)):
            tokens.append(int(token[1]))
            missing -= 1
            if not missing:
                yield tokens
    if tensor:
        raise cut(path, tensor)


def cut(path: Path, tensor: Printed) -> QwenRefError:
    there, asked = len(tensor.values), tensor.count()
    return QwenRefError(
        f"{path}: {tensor.name}: {there} of {asked} values are there, or no sum follows: the dump is damaged"
    )


def lines(path: Path) -> Iterator[str]:
    try:
        with open(regular_file(path), encoding="utf-8", errors="replace") as file:
            while line := file.readline(LONGEST_LINE):
                yield line
    except OSError as error:
        raise QwenRefError(f"{path}: cannot be read: {error.strerror or error}") from None


# ---- tensors


def as_partial(golden: Golden, name: str, printed: Printed, tokens: int) -> Partial | None:
    """What the golden keeps of it; None if the shape is another, or nothing that is kept was printed."""
    entry = golden.entries[name]
    at = places(golden, name, printed.shape, tokens)
    if at is None or not printed.values:
        return None
    numbers = np.array(printed.values)
    theirs = np.full(math.prod(printed.shape), np.nan)
    theirs[printed.known()] = np.where(np.isnan(numbers), np.inf, numbers)  # NaN says here: not known
    end = entry.shape[0] if name.endswith(".state") else tokens
    rows = range(end - len(at), end)
    values = np.full(entry.shape, np.nan)
    values[rows] = theirs[at]
    part = Partial(entry.sample(values), PRECISION, sum_of(golden, name, printed, at, rows))
    return part if part.count() else None


def places(golden: Golden, name: str, shape: tuple[int, ...], tokens: int) -> np.ndarray | None:
    """Where the golden's values stand in llama.cpp's flattened tensor: integers [rows, ...].

    Rows are all tokens of the dump, or the last where llama.cpp computes for that alone; of a state V heads.
    None if the shape does not fit.
    """
    entry, n = golden.entries[name], math.prod(shape)
    if ".self_attn.weights." in name:
        T, G, S = entry.shape
        heads_and_rows = golden.config.num_attention_heads, T
        if shape[1:3] != heads_and_rows or not S <= shape[3] < S + CACHE_STEP:
            return None
        heads = int(name.rpartition(".")[2]) * G + np.arange(G)
        at = positions(shape[1:], heads, np.arange(T), np.arange(S))  # [G, T, S]
    elif name.endswith(".state"):
        H, K, V = entry.shape
        if tokens != len(golden.inputs["token_ids"]) or n != H * K * V:
            return None
        at = np.arange(n).reshape(H, V, K).swapaxes(1, 2)  # [H * V * K] -> [H, K, V]
    else:
        row = math.prod(entry.shape[1:])
        if n not in (row, tokens * row):
            return None
        at = np.arange(n).reshape(n // row, *entry.shape[1:])  # [rows * C] -> [rows, ...]
    return canonical(name, at, golden.config)


def positions(shape: tuple[int, ...], *indices: np.ndarray) -> np.ndarray:
    """Where values stand in a flattened tensor of this shape, from their indices along each dimension."""
    at = np.zeros((), np.int64)
    for i, along in enumerate(indices):
        at = at[..., None] + math.prod(shape[i + 1 :]) * along  # [...] -> [..., indices]
    return at


def sum_of(golden: Golden, name: str, printed: Printed, at: np.ndarray, rows: range) -> Sum | None:
    """The printed sum beside that of the golden, if the golden keeps all that was added up.

    llama.cpp adds in float32, one value after another; each time that rounds by 2^-24 of the sum so far.
    """
    entry = golden.entries[name]
    if entry.stride != 1 or at.size != math.prod(printed.shape) or not set(rows) <= set(entry.rows):
        return None
    exact = np.empty(at.size)  # in llama.cpp's order
    exact[at.ravel()] = golden.values[name][[entry.rows.index(row) for row in rows]].ravel()
    error = abs(printed.sum - exact.sum())
    rounding = 2.0**-24 * np.abs(np.cumsum(exact)).sum() + SUM_PRECISION
    return Sum(float(error) if np.isfinite(error) else np.inf, float(rounding), at.size)
