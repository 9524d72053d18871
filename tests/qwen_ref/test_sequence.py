"""Sequences that are read in steps together, copied, cut and gone back in: always the logits of a run alone.

With kernels they are the same bit by bit, in float64 within 1e-12.
"""

import doctest
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_io import open_gguf
from qwen_ref import QwenRefError, load
from qwen_ref.engine import Sequence, advance, step
from qwen_ref.kernels import KERNELS
from qwen_ref.model.layers import NUMPY, replaced
from qwen_ref.model.text import TextModel
from qwen_ref.prompt import Prompt, Span

PICTURE = Span(3, 2, 3)  # six tokens that take three positions
WAYS = {"numba": (KERNELS, np.float32, 0), "numpy": (NUMPY, np.float64, 1e-12)}


@pytest.fixture(scope="module", params=WAYS)
def way(request, fixtures):
    layers, dtype, bound = WAYS[request.param]
    text = TextModel(open_gguf(fixtures / "tiny-grouped.gguf"), dtype, layers=layers)
    visible = np.random.default_rng(9).standard_normal((6, text.config.hidden_size)).astype(dtype)

    def new(token_ids):
        """A sequence with a picture in it, where it is long enough for that."""
        shows = len(token_ids) > 10
        prompt = Prompt(list(token_ids), spans=[PICTURE] if shows else [])
        return Sequence(text, prompt, visible if shows else None)

    def read(one, sizes=None):
        """The hidden states of all that it has not read, by itself, in steps of these sizes."""
        ids, out = one.token_ids, []
        for size in sizes or [len(ids) - one.state.num_tokens]:
            one.token_ids = ids[: one.state.num_tokens + size]
            out += step(text, [one])
        one.token_ids = ids
        return np.concatenate(out)

    def same(a, b):
        assert a.shape == b.shape and np.abs(a - b).max(initial=0) <= bound

    return SimpleNamespace(text=text, new=new, read=read, same=same)


def ids(seed, n):
    return np.random.default_rng(seed).integers(0, 500, n).tolist()


lengths = st.lists(st.sampled_from([1, 1, 1, 2, 3, 5, 17, 70]), min_size=1, max_size=5)


@settings(max_examples=15)
@given(steps=st.lists(lengths, min_size=1, max_size=4))
def test_a_step_of_several_is_each_of_them_alone(way, steps):
    """Sequences of other lengths, which take part in some steps and not in others."""
    most = max(map(len, steps))
    texts = [ids(i, 11 + sum(n[i] for n in steps if i < len(n))) for i in range(most)]
    together, alone = ([way.new(t[:11]) for t in texts] for _ in range(2))
    found, want = ([way.read(one) for one in some] for some in (together, alone))
    for n in steps:
        for i, more in enumerate(n):
            for some in together[i], alone[i]:
                some.extend(texts[i][len(some) : len(some) + more])
            want[i] = np.concatenate([want[i], way.read(alone[i])])
        for i, hidden in enumerate(step(way.text, together[: len(n)])):
            found[i] = np.concatenate([found[i], hidden])
    for a, b, one in zip(found, want, together, strict=True):
        way.same(a, b)
        assert one.unread == 0 and one.state.next_position == len(one) - 3  # the picture's six took three


@settings(max_examples=25)
@given(before=st.sampled_from([1, 2, 11, 70]), rounds=st.lists(st.integers(0, 60), min_size=1, max_size=5))
def test_any_part_of_a_marked_step_stays(way, before, rounds):
    """Drafts of 1 to 8 tokens, of which 0 to all stay, one after the other."""
    one, plain = way.new(ids(0, before)), way.new(ids(0, before))
    way.same(way.read(one), way.read(plain))
    for n, draft in enumerate(rounds):
        tokens, kept = draft % 8 + 1, draft // 8
        kept = min(kept, tokens)
        one.state.mark()
        one.extend(ids(n, tokens))
        plain.extend(ids(n, kept))
        way.same(
            way.read(one)[:kept], way.read(plain) if kept else np.empty((0, way.text.config.hidden_size))
        )
        one.cut(len(plain))
        assert one.token_ids == plain.token_ids and one.unread == 0
        assert one.state.num_tokens == plain.state.num_tokens
        assert one.state.next_position == plain.state.next_position
    for some in one, plain:
        some.extend([5, 6, 7])
    way.same(way.read(one, [1, 2]), way.read(plain, [1, 2]))


