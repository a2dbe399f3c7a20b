# Needs Python 3.11 or newer and nothing else; each target installs what it uses into .venv.
#
#   make demo     run the examples: every planted leak must be found, and nothing else
#   make test     the tests, with coverage, and the check that generated documentation is up to date
#   make lint     style, types, layers
#   make matrix   a slice of the matrix: the oldest pytest, the oldest urllib3, other plugins beside (`nox --list` shows it all)
#   make docs     write the generated parts of README.md and docs/ anew
#   make clean    remove .venv and everything built
#
# Another interpreter: make test PYTHON=python3.12 (after make clean, if .venv exists)

PYTHON ?= python3
# Most tests wait for an inner run or for a grace to pass, so there may be more of them at once than cores.
TESTFLAGS ?= -n 4

# The tests start hundreds of interpreters, each of which would compile the libraries anew.
export PYTHONDONTWRITEBYTECODE =

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint matrix docs clean
.NOTPARALLEL:

demo: $(VENV)/.examples
	@$(BIN)/python examples/demo.py

test: $(VENV)/.test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(TESTFLAGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	$(BIN)/python docs/generate.py --check

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

matrix: $(VENV)/.matrix
	$(BIN)/nox --force-python $(CURDIR)/$(BIN)/python --sessions "pytests(pytest='8.2')" "libraries(urllib3-oldest)" pairings

docs: $(VENV)/.examples
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) dist build .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .nox
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON) here. Name a Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "pytest-httpleak needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version 2>&1`." >&2; \
	  echo "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# The stamp of each extra is as old as its last installation.
$(VENV)/.%: pyproject.toml | $(VENV)/.python
	$(PIP) --editable '.[$*]'
	@touch $@
