"""`python -m qwen_ref COMMAND`: one file per command, each with `add_arguments` and `run`.

Exit status: 0 done, 2 the input cannot be used (one sentence on stderr), 130 interrupted with Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys

from gguf_io import GGUFError
from qwen_ref.cli import bench, conformance, generate, golden, perplexity
from qwen_ref.errors import QwenRefError

COMMANDS = {
    "generate": generate,
    "bench": bench,
    "perplexity": perplexity,
    "golden": golden,
    "conformance": conformance,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m qwen_ref", description="Qwen3.5 on a CPU, from GGUF files."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary, _, details = (module.__doc__ or "").partition("\n")
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=details.strip("\n"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    args = parser.parse_args(argv)
    try:
        return COMMANDS[args.command].run(args)
    except (QwenRefError, GGUFError) as error:
        print(f"qwen_ref: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(
            f"qwen_ref: not enough memory: {error or 'an allocation failed'}; try --memory 1", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