def test_several_go_back_by_as_much_as_each_has_to(way):
    """One that was marked, one that was not, one that keeps all, in one step."""
    texts = ids(1, 20), ids(2, 31), ids(3, 12)
    group, alone = ([way.new(t) for t in texts] for _ in range(2))
    step(way.text, group)
    kept = 2, 4, 4
    for one, n in zip(group, kept, strict=True):
        if n == 2 or one is group[2]:
            one.state.mark()
        one.extend([7, 8, 9, 10])
    step(way.text, group)
    for one, other, n in zip(group, alone, kept, strict=True):
        one.cut(len(other) + n)
        way.read(other)
        for some in one, other:
            some.extend([7, 8, 9, 10][:n] if some is other else [])
        way.read(other)
        for some in one, other:
            some.extend([11, 12])
    for a, b in zip(step(way.text, group), [way.read(one) for one in alone], strict=True):
        way.same(a, b)


def test_a_mark_lasts_for_one_step(way):
    """What was read before the last step is read again, from the beginning; so is what was not marked."""
    one, want = way.new(ids(4, 30)), way.new(ids(4, 26))
    expected = way.read(want)
    way.read(one, [20])
    one.state.mark()
    way.read(one, [5, 5])
    one.cut(26)
    assert (one.state.num_tokens, one.unread) == (25, 1) or one.state.num_tokens == 0
    assert one.state.num_tokens == 0 and one.unread == 26
    way.same(way.read(one), expected)
    one.cut(26)  # nothing to forget
    assert one.unread == 0
    one.extend([1, 2])
    one.cut(27)  # nothing of it was read
    assert one.token_ids[-1] == 1 and one.unread == 1


def test_a_copy_goes_its_own_way(way):
    one = way.new(ids(5, 20))
    way.read(one)
    one.state.mark()
    one.extend([1, 2, 3])
    way.read(one)
    other = one.copy()
    one.cut(21), other.cut(22)
    one.extend([8]), other.extend([9])
    found = [way.read(some) for some in (one, other)]
    for tokens, hidden in zip(([1, 8], [1, 2, 9]), found, strict=True):
        want = way.new(ids(5, 20) + tokens)
        way.same(hidden, way.read(want, [20, *[1] * len(tokens)])[-1:])


def test_what_a_sequence_costs(way):
    """The state's arrays, as far as they are made, and the pictures."""
    one = way.new(ids(6, 30))
    empty = one.nbytes
    assert empty >= one.visible.nbytes + 3 * one.state.layers[0].conv.nbytes
    way.read(one)
    config, cache = way.text.config, one.state.layers[3]
    grown = one.nbytes - empty
    each = 2 * config.num_key_value_heads * config.head_dim * (2 if way.text.layers is KERNELS else 8)
    layers = config.num_layers // config.full_attention_interval
    assert grown == layers * cache.nbytes >= layers * each * 30 and grown % (layers * each) == 0


def test_layers_that_know_nothing_of_batches_get_one_after_the_other(fixtures):
    """One's own mixer is called as if there were no other sequence."""
    seen = []

    def deltanet(x, w, state, config):
        seen.append(len(x))
        return NUMPY.deltanet(x, w, state, config)

    text = TextModel(open_gguf(fixtures / "tiny.gguf"), layers=replaced(NUMPY, deltanet=deltanet))
    step(text, [Sequence(text, Prompt([1, 2])), Sequence(text, Prompt([3]))])
    assert set(seen) == {1, 2}
    assert not replaced(KERNELS, attention=NUMPY.attention).batches
    assert replaced(KERNELS, mlp=NUMPY.mlp).batches


