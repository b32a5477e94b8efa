# Farebox from a fresh clone: `make run`. Needs make and Python 3.11 or newer, nothing else.
# What pip installs is pinned with hashes in requirements/*.txt; where from is pip's own configuration.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV := .venv
PY := $(VENV)/bin/python
PIP_INSTALL := $(PY) -m pip install --disable-pip-version-check --require-hashes

# A stamp is named for its requirements' checksum: it is made anew when they change, and only then.
# dev.txt holds all of run.txt in the same versions, so the two share one environment.
checksum = $(firstword $(shell cksum < requirements/$(1).txt))
RUN_STAMP := $(VENV)/.run-$(call checksum,run)
DEV_STAMP := $(VENV)/.dev-$(call checksum,dev)
TRAIN_STAMP := $(VENV)/.train-$(call checksum,train)
RAY_STAMP := $(VENV)/.ray-$(call checksum,ray)

PYTEST_ARGS ?=
# Half the tests on each of two cores; more processes than four would mostly wait for the disk.
ALONE := tests/flows tests/browser
# Of these, files that start sites of their own, measure no time and mostly wait: two at once.
PATIENT := $(addprefix tests/flows/test_,payments.py payouts.py reviews.py secrets_stay.py webhooks.py)
SPREAD := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help run setup test test-postgres test-ray check check-types check-rest format bench bench-flat soak state-machine mutation lock migrate-check clean

help: ## Show what there is.
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

run: $(RUN_STAMP) ## Set up what is missing and serve the site: PORT=8000 HOST=127.0.0.1 make run
	@exec $(PY) manage.py serve --setup

setup: $(RUN_STAMP) ## Set up what is missing, without serving.
	@$(PY) manage.py setup

test: $(DEV_STAMP) $(if $(TRAIN),$(TRAIN_STAMP)) check ## Run make check and all tests; TRAIN=1 adds torch and the training tests, FAST=1 leaves out the slow ones.
	@# Tests within a process share the cores, file by file; those that start sites and browsers want them alone.
	$(if $(PYTEST_ARGS),,$(PY) -m pytest $(SPREAD) $(if $(FAST),-m "not slow") $(addprefix --ignore=,$(ALONE)))
	$(if $(PYTEST_ARGS),,$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(if $(FAST),-m "not slow") $(PATIENT))
	$(PY) -m pytest $(if $(FAST),-m "not slow") $(or $(PYTEST_ARGS),$(ALONE) $(addprefix --ignore=,$(PATIENT)))
	@# Again on PostgreSQL, unless a part was asked for.
	@$(if $(FAST)$(PYTEST_ARGS),,$(MAKE) --no-print-directory test-postgres)

test-postgres: $(DEV_STAMP) ## Run the tests that touch the database on a PostgreSQL started for them; where it cannot start, say why.
	$(PY) -m tests.postgresql $(PY) -m pytest $(SPREAD) $(addprefix --ignore=,$(ALONE)) $(PYTEST_ARGS)

test-ray: $(RAY_STAMP) ## Install Ray beside the rest and run the tests of ENGINE=ray on a real cluster of this machine.
	$(PY) -m pytest tests/inference/test_ray_pool.py tests/flows/test_ray.py $(PYTEST_ARGS)

check: $(DEV_STAMP) ## Check format, lint, types, imports, migrations and deployment settings.
	@# The types take as long as all the rest: each has a core.
	@$(MAKE) --no-print-directory -j2 check-types check-rest

check-types: $(DEV_STAMP)
	$(PY) -m mypy

check-rest: $(DEV_STAMP)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(VENV)/bin/lint-imports
	$(MAKE) --no-print-directory migrate-check
	@# As deployed: over HTTPS, on PostgreSQL. Nothing is connected to or kept.
	@VAR_DIR=$$(mktemp -d) && trap 'rm -rf "$$VAR_DIR"' EXIT && export VAR_DIR && \
	SITE_URL=https://farebox.example DATABASE_URL=postgresql://farebox@farebox.example/farebox TRUSTED_PROXIES=10.0.0.1 \
	$(PY) manage.py check --deploy --fail-level WARNING

