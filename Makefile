# Short names for what one does with this tree; each is a thin layer over tools/ and the CMake presets.
# `make` alone lists them. JOBS=n limits parallel compilers, PRESET=dev|asan|tsan|release picks the build.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-guest build bench fuzz tidy format install clean

PRESET ?= release
JOBS ?= $(shell nproc)
DESTDIR ?=
PREFIX ?= /usr/local
CONFIGURE = cmake --preset $(1) >build/$(1)-configure.log 2>&1 || { cat build/$(1)-configure.log; exit 1; }

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## run nginx in a container from nothing: installs what is missing (asks first), builds, serves a page, cleans up
	@tools/dependencies demo
	@$(MAKE) --no-print-directory build PRESET=release
	@tools/demo build/release/bin

test: ## build the release and run all tests; those that need what this machine lacks say so and are skipped
	@tools/dependencies test
	@$(MAKE) --no-print-directory build PRESET=$(PRESET)
	@tools/run-tests build/$(PRESET)

test-all: ## the same with the long variants: 100 containers across a daemon's death, fault matrices, sanitizers, fuzz smoke, the guests
	@tools/dependencies test check guest peers clients s3
	@tools/client-programs || echo "some clients cannot be fetched; their tests will be skipped"
	@$(MAKE) --no-print-directory build PRESET=release
	@CAISSON_TEST_FULL=1 tools/run-tests build/release
	@$(MAKE) --no-print-directory build PRESET=asan
	@tools/run-tests build/asan -L unit
	@$(MAKE) --no-print-directory build PRESET=tsan
	@tools/run-tests build/tsan -L unit
	@tools/fuzz-smoke

test-guest: ## boot Debian 12 and 13 guests (kernels 6.1 and 6.12, systemd, cgroup v2) in QEMU: both cgroup drivers, the daemon's unit, the known escapes
	@tools/dependencies test guest
	@$(MAKE) --no-print-directory build PRESET=release
	@CAISSON_TEST_FULL=1 tools/run-tests build/release -L '^guest$$'

build: ## compile PRESET (default release) into build/PRESET; binaries land in build/PRESET/bin
	@tools/dependencies build
	@mkdir -p build
	@$(call CONFIGURE,$(PRESET))
	@cmake --build build/$(PRESET) -j $(JOBS)

bench: ## measure Caisson and its peers in turns, and print medians and ratios
	@tools/dependencies test peers
	@$(MAKE) --no-print-directory build PRESET=release
	@bench/run build/release/bin

fuzz: ## run every fuzz target for SECONDS_EACH (default 60) seconds, starting from fuzz/corpus
	@tools/dependencies build check
	@tools/fuzz-smoke --seconds $(or $(SECONDS_EACH),60)

tidy: ## clang-tidy on the files that differ from the main branch's last push (FILES=... picks others)
	@tools/dependencies build check
	@tools/tidy $(FILES)

format: ## clang-format on all sources, in place
	@tools/dependencies check
	@git ls-files 'src/*.cpp' 'src/*.hpp' 'fuzz/*.cpp' 'bench/*.c' 'bench/*.cpp' | xargs -r clang-format -i

install: ## install the release under PREFIX (default /usr/local) with systemd units and an example configuration
	@$(MAKE) --no-print-directory build PRESET=release
	@tools/install build/release/bin "$(DESTDIR)" "$(PREFIX)"

clean: ## remove build/
	rm -rf build
