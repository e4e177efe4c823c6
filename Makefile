# Every target works on a fresh machine with Python 3.11+, make and the package registries: it builds its own .venv.
# Rule: a target is one line that says what it is for, and `make help` prints it.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash

# The first Python that is new enough, unless you name one: make PYTHON=/opt/python/bin/python3.12 test
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
	if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$name; exit; fi; done; echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

# How many schedules `make crash` kills, how many `make check` does, and how many tests run side by side (most of them wait).
N ?= 300
SEED ?=
JOBS ?= 4
export BATCHWRIGHT_CRASH_SCHEDULES = $(N)
ifneq ($(SEED),)
export BATCHWRIGHT_SEED = $(SEED)
endif

.PHONY: help install demo test lint types arch docs bench crash check clean format

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do printf '  make %-8s %s\n' "$$name" "$$what"; done

install: $(VENV)/.installed-dev  ## build .venv with the package and all development tools

demo: $(VENV)/.installed  ## load 336,776 flights, kill the run half-way, run it again, prove that nothing differs
	@$(BIN)/python examples/demo.py

test: $(VENV)/.installed-dev  ## run all tests but those that kill processes (minutes)
	$(PYTEST) tests --ignore=tests/crash -n $(JOBS) --dist worksteal

lint: $(VENV)/.installed-dev  ## formatting and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/.installed-dev  ## put formatting and what style can be mended by itself in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.installed-dev  ## mypy strict, and every public name typed
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/pyright --verifytypes batchwright --ignoreexternal --pythonpath $(BIN)/python

arch: $(VENV)/.installed-dev  ## layers, who may import what, sizes, names
	$(BIN)/lint-imports --no-cache
	$(PYTEST) tests/architecture

docs: $(VENV)/.installed-dev  ## run every code block of README.md and docs/
	$(PYTEST) tests/docs

bench: $(VENV)/.installed-dev  ## measure speed and memory: against the loop written by hand, runners, partitions
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/runners.py
	$(BIN)/python benchmarks/partitions.py

crash: $(VENV)/.installed-dev  ## kill real processes: `make crash N=10000 SEED=7`
	$(PYTEST) tests/crash -n $(JOBS) --dist worksteal

check: lint types $(VENV)/.installed-dev  ## everything that must hold before a change goes in (under 15 minutes)
	$(BIN)/lint-imports --no-cache
	$(BIN)/python benchmarks/run.py --quick
	$(PYTEST) tests -n $(JOBS) --dist worksteal

clean:  ## remove .venv, caches and the demo's output
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml
	@test -x $(BIN)/python || $(MAKE) venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml
	@test -x $(BIN)/python || $(MAKE) venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(VENV)/.installed $@

.PHONY: venv
venv:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed; $(PYTHON) is {v.major}.{v.minor}; name another with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
