# The two commands of the README, `make train` and `make test`, and what developers run besides.
# Everything lives in .venv, which is made on first use and rebuilt when a source of the kernels changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KERNELS := pyproject.toml CMakeLists.txt $(wildcard src/fastconv/*)

.PHONY: train test lint wheel clean

train: $(VENV)/.installed
	$(BIN)/fastconv train $(ARGS)

test: $(VENV)/.installed lint
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint src/fastconv
	$(BIN)/mypy

# A wheel for other machines, in dist/, with the OpenMP runtime inside.
wheel: $(VENV)/.installed
	$(BIN)/python tools/wheel.py dist

clean:
	rm -rf $(VENV) build dist wheelhouse

# Without build isolation, so that the build folder stays good and a changed kernel compiles alone.
$(VENV)/.installed: $(KERNELS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group build
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[test]"
	touch $@
