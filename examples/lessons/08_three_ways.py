# %% [markdown]
# # 8. One recurrence, three ways to compute it
#
# The delta rule goes from token to token, which is slow for a long prompt; unrolled, it is a triangular
# system of equations, and cut into chunks it is the best of both.

# %%
import time

import numpy as np
from lesson import BLUE, GREEN, GREY, ORANGE, close, exercise, figure, plot, say, show
from threadpoolctl import threadpool_limits

import qwen_ref
from qwen_ref.model import deltanet
from qwen_ref.model.deltanet import gated_delta_chunked, gated_delta_recurrent

rng = np.random.default_rng(8)

# %% [markdown]
# ## First way: token by token
#
# Lesson 7 ended with four lines for each token: decay, error, write, read. They touch the whole state of
# $K \times V$ numbers a few times, and use each number that they read for one multiplication or two. To
# answer, a model must do just this, since the next token is not known before this one is done. But of a
# prompt all tokens are known.
#
# ## Second way: all tokens at once
#
# Write the state after token $t$ as what all tokens have written so far, each decayed since. Let
# $\gamma_t = e^{g_1 + \dots + g_t}$ be the decay from the start to $t$, and
# $\Gamma_{ts} = \gamma_t / \gamma_s$ that from $s$ to $t$. With $u_s$ for the error that token $s$ has
# written, and $S_0$ for the state before the text,
#
# $$S_t = \gamma_t \, S_0 + \sum_{s \le t} \Gamma_{ts} \, k_s u_s^\top.$$
#
# If we knew all $u$, the outputs would be easy, and would look like attention without a softmax:
#
# $$o_t = S_t^\top q_t = \gamma_t \, S_0^\top q_t + \sum_{s \le t} \Gamma_{ts} \, (q_t \cdot k_s) \, u_s.$$
#
# But each $u_t$ depends on the state before it, and so on all earlier $u_s$. Put the sum into the definition
# of the error, $u_t = \beta_t (v_t - S^\top k_t)$, where $S$ is the state just before the write, and bring
# all $u$ to the left:
#
# $$u_t + \beta_t \sum_{s < t} \Gamma_{ts} \, (k_t \cdot k_s) \, u_s
# = \beta_t \, (v_t - \gamma_t \, S_0^\top k_t).$$
#
# These are $T$ equations for $T$ unknown vectors. Each contains only its own $u_t$ and earlier ones: as a
# matrix, ones on the diagonal, and zeros above. Such a *unit triangular* system can always be solved.


# %%
def all_at_once(q, k, v, g, beta, state):
    """The whole text as one triangular system; shapes as for `gated_delta_recurrent`."""
    q, k, v = (x.transpose(1, 0, 2) for x in (q, k, v))  # [H, T, …]
    T = k.shape[1]
    log_gamma = np.cumsum(g, axis=0).T[:, :, None]  # [H, T, 1]
    share = beta.T[:, :, None]  # [H, T, 1]
    past = np.tri(T, dtype=bool)
    decay = np.exp(np.where(past, log_gamma - log_gamma.transpose(0, 2, 1), -np.inf))  # Γ, [H, T, T]
    k_k, q_k = k @ k.transpose(0, 2, 1), q @ k.transpose(0, 2, 1)  # [H, T, T]
    system = np.eye(T) + np.tril(share * decay * k_k, -1)
    u = np.linalg.solve(system, share * (v - np.exp(log_gamma) * (k @ state)))  # [H, T, V]
    o = np.exp(log_gamma) * (q @ state) + (decay * q_k) @ u
    left = np.exp(log_gamma[:, -1:] - log_gamma)  # [H, T, 1]: decay to the end
    state = np.exp(log_gamma[:, -1:]) * state + (left * k).transpose(0, 2, 1) @ u
    return o.transpose(1, 0, 2), state


