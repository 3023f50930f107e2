#!/usr/bin/env bash
# micropython.sh [ARCH]: builds MicroPython with its ffi module from Debian's own source package into
# build/micropython/ARCH/micropython. ARCH is `native` (the default: this machine, its compiler and libraries) or one
# that scripts/cross.sh knows. For another CPU the root folder beside it holds what a router of that CPU would have, and
# `micropython` is a wrapper that runs it under qemu-user.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/debian-source.sh
. scripts/debian-source.sh
# shellcheck source=scripts/once.sh
. scripts/once.sh

arch=${1:-native}
out=$PWD/build/micropython/$arch
inputs=(scripts/micropython.sh scripts/debian-source.sh scripts/debian-sources.txt)
[ "$arch" = native ] || inputs+=("build/cross/$arch/.done")
once "$out/.done" "${inputs[@]}"

mkdir -p build/tmp build/log
work=$(mktemp -d "$PWD/build/tmp/micropython.XXXXXX")
trap 'rm -rf "$work"' EXIT
debian_source micropython "$work/src"

# Frozen as Debian does it: asyncio, mip and, through mip, requests.
options=(
  FROZEN_MANIFEST=../../debian/config/manifest.py STRIP=true SIZE=true
  MICROPY_SSL_AXTLS=0 MICROPY_SSL_MBEDTLS=1 MICROPY_PY_BTREE=0 MICROPY_PY_FFI=1 MICROPY_PY_JNI=0
)
if [ "$arch" != native ]; then
  cross=$PWD/build/cross/$arch
  # clang refuses to name x86's frame pointer in the collector's list of registers; setjmp saves them as well.
  registers=
  [ "$arch" != x86_64 ] || registers=-DMICROPY_GCREGS_SETJMP=1
  options+=(
    CC="$cross/bin/cc" CPP="$cross/bin/cc -E" AR="$cross/bin/ar" CROSS_COMPILE=
    CFLAGS_EXTRA="-I$cross/prefix/include -Wno-error $registers" LDFLAGS_EXTRA="-L$cross/prefix/lib -dynamic -s"
    LDFLAGS_ARCH='-Wl,--gc-sections'
  )
  export PKG_CONFIG_LIBDIR=$cross/prefix/lib/pkgconfig PKG_CONFIG_PATH=
fi

echo "micropython: building for $arch (log: build/log/micropython-$arch.log)"
log=$PWD/build/log/micropython-$arch.log
{ make -C "$work/src/mpy-cross" -j"$(nproc)" && make -C "$work/src/ports/unix" -j"$(nproc)" V=1 "${options[@]}"; } >"$log" 2>&1 ||
  { tail -n 20 "$log" >&2; die "the build failed; the whole log is $log"; }

mkdir -p "$out"
if [ "$arch" = native ]; then
  install -m 755 "$work/src/ports/unix/build-standard/micropython" "$out/micropython.new"
else
  rm -rf "$out/root"
  cp -a "$cross/root" "$out/root"
  mkdir -p "$out/root/usr/bin"
  install -m 755 "$work/src/ports/unix/build-standard/micropython" "$out/root/usr/bin/micropython"
  case $arch in armhf) qemu=arm ;; arm64) qemu=aarch64 ;; *) qemu=$arch ;; esac
  # shellcheck disable=SC2016
  printf '#!/bin/sh\nroot=$(dirname "$(readlink -f "$0")")/root\nexec qemu-%s -L "$root" -E LD_LIBRARY_PATH="$root/usr/lib" "$root/usr/bin/micropython" "$@"\n' "$qemu" >"$out/micropython.new"
  chmod 755 "$out/micropython.new"
fi
"$out/micropython.new" -c 'import ffi, uctypes, socket, asyncio, requests; assert ffi.open(None)' ||
  die "the built interpreter lacks a module that the router needs"
mv "$out/micropython.new" "$out/micropython"
finish
echo "micropython: $arch: $("$out/micropython" -c 'import sys; print(sys.version)')"
