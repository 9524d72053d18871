"""A model and a prompt to a golden: run in float64, and once in each arithmetic for the error budgets."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from qwen_ref.config import Config
from qwen_ref.engine.look import LOGITS, Network, chosen, embed, in_transformers_order, run
from qwen_ref.errors import QwenRefError
from qwen_ref.model.cache_types import PLAIN
from qwen_ref.model.matrix import linear
from qwen_ref.model.mtp import MTPLayer, of_the_token_before
from qwen_ref.model.state import State
from qwen_ref.model.text import TextModel
from qwen_ref.model.trace import Watch, watching
from qwen_ref.oracle.arithmetic import ARITHMETICS, Rounding, unrounded
from qwen_ref.oracle.golden import DRAFTS, Entry, Golden, as_numpy, as_rows
from qwen_ref.oracle.logits import TOP, best_of, divergence
from qwen_ref.oracle.names import ATTENTION, ENDS, LAYER, MTP
from qwen_ref.prompt import Prompt

Progress = Callable[[str], None]


def canonical(name: str, x: Any, config: Config) -> np.ndarray:
    """A tensor as a golden has it, from the layout of this model, which is that of a GGUF file.

    x       NumPy's, or what NumPy or DLPack can read; T are any tokens, so a step's tensors are well too
    config  a golden's, or of the model file (qwen_ref.config.read_config)

    `layers.N.` stands before the names. All others come back as they are.

        self_attn.weights.N                       [H / H_kv, T, S] -> [T, H / H_kv, S]
        linear_attn.in_proj_b, in_proj_a, beta, g [T, H_v]          V head v * H_k + k goes to
        linear_attn.o, in_proj_z, norm            [T, H_v, V]       k * (H_v / H_k) + v: those that share
        linear_attn.state                         [H_v, K, V]       K head k then lie together
        linear_attn.in_proj_qkv, conv1d           [T, 2 * H_k*K + H_v*V], V heads are at the end

    Raises QwenRefError if the shape is another.
    """
    return in_transformers_order(name, as_numpy(name, x), config)


# ---- running the model


def run_mtp(
    layer: MTPLayer, prompt: Prompt, x: np.ndarray, hidden: np.ndarray, watch: Watch
) -> tuple[np.ndarray, State]:
    """H' [T, hidden] and the layer's state, of what `run` returned; `watch` as there."""
    own, state = layer.embed(prompt.token_ids), layer.new_state()
    own[prompt.places] = x[prompt.places]
    with watching(watch):
        return layer.forward(own, of_the_token_before(hidden), state, prompt.positions), state


def run_draft(
    layer: MTPLayer, hidden: np.ndarray, state: State, draft_ids: Sequence[int], rounding: Rounding
) -> tuple[list[int], dict[str, np.ndarray]]:
    """A draft behind the last token, of which H' is hidden [1, hidden]: these tokens, or greedy ones.

    The tensors have a row for each of DRAFTS tokens; attention weights, a column longer each time, are left
    out. Logits that stand beside a token choose the next one.
    """
    rows: dict[str, list[np.ndarray]] = {}
    tokens: list[int] = []

    def collect(name: str, x: np.ndarray) -> np.ndarray | None:
        instead = rounding(name, x)
        if ".weights." not in name:
            rows.setdefault(f"mtp.draft.{name.removeprefix('mtp.')}", []).append(
                x if instead is None else instead
            )
        return instead

    logits = layer.logits(hidden)
    with watching(collect):
        for n in range(DRAFTS):
            tokens.append(draft_ids[n] if len(draft_ids) else int(logits[0].argmax()))
            hidden = layer.forward(layer.embed(tokens[-1:]), hidden, state)
            logits = layer.logits(hidden)
    return tokens, {name: np.concatenate(x) for name, x in rows.items()}


def logits_in_blocks(text: TextModel | MTPLayer, hidden: np.ndarray) -> Iterator[np.ndarray]:
    """Logits of hidden [T, hidden], some rows at a time: of a long prompt all together are gigabytes."""
    step = max(1, LOGITS // text.config.vocab_size)
    for start in range(0, len(hidden), step):
        yield text.logits(hidden[start : start + step])


def continued(network: Network, prompt: Prompt, tokens: int, eos_ids: frozenset[int]) -> Prompt:
    """The prompt and at most so many greedy tokens; a token of eos_ids ends them, and is left out."""
    text, token_ids = network.text, list(prompt.token_ids)
    if tokens:
        state = text.new_state()
        hidden = text.forward(embed(network, prompt), state, prompt.positions)
        for _ in range(tokens):
            token_id = int(text.logits(hidden[-1:])[0].argmax())
            if token_id in eos_ids:
                break
            token_ids.append(token_id)
            hidden = text.forward([token_id], state)
    return dataclasses.replace(prompt, token_ids=token_ids)


# ---- what is kept


def mtp_is_chosen(names: Sequence[str] | None) -> bool:
    """Is any of its tensors? Its logits alone are as much work as the model's."""
    inside = [name.ours for name in (*ENDS, *LAYER, *ATTENTION, *MTP)]
    return any(chosen(names, f"mtp.{path}{name}") for path in ("", "draft.") for name in inside)


