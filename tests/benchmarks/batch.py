"""Batches: how much faster than one at a time, how many to compute together, and memory.

python tests/benchmarks/batch.py equal [MODEL] [N]      N (1,000) requests of four kinds: each equal to a
                                                        single answer, and how long both take
python tests/benchmarks/batch.py ways [MODEL] [N]       N (300) of them by the command: one at a time, 16
                                                        together, on as many processes as cores
python tests/benchmarks/batch.py parallel [MODEL] [N]   answers computed together, with and without drafts
python tests/benchmarks/batch.py memory [N]             resident memory over N (100,000) requests to a
                                                        model that answers at once
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

import qwen_ref
from qwen_ref import shipped
from qwen_ref.batch import answers, requests
from qwen_ref.batch.batch import Batch
from qwen_ref.batch.results import Results
from qwen_ref.engine import Model
from qwen_ref.engine.prefixes import default_budget
from qwen_ref.errors import QwenRefError
from qwen_ref.files import json_line
from qwen_ref.machine import cores
from qwen_ref.serve import openai

CHAT = "/v1/chat/completions"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"get_{what}",
            "description": f"The {what} in a city, now or on another day",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "day": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    for what in ("weather", "time", "traffic")
]
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
SYSTEM = "You are brief. Answer in one sentence, and say so where you do not know. " * 4
CITIES = "Oslo Rome Lima Cairo Delhi Paris Tokyo Accra".split()
PORTION, ROUNDS = 50, 5
ROOT = Path(__file__).parents[2]
COLOURS = "red blue green orange purple".split()


def picture(n: int) -> str:
    """Each is asked about four times."""
    image = Image.new("RGB", (128, 128), "white")
    colour, at = COLOURS[n // 4 % len(COLOURS)], 10 + n // 20 % 40
    ImageDraw.Draw(image).ellipse((at, at, at + 60, at + 60), fill=colour)
    held = io.BytesIO()
    image.save(held, "PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


def body(n: int, kinds: int = 4) -> dict[str, Any]:
    """In turn: a question behind a system prompt, one with tools, one with a schema, a picture."""
    sum_of, options = f"What is {n % 90 + 3} + {n // 90 + 2}?", dict[str, Any]()
    content: Any = sum_of
    if n % kinds == 1:
        content = f"What is the weather in {CITIES[n // kinds % 8]} on day {n // 32}?"
        options = {"tools": TOOLS, "tool_choice": "required"}
    elif n % kinds == 2:
        options = {"response_format": FORM}
    elif n % kinds == 3:
        asked = ("What is this?", "What colour is it?", "Describe it.", "Is it round?")[n // 4 % 4]
        content = [
            {"type": "image_url", "image_url": {"url": picture(n // 4)}},
            {"type": "text", "text": asked},
        ]
    messages = [{"role": "user", "content": content}]
    if n % kinds != 3:
        messages.insert(0, {"role": "system", "content": SYSTEM})
    return {
        "model": "m",
        "messages": messages,
        "temperature": 0,
        "presence_penalty": 0,
        "max_tokens": 40,
    } | options


def asked(numbers: range, kinds: int) -> Iterator[requests.Request]:
    return (requests.made(str(n), CHAT, body(n, kinds)) for n in numbers)


def kinds_of(model: Model) -> int:
    """Without a vision file no pictures."""
    try:
        return 4 if model.vision else 3
    except QwenRefError:
        return 3


def said(message: dict[str, Any]) -> Any:
    """But for the ids of calls, which are drawn."""
    return [call["function"] for call in message.get("tool_calls", ())] or message["content"]


def batch(model: Model, numbers: range, parallel: int, draft: str = "off") -> tuple[dict[str, Any], Batch]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.jsonl")
        results = Results(out, model.fingerprint)
        done = Batch(lambda: asked(numbers, kinds_of(model)), "in.jsonl", results)
        done.run(answers.here(answers.new_service(model, ["m"], parallel, {"draft": draft})))
        results.close()
        found = [json.loads(line) for line in out.read_text().splitlines()]
    messages = {r["custom_id"]: said(r["response"]["body"]["choices"][0]["message"]) for r in found}
    assert len(messages) == len(numbers) and not done.errors and not done.passing
    return messages, done


def single(model: Model, n: int) -> tuple[Any, int]:
    options = body(n, kinds_of(model))
    messages = options.pop("messages")
    del options["model"]
    if options.pop("response_format", None):
        options["schema"] = SCHEMA
    generation = model.generate(messages, **options)
    "".join(generation)
    return said(openai.message_of(generation)), len(generation.token_ids)


def equal(path: str, count: int) -> None:
    """In portions, by turns, so that other work on the machine disturbs all three ways alike."""
    keep = default_budget()
    alone, kept, together = (
        qwen_ref.load(path),
        qwen_ref.load(path, keep=keep),
        qwen_ref.load(path, keep=keep),
    )
    together.warm_up(pictures=kinds_of(together) == 4)
    parallel, seconds = answers.default_parallel(together), list[tuple[float, ...]]()
    for model in alone, kept:
        single(model, 3)
    different = tokens = 0
    for start in range(0, count, PORTION):
        numbers, took = range(start, min(count, start + PORTION)), list[float]()
        for model in alone, kept:
            began = time.perf_counter()
            expected = {str(n): single(model, n) for n in numbers}
            took.append(time.perf_counter() - began)
        found, done = batch(together, numbers, parallel)
        seconds.append((*took, done.seconds))
        different += sum(expected[n][0] != found[n] for n in expected)
        tokens += done.tokens
    print(f"{count:,} requests, {tokens:,} tokens; other than single answers: {different}")
    names = "one at a time", "one at a time, what was read kept", f"batch, {parallel} together"
    for name, took in zip(names, zip(*seconds, strict=True), strict=True):
        ratios = [portion / batch for portion, (*_, batch) in zip(took, seconds, strict=True)]
        rate = f"{sum(took):.1f} s, {count / sum(took):.1f} requests/s"
        print(f"{name}: {rate}; the batch's time {statistics.median(ratios):.2f} times, median of portions")


def ways(path: str, count: int) -> None:
    """The same requests, of four kinds; seconds from the first request's begin to the last one's end, on a
    cluster with the start of its processes, and the ratios of each round."""
    options = {
        "one at a time, nothing kept": ["--parallel", "1", "--keep", "0"],
        "one at a time": ["--parallel", "1"],
        "16 together": ["--parallel", "16"],
        f"--local-cluster {cores()}": ["--local-cluster", f"{cores()}"],
    }
    kinds = kinds_of(qwen_ref.load(path))
    seconds = defaultdict[str, list[float]](list)
    with tempfile.TemporaryDirectory() as folder:
        with open(Path(folder, "in.jsonl"), "wb") as file:
            for n in range(count):
                file.write(json_line({"custom_id": f"{n}", "url": CHAT, "body": body(n, kinds)}))
        command = [sys.executable, "-m", "qwen_ref", "batch", "in.jsonl", "-o", "out.jsonl", "--overwrite"]
        for _ in range(ROUNDS):
            for name, more in options.items():
                done = subprocess.run(
                    [*command, "--model", path, "--name", "m", *more],
                    cwd=folder,
                    env=os.environ | {"PYTHONPATH": str(ROOT)},
                    stderr=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                told = re.search(rf"{count:,} answered, 0 errors; .* tokens in ([\d.]+) s", done.stderr)
                assert told, done.stderr
                seconds[name].append(float(told[1]))
    first = seconds["one at a time, nothing kept"]
    for name, took in seconds.items():
        ratios = [alone / own for alone, own in zip(first, took, strict=True)]
        print(f"{name}: {took} s; {statistics.median(ratios):.2f} times as fast, {min(ratios):.2f} at least")


def parallel(path: str, count: int) -> None:
    for _ in range(3):
        for together in 1, 2, 4, 8, 16, 32:
            for draft in "auto", "off":
                model = qwen_ref.load(path, keep=default_budget())
                model.warm_up(pictures=kinds_of(model) == 4)
                began = time.process_time()
                _, done = batch(model, range(count), together, draft)
                cpu = (time.process_time() - began) / count
                rate = f"{count / done.seconds:6.2f} requests/s {done.tokens / done.seconds:6.1f} tokens/s"
                print(
                    f"{together:2} together, drafts {draft:4}: {rate}, {cpu:.3f} s of CPU each",
                    flush=True,
                )


class Simulated:
    """A model whose answers are ready in the first step."""

    def __init__(self, model: Model):
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, prompt: Any, **options: Any) -> Any:
        generation = self._model.generate(prompt, **options)
        generation._over, generation.finish_reason, generation.text = True, "stop", "yes"
        generation.__dict__["_sequence"] = [0] * (len(generation.prompt_ids) + 1)
        return generation


def memory(count: int) -> None:
    def resident() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    model: Any = Simulated(qwen_ref.load())
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in.jsonl"), Path(folder, "out.jsonl")
        short = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        with open(source, "w") as file:
            for n in range(count):
                line = {"custom_id": f"request-{n}", "method": "POST", "url": CHAT, "body": short}
                file.write(json.dumps(line) + "\n")
        results = Results(out, model.fingerprint)
        print(f"before the index: {resident():.0f} MiB", flush=True)
        done = Batch(lambda: requests.each_once(requests.from_lines(source)), "in.jsonl", results)
        service = answers.new_service(model, ["m"], 16, {"draft": "off"})
        model.warm_up()

        def show(batch: Batch) -> None:
            if batch.done % (count // 10) == 0:
                print(f"{batch.done:7,}: {resident():.0f} MiB, {batch.seconds:.0f} s", flush=True)

        done.run(answers.here(service), show)
        results.close()
        assert done.answered == count and not done.errors
        print(f"{out.stat().st_size / 2**20:.0f} MiB of results; the index of a start after it:")
        before = resident()
        results = Results(out, model.fingerprint)
        print(f"{resident() - before:.0f} MiB for {len(results.done):,}")
        results.close()


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "memory":
        memory(int(rest[0]) if rest else 100_000)
    else:
        model = rest.pop(0) if rest and not rest[0].isdecimal() else str(shipped.MODEL)
        default = {"equal": 1000, "ways": 300, "parallel": 64}[what]
        {"equal": equal, "ways": ways, "parallel": parallel}[what](model, int(rest[0]) if rest else default)
