#!/bin/sh
# Runs the kernels, and the conformance kit with NumPy, as a Raspberry Pi 5 and a Pi 4 would: in an arm64 Debian,
# emulated by QEMU, with what Linux says there about the processor. For root on Debian, with the packages
# qemu-user-static and debootstrap; the system takes 1 GB in the directory ARM64 and is kept for the next time.
#
#     tests/arm64/run.sh [cortex-a76] [cortex-a72]
set -eu
cd "$(dirname "$0")/../.."
ARM64=${ARM64:-/tmp/arm64}
PYTHON=${PYTHON:-.venv/bin/python} # fetches the wheels, and generates the tokens to compare with
binfmt=/proc/sys/fs/binfmt_misc

[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
[ -e $binfmt/qemu-aarch64 ] || cat /usr/lib/binfmt.d/qemu-aarch64.conf > $binfmt/register

if [ ! -e "$ARM64/ready" ]; then
	debootstrap --arch=arm64 --variant=minbase --include=python3,python3-venv bookworm "$ARM64"
	"$PYTHON" tests/requirements.py --machine aarch64 test | grep -v -e '^ruff' -e '^mypy' > "$ARM64/wanted"
	"$PYTHON" -m pip download --quiet --dest "$ARM64/wheels" --only-binary=:all: --python-version 3.11 \
		--platform manylinux_2_31_aarch64 --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
		--platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --requirement "$ARM64/wanted"
	chroot "$ARM64" python3 -m venv /venv
	chroot "$ARM64" sh -c "/venv/bin/pip install --quiet --no-index --no-deps /wheels/*.whl"
	touch "$ARM64/ready"
fi
rm -rf "$ARM64/work"
mkdir "$ARM64/work"
git ls-files -z --cached --others --exclude-standard | tar -c --null --files-from=- | tar -x -C "$ARM64/work"

processor() { # name, part number, features
	printf 'processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid %s\nCPU implementer\t: 0x41\n' "$3"
	printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 3\n' "$2"
}
more="aes pmull sha1 sha2 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
processor cortex-a76 0xd0b "$more" > "$ARM64/cortex-a76"
processor cortex-a72 0xd08 "" > "$ARM64/cortex-a72"

on() { # processor, then a command for the shell
	unshare --mount sh -c '
		mount -t proc proc "$1/proc" && mount --bind "$1/$2" "$1/proc/cpuinfo" &&
		exec chroot "$1" env -i QEMU_CPU="$2" PATH=/venv/bin:/usr/bin:/bin HOME=/root sh -c "cd /work; $3"
	' - "$ARM64" "$1" "$2"
}
generate="-m qwen_ref generate --model tests/fixtures/tiny-wide.gguf --greedy --max-tokens 20"
generate="$generate --prompt 'Tell me a story.' --json"
tokens='import json, sys; print(json.load(sys.stdin)["token_ids"])'
eval "'$PYTHON' $generate" | "$PYTHON" -c "$tokens" > "$ARM64/tokens"
for cpu in ${*:-cortex-a76 cortex-a72}; do
	on "$cpu" "python -c 'from qwen_ref.kernels import simd; print(\"$cpu:\", simd.DOT, sorted(simd.FEATURES))'"
	on "$cpu" "python $generate" | "$PYTHON" -c "$tokens" | diff "$ARM64/tokens" -
	echo "the same tokens as on this machine"
	on "$cpu" "PYTHONPATH=. python tests/arm64/exact.py"
	on "$cpu" "python -m pytest tests/qwen_ref/test_threads.py tests/qwen_ref/test_kernels.py tests/gguf_io"
done
