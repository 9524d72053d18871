"""The small model in PyTorch: transformers' own Qwen3_5 classes, called so that a whole batch is one run.

Only the way through them is ours: pictures of one size go through the vision tower together, what it says
takes the places of the placeholder tokens by indexing, without a loop over the batch, and two functions of
the DeltaNet layer are written so that a GPU is busy (`use_fast_functions`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokens import VOCAB_SIZE
from torch import Tensor, nn
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration
from transformers.models.qwen3_5 import modeling_qwen3_5 as qwen
from transformers.vision_utils import (
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
)

PATCH, MERGE, FRAMES = 16, 2, 2  # pixels of a patch, patches of a token's side, frames of a time step
CHUNK = 64  # tokens that the delta rule takes at once; the length of a batch is a multiple of it


def config(special: dict[str, int]) -> Qwen3_5Config:
    """Qwen3.5 in small: 8 layers at 3:1, two V heads for each K head as the 4B and 9B have.

    `special` has the ids of the tokenizer's special tokens.
    """
    text = dict(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=128,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
        linear_conv_kernel_dim=4,
        max_position_embeddings=16384,
        tie_word_embeddings=True,
        eos_token_id=special["<|im_end|>"],
        rope_parameters=dict(
            rope_type="default",
            rope_theta=10_000,
            partial_rotary_factor=0.5,
            mrope_section=[11, 11, 10],
            mrope_interleaved=True,
        ),
    )
    vision = dict(
        depth=6,
        hidden_size=192,
        intermediate_size=768,
        num_heads=3,
        in_channels=3,
        patch_size=PATCH,
        spatial_merge_size=MERGE,
        temporal_patch_size=FRAMES,
        num_position_embeddings=256,  # 16 x 16: those of a picture of 256 x 256
        out_hidden_size=256,
    )
    return Qwen3_5Config(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        image_token_id=special["<|image_pad|>"],
        video_token_id=special["<|video_pad|>"],
        vision_start_token_id=special["<|vision_start|>"],
        vision_end_token_id=special["<|vision_end|>"],
    )


def new_model(seed: int, special: dict[str, int]) -> Qwen3_5ForConditionalGeneration:
    """With an MTP layer as `mtp`, whose tensors the checkpoint holds by the names of Qwen's own."""
    torch.manual_seed(seed)
    model = Qwen3_5ForConditionalGeneration(config(special))
    model.mtp = MTP(model.config.text_config)
    return model


def load_weights(model: Qwen3_5ForConditionalGeneration, folder: Path) -> None:
    """Those of a checkpoint that save_checkpoint wrote."""
    set_weights(model, load_file(folder / "model.safetensors"))


def set_weights(model: Qwen3_5ForConditionalGeneration, saved: dict[str, Tensor]) -> None:
    """All that it has, by the names of a checkpoint."""
    missing, unknown = model.load_state_dict(saved, strict=False)
    assert not unknown and missing == ["lm_head.weight"], (missing, unknown)  # which is the embedding


def save_checkpoint(model: Qwen3_5ForConditionalGeneration, out: Path) -> None:
    """In Hugging Face's form, with what Qwen's configuration has and transformers does not write."""
    model.save_pretrained(out)
    path = out / "config.json"
    config = json.loads(path.read_text())
    config["text_config"] |= dict(full_attention_interval=4, mtp_num_hidden_layers=1)
    path.write_text(json.dumps(config, indent=2))


