"""Images and videos against transformers' processors: equal bit for bit, but for a video's resampling."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as image_resize
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize as video_resize
from transformers.video_utils import VideoMetadata

from qwen_ref import QwenRefError
from qwen_ref.media import images, video

HALVES = dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)
SIZES = dict(patch_size=16, merge_size=2, temporal_patch_size=2)
PROCESSOR = Qwen2VLImageProcessorPil(
    size={"shortest_edge": images.MIN_PIXELS, "longest_edge": images.MAX_PIXELS}, **HALVES, **SIZES
)
VIDEO_PROCESSOR = Qwen3VLVideoProcessor(
    size={"shortest_edge": video.MIN_PIXELS, "longest_edge": video.MAX_PIXELS}, **HALVES, **SIZES
)


def assert_same(ours, theirs, transparency="white"):
    patches = images.image_patches(images.read_image(ours, transparency))
    expected = PROCESSOR(images=[theirs], return_tensors="np")
    assert patches.grid_thw == tuple(expected["image_grid_thw"][0])
    assert patches.pixels.dtype == expected["pixel_values"].dtype == np.float32
    np.testing.assert_array_equal(patches.pixels, expected["pixel_values"])


def picture(height, width, seed=0):
    """Random but not noise: blocks of colour, so that resampling meets edges."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (-(-height // 7), -(-width // 7), 3), dtype=np.uint8)
    return np.ascontiguousarray(small.repeat(7, axis=0).repeat(7, axis=1)[:height, :width])


def test_200_random_sizes():
    random = np.random.default_rng(0)
    for seed in range(200):
        height, width = np.exp(random.uniform(0, np.log(1500), 2)).astype(int)
        if max(height, width) > 200 * min(height, width):
            height = width
        image = Image.fromarray(picture(height, width, seed))
        assert_same(image, image)


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 200), (200, 1), (30, 6000), (6000, 30), (2160, 3840), (6000, 8000)], ids=str
)
def test_extreme_sizes(size):
    image = Image.fromarray(picture(*size))
    assert_same(image, image)


def with_palette(transparent):
    image = Image.fromarray(picture(90, 70)).quantize(16)
    if transparent:
        image.info["transparency"] = 3
    return image


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


RGB = Image.fromarray(picture(90, 70))
GREY = RGB.convert("L")
RGBA = RGB.copy()
RGBA.putalpha(GREY)
DEEP = np.random.default_rng(1).integers(0, 65536, (90, 70))
FILES = {
    "rgb.png": (RGB, {}),
    "rgb.jpg": (RGB, {}),
    "rgb.webp": (RGB, dict(lossless=True)),
    "rgb.bmp": (RGB, {}),
    "key-colour.png": (RGB, dict(transparency=RGB.getpixel((0, 0)))),
    "alpha.png": (RGBA, {}),
    "alpha.webp": (RGBA, dict(lossless=True)),
    "palette.png": (with_palette(False), {}),
    "palette-transparent.png": (with_palette(True), {}),
    "palette.gif": (with_palette(False), {}),
    "palette-transparent.gif": (with_palette(True), dict(transparency=3)),
    "grey.png": (GREY, {}),
    "grey.jpg": (GREY, {}),
    "grey-alpha.png": (RGBA.convert("LA"), {}),
    "16-bit.png": (Image.fromarray(DEEP.astype(np.uint16)), {}),
    "16-bit.tif": (Image.fromarray(DEEP.astype(np.uint16)), {}),
    "32-bit.tif": (Image.fromarray(DEEP.astype(np.int32)), {}),
    "float.tif": (Image.fromarray(DEEP.astype(np.float32) / 200), {}),
    "cmyk.jpg": (RGB.convert("CMYK"), {}),
    "cmyk.tif": (RGB.convert("CMYK"), {}),
    "ycbcr.tif": (RGB.convert("YCbCr"), {}),
    "1-bit.png": (RGB.convert("1"), {}),
    "animated.gif": (GREY, dict(save_all=True, append_images=[GREY.rotate(90)])),
    "animated.png": (RGB, dict(save_all=True, append_images=[RGB.rotate(90)])),
    "animated.webp": (RGB, dict(save_all=True, append_images=[RGB.rotate(90)], lossless=True)),
} | {f"exif-{n}.{form}": (RGB, dict(exif=exif(n))) for n in range(1, 9) for form in ("jpg", "png")}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # load_image leaves files open
@pytest.mark.parametrize("name", FILES)
def test_every_mode(tmp_path, name):
    image, options = FILES[name]
    path = tmp_path / name
    image.save(path, **options)
    assert_same(path, str(path), "drop")  # a path each
    assert_same(path.read_bytes(), str(path), "drop")
    with Image.open(path) as ours, Image.open(path) as theirs:  # an opened image each
        assert_same(ours, theirs)
    with Image.open(path) as theirs:  # a file lies on white as an opened image does there
        assert_same(path, ImageOps.exif_transpose(theirs))


