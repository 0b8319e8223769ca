# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed-$(shell cksum < requirements.lock | cut -d' ' -f1)
ARGS   ?=
SEEDS  ?= 200
RUNS   ?= 5
SEED   ?= 1

.PHONY: run test check sim chaos bench lock clean

run: $(STAMP)
	@$(BIN)/python run.py $(ARGS)

test: $(STAMP)
	@$(BIN)/python -m pytest $(ARGS)

check: $(STAMP)
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

sim: $(STAMP)
	@$(BIN)/python -m tests.sim --seeds $(SEEDS) $(ARGS)

# Whole engines: random kills under load (a seed each), then every fault point of every role.
chaos: $(STAMP)
	@$(BIN)/python -m tests.chaos --runs $(RUNS) --seed $(SEED)
	@$(BIN)/python -m tests.chaos --points --seed $(SEED)

bench: $(STAMP)
	@$(BIN)/python -m benchmarks $(ARGS)

$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Apex needs Python 3.11, 3.12 or 3.13; this is %s. Remedy: make PYTHON=/path/to/python3.12" % sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing pinned dependencies into $(VENV) …"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@rm -f $(VENV)/.installed-*
	@touch $@

# Needs uv; the output names no index.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
