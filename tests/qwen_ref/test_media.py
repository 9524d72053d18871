import base64
import errno
import gc
import io
import os
import re
import shutil
import struct
import sys
import zlib
from pathlib import Path

import av
import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from gguf_io import open_gguf
from qwen_ref import QwenRefError
from qwen_ref.config import read_vision_config
from qwen_ref.media import images
from qwen_ref.media.images import image_patches, image_tokens, read_image, smart_resize
from qwen_ref.media.media import Limits, open_all
from qwen_ref.media.parts import beside, user_message, without_sources
from qwen_ref.media.patches import MEAN, SIZES, STD, cut_patches, video_values
from qwen_ref.media.show import half_blocks
from qwen_ref.media.uri import File
from qwen_ref.media.video import (
    _ebml_length,
    read_video,
    resize_frame,
    sample_frames,
    smart_resize_video,
    timestamps,
)
from qwen_ref.prompt import PromptEncoder

NOISE = np.random.default_rng(0).integers(0, 256, (12, 64, 96, 3), dtype=np.uint8)  # [T, H, W, C]


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def write_video(path, frames, fps=8, codec="libx264", title=""):
    with iio.imopen(path, "w", plugin="pyav") as file:
        file.init_video_stream(codec, fps=fps, pixel_format="rgb8" if codec == "gif" else "yuv420p")
        file.container_metadata["title"] = title
        for frame in frames:
            file.write_frame(frame)
    return path


