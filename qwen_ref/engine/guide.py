"""What may come next in an answer, and what must: the end of a long thought, a call and the names in it.

A guide lowers logits before a token is chosen. Where it leaves one token, that is not chosen but taken; such
tokens are read in one step with the next, since nothing else can come.
"""

from __future__ import annotations

import math
import reprlib
import unicodedata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qwen_ref.answer import CALL, END_CALL, END_THINK, Answer, read_call, value_is_open
from qwen_ref.engine.backend import is_count
from qwen_ref.engine.draft import common
from qwen_ref.errors import QwenRefError, of_type
from qwen_ref.model.layers import Array
from qwen_ref.prompt import Prompt
from qwen_ref.tokenizer import StreamDecoder, Tokenizer

if TYPE_CHECKING:
    from qwen_ref.engine.schema import Grammars

# Qwen3's way to end a thought, of which it makes the best (https://arxiv.org/abs/2505.09388, section 4.3).
CLOSING = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking "
    "directly now.\n"
)
BEHIND_THOUGHT = "\n\n"  # as the templates have it
CHOICES = ("auto", "none", "required")
LARGEST_BIAS = 100
# Where a schema has one of these, its `properties` may not name all.
OPEN = {"patternProperties", "allOf", "anyOf", "oneOf", "$ref", "if"}


class Guide(Protocol):
    """Its `Answer` knows where the answer stands, up to the last accepted token."""

    def forced(self) -> list[int]:
        """Tokens that must come now, as far as they are known."""

    def allow(self, logits: Array) -> Array:
        """logits [vocab] -> the same, -inf where the answer may not go on; they may be changed in place."""

    def accept(self, token_id: int) -> None:
        """This token has come."""


class Guides:
    """All guides of an answer, as one. Where two force tokens, the first counts."""

    def __init__(self, tokenizer: Tokenizer, answer: Answer, guides: list[Guide]):
        self._guides, self._answer, self._decoder = guides, answer, StreamDecoder(tokenizer)

    def forced(self) -> list[int]:
        return next(filter(None, (guide.forced() for guide in self._guides)), [])

    def allow(self, logits: Array) -> Array:
        if self._guides:
            logits = logits.copy()
        for guide in self._guides:
            logits = guide.allow(logits)
        return logits

    def accept(self, token_id: int) -> None:
        if not self._guides:
            return
        text = self._decoder.push(token_id)
        self._answer.push(token_id, text)
        self._answer.show(len(text))
        self._answer.take()
        for guide in self._guides:
            guide.accept(token_id)


class Free:
    """A guide that leaves everything as it is."""

    def forced(self) -> list[int]:
        return []

    def allow(self, logits: Array) -> Array:
        return logits

    def accept(self, token_id: int) -> None:
        pass


class Bias(Free):
    """Adds to the logits of some tokens."""

    def __init__(self, bias: Mapping[int, float]):
        self._ids, self._values = np.array([*bias], int), np.array([*bias.values()], np.float32)

    def allow(self, logits: Array) -> Array:
        logits[self._ids] += self._values
        return logits


class ThinkingBudget(Free):
    """Ends a thought that has come to `budget` tokens. Of 0 there is none, as templates write it."""

    def __init__(self, tokenizer: Tokenizer, answer: Answer, budget: int):
        self._answer, self._left = answer, budget
        said = CLOSING if budget else "\n"
        self._closing = [*tokenizer.encode_text(said), tokenizer.ids[END_THINK]]
        self._closing += tokenizer.encode_text(BEHIND_THOUGHT)
        self._forced = self._closing if answer.in_thought and not budget else []

    def forced(self) -> list[int]:
        return self._forced

    def accept(self, token_id: int) -> None:
        if self._forced:
            self._forced = self._forced[1:]
        elif self._answer.in_thought:
            self._left -= 1
            if self._left <= 0:
                self._forced = self._closing


class NoCall(Free):
    """`<tool_call>` may stand in a thought only."""

    def __init__(self, tokenizer: Tokenizer, answer: Answer):
        self._answer, self._call = answer, tokenizer.ids[CALL]

    def allow(self, logits: Array) -> Array:
        if not self._answer.in_thought:
            logits[self._call] = -np.inf
        return logits


