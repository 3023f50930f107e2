#!/usr/bin/env bash
# modem.sh: an x86_64 guest that only forwards packets, for qdiscs that this machine's kernel may lack: Debian's cloud
# kernel, its static busybox and its `tc` with the libraries that it needs. Writes build/qemu/modem/{vmlinuz,initrd}.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/debian-source.sh
. scripts/debian-source.sh
# shellcheck source=scripts/debian-binary.sh
. scripts/debian-binary.sh
# shellcheck source=scripts/once.sh
. scripts/once.sh

out=$PWD/build/qemu/modem
once "$out/.done" qemu/modem.sh qemu/init qemu/control scripts/debian-source.sh scripts/debian-binary.sh
mkdir -p "$out" build/tmp
work=$(mktemp -d "$PWD/build/tmp/modem.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "modem: Debian's kernel, busybox and tc"
debian_binaries amd64 "$work/debian" linux-image-cloud-amd64 busybox-static iproute2 libc6 libelf1 libbsd0 libmd0 \
  libcap2 zlib1g libmnl0 libxtables12 libbpf1 libdb5.3 libselinux1 libpcre2-8-0
mkdir -p "$work/root"/{bin,sbin,etc,dev,proc,sys,tmp,run,root,lib64,usr/lib}
cp "$work/debian/bin/busybox" "$work/root/bin/busybox"
# A shell that runs its applets without links needs /proc, which is not there yet; `tc` and `ip` are not busybox's.
"$work/root/bin/busybox" --list | grep -vxE 'busybox|tc|ip' | while read -r applet; do
  ln -s busybox "$work/root/bin/$applet"
done
for folder in lib/x86_64-linux-gnu usr/lib/x86_64-linux-gnu; do
  mkdir -p "$work/root/$folder"
  find "$work/debian/$folder" -maxdepth 1 -name '*.so*' -exec cp -a {} "$work/root/$folder/" \;
done
cp -aL "$work/debian/lib64/ld-linux-x86-64.so.2" "$work/root/lib64/"
mkdir -p "$work/root/opt"
cp "$work/debian/sbin/tc" "$work/root/opt/tc"
install -m 755 qemu/init "$work/root/init"
cp qemu/control "$work/root/etc/control"
version=$(basename "$work"/debian/lib/modules/*)
modules=(virtio_pci virtio_net virtio_rng sch_cake sch_htb sch_fq_codel sch_netem cls_u32 bridge)
depmod -b "$work/debian" "$version"
for module in "${modules[@]}"; do
  modprobe -d "$work/debian" -S "$version" --show-depends "$module" 2>/dev/null || true
done | awk '$1 == "insmod" { print $2 }' | sort -u | while read -r file; do
  install -D -m 644 "$file" "$work/root/lib/modules/$version/${file#*"/$version/"}"
done
cp "$work/debian/lib/modules/$version/"modules.{builtin,builtin.modinfo,order} "$work/root/lib/modules/$version/"
depmod -b "$work/root" "$version"
printf '%s\n' "${modules[@]}" >"$work/root/etc/modules"
(cd "$work/root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) | gzip -n >"$out/initrd"
cp "$work"/debian/boot/vmlinuz-* "$out/vmlinuz"
finish
echo "modem: kernel $version, initrd $(stat -c %s "$out/initrd") bytes"
