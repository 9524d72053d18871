# %% [markdown]
# # 3. Tokens
#
# A model reads numbers, not letters: a text is cut into pieces that were frequent when the vocabulary was
# made, and each piece has a number.

# %%
import re
from itertools import pairwise

import numpy as np
from lesson import BLUE, GREY, ORANGE, exercise, figure, plot, say, show

import qwen_ref
from qwen_ref import tokenizer as tokenizer_module
from qwen_ref.tokenizer import BYTE_OF_LETTER, Tokenizer

model = qwen_ref.load(backend="numpy")
tokenizer = model.tokenizer

# %% [markdown]
# ## Bytes first
#
# A text is stored as bytes (UTF-8): English letters take one each, an *ü* two, a Chinese character three, an
# emoji four. So 256 tokens, one for each byte, would be enough to write everything, in every language; but
# sequences would be long. So we add tokens for frequent *pairs*, again and again. That is **byte-pair
# encoding**.
#
# To make it printable, each byte is written as one letter (a space is `Ġ`, which looks odd but is only a
# name).

# %%
LETTER_OF_BYTE = {byte: letter for letter, byte in BYTE_OF_LETTER.items()}


def letters(text):
    """The bytes of a text, a printable letter for each."""
    return [LETTER_OF_BYTE[byte] for byte in text.encode()]


for example in "fox", " fox", "für", "狐", "🦊":
    print(
        f"{example!r:8}{len(example)} characters, {len(example.encode())} bytes: {' '.join(letters(example))}"
    )

# %% [markdown]
# ## Merges
#
# The file has a list of pairs, in the order in which they were found when the vocabulary was made; let
# $r(a, b)$ be a pair's place in it (infinite for pairs that are not there). A word begins as a sequence of
# bytes. In each step the neighbours with the smallest place become one,
#
# $$i^* = \arg\min_i \; r(x_i, x_{i+1}), \qquad (x_{i^*}, x_{i^*+1}) \rightarrow x_{i^*} x_{i^*+1},$$
#
# until no pair is left that is in the list. That is the whole algorithm, and here it is:

# %%
merges = model.text.file.metadata["tokenizer.ggml.merges"]
place = {tuple(pair.split(" ")): n for n, pair in enumerate(merges)}


def merge(pieces):
    """All steps of one word, from its bytes to its tokens."""
    steps = [pieces]
    while len(pieces) > 1:
        ranks = [place.get(pair, np.inf) for pair in pairwise(pieces)]
        i = int(np.argmin(ranks))
        if ranks[i] == np.inf:
            break
        pieces = [*pieces[:i], pieces[i] + pieces[i + 1], *pieces[i + 2 :]]
        steps.append(pieces)
    return steps


for step in merge(letters(" story")):
    print(" | ".join(step))

# %% [markdown]
# A text is cut into words before that, by a regular expression, so that no token reaches over a word's end.
# Each digit is a word by itself: that makes sums easier to learn.

# %%
show(tokenizer_module, "PRE_TOKENIZERS = {", "}")

# %% [markdown]
# The real tokenizer does the same, in a fast library, and knows tokens besides that stand for no text:
# `<|im_start|>` begins a message. They are cut out first, which is the odd places of this loop.

# %%
show(Tokenizer.encode, "for i, piece", "token_ids +=")

# %%
# Python's re knows no \p{L} (letters), \p{M} (accents) and \p{N} (digits): the same for simple texts.
WORDS = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\r\n\w]?[^\W\d_]+|\d| ?[^\s\w]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def encode(text):
    """Token ids of a simple text: cut into words, then merged."""
    pieces = [piece for word in WORDS.findall(text) for piece in merge(letters(word))[-1]]
    return [tokenizer.tokens.index(piece) for piece in pieces]


TEXT = "Tell me a story about a fox. It's 27 + 58!"  # CHANGE ME
ids = encode(TEXT)
assert ids == tokenizer.encode(TEXT)
say(f"""
Ours gives the same {len(ids)} numbers as the real one. The text has {len(TEXT.encode())} bytes, so a token
stands for {len(TEXT.encode()) / len(ids):.1f} of them here.
""")
print([tokenizer.tokens[i] for i in ids])

