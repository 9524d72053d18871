# %% [markdown]
# # 12. Training by hand
#
# A gradient is the chain rule, walked backwards; we write it for one DeltaNet layer, check it, and let the
# layer learn to remember.

# %%
import numpy as np
from lesson import BLUE, GREY, ORANGE, close, exercise, figure, plot, say, show

from qwen_ref.model import deltanet
from qwen_ref.model.activation import sigmoid, softmax, softplus
from qwen_ref.model.deltanet import gated_delta_recurrent
from qwen_ref.model.norm import l2_norm

rng = np.random.default_rng(12)

# %% [markdown]
# ## A task that needs a memory
#
# Each token shows a pair: one of eight letters, and one of eight digits. A letter may come again with another
# digit. The last token shows only a letter, and the question is: which digit came with it *last*?

# %%
LETTERS = DIGITS = 8
TOKENS = 24  # pairs before the question


def task(batch):
    """x [T, B, N]: two one-hot codes a token, of letter and digit; answers [B]."""
    letters, digits = rng.integers(LETTERS, size=(TOKENS, batch)), rng.integers(DIGITS, size=(TOKENS, batch))
    asked = letters[rng.integers(TOKENS, size=batch), np.arange(batch)]
    x = np.zeros((TOKENS + 1, batch, LETTERS + DIGITS))
    x[:-1, :, :LETTERS], x[:-1, :, LETTERS:] = np.eye(LETTERS)[letters], np.eye(DIGITS)[digits]
    x[-1, :, :LETTERS] = np.eye(LETTERS)[asked]
    last = TOKENS - 1 - np.argmax((letters == asked)[::-1], axis=0)
    return x, digits[last, np.arange(batch)]


x, answers = task(1)
shown = [
    "".join("abcdefgh"[i] for i in np.flatnonzero(t[:8])) + "".join(str(i) for i in np.flatnonzero(t[8:]))
    for t in x[:, 0]
]
print(*shown[:-1], f"{shown[-1]}?", "->", answers[0])

# %% [markdown]
# ## Forward
#
# The layer makes a query, a key, a value and two gates out of each token, runs the delta rule, and turns the
# output into a score for each digit. It is the model's layer without what is not needed here: no convolution,
# no output gate.

# %%
show(deltanet.deltanet, 'q = tap("q_norm"', "v = v.reshape")
show(deltanet.deltanet, "beta = tap", "g = w.A")

# %%
K = V = 16
START = -4.0  # CHANGE ME: with 4.0, nearly everything is forgotten from one token to the next at first


def new_weights():
    N = LETTERS + DIGITS
    shapes = {"q": (N, K), "k": (N, K), "v": (N, V), "b": (N, 1), "a": (N, 1), "out": (V, DIGITS)}
    return {name: rng.normal(size=shape) / np.sqrt(shape[0]) for name, shape in shapes.items()}


def forward(w, x, erase=1.0):
    """x [T, B, N] -> scores [B, DIGITS] after the last token, and all that the way back needs."""
    T, B, _ = x.shape
    keys, fade = x @ w["k"], x @ w["a"] + START
    q, k, v, beta, g = x @ w["q"], l2_norm(keys), x @ w["v"], sigmoid(x @ w["b"]), -softplus(fade)
    S, states, errors = np.zeros((B, K, V)), [], []
    for t in range(T):
        S = np.exp(g[t])[:, :, None] * S  # decay
        e = v[t] - erase * np.einsum("bkv,bk->bv", S, k[t])  # error
        states.append(S)
        errors.append(e)
        S = S + k[t][:, :, None] * (beta[t] * e)[:, None, :]  # write
    o = np.einsum("bkv,bk->bv", S, q[-1])  # only the last output is used
    return o @ w["out"], (keys, q, k, v, beta, g, fade, states, errors, S, o)


