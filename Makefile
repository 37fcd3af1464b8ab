# Every target sets itself up: `.venv` is made once from the hashes in requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEER := .venv-checkmaite
PEER_READY := $(PEER)/.ready
DUCKDB15 := .venv-duckdb15
DUCKDB15_READY := $(DUCKDB15)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo dev api sql test test-slow test-postgres test-ui test-checkmaite test-duckdb15 lint types format bench lock clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version). Use: make PYTHON=/path/to/python3.11 …"; exit 1; }
	@echo "Setting up $(VENV) (once, about a minute) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## fill the store from three sample Postgres databases, then show what is in it
	@$(BIN)/python -m analytics_pipeline.demo

dev: $(READY) ## open the Dagster UI on http://localhost:3000
	@$(BIN)/dagster dev -w workspace.yaml

api: $(READY) ## serve the read API on http://localhost:8000
	@$(BIN)/python -m analytics_pipeline.api

sql: $(READY) ## a SQL prompt on the published store, read-only
	@$(BIN)/python -m analytics_pipeline.store sql

test: $(READY) ## the tests, linters and type checks that run in every build
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@$(BIN)/lint-imports --verbose > /dev/null || $(BIN)/lint-imports
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m pytest -n 3 --dist worksteal -m "not slow and not ui and not postgres"

test-slow: $(READY) ## the suites that take minutes: kill tests at length, large data
	@$(BIN)/python -m pytest -m slow

test-postgres: $(READY) ## the suites that read a source, on Debian's PostgreSQL, PgBouncer, a standby (installs nothing)
	@$(BIN)/python -m analytics_pipeline_tests.servers

test-ui: $(READY) ## the suites in a real browser (Debian's chromium)
	@$(BIN)/python -m pytest -m ui

# The peer of the capability store, over the packages of `.venv`: the libraries that it computes with, several GB, are
# left out (see analytics_pipeline_tests/capabilities/checkmaite_parts.py).
$(PEER_READY): $(READY)
	@rm -rf $(PEER) && $(BIN)/python -m venv $(PEER)
	@echo "import site; site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
	  > "$$($(PEER)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/packages_of_venv.pth"
	@$(PEER)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps checkmaite==0.6.1 maite==0.9.4
	@touch $@

test-checkmaite: $(PEER_READY) ## the capability store together with checkmaite 0.6.1
	@$(PEER)/bin/python -m pytest analytics_pipeline_tests/capabilities/test_checkmaite.py

# The oldest DuckDB that pyproject.toml allows, over the other packages of `.venv`.
$(DUCKDB15_READY): $(READY)
	@rm -rf $(DUCKDB15) && $(BIN)/python -m venv $(DUCKDB15)
	@echo "import site; site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
	  > "$$($(DUCKDB15)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/packages_of_venv.pth"
	@$(DUCKDB15)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-installed duckdb==1.5.5
	@touch $@

test-duckdb15: $(DUCKDB15_READY) ## the store, capability, experiment and API suites on DuckDB 1.5.5
	@$(DUCKDB15)/bin/python -m pytest -n 2 --dist worksteal -m "not slow and not ui and not postgres" $(addprefix analytics_pipeline_tests/,store capabilities experiments api)

lint: $(READY) ## ruff and import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

types: $(READY) ## mypy, strict
	@$(BIN)/mypy

format: $(READY) ## let ruff format and fix
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(READY) $(PEER_READY) ## measure against psql COPY and other peers, and write the figures
	@$(BIN)/python benchmarks/full_sync.py
	@$(BIN)/python benchmarks/refresh.py
	@$(BIN)/python benchmarks/commit.py
	@$(BIN)/python benchmarks/api.py
	@$(BIN)/python benchmarks/human_signals.py
	@$(BIN)/python benchmarks/capabilities.py
	@$(BIN)/python benchmarks/experiments.py
	@$(BIN)/python benchmarks/objects.py
	@$(BIN)/python benchmarks/imports.py

lock: $(READY) ## renew requirements.lock from pyproject.toml (needs uv)
	@uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate --no-strip-extras --upgrade -o requirements.lock

clean: ## stop the sample Postgres, remove the environment, the store and all caches
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m analytics_pipeline.sample stop; fi
	rm -rf $(VENV) $(PEER) $(DUCKDB15) .venv-mltraq .analytics .dagster .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
