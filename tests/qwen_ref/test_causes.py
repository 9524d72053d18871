"""Mistakes that engines make, each planted in the model alone: named right, or not at all."""

from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
import test_oracle
from mistakes import MISTAKES, Seen, can_show, named, opened, planted, see, show, table
from test_conformance import by_name
from test_oracle import FILE, PROMPT, dump, open_model

from qwen_ref.config import Config, Yarn
from qwen_ref.oracle import conformance, golden
from qwen_ref.oracle.arithmetic import to_bfloat16, to_float16, to_int8_inputs
from qwen_ref.oracle.causes import CAUSES, EQUAL, TOO_LITTLE, find_cause, unexplained
from qwen_ref.oracle.compare import compare
from qwen_ref.oracle.record import provenance, record, rms

ROUNDING = {
    "float32": lambda name, x: x,
    "bfloat16": to_bfloat16,
    "float16": to_float16,
    "int8": lambda name, x: x if (rounded := to_int8_inputs(name, x)) is None else rounded.astype(x.dtype),
}
GDN, ATTN = "layers.0.linear_attn.", "layers.3.self_attn."

# For what a mistake needs a small case that tells of it. `make mistakes` runs each on all cases.
CASES = {
    "": "grouped",
    "grouped": "grouped",
    "kv": "plain",
    "media": "video",
    "video": "video",
    "mtp": "mtp",
    "yarn": "yarn",
    "far": "position-4096",
    "small keys": "small-keys",
}
WHOLE_COLUMNS = {  # which `images` keeps, and other cases with pictures do not
    "one coordinate",
    "sections contiguous",
    "rows and columns",
    "channels reversed",
    "first slice",
    "no patch bias",
}
SHARP = [  # near to what coarse arithmetic leaves, or to another mistake, or below what it can see
    *("sigmoid of z", "eps of norms", "q and k norm", "GELU", "sigmoid", "beta doubled", "beta rounded"),
    *("late decay", "decay after the write", "state rounded", "mask - 1", "positions one behind"),
    *("one coordinate", "exact GELU", "state lost at steps", "state rounded at each step"),
    "position is the token count",
]
UNKNOWN = {  # a golden would have to keep every patch, and is made below
    "one frame",
    "frames see each other",
    "causal tower",
}


@pytest.fixture(scope="module")
def truth():
    return record(open_model, PROMPT, provenance(FILE.path, PROMPT))


def engine(monkeypatch, mistake=None, arithmetic="float32"):
    monkeypatch.setattr(test_oracle, "ROUND", ROUNDING[arithmetic])
    model = open_model(np.float32)
    with planted(model, mistake) if mistake else np.errstate(), np.errstate(all="ignore"):
        return dump(model)


def test_the_table_has_what_it_should():
    assert len(MISTAKES) >= 60 and sum(bool(mistake.cause) for mistake in MISTAKES.values()) >= 45
    assert {mistake.needs for mistake in MISTAKES.values()} == set(CASES)
    assert all(can_show(by_name(CASES[mistake.needs]), name) for name, mistake in MISTAKES.items())


@pytest.mark.parametrize(
    "told, expected",
    [
        ("the norm is missing", "right"),
        ("either a norm; or the norm is missing", "either"),
        ("either the norm is missing; or a norm", "either"),
        ("either a norm; or another", "wrong"),
        ("a norm", "wrong"),
        ("", "none"),
        (TOO_LITTLE, "none"),
    ],
)
def test_whether_a_name_is_the_right_one(told, expected):
    assert named("the norm is", told) == expected
    assert named("", told) == ("none" if expected == "none" else "wrong")


def test_logits_are_judged_alone_too():
    """A state that is shown in another layout changes none."""
    seen = see(by_name("grouped"), "state transposed", "float32")
    assert (seen.verdict, seen.alone) == ("wrong", "right") and seen.changes < 1


def test_the_table_fails_if_a_mistake_gets_by(capsys):
    fine = Seen("no gate", "plain", "int8", "wrong", "wrong", "", "", "right", 1.1)
    unseen = replace(fine, verdict="right", alone="right", name="none", changes=0.9)
    assert table([fine, unseen]) == 0
    assert "| no gate | 1 · 1 · 1 of 2 | the output gate is missing |" in capsys.readouterr().out
    for bad, words in (
        (replace(fine, verdict="right"), "gets by"),
        (replace(fine, alone="right"), "gets by, by logits alone"),
        (replace(fine, name="wrong"), "has another's name"),
    ):
        assert table([fine, bad]) == 1
        assert f"- {words}: {bad}\n" in capsys.readouterr().out


