"""The MTP layer: read when it is asked for, in one piece or token by token, and its known mistakes are named.

tests/oracle/test_mtp.py compares it with a plain PyTorch statement and with llama.cpp.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from mistakes import MISTAKES, planted
from rewrite import rewrite
from test_oracle import PROMPT

from gguf_io import open_gguf
from qwen_ref import QwenRefError
from qwen_ref.model.mtp import MTPLayer, of_the_token_before
from qwen_ref.model.text import TextModel
from qwen_ref.model.trace import watching
from qwen_ref.oracle import golden, record
from qwen_ref.oracle.arithmetic import ARITHMETICS, unrounded
from qwen_ref.oracle.causes.mtp import CHAIN_WITHOUT_NORM
from qwen_ref.oracle.compare import BETWEEN_STEPS, compare

WITH, WITHOUT = "tiny-grouped.gguf", "tiny.gguf"


@pytest.fixture(scope="module")
def open_model(fixtures):
    return lambda dtype: SimpleNamespace(text=TextModel(open_gguf(fixtures / WITH), dtype))


@pytest.fixture(scope="module")
def truth(open_model):
    return record.record(open_model, PROMPT, {}, generate=4, rows=[0, 1, 2, 30, -5, -1])


def mtp_tensors(text, prompt, x, hidden, golden, watch, rounding=unrounded, begin=lambda layer, own: own):
    """Those of a draft, behind what the model computed; `watch` sees the others. `begin` may change H'."""
    layer = MTPLayer(text)
    own, state = record.run_mtp(layer, prompt, x, hidden, watch)
    with watching(watch):
        layer.logits(own)
    draft_ids = golden.inputs["draft_ids"].tolist()
    return record.run_draft(layer, begin(layer, own)[-1:], state, draft_ids, rounding)[1]


def engine(model, golden, arithmetic="float32", without_norm=False):
    """What an engine gives that computes in this arithmetic."""
    found, rounding = {}, ARITHMETICS[arithmetic][1]
    prompt = replace(PROMPT, token_ids=golden.inputs["token_ids"].tolist())

    def watch(name, x):
        instead = rounding(name, x)
        found[name] = record.canonical(name, x if instead is None else instead, model.text.config)
        return instead

    x, hidden = record.run(model, prompt, watch)
    with watching(watch):
        model.text.logits(hidden)
    begin = (lambda layer, own: found["mtp.output"]) if without_norm else (lambda layer, own: own)
    return found | mtp_tensors(model.text, prompt, x, hidden, golden, watch, rounding, begin)


def test_shapes_and_a_text_in_pieces(open_model):
    """A draft goes in token by token, after which the state goes back to what the model has accepted."""
    text = open_model(np.float64).text
    layer = MTPLayer(text)
    ids = PROMPT.token_ids[:20]
    hidden = text.forward(ids, text.new_state())
    x, before = layer.embed(ids), of_the_token_before(hidden)
    whole = layer.forward(x, before, layer.new_state())
    assert whole.shape == (20, text.config.hidden_size) and not before[0].any()
    assert layer.logits(whole).shape == (20, text.config.vocab_size)
    state = layer.new_state()
    parts = [layer.forward(x[:15], before[:15], state)]
    draft = state.copy()
    for _ in range(3):
        layer.forward(layer.embed([7]), parts[0][-1:], draft)
    parts += [layer.forward(x[i : i + 1], before[i : i + 1], state) for i in range(15, 20)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-12)
    assert (state.num_tokens, state.next_position, draft.num_tokens) == (20, 20, 18)


