"""A golden: what the model computes for one prompt, exactly, in one safetensors file. docs/golden.md has the
format.

The file's metadata has one entry, `golden`, a JSON object; its tensors are the inputs (token_ids, positions,
and pixels where there are any) and for each observed tensor the sample `NAME` and the rms of each of its
rows, `rms/NAME`.
"""

from __future__ import annotations

import json
import math
import operator
import os
import re
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qwen_ref.config import FLOAT32, Config, Yarn, contradiction, wrong_type
from qwen_ref.errors import QwenRefError
from qwen_ref.files import read_bytes, regular_file, write_whole
from qwen_ref.oracle.names import ATTENTION, DELTANET, ENDS, LAYER, MTP, PATH

FORMAT = 1
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "<i1", "U8": "<u1"}
NOT_READ = np.empty(0)
LIMIT = 1 << 32  # bytes of a file that is read at all
ARITHMETICS = ("float32", "bfloat16", "float16", "int8")  # whose errors a golden has (arithmetic.py)
LARGEST = float(FLOAT32.max)  # of a value: squares of it are still float64
SHAPES = {name.ours: name.rows for name in (*ENDS, *LAYER, *ATTENTION, *DELTANET, *MTP)}
DRAFTS = 4  # tokens of the draft behind the last token, of a model with an MTP layer


@dataclass
class Entry:
    """One observed tensor, as rows: [T, H, D] is T rows of H*D columns.

    shape    of the whole tensor
    rows     numbers of the rows that are kept
    stride   of the columns that are kept: 0, stride, 2 * stride, …
    rms, max of the whole tensor
    errors   of each arithmetic: [rms, max] of its distance from the exact values that are kept
    """

    shape: tuple[int, ...]
    rows: list[int]
    stride: int
    rms: float
    max: float
    errors: dict[str, tuple[float, float]] = field(default_factory=dict)

    def kept(self) -> str:
        return f"rows {self.rows} and every {self.stride}. column of {self.shape}"

    def rows_in(self, start: int, count: int) -> list[int]:
        """Which of so many rows from `start` on are kept, counted from there."""
        return [row - start for row in self.rows if start <= row < start + count]

    def sample(self, x: np.ndarray) -> np.ndarray:
        """Of a tensor of this shape what is kept, [rows, columns]."""
        return as_rows(x)[self.rows, :: self.stride]


class Part(NamedTuple):
    """Tokens that go in at once. `rejected` go in behind them, as a draft does, and are taken back again."""

    token_ids: list[int]
    rejected: list[int]


@dataclass
class Golden:
    """The entries stand in the order in which the model computes them."""

    about: dict[str, Any]  # model, prompt, options: where it comes from
    config: Config
    entries: dict[str, Entry]
    inputs: dict[str, np.ndarray]
    values: dict[str, np.ndarray]  # float64 [rows, columns], the sample of each entry
    row_rms: dict[str, np.ndarray]  # float64 [all rows]
    kl: dict[str, float] = field(default_factory=dict)  # of each arithmetic: mean KL divergence of its logits
    # Tensors of the model's file by their names there, where it is at hand: some causes take weights.
    weights: Callable[[str], np.ndarray] | None = None

    @property
    def parts(self) -> list[Part]:
        """The prompt and what follows it, one token at a time unless `about` says otherwise."""
        token_ids, P = self.inputs["token_ids"].tolist(), self.about["prompt_tokens"]
        counts = self.about.get("parts") or [P] + [1] * (len(token_ids) - P)
        rejected = self.about.get("rejected", {})
        ends = np.cumsum(counts).tolist()
        return [
            Part(token_ids[end - count : end], rejected.get(str(i), []))
            for i, (count, end) in enumerate(zip(counts, ends))
        ]


def as_rows(x: np.ndarray) -> np.ndarray:
    """[T, ...] -> [T, the rest]."""
    return x.reshape(len(x), -1)


