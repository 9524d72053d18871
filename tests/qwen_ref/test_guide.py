"""What may come next in an answer, and what must. The models are small: what they say is noise."""

import dataclasses

import numpy as np
import pytest

from qwen_ref import QwenRefError, load
from qwen_ref.engine import advance
from qwen_ref.engine.guide import CLOSING, new_guides
from qwen_ref.engine.repeats import Repeats
from qwen_ref.engine.sequence import step
from qwen_ref.model.text import TextModel

ASKED = [{"role": "user", "content": "Hi"}]
TOOLS = [{"name": name, "parameters": {}} for name in ("get_weather", "get_time", "gems")]


@pytest.fixture(scope="module")
def model(fixtures):
    return load(fixtures / "tiny.gguf")


def says(monkeypatch, model, answer):  # without drafts
    """The model would answer so, each token far likelier than all others, whatever has come before it."""
    token_ids = model.tokenizer.encode(answer, special=True)
    steps = iter([*token_ids, *[model.tokenizer.ids["<|im_end|>"]] * 999])

    def logits(self, hidden):
        return np.stack([99 * np.eye(self.config.vocab_size)[next(steps)] for _ in hidden])

    monkeypatch.setattr(TextModel, "logits", logits)


def whole(generation):
    pieces = "".join(generation)
    assert pieces == generation.text == model_text(generation)
    return generation


def model_text(generation):
    return generation._model.tokenizer.decode(generation.token_ids)


@pytest.mark.parametrize("budget", [0, 1, 7, 30])
def test_a_thought_ends_at_its_budget(model, budget):
    never = [model.tokenizer.ids["</think>"], *model.tokenizer.eos_ids]
    options = dict(thinking=True, max_tokens=200, seed=1, logit_bias=dict.fromkeys(never, -100))
    free = whole(model.generate("Hi", **options))
    assert free.finish_reason == "length_in_thought" and free.forced_tokens == 0
    generation = whole(model.generate("Hi", **options, thinking_budget=budget))
    thought = model.tokenizer.decode(free.token_ids[:budget])
    closing = (CLOSING if budget else "\n") + "</think>\n\n"
    assert generation.text.startswith(thought + closing)
    assert generation.forced_tokens >= len(model.tokenizer.encode(closing)) - 1
    assert (
        generation.message.get("reasoning_content", "") == (thought + closing[: -len("</think>\n\n")]).strip()
    )


@pytest.mark.parametrize("room", [1, 5, 6, 9])
def test_there_may_be_no_room_for_what_is_forced(model, room):
    never = dict.fromkeys([model.tokenizer.ids["</think>"], *model.tokenizer.eos_ids], -100)
    options = dict(thinking=True, max_tokens=room, seed=1, logit_bias=never)
    generation = whole(model.generate("Hi", **options, thinking_budget=5))
    assert len(generation.token_ids) == generation.thought_tokens == room
    assert generation.finish_reason == "length_in_thought"
    closing = model.tokenizer.encode(CLOSING)
    assert generation.token_ids[5:] == closing[: max(room - 5, 0)]


def test_a_thought_that_ends_earlier_keeps_its_end(model, monkeypatch):
    for options in dict(thinking=True), dict():
        said = "Hm.\n</think>\n\nSo." if options else "<think>\nHm.\n</think>\n\nSo, " + "and " * 20
        says(monkeypatch, model, said)
        generation = whole(model.generate("Hi", thinking_budget=10, draft="off", **options))
        assert generation.text == said and generation.forced_tokens == 0


@pytest.mark.parametrize("draft", ["off", "lookup"])
def test_forced_tokens_change_nothing_else(model, draft):
    """They are read in one step; the state behind them is, bit by bit, that of a fresh run."""
    never = dict.fromkeys([model.tokenizer.ids["</think>"], *model.tokenizer.eos_ids], -100)
    options = dict(thinking=True, thinking_budget=5, max_tokens=120, seed=4, draft=draft, logit_bias=never)
    generation = whole(model.generate("Hi", **options))
    assert generation.forced_tokens > 10
    sequence, state = generation._sequence, model.text.new_state()
    sequence.token_ids[sequence.state.num_tokens :] = [5]
    (hidden,) = step(model.text, [sequence])
    np.testing.assert_array_equal(hidden[-1], model.text.forward(sequence.token_ids, state)[-1])


