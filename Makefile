# Everything runs from here, on a fresh machine with python3 (3.11+), make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check
# Development mode for the workers too, which see no flags but the environment.
PYTEST = PYTHONDEVMODE=1 PYTHONWARNINGS=error $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test check fuzz fuzz-bytes fuzz-merge fuzz-short mutants bench bench-short test-all interop sdks proxies docs servers clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# One stamp file for each group of dependencies: pip is asked only when pyproject.toml changed.
$(VENV)/.stamp-%: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --editable . --group $*
	@touch $@

servers: ## install the servers that are not ours (nginx, Hypercorn, etcd, ...) for the tests, where that is possible
	@sh tests/install_interop.sh --short & sh tests/install_servers.sh; wait; sh tests/install_proxies.sh

demo: $(VENV)/.stamp-demo ## the tour: a local server, typed calls, a retry, a stream, a list; on asyncio and on trio
	@$(BIN)/python docs/demo.py

test: $(VENV)/.stamp-test servers ## the tests, in under 5 minutes
	@$(PYTEST) -n 3 --dist worksteal $(ARGS)

check: $(VENV)/.stamp-test $(VENV)/.stamp-check ## lint, format, types, layers, generated docs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m mypy
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/python tests/verify_types.py
	@$(PYTEST) -q tests/test_layers.py
	@$(BIN)/python docs/make_diagrams.py --check

docs: $(VENV)/.stamp-test ## draw the tables of docs/design.md again
	@$(BIN)/python docs/make_diagrams.py

fuzz: $(VENV)/.stamp-test ## long fuzzing (FUZZ_STEPS=100000, and FUZZ_RUNS=1000000 of H1Wire beside h11), seeds printed
	@FUZZ_STEPS=$${FUZZ_STEPS:-100000} HYPOTHESIS_PROFILE=fuzz; seed=$${FUZZ_SEED:-$$(date +%s)}; \
	export FUZZ_STEPS HYPOTHESIS_PROFILE; echo "FUZZ_STEPS=$$FUZZ_STEPS FUZZ_SEED=$$seed"; \
	$(PYTEST) -q -k "any or every or always or Machine" --hypothesis-seed=$$seed tests/core tests/wire tests/model
	@$(MAKE) --no-print-directory fuzz-bytes

# What is found is kept in FOUND, not in the repository: fuzz-merge takes over the little of it that reaches something new.
CORPUS = tests/fuzz/corpus/h1
FOUND = .hypothesis/atheris
FUZZ_BYTES = $(BIN)/python tests/fuzz/h1_differential.py -max_len=2048 -artifact_prefix=$(FOUND)/

fuzz-bytes: $(VENV)/.stamp-fuzz ## only its libFuzzer part: H1Wire beside h11
	@mkdir -p $(FOUND)/h1; $(BIN)/python tests/fuzz/h1_seeds.py $(FOUND)/seeds
	@runs=$${FUZZ_RUNS:-1000000}; seed=$${FUZZ_SEED:-$$(date +%s)}; echo "FUZZ_RUNS=$$runs FUZZ_SEED=$$seed"; \
	$(FUZZ_BYTES) -runs=$$runs -seed=$$seed -dict=tests/fuzz/h1.dict -timeout=20 -verbosity=0 -print_final_stats=1 \
	$(FOUND)/h1 $(CORPUS) $(FOUND)/seeds

fuzz-merge: $(VENV)/.stamp-fuzz ## make its corpus again, from the corpus and from what was found (too many files: ARGS=-use_counters=0)
	@rm -rf $(FOUND)/merged; mkdir -p $(FOUND)/h1; $(BIN)/python tests/fuzz/h1_seeds.py $(FOUND)/merged
	@$(FUZZ_BYTES) -set_cover_merge=1 $(ARGS) $(FOUND)/merged $(CORPUS) $(FOUND)/h1
	@rm -f $(CORPUS)/* $(FOUND)/merged/seed-*; mv $(FOUND)/merged/* $(CORPUS)/

fuzz-short: $(VENV)/.stamp-test ## the same for a minute
	@$(MAKE) --no-print-directory fuzz FUZZ_STEPS=6000 FUZZ_RUNS=20000

mutants: $(VENV)/.stamp-test $(VENV)/.stamp-mutants ## plant faults in _core and _wire, see the tests notice them
	@$(BIN)/python tests/mutants.py $(ARGS)

bench: $(VENV)/.stamp-bench ## client CPU, memory and import beside other clients, against targets; writes docs/benchmarks.md (ARGS="--only get,h2 --loops trio")
	@$(BIN)/python benchmarks/run.py $(ARGS)

bench-short: $(VENV)/.stamp-bench
	@$(BIN)/python benchmarks/run.py --short

test-all: servers ## the tests on every CPython from 3.11 on that this machine has
	@sh tests/all_versions.sh

interop: $(VENV)/.stamp-test servers ## HTTP/2 with ten servers that are not ours, on three event loops: one table (ARGS="--servers nginx --loops trio")
	@sh tests/install_interop.sh
	@$(BIN)/python tests/interop.py $(ARGS)

sdks: $(VENV)/.stamp-test servers ## the SDKs of Anthropic and OpenAI over our connections, and over their own: one table (ARGS="--sdks openai --loops trio --http 2")
	@$(BIN)/python tests/sdk_engine.py $(ARGS)

proxies: $(VENV)/.stamp-test ## HTTP/1.1 and HTTP/2 through squid, tinyproxy and microsocks, on three event loops: one table (ARGS="--proxies squid --loops trio")
	@sh tests/install_interop.sh --short & sh tests/install_proxies.sh; wait
	@$(BIN)/python tests/proxies.py $(ARGS)

clean: ## remove what the targets made
	rm -rf $(VENV) .venv-* .hypothesis mutants .servers