def as_numpy(name: str, x: Any) -> np.ndarray:
    """Whatever NumPy or DLPack can read, as an array of numbers. Raises QwenRefError."""
    try:
        if hasattr(x, "detach"):  # torch: off the graph and the GPU, and bfloat16 to a type that NumPy has
            x = (
                x.detach().cpu().float()
                if x.is_floating_point() and x.element_size() < 4
                else x.detach().cpu()
            )
        x = np.asarray(x) if hasattr(x, "__array__") or not hasattr(x, "__dlpack__") else np.from_dlpack(x)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise QwenRefError(f"{name}: cannot be read as an array: {error}") from None
    if x.dtype.name == "bfloat16":  # JAX's, by way of ml_dtypes: NumPy itself has no such type
        x = x.astype(np.float32)
    if x.dtype.kind not in "fiu":
        raise QwenRefError(f"{name}: type {x.dtype} is none of numbers")
    return x


def save(golden: Golden, path: str | os.PathLike[str]) -> None:
    """Raises QwenRefError if the file cannot be written. The same golden makes the same bytes."""
    from safetensors.numpy import save as serialize

    tensors = {f"input/{name}": x for name, x in golden.inputs.items()}
    tensors |= golden.values
    tensors |= {f"rms/{name}": x for name, x in golden.row_rms.items()}
    head = {
        "format": FORMAT,
        "about": golden.about,
        "config": asdict(golden.config),
        "kl": golden.kl,
        "entries": {name: asdict(entry) for name, entry in golden.entries.items()},
    }
    data = serialize({n: np.ascontiguousarray(x) for n, x in tensors.items()}, {"golden": json.dumps(head)})
    with write_whole(path) as file:
        file.write(data)


