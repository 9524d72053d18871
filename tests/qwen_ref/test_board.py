"""What `bench --report` says of a machine: /proc and /sys as a Raspberry Pi 5 and a server have them."""

import json

import pytest

from qwen_ref import board
from qwen_ref.cli import bench, main

PI5 = {
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\nRevision\t: c04170\n",
    "etc/os-release": 'VERSION="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian"\n',
    "proc/meminfo": "MemTotal: 4194304 kB\nMemAvailable: 3145728 kB\n",
    "proc/swaps": "Filename Type Size Used\n/var/swap file 524288 0 -2\n/dev/zram0 partition 2097152 0 100\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "61250\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": "2400000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "ondemand\n",
}
SERVER = {
    "sys/class/dmi/id/sys_vendor": "QEMU\n",
    "sys/class/dmi/id/product_name": "Standard PC\n",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: Some | Processor @ 2 GHz\n\nmodel name\t: Other\n",
}


def root_of(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def firmware(tmp_path, monkeypatch):
    """A function that puts a vcgencmd in the PATH which says this, or none."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def says(line):
        (folder / "vcgencmd").write_text(f"#!/bin/sh\n[ $1 = get_throttled ] && echo '{line}'\n")
        (folder / "vcgencmd").chmod(0o755)

    return says


def test_a_raspberry_pi(tmp_path, firmware):
    root, found = root_of(tmp_path, PI5), board.facts(tmp_path)
    assert found["board"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert found["processor"] == "implementer 0x41, part 0xd0b"
    assert found["system"] == "Debian GNU/Linux 12 (bookworm)"
    assert found["memory"] == "4.0 GiB, of which 3.0 GiB are free"
    assert found["swap"] == "0.5 GiB in a file, 2.0 GiB in zram" and found["governor"] == "ondemand"
    assert found["page size"] in ("4 KB", "16 KB", "64 KB") and "numba 0." in found["packages"]
    firmware("throttled=0x10005")
    assert board.moment(root) == {
        "temperature": "61.2 °C (cpu-thermal)",
        "frequency": "1500 of 2400 MHz",
        "firmware": "now: too low a voltage, throttled; since the system started: too low a voltage",
    }


def test_a_server(tmp_path, firmware):
    found = board.facts(root_of(tmp_path, SERVER))
    assert (found["board"], found["processor"]) == ("QEMU Standard PC", "Some | Processor @ 2 GHz")
    assert found["swap"] == "none" and board.moment(tmp_path) == {}


def test_a_system_that_says_nothing_or_nonsense(tmp_path, firmware):
    assert not {"board", "processor", "system", "governor"} & board.facts(tmp_path / "none").keys()
    for name in PI5:
        root_of(tmp_path, {name: ""})
        (tmp_path / name).write_bytes(b"\xff\xfe: ?\n- x\n")
    board.facts(tmp_path)
    assert board.moment(tmp_path) == {}


@pytest.mark.parametrize(
    "flags, words",
    [
        (0, "nothing held back since the system started"),
        (0x1, "now: too low a voltage"),
        (0x2, "now: a lowered frequency"),
        (0x80000, "since the system started: the soft limit of temperature"),
        (0xE0008, "now: the soft limit of temperature; since the system started: "
                  "a lowered frequency, throttled, the soft limit of temperature"),
    ],
)  # fmt: skip
def test_throttling_in_words(flags, words):
    assert board.in_words(flags) == words


@pytest.mark.parametrize("line", ["VCHI initialization failed", "throttled=", "throttled=0xyz", ""])
def test_a_firmware_that_does_not_tell(firmware, line):
    assert board.throttled() == ""
    firmware(line)
    assert board.throttled() == ""


def test_the_report_is_one_page_with_all_of_it(fixtures, tmp_path, monkeypatch, capsys):
    moments = iter(
        [{"temperature": "48.0 °C (cpu)"}, {"temperature": "71.5 °C (cpu)", "firmware": "now: throttled"}]
    )
    facts = board.facts(root_of(tmp_path / "root", PI5 | SERVER))
    monkeypatch.setattr(board, "facts", lambda: dict(facts))
    monkeypatch.setattr(board, "moment", lambda: next(moments))
    monkeypatch.setattr("qwen_ref.profile.read_bandwidth", lambda: 9.87e9)
    page = tmp_path / "page.md"
    line = ["bench", "-p", "5", "-n", "5", "-r", "1", "--no-start", "--report", str(page)]
    assert main([*line, "-m", str(fixtures / "tiny.gguf")]) == 0
    printed, text = capsys.readouterr().out, page.read_text()
    assert text.startswith("# qwen_ref on Raspberry Pi 5 Model B Rev 1.0\n") and printed.strip() in text
    for row in (
        "| processor | Some / Processor @ 2 GHz |",
        "| temperature | 48.0 °C (cpu) | 71.5 °C (cpu) |",
        "| firmware |  | now: throttled |",
        "| reading memory | 9.9 GB/s |",
    ):
        assert f"\n{row}\n" in text
    figures = json.loads(text.split("```json\n")[1].split("```")[0])
    assert [r["test"] for r in figures["results"]] == ["pp5", "tg5"]
    assert figures["after"]["firmware"] == "now: throttled" and figures["before"].keys() == {"temperature"}
    assert figures["machine"]["reading memory"] == "9.9 GB/s"
    assert str(tmp_path) not in text and str(fixtures) not in text


@pytest.mark.parametrize("name", ["missing/page.md", "."])
def test_a_report_that_cannot_be_written_is_told_before_measuring(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(bench, "measure_model", None)
    assert main(["bench", "--report", str(tmp_path / name)]) == 2
    assert "--report" in capsys.readouterr().err
