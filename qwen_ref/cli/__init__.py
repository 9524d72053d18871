"""`python -m qwen_ref COMMAND`: one file per command, each with `add_arguments` and `run`.

Exit status: 0 done, 2 the input cannot be used (one sentence on stderr), 130 interrupted with Ctrl-C.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from typing import Any, NoReturn

from gguf_io import GGUFError, output
from qwen_ref.cli import (
    batch,
    bench,
    chat,
    conformance,
    evaluate,
    generate,
    golden,
    inspect,
    perplexity,
    plan,
    pull,
    rm,
    serve,
    warmup,
)
from qwen_ref.cli import list as list_
from qwen_ref.cli.options import check_written
from qwen_ref.errors import QwenRefError

COMMANDS = {
    "generate": generate,
    "chat": chat,
    "serve": serve,
    "batch": batch,
    "bench": bench,
    "inspect": inspect,
    "perplexity": perplexity,
    "evaluate": evaluate,
    "golden": golden,
    "conformance": conformance,
    "plan": plan,
    "warmup": warmup,
    "pull": pull,
    "list": list_,
    "rm": rm,
}

NO_MEMORY = "not enough memory: {}; with --backend numpy, try --memory 0"
# What printing can fail by; other errors without the name of a file have nothing to do with it.
OF_OUTPUT = {errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EBADF, errno.EFBIG, errno.EDQUOT, errno.EAGAIN}


def main(argv: list[str] | None = None) -> int:
    if sys.stderr is None:  # closed: Python would print to standard output instead
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (until the process ends)
    if sys.stdout is None:  # Python then prints nothing, and says nothing
        return fail("standard output is closed")
    output.prepare()
    try:
        try:
            return command(argv)
        finally:
            sys.stdout.flush()  # at exit nobody would handle that it fails
    except (QwenRefError, GGUFError) as error:
        return fail(str(error))
    except MemoryError as error:
        return fail(NO_MEMORY.format(str(error) or "an allocation failed"))
    except RecursionError:
        return fail("the input is nested too deeply")
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.errno == errno.ENOMEM:
            return fail(NO_MEMORY.format("an allocation failed"))
        if error.errno not in OF_OUTPUT or error.filename is not None:
            return fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left has nowhere to go
        if isinstance(error, BrokenPipeError):  # its reader has gone
            return 0
        return fail(f"standard output: {error.strerror}")


class Parser(argparse.ArgumentParser):
    """Of what cannot be parsed one sentence, without the usage, which --help gives."""

    def error(self, message: str) -> NoReturn:
        raise QwenRefError(f"{message}; {self.prog} --help lists what there is")

    def _get_value(self, action: argparse.Action, given: str) -> Any:
        """An empty text, as a shell makes of a variable that is not set, names no file, and no folder."""
        if (
            not given
            and given != action.const
            and action.metavar != "TEXT"
            and action.nargs != argparse.PARSER
        ):
            raise argparse.ArgumentError(action, "is empty")
        return super()._get_value(action, given)


def fail(sentence: str) -> int:
    print(f"qwen_ref: {sentence}", file=sys.stderr)
    return 2


def command(argv: list[str] | None) -> int:
    installed = os.path.basename(sys.argv[0]) == "qwen-ref"
    parser = Parser(
        prog="qwen-ref" if installed else "python -m qwen_ref",
        description="Qwen3.5 on a CPU, from GGUF files.",
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
    check_written(args)
    try:
        return COMMANDS[args.command].run(args)
    except QwenRefError as error:
        raise QwenRefError(by_option(str(error), args)) from None


def by_option(sentence: str, args: argparse.Namespace) -> str:
    """What says "memory_limit: …", as functions name their arguments, by the option that was given."""
    name, colon, rest = sentence.partition(": ")
    given = "_" in name and getattr(args, name, None) is not None
    return f"--{name.replace('_', '-')}{colon}{rest}" if given else sentence
