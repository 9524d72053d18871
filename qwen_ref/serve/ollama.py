"""Ollama's API, which Home Assistant and many tools on small machines speak.

https://github.com/ollama/ollama/blob/main/docs/api.md. A request is for the one model that is served.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from gguf import LlamaFileType

from qwen_ref.engine.generation import TokenLogprob
from qwen_ref.errors import of_type
from qwen_ref.serve.errors import Problem
from qwen_ref.serve.fields import Fields
from qwen_ref.serve.openai import EFFORTS, chat_logprobs, finish_reason, read_messages, whole
from qwen_ref.serve.scheduler import Reply
from qwen_ref.serve.service import Ask, Service

VERSION = "0.13.0"  # of Ollama's API that is meant
OPTIONS = {  # Ollama's name -> Sampling's, and its kind
    "temperature": ("temperature", "a number"),
    "top_p": ("top_p", "a number"),
    "min_p": ("min_p", "a number"),
    "repeat_penalty": ("repetition_penalty", "a number"),
    "presence_penalty": ("presence_penalty", "a number"),
    "frequency_penalty": ("frequency_penalty", "a number"),
    "top_k": ("top_k", "a whole number"),
    "seed": ("seed", "a whole number"),
    "repeat_last_n": ("penalty_last_n", "a whole number"),
}
# Where, with how many threads and in how large a context it is computed: the server was started with its own.
NO_MATTER = (
    "num_ctx", "num_thread", "num_gpu", "main_gpu", "num_batch", "num_keep", "use_mmap", "use_mlock", "numa",
    "low_vram", "f16_kv", "vocab_only", "mirostat_tau", "mirostat_eta",
)  # fmt: skip
AS_IT_IS = {"mirostat": 0, "tfs_z": 1, "typical_p": 1, "penalize_newline": True}  # samplers that are off
NAMES = {ours: f"options.{name}" for name, (ours, _) in OPTIONS.items()} | {
    "max_tokens": "options.num_predict",
    "stop": "options.stop",
    "schema": "format",
    "logprobs": "top_logprobs",
}


def read_options(fields: Fields, service: Service) -> dict[str, Any]:
    inner = fields.inner("options")
    taken = {ours: inner.take(name, kind) for name, (ours, kind) in OPTIONS.items()}
    options = {name: value for name, value in taken.items() if value is not None}
    options["stop"] = inner.take("stop", "a text", "a list")
    limit = inner.take("num_predict", "a whole number")
    options["max_tokens"] = None if limit in (-1, -2) else limit
    if options.get("seed") == -1:
        del options["seed"]
    for name, value in AS_IT_IS.items():
        inner.only(name, value)
    inner.pass_by(*NO_MATTER)
    inner.done()
    return options


def common(fields: Fields, service: Service) -> Ask:
    name = fields.need("model", "a text")
    service.check_name(name)
    options = read_options(fields, service)
    options["schema"] = read_format(fields)
    think = fields.take("think", "true or false", "a text")
    if isinstance(think, str):
        if think not in EFFORTS:
            fields.refuse("think", f"{think!r:.80} is not true, false or one of {', '.join(EFFORTS)}")
        options["thinking_budget"] = EFFORTS[think] or None
        think = think != "none"
    options["thinking"] = think
    top = fields.take("top_logprobs", "a whole number")
    if fields.take("logprobs", "true or false", default=False):
        options["logprobs"] = top or 0
    elif top:
        fields.refuse("top_logprobs", "needs logprobs")
    stream = fields.take("stream", "true or false", default=True)
    fields.take("keep_alive", "a text", "a number")  # it stays
    fields.pass_by(
        "truncate", "shift"
    )  # a prompt that is too long is refused, and no answer outgrows its context
    return Ask(name, [], options, 1, stream, names=NAMES)


def read_format(fields: Fields) -> Any:
    form = fields.take("format", "a text", "an object")
    if isinstance(form, str) and form not in ("", "json"):
        fields.refuse("format", f'{form!r:.80} is neither "json" nor a JSON schema')
    return True if form == "json" else form or None


def read_chat(body: Any, service: Service) -> Ask:
    fields = Fields(body)
    ask = common(fields, service)
    messages = fields.take("messages", "a list", default=[])
    ask.prompts = [read_messages([message(m, n) for n, m in enumerate(messages, 1)])]
    ask.options["tools"] = fields.take("tools", "a list")
    ask.extra["show"] = lambda text, thought, calls: {"message": said(text, thought, calls)}
    fields.done()
    return ask


def message(value: Any, number: int) -> Any:
    """Ollama's message in OpenAI's form."""
    fields = Fields(value, f"messages: number {number}")
    content = fields.take("content", "a text", "a list", default="")
    if images := fields.take("images", "a list"):
        texts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        content = [*map(picture, images), *texts]
    plain = {"role": fields.need("role", "a text"), "content": content}
    if thought := fields.take("thinking", "a text"):
        plain["reasoning_content"] = thought
    if calls := fields.take("tool_calls", "a list"):
        plain["tool_calls"] = [call_in(call) for call in calls]
    if name := fields.take("tool_name", "a text", default=fields.take("name", "a text")):
        plain["name"] = name
    if call_id := fields.take("tool_call_id", "a text"):
        plain["tool_call_id"] = call_id
    fields.done()
    return plain


def call_in(call: Any) -> Any:
    """Without the numbers that Ollama gives to calls."""
    if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
        return call
    function = {name: value for name, value in call["function"].items() if name != "index"}
    return {name: value for name, value in call.items() if name != "type"} | {"function": function}


def picture(data: Any) -> dict[str, Any]:
    if not isinstance(data, str):
        raise Problem(400, f"images: {of_type(data)} is no text in base64", "images")
    return {"type": "image", "base64": data}


def read_generate(body: Any, service: Service) -> Ask:
    fields = Fields(body)
    ask = common(fields, service)
    prompt = fields.take("prompt", "a text", default="")
    system = fields.take("system", "a text")
    if fields.take("raw", "true or false", default=False):
        if system is not None:
            fields.refuse("system", "a raw prompt has none")
        if fields.take("images", "a list"):
            fields.refuse("images", "a raw prompt has none")
        ask.prompts = [prompt] if prompt else []
        ask.options |= {"raw": True, "special": True}
    else:
        question = {"role": "user", "content": prompt, "images": fields.take("images", "a list")}
        ask.prompts = [[message(question, 1)]] if prompt else [[]]
        ask.options["system"] = system
    ask.extra["show"] = lambda text, thought, calls: (
        {"response": text} | ({"thinking": thought} if thought else {})
    )
    for name in "suffix", "template":
        fields.only(name, "")
    fields.only("context", [])
    fields.done()
    return ask


def said(text: str, thought: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"role": "assistant", "content": text}
    if thought:
        found["thinking"] = thought
    if calls:
        found["tool_calls"] = calls
    return found


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def loaded(ask: Ask) -> dict[str, Any] | None:
    """The reply to a request without a prompt, by which clients have a model loaded; None for others."""
    if any(ask.prompts):
        return None
    reply = {"model": ask.model, "created_at": now(), "done": True, "done_reason": "load"}
    return reply | ask.extra["show"]("", "", [])


def counts(reply: Reply) -> dict[str, Any]:
    (g,) = reply.generations
    nanoseconds = {"prompt_eval_duration": g.prompt_seconds, "eval_duration": g.decode_seconds}
    times = {name: round(1e9 * seconds) for name, seconds in nanoseconds.items()}
    reason = "length" if finish_reason(g) == "length" else "stop"
    return {
        "done_reason": reason,
        "total_duration": sum(times.values()),
        "load_duration": 0,
        "prompt_eval_count": len(g.prompt_ids),
        "eval_count": len(g.token_ids),
    } | times


def call_of(call: dict[str, Any]) -> dict[str, Any]:
    """Arguments are an object here."""
    arguments = call["function"]["arguments"]
    arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    return {"id": call["id"], "function": {"name": call["function"]["name"], "arguments": arguments}}


async def chunks(ask: Ask, reply: Reply, service: Service) -> AsyncIterator[dict[str, Any]]:
    show = ask.extra["show"]
    async for _, news in reply:
        text = "".join(d.text for d in news.deltas if d.kind == "content")
        if ask.options.get("raw"):
            text = news.text
        thought = "".join(d.text for d in news.deltas if d.kind == "reasoning")
        calls = [call_of(d.call) for d in news.deltas if d.call is not None]
        logprobs = rated(service, ask, news.logprobs)
        if text or thought or calls or logprobs:
            shown = show(text, thought, calls) | logprobs
            yield {"model": ask.model, "created_at": now(), **shown, "done": False}
    yield {"model": ask.model, "created_at": now(), **show("", "", []), "done": True} | counts(reply)


async def whole_reply(ask: Ask, reply: Reply, service: Service) -> dict[str, Any]:
    await whole(reply)
    (g,) = reply.generations
    spoken, thought = g.message["content"], g.message.get("reasoning_content", "")
    calls = [call_of(call) for call in g.message.get("tool_calls", ())]
    shown = ask.extra["show"](g.text if ask.options.get("raw") else spoken, thought, calls)
    shown |= rated(service, ask, g.logprobs)
    return {"model": ask.model, "created_at": now(), **shown, "done": True} | counts(reply)


def rated(service: Service, ask: Ask, found: list[TokenLogprob]) -> dict[str, Any]:
    """Log probabilities, if they were asked for."""
    if ask.options.get("logprobs") is None or not found:
        return {}
    return {"logprobs": chat_logprobs(service.model.tokenizer, found)["content"]}


# ---- about the model


def details(service: Service) -> dict[str, Any]:
    metadata = service.model.text.file.metadata
    family = str(metadata.get("general.architecture", ""))
    return {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": f"{parameters(service) / 1e9:.2g}B",
        "quantization_level": quantization(service),
    }


def quantization(service: Service) -> str:
    """The file's type by name, such as Q4_K_M."""
    try:
        kind = LlamaFileType(int(service.model.text.file.metadata.get("general.file_type", -1)))
    except (TypeError, ValueError):
        return "unknown"
    return kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")


