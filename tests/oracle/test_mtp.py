"""The MTP layer against a plain PyTorch statement of it, in float64 and on the same weights.

The statement is written from the description of what vLLM, SGLang and llama.cpp compute, and reads the file
with the gguf package: nothing of qwen_ref takes part in it. llama-server's drafts are counted beside ours.
"""

import shutil

import make
import numpy as np
import pytest
import torch
from conftest import made
from gguf import GGUFReader
from gguf.quants import dequantize
from llama_server import serve

from qwen_ref import load
from qwen_ref.model.mtp import MTPLayer, of_the_token_before
from qwen_ref.oracle.record import record
from qwen_ref.prompt import Prompt, Span

T, PICTURE, DRAFTS = 40, Span(7, 4, 6), 4


class Statement:
    """x and the H of the token before [T, hidden], positions [3, T] -> H' [T, hidden], logits [T, vocab].

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


# ---- llama-server

WORDS = 48  # tokens that it answers
GREEDY = dict(
    n_predict=WORDS, temperature=0, top_k=1, repeat_penalty=1, cache_prompt=False, return_tokens=True
)


@pytest.fixture(scope="module")
def guessed(tmp_path_factory):
    """Its layers say little beside the embedding, and its MTP layer takes that and little else: some drafts
    are accepted, and each of the four mistakes would make it others."""
    source = made("mini-grouped", 0, mtp=True, tiny_vocab=True).f32
    path = tmp_path_factory.mktemp("mtp") / "guessed.gguf"
    shutil.copyfile(source, path)
    make.make_predictable(path, layers=0.01, hidden=0.03, embedding=0.06)
    return path


def answer_of(text, prompt_ids):
    """The prompt and WORDS greedy tokens, and the hidden states of all."""
    state, tokens = text.new_state(), list(prompt_ids)
    hidden = [text.forward(prompt_ids, state)]
    for _ in range(WORDS):
        tokens.append(int(text.logits(hidden[-1][-1:]).argmax()))
        hidden.append(text.forward(tokens[-1:], state))
    return tokens, np.concatenate(hidden)


def drafts_of(layer, tokens, hidden, prompt, most):
    """How many tokens are drafted if so many, at most, are at a time, and how many are accepted each time.

    As llama-server does it: the prompt goes into the layer; then, again and again, a draft behind the last
    token, after which the state has what was accepted with the model's own hidden states, and nothing else.
    """
    x, before, state = layer.embed(tokens), of_the_token_before(hidden), layer.new_state()
    layer.forward(x[:prompt], before[:prompt], state)
    at, drafted, accepted = prompt, 0, []
    while at < len(tokens) - 1:
        draft, trial, own = [tokens[at]], state.copy(), before[at : at + 1]
        for _ in range(min(most, len(tokens) - at - 2)):  # the model itself says the last token
            own = layer.forward(layer.embed(draft[-1:]), own, trial)
            draft.append(int(layer.logits(own).argmax()))
        right = [a == b for a, b in zip(draft[1:], tokens[at + 1 :])]
        count = [*right, False].index(False)
        drafted, accepted = drafted + len(right), [*accepted, count]
        layer.forward(x[at : at + count + 1], before[at : at + count + 1], state)
        at += count + 1
    return drafted, accepted


@pytest.mark.parametrize("most", [1, 3])
def test_llama_cpps_acceptance(guessed, most):
    text = load(guessed, dtype=np.float64, backend="numpy").text
    layer = MTPLayer(text)
    options = ["--spec-type", "draft-mtp", "--spec-draft-n-max", most, "-ctkd", "f32", "-ctvd", "f32"]
    for seed in 0, 2:
        prompt_ids = np.random.default_rng(seed).integers(0, 900, 12).tolist()
        tokens, hidden = answer_of(text, prompt_ids)
        drafted, accepted = drafts_of(layer, tokens, hidden, len(prompt_ids), most)
        with serve(guessed, "-c", 512, *options) as ask:  # anew: a slot keeps its last hidden state
            answer = ask("/completion", {"prompt": prompt_ids, **GREEDY})
        assert answer["tokens"] == tokens[len(prompt_ids) :]
        theirs = answer["timings"]["draft_n"], answer["timings"]["draft_n_accepted"]
        print(f"\n{most} at a time: {sum(accepted)} of {drafted} accepted, {accepted}; theirs {theirs}")
        assert theirs == (drafted, sum(accepted)) and 0 < sum(accepted) < drafted
        if most == 1:
            assert accepted == walk(guessed, prompt_ids)


def walk(path, prompt_ids):
    """What a golden says of drafts of one token, without a loop: where the two best tokens agree."""

    def open_model(dtype):
        return load(path, dtype=dtype, backend="numpy")

    golden = record(open_model, Prompt(prompt_ids), {}, generate=WORDS, names=["mtp.logits"])
    same = golden.inputs["mtp.top_ids"][:, 0] == golden.inputs["top_ids"][:, 0]
    at, accepted = len(prompt_ids), []
    while at < len(same) - 1:
        accepted.append(int(same[at] and at < len(same) - 2))
        at += 1 + accepted[-1]
    return accepted
