#!/bin/sh
# Builds a JupyterLite site on the distribution in dist/, in build/notebooks/site; docs/browser.md says what of it matters.
set -eu
cd "$(dirname "$0")/.."
lite=build/notebooks
tools=build/venv-notebooks
[ -e "$tools/.stamp" ] && [ "$tools/.stamp" -nt notebooks/requirements.txt ] || {
    .venv/bin/python -m venv --clear "$tools"
    "$tools/bin/python" -m pip install --quiet --requirement notebooks/requirements.txt
    touch "$tools/.stamp"
}
# Anew each time: over what an earlier build left, JupyterLite takes the settings for written and leaves them out.
rm -rf "$lite"
mkdir -p "$lite/static" "$lite/content"
cp -R dist "$lite/static/pyodide"
cp notebooks/jupyter-lite.json "$lite/"
cp notebooks/*.ipynb "$lite/content/"
"$tools/bin/python" -m pip download --quiet --no-deps --only-binary=:all: --platform any --require-hashes \
    --requirement notebooks/wheels.txt --dest "$lite/pypi"
jupyter=$PWD/$tools/bin/jupyter
(cd "$lite" && "$jupyter" lite build --output-dir site --contents content --apps notebooks >build.log 2>&1) ||
    { cat "$lite/build.log" >&2; exit 1; }
grep -q '"pyodideUrl": "./static/pyodide/pyodide.mjs"' "$lite/site/jupyter-lite.json" ||
    { echo "the site would take Pyodide from elsewhere" >&2; exit 1; }
