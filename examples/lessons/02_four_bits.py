# %% [markdown]
# # 2. Four bits a weight, and what they cost
#
# A weight is stored as a small whole number, and 32 of them share a scale; each bit less doubles the error.

# %%
import numpy as np
from gguf.quants import quantize
from lesson import BLUE, GREEN, GREY, ORANGE, close, exercise, figure, plot, say, show

import qwen_ref
from gguf_io import quants
from qwen_ref.model.activation import silu, softmax
from qwen_ref.model.layers import NUMPY, replaced

rng = np.random.default_rng(2)
TYPES = {t.name: t for t in quants.TYPES.values()}

# %% [markdown]
# ## One block
#
# The simplest four-bit type is Q4_0. A block holds 32 weights: a scale $d$ in float16, and for each weight a
# number $q$ from 0 to 15. A weight is
#
# $$w_i = d \, (q_i - 8).$$

# %%
show(quants.dequantize_q4_0, "q = _nibbles", "return")

# %% [markdown]
# To store a weight is to choose the nearest of 16 levels. With $d$ chosen so that the largest weight of the
# block just fits, levels are $d$ apart, and an error is anything between $-d/2$ and $d/2$. If all errors in
# that range are equally likely, the mean square is
#
# $$\frac{1}{d} \int_{-d/2}^{d/2} e^2 \, \mathrm{d}e = \frac{d^2}{12}.$$
#
# One bit more halves $d$, and so halves the error. Let us see how good this estimate is for random weights:

# %%
weights = rng.normal(size=(64, 1024)).astype(np.float32)  # like a layer's: many small, few large


def relative_error(approximate, exact):
    return float(np.sqrt(np.mean((approximate - exact) ** 2) / np.mean(exact**2)))


def through(name, w):
    """w as it comes back out of a file of this type."""
    return TYPES[name].dequantize(quantize(w, TYPES[name].id))


blocks = weights.reshape(-1, 32)
d = np.abs(blocks).max(axis=1) / 8
estimate = float(np.sqrt(np.mean(d**2) / 12) / weights.std())
measured = relative_error(through("Q4_0", weights), weights)
assert 0.8 < measured / estimate < 1.25
say(f"""
Of the size of the weights, the estimate of Q4_0's error is {100 * estimate:.1f}%, and the error is
{100 * measured:.1f}%.
""")

# %% [markdown]
# ## Why blocks, and why so small
#
# One large weight makes $d$ large, and so the errors of all that share its scale. Short blocks keep the
# damage local, but cost more scales. The K types do both: Q4_K has blocks of 256 with two floats, and in it
# eight runs of 32 with a scale $s$ and a minimum $m$ of six bits each,
#
# $$w_i = d \, s_j \, q_i - d_\text{min} \, m_j.$$

# %%
show(quants._k_affine, "scales, mins", "return")

# %% [markdown]
# ## What it costs the model
#
# Errors of weights become errors of answers. Take all MLP matrices of the small model, round them once more,
# with a scale for each block, and compare what the model says. A good measure of how far one distribution $q$
# is from another one $p$ is the Kullback-Leibler divergence: how many bits, on average, it costs to believe
# $q$ where $p$ is true,
#
# $$D(p \,\Vert\, q) = \sum_x p(x) \, \log_2 \frac{p(x)}{q(x)}.$$
#
# **The experiment to change:** how many weights share a scale.

# %%
BLOCK = 32  # CHANGE ME: try 8, or 256

model = qwen_ref.load(backend="numpy")
text = model.text
prompts = ["Tell me a story about a fox.", "What is 27 + 58?", "My name is Ada. What is my name?"]
prompts = [model.encode_prompt(prompt).token_ids for prompt in prompts]


def rounded(w, bits):
    """w [O, I] with each run of BLOCK weights on 2**bits levels around zero."""
    runs = w.reshape(-1, BLOCK)
    half = 2 ** (bits - 1)
    scale = np.abs(runs).max(axis=1, keepdims=True) / half
    scale[scale == 0] = 1
    return (np.clip(np.round(runs / scale), -half, half - 1) * scale).reshape(w.shape)


def probabilities():
    """Of the next token, after every token of the prompts: [T, vocab]."""
    return np.concatenate([softmax(text.logits(text.forward(ids, text.new_state()))) for ids in prompts])


