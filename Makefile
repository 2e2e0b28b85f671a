# Attain. `make` alone lists what there is.
.DEFAULT_GOAL := help
.PHONY: help setup check format test test-unit demo up down status clean bench chaos mutants schemas generated check-rules migrate locks audit

PYTHON ?= python3
RUN := .venv/bin/python
PYTEST_ARGS ?=
ARGS ?=

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install everything from the locks and fetch Kafka; quick when nothing changed
	@$(PYTHON) deploy/bootstrap.py

check: setup ## Lint, format, types, import contracts, generated files
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(RUN) -m shared.events.schemas --check
	$(RUN) -m deploy.contracts --check

format: setup ## Format the code and mend what can be mended
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

test: setup ## All tests, on a real PostgreSQL and a real Kafka; PYTEST_ARGS="-k name" for some
	$(RUN) -m pytest $(PYTEST_ARGS)

test-unit: setup ## The tests that need no server
	$(RUN) -m pytest tests/unit tests/property $(PYTEST_ARGS)

demo: setup ## A company's year, from CRM events to payouts and alerts; ARGS=--once stops after it
	@$(RUN) -m deploy.demo $(ARGS)

up: setup ## Start the stack in the background; its state survives
	@$(RUN) -m deploy.embedded up --detach

down: setup ## Stop the stack
	@$(RUN) -m deploy.embedded down

status: setup ## What runs, and where
	@$(RUN) -m deploy.embedded status

clean: setup ## Remove the stack's state: all its data
	@$(RUN) -m deploy.embedded wipe

bench: setup ## Measure, into bench-results.json; ARGS=--quick in 5 minutes, PEERS=1 a peer too
	$(RUN) -m tests.bench $(ARGS)

chaos: setup ## Break everything while a company's year goes through; ARGS=--quick for 3 minutes
	@$(RUN) -m tests.chaos $(ARGS)

mutants: setup ## Change rates, ledger, rounding and periods, one place at a time: what do the tests miss?
	.venv/bin/mutmut run --max-children 2
	.venv/bin/mutmut results

schemas: setup ## Write the generated schemas: events, OpenAPI, AsyncAPI
	$(RUN) -m shared.events.schemas
	$(RUN) -m deploy.contracts

generated: setup ## Write what is made from the code: settings and metrics pages, dashboard
	$(RUN) -m deploy.generated

check-rules: ## Check and test the alert rules; needs promtool (Debian: apt-get install prometheus)
	@command -v promtool >/dev/null || { echo "make check-rules needs promtool. Debian, \
	Ubuntu: apt-get install prometheus. Elsewhere it is part of Prometheus' release." >&2; exit 1; }
	promtool check rules deploy/prometheus/rules/*.yml
	promtool test rules deploy/prometheus/tests/*_test.yml

migrate: setup ## Bring the running stack's database schemas up to date
	@$(RUN) -m deploy.embedded migrate

# No addresses and no paths of this machine get into the locks.
LOCK := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make locks"

locks: setup ## Make the locks anew; UPGRADE=--upgrade for newer versions
	$(LOCK) $(UPGRADE) -o requirements/runtime.txt requirements/runtime.in
	$(LOCK) $(UPGRADE) -o requirements/stack.txt requirements/stack.in
	$(LOCK) $(UPGRADE) -o requirements/dev.txt requirements/dev.in
	$(LOCK) $(UPGRADE) -o requirements/peers.txt requirements/peers.in

# Never a part of `make check`, which works without a network. --strict: a package of which no
# advisories can be had is a failure too, or an index without them would look like good news.
AUDIT := .venv/bin/uv tool run pip-audit==2.10.1 --strict --require-hashes --disable-pip

audit: setup ## Look the locks up in the package index's advisories; needs the network
	$(AUDIT) -r requirements/runtime.txt
	$(AUDIT) -r requirements/stack.txt
	$(AUDIT) -r requirements/dev.txt
