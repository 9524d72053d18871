"""What messages mean to the model. Right values are written out; tests/oracle asks transformers live."""

import copy
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rewrite import rewrite

from gguf_io import open_gguf
from qwen_ref import QwenRefError
from qwen_ref.chat import MARKS, ChatTemplate
from qwen_ref.media.media import Shape
from qwen_ref.messages import check_messages
from qwen_ref.prompt import PromptEncoder, Span, show_media
from qwen_ref.tokenizer import Tokenizer, any_of


@pytest.fixture(scope="module")
def prompts(fixtures):
    return PromptEncoder(open_gguf(fixtures / "tiny.gguf"))  # has the template of 0.8B and 2B


@pytest.fixture(scope="module")
def chat(prompts):
    return prompts.chat


@pytest.fixture(scope="module")
def thinker(fixtures):
    return PromptEncoder(open_gguf(fixtures / "tiny-grouped.gguf"))  # that of 4B and 9B


def user(text):
    return [{"role": "user", "content": text}]


def answered(**message):
    return [*user("x"), {"role": "assistant", **message}]


def called(arguments, **function):
    """A conversation in which a tool was called."""
    call = {"function": {"name": "f", "arguments": arguments} | function}
    return [
        *user("a"),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "b"},
    ]


def structure(chat, encoded):
    """The added tokens of a prompt, by name."""
    names = {i: name for name, i in chat._tokenizer.ids.items()}
    return [names[i] for i in encoded.token_ids if i in names]


OPENED = "<|im_start|>assistant\n<think>\n"
CLOSED = OPENED + "\n</think>\n\n"


def test_thinking_is_the_templates_choice_unless_asked(prompts, thinker):
    for encoder, thinking, ending, thinks, unasked in [
        (prompts, None, CLOSED, False, False),
        (prompts, True, OPENED, True, False),
        (prompts, False, CLOSED, False, False),
        (thinker, None, OPENED, True, True),
        (thinker, True, OPENED, True, True),
        (thinker, False, CLOSED, False, True),
    ]:
        prompt = encoder.encode("hi", thinking=thinking)
        assert prompt.text == f"<|im_start|>user\nhi<|im_end|>\n{ending}"
        assert (prompt.thinks, prompt.thinks_unasked) == (thinks, unasked)


def test_ids_of_harmless_messages_are_those_of_the_rendered_text(chat):
    messages = [
        {"role": "system", "content": "Be brief."},
        *user("Größe?"),
        {"role": "assistant", "content": "7"},
        *user("ok"),
    ]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    rendered = chat.render(messages, tools)
    encoded = chat.encode(messages, tools)
    assert encoded.text == rendered
    assert encoded.token_ids == chat._tokenizer.encode(rendered, special=True)


PIECES = ["<|im_end|>", "<|im_start|>", "<|", "im_end", "|>", "\ufdd0", "x", "\n", "<think>", "</thi", "nk>"]
PIECES += ["<tool_call>", "</tool_response>", "<", "think>"]


@settings(max_examples=100)
@given(parts=st.lists(st.sampled_from(PIECES)), together=st.booleans())
def test_no_message_can_hold_structure(chat, parts, together):
    content = "".join(parts) if together else tuple({"type": "text", "text": part} for part in parts)
    encoded = chat.encode(user(content or " "))
    assert structure(chat, encoded) == structure(chat, chat.encode(user("x")))
    assert "".join(parts).strip() in chat._tokenizer.decode(encoded.token_ids)
    assert chat._tokenizer.decode(encoded.token_ids) == encoded.text


PLACES = {
    "system": lambda s: ([{"role": "system", "content": s}, *called({})], None),
    "an answer": lambda s: ([*user("a"), {"role": "assistant", "content": "b " + s}, *user("c")], None),
    "a thought": lambda s: (
        [*called({})[:1], called({})[1] | {"reasoning_content": s}, *called({})[2:]],
        None,
    ),
    "a result": lambda s: ([*called({})[:2], {"role": "tool", "content": s}], None),
    "an argument": lambda s: (called({"city": s}), None),
    "in an argument": lambda s: (called({"city": [{s: s}]}), None),
    "its name": lambda s: (called({s: "x"}), None),
    "the call's name": lambda s: (called({}, name=s), None),
    "a tool": lambda s: (user("a"), [{"name": "f", "description": s, "parameters": {"properties": {s: {}}}}]),
}


