"""Copies of GGUF files with something changed, made by the gguf package."""

import gguf
import numpy as np


def rewrite(
    source,
    target,
    *,
    change=None,
    drop_keys=(),
    drop_tensors=(),
    shapes=None,
    add=None,
    rename=lambda name: name,
):
    """A copy of a GGUF file by the gguf package, with some metadata or tensors changed."""
    reader = gguf.GGUFReader(source)
    fields = {n: f for n, f in reader.fields.items() if not n.startswith("GGUF.") and n not in drop_keys}
    values = {n: f.contents() for n, f in fields.items()} | (change or {})
    writer = gguf.GGUFWriter(target, values.pop("general.architecture"))
    for name, value in values.items():
        if isinstance(value, list):
            writer.add_array(name, value)
        else:
            kind = fields[name].types[0] if name in fields else gguf.GGUFValueType.get_type(value)
            writer.add_key_value(name, value, kind)
    for tensor in reader.tensors:
        if tensor.name in drop_tensors:
            continue
        data = tensor.data
        if shapes and tensor.name in shapes:
            data = np.zeros(shapes[tensor.name], np.float32)
            writer.add_tensor(tensor.name, data)
        else:
            writer.add_tensor(rename(tensor.name), data, raw_dtype=tensor.tensor_type)
    for name, data in (add or {}).items():  # an array, or bytes and their type
        data, kind = data if isinstance(data, tuple) else (data, None)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