class OneCall(Free):
    """The answer ends behind its first call."""

    def __init__(self, tokenizer: Tokenizer, answer: Answer):
        self._answer, self._end = answer, end_token(tokenizer)

    def forced(self) -> list[int]:
        return [self._end] if self._answer.calls else []


class WholeCalls(Free):
    """A call that has begun is one of these functions, with parameters that the function has, and comes to
    its end; of a function that may have others than it declares, they have any name.

    Values are the model's own, up to `</parameter>`."""

    def __init__(self, tokenizer: Tokenizer, answer: Answer, functions: list[dict[str, Any]]):
        self._tokenizer, self._answer, self._ends = tokenizer, answer, sorted(tokenizer.eos_ids)
        self._call, self._end_call = tokenizer.ids[CALL], tokenizer.ids[END_CALL]
        self._parameters = {function["name"]: parameters_of(function) for function in functions}
        self._ahead = list[list[int]]()  # one of these must come

    def forced(self) -> list[int]:
        first, last = min(self._ahead, default=[]), max(self._ahead, default=[])
        return first[: common(first, last)]

    def allow(self, logits: Array) -> Array:
        call = self._answer.open_call
        if self._ahead:
            first = [ahead[0] for ahead in self._ahead]
            some, logits = logits[first], np.full_like(logits, -np.inf)
            logits[first] = some
        elif call is not None:
            logits[[*self._ends, self._call]] = -np.inf
            if value_is_open(call) or not call.rstrip().endswith("</function>"):
                logits[self._end_call] = -np.inf
        return logits

    def accept(self, token_id: int) -> None:
        ahead = [rest[1:] for rest in self._ahead if rest[0] == token_id]
        self._ahead = ahead if all(ahead) else []
        if not self._ahead and self._answer.open_call is not None:
            self._ahead = self._follow(self._answer.open_call)

    def _follow(self, call: str) -> list[list[int]]:
        """What must come behind this beginning of a call, one of these; none where anything may."""
        if not call:
            return [self._tokenizer.encode_text(f"\n<function={name}>\n") for name in self._parameters]
        name = call[len("\n<function=") :].partition(">")[0]
        parameters = self._parameters.get(name)
        begins = call == f"\n<function={name}>\n"
        # a value may hold whole elements of this name, as of a call that is quoted
        ends_value = call.rstrip().endswith("</parameter>")
        ends_value = ends_value and call.count("<parameter") <= call.count("</parameter>")
        if parameters is None or not (begins or ends_value):
            return []
        if (read := read_call(f"{call}</function>")) is None:
            return []
        line = "" if call.endswith("\n") else "\n"
        left = {p: must for p, must in parameters.items() if p not in read[1]}
        ahead = [self._tokenizer.encode_text(f"{line}<parameter={p}>\n") for p in left]
        if not any(left.values()):
            ahead.append([*self._tokenizer.encode_text(f"{line}</function>\n"), self._end_call])
        return ahead


class MustCall(WholeCalls):
    """The answer, behind a thought, is a call of one of these functions; others may follow."""

    def __init__(self, tokenizer: Tokenizer, answer: Answer, functions: list[dict[str, Any]]):
        super().__init__(tokenizer, answer, functions)
        self._behind_thought = [*tokenizer.encode_text(BEHIND_THOUGHT), self._call]
        self._in_thought = answer.in_thought
        self._ahead = [] if self._in_thought else [[self._call]]

    def allow(self, logits: Array) -> Array:
        logits = super().allow(logits)
        if not self._answer.calls:
            logits[self._ends] = -np.inf
        return logits

    def accept(self, token_id: int) -> None:
        super().accept(token_id)
        if self._in_thought and not self._answer.in_thought:
            self._ahead = [self._behind_thought]
        self._in_thought = self._answer.in_thought


class OnlyCalls(WholeCalls):
    """Behind a call, which has begun, comes another or the end."""

    def accept(self, token_id: int) -> None:
        super().accept(token_id)
        if not self._ahead and self._answer.open_call is None:
            self._ahead = [*([end] for end in self._ends), [*self._tokenizer.encode_text("\n"), self._call]]


def parameters_of(function: dict[str, Any]) -> dict[str, bool] | None:
    """The names of its parameters, and whether they must be given; None if there may be others."""
    schema = function.get("parameters")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(schema, dict) or not isinstance(properties, dict) or OPEN & schema.keys():
        return None
    if schema.get("additionalProperties") not in (None, False):
        return None
    required = schema.get("required")
    must = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    parameters = {name: name in must for name in (*properties, *must)}
    return parameters if all(map(can_be_written, parameters)) else None


