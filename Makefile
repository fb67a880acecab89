# Two commands do everything: `make demo` and `make test`. Python >= 3.11 with venv, and git, are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check check-static bench docs clean

$(VENV)/.installed: pyproject.toml
	@if [ ! -x $(BIN)/python ]; then \
	  if command -v uv >/dev/null 2>&1; then uv venv --quiet --seed --python $(PYTHON) $(VENV); \
	  else $(PYTHON) -m venv $(VENV); fi; fi
	@echo "installing agentq into $(VENV) …"
	@if command -v uv >/dev/null 2>&1; then uv pip install --quiet --python $(BIN)/python -e .; \
	 else $(BIN)/python -m pip install --quiet --disable-pip-version-check -e .; fi
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing what the tests need …"
	@if command -v uv >/dev/null 2>&1; then uv pip install --quiet --python $(BIN)/python -e '.[dev]'; \
	 else $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'; fi
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/agentq demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

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

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
