# Needs make, Python 3.11 or newer, and a Python package index that pip can reach.
# PYTHON=python3.12 picks another interpreter for a new .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Byte-compiling every file of every package would double the time; Python compiles what it imports.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt
SOURCES := src tests benchmarks
# The folder with gail_experts/ for the benchmarks that need it: make benchmarks DATA=…
DATA ?=
PYTEST_FLAGS ?= --numprocesses 2 --dist worksteal

.PHONY: help demo venv test test-learning golden check format benchmarks constraints clean
.DELETE_ON_ERROR:

help:
	@echo "make demo           train a small expert, imitate it, write runs/demo/report.html"
	@echo "make test           run the tests"
	@echo "make check          formatting, lint, types and layers"
	@echo "make format         format the code and fix what lint can"
	@echo "make venv           set up everything that tests and benchmarks need in .venv"
	@echo "make golden         write the golden numbers again; the changelog must then say so"
	@echo "make test-learning  train on real tasks and compare with stored bands (long)"
	@echo "make benchmarks     measure what is missing and write docs/benchmarks.md (long)"
	@echo "make constraints    resolve constraints.txt anew"
	@echo "make clean          remove .venv and caches; runs/ stays"

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) here: install Python 3.11 or newer, or name one with 'make PYTHON=…'." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1): menura needs Python 3.11 or newer, so name one with 'make PYTHON=…'." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# What the demo needs.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[viz]'
	@touch $@

# What tests, checks and benchmarks need: a smaller .venv is upgraded.
$(VENV)/.full: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[all,dev]'
	@touch $(VENV)/.demo $@

demo: $(VENV)/.demo
	$(BIN)/menura demo

venv: $(VENV)/.full

test: $(VENV)/.full
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

test-learning: $(VENV)/.full
	$(BIN)/python -m pytest -m learning

golden: $(VENV)/.full
	MENURA_WRITE_GOLDEN=1 $(BIN)/python -m pytest tests/golden

check: $(VENV)/.full
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(VENV)/.full
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

benchmarks: $(VENV)/.full
	$(BIN)/python benchmarks/run_all.py $(if $(DATA),--data $(DATA)); status=$$?; \
		$(BIN)/python benchmarks/render.py && exit $$status

constraints: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header --upgrade \
		--extra all --extra dev pyproject.toml --output-file constraints.txt

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
