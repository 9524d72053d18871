"""An answer taken apart as it comes: thought, text and calls, the same wherever its pieces are cut."""

import json

import pytest

from gguf_io import open_gguf
from qwen_ref.answer import Answer, Thought, read_call
from qwen_ref.messages import check_messages
from qwen_ref.prompt import PromptEncoder
from qwen_ref.tokenizer import StreamDecoder


@pytest.fixture(scope="module")
def prompts(fixtures):
    return PromptEncoder(open_gguf(fixtures / "tiny.gguf"))


@pytest.fixture(scope="module")
def tokenizer(prompts):
    return prompts.tokenizer


def of(**properties):
    return {"type": "object", "properties": properties, "$defs": {"count": {"type": ["integer", "null"]}}}


TOOLS = [
    {"type": "function", "function": {"name": "f", "parameters": of(
        s={"type": "string"}, i={"type": "integer"}, x={"type": "number"}, b={"type": "boolean"},
        o={"type": "object"}, a={"type": "array"}, n={"type": ["null", "boolean"]}, t={},
        u={"anyOf": [{"type": "integer"}, {"type": "string"}]}, r={"$ref": "#/$defs/count"},
        e={"enum": [1, 2, "all"]}, loop={"anyOf": [{"$ref": "#/properties/loop"}, {"type": "array"}]})}},
    {"name": "bare"},
]  # fmt: skip


def call(*parameters, name="f"):
    written = "".join(f"<parameter={p}>\n{value}\n</parameter>\n" for p, value in parameters)
    return f"<tool_call>\n<function={name}>\n{written}</function>\n</tool_call>"


HTML = "<div>\n</parameter>\n</div> </parameter>"
CALLS = [  # what is written -> (name, arguments)
    (call(), ("f", {})),
    (call(("s", "Oslo")), ("f", {"s": "Oslo"})),
    (call(("i", "3"), ("s", "3")), ("f", {"i": 3, "s": "3"})),
    (call(("s", "3"), ("i", "3")), ("f", {"s": "3", "i": 3})),  # the order stays
    (call(("s", "")), ("f", {"s": ""})),
    (call(("s", "\n a \n\n")), ("f", {"s": "\n a \n\n"})),
    (call(("s", HTML), ("i", "-1")), ("f", {"s": HTML, "i": -1})),
    (call(("s", "<tool_call>x</tool_call>, <think>")), ("f", {"s": "<tool_call>x</tool_call>, <think>"})),
    (call(("s", "</function> <function=g>")), ("f", {"s": "</function> <function=g>"})),
    (call(("x", "1"), ("i", "2.0")), ("f", {"x": 1, "i": 2})),
    (call(("x", "1e3"), ("i", "2.5")), ("f", {"x": 1000.0, "i": "2.5"})),
    (call(("x", "NaN"), ("i", "seven")), ("f", {"x": "NaN", "i": "seven"})),
    (call(("b", "true"), ("n", "None")), ("f", {"b": True, "n": None})),
    (call(("b", "False"), ("n", "0")), ("f", {"b": False, "n": "0"})),
    (call(("o", '{"ö": [1, {"k": null}]}'), ("a", "[]")), ("f", {"o": {"ö": [1, {"k": None}]}, "a": []})),
    (call(("o", '{"a": '), ("a", '["\\ud800"]')), ("f", {"o": '{"a": ', "a": '["\\ud800"]'})),
    (call(("u", "12"), ("r", "12")), ("f", {"u": 12, "r": 12})),
    (call(("u", "twelve"), ("r", "null")), ("f", {"u": "twelve", "r": None})),
    (call(("e", "2"), ("t", "2"), ("other", "2")), ("f", {"e": 2, "t": "2", "other": "2"})),
    (call(("loop", "[1]"), ("s", "null")), ("f", {"loop": [1], "s": "null"})),
    (call(("q", "日本 🎉"), name="bare"), ("bare", {"q": "日本 🎉"})),
    (call(("q", "true"), name="unknown"), ("unknown", {"q": "true"})),
    ("<tool_call><function=f><parameter=s>a</parameter><parameter=i>5</parameter></function></tool_call>",
     ("f", {"s": "a", "i": 5})),
    (call(("a", "[1")), ("f", {"a": "[1"})),
    ("<tool_call>{}</tool_call>", None),
    (call(("s", "a"), ("s", "b")), None),  # one of two values would be lost
    ("<tool_call>\n<function=f>\nx</function>\n</tool_call>", None),
    ("<tool_call>\n<function=f>\n<parameter=s>\na\n</function>\n</tool_call>", None),
    (call(("s", "a")).replace("</function>\n", ""), None),
    (call(("s", "a")).replace("<function=f>", "<function=>"), None),
]  # fmt: skip
AROUND = [  # before, after
    ("", ""),
    ("<think>\nI may say <tool_call>\n<function=f>\n</function>\n</tool_call>.\n</think>\n\nLet me look.\n\n",
     "\n" + call(name="bare") + "\n"),
]  # fmt: skip
TABLE = [(before, written, after, expected) for before, after in AROUND for written, expected in CALLS]


