# %% [markdown]
# # 11. Sampling, and drafting
#
# A model gives probabilities, and a die chooses; a cheaper model may guess several tokens ahead, and a second
# die sees to it that nothing changes but the time it takes.

# %%
import numpy as np
from lesson import BLUE, GREEN, GREY, ORANGE, exercise, figure, plot, say, show

import qwen_ref
from qwen_ref import sampling
from qwen_ref.model.activation import softmax
from qwen_ref.sampling import Sampling, candidates

model = qwen_ref.load(backend="numpy")
text, config, tokenizer = model.text, model.text.config, model.tokenizer
rng = np.random.default_rng(11)

# %% [markdown]
# ## From scores to a token
#
# The head gives each token $x$ a score $z_x$ (a *logit*). With a temperature $\tau$, the probabilities are
#
# $$p(x) = \frac{e^{z_x / \tau}}{\sum_y e^{z_y / \tau}}.$$
#
# A low temperature makes the likely likelier; at zero only the best is left, a high one makes all alike.
# Thousands of unlikely tokens may together have some probability, and each of them may spoil a text. So the
# tail is cut off first: `top_k` keeps so many tokens, `top_p` the likeliest that together reach a
# probability, `min_p` those that are at least so likely beside the likeliest.

# %%
show(sampling.candidates, "if s.top_p < 1", "ids, scores = ids[likely]")

# %%
PROMPT = "Tell me a story about a fox."
TEMPERATURE = 1.0  # CHANGE ME: try 0.3, or 3
ids = model.encode_prompt(PROMPT).token_ids + tokenizer.encode("Once there was a")
logits = text.logits(text.forward(ids, text.new_state())[-1:])[0]

fig, ax = figure(height=2.8)
for number, (tau, colour) in enumerate([(0.5, BLUE), (TEMPERATURE, GREEN), (2.0, ORANGE)]):
    order, p = candidates(logits, [], Sampling(temperature=tau))
    ax.bar(np.arange(12) + 0.28 * (number - 1), p[:12], 0.28, color=colour, label=f"temperature {tau:g}")
ax.set_xticks(range(12), [tokenizer.decode([i]) for i in order[:12]], rotation=40)
ax.set(ylabel="probability")
ax.legend()
plot(fig, "What may follow “Once there was a”: the twelve likeliest tokens, at three temperatures.")

# %% [markdown]
# ## Guess and check
#
# To choose one token, the model reads all its weights from memory (lesson 13). To judge five tokens at once
# takes hardly longer. So let something cheap guess a few tokens, the *draft*, and let the model judge all of
# them in one step.
#
# Let $q$ be the distribution from which a draft $x$ was drawn, and $p$ the model's own. The rule:
#
# - keep the draft with probability $\min(1, p(x) / q(x))$;
# - otherwise draw a token from what was missing,
#
# $$r(x) = \frac{\max(0, p(x) - q(x))}{\sum_y \max(0, p(y) - q(y))}.$$
#
# The result has exactly the distribution $p$. For a token $x$ can come in two ways. Drafted and kept, with
# probability
#
# $$q(x) \, \min\!\left(1, \frac{p(x)}{q(x)}\right) = \min(q(x), p(x)),$$
#
# or after a rejection. Something is rejected with probability $1 - \sum_y \min(q(y), p(y))$, which is just
# $\sum_y \max(0, p(y) - q(y))$, so this way gives $\max(0, p(x) - q(x))$. And
#
# $$\min(q(x), p(x)) + \max(0, p(x) - q(x)) = p(x).$$


# %%
def draw(p):
    return int(rng.choice(len(p), p=p))


def judge(draft, q, p):
    """draft: n tokens; q: the n distributions they were drawn from; p: the model's n + 1, there and behind.

    Gives the tokens that are said: the drafts that are kept, and one of the model's own.
    """
    said = []
    for x, guess, own in zip(draft, q, p):
        if rng.random() >= own[x] / guess[x]:
            missing = np.maximum(own - guess, 0)
            return [*said, draw(missing / missing.sum())]
        said.append(x)
    return [*said, draw(p[len(draft)])]  # all were kept: one more for nothing


# %% [markdown]
# Does it? We take two distributions of seven tokens, draw a draft from one, judge it by the other, and count.

# %%
p, q = rng.dirichlet(np.ones(7), size=2)
N = 20_000
counts = np.zeros(7)
for _ in range(N):
    counts[judge([draw(q)], [q], [p, p])[0]] += 1
chi_square = float(np.sum((counts - N * p) ** 2 / (N * p)))
assert chi_square < 30  # six degrees of freedom: a larger one comes by chance once in 25,000 times
fig, ax = figure(height=2.8)
at = np.arange(7)
ax.bar(at - 0.28, q, 0.28, color=GREY, label="q, the draft's")
ax.bar(at, p, 0.28, color=BLUE, label="p, the model's")
ax.bar(at + 0.28, counts / N, 0.28, color=ORANGE, label="said after judging")
ax.set(xlabel="token", ylabel="probability")
ax.legend()
plot(
    fig,
    "A draft from a wrong distribution (grey), judged by the right one (blue), is said with the right one "
    "(orange).",
)
say(f"""
Of {N:,} draws, the counts differ from $p$ by a chi-square of {chi_square:.1f}, where {len(p) - 1} is to be
expected. Kept is a draft with probability $\\sum_x \\min(p(x), q(x))$ = {np.minimum(p, q).sum():.2f}.
""")

# %% [markdown]
# ## With the real model
#
# What could be cheap? Here we take the model itself without its last layers: the logit lens of lesson 4. (It
# is a poor guesser, but needs no second model. Real drafts come from a layer that was trained for it, from a
# smaller model, or from the text so far: `docs/engine.md`.) The draft has a state of its own, and so has the
# model; after a rejection both must go back, which a DeltaNet layer can only do to a copy.

