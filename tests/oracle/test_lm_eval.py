"""lm-evaluation-harness through the adapter, against its own model for transformers on one checkpoint."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import made

from qwen_ref import QwenRefError

pytest.importorskip("lm_eval")

DOCUMENTS = [
    {
        "question": "12 + 30 is",
        "choices": ["42", "41", "402", "forty two"],
        "gold": 0,
        "text": "One, two. " * 20,
    },
    {
        "question": "The sky is  ",
        "choices": ["red", "blue", "blue and white"],
        "gold": 1,
        "text": "Ä b\n\n ç",
    },
    {
        "question": "She said:\n",
        "choices": ["'It is <|im_end|>'", "A", "B"],
        "gold": 2,
        "text": " " * 9 + "x",
    },
]
# Sums of up to 60 log-probabilities; of float32 as far as its rounding goes through 8 layers.
TOLERANCE = {"float64": 1e-9, "float32": 2e-3}


@pytest.fixture(scope="module")
def offline():
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def flat(samples: list) -> tuple[list[float], list[str]]:
    """Numbers, and whatever else there is."""
    numbers, others = list[float](), list[str]()
    stack = [samples]
    while stack:
        value = stack.pop()
        if isinstance(value, list | tuple):
            stack += value
        elif isinstance(value, float):
            numbers.append(value)
        else:
            others.append(str(value))
    return numbers, others


@pytest.mark.filterwarnings("ignore")  # the harness's own, and its libraries'
@pytest.mark.parametrize("dtype, chat", [("float64", False), ("float64", True), ("float32", False)])
def test_as_transformers(tmp_path, offline, dtype, chat):
    from harness import MAX_LENGTH, samples, write_tasks

    from qwen_ref.lm_eval import QwenRef

    checkpoint = made("mini", 0, tiny_vocab=True).checkpoint
    write_tasks(tmp_path, DOCUMENTS)
    script, out = Path(__file__).with_name("harness.py"), tmp_path / "out.json"
    options = ["--dtype", dtype, *(["--chat"] if chat else [])]
    subprocess.run([sys.executable, script, checkpoint, tmp_path, out, *options], check=True)
    theirs = json.loads(out.read_text())
    length = None if chat else MAX_LENGTH
    lm = QwenRef(str(checkpoint), dtype=dtype, max_length=length, batch_size=4)
    ours = samples(lm, tmp_path, chat)
    assert ours.keys() == theirs.keys() and len(ours) == 3 - chat
    for task in theirs:
        (numbers, others), (expected, told) = flat(ours[task]), flat(theirs[task])
        assert len(numbers) + len(others) >= 3
        assert others == told, task
        error = np.abs(np.array(numbers) - expected).max(initial=0)
        print(f"{task}, {dtype}{', chat' * chat}: {len(numbers)} sums, largest difference {error:.1e}")
        assert error < TOLERANCE[dtype], task


@pytest.mark.parametrize(
    "given, told",
    [
        ("backend=nump", "backend: 'nump' is not one of"),
        ("threads=abc", "threads: "),
        ("max_length=abc", "model_args: max_length: 'abc' is not a whole number from 1 on"),
        ("max_length=true", "model_args: max_length: True is not a whole number from 1 on"),
        ("max_length=0", "model_args: max_length: 0 is not a whole number from 1 on"),
        ("max_length=999999", "model_args: max_length: 999999 is not in 1 to "),
        ("max_gen_toks=-5", "model_args: max_gen_toks: -5"),
        ("max_gen_toks=1.5", "model_args: max_gen_toks: 1.5 is not a whole number from 1 on"),
        ("batch_size=²", "batch_size: '²' is not a whole number from 1 on, or auto"),
        ("enable_thinking=maybe", "model_args: enable_thinking: 'maybe' is not true or false"),
        ("enable_thinking=1", "model_args: enable_thinking: 1 is not true or false"),
        ("prefix_token_id=99999999", "model_args: prefix_token_id: 99999999 is not a whole number in 0 to "),
        ("prefix_token_id=-1", "model_args: prefix_token_id: -1"),
        ("prefix_token_id=a", "model_args: prefix_token_id: 'a' is not a whole number in 0 to "),
        ("think_end_token=99999999", "model_args: think_end_token: 99999999 is not a whole number in 0 to "),
        ("think_end_token=1.5", "model_args: think_end_token: 1.5 is not a whole number in 0 to "),
    ],
)
def test_arguments_that_make_no_sense(given, told):
    """As the harness reads them from a command line."""
    from qwen_ref.lm_eval import QwenRef

    with pytest.raises(QwenRefError) as raised:
        QwenRef.create_from_arg_string(given)
    assert str(raised.value).startswith(told)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "given, told", [("path=documents.jsonl", "documents.jsonl: "), ("max_length=a", "model_args: ")]
)
def test_one_sentence_and_status_2(tmp_path, offline, monkeypatch, capsys, given, told):
    from harness import write_tasks

    from qwen_ref import lm_eval

    write_tasks(tmp_path, DOCUMENTS)
    monkeypatch.chdir(tmp_path)
    arguments = ["--tasks", "answer", "--include_path", ".", "--model", "qwen_ref", "--model_args", given]
    monkeypatch.setattr(sys, "argv", ["lm_eval", *arguments])
    with pytest.raises(SystemExit) as left:
        lm_eval.main()
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert left.value.code == 2 and last.startswith(f"qwen_ref: {told}")


def test_what_a_task_asks_for_makes_no_sense():
    from lm_eval.api.instance import Instance

    from qwen_ref.lm_eval import QwenRef

    lm = QwenRef(max_gen_toks=None, think_end_token="²")  # the default, and a text
    asked = [Instance("generate_until", {}, ("One, ", {"max_gen_toks": "abc"}), 0)]
    with pytest.raises(QwenRefError, match=r"^generation_kwargs: {'max_gen_toks': 'abc'}: "):
        lm.generate_until(asked, disable_tqdm=True)


def test_a_token_that_ends_thoughts():
    """By its id what stands before its last place is left out, as in the harness's HFLM.generate_until."""
    from lm_eval.api.instance import Instance

    from qwen_ref.lm_eval import QwenRef

    plain = QwenRef(max_gen_toks=12)
    prompt = "<|im_start|>user\nTell me a story about a fox.<|im_end|>\n"
    prompt += "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    asked = [Instance("generate_until", {}, (prompt, {"until": []}), 0)]
    (text,) = plain.generate_until(asked, disable_tqdm=True)
    ids = plain.tok_encode(text)
    end = ids[3]
    behind = plain.tok_decode(ids[len(ids) - ids[::-1].index(end) :]).lstrip()
    for given in end, str(end):
        lm = QwenRef(max_gen_toks=12, think_end_token=given)
        assert lm.generate_until(asked, disable_tqdm=True) == [behind] != [text]
    assert QwenRef(max_gen_toks=12, think_end_token=0).generate_until(asked, disable_tqdm=True) == [
        text.lstrip()
    ]
