# make demo   the research agent, killed and resumed
# make test   lint, types and every test; installs what it needs
# make bench  ratios against a floor, in one run
# make wasm   the Pyodide distribution, in wasm/dist; make bench-wasm measures it

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lane-python lane-runtimes lint types unit versions wasm test-pyodide test-browser bench bench-wasm \
	bench-servers test-workers bench-workers test-servers test-postgres test-redis test-handoff soak soak-servers simulate clean

demo: $(READY)
	$(BIN)/python examples/demo.py

# Two lanes at a time, one for each of two cores. What both of them need is made before.
test: $(READY)
	$(MAKE) -C wasm ready
	$(MAKE) --jobs=2 --output-sync=target lane-python lane-runtimes

lane-python:
	@$(MAKE) --jobs=1 lint types unit versions test-servers test-handoff

lane-runtimes:
	@$(MAKE) --jobs=1 test-workers test-browser test-pyodide

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "the venv module is needed: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev,demo]'
	@touch $(READY)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy
	$(BIN)/pyright

# Those that need a browser, workerd or a server have targets of their own.
APART := wasm workers handoff servers

unit: $(READY)
	$(BIN)/python -m pytest tests $(APART:%=--ignore=tests/%)

# The kernel's tests on every other CPython that is found; .venv is the one that runs everything.
versions: $(READY)
	sh tests/versions.sh

# Pyodide under Node and in Chromium; wasm/Makefile has a venv of its own, for CPython 3.12 or newer.
wasm test-pyodide test-browser bench-wasm:
	$(MAKE) -C wasm $@

# The real workerd.
test-workers bench-workers: $(READY)
	$(MAKE) -C wasm/workers $@

# A Postgres and a Redis of the tests' own.
test-servers: $(READY)
	sh tests/servers/install.sh
	@$(MAKE) --jobs=2 test-postgres test-redis

# Both wait for disks and clocks most of the time, so they go together.
test-postgres: $(READY)
	$(BIN)/python -m pytest tests/servers -k postgres

test-redis: $(READY)
	$(BIN)/python -m pytest tests/servers -k "not postgres"

# One run from Chromium by way of workerd to Postgres and into a file.
test-handoff: $(READY)
	sh tests/servers/install.sh
	$(MAKE) -C wasm ready
	$(MAKE) -C wasm/workers workers
	$(BIN)/python -m pytest tests/handoff

# Every fault at every callback, pairs of crashes, random moves, and the tests inside Pyodide in every combination:
# half an hour.
soak: $(READY)
	ALKALINE_EXHAUSTIVE=1 $(BIN)/python -m pytest tests/simulation/test_exhaustive.py tests/simulation/test_moves.py
	$(MAKE) -C wasm test-everywhere

# Workers and their server are killed for minutes behind a bad network; MINUTES, WORKERS and STORE (redis) may be given.
soak-servers: $(READY)
	sh tests/servers/install.sh
	$(BIN)/python -m tests.servers.soak --store $(or $(STORE),postgres) --minutes $(or $(MINUTES),3) \
		--workers $(or $(WORKERS),4)

# Worker processes, take-over, moves and 100,000 runs on a Postgres and a Redis; ARGS="--quick --store redis --only rates".
bench-servers: $(READY)
	sh tests/servers/install.sh
	$(BIN)/python -m tests.benchmarks.bench_servers $(ARGS)

# Random programs over many processes and stores under faults: SCHEDULES of them from SEED on; a failure is shrunk.
simulate: $(READY)
	$(BIN)/python -m tests.simulator --schedules $(or $(SCHEDULES),10000) --seed $(or $(SEED),1)

bench: $(READY)
	$(BIN)/python tests/benchmarks/bench.py

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
