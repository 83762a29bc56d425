# nearvote beside other gateways, and in front of one. Each has an environment of its own in .venv-bench; Portkey's needs Node and npm.
PYTHON ?= python3
UV ?= uv
PEERS = tests/bench/peers

.PHONY: bench-gateway test-peers lock-peers

bench-gateway: .venv/dev .venv-bench/litellm/ready .venv-bench/portkey/ready
	.venv/bin/python -m tests.bench gateway --peers

test-peers: .venv/dev .venv-bench/litellm/ready
	.venv/bin/python -m pytest tests/peers

.venv-bench/litellm/ready: $(PEERS)/requirements.lock
	rm -rf .venv-bench/litellm
	$(PYTHON) -m venv .venv-bench/litellm
	.venv-bench/litellm/bin/pip install -q --disable-pip-version-check --require-hashes -r $(PEERS)/requirements.lock
	@touch $@

# npm calls the registry that it is set up for: the lock names none. No package's own install script is run.
.venv-bench/portkey/ready: $(PEERS)/package.json $(PEERS)/package-lock.json $(PEERS)/.npmrc
	rm -rf .venv-bench/portkey
	mkdir -p .venv-bench/portkey
	cp $^ .venv-bench/portkey
	npm ci --prefix .venv-bench/portkey --ignore-scripts
	@touch $@

# package.json overrides two packages: with what came after them, Portkey 1.15.2 answers every stream with a 500.
lock-peers:
	$(UV) pip compile $(PEERS)/requirements.txt --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header -q -U -o $(PEERS)/requirements.lock
	rm -f $(PEERS)/package-lock.json
	npm install --prefix $(PEERS) --package-lock-only --ignore-scripts
