"""What lies where in a picture: a lesson for the vision tower alone, beside the questions.

Each visual token is asked which thing has its centre there and where that ends, and which letters stand
there. Questions teach the tower slowly, their answers being a few words; this is 64 answers a picture. One
linear map does it, which is thrown away after training.
"""

from __future__ import annotations

import string

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn
from words import COLOURS, SHAPES
from world import Sample

FACTOR = 32  # pixels of a side of what one token shows
PLACES = 4  # of letters in a token, from left to right
LETTERS = string.ascii_letters + string.digits
CLASSES = [1 + len(COLOURS), 1 + len(SHAPES), 1 + len(("small", "large")), *[1 + len(LETTERS)] * PLACES]
EDGES = 4  # left, top, right and bottom of a thing, from the middle of the token and in its sides


def lesson(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """int64 [V, len(CLASSES)], 0 where nothing is, and float32 [V, EDGES]."""
    assert sample.picture is not None
    columns, rows = (side // FACTOR for side in sample.picture.size)
    labels = np.zeros((rows, columns, len(CLASSES)), np.int64)
    edges = np.zeros((rows, columns, EDGES), np.float32)
    for thing in sample.things:
        row, column = int(thing.y // FACTOR), int(thing.x // FACTOR)
        labels[row, column, :3] = (
            1 + list(COLOURS).index(thing.colour),
            1 + SHAPES.index(thing.shape),
            1 + (thing.size == "large"),
        )
        edges[row, column] = np.array(thing.box()) / FACTOR - np.array([column, row] * 2) - 0.5
    for letter, x, y in sample.letters:
        place = int(x / FACTOR % 1 * PLACES)
        labels[int(y // FACTOR), int(x // FACTOR), 3 + place] = 1 + LETTERS.index(letter)
    return labels.reshape(-1, len(CLASSES)), edges.reshape(-1, EDGES)


def new_sight(hidden_size: int) -> nn.Linear:
    return nn.Linear(hidden_size, sum(CLASSES) + EDGES)


def sight_loss(sight: nn.Linear, visual: Tensor, labels: Tensor, edges: Tensor) -> Tensor:
    """visual [B, V, hidden_size], labels [B, V, columns], edges [B, V, EDGES] -> mean of what is there."""
    *guesses, ends = sight(visual).float().split([*CLASSES, EDGES], -1)
    total = sum(
        F.cross_entropy(guess.flatten(0, 1), labels[..., i].flatten(), reduction="sum")
        for i, guess in enumerate(guesses)
    )
    there = labels > 0
    total = total + ((ends - edges).abs().sum(-1) * there[..., 0]).sum()
    return total / there.sum().clamp(min=1)
