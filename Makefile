# The same checks as `python -m tests`, one target each. On Windows call `python -m tests` itself.
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.DEFAULT_GOAL := help
.PHONY: help install run check format lint types layers test figures requirements clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install:  ## make .venv with everything that development needs
	python3 -m venv .venv
	.venv/bin/python -m pip install -e ".[dev]"

run:  ## start the app
	$(PYTHON) app.py

check:  ## format, lint, types, import layers, tests: what CI runs
	$(PYTHON) -m tests

format:  ## format the code
	$(PYTHON) -m ruff check --fix-only .
	$(PYTHON) -m ruff format .

lint types layers:
	$(PYTHON) -m tests $@

test:  ## the tests alone
	$(PYTHON) -m tests tests

figures:  ## measure the figures of the README and the guides on this machine
	$(PYTHON) -m tests.figures

requirements:  ## write requirements.txt from pyproject.toml
	$(PYTHON) -m tests.requirements

clean:  ## remove caches and builds
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
