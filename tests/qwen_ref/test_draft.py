"""Drafts change how long an answer takes, and nothing of it."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_ref import QwenRefError, engine, load
from qwen_ref.engine import Sequence, step
from qwen_ref.engine.draft import MOST, MTP, Clock, Drafts, Lookup, Luck, new_drafts
from qwen_ref.model.mtp import MTPLayer, of_the_token_before
from qwen_ref.prompt import Prompt, Span

GREEDY = dict(temperature=0, presence_penalty=0)


@pytest.fixture(scope="module", params=["numba", "numpy"])
def model(request, fixtures):
    return load(fixtures / "tiny-grouped.gguf", backend=request.param)


class Told(Drafts):
    """Drafts as long as it is told to, which are right as often as it is told to."""

    def __init__(self, answer, lengths, right):
        super().__init__([])
        self.answer, self.lengths, self.right, self.asked = answer, iter(lengths), iter(right), []

    def draft(self, sequence, most):
        at = len(sequence) - len(sequence.prompt.token_ids)
        self.asked.append(most)
        guess = self.answer[at : at + min(next(self.lengths), most)]
        return [g if next(self.right) else (g + 1) % 500 for g in guess]


def answer(monkeypatch, model, drafts, **options):
    monkeypatch.setattr(engine.model, "new_drafts", lambda text, kind: drafts)
    generation = model.generate(Prompt([5, 6, 7, 5, 6, 7]), **options)
    return list(generation), generation


@settings(max_examples=20)
@given(data=st.data(), sampled=st.booleans())
def test_the_text_is_that_without_drafts(model, data, sampled):
    """Of right and wrong drafts of any length, and with the random numbers of the sampler."""
    n = data.draw(st.integers(1, 30))
    options = dict(seed=3, temperature=1.5, top_k=4) if sampled else GREEDY
    with pytest.MonkeyPatch.context() as monkeypatch:
        _, plain = answer(monkeypatch, model, new_drafts(model.text, "off"), max_tokens=n, **options)
        told = Told(
            plain.token_ids,
            data.draw(st.lists(st.integers(0, 8), min_size=n, max_size=n)),
            data.draw(st.lists(st.booleans(), min_size=9 * n, max_size=9 * n)),
        )
        pieces, drafted = answer(monkeypatch, model, told, max_tokens=n, **options)
    assert drafted.token_ids == plain.token_ids and drafted.text == plain.text == "".join(pieces)
    assert drafted.finish_reason == plain.finish_reason
    assert all(0 <= most < n for most in told.asked)  # with the token that is chosen: no more than are asked


def test_fewer_steps_where_drafts_are_right(model, monkeypatch):
    """Ten tokens: the prompt's, three with a draft of two, and none is left for a draft."""
    _, plain = answer(monkeypatch, model, new_drafts(model.text, "off"), max_tokens=10, **GREEDY)
    told, steps = Told(plain.token_ids, [2] * 10, [True] * 30), []
    real = model.text.forward
    monkeypatch.setattr(
        model.text, "forward", lambda x, *rest: steps.append(len(x)) or real(x, *rest), raising=False
    )
    answer(monkeypatch, model, told, max_tokens=10, **GREEDY)
    assert steps == [6, 3, 3, 3] and told.asked == [8, 5, 2]


def test_an_end_token_in_a_draft_ends_the_answer(model, monkeypatch):
    """What was drafted behind it is not shown."""
    _, plain = answer(monkeypatch, model, new_drafts(model.text, "off"), max_tokens=9, **GREEDY)
    end = next(n for n in range(2, 9) if plain.token_ids[n] not in plain.token_ids[:n])
    monkeypatch.setattr(model.tokenizer, "eos_ids", {plain.token_ids[end]})
    told = Told(plain.token_ids, [8] * 9, [True] * 99)
    _, drafted = answer(monkeypatch, model, told, max_tokens=9, **GREEDY)
    assert drafted.token_ids == plain.token_ids[:end] and drafted.finish_reason == "stop"


# ---- where drafts come from


def test_look_up_finds_what_followed():
    """The last place where the last three tokens stood; nothing, if they are new."""
    one = SimpleNamespace(token_ids=[1, 2, 3, 4, 5, 1, 2, 3, 9, 8, 7, 1, 2, 3])
    source = Lookup()
    assert source.offers(one) == 6 and source.draft(one, 4) == [9, 8, 7, 1]
    one.token_ids += [4]
    assert source.offers(one) == 11 and source.guess == [5, 1, 2, 3, 9, 8, 7, 1, 2, 3, 4]
    one.token_ids += [6]
    assert source.offers(one) == 0 and source.guess == []
    one.token_ids = [0, 0, 0, 0]
    assert source.offers(SimpleNamespace(token_ids=[1, 2])) == 0


