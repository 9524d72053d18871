"""A Hugging Face checkpoint folder, shown as the GGUF file that llama.cpp's converter would make of it.

All that reads models here knows GGUF's names and layout; `open_model` gives them these, of either. Names,
layout and values follow the converter (`conversion/qwen.py` and `qwen3vl.py` in llama.cpp), with one
difference: 1 + w and -exp(A_log) are not rounded to float32. The weights stay in the mapped file until they
are asked for. Whatever else a folder holds is refused by name: a tensor that no table names (but those of MTP
layers, which the model itself does without: if one of them is not known, all are left out), and a field of
config.json that is not known here, or has another value than the one that is computed with.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from gguf_io import GGUFFile, open_gguf
from qwen_ref.checkpoint.fields import read_fields
from qwen_ref.checkpoint.known import TEXT_ONLY, TEXT_PASSED, VISION_ONLY, check_not_quantized
from qwen_ref.checkpoint.metadata import Metadata, text_metadata, vision_metadata
from qwen_ref.checkpoint.safetensors import INDEX, WEIGHTS, read_weights
from qwen_ref.checkpoint.tensors import VISUAL, Row, mtp_rows, refuse_others, take, text_rows, vision_rows
from qwen_ref.checkpoint.tokenizer import read_tokenizer
from qwen_ref.config import read_config, read_vision_config
from qwen_ref.errors import QwenRefError
from qwen_ref.files import regular_file

MODEL_TYPES = "qwen3_5", "qwen3_5_text"  # text and vision, or text alone


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
    sizes = read_config(file)
    table = [embedding, *output, *text_rows(sizes, prefix)]
    file.tensors |= take(stored, [*table[1:], *mtp_rows(sizes, stored)], folder)
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
