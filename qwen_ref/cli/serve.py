"""Answer over HTTP: OpenAI's API, Ollama's, and a page to chat on.

examples:
  python -m qwen_ref serve                                # the small model that ships with qwen_ref
  python -m qwen_ref serve model.gguf --name qwen3.5:9b   # then http://localhost:11434/ in a browser, or
  curl http://localhost:11434/v1/chat/completions -d '{"model": "qwen3.5:9b", "messages": [{"role": "user",
      "content": "Why is the sky blue?"}]}'
  python -m qwen_ref serve qwen3.5:0.8b --cache ~/.cache/turns    # goes on where it was after a restart
  python -m qwen_ref serve model.gguf --host 0.0.0.0 --api-key SECRET     # for the whole local network

Any client of OpenAI's API (base_url http://localhost:11434/v1) or of Ollama's speaks to it. docs/server.md
lists what each understands.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import ipaddress
import os
import socket
import sys
from typing import Any
from urllib.parse import urlsplit

from qwen_ref.cli.options import (
    MODEL_HELP,
    add_draft,
    add_keeping,
    add_memory_limit,
    add_names,
    add_request_media,
    add_resources,
    keeping_of,
    media_folder_of,
    names_of,
    resources_of,
    shipped_model,
)
from qwen_ref.cli.warmup import show_compiling
from qwen_ref.errors import QwenRefError

KEY = "QWEN_REF_API_KEY"
GRACE = 5.0  # seconds that answers have left when the server is stopped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help=MODEL_HELP)
    add_names(parser)
    address = parser.add_argument_group("who may ask")
    address.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address (127.0.0.1: this machine)"
    )
    address.add_argument(
        "--port", type=int, default=11434, metavar="N", help="port; Ollama's unless given, 0 is any (11434)"
    )
    address.add_argument("--api-key", metavar="KEY", help=f"a key that requests must have (or ${KEY})")
    address.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that this server has; repeatable",
    )
    address.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="URL",
        help="a site whose pages may ask, like http://localhost:3000; repeatable",
    )
    add_request_media(address)
    limits = parser.add_argument_group("how much")
    limits.add_argument(
        "--parallel", type=int, metavar="N", help="answers computed together (4, or as memory has room for)"
    )
    limits.add_argument("--queue", type=int, default=64, metavar="N", help="answers that may wait (64)")
    limits.add_argument(
        "--timeout", type=float, default=600, metavar="X", help="seconds that an answer may take (600)"
    )
    limits.add_argument("--max-tokens", type=int, default=32_768, metavar="N", help="of an answer (32768)")
    limits.add_argument("--max-body", type=int, default=32, metavar="MIB", help="size of a request (32)")
    limits.add_argument(
        "--context", type=int, metavar="N", help="longest prompt and answer (the model's own)"
    )
    add_keeping(limits)
    resources = parser.add_argument_group("resources")
    add_draft(resources)
    add_resources(resources)
    add_memory_limit(resources)


def check(args: argparse.Namespace) -> None:
    for name, least in ("parallel", 1), ("queue", 0), ("max_tokens", 1), ("max_body", 1), ("port", 0):
        if (value := getattr(args, name)) is not None and value < least:
            raise QwenRefError(f"--{name.replace('_', '-')}: {value} is not {least} or more")
    if args.port > 65535:
        raise QwenRefError(f"--port: {args.port} is not in 0 to 65535")
    if not args.timeout > 0:
        raise QwenRefError(f"--timeout: {args.timeout:g} is not more than 0")
    if args.api_key is not None and not args.api_key.isascii():
        raise QwenRefError("--api-key: has letters that a header cannot carry; take ASCII ones")
    for number, origin in enumerate(args.allow_origin):
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query:
            raise QwenRefError(f"--allow-origin: {origin!r:.100} is not like http://localhost:3000")
        args.allow_origin[number] = f"{parts.scheme}://{parts.netloc}".lower()
    for name in args.name:
        if not name.strip():
            raise QwenRefError("--name: is empty")


def listening(host: str, port: int) -> socket.socket:
    """A bound socket. Raises QwenRefError."""
    with contextlib.ExitStack() as stack:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            bound = stack.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except UnicodeError:
            raise QwenRefError(f"--host: {host!r:.100} is no address") from None
        except OSError as error:
            busy = error.errno == errno.EADDRINUSE
            hint = "; is Ollama, or another server, running? --port takes another" if busy else ""
            raise QwenRefError(f"--host {host} --port {port}: {error.strerror}{hint}") from None
        stack.pop_all()
    return bound


def url_of(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    name = "localhost" if ipaddress.ip_address(host).is_loopback else host
    if ipaddress.ip_address(host).is_unspecified:
        name = socket.gethostname()
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


def run(args: argparse.Namespace) -> int:
    check(args)
    media_folder = media_folder_of(args)
    try:
        import uvicorn

        from qwen_ref.serve.app import create_app
        from qwen_ref.serve.service import Service, Settings
    except ModuleNotFoundError as error:
        raise QwenRefError(f"the server needs {error.name}: pip install 'qwen_ref[serve]'") from None
    from qwen_ref.engine import load

    named, path = args.model, None
    if named is None:
        path = shipped_model()
    with listening(args.host, args.port) as bound:
        most, fewer = args.parallel or Settings().parallel, args.parallel is None
        model = load(path or named, **resources_of(args), **keeping_of(args), parallel=most, fewer=fewer)
        key = args.api_key or os.environ.get(KEY) or None
        names = names_of(args, model.path)
        settings = Settings(
            draft=args.draft,
            parallel=model.parallel,
            queue=args.queue,
            seconds=args.timeout,
            max_tokens=args.max_tokens,
            max_body=args.max_body << 20,
            remote_media=args.allow_remote_media,
            media_folder=media_folder,
            api_key=key,
            hosts=tuple(args.allow_host),
            origins=tuple(args.allow_origin),
        )
        service = Service(model, names, settings)
        model.warm_up(show_compiling, pictures=model.sees)
        config: dict[str, Any] = dict(log_level="warning", timeout_graceful_shutdown=int(GRACE) + 5)
        server = uvicorn.Server(uvicorn.Config(create_app(service), **config))
        leave = server.handle_exit

        def handle_exit(sig: int, frame: Any) -> None:
            service.scheduler.stop(GRACE)
            leave(sig, frame)

        server.handle_exit = handle_exit  # type: ignore[method-assign]
        bound.listen()  # who reads the next line may ask at once
        print(f"{', '.join(names)} at {url_of(bound)} (Ctrl-C stops)", file=sys.stderr, flush=True)
        if key is None and not ipaddress.ip_address(bound.getsockname()[0]).is_loopback:
            print("anyone in the network may ask: --api-key sets a key", file=sys.stderr)
        try:
            server.run(sockets=[bound])
        except KeyboardInterrupt:  # uvicorn raises the signal again when all is over
            pass
        finally:
            service.scheduler.stop(0)
            service.scheduler.join()
    return 0