def read(tokenizer, token_ids, thinks=False, begun=None, tools=TOOLS, shown=None, lag=0):
    """Token by token; `lag` characters are held back as for a stop string, which ends the text at `shown`."""
    prompt = tokenizer.encode("<think>") if thinks else []
    answer, decoder, deltas, given, out = (
        Answer(tokenizer, prompt, begun, tools),
        StreamDecoder(tokenizer),
        [],
        0,
        0,
    )
    for token_id in token_ids:
        text = decoder.push(token_id)
        answer.push(token_id, text)
        given += len(text)
        now = max(min(given - lag, given if shown is None else shown), out)
        answer.show(now - out)
        out, deltas = now, [*deltas, *answer.take()]
    answer.show((given if shown is None else shown) - out)
    before = answer.message
    answer.finish()
    assert answer.message == before
    return before, [*deltas, *answer.take()]


def cuts(tokenizer, text):
    """Tokens of the text: its own, one for each character, and with a cut at each place."""
    yield tokenizer.encode(text)
    pieces = tokenizer.cut(text, special=False)
    whole = [tokenizer.encode(piece) for piece in pieces]
    yield [
        i
        for n, piece in enumerate(pieces)
        for c in ([piece] if n % 2 else piece)
        for i in tokenizer.encode(c)
    ]
    for n in range(0, len(pieces), 2):
        before, after = ([i for ids in some for i in ids] for some in (whole[:n], whole[n + 1 :]))
        for at in range(1, len(pieces[n])):
            left, right = pieces[n][:at], pieces[n][at:]
            yield [*before, *tokenizer.encode_text(left), *tokenizer.encode_text(right), *after]


def without_ids(calls):
    return [(c["function"]["name"], c["function"]["arguments"]) for c in calls]


def test_a_table_of_calls_cut_at_every_place(tokenizer):
    assert len(TABLE) >= 60
    for row, (before, written, after, expected) in enumerate(TABLE):
        calls = [expected] * (expected is not None) + [("bare", {})] * bool(after)
        said = "" if not before else "Let me look."
        if expected is None:
            said = "\n\n".join(filter(None, [said, written]))
        places = list(cuts(tokenizer, before + written + after))
        for lag, token_ids in enumerate(places[row % 3 :: 3]):
            message, deltas = read(tokenizer, token_ids, lag=lag % 7)
            assert message["content"] == said == "".join(d.text for d in deltas if d.kind == "content")
            thought = "".join(d.text for d in deltas if d.kind == "reasoning")
            assert message.get("reasoning_content", "") == thought
            assert thought == (before and "I may say <tool_call>\n<function=f>\n</function>\n</tool_call>.")
            assert without_ids(message.get("tool_calls", [])) == calls
            given = [d.call for d in deltas if d.kind == "tool_call"]
            assert [(name, json.loads(text)) for name, text in without_ids(given)] == calls
            assert [c["id"] for c in given] == [c["id"] for c in message.get("tool_calls", [])]


