#!/usr/bin/env bash
# peers.sh: brings Debian's packages of bench/debian-packages.txt, and what of their dependencies this machine lacks, to
# build/bench/root, unpacked and not installed: no daemon starts and the machine stays as it was.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/once.sh
. scripts/once.sh
once build/bench/.peers bench/peers.sh bench/debian-packages.txt

mapfile -t wanted < <(grep -v '^#' bench/debian-packages.txt)
debs=$PWD/build/bench/debs
rm -rf "$debs" build/bench/root
mkdir -p "$debs/partial" build/bench/root build/log
log=build/log/bench-peers.log
echo "bench: fetching ${wanted[*]}"
{ apt-get -q -o Acquire::Retries=3 update &&
  apt-get -q -y --no-install-recommends --download-only --reinstall -o "Dir::Cache::archives=$debs" \
    -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 install "${wanted[@]}"; } >"$log" 2>&1 </dev/null || {
  tail -n 20 "$log" >&2
  echo "bench: the packages could not be fetched; mend this machine's package sources or network (whole log: $log)" >&2
  exit 1
}
for deb in "$debs"/*.deb; do dpkg -x "$deb" build/bench/root; done
finish
