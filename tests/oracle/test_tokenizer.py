"""Qwen's own vocabulary: our tokenizer and chat template against transformers'.

One difference is the file's: the converter marks `<|fim_prefix|>` and its like as control tokens, which they
are not in Qwen's tokenizer.json, so with us their spelling in a user's text stays text.
"""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from transformers import AutoTokenizer

from gguf_io import open_gguf
from qwen_ref.chat import ChatTemplate
from qwen_ref.tokenizer import Tokenizer

HARD = [
    "",
    "   \n\n\t \r\n  x\u00a0\u3000y\u2028z",
    "👩🏽‍🚀 👨‍👩‍👧‍👦 🏳️‍🌈 1️⃣ 🇺🇳",
    "e\u0301 \u1e9b\u0323 \u0041\u030a ﬁ ｶﾞ 각 \u1100\u1161\u11a8",
    "".join(map(chr, range(0x00, 0xA0))),
    "\u200d\u200c\ufeff\u202e\u0300\u0301\u20e3",
    "<think>\n</think> <tool_call> <|im_endx|> <|im_end|>",
    "𝕳𝖊𝖑𝖑𝖔 \U0001f9ff \U000e0041 \U0010fffd 𒀀𓂀",
    "def f(x):\n\treturn {'a': [1, 2.5e-3, 0xFF]}  # ok\n" * 3,
    "a" * 3000 + "1" * 50 + " " * 200 + "\n" * 40,
]


@pytest.fixture(scope="module")
def ours(real_vocabulary):
    return Tokenizer(open_gguf(real_vocabulary.f32))


@pytest.fixture(scope="module")
def theirs(real_vocabulary):
    return AutoTokenizer.from_pretrained(real_vocabulary.checkpoint)


def check(ours, theirs, text):
    token_ids = theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert ours.encode(text) == token_ids, text
    assert ours.encode(text, special=True) == theirs.encode(text, add_special_tokens=False), text
    assert ours.decode(token_ids) == theirs.decode(token_ids) == unicodedata.normalize("NFC", text)


def test_languages_scripts_and_code(ours, theirs, fixtures):
    text = (fixtures / "texts.txt").read_text()
    for line in [*text.splitlines(), text]:
        check(ours, theirs, line)


@pytest.mark.parametrize("text", HARD, ids=range(len(HARD)))
def test_hard_texts(ours, theirs, text):
    check(ours, theirs, text)


def test_fuzzed_unicode(ours, theirs, fixtures):
    """20,000 strings from all over Unicode, mostly of one block, with marks and joiners between."""
    rng = np.random.default_rng(0)
    extras = [*list("\u200d️̣́\n \t'<|>"), "'s", "'LL", "<|im_end|>", "<think>", "🏽"]
    for _ in range(20_000):
        block = int(rng.choice([0, 0, 0x80, 0x300, 0x900, 0x1100, 0x4E00, 0xAC00, 0x1F300, 0x10000, 0x20000]))
        points = block + rng.integers(0, rng.choice([128, 4096, 40_000]), rng.integers(1, 24))
        letters = [chr(p) for p in points if not 0xD800 <= p < 0xE000]
        for _ in range(rng.integers(0, 4)):
            letters.insert(int(rng.integers(0, len(letters) + 1)), str(rng.choice(extras)))
        text = "".join(letters)
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert ours.encode(text, special=True) == theirs.encode(text, add_special_tokens=False)


def test_decoding_any_tokens(ours, theirs):
    rng = np.random.default_rng(1)
    for _ in range(3000):
        token_ids = rng.integers(0, len(theirs), rng.integers(1, 20)).tolist()
        assert ours.decode(token_ids) == theirs.decode(token_ids)


def test_chat_template(real_vocabulary, ours, theirs):
    chat = ChatTemplate(open_gguf(real_vocabulary.f32), ours)
    call = {
        "type": "function",
        "function": {"name": "weather", "arguments": {"city": "Köln", "days": [1, 2]}},
    }
    messages = [
        {"role": "system", "content": "  Be brief. "},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nLet me look.", "tool_calls": [call]},
        {"role": "tool", "content": '{"°C": 21}'},
        {"role": "assistant", "content": "21 °C."},
        {"role": "user", "content": "Danke 👍"},
    ]
    tools = [
        {
            "type": "function",
            "function": {"name": "weather", "description": "Wetter für é <b>", "parameters": {}},
        }
    ]
    for thinking in None, True, False:
        for given in None, tools:
            options = {} if thinking is None else {"enable_thinking": thinking}
            want = theirs.apply_chat_template(
                messages, tools=given, add_generation_prompt=True, tokenize=False, **options
            )
            assert chat.render(messages, given, thinking) == want
            token_ids, _ = chat.encode(messages, given, thinking)
            assert token_ids == theirs.encode(want, add_special_tokens=False)
