"""Look inside a run: a page with probabilities, attention, and what DeltaNet's states hold of a text.

The prompt is answered greedily, and both are read once more with NumPy's layers, which show everything. One
file, for a browser; nothing is loaded from elsewhere.

examples:
  python -m qwen_ref inspect --prompt "What is 27 + 58?" -o page.html
  python -m qwen_ref inspect --image examples/media/shapes.png --prompt "Describe this picture." -o page.html
  python -m qwen_ref inspect --prompt "What is 2 + 3?" --compare-prompt "What is 2 + 4?" -o page.html
  python -m qwen_ref inspect --model Q4_K_M.gguf --compare-model BF16.gguf --prompt "Why?" -o page.html
"""

from __future__ import annotations

import argparse
from typing import Any

from qwen_ref.cli.options import (
    MODEL_HELP,
    add_draft,
    add_resources,
    add_thinking,
    model_file,
    resources_of,
    shipped_model,
    show_line,
    typed_text,
)
from qwen_ref.cli.warmup import show_compiling
from qwen_ref.errors import QwenRefError

ANSWER = 60  # tokens of it, unless told otherwise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-m", "--model", type=model_file, metavar="FILE", help=MODEL_HELP)
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the page (HTML)")
    text = parser.add_argument_group("prompt")
    text.add_argument("--prompt", type=typed_text, metavar="TEXT", required=True, help="the prompt")
    text.add_argument("--system", type=typed_text, metavar="TEXT", help="system prompt")
    add_thinking(text, "reason before answering (unless one of both is given, the chat template decides)")
    text.add_argument("--raw", action="store_true", help="no chat template: continue the prompt as it is")
    text.add_argument(
        "--image", action="append", default=[], metavar="FILE", help="shown before the prompt; repeatable"
    )
    text.add_argument("--max-image-tokens", type=int, metavar="N", help="of each image (16,384)")
    text.add_argument(
        "-n", "--max-tokens", type=int, metavar="N", default=ANSWER, help=f"of the answer; 0: none ({ANSWER})"
    )
    add_draft(text, "off", "guess the answer's next tokens, and show which were right (off)")
    beside = parser.add_argument_group("side by side")
    beside.add_argument("--compare-prompt", type=typed_text, metavar="TEXT", help="another prompt")
    beside.add_argument("--compare-model", type=model_file, metavar="FILE", help="another model")
    other = parser.add_argument_group("resources")
    other.add_argument(
        "--mmproj", metavar="FILE", help="the model's vision file (found when it lies beside it)"
    )
    add_resources(other)
    parser.set_defaults(context=None, memory_limit=None)


def progress(what: str, done: int, total: int) -> None:
    """A line on a terminal; it is erased at the end."""
    share = f": {100 * done // total} %" if done else ""
    show_line("" if done == total else f"{what}{share}")


def run(args: argparse.Namespace) -> int:
    if args.max_tokens < 0:
        raise QwenRefError(f"--max-tokens: {args.max_tokens} is less than 0")
    if args.max_image_tokens is not None and not args.image:
        raise QwenRefError("--max-image-tokens: there is no --image")
    if args.raw and args.image:
        raise QwenRefError("--raw: pictures need the chat template")
    from qwen_ref.engine import load
    from qwen_ref.files import write_whole
    from qwen_ref.inspect.numbers import look
    from qwen_ref.inspect.page import page

    options: dict[str, Any] = {"system": args.system, "thinking": args.thinking, "raw": args.raw}
    if args.image:
        from qwen_ref.media.media import Limits

        options |= {"images": args.image, "limits": Limits(max_image_tokens=args.max_image_tokens)}
    asked = [(args.model, args.prompt)]
    if args.compare_prompt is not None or args.compare_model is not None:
        asked.append((args.compare_model or args.model, args.compare_prompt or args.prompt))
    resources, models, runs = resources_of(args), dict[Any, Any](), []
    with write_whole(args.output) as file:  # first: that it cannot be written must not come out at the end
        for path, prompt in asked:
            if path not in models:
                models[path] = load(path or shipped_model(), **resources)
                models[path].warm_up(show_compiling, pictures=bool(args.image))
                resources["mmproj"] = None  # the other model's is its own
            encoded = models[path].encoded(prompt, **options)
            about = {"max_tokens": args.max_tokens, "draft": args.draft, "progress": progress}
            runs.append(look(models[path], encoded, prompt, **about))
        file.write(page(runs).encode())
    return 0
