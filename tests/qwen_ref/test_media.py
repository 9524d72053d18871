import io
import os
import re
import struct
import zlib

import av
import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from qwen_ref import QwenRefError
from qwen_ref.media.images import image_patches, image_tokens, read_image, smart_resize
from qwen_ref.media.patches import MEAN, SIZES, STD, cut_patches, video_values
from qwen_ref.media.show import half_blocks
from qwen_ref.media.video import (
    read_video,
    resize_frame,
    sample_frames,
    smart_resize_video,
    timestamps,
)

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


CLEAR_RED = Image.new("RGBA", (2, 2), (200, 0, 0, 0))
GREY_16 = Image.fromarray(np.full((2, 2), 300, np.uint16))
TURNED = Image.Exif()
TURNED[0x0112] = 6  # a quarter turn clockwise for display
RED_LEFT = Image.fromarray(np.uint8([[[255, 0, 0], [0, 0, 0]]]))


@pytest.mark.parametrize(
    "source, first, last",
    [
        (encoded(CLEAR_RED, "PNG"), (255, 255, 255), (255, 255, 255)),
        (CLEAR_RED, (255, 255, 255), (255, 255, 255)),  # an image or an array: laid on white
        (np.array(CLEAR_RED), (255, 255, 255), (255, 255, 255)),
        (bytearray(encoded(RED_LEFT, "PNG")), (255, 0, 0), (0, 0, 0)),
        (encoded(GREY_16, "PNG"), (255, 255, 255), (255, 255, 255)),  # 16 bits: clipped
        (np.uint8([[7, 9]]), (7, 7, 7), (9, 9, 9)),
        (
            encoded(RED_LEFT.convert("P"), "GIF", save_all=True, append_images=[GREY_16]),
            (255, 0, 0),
            (0, 0, 0),
        ),
        (encoded(RED_LEFT.transpose(Image.Transpose.ROTATE_90), "PNG", exif=TURNED), (255, 0, 0), (0, 0, 0)),
        (encoded(RED_LEFT, "TIFF", exif=TURNED), (255, 0, 0), (0, 0, 0)),
    ],
    ids=[
        "alpha-file",
        "alpha-image",
        "alpha-array",
        "bytearray",
        "16-bit",
        "grey-array",
        "animated",
        "exif",
        "exif-tiff",
    ],
)
def test_sources(source, first, last):
    image = read_image(source)
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == first
    assert image.getpixel((image.width - 1, image.height - 1)) == last


def test_a_picture_is_as_it_was_when_it_was_given():
    picture = Image.new("RGB", (4, 4), "red")
    read = read_image(picture)
    picture.paste("blue", (0, 0, 4, 4))
    assert read.getpixel((0, 0)) == (255, 0, 0)


def png(width, height):
    """A PNG that declares a size and holds nothing."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", b""),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


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
        (0, "a picture: a int is no path"),
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


@pytest.mark.parametrize("name, codec", [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9"), ("a.gif", "gif")])
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


def test_a_title_in_an_unknown_encoding(tmp_path):
    content = write_video(tmp_path / "titled.mp4", NOISE[:2], title="some title").read_bytes()
    assert b"some title" in content
    assert read_video(content.replace(b"some title", b"some\xff\xfeitle")).num_tokens == 6


def test_a_reader_that_stops_early_leaves_nothing_open(mp4):
    before = len(os.listdir("/proc/self/fd"))
    patches = read_video(mp4, fps=8).patches()
    next(patches)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    patches.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_video_filmed_upright_is_turned(mp4):
    content = bytearray(mp4.read_bytes())
    matrix = content.index(b"tkhd") + 44  # of the track header: how to turn the picture
    assert struct.unpack_from(">9i", content, matrix)[::4] == (1 << 16, 1 << 16, 1 << 30)
    struct.pack_into(">9i", content, matrix, 0, 1 << 16, 0, -1 << 16, 0, 0, 64 << 16, 0, 1 << 30)
    turned = read_video(bytes(content), fps=8)
    assert (turned.clip.height, turned.clip.width) == (96, 64)
    with av.open(mp4) as container:
        frames = [np.rot90(f.to_ndarray(format="rgb24"), -1) for f in container.decode(video=0)]
    expected = read_video(frames, fps=8, frame_rate=8).patches()
    np.testing.assert_array_equal(list(turned.patches()), list(expected))


def test_frames_are_resized_across_then_down():
    frame = np.zeros((64, 32, 3), np.uint8)
    frame[::2] = 255  # stripes: only the height matters
    resized = resize_frame(Image.fromarray(frame), 32, 64)
    assert resized.shape == (32, 64, 3)
    assert (resized == resized[:, :1]).all()


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name, codec", [("a.mp4", "libx264"), ("a.webm", "libvpx"), ("a.gif", "gif")])
def test_videos_that_are_cut_off(tmp_path, capfd, name, codec, keep):
    path = write_video(tmp_path / name, NOISE, codec=codec)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(QwenRefError, match=f"^{path}: is (cut off|not an mp4)"):
        read_video(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "content", [b"", b"only text\n" * 999, encoded(RED_LEFT, "PNG")], ids=["empty", "text", "png"]
)
def test_files_that_are_no_videos(tmp_path, capfd, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(QwenRefError, match=f"^{path}: is not an mp4"):
        read_video(path)
    assert capfd.readouterr() == ("", "")


def test_a_damaged_video(mp4, capfd):
    content = bytearray(mp4.read_bytes())
    quarter = len(content) // 4
    content[quarter : 3 * quarter] = b"\xff" * (2 * quarter)
    with pytest.raises(QwenRefError, match=r"the bytes: (cannot be decoded|frame \d+: is damaged)"):
        list(read_video(bytes(content), fps=8).patches())
    assert capfd.readouterr() == ("", "")


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
        (NOISE[0], {}, "is not uint8 \\[T, H, W, 3\\]"),
        (NOISE[:, :1, :].repeat(3, axis=2), {}, "over 200 times"),
        ([NOISE[0], NOISE[0, :32]], {}, "the images: 1: size: 96 × 32 is not that of the first"),
        ("nowhere.mp4", {}, "nowhere.mp4: cannot be read: No such file"),
    ],
)
def test_videos_that_are_refused(source, options, words):
    with pytest.raises(QwenRefError, match=words):
        list(read_video(source, **options).patches())


def test_an_empty_folder(tmp_path):
    with pytest.raises(QwenRefError, match=f"^{tmp_path}: holds no images"):
        read_video(tmp_path)
