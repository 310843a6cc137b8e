#!/bin/sh
# Builds what a release uploads, and checks it: wheel and sdist of the last commit, the same bytes each time, and the SBOM
# of an installation. Writes dist/ (uploaded) and build/release/ (attached to the release).
set -eu
cd "$(dirname "$0")/../.."
tools=build/venv-release
[ -x "$tools/bin/twine" ] || {
    python3 -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet build hatchling twine pyroma check-wheel-contents cyclonedx-bom
}
[ -z "$(git status --porcelain)" ] || { echo "there are changes that are not committed: commit them first" >&2; exit 1; }
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
umask 022
rm -rf dist build/release
mkdir -p build/release
# From a tree of the commit, so that nothing else that lies here gets in; the wheel is made of the sdist, as pip would.
git archive --prefix=tree/ HEAD | tar -x -C build/release
"$tools/bin/python" -m build --no-isolation --outdir dist build/release/tree >build/release/build.log 2>&1 ||
    { cat build/release/build.log >&2; exit 1; }
rm -r build/release/tree
"$tools/bin/twine" check --strict dist/*
"$tools/bin/check-wheel-contents" --ignore W009 dist/*.whl  # two packages at the top are meant: the kernel, and its hosts
# It wants an address for mail and a home page; until the project has them, the rest has to be right.
"$tools/bin/pyroma" --min=8 dist/*.tar.gz
python3 -m venv --clear build/release/venv
build/release/venv/bin/python -m pip install --quiet dist/*.whl
build/release/venv/bin/python -m pip uninstall --quiet --yes pip setuptools
"$tools/bin/cyclonedx-py" environment --output-reproducible --pyproject pyproject.toml --of JSON \
    --output-file build/release/sbom.cdx.json build/release/venv/bin/python
rm -r build/release/venv build/release/build.log
(cd dist && sha256sum -- *) | tee build/release/SHA256SUMS
