"""A video to patches: which frames are looked at, at what size and time, and their pixels pair by pair.

Frames are chosen, sized and timed as transformers' `Qwen3VLVideoProcessor` and `Qwen3VLProcessor` do for
Qwen3.5. Files are read through imageio's PyAV plugin: it is FFmpeg inside this process, so no subprocess is
left behind when a reader stops early, and PyAV, as in transformers, tells exactly which frame is which. Only
a few decoded frames are in memory at any time, however long the video is.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from qwen_ref.config import VIDEO_PIXELS
from qwen_ref.errors import QwenRefError, logger, of_type
from qwen_ref.files import regular_file
from qwen_ref.media import uri
from qwen_ref.media.images import (
    ImageSource,
    check_decoded_size,
    check_shape,
    flatten,
    name_of,
    read_image,
)
from qwen_ref.media.patches import MEAN, SIZES, STD, PatchSizes, cut_patches, video_values

FPS, MIN_FRAMES, MAX_FRAMES = 2.0, 4, 768
MIN_PIXELS, MAX_PIXELS = VIDEO_PIXELS
FRAME_RATE = 24.0  # of a folder, a list or an array, where nobody says: transformers' assumption

FORMATS = "mov,matroska,webm,gif,avi"  # FFmpeg's names; mov is mp4 too
NO_FRAMES = {"PDF", "PALM", "MPEG", "HDF5", "GRIB", "BUFR"}  # formats that Pillow names but does not read

if TYPE_CHECKING:  # the extra `clips`
    import av

VideoSource = str | os.PathLike[str] | bytes | bytearray | Sequence[ImageSource] | np.ndarray
Progress = Callable[[int, int], None]  # called with (frames gone through, frames to go through)


@dataclass(frozen=True)
class Clip:
    """A source of frames, before anything is chosen. `read` gives the frames of ascending indices, in RGB.

    `fps` is None of a folder, a list or an array, which do not know it.
    """

    name: str
    num_frames: int
    fps: float | None
    height: int
    width: int
    read: Callable[[list[int], Progress | None], Generator[Image.Image]]


@dataclass(frozen=True)
class VideoFrames:
    """The frames of a video that the model will see; known before they are decoded.

    clip           where they come from: its name, num_frames, fps (if it knows), height and width
    indices        which of its frames, ascending; if their number is odd, the last one is its own partner
    height, width  of a frame after resizing
    grid_thw       (pairs, h, w): how many patches in time, down and across
    timestamps     the mean time of each pair, in seconds
    num_tokens     what all of it costs, without the text before each pair
    values, sizes  what a pixel's value becomes, and how patches are cut (see patches.py)
    """

    clip: Clip
    indices: list[int]
    height: int
    width: int
    grid_thw: tuple[int, int, int]
    timestamps: list[float]
    num_tokens: int
    values: np.ndarray
    sizes: PatchSizes

    def patches(self, progress: Progress | None = None) -> Iterator[np.ndarray]:
        """Decode; for each pair of frames, its patches: float32 [h*w, 3 * temporal_patch_size * patch_size²].

        All of them one after another are transformers' pixel_values_videos. A generator: close it, or let it
        go, and the file is closed. Raises QwenRefError if a frame cannot be decoded or is of another size.
        """
        T = self.sizes.temporal_patch_size
        pair: list[np.ndarray] = []  # T frames [H, W, 3]
        with closing(self.clip.read(self.indices, progress)) as frames:
            for n, frame in enumerate(frames, 1):
                pair.append(resize_frame(frame, self.height, self.width))
                if n == len(self.indices):
                    pair += [pair[-1]] * (T - len(pair))
                if len(pair) == T:
                    yield cut_patches(np.stack(pair), self.values, self.sizes)  # [T, H, W, 3]
                    pair.clear()


def read_video(
    source: VideoSource,
    fps: float = FPS,
    min_frames: int = MIN_FRAMES,
    max_frames: int = MAX_FRAMES,
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = MAX_PIXELS,
    frame_rate: float | None = None,
    times: Sequence[float] | None = None,
    transparency: str = "white",
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    sizes: PatchSizes = SIZES,
) -> VideoFrames:
    """Open a video and choose its frames; `VideoFrames.patches` then decodes them.

    `source` is an mp4, webm, gif or avi file, its bytes or a data URI, a folder of images (in the natural
    order of their names: 2 before 10), a list of images (as `read_image` takes them) or a uint8 array
    [T, H, W, 3]. All are read when their patches are made, and must stay as they are until then.
    `fps` frames a second are looked at, at least `min_frames` and at most `max_frames`, and never more than
    there are. A file knows its rate; of a folder, a list or an array it is `frame_rate`, else 24 a second, as
    transformers assumes, and a warning is logged if frames are left out on that ground. Or `times` has the
    time of each of their frames, in seconds: then all are looked at, and `fps`, `min_frames` and `max_frames`
    choose nothing. The pixel limits are for all frames together. Videos filmed upright are turned as they
    say, which transformers with PyAV does not do, and what is transparent lies on white (see `read_image`).

    Raises QwenRefError, naming the file, if it is not such a video, is cut off or damaged, has fewer than
    two frames, no known rate or frames of a size that cannot be used, or if a number makes no sense.
    """
    for option, value in (("fps", fps), ("frame_rate", frame_rate)):
        check_rate(option, value)
    if max_frames < 1:
        raise QwenRefError(f"max_frames: {max_frames} is less than 1")
    clip = _open(source, transparency)
    for option, given in (("frame_rate", frame_rate), ("times", times)):
        if given is not None and clip.fps is not None:
            raise QwenRefError(f"{clip.name}: {option}: the file has times of its own")
    check_shape(clip.name, clip.height, clip.width)
    rate = clip.fps or frame_rate or FRAME_RATE
    if times is None:
        indices = sample_frames(clip.num_frames, rate, fps, min_frames, max_frames)
        moments = timestamps(indices, rate, sizes.temporal_patch_size)
    else:
        indices = list(range(clip.num_frames))
        moments = mean_times(checked_times(clip, times), sizes.temporal_patch_size)
    if len(indices) < sizes.temporal_patch_size:
        raise QwenRefError(
            f"{clip.name}: frames: {len(indices)} of {clip.num_frames} is too few for a video, which needs "
            f"{sizes.temporal_patch_size}"
        )
    if times is frame_rate is clip.fps is None and len(indices) < clip.num_frames:
        logger.warning(
            f"{clip.name}: {clip.num_frames} frames, taken as {FRAME_RATE:g} a second, of which "
            f"{len(indices)} are looked at; give their times to keep all, or their frame rate"
        )
    height, width = smart_resize_video(
        len(indices), clip.height, clip.width, sizes.factor, sizes.temporal_patch_size, min_pixels, max_pixels
    )
    grid_thw = (len(moments), height // sizes.patch_size, width // sizes.patch_size)
    return VideoFrames(
        clip,
        indices,
        height,
        width,
        grid_thw,
        moments,
        sizes.num_tokens(grid_thw),
        video_values(mean, std),
        sizes,
    )


def sample_frames(
    num_frames: int,
    video_fps: float,
    fps: float = FPS,
    min_frames: int = MIN_FRAMES,
    max_frames: int = MAX_FRAMES,
) -> list[int]:
    """Which frames of a video to look at: `Qwen3VLVideoProcessor.sample_frames`."""
    wanted = int(num_frames / video_fps * fps)
    wanted = min(max(wanted, min_frames), max_frames, num_frames)
    return np.linspace(0, num_frames - 1, wanted).round().astype(int).tolist()


def timestamps(indices: list[int], video_fps: float, temporal_patch_size: int = 2) -> list[float]:
    """The times of frames at a steady rate, pair by pair: `Qwen3VLProcessor._calculate_timestamps`."""
    return mean_times([index / video_fps for index in indices], temporal_patch_size)


def mean_times(times: list[float], temporal_patch_size: int = 2) -> list[float]:
    """The mean of the first and the last time in each pair; an odd last frame is its own partner."""
    times = times + [times[-1]] * (-len(times) % temporal_patch_size)
    last = temporal_patch_size - 1
    return [(times[i] + times[i + last]) / 2 for i in range(0, len(times), temporal_patch_size)]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def check_rate(option: str, value: Any) -> None:
    """Raises QwenRefError if it is no rate (or None: not given)."""
    if value is not None and not (is_number(value) and 1e-6 <= value <= 1e6):
        raise QwenRefError(f"{option}: {value!r:.80} is not a number of frames a second")


def checked_times(clip: Clip, times: Any) -> list[float]:
    """Raises QwenRefError if they are not the ascending times of all frames."""
    if not isinstance(times, list | tuple | np.ndarray) or np.ndim(times) != 1:
        raise QwenRefError(f"{clip.name}: times: {of_type(times)} is no list of seconds")
    for time in times:
        if not (is_number(time) and 0 <= time < 1e9):
            raise QwenRefError(f"{clip.name}: times: {time!r:.80} is not a number of seconds from 0 on")
    if len(times) != clip.num_frames:
        raise QwenRefError(f"{clip.name}: times: {len(times)} for {clip.num_frames} frames")
    for earlier, later in itertools.pairwise(times):
        if later < earlier:
            raise QwenRefError(f"{clip.name}: times: {later} comes after {earlier}")
    return [float(time) for time in times]


def smart_resize_video(
    num_frames: int,
    height: int,
    width: int,
    factor: int = 32,
    temporal_factor: int = 2,
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = MAX_PIXELS,
) -> tuple[int, int]:
    """(height, width) to resize every frame to: transformers' `smart_resize` of Qwen3-VL's video processor.

    Unlike the one for images it counts the pixels of all frames (rounded to pairs, half to even, where it
    compares) and first enlarges what is smaller than `factor`. Raises QwenRefError for fewer than
    `temporal_factor` frames, and if one side is over 200 times the other.
    """
    if num_frames < temporal_factor:
        raise QwenRefError(f"the video: frames: {num_frames} is fewer than {temporal_factor}")
    check_shape("the video", height, width)
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
        check_shape("the video", height, width)
    h_bar = round(height / factor) * factor
    w_bar = round(width / factor) * factor
    t_bar = round(num_frames / temporal_factor) * temporal_factor
    if t_bar * h_bar * w_bar > max_pixels:
        beta = math.sqrt((num_frames * height * width) / max_pixels)
        h_bar = max(factor, math.floor(height / beta / factor) * factor)
        w_bar = max(factor, math.floor(width / beta / factor) * factor)
    elif t_bar * h_bar * w_bar < min_pixels:
        beta = math.sqrt(min_pixels / (num_frames * height * width))
        h_bar = math.ceil(height * beta / factor) * factor
        w_bar = math.ceil(width * beta / factor) * factor
    return h_bar, w_bar


def resize_frame(frame: Image.Image, height: int, width: int) -> np.ndarray:
    """RGB -> uint8 [height, width, 3], antialiased bicubic, first across and then down.

    torch does it in this order (`interpolate` on uint8, which transformers calls for videos), with coarser
    weights: at most 2 of 255 away, and equal for more than 99 % of the values. Pillow left alone takes the
    cheaper order, and rounding in between then moves single values by up to 30.
    """
    across = frame.resize((width, frame.height), Image.Resampling.BICUBIC)
    return np.asarray(across.resize((width, height), Image.Resampling.BICUBIC))


def _open(source: VideoSource, transparency: str) -> Clip:
    name = source.path if isinstance(source, uri.File) else "the bytes"
    if isinstance(source, str):
        name, source = uri.name_of(source), uri.read_text(source, "video")
    if isinstance(source, str | os.PathLike):
        uri.check_path(source)
    if isinstance(source, bytes | bytearray):
        return _open_file(name, lambda: io.BytesIO(source), transparency)
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 4 or source.shape[3] != 3:
            raise QwenRefError(
                f"the array: {source.dtype} {list(source.shape)} is not uint8 [T, H, W, 3], as a video is"
            )
        return _open_images("the array", list(source), transparency)
    if isinstance(source, list | tuple):
        return _open_images("the images", source, transparency)
    if not isinstance(source, str | os.PathLike):
        raise QwenRefError(f"a video: {of_type(source)} is no path, bytes, list of images or array")
    if os.path.isdir(source):
        return _open_images(str(source), _frames_in(Path(source)), transparency)
    path = regular_file(source)
    return _open_file(str(path), lambda: path.open("rb"), transparency)


def _frames_in(folder: Path) -> list[Path]:
    """The pictures in a folder, in their order; of what else lies there the user is told."""
    Image.init()
    pictures = {suffix for suffix, kind in Image.registered_extensions().items() if kind not in NO_FRAMES}
    try:
        entries = sorted((e for e in folder.iterdir() if not e.name.startswith(".")), key=_natural_order)
    except OSError as error:
        raise QwenRefError(f"{folder}: cannot be read: {error.strerror}") from None
    frames, others = list[Path](), list[str]()
    for entry in entries:
        if entry.suffix.lower() in pictures and entry.is_file():
            frames.append(entry)
        else:
            others.append(entry.name)
    if frames and others:
        more = f" and {len(others) - 1} more" if others[1:] else ""
        logger.warning(f"{folder}: {others[0]}{more}: no picture that can be read, and left out")
    return frames


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """frame2 before frame10: numbers in a name count as numbers."""
    parts = re.split(r"([0-9]+)", path.name)  # text, number, text, …
    return [(int(part) if i % 2 else 0, part) for i, part in enumerate(parts)]


def _open_images(name: str, images: Sequence[ImageSource], transparency: str) -> Clip:
    if not images:
        raise QwenRefError(f"{name}: holds no images")
    first = read_image(images[0], transparency)

    def read(indices: list[int], progress: Progress | None) -> Generator[Image.Image]:
        for index in indices:
            image = read_image(images[index], transparency)
            has_name = isinstance(images[index], str | os.PathLike | uri.File)
            which = name_of(images[index]) if has_name else f"{name}: {index}"
            _check_same_size(which, image, first.height, first.width)
            yield image
            if progress:
                progress(index + 1, indices[-1] + 1)

    return Clip(name, len(images), None, first.height, first.width, read)


def _check_same_size(name: str, image: Image.Image, height: int, width: int) -> None:
    if image.size != (width, height):
        raise QwenRefError(
            f"{name}: size: {image.width} × {image.height} is not that of the first frame, {width} × {height}"
        )


def _open_file(name: str, open_stream: Callable[[], BinaryIO], transparency: str) -> Clip:
    with _decoder(name, open_stream) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise QwenRefError(f"{name}: frame rate: is not known")
        count = 0
        if container.format.name.startswith("mov"):  # each packet is a frame, unless the edit list says no
            count = sum(1 for packet in container.demux(stream) if packet.size and not packet.is_discard)
            container.seek(0)
        frames = container.decode(stream)
        first = next(frames, None)
        if first is None:
            raise QwenRefError(f"{name}: holds no frames")
        width, height = _upright(first, transparency).size
        num_frames = count or 1 + sum(1 for _ in frames)  # elsewhere packets may be hidden: decode to count

    def read(indices: list[int], progress: Progress | None) -> Generator[Image.Image]:
        wanted = iter(indices)
        index = next(wanted)
        with _decoder(name, open_stream) as (container, stream):
            for n, frame in enumerate(container.decode(stream)):
                if n == index:
                    if frame.is_corrupt:
                        raise QwenRefError(f"{name}: frame {n}: is damaged")
                    image = _upright(frame, transparency)
                    _check_same_size(f"{name}: frame {n}", image, height, width)
                    yield image
                    index = next(wanted, -1)
                if progress:
                    progress(n + 1, indices[-1] + 1)
                if index < 0:
                    return
        raise QwenRefError(f"{name}: ends before frame {index} of {num_frames}")

    return Clip(name, num_frames, float(rate), height, width, read)


def _upright(frame: av.VideoFrame, transparency: str) -> Image.Image:
    """RGB, turned as the file says (phones film sideways and note the angle)."""
    has_alpha = any(component.is_alpha for component in frame.format.components)
    pixels = frame.to_ndarray(  # [H, W, 3 or 4]; more threads would outlive the file
        format="rgba" if has_alpha else "rgb24", threads=1
    )
    turned = np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
    return flatten(Image.fromarray(turned), transparency)


@contextmanager
def _decoder(
    name: str, open_stream: Callable[[], BinaryIO]
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The open file and its video stream; whatever FFmpeg complains of while it is in use is one sentence."""
    try:
        import av
        import imageio.v3 as iio
    except ImportError:
        raise QwenRefError(f"{name}: a clip in a file needs FFmpeg: pip install 'qwen_ref[clips]'") from None
    # A title in the file may be in any encoding. PyAV takes it from version 19 on; before, it has to be told.
    any_title: dict[str, Any] = (
        {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}
    )
    with open_stream() as file:
        if _is_cut_off(file):
            raise QwenRefError(f"{name}: is cut off: it ends before its last part does")
        try:
            plugin: Any = iio.imopen(
                file, "r", plugin="pyav", options={"format_whitelist": FORMATS}, **any_title
            )
        except OSError as error:  # whatever went wrong, imageio makes it this
            if isinstance(error.__cause__, MemoryError):
                raise error.__cause__ from None
            what = "is not an mp4, webm, gif or avi video, or a damaged one"
            if isinstance(error.__cause__, IndexError):  # there is no first video stream
                what = "holds no video that FFmpeg can decode"
            raise QwenRefError(f"{name}: {what}") from None
        try:
            with plugin:
                # imageio gives pixels alone. Which frames an edit list hides, which are damaged and how a
                # frame is turned, PyAV says, whose container this is; nothing else reaches behind the plugin.
                container = plugin._container
                stream = container.streams.video[0]
                if stream.codec_context is None:
                    raise QwenRefError(f"{name}: holds no video that FFmpeg can decode")
                check_decoded_size(name, stream.height, stream.width)
                stream.thread_type = "AUTO"
                yield container, stream
        except (av.FFmpegError, OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or error
            raise QwenRefError(f"{name}: cannot be decoded: {problem}") from None


def _is_cut_off(file: BinaryIO) -> bool:
    """Is the file shorter than its outermost parts say? FFmpeg would show what is left without a word."""
    end = file.seek(0, os.SEEK_END)
    head = _bytes_at(file, 0, 12)
    announced = 0
    if head[:3] == b"GIF":  # no length, but a last byte, which padding may follow
        announced = end + (not _bytes_at(file, max(0, end - 64), 64).rstrip(b"\0\r\n").endswith(b";"))
    elif head[:4] == b"RIFF":  # avi: its length after the name
        announced = 8 + int.from_bytes(head[4:8], "little")
    elif head[:4] == b"\x1aE\xdf\xa3":  # webm: a header and a Segment, each a name, a length and content
        start, length = _ebml_length(file, 4)
        start, length = _ebml_length(file, start + length + 4)
        announced = start + length
    elif head[4:8] == b"ftyp":  # mp4: boxes, each a length, a name and content
        while announced < end and head[4:8].isalnum():
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(_bytes_at(file, announced + 8, 8), "big")
            if length < 8:  # 0: up to the end
                break
            announced += length
            head = _bytes_at(file, announced, 8)
    file.seek(0)
    return announced > end


def _bytes_at(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def _ebml_length(file: BinaryIO, position: int) -> tuple[int, int]:
    """Where the content begins whose length is stored at `position`, and that length; 0 if left open."""
    head = _bytes_at(file, position, 8)
    size = 9 - head[0].bit_length() if head else 9  # of the length, in bytes: its leading zero bits tell
    if size > len(head):
        return position, 0
    most = (1 << 7 * size) - 1
    length = int.from_bytes(head[:size], "big") & most
    return position + size, 0 if length == most else length
