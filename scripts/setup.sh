#!/bin/sh
# Makes a virtual environment and installs this checkout into it, editable.
#
#   scripts/setup.sh FOLDER WHAT      WHAT is "." or ".[dev]"
#
# $PYTHON names the interpreter; without it the first of python3.13, 3.12, 3.11 and python3 on
# PATH that runs, is 3.11 to 3.13, and can make environments is taken. (A shim that only says
# that it has no such version does not run.)
set -eu

folder=$1
what=$2

usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

works() {
    [ -x "$folder/bin/python" ] && usable "$folder/bin/python" && "$folder/bin/python" -m pip --version >/dev/null 2>&1
}

if ! works; then
    found=
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if usable "$candidate"; then
            found=$candidate
            break
        fi
    done
    if [ -z "$found" ]; then
        echo "no usable Python 3.11 to 3.13 with venv found (tried ${PYTHON:-python3.13 python3.12 python3.11 python3});" >&2
        echo "install one, or name it: make PYTHON=/path/to/python" >&2
        exit 1
    fi
    echo "making $folder with $("$found" --version)"
    "$found" -m venv --clear "$folder"
fi
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$what"