@pytest.fixture(scope="module", autouse=True)
def collected_once():
    """imageio looks for garbage at the end of each clip: not in what is here already, a million objects when
    kernels were compiled."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def mp4(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "noise.mp4", NOISE)


# Images


def test_patches_of_one_token_lie_together():
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0] = np.arange(64)[:, None]  # red is the row,
    image[..., 1] = np.arange(64)  # green the column
    patches = image_patches(read_image(image), min_pixels=4096, mean=(0, 0, 0), std=(1, 1, 1))
    assert patches.grid_thw == (1, 4, 4)
    assert patches.pixels.dtype == np.float32
    pixels = np.round(patches.pixels * 255).reshape(16, 3, 2, 16, 16)  # [patch, channel, frame, row, column]
    first = [(0, 0), (0, 16), (16, 0), (16, 16)]  # (row, column) of the first token's patches
    corners = first + [(r, c + 32) for r, c in first] + [(r + 32, c) for r, c in first]
    assert [tuple(p) for p in pixels[:12, :2, 0, 0, 0]] == corners
    assert (pixels[0, 0, 0] == np.arange(16)[:, None]).all()
    assert (pixels[0, 1, 0] == np.arange(16)).all()
    assert (pixels[:, :, 0] == pixels[:, :, 1]).all()  # the image counts as two equal frames


def test_normalization_with_numbers_from_the_file():
    image = read_image(np.full((32, 32, 3), 51, np.uint8))  # 51 / 255 = 0.2
    pixels = image_patches(image, 1024, 1024, mean=(0.1, 0.2, 0.4), std=(0.5, 1, 0.1)).pixels
    np.testing.assert_allclose(pixels.reshape(4, 3, 512)[0, :, 0], [0.2, 0, -2], atol=1e-6)


@pytest.mark.parametrize(
    "height, width, tokens", [(1, 1, 64), (448, 448, 196), (3000, 4000, 11_750), (6000, 8000, 16_170)]
)
def test_what_an_image_costs(height, width, tokens):
    assert image_tokens(height, width) == tokens


GREY_16 = Image.fromarray(np.full((2, 2), 300, np.uint16))
TURNED = Image.Exif()
TURNED[0x0112] = 6  # a quarter turn clockwise for display
RED_LEFT = Image.fromarray(np.uint8([[[255, 0, 0], [0, 0, 0]]]))
RED_BELOW = RED_LEFT.transpose(Image.Transpose.ROTATE_90)


@pytest.mark.parametrize(
    "source, first, last",
    [
        (bytearray(encoded(RED_LEFT, "PNG")), (255, 0, 0), (0, 0, 0)),
        (encoded(GREY_16, "PNG"), (255, 255, 255), (255, 255, 255)),  # 16 bits: clipped
        (np.uint8([[7, 9]]), (7, 7, 7), (9, 9, 9)),
        (
            encoded(RED_LEFT.convert("P"), "GIF", save_all=True, append_images=[GREY_16]),
            (255, 0, 0),
            (0, 0, 0),
        ),
        (encoded(RED_BELOW, "PNG", exif=TURNED), (255, 0, 0), (0, 0, 0)),
        (Image.open(io.BytesIO(encoded(RED_BELOW, "PNG", exif=TURNED))), (0, 0, 0), (255, 0, 0)),
        (encoded(RED_LEFT, "TIFF", exif=TURNED), (255, 0, 0), (0, 0, 0)),
        (Image.new("RGB", (200, 1), (1, 2, 3)), (1, 2, 3), (1, 2, 3)),  # just not too thin
    ],
    ids=["bytearray", "16-bit", "grey-array", "animated", "exif", "exif-image", "exif-tiff", "thin"],
)
def test_sources(source, first, last):
    image = read_image(source)
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == first
    assert image.getpixel((image.width - 1, image.height - 1)) == last


# Transparency. (7, 50, 20) at 100 of 255 on white: 7 * 100 / 255 + 155 = 157.7, and so on.

VEILED = Image.new("RGBA", (3, 70), (7, 50, 20, 100))  # more than are laid on white at once
VEILED.paste((9, 9, 9, 0), (0, 0, 1, 70))
ON_WHITE, GREY_ON_WHITE = (158, 175, 163), (168, 168, 168)  # of a luminance of 34: 168.3


@pytest.mark.parametrize(
    "source, white, drop",
    [
        (encoded(VEILED, "PNG"), ON_WHITE, (7, 50, 20)),
        (encoded(VEILED, "WEBP", lossless=True, exact=True), ON_WHITE, (7, 50, 20)),
        (encoded(VEILED, "TIFF"), ON_WHITE, (7, 50, 20)),
        (encoded(VEILED.convert("LA"), "PNG"), GREY_ON_WHITE, (34, 34, 34)),
        (encoded(VEILED.quantize(4), "PNG"), ON_WHITE, (7, 50, 20)),
        (VEILED, ON_WHITE, (7, 50, 20)),
        (VEILED.convert("RGBa"), ON_WHITE, None),  # multiplied by its alpha, so rounded
        (VEILED.convert("LA"), GREY_ON_WHITE, (34, 34, 34)),
        (VEILED.convert("LA").convert("La"), GREY_ON_WHITE, None),
        (VEILED.quantize(4), ON_WHITE, (7, 50, 20)),  # a palette with alpha
        (np.array(VEILED), ON_WHITE, (7, 50, 20)),
    ],
    ids="png webp tiff grey-png palette-png RGBA RGBa LA La P array".split(),
)
def test_what_is_transparent_lies_on_white_or_is_dropped(source, white, drop):
    image = read_image(source)
    assert [image.getpixel((x, 69)) for x in range(3)] == [(255, 255, 255), white, white]
    dropped = read_image(source, "drop")
    assert dropped.mode == "RGB" and dropped.getpixel((0, 0)) != (255, 255, 255)
    assert drop is None or dropped.getpixel((2, 69)) == drop


def png(width, height, depth=8, colour=2, rows=b"", **chunks):
    """A PNG by hand; of no rows it declares a size and holds nothing."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    parts += [(name.encode(), content) for name, content in chunks.items()]
    parts += [(b"IDAT", zlib.compress(rows) if rows else b""), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


@pytest.mark.parametrize(
    "depth, colour, row, clear, seen",
    [
        (1, 0, b"\x40", ">H 0", [255, 255]),  # grey, in bits: 0 1
        (2, 0, b"\x60", ">H 1", [255, 170]),  # 1 2
        (4, 0, b"\x56", ">H 5", [255, 102]),  # 5 6
        (8, 0, b"\5\6", ">H 5", [255, 6]),
        (16, 0, b"\0\5\0\6", ">H 5", [255, 6]),
        (8, 2, b"\5\5\5\6\6\6", ">HHH 5 5 5", [255, 6]),
        (16, 2, b"\5\0" * 3 + b"\6\0" * 3, ">HHH 1280 1280 1280", [255, 6]),
        (8, 3, b"\1\0", ">BB 255 0", [255, 6]),  # a palette
        (16, 4, b"\5\0\0\0\6\0\xff\xff", None, [255, 6]),  # grey and alpha
        (16, 6, b"\5\0" * 3 + b"\0\0" + b"\6\0" * 3 + b"\xff\xff", None, [255, 6]),
    ],
)
def test_transparency_in_every_kind_of_png(depth, colour, row, clear, seen):
    chunks = {"PLTE": b"\6\6\6\5\5\5"} if colour == 3 else {}
    if clear:
        form, *values = clear.split()
        chunks["tRNS"] = struct.pack(form, *map(int, values))
    content = png(2, 1, depth, colour, b"\0" + row, **chunks)
    for source in content, Image.open(io.BytesIO(content)):
        assert np.array(read_image(source))[0].tolist() == [[value] * 3 for value in seen]


def test_what_is_larger_than_the_memory_allows(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_DECODED_PIXELS", 12)
    assert read_image(encoded(Image.new("RGB", (4, 3)), "PNG")).size == (4, 3)
    with pytest.raises(QwenRefError, match=r"13 × 1 is over 12 pixels"):
        read_image(encoded(Image.new("RGB", (13, 1)), "PNG"))
    clip = write_video(tmp_path / "a.mp4", NOISE[:2])
    with pytest.raises(QwenRefError, match=r"a\.mp4: size: 96 × 64 is over 12 pixels"):
        read_video(clip)


def test_a_picture_is_as_it_was_when_it_was_given():
    picture = Image.new("RGB", (4, 4), "red")
    array = np.array(picture)
    read = [read_image(picture), read_image(array)]
    picture.paste("blue", (0, 0, 4, 4))
    array[:] = 0
    assert [image.getpixel((0, 0)) for image in read] == [(255, 0, 0)] * 2


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"%PDF-1.7 and so on", "not an image.*%PDF-1.7"),
        (encoded(Image.fromarray(NOISE[0]), "PNG")[:9000], "truncated"),
        (encoded(Image.fromarray(NOISE[0]), "JPEG")[:3000], "truncated"),
        (png(0, 5), "damaged"),
        (png(11_000, 11_000), "cannot be decoded"),  # Pillow would warn
        (png(100_000, 100_000), "declares over 178956970 pixels"),
        (encoded(Image.new("RGB", (201, 1)), "PNG"), "over 200 times"),
    ],
    ids=["empty", "pdf", "cut-png", "cut-jpeg", "no-pixels", "large", "bomb", "thin"],
)
def test_images_that_are_refused(tmp_path, capfd, content, words):
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(QwenRefError, match=f"^{path}: .*{words}") as error:
        read_image(path)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "source, words",
    [
        ("nowhere.png", "nowhere.png: cannot be read: No such file"),
        ("/", "is a folder"),
        ("/dev/null", "not a regular file"),
        (np.zeros((4, 4, 3)), "float64 \\[4, 4, 3\\] is not uint8"),
        (np.zeros((3, 4, 5), np.uint8), "is not uint8"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (0, "a picture: an int is no path"),
    ],
)
def test_sources_that_are_refused(source, words):
    with pytest.raises(QwenRefError, match=words):
        read_image(source)


