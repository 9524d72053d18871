"""Pictures and clips among text, against transformers: prompt, positions, vision tower, logits and answer.

Run with -s to see each distance. The bounds are those of test_logits.py: float64 within 1e-9 of transformers'
float64; float32, and the kernels of the vision tower, at most twice as far from it as transformers' float32.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass

import make
import numpy as np
import pytest
from PIL import Image

from gguf_io import open_gguf
from qwen_ref import engine
from qwen_ref.kernels import KERNELS
from qwen_ref.model.vision import VisionModel
from qwen_ref.prompt import mrope_positions

MODELS = [dict(size=size, seed=seed, tiny_vocab=True) for size in ("mini", "mini-grouped") for seed in (0, 1)]
if os.environ.get("QWEN_REF_FULL"):
    MODELS += [dict(size="0.8B", seed=seed) for seed in (0, 1)]
pytestmark = pytest.mark.parametrize(
    "model", MODELS, indirect=True, ids=lambda m: f"{m['size']}-{m['seed']}", scope="module"
)


def image(seed, height, width):
    return {"type": "image", "seed": seed, "size": (height, width)}


def video(seed, frames, height, width):
    """2 frames of 24 a second are looked at. Sides are multiples of 32: transformers is not to resize."""
    return {"type": "video", "seed": seed, "size": (frames, height, width)}


def text(words):
    return {"type": "text", "text": words}


CASES = {
    "image": [image(0, 200, 296), text("What is this?")],
    # 550 tokens: the prompt is cut inside the last one
    "three images": [image(1, 104, 400), image(2, 400, 480), image(3, 512, 504), text("Compare them.")],
    "between texts": [text("Look at this,\n"), image(4, 320, 224), text(" and tell me what you see.")],
    "video": [video(5, 60, 64, 96), text("What happens?")],  # 5 frames: the last is its own partner
    "image and video": [
        video(6, 40, 96, 64),
        text("is the clip of"),
        image(7, 256, 256),
        text("or of"),
        video(8, 36, 32, 160),
    ],
}


@dataclass(frozen=True)
class Seen:
    """What transformers makes of one case, in both precisions, and what we do, in both and with kernels."""

    name: str
    float64: dict
    float32: dict
    ours64: dict
    ours32: dict
    kernels: dict


@pytest.fixture(scope="module")
def contents(tmp_path_factory) -> dict[str, list[dict]]:
    """CASES with files in the place of sizes."""
    out = tmp_path_factory.mktemp("media")

    def with_file(part):
        if part["type"] == "text":
            return part
        pixels = make.blocks(*part["size"], seed=part["seed"])
        path = out / f"{part['seed']}.{'png' if part['type'] == 'image' else 'npy'}"
        Image.fromarray(pixels).save(path) if part["type"] == "image" else np.save(path, pixels)
        return {"type": part["type"], part["type"]: path}

    return {name: [with_file(part) for part in parts] for name, parts in CASES.items()}


def towers_view(vision: VisionModel, media) -> dict[str, np.ndarray]:
    """What the vision tower makes of pictures and clips, as transformers_vision.py writes it."""
    kinds = {"image": "images", "video": "videos"}
    view = {name: [] for name in kinds.values()}
    for m in media:
        view[kinds[m.shape.kind]].append(vision.encode(np.concatenate(list(m.patches(None))), m.grid_thw))
    return {name: np.concatenate(tokens) for name, tokens in view.items() if tokens}


def run(model: engine.Model, content: list[dict], tokens: int) -> dict:
    """Our side of one case: the logits are of the hidden states that the engine asks for on its way."""
    parts = [part | {"video": np.load(part["video"])} if "video" in part else part for part in content]
    prompt = model.encode_prompt([{"role": "user", "content": parts}])
    hidden, forward = [], type(model.text).forward

    def recorded(*args):
        hidden.append(forward(model.text, *args))
        return hidden[-1]

    model.text.forward = recorded
    generation = model.generate(prompt, temperature=0, presence_penalty=0, max_tokens=tokens)
    list(generation)
    del model.text.forward
    hidden, n = np.concatenate(hidden), len(prompt.token_ids)
    return towers_view(model.vision, prompt.media) | {
        "prompt": prompt,
        "ends": model.tokenizer.eos_ids,
        "logits": model.text.logits(hidden[:n][::-4][::-1]),
        "generated": generation.token_ids,
        "then": model.text.logits(hidden[n - 1 :]),
    }


@pytest.fixture(scope="module")
def cases(model, mmproj, contents, tmp_path_factory) -> dict[str, Seen]:
    f32, scratch = model.f32, tmp_path_factory.mktemp("vision")
    theirs = [
        make.transformers_vision(model.checkpoint, f32, contents, scratch, dtype, True)
        for dtype in ("float64", "float32")
    ]

    def side(dtype, tokens):
        loaded = engine.load(f32, dtype=dtype, backend="numpy", memory_budget=8 << 30, mmproj=mmproj)
        return {name: run(loaded, content, tokens) for name, content in contents.items()}

    ours = [side(np.float64, 8), side(np.float32, 1)]
    fast = VisionModel(open_gguf(mmproj), layers=KERNELS)
    kernels = {name: towers_view(fast, ours[0][name]["prompt"].media) for name in contents}
    return {name: Seen(name, *(seen[name] for seen in (*theirs, *ours, kernels))) for name in contents}


@pytest.fixture(params=CASES)
def case(request, cases) -> Seen:
    return cases[request.param]


def distance(a, b) -> float:
    assert a.shape == b.shape
    return float(np.abs(a - b).max())


def test_prompts(case):
    """The processor's token ids, and its pixels bit for bit."""
    prompt, theirs = case.ours64["prompt"], case.float64
    assert prompt.token_ids == theirs["token_ids"].tolist()
    for kind, pixels, grids in (
        ("image", "pixel_values", "image_grid_thw"),
        ("video", "pixel_values_videos", "video_grid_thw"),
    ):
        media = [m for m in prompt.media if m.shape.kind == kind]
        assert [list(m.grid_thw) for m in media] == theirs.get(grids, np.empty((0, 3))).tolist()
        if media:
            patches = np.concatenate([patch for m in media for patch in m.patches(None)])
            np.testing.assert_array_equal(patches, theirs[pixels])