def with_bits(bits):
    """The divergence, in bits a token, and the mean error of a weight."""
    made, errors = {}, []
    for layer in text.weights.layers:
        parts = []
        for matrix in layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj:
            exact = matrix.tensor.dequantize()
            parts.append(rounded(exact, bits))
            errors.append(relative_error(parts[-1], exact))
        made[id(layer.mlp)] = parts

    def mlp(x, w):
        gate, up, down = made[id(w)]
        return (silu(x @ gate.T) * (x @ up.T)) @ down.T

    text.layers = replaced(NUMPY, mlp=mlp)
    q = probabilities()
    text.layers = NUMPY
    return float(np.mean(np.sum(p * np.log2(p / q), axis=1))), np.mean(errors)


p = probabilities().astype(np.float64)
BITS = [2, 3, 4, 5, 6, 8]
divergences, errors = np.array([with_bits(bits) for bits in BITS]).T

# %%
fig, (left, right) = figure(columns=2, height=3.4)
names = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "BF16"]
stored = [8 * TYPES[name].block_bytes / TYPES[name].block_size for name in names]
lost = [relative_error(through(name, weights), weights) for name in names]
left.semilogy(stored, lost, "o", color=BLUE)
for name, x, y in zip(names, stored, lost, strict=True):
    below = name.endswith("_1")
    left.annotate(name, (x, y), textcoords="offset points", xytext=(-4, -13) if below else (6, 3), fontsize=8)
line = np.array([4, 9])
left.semilogy(
    line, lost[0] * 2.0 ** -(line - stored[0]), "--", color=GREY, linewidth=1, label="half for each bit"
)
left.set(
    xlabel="bits a weight, scales included",
    ylabel="error of a weight, of its size",
    title="Weights",
    xlim=(4, 17.5),
)
left.legend()
right.semilogy(BITS, divergences, "o-", color=ORANGE, label="bits lost a token")
right.semilogy(BITS, errors, "s--", color=GREEN, markersize=4, label="error of a weight")
right.set(xlabel="bits of the MLPs' weights", title="The model's answers")
right.legend()
plot(
    fig,
    "Left: bits against error for the types of GGUF, on random weights. Right: the same rounding applied "
    "to all MLPs of the small model, and how far its answers move. Answers go with the square of the "
    "error: twice as steep.",
)

# %%
slope = np.polyfit(np.log(errors[1:5]), np.log(divergences[1:5]), 1)[0]
say(f"""
From three bits to six, the divergence goes like the error of a weight to the power {slope:.1f}. Around the
minimum of anything smooth the loss is quadratic, and so a small error costs next to nothing: with four bits
{divergences[2]:.4f} bits a token, with two {divergences[0]:.2f}.
""")

# %% [markdown]
# ## Exercise
#
# Write a function that takes one block of Q8_0, an array of 34 bytes (`uint8`), and gives its 32 weights. The
# layout: a float16 scale, little-endian, then 32 signed bytes; a weight is the scale times its byte. NumPy's
# `view` reads the bytes of an array as another type.

# %%
stored_block = quantize(rng.normal(size=(1, 32)).astype(np.float32), TYPES["Q8_0"].id)[0]  # uint8 [34]


# %% tags=["fold"] jupyter={"source_hidden": true}
@exercise
def check(answer):
    right = TYPES["Q8_0"].dequantize(stored_block[None])[0]
    given = np.asarray(answer(stored_block.copy()), np.float64)
    if given.shape != (32,):
        return f"The result has shape {list(given.shape)}, but a block has 32 weights."
    if close(given, right):
        return None
    signed = stored_block[2:].view(np.int8)
    if close(given, signed):
        return "These are the whole numbers; the scale is missing."
    scale = float(stored_block[:2].view(np.float16)[0])
    if close(given, scale * stored_block[2:].astype(float)):
        return "The bytes are signed: 255 stands for -1. Ask for view(np.int8)."
    if close(given / given[0], right / right[0]):
        return (
            f"The weights are right but for one factor: your scale is {given[0] / right[0]:.3g} times the "
            "true one."
        )
    return (
        "Neither scale nor whole numbers are right: the scale is bytes 0 and 1, the numbers are bytes 2 "
        "to 33."
    )


# %%
check(...)  # your function: def dequantize(block): ...


# %% tags=["solution"] jupyter={"source_hidden": true}
def solution():
    def dequantize(block):
        return block[:2].view(np.float16).astype(np.float32) * block[2:].view(np.int8)

    return dequantize


check(solution(), "The solution")

# %% [markdown]
# **To go on:** `gguf_io/quants.py` has all layouts. `python -m qwen_ref perplexity` measures what a file's
# rounding costs on a text of yours (`docs/perplexity.md`).