def case_of(mistake):
    return by_name("images" if mistake in WHOLE_COLUMNS else CASES[MISTAKES[mistake].needs])


@pytest.mark.parametrize(
    "needs", [pytest.param(n, marks=pytest.mark.slow if n == "media" else ()) for n in CASES]
)
def test_every_mistake_is_seen_and_named(needs):
    """By tensors and by logits alone, if it changes these."""
    for name in (name for name, mistake in MISTAKES.items() if mistake.needs == needs):
        seen = see(case_of(name), name, "float32")
        assert seen.verdict == "wrong" and (seen.alone == "wrong" or seen.changes <= 1), seen
        assert seen.name == ("right" if MISTAKES[name].cause and name not in UNKNOWN else "none"), seen


@pytest.mark.parametrize("arithmetic", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", SHARP)
def test_in_coarse_arithmetic_none_is_right_and_none_has_another_name(name, arithmetic):
    seen = see(case_of(name), name, arithmetic)
    assert "wrong" == seen.verdict == seen.alone or seen.changes <= 1, seen
    assert seen.name != "wrong", seen


@pytest.mark.slow
def test_mistakes_of_which_every_patch_tells():
    """A clip's golden with all rows and columns; without the tower's weights at hand two are unknown."""
    case = conformance.Case(by_name("video").path)
    prompt = conformance.encode(opened(case.model, np.float64), case)
    kept = record(partial(opened, case.model), prompt, case.golden.about, names=["videos.*", "logits"])
    for mistake in "one frame", "frames see each other", "causal tower", "first slice", "nearest":
        found = show(case, mistake)
        P = case.prompt_tokens
        found = {n: x[:P] if n == "logits" else x for n, x in found.items() if n in kept.entries}
        cause = compare(replace(kept, weights=case.weights), found).cause
        assert cause.startswith(MISTAKES[mistake].cause), mistake
        without = compare(kept, found).cause
        assert without == (None if mistake in ("first slice", "nearest") else cause), mistake
        assert compare(case.golden, show(case, mistake)).cause in (cause, TOO_LITTLE), mistake


def test_a_mistake_can_be_taken_back():
    case = by_name("mtp-image")
    before = show(case)
    for mistake in MISTAKES:
        if can_show(case, mistake):
            with planted(opened(case.model, np.float32), mistake):
                pass
    after = show(case)
    assert list(after) == list(before) and all((after[name] == x).all() for name, x in before.items())


def test_two_that_explain_it_as_well_are_both_told():
    """In bfloat16 a picture's rows and columns turn too little to tell two mistakes apart."""
    case = by_name("images")
    cause = compare(case.golden, show(case, "one coordinate", "bfloat16"), "bfloat16").cause
    assert cause.startswith("either RoPE's sections are contiguous; ")
    assert "; or RoPE knows only one coordinate; " in cause


def test_causes_say_different_things_of_tensors_that_exist():
    from qwen_ref.oracle import names
    from qwen_ref.oracle.causes.cause import kind

    every = [*names.ENDS, *names.LAYER, *names.ATTENTION, *names.DELTANET, *names.MTP]
    every += [*names.VISION, *names.VISION_BLOCK, *names.MERGER]
    kinds = {kind(name.ours.replace(".N", ".0")) for name in every} | {"draft.hnorm"}
    for cause in CAUSES:
        assert set(cause.shows_in.split()) <= kinds, cause.sentence


@pytest.mark.parametrize("arithmetic", ROUNDING)
def test_what_rounding_does_to_a_tensor_has_no_name(truth, monkeypatch, arithmetic):
    found = engine(monkeypatch, arithmetic=arithmetic)
    causes = {
        name: find_cause(truth, name, golden.as_rows(x).astype(float), allowed=arithmetic)
        for name, x in found.items()
    }
    assert set(causes.values()) == {None}


@pytest.mark.parametrize(
    "mistake", ["mask + 1", "mask - 1", "KV heads", "scores unscaled", "scores scaled twice"]
)
def test_mistakes_of_attention_are_seen_behind_it(truth, monkeypatch, mistake):
    """By an engine that has no weights to show."""
    found = engine(monkeypatch, mistake)
    report = compare(truth, {name: x for name, x in found.items() if ".weights." not in name})
    expected = {
        "scores unscaled": "attention's scores are not scaled",
        "scores scaled twice": "attention's scores are scaled by 1 / sqrt(head_dim) twice",
    }.get(mistake, MISTAKES[mistake].cause)
    assert report.first.name == ATTN + "attended" and report.cause.startswith(expected)


@pytest.mark.parametrize(
    "mistake, cause",
    [
        ("l2 missing", TOO_LITTLE),
        ("late decay", TOO_LITTLE),
        ("taps reversed", TOO_LITTLE),  # for V heads in another order would be as wrong
        ("no gate", "the output gate is missing"),
        ("eps of norms", "the RMS norm has another eps"),
        ("convolution without SiLU", "SiLU is missing"),
    ],
)
def test_of_some_columns_not_all_can_be_told(monkeypatch, mistake, cause):
    few = record(open_model, PROMPT, provenance(FILE.path, PROMPT), columns=20)
    assert compare(few, engine(monkeypatch, mistake)).cause.startswith(cause)


def test_values_that_stand_elsewhere(truth):
    """Of 4 query heads, and of 4 V heads, each two of which share a K head."""
    c, values = truth.config, truth.values
    q, gate = (values[ATTN + part].reshape(-1, 4, c.head_dim) for part in ("q_proj", "gate"))
    z = values[GDN + "in_proj_z"].reshape(-1, 4, c.linear_value_head_dim)
    state = values[GDN + "state"].reshape(4, c.linear_key_head_dim, c.linear_value_head_dim)
    qk, v = np.split(values[GDN + "in_proj_qkv"], [2 * 2 * c.linear_key_head_dim], axis=1)
    v = v.reshape(z.shape)[:, [0, 2, 1, 3]].reshape(v.shape)
    radians = c.rope_theta ** (-2 * np.arange(c.rotary_dim // 2) / c.rotary_dim)
    time = PROMPT.positions[0][:, None] * radians
    halves, tiled = "q_proj is split into halves", "V heads stand in GGUF's tiled order"
    for name, found, cause in (
        (ATTN + "q_proj", gate, "query and gate are swapped"),
        (ATTN + "gate", q, "query and gate are swapped"),
        (ATTN + "q_proj", np.stack([q[:, 0], gate[:, 0], q[:, 1], gate[:, 1]], 1), halves),
        (ATTN + "gate", np.stack([q[:, 2], gate[:, 2], q[:, 3], gate[:, 3]], 1), halves),
        (GDN + "in_proj_z", z[:, [0, 2, 1, 3]], tiled),
        (GDN + "in_proj_qkv", np.concatenate([qk, v], 1), tiled),
        (GDN + "state", state[[0, 2, 1, 3]], tiled),
        (GDN + "state", state.transpose(0, 2, 1), "the state is transposed"),
        ("rope.angle", time, "RoPE knows only one coordinate"),
        ("rope.cos", np.cos(time), "RoPE knows only one coordinate"),
        ("rope.sin", np.sin(time), "RoPE knows only one coordinate"),
    ):
        told = find_cause(truth, name, found.reshape(values[name].shape))
        assert told and told.startswith(cause), (name, told)


def test_what_is_no_cause(truth):
    """A mistake that leaves more of the error than the arithmetic does; a negative scale."""
    name = GDN + "q_norm"
    exact = truth.values[name]
    scaled = 0.5 * exact
    blurred = scaled + 0.01 * np.random.default_rng(0).normal(size=exact.shape) * np.abs(exact).mean()
    for x, cause in (scaled, "all is off by one constant factor, 0.5"), (blurred, None), (-scaled, None):
        told = compare(truth, {name: x}).cause
        assert told is None if cause is None else told.startswith(cause)
    assert compare(truth, {"logits": np.ones(truth.entries["logits"].shape)}).cause == EQUAL


@pytest.mark.parametrize(
    "left, share, explained",
    [
        (0.9, 0.35, True),
        (1.45, 0.12, True),  # an engine that rounds elsewhere
        (0.9, 0.5, False),  # it is rounding that would be explained
        (3, 0.03, True),
        (3, 0.15, False),  # more than rounding leaves, and much of the error
        (8, 0.03, False),  # more than any arithmetic leaves
    ],
)
def test_how_much_of_an_error_may_be_left(truth, left, share, explained):
    """`left` times what rounding leaves, and that is a share of the whole: behind g with the wrong sign."""
    name = GDN + "g"
    exact, entry = truth.values[name], truth.entries[name]
    noise = np.random.default_rng(0).normal(size=exact.shape)
    noise *= share * rms(exact) / rms(noise)
    of_rounding = replace(entry, errors={"int8": (rms(noise) / left, 0.0)})
    damaged = replace(truth, entries=truth.entries | {name: of_rounding})
    cause = find_cause(damaged, name, noise - exact, allowed="int8")
    assert cause == ("the decay has the wrong sign: g is at most 0" if explained else None)


@pytest.mark.parametrize("here, explained", [(0.01, True), (1e-4, False)])
def test_a_mistake_explains_where_most_of_the_error_is(here, explained):
    exact, known = np.ones((100, 1)), np.ones((100, 1), bool)
    found = exact + np.where(np.arange(100) < 50, here, 1)[:, None]
    would_be = np.where(found == 2, np.nan, found)
    assert unexplained(exact, found, would_be, known, 0.0, 8) == (0 if explained else None)


def test_a_number_that_fits_is_not_told_where_a_mistake_could_not_be_tried():
    """Of some columns the root of the mean in place of the sum is no other than a constant factor."""
    case = by_name("video")
    assert compare(case.golden, show(case, "l2 by the mean")).cause == TOO_LITTLE


def test_nothing_is_told_from_next_to_nothing(truth):
    """Any factor explains one value, and a factor of 0 explains values that are small."""
    name = GDN + "g"
    exact = truth.values[name]
    assert find_cause(truth, name, np.zeros(exact.shape)) == "all values are zero"
    small = 1e-9 * np.random.default_rng(0).normal(size=exact.shape)
    assert find_cause(truth, name, small) is None
    assert find_cause(truth, name, 1.05 * exact) is None  # that is no scale
    few = np.where(np.arange(exact.size).reshape(exact.shape) < 3, 2 * exact, np.nan)
    assert find_cause(truth, name, few, ~np.isnan(few)) is None


def test_an_error_that_grows_is_no_boundary():
    """The state without its erasing: the error of token 64 is no other than that of 63."""
    case = by_name("length-129")
    found = show(case, "no erase", "bfloat16")
    report = compare(case.golden, found, "bfloat16")
    assert report.first.name == GDN + "o" and report.cause.startswith("the delta rule does not subtract")
    # nor is it where the rows do not let the rule be computed anew
    o = truncated(case.golden, GDN + "q_norm")
    assert find_cause(o, GDN + "o", golden.as_rows(found[GDN + "o"][o.entries[GDN + "o"].rows])) == TOO_LITTLE


def truncated(whole, name):
    """The golden without one of its tensors."""
    return replace(whole, entries={other: entry for other, entry in whole.entries.items() if other != name})


@pytest.mark.parametrize("value", [0, -1, 3, 10**12, 1.5, "x", None])
def test_a_golden_that_contradicts_itself(truth, value):
    """No mistake can be told, or the wrong one; but it is no error, and takes no memory."""
    foreign = {name: np.resize(x[:, ::-1], x.shape) for name, x in truth.values.items()}
    names = [name for name in truth.entries if name.startswith(("layers.0", "layers.3", "rope", "norm"))]
    configs = [replace(truth.config, **{f.name: value}) for f in fields(Config) if f.name != "yarn"]
    yarn = Yarn(4.0, 16, 32.0, 1.0, 1.1)
    configs += [replace(truth.config, yarn=replace(yarn, **{f.name: value})) for f in fields(Yarn)]
    for n, config in enumerate(configs):
        damaged = replace(truth, config=config)
        for name in names[n % 9 :: 9]:  # each one with a ninth of the fields
            find_cause(damaged, name, foreign[name])


def test_tensors_that_contradict_each_other(truth):
    """Of other rows, or of another shape: heads that are not split."""
    rng = np.random.default_rng(0)
    for name, entry in list(truth.entries.items())[::3]:
        flat = replace(entry, shape=(entry.shape[0], int(np.prod(entry.shape[1:]))))
        short = replace(entry, rows=entry.rows[:3])
        values = truth.values | {name: truth.values[name][:3]}
        for damaged in (
            replace(truth, entries=truth.entries | {name: flat}),
            replace(truth, entries=truth.entries | {name: short}, values=values),
        ):
            part = name.rpartition(".")[0]
            for other in damaged.entries:
                if other.startswith(part) and part.startswith(("layers.0.linear", "layers.3.self")):
                    find_cause(damaged, other, rng.normal(size=damaged.values[other].shape))
