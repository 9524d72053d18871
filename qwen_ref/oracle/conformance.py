"""The conformance kit: tiny models and what they compute, and a report card of an engine that runs them.

kit/ has the models (GGUF, their weights random, their heads of the official sizes), pictures and a clip, and
a golden for each case; kit/dumps/ has dumps of engines that make a known mistake, and one of an engine that
makes none. tests/fixtures/kit.py made them. An engine is a function

    def run(case: Case) -> Mapping[str, Any]

that returns tensors under a golden's names, and `token_ids`, `positions` or `generated` if it has its own; or
a generator that yields them: of the prompt, then of each piece behind it (case.parts, or the single tokens of
case.steps), so that decoding is judged; or a command that writes them to a file. It may raise NotSupported.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gguf_io import open_gguf
from qwen_ref import children
from qwen_ref.errors import QwenRefError
from qwen_ref.files import read_json
from qwen_ref.oracle import callback
from qwen_ref.oracle.budget import UNIT
from qwen_ref.oracle.check import some
from qwen_ref.oracle.compare import BESIDE, Found, Report, compare, from_tiled, misspelt
from qwen_ref.oracle.golden import Golden, Part, load, read_tensors

if TYPE_CHECKING:
    from qwen_ref.engine import Model
    from qwen_ref.prompt import Prompt

KIT = Path(__file__).with_name("kit")
SECONDS = 600  # that a command may take for one case


class NotSupported(Exception):
    """The engine has no way to run this case. The message says why."""


@dataclass(frozen=True)
class Case:
    """One golden of the kit and the files that it is of.

    token_ids  of the prompt and of the greedy continuation behind it; the first prompt_tokens are the prompt
    text       of the prompt, as the chat template renders it
    messages   the conversation; None of a raw text
    media      files of the pictures and clips in it, in order
    """

    path: Path

    @cached_property
    def golden(self) -> Golden:
        return replace(load(self.path), weights=self.weights)

    def weights(self, name: str) -> np.ndarray:
        """float64, of the model's file or of the tower's (v.…). Raises KeyError."""
        tensor = open_gguf(self.mmproj if name.startswith("v.") else self.model).tensors[name]
        return tensor.dequantize().reshape(tensor.shape).astype(np.float64)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def model(self) -> Path:
        return self.path.with_name(self.golden.about["file"])

    @property
    def mmproj(self) -> Path:
        return self.path.with_name("mmproj.gguf")

    @property
    def media(self) -> list[Path]:
        return [self.path.with_name(media["file"]) for media in self.golden.about.get("media", ())]

    @property
    def token_ids(self) -> list[int]:
        return self.golden.inputs["token_ids"].tolist()

    @property
    def prompt_tokens(self) -> int:
        return self.golden.about["prompt_tokens"]

    @property
    def prompt_ids(self) -> list[int]:
        return self.token_ids[: self.prompt_tokens]

    @property
    def steps(self) -> list[int]:
        """The tokens after the prompt, which go in one at a time where decoding is to be judged."""
        return self.token_ids[self.prompt_tokens :]

    @property
    def parts(self) -> list[Part]:
        """The prompt and then what follows it, mostly single tokens; a second turn goes in in one piece, and
        tokens that a draft proposed in vain go in behind others and are taken back."""
        return self.golden.parts

    @property
    def positions(self) -> np.ndarray:
        """[3, T]: time, row and column. The first is not always 0."""
        return self.golden.inputs["positions"]

    @property
    def text(self) -> str:
        return self.golden.about["text"]

    @property
    def messages(self) -> list[dict[str, Any]] | None:
        return self.golden.about["messages"]

    @property
    def tools(self) -> list[dict[str, Any]] | None:
        return self.golden.about["tools"]

    @property
    def thinking(self) -> bool | None:
        """What the chat template is told; None: nothing."""
        return self.golden.about["thinking"]

    @property
    def allow(self) -> str:
        """The arithmetic that an engine may err by if nobody says otherwise."""
        return self.golden.about["allow"]


Engine = Callable[[Case], Found]


def with_tiled_heads(engine: Engine) -> Engine:
    """An engine whose V heads stand in GGUF's order."""
    return lambda case: from_tiled(case.golden, engine(case))


def naturally(path: Path) -> list[str]:
    """length-3 before length-129."""
    return [part.zfill(9) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]


def cases(patterns: Sequence[str] = ("*",)) -> list[Case]:
    """Those whose name fits one of the patterns. Raises QwenRefError if a pattern fits none."""
    found = [Case(path) for path in sorted(KIT.glob("*.safetensors"), key=naturally)]
    for pattern in patterns:
        if not any(fnmatchcase(case.name, pattern) for case in found):
            raise QwenRefError(f"case: {pattern!r} is none of {', '.join(case.name for case in found)}")
    return [case for case in found if any(fnmatchcase(case.name, pattern) for pattern in patterns)]


