#!/usr/bin/env bash
# kernel.sh: Linux for the big-endian Malta, for which Debian has no kernel any more: Debian's linux-source with
# qemu/mips.config, no modules. Writes build/qemu/mips/vmlinuz.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/debian-source.sh
. scripts/debian-source.sh
# shellcheck source=scripts/debian-binary.sh
. scripts/debian-binary.sh
# shellcheck source=scripts/once.sh
. scripts/once.sh

out=$PWD/build/qemu/mips
once "$out/.kernel" qemu/kernel.sh qemu/mips.config
mkdir -p "$out" build/tmp build/log
work=$(mktemp -d "$PWD/build/tmp/kernel.XXXXXX")
trap 'rm -rf "$work"' EXIT
log=$PWD/build/log/kernel-mips.log

echo "qemu: mips: Linux from Debian's source (log: build/log/kernel-mips.log)"
debian_binaries mipsel "$work/debian" linux-source-6.1
# Kconfig and Makefiles are wanted everywhere, the largest parts of the source are not.
tar -xf "$work/debian"/usr/src/linux-source-6.1.tar.xz -C "$work" --exclude='*/Documentation/*.[a-z]*' \
  --exclude='*/drivers/gpu/*.[ch]' --exclude='*/sound/*.[ch]' --exclude='*/tools/testing/*'
tree=$(echo "$work"/linux-source-*)
{
  make -C "$tree" ARCH=mips CROSS_COMPILE=mips-linux-gnu- KCONFIG_ALLCONFIG="$PWD/qemu/mips.config" allnoconfig
  while read -r line; do
    case $line in
      CONFIG_*) grep -qx "$line" "$tree/.config" || { echo "mips.config: $line is not what the kernel took"; exit 1; } ;;
    esac
  done <qemu/mips.config
  make -C "$tree" ARCH=mips CROSS_COMPILE=mips-linux-gnu- -j"$(nproc)" vmlinux
} >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "the kernel failed; the whole log is $log"; }
mips-linux-gnu-strip -o "$out/vmlinuz.new" "$tree/vmlinux"
mv "$out/vmlinuz.new" "$out/vmlinuz"
finish
