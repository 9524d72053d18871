"""The kit is whole, and a report card says what an engine does right and wrong."""

import configparser
import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace

import kernels_engine
import numpy as np
import pytest
from mistakes import counted, forget
from test_mtp import mtp_tensors

from qwen_ref import QwenRefError, load
from qwen_ref.cli import conformance as cli
from qwen_ref.cli import main
from qwen_ref.model import attention, deltanet, text
from qwen_ref.model.rope import apply_rope, rope_tables
from qwen_ref.model.trace import watching
from qwen_ref.oracle import conformance
from qwen_ref.oracle.arithmetic import ARITHMETICS
from qwen_ref.oracle.compare import BETWEEN_STEPS, Difference, Report, compare
from qwen_ref.oracle.conformance import Case, NotSupported, Result, cases, encode
from qwen_ref.oracle.record import canonical, embed, run, sha256

ROOT = Path(__file__).parents[2]
NAMES = [case.name for case in cases()]


def by_name(name) -> Case:
    (case,) = cases([name])
    return case


def engine(case, dtype=np.float32):
    """The model itself, all tokens at once."""
    model = load(case.model, dtype=dtype, backend="numpy")
    prompt = encode(model, case)
    prompt.token_ids.extend(case.steps)
    found = {"token_ids": np.array(prompt.token_ids), "positions": prompt.positions}

    def watch(name, x):
        found[name] = canonical(name, x, model.config)

    x, hidden = run(model, prompt, watch)
    with watching(watch):
        model.text.logits(hidden)
    if "draft_ids" in case.golden.inputs:
        found |= mtp_tensors(model.text, prompt, x, hidden, case.golden, watch)
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
    others = {path.name for path in conformance.KIT.iterdir() if path.is_file()} - used
    assert others == {"mmproj.gguf", *(f"{case.name}.json" for case in cases() if case.messages)}
    assert sum(path.stat().st_size for path in conformance.KIT.rglob("*.*")) < 20e6
    listed = {"dumps.json", *(dump.path.name for dump in conformance.dumps())}
    assert {path.name for path in (conformance.KIT / "dumps").iterdir()} == listed
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    patterns = setup["options.package_data"]["qwen_ref.oracle"].split(", ")
    shipping = {path for pattern in patterns for path in conformance.KIT.parent.glob(pattern)}
    assert shipping >= set(conformance.KIT.rglob("*.*"))


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


@pytest.mark.slow
def test_the_kernels_are_right():
    """Their cache of keys and values is float16, their activations are 8-bit where weights are quantized."""
    for case in cases():
        (result,) = conformance.run(kernels_engine.run, [case], "int8" if case.allow == "int8" else "float16")
        assert (result.verdict, result.note) == ("right", ""), case.name
        assert result.report.decoding == f"{len(case.parts) - 1} steps"


