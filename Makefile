# Every target makes its virtual environment from requirements first: Python 3.11 or newer and make are enough.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo compare-demo finetune-demo test check format test-gpu bench smoke lock

demo: $(VENV)/.runtime-installed
	WEIGHTS=tiny NUM_SAMPLES=8 NUM_REFERENCES=500 ROUNDS=3 PASSES=stages $(BIN)/python run_inference.py

# Two equal runs pass the gate of benchmark.compare, a worse one fails it.
compare-demo: $(VENV)/.runtime-installed
	PYTHON_BIN="$(abspath $(BIN)/python)" bash scripts/compare_demo.sh

# The embedded PixArt learns emoji on a CPU, and a report says what changed.
finetune-demo: $(VENV)/.dev-installed
	PYTHON_BIN="$(abspath $(BIN)/python)" bash scripts/finetune_demo.sh

test: $(VENV)/.dev-installed
	$(BIN)/python -m pytest -n auto --dist loadfile

check: $(VENV)/.dev-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev-installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-gpu: $(VENV)/.dev-installed
	$(BIN)/python -m pytest -m gpu tests/gpu
	$(BIN)/python -m pytest tests/models/test_fused_operations.py

# The smoke test: two images a model, and the table that it prints is looked at.
smoke: $(VENV)/.runtime-installed
	$(BIN)/python scripts/smoke_test.py

# The figures of docs/results.md that a machine without a GPU can measure.
bench: $(VENV)/.dev-installed
	$(BIN)/python -m scripts.embedded.measure_quality --output runs/quality.json --sheet runs/quality.png
	$(BIN)/python -m scripts.measuring.measure_run

# requirements.lock and requirements-cpu.lock: the versions that are installed here.
lock: $(VENV)/.dev-installed
	$(BIN)/python scripts/locks.py

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime-installed: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.dev-installed: requirements-dev.txt $(VENV)/.runtime-installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
