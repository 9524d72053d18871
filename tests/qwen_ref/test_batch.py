"""Batches: every request has one result, equal to a single answer, whatever stops the run and whenever."""

from __future__ import annotations

import asyncio
import builtins
import csv
import datetime
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

import qwen_ref
from qwen_ref.batch import answers, requests, tables
from qwen_ref.batch.batch import Batch
from qwen_ref.batch.results import Results
from qwen_ref.cli import main
from qwen_ref.cli.batch import Progress, lasting
from qwen_ref.engine import Model, plan
from qwen_ref.errors import QwenRefError
from qwen_ref.files import json_line
from qwen_ref.prompt import Rank
from qwen_ref.serve import openai

NAME = "tiny-Q4_K_M"
TINY = str(Path(__file__).parents[1] / "fixtures/tiny.gguf")  # has no MTP layer
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
GREEDY = {"temperature": 0, "presence_penalty": 0, "max_tokens": 16}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA = {"type": "object", "properties": {"answer": {"enum": [5, 6]}}}
SCHEMA |= {"required": ["answer"], "additionalProperties": False}
FORM = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}


def line(custom_id: str, text: Any = "What is 2 + 3?", url: str = CHAT, **body: Any) -> dict[str, Any]:
    messages = {"messages": [{"role": "user", "content": text}]} if url == CHAT else {"prompt": text}
    body = {"model": NAME} | messages | GREEDY | body
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_bytes().splitlines()]


def by_id(path: Path) -> dict[str | None, dict[str, Any]]:
    results = read(path)
    found = {result["custom_id"]: result for result in results}
    assert len(found) == len(results)
    return found


def said(result: dict[str, Any]) -> str:
    choice = result["response"]["body"]["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def plain(message: dict[str, Any]) -> dict[str, Any]:
    """Without the ids of calls, which are drawn."""
    calls = [call | {"id": ""} for call in message.get("tool_calls", ())]
    return message | {"tool_calls": calls}


@pytest.fixture(scope="module")
def model() -> Model:
    return qwen_ref.load(keep=1 << 26)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """`batch` in a folder of the test: its exit status and what it says but for the model's name."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        status = main(["batch", *arguments])
        return status, "".join(
            t for t in capfd.readouterr().err.splitlines(True) if not t.startswith("no --model")
        )

    yield call


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for name, colour in ("b.png", "red"), ("more/a b#1.png", "blue"):
        image = Image.new("RGB", (96, 96), "white")
        ImageDraw.Draw(image).ellipse((20, 20, 76, 76), fill=colour)
        image.save(folder / name)
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("none either")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


# ---- answers


def test_results_are_single_answers(run: Any, tmp_path: Path, pictures: Path, model: Model) -> None:
    """Of text, tools, schemas and pictures, each by itself; and OpenAI's types take them."""
    picture = {"type": "image_url", "image_url": {"url": (pictures / "b.png").as_uri()}}
    asked = [
        line("text"),
        line("system", [{"type": "text", "text": "Hello"}]),
        line("tools", "What is the weather in Oslo?", tools=[TOOL], tool_choice="required", max_tokens=60),
        line("schema", response_format=FORM),
        line("picture", [picture, {"type": "text", "text": "What is this?"}]),
        line("two", n=2, logprobs=True),
        line("raw", "one, two,", url=TEXT),
    ]
    write(tmp_path / "in.jsonl", asked)
    status, told = run("in.jsonl", "-o", "out.jsonl", "--allowed-local-media-path", "pictures")
    assert status == 0 and "7 requests: 7 answered, 0 errors; " in told and "tokens/s" in told
    found = by_id(tmp_path / "out.jsonl")
    for request in asked:
        body, result = request["body"], found[request["custom_id"]]
        assert result["error"] is None and result["response"]["status_code"] == 200
        options = dict(temperature=0, presence_penalty=0, max_tokens=body["max_tokens"])
        if "messages" in body:
            for name in "tools", "tool_choice":
                if name in body:
                    options[name] = body[name]
            if "response_format" in body:
                options["schema"] = SCHEMA
            single = model.generate(body["messages"], **options)
            "".join(single)
            for choice in result["response"]["body"]["choices"]:
                assert plain(choice["message"]) == plain(openai.message_of(single))
        else:
            single = model.generate(body["prompt"], raw=True, special=True, **options)
            assert said(result) == "".join(single)
    call = found["tools"]["response"]["body"]["choices"][0]["message"]["tool_calls"][0]["function"]
    assert call["name"] == "get_weather" and "city" in json.loads(call["arguments"])
    assert "answer" in json.loads(said(found["schema"]))
    assert len(found["two"]["response"]["body"]["choices"]) == 2
    fingerprints = {result["response"]["body"]["system_fingerprint"] for result in found.values()}
    assert fingerprints == {qwen_ref.load().fingerprint} and fingerprints != {
        qwen_ref.load(context=512).fingerprint
    }


def test_what_requests_share_is_read_once(run: Any, tmp_path: Path) -> None:
    asked = [line(str(n), f"What is {n} + 3?", tools=[TOOL]) for n in range(8)]
    write(tmp_path / "in.jsonl", asked)
    assert run("in.jsonl", "-o", "out.jsonl", "--parallel", "4")[0] == 0
    cached = [
        r["response"]["body"]["usage"]["prompt_tokens_details"]["cached_tokens"]
        for r in read(tmp_path / "out.jsonl")
    ]
    assert sorted(cached)[:2][0] == 0 < sorted(cached)[1]


BAD = {
    "no JSON": "line 1: is no JSON: ",
    "[1]": "line 1: is not a JSON object",
    '{"custom_id": 7}': "line 1: custom_id: 7 is not a text",
    "{}": "line 1: custom_id: is missing",
    "[" * 100_000: "line 1: is nested too deeply",
    '{"custom_id": "a", "url": "/v1/embeddings", "body": {}}': "url: '/v1/embeddings' is not one of /v1/chat",
    '{"custom_id": "a", "url": "/v1/completions"}': "body: is missing",
    '{"custom_id": "a", "body": {}}': "url: is missing",
    json.dumps(line("a") | {"method": "GET"}): "method: 'GET' is not supported",
    json.dumps(line("a") | {"tag": 1}): "tag: is no field that is known here",
    json.dumps(line("a", model="gpt-9")): f"model: 'gpt-9' is not here; there is {NAME}",
    json.dumps(line("a", stream=True)): "stream: in a batch every answer comes whole",
    json.dumps(line("a", top_p=2)): "top_p: ",
    json.dumps(line("a", [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}])): (
        "message 1: part 1: image: 'file:///etc/passwd' is no data: URI, and no file:///… URL in a "
        "folder that --allowed-local-media-path names"
    ),
}


