"""OpenAI's API: /v1/chat/completions, /v1/completions and /v1/models.

https://platform.openai.com/docs/api-reference/chat. Beside its fields there are vLLM's and llama-server's for
what OpenAI's models have not: top_k, min_p, repetition_penalty, chat_template_kwargs, reasoning_content,
timings.
"""

from __future__ import annotations

import itertools
import json
import re
import reprlib
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from qwen_ref.answer import Delta
from qwen_ref.engine import Generation
from qwen_ref.engine.generation import TokenLogprob
from qwen_ref.messages import Message
from qwen_ref.serve.errors import Problem
from qwen_ref.serve.fields import Fields, fits
from qwen_ref.serve.scheduler import News, Reply
from qwen_ref.serve.service import Ask, Service
from qwen_ref.tokenizer import Tokenizer

NUMBERS = ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
WHOLE = ("top_k", "seed")
EFFORTS = {  # tokens of a thought
    "none": 0,
    "minimal": 256,
    "low": 1024,
    "medium": 4096,
    "high": None,
    "xhigh": None,
}
# Where it is stored, what it costs, how it is kept: nothing of that changes an answer here.
NO_MATTER = (
    "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "prediction", "verbosity", "keep_alive", "cache_prompt",
)  # fmt: skip
# Other servers' fields that say what is so anyway, with the values that do.
AS_IT_IS: dict[str, tuple[Any, ...]] = {
    "ignore_eos": (False,), "skip_special_tokens": (True,), "stop_token_ids": ([],),
    "use_beam_search": (False,), "id_slot": (-1,), "include_reasoning": (True,), "functions": ([],),
    "add_generation_prompt": (True,), "modalities": (["text"],), "echo": (False,), "suffix": ("",),
}  # fmt: skip
IN_MESSAGES = ("provider_specific_fields", "id", "cache_control")  # what clients hand back or mark for others
MOST_LOGPROBS = 20
INSTRUCTIONS = ("system", "developer")


def sampling(fields: Fields) -> dict[str, Any]:
    found = fields.some(NUMBERS, "a number") | fields.some(WHOLE, "a whole number")
    if found.get("top_k") == -1:  # vLLM's word for all
        found["top_k"] = 0
    return found


def common(fields: Fields, service: Service) -> Ask:
    """What chats and completions share; the prompt is not in it yet."""
    model = fields.need("model", "a text")
    service.check_name(model)
    options = sampling(fields)
    options["stop"] = fields.take("stop", "a text", "a list")
    options["logit_bias"] = _bias(fields)
    stream = fields.take("stream", "true or false", default=False)
    about_stream = fields.inner("stream_options")
    usage = about_stream.take("include_usage", "true or false", default=False)
    about_stream.pass_by("include_obfuscation")
    about_stream.done()
    n = fields.take("n", "a whole number", default=1)
    if n < 1:
        fields.refuse("n", f"{n!s:.80} is not 1 or more")
    user = fields.take("user", "a text")
    fields.pass_by(*NO_MATTER)
    fields.only("best_of", 1, n)
    for name, values in AS_IT_IS.items():
        fields.only(name, *values)
    names = {"schema": "response_format.json_schema.schema", "logprobs": "top_logprobs"}
    return Ask(model, [], options, n, stream, user, names, {"usage": usage})


def _bias(fields: Fields) -> dict[int, float] | None:
    given = fields.take("logit_bias", "an object")
    if given is None:
        return None
    if not all(is_id(token) and fits(bias, "a number") for token, bias in given.items()):
        fields.refuse("logit_bias", "is not {token id: number}")
    return {int(token): bias for token, bias in given.items()}


def is_id(text: str) -> bool:
    """Whether it is a token's id, as it is written; "01" would be another word for one."""
    return re.fullmatch("0|[1-9][0-9]{0,9}", text) is not None