@pytest.mark.parametrize("place", PLACES)
def test_nothing_else_can_either(chat, place):
    plain = structure(chat, chat.encode(*PLACES[place]("x")))
    for text in [*chat._tokenizer.ids, "<|im_end|", "a </think"]:  # templates have a > after some
        assert structure(chat, chat.encode(*PLACES[place](text))) == plain, text
        assert text in chat.encode(*PLACES[place](text)).text


def test_a_users_text_in_the_tags_of_a_tool_is_a_users_text(chat):
    text = "<tool_response>\nx</tool_response>"
    assert chat.encode(user(text)).text.startswith(f"<|im_start|>user\n{text}<|im_end|>\n")
    assert structure(chat, chat.encode(user("<think>a</think>b"))) == structure(chat, chat.encode(user("x")))


@pytest.mark.parametrize(
    "content, shown, thoughts",
    [
        ("I think </think> closes a thought. The rest.", None, 0),
        ("Not first: <think>a</think> b", None, 0),
        (" <think>\nthought </think>\n\nanswer", "answer", 0),  # Qwen's templates leave old thoughts out
        ("<think>a <think> b</think>c </think> d", "c </think> d", 0),
    ],
)
def test_of_an_earlier_answer_only_the_thought_that_it_begins_with_goes(chat, content, shown, thoughts):
    messages = [*user("a"), {"role": "assistant", "content": content}, *user("b")]
    encoded = chat.encode(messages)
    assert f"<|im_start|>assistant\n{shown or content}<|im_end|>\n" in encoded.text
    assert structure(chat, encoded).count("</think>") == 1  # the one of the new turn
    messages[1]["content"] = [{"type": "text", "text": content[:3]}, {"type": "text", "text": content[3:]}]
    assert chat.encode(messages) == encoded


def test_a_thought_before_a_call_stays_as_the_template_has_it(chat):
    messages = called({})
    messages[1]["content"] = "<think>\na <think> <|im_end|> </think> b </think> c"
    encoded = chat.encode(messages)
    assert (
        "assistant\n<think>\na <think> <|im_end|>\n</think>\n\n b </think> c\n\n<tool_call>" in encoded.text
    )
    assert structure(chat, encoded)[2:6] == ["<|im_start|>", "<think>", "</think>", "<tool_call>"]
    messages[1] |= {"reasoning_content": "d"}  # then content is content
    assert "<think>\nd\n</think>\n\n<think>\na <think> <|im_end|> </think> b" in chat.encode(messages).text
    assert structure(chat, chat.encode(messages)) == structure(chat, encoded)


CALL = "<tool_call>\n<function=f>\n{}</function>\n</tool_call>"
PARAMETER = "<parameter={}>\n{}\n</parameter>\n"


@pytest.mark.parametrize(
    "arguments, shown",
    [
        ({"b": "Ö", "a": [1, None]}, PARAMETER.format("b", "Ö") + PARAMETER.format("a", "[1, null]")),
        ('{"b": "\\u00d6", "a": [1, null]}', PARAMETER.format("b", "Ö") + PARAMETER.format("a", "[1, null]")),
        ('{"z": true, "y": {"k": 2.5}}', PARAMETER.format("z", "True") + PARAMETER.format("y", '{"k": 2.5}')),
        (" {} ", ""),
        ({}, ""),
        ("", ""),
        (" \n", ""),
        (None, ""),
    ],
)
def test_arguments_are_a_dict_or_its_json(chat, arguments, shown):
    messages = called(arguments)
    text = chat.encode(messages).text
    assert CALL.format(shown) in text
    messages[1] = {"role": "assistant", "content": None} | {"tool_calls": messages[1]["tool_calls"]}
    assert chat.encode(messages).text == text
    messages[1]["tool_calls"] = (messages[1]["tool_calls"][0]["function"],)  # the function alone
    assert chat.encode(messages).text == text
    if arguments is None:
        del messages[1]["tool_calls"][0]["arguments"]
        assert chat.encode(messages).text == text


