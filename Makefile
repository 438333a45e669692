# The front door: `make help`. CI runs the same targets.
SHELL := /bin/bash
PYTHON ?= $(or $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] <= (3,13))' 2>/dev/null && { echo $$p; break; }; done),python3)
BIN := .venv/bin
NAME ?=
TESTS ?=
# the tests that share a real Kubernetes control plane: a part of their own
PODS := $(wildcard tests/integration/benchmarks tests/integration/compute/kubelet \
  tests/integration/compute/sites/*slurm* tests/integration/testkit)

.DEFAULT_GOAL := help
.PHONY: help install install-servers build-begins build-resumes servers debian demo up \
  test test-light test-pods test-fast check fix tidy bench docs requirements clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

debian: ## install the Debian packages (root or passwordless sudo), or say what is missing
	@bash scripts/install-debian

install: debian .venv/installed ## set everything up in .venv

# the build is the longest: begun first, begun again should it want a package, waited for at the end
install-servers: build-begins debian build-resumes .venv/installed servers ## install, and build the tests' Kubernetes

build-begins build-resumes:
	@[ -n "$$TWINFRA_TEST_KUBECONFIG" ] || { PYTHON=$(PYTHON) nice -n 10 bash scripts/build-kubernetes \
	  </dev/null >/dev/null 2>&1 & }

servers: ## build the tests' Kubernetes, once, unless TWINFRA_TEST_KUBECONFIG names a cluster
	@[ -n "$$TWINFRA_TEST_KUBECONFIG" ] || PYTHON=$(PYTHON) bash scripts/build-kubernetes

.venv/installed: requirements/uv.txt requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.txt requirements/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: install ## run the climate twin on a federation of three sites, here
	$(BIN)/python examples/climate-twin/demo.py

up: install ## keep a federation running until Ctrl-C
	$(BIN)/twinfra up

test: $(if $(TESTS),install,install-servers) ## set everything up and pass every test
ifeq ($(TESTS),)
	$(MAKE) --no-print-directory test-light test-pods
else
	$(BIN)/python -m pytest $(TESTS)
endif

test-light: install ## every test that needs no Kubernetes
	$(BIN)/python -m pytest -n 2 -q tests --ignore=tests/e2e $(PODS:%=--ignore=%)
	$(BIN)/python -m pytest -q tests/e2e

test-pods: install-servers ## the tests on a real Kubernetes control plane
	$(BIN)/python -m pytest -n 2 -q $(PODS)

test-fast: install ## unit, contract and tidy tests only
	$(BIN)/python -m pytest -n 2 tests/unit tests/contract tests/tidy

check: install ## lint, types, imports, house style, docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/tidy
	$(MAKE) --no-print-directory docs

fix: install ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

tidy: install ## print the sizes that stand above the house's aims
	$(BIN)/python scripts/sizes.py

bench: install ## run the benchmarks, or one: make bench NAME=cli/help
	$(BIN)/python -m benchmarks $(NAME)

docs: install ## build the documentation, warnings are errors
	$(BIN)/python scripts/reference.py
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

requirements: ## write the pinned, hashed requirements anew
	bash scripts/lock-requirements

clean: ## remove what was made here
	rm -rf .venv .demo demo-out docs/_build .mypy_cache .ruff_cache .pytest_cache
