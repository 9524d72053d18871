"""`python -m gguf_io FILE`: what is in a GGUF file."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any, NoReturn

import numpy as np

from gguf_io import output
from gguf_io.reader import GGUFError, GGUFFile, open_gguf

SHOWN = 8  # elements of an array that are shown


def summary(value: Any) -> Any:
    """A value as JSON has it; a long array as its count and first elements."""
    if isinstance(value, np.ndarray):
        value, count = value[:SHOWN].tolist(), len(value)
    elif isinstance(value, list):
        count = len(value)
    else:
        return value
    if count <= SHOWN:
        return [summary(v) for v in value]
    return {"count": count, "first": [summary(v) for v in value[:SHOWN]]}


def whole(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [whole(v) for v in value] if isinstance(value, list) else value


def tensor_row(tensor: Any) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "type": tensor.type.name,
        "offset": tensor.offset,
        "bytes": tensor.nbytes,
    }


def print_tables(file: GGUFFile) -> None:
    size = sum(t.nbytes for t in file.tensors.values())
    print(
        f"{file.path}: GGUF version {file.version}, {len(file.metadata)} keys, "
        f"{len(file.tensors)} tensors, {size / 2**20:,.1f} MiB of weights\n"
    )
    width = max(map(len, file.metadata), default=0)
    for key, value in file.metadata.items():
        text = json.dumps(summary(value), ensure_ascii=False)
        print(f"{key:{width}}  {text if len(text) <= 100 else text[:99] + '…'}")
    print()
    width = max(map(len, file.tensors), default=0)
    for tensor in file.tensors.values():
        shape = " × ".join(f"{n:,}" for n in tensor.shape)
        print(f"{tensor.name:{width}}  {tensor.type.name:8}{shape:>18}  {tensor.nbytes / 2**20:10,.2f} MiB")


class Parser(argparse.ArgumentParser):
    """Of what cannot be parsed one sentence, without the usage, which --help gives."""

    def error(self, message: str) -> NoReturn:
        raise GGUFError(f"{message}; {self.prog} --help lists what there is")


def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m gguf_io",
        description="Print the metadata and the tensor table of a GGUF file (of all parts of a split one).",
        epilog="examples:\n  python -m gguf_io model.gguf\n"
        "  python -m gguf_io model.gguf --json | jq .tensors\n"
        "  python -m gguf_io model.gguf --key tokenizer.chat_template",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", help="the GGUF file, or any part of a split one")
    parser.add_argument(
        "--json", action="store_true", help="print JSON; long arrays as their count and beginning"
    )
    parser.add_argument("--key", help="print only this metadata value, whole")
    if sys.stdout is None:
        print("gguf_io: standard output is closed", file=sys.stderr)
        return 2
    output.prepare()
    try:
        args = parser.parse_args(argv)
        file = open_gguf(args.file)
        if args.key is not None:
            if args.key not in file.metadata:
                raise GGUFError(f"{file.path}: has no metadata key {args.key!r}")
            value = whole(file.metadata[args.key])
            print(value if isinstance(value, str) and not args.json else json.dumps(value))
        elif args.json:
            metadata = {key: summary(value) for key, value in file.metadata.items()}
            tensors = [tensor_row(t) for t in file.tensors.values()]
            print(
                json.dumps(
                    {
                        "path": str(file.path),
                        "version": file.version,
                        "metadata": metadata,
                        "tensors": tensors,
                    },
                    indent=1,
                )
            )
        else:
            print_tables(file)
        sys.stdout.flush()
    except GGUFError as error:
        print(f"gguf_io: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # our output: what is left of it has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # `| head` has seen enough
            print(f"gguf_io: standard output: {error.strerror}", file=sys.stderr)
            return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
