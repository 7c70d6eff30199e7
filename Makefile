# Two commands do everything: `make run` and `make test`. Nothing here needs Docker, root or a key.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.octopus-installed
# Two fifths of all that is installed, and nothing that the job imports: compiled when somebody does.
UNUSED := /tests/|/(transformers|plotly|databricks|mypy|pip)/

.PHONY: help setup run up style test test-all bench bench-quality bench-texts bench-warehouse bench-features bench-backtests mutations lint format nlp timescaledb clean bench-gates bench-portfolio bench-order-path peers

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP)  ## make .venv from the lock (about three minutes the first time)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); sys.exit(0 if ok else "Octopus needs Python 3.11 to 3.13, this is " + sys.version.split()[0] + "; say make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV) from requirements.lock ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q -j 0 -x '$(UNUSED)' $(VENV)/lib octopus octopus_pipelines assets resources > /dev/null || true
	@touch $@

run: setup  ## the main job on the embedded database: from raw data to reconciled paper orders
	@$(BIN)/octopus run

up: setup  ## Dagster and MLflow in the browser, until Ctrl-C
	@$(BIN)/octopus up

lint: style  ## style, the arrows between the floors and types
	$(BIN)/mypy

style: setup  ## style and the arrows between the floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# mypy takes a minute of one processor: it runs beside the tests, and what it says comes after theirs.
define tested
	@said=$$(mktemp); $(BIN)/mypy > $$said 2>&1 & types=$$!; \
	trap 'kill $$types; exit 130' INT; \
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(1) $(PYTEST); tests=$$?; \
	wait $$types; typed=$$?; cat $$said; rm $$said; test $$tests -eq 0 -a $$typed -eq 0
endef

test: style  ## style, types, imports and all tests but the slow proof
	$(call tested,-m "not slow")

test-all: style  ## the same and the slow proof
	$(call tested)

bench: setup  ## every measurement beside named peers (half an hour); the first part writes benchmarks/out/results.json
	$(BIN)/python -m benchmarks
	@$(MAKE) --no-print-directory bench-portfolio bench-gates bench-order-path bench-features bench-backtests
	@if [ -d "$${OCTOPUS_TEST_DATA:-../shared/data}" ]; then $(MAKE) --no-print-directory bench-quality bench-texts; \
	else echo "bench-quality and bench-texts need recorded data: set OCTOPUS_TEST_DATA"; fi
	@if [ -d .timescaledb/root ]; then $(MAKE) --no-print-directory bench-warehouse; \
	else echo "bench-warehouse needs a TimescaleDB: make timescaledb"; fi

bench-quality: setup  ## recall and false alarms of the defect detectors on recorded data (some minutes)
	$(BIN)/python -m benchmarks.quality

bench-texts: setup  ## how well texts are read: tone, instruments, copies, on recorded texts
	$(BIN)/python -m benchmarks.texts

bench-warehouse: setup  ## appends into a real TimescaleDB beside a bare COPY and an upsert; needs `make timescaledb`
	@OCTOPUS_TEST_TIMESCALE_URL="$$(deploy/timescaledb/dev-server start)" $(BIN)/python -m benchmarks.warehouse

peers: setup  ## other projects to measure beside, each in .peers/NAME from its own lock (some minutes, 4 GB)
	$(BIN)/python -m benchmarks.peers

bench-features: setup  ## Alpha158 beside Qlib (needs `make peers`)
	$(BIN)/python -m benchmarks.features

bench-backtests: setup  ## a daily rebalance, a sweep and an oracle beside vectorbt, zipline, bt and backtesting.py (needs `make peers`)
	$(BIN)/python -m benchmarks.backtests

mutations: setup  ## plant faults in the order path and its gates: each must fail a named test (some minutes)
	$(BIN)/python -m benchmarks.mutations

bench-gates: setup  ## the gates over batches of 500 orders, alone and with reading a warehouse
	$(BIN)/python -m benchmarks.gates

bench-order-path: setup  ## from a committed intent to the broker's call, beside the bare commits it makes (a minute)
	$(BIN)/python -m benchmarks.order_path

bench-portfolio: setup  ## minimum variance, CVaR and risk parity beside skfolio, Riskfolio-Lib and PyPortfolioOpt (needs `make peers`)
	$(BIN)/python -m benchmarks.portfolio

nlp: setup  ## torch for FinBERT and for the tests of that path
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0

timescaledb:  ## a real TimescaleDB in .timescaledb (Debian, root), for the tests
	deploy/timescaledb/dev-server setup

format: setup  ## let ruff rewrite style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what was built, but no data
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
