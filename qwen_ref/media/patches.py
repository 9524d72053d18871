"""Resized pixels to patches: the last step, which images and videos share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MEAN = STD = (0.5, 0.5, 0.5)  # Qwen's; a vision file states them as clip.vision.image_mean and image_std


@dataclass(frozen=True)
class PatchSizes:
    """A patch is patch_size² pixels of temporal_patch_size frames; merge_size² patches become one token."""

    patch_size: int = 16
    merge_size: int = 2
    temporal_patch_size: int = 2

    @property
    def factor(self) -> int:
        """Height and width of what becomes one token, in pixels."""
        return self.patch_size * self.merge_size

    def num_tokens(self, grid_thw: tuple[int, int, int]) -> int:
        t, h, w = grid_thw
        return t * h * w // self.merge_size**2


SIZES = PatchSizes()  # Qwen's


def image_values(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """What each of the 256 values of a channel becomes, float32 [C, 256]: (value / 255 - mean) / std.

    Rounded where transformers' `PilBackend` rounds: the division in float64, all else in float32.
    """
    scaled = (np.arange(256) * (1 / 255)).astype(np.float32)  # [256]
    return (scaled - _column(mean)) / _column(std)


def video_values(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """The same for a video, float32 [C, 256]: (value - 255 mean) / (255 std), all of it in float32.

    transformers' `rescale_and_normalize`, which rounds differently in the last bit.
    """
    values = np.arange(256, dtype=np.float32)
    return (values - _column(mean) * 255) / (_column(std) * 255)


def _column(channels: Sequence[float]) -> np.ndarray:
    return np.array(channels, np.float32)[:, None]  # [C, 1]


def cut_patches(frames: np.ndarray, values: np.ndarray, sizes: PatchSizes) -> np.ndarray:
    """frames uint8 [T, H, W, C], values float32 [C, 256] -> float32 [H/P * W/P, C*T*P*P], P = patch_size.

    T = temporal_patch_size frames give one step of the grid. Patches that become one token lie together:
    the order is (row of windows, window, row in the window, column in it). Inside a patch it is (channel,
    frame, row, column). transformers' `patchify`.
    """
    T, H, W, C = frames.shape
    P, M = sizes.patch_size, sizes.merge_size
    rows, columns = H // (M * P), W // (M * P)  # of windows
    out = np.empty((rows, columns, M, M, C, T, P, P), np.float32)
    for row in range(rows):  # one at a time, so that `out` is the only large array
        band = frames[:, row * M * P : (row + 1) * M * P]  # [T, M*P, W, C]
        for channel in range(C):
            plane = values[channel][band[..., channel]].reshape(T, M, P, columns, M, P)
            out[row, :, :, :, channel] = plane.transpose(3, 1, 4, 0, 2, 5)  # -> [columns, M, M, T, P, P]
    return out.reshape(-1, C * T * P * P)
