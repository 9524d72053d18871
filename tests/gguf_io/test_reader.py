import io
import json
import os
import shlex
import subprocess
import sys
import tracemalloc

import gguf as peer
import numpy as np
import pytest
from fuzz_reader import fuzz
from handmade import ARRAY, BOOL, F32, I32, STRING, U8, U16, U32, array, gguf, key, scalar, string, tensor

from gguf_io import GGUFError, open_gguf, output, reader
from gguf_io.__main__ import main

ALIGN = "general.alignment"
F32_ROW = np.arange(8, dtype=np.float32).tobytes()  # one aligned tensor of 8 floats
HUGE = (1 << 64) - 1


def write(tmp_path, content: bytes):
    path = tmp_path / "file.gguf"
    path.write_bytes(content)
    return path


# name -> (content, words that the message must hold); the upper-case names are llama.cpp's test-gguf's
BROKEN = {
    "EMPTY_FILE": (b"", "not a GGUF file"),
    "HEADER_BAD_MAGIC": (gguf(magic=b"FUGG"), "magic"),
    "HEADER_BAD_VERSION_0": (gguf(version=0), "version: 0"),
    "HEADER_BAD_VERSION_1": (gguf(version=1), "version: 1"),
    "HEADER_BAD_VERSION_FUTURE": (gguf(version=4), "version: 4"),
    "big-endian": (gguf(version=3 << 24), "big-endian"),
    "HEADER_BAD_N_TENSORS": (gguf(n_tensors=HUGE), f"tensor count: {HUGE}"),
    "HEADER_BAD_N_KV": (gguf(n_keys=HUGE), f"metadata count: {HUGE}"),
    "one tensor too many": (gguf(n_tensors=1), "tensor name 0"),
    "KV_BAD_KEY_SIZE": (gguf([b"\xff" * 8 + b"k" + scalar(U32, 4)]), f"length of metadata key 0: {HUGE}"),
    "KV_EMPTY_KEY": (gguf([key("", U8, b"\1")]), "length of metadata key 0: 0"),
    "key is not UTF-8": (gguf([key(b"\xff", U8, b"\1")]), "UTF-8"),
    "key is not printable": (gguf([key("a\x1b[2J", U8, b"\1")]), "printed"),
    "KV_BAD_TYPE": (gguf([key("k", 13, b"\1")]), "type of k: 13"),
    "KV_DUPLICATE_KEY": (gguf([key("k", U8, b"\1")] * 2), "k: the metadata key occurs twice"),
    "KV_BAD_ALIGN": (gguf([key(ALIGN, U32, scalar(U32, 13))]), f"{ALIGN}: 13"),
    "alignment 0": (gguf([key(ALIGN, U32, scalar(U32, 0))]), f"{ALIGN}: 0"),
    "KV_WRONG_TYPE_ALIGN": (gguf([key(ALIGN, I32, scalar(I32, 32))]), f"{ALIGN}: has value type 5"),
    "string past the end": (gguf([key("k", STRING, b"\xff" * 8)]), f"k: needs {HUGE} bytes"),
    "array past the end": (gguf([key("k", ARRAY, array(U32, [], HUGE))]), f"k: needs {4 * HUGE} bytes"),
    "array of strings past the end": (
        gguf([key("k", ARRAY, array(STRING, [string("a")], 999))]),
        "999 strings",
    ),
    "string in an array of 2**63": (
        gguf([key("k", ARRAY, array(STRING, [b"\0" * 7 + b"\x80"]))]),
        "k: its 1 strings",
    ),
    "too many strings": (gguf([key("k", ARRAY, array(STRING, [], 1 << 40))]), f"count of k: {1 << 40}"),
    "array of unknown type": (gguf([key("k", ARRAY, array(77, [], 1))]), "element type of k: 77"),
    "arrays nested too deep": (
        gguf([key("k", ARRAY, array(ARRAY, []) * 0 + b"".join(array(ARRAY, [], 1) for _ in range(9)))]),
        "count of k",
    ),
    "parts of no number": (
        gguf([key("split.count", STRING, string("2"))]),
        "split.count: '2' is not a number",
    ),
    "TENSORS_BAD_NAME_SIZE": (gguf([], [tensor("n" * 64, [8])], F32_ROW), "length of tensor name 0: 64"),
    "TENSORS_BAD_N_DIMS": (gguf([], [tensor("t", [1] * 5)], F32_ROW), "dimension count of t: 5"),
    "no dimensions": (gguf([], [tensor("t", [])], F32_ROW), "dimension count of t: 0"),
    "TENSORS_BAD_SHAPE": (gguf([], [tensor("t", [HUGE])], F32_ROW), "more than 63 bits"),
    "TENSORS_NE_TOO_BIG": (
        gguf([], [tensor("t", [1 << 32, 1 << 31])], F32_ROW),
        "more than 63 bits",
    ),
    "huge beside a zero": (
        gguf([], [tensor("t", [1 << 62, 0, 1 << 62])], F32_ROW),
        "more than 63 bits",
    ),
    "TENSORS_NBYTES_TOO_BIG": (gguf([], [tensor("t", [1 << 62], 27)], F32_ROW), "more than 63 bits"),
    "no rows of 2**63 bytes": (gguf([], [tensor("t", [1 << 62, 0], 30)], F32_ROW), "more than 63 bits"),
    "TENSORS_BAD_TYPE": (gguf([], [tensor("t", [8], 99)], F32_ROW), "type of t: 99"),
    "a type that ggml removed": (gguf([], [tensor("t", [32], 4)], bytes(64)), "type of t: 4"),
    "block size does not divide": (gguf([], [tensor("t", [33], 2)], bytes(64)), "t: 33 columns"),
    "TENSORS_BAD_OFFSET": (gguf([], [tensor("t", [8], 0, 1)], bytes(64)), "offset of t: 1"),
    "offset of 2**64 - 32": (gguf([], [tensor("t", [8], 0, HUGE - 31)], bytes(64)), "the file ends at"),
    "TENSORS_DUPLICATE_NAME": (
        gguf([], [tensor("t", [8]), tensor("t", [8], 0, 32)], bytes(64)),
        "t: the tensor name",
    ),
    "TENSORS_INCONSISTENT_ALIGN": (
        gguf([key(ALIGN, U32, scalar(U32, 64))], [tensor("t", [8], 0, 32)], bytes(128), alignment=64),
        "offset of t: 32",
    ),
    "tensors overlap": (gguf([], [tensor("t", [16]), tensor("u", [8], 0, 32)], bytes(64)), "offset of u"),
    "DATA_NOT_ENOUGH_DATA": (gguf([], [tensor("t", [8])], F32_ROW[:-1]), "the file ends at"),
    "DATA_MEM_SIZE_OVERFLOW": (
        gguf([], [tensor("t", [0x7FFFFFFFFFFFFFC0], 24)], bytes(64)),
        "the file ends at",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_is_refused_by_file_field_and_value(tmp_path, name):
    content, words = BROKEN[name]
    path = write(tmp_path, content)
    with pytest.raises(GGUFError) as error:
        open_gguf(path)
    assert str(path) in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_every_metadata_type_as_the_gguf_package_writes_it(tmp_path):
    values = {  # method of gguf.GGUFWriter -> value
        "uint8": 255,
        "int8": -128,
        "uint16": 65535,
        "int16": -32768,
        "uint32": 2**32 - 1,
        "int32": -(2**31),
        "float32": 0.5,
        "bool": True,
        "string": "naïve 🙂",
        "uint64": 2**64 - 1,
        "int64": -(2**63),
        "float64": 1e300,
    }
    path = tmp_path / "all.gguf"
    writer = peer.GGUFWriter(path, "test")
    for kind, value in values.items():
        getattr(writer, f"add_{kind}")(f"a.{kind}", value)
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_array("a.strings", ["", "x", "é"])
    writer.add_tensor("t", np.arange(6, dtype=np.float16).reshape(2, 3))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = open_gguf(path)
    for kind, value in values.items():
        assert file.metadata[f"a.{kind}"] == value
    assert file.metadata["a.numbers"].tolist() == [1, 2, 3]
    assert file.metadata["a.strings"] == ["", "x", "é"]
    assert file.tensors["t"].shape == (2, 3)
    assert file.tensors["t"].dequantize().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_version_2_nested_arrays_custom_alignment_and_zero_dimensions(tmp_path):
    nested = array(
        ARRAY, [array(U8, [b"\1", b"\2"]), array(STRING, [string("a"), string("b")]), array(BOOL, [])]
    )
    keys = [key("nested", ARRAY, nested), key(ALIGN, U32, scalar(U32, 1)), key("x", F32, scalar(F32, -1))]
    content = gguf(keys, [tensor("t", [8]), tensor("zero", [4, 0])], F32_ROW, version=2, alignment=1)
    file = open_gguf(write(tmp_path, content))
    numbers, strings, empty = file.metadata["nested"]
    assert (numbers.tolist(), strings, empty.tolist()) == ([1, 2], ["a", "b"], [])
    assert file.metadata["x"] == -1
    assert file.tensors["zero"].data.shape == (0, 16)
    assert file.tensors["t"].dequantize()[0].tolist() == list(range(8))


@pytest.mark.parametrize("value", [array(BOOL, [b"\2"]), b"\2"], ids=["array", "scalar"])
def test_values_are_checked_when_they_are_asked_for(tmp_path, value):
    file = open_gguf(write(tmp_path, gguf([key("k", ARRAY if len(value) > 1 else BOOL, value)])))
    with pytest.raises(GGUFError, match="k: 2 is not a bool"):
        file.metadata["k"]


def test_a_string_that_is_not_utf8_is_refused_by_name(tmp_path):
    bad = array(STRING, [string("a"), string(b"\xff")])
    file = open_gguf(write(tmp_path, gguf([key("one", STRING, string(b"\xff")), key("many", ARRAY, bad)])))
    for name in "one", "many":
        with pytest.raises(GGUFError, match=f"{name}: .*not UTF-8"):
            file.metadata[name]


def test_a_real_file_as_the_gguf_package_reads_it(fixtures):
    ours, theirs = open_gguf(fixtures / "tiny-wide.gguf"), peer.GGUFReader(fixtures / "tiny-wide.gguf")
    fields = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert list(ours.metadata) == list(fields)
    for name, field in fields.items():
        value = ours.metadata[name]
        assert (value.tolist() if isinstance(value, np.ndarray) else value) == field.contents(), name
    assert list(ours.tensors) == [t.name for t in theirs.tensors]
    for their in theirs.tensors:
        mine = ours.tensors[their.name]
        assert (mine.type.id, mine.offset, mine.nbytes) == (
            their.tensor_type,
            their.data_offset,
            their.n_bytes,
        )
        assert mine.shape == tuple(their.shape.tolist()[::-1])
        assert mine.data.tobytes() == their.data.tobytes()
        assert not mine.data.flags.owndata


def test_rows_of_a_quantized_matrix_as_a_tensor_of_their_own(tmp_path):
    row = bytes(range(1, 19))  # a block of Q4_0: 32 weights in 18 bytes
    other = bytes(18)
    whole = open_gguf(write(tmp_path, gguf([], [tensor("t", [32, 3], 2)], other + row + other))).tensors["t"]
    part = whole.part(1, 2)
    assert (part.name, part.shape, part.nbytes) == ("t", (1, 32), 18)
    assert part.data.tobytes() == row


def test_a_split_file_equals_the_whole_one(fixtures):
    whole = open_gguf(fixtures / "tiny.gguf")
    for part in 1, 2:
        split = open_gguf(fixtures / f"split-{part:05}-of-00002.gguf")
        assert split.metadata["general.name"] == whole.metadata["general.name"]
        assert split.tensors.keys() == whole.tensors.keys()
        for name, want in whole.tensors.items():
            assert split.tensors[name].data.tobytes() == want.data.tobytes()


def test_split_files_that_do_not_belong_together(fixtures, tmp_path):
    first, second = (fixtures / f"split-0000{n}-of-00002.gguf" for n in (1, 2))
    lone = tmp_path / "lone-00001-of-00002.gguf"
    lone.write_bytes(first.read_bytes())
    with pytest.raises(GGUFError, match=r"lone-00002-of-00002\.gguf: cannot be opened: No such file"):
        open_gguf(lone)
    (tmp_path / "lone-00002-of-00002.gguf").write_bytes(first.read_bytes())
    with pytest.raises(GGUFError, match=r"split\.no: 0 should be 1"):
        open_gguf(lone)
    renamed = tmp_path / "renamed.gguf"
    renamed.write_bytes(second.read_bytes())
    with pytest.raises(GGUFError, match="is one of 2 parts, but its name"):
        open_gguf(renamed)


def part(path, count=2, tensors="", **more):
    """A part of a split file, with tensors of these names. The numbers of keys are as llama-gguf-split's."""
    kinds = {"split.no": U16, "split.count": U16, "split.tensors.count": I32}
    values = {"split.no": int(path.name[6:11]) - 1, "split.count": count} | more
    keys = [key(name, kinds[name], scalar(kinds[name], value)) for name, value in values.items()]
    path.write_bytes(
        gguf(keys, [tensor(name, [8], 0, 32 * i) for i, name in enumerate(tensors)], F32_ROW * 2)
    )


@pytest.mark.parametrize(
    "name, first, second, words",
    [
        ("split-00001-of-00003.gguf", {}, {}, "is one of 2 parts, but its name does not end in"),
        (
            "split-00001-of-00002.gguf",
            dict(tensors="ab"),
            dict(tensors="ca"),
            "00002.gguf: a: the tensor is in",
        ),
        *(
            (
                "split-00001-of-00002.gguf",
                {"tensors": "ab", "split.tensors.count": said},
                dict(tensors="c"),
                f"00001-of-00002.gguf: split.tensors.count: {said} should be 3",
            )
            for said in (2, 4)
        ),
    ],
)
def test_parts_that_do_not_hold_what_they_say(tmp_path, name, first, second, words):
    part(tmp_path / name, **first)
    part(tmp_path / name.replace("00001", "00002", 1), **second)
    with pytest.raises(GGUFError, match=words):
        open_gguf(tmp_path / name)


def test_what_just_fits(tmp_path, monkeypatch):
    """No keys and no tensors, the longest names, the deepest arrays, and strings of all arrays together."""
    assert not open_gguf(write(tmp_path, gguf(alignment=1))).metadata  # 24 bytes
    longest = gguf([key("k" * 65_535, U8, b"\1")], [tensor("t" * 63, [8])], F32_ROW)
    file = open_gguf(write(tmp_path, longest))
    assert (*file.metadata, *file.tensors) == ("k" * 65_535, "t" * 63)
    deep = array(U8, [b"\7"])
    for _ in range(4):
        deep = array(ARRAY, [deep])
    [[[[numbers]]]] = open_gguf(write(tmp_path, gguf([key("k", ARRAY, deep)]))).metadata["k"]
    assert numbers.tolist() == [7]
    monkeypatch.setattr(reader, "MAX_WALKED", 5)
    three = key("k", ARRAY, array(STRING, [string("a")] * 3))
    two = key("m", ARRAY, array(STRING, [string("b")] * 2))
    assert open_gguf(write(tmp_path, gguf([three, two]))).metadata["m"] == ["b", "b"]
    for content, words in (
        (gguf([key("k", ARRAY, array(ARRAY, [deep]))]), "count of k: 1 nested values"),
        (gguf([three, key("m", ARRAY, array(STRING, [string("b")] * 3))]), "count of m: 3 nested values"),
    ):
        with pytest.raises(GGUFError, match=words):
            open_gguf(write(tmp_path, content))


def test_not_a_file(tmp_path):
    with pytest.raises(GGUFError, match="is a directory"):
        open_gguf(tmp_path)
    with pytest.raises(GGUFError, match="cannot be opened: No such file"):
        open_gguf(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GGUFError, match="not a regular file"):
        open_gguf(tmp_path / "pipe")


def test_the_largest_header_allocates_little(tmp_path):
    path = write(tmp_path, gguf([key(f"{i:0125}", U8, b"\1") for i in range(65_536)]))
    tracemalloc.start()
    try:
        assert len(open_gguf(path).metadata) == 65_536
        path.write_bytes(gguf([key(f"{i:0129}", U8, b"\1") for i in range(65_536)]))
        with pytest.raises(GGUFError, match="all names together"):
            open_gguf(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_mutated_files_give_a_result_or_a_gguf_error(fixtures):
    assert fuzz([fixtures / "tiny.gguf"], files=1500, seed=0) > 100  # that many were still valid


def run(*args):
    return subprocess.run([sys.executable, "-m", "gguf_io", *map(str, args)], capture_output=True, text=True)


def test_command_line(fixtures, tmp_path):
    path = fixtures / "tiny-wide.gguf"
    shown = run(path)
    assert shown.returncode == 0
    assert "blk.3.attn_q.weight" in shown.stdout and "Q4_K" in shown.stdout
    told = json.loads(run(path, "--json").stdout)
    assert told["metadata"]["tokenizer.ggml.tokens"]["count"] == 1024
    assert told["tensors"][0]["bytes"] > 0
    assert run(path, "--key", "general.architecture").stdout == "qwen35\n"
    bad = run(write(tmp_path, b"text" * 20))
    assert bad.returncode == 2 and bad.stdout == "" and bad.stderr.count("\n") == 1
    assert run(path, "--key", "none").returncode == 2


def test_what_is_shown(tmp_path, capsys):
    def numbers(count):
        return array(U8, [bytes([i]) for i in range(count)])

    keys = [
        key("eight", ARRAY, numbers(8)),
        key("nine", ARRAY, numbers(9)),
        key("words", ARRAY, array(STRING, [string(word) for word in "abcdefghi"])),
        key("nested", ARRAY, array(ARRAY, [numbers(2), array(STRING, [string("ä")])])),
        key("whole", STRING, string("é" * 98)),
        key("cut", STRING, string("é" * 99)),
    ]
    path = write(tmp_path, gguf(keys, [tensor("t", [256, 3072])], bytes(3 << 20)))
    assert main([str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: GGUF version 3, 6 keys, 1 tensors, 3.0 MiB of weights",
        "",
        "eight   [0, 1, 2, 3, 4, 5, 6, 7]",
        'nine    {"count": 9, "first": [0, 1, 2, 3, 4, 5, 6, 7]}',
        'words   {"count": 9, "first": ["a", "b", "c", "d", "e", "f", "g", "h"]}',
        'nested  [[0, 1], ["ä"]]',
        f'whole   "{"é" * 98}"',
        f'cut     "{"é" * 98}…',
        "",
        "t  F32            3,072 × 256        3.00 MiB",
    ]
    for arguments, shown in (["nested"], [[0, 1], ["ä"]]), (["cut", "--json"], "é" * 99):
        assert main([str(path), "--key", *arguments]) == 0
        assert json.loads(capsys.readouterr().out) == shown
    assert main([str(path), "--json"]) == 0
    shown = capsys.readouterr().out
    told = json.loads(shown)
    assert shown == json.dumps(told, indent=1) + "\n"
    assert list(told) == ["path", "version", "metadata", "tensors"]
    assert (told["path"], told["version"], told["metadata"]["cut"]) == (str(path), 3, "é" * 99)
    assert told["metadata"]["nine"] == {"count": 9, "first": [*range(8)]}
    at = path.stat().st_size - (3 << 20)
    row = {"name": "t", "shape": [3072, 256], "type": "F32", "offset": at, "bytes": 3 << 20}
    assert told["tensors"] == [row]
    assert main([str(path), "--key", ""]) == 2
    assert capsys.readouterr().err == f"gguf_io: {path}: has no metadata key ''\n"
    assert main([str(write(tmp_path, gguf()))]) == 0
    assert capsys.readouterr().out == f"{path}: GGUF version 3, 0 keys, 0 tensors, 0.0 MiB of weights\n\n\n"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "the following arguments are required: file"),
        (["a", "--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_arguments_that_cannot_be_used(capsys, arguments, words):
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"gguf_io: {words}; python -m gguf_io --help lists what there is\n"


def test_ctrl_c_while_a_file_is_shown(monkeypatch):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("gguf_io.__main__.open_gguf", interrupted)
    assert main(["a.gguf"]) == 130


def test_parts_joined_end_to_end_are_told(fixtures, tmp_path):
    real, other = ((fixtures / f"split-0000{n}-of-00002.gguf").read_bytes() for n in (1, 2))
    made = gguf([], [tensor("t", [9])], bytes(36))
    for first in real, made, made + bytes(28):  # padded behind the last tensor or not
        with pytest.raises(GGUFError, match=rf"another GGUF file begins at byte {len(first)}, .*end to end"):
            open_gguf(write(tmp_path, first + other))


def test_help_and_its_examples(fixtures, capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    for words in (
        "usage: python -m gguf_io [-h] [--json] [--key KEY] file Print the metadata and the tensor table",
        "file the GGUF file, or any part of a split one",
        "--json print JSON; long arrays as their count and beginning",
        "--key KEY print only this metadata value, whole examples: python",
    ):
        assert words in " ".join(shown.split())
    examples = [line for line in shown.splitlines() if line.startswith("  python -m gguf_io ")]
    assert len(examples) == 3
    for example in examples:
        arguments = shlex.split(example.partition(" | ")[0])[3:]
        assert arguments[0] == "model.gguf"
        assert main([str(fixtures / "tiny.gguf"), *arguments[1:]]) == 0 and capsys.readouterr().out


def test_output_that_goes_nowhere(fixtures, monkeypatch, capsys):
    """What did not go out is dropped: a second complaint, as the stream is closed, would be Python's."""
    ends = os.pipe()
    os.close(ends[0])
    full = "gguf_io: standard output: No space left on device\n"
    for file, status, told in ("/dev/full", 2, full), (ends[1], 0, ""):
        with open(file, "w") as stream:
            monkeypatch.setattr("sys.stdout", stream)
            assert (main([str(fixtures / "tiny.gguf")]), capsys.readouterr().err) == (status, told)
            stream.write("more")
    monkeypatch.setattr("sys.stdout", None)
    assert main([str(fixtures / "tiny.gguf")]) == 2
    assert capsys.readouterr().err == "gguf_io: standard output is closed\n"


def test_letters_and_bytes_that_an_encoding_has_not(monkeypatch):
    streams = [io.TextIOWrapper(io.BytesIO(), "ascii") for _ in range(2)]
    monkeypatch.setattr("sys.stdout", streams[0])
    monkeypatch.setattr("sys.stderr", streams[1])
    output.prepare()
    for stream in streams:
        print("a\udcff\udc80é×b", end="", file=stream, flush=True)
        assert stream.buffer.getvalue() == b"a\xff\x80\\xe9\\xd7b"
