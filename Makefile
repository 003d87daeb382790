# Two commands, nothing else needed: `make demo` and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/sh

VENV := .venv
# The Python of .venv, if there is one; else the newest on PATH that really starts and is 3.11 or newer.
ifndef PYTHON
PYTHON := $(shell for python in $(VENV)/bin/python python3.14 python3.13 python3.12 python3.11 python3 python; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$python; break; fi; done)
endif
DEMO_VENV := .venv-demo
LOWEST_VENV := .venv-lowest
IMAGES_VENV := .venv-images
FRAMEWORKS_VENV := .venv-frameworks
EMBEDDINGS_VENV := .venv-embeddings
MUTANTS_VENV := .venv-mutants
PEERS_VENV := .venv-peers
# An environment is made anew when PYTHON is of another minor version than the one it was made with.
VERSION := $(if $(PYTHON),$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
INSTALLED := installed-$(VERSION)
EXTRAS := .[embedded,near,zstd,lz4,prometheus,opentelemetry,advisor,cli,fastapi]

.PHONY: help
help: ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 16

.PHONY: setup
setup: $(VENV)/$(INSTALLED) ## create .venv with the project, all extras and the test tools

.PHONY: demo
demo: $(DEMO_VENV)/$(INSTALLED) ## repeat the article's experiments, with a table and a chart
	$(DEMO_VENV)/bin/python -m examples.demo

.PHONY: test
test: lint types imports test-images ## all checks and all tests
	$(VENV)/bin/python -m pytest --numprocesses=2 --dist=loadfile

.PHONY: coverage
coverage: $(VENV)/$(INSTALLED) ## the tests with a report of what they cover; not those that interrupt
	$(VENV)/bin/python -m pytest --cov --cov-report=term:skip-covered

.PHONY: test-images
test-images: $(IMAGES_VENV)/$(INSTALLED) ## the image service's tests, with its model
	$(IMAGES_VENV)/bin/python -m pytest tests/image_service

.PHONY: test-frameworks
test-frameworks: $(FRAMEWORKS_VENV)/$(INSTALLED) $(EMBEDDINGS_VENV)/$(INSTALLED) ## the tests of model servers, boosters, ONNX and embeddings
	$(FRAMEWORKS_VENV)/bin/python -m pytest tests/frameworks --durations=5
	$(EMBEDDINGS_VENV)/bin/python -m pytest tests/embeddings

.PHONY: lint
lint: $(VENV)/$(INSTALLED) ## ruff
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

.PHONY: types
types: $(VENV)/$(INSTALLED) ## mypy
	$(VENV)/bin/mypy

.PHONY: imports
imports: $(VENV)/$(INSTALLED) ## import-linter
	$(VENV)/bin/lint-imports

.PHONY: dist-check
dist-check: $(VENV)/$(INSTALLED) ## build the wheel and the sdist, and try them in empty environments, with each extra alone
	$(VENV)/bin/python -m tests.distribution

.PHONY: fuzz
fuzz: $(VENV)/$(INSTALLED) ## the property tests and the entry fuzzer, at length
	HYPOTHESIS_PROFILE=long FUZZ_ENTRIES=1000000 $(VENV)/bin/python -m pytest \
		tests/properties tests/entries/test_fuzz.py --no-cov --timeout=3600

.PHONY: mutants
mutants: $(MUTANTS_VENV)/$(INSTALLED) ## mutation tests, a sample; MODULE=entries/codec for one module
	$(MUTANTS_VENV)/bin/python -m tests.mutants $(if $(MODULE),--module $(MODULE)) $(if $(SAMPLE),--sample $(SAMPLE))

.PHONY: faults
faults: $(VENV)/$(INSTALLED) ## the fault matrix at length; writes docs/faults.md
	$(VENV)/bin/python -m tests.faults.report --output docs/faults.md

.PHONY: bench
bench: $(VENV)/$(INSTALLED) ## the benchmarks; writes docs/benchmarks.md; ONLY=near,hit for some of them
	$(VENV)/bin/python -m benchmarks $(if $(ONLY),--only $(ONLY))

.PHONY: bench-peers
bench-peers: $(PEERS_VENV)/$(INSTALLED) ## the benchmark beside other caches for Python; writes docs/comparison.md
	$(PEERS_VENV)/bin/python -m benchmarks --only peers

.PHONY: docs
docs: $(VENV)/$(INSTALLED) ## the documentation, into site/
	$(VENV)/bin/python -m mkdocs build --strict

.PHONY: docs-serve
docs-serve: $(VENV)/$(INSTALLED) ## the documentation, at http://127.0.0.1:8000/ while you write it
	$(VENV)/bin/python -m mkdocs serve

.PHONY: test-lowest
test-lowest: $(LOWEST_VENV)/$(INSTALLED) ## the tests on the lowest versions that are allowed
	$(LOWEST_VENV)/bin/python -m pytest --no-cov -p no:cacheprovider

$(VENV)/$(INSTALLED): pyproject.toml
	$(call venv,$(VENV))
	$(VENV)/bin/python -m pip install --quiet --editable "$(EXTRAS)" --group test
	touch $@

$(DEMO_VENV)/$(INSTALLED): pyproject.toml
	$(call venv,$(DEMO_VENV))
	$(DEMO_VENV)/bin/python -m pip install --quiet --editable ".[embedded]" --group demo
	touch $@

# Apart from the others, so that their dependencies do not restrict ours; its server is a Redis.
$(PEERS_VENV)/$(INSTALLED): pyproject.toml
	$(call venv,$(PEERS_VENV))
	$(PEERS_VENV)/bin/python -m pip install --quiet --editable ".[near]" --group peers
	touch $@

# Apart from the others: the model and its engine take 400 MB.
$(IMAGES_VENV)/$(INSTALLED): pyproject.toml examples/image_service/requirements.txt
	$(call venv,$(IMAGES_VENV))
	$(IMAGES_VENV)/bin/python -m pip install --quiet --editable ".[embedded]" --group test-images \
		--requirement examples/image_service/requirements.txt
	touch $@

# Apart from the others: five model servers, three boosters and ONNX Runtime take 1.7 GB.
$(FRAMEWORKS_VENV)/$(INSTALLED): pyproject.toml examples/frameworks/requirements.txt
	$(call venv,$(FRAMEWORKS_VENV))
	$(FRAMEWORKS_VENV)/bin/python -m pip install --quiet --no-compile --editable ".[embedded]" \
		--group test-elsewhere --requirement examples/frameworks/requirements.txt
	touch $@

$(EMBEDDINGS_VENV)/$(INSTALLED): pyproject.toml examples/embeddings/requirements.txt
	$(call venv,$(EMBEDDINGS_VENV))
	$(EMBEDDINGS_VENV)/bin/python -m pip install --quiet --no-compile --editable ".[embedded]" \
		--group test-elsewhere --requirement examples/embeddings/requirements.txt
	touch $@

$(MUTANTS_VENV)/$(INSTALLED): pyproject.toml
	$(call venv,$(MUTANTS_VENV))
	$(MUTANTS_VENV)/bin/python -m pip install --quiet --editable "$(EXTRAS)" --group test --group mutants
	touch $@

# The bounds of pyproject.toml, as constraints.
$(LOWEST_VENV)/$(INSTALLED): pyproject.toml tests/lowest.txt
	@test "$(VERSION)" = 3.11 || { echo "These versions have no wheels for later ones: make test-lowest PYTHON=python3.11"; exit 1; }
	$(call venv,$(LOWEST_VENV))
	$(LOWEST_VENV)/bin/python -m pip install --quiet --editable "$(EXTRAS)" --group test \
		--constraint tests/lowest.txt
	touch $@

define venv
	@test -n "$(VERSION)" || { echo "Python 3.11 or newer is needed; name it: make PYTHON=..."; exit 1; }
	test -d $(1)/lib/python$(VERSION) || rm -rf $(1)
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
endef

.PHONY: clean
clean: ## remove the environments and what was generated
	rm -rf $(VENV) $(DEMO_VENV) $(LOWEST_VENV) $(IMAGES_VENV) $(MUTANTS_VENV) $(PEERS_VENV) \
		$(FRAMEWORKS_VENV) $(EMBEDDINGS_VENV) .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache demo-output site
