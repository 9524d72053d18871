"""A golden as a folder of JSON and raw numbers, for engines in any language; docs/golden.md has the layout.

    golden.json        all but the tensors' values
    bfloat16.txt       and one for each arithmetic, all that has to be parsed. A line for each tensor: name,
                       rows, columns, stride, budget in rms and in the worst value, rows that are kept
    tensors/NAME.f64   the values that are kept, [rows, columns]
    token_ids.i32      [T]
    positions.i32      [3, T]

examples/read_golden.cpp reads it. All numbers are little-endian, the last dimension runs fastest.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from qwen_ref.config import Config
from qwen_ref.errors import QwenRefError
from qwen_ref.files import read_bytes, regular_file, write_folder
from qwen_ref.oracle.budget import OF_ONE, UNIT, budgets
from qwen_ref.oracle.compare import BESIDE, kl_budget
from qwen_ref.oracle.golden import FORMAT, LIMIT, NOT_READ, Entry, Golden

KINDS = {".f64": "<f8", ".f32": "<f4", ".i64": "<i8", ".i32": "<i4"}
INPUTS = "token_ids", "positions", "image_grid_thw", "video_grid_thw"


def export(golden: Golden, path: str | os.PathLike[str]) -> None:
    """The same golden makes the same bytes.

    Raises QwenRefError if the folder is there and is not empty, or cannot be written.
    """
    P = golden.about["prompt_tokens"]
    logprobs = golden.inputs["top_logits"] - golden.inputs["log_total"][:, None]  # [T, top]
    kl = {kind: kl_budget(golden, kind) for kind in UNIT}
    limits = {name: budgets_of(entry) for name, entry in golden.entries.items()}
    if odd := [name for name in limits if not re.fullmatch(r"\w[\w.]*", name, re.ASCII)]:
        raise QwenRefError(f"{odd[0]!r:.80}: no file can be named after this tensor")
    head = {
        "format": FORMAT,
        "about": golden.about,
        "config": transformers_config(golden.config),
        "prompt_tokens": P,
        **{name: golden.inputs[name].tolist() for name in INPUTS if name in golden.inputs},
        "logprobs": {
            "first": P - 1,
            "ids": golden.inputs["top_ids"][P - 1 :].tolist(),
            "values": logprobs[P - 1 :].tolist(),
            "budgets": {kind: {"mean": mean, "max": OF_ONE * mean} for kind, mean in kl.items()},
        },
        "tensors": {name: described(name, entry, limits[name]) for name, entry in golden.entries.items()},
    }
    with write_folder(path) as folder:
        (folder / "golden.json").write_bytes((in_lines(head) + "\n").encode())
        for kind in UNIT:
            lines = [
                (name, e.shape[0], math.prod(e.shape[1:]), e.stride, *limits[name][kind], *e.rows)
                for name, e in golden.entries.items()
            ]
            text = "".join(" ".join(map(str, line)) + "\n" for line in lines)
            (folder / f"{kind}.txt").write_bytes(text.encode())
        raw = {"token_ids.i32": golden.inputs["token_ids"], "positions.i32": golden.inputs["positions"]}
        raw |= {f"tensors/{name}.f64": x for name, x in golden.values.items()}
        (folder / "tensors").mkdir()
        for name, x in raw.items():
            (folder / name).write_bytes(x.astype(KINDS[Path(name).suffix]).tobytes())


def budgets_of(entry: Entry) -> dict[str, tuple[float, float]]:
    """Of each arithmetic what an error may be in rms, over all that is kept, and in its worst value."""
    found = {kind: budgets(entry, kind) for kind in UNIT}
    return {kind: (float(rms), float(most)) for kind, (rms, most) in found.items()}


def described(name: str, entry: Entry, limits: dict[str, tuple[float, float]]) -> dict[str, Any]:
    return {
        "file": f"tensors/{name}.f64",
        "dtype": "float64",
        "shape": list(entry.shape),
        "rows": entry.rows,
        "stride": entry.stride,
        "rms": entry.rms,
        "max": entry.max,
        "budgets": {kind: dict(zip(("rms", "max"), pair)) for kind, pair in limits.items()},
    }


def in_lines(value: dict[str, Any], depth: int = 2) -> str:
    """JSON, a line for each key down to some depth: arrays of numbers would take one for each number."""
    if not value or depth == 0:
        return json.dumps(value)
    inside = (
        f"{json.dumps(key)}: {in_lines(x, depth - 1) if isinstance(x, dict) else json.dumps(x)}"
        for key, x in value.items()
    )
    return "{\n" + ",\n".join(inside) + "\n}"


def transformers_config(c: Config) -> dict[str, Any]:
    """The fields of transformers' `Qwen3_5TextConfig`, as a config.json has them."""
    rope: dict[str, Any] = {
        "rope_type": "yarn" if c.yarn else "default",
        "rope_theta": c.rope_theta,
        "partial_rotary_factor": c.rotary_dim / c.head_dim,
        "mrope_section": list(c.mrope_section),
        "mrope_interleaved": True,
    }
    if c.yarn:
        rope |= vars(c.yarn)
    layers = range(c.num_layers)
    return {
        "_name_or_path": c.name,
        "max_position_embeddings": c.context_length,
        "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size,
        "intermediate_size": c.intermediate_size,
        "num_hidden_layers": c.num_layers,
        "mtp_num_hidden_layers": c.num_mtp_layers,
        "full_attention_interval": c.full_attention_interval,
        "layer_types": ["full_attention" if c.is_full_attention(i) else "linear_attention" for i in layers],
        "rms_norm_eps": c.rms_norm_eps,
        "num_attention_heads": c.num_attention_heads,
        "num_key_value_heads": c.num_key_value_heads,
        "head_dim": c.head_dim,
        "rope_parameters": rope,
        "linear_num_key_heads": c.linear_num_key_heads,
        "linear_num_value_heads": c.linear_num_value_heads,
        "linear_key_head_dim": c.linear_key_head_dim,
        "linear_value_head_dim": c.linear_value_head_dim,
        "linear_conv_kernel_dim": c.conv_kernel,
    }


def read_raw(folder: Path, golden: Golden) -> dict[str, np.ndarray]:
    """An engine's dump in this layout: NAME.f32 (or .f64, .i32, .i64) of all rows, nothing said of shapes.

    Of what cannot be compared the names alone. Raises QwenRefError if a file is not of such numbers.
    """
    dump = {}
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise QwenRefError(f"{folder}: cannot be read: {error.strerror or error}") from None
    for file in files:
        name, kind = file.stem, KINDS.get(file.suffix)
        if kind is None or (name not in golden.entries and name not in BESIDE):
            dump[name if kind else file.name] = NOT_READ
            continue
        if (size := regular_file(file).stat().st_size) > LIMIT or size % np.dtype(kind).itemsize:
            raise QwenRefError(f"{file}: {size} bytes are not those of {np.dtype(kind)} numbers of a dump")
        x = np.frombuffer(read_bytes(file), kind)
        if name in golden.entries:
            columns = golden.entries[name].shape[1:]
            if x.size and x.size % math.prod(columns) == 0:
                x = x.reshape(-1, *columns)
        elif name == "positions" and x.size % 3 == 0:
            x = x.reshape(3, -1)
        dump[name] = x
    if all(x is NOT_READ for x in dump.values()):
        raise QwenRefError(
            f"{folder}: has no file like {next(iter(golden.entries))}.f32, a tensor of the golden's"
        )
    return dump
