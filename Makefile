# Every target makes its own virtual environment first, with the exact versions of constraints.txt.
# Needed: make and Python 3.11 or newer with its venv module. `make help` lists the targets.

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell \
	$(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
DEMO ?= demo
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
CONSTRAIN := $(if $(CONSTRAINTS),--constraint $(abspath $(CONSTRAINTS)))
BUILD_CONSTRAIN := $(if $(CONSTRAINTS),--build-constraint $(abspath $(CONSTRAINTS)))
unexport PYTHONPATH

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-full lint format bench bench-million wheel-test clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# The package alone: what a user has, and what the demo needs.
$(VENV)/.package: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found: install one, or say make PYTHON=/its/path." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(CONSTRAIN) pip
	$(PIP) install --quiet $(CONSTRAIN) $(BUILD_CONSTRAIN) --editable .
	@touch $@

# All extras and the tools of the developer.
$(VENV)/.dev: $(VENV)/.package
	$(PIP) install --quiet $(CONSTRAIN) $(BUILD_CONSTRAIN) --editable '.[all]' --group dev
	@touch $@

demo: $(VENV)/.package ## simulate a study and take it from waveforms to the report
	$(BIN)/specufex-dask demo --path $(DEMO)

test: $(VENV)/.dev ## the tests and doctests that are not slow
	$(BIN)/python -m pytest -m "not slow and not benchmark" $(PYTEST_ARGS)

test-slow: $(VENV)/.dev ## the slow tests
	$(BIN)/python -m pytest -m "slow and not benchmark" $(PYTEST_ARGS)

test-full: test test-slow ## all tests

lint: $(VENV)/.dev ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.dev ## let ruff rewrite what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.dev ## the benchmarks, in minutes; their figures end in .benchmarks/figures.txt
	$(BIN)/python -m pytest tests/benchmarks -m "benchmark and not million" --benchmark-columns=min,median,max,rounds $(PYTEST_ARGS)

bench-million: $(VENV)/.dev ## a million records, in half an hour; needs 16 GB of disk (TMPDIR says where)
	$(BIN)/python -m pytest tests/benchmarks -m million --figures .benchmarks/million.txt $(PYTEST_ARGS)

wheel-test: $(VENV)/.dev ## install the wheel alone in a clean environment and run its demo
	dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT \
		&& PIP_CONSTRAINT=$(abspath $(CONSTRAINTS)) $(BIN)/python -m build --wheel --outdir "$$dir" . \
		&& $(PYTHON) -m venv "$$dir/env" \
		&& "$$dir/env/bin/python" -m pip install --quiet $(CONSTRAIN) "$$dir"/*.whl \
		&& cd "$$dir" && env/bin/specufex-dask demo --path demo && test -s demo/report.html

clean: ## remove what make made
	rm -rf $(VENV) $(DEMO) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find specufex_dask tests -name __pycache__ -prune -exec rm -rf {} +