migrate-check: $(DEV_STAMP) ## Fail where a model has changed without its migration.
	@VAR_DIR=$$(mktemp -d) && trap 'rm -rf "$$VAR_DIR"' EXIT && export VAR_DIR && $(PY) manage.py makemigrations --check --dry-run

format: $(DEV_STAMP) ## Format the code and mend what can be mended by itself.
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

bench: $(DEV_STAMP) ## Measure the metered gateway against bare ONNX Runtime: BENCH_ARGS='--rounds 4 --seconds 6'. PROVIDER=cuda: a GPU against the CPU.
	$(PY) -m tests.bench.$(if $(filter cuda,$(PROVIDER)),cuda,run) $(BENCH_ARGS)

bench-flat: $(DEV_STAMP) ## Does a call cost the same with 1,000 models, 100,000 keys, ten million past calls? FILLED=folder of tests.bench.scale
	$(PY) -m tests.bench.flat $(if $(FILLED),--filled $(FILLED)) $(BENCH_ARGS)

soak: $(DEV_STAMP) ## Every kind of caller at once for MINUTES=10: who got no answer, and what grew?
	$(PY) -m tests.bench.soak --minutes $(or $(MINUTES),10) $(SOAK_ARGS)

state-machine: $(DEV_STAMP) ## 10,000 sequences of everything that moves money, the books checked after each step (an hour or two): SEQUENCES=500
	SEQUENCES=$(or $(SEQUENCES),10000) $(PY) -m pytest -s -q tests/promises/test_03_books_balance.py

mutation: $(DEV_STAMP) ## Change the code of money in one place at a time, and see whether a test notices: FILES=billing/pricing.py SAMPLE=40
	$(PY) -m tests.mutation.run $(if $(SAMPLE),--sample $(SAMPLE)) $(FILES)

lock: $(DEV_STAMP) ## Write requirements/*.txt anew from pyproject.toml (needs uv). train.txt: see its first lines.
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	@# dev first: it holds all of run, and what the tests use may need an older version of something shared.
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--extra dev --extra postgres --extra otel -o requirements/dev.txt pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		-c requirements/dev.txt -o requirements/run.txt pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--extra ray -c requirements/dev.txt -o requirements/ray.txt pyproject.toml

clean: ## Remove the environment and the tools' caches. var/ is your data: remove it yourself.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

$(PY):
	@if [ -z "$(PYTHON)" ]; then \
		echo "Farebox needs Python 3.11 or newer; python3 here is: $$(python3 --version 2>&1 || echo missing)." >&2; \
		echo "Install one, or name it: make run PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

# Old stamps go first: an installation that was broken off must not look like a finished one.
$(RUN_STAMP): | $(PY)
	@echo "Installing requirements/run.txt into $(VENV): this takes a minute or two"
	@rm -f $(VENV)/.run-*
	@$(PIP_INSTALL) --quiet -r requirements/run.txt
	@touch $@

$(DEV_STAMP): | $(PY) $(RUN_STAMP)
	@echo "Installing requirements/dev.txt into $(VENV)"
	@rm -f $(VENV)/.dev-*
	@$(PIP_INSTALL) --quiet -r requirements/dev.txt
	@touch $@

$(TRAIN_STAMP): | $(PY) $(DEV_STAMP)
	@echo "Installing requirements/train.txt into $(VENV) (torch: about a minute)"
	@rm -f $(VENV)/.train-*
	@$(PIP_INSTALL) --quiet -r requirements/train.txt
	@touch $@

$(RAY_STAMP): | $(PY) $(DEV_STAMP)
	@echo "Installing requirements/ray.txt into $(VENV)"
	@rm -f $(VENV)/.ray-*
	@$(PIP_INSTALL) --quiet -r requirements/ray.txt
	@touch $@
