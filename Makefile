# `make train` trains and evaluates on real MNIST, `make test` runs the tests; each sets up what it needs, once.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# The browser that tests of pages drive, if there is one (tests/browser.py looks for the same names).
BROWSER := $(firstword $(foreach name,chromium chromium-browser google-chrome google-chrome-stable,$(shell command -v $(name))))

# Debian's package with the four files of Fashion-MNIST, which a test reads if it is there.
FASHION := $(wildcard /usr/share/datasets/fashion-mnist)
# In a checkout, the native engine is built with it; without one, torch computes everything (model/native/build.py).
COMPILER := $(firstword $(foreach name,cc gcc clang,$(shell command -v $(name))))

EMPTY :=
LACKING := $(strip $(if $(BROWSER),,browser) $(if $(FASHION),,fashion) $(if $(COMPILER),,compiler))
TESTED := $(if $(LACKING),not ($(subst $(EMPTY) $(EMPTY), or ,$(LACKING))),)

.PHONY: help train test lint smoke kills lecture notebooks site wheels wheel cross browser fashion clean

help:
	@echo "make train   train configs/relu.yaml on MNIST and evaluate it on the test set"
	@echo "make test    run the tests"
	@echo "make lint    check style and types"
	@echo "make smoke   train and evaluate on a subset of MNIST, as CI does"
	@echo "make kills   kill twenty trainings, and see each go on to the same result"
	@echo "make lecture type every command of docs/lecture.md, on a subset of MNIST"
	@echo "make notebooks  execute docs/notebooks/ into build/notebooks/; LENET_NOTEBOOK_IMAGES=2000 trains on fewer images"
	@echo "make site    build the site of docs/ into build/site/, and refuse dead links"
	@echo "make wheel   build the wheel for this machine, install it into an empty environment, and use it"
	@echo "make wheels  build the wheels for Linux, macOS and Windows into dist/, all on this machine"
	@echo "make cross   run what is inside the wheels, under qemu and wine where they are of other systems"
	@echo "make wasm    compile the engine of the lab to WebAssembly"
	@echo "make browser install Debian's Chromium, which tests of pages need, where there is none"
	@echo "make fashion install Debian's Fashion-MNIST, which a test needs, where it is not there"
	@echo "make clean   remove the virtual environment and the caches; runs/ stays"

train: $(VENV)/.installed
	$(BIN)/lenet train --config configs/relu.yaml
	$(BIN)/lenet evaluate latest

# Processes beside each other: waiting threads must not keep the cores busy. Tests of pages need a browser; CI has one.
test: $(VENV)/.installed-dev
	$(if $(BROWSER),,@echo "no Chromium on PATH: the tests of pages are left out; make browser installs it")
	$(if $(FASHION),,@echo "no Fashion-MNIST: the test of its files is left out; make fashion installs it")
	$(if $(COMPILER),,@echo "no C compiler on PATH: the tests of the native engine are left out")
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest --numprocesses=auto --dist=worksteal -m "$(TESTED)"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy -p lenet_mnist --platform win32
	$(BIN)/mypy -p lenet_mnist --platform darwin
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml

smoke: $(VENV)/.installed
	rm -rf build/smoke
	$(BIN)/lenet train --config configs/smoke.yaml --runs-dir build/smoke
	$(BIN)/lenet evaluate latest --runs-dir build/smoke --min-accuracy 0.93

kills: $(VENV)/.installed-dev
	$(BIN)/python scripts/measure_reliability.py kills --count 20

lecture: $(VENV)/.installed-dev
	$(BIN)/python scripts/run_lecture.py

# Beside each other, with one thread each. What is there has been executed to its end.
notebooks: $(VENV)/.installed-dev
	rm -rf build/notebooks build/executing
	mkdir -p build/executing
	cp docs/notebooks/*.ipynb build/executing/
	OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbmake --overwrite --numprocesses=2 build/executing
	mv build/executing build/notebooks

build/notebooks/lecture.ipynb: docs/notebooks/lecture.ipynb docs/notebooks/lezione.ipynb
	$(MAKE) notebooks

# The variable: Material for MkDocs has news about MkDocs 2 at every build.
site: $(VENV)/.installed-site build/notebooks/lecture.ipynb
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

$(VENV)/.installed-site: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --editable .[dev,site]
	touch $@

$(VENV)/.installed-wheels: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --editable .[dev,wheels]
	touch $@

wheel: $(VENV)/.installed-wheels
	$(BIN)/python scripts/build_wheels.py --native --dist build/wheel
	$(BIN)/python scripts/try_wheel.py --dist build/wheel
	$(BIN)/python scripts/build_wasm.py --check

wheels: $(VENV)/.installed-wheels
	$(BIN)/python scripts/build_wheels.py

wasm: $(VENV)/.installed-wheels
	$(BIN)/python scripts/build_wasm.py

cross: wheels
	$(BIN)/python scripts/check_wheels.py

# As root or through sudo; where the package is there already, neither is needed.
browser: PACKAGE := chromium
browser: PRESENT := $(BROWSER)
fashion: PACKAGE := dataset-fashion-mnist
fashion: PRESENT := $(FASHION)
browser fashion:
	@if [ -n "$(PRESENT)" ]; then echo "there is $(PRESENT)"; exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
	  echo "no $(PACKAGE) here, and no apt-get to install it with" >&2; exit 1; \
	fi; \
	if [ "$$(id -u)" = 0 ]; then sudo=; elif command -v sudo >/dev/null; then sudo=sudo; else \
	  echo "no $(PACKAGE), and neither root nor sudo to install it: apt-get install $(PACKAGE), as root" >&2; exit 1; \
	fi; \
	$$sudo apt-get update && $$sudo apt-get install --yes --no-install-recommends $(PACKAGE)

clean:
	rm -rf $(VENV) build .pytest_cache .hypothesis .mypy_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "lenet needs Python 3.11 or newer, and $(PYTHON) is older: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $@ $(VENV)/.installed
