"""A Hugging Face checkpoint folder, shown as the GGUF file that llama.cpp's converter would make of it.

All that reads models here knows GGUF's names and layout; `open_model` gives them these, of either. Names,
layout and values follow the converter (`conversion/qwen.py` and `qwen3vl.py` in llama.cpp), with one
difference: 1 + w and -exp(A_log) are not rounded to float32. The weights stay in the mapped file until they
are asked for. Whatever else a folder holds is refused by name: a tensor that no table names (but those of MTP
layers, which transformers does not compute either), and a field of config.json that is not known here, or has
another value than the one that is computed with.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import struct
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from gguf_io import GGUFFile, QuantType, Tensor, open_gguf
from gguf_io.quants import TYPES
from qwen_ref.config import (
    ARCHITECTURE,
    PROJECTOR,
    TEMPORAL_PATCH_SIZE,
    VISION,
    Config,
    VisionConfig,
    interval_of,
    read_config,
    read_vision_config,
)
from qwen_ref.errors import QwenRefError
from qwen_ref.files import read_json, read_text, regular_file
from qwen_ref.tokenizer import CONTROL, NORMAL, PRE_TOKENIZERS, UNUSED, USER_DEFINED

FLOATS = {"F32": TYPES[0], "F16": TYPES[1], "BF16": TYPES[30]}  # safetensors' name -> GGUF's type
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000  # the safetensors library's own limit
MAX_NAME, MAX_DIMS = 255, 8
MODEL_TYPES = "qwen3_5", "qwen3_5_text"  # text and vision, or text alone
LAYER_TYPES = {"linear_attention", "full_attention"}
JSON_NAMES = {"str": "text", "list": "a list", "dict": "an object"}
LAYER_NORM_EPS = 1e-6  # of the vision tower: transformers' code has it, no config.json


def open_model(path: str | os.PathLike[str]) -> GGUFFile:
    """The text model of a GGUF file, of a checkpoint's folder, or of the one that a .safetensors file is in.

    A folder without a checkpoint may hold one GGUF model, whole or in parts, beside vision files.
    Raises GGUFError or QwenRefError, with one sentence, if it cannot be opened or is not valid.
    """
    if not os.fspath(path):
        raise QwenRefError("model: '' is no file")
    path = Path(path)
    if os.path.isdir(path):
        whole = any(os.path.exists(path / name) for name in (WEIGHTS, INDEX))
        models = [] if whole else gguf_models(path)
        if len(models) > 1:
            names = ", ".join(model.name for model in models)
            raise QwenRefError(f"{path}: is a directory that holds several models ({names}); give one")
        return open_gguf(models[0]) if models else open_text(path)
    if path.suffix == ".safetensors" or path.name == INDEX:
        folder = regular_file(path).parent
        if not os.path.exists(folder / "config.json"):
            raise QwenRefError(f"{path}: is no Hugging Face checkpoint: no config.json lies beside it")
        whole = any(os.path.exists(folder / name) for name in (WEIGHTS, INDEX))
        if path.name != INDEX and not (whole and path in {t.path for t in read_weights(folder).values()}):
            raise QwenRefError(f"{path}: is not among the weights of the checkpoint that its folder holds")
        return open_text(folder)
    return open_gguf(path)


def gguf_models(folder: Path) -> list[Path]:
    """GGUF files of text models in a folder, of split ones the first part."""
    files = (entry for entry in sorted(folder.iterdir()) if entry.name.lower().endswith(".gguf"))
    others = re.compile(r"mmproj|^mtp-|-(?!00001)\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
    return [file for file in files if not others.search(file.name)]


def open_text(folder: Path) -> GGUFFile:
    """The text model of a checkpoint's folder. Raises QwenRefError if it has none that is known here."""
    config = read_fields(folder / "config.json", folder)
    if (kind := config.get("model_type", str)) not in MODEL_TYPES:
        raise config.error("model_type", f"{kind!r:.80} is not Qwen3.5's ({MODEL_TYPES[0]!r})")
    check_not_quantized(config)
    text = config.inner("text_config") if "text_config" in config.values else config
    stored = read_weights(folder)
    both = "model.language_model."
    prefix = both if any(name.startswith(both) for name in stored) else "model."
    shape = text.count("vocab_size"), text.count("hidden_size")
    embedding = Row("token_embd.weight", prefix + "embed_tokens.weight", shape)

    values, places = text_metadata(text, folder)
    metadata = Metadata(values, lambda: read_tokenizer(folder, config, shape[0]), places)
    file = GGUFFile(folder, 3, metadata, take(stored, [embedding], folder))
    # transformers ties the two unless both are stored and differ, so that what is stored always counts.
    tied = config.value("tie_word_embeddings", text.value("tie_word_embeddings", False))
    output = [Row("output.weight", "lm_head.weight", shape)]
    output = [] if tied and "lm_head.weight" not in stored else output
    table = [embedding, *output, *text_rows(read_config(file), prefix)]
    file.tensors |= take(stored, table[1:], folder)
    refuse_others(stored, table, passed=(VISUAL, "mtp."))
    for fields in config, text:
        fields.check_rest(TEXT_ONLY, TEXT_PASSED)
    return file


