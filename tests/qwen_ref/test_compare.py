"""The comparison's own rules, on goldens made by hand: what is still right, and what is no longer."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from gguf_io import open_gguf
from qwen_ref import QwenRefError
from qwen_ref.cli import golden as cli
from qwen_ref.cli import main
from qwen_ref.config import read_config
from qwen_ref.oracle import golden as files
from qwen_ref.oracle.arithmetic import (
    ARITHMETICS,
    to_bfloat16,
    to_float16,
    to_int8_inputs,
    with_float32_angles,
)
from qwen_ref.oracle.check import check
from qwen_ref.oracle.compare import (
    BETWEEN_STEPS,
    Difference,
    Partial,
    Report,
    Sum,
    compare,
    from_tiled,
    join,
    misspelt,
    times,
)
from qwen_ref.oracle.golden import Entry, Golden, wrong_parts
from qwen_ref.oracle.logits import agreement, best_of, divergence
from qwen_ref.oracle.record import new_entry

CONFIG = replace(read_config(open_gguf(Path(__file__).parents[1] / "fixtures" / "tiny.gguf")), vocab_size=50)
TIMES = {"float32": 8, "float16": 4, "bfloat16": 4, "int8": 4}  # as docs/golden.md has them
RMS, MOST = 0.01, 0.03  # how far each arithmetic is from the exact values, here


def golden(*names, T=4, prompt=4, gap=1.0, columns=50):
    """Tensors [T, columns] with an rms of 1, all arithmetics as far off; logits are `gap` apart, and the best
    tokens after t are t + 1, t + 2, …"""
    exact = np.random.default_rng(0).normal(size=(len(names), T, columns))
    exact /= np.sqrt(np.mean(exact**2, axis=(1, 2), keepdims=True))
    errors = dict.fromkeys(TIMES, (RMS, MOST))
    entries = {name: Entry((T, columns), list(range(T)), 1, 1.0, 3.0, dict(errors)) for name in names}
    best = np.arange(1, 21) + np.arange(T)[:, None]
    logits = np.tile(-gap * np.arange(20.0), (T, 1))
    inputs = {"token_ids": np.arange(T), "positions": np.tile(np.arange(T), (3, 1)), "top_ids": best}
    inputs |= {"top_logits": logits, "log_total": np.log(np.exp(logits).sum(1) + 1)}
    values = dict(zip(names, exact))
    return Golden({"prompt_tokens": prompt}, CONFIG, entries, inputs, values, {}, dict.fromkeys(TIMES, 1e-4))


@pytest.mark.parametrize("kind", TIMES)
def test_how_far_off_is_still_right(kind):
    """So many times as far as that arithmetic is in rms, and twice that in the worst value."""
    truth = golden("norm")
    exact = truth.values["norm"]
    worst = np.zeros_like(exact)
    worst[0, 0] = 1
    for error, budget in (np.ones_like(exact), TIMES[kind] * RMS), (worst, 2 * TIMES[kind] * MOST):
        for share, right in (0.99, True), (1.01, False):
            report = compare(truth, {"norm": exact + share * budget * error}, kind)
            assert (report.complaint is None) == right
            assert report.differences[0].share[kind] == pytest.approx(share)


def test_a_budget_is_at_least_one_rounding():
    truth = golden("norm")
    truth.entries["norm"].errors["float16"] = (0.0, 0.0)
    for share in 0.99, 1.01:
        found = truth.values["norm"] + share * 2.0**-11
        assert (compare(truth, {"norm": found}, "float16").complaint is None) == (share < 1)


def test_what_explains_an_error_is_the_strictest_arithmetic():
    truth = golden("norm")
    truth.entries["norm"].errors |= {"float32": (1e-6, 1e-5), "float16": (1e-4, 1e-3)}
    for error, explained in (
        (1e-12, "float64"),
        (7e-6, "float32"),
        (3e-4, "float16"),
        (0.01, "bfloat16"),
        (1, None),
    ):
        report = compare(truth, {"norm": truth.values["norm"] + error}, "float16")
        assert report.differences[0].explained == explained
        assert (report.first is None) == (explained in ("float64", "float32", "float16"))


def test_of_some_values_the_error_may_be_spread_otherwise():
    """50 of 200 values may hold all of the error: twice the rms of all, beside the decimals."""
    truth = golden("norm")
    exact, budget = truth.values["norm"], TIMES["float16"] * RMS
    for share, right in (0.99, True), (1.01, False):
        values = np.full_like(exact, np.nan)
        values[0] = exact[0] + share * (2 * budget + 0.005)
        report = compare(truth, {"norm": Partial(values, 0.005)}, "float16")
        assert (report.complaint is None, report.differences[0].count) == (right, 50)


def test_a_sum_may_be_off_by_all_errors_and_its_own_rounding():
    truth = golden("norm")
    exact = truth.values["norm"]
    budget = 200 * TIMES["float16"] * RMS + 0.25
    for share, right in (0.99, True), (1.01, False):
        given = Partial(exact, 0.0, Sum(share * budget, 0.25, exact.size))
        assert (compare(truth, {"norm": given}, "float16").complaint is None) == right


@pytest.mark.parametrize("kind", TIMES)
def test_near_ties_and_logits_that_are_too_far(kind):
    """Both logits may be as far off as the worst value may be; the divergence goes with its square."""
    for gap, right in (3.99 * TIMES[kind] * MOST, True), (4.01 * TIMES[kind] * MOST, False):
        report = compare(golden("logits", prompt=3, gap=gap), {"generated": [4]}, kind)
        assert (report.complaint is None) == right and report.greedy.startswith("0 of 1 tokens") == right
    truth = golden("norm", "logits")
    truth.inputs |= dict(zip(("top_ids", "top_logits", "log_total"), best_of(truth.values["logits"])))
    found = truth.values["logits"] + 1e-3 * np.random.default_rng(1).normal(size=(4, 50))
    kl = divergence(truth.inputs, found).mean()
    for share, right in (0.99, True), (1.01, False):
        truth.kl[kind] = kl / TIMES[kind] ** 2 / share
        assert (compare(truth, {"logits": found}, kind).complaint is None) == right


def test_some_greedy_tokens():
    truth = golden("logits", T=6, prompt=3)
    for found, sentence in ([3, 4, 5], "3 of 3"), ([3, 4], "2 of 3"), ([3, 4, 5, 9], "3 of 3"):
        assert compare(truth, {"generated": found}).greedy == f"{sentence} tokens, all the same"
    truth.inputs["top_ids"] = np.array([[n + 1, 7] for n in range(6)])
    truth.inputs["top_logits"] = np.array([[9.0, n] for n in range(6)])  # token 5 is told in row 4
    complaint = compare(truth, {"generated": [3, 4, 7]}).complaint
    assert complaint == "generated: token 2 is 7 and not 5, whose logit is 5.0e+00 higher"


@pytest.mark.parametrize(
    "found, sentence",
    [
        ({"token_ids": [0, 1, 2, 3, 4, 5]}, None),
        ({"token_ids": [[0, 1, 2, 3]]}, None),  # the prompt's, in a batch of one
        ({"token_ids": [0, 1, 2]}, "token_ids: of 3 tokens; the prompt has 4 and all are 6"),
        ({"token_ids": [0, 1, 2, 3, 4]}, "token_ids: of 5 tokens; the prompt has 4 and all are 6"),
        ({"token_ids": [0, 1, 2, 3, 4, 5, 6]}, "token_ids: of 7 tokens; the prompt has 4 and all are 6"),
        ({"token_ids": [0, 1, 2, 3, 4, 9]}, "token_ids: of token 5: 9 should be 5"),
        ({"positions": np.tile(np.arange(6), (3, 1))}, None),
        ({"positions": np.tile(np.arange(4), (3, 1, 1))}, None),  # transformers' [3, 1, T]
        ({"positions": np.tile(np.arange(5), (3, 1))}, "positions: of 5 tokens"),
        ({"positions": np.arange(6)}, r"positions: shape \[6\] should be \[3, 6\]"),
        ({"positions": np.tile(np.arange(7), (2, 1))}, r"positions: shape \[2, 7\] should be \[3, 6\]"),
    ],
)
def test_inputs_beside_the_tensors(found, sentence):
    truth = golden("norm", T=6)
    found = {name: np.array(x) for name, x in found.items()}
    if sentence is None:
        assert check(truth, found).complaint is None
    else:
        with pytest.raises(AssertionError, match=sentence):
            check(truth, found)


def test_dumps_that_share_nothing_with_the_golden():
    truth = golden("a", "b", "c", "d")
    for found, names in (dict.fromkeys("vwxyz"), "v, w, x"), ({}, "nothing"):
        with pytest.raises(QwenRefError) as error:
            compare(truth, found)
        assert str(error.value) == f"no tensor has a name of the golden's (a, b, c, …), but: {names}"
    with pytest.raises(
        QwenRefError, match="allowed: 'int4' is not one of float64, float32, float16, bfloat16, int8"
    ):
        compare(truth, {"a": truth.values["a"]}, "int4")
    for name, complaint in ("layers.4.norm", True), ("layers.3.norm", False):
        report = compare(truth, {"a": truth.values["a"], name: None})
        assert (report.complaint is not None) == complaint


def test_the_prompt_alone_is_of_text_only():
    """A picture has as many patches as it has, however long the prompt is."""
    truth = golden("images.0.norm", "norm", T=6)
    assert compare(truth, {"norm": truth.values["norm"][:4]}).differences[0].count == 4 * 50
    for name, rows in ("images.0.norm", 4), ("norm", 5), ("norm", 0):
        report = compare(truth, {name: truth.values[name][:rows]})
        assert report.complaint == f"{name}: shape ({rows}, 50) should be (6, 50)"


def test_a_message_around_the_first_tensor_that_is_wrong():
    """Three before it and three behind, as far as there are any, and six names of what was not given."""
    names = [f"layers.0.{n}" for n in "abcdefghij"]
    truth = golden(*names)
    for at, shown in (1, names[:5]), (5, names[2:9]), (9, names[6:]):
        with pytest.raises(AssertionError) as error:
            check(truth, truth.values | {names[at]: truth.values[names[at]] + 1})
        lines = str(error.value).splitlines()
        table = [line[2:].split()[0] for line in lines if line[2:].startswith("layers")]
        assert table == shown and f"> {names[at]}" in str(error.value)
    for count, end in (6, ""), (7, " and 1 more"):
        with pytest.raises(AssertionError) as error:
            check(truth, {n: truth.values[n] + 1 for n in names[count:]})
        assert str(error.value).endswith(f"not given: {', '.join(names[:6])}{end}\nlogits: not judged")


def test_a_whole_message():
    truth = golden(*(f"layers.0.{n}" for n in "abcd"))
    truth.about["file"] = "x.gguf"
    b, d = truth.values["layers.0.b"], truth.values["layers.0.d"] + 0.9
    with pytest.raises(AssertionError) as error:
        check(truth, {"layers.0.b": b, "layers.0.d": d})
    assert str(error.value).splitlines() == [
        "layers.0.d is the first tensor that float32 does not explain: its error is 11 × the budget",
        "no known mistake does this to a tensor",
        "",
        f"  tensor{' ' * 33}error/rms   of budget  explained by",
        f"  layers.0.b{' ' * 31}0.0e+00         0 %  float64",
        f"> layers.0.d{' ' * 31}9.0e-01        11 ×  -",
        "",
        "not given, and computed right before layers.0.d: layers.0.c",
        "",
        "2 of 4 tensors were compared; not given: layers.0.a, layers.0.c",
        "logits: not judged",
        "the golden is of x.gguf",
    ]
    with pytest.raises(
        AssertionError, match=r"right before layers\.0\.d: layers\.0\.a, layers\.0\.b, layers\.0\.c\n"
    ):
        check(truth, {"layers.0.d": d})


def test_tensors_that_have_to_be_found():
    truth = golden(*(f"layers.0.{n}" for n in "abcd"))
    found = {"layers.0.b": truth.values["layers.0.b"]}
    assert len(check(truth, found, names=["*.b"]).differences) == 1
    with pytest.raises(AssertionError, match=r"^2 of 3 tensors were not given: layers\.0\.a, layers\.0\.c$"):
        check(truth, found, names=["*.[a-b]", "layers.?.c"])
    with pytest.raises(QwenRefError, match=r"^names: no tensor of the golden fits B, c$"):
        check(truth, found, names=["B", "c"])


def test_a_report_as_it_is_printed(capsys):
    norm = Difference("norm", 200, 0.02, 0.03, 0.01, 0.99995, "float16", {})
    logits = Difference("logits", 100, 1.0, 2.0, 0.5, 0.25, None, {})
    found = {"kl": 0.12345, "same best token": 1.0}
    cli.print_report(Report("float32", [norm, logits], logits, "x", ["a", "b"], found, "2 of 3", "wrong"))
    head = "tensor                                   error/rms       max      cosine  explained by"
    lines = [
        head,
        "norm                                       1.0e-02   3.0e-02  0.99995000  float16",
        "logits                                     5.0e-01   2.0e+00  0.25000000  -  <- first",
        "300 values were compared",
        "logits: kl 0.123",
        "logits: same best token 1",
        "2 of 4 tensors were compared; not given: a, b",
        "logits: not judged",
        "greedy tokens: 2 of 3",
        "wrong",
        "likely cause: x",
    ]
    assert capsys.readouterr().out.splitlines() == lines
    cli.print_report(Report("float32", [logits], logits, None, [], {}, None, "wrong"))
    assert capsys.readouterr().out.splitlines() == [
        *(head, lines[2], "100 values were compared", "1 of 1 tensors were compared", "logits: not judged"),
        *("wrong", "no known mistake does this"),
    ]
    cli.print_report(Report("int8", [norm], None, None, [], {}, scope="all 4 tokens"))
    right = "All 1 tensors that were compared are within what int8 explains"
    assert capsys.readouterr().out.splitlines() == [
        *(head, lines[1], "200 values were compared", "1 of 1 tensors were compared"),
        *("logits: of all 4 tokens", right),
    ]


def test_a_golden_as_it_is_shown(monkeypatch, capsys):
    truth = golden("norm")
    truth.about |= {"text": "a\nb"}
    truth.entries["norm"].errors = {"float16": (9.0, 9.0), "float32": (1e-6, 9.0)}
    truth.entries["norm"].errors |= {"bfloat16": (2e-3, 9.0), "int8": (3e-2, 9.0)}
    monkeypatch.setattr(files, "load", lambda path: truth)
    assert main(["golden", "show", "x"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "prompt_tokens  4",
        r"text           'a\nb'",
        "token_ids      [0, 1, 2, 3]",
        "",
        "tensor                                         rms   float32  bfloat16      int8  shape (rows kept)",
        "norm                                       1.0e+00   1.0e-06   2.0e-03   3.0e-02  [4, 50] (4)",
    ]


def test_shares_as_they_are_read():
    assert [times(x) for x in (0.25, 1, 1.01, 3.14, 9.96, 10, 31415, 1e6, np.inf)] == [
        *["25 %", "100 %", "1.0 ×", "3.1 ×", "10.0 ×", "10 ×", "31,415 ×", "1e+06 ×", "inf ×"]
    ]


def test_the_figures_of_a_difference():
    truth = golden("a", "b", "c", columns=3)
    truth.entries["a"].rms = 2.0  # of the whole tensor, of which less is kept
    truth.entries["b"] = Entry((4, 3), [0, 1, 2, 3], 1, 0.0, 0.0)  # nothing, which no engine may be far from
    truth.values["b"] = np.zeros((4, 3))
    error = np.arange(12.0).reshape(4, 3) / 100
    found = {name: truth.values[name] + error for name in "ab"} | {"c": np.where(error > 0.1, np.nan, 1.0)}
    a, b, c = compare(truth, found).differences
    rms = np.sqrt(np.mean(error**2))
    exact = truth.values["a"].ravel()
    cosine = found["a"].ravel() @ exact / np.linalg.norm(found["a"]) / np.linalg.norm(exact)
    assert (a.count, a.rms, a.max, a.relative) == (12, *map(pytest.approx, (rms, 0.11, rms / 2)))
    assert a.cosine == pytest.approx(cosine) and (b.relative, b.cosine) == (pytest.approx(rms), 0)
    assert b.share["int8"] > 1e300 and (c.rms, c.max, c.cosine, c.explained) == (np.inf, np.inf, 0, None)
    report = compare(truth, {"b": np.zeros((4, 3))})
    assert (report.differences[0].explained, report.missing) == ("float64", ["a", "c"])


# ---- logits and roundings


def test_the_best_tokens_of_logits():
    ties = np.tile([3.0, 5.0, 4.0], 1000)  # of equal ones the first
    order, best, total = best_of(np.stack([ties, ties - 5000]), 20)
    assert order.tolist() == [list(range(1, 60, 3))] * 2 and best.tolist() == [[5] * 20, [-4995] * 20]
    exact = 5 + np.log(1000 * (1 + np.exp(-1) + np.exp(-2)))
    assert total == pytest.approx([exact, exact - 5000])
    truth = golden("logits")
    truth.inputs |= dict(zip(("top_ids", "top_logits", "log_total"), best_of(truth.values["logits"])))
    assert agreement(truth.inputs, truth.values["logits"]) == {
        "kl": pytest.approx(0, abs=1e-12),
        "same best token": 1,
        "same best five": 1,
    }
    other = truth.values["logits"].copy()
    np.put_along_axis(other, truth.inputs["top_ids"][:, :1], -9.0, 1)  # the best one is now the last
    found = agreement(truth.inputs, other)
    assert (found["same best token"], found["same best five"]) == (0, pytest.approx(0.8))


def test_divergence_is_that_of_the_best_and_of_all_others():
    exact, found = np.random.default_rng(0).normal(size=(2, 3, 50)) * 3
    inputs = dict(zip(("top_ids", "top_logits", "log_total"), best_of(exact, 20)))
    for t in range(3):
        p, q = (np.exp(x[t]) / np.exp(x[t]).sum() for x in (exact, found))
        best = inputs["top_ids"][t]
        terms = sum(p[best] * np.log(p[best] / q[best]))
        rest_p, rest_q = 1 - p[best].sum(), 1 - q[best].sum()
        expected = terms + rest_p * np.log(rest_p / rest_q)
        assert divergence(inputs, found[t : t + 1], slice(t, t + 1)) == pytest.approx([expected])
    inputs = dict(zip(("top_ids", "top_logits", "log_total"), best_of(exact, 50)))  # no others are left
    assert (abs(divergence(inputs, exact)) < 1e-14).all()


def test_roundings():
    """To even where a value lies in the middle; what float16 has not is its largest; 8 bits by blocks."""
    one = 2.0**-8
    x = np.array([1 + one, 1 + 3 * one, 1 + one * 1.01, -1 - one, 0, 3.0])
    assert to_bfloat16("", x).tolist() == [1, 1 + 4 * one, 1 + 2 * one, -1, 0, 3]
    assert to_float16("", np.array([1e6, -1e9, 1 + 2.0**-11, 0.1])).tolist()[:3] == [65504, -65504, 1]
    wide, narrow = np.zeros((1, 512)), np.zeros((1, 96))
    for row in wide, narrow:
        row[0, :4] = 127, 0.4, 0.6, -126.5
        row[0, 40] = 0.3
    assert to_int8_inputs("mlp.gated", wide)[0, [0, 1, 2, 3, 40, 300]].tolist() == [127, 0, 1, -126, 0, 0]
    rounded = to_int8_inputs("norm", narrow)[0]
    assert rounded[:4].tolist() == [127, 0, 1, -126] and rounded[40] == pytest.approx(0.3)  # another block
    assert to_int8_inputs("layers.0.mlp.up_proj", wide) is None and to_int8_inputs("q_norm", wide) is None


def test_angles_are_float32_in_every_arithmetic():
    x = np.array([[1 + 2.0**-8, *[0.1] * 31]])
    rounding = with_float32_angles(to_bfloat16)
    assert (rounding("rope.angle", x) == x.astype(np.float32)).all() and rounding("rope.cos", x)[0, 0] == 1
    assert rounding("rope.angle", x).dtype == np.float64
    kinds = {kind: dtype for kind, (dtype, _) in ARITHMETICS.items()}
    assert kinds == {"bfloat16": np.float64, "float16": np.float64, "int8": np.float64, "float32": np.float32}
    for kind, (_, rounding) in ARITHMETICS.items():
        assert (rounding("rope.angle", x) == x.astype(np.float32)).all()
        assert (rounding("norm", x) is None) == (kind == "float32")


def test_heads_in_ggufs_order_beside_other_things():
    """Names that the golden has not, and what is known in part, stay as they are."""
    name = "layers.0.linear_attn.beta"
    H = CONFIG.linear_num_value_heads
    truth = golden(name, "norm", columns=H)
    found = {name: truth.values[name], "norm": truth.values["norm"], "layers.9.linear_attn.g": "anything"}
    converted = from_tiled(truth, found)
    assert converted.keys() == found.keys() and converted["norm"] is found["norm"]
    part = Partial(truth.values[name], 0.1)
    assert from_tiled(truth, {name: part})[name] is part


def test_what_a_golden_keeps():
    def kept(rows, columns=None, T=5, C=10):
        entry = new_entry((T, C), rows, columns)
        return entry.rows, entry.stride

    assert kept(None) == ([0, 1, 2, 3, 4], 1) and kept(5, 10) == ([0, 1, 2, 3, 4], 1)
    assert kept(3)[0] == [0, 2, 4] and kept(1)[0] == [0] and kept(2)[0] == [0, 4]
    assert kept([-1, 0, 1, 4, 5, -6])[0] == [0, 1, 4] and kept([-5])[0] == [0]
    assert [kept(None, columns)[1] for columns in (1, 3, 4, 5, 9, 11)] == [10, 4, 3, 2, 2, 1]
    entry = new_entry((5, 2, 5), [1, 3], 4)
    x = np.arange(50).reshape(5, 2, 5)
    assert entry.sample(x).tolist() == [[10, 13, 16, 19], [30, 33, 36, 39]]
    assert entry.rows_in(1, 2) == [0] and entry.rows_in(2, 2) == [1]


# ---- verdicts


def with_logits(*names, T=10, prompt=7):
    """A golden whose best tokens are those of its logits."""
    truth = golden(*names, "logits", T=T, prompt=prompt)
    truth.inputs |= dict(zip(("top_ids", "top_logits", "log_total"), best_of(truth.values["logits"])))
    return truth


def test_right_is_only_what_showed_its_logits():
    truth = with_logits("norm", T=6, prompt=4)
    norm, logits = truth.values["norm"], truth.values["logits"]
    for found, verdict, scope in (
        ({"logits": logits}, "right", "all 6 tokens"),
        ({"logits": logits[:4], "norm": norm}, "right", "the prompt's 4 tokens alone"),
        ({"norm": norm}, "partly judged", ""),
        ({"norm": norm, "generated": truth.inputs["top_ids"][3:4, 0]}, "partly judged", ""),
        ({"norm": norm, "logit": logits}, "partly judged", ""),
        ({"norm": norm + 1}, "wrong", ""),
    ):
        report = compare(truth, found)
        assert (report.verdict, report.scope) == (verdict, scope)
        assert report.unknown == [name for name in found if name == "logit"]
        assert report.decoding == "not judged"  # in one piece
    assert compare(truth, {"norm": norm}).part == "1 of 2 tensors"
    with pytest.warns(UserWarning, match="not compared, since no golden has such names: logit"):
        assert check(truth, {"norm": norm, "logit": logits}).verdict == "partly judged"
    with pytest.raises(QwenRefError, match="no tensor has a name of the golden's"):
        compare(truth, {"logit": logits})


def test_a_wrong_shape_is_one_finding():
    truth = with_logits("a", "b", "c")
    found = truth.values | {"a": np.zeros((3, 3)), "b": truth.values["b"] + 1}
    report = compare(truth, found)
    assert report.complaint == "a: shape (3, 3) should be (10, 50)" and report.shapes.keys() == {"a"}
    assert report.first.name == "b" and [d.name for d in report.differences] == ["b", "c", "logits"]
    assert report.missing == [] and report.part == "3 of 4 tensors"
    with pytest.raises(AssertionError, match=r"(?s)a: shape \(3, 3\) should be .*> b "):
        check(truth, found)


# ---- decoding


def pieces(found, prompt=7):
    """One array for all steps, as an engine has it that fills its buffers again."""
    T = len(next(iter(found.values())))
    buffer = {name: x[:prompt].copy() for name, x in found.items()}
    yield buffer
    buffer |= {name: np.empty((1, *x.shape[1:])) for name, x in found.items()}
    for t in range(prompt, T):
        for name, x in found.items():
            buffer[name][0] = x[t]
        yield buffer


def test_parts_are_put_together():
    truth = with_logits("norm")
    whole = join(truth, pieces(truth.values))
    assert whole["steps"] == 3 and all((whole[name] == x).all() for name, x in truth.values.items())
    report = compare(truth, pieces(truth.values), "float64")
    assert (report.verdict, report.scope, report.decoding) == ("right", "all 10 tokens", "3 steps")
    nothing = compare(truth, {"norm": np.full((7, 50), np.nan)})
    assert nothing.cause == "some values are not finite"
    only = compare(truth, [next(pieces(truth.values))])
    assert (only.verdict, only.scope, only.decoding) == ("right", "the prompt's 7 tokens alone", "not judged")
    copies = [{name: x.copy() for name, x in part.items()} for part in pieces(truth.values)]
    last = [part | {"logits": part["logits"][-1], "other": 0} for part in copies]
    for parts, scope in (
        (last, "the prompt's last token and 3 steps"),
        (last[:1], "the prompt's last token alone"),
    ):
        report = compare(truth, parts)
        assert (report.verdict, report.scope, report.unknown) == ("right", scope, ["other"])
    beside = compare(truth, [{"token_ids": [*range(7)]}, *[{"token_ids": n} for n in (7, 8, 5)]])
    assert beside.complaint == "token_ids: of token 9: 5 should be 9"
    bad = compare(truth, [last[0], last[1], {"norm": np.zeros((2, 50))}, last[3]])
    assert bad.shapes["norm"] == "norm: shape (2, 50) should be (10, 50), of one step (1, 50)"


@pytest.mark.parametrize(
    "found, sentence",
    [
        ([], "0 parts were given; the prompt and 3 tokens after it are 4, and the prompt alone is 1"),
        ([{"norm": np.zeros((7, 50))}, {}], "2 parts were given"),
        (({} for _ in iter(int, 1)), "more parts were given"),  # without end
        ([{}, 3], "step 0: int is no mapping of names to tensors"),
        (None, "NoneType: is neither a mapping of names to tensors nor some of them"),
        (
            {"norm": np.zeros((10, 50)), "steps": 2},
            "steps: \\[2\\] should be 3, all tokens after the prompt, or 0",
        ),
    ],
)
def test_parts_that_are_none(found, sentence):
    with pytest.raises(QwenRefError, match=sentence):
        compare(with_logits("norm"), found)


def in_parts():
    """3 tokens, 2 and behind them 2 that are rejected, 4, 1; and each piece's rows, and a state."""
    truth = with_logits("norm", "x.state", T=10, prompt=3)
    truth.about |= {"parts": [3, 2, 4, 1], "rejected": {"1": [7, 8]}}
    ends = [0, 3, 5, 9, 10]
    rows = {name: truth.values[name] for name in ("norm", "logits")}
    pieces = [{name: x[a:b].copy() for name, x in rows.items()} for a, b in pairwise(ends)]
    for piece in pieces:
        piece["x.state"] = truth.values["x.state"]
    return truth, pieces


