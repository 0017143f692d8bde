# The front door. `make demo` and `make test` set up what is missing; everything else is below.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
export PATH := $(CURDIR)/$(BIN):$(PATH)
SOURCES := $(shell find csrc -name '*.[ch]') csrc/cdef.py csrc/meson.build meson.build meson.options
APT := git build-essential pkg-config python3-venv python3-dev libdpdk-dev dpdk zlib1g-dev libzstd-dev
APT_TEST := tshark clang libclang-rt-dev spin zstd iproute2 util-linux nftables libbpf1 \
  qemu-system-x86 busybox-static cpio kmod dpdk-dev ethtool valgrind

.PHONY: help demo check test fresh test-asan fuzz soak setup build lint bench clean distclean
help:           ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

demo: build     ## generate a session, replay it through DPDK, trade on it (under a minute)
	$(BIN)/pydpdk demo

# A file to a worker: slow tests share what is dear to make (a virtual machine, a million messages).
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
CHECK := $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
check: build .setup-test  ## lint, types and the fast tests (three minutes on two cores)
	$(CHECK)
	$(BIN)/pytest -n 2 -m 'not slow and not live' $(PYTEST_ARGS)

test: build .setup-test  ## the whole suite, the sanitizer build and the fuzzer included
	$(CHECK)
	$(BIN)/pytest $(PARALLEL) $(PYTEST_ARGS)
	$(MAKE) fuzz
	$(MAKE) test-asan

setup: $(VENV)/.ready  ## system packages, venv, Python packages

# One clear line; installed when run as root or with sudo, else shown.
define install_packages
	@missing=""; for p in $(1); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	  as=""; [ "$$(id -u)" = 0 ] || as=sudo; \
	  echo "+ $$as apt-get install -y --no-install-recommends$$missing"; \
	  if [ -n "$$as" ] && ! command -v sudo >/dev/null; then \
	    echo "run that line as root, then make again" >&2; exit 1; fi; \
	  $$as apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    $$as apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
endef

.setup-system:
	$(call install_packages,$(APT))

.setup-test:
	$(call install_packages,$(APT_TEST))
.PHONY: .setup-system .setup-test

$(VENV)/.ready: pyproject.toml | .setup-system
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check meson-python meson ninja 'cffi>=2.1' setuptools
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation \
	  --config-settings=build-dir=build --editable '.[dev]'
	@touch $@

build: $(VENV)/.ready build/.built  ## compile what changed
build/.built: $(SOURCES) | $(VENV)/.ready
	@ninja -C build --quiet
	@touch $@

# RELEASE=trixie for Debian 13; THEN='make test' runs more there.
RELEASE ?= bookworm
export THEN
fresh:          ## do demo and pip install work on a Debian with git and make only? (root, debootstrap)
	nice tests/fresh.sh $(RELEASE) "$$THEN"

# The same tests over a core built with the sanitizers: a second venv on top of the first.
ASAN := .venv-asan
$(ASAN)/.ready: $(SOURCES) | $(VENV)/.ready
	$(PYTHON) -m venv --without-pip $(ASAN)
	@echo "$(CURDIR)/$$(echo $(VENV)/lib/python3*/site-packages)" > $$(echo $(ASAN)/lib/python3*/site-packages)/base.pth
	$(BIN)/pip --quiet --disable-pip-version-check --python $(ASAN)/bin/python install --no-deps \
	  --no-build-isolation --config-settings=build-dir=build-asan --config-settings=setup-args=-Db_sanitize=address,undefined \
	  --config-settings=setup-args=-Db_lundef=false --config-settings=setup-args=-Dbuildtype=debugoptimized --editable .
	@touch $@

# Tools that tests ask for a second opinion run without the sanitizer's library: it can hang them.
$(ASAN)/tools: | $(ASAN)/.ready
	mkdir -p $@
	for tool in tshark capinfos; do \
	  printf '#!/bin/sh\nunset LD_PRELOAD\nexec %s "$$@"\n' "$$(command -v $$tool)" > $@/$$tool; \
	  chmod +x $@/$$tool; done

# Files whose tests run Python, compilers or programs of their own: the sanitizers see no more of
# the core in them than in the others. A file that is not named here is run.
NO_CORE := bench* cli_gen compile config docs* doctor feed frames framings gen hostapply hostinfo \
  hostplan house instructions layout market pcapfile peers ring_model runchecks soak stage status \
  supervisor testbed* vm*

# A test that a process dies of a write wants the signal itself, not the sanitizer's report of it.
test-asan: build $(ASAN)/.ready $(ASAN)/tools  ## what touches C over an address- and undefined-sanitizer build
	PATH=$(CURDIR)/$(ASAN)/tools:$$PATH ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:handle_segv=0 \
	  UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	  $(ASAN)/bin/python -m pytest $(PARALLEL) -m 'not slow' -p no:cacheprovider \
	  $(NO_CORE:%=--ignore-glob='*/test_%.py') $(PYTEST_ARGS)

# Half of it for frames alone, half for the whole path.
FUZZ_SECONDS ?= 120
fuzz: | $(VENV)/.ready  ## libFuzzer on the path from frame to event
	sh tests/c/fuzz.sh $(FUZZ_SECONDS)

SOAK_SECONDS ?= 600
SOAK_DEVICE ?= af_packet
soak: build     ## run live for ten minutes on faulty sessions: does anything grow? (root)
	$(BIN)/python -m testbed.soak --seconds $(SOAK_SECONDS) --device $(SOAK_DEVICE)

lint: $(VENV)/.ready  ## format and check
	$(BIN)/ruff format . && $(BIN)/ruff check --fix . && $(BIN)/mypy

bench: build    ## measure: ratios to peers and floors, with the host
	$(BIN)/pydpdk bench run

clean:          ## builds and caches
	rm -rf build build-* .pytest_cache .mypy_cache .ruff_cache .hypothesis demo
distclean: clean  ## and the venvs
	rm -rf $(VENV) $(ASAN)
