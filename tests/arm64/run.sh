#!/bin/sh
# What a Raspberry Pi 5 and a Pi 4 would do, from nothing, within an hour: an arm64 Debian, emulated by QEMU, with what
# Linux says there about the processor. Answers, also about a picture, must be this machine's; a conversation, a server
# that OpenAI's client asks, goldens, the conformance kit, and then the core tests; it is an error if one fails, or
# if the hour has no room for a file of them, which is named. For root on Debian, with the packages qemu-user-static and
# debootstrap; the system takes 1.5 GB in the directory ARM64, and is kept for the next time (FRESH=1 makes it anew).
#
#     tests/arm64/run.sh [cortex-a76] [cortex-a72]
set -eu
cd "$(dirname "$0")/../.."
ARM64=${ARM64:-/tmp/arm64}
PYTHON=${PYTHON:-.venv/bin/python} # fetches the wheels, and gives the answers to compare with
MINUTES=${MINUTES:-57}             # after which no file of tests is begun
binfmt=/proc/sys/fs/binfmt_misc
begun=$(date +%s)
date -u "+%F %H:%M UTC: what follows each step is seconds from the start"

[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
[ -e $binfmt/qemu-aarch64 ] || cat /usr/lib/binfmt.d/qemu-aarch64.conf > $binfmt/register

done_() { # what
	echo "== $*: $(($(date +%s) - begun)) s"
}

[ -z "${FRESH:-}" ] || rm -rf "$ARM64"
if [ ! -e "$ARM64/ready" ]; then
	debootstrap --arch=arm64 --variant=minbase --include=python3,python3-venv bookworm "$ARM64" > "$ARM64.log" 2>&1
	done_ debootstrap
	{ "$PYTHON" tests/requirements.py --machine aarch64 test | grep -v -e '^ruff' -e '^mypy' && echo openai; } > "$ARM64/wanted"
	"$PYTHON" -m pip download --quiet --disable-pip-version-check --dest "$ARM64/wheels" --only-binary=:all: --python-version 3.11 \
		--platform manylinux_2_31_aarch64 --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
		--platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --requirement "$ARM64/wanted"
	chroot "$ARM64" python3 -m venv /venv
	chroot "$ARM64" sh -c "/venv/bin/pip install --quiet --no-index --no-deps /wheels/*.whl"
	touch "$ARM64/ready"
	done_ packages
fi
"$PYTHON" tests/arm64/segments.py "$ARM64"/wheels/*.whl
rm -rf "$ARM64/work" "$ARM64/own" "$ARM64/compiled" "$ARM64/logs"
mkdir "$ARM64/work" "$ARM64/logs"
git ls-files -z --cached --others --exclude-standard | tar -c --null --files-from=- | tar -x -C "$ARM64/work"
"$PYTHON" -m pip wheel --quiet --no-deps --wheel-dir "$ARM64/own" "$ARM64/work"
chroot "$ARM64" sh -c "/venv/bin/pip install --quiet --no-index --no-deps --force-reinstall /own/*.whl"

printf "127.0.0.1 localhost\n::1 localhost\n" > "$ARM64/etc/hosts" # some tests ask for this name

processor() { # name, part number, features
	printf 'processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid %s\nCPU implementer\t: 0x41\n' "$3"
	printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 3\n' "$2"
}
more="aes pmull sha1 sha2 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
processor cortex-a76 0xd0b "$more" > "$ARM64/cortex-a76"
processor cortex-a72 0xd08 "" > "$ARM64/cortex-a72"

on() { # processor, then a command for the shell; PAGE is the page size
	unshare --mount --net sh -c '
		ip link set lo up
		mount -t proc proc "$1/proc" && mount --bind "$1/$2" "$1/proc/cpuinfo" &&
		mount -t devpts -o newinstance,ptmxmode=0666 devpts "$1/dev/pts" && mount --bind "$1/dev/pts/ptmx" "$1/dev/ptmx" &&
		exec chroot "$1" env -i QEMU_CPU="$2" QEMU_PAGESIZE="$4" LC_ALL=C.UTF-8 HOME=/root XDG_CACHE_HOME=/compiled \
			PATH=/venv/bin:/usr/bin:/bin sh -c "cd /work; $3"
	' - "$ARM64" "$1" "$2" "${PAGE:-4096}"
}

# ---- the same as on this machine

here=$ARM64.here
mkdir -p "$here"
same() { # name, processor, arguments of qwen_ref: prints the answer
	"$PYTHON" -m qwen_ref $3 < "${4:-/dev/null}" > "$here/$2-$1" 2> "$here/$2-log"
	on "$2" "python -m qwen_ref $3" < "${4:-/dev/null}" > "$ARM64/logs/$2-$1" 2> "$ARM64/logs/$2-$1.log"
	diff "$here/$2-$1" "$ARM64/logs/$2-$1"
	tail -n 1 "$here/$2-$1"
	done_ "$1, as on this machine"
}
printf 'What can you do?\nWhat is 27 + 58?\n' > "$here/questions"
picture="generate --greedy --image examples/media/shapes.png --prompt Describe"
golden="golden record --prompt Sums? --generate 4 --out"
part() { # processor
	echo "==== $1"
	on "$1" "python -c 'from qwen_ref.kernels import simd; print(simd.DOT, sorted(simd.FEATURES))'"
	if [ "$1" = cortex-a76 ]; then
		on "$1" "python -m qwen_ref warmup"
		done_ warmup
	fi
	same generate "$1" "generate --greedy --model tests/fixtures/tiny-wide.gguf --prompt Why? --max-tokens 20"
	same picture "$1" "$picture"
	if [ "$1" = cortex-a76 ]; then
		PAGE=16384
		on "$1" "python -c 'import os; print(os.sysconf(\"SC_PAGE_SIZE\"), \"bytes a page\")'"
		same picture "$1" "$picture"
		PAGE=4096
		same chat "$1" "chat --greedy" "$here/questions"
		same plan "$1" "plan --board pi5 --memory 1G --context 4096 --image 448x448 --threads 4"
		on "$1" "python -m qwen_ref plan"
		on "$1" "python -m qwen_ref serve --port 8080 > /logs/serve 2>&1 & python tests/arm64/ask.py 8080 \$!"
		done_ "serve, and OpenAI's client"
		"$PYTHON" -m qwen_ref $golden "$ARM64/here.safetensors" 2> "$here/log"
		on "$1" "python -m qwen_ref $golden /there.safetensors"
		on "$1" "python -m qwen_ref golden compare /here.safetensors /there.safetensors --allow float64 > /logs/goldens"
		tail -n 4 "$ARM64/logs/goldens"
		done_ goldens
	fi
	on "$1" "PYTHONPATH=. python tests/arm64/exact.py"
	done_ "the conformance kit in float64"
	if [ "$1" = cortex-a76 ]; then
		on "$1" "python -m pytest -m slow -k kernels_are_right tests/qwen_ref/test_conformance.py"
		done_ "the conformance kit with the kernels"
	else
		on "$1" "python -m pytest tests/qwen_ref/test_kernels.py"
		done_ "the kernels' tests"
	fi
}
running=
for cpu in ${*:-cortex-a76 cortex-a72}; do # at the same time: most of it has work for one core
	(part "$cpu") > "$ARM64/logs/$cpu" 2>&1 &
	running="$running $cpu=$!"
done
for one in $running; do
	status=0
	wait "${one#*=}" || status=$?
	cat "$ARM64/logs/${one%=*}"
	[ $status = 0 ]
done

# ---- the core tests: two files at a time, those of the kernels and of what this project is about first

cat > "$ARM64/core.sh" <<'END'
run() {
	if [ "$(date +%s)" -ge "$LAST" ]; then
		echo "$1: not run, the time is over"
		return 1
	fi
	log=/logs/$(basename "$1").txt
	started=$(date +%s)
	status=0
	timeout 900 python -m pytest "$1" --timeout 0 --durations 10 > "$log" 2>&1 || status=$?
	[ $status = 0 ] || grep -h -E '^(FAILED|ERROR)' "$log" || tail -n 3 "$log"
	echo "$1: $(tail -n 1 "$log") of $(($(date +%s) - started)) s"
	return $status
}
run "$1"
END
files() {
	for name in test_kernels ../gguf_io test_model test_tokenizer test_plan test_commands test_generate test_vision \
		test_sequence test_chat test_prefixes test_cache_types test_conformance test_serve; do
		ls -d "tests/qwen_ref/$name"* | head -n 1
	done
	ls tests/qwen_ref/test_*.py
}
files | awk '!seen[$0]++' > "$ARM64/files"
status=0
on cortex-a76 "LAST=$((begun + 60 * MINUTES)) xargs -a /files -P 2 -n 1 sh /core.sh" || status=$?
done_ "the core tests"
exit $status # not 0 if a file of them failed, or was not run
