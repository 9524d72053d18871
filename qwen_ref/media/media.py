"""A picture or clip in a conversation: what the text needs to know of it, and its patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qwen_ref.config import TEMPORAL_PATCH_SIZE, VisionConfig
from qwen_ref.errors import QwenRefError
from qwen_ref.media import images, video
from qwen_ref.media.patches import PatchSizes

Progress = Callable[[int, int], None]  # called with (frames done, frames in all)
Source = Any  # what read_image or read_video takes


@dataclass(frozen=True)
class Limits:
    """How much of pictures and clips is looked at. Unless given, what Qwen's processors are set to."""

    max_image_tokens: int | None = None  # of each image
    max_video_tokens: int | None = None  # of each video
    fps: float = video.FPS  # frames looked at in a second of a video
    min_frames: int = video.MIN_FRAMES
    max_frames: int = video.MAX_FRAMES

    def __post_init__(self) -> None:
        for name in "max_image_tokens", "max_video_tokens", "min_frames", "max_frames":
            value = getattr(self, name)
            if value is not None and value < 1:
                raise QwenRefError(f"{name}: {value} is less than 1")


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


def open_image(source: Source, config: VisionConfig, limits: Limits) -> Media:
    """Read a picture. Raises QwenRefError as `images.read_image` does."""
    sizes = patch_sizes(config)
    most = images.MAX_PIXELS
    if limits.max_image_tokens is not None:
        most = min(most, limits.max_image_tokens * sizes.factor**2)
    least = min(images.MIN_PIXELS, most)
    picture = images.read_image(source)
    height, width = images.smart_resize(picture.height, picture.width, sizes.factor, least, most)

    def patches(progress: Progress | None) -> Iterator[np.ndarray]:
        made = images.image_patches(picture, least, most, config.image_mean, config.image_std, sizes)
        yield made.pixels

    h, w = height // sizes.patch_size, width // sizes.patch_size
    shape = Shape("image", (1, h // sizes.merge_size, w // sizes.merge_size))
    return Media(images.name_of(source), shape, (1, h, w), patches, picture)


def open_video(source: Source, config: VisionConfig, limits: Limits) -> Media:
    """Choose a clip's frames; they are decoded when its patches are asked for."""
    sizes = patch_sizes(config)
    most = video.MAX_PIXELS
    if limits.max_video_tokens is not None:
        most = min(most, limits.max_video_tokens * sizes.factor**2 * sizes.temporal_patch_size)
    frames = video.read_video(
        source,
        limits.fps,
        limits.min_frames,
        limits.max_frames,
        min(video.MIN_PIXELS, most),
        most,
        mean=config.image_mean,
        std=config.image_std,
        sizes=sizes,
    )
    t, h, w = frames.grid_thw
    shape = Shape("video", (t, h // sizes.merge_size, w // sizes.merge_size), tuple(frames.timestamps))
    return Media(frames.clip.name, shape, frames.grid_thw, frames.patches)


def patch_sizes(config: VisionConfig) -> PatchSizes:
    return PatchSizes(config.patch_size, config.spatial_merge_size, TEMPORAL_PATCH_SIZE)


OPENERS = {"image": open_image, "video": open_video}


def user_message(prompt: str, images: Sequence[Source] = (), videos: Sequence[Source] = ()) -> dict[str, Any]:
    """A question as a chat message, its pictures and clips before it."""
    if not images and not videos:
        return {"role": "user", "content": prompt}
    parts = [{"type": "image", "image": s} for s in images] + [{"type": "video", "video": s} for s in videos]
    return {"role": "user", "content": [*parts, {"type": "text", "text": prompt}]}


def media_kind(part: Any) -> str | None:
    """ "image" or "video" if this part of a message's content is one."""
    if not isinstance(part, dict):
        return None
    if "image_url" in part:
        raise QwenRefError('the messages: image_url: give {"type": "image", "image": file, bytes or image}')
    return next((kind for kind in OPENERS if kind in part or part.get("type") == kind), None)


def sources(messages: Sequence[dict[str, Any]]) -> list[tuple[str, Source]]:
    """(kind, source) of each picture and clip, in the order in which the conversation shows them."""
    found = []
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list | tuple) else ():
            if kind := media_kind(part):
                if part.get(kind) is None:
                    raise QwenRefError(f"the messages: {kind}: a content part of this type holds no {kind!r}")
                found.append((kind, part[kind]))
    return found


def without_sources(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same conversation for the chat template, which needs to know only where a picture stands."""

    def plain(content: Any) -> Any:
        if not isinstance(content, list | tuple):
            return content
        return [{"type": kind} if (kind := media_kind(part)) else part for part in content]

    return [message | {"content": plain(message["content"])} if "content" in message else message
            for message in messages]  # fmt: skip
