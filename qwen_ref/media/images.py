"""An image to patches, bit for bit as transformers does it.

What a vision model sees depends on every step here: boxes come out wrong where the resized size differs by
one row of patches, and small text where the resampling does. The steps are those of `load_image` and
`Qwen2VLImageProcessorPil`, with the limits of Qwen3.5.
"""

from __future__ import annotations

import io
import logging
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from qwen_ref.errors import QwenRefError
from qwen_ref.files import regular_file
from qwen_ref.media.patches import MEAN, SIZES, STD, PatchSizes, cut_patches, image_values

MIN_PIXELS, MAX_PIXELS = 65_536, 16_777_216  # Qwen's limits for an image after resizing
MAX_DECODED_PIXELS = 178_956_970  # more are refused unread: Pillow's own limit, 716 MB in its memory
MAX_ASPECT_RATIO = 200

logging.getLogger("PIL").addHandler(logging.NullHandler())  # its remarks on broken files, off the terminal

ImageSource = str | os.PathLike[str] | bytes | bytearray | Image.Image | np.ndarray


@dataclass(frozen=True)
class Patches:
    """An image for the vision tower.

    pixels    float32 [h*w, 3 * temporal_patch_size * patch_size²], transformers' pixel_values
    grid_thw  (1, h, w): how many patches in time, down and across
    """

    pixels: np.ndarray
    grid_thw: tuple[int, int, int]


def read_image(source: ImageSource) -> Image.Image:
    """An RGB image from a file, the bytes of one, a Pillow image or an array.

    Each kind of source is treated as transformers treats it, so one picture may look different as a file
    and as an object:

    - a file, or its bytes (`load_image`): turned as its EXIF orientation says, then Pillow's convert("RGB").
      An alpha channel is dropped, and what colour lies under it shows; one colour declared transparent, as
      in a GIF, becomes white. Of 16 bits a pixel the values above 255 become 255. An animation is its first
      frame.
    - a Pillow image (`convert_to_rgb`): not turned; transparency is laid on white.
    - an array: uint8 [H, W] (grey), [H, W, 3] or [H, W, 4] (`convert_to_rgb`: laid on white). Any other
      dtype or shape is refused.

    Raises QwenRefError, naming the file, if it is no image, is cut off, or has no pixels, too many of them
    (MAX_DECODED_PIXELS, seen before they are decoded), or a side over 200 times the other.
    """
    name = name_of(source)
    if isinstance(source, np.ndarray):
        image = _from_array(source)
    elif isinstance(source, Image.Image):
        image = _guarded(name, b"", lambda: _on_white(source))
        image = image.copy() if image is source else image  # its owner may draw on it
    elif isinstance(source, bytes | bytearray):
        image = _guarded(name, bytes(source[:8]), lambda: _decode(name, io.BytesIO(source)))
    elif not isinstance(source, str | os.PathLike):
        raise QwenRefError(f"a picture: a {type(source).__name__} is no path, bytes, image or array")
    else:
        path = regular_file(source)
        name = str(path)
        try:
            with path.open("rb") as file:
                head = file.read(8)
                file.seek(0)
                image = _guarded(name, head, lambda: _decode(name, file))
        except OSError as error:
            raise QwenRefError(f"{name}: cannot be read: {error.strerror}") from None
    check_shape(name, image.height, image.width)
    return image


def name_of(source: ImageSource) -> str:
    """What a picture is called: its path, or what it was given as."""
    if isinstance(source, np.ndarray):
        return "the array"
    if isinstance(source, bytes | bytearray):
        return "the bytes"
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "the image")
    return str(source)


def check_decoded_size(name: str, height: int, width: int) -> None:
    """Raises QwenRefError for a size that would fill the memory, before it does."""
    if height * width > MAX_DECODED_PIXELS:
        raise QwenRefError(f"{name}: size: {width} × {height} is over {MAX_DECODED_PIXELS} pixels")


def check_shape(name: str, height: int, width: int) -> None:
    """Raises QwenRefError for a size that `smart_resize` cannot use."""
    if height < 1 or width < 1:
        raise QwenRefError(f"{name}: size: {width} × {height} has no pixels")
    if max(height, width) / min(height, width) > MAX_ASPECT_RATIO:
        raise QwenRefError(
            f"{name}: size: {width} × {height} has a side over {MAX_ASPECT_RATIO} times the other"
        )