def test_a_golden_in_parts():
    truth, pieces = in_parts()
    assert truth.parts == [([0, 1, 2], []), ([3, 4], [7, 8]), ([5, 6, 7, 8], []), ([9], [])]
    drafted = [dict(piece) for piece in pieces]
    for name in "norm", "logits":  # rows of rejected tokens are not looked at
        drafted[1][name] = np.concatenate([pieces[1][name], np.full((2, 50), 9.0)])
    last = [piece | {"logits": piece["logits"][-1:]} for piece in pieces]
    tokens = [{"token_ids": ids + rejected} for ids, rejected in truth.parts]
    for parts, scope in (
        (pieces, "all 10 tokens"),
        (drafted, "all 10 tokens"),
        (last, "the prompt's last token and 3 steps"),
        ([a | b for a, b in zip(pieces, tokens)], "all 10 tokens"),
    ):
        report = compare(truth, parts, "float64")
        assert (report.verdict, report.scope, report.decoding) == ("right", scope, "3 steps")
        assert [d.count for d in report.differences] == [500, 500, 200 if parts is last else 500]
    late = [*pieces[:2], pieces[2] | {"norm": pieces[2]["norm"] + 1}, pieces[3]]
    assert compare(truth, late).cause == BETWEEN_STEPS
    state = [*pieces[:3], pieces[3] | {"x.state": truth.values["x.state"] + 1, "norm": pieces[3]["norm"] + 1}]
    report = compare(truth, state)
    assert (report.first.name, report.cause) in [("norm", BETWEEN_STEPS), ("x.state", BETWEEN_STEPS)]


