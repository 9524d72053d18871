"""Goldens: exact, the same each time, and mistakes that are planted in a model are found where they are."""

import contextlib
import io
import json
import math
import os
import re
import sys
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from gguf_io import open_gguf
from qwen_ref import QwenRefError
from qwen_ref.cli import golden as cli
from qwen_ref.cli import main
from qwen_ref.config import read_config
from qwen_ref.model import attention, deltanet, rope
from qwen_ref.model.text import TextModel
from qwen_ref.model.trace import tap, watching
from qwen_ref.oracle import check, golden, names, page
from qwen_ref.oracle.arithmetic import to_bfloat16
from qwen_ref.oracle.causes.positions import contiguous
from qwen_ref.oracle.compare import compare, from_tiled
from qwen_ref.oracle.record import canonical, embed, inputs_of, provenance, record, rms, run
from qwen_ref.prompt import Prompt, Span

FIXTURES = Path(__file__).parents[1] / "fixtures"
FILE = open_gguf(FIXTURES / "tiny-grouped.gguf")
IDS = np.random.default_rng(0).integers(0, 1000, 70)
# A picture of 6 x 8 tokens among the text: rows and columns differ from the time.
PROMPT = Prompt(IDS.tolist(), spans=[Span(5, 6, 8)])
SMALL_KEYS = 1e-4


def open_model(dtype):
    """The model, with keys so small in the first layer that an eps is seen."""
    model = TextModel(FILE, dtype)
    config = model.config
    model.weights.layers[0].mixer.conv[:, config.key_dim : 2 * config.key_dim] *= dtype(SMALL_KEYS)
    return SimpleNamespace(text=model)


@pytest.fixture(scope="module")
def truth():
    return record(open_model, PROMPT, provenance(FILE.path, PROMPT))


ROUNDING = {"float32": lambda name, x: x, "bfloat16": to_bfloat16}
ROUND = to_bfloat16


def dump(model, convert=canonical):
    """What an engine would dump: here the model itself, rounded."""
    found = {}

    def watch(name, x):
        x = ROUND(name, x)
        found[name] = convert(name, x, model.text.config)
        return x

    _, hidden = run(model, PROMPT, watch)
    with watching(watch):
        model.text.logits(hidden)
    return {name: x for name, x in found.items() if not name.startswith("rope.")}  # few engines show these


@pytest.mark.parametrize("allowed", ["float32", "bfloat16"])
def test_no_false_alarm(truth, monkeypatch, allowed):
    monkeypatch.setattr(sys.modules[__name__], "ROUND", ROUNDING[allowed])
    found = dump(open_model(np.float32))
    report = compare(truth, found, allowed)
    assert report.first is None and report.cause is None
    missing = [name for name in report.missing if not name.startswith("mtp.")]
    assert missing == ["rope.angle", "rope.cos", "rope.sin"]
    assert report.logits["same best token"] > 0.9
    stricter = compare(truth, found, "float64")
    assert stricter.first is not None and stricter.cause is None


# ---- each mistake that engines make, planted


def no_plus_one(monkeypatch, model):
    model.text.weights.layers[2].post_attention_norm[:] -= 1
    return dump(model)


def swapped(monkeypatch, model):
    def linear(x, weight, real=attention.linear):
        y = real(x, weight)
        if weight is model.text.weights.layers[3].mixer.q_proj:
            y = y.reshape(len(x), -1, 2, model.text.config.head_dim)[:, :, ::-1].reshape(y.shape)
        return y

    monkeypatch.setattr(attention, "linear", linear)
    return dump(model)


def halved(monkeypatch, model):
    def linear(x, weight, real=attention.linear):
        y = real(x, weight)
        if weight is model.text.weights.layers[3].mixer.q_proj:
            y = y.reshape(len(x), 2, -1, model.text.config.head_dim).swapaxes(1, 2).reshape(y.shape)
        return y

    monkeypatch.setattr(attention, "linear", linear)
    return dump(model)


def tiled(monkeypatch, model):
    return dump(
        model, convert=lambda name, x, config: x if "linear_attn" in name else canonical(name, x, config)
    )


