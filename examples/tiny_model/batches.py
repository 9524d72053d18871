"""Batches of samples, always of the same shapes: what a step of training reads."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import world
from draw import FRAMES
from sample import Sample, View
from sight import lesson
from tokens import IGNORED, Encoder, Example
from torch.utils.data import DataLoader, IterableDataset


@dataclass(frozen=True)
class Group:
    """Samples that go through the model together, padded to one length."""

    length: int  # in tokens, at most; a multiple of model.CHUNK
    count: int  # samples
    texts: dict[Callable[..., Sample], float] | None = None  # which, and how often each; None: about views
    frames: int = 0  # of what is seen; 0: nothing
    size: tuple[int, int] = (0, 0)  # its width and height
    asked: int = 1  # questions about each view
    over: int = 0  # tokens: what has no more is left to another group
    late: bool = False  # takes so long that only the last steps of a training read it


def pictures(length: int, asked: int, **counts: int) -> dict[str, Group]:
    """Groups by names like _640x480."""
    groups = {}
    for name, count in counts.items():
        width, height = map(int, name[1:].split("x"))
        groups[name[1:]] = Group(length, count, frames=1, size=(width, height), asked=asked)
    return groups


SMALL, LARGE = world.CLIP_SIZES
# Few lengths: kernels are small, and more of them would cost more than padding. What fits no group, no
# training sees: of 192 and 256 tokens up to 480 x 320 no four boxes did, few of three, half of what lies
# closest; of talk of 192 a fifth of memory and a sixth of sums did not. Of 320 for 384 x 288 and of 512 for
# 640 x 480 a sixth of the documents and a tenth of the boxes did not, with the questions before them.
GROUPS = {
    "talk": Group(192, 48, world.TEXTS),
    **pictures(384, 2, _256x256=16, _320x224=12, _224x320=12, _448x160=12, _160x448=12),
    **pictures(384, 2, _384x288=16, _288x384=16),
    "clips": Group(384, 6, frames=FRAMES, size=SMALL, asked=2),
    "large clips": Group(384, 4, frames=FRAMES, size=LARGE, asked=2),
    "tools": Group(384, 16, world.TOOLS),
    **pictures(512, 2, _480x320=8, _320x480=8, _832x288=8),
    "long clips": Group(512, 4, frames=2 * FRAMES, size=SMALL, asked=2),
    "longer talk": Group(512, 14, world.LONGER_TEXTS, over=192),
    "more tools": Group(512, 42, world.TOOLS),
    **pictures(640, 2, _640x480=8, _480x640=8, _512x512=8),
    **pictures(1280, 2, _1024x768=4, _1024x1024=4),
    "many tools": Group(1280, 16, world.TOOLS),
    "long": Group(4096, 2, world.LONG_TEXTS),
    "longest": Group(16384, 2, world.LONGEST_TEXTS, late=True),
}
TASK_NAMES = world.TASKS
TRIES = 30  # to find a question that fits


FEW = ["talk", "256x256", "320x224", "clips", "tools"]


def few() -> dict[str, Group]:
    """Some of the groups with the fewest samples, to try changed code on a processor."""
    return {name: replace(GROUPS[name], count=2) for name in FEW}


def stack(group: Group, members: list[tuple[Sample, Example]], views: list[View]) -> dict[str, np.ndarray]:
    """Padded on the right: token_ids, labels, seen [B, T], positions [3, B, T], tasks [B], the views' pixels.

    Of pictures also what sight.py asks of each token: lesson [views, V, columns], edges [views, V, 4].
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
        batch["pixels"] = np.stack([np.asarray(view.picture)[None] for view in views])
        lessons = [lesson(view) for view in views]
        batch["lesson"] = np.stack([labels for labels, _ in lessons])
        batch["edges"] = np.stack([edges for _, edges in lessons])
    elif group.frames:
        batch["pixels"] = np.stack([view.clip for view in views if view.clip is not None])
    return batch


Batch = dict[str, dict[str, torch.Tensor]]  # of each group


class Batches(IterableDataset):
    """Batch `step` is the same whoever makes it, and however often training was stopped and resumed."""

    def __init__(
        self, tokenizer: Path, seed: int, steps: range, groups: dict[str, Group], test: bool = False
    ):
        self.tokenizer, self.seed, self.steps, self.groups, self.test = tokenizer, seed, steps, groups, test

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        encoder = Encoder(self.tokenizer)
        for step in self.steps[first::stride]:
            yield self.batch(encoder, step)

    def batch(self, encoder: Encoder, step: int) -> Batch:
        rng = random.Random(f"{self.seed} {step} {self.test}")
        made = {}
        for name, group in self.groups.items():
            members: list[tuple[Sample, Example]] = []
            views: list[View] = []
            while len(members) < group.count:
                view, asked = self.asked_together(rng, encoder, group)
                members += asked
                if view:
                    views.append(view)
            part = stack(group, members, views)
            made[name] = {key: torch.from_numpy(value) for key, value in part.items()}
        return made

    def asked_together(
        self, rng: random.Random, encoder: Encoder, group: Group
    ) -> tuple[View | None, list[tuple[Sample, Example]]]:
        """One view and the questions about it, or one text; all as long as the group takes.

        One in a hundred thousand that can't be made is named and left out; what fails TRIES times is raised.
        """
        failed = 0
        while True:
            seed = rng.getrandbits(60)
            try:
                view, asked = self.drawn(seed, encoder, group)
            except Exception as error:
                failed += 1
                if failed == TRIES:
                    raise
                print(f"left out: seed {seed} of {group.length} tokens, {group.size}: {error!r}", flush=True)
                continue
            if len(asked) == group.asked:
                return view, asked

    def drawn(
        self, seed: int, encoder: Encoder, group: Group
    ) -> tuple[View | None, list[tuple[Sample, Example]]]:
        """What `asked_together` takes if it is enough."""
        rng = random.Random(seed)
        view, asked = None, []
        if group.frames == 1:
            view = world.picture(rng.getrandbits(60), self.test, group.size)
        elif group.frames:
            view = world.clip(rng.getrandbits(60), self.test, group.size, group.frames)
        for _ in range(TRIES):
            seed = rng.getrandbits(60)
            if view:
                sample = world.question(view, seed, self.test)
            else:
                assert group.texts
                sample = world.text(seed, self.test, group.texts)
            example = encoder.encode(sample)
            if group.over < len(example.token_ids) <= group.length:
                asked.append((sample, example))
            if len(asked) == group.asked:
                break
        return view, asked


def loader(batches: Batches, workers: int) -> Iterator[Batch]:
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=2 if workers else None,
            pin_memory=torch.cuda.is_available(),
        )
    )
