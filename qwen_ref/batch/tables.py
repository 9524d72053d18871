"""Requests and results as tables: CSV by Python's own module, Parquet by pyarrow (the extra `tables`)."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from qwen_ref.errors import QwenRefError
from qwen_ref.files import regular_file, write_whole

SUFFIXES = (".csv", ".parquet")
COLUMNS = ("custom_id", "method", "url", "body", "prompt")
# of results -> pyarrow's types
FIELDS = {
    "custom_id": "string",
    "status_code": "int32",
    "content": "string",
    "finish_reason": "string",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "error": "string",
    "body": "string",
}
ROWS = 1024  # that are in memory at a time


def is_table(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def parquet(path: Path) -> Any:
    """pyarrow.parquet. Raises QwenRefError where it is not installed."""
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise QwenRefError(f"{path}: Parquet needs pyarrow: pip install 'qwen_ref[tables]'") from None
    return pyarrow.parquet


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Raises QwenRefError if it is no such table, or has columns that say nothing here."""
    path = regular_file(path)
    if path.suffix.lower() == ".csv":
        csv.field_size_limit(1 << 30)
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                check(path, reader.fieldnames or [])
                for row in reader:
                    if None in row or None in row.values():
                        raise QwenRefError(
                            f"{path}: line {reader.line_num}: has not as many fields as columns"
                        )
                    yield row
        except (csv.Error, UnicodeDecodeError) as error:
            raise QwenRefError(f"{path}: is no CSV in UTF-8: {error}") from None
    else:
        pq = parquet(path)
        import pyarrow

        try:
            with pq.ParquetFile(path) as file:
                check(path, file.schema_arrow.names)
                for batch in file.iter_batches(ROWS):
                    yield from batch.to_pylist()
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # all are raised
            raise QwenRefError(f"{path}: is no Parquet: {str(error).partition(chr(10))[0]}") from None


def check(path: Path, names: Iterable[str]) -> None:
    names = list(names)
    for name in names:
        if names.count(name) > 1:
            raise QwenRefError(f"{path}: column {name!r:.80} is there twice")
        if name not in COLUMNS:
            raise QwenRefError(f"{path}: column {name!r:.80} is none of {', '.join(COLUMNS)}")
    if "custom_id" not in names or not {"body", "prompt"} & {*names}:
        raise QwenRefError(f"{path}: has no column custom_id and body, or custom_id and prompt")


def row_of(result: dict[str, Any]) -> dict[str, Any]:
    """What a table has of a result."""
    response, error = result["response"], result["error"]
    body = response["body"]
    choice = {} if error else body["choices"][0]
    usage = {} if error else body["usage"]
    return {
        "custom_id": result["custom_id"],
        "status_code": response["status_code"],
        "content": choice["message"]["content"] if "message" in choice else choice.get("text"),
        "finish_reason": choice.get("finish_reason"),
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "error": error["message"] if error else None,
        "body": json.dumps(body, ensure_ascii=False),
    }


def as_text(row: dict[str, Any]) -> dict[str, Any]:
    """Half a character, as JSON may spell it and names of files may have it, is spelled with a backslash."""
    return {
        name: value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }


def write(lines: Path, path: Path) -> None:
    """The results in `lines` as a table, which takes the place of what is there when it is whole.
    Raises QwenRefError."""
    with open(lines, "rb") as file, write_whole(path) as out:
        results = (as_text(row_of(json.loads(line))) for line in file)
        if path.suffix.lower() == ".csv":
            text = io.TextIOWrapper(out, encoding="utf-8", newline="")
            writer = csv.writer(text)
            writer.writerow(FIELDS)
            writer.writerows(row.values() for row in results)
            text.flush()
            text.detach()
        else:
            import pyarrow

            schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in FIELDS.items()])
            with parquet(path).ParquetWriter(out, schema) as writer:
                while some := list(itertools.islice(results, ROWS)):
                    writer.write_table(pyarrow.Table.from_pylist(some, schema))