def _guarded(name: str, head: bytes, read: Callable[[], Image.Image]) -> Image.Image:
    """read(), without warnings, and with whatever Pillow raises for broken files as one sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except QwenRefError:
        raise
    except UnidentifiedImageError:
        what = f"is not an image, or a damaged one: it begins with {head!r}" if head else "is empty"
        raise QwenRefError(f"{name}: {what}") from None
    except Image.DecompressionBombError:
        raise QwenRefError(f"{name}: size: declares over {MAX_DECODED_PIXELS} pixels") from None
    except Exception as error:  # Pillow's plugins raise nearly anything: SyntaxError, struct.error, …
        problem = " ".join(str(error).split()) or type(error).__name__
        raise QwenRefError(f"{name}: cannot be decoded: {problem}") from None


def _decode(name: str, file: BinaryIO) -> Image.Image:
    """transformers' `load_image`, with fewer copies, and what the processor then does to its result."""
    with Image.open(file) as image:
        check_decoded_size(name, image.height, image.width)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _on_white(image if image.mode == "RGB" else image.convert("RGB"))


def _on_white(image: Image.Image) -> Image.Image:
    """transformers' `convert_to_rgb` for a Pillow image."""
    image.load()
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_array(array: np.ndarray) -> Image.Image:
    """transformers' `convert_to_rgb` for an array; it also takes grey ones, which transformers does not."""
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)):
        raise QwenRefError(
            f"the array: {array.dtype} {list(array.shape)} is not uint8 [H, W], [H, W, 3] or [H, W, 4]"
        )
    check_shape("the array", *array.shape[:2])
    if array.ndim == 2:
        return Image.fromarray(array).convert("RGB")
    if array.shape[2] == 4:
        rgb = np.empty((*array.shape[:2], 3), np.uint8)
        for row in range(len(array)):  # one at a time: the products are float64
            alpha = array[row, :, 3:] / 255  # [W, 1]
            rgb[row] = np.round(alpha * array[row, :, :3] + (1 - alpha) * 255)
        array = rgb
    return Image.fromarray(array)


def smart_resize(
    height: int,
    width: int,
    factor: int = 32,
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = MAX_PIXELS,
) -> tuple[int, int]:
    """(height, width) to resize to: multiples of `factor`, about the same shape, within the limits.

    transformers' `smart_resize` of Qwen2-VL, also where it leaves the limits: a long thin image has at least
    `factor` pixels on its short side. Raises QwenRefError if one side is over 200 times the other.
    """
    check_shape("the image", height, width)
    h_bar = round(height / factor) * factor
    w_bar = round(width / factor) * factor
    if h_bar * w_bar > max_pixels:
        beta = math.sqrt((height * width) / max_pixels)
        h_bar = max(factor, math.floor(height / beta / factor) * factor)
        w_bar = max(factor, math.floor(width / beta / factor) * factor)
    elif h_bar * w_bar < min_pixels:
        beta = math.sqrt(min_pixels / (height * width))
        h_bar = math.ceil(height * beta / factor) * factor
        w_bar = math.ceil(width * beta / factor) * factor
    return h_bar, w_bar


def image_tokens(
    height: int,
    width: int,
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = MAX_PIXELS,
    sizes: PatchSizes = SIZES,
) -> int:
    """How many tokens an image of this size costs. Raises QwenRefError as `smart_resize` does."""
    h, w = smart_resize(height, width, sizes.factor, min_pixels, max_pixels)
    return h * w // sizes.factor**2


def image_patches(
    image: Image.Image,
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = MAX_PIXELS,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    sizes: PatchSizes = SIZES,
) -> Patches:
    """Resize an RGB image (from `read_image`), normalize it, double it in time, cut it into patches.

    transformers' `Qwen2VLImageProcessorPil`. The largest array is the result: 24 bytes a pixel after
    resizing, 400 MB at 16,777,216 pixels. Raises QwenRefError as `smart_resize` does.
    """
    H, W = smart_resize(image.height, image.width, sizes.factor, min_pixels, max_pixels)
    resized = np.asarray(image.resize((W, H), Image.Resampling.BICUBIC))  # [H, W, 3] uint8
    frames = np.broadcast_to(resized, (sizes.temporal_patch_size, *resized.shape))  # [T, H, W, 3], no copy
    pixels = cut_patches(frames, image_values(mean, std), sizes)
    return Patches(pixels, (1, H // sizes.patch_size, W // sizes.patch_size))
