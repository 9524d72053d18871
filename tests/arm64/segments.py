"""With which pages the shared objects of wheels can be loaded: how their ELF files' segments are aligned.

    python tests/arm64/segments.py WHEEL ...

One line. A Pi 5's kernel has pages of 16 KB, others for arm64 of 64: exit status 1 if any file is for less
than 16.
"""

from __future__ import annotations

import struct
import sys
import zipfile
from collections import Counter

LOAD = 1  # PT_LOAD


def alignments(data: bytes) -> list[int]:
    """p_align of each LOAD segment of a 64-bit little-endian ELF file."""
    (start,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", data, start + size * i) for i in range(count)]
    return [header[7] for header in headers if header[0] == LOAD]


def main(wheels: list[str]) -> int:
    found: Counter[int] = Counter()
    small = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if (data := archive.read(name))[:4] == b"\x7fELF":
                    found[least := min(alignments(data))] += 1
                    small += [name] if least < 1 << 14 else []
    counts = ", ".join(f"{n} to {size >> 10} KB" for size, n in sorted(found.items()))
    print(f"{found.total()} shared objects in {len(wheels)} wheels, segments aligned: {counts}", *small)
    return int(bool(small) or not found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
