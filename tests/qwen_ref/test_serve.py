"""The server: both APIs, what they refuse, who may ask, and that nobody gets another's tokens."""

from __future__ import annotations

import asyncio
import base64
import copy
import functools
import io
import itertools
import json
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from starlette.testclient import TestClient

import qwen_ref
from qwen_ref import shipped
from qwen_ref.answer import Delta
from qwen_ref.cli import main
from qwen_ref.cli.serve import url_of
from qwen_ref.engine import Model, advance
from qwen_ref.engine.ahead import PIECE
from qwen_ref.engine.sequence import PREFILL_BLOCK
from qwen_ref.errors import QwenRefError
from qwen_ref.prompt import last_question
from qwen_ref.serve import app, ollama, openai, remote, scheduler
from qwen_ref.serve.app import ROUTES, create_app, is_own, problem_of
from qwen_ref.serve.errors import Problem
from qwen_ref.serve.scheduler import BESIDE, FairQueue, Reply, Run, Scheduler, read_together
from qwen_ref.serve.service import Ask, Service, Settings

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "What is 2 + 3?"}]
GREEDY = {"temperature": 0, "presence_penalty": 0, "max_tokens": 24}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def model() -> Model:
    return qwen_ref.load(keep=1 << 26)


def client_of(model: Model, **changes: Any) -> TestClient:
    service = Service(model, ["tiny"], Settings(**changes))
    return TestClient(create_app(service), base_url="http://localhost")


@pytest.fixture(scope="module")
def client(model: Model) -> Iterator[TestClient]:
    with client_of(model) as client:
        yield client


def chat(client: TestClient, **body: Any) -> Any:
    response = client.post(CHAT, json={"model": "tiny", "messages": HELLO} | GREEDY | body)
    assert response.status_code == 200, response.text
    return response.json()


