"""Two hundred schemas of the kinds of JSONSchemaBench, answered by the small model at temperature 1."""

import json

import jsonschema
from schemas import answered, schema_of

from qwen_ref import load
from qwen_ref.engine import advance

CHECKED = jsonschema.FormatChecker(["date", "email", "ipv4", "uuid"])


def test_two_hundred_schemas():
    model, steps = load(), 0
    generated = forced = 0
    for first in range(0, 200, 25):
        generations = [answered(model, number) for number in range(first, first + 25)]
        while advance(generations):
            steps += 1
        for number, generation in enumerate(generations, first):
            document = json.loads(generation.message["content"])
            jsonschema.Draft202012Validator(schema_of(number), format_checker=CHECKED).validate(document)
            assert generation.finish_reason == "stop"
            generated += len(generation.token_ids)
            forced += generation.forced_tokens
    print(f"{generated} tokens, {forced} forced, in {steps} steps of up to 25 texts")
