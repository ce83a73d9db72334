# Every command of this book; `make help` lists them.
# PROFILE=quick|standard|paper  NB=<notebook>  ROOM=<module>  ARGS="-p key value"  FORCE=1  GPUS=<how many>
# TIMEOUT=<seconds that a notebook may take>  MINUTES=<minutes that a long batch goes on for>
# PYTHON=<a Python 3.11 or newer>

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help book run report plan check test lint format publish sweep gpu clean clean-all

PROFILE ?= quick
NB ?=
ROOM ?=
ARGS ?=
FORCE ?=
TIMEOUT ?=
MINUTES ?= 60
GPUS ?= 1
PYTHON ?= python3 python python3.14 python3.13 python3.12 python3.11

VENV := .venv
BIN := $(VENV)/bin
# The environment's stamp carries the lock's checksum: another lock, another stamp.
STAMP := $(VENV)/.from-$(shell cksum < requirements.lock | tr ' \t' '--')
LIMIT := $(if $(TIMEOUT),--timeout '$(TIMEOUT)')
# What is wrong, and nothing else, in a line each: book/_ext/snakemake_logger_plugin_ddbook
SNAKEMAKE = $(BIN)/snakemake --logger ddbook --resources gpu=$(GPUS) \
  --config profile=$(PROFILE) $(if $(TIMEOUT),timeout='$(TIMEOUT)') --quiet host reason
NEED_NB = $(if $(NB),,$(error NB=<notebook> is missing; there are: $(basename $(notdir $(wildcard notebooks/*.py)))))

help: ## list these targets
	@echo "make <target> [PROFILE=quick|standard|paper] [NB=<notebook>] [ARGS=\"-p key value\"]" \
	  "[TIMEOUT=<seconds>]"
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name what; do \
	  printf '  %-10s %s\n' "$$name" "$$what"; done
	@echo "notebooks: $(basename $(notdir $(wildcard notebooks/*.py)))"

book: $(STAMP) ## run every notebook whose run is not current, build the HTML, print where it is
	@$(BIN)/python -m ddbook.runner.report --profile $(PROFILE) $(LIMIT) --check
	@status=0; $(SNAKEMAKE) rules progress -- book || status=1; \
	  $(BIN)/python -m ddbook.runner.report --profile $(PROFILE); exit $$status

run: $(STAMP) ## run one notebook, NB=<name>, after those it needs; ARGS="-p key value" changes settings
	@$(NEED_NB)$(BIN)/python -m ddbook.runner.command $(NB) --profile $(PROFILE) $(ARGS) $(LIMIT) --check
ifeq ($(strip $(ARGS)),)
	@status=0; $(SNAKEMAKE) rules progress $(if $(FORCE),--force) -- $(NB) || status=1; \
	  $(BIN)/python -m ddbook.runner.report --profile $(PROFILE) $(NB); exit $$status
else
	@$(SNAKEMAKE) rules progress -- needs_of_$(NB)
	@$(BIN)/python -m ddbook.runner.command $(NB) --profile $(PROFILE) $(ARGS) $(LIMIT)
endif

report: $(STAMP) ## list the runs that there are, and what was published by former code
	@$(BIN)/python -m ddbook.runner.report --profile $(PROFILE) $(NB)

plan: $(STAMP) ## say what `make book` would run, and why
	@$(SNAKEMAKE) --dry-run -- book

check: $(STAMP) ## lint, types and tests of one notebook, NB=<name>, or one room, ROOM=methods or runner/keys
	@$(if $(NB)$(ROOM),,$(error NB=<notebook> or ROOM=<module> is missing))$(BIN)/python -m ddbook.runner.check \
	  $(if $(NB),--notebook $(NB)) $(if $(ROOM),--room $(ROOM))

test: $(STAMP) ## all tests, on all cores (at most 8); ARGS goes to pytest
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal $(ARGS)

lint: $(STAMP) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP) ## lay the code out, fix what ruff can fix
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

publish: $(STAMP) ## copy the standard run's tables of NB=<name> to results/
	@$(NEED_NB)$(BIN)/python -m ddbook.runner.publish $(NB)

sweep: $(STAMP) ## go on with NB=<notebook>'s long batch for MINUTES=<how many>, at the lowest priority, and publish
	@$(NEED_NB)$(BIN)/python -m ddbook.runner.queue $(NB) --minutes '$(MINUTES)'

gpu: $(STAMP) ## add JAX's NVIDIA plugin, of the locked JAX version, to the environment
	@version=$$($(BIN)/python -c 'import importlib.metadata as m; print(m.version("jax"))') && \
	  $(BIN)/python -m pip install --quiet "jax[cuda13]==$$version"

clean: ## remove the HTML, the quick runs and caches
	@rm -rf _build runs/quick runs/.partial runs/.stamps .snakemake .pytest_cache .mypy_cache .ruff_cache

clean-all: clean ## also all other runs and the environment
	@rm -rf runs $(VENV)

$(STAMP):
	@python=; for candidate in $(PYTHON); do \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then \
	  for candidate in $(PYTHON); do $$candidate -V 2>/dev/null | sed "s|^|  $$candidate is |" >&2; done; \
	  echo "error: Python 3.11 or newer is needed, and none of these is: $(PYTHON)." \
	    "Name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; fi; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  rm -rf $(VENV); $$python -m venv $(VENV) || exit 1; fi
	@echo "Installing what requirements.lock names into $(VENV) (minutes, the first time)"
	@rm -f $(VENV)/.from-*
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
