# On a fresh machine:
#   make demo    installs the package and classifies a few real sentences
#   make test    installs the development tools too, then checks style, types and behaviour

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# On Linux the package index has torch with 5 GB of CUDA, which is of use with an NVIDIA card only.
# TORCH_INDEX= (empty) takes torch from where everything else comes from.
ifeq ($(shell uname -s)$(shell command -v nvidia-smi),Linux)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
endif

# The version of torch; `make test-lowest TORCH=2.6.0` takes the oldest.
TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)

MUTANTS ?= *

.PHONY: demo test test-slow test-neighbours test-others test-engines test-browser test-lowest gpu mutants lint format docs linkcheck package clean

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

test: lint
	$(BIN)/python -m pytest

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "slow or hypothesis" --hypothesis-profile=thorough

# The recipes of docs/works_with.md, with the packages that they are for.
test-neighbours: $(VENV)/.installed-dev
	$(PIP) cleanlab imbalanced-learn mlflow-skinny optuna skops
	$(BIN)/python -m pytest -n 0 -rs tests/test_works_with.py

# Tables of Dask, Ray and Spark in real workers, with these engines; Java has to be there (.ci/run brings it).
test-engines: $(VENV)/.installed-dev
	$(PIP) -e ".[dask,ray,spark]"
	$(BIN)/python -m pytest -n 0 -rs -m slow tests/distributed

# What docs/migrating.md and docs/comparison.md say of other packages, with these; scikit-llm by itself, since it
# asks for an older pandas, which what is shown of it does not need.
test-others: $(VENV)/.installed-dev
	$(PIP) setfit skorch openai
	$(PIP) --no-deps scikit-llm==1.4.3
	$(BIN)/python -m pytest -n 0 -rs -m "" tests/test_migrating.py tests/test_comparison.py

# The page of examples/browser; node, Chromium and its driver have to be there (.ci/run brings them).
test-browser: $(VENV)/.installed-dev
	cd examples/browser && npm ci --ignore-scripts --no-audit --no-fund
	$(BIN)/python -m pytest -n 0 -rs -m slow tests/test_browser.py

# A part of the tests with the oldest versions that pyproject.toml allows, but for torch's.
test-lowest: $(VENV)/.installed-dev
	VENV="$(VENV)" TORCH="$(TORCH)" .ci/lowest-versions

# On a machine with a GPU: all tests on the processor, those that compare the two, and the benchmark.
gpu: $(VENV)/.installed-dev
	$(PIP) -e ".[benchmarks]"
	$(BIN)/python -m pytest -n 4
	$(BIN)/python -m pytest -n 0 --device cuda tests/test_gpu.py
	$(BIN)/python benchmarks/gpu.py

# Whether the tests notice that a line is changed: `make mutants MUTANTS='skgliclass.prompts.*'`.
mutants: $(VENV)/.installed-dev
	$(PIP) mutmut
	$(BIN)/mutmut run --max-children 2 "$(MUTANTS)"
	$(BIN)/mutmut results

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, without a network. Links between pages are checked here, those to elsewhere by `linkcheck`.
SPHINX := $(BIN)/sphinx-build -q -W --keep-going -c docs -d build/doctrees .

docs: $(VENV)/.installed-docs
	$(SPHINX) build/site

linkcheck: $(VENV)/.installed-docs
	$(SPHINX) -b linkcheck build/linkcheck

# What is published: built, checked, installed outside the clone and tried there.
package: $(VENV)/.installed-dev
	$(PIP) build twine
	VENV="$(VENV)" .ci/package

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	touch $@

# Apart from the rest and without its dependencies, so that nothing else is looked for there.
$(VENV)/.installed-torch: $(VENV)/.created constraints.txt
ifneq ($(strip $(TORCH_INDEX)),)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --retries 1 \
	    --timeout 20 --index-url $(TORCH_INDEX) torch==$(TORCH) \
	    || echo "No torch from $(TORCH_INDEX): it comes from the package index, with CUDA."
endif
	touch $@

$(VENV)/.installed: $(VENV)/.installed-torch pyproject.toml constraints.txt
	$(PIP) -e ".[mini]"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-torch pyproject.toml constraints.txt
	$(PIP) -e ".[dev]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: $(VENV)/.installed-torch pyproject.toml constraints.txt
	$(PIP) -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build dist docs/generated *.egg-info .pytest_cache .mypy_cache .ruff_cache