@dataclass(frozen=True)
class Result:
    """What came of one case.

    verdict    "right", "wrong", "partly judged" (what was given is right, and no logits are among it), "not
               judged" (neither tensors nor greedy tokens were given), "failed" (the engine did not come to an
               end) or "not supported"
    note       a sentence on it, perhaps empty
    report     None if there was nothing to compare
    traceback  of an engine that raised something else than a QwenRefError, or empty
    """

    case: Case
    verdict: str
    note: str
    report: Report | None
    traceback: str
    seconds: float


def run(engine: Engine, chosen: Sequence[Case], allow: str | None = None) -> Iterator[Result]:
    """The engine on one case after another. `allow` takes the place of what each case allows.

    Raises QwenRefError if there is no such arithmetic.
    """
    if allow is not None and allow not in UNIT:
        raise QwenRefError(f"allow: {allow!r} is not one of {', '.join(UNIT)}")
    return (run_case(engine, case, allow or case.allow) for case in chosen)


def run_case(engine: Engine, case: Case, allow: str) -> Result:
    started = time.perf_counter()
    report, trace = None, ""
    try:
        report = compare(case.golden, engine(case), allow)
        verdict, note = report.verdict, report.complaint or ""
        if verdict == "partly judged":
            note = f"{report.part}, no logits"
            if not report.differences and not report.greedy:
                verdict, note = "not judged", "neither tensors nor greedy tokens were given"
        if names := misspelt(report.unknown):
            note += f"{'; ' if note else ''}not compared, since no golden has such names: {some(names)}"
    except NotSupported as reason:
        verdict, note = "not supported", str(reason)
    except QwenRefError as error:
        verdict, note = "failed", str(error)
    except (Exception, SystemExit) as error:  # whatever an engine raises: other cases are still to be run
        verdict, note = "failed", " ".join(f"{type(error).__name__}: {error}".split())
        trace = traceback.format_exc()
    return Result(case, verdict, note, report, trace, time.perf_counter() - started)


# ---- dumps of which it is known what is wrong with them


@dataclass(frozen=True)
class Dump:
    """wrong: what is, in a sentence; empty if nothing is."""

    path: Path
    case: Case
    wrong: str

    @property
    def name(self) -> str:
        return self.path.stem


def dumps() -> list[Dump]:
    """Those of the kit, as their table has them. Raises QwenRefError if it is damaged."""
    path = KIT / "dumps" / "dumps.json"
    table, known = read_json(path), {case.name: case for case in cases()}
    try:
        found = [
            Dump(path.with_name(f"{name}.safetensors"), known[entry["case"]], str(entry["wrong"]))
            for name, entry in table.items()
        ]
    except (AttributeError, LookupError, TypeError):
        raise QwenRefError(f"{path}: is no table of dumps, each with its case and what is wrong") from None
    if not {bool(dump.wrong) for dump in found} == {True, False}:
        raise QwenRefError(f"{path}: has to list dumps of both kinds, with a mistake and without")
    return found


def self_test(allow: str | None = None) -> Iterator[tuple[Dump, Result, bool]]:
    """Each dump, what came of it, and whether that is as it should be: of one that cannot be read it is not.

    Raises QwenRefError as `dumps` and `run` do.
    """
    for dump in dumps():
        (result,) = run(partial(read_dump, dump.path), [dump.case], allow)
        yield dump, result, result.verdict in (("wrong", "partly judged") if dump.wrong else ("right",))


# ---- engines


def find_engine(spec: str) -> Engine:
    """module:function, FILE.py or FILE.py:function (`run` unless named), or a command (see `command`).

    Raises QwenRefError if there is no such thing.
    """
    if not re.fullmatch(r"[\w./\\-]+(\.py|:\w+)", spec):
        return command(spec)
    place, _, name = spec.partition(":")
    if place.endswith(".py") and not Path(place).is_file():
        raise QwenRefError(f"engine: {place}: no such file")
    try:
        if place.endswith(".py"):
            module = import_file(Path(place))
        else:
            sys.path.insert(0, os.getcwd())
            module = importlib.import_module(place)
        return getattr(module, name or "run")
    except (Exception, SystemExit) as error:  # what a file raises that is run
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise QwenRefError(f"engine: {spec}: {reason}") from None


def import_file(path: Path) -> Any:
    """What the file imports may lie beside it."""
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLACES = ("model", "mmproj", "ids", "prompt_tokens", "parts", "text", "messages", "media", "inputs", "dump")