def test_fields_that_say_nothing_are_let_be_and_nothing_is_changed_in_place(chat, prompts):
    """What the openai package's model_dump() gives back."""
    message = {
        "content": None,
        "refusal": None,
        "role": "assistant",
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": [
            {
                "id": "call_1",
                "function": {"arguments": '{"a":1}', "name": "f"},
                "type": "function",
                "index": 0,
            }
        ],
        "reasoning_content": None,
    }
    result = {
        "role": "tool",
        "tool_call_id": "call_1",
        "name": "f",
        "content": [{"type": "text", "text": "b"}],
    }
    messages, plain = [*user("a"), message, result], called({"a": 1})
    before = copy.deepcopy(messages)
    assert chat.encode(messages) == chat.encode(plain)
    for _ in range(2):
        prompt = prompts.encode(messages, system="Be brief.", tools=[{"name": "f"}])
        assert prompt.text.count("Be brief.") == 1
    assert messages == before
    content = [*user("a"), {"role": "assistant", "content": [{"type": "text", "text": "b"}]}]
    before = copy.deepcopy(content)
    assert chat.encode(content).text.endswith("b") and content == before
    assert chat.encode([{"role": "developer", "content": "c"}, *user("a")]) == chat.encode(
        user("a"), system="c"
    )


SELF = []
SELF.append(SELF)


