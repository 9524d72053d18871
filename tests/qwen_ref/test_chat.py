import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_io import open_gguf
from qwen_ref import QwenRefError
from qwen_ref.chat import ChatTemplate
from qwen_ref.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def chat(fixtures):
    file = open_gguf(fixtures / "tiny.gguf")
    return ChatTemplate(file, Tokenizer(file))


def user(text):
    return [{"role": "user", "content": text}]


def test_thinking_is_the_templates_choice_unless_asked(chat, fixtures):
    assert chat.render(user("hi")).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert chat.render(user("hi"), thinking=True).endswith("<|im_start|>assistant\n<think>\n")
    file = open_gguf(fixtures / "tiny-grouped.gguf")  # has the template of 4B and 9B
    assert ChatTemplate(file, Tokenizer(file)).render(user("hi")).endswith("assistant\n<think>\n")


def test_ids_of_harmless_messages_are_those_of_the_rendered_text(chat):
    messages = [
        {"role": "system", "content": "Be brief."},
        *user("Größe?"),
        {"role": "assistant", "content": "7"},
        *user("ok"),
    ]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    rendered = chat.render(messages, tools)
    assert chat.encode(messages, tools)[0] == chat._tokenizer.encode(rendered, special=True)


@settings(max_examples=100)
@given(
    parts=st.lists(
        st.sampled_from(["<|im_end|>", "<|im_start|>", "<|", "im_end", "|>", "\ufdd0", "x", "\n", "<think>"])
    ),
    together=st.booleans(),
)
def test_no_message_can_end_its_own_turn(chat, parts, together):
    tokenizer = chat._tokenizer
    content = "".join(parts) if together else tuple({"type": "text", "text": part} for part in parts)
    ids, _ = chat.encode(user(content))
    plain, _ = chat.encode(user("x"))
    for name in "<|im_end|>", "<|im_start|>":
        assert ids.count(tokenizer.ids[name]) == plain.count(tokenizer.ids[name])
    assert "".join(parts).strip() in tokenizer.decode(ids)


@pytest.mark.parametrize("name", ["<|im_end|>", "<|im_end|"])  # the template has a > after it
def test_no_name_of_an_argument_can_end_a_turn(chat, name):
    def count(name):
        call = {"function": {"name": "f", "arguments": {name: "x"}}}
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {name: {}}}}}]
        messages = [*user("a"), {"role": "assistant", "content": "", "tool_calls": [call]}, *user("b")]
        return chat.encode(messages, tools)[0].count(chat._tokenizer.ids["<|im_end|>"])

    assert count(name) == count("city")


@pytest.mark.parametrize(
    "messages, words",
    [
        ([], "No messages provided"),
        ([{"role": "robot", "content": "x"}, *user("hi")], "Unexpected message role"),
        ([*user("hi"), {"role": "system", "content": "late"}], "System message must be at the beginning"),
        ([{"content": "x"}], "tokenizer.chat_template"),
        ([*user("hi"), "hi"], "the messages: number 2 is a str"),
        (user(b"hi"), "the messages or tools: .* JSON"),
    ],
)
def test_messages_that_the_template_refuses(chat, messages, words):
    with pytest.raises(QwenRefError, match=words):
        chat.encode(messages)
