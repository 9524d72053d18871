"""`inspect`: its numbers beside the same worked out here, what its page holds, and what is refused."""

import base64
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import qwen_ref
from qwen_ref import QwenRefError
from qwen_ref.cli import main
from qwen_ref.engine.draft import MOST, Clock
from qwen_ref.inspect import numbers
from qwen_ref.inspect.numbers import LayerCost, answered, look
from qwen_ref.inspect.page import page
from qwen_ref.prompt import Prompt

TEXT = "One fox, two foxes – one fox, two foxes."
SHAPES = Path(__file__).parents[2] / "examples" / "media" / "shapes.png"


def looked(model, text, label="the label", **options):
    prompt = model.encoded(text, **options)
    return look(model, prompt, label, max_tokens=6, draft="off", progress=lambda *about: None)


@pytest.fixture(scope="module")
def model():
    return qwen_ref.load(dtype=np.float64)


@pytest.fixture(scope="module")
def run(model):
    return looked(model, TEXT)


def close(a, b, bound=1e-9):
    return abs(np.asarray(a) - b).max() <= bound * max(1.0, abs(np.asarray(b)).max())


# ---- the numbers


@pytest.mark.parametrize("layer, head", [(1, 0), (6, 2), (4, 3)])
def test_what_a_token_writes_and_what_is_left_of_it(model, run, layer, head):
    """By products of whole matrices: S[t] is a sum of (product of the A of later tokens) beta k v^T."""
    found, T, name = run.delta[layer], len(run.token_ids), f"layers.{layer}.linear_attn.o"
    exact = model.trace(Prompt(run.token_ids), names=[name])[name]
    q, k, v, g, beta = (x[:, head] for x in run.trace.states.inputs(layer))
    S = run.trace.states[layer][:, head]
    decay, K = np.exp(g), k.shape[1]
    assert close(found.decay[:, head], decay) and close(found.beta[:, head], beta)
    A = [decay[t] * (np.eye(K) - beta[t] * np.outer(k[t], k[t])) for t in range(T)]
    o = np.zeros_like(v)
    for t in range(T):
        before = S[t - 1] if t else np.zeros_like(S[0])
        error = v[t] - decay[t] * before.T @ k[t]
        assert close(found.writes[t, head], beta[t] * np.linalg.norm(error))
        assert close(found.erases[t, head], beta[t] * np.linalg.norm(decay[t] * before.T @ k[t]))
        assert close(found.fades[t, head], np.linalg.norm(before - decay[t] * before))
        singular = np.linalg.svd(S[t], compute_uv=False)
        assert close(found.norm[t, head], np.linalg.norm(S[t]))
        assert close(found.rank[t, head], (singular**2).sum() ** 2 / (singular**4).sum(), 1e-6)
        assert close(found.wrote[t, head], np.linalg.norm(beta[t] * np.outer(k[t], v[t])))
        sum_, reads = np.zeros_like(S[0]), np.zeros(T)
        for s in range(t + 1):
            w = beta[s] * k[s]
            for later in range(s + 1, t + 1):
                w = A[later] @ w
            part = np.outer(w, v[s])
            assert close(found.left[head, t, s], np.linalg.norm(part) / found.wrote[s, head], 1e-6)
            sum_ += part
            reads[s] = np.linalg.norm(v[s]) * (q[t] @ w)
            o[t] += (q[t] @ w) * v[s]
        assert close(sum_, S[t])
        assert close(found.reads[head, t], reads / abs(reads).sum(), 1e-6)
    assert close(o, exact[:, head])
    assert (found.left[head][np.triu_indices(T, 1)] == 0).all()
    assert (found.reads[head][np.triu_indices(T, 1)] == 0).all()


