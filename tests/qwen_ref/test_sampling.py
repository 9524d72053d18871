"""Each filter against a plain statement of it; tests/oracle compares the whole chain with llama.cpp."""

import numpy as np
import pytest

from qwen_ref import QwenRefError
from qwen_ref.sampling import (
    LIMITS,
    Sampler,
    Sampling,
    candidates,
    counted,
    defaults,
    override,
    penalize,
    stored,
)

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
        (dict(top_p=0.9999), 5),
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


def test_filters_at_their_edges():
    """Four tokens of a quarter each, as exact as floats are, and one of nothing."""
    logits = np.array([0, 0, -np.inf, 0, 0], np.float32)
    for options, ids in [
        (dict(top_p=0.5), [0, 1]),  # reached is enough
        (dict(top_p=0.5001), [0, 1, 3]),
        (dict(min_p=1.0), [0, 1, 3, 4]),  # as likely as the likeliest
        (dict(min_p=1e-9), [0, 1, 3, 4]),
        (dict(top_k=3, top_p=0.5), [0, 1]),  # of the three, each a third
        (dict(top_k=3, top_p=0.3), [0]),
    ]:
        assert candidates(logits, [], Sampling(**options))[0].tolist() == ids, options


def test_temperature_comes_after_the_filters():
    hot, _ = kept(top_p=0.76, temperature=50.0)
    cold, probabilities = kept(top_p=0.76, temperature=1e-300)
    assert hot == cold == [0, 1, 2]
    assert probabilities[0] == 1


def test_equal_logits_keep_the_order_of_their_ids():
    ids, _ = candidates(np.zeros(6, np.float32), [], Sampling(top_k=3))
    assert ids.tolist() == [0, 1, 2]
    assert Sampler(Sampling(temperature=0)).choose(np.zeros(6, np.float32), []) == 0


def test_penalties_change_tokens_seen():
    logits = np.array([2.0, -2.0, 1.0, 1.0], np.float32)
    s = Sampling(repetition_penalty=2, frequency_penalty=0.5, presence_penalty=0.25)
    got = penalize(logits, [0, 1, 0, 0], s)
    np.testing.assert_allclose(got, [2 / 2 - 3 * 0.5 - 0.25, -2 * 2 - 0.5 - 0.25, 1, 1])
    assert logits.tolist() == [2, -2, 1, 1]
    for one in dict(repetition_penalty=2), dict(frequency_penalty=1), dict(presence_penalty=1):
        assert penalize(logits, [0], Sampling(**one)).tolist() == [1, -2, 1, 1]
    assert penalize(logits, [0, 1], Sampling()).tolist() == [2, -2, 1, 1]


@pytest.mark.parametrize(
    "last_n, count",  # of a prompt of 3 tokens and an answer of 2
    [(None, [3, 4]), (0, []), (1, [4]), (4, [1, 2, 3, 4]), (5, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4]),
     (-1, [0, 1, 2, 3, 4])],
)  # fmt: skip
def test_penalties_count_the_answer_or_llama_cpps_window(last_n, count):
    tokens, s = np.arange(5), Sampling(penalty_last_n=last_n, presence_penalty=100)
    assert counted(tokens, 3, s).tolist() == count
    first = next((i for i in range(5) if i not in count), 0)
    assert Sampler(Sampling(0, penalty_last_n=last_n, presence_penalty=100)).choose(
        np.zeros(6), tokens, 3
    ) == (first if len(count) < 5 else 5)


def test_the_prompts_end_tokens_do_not_make_the_end_unlikely():
    """The default presence penalty of 2.0, and the end (1) level with another token: as likely as that."""
    logits, prompt = np.array([0, 9, 9], np.float32), np.array([0, 1, 0, 1])
    s = defaults(thinking=False, thinks_by_default=False)
    ids, probabilities = candidates(logits, counted(prompt, 4, s), s)
    assert ids.tolist()[:2] == [1, 2] and probabilities[0] == pytest.approx(0.5, abs=1e-3)
    window = override(s, penalty_last_n=64)
    _, probabilities = candidates(logits, counted(prompt, 4, window), window)
    assert probabilities[1] == pytest.approx(1 / (1 + np.e**2), abs=1e-3)  # 0.12


def test_greedy_comes_after_the_penalties():
    s = Sampling(temperature=0, presence_penalty=1)
    assert candidates(np.array([1, 0.9], np.float32), [0], s)[0].tolist() == [1]


