# Each target does its own set-up: it makes .venv where missing and installs what it needs, as pinned in
# constraints.txt. PYTHON chooses the interpreter of a new .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-floor test-kernels test-slow fuzz docs lint format typecheck clean

quickstart: $(VENV)/.quickstart
	$(BIN)/python examples/quickstart.py --output-dir exports/quickstart
	$(BIN)/skastw predict skastw/datasets/data/spoken_digits/7_alicia_0.ogg --model exports/quickstart --top-k 3

test: $(VENV)/.dev lint typecheck
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-floor:
	$(PYTHON) -m venv .venv-floor
	.venv-floor/bin/python -m pip install --quiet --constraint constraints-floor.txt torch
	.venv-floor/bin/python -m pip install --quiet --constraint constraints-floor.txt --editable '.[test]'
	OMP_NUM_THREADS=1 .venv-floor/bin/python -m pytest -n 2 -p no:cacheprovider

# The tests with the kernels of older processors: AVX2 without AVX-512, then without AVX (each takes longer than make test).
test-kernels: $(VENV)/.dev
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

# A million damaged or attacked model folders (half an hour or more), and as many damaged audio files (ten minutes).
fuzz: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz_artifact.py --cases 1000000 --seed $(or $(SEED),0)
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz_decode.py --cases 1000000 --seed $(or $(SEED),0)

# The site, in docs/_build/html; a warning is an error. The examples run once, and again when they change.
docs: $(VENV)/.docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/prose.py skastw

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(VENV)/.dev
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .venv-floor build dist docs/_build docs/api docs/gallery exports *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch is installed by itself first, so that a CPU build is taken where one is offered.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	touch $@

$(VENV)/.quickstart: pyproject.toml constraints.txt | $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[examples]'
	touch $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ $(VENV)/.quickstart
