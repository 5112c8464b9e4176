# The two commands: `make demo` shows the whole way on this machine, `make test` passes the tests. No root, no container engine.
# ARGS="..." goes to the program a target runs: make demo ARGS="-o json", make test ARGS="-k ledger", make bench ARGS="-o json".

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.PHONY: help demo test test-pythons test-peers fuzz lint bench mutants corpora lock clean

PYTHONS := 3.11 3.12 3.13
PEERS := openssh-client openssh-server skopeo docker-registry oci-registry tessera omniwitness notes
UV ?= uv

help:
	@echo "make demo        the whole way once on this machine: build, sign, ping, review, deploy, log, audit"
	@echo "make test        all tests that need nothing but this machine"
	@echo "make test-pythons  unit and property tests on every other Python from 3.11 to 3.13 that is found"
	@echo "make test-peers  the tests against foreign programs; installs ssh, sshd, skopeo and a registry (as root on Debian), builds the others with Go"
	@echo "make fuzz        bytes that are almost good for every reader; FUZZ=target SECONDS=600 for one of them and longer"
	@echo "make lint        ruff, mypy, import rules"
	@echo "make bench       measurements; BENCH=prefix runs some, ARGS=\"-o json\" gives one document"
	@echo "make mutants     changes what is checked, guard by guard, and asks whether a test notices; MUTANTS=path changes some files"
	@echo "make corpora     public test data, for whoever has it not beside the checkout"
	@echo "make lock        resolve the dependencies anew (needs uv)"
	@echo "make clean       remove what these commands made"

demo: .venv/.runtime
	@.venv/bin/pingee demo $(ARGS)

# With two workers: the acceptance tests share one house, which mostly waits.
test: .venv/.dev
	@.venv/bin/python -m pytest -n 2 --dist loadgroup $(ARGS)

# Every other interpreter runs what is pure. One that is not on this machine is named.
test-pythons: .venv/.dev
	@main=$$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	others=$$(for version in $(PYTHONS); do [ "$$version" = "$$main" ] || echo "pure-$$version"; done); \
	$(MAKE) -j 2 $$others

pure-%: FORCE
	@if ! scripts/find-python "$*" >/dev/null; then echo "Python $*: not found on this machine, not tested"; exit 0; fi; \
	$(MAKE) ".venv-$*/.dev" || exit 1; \
	log=$$(mktemp); \
	".venv-$*/bin/python" -m pytest -q -p no:cacheprovider tests/unit tests/property >"$$log" 2>&1; status=$$?; \
	if [ $$status = 0 ]; then echo "Python $*: unit and property tests: $$(tail -n 1 "$$log")"; else cat "$$log"; fi; \
	rm -f "$$log"; exit $$status

FORCE:

test-peers: .venv/.dev
	@tests/peers/build $(PEERS)
	@.venv/bin/python -m pytest -m peer $(ARGS)

# The short form is among the tests. It ends at the first fault and prints its bytes.
fuzz: .venv/.dev
	@.venv/bin/python -m tests.fuzz.run $(FUZZ) --seconds $(or $(SECONDS),60) $(ARGS)

lint: .venv/.dev
	@.venv/bin/ruff check .
	@.venv/bin/mypy gatekeeper builder clients
	@.venv/bin/lint-imports --no-logo
	@find gatekeeper builder clients tests -name '*.py' | xargs wc -l | awk '$$2 != "total" && $$1 > 400 {print "a question to answer: " $$2 " has " $$1 " lines"}'

bench: .venv/.dev
	@.venv/bin/python -m tests.bench.run $(if $(BENCH),--only $(BENCH)) $(ARGS)

# It remembers outside the tree what it found: a run that was cut short goes on, and only what was changed is asked anew.
mutants: .venv/.dev
	@.venv/bin/python -m tests.mutants.run $(if $(MUTANTS),--only $(MUTANTS)) $(ARGS)

corpora:
	@scripts/fetch-corpora

# One lock for 3.11 to 3.13, with the hash of every wheel. requirements.txt carries the build backend too: see scripts/install.
lock:
	@command -v $(UV) >/dev/null || { echo "pingee: make lock needs uv; install it, or name it: make lock UV=/path/to/uv" >&2; exit 1; }
	@$(UV) pip compile pyproject.toml --group build --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -o requirements.txt
	@$(UV) pip compile pyproject.toml --group build --group dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -o requirements-dev.txt

clean:
	rm -rf .venv .venv-3.* dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.runtime: requirements.txt pyproject.toml scripts/install
	@scripts/check-machine
	@scripts/install .venv "$$(scripts/find-python)" requirements.txt
	@touch $@

.venv/.dev: requirements-dev.txt pyproject.toml scripts/install
	@scripts/check-machine
	@scripts/install .venv "$$(scripts/find-python)" requirements-dev.txt
	@touch .venv/.runtime $@

.venv-%/.dev: requirements-dev.txt pyproject.toml scripts/install
	@scripts/install ".venv-$*" "$$(scripts/find-python $*)" requirements-dev.txt
	@touch $@
