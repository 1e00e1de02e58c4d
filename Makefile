# The commands of the README are `make demo-quick`, `make demo` and `make test`. Each sets up what it needs, once.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# Published for CPUs by PyTorch itself; asked only where the usual index does not have the build.
TORCH := $(shell sed -n 's/^torch==/torch==/p' requirements/cpu.lock)
TORCH_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: help demo demo-quick test test-all test-pythons check format bench-finetune bench-quantize bench-serve bench-loadgen \
	bench-mutation bench-analysis bench-attribution bench-engine-record bench-decision bench-plan bench-steadiness bench-telemetry \
	bench-kills bench-cluster fuzz-runs fuzz image clean

help: ## Lists the targets (this is what `make` alone does)
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "%-19s %s\n", $$1, $$2 }'

demo: .venv/.cpu ## Fine-tunes, quantizes, serves, loads and judges a small real model on 2 CPU cores
	$(BIN)/dyno demo

demo-quick: .venv/.cpu ## The shortest way to a verdict: a smaller adapter, three variants, fewer requests
	$(BIN)/dyno demo --quick

# Three workers for two cores: a test of a load waits more than it computes.
test: .venv/.dev ## Runs the tests, without the slow ones
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: .venv/.dev ## Runs every test
	$(BIN)/python -m pytest

test-pythons: .venv/.dev ## Builds and runs the compiled part with each of Python 3.11 to 3.13 on this machine
	$(BIN)/python -m pytest -p no:cacheprovider tests/loadgen/test_pythons.py

check: .venv/.dev ## Checks format, lint, types and the walls between packages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev ## Formats the code and mends what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-finetune: .venv/.cpu ## Compares training with SFTTrainer and the plain Trainer: speed and held-out loss
	$(BIN)/python -m benchmarks.finetune.run

bench-quantize: .venv/.cpu ## Compares our W8A8 writer with llm-compressor: time, memory, answers
	$(BIN)/python -m benchmarks.quantize.run

bench-serve: .venv/.cpu ## Compares our servers with vLLM's bare ones: requests/s of the demo's variants
	$(BIN)/python -m benchmarks.serve.run

bench-loadgen: .venv/.cpu ## Holds the load generator and its peers against an emulator of known times
	$(BIN)/python -m benchmarks.measuring_path.run

bench-mutation: .venv/.dev ## Changes the code in small ways and counts the changes that no test notices
	$(BIN)/python -m benchmarks.mutation.run

bench-analysis: .venv/.cpu ## Measures what a report of a million requests costs
	$(BIN)/python -m benchmarks.analysis.run

bench-attribution: .venv/.cpu ## Puts known delays into a server and a client and looks for them
	$(BIN)/python -m benchmarks.attribution.run

bench-decision: .venv/.cpu ## Simulates objectives at their limits and counts wrong verdicts
	$(BIN)/python -m benchmarks.decision.run

PLANTS ?= 34
bench-plan: .venv/.cpu ## Holds model, plan and search against PLANTS=34 plants of each kind of known truth; continues
	$(BIN)/python -m benchmarks.plan.run $(PLANTS)

bench-telemetry: .venv/.cpu ## Measures what sampling servers costs: the sampler's CPU, and stalls of the load loop
	$(BIN)/python -m benchmarks.telemetry.run

bench-steadiness: .venv/.cpu ## Simulates queues that grow and counts those that are seen
	$(BIN)/python -m benchmarks.steadiness.run

BLOCKS ?= 20
bench-engine-record: .venv/.cpu ## Measures what the engine record costs a vLLM server, BLOCKS=20 blocks with and without
	$(BIN)/python -m benchmarks.engine_record.run $(BLOCKS)

MOMENTS ?= 20
bench-kills: .venv/.cpu ## Kills the processes of real runs at MOMENTS=20 random moments; minutes each
	$(BIN)/python -m benchmarks.kills.run $(MOMENTS)

bench-cluster: .venv/.dev ## Measures what one Ray node sends, and what two do, on this machine
	$(BIN)/python -m benchmarks.cluster.ray_scaling

fuzz-runs: .venv/.cpu ## Analyses runs made by chance and checks what every command says of them
	$(BIN)/python -m benchmarks.fuzzed_runs.run

INPUTS ?= 10000000
fuzz: .venv/.fuzz ## Feeds INPUTS=10000000 broken inputs to all that reads foreign bytes; hours
	$(BIN)/python -m benchmarks.fuzz.run --inputs $(INPUTS)

image: ## Builds the container image that docs/cluster.md describes, with docker
	docker build --tag tunedyno:$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) .

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

clean: ## Removes .venv
	rm -rf .venv
