# make demo   the research agent, killed and resumed
# make test   lint, types and every test; installs what it needs
# make bench  ratios against a floor, in one run; ARGS="--json FILE --only growth"
# make docs   the site, in build/site
# make wasm   the Pyodide distribution, in wasm/dist; make bench-wasm measures it

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Hundreds of tests start a process; where images of containers forbid bytecode, each would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test docs release installed coverage lint types unit versions wasm test-pyodide test-browser bench bench-wasm \
	bench-servers test-workers bench-workers test-servers test-postgres test-redis test-handoff soak exhaustive soak-servers simulate mutants fuzz bench-peers clean

demo: $(READY)
	$(BIN)/python examples/demo.py

# Two at a time, one for each of two cores, begun in this order: what is quick to say no, then the longest. What several of
# them need is made before, so that no two make it at once.
SHARES := lint types test-browser versions unit test-pyodide test-workers test-servers test-handoff

test: $(READY)
	$(MAKE) --jobs=2 --output-sync=target ready-wasm ready-workers
	$(MAKE) --jobs=2 --output-sync=target $(SHARES:%=timed-%)

# Both of the first use apt, which is one at a time.
ready-wasm: $(READY)
	sh tests/servers/install.sh
	$(MAKE) -C wasm ready

ready-workers: $(READY)
	$(MAKE) -C wasm/workers workers

# A share, and how long it took beside the others: what to look at when the whole takes longer than 15 minutes. What it
# prints is kept in build/shares while it runs: of one that never ends .ci/run shows where it was. Where ten tests have
# failed a share ends: a server or a browser that is gone would keep each of the others waiting.
timed-%:
	@mkdir -p build/shares
	@begun=$$(date +%s); PYTEST_ADDOPTS="--maxfail=10 --durations=30 --durations-min=2" $(MAKE) $* > build/shares/$*.running 2>&1; code=$$?; mv build/shares/$*.running build/shares/$*.txt; \
		cat build/shares/$*.txt; echo "$*: $$(($$(date +%s) - begun)) s"; exit $$code

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "the venv module is needed: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev,demo]'
	@touch $(READY)

# The site, in build/site; a warning is an error. tests/test_docs_site.py builds it too, and looks at what came of it.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "build/site/index.html"

# What a release uploads, in dist/, built and checked; docs/releasing.md. Then the wheel on each CPython that is found.
release:
	sh tools/release/build.sh

installed:
	sh tools/release/installed.sh

# Lines and branches that the tests reach, by package, with a floor for each (pyproject.toml); ten minutes and more.
coverage: $(READY)
	@$(BIN)/python -c 'import coverage' 2>/dev/null || $(BIN)/python -m pip install --quiet 'coverage>=7.6'
	mkdir -p build/coverage
	$(BIN)/python -m coverage run -m pytest tests $(APART:%=--ignore=tests/%) $(UNCOUNTED:%=--ignore=tests/%)
	$(BIN)/python -m tools.coverage_floors

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy
	$(BIN)/pyright

# Those that need a browser, workerd or a server have targets of their own.
APART := wasm workers handoff servers
# Run in processes of their own, or by minutes: where lines are counted they say nothing more.
UNCOUNTED := mutants simulator simulation examples fuzz test_docs_site.py test_readme.py test_typing.py

unit: $(READY)
	$(BIN)/python -m pytest tests $(APART:%=--ignore=tests/%)

# The kernel's tests on every other CPython that is found; .venv is the one that runs everything.
versions: $(READY)
	sh tests/versions.sh

# Pyodide under Node and in Chromium; wasm/Makefile has a venv of its own, for CPython 3.12 or newer.
wasm test-pyodide test-browser bench-wasm:
	$(MAKE) -C wasm $@

test-browser: $(READY)

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

# Real kills for HOURS over STORES, each in turn: file,postgres,redis,workerd,chromium; with a table of what was lost.
soak: $(READY)
	sh tests/servers/install.sh
	$(if $(findstring chromium,$(STORES)),$(MAKE) -C wasm ready)
	$(if $(findstring workerd,$(STORES)),$(MAKE) -C wasm/workers workers)
	$(BIN)/python -m tests.soak --hours $(or $(HOURS),1) --stores $(STORES)

STORES ?= file,postgres,redis,workerd,chromium

# Every fault at every callback, pairs of crashes, random moves, and the tests inside Pyodide in every combination:
# half an hour.
exhaustive: $(READY)
	ALKALINE_EXHAUSTIVE=1 $(BIN)/python -m pytest tests/simulation/test_exhaustive.py tests/simulation/test_moves.py
	ALKALINE_EVERYWHERE=1 sh tests/versions.sh
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

# Small bugs put in one at a time, and what catches each; ARGS="--only WORDS --jobs 2 --schedules 1500".
mutants: $(READY)
	$(BIN)/python -m tests.mutants $(ARGS)

# Every reader of bytes from outside, guided by coverage; MINUTES for all of them together.
fuzz: $(READY)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet atheris
	$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),12) $(ARGS)

bench: $(READY)
	$(BIN)/python -m tests.benchmarks.bench $(ARGS)

# The same jobs with other engines, each in a venv of its own, in one run; ARGS="--rounds 5 --only DBOS".
bench-peers: $(READY)
	$(BIN)/python -m tests.benchmarks.peers $(ARGS)

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
