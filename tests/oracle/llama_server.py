"""A llama-server that runs as long as a block does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import make

EXACT = "-ctk f32 -ctv f32 -fa off --no-repack --no-warmup -np 1 -t 1".split()
Ask = Callable[[str, dict[str, Any] | None], dict[str, Any]]


@contextmanager
def serve(model: Path, *options: object) -> Iterator[Ask]:
    """ask("/completion", {…}) or ask("/props", None) -> what the server answers."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [make.llama_bin() / "llama-server", "-m", model, "--port", port, *EXACT, *options]
    env = os.environ | {"LD_LIBRARY_PATH": str(make.llama_bin())}

    def ask(path: str, request: dict[str, Any] | None) -> dict[str, Any]:
        data = json.dumps(request).encode() if request is not None else None
        with urllib.request.urlopen(url + path, data, timeout=60) as answer:
            return json.loads(answer.read())

    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with subprocess.Popen(list(map(str, command)), env=env, **quiet) as process:
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(url + "/health", timeout=1).close()
                    break
                except OSError:
                    if process.poll() is not None:
                        raise RuntimeError(f"llama-server ended with status {process.returncode}") from None
                    time.sleep(0.1)
            yield ask
        finally:
            process.terminate()
