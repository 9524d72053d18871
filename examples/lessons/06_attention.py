# %% [markdown]
# # 6. Attention and its gate
#
# A token asks all tokens before it, takes a weighted mean of what they offer, and a gate decides how much of
# it is let through.

# %%
from dataclasses import replace

import numpy as np
from lesson import BLUE, close, exercise, figure, plot, say, show

import qwen_ref
from qwen_ref.model.activation import softmax
from qwen_ref.model.attention import attention, causal_attention
from qwen_ref.model.trace import watching

model = qwen_ref.load(backend="numpy")
text, config = model.text, model.text.config

# %% [markdown]
# ## Asking
#
# Each token makes three vectors of its own: a query $q$ (what do I look for?), a key $k$ (what can I be found
# by?) and a value $v$ (what do I offer?). The scores of a query against all keys become weights by softmax,
# which makes them positive with a sum of one, and the answer is the mean of the values with these weights:
#
# $$a_{ts} = \frac{\exp(q_t \cdot k_s / \sqrt{D})}{\sum_{r \le t} \exp(q_t \cdot k_r / \sqrt{D})}, \qquad
# o_t = \sum_{s \le t} a_{ts} \, v_s.$$
#
# A token sees itself and what is before it, $s \le t$; so all tokens of a text can be computed at once and
# none sees what it should predict. The root keeps the scores of about the same size for any $D$: a sum of $D$
# products of random numbers grows like $\sqrt{D}$.

# %%
show(causal_attention, "visible =")
show(causal_attention, "scores =", "out[:, group]")

# %% [markdown]
# Several heads do this at once, each with a query of its own. To keep fewer keys and values, groups of query
# heads share one pair of them (*grouped* attention).

# %%
say(f"""
Here there are {config.num_attention_heads} query heads and {config.num_key_value_heads} heads of keys and
values, so {config.num_attention_heads // config.num_key_value_heads} queries look into the same keys.
""")

# %% [markdown]
# ## What a head looks at
#
# **The experiment to change:** the prompt.

# %%
PROMPT = "My name is Ada. What is my name?"  # CHANGE ME: try "What is 27 + 58?"
prompt = model.encode_prompt(PROMPT)
answer = "".join(model.generate(prompt, max_tokens=12, temperature=0))
ids = prompt.token_ids + model.tokenizer.encode(answer)
values = model.trace(replace(prompt, token_ids=ids))  # every value that has a name
tokens = [repr(token)[1:-1] for token in values.tokens]
layers = values.layers(attention=True)
for layer in layers:
    weights = values.attention(layer)  # [H, T, T]: how much token t takes from token s
    assert close(weights.sum(axis=-1), np.ones(weights.shape[:2])) and np.triu(weights, 1).max() == 0

