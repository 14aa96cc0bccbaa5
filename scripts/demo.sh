#!/usr/bin/env bash
# Set everything up in a fresh virtual environment (.venv) and run the main job on the demo model and demo photos.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
make_environment .venv "demo"
# Bytecode is kept: two commands import the same modules.
unset PYTHONDONTWRITEBYTECODE
[ -d imgs ] || .venv/bin/quantbench demo-images imgs
.venv/bin/quantbench ptq --calib-dir imgs/
