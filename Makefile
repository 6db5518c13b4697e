# Each target does all of its own set-up; what is there already is reused.
.PHONY: help demo check test nightly lint layers types docs ui env serve-env clean
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
BIN := .venv/bin
FAST := not slow and not serve and not postgres and not browser and not gpu

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: env serve-env ## one whole turn on simulated traffic: train, evaluate, certify, serve
	LOOP_HOME=.loop/demo $(BIN)/loop demo

ui: env ## the demo's run history, schedules and assets in Dagster
	LOOP_HOME=.loop/demo $(BIN)/loop ui

check: lint layers types ## for daily work: lint, layers, types and the fast tests
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "$(FAST)"

test: env serve-env lint layers types ## lint, layers, types and every test but the slow ones
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=20 -m "not slow"

nightly: env serve-env lint layers types ## everything: whole turns, trainings, real installs
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=20 --nightly

lint: env ## ruff: rules and format
	@$(BIN)/ruff check -q . && $(BIN)/ruff format -q --check . && echo "ruff: clean"

layers: env ## import-linter: who may import whom
	@$(BIN)/lint-imports

types: env ## pyright
	@$(BIN)/pyright --level error

docs: env ## write the generated pages: commands, settings, tables, benchmarks
	$(BIN)/python -m docs.generate

env: ## .venv: pipeline, training and test tools
	@bash infra/setup.sh pipeline .venv

serve-env: ## .venv-serve: vLLM
	@bash infra/setup.sh serve .venv-serve

clean: ## remove both environments and everything that was made
	rm -rf .venv .venv-serve .venv*.lock .venv*.log .loop