layer = layers[-1]
maps = values.attention(layer)
fig, axes = figure(columns=2, rows=-(-len(maps) // 2), height=4.2 * -(-len(maps) // 2), width=9)
for head, ax in enumerate(axes.ravel()[: len(maps)]):
    ax.imshow(np.sqrt(maps[head]), vmin=0, vmax=1)
    ax.set(title=f"head {head}", xticks=range(len(tokens)), yticks=range(len(tokens)))
    ax.set_xticklabels(tokens, rotation=90, fontsize=6)
    ax.set_yticklabels(tokens, fontsize=6)
    ax.grid(visible=False)
plot(
    fig,
    f"Attention of layer {layer} on the prompt and the model's answer: each row is a token, and the darker "
    "a column in it, the more it takes from there. Everything above the diagonal is the future, and "
    "empty.",
)

# %%
spread = -np.sum(maps * np.log2(np.where(maps > 0, maps, 1)), axis=-1).mean(axis=1)  # bits
sharp, broad = int(np.argmin(spread)), int(np.argmax(spread))
say(f"""
The model answers “{answer.strip()}”. A head that takes all from one token has a spread of 0 bits, one that
takes alike from all {len(tokens)} tokens {np.log2(len(tokens)):.1f}. Head {sharp} is the sharpest here, with
{spread[sharp]:.1f} bits, and head {broad} the broadest, with {spread[broad]:.1f}.
""")

# %% [markdown]
# ## The gate
#
# Softmax cannot say *nothing*: the weights have a sum of one, and something always comes back. In Qwen3.5 the
# token makes a fourth vector, out of the same matrix as the query, and its sigmoid, between 0 and 1,
# multiplies what attention brings:
#
# $$y_t = W_o \, \bigl( o_t \odot \sigma(z_t) \bigr).$$

# %%
show(attention, "q_and_gate =", "q, gate =")
show(attention, 'out = tap("gated"', "return")

# %%
gates = np.concatenate([values[f"layers.{i}.self_attn.gate"].ravel() for i in layers])
gates = 1 / (1 + np.exp(-gates.astype(np.float64)))
fig, ax = figure(height=2.6)
ax.hist(gates, bins=40, color=BLUE)
ax.set(xlabel="how far a gate is open", ylabel="numbers")
plot(fig, "All gates of all attention layers on this text. Those on the left let nothing through.")
say(f"""
{100 * np.mean(gates < 0.1):.0f}% of them are less than a tenth open, and {100 * np.mean(gates > 0.9):.0f}%
more than nine tenths.
""")

# %% [markdown]
# What if all gates were open? A watcher may return another value than it was given; a gate of infinity has a
# sigmoid of one.


# %%
def probabilities(watch):
    with watching(watch):
        hidden = text.forward(ids, text.new_state())
    return softmax(text.logits(hidden).astype(np.float64))


p = probabilities(lambda name, x: None)
q = probabilities(lambda name, x: np.full_like(x, np.inf) if name.endswith("self_attn.gate") else None)
lost = np.sum(p * np.log2(p / q), axis=1)
say(f"""
With all gates open, the distribution of the next token moves by {lost.mean():.2f} bits on average, and by
{lost.max():.1f} after “{tokens[int(lost.argmax())]}”.
""")

# %% [markdown]
# ## What it costs
#
# Keys and values of all tokens are kept (the *KV cache*), and a new token reads them all.

# %%
state = text.new_state()
text.forward(ids, state)
grows = 2 * config.num_key_value_heads * config.head_dim * 4 * len(layers)  # bytes of a token, in float32
fixed = sum(layer.nbytes for layer in state.layers if not layer.grows)
say(f"""
Each token adds {grows:,} bytes in {len(layers)} attention layers. The {config.num_layers - len(layers)}
DeltaNet layers remember in {fixed:,} bytes, whatever the length: as much as {fixed // grows:,} tokens of keys
and values. That is why three layers in four are of the other kind, and lesson 7 is about them.
""")

# %% [markdown]
# ## Exercise
#
# Write `attend(q, k, v)` for one head: all three have shape [T, D], and so has the result. `softmax` works on
# the last axis, and gives minus infinity the weight zero.


# %% tags=["fold"] jupyter={"source_hidden": true}
@exercise
def check(answer):
    rng = np.random.default_rng(6)
    q, k, v = 1.5 * rng.normal(size=(3, 6, 16))
    right = causal_attention(q[:, None], k[:, None], v[:, None])[:, 0]
    given = np.asarray(answer(q.copy(), k.copy(), v.copy()), float)
    if close(given, right):
        return None
    if given.shape != right.shape:
        return f"The result has shape {list(given.shape)}, and should have {list(right.shape)}."
    scores, past = q @ k.T, np.tri(6, dtype=bool)
    if close(given, softmax(scores / 4) @ v):
        return "Every token sees the whole text, the future too. Put -inf where s > t, before the softmax."
    if close(given, softmax(np.where(past, scores, -np.inf)) @ v):
        return "The scores are not divided by the root of D."
    if close(given, softmax(np.where(past, scores / 16, -np.inf)) @ v):
        return "You divide by D, not by its root."
    if close(given, (softmax(scores / 4) * past) @ v):
        return "The future is taken out after the softmax, so the weights no longer add up to one."
    if np.isnan(given[0]).any():
        return "The first token sees nothing at all, not even itself: s <= t, not s < t."
    if close(given, softmax(np.where(past.T, scores / 4, -np.inf)) @ v):
        return "The mask is the wrong way round: each token sees the future and not the past."
    worst = int(np.abs(given - right).max(axis=1).argmax())
    return f"Token {worst} is the farthest from right; token 0 sees only itself, so its result must be v[0]."


# %%
check(...)  # your function: def attend(q, k, v): ...


# %% tags=["solution"] jupyter={"source_hidden": true}
def solution():
    def attend(q, k, v):
        scores = np.where(np.tri(len(q), dtype=bool), q @ k.T / np.sqrt(q.shape[1]), -np.inf)
        return softmax(scores) @ v

    return attend


check(solution(), "The solution")

# %% [markdown]
# **To go on:** `qwen_ref/model/attention.py` is 57 lines. Grouped queries are by
# [Ainslie and others](https://arxiv.org/abs/2305.13245), the gate by
# [Qiu and others](https://arxiv.org/abs/2505.06708).
