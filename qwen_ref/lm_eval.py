"""The model `qwen_ref` for lm-evaluation-harness (extra `lm_eval`), so that published tasks run unchanged:

    python -m qwen_ref.lm_eval --model qwen_ref --model_args path=model.gguf --tasks hellaswag

Those are the harness's own options. (From the version after 0.4.13 on `lm_eval --model qwen_ref` finds this
model itself.) What `--model_args` may hold are the arguments of `QwenRef`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

if __name__ == "__main__" and not importlib.util.find_spec("lm_eval"):
    sys.exit("qwen_ref: lm_eval is not installed; `pip install qwen_ref[lm_eval]`")
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from gguf_io import GGUFError
from qwen_ref.engine import Generation, load
from qwen_ref.engine.backend import is_count
from qwen_ref.engine.likelihood import loglikelihoods
from qwen_ref.engine.prefixes import default_budget
from qwen_ref.engine.together import PARALLEL, answers_together
from qwen_ref.errors import QwenRefError
from qwen_ref.prompt import Prompt
from qwen_ref.sampling import LIMITS

MAX_GEN_TOKS = 256  # of an answer, unless the task says otherwise, as the harness's own models have it


@register_model("qwen_ref")
class QwenRef(TemplateLM):
    """Texts are cut into tokens, and long ones into windows, as by the harness's model for transformers."""

    def __init__(
        self,
        path: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        max_length: int | None = None,
        max_gen_toks: int | None = MAX_GEN_TOKS,
        enable_thinking: bool | None = None,
        think_end_token: str | int | None = None,
        prefix_token_id: int | None = None,
        dtype: str = "float32",
        backend: str | None = None,
        threads: int | None = None,
        **more: Any,
    ):
        """`path` is what `qwen_ref.load` takes; `batch_size` texts go on at once (8; so too for "auto").

        `max_length`, in tokens, is that of the model unless given. `enable_thinking` is for the chat template
        (--apply_chat_template), and what stands before `think_end_token`, a text or a token's id, is left out
        of an answer, as with the model "hf". An empty context is `prefix_token_id` (the end of a text). It
        computes on the CPU, whatever `device` says.

        Raises QwenRefError for what makes no sense, GGUFError if the file is not valid GGUF.
        """
        super().__init__()
        for name in more:
            raise QwenRefError(f"model_args: {name!r:.80} is none of qwen_ref's")
        if dtype not in ("float32", "float64"):
            raise QwenRefError(f"model_args: dtype: {dtype!r:.80} is not float32 or float64")
        if enable_thinking is not None and not isinstance(enable_thinking, bool):
            raise QwenRefError(f"model_args: enable_thinking: {enable_thinking!r:.80} is not true or false")
        check_number("max_length", max_length)
        check_number("max_gen_toks", max_gen_toks)
        given = PARALLEL if batch_size in (None, "auto") else batch_size
        if not str(given).isdecimal() or int(given) < 1:
            raise QwenRefError(f"batch_size: {batch_size!r:.80} is not a whole number from 1 on, or auto")
        self.batch_size = int(given)
        self.model = load(
            None if path is None else str(path),
            dtype=getattr(np, dtype),
            backend=backend,
            threads=threads,
            keep=default_budget(),
        )
        self.max_length = self.model.context if max_length is None else max_length
        if self.max_length > self.model.context:
            raise QwenRefError(f"model_args: max_length: {max_length} is not in 1 to {self.model.context}")
        last = len(self.model.tokenizer.tokens) - 1
        check_number("prefix_token_id", prefix_token_id, 0, last)
        if isinstance(think_end_token, str) and think_end_token.isdecimal():
            think_end_token = int(think_end_token)
        if not isinstance(think_end_token, str):
            check_number("think_end_token", think_end_token, 0, last)
        self.max_gen_toks = MAX_GEN_TOKS if max_gen_toks is None else max_gen_toks
        self.enable_thinking = enable_thinking
        if think_end_token is None and enable_thinking:
            think_end_token = "</think>"
        self.think_end_token, self._prefix = think_end_token, prefix_token_id

    # ---- tokens and templates

    @cached_property
    def eot_token_id(self) -> int:
        return int(self.model.text.file.metadata["tokenizer.ggml.eos_token_id"])

    @property
    def prefix_token_id(self) -> int:
        return self.eot_token_id if self._prefix is None else self._prefix

    @property
    def tokenizer_name(self) -> str:
        return f"{self.model.path}"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Control tokens that are spelled count, as a template's do, and none is added."""
        return self.model.tokenizer.encode(string, special=True)

    def tok_decode(self, token_ids: Sequence[int]) -> str:
        """Without control tokens."""
        return self.model.tokenizer.decode(i for i in token_ids if i not in self._control)

    @cached_property
    def _control(self) -> set[int]:
        return {self.model.tokenizer.ids[token] for token in self.model.tokenizer.control_tokens}

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return str(self.model.text.file.metadata["tokenizer.chat_template"]) if chat_template else None

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        if add_generation_prompt and chat_history[-1]["role"] == "assistant":
            return self.model.prompts.chat.render(chat_history, thinking=self.enable_thinking)
        return self.model.prompts.encode(chat_history, thinking=self.enable_thinking).text

    # ---- log-likelihoods

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        asked = list[tuple[Prompt, list[int]]]()
        for _, context, continuation in requests:
            if len(continuation) > self.max_length:
                told = f"a continuation of {len(continuation)} tokens is longer than max_length"
                raise QwenRefError(f"{told}, {self.max_length}")
            kept = (context + continuation)[
                -self.max_length - 1 :
            ]  # the beginning of a long context is left out
            split = len(kept) - len(continuation)
            asked.append((Prompt(kept[:split]), kept[split:]))
        found: list[tuple[float, bool]] = [(0.0, True)] * len(asked)
        bar = tqdm(total=len(asked), disable=disable_tqdm, desc="Running loglikelihood requests")
        for i, (logprob, greedy) in loglikelihoods(self.model, asked, self.batch_size):
            found[i] = logprob, greedy
            if requests[i][0] is not None:
                self.cache_hook.add_partial("loglikelihood", requests[i][0], found[i])
            bar.update()
        bar.close()
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        windows, of = list[tuple[None, list[int], list[int]]](), list[int]()
        for i, request in enumerate(requests):
            for window in get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            ):
                windows.append((None, *make_disjoint_window(window)))
                of.append(i)
        totals = [0.0] * len(requests)
        for i, (logprob, _) in zip(of, self._loglikelihood_tokens(windows, disable_tqdm), strict=True):
            totals[i] += logprob
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    # ---- answers

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        asked = [self._asked(*request.args) for request in requests]

        def generate(i: int, prompt: Prompt) -> Generation:
            _, limit, stops, sampling = asked[i]
            return self.model.generate(prompt, max_tokens=limit, stop=stops, draft="off", **sampling)

        found = [""] * len(requests)
        bar = tqdm(total=len(requests), disable=disable_tqdm, desc="Running generate_until requests")
        prompts = [prompt for prompt, *_ in asked]
        for i, done in answers_together(prompts, generate, self.model.block, self.batch_size):
            ids, end = done.token_ids, self.think_end_token
            if isinstance(end, int):
                behind = ids[::-1].index(end) if end in ids else len(ids)
                text, end = self.tok_decode(ids[len(ids) - behind :]).lstrip(), None
            else:
                text = self.tok_decode(ids)
            found[i] = postprocess_generated_text(text, asked[i][2], end)
            self.cache_hook.add_partial("generate_until", requests[i].args, found[i])
            bar.update()
        bar.close()
        return found

    def _asked(self, context: str, options: dict[str, Any]) -> tuple[Prompt, int, list[str], dict[str, Any]]:
        """The prompt, how long the answer may be, where it ends, and how tokens are drawn."""
        try:
            given = normalize_gen_kwargs(options, self.max_gen_toks)
        except (TypeError, ValueError) as error:
            raise QwenRefError(f"generation_kwargs: {options!r:.200}: {error}") from None
        limit = given.pop("max_gen_toks")
        if limit < 1:
            raise QwenRefError(f"max_gen_toks: {limit} is not a whole number from 1 on")
        if limit >= self.max_length:
            raise QwenRefError(f"max_gen_toks: {limit} leaves no room in max_length, {self.max_length}")
        end = self.model.tokenizer.decode([self.eot_token_id])
        stops = [stop for stop in handle_stop_sequences(given.pop("until", None), eos=end) if stop]
        if given.pop("do_sample"):
            sampling = {name: given.pop(name) for name in LIMITS if given.get(name) is not None}
        else:
            sampling = {
                "temperature": 0,
                "repetition_penalty": 1,
                "presence_penalty": 0,
                "frequency_penalty": 0,
            }
        ids = self.tok_encode(context)[-(self.max_length - limit) :] or [self.prefix_token_id]
        return Prompt(ids), limit, stops, sampling


def check_number(name: str, value: Any, low: int = 1, high: int | None = None) -> None:
    """Raises QwenRefError unless it is a whole number in `low` to `high`, or None."""
    if value is not None and not (is_count(value, least=low) and (high is None or value <= high)):
        which = f"from {low} on" if high is None else f"in {low} to {high}"
        raise QwenRefError(f"model_args: {name}: {value!r:.80} is not a whole number {which}")


def main() -> None:
    from lm_eval.__main__ import cli_evaluate

    try:
        cli_evaluate()
    except (QwenRefError, GGUFError) as error:
        print(f"qwen_ref: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
