# SPDX-License-Identifier: GPL-2.0-or-later
# Every target sets up what it needs in .venv; nothing is installed outside the checkout,
# except downloaded kernel images, which are kept in $XDG_CACHE_HOME/staleline.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Formats and lints the scripts of the explorer, as deno.json says.
DENO := DENO_DIR=$(VENV)/deno DENO_NO_UPDATE_CHECK=1 NO_COLOR=1 $(BIN)/deno

.PHONY: run examples test lint format bench second-opinions every-kernel exhaustive mutants properties \
	fleet-equality fleet-spark fuzz fuzz-commands kernels compilers instrumented boot-test machine \
	machine-test machine-matrix machine-mutants docs lock pyz deb install-test dist site site-test \
	operators-test clean

run: $(STAMP)
	@$(BIN)/python tools/demo.py

# The dumps and kernels that README.md names, in examples/.
examples: $(STAMP)
	@$(BIN)/python tools/examples.py

# Hundreds of tests start the command: without its bytecode each would compile it again.
test exhaustive every-kernel: export PYTHONDONTWRITEBYTECODE :=

test: lint
	$(BIN)/python tools/fetch_kernels.py
	$(BIN)/pytest -n auto --dist worksteal

# The suite with every case of the products of which `make test` takes some.
exhaustive: $(STAMP)
	$(BIN)/python tools/fetch_kernels.py
	EXHAUSTIVE=1 $(BIN)/pytest -n auto --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(DENO) fmt --check --quiet
	$(DENO) lint --quiet

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(DENO) fmt --quiet

bench: $(STAMP)
	$(BIN)/python tools/fetch_kernels.py
	$(BIN)/python -m benchmarks.cold_start
	$(BIN)/python -m benchmarks.kernels
	$(BIN)/python -m benchmarks.symbols
	$(BIN)/python -m benchmarks.decision_diagrams
	$(BIN)/python -m benchmarks.checkers
	$(BIN)/python -m benchmarks.fleet

# The whole grid of cases against rumur and spin; `make test` takes a sample of it.
second-opinions: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal tests/check/export/full_grid_of_second_opinions.py

# Every kernel that tests/data/kernels.toml names; `make test` takes the required ones.
every-kernel: $(STAMP)
	$(BIN)/python tools/fetch_kernels.py --all
	EVERY_KERNEL=1 EXHAUSTIVE=1 $(BIN)/pytest -n 2 --dist worksteal tests/kernel

# Questions and guards planted into four kernels at every place and of every kind; over half an hour.
# PLANTED_GUARDS=75 takes fewer of the 1,000 guards.
mutants: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal tests/kernel/influence/every_planted_question.py

# The principles of evidence over 20,000 machines and more; docs/properties.md has a result.
PROPERTY_SECONDS ?= 3600
properties: $(STAMP)
	$(BIN)/python tools/fetch_kernels.py
	$(BIN)/python -m tests.properties.long_run --machines 20000 --seconds $(PROPERTY_SECONDS) \
		--workers 2
	$(BIN)/pytest -n 2 --dist worksteal tests/properties/planted_defects.py

# Hosts judged one by one and as a fleet, by every rule and by images; FLEET_HOSTS=200 takes fewer,
# FLEET_IMAGE_HOSTS and FLEET_MACHINES likewise for images.
fleet-equality: $(STAMP)
	$(BIN)/python tools/fetch_kernels.py
	$(BIN)/pytest -n 2 --dist worksteal tests/fleet/every_host_and_rule.py

# The fleet's statements on Spark against DuckDB, row by row; needs a Java runtime.
fleet-spark: $(STAMP)
	$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements-spark.lock
	$(BIN)/pytest tests/fleet/rows_of_spark.py

FUZZ_SECONDS ?= 1800
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz.images --seconds $(FUZZ_SECONDS)

# Mutated inputs of all formats through the commands that read files, with limits.
FUZZ_INPUTS ?= 2000
fuzz-commands: $(STAMP)
	$(BIN)/python -m tests.fuzz.commands --inputs $(FUZZ_INPUTS)