w = new_weights()
x, answers = task(4)
scores, (_, q, k, v, beta, g, *_, S, o) = forward(w, x)
theirs, state = gated_delta_recurrent(
    q, k, v, g[..., 0], beta[..., 0], np.zeros((4, K, V))
)  # sequences as heads
assert close(o, theirs[-1], 1e-12) and close(S, state, 1e-12)

# %% [markdown]
# The model's own function gives the same, if sequences stand in the place of heads. `erase` is one for the
# delta rule; with zero the old value is not taken out, and we have linear attention with a decay. We need the
# difference later.
#
# ## Backward
#
# Let a bar over a quantity mean the derivative of the loss by it: $\bar S = \partial L / \partial S$. Each
# line of the forward pass gives a line of the backward one, and the order is reversed. From $o = S^\top q$,
#
# $$\bar q = S \, \bar o, \qquad \bar S = q \, \bar o^\top.$$
#
# From the write, $S_t = S + k u^\top$ with $u = \beta e$, and the error, $e = v - S^\top k$ (here $S$ is the
# decayed state):
#
# $$\begin{aligned}
# \bar u &= \bar S^\top k, & \bar \beta &= \bar u \cdot e, & \bar e &= \beta \, \bar u, \\
# \bar v &= \bar e, & \bar k &= \bar S \, u - S \, \bar e, & \bar S &\leftarrow \bar S - k \, \bar e^\top.
# \end{aligned}$$
#
# And from the decay, $S = e^{g} S_{t-1}$: since $\partial S / \partial g = S$,
#
# $$\bar g = \sum_{ij} \bar S_{ij} \, S_{ij}, \qquad \bar S_{t-1} = e^{g} \, \bar S.$$
#
# What is handed from token to token is $\bar S$, a matrix of the state's size: the memory of the way back.
# Look at its last formula: it fades as the state does, so what the layer has forgotten teaches it nothing. A
# layer that forgets too fast at first hardly learns to remember: try `START`.


# %%
def backward(w, x, bar_scores, kept, erase=1.0):
    """bar_scores [B, DIGITS] -> the derivatives of the loss by each of w."""
    keys, q, k, v, beta, g, fade, states, errors, S, o = kept
    bar_q, bar_k, bar_v = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    bar_beta, bar_g = np.zeros_like(beta), np.zeros_like(g)
    bar_o = bar_scores @ w["out"].T
    bar_q[-1] = np.einsum("bkv,bv->bk", S, bar_o)
    bar_S = q[-1][:, :, None] * bar_o[:, None, :]
    for t in reversed(range(len(x))):
        S, e = states[t], errors[t]
        bar_u = np.einsum("bkv,bk->bv", bar_S, k[t])
        bar_beta[t] = np.sum(bar_u * e, axis=1, keepdims=True)
        bar_v[t] = bar_e = beta[t] * bar_u
        bar_k[t] = np.einsum("bkv,bv->bk", bar_S, beta[t] * e) - erase * np.einsum("bkv,bv->bk", S, bar_e)
        bar_S = bar_S - erase * k[t][:, :, None] * bar_e[:, None, :]
        bar_g[t] = np.sum(bar_S * S, axis=(1, 2))[:, None]
        bar_S = np.exp(g[t])[:, :, None] * bar_S
    length = np.sqrt(np.sum(keys**2, axis=-1, keepdims=True) + 1e-6)  # k = keys / length
    bar_keys = (bar_k - k * np.sum(k * bar_k, axis=-1, keepdims=True)) / length
    bar_write = bar_beta * beta * (1 - beta)  # of the sigmoid
    bar_fade = -bar_g * sigmoid(fade)  # of -softplus
    of_inputs = {"q": bar_q, "k": bar_keys, "v": bar_v, "b": bar_write, "a": bar_fade}
    bars = {name: np.einsum("tbn,tbm->nm", x, bar) for name, bar in of_inputs.items()}
    return bars | {"out": o.T @ bar_scores}