# %% [markdown]
# ## What is short, and what is long
#
# A vocabulary is good at what it was made from. This one is small, and was made for a small world. Texts from
# outside fall apart into bytes: nothing is lost, but everything takes longer. All work of a model is per
# token, so whoever writes in a language that is rare in the training data pays more for the same thought.

# %%
SAMPLES = {
    "its own world": "There is a red circle to the left of the blue square.",
    "a story": "Once there was a small fox who lived in the city.",
    "news": "Parliament postponed yesterday's controversial referendum.",
    "German": "Der Fuchs überquert die Straße, ohne zu zögern.",
    "Greek": "Η αλεπού ζει στην πόλη.",
    "Chinese": "从前城里住着一只小狐狸。",
    "digits": "3141592653589793",
    "emoji": "🦊🐻🐼🐨🐯🦁",
}
bytes_each = {name: len(sample.encode()) / len(tokenizer.encode(sample)) for name, sample in SAMPLES.items()}
chars_each = {name: len(sample) / len(tokenizer.encode(sample)) for name, sample in SAMPLES.items()}
fig, ax = figure(height=3.4)
at = np.arange(len(SAMPLES))
ax.barh(at - 0.2, chars_each.values(), 0.4, color=BLUE, label="characters")
ax.barh(at + 0.2, bytes_each.values(), 0.4, color=ORANGE, label="bytes")
ax.axvline(1, color=GREY, linewidth=1, linestyle=":")
ax.set_yticks(at, list(SAMPLES))
ax.invert_yaxis()
ax.set(xlabel="in one token")
ax.legend()
plot(
    fig,
    "How much of a text one token holds. At one byte a token nothing is merged at all; below one "
    "character a token, a reader gets pieces of characters.",
)

# %%
best, worst = (pick(chars_each, key=chars_each.get) for pick in (max, min))
say(f"""
With {len(tokenizer):,} tokens, “{best}” has {chars_each[best]:.1f} characters a token, “{worst}”
{chars_each[worst]:.2f}: for the same number of characters {chars_each[best] / chars_each[worst]:.0f} times
the work. Qwen3.5's own vocabulary has 248,320 tokens, which is why it needs a table of that many rows for
them.
""")

# %% [markdown]
# ## Exercise
#
# Write `decode(token_ids)`, which gives the text. Use `tokenizer.token_bytes(token_id)`, the bytes that a
# token stands for. Take care of characters whose bytes lie in several tokens.


# %% tags=["fold"] jupyter={"source_hidden": true}
@exercise
def check(answer):
    for sample in "a small fox", "überquert 🦊 狐":
        ids = tokenizer.encode(sample)
        given = answer(list(ids))
        if given == sample:
            continue
        if isinstance(given, bytes):
            return (
                "These are the right bytes, but a text is wanted: decode them."
                if given == sample.encode()
                else "Bytes?"
            )
        if given == "".join(tokenizer.tokens[i] for i in ids):
            return "These are the names of the tokens, in which each byte is a letter, and a space is Ġ."
        if "\ufffd" in given:
            return f"{given!r}: half characters were decoded by themselves. Join all the bytes first."
        if given == sample.encode().decode("latin-1"):
            return f"{given!r}: each byte became a character. In UTF-8 several bytes may be one."
        if given.replace(" ", "") == sample.replace(" ", ""):
            return f"{given!r}: the spaces are wrong; each is part of the token behind it, so add none."
        return f"{given!r} should be {sample!r}."
    return None


# %%
check(...)  # your function: def decode(token_ids): ...


# %% tags=["solution"] jupyter={"source_hidden": true}
def solution():
    def decode(token_ids):
        return b"".join(tokenizer.token_bytes(i) for i in token_ids).decode()

    return decode


check(solution(), "The solution")

# %% [markdown]
# **To go on:** `qwen_ref/tokenizer.py` also decodes token by token, without ever showing half a character:
# `StreamDecoder`. Byte-pair encoding of texts is by
# [Sennrich, Haddow and Birch](https://arxiv.org/abs/1508.07909).