# %%
DRAFT_LAYERS = 6  # CHANGE ME: from 1 to all
DRAFT_TOKENS = 3


def distributions(x, layers, state):
    """Token ids [T] -> after each the distribution of the next token, [T, vocab], by the first layers."""
    kept, every = text.weights, text.weights.layers
    text.weights = kept.__class__(kept.embedding, every[:layers], kept.final_norm, kept.output)
    whole, state.layers = state.layers, state.layers[:layers]
    logits = text.logits(text.forward(x, state))
    state.layers, text.weights = whole, kept
    return softmax(logits.astype(np.float64) / TEMPERATURE)


def with_drafts(ids, tokens):
    """Goes on from these ids for so many tokens; gives them, and how many each step said."""
    state, cheap = text.new_state(), text.new_state()
    (before,) = distributions(ids, config.num_layers, state)[-1:]
    distributions(ids, DRAFT_LAYERS, cheap)
    said, steps = [draw(before)], []
    while len(said) < tokens:
        draft, q, trial = [], [], cheap.copy()
        for _ in range(DRAFT_TOKENS):
            q.append(distributions([(said + draft)[-1]], DRAFT_LAYERS, trial)[-1])
            draft.append(draw(q[-1]))
        p = distributions([said[-1], *draft], config.num_layers, state.copy())  # all drafts in one step
        new = judge(draft, q, p)
        for depth, own in (config.num_layers, state), (DRAFT_LAYERS, cheap):
            distributions([said[-1], *new[:-1]], depth, own)  # what was said is read; the rest is forgotten
        said += new
        steps.append(len(new))
    return said, steps


said, steps = with_drafts(model.encode_prompt(PROMPT).token_ids, 60)
print(tokenizer.decode(said))
say(f"""
{sum(steps)} tokens took {len(steps)} steps of the whole model, {sum(steps) / len(steps):.2f} tokens a step.
At most it can be {DRAFT_TOKENS + 1}.
""")

# %% [markdown]
# How good must a guesser be? If each draft is kept with probability $a$, a step with $n$ drafts says
# $1 + a + a^2 + \dots + a^n$ tokens on average.

# %%
ids = model.encode_prompt(PROMPT).token_ids + said
exact = distributions(ids, config.num_layers, text.new_state())
overlaps = []
for depth in range(1, config.num_layers + 1):
    overlaps.append(float(np.minimum(exact, distributions(ids, depth, text.new_state())).sum(axis=1).mean()))
a = np.linspace(0, 0.99, 100)
fig, (left, right) = figure(columns=2, height=3.0, width=9)
left.plot(range(1, config.num_layers + 1), overlaps, "o-", color=BLUE)
left.set(xlabel="layers of the guesser", ylabel="drafts that would be kept", ylim=(0, 1.03))
for n, colour in (1, GREY), (3, GREEN), (8, ORANGE):
    right.plot(a, sum(a**i for i in range(n + 1)), color=colour, label=f"{n} drafts")
right.set(xlabel="probability that a draft is kept", ylabel="tokens in a step", title="")
right.legend()
plot(
    fig,
    "Left: how often a draft of the first layers alone would be kept, on this story. Right: what that is "
    "worth. Long drafts pay only for a very good guesser.",
)

# %% [markdown]
# ## Exercise
#
# Write `after_rejection(p, q)`: the distribution to draw from when a draft was rejected. Both are arrays of
# probabilities, and so is the result.


# %% tags=["fold"] jupyter={"source_hidden": true}
@exercise
def check(answer):
    p, q = np.array([0.1, 0.4, 0.3, 0.2]), np.array([0.3, 0.3, 0.1, 0.3])
    given = np.asarray(answer(p.copy(), q.copy()), float)
    right = np.array([0, 1 / 3, 2 / 3, 0])
    if given.shape != (4,):
        return f"The result has shape {list(given.shape)}, and should have one probability for each token."
    if np.abs(given - right).max() < 1e-9:
        return None
    if np.abs(given - p).max() < 1e-9:
        return (
            "With p itself, tokens that the draft says too rarely stay too rare: kept drafts already "
            "bring min(p, q)."
        )
    if np.abs(given[::3]).max() < 1e-9 and abs(given.sum() - 1) > 1e-9:
        return f"The right tokens, but the sum is {given.sum():.2f} and should be 1."
    if given.min() < -1e-9:
        return (
            "Some probabilities are negative: where the draft says a token too often, nothing is missing; "
            "take 0."
        )
    if np.abs(given - np.array([2 / 3, 0, 0, 1 / 3])).max() < 1e-9:
        return "The wrong way round: these are the tokens that the draft says too often, not too rarely."
    if np.abs(given - np.abs(p - q) / np.abs(p - q).sum()).max() < 1e-9:
        return "Not the size of the difference: where q is larger than p, nothing is missing."
    return (
        f"With p = {p} and q = {q} it gives {given.round(3)}; only what is missing counts, and it has to "
        "add up to 1."
    )


# %%
check(...)  # your function: def after_rejection(p, q): ...


# %% tags=["solution"] jupyter={"source_hidden": true}
def solution():
    def after_rejection(p, q):
        missing = np.maximum(p - q, 0)
        return missing / missing.sum()

    return after_rejection


check(solution(), "The solution")

# %% [markdown]
# **To go on:** `qwen_ref/engine/draft.py` drafts from the text so far and from a layer made for it
# (`qwen_ref/model/mtp.py`). Drafting is by [Leviathan, Kalman and Matias](https://arxiv.org/abs/2211.17192),
# and at the same time by [Chen and others](https://arxiv.org/abs/2302.01318).