def test_bad_lines_have_an_error(run: Any, tmp_path: Path) -> None:
    """Each in a file of its own, in which the line behind it is answered; another start changes nothing."""
    for number, (bad, sentence) in enumerate(BAD.items()):
        source = write(tmp_path / f"{number}.jsonl", [bad, "", line("good", max_tokens=1)])
        out = f"{number}.out"
        status, told = run(source.name, "-o", out)
        assert status == 0 and "2 requests: 1 answered, 1 errors" in told
        found = by_id(tmp_path / out)
        [error] = [result for result in found.values() if result["error"]]
        assert error["error"]["message"].startswith(sentence), bad[:80]
        assert error["custom_id"] == (None if sentence.startswith("line 1") else "a")
        assert 400 <= error["response"]["status_code"] < 500
        before = (tmp_path / out).read_bytes()
        assert "2 had a result, 0 answered, 0 errors" in run(source.name, "-o", out)[1]
        assert (tmp_path / out).read_bytes() == before


def test_of_two_with_one_id_the_second_is_refused(run: Any, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [line("a", max_tokens=1), line("a", "Else"), line("a", max_tokens=1)])
    for had in "", "3 had a result, ":
        status, told = run("in.jsonl", "-o", "out.jsonl")
        assert status == 0 and had in told
    results = read(tmp_path / "out.jsonl")
    assert sorted(r["error"]["message"] for r in results if r["error"]) == [
        f"line {n}: custom_id: 'a' has come before" for n in (2, 3)
    ]
    assert [r["custom_id"] for r in results if not r["error"]] == ["a"]


def test_a_line_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "LONGEST", 300)
    long = "x" * 1000
    source = write(tmp_path / "in.jsonl", [line("a"), long, line("b")])
    for end in "\n", "":
        source.write_text(source.read_text().rstrip("\n") + end)
        found = [request for _, request in requests.from_lines(source)]
        assert [request.custom_id for request in found] == ["a", None, "b"]
        assert found[1].problem is not None and "line 2: has more than 300 bytes" in str(found[1].problem)
    source.write_text(long)
    assert len([*requests.from_lines(source)]) == 1


def test_pictures_of_a_folder_that_is_named(run: Any, tmp_path: Path, pictures: Path) -> None:
    """And of no other, by whatever way it is named."""
    shutil.copytree(pictures, tmp_path / "picturesx")
    (pictures / "out.png").symlink_to(shutil.copy(pictures / "b.png", tmp_path / "secret.png"))
    urls = [
        (pictures / "more/a b#1.png").as_uri(),
        (tmp_path / "secret.png").as_uri(),
        f"file://{pictures}/../secret.png",
        (pictures / "out.png").as_uri(),
        f"file://{pictures}x/b.png",
        "file://%00",
        "file://elsewhere/b.png",
    ]
    asked = [
        line(str(n), [{"type": "image_url", "image_url": {"url": url}}], max_tokens=1)
        for n, url in enumerate(urls)
    ]
    write(tmp_path / "in.jsonl", asked)
    assert run("in.jsonl", "-o", "out.jsonl", "--allowed-local-media-path", "pictures")[0] == 0
    found = by_id(tmp_path / "out.jsonl")
    assert [found[str(n)]["error"] is None for n in range(len(urls))] == [True] + 6 * [False]
    assert found["1"]["error"]["message"].endswith("secret.png' is not in pictures")


def test_a_folder_of_pictures(run: Any, tmp_path: Path, pictures: Path, model: Model) -> None:
    options = ["--prompt", "What is this?", "--greedy", "-n", "20", "--system", "Be brief.", "--no-thinking"]
    status, told = run("--images", "pictures", "-o", "out.jsonl", *options)
    assert status == 0 and "3 requests: 2 answered, 1 errors" in told
    found = by_id(tmp_path / "out.jsonl")
    assert {*found} == {"b.png", "broken.jpg", "more/a b#1.png"}
    assert "broken.jpg" in found["broken.jpg"]["error"]["message"]
    single = model.generate(
        "What is this?",
        images=[pictures / "b.png"],
        system="Be brief.",
        thinking=False,
        temperature=0,
        presence_penalty=0,
        max_tokens=20,
    )
    assert said(found["b.png"]) == "".join(single)
    (pictures / "b.png").rename(tmp_path / "c.png")  # one is gone, and one has come, by a link
    (pictures / "c.png").symlink_to(tmp_path / "c.png")
    shutil.copy(pictures / "c.png", pictures / "broken.jpg")
    status, told = run("--images", "pictures", "-o", "out.jsonl", *options, "--retry-errors")
    assert "3 requests: 1 had a result, 2 answered, 0 errors" in told
    assert len(by_id(tmp_path / "out.jsonl")) == 4
    assert "other" not in told and run("--images", "pictures", "-o", "out.jsonl", *options[:-1])[0] == 2


