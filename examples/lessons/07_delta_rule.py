# %% [markdown]
# # 7. From linear attention to the delta rule
#
# Three layers out of four remember the text in a matrix of one size, and this lesson derives, line by line,
# how a token decays it, reads it, and writes into it.
#
# Attention (lesson 6) keeps the key and the value of every token, and its work grows with the text. What if
# we keep only one matrix, however long the text is?

# %%
import numpy as np
from lesson import BLUE, GREEN, GREY, ORANGE, exercise, figure, plot, say, show

import qwen_ref
from qwen_ref.model import deltanet
from qwen_ref.model.deltanet import gated_delta_recurrent

rng = np.random.default_rng(7)


def unit(x):
    """Vectors of length one in the same directions."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


# %% [markdown]
# ## A matrix that remembers
#
# Let a key $k$ be a vector of length one with $K$ numbers, and a value $v$ one with $V$ numbers. The matrix
# $k v^\top$, of size $K \times V$, remembers the pair: asked with the key, it answers with the value,
#
# $$(k v^\top)^\top k = v \, (k^\top k) = v.$$
#
# To remember several pairs, add their matrices. This is **linear attention**:
#
# $$S_t = S_{t-1} + k_t v_t^\top, \qquad o_t = S_t^\top q_t = \sum_{s \le t} (q_t \cdot k_s) \, v_s.$$
#
# The sum on the right is attention without its softmax; the matrix on the left computes the same and never
# grows. If keys are orthogonal, each pair comes back exactly. Otherwise asking for one key also brings a
# little of the values of all keys that resemble it. There are at most $K$ orthogonal directions, so more than
# $K$ pairs cannot all be kept apart.


# %%
def linear_attention(k, v):
    """k [T, K], v [T, V] -> the state [K, V] after all tokens."""
    return sum(np.outer(k[t], v[t]) for t in range(len(k)))


key, other = unit(rng.normal(size=(2, 16)))
first, second, third = rng.normal(size=(3, 8))
state = linear_attention(np.array([key, other, key]), np.array([first, second, third]))
read = state.T @ key
say(f"""
We wrote *key → first*, *other → second*, and then *key → third*. Asked with *key*, the matrix answers with a
vector at distance {np.linalg.norm(read - third):.2f} from *third*, but only
{np.linalg.norm(read - (first + third)):.2f} from *first + third*: **linear attention adds**. The old value
was never taken out.
""")

# %% [markdown]
# ## Write the error, not the value
#
# Before we write $v$ under $k$, look at what the matrix already answers: $S^\top k$. How wrong is it?
#
# $$L(S) = \frac{1}{2} \, \lVert v - S^\top k \rVert^2, \qquad
# \frac{\partial L}{\partial S} = - k \, (v - S^\top k)^\top.$$
#
# One step of gradient descent with step size $\beta$ makes it less wrong:
#
# $$S \leftarrow S + \beta \, k \, (v - S^\top k)^\top.$$
#
# That is the **delta rule**: write not the value but the *difference* between the value and what is held.
# Multiply by $k^\top$ from the left (its length is one) to see what the matrix answers afterwards:
#
# $$S_\text{new}^\top k = (1 - \beta) \, S^\top k + \beta \, v.$$
#
# With $\beta = 1$ the old value is replaced, with $\beta = 0$ nothing happens, and in between they are mixed.
# For a key $k'$ that is orthogonal to $k$ nothing changes at all, since the matrix changed by a multiple of
# $k$.
#
# ## Forget, too
#
# A text moves on, and what was right on the last page should make room. Gated DeltaNet lets all of the state
# fade by a factor $e^{g}$, at most one, before each token reads and writes. So there are three steps,
# **decay, error, write**, and then a query reads:
#
# $$\begin{aligned}
# S &\leftarrow e^{g_t} S && \text{decay} \\
# u &= \beta_t \, (v_t - S^\top k_t) && \text{error} \\
# S &\leftarrow S + k_t u^\top && \text{write} \\
# o_t &= S^\top q_t && \text{read}
# \end{aligned}$$
#
# Here are the lines that compute it in this project. The letter $h$ counts heads: each has a state of its
# own.

# %%
show(gated_delta_recurrent, "state = state * np.exp", "o[t] =")

# %% [markdown]
# The gates $g_t$ and $\beta_t$ are computed from the token itself. So the model learns, token by token and
# head by head, what to forget and what to write:
#
# $$\beta_t = \sigma(W_b \, x_t), \qquad g_t = A \, \operatorname{softplus}(W_a \, x_t + b), \quad A < 0.$$

# %%
show(deltanet.deltanet, "beta = tap", "g = w.A")

# %% [markdown]
# ## What a key overwrites
#
# Let us write many pairs of random keys and values, and see how well each comes back at the end. The function
# is the model's own. Its heads do not know of each other, so we give it 200 of them at once, each with other
# pairs, and average.
#
# **The experiment to change:** how many pairs are written, and how much is kept at each.

# %%
PAIRS = 24  # CHANGE ME: try 8, 16, 64
KEPT = 0.9  # CHANGE ME: the factor of the decay, from 0 to 1
K, V, HEADS = 16, 8, 200

keys, values = unit(rng.normal(size=(PAIRS, HEADS, K))), unit(rng.normal(size=(PAIRS, HEADS, V)))


def delta_rule(k, v, kept=1.0):
    """k [T, H, K], v [T, H, V] -> the state [H, K, V] after all tokens, with beta = 1."""
    (T, H, K), V = k.shape, v.shape[-1]
    _, state = gated_delta_recurrent(
        k, k, v, np.full((T, H), np.log(kept)), np.ones((T, H)), np.zeros((H, K, V))
    )
    return state


states = {
    "linear attention": np.einsum("thk,thv->hkv", keys, values),
    "delta rule": delta_rule(keys, values),
    f"delta rule with decay, {KEPT:g} kept": delta_rule(keys, values, KEPT),
}
errors = {}  # name -> [T]
for name, state in states.items():
    answers = np.einsum("hkv,thk->thv", state, keys)
    errors[name] = np.linalg.norm(answers - values, axis=-1).mean(axis=1)

fig, ax = figure(height=3.4)
for (name, error), colour in zip(errors.items(), [GREY, BLUE, ORANGE], strict=True):
    ax.plot(np.arange(1, PAIRS + 1), error, "o-", color=colour, label=name, markersize=4)
ax.axhline(1, color="#aaaaaa", linewidth=1, linestyle=":")
ax.set(xlabel="pair, in the order of writing", ylabel="distance from its value", ylim=(0, None))
ax.legend(loc="lower left")
plot(
    fig,
    f"How wrong the answer is for each of {PAIRS} pairs after all of them were written into a {K} by {V} "
    "matrix. The dotted line is what an empty matrix gets. Linear attention treats all pairs alike; the "
    "delta rule has the last one exactly right; the older a pair, the more later ones have written over it.",
)

# %%
linear, delta, gated = errors.values()
assert delta[-1] < 1e-9 and gated[-1] < 1e-9
say(f"""
The last pair comes back with an error of {delta[-1]:.0e} from the delta rule, and of {linear[-1]:.2f} from
linear attention, which answers with the noise of {PAIRS - 1} other pairs too. For the first pair the errors
are {linear[0]:.2f} (linear attention), {delta[0]:.2f} (delta rule) and {gated[0]:.2f} (with decay). An empty
matrix would get 1: what faded does less harm than what was half overwritten.
""")

# %% [markdown]
# ## A fact enters a state of the real model, and fades
#
# What remains of a token that was written long ago? Put the error into the write, and the three steps become
# one:
#
# $$S_t = M_t \, S_{t-1} + \beta_t \, k_t v_t^\top, \qquad M_t = e^{g_t} \, (I - \beta_t k_t k_t^\top).$$
#
# Every later token multiplies from the left what an earlier token $f$ wrote. Its part of the state after
# token $t$ is therefore $(M_t \cdots M_{f+1} \, k_f) \, \beta_f v_f^\top$, and asked with its own key it
# gives $\beta_f v_f$ times one number:
#
# $$\text{left}_t = k_f^\top \, M_t \cdots M_{f+1} \, k_f.$$
#
# It starts at one. The factors $e^{g}$ in it are what was *forgotten*; the rest of the loss is what later
# keys *overwrote*. We can compute both for every head of the small model that comes with the package.

# %%
model = qwen_ref.load(backend="numpy")
TEXT = "My name is Ada. Please remember it. What is my name?"  # CHANGE ME
FACT = "Ada"  # a word of it

trace = model.trace(TEXT)
tokens = trace.tokens
ends = np.cumsum([len(token) for token in tokens])
fact = int(np.argmax(ends >= "".join(tokens).index(FACT) + len(FACT)))  # the token that completes it


def what_is_left(k, g, beta):
    """k [T, K], g and beta [T] of one head -> left [T - fact], and what decay alone would leave of it."""
    part, left = k[fact], [1.0]
    for t in range(fact + 1, len(k)):
        part = np.exp(g[t]) * (part - beta[t] * k[t] * (k[t] @ part))  # M_t part
        left.append(float(k[fact] @ part))
    return np.array(left), np.exp(np.concatenate([[0], np.cumsum(g[fact + 1 :])]))


heads = {}
for layer in trace.states:
    _, k, _, g, beta = trace.states.inputs(layer)  # what the delta rule of this layer is given
    for head in range(k.shape[1]):
        heads[layer, head] = what_is_left(k[:, head], g[:, head], beta[:, head])
longest = sorted(heads, key=lambda place: -heads[place][0].clip(0).sum())

# %% [markdown]
# Is the derivation right? Erase the fact's value before the recurrence runs, and compare the two final
# states: the difference, read with the fact's key, must be $\text{left}_T \, \beta_f v_f$.

# %%
layer, head = longest[0]
q, k, v, g, beta = trace.states.inputs(layer)
without = v.copy()
without[fact] = 0
empty = np.zeros((v.shape[1], k.shape[2], v.shape[2]))
(_, with_it), (_, without_it) = (gated_delta_recurrent(q, k, x, g, beta, empty) for x in (v, without))
difference = (with_it - without_it)[head].T @ k[fact, head]  # [V]
expected = heads[layer, head][0][-1] * beta[fact, head] * v[fact, head]
assert np.abs(difference - expected).max() < 1e-4 * np.abs(v[fact, head]).max()

# %%
fig, ax = figure(height=4.0)
for place, colour in zip(longest[:3], [BLUE, GREEN, ORANGE], strict=True):
    left, by_decay = heads[place]
    at = np.arange(fact, len(tokens))
    ax.plot(at, left, "o-", color=colour, markersize=4, label=f"layer {place[0]}, head {place[1]}")
    ax.plot(at, by_decay, "--", color=colour, linewidth=1)
ax.plot([], [], "--", color=GREY, linewidth=1, label="if nothing were overwritten")
ax.set(ylabel=f"left of “{tokens[fact].strip()}”", ylim=(-0.1, 1.05), xlim=(fact - 0.5, len(tokens) - 0.5))
ax.set_xticks(
    np.arange(fact, len(tokens)), [repr(t)[1:-1] for t in tokens[fact:]], rotation=70, fontsize=8, ha="center"
)
ax.legend()
plot(
    fig,
    f"What is left of the token that completes “{FACT}” after each later token, in the three heads that "
    "hold it longest. Dashed: what decay alone leaves. The way down is not smooth: single tokens decide "
    "to forget.",
)

# %%
left, by_decay = heads[longest[0]]
after = int(np.argmin(left[1:] - left[:-1])) + 1
name = tokens[fact + after].strip() or "a line's end"
gone = sum(left[min(3, len(left) - 1)] < 0.01 for left, _ in heads.values())
say(f"""
The head that holds it longest is number {longest[0][1]} of layer {longest[0][0]}. There the largest single
loss happens at the token “{name}”: from {left[after - 1]:.2f} to
{left[after]:.2f}. Of all {len(heads)} DeltaNet heads, {gone} have less than a hundredth left three tokens
later. A head that forgets at once is not broken: it looks at what has just been said, and leaves what was
said long ago to other heads, and to attention in every fourth layer, which keeps everything.
""")

# %% [markdown]
# ## Exercise
#
# `memory` is the state of one head and holds three pairs with orthogonal keys. Choose one token's value,
# decay and share, so that the token, whose key is `forget`, makes the state answer zero for this key, and
# leaves the two other pairs exactly as they are.

# %%
three = np.linalg.qr(rng.normal(size=(16, 16)))[0][:3]  # orthogonal keys of length one, [3, K]
held = rng.normal(size=(3, 8))
memory, forget = delta_rule(three[:, None], held[:, None]), three[1]  # [1, K, V], [K]


# %% tags=["fold"] jupyter={"source_hidden": true}
@exercise
def check(answer):
    value, g, beta = np.asarray(answer["v"], float), float(answer["g"]), float(answer["beta"])
    one = forget[None, None]
    _, after = gated_delta_recurrent(one, one, value[None, None], np.array([[g]]), np.array([[beta]]), memory)
    now = three @ after[0]  # [3, V]
    if g > 0:
        return "g is the logarithm of a factor of at most one, so it cannot be positive."
    if np.abs(now[[0, 2]] - held[[0, 2]]).max() > 1e-6:
        return "The other two pairs have faded too: decay acts on the whole state, whatever the key is."
    if np.abs(now[1] + held[1]).max() < 1e-6:
        return "Now it answers the negative: the delta rule takes out what is held; do not subtract it again."
    if np.abs(now[1] - held[1]).max() < 1e-6:
        return "Nothing has changed: with this share, nothing of the error is written."
    if np.abs(now[1]).max() > 1e-6:
        part = float(now[1] @ held[1] / (held[1] @ held[1]))
        return (
            f"It still answers {part:.2f} times what it held: see the formula for the answer after a write."
        )
    return None


# %%
check(...)  # your token: dict(v=np.array of 8 numbers, g=a number, beta=a number)


# %% tags=["solution"] jupyter={"source_hidden": true}
def solution():
    """The value to be held from now on is zero; replace it whole; let nothing decay."""
    return dict(v=np.zeros(8), g=0.0, beta=1.0)


check(solution(), "The solution")

# %% [markdown]
# **To go on:** lesson 8 computes the same recurrence in two other ways. The paper is
# [Gated Delta Networks](https://arxiv.org/abs/2412.06464); the delta rule itself is Widrow and Hoff's, of
# 1960.
