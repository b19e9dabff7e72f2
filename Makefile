# `make demo` and `make test` both start from nothing but python3 and a connection to PyPI.
# The environment is .venv; a stamp in it remembers what was installed, so the second run is quick.

PYTHON ?= python3
DEMO_MODEL ?= zoo:fashion-resnet
DEMO_TIMESTEPS ?= 4
DEMO_PRESET ?= balanced
DEMO_TUNED ?= zoo:fashion-cnn-t2
DEMO_SOURCE ?= zoo:fashion-cnn

VENV := .venv
BIN := $(VENV)/bin
ARTEFACT := build/demo.snn.onnx
KERAS := docs/tutorials/keras.md
VERSION = $(shell $(BIN)/python -c 'import snnc; print(snnc.__version__)')

.PHONY: help demo test format check style mypy pyright kernels pytest shuffled coverage docs docs-serve walks release verify-consumers clean

help:
	@echo "make demo      convert the bundled network at T=$(DEMO_TIMESTEPS), and judge it and a tuned one on the bundled images"
	@echo "make test      formatting, lint, types and tests"
	@echo "make format    rewrite the sources in the house format"
	@echo "make check     only formatting, lint and types"
	@echo "make pytest    only the tests"
	@echo "make shuffled  the tests in random order, on all cores"
	@echo "make coverage  the tests, with the lines that they miss"
	@echo "make docs      build the site into build/site, strictly, and check every link"
	@echo "make docs-serve  show it at http://127.0.0.1:8000, without anything from elsewhere"
	@echo "make walks     follow every page of the documentation, with everything that its blocks need, and pass over none"
	@echo "make release   build distributions twice into dist, compare and check them, try the wheel under every"
	@echo "               Python that is found, and write an SBOM and the licences"
	@echo "make verify-consumers  run bundles in software that others wrote, each in an environment of its own,"
	@echo "               and write docs/consumers.md; CONSUMERS='sinabs c99' runs only some"
	@echo "make clean     remove the environment and everything that was built"

demo: $(VENV)/.installed
	@mkdir -p $(dir $(ARTEFACT))
	$(BIN)/snnc convert $(DEMO_MODEL) --preset $(DEMO_PRESET) --timesteps $(DEMO_TIMESTEPS) --output $(ARTEFACT) --force
	$(BIN)/snnc eval $(ARTEFACT) --against $(DEMO_MODEL)
	$(BIN)/snnc eval $(DEMO_TUNED) --against $(DEMO_SOURCE)

test: $(VENV)/.installed-dev # each checker takes one core; what compiles kernels fills another
	@$(MAKE) --no-print-directory --jobs=2 check kernels
	@$(MAKE) --no-print-directory pytest

check: style mypy pyright

style: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

mypy pyright: $(VENV)/.installed-dev
	$(BIN)/$@

kernels: $(VENV)/.installed-dev # once for all processes of the tests, not once in each
	$(BIN)/snnc doctor --warm --json > /dev/null

pytest: $(VENV)/.installed-dev # every process compiles kernels of its own where none are kept yet: few processes
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

shuffled: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --random-order

coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --cov --numprocesses=auto --maxprocesses=4 --dist=loadfile

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	$(BIN)/python -m benchmarks.site.links build/site

release: $(VENV)/.installed-release
	rm -rf dist build/release
	$(BIN)/python -m benchmarks.release.build dist
	$(BIN)/python -m benchmarks.release.build build/release/again
	for file in dist/*; do cmp $$file build/release/again/$$(basename $$file) || exit 1; done
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m benchmarks.release.interpreters dist/*.whl
	$(BIN)/python -m venv --without-pip build/release/venv # so that the SBOM holds what snnc brings, and nothing else
	$(BIN)/python -m pip --python build/release/venv install -qq --disable-pip-version-check dist/*.whl
	sed 's/^dynamic = .*/version = "$(VERSION)"/' pyproject.toml > build/release/pyproject.toml
	$(BIN)/python -m cyclonedx_py environment --output-reproducible --pyproject build/release/pyproject.toml \
	    -o dist/snnc-$(VERSION).cdx.json build/release/venv/bin/python
	$(BIN)/python -m benchmarks.release.dependencies > dist/snnc-$(VERSION).licences.md

# PyTorch and TensorFlow do not share an environment: each walks its pages in one of its own.
walks: build/walks/torch/.installed build/walks/tensorflow/.installed
	build/walks/torch/bin/python -m benchmarks.site.walks --complete README.md docs/index.md \
	    $(filter-out $(KERAS), $(wildcard docs/tutorials/*.md docs/how-to/*.md))
	build/walks/tensorflow/bin/python -m benchmarks.site.walks --complete $(KERAS)

docs-serve: docs
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site 8000

verify-consumers: $(VENV)/.installed-dev # h5py is among what the checkers bring
	$(BIN)/python benchmarks/consumers/verify_all.py $(CONSUMERS)

clean:
	rm -rf $(VENV) build *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .coverage htmlcov
	find snnc passes backends models tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "snnc needs Python 3.11 or newer, and $(PYTHON) is %d.%d: name another by make PYTHON=..." % sys.version_info[:2])'
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) could not create an environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# The order-only prerequisite: the interpreter's own date says nothing.
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "Installing snnc and what it needs into $(VENV) (about 100 MB to fetch the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the checkers into $(VENV)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@echo "Installing what builds the site into $(VENV)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[docs]'
	@touch $@

$(VENV)/.installed-release: $(VENV)/.installed
	@echo "Installing what a release needs into $(VENV)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[release]'
	@touch $@

build/walks/torch/.installed: EXTRAS := torch,train,nir,dev
build/walks/torch/.installed: OTHERS := spikingjelly nirtorch
build/walks/tensorflow/.installed: EXTRAS := dev
build/walks/tensorflow/.installed: OTHERS := tensorflow tf2onnx
build/walks/%/.installed: pyproject.toml
	@echo "Installing what blocks of the documentation need into $(@D)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check $(OTHERS)
	@touch $@