# %% [markdown]
# ## Third way: in chunks
#
# The system has $T^2$ entries, so twice the text is four times the work: the very thing that we wanted to
# avoid. But nothing says that $S_0$ must be the beginning. Cut the text into chunks of $C$ tokens, solve a
# small system for each, and hand the state on to the next. The work is then in products of matrices with
# about $C$ rows, which processors do well, and grows with $T$. This is what the model does with a prompt:

# %%
show(gated_delta_chunked, "system =", "state = np.exp")
show(deltanet.deltanet, "delta_rule =")

# %% [markdown]
# On the real model's own keys, values and gates, all three give the same, but for rounding:

# %%
model = qwen_ref.load(backend="numpy")
trace = model.trace("Tell me a story about a fox. " * 20)
layer = list(trace.states)[-1]
given = [x.astype(np.float64) for x in trace.states.inputs(layer)]  # q, k, v, g, beta
empty = np.zeros((given[0].shape[1], given[0].shape[2], given[2].shape[2]))
results = [rule(*given, empty) for rule in (gated_delta_recurrent, all_at_once, gated_delta_chunked)]
for o, state in results[1:]:
    assert close(o, results[0][0], 1e-9) and close(state, results[0][1], 1e-9)

# %% [markdown]
# ## How fast is each?
#
# **The experiment to change:** the size of a head, and how many there are.

# %%
K = V = 64  # CHANGE ME: the large models have 128
H = 4


def random_inputs(T, H, K, V):
    q, k, v = (rng.normal(size=(T, H, size)) for size in (K, K, V))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    g, beta = -rng.uniform(0, 0.2, size=(T, H)), rng.uniform(0, 1, size=(T, H))
    return q, k, v, g, beta, np.zeros((H, K, V))


def seconds(rule, inputs):
    """The fastest of a few rounds, of more where they are short."""
    times = []
    with threadpool_limits(1):  # one thread: the way is measured, not the library
        while len(times) < 3 or sum(times) < 0.1:
            started = time.perf_counter()
            rule(*inputs)
            times.append(time.perf_counter() - started)
    return min(times)


LENGTHS = [16, 32, 64, 128, 256, 512, 1024]
WAYS = {"token by token": gated_delta_recurrent, "all at once": all_at_once, "in chunks": gated_delta_chunked}
taken = {name: [] for name in WAYS}
for T in LENGTHS:
    inputs = random_inputs(T, H, K, V)
    for name, rule in WAYS.items():
        taken[name].append(seconds(rule, inputs))

CHUNKS = [4, 8, 16, 32, 64, 128, 256, 512]
usual, by_chunk = deltanet.CHUNK, []
inputs = random_inputs(512, H, K, V)
for deltanet.CHUNK in CHUNKS:
    by_chunk.append(512 / seconds(gated_delta_chunked, inputs))
deltanet.CHUNK = usual

# %%
fig, (left, right) = figure(columns=2, height=3.4, width=9)
for (name, times), colour in zip(taken.items(), [GREY, ORANGE, BLUE], strict=True):
    left.loglog(LENGTHS, 1e3 * np.array(times), "o-", color=colour, label=name, markersize=4)
left.set(xlabel="tokens", ylabel="milliseconds", title="Three ways")
left.set_xticks(LENGTHS, [str(T) for T in LENGTHS], fontsize=8)
left.minorticks_off()
left.legend()
right.semilogx(CHUNKS, by_chunk, "o-", color=GREEN, markersize=4)
right.axvline(usual, color=GREY, linestyle=":", linewidth=1)
right.set(
    xlabel="tokens of a chunk", ylabel="tokens a second", title="How long should a chunk be?", ylim=(0, None)
)
right.set_xticks(CHUNKS, [str(C) for C in CHUNKS], fontsize=8)
right.minorticks_off()
plot(
    fig,
    "Left: time against length, both logarithmic, so that a slope of one is work that grows with the "
    "text. All at once begins well and ends badly. Right: short chunks are many small steps, long ones "
    "are large systems; dotted is what the model takes.",
)

