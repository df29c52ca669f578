# The machine's own Python, pip and apt settings decide where packages come from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Written by hand; the other pages are made from code.
PAGES := $(filter-out docs/settings.md docs/metrics.md docs/performance.md, $(wildcard *.md docs/*.md))

.PHONY: help borg test test-slow lint format docs lock lock-mirror lab lab-env cluster kubeconfig down destroy e2e e2e-quick soak bench bench-lab clean

help:  ## Show what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

# The stamp is newer than the lock file once everything in it is installed.
$(VENV)/.installed: requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements.lock
	# On all processors, which pip does not do. Where PYTHONDONTWRITEBYTECODE is set, nobody would do it later: each
	# start of one of Salt's programs would compile for six seconds.
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib managed_k8s _runners || true
	# Salt's programs find our package whatever folder they run in.
	echo "$(CURDIR)" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/managed-k8s.pth"
	# So that settings can be validated before the Salt master was ever started.
	$(BIN)/python -m managed_k8s.master configure
	touch $@

# The tests of backups use the real one.
borg:
	@which borg zstd > /dev/null || { [ "$$(id -u)" = 0 ] && apt-get update --quiet \
	  && apt-get install --quiet --yes --no-install-recommends borgbackup zstd; } \
	  || { echo "borg or zstd is missing; as root: apt-get install borgbackup zstd" >&2; exit 1; }

test: $(VENV)/.installed borg lint  ## Lint, check types, run the fast tests, measure their coverage
	$(BIN)/pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder --cov --cov-report=
	$(BIN)/coverage report --skip-covered --skip-empty --sort=cover

test-slow: $(VENV)/.installed borg  ## Tests that are left out of these, as they take minutes: backups, with the real borg
	$(BIN)/pytest -m slow

lint: $(VENV)/.installed  ## ruff, mdformat, import-linter and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mdformat --check $(PAGES)
	PYTHONPATH=. $(BIN)/lint-imports
	$(BIN)/mypy

format: $(VENV)/.installed  ## Rewrite the sources in the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mdformat $(PAGES)

docs: $(VENV)/.installed  ## Write the pages and tables that are made from code
	$(BIN)/python -m managed_k8s.config.reference
	$(BIN)/python -m managed_k8s.model.steps_reference
	$(BIN)/python -m managed_k8s.status.metrics_reference

lock: $(VENV)/.installed  ## Pin what pyproject.toml asks for, with hashes
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
	  --extra dev --output-file requirements.lock pyproject.toml

lock-mirror: $(VENV)/.installed requirements.lock  ## Pin what the lab's servers install of Python
	for name in cloud.deploy.d/servers lab/mirror/build; do \
	  $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --allow-unsafe \
	    --python-version 3.11 --python-platform x86_64-manylinux_2_36 --constraint requirements.lock \
	    --output-file $$name.lock $$name.in || exit; \
	done

lab: $(VENV)/.installed  ## Start the lab: OpenStack, server image, Kubernetes artifacts (needs root)
	$(BIN)/python -m lab up

lab-env: $(VENV)/.installed  ## Print what to export to use the lab's cloud
	@$(BIN)/python -m lab env

# The lab's clouds.yaml is found in the checkout by everything that runs here.
cluster: lab  ## Make the cluster of cluster.map in the lab, until its smoke test passes
	eval "$$($(BIN)/python -m lab env)" && $(BIN)/python -m managed_k8s.master start --clouds-yaml "$$OS_CLIENT_CONFIG_FILE"
	$(BIN)/salt-cloud -y -m cluster.map
	$(BIN)/salt-run managed_k8s.wait

kubeconfig: $(VENV)/.installed  ## Say where the administrator's kubeconfig is, and nothing else
	@$(BIN)/salt-run managed_k8s.kubeconfig

down: $(VENV)/.installed  ## Stop the lab, keep its state
	$(BIN)/python -m lab down

destroy: $(VENV)/.installed  ## Undo `make cluster` and `make lab`: clusters, Salt master, lab; the cache stays
	$(BIN)/python -m lab destroy --yes
	$(BIN)/python -m managed_k8s.master forget --auth-url "$$($(BIN)/python -c 'from lab import settings; print(settings.load().auth_url)')"

e2e: lab  ## End-to-end tests: the cluster of cluster.map, a second one, the lab itself
	$(BIN)/pytest tests/e2e

e2e-quick: lab  ## Of these what .ci/run tries: the cluster is made, and nothing changes afterwards
	$(BIN)/pytest tests/e2e/test_create.py tests/e2e/test_idempotency.py

soak: lab  ## Random faults on the running cluster, one after another, each healed by itself; N=20, SEED= to repeat one
	$(BIN)/python -m tests.soak --faults $(or $(N),20) $(if $(SEED),--seed $(SEED))

bench: lab  ## Measure what is promised, by us against by hand; BENCH=--yes replaces the cluster
	eval "$$($(BIN)/python -m lab env)" \
	  && $(BIN)/python -m managed_k8s.master start --clouds-yaml "$$OS_CLIENT_CONFIG_FILE" \
	  && $(BIN)/python -m bench $(BENCH)

bench-lab: $(VENV)/.installed  ## Print the lab's start times, idle CPU and memory
	$(BIN)/python -m bench.lab

clean:  ## Remove what make made in the checkout
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
