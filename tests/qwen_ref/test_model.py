"""The network against what transformers computed in float64 (fixtures/*.npz), and itself in pieces."""

import numpy as np
import pytest

from gguf_io import Tensor, open_gguf
from gguf_io.quants import TYPES
from qwen_ref import QwenRefError
from qwen_ref.kernels import KERNELS
from qwen_ref.model import matrix
from qwen_ref.model.layers import NUMPY
from qwen_ref.model.matrix import Budget
from qwen_ref.model.text import TextModel
from qwen_ref.prompt import Span, mrope_positions

MODELS = ["tiny", "tiny-grouped", "tiny-wide"]


@pytest.fixture(scope="module", params=MODELS)
def case(request, fixtures):
    golden = np.load(fixtures / f"{request.param}.npz")
    return open_gguf(fixtures / f"{request.param}.gguf"), golden["token_ids"], golden["logits"]


def logits_of(model, token_ids, state=None):
    return model.logits(model.forward(token_ids, state or model.new_state()))


def in_pieces(model, token_ids, size):
    state = model.new_state()
    return np.concatenate(
        [logits_of(model, token_ids[i : i + size], state) for i in range(0, len(token_ids), size)]
    )


def test_float64_equals_transformers(case):
    file, token_ids, golden = case
    logits = logits_of(TextModel(file, np.float64), token_ids)
    assert np.abs(logits[3::4] - golden).max() < 1e-9


def rms(x):
    return np.sqrt(np.mean(np.square(x, dtype=np.float64)))


def test_float32_is_as_near_as_float32_gets(case):
    """The rms, because a single position may be ill-conditioned: the first of tiny-grouped is 4e-4 away with
    one processor's order of additions, the others 1e-4 at most. (tests/oracle has transformers' float32.)
    """
    file, token_ids, golden = case
    model = TextModel(file, np.float32)
    logits = logits_of(model, token_ids)
    assert logits.dtype == np.float32
    assert rms(logits[3::4] - golden) < 5e-5


@pytest.mark.parametrize("dtype, bound", [(np.float64, 1e-13), (np.float32, 5e-5)])
def test_pieces_of_any_size_give_the_same(case, dtype, bound):
    file, token_ids, _ = case
    model = TextModel(file, dtype)
    whole = in_pieces(model, token_ids, len(token_ids))
    for size in 1, 7, 64:
        assert rms(in_pieces(model, token_ids, size) - whole) < bound


def test_a_memory_budget_changes_nothing(case, monkeypatch):
    """Of what is converted two rows at a time, or one where two take more than a panel may."""
    monkeypatch.setattr(matrix, "PANEL_BYTES", 1100)
    file, token_ids, _ = case
    kept, converted = (
        in_pieces(TextModel(file, np.float64, budget), token_ids, 80) for budget in (1 << 30, 0)
    )
    assert np.abs(kept - converted).max() < 1e-12


@pytest.mark.parametrize(
    "layers, dtype", [(NUMPY, np.float64), (KERNELS, np.float32)], ids=["numpy", "numba"]
)
def test_a_copied_state_goes_its_own_way(case, layers, dtype):
    """Copy and original are continued in turn, token by token and several at once."""
    file, token_ids, _ = case
    model = TextModel(file, dtype, layers=layers)
    picture = mrope_positions(20, [Span(5, 2, 6)])  # 12 tokens that take 6 positions

    def begun():
        state = model.new_state()
        model.forward(token_ids[:20], state, picture)
        return state

    state, ways = begun(), (token_ids[20:30], token_ids[40:50])
    pair = state, state.copy()
    pieces = slice(0, 1), slice(1, 9), slice(9, 10)
    found = [[logits_of(model, ids[part], s) for ids, s in zip(ways, pair)] for part in pieces]
    for way, state in enumerate(pair):
        assert (state.num_tokens, state.next_position) == (30, 24)
        fresh = begun()
        for part, logits in zip(pieces, found):
            assert (logits_of(model, ways[way][part], fresh) == logits[way]).all()


def test_text_goes_on_behind_a_picture_that_ends_the_input(fixtures):
    model = TextModel(open_gguf(fixtures / "tiny.gguf"))
    state = model.new_state()
    model.forward([1] * 5, state, mrope_positions(5, [Span(1, 1, 4)]))  # time 1, columns 1 to 4
    assert (state.num_tokens, state.next_position) == (5, 5)


def test_what_is_neither_ids_nor_embeddings_is_refused(case):
    """A batch, embeddings of another width, and those of another type."""
    file, token_ids, _ = case
    model = TextModel(file)
    x = model.embed(token_ids[:3])
    for inputs in [[1, 2, 3]], x[:, :-1], x.astype(np.float64), x[None], 5:
        with pytest.raises(QwenRefError, match=r"^inputs: \w+ \(.*\): neither token ids \[T\]"):
            model.forward(inputs, model.new_state())
    whole = model.forward(token_ids[:3], model.new_state())
    assert (model.forward(x, model.new_state()) == whole).all()


def test_a_budget_is_taken_from():
    budget = Budget(100)
    assert [budget.take(60), budget.take(60), budget.take(40), budget.take(1)] == [True, False, True, False]


def test_panels_of_a_matrix_that_is_not_kept(monkeypatch):
    """At least a row, however long it is, in the type that is asked for."""
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    float32 = next(t for t in TYPES.values() if t.name == "F32")
    weight = matrix.Matrix(Tensor("w", (3, 4), float32, 0, memoryview(values.tobytes())), Budget(0))
    for limit, rows in (10, 1), (40, 2), (1000, 3):
        monkeypatch.setattr(matrix, "PANEL_BYTES", limit)
        panels = list(weight.panels(np.dtype(np.float32)))
        assert [start for start, _ in panels] == list(range(0, 3, rows))
        assert all(panel.dtype == np.float32 and len(panel) <= rows for _, panel in panels)
        assert (np.concatenate([panel for _, panel in panels]) == values).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_state_is_of_the_models_type(fixtures, dtype):
    model = TextModel(open_gguf(fixtures / "tiny.gguf"), dtype)
    state = model.new_state()
    for read in [], [1, 2, 3], [4]:
        if read:
            model.forward(read, state)
        for kept in state, state.copy():
            arrays = [x for layer in kept.layers for x in vars(layer).values() if isinstance(x, np.ndarray)]
            assert arrays and {x.dtype for x in arrays} == {np.dtype(dtype)}
