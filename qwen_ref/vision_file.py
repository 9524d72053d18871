"""The vision file (mmproj) that belongs to a model: named, beside it, in its checkpoint, or inside its file.

Of several beside a model the one is taken that lost least of the published weights, which are bfloat16:
BF16 or F32, then F16, then Q8_0, then any other; of equals the smaller one, then the first by name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gguf_io import GGUFError, GGUFFile, Tensor, open_gguf
from qwen_ref.checkpoint import open_vision
from qwen_ref.checkpoint.metadata import LAYER_NORM_EPS, Metadata
from qwen_ref.config import (
    ARCHITECTURE,
    OFFICIAL_SIZES,
    PROJECTOR,
    TEMPORAL_PATCH_SIZE,
    VISION,
    Config,
    read_vision_config,
)
from qwen_ref.errors import QwenRefError, tell

LOSSES = ("F32", "BF16"), ("F16",), ("Q8_0",)


def find_vision_file(path: Path, config: Config, mmproj: str | os.PathLike[str] | None) -> GGUFFile:
    """The vision file of the model at `path`, whose configuration is `config`; `mmproj` names one.

    Raises QwenRefError if there is none that fits, or the one named belongs to another size.
    """
    if mmproj is not None or path.is_dir():
        file = open_vision(path) if mmproj is None else open_gguf(mmproj)
    elif (within := tower_of(open_gguf(path))) is not None:
        file = within
    else:
        return beside(path, config)
    if (width := read_vision_config(file).out_hidden_size) != config.hidden_size:
        theirs, ours = (
            f"{n} (Qwen3.5 {OFFICIAL_SIZES[n]})" if n in OFFICIAL_SIZES else str(n)
            for n in (width, config.hidden_size)
        )
        raise QwenRefError(
            f"{file.path}: clip.vision.projection_dim: {theirs} does not fit {path.name}, whose "
            f"hidden size is {ours}"
        )
    return file


def beside(path: Path, config: Config) -> GGUFFile:
    """The one that fits best among `*mmproj*.gguf`, in capitals or not, in the model's folder."""
    fitting, others = [], []
    for entry in sorted(path.parent.iterdir()):
        name = entry.name.lower()
        if "mmproj" not in name or not name.endswith(".gguf"):
            continue
        try:
            file = open_gguf(entry)
            width = read_vision_config(file).out_hidden_size
            if width == config.hidden_size:
                fitting.append(file)
            else:
                others.append(f"{entry.name} is for a hidden size of {width}, not {config.hidden_size}")
        except (GGUFError, QwenRefError) as error:
            others.append(str(error).replace(str(entry), entry.name))
    if not fitting:
        none = f"none that fits it lies beside it ({'; '.join(others) or 'no file is named *mmproj*.gguf'})"
        raise QwenRefError(f"{path}: images need one vision file (mmproj): {none}; give --mmproj FILE")
    fitting.sort(key=precision)
    if len(fitting) > 1:
        names = ", ".join(file.path.name for file in fitting)
        tell(f"{path}: of its vision files ({names}) {fitting[0].path.name} is used; --mmproj names another")
    return fitting[0]


def precision(file: GGUFFile) -> tuple[int, int]:
    """Sorts vision files: how much was lost, judged by the merger's first matrix, then size."""
    matrix = file.tensors.get("mm.0.weight")
    kind = matrix.type.name if matrix else ""
    loss = next((i for i, kinds in enumerate(LOSSES) if kind in kinds), len(LOSSES))
    return loss, sum(tensor.nbytes for tensor in file.tensors.values())


# ---- a tower inside the text model's file, as Ollama stores it

RENAMED = {  # part of Ollama's names -> of those of llama.cpp's converter
    "v.pos_embed.": "v.position_embd.",
    "v.patch_embed.": "v.patch_embd.",
    "v.merger.norm.": "v.post_ln.",
    "v.merger.linear_fc1.": "mm.0.",
    "v.merger.linear_fc2.": "mm.2.",
    ".mlp.linear_fc1.": ".ffn_up.",
    ".mlp.linear_fc2.": ".ffn_down.",
    ".norm1.": ".ln1.",
    ".norm2.": ".ln2.",
}
KEYS = {  # the same of metadata keys behind qwen35.vision. and clip.vision., where they differ
    "shortest_edge": "image_min_pixels",
    "longest_edge": "image_max_pixels",
    "deepstack_visual_indexes": "is_deepstack_layers",
}


