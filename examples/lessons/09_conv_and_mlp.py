# %% [markdown]
# # 9. The short convolution and the MLP
#
# Two small parts with much to do: a convolution that lets each number see its own last three, and an MLP in
# which half of the numbers decide what becomes of the other half.

# %%
import numpy as np
from lesson import BLUE, GREEN, GREY, ORANGE, PURPLE, close, exercise, figure, plot, say, show

import qwen_ref
from qwen_ref.model.activation import sigmoid, silu
from qwen_ref.model.conv import causal_conv
from qwen_ref.model.deltanet import deltanet
from qwen_ref.model.mlp import mlp

model = qwen_ref.load(backend="numpy")
text, config = model.text, model.text.config
TEXT = "Tell me a story about a fox."  # CHANGE ME
trace = model.trace(TEXT)
T = len(trace.tokens)

# %% [markdown]
# ## The convolution
#
# Before keys, queries and values go into the delta rule, each of their numbers is mixed with the same number
# of the three tokens before. With a kernel of $n$ weights $w_0 \dots w_{n-1}$ for each channel,
#
# $$y_t = \sum_{j=0}^{n-1} w_j \, x_{t - (n - 1) + j}.$$
#
# The last weight is for the token itself, the first for the one farthest back. What for? A key that is made
# of several tokens in a row can stand for *what comes after “my name is”*, and not only for *a name*.
# Attention layers can find the token before by its position; DeltaNet has no positions, and this is what it
# has instead.

# %%
show(causal_conv, "window =", "return")
show(deltanet, "qkv, state.conv = causal_conv", 'qkv = tap("conv1d"')

# %%
layers = trace.layers(attention=False)
kernels = np.stack([text.weights.layers[i].mixer.conv for i in layers])  # [layers, n, channels]
n = kernels.shape[1]
parts = {"queries": slice(0, config.key_dim), "keys": slice(config.key_dim, 2 * config.key_dim)}
parts["values"] = slice(2 * config.key_dim, None)
share = np.abs(kernels) / np.abs(kernels).sum(axis=1, keepdims=True)  # of each channel's weights

fig, axes = figure(columns=3, height=2.8, width=9, sharey=True)
for ax, (name, channels) in zip(axes, parts.items(), strict=True):
    for number in range(len(layers)):
        shade = 0.25 + 0.75 * number / len(layers)
        ax.plot(
            range(1 - n, 1),
            share[number, :, channels].mean(axis=1),
            "o-",
            color=BLUE,
            alpha=shade,
            markersize=4,
        )
    ax.axhline(1 / n, color=GREY, linestyle=":", linewidth=1)
    ax.set(title=name, xlabel="tokens back", xticks=range(1 - n, 1))
axes[0].set(ylabel="mean share of the weights", ylim=(0, None))
plot(
    fig,
    "How much of a channel's kernel lies on the token itself (0) and on those before, in each DeltaNet "
    "layer, from pale (first) to dark (last). Dotted: all alike.",
)

# %%
before = {name: 1 - share[:, -1, channels].mean() for name, channels in parts.items()}
say(f"""
On average {100 * before["queries"]:.0f}% of a query's weights lie on earlier tokens,
{100 * before["keys"]:.0f}% of a key's and {100 * before["values"]:.0f}% of a value's.
""")

# %% [markdown]
# Since a token needs the three before it, they must be remembered between calls: the `past`. Cutting a text
# in two, and handing the past on, gives the same as the whole:

# %%
layer = layers[0]
x, kernel = trace[f"layers.{layer}.linear_attn.in_proj_qkv"], text.weights.layers[layer].mixer.conv
nothing = np.zeros((n - 1, x.shape[1]), x.dtype)
whole, _ = causal_conv(x, kernel, nothing)
first, past = causal_conv(x[:5], kernel, nothing)
second, _ = causal_conv(x[5:], kernel, past)
assert close(np.concatenate([first, second]), whole)

# %% [markdown]
# ## The MLP
#
# An MLP widens the stream, does something that is not linear to each number, and makes it narrow again. In
# Qwen3.5 two matrices widen it. One result goes through $\operatorname{silu}(x) = x \, \sigma(x)$ and
# multiplies the other:
#
# $$y = W_\text{down} \, \bigl( \operatorname{silu}(W_\text{gate} \, x) \odot W_\text{up} \, x \bigr).$$
#
# Read it like this: row $i$ of $W_\text{gate}$ asks whether a pattern is there; if not, silu is near zero and
# nothing happens. If so, column $i$ of $W_\text{down}$ is added to the stream, as much of it as row $i$ of
# $W_\text{up}$ says. It is a memory, too, but one that was written in training and never changes: its keys
# are rows of the gate, its values columns of the last matrix.

# %%
show(mlp, "gate, up =", "return")

# %%
gates = {i: trace[f"layers.{i}.mlp.gate_proj"] for i in range(config.num_layers)}
gated = {i: np.abs(trace[f"layers.{i}.mlp.gated"]) for i in range(config.num_layers)}