@pytest.mark.parametrize(
    "messages, words",
    [
        ({"role": "user"}, "the prompt: a dict is no text or list of messages"),
        ([], "the messages: there are none"),
        ([*user("hi"), "hi"], "message 2: is a str, not a dict"),
        ([{"content": "x"}], "message 1: role: is missing"),
        ([*user("x"), {"role": "narrator", "content": "x"}], "message 2: role: 'narrator' is not"),
        ([{"role": ["user"], "content": "x"}], "message 1: role: .'user'. is not one of"),
        ([{"role": "user"}], "message 1: content: there is none"),
        (user(None), "message 1: content: there is none"),
        (user([]), "message 1: content: there is none"),
        (answered(content=None, tool_calls=[]), "message 2: content: there is"),
        (answered(reasoning_content="y"), "message 2: content: there is none"),
        ([*called({})[:2], {"role": "tool", "content": None}], "message 3: content: there is none"),
        (user({"text": "x"}), "message 1: content: a dict is neither text nor a list of parts"),
        (user(b"hi"), "message 1: content: a bytes is neither"),
        (user(7), "message 1: content: an int is neither"),
        (user(["hello"]), "message 1: content: part 1: is a str, not a dict like"),
        (user([{"type": "text", "text": "x"}, {"type": "audio"}]), "part 2: type: 'audio' is not one of"),
        (user([{"kind": "text"}]), "part 1: type: None is not one of text, image, video"),
        (user([{"type": "text"}]), "part 1: text: is missing"),
        (user([{"text": 5}]), "part 1: text: an int is no text"),
        (user([{"text": "x", "bold": 1}]), "'bold' is no field of a text part, which may have type, text"),
        (user([{"type": "text", "text": "x", "image": "y"}]), "part 1: 'image' is no field of a text part"),
        ([user("x")[0] | {"mood": "sad"}], "message 1: 'mood' is no field of a user's message, which"),
        ([user("x")[0] | {"reasoning_content": "y"}], "'reasoning_content' is no field of a user's"),
        ([user("x")[0] | {"tool_calls": [{}]}], "message 1: 'tool_calls' is no field of a user's"),
        ([user("x")[0] | {5: "y"}], "message 1: 5 is no field"),
        (answered(content="x", reasoning_content=5), "reasoning_content: an int"),
        ([*user("x"), {"role": "system", "content": "y"}], "message 2: role: a system message must be"),
        ([*user("x"), {"role": "developer", "content": "y"}], "message 2: role: a system message must be"),
        (called({})[:2], "message 2: tool_calls: it is the last; the tools' results must follow"),
        (called("[1]"), "message 2: tool_calls: number 1: arguments of 'f': are a list, not an object"),
        (called("{city: 1}"), "message 2: tool_calls: number 1: arguments of 'f': are no JSON"),
        (called("[" * 10**5), "arguments of 'f': are no JSON"),
        (called(5), "arguments of 'f': are an int"),
        (called({5: 1}), "message 2: tool_calls: number 1: the key 5 is no text"),
        (called({"x": float("nan")}), "message 2: tool_calls: number 1: nan cannot be written as JSON"),
        (called('{"x": [Infinity]}'), "inf cannot be written as JSON"),
        (called({"x": {1, 2}}), "a set cannot be written as JSON"),
        (called({"x": b"y"}), "a bytes cannot be written as JSON"),
        (called({"x": SELF}), "message 2: tool_calls: number 1: is nested too deeply"),
        (called({}, name=None), "message 2: tool_calls: number 1: name: is missing"),
        (called({}, name=7), "message 2: tool_calls: number 1: name: is no text"),
        (called({}, name=""), "message 2: tool_calls: number 1: name: is no text"),
        (called({}, strict=True), "number 1: function: 'strict' is no field of a call's function"),
        (answered(content="", tool_calls={"name": "f"}), "tool_calls: a dict is no"),
        (answered(content="", tool_calls=["f"]), "number 1: is a str, not a dict"),
        (answered(tool_calls=[{"function": "f"}]), "function: is a str, not a dict"),
        (answered(tool_calls=[{"name": "f", "type": "x"}]), "type: 'x' is not 'fun"),
        (answered(tool_calls=[{"name": "f", "x": "y"}]), "'x' is no field of a tool c"),
        (user("a\ud800"), "message 1: content: character 1: .* is not valid Unicode"),
        (called({"\ud800": 1}), "message 2: tool_calls: number 1: character 0: .* is not valid Unicode"),
        ([{"role": "system", "content": "x"}], "tokenizer.chat_template: No user query found"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_messages_that_make_no_sense(chat, messages, words):
    with pytest.raises(QwenRefError, match=words) as error:
        chat.encode(messages)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(tools="get_weather"), "tools: a str is no list of tools"),
        (dict(tools={"name": "f"}), "tools: a dict is no list"),
        (dict(tools=[{"name": "f"}, "g"]), "tools: number 2: is not {"),
        (dict(tools=[{"type": "function"}]), "tools: number 1: name: is missing"),
        (dict(tools=[{"type": "function", "function": "f"}]), "tools: number 1: is not {"),
        (dict(tools=[{"type": "web_search", "name": "f"}]), "tools: number 1: is not {"),
        (dict(tools=[{"name": "f", "parameters": {"a": {1}}}]), "tools: number 1: a set cannot be written"),
        (dict(tools=[{"name": "f", "parameters": {"a": float("inf")}}]), "tools: number 1: inf cannot"),
        (dict(tools=[{"name": "f"}, {"name": "f"}]), "tools: number 2: name: 'f' is that of number 1"),
        (dict(tools=[{"name": "a b"}]), "tools: number 1: name: 'a b' has a blank or an angle bracket"),
        (dict(tools=[{"name": "a>"}]), "tools: number 1: name: 'a>' has a blank or an angle bracket"),
        (
            dict(tools=[{"name": "f", "parameters": [1]}]),
            "tools: number 1: parameters: a list is no JSON schema",
        ),
        (dict(tools=5), "tools: an int is no list of tools"),
        (dict(tools=[{"name": "f", 1: 2}]), "tools: number 1: the key 1 is no text"),
        (dict(system=7), "system: an int is no text"),
        (dict(thinking="no"), "thinking: 'no' is not true, false or none"),
        (
            dict(system="x", messages=[{"role": "developer", "content": "y"}, *user("z")]),
            "system: the messages h",
        ),
    ],
    ids=str,
)
def test_options_that_make_no_sense(chat, options, words):
    with pytest.raises(QwenRefError, match=words):
        chat.encode(**{"messages": user("x")} | options)


def test_no_tools_are_none_and_a_tool_is_written_as_it_is(chat):
    assert chat.encode(user("x"), []) == chat.encode(user("x"), ()) == chat.encode(user("x"))
    tool = {"type": "function", "function": {"name": "größe", "description": "Wie groß? <\ufdd0> \u2028"}}
    text = chat.encode(user("\ufdd1"), [tool]).text
    assert json.dumps(tool, ensure_ascii=False) in text and "größe" in text and "\ufdd1" in text
    with pytest.raises(QwenRefError, match="noncharacters"):
        chat.encode(user("".join(MARKS[1:])))
    assert "".join(MARKS[2:]) in chat.encode(user("".join(MARKS[2:]))).text


