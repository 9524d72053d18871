"""Gated full attention: grouped heads, RMS-normalized queries and keys, a sigmoid gate on the output.

transformers' `Qwen3_5Attention`.
"""

import math

import numpy as np

from qwen_ref.config import Config
from qwen_ref.model.activation import sigmoid, softmax
from qwen_ref.model.matrix import linear
from qwen_ref.model.norm import rms_norm
from qwen_ref.model.rope import apply_rope
from qwen_ref.model.state import KVCache
from qwen_ref.model.trace import part, tap
from qwen_ref.model.weights import AttentionWeights


def causal_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """q [T, H, D] of the last T of S tokens, k and v [S, H_kv, D] -> [T, H, D].

    Token t sees every token up to itself. Query head h reads KV head h // (H / H_kv).
    """
    T, H, D = q.shape
    S, H_kv, _ = k.shape
    visible = np.arange(S) <= np.arange(S - T, S)[:, None]  # [T, S]: may t see s?
    out = np.empty_like(q)
    for kv_head in range(H_kv):  # one at a time: [G, T, S] scores are the largest array of the model
        group = slice(kv_head * H // H_kv, (kv_head + 1) * H // H_kv)  # its G query heads
        queries = q[:, group].transpose(1, 0, 2)  # [T, G, D] -> [G, T, D]
        scores = queries @ k[:, kv_head].T / math.sqrt(D)  # [G, T, D] @ [D, S] -> [G, T, S]
        attn_weights = tap(f"weights.{kv_head}", softmax(np.where(visible, scores, -np.inf)))  # [G, T, S]
        out[:, group] = (attn_weights @ v[:, kv_head]).transpose(1, 0, 2)  # [G, T, S] @ [S, D] -> [T, G, D]
    return out


@part("self_attn")
def attention(
    x: np.ndarray, w: AttentionWeights, cache: KVCache, cos: np.ndarray, sin: np.ndarray, config: Config
) -> np.ndarray:
    """x [T, hidden], cos and sin [T, R/2] -> [T, hidden]; the cache grows by T tokens."""
    T, D = len(x), config.head_dim
    q_and_gate = linear(x, w.q_proj).reshape(T, config.num_attention_heads, 2 * D)  # [T, H*2D] -> [T, H, 2D]
    q, gate = tap("q_proj", q_and_gate[..., :D]), tap("gate", q_and_gate[..., D:])  # [T, H, D] each
    k = linear(x, w.k_proj).reshape(T, config.num_key_value_heads, D)  # [T, H_kv*D] -> [T, H_kv, D]
    v = linear(x, w.v_proj).reshape(T, config.num_key_value_heads, D)
    k, v = tap("k_proj", k), tap("v_proj", v)

    q = tap("q_norm", rms_norm(q, w.q_norm, config.rms_norm_eps))
    k = tap("k_norm", rms_norm(k, w.k_norm, config.rms_norm_eps))
    q, k = tap("q_rope", apply_rope(q, cos, sin)), tap("k_rope", apply_rope(k, cos, sin))
    keys, values = cache.append(k, v)  # [S, H_kv, D] each

    out = tap("attended", causal_attention(q, keys, values))
    out = tap("gated", out * sigmoid(gate))
    return tap("o_proj", linear(out.reshape(T, -1), w.o_proj))  # [T, H, D] -> [T, H*D] -> [T, hidden]
