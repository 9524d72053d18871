"""Samples as the model reads them: token ids, positions, and where its answer begins.

The tokenizer has Qwen's pre-tokenizer and special tokens, and merges learned from the words that the world
says often. Rare ones (names, cities, what is read) stay in short pieces, each of which training sees often
enough: with a piece for every city, no city that training had not shown could be repeated.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import world
from world import Sample

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "tests" / "fixtures"))
from make import PATTERN, SPECIAL_TOKENS, write_tokenizer  # noqa: E402  (the generator of all small models)

VOCAB_SIZE = 1536
FACTOR = 32  # pixels of a side of what one token shows
IGNORED = -100  # label of what is read and not answered: transformers' and torch's
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"


def texts(sample: Sample) -> list[str]:
    """All that is said in a sample."""
    said = [
        part["text"] for m in sample.messages if isinstance(m["content"], list) for part in m["content"][1:]
    ]
    said += [m["content"] for m in sample.messages if isinstance(m["content"], str)]
    return [*said, sample.answer, sample.thoughts or "", *map(json.dumps, sample.tools or [])]


def make_tokenizer(out: Path, samples_per_task: int = 1500, often: int = 30) -> None:
    """Writes tokenizer.json and tokenizer_config.json into the folder.

    They have VOCAB_SIZE entries, or fewer if all frequent words are whole before that.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    counts = Counter(
        word
        for task in world.TASKS
        for seed in range(samples_per_task)
        for text in texts(world.sample(task, seed))
        for word, _ in split.pre_tokenize_str(text)
    )
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((word for word, count in counts.items() if count >= often), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    out.mkdir(parents=True, exist_ok=True)
    template = (HERE / "chat_template.jinja").read_text()
    write_tokenizer(out, template, (model["vocab"], [tuple(m) for m in model["merges"]]))


def special_ids(folder: Path) -> dict[str, int]:
    """Of the tokenizer that make_tokenizer wrote."""
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    return {token["content"]: token["id"] for token in tokens}


@dataclass
class Example:
    """One sample as the model reads it.

    token_ids  int64 [T]
    labels     int64 [T]     the next token where it belongs to the thoughts or the answer, else IGNORED
    positions  int64 [3, T]  in time, down and across (M-RoPE)
    seen       int64 [T]     which token of the picture stands here, -1 for text
    """

    token_ids: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    seen: np.ndarray


class Encoder:
    """The tokenizer in a folder, and the chat template."""

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        self.template = environment.from_string((HERE / "chat_template.jinja").read_text())
        self.pads = {self.tokenizer.token_to_id(IMAGE), self.tokenizer.token_to_id(VIDEO)}

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def prompt(self, sample: Sample, steps: bool = True) -> str:
        """The rendered conversation up to where the answer begins; with `steps`, a clip as its time steps."""
        text = self.template.render(
            messages=sample.messages,
            tools=sample.tools,
            add_generation_prompt=True,
            enable_thinking=sample.thoughts is not None,
        )
        if sample.clip is not None and steps:  # two frames a second: of two frames, at their middle
            times = [
                f"<{i + 0.25:.1f} seconds><|vision_start|>{VIDEO}<|vision_end|>"
                for i in range(len(sample.clip) // 2)
            ]
            text = re.sub(re.escape(f"<|vision_start|>{VIDEO}<|vision_end|>"), "".join(times), text)
        return text

    def encode(self, sample: Sample) -> Example:
        height, width = (
            sample.clip.shape[1:3]
            if sample.clip is not None
            else sample.picture.size[::-1]
            if sample.picture
            else (0, 0)
        )
        rows, columns = height // FACTOR, width // FACTOR
        thoughts = "" if sample.thoughts is None else f"{sample.thoughts}\n</think>\n\n"
        answer = self.ids(f"{thoughts}{sample.answer}<|im_end|>")
        if sample.task == "read":  # letter by letter: there are fewer of them to know by sight than pieces
            answer = [token for letter in sample.answer for token in self.ids(letter)] + answer[-1:]
        ids: list[int] = []
        positions: list[np.ndarray] = []  # of each run of tokens, [3, length]
        seen: list[int] = []
        position, number = 0, 0
        prompt = self.ids(self.prompt(sample))
        for token in prompt + answer:
            if token in self.pads:
                ids += [token] * (rows * columns)
                place = np.indices((1, rows, columns)).reshape(3, -1)  # [3, rows * columns]
                positions.append(position + place)
                seen += range(number, number + rows * columns)
                number += rows * columns
                position += max(rows, columns)
            else:
                ids.append(token)
                positions.append(np.full((3, 1), position))
                seen.append(-1)
                position += 1
        labels = np.full(len(ids), IGNORED)
        labels[-len(answer) - 1 : -1] = answer  # what comes next, at the place where it is to be foreseen
        return Example(np.array(ids), labels, np.concatenate(positions, axis=1), np.array(seen))