def read_tensors(
    path: str | os.PathLike[str], wanted: Collection[str] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the metadata of a safetensors file; of an npz file only the tensors.

    wanted   names of what is read: others are there with no values, whatever they hold; None reads all
    Raises QwenRefError if the file is neither.
    """
    path = regular_file(path)
    try:
        if path.stat().st_size > LIMIT:
            raise QwenRefError(
                f"{path}: {path.stat().st_size} bytes are more than a golden or a dump may have"
            )
        if path.suffix == ".npz":
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                return {n: file[n] if wanted is None or n in wanted else NOT_READ for n in file.files}, {}
        return read_safetensors(path, wanted)
    except OSError as error:
        raise QwenRefError(f"{path}: cannot be read: {error.strerror or error}") from None
    except QwenRefError:
        raise
    except Exception as error:  # what the two libraries raise of a broken file has no common base
        problem = " ".join(str(error).split())
        raise QwenRefError(f"{path}: is no whole safetensors or npz file: {problem}") from None


def read_safetensors(
    path: Path, wanted: Collection[str] | None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """bfloat16, which NumPy has not, becomes float32."""
    from safetensors import deserialize, safe_open

    with safe_open(path, "numpy") as file:
        metadata = file.metadata() or {}
    tensors = {}
    for name, stored in deserialize(read_bytes(path)):
        kind, data = stored["dtype"], stored["data"]
        if wanted is not None and name not in wanted:
            tensors[name] = NOT_READ
            continue
        if kind == "BF16":
            bits = np.frombuffer(data, "<u2").astype(np.uint32) << 16
            x = bits.view(np.float32)
        elif kind in DTYPES:
            x = np.frombuffer(data, DTYPES[kind])
        else:
            raise QwenRefError(f"{path}: {name}: type {kind} cannot be read, only BF16, {', '.join(DTYPES)}")
        tensors[name] = x.reshape(stored["shape"])
    return tensors, metadata


def load(path: str | os.PathLike[str]) -> Golden:
    """Raises QwenRefError if the file is no golden, or is damaged."""
    tensors, metadata = read_tensors(path)
    if "golden" not in metadata:
        raise QwenRefError(f"{path}: golden: the metadata has no such entry: this file is no golden")
    try:
        head = json.loads(metadata["golden"])
        if head["format"] != FORMAT:
            raise QwenRefError(
                f"{path}: format: {head['format']!r} is not {FORMAT}, which this version reads"
            )
        about, entries = dict(head["about"]), {n: read_entry(e) for n, e in head["entries"].items()}
        kl = {kind: size_of(value, low=-1) for kind, value in head["kl"].items()}
        fields = head["config"]
        yarn = Yarn(**fields["yarn"]) if fields["yarn"] else None
        config = Config(**fields | {"mrope_section": tuple(fields["mrope_section"]), "yarn": yarn})
        if wrong := wrong_type(config) or contradiction(config):
            raise QwenRefError(f"{path}: config.{wrong[0]}: {wrong[1]}")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise QwenRefError(f"{path}: golden: the metadata is damaged: {error!r}") from None
    golden = Golden(
        about,
        config,
        entries,
        {name.removeprefix("input/"): x for name, x in tensors.items() if name.startswith("input/")},
        {name: x for name, x in tensors.items() if name in entries},
        {name.removeprefix("rms/"): x for name, x in tensors.items() if name.startswith("rms/")},
        kl,
    )
    check_tensors(golden, Path(path))
    return golden


def read_entry(fields: dict[str, Any]) -> Entry:
    """Raises ValueError, or what Python raises of wrong types, if the fields are no entry."""
    shape, rows = tuple(map(operator.index, fields["shape"])), list(map(operator.index, fields["rows"]))
    stride = operator.index(fields["stride"])
    if not shape or min(shape) < 0 or stride < 1 or any(not 0 <= row < shape[0] for row in rows):
        raise ValueError(f"rows {rows} and every {stride}. column of {shape}")
    errors = {kind: (size_of(rms), size_of(most)) for kind, (rms, most) in fields["errors"].items()}
    if missing := [kind for kind in ARITHMETICS if kind not in errors]:
        raise ValueError(f"errors of {missing[0]} are missing")
    return Entry(shape, rows, stride, size_of(fields["rms"]), size_of(fields["max"]), errors)


def size_of(value: Any, low: float = 0) -> float:
    """An rms or a maximum, or a divergence, which rounding may bring below 0. Raises ValueError."""
    if type(value) not in (int, float) or not low <= value <= LARGEST:
        raise ValueError(f"{value!r:.80} is no rms, maximum or divergence")
    return float(value)


def shape_of(name: str, tokens: int, c: Config) -> tuple[int, ...] | None:
    """What a tensor of the text model has to have, as names.py says it; None of one that it does not name."""
    place = PATH.sub("", re.sub(r"\.weights\.\d+$", ".weights.N", name))
    if place not in SHAPES:
        return None
    sizes = {
        "T": DRAFTS if name.startswith("mtp.draft.") else tokens,
        "S": tokens,
        "R/2": c.rotary_dim // 2,
        "hidden": c.hidden_size,
        "vocab": c.vocab_size,
        "intermediate": c.intermediate_size,
        "H": c.num_attention_heads,
        "H_kv": c.num_key_value_heads,
        "H / H_kv": c.num_attention_heads // c.num_key_value_heads,
        "D": c.head_dim,
        "H_k": c.linear_num_key_heads,
        "H_v": c.linear_num_value_heads,
        "K": c.linear_key_head_dim,
        "V": c.linear_value_head_dim,
        "q, k and v": c.conv_channels,
    }
    inside = SHAPES[place].partition("]")[0].removeprefix("[")  # "[T, R/2], radians" -> "T, R/2"
    return tuple(sizes[size] for size in re.split(r", (?!k and)", inside))


def wrong_parts(about: dict[str, Any], T: int, vocab: int) -> str | None:
    """A sentence, if `parts` are not T tokens in all, or `rejected` are none of the vocabulary's."""
    parts, rejected = about.get("parts", [about["prompt_tokens"]]), about.get("rejected", {})
    if not isinstance(parts, list) or any(type(n) is not int or n < 1 for n in parts):
        return f"parts: {parts!r:.80} are no counts of tokens"
    if "parts" in about and (sum(parts), parts[0]) != (T, about["prompt_tokens"]):
        return (
            f"parts: {sum(parts)} tokens in all and {parts[0]} in the first; there are {T}, and "
            f"{about['prompt_tokens']} of the prompt"
        )
    numbers = {str(i) for i in range(len(parts))}
    if not isinstance(rejected, dict) or not rejected.keys() <= numbers:
        return f"rejected: {rejected!r:.80} does not name parts"
    for ids in rejected.values():
        if not isinstance(ids, list) or any(type(n) is not int or not 0 <= n < vocab for n in ids):
            return f"rejected: {ids!r:.80} are no token ids"
    return None


def check_tensors(golden: Golden, path: Path) -> None:
    """Are all there, of the right type and shape? Raises QwenRefError."""

    def check(name: str, x: np.ndarray | None, kind: str, shape: tuple[int | None, ...]) -> None:
        if x is None:
            raise QwenRefError(f"{path}: {name}: the tensor is missing")
        if x.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, x.shape)):
            raise QwenRefError(f"{path}: {name}: shape {x.shape} should be {shape}".replace("None", "any"))
        if x.dtype != kind:
            raise QwenRefError(f"{path}: {name}: type {x.dtype} should be {np.dtype(kind)}")
        if kind == "f8" and not (np.abs(x) <= LARGEST).all():
            raise QwenRefError(f"{path}: {name}: has values that are not finite numbers of float32's range")

    token_ids = golden.inputs.get("token_ids")
    check("input/token_ids", token_ids, "i8", (None,))
    assert token_ids is not None
    T = len(token_ids)
    best = {"top_ids": ("i8", (T, None)), "top_logits": ("f8", (T, None)), "log_total": ("f8", (T,))}
    needed: dict[str, tuple[str, tuple[int | None, ...]]] = {"positions": ("i8", (3, T)), **best}
    if "draft_ids" in golden.inputs:
        needed |= {"draft_ids": ("i8", (DRAFTS,))} | {f"mtp.{name}": what for name, what in best.items()}
    for name, (kind, shape) in needed.items():
        check(f"input/{name}", golden.inputs.get(name), kind, shape)
    if not isinstance(P := golden.about.get("prompt_tokens"), int) or not 0 < P <= T:
        raise QwenRefError(f"{path}: prompt_tokens: {P!r} is not in 1 to {T}, the tokens that there are")
    if wrong := wrong_parts(golden.about, T, golden.config.vocab_size):
        raise QwenRefError(f"{path}: {wrong}")
    ends = {"token_ids": golden.config.vocab_size, "positions": 1 << 30}
    for ids, their_logits in ("top_ids", "top_logits"), ("mtp.top_ids", "mtp.top_logits"):
        if ids in needed:
            ends[ids] = golden.config.vocab_size
            if (shape := golden.inputs[ids].shape)[1] < 2:
                raise QwenRefError(f"{path}: input/{ids}: shape {shape} should be ({T}, 2 or more)")
            check(f"input/{their_logits}", golden.inputs[their_logits], "f8", shape)
    if "draft_ids" in needed:
        ends["draft_ids"] = golden.config.vocab_size
        share = golden.about.get("acceptance")
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise QwenRefError(f"{path}: acceptance: {share!r:.80} is no share, from 0 to 1")
    for name, end in ends.items():
        x = golden.inputs[name]
        if x.min() < 0 or x.max() >= end:
            raise QwenRefError(f"{path}: input/{name}: {x.min()} to {x.max()} are not in 0 to {end - 1}")
    if not golden.entries:
        raise QwenRefError(f"{path}: entries: there are none")
    for name, entry in golden.entries.items():
        expected = shape_of(name, T, golden.config)
        if expected not in (None, entry.shape):
            raise QwenRefError(f"{path}: {name}: shape {entry.shape} should be {expected}")
        columns = math.prod(entry.shape[1:])
        kept = len(entry.rows), -(-columns // entry.stride)
        check(name, golden.values.get(name), "f8", kept)
        check(f"rms/{name}", golden.row_rms.get(name), "f8", (entry.shape[0],))
