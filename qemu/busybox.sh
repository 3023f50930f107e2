#!/usr/bin/env bash
# busybox.sh ARCH: a router's busybox, static, from Debian's source: build/qemu/ARCH/{busybox,busybox.links}. Debian's own
# binary prefers its applets to what is installed, so that `tc` and `ip` would be its toys; OpenWrt's does not, nor this.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/debian-source.sh
. scripts/debian-source.sh
# shellcheck source=scripts/once.sh
. scripts/once.sh

arch=${1:?busybox.sh ARCH}
out=$PWD/build/qemu/$arch
cross=$PWD/build/cross/$arch
once "$out/.busybox" qemu/busybox.sh scripts/debian-source.sh scripts/debian-sources.txt "$cross/.done"
mkdir -p "$out" build/tmp build/log
work=$(mktemp -d "$PWD/build/tmp/busybox.XXXXXX")
trap 'rm -rf "$work"' EXIT
log=$PWD/build/log/busybox-$arch.log

echo "qemu: $arch: busybox (log: build/log/busybox-$arch.log)"
debian_source busybox "$work/src"
off=(TC FEATURE_PREFER_APPLETS FEATURE_SH_STANDALONE SHA1_HWACCEL SHA256_HWACCEL)
[ "$arch" = mips ] || off+=(IP IPADDR IPLINK IPROUTE IPTUNNEL IPRULE IPNEIGH) # iproute2 is there
# zig's linker refuses one option of busybox's link script.
cat >"$work/cc" <<CC
#!/bin/bash
args=()
for a; do [ "\$a" = -Wl,--verbose ] || args+=("\$a"); done
exec "$cross/bin/cc" "\${args[@]}"
CC
chmod +x "$work/cc"
# BB_GLOBAL_CONST: busybox writes to its one `const` pointer, which clang takes at its word (on ARM awk then dies).
{
  make -C "$work/src" defconfig
  for option in "${off[@]}"; do sed -i "s/^CONFIG_$option=y/# CONFIG_$option is not set/" "$work/src/.config"; done
  sed -i 's/^# CONFIG_STATIC is not set/CONFIG_STATIC=y/' "$work/src/.config"
  yes '' | make -C "$work/src" oldconfig || true
  make -C "$work/src" -j"$(nproc)" CC="$work/cc" AR="$cross/bin/ar" HOSTCC=gcc SKIP_STRIP=y \
    CONFIG_EXTRA_CFLAGS='-DBB_GLOBAL_CONST= -w -Wno-error=incompatible-pointer-types -s' busybox busybox.links
} >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "busybox failed for $arch; the whole log is $log"; }
install -m 755 "$work/src/busybox" "$out/busybox"
cp "$work/src/busybox.links" "$out/busybox.links"
finish
