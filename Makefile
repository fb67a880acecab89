# Two commands do everything: `make demo` and `make test`. Python >= 3.11 with venv, and git, are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-agents check check-static bench docs lock clean

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is not Python 3.11 or newer with venv; try 'make PYTHON=python3.12 …'" >&2; exit 1; }
	@if [ ! -x $(BIN)/python ]; then \
	  if command -v uv >/dev/null 2>&1; then uv venv --quiet --seed --python $(PYTHON) $(VENV); \
	  else $(PYTHON) -m venv $(VENV); fi; fi
	@echo "installing agentq into $(VENV) …"
	@if command -v uv >/dev/null 2>&1; then uv pip install --quiet --python $(BIN)/python -e . -c constraints.txt; \
	 else $(BIN)/python -m pip install --quiet --disable-pip-version-check -e . -c constraints.txt; fi
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing what the tests need …"
	@if command -v uv >/dev/null 2>&1; then uv pip install --quiet --python $(BIN)/python -e '.[dev]' -c constraints.txt; \
	 else $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt; fi
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/agentq demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

# The real claude and codex, which tests drive against local servers: 900 MB, in a cache folder.
test-agents: $(VENV)/.installed-dev
	$(BIN)/python tests/support/agents.py

check-static: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: check-static
	$(BIN)/python -m pytest

bench: $(VENV)/.installed-dev
	$(BIN)/python -m bench

docs: $(VENV)/.installed-dev
	$(BIN)/python -m agentq.cli.docs

# The versions every fresh install gets. Needs uv.
lock:
	uv export --quiet --no-hashes --extra dev --no-emit-project --no-annotate --no-header -o constraints.txt

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