def repeated_keys(monkeypatch, model):
    class Numpy:
        tile = staticmethod(lambda x, times: np.repeat(x, times[1], 1))

        def __getattr__(self, name):
            return getattr(np, name)

    monkeypatch.setattr(deltanet, "np", Numpy())
    return dump(model)


def state_transposed(monkeypatch, model):
    found = dump(model)
    return found | {n: x.swapaxes(1, 2) for n, x in found.items() if n.endswith("state")}


def contiguous_rope(monkeypatch, model):
    _, radians = rope.frequencies(model.text.config)
    monkeypatch.setattr(rope, "frequencies", lambda config: (contiguous(config), radians))
    return dump(model)


def flat_rope(monkeypatch, model):
    axis, radians = rope.frequencies(model.text.config)
    monkeypatch.setattr(rope, "frequencies", lambda config: (np.zeros_like(axis), radians))
    return dump(model)


def eps_outside(monkeypatch, model):
    def l2_norm(x):
        return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), x.dtype.type(1e-6))

    monkeypatch.setattr(deltanet, "l2_norm", l2_norm)
    return dump(model)


def state_lost(monkeypatch, model):
    def chunked(q, k, v, g, beta, state, real=deltanet.gated_delta_chunked):
        parts = [real(*(x[i : i + 64] for x in (q, k, v, g, beta)), state) for i in range(0, len(q), 64)]
        return np.concatenate([o for o, _ in parts]), parts[-1][1]

    monkeypatch.setattr(deltanet, "gated_delta_chunked", chunked)
    return dump(model)


MISTAKES = {
    no_plus_one: ("layers.2.post_attention_layernorm", "the norm has another weight"),
    swapped: ("layers.3.self_attn.q_proj", "query and gate are swapped"),
    halved: ("layers.3.self_attn.q_proj", "q_proj is split into halves"),
    tiled: ("layers.0.linear_attn.in_proj_qkv", "V heads stand in GGUF's tiled order"),
    repeated_keys: ("layers.0.linear_attn.o", "V heads read the wrong K heads"),
    state_transposed: ("layers.0.linear_attn.state", "the state is transposed"),
    contiguous_rope: ("layers.3.self_attn.q_rope", "RoPE's sections are contiguous"),
    flat_rope: ("layers.3.self_attn.q_rope", "RoPE knows only one coordinate"),
    eps_outside: ("layers.0.linear_attn.k_norm", "the l2-norm has its eps in another place"),
    state_lost: ("layers.0.linear_attn.o", "wrong from a chunk's boundary on"),
}


# In bfloat16 a tiny model of random weights is 4 % away when layer 3 begins, more than pictures turn by.
VISIBLE = [(m, "float32") for m in MISTAKES] + [
    (m, "bfloat16") for m in MISTAKES if m not in (contiguous_rope, flat_rope)
]


@pytest.mark.parametrize("mistake, arithmetic", VISIBLE, ids=lambda x: getattr(x, "__name__", x))
def test_a_planted_mistake_is_found_and_named(truth, monkeypatch, mistake, arithmetic):
    tensor, cause = MISTAKES[mistake]
    monkeypatch.setattr(sys.modules[__name__], "ROUND", ROUNDING[arithmetic])
    report = compare(truth, mistake(monkeypatch, open_model(np.float32)), arithmetic)
    assert report.first.name == tensor
    assert report.cause.startswith(cause)


