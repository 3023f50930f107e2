# Each target sets up what it needs; a step that is done leaves a file under build/ and is not done again.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONDONTWRITEBYTECODE := 1

ARCH ?= native
PYTHON := build/venv/bin/python
MICROPYTHON := build/micropython/native/.done
CONTRACT_SOURCES := $(shell find contracts -type f -not -path '*/out/*' -not -path '*/cache/*' 2>/dev/null)

APT := build/.debian-packages
APT_TEST := build/.debian-packages-test
VENV := build/venv/.done
NODE := build/node/.done
CONTRACTS := $(if $(wildcard contracts/build.py),build/contracts/.done)
MPY_CROSS := build/mpy-cross/.done

.PHONY: help
help: ## this list
	@echo 'make TARGET; the main ones: run, test. Everything made goes to build/ and dist/.'
	@sed -n 's/^\([a-z][a-z -]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r t d; do printf '  %-16s %s\n' "$$t" "$$d"; done

.PHONY: setup
setup: $(APT) $(VENV) $(NODE) $(MICROPYTHON) $(CONTRACTS) ## install and build all that run and test need, once

$(APT): scripts/debian-packages.sh scripts/debian-packages.txt
	@scripts/debian-packages.sh scripts/debian-packages.txt
	@mkdir -p $(@D) && touch $@

$(VENV): requirements.lock scripts/venv.sh scripts/once.sh | $(APT)
	@scripts/venv.sh

$(NODE): package.json package-lock.json scripts/node.sh scripts/once.sh | $(APT)
	@scripts/node.sh

RECIPE := scripts/micropython.sh scripts/debian-source.sh scripts/debian-sources.txt scripts/once.sh
$(MICROPYTHON): $(RECIPE) | $(APT)
	@scripts/micropython.sh native

build/micropython/%/.done: $(RECIPE) build/cross/%/.done
	@scripts/micropython.sh $*

build/.debian-packages-%: scripts/debian-packages-%.txt $(APT)
	@scripts/debian-packages.sh $<
	@touch $@

.PRECIOUS: build/cross/%/.done build/.debian-packages-%
build/cross/%/.done: scripts/cross.sh scripts/unhide.py scripts/debian-source.sh scripts/debian-sources.txt scripts/once.sh requirements-cross.txt | build/.debian-packages-cross $(VENV)
	@scripts/cross.sh $*

build/contracts/.done: $(CONTRACT_SOURCES) $(NODE) | $(VENV)
	@$(PYTHON) contracts/build.py
	@touch $@

.PHONY: micropython
micropython: build/micropython/$(ARCH)/.done ## MicroPython with ffi; ARCH=mipsel, mips, armhf, arm64, x86_64: for that router

.PHONY: need-root
need-root:
	@[ "$$(id -u)" = 0 ] || { echo "make $(MAKECMDGOALS): this makes network namespaces, TUN devices and nftables rules, so it needs root (make test-fast and make lint do not)" >&2; exit 1; }

.PHONY: run
run: need-root setup ## the whole product in network namespaces for RUN_SECONDS (60); needs root
	@exec $(PYTHON) -m tests.lab.run

.PHONY: lab-clean
lab-clean: $(VENV) ## remove network namespaces and processes that a killed run left
	@exec $(PYTHON) -m tests.lab.net

.PHONY: test test-fast test-cpu
test: need-root setup $(APT_TEST) $(MPY_CROSS) ## all tests, in two halves side by side; T=PATH... for single ones; needs root
	@exec $(PYTHON) -m $(if $(T),pytest $(T),tests.halves)
test-fast: setup $(APT_TEST) $(MPY_CROSS) ## all tests but those marked slow (lab, faults, browser, qemu); T=PATH... for single ones
	@exec $(PYTHON) -m pytest -m 'not slow' $(T)

test-cpu: $(VENV) build/micropython/$(ARCH)/.done ## the unit tests under MicroPython of another CPU, in qemu-user; ARCH as above
	@MICROPYTHON=build/micropython/$(ARCH)/micropython exec $(PYTHON) -m pytest -k micropython tests/unit $(T)

SOAK := build/soak/line build/soak/libclock.so
FRAMES := tests/lab/frames.c tests/lab/frames.h
build/soak/line: tests/soak/line.c $(FRAMES) | $(APT)
	@mkdir -p $(@D) && gcc -O2 -Wall -Wextra -Werror -I tests/lab -o $@ $(filter %.c,$^)
build/soak/libclock.so: tests/soak/clock.c | $(APT)
	@mkdir -p $(@D) && gcc -O2 -Wall -Wextra -Werror -shared -fPIC -o $@ $< -ldl

