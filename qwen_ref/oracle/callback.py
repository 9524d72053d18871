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

from qwen_ref.config import Config
from qwen_ref.errors import QwenRefError
from qwen_ref.oracle.compare import Partial, Sum
from qwen_ref.oracle.golden import Entry, Golden
from qwen_ref.oracle.names import ATTENTION, DELTANET, ENDS, LAYER
from qwen_ref.oracle.record import canonical

AT_EDGES = 3  # values that are printed at either end of a dimension
PRECISION = 0.5e-4  # %12.4f
SUM_PRECISION = 0.5e-6  # %f
CACHE_STEP = 256  # the keys that attention sees are padded to a multiple of it
LONGEST_LINE = 1 << 16

TOKENS = re.compile(r"number of input tokens = (\d+)")
TOKEN = re.compile(r"\s(\d+)\s*$")  # alone on its line, but for a time and a level
# function: NAME = (f32) OPERATION(sources) = {fastest dimension, …, slowest}; older versions: ggml_debug
HEADER = re.compile(r"(?:common_debug_cb_eval|ggml_debug): +(.+?) = \(\w+\) +(\w+)\(.*\) = \{([\d, ]+)\}\s*$")
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

    Raises QwenRefError if the file cannot be read, is no such dump or is damaged, or if it is of other tokens
    than the golden. The ids are printed to stderr: a dump without them is only asked for their number.
    """
    path, token_ids = Path(path), golden.inputs["token_ids"].tolist()
    wanted = ggml_names(golden)
    found: dict[str, Partial] = {}
    empty = True
    for what in parts(path, {name for name, _ in wanted} | {"model.input_embed"}):
        if isinstance(what, list):
            check_tokens(path, what, token_ids)
            continue
        empty = False
        if what.name == "model.input_embed" and what.shape[2] != len(token_ids):
            raise QwenRefError(
                f"{path}: the dump is of {what.shape[2]} tokens and the golden of {len(token_ids)}: it has "
                f"another prompt, or was run in pieces (llama.cpp's option -ub)"
            )
        for key in ((what.name, what.operation), (what.name, "")):
            for name in wanted.get(key, ()):
                part = as_partial(golden, name, what)
                if part and (name not in found or part.count() > found[name].count()):
                    found[name] = part
    if empty:
        raise QwenRefError(f"{path}: has no tensors as llama-eval-callback prints them")
    if not found:
        raise QwenRefError(f"{path}: no tensor has a name and a shape of the golden's")
    return found


def check_tokens(path: Path, found: list[int], expected: list[int]) -> None:
    if found == expected:
        return
    if len(found) != len(expected):
        what = f"{len(found)} input tokens are not the golden's {len(expected)}"
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
            shape = tuple(int(n) for n in header[3].split(","))[::-1]
            tensor = Printed(header[1], header[2], shape)
            if tensor.name not in wanted or len(shape) != 4 or shape[0] != 1:
                yield tensor
                tensor = None
        elif tensor and (row := ROW.match(line)):
            try:
                tensor.values += [float(x) for x in row[1].split(",") if x.strip() != "..."]
            except ValueError:
                raise QwenRefError(
                    f"{path}: line {number}: {tensor.name}: {row[1]!r} are no numbers"
                ) from None
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
        with open(path, encoding="utf-8", errors="replace") as file:
            while line := file.readline(LONGEST_LINE):
                yield line
    except OSError as error:
        raise QwenRefError(f"{path}: cannot be read: {error.strerror or error}") from None


# ---- tensors


def as_partial(golden: Golden, name: str, printed: Printed) -> Partial | None:
    """What the golden keeps of it; None if the shape is another, or nothing that is kept was printed."""
    entry = golden.entries[name]
    at = places(name, entry, printed.shape, golden.config)
    if at is None or len(printed.values) == 0:
        return None
    theirs = np.full(math.prod(printed.shape), np.nan)
    theirs[printed.known()] = np.nan_to_num(printed.values, nan=np.inf)  # NaN says here: not known
    values = np.full(entry.shape, np.nan)
    values[len(values) - len(at) :] = theirs[at]
    part = Partial(entry.sample(values), PRECISION, sum_of(golden, name, printed, at))
    return part if part.count() else None


def places(name: str, entry: Entry, shape: tuple[int, ...], config: Config) -> np.ndarray | None:
    """Where the golden's values stand in llama.cpp's flattened tensor: integers of the golden's shape.

    Or of its last row, where llama.cpp computes for the last token alone. None if the shape does not fit.
    """
    rows, size, n = entry.shape[0], math.prod(entry.shape), math.prod(shape)
    if ".self_attn.weights." in name:
        T, G, S = entry.shape
        if shape[1:3] != (config.num_attention_heads, T) or not S <= shape[3] < S + CACHE_STEP:
            return None
        heads = int(name.rpartition(".")[2]) * G + np.arange(G)
        at = positions(shape, np.zeros(1, int), heads, np.arange(T), np.arange(S))[
            0
        ]  # [1, G, T, S] -> [G, T, S]
    elif name.endswith("linear_attn.state"):
        if n != size:
            return None
        H, K, V = entry.shape
        at = np.arange(n).reshape(H, V, K).swapaxes(1, 2)  # [H * V * K] -> [H, K, V]
    else:
        if n == size // rows:
            rows = 1
        elif n != size:
            return None
        at = np.arange(n).reshape(rows, *entry.shape[1:])  # [T * C] -> [T, ...]
    return canonical(name, at, config)


def positions(shape: tuple[int, ...], *indices: np.ndarray) -> np.ndarray:
    """Where values stand in a flattened tensor of this shape, from their indices along each dimension."""
    at = np.zeros((), np.int64)
    for i, along in enumerate(indices):
        at = at[..., None] + math.prod(shape[i + 1 :]) * along  # [...] -> [..., indices]
    return at


def sum_of(golden: Golden, name: str, printed: Printed, at: np.ndarray) -> Sum | None:
    """The printed sum beside that of the golden, if the golden keeps all that was added up.

    llama.cpp adds in float32, one value after another; each time that rounds by 2^-24 of the sum so far.
    """
    entry = golden.entries[name]
    rows = range(entry.shape[0] - len(at), entry.shape[0])
    if entry.stride != 1 or at.size != math.prod(printed.shape) or not set(rows) <= set(entry.rows):
        return None
    exact = np.empty(at.size)  # in llama.cpp's order
    exact[at.ravel()] = golden.values[name][[entry.rows.index(row) for row in rows]].ravel()
    error = abs(printed.sum - exact.sum())
    rounding = 2.0**-24 * np.abs(np.cumsum(exact)).sum() + SUM_PRECISION
    return Sum(float(error) if np.isfinite(error) else np.inf, float(rounding), at.size)
