# %% [markdown]
# # 5. Rotary positions, in one dimension and in three
#
# Attention does not know where a token stands; so queries and keys are turned by an angle that grows with the
# position, and their product then depends on the distance alone.

# %%
from dataclasses import replace

import numpy as np
from lesson import BLUE, GREEN, GREY, ORANGE, exercise, figure, plot, say, show

import qwen_ref
from qwen_ref.model import rope
from qwen_ref.model.rope import apply_rope, frequencies, rope_tables
from qwen_ref.prompt import Span, mrope_positions

config = qwen_ref.load(backend="numpy").text.config
rng = np.random.default_rng(5)

# %% [markdown]
# ## Turning pairs
#
# Take two numbers of a query as a point $(a, b)$ of the plane, and turn it by an angle $\varphi$:
#
# $$(a, b) \rightarrow (a \cos\varphi - b \sin\varphi, \; b \cos\varphi + a \sin\varphi).$$
#
# Turning by $\varphi$ is a matrix $R_\varphi$ with $R_\varphi^\top R_\psi = R_{\psi - \varphi}$. So if the
# query at position $m$ is turned by $m \omega$ and the key at position $n$ by $n \omega$, then
#
# $$(R_{m\omega} \, q)^\top (R_{n\omega} \, k) = q^\top R_{(n - m)\omega} \, k:$$
#
# only the distance $n - m$ counts. One pair with one speed $\omega$ would be a clock with one hand. So there
# are many pairs, from fast to slow:
#
# $$\omega_i = \theta^{-2i/R}, \qquad i = 0 \dots R/2 - 1.$$

# %%
show(rope.frequencies, "radians =", "return")
show(apply_rope, "a, b, rest", "return")

# %% [markdown]
# Only the first $R$ of a head's $D$ numbers are turned: the `rest` keeps its product whatever the distance,
# for what should be found anywhere.

