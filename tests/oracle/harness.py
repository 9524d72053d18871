"""lm-evaluation-harness on tasks of a folder, with its own model for transformers. A program of its own:

    python harness.py CHECKPOINT_DIR TASK_DIR OUT.json --dtype float64 [--chat]

writes what the model gave for each request: task -> [[[logprob, is greedy], …] or texts of each sample].
`samples` does the same with any model of the harness.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import lm_eval
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

TASKS = ["choice", "text", "answer"]
MAX_LENGTH = 48  # tokens: long texts are read in windows
YAML = """
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
fewshot_split: test
num_fewshot: {fewshot}
"""
CHOICE = """
task: choice
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: gold
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
TEXT = """
task: text
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}]
"""
ANSWER = """
task: answer
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[gold]}}"
generation_kwargs: {until: ["."], max_gen_toks: 12}
metric_list: [{metric: exact_match}]
"""


def write_tasks(folder: Path, documents: list[dict]) -> None:
    data = folder / "documents.jsonl"
    data.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")
    for task, fewshot in (CHOICE, 1), (TEXT, 0), (ANSWER, 1):
        name = task.split()[1]
        text = task + YAML.format(data=data, fewshot=fewshot)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def samples(model: LM, folder: Path, chat: bool) -> dict[str, list]:
    found = lm_eval.simple_evaluate(
        model,
        tasks=[task for task in TASKS if not (chat and task == "text")],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
        bootstrap_iters=0,
    )
    return {
        task: [sample["resps"] for sample in sorted(of, key=lambda sample: sample["doc_id"])]
        for task, of in found["samples"].items()
    }


def main() -> None:
    import torch
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer, Qwen3_5ForConditionalGeneration
    from transformers_logits import make_float64

    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("checkpoint", "tasks", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float64")
    parser.add_argument("--chat", action="store_true")
    args = parser.parse_args()
    model = Qwen3_5ForConditionalGeneration.from_pretrained(args.checkpoint, dtype=torch.float32).eval()
    if args.dtype == "float64":
        make_float64(model)
    tokenizer = AutoTokenizer.from_pretrained(args.checkpoint)
    lm = HFLM(
        pretrained=model, tokenizer=tokenizer, max_length=None if args.chat else MAX_LENGTH, device="cpu"
    )
    args.out.write_text(json.dumps(samples(lm, args.tasks, args.chat)), encoding="utf-8")


if __name__ == "__main__":
    main()
