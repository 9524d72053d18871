# %% [markdown]
# # 10. How a picture becomes tokens
#
# A picture is cut into patches, a patch becomes a vector by one matrix product, four of them become one
# token; and a clip needs a third dimension, since what happens in it happens between frames.

# %%
from dataclasses import replace

import imageio.v3 as iio
import numpy as np
from lesson import MEDIA, close, exercise, figure, plot, say, show

import qwen_ref
from qwen_ref.media import images, patches, video
from qwen_ref.model import vision_block
from qwen_ref.model.vision import VisionModel, merge_order

model = qwen_ref.load(backend="numpy")
config, weights = model.vision.config, model.vision.weights

# %% [markdown]
# ## Patches
#
# The picture is first made a little larger or smaller, so that both sides are multiples of 32 pixels. Then it
# is cut into squares of 16 × 16 pixels. A pixel has three numbers (red, green, blue), and a picture counts as
# two equal frames of a clip, so a patch is a vector of $3 \cdot 2 \cdot 16 \cdot 16$ numbers. One matrix and
# a bias make it a vector of the vision tower's size:
#
# $$x = W \, \text{patch} + b.$$
#
# In other programs this is a three-dimensional convolution. Its windows do not overlap, so it is a product
# and no more:

# %%
show(vision_block.patch_embed, "return")
show(patches.cut_patches, "plane =", "out[row")

# %% [markdown]
# **The experiment to change:** the picture.

# %%
PICTURE = MEDIA / "shapes.png"  # CHANGE ME: try MEDIA / "word.png", or a picture of yours
QUESTION = "Describe this picture."

trace = model.trace(QUESTION, images=[PICTURE])
(media,) = trace.prompt.media
_, h, w = media.grid_thw
pixels = trace["images.0.pixel_values"]  # [h * w, 3 * 2 * 16 * 16]
row, column = merge_order(h, w, config.spatial_merge_size)
assert close(
    trace["images.0.patch_embed"],
    pixels @ weights.patch_embed.reshape(config.hidden_size, -1).T + weights.patch_bias,
)
say(f"""
This picture has {media.image.width} × {media.image.height} pixels, and becomes {h} × {w} = {h * w} patches of
{pixels.shape[1]:,} numbers. Each becomes a vector of {config.hidden_size}.
""")

# %% [markdown]
# ## From patches to tokens
#
# Each patch also gets a vector for its place, and then all pass through blocks like those of the text model,
# with one difference: a patch may look at all others, not only at earlier ones. At the end four neighbours,
# two by two, are laid side by side and go through an MLP: that is one token, of the text model's size. It
# stands in the prompt where a word's embedding would.

# %%
show(VisionModel.encode, "four = x.reshape", "return")

# %%
(span,) = trace.prompt.spans
seen = trace["images.0.merger.linear_fc2"]  # [tokens, hidden of the text model]
assert len(seen) == span.rows * span.columns == h * w // 4
assert close(trace["embed_tokens"][span.start : span.start + len(seen)], seen)
say(f"""
So the picture costs {len(seen)} tokens of the prompt's {len(trace.tokens)}. Its pixels are
{pixels[:, : pixels.shape[1] // 2].size:,} numbers, its tokens {seen.size:,}.
""")

# %% [markdown]
# ## What looks at the picture
#
# Let the model answer, and see for each word of the answer which places of the picture are attended to while
# it is chosen. Of all attention heads we show the one that looks at the picture the most.

# %%
answer = model.generate(trace.prompt, max_tokens=60, temperature=0)
text = "".join(answer)
whole = model.trace(replace(trace.prompt, token_ids=trace.prompt.token_ids + answer.token_ids))
start = len(trace.prompt.token_ids) - 1  # the token after which the first of the answer is chosen
places = slice(span.start, span.start + len(seen))
looks = np.concatenate([whole.attention(i) for i in whole.layers(attention=True)])[
    :, start:-1, places
]  # [heads, T, places]
most = looks.sum(axis=2).argmax(axis=0)  # [T]: the head that looks the most
attended = looks[most, np.arange(looks.shape[1])].reshape(-1, span.rows, span.columns)
words = [whole.tokens[start + 1 + t] for t in range(len(attended))]
shares = attended.sum(axis=(1, 2))
chosen = np.sort(np.argsort(-attended.max(axis=(1, 2)))[:8])  # where the look is sharpest