def test_heads_in_ggufs_order_are_converted(truth, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROUND", ROUNDING["float32"])
    found = tiled(monkeypatch, open_model(np.float32))
    assert compare(truth, found).first is not None
    converted = from_tiled(truth, found)
    assert compare(truth, converted).complaint is None and converted.keys() == found.keys()


def test_canonical_as_its_docstring_and_the_page_have_it():
    """Head by head, in both directions; anything that NumPy or DLPack can read; what cannot be is refused."""
    c = read_config(FILE)
    H_k, H_v, K, V = 2, 4, c.linear_key_head_dim, c.linear_value_head_dim
    assert (c.linear_num_key_heads, c.linear_num_value_heads) == (H_k, H_v)
    G = H_v // H_k
    for tiled_head in range(H_v):
        grouped = (tiled_head % H_k) * G + tiled_head // H_k
        assert tiled_head == (grouped % G) * H_k + grouped // G
        for last, shape, axis in (("g", (5, H_v), 1), ("o", (5, H_v, V), 1), ("state", (H_v, K, V), 0)):
            x = np.random.default_rng(0).normal(size=shape)
            found = canonical(f"layers.0.linear_attn.{last}", x, c)
            assert (found.take(grouped, axis) == x.take(tiled_head, axis)).all()
        x = np.random.default_rng(0).normal(size=(5, 2 * H_k * K + H_v * V))
        found = canonical("layers.0.linear_attn.conv1d", x, c)
        start = 2 * H_k * K
        ours, theirs = start + grouped * V, start + tiled_head * V
        assert (found[:, ours : ours + V] == x[:, theirs : theirs + V]).all()
        assert (found[:, :start] == x[:, :start]).all()
    x = np.random.default_rng(0).normal(size=(2, 5, 6))  # [H / H_kv, T, S]
    assert (canonical("layers.3.self_attn.weights.1", x, c) == x.transpose(1, 0, 2)).all()
    assert canonical("layers.3.self_attn.q_proj", [[1.0]], c).tolist() == [[1.0]]
    for name, shape, sentence in (
        ("layers.3.self_attn.weights.1", (2, 5), "should be (H / H_kv, T, S)"),
        ("layers.0.linear_attn.o", (5, H_v * V), "should have 4 V heads in dimension 1"),
        ("layers.0.linear_attn.state", (), "should have 4 V heads in dimension 0"),
        ("layers.0.linear_attn.in_proj_qkv", (5, 7), f"should be (T, {c.conv_channels})"),
    ):
        with pytest.raises(QwenRefError, match=re.escape(f"{name}: shape {shape} {sentence}")):
            canonical(name, np.zeros(shape), c)


# ---- names


def test_the_page_lists_all_names(truth):
    lists = names.ENDS, names.LAYER, names.ATTENTION, names.DELTANET
    vision = names.VISION, names.VISION_BLOCK, names.MERGER
    page = (FIXTURES.parents[1] / "docs" / "golden.md").read_text(encoding="utf-8")
    for name in chain(*lists, names.MTP, *vision):
        theirs = name.transformers or "the module itself", name.ggml or "-"
        assert f"| `{name.ours}` | {theirs[0]} | {theirs[1]} | {name.rows} |" in page
    known = {name.ours for name in chain(*lists)}
    inside = {re.sub(r"weights\.\d+", "weights.N", name) for name in truth.entries}
    assert {names.PATH.sub("", name) for name in inside if not name.startswith("mtp.")} == known
    of_mtp = {name.ours for name in (*names.LAYER, *names.ATTENTION, *names.MTP)}
    assert {name for name in inside if name.startswith("mtp.")} == {
        f"mtp.{path}{name}"
        for path in ("", "draft.")
        for name in {*of_mtp, "rope.angle", "rope.cos", "rope.sin"}
        if path + name != "draft.self_attn.weights.N"
    }


# ---- files


def test_recorded_twice_it_has_the_same_bytes(truth, tmp_path):
    golden.save(truth, tmp_path / "a.safetensors")
    again = record(open_model, PROMPT, provenance(FILE.path, PROMPT))
    golden.save(again, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    loaded = golden.load(tmp_path / "a.safetensors")
    assert loaded.entries == truth.entries and loaded.config == truth.config
    assert all((loaded.values[name] == x).all() for name, x in truth.values.items())


def test_what_is_kept_is_chosen():
    some = record(open_model, PROMPT, {}, names=["layers.1.*.o", "logits"], rows=3, columns=10)
    assert list(some.entries) == ["layers.1.linear_attn.o", "logits"]
    assert some.entries["logits"].rows == [0, 34, 69] and some.values["logits"].shape == (3, 10)
    with pytest.raises(QwenRefError, match="names: nothing that the model computes fits x"):
        record(open_model, PROMPT, {}, names=["x"])


def test_logits_a_few_rows_at_a_time_make_the_same_golden(truth, monkeypatch):
    """As of a long prompt, whose logits are too many to be there together."""

    def recorded():
        return record(open_model, PROMPT, {}, names=["logits"], rows=[2, 3, 5, 69], columns=100)

    few = recorded()
    monkeypatch.setattr("qwen_ref.oracle.record.LOGITS", 3 * FILE.tensors["token_embd.weight"].shape[0] + 1)
    for whole, blocks in (few, recorded()), (truth, record(open_model, PROMPT, {})):
        entry, same = blocks.entries["logits"], whole.entries["logits"]
        assert (entry.shape, entry.rows, entry.stride) == (same.shape, same.rows, same.stride)
        assert (entry.rms, entry.max) == pytest.approx((same.rms, same.max))
        assert entry.errors.keys() == same.errors.keys()
        for kind, error in same.errors.items():
            assert entry.errors[kind] == pytest.approx(error, rel=1e-2)
            assert blocks.kl[kind] == pytest.approx(whole.kl[kind], rel=1e-2)
        np.testing.assert_allclose(blocks.values["logits"], whole.values["logits"], atol=1e-12)
        np.testing.assert_allclose(blocks.row_rms["logits"], whole.row_rms["logits"])
        assert (blocks.inputs["top_ids"] == whole.inputs["top_ids"]).all()


def test_the_end_token_is_not_part_of_a_golden():
    def continued(eos_ids):
        few = dict(names=["logits"], rows=1, columns=1)
        made = record(open_model, PROMPT, {}, generate=4, eos_ids=eos_ids, **few)
        return made.inputs["token_ids"].tolist(), made.about["prompt_tokens"]

    (ids, count) = continued(frozenset())
    assert count == 70 and len(ids) == 74
    ends = frozenset(ids[-2:])
    first = next(i for i in range(70, 74) if ids[i] in ends)
    assert continued(ends) == (ids[:first], 70)


def test_commands(tmp_path, capsys):
    """Recorded, checked against a dump, and against one with a mistake."""

    def command(*args):
        status = main(["golden", *map(str, args)])
        return status, capsys.readouterr().out

    file, dumped = tmp_path / "hello.safetensors", tmp_path / "dump.safetensors"
    hello = "--raw", "--prompt", "Hello there, hello"
    status, said = command("record", "--model", FILE.path, *hello, "--out", file)
    assert status == 0 and "148 tensors" in said
    truth = golden.load(file)
    tensors = {
        name: x.reshape(truth.entries[name].shape).astype(np.float32) for name, x in truth.values.items()
    }
    save_file(tensors, dumped)
    assert command("check", file, dumped)[0] == 0
    name = "layers.3.self_attn.q_proj"
    tensors[name] = tensors[name.replace("q_proj", "gate")]
    np.savez(tmp_path / "dump.npz", **tensors)
    status, said = command("check", file, tmp_path / "dump.npz", "--json")
    report = json.loads(said)
    assert status == 1
    assert report["first"]["name"] == name and report["cause"] == "query and gate are swapped"
    assert command("compare", file, file, "--allow", "float64")[0] == 0


def test_what_is_recorded_and_allowed_unless_something_is_asked_for(tmp_path, monkeypatch, capsys):
    """Eight greedy tokens; all of a small model, else three rows and at most 256 columns. float32 alone."""
    out, dumped = tmp_path / "golden.safetensors", tmp_path / "dump.npz"
    line = [
        "golden",
        "record",
        "--model",
        str(FILE.path),
        "--raw",
        "--prompt",
        "Hello there",
        "--out",
        str(out),
    ]
    line += ["--names", "logits", "norm"]
    assert main(line) == 0
    truth = golden.load(out)
    T, entry = len(truth.inputs["token_ids"]), truth.entries["logits"]
    assert truth.about["prompt_tokens"] == T - 8 and (entry.rows, entry.stride) == (list(range(T)), 1)
    np.savez(dumped, **{name: x.astype(np.float16) for name, x in truth.values.items()})
    check_it = ["golden", "check", str(out), str(dumped)]
    assert [main([*check_it, *more]) for more in ([], ["--allow", "float16"])] == [1, 0]
    monkeypatch.setattr(cli, "SMALL", 0)
    assert main([*line, "--generate", "1"]) == 0
    truth = golden.load(out)
    T = len(truth.inputs["token_ids"])
    assert truth.about["prompt_tokens"] == T - 1
    assert (truth.entries["logits"].rows, truth.entries["logits"].stride) == (
        [0, round((T - 1) / 2), T - 1],
        4,
    )
    assert main([*line, "--rows", "all", "--columns", "all"]) == 0
    assert golden.load(out).entries["logits"].stride == 1 and len(golden.load(out).entries["logits"].rows) > 3
    assert main([*line, "--rows=-1,0", "--columns", "1000"]) == 0
    entry = golden.load(out).entries["logits"]
    assert (entry.rows, entry.stride) == ([0, entry.shape[0] - 1], 2)
    capsys.readouterr()


def test_pictures_by_hand(tmp_path):
    """Two pictures, a clip between them, and one token a time step."""

    def medium(kind, steps, first):
        patches = [np.full((1, 2), first + step, np.float32) for step in range(steps)]
        path = tmp_path / f"{first}.png"
        path.write_bytes(b"abc")
        shape = SimpleNamespace(kind=kind, timestamps=[0.5] * steps)
        return SimpleNamespace(
            name=str(path), shape=shape, grid_thw=(steps, 1, 1), patches=lambda rows: iter(patches)
        )

    media = [medium("image", 1, 10), medium("video", 2, 20), medium("image", 1, 30)]
    prompt = Prompt([5] * 6, spans=[Span(at, 1, 1) for at in (1, 2, 4, 5)], media=media)
    looked, seen = [], {}

    def encode(patches, grid):
        looked.append(grid)
        return tap("merged", patches)

    text = SimpleNamespace(embed=lambda token_ids: np.zeros((len(token_ids), 2), np.float32))
    with watching(seen.__setitem__):
        x = embed(SimpleNamespace(text=text, vision=SimpleNamespace(encode=encode)), prompt)
    assert looked == [(1, 1, 1), (2, 1, 1), (1, 1, 1)]
    assert {name: found[:, 0].tolist() for name, found in seen.items()} == {
        "images.0.merged": [10],
        "videos.0.merged": [20, 21],
        "images.1.merged": [30],
    }
    assert x.tolist() == [[n, n] for n in (0, 10, 20, 0, 21, 30)]
    inputs = inputs_of(prompt)
    assert inputs["image_grid_thw"].tolist() == [[1, 1, 1]] * 2 and inputs["video_grid_thw"].tolist() == [
        [2, 1, 1]
    ]
    assert {x.dtype for name, x in inputs.items() if name != "positions"} == {np.dtype(np.int64)}
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2's example
    about = provenance(Path(media[0].name), prompt, seed=7)
    assert about | {"qwen_ref": ""} == {
        "qwen_ref": "",
        "file": "10.png",
        "sha256": abc,
        "media": [
            {"file": f"{n}.png", "sha256": abc, "timestamps": [0.5] * steps}
            for n, steps in ((10, 1), (20, 2), (30, 1))
        ],
        "seed": 7,
    }
    assert rms(np.full(4, 1e30, np.float32)) == np.float32(1e30) and rms(np.empty(0)) == 0


def test_dumps_by_hand_in_other_types(tmp_path):
    """bfloat16 is the upper half of float32: 1 is 3f80, -2.5 is c020; float16's 1.5 is 3e00."""
    tensors = {
        "a": ("BF16", [2, 1], b"\x80\x3f\x20\xc0"),
        "b": ("F16", [1, 1], b"\x00\x3e"),
        "c": ("I64", [1], (7).to_bytes(8, "little")),
        "d": ("F8_E4M3", [2], b"\x01\x02"),
    }
    head, data = {}, b""
    for name, (kind, shape, part) in tensors.items():
        head[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    written = json.dumps(head | {"__metadata__": {"x": "y"}}).encode()
    path = tmp_path / "dump.safetensors"
    path.write_bytes(len(written).to_bytes(8, "little") + written + data)
    found, metadata = golden.read_tensors(path, "abc")
    assert metadata == {"x": "y"} and found["d"].size == 0
    assert {name: (x.dtype.name, x.tolist()) for name, x in found.items() if name != "d"} == {
        "a": ("float32", [[1], [-2.5]]),
        "b": ("float16", [[1.5]]),
        "c": ("int64", [7]),
    }
    with pytest.raises(QwenRefError, match=r"dump\.safetensors: d: type F8_E4M3 cannot be read, only BF16, "):
        golden.read_tensors(path)
    np.savez(tmp_path / "dump.npz", a=np.ones((2, 1)), b=np.zeros(3))
    found, metadata = golden.read_tensors(tmp_path / "dump.npz", ["a"])
    assert found["a"].tolist() == [[1], [1]] and found["b"].size == 0 and metadata == {}


def test_of_torchs_types_those_that_numpy_has_not_become_float32():
    class Tensor:
        """What as_numpy asks of one of torch's, of 2 numbers."""

        def __init__(self, floating, size):
            self.floating, self.size, self.done = floating, size, []

        def __getattr__(self, name):
            if name not in ("detach", "cpu", "float"):
                raise AttributeError(name)
            return lambda: self.done.append(name) or self

        def is_floating_point(self):
            return self.floating

        def element_size(self):
            return self.size

        def __array__(self, dtype=None, copy=None):
            return np.array([1.0, 2.0], np.float32 if "float" in self.done else np.int16)

    for floating, size, steps in (
        (True, 2, "detach cpu float"),
        (True, 4, "detach cpu"),
        (False, 1, "detach cpu"),
    ):
        x = Tensor(floating, size)
        assert golden.as_numpy("x", x).tolist() == [1, 2] and x.done == steps.split()
    for x, words in (
        (np.array(["a"]), "x: type <U1 is none of numbers"),
        ([[1], [1, 2]], "x: cannot be read as"),
    ):
        with pytest.raises(QwenRefError, match=words):
            golden.as_numpy("x", x)


def damage(path, drop=None, **replaced):
    tensors, metadata = golden.read_tensors(path)
    replaced = {name.replace("__", "/"): x for name, x in replaced.items()}
    save_file({name: x for name, x in (tensors | replaced).items() if name != drop}, path, metadata)


def rewrite(path, change):
    """The metadata as `change` leaves them."""
    tensors, metadata = golden.read_tensors(path)
    head = json.loads(metadata["golden"])
    change(head)
    save_file(tensors, path, {"golden": json.dumps(head)})


def in_config(**changes):
    return lambda p: rewrite(p, lambda head: head["config"].update(changes))


def of_logits(**changes):
    return lambda p: rewrite(p, lambda head: head["entries"]["logits"].update(changes))


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda p: p.write_bytes(b"no such thing"), "is no whole safetensors or npz file"),
        (lambda p: p.unlink() or os.mkfifo(p), "is not a regular file"),
        (lambda p: p.unlink() or p.mkdir(), "is a folder"),
        (lambda p: save_file({"logits": np.zeros((2, 3))}, p), "this file is no golden"),
        (lambda p: save_file({}, p, {"golden": "{"}), "the metadata is damaged"),
        (lambda p: p.unlink(missing_ok=True), "cannot be read"),
        (lambda p: damage(p, drop="logits"), "logits: the tensor is missing"),
        (lambda p: damage(p, logits=np.zeros((3, 3))), r"logits: shape \(3, 3\) should be"),
        (
            lambda p: damage(p, logits=np.zeros((70, 1024), np.float32)),
            "logits: type float32 should be float64",
        ),
        (in_config(num_attention_heads=0), "config.num_attention_heads: 0 is not a whole number from 1"),
        (in_config(num_attention_heads="x"), "config.num_attention_heads: 'x' is not a whole number"),
        (in_config(num_attention_heads=3), "config.num_key_value_heads: 2 does not divide 3 heads"),
        (in_config(linear_num_key_heads=3), "config.linear_num_value_heads: 4 value heads do not fit 3 key"),
        (in_config(mrope_section=[2, 2]), r"config.mrope_section: \(2, 2\) are not three whole numbers"),
        (in_config(mrope_section=[2, 2, 2]), r"config.mrope_section: \[2, 2, 2\] do not add up to 4"),
        (in_config(name=[]), r"config.name: \[\] is not text"),
        (in_config(rope_theta=float("inf")), "config.rope_theta: inf is not a positive number of float32"),
        (in_config(head_dim=64), r"q_proj: shape \(70, 4, 32\) should be \(70, 4, 64\)"),
        (of_logits(shape=[70, 512]), r"logits: shape \(70, 512\) should be \(70, 1024\)"),
        (of_logits(rms=-1.0), "damaged: .*-1.0 is no rms, maximum"),
        (of_logits(max=float("nan")), "damaged: .*nan is no rms, maximum"),
        (lambda p: rewrite(p, lambda head: head["kl"].update(int8=-3)), "damaged: .*-3 is no rms, maximum"),
        (of_logits(errors={}), "damaged: .*errors of float32 are missing"),
        (lambda p: rewrite(p, lambda head: head.update(entries={})), "entries: there are none"),
        (
            lambda p: damage(p, input__top_ids=np.full((70, 64), 1024)),
            "input/top_ids: 1024 to 1024 are not in 0 to 1023",
        ),
        (lambda p: damage(p, input__top_ids=np.zeros((70, 0), int)), r"shape \(70, 0\) should be"),
        (lambda p: damage(p, input__top_ids=np.zeros((70, 1), int)), r"shape \(70, 1\) should be"),
        *(
            (
                lambda p, n=n: rewrite(p, lambda head: head["about"].update(prompt_tokens=n)),
                f"prompt_tokens: {n} is not in 1 to 70",
            )
            for n in (0, 71)
        ),
        (lambda p: damage(p, input__log_total=np.full(70, np.nan)), "input/log_total: has values that are"),
        (lambda p: damage(p, **{"rms__norm": np.full(70, 1e200)}), "rms/norm: has values that are not fin"),
    ],
)
def test_files_that_are_no_goldens(truth, tmp_path, make, sentence):
    path = tmp_path / "bad.safetensors"
    golden.save(truth, path)
    make(path)
    with pytest.raises(QwenRefError, match=f"bad.safetensors.*{sentence}"):
        golden.load(path)


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_goldens(small_golden, data):
    """A few bytes are others, most of them in the metadata: a sentence, or a golden that can be compared with
    what is wrong, and shown."""
    whole, scratch = small_golden
    head = int.from_bytes(whole[:8], "little")
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.one_of(st.integers(8, head), st.integers(0, len(whole) - 1)))
        damaged[at] = data.draw(st.one_of(st.sampled_from(b'0123456789-.eE"[]{}:,'), st.integers(0, 255)))
    scratch.write_bytes(damaged)
    try:
        found = golden.load(scratch)
        small = {n: entry.shape for n, entry in found.entries.items() if math.prod(entry.shape) < 1 << 20}
        value = data.draw(st.sampled_from([0.0, 1.0, 1e300, np.nan]))
        report = compare(found, {name: np.full(shape, value) for name, shape in small.items()})
        check.message(found, report)
        page.page(found, report, ("golden", "dump"))
        with contextlib.redirect_stdout(io.StringIO()):
            cli.show(SimpleNamespace(golden_file=scratch))
            cli.print_report(report)
    except QwenRefError as error:
        assert "\n" not in str(error)


