"""What a machine is and how it fares, for whoever reads its figures elsewhere: `bench --report`.

From /proc and /sys, and of a Raspberry Pi's firmware. No names of hosts, users or folders are among it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path
from subprocess import PIPE, TimeoutExpired

from qwen_ref import children
from qwen_ref.machine import ROOT, cores, default_threads, fields, numbers, read

GIB = 1 << 30
PACKAGES = "qwen_ref", "numpy", "numba", "llvmlite"
CPU = "sys/devices/system/cpu/cpufreq"
# Bits of `vcgencmd get_throttled`, now and, 16 bits further, since the system started.
THROTTLED = "too low a voltage", "a lowered frequency", "throttled", "the soft limit of temperature"


def facts(root: Path = ROOT) -> dict[str, str]:
    """What stays as it is, in words. What is not known is left out."""
    memory = fields(root / "proc/meminfo")
    found = {
        "board": board(root),
        "processor": processor(root),
        "cores": f"{cores()}, of which {default_threads(root)} are for this process",
        "system": re.sub('"', "", said(root / "etc/os-release", "PRETTY_NAME=")),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "page size": f"{os.sysconf('SC_PAGE_SIZE') // 1024} KB",
        "memory": f"{gib(memory.get('MemTotal', 0))}, of which {gib(memory.get('MemAvailable', 0))} are free",
        "swap": swap(root),
        "governor": ", ".join(
            sorted({read(p).strip() for p in (root / CPU).glob("policy*/scaling_governor")})
        ),
        "Python": f"{platform.python_version()}, {platform.python_implementation()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }
    return {name: value for name, value in found.items() if value}


def moment(root: Path = ROOT) -> dict[str, str]:
    """What changes while it computes, in words."""
    found = {"temperature": temperature(root), "frequency": frequency(root), "firmware": throttled()}
    return {name: value for name, value in found.items() if value}


def board(root: Path) -> str:
    """As a device tree names it, or the BIOS."""
    named = read(root / "proc/device-tree/model").strip("\0 \n")
    dmi = [read(root / "sys/class/dmi/id" / name).strip() for name in ("sys_vendor", "product_name")]
    return named or " ".join(filter(None, dmi))


def processor(root: Path) -> str:
    """Arm's have a number instead of a name: 0xd0b is the Cortex-A76."""
    path = root / "proc/cpuinfo"
    if named := said(path, "model name"):
        return named
    part = said(path, "CPU part")
    return f"implementer {said(path, 'CPU implementer')}, part {part}" if part else ""


def said(path: Path, name: str) -> str:
    """What the first line that begins so says behind that."""
    lines = (line for line in read(path).splitlines() if line.startswith(name))
    return next(lines, "").removeprefix(name).lstrip(" \t:").strip()


def swap(root: Path) -> str:
    """Each device or file: zram keeps pages in memory, compressed."""
    found = []
    for line in read(root / "proc/swaps").splitlines()[1:]:
        name, kind, size, *_ = *line.split(), "", "", ""
        if size.isdecimal():
            found.append(f"{gib(1024 * int(size))} in {'zram' if 'zram' in name else f'a {kind}'}")
    return ", ".join(found) or "none"


def temperature(root: Path) -> str:
    """Of each zone, in °C."""
    found = []
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        if value := numbers(zone / "temp"):
            found.append(f"{value[0] / 1000:.1f} °C ({read(zone / 'type').strip() or zone.name})")
    return ", ".join(found)


def frequency(root: Path) -> str:
    """Of each group of cores that have the same, in MHz, and the most that it may be."""
    found = []
    for policy in sorted((root / CPU).glob("policy*")):
        now, most = numbers(policy / "scaling_cur_freq"), numbers(policy / "cpuinfo_max_freq")
        if now and most:
            found.append(f"{now[0] // 1000} of {most[0] // 1000} MHz")
    return ", ".join(dict.fromkeys(found))


def throttled() -> str:
    """What a Raspberry Pi's firmware had to hold back for; nothing where nobody can be asked."""
    if not (program := shutil.which("vcgencmd")):
        return ""
    try:
        told = children.run(
            [program, "get_throttled"], stdout=PIPE, stderr=PIPE, text=True, timeout=10
        ).stdout
    except (OSError, TimeoutExpired):
        return ""
    value = re.fullmatch(r"throttled=0x([0-9a-fA-F]{1,8})\s*", told)
    return in_words(int(value[1], 16)) if value else ""


def in_words(flags: int) -> str:
    """ "now: throttled; since the start: too low a voltage, throttled" """
    times = {"now": flags, "since the system started": flags >> 16}
    found = {
        when: [what for bit, what in enumerate(THROTTLED) if bits >> bit & 1] for when, bits in times.items()
    }
    said = "; ".join(f"{when}: {', '.join(what)}" for when, what in found.items() if what)
    return said or "nothing held back since the system started"


def gib(nbytes: int) -> str:
    return f"{nbytes / GIB:.1f} GiB"


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "is not installed"