def test_half_blocks_are_two_pixels_each():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    upper_and_lower = r"\033\[38;2;(\d+);(\d+);(\d+)m\033\[48;2;(\d+);(\d+);(\d+)m▀"
    lines = half_blocks(Image.fromarray(pixels)).split("\n")
    for line, rows in zip(lines, (pixels[:2], pixels[2:])):
        assert re.fullmatch(rf"({upper_and_lower}){{4}}\033\[0m", line)
        shown = np.array(re.findall(upper_and_lower, line), int)  # [columns, 2 * 3]
        np.testing.assert_array_equal(shown.reshape(4, 2, 3), rows.transpose(1, 0, 2))
    assert len(lines) == 3 and lines[2] == ""


@pytest.mark.parametrize("size, columns, lines", [((200, 100), 64, 16), ((90, 640), 9, 32), ((3, 5), 3, 3)])
def test_half_blocks_fit_a_terminal(size, columns, lines):
    shown = half_blocks(Image.new("RGB", size)).splitlines()
    assert len(shown) == lines and {line.count("▀") for line in shown} == {columns}


# Videos


def test_frames_times_and_sizes():
    assert sample_frames(480, 8.0, fps=8) == list(range(480))
    assert sample_frames(480, 8.0, fps=2)[:4] == [0, 4, 8, 12]
    assert len(sample_frames(480, 8.0, fps=2)) == 120
    assert sample_frames(3, 30.0) == [0, 1, 2]  # never more than there are
    assert len(sample_frames(100_000, 30.0)) == 768
    assert sample_frames(8, 24.0) == [0, 2, 5, 7]  # four at least: 0, 2.33, 4.67 and 7
    assert sample_frames(6, 24.0, max_frames=3) == [0, 2, 5]  # 2.5: half to even; the most before the least
    assert sample_frames(100, 4.0, min_frames=51)[1] == 2 and len(sample_frames(11, 4.0, fps=2)) == 5
    assert sample_frames(6, 24.0, fps=1e6) == list(range(6))
    assert timestamps([0, 4, 8], 8.0) == [0.25, 1.0]  # an odd last frame is its own partner
    assert smart_resize_video(480, 720, 1280) == (160, 288)  # 240 * 5 * 9 = 10,800 tokens
    assert smart_resize(720, 1280) == (704, 1280)


@pytest.mark.parametrize("frames", [12, 11])
def test_pairs_are_those_of_the_whole_video(frames):
    video = read_video(NOISE[:frames], fps=24)
    assert video.grid_thw == (6, 4, 6)
    assert video.num_tokens == 36
    whole = np.concatenate([NOISE[:frames], NOISE[frames - 1 : frames]])[:12]  # an odd last frame twice
    expected = [cut_patches(whole[i : i + 2], video_values(MEAN, STD), SIZES) for i in range(0, 12, 2)]
    np.testing.assert_array_equal(list(video.patches()), expected)


