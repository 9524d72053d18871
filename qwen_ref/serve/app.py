"""The server's addresses, and what it lets in."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from qwen_ref.serve import ollama, openai
from qwen_ref.serve.errors import Problem
from qwen_ref.serve.fields import Fields, parse
from qwen_ref.serve.metrics import Metrics
from qwen_ref.serve.scheduler import Reply
from qwen_ref.serve.service import Ask, Service, Settings, problem_of

UPLOAD_SECONDS = 60
OPEN = ("/", "/health")  # to anyone who may reach the server; the rest needs the key, if there is one

Handler = Callable[[Request, Service], Awaitable[Response]]


# ---- who may ask


def is_own(host: str, hosts: tuple[str, ...]) -> bool:
    """Whether a Host header's name is this server's: an address, which no other site can stand for, or one of
    its names. Else a page elsewhere could have its own name lead here (DNS rebinding)."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        own = socket.gethostname().lower()
        return name.rstrip(".") in ("localhost", own, f"{own}.local", *map(str.lower, hosts))
    return True


class Guard:
    """Refuses what other sites' pages send, and who has no key."""

    def __init__(self, app: ASGIApp, settings: Settings):
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (problem := self._problem(Request(scope))):
            await problem_response(scope["path"], problem)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _problem(self, request: Request) -> Problem | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not is_own(host, self.settings.hosts):
            return Problem(403, f"Host: {host!r:.100} is no name of this server; --allow-host adds one")
        if origin is not None and origin not in self.settings.origins and urlsplit(origin).netloc != host:
            return Problem(403, f"Origin: pages of {origin!r:.100} may not ask; --allow-origin lets them")
        key = self.settings.api_key
        if key is not None and request.url.path not in OPEN and request.method != "OPTIONS":
            given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
            if not hmac.compare_digest(given.encode(), key.encode()):
                return Problem(401, "Authorization: is not 'Bearer' and this server's key")
        return None


# ---- requests in


async def read_json(request: Request, most: int) -> Any:
    """The body. Raises Problem if it is too large, too slow or no JSON."""
    too_large = Problem(413, f"the body: has more than {most:,} bytes")
    if (length := request.headers.get("content-length", "")).isdecimal() and int(length) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise Problem(408, f"the body: did not come within {UPLOAD_SECONDS} seconds") from None
    return parse("the body", body)


def problem_response(path: str, problem: Problem) -> Response:
    body = {"error": problem.message} if path.startswith("/api/") else openai.error_body(problem)
    headers = {} if problem.retry is None else {"Retry-After": str(problem.retry)}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, problem.status, headers)


# ---- replies out


async def stream(
    chunks: AsyncIterator[dict[str, Any]], path: str, form: Callable[[Any], str], end: str
) -> AsyncIterator[str]:
    """What a client reads; an error in the middle is the last thing it is told."""
    try:
        async for chunk in chunks:
            yield form(chunk)
    except Exception as error:
        problem = problem_of(error)
        yield form({"error": problem.message} if path.startswith("/api/") else openai.error_body(problem))
    yield end


def as_event(chunk: Any) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"


def as_line(chunk: Any) -> str:
    return f"{json.dumps(chunk, ensure_ascii=False)}\n"


