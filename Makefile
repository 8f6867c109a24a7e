# Outrider: every way to build, test and measure it. `make help` lists the targets.

SWIFT ?= swift
BUILD := .build
STATIC_LIBRARIES := .build-static-libs
# lld packs the relative relocations of a position-independent binary: 2 MB less, and less to do at each start; tables
# to unwind the stack, which nothing here does, would be 6 MB more.
RELEASE_FLAGS := -c release --product outrider --scratch-path $(BUILD) -Xswiftc -enforce-exclusivity=unchecked \
  -Xswiftc -use-ld=lld -Xlinker -z -Xlinker pack-relative-relocs \
  -Xlinker --no-eh-frame-hdr -Xlinker $(CURDIR)/dev/sections.ld \
  -Xswiftc -Xfrontend -Xswiftc -function-sections -Xcc -ffunction-sections -Xcc -fdata-sections
# The binary that the scenario tests run; `make test OUTRIDER=dist/outrider` runs them on the release build.
OUTRIDER ?= $(CURDIR)/$(BUILD)/debug/outrider
PYTEST := .venv/bin/python -m pytest -p no:osmem -q
# More options for `swift test` and pytest, for example FILTER=HTTP1Tests, SCENARIO="-k vault".
FILTER ?=
SCENARIO ?=

.PHONY: help build static test test-swift test-servers test-scenarios sanitize fuzz check lint format gate bench \
  bench-check bench-overhead bench-secrets bench-logs demo clean setup-build setup-test setup-bench setup-fuzz FORCE
.DEFAULT_GOAL := build

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

build: dist/outrider ## The release binary, at dist/outrider

dist/outrider: FORCE setup-build $(STATIC_LIBRARIES)/.linked
	$(SWIFT) build $(RELEASE_FLAGS) --static-swift-stdlib
	@mkdir -p dist
	@strip -o dist/outrider.new "$$($(SWIFT) build -c release --scratch-path $(BUILD) --show-bin-path)/outrider"
	@mv dist/outrider.new dist/outrider
	@ls -l dist/outrider | awk '{ printf "dist/outrider: %.1f MB\n", $$5 / 1e6 }'

