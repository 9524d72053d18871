"""config.json and its like, under GGUF's keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from qwen_ref.checkpoint.fields import Fields, fields_if_there
from qwen_ref.checkpoint.known import GENERATION_ONLY, PROCESSOR_ONLY, PROCESSORS, ROPE_ONLY, VISION_ROPE_ONLY
from qwen_ref.config import ARCHITECTURE, PROJECTOR, TEMPORAL_PATCH_SIZE, VISION, interval_of

LAYER_TYPES = {"linear_attention", "full_attention"}
LAYER_NORM_EPS = 1e-6  # of the vision tower: transformers' code has it, no config.json


class Metadata(Mapping[str, Any]):
    """Values under GGUF's keys; those of the tokenizer are read when the first of them is asked for, and
    stand in no list of keys: a folder may have weights and no tokenizer.

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

    def __len__(self) -> int:
        return len(self._values)


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
