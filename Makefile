# What a newcomer runs, and the gate that every change passes. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

MODE ?= gevent
PORT ?= 8000
JOBS ?= 4
CORES ?= $(shell nproc)
SECONDS := 45
SEED := 1
STORE :=
WORKER :=
BROKER :=
POOL :=
OLD :=
ROUNDS := 6
RELEASE :=
PYTEST_ARGS :=
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

ifeq ($(filter gevent threading processing celery,$(MODE)),)
$(error MODE: expected gevent, threading, processing or celery, got '$(MODE)')
endif

VENV := .venv
comma := ,
BIN := $(VENV)/bin
# A plain path entry instead of an import hook: type checkers can follow it.
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input \
	--config-settings editable_mode=compat -e
PYTEST := $(BIN)/python -m pytest -q --dist worksteal
# Tests with real servers wait most of their time; the others need a core each.
UNIT := $(PYTEST) -n $(CORES) -m "not server"
SERVER := $(PYTEST) -n $(JOBS) -m "server and not broker and not long"
SOURCES := pulse tests examples docs bench setup.py gunicorn.conf.py

define say
@echo "==> $(1)"
endef

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/$(if $(filter celery,$(MODE)),celery,demo).stamp ## start a site with a dashboard: MODE=gevent, threading, processing or celery; PORT=8000
	$(call say,http://127.0.0.1:$(PORT)/_pulse/ is the dashboard; Ctrl-C stops)
ifeq ($(MODE),celery)
	$(call say,a shop under 4 gunicorn workers$(comma) whose ticks run on a Celery worker; mode celery)
	@PORT=$(PORT) exec $(BIN)/python -m examples.demo.with_celery
else
	$(call say,a shop under 4 gunicorn workers$(comma) one of which runs each tick; mode $(MODE))
	@MODE=$(MODE) PORT=$(PORT) exec $(BIN)/gunicorn --config gunicorn.conf.py \
		--paste examples/demo/demo.ini
endif

.PHONY: test
test: $(VENV)/all.stamp ## run the whole test suite
	$(call say,tests)
	@$(UNIT)
	$(call say,tests with real servers)
	@$(SERVER)

.PHONY: test-unit
test-unit: $(VENV)/all.stamp ## run the tests that start no server
	@$(UNIT)

.PHONY: test-celery
test-celery: $(VENV)/all.stamp ## run every fault of a site with Celery workers, on each broker and pool
	$(call say,faults of brokers and Celery workers; this takes some minutes)
	@$(PYTEST) -n $(JOBS) -m broker

.PHONY: test-long
test-long: $(VENV)/all.stamp ## run the variants of long tests that the gate leaves out
	$(call say,variants of long tests; this takes some minutes)
	@$(PYTEST) -n $(JOBS) -m long

.PHONY: test-zones
test-zones: $(VENV)/all.stamp ## hold cron against every time zone and every clock change to 2037
	$(call say,cron in every time zone; this takes some minutes)
	@PULSE_ZONES=all $(UNIT) tests/unit/schedule

.PHONY: test-debian
test-debian: ## run the suite on another Debian release, in a chroot: RELEASE=trixie; needs root
	@test -n "$(RELEASE)" || { echo "RELEASE: expected the name of a Debian release: make test-debian RELEASE=trixie" >&2; exit 1; }
	@.ci/test-debian $(RELEASE) $(PYTEST_ARGS)

.PHONY: check
check: lint imports types news docs coverage chaos ## the gate: lint, format, import contracts, types, changelog, docs, tests, chaos
	$(call say,all is well)

.PHONY: lint
lint: $(VENV)/all.stamp ## check style and format
	$(call say,lint and format)
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .

.PHONY: imports
imports: $(VENV)/all.stamp ## check that modules import downward only
	$(call say,import contracts)
	@$(BIN)/lint-imports --no-cache --no-logo > $(VENV)/imports.log \
		|| { cat $(VENV)/imports.log; exit 1; }

.PHONY: types
types: $(VENV)/all.stamp ## check types, and that the public ones are complete
	$(call say,types)
	@$(BIN)/mypy --no-error-summary --cache-dir $(VENV)/mypy
	@PATH="$(abspath $(BIN)):$$PATH" pyright --verifytypes pulse --ignoreexternal \
		> $(VENV)/types.log || { cat $(VENV)/types.log; exit 1; }

.PHONY: news
news: $(VENV)/all.stamp ## check that the fragments in changes/ make a changelog
	$(call say,changelog fragments)
	@$(BIN)/towncrier build --draft --version 0 > $(VENV)/news.log 2>&1 \
		|| { cat $(VENV)/news.log; exit 1; }

.PHONY: docs
docs: $(VENV)/all.stamp ## build the documentation into docs/_build/html; a warning is an error
	$(call say,documentation)
	@$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

.PHONY: screenshots
screenshots: $(VENV)/all.stamp ## write pictures of the dashboard into docs/_build/screenshots; needs chromium
	@$(BIN)/python -m tests.browser.screenshots docs/_build/screenshots

.PHONY: coverage
coverage: $(VENV)/all.stamp ## run the tests and demand 95 % branch coverage
	$(call say,tests with coverage)
	@$(UNIT) --cov --cov-report=
	$(call say,tests with real servers and coverage)
	@$(SERVER) --cov --cov-append --cov-report=term --cov-fail-under=95

.PHONY: chaos
chaos: $(VENV)/all.stamp ## kill, stop and restart real fleets, and judge them: SECONDS, SEED, STORE, WORKER, BROKER, POOL, HOSTS, WORKERS
	$(call say,chaos for $(SECONDS) s)
	@$(BIN)/python -m tests.chaos.run --seconds $(SECONDS) --seed $(SEED) \
		$(if $(STORE),--store $(STORE)) $(if $(WORKER),--worker $(WORKER)) \
		$(if $(BROKER),--broker $(BROKER)) $(if $(POOL),--pool $(POOL)) \
		$(if $(HOSTS),--hosts $(HOSTS)) $(if $(WORKERS),--workers $(WORKERS))

.PHONY: bench
bench: $(VENV)/bench.stamp ## run the benchmarks and print their tables
	@for script in $(filter-out bench/compare.py bench/idle_fleet.py,$(wildcard bench/*.py)); do printf '\n%s\n\n' "$$script"; $(BIN)/python "$$script"; done

.PHONY: compare
compare: $(VENV)/bench.stamp ## measure this checkout beside an older one: OLD, ROUNDS
	@$(BIN)/python bench/compare.py $(OLD) --rounds $(ROUNDS)

.PHONY: tables
tables: $(VENV)/all.stamp ## write the README's tables of settings anew
	@$(BIN)/python docs/_ext/settings_table.py README.md

.PHONY: format
format: $(VENV)/all.stamp ## put the code into its format
	@$(BIN)/ruff format -q .

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf $(VENV) .chaos examples/*/.demo build dist docs/_build htmlcov .coverage .coverage.* \
		.mypy_cache .ruff_cache .hypothesis *.egg-info

# The environment is made when it is not there, and brought up to date when pyproject.toml is newer.

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer was found; name one: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual" \
		"environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(call say,a virtual environment in $(VENV))
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/demo.stamp: pyproject.toml | $(BIN)/python
	$(call say,installing pulse and what the demo needs)
	@$(INSTALL) '.[gevent,cli,dashboard]'
	@touch $@

$(VENV)/celery.stamp: pyproject.toml | $(BIN)/python
	$(call say,installing pulse and what the demo needs with Celery)
	@$(INSTALL) '.[gevent,cli,dashboard,celery,redis]'
	@touch $@ $(VENV)/demo.stamp

$(VENV)/all.stamp: pyproject.toml | $(BIN)/python
	$(call say,installing pulse and what its tests and documentation need)
	@$(INSTALL) '.[gevent,test,docs]'
	@touch $@ $(VENV)/demo.stamp $(VENV)/celery.stamp

$(VENV)/bench.stamp: pyproject.toml | $(BIN)/python
	$(call say,installing pulse and what its benchmarks need)
	@$(INSTALL) '.[gevent,bench]'
	@touch $@ $(VENV)/demo.stamp
