"""Which vision file a model gets, and towers that lie inside the model's own file, as Ollama stores them."""

import shutil

import gguf
import numpy as np
import pytest
from rewrite import rewrite

from gguf_io import GGUFError
from qwen_ref import QwenRefError, load
from qwen_ref.vision_file import find_vision_file

PATCHES = np.random.default_rng(0).standard_normal((16, 1536)).astype(np.float32)


def look(model):
    """What the tower makes of 4 x 4 patches: [4, hidden]."""
    return model.vision.encode(PATCHES, (1, 4, 4))


def test_the_vision_file_of_this_size_is_found_among_others(fixtures, tmp_path, caplog):
    for name in ("tiny.gguf", "tiny-wide.gguf"):
        shutil.copy(fixtures / name, tmp_path)
    (tmp_path / "mmproj.txt").touch()
    (tmp_path / "a-mmproj-broken.gguf").write_bytes(b"GGUF")
    shutil.copy(fixtures / "tiny.gguf", tmp_path / "b-mmproj-text.gguf")
    narrow, wide = (load(tmp_path / f"{name}.gguf") for name in ("tiny", "tiny-wide"))
    with pytest.raises(
        QwenRefError,
        match=r"none that fits .*\(a-mmproj-broken.gguf: is not .*; b-mmproj-text.gguf: g[^;]*; give",
    ):
        find_vision_file(tmp_path / "tiny.gguf", narrow.config, None)
    shutil.copy(fixtures / "mmproj-tiny.gguf", tmp_path / "MMPROJ-F16.GGUF")
    found = find_vision_file(tmp_path / "tiny.gguf", narrow.config, None)
    assert found.path == tmp_path / "MMPROJ-F16.GGUF" and not caplog.records
    with pytest.raises(GGUFError, match="the path is empty"):
        load(tmp_path / "tiny.gguf", mmproj="")
    with pytest.raises(QwenRefError, match=r"MMPROJ-F16.GGUF is for a hidden size of 64, not 256"):
        find_vision_file(tmp_path / "tiny-wide.gguf", wide.config, None)


@pytest.mark.parametrize(
    "types, chosen",
    [
        (["F16", "BF16", "F32"], "BF16"),
        (["Q8_0", "F16"], "F16"),
        (["Q8_0", "Q4_0"], "Q8_0"),
        (["F32", "F16"], "F32"),
        (["Q5_1", "Q4_0"], "Q4_0"),
    ],
)
def test_of_several_the_one_that_lost_least_is_chosen_and_named(fixtures, tmp_path, caplog, types, chosen):
    """By what the files hold: here every name says something else."""
    source = gguf.GGUFReader(fixtures / "mmproj-tiny.gguf")
    matrices = {
        t.name: gguf.dequantize(t.data, t.tensor_type) for t in source.tensors if t.tensor_type.name == "BF16"
    }
    for i, kind in enumerate(types):
        kind = gguf.GGMLQuantizationType[kind]
        writer = gguf.GGUFWriter(tmp_path / f"{len(types) - i}-mmproj-F32.gguf", "clip")
        for name, field in source.fields.items():
            if name.startswith("clip."):
                value = field.contents()
                add = writer.add_array if isinstance(value, list) else writer.add_key_value
                add(name, value, *([] if isinstance(value, list) else [field.types[0]]))
        for tensor in source.tensors:
            if tensor.name in matrices:
                writer.add_tensor(tensor.name, gguf.quantize(matrices[tensor.name], kind), raw_dtype=kind)
            else:
                writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    shutil.copy(fixtures / "tiny.gguf", tmp_path)
    model = load(tmp_path / "tiny.gguf")
    name = f"{len(types) - types.index(chosen)}-mmproj-F32.gguf"
    assert model.vision.file.path.name == name
    assert f") {name} is used; --mmproj names another" in caplog.text


def test_a_missing_key_of_the_only_vision_file_is_named(fixtures, tmp_path):
    shutil.copy(fixtures / "tiny.gguf", tmp_path)
    rewrite(fixtures / "mmproj-tiny.gguf", tmp_path / "mmproj.gguf", drop_keys=["clip.vision.image_mean"])
    with pytest.raises(
        QwenRefError, match=r"mmproj.gguf: clip.vision.image_mean: the metadata key is missing"
    ):
        _ = load(tmp_path / "tiny.gguf").vision