def share_of_few(x, few=0.1):
    """x [T, N] -> how much of the sum of squares the largest tenth of each row has."""
    squares = np.sort(x**2, axis=1)[:, ::-1]
    return squares[:, : int(few * x.shape[1])].sum() / squares.sum()


fig, (left, right) = figure(columns=2, height=3.2, width=9)
line = np.linspace(-6, 4, 200)
left.plot(line, silu(line), color=BLUE, label="silu(x)")
left.plot(line, np.maximum(line, 0), color=GREY, linewidth=1, linestyle="--", label="max(x, 0)")
left.plot(line, sigmoid(line), color=GREEN, linewidth=1, label="sigmoid(x)")
values = np.concatenate([x.ravel() for x in gates.values()])
density = left.twinx()
density.hist(values, bins=np.linspace(-6, 4, 60), color=ORANGE, alpha=0.35)
density.set(yticks=[])
density.grid(visible=False)
left.set(xlabel="x", title="The gate, and where its inputs lie (orange)")
left.legend(loc="upper left")
open_ = [float(np.mean(x > 0)) for x in gates.values()]
few = [share_of_few(x) for x in gated.values()]
right.plot(range(config.num_layers), open_, "o-", color=BLUE, label="gates above zero")
right.plot(range(config.num_layers), few, "s-", color=PURPLE, label="what a tenth of the numbers do")
right.set(xlabel="layer", ylim=(0, 1.03), title="How many numbers do the work")
right.legend()
plot(
    fig,
    "Left: silu is a soft max(x, 0), and shuts below zero. Right, by layer: the share of gates above "
    "zero, and how much of the sum of squares the largest tenth of the numbers has.",
)

# %%
weights = sum(m.shape[0] * m.shape[1] for m in vars(text.weights.layers[0].mlp).values())
every = sum(tensor.rows * tensor.columns for tensor in text.file.tensors.values())
say(f"""
On this text {100 * np.mean(open_):.0f}% of the gates are above zero. The largest tenth of the numbers has
{100 * np.mean(few):.0f}% of the sum of squares. The MLPs hold
{100 * config.num_layers * weights / every:.0f}% of the model's weights.
""")

# %% [markdown]
# ## Exercise
#
# A model that answers has one new token at a time. Write `step(x, kernel, past)` for one token: `x` has shape
# [channels], `kernel` [n, channels], `past` [n - 1, channels], oldest first. Return the output [channels] and
# the new past.


# %% tags=["fold"] jupyter={"source_hidden": true}
@exercise
def check(answer):
    rng = np.random.default_rng(9)
    x, kernel, past = rng.normal(size=5), rng.normal(size=(4, 5)), rng.normal(size=(3, 5))
    right, moved = causal_conv(x[None], kernel, past)
    result = answer(x.copy(), kernel.copy(), past.copy())
    if not isinstance(result, tuple) or len(result) != 2:
        return "Two things are to be returned: the output, and the past for the next token."
    y, new = np.asarray(result[0], float), np.asarray(result[1], float)
    window = np.concatenate([past, x[None]])
    if y.shape != (5,):
        return f"The output has shape {list(y.shape)}, and should have one number for each of the 5 channels."
    if not close(y, right[0]):
        if close(y, (kernel[::-1] * window).sum(axis=0)):
            return "The kernel is the wrong way round: its last weight is for the token itself."
        if close(y, (kernel[:-1] * past).sum(axis=0)) or close(y, (kernel[1:] * past).sum(axis=0)):
            return "The token itself is missing from the sum."
        if close(y, kernel[-1] * x):
            return "The past is missing from the sum."
        return f"The output of channel 0 is {y[0]:.4f}, and should be {right[0, 0]:.4f}."
    if new.shape != past.shape:
        return (
            f"The output is right. The new past has shape {list(new.shape)}, and should keep "
            f"{list(past.shape)}."
        )
    if close(new, past):
        return "The output is right, but the past has not moved on: the oldest goes, the token comes in."
    if close(new, moved[::-1]):
        return "The output is right, but the new past is newest first; it was oldest first."
    return (
        None if close(new, moved) else "The output is right; the new past should hold the last three inputs."
    )


# %%
check(...)  # your function: def step(x, kernel, past): ...


# %% tags=["solution"] jupyter={"source_hidden": true}
def solution():
    def step(x, kernel, past):
        window = np.concatenate([past, x[None]])  # [n, channels]
        return (kernel * window).sum(axis=0), window[1:]

    return step


check(solution(), "The solution")

# %% [markdown]
# **To go on:** `qwen_ref/model/conv.py` is 15 lines, `qwen_ref/model/mlp.py` as many. Gated MLPs are by
# [Shazeer](https://arxiv.org/abs/2002.05202); MLPs read as memories by
# [Geva and others](https://arxiv.org/abs/2012.14913).
