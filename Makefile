# Developer verbs. `make` alone explains them. CI calls the same ones.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
SEEDS ?= 101 102 103 104 105
BENCHMARKS ?= benchmarks/agent/overhead.py benchmarks/agent_transport/broker_failures.py \
  benchmarks/estimators/heldout_ksg.py

# Tools that look for others on PATH, such as ninja, find those of the virtual environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-seeds test kill-matrix chaos layouts matrix oracles gpu check fmt bench gen

help: ## Explain the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  e.g. make demo ARGS='--fault shard --keep-open'; make test ARGS='tests/wire -x'"

setup: $(STAMP) ## Create .venv with everything; does nothing while pyproject.toml is unchanged

# uv installs the set in a fifth of pip's time. It does not read pip's configuration, so pip stays the fallback.
$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev]' \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(STAMP) ## Watch a two-rank DeepSpeed run with a fault in the middle (ARGS='--fault shard --keep-open')
	$(BIN)/infoplane demo $(ARGS)

demo-seeds: $(STAMP) ## Run the demo with and without fault on SEEDS and judge the detections (about half an hour)
	$(BIN)/python scripts/demo_seeds.py $(ARGS) $(SEEDS)

test: $(STAMP) ## Run all tests; INFOPLANE_REQUIRE=browser,broker forbids to skip what needs these
	$(BIN)/python -m pytest $(ARGS)

kill-matrix: $(STAMP) ## Kill and stop every part of the chain under a running job, on Apache Kafka (a quarter of an hour)
	INFOPLANE_KILL_MATRIX=1 INFOPLANE_REQUIRE=kafka,deepspeed \
	  $(BIN)/python -m pytest tests/integration/test_kill_matrix.py tests/integration/test_embedded.py -v $(ARGS)

chaos: $(STAMP) ## Break the agent, its broker and its process in every way under a training (four minutes)
	INFOPLANE_CHAOS=1 INFOPLANE_LONG=1 INFOPLANE_REQUIRE=broker \
	  $(BIN)/python -m pytest tests/integration/test_agent_chaos.py $(ARGS)

layouts: $(STAMP) ## Train parallel layouts with the agent on and off: what CI runs of the matrix (five minutes)
	INFOPLANE_LAYOUTS=1 INFOPLANE_REQUIRE=deepspeed $(BIN)/python -m pytest tests/integration/test_layouts.py $(ARGS)

matrix: $(STAMP) ## Train every parallel layout with every recomputation and compiler, agent on and off (over an hour)
	$(BIN)/python scripts/layout_matrix.py $(ARGS)

oracles: $(STAMP) ## Compare estimators with reference packages, each in an environment of its own (two minutes, once five)
	INFOPLANE_REQUIRE=oracles $(BIN)/python -m pytest tests/oracles $(ARGS)

gpu: $(STAMP) ## Check what needs a CUDA device; without one, say so and end with code 3
	$(BIN)/python scripts/gpu_lane.py $(ARGS)

check: $(STAMP) ## Lint, formatting, types and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(STAMP) ## Format and fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP) ## Run the benchmarks (BENCHMARKS=benchmarks/agent/overhead.py)
	set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script; done

gen: $(STAMP) ## Regenerate wire code, dashboards, rules and the generated parts of the docs
	scripts/generate_wire.sh
	$(BIN)/python -m infoplane.dashboards .
	$(BIN)/python scripts/generate_docs.py
	$(BIN)/python scripts/generate_chart.py
