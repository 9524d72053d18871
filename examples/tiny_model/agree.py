"""Do three engines say the same? Greedy answers of this project, llama.cpp and transformers.

    python examples/tiny_model/agree.py build/tiny_model

In the folder is what train.py and export.py made. llama.cpp reads the same two pairs of GGUF files as this
project; transformers reads the checkpoint that they were made from, and computes in float32. Where answers
part, the table says how far apart the two tokens were there in this project's logits, at most: a near-tie if
that is little. llama.cpp's server takes no clips. All run on one thread: so small a model is fastest so.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import io
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import world
from options import whole
from scores import ANSWER, MOST, WITHOUT_THINKING, held_out, read, vision_of
from tokens import Encoder
from transformers import Qwen3_5ForConditionalGeneration
from transformers.video_utils import VideoMetadata
from world import Sample

from gguf_io import GGUFError
from qwen_ref import Model, QwenRefError, load
from qwen_ref.engine.generation import begin
from qwen_ref.engine.sequence import step
from qwen_ref.prompt import Prompt

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path += [str(TESTS / "fixtures"), str(TESTS / "oracle")]
from make import llama_bin  # noqa: E402
from transformers_vision import bare_videos, make_processor  # noqa: E402

ASKED = [*world.TASKS, WITHOUT_THINKING]


def ours(model: Model, prompt: Prompt) -> list[np.ndarray]:
    """The logits of each step of a greedy answer, its end included."""
    prompt = dataclasses.replace(prompt, tools=None)  # to which others do not keep its calls
    answer = model.generate(prompt, draft="off", temperature=0, presence_penalty=0, max_tokens=ANSWER)
    "".join(answer)
    sequence, _ = begin(model, prompt, lambda *about: None)
    sequence.extend(answer.token_ids)
    hidden: list[np.ndarray] = []
    while sequence.unread:
        hidden += step(model.text, [sequence])
    chosen_from = np.concatenate(hidden)[-1 - len(answer.token_ids) :]
    steps = len(answer.token_ids) + (answer.finish_reason == "stop")
    logits = model.text.logits(chosen_from[:steps])[:, : len(model.tokenizer)]
    assert logits.argmax(1)[: len(answer.token_ids)].tolist() == answer.token_ids
    return list(logits)


def margin(logits: list[np.ndarray], other: list[int]) -> float | None:
    """How much higher our token's logit was than the other's where the answers part; None if they do not."""
    for row, token in zip(logits, other, strict=False):
        if token != row.argmax():
            return float(row.max() - row[token])
    return None if len(other) == len(logits) else np.inf  # one went on where the other had said nothing


# ---- llama.cpp


@contextlib.contextmanager
def llama_server(model: Path, vision: Path) -> Iterator[Callable[[str, Sample], list[int]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{(port := free.getsockname()[1])}"
    options = ["--no-repack", "-np", "1", "-t", "1", "--port", str(port)]  # repacked: see tests/oracle
    options += ["--cache-ram", "0"]  # of 8 GiB of prompts, none of which comes twice
    command = [llama_bin() / "llama-server", "-m", model, "--mmproj", vision, *options]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def get(path: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(address + path, data, timeout=120) as reply:
            return json.load(reply)

    def answer(prompt: str, sample: Sample) -> list[int]:
        if sample.picture is not None:
            file = io.BytesIO()
            sample.picture.save(file, "png")
            text = prompt.replace("<|vision_start|><|image_pad|><|vision_end|>", marker)
            media = [base64.b64encode(file.getvalue()).decode()]
            body = {"prompt": {"prompt_string": text, "multimodal_data": media}}
        else:
            body = {"prompt": prompt}
        options = {"n_predict": ANSWER, "temperature": 0, "return_tokens": True, "cache_prompt": False}
        return get("/completion", body | options)["tokens"]

    try:
        while True:
            try:
                marker = get("/props")["media_marker"]
                break
            except OSError:
                if server.poll() is not None:
                    raise SystemExit("llama-server did not start") from None
                time.sleep(0.2)
        yield answer
    finally:
        server.terminate()
        server.wait()


# ---- transformers


class Transformers:
    def __init__(self, checkpoint: Path):
        self.processor = make_processor(str(checkpoint))
        self.model = Qwen3_5ForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)

    def answer(self, prompt: str, sample: Sample, token_ids: list[int]) -> list[int]:
        """To the prompt whose tokens these are."""
        options: dict = dict(text=[bare_videos(prompt)], return_tensors="pt")
        if sample.picture is not None:
            options["images"] = [sample.picture]
        if sample.clip is not None:
            options["videos"] = [sample.clip]
            options["video_metadata"] = [VideoMetadata(total_num_frames=len(sample.clip), fps=2)]
        inputs = dict(self.processor(**options))
        assert inputs["input_ids"][0].tolist() == token_ids, "transformers reads another prompt"
        with torch.no_grad():
            out = self.model.generate(**inputs, do_sample=False, max_new_tokens=ANSWER)
        return out[0, inputs["input_ids"].shape[1] :].tolist()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=whole(1, MOST), default=500, help="prompts of each task")
    parser.add_argument("--tasks", nargs="+", default=ASKED, choices=ASKED, metavar="TASK")
    args = parser.parse_args(arguments)
    pairs = [
        (path, vision_of(path)) for path in (args.folder / f"tiny-{kind}.gguf" for kind in ("Q4_K_M", "bf16"))
    ]
    try:
        models = [load(path, mmproj=vision, threads=1) for path, vision in pairs]
    except (GGUFError, QwenRefError) as error:
        parser.error(str(error))
    encoder, transformers = Encoder(args.folder / "hf"), Transformers(args.folder / "hf")
    torch.set_num_threads(1)
    print(f"| {args.count} prompts each | llama.cpp, Q4_K_M | llama.cpp, BF16 | transformers, BF16 |")
    print("|---|---:|---:|---:|")
    with contextlib.ExitStack() as stack:
        llamas = [stack.enter_context(llama_server(*pair)) for pair in pairs]
        for row in args.tasks:
            margins: list[list[float | None]] = [[], [], []]
            for number in range(args.count):
                sample = held_out(row, number)
                asked = [read(model, sample) for model in models]
                logits = [ours(model, one) for model, one in zip(models, asked, strict=True)]
                prompt = encoder.prompt(sample, steps=False)
                if sample.clip is None:
                    for i, llama in enumerate(llamas):
                        margins[i].append(margin(logits[i], llama(prompt, sample)))
                theirs = transformers.answer(prompt, sample, list(asked[1].token_ids))
                margins[2].append(margin(logits[1], theirs))
            print(f"| {row} | {' | '.join(map(cell, margins))} |", flush=True)


def cell(margins: list[float | None]) -> str:
    """How many agree, and by how much the logits differed, at most, where the others part."""
    apart = [m for m in margins if m is not None]
    agree = f"{1 - len(apart) / len(margins):.1%}" if margins else "–"
    return f"{agree} ({max(apart):.2f})" if apart else agree


if __name__ == "__main__":
    main()
