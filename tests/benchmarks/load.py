"""The server under load: throughput by clients, and what a crowd of all kinds of clients leaves behind.

python tests/benchmarks/load.py throughput MODEL     answers of 1, 2, 4, 8 clients, tokens a second together
python tests/benchmarks/load.py turns MODEL          seconds to the first token of 20 turns, and of an edited
                                                     last message of 4,000 tokens, beside llama-server
python tests/benchmarks/load.py crowd [MODEL]        32 clients for a minute: readers, slow ones, ones that
                                                     leave, broken and huge requests; statuses, memory
"""

from __future__ import annotations

import collections
import http.client
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
from make import llama_bin
from turns import conversation

CHAT = "/v1/chat/completions"
HEAD = {"Content-Type": "application/json"}


@contextmanager
def served(model: list[str], *options: str) -> Any:
    """Our server's process and its port."""
    command = [sys.executable, "-m", "qwen_ref", "serve", *model, "--name", "m", "--port", "0", *options]
    with listening(command, r"http://localhost:(\d+)") as server:
        yield server


@contextmanager
def llama_served(model: list[str], *options: str) -> Any:
    """And llama-server's. (Without --no-repack it crashes on processors with AMX.)"""
    folder = llama_bin()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [folder / "llama-server", "-m", *model, "--port", port]
    command += "-np 1 -t 2 -c 16384 --no-repack --jinja".split()
    env = os.environ | {"LD_LIBRARY_PATH": str(folder)}
    with listening([*map(str, command), *options], r"listening on http://127.0.0.1:(\d+)", env) as server:
        yield server


@contextmanager
def listening(command: list[str], line: str, env: Any = None) -> Any:
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
    assert process.stderr
    found = next(found for said in process.stderr if (found := re.search(line, said)))
    threading.Thread(target=process.stderr.read, daemon=True).start()
    try:
        yield process, int(found[1])
    finally:
        process.terminate()
        process.wait()


def post(port: int, body: Any, path: str = CHAT) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("localhost", port, timeout=600)
    connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body), HEAD)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, json.loads(data)


def together(port: int, clients: int, tokens: int, question: str) -> float:
    """Tokens a second of so many answers at once."""
    counts: list[int] = []

    def ask(n: int) -> None:
        messages = [{"role": "user", "content": f"{question} {n}"}]
        body = {"model": "m", "messages": messages, "max_tokens": tokens, "temperature": 1, "seed": n}
        counts.append(post(port, body)[1]["usage"]["completion_tokens"])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def throughput(model: list[str]) -> None:
    with served(model, "--parallel", "8") as (_, port):
        together(port, 1, 8, "Begin.")
        rates = collections.defaultdict(list)
        for _ in range(3):
            for clients in 1, 2, 4, 8:
                rates[clients].append(together(port, clients, 96, "Tell a story about number"))
        for clients, found in rates.items():
            times = sorted(found)[1] / sorted(rates[1])[1]
            print(f"{clients} clients: {', '.join(f'{r:.1f}' for r in found)} t/s; {times:.2f} times one's")


def first_token(port: int, messages: list[dict[str, Any]]) -> tuple[float, int, int]:
    """Seconds until an answer of one token, tokens of the prompt, and how many of them were kept."""
    asked = {"model": "m", "messages": messages, "max_tokens": 1, "temperature": 0}
    asked["chat_template_kwargs"] = {"enable_thinking": False}
    started = time.perf_counter()
    usage = post(port, asked)[1]["usage"]
    return (
        time.perf_counter() - started,
        usage["prompt_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"],
    )


def turns(model: list[str]) -> None:
    for name, serving in ("qwen_ref", served), ("llama-server", llama_served):
        with serving(model) as (_, port):
            first_token(port, conversation(0, 70, "Begin."))
            found = [first_token(port, conversation(turn, 70, "And what is next?")) for turn in range(20)]
            print(f"{name}, turn by turn: {' '.join(f'{seconds:.2f}' for seconds, _, _ in found)} s")
            print(f"  new tokens: {' '.join(str(tokens - kept) for _, tokens, kept in found)}", flush=True)
            long = [conversation(12, 85, f"What is shown in picture number {n}, and why?") for n in range(4)]
            for messages in long:
                seconds, tokens, kept = first_token(port, messages)
                print(f"  edited: {tokens} tokens, {kept} kept, {seconds:.2f} s", flush=True)


def resident(process: subprocess.Popen[str]) -> int:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) >> 10


class Crowd:
    def __init__(self, port: int, seconds: float):
        self.port, self.until = port, time.monotonic() + seconds
        self.seen: collections.Counter[str] = collections.Counter()
        self.known: dict[str, str] = {}

    def body(self, n: int, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": f"What is {n} + {n % 7}?"}]
        return {"model": "m", "messages": messages, "max_tokens": 16, "temperature": 0} | more

    def reader(self, r: random.Random) -> str:
        n = r.randrange(20)
        status, answer = post(self.port, self.body(n))
        if status != 200:
            return f"{status}"
        text = answer["choices"][0]["message"]["content"]
        return "right" if self.known.setdefault(str(n), text) == text else "ANOTHER'S ANSWER"

    def leaver(self, r: random.Random) -> str:
        data = json.dumps(self.body(1, max_tokens=2000, stream=True, temperature=5)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.port)) as s:
            s.sendall(head.encode() + data[: r.randrange(1, 2 * len(data))])
            time.sleep(r.random() / 5)
        return "left"

    def slow(self, r: random.Random) -> str:
        data = json.dumps(self.body(2, stream=True, max_tokens=64)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += f"Content-Length: {len(data)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.port)) as s:
            s.sendall(head.encode() + data)
            got = b""
            while piece := s.recv(64):
                got += piece
                time.sleep(0.005)
        return "slow, whole" if b"[DONE]" in got else f"slow, {got[9:12].decode()}"

    def broken(self, r: random.Random) -> str:
        data = bytearray(json.dumps(self.body(3)).encode())
        for _ in range(r.randrange(1, 4)):
            data[r.randrange(len(data))] = r.randrange(256)
        return f"broken, {post(self.port, bytes(data))[0]}"

    def huge(self, r: random.Random) -> str:
        text = "word " * (10 * 2**20 // 5)
        return f"10 MB, {post(self.port, self.body(4, messages=[{'role': 'user', 'content': text}]))[0]}"

    def client(self, number: int) -> None:
        r = random.Random(number)
        kinds = [self.reader] * 10 + [self.leaver] * 4 + [self.slow] * 2 + [self.broken] * 4
        while time.monotonic() < self.until:
            kind = self.huge if number == 0 else r.choice(kinds)
            try:
                self.seen[kind(r)] += 1
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.seen[f"{kind.__name__}: {type(error).__name__}"] += 1


def crowd(model: list[str]) -> None:
    with served(model, "--parallel", "8") as (process, port):
        for _ in range(3):
            group = Crowd(port, 20)
            threads = [threading.Thread(target=group.client, args=(n,)) for n in range(32)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print(f"{resident(process)} MiB private; {dict(sorted(group.seen.items()))}")
        print(post(port, group.body(1))[0], process.poll())


if __name__ == "__main__":
    {"throughput": throughput, "turns": turns, "crowd": crowd}[sys.argv[1]](sys.argv[2:])