@settings(max_examples=40)
@given(ids=st.lists(st.integers(0, 2), max_size=60), start=st.integers(0, 60))
def test_look_up_by_a_plain_search(ids, start):
    source = Lookup()
    for n in range(start, len(ids) + 1):
        text, tail = ids[:n], ids[n - 3 : n]
        places = [at for at in range(3, n) if text[at - 3 : at] == tail]
        source.offers(SimpleNamespace(token_ids=text))
        assert source.guess == (text[places[-1] :][:MOST] if places and n >= 3 else [])


@pytest.fixture(scope="module", params=["numba", "numpy"])
def mtp(request, fixtures):
    return load(fixtures / "tiny-grouped.gguf", backend=request.param).text


def by_itself(text, one, tokens, head=None):
    """A draft behind a sequence whose last token the model has not read: all rows anew, from all hidden
    states. The sequence is left as it is."""
    layer, state = MTPLayer(text), text.new_state()
    x, positions = one.inputs(0, len(one) - 1, text.embed)
    hidden = text.forward(x, state, positions)
    before = np.concatenate([of_the_token_before(hidden), hidden[-1:]])
    draft, rows = list[int](), layer.new_state()
    x, positions = one.inputs(0, len(one), layer.embed)
    own = layer.forward(x, before, rows, positions)[-1:]
    for _ in range(tokens):
        draft.append(int(layer.logits(own)[0, :head].argmax()))
        own = layer.forward(layer.embed(draft[-1:]), own, rows)
    return draft


@pytest.mark.parametrize("together", [1, 32])
@pytest.mark.parametrize("spans", [[], [Span(3, 2, 3)]], ids=["text", "picture"])
def test_the_mtp_layer_s_drafts(mtp, monkeypatch, spans, together):
    """Rows wait and go together, or one after another; the drafted tokens' are taken back."""
    monkeypatch.setattr(MTP, "TOGETHER", together)
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 500, 60).tolist()
    visible = rng.standard_normal((6, mtp.config.hidden_size)).astype(mtp.dtype) if spans else None
    one, source = Sequence(mtp, Prompt(ids[:20], spans=spans), visible), MTP(mtp)
    for stop, tokens in (20, 2), (21, 2), (22, 1), (24, 0), (25, 0), (29, 3), (50, 0), (51, 1):
        one.extend(ids[len(one) : stop])
        (hidden,) = step(mtp, [one])
        source.read(one, hidden, stop)
        one.extend(ids[stop : stop + 1])
        if tokens:
            assert source.offers(one) == MOST
            assert source.draft(one, tokens) == source.guess == by_itself(mtp, one, tokens)
    assert source.state.num_tokens == len(one) == 52


def test_a_head_of_fewer_rows_drafts_the_likeliest_of_them(mtp, monkeypatch):
    monkeypatch.setattr(MTP, "HEAD", 32)
    source, one = MTP(mtp), Sequence(mtp, Prompt([5, 6, 7]))
    (hidden,) = step(mtp, [one])
    source.read(one, hidden, 3)
    one.extend([8])
    assert source.draft(one, 2) == by_itself(mtp, one, 2, head=32) != by_itself(mtp, one, 2)


# ---- how many


def test_luck_is_counted_by_place():
    luck = Luck()
    luck.judge([1, 2, 3, 4], [1, 2, 9])  # two right, the third wrong, of the fourth nothing is known
    assert luck._tries.tolist()[:5] == [1, 1, 1, 0, 0] and luck._hits.tolist()[:4] == [1, 1, 0, 0]
    luck.judge([1, 2, 3], [1])  # no more came
    assert luck._tries[:3] == pytest.approx([1.98, 0.98, 0.98])
    luck = Luck()
    assert luck.expected()[:4] == pytest.approx([1, 1.5, 1.75, 1.875])
    for _ in range(2000):
        luck.judge([1, 2], [1, 3])
    assert luck.expected()[:3] == pytest.approx([1, 2, 2], abs=0.03)


def test_the_clock_knows_what_it_saw_and_a_line_between():
    clock = Clock()
    for seconds in 5, 1, 1.2, 0.8:
        clock.measured(0, seconds)
    assert clock.seconds()[:3] == pytest.approx([1.1, 1.32, 1.54])
    clock.measured(4, 3.1)
    assert clock.seconds()[:7] == pytest.approx([1.1, 1.6, 2.1, 2.6, 3.1, 3.32, 3.54])
    assert clock.steps == 5


