"""What is measured: by clocks that tick as these tests say."""

import json
import xml.etree.ElementTree as ET

import numba
import numpy as np
import pytest

from gguf_io import open_gguf
from qwen_ref import engine, load, profile
from qwen_ref.cli import main
from qwen_ref.kernels import bandwidth
from qwen_ref.media.media import Limits
from qwen_ref.model import vision_block
from qwen_ref.model.layers import replaced
from qwen_ref.model.text import TextModel
from qwen_ref.model.vision import VisionModel, vision_work

SVG = "{http://www.w3.org/2000/svg}"


class Clock:
    """Each look at it is so many seconds after the one before."""

    def __init__(self, *seconds):
        self.seconds, self.now = iter(seconds), 0.0

    def perf_counter(self):
        self.now += next(self.seconds, 1.0)
        return self.now


# ---- how long an answer will take


def test_seconds_until_an_answer(fixtures, monkeypatch):
    """A second for the piece of work that is tried makes so many for all."""
    model = load(fixtures / "tiny.gguf", backend="numpy")
    monkeypatch.setattr(engine.model, "time", Clock())
    short, long = (model.encode_prompt("x" * n, raw=True) for n in (20, 200))
    assert len(short.token_ids) == 20 and len(long.token_ids) == 200
    assert model.seconds_until_answer(short) == pytest.approx(1)
    assert model.seconds_until_answer(long) == pytest.approx(200 / 64)
    images = [np.zeros(size, np.uint8) for size in ((64, 96, 3), (320, 64, 3))]
    seen = model.encode_prompt("x", images=images, limits=Limits(max_image_tokens=30))
    config = model.vision.config
    work = sum(sum(vision_work(config, m.grid_thw)) for m in seen.media)
    work /= sum(vision_work(config, (1, 16, 16)))
    assert model.seconds_until_answer(seen) == pytest.approx(max(1, len(seen.token_ids) / 64) + work)


def test_the_tower_s_work_is_its_multiplications(fixtures, monkeypatch):
    count = [0, 0]

    def linear(x, weight, real=vision_block.linear):
        count[0] += len(x) * weight.shape[0] * weight.shape[1]
        return real(x, weight)

    def attention(q, k, v, real=vision_block.full_attention):
        count[1] += 2 * len(q) * k.size  # scores, and the mean of the values
        return real(q, k, v)

    monkeypatch.setattr(vision_block, "linear", linear)
    monkeypatch.setattr(vision_block, "full_attention", attention)
    vision = VisionModel(open_gguf(fixtures / "mmproj-tiny.gguf"))
    for t, h, w in (1, 4, 6), (3, 2, 8):
        count[:] = 0, 0
        vision.encode(np.zeros((t * h * w, 3 * 2 * 16 * 16), np.float32), (t, h, w))
        assert vision_work(vision.config, (t, h, w)) == tuple(count)


def test_warming_up_leaves_the_threads_as_they_were(fixtures):
    model = load(fixtures / "tiny.gguf")
    before = numba.get_num_threads()
    try:
        for threads in sorted({1, min(2, before)}):
            numba.set_num_threads(threads)
            model.warm_up()
            assert numba.get_num_threads() == threads
    finally:
        numba.set_num_threads(before)


# ---- the profile of a token


def test_the_bytes_of_a_token(fixtures):
    """Each matrix once, but of the embedding one row; DeltaNet's state is read and written."""
    file = open_gguf(fixtures / "tiny-wide.gguf")
    found = profile.part_bytes(TextModel(file))
    size = {name: tensor.nbytes for name, tensor in file.tensors.items() if len(tensor.shape) == 2}

    def of(*endings):
        return sum(n for name, n in size.items() if name.startswith("blk") and name.endswith(endings))

    c = TextModel(file).config
    state = 4 * c.linear_num_value_heads * c.linear_key_head_dim * c.linear_value_head_dim
    assert found == {
        "attention": of("attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight"),
        "deltanet": of(
            *(f"{name}.weight" for name in ("attn_qkv", "attn_gate", "ssm_alpha", "ssm_beta", "ssm_out"))
        )
        + 3 * 2 * state,
        "mlp": of("ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"),
        "lm_head": size.get("output.weight", size["token_embd.weight"]),
    }