.PHONY: soak
soak: need-root setup $(APT_TEST) $(SOAK) ## a pool under faults for MINUTES (12): every few seconds one; ROUTERS=20 BUYERS=10 SEED=1; needs root
	@exec $(PYTHON) -m tests.soak

.PHONY: fuzz-wire
SECONDS_OF_FUZZ = $(if $(filter environment command,$(origin SECONDS)),$(SECONDS),$(if $(CELLS),0,60))
fuzz-wire: need-root $(VENV) $(MICROPYTHON) ## parsers and live relays under a fuzzer for SECONDS (60); CELLS=N: until N cells; needs root
	@exec $(PYTHON) -m tests.fuzz.wire --seconds $(SECONDS_OF_FUZZ) $(if $(CELLS),--cells $(CELLS))

.PHONY: dpi
dpi: need-root $(VENV) $(MICROPYTHON) $(APT_TEST) ## does the traffic look like anything? PACKETS (400000) of real circuits; needs root
	@exec $(PYTHON) -m tests.dpi --packets $(or $(PACKETS),400000)

# What a guest of CPU $(GUEST) is made of; make bench-guest and the like start mipsel unless ARCH says otherwise.
GUEST := $(if $(filter native,$(ARCH)),mipsel,$(ARCH))
GUEST_PARTS := $(VENV) build/micropython/$(GUEST)/.done build/.debian-packages-guest $(if $(filter mips,$(GUEST)),build/.debian-packages-kernel)
.PHONY: guest qemu qemu-images test-qemu test-qemu-all bench-guest
guest: $(GUEST_PARTS) ## the unit tests in QEMU on a guest of ARCH (mipsel, mips, armhf, arm64, x86_64)
	@qemu/build.sh $(GUEST)
	@GUEST_ARCH=$(GUEST) exec $(PYTHON) -m pytest qemu/test_guest.py $(T)

ifdef IMAGE
qemu: $(VENV) build/.debian-packages-guest ipk
	@exec $(PYTHON) -m qemu.console --arch $(GUEST) --image '$(IMAGE)' --sha256 '$(SHA256)'
else
qemu: need-root setup ipk $(GUEST_PARTS) ## boots ARCH, installs the .ipk, unit tests and the package's whole life in it; IMAGE=path-or-url SHA256=hex: OpenWrt's own image; needs root
	@qemu/build.sh $(GUEST)
	@GUEST_ARCH=$(GUEST) exec $(PYTHON) -m pytest qemu/test_guest.py qemu/test_dpkg.py qemu/test_package.py $(T)
endif

# Tests wait more than they compute: .ci/run has these built beside them.
qemu-images: build/.debian-packages-guest $(VENV)
	@for cpu in mipsel x86_64; do $(MAKE) micropython ARCH=$$cpu && qemu/build.sh $$cpu; done

# What a change must pass: a 32-bit little-endian router without a floating point unit, and a 64-bit one.
test-qemu: need-root ## the package's whole life in guests of mipsel and x86_64, from a fresh clone on; needs root
	@exec qemu/test.sh $(T)

test-qemu-all: need-root ## what is slow by nature: all five guests, bad input, power cuts, the console driver; needs root
	@for arch in mipsel armhf x86_64 arm64; do $(MAKE) qemu ARCH=$$arch; done
	@$(MAKE) guest ARCH=mips
	@GUEST_ARCH=mipsel exec $(PYTHON) -m pytest qemu/test_faults.py qemu/test_power.py qemu/test_console.py $(T)

bench-guest: $(GUEST_PARTS) ipk ## memory, size, start-up, idle CPU and flash writes of the package on a guest of ARCH (mipsel)
	@qemu/build.sh $(GUEST)
	@exec $(PYTHON) -m bench.guest --arch $(GUEST)

.PHONY: lint
lint: $(VENV) $(NODE) $(APT_TEST) ## ruff, mypy, shellcheck, eslint, solhint, forge fmt
	@scripts/lint.sh

.PHONY: sbom
sbom: $(VENV) ## the bill of materials (CycloneDX), dist/bwrouter.cdx.json; scripts/release.sh signs it with the packages
	@$(PYTHON) scripts/sbom.py --out dist/bwrouter.cdx.json

.PHONY: lock
lock: ## resolve requirements.in and package.json into the lock files
	@scripts/lock.sh

.PHONY: bench-contracts
bench-contracts: $(VENV) $(NODE) $(CONTRACTS) ## gas of the contracts against their goals
	@exec $(PYTHON) bench/contracts.py

.PHONY: bench-mint
bench-mint: setup ## tickets a second of the mint, latency of an open, time of a root, against their goals
	@exec $(PYTHON) bench/mint.py

PEERS := build/bench/.peers
$(PEERS): bench/peers.sh bench/debian-packages.txt scripts/once.sh | $(APT)
	@bench/peers.sh

