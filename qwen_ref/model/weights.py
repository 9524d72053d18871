"""Which tensor of a GGUF file is which matrix of the model, checked when the file is opened.

Matrices stay in the file, quantized (see matrix.py); vectors are floats from the start.

Every tensor of a file is claimed by what uses it here, or is on a short list of harmless ones, or the file is
refused: what nobody computes would be missing from the result without a word.
"""

from dataclasses import dataclass

import numpy as np

from gguf_io import GGUFFile, Tensor
from qwen_ref.config import ARCHITECTURE, TEMPORAL_PATCH_SIZE, Config, VisionConfig
from qwen_ref.errors import QwenRefError, tell
from qwen_ref.model.matrix import Budget, Matrix


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


MixerWeights = AttentionWeights | DeltaNetWeights


@dataclass(frozen=True)
class LayerWeights:
    input_norm: np.ndarray  # [hidden]
    mixer: MixerWeights
    post_attention_norm: np.ndarray  # [hidden]
    mlp: MlpWeights


@dataclass(frozen=True)
class TextWeights:
    embedding: Matrix  # [vocab, hidden]
    layers: list[LayerWeights]
    final_norm: np.ndarray  # [hidden]
    output: Matrix  # [vocab, hidden]: the embedding itself where the two are tied


@dataclass(frozen=True)
class MTPWeights:
    embedding: Matrix  # [vocab, hidden]: the model's, unless the file has another for this layer
    enorm: np.ndarray  # [hidden], of embeddings
    hnorm: np.ndarray  # [hidden], of hidden states
    eh_proj: Matrix  # [hidden, 2 * hidden]: columns for the embedding, then for the hidden state
    layer: LayerWeights  # of full attention
    norm: np.ndarray  # [hidden], of the output: the model's last norm, unless the file has another
    output: Matrix  # [vocab, hidden]: the model's, unless the file has another


HARMLESS = {  # beginnings and ends of names that nothing here uses, and why
    ".input_scale": "how an engine that computes in 4 bits rounds activations",
    "mtp.": "MTP layers, as Ollama stores them: these are not computed",
}
VISION_PARTS = "v.", "mm."  # of a tower in the text model's file, whose own loading looks at them


class Finder:
    """Finds, checks and claims tensors. Raises QwenRefError if one is missing or of another shape or type."""

    def __init__(self, file: GGUFFile, dtype: type, budget: Budget):
        self.file, self.dtype, self.budget = file, dtype, budget
        self.claimed: set[str] = set()

    def tensor(self, name: str, *shape: int) -> Tensor:
        path, tensor = self.file.path, self.file.tensors.get(name)
        self.claimed.add(name)
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
        return Matrix(self.tensor(name, rows, columns), self.budget, self.scale(name))

    def scale(self, name: str) -> float:
        """The number beside `X.weight` that its products are multiplied by, `X.scale` (NVFP4 has one)."""
        beside = name.removesuffix(".weight") + ".scale"
        if beside not in self.file.tensors:
            return 1.0
        scale = float(self.array(beside, 1)[0])
        if not np.isfinite(scale):
            raise QwenRefError(f"{self.file.path}: {beside}: {scale} is not a finite number")
        return scale

    def array(self, name: str, *shape: int) -> np.ndarray:
        return self.tensor(name, *shape).dequantize().reshape(shape).astype(self.dtype)

    def refuse_others(self, passed: tuple[str, ...] = ()) -> None:
        """Raises QwenRefError for a tensor that nobody claimed, unless its name begins like one passed."""
        known = (*HARMLESS, *passed)
        for name in self.file.tensors:
            if name not in self.claimed and not name.startswith(known) and not name.endswith(tuple(HARMLESS)):
                raise QwenRefError(
                    f"{self.file.path}: {name}: a tensor that nothing in Qwen3.5 uses, so this file is of "
                    "another model, or what it was for would be missing"
                )


