import gguf as peer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gguf_io.quants import TYPES, quantize_q4_0, quantize_q8_0

READABLE = [t for t in TYPES.values() if t.dequantize_blocks]


def test_sizes_are_those_of_the_gguf_package():
    """Of all types that the installed version knows; the newest are not in every one."""
    known = {int(k): (peer.GGMLQuantizationType(k).name, *v) for k, v in peer.GGML_QUANT_SIZES.items()}
    ours = {t.id: (t.name, t.block_size, t.block_bytes) for t in TYPES.values()}
    assert known.items() <= ours.items()


@pytest.mark.parametrize("kind", READABLE, ids=lambda t: t.name)
@settings(max_examples=60)
@given(data=st.data())
def test_any_bytes_become_the_very_floats_of_the_gguf_package(kind, data):
    """Extremes, zeros, denormals, infinite and NaN scales: all bit patterns may occur."""
    columns = kind.block_size * data.draw(st.integers(1, 3))
    rows = data.draw(arrays(np.uint8, (data.draw(st.integers(1, 3)), kind.row_bytes(columns))))
    with np.errstate(all="ignore"):
        want = peer.quants.dequantize(rows, peer.GGMLQuantizationType(kind.id))
    assert_same_bits(kind.dequantize(rows), want)


@pytest.mark.parametrize("kind", [t for t in TYPES.values() if t.can_dequantize], ids=lambda t: t.name)
def test_random_bytes_of_every_float_type(kind):
    rows = np.random.default_rng(0).integers(0, 256, (64, kind.row_bytes(512)), np.uint8)
    with np.errstate(all="ignore"):
        want = peer.quants.dequantize(rows, peer.GGMLQuantizationType(kind.id))
        got = kind.dequantize(rows)
    assert got.shape == (64, 512) and got.dtype == np.float32
    assert_same_bits(got, want)


@pytest.mark.parametrize("kind, quantize", [("Q8_0", quantize_q8_0), ("Q4_0", quantize_q4_0)])
def test_blocks_are_those_of_the_gguf_package(kind, quantize):
    """Numbers of all sizes, a block of zeros, and one whose largest values have both signs."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((500, 32)) * 10.0 ** rng.uniform(-3, 4, (500, 1))).astype(np.float32)
    x[7] = 0
    x[8, :2] = [-1e5, 1e5]
    want = peer.quants.quantize(x, peer.GGMLQuantizationType[kind])
    assert (quantize(x) == want).all()


def assert_same_bits(got, want):
    numbers = ~np.isnan(want)  # which NaN it is does not matter
    assert (np.isnan(got) == ~numbers).all()
    assert (got.view(np.uint32)[numbers] == np.asarray(want, np.float32).view(np.uint32)[numbers]).all()
