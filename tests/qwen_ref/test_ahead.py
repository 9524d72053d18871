"""What the next turn begins with is read ahead, and the turn is the same as without."""

import contextlib
import itertools

import pytest

import qwen_ref
from qwen_ref import shipped
from qwen_ref.conversation import Conversation
from qwen_ref.engine import ahead
from qwen_ref.prompt import last_question

SHAPES = "examples/media/shapes.png"
GREEDY = dict(temperature=0, presence_penalty=0, max_tokens=40)
SAID = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "user",
        "content": [{"type": "image", "image": SHAPES}, {"type": "text", "text": "Describe it."}],
    },
    {"role": "assistant", "content": "A circle.", "reasoning_content": "The template leaves this out."},
]
NEXT = {"role": "user", "content": "How many objects are there?"}


@pytest.fixture(scope="module")
def fresh():
    answer = qwen_ref.load(shipped.MODEL).generate([*SAID, NEXT], **GREEDY)
    return "".join(answer), answer.prompt_ids


@pytest.mark.parametrize("pieces", [0, 1, 2, 3, None])
def test_wherever_it_is_left_the_answer_is_the_same(fresh, pieces):
    """After one piece the state lies in the middle of the picture."""
    model = qwen_ref.load(shipped.MODEL, keep=1 << 28)
    with contextlib.closing(ahead.read_ahead(model, SAID)) as reading:
        done = len(list(itertools.islice(reading, pieces)))
    answer = model.generate([*SAID, NEXT], **GREEDY)
    assert "".join(answer) == fresh[0]
    stop = last_question(fresh[1], model.tokenizer)
    assert answer.cached_tokens == (stop if pieces is None else ahead.PIECE * done)
    assert list(ahead.read_ahead(model, SAID)) == []  # there is nothing more to read


def test_a_conversation_reads_ahead_where_it_can():
    said = Conversation(qwen_ref.load(shipped.MODEL, keep=1 << 28), **GREEDY)
    assert list(said.read_ahead()) == []
    list(said.ask("What is 2 + 3?"))
    assert list(said.read_ahead())
    list(said.ask("And 2 + 4?"))
    (last,) = (m for m in [said.generation] if m)
    assert last.cached_tokens == last_question(last.prompt_ids, said.model.tokenizer)
    said.tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert list(said.read_ahead())
    list(said.ask("And 2 + 5?"))
    last = said.generation
    assert last.cached_tokens == last_question(last.prompt_ids, said.model.tokenizer)
    said.messages[-1]["tool_calls"] = [{"type": "function", "function": {"name": "f", "arguments": {}}}]
    assert list(said.read_ahead()) == []  # not before what it calls has answered
    full = Conversation(qwen_ref.load(shipped.MODEL, keep=1 << 28, context=40), **GREEDY)
    list(full.ask("What is 2 + 3?"))
    assert list(full.read_ahead()) == []
    without = Conversation(qwen_ref.load(shipped.MODEL), **GREEDY)
    list(without.ask("What is 2 + 3?"))
    assert list(without.read_ahead()) == []
