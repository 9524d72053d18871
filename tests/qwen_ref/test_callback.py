"""What llama-eval-callback printed of tiny-grouped.gguf's weights (F32), checked against a golden."""

import gzip
import re
from dataclasses import replace

import numpy as np
import pytest

from qwen_ref import QwenRefError, load
from qwen_ref.cli import main
from qwen_ref.oracle import callback, golden
from qwen_ref.oracle.compare import ONLY_THE_SUM, Partial, compare
from qwen_ref.oracle.record import record
from qwen_ref.prompt import Prompt

NOT_THERE = {"rope.angle", "rope.cos", "rope.sin"}  # in llama.cpp's graph


def missing(report):
    """But for the MTP layer, which llama-eval-callback does not run."""
    return {name for name in report.missing if not name.startswith("mtp.")}


@pytest.fixture(scope="module")
def model(fixtures):
    def open_model(dtype):
        return load(fixtures / "tiny-grouped.gguf", dtype=dtype, backend="numpy")

    line = (fixtures / "texts.txt").read_text(encoding="utf-8").splitlines()[0]
    return open_model, Prompt(open_model(np.float64).tokenizer.encode(line))


@pytest.fixture(scope="module")
def truth(model):
    return record(*model, {})


@pytest.fixture(scope="module")
def printed(fixtures):
    return gzip.decompress((fixtures / "eval-callback-tiny.txt.gz").read_bytes()).decode()


@pytest.fixture
def check(truth, tmp_path):
    """Writes a text into a file and compares it."""

    def write_and_compare(text, truth=truth):
        (tmp_path / "dump.txt").write_text(text, encoding="utf-8")
        return compare(truth, callback.read(tmp_path / "dump.txt", truth))

    return write_and_compare


def test_every_tensor_of_the_golden_is_found_and_right(check, truth, printed):
    report = check(printed)
    assert missing(report) <= NOT_THERE and report.first is None
    count = {d.name: d.count for d in report.differences}
    assert count["layers.0.linear_attn.in_proj_z"] == 6 * 4 * 6  # of tokens, heads and their columns
    assert report.differences.pop().count == 6  # logits, of the last token alone
    assert all(d.count >= 24 for d in report.differences)
    assert max(d.max for d in report.differences) < 1e-4  # printed to half of that


def test_of_a_golden_with_a_continuation_the_prompt_is_compared(check, model, truth, printed):
    """All rows of the prompt, logits after its last token, and neither the state nor attention weights."""
    continued = record(*model, {}, generate=4)
    assert len(continued.inputs["token_ids"]) == len(truth.inputs["token_ids"]) + 4
    report, whole = check(printed, continued), check(printed)
    others = missing(report) - NOT_THERE
    assert {name.split(".")[3] for name in others} == {"state", "weights"}
    assert report.first is None
    counts = {d.name: d.count for d in whole.differences}
    assert all(d.count == counts[d.name] for d in report.differences)


def values_of(printed, name, change):
    """The text with the values of one tensor changed by a function of the text that prints them."""
    head, values, rest = re.fullmatch(rf"(?s)(.*? {name} = .*?\n)(.*?)(common_debug.*)", printed).groups()
    return head + change(values) + rest


@pytest.mark.parametrize(
    "change, cause",
    [
        (lambda text: re.sub(r"\d+(?=\.\d{4})", lambda n: str(int(n[0]) + 1), text, count=1), None),
        (lambda text: re.sub(r"sum = (\S+)", lambda s: f"sum = {float(s[1]) + 1}", text), ONLY_THE_SUM),
        (lambda text: re.sub(r" \d+\.\d{4}", " nan", text, count=1), "some values are not finite"),
    ],
)
def test_a_value_that_is_wrong_is_found(check, printed, change, cause):
    report = check(values_of(printed, "ffn_up-2", change))
    assert report.first.name == "layers.2.mlp.up_proj" and report.cause == cause
    assert len([d for d in report.differences if d.share["float32"] > 1]) == 1


def test_a_norm_without_its_one_is_named(check, truth, printed):
    """What is printed is right, and the golden is of a model whose norm has another weight."""
    name = "layers.1.post_attention_layernorm"
    values = truth.values | {name: truth.values[name] * np.linspace(1.5, 3, 64)}
    report = check(printed, replace(truth, values=values))
    assert report.first.name == name and report.cause.startswith("the norm has another weight")