# %%
times = {name: np.array(of_it) for name, of_it in taken.items()}
slopes = {name: np.log2(of_it[-1] / of_it[-2]) for name, of_it in times.items()}
say(f"""
On this machine, {LENGTHS[-1]} tokens take {1e3 * times["token by token"][-1]:.0f} ms token by token,
{1e3 * times["all at once"][-1]:.0f} ms all at once and {1e3 * times["in chunks"][-1]:.0f} ms in chunks. Twice
the text takes {2 ** slopes["token by token"]:.1f}, {2 ** slopes["all at once"]:.1f} and
{2 ** slopes["in chunks"]:.1f} times as long. The best chunk of those tried has
{CHUNKS[int(np.argmax(by_chunk))]} tokens.
""")

# %% [markdown]
# ## Exercise
#
# Write `system(k, g, beta)`: the matrix of the triangular system for one head, of shape [T, T], from `k` [T,
# K], `g` [T] and `beta` [T].


# %% tags=["fold"] jupyter={"source_hidden": true}
@exercise
def check(answer):
    T = 5
    _, k, _, g, beta, _ = random_inputs(T, 1, 8, 8)
    k, g, beta = k[:, 0], g[:, 0] - 0.1, beta[:, 0]
    log_gamma = np.cumsum(g)
    decay, products = np.exp(log_gamma[:, None] - log_gamma), k @ k.T
    right = np.eye(T) + np.tril(beta[:, None] * decay * products, -1)
    given = np.asarray(answer(k.copy(), g.copy(), beta.copy()), float)
    if given.shape != (T, T):
        return f"The shape is {list(given.shape)}, and should be {[T, T]}."
    if close(given, right):
        return None
    if close(given, np.tril(right, -1)):
        return "The diagonal is missing: each equation contains its own u once."
    if close(np.tril(given, -1), np.tril(right, -1)) and np.abs(np.triu(given, 1)).max() < 1e-12:
        return "The diagonal must be ones: the sum is over s < t, without t itself."
    if np.abs(np.triu(given, 1)).max() > 1e-12:
        return (
            "Something stands above the diagonal: a token knows nothing of later ones. np.tril(…, -1) "
            "keeps what is below."
        )
    if close(given, np.eye(T) + np.tril(beta[:, None] * products, -1)):
        return "The decay from s to t is missing."
    if close(given, np.eye(T) + np.tril(decay * products, -1)):
        return "The share beta is missing."
    if close(given, np.eye(T) + np.tril(beta * decay * products, -1)):
        return "beta belongs to the token that reads, the row t; yours is that of the column: beta[:, None]."
    if close(given, np.eye(T) + np.tril(beta[:, None] * decay.T * products, -1)):
        return "Your decay grows with the distance: exchange s and t in it."
    return (
        f"Row 1, column 0 is {given[1, 0]:.4f} and should be {right[1, 0]:.4f}: beta[1] exp(g[1]) (k[1] . "
        "k[0])."
    )


# %%
check(...)  # your function: def system(k, g, beta): ...


# %% tags=["solution"] jupyter={"source_hidden": true}
def solution():
    def system(k, g, beta):
        log_gamma = np.cumsum(g)
        decay = np.exp(
            np.minimum(log_gamma[:, None] - log_gamma, 0)
        )  # [T, T]; above the diagonal it is not used
        return np.eye(len(k)) + np.tril(beta[:, None] * decay * (k @ k.T), -1)

    return system


check(solution(), "The solution")

# %% [markdown]
# **To go on:** the docstring of `gated_delta_chunked` derives the same in nine lines. The kernels in
# `qwen_ref/kernels/deltanet.py` solve the system by substitution, row by row. Chunks of the delta rule are by
# [Yang and others](https://arxiv.org/abs/2406.06484).