BENCH_CC := gcc -O2 -Wall -Wextra -Werror -I build/bench/root/usr/include
build/bench/c_relay: bench/relay/c_relay.c bench/relay/cell_loop.c bench/relay/cell_loop.h $(PEERS)
	@$(BENCH_CC) -o $@ $(filter %.c,$^) -l:libsodium.so.23
build/bench/libpump.so: bench/relay/pump.c bench/relay/pump.h bench/relay/cell_loop.c bench/relay/cell_loop.h $(PEERS)
	@$(BENCH_CC) -shared -fPIC -o $@ $(filter %.c,$^) -l:libsodium.so.23

.PHONY: bench-audit
bench-audit: need-root $(VENV) $(MICROPYTHON) ## error and cost of bandwidth proofs against a kernel's token bucket; needs root
	@exec $(PYTHON) bench/audit.py

.PHONY: blind-audit
blind-audit: need-root $(VENV) $(MICROPYTHON) ## can a relay tell covert audits from buyers? CIRCUITS (2000) of both kinds; needs root
	@exec $(PYTHON) -m bench.blind --circuits $(or $(CIRCUITS),2000) --lanes $(or $(LANES),8)

.PHONY: bench-relay
bench-relay: need-root $(VENV) $(MICROPYTHON) build/bench/c_relay build/bench/libpump.so ## CPU time and memory of one hop beside Tor, VPNs, C and bare AEAD; needs root
	@exec $(PYTHON) -m bench.relay

build/bench/delay: bench/client/delay.c $(FRAMES) | $(APT)
	@mkdir -p $(@D) && gcc -O2 -Wall -Wextra -Werror -I tests/lab -o $@ $(filter %.c,$^)

.PHONY: bench-client
bench-client: need-root setup build/bench/delay ## the buyer's tunnel: goodput, set-up, re-route, leaks, against their goals; needs root
	@exec $(PYTHON) -m bench.client

$(MPY_CROSS): scripts/mpy-cross.sh scripts/debian-source.sh scripts/debian-sources.txt scripts/once.sh | $(APT)
	@scripts/mpy-cross.sh

.PHONY: ipk apk
ipk: $(VENV) $(MPY_CROSS) ## the router's packages, dist/*.ipk, the same bytes from the same commit
	@$(PYTHON) package/build --out dist
apk: $(VENV) $(MPY_CROSS) ## the same as dist/*.apk, where apk-tools 3 is installed
	@$(PYTHON) package/build --out dist --format apk

ROUTER_PUMP := build/bench/router/libpump.so
$(ROUTER_PUMP): bench/relay/pump.c bench/relay/pump.h bench/relay/cell_loop.c bench/relay/cell_loop.h build/cross/mipsel/.done
	@mkdir -p $(@D)
	@build/cross/mipsel/bin/cc -O2 -Wall -Wextra -Werror -shared -fPIC -I build/cross/mipsel/prefix/include -o $@ $(filter %.c,$^) build/cross/mipsel/root/usr/lib/libsodium.so.23

.PHONY: bench-router
bench-router: $(VENV) build/micropython/mipsel/.done build/.debian-packages-guest $(ROUTER_PUMP) ## instructions of a MIPS router for one cell, beside C, in QEMU
	@qemu/build.sh mipsel
	@exec $(PYTHON) -m bench.router

.PHONY: bench-shaper
bench-shaper: need-root $(VENV) $(MICROPYTHON) build/bench/libpump.so build/.debian-packages-guest ## what a household feels of a saturated relay; CASES='10:ours:web' REPEATS=1; needs root
	@qemu/modem.sh
	@exec $(PYTHON) -m bench.shaper

.PHONY: bench-luci
bench-luci: $(VENV) $(NODE) ## CPU time of a poll of the owner's page; under ucode where it is installed
	@exec $(PYTHON) bench/luci.py

.PHONY: bench bench-table
bench: need-root $(VENV) ## every benchmark, one table, bench/results.json; ONLY=relay,contracts: some of them; needs root
	@exec $(PYTHON) -m bench.suite --only '$(ONLY)'
.PHONY: sim
sim: $(VENV) ## a million routers on paper, from measured figures: docs/scale.md and its plots
	@PYTHONPATH=src:. exec $(PYTHON) -m bench.sim
bench-table: $(VENV) ## the table of bench/results.json into README.md
	@exec $(PYTHON) -m bench.suite --table

.PHONY: clean distclean
clean: ## remove what was built, keep what was downloaded and installed
	rm -rf build/contracts build/log build/tmp build/run dist
	find . -name __pycache__ -not -path './build/*' -prune -exec rm -rf {} +
distclean: clean ## remove build/ and dist/
	rm -rf build
