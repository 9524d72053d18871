"""A task's file: a JSON object a line, each a sample.

    {"input": "What colour is the sky?", "target": "blue", "score": "includes"}
    {"input": "2 + 2 =", "choices": ["3", "4"], "target": "4"}
    {"input": [{"role": "user", "content": […]}], "target": {"shop": "Baker"}, "score": "json"}

The names are those of inspect_ai's samples; `ideal` for `target` is that of OpenAI's evals.
"""

from __future__ import annotations

import math
import os
import re
import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen_ref.errors import QwenRefError, of_type
from qwen_ref.evaluate.judge import Box, box_of, leaves
from qwen_ref.files import read_lines
from qwen_ref.messages import Message, check_messages

MOST_NESTED = 100  # lists and objects in one another
FIELDS = ("id", "input", "images", "videos", "choices", "target", "ideal", "score", "group", "metadata")
BOX_FIELDS = ("bbox_2d", "label")


@dataclass(frozen=True)
class Sample:
    where: str  # "task.jsonl: line 3"
    line: int
    id: str | int
    group: str
    prompt: str | list[Message]
    score: str  # one of TARGETS
    target: Any  # texts, patterns, the number of the right choice, leaves of JSON, boxes
    choices: list[str] = field(default_factory=list)
    metadata: Any = None


def read_task(path: str, score: str = "exact") -> list[Sample]:
    """The samples of a task; `score` is that of lines which name none and have no choices.

    Raises QwenRefError, with file, line and field, for what makes no sense, and if there is no sample.
    """
    samples, ids = list[Sample](), dict[str | int, str]()
    for where, value in read_lines(path):
        sample = read_sample(where, value, Path(path), score)
        if sample.id in ids:
            raise QwenRefError(
                f"{where}: id: {sample.id!r:.80} is that of {ids[sample.id].rpartition(': ')[2]}"
            )
        ids[sample.id] = where
        samples.append(sample)
    if not samples:
        raise QwenRefError(f"{path}: holds no sample, which is a JSON object in a line")
    return samples


def read_sample(where: str, value: Any, path: Path, score: str) -> Sample:
    if not isinstance(value, dict):
        raise QwenRefError(f"{where}: is {of_type(value)}, not an object with input and target")
    fields = {name: given for name, given in value.items() if given is not None}
    for name in fields:
        if name not in FIELDS:
            raise QwenRefError(f"{where}: {name!r:.80} is no field of a sample: {', '.join(FIELDS)}")
        check_values(f"{where}: {name}", fields[name])
    if "target" in fields and "ideal" in fields:
        raise QwenRefError(f"{where}: ideal: is another name of target; give one of them")
    right = "ideal" if "ideal" in fields else "target"
    for name in ("input", right):
        if name not in fields:
            raise QwenRefError(f"{where}: {name}: is missing")
    choices = fields.get("choices")
    score = fields.get("score", score if choices is None else "choice")
    if not isinstance(score, str) or score not in TARGETS:
        raise QwenRefError(f"{where}: score: {reprlib.repr(score)} is not one of {', '.join(TARGETS)}")
    if (choices is None) == (score == "choice"):
        told = (
            "is missing, of which the likeliest is to be the target"
            if choices is None
            else f"have no part in {score}"
        )
        raise QwenRefError(f"{where}: choices: {told}")
    if choices is not None:
        check_choices(f"{where}: choices", choices)
    line = int(where.rpartition(" ")[2])
    name, group = fields.get("id", line), fields.get("group", path.stem)
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise QwenRefError(f"{where}: id: {of_type(name)} is no text or number")
    if not isinstance(group, str) or not group.strip():
        raise QwenRefError(f"{where}: group: {reprlib.repr(group)} is no text that names one")
    target = TARGETS[score](f"{where}: {right}", fields[right], choices or [])
    prompt = read_input(where, fields, path.parent)
    return Sample(where, line, name, group, prompt, score, target, choices or [], fields.get("metadata"))


def check_values(where: str, value: Any) -> None:
    """Raises QwenRefError for what Python reads as JSON, but others do not: NaN, 1e999, and what is deep."""
    level = [value]
    for _ in range(MOST_NESTED + 1):
        for number in level:
            if isinstance(number, float) and not math.isfinite(number):
                raise QwenRefError(f"{where}: {number} is no number that JSON has")
        held = [x.values() if isinstance(x, dict) else x for x in level if isinstance(x, dict | list)]
        if not held:
            return
        level = [inside for each in held for inside in each]
    raise QwenRefError(f"{where}: is nested more than {MOST_NESTED} deep")


def files_of_media(samples: list[Sample]) -> Iterator[str]:
    """What pictures and clips are read from."""
    from qwen_ref.media import parts, uri

    for sample in samples:
        for part in parts.read_parts(sample.prompt) if isinstance(sample.prompt, list) else ():
            for source in part.source if isinstance(part.source, list) else [part.source]:
                if isinstance(source, str):
                    yield uri.path_of(source)