def test_a_template_that_knows_no_thinking_and_one_that_drops_the_end(chat, prompts):
    class File:
        path, metadata = "a.gguf", {"tokenizer.chat_template": "{{ messages[0].content }}\n"}

    plain = ChatTemplate(File, prompts.tokenizer)
    with pytest.raises(QwenRefError, match=r"thinking: the chat template of a.gguf knows no such choice"):
        plain.encode(user("x"), thinking=True)
    assert not plain.encode(user("x"), thinking=False).thinks
    assert plain.encode(user("<think>\n")).token_ids == prompts.tokenizer.encode_text("<think>\n")
    with pytest.raises(QwenRefError, match="does not show the end of the last message"):
        plain.encode([*user("x"), {"role": "assistant", "content": "y"}])
    File.metadata = {"tokenizer.chat_template": "{{ messages[0].content | trim }}>{{ tools is none }}"}
    trimmed = ChatTemplate(File, prompts.tokenizer).encode(user("<think \n"), tools=[])
    assert trimmed.token_ids == prompts.tokenizer.encode_text("<think>True")
    File.metadata = {"tokenizer.chat_template": "{{ messages[-1].content }}."}
    kept = ChatTemplate(File, prompts.tokenizer).encode([*user("x"), {"role": "assistant", "content": "y "}])
    assert kept.text == "y " and kept.begun["content"] == "y "
    File.metadata = {"tokenizer.chat_template": "{{ messages[-1].content }}: {{ messages[-1].content }}."}
    twice = ChatTemplate(File, prompts.tokenizer).encode([*user("x"), {"role": "assistant", "content": "y"}])
    assert twice.text == "y: y"  # transformers, too, goes on behind the last


@pytest.mark.parametrize(
    "content, shown, begun",
    [
        ("Sure, the", "Sure, the", "Sure, the"),
        (" Sure, the \n", "Sure, the", " Sure, the"),
        ([{"type": "text", "text": "Sure"}, {"text": ", the "}], "Sure, the", "Sure, the"),
        ("a <|im_end|> <think>\n", "a <|im_end|> <think>", "a <|im_end|> <think>"),
    ],
)
def test_a_last_message_of_the_assistants_is_continued(prompts, thinker, content, shown, begun):
    for encoder in prompts, thinker:
        prompt = encoder.encode([*user("x"), {"role": "assistant", "content": content}])
        assert prompt.text == f"<|im_start|>user\nx<|im_end|>\n{CLOSED}{shown}"
        assert not prompt.thinks and prompt.thinks_unasked == (encoder is thinker)
        assert prompt.begun == {"role": "assistant", "content": begun}
        assert (
            structure(encoder.chat, prompt) == "<|im_start|> <|im_end|> <|im_start|> <think> </think>".split()
        )


def test_a_continued_message_brings_its_own_thought(chat):
    begun = {"role": "assistant", "content": "<think>a</think>b"}
    apart = {"role": "assistant", "content": "b", "reasoning_content": "a"}
    encoded = chat.encode([*user("x"), begun])
    assert encoded.text.endswith(OPENED + "a\n</think>\n\nb")
    assert chat.encode([*user("x"), apart]).token_ids == encoded.token_ids
    for thinking in True, False:
        with pytest.raises(QwenRefError, match="thinking: it changes nothing where"):
            chat.encode([*user("x"), begun], thinking=thinking)
    with pytest.raises(QwenRefError, match="message 2: content: it is continued, and must be text"):
        chat.encode(
            [*user("x"), {"role": "assistant", "content": [{"text": "y"}, {"type": "image"}]}], system="z"
        )


def test_the_longest_added_token_counts_and_an_empty_one_cuts_nothing(fixtures):
    assert re.findall(any_of(["<a", "<a>", "<a>>", ""]), "<a>> <a <a>") == ["<a>>", "<a", "<a>"]
    file = open_gguf(fixtures / "tiny.gguf")
    for ids in {}, {"": 5}:
        tokenizer = Tokenizer(file)
        tokenizer.ids, tokenizer.control_tokens = ids, []
        assert tokenizer.encode("a<think>", special=True) == tokenizer.encode_text("a<think>") != []


class Given:
    """A file of another template: what ChatTemplate asks a GGUFFile for."""

    def __init__(self, file, **more):
        self.path = file.path
        self.metadata = {key: file.metadata[key] for key in file.metadata} | more


