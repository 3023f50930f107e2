#!/usr/bin/env bash
# cross.sh ARCH: what a router of another CPU brings, built from Debian's source packages into build/cross/ARCH:
# bin/cc, ar, ranlib (zig for a musl target; Debian's musl-gcc for x86_64 where this machine is one: six times as fast), root/lib (musl's loader), root/usr/lib (libsodium, --enable-minimal as
# OpenWrt builds it) and prefix/ (headers and static libraries of libffi and mbedtls for MicroPython).
# MIPS is soft float and the loaders are musl's: OpenWrt's own ABI.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/debian-source.sh
. scripts/debian-source.sh
# shellcheck source=scripts/once.sh
. scripts/once.sh

arch=${1:-}
case $arch in
  mipsel) zig_target=mipsel-linux-musleabi host=mipsel-linux-musl loader=ld-musl-mipsel-sf.so.1 ;;
  mips) zig_target=mips-linux-musleabi host=mips-linux-musl loader=ld-musl-mips-sf.so.1 ;;
  armhf) zig_target=arm-linux-musleabihf host=arm-linux-musleabihf loader=ld-musl-armhf.so.1 ;;
  arm64) zig_target=aarch64-linux-musl host=aarch64-linux-musl loader=ld-musl-aarch64.so.1 ;;
  x86_64) zig_target=x86_64-linux-musl host=x86_64-linux-musl loader=ld-musl-x86_64.so.1 ;;
  *) die "no cross build for '$arch'; there are mipsel, mips, armhf, arm64 and x86_64" ;;
esac
cross=$PWD/build/cross/$arch
once "$cross/.done" scripts/cross.sh scripts/debian-source.sh scripts/debian-sources.txt scripts/unhide.py requirements-cross.txt

rm -rf "$cross"
mkdir -p "$cross"/{bin,src,prefix,root/lib,root/usr/lib} build/log
log=$PWD/build/log/cross-$arch.log
: >"$log"
step() {
  local what=$1
  shift
  echo "cross: $arch: $what"
  "$@" >>"$log" 2>&1 </dev/null || { tail -n 20 "$log" >&2; die "$what failed for $arch; the whole log is $log"; }
}

own_cpu=
[ "$arch" != x86_64 ] || [ "$(uname -m)" != x86_64 ] || own_cpu=1

# own_compiler: musl's headers and libraries first, the kernel's headers from this machine
own_compiler() {
  cat >"$cross/bin/cc" <<'CC'
#!/bin/bash
args=()
for a; do [ "$a" = -dynamic ] || args+=("$a"); done
exec musl-gcc -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu "${args[@]}"
CC
  for tool in ar ranlib; do ln -s "$(command -v "$tool")" "$cross/bin/$tool"; done
  chmod +x "$cross/bin/cc"
  "$cross/bin/cc" --version
}
own_musl() {
  install -m 755 /usr/lib/x86_64-linux-musl/libc.so "$cross/root/lib/libc.so"
  ln -s libc.so "$cross/root/lib/$loader"
}

zig=$PWD/build/cross/venv/lib/zig
compiler() {
  [ -x build/cross/venv/bin/pip ] || build/venv/bin/python -m venv build/cross/venv
  build/cross/venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-cross.txt
  ln -sfn "$(build/cross/venv/bin/python -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__))')" "$zig"
  # GNU ld options that zig's linker refuses are dropped. With several inputs, or standard input, zig's -E loses the
  # target's headers.
  cat >"$cross/bin/cc" <<CC
#!/bin/bash
export ZIG_GLOBAL_CACHE_DIR=$PWD/build/cross/cache ZIG_LOCAL_CACHE_DIR=$PWD/build/cross/cache
args=() inputs=() preprocess=
for a; do
  case \$a in
    -Wl,--warn-common | -Wl,-Map* | -Wl,--cref | -Wl,--sort-section* | -finline-limit=* | -static-libgcc | -falign-*) ;;
    -E) preprocess=1 args+=("\$a") ;;
    *.c) inputs+=("\$a") ;;
    -) t=\$(mktemp --suffix=.c) && trap 'rm -f "\$t"' EXIT && cat >"\$t" && preprocess=1 && inputs+=("\$t") ;;
    *) args+=("\$a") ;;
  esac
