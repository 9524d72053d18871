"""Samples answered on a cluster, and judged there, as on one machine."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

from qwen_ref.cluster import scheduler
from qwen_ref.cluster.carried import carried
from qwen_ref.cluster.model_files import Found, ModelFiles
from qwen_ref.cluster.scheduler import Tell, Where
from qwen_ref.cluster.worker import Job, Ready, on_worker
from qwen_ref.engine import load
from qwen_ref.engine.prefixes import default_budget
from qwen_ref.errors import QwenRefError
from qwen_ref.evaluate.answers import Answer, Options, answers
from qwen_ref.evaluate.task import Sample


@dataclass(frozen=True)
class Given:
    """What a worker answers with; `load` is what `qwen_ref.load` takes."""

    load: dict[str, Any]
    options: Options


def answers_on(
    where: Where,
    model: ModelFiles,
    load: dict[str, Any],
    samples: list[Sample],
    options: Options,
    progress: Tell,
) -> Generator[Answer]:
    """As `qwen_ref.evaluate.answers` gives them; whoever stops earlier closes it. Raises QwenRefError."""

    def items() -> Iterator[Sample]:
        for sample in samples:
            try:
                yield replace(sample, prompt=carried(sample.prompt))
            except QwenRefError as error:
                raise QwenRefError(f"{sample.where}: input: {error}") from None

    job = Job(prepare, Given(load, options), (model,), where.share)
    found = scheduler.results(where, job, items(), len(samples), lambda n: samples[n].where, progress)
    with contextlib.closing(found):
        for number, answer in found:
            yield replace(answer, sample=samples[number])


def prepare(models: list[Found], given: Given, share: int) -> Ready:
    keep, options = default_budget() // share, given.options
    own = on_worker(given.load, models[0], share)
    model = load(models[0].path, **own, keep=keep, parallel=options.parallel, fewer=options.fewer)
    options = replace(options, parallel=model.parallel)
    model.warm_up(pictures=model.sees)

    def answer(samples: list[Sample]) -> list[Answer]:
        found = {answer.sample.line: answer for answer in answers(model, samples, options)}
        return [replace(found[sample.line], sample=replace(sample, prompt="")) for sample in samples]

    return Ready(answer, options.parallel)
