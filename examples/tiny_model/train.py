"""Trains the small model from nothing on the samples of world.py.

    python examples/tiny_model/train.py --out build/tiny_model

It needs a GPU, and can be stopped and started again: it goes on where it was.
Weights are kept in float32 and used in bfloat16; in the last fifth they are used as 4 bits would have them,
so that quantization changes little.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F
from batches import GROUPS, TASK_NAMES, Batch, Batches, loader
from model import Eyes, logits, new_model, use_fast_functions
from sight import new_sight, sight_loss
from tokens import IGNORED, make_tokenizer
from torch import Tensor
from torch.optim import AdamW
from transformers import Qwen3_5ForConditionalGeneration

PEAK_RATE, WARM_UP = 1.5e-3, 300  # steps
SIGHT = 0.1  # what the lessons on pictures weigh
DECAY, QUANTIZED = 0.4, 0.2  # of all steps, the last ones
BLOCK = 32  # weights that share a scale in 4-bit files


def rate(step: int, steps: int) -> float:
    """The learning rate: up, level, then down to nothing."""
    return PEAK_RATE * min((step + 1) / WARM_UP, 1, (steps - step) / (DECAY * steps))


def as_4_bits(weight: Tensor) -> Tensor:
    """Each block of 32 rounded to 16 levels between its least and its greatest, as Q4_K does."""
    blocks = weight.reshape(-1, BLOCK)
    low, high = blocks.amin(1, keepdim=True).clamp(max=0), blocks.amax(1, keepdim=True)
    scale = ((high - low) / 15).clamp(min=1e-8)
    return (((blocks - low) / scale).round() * scale + low).reshape(weight.shape)


class Trainer:
    """The model in bfloat16, its weights in float32, and one step as one CUDA graph."""

    def __init__(self, model: Qwen3_5ForConditionalGeneration, device: str):
        self.device = device
        model.sight = new_sight(
            model.config.text_config.hidden_size
        )  # trained with it, and left out of the file
        self.masters = {name: p.detach().float().to(device) for name, p in model.named_parameters()}
        self.model = model.to(device, torch.bfloat16 if device == "cuda" else torch.float32)
        self.eyes = {
            size: Eyes(self.model.model.visual, size[1], size[0])
            for size in {group.size for group in GROUPS.values() if group.frames}
        }
        for p in self.masters.values():
            p.requires_grad_()
        matrices = [p for p in self.masters.values() if p.ndim > 1]
        vectors = [p for p in self.masters.values() if p.ndim == 1]
        self.optimizer = AdamW(
            [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}],
            lr=torch.tensor(PEAK_RATE, device=device) if device == "cuda" else PEAK_RATE,
            betas=(0.9, 0.95),
            fused=True,
            capturable=device == "cuda",
        )
        self.quantized = [  # what a 4-bit file holds in 4 bits
            name
            for name, p in self.masters.items()
            if p.ndim == 2 and p.shape[1] % 256 == 0 and "visual" not in name
        ]
        self.skipped = torch.zeros((), device=device)  # steps that were not finite
        self.graph: torch.cuda.CUDAGraph | None = None
        self.copy_weights(quantize=False)

    @torch.no_grad()
    def copy_weights(self, quantize: bool) -> None:
        used = dict(self.model.named_parameters())
        torch._foreach_copy_(list(used.values()), [self.masters[name] for name in used])
        if quantize:
            for name in self.quantized:
                used[name].copy_(as_4_bits(self.masters[name]))

    def look(self, batch: Batch) -> dict[str, Tensor]:
        """What each group sees, [B, V, hidden_size]; what has one size goes through the tower together."""
        hidden_size = self.model.config.text_config.hidden_size
        like = self.model.lm_head.weight
        seen = {name: like.new_zeros(len(part["seen"]), 1, hidden_size) for name, part in batch.items()}
        for size, eyes in self.eyes.items():
            names = [name for name in batch if GROUPS[name].size == size]
            pixels = [batch[name]["pixels"] for name in names]
            visual = eyes(torch.cat(pixels)).split([len(x) for x in pixels])
            seen |= dict(zip(names, visual, strict=True))
        return seen

    def answers(self, batch: Batch, seen: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits of each group; those of one length run together."""
        runs = defaultdict(list)
        for name in batch:
            runs[GROUPS[name].length].append(name)
        found = {}
        for names in runs.values():
            groups = [batch[name] for name in names]
            most = max(seen[name].shape[1] for name in names)
            out = logits(
                self.model,
                torch.cat([g["token_ids"] for g in groups]),
                torch.cat([g["positions"] for g in groups], dim=1),
                torch.cat([g["seen"] for g in groups]),
                torch.cat([F.pad(seen[name], (0, 0, 0, most - seen[name].shape[1])) for name in names]),
            )
            found |= dict(zip(names, out.split([len(g["token_ids"]) for g in groups]), strict=True))
        return found

    def loss(self, batch: Batch) -> Tensor:
        """Mean over samples of what their tokens cost, long answers counting as the root of their length.

        Beside it, what the lessons on pictures cost.
        """
        seen = self.look(batch)
        pictures = [name for name in batch if "things" in batch[name]]
        lessons = [
            sight_loss(self.model.sight, seen[name], batch[name]["things"], batch[name]["edges"])
            for name in pictures
        ]
        total, weight = 0.0, 0.0
        for name, out in self.answers(batch, seen).items():
            labels = batch[name]["labels"]
            each = F.cross_entropy(
                out.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
            ).view_as(labels)
            lengths = (labels != IGNORED).sum(1)
            total = total + (each.sum(1) / lengths.sqrt()).sum()
            weight = weight + lengths.sqrt().sum()
        return total / weight + SIGHT * sum(lessons) / len(lessons)

    def _step(self) -> None:
        self.copy_weights(self.quantize)
        self.model.zero_grad(set_to_none=True)
        loss = self.loss(self.batch)
        loss.backward()
        used = dict(self.model.named_parameters())
        for name, p in self.masters.items():
            p.grad = used[name].grad.float()
        norm = torch.linalg.vector_norm(
            torch.stack(torch._foreach_norm([p.grad for p in self.masters.values()]))
        )
        # The fused AdamW divides by the one, which clips the gradients, and skips the step if the other is 1.
        self.optimizer.grad_scale = norm.clamp(min=1)
        self.optimizer.found_inf = (~norm.isfinite()).float()
        self.optimizer.step()
        self.skipped += self.optimizer.found_inf
        self.last = torch.stack([loss.detach().float(), norm, self.skipped])

    def step(self, batch: Batch, learning_rate: float, quantize: bool) -> Tensor:
        """One step of training; returns its loss, the norm of its gradient, and how many are skipped."""
        for group in self.optimizer.param_groups:
            group["lr"].fill_(learning_rate) if self.device == "cuda" else group.update(lr=learning_rate)
        if self.device != "cuda":
            self.batch, self.quantize = batch, quantize
            self._step()
            return self.last
        if self.graph is None:
            self.batch = {g: {k: t.cuda() for k, t in part.items()} for g, part in batch.items()}
        for group, part in batch.items():
            for key, tensor in part.items():
                self.batch[group][key].copy_(tensor, non_blocking=True)
        if self.graph is None or quantize != self.quantize:
            self.quantize = quantize
            self._capture()
        self.graph.replay()
        return self.last

    def _capture(self) -> None:
        """Three ordinary steps to choose kernels, undone, then one recorded."""
        saved = {name: p.detach().clone() for name, p in self.masters.items()}
        state = self.optimizer.state_dict()
        kept = [{k: v.clone() for k, v in s.items()} for s in state["state"].values()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self._step()
        with torch.no_grad():
            for name, p in self.masters.items():
                p.copy_(saved[name])
            for i, s in enumerate(self.optimizer.state_dict()["state"].values()):
                for key, value in s.items():
                    value.copy_(kept[i][key]) if kept else value.zero_()

    def exact(self, batches: list[Batch], quantize: bool) -> dict[str, float]:
        """Share of the answers of each task that are right to the last token.

        With gradients, which no one asks for: without them the functions would be compiled once more.
        """
        self.copy_weights(quantize)
        right: dict[str, list[bool]] = defaultdict(list)
        for batch in batches:
            batch = {g: {k: t.to(self.device) for k, t in part.items()} for g, part in batch.items()}
            for name, out in self.answers(batch, self.look(batch)).items():
                labels = batch[name]["labels"]
                fits = ((out.argmax(-1) == labels) | (labels == IGNORED)).all(1)
                for task, fit in zip(batch[name]["tasks"].tolist(), fits.tolist(), strict=True):
                    right[TASK_NAMES[task]].append(fit)
        return {task: sum(fits) / len(fits) for task, fits in sorted(right.items())}

    def save(self, path: Path, step: int) -> None:
        beside = path.with_suffix(".new")
        torch.save(dict(step=step, masters=self.masters, optimizer=self.optimizer.state_dict()), beside)
        beside.replace(path)

    def resume(self, path: Path) -> int:
        saved = torch.load(path, map_location=self.device)
        with torch.no_grad():
            for name, p in self.masters.items():
                p.copy_(saved["masters"][name])
        self.optimizer.load_state_dict(saved["optimizer"])
        return saved["step"]

    def write_checkpoint(self, out: Path) -> None:
        """A Hugging Face checkpoint in bfloat16."""
        self.copy_weights(quantize=False)
        del self.model.sight
        self.model.to(torch.bfloat16).save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/tiny_model"), help="folder for all that is made"
    )
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after these, to be resumed")
    parser.add_argument("--workers", type=int, default=15, help="processes that draw samples")
    parser.add_argument(
        "--check-every", type=int, default=1000, help="steps between looks at held-out samples"
    )
    args = parser.parse_args()
    began = time.time()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    checkpoint, resumed = args.out / "hf", args.out / "training.pt"
    if not (checkpoint / "tokenizer.json").exists():
        make_tokenizer(checkpoint)
    if device == "cpu":
        print("no GPU was found: on a processor this takes days")
    use_fast_functions(compiled=device == "cuda")
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.enable_cudnn_sdp(False)  # its gradients had NaN in them (torch 2.11, H200)
    trainer = Trainer(new_model(args.seed), device)
    start = trainer.resume(resumed) if resumed.exists() else 0
    held_out = list(loader(Batches(checkpoint, args.seed, range(8), test=True), min(args.workers, 8)))
    batches = loader(Batches(checkpoint, args.seed, range(start, args.steps)), args.workers)
    print(
        f"{sum(p.numel() for p in trainer.masters.values()) / 1e6:.1f} M weights, from step {start}",
        flush=True,
    )
    log = (args.out / "log.jsonl").open("a")
    last, last_time = start, time.time()
    print(f"set up in {last_time - began:.0f} s", flush=True)
    for step, batch in enumerate(batches, start):
        quantize = step >= (1 - QUANTIZED) * args.steps
        figures = trainer.step(batch, rate(step, args.steps), quantize)
        done = step + 1
        out_of_time = time.time() - began > 60 * args.minutes
        if done % 100 == 0:
            loss, norm, skipped = figures.tolist()
            speed = (done - last) / (time.time() - last_time)
            print(f"{done} loss {loss:.4f} norm {norm:.2f} {speed:.1f} steps/s", flush=True)
            last, last_time = done, time.time()
            if skipped:
                print(f"{skipped:.0f} steps so far were not finite and are left out", flush=True)
                out_of_time = out_of_time or skipped > 50
        if done % args.check_every == 0 or done == args.steps or out_of_time:
            scores = trainer.exact(held_out, quantize)
            print(done, {task: round(score, 3) for task, score in scores.items()}, flush=True)
            log.write(json.dumps(dict(step=done, loss=figures[0].item(), exact=scores)) + "\n")
            log.flush()
        if done % args.check_every == 0 or done == args.steps or out_of_time:
            trainer.save(resumed, done)
        if out_of_time:
            break
    trainer.write_checkpoint(checkpoint)


if __name__ == "__main__":
    main()
