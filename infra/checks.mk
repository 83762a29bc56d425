# Checks what is deployed, with tools of their own: .venv-infra holds SAM's CLI, cfn-lint and checkov.
PYTHON ?= python3
UV ?= uv

.PHONY: check-template lock-infra

check-template: .venv-infra/ready
	.venv-infra/bin/cfn-lint template.yaml
	SAM_CLI_TELEMETRY=0 .venv-infra/bin/sam validate --lint --region us-east-1
	.venv-infra/bin/checkov --config-file infra/checkov.yaml

# The lock is whole, and pip would refuse it for overrides.txt: so it looks at no dependencies.
.venv-infra/ready: infra/requirements.lock
	rm -rf .venv-infra
	$(PYTHON) -m venv .venv-infra
	echo '*' > .venv-infra/.gitignore
	.venv-infra/bin/pip install -q --disable-pip-version-check --no-deps --require-hashes -r infra/requirements.lock
	@touch $@

lock-infra:
	$(UV) pip compile infra/requirements.txt --override infra/overrides.txt --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header -q -U -o infra/requirements.lock
