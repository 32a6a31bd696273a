#!/bin/sh
# Runs a bundle as a machine would that has neither a network nor a compiler nor development packages: in a minimal
# Debian of its own, made once in CACHE, with nothing of this machine but a Python that has PyTorch.
#
#     offline.sh CACHE BUNDLE OUT [ARGUMENTS of check-gpu]     the report is OUT/check_gpu.json
#
# STANDINS names a folder put before PATH there, whose lib/ holds what stands in for the device's libraries and whose
# python, if there is one, for the Python.  KILL: the second after which everything there is killed.
set -eu

cache=$1
bundle=$(realpath "$2")
mkdir -p "$3"
out=$(realpath "$3")
shift 3
root=$cache/offline-root
[ "$(id -u)" = 0 ] || { echo "skip: only root can enter another root"; exit 0; }

if [ ! -e "$root/.complete" ]; then
    for program in debootstrap:debootstrap ip:iproute2; do
        command -v "${program%%:*}" >/dev/null || apt-get install -y -qq --no-install-recommends "${program##*:}" >/dev/null
    done
    rm -rf "$root"
    debootstrap --variant=minbase --include=python3 bookworm "$root" >&2
    : >"$root/.complete"
fi

# A Python with PyTorch, and pytest beside it.
"$(dirname "$0")/../../configs/models/venv.sh" "$cache/parity-venv" "$(dirname "$0")/../parity/requirements.txt"
python=$cache/parity-venv/bin/python
base=$("$python" -c 'import sys; print(sys.base_prefix)')
site=$("$cache/venv/bin/python" -c 'import pytest, os; print(os.path.dirname(os.path.dirname(pytest.__file__)))')
standins=$(realpath "${STANDINS:-/nonexistent}" 2>/dev/null || true)
export root bundle out cache python base site standins

exec ${KILL:+timeout -s KILL "$KILL"} unshare --mount --net --pid --fork --kill-child --propagation private sh -c '
set -eu
ip link set lo up
bring() { mkdir -p "$root$2"; mount --rbind "$1" "$root$2"; ${3:+mount -o "remount,bind,$3" "$root$2"}; }
bring "$bundle" /bundle ro
bring "$out" /out
for folder in "$cache/parity-venv" "$site" "$cache/tiny"; do bring "$folder" "$folder" ro; done
[ "$base" = /usr ] || bring "$base" "$base" ro
[ ! -d "$standins" ] || bring "$standins" /standins ro
mount -t proc none "$root/proc"
mount -t tmpfs none "$root/tmp"
mount --bind /dev/null "$root/dev/null"
! chroot "$root" sh -c "command -v cc || command -v make || ls /usr/include/stdlib.h" 2>/dev/null || { echo "there is a compiler" >&2; exit 1; }
[ ! -x "$standins/python" ] || export REAL_PYTHON="$python" python=/standins/python
exec chroot "$root" env -i PATH=/standins:/usr/bin:/bin HOME=/tmp OUT=/out SAMEBIT_CACHE="$cache" PYTHON="$python" \
    REAL_PYTHON="${REAL_PYTHON:-}" PYTHONPATH="$site" PYTHONDONTWRITEBYTECODE=1 /bundle/check-gpu "$@"' sh "$@"