# A directory that holds only archives stands first on the link path, so that -lyaml, -lz, -lpcre2-8 and
# -lcares find no shared library before it.
$(STATIC_LIBRARIES)/.linked: | setup-build
	@mkdir -p $(STATIC_LIBRARIES)
	@for pair in yaml-0.1:libyaml.a libpcre2-8:libpcre2-8.a zlib:libz.a libcares:libcares.a; do \
	  directory=$$(pkg-config --variable=libdir $${pair%%:*}); archive=$${pair#*:}; \
	  test -f "$$directory/$$archive" || { echo "no $$archive in $$directory: run dev/setup.sh build" >&2; exit 1; }; \
	  ln -sf "$$directory/$$archive" $(STATIC_LIBRARIES)/$$archive; \
	done
	@touch $@

static: setup-build $(STATIC_LIBRARIES)/.linked ## The fully static binary for images from scratch, at dist/outrider-static
	$(SWIFT) build -c release --product outrider --scratch-path .build-static -Xswiftc -enforce-exclusivity=unchecked \
	  --static-swift-stdlib -Xswiftc -static-executable
	@mkdir -p dist
	@strip -o dist/outrider-static \
	  "$$($(SWIFT) build -c release --scratch-path .build-static --show-bin-path)/outrider"
	@! readelf -d dist/outrider-static | grep NEEDED || { echo "dist/outrider-static still needs the above" >&2; exit 1; }
	@state=$$(mktemp -d) && dist/outrider-static version && dist/outrider-static run --state $$state -- true && rm -rf $$state
	@ls -l dist/outrider-static | awk '{ printf "dist/outrider-static: %.1f MB\n", $$5 / 1e6 }'

test: test-swift test-servers test-scenarios ## Every test: Swift, the test servers, the scenarios

$(BUILD)/debug/outrider: FORCE setup-test
	$(SWIFT) build --build-tests --scratch-path $(BUILD)

test-swift: $(BUILD)/debug/outrider ## The Swift tests (FILTER=… for some)
	$(SWIFT) test --skip-build --no-parallel --scratch-path $(BUILD) $(if $(FILTER),--filter $(FILTER))

test-servers: setup-test ## The tests of the fault-injecting test servers
	$(PYTEST) Tests/Servers

test-scenarios: setup-test $(BUILD)/debug/outrider ## The real binary against real peers (SCENARIO="-k …" for some)
	OUTRIDER=$(OUTRIDER) $(PYTEST) Tests/Scenarios $(SCENARIO)

# Everything that has threads; the rest is pure. A build of its own: ten minutes and 2 GB.
SANITIZED := TrafficProxyTests|LogShipperTests|SecretAgentTests|SecretsTests|SupervisorTests|AdminTests|TelemetryTests
sanitize: setup-test ## The Swift tests that use threads, under the thread sanitizer
	$(SWIFT) build --build-tests --sanitize=thread --scratch-path .build-tsan
	TSAN_OPTIONS="exitcode=66 suppressions=$(CURDIR)/dev/tsan.supp" $(SWIFT) test --skip-build \
	  --sanitize=thread --no-parallel --scratch-path .build-tsan --filter '$(or $(FILTER),$(SANITIZED))'

# 0 findings are expected. A build of its own; FUZZ_SECONDS are those of all targets together.
fuzz: setup-fuzz ## Hostile bytes for every parser, coverage guided (FUZZ=target for one, FUZZ_SECONDS=600)
	FUZZ='$(FUZZ)' FUZZ_SECONDS=$(or $(FUZZ_SECONDS),600) dev/fuzz.sh

check: lint gate ## Format, warnings, import rules, what is linked, size and idle memory

lint: setup-test ## Format and warnings
	$(SWIFT) format lint --strict -r Sources Tests Fuzz Package.swift
	dev/lint.sh $(BUILD)

format: ## Rewrites the sources as the lint wants them
	$(SWIFT) format -i -r Sources Tests Fuzz Package.swift

gate: dist/outrider ## What the release binary links, its size and its idle memory
	dev/gate.sh dist/outrider

bench: build setup-bench ## The proxy beside Envoy, HAProxy and nginx, row by row in turns; BENCH="--rows plain,tls" chooses
	.venv/bin/python Benchmarks/proxy/compare.py $(BENCH)
	.venv/bin/python Benchmarks/proxy/steady.py

bench-check: build setup-bench ## The same, and it fails when one of its limits is missed
	.venv/bin/python Benchmarks/proxy/compare.py --check $(BENCH)
	.venv/bin/python Benchmarks/proxy/steady.py --check

bench-overhead: build setup-bench ## outrider_overhead_seconds beside what is measured from outside
	.venv/bin/python Benchmarks/proxy/overhead.py

bench-secrets: build setup-test ## Secrets beside `bao agent`: start, exec mode, a revoked token, memory (ROUNDS=7)
	OUTRIDER=$(CURDIR)/dist/outrider .venv/bin/python Benchmarks/secrets/compare.py

bench-logs: build setup-bench ## Logs beside rsyslog, the OpenTelemetry Collector and, by BENCH="--fluent-bit PATH", Fluent Bit
	OUTRIDER=$(CURDIR)/dist/outrider .venv/bin/python Benchmarks/logs/compare.py $(BENCH)

demo: ## A shop, a service that fails now and then, and Outrider between them (KEEP=1 leaves it up)
	@dev/demo.sh

setup-build:
	@dev/setup.sh build

setup-test:
	@dev/setup.sh test

setup-bench:
	@dev/setup.sh bench

setup-fuzz:
	@dev/setup.sh fuzz

clean: ## Removes what was built (not .venv)
	rm -rf $(BUILD) .build-static .build-tsan .build-fuzz $(STATIC_LIBRARIES) dist
