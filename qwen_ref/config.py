"""Hyper-parameters of a Qwen3.5 text model and of its vision tower, from GGUF metadata.

Names are those of transformers' `Qwen3_5TextConfig`; the metadata keys are llama.cpp's for `qwen35`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

import numpy as np

from gguf_io import GGUFFile
from qwen_ref.errors import QwenRefError

ARCHITECTURE = "qwen35"
FLOAT32 = np.finfo(np.float32)
COUNT = 1 << 24  # no size is larger …
CONTEXTS = ("context_length", "original_max_position_embeddings")  # … but these, which no array has


@dataclass(frozen=True)
class Yarn:
    """How RoPE reaches beyond the context it was trained for (YaRN, https://arxiv.org/abs/2309.00071)."""

    factor: float  # of the longer context to the trained one
    original_max_position_embeddings: int  # the trained one
    beta_fast: float  # frequencies with more turns than this in the trained context are kept …
    beta_slow: float  # … those with fewer than this are divided by factor, those between by something between
    attention_factor: float  # cos and sin, and so queries and keys, are multiplied by it


@dataclass(frozen=True)
class Config:
    name: str
    context_length: int
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int  # without MTP layers
    num_mtp_layers: int  # multi-token-prediction layers behind them: model/mtp.py
    full_attention_interval: int  # every so many layers one is full attention, the others Gated DeltaNet
    rms_norm_eps: float
    # full attention
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rope_theta: float
    rotary_dim: int  # RoPE turns the first rotary_dim of head_dim dimensions
    mrope_section: tuple[int, int, int]  # frequencies that take the time, the row and the column
    yarn: Yarn | None  # None: RoPE is not scaled
    # Gated DeltaNet
    linear_num_key_heads: int
    linear_num_value_heads: int
    linear_key_head_dim: int
    linear_value_head_dim: int
    conv_kernel: int

    def is_full_attention(self, layer: int) -> bool:
        return (layer + 1) % self.full_attention_interval == 0

    @property
    def key_dim(self) -> int:
        return self.linear_num_key_heads * self.linear_key_head_dim

    @property
    def value_dim(self) -> int:
        return self.linear_num_value_heads * self.linear_value_head_dim

    @property
    def conv_channels(self) -> int:
        return 2 * self.key_dim + self.value_dim


def wrong_type(c: Config) -> tuple[str, str] | None:
    """The first field whose value is of no type or size that it may have, and a sentence; None if all are."""
    for place, values in ("", c), ("yarn.", c.yarn):
        for field in fields(values) if values else ():
            value = getattr(values, field.name)
            if field.type == "int":
                low = 0 if field.name == "num_mtp_layers" else 1
                high = 1 << 30 if field.name in CONTEXTS else COUNT
                if type(value) is not int or not low <= value <= high:
                    return place + field.name, f"{value!r:.80} is not a whole number from {low} to {high}"
            if field.type == "str" and not isinstance(value, str):
                return place + field.name, f"{value!r:.80} is not text"
            if field.type == "float" and (type(value) not in (int, float) or not is_float32(value)):
                return place + field.name, f"{value!r:.80} is not a positive number of float32"
    if len(c.mrope_section) != 3 or not all(type(n) is int and 0 <= n <= COUNT for n in c.mrope_section):
        return "mrope_section", f"{c.mrope_section!r:.80} are not three whole numbers"
    return None


def is_float32(value: float) -> bool:
    return bool(FLOAT32.tiny <= value <= FLOAT32.max)


def contradiction(c: Config) -> tuple[str, str] | None:
    """The first field whose value does not fit those of others, and a sentence; None if all fit."""
    heads, sections = c.num_attention_heads, c.mrope_section
    if heads % c.num_key_value_heads:
        return "num_key_value_heads", f"{c.num_key_value_heads} does not divide {heads} heads"
    if c.rotary_dim > c.head_dim or c.rotary_dim % 2:
        return "rotary_dim", f"{c.rotary_dim} is odd or more than {c.head_dim}"
    if min(sections) < 0 or sum(sections) != c.rotary_dim // 2:
        return "mrope_section", f"{list(sections)} do not add up to {c.rotary_dim // 2}"
    if c.linear_num_value_heads % c.linear_num_key_heads:
        problem = f"{c.linear_num_value_heads} value heads do not fit {c.linear_num_key_heads} key heads"
        return "linear_num_value_heads", problem
    if c.yarn and c.rope_theta <= 1:
        return "rope_theta", f"{c.rope_theta} is too small for YaRN, which needs over 1"
    return None


KEYS = {  # of the fields that may contradict others: the metadata keys behind `qwen35.`
    "num_key_value_heads": "attention.head_count_kv",
    "rotary_dim": "rope.dimension_count",
    "mrope_section": "rope.dimension_sections",
    "linear_num_value_heads": "ssm.time_step_rank",
    "rope_theta": "rope.freq_base",
}


class Reader:
    """Checked values of metadata keys `prefix.…`. Raises QwenRefError, naming file, key and value."""

    def __init__(self, file: GGUFFile, prefix: str):
        self.file, self.prefix = file, prefix
        self.used: set[str] = set()

    def error(self, key: str, problem: str) -> QwenRefError:
        """A checkpoint's metadata say which field of a config.json a value comes from."""
        places = getattr(self.file.metadata, "places", {})
        problem = " ".join(problem.split())  # an array's repr may have many lines
        return QwenRefError(f"{places.get(key, f'{self.file.path}: {key}')}: {problem}")

    def get(self, key: str, default: Any = None) -> Any:
        self.used.add(key)
        value = self.file.metadata.get(f"{self.prefix}.{key}", default)
        if value is None:
            raise self.error(f"{self.prefix}.{key}", "the metadata key is missing")
        return value

    def count(self, key: str, default: int | None = None, low: int = 1, high: int = COUNT) -> int:
        return self.checked_count(key, self.get(key, default), low, high)

    def checked_count(self, key: str, value: Any, low: int = 1, high: int = COUNT) -> int:
        if not isinstance(value, int) or not low <= value <= high:
            raise self.error(f"{self.prefix}.{key}", f"{value!r} is not a whole number from {low} to {high}")
        return value

    def count_of_layers(self, key: str, layers: Sequence[int]) -> int:
        """A number, or a list with one for each block of which those of `layers` count and are the same."""
        value = self.get(key)
        if not isinstance(value, (list, np.ndarray)):
            return self.checked_count(key, value)
        given = value.tolist() if isinstance(value, np.ndarray) else value
        if not layers or len(given) <= layers[-1]:
            raise self.error(f"{self.prefix}.{key}", f"{len(given)} values are not one for each block")
        values = [given[i] for i in layers]
        if values != values[:1] * len(values):
            raise self.error(f"{self.prefix}.{key}", f"layers of different sizes ({given!r:.80})")
        return self.checked_count(key, values[0])

    def numbers(self, key: str, kind: type) -> list[Any]:
        values = self.get(key)
        if not isinstance(values, (list, np.ndarray)) or not all(isinstance(n, kind) for n in values):
            what = "whole numbers" if kind is Integral else "numbers"
            raise self.error(f"{self.prefix}.{key}", f"{values!r:.80} is no list of {what}")
        return list(values)

    def check_rest(self, only: Mapping[str, Any], passed: Sequence[str]) -> None:
        """Raises QwenRefError for a key that nobody asked for, unless it begins like one of `passed`, which
        change nothing, or has the one value that `only` says.
        """
        for key in self.file.metadata:
            name = key.removeprefix(self.prefix + ".")
            if name == key or name in self.used or name.startswith(tuple(passed)):
                continue
            value = self.file.metadata[key]
            if name not in only:
                raise self.error(key, f"{value!r:.80}: this key is not known, and may change the network")
            if not np.array_equal(value, only[name]):
                raise self.error(key, f"{value!r:.80} is not supported, only {only[name]!r}")

    def number(self, key: str, default: float | None = None) -> float:
        if default is not None and f"{self.prefix}.{key}" not in self.file.metadata:
            return default
        value = self.get(key)
        if not isinstance(value, (int, float)) or not is_float32(value):
            raise self.error(f"{self.prefix}.{key}", f"{value!r} is not a positive number of float32")
        # A GGUF file holds the nearest float32 (9.99999997e-07); its shortest decimal is what was meant
        # (1e-06). What is no float32 comes from a checkpoint's JSON, and is meant as it stands.
        nearest = np.float32(value)
        return float(str(nearest)) if float(nearest) == value else float(value)


def read_yarn(read: Reader) -> Yarn | None:
    """How RoPE is scaled, as transformers' `_compute_yarn_parameters` takes it.

    llama.cpp's converter drops mscale, mscale_all_dim and truncate, so they have transformers' defaults here.
    yarn_ext_factor means nothing to either engine. llama.cpp (11434) reads neither the betas nor
    yarn_attn_factor of a qwen35 file, and always computes with the defaults that stand here.
    Raises QwenRefError if the scaling is of another type, or a value makes no sense.
    """
    kind = read.get("rope.scaling.type", "none")
    if kind == "none":
        if f"{read.prefix}.rope.scaling.type" in read.file.metadata:
            read.used |= {f"rope.scaling.{key}" for key in ("factor", "original_context_length")}
        return None
    if kind != "yarn":
        raise read.error(f"{read.prefix}.rope.scaling.type", f"RoPE scaling {kind!r} is not supported")
    factor = read.number("rope.scaling.factor")
    trained = read.count("context_length", high=1 << 30)
    return Yarn(
        factor,
        read.count("rope.scaling.original_context_length", trained, high=1 << 30),
        read.number("rope.scaling.yarn_beta_fast", 32),
        read.number("rope.scaling.yarn_beta_slow", 1),
        read.number("rope.scaling.yarn_attn_factor", 0.1 * math.log(max(factor, 1)) + 1),
    )


ONLY = {  # qwen35.…: keys whose other values would make another network …
    "rope.mrope_interleaved": True,
    "expert_count": 0,
    "expert_used_count": 0,
    "attention.causal": True,
    "attention.sliding_window": 0,
    "logit_scale": 1.0,
}
PASSED = (  # … and keys that say what the tensors or the tokenizer say, or tell nothing of the network
    "rope.scaling.finetuned",
    "rope.scaling.yarn_ext_factor",
    "ssm.v_head_reordered",  # see check_head_order
    "image_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
    "vision.",  # of a tower in the same file: see vision_file.py
)
BY_OLLAMA = ("vision.block_count", "image_token_id", "rope.mrope_interleaved")  # keys that only it writes


def blocks_of(file: GGUFFile) -> tuple[list[int], list[int]]:
    """Numbers of the ordinary blocks in a file, and of its MTP layers: those that hold `nextn.*`."""
    parts = [found for name in file.tensors if (found := re.match(r"blk\.(\d{1,9})\.(nextn\.)?", name))]
    mtp = {int(found[1]) for found in parts if found[2]}
    return sorted({int(found[1]) for found in parts} - mtp), sorted(mtp)


def count_layers(read: Reader) -> tuple[int, int]:
    """How many ordinary layers and MTP layers the file has, as its tensors show; its counts count where they
    show nothing. Raises QwenRefError if there is no ordinary layer, or one behind an MTP layer.
    """
    blocks, said = read.count("block_count", high=4096), read.count("nextn_predict_layers", 0, low=0)
    ordinary, mtp = blocks_of(read.file)
    if mtp:
        if not ordinary:
            raise read.error(f"blk.{mtp[0]}", "the file holds only the MTP layer; give the model's own file")
        if ordinary[-1] > mtp[0]:
            raise read.error(f"blk.{ordinary[-1]}", f"an ordinary layer behind the MTP layer blk.{mtp[0]}")
        return mtp[0], len(mtp)
    left_out = not ordinary or ordinary[-1] < blocks - said
    layers = blocks - said if left_out else blocks
    if layers < 1:
        raise read.error(f"{read.prefix}.nextn_predict_layers", f"{said} leaves no ordinary layer")
    return layers, 0


def interval_of(full_attention: Sequence[bool]) -> int | None:
    """Every how many layers one is of full attention; None if they do not come so."""
    layers = len(full_attention)
    interval = next((i + 1 for i, full in enumerate(full_attention) if full), layers + 1)
    regular = all(bool(full) == ((i + 1) % interval == 0) for i, full in enumerate(full_attention))
    return interval if regular else None


def full_attention_interval(read: Reader, layers: int) -> int:
    """Said by the key of this name, or by a list of the recurrent layers; as in llama.cpp, else 4."""
    key = "attention.recurrent_layers"
    read.used.add(key)
    said = read.count("full_attention_interval", 4)
    recurrent = read.file.metadata.get(f"{read.prefix}.{key}")
    if recurrent is None:
        return said
    if not isinstance(recurrent, (list, np.ndarray)) or len(recurrent) < layers:
        raise read.error(f"{read.prefix}.{key}", f"{recurrent!r:.80} is not one truth value for each block")
    interval = interval_of([not r for r in recurrent[:layers]])
    if interval is None:
        raise read.error(f"{read.prefix}.{key}", "layers of full attention that do not come every so many")
    if interval != said and f"{read.prefix}.full_attention_interval" in read.file.metadata:
        raise read.error(
            f"{read.prefix}.full_attention_interval", f"{said} contradicts {key}, where it is {interval}"
        )
    return interval


def check_head_order(read: Reader, key_heads: int, value_heads: int) -> None:
    """Raises QwenRefError where V heads may lie in transformers' order: Ollama stored some models so."""
    file, key = read.file, f"{read.prefix}.ssm.v_head_reordered"
    by_ollama = any(f"{read.prefix}.{name}" in file.metadata for name in BY_OLLAMA) or any(
        name.startswith("mtp.") or name.endswith(".ssm_dt") for name in file.tensors
    )
    if key_heads != value_heads and file.metadata.get(key, not by_ollama) is not True:
        raise read.error(
            key,
            "stored by Ollama: that its V heads lie in the order of llama.cpp's converter is not said; "
            "take a GGUF file of that converter's (from Hugging Face, say)",
        )


def read_config(file: GGUFFile) -> Config:
    """The configuration in a file's metadata.

    Raises QwenRefError if the architecture is another one, a key is missing or not known, or a value makes no
    sense.
    """

    read = Reader(file, ARCHITECTURE)
    error, count, number = read.error, read.count, read.number
    architecture = file.metadata.get("general.architecture")
    if architecture != ARCHITECTURE:
        kind = "a vision file (mmproj)" if architecture == "clip" else f"architecture {architecture!r}"
        raise error("general.architecture", f"this is {kind}, not a Qwen3.5 text model ({ARCHITECTURE!r})")

    head_dim = count("attention.key_length")
    if (value_length := count("attention.value_length")) != head_dim:
        raise error(
            f"{ARCHITECTURE}.attention.value_length", f"{value_length} differs from key_length {head_dim}"
        )
    sections = [int(n) for n in read.numbers("rope.dimension_sections", Integral)]
    if len(sections) not in (3, 4) or any(sections[3:]):
        raise error(f"{ARCHITECTURE}.rope.dimension_sections", f"{sections} are not three numbers")
    value_heads, value_dim = count("ssm.time_step_rank"), count("ssm.inner_size")
    if value_dim % value_heads:
        raise error(
            f"{ARCHITECTURE}.ssm.time_step_rank",
            f"{value_heads} value heads do not fit an inner size of {value_dim}",
        )
    for key in "mrope_sections", "rope.mrope_section":  # as Ollama writes them once more
        if list(read.get(key, sections))[:3] != sections[:3]:
            raise error(f"{ARCHITECTURE}.{key}", f"contradicts rope.dimension_sections, {sections}")
    layers, mtp = count_layers(read)
    interval = full_attention_interval(read, layers)
    attention = range(interval - 1, layers, interval)
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise error("token_embd.weight", "the tensor is missing")
    if (vocab_size := count("vocab_size", embedding.shape[0])) > embedding.shape[0]:
        problem = f"{vocab_size} tokens, but token_embd.weight has {embedding.shape[0]} rows"
        raise error(f"{ARCHITECTURE}.vocab_size", problem)
    if (kind := file.metadata.get("general.type", "model")) != "model":
        raise error("general.type", f"this is no model but {kind!r:.80}")
    config = Config(
        name=str(file.metadata.get("general.name", file.path.stem)),
        context_length=count("context_length", high=1 << 30),
        vocab_size=embedding.shape[0],
        hidden_size=count("embedding_length"),
        intermediate_size=read.count_of_layers("feed_forward_length", range(layers)),
        num_layers=layers,
        num_mtp_layers=mtp,
        full_attention_interval=interval,
        rms_norm_eps=number("attention.layer_norm_rms_epsilon"),
        num_attention_heads=read.count_of_layers("attention.head_count", attention),
        num_key_value_heads=read.count_of_layers("attention.head_count_kv", attention),
        head_dim=head_dim,
        rope_theta=number("rope.freq_base"),
        rotary_dim=count("rope.dimension_count"),
        mrope_section=(sections[0], sections[1], sections[2]),
        yarn=read_yarn(read),
        linear_num_key_heads=count("ssm.group_count"),
        linear_num_value_heads=value_heads,
        linear_key_head_dim=count("ssm.state_size"),
        linear_value_head_dim=value_dim // value_heads,
        conv_kernel=count("ssm.conv_kernel", low=2, high=64),
    )
    if wrong := contradiction(config):
        raise error(f"{ARCHITECTURE}.{KEYS[wrong[0]]}", wrong[1])
    check_head_order(read, config.linear_num_key_heads, value_heads)
    read.check_rest(ONLY, PASSED)
    return config


@dataclass(frozen=True)
class VisionConfig:
    """Of a vision file (mmproj); names are those of transformers' `Qwen3_5VisionConfig`."""

    depth: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    out_hidden_size: int  # the text model's hidden_size
    patch_size: int  # pixels
    spatial_merge_size: int  # patches of a token, each way
    layer_norm_eps: float
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    image_pixels: tuple[int, int]  # fewest and most of an image, and …
    video_pixels: tuple[int, int]  # … of all frames of a video together, after resizing

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads


VISION = "clip.vision"
PROJECTOR = "qwen3vl_merger"
TEMPORAL_PATCH_SIZE = 2  # frames in a patch: the file has one kernel for each
# Qwen's, where no file says others: fewest and most pixels of an image, and of all frames of a video.
IMAGE_PIXELS, VIDEO_PIXELS = (65_536, 16_777_216), (4_096, 25_165_824)
VISION_ONLY = {  # as ONLY, for clip.vision.…
    "num_channels": 3,
    "temporal_patch_size": TEMPORAL_PATCH_SIZE,
    "rope.freq_base": 10_000.0,
}
VISION_PASSED = ("image_size", "projector_type")  # the position embedding's shape says the first
CLIP_ONLY = {"has_vision_encoder": True, "has_audio_encoder": False, "use_gelu": True, "use_silu": False}
OFFICIAL_SIZES = {1024: "0.8B", 2048: "2B", 2560: "4B", 4096: "9B"}  # hidden_size -> model


def read_vision_config(file: GGUFFile) -> VisionConfig:
    """The configuration in a vision file's metadata. Raises QwenRefError as `read_config` does."""
    read = Reader(file, VISION)
    architecture = file.metadata.get("general.architecture")
    if architecture != "clip":
        raise read.error(
            "general.architecture",
            f"this is architecture {architecture!r}, not a vision file (mmproj, 'clip')",
        )
    Reader(file, "clip").check_rest(CLIP_ONLY, ("vision.", "projector_type"))
    projector = file.metadata.get("clip.projector_type", file.metadata.get("clip.vision.projector_type"))
    if projector != PROJECTOR:
        raise read.error("clip.projector_type", f"{projector!r} is not Qwen3.5's ({PROJECTOR!r})")
    if np.any(read.get("is_deepstack_layers", ())):
        raise read.error(f"{VISION}.is_deepstack_layers", "is set, so this is Qwen3-VL, not Qwen3.5")
    hidden, heads = read.count("embedding_length"), read.count("attention.head_count")
    if hidden % heads or hidden // heads % 4:
        raise read.error(f"{VISION}.attention.head_count", f"{heads} heads do not fit a width of {hidden}")

    def colours(key: str) -> tuple[float, ...]:
        values = tuple(float(v) for v in read.numbers(key, Real))
        if len(values) != 3 or not all(0 <= v < 256 for v in values):
            raise read.error(f"{VISION}.{key}", f"{values} are not three numbers")
        return values

    std = colours("image_std")
    if min(std) <= 0:
        raise read.error(f"{VISION}.image_std", f"{std} are not positive")

    def pixels(usual: tuple[int, int], lowest: str, highest: str) -> tuple[int, int]:
        low, high = (read.count(key, n, high=1 << 30) for key, n in zip((lowest, highest), usual))
        if low > high:
            raise read.error(f"{VISION}.{highest}", f"{high} is less than {lowest}, {low}")
        return low, high

    config = VisionConfig(
        depth=read.count("block_count", high=4096),
        hidden_size=hidden,
        intermediate_size=read.count("feed_forward_length"),
        num_heads=heads,
        out_hidden_size=read.count("projection_dim"),
        patch_size=read.count("patch_size", high=1024),
        spatial_merge_size=read.count("spatial_merge_size", high=16),
        layer_norm_eps=read.number("attention.layer_norm_epsilon"),
        image_mean=colours("image_mean"),
        image_std=std,
        image_pixels=pixels(IMAGE_PIXELS, "image_min_pixels", "image_max_pixels"),
        video_pixels=pixels(VIDEO_PIXELS, "video_min_pixels", "video_max_pixels"),
    )
    read.check_rest(VISION_ONLY, VISION_PASSED)
    return config
