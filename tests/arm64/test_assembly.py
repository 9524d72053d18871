"""That the emulator runs the machine code of other processors as they do, and counts what it runs.

Each is a process of its own: what Numba compiles for is set once.
"""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import segments

HERE = Path(__file__).parent


def said(cpu: str | None, program: str) -> str:
    """What a program prints, with the emulator if there is a processor."""
    lines = ["import os, sys", f"sys.path[:0] = [{str(HERE)!r}]"]
    lines += [f"os.environ['NUMBA_CPU_NAME'] = {cpu!r}", "import emulator"] if cpu else []
    return subprocess.check_output([sys.executable, "-c", "\n".join([*lines, program])], text=True)


@pytest.mark.parametrize("cpu", ["cortex-a76", "cortex-a72"])
def test_an_answer_is_that_of_this_machine(cpu, fixtures):
    program = (
        "import qwen_ref\n"
        f"model = qwen_ref.load({str(fixtures / 'tiny-wide.gguf')!r})\n"
        "answer = model.generate('Tell me a story.', max_tokens=12, temperature=0, presence_penalty=0)\n"
        "list(answer)\n"
        "print(answer.token_ids)"
    )
    ours = json.loads(said(None, program))
    assert len(ours) == 12 and json.loads(said(cpu, program)) == ours


@pytest.mark.parametrize("cpu", ["cortex-a76", "cortex-a72"])
def test_products_are_those_of_this_machine(cpu):
    """To the last bit: for few tokens, for as many as meet together, and for more. 16 rows and 24."""
    program = """
import hashlib, json, gguf, numpy as np
from qwen_ref.kernels import layers, quantize
rng, found = np.random.default_rng(0), {}
for name, (matmul, *_) in layers.INTEGER.items():
    kind = gguf.GGMLQuantizationType[name]
    columns, size = gguf.GGML_QUANT_SIZES[kind]
    w = rng.integers(0, 256, (24, 512 // columns, size), np.uint8)
    for scale in {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}.get(name, (0,)):
        halves = rng.random((*w.shape[:2], 1), np.float32).astype(np.float16)
        w[..., scale : scale + 2] = halves.view(np.uint8)
    w = w.reshape(24, -1)
    w.flags.writeable = False
    for tokens in 1, 5, 6, 20:
        x = rng.standard_normal((tokens, 512)).astype(np.float32)
        rows, y = quantize.new_quantized(tokens, 512), np.empty((tokens, 24), np.float32)
        (quantize.quantize_one if tokens == 1 else quantize.quantize_many)(x, *rows)
        matmul(w, *rows, y)
        assert np.isfinite(y).all(), name
        found[f"{name} {tokens}"] = hashlib.sha256(y.tobytes()).hexdigest()
print(json.dumps(found))
"""
    ours = json.loads(said(None, program))
    assert len(ours) == 28 and json.loads(said(cpu, program)) == ours


def test_a_picture_is_seen_as_here(fixtures):
    program = (
        "import json, numpy as np, qwen_ref\n"
        f"folder = {str(fixtures)!r}\n"
        "model = qwen_ref.load(folder + '/tiny.gguf', mmproj=folder + '/mmproj-tiny.gguf')\n"
        "patches = np.random.default_rng(0).standard_normal((400, 1536)).astype(np.float32)\n"
        "print(json.dumps(model.vision.encode(patches, (1, 20, 20)).tolist()))"
    )
    ours, found = (np.array(json.loads(said(cpu, program))) for cpu in (None, "cortex-a76"))
    assert np.abs(found - ours).max() < 1e-4 * np.abs(ours).max()


def test_cycles_are_those_of_arm_s_guide():
    """Of the Neoverse N1: one multiplication after another takes 2 cycles, of 64 bits 4; loads go in pairs.
    Three times the same is three times as much."""
    program = """
import ctypes, json
words = [0x1B007C00], [0x9B007C00], [0xF9400020, 0xF9400022]  # mul w0, w0, w0; mul x0, x0, x0; ldr x0, ldr x2
codes = [b"".join(word.to_bytes(4, "little") for word in given) * 10 for given in words]
places = [ctypes.create_string_buffer(code, len(code)) for code in codes]
spans = [(ctypes.addressof(place), len(place)) for place in places]
print(json.dumps([emulator.cycles({span: n}) for span in spans for n in (1, 3)]))
"""
    found = json.loads(said("cortex-a76", program))
    assert found == pytest.approx([20, 60, 40, 120, 10, 30], rel=0.02)


def test_what_is_run_twice_is_counted_twice():
    """A row of a matrix is as long whatever stands beside it, and threads share it."""
    program = """
import json, numpy as np
from qwen_ref.kernels import elementwise
found = []
for rows in 1, 2, 4:
    x = np.ones((rows, 256), np.float32)
    alone, shared = emulator.counted(lambda: elementwise.rms_norm_many(x, x[0], 1e-6, np.empty_like(x)))
    found.append([sum(size * n for (_, size), n in counts.items()) for counts in (alone, shared)])
_, few = emulator.counted(lambda: elementwise.rms_norm_many(x, x[0], 1e-6, np.empty_like(x)), turns=2)
found.append(sum(size * n for (_, size), n in few.items()))
print(json.dumps(found))
"""
    (alone, one), (_, two), (still, four), half = json.loads(said("cortex-a76", program))
    assert four - two == 2 * (two - one) > 0 and alone == still
    assert half == 2 * two  # of four turns two are run


def test_stretches_end_where_the_number_of_times_changes():
    program = (
        "from collections import Counter\n"
        "print(sorted(emulator.stretches(Counter({(0, 8): 2, (8, 4): 2, (4, 4): 3, (20, 4): 1})).items()))"
    )
    assert said("cortex-a76", program).strip() == "[((0, 4), 2), ((4, 4), 5), ((8, 4), 2), ((20, 4), 1)]"


@pytest.mark.skipif(not shutil.which("readelf"), reason="there are no binutils")
def test_alignments_are_those_that_readelf_tells():
    library = next(Path(np.__file__).parent.rglob("*.so"))
    told = subprocess.check_output(["readelf", "-lW", library], text=True)
    loads = [line.split() for line in told.splitlines() if line.strip().startswith("LOAD")]
    assert segments.alignments(library.read_bytes()) == [int(line[-1], 16) for line in loads] != []


def test_a_wheel_for_small_pages_only_is_refused(tmp_path, capsys):
    import zipfile

    def elf(align: int) -> bytes:
        """Two segments, of which one is for the largest pages."""
        header = bytearray(64)
        header[:4] = b"\x7fELF"
        struct.pack_into("<Q", header, 32, 64)
        struct.pack_into("<HH", header, 54, 56, 2)
        parts = [struct.pack("<IIQQQQQQ", segments.LOAD, 5, 0, 0, 0, 0, 0, n) for n in (1 << 16, align)]
        return bytes(header) + b"".join(parts)

    for name, align in ("a.so", 1 << 14), ("b.so", 1 << 12):
        with zipfile.ZipFile(tmp_path / f"{name}.whl", "w") as wheel:
            wheel.writestr(f"package/{name}", elf(align))
            wheel.writestr("package/__init__.py", "")
    wheels = [str(path) for path in sorted(tmp_path.glob("*.whl"))]
    assert segments.main(wheels[:1]) == 0 and segments.main([]) == 1
    capsys.readouterr()
    assert segments.main(wheels) == 1
    assert capsys.readouterr().out == (
        "2 shared objects in 2 wheels, segments aligned: 1 to 4 KB, 1 to 16 KB package/b.so\n"
    )
