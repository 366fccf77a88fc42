# make train | test | test-all | lint | format: each sets up what it needs in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := --require-hashes --requirement launch/locks/uv.txt
COMPILE := uv pip compile --universal --generate-hashes --no-header --no-annotate --quiet

.DEFAULT_GOAL := help
.PHONY: help setup train test test-fast test-all soak lint format lock bench bench-all gpu-check gpu-bench findings clean

help:
	@echo "make train      train the embedded digits into runs/digits"
	@echo "make test-fast  the tests that start no engine and no run: for each save"
	@echo "make test       run the test suite"
	@echo "make test-all   with more combinations of engines, devices and processes"
	@echo "make soak       50 kills of a run in a bucket whose storage fails all the time; a row in benchmarks/results"
	@echo "make lint       ruff, mypy and import-linter"
	@echo "make format     ruff format and the fixes that are safe"
	@echo "make lock       renew requirements.lock and launch/locks from setup.py"
	@echo "make bench      Convoy beside the article's Keras code, rows in benchmarks/results"
	@echo "make bench-all  every table of the documents measured again, for hours; python benchmarks/all.py --list shows them"
	@echo "make findings   show again what surprised us in other software: findings/*.sh, each with packages of its own"
	@echo "make gpu-check  one GPU and all of them, both engines: speed, NCCL, equality; a row in benchmarks/results"
	@echo "make gpu-bench  a step on one GPU, Convoy beside torch, in ten minutes; rows in benchmarks/results; never run on a GPU yet"

setup: $(VENV)/installed

# The lock first, with hashes, by uv, which is many times as fast as pip; then Convoy itself without dependencies.
$(VENV)/installed: requirements.lock setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(UV)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

train: setup
	$(BIN)/convoy train --flagfile=recipes/digits.flags --run_dir=runs/digits

# Folders whose tests start engines and runs are not even imported.
test-fast: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not thorough and not slow" --ignore=tests/e2e --ignore=tests/engines --ignore=tests/field

# A process more than the two cores that this is made for: many tests wait for processes of their own.
test: setup
	$(BIN)/python -m pytest -n 3 --dist worksteal

test-all: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -m ""

soak: setup
	$(BIN)/python tests/soak.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet --disable-pip-version-check $(UV)
	$(VENV)-lock/bin/$(COMPILE) setup.py --extra dev --extra hub --extra jax --extra launch --python-version 3.11 --output-file requirements.lock
	$(VENV)-lock/bin/$(COMPILE) setup.py --extra tpu --constraints requirements.lock --python-version 3.11 --output-file launch/locks/jax.txt
	sed -n '/install_requires/,/\]/s/^ *"\([^"]*\)".*/\1/p' setup.py | sed 's/^tensorflow>.*/tensorflow-tpu>=2.20,<2.21/' \
	  | $(VENV)-lock/bin/$(COMPILE) - --python-version 3.11 --output-file launch/locks/tensorflow.txt
	echo uv | $(VENV)-lock/bin/$(COMPILE) - --python-version 3.8 --output-file launch/locks/uv.txt
	rm -r $(VENV)-lock

bench: setup
	$(BIN)/python benchmarks/article_cifar10.py

bench-all: setup
	$(BIN)/python benchmarks/all.py

gpu-check: setup
	$(BIN)/python benchmarks/gpu_check.py

gpu-bench: setup
	$(BIN)/python benchmarks/step_gpu.py

findings:
	@for script in findings/*.sh; do echo "== $$script"; bash "$$script" || exit 1; done

clean:
	rm -rf $(VENV) build *.egg-info
