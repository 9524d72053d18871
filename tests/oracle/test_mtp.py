"""The MTP layer against a plain PyTorch statement of it, in float64 and on the same weights.

The statement is written from the description of what vLLM, SGLang and llama.cpp compute, and reads the file with
the gguf package: nothing of qwen_ref takes part in it.
"""

import numpy as np
import pytest
import torch
from conftest import made
from gguf import GGUFReader
from gguf.quants import dequantize

from qwen_ref import load
from qwen_ref.model.mtp import MTPLayer, of_the_token_before
from qwen_ref.prompt import Prompt, Span

T, PICTURE, DRAFTS = 40, Span(7, 4, 6), 4


class Statement:
    """x [T, hidden], H of the token before [T, hidden], positions [3, T] -> H' [T, hidden], logits [T, vocab].

    Without a cache: a draft is run again with all that is before it.
    """

    def __init__(self, path):
        reader = GGUFReader(path)
        self.tensors = {t.name: t for t in reader.tensors}
        fields = {n: f.contents() for n, f in reader.fields.items() if n.startswith("qwen35.")}
        self.key = lambda name: fields["qwen35." + name]
        self.p = f"blk.{self.key('block_count') - 1}."
        self.eps = np.float64(str(np.float32(self.key("attention.layer_norm_rms_epsilon"))))

    def w(self, name):
        tensor = self.tensors[name if name.endswith(".weight") else f"{self.p}{name}.weight"]
        return torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).astype(np.float64))

    def norm(self, x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.w(name)

    def rope(self, x, positions):
        """[T, H, D]: in the first dimensions the halves turn, by time, row or column in turn."""
        n = self.key("rope.dimension_count") // 2
        _, rows, columns = self.key("rope.dimension_sections")[:3]
        axis = torch.zeros(n, dtype=torch.long)
        axis[1 : 3 * rows : 3], axis[2 : 3 * columns : 3] = 1, 2
        base = torch.tensor(float(self.key("rope.freq_base")), dtype=torch.float64)
        angle = positions[axis].T * base ** (-torch.arange(n, dtype=torch.float64) / n)  # [T, n]
        a, b, rest = x[..., :n], x[..., n : 2 * n], x[..., 2 * n :]
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], -1)

    def attention(self, x, positions):
        D, T = self.key("attention.key_length"), len(x)
        q, gate = (x @ self.w("attn_q").T).view(T, -1, 2, D).unbind(2)
        k, v = ((x @ self.w(name).T).view(T, -1, D) for name in ("attn_k", "attn_v"))
        q = self.rope(self.norm(q, "attn_q_norm"), positions)
        k = self.rope(self.norm(k, "attn_k_norm"), positions)
        k, v = (y.repeat_interleave(q.shape[1] // y.shape[1], 1) for y in (k, v))
        q, k, v = (y.transpose(0, 1) for y in (q, k, v))
        scores = (q @ k.transpose(1, 2) / D**0.5).masked_fill(torch.ones(T, T).triu(1) > 0, -torch.inf)
        out = (scores.softmax(-1) @ v).transpose(0, 1) * gate.sigmoid()
        return out.reshape(T, -1) @ self.w("attn_output").T

    def __call__(self, x, before, positions):
        z = torch.cat([self.norm(x, "nextn.enorm"), self.norm(before, "nextn.hnorm")], -1)
        z = z @ self.w("nextn.eh_proj").T
        z = z + self.attention(self.norm(z, "attn_norm"), positions)
        y = self.norm(z, "post_attention_norm")
        y = torch.nn.functional.silu(y @ self.w("ffn_gate").T) * (y @ self.w("ffn_up").T)
        z = z + y @ self.w("ffn_down").T
        z = self.norm(z, "nextn.shared_head_norm")
        output = "output.weight" if "output.weight" in self.tensors else "token_embd.weight"
        return z, z @ self.w(output).T


@pytest.mark.parametrize("size", ["mini", "mini-grouped"])
def test_a_plain_statement(size):
    """Of a prompt with a picture, and of a draft behind it."""
    path = made(size, 0, mtp=True, tiny_vocab=True).f32
    text, state_it = load(path, dtype=np.float64, backend="numpy").text, Statement(path)
    layer, rng = MTPLayer(text), np.random.default_rng(0)
    prompt = Prompt(rng.integers(0, 900, T).tolist(), spans=[PICTURE])
    positions = prompt.positions
    x = text.embed(prompt.token_ids)
    x[prompt.places] = rng.normal(size=(len(prompt.places), x.shape[1]))
    hidden = text.forward(x, text.new_state(), positions)

    state = layer.new_state()
    before = of_the_token_before(hidden)
    own = layer.forward(x, before, state, positions)
    rows = [own]
    for _ in range(DRAFTS):
        token = layer.logits(rows[-1][-1:]).argmax(1)
        rows.append(layer.forward(layer.embed(token), rows[-1][-1:], state))

    inputs = [torch.from_numpy(np.array(y)) for y in (x, before, positions)]
    theirs, logits = state_it(*inputs)
    for row in range(T, T + DRAFTS):
        embedding = state_it.w("token_embd.weight")[logits[-1:].argmax(1)]
        position = torch.full((3, 1), int(positions.max()) + row - T + 1)
        inputs = [
            torch.cat([inputs[0], embedding]),
            torch.cat([inputs[1], theirs[-1:]]),
            torch.cat([inputs[2], position], 1),
        ]
        theirs, logits = state_it(*inputs)
    ours = np.concatenate(rows)
    off = np.abs(ours - theirs.numpy()).max(), np.abs(layer.logits(ours) - logits.numpy()).max()
    print(f"\n{size}: hidden states {off[0]:.1e}, logits {off[1]:.1e} (rms {logits.std():.2f})")
    assert max(off) < 1e-12
