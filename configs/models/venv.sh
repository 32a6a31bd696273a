#!/bin/sh
# Makes a Python venv and installs what requirement files pin, unless all of it is there already.
#
#     venv.sh FOLDER REQUIREMENTS...
#
# PYTHON names the interpreter (python3).  What was found complete is remembered in FOLDER/.complete-*,
# by the content of the requirement files; a folder made by hand is adopted when it has the versions.
set -eu

folder=$1
shift
python=${PYTHON:-python3}
stamp=$folder/.complete-$(cat "$@" | sha256sum | cut -c1-16)
[ ! -e "$stamp" ] || [ ! -x "$folder/bin/python" ] || exit 0

satisfied() {
    "$folder/bin/python" - "$@" 2>/dev/null <<'END'
import importlib.metadata, re, sys
import pip
for path in sys.argv[1:]:
    for line in open(path, encoding="utf-8"):
        pin = re.fullmatch(r"([\w.-]+)==([\w.]+)", line.strip())
        if pin and importlib.metadata.version(pin[1]).split("+")[0] != pin[2]:
            sys.exit(1)
END
}

# pip writes a package's RECORD last: what has none was being installed when pip was killed.
half_installed() {
    for record in "$folder"/lib/python*/site-packages/*.dist-info; do
        [ ! -d "$record" ] || [ -e "$record/RECORD" ] || return 0
    done
    return 1
}

mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock"
flock 9
if half_installed || ! satisfied "$@"; then
    if half_installed || ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
        echo "making a Python venv: $folder" >&2
        "$python" -m venv --clear "$folder"
    fi
    echo "installing into $folder: $(grep -h == "$@" | tr '\n' ' ')" >&2
    quiet=--quiet
    [ ! -t 2 ] || quiet=
    for file in "$@"; do
        set -- "$@" -r "$file"
        shift
    done
    "$folder/bin/python" -m pip install --disable-pip-version-check $quiet "$@" >&2 </dev/null
fi
: >"$stamp"