def test_the_first_three_tokens_do_not_count(fixtures, monkeypatch):
    network = TextModel(open_gguf(fixtures / "tiny.gguf"))
    plain = network.layers
    looks = 2 + 2 * (9 + 4 + 4 + 1)  # a token, norms, mixers, MLPs, the output matrix
    monkeypatch.setattr(profile, "time", Clock(*[100.0] * 3 * looks, *[0.5] * looks, *[1.5] * looks))
    found = profile.profile_decode(network, [1, 2, 3, 4, 5])
    parts = found["parts"]
    assert network.layers is plain and found["bandwidth"] is None
    assert {name: part["seconds"] for name, part in parts.items() if name != "the rest"} == {
        **{"rms_norm": 9, "attention": 1, "deltanet": 3, "mlp": 4, "lm_head": 1, "total": looks - 1}
    }
    assert parts["the rest"] == {"seconds": looks - 1 - 18, "bytes": 0}
    assert parts["total"]["bytes"] == sum(profile.part_bytes(network).values())


def test_the_table_of_a_token(fixtures, monkeypatch):
    """Milliseconds, shares, MiB, GB/s and a bar of 30; below it what the memory could do."""
    network = TextModel(open_gguf(fixtures / "tiny.gguf"))
    network.layers = replaced(network.layers)
    network.layers.name = "numba"
    sizes = {"attention": 1 << 20, "deltanet": 2 << 20, "mlp": 3 << 20, "lm_head": 4 << 20}
    monkeypatch.setattr(profile, "part_bytes", lambda network: sizes)
    monkeypatch.setattr(profile, "read_bandwidth", lambda: 2e9)
    monkeypatch.setattr(profile, "time", Clock(*[0.001] * 4 * 38))
    found = profile.profile_decode(network, [1, 2, 3, 4])
    assert (
        found["bandwidth"] == 2e9
        and found["table"]
        == """\
part                  ms   share     MiB    GB/s
output matrix       1.00    2.7%     4.0     4.2  █
mlp                 4.00   10.8%     3.0     0.8  ███
deltanet            3.00    8.1%     2.0     0.7  ██
attention           1.00    2.7%     1.0     1.0  █
norms               9.00   24.3%     0.0          ███████
the rest           19.00   51.4%     0.0          ███████████████
a token            37.00  100.0%    10.0     0.3\x20\x20
the memory reads at 2.0 GB/s: a token could take 5.24 ms (190.7 t/s), and 14% of that speed is reached"""
    )


def test_the_memory_s_rate_is_the_best_of_seven(monkeypatch):
    monkeypatch.setattr(profile, "READ_BYTES", 1 << 20)
    read = []
    monkeypatch.setattr(bandwidth, "sum_all", lambda data: read.append((data.nbytes, data.sum())))
    monkeypatch.setattr(profile, "time", Clock(*[1, 9, 1, 0.5, 1, 0.25, 1, 2]))
    assert profile.read_bandwidth() == 4 * profile.READ_BYTES
    assert read == [(1 << 20, 1 << 18)] * 8  # the first one is not measured, but brings it into memory


