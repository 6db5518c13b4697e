# Each target does all of its own set-up; what is there already is reused.
.PHONY: demo test ui docs env serve-env clean
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
LOOP := .venv/bin/loop

demo: env serve-env
	LOOP_HOME=.loop/demo $(LOOP) demo

test: env serve-env
	@.venv/bin/ruff check -q . && .venv/bin/ruff format -q --check . && echo "ruff: clean"
	@.venv/bin/pyright --level error
	.venv/bin/pytest

ui: env
	LOOP_HOME=.loop/demo DAGSTER_HOME=$(CURDIR)/.loop/demo/dagster .venv/bin/dagster dev

# The pages that are made: reference of commands, settings and tables, and the benchmarks' figures.
docs: env
	.venv/bin/python -m docs.generate

env:
	@bash infra/setup.sh pipeline .venv
serve-env:
	@bash infra/setup.sh serve .venv-serve

clean:
	rm -rf .venv .venv-serve .loop