def loss_and_gradient(w, x, answers, erase=1.0):
    """The mean cross-entropy in bits, its derivatives, and the share of right answers."""
    scores, kept = forward(w, x, erase)
    p, B = softmax(scores), len(answers)
    loss = -np.log2(p[np.arange(B), answers]).mean()
    bar_scores = (p - np.eye(DIGITS)[answers]) / B / np.log(2)
    return loss, backward(w, x, bar_scores, kept, erase), np.mean(scores.argmax(axis=1) == answers)


# %% [markdown]
# ## Is it right?
#
# There is a check that needs no thought: move one weight a little to both sides, and see how the loss
# changes.
#
# $$\frac{\partial L}{\partial w} \approx \frac{L(w + h) - L(w - h)}{2h}.$$

# %%
w = new_weights()
x, answers = task(16)
worst = {}
for erase in 1.0, 0.0:
    _, gradient, _ = loss_and_gradient(w, x, answers, erase)
    for name, values in w.items():
        for _ in range(5):
            at = tuple(rng.integers(size) for size in values.shape)
            sides, h, before = [], 1e-5, values[at]
            for values[at] in before + h, before - h:
                sides.append(loss_and_gradient(w, x, answers, erase)[0])
            values[at] = before
            difference = abs((sides[0] - sides[1]) / (2 * h) - gradient[name][at])
            worst[name] = max(worst.get(name, 0), difference / np.abs(gradient[name]).max())
assert max(worst.values()) < 1e-6
say(f"""
Of {10 * len(w)} weights that were tried, in all six matrices and for both rules, the gradient differs from
the measured slope by at most {max(worst.values()):.0e} of its size.
""")

# %% [markdown]
# ## Learning
#
# A step moves all weights a little against their gradient. Plain steps of one size are slow where some slopes
# are steep and others flat, so each weight's step is divided by the recent size of its own slope (Adam, in
# four lines).
#
# The steps become smaller towards the end, and the decay is learned ten times more slowly than the rest.
#
# **The experiment to change:** `HASTE`. With 1, the decay learns as fast as everything else. Forgetting is
# the quickest way to make the first mistakes smaller, so a layer may take it; and since what is forgotten
# teaches nothing, it may never come back.

# %%
HASTE = 0.1  # CHANGE ME: try 1, a few times with other seeds
STEPS, RATE = 400, 0.05


def train(erase):
    w = new_weights()
    mean, square = ({name: np.zeros_like(values) for name, values in w.items()} for _ in range(2))
    losses = []
    for step in range(1, STEPS + 1):
        x, answers = task(64)
        loss, gradient, _ = loss_and_gradient(w, x, answers, erase)
        losses.append(loss)
        for name, slope in gradient.items():
            mean[name] = 0.9 * mean[name] + 0.1 * slope
            square[name] = 0.99 * square[name] + 0.01 * slope**2
            size = np.sqrt(square[name] / (1 - 0.99**step)) + 1e-8
            rate = RATE * min(1, 2 - 2 * step / STEPS) * (HASTE if name == "a" else 1)
            w[name] -= rate * mean[name] / (1 - 0.9**step) / size
    return w, np.array(losses)


delta, losses = train(erase=1.0)
linear, linear_losses = train(erase=0.0)

x, answers = task(4000)
letter = x[..., :LETTERS].argmax(axis=2)  # [T, B]
ago = 1 + np.argmax((letter[:-1] == letter[-1])[::-1], axis=0)  # when the letter was seen last, [B]
results = {}
for name, w, erase in ("delta rule", delta, 1.0), ("linear attention with decay", linear, 0.0):
    scores, (*_, beta, g, _, _, _, _, _) = forward(w, x, erase)
    right = scores.argmax(axis=1) == answers
    results[name] = right.mean(), float(np.exp(g[:-1]).mean()), float(beta[:-1].mean())
    results[name] += ([right[ago == n].mean() for n in range(1, 17)],)

