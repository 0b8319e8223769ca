# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed-$(shell cksum < requirements.lock | cut -d' ' -f1)
ARGS   ?=
SEEDS  ?= 200
RUNS   ?= 5
SEED   ?= 1
MINUTES ?= 10

# Clients of the paper gateway that its tests run besides the engine's own, an environment each.
CLIENTS := ib_async ibapi
client_stamp = .venv-$(1)/.installed-$(shell cksum < tests/venues/clients/$(1).lock | cut -d' ' -f1)

.PHONY: run test clients check sim agree chaos chaos-cycles chaos-orders soak-orders bench lock clean

run: $(STAMP)
	@$(BIN)/python run.py $(ARGS)

test: clients
test: $(STAMP)
	@$(BIN)/python -m pytest $(ARGS)

clients: $(foreach name,$(CLIENTS),$(call client_stamp,$(name)))

define CLIENT_RULE
$(call client_stamp,$(1)): tests/venues/clients/$(1).lock
	@test -x .venv-$(1)/bin/python || $$(PYTHON) -m venv .venv-$(1)
	@echo "installing the test client $(1) into .venv-$(1) …"
	@.venv-$(1)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r $$<
	@rm -f .venv-$(1)/.installed-*
	@touch $$@
endef
$(foreach name,$(CLIENTS),$(eval $(call CLIENT_RULE,$(name))))

check: $(STAMP)
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

sim: $(STAMP)
	@$(BIN)/python -m tests.sim --seeds $(SEEDS) $(ARGS)

# Live path, offline replay and reference on the same frames: an hour of generated market, and the recorded streams.
agree: $(STAMP)
	@$(BIN)/python -m tests.replay.agreement --seed $(SEED) $(ARGS)

# Whole engines: random kills under load (a seed each), then every fault point of every role.
chaos: $(STAMP)
	@$(BIN)/python -m tests.chaos --runs $(RUNS) --seed $(SEED)
	@$(BIN)/python -m tests.chaos --points --seed $(SEED)

# A bracket a run, and one death at a chosen step of its life; 36 runs an engine. make chaos-orders RUNS=200 SEED=1
chaos-orders: $(STAMP)
	@$(BIN)/python -m tests.chaos --orders --runs $(RUNS) --seed $(SEED) $(ARGS)

chaos-cycles: $(STAMP)
	@$(BIN)/python -m tests.chaos --cycles --runs $(RUNS) --seed $(SEED) --seconds 30

# Orders at the pace of the gateway, then more signals than can go out: none lost, memory bounded.
soak-orders: $(STAMP)
	@$(BIN)/python -m tests.chaos --soak --minutes $(MINUTES)
	@$(BIN)/python -m tests.chaos --overload

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
	rm -rf $(VENV) $(addprefix .venv-,$(CLIENTS)) .mypy_cache .ruff_cache .pytest_cache .hypothesis
