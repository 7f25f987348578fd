# The commands of this project; `make` alone lists them. Each makes what it needs on a machine that has only
# python3 (3.11 or newer) and PyPI, and installs again only when pyproject.toml has changed.

PYTHON ?= python3
VENV ?= .venv
DEMO ?= docs/examples/demo.py
# The versions that `make test-all` looks for, less those named in SKIP=; with a t behind it, one without the GIL.
VERSIONS := 3.11 3.12 3.13 3.13t 3.14
# Prints which of these a Python is.
VERSION_OF := import sys, sysconfig, venv; \
    print("%d.%d" % sys.version_info[:2] + "t" * bool(sysconfig.get_config_var("Py_GIL_DISABLED")))
# Passed on to pytest, benchmarks or the demo: make test ARGS="-k retry -x"
ARGS ?=

BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input
# One empty file for each purpose that has been installed: run (the package alone), or the name of an extra.
INSTALLED := $(VENV)/installed

export PYTHONUNBUFFERED := 1
unexport PYTHONPATH PYTHONHOME
# Two pips in one environment would get in each other's way.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test test-all check format bench bench-peers profile docs services taskflow crash soak compat interop openstack wheel clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(INSTALLED)-run ## run a real job, let it fail and roll back, and build a tree of files
	$(PY) $(DEMO) $(ARGS)

test: $(INSTALLED)-test ## run the tests
	$(PY) -m pytest $(ARGS)

test-all: ## run the tests on each supported Python that is found
	@passed=; failed=; missing=; \
	for version in $(filter-out $(SKIP),$(VERSIONS)); do \
	    found=; \
	    for candidate in "$$(command -v python$$version)" "$$(pyenv root 2>/dev/null)"/versions/$$version*/bin/python; do \
	        if [ "$$("$$candidate" -c '$(VERSION_OF)' 2>/dev/null)" = "$$version" ]; \
	        then found=$$candidate; break; fi; \
	    done; \
	    if [ -z "$$found" ]; then missing="$$missing $$version"; continue; fi; \
	    echo "==> Python $$version: $$found"; \
	    if $(MAKE) --no-print-directory test VENV=.venv-$$version PYTHON="$$found"; \
	    then passed="$$passed $$version"; else failed="$$failed $$version"; fi; \
	done; \
	if [ -n "$$passed" ]; then echo "==> tests passed on Python$$passed"; fi; \
	if [ -n "$$missing" ]; then echo "==> NOT TESTED: no working Python$$missing was found on this machine"; fi; \
	if [ -n "$$failed" ]; then echo "==> TESTS FAILED on Python$$failed"; exit 1; fi

check: $(INSTALLED)-check docs ## check format, rules, types, layers and pages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy taskflowx $(wildcard docs/examples/*.py)
	$(BIN)/lint-imports --no-logo
	$(PY) .ci/house.py

format: $(INSTALLED)-check ## format the code, repair what can be repaired by rule, and draw its map
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(PY) .ci/map.py

bench: $(INSTALLED)-bench ## measure, and print each figure as a ratio
	$(PY) -m benchmarks $(ARGS)

bench-peers: $(INSTALLED)-bench ## run the same graphs on other engines, and compare; ARGS="dask-threads ray"
	$(PY) -m benchmarks.against $(ARGS)

profile: $(INSTALLED)-bench ## make flame graphs of the hot paths in build/profile; ARGS="serial threads"
	$(PY) -m benchmarks.flames $(ARGS)

docs: $(INSTALLED)-docs ## build the pages into build/docs; a warning is an error
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --nitpicky --keep-going docs build/docs

services: ## start what the tests talk to: PostgreSQL, MariaDB, Redis, RabbitMQ, ZooKeeper, etcd
	tests/services/start $(ARGS)

taskflow: .venv-taskflow/stores ## install OpenStack TaskFlow beside the project, for tests that read what it has written

crash: $(INSTALLED)-test ## kill runs at every place, on every store and executor, and see that they go on; ARGS="rounds"
	TASKFLOWX_CRASH_ROUNDS=$(or $(ARGS),4) TASKFLOWX_CRASH_CALLS=3500 $(PY) -m pytest tests/crash

soak: $(INSTALLED)-test ## run hostile tasks on every executor for an hour, and see that nothing is left; ARGS="seconds"
	$(PY) -m tests.soak $(ARGS)

compat: $(INSTALLED)-test ## run random flows on OpenStack TaskFlow and here, and compare
	$(PY) -m tests.interop.compat $(ARGS)

interop: $(INSTALLED)-test .venv-taskflow/stores ## leave runs at each write and take them up with the other package; ARGS="dir,sqlite times"
	$(PY) -m tests.interop $(ARGS)

openstack: .venv-openstack/made ## run released services on OpenStack TaskFlow and here, and compare; ARGS="cinder glance"
	.venv-openstack/bin/python tests/interop/openstack/compare.py $(ARGS)

wheel: $(INSTALLED)-run ## build the wheel, and try it with each extra in fresh environments
	$(PY) .ci/wheel.py

clean: ## remove the environments and all that was built
	rm -rf .venv .venv-* build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# PYTHON is looked at here and nowhere else: to change it, use another VENV or `make clean`.
$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "$(PYTHON) is missing or older than 3.11. Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(INSTALLED)-run: pyproject.toml $(VENV)/made
	$(PIP) install --quiet --editable .
	@touch $@

$(INSTALLED)-test: pyproject.toml $(VENV)/made
	extra=$$($(PY) -c '$(VERSION_OF)' | sed 's/.*t$$/-free-threaded/; s/^3.*//'); \
	$(PIP) install --quiet --editable ".[test$$extra]"
	@touch $@

$(INSTALLED)-%: pyproject.toml $(VENV)/made
	$(PIP) install --quiet --editable '.[$*]'
	@touch $@

# The same environment that the benchmarks make, with what TaskFlow needs to write stores.
.venv-taskflow/stores: Makefile
	test -x .venv-taskflow/bin/python || $(PYTHON) -m venv .venv-taskflow
	.venv-taskflow/bin/python -m pip --disable-pip-version-check --no-input install --quiet \
	    taskflow==6.5.0 'sqlalchemy>=2,<2.2' 'alembic>=1.16,<2' 'pymysql>=1.1,<2' 'psycopg[binary]>=3.2,<4' 'kazoo>=2.10,<3'
	@touch $@

.venv-openstack/made: tests/interop/openstack/requirements.txt
	test -x .venv-openstack/bin/python || $(PYTHON) -m venv .venv-openstack
	.venv-openstack/bin/python -m pip --disable-pip-version-check --no-input install --quiet --requirement $<
	@touch $@
