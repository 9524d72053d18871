"""The files that ship as a checkpoint, so that a training can go on from them.

    python examples/tiny_model/shipped.py build/start
    torchrun --standalone --nproc-per-node 4 examples/tiny_model/train.py --weights build/start …

Its weights are those that 4 and 8 bits left of the trained ones, in bfloat16.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from model import new_model, save_checkpoint, set_weights
from tokens import special_ids

from gguf_io import GGUFFile, open_gguf
from qwen_ref.checkpoint.tensors import Row, decay, mtp_rows, one_plus, text_rows, vision_rows
from qwen_ref.config import read_config, read_vision_config
from qwen_ref.shipped import MODEL

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "tests" / "fixtures"))
from make import write_tokenizer  # noqa: E402  (the generator of all small models)

BACK = {one_plus: lambda x: x - 1, decay: lambda x: np.log(-x), None: lambda x: x}


def weights(file: GGUFFile, table: Iterable[Row]) -> dict[str, torch.Tensor]:
    """The converter's table read from right to left."""
    made: dict[str, np.ndarray] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for row in table:
        width = (row.gguf_shape or row.shape)[-1]
        x = BACK[row.values](file.tensors[row.gguf_name].dequantize().astype(np.float64).reshape(-1, width))
        if row.columns:
            x[:, row.columns()] = x.copy()
        shapes[row.name] = row.shape
        whole = made.setdefault(row.name, np.empty((int(np.prod(row.shape)) // width, width)))
        whole[row.rows() if row.rows else slice(None)] = x
    return {name: torch.from_numpy(x.reshape(shapes[name])) for name, x in made.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    out = parser.parse_args(arguments).folder
    out.mkdir(parents=True, exist_ok=True)
    text, vision = open_gguf(MODEL), open_gguf(MODEL.with_name("mmproj-tiny-Q8_0.gguf"))
    about = text.metadata
    kinds, tokens = about["tokenizer.ggml.token_type"], list(about["tokenizer.ggml.tokens"])
    vocab = {token: i for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind == 1}
    merges = [tuple(pair.split(" ")) for pair in about["tokenizer.ggml.merges"]]
    write_tokenizer(out, (HERE / "chat_template.jinja").read_text(), (vocab, merges))

    model = new_model(0, special_ids(out))
    c, towers = read_config(text), read_vision_config(vision)
    prefix = "model.language_model."
    embedding = Row("token_embd.weight", prefix + "embed_tokens.weight", (c.vocab_size, c.hidden_size))
    places = model.config.vision_config.num_position_embeddings
    found = weights(text, [embedding, *text_rows(c, prefix), *mtp_rows(c, model.state_dict())])
    found |= weights(vision, vision_rows(towers, places))
    set_weights(model, found)
    save_checkpoint(model.to(torch.bfloat16), out)


if __name__ == "__main__":
    main()
