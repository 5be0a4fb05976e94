# `make` alone lists the targets. The work is done by docker/install.py and the project's own commands.
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-all lint format train lock hooks install tools tools-slow clean

# The Python that makes .venv: of these the first one of 3.11, 3.12 or 3.13 that its makers optimised (with profiles:
# the gateway then takes a fifth less CPU time), else the first. Overrule: make demo PYTHON=/path/to/python3.12
PYTHON :=
PYTHONS := $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11 /usr/bin/python3 python)

RUN := .venv/bin/python
CODE := models training server docker tests
# The tests find prometheus and promtool in .venv/bin, where `make tools` puts them.
TEST := PATH="$(CURDIR)/.venv/bin:$$PATH" $(RUN) -m pytest
COVERAGE := --cov --cov-report=term
# A file's tests stay together in one worker, and files start in their order: the end-to-end ones, few tests that take
# minutes, come early. `make test ARGS=-n0` runs all in one process, as a debugger needs.
PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

help: ## List the targets
	@echo "make demo and make test do all their set-up; a second run reuses .venv."
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: install ## Serve the shipped family on a real engine; ask the same questions at every tier and by auto
	@$(RUN) -m alphatier_server.demo

test: lint $(if $(CI),tools-slow,tools) ## ruff, mypy, then the tests with coverage (in CI the slow ones too)
	@$(TEST) $(PARALLEL) $(COVERAGE) $(if $(CI),,-m "not slow") $(ARGS)

test-slow: install tools-slow ## Only the tests that run for minutes
	@$(TEST) $(PARALLEL) -m slow $(ARGS)

test-all: lint tools-slow ## Every test, the slow ones too, with coverage
	@$(TEST) $(PARALLEL) $(COVERAGE) $(ARGS)

lint: install ## ruff check, ruff format --check, mypy --strict, who imports whom
	@$(RUN) -m ruff check $(CODE)
	@$(RUN) -m ruff format --check $(CODE)
	@$(RUN) -m mypy $(CODE)
	@.venv/bin/lint-imports --no-cache

format: install ## Let ruff format the code and fix what it can
	@$(RUN) -m ruff format $(CODE)
	@$(RUN) -m ruff check --fix $(CODE)

train: install ## Train the tiny family from nothing (about half an hour on 2 cores), into runs/tiny
	@.venv/bin/alphatier train training/recipes/tiny.yaml $(ARGS)

lock: ## Resolve docker/locks again, keeping pins that fit (UPGRADE=1: the newest versions)
	@$(find_python) && "$$python" docker/lock.py

hooks: install ## Run ruff, mypy and the size check before every git commit
	@$(RUN) -m pre_commit install

install: ## Make .venv ready (the other targets do this by themselves)
	@$(find_python) && "$$python" docker/install.py

tools: install
	@$(RUN) docker/tools.py

tools-slow: install
	@$(RUN) docker/tools.py --slow

clean: ## Remove .venv, caches and coverage data (not runs/)
	rm -rf .venv .demo .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.* htmlcov dist build
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

define find_python
python=; for wish in optimised any; do for one in $(PYTHONS); do \
  if [ -z "$$python" ] && "$$one" docker/python_fits.py $$wish >/dev/null 2>&1; then python="$$one"; fi; done; done; \
if [ -z "$$python" ]; then \
  echo "No Python 3.11, 3.12 or 3.13 among: $(PYTHONS)." >&2; \
  echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python@3.12)," >&2; \
  echo "or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; fi
endef
