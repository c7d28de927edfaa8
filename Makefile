# Every target sets up what it needs in .venv, once: a stamp file is newer than
# pyproject.toml and the constraints, or the step runs again. GNU make 3.81 is enough.

SHELL := /bin/sh
PYTHON ?= $(shell sh .ci/find-python)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check
TREE := build/typecheck/openchat_local

# Tests hold what is exported for PyTorch against PyTorch; TORCH=no leaves it and them out.
TORCH ?= yes
ifeq ($(TORCH),no)
DEV := .dev-without-torch
EXTRAS := dev
else
DEV := .dev
EXTRAS := dev,dev-torch
endif

BINDIR ?= $(HOME)/.local/bin

.PHONY: help setup chat install test lint arrows bench gpu clean
.DEFAULT_GOAL := help

help:
	@echo 'make chat    set up and open the chat window (ARGS="-m my.gguf" to pass options)'
	@echo 'make install call it openchat-local everywhere: a link in ~/.local/bin, or in BINDIR'
	@echo 'make test    run the tests (ARGS="tests/house -q" to pass options to pytest)'
	@echo 'make lint    ruff, mypy --strict, and the import contracts'
	@echo 'make arrows  draw docs/arrows.svg, which room imports which'
	@echo 'make bench   measure, and print a report'
	@echo 'make gpu     check training on this machine and its speed, in ten minutes'
	@echo 'make setup   set up everything, run nothing'
	@echo 'make clean   remove .venv and everything built'
	@echo 'PYTHON=/path/to/python3 chooses the interpreter that .venv is made from'
	@echo 'TORCH=no leaves PyTorch out, which without a build for CPUs is 3 GB, and its tests'

setup: $(VENV)/$(DEV)

chat: $(VENV)/.starter
	$(BIN)/openchat-local $(ARGS)

install: $(VENV)/.starter
	@sh .ci/link '$(CURDIR)/$(BIN)/openchat-local' '$(BINDIR)'

test: $(VENV)/$(DEV)
ifeq ($(ARGS),)
	@sh .ci/test $(BIN)/python
else
	$(BIN)/python -m pytest $(ARGS)
endif

lint: $(VENV)/$(DEV) tree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=build/typecheck $(BIN)/lint-imports

arrows: $(VENV)/$(DEV) tree
	PYTHONPATH=build/typecheck $(BIN)/python docs/arrows.py

bench: $(VENV)/$(DEV)
	$(BIN)/python -m bench $(ARGS)

gpu: $(VENV)/$(DEV)
	$(BIN)/python -m bench.gpu

clean:
	rm -rf $(VENV) build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.made:
	@sh .ci/preflight '$(PYTHON)'
	'$(PYTHON)' -m venv $(VENV)
	@touch $@

$(VENV)/.starter: $(VENV)/.made pyproject.toml
	@echo 'Installing. llama.cpp is compiled the first time: about 4 minutes on two cores.'
	$(PIP) -e '.[starter]'
	@touch $@

# The developer's set-up contains the user's, so `make chat` has nothing left to do.
$(VENV)/$(DEV): $(VENV)/.made pyproject.toml constraints-dev.txt
	@echo 'Installing. llama.cpp is compiled the first time: about 4 minutes on two cores.'
	@test '$(TORCH)' = no || $(BIN)/python -c 'import torch' 2>/dev/null || \
		echo 'PyTorch comes along for tests: 200 MB, or 3 GB with CUDA; TORCH=no leaves it out.'
	$(PIP) -c constraints-dev.txt -e '.[$(EXTRAS)]'
	@touch $(VENV)/.starter $@

# Static tools do not follow setuptools' `package-dir`; links show them the package.
.PHONY: tree
tree:
	@mkdir -p $(TREE)
	@for name in __init__.py __main__.py app finetune models; do \
		rm -f "$(TREE)/$$name" && ln -s "../../../$$name" "$(TREE)/$$name"; \
	done
