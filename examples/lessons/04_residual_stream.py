# %% [markdown]
# # 4. The residual stream and RMSNorm
#
# Every token has one vector that runs through the whole model; each layer reads a normalized copy of it, and
# adds what it has found.

# %%
from dataclasses import replace

import numpy as np
from lesson import BLUE, GREY, ORANGE, close, example, exercise, figure, picture, plot, say, show

import qwen_ref
from qwen_ref.model.activation import softmax
from qwen_ref.model.norm import rms_norm
from qwen_ref.model.text import TextModel
from qwen_ref.model.trace import watching

model = qwen_ref.load(backend="numpy")
text, config = model.text, model.text.config

# %% [markdown]
# ## Adding
#
# A token's number picks a row of the embedding table: its vector $x$. Then come the layers, and each does
# twice the same:
#
# $$x \leftarrow x + \operatorname{mixer}(\operatorname{norm}(x)), \qquad
# x \leftarrow x + \operatorname{mlp}(\operatorname{norm}(x)).$$
#
# The mixer is where a token looks at earlier ones: Gated DeltaNet (lesson 7) or, in every fourth layer,
# attention (lesson 6). The MLP (lesson 9) works on each token by itself. In the source, `tap` only gives a
# value a name:

# %%
show(TextModel.block, "x = x + self.mixer", "return")

# %% [markdown]
# Here are both kinds of blocks, drawn by a script from the configuration of the model. Follow the thick line
# on the left: nothing is ever done *to* it, things are only added. That is the **residual stream**.

# %%
picture(example("blocks").picture(config), "Both kinds of blocks, with the sizes of the small model.")

# %% [markdown]
# Since everything is a sum, the last vector is simply the embedding plus what each half of each layer has
# added:

# %%
PROMPT = "My name is Ada. What is my name?"  # CHANGE ME
prompt = model.encode_prompt(PROMPT)
values = model.trace(prompt)  # every value that has a name, in order
added = {}  # what each half of each layer has added, [T, hidden]
for i in range(config.num_layers):
    kind = "self_attn.o_proj" if config.is_full_attention(i) else "linear_attn.out_proj"
    added[f"mixer {i}"] = values[f"layers.{i}.{kind}"]
    added[f"MLP {i}"] = values[f"layers.{i}.mlp.down_proj"]
total = values["embed_tokens"] + sum(added.values())
assert close(total, values[f"layers.{config.num_layers - 1}.output"])

sizes = [np.linalg.norm(values["embed_tokens"], axis=1).mean()]
sizes += [np.linalg.norm(part, axis=1).mean() for part in added.values()]
say(f"""
The embedding has a mean length of {sizes[0]:.1f}, the sum at the end one of
{np.linalg.norm(total, axis=1).mean():.1f}. What is added has lengths from {min(sizes[1:]):.1f} to
{max(sizes[1:]):.1f}.
""")

# %% [markdown]
# ## Normalizing
#
# The stream grows as it goes, and a layer should not have to care. So what a layer reads is divided by its
# own size first, and each of its $N$ numbers is multiplied by a learned weight:
#
# $$\operatorname{norm}(x)_i = \frac{x_i}{\sqrt{\frac{1}{N} \sum_j x_j^2 + \epsilon}} \, w_i.$$
#
# The root is the *root mean square* of the vector, hence **RMSNorm**. The small $\epsilon$ only keeps zeros
# from being divided by zero.

# %%
show(rms_norm, "mean_square =", "return")

# %% [markdown]
# Multiply $x$ by any positive number, and the result is (but for $\epsilon$) the same. Only the *direction*
# of the stream is read:

# %%
x, w = values["embed_tokens"], text.weights.layers[0].input_norm
assert close(rms_norm(1000 * x, w, 0.0), rms_norm(x, w, 0.0))

# %% [markdown]
# ## Reading the stream early
#
# The head at the end turns the last vector into a score for each token. Nothing keeps us from asking it
# earlier: normalize the stream after a layer, apply the head, and see what the model would say if it stopped
# there. This is called the **logit lens**. What is the probability of the token that the model chooses in the
# end?


# %%
def lens(x):
    """x [T, hidden] -> probabilities of the next token, [T, vocab]."""
    return softmax(text.logits(text.norm(x, text.weights.final_norm, "norm")))


answer = "".join(model.generate(prompt, max_tokens=8, temperature=0))
values = model.trace(replace(prompt, token_ids=prompt.token_ids + model.tokenizer.encode(answer)))
start = len(prompt.token_ids) - 1
chosen = values["logits"][start:].argmax(axis=1)  # what the model says after each token
depths = ["embed_tokens"]
for i in range(config.num_layers):
    depths += [f"layers.{i}.mixed", f"layers.{i}.output"]
chances = np.stack(
    [np.take_along_axis(lens(values[name])[start:], chosen[:, None], 1)[:, 0] for name in depths]
)

