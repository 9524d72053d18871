"""A small engine for the text side of Qwen3.5: PyTorch, one prompt at once, from a GGUF file.

    engine = Engine("model.gguf")
    logits = engine.logits(token_ids)

It shares nothing with qwen_ref. What it computes on the way can be noted, under the names that a golden has,
which is all that its tests need.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import gguf
import torch
import torch.nn.functional as F
from torch import Tensor

# A mistake to make on purpose, to see what the tests say of it: norm, heads or rope.
BREAK = os.environ.get("BREAK")

Note = Callable[[str, Tensor], None]


def ignore(name: str, x: Tensor) -> None:
    pass


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x [..., N], weight [N] -> [..., N]. In float32, whatever comes in. GGUF stores 1 + the weight."""
    if BREAK == "norm":
        weight = 1 + weight  # as for a checkpoint of transformers
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    return (y * weight.float()).to(x.dtype)


def l2_norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [T, H, D], cos and sin [T, R/2] -> [T, H, D]: of each head the first R dimensions are turned."""
    R = 2 * cos.shape[-1]
    cos, sin = cos[:, None], sin[:, None]  # [T, R/2] -> [T, 1, R/2]
    if BREAK == "rope":  # dimension 2i with 2i + 1
        a, b = x[..., 0:R:2], x[..., 1:R:2]
        turned = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
    else:  # dimension i with i + R/2
        a, b = x[..., : R // 2], x[..., R // 2 : R]
        turned = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
    return torch.cat([turned.to(x.dtype), x[..., R:]], -1)


def delta_rule(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """q, k [T, H, K], v [T, H, V], g and beta [T, H] -> [T, H, V] and the state [H, K, V] after the last."""
    state = q.new_zeros(q.shape[1], q.shape[2], v.shape[2])
    outputs = []
    for q_t, k_t, v_t, g_t, beta_t in zip(q, k, v, g.exp(), beta, strict=True):
        state = state * g_t[:, None, None]
        wrong = v_t - torch.einsum("hkv,hk->hv", state, k_t)  # what the state does not yet say for this key
        state = state + torch.einsum("hk,hv->hkv", k_t, beta_t[:, None] * wrong)
        outputs.append(torch.einsum("hkv,hk->hv", state, q_t))
    return torch.stack(outputs), state


class Engine:
    """Weights are kept, and matrices multiplied, in `dtype`; norms and the delta rule are in float32."""

    def __init__(self, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32):
        reader = gguf.GGUFReader(path)

        c = {key.removeprefix("qwen35."): field.contents() for key, field in reader.fields.items()}
        self.layers = c["block_count"] - c.get("nextn_predict_layers", 0)  # these stand last and are left out
        self.interval, self.eps = c["full_attention_interval"], c["attention.layer_norm_rms_epsilon"]
        self.H, self.H_kv = c["attention.head_count"], c["attention.head_count_kv"]
        self.D, self.R, self.theta = c["attention.key_length"], c["rope.dimension_count"], c["rope.freq_base"]
        self.H_k, self.H_v, self.K = c["ssm.group_count"], c["ssm.time_step_rank"], c["ssm.state_size"]
        self.V = c["ssm.inner_size"] // self.H_v
        self.w = {
            t.name.removesuffix(".weight"): torch.tensor(gguf.quants.dequantize(t.data, t.tensor_type))
            for t in reader.tensors
        }
        for i in range(self.layers):
            if not self.is_attention(i):
                self.reorder(f"blk.{i}.")
        # The delta rule's own few numbers stay in float32.
        self.w = {n: x if n.endswith(("ssm_a", "ssm_dt.bias")) else x.to(dtype) for n, x in self.w.items()}

    def is_attention(self, i: int) -> bool:
        return i % self.interval == self.interval - 1

    def reorder(self, p: str) -> None:
        """GGUF has V head v of K head k at v * H_k + k; here, as in transformers, it is k * H_v/H_k + v."""

        def heads(x: Tensor) -> Tensor:  # [H_v * n, ...] -> the same, by K head
            return x.unflatten(0, (self.H_v // self.H_k, self.H_k, -1)).transpose(0, 1).flatten(0, 2)

        for name in ("attn_gate", "ssm_alpha", "ssm_beta", "ssm_a", "ssm_dt.bias"):
            self.w[p + name] = heads(self.w[p + name])
        self.w[p + "ssm_out"] = heads(self.w[p + "ssm_out"].T).T
        for name in ("attn_qkv", "ssm_conv1d"):
            qk, v = self.w[p + name].split([2 * self.H_k * self.K, self.H_v * self.V])
            self.w[p + name] = torch.cat([qk, heads(v)])

    @torch.inference_mode()
    def logits(self, token_ids: Sequence[int], note: Note = ignore) -> Tensor:
        """token_ids [T] -> [T, vocab]. `note` gets each intermediate tensor and its name."""
        ids = torch.tensor(token_ids)
        angle = torch.arange(len(ids))[:, None] * self.theta ** -(torch.arange(0, self.R, 2) / self.R)
        cos, sin = angle.cos(), angle.sin()  # [T, R/2]; in text the three axes of M-RoPE are the same

        x = self.w["token_embd"][ids]  # [T, hidden]
        note("embed_tokens", x)
        for i in range(self.layers):
            weights = {n.removeprefix(f"blk.{i}."): w for n, w in self.w.items() if n.startswith(f"blk.{i}.")}

            def note_here(name: str, x: Tensor, i: int = i) -> None:
                note(f"layers.{i}.{name}", x)

            h = rms_norm(x, weights["attn_norm"], self.eps)
            note_here("input_layernorm", h)
            if self.is_attention(i):
                x = x + self.attention(h, weights, cos, sin, note_here)
            else:
                x = x + self.deltanet(h, weights, note_here)
            note_here("mixed", x)
            h = rms_norm(x, weights["post_attention_norm"], self.eps)
            note_here("post_attention_layernorm", h)
            h = F.silu(h @ weights["ffn_gate"].T) * (h @ weights["ffn_up"].T)
            note_here("mlp.gated", h)
            x = x + h @ weights["ffn_down"].T
            note_here("output", x)
        x = rms_norm(x, self.w["output_norm"], self.eps)
        note("norm", x)
        logits = x @ self.w.get("output", self.w["token_embd"]).T
        note("logits", logits)
        return logits

    def attention(self, x: Tensor, w: dict[str, Tensor], cos: Tensor, sin: Tensor, note: Note) -> Tensor:
        """x [T, hidden] -> [T, hidden]"""
        q, gate = (x @ w["attn_q"].T).unflatten(-1, (self.H, 2, self.D)).unbind(-2)  # [T, H, D] each
        k = (x @ w["attn_k"].T).unflatten(-1, (self.H_kv, self.D))  # [T, H_kv * D] -> [T, H_kv, D]
        v = (x @ w["attn_v"].T).unflatten(-1, (self.H_kv, self.D))
        note("self_attn.q_proj", q)
        note("self_attn.gate", gate)
        note("self_attn.k_proj", k)
        note("self_attn.v_proj", v)
        q, k = rms_norm(q, w["attn_q_norm"], self.eps), rms_norm(k, w["attn_k_norm"], self.eps)
        note("self_attn.q_norm", q)
        note("self_attn.k_norm", k)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        note("self_attn.q_rope", q)
        note("self_attn.k_rope", k)
        q, k, v = (part.transpose(0, 1)[None] for part in (q, k, v))  # [T, H, D] -> [1, H, T, D]
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        o = o[0].transpose(0, 1)  # [1, H, T, D] -> [T, H, D]
        note("self_attn.attended", o)
        o = (o * gate.sigmoid()).flatten(1)  # [T, H, D] -> [T, H * D]
        note("self_attn.gated", o)
        return o @ w["attn_output"].T

    def deltanet(self, x: Tensor, w: dict[str, Tensor], note: Note) -> Tensor:
        """x [T, hidden] -> [T, hidden]"""
        qkv = x @ w["attn_qkv"].T
        note("linear_attn.in_proj_qkv", qkv)
        padded = F.pad(qkv.T, (w["ssm_conv1d"].shape[1] - 1, 0))  # [channels, kernel - 1 + T]
        qkv = F.silu(F.conv1d(padded, w["ssm_conv1d"][:, None], groups=len(padded))).T  # [T, channels]
        note("linear_attn.conv1d", qkv)
        q, k, v = qkv.float().split([self.H_k * self.K, self.H_k * self.K, self.H_v * self.V], dim=1)
        q, k = (l2_norm(part.unflatten(1, (self.H_k, self.K))) for part in (q, k))  # [T, H_k, K] each
        v = v.unflatten(1, (self.H_v, self.V))  # [T, H_v, V]
        note("linear_attn.q_norm", q)
        note("linear_attn.k_norm", k)
        beta = (x @ w["ssm_beta"].T).float().sigmoid()  # [T, H_v]
        g = w["ssm_a"] * F.softplus((x @ w["ssm_alpha"].T).float() + w["ssm_dt.bias"])
        note("linear_attn.beta", beta)
        note("linear_attn.g", g)
        each = self.H_v // self.H_k  # V heads of a K head; [T, H_k, K] -> [T, H_v, K]
        if BREAK == "heads":
            q, k = q.repeat(1, each, 1), k.repeat(1, each, 1)  # 0 1 0 1, which is right for GGUF's order
        else:
            q, k = q.repeat_interleave(each, 1), k.repeat_interleave(each, 1)  # 0 0 1 1
        o, state = delta_rule(q * self.K**-0.5, k, v, g, beta)
        note("linear_attn.o", o)
        note("linear_attn.state", state)
        z = (x @ w["attn_gate"].T).unflatten(-1, (self.H_v, self.V))
        o = rms_norm(o, w["ssm_norm"], self.eps) * F.silu(z.float())
        note("linear_attn.norm", o)
        return o.to(x.dtype).flatten(1) @ w["ssm_out"].T  # [T, H_v, V] -> [T, H_v * V] -> [T, hidden]
