"""Answers that a JSON schema describes: a guide that allows what may go on, by llguidance.

It begins behind a thought, and forces what nothing else can follow: names of members, punctuation, the end.
The JSON has one form, that of `json.dumps`: where a small model may choose white space, it never ends.
"""

from __future__ import annotations

import json
import reprlib
from typing import Any

import numpy as np

from qwen_ref.answer import CALL, Answer
from qwen_ref.engine.guide import BEHIND_THOUGHT, Free, Guide, end_token
from qwen_ref.errors import QwenRefError
from qwen_ref.messages import Message
from qwen_ref.model.layers import Array
from qwen_ref.tokenizer import Tokenizer

FORM = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": False}
SAYS = {
    "oneOf constraints are not supported. Enable 'coerce_one_of' option to approximate oneOf with anyOf": (
        "oneOf is supported only where it is plain that no two can fit; use anyOf"
    ),
    "Unsatisfiable schema: anyOf is empty": "no value is possible: enum or anyOf is empty",
    "Unsatisfiable schema: ": "no value is possible: ",
    "Unimplemented keys: ": "these keywords are not supported: ",
}
SHARED = ("$defs", "definitions")  # what other parts of a schema refer to
IN_NUMBERS = {b"%c" % byte for byte in b"0123456789.eE"}  # what may follow a digit
MOST_DIGITS = 32  # of a number: else it may not end. llama.cpp's grammars have 16 on each side of the point