def test_a_call_that_must_come(model):
    for thinking, choice in [
        (False, "required"),
        (True, "required"),
        (False, "get_time"),
        (True, "get_time"),
    ]:
        generation = model.generate(
            ASKED, tools=TOOLS, thinking=thinking, tool_choice=choice, max_tokens=130, seed=2,
            thinking_budget=5 if thinking else None)  # fmt: skip
        text = whole(generation).text.rpartition("</think>")[2]
        begun = "\n\n<tool_call>\n<function=" if thinking else "<tool_call>\n<function="
        names = [t["name"] for t in TOOLS] if choice == "required" else [choice]
        assert any(text.startswith(f"{begun}{name}>\n") for name in names)
        assert generation.finish_reason == "length"  # it may not end before its call
    options = dict(tools=TOOLS, tool_choice="required", max_tokens=30, top_k=0, temperature=9.0)
    said = {whole(model.generate(ASKED, seed=seed, **options)).text for seed in range(9)}
    assert len({text.split("\n")[1] for text in said}) == 3  # which one is the model's choice


CALL = "<tool_call>\n<function=get_time>\n<parameter=at>\n<now>\n</parameter>\n</function>\n</tool_call>"


def test_only_one_call_or_none(model, monkeypatch):
    for thinking in False, True:
        said = ("Maybe <tool_call>?\n</think>\n\n" if thinking else "") + f"Well.\n\n{CALL}\n{CALL}"
        for parallel, calls in (True, 2), (False, 1):
            says(monkeypatch, model, said)
            options = dict(draft="off", tools=TOOLS, thinking=thinking, logprobs=0)  # a step for each token
            generation = whole(model.generate(ASKED, **options, parallel_tool_calls=parallel))
            assert len(generation.message["tool_calls"]) == calls and generation.finish_reason == "stop"
            assert generation.text == said[: len(said) - (2 - calls) * len("\n" + CALL)]
        says(monkeypatch, model, said)
        generation = whole(
            model.generate(ASKED, tools=TOOLS, thinking=thinking, tool_choice="none", draft="off")
        )
        assert "tool_calls" not in generation.message
        call = model.tokenizer.ids["<tool_call>"]
        assert call not in generation.token_ids[12 * thinking :]
        assert (call in generation.token_ids) == thinking  # a thought may speak of it


def function(name, parameters=(), **schema):
    return {"name": name, "parameters": {"properties": {p: {} for p in parameters}} | schema}


def guided(model, tries, *tools, begun=(), thinking=False, **options):
    """What comes if the model wants these texts, one token after another: one that may not come is left out,
    and what must come does before it."""
    tokenizer, came = model.tokenizer, []
    prompt = model.encode_prompt([*ASKED, *begun], tools=tools, thinking=None if begun else thinking)
    guides = new_guides(tokenizer, prompt, **options)
    wanted = [token_id for text in tries for token_id in tokenizer.encode(text, special=True)]
    while wanted:
        forced = guides.forced()
        may = forced or np.isfinite(guides.allow(np.zeros(len(tokenizer), np.float32))).nonzero()[0]
        if not forced or wanted[0] == forced[0]:
            token_id = wanted.pop(0)
        else:
            token_id = forced[0]
        if token_id in may:
            guides.accept(token_id)
            came.append(token_id)
    while forced := guides.forced():
        guides.accept(forced[0])
        came.append(forced[0])
    return tokenizer.decode(came)


F = function("f", ["a", "ab", "b"], required=["ab"])
HEAD = "<tool_call>\n<function=f>\n"
TAIL = "</function>\n</tool_call>"


