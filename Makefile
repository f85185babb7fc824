# make run     https://127.0.0.1:8443 with a development certificate
# make test    everything
# make help    the rest

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
# Looked for once, when it is first needed, and only if there is no venv yet.
PYTHON ?= $(eval PYTHON := $$(shell test -x $(BIN)/python && echo $(BIN)/python || .ci/interpreter))$(PYTHON)
CRATE := shard/engine/Cargo.toml

# One target directory and one interpreter for cargo and for maturin (which pip calls): AWS-LC, most
# of the build, is compiled once.
export CARGO_TARGET_DIR := $(CURDIR)/target
export PYO3_PYTHON := $(BIN)/python
# pip finds maturin there, as it is told not to fetch one of its own.
export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

ENGINE := pyproject.toml $(wildcard shard/engine/Cargo.* shard/engine/*.rs) \
          $(shell find shard/engine/src -name '*.rs' 2>/dev/null)
# The engine as tests of its randomness need it: its generator can be made to give what is known
# beforehand. It is never installed, and is built after the other, with what that left.
KNOWN_SEED := target/known-seed/_engine.abi3.so
# pip is silent while the engine is compiled.
INSTALL := $(BIN)/pip install --quiet --no-build-isolation --editable
CARGO_FLAGS := --release --locked --manifest-path $(CRATE)
PYTEST := $(BIN)/python -m pytest
INTEGRATION := $(wildcard tests/integration tests/interop tests/faults)
# Minutes of `make soak`.
MINUTES ?= 10

.PHONY: run test check unit integration compose bench soak wheel clean help prerequisites known-seed

run: $(VENV)/.installed ## build what changed, serve https://127.0.0.1:8443 (more flags: ARGS="--workers 4")
	@exec $(BIN)/shardtls up --self-signed $(ARGS)

test: check $(KNOWN_SEED) ## everything: check and all tests, those with containers too (ARGS="-k name" for pytest)
	$(PYTEST) --ignore=tests/bench $(ARGS)

check: $(VENV)/.installed-dev ## formatting, lint and types of Python and Rust; Rust tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	cargo fmt --manifest-path $(CRATE) --check
	cargo clippy $(CARGO_FLAGS) --no-default-features --all-targets -- -D warnings
	cargo clippy $(CARGO_FLAGS) --features python -- -D warnings
	cargo clippy $(CARGO_FLAGS) --features python,known-seed -- -D warnings
	cargo test $(CARGO_FLAGS) --no-default-features

unit: $(VENV)/.installed-dev $(KNOWN_SEED) ## tests of single modules and of the engine's interface
	$(PYTEST) $(wildcard tests/unit tests/engine) $(ARGS)

integration: $(VENV)/.installed-dev ## tests with real processes, peers and faults on this machine
	$(PYTEST) $(INTEGRATION) $(ARGS)

compose: $(VENV)/.installed-dev ## tests with containers (Docker, docker-compose, mmdebstrap)
	$(PYTEST) tests/compose $(ARGS)

bench: $(VENV)/.installed-dev ## benchmarks
	$(PYTEST) tests/bench $(ARGS)

soak: $(VENV)/.installed-dev ## the integration tests again and again until one fails (MINUTES=10)
	@end=$$((SECONDS + 60 * $(MINUTES))); rounds=0; \
	while ((SECONDS < end)); do \
	  $(PYTEST) --exitfirst --quiet $(INTEGRATION) $(ARGS) || exit; rounds=$$((rounds + 1)); \
	done; echo "soak: $$rounds rounds in $$SECONDS s, none failed"

known-seed: $(KNOWN_SEED) ## the engine with a predictable generator, for tests of its randomness

wheel: $(VENV)/.installed-dev ## dist/shardtls-*.whl
	$(BIN)/maturin build --release --locked --out dist

clean: ## remove what was built; .cache/, the base image's tarball, stays
	rm -rf $(VENV) target dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f shard/_engine*.so
	find coordinator shard tests -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

prerequisites:
	@.ci/prerequisites $(PYTHON)

$(VENV)/bin/python: | prerequisites
	$(PYTHON) -m venv $(VENV)

# A stamp is newer than all that its installation was made from. An installation for development
# serves `make run` too.
$(VENV)/.installed: $(VENV)/bin/python $(ENGINE) | prerequisites
	@echo "Installing into $(VENV) and compiling the engine: a minute or two the first time" >&2
	$(BIN)/pip install --quiet 'maturin>=1.9,<2'
	$(INSTALL) .
	touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python $(ENGINE) | prerequisites
	@echo "Installing into $(VENV) and compiling the engine: a minute or two the first time" >&2
	$(BIN)/pip install --quiet 'maturin>=1.9,<2'
	$(INSTALL) '.[dev]'
	touch $@ $(VENV)/.installed

$(KNOWN_SEED): $(ENGINE) | $(VENV)/.installed-dev
	cargo build --quiet $(CARGO_FLAGS) --lib --features python,known-seed
	install -D target/release/lib_engine.so $@