fig, axes = figure(columns=4, rows=2, height=5.0, width=9)
for ax, t in zip(axes.ravel(), chosen, strict=False):
    ax.imshow(media.image.convert("L"), cmap="gray", extent=(0, span.columns, span.rows, 0), vmin=-100)
    ax.imshow(attended[t], cmap="Oranges", alpha=0.65, extent=(0, span.columns, span.rows, 0))
    ax.set(title=f"“{words[t].strip()}”", xticks=[], yticks=[])
    ax.grid(visible=False)
for ax in axes.ravel()[len(chosen) :]:
    ax.axis("off")
plot(
    fig,
    f"“{text.strip()}” Each map shows where one head looks while this token of the answer is chosen: dark "
    "orange is much.",
)

# %% [markdown]
# ## Why a third dimension
#
# A clip could be a row of pictures. But what moves is in the *difference* between frames, and so a patch
# takes two of them together: 16 × 16 pixels, twice. A row of $W$ has weights for both, and where the two
# parts differ, it sees a change. How much do they?

# %%
first, second = weights.patch_embed[:, :, 0], weights.patch_embed[:, :, 1]  # [hidden, 3, 16, 16]
both, change = np.linalg.norm(first + second), np.linalg.norm(first - second)
say(f"""
Write the weights of both frames as a mean and a difference: the difference has
{100 * change**2 / (both**2 + change**2):.0f}% of the sum of squares. Any picture, whose frames are equal,
makes this part zero.
""")

# %% [markdown]
# The rest of time is in positions (lesson 5): all tokens of a pair of frames share one time, and between the
# pairs stands the second of the clip as text. So the order of frames is known, and the same frames in another
# order are another story:

# %%
CLIP = MEDIA / "ball.mp4"
frames, rate = iio.imread(CLIP), video.read_video(CLIP).clip.fps  # [T, H, W, 3]
answers = {}
for name, some in (
    ("as it is", frames),
    ("backwards", frames[::-1]),
    ("one frame for all", np.repeat(frames[:1], len(frames), 0)),
):
    clip = {"type": "video", "video": np.ascontiguousarray(some), "frame_rate": rate}
    question = [{"role": "user", "content": [clip, {"type": "text", "text": "What happens in this clip?"}]}]
    answers[name] = "".join(model.generate(question, max_tokens=40, temperature=0)).strip()
    print(f"{name:20}{answers[name]}")

# %%
fig, axes = figure(columns=4, height=2.4, width=9)
for ax, at in zip(axes, np.linspace(0, len(frames) - 1, 4).astype(int), strict=True):
    ax.imshow(frames[at])
    ax.set(title=f"{at / rate:.1f} s", xticks=[], yticks=[])
    ax.grid(visible=False)
plot(fig, f"The clip. “{answers['as it is']}” Backwards: “{answers['backwards']}”")

# %% [markdown]
# ## Exercise
#
# How many tokens does a photograph of 4,000 × 3,000 pixels cost, if at most 500,000 pixels may be looked
# at? First both sides are rounded to multiples of 32. If that is too many pixels, both sides are divided by
# the root of how many times too many there are (counted before rounding), and then rounded *down* to
# multiples of 32. A token has 32 × 32 pixels.


# %% tags=["fold"] jupyter={"source_hidden": true}
@exercise
def check(answer):
    right = images.image_tokens(3000, 4000, max_pixels=500_000)
    if answer == right:
        return None
    if answer == images.image_tokens(3000, 4000):
        return "That is without the limit."
    if answer == 4 * right:
        return "These are the patches of 16 × 16 pixels; four of them make a token."
    if answer == 500_000 // 32**2:
        return "The limit is a bound: both sides are rounded down, so a little less is used."
    scale = (500_000 / 12_000_000) ** 0.5
    if answer == round(3000 * scale / 32) * round(4000 * scale / 32):
        return "Almost: under a limit, sides are rounded down, not to the nearest multiple."
    if answer > right:
        return f"Too many: {answer:,} tokens would be {answer * 1024:,} pixels."
    return f"Too few: it should be more than {100 * answer // right}% of what is right, that is, 100%."


# %%
check(...)  # your answer: a whole number of tokens


# %% tags=["solution"] jupyter={"source_hidden": true}
def solution():
    beta = (4000 * 3000 / 500_000) ** 0.5
    return int(4000 / beta / 32) * int(3000 / beta / 32)


check(solution(), "The solution")

# %% [markdown]
# **To go on:** `docs/vision.md` says what pictures and clips cost; `qwen_ref/model/vision.py` is the tower.
# Cutting pictures into patches is by [Dosovitskiy and others](https://arxiv.org/abs/2010.11929).