def can_be_written(name: str) -> bool:
    """Whether it comes back from a call as it is."""
    return bool(name) and not set(name) & set(">\n") and unicodedata.is_normalized("NFC", name)


def end_token(tokenizer: Tokenizer) -> int:
    return tokenizer.ids.get("<|im_end|>", min(tokenizer.eos_ids, default=0))


def new_guides(
    tokenizer: Tokenizer,
    prompt: Prompt,
    *,
    thinking_budget: int | None = None,
    tool_choice: str = "auto",
    parallel_tool_calls: bool = True,
    logit_bias: Mapping[int, float] | None = None,
    schema: Any = None,
    grammars: Callable[[], Grammars] | None = None,
) -> Guides:
    """Of options of `qwen_ref.engine.Model.generate`; for a schema, `grammars` gives what reads it.

    Raises QwenRefError if an option makes no sense.
    """
    answer = Answer(tokenizer, prompt.token_ids, prompt.begun)
    guides: list[Guide] = []
    if logit_bias is not None:
        check_bias(logit_bias, len(tokenizer))
        guides.append(Bias(logit_bias))
    if thinking_budget is not None:
        if not is_count(thinking_budget, least=0):
            raise QwenRefError(f"thinking_budget: {thinking_budget!r:.80} is not a whole number from 0 on")
        check_structure(tokenizer, END_THINK, "thinking_budget")
        guides.append(ThinkingBudget(tokenizer, answer, thinking_budget))
    functions = [tool.get("function", tool) for tool in prompt.tools or ()]
    names = [function["name"] for function in functions]
    if not isinstance(tool_choice, str) or tool_choice not in (*CHOICES, *names):
        said = ", ".join([*CHOICES, *names])
        raise QwenRefError(f"tool_choice: {reprlib.repr(tool_choice)} is not one of {said:.200}")
    if tool_choice == "none":
        check_structure(tokenizer, CALL, "tool_choice")
        guides.append(NoCall(tokenizer, answer))
    elif tool_choice != "auto":
        if not names:
            raise QwenRefError(f"tool_choice: {tool_choice!r}: there are no tools")
        check_structure(tokenizer, CALL, "tool_choice")
        check_structure(tokenizer, END_CALL, "tool_choice")
        chosen = [f for f in functions if tool_choice in ("required", f["name"])]
        guides.append(MustCall(tokenizer, answer, chosen))
    may_call = names and tool_choice == "auto" and {CALL, END_CALL} <= tokenizer.ids.keys()
    if schema is not None:
        if tool_choice not in ("auto", "none"):
            raise QwenRefError(f"schema: with tool_choice {tool_choice!r} the answer is a call")
        assert grammars is not None
        calls = OnlyCalls(tokenizer, answer, functions) if may_call else None
        guides.append(grammars().guide(schema, answer, prompt.begun, calls))
    elif may_call:
        guides.append(WholeCalls(tokenizer, answer, functions))
    if not isinstance(parallel_tool_calls, bool):
        raise QwenRefError(f"parallel_tool_calls: {parallel_tool_calls!r:.80} is not true or false")
    if not parallel_tool_calls:
        guides.append(OneCall(tokenizer, answer))
    return Guides(tokenizer, answer, guides)


def check_structure(tokenizer: Tokenizer, name: str, option: str) -> None:
    if name not in tokenizer.ids:
        raise QwenRefError(f"{option}: the model's vocabulary has no {name}")


def check_bias(bias: Any, vocab: int) -> None:
    if not isinstance(bias, Mapping):
        raise QwenRefError(f"logit_bias: {of_type(bias)} is no dict of token ids and numbers")
    for token_id, value in bias.items():
        if not is_count(token_id, least=0) or token_id >= vocab:
            raise QwenRefError(f"logit_bias: {reprlib.repr(token_id)} is no token id from 0 to {vocab - 1}")
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < math.inf:
            raise QwenRefError(f"logit_bias: {reprlib.repr(value)} of token {token_id} is no finite number")
        if abs(value) > LARGEST_BIAS:
            raise QwenRefError(
                f"logit_bias: {reprlib.repr(value)} of token {token_id} is not in -{LARGEST_BIAS} to "
                f"{LARGEST_BIAS}"
            )
