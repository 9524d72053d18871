"""Each filter against a plain statement of it; tests/oracle compares the whole chain with llama.cpp."""

import numpy as np
import pytest

from qwen_ref import QwenRefError
from qwen_ref.sampling import Sampler, Sampling, candidates, defaults, override, penalize

P = np.array([0.5, 0.25, 0.15, 0.06, 0.04])
LOGITS = np.log(P).astype(np.float32)


def kept(**options):
    ids, probabilities = candidates(LOGITS, [], Sampling(**options))
    assert probabilities.sum() == pytest.approx(1)
    return ids.tolist(), probabilities


def test_no_filter_keeps_the_models_probabilities():
    ids, probabilities = kept()
    assert ids == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(probabilities, P, atol=1e-6)


@pytest.mark.parametrize(
    "options, count",
    [
        (dict(top_k=2), 2),
        (dict(top_k=9), 5),
        (dict(top_p=0.74), 2),
        (dict(top_p=0.76), 3),
        (dict(top_p=0.0), 1),
        (dict(min_p=0.29), 3),
        (dict(min_p=0.31), 2),
        (dict(min_p=1.0), 1),
        (dict(top_k=3, top_p=0.8), 2),
    ],
)
def test_filters_keep_the_likeliest(options, count):
    ids, probabilities = kept(**options)
    assert ids == list(range(count))
    np.testing.assert_allclose(probabilities, P[:count] / P[:count].sum(), atol=1e-6)


def test_temperature_comes_after_the_filters():
    hot, _ = kept(top_p=0.76, temperature=50.0)
    cold, probabilities = kept(top_p=0.76, temperature=1e-300)
    assert hot == cold == [0, 1, 2]
    assert probabilities[0] == 1


def test_equal_logits_keep_the_order_of_their_ids():
    ids, _ = candidates(np.zeros(6, np.float32), [], Sampling(top_k=3))
    assert ids.tolist() == [0, 1, 2]
    assert Sampler(Sampling(temperature=0)).choose(np.zeros(6, np.float32), []) == 0


def test_penalties_of_the_last_tokens():
    logits = np.array([2.0, -2.0, 1.0, 1.0], np.float32)
    s = Sampling(repetition_penalty=2, frequency_penalty=0.5, presence_penalty=0.25, penalty_last_n=4)
    got = penalize(logits, [3, 3, 3, 0, 1, 0, 0], s)  # of these the last four count: 0, 1, 0, 0
    np.testing.assert_allclose(got, [2 / 2 - 3 * 0.5 - 0.25, -2 * 2 - 0.5 - 0.25, 1, 1])
    assert (penalize(logits, [0, 1], Sampling(penalty_last_n=0, presence_penalty=1)) == logits).all()


def test_a_seed_makes_draws_repeatable_and_draws_follow_the_probabilities():
    first, second = (
        [Sampler(Sampling(seed=seed)).choose(LOGITS, []) for seed in range(50)] for _ in range(2)
    )
    assert first == second
    sampler = Sampler(Sampling(seed=0))
    counts = np.bincount([sampler.choose(LOGITS, []) for _ in range(20_000)], minlength=5)
    np.testing.assert_allclose(counts / 20_000, P, atol=0.015)


@pytest.mark.parametrize(
    "option, value",
    [
        ("temperature", -1),
        ("top_p", 1.1),
        ("min_p", float("nan")),
        ("seed", -3),
        ("repetition_penalty", 0),
        ("top_k", -1),
    ],
)
def test_values_outside_their_limits(option, value):
    with pytest.raises(QwenRefError, match=f"{option}: {value}"):
        Sampling(**{option: value})


def test_defaults_of_the_model_cards_can_be_overridden():
    assert defaults(thinking=True, thinks_by_default=False).top_p == 0.95
    assert defaults(thinking=False, thinks_by_default=False).presence_penalty == 2.0
    assert defaults(thinking=False, thinks_by_default=True).temperature == 0.7
    assert override(Sampling(), top_k=5, seed=None) == Sampling(top_k=5)
    with pytest.raises(QwenRefError, match="heat: no such sampling option"):
        override(Sampling(), heat=1)
