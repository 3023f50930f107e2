#!/usr/bin/env bash
# micropython.sh [ARCH]: builds MicroPython with its ffi module from Debian's own source package into
# build/micropython/ARCH/micropython. ARCH is a Debian architecture name; the default is this machine's, which
# build/micropython/native points to.
#
# The upstream tarball is pinned by its SHA-256. A later Debian revision of the same upstream version is taken (the
# archive's signature vouches for it); another upstream version is refused unless MICROPYTHON_ANY=1.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/debian-source.sh
. scripts/debian-source.sh
# shellcheck source=scripts/once.sh
. scripts/once.sh

version=1.25.0+ds
sha256=7b25be99a502f070b2de81dafc08da7051d992325d6e67daa9045a918fffdbea
suite=trixie

native=$(dpkg --print-architecture)
arch=${1:-$native}
out=$PWD/build/micropython/$arch
once "$out/.done" scripts/micropython.sh scripts/debian-source.sh
[ "$arch" = "$native" ] || die "no compiler for '$arch' is set up; this machine builds '$native'"

mkdir -p build/tmp
work=$(mktemp -d "$PWD/build/tmp/micropython.XXXXXX")
trap 'rm -rf "$work"' EXIT

debian_source micropython "$suite" "$work/download"
tarball=$(find "$work/download" -name 'micropython_*.orig.tar.*' ! -name '*.asc' | head -n 1)
[ -n "$tarball" ] || die "the Debian mirror's source package of micropython has no .orig.tar: $(ls "$work/download")"
found=$(basename "$tarball" | sed 's/^micropython_\(.*\)\.orig\.tar\..*$/\1/')
if [ "$(sha256sum <"$tarball" | cut -d' ' -f1)" != "$sha256" ]; then
  if [ "$found" = "$version" ]; then
    die "the tarball of micropython $version has another SHA-256 than scripts/micropython.sh pins: do not use this mirror"
  elif [ "${MICROPYTHON_ANY:-0}" != 1 ]; then
    die "Debian $suite has micropython $found, scripts/micropython.sh pins $version: build it with MICROPYTHON_ANY=1 \
if 'make test' then passes, and move the pin"
  fi
  echo "micropython: warning: building unpinned $found in place of $version" >&2
fi

echo "micropython: building $found for $arch (log: build/log/micropython-$arch.log)"
mkdir -p build/log
log=$PWD/build/log/micropython-$arch.log
build() {
  local jobs
  jobs=$(nproc)
  dpkg-source -x "$work"/download/*.dsc "$work/src"
  make -C "$work/src/mpy-cross" -j"$jobs"
  make -C "$work/src/ports/unix" -j"$jobs" STRIP=true \
    FROZEN_MANIFEST=../../debian/config/manifest.py \
    MICROPY_SSL_AXTLS=0 MICROPY_SSL_MBEDTLS=1 MICROPY_PY_BTREE=0 MICROPY_PY_FFI=1 MICROPY_PY_JNI=0
}
build >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "the build failed; the whole log is $log"; }

binary=$work/src/ports/unix/build-standard/micropython
"$binary" -c 'import ffi, uctypes, socket, asyncio, requests; assert ffi.open(None)' ||
  die "the built interpreter lacks a module that the router needs"
mkdir -p "$out"
install -m 755 "$binary" "$out/micropython.new"
mv "$out/micropython.new" "$out/micropython"
[ "$arch" != "$native" ] || ln -sfn "$arch" build/micropython/native
finish
echo "micropython: $("$out/micropython" -c 'import sys; print(sys.version)')"
