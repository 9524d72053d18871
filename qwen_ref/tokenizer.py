"""Text to token ids and back, from the vocabulary and merges in a GGUF file.

Byte-level BPE with NFC normalization, done by the `tokenizers` library and set up as transformers'
`Qwen2Tokenizer` is for Qwen3.5. (llama.cpp does not normalize; here transformers is followed.)
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np

from gguf_io import GGUFFile
from qwen_ref.errors import QwenRefError

# How text is cut before BPE: contractions, letters and marks, single digits, punctuation, white space.
PRE_TOKENIZERS = {
    "qwen35": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|"
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
MOST_LOST = 0.002  # share of tokens that no merge makes
# Keys of other ways to make token ids, or to choose among them.
OFF = (
    "add_bos_token",
    "add_eos_token",
    "add_sep_token",
    "ignore_merges",
    "normalizer.lowercase",
    "suppress_tokens",
)
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # GGUF's token types


def _byte_letters() -> dict[str, int]:
    """GPT-2's alphabet: every byte as one printable character (itself where it is printable)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(b): b for b in printable}
    others = (b for b in range(256) if b not in printable)
    return letters | {chr(256 + i): b for i, b in enumerate(others)}


BYTE_OF_LETTER = _byte_letters()


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Python's garbage collector looks through everything again and again while 247,587 pairs are made."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def any_of(texts: Iterable[str]) -> str:
    """A pattern for the longest of them that fits; it fits nowhere if there are none."""
    return "|".join(map(re.escape, sorted(filter(None, texts), key=len, reverse=True))) or "(?!)"


