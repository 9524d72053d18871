"""Qwen3.5 in NumPy, one file per layer. Read it in this order:

    text.py        the whole model: embedding, layers, final norm, logits
    norm.py        RMSNorm, its gated form, and the l2-norm of DeltaNet's queries and keys
    rope.py        partial, interleaved M-RoPE
    attention.py   gated full attention with a KV cache (every fourth layer)
    conv.py        the short causal convolution before DeltaNet
    deltanet.py    Gated DeltaNet: the recurrence, its chunked form, and the layer around them
    mlp.py         SwiGLU
    linear.py      x @ W.T for a W that lies quantized in the file
    state.py       what is remembered between calls
    trace.py       names for what is computed on the way, for whoever watches
    weights.py     which tensor of the file is which matrix

Shapes: T tokens, S cached tokens, H heads, D head size, C channels. There is no batch dimension.
"""
