#!/bin/sh
# `make test-all`: the tests on every CPython from 3.11 on that this machine has, each in an environment of its own.
export ALL_LOOPS=1  # see tests/conftest.py
status=0
found=
for minor in 11 12 13 14; do
    for python in "python3.$minor" "$HOME"/.pyenv/versions/3."$minor".*/bin/python; do
        # A shim may exist for a version that is not there: ask it.
        "$python" -c "import sys; sys.exit(sys.version_info[:2] != (3, $minor))" 2>/dev/null || continue
        found="$found 3.$minor"
        echo "== CPython 3.$minor"
        make --no-print-directory test PYTHON="$python" VENV=".venv-3.$minor" || status=1
        break
    done
done
echo "ran on:$found"
exit $status
