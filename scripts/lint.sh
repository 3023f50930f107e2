#!/usr/bin/env bash
# lint.sh: every static check, all of them even when one fails; exits 1 if any failed.
set -euo pipefail
cd "$(dirname "$0")/.."
failed=()
check() {
  local name=$1
  shift
  echo "lint: $name"
  "$@" || failed+=("$name")
}
# tracked PATTERN...: the repo's own files (new ones that git does not ignore too) that still exist
tracked() {
  git ls-files --cached --others --exclude-standard -- "$@" 2>/dev/null | while read -r file; do [ ! -f "$file" ] || echo "$file"; done
}
bin=build/node/node_modules/.bin

check ruff build/venv/bin/ruff check --quiet . package/build

typed=()
for folder in src/bwgateway src/bwclient src/bwverifier tests/lab tests/soak bench scripts/sbom.py scripts/usign.py qemu/guest.py qemu/pool.py qemu/console.py qemu/disk.py package/build; do
  [ -z "$(tracked "$folder")" ] || typed+=("$folder")
done
[ ${#typed[@]} = 0 ] || check mypy build/venv/bin/mypy --no-error-summary "${typed[@]}"

mapfile -t shell < <({ tracked '*.sh' .ci/run; tracked 'files/etc/init.d/*' 'files/etc/uci-defaults/*' 'files/usr/bin/*' 'luci-app/root/usr/libexec/*' 'qemu/standin/bin/*' qemu/standin/sbin/procd qemu/standin/etc/rc.common; } | sort -u)
check shellcheck shellcheck --severity=warning "${shell[@]}"

mapfile -t scripts < <(tracked 'luci-app/*.js' 'src/*.js')
[ ${#scripts[@]} = 0 ] || check eslint "$bin/eslint" --no-config-lookup -c eslint.config.mjs "${scripts[@]}"

if [ -n "$(tracked 'contracts/*.sol')" ]; then
  mapfile -t solidity < <(tracked 'contracts/*.sol')
  check 'forge fmt' "$bin/forge" fmt --check --root contracts "${solidity[@]/#/$PWD/}"
  check solhint "$bin/solhint" --disc --noPoster --quiet -c .solhint.json "${solidity[@]}"
fi

[ ${#failed[@]} = 0 ] || { echo "lint: failed: ${failed[*]}" >&2; exit 1; }
echo 'lint: all clean'
