"""Answers by a JSON schema are documents that it describes, whatever the model would like to say."""

import json
import sys

import jsonschema
import numpy as np
import pytest
from schemas import answered, schema_of

from qwen_ref import QwenRefError, cli, load
from qwen_ref.engine import advance
from qwen_ref.engine.schema import Number

CHECKED = jsonschema.FormatChecker(["date", "email", "ipv4"])
POINT = {
    "type": "object", "properties": {"x": {"const": 1}, "name": {"enum": ["ab\"ü", "ab"]}},
    "required": ["x", "name"], "additionalProperties": False}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return load()  # the small one that ships with the package


def test_twenty_schemas(model):
    """Live tests have two hundred. Thoughts, in half of them, come first and are not JSON."""
    generations, generated, forced = [answered(model, number) for number in range(20)], 0, 0
    while advance(generations):
        pass
    for number, generation in enumerate(generations):
        document = json.loads(generation.message["content"])
        jsonschema.Draft202012Validator(schema_of(number), format_checker=CHECKED).validate(document)
        assert generation.finish_reason == "stop"
        assert ("reasoning_content" in generation.message) == (number % 2 == 1)
        generated, forced = generated + len(generation.token_ids), forced + generation.forced_tokens
    assert forced > 0.2 * generated


def test_what_is_known_takes_one_step(model):
    known = {"type": "object", "properties": {"x": {"const": "a b c"}}, "required": ["x"]}
    generation = model.generate("?", schema=known | {"additionalProperties": False})
    assert [*generation] == ['{"x": "a b c"}'] and generation.finish_reason == "stop"
    assert generation.forced_tokens == len(generation.token_ids) - 1
    assert generation._sequence.state.num_tokens == len(generation.prompt_ids)  # that of the prompt
    assert len(generation._sequence) == len(generation.prompt_ids) + len(generation.token_ids) + 1


def test_a_number_ends(model):
    """A model that would go on and on with digits; those of a text are no number's."""
    bias = {model.tokenizer.encode_text(digit)[0]: 50 for digit in "123456789"}

    def said(begun="", **value):
        schema = {
            "type": "object",
            "properties": {"x": value},
            "required": ["x"],
            "additionalProperties": False,
        }
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": begun}][
            : 1 + bool(begun)
        ]
        options = dict(logit_bias=bias, max_tokens=200, temperature=0)
        text = begun + "".join(model.generate(messages, schema=schema, **options))
        assert [*json.loads(text)] == ["x"]
        return text[6:-1]

    assert len(said(type="integer")) == 32
    assert len(said('{"x": ' + 20 * "1", type="integer")) == 32  # what was begun counts
    assert len(said(type="number").replace(".", "")) in (32, 33)  # behind a point there is one at least
    text = said(type="string", minLength=50, maxLength=50)
    assert len(text) == 52 and text.strip('"').isdigit()
    assert said(enum=[10**40, 10**41]) in (str(10**40), str(10**41))  # nothing shorter fits


@pytest.mark.parametrize(
    ("said", "is_over"),
    [
        ('{"x": ' + 32 * "1", True),
        ('{"x": -1.' + 31 * "1", True),
        ('{"x": ' + 31 * "1", False),
        ('{"x": ' + 32 * "1" + ", ", False),
        ('{"x": [' + ", ".join("1" * 20), False),
        ('{"' + 40 * "1", False),
        (r'{"\\": ' + 32 * "1", True),  # whose name is a backslash
        (r'{"\"' + 40 * "1", False),  # whose name has a quote in it
    ],
)
def test_which_numbers_are_long_enough(said, is_over):
    digit, comma = np.array([True, False]), np.array([True, True])
    number = Number(digit)
    for start in range(0, len(said), 3):
        number.accept(said[start : start + 3].encode())
    assert (number.limit(comma) == (~digit if is_over else comma)).all()
    assert (number.limit(digit) == digit).all()  # where nothing else is allowed


def test_beside_others_and_alone_it_is_the_same(model):
    options = [
        dict(schema=POINT),
        dict(max_tokens=30),
        dict(schema=schema_of(3), max_tokens=40, thinking=True),
    ]
    alone = ["".join(model.generate("?", seed=1, **some)) for some in options]
    together = [model.generate("?", seed=1, **some) for some in options]
    while advance(together):
        pass
    assert [generation.text for generation in together] == alone