class Tokens:
    """What llguidance asks of a tokenizer. Its structure is never part of JSON: spelled there, it is text."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokens = [tokenizer.token_bytes(i) for i in range(len(tokenizer))]
        self.eos_token_id, self.bos_token_id = end_token(tokenizer), None
        self.special_token_ids = [*tokenizer.ids.values()]
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode_text(text)


class Grammars:
    """Makes guides of schemas, for one tokenizer. Raises QwenRefError if llguidance is not installed."""

    def __init__(self, tokenizer: Tokenizer):
        try:
            import llguidance
        except ImportError:
            raise QwenRefError(
                'schema: answers by a JSON schema need llguidance: pip install "qwen_ref[schema]"'
            ) from None
        self._tokenizer = tokenizer
        self._matcher: Any = llguidance.LLMatcher
        tokens = Tokens(tokenizer)
        wrapped = llguidance.TokenizerWrapper(tokens)
        self._tokens = llguidance.LLTokenizer(wrapped, eos_token=sorted(tokenizer.eos_ids))
        self._in_numbers = np.array([token[:1] in IN_NUMBERS for token in tokens.tokens])

    def guide(
        self, schema: Any, answer: Answer, begun: Message | None = None, calls: Guide | None = None
    ) -> SchemaGuide:
        """`schema` is a dict, or its text, or True for any object. With `calls` the answer may be a call
        instead, which goes on as that guide says. Raises QwenRefError, with the place, for a schema that is
        none or is not supported."""
        schema = read_schema(schema)
        if (endless := endless_part(schema)) is not None:
            raise QwenRefError(f"schema: #{endless}: it demands itself, in documents without an end")
        matcher, problem = self._compile(schema)
        if problem:
            raise QwenRefError(f"schema: #{self._place(schema, schema, problem)}: {problem}")
        said = self._tokenizer.encode_text(begun["content"] if begun else "")
        if not matcher.consume_tokens(said):
            raise QwenRefError("schema: the message that is continued begins in another way")
        number = Number(self._in_numbers)
        for token_id in said:
            number.accept(self._tokenizer.token_bytes(token_id))
        return SchemaGuide(self._tokenizer, matcher, number, answer, None if said else calls)

    def _compile(self, schema: Any) -> tuple[Any, str]:
        """A matcher, and what is wrong."""
        try:
            grammar = self._matcher.grammar_from_json_schema(json.dumps(schema), overrides=FORM)
        except ValueError as error:
            return None, told(str(error))
        matcher = self._matcher(self._tokens, grammar, log_level=0)
        if not matcher.is_error():
            matcher.compute_bitmask()  # the first token shows what else is too much
        return matcher, told(matcher.get_error())

    def _place(self, schema: Any, root: Any, problem: str) -> str:
        """Where in the schema the problem is: as a JSON pointer, "" for all of it."""
        shared = {name: root[name] for name in SHARED if name in root}
        for path, part in parts(schema):
            found = self._compile(shared | part)[1]
            if found == problem:
                return f"/{path}{self._place(part, root, problem)}"
        return ""


class Number:
    """How long the number is that the JSON so far ends with, and which tokens may not lengthen it."""

    def __init__(self, in_numbers: Array):
        self._in_numbers = in_numbers  # bool [vocab_size]: does a token begin as a number may go on?
        self._in_text = self._escaped = False
        self._digits = 0

    def accept(self, piece: bytes) -> None:
        for byte in piece:
            if self._in_text:
                self._in_text = self._escaped or byte != ord('"')
                self._escaped = not self._escaped and byte == ord("\\")
            elif byte in b"0123456789":
                self._digits += 1
            elif byte not in b".eE+-":
                self._digits, self._in_text = 0, byte == ord('"')

    def limit(self, allowed: Array) -> Array:
        """What is allowed, bool [vocab_size], without what lengthens a number that is long enough: unless
        nothing else is."""
        if self._digits < MOST_DIGITS:
            return allowed
        ends = allowed & ~self._in_numbers
        return ends if ends.any() else allowed


class SchemaGuide(Free):
    def __init__(
        self, tokenizer: Tokenizer, matcher: Any, number: Number, answer: Answer, calls: Guide | None
    ):
        self._tokenizer, self._matcher, self._number, self._answer = tokenizer, matcher, number, answer
        self._calls = calls  # they may come instead, until there is JSON
        self._called = False  # and has, so that there is none
        self._lead = list[int]()  # what stands between a thought and its answer
        self._in_thought = answer.in_thought

    def forced(self) -> list[int]:
        if self._calls and self._called:
            return self._calls.forced()
        if self._lead or self._in_thought or self._calls:
            return self._lead
        if self._matcher.is_stopped():
            return [end_token(self._tokenizer)]
        return self._matcher.compute_ff_tokens()

    def allow(self, logits: Array) -> Array:
        if self._in_thought:
            logits[sorted(self._tokenizer.eos_ids)] = -np.inf
        elif self._calls and self._called:
            logits = self._calls.allow(logits)
        else:
            bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            allowed = np.unpackbits(bits, count=len(logits), bitorder="little").astype(bool)
            allowed = self._number.limit(allowed)
            if self._calls:
                allowed[self._tokenizer.ids[CALL]] = True
            self._check()
            logits[~allowed] = -np.inf
        return logits

    def accept(self, token_id: int) -> None:
        if self._in_thought:
            self._in_thought = self._answer.in_thought
            self._lead = [] if self._in_thought else self._tokenizer.encode_text(BEHIND_THOUGHT)
        elif self._lead:
            self._lead = self._lead[1:]
        elif self._calls and (self._called or self._answer.open_call is not None):
            self._called = True
            self._calls.accept(token_id)
        else:
            self._calls = None
            self._matcher.consume_token(token_id)
            self._number.accept(self._tokenizer.token_bytes(token_id))
            self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise QwenRefError("schema: what it describes became too large for llguidance; make it simpler")


def told(problem: str) -> str:
    """What llguidance says, without its own state, and options that are not given here."""
    if "<state>" in problem:
        return "it is too large for llguidance, or describes nothing; make it simpler"
    for said, better in SAYS.items():
        problem = problem.replace(said, better)
    return " ".join(problem.split())


def read_schema(schema: Any) -> dict[str, Any]:
    """Raises QwenRefError unless it is a schema's dict, the text of one, or True."""
    if schema is True:
        return {"type": "object"}
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError) as error:
            raise QwenRefError(f"schema: is no JSON: {error}") from None
        if schema is True:
            return read_schema(True)
    if not isinstance(schema, dict):
        raise QwenRefError(f"schema: {reprlib.repr(schema)} is no JSON schema, which is an object")
    try:
        json.dumps(schema, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise QwenRefError(f"schema: cannot be written as JSON: {error}") from None
    return schema


def parts(schema: Any) -> list[tuple[str, Any]]:
    """The schemas inside a schema, each with its path."""
    found = []
    for name in "properties", "patternProperties", *SHARED:
        if isinstance(inner := schema.get(name), dict):
            found += [(f"{name}/{key}", part) for key, part in inner.items()]
    for name in "prefixItems", "anyOf", "oneOf", "allOf":
        if isinstance(inner := schema.get(name), list):
            found += [(f"{name}/{n}", part) for n, part in enumerate(inner)]
    found += [(name, schema[name]) for name in ("items", "additionalProperties") if name in schema]
    return [(path, part) for path, part in found if isinstance(part, dict)]


def endless_part(schema: Any) -> str | None:
    """A part, as a JSON pointer, that no finite document fits, since it demands itself, or None.

    Parts are found to have an end, from those that demand no other on, until no more are.
    """
    found, at = {"": schema}, [("", schema)]
    while at:
        path, part = at.pop()
        inner = [(f"{path}/{name}", other) for name, other in parts(part)]
        found |= dict(inner)
        at += inner
    open_, before = [*found][::-1], 0  # inner ones before those that they are in
    while before != len(open_):
        before, open_parts = len(open_), set(open_)
        for path in open_:
            if _demanded(path, found, open_parts) is None:
                open_parts.remove(path)
        open_ = [path for path in open_ if path in open_parts]
    if not open_:
        return None
    path, passed = open_[-1], set[str]()
    while path not in passed:
        passed.add(path)
        path = _demanded(path, found, open_parts) or ""
    return path


def _demanded(path: str, found: dict[str, Any], open_: set[str]) -> str | None:
    """One of the parts `open_`, without which no document fits the part at this path; None if one does.

    What is no part, and whether it all can be fulfilled, is llguidance's to judge.
    """
    part, demanded = found[path], list[str]()
    if isinstance(reference := part.get("$ref"), str) and reference.startswith("#"):
        demanded.append(reference[1:].replace("~1", "/").replace("~0", "~"))
    demanded += [f"{path}/allOf/{n}" for n in range(len(_listed(part.get("allOf"))))]
    for name in "anyOf", "oneOf":
        some = [f"{path}/{name}/{n}" for n in range(len(_listed(part.get(name))))]
        if all(one in open_ for one in some):
            demanded += some
    if part.get("type") == "object":
        for name in _listed(part.get("required")):
            named = f"{path}/properties/{name}"
            demanded.append(named if named in found else f"{path}/additionalProperties")
    least = part.get("minItems")
    if part.get("type") == "array" and isinstance(least, int) and least > 0:
        first = len(_listed(part.get("prefixItems")))
        demanded += [f"{path}/prefixItems/{n}" for n in range(min(first, least))]
        demanded += [f"{path}/items"] if least > first else []
    return next((one for one in demanded if one in open_), None)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
