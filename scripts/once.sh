# shellcheck shell=bash
# once.sh (sourced): a step whose inputs are byte for byte those of its last success is not done again, even where git
# has touched the files' times.

# once STAMP INPUT...: exits the script if STAMP holds the digest of the inputs; else defines `finish`, which writes it.
once() {
  stamp=$1
  shift
  digest=$(cat -- "$@" | sha256sum)
  if [ "$(cat "$stamp" 2>/dev/null)" = "$digest" ]; then
    touch "$stamp"
    exit 0
  fi
  rm -f "$stamp"
}
finish() {
  mkdir -p "$(dirname "$stamp")"
  echo "$digest" >"$stamp"
}
