# One virtual environment, .venv, with every extra and all the tools. Each target makes it when it is not there.

PYTHON ?= python3
BIN := .venv/bin

# Whoever names tests names some of one part only, and pytest ends with 5 where it is left with none.
OR_NONE := $(if $(ARGS),|| [ $$? -eq 5 ])

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint types faults fuzz bench bench-schedules bench-webhook clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.installed ## Run the demo: web application, worker and beat in one process (PORT=8080, ARGS)
	$(BIN)/python -m portico_celery demo $(ARGS)

# Most tests wait for others more than they compute; the fault tests need what they share.
test: .venv/.installed ## Run the tests and report their coverage (ARGS="-k name")
	$(BIN)/python -m pytest --numprocesses=4 --dist=loadfile --no-loadscope-reorder --ignore=tests/faults --cov --cov-report= $(ARGS) $(OR_NONE)
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --cov --cov-append --cov-report=term --durations=10 tests/faults $(ARGS) $(OR_NONE)

lint: .venv/.installed ## Check style, format, types and the rules of who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

types: .venv/.installed ## Check the types alone
	$(BIN)/mypy

faults: .venv/.installed ## Run the fault tests at full size, which takes long, and write docs/fault-figures.md (ARGS="-k f07")
	PORTICO_FAULTS=full $(BIN)/python -m pytest --timeout=0 tests/faults $(ARGS)

fuzz: .venv/.installed ## Feed the webhook with anything: 1,000 examples for each address, 100,000 for what reads bytes
	PORTICO_SCHEMATHESIS_EXAMPLES=1000 $(BIN)/python -m pytest --timeout=0 tests/unit/webhook/test_openapi.py $(ARGS) $(OR_NONE)
	PORTICO_HYPOTHESIS_EXAMPLES=100000 $(BIN)/python -m pytest --timeout=0 --numprocesses=auto tests/unit/webhook/test_strict_json.py \
		tests/unit/webhook/test_verification.py $(ARGS) $(OR_NONE)

bench: .venv/.installed ## Measure beside plain Celery, on a running RabbitMQ (ARGS="--jobs 2000")
	$(BIN)/python -m benchmarks.create_and_run $(ARGS)

bench-schedules: .venv/.installed ## Measure how late schedules fire, and what many of them cost (ARGS="--fires 50")
	$(BIN)/python -m benchmarks.schedules $(ARGS)

bench-webhook: .venv/.installed ## Measure the webhook beside a plain Flask view, with wrk (ARGS="--rounds 5")
	$(BIN)/python -m benchmarks.webhook $(ARGS)

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
