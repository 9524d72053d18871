"""Requests in OpenAI's Batch format, from a file of lines, a table, or a folder of pictures, one at a time.

    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": …, "messages": […]}}

https://platform.openai.com/docs/guides/batch
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from qwen_ref.batch import tables
from qwen_ref.errors import QwenRefError
from qwen_ref.files import regular_file
from qwen_ref.serve.errors import Problem
from qwen_ref.serve.fields import Fields, parse
from qwen_ref.serve.openai import ANSWERED

CHAT = "/v1/chat/completions"
LONGEST = 256 << 20  # bytes of a line

Make = Callable[[str, str | None], dict[str, Any]]  # (a prompt, a picture's file) -> the body of a request


@dataclass(frozen=True)
class Request:
    """One of them, or what is wrong with its line.

    id   a digest of all it says, so that a result tells which request it is of
    key  what it is found by: the custom_id, as 64 bits, or of what has none the id
    """

    custom_id: str | None
    id: str
    url: str = CHAT
    body: Any = None
    problem: Problem | None = None

    @property
    def key(self) -> int:
        return key_of(self.custom_id, self.id)


def key_of(custom_id: str | None, id: str) -> int:
    said = id if custom_id is None else f"custom_id {custom_id}"
    return int.from_bytes(hashlib.blake2b(said.encode(errors="surrogatepass"), digest_size=8).digest(), "big")


def id_of(*said: Any) -> str:
    text = json.dumps(said, sort_keys=True, default=repr)
    return f"batch_req_{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"


def made(custom_id: str, url: str, body: Any) -> Request:
    return Request(custom_id, id_of(custom_id, url, body), url, body)


def broken(place: str, problem: Problem, *said: Any) -> Request:
    """What has no custom_id of its own, at a place in its file: "line 7". Its id is of what it says."""
    problem = Problem(problem.status, f"{place}: {problem.message.removeprefix(f'{place}: ')}", problem.param)
    return Request(None, id_of(*said), problem=problem)


def read(place: str, line: dict[str, Any] | bytes, row: Any = None) -> Request:
    """A line, or the fields of one, which may have been a `row`."""
    said = line.decode(errors="backslashreplace") if isinstance(line, bytes) else row or line
    try:
        fields = parse(place, line) if isinstance(line, bytes) else line
        if not isinstance(fields, dict):
            raise Problem(400, f"{place}: is not a JSON object")
        about = Fields(fields)
        custom_id = about.need("custom_id", "a text")
        id = id_of(custom_id, fields.get("url"), fields.get("body"))
    except Problem as problem:
        return broken(place, problem, said)
    except RecursionError:  # whatever it asks, the answer is this
        return Request(custom_id, id_of(custom_id), problem=Problem(400, "is nested too deeply"))
    try:
        about.only("method", "POST")
        url, body = about.need("url", "a text"), about.need("body", "an object")
        about.done()
        if url not in ANSWERED:
            raise Problem(404, f"url: {url!r:.100} is not one of {', '.join(ANSWERED)}", "url")
        if body.get("stream"):
            raise Problem(400, "stream: in a batch every answer comes whole", "stream")
    except Problem as problem:
        return Request(custom_id, id, problem=problem)
    return Request(custom_id, id, url, body)


def each_once(requests: Iterable[tuple[str, Request]]) -> Iterator[Request]:
    """Of two with one custom_id the second is told so. Of what has none, several may say the same: their ids
    count them."""
    seen, times = set[int](), Counter[int]()
    for place, request in requests:
        if request.custom_id is not None and request.key in seen:
            told = f"custom_id: {request.custom_id!r:.100} has come before"
            request = broken(place, Problem(400, told, "custom_id"), request.id)
        if request.custom_id is None:
            times[request.key] += 1
            if (count := times[request.key]) > 1:
                request = replace(request, id=id_of(request.id, count))
        seen.add(request.key)
        yield request


def from_lines(path: Path) -> Iterator[tuple[str, Request]]:
    """Raises QwenRefError if the file cannot be read."""
    with open(regular_file(path), "rb") as file:
        number = 0
        while line := file.readline(LONGEST):
            number += 1
            whole = len(line) < LONGEST or line.endswith(b"\n")
            while not whole and (rest := file.readline(LONGEST)):
                whole = rest.endswith(b"\n")
                line = b""
            if not line:
                problem = Problem(413, f"has more than {LONGEST:,} bytes")
                yield f"line {number}", broken(f"line {number}", problem)
            elif line.strip():
                yield f"line {number}", read(f"line {number}", line.strip())


def from_table(path: Path, make: Make) -> Iterator[tuple[str, Request]]:
    """Of each row custom_id, url and body (JSON text), or custom_id and prompt. Raises QwenRefError."""
    for number, row in enumerate(tables.rows(path), 1):
        place, asks = f"row {number}", "prompt" in row
        row = {name: decoded(value) for name, value in row.items() if not is_empty(value)}
        custom_id = row.get("custom_id")
        try:
            yield place, read(place, fields_of(row, asks, make), row)
        except Problem as problem:
            if isinstance(custom_id, str):
                yield place, Request(custom_id, id_of(custom_id, row), problem=problem)
            else:
                yield place, broken(place, problem, row)


def is_empty(value: Any) -> bool:
    """Whether a table has nothing there. Some write not a number for that."""
    return value is None or value == "" or (isinstance(value, float) and value != value)


def decoded(value: Any) -> Any:
    """Bytes that are text, as Parquet may have it, as text."""
    with contextlib.suppress(UnicodeDecodeError):
        return value.decode() if isinstance(value, bytes) else value
    return value


def fields_of(row: dict[str, Any], asks: bool, make: Make) -> dict[str, Any]:
    """Those of a request, from a row of a table that `asks` by prompts. Raises Problem."""
    row = dict(row)
    if "prompt" in row:
        for name in ("body", "url", "method"):
            if name in row:
                raise Problem(400, f"{name}: does nothing beside a prompt", name)
        if not isinstance(prompt := row.pop("prompt"), str):
            raise Problem(400, f"prompt: {reprlib.repr(prompt)} is not a text", "prompt")
        row["body"] = make(prompt, None)
    elif asks and "body" not in row and "custom_id" in row:
        raise Problem(400, "prompt: is empty", "prompt")
    elif isinstance(row.get("body"), str | bytes):  # of Parquet it may be an object already
        row["body"] = parse("body", row["body"])
    return {"url": CHAT} | row


def from_pictures(folder: Path, prompt: str, make: Make) -> Iterator[tuple[str, Request]]:
    """One about each picture in a folder and those in it, in the order of their names; others are passed by.
    Raises QwenRefError if it is no folder that can be read."""
    from PIL import Image

    suffixes = {end for end, name in Image.registered_extensions().items() if name in Image.OPEN}
    if not folder.is_dir():
        raise QwenRefError(f"{folder}: is no folder")

    def refuse(error: OSError) -> None:
        raise QwenRefError(f"{error.filename}: cannot be read: {error.strerror}")

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if not name.startswith(".") and path.suffix.lower() in suffixes:
                custom_id = path.relative_to(folder).as_posix()
                yield custom_id, made(custom_id, CHAT, make(prompt, os.path.abspath(path)))


def maker(
    model: str, system: str | None, options: dict[str, Any], max_image_tokens: int | None = None
) -> Make:
    """What makes bodies of requests; `options` are fields of OpenAI's API."""
    look = {} if max_image_tokens is None else {"max_image_tokens": max_image_tokens}

    def make(prompt: str, picture: str | None) -> dict[str, Any]:
        content: Any = prompt
        if picture is not None:
            url = {"url": f"file://{quote(os.fsencode(picture))}"}
            content = [{"type": "image_url", "image_url": url} | look, {"type": "text", "text": prompt}]
        messages = [{"role": "user", "content": content}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        return {"model": model, "messages": messages} | options

    return make
