# Each target does all of its own set-up; what is there already is reused.
.PHONY: demo test ui env serve-env clean
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
	LOOP_HOME=.loop/demo $(LOOP) ui

env:
	@bash infra/setup.sh pipeline .venv
serve-env:
	@bash infra/setup.sh serve .venv-serve

clean:
	rm -rf .venv .venv-serve .loop