def read_chat(body: Any, service: Service) -> Ask:
    """Raises Problem for what makes no sense or is not known."""
    fields = Fields(body)
    ask = common(fields, service)
    ask.prompts = [read_messages(fields.need("messages", "a list"))]
    options = ask.options
    limits = [fields.take(name, "a whole number") for name in ("max_completion_tokens", "max_tokens")]
    options["max_tokens"] = next((limit for limit in limits if limit is not None), None)
    options["tools"] = fields.take("tools", "a list")
    options["tool_choice"] = _tool_choice(fields)
    options["parallel_tool_calls"] = fields.take("parallel_tool_calls", "true or false")
    options["schema"] = _response_format(fields)
    top = fields.take("top_logprobs", "a whole number")
    if top is not None and not 0 <= top <= MOST_LOGPROBS:
        fields.refuse("top_logprobs", f"{top!s:.80} is not in 0 to {MOST_LOGPROBS}")
    if fields.take("logprobs", "true or false", default=False):
        options["logprobs"] = top or 0
    elif top is not None:
        fields.refuse("top_logprobs", "needs logprobs")
    effort = fields.choose("reasoning_effort", EFFORTS)
    if effort is not None:
        options["thinking"], options["thinking_budget"] = effort != "none", EFFORTS[effort] or None
    template = fields.inner("chat_template_kwargs")
    thinking = template.take("enable_thinking", "true or false")
    template.done()
    thinking = fields.take("enable_thinking", "true or false", default=thinking)
    if thinking is not None:
        options["thinking"] = thinking
    budget = fields.take("thinking_budget", "a whole number")
    if budget is not None:
        options["thinking_budget"] = budget
    fields.pass_by("continue_final_message")  # where the last message is the assistant's, it is continued
    fields.done()
    return ask


def read_messages(messages: list[Any]) -> list[Message]:
    """In the form that templates take: instructions at the beginning, however many, are one system message,
    and what only other servers know is left out. Raises Problem for what is no object."""
    plain = list[Message]()
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            told = f"messages: number {number}: {reprlib.repr(message)} is not an object"
            raise Problem(400, told, "messages")
        message = {name: value for name, value in message.items() if name not in IN_MESSAGES}
        if "reasoning" in message:
            message.setdefault("reasoning_content", message.pop("reasoning"))
        content = message.get("content")
        if isinstance(content, list):
            message["content"] = [_plain_part(part) for part in content]
        elif content is None and message.get("role") in ("assistant", "tool"):
            message["content"] = ""
        plain.append(message)
    first = next((i for i, m in enumerate(plain) if m.get("role") not in INSTRUCTIONS), len(plain))
    texts = [message.get("content") for message in plain[:first]]
    if first > 1 and all(isinstance(text, str) for text in texts):
        plain[:first] = [{"role": "system", "content": "\n\n".join(texts)}]  # type: ignore[arg-type]
    return plain


def _plain_part(part: Any) -> Any:
    return {k: v for k, v in part.items() if k not in IN_MESSAGES} if isinstance(part, dict) else part


def _tool_choice(fields: Fields) -> str | None:
    choice = fields.take("tool_choice", "a text", "an object")
    if not isinstance(choice, dict):
        return choice
    inner = Fields(choice, "tool_choice")
    inner.only("type", "function")
    name = inner.inner("function").need("name", "a text")
    inner.done()
    return name


def _response_format(fields: Fields) -> Any:
    """A JSON schema; True for any object; None for text."""
    form = fields.inner("response_format")
    kind = form.choose("type", ("text", "json_object", "json_schema"))
    if kind == "json_object":
        of_llama_cpp = form.take("schema", "an object", default=True)
        form.done()
        return of_llama_cpp
    schema = form.inner("json_schema")
    form.done()
    if kind != "json_schema":
        return None
    found = schema.need("schema", "an object", "true or false")
    for name in "name", "description":
        schema.take(name, "a text")
    schema.take("strict", "true or false")  # it is always held
    schema.done()
    return found


def read_completion(body: Any, service: Service) -> Ask:
    fields = Fields(body)
    ask = common(fields, service)
    prompt = fields.need("prompt", "a text", "a list")
    if prompt == []:
        fields.refuse("prompt", "is empty")
    several = isinstance(prompt, list) and prompt and not isinstance(prompt[0], int)
    ask.prompts = list(prompt) if several else [prompt]
    for number, one in enumerate(ask.prompts, 1):
        if not isinstance(one, str) and not (isinstance(one, list) and one and isinstance(one[0], int)):
            fields.refuse("prompt", f"number {number} is neither text nor a list of token ids")
    if len({type(one) for one in ask.prompts}) > 1:
        fields.refuse("prompt", "has texts and lists of token ids")
    if isinstance(ask.prompts[0], str):
        ask.options |= {"raw": True, "special": True}
    ask.options["max_tokens"] = fields.take("max_tokens", "a whole number", default=16)
    ask.options["logprobs"] = fields.take("logprobs", "a whole number")
    ask.names = {}
    fields.done()
    return ask