def check_unicode(what: str, text: str) -> None:
    """Raises QwenRefError if the text holds half a surrogate pair, which no UTF-8 text can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QwenRefError(
            f"{what}: character {error.start}: {text[error.start]!r} is not valid Unicode"
        ) from None


class Texts(Sequence[str]):
    """Many short texts as one, and where each begins: as a list 248,320 of them take 25 MB, and so 4."""

    def __init__(self, texts: list[str]):
        self._all = "".join(texts)
        self._starts = np.cumsum([0, *map(len, texts)])

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[n] for n in range(*i.indices(len(self)))]
        n = range(len(self))[i]
        return self._all[self._starts[n] : self._starts[n + 1]]

    def __iter__(self) -> Iterator[str]:
        return (self._all[a:b] for a, b in itertools.pairwise(self._starts.tolist()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Texts):
            return NotImplemented
        return self._all == other._all and np.array_equal(self._starts, other._starts)


class Tokenizer:
    """The tokenizer of an opened model file. Raises QwenRefError if the file has none that is known here."""

    def __init__(self, file: GGUFFile):
        self._file = file
        if (kind := self._get("model")) != "gpt2":
            raise QwenRefError(f"{file.path}: tokenizer.ggml.model: {kind!r} is not byte-level BPE ('gpt2')")
        cut = file.metadata.get("tokenizer.ggml.pre")
        if not isinstance(cut, str) or cut not in PRE_TOKENIZERS:
            said = (
                "the metadata key is missing" if cut is None else f"{cut!r:.80} is not Qwen3.5's ('qwen35')"
            )
            raise QwenRefError(
                f"{file.path}: tokenizer.ggml.pre: {said}, so text would be cut another way and token ids be "
                "wrong; convert the model anew with a converter that knows Qwen3.5 (llama.cpp's of 2026)"
            )
        for key in OFF:
            if np.any(np.asarray(file.metadata.get(f"tokenizer.ggml.{key}", False))):
                raise QwenRefError(f"{file.path}: tokenizer.ggml.{key}: is set, which is not Qwen3.5's way")
        self.tokens = Texts(self._texts("tokens"))
        self.types = np.asarray(self._get("token_type"))
        if self.types.ndim != 1 or self.types.dtype.kind not in "iu":
            raise QwenRefError(f"{file.path}: tokenizer.ggml.token_type: is no list of whole numbers")
        if len(self.types) != len(self.tokens):
            raise QwenRefError(
                f"{file.path}: tokenizer.ggml.token_type: "
                f"{len(self.types)} types for {len(self.tokens)} tokens"
            )
        if len(self.types) and not 1 <= self.types.min() <= self.types.max() <= 6:  # GGUF's token types
            raise QwenRefError(f"{file.path}: tokenizer.ggml.token_type: are not numbers from 1 to 6")
        added = np.flatnonzero((self.types == CONTROL) | (self.types == USER_DEFINED)).tolist()
        self.ids = {self.tokens[i]: i for i in added}  # of added tokens: <|im_end|>, <think>, …
        self.control_tokens = [self.tokens[i] for i in added if self.types[i] == CONTROL]
        self.eos_ids = self._end_tokens(file)

    def _get(self, key: str) -> Any:
        value = self._file.metadata.get(f"tokenizer.ggml.{key}")
        if value is None:
            raise QwenRefError(f"{self._file.path}: tokenizer.ggml.{key}: the metadata key is missing")
        return value

    def _texts(self, key: str) -> list[str]:
        value = self._get(key)
        if not isinstance(value, list) or not all(
            isinstance(text, str) for text in value[:1]
        ):  # all are alike
            raise QwenRefError(f"{self._file.path}: tokenizer.ggml.{key}: is no list of texts")
        return value

    @cached_property
    def _backend(self) -> Any:
        """The library's tokenizer, made when the first text is encoded: for Qwen's vocabulary in 0.6 s.

        It knows no added token, so what it is given is text, whatever is spelled in it.
        """
        from tokenizers import Regex, models, normalizers, pre_tokenizers
        from tokenizers import Tokenizer as Backend

        with collector_paused():
            used = (self.types != UNUSED).tolist()
            vocab = {token: i for i, (token, use) in enumerate(zip(self.tokens, used)) if use}
            merges = self._merges()
            try:
                backend = Backend(models.BPE(vocab=vocab, merges=merges))
            except Exception as error:  # the library has no exception type of its own
                raise QwenRefError(f"{self._file.path}: tokenizer.ggml.merges: {error}") from None
            del vocab, merges
        backend.normalizer = normalizers.NFC()
        cut = Regex(PRE_TOKENIZERS[self._get("pre")])
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(cut, "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        return backend

    def _merges(self) -> list[Any]:
        """Pairs of tokens that become one. Raises QwenRefError if they are fewer than the tokens need: texts
        would come out in other pieces. (Of Qwen's 248,044 tokens 200 are made by none.)
        """
        merges = self._texts("merges")
        field = f"{self._file.path}: tokenizer.ggml.merges"
        pairs = [tuple(merge.split(" ")) for merge in merges]
        if {*map(len, pairs)} - {2}:
            number = next(i for i, pair in enumerate(pairs) if len(pair) != 2)
            raise QwenRefError(
                f"{field}: number {number}, {merges[number]!r:.80}, is not two tokens and a blank"
            )
        normal = int((self.types == NORMAL).sum())
        if normal - len(BYTE_OF_LETTER) - len(pairs) > MOST_LOST * normal:
            made = {*map("".join, pairs)} | BYTE_OF_LETTER.keys()
            tokens = (t for t, kind in zip(self.tokens, self.types) if kind == NORMAL and t not in made)
            lost = f"{next(tokens, '')!r:.80} is made by none"
            problem = (
                f"{len(pairs):,} are too few for {normal:,} tokens ({lost}), so token ids would be wrong"
            )
            raise QwenRefError(f"{field}: {problem}")
        return pairs

    def _end_tokens(self, file: GGUFFile) -> frozenset[int]:
        """Tokens that end an answer: the file's end of sequence, turn and message, and Qwen's by name."""
        ids = {self.ids[name] for name in ("<|im_end|>", "<|endoftext|>") if name in self.ids}
        for key in "eos_token_id", "eot_token_id", "eom_token_id", "eos_token_ids":  # the last is Ollama's
            given = np.atleast_1d(file.metadata.get(f"tokenizer.ggml.{key}", np.empty(0, int)))
            if given.dtype.kind not in "iu" or not ((given >= 0) & (given < len(self))).all():
                raise QwenRefError(
                    f"{file.path}: tokenizer.ggml.{key}: {given.tolist()!r:.80} is no token's number"
                )
            ids.update(given.tolist())
        return frozenset(ids)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of a text.

        A control token spelled in the text (`<|im_end|>`) stays ordinary text unless `special` is true.
        Ordinary added tokens such as `<think>` are always recognized, as in transformers and llama.cpp.
        Raises QwenRefError if the text holds half a surrogate pair, which no UTF-8 text can.
        """
        check_unicode("the text", text)
        token_ids = []
        for i, piece in enumerate(self.cut(text, special=special)):
            token_ids += [self.ids[piece]] if i % 2 else self.encode_text(piece)
        return token_ids

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a text in which no added token is recognized, not even an ordinary one."""
        return self._backend.encode(text, add_special_tokens=False).ids if text else []

    def cut(self, text: str, *, special: bool = True) -> list[str]:
        """A text cut at its added tokens: text, token, …, text. Control tokens only if `special`."""
        return (self._any if special else self._ordinary).split(text)

    @cached_property
    def _any(self) -> re.Pattern[str]:
        return re.compile(f"({any_of(self.ids)})")

    @cached_property
    def _ordinary(self) -> re.Pattern[str]:
        return re.compile(f"({any_of(self.ids.keys() - set(self.control_tokens))})")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; b"" for ids that the vocabulary only pads with."""
        if self.types[token_id] == UNUSED:
            return b""
        token = self.tokens[token_id]
        try:
            return bytes([BYTE_OF_LETTER[letter] for letter in token])
        except KeyError:  # an added token with characters that are not letters of the byte alphabet
            return token.encode()

    def decode(self, token_ids: Iterable[int]) -> str:
        """Text of token ids, control tokens included; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, token_ids)).decode(errors="replace")


class StreamDecoder:
    """Decodes token by token and never emits half a character: it waits for the missing bytes."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text that this token completes, perhaps none."""
        return self._utf8.decode(self._tokenizer.token_bytes(token_id))

    def flush(self) -> str:
        """What is left at the end: U+FFFD if the last character never became whole."""
        return self._utf8.decode(b"", final=True)
