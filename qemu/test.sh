#!/usr/bin/env bash
# test.sh [PYTEST-ARGUMENT...]: from a fresh clone to a router of either kind that has lived its life; says what took how long.
set -euo pipefail
cd "$(dirname "$0")/.."
began=$SECONDS
# step NAME COMMAND...
step() {
  local name=$1 start=$SECONDS
  shift
  "$@"
  echo "test-qemu: $name: $((SECONDS - start)) s"
}
# guest CPU FILE...: the tests in qemu/ on a guest
guest() {
  local cpu=$1
  shift
  GUEST_ARCH=$cpu build/venv/bin/python -m pytest "${@/#/qemu/}" "${arguments[@]}"
}
arguments=("$@")
step 'what make run needs' make setup ipk build/.debian-packages-guest
for cpu in mipsel x86_64; do
  step "MicroPython for $cpu" make micropython ARCH="$cpu"
  step "image for $cpu" qemu/build.sh "$cpu"
done
step 'tests on mipsel' guest mipsel test_guest.py test_package.py test_faults.py
step 'tests on x86_64' guest x86_64 test_package.py
echo "test-qemu: all: $((SECONDS - began)) s"
