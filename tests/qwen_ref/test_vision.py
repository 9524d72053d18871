"""The vision tower against what transformers computed in float64 (mmproj-tiny.npz); pictures in prompts."""

import io
import json
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_kernels import matrix

from gguf_io import GGUFError, open_gguf
from qwen_ref import QwenRefError, engine, load
from qwen_ref.cli import main
from qwen_ref.kernels import KERNELS
from qwen_ref.media.images import image_patches
from qwen_ref.media.media import Limits
from qwen_ref.media.patches import SIZES, cut_patches
from qwen_ref.media.video import read_video
from qwen_ref.model.layers import NUMPY
from qwen_ref.model.vision import VisionModel, merge_order, vision_rope_tables
from qwen_ref.model.vision_block import patch_embed
from qwen_ref.model.weights import GeluMlpWeights, VisionAttentionWeights
from qwen_ref.prompt import Span, mrope_positions


@pytest.fixture(scope="module")
def golden(fixtures):
    """A picture [224, 320, 3], a clip [4, 64, 96, 3], and what transformers says of them in one message."""
    return dict(np.load(fixtures / "mmproj-tiny.npz"))


@pytest.fixture(scope="module")
def model(fixtures):
    return load(fixtures / "tiny.gguf")  # its vision file lies beside it


def in_one_message(picture, clip):
    content = [
        {"type": "text", "text": "A picture"},
        {"type": "image", "image": picture},
        {"type": "text", "text": "and a clip"},
        {"type": "video", "video": clip},
        {"type": "text", "text": "of what?"},
    ]
    return [{"role": "user", "content": content}]


def answer(model, prompt, tokens=8, **options):
    """A greedy answer, and the logits [tokens, vocab] behind it."""
    logits, seen = type(model.text).logits, []

    def recorded(hidden):
        seen.append(logits(model.text, hidden))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.text, "logits", recorded)
        generation = model.generate(prompt, max_tokens=tokens, temperature=0, presence_penalty=0, **options)
        list(generation)
    return generation, np.concatenate(seen)


# Against transformers


@pytest.mark.parametrize(
    "dtype, layers, bound",
    [(np.float64, NUMPY, 1e-9), (np.float32, NUMPY, 1e-5), (np.float32, KERNELS, 1e-5)],
    ids=["float64", "float32", "kernels"],
)
def test_the_tower_sees_what_transformers_sees(fixtures, golden, dtype, layers, bound):
    """transformers' own float32 is 2e-6 away from its float64 (tests/oracle measures such things)."""
    vision = VisionModel(open_gguf(fixtures / "mmproj-tiny.gguf"), dtype, layers=layers)
    image, clip = image_patches(Image.fromarray(golden["image"])), read_video(golden["clip"])
    seen = (
        vision.encode(image.pixels, image.grid_thw),
        vision.encode(np.concatenate(list(clip.patches())), clip.grid_thw),
    )
    for tokens, expected in zip(seen, (golden["images"], golden["videos"]), strict=True):
        assert tokens.dtype == dtype and tokens.shape == expected.shape
        assert np.abs(tokens - expected).max() < bound


@pytest.mark.parametrize(
    "dtype, backend, tokens, bound",
    [(np.float64, "numpy", 8, 1e-9), (np.float32, "numpy", 8, 1e-4), (np.float32, "numba", 1, 2e-2)],
)
@pytest.mark.parametrize("prefill_block, patches", [(512, 1024), (40, 1)], ids=["whole", "in pieces"])
def test_the_answer_is_transformers(
    fixtures, golden, monkeypatch, dtype, backend, tokens, bound, prefill_block, patches
):
    """Also where the prompt is cut inside the picture, and each time step of the clip is seen alone."""
    monkeypatch.setattr(engine.sequence, "PREFILL_BLOCK", prefill_block)
    monkeypatch.setattr(engine.generation, "PATCHES", patches)
    model = load(fixtures / "tiny.gguf", dtype=dtype, backend=backend)
    generation, logits = answer(model, in_one_message(golden["image"], golden["clip"]), tokens)
    assert generation.prompt_ids == golden["token_ids"].tolist()
    assert generation.token_ids == golden["generated"][:tokens].tolist()
    assert np.abs(logits - golden["then"][:tokens]).max() < bound


# Layers