def given(name, value="1"):
    return f"<parameter={name}>\n{value}\n</parameter>\n"


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_call_has_the_parameters_of_its_function(model, choice):
    wrong = "<tool_call>", "</tool_call>", "<|im_end|>"
    begun = [HEAD, *wrong, "<parameter", *wrong, "=z", "=ab>\n", *wrong, "</function>", *wrong]
    b, short = HEAD + given("b"), "</parameter>"
    for tries, came in [
        ([*begun, "\n</parameter>\n", "</function>\n"], HEAD + given("ab", "</function>") + TAIL),
        ([*begun[:-4], "1" + short, *wrong, "</function>"], f"{HEAD}<parameter=ab>\n1{short}\n{TAIL}"),
        ([b, "</function"], b + "<parameter=a"),  # what must be
        ([b + given("a")], b + given("a") + "<parameter=ab>\n"),  # and each once
        ([b + given("a") + given("ab")], b + given("a") + given("ab") + TAIL),
    ]:
        assert guided(model, tries, F, tool_choice=choice) == came
    assert guided(model, ["Well.\n", "<tool_call>"], function("g")) == (
        "Well.\n<tool_call>\n<function=g>\n</function>\n</tool_call>"
    )


def test_a_value_may_look_like_the_end_of_one_or_the_next(model):
    quoted = f"<function=g>\n{given('ab')}</function>"  # another's call
    for value in "<parameter>x</parameter> y", "<a>\n <parameter n=1>x\n </parameter>\n</a>", quoted:
        begun = HEAD + given("a", "\n" + value + "\n")
        assert guided(model, [begun, "</function>"], F) == begun + "<parameter="
        assert guided(model, [begun, "=ab>"], F) == begun + "<parameter=ab>\n"
    said = HEAD + given("a", "<parameter=ab>") + TAIL  # where it ends cannot be told
    assert guided(model, [said], F) == said


def test_each_of_names_that_begin_alike_can_be_called(model):
    tools = [function(name, [name, name + "s"]) for name in ("get", "get_weather", "getter", "g", "größe.1")]
    for tool in tools:
        for name in tool["parameters"]["properties"]:
            said = f"<tool_call>\n<function={tool['name']}>\n{given(name)}{TAIL}"
            assert guided(model, [said], *tools) == said
    only = guided(model, ["<tool_call>\n<function=get>\n"], tools[1])
    assert only.startswith("<tool_call>\n<function=get_weather>\n")


@pytest.mark.parametrize(
    "schema",
    [
        dict(additionalProperties=True),
        dict(additionalProperties={"type": "string"}),
        dict(patternProperties={"^z": {}}),
        dict(allOf=[{}]),
        dict(anyOf=[{}]),
        dict(oneOf=[{}]),
        {"$ref": "#/$defs/z", "$defs": {"z": {}}},
        {"if": {}, "then": {"properties": {"z": {}}}},
        dict(properties=None),
        dict(properties={"a>": {}}),
        dict(properties={"e\u0301": {}}),  # the tokenizer writes é
        dict(required=["z"]),
    ],
)
def test_parameters_that_are_not_declared(model, schema):
    said = HEAD + given("z") + TAIL
    assert guided(model, [said], function("f", "z", additionalProperties=False)) == said
    assert guided(model, [said], function("f", "a", additionalProperties=False)) != said
    assert guided(model, [said], function("f", "a", **schema)) == said


def test_a_call_that_cannot_be_read_may_end(model):
    """Else it never would."""
    for twice in 2 * given("a"), "<parameter=a>\n<parameter>x</parameter>\n" + given("a"):
        said = HEAD + twice + TAIL + "Well."
        assert guided(model, [said], function("f", "a", additionalProperties=True)) == said
    assert guided(model, [said], F) == said


def test_a_thought_is_free_and_so_is_what_goes_on_with_a_call_in_text(model):
    said = f"Is it <tool_call>?\n{HEAD}no\n</tool_call>\n</think>\n\nYes.\n\n"
    assert guided(model, [said, HEAD, "</tool_call>", given("ab"), TAIL], F, thinking=True) == (
        said + HEAD + given("ab") + TAIL
    )
    begun = [{"role": "assistant", "content": HEAD + "<para"}]
    said = "meter=z>\n1\n</tool_call>\n"
    assert guided(model, [said, HEAD, "</tool_call>", given("ab"), TAIL], F, begun=begun) == (
        said + HEAD + given("ab") + TAIL
    )


