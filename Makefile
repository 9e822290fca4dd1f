# `make help` lists what can be done. Everything is set up in .venv by itself; the stamp keeps later calls quick.
PYTHON ?= python3.11
CYCLES ?= 1
OUT ?= demo-out
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo demo-quick test check fix compile clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip==25.3
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY) ## a whole refinement cycle on this machine, ends with a report (CYCLES=2 adds the reinforcement cycle)
	$(BIN)/python -m pipelines run refine --local --preset demo --cycles $(CYCLES) --out $(OUT)

demo-quick: $(READY) ## the same in a minute or two, too short to learn much
	$(BIN)/python -m pipelines run refine --local --preset demo-quick --cycles $(CYCLES) --out $(OUT)-quick

test: $(READY) ## run the tests
	$(BIN)/python -m pytest -q

check: $(READY) ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(READY) ## format, and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

compile: $(READY) ## compile the pipelines to build/
	mkdir -p build
	$(BIN)/python -m pipelines compile refine -o build/refine.yaml

clean: ## remove what the other targets made
	rm -rf .venv build $(OUT) $(OUT)-quick
