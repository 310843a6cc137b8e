#!/bin/sh
# Runs the kernel's tests on each CPython from 3.11 up that this machine has, beside the one of .venv; and replays on
# each of them what each of the others wrote with every primitive of asyncio and anyio. Of those between the one of
# .venv and the newest only what hangs on Python's own insides is run, unless ALKALINE_EVERYWHERE=1 asks for all.
set -eu
cd "$(dirname "$0")/.."
histories=build/primitives
export PYTHONPATH=.:hosts
rm -rf "$histories"
own=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
pythons=.venv/bin/python
insides="tests/machine/test_loop.py tests/machine/test_former_loop.py tests/machine/test_discarding.py tests/primitives/test_flows.py"
whole="tests/primitives tests/conformance tests/machine/test_loop.py tests/machine/test_former_loop.py tests/machine/test_discarding.py tests/test_peers_bugs.py tests/test_moving.py tests/test_structs.py tests/test_golden.py"
.venv/bin/python -m tests.primitives.flows write "$histories/$own"
tests=$whole
for version in 3.14 3.13 3.12 3.11; do
    [ "$version" = "$own" ] && continue
    python=""
    for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
        # A pyenv shim answers only for the versions that are switched on: ask it, do not just look for it.
        if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2>/dev/null; then
            python=$candidate
        fi
    done
    if [ -z "$python" ]; then
        echo "CPython $version is not on this machine: not tested on it"
        continue
    fi
    venv=build/venv-$version
    "$venv/bin/python" -c 'import anyio.functools, pytest_timeout' 2>/dev/null || { "$python" -m venv "$venv" && "$venv/bin/python" -m pip install --quiet msgpack 'pytest>=9.1,<9.2' 'pytest-timeout>=2.4' hypothesis 'anyio>=4.16'; }
    echo "CPython $version:"
    "$venv/bin/python" -m tests.primitives.flows write "$histories/$version"
    pythons="$pythons $venv/bin/python"
    # shellcheck disable=SC2086  # several paths
    "$venv/bin/python" -m pytest -p no:cacheprovider $tests
    [ "${ALKALINE_EVERYWHERE:-}" = 1 ] || tests=$insides
done
for python in $pythons; do
    for folder in "$histories"/*; do
        "$python" -m tests.primitives.flows check "$folder"
    done
done
echo "Every CPython goes on with what the others wrote: $(ls "$histories" | tr '\n' ' ')"
