# The commands of this project; `make` alone lists them. Each sets .venv up first where that is still to be done.

PYTHON ?= python3
VENV   ?= .venv
READY  := $(VENV)/.nameplate-ready
SET_UP := pyproject.toml constraints.txt $(wildcard scripts/*venv*.py)

# A finished set-up isn't even asked, unless it was made from another wheel index than is wanted now.
ifneq ($(TORCH_INDEX_URL),)
ifneq ($(TORCH_INDEX_URL),$(shell sed -n 's/^TORCH_INDEX_URL=//p' "$(READY)" 2>/dev/null))
$(READY): again
endif
endif

# Tests import the same modules in many short processes, so their compiled form is kept whatever the shell says.
PYTEST = env -u PYTHONDONTWRITEBYTECODE "$(VENV)/bin/python" -m pytest
# Test processes are of one thread each: threads of more than there are cores spin for each other. One more than there
# are cores, for many tests wait: for a deadline of a process that hangs, or for a page.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 1)
PARALLEL = --numprocesses $(WORKERS) --maxprocesses 8 --dist loadfile
# What `make test` leaves to `make test-long`; CONTRIBUTING.md has the markers. These have the machine to themselves.
ALONE = alone or gpu
LONG = long or $(ALONE)
# What both leave to `make test-nightly`: CI has some minutes only.
NIGHTLY = nightly
# How pytest ends where ARGS select none of the tests.
NONE = 5
# How many inputs `make fuzz` draws.
N ?= 100000

.DEFAULT_GOAL := help
.PHONY: help run test test-long test-nightly test-all check bench fuzz faults test-cluster schemas examples locale mfu clean again
.NOTPARALLEL:

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r command what; \
	  do printf '%-14s %s\n' "$$command" "$$what"; done
	@echo
	@echo "ARGS passes arguments on: make run ARGS='smoke --device cpu'. PYTHON names another Python than python3,"
	@echo "TORCH_INDEX_URL the wheel index that torch comes from."

run: $(READY) ## measure this machine: bench run ARGS
	@"$(VENV)/bin/bench" run $(ARGS)

test: $(READY) ## run the tests but the long ones, on every core: pytest ARGS
	@OMP_NUM_THREADS=1 $(PYTEST) -m "not ($(LONG) or $(NIGHTLY))" $(PARALLEL) $(ARGS)

test-long: $(READY) ## run the rest on every core, then, one by one, what needs the machine to itself: pytest ARGS
	@OMP_NUM_THREADS=1 $(PYTEST) -m "long and not ($(ALONE) or $(NIGHTLY))" $(PARALLEL) $(ARGS) || [ $$? -eq $(NONE) ]
	@$(PYTEST) -m "($(ALONE)) and not $(NIGHTLY)" $(ARGS) || [ $$? -eq $(NONE) ]

test-nightly: $(READY) ## run those that take minutes each: pytest ARGS
	@$(PYTEST) -m "$(NIGHTLY)" $(ARGS)

test-cluster: $(READY) ## Slurm, torchrun, killed and stopped processes for real; Slurm: apt-get install slurm-wlm munge
	@$(PYTEST) tests/health/test_real_cluster.py -rs $(ARGS)

test-all: test test-long test-nightly ## run all tests

check: $(READY) ## the static checks: ruff, mypy, import contracts
	@"$(VENV)/bin/python" -m ruff check
	@"$(VENV)/bin/python" -m ruff format --check
	@"$(VENV)/bin/python" -m mypy
	@MYPYPATH=scripts "$(VENV)/bin/python" -m mypy scripts
	@"$(VENV)/bin/python" -c 'import sys; from importlinter.cli import lint_imports_command as lint; sys.exit(lint())'
	@"$(VENV)/bin/python" scripts/import_circles.py src kernels bench scripts

bench: $(READY) ## the suites' cases under pytest-benchmark: pytest bench/ ARGS
	@"$(VENV)/bin/python" -m pytest bench/ $(ARGS)

fuzz: $(READY) ## call every command with N odd inputs (100,000): N=1000, ARGS='--seed 7'
	@OMP_NUM_THREADS=1 PYTHONPATH=tests/fuzz "$(VENV)/bin/python" -m fuzzing -n $(N) $(ARGS)

faults: $(READY) ## kill, stop and starve real runs on the CPU: ARGS='--kills 100 --stops 20 --starved 30'
	@PYTHONPATH=tests/faults "$(VENV)/bin/python" -m faulting $(ARGS)

schemas: $(READY) ## write the published JSON Schemas, after a change of what files hold
	@"$(VENV)/bin/python" scripts/write_schemas.py

examples: $(READY) ## make the transcripts and pictures of README and docs anew
	@"$(VENV)/bin/python" scripts/make_examples.py $(ARGS)

locale: $(READY) ## compile the translations, after a change of a .po file
	@"$(VENV)/bin/python" scripts/compile_locale.py

mfu: $(READY) ## fit the model of MFU again, after a change of the published training runs
	@"$(VENV)/bin/python" scripts/fit_mfu.py

clean: ## remove .venv and whatever else was made here, but never runs/
	rm -rf "$(VENV)" build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	find src kernels bench tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): $(SET_UP)
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { echo "Python: there is no $(PYTHON) on PATH, but Nameplate needs\
	 Python 3.11 or newer; install it (on Debian and Ubuntu: apt install python3 python3-venv) or name yours:\
	 make PYTHON=/path/to/python3 run" >&2; exit 2; }
	@"$(PYTHON)" scripts/make_venv.py "$(VENV)"