def test_a_schema_in_a_conversation(model):
    """Any object; no room; a call of a tool instead; what was begun is part of it."""
    calls, quotes = model.tokenizer.ids["<tool_call>"], model.tokenizer.encode('"')[0]
    generation = model.generate("?", schema=True, seed=2, logit_bias={quotes: 12}, max_tokens=60)
    assert "".join(generation).startswith("{")
    assert model.generate("?", schema=POINT, max_tokens=3).finish_reason is None
    generation = model.generate("?", schema=POINT, max_tokens=3)
    assert len([*generation]) and generation.finish_reason == "length"
    question, tools = [{"role": "user", "content": "?"}], [{"name": "f"}]
    for choice, called in ("auto", True), ("none", False):
        generation = model.generate(
            question, schema=POINT, tools=tools, tool_choice=choice, logit_bias={calls: 100}, max_tokens=30
        )
        assert "".join(generation).startswith("<tool_call>" if called else '{"x": 1, "name": "ab')
    begun = {"role": "assistant", "content": '{"x": 1, "na'}
    generation = model.generate([*question, begun], schema=POINT)
    assert "".join(generation) in ('me": "ab"}', 'me": "ab\\"ü"}')
    assert json.loads(generation.message["content"])["x"] == 1
    generation = model.generate([*question, begun], schema=POINT, tools=tools, logit_bias={calls: 100})
    assert "".join(generation) in ('me": "ab"}', 'me": "ab\\"ü"}')  # no call any more
    generation = model.generate("?", schema={"type": "string"}, logit_bias={calls: 100}, max_tokens=9)
    assert "".join(generation).startswith('"') and calls not in generation.token_ids  # structure is no text
    ends = dict.fromkeys(model.tokenizer.eos_ids, 100)  # not before there is an answer
    asked = dict(schema="true", thinking=True, thinking_budget=3, max_tokens=80)
    generation = model.generate("?", **asked, seed=2, logit_bias=ends | {quotes: 12})
    assert "".join(generation) and generation.message["content"].startswith("{")
    with pytest.raises(QwenRefError, match="schema: the message that is continued begins in another way"):
        model.generate([*question, begun | {"content": "Sure"}], schema=POINT)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("options", [dict(), dict(schema=POINT), dict(tool_choice="required")])
def test_a_call_that_has_begun_is_a_whole_one(model, options, seed):
    """Noise for values, which ends where the model would say that the answer, or the call, does."""
    names = [("a", True), ("b", False), ("c", True)]
    parameters = {"properties": {n: {} for n, _ in names}, "required": [n for n, must in names if must]}
    tools = [{"name": "one", "parameters": parameters}, {"name": "two", "parameters": {"properties": {}}}]
    ids = model.tokenizer.ids
    bias = {ids["<tool_call>"]: 100, ids["</tool_call>"]: 90, ids["<|im_end|>"]: 80}
    bias |= dict.fromkeys(model.tokenizer.encode("\n</parameter>\n"), 40)
    asked, room = [{"role": "user", "content": "?"}], dict(max_tokens=400, seed=seed, temperature=9.0)
    generation = model.generate(
        asked, tools=tools, logit_bias=bias, parallel_tool_calls=False, **options, **room
    )
    assert "".join(generation).startswith("<tool_call>\n") and generation.finish_reason == "stop"
    (call,) = [c["function"] for c in generation.message["tool_calls"]]
    assert generation.message["content"] == "" and call["name"] in ("one", "two")
    assert call["name"] == "two" or {"a", "c"} <= call["arguments"].keys() <= {"a", "b", "c"}


