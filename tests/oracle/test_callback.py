"""llama.cpp, tensor by tensor: what its llama-eval-callback prints of F32 files, against goldens.

Run with -s to see the worst of each.
"""

import shutil

import make
import numpy as np
import pytest
from conftest import made, without_mtp
from gguf import GGUFReader
from test_logits import prompt_ids, text_of_prefix

from qwen_ref import load
from qwen_ref.oracle import callback
from qwen_ref.oracle.compare import ONLY_THE_SUM, compare
from qwen_ref.oracle.record import record
from qwen_ref.prompt import Prompt

NOT_THERE = {"rope.angle", "rope.cos", "rope.sin"}  # in llama.cpp's graph
LENGTHS = [1, 5, 129]  # a step of decoding; all rows printed; three chunks of the delta rule


def golden_of(path, fixtures, length):
    """A golden of so many tokens, and their text."""
    ids = prompt_ids(path, fixtures)
    text = text_of_prefix(load(path).tokenizer, ids, length)
    prompt = Prompt(ids[:length].tolist())
    return record(lambda dtype: load(path, dtype=dtype, backend="numpy"), prompt, {}), text


def report_on(golden, path, text, out):
    out.write_bytes(make.eval_callback(path, text))
    return compare(golden, callback.read(out, golden))


@pytest.mark.parametrize("length", LENGTHS)
def test_every_tensor(model, fixtures, tmp_path, length):
    golden, text = golden_of(model.f32, fixtures, length)
    report = report_on(golden, model.f32, text, tmp_path / "dump.txt")
    values, most = sum(d.count for d in report.differences), max(d.max for d in report.differences)
    share = max(d.share["float32"] for d in report.differences)
    print(
        f"\n{model.name}, {length} tokens: {len(report.differences)} tensors, {values} values, "
        f"largest difference {most:.1e}, at most {share:.3f} of a budget"
    )
    assert report.first is None and without_mtp(report.missing) <= NOT_THERE


@pytest.fixture(scope="module")
def grouped(fixtures):
    path = made("mini-grouped", 0, tiny_vocab=True).f32
    return path, *golden_of(path, fixtures, 30)


def changed(path, out, tensor, change):
    """A copy of a file in which one weight is another."""
    reader = GGUFReader(shutil.copy(path, out), "r+")
    weight = next(t.data for t in reader.tensors if t.name == f"{tensor}.weight")
    weight[:] = change(weight.copy())
    reader.data.flush()
    return out


def no_one(weight):
    return weight - 1


def gate_first(weight):
    """[H*2D, hidden] with queries and gates swapped in each of 4 heads."""
    return weight.reshape(4, 2, -1)[:, ::-1].reshape(weight.shape)


def as_in_transformers(weight):
    """[H_v*V, hidden], 4 V heads for 2 K heads: out of GGUF's order."""
    return weight.reshape(2, 2, -1).swapaxes(0, 1).reshape(weight.shape)


def middle_lost(weight):
    """[hidden, intermediate] without what makes columns 100 to 149, none of which is printed."""
    return np.where((np.arange(len(weight)) // 50 == 2)[:, None], 0, weight)


@pytest.mark.parametrize(
    "tensor, mistake, first, cause",
    [
        ("blk.2.attn_norm", no_one, "layers.2.input_layernorm", "the norm has another weight"),
        ("blk.3.attn_k_norm", no_one, "layers.3.self_attn.k_norm", "the norm has another weight"),
        ("blk.3.attn_q", gate_first, "layers.3.self_attn.q_proj", "query and gate are swapped"),
        ("blk.1.attn_gate", as_in_transformers, "layers.1.linear_attn.in_proj_z", "V heads stand in GGUF's"),
        ("blk.0.ffn_down", middle_lost, "layers.0.mlp.down_proj", ONLY_THE_SUM),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_found(grouped, tmp_path, tensor, mistake, first, cause):
    path, golden, text = grouped
    wrong = changed(path, tmp_path / "wrong.gguf", tensor, mistake)
    report = report_on(golden, wrong, text, tmp_path / "dump.txt")
    assert report.first.name == first and report.cause.startswith(cause)


def small_keys(weight):
    """[q, k and v, 4] with keys whose squares add up to about the l2-norm's eps."""
    weight[256:512] *= 1e-4
    return weight


def test_small_keys_show_where_the_eps_is(grouped, fixtures, tmp_path):
    """llama.cpp has it beside the sum of squares, as transformers does; without it keys would be longer."""
    path = changed(grouped[0], tmp_path / "small.gguf", "blk.0.ssm_conv1d", small_keys)
    golden, text = golden_of(path, fixtures, 30)
    keys = golden.values["layers.0.linear_attn.k_norm"].reshape(-1, 128)  # [T, H_k*K] -> [T*H_k, K]
    lengths = np.linalg.norm(keys, axis=1)
    assert 0.1 < np.median(lengths) < 0.9
    report = report_on(golden, path, text, tmp_path / "dump.txt")
    assert report.first is None and without_mtp(report.missing) <= NOT_THERE
