#!/usr/bin/env bash
# mpy-cross.sh: builds MicroPython's cross compiler from the same pinned Debian source as the interpreter, into
# build/mpy-cross/mpy-cross. Its format (6) is the one that every interpreter from 1.23 on reads, on any CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/debian-source.sh
. scripts/debian-source.sh
# shellcheck source=scripts/once.sh
. scripts/once.sh

out=$PWD/build/mpy-cross
once "$out/.done" scripts/mpy-cross.sh scripts/debian-source.sh scripts/debian-sources.txt
mkdir -p "$out" build/tmp build/log
work=$(mktemp -d "$PWD/build/tmp/mpy-cross.XXXXXX")
trap 'rm -rf "$work"' EXIT
debian_source micropython "$work/src"
echo 'mpy-cross: building (log: build/log/mpy-cross.log)'
log=$PWD/build/log/mpy-cross.log
make -C "$work/src/mpy-cross" -j"$(nproc)" >"$log" 2>&1 ||
  { tail -n 20 "$log" >&2; die "the build failed; the whole log is $log"; }
install -m 755 "$work/src/mpy-cross/build/mpy-cross" "$out/mpy-cross"
finish
"$out/mpy-cross" --version