def test_no_weight_is_read_before_it_is_asked_for(fixtures, tmp_path):
    """A layer that is not whole stops nobody who does not draft; and a tensor more there is refused."""
    broken = rewrite(fixtures / WITH, tmp_path / "broken.gguf", drop_tensors=["blk.4.nextn.hnorm.weight"])
    with pytest.raises(
        QwenRefError, match=r"broken\.gguf: blk\.4\.nextn\.hnorm\.weight: the tensor is missing"
    ):
        MTPLayer(TextModel(open_gguf(broken)))
    shapes = {"blk.4.nextn.eh_proj.weight": (64, 64)}
    narrow = rewrite(fixtures / WITH, tmp_path / "narrow.gguf", shapes=shapes)
    with pytest.raises(QwenRefError, match=r"eh_proj\.weight: shape \(64, 64\) should be \(64, 128\)"):
        MTPLayer(TextModel(open_gguf(narrow)))
    more = rewrite(
        fixtures / WITH, tmp_path / "more.gguf", add={"blk.4.attn_q.bias": np.zeros(4, np.float32)}
    )
    with pytest.raises(QwenRefError, match=r"blk\.4\.attn_q\.bias: a tensor that nothing in Qwen3\.5 uses"):
        MTPLayer(TextModel(open_gguf(more)))
    with pytest.raises(QwenRefError, match=r"tiny\.gguf: nextn\.\*: the file has no MTP layers, not one"):
        MTPLayer(TextModel(open_gguf(fixtures / WITHOUT)))
    norm = np.ones(64, np.float32)
    two = rewrite(fixtures / WITH, tmp_path / "two.gguf", add={"blk.5.nextn.enorm.weight": norm})
    with pytest.raises(QwenRefError, match=r"two\.gguf: nextn\.\*: the file has 2 MTP layers, not one"):
        MTPLayer(TextModel(open_gguf(two)))


def test_what_a_file_may_have_of_its_own(fixtures, tmp_path, open_model):
    """Norm, embedding and output are the model's unless the layer has others."""
    file = open_gguf(fixtures / WITH)
    shared = rewrite(
        fixtures / WITH, tmp_path / "shared.gguf", drop_tensors=["blk.4.nextn.shared_head_norm.weight"]
    )
    layer = MTPLayer(TextModel(open_gguf(shared)))
    text = layer.text.weights
    assert layer.weights.norm is text.final_norm
    assert layer.weights.embedding is text.embedding and layer.weights.output is text.output
    tables = {
        f"blk.4.nextn.{name}.weight": file.tensors[of].dequantize().astype(np.float32)
        for name, of in (("embed_tokens", "output.weight"), ("shared_head_head", "token_embd.weight"))
    }
    layer = MTPLayer(TextModel(open_gguf(rewrite(fixtures / WITH, tmp_path / "own.gguf", add=tables))))
    np.testing.assert_array_equal(layer.embed([5])[0], tables["blk.4.nextn.embed_tokens.weight"][5])
    hidden = np.eye(64, dtype=np.float32)[:1]
    np.testing.assert_allclose(
        layer.logits(hidden)[0], tables["blk.4.nextn.shared_head_head.weight"][:, 0], rtol=1e-6
    )


def test_a_golden_of_it(truth, tmp_path):
    """A draft is the greedy one, its rows are all kept, and what belongs to it is asked for of a file."""
    assert truth.entries["mtp.hnorm"].rows == [0, 1, 2, 30, 69, 73]
    best = [truth.inputs["mtp.top_ids"][-1, 0], *truth.values["mtp.draft.logits"].argmax(1)]
    assert truth.inputs["draft_ids"].tolist() == best[:4] and truth.entries["mtp.draft.norm"].rows == [
        0,
        1,
        2,
        3,
    ]
    position = truth.values["mtp.draft.rope.angle"][:, 0] - truth.inputs["positions"][0, -1]
    assert position.tolist() == [1, 2, 3, 4]
    same = truth.inputs["mtp.top_ids"][:, 0] == truth.inputs["top_ids"][:, 0]
    assert truth.about["acceptance"] == same.mean()
    golden.save(truth, tmp_path / "a.safetensors")
    assert golden.load(tmp_path / "a.safetensors").entries == truth.entries
    less = {name: x for name, x in truth.inputs.items() if name != "mtp.log_total"}
    for damaged, sentence in (
        (dict(inputs=less), "input/mtp.log_total: the tensor is missing"),
        (dict(inputs=truth.inputs | {"draft_ids": np.arange(3)}), r"input/draft_ids: shape \(3,\) should be"),
        (
            dict(inputs=truth.inputs | {"draft_ids": np.full(4, 1024)}),
            "input/draft_ids: 1024 to 1024 are not",
        ),
        (dict(about={"prompt_tokens": 70, "acceptance": "x"}), "acceptance: 'x' is no share"),
    ):
        golden.save(replace(truth, **damaged), tmp_path / "b.safetensors")
        with pytest.raises(QwenRefError, match=rf"b\.safetensors: {sentence}"):
            golden.load(tmp_path / "b.safetensors")


