"""Which tensor of a checkpoint is which of a GGUF file, and what becomes of it: the converter's tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gguf_io import QuantType, Tensor
from qwen_ref.checkpoint.safetensors import FLOATS, Stored
from qwen_ref.config import TEMPORAL_PATCH_SIZE, Config, VisionConfig
from qwen_ref.errors import QwenRefError

VISUAL = "model.visual."  # how the tower's tensors begin

Order = Callable[[], np.ndarray]  # numbers of rows or columns, made when needed: sizes are checked by then


@dataclass(frozen=True)
class Row:
    """A line of the table: which tensor of the checkpoint is which of a GGUF file, and what becomes of it.

    shape    transformers' shape, and GGUF's too unless `gguf_shape` says otherwise
    rows     which rows (of as many numbers as GGUF's last dimension), in which order; None: as they lie
    columns  the same of each row's numbers
    values   is given float64 numbers and returns others
    """

    gguf_name: str
    name: str
    shape: tuple[int, ...]
    values: Callable[[np.ndarray], np.ndarray] | None = None
    rows: Order | None = None
    columns: Order | None = None
    gguf_shape: tuple[int, ...] | None = None


def one_plus(w: np.ndarray) -> np.ndarray:
    """transformers' `Qwen3_5RMSNorm` multiplies by 1 + w."""
    return 1 + w


def decay(A_log: np.ndarray) -> np.ndarray:
    return -np.exp(A_log)


def tiled(c: Config, before: int, size: int) -> Order | None:
    """The order of V heads of `size` rows each, after `before` other rows, as GGUF stores them.

    GGUF's V head v * H_k + k is transformers' k * (H_v / H_k) + v (see model/deltanet.py).
    """
    H_k, H_v = c.linear_num_key_heads, c.linear_num_value_heads

    def order() -> np.ndarray:
        heads = np.arange(H_v * size).reshape(H_k, H_v // H_k, size)
        return np.concatenate([np.arange(before), before + heads.swapaxes(0, 1).ravel()])

    return order if H_k != H_v else None


def text_rows(c: Config, prefix: str) -> Iterator[Row]:
    """The table of a text model, less the embedding and what is tied to it."""
    hidden = c.hidden_size
    key_dim, value_dim, H_v, V = c.key_dim, c.value_dim, c.linear_num_value_heads, c.linear_value_head_dim
    channels, kernel = c.conv_channels, c.conv_kernel
    heads, wide, after_qk = tiled(c, 0, 1), tiled(c, 0, V), tiled(c, 2 * key_dim, V)

    yield Row("output_norm.weight", prefix + "norm.weight", (hidden,), one_plus)
    for i in range(c.num_layers):
        g, h = f"blk.{i}.", f"{prefix}layers.{i}."
        yield from block_rows(c, g, h)
        if c.is_full_attention(i):
            yield from attention_rows(c, g, h + "self_attn.")
            continue
        h += "linear_attn."
        yield Row(g + "attn_qkv.weight", h + "in_proj_qkv.weight", (channels, hidden), rows=after_qk)
        yield Row(g + "attn_gate.weight", h + "in_proj_z.weight", (value_dim, hidden), rows=wide)
        yield Row(g + "ssm_beta.weight", h + "in_proj_b.weight", (H_v, hidden), rows=heads)
        yield Row(g + "ssm_alpha.weight", h + "in_proj_a.weight", (H_v, hidden), rows=heads)
        conv = (channels, 1, kernel)  # GGUF: [channels, kernel]
        yield Row(g + "ssm_conv1d.weight", h + "conv1d.weight", conv, None, after_qk, None, conv[::2])
        yield Row(g + "ssm_a", h + "A_log", (H_v,), decay, columns=heads)
        yield Row(g + "ssm_dt.bias", h + "dt_bias", (H_v,), columns=heads)
        yield Row(g + "ssm_norm.weight", h + "norm.weight", (V,))  # the one norm without 1 +
        yield Row(g + "ssm_out.weight", h + "out_proj.weight", (hidden, value_dim), columns=wide)


def block_rows(c: Config, g: str, h: str) -> Iterator[Row]:
    """What every layer has; g and h are how its names begin in GGUF and in the checkpoint."""
    hidden, inner = c.hidden_size, c.intermediate_size
    yield Row(g + "attn_norm.weight", h + "input_layernorm.weight", (hidden,), one_plus)
    yield Row(g + "post_attention_norm.weight", h + "post_attention_layernorm.weight", (hidden,), one_plus)
    yield Row(g + "ffn_gate.weight", h + "mlp.gate_proj.weight", (inner, hidden))
    yield Row(g + "ffn_up.weight", h + "mlp.up_proj.weight", (inner, hidden))
    yield Row(g + "ffn_down.weight", h + "mlp.down_proj.weight", (hidden, inner))


def attention_rows(c: Config, g: str, h: str) -> Iterator[Row]:
    hidden, q_dim, kv_dim = (
        c.hidden_size,
        c.num_attention_heads * c.head_dim,
        c.num_key_value_heads * c.head_dim,
    )
    yield Row(g + "attn_q.weight", h + "q_proj.weight", (2 * q_dim, hidden))
    yield Row(g + "attn_k.weight", h + "k_proj.weight", (kv_dim, hidden))
    yield Row(g + "attn_v.weight", h + "v_proj.weight", (kv_dim, hidden))
    yield Row(g + "attn_output.weight", h + "o_proj.weight", (hidden, q_dim))
    yield Row(g + "attn_q_norm.weight", h + "q_norm.weight", (c.head_dim,), one_plus)
    yield Row(g + "attn_k_norm.weight", h + "k_norm.weight", (c.head_dim,), one_plus)


def mtp_rows(c: Config, stored: Iterable[str]) -> list[Row]:
    """The table of the MTP layers that are stored, if it names all that is stored of them; else nothing.

    What is not of a numbered layer is of each: in GGUF, where each may have its own, under each one's name.
    """
    stored = {name for name in stored if name.startswith("mtp.")}
    count = len({name.split(".")[2] for name in stored if name.startswith("mtp.layers.")})
    hidden, table = c.hidden_size, list[Row]()
    for i in range(count):
        g, h = f"blk.{c.num_layers + i}.", f"mtp.layers.{i}."
        table += [*block_rows(c, g, h), *attention_rows(c, g, h + "self_attn.")]
        table += [
            Row(g + "nextn.eh_proj.weight", "mtp.fc.weight", (hidden, 2 * hidden)),
            Row(g + "nextn.enorm.weight", "mtp.pre_fc_norm_embedding.weight", (hidden,), one_plus),
            Row(g + "nextn.hnorm.weight", "mtp.pre_fc_norm_hidden.weight", (hidden,), one_plus),
            Row(g + "nextn.shared_head_norm.weight", "mtp.norm.weight", (hidden,), one_plus),
        ]
    if "mtp.embed_tokens.weight" in stored and count:
        name = f"blk.{c.num_layers}.nextn.embed_tokens.weight"
        table.append(Row(name, "mtp.embed_tokens.weight", (c.vocab_size, hidden)))
    return table if stored == {row.name for row in table} else []


def vision_rows(c: VisionConfig, places: int) -> Iterator[Row]:
    """The table of a vision tower."""
    hidden, merged, p = c.hidden_size, c.hidden_size * c.spatial_merge_size**2, c.patch_size

    def layer(gguf_name: str, name: str, *shape: int) -> Iterator[Row]:
        """Weight and bias of a linear layer or a LayerNorm."""
        yield Row(gguf_name + ".weight", f"model.visual.{name}.weight", shape)
        yield Row(gguf_name + ".bias", f"model.visual.{name}.bias", shape[:1])

    for i in range(c.depth):
        g, h = f"v.blk.{i}.", f"blocks.{i}."
        yield from layer(g + "ln1", h + "norm1", hidden)
        yield from layer(g + "attn_qkv", h + "attn.qkv", 3 * hidden, hidden)
        yield from layer(g + "attn_out", h + "attn.proj", hidden, hidden)
        yield from layer(g + "ln2", h + "norm2", hidden)
        yield from layer(g + "ffn_up", h + "mlp.linear_fc1", c.intermediate_size, hidden)
        yield from layer(g + "ffn_down", h + "mlp.linear_fc2", hidden, c.intermediate_size)
    yield from layer("v.post_ln", "merger.norm", hidden)
    yield from layer("mm.0", "merger.linear_fc1", merged, merged)
    yield from layer("mm.2", "merger.linear_fc2", c.out_hidden_size, merged)
    yield Row("v.position_embd.weight", "model.visual.pos_embed.weight", (places, hidden))
    # One kernel over two frames becomes two kernels: [hidden, 3, 2, p, p] -> 2 of [hidden, 3, p, p].
    name, frames = "model.visual.patch_embed.proj", TEMPORAL_PATCH_SIZE

    def rows_of(frame: int) -> np.ndarray:
        numbers = np.arange(hidden * 3 * frames * p).reshape(-1, frames, p)
        return numbers[:, frame].ravel()  # [hidden*3, 2, p] -> [hidden*3*p]

    for frame in range(frames):
        yield Row(
            "v.patch_embd.weight" + (f".{frame}" if frame else ""),
            name + ".weight",
            (hidden, 3, frames, p, p),
            rows=partial(rows_of, frame),
            gguf_shape=(hidden, 3, p, p),
        )
    yield Row("v.patch_embd.bias", name + ".bias", (hidden,))


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor(Tensor):
    """A tensor of a checkpoint with GGUF's name and layout, made of the mapped file when asked for.

    Where values change, `type` is F32 and `data` are rounded, as a GGUF file has them.
    """

    stored_type: QuantType
    stored_bytes: int
    row: Row

    def taken(self, start: int, stop: int | None) -> np.ndarray:
        """Rows start to stop in GGUF's order, uint8 [stop - start, bytes per row], values as they lie."""
        flat = np.frombuffer(self.buffer, np.uint8, self.stored_bytes, self.offset)
        rows = flat.reshape(-1, self.stored_type.row_bytes(self.columns))
        order = self.row.rows
        rows = rows[start:stop] if order is None else rows[order()[start:stop]]
        if self.row.columns is not None:
            numbers = rows.view(f"u{self.stored_type.block_bytes}")  # [n, bytes] -> [n, columns]
            rows = np.ascontiguousarray(numbers[:, self.row.columns()]).view(np.uint8)
        return rows

    @property
    def data(self) -> np.ndarray:
        """As of a GGUF file; not copied where nothing changes."""
        if self.row.values is None:
            data = self.taken(0, None)
        else:
            data = self.dequantize().astype(np.float32).view(np.uint8)
        data.flags.writeable = False  # like a mapped file: kernels are compiled for arrays of one kind
        return data

    def dequantize(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows start to stop as floats [stop - start, columns]: float64 where values change, else float32."""
        numbers = self.stored_type.dequantize(self.taken(start, stop))
        return numbers if self.row.values is None else self.row.values(numbers.astype(np.float64))


def take(stored: dict[str, Stored], table: Iterable[Row], folder: Path) -> dict[str, Tensor]:
    """The tensors of a table under GGUF's names. Raises QwenRefError if one is missing or misshapen."""
    tensors: dict[str, Tensor] = {}
    for row in table:
        found = stored.get(row.name)
        if found is None:
            raise QwenRefError(f"{folder}: {row.name}: the tensor is missing")
        if found.shape != row.shape:
            raise QwenRefError(f"{found.path}: {row.name}: shape {found.shape} should be {row.shape}")
        if found.type not in FLOATS:
            raise QwenRefError(
                f"{found.path}: {row.name}: type {found.type!r:.80} cannot be read, only {', '.join(FLOATS)}"
            )
        kind, shape = FLOATS[found.type], row.gguf_shape or row.shape
        tensors[row.gguf_name] = StoredTensor(
            row.gguf_name, shape, FLOATS["F32"] if row.values else kind, found.offset, found.buffer,
            kind, found.nbytes, row,
        )  # fmt: skip
    return tensors


def refuse_others(stored: dict[str, Stored], table: Iterable[Row], passed: tuple[str, ...] = ()) -> None:
    """Raises QwenRefError for a tensor that no line of the table names, unless it begins as `passed`."""
    for name in sorted(stored.keys() - {row.name for row in table}):
        if not name.startswith(passed) and not name.endswith("rotary_emb.inv_freq"):  # told by config.json
            raise QwenRefError(f"{stored[name].path}: {name}: a tensor that nothing in Qwen3.5 uses")
