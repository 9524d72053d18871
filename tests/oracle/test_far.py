"""Angles of RoPE far into a text: tables, NumPy's layers and the kernels, against transformers in float64."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import made

from gguf_io import open_gguf
from qwen_ref.config import read_config
from qwen_ref.kernels import attention
from qwen_ref.model.rope import apply_rope, rope_tables
from qwen_ref.prompt import Span, mrope_positions

PROGRAM = Path(__file__).with_name("transformers_rope.py")
OFFSETS = 32_768, 131_072, 262_144 - 40  # the last ends where the models' context does


@pytest.fixture(scope="module")
def far(tmp_path_factory):
    """The configuration, positions [3, T] of text and of a picture from each offset on, and transformers' cos
    and sin, [T, R/2] each."""
    model = made("mini", 0, tiny_vocab=True)
    folder = tmp_path_factory.mktemp("far")
    spread = [mrope_positions(40, [Span(5, 4, 6)]), mrope_positions(40, [])]
    positions = np.concatenate([one + offset for offset in OFFSETS for one in spread], axis=1)
    np.save(folder / "positions.npy", positions)
    paths = folder / "positions.npy", folder / "out.npz"
    subprocess.run([sys.executable, PROGRAM, model.checkpoint, *paths], check=True)
    with np.load(folder / "out.npz") as found:
        cos, sin = (found[name][:, : found[name].shape[1] // 2] for name in ("cos", "sin"))
    return read_config(open_gguf(model.f32)), positions, cos, sin


def test_tables_are_those_of_transformers(far):
    """An angle of 262,143 radians has 3e-11 between two float64; in float32 it would have 0.03."""
    config, positions, cos, sin = far
    assert positions.max() == 262_143 and cos.shape == (240, config.rotary_dim // 2)
    for ours, theirs in zip(rope_tables(positions, config, np.float64), (cos, sin), strict=True):
        print(f"\n{abs(ours - theirs).max():.1e}")
        assert abs(ours - theirs).max() < 1e-10
    for ours, theirs in zip(rope_tables(positions, config, np.float32), (cos, sin), strict=True):
        assert abs(ours - theirs).max() <= 2.0**-25 + 1e-10  # rounded once, at the end


@pytest.mark.parametrize("path", ["numpy", "numba"])
def test_queries_and_keys_are_turned_by_them(far, path):
    config, positions, cos, sin = far
    T, H, H_kv, D = len(cos), config.num_attention_heads, config.num_key_value_heads, config.head_dim
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((T, H, D)), rng.standard_normal((T, H_kv, D))
    q, k = (x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) for x in (q, k))  # normalized stays normalized
    want_q, want_k = apply_rope(q, cos, sin), apply_rope(k, cos, sin)
    if path == "numpy":
        tables = rope_tables(positions, config, np.float64)
        assert abs(apply_rope(q, *tables) - want_q).max() < 1e-9
        assert abs(apply_rope(k, *tables) - want_k).max() < 1e-9
        return
    tables = rope_tables(positions, config, np.float32)
    keys, values = np.zeros((H_kv, 16, D, 16), np.uint16), np.zeros((H_kv, 16, 16, D), np.uint16)
    gate = np.zeros_like(q)
    both = np.concatenate([q, gate], axis=2).reshape(T, -1).astype(np.float32)
    flat, ones, out = (
        k.reshape(T, -1).astype(np.float32),
        np.ones(D, np.float32),
        np.empty((T, H * D), np.float32),
    )
    attention.append(both, flat, flat, ones, ones, 1e-6, *tables, keys, values, 0, out)
    assert abs(out.reshape(T, H, D) * np.sqrt(D) - want_q).max() < 3e-6
    got = keys.swapaxes(2, 3).reshape(H_kv, 256, D)[:, :T].swapaxes(0, 1).view(np.float16)
    assert (abs(got - want_k) <= 2.0**-11 * abs(want_k) + 3e-6).all()  # float16 rounds, nothing else
