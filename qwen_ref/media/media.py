"""A picture or clip in a conversation: what the text needs to know of it, and its patches."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from qwen_ref.config import TEMPORAL_PATCH_SIZE, VisionConfig
from qwen_ref.errors import QwenRefError, logger, of_type
from qwen_ref.media import images, video
from qwen_ref.media.parts import Part, Source, read_parts
from qwen_ref.media.patches import PatchSizes

Progress = Callable[[int, int], None]  # called with (frames done, frames in all)


@dataclass(frozen=True)
class Limits:
    """How pictures and clips are looked at. Unless given, as Qwen's processors are set.

    A part of a message may hold the same fields, which then count for it alone. Where a limit cannot be kept,
    because a thin picture or a clip has one token along its short side at least, a warning is logged.
    Raises QwenRefError for a value that makes no sense.
    """

    max_image_tokens: int | None = None  # of each image
    max_video_tokens: int | None = None  # of each video
    fps: float = video.FPS  # frames looked at in a second of a video whose frames have no times of their own
    min_frames: int | None = None  # of such a video; 4, or max_frames if that is less
    max_frames: int = video.MAX_FRAMES
    transparency: str = "white"  # what lies under it; "drop" treats files as transformers does

    def __post_init__(self) -> None:
        for name in "max_image_tokens", "max_video_tokens", "min_frames", "max_frames":
            value = getattr(self, name)
            if value is None and name != "max_frames":
                continue
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise QwenRefError(f"{name}: {value!r:.80} is not a whole number from 1 on")
        video.check_rate("fps", self.fps)
        if self.min_frames is not None and self.min_frames > self.max_frames:
            raise QwenRefError(f"min_frames: {self.min_frames} is more than max_frames, {self.max_frames}")
        if self.transparency not in images.TRANSPARENCY:
            raise QwenRefError(
                f"transparency: {self.transparency!r:.80} is not one of {', '.join(images.TRANSPARENCY)}"
            )


@dataclass(frozen=True)
class Shape:
    """What the text holds in a medium's place."""

    kind: str  # "image" or "video"
    grid: tuple[int, int, int]  # (time steps, rows, columns) of tokens
    timestamps: tuple[float, ...] = ()  # of a video's time steps, in seconds

    @property
    def num_tokens(self) -> int:
        steps, rows, columns = self.grid
        return steps * rows * columns


@dataclass(frozen=True)
class Media:
    name: str
    shape: Shape
    grid_thw: tuple[int, int, int]  # patches in time, down and across
    patches: Callable[[Progress | None], Iterator[np.ndarray]]  # those of each time step, [h*w, C*2*16*16]
    image: Any = None  # the picture itself, in RGB; of a video none

    @functools.cached_property
    def digest(self) -> bytes:
        """Of all that the vision tower would see: two that have the same are the same to it. Of a picture its
        pixels say that before they are resized; a clip is read."""
        digest = hashlib.blake2b(repr(self.grid_thw).encode(), digest_size=16)
        if self.image is not None:
            digest.update(repr(self.image.size).encode() + self.image.tobytes())
            return digest.digest()
        for patches in self.patches(None):
            digest.update(
                f"{patches.dtype}{patches.shape}".encode() + np.ascontiguousarray(patches).tobytes()
            )
        return digest.digest()


def open_all(
    messages: Sequence[dict[str, Any]],
    limits: Limits | None,
    vision: Callable[[], VisionConfig],
    numbered: bool = True,
) -> list[Media]:
    """All pictures and clips of a conversation. `vision` is asked for the configuration if there are any.

    Raises QwenRefError, with the numbers of message and part if the user knows them (`numbered`).
    """
    if not isinstance(limits, Limits | None):
        raise QwenRefError(f"limits: {of_type(limits)} is no qwen_ref.media.media.Limits")
    return [open_part(part, vision(), limits or Limits(), numbered) for part in read_parts(messages)]


