#!/bin/sh
# Runs the core tests as a fresh Debian 13 would: its Python, 3.13, and no compiler, libgomp or locale. For root on
# Debian, with the package debootstrap; the system takes 1 GB in the directory DEBIAN13 and is kept for the next
# time.
#
#     tests/debian13/run.sh [arguments for pytest]
set -eu
cd "$(dirname "$0")/../.."
DEBIAN13=${DEBIAN13:-/tmp/debian13}
PYTHON=${PYTHON:-.venv/bin/python} # fetches the wheels

if [ ! -e "$DEBIAN13/ready" ]; then
	debootstrap --variant=minbase --include=python3,python3-venv trixie "$DEBIAN13"
	chroot "$DEBIAN13" python3 -m venv /venv
	touch "$DEBIAN13/ready"
fi
machine=$(uname -m)
"$PYTHON" tests/requirements.py test | grep -v -e '^ruff' -e '^mypy' > "$DEBIAN13/wanted"
if ! cmp -s "$DEBIAN13/wanted" "$DEBIAN13/installed"; then
	rm -rf "$DEBIAN13/wheels"
	"$PYTHON" -m pip download --quiet --dest "$DEBIAN13/wheels" --only-binary=:all: --python-version 3.13 \
		--platform "manylinux_2_31_$machine" --platform "manylinux_2_28_$machine" --platform "manylinux_2_27_$machine" \
		--platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" --platform "manylinux1_$machine" \
		--requirement "$DEBIAN13/wanted"
	chroot "$DEBIAN13" sh -c "/venv/bin/pip install --quiet --no-index --no-deps --upgrade /wheels/*.whl"
	cp "$DEBIAN13/wanted" "$DEBIAN13/installed"
fi
rm -rf "$DEBIAN13/work"
mkdir "$DEBIAN13/work"
git ls-files -z --cached --others --exclude-standard | tar -c --null --files-from=- | tar -x -C "$DEBIAN13/work"
"$PYTHON" -m pip wheel --quiet --no-deps --wheel-dir "$DEBIAN13/own" "$DEBIAN13/work"
chroot "$DEBIAN13" sh -c "/venv/bin/pip install --quiet --no-index --no-deps --force-reinstall /own/*.whl"

exec unshare --mount sh -c '
	root=$1
	shift
	mount -t proc proc "$root/proc"
	mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
	mount --bind "$root/dev/pts/ptmx" "$root/dev/ptmx"
	exec chroot "$root" env -i PATH=/venv/bin:/usr/bin:/bin HOME=/root sh -c "
		cd /work && python --version && exec python -m pytest \"\$@\"" - "$@"
' - "$DEBIAN13" "$@"
