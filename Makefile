# SPDX-License-Identifier: MIT
#
# A thin front of Meson and the test drivers. `make help` lists the targets.

NINJA   := ninja $(if $(JOBS),-j$(JOBS))
DEPS    := scripts/deps.sh
FUZZ_SECONDS ?= 1800

.DEFAULT_GOAL := all
# ninja runs jobs side by side; targets would fetch and install side by side.
.NOTPARALLEL:
.PHONY: all run check unit fuzz fuzz-quick bench coverage guests control iso gates clean help

help:
	@echo 'make            build the hypervisor image with gcc (build/gcc)'
	@echo 'make run        build, fetch two Debian guests, start all in QEMU'
	@echo 'make check      everything that must pass before a commit lands'
	@echo 'make unit       unit tests under ASan and UBSan'
	@echo 'make fuzz       every fuzz target for FUZZ_SECONDS (default $(FUZZ_SECONDS))'
	@echo 'make bench      benchmarks against the peers, tables in docs/performance.md'
	@echo 'make coverage   line coverage of hv/core and hv/x86'
	@echo 'make guests     fetch and prepare the guest kernels (build/guests)'
	@echo 'make control    the same, and the control domain'
	@echo 'make iso        boot media with the control domain: build/hospes.iso, build/hospes.img'
	@echo 'make clean      remove build/'

all: build/gcc/build.ninja
	$(NINJA) -C build/gcc

# --- Build directories, one per compiler and kind ---------------------------

build/gcc/build.ninja:
	$(DEPS) build
	CC=gcc meson setup -Dkind=metal build/gcc

build/clang/build.ninja:
	$(DEPS) build
	CC=clang meson setup -Dkind=metal build/clang

build/unit/build.ninja:
	$(DEPS) build
	CC=gcc meson setup -Dkind=unit build/unit

build/fuzz/build.ninja:
	$(DEPS) build
	CC=clang meson setup -Dkind=fuzz build/fuzz

build/cov/build.ninja:
	$(DEPS) build
	CC=gcc meson setup -Dkind=unit -Dsanitize=false -Db_coverage=true build/cov

# --- Tests ------------------------------------------------------------------

unit: build/unit/build.ninja
	$(NINJA) -C build/unit
	meson test -C build/unit --no-rebuild --print-errorlogs --suite unit

fuzz-quick: build/fuzz/build.ninja
	$(NINJA) -C build/fuzz
	meson test -C build/fuzz --no-rebuild --print-errorlogs --num-processes 2 --suite fuzz

fuzz: build/fuzz/build.ninja
	$(NINJA) -C build/fuzz
	scripts/fuzz-all.py $(FUZZ_SECONDS)

gates:
	$(DEPS) build
	scripts/gates.py

guests:
	$(DEPS) guests
	scripts/guest-kernels.sh

control:
	$(DEPS) guests
	scripts/control-image.sh

check: all build/clang/build.ninja
	$(NINJA) -C build/clang
	$(MAKE) gates unit fuzz-quick
	$(DEPS) run
	$(MAKE) control
	tests/run

coverage: build/cov/build.ninja
	$(NINJA) -C build/cov
	meson test -C build/cov --no-rebuild --print-errorlogs
	scripts/coverage.py build/cov

run: all guests
	$(DEPS) run
	scripts/run.py

iso: all control
	$(DEPS) run
	scripts/iso.py --output build/hospes.iso --disk build/hospes.img --control 512

bench: all guests
	$(DEPS) bench
	bench/run

clean:
	rm -rf build