def open_vision(folder: Path) -> GGUFFile:
    """The vision tower of a checkpoint's folder. Raises QwenRefError if it has none that is known here."""
    config = read_fields(folder / "config.json", folder)
    if "vision_config" not in config.values:
        raise config.error("vision_config", "is missing: this checkpoint has no vision tower; give --mmproj")
    vision = config.inner("vision_config")
    file = GGUFFile(folder, 3, Metadata(vision_metadata(vision, folder)), {})
    places = vision.count("num_position_embeddings")
    vision.check_rest(VISION_ONLY, TEXT_PASSED)
    stored, table = read_weights(folder), list(vision_rows(read_vision_config(file), places))
    file.tensors |= take(stored, table, folder)
    refuse_others({name: t for name, t in stored.items() if name.startswith(VISUAL)}, table)
    return file


TEXT_ONLY = {  # fields of config.json whose other values make another network
    "hidden_act": "silu",
    "attn_output_gate": True,
    "attention_bias": False,
    "mlp_bias": False,
    "use_sliding_window": False,
    "is_causal": True,
    "mlp_only_layers": [],
    "rope_interleaved": False,
    "num_experts": 0,
    **dict(add_cross_attention=False, is_decoder=False, output_router_logits=False),
    **dict(tie_encoder_decoder=False, use_bidirectional_attention=False),
}
TEXT_PASSED = set(  # of training, of the tokenizer, or of how a program computes
    """
    _name_or_path architectures attention_dropout auto_map bos_token_id chunk_size_feed_forward
    do_sample dtype eos_token_id finetuning_task id2label ignore_index image_token_id initializer_factor
    initializer_range is_encoder_decoder label2id language_model_only mamba_ssm_dtype max_window_layers
    model_name model_type mtp_num_hidden_layers mtp_use_dedicated_embeddings name_or_path
    output_attentions output_hidden_states pad_token_id problem_type pruned_heads return_dict
    sliding_window task_specific_params text_config tf_legacy_loss tie_word_embeddings tokenizer_class
    torch_dtype torchscript transformers_version unsloth_fixed unsloth_version use_bfloat16 use_cache
    use_return_dict video_token_id vision_config vision_end_token_id vision_start_token_id vocab_size
    """.split()
)
ROPE_ONLY = {"mrope_interleaved": True}
VISION_ONLY = {"hidden_act": "gelu_pytorch_tanh", "in_channels": 3}
VISION_ROPE_ONLY = {"rope_theta": 10_000.0, "rope_type": "axial", "partial_rotary_factor": 1.0}
PROCESSOR_ONLY = {  # of the processors of pictures and clips, which hold much that tells nothing
    **dict(do_resize=True, do_rescale=True, do_normalize=True, do_convert_rgb=True, do_center_crop=False),
    **dict(rescale_factor=1 / 255, resample=3, temporal_patch_size=TEMPORAL_PATCH_SIZE, do_pad=False),
    **dict(do_sample_frames=True, fps=2, min_frames=4, max_frames=768, num_frames=None),
}
PROCESSORS = "Qwen2VLImageProcessor", "Qwen3VLVideoProcessor", "Qwen2VLVideoProcessor"  # or Fast, or Pil
GENERATION_ONLY: dict[str, Any] = {  # of generation_config.json: other ways to draw
    **dict(num_beams=1, num_beam_groups=1, typical_p=1.0, penalty_alpha=0, guidance_scale=1.0, top_h=None),
    **dict(no_repeat_ngram_size=0, encoder_no_repeat_ngram_size=0, encoder_repetition_penalty=1.0),
    **dict(
        epsilon_cutoff=0.0,
        eta_cutoff=0.0,
        diversity_penalty=0.0,
        length_penalty=1.0,
        renormalize_logits=False,
    ),
    **dict(
        min_length=0, min_new_tokens=0, forced_bos_token_id=None, forced_eos_token_id=None, sequence_bias=None
    ),
    **dict(suppress_tokens=[], begin_suppress_tokens=[], bad_words_ids=[], stop_strings=[]),
}
BPE_ONLY = {  # of tokenizer.json's model, and of what stands before and behind it
    **dict(dropout=0, continuing_subword_prefix="", end_of_word_suffix="", byte_fallback=False),
    **dict(fuse_unk=False, ignore_merges=False),
}
STEPS = (  # of the pre-tokenizer
    dict(type="Split", behavior="Isolated", invert=False),
    dict(type="ByteLevel", add_prefix_space=False, use_regex=False),
)
ADDED_ONLY = dict(lstrip=False, rstrip=False, single_word=False)
QUANTIZED = {  # quant_method of config.json -> what people call it
    "gptq": "GPTQ",
    "awq": "AWQ",
    "fp8": "FP8",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors (llm-compressor)",
    "modelopt": "NVIDIA ModelOpt",
}
ELSEWHERE = "which is not read: take the checkpoint that it was made of, or a GGUF file"


def check_not_quantized(config: Fields) -> None:
    """Raises QwenRefError for a folder whose weights another tool packed: it says which."""
    for place in config, config.inner("text_config", {}):
        for key in "quantization_config", "quantization":
            about = place.value(key)
            if not about:
                continue
            method = about.get("quant_method") if isinstance(about, dict) else None
            if method is None and isinstance(about, dict) and {"bits", "group_size"} <= about.keys():
                method = "MLX"
            known = QUANTIZED.get(str(method).lower(), str(method))
            raise place.error(key, f"the weights are quantized by {known:.80}, {ELSEWHERE}")


# ---- tensors

VISUAL = "model.visual."  # how the tower's tensors begin

