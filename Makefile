# `make help` lists what there is. Everything runs inside .venv, made from requirements.lock with hashes checked.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup web demo side-by-side deployments pipeline validate-k8s k8s-preflight test lint deps lock pretrain study clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(CURDIR)/.venv/bin
READY := .venv/.ready
export PATH := $(BIN):$(PATH)
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export BENTOML_DO_NOT_TRACK := True

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## /  make \1\t/' | expand -t 20

setup: $(READY)  ## make .venv from requirements.lock (skipped when it is up to date)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || { echo "error: Python 3.11 is needed; make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@if uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet uv; then \
	    uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock && \
	    uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
	    $(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock && \
	    $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .; \
	fi
	@touch $@

web: .venv-web/.ready  ## img2dataset, for `eclipse ingest`, in an environment of its own (skipped when it is up to date)

.venv-web/.ready: requirements-web.lock | $(READY)
	@[ -x .venv-web/bin/python ] || $(PYTHON) -m venv .venv-web
	@if uv --version >/dev/null 2>&1; then \
	    uv pip install --quiet --compile-bytecode --python .venv-web/bin/python --require-hashes -r requirements-web.lock; \
	else \
	    .venv-web/bin/python -m pip install --quiet --require-hashes -r requirements-web.lock; \
	fi
	@touch $@

demo: setup  ## the whole main job on the mini world: dvc repro, MLflow and its registry, the table and the report's path
	@[ -d artifacts/report ] || $(MAKE) --no-print-directory side-by-side
	@python -m dvc repro
	@python -m eclipse track --quiet
	@python -m eclipse register --quiet
	@python -m eclipse table --quiet

# DVC runs one stage at a time. The two halves of the sweep share no output, so the first time each gets half of the
# cores. What fails here fails again, and is told, in the `dvc repro` that follows.
side-by-side:
	@python -m dvc repro embed
	@export TQDM_DISABLE=1 OMP_NUM_THREADS=$$(( ($$(nproc) + 1) / 2 )); \
	python -m dvc --wait-for-lock repro --single-item train evaluate reference & \
	python -m dvc --wait-for-lock repro --single-item annotate embed-subjects train-subjects evaluate-subjects \
	    reference-subjects select-subjects interpolate & \
	wait

deployments: setup  ## pool, limit, deployments and automations on the Prefect server that PREFECT_API_URL names
	@python -m flows.deploy $(if $(POOL),--pool $(POOL)) $(if $(REPOSITORY),--repository $(REPOSITORY)) $(if $(GPUS),--gpus $(GPUS))

pipeline: setup  ## compile components/ to Kubeflow IR YAML (build/pipeline.yaml)
	@python -m components.pipeline

validate-k8s: setup  ## render both overlays and check every object; needs kubectl
	@python -m k8s.check

k8s-preflight: setup  ## what a cluster lacks for an overlay (OVERLAY=k8s/overlays/gpu)
	@python -m k8s.check preflight $(OVERLAY)

test: setup web  ## all tests
	@python -m pytest -n logical --maxprocesses 4

lint: setup  ## ruff, mypy and the import contracts
	@ruff check .
	@ruff format --check .
	@mypy eclipse flows components k8s/check images/lock.py
	@lint-imports
	@hadolint images/Dockerfile

deps: setup  ## write each stage's code dependencies into dvc.yaml
	@python tests/closure.py --write

lock:  ## resolve pyproject.toml and requirements-web.in into their lock files
	@uv pip compile -q --generate-hashes --all-extras --python-version 3.11 pyproject.toml -o requirements.lock
	@uv pip compile -q --generate-hashes --python-version 3.11 requirements-web.in -o requirements-web.lock

pretrain: setup  ## make the shipped mini models again from nothing (hours of CPU, or minutes on a GPU; resumable)
	@cd pretrain && python -m dvc repro
	@rm -rf models/mini && cp -R pretrain/artifacts/mini models/mini

study: setup  ## λ against data and caption noise; edges, encoders and finetuning: a pipeline of its own
	@cd study && python -m dvc repro
	@rm -rf study/results && cp -R study/artifacts/results study/results
	@cp -R study/artifacts/subject-results/. study/artifacts/finetune study/results/

clean:  ## remove what stages and tools wrote; .venv, DVC's cache and MLflow's store stay
	@rm -rf artifacts pretrain/artifacts study/artifacts build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
