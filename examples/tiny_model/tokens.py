"""Samples as the model reads them: token ids, positions, and where its answer begins.

The tokenizer has Qwen's pre-tokenizer and special tokens, and merges learned from the words that the world
says often. Rare ones (names, cities, what is read) stay in short pieces, each of which training sees often
enough: with a piece for every city, no city that training had not shown could be repeated.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import world
from sample import Sample
from words import CITIES, COLOURS, FIRST_NAMES, LANGUAGES, SHAPES, translate

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "tests" / "fixtures"))
from make import PATTERN, SPECIAL_TOKENS, write_tokenizer  # noqa: E402  (the generator of all small models)

VOCAB_SIZE = 2048
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


def split_words() -> Any:
    """Qwen's pre-tokenizer."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def count_words(task: str, seeds: range) -> Counter[str]:
    split = split_words()
    return Counter(
        word
        for seed in seeds
        for text in texts(world.sample(task, seed))
        for word, _ in split.pre_tokenize_str(text)
    )


def make_tokenizer(out: Path, samples_per_task: int = 1500, often: int = 30) -> None:
    """Writes tokenizer.json and tokenizer_config.json into the folder.

    They have VOCAB_SIZE entries, or fewer if all frequent words are whole before that.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    parts = [(t, range(i, i + 100)) for t in world.TASKS for i in range(0, samples_per_task, 100)]
    with multiprocessing.get_context("fork").Pool() as pool:
        counts = sum(pool.starmap(count_words, parts, chunksize=1), Counter[str]())
    split = split_words()
    for text in [translate(lang, c, s) for lang in LANGUAGES for c in COLOURS for s in SHAPES]:
        counts.update([word for word, _ in split.pre_tokenize_str(text)] * 10)
    names = {f"{space}{name}" for name in FIRST_NAMES + CITIES for space in ("", "Ġ")}
    counts = Counter({word: count for word, count in counts.items() if word not in names})
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

    def answer_ids(self, sample: Sample) -> list[int]:
        """What was read is said letter by letter: there are fewer of them to know by sight than pieces."""
        answer, spelled = sample.answer, sample.spelled
        if not spelled:
            return self.ids(answer)
        if spelled == (answer,):
            return [token for letter in answer for token in self.ids(letter)]
        strings = "|".join(re.escape(text) for text in sorted(set(spelled), key=len, reverse=True))
        whole = rf"(?<!\w)({strings})(?!\w)"
        if answer[0] in "{[`":  # of JSON the values, no keys
            whole = rf"""(?:(?<=: ")|(?<=, ")|(?<=\["))({strings})(?="(?!:))"""
        parts = re.split(whole, answer)
        found = [[token for letter in part for token in self.ids(letter)] for part in parts]
        found[::2] = [self.ids(part) for part in parts[::2]]
        return [token for ids in found for token in ids]

    def encode(self, sample: Sample) -> Example:
        height, width = 0, 0
        if sample.clip is not None:
            height, width = sample.clip.shape[1:3]
        elif sample.picture:
            width, height = sample.picture.size
        rows, columns = height // FACTOR, width // FACTOR
        thoughts = "" if sample.thoughts is None else f"{sample.thoughts}\n</think>\n\n"
        answer = [*self.ids(thoughts), *self.answer_ids(sample), *self.ids("<|im_end|>")]
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
