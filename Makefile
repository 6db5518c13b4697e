# Each target does all of its own set-up; what is there already is reused.
.PHONY: help demo check test nightly lint layers types types-changed tests docs ui env serve-env clean
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
BIN := .venv/bin
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder
FAST := not slow and not serve and not postgres and not browser and not gpu
# Folders of plain functions, and the tests of the tree: nothing here starts a process for long.
T := loop_pipeline_tests
FAST_TESTS := $(addprefix $T/,answers confidence costs gateway/access gateway/asking \
  gateway/formats http_calls report traces $(patsubst %,test_%.py,architecture_page figures \
  installation_secret layers masking mirror readme recipe setting_errors))

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile

demo: env serve-env ## one whole turn on simulated traffic: train, evaluate, certify, serve
	LOOP_HOME=.loop/demo $(BIN)/loop demo

ui: env ## the demo's run history, schedules and assets in Dagster
	LOOP_HOME=.loop/demo $(BIN)/loop ui

check: lint layers types-changed ## for daily work: lint, layers, types of what changed, fast tests
	$(PYTEST) -m "$(FAST)" $(FAST_TESTS)

test: env serve-env lint layers ## lint, layers, types and every test but the slow ones
	@$(MAKE) --no-print-directory -j2 types tests

tests: env ## every test but the slow ones, without lint and types
	$(PYTEST) --durations=20 -m "not slow"

nightly: env serve-env lint layers types ## everything: whole turns, trainings, real installs
	$(PYTEST) --durations=20 --nightly

lint: env ## ruff: rules and format
	@$(BIN)/ruff check -q . && $(BIN)/ruff format -q --check . && echo "ruff: clean"

layers: env ## import-linter: who may import whom
	@$(BIN)/lint-imports

types: env ## pyright
	@$(BIN)/pyright --level error

types-changed: env ## pyright over what differs from main, committed or not
	@base=$$(git merge-base HEAD main 2>/dev/null || echo HEAD); \
	{ git diff --name-only --diff-filter=d $$base -- '*.py'; \
	  git ls-files --others --exclude-standard -- '*.py'; } | sort -u \
	| awk '/^(loop_pipeline|$T)\//' | xargs -r $(BIN)/pyright --level error

docs: env ## write the generated pages: commands, settings, tables, benchmarks
	$(BIN)/python -m docs.generate

env: ## .venv: pipeline, training and test tools
	@bash infra/setup.sh pipeline .venv

serve-env: ## .venv-serve: vLLM
	@bash infra/setup.sh serve .venv-serve

clean: ## remove both environments and everything that was made
	rm -rf .venv .venv-serve .venv*.lock .venv*.log .loop