async def unless_gone(request: Request, reply: Reply, whole: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """What `whole` comes to, unless the client leaves: then its answers stop."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    left, ready = asyncio.ensure_future(gone()), asyncio.ensure_future(whole)
    try:
        await asyncio.wait([left, ready], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            raise ClientDisconnect
        return ready.result()
    finally:
        reply.cancel()
        left.cancel()
        ready.cancel()


def client_of(request: Request) -> str:
    return request.client.host if request.client else ""


async def openai_answer(request: Request, service: Service, read: Any, whole: Any, chunks: Any) -> Response:
    ask: Ask = read(await read_json(request, service.settings.max_body), service)
    reply = await service.reply(ask, client_of(request))
    if ask.stream:
        text = stream(chunks(ask, reply, service), request.url.path, as_event, "data: [DONE]\n\n")
        return StreamingResponse(text, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
    return JSONResponse(await unless_gone(request, reply, whole(ask, reply, service)))


async def chat_completions(request: Request, service: Service) -> Response:
    return await openai_answer(request, service, openai.read_chat, openai.chat_reply, openai.chat_chunks)


async def completions(request: Request, service: Service) -> Response:
    forms = openai.read_completion, openai.completion_reply, openai.completion_chunks
    return await openai_answer(request, service, *forms)


async def ollama_answer(request: Request, service: Service, read: Any) -> Response:
    ask: Ask = read(await read_json(request, service.settings.max_body), service)
    if (loaded := ollama.loaded(ask)) is not None:
        return JSONResponse(loaded)
    reply = await service.reply(ask, client_of(request))
    if ask.stream:
        lines = stream(ollama.chunks(ask, reply, service), request.url.path, as_line, "")
        return StreamingResponse(lines, media_type="application/x-ndjson")
    return JSONResponse(await unless_gone(request, reply, ollama.whole_reply(ask, reply, service)))


async def ollama_chat(request: Request, service: Service) -> Response:
    return await ollama_answer(request, service, ollama.read_chat)


async def ollama_generate(request: Request, service: Service) -> Response:
    return await ollama_answer(request, service, ollama.read_generate)


async def ollama_show(request: Request, service: Service) -> Response:
    return JSONResponse(ollama.show(await read_json(request, service.settings.max_body), service))


async def ollama_tags(request: Request, service: Service) -> Response:
    return JSONResponse(ollama.tags(service))


async def ollama_ps(request: Request, service: Service) -> Response:
    return JSONResponse(ollama.running(service))


async def ollama_version(request: Request, service: Service) -> Response:
    return JSONResponse({"version": ollama.VERSION})


async def models(request: Request, service: Service) -> Response:
    return JSONResponse(openai.models(service))


async def one_model(request: Request, service: Service) -> Response:
    return JSONResponse(openai.model_card(request.path_params["name"], service))


async def tokenize(request: Request, service: Service) -> Response:
    """Of a text (llama-server's `content` or vLLM's `prompt`) or of messages, as they would be read."""
    fields = Fields(await read_json(request, service.settings.max_body))
    if (name := fields.take("model", "a text")) is not None:
        service.check_name(name)
    messages, tools = fields.take("messages", "a list"), fields.take("tools", "a list")
    messages = None if messages is None else openai.read_messages(messages)
    text = fields.take("content", "a text")
    text = fields.take("prompt", "a text") if text is None else text
    special = fields.take("parse_special", "true or false", default=True)
    pieces = fields.take("with_pieces", "true or false", default=False)
    fields.only("add_special", False, True)  # Qwen's models have none to add
    fields.done()
    if (text is None) == (messages is None):
        raise Problem(400, "content: give a text in it, or messages")
    tokenizer = service.model.tokenizer
    if text is not None:
        found = await asyncio.to_thread(tokenizer.encode, text, special=special)
    else:
        readable = await asyncio.to_thread(service.readable, messages)
        found = (await asyncio.to_thread(service.encode, readable, {"tools": tools})).token_ids
    tokens: list[Any] = found
    if pieces:
        tokens = [{"id": i, "piece": tokenizer.token_bytes(i).decode(errors="replace")} for i in found]
    return JSONResponse({"tokens": tokens, "count": len(found), "max_model_len": service.model.context})


async def detokenize(request: Request, service: Service) -> Response:
    fields = Fields(await read_json(request, service.settings.max_body))
    tokens = fields.need("tokens", "a list")
    fields.pass_by("model")
    fields.done()
    service.check_tokens("tokens", tokens)
    text = service.model.tokenizer.decode(tokens)
    return JSONResponse({"content": text, "prompt": text})


async def health(request: Request, service: Service) -> Response:
    return JSONResponse({"status": "ok"})


async def metrics(request: Request, service: Service) -> Response:
    text = request.app.state.metrics.text()
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


async def page(request: Request, service: Service) -> Response:
    """The page to chat on. Ollama's clients ask here whether somebody is there."""
    policy = (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    )
    headers = {"Content-Security-Policy": policy + "connect-src 'self'; base-uri 'none'; form-action 'none'"}
    return HTMLResponse(files("qwen_ref.serve").joinpath("page.html").read_text("utf-8"), headers=headers)


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/", page),
    ("GET", "/health", health),
    ("GET", "/metrics", metrics),
    ("GET", "/v1/models", models),
    ("GET", "/v1/models/{name:path}", one_model),
    ("POST", "/v1/chat/completions", chat_completions),
    ("POST", "/v1/completions", completions),
    ("POST", "/tokenize", tokenize),
    ("POST", "/detokenize", detokenize),
    ("POST", "/api/chat", ollama_chat),
    ("POST", "/api/generate", ollama_generate),
    ("POST", "/api/show", ollama_show),
    ("GET", "/api/tags", ollama_tags),
    ("GET", "/api/ps", ollama_ps),
    ("GET", "/api/version", ollama_version),
]


def create_app(service: Service) -> Starlette:
    metrics = Metrics(service.scheduler)
    service.on_answer = metrics.ended

    def endpoint(path: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                response = await handler(request, service)
            except ClientDisconnect:
                response = Response(status_code=499)
            except Exception as error:
                response = problem_response(request.url.path, problem_of(error))
            metrics.requests.labels(path, str(response.status_code)).inc()
            return response

        return answer

    routes = [Route(path, endpoint(path, handler), methods=[method]) for method, path, handler in ROUTES]
    guards = [Middleware(Guard, settings=service.settings)]
    if service.settings.origins:
        origins = service.settings.origins
        every = ["*"]
        guards.append(
            Middleware(CORSMiddleware, allow_origins=origins, allow_methods=every, allow_headers=every)
        )
    app = Starlette(routes=routes, middleware=guards, exception_handlers={404: no_such, 405: no_such})
    app.state.metrics = metrics
    return app


async def no_such(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    what = "there is no such address" if status == 404 else f"{request.method} is not for this address"
    response = problem_response(request.url.path, Problem(status, f"{request.url.path:.100}: {what}"))
    response.headers.update(getattr(error, "headers", None) or {})
    return response
