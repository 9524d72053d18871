"""An image to patches, bit for bit as transformers does it.

What a vision model sees depends on every step here: boxes come out wrong where the resized size differs by
one row of patches, and small text where the resampling does. The steps are those of `load_image` and
`Qwen2VLImageProcessorPil`, with the limits of Qwen3.5. One difference is chosen: what is transparent in a
file lies on white, as transformers lays it for a Pillow image, and the colours under it do not show.
"""

from __future__ import annotations

import io
import logging
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from qwen_ref.config import IMAGE_PIXELS
from qwen_ref.errors import QwenRefError, of_type
from qwen_ref.files import regular_file
from qwen_ref.media import uri
from qwen_ref.media.patches import MEAN, SIZES, STD, PatchSizes, cut_patches, image_values

MIN_PIXELS, MAX_PIXELS = IMAGE_PIXELS
MAX_DECODED_PIXELS = 178_956_970  # more are refused unread: Pillow's own limit, 716 MB in its memory
MAX_ASPECT_RATIO = 200
TRANSPARENCY = ("white", "drop")
ROWS = 64  # of a picture that are laid on white at once

# Pillow gives a PNG's one transparent colour as the file has it, but the pixels in 8 bits: how it gets there.
KEY_TO_8_BITS: dict[str, Callable[[Any], Any]] = {
    "L;2": lambda key: key * 85,
    "L;4": lambda key: key * 17,
    "RGB;16B": lambda key: tuple(value >> 8 for value in key),
}

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


def read_image(source: ImageSource, transparency: str = "white") -> Image.Image:
    """An RGB image from a file, the bytes of one, a data URI, a Pillow image or an array.

    What is transparent lies on white, with transformers' arithmetic (`convert_to_rgb`), however it is given.
    `transparency="drop"` treats it as transformers' `load_image` does a file: an alpha channel is dropped,
    and what colour lies under it shows; only one colour declared transparent, as in a GIF, becomes white.

    - a file, its bytes or a data URI: turned as its EXIF orientation says. Of 16 bits a pixel in grey the
      values above 255 become 255, as in transformers. An animation is its first frame.
    - a Pillow image: not turned, as in transformers.
    - an array: uint8 [H, W] (grey), [H, W, 3] or [H, W, 4]. Any other dtype or shape is refused.

    Raises QwenRefError, naming the file, if it is no image, is cut off, or has no pixels, too many of them
    (MAX_DECODED_PIXELS, seen before they are decoded), or a side over 200 times the other.
    """
    if transparency not in TRANSPARENCY:
        raise QwenRefError(f"transparency: {transparency!r:.80} is not one of {', '.join(TRANSPARENCY)}")
    name = name_of(source)
    if isinstance(source, str):
        source = uri.read_text(source, "image")
    if isinstance(source, str | os.PathLike):
        uri.check_path(source)
    if isinstance(source, np.ndarray):
        image = _from_array(source, transparency)
    elif isinstance(source, Image.Image):
        image = _guarded(name, b"", lambda: flatten(source, transparency))
        image = image.copy() if image is source else image  # its owner may draw on it
    elif isinstance(source, bytes | bytearray):
        content = bytes(source)
        image = _guarded(name, content[:8], lambda: _decode(name, io.BytesIO(content), transparency))
    elif not isinstance(source, str | os.PathLike):
        raise QwenRefError(f"a picture: {of_type(source)} is no path, bytes, image or array")
    else:
        path = regular_file(source)
        name = str(path)
        try:
            with path.open("rb") as file:
                head = file.read(8)
                file.seek(0)
                image = _guarded(name, head, lambda: _decode(name, file, transparency))
        except OSError as error:
            raise QwenRefError(f"{name}: cannot be read: {error.strerror}") from None
    check_shape(name, image.height, image.width)
    return image


def name_of(source: ImageSource) -> str:
    """What a picture is called: its path, or what it was given as."""
    if isinstance(source, uri.File):
        return source.path
    if isinstance(source, np.ndarray):
        return "the array"
    if isinstance(source, bytes | bytearray):
        return "the bytes"
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "the image")
    return uri.name_of(str(source))


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


def _decode(name: str, file: BinaryIO, transparency: str) -> Image.Image:
    """transformers' `load_image`, with fewer copies, and what the processor then does to its result."""
    with Image.open(file) as image:
        check_decoded_size(name, image.height, image.width)
        key = _transparent_colour(image)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return flatten(image, transparency, key)


def _transparent_colour(image: Image.Image) -> Any:
    """The one colour declared transparent, in the pixels' bits; None if there is none."""
    key = image.info.get("transparency")
    tile = getattr(image, "tile", None)  # of an image that is not loaded yet: how its pixels are stored
    if key is None or not tile or not isinstance(tile[0].args, str):
        return key
    return KEY_TO_8_BITS.get(tile[0].args, lambda key: key)(key)


def flatten(image: Image.Image, transparency: str = "white", key: Any = None) -> Image.Image:
    """An image of any mode in RGB; see `read_image`. `key` is its transparent colour, where the image's info
    does not say it rightly. An RGB image without one comes back as it is.
    """
    if image.mode == "La":  # which Pillow can only make this of
        image = image.convert("LA")
    if transparency == "drop":
        image.load()
        image, key = image if image.mode == "RGB" else image.convert("RGB"), None
    if key is None:
        key = _transparent_colour(image)
        image.load()
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    flat = Image.new("RGB", image.size)
    for top in range(0, image.height, ROWS):  # a few rows at a time: this takes four copies
        band = _rgba(image.crop((0, top, image.width, min(top + ROWS, image.height))), key)
        white = Image.new("RGBA", band.size, "white")
        flat.paste(Image.alpha_composite(white, band).convert("RGB"), (0, top))
    return flat


def _rgba(image: Image.Image, key: Any) -> Image.Image:
    if image.mode == "I;16":  # where Pillow looks for the colour in 8 bits
        rgba = image.convert("RGBA")
        rgba.putalpha(Image.fromarray(np.uint8(255) * (np.asarray(image) != key)))
        return rgba
    if key is not None:
        image.info["transparency"] = key
    return image.convert("RGBA")


def _from_array(array: np.ndarray, transparency: str) -> Image.Image:
    """transformers' `convert_to_rgb` for an array; it also takes grey ones, which transformers does not."""
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)):
        raise QwenRefError(
            f"the array: {array.dtype} {list(array.shape)} is not uint8 [H, W], [H, W, 3] or [H, W, 4]"
        )
    check_shape("the array", *array.shape[:2])
    if array.ndim == 2:
        return Image.fromarray(array).convert("RGB")
    if array.shape[2] == 4 and transparency == "drop":
        array = array[..., :3]
    elif array.shape[2] == 4:
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
