"""The commands in README.md and docs/ do what they say: each is run, or listed here with the reason why not.

A block of code without a language is a shell's. A page's commands run in their order, in a folder where the
small model that ships lies under the names that they give, and which has the other files that they read.
"""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import qwen_ref
from qwen_ref import shipped

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/*.md")))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:make|python) [^`\n]+)`")
WRITTEN = re.compile(r" (?:-o|--(?:out|html|draw|plot|save-logits)) (\S+)")
COMMENT = re.compile(r"\s+# .*$", re.MULTILINE)

# Names of models -> files that stand in for them, in every folder.
TINY = [shipped.MODEL, shipped.MODEL.with_name("mmproj-tiny-Q8_0.gguf")]
MODELS = [
    "Qwen3.5-0.8B-Q4_K_M.gguf",
    "Qwen3.5-0.8B-BF16.gguf",
    "model.gguf",
    "Q4_K_M.gguf",
    "BF16.gguf",
    "f32.gguf",
]

# What is put behind a command so that it is quick.
ALSO = {
    "*--engine *": " plain length-3",  # two cases of the kit instead of all
    "* generate *": " --max-tokens 60",
    "* perplexity *": " --chunks 1 --context 128",
    "* bench *--report": " -p 32 -n 8 -r 1",
}

# Not run, and why.
ELSEWHERE = {
    "make demo": "CI runs it",
    "make test": "CI runs it",
    "python3 -m venv *": "make demo does it",
    "pip install *": "packages are installed already, and none is fetched here",
    "python -m qwen_ref pull *": "a network is needed; tests/qwen_ref/test_hub.py has a stand-in for the hub",
    "* --scheduler tcp://rack:8786": "a cluster is needed; tests/qwen_ref/test_cluster.py starts one",
    "dask *": "it does not end; the same tests start it",
    "sudo *": "it is for a machine of one's own; tests/arm64/first_minutes.sh",
    "* ~/.config/systemd/user*": "the same",
    "systemctl *": "the same",
    "python -m qwen_ref serve*": "it does not end; tests/qwen_ref/test_serve.py has the server",
    "llama-eval-callback *": "another program; tests/oracle/test_callback.py",
    "* dump.txt": "it reads what llama-eval-callback wrote",
    "llama-perplexity *": "another program; tests/oracle/test_perplexity.py",
    "* theirs.bin *": "it reads what llama-perplexity wrote",
}
if not shutil.which("g++"):
    ELSEWHERE |= {"g++ *": "there is no compiler here", "./read_golden *": "it was not compiled"}

ENGINE = """
from qwen_ref import load
from qwen_ref.oracle.conformance import encode
from qwen_ref.oracle.record import embed

def run(case):
    model = load(case.model, backend="numpy")
    prompt = encode(model, case)
    state = model.text.new_state()
    yield {"logits": model.text.logits(model.text.forward(embed(model, prompt), state, prompt.positions))}
    for part in case.parts[1:]:
        yield {"logits": model.text.logits(model.text.forward(part.token_ids, state))}
"""

PROGRAM = """#!/usr/bin/env python
import sys
from pathlib import Path
from safetensors.numpy import save_file
from qwen_ref import load
model, ids, dump = sys.argv[2::2]
text = load(model, backend="numpy").text
token_ids = [int(word) for word in Path(ids).read_text().split()]
save_file({"logits": text.logits(text.forward(token_ids, text.new_state()))}, dump)
"""


def commands(page: str) -> list[str]:
    """Those of its shell blocks, on a line each."""
    text = (ROOT / page).read_text(encoding="utf-8")
    shell = "".join(code for language, code in BLOCK.findall(text) if not language)
    lines = COMMENT.sub("", re.sub(r"\\\n\s*", "", shell)).splitlines()
    return [line.strip() for line in lines if line.strip()]


def first(patterns: dict[str, str], command: str) -> str | None:
    """What the first pattern that fits has to say."""
    return next((said for pattern, said in patterns.items() if fnmatch.fnmatchcase(command, pattern)), None)


@pytest.fixture(scope="module")
def dumps(tmp_path_factory) -> Path:
    """What an engine that is right has of a golden's tokens: dump.npz, dump.safetensors, the folder DUMP."""
    folder = tmp_path_factory.mktemp("dumps")
    (folder / "DUMP").mkdir()
    model = qwen_ref.load(backend="numpy", dtype=np.float64)
    answer = model.generate("Why?", temperature=0, presence_penalty=0, max_tokens=8, draft="off")
    list(answer)
    ids = answer.prompt_ids + answer.token_ids
    logits = model.text.logits(model.text.forward(ids, model.text.new_state())).astype(np.float32)
    np.savez(folder / "dump.npz", logits=logits)
    save_file({"logits": logits}, folder / "dump.safetensors")
    logits.tofile(folder / "DUMP" / "logits.f32")
    return folder


@pytest.fixture
def folder(tmp_path, dumps) -> Path:
    """Where a page's commands find all that they read."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for name in MODELS:
        (tmp_path / name).symlink_to(TINY[0])
    (tmp_path / TINY[1].name).symlink_to(TINY[1])
    for place in ("Qwen3.5-0.8B", "pulled/unsloth/Qwen3.5-0.8B-GGUF"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "Qwen3.5-0.8B-Q4_K_M.gguf").symlink_to(TINY[0])
        (tmp_path / place / "mmproj-F16.gguf").symlink_to(TINY[1])
    Image.open(ROOT / "examples/media/shapes.png").convert("RGB").save(tmp_path / "cat.jpg")
    shutil.copy(ROOT / "examples/media/screen.png", tmp_path)
    (tmp_path / "photos").mkdir()
    shutil.copy(tmp_path / "cat.jpg", tmp_path / "photos")
    (tmp_path / "questions.csv").write_text("custom_id,prompt\na,Why?\nb,Who?\n")
    body = {"model": "qwen3.5", "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 9}
    request = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (tmp_path / "requests.jsonl").write_text(json.dumps(request) + "\n")
    shutil.copy(ROOT / "examples/media/ball.mp4", tmp_path / "walk.mp4")
    shutil.copy(ROOT / "examples/read_golden.cpp", tmp_path)
    shutil.copy(ROOT / "tests/fixtures/texts.txt", tmp_path / "wiki.test.raw")
    shutil.copytree(dumps, tmp_path, dirs_exist_ok=True)
    (tmp_path / "prompts.jsonl").write_text('{"id": "why", "prompt": "Why?"}')
    text = json.dumps({"text": (ROOT / "tests/fixtures/texts.txt").read_text(encoding="utf-8")})
    (tmp_path / "texts.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "my_engine.py").write_text(ENGINE)
    (tmp_path / "engine").write_text(PROGRAM)
    (tmp_path / "engine").chmod(0o755)
    return tmp_path


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    places = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "QWEN_REF_MODELS": str(folder / "pulled"),
    }
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | places,
        input="Hello\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# What docs/golden-in-tests.md begins with is a command of docs/golden.md.
RECORD = "python -m qwen_ref golden record --model model.gguf --prompt 'Why?' --out why.safetensors"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(not first(ELSEWHERE, c) for c in commands(page))]
)
def test_commands(page, folder):
    if page == "docs/golden-in-tests.md":
        assert run(RECORD, folder).returncode == 0
    failed = []
    for command in commands(page):
        if not first(ELSEWHERE, command):
            ran = run(command + (first(ALSO, command) or ""), folder)
            if ran.returncode or "Traceback" in ran.stderr:
                failed.append(f"{command}: status {ran.returncode}\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
            elif absent := [name for name in WRITTEN.findall(command) if not (folder / name).exists()]:
                failed.append(f"{command}: wrote no {absent[0]}\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    assert not failed, "\n".join(failed)


def test_the_service_starts_a_command_that_there_is(tmp_path):
    unit = ROOT / "examples/qwen_ref.service"
    (start,) = re.findall(r"^ExecStart=%h/(\S+) -m qwen_ref (.+)$", unit.read_text(), re.MULTILINE)
    served = [c for c in commands("docs/raspberry-pi.md") if c.startswith("python -m qwen_ref serve")]
    assert served == [f"python -m qwen_ref {start[1]}"]
    if shutil.which("systemd-analyze"):
        python = tmp_path / start[0]
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
        home = os.environ | {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
        command = ["systemd-analyze", "--user", "verify", unit]
        done = subprocess.run(command, env=home, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert not done.returncode and not done.stderr, done.stderr


def test_exceptions_are_of_commands_that_there_are():
    everything = [command for page in PAGES for command in commands(page)]
    for pattern in [*ELSEWHERE, *ALSO]:
        assert fnmatch.filter(everything, pattern), pattern


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_sentences_name_what_there_is(page):
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for command in INLINE.findall((ROOT / page).read_text(encoding="utf-8")):
        program, *words = shlex.split(command)
        if program == "make":
            assert words[0] in targets, command
        elif words[:2] == ["-m", "qwen_ref"] and len(words) > 2:
            assert (ROOT / f"qwen_ref/cli/{words[2]}.py").is_file(), command
        elif not words[0].startswith("-"):
            assert (ROOT / words[0]).is_file(), command
