# Everything that a fresh clone needs, with nothing but Python (and its venv module) and make on the machine.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: install demo test test-oldest lint validate faults chaos scenario fuzz benchmark

install: $(STAMP)

# The stamp is written last: an installation that was cut short is done again.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# Dependency groups need pip 25.1.
	$(BIN)/python -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (25, 1))' \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  -e '.[demo]' --group test --group lint
	touch $@

demo: install
	$(BIN)/passari-dagster demo $(ARGS)

test: install
	$(BIN)/python -m pytest -n 5 --dist loadgroup -m 'not faults and not fuzz and not chaos and not scenario' $(ARGS)

# constraints.txt has the newest Dagster of the supported range (pyproject.toml); this is its other end. What depends on
# Dagster's version is tested with it: the run queue and the definitions.
OLDEST_DAGSTER := 1.13.20
OLDEST_LIBRARIES := 0.29.20
OLDEST := .venv-oldest

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest -n 2 --dist loadgroup passari_dagster_tests/run_queue passari_dagster_tests/defs $(ARGS)

$(OLDEST)/.installed: pyproject.toml constraints.txt Makefile
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	sed -E -e 's/^(dagster|dagster-graphql|dagster-pipes|dagster-shared|dagster-webserver)==.*/\1==$(OLDEST_DAGSTER)/' \
	  -e 's/^dagster-postgres==.*/dagster-postgres==$(OLDEST_LIBRARIES)/' constraints.txt > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(OLDEST)/constraints.txt \
	  -e '.[demo]' --group test
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

faults: install
	$(BIN)/python -m pytest -n 3 --dist loadgroup -m faults $(ARGS)

# A catalogue that changes while it is read, by ten seeds (PASSARI_CHAOS_SEEDS).
chaos: install
	$(BIN)/python -m pytest -n 2 -m chaos $(ARGS)

# What an administrator does on a running system, by the UI and by the command line. A worker for each of the systems
# (xdist_group): one that has two tests left gets the next group, and five were given two of the longest in a row.
scenario: install
	$(BIN)/python -m pytest -n 6 --dist loadgroup -m scenario $(ARGS)

# Hostile bytes for PASSARI_FUZZ_SECONDS (60), large files and large packages.
fuzz: install
	$(BIN)/python -m pytest -n 2 -m fuzz $(ARGS)

benchmark: install
	set -e; for file in benchmarks/*.py; do $(BIN)/python $$file $(ARGS); done

# Elsewhere than in the project's folder, whose dagster.yaml asks for a database.
validate: install
	cd docs && PASSARI_CONFIG=../passari.toml.example ../$(BIN)/dagster definitions validate -m passari_dagster.definitions
	$(BIN)/python -m pytest -q passari_dagster_tests/test_migrations.py -k agree