def test_how_likely_each_token_was(model, run):
    prompt = Prompt(run.token_ids)
    logits = model.text.logits(model.text.forward(run.token_ids, model.text.new_state(), prompt.positions))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    came = p[np.arange(len(p) - 1), run.token_ids[1:]]
    assert close(np.exp(run.logprobs), came)
    assert run.ranks.tolist() == (p[:-1] > came[:, None]).sum(1).tolist()
    assert (run.best.token_ids == np.argsort(-p, axis=1)[:, : run.best.token_ids.shape[1]]).all()
    answer = run.token_ids[run.prompt_tokens :]
    assert answer and (run.ranks[run.prompt_tokens - 1 :] == 0).all()  # it is greedy
    plain = model.generate(TEXT, temperature=0, max_tokens=6)
    assert list(plain) and plain.token_ids == answer


def test_drafts_are_those_that_the_answer_had(monkeypatch):
    """Places, tokens and how many were right, of a text that repeats; the answer stays the same."""
    monkeypatch.setattr(Clock, "seconds", lambda self: np.ones(MOST + 1))  # drafts cost nothing
    model = qwen_ref.load(backend="numpy")
    prompt = model.encoded("1 2 3 4 5 6 7 8 " * 2 + "1 2 3", raw=True)
    endless = dict.fromkeys(model.tokenizer.eos_ids, -100)  # it goes on, whatever it was trained to say
    tokens = {}
    for draft in "off", "lookup":
        options = dict(numbers.GREEDY, logit_bias=endless, max_tokens=60)
        generation = model.generate(prompt, draft=draft, **options)
        tokens[draft], drafts = answered(generation)
    counts, text = generation.drafted["lookup"], prompt.token_ids + tokens["lookup"]
    assert tokens["lookup"] == tokens["off"] and len(drafts) > 1
    assert sum(len(d.token_ids) for d in drafts) == sum(counts["drafted"])
    assert sum(d.accepted for d in drafts) == sum(counts["accepted"])
    for at, guess, accepted in drafts:
        came = text[at:][: len(guess)]
        assert came[:accepted] == guess[:accepted]
        assert accepted == len(came) or came[accepted] != guess[accepted]


def test_costs_are_of_each_layer(model, run):
    """All layers, mixer and MLP each; bytes as the file has them."""
    assert [len(cost) for cost in run.costs] == [4] * model.config.num_layers
    for layer, cost in enumerate(run.costs):
        assert isinstance(cost, LayerCost) and cost.mixer_seconds > 0 and cost.mlp_seconds > 0
        tensors = [t for t in model.text.file.tensors.values() if t.name.startswith(f"blk.{layer}.")]
        mlp = sum(t.nbytes for t in tensors if ".ffn_" in t.name)
        assert cost.mlp_bytes == mlp
        matrices = [
            t.nbytes
            for t in tensors
            if re.search(r"(attn_(q|k|v|output|qkv|gate)|ssm_(alpha|beta|out))\.weight", t.name)
        ]
        c = model.config
        state = 0 if c.is_full_attention(layer) else 8 * c.linear_key_head_dim * c.value_dim
        assert cost.mixer_bytes == sum(matrices) + state


# ---- the page


class Page:
    """What its script takes apart, taken apart here."""

    def __init__(self, text):
        (head,) = re.findall(r'<script type="application/json" id="head">(.*?)</script>', text, re.S)
        (packed,) = re.findall(r'<script type="application/octet-stream" id="arrays">(.*?)</script>', text)
        self.head, self.runs = json.loads(head), json.loads(head)["runs"]
        self.data = zlib.decompress(base64.b64decode(packed))

    def array(self, number):
        dtype, start, count = self.head["arrays"][number]
        return np.frombuffer(self.data, "<" + dtype, count, start)

    def triangle(self, number, heads, T):
        """Rows, one after another -> [H, T, T]."""
        values, out = self.array(number).reshape(heads, -1), np.zeros((heads, T, T))
        at = 0
        for t in range(T):
            out[:, t, : t + 1] = values[:, at : at + t + 1]
            at += t + 1
        assert at == values.shape[1]
        return out


