#!/bin/sh
# Installs the wheel in dist/ on each CPython from 3.11 up that this machine has, and tries it outside of the repository:
# the README's first program twice, and the command line on what it left.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
wheel=$(ls "$root"/dist/*.whl)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed -n '/^```python$/,/^```$/p' README.md | sed '1d;$d' >"$work/program.py"
for version in 3.11 3.12 3.13 3.14; do
    python=""
    for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
        # A pyenv shim answers only for the versions that are switched on: ask it, do not just look for it.
        if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2>/dev/null; then
            python=$candidate
        fi
    done
    [ -n "$python" ] || { echo "CPython $version is not on this machine: not tried on it"; continue; }
    rm -rf "$work/run" && mkdir "$work/run" && cp "$work/program.py" "$work/run"
    "$python" -m venv "$work/run/venv"
    "$work/run/venv/bin/python" -m pip install --quiet "$wheel[cli,crypto]"
    cd "$work/run"
    for _ in 1 2; do
        [ "$(venv/bin/python program.py)" = "a summary of 2 sources" ]
    done
    venv/bin/alkaline list ./agent.alkaline | grep -q exe_1
    venv/bin/alkaline events ./agent.alkaline exe_1 | grep -q call_model
    venv/bin/python -c "import alkaline_edge.sealing, alkaline_hosts.worker, alkaline_hosts.cloudflare_workflows"
    cd "$root"
    echo "CPython $version ($("$python" -c 'import platform; print(platform.python_version())')): installed and tried"
done
