"""Read GGUF files: memory-mapped, lazy, every size checked before it is used. Knows nothing of Qwen.

from gguf_io import open_gguf
file = open_gguf("model.gguf")
file.metadata["general.architecture"]            # 'qwen35'
file.tensors["output_norm.weight"].dequantize()  # float32 [1, hidden_size]
"""

from gguf_io.quants import QuantType
from gguf_io.reader import GGUFError, GGUFFile, Tensor, open_gguf

__all__ = ["GGUFError", "GGUFFile", "QuantType", "Tensor", "open_gguf"]
