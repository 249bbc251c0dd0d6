# Everything a developer or CI runs. `make help` lists the targets.
SHELL := /bin/sh
# Where the environment is; CI names a folder of its own.
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
PEERS := .venv-bench/.installed
INSTALLER := pyproject.toml scripts/install requirements-install.lock
CHECKED := engine tasks broker_connector models tests bench celeryconfig.py

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo test test-slow mutants simulate chaos bench check format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(RUNTIME) ## install what the engine needs to run

install-dev: $(DEV) ## install what the checks and tests need, too

$(RUNTIME): requirements.lock $(INSTALLER)
	@scripts/install requirements.lock $@

# It holds what the runtime needs, too, in the same versions.
$(DEV): requirements-dev.lock requirements.lock $(INSTALLER)
	@scripts/install requirements-dev.lock $@
	@touch $(RUNTIME)

# Without it the benches run, and say of the peers they miss that they were not installed.
$(PEERS): requirements-bench.lock $(INSTALLER)
	-@scripts/install requirements-bench.lock $@

demo: $(RUNTIME) ## run a whole trading day on the paper broker
	@$(BIN)/engine demo

# Two workers a core: half of a test's time is a wait for a process of its own.
test: $(DEV) ## run the tests except the slow ones
	@$(BIN)/python -m pytest -n $$((2 * $$(getconf _NPROCESSORS_ONLN))) --dist worksteal -m "not slow"

test-slow: $(DEV) ## run the slow tests
	@$(BIN)/python -m pytest -m slow --durations=25

mutants: $(DEV) ## take each guard away and see a test fail, all or ONLY=words; BY=--simulation
	@$(BIN)/python -m tests.mutants $(BY) $(if $(SEEDS),--seeds $(SEEDS)) "$(ONLY)"

simulate: $(RUNTIME) ## play SEEDS seeds of the simulated world, from seed FIRST
	@$(BIN)/engine simulate --seeds $(or $(SEEDS),1000) --first $(or $(FIRST),0)

chaos: $(RUNTIME) ## play TRIALS fault trials on the running stack, by SEED
	@$(BIN)/engine chaos --trials $(or $(TRIALS),300) --seed $(or $(SEED),0)

bench: $(DEV) $(PEERS) ## measure on this machine, all or BENCH=name; writes bench/results/latest.json
	@$(BIN)/python -m bench $(BENCH)

check: $(DEV) ## lint, format check, types, layers, compose file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CHECKED)
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

format: $(DEV) ## format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## write the four lock files anew, with uv in a throw-away environment
	@scripts/lock

clean: ## remove .venv and what the tools leave behind
	rm -rf $(VENV) .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage htmlcov dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
