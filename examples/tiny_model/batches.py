"""Batches of samples, always of the same shapes: what a step of training reads."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import draw
import numpy as np
import torch
import world
from sight import lesson
from tokens import IGNORED, Encoder, Example
from torch.utils.data import DataLoader, IterableDataset
from world import Sample


@dataclass(frozen=True)
class Group:
    """Samples that go through the model together, padded to one length."""

    tasks: dict[Callable[..., Sample], float]  # and how often each comes
    count: int
    length: int  # in tokens; a multiple of model.CHUNK
    frames: int = 0  # of what is seen; 0: nothing
    size: tuple[int, int] = (0, 0)  # its width and height


PICTURES = {task: weight for task, weight in world.PICTURES.items() if task is not world.boxes}
TALK = {task: weight for task, weight in world.TEXTS.items() if task is not world.tools}
SHORT, LONG = 128, 256  # two lengths only: kernels are small, and more of them would cost more than padding
GROUPS = {  # first the short
    **{f"{w}x{h}": Group(PICTURES, 28, SHORT, 1, (w, h)) for w, h in draw.SIZES},
    "talk": Group(TALK, 30, SHORT),
    **{f"{w}x{h} boxes": Group({world.boxes: 1.0}, 12, LONG, 1, (w, h)) for w, h in draw.SIZES},
    "clips": Group(world.CLIPS, 10, LONG, draw.FRAMES, (draw.FRAME_SIZE, draw.FRAME_SIZE)),
    "tools": Group({world.tools: 1.0}, 12, LONG),
}
TASK_NAMES = list(world.TASKS)


def fits(group: Group, sample: Sample, length: int) -> bool:
    if sample.picture is not None:
        seen = (1, sample.picture.size)
    else:
        seen = (draw.FRAMES, (draw.FRAME_SIZE, draw.FRAME_SIZE)) if sample.clip is not None else (0, (0, 0))
    return seen == (group.frames, group.size) and length <= group.length


def stack(group: Group, members: list[tuple[Sample, Example]]) -> dict[str, np.ndarray]:
    """Padded on the right: token_ids, labels, seen [B, T], positions [3, B, T], tasks [B], pixels.

    Of pictures also what sight.py asks of each token: lesson [B, V, columns], edges [B, V, 4].
    """
    B, T = len(members), group.length
    batch = {
        "token_ids": np.zeros((B, T), np.int64),
        "labels": np.full((B, T), IGNORED, np.int64),
        "seen": np.full((B, T), -1, np.int64),
        "positions": np.zeros((3, B, T), np.int64),
        "tasks": np.array([TASK_NAMES.index(s.task) for s, _ in members]),
    }
    for i, (_, example) in enumerate(members):
        length = len(example.token_ids)
        batch["token_ids"][i, :length] = example.token_ids
        batch["labels"][i, :length] = example.labels
        batch["seen"][i, :length] = example.seen
        batch["positions"][:, i, :length] = example.positions
    if group.frames == 1:
        batch["pixels"] = np.stack([np.asarray(s.picture)[None] for s, _ in members])
        lessons = [lesson(s) for s, _ in members]
        batch["lesson"] = np.stack([labels for labels, _ in lessons])
        batch["edges"] = np.stack([edges for _, edges in lessons])
    elif group.frames:
        batch["pixels"] = np.stack([s.clip for s, _ in members if s.clip is not None])
    return batch


Batch = dict[str, dict[str, torch.Tensor]]  # of each group


class Batches(IterableDataset):
    """Batch `step` is the same whoever makes it, and however often training was stopped and resumed."""

    def __init__(self, tokenizer: Path, seed: int, steps: range, test: bool = False):
        self.tokenizer, self.seed, self.steps, self.test = tokenizer, seed, steps, test

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        encoder = Encoder(self.tokenizer)
        for step in self.steps[first::stride]:
            yield self.batch(encoder, step)

    def batch(self, encoder: Encoder, step: int) -> Batch:
        rng = random.Random(f"{self.seed} {step} {self.test}")
        full: dict[str, list[tuple[Sample, Example]]] = defaultdict(list)
        for name, group in GROUPS.items():
            tasks, weights = list(group.tasks), list(group.tasks.values())
            while len(full[name]) < group.count:
                task = rng.choices(tasks, weights)[0]
                sample = world.sample(task.__name__, rng.getrandbits(60), self.test)
                example = encoder.encode(sample)
                length = len(example.token_ids)
                fitting = (other for other in (name, *GROUPS) if fits(GROUPS[other], sample, length))
                if (home := next(fitting, None)) and len(full[home]) < GROUPS[home].count:
                    full[home].append((sample, example))
        return {
            name: {key: torch.from_numpy(value) for key, value in stack(group, full[name]).items()}
            for name, group in GROUPS.items()
        }


def loader(batches: Batches, workers: int) -> Iterator[Batch]:
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            pin_memory=torch.cuda.is_available(),
        )
    )