def load_weights(file: GGUFFile, config: Config, dtype: type, memory_budget: int) -> TextWeights:
    """Find and check every tensor. Raises QwenRefError if one is missing, misshapen or used by nothing."""
    find, c = Finder(file, dtype, Budget(memory_budget)), config
    embedding = Matrix(find.tensor("token_embd.weight", c.vocab_size, c.hidden_size), find.budget)
    untied = "output.weight" in file.tensors
    weights = TextWeights(
        embedding=embedding,
        layers=[layer_weights(find, c, i) for i in range(c.num_layers)],
        final_norm=find.array("output_norm.weight", c.hidden_size),
        output=find.matrix("output.weight", c.vocab_size, c.hidden_size) if untied else embedding,
    )
    mtp = range(c.num_layers, c.num_layers + c.num_mtp_layers)
    find.refuse_others((*VISION_PARTS, *(f"blk.{i}." for i in mtp)))
    check_mtp_count(file, c)
    return weights


def load_mtp_weights(file: GGUFFile, config: Config, dtype: type, text: TextWeights) -> MTPWeights:
    """Those of the MTP layer, which `load_weights` leaves alone; the budget for floats is the model's.

    Raises QwenRefError as that does, and if the file has none or several of these layers.
    """
    c, hidden = config, config.hidden_size
    if c.num_mtp_layers != 1:
        raise QwenRefError(
            f"{file.path}: nextn.*: the file has {c.num_mtp_layers or 'no'} MTP layers, not one"
        )
    find = Finder(file, dtype, text.embedding.budget)
    p = f"blk.{c.num_layers}."
    nextn = p + "nextn."

    def own_or(name: str, shared: Matrix) -> Matrix:
        return find.matrix(name, c.vocab_size, hidden) if name in file.tensors else shared

    own_norm = nextn + "shared_head_norm.weight"
    weights = MTPWeights(
        embedding=own_or(nextn + "embed_tokens.weight", text.embedding),
        enorm=find.array(nextn + "enorm.weight", hidden),
        hnorm=find.array(nextn + "hnorm.weight", hidden),
        eh_proj=find.matrix(nextn + "eh_proj.weight", hidden, 2 * hidden),
        layer=layer_weights(find, c, c.num_layers),
        norm=find.array(own_norm, hidden) if own_norm in file.tensors else text.final_norm,
        output=own_or(nextn + "shared_head_head.weight", text.output),
    )
    find.claimed |= {name for name in file.tensors if not name.startswith(p)}
    find.refuse_others()
    return weights


def layer_weights(find: Finder, c: Config, i: int) -> LayerWeights:
    """Of block i; those behind the last ordinary one are MTP layers, all of full attention."""
    p, hidden = f"blk.{i}.", c.hidden_size
    full_attention = c.is_full_attention(i) or i >= c.num_layers
    return LayerWeights(
        input_norm=find.array(p + "attn_norm.weight", hidden),
        mixer=attention_weights(find, c, p) if full_attention else deltanet_weights(find, c, p),
        post_attention_norm=find.array(p + "post_attention_norm.weight", hidden),
        mlp=MlpWeights(
            gate_proj=find.matrix(p + "ffn_gate.weight", c.intermediate_size, hidden),
            up_proj=find.matrix(p + "ffn_up.weight", c.intermediate_size, hidden),
            down_proj=find.matrix(p + "ffn_down.weight", hidden, c.intermediate_size),
        ),
    )


def attention_weights(find: Finder, c: Config, p: str) -> AttentionWeights:
    q_proj, k_proj, v_proj = q_k_v(find, c, p)
    return AttentionWeights(
        q_proj=q_proj,
        k_proj=k_proj,
        v_proj=v_proj,
        o_proj=find.matrix(p + "attn_output.weight", c.hidden_size, c.num_attention_heads * c.head_dim),
        q_norm=find.array(p + "attn_q_norm.weight", c.head_dim),
        k_norm=find.array(p + "attn_k_norm.weight", c.head_dim),
    )


def q_k_v(find: Finder, c: Config, p: str) -> list[Matrix]:
    """Three matrices, or one in which their rows follow one another."""
    hidden, heads, kv_heads = c.hidden_size, c.num_attention_heads, c.num_key_value_heads
    rows = heads * 2 * c.head_dim, kv_heads * c.head_dim, kv_heads * c.head_dim
    if (name := p + "attn_qkv.weight") not in find.file.tensors:
        return [find.matrix(f"{p}attn_{letter}.weight", n, hidden) for letter, n in zip("qkv", rows)]
    tensor, scale = find.tensor(name, sum(rows), hidden), find.scale(name)
    ends = np.cumsum(rows).tolist()
    return [Matrix(tensor.part(end - n, end), find.budget, scale) for n, end in zip(rows, ends)]