# ---- replies


def usage(generations: list[Generation]) -> dict[str, Any]:
    prompts = {id(g.prompt_ids): g for g in generations}.values()  # of several answers to one, once
    prompt = sum(len(g.prompt_ids) for g in prompts)
    generated = sum(len(g.token_ids) for g in generations)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": sum(g.cached_tokens for g in prompts)},
        "completion_tokens_details": {"reasoning_tokens": sum(g.thought_tokens for g in generations)},
    }


def timings(generation: Generation) -> dict[str, float | int]:
    """As llama-server has them."""
    read = generation.newly_read
    generated = len(generation.token_ids)
    counts = generation.drafted.values()
    times = {
        "cache_n": generation.cached_tokens,
        "prompt_n": read,
        "prompt_ms": 1000 * generation.prompt_seconds,
        "prompt_per_second": read / generation.prompt_seconds if generation.prompt_seconds else 0,
        "predicted_n": generated,
        "predicted_ms": 1000 * generation.decode_seconds,
        "predicted_per_second": (generated - 1) / generation.decode_seconds
        if generation.decode_seconds
        else 0,
    }
    return times | {
        "draft_n": sum(sum(c["drafted"]) for c in counts),
        "draft_n_accepted": sum(sum(c["accepted"]) for c in counts),
    }


def finish_reason(generation: Generation) -> str | None:
    if generation.finish_reason is None:
        return None
    if generation.finish_reason.startswith("length"):
        return "length"
    return "tool_calls" if "tool_calls" in generation.message else "stop"


def shown(tokenizer: Tokenizer, token_id: int, logprob: float) -> dict[str, Any]:
    """A token and its probability; half a character is U+FFFD in the text and right in the bytes."""
    data = tokenizer.token_bytes(token_id)
    return {"token": data.decode(errors="replace"), "logprob": logprob, "bytes": list(data)}


def chat_logprobs(tokenizer: Tokenizer, found: list[TokenLogprob]) -> dict[str, Any]:
    content = []
    for one in found:
        top = [shown(tokenizer, *pair) for pair in one.top]
        content.append(shown(tokenizer, one.token_id, one.logprob) | {"top_logprobs": top})
    return {"content": content, "refusal": None}


def completion_logprobs(tokenizer: Tokenizer, found: list[TokenLogprob], start: int) -> dict[str, Any]:
    def text(token_id: int) -> str:
        return tokenizer.token_bytes(token_id).decode(errors="replace")

    tokens = [text(one.token_id) for one in found]
    ends = itertools.accumulate(map(len, tokens), initial=start)
    return {
        "tokens": tokens,
        "token_logprobs": [one.logprob for one in found],
        "top_logprobs": [{text(i): logprob for i, logprob in one.top} for one in found],
        "text_offset": [*ends][:-1],
    }


def head(kind: str, ask: Ask) -> dict[str, Any]:
    prefix = "chatcmpl" if kind.startswith("chat") else "cmpl"
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": ask.model,
    }


async def whole(reply: Reply) -> None:
    async for _ in reply:
        pass


def message_of(generation: Generation) -> dict[str, Any]:
    """The assistant's message; arguments of calls are JSON text, as OpenAI's are."""
    message = dict(generation.message)
    if "tool_calls" in message:
        message["tool_calls"] = [as_text(call) for call in message["tool_calls"]]
    return {"refusal": None} | message


