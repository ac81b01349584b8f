# `make demo`, `make test`: both set themselves up from a bare machine with Python 3.11 to 3.13.
#
# PYTHON=/path/to/python chooses an interpreter; VENV=folder another place for the environment;
# WORKERS=1 runs the tests one after the other.

VENV ?= .venv
WORKERS ?= auto
BIN := $(VENV)/bin
STAMP := $(VENV)/.nmc-ready
STAMP_DEV := $(VENV)/.nmc-ready-dev

.PHONY: demo test test-fast fuzz lint docs lava clean

demo: $(STAMP)
	$(BIN)/nmc demo

test: $(STAMP_DEV) lava
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8

test-fast: $(STAMP_DEV)
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 -m "not slow and not lava"

# Random models from FUZZ_SEED on, mutants of them and relations between files of one network; finds go to fuzz-finds/.
FUZZ_SEED ?= 0
FUZZ_MODELS ?= 2000
FUZZ_MUTANTS ?= 5000
FUZZ_RELATIONS ?= 100

fuzz: $(STAMP_DEV)
	$(BIN)/python -m tests.fuzz --seed $(FUZZ_SEED) --models $(FUZZ_MODELS) --mutants $(FUZZ_MUTANTS) \
		--relations $(FUZZ_RELATIONS) --finds fuzz-finds

lint: $(STAMP_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The generated pages; tests compare them with what the code says.
docs: $(STAMP)
	$(BIN)/nmc explain --markdown > docs/errors.md
	$(BIN)/nmc ops --markdown > docs/operators.md

# A missing Lava skips its tests with the reason, except under CI=true, where it fails them.
lava: $(STAMP_DEV)
	$(if $(filter true,$(CI)),,-)$(BIN)/nmc doctor --install lava

$(STAMP): pyproject.toml scripts/setup.sh
	PYTHON="$(PYTHON)" sh scripts/setup.sh "$(VENV)" .
	@touch $@

$(STAMP_DEV): pyproject.toml scripts/setup.sh
	PYTHON="$(PYTHON)" sh scripts/setup.sh "$(VENV)" ".[dev]"
	@touch $@ $(STAMP)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis report.html