class MTP(nn.Module):
    """Says one token more; see qwen_ref/model/mtp.py."""

    def __init__(self, config: qwen.Qwen3_5TextConfig):
        super().__init__()
        size, eps = config.hidden_size, config.rms_norm_eps
        self.fc = nn.Linear(2 * size, size, bias=False)
        self.pre_fc_norm_embedding = qwen.Qwen3_5RMSNorm(size, eps=eps)
        self.pre_fc_norm_hidden = qwen.Qwen3_5RMSNorm(size, eps=eps)
        full = config.layer_types.index("full_attention")
        self.layers = nn.ModuleList([qwen.Qwen3_5DecoderLayer(config, full)])
        self.norm = qwen.Qwen3_5RMSNorm(size, eps=eps)

    def forward(self, x: Tensor, hidden: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """Embeddings and the model's hidden states after its last norm, [B, T, size] -> H' [B, T, size].

        Row t has token t and the hidden state of the token before, and foresees token t + 1.
        """
        before = F.pad(hidden[:, :-1], (0, 0, 1, 0))
        z = self.fc(torch.cat([self.pre_fc_norm_embedding(x), self.pre_fc_norm_hidden(before)], -1))
        return self.norm(self.layers[0](z, position_embeddings=rope))


def causal_conv(x: Tensor, weight: Tensor, bias: None, activation: str, **_) -> Tensor:
    """[B, C, T], [C, K] -> [B, C, T]: each channel's last K values, weighted, and SiLU."""
    return CausalConv.apply(x.mT, weight).mT


def weighted(x: Tensor, weight: Tensor) -> Tensor:
    """[B, T, C], [C, K] -> [B, T, C], before SiLU."""
    T, K = x.shape[1], weight.shape[1]
    x = F.pad(x, (0, 0, K - 1, 0))  # [B, K - 1 + T, C]
    return sum(x[:, k : k + T] * weight[:, k] for k in range(K))


def conv_silu(x: Tensor, weight: Tensor) -> Tensor:
    return F.silu(weighted(x, weight))


def conv_gradient(x: Tensor, weight: Tensor, of_out: Tensor) -> tuple[Tensor, Tensor]:
    """Of the loss by x and weight, from that by the output, all [B, T, C] but weight."""
    T, K = x.shape[1], weight.shape[1]
    out = weighted(x, weight).float()
    slope = out.sigmoid() * (1 + out * (1 - out.sigmoid()))
    of_sum = of_out.float() * slope
    later = F.pad(of_sum, (0, 0, 0, K - 1))
    of_x = sum(later[:, K - 1 - k : K - 1 - k + T] * weight[:, k] for k in range(K)).to(x.dtype)
    before = F.pad(x, (0, 0, K - 1, 0))
    of_weight = torch.stack([(before[:, k : k + T] * of_sum).sum((0, 1)) for k in range(K)], 1)
    return of_x, of_weight.to(weight.dtype)


class CausalConv(torch.autograd.Function):
    """Autograd by itself would write and read each of the K products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return conv_silu(x, weight)

    @staticmethod
    def backward(ctx: Any, of_out: Tensor) -> tuple[Tensor, Tensor]:
        return conv_gradient(*ctx.saved_tensors, of_out)


def delta_rule(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, **_) -> tuple[Tensor, None]:
    """The gated delta rule from an empty state: q, k, v [B, T, H, D], g, beta [B, T, H] -> [B, T, H, D].

    transformers' torch_chunk_gated_delta_rule solves (I - A) X = B row by row; this inverts by halves.
    """
    B, dtype = len(q), q.dtype
    # [B, T, H, ...] -> [N, B, H, CHUNK, ...]
    chunks = (x.unflatten(1, (-1, CHUNK)).transpose(2, 3).transpose(0, 1) for x in (q, k, v, g, beta))
    o = over_chunks(*in_chunks(*chunks))  # [B * H, N, CHUNK, D]
    return o.unflatten(0, (B, -1)).flatten(2, 3).transpose(1, 2).to(dtype), None  # -> [B, T, H, D]


def in_chunks(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> list[Tensor]:
    """What each chunk can know without the state that it starts from: [N, B, H, CHUNK, ...] of all chunks.

    Returns what over_chunks takes, [N, B * H, CHUNK, D], but within [.., CHUNK, CHUNK] and kept [.., 1, 1].
    """
    H, D = v.shape[2], v.shape[-1]
    q, k, v, beta, g = (x.float() for x in (q, k, v, beta[..., None], g))
    q, k = (x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt() for x in (q, k))
    q, k = (x.repeat_interleave(H // x.shape[2], 2) for x in (q * D**-0.5, k))
    g = g.cumsum(-1)
    later = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=g.device).tril()
    decay = (g[..., :, None] - g[..., None, :]).masked_fill(~later, -torch.inf).exp()  # [..., CHUNK, CHUNK]
    A = -(k * beta @ k.mT * decay).tril(-1)
    w, u = (inverse_of_one_minus(A) @ torch.cat([k * beta * g[..., None].exp(), v * beta], -1)).split(D, -1)
    last = g[..., -1:]
    within, from_state = q @ k.mT * decay, q * g[..., None].exp()
    to_state, kept = k * (last - g)[..., None].exp(), last[..., None].exp()
    return [x.flatten(1, 2).contiguous() for x in (w, u, within, from_state, to_state, kept)]


def inverse_of_one_minus(A: Tensor) -> Tensor:
    """(I - A)^-1 of strictly lower triangular A [..., CHUNK, CHUNK].

    With X and Y the inverses of two blocks on the diagonal and B what A has below them, the inverse of the
    two together has Y B X there. (I + A)(I + A^2)(I + A^4)... would be shorter, but where keys repeat its
    powers grow like binomials.
    """
    eye = torch.eye(CHUNK, device=A.device)
    row = torch.arange(CHUNK, device=A.device)[:, None]
    with torch.no_grad():
        X, size = eye, 1
        while size < CHUNK:
            joins = (row // size % 2 == 1) & (row // size - 1 == row.T // size)
            X = X + (X @ (A * joins) @ X if size > 1 else A * joins)
            size *= 2
    return X @ (2 * eye - (X - A @ X))  # the same value; its gradient is that of the inverse


def over_chunks(*parts: Tensor) -> Tensor:
    """The state goes from chunk to chunk: what in_chunks returns, [N, B * H, ...] -> [B * H, N, CHUNK, D]."""
    state, out = None, []
    for w, u, within, from_state, to_state, kept in zip(*(part.unbind(0) for part in parts), strict=True):
        new = u if state is None else torch.baddbmm(u, w, state, alpha=-1)
        o = torch.bmm(within, new)
        out.append(o if state is None else torch.baddbmm(o, from_state, state))
        added = torch.bmm(to_state.mT, new)
        state = added if state is None else added + state * kept
    return torch.stack(out, 1)


def use_fast_functions(compiled: bool) -> None:
    """In transformers' layers. Compiled is what moves much memory: whole layers would take minutes."""
    global in_chunks, conv_silu, conv_gradient
    qwen.causal_conv1d_fn, qwen.torch_chunk_gated_delta_rule = causal_conv, delta_rule
    if compiled:
        torch._dynamo.config.recompile_limit = 32  # a norm is called with several kinds of arguments
        in_chunks = torch.compile(in_chunks, dynamic=True)
        conv_silu, conv_gradient = (torch.compile(f, dynamic=True) for f in (conv_silu, conv_gradient))
        for rotate in ("apply_rotary_pos_emb", "apply_rotary_pos_emb_vision"):
            setattr(qwen, rotate, torch.compile(getattr(qwen, rotate), dynamic=True))
        for norm in (qwen.Qwen3_5RMSNorm, qwen.Qwen3_5RMSNormGated):
            norm.forward = torch.compile(norm.forward, dynamic=True)


class Eyes:
    """The vision tower for pictures and clips of one size; what depends on that alone is computed once."""

    def __init__(self, tower: qwen.Qwen3_5VisionModel, height: int, width: int):
        self.tower, self.rows, self.columns = tower, height // PATCH // MERGE, width // PATCH // MERGE
        device = tower.pos_embed.weight.device
        grid = torch.tensor([[1, height // PATCH, width // PATCH]], device=device)
        self.places, weights = get_vision_interpolation_indices_and_weights(
            grid,
            num_grid_per_side=tower.num_grid_per_side,
            mode="bilinear",
            align_corners=True,
            spatial_merge_size=MERGE,
        )
        self.weights = weights[:, :, None].to(torch.bfloat16 if device.type == "cuda" else torch.float32)
        position_ids = get_vision_position_ids(grid, MERGE)
        self.cos, self.sin = tower.rotary_pos_emb(self.weights, position_ids)  # [P, head_dim] each

    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 [N, T, H, W, 3], T = 1 or even -> [N, T / 2 * tokens, hidden_size of the text]."""
        N, T = pixels.shape[:2]
        if T == 1:
            pixels = pixels.expand(-1, FRAMES, -1, -1, -1)  # a picture is two equal frames
        x = pixels.reshape(
            -1, FRAMES, self.rows, MERGE, PATCH, self.columns, MERGE, PATCH, 3
        )  # -> [n, rows, columns, M, M, 3, F, P, P]
        x = x.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(len(x), -1, 3 * FRAMES * PATCH * PATCH)
        tower, proj = self.tower, self.tower.patch_embed.proj
        x = x.to(proj.weight.dtype) / 127.5 - 1
        x = F.linear(x, proj.weight.flatten(1), proj.bias)  # [n, P, C]
        x = x + (tower.pos_embed(self.places) * self.weights).sum(1)
        for block in tower.blocks:
            x = x + self.attend(block.attn, block.norm1(x))
            x = x + block.mlp(block.norm2(x))
        return tower.merger(x).reshape(N, -1, tower.config.out_hidden_size)

    def attend(self, attention: qwen.Qwen3_5VisionAttention, x: Tensor) -> Tensor:
        n, P, C = x.shape
        q, k, v = attention.qkv(x).reshape(n, P, 3, attention.num_heads, -1).unbind(2)  # [n, P, H, D] each
        q, k = qwen.apply_rotary_pos_emb_vision(q, k, self.cos, self.sin)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # -> [n, H, P, D]
        o = F.scaled_dot_product_attention(q, k, v)
        return attention.proj(o.transpose(1, 2).reshape(n, P, C))


def logits(
    model: Qwen3_5ForConditionalGeneration,
    token_ids: Tensor,
    positions: Tensor,
    seen: Tensor,
    visual: Tensor,
) -> tuple[Tensor, Tensor]:
    """The model's and the MTP layer's, both [B, T, vocab].

    token_ids [B, T], positions [3, B, T], seen [B, T], visual [B, V, hidden_size]. Padding is on the right,
    where nothing before it sees it: no mask is needed. What the MTP layer learns does not change the hidden
    states that it is given.
    """
    text = model.model.language_model
    embeds = text.embed_tokens(token_ids)
    shown = visual.gather(1, seen.clamp(min=0)[..., None].expand(-1, -1, visual.shape[-1]))
    embeds = torch.where(seen[..., None] >= 0, shown, embeds)
    hidden = text(inputs_embeds=embeds, position_ids=positions, use_cache=False).last_hidden_state
    rope = text.rotary_emb(hidden, positions)
    foreseen = model.mtp(embeds.detach(), hidden.detach(), rope)
    return model.lm_head(hidden), model.lm_head(foreseen)
