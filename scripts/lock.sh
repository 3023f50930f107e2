#!/usr/bin/env bash
# lock.sh: resolves requirements.in into requirements.lock (versions and hashes) and package.json into package-lock.json.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
[ -x build/lock/bin/uv ] || { python3 -m venv build/lock && build/lock/bin/pip install -q uv==0.13.9; }
build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
  --no-emit-find-links --no-header "$@" --output-file requirements.lock requirements.in
npm install --package-lock-only --ignore-scripts --no-audit --no-fund
sed -i '/^ *"resolved":/d' package-lock.json
