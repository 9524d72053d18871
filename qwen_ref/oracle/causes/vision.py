"""The vision tower. Of it a golden keeps some patches; where others would have to be known, the model's file
has the weights, and frames that see each other show where all patches are kept."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from qwen_ref.model.activation import gelu, gelu_tanh, silu, softmax
from qwen_ref.model.rope import apply_rope
from qwen_ref.model.vision import ROPE_THETA, merge_order
from qwen_ref.oracle.causes.cause import MANY, Array, Cause, Place, TooLittle
from qwen_ref.oracle.causes.positions import neighbours

MERGE = 2  # patches of a token, each way
SCORES = 1 << 24  # that are computed at a time, at most
PIXELS, PATCHES, EMBEDDED = "pixel_values", "patch_embed", "embedded"
TURNED, ATTENDED = "attn.q_rope attn.k_rope", "attn.attended"


def grid(p: Place) -> tuple[int, int, int]:
    """Frames, and rows and columns of patches in each."""
    kind, number = p.name.split(".")[:2]
    t, h, w = map(int, p.golden.inputs[f"{kind.removesuffix('s')}_grid_thw"][int(number)])
    if t * h * w != p.entry.shape[0]:
        raise ValueError
    return t, h, w


def coordinates(p: Place, by_rows: bool = False) -> tuple[Array, Array]:
    """Row and column of each patch that is kept; or if they came row by row."""
    _, h, w = grid(p)
    row, column = np.indices((h, w)).reshape(2, -1) if by_rows else merge_order(h, w, MERGE)
    at = p.rows % (h * w)
    return row[at], column[at]


# ---- pixels and patches


def pixels(p: Place) -> Array:
    """[rows, C, 2, 16*16]"""
    x = p.whole(PIXELS)
    return x.reshape(len(x), 3, 2, -1)


def one_frame(which: int) -> Callable[[Place], Array]:
    return lambda p: np.repeat(pixels(p)[:, :, [which]], 2, axis=2)


def first_slice(p: Place) -> Array:
    """The kernel has a slice for each of the two frames."""
    second = p.weights("v.patch_embd.weight.1")  # [hidden, C, 16, 16]
    x = pixels(p)[:, :, 1].reshape(len(p.rows), -1)
    return whole_patches(p) - x @ second.reshape(len(second), -1).T


def whole_patches(p: Place) -> Array:
    x = p.whole()
    if p.golden.entries[p.beside(PIXELS)].rows != p.entry.rows:
        raise TooLittle
    return x


def same_vector(p: Place) -> Array | None:
    """Each column is off by a number of its own, the same in every row."""
    if (~np.isnan(p.found)).sum(0).max() < 4:
        return None
    return p.exact + np.nanmean(p.found - p.exact, 0, keepdims=True)


# ---- positions


def interpolated(table: Array, row: Array, column: Array) -> Array:
    """table [side, side, hidden], row and column [rows], between its entries -> [rows, hidden]."""
    side, out = len(table), np.zeros((len(row), table.shape[2]))
    for down in (0, 1):
        for right in (0, 1):
            low = np.floor(row).astype(int), np.floor(column).astype(int)
            weight = np.abs(1 - down - (row - low[0])) * np.abs(1 - right - (column - low[1]))  # [rows]
            at = [np.clip(x + step, 0, side - 1) for x, step in zip(low, (down, right))]
            out += table[at[0], at[1]] * weight[:, None]
    return out


def corners(index: Array, size: int, side: int) -> Array:
    """Where in the table a patch lies: the first at the first entry, the last at the last."""
    return index * (side - 1) / max(size - 1, 1)


def no_corners(index: Array, size: int, side: int) -> Array:
    return np.clip((index + 0.5) * side / size - 0.5, 0, side - 1)


def nearest(index: Array, size: int, side: int) -> Array:
    return np.round(corners(index, size, side))


def nearest_below(index: Array, size: int, side: int) -> Array:
    return np.floor(index * side / size)


def embedding(places: Callable[[Array, int, int], Array], by_rows: bool = False) -> Callable[[Place], Array]:
    def makes(p: Place) -> Array:
        table = p.weights("v.position_embd.weight")
        side = int(np.sqrt(len(table)))
        table = table.reshape(side, side, -1)
        _, h, w = grid(p)

        def looked_up(places: Callable[[Array, int, int], Array], by_rows: bool) -> Array:
            row, column = coordinates(p, by_rows)
            x = interpolated(table, places(row, h, side), places(column, w, side))
            return x[:, :: p.entry.stride]

        return p.exact - looked_up(corners, False) + looked_up(places, by_rows)

    return makes


def tables(p: Place, row: Array, column: Array) -> tuple[Array, Array]:
    """cos and sin [rows, D/2]"""
    D = p.entry.shape[-1]
    radians = ROPE_THETA ** -(np.arange(0, D // 2, 2) / (D // 2))  # [D/4]
    angle = np.concatenate([row[:, None] * radians, column[:, None] * radians], axis=1)
    return np.cos(angle), np.sin(angle)


def unturned(p: Place) -> Array:
    """Queries or keys [rows, H, D] before RoPE."""
    qkv = p.whole("qkv")
    if p.golden.entries[p.beside("qkv")].rows != p.entry.rows:
        raise TooLittle
    return qkv.reshape(len(qkv), 3, *p.entry.shape[1:])[:, int(p.kind == "attn.k_rope")]


def turned(places: Callable[[Place], tuple[Array, Array]]) -> Callable[[Place], Array]:
    """By these rows and columns."""
    return lambda p: apply_rope(unturned(p), *tables(p, *places(p)))


# ---- attention


def attend(sees: Callable[[Array, Array, int], Array]) -> Callable[[Place], Array | None]:
    """Patch i [N, 1] sees patch j [N] of a frame's size, if `sees` says so."""

    def makes(p: Place) -> Array | None:
        _, h, w = grid(p)
        N, H, D = p.entry.shape
        i, j = np.arange(N)[:, None], np.arange(N)
        if N * N * H > SCORES or p.entry.rows != list(range(N)):
            raise TooLittle
        mask = sees(i, j, h * w)
        if (mask == (i // (h * w) == j // (h * w))).all():
            return None
        q, k, v = p.whole("q_rope"), p.whole("k_rope"), p.whole("qkv").reshape(N, 3, H, D)[:, 2]
        scores = np.einsum("nhd,mhd->nhm", q, k) / np.sqrt(D)
        weights = softmax(np.where(mask[:, None], scores, -np.inf))
        return np.einsum("nhm,mhd->nhd", weights, v)

    return makes


def transposed_proj(p: Place) -> Array:
    """The one matrix of a block that is square."""
    proj = re.sub(r".*blocks\.(\d+).*", r"v.blk.\1.attn_out", p.name)
    x = p.whole("attended").reshape(len(p.rows), -1) @ p.weights(f"{proj}.weight") + p.weights(f"{proj}.bias")
    return x[:, :: p.entry.stride]


CAUSES = [
    Cause("the colour channels stand in reverse: blue, green, red", PIXELS, lambda p: pixels(p)[:, ::-1]),
    Cause("pixels are scaled from 0 to 1, and not from -1 to 1", PIXELS, lambda p: (p.exact + 1) / 2),
    *[Cause("patches have one frame twice; a clip's have two", PIXELS, one_frame(n)) for n in (0, 1)],
    Cause(
        "only the first temporal slice of the patch kernel is used; it has one for each frame",
        PATCHES,
        first_slice,
    ),
    Cause(
        "each row is off by the same vector: the patch embedding's bias is missing, or there twice",
        PATCHES,
        same_vector,
        MANY,
    ),
    Cause("the position embedding is missing", EMBEDDED, lambda p: p.same(PATCHES)),
    Cause("the position embedding is interpolated without aligned corners", EMBEDDED, embedding(no_corners)),
    *[
        Cause("the position embedding is the nearest one; it is interpolated", EMBEDDED, embedding(places))
        for places in (nearest, nearest_below)
    ],
    Cause(
        "the position embedding stands row by row; patches come in windows of 2 x 2",
        EMBEDDED,
        embedding(corners, by_rows=True),
    ),
    Cause("the tower's RoPE is missing", TURNED, unturned),
    Cause("the tower's RoPE has rows and columns exchanged", TURNED, turned(lambda p: coordinates(p)[::-1])),
    Cause(
        "the tower's RoPE counts patches row by row; they come in windows of 2 x 2",
        TURNED,
        turned(lambda p: coordinates(p, by_rows=True)),
    ),
    Cause(
        "the tower's RoPE turns neighbours; dimension i turns with i + D/2",
        TURNED,
        lambda p: neighbours(unturned(p), *tables(p, *coordinates(p))),
    ),
    Cause(
        "frames see each other; a patch sees its own frame",
        ATTENDED,
        attend(lambda i, j, frame: np.ones((len(i), len(j)), bool)),
    ),
    Cause(
        "the tower's attention is causal; a patch sees all of its frame",
        ATTENDED,
        attend(lambda i, j, frame: (j <= i) & (i // frame == j // frame)),
    ),
    Cause("the matrix is transposed", "attn.proj", transposed_proj),
    Cause(
        "GELU is exact; in the tower's blocks it is approximated with tanh",
        "mlp.act",
        lambda p: gelu(p.same("linear_fc1")),
    ),
    Cause(
        "GELU is approximated with tanh; in the merger it is exact",
        "merger.act",
        lambda p: gelu_tanh(p.same("linear_fc1")),
    ),
    Cause("GELU is missing", "mlp.act merger.act", lambda p: p.same("linear_fc1")),
    Cause("SiLU stands where GELU should", "mlp.act merger.act", lambda p: silu(p.same("linear_fc1"))),
]