def test_a_golden_in_parts_one_token_at_a_time():
    truth, _ = in_parts()
    rows = {name: truth.values[name] for name in ("norm", "logits")}
    report = compare(truth, pieces(rows, 3), "float64")
    assert (report.verdict, report.decoding) == ("right", "7 steps, without the rejected drafts")
    for steps, decoding in (7, "7 steps, without the rejected drafts"), (3, "3 steps"), (0, "not judged"):
        assert compare(truth, {**rows, "steps": steps}, "float64").decoding == decoding
    ends = truth.values["logits"][[2, 4, 8, 9]]
    assert compare(truth, {"logits": ends, "steps": 3}, "float64").verdict == "right"
    assert compare(truth, {"logits": truth.values["logits"][2:], "steps": 7}, "float64").verdict == "right"
    assert compare(truth, {"logits": ends[::-1], "steps": 3}).verdict == "wrong"
    with pytest.raises(QwenRefError, match=r"steps: \[5\] should be 7, all tokens after .* 3, the golden's"):
        compare(truth, {**rows, "steps": 5})
    with pytest.raises(QwenRefError, match=r"2 parts were given; .* are 8, or 4 as the golden has them, and"):
        compare(truth, [rows, rows])


@pytest.mark.parametrize(
    "about, sentence",
    [
        ({}, None),
        ({"parts": [4, 6]}, None),
        ({"parts": [4, 5]}, "parts: 9 tokens in all and 4 in the first; there are 10, and 4 of the prompt"),
        ({"parts": [5, 5]}, "parts: 10 tokens in all and 5 in the first"),
        ({"parts": [4, 0, 6]}, "parts: [4, 0, 6] are no counts of tokens"),
        ({"parts": "x"}, "parts: 'x' are no counts of tokens"),
        ({"rejected": {"0": [49]}}, None),
        ({"rejected": {"0": [50]}}, "rejected: [50] are no token ids"),
        ({"rejected": {"0": [True]}}, "rejected: [True] are no token ids"),
        ({"rejected": {"1": [3]}}, "rejected: {'1': [3]} does not name parts"),
        ({"rejected": [3]}, "rejected: [3] does not name parts"),
    ],
)
def test_parts_that_a_golden_cannot_have(about, sentence):
    told = wrong_parts({"prompt_tokens": 4} | about, 10, 50)
    assert told is None if sentence is None else told.startswith(sentence)