def test_the_page_holds_these_numbers(run):
    text = page([run])
    made, T = Page(text), len(run.token_ids)
    (shown,) = made.runs
    assert shown["tokens"] == run.trace.tokens and shown["ids"] == run.token_ids
    assert (shown["promptTokens"], shown["label"], shown["model"]) == (
        run.prompt_tokens,
        "the label",
        run.model,
    )
    words = np.array(shown["words"], object)
    spell = np.vectorize(run.spelled, otypes=[object])
    assert (words[made.array(shown["best"]["words"])].reshape(T, -1) == spell(run.best.token_ids)).all()
    assert close(made.array(shown["best"]["logprobs"]).reshape(T, -1), run.best.logprobs, 1e-6)
    assert close(made.array(shown["came"]["logprobs"]), run.logprobs, 1e-6)
    assert made.array(shown["came"]["ranks"]).tolist() == run.ranks.tolist()
    in_lens = made.array(shown["lens"]["words"]).reshape(-1, T, shown["lens"]["top"])
    chances = made.array(shown["lens"]["chances"]).reshape(in_lens.shape) / 65535
    for n, (name, best) in enumerate(run.lens.items()):
        assert name == f"layers.{n // 2}.{['mixed', 'output'][n % 2]}"
        assert (words[in_lens[n]] == spell(best.token_ids)).all() and close(
            chances[n], np.exp(best.logprobs), 1e-5
        )
    for layer, x in run.attention.items():
        found = shown["attention"][str(layer)]
        assert found["heads"] == len(x) and close(
            (made.triangle(found["map"], len(x), T) / 255) ** 2, x, 4e-3
        )
    for layer, x in run.delta.items():
        found = shown["delta"][str(layer)]
        H = found["heads"]
        for name, lane in found["lanes"].items():
            values, exact = made.array(lane["values"]).reshape(T, H) * lane["step"], getattr(x, name)
            assert (abs(values - exact) <= 6e-4 * exact.max(axis=0) + 1e-30).all(), name
        steps, at = made.array(found["left"]).reshape(H, -1).astype(int), 0
        for s in range(T):
            column = np.cumsum(steps[:, at : at + T - s], axis=1) % 256 / 255
            assert close(column, x.left[:, s:, s], 3e-3)
            at += T - s
        level = (made.triangle(found["reads"], H, T) - 15) / 15
        lower = np.tril(np.ones((T, T), bool))
        assert close((level * abs(level))[:, lower], x.reads[:, lower], 0.07)
    assert shown["kinds"] == ["DeltaNet", "DeltaNet", "DeltaNet", "attention"] * 2
    assert list(map(int, shown["attention"])) == [3, 7] and list(map(int, shown["delta"])) == [
        0,
        1,
        2,
        4,
        5,
        6,
    ]
    assert shown["costs"] == [list(cost) for cost in run.costs]


def test_what_is_in_a_prompt_is_text_on_the_page(model):
    evil = "</script><img src=x onerror=alert(1)><!-- @@HEAD@@ &amp;"
    text = page([looked(model, evil, evil)])
    assert evil not in text and "onerror" in text
    assert Page(text).runs[0]["label"] == evil
    assert "".join(Page(text).runs[0]["tokens"]).count(evil) == 1
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in text.partition("</title>")[0]
    outside = re.sub(r"https?://www\.w3\.org/2000/svg", "", text)
    assert not re.search(r"https?://|//cdn|src=[\"']?(?!x onerror)\w", outside)


def test_pictures_lie_where_their_tokens_are(model):
    wide = np.asarray(Image.open(SHAPES).convert("RGB"))[: 5 * 32]  # its upper part: rows are not columns
    run = looked(model, "What is it?", images=[wide])
    (shown,) = Page(page([run])).runs
    (picture,), (span,) = shown["pictures"], run.trace.prompt.spans
    assert span.rows < span.columns
    assert (picture["start"], picture["rows"], picture["columns"]) == span
    assert set(shown["tokens"][span.start : span.start + span.rows * span.columns]) == {"<|image_pad|>"}
    assert shown["tokens"][span.start - 1] == "<|vision_start|>"
    assert picture["source"].startswith("data:image/jpeg;base64,/9j/")