fig, ax = figure(height=4.6)
image = ax.imshow(chances, aspect="auto", vmin=0, vmax=1, origin="lower")
labels = ["embedding"] + [f"{half} {i}" for i in range(config.num_layers) for half in ("mixer", "MLP")]
ax.set_yticks(range(len(depths)), labels, fontsize=8)
ax.set_xticks(
    range(len(chosen)), [repr(model.tokenizer.decode([i]))[1:-1] for i in chosen], rotation=60, fontsize=9
)
ax.grid(visible=False)
ax.set(xlabel="the token that is said in the end")
fig.colorbar(image, ax=ax, label="its probability, read here")
plot(
    fig,
    "The logit lens: from bottom to top, how probable the token that is said in the end already is after "
    "each half of each layer. Easy tokens are there early, others are made by the last layers.",
)

# %%
last = chances[-1]
early = [int(np.argmax(column > 0.5 * final)) for column, final in zip(chances.T, last, strict=True)]
first, late = int(np.argmin(early)), int(np.argmax(early))
say(f"""
The model answers “{answer.strip()}”. Its token “{model.tokenizer.decode([chosen[first]]).strip()}” has half
of its final probability after “{labels[early[first]]}” already,
“{model.tokenizer.decode([chosen[late]]).strip()}” only after “{labels[early[late]]}”.
""")

# %% [markdown]
# ## What if a layer adds nothing?
#
# Since layers only add, one can be left out without anything breaking in form. How much is lost differs
# greatly. A watcher puts zeros in place of what the mixer or the MLP of one layer would add:


# %%
def without(name):
    """The probabilities after the last token of the prompt if the values of this name are zero."""
    with watching(lambda tap, x: np.zeros_like(x) if tap == name else None):
        hidden = text.forward(prompt.token_ids, text.new_state())
    return softmax(text.logits(hidden[-1:]))[0]


p = without("nothing")
mixers, mlps = [], []
for i in range(config.num_layers):
    kind = "self_attn.o_proj" if config.is_full_attention(i) else "linear_attn.out_proj"
    for name, losses in (f"layers.{i}.{kind}", mixers), (f"layers.{i}.mlp.down_proj", mlps):
        losses.append(float(np.sum(p * np.log2(p / without(name)))))
fig, ax = figure(height=2.6)
at = np.arange(config.num_layers)
ax.bar(at - 0.2, mixers, 0.4, color=BLUE, label="without its mixer")
ax.bar(at + 0.2, mlps, 0.4, color=ORANGE, label="without its MLP")
ax.set(xlabel="layer", ylabel="bits lost", yscale="log")
ax.axhline(1, color=GREY, linewidth=1, linestyle=":")
ax.legend()
plot(
    fig,
    "How far the distribution of the next token moves when one half of one layer adds nothing (log scale).",
)

# %% [markdown]
# ## Exercise
#
# Write `norm(x, w)`: RMSNorm for `x` of shape [T, N] and `w` of shape [N], with an epsilon of zero.


# %% tags=["fold"] jupyter={"source_hidden": true}
@exercise
def check(answer):
    rng = np.random.default_rng(4)
    x, w = rng.normal(1.0, 3.0, size=(3, 8)), rng.normal(size=8)
    given, right = np.asarray(answer(x.copy(), w.copy()), float), rms_norm(x, w, 0.0)
    if close(given, right):
        return None
    if given.shape != right.shape:
        return (
            f"The result has shape {list(given.shape)}, but x has {list(right.shape)}: keepdims=True keeps "
            "an axis."
        )
    centred = x - x.mean(axis=1, keepdims=True)
    if close(given, rms_norm(centred, w, 0.0)):
        return "You subtract the mean. That is LayerNorm; RMSNorm leaves the mean where it is."
    if close(given, right / np.sqrt(8)):
        return (
            "You divide by the length of the vector, the root of the sum. RMSNorm takes the root of the mean."
        )
    if close(given * w, right):
        return "The learned weights w are missing."
    if close(given, x / np.sqrt(np.mean(x * x)) * w):
        return "All tokens share one size here; each row needs its own, over the last axis."
    if close(given, x / np.mean(x * x, axis=1, keepdims=True) * w):
        return "The root is missing."
    return f"For the first row it gives {given[0, :3].round(3)}…, and should give {right[0, :3].round(3)}…"


# %%
check(...)  # your function: def norm(x, w): ...


# %% tags=["solution"] jupyter={"source_hidden": true}
def solution():
    def norm(x, w):
        return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True)) * w

    return norm


check(solution(), "The solution")

# %% [markdown]
# **To go on:** `docs/reading.md` follows one token through two layers, with the shape of every value on its
# way. RMSNorm is by [Zhang and Sennrich](https://arxiv.org/abs/1910.07467).
