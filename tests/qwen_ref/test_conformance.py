"""The kit is whole, and a report card says what an engine does right and wrong."""

import json
import subprocess
import sys
from dataclasses import replace

import numba
import numpy as np
import pytest

from qwen_ref import QwenRefError, load
from qwen_ref.cli import main
from qwen_ref.kernels import KERNELS
from qwen_ref.model import attention, deltanet, text
from qwen_ref.model.rope import apply_rope, rope_tables
from qwen_ref.model.trace import watching
from qwen_ref.oracle import conformance
from qwen_ref.oracle.conformance import Case, NotSupported, cases
from qwen_ref.oracle.record import canonical, run, sha256

NAMES = [case.name for case in cases()]


def by_name(name) -> Case:
    (case,) = cases([name])
    return case


def engine(case, dtype=np.float32):
    """The model itself, all tokens at once."""
    model = load(case.model, dtype=dtype, backend="numpy")
    prompt = model.encode_prompt(conformance.with_media(case), tools=case.tools, thinking=case.thinking) \
        if case.messages else model.encode_prompt(case.text, raw=True)  # fmt: skip
    prompt.token_ids.extend(case.token_ids[case.prompt_tokens :])
    found = {"token_ids": np.array(prompt.token_ids), "positions": prompt.positions}

    def watch(name, x):
        found[name] = canonical(name, x, model.config)

    hidden = run(model, prompt, watch)
    with watching(watch):
        model.text.logits(hidden)
    return found


def card(run_case, *names, allow=None):
    return {result.case.name: result for result in conformance.run(run_case, cases(names), allow)}


def test_the_kit_is_whole():
    used = set()
    for case in cases():
        about = case.golden.about
        assert about["sha256"] == sha256(case.model) and case.model.stat().st_size <= 1 << 20
        assert case.allow in ("float32", "int8") and about["tests"]
        for path, media in zip(case.media, about.get("media", [])):
            assert sha256(path) == media["sha256"]
        used |= {case.path.name, case.model.name, *(path.name for path in case.media)}
    others = {path.name for path in conformance.KIT.iterdir()} - used
    assert others == {"mmproj.gguf", *(f"{case.name}.json" for case in cases() if case.messages)}
    assert sum(path.stat().st_size for path in conformance.KIT.iterdir()) < 15e6


@pytest.mark.parametrize("name", NAMES)
def test_the_model_itself_is_right(name):
    result = card(engine, name, allow="float32")[name]
    assert (result.verdict, result.note) == ("right", "")
    assert not result.report.missing


def test_float64_is_the_golden_again():
    """On a processor that adds in another order it is within the budget of float64."""
    report = card(lambda case: engine(case, np.float64), "grouped", allow="float64")["grouped"].report
    assert max(d.relative for d in report.differences) < 1e-11


def test_an_eps_in_another_place_shows_with_small_keys(monkeypatch):
    def l2_norm(x):
        return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), x.dtype.type(1e-6))

    monkeypatch.setattr(deltanet, "l2_norm", l2_norm)
    results = card(engine, "length-65", "small-keys", allow="bfloat16")
    assert results["length-65"].verdict == "right"
    small = results["small-keys"]
    assert small.verdict == "wrong" and small.report.first.name == "layers.0.linear_attn.k_norm"
    assert small.report.cause.startswith("the l2-norm has its eps in another place")


