"""JSON files whose fields are used, known, or refused by name."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from qwen_ref.errors import QwenRefError
from qwen_ref.files import read_json

JSON_NAMES = {"str": "text", "list": "a list", "dict": "an object"}


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