def test_tokens_that_were_forced_are_not_greedy():
    """The golden's own best token is, as long as what was forced is the same."""
    truth = golden("logits", T=8, prompt=3)
    truth.inputs["token_ids"][5] = 30
    report = compare(truth, {"generated": [3, 4, 5, 6, 7]})
    assert (report.complaint, report.greedy) == (None, "3 of 3 tokens, all the same")
    assert compare(truth, {"generated": [3, 4, 30]}).complaint.startswith(
        "generated: token 2 is 30 and not 5"
    )


def test_the_error_of_few_steps_is_not_diluted():
    """One decoded row among a hundred: of all rows it is a tenth of the error."""
    truth = with_logits("norm", T=100, prompt=99)
    found = {name: x.copy() for name, x in truth.values.items()}
    found["norm"][-1] += 6 * RMS * np.sign(found["norm"][-1])  # within what one value may be off by
    assert compare(truth, found, "float16").complaint is None  # in one piece it is among all others
    report = compare(truth, found | {"steps": 1}, "float16")
    assert report.first.name == "norm" and report.cause == BETWEEN_STEPS
    assert "in decoding its error is 1." in report.complaint
    assert compare(truth, found | {"steps": 0}, "float16").decoding == "not judged"


def test_the_divergence_of_steps_has_a_budget_of_its_own():
    """All together and each alone, which may be four times as far off."""
    truth = with_logits("norm", T=60, prompt=50)
    truth.entries["logits"].errors = dict.fromkeys(TIMES, (9.0, 9.0))
    found = {"steps": 10, "logits": truth.values["logits"].copy()}
    found["logits"][50:] += 1e-2 * np.random.default_rng(1).normal(size=(10, 50))
    kl = divergence(truth.inputs, found["logits"])[50:]
    for budget, complaint in (
        (1.01 * max(kl.mean(), kl.max() / 4), None),
        (0.99 * kl.mean(), "in decoding the logits' KL divergence"),
    ):
        truth.kl["float16"] = budget / 16
        report = compare(truth, found, "float16")
        assert report.logits["kl of steps"] == pytest.approx(kl.mean())
        assert (report.complaint or "").startswith(complaint or "") and bool(report.complaint) == bool(
            complaint
        )
    found["logits"][50:] = truth.values["logits"][50:]
    found["logits"][57] += 1e-2 * np.random.default_rng(1).normal(size=50)
    truth.kl["float16"] = 0.2 * divergence(truth.inputs, found["logits"])[57] / 16  # a tenth is the mean
    of_step = "in decoding the logits' KL divergence of step 7, "
    assert compare(truth, found, "float16").complaint.startswith(of_step)
    assert compare(truth, {"logits": found["logits"]}, "float16").complaint.startswith(
        "the logits' KL divergence of token 57, "
    )


