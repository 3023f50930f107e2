#!/usr/bin/env bash
# build.sh ARCH: a guest that stands for a router of that CPU. Writes to build/qemu/ARCH:
#   vmlinuz       Debian's kernel (mips: qemu/kernel.sh)
#   initrd        busybox, and the musl, MicroPython and minimal libsodium of build/micropython/ARCH/root, all in RAM
#   rom, boot     the same laid out as OpenWrt is: a squashfs, under an overlay in RAM or on a disk, which `boot` mounts;
#                 with tc, ip and nft (Debian's) and the stand-ins of qemu/standin
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
case $arch in
  mipsel) deb=mipsel flavour=4kc-malta packages=mipsel_24kc ;;
  armhf) deb=armhf flavour=armmp packages=arm_cortex-a7_neon-vfpv4 ;;
  arm64) deb=arm64 flavour=cloud-arm64 packages=aarch64_cortex-a53 ;;
  x86_64) deb=amd64 flavour=cloud-amd64 packages=x86_64 ;;
  mips) deb='' flavour='' packages=mips_24kc ;;
  *) die "no guest for '$arch'; there are mipsel, mips, armhf, arm64 and x86_64" ;;
esac
[ -x "$root/usr/bin/micropython" ] || die "no MicroPython for $arch: run make micropython ARCH=$arch"
if [ "$arch" = mips ]; then qemu/kernel.sh; fi
qemu/busybox.sh "$arch"
mapfile -t standins < <(find qemu/standin tests/package/standin -type f | LC_ALL=C sort)
once "$out/.done" qemu/build.sh qemu/init qemu/boot qemu/control "${standins[@]}" scripts/debian-source.sh scripts/debian-binary.sh \
  "build/micropython/$arch/.done" "$out/.busybox"
mkdir -p "$out" build/tmp
work=$(mktemp -d "$PWD/build/tmp/qemu.XXXXXX")
trap 'rm -rf "$work"' EXIT

# iproute2 and nftables with the libraries that they name.
tools=(iproute2 libbpf1 libelf1 zlib1g libmnl0 libcap2 libbsd0 libmd0 libc6 libgcc-s1 libxtables12 nftables libnftables1
  libnftnl11 libjansson4 libgmp10 libedit2 libtinfo6)
if [ -n "$deb" ] && [ "$(cat "$out/debian/.packages" 2>/dev/null)" != "$flavour ${tools[*]}" ]; then
  echo "qemu: $arch: Debian's kernel, iproute2 and nftables"
  debian_binaries "$deb" "$work/debian" "linux-image-$flavour" "${tools[@]}"
  depmod -b "$work/debian" "$(basename "$work"/debian/lib/modules/*)"
  echo "$flavour ${tools[*]}" >"$work/debian/.packages"
  rm -rf "$out/debian"
  mv "$work/debian" "$out/debian"
fi

# crc32c_generic: nf_tables and ext4 need it, and modules.dep does not say so.
modules=(crc32c_generic virtio_pci virtio_mmio virtio_net virtio_blk virtio_console virtio_rng e1000 pcnet32 tun veth
  sch_htb sch_fq_codel sch_cake sch_netem sch_tbf sch_ingress ifb cls_u32 cls_fw cls_matchall act_mirred
  nf_tables nft_ct nft_nat nft_masq nft_chain_nat nft_reject_inet nft_limit nft_fib_inet squashfs overlay ext4)