Order = Callable[[], np.ndarray]  # numbers of rows or columns, made when needed: sizes are checked by then


@dataclass(frozen=True)
class Row:
    """A line of the table: which tensor of the checkpoint is which of a GGUF file, and what becomes of it.

    shape    transformers' shape, and GGUF's too unless `gguf_shape` says otherwise
    rows     which rows (of as many numbers as GGUF's last dimension), in which order; None: as they lie
    columns  the same of each row's numbers
    values   is given float64 numbers and returns others
    """

    gguf_name: str
    name: str
    shape: tuple[int, ...]
    values: Callable[[np.ndarray], np.ndarray] | None = None
    rows: Order | None = None
    columns: Order | None = None
    gguf_shape: tuple[int, ...] | None = None


def one_plus(w: np.ndarray) -> np.ndarray:
    """transformers' `Qwen3_5RMSNorm` multiplies by 1 + w."""
    return 1 + w


def decay(A_log: np.ndarray) -> np.ndarray:
    return -np.exp(A_log)


def tiled(c: Config, before: int, size: int) -> Order | None:
    """The order of V heads of `size` rows each, after `before` other rows, as GGUF stores them.

    GGUF's V head v * H_k + k is transformers' k * (H_v / H_k) + v (see model/deltanet.py).
    """
    H_k, H_v = c.linear_num_key_heads, c.linear_num_value_heads

    def order() -> np.ndarray:
        heads = np.arange(H_v * size).reshape(H_k, H_v // H_k, size)
        return np.concatenate([np.arange(before), before + heads.swapaxes(0, 1).ravel()])

    return order if H_k != H_v else None


def text_rows(c: Config, prefix: str) -> Iterator[Row]:
    """The table of a text model, less the embedding and what is tied to it."""
    hidden, inner = c.hidden_size, c.intermediate_size
    q_dim, kv_dim = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    key_dim, value_dim, H_v, V = c.key_dim, c.value_dim, c.linear_num_value_heads, c.linear_value_head_dim
    channels, kernel = c.conv_channels, c.conv_kernel
    heads, wide, after_qk = tiled(c, 0, 1), tiled(c, 0, V), tiled(c, 2 * key_dim, V)

    yield Row("output_norm.weight", prefix + "norm.weight", (hidden,), one_plus)
    for i in range(c.num_layers):
        g, h = f"blk.{i}.", f"{prefix}layers.{i}."
        yield Row(g + "attn_norm.weight", h + "input_layernorm.weight", (hidden,), one_plus)
        yield Row(
            g + "post_attention_norm.weight", h + "post_attention_layernorm.weight", (hidden,), one_plus
        )
        yield Row(g + "ffn_gate.weight", h + "mlp.gate_proj.weight", (inner, hidden))
        yield Row(g + "ffn_up.weight", h + "mlp.up_proj.weight", (inner, hidden))
        yield Row(g + "ffn_down.weight", h + "mlp.down_proj.weight", (hidden, inner))
        if c.is_full_attention(i):
            h += "self_attn."
            yield Row(g + "attn_q.weight", h + "q_proj.weight", (2 * q_dim, hidden))
            yield Row(g + "attn_k.weight", h + "k_proj.weight", (kv_dim, hidden))
            yield Row(g + "attn_v.weight", h + "v_proj.weight", (kv_dim, hidden))
            yield Row(g + "attn_output.weight", h + "o_proj.weight", (hidden, q_dim))
            yield Row(g + "attn_q_norm.weight", h + "q_norm.weight", (c.head_dim,), one_plus)
            yield Row(g + "attn_k_norm.weight", h + "k_norm.weight", (c.head_dim,), one_plus)
        else:
            h += "linear_attn."
            yield Row(g + "attn_qkv.weight", h + "in_proj_qkv.weight", (channels, hidden), rows=after_qk)
            yield Row(g + "attn_gate.weight", h + "in_proj_z.weight", (value_dim, hidden), rows=wide)
            yield Row(g + "ssm_beta.weight", h + "in_proj_b.weight", (H_v, hidden), rows=heads)
            yield Row(g + "ssm_alpha.weight", h + "in_proj_a.weight", (H_v, hidden), rows=heads)
            conv = (channels, 1, kernel)  # GGUF: [channels, kernel]
            yield Row(g + "ssm_conv1d.weight", h + "conv1d.weight", conv, None, after_qk, None, conv[::2])
            yield Row(g + "ssm_a", h + "A_log", (H_v,), decay, columns=heads)
            yield Row(g + "ssm_dt.bias", h + "dt_bias", (H_v,), columns=heads)
            yield Row(g + "ssm_norm.weight", h + "norm.weight", (V,))  # the one norm without 1 +
            yield Row(g + "ssm_out.weight", h + "out_proj.weight", (hidden, value_dim), columns=wide)


def vision_rows(c: VisionConfig, places: int) -> Iterator[Row]:
    """The table of a vision tower."""
    hidden, merged, p = c.hidden_size, c.hidden_size * c.spatial_merge_size**2, c.patch_size

    def layer(gguf_name: str, name: str, *shape: int) -> Iterator[Row]:
        """Weight and bias of a linear layer or a LayerNorm."""
        yield Row(gguf_name + ".weight", f"model.visual.{name}.weight", shape)
        yield Row(gguf_name + ".bias", f"model.visual.{name}.bias", shape[:1])

    for i in range(c.depth):
        g, h = f"v.blk.{i}.", f"blocks.{i}."
        yield from layer(g + "ln1", h + "norm1", hidden)
        yield from layer(g + "attn_qkv", h + "attn.qkv", 3 * hidden, hidden)
        yield from layer(g + "attn_out", h + "attn.proj", hidden, hidden)
        yield from layer(g + "ln2", h + "norm2", hidden)
        yield from layer(g + "ffn_up", h + "mlp.linear_fc1", c.intermediate_size, hidden)
        yield from layer(g + "ffn_down", h + "mlp.linear_fc2", hidden, c.intermediate_size)
    yield from layer("v.post_ln", "merger.norm", hidden)
    yield from layer("mm.0", "merger.linear_fc1", merged, merged)
    yield from layer("mm.2", "merger.linear_fc2", c.out_hidden_size, merged)
    yield Row("v.position_embd.weight", "model.visual.pos_embed.weight", (places, hidden))
    # One kernel over two frames becomes two kernels: [hidden, 3, 2, p, p] -> 2 of [hidden, 3, p, p].
    name, frames = "model.visual.patch_embed.proj", TEMPORAL_PATCH_SIZE

    def rows_of(frame: int) -> np.ndarray:
        numbers = np.arange(hidden * 3 * frames * p).reshape(-1, frames, p)
        return numbers[:, frame].ravel()  # [hidden*3, 2, p] -> [hidden*3*p]

    for frame in range(frames):
        yield Row(
            "v.patch_embd.weight" + (f".{frame}" if frame else ""),
            name + ".weight",
            (hidden, 3, frames, p, p),
            rows=partial(rows_of, frame),
            gguf_shape=(hidden, 3, p, p),
        )
    yield Row("v.patch_embd.bias", name + ".bias", (hidden,))


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor(Tensor):
    """A tensor of a checkpoint with GGUF's name and layout, made of the mapped file when asked for.

    Where values change, `type` is F32 and `data` are rounded, as a GGUF file has them.
    """

    stored_type: QuantType
    stored_bytes: int
    row: Row

    def taken(self, start: int, stop: int | None) -> np.ndarray:
        """Rows start to stop in GGUF's order, uint8 [stop - start, bytes per row], values as they lie."""
        flat = np.frombuffer(self.buffer, np.uint8, self.stored_bytes, self.offset)
        rows = flat.reshape(-1, self.stored_type.row_bytes(self.columns))
        order = self.row.rows
        rows = rows[start:stop] if order is None else rows[order()[start:stop]]
        if self.row.columns is not None:
            numbers = rows.view(f"u{self.stored_type.block_bytes}")  # [n, bytes] -> [n, columns]
            rows = np.ascontiguousarray(numbers[:, self.row.columns()]).view(np.uint8)
        return rows

    @property
    def data(self) -> np.ndarray:
        """As of a GGUF file; not copied where nothing changes."""
        if self.row.values is None:
            data = self.taken(0, None)
        else:
            data = self.dequantize().astype(np.float32).view(np.uint8)
        data.flags.writeable = False  # like a mapped file: kernels are compiled for arrays of one kind
        return data

    def dequantize(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows start to stop as floats [stop - start, columns]: float64 where values change, else float32."""
        numbers = self.stored_type.dequantize(self.taken(start, stop))
        return numbers if self.row.values is None else self.row.values(numbers.astype(np.float64))


# ---- safetensors


@dataclass(frozen=True)
class Stored:
    """A tensor as it lies in a .safetensors file."""

    path: Path
    buffer: mmap.mmap
    type: str
    shape: tuple[int, ...]
    offset: int  # bytes from the file's start
    nbytes: int


def take(stored: dict[str, Stored], table: Iterable[Row], folder: Path) -> dict[str, Tensor]:
    """The tensors of a table under GGUF's names. Raises QwenRefError if one is missing or misshapen."""
    tensors: dict[str, Tensor] = {}
    for row in table:
        found = stored.get(row.name)
        if found is None:
            raise QwenRefError(f"{folder}: {row.name}: the tensor is missing")
        if found.shape != row.shape:
            raise QwenRefError(f"{found.path}: {row.name}: shape {found.shape} should be {row.shape}")
        if found.type not in FLOATS:
            raise QwenRefError(
                f"{found.path}: {row.name}: type {found.type!r:.80} cannot be read, only {', '.join(FLOATS)}"
            )
        kind, shape = FLOATS[found.type], row.gguf_shape or row.shape
        tensors[row.gguf_name] = StoredTensor(
            row.gguf_name, shape, FLOATS["F32"] if row.values else kind, found.offset, found.buffer,
            kind, found.nbytes, row,
        )  # fmt: skip
    return tensors


def refuse_others(stored: dict[str, Stored], table: Iterable[Row], passed: tuple[str, ...] = ()) -> None:
    """Raises QwenRefError for a tensor that no line of the table names, unless it begins as `passed`."""
    for name in sorted(stored.keys() - {row.name for row in table}):
        if not name.startswith(passed) and not name.endswith("rotary_emb.inv_freq"):  # told by config.json
            raise QwenRefError(f"{stored[name].path}: {name}: a tensor that nothing in Qwen3.5 uses")


def read_weights(folder: Path) -> dict[str, Stored]:
    """All tensors of a checkpoint, from one file or from the parts that its index names.

    Raises QwenRefError if a file cannot be read, or is not what the index says.
    """
    # transformers prefers the single file too
    if os.path.isfile(folder / WEIGHTS) or not os.path.isfile(folder / INDEX):
        return read_part(folder / WEIGHTS)
    index = read_fields(folder / INDEX)
    places, parts = index.get("weight_map", dict), {}
    for name, part in places.items():
        if not isinstance(part, str) or Path(part).name != part or not part.isprintable():
            raise index.error("weight_map", f"{part!r:.80} is no name of a file in this folder")
        if part not in parts:
            parts[part] = read_part(folder / part)
        if name not in parts[part]:
            raise QwenRefError(f"{folder / part}: {name!r:.80}: the tensor is not here, as {INDEX} says")
    return {name: parts[part][name] for name, part in places.items()}


def read_part(path: Path) -> dict[str, Stored]:
    """The tensors of one .safetensors file: the length of a JSON header as u64, the header, the numbers.

    The format is https://huggingface.co/docs/safetensors. Nothing in it is trusted. Raises QwenRefError.
    """

    def error(field: str, problem: str) -> QwenRefError:
        return QwenRefError(f"{path}: {field}: {problem}")

    try:
        with open(regular_file(path), "rb") as file:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as problem:  # ValueError: an empty file
        reason = getattr(problem, "strerror", None) or problem
        raise QwenRefError(f"{path}: cannot be opened: {reason}") from None

    end = len(buffer)
    size = struct.unpack_from("<Q", buffer)[0] if end >= 8 else 0
    if not 2 <= size <= min(end - 8, MAX_HEADER_BYTES):
        raise error("header", f"{size} bytes do not fit in a file of {end}, so this is no safetensors file")
    try:
        header = json.loads(buffer[8 : 8 + size])
    except (ValueError, RecursionError) as problem:
        raise error("header", f"is not JSON ({problem})") from None
    if not isinstance(header, dict):
        raise error("header", "is not a JSON object")
    start = 8 + size
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            if isinstance(entry, dict) and entry.get("format") == "mlx":
                raise QwenRefError(f"{path}: was written for MLX, {ELSEWHERE}")
            continue
        if not name.isprintable() or len(name) > MAX_NAME:
            raise error("header", f"{name!r:.80} is no name of a tensor")
        try:
            kind, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            whole = all(type(n) is int and 0 <= n < 1 << 63 for n in (*shape, first, last))
        except (TypeError, KeyError, ValueError):
            whole = False
        if not whole or not isinstance(kind, str) or len(shape) > MAX_DIMS:
            raise error(name, f"{entry!r:.80} has no valid dtype, shape and data_offsets")
        if first > last or start + last > end:
            raise error(name, f"ends at {start + last}, but the file at {end}")
        if kind in FLOATS and last - first != math.prod(shape) * FLOATS[kind].block_bytes:
            raise error(name, f"{last - first} bytes do not hold shape {shape} of {kind}")
        tensors[name] = Stored(path, buffer, kind, shape, start + first, last - first)
    return tensors


# ---- JSON files


class Fields:
    """A JSON object whose values are checked when they are asked for; null is as good as absent.

    Raises QwenRefError, naming file, field and value.
    """

    def __init__(self, path: Path, values: dict[str, Any], place: str = ""):
        self.path, self.place = path, place
        self.values = {key: value for key, value in values.items() if value is not None}
        self.used: set[str] = set()

    def name(self, key: str) -> str:
        return f"{self.path}: {self.place}{key}"

    def error(self, key: str, problem: str) -> QwenRefError:
        return QwenRefError(f"{self.name(key)}: {problem}")

    def value(self, key: str, default: Any = None) -> Any:
        self.used.add(key)
        return self.values.get(key, default)

    def get(self, key: str, kind: type[str] | type[list] | type[dict], default: Any = None) -> Any:
        value = self.value(key, default)
        if value is None:
            raise self.error(key, "is missing")
        if not isinstance(value, kind):
            raise self.error(key, f"{value!r:.80} is not {JSON_NAMES[kind.__name__]}")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        value = self.value(key, default)
        if value is None:
            raise self.error(key, "is missing")
        if type(value) is not int or not 1 <= value <= 1 << 30:
            raise self.error(key, f"{value!r:.80} is not a whole number from 1 to {1 << 30}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.value(key, default)
        if value is None:
            raise self.error(key, "is missing")
        if type(value) not in (int, float) or not 0 < value < 1e30:
            raise self.error(key, f"{value!r:.80} is not a positive number")
        return float(value)

    def inner(self, key: str, default: dict[str, Any] | None = None) -> Fields:
        return Fields(self.path, self.get(key, dict, default), f"{self.place}{key}.")

    def check_rest(self, only: Mapping[str, Any], passed: Container[str] | None = None) -> None:
        """Raises QwenRefError for a field of another value than `only` says, and for one that nobody asked
        for, that is not among `passed`, and says anything. Without `passed` any such field is well.
        """
        for key, value in self.values.items():
            if key in only:
                if value != only[key]:
                    raise self.error(key, f"{value!r:.80} is not supported, only {only[key]!r}")
            elif passed is None or key in self.used or key in passed or key.startswith("_"):
                continue
            elif value not in ("", [], {}):
                raise self.error(key, f"{value!r:.80}: this field is not known, and may change the network")


def read_fields(path: Path, folder: Path | None = None) -> Fields:
    """Raises QwenRefError if the file is no JSON object; `folder` is what was taken for a checkpoint."""
    if folder is not None and not os.path.exists(path):
        raise QwenRefError(f"{folder}: is a directory without {path.name}, so no Hugging Face checkpoint")
    values = read_json(path)
    if not isinstance(values, dict):
        raise QwenRefError(f"{path}: is not a JSON object")
    return Fields(path, values)


def fields_if_there(path: Path) -> Fields:
    return read_fields(path) if os.path.exists(path) else Fields(path, {})


# ---- metadata


class Metadata(Mapping[str, Any]):
    """Values under GGUF's keys; those of the tokenizer are read when the first of them is asked for.

    places   of some keys: the file and the field that the value comes from, for errors
    """

    def __init__(
        self,
        values: dict[str, Any],
        tokenizer: Callable[[], dict[str, Any]] = dict,
        places: Mapping[str, str] | None = None,
    ):
        self._values, self._read, self.places = values, tokenizer, places or {}

    @cached_property
    def _tokenizer(self) -> dict[str, Any]:
        return self._read()

    def __getitem__(self, key: str) -> Any:
        return (self._tokenizer if key.startswith("tokenizer.") else self._values)[key]

    def __iter__(self) -> Iterator[str]:
        yield from self._values
        yield from self._tokenizer

    def __len__(self) -> int:
        return len(self._values) + len(self._tokenizer)


SIZES = {  # of the text model: GGUF's keys, and what transformers calls them
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "ssm.conv_kernel": "linear_conv_kernel_dim",
    "ssm.state_size": "linear_key_head_dim",
    "ssm.group_count": "linear_num_key_heads",
    "ssm.time_step_rank": "linear_num_value_heads",
}


SAMPLING = {  # behind general.sampling.: what the converter takes from generation_config.json
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "temp": "temperature",
    "penalty_repeat": "repetition_penalty",
    "presence_penalty": "presence_penalty",  # these two the converter leaves out
    "frequency_penalty": "frequency_penalty",
}


def text_metadata(text: Fields, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """transformers' `Qwen3_5TextConfig` under GGUF's keys, and where these values stand."""
    count, number = text.count, text.number
    scaled = "rope_parameters" if "rope_parameters" in text.values else "rope_scaling"  # older files
    rope = text.inner(scaled, {})
    head_dim = count("head_dim")
    rotated = rope.number("partial_rotary_factor", number("partial_rotary_factor", 0.25))
    sections = rope.get("mrope_section", list, [11, 11, 10])
    if any(type(n) is not int for n in sections):
        raise rope.error("mrope_section", f"{sections!r:.80} are not whole numbers")
    values = (
        {key: count(field) for key, field in SIZES.items()}
        | {
            "full_attention_interval": full_attention_interval(text),
            "attention.value_length": head_dim,
            "attention.layer_norm_rms_epsilon": number("rms_norm_eps"),
            "rope.freq_base": rope.number("rope_theta", text.value("rope_theta")),
            "rope.dimension_count": int(head_dim * rotated),
            "rope.dimension_sections": sections,
            "ssm.inner_size": count("linear_num_value_heads") * count("linear_value_head_dim"),
        }
        | rope_scaling(rope, text)
    )
    rope.check_rest(ROPE_ONLY, ())
    places = {key: text.name(field) for key, field in SIZES.items()} | {
        "attention.layer_norm_rms_epsilon": text.name("rms_norm_eps"),
        "rope.freq_base": rope.name("rope_theta"),
        "rope.dimension_count": rope.name("partial_rotary_factor"),
        "rope.dimension_sections": rope.name("mrope_section"),
        "ssm.inner_size": text.name("linear_value_head_dim"),
    }
    places = {f"{ARCHITECTURE}.{key}": place for key, place in places.items()}
    named = {f"{ARCHITECTURE}.{key}": value for key, value in values.items()}
    about = {"general.architecture": ARCHITECTURE, "general.name": folder.resolve().name}
    advice = fields_if_there(folder / "generation_config.json")
    advice.check_rest(GENERATION_ONLY)
    for key, field in SAMPLING.items():
        if (value := advice.value(field)) is not None:
            named[f"general.sampling.{key}"] = value
            places[f"general.sampling.{key}"] = advice.name(field)
    if advice.value("do_sample") is False:
        named["general.sampling.temp"] = 0.0
    return about | named, places


def full_attention_interval(text: Fields) -> int:
    """From the list of all layers' types that newer transformers write, or as older files say it."""
    said = text.count("full_attention_interval", 4)
    if "layer_types" not in text.values:
        return said
    types, layers = text.get("layer_types", list), text.count("num_hidden_layers")
    interval = interval_of([kind == "full_attention" for kind in types])
    if len(types) != layers or interval is None or not {*map(str, types)} <= LAYER_TYPES:
        raise text.error(
            "layer_types", f"are not {layers} layers of which every so many is one of full attention"
        )
    if interval != said and "full_attention_interval" in text.values:
        raise text.error("full_attention_interval", f"{said} contradicts layer_types, where it is {interval}")
    return interval


def rope_scaling(rope: Fields, text: Fields) -> dict[str, Any]:
    kind = rope.get("rope_type", str, rope.value("type", "default"))
    if kind in ("default", "mrope"):
        return {}
    if kind != "yarn":
        raise rope.error("rope_type", f"RoPE scaling {kind!r:.80} is not supported")
    for key, usual in ("mscale", None), ("mscale_all_dim", None), ("truncate", True):
        if (value := rope.value(key, usual)) != usual:
            raise rope.error(key, f"{value!r:.80} is not supported: a GGUF file cannot say it")
    trained = text.value("original_max_position_embeddings", text.count("max_position_embeddings"))
    values: dict[str, Any] = {
        "type": "yarn",
        "factor": rope.number("factor"),
        "original_context_length": rope.count("original_max_position_embeddings", trained),
    }
    for key, name in (
        ("yarn_attn_factor", "attention_factor"),
        ("yarn_beta_fast", "beta_fast"),
        ("yarn_beta_slow", "beta_slow"),
    ):
        if name in rope.values:
            values[key] = rope.number(name)
    return {f"rope.scaling.{key}": value for key, value in values.items()}


def vision_metadata(vision: Fields, folder: Path) -> dict[str, Any]:
    """transformers' `Qwen3_5VisionConfig`, and colours of the image processor, under GGUF's keys."""
    if (frames := vision.count("temporal_patch_size", TEMPORAL_PATCH_SIZE)) != TEMPORAL_PATCH_SIZE:
        raise vision.error("temporal_patch_size", f"{frames} is not {TEMPORAL_PATCH_SIZE}")
    colours = processor(folder, "preprocessor_config.json", "image_processor")
    clips = processor(folder, "video_preprocessor_config.json", "video_processor")
    for fields in colours, clips:
        for ours, theirs in ("patch_size", "patch_size"), ("merge_size", "spatial_merge_size"):
            if fields.value(ours, size := vision.count(theirs)) != size:
                raise fields.error(ours, f"{fields.value(ours)!r:.80} is not {size}, the tower's {theirs}")
        fields.check_rest(PROCESSOR_ONLY)
        for key in "image_processor_type", "video_processor_type":
            if not str(kind := fields.value(key, PROCESSORS[0])).startswith(PROCESSORS):
                raise fields.error(key, f"{kind!r:.80} is not Qwen3.5's")
    for key in "image_mean", "image_std":
        if (value := clips.value(key, colours.value(key))) != colours.value(key):
            raise clips.error(key, f"{value!r:.80} is not that of pictures")
    values: dict[str, Any] = {
        "block_count": vision.count("depth"),
        "embedding_length": vision.count("hidden_size"),
        "feed_forward_length": vision.count("intermediate_size"),
        "attention.head_count": vision.count("num_heads"),
        "attention.layer_norm_epsilon": LAYER_NORM_EPS,
        "projection_dim": vision.count("out_hidden_size"),
        "patch_size": vision.count("patch_size"),
        "spatial_merge_size": vision.count("spatial_merge_size"),
        "is_deepstack_layers": [True for _ in vision.get("deepstack_visual_indexes", list, [])],
    }
    for key in "image_mean", "image_std":
        values[key] = colours.get(key, list)
        if any(type(n) not in (int, float) or not 0 <= n < 256 for n in values[key]):
            raise colours.error(key, f"{values[key]!r:.80} are not numbers from 0 to 255")
    values |= pixel_limits(colours, "image") | pixel_limits(clips, "video")
    vision.inner("rope_parameters", {}).check_rest(VISION_ROPE_ONLY, ())
    named = {f"{VISION}.{key}": value for key, value in values.items()}
    return {"general.architecture": "clip", "clip.projector_type": PROJECTOR} | named


def processor(folder: Path, name: str, inner: str) -> Fields:
    """Settings of the processor of pictures or clips: a file of their own, or a part of a newer one."""
    newer = fields_if_there(folder / "processor_config.json").inner(inner, {})
    return newer if newer.values else fields_if_there(folder / name)


def pixel_limits(fields: Fields, kind: str) -> dict[str, int]:
    """Fewest and most pixels of a picture or clip, as newer or older files name them."""
    size = fields.inner("size", {})
    edges = {"min": "shortest_edge", "max": "longest_edge"}
    if size.values and size.values.keys() != {*edges.values()}:
        raise fields.error("size", f"{size.values!r:.80} is not a shortest_edge and a longest_edge")
    limits = {}
    for which, edge in edges.items():
        key = f"{which}_pixels"  # goes before the size, as in transformers
        place, key = (fields, key) if key in fields.values else (size, edge)
        if key in place.values:
            limits[f"{kind}_{which}_pixels"] = place.count(key)
    return limits


# ---- tokenizer


def read_tokenizer(folder: Path, config: Fields, vocab_size: int) -> dict[str, Any]:
    """tokenizer.json and the chat template under GGUF's keys; ids without a token are padding.

    The file says which added tokens are control tokens. (The converter adds <|fim_prefix|> and its like.)

    vocab_size    is that of the embedding, which lies in the folder in full
    Raises QwenRefError if the tokenizer is not byte-level BPE with a pre-tokenizer that is known here.
    """
    file = read_fields(folder / "tokenizer.json")
    model = file.inner("model")
    if (kind := model.get("type", str)) != "BPE":
        raise model.error("type", f"{kind!r:.80} is not 'BPE'")
    model.check_rest(BPE_ONLY)
    normal = file.get("normalizer", dict)
    if steps_of(normal, "normalizers") != [{"type": "NFC"}]:
        raise file.error("normalizer.type", f"{normal.get('type')!r:.80} is not Qwen3.5's ('NFC')")
    tokens, types = [f"[PAD{i}]" for i in range(vocab_size)], np.full(vocab_size, UNUSED, np.int32)

    def add(field: str, token: Any, token_id: Any, kind: int) -> None:
        if not isinstance(token, str) or type(token_id) is not int or not 0 <= token_id < vocab_size:
            problem = f"id {token_id!r:.80} of {token!r:.80} is not in 0 to {vocab_size - 1}"
            raise file.error(field, problem)
        tokens[token_id], types[token_id] = token, kind

    for token, token_id in model.get("vocab", dict).items():
        add("model.vocab", token, token_id, NORMAL)
    ids: dict[Any, Any] = {}
    for i, entry in enumerate(file.get("added_tokens", list, [])):
        if not isinstance(entry, dict):
            raise file.error(f"added_tokens[{i}]", f"{entry!r:.80} is not an object")
        token, token_id = entry.get("content"), entry.get("id")
        Fields(file.path, entry, f"added_tokens[{i}].").check_rest(ADDED_ONLY)
        add(f"added_tokens[{i}]", token, token_id, CONTROL if entry.get("special") else USER_DEFINED)
        ids[token] = token_id
    try:
        merges = [m if isinstance(m, str) else " ".join(m) for m in model.get("merges", list)]
        "".join([*tokens, *merges]).encode()
    except TypeError:
        raise model.error("merges", "are not pairs of tokens") from None
    except UnicodeEncodeError:
        raise model.error("vocab", "holds half a surrogate pair, which no UTF-8 text can") from None
    about = fields_if_there(folder / "tokenizer_config.json")
    values: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre_tokenizer(file),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
    }
    if (end := end_of_sequence(folder, config, about, ids)) is not None:
        values["tokenizer.ggml.eos_token_id"] = end
    ends = fields_if_there(folder / "generation_config.json").value("eos_token_id")
    if isinstance(ends, list):
        values["tokenizer.ggml.eos_token_ids"] = ends
    for key, name in ("bos", "bos_token"), ("padding", "pad_token"), ("unknown", "unk_token"):
        if (token_id := ids.get(token_named(about, name))) is not None:
            values[f"tokenizer.ggml.{key}_token_id"] = token_id
    for key in "add_bos_token", "add_eos_token":
        if key in about.values:
            values[f"tokenizer.ggml.{key}"] = about.values[key]
    for name, template in chat_templates(folder, about).items():
        values["tokenizer.chat_template" + ("" if name == "default" else f".{name}")] = template
    return values


def token_named(about: Fields, name: str) -> str | None:
    """The text of a token that tokenizer_config.json names, as older or newer files do."""
    named = about.values.get(name)
    named = named.get("content") if isinstance(named, dict) else named
    return named if isinstance(named, str) else None


def steps_of(whole: dict[str, Any], inner: str) -> list[Any]:
    """What a part of tokenizer.json does, one after another."""
    return whole.get(inner, []) if whole.get("type") == "Sequence" else [whole]


def pre_tokenizer(file: Fields) -> str:
    """GGUF's name of the pattern that text is cut by, before each byte becomes a letter."""
    behind = file.value("post_processor", {"type": "ByteLevel"})  # ByteLevel there changes no token
    if not isinstance(behind, dict) or behind.get("type") != "ByteLevel":
        raise file.error("post_processor", f"{behind!r:.80} is not Qwen3.5's, which adds no token")
    steps = [
        step for step in steps_of(file.get("pre_tokenizer", dict), "pretokenizers") if isinstance(step, dict)
    ]
    patterns = [step["pattern"] for step in steps if "pattern" in step]
    for i, known in enumerate(STEPS[: len(steps)]):
        Fields(file.path, steps[i], f"pre_tokenizer.{i}.").check_rest(known)
    for name, pattern in PRE_TOKENIZERS.items():
        if patterns == [{"Regex": pattern}] and len(steps) == len(STEPS):
            return name
    raise file.error("pre_tokenizer", f"it cuts text by {patterns!r:.200}, which is not Qwen3.5's pattern")


def end_of_sequence(folder: Path, config: Fields, about: Fields, ids: dict[str, int]) -> int | None:
    """The end token, from the first file that names one: where the converter looks, in its order."""
    if (named := token_named(about, "eos_token")) in ids:
        return ids[str(named)]
    text = config.values.get("text_config")
    for source in config.values, text, fields_if_there(folder / "generation_config.json").values:
        found = source.get("eos_token_id") if isinstance(source, dict) else None
        found = found[0] if isinstance(found, list) and found else found
        if type(found) is int:
            return found
    return None


def chat_templates(folder: Path, about: Fields) -> dict[str, str]:
    """Templates by name, the usual one "default", where transformers looks for them: in files of their own,
    or in tokenizer_config.json. Raises QwenRefError for a value that is none.
    """
    path, more = folder / "chat_template.jinja", folder / "additional_chat_templates"
    found: Any = None
    if os.path.exists(path):
        others = sorted(more.glob("*.jinja")) if more.is_dir() else []
        return {"default": read_text(path)} | {other.stem: read_text(other) for other in others}
    for source in fields_if_there(folder / "chat_template.json"), about:
        found = source.values.get("chat_template")
        if isinstance(found, list):  # several, by name
            found = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
        if isinstance(found, dict) and found and all(isinstance(t, str) for kv in found.items() for t in kv):
            return found
        if isinstance(found, str):
            return {"default": found}
        if found is not None:
            raise source.error(
                "chat_template", f"{found!r:.80} is neither a template nor a list of them by name"
            )
    return {}
