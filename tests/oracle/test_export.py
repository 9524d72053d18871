"""The configuration that `golden export` writes is one that transformers takes, and means the same there."""

import json
import subprocess
import sys

import pytest

from qwen_ref.oracle.conformance import cases
from qwen_ref.oracle.export import transformers_config

SCRIPT = """
import json, sys
from transformers import Qwen3_5TextConfig
print(json.dumps(Qwen3_5TextConfig(**json.load(sys.stdin)).to_dict()))
"""


@pytest.mark.parametrize("name", ["plain", "grouped", "yarn"])
def test_transformers_takes_the_configuration(name):
    exported = transformers_config(cases([name])[0].golden.config)
    line = [sys.executable, "-c", SCRIPT]
    ran = subprocess.run(line, input=json.dumps(exported), capture_output=True, text=True, check=True)
    theirs = json.loads(ran.stdout)
    del exported["_name_or_path"]  # which to_dict leaves out
    assert {key: theirs.get(key) for key in exported} == exported
