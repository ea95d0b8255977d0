# Everything a contributor runs. Needs GNU make and Python >= 3.11; `make setup` brings the rest into .venv.
# `make help` lists the targets; `make demo` is the place to start.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
INTEROP_VENV := .venv-interop
STAMP := $(VENV)/.limen-setup
DOCS_STAMP := $(VENV)/.limen-docs
ZOO_STAMP := $(VENV)/.limen-zoo
INTEROP_STAMP := $(INTEROP_VENV)/.limen-setup
# A test starts hundreds of interpreters: each would compile everything anew if none might keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE

GENERATED := src/limen/gateway/grpc/_generated/__init__.py src/limen/client/_generated/__init__.py
PROTOS := $(wildcard src/limen/gateway/grpc/proto/*.proto)
SETUP_INPUTS := pyproject.toml uv.lock hatch_build.py scripts/bootstrap.py $(PROTOS)

FAST := not slow and not interop
PYTEST := $(BIN)/python -m pytest
# Files are dealt out whole and in order, so a server that a file shares is started once and what takes longest comes first.
# One process more than there are cores: a test that waits for a server leaves its core to another.
WORKERS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )))
PARALLEL = -n $(WORKERS) --maxprocesses 6 --dist loadfile --no-loadscope-reorder
# Arguments for the command behind a target: make demo ARGS=--once, make test ARGS="-k contract -x"
ARGS ?=

.PHONY: help setup demo test check bench docs docs-serve test-all fmt lint types imports spelling proto interop lock wheel clean zoo tables

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 16

## -- environments -----------------------------------------------------------------------------------------------------

setup: $(STAMP) ## create .venv with Limen (editable), all extras and the development tools
	@echo "Ready: $(BIN)/limen --help   (or: source $(BIN)/activate)"

# A checkout that lost its generated modules (make clean) needs the build hook again, even if nothing else changed.
ifneq ($(PROTOS),)
ifneq ($(words $(wildcard $(GENERATED))),$(words $(GENERATED)))
.PHONY: $(STAMP)
endif
endif

$(STAMP): $(SETUP_INPUTS)
	@bash scripts/setup.sh $(VENV) --extra all
	@touch $@

$(DOCS_STAMP): $(STAMP)
	@bash scripts/setup.sh $(VENV) --extra all --group docs
	@touch $@

$(ZOO_STAMP): $(STAMP)
	@bash scripts/setup.sh $(VENV) --extra all --group zoo
	@touch $@

$(INTEROP_STAMP): pyproject.toml uv.lock scripts/bootstrap.py scripts/perf_analyzer.sh
	@bash scripts/setup.sh $(INTEROP_VENV) --only-group interop
	@bash scripts/perf_analyzer.sh $(INTEROP_VENV) || echo "Its tests are skipped."
	@touch $@

zoo: $(ZOO_STAMP) ## add the packages to .venv whose models the bulk suite tries (CatBoost, MLflow, converters)

interop: $(INTEROP_STAMP) ## create .venv-interop: clients we did not write (tritonclient, KServe, grpcurl, schemathesis, perf_analyzer)

proto: ## compile the .proto files again
	@LIMEN_REBUILD=1 bash scripts/setup.sh $(VENV) --extra all
	@if [ -f $(STAMP) ]; then touch $(STAMP); fi

lock: ## update uv.lock after a change in pyproject.toml (ARGS=--upgrade for newer versions)
	@bash scripts/setup.sh lock $(ARGS)

wheel: ## build the wheel and the source archive into dist/
	@bash scripts/setup.sh build

clean: ## remove what the build, the tests and the tools left; keeps the environments
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .schemathesis \
	  src/limen/gateway/grpc/_generated src/limen/client/_generated
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

## -- use ----------------------------------------------------------------------------------------------------------------

demo: $(STAMP) ## train, package, check and serve a credit model on real data (ARGS=--once exits afterwards)
	@$(BIN)/python examples/credit/demo.py $(ARGS)

bench: $(STAMP) ## measure Limen against a bare handler on the same stack
	@$(BIN)/python -m benchmarks $(ARGS)

## -- checks -------------------------------------------------------------------------------------------------------------

test: $(STAMP) ## the fast tests, in parallel (WORKERS=4 says how many)
	@$(PYTEST) $(PARALLEL) -m "$(FAST)" $(ARGS)

test-all: $(STAMP) $(INTEROP_STAMP) $(ZOO_STAMP) ## every test: the slow ones, the bulk suite and those with foreign clients included
	@$(PYTEST) $(ARGS)

check: lint types imports spelling docs ## what CI runs besides the tests

lint: $(STAMP) ## ruff: rules and format; the workflows of .github
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/zizmor --quiet --offline --persona pedantic .github

fmt: $(STAMP) ## format, and fix what can be fixed
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

types: $(STAMP) ## mypy, strict
	@$(BIN)/mypy

imports: $(STAMP) ## the layers, as an import-linter contract
	@$(BIN)/lint-imports --no-logo

spelling: $(STAMP) ## codespell over code and docs
	@$(BIN)/codespell

docs: $(DOCS_STAMP) ## build the documentation into site/, warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "docs: site/index.html"

tables: $(STAMP) ## write the tables of the reference pages anew, from the code
	@$(BIN)/python scripts/reference_tables.py

docs-serve: $(DOCS_STAMP) ## the documentation with live reload
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve
