"""YaRN: its frequencies, what a file says of it, and goldens of a model that has it."""

import re
from dataclasses import replace

import numpy as np
import pytest
from rewrite import rewrite

from gguf_io import open_gguf
from qwen_ref import QwenRefError
from qwen_ref.config import Yarn, read_config
from qwen_ref.model import rope
from qwen_ref.oracle import conformance, golden
from qwen_ref.oracle.causes import find_cause
from qwen_ref.prompt import Span, mrope_positions

SCALING = "qwen35.rope.scaling."
YARN = dict(type="yarn", factor=4.0, original_context_length=16)
POSITIONS = mrope_positions(40, [Span(5, 4, 6)])  # a picture: rows and columns differ from the time

# inv_freq of transformers' _compute_yarn_parameters (5.24, in float64; of factor 5 and 6 in float32, which
# rounds these), 16 dimensions and theta 10,000,000.
TRANSFORMERS = {
    Yarn(4, 8192, 32, 1, 0.1 * np.log(4) + 1): [
        *[1.0, 0.1333521432163324, 0.013337095575291922, 0.0011856868528308275],
        *[7.905694150420948e-05, 1.0542412585714557e-05, 1.4058533129758728e-06, 1.8747355233311396e-07],
    ],
    Yarn(5, 1 << 26, 32, 1, 1): [  # the ramp ends behind the last frequency
        *[1.0, 0.1333521432163324, 0.01778279410038923, 0.0023713737056616554],
        *[0.00031622776601683794, 4.216965034285822e-05, 5.623413251903491e-06, 5.499224201771343e-07],
    ],
    Yarn(6, 6, 32, 1, 1): [  # it begins where it ends
        *[1.0, 0.022225357202722066, 0.002963799016731538, 0.0003952289509436092],
        *[5.2704627669472985e-05, 7.0282750571430365e-06, 9.372355419839151e-07, 1.2498236822207596e-07],
    ],
    Yarn(2.5, 300, 6, 0.5, 1.25): [
        *[1.0, 0.1333521432163324, 0.01244795587027246, 0.0009485494822646619],
        *[0.00012649110640673515, 1.686786013714329e-05, 2.249365300761396e-06, 2.9995768373298235e-07],
    ],
}


def of_file(fixtures, tmp_path, base=1e7, **scaling):
    """The configuration of tiny-grouped.gguf with metadata of a scaling."""
    change = {SCALING + key: value for key, value in scaling.items()} | {"qwen35.rope.freq_base": base}
    return read_config(
        open_gguf(rewrite(fixtures / "tiny-grouped.gguf", tmp_path / "yarn.gguf", change=change))
    )


def test_which_coordinate_a_frequency_takes(fixtures):
    """transformers' apply_interleaved_mrope, of sections of three sizes."""
    plain = read_config(open_gguf(fixtures / "tiny.gguf"))
    axis, _ = rope.frequencies(replace(plain, rotary_dim=16, mrope_section=(4, 3, 1), yarn=None))
    assert axis.tolist() == [0, 1, 2, 0, 1, 0, 0, 1]
    axis, _ = rope.frequencies(replace(plain, rotary_dim=64, mrope_section=(11, 11, 10), yarn=None))
    assert axis.tolist() == [0, 1, 2] * 10 + [0, 1]


def test_text_goes_on_behind_the_longer_side():
    """transformers' get_rope_index, of a picture that is higher than wide and of one wider than high."""
    assert mrope_positions(8, [Span(1, 3, 2)]).T.tolist() == [
        [0, 0, 0],
        *([1, 1 + row, 1 + column] for row in range(3) for column in range(2)),
        [4, 4, 4],
    ]
    assert mrope_positions(8, [Span(1, 2, 3)])[:, -1].tolist() == [4, 4, 4]
    two = mrope_positions(10, [Span(0, 1, 2), Span(4, 2, 2)])
    assert two.T.tolist() == [
        *[[0, 0, 0], [0, 0, 1], [2, 2, 2], [3, 3, 3]],
        *[[4, 4, 4], [4, 4, 5], [4, 5, 4], [4, 5, 5], [6, 6, 6], [7, 7, 7]],
    ]
    assert two.dtype.kind == "i" and mrope_positions(2, []).tolist() == [[0, 1]] * 3


@pytest.mark.parametrize("yarn", TRANSFORMERS, ids=lambda yarn: f"factor {yarn.factor}")
def test_frequencies_are_those_of_transformers(fixtures, yarn):
    plain = read_config(open_gguf(fixtures / "tiny.gguf"))
    config = replace(plain, rotary_dim=16, mrope_section=(3, 3, 2), yarn=yarn)
    _, radians = rope.frequencies(config)
    np.testing.assert_allclose(radians, TRANSFORMERS[yarn], rtol=1e-14)

    position = np.full((3, 1), 1000)
    angle = 1000 * np.array(TRANSFORMERS[yarn])
    for table, want in zip(rope.rope_tables(position, config, np.float64), (np.cos(angle), np.sin(angle))):
        np.testing.assert_allclose(table[0], yarn.attention_factor * want, atol=1e-11)


