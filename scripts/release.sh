#!/usr/bin/env bash
# release.sh SECRET_KEY [OUT]: packages, SBOM, SHA256SUMS and its signature, from a clean commit; the packages are built twice and must
# be the same. SECRET_KEY is signify's (`scripts/usign.py keygen PUBLIC SECRET`); OUT is dist/release. RELEASE_DIRTY=1 allows changed files.
set -euo pipefail
cd "$(dirname "$0")/.."
die() {
  echo "release: $*" >&2
  exit 1
}
[ $# -ge 1 ] || die "name the secret key: scripts/release.sh SECRET_KEY [OUT]; scripts/usign.py keygen makes one"
key=$(realpath "$1") out=${2:-dist/release} python=build/venv/bin/python
[ -r "$key" ] || die "$1: there is no such key"
[ -n "${RELEASE_DIRTY:-}" ] || [ -z "$(git status --porcelain)" ] || die 'files differ from the commit: commit or put them aside'
[ -x "$python" ] || die 'nothing is set up: run make setup'

rm -rf "$out"
mkdir -p "$out"
make -s ipk
again=$(mktemp -d)
trap 'rm -rf "$again"' EXIT
"$python" package/build --out "$again" >/dev/null
"$python" package/build --out "$out" >/dev/null
diff -r "$again" "$out" >/dev/null || die 'two builds of the same commit differ'
"$python" scripts/sbom.py --out "$out/bwrouter.cdx.json"
git rev-parse HEAD >"$out/COMMIT"
(cd "$out" && find . -type f ! -name 'SHA256SUMS*' -printf '%P\n' | LC_ALL=C sort | xargs sha256sum >SHA256SUMS)
"$python" scripts/usign.py sign "$key" "$out/SHA256SUMS"
echo "release: $(wc -l <"$out/SHA256SUMS") files in $out, signed"