def test_of_names_that_fit_nothing_of_it_nothing_is_recorded(open_model):
    some = record.record(open_model, PROMPT, {}, names=["layers.0.output", "logits"])
    assert list(some.entries) == ["layers.0.output", "logits"] and "acceptance" not in some.about
    some = record.record(open_model, PROMPT, {}, names=["mtp.draft.norm"])
    assert list(some.entries) == ["mtp.draft.norm"] and some.about["acceptance"] >= 0


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_an_honest_engine(truth, open_model, arithmetic):
    model = open_model(ARITHMETICS[arithmetic][0])
    report = compare(truth, engine(model, truth, arithmetic), arithmetic)
    assert report.complaint is None and not report.missing and not report.unknown


def test_an_engine_that_decodes(truth, open_model):
    """A row of each tensor at each step; the draft comes after the last one."""
    found = engine(open_model(np.float32), truth)
    P, T = truth.about["prompt_tokens"], len(truth.inputs["token_ids"])
    rows = {name: x for name, x in found.items() if not name.startswith("mtp.draft.") and "state" not in name}
    parts = [
        {name: x[a:b] for name, x in rows.items()} for a, b in [(0, P), *((t, t + 1) for t in range(P, T))]
    ]
    parts[-1] |= {name: x for name, x in found.items() if name not in rows}
    report = compare(truth, parts)
    assert (report.verdict, report.missing, report.decoding) == ("right", [], "4 steps")
    prompt = compare(truth, parts[:1])
    assert (
        prompt.verdict == "right" and "mtp.norm" not in prompt.missing and "mtp.draft.norm" in prompt.missing
    )
    parts[-1]["mtp.self_attn.k_rope"] = parts[-1]["mtp.self_attn.k_rope"] * 1.1
    assert compare(truth, parts).cause == BETWEEN_STEPS


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "mistake, where",
    [
        ("the same token", "mtp.hnorm"),
        ("hidden before the norm", "mtp.hnorm"),
        ("halves of eh_proj", "mtp.eh_proj"),
        ("1 + twice in enorm", "mtp.enorm"),
        ("1 + twice in hnorm", "mtp.hnorm"),
        ("1 + twice in MTP's norm", "mtp.norm"),
    ],
)
def test_a_known_mistake_is_named(truth, open_model, mistake, where, arithmetic):
    model = open_model(ARITHMETICS[arithmetic][0])
    with planted(model, mistake):
        found = engine(model, truth, arithmetic)
    report = compare(truth, found, arithmetic)
    assert (report.first.name, report.cause) == (where, MISTAKES[mistake].cause)


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
def test_a_chain_without_its_norm_is_named(truth, open_model, arithmetic):
    found = engine(open_model(ARITHMETICS[arithmetic][0]), truth, arithmetic, without_norm=True)
    report = compare(truth, found, arithmetic)
    assert (report.first.name, report.cause) == ("mtp.draft.hnorm", CHAIN_WITHOUT_NORM)


def test_an_acceptance(truth):
    exact, T = truth.about["acceptance"], len(truth.inputs["token_ids"])
    near = compare(truth, {"acceptance": round(exact, 4)}, "float64")
    assert near.complaint is None and near.acceptance.endswith(f"and {exact:.3g} exactly")
    off = compare(truth, {"acceptance": exact + 2 / T}, "float64")
    assert off.complaint.startswith("acceptance: ") and off.acceptance in off.complaint
    for wrong in np.nan, [0.5, 0.5]:
        with pytest.raises(QwenRefError, match=r"acceptance: .* should be one number"):
            compare(truth, {"acceptance": np.array(wrong)})