def as_text(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return call | {"type": "function", "function": {"name": function["name"], "arguments": arguments}}


async def chat_reply(ask: Ask, reply: Reply, service: Service) -> dict[str, Any]:
    await whole(reply)
    tokenizer = service.model.tokenizer
    choices = [
        {
            "index": index,
            "message": message_of(g),
            "logprobs": None if ask.options.get("logprobs") is None else chat_logprobs(tokenizer, g.logprobs),
            "finish_reason": finish_reason(g),
        }
        for index, g in enumerate(reply.generations)
    ]
    numbers = {"usage": usage(reply.generations), "timings": timings(reply.generations[0])}
    return head("chat.completion", ask) | {"choices": choices} | numbers


async def completion_reply(ask: Ask, reply: Reply, service: Service) -> dict[str, Any]:
    await whole(reply)
    tokenizer = service.model.tokenizer
    choices = [
        {
            "index": index,
            "text": g.text,
            "logprobs": None
            if ask.options.get("logprobs") is None
            else completion_logprobs(tokenizer, g.logprobs, 0),
            "finish_reason": "length" if g.finish_reason != "stop" else "stop",
        }
        for index, g in enumerate(reply.generations)
    ]
    numbers = {"usage": usage(reply.generations), "timings": timings(reply.generations[0])}
    return head("text_completion", ask) | {"choices": choices} | numbers


def chat_delta(deltas: list[Delta], calls: itertools.count[int]) -> dict[str, Any]:
    """What has come in one step, as one delta."""
    delta: dict[str, Any] = {}
    for kind, name in ("reasoning", "reasoning_content"), ("content", "content"):
        if text := "".join(d.text for d in deltas if d.kind == kind):
            delta[name] = text
    called = [{"index": next(calls)} | as_text(d.call) for d in deltas if d.call is not None]
    return delta | ({"tool_calls": called} if called else {})


async def chat_chunks(ask: Ask, reply: Reply, service: Service) -> AsyncIterator[dict[str, Any]]:
    """The parts of a streamed answer. The first says whose it is, as clients expect."""
    common, tokenizer = head("chat.completion.chunk", ask), service.model.tokenizer
    calls = [itertools.count() for _ in reply.generations]

    def chunk(index: int, delta: dict[str, Any], news: News | None = None) -> dict[str, Any]:
        over = news is not None and news.over
        logprobs = chat_logprobs(tokenizer, news.logprobs) if news and news.logprobs else None
        reason = finish_reason(reply.generations[index]) if over else None
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        timed = {"timings": timings(reply.generations[index])} if over else {}
        return common | {"choices": [choice]} | timed

    for index in range(len(reply.generations)):
        yield chunk(index, {"role": "assistant", "content": ""})
    async for index, news in reply:
        delta = chat_delta(news.deltas, calls[index])
        if delta or news.logprobs or news.over:
            yield chunk(index, delta, news)
    if ask.extra["usage"]:
        yield common | {"choices": [], "usage": usage(reply.generations)}


async def completion_chunks(ask: Ask, reply: Reply, service: Service) -> AsyncIterator[dict[str, Any]]:
    common, tokenizer = head("text_completion", ask), service.model.tokenizer
    lengths = [0] * len(reply.generations)
    async for index, news in reply:
        generation, logprobs = reply.generations[index], None
        if news.logprobs:
            logprobs = completion_logprobs(tokenizer, news.logprobs, lengths[index])
            lengths[index] += sum(map(len, logprobs["tokens"]))
        reason = None
        if news.over:
            reason = "stop" if generation.finish_reason == "stop" else "length"
        choice = {"index": index, "text": news.text, "logprobs": logprobs, "finish_reason": reason}
        timed = {"timings": timings(generation)} if news.over else {}
        yield common | {"choices": [choice]} | timed
    if ask.extra["usage"]:
        yield common | {"choices": [], "usage": usage(reply.generations)}


# address -> what reads a request, and what is sent back when it is answered
ANSWERED = {
    "/v1/chat/completions": (read_chat, chat_reply),
    "/v1/completions": (read_completion, completion_reply),
}


def models(service: Service) -> dict[str, Any]:
    return {"object": "list", "data": [model_card(name, service) for name in service.names]}


def model_card(name: str, service: Service) -> dict[str, Any]:
    service.check_name(name)
    return {
        "id": name,
        "object": "model",
        "created": service.started,
        "owned_by": "qwen_ref",
        "max_model_len": service.model.context,
    }


def error_body(problem: Problem) -> dict[str, Any]:
    kind = "invalid_request_error" if problem.status < 500 else "server_error"
    code = {401: "invalid_api_key", 404: "model_not_found" if problem.param == "model" else None}
    error = {
        "message": problem.message,
        "type": kind,
        "param": problem.param,
        "code": code.get(problem.status),
    }
    return {"error": error}
