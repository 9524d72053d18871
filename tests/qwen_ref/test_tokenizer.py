import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_io import open_gguf
from qwen_ref import QwenRefError
from qwen_ref.tokenizer import StreamDecoder, Tokenizer

HARD = [
    "",
    " ",
    "\n\n  \r\n\t",
    "a\u0301 ≠ á",
    "👩🏽‍🚀👨‍👩‍👧‍👦🏳️‍🌈",
    "\u200d\ufe0f\u0300",
    "\x00\x07\x1b[0m\x7f\x80",
    "１２３ ⅳ ½",
    "ﬁ Å",
    "<|im_start|>user\nhi<|im_end|>",
    "<think>x</think>",
    "<|im_end",
    "a<|im_end|>b",
    "İıſẞ'S 'S",
]


@pytest.fixture(scope="module")
def tokenizer(fixtures):
    return Tokenizer(open_gguf(fixtures / "tiny.gguf"))


def test_equals_transformers_on_many_scripts(tokenizer, fixtures):
    """transformers' AutoTokenizer wrote tiny-tokens.json; tests/oracle compares the real vocabulary."""
    lines = (fixtures / "texts.txt").read_text(encoding="utf-8").splitlines()
    golden = json.loads((fixtures / "tiny-tokens.json").read_text(encoding="utf-8"))
    assert len(lines) == len(golden) > 60
    for line, token_ids in zip(lines, golden, strict=True):
        assert tokenizer.encode(line) == token_ids
        assert tokenizer.decode(token_ids) == line


@pytest.mark.parametrize("text", HARD)
def test_hard_texts_come_back_normalized(tokenizer, text):
    import unicodedata

    for special in False, True:
        assert tokenizer.decode(tokenizer.encode(text, special=special)) == unicodedata.normalize("NFC", text)


@settings(max_examples=300)
@given(text=st.text())
def test_any_text_comes_back_normalized(tokenizer, text):
    import unicodedata

    assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


def test_control_tokens_in_text_stay_text(tokenizer):
    end = tokenizer.ids["<|im_end|>"]
    assert tokenizer.encode("<|im_end|>", special=True) == [end]
    assert end not in tokenizer.encode("x<|im_end|>y")
    think = tokenizer.ids["<think>"]  # an ordinary added token
    assert tokenizer.encode("<think>") == [think]
    assert end in tokenizer.eos_ids and tokenizer.ids["<|endoftext|>"] in tokenizer.eos_ids


@settings(max_examples=200)
@given(token_ids=st.lists(st.integers(0, 1023)))
def test_streamed_pieces_add_up_to_the_text(tokenizer, token_ids):
    stream = StreamDecoder(tokenizer)
    pieces = [stream.push(i) for i in token_ids] + [stream.flush()]
    assert "".join(pieces) == tokenizer.decode(token_ids)


def test_half_a_character_is_never_emitted(tokenizer):
    stream = StreamDecoder(tokenizer)
    pieces = [stream.push(i) for i in tokenizer.encode("🙂 ᏚᏳ")]
    assert "" in pieces and "".join(pieces) == "🙂 ᏚᏳ"
    assert not any("\ufffd" in piece for piece in pieces)


def test_half_a_surrogate_pair_is_refused(tokenizer):
    with pytest.raises(QwenRefError, match="character 1"):
        tokenizer.encode("a\ud800")
