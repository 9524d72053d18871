"""What a model answers to the samples of a task, several at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qwen_ref.engine import Generation
from qwen_ref.engine.likelihood import Likelihood, loglikelihoods
from qwen_ref.engine.together import PARALLEL, answers_together
from qwen_ref.errors import QwenRefError
from qwen_ref.evaluate.judge import judge, judge_choice
from qwen_ref.evaluate.task import Sample
from qwen_ref.prompt import Prompt
from qwen_ref.tokenizer import Tokenizer

if TYPE_CHECKING:
    from qwen_ref.engine import Model
    from qwen_ref.media.media import Limits

# So many times `parallel` samples are encoded at a time, and share what they have in common; of those with
# pictures, which are in memory then, so many times.
TEXTS, PICTURES = 8, 2


@dataclass(frozen=True)
class Options:
    """How samples are answered; `sampling` and `thinking_budget` are those of `Model.generate`, `fewer` that
    of `load`."""

    raw: bool = False
    thinking: bool | None = None
    thinking_budget: int | None = None
    max_tokens: int = 1024
    limits: Limits | None = None
    parallel: int = PARALLEL
    fewer: bool = False
    sampling: dict[str, Any] = field(default_factory=lambda: {"temperature": 0, "presence_penalty": 0})


@dataclass(frozen=True)
class Answer:
    sample: Sample
    text: str  # without the thought; of choices the likeliest
    scores: dict[str, float]  # name -> 0 to 1; the first counts where all are put together
    finish_reason: str | None = None
    choices: list[Likelihood] = field(default_factory=list)

    @property
    def main(self) -> float:
        return next(iter(self.scores.values()))


def answers(model: Model, samples: list[Sample], options: Options) -> Generator[Answer]:
    """Each sample's answer and what it is worth, in the order in which they are ready.

    Raises QwenRefError, with the sample's line, for one that cannot be read; those before it were given.
    """
    for part in portions(samples, options.parallel):
        said, chosen = list[tuple[Sample, Prompt]](), list[tuple[Sample, Prompt]]()
        problem: QwenRefError | None = None
        try:
            for sample in part:
                (chosen if sample.choices else said).append((sample, encode(model, sample, options)))
        except QwenRefError as error:
            problem = error
        try:
            yield from choose(model, chosen, options)
        except QwenRefError as error:  # all of these stand before the other
            problem = error
        yield from say(model, said, options)
        if problem is not None:
            raise problem


def portions(samples: list[Sample], parallel: int) -> Iterator[list[Sample]]:
    part, pictures = list[Sample](), 0
    for sample in samples:
        shows = not isinstance(sample.prompt, str) and any(
            isinstance(m["content"], list) for m in sample.prompt
        )
        if len(part) == TEXTS * parallel or (shows and pictures == PICTURES * parallel):
            yield part
            part, pictures = [], 0
        part.append(sample)
        pictures += shows
    yield part


def encode(model: Model, sample: Sample, options: Options) -> Prompt:
    """Raises QwenRefError, with the sample's line."""
    try:
        if options.raw and not isinstance(sample.prompt, str):
            raise QwenRefError("--raw: is for samples that are text, without messages and pictures")
        about: dict[str, Any] = {"raw": True} if options.raw else {"thinking": options.thinking}
        prompt = model.encode_prompt(sample.prompt, limits=None if options.raw else options.limits, **about)
        if not prompt.token_ids:
            raise QwenRefError("is empty")
        if sample.choices and prompt.thinks:
            raise QwenRefError("choices: the model would think before it chose; give --no-thinking")
    except QwenRefError as error:
        raise QwenRefError(f"{sample.where}: input: {error}") from None
    return prompt


def say(model: Model, asked: list[tuple[Sample, Prompt]], options: Options) -> Generator[Answer]:
    def generate(i: int, prompt: Prompt) -> Generation:
        try:
            return model.generate(
                prompt,
                max_tokens=options.max_tokens,
                thinking_budget=options.thinking_budget if prompt.thinks else None,
                draft="off",
                **options.sampling,
            )
        except QwenRefError as error:
            raise QwenRefError(f"{asked[i][0].where}: {error}") from None

    prompts = [prompt for _, prompt in asked]
    for i, done in answers_together(prompts, generate, model.block, options.parallel):
        sample = asked[i][0]
        text = done.text if options.raw else done.message["content"]
        yield Answer(sample, text, judge(sample.score, sample.target, text), done.finish_reason)


def choose(model: Model, asked: list[tuple[Sample, Prompt]], options: Options) -> Generator[Answer]:
    requests, of = list[tuple[Prompt, list[int]]](), list[tuple[int, int]]()
    problem: QwenRefError | None = None
    for i, (sample, prompt) in enumerate(asked):
        own = [continued(model.tokenizer, prompt, choice, options.raw) for choice in sample.choices]
        if any(len(begun.token_ids) + len(ids) - 1 > model.context for begun, ids in own):
            problem = QwenRefError(f"{sample.where}: does not fit the context of {model.context} tokens")
            break
        requests += own
        of += [(i, k) for k in range(len(own))]
    found: list[dict[int, Likelihood]] = [{} for _ in asked]
    for r, likelihood in loglikelihoods(model, requests, options.parallel):
        i, k = of[r]
        found[i][k] = likelihood
        sample = asked[i][0]
        if len(found[i]) == len(sample.choices):
            rated = [found[i][k] for k in range(len(sample.choices))]
            logprobs = [likelihood.logprob for likelihood in rated]
            text = sample.choices[max(range(len(rated)), key=logprobs.__getitem__)]
            yield Answer(sample, text, judge_choice(sample.target, sample.choices, logprobs), None, rated)
    if problem is not None:
        raise problem


def continued(tokenizer: Tokenizer, prompt: Prompt, choice: str, raw: bool) -> tuple[Prompt, list[int]]:
    """The prompt and the token ids of a choice behind it: with a blank between, where a text goes on.

    Raw texts are cut as lm-evaluation-harness does it: the choice's tokens are those that the whole text has
    behind as many as the prompt has, without white space at its end.
    """
    begun = prompt.text if raw else str(prompt.begun["content"]) if prompt.begun else ""
    if begun and not begun[-1:].isspace() and not choice[:1].isspace():
        choice = " " + choice
    if not raw:
        return prompt, tokenizer.encode_text(choice)
    context = begun.rstrip()
    ids = tokenizer.encode(context)
    if not ids:
        return prompt, tokenizer.encode(choice)
    whole = tokenizer.encode(begun + choice)
    return dataclasses.replace(prompt, token_ids=ids, pauses={}), whole[len(ids) :]
