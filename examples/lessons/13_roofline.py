# %% [markdown]
# # 13. The roofline
#
# Two numbers of a machine, how fast it reads and how fast it multiplies, say how fast a model can be; and
# which of them counts differs between reading a prompt and answering.

# %%
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from lesson import BLUE, GREEN, GREY, ORANGE, exercise, figure, plot, say, show

import qwen_ref
from qwen_ref.model import matrix

rng = np.random.default_rng(13)

# %% [markdown]
# ## Two limits
#
# To multiply a matrix of weights by the vectors of $T$ tokens, a processor must read each weight from memory
# once, and do two operations (a product and a sum) for each weight and token. With $W$ weights of $b$ bytes,
# $B$ bytes a second and $F$ operations a second,
#
# $$\text{seconds} \ge \max \left( \frac{W \, b}{B}, \; \frac{2 \, W \, T}{F} \right).$$
#
# Which is larger? The ratio of operations to bytes is called **intensity**, here $2T / b$. Where it is
# smaller than $F / B$, memory is the limit, and the processor waits; where it is larger, arithmetic is.
# Plotted against intensity, the fastest possible speed is a slope that meets a flat line: hence the
# **roofline**.
#
# ## This machine
#
# Both numbers can be measured in a few seconds. Reading: look for the largest number of an array that is too
# large for most caches. Arithmetic: multiply two matrices that fit into them. (Both depend on what else is
# running; the best of some rounds counts.)
#
# **The experiment to change:** the size of the array, which is also the matrix of weights below.