@pytest.mark.parametrize("size", [200, 5000, 248_320])
def test_the_likeliest_are_found_wherever_they_are(size):
    """Against NumPy's sort; groups of logits that do not divide the vocabulary leave a tail."""
    for k in 1, 20, 65:
        logits = np.random.default_rng(k).standard_normal(size).astype(np.float32)
        logits[-1] = 99
        ids, _ = candidates(logits, [], Sampling(top_k=k))
        assert ids.tolist() == np.argsort(-logits, kind="stable")[:k].tolist() and ids[0] == size - 1
    few = (np.arange(size) % 7).astype(np.float32)
    ids, _ = candidates(few, [], Sampling(top_k=65))
    assert ids.tolist() == np.argsort(-few, kind="stable")[:65].tolist()


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
        ("top_k", True),
        ("temperature", False),
        ("penalty_last_n", -2),
        ("penalty_last_n", 1.0),
        ("top_p", None),
        *[(name, high * 1.5 + 1) for name, (_, high) in LIMITS.items() if isinstance(high, float)],
        *[(name, high + 1) for name, (_, high) in LIMITS.items() if isinstance(high, int)],
    ],
)
def test_values_outside_their_limits(option, value):
    with pytest.raises(QwenRefError, match=f"{option}: {value}"):
        Sampling(**{option: value})


@pytest.mark.parametrize(
    "option, low, high",
    [
        ("temperature", 0, 100.0),
        ("top_k", 0, 1 << 30),
        ("top_p", 0, 1),
        ("min_p", 0, 1.0),
        ("repetition_penalty", 0.01, 100),
        ("presence_penalty", -100, 100),
        ("frequency_penalty", -100, 100),
        ("penalty_last_n", -1, 1 << 30),
        ("seed", 0, (1 << 64) - 1),
    ],
)
def test_the_limits_themselves_are_inside(option, low, high):
    for value in low, high, np.int64(1):
        assert getattr(Sampling(**{option: value}), option) == value


@pytest.mark.parametrize(
    "thinking, by_default, card",  # huggingface.co/Qwen/Qwen3.5-0.8B and -4B, for text
    [
        (True, False, Sampling(1.0, top_k=20, top_p=0.95, presence_penalty=1.5)),
        (True, True, Sampling(1.0, top_k=20, top_p=0.95, presence_penalty=1.5)),
        (False, False, Sampling(1.0, top_k=20, top_p=1.0, presence_penalty=2.0)),
        (False, True, Sampling(0.7, top_k=20, top_p=0.8, presence_penalty=1.5)),
    ],
)
def test_defaults_are_the_model_cards(thinking, by_default, card):
    assert defaults(thinking, by_default) == card


def test_options_override():
    assert override(Sampling(top_p=0.5), top_k=5, seed=None, top_p=None) == Sampling(top_k=5, top_p=0.5)
    with pytest.raises(
        QwenRefError, match="heat: no such sampling option; there are frequency_penalty, min_p"
    ):
        override(Sampling(), heat=1)


def of(**options):
    return {f"general.sampling.{name}": value for name, value in options.items()}


def test_a_file_may_hold_options():
    given = dict(top_k=40, top_p=0.5, min_p=0.1, temp=0.6, penalty_last_n=9, penalty_repeat=1.1)
    assert stored(of(**given) | {"general.name": "x"}, "a.gguf") == dict(
        top_k=40, top_p=0.5, min_p=0.1, temperature=0.6, penalty_last_n=9, repetition_penalty=1.1
    )
    chain = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature"  # llama.cpp's own
    neutral = of(sequence=chain, xtc_probability=0.0, xtc_threshold=0.1, mirostat=0, mirostat_tau=5.0)
    assert stored(neutral | of(mirostat_eta=0.1), "a.gguf") == {}


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(sequence="top_k;temperature"), "sequence: 'top_k;temperature' asks for a way to draw"),
        (dict(sequence="temperature;penalties;top_k;top_p;min_p"), "sequence: .* asks for"),
        (dict(sequence=5), "sequence: 5 asks"),
        (dict(xtc_probability=0.5), "xtc_probability: 0.5 asks"),
        (dict(mirostat=2), "mirostat: 2 asks for a way to draw that is not known here"),
        (dict(dynatemp=0.5), "dynatemp: 0.5 asks"),
        (dict(penalty_last_n=-1), "penalty_last_n: -1 means all tokens to some versions of llama.cpp"),
        (dict(penalty_last_n=-2), "penalty_last_n: penalty_last_n: -2 is not in -1 to"),
        (dict(top_k="20"), "top_k: top_k: '20' is not a whole number"),
        (dict(top_k=True), "top_k: top_k: True is not a whole number"),
        (dict(temp=-0.5), "temp: temperature: -0.5 is not in 0.0 to 100.0"),
        (dict(top_p=float("nan")), "top_p: top_p: nan is not in"),
        (dict(penalty_repeat=0.0), "penalty_repeat: repetition_penalty: 0.0 is not in"),
    ],
    ids=str,
)
def test_options_of_a_file_that_are_not_known_or_make_no_sense(options, words):
    with pytest.raises(QwenRefError, match=f"^a.gguf: general.sampling.{words}"):
        stored(of(**options), "a.gguf")