def command(template: str) -> Engine:
    """A program, with these in its arguments:

    {model} {mmproj}  GGUF files
    {ids}             a file with the token ids of prompt and continuation, one a line
    {prompt_tokens}   how many of them are the prompt
    {parts}           a file with the same ids, a line for each piece that goes in at once; behind a | stand
                      those that are to go in behind them and to be taken back
    {text}            a file with the prompt's text, as the chat template renders it
    {messages}        a JSON file with `messages` and `tools`
    {media}           files of pictures and clips: an argument for each
    {inputs}          a safetensors file: token_ids, positions, draft_ids, and for the vision tower
                      pixel_values, image_grid_thw, pixel_values_videos and video_grid_thw
    {dump}            where it writes its tensors, .safetensors; without it the output is read as
                      llama-eval-callback's

    Raises QwenRefError if it is no command.
    """
    try:
        words = shlex.split(template)
        for word in words:
            word.format_map(dict.fromkeys(PLACES, ""))
    except (ValueError, KeyError, IndexError) as error:
        raise QwenRefError(f"engine: {template!r} is no command: {error}") from None
    if not words or shutil.which(words[0]) is None:
        raise QwenRefError(f"engine: {template!r}: there is no such program, Python file or module:function")

    def engine(case: Case) -> Mapping[str, Any]:
        if case.media and not re.search(r"\{(media|inputs)\}", template):
            raise NotSupported("the command has neither {media} nor {inputs}")
        try:
            folder = tempfile.TemporaryDirectory()
        except OSError as error:
            raise QwenRefError(f"{error.filename or 'temporary files'}: {error.strerror}") from None
        with folder as scratch:
            try:
                return run_command(words, case, Path(scratch))
            except QwenRefError as error:  # where its files lay is of no use once they are gone
                raise QwenRefError(str(error).replace(f"{scratch}{os.sep}", "")) from None

    return engine


def run_command(words: list[str], case: Case, scratch: Path) -> Mapping[str, Any]:
    files = {name: scratch / name for name in ("ids", "parts", "text", "messages.json", "inputs.safetensors")}
    dump, output = scratch / "dump.safetensors", scratch / "output.txt"
    files["ids"].write_text("\n".join(map(str, case.token_ids)) + "\n")
    files["parts"].write_text("".join(line_of(part) for part in case.parts))
    files["text"].write_bytes(case.text.encode())  # UTF-8, with its line ends as they are
    files["messages.json"].write_text(json.dumps({"messages": case.messages, "tools": case.tools}))
    if any("{inputs}" in word for word in words):
        from safetensors.numpy import save_file

        save_file(inputs_of(case), files["inputs.safetensors"])
    places = {name.partition(".")[0]: file for name, file in files.items()}
    places |= {"model": case.model, "mmproj": case.mmproj, "dump": dump}
    line: list[str] = []
    for word in words:
        if word == "{media}":
            line += map(str, case.media)
        else:
            line.append(word.format(**places, prompt_tokens=case.prompt_tokens, media=""))
    with open(output, "wb") as file:
        try:
            done = children.run(line, stdout=file, stderr=subprocess.STDOUT, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise QwenRefError(f"it did not end within {SECONDS} s") from None
        except OSError as error:
            raise QwenRefError(f"{words[0]}: cannot be run: {error.strerror}") from None
    if done.returncode:
        last = output.read_text(errors="replace").strip().rpartition("\n")[2][:200]
        raise QwenRefError(f"it ended with status {done.returncode}, and said last: {last or 'nothing'}")
    if not any("{dump}" in word for word in words):
        return callback.read(output, case.golden)
    return read_dump(dump, case)


def read_dump(path: Path, case: Case) -> dict[str, np.ndarray]:
    return read_tensors(path, [*case.golden.entries, *BESIDE])[0]


def line_of(part: Part) -> str:
    words = [*part.token_ids, *(["|", *part.rejected] if part.rejected else [])]
    return " ".join(map(str, words)) + "\n"


def inputs_of(case: Case) -> dict[str, np.ndarray]:
    """token_ids [T], positions [3, T], draft_ids [4] of a case with an MTP layer, and of pictures and clips
    what transformers' processor makes:
    {image,video}_grid_thw [n, 3], pixel_values(_videos) [patches, C*2*16*16].
    """
    from qwen_ref.engine import load as load_model

    golden = case.golden
    told = "token_ids", "positions", "draft_ids"
    inputs = {name: golden.inputs[name] for name in told if name in golden.inputs}
    if case.media:
        prompt = encode(load_model(case.model, backend="numpy"), case)
        for kind, name in ("image", "pixel_values"), ("video", "pixel_values_videos"):
            patches = [step for m in prompt.media if m.shape.kind == kind for step in m.patches(None)]
            if patches:
                inputs[name] = np.concatenate(patches)
                inputs[f"{kind}_grid_thw"] = golden.inputs[f"{kind}_grid_thw"]
    return {name: np.ascontiguousarray(x) for name, x in inputs.items()}


def encode(model: Model, case: Case) -> Prompt:
    """The prompt as this project has it."""
    if case.messages is None:
        prompt = model.encode_prompt(case.text, raw=True)
    else:
        prompt = model.encode_prompt(with_media(case), tools=case.tools, thinking=case.thinking)
    return replace(prompt, first_position=int(case.positions[0, 0]))


def with_media(case: Case) -> list[dict[str, Any]]:
    """The messages, with the paths of their pictures and clips."""
    left = iter(case.media)

    def part(part: Any) -> Any:
        kind = part.get("type")
        return part | {kind: str(next(left))} if kind in ("image", "video") else part

    return [
        message | {"content": [part(p) for p in message["content"]]}
        if isinstance(message.get("content"), list)
        else message
        for message in case.messages or ()
    ]