class Guesser:
    def __init__(self, name, luck, offered):
        self.name, self.luck, self.offered, self.guess = name, luck, offered, []

    def offers(self, sequence):
        return self.offered

    def draft(self, sequence, tokens):
        self.guess = list(range(tokens))
        return self.guess


def chosen(sources, costs, most=MOST, monkeypatch=None):
    """The source and the length that are chosen, after steps that took so long."""
    drafts = Drafts(sources)
    for source in sources:
        drafts.luck[source.name].expected = lambda p=source.luck: np.cumsum(p ** np.arange(MOST + 1))
    for n, seconds in costs.items():
        for _ in range(5):
            drafts._clock.measured(n, seconds)
    assert drafts._clock.steps % drafts.EACH
    return drafts, drafts.draft(None, most)


def test_the_length_that_brings_the_most_tokens_a_second():
    costs = {0: 1, 1: 1.2, 2: 1.4, 3: 1.9, 4: 3}
    assert chosen([Guesser("a", 0.1, MOST)], costs)[1] == []
    assert len(chosen([Guesser("a", 0.3, MOST)], costs)[1]) == 1
    assert len(chosen([Guesser("a", 0.8, MOST)], costs)[1]) == 2
    assert len(chosen([Guesser("a", 0.8, 1)], costs)[1]) == 1
    assert len(chosen([Guesser("a", 0.8, MOST)], costs, most=1)[1]) == 1
    assert chosen([Guesser("a", 0.8, MOST)], costs, most=0)[1] == []
    drafts, _ = chosen([Guesser("a", 0.4, MOST), Guesser("b", 0.8, 2)], costs)
    drafts.judge(2, [0, 5])
    assert drafts.counts() == {"b": {"drafted": [1, 1], "accepted": [1, 0]}}


def test_first_steps_and_some_later_ones_are_not_drafted():
    drafts = Drafts([Guesser("a", 1, MOST)])
    lengths = []
    for _ in range(2 * Drafts.EACH + 1):
        lengths.append(len(drafts.draft(None, 3)))
        drafts.judge(lengths[-1], [*drafts.sources[0].guess[: lengths[-1]], 99])
        drafts._clock._seconds = [
            type(s)([1.0 + n / 100] * len(s), 9) for n, s in enumerate(drafts._clock._seconds)
        ]
    undrafted = [n for n, length in enumerate(lengths) if not length]
    assert undrafted == [0, 1, 2, Drafts.EACH, 2 * Drafts.EACH]


# ---- what can be asked for


def test_kinds_of_drafts(model, fixtures, monkeypatch):
    with_layer, without = model.text, load(fixtures / "tiny.gguf", backend="numba").text
    names = lambda text, kind: [source.name for source in new_drafts(text, kind).sources]  # noqa: E731
    kernels = with_layer.layers.name == "numba"
    assert names(with_layer, "auto") == (["lookup"] if kernels else [])  # so small that it would not pay
    monkeypatch.setattr("qwen_ref.engine.draft.SMALLEST", with_layer.config.hidden_size)
    assert names(with_layer, "auto") == (["mtp", "lookup"] if kernels else [])
    assert names(without, "auto") == ["lookup"] and names(without, "off") == []
    assert names(with_layer, "mtp") == ["mtp"] and names(with_layer, "lookup") == ["lookup"]
    with pytest.raises(QwenRefError, match=r"^draft: 'fast' is not one of auto, mtp, lookup, off$"):
        new_drafts(without, "fast")
    with pytest.raises(QwenRefError, match=r"tiny\.gguf: "):
        new_drafts(without, "mtp")
    with pytest.raises(QwenRefError, match=r"^draft: \['mtp'\] is not one of"):
        model.generate("Hi", raw=True, draft=["mtp"])


def test_a_drafted_answer_by_the_file_s_layer(model):
    """All of it, from the prompt on: what is told of it adds up."""
    options = dict(raw=True, max_tokens=40, **GREEDY)
    plain = model.generate("Once upon a time", draft="off", **options)
    drafted = model.generate("Once upon a time", draft="mtp", **options)
    assert "".join(plain) == "".join(drafted) and plain.drafted == {}
    for counts in drafted.drafted.values():
        assert len(counts["drafted"]) == len(counts["accepted"])
        assert all(a <= d for a, d in zip(counts["accepted"], counts["drafted"], strict=True))
