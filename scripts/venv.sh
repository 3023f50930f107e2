#!/usr/bin/env bash
# venv.sh: makes build/venv from requirements.lock, with src/ on its path.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/once.sh
. scripts/once.sh
once build/venv/.done requirements.lock scripts/venv.sh

python=
for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
  if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || {
  echo "venv: no Python 3.11 or later with venv found; on Debian: apt-get install python3-venv" >&2
  exit 1
}
echo "venv: installing requirements.lock into build/venv"
rm -rf build/venv
mkdir -p build/log
"$python" -m venv build/venv
build/venv/bin/pip install --quiet --disable-pip-version-check --no-input --require-hashes --no-deps -r requirements.lock \
  >build/log/pip.log 2>&1 || {
  tail -n 20 build/log/pip.log >&2
  echo "venv: pip failed (above); it needs PyPI. Run make again once that is mended." >&2
  exit 1
}
build/venv/bin/python - <<'PY'
import pathlib, site
pathlib.Path(site.getsitepackages()[0], "bwrouter.pth").write_text(f"{pathlib.Path.cwd() / 'src'}\n")
PY
finish
