# %% [markdown]
# # 1. What is in a GGUF file
#
# A model is one file of three parts: a short list of facts, a list of names, and a long run of numbers; we
# read it by hand.

# %%
import struct
from collections import Counter

import numpy as np
from lesson import BLUE, GREEN, GREY, ORANGE, PURPLE, exercise, figure, plot, say, show

from gguf_io import open_gguf, quants, reader
from qwen_ref import shipped

# %% [markdown]
# ## The first bytes
#
# **The experiment to change:** which file is read. This is the small model that comes with the package; any
# other GGUF file will do.

# %%
PATH = shipped.MODEL  # CHANGE ME: try shipped.MODEL.with_name("mmproj-tiny-Q8_0.gguf"), its vision file

raw = PATH.read_bytes()
magic, version, tensor_count, key_count = struct.unpack_from("<4sIQQ", raw)
print(raw[:24].hex(" ", 4))
print(magic, version, tensor_count, key_count)

# %%
say(f"""
The first four bytes spell {magic.decode()}, then come a version ({version}), the number of tensors
({tensor_count}) and the number of facts ({key_count}), all little-endian: the least significant byte first.
`<` asks for that, `I` is a number of four bytes, `Q` one of eight.
""")

# %% [markdown]
# The facts follow: for each a name, a type, a value. A text is its length in eight bytes and then its bytes.
# Here is the first of them, read by hand:

# %%
(length,) = struct.unpack_from("<Q", raw, 24)
name = raw[32 : 32 + length].decode()
(kind,) = struct.unpack_from("<I", raw, 32 + length)  # 8 is text
(length_of_value,) = struct.unpack_from("<Q", raw, 36 + length)
print(name, kind, raw[44 + length : 44 + length + length_of_value].decode())

# %% [markdown]
# `gguf_io` does this for the whole list, and checks every length against the end of the file before it
# believes it. It reads no value before somebody asks for it, so opening a file of many gigabytes takes no
# longer than this.

# %%
show(reader._read_part, "magic = header", "tensor_count")

# %%
file = open_gguf(PATH)
for key in file.metadata:
    value = file.metadata[key]
    text = repr(value) if np.ndim(value) == 0 else f"{len(value)} values"
    print(f"{key:45}{text if len(text) < 60 else text[:57] + '...'}")

# %% [markdown]
# These are all sizes of the network, and the tokenizer (lesson 3) with its whole vocabulary. The architecture
# itself is *not* in the file: `general.architecture` is a name, and whoever reads the file has to know what
# to compute. That is what `qwen_ref/model` is.
#
# ## The tensors
#
# Behind the facts stands for each tensor its name, shape, type, and where it begins. A type says how numbers
# are packed: in *blocks* of $B$ numbers that take $b$ bytes together (lesson 2). So a matrix of $R$ rows and
# $C$ columns has
#
# $$\text{bytes} = R \cdot \frac{C}{B} \cdot b,$$
#
# which is these two lines:

# %%
show(quants.QuantType.row_bytes, "return")
show(reader.Tensor.nbytes.fget, "return")

# %%
for tensor in list(file.tensors.values())[:12]:
    print(
        f"{tensor.name:32}{list(tensor.shape)!s:16}{tensor.type.name:6}{tensor.nbytes:>9,} bytes at "
        f"{tensor.offset:,}"
    )

# %% [markdown]
# Where do the bytes go? We sort the tensors by what they belong to.

# %%
KINDS = {
    "what is said of it": GREY,
    "embedding": ORANGE,
    "mixers": BLUE,
    "MLPs": GREEN,
    "norms and other vectors": PURPLE,
}


def kind_of(tensor):
    """Which part of the network a tensor belongs to, by its name and shape."""
    if tensor.rows == 1 or "norm" in tensor.name or tensor.name.endswith("bias"):
        return "norms and other vectors"
    if "embd" in tensor.name:
        return "embedding"
    return "MLPs" if "ffn" in tensor.name or tensor.name.startswith("mm.") else "mixers"


start_of_tensors = min(tensor.offset for tensor in file.tensors.values())
places = [(0, start_of_tensors, "what is said of it")]
places += [(tensor.offset, tensor.nbytes, kind_of(tensor)) for tensor in file.tensors.values()]
sizes = Counter()
for _, nbytes, kind in places:
    sizes[kind] += nbytes

fig, (strip, bars) = figure(rows=2, height=3.6, height_ratios=[1, 2])
for kind, colour in KINDS.items():
    spans = [(start, nbytes) for start, nbytes, of_kind in places if of_kind == kind]
    strip.broken_barh(spans, (0, 1), color=colour, linewidth=0)
strip.set(yticks=[], xlim=(0, len(raw)), xlabel="byte of the file")
strip.ticklabel_format(axis="x", style="sci", scilimits=(6, 6))
bars.barh(list(KINDS), [sizes[kind] / 1e6 for kind in KINDS], color=list(KINDS.values()))
bars.invert_yaxis()
bars.set(xlabel="MB")
plot(
    fig,
    "The whole file from its first byte to its last, and how many bytes each part takes. The header with "
    "the vocabulary comes first; then block after block, mixer and MLP in turn.",
)

# %%
padding = len(raw) - sum(nbytes for _, nbytes, _ in places)
assert 0 <= padding < 64 * (len(file.tensors) + 1)
largest = max(sizes, key=sizes.get)
numbers = sum(int(np.prod(tensor.shape)) for tensor in file.tensors.values())
say(f"""
All parts together are the whole file, but for {padding:,} bytes that let each tensor begin at a multiple of
{file.metadata.get("general.alignment", 32)}. The file holds {numbers:,} numbers; {largest} take the most
room, {100 * sizes[largest] / len(raw):.0f}% of it. On average a number takes
{8 * (len(raw) - start_of_tensors) / numbers:.2f} bits.
""")

# %% [markdown]
# ## Exercise
#
# A matrix of 1,024 rows and 2,048 columns is stored as Q6_K. How many bytes does it take? The type's sizes
# are in `quants.TYPES`, but you can also work them out: a block of 256 numbers has six bits for each of them,
# 16 scales of one byte, and one float16 over all.


# %% tags=["fold"] jupyter={"source_hidden": true}
@exercise
def check(answer):
    numbers = 1024 * 2048
    right = 1024 * next(t for t in quants.TYPES.values() if t.name == "Q6_K").row_bytes(2048)
    if answer == right:
        return None
    if answer == numbers * 6 // 8:
        return "These are only the six bits of each number. Every block has scales, too."
    if answer == 8 * right:
        return "Right, in bits. A byte has eight."
    if answer == numbers * 6:
        return "These are bits, and only those of the numbers themselves; every block has scales, too."
    if answer == right // 1024:
        return "That is one row."
    return (
        f"A number takes {8 * answer / numbers:.3f} bits in your answer, and should take a little more "
        "than 6.5."
    )


# %%
check(...)  # your answer: a whole number of bytes


# %% tags=["solution"] jupyter={"source_hidden": true}
def solution():
    """A block: 256 x 6 bits are 192 bytes, 16 scales, a float16 of 2 bytes; and there are 1024 x 8 blocks."""
    return 1024 * (2048 // 256) * (192 + 16 + 2)


check(solution(), "The solution")

# %% [markdown]
# **To go on:** `python -m gguf_io FILE` prints what is in any GGUF file. Lesson 2 looks into a block. The
# format is described [by its authors](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