def test_a_factor_of_one_changes_no_bit(fixtures):
    config = read_config(open_gguf(fixtures / "tiny.gguf"))
    same = replace(config, yarn=Yarn(1, 64, 32, 1, 1))
    for a, b in zip(*(rope.rope_tables(POSITIONS, c, np.float64) for c in (config, same))):
        assert (a == b).all()


def test_what_a_file_says(fixtures, tmp_path):
    assert of_file(fixtures, tmp_path, type="none").yarn is None
    assert of_file(fixtures, tmp_path, **YARN).yarn == Yarn(4, 16, 32, 1, 1.1386294361119891)
    given = dict(yarn_beta_fast=8.0, yarn_beta_slow=0.5, yarn_attn_factor=1.25)
    assert of_file(fixtures, tmp_path, **YARN | given).yarn == Yarn(4, 16, 8, 0.5, 1.25)
    said = of_file(fixtures, tmp_path, type="none", factor=1.0, original_context_length=262_144)
    assert said.yarn is None
    shorter = of_file(fixtures, tmp_path, type="yarn", factor=0.5)
    assert shorter.yarn.attention_factor == 1  # as transformers' get_mscale for a factor of 1 or less
    few = of_file(fixtures, tmp_path, type="yarn", factor=3.7)
    assert few.yarn.original_max_position_embeddings == few.context_length and few.yarn.factor == 3.7


BAD = {
    "factor": [0.0, -4.0, float("nan"), float("inf"), "4"],
    "original_context_length": [0, -1],
    "yarn_beta_fast": [0.0],
    "yarn_beta_slow": [float("nan")],
    "yarn_attn_factor": [-1.0],
    "type": ["linear", "longrope", ""],
}


@pytest.mark.parametrize("key, value", [(key, value) for key, values in BAD.items() for value in values])
def test_bad_values_are_named(fixtures, tmp_path, key, value):
    with pytest.raises(QwenRefError, match=f"yarn.gguf: {SCALING}{key}: .*{re.escape(repr(value))}"):
        of_file(fixtures, tmp_path, **YARN | {key: value})


def test_what_yarn_cannot_do_without_is_named(fixtures, tmp_path):
    with pytest.raises(QwenRefError, match=r"rope.scaling.factor: the metadata key is missing"):
        of_file(fixtures, tmp_path, type="yarn")
    with pytest.raises(QwenRefError, match=r"rope.freq_base: 1.0 is too small for YaRN"):
        of_file(fixtures, tmp_path, base=1.0, **YARN)


# ---- goldens


def test_a_golden_keeps_the_scaling():
    (case,) = conformance.cases(["yarn"])
    assert case.golden.config == read_config(open_gguf(case.model)) and hash(case.golden.config)
    assert case.golden.config.yarn == Yarn(4, 64, 32, 1, pytest.approx(0.1 * np.log(4) + 1))


def neighbours(x, cos, sin):
    """x [T, H, D] with dimensions 2i and 2i + 1 turned together."""
    R = 2 * cos.shape[1]
    z = (x[..., 0:R:2] + 1j * x[..., 1:R:2]) * (cos + 1j * sin)[:, None]  # [T, H, R/2]
    turned = np.stack([z.real, z.imag], axis=-1).reshape(*z.shape[:2], R)  # [T, H, R/2, 2] -> [T, H, R]
    return np.concatenate([turned, x[..., R:]], axis=-1)


def test_mistakes_are_named_with_yarn_and_pictures(fixtures, tmp_path):
    config = of_file(fixtures, tmp_path, **YARN, yarn_attn_factor=2.0)
    before = np.random.default_rng(0).standard_normal((40, config.num_attention_heads, config.head_dim))
    tables = rope.rope_tables(POSITIONS, config, np.float64)
    values = {
        "layers.3.self_attn.q_norm": before,
        "layers.3.self_attn.q_rope": rope.apply_rope(before, *tables),
    }
    entries = {name: golden.Entry(x.shape, list(range(40)), 1, 1.0, 1.0) for name, x in values.items()}
    rows = {name: golden.as_rows(x) for name, x in values.items()}
    kept = golden.Golden({}, config, entries, {"positions": POSITIONS}, rows, {})

    flat = rope.rope_tables(np.tile(POSITIONS[0], (3, 1)), config, np.float64)
    plain = rope.rope_tables(POSITIONS, replace(config, yarn=None), np.float64)
    for wrong, cause in (
        (rope.apply_rope(before, *flat), "RoPE knows only one coordinate"),
        (rope.apply_rope(before, *plain), "RoPE is not scaled"),
        (neighbours(before, *tables), "RoPE turns neighbours"),
    ):
        found = find_cause(kept, "layers.3.self_attn.q_rope", golden.as_rows(wrong))
        assert found is not None and found.startswith(cause)
