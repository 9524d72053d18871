"""The fast part: Numba kernels behind the signatures of qwen_ref/model/. Importing this compiles nothing yet.

simd.py         SIMD values for Numba, and the int8 dot product of each processor
compile.py      how kernels are compiled, cached and spread over threads
quantize.py     activations as 8-bit integers
rows.py         one quantized row times one vector, for each type
matvec.py       a matrix times one vector (decoding)
matmul.py       a matrix times many (prefill)
matmul_float.py the same for matrices of floats, and for attention among patches
elementwise.py  norms, activations, rotations
deltanet.py     convolution and recurrence
attention.py    online softmax over a float16 cache
layers.py       the layers of qwen_ref/model/, made of these
decode.py       whole layers for one token
vision.py       the layers of the vision tower
"""

from qwen_ref.config import Config
from qwen_ref.kernels import deltanet, layers, vision
from qwen_ref.kernels.compile import thread_safe
from qwen_ref.model.layers import Layers, replaced


class Kernels:
    name = "numba"
    new_state = staticmethod(layers.new_state)
    rms_norm = staticmethod(layers.rms_norm)
    attention = staticmethod(layers.attention)
    deltanet = staticmethod(layers.deltanet)
    mlp = staticmethod(layers.mlp)
    lm_head = staticmethod(layers.linear)
    layer_norm = staticmethod(vision.layer_norm)
    vision_attention = staticmethod(vision.vision_attention)
    vision_mlp = staticmethod(vision.vision_mlp)
    merger = staticmethod(vision.merger)


_kernels: Layers = Kernels()  # as mypy sees them; thread_safe keeps no signature
_called = "rms_norm attention deltanet mlp lm_head layer_norm vision_attention vision_mlp merger".split()
KERNELS = replaced(_kernels, **{name: thread_safe(getattr(_kernels, name)) for name in _called})


def supports(config: Config) -> bool:
    """Do vectors and blocks divide this model's sizes? They do for all official ones."""
    c = config
    whole = c.hidden_size, c.intermediate_size, c.value_dim, c.num_attention_heads * c.head_dim
    lanes = c.head_dim, c.linear_key_head_dim, c.conv_channels
    return not (
        any(n % 32 for n in whole) or any(n % 16 for n in lanes) or c.linear_value_head_dim % deltanet.SLICE
    )
