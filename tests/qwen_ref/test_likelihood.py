"""How likely continuations are, many texts at once, and what they have in common read once."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from qwen_ref import QwenRefError, load
from qwen_ref.engine import likelihood
from qwen_ref.engine.likelihood import Likelihood, loglikelihoods
from qwen_ref.engine.prefixes import default_budget
from qwen_ref.engine.together import WORTH, alike, places, together
from qwen_ref.perplexity import log_softmax
from qwen_ref.prompt import Prompt

PICTURE = Path(__file__).parents[2] / "examples/media/shapes.png"


def requests(vocab: int) -> list[tuple[Prompt, list[int]]]:
    """Contexts that begin alike, by nothing, little and much; continuations of one token and of several, some
    the same up to the last, one twice."""
    ids = np.random.default_rng(0).integers(0, vocab, 200).tolist()
    common, asked = ids[:40], []
    for context in (common + ids[50:55], common + ids[50:52], common, ids[100:103], ids[:1]):
        for continuation in (ids[60:61], ids[61:62], ids[70:74], ids[70:73] + ids[80:81], ids[90:91] * 30):
            asked.append((Prompt(context), continuation))
    return [*asked, asked[0]]


def expected(model, prompt: Prompt, continuation: list[int]) -> Likelihood:
    ids = [*prompt.token_ids, *continuation]
    logits = model.text.logits(model.text.forward(ids[:-1], model.text.new_state()))
    rows = [log_softmax(row.astype(np.float64)) for row in logits[len(prompt.token_ids) - 1 :]]
    greedy = all(row.argmax() == token for row, token in zip(rows, continuation, strict=True))
    return Likelihood(sum(row[token] for row, token in zip(rows, continuation, strict=True)), greedy)


@pytest.mark.parametrize("keep, parallel", [(default_budget(), 4), (default_budget(), 1), (None, 8)])
def test_are_those_of_the_whole_text(fixtures, keep, parallel, monkeypatch):
    model = load(fixtures / "tiny.gguf", dtype=np.float64, keep=keep)
    asked = requests(len(model.tokenizer))
    prompt, _ = asked[10]
    best = int(model.text.logits(model.text.forward(prompt.token_ids, model.text.new_state()))[-1].argmax())
    asked.append((prompt, [best]))
    best_at = len(asked) - 1
    # As questions behind the same examples, with choices behind each.
    asked += [(Prompt([*range(100), *[i] * 40]), [5, j, 6]) for i in range(4) for j in range(3)]
    read, step = 0, likelihood.step

    def counted(text, sequences, block):
        nonlocal read
        assert len(sequences) <= parallel
        hidden = step(text, sequences, block)
        read += sum(map(len, hidden))
        return hidden

    monkeypatch.setattr(likelihood, "step", counted)
    found = dict(loglikelihoods(model, asked, parallel))
    assert sorted(found) == list(range(len(asked)))
    for i, (prompt, continuation) in enumerate(asked):
        logprob, greedy = expected(model, prompt, continuation)
        assert found[i].logprob == pytest.approx(logprob, abs=1e-10), i
        assert found[i].greedy == greedy, i
    assert found[best_at].greedy
    read_once = read
    # Again, from states that were kept; one of them, after 100 tokens, goes too far for what is asked now.
    asked.append((Prompt([*range(100)]), [0, 0]))
    found[len(found)] = expected(model, *asked[-1])
    again = dict(loglikelihoods(model, asked, parallel))
    for i in again:
        assert again[i].logprob == pytest.approx(found[i].logprob, abs=1e-10), i
    # Of 40 tokens, and of 100, that several begin with, what is read once, with what is behind them.
    assert read_once < 560 if keep else read_once > 2000


def test_what_cannot_be_rated(fixtures):
    model = load(fixtures / "tiny.gguf", context=20, backend="numpy")
    assert dict(loglikelihoods(model, [(Prompt([1, 2]), [])])) == {0: (0.0, True)}
    assert dict(loglikelihoods(model, [(Prompt([1] * 10), [2] * 11)]))[0].logprob < 0
    with pytest.raises(QwenRefError, match="the prompt: is empty"):
        dict(loglikelihoods(model, [(Prompt([]), [1])]))
    with pytest.raises(QwenRefError, match=r"the prompt: 21 tokens, .* more than a context of 20"):
        dict(loglikelihoods(model, [(Prompt([1] * 11), [2] * 11)]))


def test_an_answer_about_a_picture_is_as_likely_as_it_was():
    model = load(keep=default_budget())
    prompt = model.encode_prompt("Describe this picture.", images=[str(PICTURE)])
    answer = model.generate(prompt, temperature=0, presence_penalty=0, logprobs=0, draft="off")
    list(answer)
    other = dataclasses.replace(prompt, pauses={})
    ids = answer.token_ids
    found = dict(loglikelihoods(model, [(prompt, ids), (other, [*ids[:-1], ids[0]]), (prompt, ids[:3])]))
    assert found[0].greedy and found[2].greedy and not found[1].greedy
    assert found[0].logprob == pytest.approx(sum(token.logprob for token in answer.logprobs), abs=1e-3)


def test_what_begins_alike():
    keys = [
        np.arange(30),
        np.arange(10),
        np.arange(40),
        np.arange(5, 40),
        np.array([*range(30), 7]),
        np.arange(40),
    ]
    order, shared = alike(keys)
    assert order == [1, 0, 4, 2, 5, 3]
    assert shared == [0, 0, 29, 30, 39, 0] and min(n for n in shared if n) >= WORTH
    assert alike([]) == ([], [])
    # The second and the third begin behind where the fourth does, so the first keeps that.
    kept = places([0, 60, 60, 40, 50, 0, 20])
    assert list(map(sorted, kept)) == [[40, 60], [], [], [50], [], [20], []]


class Counting:
    """Reads a token with each step, up to `length`."""

    def __init__(self, length):
        self.length, self.num_read, self.begun_at = length, 0, None

    def start(self):
        self.begun_at = steps[0]

    @property
    def over(self):
        return self.num_read == self.length


steps = [0]


def test_one_waits_for_what_it_shares():
    """The second for 3 tokens of the first; the third begins with it, the fourth when there is room."""
    steps[0] = 0
    jobs = [Counting(4), Counting(9), Counting(5), Counting(2)]

    def step(running):
        assert 0 < len(running) <= 3
        steps[0] += 1
        for job in running:
            job.num_read += 1

    found = [n for n, _ in together(iter(jobs), [0, 3, 0, 0], 3, step)]
    assert [job.begun_at for job in jobs] == [0, 3, 3, 4]
    assert found == [0, 3, 2, 1]
