# `make repro` and `make test` are all that a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export DVC_NO_ANALYTICS := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: env repro test oracles docs lint audit lock
env: $(VENV)/.installed

$(VENV)/.installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("medadapt needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	mkdir -p -m 700 .cache   # for DVC's state, which holds the original names of files
	touch $@

repro: env   ## the cohort of params.yaml through all stages
	$(BIN)/medadapt run

test: env    ## the test suite, on all cores; each of its processes takes one
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

oracles: .oracles/.installed   ## our metrics beside those of other libraries, in an environment of its own
	OMP_NUM_THREADS=1 .oracles/bin/python -m pytest tests/oracles

PACKAGES := python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
.oracles/.installed: $(VENV)/.installed tests/oracles/requirements.txt   # on top of .venv, which it leaves as it is
	$(BIN)/python -m venv --clear .oracles
	echo '*' > .oracles/.gitignore
	$(BIN)/$(PACKAGES) > "$$(.oracles/bin/$(PACKAGES))/medadapt.pth"
	.oracles/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/oracles/requirements.txt
	touch $@

docs: .docs/.installed   ## the documentation as a site: open site/index.html; a broken link stops it
	NO_MKDOCS_2_WARNING=1 .docs/bin/mkdocs build --strict

.docs/.installed: docs/requirements.txt
	$(PYTHON) -m venv --clear .docs
	echo '*' > .docs/.gitignore
	.docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r docs/requirements.txt
	touch $@

lint: env    ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: env   ## known vulnerabilities of the pinned packages; needs pip-audit and its database
	$(BIN)/python -c 'import pip_audit' || (echo "pip-audit is not installed: $(BIN)/python -m pip install pip-audit" && false)
	$(BIN)/python -m pip_audit --disable-pip --require-hashes --requirement requirements.txt

lock:        ## write requirements.txt anew; needs uv
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --upgrade -o requirements.txt
	echo mkdocs-material | uv pip compile - --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --upgrade -o docs/requirements.txt