REFUSED = {
    "a tensor": (
        dict(add={"v.deepstack.5.norm.bias": np.ones(3, np.float32)}),
        "v.deepstack.5.norm.bias: a tensor",
    ),
    "audio": (
        dict(add={"a.blk.0.ln1.bias": np.ones(3, np.float32)}),
        "a.blk.0.ln1.bias: a tensor that nothing",
    ),
    "a key": (
        dict(change={"clip.vision.n_wa_pattern": 4}),
        "clip.vision.n_wa_pattern: 4: this key is not known",
    ),
    "SiLU": (dict(change={"clip.use_silu": True}), "clip.use_silu: True is not supported, only False"),
    "another model's": (
        dict(change={"clip.vision.projection_dim": 2048}),
        r"projection_dim: 2048 \(Qwen3.5 2B\) does not fit tiny.gguf, whose hidden size is 64",
    ),
    "one colour": (
        dict(change={"clip.vision.image_mean": [0.5]}),
        r"image_mean: \(0.5,\) are not three numbers",
    ),
    "a colour of no numbers": (
        dict(change={"clip.vision.image_std": ["a", "b", "c"]}),
        r"image_std: \['a', 'b', 'c'\] is no list of numbers",
    ),
    "nothing between black and white": (
        dict(change={"clip.vision.image_std": [0.5, 0.0, 0.5]}),
        r"image_std: \(0.5, 0.0, 0.5\) are not positive",
    ),
    "heads of two": (
        dict(change={"clip.vision.attention.head_count": 16}),
        "head_count: 16 heads do not fit a width of 32",
    ),
    "deepstack": (
        dict(drop_keys=["clip.vision.is_deepstack_layers"], change={"clip.vision.is_deepstack_layers": True}),
        "is_deepstack_layers: is set, so this is Qwen3-VL",
    ),
    "pixels": (
        dict(change={"clip.vision.image_min_pixels": 999, "clip.vision.image_max_pixels": 998}),
        "clip.vision.image_max_pixels: 998 is less than image_min_pixels, 999",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_vision_file_says_is_used_or_refused(fixtures, tmp_path, name):
    changes, words = REFUSED[name]
    path = rewrite(fixtures / "mmproj-tiny.gguf", tmp_path / "mmproj.gguf", **changes)
    with pytest.raises(QwenRefError, match=words):
        _ = load(fixtures / "tiny.gguf", mmproj=path).vision


def test_what_a_vision_file_may_say(fixtures, tmp_path):
    """Black for a mean, one size for all pictures, and the projector's kind under its other key."""
    said = {"image_mean": [0.0, 0.0, 0.0], "image_min_pixels": 4096, "image_max_pixels": 4096}
    said |= {"projector_type": "qwen3vl_merger"}
    path = rewrite(
        fixtures / "mmproj-tiny.gguf",
        tmp_path / "mmproj.gguf",
        change={f"clip.vision.{key}": value for key, value in said.items()},
        drop_keys=["clip.projector_type"],
    )
    config = load(fixtures / "tiny.gguf", mmproj=path).vision.config
    assert config.image_mean == (0, 0, 0) and config.image_pixels == (4096, 4096)


NAMES = {  # of llama.cpp's converter -> Ollama's
    "v.position_embd.": "v.pos_embed.",
    "v.patch_embd.": "v.patch_embed.",
    "v.post_ln.": "v.merger.norm.",
    "mm.0.": "v.merger.linear_fc1.",
    "mm.2.": "v.merger.linear_fc2.",
    ".ffn_up.": ".mlp.linear_fc1.",
    ".ffn_down.": ".mlp.linear_fc2.",
    ".ln1.": ".norm1.",
    ".ln2.": ".norm2.",
}
KEYS = {
    "block_count": 2,
    "embedding_length": 32,
    "attention.head_count": 2,
    "num_channels": 3,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "shortest_edge": 65536,
    "longest_edge": 16777216,
    "rope.freq_base": 10000.0,
    "deepstack_visual_indexes": [],
}


@pytest.fixture(scope="module")
def tower(fixtures):
    """The tensors of mmproj-tiny.gguf as Ollama stores them in a text model's file."""
    source = gguf.GGUFReader(fixtures / "mmproj-tiny.gguf")
    tensors = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in source.tensors}
    frames = [tensors.pop("v.patch_embd.weight" + end) for end in ("", ".1")]
    tensors["v.patch_embd.weight"] = np.stack(frames, 2).reshape(96, 2, 16, 16).astype(np.float16)
    for name in [name for name in tensors if "attn_qkv" in name]:
        for part, values in zip("qkv", np.split(tensors.pop(name), 3), strict=True):
            tensors[name.replace("attn_qkv", f"attn_{part}")] = values
    for ours, theirs in NAMES.items():
        tensors = {name.replace(ours, theirs): values for name, values in tensors.items()}
    return tensors


def inside(fixtures, path, tensors, **changes):
    change = {f"qwen35.vision.{key}": value for key, value in (KEYS | changes).items() if value != []}
    change["qwen35.attention.head_count_kv"] = [0, 0, 0, 1]
    rename = lambda name: name.replace("ssm_dt.bias", "ssm_dt")  # noqa: E731
    return rewrite(fixtures / "tiny.gguf", path, change=change, add=tensors, rename=rename)


def test_ollamas_file_is_read_pictures_too(fixtures, tmp_path, tower):
    """The tower's values are those of BF16 and F16, which float32 holds, so equal to the bit."""
    path = inside(fixtures, tmp_path / "sha256-0123", tower)
    ours, theirs = load(path, backend="numpy"), load(fixtures / "tiny.gguf", backend="numpy")
    assert ours.vision.config == theirs.vision.config  # its colours and epsilon are not in the file
    assert not any(t.data.flags.writeable for t in ours.vision.file.tensors.values())  # as kernels need it
    patches = theirs.vision.weights.patch_embed  # float32 there, float16 here
    patches[:] = patches.astype(np.float16)
    np.testing.assert_array_equal(look(ours), look(theirs))
    picture = str(fixtures.parents[1] / "examples" / "media" / "shapes.png")
    question = dict(prompt="What?", images=[picture], max_tokens=4, temperature=0)
    assert "".join(ours.generate(**question)) == "".join(theirs.generate(**question))


def test_a_vision_file_put_into_the_models(fixtures, tmp_path):
    """Names and keys as the converter writes them, as a tool that joins the two files would. It is looked at
    before what lies beside the model.
    """
    (tmp_path / "mmproj.gguf").touch()
    source = gguf.GGUFReader(fixtures / "mmproj-tiny.gguf")
    tensors = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in source.tensors}
    keys = {name: f.contents() for name, f in source.fields.items() if name.startswith("clip.")}
    path = rewrite(fixtures / "tiny.gguf", tmp_path / "both.gguf", change=keys, add=tensors)
    np.testing.assert_array_equal(*(look(load(p, backend="numpy")) for p in (path, fixtures / "tiny.gguf")))