def open_part(part: Part, config: VisionConfig, limits: Limits, numbered: bool) -> Media:
    """A picture or a clip, its own fields before the limits. Raises QwenRefError."""
    options = dict(part.options)
    timing = {name: options.pop(name) for name in ("frame_rate", "times") if name in options}
    try:
        limits = dataclasses.replace(limits, **options)
        if part.kind == "image":
            return open_image(part.source, config, limits)
        return open_video(part.source, config, limits, **timing)
    except QwenRefError as error:
        place = f"{part.where}: " if numbered or part.options else ""
        raise QwenRefError(f"{place}{error}") from None


def open_image(source: Source, config: VisionConfig, limits: Limits) -> Media:
    """Read a picture. Raises QwenRefError as `images.read_image` does."""
    sizes = patch_sizes(config)
    picture = images.read_image(source, limits.transparency)
    (height, width), least, most = resized(picture.height, picture.width, config, limits.max_image_tokens)

    def patches(progress: Progress | None) -> Iterator[np.ndarray]:
        made = images.image_patches(picture, least, most, config.image_mean, config.image_std, sizes)
        yield made.pixels

    h, w = height // sizes.patch_size, width // sizes.patch_size
    shape = Shape("image", (1, h // sizes.merge_size, w // sizes.merge_size))
    name = images.name_of(source)
    tell_if_over(name, "max_image_tokens", most // sizes.factor**2, shape, picture.width, picture.height)
    return Media(name, shape, (1, h, w), patches, picture)


def resized(
    height: int, width: int, config: VisionConfig, max_tokens: int | None
) -> tuple[tuple[int, int], int, int]:
    """(height, width) that the tower sees of a picture, and the fewest and most pixels that led there.

    Raises QwenRefError as `images.smart_resize` does.
    """
    factor, (low, most) = patch_sizes(config).factor, config.image_pixels
    if max_tokens is not None:
        most = min(most, max_tokens * factor**2)
    least = min(low, most)
    size = images.smart_resize(height, width, factor, least, most)
    while least and size[0] * size[1] > most:  # it enlarges to whole tokens, and so perhaps beyond the limit
        least //= 2
        size = images.smart_resize(height, width, factor, least, most)
    return size, least, most


def open_video(
    source: Source,
    config: VisionConfig,
    limits: Limits,
    frame_rate: float | None = None,
    times: Sequence[float] | None = None,
) -> Media:
    """Choose a clip's frames; they are decoded when its patches are asked for.

    Raises QwenRefError as `video.read_video` does.
    """
    sizes = patch_sizes(config)
    of_a_token = sizes.factor**2 * sizes.temporal_patch_size  # pixels
    low, most = config.video_pixels
    if limits.max_video_tokens is not None:
        most = min(most, limits.max_video_tokens * of_a_token)
    frames = video.read_video(
        source,
        limits.fps,
        limits.min_frames or video.MIN_FRAMES,
        limits.max_frames,
        min(low, most),
        most,
        frame_rate,
        times,
        limits.transparency,
        mean=config.image_mean,
        std=config.image_std,
        sizes=sizes,
    )
    t, h, w = frames.grid_thw
    shape = Shape("video", (t, h // sizes.merge_size, w // sizes.merge_size), tuple(frames.timestamps))
    clip, num_frames = frames.clip, len(frames.indices)
    tell_if_over(clip.name, "max_video_tokens", most // of_a_token, shape, clip.width, clip.height)
    if times is None and num_frames < (limits.min_frames or 0):
        logger.warning(f"{clip.name}: min_frames: {limits.min_frames} are wanted, but there are {num_frames}")
    return Media(clip.name, shape, frames.grid_thw, frames.patches)


def tell_if_over(name: str, option: str, limit: int, shape: Shape, width: int, height: int) -> None:
    if shape.num_tokens > limit:
        steps = f" in {shape.grid[0]} time steps" if shape.kind == "video" else ""
        logger.warning(
            f"{name}: {option}: {limit:,} cannot be kept by {width} × {height} pixels{steps}, which become "
            f"{shape.num_tokens:,} tokens"
        )


def patch_sizes(config: VisionConfig) -> PatchSizes:
    return PatchSizes(config.patch_size, config.spatial_merge_size, TEMPORAL_PATCH_SIZE)
