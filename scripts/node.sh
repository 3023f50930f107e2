#!/usr/bin/env bash
# node.sh: installs what package-lock.json names into build/node. No package's install script runs.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/once.sh
. scripts/once.sh
once build/node/.done package.json package-lock.json scripts/node.sh
echo "node: installing package-lock.json into build/node"
mkdir -p build/node build/log
cp package.json package-lock.json build/node/
(cd build/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) >build/log/npm.log 2>&1 </dev/null || {
  tail -n 20 build/log/npm.log >&2
  echo "node: npm failed (above); it needs the npm registry. Run make again once that is mended." >&2
  exit 1
}
finish
