"""What the vision tower is made of: patches as vectors, attention within a frame, and an MLP with GELU."""

import math
from collections.abc import Callable

import numpy as np

from qwen_ref.model.activation import gelu, gelu_tanh, softmax
from qwen_ref.model.matrix import linear
from qwen_ref.model.rope import apply_rope
from qwen_ref.model.trace import part, tap
from qwen_ref.model.weights import GeluMlpWeights, VisionAttentionWeights

QUERIES = 256  # rows of attention scores that exist at a time


def patch_embed(patches: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The 3-D convolution as a matrix product, since its windows do not overlap.

    patches [N, 3*2*16*16], weight [hidden, 3, 2, 16, 16], bias [hidden] -> [N, hidden].
    """
    return patches @ weight.reshape(len(weight), -1).T + bias


def full_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """q, k, v [N, H, D] -> [N, H, D]: every patch sees every patch of its frame. QUERIES rows at a time."""
    out = np.empty_like(q)
    for head in range(q.shape[1]):
        for start in range(0, len(q), QUERIES):
            some = slice(start, start + QUERIES)
            scores = q[some, head] @ k[:, head].T / math.sqrt(q.shape[-1])  # [Q, D] @ [D, N] -> [Q, N]
            out[some, head] = softmax(scores) @ v[:, head]  # [Q, N] @ [N, D] -> [Q, D]
    return out


@part("attn")
def vision_attention(
    x: np.ndarray, w: VisionAttentionWeights, cos: np.ndarray, sin: np.ndarray, num_heads: int
) -> np.ndarray:
    """x [t*h*w, hidden], cos and sin [h*w, D/2] of a frame -> [t*h*w, hidden]. Frames do not see each other.

    transformers' `Qwen3_5VisionAttention`.
    """
    frame_size = len(cos)
    qkv = tap("qkv", linear(x, w.qkv) + w.qkv_bias)
    q, k, v = qkv.reshape(len(x), 3, num_heads, -1).swapaxes(0, 1)  # [N, 3*H*D] -> 3 of [N, H, D]
    cos, sin = (np.tile(table, (len(x) // len(cos), 1)) for table in (cos, sin))  # [h*w, D/2] -> [N, D/2]
    q, k = tap("q_rope", apply_rope(q, cos, sin)), tap("k_rope", apply_rope(k, cos, sin))
    out = np.empty_like(q)
    for start in range(0, len(x), frame_size):
        frame = slice(start, start + frame_size)
        out[frame] = full_attention(q[frame], k[frame], v[frame])
    out = tap("attended", out).reshape(len(x), -1)  # [N, H, D] -> [N, H*D]
    return tap("proj", linear(out, w.out) + w.out_bias)  # [N, H*D] -> [N, hidden]


def gelu_mlp(x: np.ndarray, w: GeluMlpWeights, act: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """x [N, in] -> [N, inner] -> [N, out]."""
    inner = tap("act", act(tap("linear_fc1", linear(x, w.up) + w.up_bias)))
    return tap("linear_fc2", linear(inner, w.down) + w.down_bias)


@part("mlp")
def vision_mlp(x: np.ndarray, w: GeluMlpWeights) -> np.ndarray:
    """x [N, hidden] -> [N, intermediate] -> [N, hidden]: of a block, with GELU by tanh."""
    return gelu_mlp(x, w, gelu_tanh)


def merger(x: np.ndarray, w: GeluMlpWeights) -> np.ndarray:
    """x [N/4, 4*hidden] -> [N/4, 4*hidden] -> [N/4, out_hidden]: 4 patches to a token, exact GELU."""
    return gelu_mlp(x, w, gelu)
