"""Checkpoint folders as transformers writes them, read here, against transformers on their own weights.

Run with -s to see each distance. A GGUF file has 1 + w and -exp(A_log) in float32; of a folder they are
exact, so float64 is within 1e-12 here.
"""

from __future__ import annotations

import conftest
import make
import numpy as np
from PIL import Image
from transformers import AutoTokenizer, Qwen3_5ForCausalLM

from gguf_io import open_gguf
from qwen_ref import engine
from qwen_ref.checkpoint import open_model
from qwen_ref.kernels import KERNELS
from qwen_ref.model.text import TextModel
from qwen_ref.prompt import PromptEncoder

TOKEN_IDS = np.random.default_rng(7).integers(0, 984, 300)  # ordinary tokens


def logits(path, *options) -> np.ndarray:
    network = TextModel(open_model(path), *options)
    return network.logits(network.forward(TOKEN_IDS, network.new_state()))


def distance(a, b) -> float:
    assert a.shape == b.shape
    return float(np.abs(a - b).max())


def test_logits(model, tmp_path):
    """float64 is exact, float32 as near as transformers' own; kernels do what they do with an F32 file."""
    folder = model.checkpoint
    exact, theirs = (
        make.transformers_logits(folder, [folder], TOKEN_IDS, tmp_path, dtype)[folder.stem]
        for dtype in ("float64", "float32")
    )
    assert exact.std() > 0.5
    ours, rounded = logits(folder, np.float64), logits(model.f32, np.float64)
    print(f"\n{model.name}: float64 {distance(ours, exact):.1e}, GGUF's {distance(rounded, exact):.1e}")
    assert distance(ours, exact) < 1e-12
    assert distance(logits(folder), exact) <= 2 * distance(theirs, exact)
    kernels = [logits(path, np.float32, 1 << 30, KERNELS) for path in (folder, model.f32)]
    # 1 + w is rounded once of a folder, twice of a file; how near torch is to exact differs by processor.
    assert distance(*kernels) <= 2 * distance(theirs, exact)


def test_text_alone_in_parts_and_float32(tmp_path):
    """Other names and several files: the same tensors, and the same configuration."""
    folder = conftest.made("mini-grouped", 0, tiny_vocab=True).checkpoint
    text = Qwen3_5ForCausalLM.from_pretrained(folder, dtype="float32")
    text.save_pretrained(tmp_path, max_shard_size="4MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    whole, parts = open_model(folder).tensors, open_model(tmp_path).tensors
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        np.testing.assert_array_equal(parts[name].dequantize(), tensor.dequantize(), name)
    assert distance(logits(tmp_path, np.float64), logits(folder, np.float64)) == 0


def test_a_picture(tmp_path):
    made = conftest.made("mini-grouped", 0, tiny_vocab=True)
    picture, folder = tmp_path / "picture.png", made.checkpoint
    Image.fromarray(make.blocks(200, 296, seed=0)).save(picture)
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "What is this?"}]
    exact = make.transformers_vision(folder, folder, {"picture": content}, tmp_path)["picture"]
    ours = engine.load(folder, dtype=np.float64)
    prompt = ours.encode_prompt([{"role": "user", "content": content}])
    assert prompt.token_ids == exact["token_ids"].tolist()
    media = prompt.media[0]
    seen = ours.vision.encode(np.concatenate(list(media.patches(None))), media.grid_thw)
    print(f"\n{made.name}: {distance(seen, exact['images']):.1e}")
    assert distance(seen, exact["images"]) < 1e-12
    answer = ours.generate(prompt, temperature=0, presence_penalty=0, max_tokens=len(exact["generated"]))
    list(answer)
    assert answer.token_ids and answer.token_ids == exact["generated"].tolist()[: len(answer.token_ids)]


def test_qwens_vocabulary(real_vocabulary, fixtures):
    """Here <|fim_prefix|> is what tokenizer.json says, and not the control token that a GGUF file has."""
    theirs = AutoTokenizer.from_pretrained(real_vocabulary.checkpoint)
    ours = PromptEncoder(open_model(real_vocabulary.checkpoint))
    for line in [*(fixtures / "texts.txt").read_text().splitlines(), "<|fim_prefix|>a<|im_end|> <think>"]:
        for special in False, True:
            token_ids = theirs.encode(line, add_special_tokens=False, split_special_tokens=not special)
            assert ours.tokenizer.encode(line, special=special) == token_ids, line
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    rendered = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert ours.encode(messages).token_ids == theirs.encode(rendered, add_special_tokens=False)
    of_file = PromptEncoder(open_gguf(real_vocabulary.f32)).tokenizer
    assert ours.tokenizer.tokens == of_file.tokens and ours.tokenizer.eos_ids == of_file.eos_ids
