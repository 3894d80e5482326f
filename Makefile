# One virtual environment, .venv, with every extra and all the tools. Each target makes it when it is not there.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint types faults bench clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.installed ## Run the demo: web application, worker and sweep in one process (PORT=8080, ARGS)
	$(BIN)/python -m portico_celery demo $(ARGS)

test: .venv/.installed ## Run the tests and report their coverage (ARGS="-k name")
	$(BIN)/python -m pytest --cov --cov-report=term $(ARGS)

lint: .venv/.installed ## Check style, format, types and the rules of who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

types: .venv/.installed ## Check the types alone
	$(BIN)/mypy

faults: .venv/.installed ## Run the fault tests at their full size, which takes long (ARGS="-k f07")
	PORTICO_FAULTS=full $(BIN)/python -m pytest --timeout=0 tests/faults $(ARGS)

bench: .venv/.installed ## Measure beside plain Celery, on a running RabbitMQ (ARGS="--jobs 2000")
	$(BIN)/python -m benchmarks.create_and_run $(ARGS)

clean: ## Remove the virtual environment and all that the tools have left
	rm -rf .venv .coverage .coverage.* htmlcov dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so that an interrupted installation is taken up again, and a finished one is left alone.
.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "portico-celery needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all,dev]'
	@touch $@
