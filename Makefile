# The two commands of the README are `make demo` and `make test`. Both set up what they need, once.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# Published for CPUs by PyTorch itself; asked only where the usual index does not have the build.
TORCH := $(shell sed -n 's/^torch==/torch==/p' requirements/cpu.lock)
TORCH_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: demo test test-all test-pythons check bench-finetune bench-quantize bench-loadgen bench-mutation bench-decision bench-steadiness fuzz-runs fuzz clean

demo: .venv/.cpu
	$(BIN)/dyno demo

test: .venv/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: .venv/.dev
	$(BIN)/python -m pytest

# The compiled part, built and run by each of Python 3.11, 3.12 and 3.13 that is on this machine.
test-pythons: .venv/.dev
	$(BIN)/python -m pytest -p no:cacheprovider tests/loadgen/test_pythons.py

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench-finetune: .venv/.cpu
	$(BIN)/python -m benchmarks.finetune.run

bench-quantize: .venv/.cpu
	$(BIN)/python -m benchmarks.quantize.run

bench-loadgen: .venv/.cpu
	$(BIN)/python -m benchmarks.measuring_path.run

bench-mutation: .venv/.dev
	$(BIN)/python -m benchmarks.mutation.run

# A run of a million requests, drawn, and what its report costs.
.PHONY: bench-analysis
bench-analysis: .venv/.cpu
	$(BIN)/python -m benchmarks.analysis.run

bench-decision: .venv/.cpu
	$(BIN)/python -m benchmarks.decision.run

bench-steadiness: .venv/.cpu
	$(BIN)/python -m benchmarks.steadiness.run

# Kills each kind of process of a run at random moments, with the real vLLM; a kill takes some minutes.
.PHONY: bench-kills
MOMENTS ?= 20
bench-kills: .venv/.cpu
	$(BIN)/python -m benchmarks.kills.run $(MOMENTS)

fuzz-runs: .venv/.cpu
	$(BIN)/python -m benchmarks.fuzzed_runs.run

# Ten million inputs take hours; `make fuzz INPUTS=100000` some minutes.
INPUTS ?= 10000000
fuzz: .venv/.fuzz
	$(BIN)/python -m benchmarks.fuzz.run --inputs $(INPUTS)

.venv/.cpu: requirements/cpu.lock pyproject.toml build_compiled.py loadgen/_compiled.c
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "tunedyno needs Python 3.11 to 3.13; run: make PYTHON=python3.11 ...")'
	@echo "setting up .venv: torch, vLLM and the rest, about 4 GB and 2 minutes, once"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet --no-deps $(TORCH) || $(PIP) install --quiet --no-deps --extra-index-url $(TORCH_INDEX) $(TORCH)
	$(PIP) install --quiet --no-deps --requirement requirements/cpu.lock
	$(PIP) install --quiet --no-deps --editable .
	touch $@

.venv/.dev: .venv/.cpu requirements/dev.lock
	$(PIP) install --quiet --no-deps --requirement requirements/dev.lock
	touch $@

.venv/.fuzz: .venv/.dev requirements/fuzz.lock
	$(PIP) install --quiet --no-deps --requirement requirements/fuzz.lock
	touch $@

clean:
	rm -rf .venv