Rows = int | Sequence[int] | None


def new_entry(shape: tuple[int, ...], rows: Rows, columns: int | None) -> Entry:
    """rows: so many, the first and the last among them; or those of these numbers that there are; None: all.

    columns: at most so many; None: all.
    """
    T, C = shape[0], int(np.prod(shape[1:]))
    if rows is None or (isinstance(rows, int) and rows >= T):
        kept = list(range(T))
    elif isinstance(rows, int):
        kept = np.linspace(0, T - 1, rows).round().astype(int).tolist()
    else:
        kept = [row % T for row in rows if -T <= row < T]
    stride = 1 if columns is None else max(1, -(-C // columns))
    return Entry(shape, sorted(set(kept)), stride, 0.0, 0.0)


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) if x.size else 0.0


def most(x: np.ndarray) -> float:
    return float(np.abs(x).max(initial=0))


@threadpool_limits.wrap(limits=1)  # BLAS adds in another order with another number of threads
def record(
    open_model: Callable[[type], Network],
    prompt: Prompt,
    about: dict[str, Any],
    *,
    generate: int = 0,
    eos_ids: frozenset[int] = frozenset(),
    names: Sequence[str] | None = None,
    rows: Rows = None,
    columns: int | None = None,
    top: int = TOP,
    progress: Progress = lambda what: None,
) -> Golden:
    """What the model computes for a prompt and its greedy continuation, exactly.

    open_model   opens the model in a dtype, with NumPy's layers
    generate     greedy tokens, at most, that follow the prompt: a golden holds all T tokens alike
    names        patterns (fnmatch) of what is kept; None keeps all that has a name
    rows, columns  how much of each tensor is kept (see new_entry); None keeps all
    top          best tokens that are kept of each position

    Raises QwenRefError if nothing fits the names, a value is not finite, or keys and values would be rounded.
    """

    def keep(name: str, x: np.ndarray) -> None:
        if not np.isfinite(x).all():
            raise QwenRefError(f"{about.get('file', 'the model')}: {name}: has values that are not finite")
        if chosen(names, name):
            x = canonical(name, x, network.text.config)
            all_rows = name.startswith("mtp.draft.")  # there are few
            entry = golden.entries[name] = new_entry(x.shape, None if all_rows else rows, columns)
            entry.rms, entry.max = rms(x), most(x)
            golden.values[name] = entry.sample(x).copy()
            golden.row_rms[name] = np.sqrt(np.mean(as_rows(x) ** 2, axis=1))

    progress("float64")
    network = open_model(np.float64)
    if network.text.cache_types != PLAIN:
        kinds = " and ".join(network.text.cache_types)
        raise QwenRefError(f"golden: is exact, and a cache of {kinds} is not; open the model without")
    prompt_tokens = len(prompt.token_ids)
    prompt = continued(network, prompt, generate, eos_ids)
    T = len(prompt.token_ids)
    if isinstance(rows, Sequence) and not any(-T <= row < T for row in rows):
        raise QwenRefError(f"rows: there are {T} tokens, and none is number {' or '.join(map(str, rows))}")
    about = about | {"prompt_tokens": prompt_tokens, "text": prompt.text}
    golden = Golden(about, network.text.config, {}, inputs_of(prompt), {}, {})

    def new_logits(name: str) -> Entry | None:
        shape = T, network.text.config.vocab_size
        return new_entry(shape, rows, columns) if chosen(names, name) else None

    x, hidden = run(network, prompt, keep)
    keep_logits(golden, "logits", logits_in_blocks(network.text, hidden), new_logits("logits"), top)
    if golden.config.num_mtp_layers == 1 and mtp_is_chosen(names):
        keep_mtp(golden, MTPLayer(network.text), prompt, x, hidden, keep, new_logits("mtp.logits"), top)
    if not golden.entries:
        raise QwenRefError(f"names: nothing that the model computes fits {', '.join(names or ())}")
    for kind, (dtype, rounding) in ARITHMETICS.items():
        progress(kind)
        if dtype is not network.text.dtype:
            del network  # before the other is opened: both may keep gigabytes of weights
            network = open_model(dtype)
        watch = functools.partial(measure, golden, kind, rounding)
        x, hidden = run(network, prompt, watch)
        with watching(rounding):
            golden.kl[kind] = measure_logits(golden, kind, "logits", logits_in_blocks(network.text, hidden))
        if "draft_ids" in golden.inputs:
            measure_mtp(golden, kind, MTPLayer(network.text), prompt, x, hidden, watch, rounding)
    return golden


def keep_mtp(
    golden: Golden,
    layer: MTPLayer,
    prompt: Prompt,
    x: np.ndarray,
    hidden: np.ndarray,
    keep: Callable[[str, np.ndarray], None],
    entry: Entry | None,
    top: int,
) -> None:
    """The layer's tensors, logits as the model's, a draft, and how often its best token is the model's."""
    halves: dict[str, np.ndarray] = {}

    def watch(name: str, x: np.ndarray) -> None:
        keep(name, x)
        if name in ("mtp.enorm", "mtp.hnorm"):
            halves[name] = x

    own, state = run_mtp(layer, prompt, x, hidden, watch)
    keep_logits(golden, "mtp.logits", logits_in_blocks(layer, own), entry, top)
    if eh_proj := golden.entries.get("mtp.eh_proj"):  # for the mistake that a golden could not tell without
        swapped = np.concatenate([halves["mtp.hnorm"], halves["mtp.enorm"]], axis=1)
        golden.inputs["mtp.swapped"] = eh_proj.sample(linear(swapped, layer.weights.eh_proj)).copy()
    draft_ids, draft = run_draft(layer, own[-1:], state, (), unrounded)
    golden.inputs["draft_ids"] = np.array(draft_ids, np.int64)
    for name, rows in draft.items():
        keep(name, rows)
    same = golden.inputs["mtp.top_ids"][:, 0] == golden.inputs["top_ids"][:, 0]
    golden.about["acceptance"] = float(np.mean(same))


def measure_mtp(
    golden: Golden,
    kind: str,
    layer: MTPLayer,
    prompt: Prompt,
    x: np.ndarray,
    hidden: np.ndarray,
    watch: Watch,
    rounding: Rounding,
) -> None:
    own, state = run_mtp(layer, prompt, x, hidden, watch)
    with watching(rounding):
        measure_logits(golden, kind, "mtp.logits", logits_in_blocks(layer, own))
    _, draft = run_draft(layer, own[-1:], state, golden.inputs["draft_ids"].tolist(), rounding)
    for name, rows in draft.items():
        if entry := golden.entries.get(name):
            note_error(golden, kind, name, entry.sample(rows))


def keep_logits(
    golden: Golden, name: str, blocks: Iterator[np.ndarray], entry: Entry | None, top: int
) -> None:
    """Of each position the `top` best tokens and the sum of all exponentials; and what `entry` keeps."""
    path = name.removesuffix("logits")
    best, largest, row_rms, sample = [], [], [], []
    start = 0
    for logits in blocks:
        best.append(best_of(logits, top))
        if entry:
            sample.append(logits[entry.rows_in(start, len(logits)), :: entry.stride])
            row_rms.append(np.sqrt(np.mean(logits**2, axis=1)))
            largest.append(most(logits))
        start += len(logits)
    for place, parts in zip(("top_ids", "top_logits", "log_total"), zip(*best)):
        golden.inputs[path + place] = np.concatenate(parts)
    if entry:
        golden.row_rms[name] = np.concatenate(row_rms)
        golden.values[name] = np.concatenate(sample)
        entry.rms, entry.max = rms(golden.row_rms[name]), max(largest)
        golden.entries[name] = entry


def measure_logits(golden: Golden, kind: str, name: str, blocks: Iterator[np.ndarray]) -> float:
    """How far one arithmetic's logits are from the exact ones; their mean KL divergence."""
    entry, path = golden.entries.get(name), name.removesuffix("logits")
    exact = {place: golden.inputs[path + place] for place in ("top_ids", "top_logits", "log_total")}
    sample, kl = [], []
    start = 0
    for logits in blocks:
        kl.append(divergence(exact, logits, slice(start, start + len(logits))))
        if entry:
            sample.append(logits[entry.rows_in(start, len(logits)), :: entry.stride])
        start += len(logits)
    if entry:
        note_error(golden, kind, name, np.concatenate(sample))
    return float(np.concatenate(kl).mean())


def measure(golden: Golden, kind: str, rounding: Rounding, name: str, x: np.ndarray) -> np.ndarray | None:
    """Watches one arithmetic: rounds, and notes how far that is from the exact values."""
    instead = rounding(name, x)
    if entry := golden.entries.get(name):
        found = canonical(name, x if instead is None else instead, golden.config)
        note_error(golden, kind, name, entry.sample(found))
    return instead


def note_error(golden: Golden, kind: str, name: str, found: np.ndarray) -> None:
    error = found - golden.values[name]
    golden.entries[name].errors[kind] = rms(error), most(error)


def inputs_of(prompt: Prompt) -> dict[str, np.ndarray]:
    """token_ids [T], positions [3, T], and of pictures and clips {image,video}_grid_thw [n, 3]."""
    inputs = {"token_ids": np.array(prompt.token_ids, np.int64), "positions": prompt.positions}
    for kind in "image", "video":
        if grids := [media.grid_thw for media in prompt.media if media.shape.kind == kind]:
            inputs[f"{kind}_grid_thw"] = np.array(grids, np.int64)
    return inputs


# ---- where it comes from


def provenance(model: Path, prompt: Prompt, **options: Any) -> dict[str, Any]:
    """The model's file, the prompt's pictures and clips, hashes of all, the version, and options.

    Nothing of the machine: the same input makes the same bytes. Raises QwenRefError if a file cannot be read.
    """
    about: dict[str, Any] = {"qwen_ref": version("qwen_ref"), "file": model.name, "sha256": sha256(model)}
    if prompt.media:
        about["media"] = [
            {"file": Path(m.name).name, "sha256": sha256(Path(m.name)), "timestamps": m.shape.timestamps}
            for m in prompt.media
        ]
    return about | options


def sha256(path: Path) -> str:
    """Of a file; of a folder, which may be a checkpoint or a clip's frames, of all its files' hashes."""
    try:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file())
            return hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise QwenRefError(f"{path}: cannot be read: {error.strerror or error}") from None
