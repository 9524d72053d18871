"""A receipt as JSON: python examples/document.py [--model FILE] [receipt.png]"""

import argparse
import json
import sys
from pathlib import Path

import qwen_ref
from gguf_io import GGUFError
from qwen_ref.grounding import find_json

MEDIA = Path(__file__).parent / "media"
QUESTION = """Read this receipt. Answer with JSON only:
{"shop": "…", "date": "YYYY-MM-DD", "items": [{"name": "…", "price": 0.00}], "total": 0.00}"""

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", help="its mmproj-….gguf lies beside it (the small one of the package)")
parser.add_argument("picture", nargs="?", default=MEDIA / "receipt.png")
options = parser.parse_args()

try:
    model = qwen_ref.load(options.model)
    answer = "".join(model.generate(QUESTION, images=[options.picture], thinking=False, max_tokens=500))
except (qwen_ref.QwenRefError, GGUFError) as error:
    parser.exit(2, f"{error}\n")
found = [value for value in find_json(answer) if isinstance(value, dict)]
if not found:
    sys.exit(f"The answer holds no JSON object: {answer!r}")
print(json.dumps(found[0], indent=2, ensure_ascii=False))