# install_modules ROOT MODULE...: with what they need
install_modules() {
  local root=$1 version module file
  shift
  version=$(basename "$out"/debian/lib/modules/*)
  mkdir -p "$root/lib/modules/$version"
  for module; do
    modprobe -d "$out/debian" -S "$version" --show-depends "$module" 2>/dev/null || true # built in, or not for this CPU
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
    file=${file#*"/$version/"}
    install -D -m 644 "$out/debian/lib/modules/$version/$file" "$root/lib/modules/$version/$file"
    echo "/lib/modules/$version/$file"
  done >"$work/order"
  cp "$out/debian/lib/modules/$version/"modules.{builtin,builtin.modinfo,order} "$root/lib/modules/$version/"
  depmod -b "$root" "$version"
}

# libraries FILE...: copies what the binaries in $work/rom need from Debian's packages
libraries() {
  local file name found
  for file; do
    # The loader is named by its path, which on x86_64 is a link in a folder of its own.
    name=$(readelf -l "$file" | sed -n 's/.*interpreter: \/\(.*\)\]/\1/p')
    if [ -n "$name" ] && [ ! -e "$work/rom/$name" ]; then
      install -D -m 755 "$out/debian/lib/"*/"${name##*/}" "$work/rom/$name"
    fi
    for name in $(readelf -d "$file" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p'); do
      [ ! -e "$work/have/$name" ] || continue
      found=$(cd "$out/debian" && find lib usr/lib lib64 ! -type d -name "$name" 2>/dev/null | head -n 1 || true)
      [ -n "$found" ] || die "$arch: no package brings $name, which $(basename "$file") needs"
      : >"$work/have/$name"
      install -D -m 755 "$(readlink -f "$out/debian/$found")" "$work/rom/$found"
      libraries "$work/rom/$found"
    done
  done
}

pack() { (cd "$1" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) | gzip -n >"$2"; }

echo "qemu: $arch: images"
cp -a "$root" "$work/root"
mkdir -p "$work"/{have,root/{bin,sbin,etc,dev,proc,sys,tmp,run,root,srv,usr/sbin}}
install -m 755 "$out/busybox" "$work/root/bin/busybox"
while read -r link; do
  mkdir -p "$work/root$(dirname "$link")"
  ln -sf /bin/busybox "$work/root$link"
done <"$out/busybox.links"
install -m 755 qemu/init "$work/root/init"
cp qemu/control "$work/root/etc/control"
printf 'root::0:0:root:/root:/bin/sh\nnobody:*:65534:65534:nobody:/var:/bin/false\n' >"$work/root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$work/root/etc/group"
echo '127.0.0.1 localhost' >"$work/root/etc/hosts"
: >"$work/root/etc/modules"
if [ -n "$deb" ]; then
  install_modules "$work/root" "${modules[@]}"
  printf '%s\n' "${modules[@]}" >"$work/root/etc/modules"
  cp "$out"/debian/boot/vmlinuz-* "$out/vmlinuz.new" && mv "$out/vmlinuz.new" "$out/vmlinuz"
fi

cp -a "$work/root" "$work/rom"
mkdir -p "$work"/rom/{rom,overlay,lib/functions,usr/lib/opkg/info,etc/rc.d,etc/init.d,etc/config}
ln -s /tmp "$work/rom/var"
if [ -n "$deb" ]; then
  for file in sbin/tc bin/ip usr/sbin/nft; do
    rm -f "$work/rom/$file"
    install -D -m 755 "$out/debian/$file" "$work/rom/$file"
    libraries "$work/rom/$file"
  done
  ln -sf ../bin/ip "$work/rom/sbin/ip"
fi
cp -a qemu/standin/. "$work/rom/"
mkdir -p "$work/rom/usr/share/libubox"
cp tests/package/standin/functions.sh "$work/rom/lib/functions/standin.sh"
cp tests/package/standin/network.sh "$work/rom/lib/functions/network.sh"
cp tests/package/standin/jshn.sh "$work/rom/usr/share/libubox/jshn.sh"
install -m 755 tests/package/standin/validate_data "$work/rom/sbin/validate_data"
printf 'arch all 1\narch noarch 1\narch %s 10\n' "$packages" >"$work/rom/etc/opkg.conf"
# What is in the image, as packages that others may depend on.
for package in libc busybox micropython-mbedtls libsodium kmod-tun; do
  printf 'Package: %s\nVersion: 1\nStatus: install ok installed\nArchitecture: %s\n\n' "$package" "$packages"
done >"$work/rom/usr/lib/opkg/status"

mkdir -p "$work"/early/{bin,dev,proc,rom,new,disk}
install -m 755 "$out/busybox" "$work/early/bin/busybox"
install -m 755 qemu/boot "$work/early/init"
: >"$work/early/order"
if [ -n "$deb" ]; then
  install_modules "$work/early" crc32c_generic virtio_pci virtio_mmio virtio_blk squashfs overlay ext4
  cp "$work/order" "$work/early/order"
fi

pack "$work/root" "$work/initrd"
pack "$work/early" "$work/boot"
mksquashfs "$work/rom" "$work/rom.squashfs" -comp xz -b 256K -noappend -quiet -no-progress -all-root
# By rename: a guest that runs keeps the image that it was started from.
mv "$work/rom.squashfs" "$out/rom"
mv "$work/initrd" "$work/boot" "$out/"
finish
echo "qemu: $arch: initrd $(stat -c %s "$out/initrd") bytes, rom $(stat -c %s "$out/rom"), boot $(stat -c %s "$out/boot")"
