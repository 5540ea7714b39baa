# `make demo` and `make test` each see to a virtual environment first, so that they also work where the system's Python
# is externally managed. Choose another interpreter with `make test PYTHON=python3.12`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TESTS ?= tests

.PHONY: demo test portable lint types floors docs clean

demo: $(VENV)/.demo
	$(BIN)/tacit demo --out demo

test: lint types floors docs
	$(BIN)/python -m pytest -m "not slow"

# The tests as other processors run them: other kernels, and sums in another order. CI leaves this out.
portable: $(VENV)/.test
	set -e; for kernels in "ATEN_CPU_CAPABILITY=default" "ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2" ""; do \
		for threads in 1 2; do \
			echo "$$kernels OMP_NUM_THREADS=$$threads"; \
			env $$kernels OMP_NUM_THREADS=$$threads $(BIN)/python -m pytest -m "not slow" $(TESTS); \
		done; \
	done

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

floors: $(VENV)/.test
	$(BIN)/lint-imports

docs: $(VENV)/.test
	$(BIN)/zensical build --clean --strict

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[hf]'
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[all,test,docs]'
	touch $@

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tacit needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) site demo dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
