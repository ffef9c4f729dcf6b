# Everything happens in .venv, which the targets make and keep up to date themselves: python3 with venv is enough.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m
PIP := $(RUN) pip --disable-pip-version-check --quiet

# Where it is set, each of the many child processes of the tests and of isolated runs would compile the suite anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help cts test-whole seeds soak bench findings zoo zoo-full zoo-rare mutation faults test lint types docs build clean
N ?= 20
SIM := cuda-sim:seed={n}
SOAK := --quick=200 --full=20 --jobs=2 --resume
SIMULATED := $(SIM) $(SIM):completion=host-function $(SIM):queues=4 $(SIM):event_pool_capacity=1

.DEFAULT_GOAL := help

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

cts: $(VENV)/stamp ## Run the conformance suite on every backend that this machine can run
	$(RUN) pytest_cuda2hal matrix

test: $(VENV)/stamp ## Run the tests of the harness and of the backends' insides
	@# Many wait for a deadline or a child process, so there are more workers than cores.
	$(RUN) pytest ./tests -n 4 --dist worksteal

test-whole: $(VENV)/stamp ## The same, with every variant
	$(RUN) pytest ./tests --whole -n 4 --dist worksteal

seeds: $(VENV)/stamp ## Run the suite on cuda-sim with N seeds (20) in each configuration; keeps the page of results
	$(RUN) pytest_cuda2hal repeat --quick=$(N) --jobs=2 --output=docs/results/cuda-sim-seeds $(SIMULATED:%=--backend=%)

soak: $(VENV)/stamp ## Run the suite on reference and cuda-sim 200 times at quick and 20 times at full effort; resumes
	$(RUN) pytest_cuda2hal repeat $(SOAK) --output=docs/results/soak-reference --backend=reference
	$(RUN) pytest_cuda2hal repeat $(SOAK) --output=docs/results/soak-cuda-sim --backend=$(SIM)

bench: $(VENV)/stamp ## Measure cuda, iree:cuda and the raw driver calls; needs a GPU, keeps the page of results
	$(VENV)/bin/python benchmarks/timeline.py --backend=cuda --backend=iree:cuda --raw --output=docs/results/timeline

findings: $(VENV)/stamp ## Write the page of findings on IREE's drivers anew from docs/results/reports
	$(VENV)/bin/python tools/findings.py

zoo: $(VENV)/stamp ## Run the suite against each backend that is wrong on purpose, until it is caught
	$(VENV)/bin/python tools/zoo.py

zoo-full: $(VENV)/stamp ## Run the whole suite against every one of them; keeps the kill matrix, can be resumed
	$(VENV)/bin/python tools/zoo.py --full --output docs/results/zoo

zoo-rare: $(VENV)/stamp ## Run the suite 20 times against each that shows one time in 50; keeps the page, can be resumed
	$(VENV)/bin/python tools/zoo.py --rare=50 --runs=20 --output docs/results/zoo-rare

mutation: $(VENV)/stamp ## Change the backends in small ways and see whether the suite notices; takes hours, can be resumed
	$(VENV)/bin/python tools/mutation.py

faults: $(VENV)/stamp ## Let every driver call of every case fail once, on the simulated driver; takes hours, can be resumed
	$(VENV)/bin/python tools/fault_loop.py --output=docs/results/faults

lint: $(VENV)/stamp ## Check style, format and types
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(VENV)/bin/python tools/typecheck.py

types: $(VENV)/stamp ## Check types only
	$(VENV)/bin/python tools/typecheck.py

docs: $(VENV)/stamp-docs ## Build the documentation in docs/_build/html
	$(RUN) sphinx -W -n --keep-going -b html docs docs/_build/html

build: $(VENV)/stamp ## Build the sdist, and from it the wheel, in dist/
	$(RUN) build

clean: ## Remove everything that these targets made
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .tox build dist docs/_build docs/generated *.egg-info

$(VENV)/stamp: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"
	$(PIP) install --editable . --group test-portable --group lint --group types
	@# What only some machines can have is no condition: the suite reports a backend without it as unavailable.
	$(PIP) install --group test || echo "no IREE runtime for this platform: going on without it"
	@if [ -e /dev/nvidiactl ]; then \
		$(PIP) install --editable ".[cuda]" || echo "no CUDA bindings for this platform: going on without them"; \
	fi
	touch $@

$(VENV)/stamp-docs: $(VENV)/stamp
	$(PIP) install --group docs
	touch $@
