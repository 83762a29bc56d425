# Needs Python 3.11 or newer and nothing else; everything is put into .venv from the lock files.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.PHONY: run test check bench bench-quality soak lock clean

run: .venv/runtime
	@.venv/bin/nearvote run

test: .venv/dev
	.venv/bin/python -m pytest

check: .venv/dev
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

bench: .venv/dev
	.venv/bin/python -m tests.bench all

bench-quality: .venv/dev
	.venv/bin/python -m tests.bench.quality

soak: .venv/dev
	.venv/bin/python -m tests.bench.soak

# uv resolves for every platform and Python, and is needed for this target alone; pip installs.
RESOLVE = uv pip compile pyproject.toml --extra local --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header -q
lock:
	$(RESOLVE) --group dev -U -o requirements-dev.lock
	rm -f requirements.lock
	$(RESOLVE) -c requirements-dev.lock -o requirements.lock
	$(MAKE) lock-lambda

clean:
	rm -rf .venv .venv-infra .venv-bench .aws-sam build

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "nearvote needs Python 3.11 or newer; none was found"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/runtime: .venv/bin/python requirements.lock pyproject.toml
	.venv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	.venv/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/bin/python requirements-dev.lock pyproject.toml
	.venv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	.venv/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@ .venv/runtime

include infra/build.mk
include infra/checks.mk
include tests/bench/peers/peers.mk
include infra/catalogue.mk
