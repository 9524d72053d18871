"""Mutated GGUF files: each gives a valid result or GGUFError, and opening none takes much memory.

python tests/gguf_io/fuzz_reader.py --files 100000 --seed 1
"""

from __future__ import annotations

import argparse
import random
import resource
import struct
import sys
import tempfile
import time
from pathlib import Path

from gguf_io import GGUFError, open_gguf

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
MEMORY = 64 << 20
EXTREMES = [
    0,
    1,
    2,
    7,
    8,
    9,
    31,
    255,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 40),
    (1 << 62),
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 32,
    (1 << 64) - 1,
]


def shrink(path: Path) -> bytes:
    """A file of a few KiB with the same kinds of content: little vocabulary, one row a tensor."""
    import gguf

    reader = gguf.GGUFReader(path)
    with tempfile.TemporaryDirectory() as scratch:
        small = Path(scratch) / "small.gguf"
        writer = gguf.GGUFWriter(small, "qwen35")
        for name, field in reader.fields.items():
            value = field.contents()
            if name.startswith("GGUF.") or name == "general.architecture":
                continue
            if isinstance(value, list):
                writer.add_array(name, value[:20])
            else:
                writer.add_key_value(name, value[:200] if isinstance(value, str) else value, field.types[0])
        for tensor in reader.tensors[:8]:
            writer.add_tensor(tensor.name, tensor.data[:1], raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return small.read_bytes()


def mutate(data: bytes, rng: random.Random) -> bytes:
    header = min(len(data), 6000)
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 8])):
        at = rng.randrange(header)
        match rng.randrange(7):
            case 0:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case 1:
                out[at : at + 8] = struct.pack("<Q", rng.choice(EXTREMES))
            case 2:
                out[at : at + 4] = struct.pack("<I", rng.choice(EXTREMES) & 0xFFFFFFFF)
            case 3:
                del out[at : at + rng.randrange(1, 40)]
            case 4:
                out[at:at] = rng.randbytes(rng.randrange(1, 40))
            case 5:
                start = rng.randrange(header)
                out[at : at + 24] = out[start : start + 24]
            case 6:
                del out[rng.randrange(len(out)) :]
        if not out:
            return b"\0"
    return bytes(out)


def fuzz(originals: list[Path], files: int, seed: int) -> int:
    """Open so many mutated files and touch all that they hold; returns how many were valid."""
    rng = random.Random(seed)
    contents = [shrink(path) for path in originals]
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    valid = 0
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "mutated.gguf"
        for number in range(files):
            data = mutate(rng.choice(contents), rng)
            path.unlink(missing_ok=True)  # a file cut to nothing and written again is brought to disk by ext4
            path.write_bytes(data)
            started = time.process_time()  # whatever else the machine does
            try:
                file = open_gguf(path)
                for key in file.metadata:
                    file.metadata[key]
                for tensor in file.tensors.values():
                    assert tensor.data.nbytes == tensor.nbytes <= len(data)
                valid += 1
            except GGUFError as error:
                assert str(error).startswith(str(path)) and "\n" not in str(error)
            except BaseException:
                Path("crash.gguf").write_bytes(data)
                print(f"file {number} of seed {seed} is kept as crash.gguf", file=sys.stderr)
                raise
            assert time.process_time() - started < 5, f"file {number} of seed {seed} took too long"
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base
            assert used < MEMORY, f"file {number} of seed {seed} took {used} bytes"
            if sys.stderr.isatty() and number % 1000 == 0:
                print(f"\r{number} of {files}", end="", file=sys.stderr, flush=True)
    return valid


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % (1 << 32))
    args = parser.parse_args()
    print(f"{args.files} mutated files, seed {args.seed}")
    started = time.perf_counter()
    names = ["tiny.gguf", "tiny-grouped.gguf", "tiny-wide.gguf", "split-00002-of-00002.gguf"]
    valid = fuzz([FIXTURES / name for name in names], args.files, args.seed)
    print(
        f"{valid} valid, {args.files - valid} refused with GGUFError, "
        f"in {time.perf_counter() - started:.0f} s"
    )