@pytest.mark.parametrize("draft", ["off", "lookup"])
def test_an_answer_without_a_call_is_as_without_tools(model, draft, monkeypatch):
    prompt = model.encode_prompt(ASKED, tools=TOOLS, thinking=True)
    options = dict(max_tokens=90, seed=3, draft=draft, thinking_budget=20, temperature=2.0)
    free = whole(model.generate(dataclasses.replace(prompt, tools=None), **options))
    assert whole(model.generate(prompt, **options)).token_ids == free.token_ids
    assert model.tokenizer.ids["<tool_call>"] not in free.token_ids
    monkeypatch.delitem(model.tokenizer.ids, "<tool_call>")  # a vocabulary that has none
    assert whole(model.generate(prompt, **options)).token_ids == free.token_ids


def test_drafts_and_others_beside_it_change_no_call(model):
    ids = model.tokenizer.ids
    bias = {ids["<tool_call>"]: 9, ids["</tool_call>"]: 9} | dict.fromkeys(
        model.tokenizer.encode("\n</parameter>\n"), 4
    )
    tools = [function(f"f{n}", ["a", "ab", "b"][:n], required=["ab"][: n > 1]) for n in range(4)]
    options = [dict(tools=tools, logit_bias=bias, max_tokens=150, seed=seed) for seed in range(4)]
    alone = [whole(model.generate(ASKED, **some, draft="off")) for some in options]
    together = [model.generate(ASKED, **some, draft="lookup") for some in options]
    while advance(together):
        pass
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]
    assert sum(len(one.message.get("tool_calls", ())) for one in alone) > 3
    assert any(sum(one.drafted["lookup"]["accepted"]) for one in together if one.drafted)


def test_a_bias_forces_and_forbids(model):
    (a, *_), end = model.tokenizer.encode("a"), sorted(model.tokenizer.eos_ids)
    generation = whole(model.generate("Hi", max_tokens=9, logit_bias={a: 100}, presence_penalty=0))
    assert generation.token_ids == 9 * [a]
    bias = {a: 100} | dict.fromkeys(end, 100.0)
    assert whole(model.generate("Hi", max_tokens=9, logit_bias=bias, seed=1)).finish_reason == "stop"
    bias = {a: 100, 0: -100}  # in any order
    assert whole(model.generate("Hi", max_tokens=9, logit_bias=bias)).token_ids == 9 * [a]


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(thinking_budget=-1), "thinking_budget: -1 is not a whole number"),
        (dict(thinking_budget=True), "thinking_budget: True is not"),
        (dict(thinking=False, thinking_budget=5), "thinking_budget: without thinking there is no thought"),
        (dict(tool_choice="must"), "tool_choice: 'must' is not one of auto, none, required, get_weather"),
        (dict(tool_choice=None), "tool_choice: None is not one of auto"),
        (dict(tool_choice="required", tools=None), "tool_choice: 'required': there are no tools"),
        (dict(parallel_tool_calls=1), "parallel_tool_calls: 1 is not true or false"),
        (dict(logit_bias=[1]), "logit_bias: a list is no dict"),
        (dict(logit_bias={"1": 1}), "logit_bias: '1' is no token id"),
        (dict(logit_bias={99_999_999: 1}), "logit_bias: 99999999 is no token id from 0 to"),
        (dict(logit_bias={1: float("nan")}), "logit_bias: nan of token 1 is no finite"),
        (dict(logit_bias={1: 101}), "logit_bias: 101 of token 1 is not in -100 to 100"),
        (dict(logit_bias={1: -101}), "logit_bias: -101 of token 1 is not in -100 to 100"),
    ],
)
def test_options_that_make_no_sense(model, options, words):
    with pytest.raises(QwenRefError, match=words):
        model.generate(ASKED, **dict(tools=TOOLS) | options)
    vocab = len(model.tokenizer)
    with pytest.raises(QwenRefError, match=f"logit_bias: {vocab} is no token id from 0 to {vocab - 1}"):
        model.generate(ASKED, logit_bias={vocab: 1})


