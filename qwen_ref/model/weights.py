"""Which tensor of a GGUF file is which matrix of the model, checked when the file is opened.

Matrices stay in the file, quantized, and become floats when a layer needs them. What has become float is
kept as long as `memory_budget` bytes allow, so a small model is converted once and a large one each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gguf_io import GGUFFile, Tensor
from qwen_ref.config import TEMPORAL_PATCH_SIZE, Config, VisionConfig
from qwen_ref.errors import QwenRefError

PANEL_BYTES = 1 << 24  # of a matrix that is converted but not kept


class Budget:
    """Bytes that may still be spent on keeping matrices as floats."""

    def __init__(self, left: int):
        self.left = left

    def take(self, nbytes: int) -> bool:
        if nbytes > self.left:
            return False
        self.left -= nbytes
        return True


class Matrix:
    """A weight matrix [O, I] of the file."""

    def __init__(self, tensor: Tensor, budget: Budget):
        self.tensor, self.shape = tensor, tensor.shape
        self._budget = budget
        self._kept: np.ndarray | None = None

    @cached_property
    def data(self) -> np.ndarray:
        """uint8 [O, row bytes], quantized, as it lies in a GGUF file; of a checkpoint it may be a copy."""
        return self.tensor.data

    def rows(self, index: np.ndarray, dtype: type) -> np.ndarray:
        """Rows by number (an embedding look-up): [T] -> [T, I]."""
        return self.tensor.type.dequantize(self.data[index]).astype(dtype)

    def panels(self, dtype: np.dtype) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, float panel [P, I]) over all rows; in one piece if the budget lets it be kept."""
        out, columns = self.shape
        row_bytes = columns * dtype.itemsize
        if self._kept is None or self._kept.dtype != dtype:
            step = max(1, PANEL_BYTES // row_bytes)
            if not self._budget.take(out * row_bytes):
                for start in range(0, out, step):
                    yield start, self.tensor.dequantize(start, start + step).astype(dtype, copy=False)
                return
            kept = np.empty(self.shape, dtype)
            for start in range(0, out, step):
                kept[start : start + step] = self.tensor.dequantize(start, start + step)
            self._kept = kept
        yield 0, self._kept


@dataclass(frozen=True, eq=False)
class AttentionWeights:
    q_proj: Matrix  # [H * 2D, hidden]: per head, query then gate
    k_proj: Matrix  # [H_kv * D, hidden]
    v_proj: Matrix  # [H_kv * D, hidden]
    o_proj: Matrix  # [hidden, H * D]
    q_norm: np.ndarray  # [D]
    k_norm: np.ndarray  # [D]


@dataclass(frozen=True, eq=False)
class DeltaNetWeights:
    qkv_proj: Matrix  # [H_k * K + H_k * K + H_v * V, hidden]
    z_proj: Matrix  # [H_v * V, hidden]: the output gate
    b_proj: Matrix  # [H_v, hidden]: beta before its sigmoid
    a_proj: Matrix  # [H_v, hidden]: the decay before softplus
    conv: np.ndarray  # [kernel, channels]
    A: np.ndarray  # [H_v], negative: -exp(A_log)
    dt_bias: np.ndarray  # [H_v]
    norm: np.ndarray  # [V]
    out_proj: Matrix  # [hidden, H_v * V]


@dataclass(frozen=True, eq=False)
class MlpWeights:
    gate_proj: Matrix  # [intermediate, hidden]
    up_proj: Matrix  # [intermediate, hidden]
    down_proj: Matrix  # [hidden, intermediate]


@dataclass(frozen=True)
class LayerWeights:
    input_norm: np.ndarray  # [hidden]
    mixer: AttentionWeights | DeltaNetWeights
    post_attention_norm: np.ndarray  # [hidden]
    mlp: MlpWeights


@dataclass(frozen=True)
class TextWeights:
    embedding: Matrix  # [vocab, hidden]
    layers: list[LayerWeights]
    final_norm: np.ndarray  # [hidden]
    output: Matrix  # [vocab, hidden]: the embedding itself where the two are tied


class Finder:
    """Finds and checks tensors. Raises QwenRefError if one is missing or has another shape or type."""

    def __init__(self, file: GGUFFile, dtype: type, memory_budget: int):
        self.file, self.dtype, self.budget = file, dtype, Budget(memory_budget)

    def tensor(self, name: str, *shape: int) -> Tensor:
        path, tensor = self.file.path, self.file.tensors.get(name)
        if tensor is None:
            raise QwenRefError(
                f"{path}: {name}: the tensor is missing; the layout of llama.cpp's converter is read, "
                f"and this file may come from a tool with another one"
            )
        if tensor.shape != shape:
            raise QwenRefError(f"{path}: {name}: shape {tensor.shape} should be {shape}")
        if not tensor.type.can_dequantize:
            raise QwenRefError(f"{path}: {name}: type {tensor.type.name} cannot be read as weights")
        return tensor

    def matrix(self, name: str, rows: int, columns: int) -> Matrix:
        return Matrix(self.tensor(name, rows, columns), self.budget)

    def array(self, name: str, *shape: int) -> np.ndarray:
        return self.tensor(name, *shape).dequantize().reshape(shape).astype(self.dtype)


def load_weights(file: GGUFFile, config: Config, dtype: type, memory_budget: int) -> TextWeights:
    """Find and check every tensor. Raises QwenRefError if one is missing or has another shape or type."""
    find = Finder(file, dtype, memory_budget)
    matrix, array = find.matrix, find.array

    c = config
    hidden, heads, kv_heads, value_heads = (
        c.hidden_size,
        c.num_attention_heads,
        c.num_key_value_heads,
        c.linear_num_value_heads,
    )

    def attention(p: str) -> AttentionWeights:
        return AttentionWeights(
            q_proj=matrix(p + "attn_q.weight", heads * 2 * c.head_dim, hidden),
            k_proj=matrix(p + "attn_k.weight", kv_heads * c.head_dim, hidden),
            v_proj=matrix(p + "attn_v.weight", kv_heads * c.head_dim, hidden),
            o_proj=matrix(p + "attn_output.weight", hidden, heads * c.head_dim),
            q_norm=array(p + "attn_q_norm.weight", c.head_dim),
            k_norm=array(p + "attn_k_norm.weight", c.head_dim),
        )

    def deltanet(p: str) -> DeltaNetWeights:
        return DeltaNetWeights(
            qkv_proj=matrix(p + "attn_qkv.weight", c.conv_channels, hidden),
            z_proj=matrix(p + "attn_gate.weight", c.value_dim, hidden),
            b_proj=matrix(p + "ssm_beta.weight", value_heads, hidden),
            a_proj=matrix(p + "ssm_alpha.weight", value_heads, hidden),
            conv=np.ascontiguousarray(array(p + "ssm_conv1d.weight", c.conv_channels, c.conv_kernel).T),
            A=array(p + "ssm_a", value_heads),
            dt_bias=array(p + "ssm_dt.bias", value_heads),
            norm=array(p + "ssm_norm.weight", c.linear_value_head_dim),
            out_proj=matrix(p + "ssm_out.weight", hidden, c.value_dim),
        )

    def layer(i: int) -> LayerWeights:
        p = f"blk.{i}."
        return LayerWeights(
            input_norm=array(p + "attn_norm.weight", hidden),
            mixer=attention(p) if c.is_full_attention(i) else deltanet(p),
            post_attention_norm=array(p + "post_attention_norm.weight", hidden),
            mlp=MlpWeights(
                gate_proj=matrix(p + "ffn_gate.weight", c.intermediate_size, hidden),
                up_proj=matrix(p + "ffn_up.weight", c.intermediate_size, hidden),
                down_proj=matrix(p + "ffn_down.weight", hidden, c.intermediate_size),
            ),
        )

    embedding = matrix("token_embd.weight", c.vocab_size, hidden)
    untied = "output.weight" in file.tensors
    return TextWeights(
        embedding=embedding,
        layers=[layer(i) for i in range(c.num_layers)],
        final_norm=array("output_norm.weight", hidden),
        output=matrix("output.weight", c.vocab_size, hidden) if untied else embedding,
    )


@dataclass(frozen=True, eq=False)
class VisionAttentionWeights:
    qkv: Matrix  # [3 * hidden, hidden]
    qkv_bias: np.ndarray
    out: Matrix  # [hidden, hidden]
    out_bias: np.ndarray


@dataclass(frozen=True, eq=False)
class GeluMlpWeights:
    up: Matrix  # [inner, in]
    up_bias: np.ndarray
    down: Matrix  # [out, inner]
    down_bias: np.ndarray


LayerNorm = tuple[np.ndarray, np.ndarray]  # weight and bias


@dataclass(frozen=True)
class VisionBlockWeights:
    norm1: LayerNorm
    attention: VisionAttentionWeights
    norm2: LayerNorm
    mlp: GeluMlpWeights


@dataclass(frozen=True)
class VisionWeights:
    patch_embed: np.ndarray  # [hidden, 3, 2, 16, 16]
    patch_bias: np.ndarray  # [hidden]
    position_embedding: np.ndarray  # [side * side, hidden]
    blocks: list[VisionBlockWeights]
    post_norm: LayerNorm
    merger: GeluMlpWeights  # 4 * hidden -> 4 * hidden -> the text model's hidden_size


def load_vision_weights(
    file: GGUFFile, config: VisionConfig, dtype: type, memory_budget: int
) -> VisionWeights:
    """Find and check every tensor of a vision file. Raises QwenRefError as `load_weights` does."""
    find = Finder(file, dtype, memory_budget)
    c = config
    hidden, merged = c.hidden_size, c.hidden_size * c.spatial_merge_size**2

    def norm(name: str) -> LayerNorm:
        return find.array(name + ".weight", hidden), find.array(name + ".bias", hidden)

    def linear(name: str, rows: int, columns: int) -> tuple[Matrix, np.ndarray]:
        return find.matrix(name + ".weight", rows, columns), find.array(name + ".bias", rows)

    def block(i: int) -> VisionBlockWeights:
        p = f"v.blk.{i}."
        return VisionBlockWeights(
            norm1=norm(p + "ln1"),
            attention=VisionAttentionWeights(
                *linear(p + "attn_qkv", 3 * hidden, hidden), *linear(p + "attn_out", hidden, hidden)
            ),
            norm2=norm(p + "ln2"),
            mlp=GeluMlpWeights(
                *linear(p + "ffn_up", c.intermediate_size, hidden),
                *linear(p + "ffn_down", hidden, c.intermediate_size),
            ),
        )

    kernels = ["v.patch_embd.weight" + (f".{i}" if i else "") for i in range(TEMPORAL_PATCH_SIZE)]
    shape = hidden, 3, c.patch_size, c.patch_size
    table = file.tensors.get("v.position_embd.weight")
    places = table.shape[0] if table else 1
    if int(places**0.5) ** 2 != places:
        raise QwenRefError(f"{file.path}: v.position_embd.weight: {places} places are not a square")
    return VisionWeights(
        patch_embed=np.stack([find.array(k, *shape) for k in kernels], axis=2),
        patch_bias=find.array("v.patch_embd.bias", hidden),
        position_embedding=find.array("v.position_embd.weight", places, hidden),
        blocks=[block(i) for i in range(c.depth)],
        post_norm=norm("v.post_ln"),
        merger=GeluMlpWeights(*linear("mm.0", merged, merged), *linear("mm.2", c.out_hidden_size, merged)),
    )