def test_a_step_reads_a_block_at_most(way):
    one, short = way.new(ids(7, 20)), way.new([5])
    assert [len(hidden) for hidden in step(way.text, [one, short], block=8)] == [8, 1]
    assert one.unread == 12


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("draft", ["off", "auto"])
def test_answers_that_go_on_together(fixtures, backend, draft):
    """Each is what it would be alone: other prompts, lengths, samplings; one comes later, one ends early."""
    model = load(fixtures / "tiny-grouped.gguf", backend=backend)
    asked = [
        ("Once upon a time", dict(max_tokens=9, temperature=0)),
        ("x" * 700, dict(max_tokens=20, temperature=1.5, seed=4)),
        ("a b c a b c a b", dict(max_tokens=12, temperature=0.8, seed=5, stop="e")),
        ("Hello", dict(max_tokens=1, temperature=0)),
        ("1 2 3 4 1 2 3 4", dict(max_tokens=15, temperature=0, presence_penalty=0)),
    ]

    def begin(some):
        return [model.generate(p, raw=True, draft=draft, **options) for p, options in some]

    alone, together, pieces = begin(asked), begin(asked), {}
    for generation in alone:
        list(generation)
    running, steps = together[:3], 0
    while shown := advance(running):
        assert [g for g, _ in shown] == [g for g in running if g in {g for g, _ in shown}]
        for generation, piece in shown:
            pieces[generation] = pieces.get(generation, "") + piece
        steps += 1
        running = together if steps == 2 else running
    for one, other in zip(alone, together, strict=True):
        assert one.token_ids == other.token_ids and one.finish_reason == other.finish_reason
        assert one.text == other.text == pieces[other]
    assert advance(together) == [] and list(together[0]) == []


def test_after_an_interruption_nothing_goes_on(fixtures, monkeypatch):
    """The states are in the middle of a step."""
    model = load(fixtures / "tiny.gguf")
    both = [model.generate(text, raw=True, max_tokens=9, draft="off") for text in ("Hello", "you")]
    advance(both)

    def interrupted(hidden):
        raise KeyboardInterrupt

    monkeypatch.setattr(model.text, "logits", interrupted)
    with pytest.raises(KeyboardInterrupt):
        advance(both)
    assert advance(both) == [] and list(both[1]) == []
    assert [g.finish_reason for g in both] == [None, None]


def test_what_the_page_shows_comes_out():
    page = (Path(__file__).parents[2] / "docs" / "engine.md").read_text(encoding="utf-8")
    test = doctest.DocTestParser().get_doctest(page.replace("```\n", "\n"), {}, "engine.md", None, 0)
    assert len(test.examples) > 15
    failed, _ = doctest.DocTestRunner().run(test)
    assert failed == 0


def test_what_is_no_sequence_or_answer_is_told(fixtures):
    model = load(fixtures / "tiny.gguf")
    answer, other = model.generate("Hi"), load(fixtures / "tiny.gguf").generate("Hi")
    sequence = Sequence(model.text, model.encode_prompt("Hi"))
    for call, words in [
        (lambda: advance([answer, answer]), "advance: an answer is in the list twice"),
        (lambda: advance(["x"]), "advance: a str is no answer"),
        (lambda: advance(answer), "advance: give a list of answers, of one too, not a Generation"),
        (lambda: advance([answer, other]), "advance: the answers are of several models"),
        (lambda: step(model.text, []), "step: there is no sequence"),
        (lambda: step(model.text, [sequence, sequence]), "step: a sequence is there twice"),
        (lambda: sequence.extend([1, 10**9]), "extend: 1000000000 is no token id from 0 to"),
        (lambda: sequence.extend(["a"]), "extend: 'a' is no token id"),
        (lambda: sequence.cut(-1), rf"cut: -1 is not in 0 to {len(sequence)}"),
        (lambda: sequence.cut(10**6), "cut: 1000000 is not in 0 to"),
    ]:
        before = list(sequence.token_ids)
        with pytest.raises(QwenRefError, match=words):
            call()
        assert sequence.token_ids == before
    assert advance([answer]) and advance([]) == []  # it is as it was