# %%
fig, (left, away) = figure(columns=2, height=3.4, width=9)
curves = zip((losses, linear_losses), (BLUE, ORANGE), results.items(), strict=True)
for curve, colour, (name, (*_, by_distance)) in curves:
    left.plot(curve, color=colour, alpha=0.25, linewidth=1)
    smooth = np.convolve(curve, np.ones(15) / 15, mode="valid")
    left.plot(np.arange(len(smooth)) + 7, smooth, color=colour, label=name)
    away.plot(range(1, 17), by_distance, "o-", color=colour, markersize=4)
left.axhline(np.log2(DIGITS), color=GREY, linestyle=":", linewidth=1)
left.set(xlabel="step", ylabel="loss in bits", ylim=(0, None))
left.legend()
away.set(xlabel="the letter was seen last so many tokens ago", ylabel="right answers", ylim=(0, 1.03))
plot(
    fig,
    "Left: learning which digit came last with a letter; dotted is a blind guess. Right: who can replace "
    "need not forget, and remembers what was said long ago; who can only add has to let old digits fade, "
    "and with them all others.",
)

# %%
(right, kept, share, _), (linear_right, linear_kept, _, _) = results.values()
say(f"""
After {STEPS} steps the layer with the delta rule answers {100 * right:.1f}% of new questions rightly, the one
without erasing {100 * linear_right:.1f}%; by chance it would be {100 / DIGITS:.1f}%. What have they learned?
The delta rule keeps a factor of {kept:.3f} of its state from one token to the next, and writes with a mean
share of {share:.2f}. Linear attention keeps {linear_kept:.3f}: to be sure of what came last, it has to let go
of what came before.
""")

# %% [markdown]
# ## Exercise
#
# The gradient of normalizing. For one vector, $k = x / \lVert x \rVert$ (no epsilon). Write
# `bar_x(x, bar_k)`: the derivatives by $x$, given those by $k$. Hint to begin with: moving $x$ along itself
# changes nothing.


# %% tags=["fold"] jupyter={"source_hidden": true}
@exercise
def check(answer):
    generator = np.random.default_rng(1)
    x, bar_k = 2 * generator.normal(size=6), generator.normal(size=6)
    length = np.linalg.norm(x)
    k = x / length
    right = (bar_k - k * (k @ bar_k)) / length
    given = np.asarray(answer(x.copy(), bar_k.copy()), float)
    if given.shape != x.shape:
        return f"The result has shape {list(given.shape)}, and should be a vector like x."
    if close(given, right):
        return None
    if close(given, bar_k / length):
        return "You hold the length fixed, but it depends on x, too: take out the part of bar_k along k."
    if close(given, right * length):
        return "The direction is right; divide by the length of x."
    if close(given, right * length**2) or close(given, right / length):
        return "The direction is right; it is divided by the length of x once."
    if close(given, (bar_k - x * (x @ bar_k)) / length):
        return "Project along k, which has length one, not along x."
    if abs(given @ x) > 1e-9 * length * np.linalg.norm(given):
        return (
            "Moving x along itself changes nothing, so the result times x must be 0; yours is "
            f"{given @ x:.3f}."
        )
    return "It is orthogonal to x, as it should be, but not right: begin with bar_k minus its part along k."


# %%
check(...)  # your function: def bar_x(x, bar_k): ...


# %% tags=["solution"] jupyter={"source_hidden": true}
def solution():
    def bar_x(x, bar_k):
        length = np.linalg.norm(x)
        k = x / length
        return (bar_k - k * (k @ bar_k)) / length

    return bar_x


check(solution(), "The solution")

# %% [markdown]
# **To go on:** `examples/tiny_model/README.md` says how the small model was trained, with the same chain rule
# and a library that walks it. The tasks of letters and digits are called associative recall;
# [Arora and others](https://arxiv.org/abs/2312.04927) show what they tell of models.
