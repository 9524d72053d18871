"""The vision tower: patches of images and video frames to vectors that stand among the text's embeddings.

transformers' `Qwen3_5VisionModel`. A patch is 16 x 16 pixels of two frames (an image is two equal ones). Each
becomes a vector, passes through blocks of (attention, MLP), and 2 x 2 neighbours are merged into one token.
Patches of one merge window lie together: the order is (frame pair, row of windows, window, row and column).
"""

from collections.abc import Callable

import numpy as np

from gguf_io import GGUFFile
from qwen_ref.config import VisionConfig, read_vision_config
from qwen_ref.model.layers import NUMPY, Array, Layers
from qwen_ref.model.trace import part, tap
from qwen_ref.model.weights import LayerNorm, VisionBlockWeights, load_vision_weights

Progress = Callable[[int], None]  # called with how many blocks are done

ROPE_THETA = 10_000.0


# ---- patches


def merge_order(h: int, w: int, merge_size: int) -> tuple[Array, Array]:
    """Row and column of each patch of a frame in the order in which they are given, [h*w] both."""
    rows, columns = np.indices((h, w))  # [h, w] both

    def windows_together(grid: Array) -> Array:
        cut = grid.reshape(h // merge_size, merge_size, w // merge_size, merge_size)
        return cut.swapaxes(1, 2).ravel()  # [h/M, w/M, M, M] -> [h*w]

    return windows_together(rows), windows_together(columns)


def position_embedding(table: Array, h: int, w: int, merge_size: int) -> Array:
    """table [side*side, hidden], learned for a square grid, stretched over h x w patches -> [h*w, hidden].

    Bilinear with aligned corners: the first patch takes the first entry, the last patch the last one.
    transformers' `get_vision_interpolation_indices_and_weights`.
    """
    side = int(np.sqrt(len(table)))
    out = np.zeros((h * w, table.shape[1]), table.dtype)
    row, column = merge_order(h, w, merge_size)

    def neighbours(index: Array, size: int) -> list[tuple[Array, Array]]:
        """The two entries of the table around each place, and their weights."""
        place = index * (side - 1) / max(size - 1, 1)
        low = np.floor(place).astype(int)
        return [(low, 1 - (place - low)), (np.minimum(low + 1, side - 1), place - low)]

    for table_row, row_weight in neighbours(row, h):
        for table_column, column_weight in neighbours(column, w):
            weight = (row_weight * column_weight).astype(table.dtype)
            out += table[table_row * side + table_column] * weight[:, None]  # [h*w, hidden] * [h*w, 1]
    return out


def vision_rope_tables(h: int, w: int, head_dim: int, merge_size: int, dtype: type) -> tuple[Array, Array]:
    """cos and sin [h*w, head_dim/2]: half of the frequencies turn by the row, half by the column.

    transformers' `Qwen3_5VisionRotaryEmbedding`.
    """
    radians = ROPE_THETA ** -(np.arange(0, head_dim // 2, 2) / (head_dim // 2))  # [D/4]
    row, column = merge_order(h, w, merge_size)
    angle = np.concatenate([row[:, None] * radians, column[:, None] * radians], axis=1)  # [h*w, D/2]
    return np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)


class VisionModel:
    """The vision tower of an opened mmproj file. `dtype`, `memory_budget` and `layers` are as for TextModel.

    Raises QwenRefError if the file is not a Qwen3.5 vision file.
    """

    def __init__(
        self, file: GGUFFile, dtype: type = np.float32, memory_budget: int = 1 << 30, layers: Layers = NUMPY
    ):
        self.file = file
        self.config: VisionConfig = read_vision_config(file)
        self.dtype = dtype
        self.layers = layers
        self.weights = load_vision_weights(file, self.config, dtype, memory_budget)

    def encode(
        self, patches: Array, grid_thw: tuple[int, int, int], progress: Progress | None = None
    ) -> Array:
        """patches [t*h*w, 3*2*16*16], as qwen_ref/media cuts them -> tokens [t*h*w / 4, out_hidden]."""
        c, w = self.config, self.weights
        t, height, width = grid_thw
        patches = tap("pixel_values", patches.astype(self.dtype, copy=False))
        x = tap("patch_embed", self.layers.patch_embed(patches, w.patch_embed, w.patch_bias))  # [N, hidden]
        table, size = w.position_embedding, c.spatial_merge_size
        # [h*w, hidden] -> [t*h*w, hidden]
        x = tap("embedded", x + np.tile(position_embedding(table, height, width, size), (t, 1)))
        cos, sin = vision_rope_tables(height, width, c.head_dim, c.spatial_merge_size, self.dtype)
        for i, block in enumerate(w.blocks):
            if progress:
                progress(i)
            with part(f"blocks.{i}"):
                x = self.block(x, block, cos, sin)
        with part("merger"):
            x = self.norm(x, w.post_norm, "norm")
            four = x.reshape(-1, c.spatial_merge_size**2 * c.hidden_size)  # [N, hidden] -> [N/4, 4*hidden]
            return self.layers.merger(four, w.merger)  # [N/4, 4*hidden] -> [N/4, out_hidden]

    def block(self, x: Array, w: VisionBlockWeights, cos: Array, sin: Array) -> Array:
        """x [N, hidden] -> [N, hidden]: as in the text model, but each patch sees all of its frame."""
        use, heads = self.layers, self.config.num_heads
        x = x + use.vision_attention(self.norm(x, w.norm1, "norm1"), w.attention, cos, sin, heads)
        x = tap("mixed", x)
        x = x + use.vision_mlp(self.norm(x, w.norm2, "norm2"), w.mlp)
        return tap("output", x)

    def norm(self, x: Array, w: LayerNorm, name: str) -> Array:
        return tap(name, self.layers.layer_norm(x, *w, self.config.layer_norm_eps))


def vision_work(c: VisionConfig, grid_thw: tuple[int, int, int]) -> tuple[float, float]:
    """Multiplications of `encode`: with matrices, and in attention."""
    t, h, w = grid_thw
    hidden, merged = c.hidden_size, c.hidden_size * c.spatial_merge_size**2
    block = hidden * (4 * hidden + 2 * c.intermediate_size)  # a patch
    merger = merged * (merged + c.out_hidden_size) / c.spatial_merge_size**2
    return t * h * w * (c.depth * block + merger), t * h * w * c.depth * hidden * 2 * h * w