@pytest.mark.parametrize(
    "change, drop, words",
    [
        (dict(patch_size=0), None, "qwen35.vision.patch_size: 0 is not a whole number"),
        (dict(num_channels=4), None, "num_channels: 4 is not supported, only 3"),
        ({"rope.freq_base": 5000.0}, None, "rope.freq_base: 5000.0 is not supported"),
        (dict(deepstack_visual_indexes=[0]), None, "Qwen3-VL, not Qwen3.5"),
        (dict(deepstack_visual_indexes=5), None, "Qwen3-VL, not Qwen3.5"),
        (dict(window_size=8), None, "window_size: 8: this key is not known"),
        (
            {},
            "v.blk.1.attn_k.weight",
            "attn_q.weight: v.blk.1.attn_k.weight, v.blk.1.attn_v.weight are not of",
        ),
        ({}, "v.patch_embed.weight", "v.patch_embd.weight: the tensor is missing"),
    ],
)
def test_ollamas_tower_is_checked(fixtures, tmp_path, tower, change, drop, words):
    tensors = {name: values for name, values in tower.items() if name != drop}
    path = inside(fixtures, tmp_path / "sha256-0123", tensors, **change)
    with pytest.raises(QwenRefError, match=words):
        _ = load(path).vision


@pytest.mark.parametrize(
    "name, values, words",
    [
        (
            "v.patch_embed.weight",
            np.ones((96, 2), np.float32),
            r"shape \(96, 2\) should be \(32, 3, 16, 16\)",
        ),
        ("v.patch_embed.weight", np.ones((97, 2, 16, 16), np.float32), r"shape \(97, 2, 16, 16\) should be"),
        (
            "v.patch_embed.weight.1",
            np.ones((32, 3, 16, 16), np.float32),
            r"shape \(96, 2, 16, 16\) should be",
        ),
        (
            "v.blk.0.ln1.weight",
            np.ones(32, np.float32),
            "ln1.weight: the tensor is there under Ollama's name too",
        ),
        (
            "v.blk.0.attn_qkv.bias",
            np.ones(96, np.float32),
            "attn_qkv.bias: the tensor is there beside v.blk.0.attn_q",
        ),
        ("v.blk.0.attn_k.weight", np.ones((32, 32), np.float16), "are not of its shape and type"),
    ],
)
def test_ollamas_tensors_are_checked(fixtures, tmp_path, tower, name, values, words):
    path = inside(fixtures, tmp_path / "sha256-0123", tower | {name: values})
    with pytest.raises(QwenRefError, match=words):
        _ = load(path).vision