VERSIONS = {
    "stdout alone": lambda text: "".join(x for x in text.splitlines(True) if not re.match(r"\d|warning", x)),
    "without a prefix": lambda text: re.sub(r"(?m)^\d[\d.]* \w ", "", text),
    "older": lambda text: re.sub(r"(?m)^\d[\d.]* \w ", "", text).replace(
        "common_debug_cb_eval", "ggml_debug"
    ),
    "in colours": lambda text: re.sub(
        r"(?m)^(\d[\d.]*) (\w) ", "\x1b[34m\\1\x1b[0m \x1b[32m\\2 \x1b[0m", text
    ),
    "log among the values": lambda text: text.replace("],\n", "],\n0.01 W a warning, 12\n"),
    "lines of Windows": lambda text: text.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_other_versions_and_ways_to_redirect(check, printed, version):
    text = VERSIONS[version](printed)
    assert text != printed
    report, other = check(printed), check(text)
    assert report == other


def test_a_golden_that_keeps_a_sample(check, model, printed):
    """The last token is in it, so all tensors are compared; sums only where all columns are kept."""
    sampled = record(*model, {}, rows=3, columns=40)
    report = check(printed, sampled)
    assert missing(report) <= NOT_THERE and report.first is None
    up = next(d for d in report.differences if d.name == "layers.2.mlp.up_proj")
    assert up.count == 2 * 1  # of the rows the first and the last, of every fourth column the first


def without(text, name, line):
    """The text without the first line of a tensor that begins so."""
    return re.sub(rf"(?s)( {name} = .*?\n){line}.*?\n", r"\1", text, count=1)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda text: "", "has no tensors as llama-eval-callback prints them"),
        (lambda text: text.replace(" 1}\n", " 7}\n"), "no tensor has a name and a shape of the golden's"),
        (lambda text: text[: text.index(" ffn_up-2 = ") + 400], r"ffn_up-2: \d+ of 36 values are there"),
        (lambda text: without(text, "ffn_up-2", r" +\[ +[-\d]"), "ffn_up-2: 30 of 36 values are there"),
        (lambda text: without(text, "ffn_up-2", " +sum"), "ffn_up-2: 36 of 36 values are there, or no sum"),
        (lambda text: text.replace(" 0.", " 0.x"), r"line \d+: \S+: '.*' are no numbers"),
        (
            lambda text: re.sub(r"(input tokens = \d+\n.*\n\S+ I +)\d+", r"\g<1>5", text),
            r"input token 1 is 5 and in the golden \d+: both need the same prompt",
        ),
        (
            lambda text: re.sub(r"(input tokens = )\d+", r"\g<1>6", text),
            r"6 input tokens are not the golden's \d+: both need the same prompt",
        ),
    ],
)
def test_texts_that_are_refused(check, printed, change, sentence):
    with pytest.raises(QwenRefError, match=f"dump.txt: {sentence}"):
        check(change(printed))


def test_error_may_lie_where_values_are_printed(truth):
    """The budget is of all values: its first row may be off by as much as a whole tensor."""
    name = "layers.2.mlp.up_proj"
    exact, (rms, _) = truth.values[name], truth.entries[name].errors["float32"]
    off = exact.copy()
    off[0] += 8 * rms * np.sqrt(0.99 * len(exact))  # 8: the slack of float32
    shown = np.full(exact.shape, np.nan)
    shown[0] = off[0]
    assert compare(truth, {name: off}).first is None
    assert compare(truth, {name: Partial(shown, 0.0)}).first is None
    shown[0] += rms
    assert compare(truth, {name: Partial(shown, 0.0)}).first is not None


def test_another_number_of_tokens_is_seen_without_their_ids(check, truth, printed):
    other = replace(truth, about={}, inputs=truth.inputs | {"token_ids": np.arange(3)})
    with pytest.raises(
        QwenRefError, match=r"dump.txt: the dump is of \d+ tokens and the golden of 3: it has"
    ):
        check(VERSIONS["stdout alone"](printed), other)


def test_command(truth, printed, tmp_path, capsys):
    golden.save(truth, tmp_path / "tiny.safetensors")
    (tmp_path / "dump.log").write_text(printed, encoding="utf-8")
    line = ["golden", "check", str(tmp_path / "tiny.safetensors"), str(tmp_path / "dump.log")]
    assert main(line) == 0
    assert "tensors that were compared are within what float32 explains" in capsys.readouterr().out
