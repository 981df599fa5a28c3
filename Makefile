# The tasks of this project. Settings of the tools live in pyproject.toml, setup.cfg and tox.ini.
#
#   make demo PYTHON=/path/to/python   another interpreter     make demo ONCE=1   stop after the proof

VENV ?= .venv
BIN := $(VENV)/bin
BOOTSTRAP := VENV='$(VENV)' PYTHON='$(PYTHON)' deploy/bootstrap.sh
PYENV_BINS := $(subst $() ,:,$(wildcard $(HOME)/.pyenv/versions/3.1[0-3].*/bin))

.DEFAULT_GOAL := help
.PHONY: help demo drill pages screenshots test lint fuzz bench soak tox man clean

help: ## list the targets
	@awk -F ': ## ' '/^[a-z]+: ## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

demo: ## build a small world, serve it, prove it (ONCE=1 stops after the proof, LIVE=1 fills from an origin)
	@$(BOOTSTRAP) $(if $(filter-out 0,$(LIVE)),live,demo)
	@$(BIN)/svc-edge demo $(if $(filter-out 0,$(LIVE)),--live) $(if $(filter-out 0,$(ONCE)),--once)

drill: ## break the demo under load and judge what clients saw (SECONDS=60); the report is in drill-report
	@$(BOOTSTRAP) demo
	@$(BIN)/svc-edge drill --demo --seconds $(or $(SECONDS),60)

pages: ## put MapLibre GL JS into the package, for the map preview (needs npm)
	@web/build.sh

screenshots: ## take the pictures of docs/images anew, in headless Chromium
	@$(BOOTSTRAP) test
	$(BIN)/python -m tests.browser.screenshots

test: ## lint, types and every test
	@$(BOOTSTRAP) test
	@$(MAKE) --no-print-directory lint
	$(BIN)/pytest -n auto --dist loadfile --ignore tests/chaos
	$(BIN)/pytest tests/chaos

lint: ## ruff and mypy
	@$(BOOTSTRAP) test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fuzz: ## libFuzzer against the parser of requests (SECONDS=60); what fails is left in build/fuzz
	@$(BOOTSTRAP) fuzz
	$(BIN)/python -m tests.guard.fuzz --seconds $(or $(SECONDS),60)

bench: ## compare with nginx on this machine
	@$(BOOTSTRAP) bench
	$(BIN)/python -m bench
	$(BIN)/python -m bench.fills

soak: ## a long mixed load (MINUTES=30) that fails if memory, descriptors or threads grow
	@$(BOOTSTRAP) test
	$(BIN)/python -m tests.perf.soak --minutes $(or $(MINUTES),30)

man: ## the manual page, in build/man/man1
	@$(BOOTSTRAP) demo
	@mkdir -p build/man/man1
	$(BIN)/svc-edge man > build/man/man1/svc-edge.1

tox: ## the whole matrix, on each Python that is installed
	@$(BOOTSTRAP) test
	PATH="$(PYENV_BINS):$$PATH" $(BIN)/tox

clean: ## remove what was built, .venv too
	rm -rf $(VENV) .tox build dist demo *.egg-info web/node_modules edge_server/sidecar/pages/vendor .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