@pytest.mark.parametrize(
    "case, mistake, cause",
    [
        ("yarn", lambda p, config: (p, replace(config, yarn=None)), "RoPE is not scaled"),
        ("plain", lambda p, config: (p + 1, config), "RoPE counts from 1"),
        ("images", lambda p, config: (np.tile(p[0], (3, 1)), config), "RoPE knows only one coordinate"),
        (
            "images",
            lambda p, config: (p[[0, 2, 1]], config),
            "RoPE has rows and columns of pictures exchanged",
        ),
        ("grouped", lambda p, config: (np.maximum(p - 1, 0), config), "RoPE's positions are one behind"),
        ("position-4096", lambda p, config: (p - 4096, config), "RoPE counts from 0; the first token has"),
        ("plain", lambda p, config: (p, replace(config, rope_theta=1e6)), "RoPE's base is 1000000; the file"),
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
        ends = re.compile(r"layers\.\d\.output|norm|logits")
        found = {name: x[:P] for name, x in engine(case).items() if ends.fullmatch(name)}
        return found | {"generated": case.token_ids[P:]}

    report = card(run_case, "mtp")["mtp"].report
    assert report.complaint is None and len(report.differences) == 4
    assert report.greedy == "8 of 8 tokens, all the same"


def test_a_near_tie_explains_another_token():
    case = by_name("decode")
    start, inputs = case.prompt_tokens - 1, case.golden.inputs
    gaps = inputs["top_logits"][start:-1, 0] - inputs["top_logits"][start:-1, 1]
    tokens, closest = case.steps, int(gaps.argmin())
    tokens[closest] = int(inputs["top_ids"][start + closest, 1])
    for allow, verdict in ("bfloat16", "partly judged"), ("float64", "wrong"):
        result = card(lambda case: {"generated": tokens}, "decode", allow=allow)["decode"]
        assert result.verdict == verdict, result.note


def test_engines_that_do_not_answer():
    def run_case(case):
        if case.media:
            raise NotSupported("no pictures here")
        return {"norm": np.zeros((3, 3))} if case.name == "plain" else 1 / 0

    results = card(run_case, "plain", "grouped", "image")
    assert {name: (r.verdict, r.note) for name, r in results.items()} == {
        "plain": ("wrong", "norm: shape (3, 3) should be (78, 32)"),
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
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["conformance", *map(str, args)])
    assert "Traceback" not in err.getvalue()
    return SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())


def test_a_command_reads_inputs_and_writes_a_dump(tmp_path):
    (tmp_path / "engine.py").write_text(PROGRAM)
    spec = f"{sys.executable} {tmp_path / 'engine.py'} {{ids}} {{inputs}} {{dump}}"
    done = command("--engine", spec, "--json", "image", "mtp")
    image, mtp = json.loads(done.stdout)
    assert done.returncode == 1
    assert image["verdict"] == "partly judged" and image["report"]["differences"][0]["max"] == 0
    assert mtp["verdict"] == "failed" and mtp["note"] == "it ended with status 1, and said last: no pictures"


def test_a_command_is_told_the_parts():
    case = by_name("draft")
    says = "import sys; sys.exit(open(sys.argv[1]).read().replace(chr(10), '/'))"
    engine = conformance.command(f'{sys.executable} -c "{says}" {{parts}}')
    told = card(engine, "draft")["draft"].note.partition("said last: ")[2]
    first, second, *_ = told.split("/")
    ids, rejected = case.parts[0]
    assert first == f"{' '.join(map(str, ids))} | {' '.join(map(str, rejected))}" and len(rejected) == 3
    assert second == str(case.steps[0])


def test_a_command_gets_an_argument_for_each_picture():
    says = "import os, sys; sys.exit(' '.join(map(os.path.basename, sys.argv[1:])))"
    engine = conformance.command(f'{sys.executable} -c "{says}" {{media}}')
    assert card(engine, "images")["images"].note.endswith("said last: wide.png odd.png")


def test_a_card(tmp_path):
    (tmp_path / "engine.py").write_text("def run(case):\n    return {'generated': case.token_ids[-8:]}\n")
    done = command("--engine", tmp_path / "engine.py", "mtp", "length-?")
    assert done.returncode == 3
    assert [row.split("|")[1:3] for row in done.stdout.splitlines()[2:]] == [
        [f" {name} ", " partly judged "] for name in ("length-1", "length-3", "mtp")
    ]
    assert done.stderr == "0 of 3 cases right\n"


@pytest.mark.parametrize(
    "args, sentence",
    [
        (["--engine", "no_such_module:run"], "engine: no_such_module:run: ModuleNotFoundError: No"),
        (["--engine", "json:nothing"], "engine: json:nothing: AttributeError: module 'json' has"),
        (["--engine", "nowhere.py"], "engine: nowhere.py: no such file"),
        (["--engine", "run {modell}"], "engine: 'run {modell}' is no command: 'modell'"),
        (["--engine", "no-such-program {ids}"], "engine: 'no-such-program {ids}': there is no such program"),
        (["--engine", "json:dumps", "mtq"], "case: 'mtq' is none of adjacent, chat, decode"),
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


def test_heads_in_ggufs_order():
    """Of 2 K heads and 4 V heads, two of which share one."""
    name = "layers.0.linear_attn.beta"

    def tiled(case):
        return {name: engine(case)[name][:, [0, 2, 1, 3]]}

    assert card(tiled, "grouped")["grouped"].verdict == "wrong"
    assert card(conformance.with_tiled_heads(tiled), "grouped")["grouped"].verdict == "partly judged"


ARGUMENTS = """
import json, sys
from pathlib import Path
ids, count, text, messages, model, *media = sys.argv[1:]
ids, text, messages = (Path(name).read_text() for name in (ids, text, messages))
got = json.dumps([ids, count, text, messages, model, media])
Path(__file__).with_name("got").write_text(got)
"""


def test_what_a_program_gets(tmp_path):
    """Files of its own, which are gone when it is through; pictures only if it asks for them."""
    (tmp_path / "engine.py").write_text(ARGUMENTS)
    program = (
        f"{sys.executable} {tmp_path / 'engine.py'} {{ids}} {{prompt_tokens}} {{text}} {{messages}} {{model}}"
    )
    for spec, name in (program, "chat"), (program + " {media}", "images"):
        case = by_name(name)
        result = card(conformance.command(spec), name)[name]
        assert result.verdict == "failed" and result.note.startswith("output.txt: "), result.note
        ids, count, text, messages, model, media = json.loads((tmp_path / "got").read_text())
        assert [int(token_id) for token_id in ids.split("\n")[:-1]] == case.token_ids
        assert (int(count), text, model) == (case.prompt_tokens, case.text, str(case.model))
        assert json.loads(messages) == {"messages": case.messages, "tools": case.tools}
        assert media == list(map(str, case.media)) and bool(media) == (name == "images")
    result = card(conformance.command(program), "image")["image"]
    assert (result.verdict, result.note) == ("not supported", "the command has neither {media} nor {inputs}")


def test_a_card_line_by_line(capsys):
    """A `|` in a note is no column; a cause is told once, where the note is of its tensor."""
    norm = Difference("norm", 9, 0.0, 0.0, 0.0, 1.0, "float32", {"float32": 0.25})
    wrong = replace(norm, name="logits", explained=None, share={"float32": 3.14})
    right = Report("float32", [norm], None, None, ["a", "b"], {"kl": 0.00123}, "8 of 8")
    right.scope, right.decoding = "all 9 tokens", "8 steps"
    found = Report("float32", [norm, wrong], wrong, "x", [], {}, complaint="logits is wrong")
    nothing = Report("float32", [], None, None, ["a"], {})
    case = SimpleNamespace(name="c")
    results = [
        Result(case, "right", "", right, "", 0.5),
        Result(case, "wrong", "logits is wrong", found, "", 0.5),
        Result(case, "wrong", "token_ids: others", found, "", 0.5),
        Result(case, "not judged", "", nothing, "", 0.5),
        Result(case, "failed", "E: a|b", None, "Traceback …", 0.5),
    ]
    assert cli.print_card(iter(results)) == results
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "| case | verdict | tensors | nearest to its budget | logits: KL | decoding | greedy tokens | |",
        "|---|---|---:|---|---|---|---|---|",
        "| c | right | 1 of 3 | norm: 25 % of float32 | 1.2e-03, of all 9 tokens | 8 steps | 8 of 8 |  |",
        "| c | wrong | 2 of 2 | logits: 3.1 × of float32 | not judged |  |  "
        "| logits is wrong. Likely cause: x |",
        "| c | wrong | 2 of 2 | logits: 3.1 × of float32 | not judged |  |  | token_ids: others |",
        "| c | not judged | 0 of 1 |  | not judged |  |  |  |",
        r"| c | failed |  |  |  |  |  | E: a\|b |",
    ]
    assert told.err == "\nc: Traceback …\n1 of 5 cases right\n"
    assert [cli.as_json(result) for result in results[::4]] == [
        dict(case="c", verdict="right", note="", traceback="", seconds=0.5, report=asdict(right)),
        dict(case="c", verdict="failed", note="E: a|b", traceback="Traceback …", seconds=0.5, report=None),
    ]


def test_what_the_cases_are(capsys):
    assert main(["conformance", "--list", "mtp", "image"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["image", by_name("image").model.name],
        ["mtp", "mtp.gguf"],
    ]
    assert lines[1] == f"{'mtp':12} {'mtp.gguf':16} {by_name('mtp').golden.about['tests']}"


def test_a_card_without_a_judgement_is_no_success(tmp_path, capsys):
    """Of one case greedy tokens are right, and of the other nothing can be said."""
    engine = tmp_path / "engine.py"
    engine.write_text(
        "def run(case):\n    return {'generated': case.token_ids[-8:] * (case.name == 'mtp')}\n"
    )
    assert main(["conformance", "--engine", str(engine), "mtp"]) == 3
    assert main(["conformance", "--engine", str(engine), "mtp", "length-1"]) == 1
    assert "0 of 2 cases right" in capsys.readouterr().err


def test_cases_stand_in_the_order_of_their_numbers():
    assert [case.name for case in cases(["length-*"])] == [f"length-{n}" for n in (1, 3, 63, 64, 65, 129)]


def test_unknown_cases():
    with pytest.raises(QwenRefError, match="case: 'x' is none of adjacent, chat"):
        cases(["x"])


# ---- dumps of which it is known what is wrong with them

DUMPS = {
    "no-gate": "the output gate is missing",
    "norm-plus-one": "the norm has another weight: it is the checkpoint's, without 1 +",
    "rope-from-0": "RoPE counts from 0; the first token has position 4096",
    "decay-A_log": "A_log stands where A = -exp(A_log) should",
    "no-erase": "the delta rule does not subtract what the state holds",
    "conv-reversed": "the convolution's taps are reversed",
    "state-lost": BETWEEN_STEPS,
    "position-behind-picture": BETWEEN_STEPS,
    "vision-rows": "the position embedding stands row by row",
    "vision-transposed": "the matrix is transposed",
    "mtp-halves": "eh_proj has the hidden state first",
    "nan": "some values are not finite",
    "logits-one-late": "each token has the logits of the one before it",
    "logits-equal": "all values of a row are equal",
}


@pytest.mark.parametrize("allow", [None, "bfloat16", "int8"])
def test_every_dump_with_a_mistake_is_seen_and_named(allow):
    found = {dump.name: (dump, result) for dump, result, expected in conformance.self_test(allow) if expected}
    assert set(found) == {"good", "misspelt", *DUMPS}
    for name, cause in DUMPS.items():
        dump, result = found[name]
        assert result.verdict == "wrong" and result.report.cause.startswith(cause)
        assert result.report.allowed == allow or dump.case.allow == "float32"
    assert found["misspelt"][1].verdict == "partly judged" and "lm_head" in found["misspelt"][1].note


def test_a_self_test(capsys):
    assert main(["conformance", "--self-test"]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert len(lines) == 16 and lines[0].split() == ["good", "length-3", "right"]
    assert lines[1].startswith(
        "no-gate                  position-4096  wrong: layers.1.self_attn.gated is the "
    )
    assert ". Likely cause: the output gate is missing: " in lines[1]
    assert told.err == "16 of 16 dumps judged as expected\n"
    assert main(["conformance", "--self-test", "--json", "--allow", "bfloat16"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [(entry["dump"], entry["expected"]) for entry in entries[:2]] == [
        ("good", True),
        ("no-gate", True),
    ]
    assert entries[1]["report"]["allowed"] == "bfloat16" and entries[1]["wrong"].endswith("has no gate")
    for more in ["mtp"], ["--tiled"]:
        assert main(["conformance", "--self-test", *more]) == 2
        assert capsys.readouterr().err.startswith("qwen_ref: --self-test: judges all dumps, as they are; ")
    assert main(["conformance", "--self-test", "--allow", "x"]) == 2


@pytest.fixture
def own_kit(tmp_path, monkeypatch):
    """The dumps as files that a test may change."""
    for path in conformance.KIT.iterdir():
        if path.is_file():
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(conformance.KIT / "dumps", tmp_path / "dumps")
    monkeypatch.setattr(conformance, "KIT", tmp_path)
    return tmp_path


def of_other(dump, other):
    return lambda folder: (folder / dump).write_bytes((folder / other).read_bytes())


@pytest.mark.parametrize(
    "damage, line",
    [
        (of_other("no-erase.safetensors", "good.safetensors"), "no-erase length-3 NOT AS EXPECTED: right"),
        (
            of_other("good.safetensors", "misspelt.safetensors"),
            "good length-3 NOT AS EXPECTED: partly judged",
        ),
        (of_other("good.safetensors", "nan.safetensors"), "good length-3 NOT AS EXPECTED: wrong: logits: "),
        (of_other("nan.safetensors", "dumps.json"), "nan length-1 NOT AS EXPECTED: failed: "),
        (lambda folder: (folder / "nan.safetensors").unlink(), "nan length-1 NOT AS EXPECTED: failed: "),
    ],
)
def test_a_self_test_of_a_damaged_kit(own_kit, capsys, damage, line):
    damage(own_kit / "dumps")
    assert main(["conformance", "--self-test"]) == 1
    told = capsys.readouterr()
    lines = [" ".join(of_dump.split()) for of_dump in told.out.splitlines()]
    assert (
        len(lines) == 16
        and [of_dump for of_dump in lines if "NOT AS EXPECTED" in of_dump]
        == [of_dump for of_dump in lines if of_dump.startswith(line)]
        != []
    )
    assert told.err == "15 of 16 dumps judged as expected\n"


GOOD = {"good": {"case": "length-3", "wrong": ""}}


@pytest.mark.parametrize(
    "table, words",
    [
        ("{", "is not JSON"),
        ("[]", "is no table of dumps"),
        ('{"good": {"case": "length-3"}}', "is no table of dumps"),
        ('{"good": {"case": "x", "wrong": ""}}', "is no table of dumps"),
        ('{"good": 3}', "is no table of dumps"),
        ("{}", "has to list dumps of both kinds"),
        (json.dumps(GOOD), "has to list dumps of both kinds"),
        (json.dumps({"nan": GOOD["good"] | {"wrong": "x"}}), "has to list dumps of both kinds"),
    ],
)
def test_a_table_of_dumps_that_is_damaged(own_kit, capsys, table, words):
    (own_kit / "dumps" / "dumps.json").write_text(table)
    assert main(["conformance", "--self-test"]) == 2
    told = capsys.readouterr().err
    assert re.fullmatch(rf"qwen_ref: \S*dumps\.json: {words}.*\n", told)


# ---- decoding


@lru_cache(1)
def prefilled(case, arithmetic):
    """What notes tensors, those of the prompt, the text model and its state."""
    dtype, rounding = ARITHMETICS[arithmetic]
    model = load(case.model, dtype=dtype, backend="numpy")
    prompt = encode(model, case)

    def watch(found, name, x):
        instead = rounding(name, x)
        found[name] = canonical(name, x if instead is None else instead, model.config)
        return instead

    state, found = model.text.new_state(), {}
    with watching(partial(watch, found)):
        model.text.logits(model.text.forward(embed(model, prompt), state, prompt.positions))
    return watch, found, model.text, state


def nothing(state, other):
    pass


def stepwise(case, between=nothing, back=nothing, arithmetic="float32"):
    """The prompt, and what follows it. `between` plants a mistake into the state before each part, and `back`
    after a draft that was in vain."""
    watch, found, text, state = prefilled(case, arithmetic)
    state = state.copy()
    for n, part in enumerate(case.parts):
        if n:
            found = {}
            between(state, text.new_state())
            with watching(partial(watch, found)):
                text.logits(text.forward(part.token_ids, state))
        if part.rejected:
            text.forward(part.rejected, drafted := state.copy())
            back(state, drafted)
        yield found


DECODE_MISTAKES = {
    "state": forget("DeltaNetState", "recurrent"),
    "convolution": forget("DeltaNetState", "conv"),
    "cache": forget("KVCache"),
    "position": counted,
}
DRAFT_MISTAKES = {mistake: DECODE_MISTAKES[mistake] for mistake in ("state", "convolution", "cache")}


SLOW = [pytest.param("forced", marks=pytest.mark.slow)]  # 2,000 steps


@pytest.mark.parametrize("name", [*(name for name in NAMES if name != "forced"), *SLOW])
def test_a_mistake_in_decoding_is_seen(name):
    """In every arithmetic; also by logits alone, but for a position where attention hardly matters."""
    case = by_name(name)
    parts = list(stepwise(case))
    for allow in "float32", "bfloat16", "int8":
        report = compare(case.golden, parts, allow)
        assert report.verdict == "right", report.complaint
        assert all(name.startswith("mtp.") for name in report.missing)  # test_mtp.py decodes with these
        assert report.decoding == f"{len(case.parts) - 1} steps"
    planted = {mistake: {"between": between} for mistake, between in DECODE_MISTAKES.items()}
    if not case.media and not name.startswith("position"):
        del planted["position"]  # for text it is the number of tokens
    if name == "forced":
        del planted["convolution"], planted["cache"]  # each takes seconds
    if "rejected" in case.golden.about:
        planted |= {f"draft's {mistake}": {"back": back} for mistake, back in DRAFT_MISTAKES.items()}
    for mistake, options in planted.items():
        parts = list(stepwise(case, **options))
        for allow in "float32", "bfloat16", "int8":
            report = compare(case.golden, parts, allow)
            assert report.verdict == "wrong", (mistake, allow)
            # No tensor of its own may be beyond the budget, and the logits' divergence all the same.
            assert report.cause == (BETWEEN_STEPS if report.first else None), (mistake, allow, report.cause)
            logits = compare(case.golden, [{"logits": part["logits"][-1]} for part in parts], allow)
            if (name, mistake) != ("mtp-image", "position") or allow == "float32":
                assert logits.verdict == "wrong", (mistake, allow)
                assert logits.complaint.startswith(("logits", "in decoding"))


@pytest.mark.parametrize("name", ["length-3", "image", "quants-256"])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_decoding_in_each_arithmetic_is_right(name, arithmetic):
    case = by_name(name)
    report = compare(case.golden, stepwise(case, arithmetic=arithmetic), arithmetic)
    assert report.verdict == "right", report.complaint


def test_commands_and_files_say_that_they_decoded(tmp_path, capsys):
    """`steps` in the dump; and the statuses of `golden check`."""
    case = by_name("length-3")
    truth = {n: x for n, x in engine(case).items() if n in ("logits", "layers.0.linear_attn.o")}
    o = truth["layers.0.linear_attn.o"]
    late = o.copy()
    late[-1] *= 1.02
    for found, status, sentence in (
        (truth | {"steps": 8}, 0, "decoding: 8 steps"),
        (truth, 0, "decoding: not judged"),
        ({"layers.0.linear_attn.o": o}, 3, "Partly judged: 1 of 14 tensors, no logits"),
        (
            {"layers.0.linear_attn.o": o, "logit": truth["logits"]},
            3,
            "the golden does not have them: logit\n",
        ),
        (truth | {"layers.0.linear_attn.o": late, "steps": 8}, 1, f"likely cause: {BETWEEN_STEPS}"),
        ({"logit": truth["logits"]}, 2, ""),
    ):
        np.savez(tmp_path / "dump.npz", **found)
        assert main(["golden", "check", str(case.path), str(tmp_path / "dump.npz")]) == status
        assert sentence in capsys.readouterr().out
