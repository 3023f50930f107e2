#!/usr/bin/env bash
# test.sh [PYTEST-ARGUMENT...]: from a fresh clone to a router of either kind that has lived its life: 32-bit without a
# floating point unit, and 64-bit. Says what took how long; it is the part of CI that needs other CPUs.
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
step 'MicroPython and images for mipsel and x86_64' make qemu-images
for cpu in mipsel x86_64; do
  step "the package's life on $cpu" guest "$cpu" test_package.py
done
step 'traffic control with fq_codel and cake' build/venv/bin/python -m pytest qemu/test_modem.py "${arguments[@]}"
echo "test-qemu: all: $((SECONDS - began)) s"
