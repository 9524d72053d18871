"""The network against what transformers computed in float64 (fixtures/*.npz), and itself in pieces."""

import numpy as np
import pytest

from gguf_io import open_gguf
from qwen_ref.model.text import TextModel

MODELS = ["tiny", "tiny-grouped", "tiny-wide"]


@pytest.fixture(scope="module", params=MODELS)
def case(request, fixtures):
    golden = np.load(fixtures / f"{request.param}.npz")
    return open_gguf(fixtures / f"{request.param}.gguf"), golden["token_ids"], golden["logits"]


def in_pieces(model, token_ids, size):
    state = model.new_state()
    return np.concatenate(
        [model.forward(token_ids[i : i + size], state) for i in range(0, len(token_ids), size)]
    )


def test_float64_equals_transformers(case):
    file, token_ids, golden = case
    logits = TextModel(file, np.float64).forward(token_ids, TextModel(file, np.float64).new_state())
    assert np.abs(logits[3::4] - golden).max() < 1e-9


def rms(x):
    return np.sqrt(np.mean(np.square(x, dtype=np.float64)))


def test_float32_is_as_near_as_float32_gets(case):
    """The rms, because a single position may be ill-conditioned: the first of tiny-grouped is 4e-4 away with
    one processor's order of additions, the others 1e-4 at most. (tests/oracle has transformers' float32.)
    """
    file, token_ids, golden = case
    model = TextModel(file, np.float32)
    logits = model.forward(token_ids, model.new_state())
    assert logits.dtype == np.float32
    assert rms(logits[3::4] - golden) < 5e-5


@pytest.mark.parametrize("dtype, bound", [(np.float64, 1e-13), (np.float32, 5e-5)])
def test_pieces_of_any_size_give_the_same(case, dtype, bound):
    file, token_ids, _ = case
    model = TextModel(file, dtype)
    whole = in_pieces(model, token_ids, len(token_ids))
    for size in 1, 7, 64:
        assert rms(in_pieces(model, token_ids, size) - whole) < bound


def test_a_memory_budget_changes_nothing(case):
    file, token_ids, _ = case
    kept, converted = (
        in_pieces(TextModel(file, np.float64, budget), token_ids, 80) for budget in (1 << 30, 0)
    )
    assert np.abs(kept - converted).max() < 1e-12


def test_a_copied_state_goes_its_own_way(case):
    file, token_ids, _ = case
    model = TextModel(file, np.float64)
    state = model.new_state()
    model.forward(token_ids[:20], state)
    other = state.copy()
    model.forward(token_ids[40:60], other)
    assert (state.num_tokens, other.num_tokens) == (20, 40)
    continued, fresh = model.forward(token_ids[20:30], state), in_pieces(model, token_ids[:30], 30)[20:]
    assert np.abs(continued - fresh).max() < 1e-12