def test_positions(case):
    prompt, theirs = case.ours64["prompt"], case.float64
    n = len(prompt.token_ids)
    positions = mrope_positions(n + 1, prompt.spans)
    np.testing.assert_array_equal(positions[:, :n], theirs["positions"])
    assert theirs["delta"] < 0 and (positions[:, n] == n + theirs["delta"]).all()


def test_vision_tower(case, model):
    for what in {"images", "videos"} & set(case.float64):
        exact = case.float64[what]
        assert exact.std() > 0.3
        theirs = distance(case.float32[what], exact)
        ours64, ours32, kernels = (
            distance(side[what], exact) for side in (case.ours64, case.ours32, case.kernels)
        )
        print(
            f"\n{model.name} {case.name}, {what}: float64 {ours64:.1e}, float32 ours {ours32:.1e}, "
            f"kernels {kernels:.1e}, transformers' {theirs:.1e}, std {exact.std():.2f}"
        )
        assert ours64 < 1e-9
        assert max(ours32, kernels) <= 2 * theirs


def test_logits(case, model):
    exact = case.float64["logits"]
    theirs = distance(case.float32["logits"], exact)
    ours64, ours32 = distance(case.ours64["logits"], exact), distance(case.ours32["logits"], exact)
    print(
        f"\n{model.name} {case.name}, logits: float64 {ours64:.1e}, float32 ours {ours32:.1e}, "
        f"transformers' {theirs:.1e}, std {exact.std():.2f}, {len(case.ours64['prompt'].token_ids)} tokens"
    )
    assert ours64 < 1e-9
    assert ours32 <= 2 * theirs


def test_answers(case):
    """What follows the media: greedy tokens, and the logits behind them at positions that media moved."""
    ours, theirs = case.ours64, case.float64
    until_end = itertools.takewhile(lambda token: token not in ours["ends"], theirs["generated"].tolist())
    assert ours["generated"] == list(until_end)
    assert distance(ours["then"], theirs["then"][: len(ours["then"])]) < 1e-9
