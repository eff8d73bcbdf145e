# SPDX-License-Identifier: Apache-2.0
# Everything runs in .venv, which the first call makes; nothing has to be installed by hand but Python.

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
# Stealing keeps the tests of a file together, which share what they compile.
PYTEST := $(BIN)/python -m pytest -rs
PARALLEL := -n $(JOBS) --dist worksteal
SOURCES := bnncc passes targets runtime tests

.PHONY: demo emulators test test-all check conformance fuzz bench format help clean

help:
	@echo "make demo      compile the trained digits network, run it, print its accuracy"
	@echo "make test      all tests but the slow ones"
	@echo "make test-all  all tests"
	@echo "make check     formatting, lint, types, layering, then all tests but the slow ones"
	@echo "make conformance  ONNX's own node tests, counted"
	@echo "make fuzz      20,000 damaged models, none of which may hurt the compiler"
	@echo "make bench     speed, as tables (docs/performance.md)"
	@echo "make format    put the sources into the house's format"

demo: $(VENV)/installed
	@$(BIN)/python -m tests.demo

test: $(VENV)/installed-test emulators
	$(PYTEST) $(PARALLEL) -m "not slow"

test-all: $(VENV)/installed-test emulators
	$(PYTEST) $(PARALLEL)

check: $(VENV)/installed-test
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(MAKE) test

emulators: $(VENV)/installed-test
	@$(BIN)/python -m tests.install

conformance: $(VENV)/installed-test
	@$(PYTEST) $(PARALLEL) -q tests/e2e/test_conformance.py

fuzz: $(VENV)/installed-test
	$(BIN)/python -m tests.fuzzing --jobs $(JOBS)

bench: $(VENV)/installed-test
	$(BIN)/python -m tests.bench.kernels
	$(BIN)/python -m tests.bench.int8
	$(BIN)/python -m tests.bench.networks
	$(BIN)/python -m tests.bench.versus
	$(BIN)/python -m tests.bench.threads
	$(BIN)/python -m tests.bench.memory
	$(BIN)/python -m tests.bench.upstream
	$(BIN)/python -m tests.bench.vectors
	$(BIN)/python -m tests.bench.spikes
	$(BIN)/python -m tests.bench.spiking_network
	$(BIN)/python -m tests.bench.spikes_on_cores
	$(BIN)/python -m tests.bench.tuning

format: $(VENV)/installed-test
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bnncc needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $(VENV)/installed $@
