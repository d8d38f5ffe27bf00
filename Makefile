# Two commands do all: `make demo` and `make test`. Each first makes the environment in .venv, once.
PYTHON ?= python3
BIN := .venv/bin
export NUMBA_CACHE_DIR := $(CURDIR)/.numba
export PATH := $(CURDIR)/$(BIN):$(PATH)
export TOKENIZERS_PARALLELISM := false
export HF_HUB_DISABLE_TELEMETRY := 1
export HF_HUB_DISABLE_IMPLICIT_TOKEN := 1

AVX2_ENV := MMEMO_PRECISION=fp32 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2

.PHONY: help demo test test-avx2 check figures lab encoders test-ui test-slow clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

.installed: requirements.lock pyproject.toml
	@echo "Installing into .venv: about 6 GB and a few minutes, once."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch .installed

demo: .installed  ## the main job, offline: planted clips, features, four models, tables and pictures in runs/demo
	$(BIN)/mmemo demo --out runs/demo

test: .installed  ## all tests that need no browser, and the notebooks
	$(BIN)/python -m pytest tests
	$(BIN)/nbdev_test --n_workers 2 --timing

test-avx2: .installed  ## the same as on a processor without AVX-512: fp32, kernels for AVX2; AVX2="taskset -c 0" for one core
	$(AVX2_ENV) $(AVX2) $(BIN)/python -m pytest tests
	$(AVX2_ENV) $(AVX2) $(BIN)/nbdev_test --n_workers 2 --timing

check: .installed  ## what a commit must pass: export and clean are no-ops, layering, notebooks, tests
	$(BIN)/python -m pytest tests/test_house.py
	$(BIN)/nbdev_test --n_workers 2
	$(BIN)/python -m pytest tests

figures: .installed  ## run notebooks and keep their pictures: make figures NB=nbs/50_models/02_tcn.ipynb
	$(BIN)/python tests/figures.py $(NB)
	$(BIN)/nbdev_clean

lab: .installed  ## JupyterLab on the workbench
	$(BIN)/jupyter lab nbs/workbench/start.ipynb

encoders: .installed  ## train the embedded encoders again (about half an hour on two cores)
	$(BIN)/python -m mmemo.features.tiny --out data

test-ui: .installed  ## notebooks in a real browser (Debian's chromium)
	$(BIN)/python -m pytest tests/ui -m ui

test-slow: .installed  ## fault injection and long walks
	$(BIN)/python -m pytest tests -m slow

clean:  ## remove runs and caches of this checkout (not .venv)
	rm -rf runs .numba .pytest_cache _proc build *.egg-info
