# shellcheck shell=bash
# debian-source.sh (sourced, from the repository's root): Debian source packages with an apt configuration of its own,
# so that neither root nor any change to the machine's package sources is needed.

# Builds of other projects must not inherit the options of our own make.
unset MAKEFLAGS MFLAGS MAKELEVEL

die() {
  echo "$(basename "$0" .sh): $*" >&2
  exit 1
}

# debian_mirror: prints the mirror that this machine's own apt sources use for Debian's main archive.
debian_mirror() {
  local codename mirror
  # shellcheck disable=SC1091
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  # shellcheck disable=SC2016
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v c="$codename" '$2 == c && $3 == "main" { print $1; exit }')
  [ -n "$mirror" ] || die "no apt source of this machine names Debian '$codename main' (looked in /etc/apt/sources.list and /etc/apt/sources.list.d)"
  echo "$mirror"
}

# debian_apt SUITE ARGUMENT...: apt-get that knows only SUITE's sources; keeps its lists in build/apt/SUITE.
debian_apt() {
  local suite=$1 apt=$PWD/build/apt/$1
  shift
  apt-get -q \
    -o "Dir::Etc::SourceList=$apt/sources.list" -o "Dir::Etc::SourceParts=$apt/parts" \
    -o "Dir::Etc::Preferences=$apt/none" -o "Dir::Etc::PreferencesParts=$apt/parts" \
    -o "Dir::State=$apt" -o "Dir::State::Lists=$apt/lists" -o "Dir::State::status=$apt/status" \
    -o "Dir::Cache=$apt" -o "Dir::Cache::archives=$apt/archives" -o "Dir::Log=$apt" \
    -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

# debian_source PACKAGE FOLDER: downloads the package that scripts/debian-sources.txt pins, verifies it (the archive's
# signature, then the pinned SHA-256 of the upstream tarball) and unpacks it with Debian's patches into FOLDER. A later
# Debian revision of the same upstream version is taken; another upstream version only with DEBIAN_SOURCE_ANY=1.
debian_source() {
  local package=$1 folder=$2 suite version sha256 tarball found apt log
  read -r _ suite version sha256 < <(grep "^$package " scripts/debian-sources.txt) || die "scripts/debian-sources.txt does not pin $package"
  apt=$PWD/build/apt/$suite
  log=$apt/$package.log
  mkdir -p "$apt"/{lists/partial,archives/partial,parts} "$folder.download"
  local mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  mirror=$(debian_mirror)
  [ -r "$keyring" ] || die "$keyring is missing: apt-get install debian-archive-keyring"
  : >"$apt/status"
  echo "deb-src [signed-by=$keyring] $mirror $suite main" >"$apt/sources.list"
  debian_apt "$suite" update >"$log" 2>&1 || { tail -n 5 "$log" >&2; die "apt-get update for Debian $suite failed; see $log"; }
  (d=$PWD && cd "$folder.download" && PWD=$d debian_apt "$suite" --download-only source "$package") >>"$log" 2>&1 ||
    { tail -n 5 "$log" >&2; die "apt-get source $package (Debian $suite) failed; see $log"; }
  tarball=$(find "$folder.download" -name "${package}_*.orig.tar.*" ! -name '*.asc')
  [ -f "$tarball" ] || die "Debian's source package of $package has not one .orig.tar: $(ls "$folder.download")"
  found=${tarball##*"/${package}_"}
  found=${found%.orig.tar.*}
  if [ "$(sha256sum <"$tarball" | cut -d' ' -f1)" != "$sha256" ]; then
    [ "$found" != "$version" ] ||
      die "the tarball of $package $version has another SHA-256 than scripts/debian-sources.txt pins: do not use this mirror"
    [ "${DEBIAN_SOURCE_ANY:-0}" = 1 ] || die "Debian $suite has $package $found, scripts/debian-sources.txt pins $version: \
build with DEBIAN_SOURCE_ANY=1, and if 'make test' then passes, move the pin"
    echo "warning: $package $found is not the pinned $version" >&2
  fi
  dpkg-source -x "$folder.download"/*.dsc "$folder" >>"$log" 2>&1 || die "dpkg-source could not unpack $package; see $log"
}
