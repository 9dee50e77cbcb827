# Every target is a line in `make help`. CARGO_TARGET_DIR, AEGIS_TOOLS_DIR and FUZZ_SECONDS are honoured.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
TOOLS_DIR := $(abspath $(or $(AEGIS_TOOLS_DIR),$(HOME)/.cache/aegis))
AEGIS := $(TARGET_DIR)/release/aegis
FUZZ_SECONDS ?= 60
# Set to `ci` by .ci/run.
NEXTEST_PROFILE ?= default

export AEGIS_TOOLS_DIR := $(TOOLS_DIR)
export PATH := $(TOOLS_DIR)/cargo/bin:$(PATH):$(HOME)/.cargo/bin

# Tests are built with the release profile, for the speed that streams need, but without link-time
# optimisation: a dozen test programs are linked, and each would pay for it.
FAST_RELEASE := CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

.PHONY: help
help: ## show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: cargo
cargo:
	@command -v cargo >/dev/null || { \
	    echo "cargo is missing. Install Rust: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"; \
	    echo "then open a new shell, and run make again."; exit 1; }

.PHONY: setup
setup: cargo ## install what tests and benchmark need; quick when all is there
	@bash integration-tests/setup/setup.sh

.PHONY: up
up: cargo ## build aegis and start its demo: needs nothing but cargo
	cargo build --release --locked --package aegis-proxy
	$(AEGIS) demo

# The set-up has just run: a real server or client that is missing is a failure, not a reason to skip.
.PHONY: test
test: setup ## run all tests: units, cases, real llama-server, real clients, doc tests
	$(FAST_RELEASE) cargo build --release --locked --package aegis-proxy
	$(FAST_RELEASE) cargo test --workspace --release --locked --doc
	AEGIS_BIN=$(AEGIS) AEGIS_REQUIRE_REAL=1 $(FAST_RELEASE) cargo nextest run --workspace --release --locked --profile $(NEXTEST_PROFILE)

# The advisories check needs RustSec's database from GitHub, which not every build machine can reach.
# Where it can be: cargo deny check advisories
.PHONY: lint
lint: cargo ## formatting, clippy, fuzz targets that compile, licences and bans, shell scripts
	@bash integration-tests/setup/cargo-tools.sh
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo check --manifest-path integration-tests/fuzz/Cargo.toml --bins --locked
	cargo deny --locked check bans licenses sources
	@if command -v shellcheck >/dev/null; then \
	    shellcheck --external-sources --source-path=SCRIPTDIR .ci/run integration-tests/setup/*.sh; \
	else echo "lint: shellcheck is not installed, the shell scripts are not checked"; fi

.PHONY: bench
bench: setup ## measure aegis beside nginx
	cargo build --release --locked --package aegis-proxy
	cargo run --release --locked --package aegis-integration-tests --bin aegis-bench -- --aegis $(AEGIS)

.PHONY: fuzz
fuzz: cargo ## run each fuzz target for FUZZ_SECONDS; needs a nightly compiler
	@cargo fuzz --version >/dev/null 2>&1 || cargo install --locked --root $(TOOLS_DIR)/cargo cargo-fuzz
	cd integration-tests && for target in $$(cargo +nightly fuzz list); do \
	    echo "fuzz: $$target for $(FUZZ_SECONDS) s"; \
	    mkdir -p "fuzz/corpus/$$target"; \
	    cargo +nightly fuzz run "$$target" "fuzz/corpus/$$target" "fuzz/seeds/$$target" -- \
	        -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048; \
	done

.PHONY: microbench
microbench: cargo ## time one frame and one token in the core: parser, rules, relay
	cargo bench --locked --package aegis-core

.PHONY: fmt
fmt: cargo ## format the Rust sources
	cargo fmt --all

.PHONY: clean
clean: cargo ## remove build products; the tools folder stays
	cargo clean
