"""tokenizer.json and the chat templates, under GGUF's keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from qwen_ref.checkpoint.fields import Fields, fields_if_there, read_fields
from qwen_ref.checkpoint.known import ADDED_ONLY, BPE_ONLY, STEPS
from qwen_ref.files import read_text
from qwen_ref.tokenizer import CONTROL, NORMAL, PRE_TOKENIZERS, UNUSED, USER_DEFINED


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