def test_pictures_whose_names_are_not_text(run: Any, tmp_path: Path, pictures: Path) -> None:
    shutil.copy(pictures / "b.png", pictures / "latin \udcff.png")
    (pictures / "broken.jpg").rename(pictures / "broken \udcff.jpg")
    for out in "out.jsonl", "out.csv":
        status, told = run("--images", "pictures", "-o", out, "--prompt", "What?", "-n", "1")
        assert status == 0 and "4 requests: 3 answered, 1 errors" in told
    (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    found = by_id(tmp_path / "out.jsonl")
    assert found["latin \udcff.png"]["error"] is None
    told = found["broken \udcff.jpg"]["error"]["message"]
    assert f"{pictures}/broken \\udcff.jpg: is not an image" in told


def test_what_names_no_picture_says_how(run: Any, tmp_path: Path, pictures: Path) -> None:
    """Whether or not a folder was named."""
    urls = str(pictures / "b.png"), "b.png", f"file:{pictures}/b.png", "ftp://x/b.png"
    asked = [line(url, [{"type": "image_url", "image_url": {"url": url}}]) for url in urls]
    write(tmp_path / "in.jsonl", asked)
    for number, options in enumerate(([], ["--allowed-local-media-path", "pictures"])):
        assert run("in.jsonl", "-o", f"{number}.jsonl", *options)[0] == 0
        for url, found in by_id(tmp_path / f"{number}.jsonl").items():
            told = "is no data: URI, and no file:///… URL in a folder that --allowed-local-media-path names"
            assert found["error"]["message"] == f"message 1: part 1: image: {url!r:.80} {told}"


# ---- going on


COMMAND = [sys.executable, "-m", "qwen_ref", "batch", "in.jsonl", "-o", "out.jsonl", "--parallel", "4"]


def started(folder: Path, **options: Any) -> subprocess.Popen[str]:
    process = subprocess.Popen(COMMAND, cwd=folder, stderr=subprocess.PIPE, text=True, **options)
    return process


def until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come about within 30 seconds")


def length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def grows(process: subprocess.Popen[str], out: Path, size: int) -> None:
    until(lambda: length(out) >= size or process.poll() is not None)


def killed(folder: Path, times: int, seed: int) -> None:
    """Kill it so many times after a few more results, and see what is there; then let it end."""
    random.seed(seed)
    asked, out = len(read(folder / "in.jsonl")), folder / "out.jsonl"
    for _ in range(times):
        before = length(out)
        with started(folder) as process:
            grows(process, out, before + random.choice([1, 2000, 6000]))
            time.sleep(random.random() / 10)
            process.kill()
            assert process.stderr and process.wait() in (-signal.SIGKILL, 0), process.stderr.read()
        data = out.read_bytes()
        whole = [json.loads(text) for text in data[: data.rfind(b"\n") + 1].splitlines()]
        assert len({result["custom_id"] for result in whole}) == len(whole)
    with started(folder) as process:
        assert process.wait() == 0
    assert len(by_id(out)) == asked


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_it_goes_on(tmp_path: Path, times: int, model: Model) -> None:
    write(tmp_path / "in.jsonl", [line(f"{n}", f"What is {n} + 4?") for n in range(16 * times)])
    killed(tmp_path, times, seed=times)
    for n in 0, 16 * times - 1:
        single = model.generate(f"What is {n} + 4?", temperature=0, presence_penalty=0, max_tokens=16)
        "".join(single)
        assert said(by_id(tmp_path / "out.jsonl")[str(n)]) == single.message["content"]


def test_interrupted_it_says_so_and_keeps_what_is_done(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [line(f"{n}", "Tell me a story.", max_tokens=200) for n in range(200)])
    with started(tmp_path) as process:
        until(lambda: length(tmp_path / "out.jsonl") > 0)
        with started(tmp_path) as other:  # while one writes
            assert other.stderr and "out.jsonl: another process is writing it" in other.stderr.read()
            assert other.wait() == 2
        process.send_signal(signal.SIGINT)
        assert process.stderr
        told = process.stderr.read()
        assert process.wait() == 130
    results = by_id(tmp_path / "out.jsonl")
    assert f"out.jsonl: {len(results)} of 200 have a result; the same command goes on" in told
    assert "Traceback" not in told and 0 < len(results) < 200


def test_a_full_disk(run: Any, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [line(f"{n}", max_tokens=1) for n in range(12)])

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    with started(tmp_path, preexec_fn=small, env=os.environ | {"NUMBA_CACHE_DIR": "x"}) as process:
        assert process.stderr
        told = process.stderr.read()
        assert process.wait() == 2, told
    assert "out.jsonl: cannot be written: File too large; what is there stays, and the same command" in told
    assert "Traceback" not in told
    before = (tmp_path / "out.jsonl").read_bytes()
    assert before.endswith(b"}\n") and 0 < len(by_id(tmp_path / "out.jsonl")) < 12
    assert run("in.jsonl", "-o", "out.jsonl", "--parallel", "4")[0] == 0
    assert len(by_id(tmp_path / "out.jsonl")) == 12
    assert (tmp_path / "out.jsonl").read_bytes().startswith(before)


def result(custom_id: str, **changes: Any) -> dict[str, Any]:
    request = requests.made(custom_id, CHAT, {"text": custom_id})
    return answers.result_of(request, 200, {"system_fingerprint": "fp_1", "usage": {}}) | changes


def opened(path: Path, fingerprint: str = "fp_1", **options: Any) -> Results:
    """As a start that has come to its results, or to its end. Nothing is changed before."""
    before = path.read_bytes()
    results = Results(path, fingerprint, **options)
    assert path.read_bytes() == before
    results.begin()
    results.close()
    return results


def test_a_start_that_fails_changes_nothing(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was to become of a file that is there; and none is left that was not there."""
    write(tmp_path / "in.jsonl", [line("a"), line("b")])
    [a, _] = [request for _, request in requests.from_lines(tmp_path / "in.jsonl")]
    before = json_line(answers.result_of(a, 200, {}, {"message": "why"})) + b'{"id": "batch_req_torn'
    (tmp_path / "there.jsonl").write_bytes(before)

    def fails(*arguments: Any, **options: Any) -> None:
        raise QwenRefError("no room")

    monkeypatch.setattr(Model, "warm_up", fails)
    for source, sentence in ("in.jsonl", "no room"), ("none.jsonl", "none.jsonl: cannot be read"):
        for out in "there.jsonl", "new.jsonl", "new.csv":
            for options in [], ["--overwrite"], ["--retry-errors"]:
                status, told = run(source, "-o", out, *options)
                assert status == 2 and sentence in told
        assert (tmp_path / "there.jsonl").read_bytes() == before
        assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "there.jsonl"}


@pytest.mark.parametrize("option", ["--overwrite", "--retry-errors"])
def test_what_is_to_go_stays_until_there_is_a_result(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """Where nothing was asked, where nothing could be answered, and where nothing can be written."""
    write(tmp_path / "in.jsonl", [line("a", top_p=7)])
    write(tmp_path / "none.jsonl", [])
    for out in "out.jsonl", "out.csv":
        assert run("in.jsonl", "-o", out)[0] == 0
    folder = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def short(body: Any, service: Any) -> None:
        raise MemoryError

    for out in "out.jsonl", "out.csv":
        if option == "--overwrite":
            assert run("none.jsonl", "-o", out, option)[0] == 0
            assert run("none.jsonl", "-o", "new.jsonl", option)[0] == 0
            (tmp_path / "new.jsonl").unlink()  # it was made
            (tmp_path / "out.csv.jsonl").write_text("my notes")  # is no table
            assert run("none.jsonl", "-o", "out.csv", option)[0] == 0
            (tmp_path / "out.csv.jsonl").write_bytes(folder["out.csv.jsonl"])
        with monkeypatch.context() as patch:
            patch.setitem(openai.ANSWERED, CHAT, (short, openai.chat_reply))
            assert run("in.jsonl", "-o", out, option)[0] == 1
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == folder
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name in "out.jsonl", "new.jsonl":
        results = Results(
            tmp_path / name,
            qwen_ref.load().fingerprint,
            overwrite=option == "--overwrite",
            retry_errors=option == "--retry-errors",
        )
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # a full disk
        try:
            with pytest.raises(QwenRefError, match=f"{name}: cannot be written: File too large"):
                results.append(result("b"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            results.close()
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == folder


def test_results_at_the_end_of_a_link(tmp_path: Path) -> None:
    """It stays a link, to a file that is not there where nothing came."""
    link, out = tmp_path / "link.jsonl", tmp_path / "out.jsonl"
    link.symlink_to(out.name)
    Results(link, "fp_1").close()
    assert link.is_symlink() and not out.exists()
    write(out, [result("a"), result("b", error={"message": "why"})])
    out.chmod(0o600)
    for options, kept in ({"retry_errors": True}, {"a", "b", "c"}), ({"overwrite": True}, {"b", "c"}):
        results = Results(link, "fp_1", **options)
        results.append(result("b"))
        with pytest.raises(QwenRefError, match="another process is writing it"):
            Results(out, "fp_1")
        results.append(result("c"))
        results.close()
        assert link.is_symlink() and {*by_id(out)} == kept and out.stat().st_mode & 0o777 == 0o600


def test_a_torn_line_is_taken_off(tmp_path: Path) -> None:
    out = write(tmp_path / "out.jsonl", [result("a"), result("b")])
    whole = out.read_bytes()
    cut = whole.index(b"\n") + 1
    for end in (*range(cut, cut + 30), len(whole) - 2):
        out.write_bytes(whole[:end])
        assert len(opened(out).done) == 1 and out.read_bytes() == whole[:cut]
    out.write_bytes(whole[: cut + 40] + bytes(500))  # as a file may end after a power cut
    assert len(opened(out).done) == 1 and out.read_bytes() == whole[:cut]
    out.write_bytes(whole[:-1])  # an editor has taken the line's end
    assert len(opened(out).done) == 2 and out.read_bytes() == whole
    out.write_bytes(whole[:cut] + b'{"id": "batch_req_' + b"x" * 200_000)
    assert len(opened(out).done) == 1 and out.read_bytes() == whole[:cut]
    for end in cut - 1, cut + 30:
        out.write_bytes(whole[:end])
        results = Results(out, "fp_1")
        results.append(result("b"))
        results.close()
        assert out.read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"my notes", "its end is no result of a batch; --overwrite begins anew"),
        (b'["my notes"]', "line 1 is no result of a batch"),
        (b"my notes\n", "line 1 is no result of a batch"),
        (json.dumps(line("a")).encode() + b"\n", "line 1 is no result of a batch"),
        (json.dumps(result("a")).encode() + b"\n\n", "line 2 is no result of a batch"),
        (json.dumps(result("a", error=None, response=None)).encode() + b"\n", "line 1 is no result"),
        (
            json.dumps(result("a")).replace("fp_1", "fp_2").encode() + b"\n",
            "its answers are another model's, or were computed with other options (fp_2, and now it is fp_1)",
        ),
    ],
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: bytes, sentence: str) -> None:
    out = tmp_path / "out.jsonl"
    out.write_bytes(content)
    with pytest.raises(QwenRefError) as found:
        opened(out)
    assert sentence in str(found.value)
    assert out.read_bytes() == content
    assert not opened(out, overwrite=True).done and out.read_bytes() == content
    results = Results(out, "fp_1", overwrite=True)
    results.append(result("b"))
    results.close()
    assert out.read_bytes() == json_line(result("b"))


def test_results_of_other_requests(run: Any, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [line("a", max_tokens=1), line("b", max_tokens=1)])
    assert run("in.jsonl", "-o", "out.jsonl")[0] == 0
    before = (tmp_path / "out.jsonl").read_bytes()
    write(tmp_path / "in.jsonl", [line("a", "Else", max_tokens=1), line("b", max_tokens=1)])
    asks = "out.jsonl: 'a' was answered when it asked something else than it does in in.jsonl; --overwrite"
    for asked, sentence in (
        ([line("a", "Else", max_tokens=1), line("b", max_tokens=1)], asks),
        ([line("c")], "out.jsonl: its 2 results are of no request in in.jsonl; --overwrite begins anew"),
    ):
        write(tmp_path / "in.jsonl", asked)
        status, told = run("in.jsonl", "-o", "out.jsonl")
        assert status == 2 and sentence in told and (tmp_path / "out.jsonl").read_bytes() == before
    status, told = run("in.jsonl", "-o", "out.jsonl", "--context", "600", "--overwrite")
    assert status == 0 and {*by_id(tmp_path / "out.jsonl")} == {"c"}
    status, told = run("in.jsonl", "-o", "out.jsonl")
    assert status == 2 and "another model's, or were computed with other options" in told
    status, told = run("in.jsonl", "-o", "out.jsonl", "--context", "600", "--cache-type-v", "q8_0")
    assert status == 2 and "another model's, or were computed with other options" in told
    before = (tmp_path / "out.jsonl").read_bytes()
    status, told = run("none.jsonl", "-o", "out.jsonl", "--overwrite")
    assert status == 2 and "none.jsonl: cannot be read" in told
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_more_requests_and_mended_ones(run: Any, tmp_path: Path) -> None:
    """Fields may change their order; errors are tried again, and answers stay."""
    write(tmp_path / "in.jsonl", [line("a"), line("b", top_p=7)])
    told = run("in.jsonl", "-o", "out.jsonl")[1]
    assert "1 answered, 1 errors" in told and "the first error, of 'b': top_p: 7 is not in " in told
    (kept,) = [text for text in (tmp_path / "out.jsonl").read_text().splitlines() if '"a"' in text]
    turned = dict(reversed(line("a").items()))
    turned["body"] = dict(reversed(line("a")["body"].items()))
    write(tmp_path / "in.jsonl", [line("c"), turned, line("b", top_p=0.7)])
    status, told = run("in.jsonl", "-o", "out.jsonl")
    assert status == 2 and "'b' was answered when it asked something else than it does in in.jsonl; " in told
    assert told.endswith("; --retry-errors takes errors out\n")
    status, told = run("in.jsonl", "-o", "out.jsonl", "--retry-errors")
    assert status == 0 and "3 requests: 1 had a result, 2 answered, 0 errors" in told
    assert kept in (tmp_path / "out.jsonl").read_text().splitlines()
    assert {*by_id(tmp_path / "out.jsonl")} == {"a", "b", "c"}


def test_broken_lines_that_move_and_are_mended(run: Any, tmp_path: Path) -> None:
    """Each has one error, wherever it stands; --retry-errors takes out those of lines that are no more, and
    says so where they are all that is there."""
    out, retry = tmp_path / "out.jsonl", "--retry-errors"
    bad, good = ["{bad", "{bad", "{bad", "[1]"], line("a", max_tokens=1)
    for lines, new in ((bad, 4), (["", *bad, good], 1), (["{new", *reversed(bad), good], 1)):
        write(tmp_path / "in.jsonl", lines)
        status, told = run("in.jsonl", "-o", "out.jsonl")
        assert status == 0 and (new == 4 or f" {len(read(out)) - new:,} had a result" in told)
    assert len(read(out)) == len({r["id"] for r in read(out)}) == 6
    write(tmp_path / "in.jsonl", [good, line("b", max_tokens=1), "{new"])
    assert run("in.jsonl", "-o", "out.jsonl")[0] == 0 and len(read(out)) == 7
    write(tmp_path / "in.jsonl", [good, line("b", max_tokens=1)])
    before, empty = out.read_bytes(), write(tmp_path / "empty.jsonl", []).name
    assert run("in.jsonl", "-o", "out.jsonl")[0] == 0 and out.read_bytes() == before
    run(empty, "-o", "out.jsonl", retry)
    assert out.read_bytes() == before
    status, told = run("in.jsonl", "-o", "out.jsonl", retry)
    assert status == 0 and "2 requests: 2 had a result, 0 answered" in told
    assert out.read_bytes().splitlines() == [text for text in before.splitlines() if b'"error": null' in text]
    write(tmp_path / "in.jsonl", ["{bad"])
    assert run("in.jsonl", "-o", "other.jsonl")[0] == run(empty, "-o", "other.jsonl", retry)[0] == 0
    assert len(read(tmp_path / "other.jsonl")) == 1  # nothing was asked
    write(tmp_path / "in.jsonl", [good])
    status, told = run("in.jsonl", "-o", "other.jsonl")
    assert status == 2 and "its 1 results are of no request in in.jsonl; --retry-errors takes errors" in told
    assert run("in.jsonl", "-o", "other.jsonl", retry)[0] == 0 and {*by_id(tmp_path / "other.jsonl")} == {"a"}


def test_two_files_of_results_put_together(tmp_path: Path) -> None:
    for second in result("a"), result("a", error={"message": "why"}), result("a", id="batch_req_other"):
        out = write(tmp_path / "out.jsonl", [result("a"), result("b"), second])
        with pytest.raises(QwenRefError, match=r"out\.jsonl: line 3 is a second result of 'a'; take out one"):
            opened(out)
        if second["error"]:
            assert len(opened(out, retry_errors=True).done) == 2


def test_what_passes_is_no_result(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again at the end, and by the next start."""
    write(tmp_path / "in.jsonl", [line("a"), line("b"), line("c", top_p=7)])
    tried, read_chat = list[str](), openai.read_chat

    def read(body: Any, service: Any) -> Any:
        if "top_p" not in body:
            tried.append("")
            if len(tried) in (1, 3) or short:
                raise ZeroDivisionError if len(tried) == 2 else MemoryError
        return read_chat(body, service)

    monkeypatch.setitem(openai.ANSWERED, CHAT, (read, openai.chat_reply))
    short = True
    status, told = run("in.jsonl", "-o", "out.jsonl")
    assert status == 1 and "3 requests: 0 answered, 1 errors" in told and len(tried) == 4
    assert "2 could not be answered now, as 'a' (not enough memory for this answer); the same command" in told
    tried.clear()
    short = False
    status, told = run("in.jsonl", "-o", "out.jsonl")
    assert status == 1 and "1 had a result, 1 answered" in told and len(tried) == 3
    status, told = run("in.jsonl", "-o", "out.jsonl")
    assert status == 0 and len(by_id(tmp_path / "out.jsonl")) == 3


def test_half_a_character(tmp_path: Path) -> None:
    """JSON can spell it, in a custom_id too; UTF-8 cannot."""
    out, name = tmp_path / "out.jsonl", "\ud800 ü"
    results = Results(out, "fp_1")
    results.append(result(name))
    results.append(result("ü"))
    results.close()
    assert [*by_id(out)] == [name, "ü"] and "ü".encode() in out.read_bytes()
    assert requests.made(name, CHAT, {}).key in opened(out).done


# ---- tables


def test_a_table_of_prompts(run: Any, tmp_path: Path, model: Model) -> None:
    (tmp_path / "in.csv").write_text('custom_id,prompt\na,What is 2 + 3?\nb,"one,\ntwo"\n,none\nd,\n')
    status, told = run("in.csv", "-o", "out.csv", "--greedy", "-n", "16")
    assert status == 0 and "out.csv: 4 requests: 2 answered, 2 errors" in told
    firsts = "the first error: row 3: custom_id: is missing", "the first error, of 'd': prompt: is empty"
    assert any(first in told for first in firsts)  # whichever comes first
    with open(tmp_path / "out.csv", newline="") as file:
        rows = {row["custom_id"]: row for row in csv.DictReader(file)}
    single = model.generate("What is 2 + 3?", temperature=0, presence_penalty=0, max_tokens=16)
    assert rows["a"]["content"] == "".join(single) and rows["a"]["status_code"] == "200"
    assert rows[""]["error"] == "row 3: custom_id: is missing" and json.loads(rows["b"]["body"])["choices"]
    assert rows["d"]["error"] == "prompt: is empty"
    assert "4 had a result" in run("in.csv", "-o", "out.csv", "--greedy", "-n", "16")[1]


def test_what_tables_have_and_text_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a character in a name, and of Parquet bodies and names of any kind."""
    lines, body = tmp_path / "out.csv.jsonl", line("a")["body"]
    lines.write_bytes(json_line(result("caf\udce9.png", error={"message": "why"})))
    tables.write(lines, tmp_path / "out.csv")
    assert "caf\\udce9.png" in (tmp_path / "out.csv").read_text()
    rows = [{"custom_id": name, "body": given} for name, given in (("a", body), (b"\xff", body), ("c", 3))]
    monkeypatch.setattr(tables, "rows", lambda path: iter(rows))
    a, b, c = (request for _, request in requests.from_table(tmp_path, lambda *_: {}))
    assert (a.problem, a.body) == (None, body)
    assert b.problem and b.problem.message.startswith("row 2: custom_id: ")
    assert c.problem and "body: " in c.problem.message


def test_a_table_of_bodies(run: Any, tmp_path: Path) -> None:
    rows = [["custom_id", "url", "body"], ["a", "", json.dumps(line("a")["body"])], ["b", TEXT, "{"]]
    rows.append(["c", TEXT, json.dumps(line("c", "one,", url=TEXT)["body"])])
    with open(tmp_path / "in.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert "2 answered, 1 errors" in run("in.csv", "-o", "out.jsonl")[1]
    errors = [r["error"]["message"] for r in read(tmp_path / "out.jsonl") if r["error"]]
    assert len(errors) == 1 and errors[0].startswith("body: is no JSON")


def test_a_row_that_is_wrong_keeps_its_name(tmp_path: Path) -> None:
    """Its id is of all that it says, so that it is known when it was mended."""
    rows = ["a,,,{bad", f"b,{TEXT},Hello,", "c,,,{worse", ",,,{bad", "e,,Hello,{}"]
    (tmp_path / "in.csv").write_text("\n".join(["custom_id,url,prompt,body", *rows]))
    found = [r for _, r in requests.from_table(tmp_path / "in.csv", lambda *_: {})]
    assert [request.custom_id for request in found] == ["a", "b", "c", None, "e"]
    told = [str(request.problem) for request in found]
    assert told[0].startswith("body: is no JSON") and told[3].startswith("row 4: body: is no JSON")
    assert told[1] == "url: does nothing beside a prompt" and told[4] == "body: does nothing beside a prompt"
    (tmp_path / "in.csv").write_text("custom_id,url,prompt,body\na,,,{bad2\nb,/v1,Hello,\n")
    for new, old in zip(requests.from_table(tmp_path / "in.csv", lambda *_: {}), found, strict=False):
        assert new[1].custom_id == old.custom_id and new[1].id != old.id


def test_rows_that_are_nested_deeply(tmp_path: Path) -> None:
    """Of what can just be parsed, not all can be written, which a digest needs."""
    bodies = [f'"{{""a"": {"[" * depth}{"]" * depth}}}"' for depth in range(1, 601)]
    rows = [f"{name},{body}" for body in bodies for name in ("a", "")]
    (tmp_path / "in.csv").write_text("\n".join(["custom_id,body", *rows]))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(600)
    try:
        found = [r for _, r in requests.from_table(tmp_path / "in.csv", lambda *_: {})]
    finally:
        sys.setrecursionlimit(limit)
    assert [request.custom_id for request in found] == ["a", None] * 600
    assert not found[0].problem
    if sys.version_info < (3, 12):  # later ones count what C does by itself
        assert str(found[-2].problem).endswith("is nested too deeply")


def test_values_of_parquet_that_are_no_text(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path, when = tmp_path / "in.parquet", datetime.datetime(2026, 1, 1)
    for value, problem in (
        ("What?", None),
        (b"What\xc3\xa4?", None),
        (b"What\xff", r"prompt: b'What\xff' is not a text"),
        (None, "prompt: is empty"),
        (float("nan"), "prompt: is empty"),
        (7, "prompt: 7 is not a text"),
        (["a"], "prompt: ['a'] is not a text"),
        (when, "prompt: datetime.date...6, 1, 1, 0, 0) is not a text"),
    ):
        pq.write_table(pyarrow.table({"custom_id": [b"a"], "prompt": [value]}), path)
        [(_, request)] = requests.from_table(path, lambda prompt, _: {"prompt": prompt})
        assert request.custom_id == "a" and (request.problem and request.problem.message) == problem
        if problem is None:
            assert request.body["prompt"] in ("What?", "Whatä?")
    pq.write_table(pyarrow.table({"custom_id": [b"\xff"], "prompt": ["b"]}), path)
    [(_, request)] = requests.from_table(path, lambda *_: {})
    assert str(request.problem) == r"row 1: custom_id: b'\xff' is not a text"


def test_parquet_that_is_damaged(tmp_path: Path) -> None:
    """Wherever it is cut, and whatever stands in it instead."""
    pyarrow = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path, random_ = tmp_path / "in.parquet", random.Random(0)
    pq.write_table(pyarrow.table({"custom_id": [str(n) for n in range(99)], "prompt": ["a"] * 99}), path)
    whole = path.read_bytes()
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        place = random_.randrange(len(whole))
        damaged[place : place + 4] = random_.randbytes(4)
        path.write_bytes(damaged)
        try:
            [*requests.from_table(path, lambda *_: {})]
        except QwenRefError as error:
            refused += str(error).startswith(f"{path}: ")
        else:
            refused += 1  # it may be a table still
    assert refused == 150
    path.write_bytes(whole[:-100])
    with pytest.raises(QwenRefError, match=r"in\.parquet: is no Parquet: "):
        [*tables.rows(path)]
    column = pyarrow.array(["a"])
    pq.write_table(pyarrow.Table.from_arrays([column] * 3, ["custom_id", "prompt", "prompt"]), path)
    with pytest.raises(QwenRefError, match=r"in\.parquet: column 'prompt' is there twice"):
        [*tables.rows(path)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("custom_id,prompt,label\n", "column 'label' is none of custom_id, method, url, body, prompt"),
        ("custom_id,prompt,prompt\na,b,c\n", "column 'prompt' is there twice"),
        ("prompt\nHello\n", "has no column custom_id and body, or custom_id and prompt"),
        ("custom_id,prompt\na\n", "line 2: has not as many fields as columns"),
        ("custom_id,prompt\na,b,c\n", "line 2: has not as many fields as columns"),
        ('custom_id,prompt\na,"b', "is no CSV in UTF-8: "),
        ("custom_id,prompt\na,\udcff\n", "is no CSV in UTF-8: "),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "in.csv").write_text(text, errors="surrogateescape")
    with pytest.raises(QwenRefError) as found:
        [*tables.rows(tmp_path / "in.csv")]
    assert sentence in str(found.value)


def test_parquet_without_its_extra(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(name=name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    write(tmp_path / "in.jsonl", [line("a")])
    (tmp_path / "in.parquet").touch()
    for given, out, named in (("in.jsonl", "out.parquet", "out"), ("in.parquet", "out.jsonl", "in")):
        status, told = run(given, "-o", out)
        assert status == 2 and f"{named}.parquet: Parquet needs pyarrow: pip install 'qwen_ref[" in told
        assert not (tmp_path / "out.parquet.jsonl").exists()


# ---- the command


def test_a_table_does_not_take_the_place_of_its_requests(run: Any, tmp_path: Path) -> None:
    asked = write(tmp_path / "q.csv.jsonl", [line("a")]).read_text()
    status, told = run("q.csv.jsonl", "-o", "q.csv", "--overwrite")
    assert status == 2 and "--output-file: q.csv.jsonl are the requests" in told
    assert (tmp_path / "q.csv.jsonl").read_text() == asked


def test_a_table_of_others_is_left_alone(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own is, too, where the lines that it was made of are gone."""
    write(tmp_path / "in.jsonl", [line("a", top_p=7)])
    for name in "new.csv", "empty.csv":
        (tmp_path / "empty.csv").touch()
        assert run("in.jsonl", "-o", name)[0] == run("in.jsonl", "-o", name)[0] == 0
    (tmp_path / "new.csv.jsonl").unlink()
    (tmp_path / "old.parquet").write_text("old table")
    (tmp_path / "folder.csv").mkdir()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(Batch, "run", lambda *_: pytest.fail("something is computed"))
        for name in "new.csv", "old.parquet":
            status, told = run("in.jsonl", "-o", name)
            assert status == 2 and told.count("\n") == 1
            assert f"{name}: is no table of this batch: there is no {name}.jsonl; --overwrite" in told
        status, told = run("in.jsonl", "-o", "folder.csv", "--overwrite")
        assert status == 2 and "folder.csv: is a folder" in told
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert run("in.jsonl", "-o", "new.csv", "--overwrite")[0] == 0
    assert (tmp_path / "new.csv").read_bytes() == before["new.csv"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-o", "x"], "no requests: give FILE, or --images FOLDER"),
        (["in.jsonl", "--images", ".", "--prompt", "a", "-o", "x"], "several sources of requests"),
        (["--images", ".", "-o", "x"], "--images and --prompt: one needs the other"),
        (["in.jsonl", "-o", "in.jsonl", "--overwrite"], "--output-file: in.jsonl is read, too"),
        (["in.jsonl", "-o", "x", "--temperature", "1"], "--temperature: in.jsonl says that itself"),
        (["in.jsonl", "-o", "x", "--greedy"], "--greedy: in.jsonl says that itself"),
        (["in.jsonl", "-o", "x", "--no-thinking"], "--thinking: in.jsonl says that itself"),
        (["in.jsonl", "-o", "x", "--parallel", "0"], "--parallel: 0 is not 1 or more"),
        (["in.jsonl", "-o", "x", "--max-image-tokens", "9"], "--max-image-tokens: there is no --images"),
        (["in.jsonl", "-o", "-"], "--output-file: -: results go into a file"),
        (["in.jsonl", "-o", "no/x"], "no/x: cannot be written: No such file or directory"),
        (["in.jsonl", "-o", "."], ".: is a folder"),
        (["none.jsonl", "-o", "x"], "none.jsonl: cannot be read"),
        (["--images", "none", "--prompt", "a", "-o", "x"], "none: is no folder"),
        (["--images", ".", "--prompt", "a", "-o", "x", "--penalty-last-n", "4"], "--penalty-last-n: there"),
        (["--images", ".", "--prompt", "a", "-o", "x", "--json-schema", "{"], "--json-schema: is no JSON"),
        (["--images", ".", "--prompt", "", "-o", "x"], "--prompt: is empty"),
        (["in.jsonl", "-o", "x", "--context", "1"], "leave no room for an answer in a context of 1"),
        (["in.jsonl", "-o", "x", "--model", TINY, "--draft", "mtp"], "the file has no MTP layers, not one"),
        (["in.jsonl", "-o", "x", "--allowed-local-media-path", "in.csv"], "path: 'in.csv' is no folder"),
        (
            ["bodies.csv", "-o", "x", "--max-tokens", "1"],
            "--max-tokens: bodies.csv says that itself, in each",
        ),
        (["bodies.csv", "-o", "x", "--system", "x"], "--system: bodies.csv says that itself"),
        (["bodies.csv", "-o", "x", "--thinking"], "--thinking: bodies.csv says that itself"),
        (
            ["--images", ".", "--prompt", "a", "-o", "x", "--max-image-tokens", "0"],
            "--max-image-tokens: 0 is",
        ),
        (["in.csv", "-o", "x", "--seed", "-1"], "--seed: -1 is not in 0 to 1844"),
        (["in.csv", "-o", "x", "--temperature", "5000"], "--temperature: 5000.0 is not in 0.0 to 100.0"),
        (["in.csv", "-o", "x", "--top-p", "nan"], "--top-p: nan is not in 0.0 to 1.0"),
        (["in.csv", "-o", "x", "--max-tokens", "0"], "--max-tokens: 0 is not a whole number from 1 on"),
        (["in.csv", "-o", "x", "--json-schema", '{"type":"objec"}'], "--json-schema: #: Invalid type: objec"),
        (
            ["--images", ".", "--prompt", "a", "-o", "x", "--no-thinking", "--thinking-budget", "5"],
            "--thinking-budget: there is no thought to end; --thinking asks",
        ),
        (["in.csv", "-o", "x", "--thinking-budget", "5"], "--thinking-budget: there is no thought to end;"),
        (["in.csv", "-o", "x", "--thinking", "--thinking-budget", "-1"], "--thinking-budget: -1 is not"),
    ],
)
def test_arguments_that_make_no_sense(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    """They are told before anything is computed, and no results are begun."""
    asked = write(tmp_path / "in.jsonl", [line("a")]).read_text()
    (tmp_path / "in.csv").write_text("custom_id,prompt\na,Hello\n")
    (tmp_path / "bodies.csv").write_text("custom_id,body,prompt\na,{},\n")
    monkeypatch.setattr(Batch, "run", lambda *_: pytest.fail("something is computed"))
    status, told = run(*arguments)
    assert status == 2 and sentence in told and told.count("\n") == 1
    assert (tmp_path / "in.jsonl").read_text() == asked and not (tmp_path / "x").exists()


def test_options_of_a_table_are_used_or_refused(run: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("custom_id,prompt\na,Hello\n")
    options = ["--thinking", "--thinking-budget", "2", "-n", "9", "--top-k", "-1", "--json-schema", "true"]
    status, told = run("in.csv", "-o", "x", "--seed", "0", *options)
    assert status == 0 and "1 answered, 0 errors" in told


def test_texts_need_no_chat_template(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(body: Any, service: Any) -> None:
        raise QwenRefError("there is no chat template")

    monkeypatch.setitem(openai.ANSWERED, CHAT, (none, openai.chat_reply))
    write(tmp_path / "in.jsonl", [line("a", "one,", url=TEXT, max_tokens=1)])
    status, told = run("in.jsonl", "-o", "out.jsonl")
    assert status == 0 and "1 requests: 1 answered" in told


def test_progress_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    results = Results(tmp_path / "out.jsonl", "fp_1")
    batch = Batch(lambda: iter([requests.made(str(n), CHAT, {}) for n in range(1000)]), "in.jsonl", results)
    results.close()
    batch.found, batch.answered, batch.tokens, batch.seconds = 100, 300, 6000, 60.0
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    Progress()(batch)
    assert shown.getvalue() == ""
    monkeypatch.setattr(shown, "isatty", lambda: True)
    progress = Progress()
    progress(batch)
    progress(batch)  # too soon
    assert shown.getvalue() == "\r\033[K400 of 1,000, 100.0 tokens/s, about 2 min left"
    assert [lasting(s) for s in (99, 100, 12_000)] == ["99 s", "2 min", "3 h 20 min"]


def test_it_needs_no_server(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [line("a", max_tokens=1)])
    program = (
        "import sys\n"
        "for name in 'starlette', 'uvicorn', 'prometheus_client', 'rich': sys.modules[name] = None\n"
        "from qwen_ref.cli import main\n"
        "sys.exit(main(['batch', 'in.jsonl', '-o', 'out.jsonl']))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False).returncode == 0
    assert len(by_id(tmp_path / "out.jsonl")) == 1


def test_how_many_go_together(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    each = 2 * model.text.new_state().nbytes + plan.cache_bytes(model.config, plan.LEAST_CONTEXT)
    for answers_free, share, expected in (1 << 20, 2, answers.MOST), (3, 1, 3), (3, 3, 1), (0, 1, 1):
        monkeypatch.setattr(answers, "available_memory", lambda free=4 * each * answers_free: free)
        assert answers.default_parallel(model, share) == expected


def test_a_portion_that_is_given_up_leaves_nothing_running() -> None:
    """And nothing is kept, or read ahead, for turns that will not come."""
    model = qwen_ref.load(keep=1 << 26)
    on = {str(token): -100 for token in model.tokenizer.eos_ids}

    async def some() -> None:
        service = answers.new_service(model, [NAME], 3, {})
        limits = [1] + 9 * [400]
        asked = (
            requests.read(str(n), line(str(n), "Tell a story.", max_tokens=limit, logit_bias=on))
            for n, limit in enumerate(limits)
        )
        found = answers.answers(asked, service, 5)
        async for _ in found:
            break
        await found.aclose()  # type: ignore[attr-defined]
        said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello"}]
        service._said.append((said, None))
        assert not service.scheduler.idle() and service._said
        service.scheduler.stop(0)
        service.scheduler.join()
        assert len([*asked]) == 5 and service.scheduler.running == service.scheduler.waiting == 0
        assert service.scheduler.steps < 300
        assert model.prefixes and all(use.rank != Rank.ANSWER for use in model.prefixes._uses.values())

    asyncio.run(some())
