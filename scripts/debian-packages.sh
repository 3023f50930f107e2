#!/usr/bin/env bash
# debian-packages.sh LIST: installs what the list file names and this machine lacks, and Node.js if there is none.
set -euo pipefail
cd "$(dirname "$0")/.."

die() {
  echo "debian-packages: $*" >&2
  exit 1
}
command -v dpkg-query >/dev/null || die "this machine has no dpkg: Debian 12 or later is needed"

mapfile -t wanted < <(grep -v '^#' "$1")
node=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/' || true)
[ "${node:-0}" -ge 18 ] || wanted+=(nodejs)
command -v npm >/dev/null || wanted+=(npm)

missing=()
for package in "${wanted[@]}"; do
  # shellcheck disable=SC2016
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

install="apt-get install -y --no-install-recommends ${missing[*]}"
[ "$(id -u)" = 0 ] || die "these Debian packages are missing; as root, run:
  apt-get update && $install"
echo "debian-packages: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
if [[ " ${missing[*]} " == *' postgresql '* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
  # Tests start a server of their own; Debian's package would set up and start another for the whole machine.
  mkdir -p /etc/postgresql-common
  echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
fi
apt-get -q -o Acquire::Retries=3 update >/dev/null ||
  die "apt-get update failed: mend this machine's package sources or network, then run make again"
# shellcheck disable=SC2086
$install -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 >/dev/null </dev/null || die "this command failed, mend it and run make again:
  $install"