def test_after_a_near_tie_nothing_is_judged_by_greedy_tokens():
    truth = golden("logits", T=8, prompt=3, gap=2 * TIMES["int8"] * MOST)
    report = compare(truth, {"generated": [3, 5, 9, 9, 9]}, "int8")
    assert report.verdict == "partly judged" and report.greedy.startswith("1 of 5 tokens, then a near-tie: ")
    assert report.greedy.endswith("whose logit is 2.4e-01 higher; 3 tokens after it are not judged")
    for token, least in (
        (5, ""),
        (40, "at least "),
    ):  # the third best is twice as far; what is not among the best
        if token == 5:
            truth = golden("logits", T=8, prompt=3, gap=2.01 * TIMES["int8"] * MOST)
        complaint = compare(truth, {"generated": [token]}, "int8").complaint
        assert f"{token} and not 3, whose logit is {least}" in complaint


def test_names_that_no_golden_has():
    good = ["logits", "layers.3.self_attn.weights.1", "layers.0.mlp.gated", "images.0.blocks.1.attn.qkv"]
    bad = ["logit", "layer.0.mlp.gated", "layers.0.mlp.gate", "images.0.block.1.attn.qkv", "images.0"]
    assert misspelt([*good, *bad, "videos.2.merger.norm"]) == bad
