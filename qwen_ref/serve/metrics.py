"""Numbers for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from qwen_ref.engine import Generation
from qwen_ref.serve.scheduler import Scheduler


class Metrics:
    def __init__(self, scheduler: Scheduler):
        registry = self._registry = CollectorRegistry()
        self.requests = Counter("qwen_requests", "Requests", ["path", "status"], registry=registry)
        self._prompt = Counter("qwen_prompt_tokens", "Tokens of prompts", registry=registry)
        self._cached = Counter(
            "qwen_cached_tokens",
            "Tokens of prompts whose state was kept, and that were not read",
            registry=registry,
        )
        self._generated = Counter("qwen_generated_tokens", "Tokens of answers", registry=registry)
        self._first = Histogram(
            "qwen_prompt_seconds",
            "From an answer's start to its first token",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300),
            registry=registry,
        )
        running = Gauge("qwen_running", "Answers that are being computed", registry=registry)
        running.set_function(lambda: scheduler.running)
        waiting = Gauge("qwen_waiting", "Answers that wait", registry=registry)
        waiting.set_function(lambda: scheduler.waiting)

    def ended(self, generation: Generation) -> None:
        self._generated.inc(len(generation.token_ids))
        if generation.token_ids:
            self._prompt.inc(len(generation.prompt_ids))
            self._cached.inc(generation.cached_tokens)
            self._first.observe(generation.prompt_seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)
