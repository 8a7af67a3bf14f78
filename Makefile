# `make help` lists the targets. All that they need is installed into .venv, from PyPI, with hashes.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SERVERS := $(VENV)/.servers

.PHONY: help demo test drill audit sbom bench bench-fleet dist reference rules dashboards screenshot soak golden clean
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*##/\1 /p' Makefile | while read -r name text; do printf '%-11s %s\n' "$$name" "$$text"; done

demo: $(READY)  ## a real Patroni cluster with an exporter before each node, and Prometheus where it is installed
	$(BIN)/python -m demo

test: $(READY) $(SERVERS)  ## everything that is checked: style, types, imports, Dockerfile, dependencies, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile deploy/compose/patroni.Dockerfile
	@$(MAKE) --no-print-directory audit
	$(BIN)/python -m pytest

audit: $(READY)  ## known vulnerabilities of what users install, from osv.dev; passes where osv.dev is not reachable
	@report=$$($(BIN)/pip-audit -r requirements.txt --require-hashes --disable-pip -s osv --progress-spinner off 2>&1); \
	status=$$?; \
	case $$report in \
		*"Max retries exceeded"* | *"Could not connect"*) echo "pip-audit: osv.dev is not reachable, no dependency was audited";; \
		*) echo "$$report"; exit $$status;; \
	esac

sbom: $(READY)  ## the bill of materials of what users install, as CycloneDX, in dist/sbom.json
	mkdir -p dist
	$(BIN)/python -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file dist/sbom.json requirements.txt

drill: $(READY) $(SERVERS)  ## real clusters go wrong in front of a real Prometheus and Alertmanager; some ten minutes
	$(BIN)/python -m pytest -vv tests/live/test_drill.py

bench: $(READY) $(SERVERS)  ## how fast it is, as ratios within one run; some seven minutes
	$(BIN)/python -m bench

bench-fleet: $(READY) $(SERVERS)  ## 10,000 targets through /probe, and 1,000 of which half are dead; some four minutes
	$(BIN)/python -m bench.fleet

dist: $(READY)  ## the sdist and the wheel, in dist/
	$(BIN)/python -m build --no-isolation

reference: $(READY)  ## METRICS.md, .env.sample and the table in docs/settings.md, from the code
	$(BIN)/python -m exporter reference metrics > METRICS.md.new && mv METRICS.md.new METRICS.md
	$(BIN)/python -m exporter reference env > .env.sample.new && mv .env.sample.new .env.sample
	$(BIN)/python -m exporter reference settings > settings.new
	sed -i -e '/^<!-- settings -->$$/,/^<!-- \/settings -->$$/{//!d}' -e '/^<!-- settings -->$$/r settings.new' docs/settings.md
	rm settings.new

rules: $(READY)  ## the rules in monitoring/rules and monitoring/operator, from the mixin
	$(BIN)/python -m monitoring.mixin

dashboards: $(READY)  ## the dashboards for Grafana in monitoring/grafana, from the code there
	$(BIN)/python -m monitoring.grafana

screenshot: $(READY) $(SERVERS)  ## the picture of the landing page in the README
	$(BIN)/python -m tests.screenshot

soak: $(READY)  ## three minutes of random faults before a real gunicorn; ARGS='--seconds 30 --seed 7' for others
	$(BIN)/python -m tests.soak $(ARGS)

golden: $(READY)  ## the expositions that the tests expect, from the code; read the difference
	$(BIN)/python -m tests.golden

clean:  ## away with all that is made here, .venv included
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "$(PYTHON) is missing or older than 3.11: install Python 3.11 or later, or name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	touch $@

# Servers and tools that tests start, from Debian's packages; to install them starts none. Who cannot install them is told
# which tests are skipped by the tests themselves.
$(SERVERS): tests/servers.txt $(READY)
	@missing=$$(dpkg-query -W -f='$${Status} $${Package}\n' $$(cat $<) 2>/dev/null | sed -n 's/^install ok installed //p' | \
		sort - $< | uniq -u); \
	if [ -z "$$missing" ]; then touch $@; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 && apt-get update -qq && \
		apt-get install -qq --no-install-recommends $$missing >/dev/null && touch $@; \
	else echo "not installed, and only root can: apt-get install $$missing" >&2; fi