def test_an_answer_becomes_a_message(tokenizer):
    def message(text, **options):
        return read(tokenizer, tokenizer.encode(text), **options)[0]

    plain = {"role": "assistant", "content": "é b"}
    assert message(" é b\n") == plain
    assert message("\nt\n</think>\n\né b", thinks=True) == plain | {"reasoning_content": "t"}
    assert message("<think>\nt\n</think>\n\né b") == plain | {"reasoning_content": "t"}
    assert message("<think>\n\n</think>\n\né b") == plain
    assert message("t <tool_call>", thinks=True) == {
        "role": "assistant", "content": "", "reasoning_content": "t <tool_call>"}  # fmt: skip
    for text in "a <think> b</think>", "a</think>b</think>", call()[:-13], "Well. <tool_call>":
        assert message(text) == plain | {"content": text}
    assert message("t</think>a</think>b", thinks=True)["content"] == "a</think>b"
    for spelled in "a</think>b", call():  # not as tokens
        said = read(tokenizer, tokenizer.encode_text(spelled), thinks=True)[0]
        assert said == {"role": "assistant", "content": "", "reasoning_content": spelled}
        assert read(tokenizer, tokenizer.encode_text(spelled))[0] == plain | {"content": spelled}
    begun = {"role": "assistant", "content": "Sure,", "reasoning_content": "t"}
    assert message(" é </think>", begun=begun) == begun | {"content": "Sure, é </think>"}
    assert message("<think>", begun=begun | {"content": ""})["content"] == "<think>"
    for shown in range(len("<think>t</think>ab")):  # a stop string ends the text within the last tokens
        for lag in range(9):
            told = message("<think>t</think>ab", shown=shown, lag=lag)
            thought, _, said = "t</think>ab"[: max(shown - 7, 0)].partition("</think>")
            assert told["content"] == ("<think>"[:shown] if shown < 7 else said)
            assert told.get("reasoning_content", "") == thought


def test_text_behind_a_call_and_a_character_that_never_became_whole(tokenizer):
    text = "Well.\n\n" + call() + "\nAnd " + call()[:-13] + call(("i", "1"))
    message, deltas = read(tokenizer, tokenizer.encode(text))
    assert without_ids(message["tool_calls"]) == [("f", {}), ("f", {"i": 1})]
    assert message["content"] == "Well.\n\n\nAnd " + call()[:-13]
    again, _ = read(tokenizer, tokenizer.encode(text))  # another turn: its calls are others
    assert len({c["id"] for c in [*message["tool_calls"], *again["tool_calls"]]}) == 4
    assert [d.kind for d in deltas if d.kind != "content"] == ["tool_call"] * 2
    half = [i for i in range(256) if tokenizer.token_bytes(i) == b"\xe2"]
    message, _ = read(tokenizer, [*half, *tokenizer.encode(call())])
    assert message["content"] == "\ufffd" and len(message["tool_calls"]) == 1


def test_an_answer_goes_into_the_next_prompt_as_it_was(prompts):
    written = "Let me look.\n\n" + call(("o", '{"x": 1}'), ("s", "\n")) + "\n" + call(name="bare")
    message, _ = read(prompts.tokenizer, prompts.tokenizer.encode(f"<think>\nt\n</think>\n\n{written}"))
    messages = [{"role": "user", "content": "x"}, message, {"role": "tool", "content": "y"}]
    assert check_messages(messages)[1] == message
    encoded = prompts.chat.encode([*messages, messages[-1]], TOOLS)
    assert f"<think>\nt\n</think>\n\n{written}<|im_end|>" in encoded.text


def test_whether_a_thought_is_open(tokenizer):
    for text, is_open in [("", False), ("x", False), ("<think>x", True), ("<think></think>x", False)]:
        assert Thought(tokenizer, tokenizer.encode(text)).open == is_open
    assert Thought(tokenizer, tokenizer.encode("<think></think>a<think>")).open
    assert not Thought(tokenizer, tokenizer.encode_text("<think>")).open


def test_a_value_that_is_nested_too_deeply_stays_text():
    written = f"<function=f>\n<parameter=a>\n{'[' * 99_999}\n</parameter>\n</function>"
    assert read_call(written, {"f": {"a": {"array"}}}) == ("f", {"a": "[" * 99_999})
