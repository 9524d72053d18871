"""Real clients of both APIs against the server: openai's package, LiteLLM and Ollama's."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import ollama
import openai
import pytest
from pydantic import BaseModel

NAME = "qwen3.5:9b"
SHAPES = Path(__file__).parents[2] / "examples" / "media" / "shapes.png"
SUNNY = '{"city": "Oslo", "weather": "sunny", "temperature": 21}'
QUESTION = "What is 2 + 3?"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    command = [sys.executable, "-m", "qwen_ref", "serve", "--name", NAME, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        yield next(found[0] for line in process.stderr if (found := re.search(r"http://localhost:\d+", line)))
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(30) == 0 and "Traceback" not in said, said


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none needed", max_retries=0) as client:
        yield client


def test_a_picture_as_the_article_asks(client: openai.OpenAI) -> None:
    data = base64.b64encode(SHAPES.read_bytes()).decode()
    response = client.chat.completions.create(
        model=NAME,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
                    {"type": "text", "text": "Describe this picture."},
                ],
            }
        ],
        temperature=0,
    )
    assert "square" in (response.choices[0].message.content or "")
    assert response.usage and response.usage.prompt_tokens > 20


def test_openai_streams(client: openai.OpenAI) -> None:
    asked = dict(model=NAME, messages=[{"role": "user", "content": QUESTION}], temperature=0, logprobs=True)
    whole = client.chat.completions.create(**asked, top_logprobs=3)  # type: ignore[call-overload]
    with client.chat.completions.stream(**asked) as stream:  # type: ignore[arg-type]
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.content == whole.choices[0].message.content
    tokens = whole.choices[0].logprobs.content
    assert "".join(t.token for t in tokens) == whole.choices[0].message.content
    assert all(len(t.top_logprobs) == 3 and t.logprob == t.top_logprobs[0].logprob for t in tokens)


def test_openai_parses_a_model(client: openai.OpenAI) -> None:
    class Sum(BaseModel):
        total: Literal[5, 6]
        kind: Literal["sum", "product"]
        sure: bool

    messages = [{"role": "user", "content": QUESTION}]
    found = client.chat.completions.parse(model=NAME, messages=messages, response_format=Sum)  # type: ignore[arg-type]
    assert isinstance(found.choices[0].message.parsed, Sum)


@pytest.mark.parametrize("stream", [False, True])
def test_openai_tools_there_and_back(client: openai.OpenAI, stream: bool) -> None:
    messages: list = [{"role": "user", "content": "What is the weather in Oslo?"}]
    asked = dict(model=NAME, tools=[WEATHER], temperature=0)
    if stream:
        with client.chat.completions.stream(messages=messages, **asked) as events:  # type: ignore[arg-type]
            choice = events.get_final_completion().choices[0]
    else:
        choice = client.chat.completions.create(messages=messages, **asked).choices[0]  # type: ignore[call-overload]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.function.name == "get_weather" and json.loads(call.function.arguments) == {"city": "Oslo"}
    result = {"role": "tool", "tool_call_id": call.id, "content": SUNNY}
    # As the library has it, with all its fields, null ones too.
    messages += [choice.message.model_dump() if stream else choice.message, result]
    answer = client.chat.completions.create(messages=messages, **asked)  # type: ignore[call-overload]
    assert "21" in answer.choices[0].message.content
    assert answer.usage.prompt_tokens_details.cached_tokens > 0


def test_openai_is_told_what_is_wrong(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=r"there is qwen3\.5:9b"):
        client.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(openai.BadRequestError, match="temperature: -1"):
        client.chat.completions.create(
            model=NAME, messages=[{"role": "user", "content": "Hi"}], temperature=-1
        )
    assert [m.id for m in client.models.list()] == [NAME]


def test_openai_completions(client: openai.OpenAI) -> None:
    asked = dict(model=NAME, prompt="one, two,", max_tokens=6, temperature=0, logprobs=1)
    whole = client.completions.create(**asked)  # type: ignore[call-overload]
    parts = client.completions.create(**asked, stream=True)  # type: ignore[call-overload]
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text


def test_litellm(address: str, client: openai.OpenAI) -> None:
    """In a process of its own: it leaves connections open."""
    program = f"""
import litellm
asked = dict(messages=[{{"role": "user", "content": {QUESTION!r}}}], temperature=0)
openai = dict(model="openai/{NAME}", api_base="{address}/v1", api_key="x") | asked
for part in litellm.completion(**openai, stream=True):
    print(part.choices[0].delta.content or "", end="")
print()
print(litellm.completion(**openai).choices[0].message.content)
print(litellm.completion("ollama_chat/{NAME}", api_base="{address}", **asked).choices[0].message.content)
"""
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # no list of prices is fetched
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    messages = [{"role": "user", "content": QUESTION}]
    whole = client.chat.completions.create(model=NAME, messages=messages, temperature=0)  # type: ignore[arg-type]
    assert done.stdout.splitlines() == [whole.choices[0].message.content] * 3, done.stderr


def test_ollama(address: str) -> None:
    client = ollama.Client(address, timeout=60)
    assert client.list().models[0].model == NAME
    assert "vision" in (client.show(NAME).capabilities or [])
    options = {"temperature": 0}
    asked = [{"role": "user", "content": QUESTION}]
    whole = client.chat(NAME, asked, options=options)
    parts = client.chat(NAME, asked, options=options, stream=True)
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    seen = client.generate(NAME, "Describe this picture.", images=[SHAPES], options=options)
    assert "square" in seen.response
    messages: list = [{"role": "user", "content": "What is the weather in Oslo?"}]
    called = client.chat(NAME, messages, tools=[WEATHER], options=options).message
    assert called.tool_calls and called.tool_calls[0].function.arguments == {"city": "Oslo"}
    messages += [called, {"role": "tool", "tool_name": "get_weather", "content": SUNNY}]
    assert "21" in (client.chat(NAME, messages, tools=[WEATHER], options=options).message.content or "")
    number = {"type": "integer", "minimum": 0, "maximum": 99}
    schema = {"type": "object", "properties": {"n": number}, "required": ["n"], "additionalProperties": False}
    formed = client.chat(NAME, asked, format=schema, options=options)
    assert json.loads(formed.message.content or "").keys() == {"n"}
    with pytest.raises(ollama.ResponseError, match="is not here"):
        client.chat("llama3", asked)
    client._client.close()
