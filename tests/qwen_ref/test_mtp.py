"""The MTP layer: read when it is asked for, in one piece or token by token, and its known mistakes are named.

tests/oracle/test_mtp.py compares it with a plain PyTorch statement and with llama.cpp.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from rewrite import rewrite
from test_oracle import PROMPT

from gguf_io import open_gguf
from qwen_ref import QwenRefError
from qwen_ref.model import mtp
from qwen_ref.model.mtp import MTPLayer, of_the_token_before
from qwen_ref.model.text import TextModel
from qwen_ref.model.trace import watching
from qwen_ref.oracle import golden, mtp_causes, record
from qwen_ref.oracle.arithmetic import ARITHMETICS
from qwen_ref.oracle.compare import compare

WITH, WITHOUT = "tiny-grouped.gguf", "tiny.gguf"


@pytest.fixture(scope="module")
def open_model(fixtures):
    return lambda dtype: SimpleNamespace(text=TextModel(open_gguf(fixtures / WITH), dtype))


@pytest.fixture(scope="module")
def truth(open_model):
    return record.record(open_model, PROMPT, {}, rows=[0, 1, 2, 30, -1])


def engine(model, golden, arithmetic="float32", draft_norm=lambda layer, z, hidden: hidden):
    """What an engine gives that computes so; `draft_norm` is what a draft goes on with."""
    found, rounding = {}, ARITHMETICS[arithmetic][1]

    def watch(name, x):
        instead = rounding(name, x)
        found[name] = record.canonical(name, x if instead is None else instead, model.text.config)
        return instead

    x, hidden = record.run_text(model, PROMPT, watch)
    layer = MTPLayer(model.text)
    own, state = record.run_mtp(layer, PROMPT, x, hidden, watch)
    with watching(watch):
        model.text.logits(hidden), layer.logits(own)
    start = draft_norm(layer, found["mtp.output"], own)[-1:]
    _, draft = record.run_draft(layer, start, state, golden.inputs["draft_ids"].tolist(), rounding)
    return found | draft


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
    assert truth.entries["mtp.hnorm"].rows == [0, 1, 2, 30, 69]
    best = [truth.inputs["mtp.top_ids"][-1, 0], *truth.values["mtp.draft.logits"].argmax(1)]
    assert truth.inputs["draft_ids"].tolist() == best[:4] and truth.entries["mtp.draft.norm"].rows == [
        0,
        1,
        2,
        3,
    ]
    assert truth.values["mtp.draft.rope.angle"][:, 0].tolist() == [
        int(PROMPT.positions.max()) + n for n in (1, 2, 3, 4)
    ]
    same = truth.inputs["mtp.top_ids"][:, 0] == truth.inputs["top_ids"][:, 0]
    assert truth.about["acceptance"] == same.mean()
    golden.save(truth, tmp_path / "a.safetensors")
    assert golden.load(tmp_path / "a.safetensors").entries == truth.entries
    del truth.inputs["mtp.log_total"]
    golden.save(truth, tmp_path / "b.safetensors")
    with pytest.raises(QwenRefError, match=r"b\.safetensors: input/mtp\.log_total: the tensor is missing"):
        golden.load(tmp_path / "b.safetensors")


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_an_honest_engine(truth, open_model, arithmetic):
    model = open_model(ARITHMETICS[arithmetic][0])
    report = compare(truth, engine(model, truth, arithmetic), arithmetic)
    assert report.complaint is None and not report.missing and not report.unknown


def same_token(monkeypatch, model):
    monkeypatch.setattr(record, "of_the_token_before", lambda hidden: hidden)


def before_the_norm(monkeypatch, model):
    seen = {}
    real = model.text.norm

    def norm(x, weight, name):
        if name == "norm" and weight is model.text.weights.final_norm:
            seen["x"] = x
        return real(x, weight, name)

    monkeypatch.setattr(model.text, "norm", norm)
    monkeypatch.setattr(record, "of_the_token_before", lambda hidden: of_the_token_before(seen["x"]))


def swapped(monkeypatch, model):
    def linear(x, weight, real=mtp.linear):
        return real(np.roll(x, x.shape[1] // 2, axis=1), weight)

    monkeypatch.setattr(mtp, "linear", linear)


def twice(name):
    def plant(monkeypatch, model):
        def load(*args, real=mtp.load_mtp_weights):
            weights = real(*args)
            getattr(weights, name)[:] += 1
            return weights

        monkeypatch.setattr(mtp, "load_mtp_weights", load)

    return plant


MISTAKES = {
    "the same token": (same_token, "mtp.hnorm", mtp_causes.SAME_TOKEN),
    "before the norm": (before_the_norm, "mtp.hnorm", mtp_causes.BEFORE_THE_NORM),
    "swapped": (swapped, "mtp.eh_proj", mtp_causes.SWAPPED),
    "chain without norm": (None, "mtp.draft.hnorm", mtp_causes.CHAIN_WITHOUT_NORM),
    "1 + twice": (twice("enorm"), "mtp.enorm", mtp_causes.PLUS_TWO),
    "1 + twice, hnorm": (twice("hnorm"), "mtp.hnorm", mtp_causes.PLUS_TWO),
    "1 + twice, norm": (twice("norm"), "mtp.norm", mtp_causes.PLUS_TWO),
}


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_known_mistake_is_named(truth, open_model, monkeypatch, mistake, arithmetic):
    plant, where, sentence = MISTAKES[mistake]
    model = open_model(ARITHMETICS[arithmetic][0])
    if plant:
        plant(monkeypatch, model)
        found = engine(model, truth, arithmetic)
    else:
        found = engine(model, truth, arithmetic, draft_norm=lambda layer, z, hidden: z)
    report = compare(truth, found, arithmetic)
    assert (report.first.name, report.cause) == (where, sentence)


def test_an_acceptance(truth):
    exact, T = truth.about["acceptance"], len(PROMPT.token_ids)
    near = compare(truth, {"acceptance": round(exact, 4)}, "float64")
    assert near.complaint is None and near.acceptance.endswith(f"and {exact:.3g} exactly")
    off = compare(truth, {"acceptance": exact + 2 / T}, "float64")
    assert off.complaint.startswith("acceptance: ") and off.acceptance in off.complaint
    for wrong in np.nan, [0.5, 0.5]:
        with pytest.raises(QwenRefError, match=r"acceptance: .* should be one number"):
            compare(truth, {"acceptance": np.array(wrong)})