@pytest.mark.parametrize("array", [np.array(RGB), np.array(RGBA)], ids=["rgb", "rgba"])
def test_arrays(array):
    assert_same(array, array)


def test_sizes_of_images_and_videos():
    random = np.random.default_rng(0)

    def compare(ours, theirs, **size):
        try:
            expected = theirs(**size)
        except ValueError:
            with pytest.raises(QwenRefError):
                ours(**size)
        else:
            assert ours(**size) == expected

    for _ in range(20_000):
        frames, height, width = (int(n) for n in np.exp(random.uniform(0, np.log([800, 9000, 9000]))))
        least, most = sorted(int(n) for n in np.exp(random.uniform(np.log(1024), np.log(3e7), 2)))
        size = dict(height=height, width=width, factor=32, min_pixels=least, max_pixels=most)
        compare(images.smart_resize, image_resize, **size)
        compare(video.smart_resize_video, video_resize, num_frames=frames, temporal_factor=2, **size)


def test_frames_and_times():
    for total in [*range(1, 50), 480, 481, 1799, 54_321]:
        for rate in (1.0, 7.5, 8.0, 24.0, 30000 / 1001, 60.0):
            for fps in (0.1, 1, 2.0, 2.5, 8, 100):
                metadata = VideoMetadata(total_num_frames=total, fps=rate)
                expected = VIDEO_PROCESSOR.sample_frames(metadata, fps=fps)
                ours = video.sample_frames(total, rate, fps)
                assert ours == expected.tolist()
                times = Qwen3VLProcessor._calculate_timestamps(SimpleNamespace(), expected, rate, 2)
                assert video.timestamps(ours, rate) == times


def test_times_of_chosen_frames():
    for total, rate, count in [(380, 30.0, 8), (1000, 29.97, 7), (90, 12.5, 33)]:
        indices = np.linspace(0, total - 1, count).round().astype(int)
        expected = Qwen3VLProcessor._calculate_timestamps(SimpleNamespace(), indices, rate, 2)
        clip = np.zeros((count, 64, 64, 3), np.uint8)
        assert video.read_video(clip, times=list(indices / rate)).timestamps == expected


def test_a_minute_of_video_costs_what_transformers_says():
    clip = [np.zeros((720, 1280, 3), np.uint8)] * 480
    ours = video.read_video(clip, fps=8, frame_rate=8)
    assert VIDEO_PROCESSOR.get_num_of_video_patches(480, 720, 1280) == 4 * ours.num_tokens
    assert ours.num_tokens == 10_800


@pytest.mark.parametrize("frames", [4, 7])
def test_pixels_of_a_video(frames):
    """What follows the resizing is equal bit for bit."""
    clip = np.stack([picture(200, 333, seed) for seed in range(frames)])
    ours = video.read_video(clip, fps=24)
    resized = [video.resize_frame(Image.fromarray(f), ours.height, ours.width) for f in clip]
    pixels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)  # [T, C, H, W]
    mean, std, _ = VIDEO_PROCESSOR._fuse_mean_std_and_rescale_factor(
        True, (0.5,) * 3, (0.5,) * 3, True, 1 / 255
    )
    pixels = (pixels.float() - mean[:, None, None]) / std[:, None, None]
    expected, *grid_thw = VIDEO_PROCESSOR.patchify(pixels[None], **SIZES)
    assert ours.grid_thw == tuple(grid_thw)
    np.testing.assert_array_equal(np.concatenate(list(ours.patches())), expected[0].numpy())


def test_resampling_of_a_video():
    """At most 2 of 255 from torch's antialiased bicubic; more than 1 in under 1 of 10,000 values."""
    random = np.random.default_rng(0)
    difference = []
    for seed in range(100):
        height, width = random.integers(16, 800, 2)
        H, W = (int(n) * 32 for n in random.integers(1, 20, 2))
        frame = picture(height, width, seed) if seed % 2 else random.integers(0, 256, (height, width, 3))
        frame = frame.astype(np.uint8)
        pixels = torch.from_numpy(frame).permute(2, 0, 1)[None]  # [1, C, H, W]
        expected = torch.nn.functional.interpolate(pixels, (H, W), mode="bicubic", antialias=True)
        ours = video.resize_frame(Image.fromarray(frame), H, W).astype(int)
        difference.append(np.abs(ours - expected[0].permute(1, 2, 0).numpy()).ravel())
    difference = np.concatenate(difference)
    assert difference.max() <= 2
    assert (difference > 1).mean() < 1e-4
    assert (difference > 0).mean() < 0.01
