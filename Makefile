# One command per chore, the same here and in CI. Everything is quick the second time.

PYTHON ?= python3
ARGS ?=
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gastown
DOLT := $(or $(GT_DOLT),$(CACHE)/dolt-1.86.4/dolt)

# A stamp names what was installed from: these dependencies, into this directory.
KEY := $(shell { cat pyproject.toml requirements.lock requirements-dev.lock; pwd; } | cksum | tr -d ' ')
RUNTIME := .venv/runtime-$(KEY)
DEVELOPMENT := .venv/development-$(KEY)

# Keep compiled modules: each command and each restart of a worker would compile them anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup dolt demo test check audit lock sbom bench histories attack mutate chaos-supervision chaos-ledger clean

help:
	@echo "make demo    a scratch town, agents that fail, and how it recovers"
	@echo "make test    every test; ARGS='tests/unit -x' for some"
	@echo "make check   format, lint, types, import rules, compose file, advisories about dependencies"
	@echo "make bench   the benchmarks, and README's figures from them; ARGS='supervision' for some, ARGS=--quick in small"
	@echo "make attack  what a session, a gate and another user may not do, tried on both ledgers"
	@echo "make mutate  each guard taken out of a copy of the project: its test has to notice"
	@echo "make chaos-ledger        writers and the Dolt server, killed at random; ARGS='--rounds 20 --writers 8'"
	@echo "make chaos-supervision   a town at work, killed at random; ARGS='--seed 7 --minutes 15'"
	@echo "make histories   record anew what workflows do, after it was changed on purpose"
	@echo "make lock    dependencies anew, with their hashes; ARGS=--upgrade for newer ones"
	@echo "make sbom    what a town is made of, as CycloneDX: sbom.json"
	@echo "make setup   .venv with everything in it; make clean removes it"

setup: $(DEVELOPMENT)

demo: $(RUNTIME)
	@scripts/require git tmux
	.venv/bin/gt demo $(ARGS)

test: export GT_DOLT := $(DOLT)
test: $(DEVELOPMENT) dolt
	@scripts/require git git-lfs tmux bwrap
	.venv/bin/pytest -n auto --dist worksteal $(ARGS)

check: $(DEVELOPMENT)
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	scripts/check-compose
	scripts/audit

audit: $(DEVELOPMENT)
	scripts/audit

# The dev lock takes what the other one has, so that one environment serves both.
LOCK := .venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock' pyproject.toml
lock: $(DEVELOPMENT)
	$(LOCK) --group build -o requirements.lock $(ARGS)
	$(LOCK) --group build --group dev -c requirements.lock -o requirements-dev.lock $(ARGS)

sbom: $(DEVELOPMENT)
	.venv/bin/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible \
		--of JSON -o sbom.json requirements.lock

bench: export GT_DOLT := $(DOLT)
bench: $(DEVELOPMENT) dolt
	@scripts/require git tmux
	.venv/bin/python -m benchmarks $(ARGS)

histories: export GT_DOLT := $(DOLT)
histories: $(DEVELOPMENT) dolt
	@scripts/require git tmux
	.venv/bin/python -m tests.replay.record

attack: export GT_DOLT := $(DOLT)
attack: $(DEVELOPMENT) dolt
	@scripts/require git tmux bwrap
	@.venv/bin/python -m tests.attack

mutate: export GT_DOLT := $(DOLT)
mutate: $(DEVELOPMENT) dolt
	@scripts/require git tmux bwrap
	@.venv/bin/python -m tests.attack.mutate

chaos-supervision: export GT_DOLT := $(DOLT)
chaos-supervision: $(DEVELOPMENT) dolt
	@scripts/require git tmux bwrap
	@.venv/bin/python -m tests.chaos.supervision $(ARGS)

chaos-ledger: export GT_DOLT := $(DOLT)
chaos-ledger: $(DEVELOPMENT) dolt
	@.venv/bin/python -m tests.chaos.ledger $(ARGS)

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME):
	@PYTHON='$(PYTHON)' scripts/make-venv
	.venv/bin/python -m pip install -q --require-hashes -r requirements.lock
	.venv/bin/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

$(DEVELOPMENT): $(RUNTIME)
	.venv/bin/python -m pip install -q --require-hashes -r requirements-dev.lock
	@touch $@

# Not a target of its own name, which make would cut in two at a blank in HOME.
dolt: export GT_DOLT := $(DOLT)
dolt:
	@test -x "$$GT_DOLT" || scripts/build-dolt "$$GT_DOLT"
