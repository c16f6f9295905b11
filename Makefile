# Every verb of a developer's day. Each sets up what it needs (in .venv and target/) and says what it does.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test matrix test-rust test-python lint sim sims fuzz miri loom tsan bench bench-quick bench-engine grid differential build clean

PY := .venv/bin/python
SEED ?= 1
FIRST ?= 0
N ?= 1000

help: ## what there is
	@echo 'make VERB, one of:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1 \2/p' Makefile | awk '{ printf "  %-13s", $$1; $$1 = ""; print $$0 }'

demo: ## build, then serve a page from the user-level stack to stock curl, and show who held the connection
	@scripts/setup tools curl iproute2
	@scripts/setup build
	@$(PY) scripts/demo.py

build: ## the virtual environment and the package in it, built for release
	@scripts/setup build

test: test-rust test-python ## everything: Rust and Python

test-rust: ## cargo test for the whole workspace
	@scripts/setup python
	@echo '== cargo test'
	@PYO3_PYTHON="$$PWD/$(PY)" cargo test --workspace

test-python: ## pytest on a release build (ARGS= for pytest)
	@scripts/setup tools curl iproute2 wrk netcat-openbsd ethtool || echo '== the tests that need these are skipped'
	@scripts/setup test
	@echo '== pytest'
	@scripts/run-pytest $(ARGS)

lint: ## rustfmt, clippy, ruff, mypy --strict
	@scripts/setup python
	@echo '== cargo fmt --check'; cargo fmt --all --check
	@echo '== cargo clippy'; PYO3_PYTHON="$$PWD/$(PY)" cargo clippy --workspace --all-targets -- -D warnings
	@echo '== ruff'; $(PY) -m ruff check . && $(PY) -m ruff format --check .
	@echo '== mypy --strict'; $(PY) -m mypy

sim: ## one run of the simulation (SEED=n; ARGS=--quiet for the outcome only)
	@cargo run -q -p mtcp-engine --example sim -- --seed $(SEED) $(ARGS)

sims: ## N (1000) runs from seed FIRST (0), on all cores; stops at the first failure and says how to repeat it
	@cargo run -q --release -p mtcp-engine --example sims -- --first $(FIRST) --count $(N) $(ARGS)

fuzz: ## each fuzz target for FUZZ_SECONDS (60), with AddressSanitizer; ARGS= names targets
	@scripts/setup tools g++
	@scripts/fuzz $(ARGS)

miri: ## undefined behaviour, in what Miri can run (needs nightly Rust with Miri; ARGS= names tests)
	@scripts/miri $(ARGS)

loom: ## every order in which threads can meet, for all that they share without the runtime's lock
	@RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$${CARGO_TARGET_DIR:-target}/loom cargo test -q -p mtcp-host --lib

tsan: ## the host's tests under ThreadSanitizer (needs the standard library's sources; ARGS= names tests)
	@scripts/tsan $(ARGS)

bench: ## every published figure, ours against the kernel's, into docs/performance.* (ARGS="servers --setting K")
	@scripts/setup tools iproute2
	@scripts/setup bench
	@$(PY) -m mtcp_patch.bench --out docs $(ARGS)

bench-quick: ## the same with fewer points in five minutes, into target/bench; not for publishing
	@scripts/setup tools iproute2
	@scripts/setup bench
	@$(PY) -m mtcp_patch.bench --quick --out target/bench $(ARGS)

bench-engine: ## the engine's own benchmarks: parsing, emitting, the flow table
	@cargo bench -p mtcp-engine

grid: ## goodput over lossy links, ours and Linux against each other (ARGS= for bench/loss_grid.py)
	@scripts/setup tools iproute2 ethtool
	@scripts/setup build
	@$(PY) bench/loss_grid.py $(ARGS)

differential: ## the same segments to Linux and to ours, replies compared (ARGS="--seeds 1-5000")
	@scripts/setup tools iproute2 ethtool
	@scripts/setup test
	@$(PY) -m tests.differential $(ARGS)

matrix: ## every suite and program on both stacks, results and pages (ARGS= for python -m compat, which then is all)
	@scripts/setup tools curl iproute2 wrk ethtool
	@scripts/setup test
	@scripts/matrix $(ARGS)

clean: ## remove what the verbs made: .venv, target, the built module, caches
	rm -rf .venv target .pytest_cache .mypy_cache .ruff_cache mtcp_patch/stack/_native*.so