# %%
T = 200
one = replace(config, mrope_section=(config.rotary_dim // 2, 0, 0))  # all frequencies take the time
cos, sin = rope_tables(np.tile(np.arange(T), (3, 1)), one, np.float64)  # [T, R/2]
q, k = rng.normal(size=(2, config.head_dim))
turned_q, turned_k = (apply_rope(np.tile(x, (T, 1, 1)), cos, sin)[:, 0] for x in (q, k))  # [T, D]
products = turned_q @ turned_k.T  # [T, T]: query at m, key at n
for distance in 1, 50:
    along = np.diagonal(products, distance)
    assert np.ptp(along) < 1e-9 * np.abs(products).max()  # the same wherever the two stand
say(f"""
Here {config.rotary_dim} of {config.head_dim} numbers are turned, in {config.rotary_dim // 2} pairs. We turned
one query and one key to {T} positions each: all {T - 50} products at distance 50 are {products[0, 50]:.4f}.
""")

# %% [markdown]
# ## What a distance looks like
#
# If key and query are equal, the product at a distance $\Delta$ is $\sum_i r_i^2 \cos(\omega_i \Delta)$,
# where $r_i$ is the length of the pair: largest at zero, where all cosines are one, and smaller with distance
# as the hands of the clocks move apart.
#
# **The experiment to change:** the base $\theta$.

# %%
THETA = config.rope_theta  # CHANGE ME: try 100.0, or 10_000_000.0, which the large models have

distances = np.arange(0, 400)
_, radians = frequencies(replace(config, rope_theta=THETA))
turns = 2 * np.pi / radians

fig, (left, right) = figure(columns=2, height=3.4, width=9)
for theta, colour in (100.0, ORANGE), (THETA, BLUE), (10_000_000.0, GREEN):
    _, speeds = frequencies(replace(config, rope_theta=theta))
    left.plot(
        distances, np.cos(distances[:, None] * speeds).mean(axis=1), color=colour, label=f"θ = {theta:,.0f}"
    )
left.axhline(0, color=GREY, linewidth=1)
left.set(
    xlabel="distance in tokens", ylabel="mean of the cosines", title="Near tokens look near", ylim=(-0.3, 1.5)
)
left.legend()
axis, _ = frequencies(config)
for number, (name, colour) in enumerate([("time", BLUE), ("row", ORANGE), ("column", GREEN)]):
    right.semilogy(np.flatnonzero(axis == number), turns[axis == number], "o", color=colour, label=name)
right.set(xlabel="pair i", ylabel="tokens for a full turn", title="Fast and slow clocks, and whose they are")
right.legend()
plot(
    fig,
    "Left: how alike a vector is to itself at a distance, for three bases; a larger base sees farther. "
    "Right: how many tokens each pair needs for a turn, and which coordinate turns it.",
)

# %%
say(f"""
The fastest pair turns once in {turns[0]:.1f} tokens, the slowest in {turns[-1]:,.0f}; the model was made for
{config.context_length:,}.
""")

# %% [markdown]
# ## Three coordinates
#
# A picture has rows and columns. If its tokens were numbered one after another, two neighbours in a column
# would be as far apart as a row is long. So a position has three coordinates, **time, row and column**, and
# the pairs are dealt out among them in turn, as the colours on the right show. This is M-RoPE, *interleaved*:
# each coordinate gets fast and slow clocks.

# %%
show(frequencies, "axis = np.zeros", "axis[(frequency % 3 == 2)")
show(mrope_positions, "row, column =", "position += max")

# %% [markdown]
# Text has the same number three times, and so for text nothing has changed. The tokens of a picture share one
# time. The text behind it goes on after the longer side, not after the number of tokens: a large picture does
# not push the text before it far away.

# %%
spans = [Span(2, 3, 4)]  # two tokens of text, a picture of 3 x 4 tokens
positions = mrope_positions(17, spans)  # and three more of text
for name, row in zip(("time", "row", "column"), positions, strict=True):
    print(f"{name:8}", *(f"{number:3}" for number in row))

# %%
ROWS, COLUMNS = 15, 25
picture = mrope_positions(ROWS * COLUMNS, [Span(0, ROWS, COLUMNS)])  # [3, T]
centre = (ROWS // 2) * COLUMNS + COLUMNS // 2
straight = np.tile(np.arange(ROWS * COLUMNS), (3, 1))  # as if it were text


def alike(positions):
    """How alike a vector at the centre is to itself elsewhere: the mean cosine, [ROWS, COLUMNS]."""
    axis, radians = frequencies(config)
    away = (positions - positions[:, centre : centre + 1])[axis].T * radians  # [T, R/2]
    return np.cos(away).mean(axis=1).reshape(ROWS, COLUMNS)


fig, axes = figure(columns=2, height=2.8, width=9)
for ax, where, title in zip(
    axes, (straight, picture), ("numbered like text", "rows and columns"), strict=True
):
    image = ax.imshow(alike(where), vmin=0.2, vmax=1)
    ax.set(title=title, xticks=[], yticks=[])
    ax.grid(visible=False)
fig.colorbar(image, ax=axes, label="alike")
plot(
    fig,
    "How near each place of a picture is to its centre for attention. Numbered like text, nearness runs "
    "along the row, and the places right above and below are far away. With rows and columns, it falls "
    "off on all sides.",
)

# %% [markdown]
# ## Exercise
#
# A prompt has three tokens of text, then a picture of 2 rows and 4 columns of tokens, then two tokens of
# text. What are the positions of all 13 tokens? Give an array of shape [3, 13]: times, rows, columns.


# %% tags=["fold"] jupyter={"source_hidden": true}
@exercise
def check(answer):
    given, right = np.asarray(answer, int), mrope_positions(13, [Span(3, 2, 4)])
    if given.shape != (3, 13):
        return f"The shape is {list(given.shape)}, and should be [3, 13]."
    if (given == right).all():
        return None
    if (given == np.arange(13)).all():
        return "This is right for text only; a picture's tokens share one time."
    if (given[:, 3:11] == right[[0, 2, 1], 3:11]).all():
        return "Rows and columns are exchanged: the tokens of a row come one after another."
    if (given[:, :3] != right[:, :3]).any():
        return "Look at the first three tokens: text counts from 0, the same in all three coordinates."
    if (given[0, 3:11] != 3).any():
        return "All tokens of the picture stand at the same time, that of the first of them."
    if (given[:, 3:11] == right[:, 3:11] - [[0], [3], [3]]).all():
        return "Rows and columns of the picture count on from where it begins, not from zero."
    if (given[:, :11] == right[:, :11]).all():
        return (
            f"The picture is right. Behind it text goes on at 3 plus its longer side, not at {given[0, 11]}."
        )
    return "The times are right; look at rows and columns of the picture's tokens."


# %%
check(...)  # your array


# %% tags=["solution"] jupyter={"source_hidden": true}
def solution():
    row, column = np.indices((2, 4)).reshape(2, 8)
    picture = 3 + np.stack([np.zeros(8, int), row, column])
    return np.concatenate([np.tile([0, 1, 2], (3, 1)), picture, np.tile([7, 8], (3, 1))], axis=1)


check(solution(), "The solution")

# %% [markdown]
# **To go on:** `qwen_ref/model/yarn.py` stretches the slow clocks for longer texts. Rotary positions are by
# [Su and others](https://arxiv.org/abs/2104.09864). Lesson 10 has the pictures.
