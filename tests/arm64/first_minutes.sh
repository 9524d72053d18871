#!/bin/sh
# Types what docs/raspberry-pi.md says, from the document itself, into a fresh Debian for arm64, emulated by QEMU, with a
# Pi 5's processor and without a network. The small model has the name of the one to be pulled.
# For root on Debian, with the packages qemu-user-static and debootstrap; the system takes 1 GB in the directory FIRST
# and is kept for the next time, without what the user did.
#
#     tests/arm64/first_minutes.sh [bookworm | trixie]
set -eu
cd "$(dirname "$0")/../.."
release=${1:-bookworm}
case $release in bookworm) version=3.11 ;; trixie) version=3.13 ;; *) echo "$release: is not known" >&2; exit 2 ;; esac
FIRST=${FIRST:-/tmp/first-$release}
PYTHON=${PYTHON:-.venv/bin/python} # fetches the wheels, and reads the document
binfmt=/proc/sys/fs/binfmt_misc

[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
[ -e $binfmt/qemu-aarch64 ] || cat /usr/lib/binfmt.d/qemu-aarch64.conf > $binfmt/register

if [ ! -e "$FIRST/ready" ]; then
	debootstrap --arch=arm64 --variant=minbase --include=python3,python3-venv,sudo $release "$FIRST"
	chroot "$FIRST" useradd --create-home pi
	touch "$FIRST/ready"
fi
# What pip would fetch, and what it builds with.
{ "$PYTHON" tests/requirements.py --machine aarch64 serve hub && echo 'setuptools>=77'; } > "$FIRST/wanted"
if ! cmp -s "$FIRST/wanted" "$FIRST/fetched"; then
	rm -rf "$FIRST/wheels"
	"$PYTHON" -m pip download --quiet --dest "$FIRST/wheels" --only-binary=:all: --python-version $version \
		--platform manylinux_2_31_aarch64 --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
		--platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --requirement "$FIRST/wanted"
	cp "$FIRST/wanted" "$FIRST/fetched"
fi

rm -rf "$FIRST/home/pi"
cp -r "$FIRST/etc/skel" "$FIRST/home/pi"
mkdir "$FIRST/home/pi/qwen_ref"
git ls-files -z --cached --others --exclude-standard | tar -c --null --files-from=- | tar -x -C "$FIRST/home/pi/qwen_ref"
pulled=$FIRST/home/pi/.local/share/qwen_ref/models/unsloth/Qwen3.5-0.8B-GGUF
mkdir -p "$pulled"
cp qwen_ref/shipped/tiny-Q4_K_M.gguf "$pulled/Qwen3.5-0.8B-Q4_K_M.gguf"
cp qwen_ref/shipped/mmproj-tiny-Q8_0.gguf "$pulled/mmproj-F16.gguf"

cat > "$FIRST/home/pi/ask.py" <<'END'
"""Is the page there, as a phone asks for it, and does the server answer? Then it is stopped."""
import json, os, signal, sys, time, urllib.error, urllib.request
url, server = "http://127.0.0.1:11434", int(sys.argv[1])
for _ in range(1200):
    try:
        page = urllib.request.urlopen(url, timeout=60).read()
        break
    except urllib.error.URLError:
        os.kill(server, 0)
        time.sleep(1)
assert b"<html" in page
asked = {"model": "qwen3.5:0.8b", "max_tokens": 16, "messages": [{"role": "user", "content": "What can you do?"}]}
request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"})
answer = json.load(urllib.request.urlopen(request, timeout=600))
print("the page, and an answer:", answer["choices"][0]["message"]["content"])
os.kill(server, signal.SIGTERM)
END
PYTHONPATH=tests/docs "$PYTHON" - "$FIRST/home/pi" <<'END'
import shlex
import sys
from pathlib import Path

from test_commands import ALSO, commands, first

NOT_HERE = {
    "python -m qwen_ref pull *": "there is no network",
    "systemctl *": "systemd does not run",
    "sudo loginctl *": "systemd does not run",
}
lines, of_root = ["set -eu", "cd qwen_ref"], ["set -eu"]
for command in commands("docs/raspberry-pi.md"):
    if reason := first(NOT_HERE, command):
        lines.append("echo " + shlex.quote(f"# not here, since {reason}: {command}"))
        continue
    command += first(ALSO, command) or ""
    typed = of_root if command.startswith("sudo ") else lines  # emulated, a program cannot become another user's
    typed.append("echo " + shlex.quote(f"$ {command}"))
    if command.startswith("python -m qwen_ref serve"):
        command = f"{command} & python ../ask.py $!; wait $! || [ $? = 143 ]"  # SIGTERM
    typed.append(command)
lines.append("cat qwen_ref-report.md; du -sm .venv ~/.cache/qwen_ref")
# The service's own command, as systemd would start it.
unit = open("examples/qwen_ref.service").read()
(start,) = (line.removeprefix("ExecStart=") for line in unit.splitlines() if line.startswith("ExecStart="))
start = start.replace("%h", "/home/pi")
lines += ["echo " + shlex.quote(f"$ {start}"), f"cd /; {start} & python /home/pi/ask.py $!; wait $! || [ $? = 143 ]"]
for name, script in ("first.sh", lines), ("root.sh", of_root):
    Path(sys.argv[1], name).write_text("\n".join(script))
END
chroot "$FIRST" chown -R pi: /home/pi
printf 'processor\t: 0\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\n' \
	> "$FIRST/cpuinfo"
printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n' >> "$FIRST/cpuinfo"

exec unshare --mount --net sh -c '
	ip link set lo up
	chroot "$1" sh /home/pi/root.sh
	mount -t proc proc "$1/proc" && mount --bind "$1/cpuinfo" "$1/proc/cpuinfo"
	exec chroot --userspec=pi "$1" env -i QEMU_CPU=cortex-a76 PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels USER=pi HOME=/home/pi \
		PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin sh -c "cd && exec sh first.sh"
' - "$FIRST"