# %%
def best(work, rounds=7):
    """Seconds of the fastest round."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


ROWS, COLUMNS = 16384, 4096  # CHANGE ME: with 64 rows it all stays in a cache, and the slope below is gone
weights = np.ones((ROWS, COLUMNS), np.float32)
with ThreadPoolExecutor() as threads:  # one alone cannot keep the memory busy
    BANDWIDTH = weights.nbytes / best(lambda: list(threads.map(np.max, np.array_split(weights, 8))))
a, b = rng.normal(size=(2, 768, 768)).astype(np.float32)
FLOPS = 2 * 768**3 / best(lambda: a @ b, 20)
ridge = FLOPS / BANDWIDTH
say(f"""
This machine reads {BANDWIDTH / 1e9:.1f} GB and does {FLOPS / 1e9:.0f} thousand million operations in a
second, in float32. So for each byte that it reads it could do {ridge:.0f} operations; and for each weight of
four bytes {4 * ridge:.0f}, while one token needs two.
""")

# %% [markdown]
# ## One matrix, more and more tokens
#
# Now the array is a matrix of weights, and we multiply it by the vectors of $T$ tokens. In the model it is
# this line, where the sum is taken in pieces for accuracy:

# %%
show(matrix.linear, "np.matmul")

# %%
TOKENS = [1, 2, 4, 8, 16, 32, 64, 128]
taken = []
for T in TOKENS:
    x = rng.normal(size=(COLUMNS, T)).astype(np.float32)
    taken.append(best(lambda: weights @ x))  # noqa: B023
taken = np.array(taken)
operations = 2 * ROWS * COLUMNS * np.array(TOKENS)
intensity = operations / weights.nbytes

# %%
fig, (left, right) = figure(columns=2, height=3.6, width=9.5)
line = np.geomspace(0.25, 200, 100)
left.loglog(line, np.minimum(line * BANDWIDTH, FLOPS) / 1e9, color=GREY, label="what is possible")
left.loglog(intensity, operations / taken / 1e9, "o-", color=BLUE, markersize=4, label="measured")
for T, x, y in zip(TOKENS, intensity, operations / taken / 1e9, strict=True):
    if T in (1, 8, 128):
        left.annotate(f"{T} tokens", (x, y), textcoords="offset points", xytext=(5, -12), fontsize=8)
left.axvline(ridge, color=GREY, linestyle=":", linewidth=1)
left.set(xlabel="operations for each byte read", ylabel="10⁹ operations a second", title="The roofline")
left.legend(loc="upper left")
right.loglog(TOKENS, 1e3 * taken, "o-", color=ORANGE, markersize=4, label="the product")
right.loglog(TOKENS, 1e3 * taken / TOKENS, "s-", color=GREEN, markersize=4, label="of it, for each token")
right.set(xlabel="tokens at once", ylabel="milliseconds", title="More tokens, nearly for free")
right.set_xticks(TOKENS, [str(T) for T in TOKENS])
right.minorticks_off()
right.legend()
plot(
    fig,
    "Left: on the slope memory is the limit, on the flat part arithmetic; the dotted line is where they "
    "meet. Right: the same product in time: the first few tokens more cost little, since the weights are "
    "read anyway.",
)

# %%
say(f"""
A product for one token reaches {operations[0] / taken[0] / FLOPS * 100:.0f}% of what the processor can do,
one for {TOKENS[-1]} tokens {operations[-1] / taken[-1] / FLOPS * 100:.0f}%. Sixteen tokens take
{taken[4] / taken[1]:.1f} times as long as two. (A step between one and two is the library's: for more than
one vector it first copies the matrix into another order, which is more traffic. The kernels in
`qwen_ref/kernels` do not.)
""")

# %% [markdown]
# ## Reading and answering
#
# - **Prefill**, the reading of a prompt: all tokens are known, hundreds go through each matrix at once. The
# intensity is high, and arithmetic is the limit. It does not matter much how many bytes a weight has.
# - **Decoding**, the answer: one token, then the next. Each reads all weights for two operations each. Memory
# is the limit, and a model with a quarter of the bytes is four times as fast. That is why weights have four
# bits (lesson 2), why drafts help (lesson 11), why a server answers many at once, and why a DeltaNet state of
# one size (lesson 7) beats a cache that grows.
#
# So the fastest that a model can answer on this machine is the bandwidth by its bytes:

# %%
model = qwen_ref.load(backend="numpy")
text = model.text
read = sum(tensor.nbytes for tensor in text.file.tensors.values())
count = sum(tensor.rows * tensor.columns for tensor in text.file.tensors.values())
BITS = {"4.5 bits (Q4_K)": 4.5, "8.5 bits (Q8_0)": 8.5, "16 bits": 16}
SIZES = {"the small model": count, "0.8B": 0.8e9, "2B": 2e9, "4B": 4e9, "9B": 9e9}
print(f"{'tokens a second, at most':26}" + "".join(f"{bits:>18}" for bits in BITS))
for name, size in SIZES.items():
    print(f"{name:26}" + "".join(f"{BANDWIDTH / (size * bits / 8):18,.1f}" for bits in BITS.values()))

# %%
ids = model.encode_prompt("Tell me a story about a fox. " * 8).token_ids
state = text.new_state()
text.forward(ids, state)  # so that all weights are floats before it is measured
prefill = len(ids) / best(lambda: text.forward(ids, text.new_state()), 3)
decode = 1 / best(lambda: text.logits(text.forward([5], state)), 5)
limit = BANDWIDTH / (4 * count)
say(f"""
The small model in NumPy, whose weights are float32 in memory (and partly fit into caches): it reads
{prefill:,.0f} tokens of a prompt in a second, and answers with {decode:,.0f}. Its {4 * count / 1e6:.0f} MB
allow {limit:,.0f}: here it is mostly Python that is waited for. The kernels, which read the file's own
{read / 1e6:.1f} MB, get much nearer: `python -m qwen_ref bench` shows it.
""")

# %% [markdown]
# ## Exercise
#
# A model has 0.8 thousand million weights of 4.5 bits each. A machine reads 17 GB in a second and does 600
# thousand million operations in a second. Write `tokens_a_second(T)`: the most tokens it can get through in a
# second if $T$ of them go through the model at once.


# %% tags=["fold"] jupyter={"source_hidden": true}
@exercise
def check(answer):
    def right(T):
        return T / max(0.8e9 * 4.5 / 8 / 17e9, 2 * 0.8e9 * T / 600e9)

    def all_are(other):
        return all(abs(answer(T) / other(T) - 1) < 0.01 for T in (1, 2, 4, 100))

    if all_are(right):
        return None
    if all_are(lambda T: T / (0.8e9 * 4.5 / 8 / 17e9 + 2 * 0.8e9 * T / 600e9)):
        return "You add both times; reading and computing go on at once, so the longer one counts."
    if all_are(lambda T: T / max(0.8e9 * 4.5 / 17e9, 2 * 0.8e9 * T / 600e9)):
        return "4.5 bits are not 4.5 bytes."
    if all_are(lambda T: T / max(0.8e9 * 4.5 / 8 / 17e9, 0.8e9 * T / 600e9)):
        return "A weight takes two operations for each token, a product and a sum."
    if all_are(lambda T: 1 / max(0.8e9 * 4.5 / 8 / 17e9, 2 * 0.8e9 * T / 600e9)):
        return "That is how many steps; each step takes T tokens through."
    if all_are(lambda T: T / (0.8e9 * 4.5 / 8 / 17e9)):
        return "Right for one token, where memory is the limit; with many, arithmetic is."
    if all_are(lambda T: 600e9 / 2 / 0.8e9):
        return "Right for many tokens, where arithmetic is the limit; with one, memory is."
    if all_are(lambda T: max(0.8e9 * 4.5 / 8 / 17e9, 2 * 0.8e9 * T / 600e9)):
        return "That is the time of a step in seconds; tokens a second are T by that."
    return (
        f"For one token it gives {answer(1):.4g} and should give {right(1):.4g}; for 100 "
        f"{answer(100):.4g}, not {right(100):.4g}."
    )


# %%
check(...)  # your function: def tokens_a_second(T): ...


# %% tags=["solution"] jupyter={"source_hidden": true}
def solution():
    def tokens_a_second(T):
        reading = 0.8e9 * 4.5 / 8 / 17e9
        computing = 2 * 0.8e9 * T / 600e9
        return T / max(reading, computing)

    return tokens_a_second


check(solution(), "The solution")

# %% [markdown]
# **To go on:** `tests/benchmarks/RESULTS.md` has measurements of real sizes. The roofline is by
# [Williams, Waterman and Patterson](https://doi.org/10.1145/1498765.1498785).
