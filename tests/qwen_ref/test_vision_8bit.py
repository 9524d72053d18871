"""The vision tower's quantized matrices in 8 bits: what rounding explains, and no more than that."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_kernels import matrix
from test_shipped import MEDIA

from gguf_io import open_gguf
from qwen_ref import shipped
from qwen_ref.kernels import KERNELS, layers, vision
from qwen_ref.media.images import image_patches
from qwen_ref.model import vision_block
from qwen_ref.model.layers import NUMPY
from qwen_ref.model.matrix import Budget, Matrix
from qwen_ref.model.vision import VisionModel, vision_rope_tables
from qwen_ref.model.weights import GeluMlpWeights, VisionAttentionWeights


def steps(x):
    """x [T, K] -> what two neighbouring integers are apart, [T, K]: 32 inputs share the largest / 127."""
    blocks = np.abs(x).reshape(len(x), -1, 32).max(-1) / 127
    return np.repeat(blocks, 32, axis=1)


def in_8_bits(x):
    step = steps(x)
    return np.round(x / np.where(step, step, 1)) * step


@pytest.fixture
def rounded(monkeypatch):
    """NumPy's tower, with the inputs of its matrices rounded."""
    linear = vision_block.linear
    monkeypatch.setattr(vision_block, "linear", lambda x, weight: linear(in_8_bits(x), weight))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["Q8_0", "Q8_0", "Q4_0", "Q4_K"]),
    patches=st.sampled_from([1, 4, 16, 17, 18, 131]),
    rows=st.sampled_from([5, 16, 17, 40, 112]),
    blocks=st.integers(1, 5),
)
def test_an_input_of_a_product_is_off_by_half_a_step_at_most(seed, kind, patches, rows, blocks):
    """So a product is off by half a step times the weight, of each input, at most, and by what sums in
    float32 are off. What is rounded off is anything between: its square is step**2 / 12 in the mean."""
    rng = np.random.default_rng(seed)
    columns = (256 if kind == "Q4_K" else 192) * blocks
    weight, bias = matrix(kind, rows, columns, rng), rng.standard_normal(rows).astype(np.float32)
    x = rng.standard_normal((patches, columns)).astype(np.float32) * np.float32(rng.choice([1e-3, 1, 50]))
    x[:, rng.integers(columns)] *= 20  # a step is the largest one's
    dense, step = weight.tensor.dequantize().astype(np.float64), steps(x.astype(np.float64))
    off = vision.linear(x, weight, bias) - (x.astype(np.float64) @ dense.T + bias)
    # Q4_K's integers lie beside a low that is far from 0: what cancels has a size, too
    sums = 1e-6 * (np.abs(x).sum(1, keepdims=True) * np.abs(dense).max() + np.abs(bias))
    assert (np.abs(off) <= step / 2 @ np.abs(dense).T + sums).all()
    if patches * rows > 4000:
        mean = np.sqrt(step**2 / 12 @ (dense**2).T)
        assert 0.85 < np.sqrt(np.mean((off / mean) ** 2)) < 1.15


@pytest.mark.parametrize("kind, columns, scale", [("Q8_0", 96, 1.0), ("Q8_0", 128, 0.5), ("F16", 128, 1.0)])
def test_what_has_no_product_in_8_bits_stays_exact(kind, columns, scale):
    rng = np.random.default_rng(0)
    weight = Matrix(matrix(kind, 40, columns, rng).tensor, Budget(0), scale)
    x, bias = rng.standard_normal((20, columns)).astype(np.float32), np.ones(40, np.float32)
    exact = x.astype(np.float64) @ (scale * weight.tensor.dequantize().astype(np.float64)).T + bias
    np.testing.assert_allclose(vision.linear(x, weight, bias), exact, atol=2e-6 * np.abs(exact).max())


@pytest.mark.parametrize("grid", [(1, 2, 2), (2, 6, 6), (1, 18, 16)], ids=str)
def test_layers_equal_their_twins_with_rounded_inputs(rounded, grid):
    """In float64. An input in the very middle of two integers may go to the other one: a row that has such an
    input is off by a step of it."""
    rng, heads, (t, h, w) = np.random.default_rng(1), 3, grid
    hidden, inner = 64 * heads, 320

    def linear(rows, columns):
        return matrix("Q8_0", rows, columns, rng), rng.standard_normal(rows).astype(np.float32)

    def check(name, x, *arguments):
        exact = getattr(NUMPY, name)(x.astype(np.float64), *arguments)
        got = getattr(KERNELS, name)(x, *arguments)
        assert got.dtype == np.float32 and got.shape == exact.shape
        off, size = np.abs(got - exact), np.abs(exact).max()
        rows = off.max(1) > 5e-6 * size
        assert rows.mean() < 0.05 and off.max() < 0.005 * size, name

    x = rng.standard_normal((t * h * w, hidden)).astype(np.float32)
    cos, sin = vision_rope_tables(h, w, 64, 2, np.float32)
    w_attention = VisionAttentionWeights(*linear(3 * hidden, hidden), *linear(hidden, hidden))
    check("vision_attention", np.float32(0.3) * x, w_attention, cos, sin, heads)
    w_mlp = GeluMlpWeights(*linear(inner, hidden), *linear(hidden, inner))
    check("vision_mlp", x, w_mlp)
    check("merger", x, w_mlp)


def test_a_picture_is_off_as_far_as_rounding_inputs_takes_it(request):
    """Through six blocks what is rounded is not the same any more; how much is."""
    file = open_gguf(shipped.MODEL.with_name("mmproj-tiny-Q8_0.gguf"))
    seen = image_patches(Image.open(MEDIA / "shapes.png").convert("RGB")).pixels[:64], (1, 8, 8)
    exact = VisionModel(file, np.float64).encode(*seen)
    fast = VisionModel(file, layers=KERNELS)
    off = np.sqrt(np.mean((fast.encode(*seen) - exact) ** 2))
    request.getfixturevalue("rounded")
    explained = VisionModel(file, np.float64).encode(*seen) - exact
    assert off == pytest.approx(np.sqrt(np.mean(explained**2)), rel=0.15)
    assert off < 0.03 * exact.std()
    groups = [g for b in fast.weights.blocks for g in (b.attention, b.mlp)] + [fast.weights.merger]
    matrices = [m for g in groups for m in vars(g).values() if isinstance(m, Matrix)]
    assert len(matrices) == 26 and all(layers.by_integers(m) and m._kept is None for m in matrices)