@pytest.fixture
def one_thread():
    """Two that wait for each other on a busy machine take seconds for what is a moment's work."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def test_the_kernels_are_right(one_thread):
    """Their cache of keys and values is float16, their activations are 8-bit where weights are quantized."""

    def kernels(case):
        model = load(case.model)
        assert model.text.layers is KERNELS
        messages = conformance.with_media(case) if case.messages else case.text
        prompt = model.encode_prompt(
            messages, tools=case.tools, thinking=case.thinking, raw=not case.messages
        )
        count = len(case.token_ids) - case.prompt_tokens
        answer = model.generate(prompt, max_tokens=count, temperature=0, presence_penalty=0)
        list(answer)
        found = {"token_ids": np.array(prompt.token_ids), "generated": answer.token_ids}
        if not case.media:
            hidden = model.text.forward(case.token_ids, model.text.new_state())
            found["logits"] = model.text.logits(hidden)
        return found

    for case in cases():
        (result,) = conformance.run(kernels, [case], "int8" if case.allow == "int8" else "float16")
        assert (result.verdict, result.note) == ("right", ""), case.name


@pytest.mark.parametrize(
    "case, mistake, cause",
    [
        ("yarn", lambda p, config: (p, replace(config, yarn=None)), "RoPE is not scaled"),
        ("plain", lambda p, config: (p + 1, config), "RoPE counts from 1"),
        ("images", lambda p, config: (np.tile(p[0], (3, 1)), config), "RoPE knows only one coordinate"),
        ("images", None, "RoPE turns neighbours"),
    ],
)
@pytest.mark.parametrize("shows_tables", [False, True])
def test_mistakes_of_rope(monkeypatch, case, mistake, cause, shows_tables):
    """Seen in its tables by an engine that shows them, else in the queries."""

    def neighbours(x, cos, sin):
        R = 2 * cos.shape[1]
        if R != 64:  # the vision tower's
            return apply_rope(x, cos, sin)
        turned = apply_rope(np.concatenate([x[..., 0:R:2], x[..., 1:R:2]], -1), cos, sin)
        turned = turned.reshape(*x.shape[:2], 2, -1).swapaxes(2, 3)  # [T, H, R] -> [T, H, R/2, 2]
        return np.concatenate([turned.reshape(*x.shape[:2], R), x[..., R:]], -1)

    def tables(positions, config, dtype, real=rope_tables):
        return real(*mistake(positions, config), dtype)

    def run_case(case):
        found = engine(case)
        return {name: x for name, x in found.items() if shows_tables or not name.startswith(("rope", "pos"))}

    if mistake:
        monkeypatch.setattr(text, "rope_tables", tables)
    else:
        monkeypatch.setattr(attention, "apply_rope", neighbours)
    report = card(run_case, case)[case].report
    expected = "rope.angle" if shows_tables and mistake else "layers.1.self_attn.q_rope"
    assert report.first.name == expected and report.cause.startswith(cause)


# ---- what engines answer


def changed(name, change):
    def run_case(case):
        found = engine(case)
        return found | {name: change(found[name])}

    return run_case


@pytest.mark.parametrize(
    "run_case, note",
    [
        (changed("token_ids", lambda x: x + (np.arange(len(x)) == 2)), "token_ids: of token 2: "),
        (changed("token_ids", lambda x: x[:3]), "token_ids: of 3 tokens; the prompt has 20 and all are 28"),
        (changed("positions", lambda x: x[:, :-1]), "positions: of 27 tokens; the prompt has 20 and all"),
        (changed("positions", lambda x: x + 1), "positions: of token 0: [1, 1, 1] should be [0, 0, 0]"),
        (lambda case: {"generated": [5, 4, 3]}, "generated: token 0 is 5 and not"),
        (lambda case: {"layers.2.output": 0}, "layers.2.output: the model has 2 layers"),
        (changed("norm", lambda x: x * 1.01), "norm is the first tensor that float32 does not explain"),
    ],
)  # fmt: skip
def test_wrong(run_case, note):
    result = card(run_case, "mtp")["mtp"]
    assert result.verdict == "wrong" and result.note.startswith(note)


@pytest.mark.parametrize("found", [{"generated": []}, {"token_ids": None}])
def test_nothing_to_judge(found, tmp_path):
    def run_case(case):
        return {name: case.token_ids if x is None else x for name, x in found.items()}

    result = card(run_case, "mtp")["mtp"]
    assert (result.verdict, result.note) == ("not judged", "neither tensors nor greedy tokens were given")


@pytest.mark.parametrize(
    "body", ["raise NotSupported('no')", "return {'generated': []}", "raise SystemExit(0)"]
)
def test_without_one_case_right_the_status_is_1(body, tmp_path):
    head = "from qwen_ref.oracle.conformance import NotSupported\n"
    (tmp_path / "engine.py").write_text(f"{head}def run(case):\n    {body}\n")
    done = subprocess.run(
        [sys.executable, "-m", "qwen_ref", "conformance", "--engine", tmp_path / "engine.py", "mtp"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr.endswith("0 of 1 cases right\n")


def test_logits_alone_betray_a_mistake(monkeypatch):
    """Each is within what bfloat16 explains, and together they are too far off."""

    def logits_alone(case):
        return {"logits": engine(case)["logits"]}

    assert card(logits_alone, "yarn", allow="bfloat16")["yarn"].verdict == "right"
    monkeypatch.setattr(
        text, "rope_tables", lambda p, config, dtype: rope_tables(p, replace(config, yarn=None), dtype)
    )
    result = card(logits_alone, "yarn", allow="bfloat16")["yarn"]
    assert result.verdict == "wrong" and result.report.first is None
    assert result.note.startswith("the logits' KL divergence of")


def test_the_prompt_alone_and_the_same_greedy_tokens():
    def run_case(case):
        P = case.prompt_tokens
        found = {
            name: x[:P] for name, x in engine(case).items() if name.endswith(("output", "norm", "logits"))
        }
        return found | {"generated": case.token_ids[P:]}

    report = card(run_case, "mtp")["mtp"].report
    assert report.complaint is None and len(report.differences) == 4
    assert report.greedy == "8 of 8 tokens, all the same"


def test_a_near_tie_explains_another_token():
    case = by_name("decode")
    start, inputs = case.prompt_tokens - 1, case.golden.inputs
    gaps = inputs["top_logits"][start:-1, 0] - inputs["top_logits"][start:-1, 1]
    tokens, closest = case.token_ids[case.prompt_tokens :], int(gaps.argmin())
    tokens[closest] = int(inputs["top_ids"][start + closest, 1])
    for allow, verdict in ("bfloat16", "right"), ("float64", "wrong"):
        result = card(lambda case: {"generated": tokens}, "decode", allow=allow)["decode"]
        assert result.verdict == verdict, result.note


def test_engines_that_do_not_answer():
    def run_case(case):
        if case.media:
            raise NotSupported("no pictures here")
        return {"norm": np.zeros((3, 3))} if case.name == "plain" else 1 / 0

    results = card(run_case, "plain", "grouped", "image")
    assert {name: (r.verdict, r.note) for name, r in results.items()} == {
        "plain": ("failed", "norm: shape (3, 3) should be (78, 32)"),
        "grouped": ("failed", "ZeroDivisionError: division by zero"),
        "image": ("not supported", "no pictures here"),
    }


# ---- commands


PROGRAM = """
import sys
import numpy as np
from safetensors.numpy import load_file, save_file
ids, inputs, dump = sys.argv[1:]
ids, inputs = np.loadtxt(ids, int), load_file(inputs)
assert (ids == inputs["token_ids"]).all()
if "pixel_values" in inputs:
    save_file({"images.0.pixel_values": inputs["pixel_values"], "positions": inputs["positions"]}, dump)