@pytest.mark.slow
def test_two_hundred_tokens_are_less_than_five_megabytes(model):
    ids = model.tokenizer.encode(" ".join(f"fox{n}" for n in range(100)))[:200]
    run = look(model, Prompt(ids), "", max_tokens=0, draft="off", progress=lambda *about: None)
    assert len(run.token_ids) == 200
    assert len(page([run])) < 1 << 20  # of a model 24 layers deep it may be 5 times that


def test_a_prompt_that_a_page_cannot_show_is_refused(model):
    with pytest.raises(QwenRefError, match=r"^the prompt: 1,025 tokens are more than the 1,024 of which"):
        look(model, Prompt([1] * 1025), "", max_tokens=1, draft="off", progress=print)


# ---- the command


def test_the_command(tmp_path, capsys):
    out = tmp_path / "page.html"
    line = ["inspect", "--backend", "numpy", "--prompt", "What is 2 + 3?", "-o", str(out), "-n", "3"]
    assert main(line) == 0
    (alone,) = Page(out.read_text("utf-8")).runs
    assert len(alone["tokens"]) == alone["promptTokens"] + 3 and alone["label"] == "What is 2 + 3?"
    assert main([*line, "--compare-prompt", "Hi", "--no-thinking", "-n", "0"]) == 0
    two = Page(out.read_text("utf-8")).runs
    assert [run["label"] for run in two] == ["What is 2 + 3?", "Hi"]
    assert [len(run["tokens"]) - run["promptTokens"] for run in two] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert "no --model given" in capsys.readouterr().err


def test_two_files_side_by_side(tmp_path, fixtures):
    """The other one has layers and heads of its own."""
    out = tmp_path / "page.html"
    line = ["inspect", "--backend", "numpy", "--prompt", "Hi", "-o", str(out), "-n", "2", "--raw"]
    assert main([*line, "--compare-model", str(fixtures / "tiny.gguf")]) == 0
    one, other = Page(out.read_text("utf-8")).runs
    assert (one["label"], other["label"], other["model"]) == ("Hi", "Hi", "tiny.gguf")
    assert one["kinds"] != other["kinds"] or one["delta"]["0"]["heads"] != other["delta"]["0"]["heads"]


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["-n", "-1"], "--max-tokens: -1 is less than 0"),
        (["--max-image-tokens", "9"], "--max-image-tokens: there is no --image"),
        (["--raw", "--image", str(SHAPES)], "--raw: pictures need the chat template"),
        (["--image", "nowhere.png"], "nowhere.png: cannot be read: No such file or directory"),
        (["--raw", "--prompt", ""], "the prompt: is empty"),
        (["--draft", "mtp", "--model", "plain.gguf"], "plain.gguf"),
        (["-o", "."], ".: cannot be written: it is a folder"),
        (["-o", "no/page.html"], "no/page.html: cannot be written: No such file or directory"),
        (["--compare-model", "no.gguf"], "no.gguf"),
        (["--prompt", "fox " * 1100], "tokens are more than the 1,024 of which a page shows all"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, options, sentence):
    monkeypatch.chdir(tmp_path)
    line = ["inspect", "--backend", "numpy", "--prompt", "Hi", "-o", "page.html", "-n", "1", *options]
    assert main(line) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("qwen_ref: ") and sentence in said
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_the_old_page(tmp_path, monkeypatch):
    out = tmp_path / "page.html"
    out.write_text("the old one")
    monkeypatch.setattr(numbers, "profile_layers", lambda *about: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["inspect", "--backend", "numpy", "--prompt", "Hi", "-o", str(out), "-n", "1"]) == 130
    assert out.read_text() == "the old one" and len(list(tmp_path.iterdir())) == 1


def test_what_it_is_at_is_told_on_a_terminal(tmp_path, monkeypatch, capsys):
    """In one line, which is empty in the end."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    line = ["inspect", "--backend", "numpy", "--prompt", "Hi", "-n", "1"]
    assert main([*line, "-o", str(tmp_path / "page.html")]) == 0
    said = capsys.readouterr().err.partition("\n")[2]
    assert "the states of DeltaNet: 50 %" in said and "reading it all once more" in said
    assert said.endswith("\r\033[K") and "\n" not in said