def events(client: TestClient, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    response = client.post(path, json=body | {"stream": True})
    assert response.headers["cache-control"] == "no-cache"
    lines = response.text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def picture(colour: str) -> str:
    image = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(image).ellipse((20, 20, 76, 76), fill=colour)
    held = io.BytesIO()
    image.save(held, "PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


# ---- answers


def test_an_answer_is_the_engine_s(client: TestClient, model: Model) -> None:
    expected = model.generate(HELLO, temperature=0, presence_penalty=0, max_tokens=24)
    "".join(expected)
    found = chat(client)
    choice, usage = found["choices"][0], found["usage"]
    assert choice["message"]["content"] == expected.message["content"]
    assert choice["finish_reason"] == "stop" and found["model"] == "tiny"
    assert usage["prompt_tokens"] == len(expected.prompt_ids)
    assert usage["completion_tokens"] == len(expected.token_ids)
    again = chat(client)["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert 0 < again < usage["prompt_tokens"]


def test_a_stream_says_the_same(client: TestClient) -> None:
    body = {
        "model": "tiny",
        "messages": HELLO,
        "stream_options": {"include_usage": True},
        "logprobs": True,
    } | GREEDY
    body["reasoning_effort"] = "high"
    whole = chat(client, reasoning_effort="high", logprobs=True)
    *parts, usage = events(client, CHAT, body)
    deltas = [part["choices"][0]["delta"] for part in parts]
    assert deltas[0] == {"role": "assistant", "content": ""}
    message = whole["choices"][0]["message"]
    assert "".join(d.get("content", "") for d in deltas) == message["content"]
    thought = "".join(d.get("reasoning_content", "") for d in deltas)
    assert thought.strip() and thought == message["reasoning_content"]
    assert [p["choices"][0]["finish_reason"] for p in parts[-2:]] == [
        None,
        whole["choices"][0]["finish_reason"],
    ]
    assert (
        usage["choices"] == [] and usage["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    )
    tokens = [t for p in parts if p["choices"][0]["logprobs"] for t in p["choices"][0]["logprobs"]["content"]]
    assert tokens == whole["choices"][0]["logprobs"]["content"]


def test_the_next_turn_is_read_ahead(model: Model) -> None:
    service = Service(model, ["tiny"], Settings())
    with TestClient(create_app(service), base_url="http://localhost") as client:
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Tell me a story."},
        ]
        answer = chat(client, messages=messages, max_tokens=200)["choices"][0]["message"]
        until(lambda: not service._said and service._ahead is None)
        messages += [answer, {"role": "user", "content": "Another one."}]
        usage = chat(client, messages=messages)["usage"]
    tokens = model.encode_prompt(messages).token_ids
    assert usage["prompt_tokens_details"]["cached_tokens"] == last_question(tokens, model.tokenizer)


HARMLESS = [
    {"max_tokens": 8.0, "seed": 1.0, "top_k": -1}, {"store": False, "keep_alive": -1, "ignore_eos": False},
    {"functions": [], "best_of": 1, "stop_token_ids": []}, {"enable_thinking": False},
]  # fmt: skip


@pytest.mark.parametrize("fields", HARMLESS)
def test_what_clients_send_though_it_says_nothing(client: TestClient, fields: Any) -> None:
    chat(client, **fields)


def test_messages_of_other_servers_and_several_instructions(client: TestClient, model: Model) -> None:
    told = [{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "Be kind."}]
    said = {
        "role": "assistant",
        "content": None,
        "reasoning": "Hm.",
        "id": "x",
        "provider_specific_fields": {},
    }
    part = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    messages = [*told, *HELLO, said, {"role": "user", "content": [part]}]
    plain = [{"role": "system", "content": "Be brief.\n\nBe kind."}, *HELLO]
    plain += [
        {"role": "assistant", "content": "", "reasoning_content": "Hm."},
        {"role": "user", "content": "Hi"},
    ]
    expected = model.encode_prompt(plain).token_ids
    assert client.post("/tokenize", json={"messages": messages}).json()["tokens"] == expected
    for path in "/api/chat", CHAT:
        assert client.post(path, json={"model": "TINY", "messages": told + HELLO}).status_code == 200


def test_ollama_clients_of_all_kinds(client: TestClient) -> None:
    options = {"num_ctx": 8192.0, "num_predict": 3.0, "seed": -1, "mirostat": 0, "tfs_z": 1.0, "f16_kv": True}
    body = {"model": "tiny", "messages": HELLO, "options": options, "truncate": True, "keep_alive": "5m"}
    body |= {"logprobs": True, "top_logprobs": 2}
    lines = [json.loads(line) for line in client.post("/api/chat", json=body).text.splitlines()]
    rated = [one for line in lines for one in line.get("logprobs", [])]
    assert len(rated) == 3 and all(len(one["top_logprobs"]) == 2 for one in rated)
    whole = client.post("/api/chat", json=body | {"stream": False}).json()
    assert len(whole["logprobs"]) == 3
    result = {"role": "tool", "name": "get_weather", "content": "21"}
    calls = [{"function": {"name": "get_weather", "arguments": {"city": "Oslo"}, "index": 0}}]
    turns = [*HELLO, {"role": "assistant", "content": "", "tool_calls": calls}, result]
    assert client.post("/api/chat", json=body | {"messages": turns}).status_code == 200
    for wrong in {"tool_calls": [5]}, {"tool_calls": [{"function": 5}]}, {"images": [5]}:
        turns = [{"role": "assistant", "content": ""} | wrong, *HELLO]
        assert client.post("/api/chat", json=body | {"messages": turns}).status_code == 400, wrong
    refused = client.post("/api/chat", json=body | {"options": {"num_predict": 0}})
    assert refused.json()["error"].startswith("options.num_predict: 0 is not")


def test_what_was_read_ahead_so_far_counts(model: Model) -> None:
    service = Service(model, ["tiny"], Settings())
    service.scheduler.stop(0)
    service.scheduler.join()  # what its thread does is done here
    said = [
        {"role": "user", "content": f"A story, {'please ' * 40}."},
        {"role": "assistant", "content": "No."},
    ]
    service._said = [(said, None)]
    assert service._read_ahead()  # a piece
    service._leave_off()
    answer = model.generate([*said, *HELLO], max_tokens=1)
    list(answer)
    assert answer.cached_tokens == PIECE
    service._leave_off()


def test_what_fails_while_nobody_asks_is_nobody_s_fault(model: Model, caplog: Any) -> None:
    service = Service(model, ["tiny"], Settings())
    service.scheduler.idle = lambda: 1 // 0
    with TestClient(create_app(service), base_url="http://localhost") as client:
        for _ in range(2):
            assert chat(client)["choices"][0]["message"]["content"] == "2 + 3 = 5."
    until(lambda: "what was done while nobody asked has failed" in caplog.text)


def test_nobody_gets_another_s_tokens(client: TestClient, model: Model) -> None:
    questions = [f"What is {n} + {n % 3}?" for n in range(9)]
    alone = ["".join(model.generate(q, temperature=0, presence_penalty=0, max_tokens=12)) for q in questions]
    found = dict[int, str]()

    def ask(n: int) -> None:
        messages = [{"role": "user", "content": questions[n]}]
        found[n] = chat(client, messages=messages, max_tokens=12)["choices"][0]["message"]["content"]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(questions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(len(questions))] == [text.strip() for text in alone]


def test_several_answers_to_one_request(client: TestClient) -> None:
    asked = {"n": 3, "temperature": 9.0, "top_k": 0, "seed": 5, "max_tokens": 8}
    texts = [[c["message"]["content"] for c in chat(client, **asked)["choices"]] for _ in range(2)]
    assert texts[0] == texts[1] and len(set(texts[0])) > 1
    three, one = (chat(client, n=n, max_tokens=2) for n in (3, 1))
    assert three["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"] and three["id"] != one["id"]
    assert three["usage"]["completion_tokens"] == 3 * one["usage"]["completion_tokens"] == 6
    same = dict(
        tools=[TOOL], reasoning_effort="high", messages=[{"role": "system", "content": "No."}, *HELLO]
    )
    first, second = chat(client, n=2, **same)["choices"]  # of the same prompt
    assert first["message"] == second["message"] and first["message"]["reasoning_content"]
    body = {"model": "tiny", "prompt": "one, two,", "n": 2} | GREEDY | {"max_tokens": 4}
    first, second = client.post(TEXT, json=body).json()["choices"]
    assert first["text"] == second["text"]


def test_what_the_numbers_of_an_answer_are(model: Model) -> None:
    """Tokens of a thought, of a prompt that is in part kept, and times; Prometheus is told of them, too."""
    client = client_of(model, max_tokens=11)
    before, asked = numbers_of(client), {"reasoning_effort": "high", "max_tokens": 99}
    found = [chat(client, messages=[{"role": "user", "content": "How many?"}], **asked) for _ in range(2)]
    for one, cached in zip(found, (0, found[1]["timings"]["cache_n"]), strict=True):
        usage, times = one["usage"], one["timings"]
        assert one["choices"][0]["finish_reason"] == "length"
        assert usage["completion_tokens"] == times["predicted_n"] == 11  # no more than the server allows
        assert usage["completion_tokens_details"]["reasoning_tokens"] == 10  # without the end of the thought
        assert times["cache_n"] == usage["prompt_tokens_details"]["cached_tokens"] == cached
        assert times["prompt_n"] == usage["prompt_tokens"] - cached
        assert times["predicted_per_second"] * times["predicted_ms"] == pytest.approx(10000)
    assert cached > 0
    after = numbers_of(client)
    told = [after[name] - before.get(name, 0) for name in ("prompt", "cached", "generated")]
    assert told == [2 * usage["prompt_tokens"], cached, 22]
    within = chat(client, **asked | {"max_tokens": 5})["choices"][0]  # a thought
    assert within["finish_reason"] == "length" and within["message"]["content"] == ""
    assert client.get("/v1/models/tiny").json()["id"] == "tiny"
    assert 'path="/v1/models/{name:path}",status="200"} 1' in client.get("/metrics").text


def numbers_of(client: TestClient) -> dict[str, float]:
    text = client.get("/metrics").text
    return {name: float(n) for name, n in re.findall(r"^qwen_(\w+)_tokens_total (\S+)", text, re.MULTILINE)}


def test_of_two_prompts_that_are_the_same_one_is_read(client: TestClient) -> None:
    """The second waits until the first one's state is kept."""
    body = {"model": "tiny", "prompt": 2 * ["a b c d e f g h i j k l m n"], "max_tokens": 1, "temperature": 0}
    usage = client.post(TEXT, json=body).json()["usage"]
    read = usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
    assert read == usage["prompt_tokens"] // 2 + 1


def test_pictures_come_as_data(client: TestClient) -> None:
    def ask(colour: str) -> str:
        part = {"type": "image_url", "image_url": {"url": picture(colour), "detail": "low"}}
        content = [part, {"type": "text", "text": "What colour is the circle?"}]
        return chat(client, messages=[{"role": "user", "content": content}])["choices"][0]["message"][
            "content"
        ]

    assert "red" in ask("red") and "blue" in ask("blue")


def test_a_tool_is_called_and_its_result_used(client: TestClient) -> None:
    messages = [{"role": "user", "content": "What is the weather in Oslo?"}]
    choice = chat(client, messages=messages, tools=[TOOL], tool_choice="required", max_tokens=64)["choices"][
        0
    ]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls" and call["function"]["name"] == "get_weather"
    assert isinstance(json.loads(call["function"]["arguments"]), dict)
    two = [Delta("tool_call", call=call), Delta("content", "x"), Delta("tool_call", call=call)]
    delta = openai.chat_delta(two, itertools.count())
    assert [call["index"] for call in delta["tool_calls"]] == [0, 1] and delta["content"] == "x"
    assert ollama.call_of(call)["function"]["arguments"] == json.loads(call["function"]["arguments"])
    body = {
        "model": "tiny",
        "messages": messages,
        "tools": [TOOL],
        "n": 2,
        "tool_choice": "required",
    } | GREEDY
    parts = [part["choices"][0] for part in events(client, CHAT, body | {"max_tokens": 64})]
    called = [(p["index"], c["index"]) for p in parts for c in p["delta"].get("tool_calls", [])]
    assert sorted(called) == [(0, 0), (1, 0)]  # each answer counts its own
    result = {"role": "tool", "tool_call_id": call["id"], "content": '{"city": "Oslo", "temperature": 21}'}
    answer = chat(client, messages=[*messages, choice["message"], result], tools=[TOOL])
    assert "21" in answer["choices"][0]["message"]["content"]
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_an_answer_by_a_schema(client: TestClient) -> None:
    number = {"type": "integer", "minimum": 0, "maximum": 99}
    schema = {"type": "object", "properties": {"n": number}, "required": ["n"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema, "strict": True}}
    found = json.loads(chat(client, response_format=form)["choices"][0]["message"]["content"])
    assert found.keys() == {"n"} and isinstance(found["n"], int)


def test_completions_continue_a_text(client: TestClient, model: Model) -> None:
    body = {"model": "tiny", "prompt": ["red and", "one, two,"], "logprobs": 2} | GREEDY | {"max_tokens": 4}
    found = client.post(TEXT, json=body).json()["choices"]
    expected = [
        model.generate(p, raw=True, max_tokens=4, temperature=0, presence_penalty=0) for p in body["prompt"]
    ]
    assert [c["text"] for c in found] == ["".join(g) for g in expected]
    assert "".join(found[0]["logprobs"]["tokens"]) == found[0]["text"]
    assert all(len(top) == 2 for top in found[0]["logprobs"]["top_logprobs"])
    thought = client.post(TEXT, json=body | {"prompt": "<think>\n"}).json()["choices"][0]
    assert thought["finish_reason"] == "length"
    ids = model.tokenizer.encode("red and")
    assert client.post(TEXT, json=body | {"prompt": ids}).json()["choices"][0]["text"] == found[0]["text"]
    body |= {"prompt": "red and", "stream_options": {"include_usage": True}}
    *parts, usage = events(client, TEXT, body)
    assert "".join(p["choices"][0]["text"] for p in parts) == found[0]["text"]
    rated = [p["choices"][0]["logprobs"] for p in parts if p["choices"][0]["logprobs"]]
    for name in "tokens", "text_offset":
        assert [x for some in rated for x in some[name]] == found[0]["logprobs"][name]
    said = len(found[0]["logprobs"]["tokens"])
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == said
    assert client.post(TEXT, json=body | {"prompt": ["x"] * 9}).status_code == 400  # answers, too many
    for wrong in len(model.tokenizer), -1, True:
        refused = client.post(TEXT, json=body | {"prompt": [5, wrong]})
        assert refused.status_code == 400 and f"number 2: {wrong} is not in 0 to" in refused.text


def test_ollama_says_the_same(client: TestClient) -> None:
    text = chat(client)["choices"][0]["message"]["content"]
    options = {"temperature": 0, "presence_penalty": 0, "num_predict": 24}
    body = {"model": "tiny:latest", "messages": HELLO, "options": options}
    whole = client.post("/api/chat", json=body | {"stream": False}).json()
    assert whole["message"] == {"role": "assistant", "content": text}
    assert whole["done"] is True and whole["done_reason"] == "stop" and whole["eval_count"] > 0
    streamed = client.post("/api/chat", json=body)
    assert streamed.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in streamed.text.splitlines()]
    assert 1e5 < whole["eval_duration"] < whole["total_duration"] < 1e11  # nanoseconds
    assert "".join(line["message"]["content"] for line in lines) == text and lines[-1]["done"] is True
    body = {"model": "tiny", "prompt": HELLO[0]["content"], "stream": False, "options": options}
    assert client.post("/api/generate", json=body).json()["response"] == text
    raw = {"model": "tiny", "prompt": "Once there was", "raw": True, "options": options | {"num_predict": 4}}
    text = client.post(TEXT, json={"model": "tiny", "prompt": "Once there was"} | GREEDY | {"max_tokens": 4})
    text = text.json()["choices"][0]["text"]
    assert text != text.strip()  # white space is part of it
    assert client.post("/api/generate", json=raw | {"stream": False}).json()["response"] == text
    lines = [json.loads(line) for line in client.post("/api/generate", json=raw).text.splitlines()]
    assert "".join(line["response"] for line in lines) == text
    assert lines[-1]["done_reason"] == "length" and [line["done"] for line in lines[-2:]] == [False, True]
    seen = body | {"prompt": "What colour is the circle?", "images": [picture("red").partition(",")[2]]}
    assert "red" in client.post("/api/generate", json=seen).json()["response"]
    assert client.post("/api/generate", json={"model": "tiny"}).json()["done_reason"] == "load"
    assert client.get("/api/tags").json()["models"][0]["name"] == "tiny"
    shown = client.post("/api/show", json={"model": "tiny"}).json()
    assert {"completion", "tools", "vision"} <= set(shown["capabilities"])
    assert shown["details"]["quantization_level"] == "Q4_K_M"


def test_tokens_there_and_back(client: TestClient, model: Model) -> None:
    tokens = client.post("/tokenize", json={"content": "hello <|im_end|>"}).json()["tokens"]
    assert tokens == model.tokenizer.encode("hello <|im_end|>", special=True)
    assert client.post("/detokenize", json={"tokens": tokens}).json()["content"] == "hello <|im_end|>"
    of_messages = client.post("/tokenize", json={"messages": HELLO}).json()["tokens"]
    assert of_messages == model.encode_prompt(HELLO).token_ids
    both = {"content": "hello", "messages": HELLO}
    for body, status in (both, 400), ({}, 400), ({"content": "hello", "model": "gpt-4"}, 404):
        assert client.post("/tokenize", json=body).status_code == status
    for wrong in len(model.tokenizer), -1, "a", True:
        assert client.post("/detokenize", json={"tokens": [5, wrong]}).status_code == 400


def test_what_the_fields_of_a_request_become(model: Model) -> None:
    service = Service(model, ["tiny"], Settings())
    made = {
        CHAT: lambda **body: openai.read_chat({"messages": HELLO} | body, service),
        TEXT: lambda **body: openai.read_completion({"prompt": "x"} | body, service),
        "/api/chat": lambda **body: ollama.read_chat({"messages": HELLO} | body, service),
        "/api/generate": lambda **body: ollama.read_generate({"prompt": "x"} | body, service),
    }
    for path, body, options in FIELDS:
        found = made[path](model="tiny", **body).options
        assert {name: found.get(name) for name in options} == options, (path, body)
    assert [made[p](model="tiny").stream for p in made] == [False, False, True, True]
    assert made[CHAT](model="tiny", user="ann", colour=None).client == "ann"
    for path, body in (
        (TEXT, {"echo": True}),
        (TEXT, {"best_of": 2}),
        (TEXT, {"prompt": ["x", [5]]}),
        (CHAT, {"model": "gpt-4"}),
        ("/api/chat", {"model": "gpt-4"}),
        ("/api/chat", {"options": {"mirostat": 2}}),
        ("/api/chat", {"top_logprobs": 2}),
    ):
        with pytest.raises(Problem):
            made[path](**{"model": "tiny"} | body)
    call = {"id": "a", "function": {"name": "f", "arguments": {}}}
    said = {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [
        call | {"function": call["function"] | {"index": 0}}]}  # fmt: skip
    shown = {"role": "user", "content": "What?", "images": ["AAAA"]}
    ask = made["/api/chat"](model="tiny", messages=[said, shown])
    assert ask.prompts[0][0]["tool_calls"] == [call] and ask.prompts[0][0]["reasoning_content"] == "Hm."
    assert [part["type"] for part in ask.prompts[0][1]["content"]] == ["image", "text"]
    assert problem_of(MemoryError()).status == 503
    Service(model, ["a:latest"], Settings()).check_name("a:latest")


FIELDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (CHAT, {"max_completion_tokens": 3, "max_tokens": 5}, {"max_tokens": 3}),
    (CHAT, {"reasoning_effort": "none"}, {"thinking": False, "thinking_budget": None}),
    (CHAT, {"reasoning_effort": "low"}, {"thinking": True, "thinking_budget": 1024}),
    (CHAT, {"chat_template_kwargs": {"enable_thinking": False}}, {"thinking": False}),
    (CHAT, {"thinking_budget": 0}, {"thinking_budget": 0}),
    (CHAT, {"logprobs": True}, {"logprobs": 0}),
    (CHAT, {"logprobs": False}, {"logprobs": None}),
    (TEXT, {}, {"max_tokens": 16, "raw": True, "special": True}),
    (TEXT, {"prompt": [5]}, {"raw": None, "special": None}),
    (TEXT, {"best_of": 1, "echo": False}, {}),
    ("/api/chat", {"options": {"num_predict": -1, "num_ctx": 4096}}, {"max_tokens": None}),
    ("/api/chat", {"options": {"repeat_last_n": 7}}, {"penalty_last_n": 7, "top_k": None}),
    ("/api/chat", {"think": "none"}, {"thinking": False}),
    ("/api/chat", {"think": "low"}, {"thinking": True, "thinking_budget": 1024}),
    ("/api/generate", {"system": "Be kind."}, {"system": "Be kind.", "raw": None}),
    ("/api/generate", {"raw": True}, {"raw": True, "special": True}),
]


# ---- what is refused

REFUSED = [
    ({"model": "gpt-4"}, 404, "model: 'gpt-4' is not here; there is tiny"),
    ({"messages": []}, 400, "the messages: there are none"),
    ({"messages": "hi"}, 400, "messages: 'hi' is not a list"),
    ({"messages": [{"role": "narrator", "content": ""}]}, 400, "message 1: role: 'narrator' is not one of"),
    ({"temperature": "hot"}, 400, "temperature: 'hot' is not a number"),
    ({"temperature": -1}, 400, "temperature: -1 is not in 0.0 to 100.0"),
    ({"max_tokens": 0}, 400, "max_tokens: 0 is not a whole number from 1 on"),
    ({"n": 0}, 400, "n: 0 is not 1 or more"),
    ({"n": 99}, 400, "n: more than 8 answers to one request"),
    ({"colour": "red"}, 400, "colour: is no field that is known here"),
    ({"functions": [TOOL]}, 400, "functions: [{"),
    ({"messages": [71, 72]}, 400, "messages: number 1: 71 is not an object"),
    ({"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs: 21 is not in 0 to 20"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}},
        400,
        "response_format.json_schema.schema: #: Invalid type: x",
    ),
    ({"top_logprobs": 3}, 400, "top_logprobs: needs logprobs"),
    (
        {"response_format": {"type": "xml"}},
        400,
        "response_format.type: 'xml' is not one of text, json_object",
    ),
    ({"stream_options": {"usage": True}}, 400, "stream_options.usage: is no field that is known here"),
    ({"reasoning_effort": "extreme"}, 400, "reasoning_effort: 'extreme' is not one of none, minimal"),
    ({"modalities": ["audio"]}, 400, "modalities: ['audio'] is not supported"),
    ({"tool_choice": "required"}, 400, "tool_choice"),
    *(
        ({"logit_bias": {key: 1}}, 400, "logit_bias: is not {token id: number}")
        for key in ("x", "1_0", "020", "")
    ),
    ({"logit_bias": {"1": True}}, 400, "logit_bias: is not {token id: number}"),
    ({"logit_bias": {"1": 10**400}}, 400, "logit_bias: 10000"),
    ({"seed": 10**400}, 400, "seed: " + "1".ljust(80, "0") + " is not in 0 to 18446744073709551615"),
    ({"n": -(10**400)}, 400, "n: -" + "1".ljust(79, "0") + " is not 1 or more"),
    ({"max_tokens": True}, 400, "max_tokens: True is not a whole number"),
]


@pytest.mark.parametrize(("change", "status", "sentence"), REFUSED)
def test_refused_in_one_sentence(client: TestClient, change: Any, status: int, sentence: str) -> None:
    response = client.post(CHAT, json={"model": "tiny", "messages": HELLO, "max_tokens": 1} | change)
    message = response.json()["error"]["message"]
    assert response.status_code == status and message.startswith(sentence) and "\n" not in message


@pytest.mark.parametrize(
    "image", ["/etc/passwd", "file:///etc/passwd", "http://localhost/x.png", "data:image/png;base64,AAAA", 7]
)
def test_no_file_of_this_machine_is_shown(client: TestClient, image: Any) -> None:
    for part in (
        {"type": "image_url", "image_url": {"url": image}},
        {"type": "image", "image": image},
        {"type": "image", "path": image},
        {"type": "video", "video": [image]},
    ):
        body = {"model": "tiny", "messages": [{"role": "user", "content": [part]}]}
        for path in CHAT, "/api/chat", "/tokenize":
            response = client.post(path, json=body)
            assert response.status_code == 400 and "root:" not in response.text, (path, part)


def test_bodies_that_are_none(model: Model) -> None:
    client = client_of(model, max_body=100)
    for body, status in (
        (b"{", 400), (b"", 400), (b"[" * 99, 400), (b"\xff", 400), (b"7", 400), (b'{"model": NaN}', 400),
        (b" " * 100, 400), (b" " * 101, 413),
    ):  # fmt: skip
        assert client.post(CHAT, content=body).status_code == status, body
    unknown_length = iter([b" " * 60, b" " * 60])
    assert client.post(CHAT, content=unknown_length).status_code == 413
    assert client.get("/nothing").status_code == 404 and client.get(CHAT).status_code == 405
    assert client.post("/api/chat", content=b"{").json()["error"].startswith("the body: is no JSON")


def test_other_sites_pages_may_not_ask(client: TestClient, model: Model) -> None:
    assert client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 403
    assert client.get("/v1/models", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.get("/v1/models", headers={"Origin": "null"}).status_code == 403
    assert client.get("/v1/models", headers={"Origin": "http://localhost"}).status_code == 200
    other = client_of(model, origins=("http://friend.example",), hosts=("pi.lan",))
    allowed = other.get("/v1/models", headers={"Origin": "http://friend.example", "Host": "pi.lan"})
    assert allowed.headers["access-control-allow-origin"] == "http://friend.example"
    assert (
        is_own("192.168.0.7:11434", ()) and is_own("[::1]:80", ()) and is_own(f"{socket.gethostname()}", ())
    )
    assert is_own("localhost.:80", ()) and is_own("PI.lan", ("pi.LAN",))
    locked = client_of(model, origins=("http://friend.example",), api_key="secret")
    asks = {"Origin": "http://friend.example", "Access-Control-Request-Method": "POST"}
    assert locked.options(CHAT, headers=asks).status_code == 200  # a browser asks first, without the key
    assert not is_own("localhost.evil.example", ()) and not is_own("", ()) and not is_own("[", ())


def test_a_key_is_asked_for(model: Model) -> None:
    client = client_of(model, api_key="secret")
    assert client.get("/health").status_code == client.get("/").status_code == 200
    for key, status in (None, 401), ("Bearer wrong", 401), ("Bearer secret", 200):
        headers = {} if key is None else {"Authorization": key}
        assert client.get("/v1/models", headers=headers).status_code == status
    for method, path, _ in ROUTES:
        response = client.request(method, path)
        assert (response.status_code == 401) == (path not in ("/", "/health")), path
        if response.status_code == 401:
            assert response.headers["www-authenticate"] == "Bearer"
    assert client.get("/v1/models").json()["error"]["code"] == "invalid_api_key"
    policy = client.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'unsafe-inline';") and "*" not in policy


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_request_is_the_server_s_fault(client: TestClient, data: st.DataObject) -> None:
    """Requests with one value replaced by any other: an answer, or a status that says whose fault it is."""
    path = data.draw(st.sampled_from([CHAT, TEXT, "/api/chat", "/api/generate", "/api/show", "/tokenize"]))
    anything = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    )
    part = {"type": "image_url", "image_url": {"url": picture("red")}}
    turns = [*HELLO, {"role": "assistant", "content": "5"}]
    turns.append({"role": "user", "content": [part, {"type": "text", "text": "Which?"}]})
    body: Any = {
        "model": "tiny", "messages": turns, "prompt": "2", "max_tokens": 1, "stream": False, "tools": [TOOL],
        "tool_choice": "auto", "stop": ["x"], "response_format": {"type": "text"},
        "options": {"num_predict": 1}, "format": "json", "logit_bias": {"5": 1},
    }  # fmt: skip
    names = {
        CHAT: "model messages max_tokens stream tools tool_choice stop response_format logit_bias",
        TEXT: "model prompt max_tokens stream stop logit_bias",
        "/api/chat": "model messages stream tools options format",
        "/api/generate": "model prompt stream options format",
        "/api/show": "model",
        "/tokenize": "messages tools",
    }
    body = {name: body[name] for name in names[path].split()}
    body = json.loads(json.dumps(body))
    places = list(places_of(body))
    holder, name = places[data.draw(st.integers(0, len(places) - 1))]
    holder[name] = data.draw(anything)
    status = client.post(path, json=body).status_code
    assert status == 200 or 400 <= status < 500


def places_of(value: Any) -> Iterator[tuple[Any, Any]]:
    for name in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, name
        if isinstance(value[name], dict | list):
            yield from places_of(value[name])


# ---- load


def test_clients_take_turns() -> None:
    queue = FairQueue()

    def runs(client: str, count: int) -> list[Run]:
        reply = object.__new__(Reply)
        reply.client = client
        return [Run(reply, number) for number in range(count)]

    for client, count in ("greedy", 3), ("b", 1), ("c", 1), ("e", 1):
        queue.put(runs(client, count))
    queue.drop(lambda run: run.reply.client == "e")
    assert len(queue) == 5
    taken = [(run.reply.client, run.number) for run in (queue.take() for _ in range(5))]
    assert taken == [("greedy", 0), ("b", 0), ("c", 0), ("greedy", 1), ("greedy", 2)]


def test_there_is_room_for_what_runs_and_what_waits(model: Model) -> None:
    async def submit(*counts: int) -> None:
        scheduler = Scheduler(parallel=2, queue=1, seconds=60)
        scheduler.stop(0)
        scheduler.join()  # nothing is taken up
        scheduler._stop_at = None
        for count in counts:
            scheduler.submit([model.generate("Hi") for _ in range(count)], "a")

    asyncio.run(submit(3))
    with pytest.raises(Problem, match="this server has room for 3 answers") as refused:
        asyncio.run(submit(4))
    assert refused.value.status == 400
    asyncio.run(submit(1, 2))
    with pytest.raises(Problem, match="0 answers are running and 2 are waiting: there is room for 1 more"):
        asyncio.run(submit(2, 2))


def test_an_error_of_one_answer_leaves_the_others(model: Model) -> None:
    answers = [model.generate(HELLO, temperature=0, presence_penalty=0, max_tokens=8) for _ in range(2)]
    broken, whole = answers
    broken._check_logits = lambda logits, token: (_ for _ in ()).throw(QwenRefError("it is broken"))  # type: ignore[method-assign]
    with pytest.raises(QwenRefError, match="it is broken"):
        while advance(answers):
            pass
    assert str(broken.error) == "it is broken" and whole.error is None
    list(whole)
    assert whole.text == "2 + 3 = 5."


@pytest.fixture
def served(model: Model) -> Iterator[tuple[Service, int]]:
    """A server of its own, on a port."""
    service = Service(model, ["tiny"], Settings(parallel=2, queue=2))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield service, listener.getsockname()[1]
        server.should_exit = True
        service.scheduler.stop(0)
        thread.join()


@functools.cache  # several begin at once, before the first one's context is full
def ends() -> dict[str, int]:
    return {str(token_id): -100 for token_id in qwen_ref.load().tokenizer.eos_ids}


def begin(port: int, **changes: Any) -> socket.socket:
    """A request that runs for long, since no end may come; its connection."""
    body = {"model": "tiny", "prompt": "one, two,", "max_tokens": 4000, "logit_bias": ends()} | changes
    data = json.dumps(body).encode()
    head = f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(head.encode() + data)
    return connection


def until(condition: Any) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about within 30 seconds")


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_costs_nothing_more(served: tuple[Service, int], stream: bool) -> None:
    service, port = served
    with begin(port, stream=stream):
        until(lambda: service.scheduler.running == 1)
    until(lambda: service.scheduler.running == 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        assert "qwen_generated_tokens_total 0.0" not in response.read().decode()
    steps = service.scheduler.steps
    time.sleep(0.1)
    assert service.scheduler.steps == steps


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_before_the_answer_begins(
    served: tuple[Service, int], monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    service, port = served
    opened, left = threading.Event(), threading.Event()
    generations = service.generations

    def slow(ask: Ask) -> Any:
        opened.set()
        left.wait()
        return generations(ask)

    replies, submit = list[Reply](), service.scheduler.submit

    def submitted(*about: Any) -> Reply:
        replies.append(submit(*about))
        return replies[0]

    monkeypatch.setattr(service, "generations", slow)
    monkeypatch.setattr(service.scheduler, "submit", submitted)
    with begin(port, stream=stream):
        opened.wait()
    time.sleep(0.05)
    left.set()
    until(lambda: replies and replies[0].cancelled)


def test_too_many_wait_and_the_end_is_told(served: tuple[Service, int]) -> None:
    service, port = served
    connections = []
    for number in range(1, 5):  # two run, two wait
        connections.append(begin(port, stream=True))
        until(lambda: service.scheduler.running + service.scheduler.waiting == number)  # noqa: B023
    until(lambda: service.scheduler.running == 2)
    with begin(port) as refused:
        answer = refused.recv(1 << 12).lower()
    assert answer.startswith(b"http/1.1 503") and b"retry-after: 5" in answer
    service.scheduler.stop(0)
    for connection in connections:
        with connection:
            told = b""
            while data := connection.recv(1 << 16):
                told += data
                if b"[DONE]" in told:
                    break
            assert b"the server is stopping" in told


def test_who_need_not_wait_is_answered_though_nobody_may(model: Model) -> None:
    with client_of(model, parallel=2, queue=0) as client:
        for _ in range(3):
            chat(client, n=2, max_tokens=1)
        asked = {"model": "tiny", "messages": HELLO, "n": 3}
        assert client.post(CHAT, json=asked).status_code == 400


def test_who_runs_may_end_when_the_server_stops(served: tuple[Service, int]) -> None:
    service, port = served
    connections = [begin(port, stream=True, max_tokens=100) for _ in range(3)]
    until(lambda: service.scheduler.running == 2 and service.scheduler.waiting == 1)
    service.scheduler.stop(30)
    with begin(port) as late:
        assert late.recv(12) == b"HTTP/1.1 503"
    told = []
    for connection in connections:
        with connection:
            text = b""
            while b"[DONE]" not in text:
                text += connection.recv(1 << 16)
            told.append(b"the server is stopping" in text)
    assert sorted(told) == [False, False, True]
    service.scheduler.join()
    with begin(port) as late:
        late.settimeout(5)
        assert late.recv(12) == b"HTTP/1.1 503"


def test_whose_turn_it_is(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's that a request names, or else that of the address that it comes from."""
    service, clients = Service(model, ["tiny"], Settings()), list[str]()
    monkeypatch.setattr(
        service.scheduler, "submit", lambda runs, client, *other: clients.append(client) or 1 / 0
    )
    client = TestClient(create_app(service), base_url="http://localhost")
    for user in "ann", None:
        assert client.post(CHAT, json={"model": "tiny", "messages": HELLO, "user": user}).status_code == 500
    assert clients == ["ann", "testclient"]


class Stopped:
    """A scheduler whose steps a test makes, and its replies without a loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(threading.Thread, "start", lambda thread: None)
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: self)
        self.scheduler, self.told = Scheduler(4, 9, 60), list[Any]()

    def call_soon_threadsafe(self, put: Any, news: Any) -> None:
        self.told.append(news)

    def submit(self, *generations: Any) -> list[Run]:
        reply = self.scheduler.submit(list(generations), "x")
        self.scheduler._take_up()
        return [run for run in self.scheduler._running if run.reply is reply]


def test_a_prompt_is_read_in_small_pieces_beside_others(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And in large ones alone. Who cannot begin is told so, and goes alone."""
    stopped, blocks = Stopped(monkeypatch), list[tuple[int, int]]()

    def read(generations: Any, block: int) -> Any:
        blocks.append((len(generations), block))
        return advance(generations, block)

    monkeypatch.setattr(scheduler, "advance", read)
    first = stopped.submit(model.generate("Tell me a story.", max_tokens=99))
    while first[0].generation.reading:
        stopped.scheduler._step(first)
    second = stopped.submit(model.generate("Hello"))
    broken = stopped.submit(model.generate("Hello"))
    monkeypatch.setattr(broken[0].generation, "start", lambda: 1 / 0)
    stopped.scheduler._step([*first, *second, *broken])
    assert blocks[0] == (1, PREFILL_BLOCK) and blocks[-1] == (2, scheduler.BESIDE)
    assert stopped.scheduler._running == [*first, *second]
    assert isinstance(stopped.told[-1], tuple) and any(isinstance(n, ZeroDivisionError) for n in stopped.told)


def test_short_prompts_are_read_together(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """But who begins as one of them waits for what that keeps, and finds it."""
    stopped, system = Stopped(monkeypatch), "You are a fox, and have never been seen to be brief."
    stopped.scheduler.parallel = 5

    def submit(text: str, system: str | None = None) -> Run:
        return stopped.submit(model.generate(text, system=system, max_tokens=1))[0]

    one, long, other = submit("One?"), submit("Three? " * BESIDE), submit("Two?")
    assert read_together([one, other]) == [one, other]
    assert read_together([one, long, other]) == [one] and read_together([long, one]) == [long]
    first, second = submit("One?", system), submit("Two?", system)
    assert read_together([first, second, one]) == [first, one]
    stopped.scheduler._step([first])
    assert first.generation.reading and read_together([first, second]) == [first, second]
    stopped.scheduler._step([first, second])
    assert second.generation.cached_tokens > 0


def test_a_step_that_fails_ends_only_who_is_in_it(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = Stopped(monkeypatch)
    runs = [run for text in ("a", "b " * BESIDE) for run in stopped.submit(model.generate(text))]
    monkeypatch.setattr(scheduler, "advance", lambda *some: 1 / 0)
    rounds = iter([True, False])
    monkeypatch.setattr(stopped.scheduler, "_next_runs", lambda: next(rounds))
    stopped.scheduler._work()
    assert stopped.scheduler._running == runs[1:]


def test_what_may_go_on_as_a_conversation(model: Model) -> None:
    service = Service(model, ["tiny"], Settings())
    for prompts, n, options, is_one in (
        ([HELLO], 1, {}, True),
        ([HELLO], 2, {}, False),
        ([HELLO, HELLO], 1, {}, False),
        ([HELLO], 1, {"system": "Be kind."}, False),
        (["x"], 1, {}, False),
        ([[5]], 1, {}, False),
    ):
        found = service._conversation(Ask("tiny", prompts, options, n))  # type: ignore[arg-type]
        assert found == (HELLO if is_one else None)
    said = {"role": "assistant", "content": "5"}
    for message, reason, messages, goes_on in (
        (said, "stop", HELLO, True),
        (said, "length", HELLO, False),
        (said | {"tool_calls": []}, "stop", HELLO, False),
        (said, "stop", [*HELLO, said], False),  # it was continued
    ):
        service._said.clear()
        generation = SimpleNamespace(message=message, finish_reason=reason, tools=None, token_ids=[])
        reply = SimpleNamespace(messages=messages, generations=[generation])
        service._ended(Run(reply, 0))  # type: ignore[arg-type]
        assert bool(service._said) == goes_on
    service.scheduler.stop(0)


def test_what_is_kept_is_written_while_nobody_asks(model: Model, tmp_path: Path) -> None:
    saving = copy.copy(model)
    saving.prefixes = model._prefixes(None, tmp_path)
    chat(client_of(saving), max_tokens=1)
    until(lambda: list(tmp_path.glob("*/*.safetensors")))


def test_a_body_that_does_not_come(served: tuple[Service, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "UPLOAD_SECONDS", 0.05)
    with socket.create_connection(("127.0.0.1", served[1])) as connection:
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{{".encode())
        connection.settimeout(5)
        assert connection.recv(12) == b"HTTP/1.1 408"


def test_an_answer_that_takes_too_long(model: Model) -> None:
    client = client_of(model, seconds=1e-4)
    response = client.post(
        TEXT, json={"model": "tiny", "prompt": "one,", "max_tokens": 4000, "temperature": 2.0}
    )
    assert response.status_code == 504 and "0.0001 seconds" in response.text


def test_only_public_addresses_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (
        "http://localhost/x",
        "http://127.0.0.1/x",
        "http://[::1]/x",
        "http://169.254.169.254/",
        "ftp://x/",
    ):
        with pytest.raises(QwenRefError, match=r"is no .*address"):
            remote.fetch(url, 100)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setattr(remote, "public_address", lambda host, port: "127.0.0.1")
        threading.Thread(
            target=serve_once, args=(listener, [(200, b"GIF89a", ""), (200, b"x" * 101, "")])
        ).start()
        assert remote.fetch(f"http://pictures.example:{port}/a", 100).startswith("data:image/gif;base64,R0lG")
        with pytest.raises(QwenRefError, match="is larger than 100 bytes"):
            remote.fetch(f"http://pictures.example:{port}/b", 100)
        moved = [(302, b"", "b?c"), *3 * [(307, b"", "/a")]]
        for answers, told in (
            ([*moved[:3], (200, b"x" * 100, "")], None),
            (moved, "more than 3 redirections"),
            ([(404, b"GIF", "")], "the server says 404"),
        ):
            asked = list[bytes]()
            thread = threading.Thread(target=serve_once, args=(listener, answers, asked))
            thread.start()
            url = f"http://pictures.example:{port}/x/a"
            if told is None:
                assert remote.fetch(url, 100).startswith("data:image/gif;base64,eHh4")
            else:
                with pytest.raises(QwenRefError, match=told):
                    remote.fetch(url, 100)
            thread.join()
            assert [request.split()[1] for request in asked][1:2] in ([b"/x/b?c"], [])
    monkeypatch.undo()
    for found, told in (["8.8.8.8"], None), (["1.1.1.1", "192.168.0.1"], "192.168.0.1 is no public"):
        infos = [(0, 0, 0, "", (address, 80)) for address in found]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *some, infos=infos, **more: infos)
        if told is None:
            assert remote.public_address("x.example", 80) == found[0]  # looked up once
        else:
            with pytest.raises(ValueError, match=told):
                remote.public_address("x.example", 80)


def serve_once(
    listener: socket.socket, answers: list[tuple[int, bytes, str]], asked: list[bytes] | None = None
) -> None:
    for status, body, moved in answers:
        connection, _ = listener.accept()
        with connection:
            request = connection.recv(1 << 12)
            if asked is not None:
                asked.append(request)
            head = f"HTTP/1.1 {status} OK\r\nContent-Type: image/gif\r\nContent-Length: {len(body)}\r\n"
            head += f"Location: {moved}\r\n" if moved else ""
            connection.sendall(head.encode() + b"\r\n" + body)


# ---- the command


@pytest.fixture
def start(model: Model, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `serve` with these arguments, but answers nothing: the service, and how the model was loaded."""
    made, loaded = list[Service](), list[Any]()

    def load(path: str, **about: Any) -> Model:
        """Its memory has room for three answers at once."""
        loaded.append(about)
        monkeypatch.setattr(model, "parallel", 3 if about["fewer"] else about["parallel"])
        return model

    monkeypatch.setattr("qwen_ref.engine.load", load)
    monkeypatch.setattr(app, "create_app", made.append)
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: None)
    monkeypatch.setattr(Model, "warm_up", lambda *some, **more: None)

    def start(line: str) -> tuple[Service, dict[str, Any]]:
        assert main(["serve", "--port", "0", *line.split()]) == 0
        return made.pop(), loaded.pop()

    return start


def test_the_command_makes_a_server(start: Any, monkeypatch: Any, capsys: Any) -> None:
    plain, about = start("--keep 0.5")
    assert plain.settings == Settings(parallel=3) and plain.names == [shipped.MODEL.stem]
    assert about["keep"] == 1 << 29 and "may ask" not in capsys.readouterr().err
    line = "--name a --name b --parallel 2 --queue 0 --timeout 9 --max-tokens 5 --max-body 3 --draft off"
    line += " --allow-host pi.lan --allow-origin http://a --allow-remote-media --host 0.0.0.0 --api-key x"
    said = dict(parallel=2, queue=0, seconds=9, max_tokens=5, max_body=3 << 20, draft="off", api_key="x")
    said |= dict(hosts=("pi.lan",), origins=("http://a",), remote_media=True)
    asked, _ = start(line)
    assert asked.settings == Settings(**said) and asked.names == ["a", "b"]
    assert "may ask" not in capsys.readouterr().err
    start("--host 0.0.0.0")
    assert "anyone in the network may ask: --api-key sets a key\n" in capsys.readouterr().err
    monkeypatch.setenv("QWEN_REF_API_KEY", "y")
    assert [start(line)[0].settings.api_key for line in ("", "--api-key x")] == ["y", "x"]


def test_what_the_command_refuses(capsys: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for line, words in (
            ("--parallel 0", "--parallel: 0 is not 1 or more"),
            ("--queue -1", "--queue: -1 is not 0 or more"),
            ("--port -1", "--port: -1 is not 0 or more"),
            ("--port 65536", "--port: 65536 is not in 0 to 65535"),
            ("--timeout 0", "--timeout: 0 is not more than 0"),
            ("--timeout nan", "--timeout: nan is not more than 0"),
            ("--host a..b", "--host: 'a..b' is no address"),
            ("--max-body 0", "--max-body: 0 is not 1 or more"),
            ("--allowed-local-media-path none", "--allowed-local-media-path: 'none' is no folder"),
            ("--name=", "argument --name: is empty"),
            (f"--port {port}", f"--host 127.0.0.1 --port {port}: Address already in use; is Ollama, or"),
        ):
            assert main(["serve", *line.split()]) == 2
            assert capsys.readouterr().err.splitlines()[-1].startswith(f"qwen_ref: {words}")


def test_where_the_server_is() -> None:
    for host, name in (
        ("127.0.0.1", "localhost"),
        ("::1", "localhost"),
        ("0.0.0.0", socket.gethostname()),
        ("192.168.0.7", "192.168.0.7"),
        ("fe80::1", "[fe80::1]"),
    ):
        bound = SimpleNamespace(getsockname=lambda host=host: (host, 80))
        assert url_of(bound) == f"http://{name}:80/"  # type: ignore[arg-type]