def parameters(service: Service) -> int:
    return sum(math.prod(t.shape) for t in service.model.text.file.tensors.values())


def tags(service: Service) -> dict[str, Any]:
    at = datetime.fromtimestamp(service.started, UTC).isoformat().replace("+00:00", "Z")
    return {
        "models": [
            {
                "name": name,
                "model": name,
                "modified_at": at,
                "size": service.model.path.stat().st_size if service.model.path.is_file() else 0,
                "digest": "",
                "details": details(service),
            }
            for name in service.names
        ]
    }


def running(service: Service) -> dict[str, Any]:
    """/api/ps: what is loaded is what there is."""
    more = {"expires_at": "0001-01-01T00:00:00Z", "size_vram": 0, "context_length": service.model.context}
    models = [model | more for model in tags(service)["models"]]
    return {"models": models}


def show(body: Any, service: Service) -> dict[str, Any]:
    fields = Fields(body)
    name = fields.take("model", "a text") or fields.take("name", "a text")
    if not name:
        fields.refuse("model", "is missing")
    service.check_name(name)
    fields.pass_by("name", "verbose", "system", "template", "options")
    fields.done()
    metadata = service.model.text.file.metadata
    short = {
        k: v
        for k, v in metadata.items()
        if isinstance(v, str | int | float) and not k.endswith("chat_template")
    }
    capabilities = ["completion", "tools", "thinking"] + ["vision"] * service.model.sees
    return {
        "modelfile": "",
        "parameters": "",
        "template": str(metadata.get("tokenizer.chat_template", "")),
        "details": details(service),
        "model_info": short | {"general.parameter_count": parameters(service)},
        "capabilities": capabilities,
    }
