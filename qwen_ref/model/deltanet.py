"""Gated DeltaNet (Yang, Kautz, Hatamizadeh: https://arxiv.org/abs/2412.06464), as in transformers'
`Qwen3_5GatedDeltaNet`.

Each head keeps a matrix S [K, V] that maps keys to values. A token first lets it decay, reads what it
holds for the token's key, and writes back a share beta of the difference to the token's value:

    S = exp(g) S;    u = beta (v - S^T k);    S = S + k u^T;    o = S^T q

S is `state` in the code, since in shapes the letter is a size. The same result comes from two functions of
one signature: `gated_delta_recurrent` does just that, token by token; `gated_delta_chunked` does it for 64
tokens at once with matrix products.
"""

import math

import numpy as np

from qwen_ref.config import Config
from qwen_ref.model.activation import sigmoid, silu, softplus
from qwen_ref.model.conv import causal_conv
from qwen_ref.model.matrix import linear
from qwen_ref.model.norm import l2_norm, rms_norm_gated
from qwen_ref.model.state import DeltaNetState
from qwen_ref.model.trace import part, tap
from qwen_ref.model.weights import DeltaNetWeights

CHUNK = 64


def gated_delta_recurrent(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray, beta: np.ndarray, state: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """q, k [T, H, K], v [T, H, V], g and beta [T, H], state [H, K, V] -> o [T, H, V], new state [H, K, V].

    g is the logarithm of the decay (at most 0); q is already scaled.
    """
    o = np.empty_like(v)
    for t in range(len(q)):
        state = state * np.exp(g[t])[:, None, None]  # [H, K, V]
        held = np.einsum("hkv,hk->hv", state, k[t])  # S^T k: what the state holds for this key, [H, V]
        u = beta[t][:, None] * (v[t] - held)  # [H, V]
        state = state + k[t][:, :, None] * u[:, None, :]  # [H, K, 1] * [H, 1, V]
        o[t] = np.einsum("hkv,hk->hv", state, q[t])
    return o, state


def gated_delta_chunked(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray, beta: np.ndarray, state: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same as `gated_delta_recurrent`, a chunk of tokens at a time.

    Within a chunk let γ_t = exp(g_1 + … + g_t) be the decay from its start to t, Γ_ts = γ_t / γ_s for s <= t
    that from s to t, and S_0 the state before the chunk. Unrolled, with exp(g_t) γ_{t-1} = γ_t at each step,
    the recurrence is S_t = γ_t S_0 + sum over s <= t of Γ_ts k_s u_s^T. Without its last term that is
    exp(g_t) S_{t-1}; put into u_t = beta_t (v_t - (exp(g_t) S_{t-1})^T k_t), it gives one triangular system:

        u_t + beta_t sum over s < t of Γ_ts (k_t . k_s) u_s = beta_t (v_t - γ_t S_0^T k_t)

    Solved for all u, it gives o_t = S_t^T q_t = γ_t S_0^T q_t + sum over s <= t of Γ_ts (q_t . k_s) u_s, and
    the next state, both as matrix products. The system can be ill-conditioned and small outputs are
    normalized right after, so all this is done in float64.
    """
    o, dtype = np.empty_like(v), state.dtype
    q, k, v, g, beta, state = (x.astype(np.float64) for x in (q, k, v, g, beta, state))
    for start in range(0, len(q), CHUNK):
        chunk = slice(start, start + CHUNK)
        queries, keys, values = (x[chunk].transpose(1, 0, 2) for x in (q, k, v))  # [C, H, …] -> [H, C, …]
        keys_T = keys.transpose(0, 2, 1)  # [H, K, C]
        share = beta[chunk].T[:, :, None]  # [C, H] -> [H, C, 1]
        log_decay = np.cumsum(g[chunk], axis=0).T[:, :, None]  # log γ, [H, C, 1]
        C = queries.shape[1]
        lower, diagonal = np.tri(C, dtype=bool), np.eye(C, dtype=bool)  # [C, C]: s <= t, s == t
        decay = np.exp(np.where(lower, log_decay - log_decay.transpose(0, 2, 1), -np.inf))  # Γ, [H, C, C]

        system = np.where(diagonal, 1, share * decay * (keys @ keys_T))  # [H, C, C], unit lower triangular
        u = np.linalg.solve(system, share * (values - np.exp(log_decay) * (keys @ state)))  # [H, C, V]
        out = np.exp(log_decay) * (queries @ state) + (decay * (queries @ keys_T)) @ u  # [H, C, V]
        to_end = np.exp(log_decay[:, -1:] - log_decay)  # [H, C, 1]: decay to the chunk's end
        state = np.exp(log_decay[:, -1:]) * state + (keys * to_end).transpose(0, 2, 1) @ u  # [H, K, V]
        o[chunk] = out.transpose(1, 0, 2)  # [H, C, V] -> [C, H, V]
    return o, state.astype(dtype)


@part("linear_attn")
def deltanet(x: np.ndarray, w: DeltaNetWeights, state: DeltaNetState, config: Config) -> np.ndarray:
    """x [T, hidden] -> [T, hidden]; the state moves on by T tokens."""
    T, H_k, H_v = len(x), config.linear_num_key_heads, config.linear_num_value_heads
    K, V = config.linear_key_head_dim, config.linear_value_head_dim

    qkv = tap("in_proj_qkv", linear(x, w.qkv_proj))  # [T, H_k*K + H_k*K + H_v*V]
    qkv, state.conv = causal_conv(qkv, w.conv, state.conv)
    qkv = tap("conv1d", silu(qkv))
    q, k, v = np.split(qkv, [config.key_dim, 2 * config.key_dim], axis=-1)
    q = tap("q_norm", l2_norm(q.reshape(T, H_k, K))) / math.sqrt(K)  # [T, H_k*K] -> [T, H_k, K]
    k = tap("k_norm", l2_norm(k.reshape(T, H_k, K)))
    v = v.reshape(T, H_v, V)  # [T, H_v*V] -> [T, H_v, V]
    # The 4B, the 9B and the small model have two V heads for each K head. A GGUF file stores V heads tiled:
    # V head h reads K head h % H_k (transformers orders them so that it is h // (H_v / H_k)).
    q, k = (np.tile(heads, (1, H_v // H_k, 1)) for heads in (q, k))  # [T, H_k, K] -> [T, H_v, K]

    beta = tap("beta", sigmoid(tap("in_proj_b", linear(x, w.b_proj))))  # [T, H_v], the share written back
    g = w.A * softplus(tap("in_proj_a", linear(x, w.a_proj)) + w.dt_bias)  # [T, H_v], log of the decay
    delta_rule = gated_delta_recurrent if T == 1 else gated_delta_chunked
    o, recurrent = delta_rule(q, k, v, tap("g", g), beta, state.recurrent)  # [T, H_v, V], [H_v, K, V]
    o, state.recurrent = tap("o", o), tap("state", recurrent)

    z = tap("in_proj_z", linear(x, w.z_proj).reshape(T, H_v, V))  # [T, H_v*V] -> [T, H_v, V]
    o = tap("norm", rms_norm_gated(o, z, w.norm, config.rms_norm_eps))
    return tap("out_proj", linear(o.reshape(T, H_v * V), w.out_proj))  # [T, H_v*V] -> [T, hidden]
