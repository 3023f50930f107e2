# shellcheck shell=bash
# debian-source.sh (sourced): downloads Debian source packages with an apt configuration of its own, so that neither
# root nor any change to the machine's package sources is needed.

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

# debian_source PACKAGE SUITE FOLDER: downloads and verifies (archive signature, hashes) the newest source package.
debian_source() {
  local package=$1 suite=$2 folder=$3 mirror apt=$PWD/build/apt-$2 keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  mirror=$(debian_mirror)
  [ -r "$keyring" ] || die "$keyring is missing: apt-get install debian-archive-keyring"
  mkdir -p "$apt"/{lists/partial,archives/partial,parts} "$folder"
  : >"$apt/status"
  echo "deb-src [signed-by=$keyring] $mirror $suite main" >"$apt/sources.list"
  local options=(
    -o "Dir::Etc::SourceList=$apt/sources.list" -o "Dir::Etc::SourceParts=$apt/parts"
    -o "Dir::Etc::PreferencesParts=$apt/parts" -o "Dir::Etc::Preferences=$apt/none"
    -o "Dir::State=$apt" -o "Dir::State::Lists=$apt/lists" -o "Dir::State::status=$apt/status"
    -o "Dir::Cache=$apt" -o "Dir::Cache::archives=$apt/archives" -o "Dir::Log=$apt"
    -o "APT::Sandbox::User=" -o "Acquire::Languages=none" -o "Acquire::Retries=3"
  )
  local log=$apt/$package.log
  apt-get "${options[@]}" -q update >"$log" 2>&1 || { tail -n 5 "$log" >&2; die "apt-get update for Debian $suite sources failed; see $log"; }
  (cd "$folder" && apt-get "${options[@]}" -q --download-only source "$package") >>"$log" 2>&1 ||
    { tail -n 5 "$log" >&2; die "apt-get source $package (Debian $suite) failed; see $log"; }
}
