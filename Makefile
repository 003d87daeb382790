# Two commands, nothing else needed: `make demo` and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/sh

# The newest Python on PATH that really starts and is 3.11 or newer.
PYTHON ?= $(shell for python in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$python; break; fi; done)
VENV := .venv
DEMO_VENV := .venv-demo
LOWEST_VENV := .venv-lowest
IMAGES_VENV := .venv-images
FRAMEWORKS_VENV := .venv-frameworks
EMBEDDINGS_VENV := .venv-embeddings
MUTANTS_VENV := .venv-mutants
PEERS_VENV := .venv-peers
EXTRAS := .[embedded,near,zstd,lz4,prometheus,opentelemetry,advisor,cli,fastapi]

.PHONY: help
help: ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 16

.PHONY: setup
setup: $(VENV)/installed ## create .venv with the project, all extras and the test tools

.PHONY: demo
demo: $(DEMO_VENV)/installed ## repeat the article's experiments, with a table and a chart
	$(DEMO_VENV)/bin/python -m examples.demo

.PHONY: test
test: lint types imports test-images ## all checks and all tests
	$(VENV)/bin/python -m pytest --numprocesses=2 --dist=loadfile

.PHONY: coverage
coverage: $(VENV)/installed ## the tests with a report of what they cover; not those that interrupt
	$(VENV)/bin/python -m pytest --cov --cov-report=term:skip-covered

.PHONY: test-images
test-images: $(IMAGES_VENV)/installed ## the image service's tests, with its model
	$(IMAGES_VENV)/bin/python -m pytest tests/image_service

.PHONY: test-frameworks
test-frameworks: $(FRAMEWORKS_VENV)/installed $(EMBEDDINGS_VENV)/installed ## the tests of model servers, boosters, ONNX and embeddings
	$(FRAMEWORKS_VENV)/bin/python -m pytest tests/frameworks --durations=5
	$(EMBEDDINGS_VENV)/bin/python -m pytest tests/embeddings

.PHONY: lint
lint: $(VENV)/installed ## ruff
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

.PHONY: types
types: $(VENV)/installed ## mypy
	$(VENV)/bin/mypy

.PHONY: imports
imports: $(VENV)/installed ## import-linter
	$(VENV)/bin/lint-imports

.PHONY: fuzz
fuzz: $(VENV)/installed ## the property tests and the entry fuzzer, at length
	HYPOTHESIS_PROFILE=long FUZZ_ENTRIES=1000000 $(VENV)/bin/python -m pytest \
		tests/properties tests/entries/test_fuzz.py --no-cov --timeout=3600

.PHONY: mutants
mutants: $(MUTANTS_VENV)/installed ## mutation tests, a sample; MODULE=entries/codec for one module
	$(MUTANTS_VENV)/bin/python -m tests.mutants $(if $(MODULE),--module $(MODULE)) $(if $(SAMPLE),--sample $(SAMPLE))

.PHONY: faults
faults: $(VENV)/installed ## the fault matrix at length; writes docs/faults.md
	$(VENV)/bin/python -m tests.faults.report --output docs/faults.md

.PHONY: bench
bench: $(VENV)/installed ## the benchmarks; writes docs/benchmarks.md; ONLY=near,hit for some of them
	$(VENV)/bin/python -m benchmarks $(if $(ONLY),--only $(ONLY))

.PHONY: bench-peers
bench-peers: $(PEERS_VENV)/installed ## the benchmark beside other caches for Python; writes docs/comparison.md
	$(PEERS_VENV)/bin/python -m benchmarks --only peers

.PHONY: docs
docs: $(VENV)/installed ## the documentation, into site/
	$(VENV)/bin/python -m mkdocs build --strict

.PHONY: docs-serve
docs-serve: $(VENV)/installed ## the documentation, at http://127.0.0.1:8000/ while you write it
	$(VENV)/bin/python -m mkdocs serve

.PHONY: test-lowest
test-lowest: $(LOWEST_VENV)/installed ## the tests on the lowest versions that are allowed
	$(LOWEST_VENV)/bin/python -m pytest --no-cov -p no:cacheprovider

$(VENV)/installed: pyproject.toml
	$(call venv,$(VENV))
	$(VENV)/bin/python -m pip install --quiet --editable "$(EXTRAS)" --group test
	touch $@

$(DEMO_VENV)/installed: pyproject.toml
	$(call venv,$(DEMO_VENV))
	$(DEMO_VENV)/bin/python -m pip install --quiet --editable ".[embedded]" --group demo
	touch $@

# Apart from the others, so that their dependencies do not restrict ours; its server is a Redis.
$(PEERS_VENV)/installed: pyproject.toml
	$(call venv,$(PEERS_VENV))
	$(PEERS_VENV)/bin/python -m pip install --quiet --editable ".[near]" --group peers
	touch $@

# Apart from the others: the model and its engine take 400 MB.
$(IMAGES_VENV)/installed: pyproject.toml examples/image_service/requirements.txt
	$(call venv,$(IMAGES_VENV))
	$(IMAGES_VENV)/bin/python -m pip install --quiet --editable ".[embedded]" --group test-images \
		--requirement examples/image_service/requirements.txt
	touch $@

# Apart from the others: five model servers, three boosters and ONNX Runtime take 1.7 GB.
$(FRAMEWORKS_VENV)/installed: pyproject.toml examples/frameworks/requirements.txt
	$(call venv,$(FRAMEWORKS_VENV))
	$(FRAMEWORKS_VENV)/bin/python -m pip install --quiet --no-compile --editable ".[embedded]" \
		--group test-elsewhere --requirement examples/frameworks/requirements.txt
	touch $@

$(EMBEDDINGS_VENV)/installed: pyproject.toml examples/embeddings/requirements.txt
	$(call venv,$(EMBEDDINGS_VENV))
	$(EMBEDDINGS_VENV)/bin/python -m pip install --quiet --no-compile --editable ".[embedded]" \
		--group test-elsewhere --requirement examples/embeddings/requirements.txt
	touch $@

$(MUTANTS_VENV)/installed: pyproject.toml
	$(call venv,$(MUTANTS_VENV))
	$(MUTANTS_VENV)/bin/python -m pip install --quiet --editable "$(EXTRAS)" --group test --group mutants
	touch $@

# The bounds of pyproject.toml, as constraints; Python 3.11, since they have no wheels for later.
$(LOWEST_VENV)/installed: pyproject.toml tests/lowest.txt
	$(call venv,$(LOWEST_VENV))
	$(LOWEST_VENV)/bin/python -m pip install --quiet --editable "$(EXTRAS)" --group test \
		--constraint tests/lowest.txt
	touch $@

define venv
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
endef

.PHONY: clean
clean: ## remove the environments and what was generated
	rm -rf $(VENV) $(DEMO_VENV) $(LOWEST_VENV) $(IMAGES_VENV) $(MUTANTS_VENV) $(PEERS_VENV) \
		$(FRAMEWORKS_VENV) $(EMBEDDINGS_VENV) .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache demo-output site