# Debian's sources, patched, configured and compiled; then booted in QEMU. See docs/kernels.md.
kernels: $(STAMP)
	$(BIN)/python -m tools.build_kernels
	$(BIN)/pytest tests/kernel/built_tdx_host.py

# The same sources by another compiler and in another configuration; needs clang-19 and lld-19.
compilers: $(STAMP)
	$(BIN)/python -m tools.build_kernels 6.12 tdx-host 6.12-clang-lto tdx-host-clang-lto 6.12-plain
	$(BIN)/pytest tests/kernel/built_compilers.py

# The same sources with instrumentation, and with options taken away; long, see docs/kernels.md.
INSTRUMENTED := 6.12-gcov 6.12-kasan-inline
instrumented: $(STAMP)
	$(BIN)/python -m tools.build_kernels $(INSTRUMENTED)
	$(BIN)/pytest tests/kernel/built_instrumented.py

boot-test: $(STAMP)
	$(BIN)/python -m tools.boot_kernels

# The simulated machine: Debian's Bochs with the patches of machine/. See docs/machine.md.
machine: $(STAMP)
	$(BIN)/python -m tools.build_machine

# All litmus programs, the tests that need the machine, and a kexec with and without its flush.
machine-test: machine
	$(BIN)/python tools/fetch_kernels.py --series 6.1 --series 6.12 --series 7
	$(BIN)/python -m tools.machine_litmus
	$(BIN)/python -m tools.machine_kit
	$(BIN)/pytest tests/machine
	$(BIN)/pytest -n 2 tests/machine/kexec_on_the_machine.py

# Predicted against observed over kernels, machines, transitions and adversaries. Goes on where it was
# interrupted; hours.
machine-matrix: machine
	nice -n 15 $(BIN)/python -m tools.machine_matrix

# Mistakes in the simulated caches, which the litmus programs have to notice.
machine-mutants: machine
	nice $(BIN)/python -m tools.machine_mutants

# Man pages, completions, docs/explanations.md: rewrite what is generated from the program.
docs: $(STAMP)
	$(BIN)/python -m tools.generate_docs

# One file for hosts where nothing may be installed, and a Debian package.
pyz: $(STAMP)
	@$(BIN)/python -m tools.packages.single_file

deb: $(STAMP)
	@$(BIN)/python -m tools.packages.deb

# Every way to install, each in a root of Debian that has nothing else; needs root and debootstrap.
install-test: $(STAMP)
	$(BIN)/python tools/fetch_kernels.py --series 6.12
	$(BIN)/python -m tools.packages.clean_root

# The examples for operators, run by ansible, by promtool and by NRPE; the latter are Debian's.
operators-test: $(STAMP)
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements-operators.lock
	$(BIN)/python tools/fetch_kernels.py
	$(BIN)/pytest tests/operators_tools.py

# What an index would serve, checked, and the wheel tried by every Python of this host; with root and
# debootstrap also by those of Debian's suites: DIST_SUITES='trixie forky'.
DIST_SUITES ?=
dist: $(STAMP)
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements-dist.lock
	@$(BIN)/python -m tools.packages.distribution --suites $(DIST_SUITES)

# The documentation as pages, in build/site; a link that leads nowhere fails.
site: $(STAMP)
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements-site.lock
	@$(BIN)/python -m tools.site

site-test: site
	$(BIN)/pytest tests/tools/built_site.py

# Rewrites the lock file from pyproject.toml; the only target that may change it.
lock: $(STAMP)
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --extra all --group dev \
		--python-version 3.11 --custom-compile-command 'make lock' \
		--output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --group spark \
		--constraint requirements.lock --python-version 3.11 \
		--custom-compile-command 'make lock' --output-file requirements-spark.lock
	for group in site dist operators; do \
		$(BIN)/uv pip compile --quiet --universal --generate-hashes --group $$group \
			--constraint requirements.lock --python-version 3.11 \
			--custom-compile-command 'make lock' --output-file requirements-$$group.lock || exit 1; \
	done

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist src/*.egg-info

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "staleline needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "this Python cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "setting up $(VENV) (once) ..."
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
