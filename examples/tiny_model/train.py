"""Trains the small model from nothing on the samples of world.py.

    python examples/tiny_model/train.py --out build/tiny_model
    torchrun --standalone --nproc-per-node 2 examples/tiny_model/train.py --out build/tiny_model

It needs a GPU, or several, each with samples of its own, and can be stopped and started again: it goes on
where it was. How long it takes is told in minutes, set-up not counted, and the learning rate follows the
clock: more or faster GPUs see more samples. Weights are kept in float32 and used in bfloat16; in the last
fifth they are used as 4 bits would have them, so that quantization changes little, and texts of up to 16,384
tokens are read beside the others.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from batches import GROUPS, TASK_NAMES, Batch, Batches, Group, few, loader
from model import Eyes, load_weights, logits, new_model, save_checkpoint, use_fast_functions
from options import whole
from sight import new_sight, sight_loss
from tokens import IGNORED, make_tokenizer, special_ids
from torch import Tensor
from torch.optim import AdamW, Muon
from transformers import Qwen3_5ForConditionalGeneration

MATRIX_RATE, OTHER_RATE = 3e-3, 1.5e-3  # the greatest learning rates
WARM_UP = 300  # steps
SIGHT = 0.1  # what the lessons on pictures weigh
MTP = 0.3  # what the MTP layer's answers weigh
DECAY, QUANTIZED = 0.4, 0.2  # of all minutes, the last ones
CLOCK = 20  # steps between looks at the clock; on a processor each
CLOSING = 30  # seconds for the last look at held-out samples, and to write all
BLOCK = 32  # weights that share a scale in 4-bit files


def rate(step: int, progress: float, peak: float) -> float:
    """The share of the greatest learning rate: up to the peak, level, then down to nothing at progress 1."""
    return peak * max(min((step + 1) / WARM_UP, 1, (1 - progress) / DECAY), 0)


def as_4_bits(weight: Tensor) -> Tensor:
    """Each block of 32 rounded to 16 levels between its least and its greatest, as Q4_K does."""
    blocks = weight.reshape(-1, BLOCK)
    low, high = blocks.amin(1, keepdim=True).clamp(max=0), blocks.amax(1, keepdim=True)
    scale = ((high - low) / 15).clamp(min=1e-8)
    return (((blocks - low) / scale).round() * scale + low).reshape(weight.shape)


class Trainer:
    """The model in bfloat16, its weights in float32, and one step as two CUDA graphs: gradient and update.

    Muon moves the matrices, each by a matrix of singular values near 1, and AdamW what is looked up or
    multiplied elementwise.
    """

    def __init__(self, model: Qwen3_5ForConditionalGeneration, device: str, groups: dict[str, Group]):
        self.device, self.groups = device, groups
        # trained with it, and left out of the file
        model.sight = new_sight(model.config.text_config.hidden_size)
        sizes = [p.numel() for p in model.parameters()]
        self.weights = torch.cat([p.detach().float().flatten() for p in model.parameters()]).to(device)
        self.gradient = torch.zeros_like(self.weights)
        self.masters = {}
        for (name, p), weight, gradient in zip(
            model.named_parameters(), self.weights.split(sizes), self.gradient.split(sizes), strict=True
        ):
            self.masters[name] = weight.view_as(p).requires_grad_()
            self.masters[name].grad = gradient.view_as(p)
        self.model = model.to(device, torch.bfloat16 if device == "cuda" else torch.float32)
        self.eyes = {
            size: Eyes(self.model.model.visual, size[1], size[0])
            for size in sorted({group.size for group in groups.values() if group.frames})
        }
        matrices = [
            p for name, p in self.masters.items() if p.ndim == 2 and "emb" not in name and "sight" not in name
        ]
        others = [p for p in self.masters.values() if all(p is not matrix for matrix in matrices)]
        self.optimizers = [
            Muon(matrices, lr=MATRIX_RATE, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            AdamW(
                others,
                lr=OTHER_RATE,
                weight_decay=0.0,
                betas=(0.9, 0.95),
                fused=True,
                capturable=device == "cuda",
            ),
        ]
        self.quantized = [  # what a 4-bit file holds in 4 bits
            name
            for name, p in self.masters.items()
            if p.ndim == 2 and p.shape[1] % 256 == 0 and "visual" not in name and "sight" not in name
        ]
        self.skipped = torch.zeros((), device=device)  # steps that were not finite
        self.graph: torch.cuda.CUDAGraph | None = None
        self.copy_weights(quantize=False)
        self.share = torch.zeros((), device=device)  # of the greatest learning rate
        self.reach = torch.zeros((), device=device)  # of the lessons' gradient, what reaches the tower
        self._update()  # of nothing by nothing: the optimizers' state is there

    @torch.no_grad()
    def copy_weights(self, quantize: bool) -> None:
        used = dict(self.model.named_parameters())
        torch._foreach_copy_(list(used.values()), [self.masters[name] for name in used])
        if quantize:
            for name in self.quantized:
                used[name].copy_(as_4_bits(self.masters[name]))

    def look(self, batch: Batch) -> dict[str, Tensor]:
        """What each group sees, [views, V, hidden_size]; of one size it goes through the tower together."""
        hidden_size = self.model.config.text_config.hidden_size
        like = self.model.lm_head.weight
        seen = {name: like.new_zeros(len(part["seen"]), 1, hidden_size) for name, part in batch.items()}
        for size, eyes in self.eyes.items():
            for frames in sorted({self.groups[name].frames for name in batch}):
                names = [n for n in batch if (self.groups[n].size, self.groups[n].frames) == (size, frames)]
                if names:
                    pixels = [batch[name]["pixels"] for name in names]
                    visual = eyes(torch.cat(pixels)).split([len(x) for x in pixels])
                    seen |= dict(zip(names, visual, strict=True))
        return seen

    def answers(self, batch: Batch, seen: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Logits of each group, the model's and the MTP layer's; those of one length run together."""
        runs = defaultdict(list)
        for name in batch:
            runs[self.groups[name].length].append(name)
        found = {}
        for names in runs.values():
            groups = [batch[name] for name in names]
            most = max(seen[name].shape[1] for name in names)
            shown = []  # to each question what it is about
            for name, part in zip(names, groups, strict=True):
                views = F.pad(seen[name], (0, 0, 0, most - seen[name].shape[1]))[:, None]
                shown.append(views.expand(-1, len(part["seen"]) // len(views), -1, -1).flatten(0, 1))
            out = logits(
                self.model,
                torch.cat([g["token_ids"] for g in groups]),
                torch.cat([g["positions"] for g in groups], dim=1),
                torch.cat([g["seen"] for g in groups]),
                torch.cat(shown),
            )
            counts = [len(g["token_ids"]) for g in groups]
            found |= dict(zip(names, zip(*(x.split(counts) for x in out), strict=True), strict=True))
        return found

    def loss(self, batch: Batch) -> Tensor:
        """Mean over samples of what their tokens cost, long answers counting as the root of their length.

        Beside it, what the lessons on pictures cost.
        """
        seen = self.look(batch)
        pictures = [name for name in batch if "lesson" in batch[name]]
        shown = torch.cat([seen[name].flatten(0, 1) for name in pictures])
        lessons = sight_loss(
            self.model.sight,
            shown.detach() + self.reach * (shown - shown.detach()),
            torch.cat([batch[name]["lesson"].flatten(0, 1) for name in pictures]),
            torch.cat([batch[name]["edges"].flatten(0, 1) for name in pictures]),
        )
        total, weight = 0.0, 0.0
        for name, outs in self.answers(batch, seen).items():
            labels = batch[name]["labels"]
            lengths = (labels != IGNORED).sum(1)
            weight = weight + lengths.sqrt().sum()
            for out, share in zip(outs, (1, MTP), strict=True):
                each = F.cross_entropy(
                    out.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
                ).view_as(labels)
                total = total + share * (each.sum(1) / lengths.sqrt()).sum()
        return total / weight + SIGHT * lessons

    def _find_gradient(self) -> None:
        """Of this process's samples."""
        self.copy_weights(self.quantize)
        self.model.zero_grad(set_to_none=True)
        loss = self.loss(self.batch)
        loss.backward()
        used = dict(self.model.named_parameters())
        found = [used[name].grad for name in self.masters]
        torch._foreach_copy_([p.grad for p in self.masters.values()], found)
        self.last_loss = loss.detach().float()

    @torch.no_grad()
    def _update(self) -> None:
        """By the clipped gradient; one that is not finite changes nothing.

        A graph has its learning rate for good. What both optimizers do to a weight is proportional to it, so
        they do it at the greatest, and of that the weights go the share that the rate is.
        """
        self.norm = torch.linalg.vector_norm(self.gradient)
        finite = self.norm.isfinite()
        self.gradient.copy_(torch.where(finite, self.gradient / self.norm.clamp(min=1), 0))
        self.skipped += ~finite
        before = self.weights.clone()
        for optimizer in self.optimizers:
            optimizer.step()
        self.weights.copy_(torch.lerp(before, self.weights, self.share * finite))

    def step(self, batch: Batch, share: float, quantize: bool, warm: bool = True) -> Tensor:
        """One step of training; returns its loss, the norm of its gradient, and how many are skipped.

        Until it is warm the heads of the lessons, which always begin anew, leave the tower alone: while they
        know nothing, what they would have it see is nothing either.
        """
        self.reach.fill_(float(warm))
        find_gradient, update = self._find_gradient, self._update
        batch = {name: part for name, part in batch.items() if quantize or not self.groups[name].late}
        if self.device != "cuda":
            self.batch, self.quantize = batch, quantize
        else:
            if self.graph is None or quantize != self.quantize:
                self.graph, self.quantize = None, quantize  # the memory of the old one is free
                self.batch = {g: {k: t.cuda() for k, t in part.items()} for g, part in batch.items()}
                self._capture()
            for group, part in batch.items():
                for key, tensor in part.items():
                    self.batch[group][key].copy_(tensor, non_blocking=True)
            find_gradient, update = self.graph.replay, self.update_graph.replay
        find_gradient()
        if dist.is_initialized():
            dist.all_reduce(self.gradient)
            self.gradient /= dist.get_world_size()
        self.share.fill_(share)
        update()
        return torch.stack([self.last_loss, self.norm, self.skipped])

    def _capture(self) -> None:
        """Three ordinary runs to choose kernels, then one recorded."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._find_gradient()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # others watch NCCL
            self._find_gradient()
        self.update_graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.update_graph, capture_error_mode="thread_local"):
            self._update()

    def of_the_first(self, *figures: float) -> list[float]:
        """What the first process says, in all of them."""
        told = torch.tensor(figures, dtype=torch.float64, device=self.device)
        if dist.is_initialized():
            dist.broadcast(told, 0)
        return told.tolist()

    def exact(self, batches: list[Batch], quantize: bool) -> dict[str, float]:
        """Share of the answers of each task that are right to the last token, and of the tokens that the MTP
        layer foresees.

        With gradients, which no one asks for: without them the functions would be compiled once more.
        """
        self.copy_weights(quantize)
        right: dict[str, list[float]] = defaultdict(list)
        for name in self.groups:  # one after the other: all that gradients need is kept for so long
            for batch in batches:
                part = {name: {k: t.to(self.device) for k, t in batch[name].items()}}
                out, foreseen = self.answers(part, self.look(part))[name]
                labels = part[name]["labels"]
                fits = ((out.argmax(-1) == labels) | (labels == IGNORED)).all(1)
                for task, fit in zip(part[name]["tasks"].tolist(), fits.tolist(), strict=True):
                    right[TASK_NAMES[task]].append(fit)
                said = labels != IGNORED
                right["mtp"].append((foreseen.argmax(-1) == labels)[said].float().mean().item())
        return {task: sum(fits) / len(fits) for task, fits in sorted(right.items())}

    def save(self, path: Path, step: int, seconds: float) -> None:
        beside = path.with_suffix(".new")
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        torch.save(dict(step=step, seconds=seconds, masters=self.masters, optimizers=optimizers), beside)
        beside.replace(path)

    def resume(self, path: Path) -> tuple[int, float]:
        """The step to go on with, and the seconds that those before took."""
        saved = torch.load(path, map_location=self.device)
        with torch.no_grad():
            for name, p in self.masters.items():
                p.copy_(saved["masters"][name])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        return saved["step"], saved["seconds"]

    def write_checkpoint(self, out: Path) -> None:
        """A Hugging Face checkpoint in bfloat16."""
        self.copy_weights(quantize=False)
        del self.model.sight
        save_checkpoint(self.model.to(torch.bfloat16), out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/tiny_model"), help="folder for all that is made"
    )
    parser.add_argument(
        "--training", type=float, default=18, help="minutes that all steps together take, over all starts"
    )
    parser.add_argument(
        "--weights", type=Path, help="a checkpoint whose tokenizer and weights it starts from"
    )
    parser.add_argument("--peak", type=float, default=1, help="share of the learning rates; for each start")
    parser.add_argument("--seed", type=whole(0, 10**6), default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after these, to be resumed")
    parser.add_argument(
        "--finish", action="store_true", help="be done within --minutes, even if that shortens the training"
    )
    parser.add_argument(
        "--workers", type=whole(0, 1000), default=14, help="processes that draw samples for each GPU"
    )
    parser.add_argument(
        "--check-every", type=whole(1, 10**6), default=1500, help="steps between looks at held-out samples"
    )
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda", help="cpu: to try a few steps of changed code"
    )
    args = parser.parse_args()
    if not 0 < args.peak <= 1:
        parser.error(f"--peak {args.peak}: it is a share, of 1 at most")
    began, device = time.time(), args.device
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU was found, and on a processor this would take weeks")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {args.out}: {error.strerror}")
    processes, me = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    checkpoint, resumed = args.out / "hf", args.out / "training.pt"
    if me == 0 and not (checkpoint / "tokenizer.json").exists():
        if args.weights:
            checkpoint.mkdir(exist_ok=True)
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(args.weights / name, checkpoint)
        else:
            make_tokenizer(checkpoint)  # first: it forks
    if device == "cuda":
        torch.cuda.set_device(me)
    if processes > 1:
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    say = partial(print, flush=True) if me == 0 else lambda *_: None
    if processes > 1:
        dist.barrier()  # the tokenizer is there
    use_fast_functions(compiled=device == "cuda")
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.enable_cudnn_sdp(False)  # its gradients had NaN in them (torch 2.11, H200)
    groups = GROUPS if device == "cuda" else few()
    model = new_model(args.seed, special_ids(checkpoint))
    if args.weights:
        load_weights(model, args.weights)
    trainer = Trainer(model, device, groups)
    start, spent = trainer.resume(resumed) if resumed.exists() else (0, 0.0)
    seen_never = Batches(checkpoint, args.seed, range(4), groups, test=True)
    held_out = list(loader(seen_never, min(args.workers, 4))) if me == 0 else []
    own = range(start * processes + me, 10**9, processes)
    batches = loader(Batches(checkpoint, args.seed, own, groups), args.workers)
    say(f"{sum(p.numel() for p in trainer.masters.values()) / 1e6:.1f} M weights, from step {start}")
    log = (args.out / "log.jsonl").open("a")
    say(f"samples after {time.time() - began:.0f} s")
    whole_time, last = 60 * args.training, start
    progress, stop = spent / whole_time, False
    for step, batch in enumerate(batches, start):
        quantize = progress >= 1 - QUANTIZED
        figures = trainer.step(batch, rate(step, progress, args.peak), quantize, warm=step >= WARM_UP)
        if step == start:  # which compiles
            figures.tolist()
            first = last_time = time.time()
            memory = f", {torch.cuda.max_memory_reserved() / 2**30:.0f} GiB" if device == "cuda" else ""
            say(f"set up in {first - began:.0f} s{memory}")
            if args.finish:
                left = 60 * args.minutes - (first - began) - CLOSING
                (whole_time,) = trainer.of_the_first(min(whole_time, spent + max(left, 1)))
        done = step + 1
        if done % (CLOCK if device == "cuda" else 1) == 0:
            now = time.time()
            seconds, in_all = trainer.of_the_first(spent + now - first, now - began)
            progress, stop = seconds / whole_time, in_all > 60 * args.minutes or seconds >= whole_time
        if done % (100 if device == "cuda" else 1) == 0:
            loss, norm, skipped = figures.tolist()
            speed = (done - last) / (time.time() - last_time)
            say(f"{done} {progress:.1%} loss {loss:.4f} norm {norm:.2f} {speed:.1f} steps/s")
            last, last_time = done, time.time()
            if skipped:
                say(f"{skipped:.0f} steps so far were not finite and are left out")
            if skipped > 50:  # in all processes: they have one gradient
                raise SystemExit(
                    "too many steps were not finite: it is stopped, and no checkpoint is written"
                )
        if me == 0 and (done % args.check_every == 0 or stop):
            scores = trainer.exact(held_out, quantize)
            say(done, {task: round(score, 3) for task, score in scores.items()})
            log.write(json.dumps(dict(step=done, loss=figures[0].item(), exact=scores)) + "\n")
            log.flush()
            trainer.save(resumed, done, seconds)
        if stop:
            break
    if me == 0:
        trainer.write_checkpoint(checkpoint)
    if processes > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