@pytest.mark.parametrize(
    "schema, words",
    [
        (5, "schema: 5 is no JSON schema, which is an object"),
        (False, "schema: False is no JSON schema"),
        ("[1]", r"schema: \[1\] is no JSON schema"),
        ("{", "schema: is no JSON: Expecting property name"),
        ('{"a": ' * 99_999, "schema: is no JSON: .*recursion"),
        ({"const": float("nan")}, "schema: cannot be written as JSON: Out of range"),
        ({"const": {1}}, "schema: cannot be written as JSON: .*set"),
        ({"const": "\ud800"}, "schema: cannot be written|schema: #: "),
        ({"type": "strin"}, "schema: #: .*strin$"),
        ({"properties": {"a": {"items": {"not": {}}}}}, r'schema: #/properties/a/items: .*"not"'),
        (
            {"anyOf": [{"$ref": "#/$defs/n"}], "$defs": {"n": {"type": 1}}},
            r"schema: #/\$defs/n: type must be",
        ),
        ({"$ref": "#"}, "^schema: #: it demands itself, in documents without an end$"),
        (
            {
                "anyOf": [{"$ref": "#/$defs/a"}],
                "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
            },
            r"^schema: #/\$defs/[ab]: it demands itself",
        ),
        (
            {"items": {"type": "object", "properties": {"n": {"$ref": "#/items"}}, "required": ["n", 5]}},
            "^schema: #/items(/properties/n)?: it demands itself",
        ),
        ({"type": "array", "prefixItems": [{}], "items": {"$ref": "#"}, "minItems": 2}, "demands itself"),
        ({"enum": []}, "^schema: #: no value is possible: enum or anyOf is empty$"),
        ({"items": {"oneOf": [{}, {"type": "null"}]}}, "^schema: #/items: oneOf .*; use anyOf$"),
        ({"$ref": "#/$defs/none"}, "schema: #: .*none"),
        ({"$ref": "https://example.org/a.json"}, "schema: #: .*example.org"),
        ({"items": {"pattern": "(?=a)b", "type": "string"}}, "schema: #/items: .*look-ahead"),
    ],
)
def test_a_schema_that_cannot_be_used_is_told_with_its_place(model, schema, words):
    with pytest.raises(QwenRefError, match=words) as told:
        model.generate("?", schema=schema)
    assert "\n" not in str(told.value) and len(str(told.value)) < 500


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"$ref": "#"}, "maxItems": 1},
        {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
        {"type": "object", "properties": {"n": {"anyOf": [{"$ref": "#"}, {"const": 1}]}}, "required": ["n"]},
    ],
)
def test_what_refers_to_itself_and_can_end_may_be_answered(model, schema):
    assert "".join(model.generate("?", schema=schema, max_tokens=5, seed=1))


def test_what_becomes_too_large_is_told_in_one_sentence(model):
    """From where llguidance goes on by itself, what is wrong cannot be seen before."""
    endless = {"type": "object", "properties": {"n": {"$ref": "#/x"}}, "required": ["n"]}
    with pytest.raises(QwenRefError, match=r"^schema: [^<>{}]{20,90}; make it simpler$"):
        "".join(model.generate("?", schema=endless | {"x": endless}, max_tokens=99))


def test_without_llguidance_it_is_told(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(QwenRefError, match=r'pip install "qwen_ref\[schema\]"'):
        load().generate("?", schema=True)


def test_on_the_command_line(tmp_path, capsys):
    def run(*args):
        assert cli.main(["generate", "--prompt", "?", "--json-schema", *map(str, args)]) == 0
        return capsys.readouterr()

    (tmp_path / "point.json").write_text(json.dumps(POINT))
    done = run(tmp_path / "point.json", "--thinking", "--thinking-budget", 4)
    thought, _, answer = done.out.partition("</think>\n\n")
    assert thought and jsonschema.Draft202012Validator(POINT).is_valid(json.loads(answer))
    assert run('{"const": 5}').out == "5\n"
    cut = run('{"const": "one two three"}', "-n", 2)
    assert cut.err.splitlines()[-1] == "the answer is cut off (length): its JSON is not whole"
    (tmp_path / "none.json").write_text("[1]")
    for args, words in [
        (["--json-schema", "no.json"], "no.json"),
        (["--json-schema", __file__], "test_schema.py: is not JSON ("),
        (["--json-schema", tmp_path / "none.json"], "none.json: holds no JSON schema"),
        (["--json-schema", '{"not": {}}'], 'schema: #: these keywords are not supported: ["not"]'),
        (["--thinking-budget", 4, "--no-thinking"], "--thinking-budget: --no-thinking leaves nothing to end"),
        (["--thinking-budget", 4], "--thinking-budget: there is no thought to end; --thinking asks for one"),
    ]:
        assert cli.main(["generate", "--prompt", "?", *map(str, args)]) == 2
        assert words in capsys.readouterr().err.splitlines()[-1]