done
if [ -n "\$preprocess" ]; then
  for i in "\${inputs[@]}"; do "$zig/zig" cc -target $zig_target "\${args[@]}" "\$i" || exit; done
else
  exec "$zig/zig" cc -target $zig_target "\${args[@]}" "\${inputs[@]}"
fi
CC
  for tool in ar ranlib; do
    printf '#!/bin/sh\nexec "%s/zig" %s "$@"\n' "$zig" "$tool" >"$cross/bin/$tool"
  done
  chmod +x "$cross"/bin/*
  "$cross/bin/cc" --version
}

sources() {
  for package in libffi libsodium mbedtls musl; do debian_source "$package" "$cross/src/$package"; done
}

repository=$PWD
jobs=$(nproc)
tools=(CC="$cross/bin/cc" AR="$cross/bin/ar" RANLIB="$cross/bin/ranlib")

# musl's own libc.so is the loader. Its compiler-rt must be position independent: zig builds one for a shared object.
musl() {
  cd "$cross/src/musl"
  mkdir -p rt
  echo 'double f(long long a, long long b) { return (double)(a / b); }' >rt/f.c
  ZIG_LOCAL_CACHE_DIR=$PWD/rt/cache ZIG_GLOBAL_CACHE_DIR=$PWD/rt/cache "$zig/zig" cc -target "$zig_target" -shared -fPIC -Os -o rt/f.so rt/f.c
  cp "$(find rt/cache -name libcompiler_rt.a | head -n 1)" rt/libcompiler_rt.a
  python3 "$repository/scripts/unhide.py" rt/libcompiler_rt.a memcpy memmove memset memcmp bcmp strlen
  env "${tools[@]}" CFLAGS=-Os LDFLAGS=-s LIBCC="$PWD/rt/libcompiler_rt.a" \
    ./configure --target="$host" --prefix="$PWD/install" --syslibdir="$PWD/install" --disable-wrapper
  make -j"$jobs" lib/libc.so
  nm -D lib/libc.so | grep -w memmove
  install -m 755 lib/libc.so "$cross/root/lib/libc.so"
  ln -s libc.so "$cross/root/lib/$loader"
}
libffi() {
  cd "$cross/src/libffi"
  ./configure --host="$host" --prefix="$cross/prefix" --disable-shared --enable-static --disable-docs --disable-exec-static-tramp "${tools[@]}" CFLAGS='-Os -fPIC'
  make -j"$jobs" install
}
mbedtls() {
  cd "$cross/src/mbedtls"
  make -j"$jobs" -C library static "${tools[@]}" CFLAGS='-Os -ffunction-sections -fdata-sections'
  mkdir -p "$cross/prefix/lib" "$cross/prefix/include"
  cp library/*.a "$cross/prefix/lib/"
  cp -r include/mbedtls include/psa "$cross/prefix/include/"
}
libsodium() {
  cd "$cross/src/libsodium"
  autoreconf -fi
  ./configure --host="$host" --prefix="$cross/prefix" --enable-minimal --enable-shared --disable-static --disable-ssp "${tools[@]}" CFLAGS=-Os LDFLAGS=-s
  make -j"$jobs" install
  cp -P "$cross"/prefix/lib/libsodium.so.* "$cross/root/usr/lib/"
}

if [ -n "$own_cpu" ]; then
  step compiler own_compiler
  step musl own_musl
else
  step compiler compiler
fi
step sources sources
parts=(libffi mbedtls libsodium)
[ -n "$own_cpu" ] || parts=(musl "${parts[@]}")
for part in "${parts[@]}"; do
  # shellcheck disable=SC2016
  step "$part" bash -euo pipefail -c "$(declare -f "$part"); $(declare -p repository tools jobs cross zig zig_target host loader); $part"
done
rm -rf "$cross/src"
finish