else:
    sys.exit("no pictures")
"""


def command(*args):
    line = [sys.executable, "-m", "qwen_ref", "conformance", *map(str, args)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    return done


def test_a_command_reads_inputs_and_writes_a_dump(tmp_path):
    (tmp_path / "engine.py").write_text(PROGRAM)
    spec = f"{sys.executable} {tmp_path / 'engine.py'} {{ids}} {{inputs}} {{dump}}"
    done = command("--engine", spec, "--json", "image", "mtp")
    image, mtp = json.loads(done.stdout)
    assert done.returncode == 1
    assert image["verdict"] == "right" and image["report"]["differences"][0]["max"] == 0
    assert mtp["verdict"] == "failed" and mtp["note"] == "it ended with status 1, and said last: no pictures"


def test_a_command_gets_an_argument_for_each_picture():
    says = "import os, sys; sys.exit(' '.join(map(os.path.basename, sys.argv[1:])))"
    engine = conformance.command(f'{sys.executable} -c "{says}" {{media}}')
    assert card(engine, "images")["images"].note.endswith("said last: wide.png odd.png")


def test_a_card(tmp_path):
    (tmp_path / "engine.py").write_text("def run(case):\n    return {'generated': case.token_ids[-8:]}\n")
    done = command("--engine", tmp_path / "engine.py", "mtp", "length-?")
    assert done.returncode == 0
    assert [row.split("|")[1:3] for row in done.stdout.splitlines()[2:]] == [
        [f" {name} ", " right "] for name in ("length-1", "length-3", "mtp")
    ]
    assert done.stderr == "3 of 3 cases right\n"


@pytest.mark.parametrize(
    "args, sentence",
    [
        (["--engine", "no_such_module:run"], "engine: no_such_module:run: ModuleNotFoundError: No"),
        (["--engine", "json:nothing"], "engine: json:nothing: AttributeError: module 'json' has"),
        (["--engine", "nowhere.py"], "engine: nowhere.py: no such file"),
        (["--engine", "run {modell}"], "engine: 'run {modell}' is no command: 'modell'"),
        (["--engine", "no-such-program {ids}"], "engine: 'no-such-program {ids}': there is no such program"),
        (["--engine", "json:dumps", "mtq"], "case: 'mtq' is none of chat, decode, grouped"),
        (["--engine", "json:dumps", "--allow", "int4", "mtp"], "allow: 'int4' is not one of float64"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(args, sentence):
    done = command(*args)
    assert done.returncode == 2 and done.stderr.startswith(f"qwen_ref: {sentence}")
    assert done.stderr.count("\n") == 1


def test_the_end_of_what_a_program_said(tmp_path):
    (tmp_path / "engine.py").write_text("import sys\nprint('first')\nsys.exit(300 * 'x')\n")
    result = card(conformance.command(f"{sys.executable} {tmp_path / 'engine.py'} {{ids}}"), "mtp")["mtp"]
    assert result.note == f"it ended with status 1, and said last: {200 * 'x'}"


def test_a_card_without_a_judgement_is_no_success(tmp_path, capsys):
    """One case is right, and of the other nothing can be said."""
    engine = tmp_path / "engine.py"
    engine.write_text(
        "def run(case):\n    return {'generated': case.token_ids[-8:] * (case.name == 'mtp')}\n"
    )
    assert main(["conformance", "--engine", str(engine), "mtp"]) == 0
    assert main(["conformance", "--engine", str(engine), "mtp", "length-1"]) == 1
    assert "1 of 2 cases right" in capsys.readouterr().err


def test_cases_stand_in_the_order_of_their_numbers():
    assert [case.name for case in cases(["length-*"])] == [f"length-{n}" for n in (1, 3, 63, 64, 65, 129)]


def test_unknown_cases():
    with pytest.raises(QwenRefError, match="case: 'x' is none of chat"):
        cases(["x"])