def read_input(where: str, fields: dict[str, Any], folder: Path) -> str | list[Message]:
    """A text, or messages; paths in them are those of files in the task's folder."""
    from qwen_ref.media import parts, uri

    given = fields["input"]
    if not isinstance(given, str | list):
        raise QwenRefError(f"{where}: input: {of_type(given)} is no text or list of messages")
    media = [fields.get(name, []) for name in ("images", "videos")]
    for name, paths in zip(("images", "videos"), media, strict=True):
        if not isinstance(paths, list) or not all(isinstance(path, str | dict) for path in paths):
            raise QwenRefError(f"{where}: {name}: is no list of paths")
        if "" in paths:
            raise QwenRefError(f"{where}: {name}: number {paths.index('') + 1}: is empty")
        if paths and not isinstance(given, str):
            raise QwenRefError(
                f"{where}: {name}: with messages, give pictures as parts of a message's content"
            )
    try:
        messages = [parts.user_message(given, *media)] if isinstance(given, str) and any(media) else given
        if isinstance(messages, str):
            return messages
        check_messages(messages)
        parts.beside(folder, messages)
        for part in parts.read_parts(messages):
            source = part.source
            if source == "" or (isinstance(source, list) and "" in source):
                raise QwenRefError(f"{part.where}: {part.kind}: a path is empty")
            if isinstance(source, str) and not uri.is_address(source) and not os.path.exists(source):
                raise QwenRefError(f"{part.where}: {source!r:.200}: does not exist")
    except QwenRefError as error:
        raise QwenRefError(f"{where}: input: {error}") from None
    return messages


def check_choices(where: str, choices: Any) -> None:
    if not isinstance(choices, list) or len(choices) < 2:
        raise QwenRefError(f"{where}: {reprlib.repr(choices)} is no list of two texts or more")
    for number, choice in enumerate(choices, 1):
        if not isinstance(choice, str) or not choice.strip():
            raise QwenRefError(
                f"{where}: number {number}: {reprlib.repr(choice)} is no text that says something"
            )
        if choice in choices[: number - 1]:
            raise QwenRefError(f"{where}: number {number}: {reprlib.repr(choice)} is there twice")


def texts_of(where: str, target: Any, choices: list[str]) -> list[str]:
    texts = target if isinstance(target, list) else [target]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise QwenRefError(f"{where}: {reprlib.repr(target)} is no text or list of texts, none of them empty")
    return texts


def patterns_of(where: str, target: Any, choices: list[str]) -> list[re.Pattern[str]]:
    patterns = []
    for text in texts_of(where, target, choices):
        try:
            patterns.append(re.compile(text))
        except (re.error, RecursionError, OverflowError) as error:
            raise QwenRefError(f"{where}: {reprlib.repr(text)} is no regular expression: {error}") from None
    return patterns


def number_of(where: str, target: Any, choices: list[str]) -> int:
    """Of the right choice: its text says which one it is, its number from 0 on, or else its letter."""
    if isinstance(target, list) and len(target) == 1:  # inspect_ai writes letters so
        target = target[0]
    if isinstance(target, str) and target in choices:
        return choices.index(target)
    number = target
    if isinstance(target, str) and len(target) == 1:
        number = ord(target) - ord("A")
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(choices):
        return number
    raise QwenRefError(
        f"{where}: {reprlib.repr(target)} is none of the choices, by text, number (from 0 on) or letter"
    )


def json_of(where: str, target: Any, choices: list[str]) -> dict[tuple[str | int, ...], Any]:
    if not isinstance(target, dict | list) or not target:
        raise QwenRefError(f"{where}: {reprlib.repr(target)} is no object or list with something in it")
    return leaves(target)


def boxes_of(where: str, target: Any, choices: list[str]) -> list[Box]:
    """[[left, top, right, bottom], …], or as models write them, with a label; one may stand alone."""
    alone = isinstance(target, dict) or (
        isinstance(target, list) and bool(target) and not isinstance(target[0], list | dict)
    )
    items = [target] if alone else target
    if not isinstance(items, list):
        raise QwenRefError(f"{where}: {of_type(target)} is no list of boxes")
    for number, item in enumerate(items, 1):
        for name in item if isinstance(item, dict) else ():
            if name not in BOX_FIELDS:
                told = f"{name!r:.80} is no field of a box: {', '.join(BOX_FIELDS)}"
                raise QwenRefError(f"{where}: number {number}: {told}")
    boxes = [box_of(item) for item in items]
    for number, box in enumerate(boxes, 1):
        if box is None:
            raise QwenRefError(
                f"{where}: number {number}: {reprlib.repr(items[number - 1])} is no box "
                "[left, top, right, bottom] in 0 to 1000"
            )
    return [box for box in boxes if box is not None]


TARGETS: dict[str, Callable[[str, Any, list[str]], Any]] = {
    "exact": texts_of,
    "includes": texts_of,
    "regex": patterns_of,
    "choice": number_of,
    "json": json_of,
    "boxes": boxes_of,
}