def patch_embed_window(frames, weight, bias):
    """The 3-D convolution as what it is: a window of 2 x 16 x 16 that slides by its own size.

    frames [3, T, H, W], weight [hidden, 3, 2, 16, 16], bias [hidden] -> [T/2, H/16, W/16, hidden].
    """
    _, _, t, p, _ = weight.shape
    _, T, H, W = frames.shape
    out = np.empty((T // t, H // p, W // p, len(weight)), frames.dtype)
    for i, j, k in np.ndindex(out.shape[:3]):
        window = frames[:, i * t : (i + 1) * t, j * p : (j + 1) * p, k * p : (k + 1) * p]  # [3, 2, 16, 16]
        out[i, j, k] = (weight * window).sum(axis=(1, 2, 3, 4)) + bias
    return out


def test_the_sliding_window_is_the_matrix_product():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 64, 96, 3), dtype=np.uint8)
    weight, bias = rng.standard_normal((5, 3, 2, 16, 16)), rng.standard_normal(5)
    window = patch_embed_window(frames.transpose(3, 0, 1, 2).astype(float), weight, bias)  # [2, 4, 6, 5]
    rows, columns = merge_order(4, 6, 2)
    values = np.tile(np.arange(256, dtype=np.float32), (3, 1))  # pixels stay as they are
    for pair in 0, 1:
        patches = cut_patches(frames[2 * pair : 2 * pair + 2], values, SIZES)
        np.testing.assert_allclose(patch_embed(patches, weight, bias), window[pair][rows, columns])


def test_a_large_image_builds_no_attention_matrix(fixtures):
    """1024 x 1024 pixels: 4096² scores would take 64 MiB for each head."""
    vision = VisionModel(open_gguf(fixtures / "mmproj-tiny.gguf"))
    patches = np.zeros((64 * 64, 3 * 2 * 16 * 16), np.float32)
    tracemalloc.start()
    vision.encode(patches, (1, 64, 64))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 << 20


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    grid=st.sampled_from([(1, 2, 2), (1, 2, 16), (3, 4, 2), (1, 6, 6), (2, 8, 10), (1, 18, 16)]),
    heads=st.integers(1, 3),
    head_dim=st.sampled_from([4, 8, 16, 64, 72]),
    kind=st.sampled_from(["F32", "F16", "BF16"]),
    sharpness=st.sampled_from([0.1, 1, 10]),
)
def test_kernels_equal_their_twins(seed, grid, heads, head_dim, kind, sharpness):
    """Their twins in float64: the sharper the attention, the more it makes of the last digit."""
    rng = np.random.default_rng(seed)
    (t, h, w), hidden, inner = grid, heads * head_dim, 2 * heads * head_dim + 16

    def linear(rows, columns):
        return matrix(kind, rows, columns, rng), rng.standard_normal(rows).astype(np.float32)

    def check(name, x, *arguments, bound=5e-6):
        exact = getattr(NUMPY, name)(x.astype(np.float64), *arguments)
        got = getattr(KERNELS, name)(x, *arguments)
        assert got.dtype == np.float32 and got.shape == exact.shape
        assert np.abs(got - exact).max() <= bound * np.abs(exact).max(), name

    x = rng.standard_normal((t * h * w, hidden)).astype(np.float32)
    weight, bias = rng.standard_normal((2, hidden)).astype(np.float32)
    check("layer_norm", 3 + 2 * x, weight, bias, 1e-6)
    for side in 2, 4:  # 24 numbers in a patch, which is no whole vector, and 96
        patches = rng.standard_normal((t * h * w, 3 * 2 * side**2)).astype(np.float32)
        check("patch_embed", patches, rng.standard_normal((hidden, 3, 2, side, side), np.float32), bias)
    x /= np.float32(hidden**0.5)  # products with weights are about 1
    cos, sin = vision_rope_tables(h, w, head_dim, 2, np.float32)
    w_attention = VisionAttentionWeights(*linear(3 * hidden, hidden), *linear(hidden, hidden))
    bound = 5e-6 * max(1, sharpness**2)
    check("vision_attention", np.float32(sharpness) * x, w_attention, cos, sin, heads, bound=bound)
    w_mlp = GeluMlpWeights(*linear(inner, hidden), *linear(hidden, inner))
    check("vision_mlp", x, w_mlp)
    check("merger", x, w_mlp)


# Prompts


