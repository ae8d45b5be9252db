# Two commands for a newcomer: `make demo` and `make test`. Both prepare all they need.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
LOWEST := .venv-lowest
# Test processes at once; files stay together. Each computes with one thread. One that crashes
# is not started anew: xdist would wait for it for ever, instead of naming the test.
JOBS   ?= 2
SPREAD := -n $(JOBS) --dist loadfile --max-worker-restart 0
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SPREAD)
SCREEN := xvfb-run -a -s "-screen 0 1600x1000x24"

.PHONY: demo test test-slow test-lowest lint docs screenshots clean help
.DEFAULT_GOAL := help

help:           ## Show what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

demo: $(VENV)/.ready       ## Segment a sample image with the bundled model, and look at it
	$(BIN)/unet-studio demo --output demo-output

test: $(VENV)/.ready       ## Run the tests in a virtual display
	$(SCREEN) env $(PYTEST) -m "not slow and not gpu" $(ARGS)

test-slow: $(VENV)/.ready  ## Run only the long tests
	$(SCREEN) env $(PYTEST) -m "slow and not gpu" $(ARGS)

# Old libraries use what newer ones deprecate; that is not ours to mend.
test-lowest: $(LOWEST)/.ready ## Run the tests with the oldest libraries that pyproject.toml allows
	$(SCREEN) env OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest $(SPREAD) \
		-m "not slow and not gpu" -W ignore::DeprecationWarning -W ignore::FutureWarning $(ARGS)

lint: $(VENV)/.ready       ## Style, types, import rules, plugin manifest
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/npe2 validate napari-unet-studio

docs: $(VENV)/.ready       ## Build the documentation into site/
	$(BIN)/mkdocs build --strict

screenshots: $(VENV)/.ready ## Take the documentation's screenshots anew from the real window
	$(SCREEN) $(BIN)/python docs/make_screenshots.py

$(VENV)/.ready: pyproject.toml .ci/system-packages
	sh .ci/system-packages
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[all,mri]" --group dev
	touch $@

$(LOWEST)/.ready: pyproject.toml .ci/system-packages
	sh .ci/system-packages
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --upgrade "pip>=25.1" uv
	$(LOWEST)/bin/uv pip compile --quiet --resolution lowest-direct --all-extras pyproject.toml \
		--python $(LOWEST)/bin/python --output-file $(LOWEST)/versions.txt
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --group dev \
		--constraint $(LOWEST)/versions.txt --editable ".[all,mri,zoo,cluster,cpu,int8]"
	touch $@

clean:          ## Remove the environment and everything built
	rm -rf $(VENV) $(LOWEST) build dist site demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