@pytest.mark.parametrize("draft", ["off", "lookup"])
def test_logprobs_are_the_models_own(model, draft):
    """Whatever penalties, guides and sampling make of them; those of a draft or a forced token, too."""
    never = dict.fromkeys([model.tokenizer.ids["</think>"], *model.tokenizer.eos_ids], -100)
    options = dict(thinking=True, thinking_budget=9, max_tokens=90, seed=5, logit_bias=never, draft=draft)
    generation = whole(model.generate("Hi hi hi hi hi", **options, logprobs=3))
    assert generation.text == whole(model.generate("Hi hi hi hi hi", **options)).text
    ids = [*generation.prompt_ids, *generation.token_ids]
    logits = model.text.logits(model.text.forward(ids, model.text.new_state()))[:, : len(model.tokenizer)]
    rows = logits[len(generation.prompt_ids) - 1 : -1].astype(np.float64)
    want = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    assert [rated.token_id for rated in generation.logprobs] == generation.token_ids
    for rated, row in zip(generation.logprobs, want, strict=True):
        assert rated.logprob == pytest.approx(row[rated.token_id], abs=1e-12)
        likeliest = np.argsort(-row, kind="stable")[:3]
        assert [token_id for token_id, _ in rated.top] == likeliest.tolist()
        assert [logprob for _, logprob in rated.top] == pytest.approx(row[likeliest], abs=1e-12)
    rated = whole(model.generate("Hi hi hi hi hi", **options, logprobs=0))
    assert rated.text == generation.text and rated.forced_tokens == 0
    assert [(one.token_id, one.top) for one in rated.logprobs] == [(i, []) for i in generation.token_ids]
    for given in -1, 21, True, 1.0:
        with pytest.raises(QwenRefError, match=r"logprobs: .* is not a whole number in 0 to 20"):
            model.generate("Hi", logprobs=given)


def test_logprobs_of_a_draft_that_was_right_are_each_its_own(model):
    (a, *_) = model.tokenizer.encode("a")
    options = dict(max_tokens=30, logit_bias={a: 100}, presence_penalty=0, logprobs=1)
    alone, drafted = (whole(model.generate("Hi", **options, draft=draft)) for draft in ("off", "lookup"))
    assert sum(drafted.drafted["lookup"]["accepted"]) > 0 and drafted.logprobs == alone.logprobs


def test_logprobs_of_text_that_a_stop_string_ends(model, monkeypatch):
    says(monkeypatch, model, "one two three")
    generation = model.generate("Hi", stop=" th", logprobs=1, draft="off")
    assert "".join(generation) == "one two"
    assert [rated.token_id for rated in generation.logprobs] == generation.token_ids
    assert all(rated.top == [(rated.token_id, rated.logprob)] for rated in generation.logprobs)


def test_what_was_held_back_for_a_stop_string_is_part_of_the_message(model, monkeypatch):
    for thought in "", "Hm.\n</think>\n\n":
        says(monkeypatch, model, thought + "one two th")
        generation = model.generate("Hi", stop="three", draft="off", thinking=bool(thought))
        assert "".join(generation) == thought + "one two th"
        assert generation.message["content"] == "one two th"
        assert "".join(d.text for d in generation.deltas() if d.kind == "content") == "one two th"


@pytest.mark.parametrize(
    "tokens, times",
    [
        ([*range(500)], 0),
        (62 * [7], 0),
        (64 * [7], 64),
        ([1, 2, 3, *5 * [*range(9, 30)], 4, 4, 4], 5),
        ([*range(90), *3 * [*range(50)]], 0),
        (4 * [*range(256)], 4),
        (4 * [*range(257)], 0),
        ([8, 8, *20 * [1, 2, 3, 4], 8], 20),
        (16 * [1, 2, 3, 4] + [5] + 10 * [1, 2, 3, 4], 16),
    ],
)
def test_what_is_said_over_and_over_is_noticed(tokens, times):
    repeats = Repeats()
    for token_id in tokens:
        repeats.read(token_id)
    assert repeats.times == times


def test_only_thoughts_are_looked_at_for_it(model, monkeypatch):
    for thinking in True, False:
        says(monkeypatch, model, 20 * "Wait, let me see. ")
        generation = whole(model.generate("Hi", thinking=thinking, draft="off"))
        assert (generation.repeats >= 19) if thinking else (generation.repeats == 0)
