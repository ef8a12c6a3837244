# `make help` is the menu. Each target is one line that a person could type.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
UV := $(BIN)/uv
READY := .venv/.ready

# Nothing here may phone home, and compiled bytecode is wanted: without it TensorFlow takes three times as long to import.
export GX_ANALYTICS_ENABLED := false
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup data run smoke test test-slow lint format bench ablations ui compile images sbom audit lock clean
.PHONY: infra-check files-check install-kind e2e

help:  ## Show this menu
	@awk -F ':.*##' '/^[a-z-]+:.*##/ {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Make the virtual environment from the hash-locked requirements

$(READY): requirements/dev.txt requirements/uv.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; install Python 3.11 or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up .venv (a minute or two, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

data: setup  ## Put Fashion-MNIST under data/ and check it against data.dvc
	@$(BIN)/darkroom data get

run: setup  ## Run the whole pipeline on this machine and show what came out
	@$(BIN)/darkroom run

smoke: setup  ## The same on a small subset, in about a minute
	@$(BIN)/darkroom run --params pipelines/params/smoke.yaml

test: setup  ## Run the fast tests
	@$(BIN)/pytest -m "not slow"

test-slow: setup  ## Run the slow tests
	@$(BIN)/pytest -m slow

lint: setup  ## Check style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: setup  ## Put the code into shape
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: setup data  ## Measure, side by side, and write benchmarks/results.md (half an hour)
	@$(BIN)/python -m benchmarks

ablations: setup data  ## Take back one choice of the recipes at a time and write docs/ablations.md (an hour)
	@$(BIN)/python -m benchmarks.ablation

ui: setup  ## Start MLflow's web page on this machine
	@$(BIN)/darkroom ui

compile: setup  ## Compile the pipeline to build/darkroom.yaml for a Kubeflow cluster
	@$(BIN)/darkroom compile

infra-check: setup  ## Hold every Kubernetes manifest against schemas, our rules and checkov
	@$(BIN)/python -m infra.check

install-kind: setup  ## Install KFP, MLflow and stores into the current cluster, which kind made: REPOSITORY=... TAG=...
	@PATH="$(CURDIR)/$(BIN):$$PATH" infra/install kind "$(or $(REPOSITORY),darkroom)" "$(or $(TAG),$(shell git rev-parse HEAD))" --kubeflow

e2e: setup  ## Prove an installation on the cluster of KUBECONFIG: IMAGES=... TAG=... PULL_POLICY=... E2E="--simulate-gpu"
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.e2e --images "$(or $(IMAGES),darkroom)" --tag "$(or $(TAG),$(shell git rev-parse HEAD))" --pull-policy "$(or $(PULL_POLICY),IfNotPresent)" $(E2E)

files-check: setup  ## Hold workflows and Dockerfiles against zizmor and hadolint
	@$(BIN)/zizmor --quiet --offline --strict-collection --persona pedantic .github/workflows
	@$(BIN)/hadolint components/Dockerfile mlflow/Dockerfile

images: setup  ## Build the container images (for options: python -m components.build_images --help)
	@$(BIN)/python -m components.build_images

sbom: setup  ## Write what is in each image to build/sbom, as CycloneDX
	@$(BIN)/python -m components.sbom

audit: setup  ## Look all locked packages up among the known vulnerabilities; fails where the service is out of reach
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off $(addprefix --requirement ,$(wildcard requirements/*.txt))

lock: setup  ## Resolve the requirements again, one locked set per image
	@$(UV) pip compile $(LOCK) --extra data --extra train --extra registry --extra local --group dev pyproject.toml --output-file requirements/dev.txt
	@for image in data train train-gpu registry; do $(UV) pip compile $(LOCK) --extra $$image --constraint requirements/dev.txt pyproject.toml --output-file requirements/$$image.txt || exit 1; done
	@$(UV) pip compile $(LOCK) --group mlflow-server --constraint requirements/dev.txt --output-file requirements/mlflow-server.txt
	@grep '^uv==' requirements/dev.txt | cut -d' ' -f1 | $(UV) pip compile $(LOCK) - --output-file requirements/uv.txt
	@grep -E '^(hatchling|setuptools)==' requirements/dev.txt | cut -d' ' -f1 | $(UV) pip compile $(LOCK) --constraint requirements/dev.txt - --output-file requirements/build.txt

LOCK := --quiet --universal --generate-hashes --no-annotate --custom-compile-command "make lock"

clean:  ## Remove runs, caches and build results (data, .venv and the MLflow store stay)
	@rm -rf runs build .mypy_cache .pytest_cache .ruff_cache && find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
