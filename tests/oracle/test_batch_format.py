"""Results of batches as OpenAI's own types and pyarrow read them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from openai.types import BatchError, Completion
from openai.types.chat import ChatCompletion

ABOUT = {"model": "tiny-Q4_K_M", "temperature": 0, "max_tokens": 9}
CHAT = ABOUT | {"messages": [{"role": "user", "content": "What is 2 + 3?"}]}


def batch(folder: Path, *arguments: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "qwen_ref", "batch", *arguments]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == status and "Traceback" not in ran.stderr, ran.stderr
    return ran.stderr


def by_id(path: Path) -> dict[str, Any]:
    return {result["custom_id"]: result for result in map(json.loads, path.read_text().splitlines())}


def test_results_have_openai_s_form(tmp_path: Path) -> None:
    asked = {
        "a": ("/v1/chat/completions", CHAT | {"logprobs": True, "top_logprobs": 2}),
        "b": ("/v1/completions", ABOUT | {"prompt": "one,", "logprobs": 1}),
        "c": ("/v1/chat/completions", CHAT | {"temperature": "hot"}),
    }
    lines = [{"custom_id": i, "method": "POST", "url": url, "body": body} for i, (url, body) in asked.items()]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    batch(tmp_path, "-i", "in.jsonl", "-o", "out.jsonl")
    found = by_id(tmp_path / "out.jsonl")
    assert {*found["a"]} == {"id", "custom_id", "response", "error"}
    assert {*found["a"]["response"]} == {"status_code", "request_id", "body"}
    ChatCompletion.model_validate(found["a"]["response"]["body"], strict=True)
    Completion.model_validate(found["b"]["response"]["body"], strict=True)
    error = BatchError.model_validate(found["c"]["error"], strict=True)
    assert error.message == found["c"]["response"]["body"]["error"]["message"]
    assert found["c"]["response"]["status_code"] == 400 and error.code == "invalid_request_error"


def test_parquet(tmp_path: Path) -> None:
    bodies = [None, json.dumps({"a": 1})]
    asked = {"custom_id": ["a", "b"], "prompt": ["What is 2 + 3?", None], "body": bodies}
    pq.write_table(pa.table(asked), tmp_path / "in.parquet")
    for said in "1 answered, 1 errors", "2 had a result":
        assert said in batch(tmp_path, "in.parquet", "-o", "out.parquet")
    rows = {row["custom_id"]: row for row in pq.read_table(tmp_path / "out.parquet").to_pylist()}
    assert rows["a"]["content"] and rows["a"]["completion_tokens"]
    assert rows["b"]["error"] == "model: is missing" and json.loads(rows["b"]["body"])["error"]
    assert len(by_id(tmp_path / "out.parquet.jsonl")) == 2
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    assert "bad.parquet: is no Parquet: " in batch(tmp_path, "bad.parquet", "-o", "x.jsonl", status=2)