@pytest.fixture(scope="module")
def small_golden(tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / "golden.safetensors"
    names = ["layers.0.linear_attn.*", "layers.3.self_attn.q_*", "rope.cos", "logits"]
    some = record(open_model, PROMPT, {}, names=names, rows=3)
    golden.save(some, path)
    return path.read_bytes(), path.with_name("damaged.safetensors")


@pytest.mark.parametrize(
    "found, sentence",
    [
        ({"output": np.zeros(3)}, "no tensor has a name of the golden's"),
        ({"logits": np.array(["a"])}, "logits: type <U1 is none of numbers"),
    ],
)
def test_dumps_that_do_not_fit(truth, found, sentence):
    with pytest.raises(QwenRefError, match=sentence):
        compare(truth, found)


def test_dumps_of_other_shapes_and_kinds(truth):
    """A batch of one, heads that are not split."""
    logits, q = truth.values["logits"], truth.values["layers.3.self_attn.q_proj"]
    assert compare(truth, {"logits": logits[None], "layers.3.self_attn.q_proj": q}, "float64").first is None
    broken = compare(truth, {"logits": np.where(logits > 2, np.nan, logits)})
    assert broken.cause == "some values are not finite"


def test_positions_from_somewhere_else(tmp_path, capsys):
    """Seen in RoPE's angles alone: attention knows distances."""
    line = ["golden", "record", "--model", str(FIXTURES / "tiny.gguf"), "--raw", "--prompt", "Hi there"]
    line += ["--generate", "2", "--names", "rope.angle", "norm"]
    for first in 0, 30_000:
        out = str(tmp_path / f"{first}.safetensors")
        assert main([*line, "--first-position", str(first), "--out", out]) == 0
    near, far = (golden.load(tmp_path / f"{first}.safetensors") for first in (0, 30_000))
    assert (far.inputs["positions"] == near.inputs["positions"] + 30_000).all()
    assert np.allclose(far.values["norm"], near.values["norm"], atol=1e-9)
    assert far.values["rope.angle"][0, 0] == 30_000
    for first, sentence in (
        ("-1", "first-position: -1 is less than 0"),
        (
            "262140",
            "tokens and the prompt's 4, from position 262140 on, are more than the 262144 that the model was",
        ),
    ):
        out = ["--first-position", first, "--out", str(tmp_path / "x.safetensors")]
        assert main([*line, *out]) == 2 and sentence in capsys.readouterr().err


def test_a_golden_of_each_line(tmp_path, capsys):
    """As of the prompt alone; what a line cannot say is told with its number."""
    lines = tmp_path / "prompts.jsonl"
    few = ["--model", str(FIXTURES / "tiny.gguf"), "--names", "norm", "--generate", "1"]
    said = [{"role": "user", "content": "Hi there"}]
    lines.write_text(json.dumps({"id": "hi", "prompt": "Hi there"}) + "\n" + json.dumps({"messages": said}))
    command = ["golden", "record", *few]
    assert main([*command, "--prompts", str(lines), "--out", str(tmp_path / "goldens")]) == 0
    assert "goldens: 2 goldens" in capsys.readouterr().out
    assert main([*command, "--prompt", "Hi there", "--out", str(tmp_path / "one.safetensors")]) == 0
    for name in "hi", "2":
        made = golden.load(tmp_path / "goldens" / f"{name}.safetensors")
        assert np.array_equal(made.values["norm"], golden.load(tmp_path / "one.safetensors").values["norm"])
    capsys.readouterr()
    for line, sentence in (
        ({"prompt": "a", "messages": said}, 'line 1: is no object with a text, "prompt", or a list'),
        ({"prompt": "a", "id": "../a"}, "line 1: id: '../a' is no name of a file"),
        ({"prompt": "a", "id": "sur\ud83d"}, r"line 1: id: 'sur\ud83d' is no name of a file"),
        ({"prompt": "a", "ids": 1}, "line 1: 'ids' is no field: id, prompt, messages, tools"),
        ({"messages": [1]}, "line 1: messages: is no list of objects"),
        ({"prompt": ""}, "line 1: the prompt: is empty"),
    ):
        lines.write_text(json.dumps(line))
        raw = ["--raw"] if line == {"prompt": ""} else []
        assert main([*command, *raw, "--prompts", str(lines), "--out", str(tmp_path / "x")]) == 2
        assert f"{lines}: {sentence}" in capsys.readouterr().err
