# `make help` lists what there is. Everything is installed into .venv; nothing needs root.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
# systemd-analyze wants ExecStart to exist; the unit names where an installation puts it.
UNIT_CHECK := build/edge-backup.service
TESTS ?= tests
FUZZ_SECONDS ?= 300
PROCESSES := -n auto --maxprocesses 4
# The slow files come first by name, and the tests of one file share their servers.
PARALLEL ?= $(PROCESSES) --dist loadfile --no-loadscope-reorder
# Tests start hundreds of Python programs, which would compile the agent each time.
unexport PYTHONDONTWRITEBYTECODE
MARKED = "not large$(if $(SLOW),, and not slow)"

.PHONY: all help venv demo test coverage faults soak fuzz check docs lock reference sbom share wheel deb deb-test bench bench-transfers clean

all: help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## install the agent and its tools into .venv

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed, but '$(PYTHON)' is" \
	    "$$($(PYTHON) --version 2>/dev/null || echo missing). Try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "Python's venv module is missing. On Debian: apt install python3-venv" >&2; exit 1; }
	@echo "installing the agent and its tools into $(VENV), once; this takes a minute or two"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## back up, damage and restore a sample directory; with KEEP=1, leave the agent and its page running
	$(BIN)/edge-backup demo $(if $(KEEP),--keep-running)

test: $(STAMP) ## all tests except the slow ones, which SLOW=1 adds; REQUIRE_BACKENDS=1 makes skips failures, TESTS=path runs some
	REQUIRE_BACKENDS=$(REQUIRE_BACKENDS) $(BIN)/pytest -rs -m $(MARKED) $(PARALLEL) $(TESTS)

coverage: $(STAMP) ## run the tests and print their branch coverage of agent and providers
	@rm -rf build/coverage; mkdir -p build/coverage
	-$(BIN)/coverage run -m pytest -m $(MARKED) $(PARALLEL) $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --sort=cover

faults: $(STAMP) ## try crashes, power cuts and disk errors at every call that changes the disk; prints a table
	FAULTS=long REQUIRE_BACKENDS=1 $(BIN)/pytest $(PROCESSES) --dist load tests/faults tests/system/test_restore_crash.py
	REQUIRE_BACKENDS=1 $(BIN)/pytest -m large tests/integration tests/system/test_recipes.py

soak: $(STAMP) ## run ten thousand jobs with random faults and check that nothing grows or is left behind
	$(BIN)/python -m tests.faults.soak
	$(BIN)/python -m tests.faults.soak --jobs 1000 --kill

fuzz: $(STAMP) ## fuzz the readers of foreign bytes, guided by coverage: FUZZ_SECONDS=300 each
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

check: $(STAMP) $(UNIT_CHECK) docs ## check style, types, layers, dependencies, documents, unit files, Dockerfile
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	@if command -v systemd-analyze >/dev/null; then \
	  echo systemd-analyze verify; systemd-analyze verify --man=no $(UNIT_CHECK) $(UNIT_CHECK:.service=.socket); \
	else echo "not checked, systemd-analyze is missing: systemd/edge-backup.service and .socket"; fi
	@if [ -x $(BIN)/hadolint ]; then \
	  echo hadolint Dockerfile; $(BIN)/hadolint Dockerfile; \
	else echo "not checked, hadolint is missing: Dockerfile"; fi

$(UNIT_CHECK): systemd/edge-backup.service systemd/edge-backup.socket
	@mkdir -p $(@D)
	@cp systemd/edge-backup.socket $(@D)
	@sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' $< > $@

docs: $(STAMP) ## write the documents as a site into build/site; a broken link or any other warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock: ## write requirements.lock anew from pyproject.toml; needs uv
	@command -v uv >/dev/null || { echo "uv is missing. Try: pipx install uv" >&2; exit 1; }
	uv pip compile pyproject.toml --all-extras --group dev --universal --generate-hashes \
	  --no-emit-index-url --no-header -o requirements.lock

reference: $(STAMP) ## write config/reference.json, docs/openapi.json and the tables in docs/settings.md anew
	$(BIN)/python -m tests.support.reference

sbom: $(STAMP) ## write THIRD-PARTY.md and build/sbom.cdx.json, a CycloneDX bill of materials
	$(BIN)/python -m tests.support.sbom

share: $(STAMP) ## write manual pages and shell completions, from the parsers behind --help, into agent/share
	$(BIN)/python -m tests.support.share

wheel: share ## build the wheel with all that edge-backup setup writes, into dist; always byte for byte the same
	$(BIN)/hatchling build --target wheel

deb: wheel ## build the Debian package for this Python and, with ARCH=arm64, another machine, into build/deb
	@command -v dpkg-deb >/dev/null || { echo "dpkg-deb is missing: this needs Debian, or its package dpkg" >&2; exit 1; }
	VENV=$(VENV) packaging/deb/build $(or $(ARCH),$(shell dpkg --print-architecture))

deb-test: wheel ## build the package twice; install, upgrade, remove and purge it in a system of its own; needs root and systemd-nspawn
	REQUIRE_BACKENDS=1 $(BIN)/pytest -m large tests/system/test_package.py

bench: $(STAMP) ## measure every promise beside public tools, into benchmarks/results; half an hour
	$(BIN)/python -m benchmarks

bench-transfers: $(STAMP) ## time uploads and downloads against public tools, into benchmarks/results
	$(BIN)/python -m benchmarks.transfers

clean: ## remove what was built, and .venv
	rm -rf .venv* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