def deltanet_weights(find: Finder, c: Config, p: str) -> DeltaNetWeights:
    hidden, value_heads = c.hidden_size, c.linear_num_value_heads
    by_ollama = p + "ssm_dt" in find.file.tensors  # it leaves the ending out
    return DeltaNetWeights(
        qkv_proj=find.matrix(p + "attn_qkv.weight", c.conv_channels, hidden),
        # Not attention's gate, which is a part of attn_q.
        z_proj=find.matrix(p + "attn_gate.weight", c.value_dim, hidden),
        b_proj=find.matrix(p + "ssm_beta.weight", value_heads, hidden),
        a_proj=find.matrix(p + "ssm_alpha.weight", value_heads, hidden),
        conv=np.ascontiguousarray(find.array(p + "ssm_conv1d.weight", c.conv_channels, c.conv_kernel).T),
        A=find.array(p + "ssm_a", value_heads),
        dt_bias=find.array(p + ("ssm_dt" if by_ollama else "ssm_dt.bias"), value_heads),
        norm=find.array(p + "ssm_norm.weight", c.linear_value_head_dim),
        out_proj=find.matrix(p + "ssm_out.weight", hidden, c.value_dim),
    )


def matrices(group: MixerWeights | MlpWeights) -> list[Matrix]:
    """Those of a mixer or an MLP, in order."""
    return [m for m in vars(group).values() if isinstance(m, Matrix)]


def check_mtp_count(file: GGUFFile, config: Config) -> None:
    """Tell the user of a count that the tensors contradict."""
    key = f"{ARCHITECTURE}.nextn_predict_layers"
    said = file.metadata.get(key, config.num_mtp_layers)
    if said != config.num_mtp_layers:
        tell(
            f"{file.path}: {key}: {said}, but {config.num_mtp_layers} blocks of the file hold nextn.*; "
            f"{config.num_layers} layers are computed"
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
    find = Finder(file, dtype, Budget(memory_budget))
    c = config
    hidden, merged = c.hidden_size, c.hidden_size * c.spatial_merge_size**2

    def norm(name: str) -> LayerNorm:
        return find.array(name + ".weight", hidden), find.array(name + ".bias", hidden)

    def with_bias(name: str, rows: int, columns: int) -> tuple[Matrix, np.ndarray]:
        return find.matrix(name + ".weight", rows, columns), find.array(name + ".bias", rows)

    def block(i: int) -> VisionBlockWeights:
        p = f"v.blk.{i}."
        return VisionBlockWeights(
            norm1=norm(p + "ln1"),
            attention=VisionAttentionWeights(
                *with_bias(p + "attn_qkv", 3 * hidden, hidden), *with_bias(p + "attn_out", hidden, hidden)
            ),
            norm2=norm(p + "ln2"),
            mlp=GeluMlpWeights(
                *with_bias(p + "ffn_up", c.intermediate_size, hidden),
                *with_bias(p + "ffn_down", hidden, c.intermediate_size),
            ),
        )

    kernels = ["v.patch_embd.weight" + (f".{i}" if i else "") for i in range(TEMPORAL_PATCH_SIZE)]
    shape = hidden, 3, c.patch_size, c.patch_size
    table = file.tensors.get("v.position_embd.weight")
    places = table.shape[0] if table else 1
    if int(places**0.5) ** 2 != places:
        raise QwenRefError(f"{file.path}: v.position_embd.weight: {places} places are not a square")
    weights = VisionWeights(
        patch_embed=np.stack([find.array(k, *shape) for k in kernels], axis=2),
        patch_bias=find.array("v.patch_embd.bias", hidden),
        position_embedding=find.array("v.position_embd.weight", places, hidden),
        blocks=[block(i) for i in range(c.depth)],
        post_norm=norm("v.post_ln"),
        merger=GeluMlpWeights(
            *with_bias("mm.0", merged, merged), *with_bias("mm.2", c.out_hidden_size, merged)
        ),
    )
    find.refuse_others()
    return weights