@pytest.mark.parametrize(
    "name, codec",
    [
        ("a.mp4", "libx264"),
        pytest.param("a.webm", "libvpx-vp9", marks=pytest.mark.slow),
        pytest.param("a.gif", "gif", marks=pytest.mark.slow),
    ],
)
def test_a_file_its_bytes_and_its_frames_are_one_video(tmp_path, name, codec):
    path = write_video(tmp_path / name, NOISE, fps=5, codec=codec)
    video = read_video(path, fps=2.5)
    assert (video.clip.num_frames, video.clip.fps) == (12, 5.0)
    assert video.indices == [0, 2, 4, 7, 9, 11]
    assert video.timestamps == [0.2, 1.1, 2.0]
    with av.open(path) as container:
        decoded = np.array([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    pixels = list(video.patches())
    np.testing.assert_array_equal(pixels, list(read_video(path.read_bytes(), fps=2.5).patches()))
    seen = []
    list(video.patches(lambda done, total: seen.append((done, total))))
    assert seen == [(n, 12) for n in range(1, 13)]
    np.testing.assert_array_equal(pixels, list(read_video(decoded, fps=2.5, frame_rate=5).patches()))


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    for n, frame in enumerate(NOISE):
        Image.fromarray(frame).save(tmp_path / f"frame{n}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    seen = []
    folder = read_video(tmp_path, fps=24)
    np.testing.assert_array_equal(
        list(folder.patches(lambda done, total: seen.append((done, total)))),
        list(read_video(list(NOISE), fps=24).patches()),
    )
    assert seen == [(n, 12) for n in range(1, 13)]
    seen.clear()
    some = read_video(tmp_path, max_frames=3, frame_rate=1)
    list(some.patches(lambda done, total: seen.append((done, total))))
    assert some.indices == [0, 6, 11] and seen == [(1, 12), (7, 12), (12, 12)]


def test_a_title_in_an_unknown_encoding(tmp_path):
    content = write_video(tmp_path / "titled.mp4", NOISE[:2], title="some title").read_bytes()
    assert b"some title" in content
    assert read_video(content.replace(b"some title", b"some\xff\xfeitle")).num_tokens == 6


def test_without_the_extra_a_clip_s_file_is_one_sentence_and_pictures_go_on(mp4, monkeypatch):
    for missing in "av", "imageio.v3":
        with monkeypatch.context() as without:
            without.setitem(sys.modules, missing, None)
            with pytest.raises(
                QwenRefError, match=r"noise.mp4: a clip in a file needs .* install 'qwen_ref\[clips\]'$"
            ):
                read_video(mp4)
            assert read_video(np.zeros((4, 64, 64, 3), np.uint8)).num_tokens


def test_a_reader_that_stops_early_leaves_nothing_open(mp4):
    before = len(os.listdir("/proc/self/fd"))
    patches = read_video(mp4, fps=8).patches()
    next(patches)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    patches.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "matrix, turns", [((0, 1, -1, 0, 64, 0), -1), ((-1, 0, 0, -1, 96, 64), 2), ((0, -1, 1, 0, 0, 96), 1)]
)
def test_a_video_filmed_upright_is_turned(mp4, matrix, turns):
    content = bytearray(mp4.read_bytes())
    at = content.index(b"tkhd") + 44  # of the track header: how to turn the picture
    assert struct.unpack_from(">9i", content, at)[::4] == (1 << 16, 1 << 16, 1 << 30)
    a, b, c, d, x, y = (n << 16 for n in matrix)
    struct.pack_into(">9i", content, at, a, b, 0, c, d, 0, x, y, 1 << 30)
    turned = read_video(bytes(content), fps=8)
    assert (turned.clip.height, turned.clip.width) == ((64, 96) if turns == 2 else (96, 64))
    with av.open(mp4) as container:
        frames = [np.rot90(f.to_ndarray(format="rgb24"), turns) for f in container.decode(video=0)]
    expected = read_video(frames, fps=8, frame_rate=8).patches()
    np.testing.assert_array_equal(list(turned.patches()), list(expected))


def test_frames_that_an_edit_list_hides(mp4):
    """They are decoded, since others build on them, but they are no frames of the clip."""
    content = bytearray(mp4.read_bytes())
    at = content.index(b"elst") + 12  # a duration, and where in the media the clip begins
    duration, begin = struct.unpack_from(">ii", content, at)
    frame = duration // 12
    assert duration > 0
    scale = struct.unpack_from(">i", content, content.index(b"mdhd") + 16)[0] // 8  # one frame of it
    struct.pack_into(">ii", content, at, duration - 3 * frame, begin + 3 * scale)
    clip = read_video(bytes(content), fps=8)
    assert clip.clip.num_frames == 9
    whole = list(read_video(mp4, fps=8).clip.read(list(range(12)), None))
    for shown, frame in zip(clip.clip.read(list(range(9)), None), whole[3:], strict=True):
        np.testing.assert_array_equal(shown, frame)


def test_what_is_transparent_in_a_clip_lies_on_white_too(tmp_path):
    frames = np.zeros((2, 64, 64, 4), np.uint8)
    frames[..., :32, :] = (9, 8, 7, 255)
    with iio.imopen(tmp_path / "a.mov", "w", plugin="pyav") as file:
        file.init_video_stream("png", fps=8, pixel_format="rgba")
        for frame in frames:
            file.write_frame(frame, pixel_format="rgba")
    folder = tmp_path / "frames"
    folder.mkdir()
    for n, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{n}.png")
    for source in tmp_path / "a.mov", folder:
        for transparency, seen in ("white", (255, 255, 255)), ("drop", (0, 0, 0)):
            clip = read_video(source, transparency=transparency).clip
            shown = [[f.getpixel((0, 0)), f.getpixel((63, 63))] for f in clip.read([0, 1], None)]
            assert shown == [[(9, 8, 7), seen]] * 2


def test_frames_are_resized_across_then_down():
    frame = np.zeros((64, 32, 3), np.uint8)
    frame[::2] = 255  # stripes: only the height matters
    resized = resize_frame(Image.fromarray(frame), 32, 64)
    assert resized.shape == (32, 64, 3)
    assert (resized == resized[:, :1]).all()


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize(
    "name, codec", [("a.mp4", "libx264"), ("a.webm", "libvpx"), ("a.gif", "gif"), ("a.avi", "mpeg4")]
)
def test_videos_that_are_cut_off(tmp_path, capfd, name, codec, keep):
    path = write_video(tmp_path / name, NOISE, codec=codec)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(QwenRefError, match=f"^{path}: is (cut off|not an mp4)"):
        read_video(path)
    assert capfd.readouterr() == ("", "")


def test_files_whose_last_part_is_whole(tmp_path, mp4):
    """A box with a 64-bit length, a length left open, padding: nothing is missing there."""
    boxed = mp4.read_bytes() + struct.pack(">I4sQ8x", 1, b"free", 24)
    assert read_video(boxed).clip.num_frames == 12
    with pytest.raises(QwenRefError, match="is cut off"):
        read_video(boxed[:-1])
    assert (
        read_video(mp4.read_bytes() + struct.pack(">I4s9x", 0, b"free")).clip.num_frames == 12
    )  # to the end
    live = write_video(tmp_path / "a.webm", NOISE, codec="libvpx").read_bytes()
    segment = live.index(b"\x18\x53\x80\x67") + 4
    live = live[:segment] + b"\x01" + b"\xff" * 7 + live[segment + 8 :]
    assert read_video(live).clip.num_frames == 12
    avi = write_video(tmp_path / "a.avi", NOISE, codec="mpeg4").read_bytes()
    assert read_video(avi).clip.num_frames == 12
    with pytest.raises(QwenRefError, match="is cut off"):
        read_video(avi[:-1])
    gif = write_video(tmp_path / "a.gif", NOISE, codec="gif").read_bytes()
    assert read_video(gif + b"\0" * 63).clip.num_frames == read_video(gif + b"\r\n").clip.num_frames == 12


@pytest.mark.parametrize(
    "stored, begin, length",
    [
        (b"\x81", 1, 1),
        (b"\x40\x02", 2, 2),
        (b"\x01" + b"\0" * 5 + b"\1\2", 8, 258),
        (b"\xff", 1, 0),  # left open
        (b"\x40", 0, 0),  # its second byte is missing
        (b"\0" * 8, 0, 0),
        (b"", 0, 0),
    ],
)
def test_lengths_in_a_webm(stored, begin, length):
    assert _ebml_length(io.BytesIO(b"ab" + stored), 2) == (2 + begin, length)


@pytest.mark.parametrize(
    "content", [b"", b"only text\n" * 999, encoded(RED_LEFT, "PNG")], ids=["empty", "text", "png"]
)
def test_files_that_are_no_videos(tmp_path, capfd, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(QwenRefError, match=f"^{path}: is not an mp4"):
        read_video(path)
    assert capfd.readouterr() == ("", "")


def test_what_a_file_holds_is_named_by_its_path(tmp_path):
    """Sentences are the same where only its bytes have come."""
    bad, one, other = (str(tmp_path / name) for name in ("bad.png", "one.png", "other.png"))
    Path(bad).write_bytes(b"no picture")
    for path, side in (one, 40), (other, 50):
        Image.new("RGB", (side, side)).save(path)

    def frames(sources):
        return list(read_video(sources, frame_rate=2).patches())

    for read, given in (read_image, bad), (read_video, bad), (frames, [one, other]):
        told = []
        for of in lambda path: path, File.read:
            with pytest.raises(QwenRefError) as raised:
                read([*map(of, given)] if isinstance(given, list) else of(given))
            told.append(str(raised.value))
        assert told[0] == told[1] and told[0].startswith(str(tmp_path))


def test_a_damaged_video(mp4, capfd):
    content = bytearray(mp4.read_bytes())
    quarter = len(content) // 4
    content[quarter : 3 * quarter] = b"\xff" * (2 * quarter)
    with pytest.raises(QwenRefError, match=r"the bytes: (cannot be decoded|frame \d+: is damaged)"):
        list(read_video(bytes(content), fps=8).patches())
    assert capfd.readouterr() == ("", "")


def test_a_frame_that_ffmpeg_patches_over(tmp_path):
    """It would be shown without a word."""
    content = bytearray(write_video(tmp_path / "a.avi", NOISE, codec="mpeg4").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = b"\xff" * 40
    clip = read_video(bytes(content), fps=8)
    with pytest.raises(QwenRefError, match=r"the bytes: frame \d+: is damaged"):
        list(clip.patches())


@pytest.mark.parametrize(
    "source, options, words",
    [
        ([], {}, "holds no images"),
        (NOISE[:0], {}, "holds no images"),
        (NOISE[:1], {}, "1 of 1 is too few"),
        (NOISE, dict(max_frames=1), "1 of 12 is too few"),
        (NOISE, dict(max_frames=0), "max_frames: 0"),
        (NOISE, dict(fps=0), "fps: 0"),
        (NOISE, dict(fps=-1.0), "fps: -1"),
        (NOISE, dict(fps=float("nan")), "fps: nan"),
        (NOISE, dict(frame_rate=0), "frame_rate: 0"),
        (NOISE, dict(frame_rate=10**400), "frame_rate: 1000"),
        (NOISE, dict(fps=True), "fps: True"),
        (NOISE, dict(times=[0.0] * 11), "the array: times: 11 for 12 frames"),
        (NOISE, dict(times=[*range(11), 9]), "the array: times: 9 comes after 10"),
        (NOISE, dict(times=[-1, *range(11)]), "the array: times: -1 is not a number of seconds"),
        (NOISE, dict(times=[*range(11), float("nan")]), "the array: times: nan is not"),
        (NOISE, dict(times=[*range(11), "12"]), "the array: times: '12' is not"),
        (NOISE, dict(times="0,1"), "the array: times: a str is no list"),
        (NOISE[0], {}, "is not uint8 \\[T, H, W, 3\\]"),
        (NOISE[:, :1, :].repeat(3, axis=2), {}, "over 200 times"),
        ([NOISE[0], NOISE[0, :32]], {}, "the images: 1: size: 96 × 32 is not that of the first"),
        ([NOISE[0], NOISE[0, :, :64]], {}, "the images: 1: size: 64 × 64 is not that of the first"),
        ([NOISE[0], NOISE[0].transpose(1, 0, 2)], {}, "the images: 1: size: 64 × 96 is not that of the"),
        ("nowhere.mp4", {}, "nowhere.mp4: cannot be read: No such file"),
    ],
)
def test_videos_that_are_refused(source, options, words):
    with pytest.raises(QwenRefError, match=words):
        list(read_video(source, **options).patches())


def test_an_empty_folder(tmp_path, monkeypatch):
    with pytest.raises(QwenRefError, match=f"^{tmp_path}: holds no images"):
        read_video(tmp_path)

    def refuse(folder):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(QwenRefError, match=f"^{tmp_path}: cannot be read: Permission denied"):
        read_video(tmp_path)


# In messages


@pytest.fixture(scope="module")
def opened(fixtures):
    """Messages or one part -> its pictures and clips, as the tiny model's vision file has them cut."""
    config = read_vision_config(open_gguf(fixtures / "mmproj-tiny.gguf"))

    def opened(given, limits=None):
        messages = [{"role": "user", "content": [given]}] if isinstance(given, dict) else given
        return open_all(messages, limits, lambda: config)

    return opened


def data_uri(content, kind="image/png", head="data:"):
    return f"{head}{kind};base64,{base64.b64encode(content).decode()}"


SHAPES = Path(__file__).parents[2] / "examples" / "media" / "shapes.png"
URI = data_uri(SHAPES.read_bytes())


@pytest.mark.parametrize(
    "part, name",
    [
        ({"type": "image", "image": URI}, "the data URI"),
        ({"type": "image_url", "image_url": {"url": URI, "detail": "auto"}}, "the data URI"),
        ({"image_url": URI.replace("data:", "DATA:")}, "the data URI"),
        ({"type": "image", "url": URI.replace("+", "%2B")}, "the data URI"),
        ({"type": "image", "url": f"file://{SHAPES}".replace("s.png", "%73.png")}, str(SHAPES)),
        ({"type": "image", "url": f"file://localhost{SHAPES}"}, str(SHAPES)),
        ({"type": "image", "path": SHAPES}, str(SHAPES)),
        ({"type": "image", "base64": base64.encodebytes(SHAPES.read_bytes()).decode()}, "the bytes"),
        ({"type": "image", "base64": URI, "video": None, "text": None}, "the data URI"),
    ],
)
def test_ways_to_give_a_picture(opened, part, name):
    (media,) = opened(part)
    assert media.name == name and media.shape.grid == (1, 8, 8)
    np.testing.assert_array_equal(media.image, read_image(SHAPES))
    template = without_sources([{"role": "user", "content": [part, {"type": "text", "image": None}]}])
    assert template == [{"role": "user", "content": [{"type": "image"}, {"type": "text"}]}]


def test_a_name_that_is_not_utf8(opened, tmp_path):
    path = shutil.copy(SHAPES, tmp_path / "\udcff.png")
    (media,) = opened({"type": "image", "url": f"file://{tmp_path}/%FF.png"})
    assert media.name == str(path) and media.shape.grid == (1, 8, 8)


def test_pictures_are_told_apart_as_the_tower_sees_them(opened):
    """However they are given; by each pixel, their shape, and the size that is looked at."""

    def seen(pixels, **options):
        (media,) = opened({"type": "image", "image": pixels} | options)
        return media

    pixels = np.random.default_rng(0).integers(0, 256, (256, 257, 3), dtype=np.uint8)
    other, turned = pixels.copy(), pixels.reshape(257, 256, 3)
    other[255, 256, 2] ^= 1
    assert seen(turned).grid_thw == seen(pixels).grid_thw != seen(pixels, max_image_tokens=4).grid_thw
    assert seen(encoded(Image.fromarray(pixels), "PNG")).digest == seen(pixels).digest
    all_of_them = [seen(pixels), seen(other), seen(turned), seen(pixels, max_image_tokens=4)]
    assert len({media.digest for media in all_of_them}) == 4


def test_a_clip_as_a_data_uri(opened, mp4):
    (media,) = opened({"type": "video_url", "video_url": {"url": data_uri(mp4.read_bytes(), "video/mp4")}})
    assert media.name == "the data URI"
    np.testing.assert_array_equal(list(media.patches(None)), list(read_video(mp4).patches()))


LONG = "QUJD" * 2000


@pytest.mark.parametrize(
    "part, words",
    [
        ({"image": "http://a/b.png"}, "http://a/b.png: a picture is not fetched; save it and give the file"),
        ({"type": "image_url", "image_url": {"url": "HTTPS://a/b"}}, "HTTPS://a/b: a picture is not fetched"),
        ({"video": "s3://a/b.mp4"}, "s3://a/b.mp4: a clip is not fetched"),
        ({"image": "file://host/b.png"}, "file://host/b.png: names a computer"),
        ({"image": LONG}, r"QUJDQUJD.*… \(8,000 characters\): is no file; base64 belongs in a data:TYPE"),
        ({"video": LONG}, "characters.: is no file"),
        ({"path": Path(LONG), "type": "image"}, "characters.: is no file"),
        ({"video": Path(LONG)}, "characters.: is no file"),
        ({"image": "file:///" + LONG}, "characters.: is no file"),
        ({"video": [LONG, LONG]}, "characters.: is no file"),
        ({"image": "data:image/png;base64," + LONG}, "the data URI: is not an image"),
        ({"image": "data:image/png;base64,!" + LONG}, "the data URI: its base64 is damaged or cut off"),
        ({"image": "data:image/png;base64,\ud800" + LONG}, "the data URI: its base64 is damaged or cut off"),
        ({"image": "data:image/png;base64,Q" + LONG}, "the data URI: its base64 is damaged or cut off"),
        ({"image": "data:image/png," + LONG}, "the data URI: is not in base64"),
        ({"image": "data:" + LONG}, "the data URI: is not data:TYPE;base64"),
        ({"image": "data:;base64," + LONG}, "the data URI: its type '' is not that of a picture"),
        ({"image": "data:video/mp4;base64," + LONG}, "its type 'video/mp4' is not that of a picture"),
        ({"video": "data:image/png;base64," + LONG}, "its type 'image/png' is not that of a clip"),
        ({"video": "data:video/mp4;base64," + LONG}, "the data URI: is not an mp4"),
        ({"image": "data:image/png;charset=utf-8;base64," + LONG}, "the data URI: charset=utf-8: a picture"),
        ({"video": [URI, data_uri(encoded(RED_LEFT, "PNG"))]}, "^the data URI: size: 2 × 1 is not that of"),
        ({"type": "image", "base64": "Q" + LONG}, "message 1: part 1: base64: its base64 is damaged"),
        ({"type": "image", "url": "a.png"}, "part 1: url: a.png: is no URL; a file goes into 'image'"),
        ({"type": "image_url", "image_url": {"url": URI, "detail": "low"}}, "image_url: detail: 'low' is"),
        ({"type": "image_url", "image_url": {"url": URI, "size": 1}}, "image_url: size: there is no such"),
        ({"type": "image_url", "image_url": {}}, "image_url: a NoneType is no text"),
        ({"type": "image"}, "part 1: image: a content part of this type holds no 'image'"),
        ({"image": SHAPES, "video": "a.mp4"}, "part 1: video: a part of type image has no such field"),
        ({"type": "text", "text": "x", "image": SHAPES}, "part 1: image: a part of type 'text' may not hold"),
        ({"type": "image", "image": SHAPES, "text": "x"}, "part 1: text: a part of type image has no such"),
        ({"image": SHAPES, "url": URI}, "part 1: image and url: a part is one picture"),
        ({"image": SHAPES, "fps": 2}, "part 1: fps: a part of type image has no such field"),
        ({"image": SHAPES, "max_image_tokens": "9"}, "part 1: max_image_tokens: '9' is not a whole number"),
        ({"image": SHAPES, "transparency": "black"}, "transparency: 'black' is not one of white, drop"),
        ({"video": NOISE, "colour": 2}, "message 1: part 1: colour: a part of type video has no such field"),
        ({"video": NOISE, "times": [0] * 12, "fps": 2}, "part 1: fps: does nothing beside times"),
        ({"video": NOISE, "times": [0] * 12, "max_frames": 2}, "max_frames: does nothing beside times"),
        ({"video": NOISE, "min_frames": 5, "max_frames": 4}, "min_frames: 5 is more than max_frames, 4"),
        ({"video": NOISE, "frame_rate": -2}, "frame_rate: -2 is not a number of frames"),
    ],
)  # fmt: skip
def test_parts_that_are_refused(opened, part, words):
    with pytest.raises(QwenRefError, match=words) as error:
        [list(media.patches(None)) for media in opened(part)]
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_the_number_of_the_message_and_of_the_part(opened):
    messages = [{"role": "user", "content": "x"}]
    messages.append(
        {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "video", "size": 1}]}
    )
    with pytest.raises(QwenRefError, match=r"^message 2: part 2: video: "):
        opened(messages)
    for part, words in (
        ({"image": "http://a/b.png"}, "http://a/b.png: a picture is not fetched"),
        ({"image": 5}, "a picture: an int is no path"),
        ({"image": "/"}, "/: is a folder"),
        ({"image": SHAPES, "max_image_tokens": 0}, "max_image_tokens: 0 is"),
        ({"video": {"a": 1}}, "a video: a dict is no path"),
        ({"video": NOISE, "times": [0.0]}, "the array: times: 1 for 12 frames"),
    ):
        messages[1]["content"][1] = part
        with pytest.raises(QwenRefError, match=f"^message 2: part 2: {words}"):
            opened(messages)


@pytest.mark.parametrize("option, value", [("times", [0.0] * 12), ("frame_rate", 2)])
def test_a_file_has_its_own_times(opened, mp4, option, value):
    with pytest.raises(
        QwenRefError, match=f"^message 1: part 1: {mp4}: {option}: the file has times of its own"
    ):
        opened({"video": mp4, option: value})


def test_chosen_frames_are_all_kept_with_their_times(opened, fixtures, caplog, tmp_path):
    """8 of 380 frames at 30 a second, as transformers times them."""
    times = [index / 30 for index in (0, 54, 108, 162, 217, 271, 325, 379)]
    for n in range(8):
        Image.fromarray(NOISE[n]).save(tmp_path / f"{n}.png")
    expected = list(read_video(NOISE[:8], fps=24).patches())
    for source in NOISE[:8], list(NOISE[:8]), tmp_path:
        (media,) = opened({"type": "video", "video": source, "times": times}, Limits(fps=1, max_frames=2))
        np.testing.assert_array_equal(list(media.patches(None)), expected)
        assert np.allclose(media.shape.timestamps, [0.9, 4.5, 8.1, 11.7], atol=0.04) and not caplog.records
    message = user_message("x", videos=[{"video": NOISE[:8], "times": times}])
    prompts = PromptEncoder(open_gguf(fixtures / "tiny.gguf"))
    text = prompts.encode(without_sources([message]), shapes=[media.shape]).text
    assert re.findall("<[0-9].*?>", text) == [
        "<0.9 seconds>",
        "<4.5 seconds>",
        "<8.1 seconds>",
        "<11.7 seconds>",
    ]
    (odd,) = opened({"video": NOISE[:3], "times": [2, 2, 4]})  # two at one time are no mistake
    assert odd.shape.timestamps == (2.0, 4.0)


def test_frames_left_out_on_a_guess_are_told(opened, caplog):
    opened({"video": list(NOISE[:8])})
    assert caplog.messages == [
        "the images: 8 frames, taken as 24 a second, of which 4 are looked at; give their times to keep all, "
        "or their frame rate"
    ]
    caplog.clear()
    (media,) = opened({"video": list(NOISE[:8]), "frame_rate": 4})
    assert media.shape.timestamps == (0.25, 1.5) and not caplog.records  # frames 0, 2, 5 and 7
    opened({"video": NOISE[:4]})
    assert not caplog.records


def test_a_part_comes_before_the_limits(opened, tmp_path):
    Image.fromarray(NOISE[0]).save(tmp_path / "a.png")
    limits = Limits(max_image_tokens=4, max_video_tokens=6, fps=24)
    clip = {"video": NOISE, "frame_rate": 24}
    parts = [{"image": SHAPES}, {"image": SHAPES, "max_image_tokens": 16}, clip, clip | {"fps": 8}]
    parts += [clip | {"max_frames": 2}, clip | {"max_video_tokens": 24}, clip | {"fps": 1, "min_frames": 6}]
    grids = [media.shape.grid for media in opened([{"role": "user", "content": parts}], limits)]
    assert grids == [(1, 2, 2), (1, 4, 4), (6, 1, 1), (2, 1, 2), (1, 2, 3), (6, 1, 2), (3, 1, 1)]


def test_transparency_of_a_part(opened):
    clear = np.zeros((32, 32, 4), np.uint8)
    for part in {"image": clear}, {"video": [clear, clear]}:
        limits = Limits(transparency="drop")
        for given in opened(part | {"transparency": "drop"}), opened(part, limits):
            assert (next(given[0].patches(None)) == -1).all()
        assert (next(opened(part | {"transparency": "white"}, limits)[0].patches(None)) == 1).all()


@pytest.mark.parametrize(
    "part, grid, told",
    [
        (
            {"image": Image.new("RGB", (100, 20_000)), "max_image_tokens": 10},
            (1, 44, 1),
            "the image: max_image_tokens: 10 cannot be kept by 100 × 20000 pixels, which become 44 tokens",
        ),
        ({"image": Image.new("RGB", (40, 40)), "max_image_tokens": 10}, (1, 3, 3), None),  # not 4 × 4
        ({"image": Image.new("RGB", (40, 40)), "max_image_tokens": 1}, (1, 1, 1), None),
        (
            {"video": NOISE, "times": range(12), "max_video_tokens": 5},
            (6, 1, 1),
            "the array: max_video_tokens: 5 cannot be kept by 96 × 64 pixels in 6 time steps, which become 6 "
            "tokens",
        ),
        ({"video": NOISE, "times": range(12), "max_video_tokens": 6}, (6, 1, 1), None),
        (
            {"video": NOISE[:5], "times": range(5), "max_video_tokens": 12},  # transformers rounds 5 to 4
            (3, 2, 3),
            "the array: max_video_tokens: 12 cannot be kept by 96 × 64 pixels in 3 time steps, which become "
            "18 tokens",
        ),
        ({"video": NOISE[:5], "frame_rate": 2, "min_frames": 5}, (3, 2, 3), None),
        (
            {"video": NOISE[:5], "frame_rate": 2, "min_frames": 6},
            (3, 2, 3),
            "the array: min_frames: 6 are wanted, but there are 5",
        ),
    ],
)
def test_a_limit_is_kept_or_it_is_told(opened, caplog, part, grid, told):
    part = {name: list(value) if isinstance(value, range) else value for name, value in part.items()}
    (media,) = opened(part)
    assert media.shape.grid == grid and caplog.messages == ([told] if told else [])
    patches = np.concatenate(list(media.patches(None)))
    assert len(patches) == np.prod(media.grid_thw) == 4 * media.shape.num_tokens


def test_paths_in_a_file_of_messages_are_beside_it():
    parts = [{"image": "a.png"}, {"video": ["1.png", "2.png"]}, {"type": "image", "path": "a.png"}]
    whole = [{"image": "/a.png"}, {"image": "file:///a.png"}, {"image": URI}, {"video": "HTTP://a/b"}]
    whole += [{"image": "DATA:" + URI[5:]}, {"image": ""}]
    parts.append({"image": "of a://b.png"})  # an address begins with its scheme
    message = {"role": "user", "content": [*parts, *whole, {"type": "text", "text": "a.png", "path": "b"}]}
    expected = [{"image": "c/a.png"}, {"video": ["c/1.png", "c/2.png"]}, {"type": "image", "path": "c/a.png"}]
    expected.append({"image": "c/of a:/b.png"})
    expected += [dict(part) for part in message["content"][4:]]  # among them an empty one
    beside(Path("c"), [{"role": "system", "content": "x"}, message])
    assert message["content"] == expected


@pytest.mark.parametrize("given", [{"type": "text", "text": "x"}, {"type": "video", "video": "a.mp4"}])
def test_what_is_no_picture_among_the_pictures(given):
    with pytest.raises(QwenRefError, match=f"images: number 1 is a part of type '{given['type']}'"):
        user_message("x", images=[given])


@pytest.mark.parametrize("options", [dict(max_frames=0), dict(min_frames=1.5), dict(max_image_tokens=True)])
def test_limits_that_make_no_sense(opened, options):
    with pytest.raises(QwenRefError, match=f"{next(iter(options))}: .* is not a whole number from 1 on"):
        Limits(**options)
    with pytest.raises(QwenRefError, match="limits: a dict is no"):
        opened({"image": SHAPES}, options)


def test_a_folder_gives_all_its_pictures_and_tells_what_it_leaves_out(tmp_path, caplog):
    """Of any kind that Pillow reads, not of a few endings."""
    for number, suffix in enumerate([".png", ".tga", ".jfif", ".webp", ".bmp", ".TIFF"]):
        Image.new("RGB", (64, 64), (40 * number, 0, 0)).save(tmp_path / f"{number}{suffix}")
    (tmp_path / ".hidden").touch()
    assert read_video(tmp_path, times=list(range(6))).clip.num_frames == 6
    assert not caplog.text
    (tmp_path / "notes.txt").touch()
    (tmp_path / "7.heic").touch()
    (tmp_path / "8.palm").touch()  # Pillow writes it only
    assert read_video(tmp_path, times=list(range(6))).clip.num_frames == 6
    assert f"{tmp_path}: 7.heic and 2 more: no picture that can be read, and left out" in caplog.text
