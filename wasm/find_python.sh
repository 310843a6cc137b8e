#!/bin/sh
# Prints the first Python that can run the build (3.12 or newer), or says what to install.
# A name that a version manager knows but has not selected exists and fails, so each candidate is run once.
for candidate in "$WASM_PYTHON" python3.14 python3.13 python3.12 python3 \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.14.*/bin/python3 \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13.*/bin/python3 \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12.*/bin/python3; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
        command -v "$candidate"
        exit 0
    fi
done
echo "wasm: pyodide-build needs Python 3.12 or newer with venv; none was found." >&2
echo "wasm: install one (python3.12 and python3.12-venv, or pyenv install 3.13), or name it in WASM_PYTHON." >&2
exit 1
