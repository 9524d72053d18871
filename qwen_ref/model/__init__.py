"""Qwen3.5 in NumPy, one file per layer, in the order to read them; after the dash, what a file does not do.

    text.py          embedding, blocks, final norm, logits — no batches, no backward pass
    norm.py          RMSNorm, its gated form, l2-norm, LayerNorm — over the last axis only
    rope.py          partial, interleaved M-RoPE — positions come with the prompt (qwen_ref/prompt.py)
    yarn.py          RoPE for longer texts — no other scaling: a file that asks for one is refused
    attention.py     gated full attention with a KV cache, every fourth layer — no sliding window
    conv.py          the short causal convolution before DeltaNet — depthwise, no bias
    deltanet.py      Gated DeltaNet: recurrence, chunked form, the layer — its state cannot go back
    mlp.py           SwiGLU — dense, no experts
    activation.py    functions of one number, and softmax
    matrix.py        x @ W.T for a W that lies quantized in the file — in floats, no activation is rounded
    mtp.py           the layer that drafts a token more — drafts are neither chosen nor checked here
    state.py         what is remembered between calls — nothing is ever dropped
    cache_types.py   keys and values in 8 or 4 bits, rotated — what is computed stays in floats
    trace.py         names for what is computed on the way — kernels have none inside
    vision.py        the vision tower: patches to tokens — pixels become patches in qwen_ref/media
    vision_block.py  its blocks: attention within a frame, GELU — frames do not see each other
    weights.py       which tensor of the file is which matrix — a tensor that nothing uses is refused
    layers.py        the functions that a model calls, for which kernels or your own may stand in

What you change in here takes effect with qwen_ref.load(backend="numpy") and in model.trace: the kernels,
which answer unless one says so, have functions of their own. layers.py, `replaced`, changes both.

Shapes: T tokens, S cached tokens, C tokens of a chunk, N patches, H heads, D head size; DeltaNet's heads have
keys of size K and values of size V. docs/reading.md follows one token through two layers, docs/glossary.md
has the words, and examples/lessons begins at the beginning.
"""
