#!/usr/bin/env bash
# Set everything up in a fresh virtual environment (.venv-test) and run the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
make_environment .venv-test "demo,qat,dev"
.venv-test/bin/python -m pip --disable-pip-version-check --quiet install --no-deps -r requirements-assets.txt -r requirements-tests.txt
# Bytecode is kept: these tests start hundreds of processes that import the same modules.
unset PYTHONDONTWRITEBYTECODE
.venv-test/bin/python -m compileall -q quantbench tests
# A process a core; tests of one file share its fixtures (tests/conftest.py).
.venv-test/bin/python -m pytest -n auto "$@"