def test_a_picture_of_a_profile():
    """A bar for each part, and as much of it dark as its bytes must take: never more than all of it."""
    seconds = dict.fromkeys(profile.ORDER, 0.5) | {"total": 3.0, "mlp": 1.0}
    parts = {name: {"seconds": s, "bytes": 0} for name, s in seconds.items()}
    parts["mlp"]["bytes"], parts["lm_head"]["bytes"] = 50 << 20, 400 << 20
    drawn = profile.draw_profile({"parts": parts, "bandwidth": float(100 << 20)}, "a < b")
    svg = ET.fromstring(drawn)
    bars = [(r.get("fill"), float(r.get("width"))) for r in list(svg.iter(SVG + "rect"))[1:]]
    wide = dict(zip(profile.ORDER, (width for fill, width in bars if fill == "#f2b88b")))
    dark = dict(zip(profile.ORDER, (width for fill, width in bars if fill == "#31688e")))
    assert wide["total"] == 460 and wide["mlp"] == pytest.approx(460 / 3, abs=0.1)
    assert dark["mlp"] == pytest.approx(wide["mlp"] / 2, abs=0.1) and dark["lm_head"] == wide["lm_head"]
    assert dark["the rest"] == 0 and svg.get("viewBox") == "0 0 760 300"
    rows = [(float(r.get("x")), float(r.get("y"))) for r in list(svg.iter(SVG + "rect"))[1:]]
    assert rows == [(130, 45 + 30 * (i // 2)) for i in range(14)]
    texts = [((t.get("x"), t.get("y")), t.text) for t in svg.iter(SVG + "text")]
    assert texts[0] == (("10", "26"), "a < b")
    note = "dark: reading the bytes at the 0.1 GB/s that this memory was measured to give"
    assert texts[-1] == (("10", "280"), note)
    assert texts[1::2][:7] == [
        (("120", f"{60 + 30 * i}"), profile.LABELS.get(name, name)) for i, name in enumerate(profile.ORDER)
    ]
    assert [text for _, text in texts[2::2]] == [
        *["500.00 ms, 400 MiB", "1000.00 ms, 50 MiB", *["500.00 ms"] * 4, "3000.00 ms"]
    ]
    assert [place for place, _ in texts[2::2]] == [
        (f"{138 + 460 * seconds[name] / 3:.1f}", f"{60 + 30 * i}") for i, name in enumerate(profile.ORDER)
    ]
    without = profile.draw_profile({"parts": parts, "bandwidth": None}, "x")
    assert "dark" not in without and "1000.00 ms, 50 MiB" in without and without.count('width="0.0"') == 7


# ---- bench


def rows(capsys, *options):
    assert main(["bench", "--no-start", "--output", "json", *map(str, options)]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_is_measured_unless_something_is_asked_for(fixtures, capsys, monkeypatch):
    def forward(self, x, state, positions):
        state.advance(len(x), positions)
        return np.zeros((len(x), 64), np.float32)

    monkeypatch.setattr(TextModel, "forward", forward)
    monkeypatch.setattr(TextModel, "logits", lambda self, hidden: hidden)
    prefill, decode = rows(capsys, "-m", fixtures / "tiny.gguf")
    assert (prefill["test"], decode["test"], prefill["backend"]) == ("pp512", "tg128", "numba")
    assert len(prefill["rates"]) == len(decode["rates"]) == 5
    assert sorted(decode["rates"])[2] == decode["tokens_per_second"]


def test_each_repetition_begins_where_the_depth_ends(fixtures, capsys, monkeypatch):
    begun, real = [], TextModel.forward
    monkeypatch.setattr(
        TextModel,
        "forward",
        lambda self, x, state, *p: begun.append((len(x), state.num_tokens)) or real(self, x, state, *p),
    )
    options = "-p", 3, "-n", 2, "-r", 2, "-d", 0, "-d", 7, "--backend", "numpy"
    found = rows(capsys, "-m", fixtures / "tiny.gguf", *options)
    assert [row["test"] for row in found] == ["pp3", "tg2", "pp3 @ d7", "tg2 @ d7"]
    assert all(len(row["rates"]) == 2 for row in found)  # the first one warms up
    nothing, deep = ([(3, d)] * 3 + [(1, d), (1, d + 1)] * 3 for d in (0, 7))
    assert begun == [*nothing, (7, 0), *deep]


def test_several_sequences_at_once(fixtures, capsys, monkeypatch):
    """Each begins where the depth ends, the tokens of all count, and so do the states that a step moves."""
    steps, real = [], engine.step

    def step(text, some):
        steps.append([one.state.num_tokens for one in some])
        return real(text, some)

    monkeypatch.setattr(engine, "step", step)
    options = "-p", 0, "-n", 2, "-r", 1, "-d", 7, "--parallel", 1, "--parallel", 3
    alone, three = rows(capsys, "-m", fixtures / "tiny.gguf", *options)
    assert (alone["test"], alone["parallel"]) == ("tg2 @ d7", 1) and (three["test"], three["parallel"]) == (
        "tg2 @ d7",
        3,
    )
    assert steps == [[0], *[[7], [8]] * 2, *[[7] * 3, [8] * 3] * 2]
    text = TextModel(open_gguf(fixtures / "tiny.gguf"))
    for row, n in (alone, 1), (three, 3):
        step_bytes = sum(profile.part_bytes(text, n).values())
        assert row["bytes_per_second"] == pytest.approx(step_bytes * row["tokens_per_second"] / n)
        assert row["reading_bytes_per_second"] > 0
    one, several = (profile.part_bytes(text, n) for n in (1, 3))
    state = 4 * text.config.linear_key_head_dim * text.config.value_dim
    assert several.pop("deltanet") - one.pop("deltanet") == 2 * 2 * 3 * state and several == one
    assert (
        main(["bench", "--parallel", "0"]) == 2 and "--parallel must be at least 1" in capsys.readouterr().err
    )