@pytest.mark.parametrize(
    "template, rendered",
    [
        (
            "{{ messages[0].content }}{{ eos_token }}|{{ bos_token }}|{{ pad_token }}|{{ unk_token }}",
            "hi<|im_end|>||<|endoftext|>|<|im_start|>",
        ),
        ("{% if true %}\n  {% endif %}\nhi{{ strftime_now('%%') }}", "hi%"),
        ("{% generation %}{{ messages[0].content }}!{% endgeneration %}", "hi!"),  # transformers' tag
        ("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}", "hi"),
    ],
)
def test_what_transformers_gives_a_template(chat, fixtures, template, rendered):
    file = open_gguf(fixtures / "tiny.gguf")
    more = {
        "tokenizer.chat_template": template,
        "tokenizer.ggml.padding_token_id": chat._tokenizer.ids["<|endoftext|>"],
        "tokenizer.ggml.unknown_token_id": chat._tokenizer.ids["<|im_start|>"],
    }
    given = Given(file, **more)
    encoded = ChatTemplate(given, chat._tokenizer).encode(user("hi"))
    assert encoded.text == rendered
    assert encoded.token_ids == chat._tokenizer.encode(rendered, special=True)


def test_the_template_for_tools_is_taken_with_tools(chat, fixtures):
    names = {"tokenizer.chat_template": "plain", "tokenizer.chat_template.tool_use": "with tools"}
    template = ChatTemplate(Given(open_gguf(fixtures / "tiny.gguf"), **names), chat._tokenizer)
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert [template.encode(user("hi"), t).text for t in (None, [], tools)] == [
        "plain",
        "plain",
        "with tools",
    ]
    for refused in "{{ raise_exception('no\nway') }}", "{{ 1 / 0 }}", "{% break %}", 5:
        names["tokenizer.chat_template.tool_use"] = refused
        with pytest.raises(QwenRefError, match=r"tokenizer.chat_template.tool_use: \w.*\w"):
            file = Given(open_gguf(fixtures / "tiny.gguf"), **names)
            ChatTemplate(file, chat._tokenizer).encode(user("hi"), tools)


@pytest.mark.parametrize(
    "template, words",
    [
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{% for i in range(10**9) %}{% endfor %}", "OverflowError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ raise_exception('no\nway') }}", "tokenizer.chat_template: no way$"),
        ("{% break %}", "SyntaxError"),
        ("{% generation %}", "TemplateSyntaxError"),
    ],
)
def test_whatever_a_template_raises_is_one_sentence(chat, fixtures, template, words):
    file = Given(open_gguf(fixtures / "tiny.gguf"), **{"tokenizer.chat_template": template})
    with pytest.raises(QwenRefError, match=words) as error:
        ChatTemplate(file, chat._tokenizer).encode(user("hi"))
    assert "\n" not in str(error.value)


def test_results_stand_in_the_order_of_their_calls():
    def results(calls, ids):  # "_": without one
        made = [{"name": "f"} | ({"id": name} if name != "_" else {}) for name in calls]
        return [*user("x"), {"role": "assistant", "tool_calls": made}] + [
            {"role": "tool", "content": "y"} | ({"tool_call_id": name} if name != "_" else {}) for name in ids
        ]

    for calls, ids in ("ab", "ab"), ("ab", "a"), ("ab", "__"), ("ab", "_b"), ("_b", "_b"), ("__", "xy"):
        assert len(check_messages(results(calls, ids) + results(calls, ids))) == 2 * (2 + len(ids))
    for calls, ids, words in (
        ("ab", "ba", "message 3: tool_call_id: 'b' is call 2, but this is result 1: they stand"),
        ("ab", "b", "message 3: tool_call_id: 'b' is call 2"),
        ("ab", "_a", "message 4: tool_call_id: 'a' is call 1, but this is result 2"),
        ("a", "aa", "message 4: tool_call_id: 'a' is call 1, but this is result 2"),
        ("ab", "ac", "message 4: tool_call_id: 'c' is no call before it"),
        ("ab", "abc", "message 5: tool_call_id: 'c' is no call before it"),
        ("a_", "ac", "message 4: tool_call_id: 'c' is no call before it"),
    ):
        with pytest.raises(QwenRefError, match=words):
            check_messages(results(calls, ids))
    null = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": "null"}]}
    call = check_messages([*user("x"), null, {"role": "tool", "content": "y"}])[1]["tool_calls"][0]
    assert call["function"]["arguments"] == {}


