# shellcheck shell=bash
# debian-binary.sh (sourced after debian-source.sh): Debian 12's binary packages of another CPU, by the same private apt.

# debian_binaries ARCH FOLDER PACKAGE...: downloads the packages for a Debian architecture, without what they depend on, and
# unpacks them into FOLDER. A metapackage linux-image-FLAVOUR stands for the kernel that it depends on.
debian_binaries() {
  local arch=$1 folder=$2 suite=bookworm-$1 package root=$PWD apt=$PWD/build/apt/bookworm-$1 log
  shift 2
  log=$apt/binaries.log
  mkdir -p "$apt"/{lists/partial,archives/partial,parts} "$folder.download"
  : >"$apt/status"
  echo "deb [arch=$arch signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(debian_mirror) bookworm main" >"$apt/sources.list"
  local options=(-o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o APT::Install-Recommends=false)
  debian_apt "$suite" "${options[@]}" update >"$log" 2>&1 || { tail -n 5 "$log" >&2; die "apt-get update for $arch failed; see $log"; }
  for package; do
    case $package in
      linux-image-*)
        package=$(debian_apt "$suite" "${options[@]}" --simulate install "$package" 2>>"$log" | sed -n 's/^Inst \(linux-image-[0-9][0-9]*\.[^ ]*\).*/\1/p')
        [ -n "$package" ] || die "no kernel for $arch to be had; see $log"
        ;;
    esac
    (cd "$folder.download" && PWD=$root && debian_apt "$suite" "${options[@]}" download "$package:$arch") >>"$log" 2>&1 ||
      { tail -n 5 "$log" >&2; die "download of $package for $arch failed; see $log"; }
  done
  for package in "$folder.download"/*.deb; do dpkg-deb -x "$package" "$folder"; done
}
