"""The plugin as an engine's author has it: pytest runs in a folder of its own, by the entry point alone."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qwen_ref import QwenRefError
from qwen_ref.engine.look import untiled
from qwen_ref.oracle.check import check
from qwen_ref.oracle.golden import load
from qwen_ref.pytest_plugin import arguments

pytest_plugins = "pytester"

MODEL = Path(__file__).parents[1] / "fixtures" / "tiny-grouped.gguf"
Q, GATE = "layers.3.self_attn.q_proj", "layers.3.self_attn.gate"
TEST = f"""
    import numpy as np
    import pytest

    @pytest.mark.qwen_golden("hello.safetensors", model={str(MODEL)!r}, prompt="Hello there", raw=True)
    def test_engine(qwen_golden):
        golden = qwen_golden()
        assert golden.config.num_layers == 4 and golden.inputs["token_ids"].tolist()[:2] == [39, 68]
        with np.load("dump.npz") as dump:
            golden.check(dict(dump))
"""


@pytest.fixture(scope="module")
def golden_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / "hello.safetensors"
    line = [sys.executable, "-m", "qwen_ref", "golden", "record", "--model", MODEL, "--raw", "--out", path]
    subprocess.run([*line, "--prompt", "Hello there"], check=True, capture_output=True)
    return path


def exact(path):
    """What a faultless engine would find."""
    golden = load(path)
    return {name: x.reshape(golden.entries[name].shape) for name, x in golden.values.items()}


@pytest.fixture
def project(pytester, golden_file):
    """A project with a test, the golden beside it, and a faultless engine."""
    pytester.makepyfile(test_engine=TEST)
    pytester.mkdir("goldens")
    shutil.copy(golden_file, pytester.path / "goldens")
    np.savez(pytester.path / "dump.npz", **exact(golden_file))
    return pytester


def test_it_costs_a_run_without_goldens_nothing():
    heavy = "numpy", "numba", "safetensors", "gguf_io", "qwen_ref.engine"
    script = f"import sys, qwen_ref.pytest_plugin; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"


def test_marker_and_fixture(project):
    project.runpytest("--strict-markers").assert_outcomes(passed=1)


def test_a_failure_says_where_what_and_why(project, golden_file):
    found = exact(golden_file)
    found[Q] = found[GATE]
    del found["layers.3.input_layernorm"], found["logits"]
    np.savez("dump.npz", **found)
    result = project.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            f"E *AssertionError: {Q} is the first tensor that float32 does not explain: * × the budget",
            "E *likely cause: query and gate are swapped",
            "E *layers.2.output * 0 %  float64",
            f"E *> {Q} * × *-",
            f"E *{GATE} * 0 %  float64",
            f"E *not given, and computed right before {Q}: layers.3.input_layernorm",
            "E *146 of 148 tensors were compared; not given: layers.3.input_layernorm, logits",
        ]
    )
    result.stdout.no_fnmatch_line("*check.py:*")  # the traceback ends in the engine's test


def test_unless_told_float32_has_to_explain_it(project, golden_file):
    np.savez("dump.npz", **{name: x.astype(np.float16) for name, x in exact(golden_file).items()})
    project.makepyfile(test_engine=TEST, test_other=TEST.replace("raw=True", "raw=True, allow='float16'"))
    project.runpytest().assert_outcomes(passed=1, failed=1)


def test_update_records_the_truth_and_not_the_engine(project, golden_file):
    recorded = project.path / "goldens" / golden_file.name
    recorded.write_bytes(b"nothing of use")
    np.savez("dump.npz", **{Q: np.zeros_like(exact(golden_file)[Q])})
    project.makepyfile(test_another=TEST.replace("Hello there", "Something else"))
    result = project.runpytest("--golden-update", "test_engine.py", "test_another.py")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["E *is the first tensor*", "E *hello.safetensors: cannot be recorded both *"]
    )
    assert recorded.read_bytes() == golden_file.read_bytes()


def test_heads_in_ggufs_order(project, golden_file):
    """Said by the marker, or at the check, which goes before it; they are converted back for this test."""
    golden, found = load(golden_file), exact(golden_file)
    back = np.argsort(untiled(np.arange(golden.config.linear_num_value_heads), 0, golden.config))
    tensor = "layers.0.linear_attn.o"
    np.savez("dump.npz", **{tensor: found[tensor][:, back], "logits": found["logits"]})
    project.makepyfile(
        test_engine=TEST,
        test_marked=TEST.replace("raw=True", "raw=True, tiled=True"),
        test_asked=TEST.replace("dict(dump)", "dict(dump), tiled=True"),
        test_both=TEST.replace("raw=True", "raw=True, tiled=True").replace("(dump)", "(dump), tiled=False"),
    )
    project.runpytest("--golden-update").assert_outcomes(passed=2, failed=2)


def test_a_failure_is_one_screen(project, golden_file):
    """Of an engine that does all wrong: 30 lines of ours, of what a terminal shows at once."""
    found = exact(golden_file)
    wrong = {name: x[..., :-1] for name, x in found.items() if "mlp" in name} | {Q: found[GATE]}
    odd = {f"layers.3.{'x' * 500}{number}": [0.0] for number in range(50)}
    np.savez("dump.npz", **(found | wrong | odd))
    result = project.runpytest()
    lines = [line for line in result.outlines if line.startswith("E ")]
    assert len(lines) <= 30 and max(map(len, lines)) < 600
    result.stdout.fnmatch_lines(["E *mlp.gate_proj: shape *", "E *18 more are of a wrong shape"])


def test_without_a_model_it_is_recorded_from_the_one_that_ships(project):
    project.makepyfile(
        test_other="""
        import pytest

        @pytest.mark.qwen_golden("new.safetensors", prompt="Hi", generate=0, names=["logits"])
        def test_new(qwen_golden):
            assert qwen_golden().about["file"] == "tiny-Q4_K_M.gguf"
        """
    )
    project.runpytest("--golden-update", "test_other.py").assert_outcomes(passed=1)


def test_settings(project):
    """The folder of all goldens, and a call that goes before the marker."""
    project.makeini("[pytest]\nqwen_golden_dir = elsewhere\nqwen_golden_model = nowhere.gguf")
    (project.path / "goldens").rename("elsewhere")
    project.makepyfile(
        test_engine=TEST,
        test_other="""
        import numpy as np
        import pytest

        @pytest.mark.qwen_golden("no-such.safetensors", allow="float64")
        @pytest.mark.parametrize("allow", ["bfloat16", None])
        def test_rounded(qwen_golden, allow):
            golden = qwen_golden("hello.safetensors", **({"allow": allow} if allow else {}))
            with np.load("dump.npz") as dump:
                golden.check({name: x.astype(np.float16) for name, x in dump.items()})

        @pytest.mark.qwen_golden("new.safetensors", prompt="?")
        def test_new(qwen_golden):
            qwen_golden()
        """,
    )
    result = project.runpytest()
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*the first tensor that float64 does not explain*"])
    result = project.runpytest("--golden-update", "-k", "new")
    result.stdout.fnmatch_lines(["E *new.safetensors: cannot be recorded: qwen_ref: *nowhere.gguf: *"])


UNUSABLE = {
    "": {
        "": "qwen_golden: neither the call nor a marker names a file",
        "'new.safetensors'": "*new.safetensors: there is no such file; record it with: *--golden-update",
        "'bad.safetensors'": "*bad.safetensors: is no whole safetensors or npz file: *",
        "'hello.safetensors'": "*logits: type <U1 is none of numbers",
    },
    "--golden-update": {
        "'other.safetensors', model='x', prompt='?', colour='red'": "*cannot be recorded: *--colour*",
    },
}


@pytest.mark.parametrize("option", UNUSABLE)
def test_what_cannot_be_used_is_said_in_a_sentence(project, option):
    (project.path / "goldens" / "bad.safetensors").write_bytes(b"nothing of use")
    test = """
        @pytest.mark.qwen_golden({})
        def test_{}(qwen_golden):
            qwen_golden().check({{"logits": ["a"]}})
    """
    tests = [test.format(marker, number) for number, marker in enumerate(UNUSABLE[option])]
    project.makepyfile(test_other="\n".join(["        import pytest", *tests]))
    result = project.runpytest("test_other.py", *option.split())
    result.assert_outcomes(failed=len(tests))
    result.stdout.fnmatch_lines([f"E *Failed: {sentence}" for sentence in UNUSABLE[option].values()])


def test_options_of_the_command():
    options = dict(model="a.gguf", raw=True, thinking=False, names=["*.o", "norm"], image=["a.png", "b.png"])
    assert arguments(options) == (
        "--model=a.gguf --raw --no-thinking --names *.o norm --image=a.png --image=b.png".split()
    )


# ---- without pytest: qwen_ref.oracle.check


class OnlyDLPack:
    def __init__(self, x):
        self.x = x

    def __dlpack__(self, **options):
        return self.x.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.x.__dlpack_device__()


class LikeJax:
    def __init__(self, x):
        self.x = x

    def __array__(self, dtype=None, copy=None):
        return self.x


@pytest.mark.parametrize("kind", [np.asarray, OnlyDLPack, LikeJax])
def test_arrays_of_other_frameworks(golden_file, kind):
    found = exact(golden_file)
    assert check(golden_file, {Q: kind(found[Q].copy())}, "float64").first is None
    with pytest.raises(AssertionError, match="query and gate are swapped"):
        check(golden_file, {Q: kind(found[GATE].copy())}, "float64")


def test_names_have_to_be_there(golden_file):
    golden, found = load(golden_file), exact(golden_file)
    some = {Q: found[Q], "logits": found["logits"]}
    assert len(check(golden, some, names=["log*"]).differences) == 2
    with pytest.raises(AssertionError, match=f"1 of 2 tensors were not given: {GATE}"):
        check(golden, some, names=[Q, GATE])
    with pytest.raises(QwenRefError, match="names: no tensor of the golden fits x, y"):
        check(golden, some, names=["x", "y"])


def test_one_tensor_passes_and_what_was_not_judged_is_said(project):
    """Also from parts: the prompt's and each step's."""
    project.makepyfile(
        test_engine=f"""
        import numpy as np

        def test_one(qwen_golden):
            golden = qwen_golden("hello.safetensors")
            with np.load("dump.npz") as dump:
                assert golden.check({{{Q!r}: dump[{Q!r}], "misspelt": 0}}).verdict == "partly judged"

        def test_steps(qwen_golden):
            golden = qwen_golden("hello.safetensors")
            P = golden.about["prompt_tokens"]
            with np.load("dump.npz") as dump:
                x = dump["logits"]
                report = golden.check([{{"logits": x[:P]}}, *({{"logits": row}} for row in x[P:])])
            assert (report.verdict, report.decoding) == ("right", "8 steps")
    """
    )
    result = project.runpytest("-rP", "-Wdefault")
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "*UserWarning: not compared, since no golden has such names: misspelt",
            "partly judged",
            "1 of 148 tensors were compared; not given: *",
            "logits: not judged",
            "decoding: not judged",
        ]
    )
