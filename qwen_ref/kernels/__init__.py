"""The fast part: Numba kernels behind the signatures of qwen_ref/model/. Importing this compiles nothing of
it yet but threads.py.

simd.py         SIMD values for Numba, and the int8 dot product of each processor
compile.py      how kernels are compiled and cached
threads.py      the threads that share a kernel's loops
quantize.py     activations as 8-bit integers
matmul.py       a quantized matrix times any number of tokens
matmul_float.py the same for matrices of floats, and for attention among patches
elementwise.py  norms, activations, rotations
deltanet.py     convolution and recurrence
cache.py        keys and values, in float16, 8 or 4 bits
attention.py    online softmax over them
layers.py       the layers of qwen_ref/model/, made of these
decode.py       whole layers for one token
warmup.py       what a file needs, compiled ahead by several processes
vision.py       the layers of the vision tower
"""

from qwen_ref.config import Config
from qwen_ref.kernels import deltanet, layers, threads, vision  # noqa: F401  (threads: at once)
from qwen_ref.model.layers import Layers


class Kernels:
    name = "numba"
    batches = True
    new_state = staticmethod(layers.new_state)
    rms_norm = staticmethod(layers.rms_norm)
    attention = staticmethod(layers.attention)
    deltanet = staticmethod(layers.deltanet)
    mlp = staticmethod(layers.mlp)
    lm_head = staticmethod(layers.linear)
    patch_embed = staticmethod(vision.patch_embed)
    layer_norm = staticmethod(vision.layer_norm)
    vision_attention = staticmethod(vision.vision_attention)
    vision_mlp = staticmethod(vision.vision_mlp)
    merger = staticmethod(vision.merger)


KERNELS: Layers = Kernels()


def supports(config: Config) -> bool:
    """Do vectors and blocks divide this model's sizes? They do for all official ones."""
    c = config
    whole = c.hidden_size, c.intermediate_size, c.value_dim, c.num_attention_heads * c.head_dim
    lanes = c.head_dim, c.linear_key_head_dim, c.conv_channels
    return not (
        any(n % 32 for n in whole) or any(n % 16 for n in lanes) or c.linear_value_head_dim % deltanet.SLICE
    )