def test_each_picture_gets_its_own_number_of_tokens(prompts):
    pad = prompts.tokenizer.ids["<|image_pad|>"]
    shapes = [Shape("image", (1, 1, 2)), Shape("image", (1, 2, 3))]
    ids, spans = prompts._widen([5, pad, 6, pad, 7], shapes)
    assert ids == [5, pad, pad, 6, *[pad] * 6, 7]
    assert [(s.start, s.rows, s.columns) for s in spans] == [(1, 1, 2), (4, 2, 3)]


PICTURE, CLIP = (f"<|vision_start|><|{kind}_pad|><|vision_end|>" for kind in ("image", "video"))
SHAPES = [Shape("image", (1, 1, 2)), Shape("video", (2, 1, 1), (0.5, 12.04))]


def test_a_video_is_shown_as_its_time_steps(prompts):
    shown = f"a{PICTURE}b<0.5 seconds>{CLIP}<12.0 seconds>{CLIP}c"
    assert show_media(f"a{PICTURE}b{CLIP}c", SHAPES) == shown
    content = [{"type": "image"}, {"type": "video"}, {"type": "text", "text": "c"}]
    prompt = prompts.encode([{"role": "user", "content": content}], shapes=SHAPES)
    assert PICTURE + shown.partition("b")[2] in prompt.text
    first, *steps = prompt.spans
    assert (first.rows, first.columns) == (1, 2) and len(steps) == 2
    assert prompt.places.tolist() == [first.start, first.start + 1, *(span.start for span in steps)]
    assert [prompt.token_ids[i] for i in prompt.places] == [
        prompts.tokenizer.ids[f"<|{kind}_pad|>"] for kind in ("image", "image", "video", "video")
    ]
    assert steps[0] == Span(steps[0].start, 1, 1) and prompt.positions.shape == (3, len(prompt.token_ids))


@pytest.mark.parametrize(
    "text, shapes, words",
    [
        (PICTURE, [SHAPES[1]], "image: the chat template shows one where the messages hold none"),
        (CLIP, [SHAPES[0]], "video: the chat template shows one where"),
        (CLIP, [], "video: the chat template shows one where"),
        (PICTURE * 2, SHAPES[:1], "image: the chat template shows one where"),
        (PICTURE, SHAPES, "video: the chat template does not show it"),
        ("", SHAPES[:1], "image: the chat template does not show it"),
    ],
)
def test_a_template_that_shows_other_media(text, shapes, words):
    with pytest.raises(QwenRefError, match=f"^the messages: {words}"):
        show_media(text, shapes)


def test_a_raw_prompt_is_its_text(prompts):
    end = prompts.tokenizer.ids["<|im_end|>"]
    for special, ids in (False, prompts.tokenizer.encode_text("<|im_end|>")), (True, [end]):
        prompt = prompts.encode("<|im_end|>", raw=True, special=special)
        assert prompt.token_ids == ids and prompt.text == "<|im_end|>" and not prompt.thinks
    assert prompts.encode("<|im_end|>", raw=True).token_ids != [end]
    for options in dict(system=""), dict(thinking=False), dict(tools=[{"name": "f"}]), dict(prompt=user("x")):
        with pytest.raises(QwenRefError, match=r"^raw: a raw prompt is one text"):
            prompts.encode(**{"prompt": "x"} | options, raw=True)
    with pytest.raises(QwenRefError, match=r"^the prompt: character 1: "):
        prompts.encode("a\ud800")


def test_a_text_that_no_context_could_hold(fixtures, tmp_path):
    """Four characters may become one, and a token of the vocabulary has so many at most."""
    path = rewrite(fixtures / "tiny.gguf", tmp_path / "x.gguf", change={"qwen35.context_length": 3})
    file = open_gguf(path)
    most = 4 * 3 * max(map(len, file.metadata["tokenizer.ggml.tokens"]))
    encoder = PromptEncoder(file)
    assert encoder.encode("x" * most, raw=True).token_ids
    with pytest.raises(
        QwenRefError, match=f"^the prompt: {most + 1} characters are more than a context of 3 t"
    ):
        encoder.encode("x" * (most + 1), raw=True)
