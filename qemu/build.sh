#!/usr/bin/env bash
# build.sh ARCH: a guest that stands for a router of that CPU: Debian's kernel and an initrd with Debian's
# static busybox and the musl, MicroPython and minimal libsodium of build/micropython/ARCH/root. Writes build/qemu/ARCH/{vmlinuz,initrd}.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/debian-source.sh
. scripts/debian-source.sh
# shellcheck source=scripts/debian-binary.sh
. scripts/debian-binary.sh
# shellcheck source=scripts/once.sh
. scripts/once.sh

arch=${1:?build.sh ARCH}
out=$PWD/build/qemu/$arch
root=$PWD/build/micropython/$arch/root
[ -x "$root/usr/bin/micropython" ] || die "no MicroPython for $arch: run make micropython ARCH=$arch"
once "$out/.done" qemu/build.sh qemu/init qemu/control scripts/debian-source.sh scripts/debian-binary.sh \
  "build/micropython/$arch/.done"
mkdir -p "$out" build/tmp
work=$(mktemp -d "$PWD/build/tmp/qemu.XXXXXX")
trap 'rm -rf "$work"' EXIT

case $arch in
  mipsel) deb=mipsel flavour=4kc-malta ;;
  armhf) deb=armhf flavour=armmp ;;
  arm64) deb=arm64 flavour=cloud-arm64 ;;
  x86_64) deb=amd64 flavour=cloud-amd64 ;;
  *) die "no guest for '$arch' yet; there are mipsel, armhf, arm64 and x86_64" ;;
esac
if [ ! -d "$out/debian/boot" ]; then
  echo "qemu: $arch: Debian's kernel and busybox"
  debian_binaries "$deb" "$work/debian" "linux-image-$flavour" busybox-static
  rm -rf "$out/debian"
  mv "$work/debian" "$out/debian"
fi

echo "qemu: $arch: initrd"
cp -a "$root" "$work/root"
mkdir -p "$work/root"/{bin,etc,dev,proc,sys}
cp "$out/debian/bin/busybox" "$work/root/bin/busybox"
ln -s busybox "$work/root/bin/sh"
install -m 755 qemu/init "$work/root/init"
cp qemu/control "$work/root/etc/control"
echo 'root::0:0:root:/root:/bin/sh' >"$work/root/etc/passwd"
echo '127.0.0.1 localhost' >"$work/root/etc/hosts"

version=$(basename "$out"/debian/lib/modules/*)
# crc32c_generic: nf_tables needs it, and modules.dep does not say so.
modules=(crc32c_generic virtio_pci virtio_mmio virtio_net virtio_blk virtio_console virtio_rng e1000 pcnet32 tun veth
  sch_htb sch_fq_codel sch_cake sch_netem sch_tbf sch_ingress ifb cls_u32 cls_fw cls_matchall act_mirred
  nf_tables nft_ct nft_nat nft_masq nft_chain_nat nft_reject_inet nft_limit nft_fib_inet squashfs overlay)
depmod -b "$out/debian" "$version"
for module in "${modules[@]}"; do
  modprobe -d "$out/debian" -S "$version" --show-depends "$module" 2>/dev/null || true
done | awk '$1 == "insmod" { print $2 }' | sort -u | while read -r file; do
  install -D -m 644 "$file" "$work/root/lib/modules/$version/${file#*"/$version/"}"
done
cp "$out/debian/lib/modules/$version/"modules.{builtin,builtin.modinfo,order} "$work/root/lib/modules/$version/"
depmod -b "$work/root" "$version"
printf '%s\n' "${modules[@]}" >"$work/root/etc/modules"
(cd "$work/root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) | gzip -n >"$out/initrd"
cp "$out"/debian/boot/vmlinuz-* "$out/vmlinuz"
finish
echo "qemu: $arch: kernel $version, initrd $(stat -c %s "$out/initrd") bytes"