@dataclass(frozen=True, slots=True, eq=False)
class Rearranged(Tensor):
    """A tensor whose rows lie elsewhere in the file, or in another order; copied when asked for."""

    rows_of: Callable[[], np.ndarray]  # uint8 [rows, bytes per row]

    @property
    def data(self) -> np.ndarray:
        data = self.rows_of()
        data.flags.writeable = False  # like a mapped file: kernels are compiled for arrays of one kind
        return data


def tower_of(file: GGUFFile) -> GGUFFile | None:
    """The vision tower in a text model's file, shown as a vision file; None if there is none.

    Ollama's loader (`handle_qwen35_like_clip`) says what its names and keys mean, and what is meant where
    they are left out: Qwen's colours, and an epsilon of 1e-6.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in file.tensors.items():
        if name.startswith(("v.", "mm.")):
            for part, ours in RENAMED.items():
                name = name.replace(part, ours)
            if name in tensors:
                raise QwenRefError(f"{file.path}: {name}: the tensor is there under Ollama's name too")
            tensors[name] = tensor
    if not tensors:
        return None
    for name in [name for name in tensors if ".attn_q." in name]:
        join(file, tensors, [name.replace(".attn_q.", f".attn_{part}.") for part in "qkv"])
    split_patch_embedding(tensors)

    up = tensors.get("v.blk.0.ffn_up.weight")
    values: dict[str, Any] = {
        "projection_dim": file.metadata.get(f"{ARCHITECTURE}.embedding_length"),
        "feed_forward_length": up.rows if up else None,
        "attention.layer_norm_epsilon": LAYER_NORM_EPS,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    values = {f"{VISION}.{key}": value for key, value in values.items()}
    places = {}
    for key, value in file.metadata.items():
        if key.startswith("clip."):  # of a vision file that was put into the model's
            values[key] = value
        elif (name := key.removeprefix(f"{ARCHITECTURE}.vision.")) != key:
            name = f"{VISION}.{KEYS.get(name, name)}"
            values[name] = [True] * np.size(value) if name.endswith("is_deepstack_layers") else value
            places[name] = f"{file.path}: {key}"
    about = {"general.architecture": "clip", "clip.projector_type": PROJECTOR} | values
    about = {key: value for key, value in about.items() if value is not None}
    return GGUFFile(file.path, file.version, Metadata(about, places=places), tensors)


def join(file: GGUFFile, tensors: dict[str, Tensor], names: list[str]) -> None:
    """q, k and v of a block become one tensor, `attn_qkv`. Raises QwenRefError if they do not fit."""
    parts = [tensors.pop(name, None) for name in names]
    q = parts[0]
    assert q is not None
    if any(part is None or (part.shape, part.type) != (q.shape, q.type) for part in parts):
        raise QwenRefError(f"{file.path}: {names[0]}: {', '.join(names[1:])} are not of its shape and type")
    whole = [part for part in parts if part is not None]
    name, shape = names[0].replace(".attn_q.", ".attn_qkv."), (3 * q.shape[0], *q.shape[1:])
    if name in tensors:
        raise QwenRefError(f"{file.path}: {name}: the tensor is there beside {names[0]}")

    def rows() -> np.ndarray:
        data = np.concatenate([part.data for part in whole])
        return data if q.shape[1:] else data.reshape(1, -1)

    tensors[name] = Rearranged(name, shape, q.type, q.offset, q.buffer, rows)


def split_patch_embedding(tensors: dict[str, Tensor]) -> None:
    """[hidden * 3, 2, P, P], both frames in one -> one of [hidden, 3, P, P] for each frame."""
    name = "v.patch_embd.weight"
    both = tensors.get(name)
    if both is None or name + ".1" in tensors or len(both.shape) != 4:
        return
    channels, frames, height, width = both.shape
    if channels % 3 or frames != TEMPORAL_PATCH_SIZE:
        return

    def rows_of(frame: int) -> np.ndarray:
        rows = both.data.reshape(channels, frames, height, -1)[:, frame]  # [hidden*3, P, bytes per row]
        return rows.reshape(channels * height, -1)

    for frame in range(frames):
        own = name + (f".{frame}" if frame else "")
        shape = (channels // 3, 3, height, width)
        tensors[own] = Rearranged(own, shape, both.type, both.offset, both.buffer, partial(rows_of, frame))
