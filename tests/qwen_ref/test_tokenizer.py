import gc
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rewrite import rewrite
from tokenizers.pre_tokenizers import ByteLevel

from gguf_io import open_gguf
from qwen_ref import QwenRefError
from qwen_ref.tokenizer import StreamDecoder, Texts, Tokenizer, _byte_letters, any_of, collector_paused

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


def test_of_added_tokens_the_longest_that_fits_is_taken():
    assert re.findall(any_of(["", "a", "ab"]), "abacab") == ["ab", "a", "ab"]
    assert re.split(any_of([]), "ab") == ["ab"]


def test_what_a_file_says_of_its_tokens(fixtures, tmp_path):
    """All its end tokens end an answer; a token out of use stands for nothing, and no text becomes it."""
    file = open_gguf(fixtures / "tiny.gguf")
    tokens = file.metadata["tokenizer.ggml.tokens"]
    types = file.metadata["tokenizer.ggml.token_type"].tolist()
    unused = tokens.index("<|vision_pad|>")
    tokens[unused], types[unused], types[301] = tokens[300], 5, 6  # GGUF's last type
    ends = {f"tokenizer.ggml.{key}_token_id": n for n, key in enumerate(["eos", "eot", "eom"])}
    changes = {"tokenizer.ggml.token_type": types, "tokenizer.ggml.tokens": tokens}
    changes |= ends | {"tokenizer.ggml.eos_token_ids": [3, 1023]}  # 1023 is the last
    changed = Tokenizer(open_gguf(rewrite(fixtures / "tiny.gguf", tmp_path / "x.gguf", change=changes)))
    assert changed.eos_ids == {0, 1, 2, 3, 1023} | {
        changed.ids[name] for name in ("<|im_end|>", "<|endoftext|>")
    }
    text = changed.decode([300])
    assert changed.encode(text) == [300] and changed.decode([unused]) == ""


@pytest.mark.parametrize("texts", [[], [""], ["a", "", "bc", "", "ö", "🙂e", ""]])
def test_texts_are_a_list_s(texts):
    same = Texts(texts)
    assert [*same] == texts and len(same) == len(texts)
    for n in range(-len(texts), len(texts)):
        assert same[n] == texts[n]
    for wrong in len(texts), -len(texts) - 1:
        with pytest.raises(IndexError):
            same[wrong]
    assert same[1:-1] == texts[1:-1] and same[::-2] == texts[::-2]
    assert same == Texts(texts) and same != texts
    assert same != Texts([*texts, ""]) and Texts(["ab", "c"]) != Texts(["a", "bc"])


def test_bytes_are_written_with_the_letters_of_the_library():
    letters, cut = _byte_letters(), ByteLevel(add_prefix_space=False, use_regex=False)
    assert letters.keys() == {*ByteLevel.alphabet()} and sorted(letters.values()) == [*range(256)]
    for n in [*range(0x800), 0xFFFD, 0x1F642]:
        assert bytes(letters[letter] for letter in cut.pre_tokenize_str(chr(n))[0][0]) == chr(n).encode()


def test_the_collector_is_as_it_was():
    assert gc.isenabled()
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


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