def test_positions_of_text_a_picture_and_a_clip():
    """2 tokens, a picture of 2 x 3, 1 token, two time steps of 1 x 2 with 1 token before each, 1 token."""
    spans = [Span(2, 2, 3), Span(10, 1, 2), Span(13, 1, 2)]
    time = [0, 1, 2, 2, 2, 2, 2, 2, 5, 6, 7, 7, 9, 10, 10, 12]
    rows = [0, 1, 2, 2, 2, 3, 3, 3, 5, 6, 7, 7, 9, 10, 10, 12]
    columns = [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert mrope_positions(16, spans).tolist() == [time, rows, columns]


def test_a_picture_is_the_same_from_anywhere(model, golden, tmp_path):
    path, picture, file = tmp_path / "picture.png", Image.fromarray(golden["image"]), io.BytesIO()
    picture.save(path)
    picture.save(file, "PNG")
    part = {"type": "image", "image": golden["image"]}
    message = {"role": "user", "content": [part, {"type": "text", "text": "What?"}]}
    first, logits = answer(model, [message], 2)
    assert first.prompt_ids.count(model.tokenizer.ids["<|image_pad|>"]) == 7 * 10
    for source in path, str(path), file.getvalue(), picture, golden["image"]:
        again, same = answer(model, "What?", 2, images=[source])
        assert again.prompt_ids == first.prompt_ids and (same == logits).all()
    _, other = answer(model, "What?", 2, images=[golden["image"][::-1]])
    assert np.abs(other - logits).max() > 0.01


def test_a_spelled_placeholder_is_text(model, golden):
    prompt = model.encode_prompt("<|image_pad|> <|video_pad|>", images=[golden["image"]])
    assert [(span.rows, span.columns) for span in prompt.spans] == [(7, 10)]
    assert prompt.token_ids.count(model.tokenizer.ids["<|image_pad|>"]) == 70
    assert model.tokenizer.ids["<|video_pad|>"] not in prompt.token_ids


def test_command_line(fixtures, model, golden, tmp_path, capsys):
    """Two pictures and a folder of frames, in this order."""
    pictures = [tmp_path / "1.png", tmp_path / "2.png"]
    for path in pictures:
        Image.fromarray(golden["image"]).save(path)
    clip = tmp_path / "clip"
    clip.mkdir()
    for n, frame in enumerate(golden["clip"]):
        Image.fromarray(frame).save(clip / f"{n}.png")
    options = ["--image", pictures[0], "--video", clip, "--image", pictures[1], "--max-image-tokens", "20"]
    command = ["generate", "--model", fixtures / "tiny.gguf", *options]
    command += ["--frame-times", "0,1,2,4.5", "--prompt", "What?", "--seed", "1", "-n", "4", "--json"]
    assert main([*map(str, command)]) == 0
    told, warned = capsys.readouterr()
    limits = Limits(max_image_tokens=20)
    clips = [{"video": clip, "times": [0, 1, 2, 4.5]}]
    expected = model.generate("What?", images=pictures, videos=clips, limits=limits, seed=1, max_tokens=4)
    list(expected)
    report = json.loads(told)
    assert report["prompt_token_ids"] == expected.prompt_ids and report["token_ids"] == expected.token_ids
    assert expected.prompt_ids.count(model.tokenizer.ids["<|image_pad|>"]) == 2 * 3 * 5 and warned == ""


def test_a_picture_is_shown_on_a_terminal_and_named_elsewhere(fixtures, tmp_path, terminal, capsys):
    picture = tmp_path / "1.png"
    Image.new("RGB", (4, 4), (255, 128, 0)).save(picture)
    command = ["generate", "--model", str(fixtures / "tiny.gguf"), "--prompt", "x"]
    command += ["-n", "2", "--seed", "1", "--image", str(picture), "--show"]
    assert main(command) == 0
    text, told = capsys.readouterr()
    assert told == f"{picture}\n" and "\033" not in text
    stdout, written = terminal
    environment = os.environ | {"TERM": "xterm", "NO_COLOR": ""}
    program = [sys.executable, "-m", "qwen_ref", *command]
    on_terminal = subprocess.run(program, stdout=stdout, stderr=subprocess.PIPE, env=environment)
    assert written().startswith(b"\033[38;2;255;128;0m") and on_terminal.stderr == b""


@pytest.mark.parametrize(
    "name, options, prompt, words",
    [
        ("tiny-wide", {}, dict(images=1), "images need one vision file"),
        ("tiny-wide", dict(mmproj="mmproj-tiny.gguf"), {}, "projection_dim: 64 does not fit .* size is 256"),
        ("tiny", dict(mmproj="tiny-wide.gguf"), {}, "'qwen35', not a vision file"),
        ("tiny", dict(mmproj="none.gguf"), {}, "none.gguf: cannot be opened: No such file"),
        ("tiny", dict(context=60), dict(images=1), "the prompt: 9[0-9] tokens leave no room .* of 60"),
        ("tiny", {}, dict(images=1, raw=True), "raw"),
        ("tiny", {}, dict(images=1, prompt=[{"role": "user", "content": "x"}]), "images: with chat messages"),
        ("tiny", {}, dict(prompt=[{"role": "user", "content": [{"type": "video"}]}]), "holds no 'video'"),
    ],
)
def test_pictures_that_cannot_be_seen(fixtures, golden, name, options, prompt, words):
    if "mmproj" in options:
        options = {"mmproj": fixtures / options["mmproj"]}
    prompt = {"prompt": "What?"} | prompt
    if "images" in prompt:
        prompt["images"] = [golden["image"]]
    with pytest.raises((QwenRefError, GGUFError), match=words) as error:
        load(fixtures / f"{name}.gguf", **options).generate(**prompt)
    assert "\n" not in str(error.value)
